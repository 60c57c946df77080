//! Groups: how many of them run at once.

use super::{Desk, starts, success};
use crate::{
    board::PRIORITY_AGING,
    capacity::Refusal,
    group::NewLimit,
    id::TaskId,
    step::{Answer, Input},
};

impl Desk {
    fn in_group(&mut self, group: &str) -> TaskId {
        self.submit(|request| request.group = Some(group.to_owned()))
    }

    fn set_group(&mut self, limit: NewLimit, paused: Option<bool>) {
        let name = "g".to_owned();
        let answer = self.step(Input::SetGroup {
            name,
            limit,
            paused,
        });
        assert_eq!(answer, Ok(Answer::Noted));
    }

    fn refusal(&self) -> Option<&Refusal> {
        self.board.refusals().values().next()
    }
}

#[test]
fn no_more_of_a_group_run_than_its_limit() {
    let mut desk = Desk::new(8);
    desk.set_group(NewLimit::Most(2), None);
    let ids = [(); 4].map(|()| desk.in_group("g"));
    let other = desk.in_group("h");
    assert_eq!(starts(&desk.turn()), [ids[0], ids[1], other]);
    assert_eq!(
        desk.refusal(),
        Some(&Refusal::Group {
            group: "g".to_owned(),
            running: 2,
            most: 2
        })
    );
    desk.report(ids[0], success());
    assert_eq!(starts(&desk.turn()), [ids[2]]);
    // Changed while they run: lower waits for ends, higher starts at once.
    desk.set_group(NewLimit::Most(1), None);
    desk.report(ids[1], success());
    assert_eq!(starts(&desk.turn()), []);
    desk.set_group(NewLimit::Unlimited, None);
    assert_eq!(starts(&desk.turn()), [ids[3]]);
}

#[test]
fn a_paused_group_starts_nothing_and_what_runs_goes_on() {
    let mut desk = Desk::new(8);
    let running = desk.in_group("g");
    desk.turn();
    desk.set_group(NewLimit::Unchanged, Some(true));
    let waiting = desk.in_group("g");
    assert_eq!(starts(&desk.turn()), []);
    assert!(matches!(desk.refusal(), Some(Refusal::GroupPaused { .. })));
    assert_eq!(desk.words(&[running, waiting]), ["starting", "ready"]);
    desk.set_group(NewLimit::Unchanged, Some(false));
    assert_eq!(starts(&desk.turn()), [waiting]);
}

#[test]
fn a_limit_outlives_the_host() {
    let mut desk = Desk::new(8);
    desk.set_group(NewLimit::Most(1), Some(true));
    let (batch, _) = desk.board.seal();
    assert_eq!(batch.groups.len(), 1);
    desk.keep(&batch);
    desk.reload();
    desk.in_group("g");
    assert_eq!(starts(&desk.turn()), []);
    desk.set_group(NewLimit::Unchanged, Some(false));
    assert_eq!(starts(&desk.turn()).len(), 1);
}

#[test]
fn who_waits_for_its_own_descendants_leaves_its_place_in_the_group() {
    let mut desk = Desk::new(8);
    desk.set_group(NewLimit::Most(1), None);
    let parent = desk.in_group("g");
    desk.turn();
    let child = desk.submit(|request| {
        request.group = Some("g".to_owned());
        request.parent = Some(parent);
    });
    assert_eq!(starts(&desk.turn()), []);
    let attempt = desk.attempt(parent);
    desk.step(Input::WaitBegins { attempt }).unwrap();
    assert_eq!(starts(&desk.turn()), [child]);
}

/// What a group has no place for waits for the group, however long, and not for room that others could leave it.
#[test]
fn who_waits_for_its_group_holds_nobody_else_back() {
    let mut desk = Desk::new(1);
    desk.set_group(NewLimit::Unchanged, Some(true));
    desk.in_group("g");
    desk.pass(PRIORITY_AGING * 2);
    let other = desk.submit(|_| {});
    assert_eq!(starts(&desk.turn()), [other]);
}

//! Groups: limits on how many tasks of a group run at the same time.

use super::{Desk, starts, success};
use crate::{
    board::{Bounds, PRIORITY_AGING},
    capacity::Refusal,
    group::{Group, NewLimit},
    id::TaskId,
    step::{Answer, Input, Refused},
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
            make: true,
        });
        assert_eq!(answer, Ok(Answer::Noted));
    }

    fn refusal(&self) -> Option<Refusal> {
        self.board.refusals(self.now).into_values().next()
    }
}

#[test]
fn no_more_tasks_of_a_group_run_than_its_limit() {
    let mut desk = Desk::new(8);
    desk.set_group(NewLimit::Most(2), None);
    let ids = [(); 4].map(|()| desk.in_group("g"));
    let other = desk.in_group("h");
    assert_eq!(starts(&desk.turn()), [ids[0], ids[1], other]);
    assert_eq!(
        desk.refusal(),
        Some(Refusal::Group {
            group: "g".to_owned(),
            running: 2,
            most: 2
        })
    );
    desk.report(ids[0], success());
    assert_eq!(starts(&desk.turn()), [ids[2]]);
    // The limit changes while tasks run. With a lower limit, nothing starts until enough tasks have
    // ended. With a higher limit, tasks start at once.
    desk.set_group(NewLimit::Most(1), None);
    desk.report(ids[1], success());
    assert_eq!(starts(&desk.turn()), []);
    desk.set_group(NewLimit::Unlimited, None);
    assert_eq!(starts(&desk.turn()), [ids[3]]);
}

#[test]
fn paused_group_starts_nothing_and_running_tasks_continue() {
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
fn pause_of_a_group_survives_a_restart_of_the_host() {
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
fn task_that_waits_for_its_descendants_frees_its_place_in_the_group() {
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

/// A task without a place in its group waits for the group, however long, and does not reserve room
/// on the machine.
#[test]
fn task_that_waits_for_its_group_holds_no_other_task_back() {
    let mut desk = Desk::new(1);
    desk.set_group(NewLimit::Unchanged, Some(true));
    desk.in_group("g");
    desk.pass(PRIORITY_AGING * 2);
    let other = desk.submit(|_| {});
    assert_eq!(starts(&desk.turn()), [other]);
}

#[test]
fn group_exists_once_made_or_while_it_has_tasks() {
    let mut desk = Desk::new(8);
    let name = || "g".to_owned();
    let pause = |paused| Input::SetGroup {
        name: name(),
        limit: NewLimit::Unchanged,
        paused: Some(paused),
        make: false,
    };
    let remove = || Input::RemoveGroup { name: name() };
    for input in [pause(true), pause(false), remove()] {
        let refused = desk.step(input);
        assert_eq!(refused, Err(Refused::NoGroup { name: name() }));
    }
    assert!(!desk.board.has_pending());
    let task = desk.in_group("g");
    assert_eq!(desk.step(pause(true)), Ok(Answer::Noted));
    assert_eq!(starts(&desk.turn()), []);
    let in_use = Refused::GroupInUse {
        name: name(),
        tasks: 1,
    };
    assert_eq!(desk.step(remove()), Err(in_use));
    desk.cancel(task).unwrap();
    // The group has got settings, so it is kept although it has no tasks.
    assert_eq!(desk.step(pause(false)), Ok(Answer::Noted));
    assert_eq!(desk.board.groups()["g"], Group::default());
    desk.settle();
    assert_eq!(desk.step(remove()), Ok(Answer::Noted));
    assert!(desk.board.groups().is_empty());
    let (batch, _) = desk.board.seal();
    assert_eq!(batch.groups, [(name(), None)]);
}

#[test]
fn made_group_is_kept_even_without_a_limit() {
    let mut desk = Desk::new(8);
    desk.set_group(NewLimit::Unchanged, None);
    let (batch, _) = desk.board.seal();
    assert_eq!(batch.groups, [("g".to_owned(), Some(Group::default()))]);
    desk.set_group(NewLimit::Unlimited, Some(false));
    assert!(!desk.board.has_pending(), "nothing changed");
}

#[test]
fn number_of_groups_is_bounded() {
    let bounds = Bounds {
        groups: 1,
        ..Bounds::default()
    };
    let mut desk = Desk::with(super::fixed(8), bounds);
    desk.set_group(NewLimit::Most(1), None);
    let other = || Input::SetGroup {
        name: "other".to_owned(),
        limit: NewLimit::Unchanged,
        paused: Some(true),
        make: true,
    };
    let refused = desk.step(other());
    assert_eq!(refused, Err(Refused::TooManyGroups { limit: 1 }));
    // The existing group may be changed, and makes room for another when it is removed.
    desk.set_group(NewLimit::Most(2), None);
    let name = "g".to_owned();
    desk.step(Input::RemoveGroup { name }).unwrap();
    assert_eq!(desk.step(other()), Ok(Answer::Noted));
}

/// The cost of a round depends on its starts and on the refused lanes, not on the number of waiting
/// tasks.
#[test]
fn with_full_slots_a_round_looks_at_one_lane_however_many_groups_wait() {
    let mut desk = Desk::new(1);
    for number in 0..100 {
        desk.in_group(&number.to_string());
    }
    desk.turn();
    assert_eq!(desk.board.past_refusals().iter().count(), 1);
    let refusals = desk.refusals();
    assert_eq!(refusals.len(), 99);
    let full = |refusal: &Refusal| matches!(refusal, Refusal::Slots { .. });
    assert!(refusals.values().all(full));
}

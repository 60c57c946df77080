//! The whole queue: its pause, and its number of slots.

use std::sync::Arc;

use super::{Desk, starts, success};
use crate::{
    capacity::{Refusal, Slots},
    principal::{Kind, Principal},
    queue::{Pause, Queue},
    step::{Answer, Input},
};

#[test]
fn paused_queue_starts_nothing_and_running_tasks_continue() {
    let mut desk = Desk::new(1);
    let [running, ready] = [(); 2].map(|()| desk.submit(|_| {}));
    desk.turn();
    let since = desk.now.wall;
    assert_eq!(desk.step(Input::Pause(true)), Ok(Answer::Changed(1)));
    desk.report(running, success());
    let later = desk.submit(super::agent);
    assert_eq!(starts(&desk.turn()), []);
    assert!(desk.board.next_to_start(u64::MAX).is_empty());
    for task in [ready, later] {
        let refusal = desk.board.refusal_of(&desk.task(task), desk.now);
        assert_eq!(refusal, Some(Refusal::Paused { since }));
    }
    assert_eq!(desk.refusals().len(), 2);
    assert_eq!(desk.step(Input::Pause(false)), Ok(Answer::Changed(1)));
    assert_eq!(starts(&desk.turn()), [ready]);
}

#[test]
fn second_pause_changes_neither_time_nor_principal_of_the_first() {
    let mut desk = Desk::new(1);
    let agent = Arc::new(Principal {
        kind: Kind::Agent { task: None },
        ..Principal::default()
    });
    let pause = |by: &Arc<Principal>| Input::Asked {
        by: by.clone(),
        command: Box::new(Input::Pause(true)),
    };
    let since = desk.now.wall;
    desk.step(pause(&agent)).unwrap();
    desk.pass(std::time::Duration::from_secs(1));
    let again = desk.step(pause(&Arc::default()));
    assert_eq!(again, Ok(Answer::Changed(0)));
    let paused = Some(Pause { since, by: agent });
    let expected = Queue {
        paused,
        ..Queue::default()
    };
    assert_eq!(*desk.board.queue(), expected);
    let (batch, _) = desk.board.seal();
    assert_eq!(batch.queue, Some(expected));
    // The next host is paused too, and starts nothing even after a submission.
    desk.reload();
    desk.submit(|_| {});
    assert_eq!(starts(&desk.turn()), []);
    assert_eq!(desk.board.seal().0.queue, None, "the queue has not changed");
}

#[test]
fn number_of_slots_that_somebody_set_survives_a_restart_of_the_host() {
    let mut desk = Desk::new(2);
    let in_force = |desk: &Desk| desk.board.capacity().limits.slots;
    desk.step(Input::SetSlots(Some(Slots::Auto))).unwrap();
    assert_eq!(in_force(&desk), Slots::Auto);
    desk.reload();
    assert_eq!(in_force(&desk), Slots::Auto);
    assert_eq!(desk.board.configured_slots(), Slots::Fixed(2));
    desk.step(Input::SetSlots(None)).unwrap();
    assert_eq!(in_force(&desk), Slots::Fixed(2));
    assert_eq!(desk.board.seal().0.queue, Some(Queue::default()));
}

//! Rows that are removed, and rows that are kept although they were found to be old.

use super::{Desk, failure, fixed, success};
use crate::{
    board::Bounds,
    budget::{Day, Scope},
    dependency::{Condition, Dependency},
    id::TaskId,
    outcome::ReasonClass,
    queue::Queue,
    step::{Answer, Ends, Input, Prune, Refused, Submit},
    time::Timestamp,
};

impl Desk {
    fn prune_as_of(&mut self, tasks: &[TaskId], as_of: u64) -> Vec<TaskId> {
        let prune = Prune {
            tasks: tasks.to_vec(),
            as_of,
            ..Prune::default()
        };
        match self.step(Input::Prune(prune)) {
            Ok(Answer::Pruned(gone)) => gone,
            other => panic!("{other:?}"),
        }
    }

    fn prune(&mut self, tasks: &[TaskId]) -> Vec<TaskId> {
        let as_of = self.board.pending_batch() - 1;
        self.prune_as_of(tasks, as_of)
    }

    fn failed(&mut self) -> TaskId {
        let id = self.submit(|_| {});
        self.turn();
        self.report(id, failure(ReasonClass::Exit));
        self.settle();
        id
    }

    fn submit_after(&mut self, upstream: TaskId, ended: Ends) -> Result<Answer, Refused> {
        let id = TaskId::new(self.now.wall.0, u128::from(upstream.to_bytes()[15]) + 1_000);
        let mut task = super::submission(id, super::request());
        task.dependencies = vec![Dependency {
            task: upstream,
            condition: Condition::Any,
        }];
        let tasks = vec![task];
        self.step(Input::Submit(Submit { tasks, ended }))
    }
}

#[test]
fn old_rows_are_removed_with_a_batch() {
    let mut desk = Desk::new(1);
    let [one, two] = [desk.failed(), desk.failed()];
    assert!(!desk.board.has_pending());
    let prune = Prune {
        tasks: vec![one, two],
        events_to: 7,
        as_of: desk.board.pending_batch() - 1,
        ..Prune::default()
    };
    let answer = desk.step(Input::Prune(prune));
    assert_eq!(answer, Ok(Answer::Pruned(vec![one, two])));
    assert!(desk.board.has_pending());
    let (batch, _) = desk.board.seal();
    assert_eq!(batch.pruned.tasks, [one, two]);
    assert_eq!(
        (batch.pruned.events_to, batch.pruned.spent_before),
        (7, None)
    );
    // A prune that removes nothing makes no batch.
    assert_eq!(desk.prune(&[]), []);
    assert!(!desk.board.has_pending());
}

/// Whoever decides by which tasks have used a session must know that some of them are missing.
#[test]
fn batch_that_removes_tasks_notes_up_to_when_uses_of_sessions_may_be_forgotten() {
    let mut desk = Desk::new(1);
    let [one, two, three, four] = [(); 4].map(|()| desk.failed());
    // The times are those for unrestrained principals and for anybody. Returned are the times in
    // the batch and on the board.
    let prune = |desk: &mut Desk,
                 tasks: &[TaskId],
                 [sessions_to, all_sessions_to]: [Option<Timestamp>; 2]| {
        let prune = Prune {
            tasks: tasks.to_vec(),
            sessions_to,
            all_sessions_to,
            as_of: desk.board.pending_batch() - 1,
            ..Prune::default()
        };
        desk.step(Input::Prune(prune)).unwrap();
        let (batch, _) = desk.board.seal();
        desk.keep(&batch);
        let times = |queue: &Queue| [queue.sessions_forgotten_to, queue.all_sessions_forgotten_to];
        (batch.queue.as_ref().map(times), times(desk.board.queue()))
    };
    let at = |time: u64| Some(Timestamp(time));
    let (none, nine) = ([None; 2], [at(9); 2]);
    assert_eq!(prune(&mut desk, &[], [at(5); 2]), (None, none));
    assert_eq!(prune(&mut desk, &[one], none), (None, none));
    assert_eq!(prune(&mut desk, &[two], nine), (Some(nine), nine));
    assert_eq!(prune(&mut desk, &[three], [at(7); 2]), (None, nine));
    let later = [at(9), at(11)];
    let found = prune(&mut desk, &[four], [None, at(11)]);
    assert_eq!(found, (Some(later), later));
}

#[test]
fn tasks_that_run_again_or_are_needed_are_not_removed() {
    let mut desk = Desk::new(2);
    let [again, needed, parent, other] = [(); 4].map(|()| desk.failed());
    let copy = desk.task(again);
    desk.retry(&copy).unwrap();
    let ended = desk.ends();
    desk.submit_after(needed, ended).unwrap();
    let child = desk.submit(|request| request.parent = Some(parent));
    let below = desk.submit(|request| request.parent = Some(child));
    desk.cancel(child).unwrap();
    assert_eq!(desk.word(below), "cancelled:cancelled");
    let below = desk.submit(|request| request.parent = Some(child));
    desk.settle();
    let all = [again, needed, parent, other, child];
    assert_eq!(desk.prune(&all), [other], "a grandparent is also needed");
    desk.cancel(below).unwrap();
    desk.cancel(again).unwrap();
    desk.settle();
    assert_eq!(desk.prune(&all), [again, parent, other, child]);
}

/// The task was old when it was read, but is not old any more.
#[test]
fn task_that_ended_again_after_the_search_is_not_removed() {
    let mut desk = Desk::new(1);
    let id = desk.failed();
    let then = desk.board.pending_batch() - 1;
    let copy = desk.task(id);
    desk.retry(&copy).unwrap();
    desk.turn();
    desk.report(id, success());
    assert_eq!(desk.prune_as_of(&[id], then), []);
    desk.settle();
    assert_eq!(desk.prune_as_of(&[id], then), []);
    assert_eq!(desk.prune(&[id]), [id]);
}

/// Rows that the copy refers to may have been removed.
#[test]
fn copy_read_before_a_prune_must_be_read_again() {
    let mut desk = Desk::new(1);
    let [gone, stays] = [desk.failed(), desk.failed()];
    let then = desk.ends();
    desk.prune(&[gone]);
    for task in [gone, stays] {
        let refused = desk.submit_after(task, then.clone());
        assert_eq!(refused, Err(Refused::Moved { task }));
    }
    desk.settle();
    let mut now = desk.ends();
    now.ends.remove(&gone);
    let refused = desk.submit_after(gone, now.clone());
    assert_eq!(refused, Err(Refused::Moved { task: gone }));
    desk.submit_after(stays, now).unwrap();
}

#[test]
fn ledger_sums_outlive_finished_tasks_by_ninety_days() {
    let mut desk = Desk::with(fixed(1), Bounds::default());
    let now = 1_790_000_000_000;
    let old = now - 91 * 24 * 3_600_000;
    let day = |at: u64| Scope::Day(Day::of(Timestamp(at)));
    let graph = |at: u64| Scope::Graph(TaskId::new(at, 7));
    for scope in [day(old), graph(old), day(now), graph(now)] {
        desk.board.spent.insert(scope, 1);
        desk.board.pending.spent.insert(scope);
    }
    let prune = || {
        Input::Prune(Prune {
            older_than: Timestamp(now),
            ..Prune::default()
        })
    };
    desk.step(prune()).unwrap();
    let (batch, _) = desk.board.seal();
    assert_eq!(batch.spent, [(day(now), 1), (graph(now), 1)]);
    let before = batch.pruned.spent_before.unwrap();
    assert_eq!(before, Timestamp(now - 90 * 24 * 3_600_000));
    assert!(day(old).began_before(before) && graph(old).began_before(before));
    assert!(!day(now).began_before(before) && !graph(now).began_before(before));
    desk.step(prune()).unwrap();
    assert!(!desk.board.has_pending(), "the removal is written twice");
}

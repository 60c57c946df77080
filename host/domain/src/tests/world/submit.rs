//! Requests: tasks are submitted and retried, and parents wait for their descendants.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use super::{
    super::{a_merge, a_worktree, request, submission},
    AGENTS, Kind, Wish, World, pick,
};
use crate::{
    batch::BatchNumber,
    budget::GraphBudget,
    dependency::Dependency,
    id::{AccountKey, AttemptId, TaskId},
    outcome::Outcome,
    retry_policy::{Backoff, RetryPolicy},
    step::{
        Accepted, Answer, Ends, Input, MergedByHand, Refused, Retry, Revision, Submission, Submit,
    },
    task::{Class, Idempotency, Request, Task},
    worktree::MergeState,
};

/// Budget that the agents of a graph share.
const GRAPH_MICRO_USD: u64 = 4;

impl World {
    pub(super) fn submit(&mut self, wishes: &[Wish]) {
        let ids: Vec<TaskId> = wishes
            .iter()
            .map(|_| {
                self.made += 1;
                TaskId::new(self.now.wall.0, self.made.into())
            })
            .collect();
        let tasks: Vec<Submission> = wishes
            .iter()
            .zip(&ids)
            .map(|(wish, id)| self.submission(wish, *id, &ids))
            .collect();
        let ended = self.ends();
        let asked = tasks.clone();
        match self.step(Input::Submit(Submit { tasks, ended })) {
            Ok(Answer::Accepted(accepted)) => {
                let after = self.board.pending_batch() - u64::from(!self.board.has_pending());
                for (Accepted { task, existing }, id) in accepted.into_iter().zip(ids) {
                    assert_eq!(existing, task != id);
                    self.awaiting.push((after, task));
                }
            }
            Err(Refused::Cycle { path }) => check_circle(&asked, &path),
            Err(
                Refused::TooDeep { .. }
                | Refused::TooManyDescendants { .. }
                | Refused::Moved { .. }
                | Refused::TwoConditions { .. }
                | Refused::OverBudget { .. }
                | Refused::IdempotencyConflict { .. }
                | Refused::KeyTwice { .. },
            ) => {}
            other => panic!("{other:?}"),
        }
    }

    fn submission(&mut self, wish: &Wish, id: TaskId, together: &[TaskId]) -> Submission {
        // Dependencies are chosen among the tasks on disk and the tasks of this submission.
        let known: Vec<TaskId> = self
            .disk
            .tasks
            .keys()
            .copied()
            .chain(together.iter().copied())
            .collect();
        let dependencies = wish.dependencies.iter().filter_map(|(number, condition)| {
            Some(Dependency {
                task: *pick(&known, *number)?,
                condition: *condition,
            })
        });
        let dependencies = dependencies.collect();
        // A process may submit on behalf of an attempt that has already ended.
        let begun: Vec<AttemptId> = self.received.iter().copied().collect();
        let parent = wish.parent.and_then(|number| pick(&begun, number));
        let parent = parent.map(|attempt| self.disk.tasks[&attempt.task].clone());
        if let Some(parent) = &parent {
            self.lineage.insert(id, (parent.id, wish.detached));
        }
        let minutes = |limited: bool, minutes| limited.then(|| Duration::from_mins(minutes));
        let mut request = Request {
            priority: wish.priority,
            detached: wish.detached,
            start_timeout: minutes(wish.start_timeout, 2),
            timeout: minutes(wish.timeout, 30),
            queue_timeout: minutes(wish.queue_timeout, 45),
            start_at: wish.start_in.map(|delay| self.now.wall.after(delay)),
            group: wish.group.map(|group| group.to_string()),
            retries: wish.retries.map(|limit| {
                Box::new(RetryPolicy {
                    limit,
                    backoff: Backoff::default(),
                    on: Vec::new(),
                })
            }),
            labels: wish
                .label
                .map(|label| ("label".to_owned(), label.to_string()))
                .into_iter()
                .collect(),
            budget_micro_usd: wish.budget.map(u64::from),
            graph_budget: wish.graph.map(|graph| GraphBudget {
                graph: TaskId::new(1, graph.into()),
                micro_usd: GRAPH_MICRO_USD,
            }),
            idempotency: wish.key.map(|key| {
                Box::new(Idempotency {
                    key: key.to_string(),
                    payload_digest: String::new(),
                })
            }),
            ..request()
        };
        if wish.worktree {
            request.worktree = Some(Box::new(a_worktree()));
        }
        match wish.kind {
            Kind::Plain => {}
            Kind::Serial => request.serial_start = Some("serial".to_owned()),
            Kind::Agent(account) => {
                request.class = Class::Agent;
                request.executor = AGENTS.into();
                request.account = Some(AccountKey(account.to_owned()));
                request.serial_start = Some(account.to_owned());
            }
        }
        Submission {
            dependencies,
            held: wish.held,
            parent,
            ..submission(id, request)
        }
    }

    /// Begins or ends a wait in an attempt that runs, or in an attempt whose process has not
    /// noticed yet that the attempt has ended.
    pub(super) fn wait(&mut self, number: usize, input: impl FnOnce(AttemptId) -> Input) {
        let begun: Vec<AttemptId> = self.received.iter().copied().collect();
        let Some(attempt) = pick(&begun, number).copied() else {
            return;
        };
        let before = self.board.suspended.clone();
        let answer = self.step(input(attempt)).unwrap();
        let runs = self.board.running.contains(&attempt.task)
            && self.board.attempt_id(attempt.task) == Some(attempt);
        if !runs {
            assert_eq!(answer, Answer::Stale);
        }
        if answer == Answer::Stale {
            assert_eq!(
                self.board.suspended, before,
                "the wait of {attempt} changed the wait of another attempt"
            );
        }
    }

    /// Retries a task from a row that was read at batch `as_of`, but with everything else as it is
    /// now. If the board cannot decide whether the row is stale, the row is read again.
    pub(super) fn retry(&mut self, as_of: BatchNumber, task: Task, all: bool, resume: bool) {
        let id = task.id;
        let retry = |world: &Self, as_of, task: Task| Retry {
            revision: resume.then(|| Box::new(dearer(&task))),
            downstream: world.downstream(id, all),
            task,
            ended: Ends {
                as_of,
                ..world.ends()
            },
            resume: resume.then(|| Arc::from(&b"and now?"[..])),
        };
        let first = retry(self, as_of, task);
        if let Err(Refused::Moved { .. }) = self.step(Input::Retry(Box::new(first)))
            && let Some(newest) = self.disk.tasks.get(&id).cloned()
        {
            let again = retry(self, self.disk.last_batch, newest);
            // The retry is refused if the task is unfinished again, or if a dependency prevents it.
            drop(self.step(Input::Retry(Box::new(again))));
        }
    }

    /// Merges the work of a task by hand. This is refused if the task's merge had not failed.
    pub(super) fn merge_by_hand(&mut self, as_of: BatchNumber, task: Task) {
        let id = task.id;
        let merged = |world: &Self, as_of, task| MergedByHand {
            downstream: world.downstream(id, false),
            task,
            ended: Ends {
                as_of,
                ..world.ends()
            },
            merge: a_merge(MergeState::Merged),
        };
        let first = merged(self, as_of, task);
        let mut answer = self.step(Input::MergedByHand(Box::new(first)));
        if let Err(Refused::Moved { .. }) = answer
            && let Some(newest) = self.disk.tasks.get(&id).cloned()
        {
            let again = merged(self, self.disk.last_batch, newest);
            answer = self.step(Input::MergedByHand(Box::new(again)));
        }
        if let Ok(Answer::MergedByHand { attempt, .. }) = answer {
            let ended = &self.board.pending.finished[&id];
            let last = ended.last_attempt().unwrap();
            assert!(last.by_hand && last.number == attempt, "{ended:?}");
            assert_eq!(self.end_of(id).outcome, Outcome::Succeeded);
        }
    }

    /// Finished tasks below `of`, as stored: the tasks that could not run because of `of` or, if
    /// `all` is set, all its finished dependants.
    pub(super) fn downstream(&self, of: TaskId, all: bool) -> Vec<Task> {
        let done = self.disk.tasks.values().filter(|task| task.is_done());
        let done: Vec<&Task> = done.collect();
        let mut reached = BTreeSet::from([of]);
        let mut found = Vec::new();
        loop {
            let before = reached.len();
            for task in &done {
                let mut edges = task.dependencies.iter();
                let below = all && edges.any(|it| reached.contains(&it.task));
                let spoilt = task.end().unwrap().culprit == Some(of);
                if (below || spoilt) && reached.insert(task.id) {
                    found.push(Task::clone(task));
                }
            }
            if reached.len() == before {
                break;
            }
        }
        found
    }

    pub(super) fn ends(&self) -> Ends {
        let tasks = self.disk.tasks.values();
        Ends {
            as_of: self.disk.last_batch,
            ends: tasks
                .filter_map(|task| Some((task.id, task.end()?)))
                .collect(),
        }
    }
}

/// A revision with a larger budget.
fn dearer(task: &Task) -> Revision {
    let more = |micro_usd: u64| micro_usd.saturating_add(2);
    let request = Request::clone(&task.request);
    Revision {
        request: Request {
            budget_micro_usd: request.budget_micro_usd.map(more),
            graph_budget: request.graph_budget.map(|budget| GraphBudget {
                micro_usd: more(budget.micro_usd),
                ..budget
            }),
            ..request
        },
        spec: None,
        differences: Vec::new(),
    }
}

/// Checks that a path that was refused as a cycle is a cycle, and that each of its edges was
/// requested.
fn check_circle(asked: &[Submission], path: &[TaskId]) {
    assert!(path.len() > 1 && path.first() == path.last(), "{path:?}");
    for step in path.windows(2) {
        let task = asked.iter().find(|task| task.id == step[0]).unwrap();
        let mut edges = task.dependencies.iter();
        assert!(edges.any(|edge| edge.task == step[1]), "{path:?}");
    }
}

//! Turns stored tasks into views.

use claudine_domain::{
    attempt::{Attempt, GitState, Usage},
    dependency::Dependency,
    outcome::{Reason, ReasonClass},
    principal::{Principal, names_of_holders},
    revision::Revised,
    task::{Priority, State, Task, WaitingFor},
    worktree::Worktree,
};

use super::{
    limit_view::limit_text,
    queue_view::QueueView,
    view::{
        AttemptView, DependencyView, GitView, ReasonView, TaskRow, TaskView, UsageView,
        WorktreeView,
    },
};
use crate::{clock::rfc3339, store::phase_word, text::shortened, units::dollars};

/// Length limit of a reason in a list.
const REASON_CHARS: usize = 200;

/// A task in a list.
pub(super) fn task_row(task: &Task) -> TaskRow {
    let mut row = row(task);
    if let Some(reason) = &mut row.reason {
        reason.message = shortened(&reason.message, REASON_CHARS);
    }
    row
}

fn row(task: &Task) -> TaskRow {
    let request = &task.request;
    let last = task.last_attempt();
    let ended = last.and_then(|attempt| attempt.ended.as_ref());
    let deciding = task.deciding_attempt();
    let (outcome, reason, finished_at) = match &task.state {
        State::Done {
            at,
            outcome,
            reason,
            culprit: _,
        } => (Some(*outcome), reason.as_ref(), Some(*at)),
        _ => (None, None, None),
    };
    let end = outcome.and(deciding).and_then(|last| last.ended.as_ref());
    let culprit = task.end().and_then(|end| end.culprit);
    let until = match &task.state {
        State::Waiting { until, .. } => Some(rfc3339(*until)),
        _ => None,
    };
    let waiting_reason = match &task.state {
        State::Waiting {
            why: WaitingFor::Account(account),
            until,
        } => Some(Reason::new(
            ReasonClass::RateLimit,
            limit_text(account, None, *until),
        )),
        State::Waiting {
            why: WaitingFor::Retry,
            ..
        } => ended.and_then(|ended| ended.reason.clone()),
        _ => None,
    };
    TaskRow {
        id: task.id.to_string(),
        name: request.name.clone(),
        summary: request.summary.clone(),
        executor: request.executor.to_string(),
        state: task.state.as_str().to_owned(),
        phase: phase(task),
        doing: last.and_then(|attempt| attempt.doing.clone()),
        outcome: outcome.map(|outcome| outcome.as_str().to_owned()),
        reason: reason.or(waiting_reason.as_ref()).map(reason_view),
        culprit: culprit.map(|culprit| culprit.to_string()),
        until,
        held_by: matches!(task.state, State::Held { .. }).then(|| held_by(task)),
        group: request.group.clone(),
        priority: priority_word(request.priority).to_owned(),
        labels: request.labels.clone(),
        cwd: request.cwd.to_string(),
        parent: request.parent.map(|parent| parent.to_string()),
        graph: request.graph.as_ref().map(|graph| graph.first.to_string()),
        by: Principal::clone(&request.by),
        attempt: begun(task).last().map_or(0, |attempt| attempt.number),
        attempts_left: task.attempts_left(),
        merged_by_hand: outcome.and(deciding).is_some_and(|last| last.by_hand),
        exit_code: end.and_then(|ended| ended.exit_code),
        signal: end.and_then(|ended| ended.signal),
        cost_usd: sum_usd(task, Attempt::cost_micro_usd),
        assumed_usd: sum_usd(task, Attempt::assumed_micro_usd),
        cost_is_unknown: task.attempts.iter().any(Attempt::cost_is_unknown),
        budget_usd: request.budget_micro_usd.map(dollars),
        denied: end.map_or(0, |ended| ended.denied),
        files_changed: end.and_then(|ended| ended.files),
        created_at: rfc3339(task.created_at),
        started_at: deciding.and_then(|attempt| attempt.started_at).map(rfc3339),
        finished_at: finished_at.map(rfc3339),
        ran_ms: deciding.and_then(Attempt::ran_ms),
        expected_ms: None,
    }
}

/// The word for the phase of a task, if the task is running.
pub(super) fn phase(task: &Task) -> Option<String> {
    phase_word(task).map(str::to_owned)
}

/// A task without its documents and its output.
pub(super) fn task_view(task: &Task) -> TaskView {
    let request = &task.request;
    let ended = task.last_attempt().and_then(|last| last.ended.as_ref());
    TaskView {
        row: row(task),
        authority: request.authority.as_deref().cloned(),
        dependencies: task.dependencies.iter().map(dependency_view).collect(),
        queue: QueueView::default(),
        graph_name: None,
        worktree: request
            .worktree
            .as_ref()
            .map(|worktree| worktree_view(worktree, task)),
        merge: ended.and_then(|ended| ended.merge.as_deref()).cloned(),
        attempts: begun(task)
            .map(|attempt| attempt_view(task, attempt))
            .collect(),
        output: None,
        output_truncated: false,
        output_bytes: None,
        log_fault: None,
        usage: task
            .last_run()
            .and_then(|run| run.ended.as_ref())
            .map(|ended| usage_view(&ended.usage)),
        hint: None,
        steps: Vec::new(),
        spec: None,
        outputs: None,
    }
}

fn begun(task: &Task) -> impl Iterator<Item = &Attempt> {
    let attempts = task.attempts.iter();
    attempts.filter(|attempt| attempt.started_at.is_some())
}

/// The holders of a task, or the restore that holds it.
pub(super) fn held_by(task: &Task) -> String {
    let holders = names_of_holders(&task.holders);
    let Some(taken_at) = task.restored_from else {
        return holders;
    };
    let restored = format!("restored from a backup of {}", rfc3339(taken_at));
    if task.holders.is_empty() {
        restored
    } else {
        format!("{restored}, and held by {holders}")
    }
}

/// Sum of the costs of the attempts that have one.
fn sum_usd(task: &Task, of: impl Fn(&Attempt) -> Option<u64>) -> Option<f64> {
    let costs = task.attempts.iter().filter_map(of);
    costs.reduce(u64::saturating_add).map(dollars)
}

fn attempt_view(task: &Task, attempt: &Attempt) -> AttemptView {
    let for_it = |revised: &&Revised| revised.from_attempt == attempt.number;
    let revised = task.revised.iter().filter(for_it);
    let ended = attempt.ended.as_ref();
    let by = task.requester_of(attempt.number);
    AttemptView {
        number: attempt.number,
        by: (!by.is_same_as(&task.request.by)).then(|| Principal::clone(by)),
        pid: attempt.leader.map(|leader| leader.pid),
        started_at: attempt.started_at.map(rfc3339),
        finished_at: ended.map(|ended| rfc3339(ended.at)),
        outcome: ended.map(|ended| ended.outcome.as_str().to_owned()),
        reason: ended
            .and_then(|ended| ended.reason.as_ref())
            .map(reason_view),
        exit_code: ended.and_then(|ended| ended.exit_code),
        signal: ended.and_then(|ended| ended.signal),
        session_id: attempt.session.as_ref().map(|session| session.id.clone()),
        model: attempt
            .session
            .as_ref()
            .and_then(|session| session.model.clone()),
        cost_usd: attempt.cost_micro_usd().map(dollars),
        cost_is_assumed: attempt.assumed_micro_usd().is_some(),
        cost_is_unknown: attempt.cost_is_unknown(),
        revised: revised
            .flat_map(|revised| revised.differences.clone())
            .collect(),
        usage: ended.map(|ended| usage_view(&ended.usage)),
        git: ended.and_then(|ended| ended.git.as_deref()).map(git_view),
        merge: ended.and_then(|ended| ended.merge.as_deref()).cloned(),
        by_hand: attempt.by_hand,
    }
}

fn worktree_view(worktree: &Worktree, task: &Task) -> WorktreeView {
    WorktreeView {
        path: None,
        inside: worktree.inside.clone(),
        branch: task.branch().unwrap_or_default(),
        base: worktree.base_name().to_owned(),
        base_commit: worktree.base_commit.clone(),
        merge: worktree.merge,
        keep: worktree.keep,
    }
}

pub(super) fn git_view(git: &GitState) -> GitView {
    GitView {
        branch: git.branch.clone(),
        commit: git.commit.clone(),
        dirty: git.dirty.clone(),
        dirty_count: git.dirty_count,
        error: git.error.clone(),
    }
}

fn dependency_view(dependency: &Dependency) -> DependencyView {
    DependencyView {
        task: dependency.task.to_string(),
        condition: dependency.condition,
    }
}

pub(super) fn reason_view(reason: &Reason) -> ReasonView {
    ReasonView {
        class: reason.class.as_str().to_owned(),
        message: reason.message.clone(),
    }
}

fn usage_view(usage: &Usage) -> UsageView {
    UsageView {
        wall_ms: usage.wall_ms,
        cpu_ms: usage.cpu_ms,
        peak_rss_bytes: usage.peak_rss_bytes,
    }
}

fn priority_word(priority: Priority) -> &'static str {
    match priority {
        Priority::P0 => "P0",
        Priority::P1 => "P1",
        Priority::P2 => "P2",
    }
}

#[cfg(test)]
mod tests {
    use claudine_domain::{attempt::Ended, id::AccountKey, outcome::Outcome, time::Timestamp};

    use super::*;
    use crate::store::sample_task;

    /// An attempt that ran from second 1 to second 2 and failed.
    fn failed_attempt() -> Attempt {
        let mut attempt = Attempt::new(1, Timestamp(1_000));
        attempt.started_at = Some(Timestamp(1_000));
        attempt.ended = Some(Ended {
            exit_code: Some(3),
            ..Ended::new(Timestamp(2_000), Outcome::Failed)
        });
        attempt
    }

    #[test]
    fn an_assumed_cost_is_part_of_the_cost_and_is_shown_as_assumed() {
        let attempt = |micro_usd, cost_is_assumed| {
            let mut attempt = failed_attempt();
            if let Some(ended) = &mut attempt.ended {
                (ended.cost_micro_usd, ended.cost_is_assumed) = (micro_usd, cost_is_assumed);
            }
            attempt
        };
        let check = |attempts: Vec<Attempt>, expected: [Option<f64>; 2], assumed: &[bool]| {
            let mut task = sample_task(0);
            task.attempts = attempts;
            let view = task_view(&task);
            assert_eq!([view.row.cost_usd, view.row.assumed_usd], expected);
            let shown: Vec<bool> = view.attempts.iter().map(|it| it.cost_is_assumed).collect();
            assert_eq!(shown, assumed);
        };
        let (told, assumed) = (
            attempt(Some(500_000), false),
            attempt(Some(2_000_000), true),
        );
        check(vec![told.clone()], [Some(0.5), None], &[false]);
        check(vec![attempt(None, false)], [None, None], &[false]);
        check(vec![told, assumed], [Some(2.5), Some(2.0)], &[false, true]);
    }

    #[test]
    fn an_unknown_cost_of_an_attempt_is_shown_for_its_task_too() {
        let mut task = sample_task(0);
        let mut unknown = failed_attempt();
        if let Some(ended) = &mut unknown.ended {
            ended.cost_is_unknown = true;
        }
        for (attempts, expected) in [
            (vec![failed_attempt()], vec![false]),
            (vec![unknown, failed_attempt()], vec![true, false]),
        ] {
            task.attempts = attempts;
            let view = task_view(&task);
            assert_eq!(view.row.cost_is_unknown, expected.contains(&true));
            let shown = view.attempts.iter().map(|it| it.cost_is_unknown);
            assert_eq!(shown.collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn the_wait_of_a_parked_task_is_not_part_of_its_run_time() {
        let mut task = sample_task(0);
        task.attempts = vec![failed_attempt()];
        let waits = [
            WaitingFor::Account(AccountKey("claude".to_owned())),
            WaitingFor::Retry,
        ];
        for why in waits {
            task.state = State::Waiting {
                until: Timestamp(900_000),
                why,
            };
            let row = task_view(&task).row;
            assert_eq!((row.ran_ms, row.finished_at), (Some(1_000), None));
            assert!(row.started_at.is_some());
        }
    }

    /// Its end may be recorded much later.
    #[test]
    fn the_run_time_is_that_of_the_processes_if_they_were_measured() {
        let check = |wall_ms: u64, expected: u64| {
            let mut task = sample_task(0);
            let mut attempt = failed_attempt();
            if let Some(ended) = &mut attempt.ended {
                ended.usage.wall_ms = wall_ms;
            }
            task.attempts = vec![attempt];
            task.state = State::Done {
                at: Timestamp(2_000),
                outcome: Outcome::Failed,
                reason: None,
                culprit: None,
            };
            assert_eq!(task_view(&task).row.ran_ms, Some(expected));
        };
        check(300, 300);
        check(0, 1_000);
    }

    /// The task of this test was retried, and was cancelled before its next attempt.
    #[test]
    fn the_end_of_a_task_shows_nothing_of_an_earlier_attempt() {
        let check = |outcome: Outcome, at: u64, exit_code: Option<i32>, started: bool| {
            let mut task = sample_task(0);
            task.attempts = vec![failed_attempt()];
            task.state = State::Done {
                at: Timestamp(at),
                outcome,
                reason: None,
                culprit: None,
            };
            let view = task_view(&task);
            let found = (view.exit_code, view.started_at.is_some());
            assert_eq!(found, (exit_code, started), "{outcome:?} {at}");
            assert_eq!(view.ran_ms, started.then_some(1_000));
            assert_eq!(view.attempts[0].exit_code, Some(3));
        };
        check(Outcome::Failed, 2_000, Some(3), true);
        check(Outcome::Cancelled, 2_000, None, false);
        check(Outcome::Cancelled, 9_000, None, false);
        check(Outcome::UpstreamFailed, 9_000, None, false);
    }
}

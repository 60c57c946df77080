//! A host within this process that answers requests which only read, and checks requests for which
//! a host is to be started. It is used if no other host runs. It runs no task and leaves nothing
//! behind.

use std::sync::Arc;

use claudine_domain::{
    attempt::{Attempt, Phase},
    capacity::Limits,
    id::{AttemptId, TaskId},
    task::{State, Task},
};

use super::open_plugins;
use crate::{
    app::{
        AppError, ErrorKind, Host, HostParts, backup, supervisors_left, supervisors_out_of_sight,
    },
    clock, command,
    config::Settings,
    engine,
    environment::Environments,
    identity::HostProcess,
    layout::Layout,
    plugin::Compiler,
    proc_stat::is_alive,
    sample::Sampler,
    store::{Store, sqlite::SqliteStore, unrecorded},
    supervise::{self, AttemptKey, log::LogWatch},
    text::chain,
    worktree::Worktrees,
};

/// Creates the host. Must be called within a runtime. If a real host starts in the meantime, it is
/// not disturbed.
pub(crate) fn offline(settings: Settings) -> Result<Arc<Host>, AppError> {
    let layout = Layout::new(&settings.data_dir);
    let directory = layout.root().display();
    if let Some(restore) = HostProcess::of(&layout).filter(HostProcess::restores) {
        let message = format!("a restore (pid {}) uses {directory}", restore.pid);
        return Err(
            AppError::new(ErrorKind::Forbidden, message).hint("wait until the restore has ended")
        );
    }
    backup::refuse_incomplete(&layout)?;
    let is_incomplete = layout.to_be_placed().try_exists().map_err(|error| {
        let message = format!("{directory} cannot be examined: {error}");
        AppError::new(ErrorKind::Unavailable, message)
    });
    if is_incomplete? {
        let message = format!("a restore into {directory} was killed before it was complete");
        return Err(
            AppError::new(ErrorKind::Conflict, message).hint("`claudine up` completes the restore")
        );
    }
    SqliteStore::refuse_lost(&layout.database(), &layout.logs(), || layout.has_logs())?;
    let of = layout.clone();
    let correct = move |task: &mut Task| without_ended_process(task, &of);
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open_unattended(&layout.database(), correct));
    let plugins = open_plugins(&layout, &settings, Compiler::Nobody);
    let plugins =
        plugins.map_err(|error| AppError::new(ErrorKind::Unavailable, error.to_string()))?;
    let limits: Limits = settings.limits;
    let root = layout.root().to_owned();
    let engine = engine::absent(store.clone(), limits, move || Sampler::new(&root));
    Ok(Arc::new(Host::new(HostParts {
        engine,
        store,
        plugins: Arc::new(plugins),
        environments: Arc::new(Environments::unwritten(
            layout.clone(),
            settings.env.clone(),
        )),
        worktrees: Arc::new(Worktrees::new(layout.clone())),
        commands: Arc::new(command::Here),
        settings,
        layout,
        started_at: clock::wall(),
        held_back: Box::new(|_| None),
        all_held_back: Box::new(|| None),
        attempt_of: Box::new(|_| Box::pin(async { None })),
        silences: Box::new(Vec::new),
        watch: LogWatch::blind(),
    })))
}

/// Marks a task if its process has ended since the last host ended. The next host records the end.
/// If no leader process is recorded, the notes of the supervisors tell whether a process runs, or
/// else the attempt counts as alive as long as a supervisor is alive. An attempt whose processes
/// cannot be seen from here, or cannot be looked at, is left as the last host recorded it.
fn without_ended_process(task: &mut Task, layout: &Layout) {
    let State::Running { phase, .. } = &task.state else {
        return;
    };
    let has_process = match phase {
        Phase::Assigned | Phase::Preparing | Phase::Settling => return,
        Phase::Starting | Phase::Live | Phase::Stopping(_) | Phase::Finishing => task
            .last_attempt()
            .is_some_and(|last| may_run(task.id, last, layout) || may_run_elsewhere(layout)),
    };
    if !has_process {
        unrecorded::mark(task);
    }
}

fn may_run_elsewhere(layout: &Layout) -> bool {
    supervisors_out_of_sight(layout).unwrap_or(true)
}

fn may_run(task: TaskId, attempt: &Attempt, layout: &Layout) -> bool {
    let boot = attempt.started_monotonic.as_ref().map(|(_, boot)| boot);
    if boot.is_none_or(|boot| *boot != clock::boot_id()) {
        return false;
    }
    if let Some(leader) = attempt.leader {
        return is_alive(leader.pid, leader.start_time).unwrap_or(true);
    }
    let id = AttemptId {
        task,
        number: attempt.number,
    };
    let key = AttemptKey::new(id.to_string());
    match supervise::runs_as_noted(&layout.supervisors(), &key) {
        Ok(Some(runs)) => runs,
        Ok(None) => !supervisors_left(layout).is_ok_and(|left| left.is_empty()),
        Err(error) => {
            tracing::warn!(error = %chain(&error), "the notes of the supervisors cannot be read");
            true
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use claudine_domain::{
        attempt::Leader,
        time::{MonotonicMs, Timestamp},
    };

    use super::*;
    use crate::{proc_stat::stat, store::sample_task};

    /// An attempt that was started in this boot.
    fn attempt(leader: Option<Leader>) -> Attempt {
        Attempt {
            started_monotonic: Some((MonotonicMs(1), clock::boot_id())),
            leader,
            ..Attempt::new(1, Timestamp(0))
        }
    }

    fn is_shown_as_ended(attempt: &Attempt, layout: &Layout) -> bool {
        let mut task = Task {
            state: State::Running {
                phase: Phase::Live,
                since: Timestamp(0),
            },
            has_begun: true,
            attempts: vec![attempt.clone()],
            ..sample_task(1)
        };
        without_ended_process(&mut task, layout);
        unrecorded::is_marked(&task)
    }

    #[test]
    fn a_task_is_not_shown_as_ended_if_the_supervisors_cannot_be_listed() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let attempt = attempt(None);
        assert!(!may_run(TaskId::new(1, 1), &attempt, &layout));
        assert!(!may_run_elsewhere(&layout));
        assert!(is_shown_as_ended(&attempt, &layout));
        std::fs::write(layout.supervisors(), "").unwrap();
        assert!(may_run(TaskId::new(1, 1), &attempt, &layout));
        assert!(may_run_elsewhere(&layout));
        assert!(!is_shown_as_ended(&attempt, &layout));
    }

    #[test]
    fn a_task_is_shown_as_ended_if_the_process_that_led_it_has_ended() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let pid = std::process::id();
        let start_time = stat(pid).unwrap().start_time;
        let alive = attempt(Some(Leader { pid, start_time }));
        assert!(!is_shown_as_ended(&alive, &layout));
        // Another process has got the pid.
        let start_time = start_time + 1;
        let ended = attempt(Some(Leader { pid, start_time }));
        assert!(is_shown_as_ended(&ended, &layout));
    }
}

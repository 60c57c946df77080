//! A host within this process that reads requests if no other host runs. It runs no task and leaves
//! nothing behind.

use std::sync::Arc;

use claudine_domain::{
    attempt::Phase,
    capacity::Limits,
    task::{State, Task},
};

use super::open_plugins;
use crate::{
    app::{AppError, ErrorKind, Host, HostParts, supervisors_left},
    clock, command,
    config::Settings,
    engine,
    environment::Environments,
    layout::Layout,
    plugin::Compiler,
    proc_stat::is_alive,
    sample::Sampler,
    store::{Store, sqlite::SqliteStore},
    supervise::log::LogWatch,
    worktree::Worktrees,
};

/// Creates the host. Must be called within a runtime. If a real host starts in the meantime, it is
/// not disturbed.
pub(crate) fn offline(settings: Settings) -> Result<Arc<Host>, AppError> {
    let layout = Layout::new(&settings.data_dir);
    if layout.to_be_placed().exists() {
        let directory = layout.root().display();
        let message = format!("a restore into {directory} was killed before it was complete");
        return Err(AppError::new(ErrorKind::Conflict, message).hint("`claudine up` completes it"));
    }
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open_unattended(
        &layout.database(),
        without_ended_process,
    ));
    let plugins = open_plugins(&layout, &settings, Compiler::Nobody);
    let plugins =
        plugins.map_err(|error| AppError::new(ErrorKind::Unavailable, error.to_string()))?;
    let limits: Limits = settings.limits;
    let root = layout.root().to_owned();
    let engine = engine::absent(store.clone(), limits, move || Sampler::new(&root));
    let left = layout.clone();
    Ok(Arc::new(Host::new(HostParts {
        engine,
        store,
        plugins: Arc::new(plugins),
        environments: Arc::new(Environments::new(layout.clone(), settings.env.clone())),
        worktrees: Arc::new(Worktrees::new(layout.clone())),
        commands: Arc::new(command::Here),
        settings,
        layout,
        started_at: clock::wall(),
        supervisor_pids: Box::new(move || supervisors_left(&left)),
        held_back: Box::new(|_| None),
        attempt_of: Box::new(|_| Box::pin(async { None })),
        silent_supervisors: Box::new(Vec::new),
        watch: LogWatch::blind(),
    })))
}

/// Shows an attempt as finishing if its process has ended since the last host ended. The next host
/// records the end.
fn without_ended_process(task: &mut Task) {
    let State::Running { phase, .. } = &mut task.state else {
        return;
    };
    let Some(attempt) = task.attempts.last_mut() else {
        return;
    };
    let Some(leader) = attempt.leader else { return };
    let boot = attempt.started_monotonic.as_ref().map(|(_, boot)| boot);
    let is_of_this_boot = boot.is_some_and(|boot| *boot == clock::boot_id());
    if is_of_this_boot && is_alive(leader.pid, leader.start_time) {
        return;
    }
    if matches!(phase, Phase::Starting | Phase::Live | Phase::Stopping(_)) {
        *phase = Phase::Finishing;
    }
    attempt.leader = None;
    attempt.doing = None;
}

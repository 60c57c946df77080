//! Attempts that are about to start: their instances are made, and wait at their first child.
//!
//! Nothing of it is seen: the engine does not count them, and is told nothing by them. What is dropped here is made anew when it is started.

use std::sync::Arc;

use claudine_domain::id::AttemptId;
use tokio::task::JoinHandle;

use super::{
    live::{Live, State},
    run::{Runner, ladder_of},
};
use crate::{engine::Launch, lock::lock};

/// An attempt that was made ready and not begun.
pub(super) struct StandBy {
    live: Arc<Live>,
    work: JoinHandle<()>,
}

impl Runner {
    /// Only where the executor allows it, and where nothing is needed that may yet change.
    pub(super) fn stand_by(&self, launch: Launch) {
        let Launch { attempt, task, .. } = &launch;
        let executor = self.plugins.executor(&task.request.executor);
        let may = executor.is_ok_and(|executor| executor.manifest().standby);
        if !may || attempt.number != 1 || task.request.worktree.is_some() || task.reads_others() {
            return;
        }
        let attempt = *attempt;
        let (live, stopped) = Live::new(attempt, ladder_of(task), State::default());
        let live = Arc::new(live);
        if let Some(work) = self.set_to_work(launch, live.clone(), false, stopped) {
            lock(&self.standing_by).insert(attempt, StandBy { live, work });
        }
    }

    pub(super) fn stand_down(&self, attempt: AttemptId) {
        let standing_by = lock(&self.standing_by).remove(&attempt);
        if let Some(StandBy { work, .. }) = standing_by {
            work.abort();
        }
    }

    /// Lets one that stands by go on; else it comes back.
    pub(super) fn begin_standing_by(&self, launch: Launch) -> Result<(), Launch> {
        let Some(StandBy { live, .. }) = lock(&self.standing_by).remove(&launch.attempt) else {
            return Err(launch);
        };
        lock(&self.live).insert(launch.attempt, live.clone());
        live.begin(launch.task);
        Ok(())
    }
}

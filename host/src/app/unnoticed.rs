//! Finds tasks whose processes have ended while nobody records the ends: their executors have no
//! code, or their supervisors do nothing, so that nobody has noticed the ends.

use std::sync::OnceLock;

use claudine_domain::{attempt::Phase, task::Task};

use crate::{
    layout::Layout,
    proc_stat,
    store::unrecorded,
    supervise::{self, SuperviseError},
    text::chain,
};

/// The look for unnoticed ends in one list. It examines the supervisors at most once, because many
/// tasks may have ended, for example if the disk is full and their output is held back.
pub(crate) struct Unnoticed {
    layout: Layout,
    /// `None` if the supervisors cannot be examined.
    idle: OnceLock<Option<Idle>>,
}

/// The suspended and frozen supervisors.
struct Idle {
    pids: Vec<u32>,
    /// Whether there is no other supervisor that could notice the end of a process.
    are_all: bool,
}

impl Unnoticed {
    pub(crate) fn new(layout: Layout) -> Self {
        Self {
            layout,
            idle: OnceLock::new(),
        }
    }

    /// Marks a running task whose process has ended if its executor cannot be asked how, or if its
    /// supervisor does nothing, and so cannot notice this. Costs one look at the process as long as
    /// the process is alive.
    pub(crate) fn mark(&self, task: &mut Task) {
        let last = task.last_attempt();
        if last.is_some_and(|last| last.is_over) {
            return unrecorded::mark(task);
        }
        if !matches!(task.phase(), Some(Phase::Live | Phase::Stopping(_))) {
            return;
        }
        let Some(leader) = task.last_attempt().and_then(|attempt| attempt.leader) else {
            return;
        };
        // A task whose process cannot be looked at stays as it was recorded.
        let Ok(stat) = proc_stat::try_stat(leader.pid) else {
            return;
        };
        let stat = stat.filter(|stat| stat.start_time == leader.start_time);
        if stat.as_ref().is_some_and(|stat| !stat.is_zombie()) {
            return;
        }
        let Some(idle) = self.idle.get_or_init(|| idle_or_unknown(&self.layout)) else {
            return;
        };
        // If nothing is left of the process, any supervisor could notice its end.
        let is_left_to_an_idle_one =
            stat.map_or(idle.are_all, |stat| idle.pids.contains(&stat.parent));
        if is_left_to_an_idle_one {
            unrecorded::mark(task);
        }
    }
}

fn idle_or_unknown(layout: &Layout) -> Option<Idle> {
    let idle = idle(layout).inspect_err(|error| {
        let error = chain(error);
        tracing::warn!(%error, "nobody knows whether all ends of tasks are noticed");
    });
    idle.ok()
}

fn idle(layout: &Layout) -> Result<Idle, SuperviseError> {
    let supervisors = layout.supervisors();
    let mut pids = supervise::suspended(&supervisors)?;
    pids.extend(supervise::frozen(&supervisors)?);
    let are_all = !pids.is_empty()
        && !supervise::is_out_of_sight(&supervisors)?
        && supervise::pids(&supervisors)?
            .iter()
            .all(|pid| pids.contains(pid));
    Ok(Idle { pids, are_all })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use claudine_domain::{
        attempt::{Attempt, Leader},
        task::State,
        time::{MonotonicMs, Timestamp},
    };

    use super::*;
    use crate::store::sample_task;

    #[test]
    fn a_task_whose_executor_has_still_to_say_how_it_ended_is_shown_as_ended() {
        let dir = tempfile::tempdir().unwrap();
        let unnoticed = Unnoticed::new(Layout::new(dir.path()));
        for is_over in [false, true] {
            let mut task = sample_task(1);
            let since = Timestamp(0);
            task.state = State::Running {
                phase: Phase::Finishing,
                since,
            };
            task.attempts = vec![Attempt {
                is_over,
                started_monotonic: Some((MonotonicMs(1), "boot".into())),
                ..Attempt::new(1, since)
            }];
            unnoticed.mark(&mut task);
            assert_eq!(unrecorded::is_marked(&task), is_over);
        }
    }

    #[test]
    fn supervisors_are_looked_at_only_for_a_process_that_has_ended() {
        let dir = tempfile::tempdir().unwrap();
        let unnoticed = Unnoticed::new(Layout::new(dir.path()));
        let pid = std::process::id();
        let own = proc_stat::try_stat(pid).unwrap().unwrap().start_time;
        let look_at = |start_time: u64| {
            let mut task = sample_task(1);
            let since = Timestamp(0);
            task.state = State::Running {
                phase: Phase::Live,
                since,
            };
            let leader = Some(Leader { pid, start_time });
            task.attempts = vec![Attempt {
                leader,
                ..Attempt::new(1, since)
            }];
            unnoticed.mark(&mut task);
            assert_eq!(task.phase(), Some(&Phase::Live));
            unnoticed.idle.get().is_some()
        };
        assert!(!look_at(own));
        // Another process had this pid before. No supervisor is idle, so one will notice its end.
        assert!(look_at(own - 1));
        assert!(unnoticed.idle.get().unwrap().is_some());
    }
}

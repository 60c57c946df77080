//! Finds supervisors that do nothing, so that their tasks do not end.

use claudine_domain::task::{State, Task};

use super::{
    down::{says_unanswered, says_unreached, suspended_supervisors, unexamined},
    error::AppError,
    explain::is_queued,
    host::Host,
};
use crate::{layout::Layout, proc_stat, supervise};

/// The words in the sentence about a supervisor that does nothing.
const IDLE: &str = "so it enforces no limits and notices no ends";

/// A living supervisor that does nothing, with its pid.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Halted {
    /// A signal has stopped it.
    Suspended(u32),
    /// Its control group is frozen.
    Frozen(u32),
}

impl Halted {
    fn pid(self) -> u32 {
        match self {
            Self::Suspended(pid) | Self::Frozen(pid) => pid,
        }
    }

    /// A sentence with the way out.
    pub(super) fn text(self) -> String {
        match self {
            Self::Suspended(pid) => format!(
                "the supervisor (pid {pid}) is stopped by a signal, {IDLE}; `kill -CONT {pid}` \
                 continues it"
            ),
            Self::Frozen(pid) => format!(
                "the control group of the supervisor (pid {pid}) is frozen, {IDLE}; it goes on \
                 once the group is thawed (`systemctl thaw`, `docker unpause`)"
            ),
        }
    }
}

/// The supervisors that are certain to do nothing. A control group that cannot be seen from here
/// counts as not frozen.
pub(crate) fn halted_supervisors(layout: &Layout) -> Result<Vec<Halted>, AppError> {
    let suspended = suspended_supervisors(layout)?.into_iter();
    let frozen = supervise::frozen(&layout.supervisors()).map_err(|error| unexamined(&error))?;
    let frozen = frozen.into_iter().map(Halted::Frozen);
    Ok(suspended.map(Halted::Suspended).chain(frozen).collect())
}

/// A warning for each supervisor in a frozen control group.
pub(super) fn frozen_supervisors(layout: &Layout) -> Result<Vec<String>, AppError> {
    let halted = halted_supervisors(layout)?.into_iter();
    let frozen = halted.filter(|one| matches!(one, Halted::Frozen(_)));
    Ok(frozen.map(Halted::text).collect())
}

/// Whether a reason of `why`, or a warning of a host, says that a supervisor does nothing or cannot
/// be reached, or that what a dead one has left cannot be ended.
pub(crate) fn says_halted(reason: &str) -> bool {
    let silent = says_unreached(reason) || says_unanswered(reason);
    silent || reason.contains(IDLE) || reason.contains(supervise::NOT_ENDED)
}

/// The supervisor of a running task, if it does nothing. If no process of the task shows which
/// supervisor the task has, any supervisor that does nothing is returned. `None` if the supervisors
/// cannot be examined.
pub(super) fn halted_supervisor(task: &Task, layout: &Layout) -> Option<Halted> {
    if !may_have_supervisor(task) {
        return None;
    }
    let halted = halted_supervisors(layout).unwrap_or_else(|error| {
        tracing::warn!(%error, task = %task.id, "nobody knows whether the task's supervisor is halted");
        Vec::new()
    });
    let leader = task.last_attempt().and_then(|attempt| attempt.leader);
    let parent = leader.and_then(|leader| {
        let stat = proc_stat::try_stat(leader.pid).ok().flatten()?;
        (stat.start_time == leader.start_time).then_some(stat.parent)
    });
    let its_own = |one: &Halted| parent.is_none_or(|parent| parent == one.pid());
    halted.into_iter().find(its_own)
}

fn may_have_supervisor(task: &Task) -> bool {
    matches!(task.state, State::Running { .. }) && !is_queued(task)
}

impl Host {
    /// Why the supervisor of a running task cannot be reached, or does not answer.
    pub(super) fn unreached(&self, task: &Task) -> Option<String> {
        if !may_have_supervisor(task) {
            return None;
        }
        let held_back = (self.held_back)(task.last_attempt_id()?)?;
        let silent = (self.silent_supervisors)();
        silent.contains(&held_back).then_some(held_back)
    }

    /// The known obstacle to the end of a running task: its supervisor does nothing, or cannot be
    /// reached.
    pub(super) fn halt_of(&self, task: &Task) -> Option<String> {
        let halted = halted_supervisor(task, &self.reader.layout);
        halted.map(Halted::text).or_else(|| self.unreached(task))
    }

    /// Whether a supervisor may be one for which [`Self::halt_of`] has a reason.
    pub(super) fn may_have_halted(&self) -> bool {
        let halted = halted_supervisors(&self.reader.layout);
        !halted.is_ok_and(|halted| halted.is_empty()) || !(self.silent_supervisors)().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_supervisor_that_does_nothing_is_named_with_what_makes_it_go_on() {
        let suspended = Halted::Suspended(7).text();
        assert!(suspended.contains("`kill -CONT 7`"), "{suspended}");
        let frozen = Halted::Frozen(8).text();
        assert!(
            frozen.contains("(pid 8)") && frozen.contains("thaw"),
            "{frozen}"
        );
        for said in [suspended, frozen] {
            assert!(says_halted(&said), "{said}");
        }
        assert!(!says_halted("stopping: cancelled"));
    }
}

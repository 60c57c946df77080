//! The reports of the host's side to the engine: events, and the attempts found at the start.

use super::words::{AttemptKey, ChildId, Exit, NotStartedClass, StopWhy};

/// A report to the engine. After each reconnection a supervisor sends the whole state of the
/// attempts that are not acknowledged; [`super::Supervisors`] passes each report on once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Report {
    /// The child runs. Not sent for a child that ended within two milliseconds, for which
    /// [`Report::Exited`] is enough.
    Started {
        child: ChildId,
        pid: u32,
        start_time: u64,
    },
    NotStarted {
        child: ChildId,
        class: NotStartedClass,
        message: String,
    },
    /// The leader ended. If `ended` is set, the output is drained too and nothing of the attempt is
    /// alive.
    Exited {
        child: ChildId,
        exit: Exit,
        ended: bool,
    },
    /// The attempt's output is drained, and nothing of the attempt is alive except `alive` leftover
    /// processes that could not be ended. `swept` leftover processes were ended.
    Ended {
        attempt: AttemptKey,
        swept: u32,
        alive: u32,
    },
    /// The attempt is held back because its output cannot be written or its supervisor does not
    /// answer (`Some` with the reason), or continues (`None`).
    Held {
        attempt: AttemptKey,
        message: Option<String>,
    },
    /// A supervisor died, and the processes that it left have been ended. The children listed here
    /// are lost. Exits that the supervisor had recorded were reported before, as
    /// [`Report::Exited`].
    SupervisorLost {
        attempts: Vec<AttemptKey>,
        children: Vec<ChildId>,
    },
    /// A silent supervisor has answered, or a dead supervisor's processes, which could not be ended
    /// before, have been ended. `found` holds the attempts of this supervisor that this host did
    /// not know. If there are any, `number` is set, and the supervisor still counts as silent until
    /// [`super::Supervisors::heard_of`] is called with this number, because these attempts must
    /// become known first. Otherwise it no longer counts as silent.
    Reached {
        number: Option<u32>,
        found: Vec<Found>,
    },
}

/// An attempt that was found when the host started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) attempt: AttemptKey,
    pub(crate) children: Vec<FoundChild>,
    pub(crate) stopping: Option<StopWhy>,
    /// Whether nothing of the attempt is alive and its output is drained.
    pub(crate) ended: bool,
    /// Why the attempt's output cannot be written at the moment.
    pub(crate) held: Option<String>,
    /// Whether output may be missing, because the supervisor died before the output was drained.
    pub(crate) output_cut: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FoundChild {
    pub(crate) child: ChildId,
    pub(crate) state: FoundState,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FoundState {
    NotStarted {
        class: NotStartedClass,
        message: String,
    },
    Running {
        pid: u32,
        start_time: u64,
    },
    Exited(Exit),
    /// The child's supervisor died before the child ended. The child has been ended since; its own
    /// outcome is unknown.
    Lost,
}

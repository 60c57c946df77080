//! What the host's side tells the engine: reports, and the attempts that were found.

use super::words::{AttemptKey, ChildId, Exit, NotStartedClass, StopWhy};

/// What the host is told. Every report is repeated after a reconnection until its attempt is
/// acknowledged, and [`super::Supervisors`] hands each on once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Report {
    /// The child runs. Not sent for a child that ended within two milliseconds: its
    /// [`Report::Exited`] says all.
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
    /// The leader ended. With `ended`, the output is drained too and nothing of the attempt is
    /// alive.
    Exited {
        child: ChildId,
        exit: Exit,
        ended: bool,
    },
    /// Nothing of the attempt is alive and its output is drained. `swept` processes had been left
    /// behind and were ended; `alive` ones could not be.
    Ended {
        attempt: AttemptKey,
        swept: u32,
        alive: u32,
    },
    /// The attempt's output cannot be written and the attempt is held back (`Some` with the
    /// system's message), or is no longer.
    Held {
        attempt: AttemptKey,
        message: Option<String>,
    },
    /// A supervisor died; what was left of its children has been ended. Exits that it had recorded
    /// come before this as [`Report::Exited`]; these are lost.
    SupervisorLost {
        attempts: Vec<AttemptKey>,
        children: Vec<ChildId>,
    },
    /// A supervisor that had not answered since this host began has, or is known to be dead. It has
    /// these attempts beside those that were known from its notes.
    Reached { found: Vec<Found> },
}

/// An attempt as it was found at the start of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) attempt: AttemptKey,
    pub(crate) children: Vec<FoundChild>,
    pub(crate) stopping: Option<StopWhy>,
    /// Nothing of it is alive and its output is drained.
    pub(crate) ended: bool,
    /// Why its output cannot be written at the moment.
    pub(crate) held: Option<String>,
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
    /// Its supervisor died before it ended; it has been ended since, and nobody knows how it would
    /// have.
    Lost,
}

//! The protocol between host and supervisor, version 1: JSON documents in length-prefixed frames
//! over a Unix stream socket.
//!
//! The host opens with `hello`; the supervisor answers `welcome`, one `attempt` for each attempt
//! that it still keeps, and `ready`. From then on the host sends commands and the supervisor
//! reports. Commands are numbered from 1 within an epoch, and `welcome` contains the number of the
//! last command that was received. So after a reconnection the host repeats exactly the commands
//! with higher numbers. Reports carry no numbers, because the `attempt` frames after `welcome` hold
//! the whole state: the host compares it with the reports that it already got.
//!
//! A `hello` that names a child does not begin this exchange. It asks for the writing end of the
//! pipe that the child reads, and the answer carries this descriptor. As long as the connection
//! stays open, the supervisor assumes that the host still feeds the child. The connection carries
//! one more message, `end`, after which the input is complete.
//!
//! Both sides ignore unknown fields. A frame of an unknown kind is reported to stderr and skipped.
//! A host uses a newer feature only if the supervisor has it: `welcome` contains the features that
//! were added after the first release of this protocol version.

use serde::{Deserialize, Serialize};

use super::words::{AttemptKey, ChildId, Exit, NotStartedClass, Rung, Signal, StartChild, StopWhy};

/// The version that this build speaks.
pub(super) const PROTOCOL: u32 = 1;

/// The first frame of a connection.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Hello {
    pub(super) protocol: u32,
    /// The host's fencing number. The newest connection of the highest epoch wins.
    pub(super) epoch: u64,
    /// Set if this connection is to feed a child.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) feed: Option<ChildId>,
}

/// A message of the host on a connection that feeds a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum FeedWord {
    /// The input is complete.
    End,
}

/// Any later frame of the host.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Numbered {
    pub(super) seq: u64,
    pub(super) command: Command,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Command {
    Start(Box<StartChild>),
    Signal {
        child: ChildId,
        signal: Signal,
    },
    Stop {
        attempt: AttemptKey,
        why: StopWhy,
        ladder: Vec<Rung>,
    },
    /// Ends the remaining processes of the attempt. No more starts follow, and the answer is
    /// `ended`.
    Finish {
        attempt: AttemptKey,
    },
    /// Lets the supervisor forget the attempt, because the host has its result on disk.
    Ack {
        attempt: AttemptKey,
    },
    /// Asks the supervisor to exit as soon as every attempt has ended and is acknowledged, without
    /// waiting for another host.
    Quit,
}

impl Command {
    /// Whether the supervisor confirms the command as soon as it has carried it out. A start is
    /// answered at once anyway, while the end of an attempt may take its time. Nobody waits for the
    /// effect of the other commands.
    pub(super) fn is_confirmed_at_once(&self) -> bool {
        match self {
            Self::Signal { .. } | Self::Stop { .. } | Self::Finish { .. } => true,
            Self::Start(_) | Self::Ack { .. } | Self::Quit => false,
        }
    }
}

/// Any frame of the supervisor. The journal (`exits.log`) holds the same documents, one a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Message {
    Welcome(Welcome),
    Attempt(AttemptState),
    Ready,
    /// The answer to a hello that names a child; the writing end of the child's input comes with
    /// this frame.
    InputOpen,
    /// The answer to a hello that names a child, if nothing reads the child's input any more.
    InputClosed,
    /// Says that a newer host is connected; the connection is closed after this message.
    Fenced {
        epoch: u64,
    },
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
    Exited {
        child: ChildId,
        exit: Exit,
        ended: bool,
    },
    Ended {
        attempt: AttemptKey,
        swept: u32,
        alive: u32,
    },
    Held {
        attempt: AttemptKey,
        message: Option<String>,
    },
    /// Says that the commands up to this number have been carried out.
    Received {
        seq: u64,
    },
    /// In the journal only: the supervisor that is the parent of the processes in the following
    /// lines.
    Supervisor(Identity),
    /// In the journal only, and written before the child is started: if no later line names the
    /// child, it may have run.
    Starting {
        child: ChildId,
    },
    /// In the journal only: a process that became the supervisor's own child when its parent died.
    Stray {
        pid: u32,
        start_time: u64,
    },
    /// In the journal only: the attempt needs no recovery any more.
    Forgotten {
        attempt: AttemptKey,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Welcome {
    pub(super) protocol: u32,
    pub(super) identity: Identity,
    pub(super) received: u64,
    /// Whether the supervisor can feed children by a stream.
    #[serde(default)]
    pub(super) feeds: bool,
    /// Whether the supervisor notes each start before it carries it out.
    #[serde(default)]
    pub(super) notes_starts: bool,
    /// Whether the supervisor confirms stops, finishes and signals as soon as it has carried them
    /// out.
    #[serde(default)]
    pub(super) confirms_at_once: bool,
}

/// Identifies a process beyond doubt: a pid may be reused, but within a boot the pair of pid and
/// start time is not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    pub(super) pid: u32,
    pub(super) start_time: u64,
    pub(super) boot_id: String,
    /// The pid namespace in which the pid is valid. Earlier versions did not note it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) pid_namespace: Option<String>,
    /// The executable's version and file, and what tasks inherit from the process. A host that
    /// differs in this starts its own supervisor for new work.
    pub(super) build: String,
}

/// The complete state of an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct AttemptState {
    pub(super) attempt: AttemptKey,
    pub(super) children: Vec<ChildView>,
    pub(super) stopping: Option<StopWhy>,
    /// No more starts will come.
    pub(super) finished: bool,
    /// Set once nothing of the attempt is alive and its output is drained.
    pub(super) ended: Option<EndedState>,
    pub(super) held: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct EndedState {
    pub(super) swept: u32,
    pub(super) alive: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ChildView {
    pub(super) child: ChildId,
    pub(super) state: ChildState,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ChildState {
    NotStarted {
        class: NotStartedClass,
        message: String,
    },
    Running {
        pid: u32,
        start_time: u64,
    },
    Exited(Exit),
}

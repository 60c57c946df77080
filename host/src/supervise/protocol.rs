//! The protocol between host and supervisor, version 1: JSON documents in length-prefixed frames
//! over a Unix stream socket.
//!
//! The host opens with `hello`; the supervisor answers `welcome`, one `attempt` for each attempt it
//! still keeps, and `ready`. From then on commands go one way and reports the other. Commands are
//! numbered from 1 within an epoch, and `welcome` says up to which number they were received, so a
//! host that lost its connection sends exactly the rest again. Reports carry no numbers: the
//! `attempt` frames after `welcome` hold the whole truth, and the host works out what it has not
//! heard yet.
//!
//! A hello that names a child opens no such conversation: it asks for the pipe that the child
//! reads, which comes with the answer. From then on the connection stands for the host that feeds
//! the child, and carries one word more, `end`.
//!
//! Both sides ignore fields they do not know. A frame of an unknown kind is reported to stderr and
//! skipped. What an older supervisor would have to do and does not know, it is not asked for:
//! `welcome` says what it can beyond the first of this version.

use serde::{Deserialize, Serialize};

use super::words::{AttemptKey, ChildId, Exit, NotStartedClass, Rung, Signal, StartChild, StopWhy};

/// The version this build speaks.
pub(super) const PROTOCOL: u32 = 1;

/// The first frame of a connection.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Hello {
    pub(super) protocol: u32,
    /// The host's fencing number. The newest connection of the highest epoch wins.
    pub(super) epoch: u64,
    /// Only where this connection is to feed a child.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) feed: Option<ChildId>,
}

/// What the host says on a connection that feeds a child.
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
    /// No more starts: what is left of the attempt is ended, and `ended` is the answer.
    Finish {
        attempt: AttemptKey,
    },
    /// The host has on disk what became of the attempt: forget it.
    Ack {
        attempt: AttemptKey,
    },
    /// Exit as soon as nothing lives and nothing is unacknowledged, without waiting for another
    /// host.
    Quit,
}

/// Any frame of the supervisor. The journal (`exits.log`) holds the same documents, one a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Message {
    Welcome(Welcome),
    Attempt(AttemptState),
    Ready,
    /// The answer to a hello that names a child: the writing end of its input comes with it.
    InputOpen,
    /// The same, where nothing reads any more.
    InputClosed,
    /// A newer host is there; the connection is closed after this.
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
    /// Commands up to this number have been carried out.
    Received {
        seq: u64,
    },
    /// In the journal only: whose pids the following lines name.
    Supervisor(Identity),
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
    /// Whether children can be fed by a stream.
    #[serde(default)]
    pub(super) feeds: bool,
}

/// Which process it is, so that a pid is never taken for another's: pids return, the pair of pid
/// and start time within a boot does not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    pub(super) pid: u32,
    pub(super) start_time: u64,
    pub(super) boot_id: String,
    /// The executable's version and file identity; a host with another one starts a supervisor of
    /// its own for new work.
    pub(super) build: String,
}

/// Everything the supervisor knows of an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct AttemptState {
    pub(super) attempt: AttemptKey,
    pub(super) children: Vec<ChildView>,
    pub(super) stopping: Option<StopWhy>,
    /// No more starts were to come.
    pub(super) finished: bool,
    /// Set once nothing of it is alive and its output is drained.
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

//! The interface of an attempt to its host, and the data passed to and from a plugin.
//!
//! These types belong to no version of the contract. Each version has a module that converts its
//! own types at the boundary, so the rest of the host need not know for which version a component
//! was built.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

pub(crate) use claudine_domain::principal::Authority;
#[cfg(test)]
pub(crate) use claudine_domain::principal::Step as AuthorityStep;
use tokio::io::AsyncRead;
use tokio::sync::mpsc;

pub(crate) type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
/// The bytes of one channel of a child, in order. The reader ends when the child has ended and
/// everything was read, or where the cap on the attempt's output has deleted bytes. [`Output::gap`]
/// contains the number of deleted bytes.
pub(crate) type OutputReader = Pin<Box<dyn AsyncRead + Send>>;
/// Names and values.
pub(crate) type Attrs = Vec<(String, String)>;

/// The host of one attempt: its children, its log and its record.
///
/// The grant is checked before any method is called. Every instance of the attempt may call every
/// method, including the instances that follow a crash.
pub(crate) trait AttemptHost: Send + Sync + 'static {
    /// Starts a child; returns when its identity is on disk.
    fn spawn(&self, spec: SpawnSpec) -> BoxFuture<'_, Result<ChildRef, Failure>>;
    /// All children of this attempt, in the order of their start.
    fn children(&self) -> Vec<ChildRef>;
    fn output(&self, child: &ChildRef, channel: Channel, from_offset: u64) -> Output;
    /// Signals the child's process group; does nothing if the child has ended.
    fn signal(&self, child: &ChildRef, signal: Signal) -> Result<(), Failure>;
    fn wait(&self, child: &ChildRef) -> BoxFuture<'_, Result<ChildExit, Failure>>;
    /// Returns when no child is alive, and none may be started but by a [`Self::spawn`] that waits,
    /// which is given up with its instance. This is only for an attempt that is being stopped, and
    /// that can start no other child.
    fn all_ended(&self) -> BoxFuture<'_, ()>;
    /// Reports progress of the attempt; `data` is JSON, at most 64 KiB.
    fn progress(&self, kind: &str, data: &str);
    /// Stores a state; returns when the state is on disk. `run` remembers the state too, for a
    /// resume in this process.
    fn checkpoint(&self, state: Vec<u8>) -> BoxFuture<'_, Result<(), Failure>>;
    /// Writes a line to the host's log. The line must have no control characters and at most 16
    /// KiB.
    fn log(&self, level: LogLevel, message: &str);
}

/// A child's output from an offset on, up to its end or the next gap.
pub(crate) struct Output {
    pub(crate) reader: OutputReader,
    /// The number of bytes missing where the reader ended; 0 if it reached the end of the output.
    /// To be read after the reader's end. Missing bytes count in the offsets.
    pub(crate) gap: Arc<AtomicU64>,
}

/// A child's id, unique on this machine.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct ChildRef(String);

impl ChildRef {
    pub(crate) fn new(id: impl Into<String>) -> ChildRef {
        ChildRef(id.into())
    }
}

impl fmt::Display for ChildRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A child to start. The grant allows the command, and no string here has a NUL byte.
#[derive(Debug)]
pub(crate) struct SpawnSpec {
    /// An absolute path, or a name to look up on the task's `PATH`.
    pub(crate) command: String,
    pub(crate) args: Vec<String>,
    /// An absolute path; by default the task's own directory.
    pub(crate) cwd: Option<String>,
    /// Variables to set in addition to the task's environment.
    pub(crate) env: Attrs,
    pub(crate) env_remove: EnvRemove,
    pub(crate) stdin: Stdin,
}

/// Variables of the task's environment that a child does not get.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum EnvRemove {
    Names(Vec<String>),
    Everything,
}

/// The standard input of a child.
#[derive(Debug)]
pub(crate) enum Stdin {
    Empty,
    Bytes(Vec<u8>),
    Stream(InputStream),
}

/// A stream from a guest to a child. If the stream is dropped, the guest's next write fails,
/// because nobody reads any more.
#[derive(Debug)]
pub(crate) struct InputStream {
    pieces: mpsc::Receiver<Vec<u8>>,
    ended: Arc<AtomicBool>,
}

/// The next piece of an [`InputStream`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum InputPiece {
    Bytes(Vec<u8>),
    /// The guest has written everything.
    End,
    /// The instance was lost before the end.
    BrokenOff,
}

impl InputStream {
    /// If the input is complete, `ended` must be set before the sender of `pieces` is dropped.
    pub(crate) fn new(pieces: mpsc::Receiver<Vec<u8>>, ended: Arc<AtomicBool>) -> InputStream {
        InputStream { pieces, ended }
    }

    /// The number of pieces that wait to be read.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.pieces.len()
    }

    /// The next piece; repeats the end once it is reached.
    pub(crate) async fn next(&mut self) -> InputPiece {
        match self.pieces.recv().await {
            Some(bytes) => InputPiece::Bytes(bytes),
            None if self.ended.load(Ordering::Acquire) => InputPiece::End,
            None => InputPiece::BrokenOff,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Channel {
    Stdout,
    Stderr,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    Hup,
    Int,
    Kill,
    Term,
    Usr1,
    Usr2,
}

impl Signal {
    /// Parses a name of the contract.
    pub(crate) fn parse(name: &str) -> Option<Signal> {
        Some(match name {
            "HUP" => Signal::Hup,
            "INT" => Signal::Int,
            "KILL" => Signal::Kill,
            "TERM" => Signal::Term,
            "USR1" => Signal::Usr1,
            "USR2" => Signal::Usr2,
            _ => return None,
        })
    }
}

/// How a child ended: by an exit code or a signal. Both are `None` only if the end is unknown; an
/// unknown end is never reported as code 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ChildExit {
    pub(crate) code: Option<i32>,
    pub(crate) signal: Option<i32>,
    pub(crate) usage: Usage,
}

/// The resources that a child used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) wall: Duration,
    pub(crate) cpu: Option<Duration>,
    pub(crate) peak_rss_bytes: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogLevel {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
}

/// Why a request failed, in the terms of the contract.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// A reason class, or `denied`. It is a string because the set of classes may grow; the engine
    /// reads an unknown class as `plugin`.
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) retryable: bool,
    pub(crate) retry_after: Option<Duration>,
    pub(crate) extra: Attrs,
}

impl Failure {
    /// A failure that must not be retried, because a repeated call would fail again.
    pub(crate) fn new(code: &str, message: impl Into<String>) -> Failure {
        Failure {
            code: code.into(),
            message: message.into(),
            retryable: false,
            retry_after: None,
            extra: Vec::new(),
        }
    }
}

/// A fault of a document: a JSON Pointer and a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Issue {
    pub(crate) path: String,
    pub(crate) message: String,
}

/// A task that is not accepted yet, as it is shown to its executor.
#[derive(Debug, Clone)]
pub(crate) struct Draft {
    /// A JSON document.
    pub(crate) spec: String,
    /// The variables of the task's environment that the executor may see, as [`super::visible`]
    /// selects them.
    pub(crate) env: Attrs,
    /// The directory in which the task would work; its worktree is not made yet.
    pub(crate) workspace: String,
    pub(crate) labels: Attrs,
}

/// An attempt, as it is described to the guest.
#[derive(Debug, Clone)]
pub(crate) struct GuestTask {
    pub(crate) id: String,
    pub(crate) attempt: u32,
    /// A JSON document.
    pub(crate) spec: String,
    pub(crate) workspace: String,
    /// The task's `PATH`, by which granted commands are looked up. This `PATH` is not passed to the
    /// guest.
    pub(crate) path: Option<String>,
    pub(crate) env: Attrs,
    pub(crate) labels: Attrs,
    pub(crate) previous: Option<PreviousAttempt>,
    /// The most that the attempt may cost.
    pub(crate) budget_micro_usd: Option<u64>,
}

#[derive(Debug, Clone)]
pub(crate) struct PreviousAttempt {
    pub(crate) number: u32,
    pub(crate) outcome: String,
    pub(crate) class: String,
    /// A JSON object.
    pub(crate) outputs: String,
    /// The message with which the new attempt was asked to continue from this attempt.
    pub(crate) resume: Option<String>,
}

/// The way in which an attempt begins.
#[derive(Debug, Clone)]
pub(crate) enum Start {
    Fresh,
    /// From the last checkpoint, which is empty if none was stored.
    Resume(Vec<u8>),
}

/// A request to the running instance to end.
#[derive(Debug, Clone)]
pub(crate) struct StopRequest {
    /// `cancelled` or `timed_out`.
    pub(crate) reason: String,
    /// The time after which the instance is dropped, unless a child may still be alive then.
    pub(crate) grace: Duration,
    /// The least time that the instance has once no child is alive: only the instance can tell what
    /// the children have done. If their supervisor is suspended, the children may have ended before
    /// the stop, and nobody knows it until the supervisor continues.
    pub(crate) last_words: Duration,
}

/// How an attempt ended, as its executor sees it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct GuestOutcome {
    /// `success`, or a reason class.
    pub(crate) cause: String,
    pub(crate) code: Option<i32>,
    pub(crate) signal: Option<i32>,
    pub(crate) summary: String,
    /// A JSON object; this was checked.
    pub(crate) outputs: String,
    pub(crate) retry_after: Option<Duration>,
    pub(crate) metrics: Vec<(String, f64)>,
}

/// Whether the program that a plugin drives is on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Health {
    pub(crate) state: HealthState,
    pub(crate) message: String,
    pub(crate) attributes: Attrs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HealthState {
    Healthy,
    Unhealthy,
    Undetected,
}

impl fmt::Display for HealthState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            HealthState::Healthy => "healthy",
            HealthState::Unhealthy => "unhealthy",
            HealthState::Undetected => "undetected",
        })
    }
}

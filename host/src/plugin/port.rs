//! What an attempt needs from outside, and the words in which a plugin is spoken to.
//!
//! These types belong to no version of the contract: each version has a module that converts to
//! them at once, so nothing else of the host knows which version a component was built for.

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
/// The bytes of one channel of a child, in order. It ends where the child has ended and all was
/// read, and where the cap has left out bytes, which are then counted in [`Output::gap`].
pub(crate) type OutputReader = Pin<Box<dyn AsyncRead + Send>>;
/// Names and values.
pub(crate) type Attrs = Vec<(String, String)>;

/// What stands behind one attempt: its children, its log and its record.
///
/// The grant is checked before any of this is called. Every method may be called from any instance
/// of the attempt, one after another when the plugin crashed between.
pub(crate) trait AttemptHost: Send + Sync + 'static {
    /// Starts a child; returns when its identity is on disk.
    fn spawn(&self, spec: SpawnSpec) -> BoxFuture<'_, Result<ChildRef, Failure>>;
    /// All children of this attempt, in the order of their start.
    fn children(&self) -> Vec<ChildRef>;
    fn output(&self, child: &ChildRef, channel: Channel, from_offset: u64) -> Output;
    /// To the child's process group; nothing happens to a child that has ended.
    fn signal(&self, child: &ChildRef, signal: Signal) -> Result<(), Failure>;
    fn wait(&self, child: &ChildRef) -> BoxFuture<'_, Result<ChildExit, Failure>>;
    /// Something the attempt tells; `data` is JSON, at most 64 KiB.
    fn progress(&self, kind: &str, data: &str);
    /// Returns when the state is on disk. The run layer remembers it too, for a resume in this
    /// process.
    fn checkpoint(&self, state: Vec<u8>) -> BoxFuture<'_, Result<(), Failure>>;
    /// A line for the host's log, free of control characters, at most 16 KiB.
    fn log(&self, level: LogLevel, message: &str);
}

/// A child's output from an offset on, up to its end or the next gap.
pub(crate) struct Output {
    pub(crate) reader: OutputReader,
    /// To be looked at when the reader has ended: how many bytes were left out at that place. They
    /// count in the offsets. 0: it was the end.
    pub(crate) gap: Arc<AtomicU64>,
}

/// A child's id, unique on the node.
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

/// A child to be started. The command is allowed, and no text in it has a NUL byte.
#[derive(Debug)]
pub(crate) struct SpawnSpec {
    /// An absolute path, or a name for the task's `PATH`.
    pub(crate) command: String,
    pub(crate) args: Vec<String>,
    /// Absolute; the task's own directory where there is none.
    pub(crate) cwd: Option<String>,
    /// Set over the task's environment.
    pub(crate) env: Attrs,
    pub(crate) env_remove: EnvRemove,
    pub(crate) stdin: Stdin,
}

/// What a child does not get of the task's environment.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum EnvRemove {
    Names(Vec<String>),
    Everything,
}

/// What a child reads.
#[derive(Debug)]
pub(crate) enum Stdin {
    Empty,
    Bytes(Vec<u8>),
    Stream(InputStream),
}

/// What a guest streams to a child. To drop it tells the guest that nothing reads any more.
#[derive(Debug)]
pub(crate) struct InputStream {
    pieces: mpsc::Receiver<Vec<u8>>,
    ended: Arc<AtomicBool>,
}

/// The next of an [`InputStream`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum InputPiece {
    Bytes(Vec<u8>),
    /// The guest has written all of it.
    End,
    /// The instance was lost before.
    BrokenOff,
}

impl InputStream {
    /// `ended` is set before the sender goes, if the input is complete then.
    pub(crate) fn new(pieces: mpsc::Receiver<Vec<u8>>, ended: Arc<AtomicBool>) -> InputStream {
        InputStream { pieces, ended }
    }

    /// How many pieces wait to be read.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.pieces.len()
    }

    /// The same again and again after the last.
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
    /// The contract's names.
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

/// How a child ended. Both are missing only where neither is known; a missing code is never 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ChildExit {
    pub(crate) code: Option<i32>,
    pub(crate) signal: Option<i32>,
    pub(crate) usage: Usage,
}

/// What a child used.
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

/// Why something could not be done, in the words of the contract.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// A reason class, or `denied`. It stays text here, because the set may grow; the engine reads
    /// an unknown one as `plugin`.
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) retryable: bool,
    pub(crate) retry_after: Option<Duration>,
    pub(crate) extra: Attrs,
}

impl Failure {
    /// One that the same call will meet again.
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

/// One fault of a document: a JSON Pointer and a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Issue {
    pub(crate) path: String,
    pub(crate) message: String,
}

/// A task that nobody has accepted yet, as an executor is asked about it.
#[derive(Debug, Clone)]
pub(crate) struct Draft {
    /// JSON.
    pub(crate) spec: String,
    /// Those variables of its environment that the executor may see: see [`super::visible`].
    pub(crate) env: Attrs,
    /// Where it would work; a worktree of its own is not made yet.
    pub(crate) workspace: String,
    pub(crate) labels: Attrs,
}

/// An attempt as the guest is told of it.
#[derive(Debug, Clone)]
pub(crate) struct GuestTask {
    pub(crate) id: String,
    pub(crate) attempt: u32,
    /// JSON.
    pub(crate) spec: String,
    pub(crate) workspace: String,
    /// The task's `PATH`, by which commands that were granted by name are found. The guest is not
    /// told.
    pub(crate) path: Option<String>,
    pub(crate) env: Attrs,
    pub(crate) labels: Attrs,
    pub(crate) previous: Option<PreviousAttempt>,
    /// What it may cost at most.
    pub(crate) budget_micro_usd: Option<u64>,
}

#[derive(Debug, Clone)]
pub(crate) struct PreviousAttempt {
    pub(crate) number: u32,
    pub(crate) outcome: String,
    pub(crate) class: String,
    /// A JSON object.
    pub(crate) outputs: String,
    /// What was said when this attempt was asked to go on from that one.
    pub(crate) resume: Option<String>,
}

/// How an attempt begins.
#[derive(Debug, Clone)]
pub(crate) enum Start {
    Fresh,
    /// From the last checkpoint; empty where there was none.
    Resume(Vec<u8>),
}

/// Asks the running instance to end.
#[derive(Debug, Clone)]
pub(crate) struct StopRequest {
    /// `cancelled` or `timed_out`.
    pub(crate) reason: String,
    /// The instance is dropped when this has passed.
    pub(crate) grace: Duration,
}

/// How an attempt ended, as its executor sees it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct GuestOutcome {
    /// `success`, or a reason class.
    pub(crate) cause: String,
    pub(crate) code: Option<i32>,
    pub(crate) signal: Option<i32>,
    pub(crate) summary: String,
    /// A JSON object; that it is one was checked.
    pub(crate) outputs: String,
    pub(crate) retry_after: Option<Duration>,
    pub(crate) metrics: Vec<(String, f64)>,
}

/// Whether what a plugin drives is on this machine.
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

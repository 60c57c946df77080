//! The data that host and supervisor exchange: plain types with parsing and checks only.
//!
//! These types are deliberately not the domain's: the protocol outlives a release (a new host talks
//! to an old supervisor), so the data on the wire must not change because a domain type does. The
//! engine converts between the two.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::bounds::Bounds;

/// The key of an attempt, `<task id>.<number>`, or of a command that the host runs, which a
/// supervisor treats like an attempt. The key is also the value of the marker variable,
/// `CLAUDINE_ATTEMPT`, of the attempt's processes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct AttemptKey(String);

/// The character between the owner of a command that the host runs and the command's name.
const COMMAND: char = '+';

impl AttemptKey {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The key of a command that the host runs.
    pub(crate) fn of_command(owner: impl fmt::Display, name: &str) -> Self {
        Self(format!("{owner}{COMMAND}{name}"))
    }

    /// The owner and the name of a command that the host runs, if the key belongs to one.
    pub(crate) fn command(&self) -> Option<(&str, &str)> {
        self.0.split_once(COMMAND)
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AttemptKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A child of an attempt, counted from 0; written `<attempt id>/<index>`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct ChildId {
    attempt: AttemptKey,
    index: u16,
}

impl ChildId {
    pub(crate) fn new(attempt: AttemptKey, index: u16) -> Self {
        Self { attempt, index }
    }

    pub(crate) fn attempt(&self) -> &AttemptKey {
        &self.attempt
    }

    pub(crate) fn index(&self) -> u16 {
        self.index
    }
}

impl fmt::Display for ChildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.attempt, self.index)
    }
}

/// The error for a string that is not a child id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a child id, which has the form ATTEMPT/INDEX")]
pub(crate) struct BadChildId(String);

impl FromStr for ChildId {
    type Err = BadChildId;

    fn from_str(text: &str) -> Result<Self, BadChildId> {
        let (attempt, index) = text
            .rsplit_once('/')
            .ok_or_else(|| BadChildId(text.to_owned()))?;
        let index = index.parse().map_err(|_| BadChildId(text.to_owned()))?;
        Ok(Self::new(AttemptKey::new(attempt), index))
    }
}

impl TryFrom<String> for ChildId {
    type Error = BadChildId;

    fn try_from(text: String) -> Result<Self, BadChildId> {
        text.parse()
    }
}

impl From<ChildId> for String {
    fn from(id: ChildId) -> Self {
        id.to_string()
    }
}

/// The signals that a child can be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Signal {
    Hup,
    Int,
    Quit,
    Term,
    Kill,
    Usr1,
    Usr2,
}

/// The error for a string that names no signal that can be sent to a child.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown signal `{0}`; use HUP, INT, QUIT, TERM, KILL, USR1 or USR2")]
pub(crate) struct UnknownSignal(String);

impl FromStr for Signal {
    type Err = UnknownSignal;

    fn from_str(text: &str) -> Result<Self, UnknownSignal> {
        Ok(match text.strip_prefix("SIG").unwrap_or(text) {
            "HUP" => Self::Hup,
            "INT" => Self::Int,
            "QUIT" => Self::Quit,
            "TERM" => Self::Term,
            "KILL" => Self::Kill,
            "USR1" => Self::Usr1,
            "USR2" => Self::Usr2,
            _ => return Err(UnknownSignal(text.to_owned())),
        })
    }
}

/// A step in stopping an attempt: a signal to its process groups, and the time before the next
/// step. KILL follows the last step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Rung {
    pub(crate) signal: Signal,
    #[serde(rename = "wait_ms", with = "millis")]
    pub(crate) wait: Duration,
}

/// The standard input of a child.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Stdin {
    /// `/dev/null`.
    Empty,
    /// A file that is complete before the start.
    File(PathBuf),
    /// A pipe into which the host writes: see [`super::Supervisors::feed`]. Not sent to a
    /// supervisor that does not know this variant.
    Stream,
}

/// Everything that the supervisor needs to start a child and to look after it without a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StartChild {
    pub(crate) child: ChildId,
    /// The command and its arguments; a name without a slash is looked up on the child's own
    /// `PATH`.
    pub(crate) argv: Vec<String>,
    pub(crate) cwd: PathBuf,
    /// A file of NUL-separated `NAME=VALUE`. The supervisor reads the file itself, so 2,000 tasks
    /// with the same environment send only its path each.
    pub(crate) env_file: Option<PathBuf>,
    /// The names of variables in the file that the child does not get; a single `*` means all.
    #[serde(default)]
    pub(crate) env_remove: Vec<String>,
    /// Variables to set after the removal.
    #[serde(default)]
    pub(crate) env_set: Vec<(String, String)>,
    /// The umask; by default the supervisor's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) umask: Option<u16>,
    /// Limits and niceness; by default the supervisor's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) bounds: Option<Bounds>,
    pub(crate) stdin: Stdin,
    /// The attempt's output log, the same for all its children; it is created with the first byte.
    pub(crate) log: PathBuf,
    /// The most bytes of output that are kept.
    pub(crate) cap_bytes: u64,
    /// The time left until the attempt's hard deadline. It replaces the deadline that an earlier
    /// child of the attempt brought.
    #[serde(rename = "timeout_ms", default, with = "millis_option")]
    pub(crate) timeout: Option<Duration>,
    /// The longest time that the attempt may go without output.
    #[serde(rename = "idle_timeout_ms", default, with = "millis_option")]
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) ladder: Vec<Rung>,
}

/// Why an attempt is being stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StopWhy {
    Cancelled,
    /// The attempt's hard deadline passed.
    TimedOut,
    /// The attempt went too long without output.
    Idle,
    /// The executor finished the attempt while a child of it still ran.
    Finished,
    /// The supervisor has to end, because of a signal or because its directory was removed.
    Shutdown,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Status {
    Code(i32),
    Signal(i32),
}

/// The resources that a child used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Usage {
    pub(crate) wall_ms: u64,
    /// User and system time of the child, including its descendants that were waited for.
    pub(crate) cpu_ms: u64,
    /// The peak memory: the larger of two values, or `None` if neither is known.
    ///
    /// The first is the kernel's maximum for one process (the leader, or a descendant that was
    /// waited for). It counts only if it is more than the supervisor's own memory, which the kernel
    /// counts as the child's until the child executes its program.
    ///
    /// The second is the largest sum over the attempt's processes, sampled twice a second; it can
    /// miss a peak that is shorter than half a second.
    ///
    /// `None` is sent as 0, which every version can read.
    #[serde(with = "zero_is_none")]
    pub(crate) peak_rss_bytes: Option<u64>,
}

/// The end of a child's leader.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Exit {
    pub(crate) pid: u32,
    /// In clock ticks since boot, as in `/proc/PID/stat`.
    pub(crate) start_time: u64,
    pub(crate) status: Status,
    pub(crate) usage: Usage,
    /// The reason of a stop that had begun before the child ended.
    pub(crate) stopped: Option<StopWhy>,
    /// Whether the child was killed because its input broke off.
    #[serde(default)]
    pub(crate) input_broke_off: bool,
    pub(crate) stdout_bytes: u64,
    pub(crate) stderr_bytes: u64,
}

#[cfg(test)]
impl Exit {
    /// The end of process 7, which used nothing and wrote nothing.
    pub(crate) fn sample(status: Status) -> Self {
        Self {
            pid: 7,
            start_time: 1,
            status,
            usage: Usage::default(),
            stopped: None,
            input_broke_off: false,
            stdout_bytes: 0,
            stderr_bytes: 0,
        }
    }
}

/// Why a child could not be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum NotStartedClass {
    CommandNotFound,
    NotExecutable,
    Cwd,
    /// The argument list is too long or empty, or contains a NUL byte.
    Invalid,
    /// The machine has no free processes, descriptors or memory. A later start may succeed.
    Resource,
    /// The environment or the stdin file could not be read.
    Input,
    /// The attempt was being stopped or was finished already.
    Stopped,
    /// No supervisor could be started, or the supervisor ended before it had received the start, or
    /// it is ending. Another supervisor may start the child.
    Supervisor,
    /// The attempt has output that no child of this supervisor has written, so it was started
    /// before.
    StartedBefore,
}

mod millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        u64::deserialize(from).map(Duration::from_millis)
    }
}

mod zero_is_none {
    use serde::{Deserialize, Deserializer, Serializer};

    #[allow(
        clippy::ref_option,
        clippy::trivially_copy_pass_by_ref,
        reason = "serde passes a reference to the field"
    )]
    pub(super) fn serialize<S: Serializer>(number: &Option<u64>, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(number.unwrap_or(0))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
        Ok(Some(u64::deserialize(from)?).filter(|number| *number > 0))
    }
}

mod millis_option {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    #[allow(clippy::ref_option, reason = "serde passes a reference to the field")]
    pub(super) fn serialize<S: Serializer>(
        duration: &Option<Duration>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => super::millis::serialize(duration, to),
            None => to.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<u64>::deserialize(from)?.map(Duration::from_millis))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn child_ids_are_parsed_and_printed_in_the_same_form() {
        let check = |text: &str, expected: Option<(&str, u16)>| {
            let parsed = text.parse::<ChildId>().ok();
            assert_eq!(
                parsed
                    .as_ref()
                    .map(|id| (id.attempt().as_str(), id.index())),
                expected,
                "{text}"
            );
            if let Some(id) = parsed {
                assert_eq!(id.to_string(), text);
            }
        };
        check("task_0.1/0", Some(("task_0.1", 0)));
        check("task_0.1/65535", Some(("task_0.1", 65535)));
        check("task_0.1/65536", None);
        check("task_0.1", None);
        check("task_0.1/", None);
        check("task_0.1/-1", None);
    }

    #[test]
    fn an_unknown_peak_is_sent_as_zero() {
        let check = |peak_rss_bytes: Option<u64>, text: &str| {
            let usage = Usage {
                peak_rss_bytes,
                ..Usage::default()
            };
            assert_eq!(serde_json::to_string(&usage).unwrap(), text);
            assert_eq!(serde_json::from_str::<Usage>(text).unwrap(), usage);
        };
        check(None, r#"{"wall_ms":0,"cpu_ms":0,"peak_rss_bytes":0}"#);
        check(Some(7), r#"{"wall_ms":0,"cpu_ms":0,"peak_rss_bytes":7}"#);
    }

    #[test]
    fn durations_are_sent_as_milliseconds() {
        let rung = Rung {
            signal: Signal::Term,
            wait: Duration::from_secs(5),
        };
        assert_eq!(
            serde_json::to_string(&rung).unwrap(),
            r#"{"signal":"TERM","wait_ms":5000}"#
        );
    }
}

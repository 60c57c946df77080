//! How a child ended, and its resource use.

use std::fmt;
use std::time::Duration;

use crate::bindings::claudine::plugin::{children, types};

/// How a child ended: with a code or by a signal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExitStatus {
    /// Exit code. `None` must never be treated as 0.
    pub code: Option<i32>,
    /// Number of the signal that killed the child.
    pub signal: Option<i32>,
    /// Resource use of the child.
    pub usage: Usage,
}

impl ExitStatus {
    /// Whether the child exited with code 0.
    pub fn success(&self) -> bool {
        self.code == Some(0) && self.signal.is_none()
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.signal, self.code) {
            (Some(number), _) => match signal_name(number) {
                Some(name) => write!(f, "killed by signal {number} ({name})"),
                None => write!(f, "killed by signal {number}"),
            },
            (None, Some(code)) => write!(f, "exited with code {code}"),
            (None, None) => f.write_str("ended with an unknown status"),
        }
    }
}

/// Names of the signals that have the same number on every Unix, and of other common ones.
fn signal_name(number: i32) -> Option<&'static str> {
    Some(match number {
        1 => "HUP",
        2 => "INT",
        3 => "QUIT",
        4 => "ILL",
        5 => "TRAP",
        6 => "ABRT",
        8 => "FPE",
        9 => "KILL",
        11 => "SEGV",
        13 => "PIPE",
        14 => "ALRM",
        15 => "TERM",
        24 => "XCPU",
        25 => "XFSZ",
        31 => "SYS",
        _ => return None,
    })
}

/// Resource use of a child, as the kernel counted it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Time from the start of the child to its end.
    pub wall: Duration,
    /// User and system time of the child, and of its descendants that were waited for.
    pub cpu: Option<Duration>,
    /// The larger of two peaks of resident memory: of one process, as the kernel counted it, and of
    /// the whole attempt, as it was sampled twice a second. `None` if both are unknown: the
    /// kernel's count is known only for a child that is larger than the process that started it (a
    /// few MiB), and a short child may end before it is sampled.
    pub peak_rss_bytes: Option<u64>,
}

impl From<children::ExitStatus> for ExitStatus {
    fn from(status: children::ExitStatus) -> Self {
        Self {
            code: status.code,
            signal: status.signal,
            usage: status.usage.into(),
        }
    }
}

impl From<types::Usage> for Usage {
    fn from(usage: types::Usage) -> Self {
        Self {
            wall: Duration::from_millis(usage.wall_ms),
            cpu: usage.cpu_ms.map(Duration::from_millis),
            peak_rss_bytes: usage.peak_rss_bytes,
        }
    }
}

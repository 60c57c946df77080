//! A tag that a process passes on to its descendants: the soft limit on the number of file locks, a
//! limit that no kernel since 2.4 enforces. A process loses the tag only if a program sets this
//! limit again, as `su` does if PAM sets all limits.
//!
//! Other marks are lost more easily. The marker in the environment is lost with the environment
//! (`env -i`, `sudo`, a daemon that overwrites its environment with its title). `setsid` changes
//! the session and the group, and the parent changes when the parent ends. In contrast, a limit is
//! inherited at each fork and exec, and `/proc` shows it for other users' processes too.

use std::io;

use rustix::process::{Pid, Resource, Rlimit};

use crate::fsx;
use crate::proc_stat::unless_no_room;

/// The first byte of a tag is its kind. It also distinguishes a tag from a limit that somebody else
/// has set.
const ATTEMPT: u8 = 0x5a;
const HOST: u8 = 0x5b;
/// The bits after the first byte.
const REST: u64 = (1 << 56) - 1;

/// The ancestor that a tag names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::supervise) enum Tag {
    /// An attempt, by the number of its supervisor and the number that the supervisor gave it.
    Attempt { supervisor: u32, attempt: u32 },
    /// A command that the host of a data directory ran itself.
    Host { file: u64 },
}

/// The 24 bits that identify a supervisor. The pid alone is not enough: another supervisor can have
/// the same pid after the death of this one, or in another pid namespace that this process can see
/// into.
pub(in crate::supervise) fn supervisor_number(pid: u32, start_time: u64) -> u32 {
    let both = start_time.rotate_left(22) ^ u64::from(pid);
    // The upper bits of this product depend on all bits of both numbers.
    let mixed = both.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    u32::try_from(mixed).unwrap_or_default()
}

impl Tag {
    /// The tag of the hosts of a data directory, made of the file system and inode of a file in it.
    pub(in crate::supervise) fn of_host(device: u64, inode: u64) -> Self {
        Self::Host {
            file: (inode ^ device.rotate_left(32)) & REST,
        }
    }

    /// The tag of a supervisor itself, which belongs to no attempt.
    pub(in crate::supervise) fn of_supervisor(pid: u32, start_time: u64) -> Self {
        Self::Attempt {
            supervisor: supervisor_number(pid, start_time),
            attempt: u32::MAX,
        }
    }

    /// Tags everything that this process starts from now on. Fails if the hard limit is too low.
    pub(in crate::supervise) fn hand_on(self) -> io::Result<()> {
        self.give_to(None)
    }

    /// Tags the process with this pid, or the calling process if `None`.
    fn give_to(self, pid: Option<Pid>) -> io::Result<()> {
        let limit = Rlimit {
            current: Some(self.number()),
            ..rustix::process::getrlimit(Resource::Locks)
        };
        rustix::process::prlimit(pid, Resource::Locks, limit)?;
        Ok(())
    }

    /// The tag of a process; `None` if the process has no tag, has ended or cannot be looked at. An
    /// error if there is no room to look at it.
    pub(in crate::supervise) fn of(pid: u32) -> io::Result<Option<Self>> {
        let limits = fsx::read_virtual_text(format!("/proc/{pid}/limits"));
        let limits = unless_no_room(limits.map(Some))?;
        Ok(limits.and_then(|limits| Self::read(&limits)))
    }

    fn number(self) -> u64 {
        match self {
            Self::Attempt {
                supervisor,
                attempt,
            } => u64::from(ATTEMPT) << 56 | u64::from(supervisor) << 32 | u64::from(attempt),
            Self::Host { file } => u64::from(HOST) << 56 | file,
        }
    }

    fn read(limits: &str) -> Option<Self> {
        let line = limits
            .lines()
            .find_map(|line| line.strip_prefix("Max file locks"))?;
        // `unlimited` is not a tag, and fails to parse here.
        let soft: u64 = line.split_ascii_whitespace().next()?.parse().ok()?;
        let [kind, ..] = soft.to_be_bytes();
        match kind {
            ATTEMPT => Some(Self::Attempt {
                supervisor: u32::try_from((soft & REST) >> 32).ok()?,
                attempt: u32::try_from(soft & u64::from(u32::MAX)).ok()?,
            }),
            HOST => Some(Self::Host { file: soft & REST }),
            _ => None,
        }
    }
}

/// Starts a shell and tags it. The script must begin with a `read`, so that the shell does nothing
/// before it is tagged.
#[cfg(test)]
#[allow(clippy::expect_used, reason = "a test fails by panicking")]
pub(in crate::supervise) fn tagged(tag: Tag, script: &str) -> std::process::Child {
    use std::io::Write;
    use std::process::{Command, Stdio};
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("the shell starts");
    let mut input = child.stdin.take().expect("stdin is a pipe");
    tag.give_to(Some(Pid::from_child(&child)))
        .expect("the hard limit is high enough");
    input.write_all(b"go\n").expect("the shell reads a line");
    child
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::io::{BufRead, BufReader};

    use super::*;

    #[test]
    fn limits_set_by_others_are_not_taken_for_tags() {
        let check = |soft: &str, expected: Option<Tag>| {
            let limits = format!(
                "Limit                     Soft Limit           Hard Limit           Units     \n\
                 Max address space         unlimited            unlimited            bytes     \n\
                 Max file locks            {soft:<20} unlimited            locks     \n"
            );
            assert_eq!(Tag::read(&limits), expected, "{soft}");
        };
        for none in ["unlimited", "0", "4294967296", "9223372036854775807"] {
            check(none, None);
        }
        for (supervisor, attempt) in [(7, 9), (0x00ff_ffff, u32::MAX)] {
            let tag = Tag::Attempt {
                supervisor,
                attempt,
            };
            check(&tag.number().to_string(), Some(tag));
        }
        for (device, inode) in [(0, 0), (8, 131_073), (u64::MAX, 2)] {
            let tag = Tag::of_host(device, inode);
            check(&tag.number().to_string(), Some(tag));
        }
        assert_ne!(Tag::of_host(8, 1), Tag::of_host(9, 1));
    }

    #[test]
    fn supervisors_with_the_same_pid_are_distinguished() {
        let numbers: std::collections::BTreeSet<u32> = (0..1_000)
            .map(|start_time| supervisor_number(30, start_time))
            .collect();
        assert_eq!(numbers.len(), 1_000);
        assert!(numbers.iter().all(|number| *number < 1 << 24));
        assert_ne!(supervisor_number(30, 7), supervisor_number(31, 7));
    }

    #[test]
    fn descendants_inherit_a_tag() {
        let tag = Tag::of_supervisor(std::process::id(), 1);
        let script = "read go; setsid env -i sleep 1000 > /dev/null & echo $!; wait";
        let mut child = tagged(tag, script);
        let mut line = String::new();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        output.read_line(&mut line).unwrap();
        let below: u32 = line.trim().parse().unwrap();
        let found = [child.id(), below].map(|pid| Tag::of(pid).unwrap());
        let below = Pid::from_raw(below.cast_signed()).unwrap();
        rustix::process::kill_process(below, rustix::process::Signal::KILL).unwrap();
        child.wait().unwrap();
        assert_eq!(found, [Some(tag); 2]);
    }
}

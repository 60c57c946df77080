//! A tag that a process hands on to all that descends from it, whatever these do: their soft limit
//! on file locks, which no kernel since 2.4 looks at.
//!
//! A marker in the environment is gone with the environment (`env -i`, `sudo`, a daemon that writes
//! its title over it), the session and the group with `setsid`, the parent with the parent's end. A
//! limit is handed on at each fork and exec, and `/proc` tells those of other users' processes too.

use std::fs;
use std::io;

use rustix::process::{Pid, Resource, Rlimit};

/// The first byte of a tag says what it is of, so that a limit which somebody else has set is none.
const ATTEMPT: u8 = 0x5a;
const HOST: u8 = 0x5b;
/// What comes after that byte.
const REST: u64 = (1 << 56) - 1;

/// What a process descends from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::supervise) enum Tag {
    /// An attempt, by the number of its supervisor and the one that this has given it.
    Attempt { supervisor: u32, attempt: u32 },
    /// A command that the host of a data directory has run itself.
    Host { file: u64 },
}

/// The 24 bits that stand for a supervisor. Its pid alone may be that of another one: after it has
/// died, and in each pid namespace that this one looks into.
pub(in crate::supervise) fn supervisor_number(pid: u32, start_time: u64) -> u32 {
    let both = start_time.rotate_left(22) ^ u64::from(pid);
    // The upper bits of this product depend on all bits of both.
    let mixed = both.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    u32::try_from(mixed).unwrap_or_default()
}

impl Tag {
    /// That of the hosts of a data directory, by the file system and the inode of a file in it.
    pub(in crate::supervise) fn of_host(device: u64, inode: u64) -> Self {
        Self::Host {
            file: (inode ^ device.rotate_left(32)) & REST,
        }
    }

    /// That of a supervisor itself: it is of none of its attempts.
    pub(in crate::supervise) fn of_supervisor(pid: u32, start_time: u64) -> Self {
        Self::Attempt {
            supervisor: supervisor_number(pid, start_time),
            attempt: u32::MAX,
        }
    }

    /// What this process starts from now on has the tag. An error where its hard limit is too low.
    pub(in crate::supervise) fn hand_on(self) -> io::Result<()> {
        self.give_to(None)
    }

    /// The same for another process; without one it is for this one.
    fn give_to(self, pid: Option<Pid>) -> io::Result<()> {
        let limit = Rlimit {
            current: Some(self.number()),
            ..rustix::process::getrlimit(Resource::Locks)
        };
        rustix::process::prlimit(pid, Resource::Locks, limit)?;
        Ok(())
    }

    /// Nothing of a process that has none, or is gone.
    pub(in crate::supervise) fn of(pid: u32) -> Option<Self> {
        Self::read(&fs::read_to_string(format!("/proc/{pid}/limits")).ok()?)
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
        // What is not limited is no number.
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

/// A shell that has a tag before it reads a line, which it does first.
#[cfg(test)]
#[allow(clippy::expect_used, reason = "a test fails by panicking")]
pub(in crate::supervise) fn tagged(tag: Tag, script: &str) -> std::process::Child {
    use std::io::Write;
    use std::process::{Command, Stdio};
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("sh is there");
    let mut input = child.stdin.take().expect("it is a pipe");
    tag.give_to(Some(Pid::from_child(&child)))
        .expect("the limit is high enough");
    input.write_all(b"go\n").expect("it reads a line");
    child
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::io::{BufRead, BufReader};

    use super::*;

    #[test]
    fn limits_of_others_are_no_tags() {
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
    fn supervisors_with_one_pid_are_told_apart() {
        let numbers: std::collections::BTreeSet<u32> = (0..1_000)
            .map(|start_time| supervisor_number(30, start_time))
            .collect();
        assert_eq!(numbers.len(), 1_000);
        assert!(numbers.iter().all(|number| *number < 1 << 24));
        assert_ne!(supervisor_number(30, 7), supervisor_number(31, 7));
    }

    #[test]
    fn a_tag_is_handed_on() {
        let tag = Tag::of_supervisor(std::process::id(), 1);
        let script = "read go; setsid env -i sleep 1000 > /dev/null & echo $!; wait";
        let mut child = tagged(tag, script);
        let mut line = String::new();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        output.read_line(&mut line).unwrap();
        let below: u32 = line.trim().parse().unwrap();
        let found = [child.id(), below].map(Tag::of);
        let below = Pid::from_raw(below.cast_signed()).unwrap();
        rustix::process::kill_process(below, rustix::process::Signal::KILL).unwrap();
        child.wait().unwrap();
        assert_eq!(found, [Some(tag); 2]);
    }
}

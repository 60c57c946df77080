//! A tag that a process hands on to all that descends from it, whatever these do: their soft limit
//! on file locks, which no kernel since 2.4 looks at.
//!
//! A marker in the environment is gone with the environment (`env -i`, `sudo`, a daemon that writes
//! its title over it), the session and the group with `setsid`, the parent with the parent's end. A
//! limit is handed on at each fork and exec, and `/proc` tells those of other users' processes too.

use std::fs;
use std::io;

use rustix::process::{Resource, Rlimit};

/// Set in each tag, so that a limit which somebody else has set is none.
const IS_TAG: u64 = 1 << 62;
const ATTEMPT_BITS: u32 = 32;

/// Which attempt of which supervisor a process descends from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::supervise) struct Tag {
    /// A pid, which has 22 bits at most.
    pub(in crate::supervise) supervisor: u32,
    /// The number that the supervisor has given it.
    pub(in crate::supervise) attempt: u32,
}

impl Tag {
    /// What this process starts from now on has the tag. An error where its hard limit is too low.
    pub(in crate::supervise) fn hand_on(self) -> io::Result<()> {
        let limit = Rlimit {
            current: Some(
                IS_TAG | u64::from(self.supervisor) << ATTEMPT_BITS | u64::from(self.attempt),
            ),
            ..rustix::process::getrlimit(Resource::Locks)
        };
        Ok(rustix::process::setrlimit(Resource::Locks, limit)?)
    }

    /// Nothing of a process that has none, or is gone.
    pub(in crate::supervise) fn of(pid: u32) -> Option<Self> {
        Self::read(&fs::read_to_string(format!("/proc/{pid}/limits")).ok()?)
    }

    fn read(limits: &str) -> Option<Self> {
        let line = limits
            .lines()
            .find_map(|line| line.strip_prefix("Max file locks"))?;
        // What is not limited is no number.
        let soft: u64 = line.split_ascii_whitespace().next()?.parse().ok()?;
        let supervisor = u32::try_from((soft & !IS_TAG) >> ATTEMPT_BITS).ok()?;
        let [.., a, b, c, d] = soft.to_be_bytes();
        (soft & IS_TAG != 0).then_some(Self {
            supervisor,
            attempt: u32::from_be_bytes([a, b, c, d]),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn limits_of_others_are_no_tags() {
        let check = |soft: &str, expected: Option<(u32, u32)>| {
            let limits = format!(
                "Limit                     Soft Limit           Hard Limit           Units     \n\
                 Max address space         unlimited            unlimited            bytes     \n\
                 Max file locks            {soft:<20} unlimited            locks     \n"
            );
            let found = Tag::read(&limits).map(|tag| (tag.supervisor, tag.attempt));
            assert_eq!(found, expected, "{soft}");
        };
        check("unlimited", None);
        check("0", None);
        check("4294967296", None);
        check("9223372036854775807", None);
        check(&(IS_TAG | 7 << 32 | 9).to_string(), Some((7, 9)));
        let last = IS_TAG | 0x003f_ffff << 32 | 0xffff_ffff;
        check(&last.to_string(), Some((0x003f_ffff, u32::MAX)));
    }

    #[test]
    fn a_tag_is_handed_on() {
        let tag = Tag {
            supervisor: std::process::id(),
            attempt: 3,
        };
        tag.hand_on().unwrap();
        let mut child = std::process::Command::new("sleep")
            .arg("1000")
            .env_clear()
            .spawn()
            .unwrap();
        let found = Tag::of(child.id());
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(found, Some(tag));
    }
}

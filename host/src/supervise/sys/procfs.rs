//! Reading `/proc`: which processes there are, whose children they are, and what marker they carry.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;

pub(in crate::supervise) use crate::proc_stat::{Stat, stat};

/// The marker every child carries, with the attempt's id as its value.
pub(in crate::supervise) const ATTEMPT_VARIABLE: &str = "CLAUDINE_ATTEMPT";
/// Carried by hosts and supervisors, and so by what they must outlive: such a process belongs to no
/// attempt.
pub(in crate::supervise) const DETACHED_VARIABLE: &str = "CLAUDINE_DETACHED";

/// What a process' initial environment says about where it belongs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(in crate::supervise) struct Marks {
    pub(in crate::supervise) attempt: Option<String>,
    pub(in crate::supervise) detached: bool,
}

/// The start time a process would have that is forked now, in the unit of [`Stat::start_time`].
///
/// A process forked between two equal readings has exactly that start time, and `/proc` need not be
/// asked, which costs as much as half a fork. A tick is ten milliseconds, so the readings are
/// nearly always equal.
pub(in crate::supervise) fn ticks_since_boot() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let per_second = rustix::param::clock_ticks_per_second();
    let nanoseconds = u64::try_from(now.tv_nsec).unwrap_or(0);
    u64::try_from(now.tv_sec).unwrap_or(0) * per_second + nanoseconds * per_second / 1_000_000_000
}

/// The most memory that this process has had resident.
pub(in crate::supervise) fn own_peak_rss_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// Every process there is. Some may have gone by the time the list is read.
pub(in crate::supervise) fn all() -> io::Result<Vec<Stat>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let pid = name.to_str().and_then(|name| name.parse().ok());
        found.extend(pid.and_then(stat));
    }
    Ok(found)
}

/// Nothing is found in the environment of a process that went, is a zombie, or belongs to another
/// user.
pub(in crate::supervise) fn marks(pid: u32) -> Marks {
    let Ok(environment) = fs::read(format!("/proc/{pid}/environ")) else {
        return Marks::default();
    };
    let mut marks = Marks::default();
    for variable in environment.split(|byte| *byte == 0) {
        let Some(equals) = variable.iter().position(|byte| *byte == b'=') else {
            continue;
        };
        let (name, value) = (&variable[..equals], &variable[equals + 1..]);
        if name == ATTEMPT_VARIABLE.as_bytes() {
            marks.attempt = Some(String::from_utf8_lossy(value).into_owned());
        } else if name == DETACHED_VARIABLE.as_bytes() {
            marks.detached = true;
        }
    }
    marks
}

/// The list of the calling thread's direct children, kept open: a look costs one read.
///
/// Zombies stay in it until they are reaped, and an orphan joins it in the instant its parent dies.
/// So a process that is alive below a sub-reaper implies an entry here, and a list without
/// strangers proves that nothing was left.
#[derive(Debug)]
pub(in crate::supervise) struct OwnChildren {
    file: File,
    buffer: Vec<u8>,
}

impl OwnChildren {
    pub(in crate::supervise) fn open() -> io::Result<Self> {
        Ok(Self {
            file: File::open("/proc/thread-self/children")?,
            buffer: vec![0; 4096],
        })
    }

    pub(in crate::supervise) fn read(&mut self) -> io::Result<Vec<u32>> {
        let mut length = 0;
        loop {
            if length == self.buffer.len() {
                self.buffer.resize(length * 2, 0);
            }
            match self
                .file
                .read_at(&mut self.buffer[length..], length as u64)?
            {
                0 => break,
                more => length += more,
            }
        }
        let text = String::from_utf8_lossy(&self.buffer[..length]);
        Ok(text
            .split_ascii_whitespace()
            .filter_map(|pid| pid.parse().ok())
            .collect())
    }
}

/// Of `processes`, those below `roots` (the roots included), without what is detached and what is
/// below that.
pub(in crate::supervise) fn below(processes: &[Stat], roots: &[u32]) -> Vec<Stat> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    let mut by_pid = HashMap::new();
    for process in processes {
        children
            .entry(process.parent)
            .or_default()
            .push(process.pid);
        by_pid.insert(process.pid, *process);
    }
    let mut found = Vec::new();
    let mut open: Vec<u32> = roots.to_vec();
    while let Some(pid) = open.pop() {
        // Taking it out keeps a list that was read while pids changed hands from sending this round
        // in circles.
        let Some(process) = by_pid.remove(&pid) else {
            continue;
        };
        if marks(pid).detached {
            continue;
        }
        found.push(process);
        open.extend(children.get(&pid).into_iter().flatten());
    }
    found
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn ticks_are_those_of_proc() {
        let before = ticks_since_boot();
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let start_time = stat(child.id()).unwrap().start_time;
        assert!(
            (before..=ticks_since_boot()).contains(&start_time),
            "{start_time} from {before} on"
        );
        child.wait().unwrap();
    }

    #[test]
    fn this_process_is_found() {
        let own = stat(std::process::id()).unwrap();
        assert!(own_peak_rss_bytes().unwrap() > 1 << 20);
        assert!(own.start_time > 0 && own.rss_pages > 0 && !own.is_zombie());
        assert!(
            all()
                .unwrap()
                .iter()
                .any(|stat| stat.pid == own.pid && stat.start_time == own.start_time)
        );
    }
}

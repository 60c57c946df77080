//! Reading `/proc`: who a process is, whose child, and what marker it carries.
//!
//! A pid alone names nobody, since pids return. Whoever keeps one across a wait keeps the start time with it.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

/// The marker every child carries, with the attempt's id as its value.
pub(in crate::supervise) const ATTEMPT_VARIABLE: &str = "CLAUDINE_ATTEMPT";
/// Carried by hosts and supervisors, and so by what they must outlive: such a process belongs to no attempt.
pub(in crate::supervise) const DETACHED_VARIABLE: &str = "CLAUDINE_DETACHED";

/// The part of `/proc/PID/stat` that is used here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::supervise) struct Stat {
    pub(in crate::supervise) pid: u32,
    pub(in crate::supervise) zombie: bool,
    pub(in crate::supervise) parent: u32,
    pub(in crate::supervise) group: u32,
    pub(in crate::supervise) session: u32,
    /// In clock ticks since boot.
    pub(in crate::supervise) start_time: u64,
    pub(in crate::supervise) rss_pages: u64,
}

/// What a process' initial environment says about where it belongs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(in crate::supervise) struct Marks {
    pub(in crate::supervise) attempt: Option<String>,
    pub(in crate::supervise) detached: bool,
}

/// `None` where there is no such process (any more).
pub(in crate::supervise) fn stat(pid: u32) -> Option<Stat> {
    let mut file = File::open(format!("/proc/{pid}/stat")).ok()?;
    let mut buffer = [0; 1024];
    let length = file.read(&mut buffer).ok()?;
    parse_stat(pid, &buffer[..length])
}

/// The command's name stands in parentheses and may itself hold any byte, parentheses and line ends included; so the fields are
/// counted from the last closing one.
fn parse_stat(pid: u32, text: &[u8]) -> Option<Stat> {
    let after = text.iter().rposition(|byte| *byte == b')')? + 1;
    let rest = std::str::from_utf8(&text[after..]).ok()?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().take(22).collect();
    let number = |index: usize| {
        fields
            .get(index)
            .and_then(|field| field.parse::<u64>().ok())
    };
    let id = |index: usize| number(index).and_then(|value| u32::try_from(value).ok());
    Some(Stat {
        pid,
        zombie: matches!(*fields.first()?, "Z" | "X" | "x"),
        parent: id(1)?,
        group: id(2)?,
        session: id(3)?,
        start_time: number(19)?,
        rss_pages: number(21).unwrap_or(0),
    })
}

/// The start time a process would have that is forked now, in the unit of [`Stat::start_time`].
///
/// A process forked between two equal readings has exactly that start time, and `/proc` need not be asked, which costs as much as
/// half a fork. A tick is ten milliseconds, so the readings are nearly always equal.
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

/// Nothing is found in the environment of a process that went, is a zombie, or belongs to another user.
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
/// Zombies stay in it until they are reaped, and an orphan joins it in the instant its parent dies. So a process that is alive
/// below a sub-reaper implies an entry here, and a list without strangers proves that nothing was left.
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

/// Of `processes`, those below `roots` (the roots included), without what is detached and what is below that.
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
        // Taking it out keeps a list that was read while pids changed hands from sending this round in circles.
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
    fn a_command_name_cannot_shift_the_fields() {
        let text = b"7 (a) R 1 (b\n) S 3 4 5 0 -1 4194304 0 0 0 0 1 2 3 4 20 0 1 0 987 1000 55 18446744073709551615";
        let stat = parse_stat(7, text).unwrap();
        assert_eq!((stat.parent, stat.group, stat.session), (3, 4, 5));
        assert_eq!(
            (stat.start_time, stat.rss_pages, stat.zombie),
            (987, 55, false)
        );
    }

    #[test]
    fn a_cut_line_is_no_process() {
        assert_eq!(parse_stat(7, b"7 (a) S 3 4"), None);
        assert_eq!(parse_stat(7, b""), None);
    }

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
        assert!(own.start_time > 0 && own.rss_pages > 0 && !own.zombie);
        assert!(
            all()
                .unwrap()
                .iter()
                .any(|stat| stat.pid == own.pid && stat.start_time == own.start_time)
        );
    }
}

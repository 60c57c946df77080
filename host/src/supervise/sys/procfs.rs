//! Reads `/proc`: the processes that exist, their parents, and their markers.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::fsx::read_virtual;
#[cfg(test)]
pub(in crate::supervise) use crate::proc_stat::stat;
use crate::proc_stat::unless_no_room;
pub(in crate::supervise) use crate::proc_stat::{Stat, try_stat, unless_gone};

/// The marker that every child carries; its value is the key of the attempt, or of the command that
/// the host runs.
pub(in crate::supervise) const ATTEMPT_VARIABLE: &str = "CLAUDINE_ATTEMPT";
/// The marker of hosts and supervisors, and of the processes that they start to outlive them: such
/// a process belongs to no attempt.
pub(in crate::supervise) const DETACHED_VARIABLE: &str = "CLAUDINE_DETACHED";

/// The markers in a process's initial environment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(in crate::supervise) struct Marks {
    pub(in crate::supervise) attempt: Option<String>,
    pub(in crate::supervise) detached: bool,
}

/// The pid namespace of this process.
pub(in crate::supervise) fn own_pid_namespace() -> Option<String> {
    let link = fs::read_link("/proc/self/ns/pid").ok()?;
    Some(link.to_string_lossy().into_owned())
}

/// Whether a process is in another time namespace, in which `/proc` shows other start times.
/// `false` if this cannot be seen.
pub(in crate::supervise) fn has_other_times(pid: u32) -> bool {
    let of = |process: &str| fs::read_link(format!("/proc/{process}/ns/time")).ok();
    let (own, other) = (of("self"), of(&pid.to_string()));
    own.is_some() && other.is_some() && own != other
}

/// The start time of a process that is forked now, in the unit of [`Stat::start_time`].
///
/// A process that is forked between two equal readings has exactly that start time. So `/proc` need
/// not be read, which would cost half as much as the fork. A tick is ten milliseconds, so the
/// readings are nearly always equal.
pub(in crate::supervise) fn ticks_since_boot() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let per_second = rustix::param::clock_ticks_per_second();
    let nanoseconds = u64::try_from(now.tv_nsec).unwrap_or(0);
    u64::try_from(now.tv_sec).unwrap_or(0) * per_second + nanoseconds * per_second / 1_000_000_000
}

/// The peak resident memory of this process.
pub(in crate::supervise) fn own_peak_rss_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// All processes. Some may have ended by the time the list is read. An error if there is no room to
/// look at one of them.
pub(in crate::supervise) fn all() -> io::Result<Vec<Stat>> {
    let mut found = Vec::new();
    for pid in pids()? {
        found.extend(unless_no_room(try_stat(pid?))?);
    }
    Ok(found)
}

/// The ids of all processes.
pub(in crate::supervise) fn pids() -> io::Result<impl Iterator<Item = io::Result<u32>>> {
    let pid = |entry: fs::DirEntry| entry.file_name().to_str()?.parse().ok();
    let entries = fs::read_dir("/proc")?;
    Ok(entries.filter_map(move |entry| entry.map(pid).transpose()))
}

/// The markers of a process; none if they cannot be read for another reason than a lack of room.
pub(in crate::supervise) fn marks(pid: u32) -> io::Result<Marks> {
    let marks = unless_no_room(try_marks(pid).map(Some))?;
    Ok(marks.unwrap_or_default())
}

/// A process and, if it has not ended, its markers. `None` if the process does not exist or cannot
/// be looked at. An error if there is no room to look at the process, which shows nothing.
pub(in crate::supervise) fn seen(pid: u32) -> io::Result<Option<(Stat, Option<Marks>)>> {
    let stat = try_stat(pid);
    #[cfg(test)]
    let stat = fault::unless_injected("seen", stat);
    let Some(stat) = unless_no_room(stat)? else {
        return Ok(None);
    };
    let marks = if stat.is_zombie() {
        None
    } else {
        Some(marks(pid)?)
    };
    Ok(Some((stat, marks)))
}

/// The markers of a process; none if it has ended, is a zombie, or belongs to another user.
pub(in crate::supervise) fn try_marks(pid: u32) -> io::Result<Marks> {
    let environment = match unless_gone(read_virtual(format!("/proc/{pid}/environ"))) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => None,
        environment => environment?,
    };
    Ok(environment.map_or_else(Marks::default, |environment| marks_in(&environment)))
}

/// The inodes of the pipes that a process holds open: see [`open_files`].
pub(in crate::supervise) fn pipes(pid: u32) -> io::Result<Vec<u64>> {
    let files = open_files(pid)?;
    Ok(files
        .iter()
        .filter_map(|file| inode_of_pipe(file))
        .collect())
}

/// What a process holds open, as its descriptors name it; nothing if they cannot be read for
/// another reason than a lack of room.
pub(in crate::supervise) fn open_files(pid: u32) -> io::Result<Vec<PathBuf>> {
    let read = || -> io::Result<Option<Vec<PathBuf>>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
            // A descriptor may be closed meanwhile.
            files.extend(unless_gone(fs::read_link(entry?.path()))?);
        }
        Ok(Some(files))
    };
    Ok(unless_no_room(read())?.unwrap_or_default())
}

/// The inode in the target of a descriptor's link, such as `pipe:[4711]`.
fn inode_of_pipe(target: &Path) -> Option<u64> {
    let inode = target.to_str()?.strip_prefix("pipe:[")?.strip_suffix(']')?;
    inode.parse().ok()
}

fn marks_in(environment: &[u8]) -> Marks {
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
/// A zombie stays in the list until it is reaped, and an orphan joins the list at the instant its
/// parent dies. So every living process below a sub-reaper implies an entry here. If the list
/// contains no unknown process, nothing was left behind.
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
            let read = self.file.read_at(&mut self.buffer[length..], length as u64);
            #[cfg(test)]
            let read = fault::unless_injected("children", read);
            match read? {
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

/// The `roots` and all their descendants among `processes`, without detached processes and their
/// descendants. An error if there is no room to look at one of them.
pub(in crate::supervise) fn below(processes: &[Stat], roots: &[u32]) -> io::Result<Vec<Stat>> {
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
        // The process is removed so that the loop ends even if the list has a cycle, as it may have
        // if pids were reused while the list was read.
        let Some(process) = by_pid.remove(&pid) else {
            continue;
        };
        if marks(pid)?.detached {
            continue;
        }
        found.push(process);
        open.extend(children.get(&pid).into_iter().flatten());
    }
    Ok(found)
}

/// Faults that tests inject into a supervisor.
#[cfg(test)]
pub(in crate::supervise) mod fault {
    use std::io;
    use std::path::PathBuf;
    use std::sync::OnceLock;

    /// The directory of this supervisor.
    pub(in crate::supervise) static DIR: OnceLock<PathBuf> = OnceLock::new();

    /// The file that injects the fault of this name as long as it exists.
    pub(in crate::supervise) fn file(name: &str) -> String {
        format!("no-room-{name}")
    }

    pub(super) fn unless_injected<T>(name: &str, read: io::Result<T>) -> io::Result<T> {
        if DIR.get().is_some_and(|dir| dir.join(file(name)).exists()) {
            return Err(rustix::io::Errno::NOMEM.into());
        }
        read
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn ticks_since_boot_match_start_times_in_proc() {
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
    fn the_pipes_of_a_process_are_found_by_their_inodes() {
        use std::os::unix::fs::MetadataExt;
        let flags = rustix::pipe::PipeFlags::CLOEXEC;
        let (read, write) = rustix::pipe::pipe_with(flags).unwrap();
        let inode = File::from(read).metadata().unwrap().ino();
        let own = std::process::id();
        // The writing end is still open, and has the same inode.
        assert!(pipes(own).unwrap().contains(&inode));
        drop(write);
        assert!(!pipes(own).unwrap().contains(&inode));
        assert_eq!(inode_of_pipe(Path::new("socket:[7]")), None);
        assert_eq!(pipes(0).unwrap(), [0; 0]);
    }

    #[test]
    fn the_list_of_processes_contains_this_process() {
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

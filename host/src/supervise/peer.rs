//! Finds out where a process at the other end of a socket belongs: below a supervisor, outside of
//! all supervisors, or unknown (for example in another pid namespace).
//!
//! Every process that an attempt starts stays below its supervisor, which is a sub-reaper: a
//! process whose parents have ended becomes the supervisor's own child. So the ancestors of a
//! process show whether it belongs to an attempt, and the process can do nothing to hide them.
//! `Runner::attempt_of` then finds the attempt.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::sys::procfs::{self, Stat};
use super::sys::signals;
use super::sys::tag::{Tag, supervisor_number};
use crate::fsx::{read_virtual, real};
use crate::lock::lock;

/// The first argument of a supervisor; its directory is the second.
pub(crate) const SUPERVISE: &str = "__supervise";
/// The limit on the ancestors that are followed, which is more than any process has.
const ANCESTORS: usize = 4_096;
/// The maximum number of walks. A walk is started again if the process or one of its ancestors
/// ended during the walk.
const WALKS: usize = 5;
/// Number of processes in [`Plain`] above which all of them are forgotten.
const PLAIN: usize = 1_024;

/// A process on the way up through the ancestors, from the process in question (included) to its
/// supervisor (excluded).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Forebear {
    pub(crate) pid: u32,
    /// Clock ticks since boot.
    pub(crate) start_time: u64,
    /// The number of the process's session. Only `setsid` changes it, to the pid of the process
    /// that calls `setsid`. So a session whose number is the pid of a supervisor's child holds only
    /// this child and its descendants.
    pub(crate) session: u32,
}

/// The marker's value, in place of an attempt's id, for commands that the host runs for no attempt:
/// git for a request, and the processes that git starts.
pub(crate) const HOST: &str = "host";

/// The side that started a process of an attempt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Side {
    /// The attempt itself.
    Attempt,
    /// The host, for the attempt: git, and the processes that git starts.
    Host,
}

/// The place where a process belongs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Whereabouts {
    /// Below no supervisor. `marker` is the attempt that is named in the environment of the process
    /// or, if there is none, in the environment of its nearest ancestor that names one. So a task's
    /// process that outlived its supervisor is still recognised by its marker.
    Outside { marker: Option<String> },
    /// Below a supervisor: the process itself first, then its ancestors up to the supervisor
    /// (excluded).
    Below(Vec<Forebear>),
    /// Unknown: the process is in another pid namespace, ended before it could be examined, or was
    /// started by the host itself (as a hook of a repository is).
    Unknown,
}

/// Ancestors of earlier callers, by their pids and start times. They and everything above them are
/// outside of all supervisors and have no marker, so they need not be examined again.
///
/// This does not change later. A process whose parent ends becomes the child of another of its
/// ancestors or of the init process. The first process of an attempt gets its marker before it can
/// start others.
#[derive(Debug, Default)]
pub(crate) struct Plain(Mutex<HashSet<(u32, u64)>>);

impl Plain {
    fn has(&self, stat: &Stat) -> bool {
        lock(&self.0).contains(&(stat.pid, stat.start_time))
    }

    fn note<'a>(&self, found: impl Iterator<Item = &'a Stat>) {
        let mut known = lock(&self.0);
        if known.len() >= PLAIN {
            known.clear();
        }
        known.extend(found.map(|stat| (stat.pid, stat.start_time)));
    }
}

/// A process that is pinned, so that a later process with the same pid cannot be mistaken for it.
#[derive(Debug)]
pub(crate) struct Handle {
    pid: u32,
    fd: OwnedFd,
}

impl Handle {
    /// Pins a process; `None` if no process has this pid any more.
    pub(crate) fn open(pid: u32) -> io::Result<Option<Self>> {
        Ok(signals::pin_any(pid)?.map(|fd| Self { pid, fd }))
    }

    /// The place where the process belongs. Unknown if the process has ended before this function
    /// returns, because another process may have had its pid meanwhile. An error if the host cannot
    /// look, for instance because it has no free descriptor.
    pub(crate) fn whereabouts(&self, supervisors: &Path, plain: &Plain) -> io::Result<Whereabouts> {
        // A process that answers its own requests, because no host runs, was not started by a host.
        let own = std::process::id();
        let host = (self.pid != own).then_some(own);
        let found = whereabouts(self.pid, supervisors, host, plain)?;
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        match poll(&mut [PollFd::new(&self.fd, PollFlags::IN)], Some(&now)) {
            Ok(0) => Ok(found),
            _ => Ok(Whereabouts::Unknown),
        }
    }
}

/// Looks in `/proc` where a process belongs. `supervisors` is the directory of the host's
/// supervisors, `host` the pid of the host, if a host looks. Notes plain ancestors in `plain`.
///
/// A supervisor of another data directory counts too, with one exception: a supervisor below which
/// this host itself runs. A process that speaks to this host may run below that supervisor without
/// belonging to an attempt of this host.
pub(super) fn whereabouts(
    pid: u32,
    supervisors: &Path,
    host: Option<u32>,
    plain: &Plain,
) -> io::Result<Whereabouts> {
    let (own, other) = (namespace("self")?, namespace(&pid.to_string())?);
    if own.is_none() || own != other {
        return Ok(Whereabouts::Unknown);
    }
    for _ in 0..WALKS {
        let Some(ancestors) = ancestors_up_to(pid, |stat| plain.has(stat))? else {
            continue;
        };
        let ancestors = match ancestors.split_last() {
            Some((last, others)) if plain.has(last) => others,
            _ => ancestors.as_slice(),
        };
        // An ancestor that cannot be examined is an error: if a supervisor were not recognised, the
        // processes below it would count as outside of all supervisors.
        let mut end = None;
        for (index, stat) in ancestors.iter().skip(1).enumerate() {
            if let Some(dir) = directory_if_supervisor(stat)?
                && (is_below(&dir, supervisors) || !is_ours(stat)?)
            {
                end = Some(index);
                break;
            }
        }
        let Some(end) = end else {
            if ancestors.iter().any(|stat| Some(stat.pid) == host) {
                return Ok(Whereabouts::Unknown);
            }
            let mut marker = None;
            for stat in ancestors {
                marker = procfs::try_marks(stat.pid)?.attempt;
                if marker.is_some() {
                    break;
                }
            }
            if marker.is_none() {
                // The caller itself seldom calls again.
                plain.note(ancestors.iter().skip(1));
            }
            return Ok(Whereabouts::Outside { marker });
        };
        let below = ancestors.iter().take(end + 1).map(|stat| Forebear {
            pid: stat.pid,
            start_time: stat.start_time,
            session: stat.session,
        });
        return Ok(Whereabouts::Below(below.collect()));
    }
    Ok(Whereabouts::Unknown)
}

/// Whether this process belongs to a task of the host with these supervisors: it is below one of
/// them, or it is below no supervisor at all, and an attempt is named in its environment or in that
/// of an ancestor. An error if the ancestors cannot be examined.
pub(crate) fn is_in_task(supervisors: &Path) -> io::Result<bool> {
    for _ in 0..WALKS {
        let Some(ancestors) = ancestors_of(std::process::id())? else {
            continue;
        };
        let mut is_below_another = false;
        for stat in ancestors.iter().skip(1) {
            if let Some(dir) = directory_if_supervisor(stat)? {
                if is_below(&dir, supervisors) {
                    return Ok(true);
                }
                is_below_another = true;
            }
        }
        if is_below_another {
            return Ok(false);
        }
        for stat in &ancestors {
            if procfs::try_marks(stat.pid)?.attempt.is_some() {
                return Ok(true);
            }
        }
        return Ok(false);
    }
    Err(io::Error::other("its ancestors keep ending"))
}

/// Whether a process belongs to a supervisor of another data directory, whatever its marker says.
/// After a restore, two hosts may have tasks with the same ids.
pub(super) fn is_of_another(pid: u32, supervisors: &Path) -> io::Result<bool> {
    for stat in ancestors_of(pid)?.iter().flatten().skip(1) {
        let Some(dir) = directory_if_supervisor(stat)? else {
            continue;
        };
        // If the supervisor of the process is dead, the process may be below one that did not start
        // it.
        let number = supervisor_number(stat.pid, stat.start_time);
        let is_of_dead = matches!(Tag::of(pid)?,
            Some(Tag::Attempt { supervisor, .. }) if supervisor != number);
        return Ok(!is_of_dead
            && !is_below(&dir, supervisors)
            && !is_ours(stat)?
            && !has_files_below(stat.pid, supervisors)?);
    }
    Ok(false)
}

/// Whether a supervisor has files open below `supervisors`: if its data directory was moved, its
/// command line still names the old place.
fn has_files_below(pid: u32, supervisors: &Path) -> io::Result<bool> {
    let supervisors = real(supervisors);
    let files = procfs::open_files(pid)?;
    Ok(files.iter().any(|file| file.starts_with(&supervisors)))
}

/// The pid namespace of a process; `None` if it has ended or belongs to another user.
fn namespace(process: &str) -> io::Result<Option<PathBuf>> {
    readable(fs::read_link(format!("/proc/{process}/ns/pid")))
}

/// The process and all its ancestors; `None` if one of them ended during the walk.
fn ancestors_of(pid: u32) -> io::Result<Option<Vec<Stat>>> {
    ancestors_up_to(pid, |_| false)
}

/// The process and its ancestors up to the first one that is the last one wanted.
fn ancestors_up_to(pid: u32, is_last: impl Fn(&Stat) -> bool) -> io::Result<Option<Vec<Stat>>> {
    let Some(stat) = procfs::try_stat(pid)? else {
        return Ok(None);
    };
    let mut found: Vec<Stat> = vec![stat];
    while let Some(last) = found.last().filter(|it| it.parent != 0 && !is_last(it)) {
        let Some(parent) = procfs::try_stat(last.parent)? else {
            return Ok(None);
        };
        // A parent is older than its child; a younger process has reused the parent's pid.
        if parent.start_time > last.start_time || found.len() == ANCESTORS {
            return Ok(None);
        }
        found.push(parent);
    }
    Ok(Some(found))
}

/// Like [`directory_of`]. Every supervisor leads a session from its start on, so the command lines
/// of other processes are not read: the ancestors are examined for each connection.
fn directory_if_supervisor(stat: &Stat) -> io::Result<Option<PathBuf>> {
    if stat.session == stat.pid {
        directory_of(stat.pid)
    } else {
        Ok(None)
    }
}

/// The directory of a supervisor; `None` if the process is not a supervisor.
pub(super) fn directory_of(pid: u32) -> io::Result<Option<PathBuf>> {
    let line = readable(read_virtual(format!("/proc/{pid}/cmdline")))?;
    let directory = |line: &[u8]| {
        let mut words = line.split(|byte| *byte == 0).skip(1);
        (words.next()? == SUPERVISE.as_bytes()).then_some(())?;
        words
            .next()
            .map(|dir| PathBuf::from(OsStr::from_bytes(dir)))
    };
    Ok(line.as_deref().and_then(directory))
}

/// Whether a process of this pid namespace is a supervisor that was started in `supervisors`, the
/// directory of all supervisors of a data directory.
pub(super) fn is_supervisor_in(pid: u32, supervisors: &Path) -> io::Result<bool> {
    let Some(dir) = directory_of(pid)? else {
        return Ok(false);
    };
    let (own, other) = (namespace("self")?, namespace(&pid.to_string())?);
    Ok(own.is_some() && own == other && is_below(&dir, supervisors))
}

/// The result of reading a file of `/proc`; `None` if the process has ended or belongs to another
/// user.
fn readable<T>(read: io::Result<T>) -> io::Result<Option<T>> {
    match procfs::unless_gone(read) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(None),
        read => read,
    }
}

fn is_below(dir: &Path, supervisors: &Path) -> bool {
    dir.starts_with(supervisors) || real(dir).starts_with(real(supervisors))
}

/// Whether this process runs below the given supervisor.
fn is_ours(supervisor: &Stat) -> io::Result<bool> {
    let own = ancestors_of(std::process::id())?.unwrap_or_default();
    Ok(own
        .iter()
        .any(|stat| (stat.pid, stat.start_time) == (supervisor.pid, supervisor.start_time)))
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::panic,
        reason = "a test fails by panicking"
    )]
    use std::{
        io::{Read, Write},
        process::{Child, Command, Stdio},
    };

    use super::*;

    /// A process that lives until the `Sleeper` is dropped.
    struct Sleeper(Child);

    impl Sleeper {
        fn with(marker: Option<&str>) -> Self {
            let mut command = Command::new("cat");
            command.env_remove(procfs::ATTEMPT_VARIABLE);
            if let Some(marker) = marker {
                command.env(procfs::ATTEMPT_VARIABLE, marker);
            }
            let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut child = command.spawn().unwrap();
            // The marks of a process can be read once its program has begun.
            child.stdin.as_mut().unwrap().write_all(b".").unwrap();
            let answer = child.stdout.as_mut().unwrap().read_exact(&mut [0]);
            answer.unwrap();
            Self(child)
        }
    }

    impl Drop for Sleeper {
        fn drop(&mut self) {
            drop(self.0.stdin.take());
            self.0.wait().unwrap();
        }
    }

    fn of(pid: u32) -> Whereabouts {
        whereabouts(pid, Path::new("/nowhere"), None, &Plain::default()).unwrap()
    }

    #[test]
    fn a_process_below_no_supervisor_is_outside_and_its_marker_is_returned() {
        let plain = Sleeper::with(None);
        let marked = Sleeper::with(Some("task_x.1"));
        let marker = |child: &Sleeper| match of(child.0.id()) {
            Whereabouts::Outside { marker } => marker,
            other => panic!("{other:?}"),
        };
        // The tests themselves may run inside an attempt.
        let inherited = ancestors_of(std::process::id()).unwrap().unwrap();
        let inherited = inherited
            .iter()
            .find_map(|stat| procfs::marks(stat.pid).unwrap().attempt);
        assert_eq!(marker(&plain), inherited);
        assert_eq!(marker(&marked).as_deref(), Some("task_x.1"));
    }

    #[test]
    fn ancestors_without_a_marker_are_noted_and_not_examined_again() {
        let plain = Plain::default();
        let [unmarked, marked] = [None, Some("task_x.1")].map(Sleeper::with);
        let look = |child: &Sleeper| {
            whereabouts(child.0.id(), Path::new("/nowhere"), None, &plain).unwrap()
        };
        let stat = |child: &Sleeper| procfs::stat(child.0.id()).unwrap();
        let own = procfs::stat(std::process::id()).unwrap();
        let before = look(&unmarked);
        assert_ne!(look(&marked), before);
        // The tests themselves may run inside an attempt.
        let outside = Whereabouts::Outside { marker: None };
        assert_eq!(plain.has(&own), before == outside);
        assert_eq!(look(&unmarked), before);
        for child in [&unmarked, &marked] {
            assert!(!plain.has(&stat(child)));
        }
        plain.note([stat(&marked)].iter());
        assert_eq!(look(&marked), outside);
    }

    #[test]
    fn a_process_that_the_host_started_is_unknown() {
        let child = Sleeper::with(None);
        let handle = Handle::open(child.0.id()).unwrap().unwrap();
        let place = handle
            .whereabouts(Path::new("/nowhere"), &Plain::default())
            .unwrap();
        assert_eq!(place, Whereabouts::Unknown);
    }

    #[test]
    fn the_id_of_a_thread_is_not_taken_for_a_pid() {
        signals::with_thread(|number| assert!(Handle::open(number).unwrap().is_none()));
    }

    #[test]
    fn a_process_that_has_ended_is_unknown() {
        let gone = Sleeper::with(None);
        let pid = gone.0.id();
        let handle = Handle::open(pid).unwrap().unwrap();
        drop(gone);
        assert_eq!(of(pid), Whereabouts::Unknown);
        assert_eq!(of(0), Whereabouts::Unknown);
        assert!(Handle::open(pid).unwrap().is_none());
        assert_eq!(
            handle
                .whereabouts(Path::new("/nowhere"), &Plain::default())
                .unwrap(),
            Whereabouts::Unknown
        );
    }
}

//! Ends everything that supervisors have started, without a host. Only the supervisors' own notes
//! are needed for this. The ends stay in the notes until a host has read them.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use super::join::{frozen_among, identity, is_dead, list, unusable};
use super::orphans;
use super::recover;
use crate::clock;
use crate::fsx;
use crate::proc_stat::{Stat, halt_text};
use crate::supervise::SuperviseError;
use crate::supervise::log;
use crate::supervise::process::ASKED_FILE;
use crate::supervise::protocol::Identity;
use crate::supervise::sys::{procfs, signals};
use crate::supervise::unended::{Unended, processes_of, unendable_text};
use crate::supervise::words::AttemptKey;

/// How long to wait for supervisors that were asked to end. They give each attempt the time that
/// its start has named, and then kill it.
const ENDS_WITHIN: Duration = Duration::from_mins(1);
/// The pause between two looks at the lock of a supervisor that was asked to end.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// The pause between two looks at what supervisors that were asked to end have started.
const LOOK_AT_CHILDREN: Duration = Duration::from_millis(500);
/// How long a supervisor that was asked to end may live without a living child. It needs a second
/// for pipes that others may hold open.
const IDLE_FOR: Duration = Duration::from_secs(3);

/// The supervisors that were asked to end, with their pinned processes.
#[derive(Default)]
struct Asked {
    supervisors: Vec<Identity>,
    processes: Vec<OwnedFd>,
}

/// Ends the supervisors in `all` with everything that they have started, and what dead supervisors
/// have left. Returns the attempts and commands that were not over before. An error if something
/// may go on. In a copy of a directory, nothing is ended. No host may run or start meanwhile.
/// Blocks.
pub(crate) fn end_all(all: &Path) -> Result<Vec<AttemptKey>, SuperviseError> {
    orphans::end(all)?;
    let supervisors = list(all)?.found;
    // In a copy, the notes name supervisors that work for the original. Only a lock shows that a
    // supervisor works for this directory.
    let (mut dead, mut living) = (Vec::new(), Vec::new());
    for (_, dir) in &supervisors {
        if is_dead(dir).map_err(|source| unusable(dir, source))? {
            recover::refuse_copy(dir)?;
            dead.push(dir);
        } else {
            living.push(dir);
        }
    }
    let mut open = Vec::new();
    for (_, dir) in &supervisors {
        open.extend(recover::unended(dir).map_err(|source| unusable(dir, source))?);
    }
    let (mut asked, mut seen, mut unseen) = (Asked::default(), Vec::new(), Vec::new());
    for dir in living {
        let fault = |source| unusable(dir, source);
        if let Some(supervisor) = identity(dir).map_err(fault)? {
            if let Err(error) = note_asked(dir) {
                tracing::warn!(%error, "the ended tasks will count as lost, not as cancelled");
            }
            let pinned = signals::ask_pinned(supervisor.pid, supervisor.start_time);
            if let Some(process) = pinned.map_err(fault)? {
                asked.supervisors.push(supervisor);
                asked.processes.push(process);
            }
            seen.push(dir);
        } else {
            unseen.push(dir);
        }
    }
    let give_up = clock::monotonic() + ENDS_WITHIN;
    // Before the wait for the others, which may end with an error.
    for dir in dead {
        recover::recover(dir)?;
    }
    let waited = wait_for_ends(&asked, all, give_up);
    // Otherwise an error could say that everything has ended.
    for dir in unseen {
        let fault = |source| unusable(dir, source);
        if !is_dead(dir).map_err(fault)? {
            let text = "its supervisor cannot be seen from here";
            return Err(fault(io::Error::other(text)));
        }
        recover::recover(dir)?;
    }
    waited?;
    for dir in seen {
        let fault = |source| unusable(dir, source);
        if !is_dead_by(dir, give_up).map_err(fault)? {
            let limit = ENDS_WITHIN.as_secs();
            let text = format!("its supervisor has not ended within {limit} s");
            let text = match asked.living().map_err(fault)?.first() {
                Some(pid) => of_supervisor(*pid, limit),
                None => text,
            };
            let text = match unendable(all, &open) {
                Ok(None) => text,
                Ok(Some(why)) => format!("{text}: {why}"),
                Err(error) => format!("{text}, and its processes cannot be examined: {error}"),
            };
            return Err(fault(io::Error::other(text)));
        }
        recover::recover(dir)?;
    }
    Ok(open)
}

/// Notes that a person has asked the supervisor to end.
fn note_asked(dir: &Path) -> io::Result<()> {
    let mut options = fsx::private();
    let options = options.create(true).write(true).truncate(true);
    fsx::open_own(&dir.join(ASKED_FILE), options).map(drop)
}

/// Waits for the ends of the supervisors, until `give_up` at most. If the supervisors that live
/// have no living children any more, they have only output and notes to write. Without room for
/// these, they do not end, so this is an error soon.
fn wait_for_ends(asked: &Asked, all: &Path, give_up: Duration) -> Result<(), SuperviseError> {
    let fault = |source| unusable(all, source);
    let mut idle_since = None;
    loop {
        let left = give_up.saturating_sub(clock::monotonic());
        let pause = left.min(LOOK_AT_CHILDREN);
        recover::wait_for_ends(&asked.processes, pause).map_err(fault)?;
        let living = asked.living().map_err(fault)?;
        let Some(pid) = living.first().copied() else {
            return Ok(());
        };
        let now = clock::monotonic();
        let is_late = now >= give_up;
        if !only_write(&living).map_err(fault)? {
            idle_since = None;
        } else if now >= *idle_since.get_or_insert(now) + IDLE_FOR {
            let why = log::lack_of_room(all);
            if why.is_some() || is_late {
                return Err(SuperviseError::Unwritten { pid, why });
            }
        }
        if is_late {
            return Ok(());
        }
    }
}

impl Asked {
    /// The pids of those that have not ended.
    fn living(&self) -> io::Result<Vec<u32>> {
        let mut living = Vec::new();
        for one in &self.supervisors {
            let pinned = signals::pin(one.pid, one.start_time)?;
            living.extend(pinned.map(|_| one.pid));
        }
        Ok(living)
    }
}

/// Whether these supervisors can do something, and have no living children. Processes that were
/// started to outlive their attempt do not count.
fn only_write(supervisors: &[u32]) -> io::Result<bool> {
    if !frozen_among(supervisors.to_vec()).is_empty() {
        return Ok(false);
    }
    let is_halted = |stat: &Stat| stat.is_stopped() || stat.state() == 'D';
    for stat in procfs::all()? {
        if supervisors.contains(&stat.pid) && is_halted(&stat) {
            return Ok(false);
        }
        let is_child = supervisors.contains(&stat.parent) && !stat.is_zombie();
        if is_child && !procfs::marks(stat.pid)?.detached {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Says that a supervisor has not ended, and why if that is known.
fn of_supervisor(pid: u32, limit: u64) -> String {
    let text = format!("its supervisor (pid {pid}) has not ended within {limit} s");
    match halt_text(pid) {
        Some(halt) => format!("{text}: {halt}"),
        None if !frozen_among(vec![pid]).is_empty() => {
            format!("{text}: its control group is frozen, and it goes on once the group is thawed")
        }
        None => text,
    }
}

/// The processes of these attempts that cannot be ended now, in words.
fn unendable(supervisors: &Path, attempts: &[AttemptKey]) -> io::Result<Option<String>> {
    let task = |attempt: &AttemptKey| Some(attempt.as_str().rsplit_once('.')?.0.to_owned());
    let tasks: Vec<String> = attempts.iter().filter_map(task).collect();
    let mut found = processes_of(supervisors, &tasks)?;
    found.retain(Unended::cannot_be_ended);
    Ok(unendable_text(&found))
}

/// Waits until the supervisor is dead. A lock that is held after the end of its process may be held
/// for a moment by somebody who looks at it.
fn is_dead_by(dir: &Path, give_up: Duration) -> io::Result<bool> {
    loop {
        if is_dead(dir)? {
            return Ok(true);
        }
        if clock::monotonic() >= give_up {
            return Ok(false);
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

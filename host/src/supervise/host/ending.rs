//! Ends everything that supervisors have started, without a host. Only the supervisors' own notes
//! are needed for this. The ends stay in the notes until a host has read them.

use std::io;
use std::path::Path;
use std::time::Duration;

use super::join::{identity, is_dead, list, unusable};
use super::orphans;
use super::recover;
use crate::clock;
use crate::fsx;
use crate::supervise::SuperviseError;
use crate::supervise::process::ASKED_FILE;
use crate::supervise::sys::signals;
use crate::supervise::unended::{Unended, processes_of, unendable_text};
use crate::supervise::words::AttemptKey;

/// How long to wait for supervisors that were asked to end. They give each attempt the time that
/// its start has named, and then kill it.
const ENDS_WITHIN: Duration = Duration::from_mins(1);
/// The pause between two looks at the lock of a supervisor that was asked to end.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Ends the supervisors in `all` with everything that they have started, and what dead supervisors
/// have left. Returns the attempts and commands that were not over before. An error if something
/// may go on. In a copy of a directory, nothing is ended. No host may run or start meanwhile.
/// Blocks.
pub(crate) fn end_all(all: &Path) -> Result<Vec<AttemptKey>, SuperviseError> {
    orphans::end(all)?;
    let supervisors = list(all)?.found;
    // In a copy, the notes name supervisors that work for the original. Only a lock shows that a
    // supervisor works for this directory.
    let mut living = Vec::new();
    for (_, dir) in &supervisors {
        if is_dead(dir).map_err(|source| unusable(dir, source))? {
            recover::refuse_copy(dir)?;
        } else {
            living.push(dir);
        }
    }
    let mut open = Vec::new();
    for (_, dir) in &supervisors {
        open.extend(recover::unended(dir).map_err(|source| unusable(dir, source))?);
    }
    let (mut asked, mut unseen) = (Vec::new(), Vec::new());
    for dir in living {
        let fault = |source| unusable(dir, source);
        if let Some(supervisor) = identity(dir).map_err(fault)? {
            if let Err(error) = fsx::write_private(&dir.join(ASKED_FILE), b"") {
                tracing::warn!(%error, "the ended tasks will count as lost, not as cancelled");
            }
            let pinned = signals::ask_pinned(supervisor.pid, supervisor.start_time);
            asked.extend(pinned.map_err(fault)?);
        } else {
            unseen.push(dir);
        }
    }
    let give_up = clock::monotonic() + ENDS_WITHIN;
    recover::wait_for_ends(&asked, ENDS_WITHIN).map_err(|source| unusable(all, source))?;
    for (_, dir) in &supervisors {
        let fault = |source| unusable(dir, source);
        if unseen.contains(&dir) {
            if !is_dead(dir).map_err(fault)? {
                let text = "its supervisor cannot be seen from here";
                return Err(fault(io::Error::other(text)));
            }
        } else if !is_dead_by(dir, give_up).map_err(fault)? {
            let limit = ENDS_WITHIN.as_secs();
            let text = format!("its supervisor has not ended within {limit} s");
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

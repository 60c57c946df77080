//! Ends the processes that a dead supervisor left. They are killed, but the commands of a host are
//! asked to end before: a git that is killed leaves its locks in the repository.

use std::collections::HashSet;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use super::{Journal, wait_for_ends};
use crate::clock;
use crate::proc_stat::is_out_of_room;
use crate::supervise::protocol::{AttemptState, ChildState, Identity};
use crate::supervise::sys::procfs::{self, Stat};
use crate::supervise::sys::signals;
use crate::supervise::sys::tag::{Tag, supervisor_number};

/// How long to wait for the ends of commands that were asked to end.
const ASKED_FOR: Duration = Duration::from_secs(1);
/// How long to wait for killed processes before looking again.
const WAIT_FOR_END: Duration = Duration::from_millis(200);
/// How long to try to end processes. Processes that are still alive after this time hang in the
/// kernel, or belong to another user.
const GIVE_UP_AFTER: Duration = Duration::from_secs(10);

/// Ends the processes that are left; returns their number. An error if there are too few
/// descriptors or too little memory to look for them.
pub(super) fn end_everything(journal: &Journal, supervisor: &Identity) -> io::Result<usize> {
    let mut ended = ask_commands(journal, supervisor)?;
    let mut all = Proofs::of(journal.attempts.values(), supervisor)?;
    all.known.extend(&journal.strays);
    all.are_all_meant = true;
    let give_up = clock::monotonic() + GIVE_UP_AFTER;
    // Reading the list of processes takes time, and may miss a process that is forked meanwhile. So
    // the search ends only after two looks in a row that find no process.
    let mut empty_looks = 0;
    while empty_looks < 2 {
        let left = all.proven(&procfs::all()?)?;
        if left.is_empty() {
            empty_looks += 1;
            continue;
        }
        empty_looks = 0;
        if clock::monotonic() > give_up {
            let pids: Vec<u32> = left.iter().map(|process| process.pid).collect();
            tracing::warn!(
                ?pids,
                "cannot end the processes that a dead supervisor left"
            );
            break;
        }
        let (killed, pinned): (Vec<_>, Vec<_>) =
            signal_all(&left, signals::kill_pinned)?.into_iter().unzip();
        ended.extend(killed);
        wait_for_ends(&pinned, WAIT_FOR_END)?;
    }
    Ok(ended.len())
}

/// Asks the commands that hosts had run to end, with all their processes, and waits a moment.
/// Returns the pids and start times of all that were asked.
fn ask_commands(journal: &Journal, supervisor: &Identity) -> io::Result<HashSet<(u32, u64)>> {
    let is_open = |state: &&AttemptState| state.ended.is_none();
    let is_command = |state: &&AttemptState| state.attempt.command().is_some();
    let open = journal.attempts.values().filter(is_open);
    let commands = Proofs::of(open.filter(is_command), supervisor)?;
    if commands.keys.is_empty() {
        return Ok(HashSet::new());
    }
    let left = commands.proven(&procfs::all()?)?;
    let (asked, pinned): (HashSet<_>, Vec<_>) =
        signal_all(&left, signals::ask_pinned)?.into_iter().unzip();
    wait_for_ends(&pinned, ASKED_FOR)?;
    Ok(asked)
}

/// Signals processes; returns the pids, start times and descriptors of those that got the signal.
/// An error if there are too few descriptors or too little memory to do so: then the caller must
/// try again.
fn signal_all(
    processes: &[Stat],
    signal: impl Fn(u32, u64) -> io::Result<Option<OwnedFd>>,
) -> io::Result<Vec<((u32, u64), OwnedFd)>> {
    let mut signalled = Vec::new();
    for process in processes {
        let (pid, start_time) = (process.pid, process.start_time);
        match signal(pid, start_time) {
            Ok(Some(descriptor)) => signalled.push(((pid, start_time), descriptor)),
            Ok(None) => {}
            Err(error) if is_out_of_room(&error) => return Err(error),
            Err(error) => {
                tracing::warn!(%error, pid, "cannot end a process of a dead supervisor");
            }
        }
    }
    Ok(signalled)
}

/// What proves that a process belongs to an attempt or a command of a dead supervisor.
struct Proofs<'a> {
    /// Processes that are known to belong to it, with their start times. Each of them proves its
    /// descendants, its group and its session.
    known: Vec<(u32, u64)>,
    /// The markers.
    keys: HashSet<&'a str>,
    /// The dead supervisor.
    supervisor: &'a Identity,
    /// Whether all of its attempts and commands are meant, so that its tag proves a process.
    are_all_meant: bool,
    /// The tag of this process, which is that of another supervisor if it runs in a task.
    own_tag: Option<Tag>,
}

impl<'a> Proofs<'a> {
    /// Those of some attempts and commands: their leaders and their markers.
    fn of(
        states: impl Iterator<Item = &'a AttemptState>,
        supervisor: &'a Identity,
    ) -> io::Result<Self> {
        let mut proofs = Self {
            known: Vec::new(),
            keys: HashSet::new(),
            supervisor,
            are_all_meant: false,
            own_tag: Tag::of(std::process::id())?,
        };
        for state in states {
            proofs.keys.insert(state.attempt.as_str());
            let leaders = state.children.iter().filter_map(|view| match &view.state {
                ChildState::Running { pid, start_time } => Some((*pid, *start_time)),
                // An ended leader is included because it may have left processes in its group: as
                // long as nobody has reaped the leader, its pid identifies that group.
                ChildState::Exited(exit) => Some((exit.pid, exit.start_time)),
                ChildState::NotStarted { .. } => None,
            });
            proofs.known.extend(leaders);
        }
        Ok(proofs)
    }

    /// The proven processes among these. Neither this process nor a detached one is among them.
    fn proven(&self, processes: &[Stat]) -> io::Result<Vec<Stat>> {
        let present = |(pid, start_time): &&(u32, u64)| {
            processes
                .iter()
                .any(|process| process.pid == *pid && process.start_time == *start_time)
        };
        let vouched: HashSet<u32> = self
            .known
            .iter()
            .filter(present)
            .map(|(pid, _)| *pid)
            .collect();
        let roots: Vec<u32> = vouched.iter().copied().collect();
        let below: HashSet<u32> = procfs::below(processes, &roots)?
            .iter()
            .map(|process| process.pid)
            .collect();
        let is_proven = |process: &Stat| -> io::Result<bool> {
            if process.is_zombie() || process.pid == std::process::id() {
                return Ok(false);
            }
            if below.contains(&process.pid) {
                return Ok(true);
            }
            let marks = procfs::marks(process.pid)?;
            if marks.detached {
                return Ok(false);
            }
            let vouched_for =
                vouched.contains(&process.group) || vouched.contains(&process.session);
            let is_marked = marks
                .attempt
                .is_some_and(|key| self.keys.contains(key.as_str()));
            if vouched_for {
                return Ok(true);
            }
            let may_be_tagged =
                self.are_all_meant && process.start_time >= self.supervisor.start_time;
            if !is_marked && !may_be_tagged {
                return Ok(false);
            }
            let tag = Tag::of(process.pid)?;
            Ok((is_marked && !self.is_of_another(tag)) || (may_be_tagged && self.is_own(tag)))
        };
        let mut proven = Vec::new();
        for process in processes {
            if is_proven(process)? {
                proven.push(*process);
            }
        }
        Ok(proven)
    }

    fn number(&self) -> u32 {
        supervisor_number(self.supervisor.pid, self.supervisor.start_time)
    }

    fn is_own(&self, tag: Option<Tag>) -> bool {
        matches!(tag, Some(Tag::Attempt { supervisor, .. }) if supervisor == self.number())
    }

    /// Whether the tag shows that another supervisor has started the process, so that its marker
    /// proves nothing: after a restore, two hosts may have attempts with the same ids.
    fn is_of_another(&self, tag: Option<Tag>) -> bool {
        let of_another = |tag: Option<Tag>| match tag {
            Some(Tag::Attempt { supervisor, .. }) => {
                (supervisor != self.number()).then_some(supervisor)
            }
            _ => None,
        };
        of_another(tag).is_some_and(|another| of_another(self.own_tag) != Some(another))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn a_process_that_could_not_be_killed_for_lack_of_room_is_not_passed_over() {
        let own = procfs::stat(std::process::id()).unwrap();
        let kill = |errno: Errno| signal_all(&[own], |_, _| Err(errno.into()));
        // A process of another user cannot be ended later either.
        assert!(kill(Errno::PERM).unwrap().is_empty());
        for errno in [Errno::MFILE, Errno::NFILE, Errno::NOMEM] {
            assert!(kill(errno).is_err(), "{errno}");
        }
    }
}

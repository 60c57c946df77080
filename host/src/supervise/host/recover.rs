//! Recovery after a supervisor's death: reads in the supervisor's journal which children it had,
//! and ends the processes that are left of them.
//!
//! Only processes that are proven to belong to the dead supervisor are signalled. A leader, or a
//! stray that the supervisor has seen, is proven by its pid and start time within this boot. While
//! such a process exists, it also proves its descendants, and the processes of the group and the
//! session whose number is its pid. Any other process is proven by its tag, or by the marker in its
//! environment unless it has the tag of another supervisor. All these processes are killed: the
//! supervisor's pipes died with it, so nothing would be gained by letting the processes run on.
//!
//! If the supervisor still lives although nobody holds the lock of its directory, this directory is
//! a copy, and the supervisor works for the original directory. In this case no process is
//! signalled.

mod leftovers;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use self::leftovers::end_everything;
use crate::clock;
use crate::fsx::{self, real};
use crate::proc_stat::{Stat, is_alive, unless_no_room};
use crate::supervise::SuperviseError;
use crate::supervise::peer;
use crate::supervise::process::{LOCK_FILE, journal};
use crate::supervise::protocol::{
    AttemptState, ChildState, ChildView, EndedState, Identity, Message,
};
use crate::supervise::report::{Found, FoundChild, FoundState};
use crate::supervise::sys::{procfs, signals, wait};
use crate::supervise::words::{AttemptKey, ChildId};

/// How long to wait for the end of a supervisor whose lock is free. The kernel releases the lock
/// while the process ends, so the process may still exist for a moment.
const ENDS_WITHIN: Duration = Duration::from_secs(5);

/// The remains of a dead supervisor.
#[derive(Debug)]
pub(super) struct Recovered {
    /// The unacknowledged attempts, all of which are over now.
    pub(super) found: Vec<Found>,
    /// The number of processes that were ended here.
    pub(super) swept: usize,
    /// Whether the supervisor left notes. Without notes, nothing is known about its children.
    pub(super) has_notes: bool,
}

/// Reads the journal of a supervisor whose lock is free, ends the processes that are left, and
/// returns the outcome of each attempt. Blocks.
pub(super) fn recover(dir: &Path) -> Result<Recovered, SuperviseError> {
    let fault = |source| SuperviseError::Directory {
        path: dir.to_owned(),
        source,
    };
    let mut journal = last_journal(dir).map_err(fault)?;
    let mut swept = 0;
    if let Some(supervisor) = journal.supervisor.clone()
        && journal.is_of_this_boot()
    {
        refuse_living(dir, &supervisor)?;
        // The supervisor may have written more before it ended.
        let last = last_journal(dir).map_err(fault)?;
        if last.supervisor.is_some() {
            journal = last;
        }
        // A supervisor that this very host started stays a zombie until it is reaped. If its pid
        // was reused, the other process's status is left for its parent.
        let ended = unless_no_room(procfs::try_stat(supervisor.pid)).map_err(fault)?;
        if ended.is_some_and(|ended| ended.start_time == supervisor.start_time) {
            wait::reap(supervisor.pid);
        }
        swept = end_everything(&journal, &supervisor).map_err(fault)?;
    }
    Ok(Recovered {
        has_notes: journal.supervisor.is_some(),
        found: journal.attempts.into_values().map(found).collect(),
        swept,
    })
}

/// Kills a supervisor of this boot whose notes were removed, if it still lives, and everything that
/// it has started. Blocks.
pub(super) fn end_without_notes(supervisor: &Stat) -> io::Result<()> {
    let all = procfs::all()?;
    let children = all
        .iter()
        .filter(|process| process.parent == supervisor.pid)
        .map(|child| (child.pid, child.start_time));
    let (pid, start_time) = (supervisor.pid, supervisor.start_time);
    // If the supervisor has ended by itself, its number may be that of another process by now.
    let lives = signals::pin(pid, start_time)?.is_some();
    let journal = Journal {
        strays: children.filter(|_| lives).collect(),
        ..Journal::default()
    };
    if let Some(killed) = signals::kill_pinned(pid, start_time)? {
        wait_for_ends(&[killed], ENDS_WITHIN)?;
    }
    let supervisor = Identity {
        pid,
        start_time,
        boot_id: clock::boot_id().to_string(),
        pid_namespace: None,
        build: String::new(),
    };
    end_everything(&journal, &supervisor).map(drop)
}

/// An error if a directory whose lock is free is a copy: the supervisor in its notes is alive.
/// Blocks.
pub(super) fn refuse_copy(dir: &Path) -> Result<(), SuperviseError> {
    let journal = read_journal(dir).map_err(|source| SuperviseError::Directory {
        path: dir.to_owned(),
        source,
    })?;
    match &journal.supervisor {
        Some(supervisor) if journal.is_of_this_boot() => refuse_living(dir, supervisor),
        _ => Ok(()),
    }
}

fn refuse_living(dir: &Path, supervisor: &Identity) -> Result<(), SuperviseError> {
    if works_elsewhere(dir, supervisor) {
        return Err(copied(dir, supervisor.pid));
    }
    match has_ended(supervisor) {
        Ok(true) => Ok(()),
        Ok(false) => Err(copied(dir, supervisor.pid)),
        Err(source) => Err(SuperviseError::Directory {
            path: dir.to_owned(),
            source,
        }),
    }
}

/// The attempts in the notes of a supervisor that is alive but does not answer. A child that it was
/// about to start is left out: whether it was started is known only once the supervisor answers.
/// Until then, the child's attempt does not count as ended. Blocks.
pub(super) fn noted(dir: &Path) -> Result<Vec<AttemptState>, SuperviseError> {
    let mut journal = read_journal(dir).map_err(|source| SuperviseError::Directory {
        path: dir.to_owned(),
        source,
    })?;
    for child in &journal.starting {
        if let Some(state) = journal.attempts.get_mut(child.attempt()) {
            state.ended = None;
        }
    }
    Ok(journal.attempts.into_values().collect())
}

/// The supervisor that wrote the notes in a directory: the first line names it. Blocks.
pub(super) fn author(dir: &Path) -> io::Result<Option<Identity>> {
    let Some(file) = open_notes(dir)? else {
        return Ok(None);
    };
    let mut line = Vec::new();
    BufReader::new(file).read_until(b'\n', &mut line)?;
    // A line that was not written completely names nobody.
    Ok(match serde_json::from_slice(&line) {
        Ok(Message::Supervisor(identity)) => Some(identity),
        _ => None,
    })
}

/// Whether a child of the attempt is alive, according to the notes of a supervisor. `None` if the
/// notes do not tell: they name no child of the attempt, or one that was about to be started.
/// Blocks.
pub(super) fn runs_as_noted(dir: &Path, attempt: &AttemptKey) -> io::Result<Option<bool>> {
    let journal = read_journal(dir)?;
    let of_attempt = |child: &ChildId| child.attempt() == attempt;
    let state = journal.attempts.get(attempt);
    let Some(state) = state.filter(|state| !state.children.is_empty()) else {
        return Ok(None);
    };
    for view in &state.children {
        if let ChildState::Running { pid, start_time } = view.state
            && is_alive(pid, start_time)?
        {
            return Ok(Some(true));
        }
    }
    let is_unknown = journal.starting.iter().any(of_attempt);
    Ok((!is_unknown).then_some(false))
}

/// Whether an attempt or a command was not over according to the notes of a dead supervisor of this
/// boot. Blocks.
pub(super) fn has_unended(dir: &Path) -> io::Result<bool> {
    let journal = last_journal(dir)?;
    Ok(journal.is_of_this_boot() && journal.attempts.values().any(|state| state.ended.is_none()))
}

/// The attempts and commands that are not over according to the notes of a supervisor of this boot.
/// Blocks.
pub(super) fn unended(dir: &Path) -> io::Result<Vec<AttemptKey>> {
    let journal = last_journal(dir)?;
    if !journal.is_of_this_boot() {
        return Ok(Vec::new());
    }
    let states = journal.attempts.into_values();
    let open = states.filter(|state| state.ended.is_none());
    Ok(open.map(|state| state.attempt).collect())
}

/// The pids of the children that are alive, of all attempts and commands that are not over
/// according to the notes of a supervisor of this boot. Blocks.
pub(super) fn leaders_alive(dir: &Path) -> io::Result<Vec<u32>> {
    let journal = read_journal(dir)?;
    if !journal.is_of_this_boot() {
        return Ok(Vec::new());
    }
    let states = journal.attempts.values();
    let open = states.filter(|state| state.ended.is_none());
    let mut alive = Vec::new();
    for view in open.flat_map(|state| &state.children) {
        if let ChildState::Running { pid, start_time } = view.state
            && is_alive(pid, start_time)?
        {
            alive.push(pid);
        }
    }
    Ok(alive)
}

/// Whether the supervisor certainly works for another directory and is not about to end: that
/// directory has its notes, and is locked, and a process of a task runs. A directory that cannot be
/// looked at proves nothing.
fn works_elsewhere(dir: &Path, supervisor: &Identity) -> bool {
    let Some(other) = peer::directory_of(supervisor.pid).ok().flatten() else {
        return false;
    };
    let author = author(&other).ok().flatten();
    let is_its_own = author.is_some_and(|author| {
        (author.pid, author.start_time) == (supervisor.pid, supervisor.start_time)
    });
    is_its_own
        && real(&other) != real(dir)
        && is_dead(&other).is_ok_and(|is_dead| !is_dead)
        && is_alive(supervisor.pid, supervisor.start_time).unwrap_or(false)
        && leaders_alive(&other).is_ok_and(|alive| !alive.is_empty())
}

/// Whether the supervisor is dead: a living one holds the lock of its directory.
pub(super) fn is_dead(dir: &Path) -> io::Result<bool> {
    let lock = match fsx::open(&dir.join(LOCK_FILE)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        other => other?,
    };
    match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Whether the supervisor has ended; waits a while if it has not.
fn has_ended(supervisor: &Identity) -> io::Result<bool> {
    let give_up = clock::monotonic() + ENDS_WITHIN;
    while let Some(pinned) = signals::pin(supervisor.pid, supervisor.start_time)? {
        let left = give_up.saturating_sub(clock::monotonic());
        if left.is_zero() {
            return Ok(false);
        }
        wait_for_ends(&[pinned], left)?;
    }
    Ok(true)
}

/// The error for a directory that is a copy: the supervisor in its notes works for another
/// directory.
fn copied(dir: &Path, pid: u32) -> SuperviseError {
    let data_dir = |dir: &Path| dir.ancestors().nth(2).map(PathBuf::from);
    let copy = data_dir(dir).unwrap_or_default();
    let original = peer::directory_of(pid).ok().flatten();
    // If the original was moved and the copy put in its place, the supervisor still names that
    // place.
    let original = original
        .and_then(|original| data_dir(&original))
        .filter(|original| real(original) != real(&copy));
    SuperviseError::Copied {
        data_dir: copy,
        original,
        pid,
    }
}

#[derive(Debug, Default)]
struct Journal {
    supervisor: Option<Identity>,
    attempts: BTreeMap<AttemptKey, AttemptState>,
    /// The children that the supervisor was about to start, if nothing else is noted about them.
    starting: BTreeSet<ChildId>,
    /// The strays that the supervisor has seen, with their start times.
    strays: Vec<(u32, u64)>,
}

impl Journal {
    /// Whether the notes are of this boot. In another boot, another process may have the same pid
    /// and the same start time.
    fn is_of_this_boot(&self) -> bool {
        let supervisor = self.supervisor.as_ref();
        supervisor.is_some_and(|supervisor| supervisor.boot_id == *clock::boot_id())
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Supervisor(identity) => self.supervisor = Some(identity),
            Message::Starting { child } => {
                self.starting.insert(child);
            }
            Message::Attempt(state) => {
                self.attempts.insert(state.attempt.clone(), state);
            }
            Message::Started {
                child,
                pid,
                start_time,
            } => {
                self.set(child, ChildState::Running { pid, start_time })
                    .ended = None;
            }
            Message::NotStarted {
                child,
                class,
                message,
            } => {
                let state = self.set(child, ChildState::NotStarted { class, message });
                let is_refused =
                    |view: &ChildView| matches!(view.state, ChildState::NotStarted { .. });
                if state.children.iter().all(is_refused) {
                    state.ended = Some(EndedState { swept: 0, alive: 0 });
                }
            }
            Message::Exited { child, exit, ended } => {
                let state = self.set(child, ChildState::Exited(exit));
                if ended {
                    state.ended = Some(EndedState { swept: 0, alive: 0 });
                }
            }
            Message::Ended {
                attempt,
                swept,
                alive,
            } => {
                if let Some(state) = self.attempts.get_mut(&attempt) {
                    state.ended = Some(EndedState { swept, alive });
                }
            }
            Message::Stray { pid, start_time } => self.strays.push((pid, start_time)),
            Message::Forgotten { attempt } => {
                self.attempts.remove(&attempt);
                self.starting.retain(|child| *child.attempt() != attempt);
            }
            _ => {}
        }
    }

    fn set(&mut self, child: ChildId, to: ChildState) -> &mut AttemptState {
        self.starting.remove(&child);
        let attempt = child.attempt().clone();
        let state = self
            .attempts
            .entry(attempt.clone())
            .or_insert_with(|| AttemptState {
                attempt,
                children: Vec::new(),
                stopping: None,
                finished: false,
                ended: None,
                held: None,
            });
        let known = state.children.iter_mut().find(|view| view.child == child);
        if let Some(view) = known {
            view.state = to;
        } else {
            // A child may be noted before a child with a lower index.
            let place = state.children.partition_point(|view| view.child < child);
            let view = ChildView { child, state: to };
            state.children.insert(place, view);
        }
        state
    }
}

/// Reads the journal of a dead supervisor. A child that the supervisor was about to start may have
/// run, so it counts as started.
fn last_journal(dir: &Path) -> io::Result<Journal> {
    let mut journal = read_journal(dir)?;
    for child in std::mem::take(&mut journal.starting) {
        // No process has the pid 0, so no process is ended because of its pid.
        let state = ChildState::Running {
            pid: 0,
            start_time: 0,
        };
        journal.set(child, state);
    }
    Ok(journal)
}

/// Reads the journal; ignores a last line that was not written completely.
fn read_journal(dir: &Path) -> io::Result<Journal> {
    let mut journal = Journal::default();
    let Some(mut file) = open_notes(dir)? else {
        return Ok(journal);
    };
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    for line in text
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
    {
        match serde_json::from_slice(line) {
            Ok(message) => journal.take(message),
            Err(error) => {
                tracing::warn!(%error, dir = %dir.display(), "a line of the journal is skipped");
            }
        }
    }
    Ok(journal)
}

fn open_notes(dir: &Path) -> io::Result<Option<File>> {
    let path = dir.join(journal::FILE);
    match fsx::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => {
            let text = format!("{}: {error}", path.display());
            Err(io::Error::new(error.kind(), text))
        }
        Ok(file) => Ok(Some(file)),
    }
}

fn found(state: AttemptState) -> Found {
    // Between the end of a child and the end of its attempt, the rest of the output is read.
    let has_exited = |view: &ChildView| matches!(view.state, ChildState::Exited(_));
    let output_cut =
        state.ended.is_none() && (state.held.is_some() || state.children.iter().any(has_exited));
    let children = state.children.into_iter().map(|view| {
        let state = match view.state {
            ChildState::NotStarted { class, message } => FoundState::NotStarted { class, message },
            ChildState::Running { .. } => FoundState::Lost,
            ChildState::Exited(exit) => FoundState::Exited(exit),
        };
        FoundChild {
            child: view.child,
            state,
        }
    });
    let children = children.collect();
    Found {
        attempt: state.attempt,
        children,
        stopping: state.stopping,
        ended: true,
        held: None,
        output_cut,
    }
}

/// Waits for the end of processes: a pidfd becomes readable when its process ends.
pub(super) fn wait_for_ends(pinned: &[OwnedFd], limit: Duration) -> io::Result<()> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let until = clock::monotonic() + limit;
    for descriptor in pinned {
        rustix::io::retry_on_intr(|| {
            let left = until.saturating_sub(clock::monotonic());
            let timeout = Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            };
            poll(
                &mut [PollFd::new(descriptor, PollFlags::IN)],
                Some(&timeout),
            )
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::fs;
    use std::process::{Child, Command};

    use rustix::fs::{CWD, Mode, mkfifoat};

    use super::*;
    use crate::supervise::words::{Exit, NotStartedClass, Status};

    /// A child of an attempt that only this process uses: recovery looks for the marker on the
    /// whole machine.
    fn child(index: u16) -> ChildId {
        let attempt = format!("{}:noted.1", std::process::id());
        ChildId::new(AttemptKey::new(attempt), index)
    }

    fn started(index: u16) -> Message {
        Message::Started {
            child: child(index),
            pid: 1,
            start_time: u64::MAX,
        }
    }

    fn refused(index: u16) -> Message {
        Message::NotStarted {
            child: child(index),
            class: NotStartedClass::CommandNotFound,
            message: String::new(),
        }
    }

    fn exited(index: u16, ended: bool) -> Message {
        let exit = Exit {
            pid: 1,
            start_time: u64::MAX,
            ..Exit::sample(Status::Code(3))
        };
        Message::Exited {
            child: child(index),
            exit,
            ended,
        }
    }

    fn lines(messages: &[Message]) -> String {
        let lines = messages.iter().map(serde_json::to_string);
        let lines: Vec<String> = lines.map(Result::unwrap).collect();
        lines.join("\n") + "\n"
    }

    fn supervisor(process: &Child, start_time: u64) -> Message {
        Message::Supervisor(Identity {
            pid: process.id(),
            start_time,
            boot_id: clock::boot_id().to_string(),
            pid_namespace: None,
            build: "any".to_owned(),
        })
    }

    fn start_time(process: &Child) -> u64 {
        procfs::stat(process.id()).unwrap().start_time
    }

    #[test]
    fn the_status_of_a_process_that_has_reused_a_supervisors_pid_is_left_to_its_parent() {
        let dir = tempfile::tempdir().unwrap();
        let mut other = Command::new("sh").args(["-c", "exit 3"]).spawn().unwrap();
        while !procfs::stat(other.id()).unwrap().is_zombie() {
            std::thread::yield_now();
        }
        let identity = supervisor(&other, start_time(&other) - 1);
        fs::write(dir.path().join(journal::FILE), lines(&[identity])).unwrap();
        recover(dir.path()).unwrap();
        assert_eq!(other.wait().unwrap().code(), Some(3));
    }

    /// Recovery opens the process of the supervisor after its first read of the journal.
    #[test]
    fn ends_that_a_supervisor_noted_just_before_its_own_end_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let mut process = Command::new("sleep").arg("1000").spawn().unwrap();
        let identity = supervisor(&process, start_time(&process));
        let notes = dir.path().join(journal::FILE);
        fs::write(&notes, lines(&[identity.clone(), started(0)])).unwrap();
        let opened = format!("Pid:\t{}\n", process.id());
        let is_opened = || {
            let open = fs::read_dir("/proc/self/fdinfo").unwrap();
            // A descriptor may be closed meanwhile.
            let mut about = open.filter_map(|entry| fs::read_to_string(entry.ok()?.path()).ok());
            about.any(|about| about.contains(&opened))
        };
        let recovered = std::thread::scope(|scope| {
            let recovering = scope.spawn(|| recover(dir.path()));
            while !is_opened() && !recovering.is_finished() {
                std::thread::yield_now();
            }
            let last = dir.path().join("last");
            fs::write(&last, lines(&[identity, started(0), exited(0, true)])).unwrap();
            fs::rename(last, notes).unwrap();
            process.kill().unwrap();
            recovering.join().unwrap()
        });
        let found = recovered.unwrap().found;
        let state = &found[0].children[0].state;
        assert!(matches!(state, FoundState::Exited(_)), "{state:?}");
        // Recovery has reaped the supervisor.
        process.wait().unwrap_err();
    }

    #[test]
    fn a_fifo_in_the_place_of_the_notes_is_named_and_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let notes = dir.path().join(journal::FILE);
        mkfifoat(CWD, &notes, Mode::RUSR | Mode::WUSR).unwrap();
        let error = recover(dir.path()).unwrap_err();
        let said = crate::text::chain(&error);
        let path = notes.display().to_string();
        assert!(said.contains(&path) && said.contains("a FIFO"), "{said}");
        author(dir.path()).unwrap_err();
    }

    #[test]
    fn notes_tell_whether_a_child_of_an_attempt_is_alive_unless_one_was_about_to_start() {
        let dir = tempfile::tempdir().unwrap();
        let starting = |index: u16| Message::Starting {
            child: child(index),
        };
        let own = procfs::stat(std::process::id()).unwrap();
        let alive = || Message::Started {
            child: child(1),
            pid: std::process::id(),
            start_time: own.start_time,
        };
        let check = |noted: &[Message], expected: Option<bool>| {
            fs::write(dir.path().join(journal::FILE), lines(noted)).unwrap();
            let runs = runs_as_noted(dir.path(), child(0).attempt()).unwrap();
            assert_eq!(runs, expected, "{noted:?}");
        };
        check(&[], None);
        check(&[starting(0)], None);
        check(&[starting(0), started(0)], Some(false));
        check(&[started(0), exited(0, false)], Some(false));
        check(&[started(0), exited(0, false), starting(1)], None);
        check(&[started(0), exited(0, false), alive()], Some(true));
    }

    #[test]
    fn notes_tell_whether_a_dead_supervisor_may_have_left_processes() {
        let dir = tempfile::tempdir().unwrap();
        let mut process = Command::new("true").spawn().unwrap();
        process.wait().unwrap();
        let identity = || supervisor(&process, 1);
        let own = procfs::stat(std::process::id()).unwrap();
        let alive = || Message::Started {
            child: child(0),
            pid: own.pid,
            start_time: own.start_time,
        };
        let ended = || Message::Ended {
            attempt: child(0).attempt().clone(),
            swept: 0,
            alive: 0,
        };
        let starting = || Message::Starting { child: child(0) };
        let check = |messages: &[Message], may_have_left: bool, leaders: &[u32]| {
            fs::write(dir.path().join(journal::FILE), lines(messages)).unwrap();
            let found = has_unended(dir.path()).unwrap();
            assert_eq!(found, may_have_left, "{messages:?}");
            let found = leaders_alive(dir.path()).unwrap();
            assert_eq!(found, leaders, "{messages:?}");
        };
        check(&[identity()], false, &[]);
        check(&[identity(), starting()], true, &[]);
        check(&[identity(), started(0)], true, &[]);
        check(&[identity(), alive()], true, &[own.pid]);
        check(&[identity(), alive(), ended()], false, &[]);
        check(&[identity(), started(0), exited(0, true)], false, &[]);
        // Nobody knows whether the notes are of this boot.
        check(&[alive()], false, &[]);
        // Another process has the same pid and the same start time in this boot.
        let Message::Supervisor(mut other) = identity() else {
            unreachable!("it is the identity of a supervisor");
        };
        other.boot_id = "another".to_owned();
        check(&[Message::Supervisor(other), alive()], false, &[]);
    }

    #[test]
    fn a_child_that_a_dead_supervisor_was_about_to_start_is_lost_unless_more_is_noted() {
        let dir = tempfile::tempdir().unwrap();
        let starting = |index: u16| Message::Starting {
            child: child(index),
        };
        let check = |messages: &[Message], expected: &[&str]| {
            fs::write(dir.path().join(journal::FILE), lines(messages)).unwrap();
            let found = recover(dir.path()).unwrap().found;
            let children = found.iter().flat_map(|found| &found.children);
            let states: Vec<&str> = children
                .map(|child| match child.state {
                    FoundState::Lost => "lost",
                    FoundState::NotStarted { .. } => "not started",
                    FoundState::Exited(_) => "exited",
                    FoundState::Running { .. } => "running",
                })
                .collect();
            assert_eq!(states, expected, "{messages:?}");
        };
        check(&[starting(0)], &["lost"]);
        check(&[starting(0), refused(0)], &["not started"]);
        check(&[starting(0), started(0), exited(0, true)], &["exited"]);
        check(
            &[starting(0), exited(0, true), starting(1)],
            &["exited", "lost"],
        );
        let attempt = child(0).attempt().clone();
        check(&[starting(0), Message::Forgotten { attempt }], &[]);

        // A supervisor that does not answer may still start the child, or refuse to do so.
        fs::write(dir.path().join(journal::FILE), lines(&[starting(0)])).unwrap();
        assert_eq!(noted(dir.path()).unwrap(), []);
    }

    #[test]
    fn children_are_in_the_order_of_their_indexes_however_they_were_noted() {
        let dir = tempfile::tempdir().unwrap();
        let notes = [started(1), started(2), started(0)];
        fs::write(dir.path().join(journal::FILE), lines(&notes)).unwrap();
        let states = noted(dir.path()).unwrap();
        let children = states[0].children.iter().map(|view| view.child.index());
        assert_eq!(children.collect::<Vec<_>>(), [0, 1, 2]);
    }

    #[test]
    fn output_may_be_missing_if_an_attempt_is_noted_as_exited_but_not_as_ended() {
        let dir = tempfile::tempdir().unwrap();
        let check = |messages: &[Message], expected: bool| {
            fs::write(dir.path().join(journal::FILE), lines(messages)).unwrap();
            let found = recover(dir.path()).unwrap().found;
            let cut: Vec<bool> = found.iter().map(|found| found.output_cut).collect();
            assert_eq!(cut, [expected], "{messages:?}");
        };
        check(&[started(0)], false);
        check(&[started(0), exited(0, false)], true);
        check(&[started(0), exited(0, true)], false);
    }

    #[test]
    fn notes_show_whether_an_attempt_has_ended() {
        let dir = tempfile::tempdir().unwrap();
        let check = |messages: &[Message], expected: bool| {
            fs::write(dir.path().join(journal::FILE), lines(messages)).unwrap();
            let states = noted(dir.path()).unwrap();
            let ended: Vec<bool> = states.iter().map(|state| state.ended.is_some()).collect();
            assert_eq!(ended, [expected], "{messages:?}");
        };
        check(&[started(0)], false);
        check(&[started(0), exited(0, false)], false);
        check(&[started(0), exited(0, true)], true);
        check(&[started(0), exited(0, true), started(1)], false);
        check(&[refused(0)], true);
        check(&[started(0), refused(1)], false);
        let starting = Message::Starting { child: child(1) };
        check(&[started(0), exited(0, true), starting.clone()], false);
        check(&[started(0), exited(0, true), starting, refused(1)], true);
    }
}

//! Names the processes of tasks that have not ended although they should have.
//!
//! A killed process ends at once, except while it waits in the kernel for something that
//! cannot be interrupted: a disk or a network drive that does not answer, or the thawing of its
//! control group. Nobody can end it then, but a person can see to the cause.

use std::io;
use std::path::Path;

use super::peer;
use super::sys::procfs;
use crate::fsx::read_virtual;
use crate::proc_stat::{unless_gone, unless_no_room};

/// The bit of `SIGKILL` in the sets of pending signals.
const KILL: u64 = 1 << 8;
/// Limit of the processes that a message names.
const NAMED: usize = 5;

/// A living process of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unended {
    /// The task's id, as in the marker of the process.
    pub(crate) task: String,
    pub(crate) pid: u32,
    /// The state in `/proc/PID/stat`: `D` while the process waits in the kernel.
    state: char,
    /// Whether the process was killed and has not noticed it yet.
    is_killed: bool,
    /// How often the process has given up its processor. The number stays the same while the
    /// process waits, so it shows whether a process that was seen in state `D` twice has waited all
    /// the time.
    switches: u64,
}

impl Unended {
    /// The same for two looks only if the process has done nothing between them.
    pub(crate) fn moment(&self) -> (u32, u64) {
        (self.pid, self.switches)
    }

    /// Whether the process cannot be ended now. Many waits in the kernel end by a kill, so only a
    /// process that was killed and waits on is known to be in another one.
    pub(crate) fn cannot_be_ended(&self) -> bool {
        self.state == 'D' && self.is_killed
    }
}

/// Names these processes, and says why they cannot be ended now and what ends them. `None` without
/// processes.
pub(crate) fn unendable_text(processes: &[Unended]) -> Option<String> {
    let named = processes.iter().take(NAMED).map(|one| one.pid.to_string());
    let named = named.collect::<Vec<_>>().join(", ");
    let (these, wait, their, end) = match processes.len() {
        0 => return None,
        1 => (format!("process {named}"), "it waits", "its", "it ends"),
        count => {
            let more = match count.saturating_sub(NAMED) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            let these = format!("processes {named}{more}");
            (these, "they wait", "their", "they end")
        }
    };
    Some(format!(
        "{these} cannot be ended now, not even by a kill: {wait} in the kernel (state D), for a \
         disk or a network drive, or because {their} control group is frozen; {end} once the drive \
         answers or the group is thawed"
    ))
}

/// The living processes that carry the marker of an attempt of these tasks, without those of other
/// data directories. `supervisors` is the directory of the supervisors. Blocks.
pub(crate) fn processes_of(supervisors: &Path, tasks: &[String]) -> io::Result<Vec<Unended>> {
    let mut found = Vec::new();
    if tasks.is_empty() {
        return Ok(found);
    }
    for stat in procfs::all()? {
        if stat.is_zombie() {
            continue;
        }
        let marks = procfs::marks(stat.pid)?;
        let Some(attempt) = marks.attempt.filter(|_| !marks.detached) else {
            continue;
        };
        // The marker is `TASK.NUMBER`.
        let of = |task: &&String| attempt.rsplit_once('.').is_some_and(|(id, _)| id == **task);
        if let Some(task) = tasks.iter().find(of)
            && !peer::is_of_another(stat.pid, supervisors)?
        {
            let status = status(stat.pid)?;
            found.push(Unended {
                task: task.clone(),
                pid: stat.pid,
                state: stat.state(),
                is_killed: is_killed(&status),
                switches: switches(&status),
            });
        }
    }
    Ok(found)
}

/// The status of a process; empty if it cannot be read.
fn status(pid: u32) -> io::Result<String> {
    let status = unless_no_room(unless_gone(read_virtual(format!("/proc/{pid}/status"))))?;
    Ok(String::from_utf8_lossy(&status.unwrap_or_default()).into_owned())
}

/// Whether a kill is pending.
fn is_killed(status: &str) -> bool {
    let mut pending = status.lines().filter_map(|line| {
        let (name, signals) = line.split_once(':')?;
        let is_pending = matches!(name, "SigPnd" | "ShdPnd");
        is_pending
            .then(|| u64::from_str_radix(signals.trim(), 16).ok())
            .flatten()
    });
    pending.any(|signals| signals & KILL != 0)
}

/// How often a process has given up its processor; 0 if the status does not say it.
fn switches(status: &str) -> u64 {
    let numbers = status.lines().filter_map(|line| {
        let (name, number) = line.split_once(':')?;
        let is_count = name.ends_with("voluntary_ctxt_switches");
        is_count
            .then(|| number.trim().parse::<u64>().ok())
            .flatten()
    });
    numbers.sum()
}

#[cfg(test)]
impl Unended {
    pub(crate) fn sample(pid: u32, state: char) -> Self {
        Self {
            task: "task_1".to_owned(),
            pid,
            state,
            is_killed: true,
            switches: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn the_living_processes_of_a_task_are_named_with_their_state() {
        let task = format!("task_of_test_{}", std::process::id());
        let other = format!("{task}x");
        let mut child = Command::new("cat")
            .env(procfs::ATTEMPT_VARIABLE, format!("{task}.2"))
            .env_remove(procfs::DETACHED_VARIABLE)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let child_id = child.id();
        // Once `cat` answers, it runs with its own environment.
        let mut byte = [0];
        io::Write::write_all(child.stdin.as_mut().unwrap(), b"x").unwrap();
        io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut byte).unwrap();
        let processes_of = |tasks: &[String]| processes_of(Path::new("/nowhere"), tasks).unwrap();
        let found = processes_of(&[other.clone(), task.clone()]);
        // The number grows once `cat` has waited for more input.
        let now = || switches(&status(child_id).unwrap());
        let before = now();
        let mut has_grown = (0..10_000).map(|_| {
            io::Write::write_all(child.stdin.as_mut().unwrap(), b"y").unwrap();
            io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut byte).unwrap();
            now() > before
        });
        assert!(has_grown.any(|has_grown| has_grown), "{before}");
        assert_eq!(processes_of(&[other]), []);
        child.kill().unwrap();
        child.wait().unwrap();
        let pids: Vec<_> = found.iter().map(|one| (&*one.task, one.pid)).collect();
        assert_eq!(pids, [(&*task, child.id())]);
        assert!(!found[0].is_killed && !found[0].cannot_be_ended());
        assert_eq!(processes_of(&[task]), []);
    }

    #[test]
    fn only_a_killed_process_that_waits_in_the_kernel_cannot_be_ended() {
        assert!(Unended::sample(77, 'D').cannot_be_ended());
        assert!(!Unended::sample(77, 'S').cannot_be_ended());
        let waiting = Unended {
            is_killed: false,
            ..Unended::sample(77, 'D')
        };
        assert!(!waiting.cannot_be_ended());
        let check = |own: &str, shared: &str, expected: bool| {
            let status = format!("Name:\tcat\nSigPnd:\t{own}\nShdPnd:\t{shared}\nSigBlk:\t1ff\n");
            assert_eq!(is_killed(&status), expected, "{status}");
        };
        check("0000000000000000", "0000000000000000", false);
        check("0000000000000100", "0000000000000000", true);
        check("0000000000000000", "0000000000000100", true);
        // A termination alone.
        check("0000000000004000", "0000000000004000", false);
        assert!(!is_killed(""));
    }

    #[test]
    fn the_first_processes_that_cannot_be_ended_are_named_with_the_way_out() {
        let text = |count: u32| {
            let processes: Vec<_> = (1..=count).map(|pid| Unended::sample(pid, 'D')).collect();
            unendable_text(&processes)
        };
        let check = |count: u32, begin: &str, end: &str| {
            let text = text(count).unwrap();
            assert!(text.starts_with(begin) && text.ends_with(end), "{text}");
        };
        assert_eq!(text(0), None);
        check(
            1,
            "process 1 cannot be ended now, not even by a kill: it waits in the kernel",
            "it ends once the drive answers or the group is thawed",
        );
        check(2, "processes 1, 2 cannot be ended now", "thawed");
        check(
            7,
            "processes 1, 2, 3, 4, 5 and 2 more cannot be ended now",
            "they end once the drive answers or the group is thawed",
        );
    }
}

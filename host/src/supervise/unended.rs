//! Names the processes of tasks that have not ended although they should have.
//!
//! A killed process ends at once, except while it waits in the kernel for something that
//! cannot be interrupted: a disk or a network drive that does not answer, or the thawing of its
//! control group. Nobody can end it then, but a person can see to the cause.

use std::io;

use super::sys::procfs;
use crate::fsx::read_virtual;
use crate::proc_stat::{unless_gone, unless_no_room};

/// A living process of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unended {
    /// The task's id, as in the marker of the process.
    pub(crate) task: String,
    pub(crate) pid: u32,
    /// The state in `/proc/PID/stat`: `D` if the process cannot be ended now.
    pub(crate) state: char,
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

    /// Whether the process cannot be ended now, not even by `kill -KILL`.
    pub(crate) fn cannot_be_ended(&self) -> bool {
        self.state == 'D'
    }

    /// Tells a person why the process has not ended, and how to end it.
    pub(crate) fn text(&self) -> String {
        let Self { pid, state, .. } = self;
        if self.cannot_be_ended() {
            format!(
                "process {pid} cannot be ended now, not even by a kill: it waits in the kernel \
                 (state D), for a disk or a network drive, or because its control group is frozen; \
                 it ends once the drive answers or the group is thawed"
            )
        } else {
            format!("process {pid} has not ended (state {state}); `kill -KILL {pid}` ends it")
        }
    }
}

/// The living processes that carry the marker of an attempt of these tasks. Blocks.
pub(crate) fn processes_of(tasks: &[String]) -> io::Result<Vec<Unended>> {
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
        if let Some(task) = tasks.iter().find(of) {
            found.push(Unended {
                task: task.clone(),
                pid: stat.pid,
                state: stat.state(),
                switches: switches(stat.pid)?,
            });
        }
    }
    Ok(found)
}

/// How often a process has given up its processor; 0 if this cannot be read.
fn switches(pid: u32) -> io::Result<u64> {
    let status = unless_no_room(unless_gone(read_virtual(format!("/proc/{pid}/status"))))?;
    let status = String::from_utf8_lossy(&status.unwrap_or_default()).into_owned();
    let numbers = status.lines().filter_map(|line| {
        let (name, number) = line.split_once(':')?;
        let is_count = name.ends_with("voluntary_ctxt_switches");
        is_count
            .then(|| number.trim().parse::<u64>().ok())
            .flatten()
    });
    Ok(numbers.sum())
}

#[cfg(test)]
impl Unended {
    pub(crate) fn sample(pid: u32, state: char) -> Self {
        Self {
            task: "task_1".to_owned(),
            pid,
            state,
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
        // Once `cat` answers, it runs with its own environment.
        let mut byte = [0];
        io::Write::write_all(child.stdin.as_mut().unwrap(), b"x").unwrap();
        io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut byte).unwrap();
        let found = processes_of(&[other.clone(), task.clone()]).unwrap();
        // The number grows once `cat` has waited for more input.
        let before = switches(child.id()).unwrap();
        let mut has_grown = (0..10_000).map(|_| {
            io::Write::write_all(child.stdin.as_mut().unwrap(), b"y").unwrap();
            io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut byte).unwrap();
            switches(child.id()).unwrap() > before
        });
        assert!(has_grown.any(|has_grown| has_grown), "{before}");
        assert_eq!(processes_of(&[other]).unwrap(), []);
        child.kill().unwrap();
        child.wait().unwrap();
        let pids: Vec<_> = found.iter().map(|one| (&*one.task, one.pid)).collect();
        assert_eq!(pids, [(&*task, child.id())]);
        assert!(!found.iter().any(Unended::cannot_be_ended));
        assert_eq!(processes_of(&[task]).unwrap(), []);
    }

    #[test]
    fn a_process_that_waits_in_the_kernel_is_said_to_be_impossible_to_end() {
        let check = |state: char, says: &str, cannot_be_ended: bool| {
            let one = Unended::sample(77, state);
            assert_eq!(one.cannot_be_ended(), cannot_be_ended, "{state}");
            let text = one.text();
            assert!(text.contains("process 77") && text.contains(says), "{text}");
        };
        check('D', "cannot be ended now, not even by a kill", true);
        check(
            'S',
            "has not ended (state S); `kill -KILL 77` ends it",
            false,
        );
        check(
            'T',
            "has not ended (state T); `kill -KILL 77` ends it",
            false,
        );
    }
}

//! Names the processes of tasks that have not ended although they should have.
//!
//! A process ends at once when it is killed, except while it waits in the kernel for something that
//! cannot be interrupted: a disk or a network drive that does not answer, or the thawing of its
//! control group. Nobody can end it then, but a person can see to the cause.

use std::io;

use super::sys::procfs;

/// A living process of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unended {
    /// The task's id, as in the marker of the process.
    pub(crate) task: String,
    pub(crate) pid: u32,
    /// The state in `/proc/PID/stat`: `D` if the process cannot be ended now.
    pub(crate) state: char,
}

impl Unended {
    /// Whether the process cannot be ended now, not even by `kill -KILL`.
    pub(crate) fn cannot_be_ended(&self) -> bool {
        self.state == 'D'
    }

    /// What is known about the process, and what can be done.
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
            });
        }
    }
    Ok(found)
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
            let one = Unended {
                task: "task_1".to_owned(),
                pid: 77,
                state,
            };
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

//! Commands that the host itself runs beside the tasks: probes of executors, the compiler of components, git.
//!
//! They belong to no attempt, so no supervisor knows them: those that only look at something are killed when their time is over or nobody waits
//! any more, and leave nothing behind but what a hostile command detached from its group.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::io::retry_on_intr;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
}

/// What becomes of a command when its time is over or nobody waits for it any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Abandoned {
    /// Its process group is killed, and it is reaped.
    Killed,
    /// It runs on: what it changes would be left half changed.
    LeftAlone,
}

/// Runs a command to its end; of each channel so many bytes are kept, and what comes after is read and left out, so that the command does
/// not wait for a reader.
pub(crate) async fn finish(
    mut command: Command,
    kept_bytes: usize,
    abandoned: Abandoned,
) -> io::Result<Finished> {
    command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    let mut running = Running(command.spawn()?, abandoned);
    let stdout = running.0.stdout.take().map(OwnedFd::from);
    let stderr = running.0.stderr.take().map(OwnedFd::from);
    let (stdout, stderr, exited) = tokio::join!(
        read(stdout, kept_bytes),
        read(stderr, kept_bytes),
        running.exited()
    );
    exited?;
    Ok(Finished {
        status: running.0.wait()?,
        stdout: stdout?,
        stderr: stderr?,
    })
}

/// A child that has not been reaped, so its pid is its own.
struct Running(Child, Abandoned);

impl Running {
    /// Waits without reaping, on a thread of its own: there is no safe way to have the runtime watch another process.
    async fn exited(&self) -> io::Result<()> {
        let pid = Pid::from_child(&self.0);
        let exited = tokio::task::spawn_blocking(move || {
            retry_on_intr(|| {
                waitid(
                    WaitId::Pid(pid),
                    WaitIdOptions::EXITED | WaitIdOptions::NOWAIT,
                )
            })
        });
        exited.await?.map(drop).map_err(io::Error::from)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.1 == Abandoned::Killed && matches!(self.0.try_wait(), Ok(None)) {
            // Both can fail only because the child has ended, and then there is nothing to kill.
            kill_process_group(Pid::from_child(&self.0), Signal::KILL).unwrap_or_default();
            drop(self.0.wait());
        }
    }
}

/// Reads to the end and keeps the beginning.
async fn read(pipe: Option<OwnedFd>, kept_bytes: usize) -> io::Result<Vec<u8>> {
    let Some(pipe) = pipe else {
        return Ok(Vec::new());
    };
    let mut pipe = pipe::Receiver::from_owned_fd(pipe)?;
    let mut kept = Vec::new();
    let mut piece = vec![0; 8 << 10];
    loop {
        let read = pipe.read(&mut piece).await?;
        if read == 0 {
            return Ok(kept);
        }
        let room = kept_bytes.saturating_sub(kept.len()).min(read);
        kept.extend_from_slice(&piece[..room]);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[tokio::test]
    async fn dropping_it_kills_the_group() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        let mut command = Command::new("sh");
        // The second shell holds the write end open until it is killed, and a reader sees the end of the file then.
        command
            .arg("-c")
            .arg("mkfifo \"$0\"; (exec 3>\"$0\"; sleep 1000) & wait")
            .arg(&fifo)
            .stdin(Stdio::null());
        let running = tokio::spawn(finish(command, 1, Abandoned::Killed));
        while !fifo.exists() {
            tokio::task::yield_now().await;
        }
        let reader = tokio::task::spawn_blocking({
            let fifo = fifo.clone();
            move || std::fs::File::open(fifo)
        });
        let mut reader = reader.await.unwrap().unwrap();
        running.abort();
        let read = tokio::task::spawn_blocking(move || io::Read::read(&mut reader, &mut [0; 1]));
        assert_eq!(read.await.unwrap().unwrap(), 0);
    }
}

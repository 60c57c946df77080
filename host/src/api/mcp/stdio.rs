//! Polls standard input and output instead of using a thread for each, which saves thread switches
//! per answer.
//!
//! Clients connect standard input and output by pipes (Python, Rust) or sockets (Node). A pipe is
//! reopened and a socket duplicated, so that the descriptors shared with the parent stay unchanged.
//! Files and terminals cannot be polled, so threads are used for them.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
    pin::Pin,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec},
    fs::{FileType, Mode, OFlags},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{UnixStream, unix::pipe},
};

use crate::stdout;

pub(super) type Input = Pin<Box<dyn AsyncRead + Send>>;
pub(super) type Output = Pin<Box<dyn AsyncWrite + Send>>;

/// Opens standard input and output. Must be called within a runtime.
pub(super) fn open() -> io::Result<(Input, Output)> {
    stdout::check()?;
    let (input, output) = (input(io::stdin().as_fd())?, output(io::stdout().as_fd())?);
    Ok(match (input, output) {
        (Some(input), Some(output)) => (input, output),
        _ => (Box::pin(tokio::io::stdin()), Box::pin(tokio::io::stdout())),
    })
}

/// Whether nobody can write to standard input any more. Some of the input may not be read yet. The
/// input from a file counts as complete, because no client waits behind it.
pub(super) fn has_hung_up() -> bool {
    let stdin = io::stdin();
    if kind(stdin.as_fd()).is_ok_and(|kind| kind == FileType::RegularFile) {
        return true;
    }
    let mut polled = [PollFd::new(&stdin, PollFlags::RDHUP)];
    let at_once = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let seen = rustix::event::poll(&mut polled, Some(&at_once));
    let hung_up = PollFlags::HUP | PollFlags::RDHUP;
    seen.is_ok() && polled[0].revents().intersects(hung_up)
}

fn input(fd: BorrowedFd<'_>) -> io::Result<Option<Input>> {
    Ok(match kind(fd)? {
        FileType::Fifo => Some(Box::pin(pipe::Receiver::from_owned_fd(reopen(
            fd,
            OFlags::RDONLY,
        )?)?)),
        FileType::Socket => Some(Box::pin(socket(fd)?)),
        _ => None,
    })
}

fn output(fd: BorrowedFd<'_>) -> io::Result<Option<Output>> {
    Ok(match kind(fd)? {
        FileType::Fifo => Some(Box::pin(pipe::Sender::from_owned_fd(reopen(
            fd,
            OFlags::WRONLY,
        )?)?)),
        FileType::Socket => Some(Box::pin(socket(fd)?)),
        _ => None,
    })
}

fn kind(fd: BorrowedFd<'_>) -> io::Result<FileType> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(fd)?.st_mode))
}

/// Opens a separate file description, so that non-blocking mode affects no other process.
fn reopen(fd: BorrowedFd<'_>, access: OFlags) -> io::Result<std::os::fd::OwnedFd> {
    use std::os::fd::AsRawFd;
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    Ok(rustix::fs::open(
        path,
        access | OFlags::NONBLOCK | OFlags::CLOEXEC,
        Mode::empty(),
    )?)
}

/// Duplicates a socket, because a socket cannot be reopened. Non-blocking mode affects no other
/// process, because no other process uses this end of the socket.
fn socket(fd: BorrowedFd<'_>) -> io::Result<UnixStream> {
    let socket = std::os::unix::net::UnixStream::from(fd.try_clone_to_owned()?);
    socket.set_nonblocking(true)?;
    UnixStream::from_std(socket)
}

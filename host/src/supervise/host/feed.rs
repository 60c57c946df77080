//! Feeding a child: the supervisor sends the writing end of the pipe that the child reads.
//!
//! The host asks for that pipe over a connection, which stays open while the host feeds the child.
//! If the connection closes without an `end`, the input has broken off and the supervisor kills the
//! child.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::UnixStream;
use tokio::net::unix::pipe;

use super::join;
use crate::clock;
use crate::supervise::SuperviseError;
use crate::supervise::frame::{self, FrameError, Incoming};
use crate::supervise::process::SOCKET_FILE;
use crate::supervise::protocol::{FeedWord, Hello, Message, PROTOCOL};
use crate::supervise::sys::files::SocketPath;
use crate::supervise::words::ChildId;

/// Size of the buffer for one read; every answer is shorter.
const ANSWER_BYTES: usize = 4096;

/// The input of a running child. If the feed is dropped without [`Feed::end`], the input breaks off
/// and the supervisor kills the child, unless the child is being stopped already.
#[derive(Debug)]
pub(crate) struct Feed {
    pipe: pipe::Sender,
    wire: UnixStream,
}

impl Feed {
    /// Writes all bytes to the pipe. [`io::ErrorKind::BrokenPipe`] means that the child no longer
    /// reads.
    pub(crate) async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.pipe.write_all(bytes).await
    }

    /// Ends the input.
    pub(crate) async fn end(self) -> io::Result<()> {
        let Self { pipe, mut wire } = self;
        // The host's writing end is closed first. The supervisor then has the only one, and the
        // child's input ends when the supervisor closes it.
        drop(pipe);
        let mut word = Vec::new();
        frame::encode(&FeedWord::End, &mut word).map_err(invalid)?;
        wire.write_all(&word).await
    }
}

/// Asks for the input of a child; `None` if nothing reads the input any more.
pub(super) async fn claim(
    dir: &Path,
    epoch: u64,
    child: ChildId,
) -> Result<Option<Feed>, SuperviseError> {
    let claimed = tokio::select! {
        claimed = ask(dir, epoch, child) => claimed,
        () = clock::sleep(join::PATIENCE) => Err(io::ErrorKind::TimedOut.into()),
    };
    claimed.map_err(|source| SuperviseError::Connection {
        dir: dir.to_owned(),
        source,
    })
}

async fn ask(dir: &Path, epoch: u64, child: ChildId) -> io::Result<Option<Feed>> {
    let path = SocketPath::new(dir, SOCKET_FILE)?;
    let mut wire = UnixStream::connect(path.as_path()).await?;
    let hello = Hello {
        protocol: PROTOCOL,
        epoch,
        feed: Some(child),
    };
    let mut bytes = Vec::new();
    frame::encode(&hello, &mut bytes).map_err(invalid)?;
    wire.write_all(&bytes).await?;
    match answer(&wire).await? {
        (Message::InputOpen, Some(pipe)) => {
            let pipe = pipe::Sender::from_owned_fd(pipe)?;
            Ok(Some(Feed { pipe, wire }))
        }
        (Message::InputClosed | Message::Fenced { .. }, _) => Ok(None),
        (other, _) => Err(io::Error::other(format!("unexpected answer: {other:?}"))),
    }
}

/// Reads one frame, and the descriptor that came with the frame.
async fn answer(wire: &UnixStream) -> io::Result<(Message, Option<OwnedFd>)> {
    let mut incoming = Incoming::default();
    let mut descriptor = None;
    loop {
        if let Some(frame) = incoming.next_frame().map_err(invalid)? {
            return Ok((frame::decode(frame).map_err(invalid)?, descriptor));
        }
        let mut buffer = [0; ANSWER_BYTES];
        let (length, with_it) = wire
            .async_io(Interest::READABLE, || receive(wire, &mut buffer))
            .await?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        incoming.extend(&buffer[..length]);
        descriptor = descriptor.or(with_it);
    }
}

fn receive(wire: &UnixStream, buffer: &mut [u8]) -> io::Result<(usize, Option<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut slices = [IoSliceMut::new(buffer)];
    let received = rustix::net::recvmsg(wire, &mut slices, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let descriptor = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    Ok((received.bytes, descriptor))
}

fn invalid(error: FrameError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

//! Copies output from the pipes into the log.
//!
//! Each ready pipe gets a bounded turn, so a flood in one pipe does not delay other pipes, exits or
//! commands. While the log cannot be written, the attempt is held: its pipes are not read. Once the
//! pipes are full, the attempt's processes block. If the processes end meanwhile, the rest of their
//! output stays in the pipes, which are read to their end later. So no output is lost.

use std::time::Duration;

use rustix::event::epoll::{self, EventFlags};

use super::attempt::{At, Attempt, AttemptNo, Hold, Phase, State};
use super::{READ_BYTES, Supervisor, Token};
use crate::clock;
use crate::supervise::log::{Channel, HEADER_BYTES};
use crate::supervise::protocol::Message;

/// The most reads in a row from one pipe before other events are handled.
const READS_PER_TURN: u32 = 4;
/// The default capacity of a pipe. A pipe that was found full gets a larger buffer, so that its
/// writer waits less.
const USUAL_PIPE_BYTES: usize = 64 << 10;
const LARGE_PIPE_BYTES: usize = 1 << 20;
/// How often writing the log is tried again.
const RETRY_LOG_EVERY: Duration = Duration::from_millis(250);

const BOTH: [Channel; 2] = [Channel::Stdout, Channel::Stderr];

/// How a turn at a pipe ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// There may be more.
    More,
    /// The pipe is empty at the moment.
    Empty,
    /// All writers have closed the pipe, and this process has closed its reading end.
    Closed,
    /// The log could not be written.
    Held,
}

impl Supervisor {
    pub(super) fn pump(&mut self, no: AttemptNo, child: u16, channel: Channel) {
        let turn = self.take_turn(no, child, channel);
        if turn == Turn::Closed && self.draining.contains(&no) {
            self.settle_and_tell(no);
        }
    }

    /// Reads everything that is now in the pipes of a child. Later output is read when its event
    /// arrives: a process may write faster than this function reads, and would delay all other
    /// events.
    pub(super) fn drain_child(&mut self, no: AttemptNo, child: u16) {
        for channel in BOTH {
            let until = self.taken(no, child, channel) + self.waiting(no, child, channel);
            while self.take_turn(no, child, channel) == Turn::More
                && self.taken(no, child, channel) <= until
            {}
        }
    }

    pub(super) fn drain_children(&mut self, no: AttemptNo) {
        let attempt = self.attempts.get(&no);
        let children: Option<Vec<u16>> =
            attempt.map(|attempt| attempt.children.keys().copied().collect());
        for child in children.unwrap_or_default() {
            self.drain_child(no, child);
        }
    }

    /// How much of a child's output the log has taken, including the bytes that the cap deleted.
    fn taken(&self, no: AttemptNo, child: u16, channel: Channel) -> u64 {
        let attempt = self.attempts.get(&no);
        attempt.map_or(0, |attempt| attempt.log.bytes(child, channel))
    }

    /// The number of bytes that are in a pipe now. If the number cannot be found out, returns 0,
    /// and the caller takes only one turn.
    fn waiting(&mut self, no: AttemptNo, child: u16, channel: Channel) -> u64 {
        let attempt = self.attempts.get_mut(&no);
        let child = attempt.and_then(|attempt| attempt.children.get_mut(&child));
        let pipe = child.and_then(|child| child.pipe(channel).as_ref());
        pipe.and_then(|pipe| rustix::io::ioctl_fionread(&pipe.descriptor).ok())
            .unwrap_or(0)
    }

    fn take_turn(&mut self, no: AttemptNo, index: u16, channel: Channel) -> Turn {
        let Some(attempt) = self.attempts.get_mut(&no) else {
            return Turn::Closed;
        };
        if attempt.held.is_some() {
            return Turn::Held;
        }
        let Attempt {
            children,
            log,
            last_output,
            ..
        } = attempt;
        let Some(slot) = children.get_mut(&index).map(|child| child.pipe(channel)) else {
            return Turn::Closed;
        };
        for _ in 0..READS_PER_TURN {
            let Some(pipe) = slot else {
                return Turn::Closed;
            };
            let length = match rustix::io::read(&pipe.descriptor, &mut self.buffer[HEADER_BYTES..])
            {
                Ok(0) => {
                    *slot = None;
                    return Turn::Closed;
                }
                Ok(length) => length,
                Err(rustix::io::Errno::AGAIN) => return Turn::Empty,
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => {
                    say!("cannot read the output of {}: {error}", attempt.key);
                    *slot = None;
                    return Turn::Closed;
                }
            };
            *last_output = clock::monotonic();
            if length >= USUAL_PIPE_BYTES && !pipe.grown {
                pipe.grown = true;
                // The kernel refuses this if the size exceeds the user's allowance for pipes. If
                // so, the pipe keeps its size.
                rustix::pipe::fcntl_setpipe_size(&pipe.descriptor, LARGE_PIPE_BYTES).ok();
            }
            let frame = &mut self.buffer[..HEADER_BYTES + length];
            if let Err(held) = log.append(index, channel, clock::wall_us(), frame) {
                self.hold(no, held.0);
                return Turn::Held;
            }
            if length < READ_BYTES.min(USUAL_PIPE_BYTES) {
                // The read was shorter than it could have been, so the pipe is most likely empty.
                // If not, epoll reports it again.
                return Turn::More;
            }
        }
        Turn::More
    }

    fn is_held(&self, no: AttemptNo) -> bool {
        let attempt = self.attempts.get(&no);
        attempt.is_some_and(|attempt| attempt.held.is_some())
    }

    fn hold(&mut self, no: AttemptNo, message: String) {
        let Some(attempt) = self.attempts.get_mut(&no) else {
            return;
        };
        // Pipes without writers are removed too, because epoll would report them endlessly.
        for pipe in attempt
            .children
            .values()
            .flat_map(|child| child.pipes.iter().flatten())
        {
            if let Err(error) = epoll::delete(&self.epoll, &pipe.descriptor) {
                say!(
                    "cannot stop listening to a pipe of {}: {error}",
                    attempt.key
                );
            }
        }
        attempt.held = Some(Hold {
            message: message.clone(),
            retry_at: clock::monotonic() + RETRY_LOG_EVERY,
        });
        let attempt = attempt.key.clone();
        self.tell(&Message::Held {
            attempt,
            message: Some(message),
        });
        self.rearm(no);
    }

    /// Drops the output that cannot be written, now and later, so that the attempt can end without
    /// room for it. What the attempt has written may be what fills the disk.
    pub(super) fn drop_unwritten(&mut self, no: AttemptNo) {
        let Some(attempt) = self.attempts.get_mut(&no) else {
            return;
        };
        attempt.log.drop_unwritten();
        let now = clock::monotonic();
        if let Some(hold) = &mut attempt.held {
            hold.retry_at = now;
            self.retry_log(no, now);
            self.rearm(no);
        }
    }

    pub(super) fn retry_log(&mut self, no: AttemptNo, now: At) {
        let Some(attempt) = self.attempts.get_mut(&no) else {
            return;
        };
        let Some(hold) = attempt.held.as_mut().filter(|hold| hold.retry_at <= now) else {
            return;
        };
        if attempt.log.retry().is_err() {
            hold.retry_at = now + RETRY_LOG_EVERY;
            return;
        }
        attempt.held = None;
        attempt.last_output = now;
        if let Phase::Draining(drain) = &mut attempt.phase {
            drain.since = now;
        }
        let key = attempt.key.clone();
        let ended: Vec<u16> = attempt
            .children
            .iter()
            .filter(|(_, child)| matches!(child.state, State::Exited { .. }))
            .map(|(index, _)| *index)
            .collect();
        let mut unheard = None;
        for (index, child) in &attempt.children {
            for (pipe, channel) in child.pipes.iter().zip(BOTH) {
                let Some(pipe) = pipe else { continue };
                let token = Token::Pipe(no, *index, channel).pack();
                if let Err(error) = epoll::add(&self.epoll, &pipe.descriptor, token, EventFlags::IN)
                {
                    unheard = Some(error.to_string());
                }
            }
        }
        if let Some(message) = unheard {
            // A child would wait for ever if nobody read its pipe, so this is tried again later.
            say!("cannot listen to a pipe of {key}: {message}");
            return self.hold(no, message);
        }
        // Once the end of the hold is reported, a host takes the output of an ended child for
        // complete.
        for child in ended {
            self.drain_child(no, child);
        }
        if self.is_held(no) {
            return;
        }
        self.tell(&Message::Held {
            attempt: key,
            message: None,
        });
        if self.draining.contains(&no) {
            self.settle_and_tell(no);
        }
    }
}

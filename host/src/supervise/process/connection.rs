//! Connections of hosts: accepting them, reading commands, sending messages.
//!
//! One host is obeyed at a time: the one with the newest connection of the highest epoch. A host
//! that is replaced by a host of a higher epoch gets the message `fenced` and is disconnected. The
//! epoch in this message also tells the replaced host that it must not write to the store any more.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::event::epoll::{self, EventFlags};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{ACCEPT_AGAIN, Supervisor, Token};
use crate::clock;
use crate::supervise::frame::{self, FrameError, Incoming};
use crate::supervise::protocol::{Hello, Message, Numbered, PROTOCOL, Welcome};

/// The most connections that have not sent their hello yet. If there are more, the oldest is
/// dropped.
const MOST_GREETING: usize = 8;
/// The most unsent bytes. If more bytes wait, the host evidently does not read. It is then
/// disconnected, and gets the whole state when it connects again.
const MOST_UNSENT_BYTES: usize = 64 << 20;
/// How many commands are confirmed at a time, so that the host can forget them, unless one of them
/// has to be confirmed at once.
const CONFIRM_EVERY: u64 = 64;
/// How long the first of several commands waits to be confirmed while the others are carried out.
const CONFIRM_WITHIN: Duration = Duration::from_millis(if cfg!(test) { 0 } else { 1_000 });

/// The number of a connection, never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct ConnectionNo(pub(super) u32);

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) no: ConnectionNo,
    stream: UnixStream,
    incoming: Incoming,
    unsent: Vec<u8>,
    /// Whether epoll reports when more can be sent.
    waits_to_send: bool,
}

/// Why a connection has ended.
#[derive(Debug)]
pub(super) enum Over {
    /// The other side closed it.
    Closed,
    Fault(String),
}

impl Connection {
    pub(super) fn push(&mut self, message: &impl Serialize) {
        if let Err(error) = frame::encode(message, &mut self.unsent) {
            // Cannot happen, since no message is that long. After a reconnection the host would get
            // the whole state anyway.
            say!("a message was not sent: {error}");
        }
    }

    pub(super) fn receive(&mut self) -> Result<(), Over> {
        let mut buffer = [0; 16 << 10];
        loop {
            match rustix::io::read(&self.stream, &mut buffer) {
                Ok(0) => return Err(Over::Closed),
                Ok(length) => {
                    self.incoming.extend(&buffer[..length]);
                    if length < buffer.len() {
                        return Ok(());
                    }
                }
                Err(rustix::io::Errno::AGAIN) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(Over::Fault(error.to_string())),
            }
        }
    }

    pub(super) fn send(&mut self) -> Result<(), Over> {
        let mut done = 0;
        while done < self.unsent.len() {
            match rustix::net::send(&self.stream, &self.unsent[done..], SendFlags::NOSIGNAL) {
                Ok(count) => done += count,
                Err(rustix::io::Errno::AGAIN) => break,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(Over::Fault(error.to_string())),
            }
        }
        self.unsent.drain(..done);
        if self.unsent.len() > MOST_UNSENT_BYTES {
            return Err(Over::Fault("the host does not read".to_owned()));
        }
        Ok(())
    }
}

impl Connection {
    /// The next complete frame of the received bytes.
    pub(super) fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, FrameError> {
        let frame = self.incoming.next_frame()?;
        frame.map(frame::decode).transpose()
    }

    /// The commands that have arrived, and the fault after them, if there is one.
    fn commands(&mut self) -> (Vec<Numbered>, Option<FrameError>) {
        let mut arrived = Vec::new();
        loop {
            match self.incoming.next_frame() {
                Ok(None) => return (arrived, None),
                Ok(Some(frame)) => match frame::decode(frame) {
                    Ok(numbered) => arrived.push(numbered),
                    // Unexpected, because no host commands a supervisor of another protocol. If the
                    // host were disconnected, it would send the same command again.
                    Err(error) => say!("a command was not understood: {error}"),
                },
                Err(fault) => return (arrived, Some(fault)),
            }
        }
    }

    /// Sends a message together with a descriptor, which stays open here. Requires that nothing is
    /// queued.
    pub(super) fn hand_over(&self, message: &Message, descriptor: &OwnedFd) -> io::Result<()> {
        let mut bytes = Vec::new();
        frame::encode(message, &mut bytes).map_err(io::Error::other)?;
        let descriptors = [descriptor.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
            return Err(io::Error::other("no space for a descriptor"));
        }
        let slices = [IoSlice::new(&bytes)];
        let sent = rustix::net::sendmsg(&self.stream, &slices, &mut control, SendFlags::NOSIGNAL)?;
        // All bytes must fit at once; the buffer of a new connection holds more than one message.
        if sent == bytes.len() {
            Ok(())
        } else {
            Err(io::ErrorKind::WriteZero.into())
        }
    }
}

impl Supervisor {
    pub(super) fn accept(&mut self) {
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => {
                    if let Err(error) = self.admit(stream) {
                        say!("a connection was refused: {error}");
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // The peer closed the connection before it was accepted.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    say!("cannot accept a connection: {error}");
                    return self.be_deaf();
                }
            }
        }
    }

    /// Ignores the listener for a moment. While no descriptor is free, connections cannot be
    /// accepted, but epoll would report the listener again and again.
    fn be_deaf(&mut self) {
        match self.set_listening(EventFlags::empty()) {
            Ok(()) => self.deaf_until = Some(clock::monotonic() + ACCEPT_AGAIN),
            Err(error) => say!("cannot pause accepting connections: {error}"),
        }
    }

    pub(super) fn listen_again(&mut self, now: Duration) {
        if self.deaf_until.is_none_or(|until| until > now) {
            return;
        }
        match self.set_listening(EventFlags::IN) {
            Ok(()) => self.deaf_until = None,
            Err(error) => {
                say!("cannot resume accepting connections: {error}");
                self.deaf_until = Some(now + ACCEPT_AGAIN);
            }
        }
    }

    fn set_listening(&self, events: EventFlags) -> io::Result<()> {
        let token = Token::Listener.pack();
        Ok(epoll::modify(&self.epoll, &self.listener, token, events)?)
    }

    fn admit(&mut self, stream: UnixStream) -> io::Result<()> {
        stream.set_nonblocking(true)?;
        let no = ConnectionNo(self.next_connection);
        self.next_connection = self.next_connection.wrapping_add(1);
        self.watch(&stream, Token::Connection(no), EventFlags::IN)?;
        if self.greeting.len() >= MOST_GREETING {
            self.greeting.remove(0);
        }
        self.greeting.push(Connection {
            no,
            stream,
            incoming: Incoming::default(),
            unsent: Vec::new(),
            waits_to_send: false,
        });
        Ok(())
    }

    pub(super) fn hear(&mut self, no: ConnectionNo, flags: EventFlags) {
        if let Some(index) = self
            .greeting
            .iter()
            .position(|connection| connection.no == no)
        {
            let connection = self.greeting.swap_remove(index);
            self.greet(connection);
            return;
        }
        if self.hear_feeder(no) {
            return;
        }
        let Some(host) = self.host.as_mut().filter(|host| host.no == no) else {
            return;
        };
        if !flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
            return;
        }
        let over = host.receive().err();
        // Commands that arrived before the end of the connection are still carried out.
        self.obey();
        if let Some(over) = over {
            self.part(over);
        }
    }

    /// Reads a hello. A hello with an old epoch is refused, and a hello that names a child requests
    /// the input of this child. After any other hello, the commands on this connection are obeyed,
    /// and the previous connection of a host is dropped.
    fn greet(&mut self, mut connection: Connection) {
        if connection.receive().is_err() {
            return;
        }
        let hello: Hello = match connection.next() {
            Ok(Some(hello)) => hello,
            Ok(None) => {
                self.greeting.push(connection);
                return;
            }
            Err(error) => {
                say!("a connection did not begin with a hello: {error}");
                return;
            }
        };
        if hello.epoch < self.epoch {
            connection.push(&Message::Fenced { epoch: self.epoch });
            // The old host is not obeyed even if this message does not arrive.
            connection.send().ok();
            return;
        }
        if let Some(child) = hello.feed {
            return self.claim_input(connection, &child);
        }
        if let Some(mut old) = self.host.take().filter(|_| hello.epoch > self.epoch) {
            old.push(&Message::Fenced { epoch: hello.epoch });
            // The old host is replaced even if this message does not arrive.
            old.send().ok();
        }
        if hello.epoch > self.epoch {
            (self.epoch, self.received, self.confirmed) = (hello.epoch, 0, 0);
            // The new host may start children at any moment, even if the old host told this
            // supervisor to end.
            self.quitting = false;
            self.break_off_all();
        }
        self.welcome(&mut connection);
        self.host = Some(connection);
        self.obey();
    }

    fn welcome(&mut self, connection: &mut Connection) {
        let identity = self.identity.clone();
        connection.push(&Message::Welcome(Welcome {
            protocol: PROTOCOL,
            identity,
            received: self.received,
            feeds: true,
            notes_starts: true,
            confirms_at_once: true,
        }));
        self.confirmed = self.received;
        for attempt in self.attempts.values() {
            connection.push(&Message::Attempt(attempt.view()));
        }
        connection.push(&Message::Ready);
        for child in self
            .attempts
            .values_mut()
            .flat_map(|attempt| attempt.children.values_mut())
        {
            // The states that were sent above contain the start of the child.
            child.tell_start_at = None;
        }
    }

    /// Carries out the commands that have arrived, in order.
    fn obey(&mut self) {
        let mut waiting = VecDeque::new();
        let mut confirms = false;
        let mut confirmed_at = clock::monotonic();
        loop {
            let Some(host) = &mut self.host else {
                return;
            };
            if !waiting.is_empty() {
                // The last command may have taken long, and a stop may have arrived meanwhile for a
                // start that waits. If the connection has ended, its next event shows this too.
                drop(host.receive());
            }
            let (arrived, fault) = host.commands();
            self.heed_stops(&arrived);
            waiting.extend(arrived);
            let Some(numbered) = waiting.pop_front() else {
                if let Some(fault) = fault {
                    return self.part(Over::Fault(fault.to_string()));
                }
                break;
            };
            if numbered.seq > self.received {
                self.received = numbered.seq;
                confirms |= numbered.command.is_confirmed_at_once();
                self.carry_out(numbered.command);
            }
            // Starts or stops of a thousand attempts take some seconds.
            let is_open = self.received > self.confirmed;
            if is_open && clock::monotonic() >= confirmed_at + CONFIRM_WITHIN {
                self.confirm();
                // As at the end of a round, a report must be in the journal first.
                self.journal.flush();
                // The commands that wait are carried out even if the host has just ended. The next
                // event of its connection shows this.
                if let Some(host) = &mut self.host {
                    drop(host.send());
                }
                (confirms, confirmed_at) = (false, clock::monotonic());
            }
        }
        if confirms || self.received - self.confirmed >= CONFIRM_EVERY {
            self.confirm();
        }
    }

    fn confirm(&mut self) {
        self.confirmed = self.received;
        let seq = self.received;
        self.tell(&Message::Received { seq });
    }

    /// Sends a message to the host, if a host is connected. If not, the next host learns the
    /// content from the whole state, which it gets first.
    pub(super) fn tell(&mut self, message: &Message) {
        if let Some(host) = &mut self.host {
            host.push(message);
        }
    }

    /// Sends a message to the host and notes it in the journal.
    pub(super) fn report(&mut self, message: &Message) {
        self.journal.note(message);
        self.tell(message);
    }

    pub(super) fn flush_host(&mut self) {
        let Some(host) = &mut self.host else { return };
        if let Err(over) = host.send() {
            return self.part(over);
        }
        let wants = !host.unsent.is_empty();
        if wants == host.waits_to_send {
            return;
        }
        host.waits_to_send = wants;
        let flags = if wants {
            EventFlags::IN | EventFlags::OUT
        } else {
            EventFlags::IN
        };
        if let Err(error) = epoll::modify(
            &self.epoll,
            &host.stream,
            Token::Connection(host.no).pack(),
            flags,
        ) {
            self.part(Over::Fault(error.to_string()));
        }
    }

    /// Drops the host's connection; closing it removes it from epoll.
    fn part(&mut self, over: Over) {
        self.host = None;
        self.break_off_unclaimed();
        if let Over::Fault(message) = over {
            say!("the host is disconnected: {message}");
        }
    }
}

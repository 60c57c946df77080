//! The connection to one supervisor.
//!
//! Commands are numbered and kept until the supervisor confirms them; unconfirmed commands are sent
//! again after a reconnection. So commands keep their order, and each command is carried out once,
//! whatever happens to the socket.

use std::collections::{HashSet, VecDeque};
use std::io;
use std::path::PathBuf;
use std::task::{Context, Poll};

use tokio::net::UnixStream;

use super::answers::{ANSWERS_WITHIN, Answers};
use super::join::Joined;
use super::silent::Silence;
use super::told::Told;
use crate::supervise::frame::{self, Incoming};
use crate::supervise::protocol::{AttemptState, Command, Message, Numbered};
use crate::supervise::report::{Found, Report};
use crate::supervise::words::{AttemptKey, ChildId, NotStartedClass, StartChild, Stdin};

/// One supervisor.
pub(super) struct Link {
    pub(super) number: u32,
    pub(super) dir: PathBuf,
    /// `None` while the host is connecting.
    wire: Option<Wire>,
    /// Commands that the supervisor may not have received.
    unconfirmed: VecDeque<Numbered>,
    last_seq: u64,
    /// The number of the last command that was given before the connection broke. The supervisor
    /// cannot have received any later command.
    last_sent: u64,
    pub(super) told: Told,
    pub(super) quitting: bool,
    /// Whether the supervisor has refused a start because it is ending.
    pub(super) is_ending: bool,
    /// Whether the host was ever connected to this supervisor. If so, the supervisor may have
    /// received commands.
    pub(super) was_joined: bool,
    /// Whether the supervisor has not answered since this host began. If so, its attempts are known
    /// only from its notes.
    pub(super) is_silent: bool,
    /// Whether the supervisor can feed children by a stream. Assumed to be true before the first
    /// connection, because every supervisor that this host starts can do so.
    feeds: bool,
    /// Whether a child that is not in the supervisor's notes was never started.
    notes_starts: bool,
    /// Whether the supervisor confirms stops, finishes and signals at once. If not, it may be
    /// silent for as long as the attempt takes to end.
    confirms_at_once: bool,
    answers: Answers,
    /// Why the attempts are held back, while an answer is late.
    late: Option<String>,
}

/// A change of a connected supervisor.
pub(super) enum Change {
    /// The supervisor does not answer.
    Silent(Silence),
    /// The supervisor answers again, or the connection has broken.
    Answers,
}

struct Wire {
    stream: UnixStream,
    incoming: Incoming,
    unsent: Vec<u8>,
    /// Set until the first read of a new connection: messages may have arrived together with the
    /// handshake, and the socket may never become readable again.
    is_new: bool,
}

impl Link {
    pub(super) fn new(number: u32, dir: PathBuf) -> Self {
        let told = Told::default();
        Self {
            number,
            dir,
            wire: None,
            unconfirmed: VecDeque::new(),
            last_seq: 0,
            last_sent: 0,
            told,
            quitting: false,
            is_ending: false,
            was_joined: false,
            is_silent: false,
            feeds: true,
            notes_starts: false,
            confirms_at_once: false,
            answers: Answers::new(ANSWERS_WITHIN),
            late: None,
        }
    }

    /// A link to an earlier host's supervisor that does not answer.
    pub(super) fn silent(number: u32, dir: PathBuf) -> Self {
        Self {
            was_joined: true,
            is_silent: true,
            ..Self::new(number, dir)
        }
    }

    /// Queues the start of a child. Returns the child and a reason, and queues nothing, if this
    /// supervisor cannot start it.
    pub(super) fn start(&mut self, start: StartChild) -> Result<(), (ChildId, &'static str)> {
        let child = start.child.clone();
        if start.stdin == Stdin::Stream && !self.feeds {
            let message = "the attempt's supervisor is too old to feed a child by a stream";
            return Err((child, message));
        }
        if !self.give(Command::Start(Box::new(start))) {
            let message = "the command, its arguments and its variables are too long";
            return Err((child, message));
        }
        self.told.starting(&child);
        self.answers.asked();
        Ok(())
    }

    /// Queues a command; the next [`Self::poll`] sends it together with the rest of the queue. If
    /// the command is too long to be sent, drops it and returns `false`. Only a start can be too
    /// long.
    pub(super) fn give(&mut self, command: Command) -> bool {
        let numbered = Numbered {
            seq: self.last_seq + 1,
            command,
        };
        let mut bytes = Vec::new();
        if let Err(error) = frame::encode(&numbered, &mut bytes) {
            tracing::warn!(%error, "a command cannot be sent");
            return false;
        }
        if let Some(wire) = &mut self.wire {
            wire.unsent.append(&mut bytes);
        }
        if self.confirms_at_once && numbered.command.is_confirmed_at_once() {
            self.answers.asked();
        }
        self.last_seq = numbered.seq;
        self.unconfirmed.push_back(numbered);
        true
    }

    fn confirmed(&mut self, seq: u64) {
        while self
            .unconfirmed
            .front()
            .is_some_and(|numbered| numbered.seq <= seq)
        {
            self.unconfirmed.pop_front();
        }
    }

    /// Takes over a supervisor from the previous host.
    pub(super) fn adopt(&mut self, joined: Joined) -> Vec<Found> {
        let Joined {
            stream,
            incoming,
            states,
            welcome,
        } = joined;
        self.was_joined = true;
        self.feeds = welcome.feeds;
        self.notes_starts = welcome.notes_starts;
        self.confirms_at_once = welcome.confirms_at_once;
        self.wire = Some(Wire {
            stream,
            incoming,
            unsent: Vec::new(),
            is_new: true,
        });
        states
            .into_iter()
            .map(|state| self.told.found(state))
            .collect()
    }

    /// The attempts of a silent supervisor that has now answered, without the attempts in its
    /// notes.
    pub(super) fn newly_found(&mut self, states: &[AttemptState]) -> Vec<Found> {
        let unknown = states
            .iter()
            .filter(|state| !self.told.knows(&state.attempt));
        let unknown: Vec<AttemptState> = unknown.cloned().collect();
        unknown
            .into_iter()
            .map(|state| self.told.found(state))
            .collect()
    }

    /// Continues after a reconnection: sends again the commands that the supervisor has not
    /// received, and returns the reports that the engine has not got yet.
    pub(super) fn joined(&mut self, joined: Joined) -> Vec<Report> {
        self.confirmed(joined.welcome.received);
        self.feeds = joined.welcome.feeds;
        self.notes_starts = joined.welcome.notes_starts;
        self.confirms_at_once = joined.welcome.confirms_at_once;
        let on_the_way = self
            .unconfirmed
            .iter()
            .filter_map(|numbered| subject(&numbered.command))
            .collect();
        let news = self.told.catch_up(joined.states, &on_the_way);
        self.is_ending |= news.iter().any(refuses_work);
        let mut unsent = Vec::new();
        for numbered in &self.unconfirmed {
            if let Err(error) = frame::encode(numbered, &mut unsent) {
                // Cannot happen: the command was encoded before.
                tracing::error!(%error, "a command cannot be sent again");
            }
        }
        self.was_joined = true;
        // A command that waited for the connection is only sent now.
        self.answers.heard();
        self.answers.asked();
        self.wire = Some(Wire {
            stream: joined.stream,
            incoming: joined.incoming,
            unsent,
            is_new: true,
        });
        news
    }

    pub(super) fn is_connected(&self) -> bool {
        self.wire.is_some()
    }

    /// Drops a broken connection; later commands wait for the next connection.
    pub(super) fn cut(&mut self) {
        self.wire = None;
        self.last_sent = self.last_seq;
        self.answers.heard();
    }

    /// The children that this dead supervisor has certainly not started. They are not in its notes,
    /// and either it notes each start before it carries it out, or it never received these starts.
    pub(super) fn never_started(&self, noted: &HashSet<ChildId>, has_notes: bool) -> Vec<ChildId> {
        let all_noted = self.notes_starts && has_notes;
        let child = |numbered: &Numbered| match &numbered.command {
            Command::Start(start) if all_noted || numbered.seq > self.last_sent => {
                (!noted.contains(&start.child)).then(|| start.child.clone())
            }
            _ => None,
        };
        self.unconfirmed.iter().filter_map(child).collect()
    }

    /// The change since the last call. Adds to `news` a report for each attempt that is held back,
    /// or no longer held back, because of the change.
    pub(super) fn change(&mut self, news: &mut VecDeque<Report>) -> Option<Change> {
        match (self.answers.are_late(), self.late.take()) {
            (true, None) => {
                let why = Silence::not_answering(&self.dir);
                news.extend(self.told.hold_back(None, &why.said));
                self.late = Some(why.said.clone());
                Some(Change::Silent(why))
            }
            (false, Some(why)) => {
                news.extend(self.told.let_go_on(&why));
                Some(Change::Answers)
            }
            (_, late) => {
                self.late = late;
                None
            }
        }
    }

    /// Sends the queued bytes. Ready once bytes were read, the connection has ended, or an answer
    /// is late.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(wire) = &mut self.wire else {
            return Poll::Pending;
        };
        if let Poll::Ready(read) = wire.poll(context) {
            return Poll::Ready(read);
        }
        let is_awaited = || {
            let mut commands = self.unconfirmed.iter().map(|numbered| &numbered.command);
            self.told.awaits_start()
                || self.confirms_at_once && commands.any(Command::is_confirmed_at_once)
        };
        self.answers.poll(context, is_awaited).map(Ok)
    }

    /// Sends all queued bytes; stops early if the connection breaks.
    pub(super) async fn flush_all(&mut self) {
        let Some(wire) = &mut self.wire else { return };
        while !wire.unsent.is_empty() {
            if wire.stream.writable().await.is_err() || wire.send().is_err() {
                break;
            }
        }
    }

    /// Handles the messages that have arrived; returns `true` if the supervisor has refused this
    /// host.
    pub(super) fn hear(&mut self, news: &mut VecDeque<Report>) -> io::Result<bool> {
        let invalid = |error: frame::FrameError| io::Error::new(io::ErrorKind::InvalidData, error);
        loop {
            let Some(wire) = &mut self.wire else {
                return Ok(false);
            };
            let Some(frame) = wire.incoming.next_frame().map_err(invalid)? else {
                return Ok(false);
            };
            self.answers.heard();
            match frame::decode(frame) {
                Ok(Message::Received { seq }) => self.confirmed(seq),
                Ok(Message::Fenced { .. }) => return Ok(true),
                Ok(message) => {
                    let report = self.told.news(message);
                    self.is_ending |= report.iter().any(refuses_work);
                    news.extend(report);
                }
                Err(error) => {
                    // Unexpected, because both ends have the same protocol. The messages after
                    // this one are still needed.
                    tracing::warn!(%error, "a message of the supervisor was not understood");
                }
            }
        }
    }
}

impl Wire {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.unsent.is_empty() {
            match self.send() {
                Ok(()) if self.unsent.is_empty() => break,
                Ok(()) => match self.stream.poll_write_ready(context) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => break,
                },
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        if std::mem::take(&mut self.is_new) {
            return Poll::Ready(Ok(()));
        }
        let mut buffer = [0; 16 << 10];
        loop {
            match self.stream.try_read(&mut buffer) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                Ok(length) => {
                    self.incoming.extend(&buffer[..length]);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
            match self.stream.poll_read_ready(context) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn send(&mut self) -> io::Result<()> {
        let mut done = 0;
        while done < self.unsent.len() {
            match self.stream.try_write(&self.unsent[done..]) {
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        self.unsent.drain(..done);
        Ok(())
    }
}

/// Whether a supervisor has refused a start because it is ending.
fn refuses_work(report: &Report) -> bool {
    let refused = NotStartedClass::Supervisor;
    matches!(report, Report::NotStarted { class, .. } if *class == refused)
}

/// The attempt that a command concerns.
fn subject(command: &Command) -> Option<AttemptKey> {
    match command {
        Command::Start(start) => Some(start.child.attempt().clone()),
        Command::Signal { child, .. } => Some(child.attempt().clone()),
        Command::Stop { attempt, .. } | Command::Finish { attempt } | Command::Ack { attempt } => {
            Some(attempt.clone())
        }
        Command::Quit => None,
    }
}

/// Removes from `states` the attempts that another supervisor has started meanwhile, and returns
/// them. The silent supervisor with this number was told to start these attempts before it fell
/// silent, but had not noted them.
pub(super) fn take_doubled(
    links: &[Link],
    number: u32,
    states: &mut Vec<AttemptState>,
) -> Vec<AttemptKey> {
    let (this, others): (Vec<&Link>, Vec<&Link>) =
        links.iter().partition(|link| link.number == number);
    let is_doubled = |attempt: &AttemptKey| {
        !this.iter().any(|link| link.told.knows(attempt))
            && others.iter().any(|link| link.told.knows(attempt))
    };
    let (doubled, rest) = std::mem::take(states)
        .into_iter()
        .partition(|state| is_doubled(&state.attempt));
    *states = rest;
    let doubled: Vec<AttemptState> = doubled;
    doubled.into_iter().map(|state| state.attempt).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::future::{pending, poll_fn};
    use std::time::Duration;

    use tokio::io::AsyncWriteExt;

    use super::*;
    use crate::clock;
    use crate::supervise::protocol::{Identity, PROTOCOL, Welcome};
    use crate::supervise::words::{Signal, StopWhy};

    const LIMIT: Duration = Duration::from_millis(500);

    fn joined(stream: UnixStream) -> Joined {
        let identity = Identity {
            pid: 1,
            start_time: 1,
            boot_id: String::new(),
            pid_namespace: None,
            build: String::new(),
        };
        Joined {
            stream,
            incoming: Incoming::default(),
            welcome: Welcome {
                protocol: PROTOCOL,
                identity,
                received: 0,
                feeds: true,
                notes_starts: true,
                confirms_at_once: true,
            },
            states: Vec::new(),
        }
    }

    fn start() -> StartChild {
        StartChild {
            child: ChildId::new(AttemptKey::new("t.1"), 0),
            argv: vec!["true".to_owned()],
            cwd: PathBuf::from("/"),
            env_file: None,
            env_remove: Vec::new(),
            env_set: Vec::new(),
            umask: None,
            bounds: None,
            stdin: Stdin::Empty,
            log: PathBuf::from("/log"),
            cap_bytes: 1,
            timeout: None,
            idle_timeout: None,
            ladder: Vec::new(),
        }
    }

    #[tokio::test]
    async fn the_time_for_an_answer_begins_only_once_the_supervisor_is_connected() {
        let mut link = Link::new(1, PathBuf::from("/none"));
        link.answers = Answers::new(LIMIT);
        link.start(start()).unwrap();
        clock::within(LIMIT, pending::<()>()).await;
        let (stream, other) = UnixStream::pair().unwrap();
        assert_eq!(link.joined(joined(stream)), []);
        // The first poll of a new connection ends at once.
        poll_fn(|context| link.poll(context)).await.unwrap();
        let at_once = poll_fn(|context| Poll::Ready(link.poll(context).is_ready())).await;
        assert!(!at_once && !link.answers.are_late());
        // The supervisor never answers.
        poll_fn(|context| link.poll(context)).await.unwrap();
        assert!(link.answers.are_late());
        drop(other);
    }

    async fn ready_at_once(link: &mut Link) -> bool {
        poll_fn(|context| Poll::Ready(link.poll(context).is_ready())).await
    }

    /// Sends a command to a supervisor that says nothing. Returns whether its answer is late in
    /// time.
    async fn is_late(command: Command, confirms_at_once: bool) -> bool {
        let mut link = Link::new(1, PathBuf::from("/none"));
        link.answers = Answers::new(LIMIT);
        let (stream, other) = UnixStream::pair().unwrap();
        let mut joined = joined(stream);
        joined.welcome.confirms_at_once = confirms_at_once;
        link.adopt(joined);
        assert!(ready_at_once(&mut link).await);
        assert!(link.give(command));
        let late = clock::within(2 * LIMIT, poll_fn(|context| link.poll(context))).await;
        drop(other);
        late.is_some() && link.answers.are_late()
    }

    #[tokio::test]
    async fn a_supervisor_that_does_not_confirm_a_stop_is_late_unless_it_is_too_old_for_that() {
        let attempt = AttemptKey::new("t.1");
        let stop = Command::Stop {
            attempt: attempt.clone(),
            why: StopWhy::Cancelled,
            ladder: Vec::new(),
        };
        assert!(is_late(stop.clone(), true).await);
        assert!(!is_late(stop, false).await);
        let finish = Command::Finish {
            attempt: attempt.clone(),
        };
        assert!(is_late(finish, true).await);
        let signal = Command::Signal {
            child: ChildId::new(attempt.clone(), 0),
            signal: Signal::Term,
        };
        assert!(is_late(signal, true).await);
        assert!(!is_late(Command::Ack { attempt }, true).await);
    }

    #[tokio::test]
    async fn a_supervisor_that_has_confirmed_a_stop_may_take_its_time() {
        let mut link = Link::new(1, PathBuf::from("/none"));
        link.answers = Answers::new(LIMIT);
        let (stream, mut other) = UnixStream::pair().unwrap();
        link.adopt(joined(stream));
        assert!(ready_at_once(&mut link).await);
        link.give(Command::Stop {
            attempt: AttemptKey::new("t.1"),
            why: StopWhy::Cancelled,
            ladder: Vec::new(),
        });
        let mut bytes = Vec::new();
        frame::encode(&Message::Received { seq: 1 }, &mut bytes).unwrap();
        other.write_all(&bytes).await.unwrap();
        poll_fn(|context| link.poll(context)).await.unwrap();
        let mut news = VecDeque::new();
        assert!(!link.hear(&mut news).unwrap());
        let late = clock::within(2 * LIMIT, poll_fn(|context| link.poll(context))).await;
        assert!(late.is_none() && !link.answers.are_late());
        drop(other);
    }
}

//! The supervisor process: one thread and one epoll, no runtime, and hardly an allocation while
//! nothing happens.
//!
//! The supervisor is the sub-reaper of everything that it starts. When a process below the
//! supervisor dies, the children of that process become the supervisor's own at that instant. So
//! the list of its own children can prove that nothing of an attempt is alive, without a search
//! through `/proc`.
//!
//! A running supervisor needs neither a host nor its own executable file. It ends by itself when no
//! host is connected, no child lives and every attempt is acknowledged. It also ends, together with
//! all its children, if its directory is removed, because no host could find it any more. If it is
//! told to end, it ends all its children, and stays until their output and their ends are written.
//!
//! | module | content |
//! |---|---|
//! | `connection`, `commands` | the connection of the host that is obeyed, and its commands |
//! | `start`, `command`, `environment` | starting a child |
//! | `input` | children that are fed by a host |
//! | `output` | copying output from the pipes to the log |
//! | `exits`, `strays`, `drain` | children that ended, and the processes that they left behind |
//! | `stop` | signals, deadlines |
//! | `sample` | peak memory |
//! | `journal` | notes that survive this process |
//! | `place` | the supervisor's directory, wherever it is |

mod attempt;
mod command;
mod commands;
mod connection;
mod drain;
mod environment;
mod exits;
mod input;
pub(super) mod journal;
mod output;
mod place;
mod sample;
mod start;
mod stop;
mod strays;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use rustix::event::epoll;

use self::attempt::{At, Attempt, AttemptNo};
use self::connection::{Connection, ConnectionNo};
use self::environment::Environments;
use self::journal::Journal;
use self::place::Place;
use self::sample::{OwnPeak, Sampler};
use self::stop::Chases;
use self::strays::Strays;
use super::launch;
use super::log::{Channel, HEADER_BYTES};
use super::protocol::{Identity, Message};
use super::sys::files::{self, FileLimits, Inherited};
use super::sys::procfs::{self, Stat};
use super::sys::signals::{self, Arrivals};
use super::sys::spawn::reset_execution;
use super::sys::tag::Tag;
use super::words::{AttemptKey, StopWhy};
use crate::bounds::Bounds;
use crate::clock;
use crate::fsx;

pub(super) const LOCK_FILE: &str = "lock";
pub(super) const SOCKET_FILE: &str = "sock";
pub(super) const IDENTITY_FILE: &str = "identity.json";
pub(super) const LOG_FILE: &str = "log";
/// A file that is made before a person's command ends the supervisor by a signal. The attempts then
/// count as cancelled.
pub(super) const ASKED_FILE: &str = "asked";

/// How long the supervisor stays when no host is connected and nothing is left to do: long enough
/// for a host to restart.
const LINGER: Duration = Duration::from_secs(3);
/// How often the supervisor checks, while no host is connected, that its directory and its socket
/// still exist.
const LOOK_FOR_DIRECTORY: Duration = Duration::from_secs(5);
/// The pause after a connection that could not be accepted.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
/// The most bytes in one read of a pipe: few enough to stay in the second-level cache on their way
/// to the file.
const READ_BYTES: usize = 256 << 10;
const EVENTS_AT_ONCE: usize = 256;

/// The subject of an event, packed into the 64 bits that epoll stores with each descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Signals,
    Listener,
    Connection(ConnectionNo),
    Pipe(AttemptNo, u16, Channel),
}

impl Token {
    fn pack(self) -> epoll::EventData {
        epoll::EventData::new_u64(match self {
            Self::Signals => 0,
            Self::Listener => 1,
            Self::Connection(no) => 2 | u64::from(no.0) << 32,
            Self::Pipe(no, child, channel) => {
                3 | u64::from(channel == Channel::Stderr) << 8
                    | u64::from(child) << 16
                    | u64::from(no.0) << 32
            }
        })
    }

    fn unpack(data: epoll::EventData) -> Self {
        let [kind, channel, child0, child1, n0, n1, n2, n3] = data.u64().to_le_bytes();
        let no = u32::from_le_bytes([n0, n1, n2, n3]);
        match kind {
            0 => Self::Signals,
            1 => Self::Listener,
            2 => Self::Connection(ConnectionNo(no)),
            _ => {
                let channel = if channel == 0 {
                    Channel::Stdout
                } else {
                    Channel::Stderr
                };
                Self::Pipe(AttemptNo(no), u16::from_le_bytes([child0, child1]), channel)
            }
        }
    }
}

/// Runs the supervisor in `dir`. To be called before the program opens a descriptor or starts a
/// thread. `descriptors` is the soft limit on open files for children, if it differs from this
/// process's limit.
pub(crate) fn run(dir: &Path, descriptors: Option<u64>) -> ExitCode {
    fsx::unmask_owner();
    let sealed = files::seal_inherited(Inherited::Closed);
    match sealed
        .and_then(|()| signals::survive_file_limit())
        .and_then(|()| Supervisor::open(dir, descriptors))
        .and_then(|mut supervisor| supervisor.serve())
    {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say!("the supervisor in {} ends: {error}", dir.display());
            ExitCode::FAILURE
        }
    }
}

struct Supervisor {
    place: Place,
    identity: Identity,
    epoll: OwnedFd,
    arrivals: Arrivals,
    listener: UnixListener,
    limits: FileLimits,
    /// The limits of a child whose start contains no limits.
    childrens_bounds: Bounds,
    null: File,

    attempts: HashMap<AttemptNo, Attempt>,
    by_key: HashMap<AttemptKey, AttemptNo>,
    /// Leaders that are not reaped.
    leaders: HashMap<u32, (AttemptNo, u16)>,
    /// Attempts without a running leader that are not over yet.
    draining: BTreeSet<AttemptNo>,
    timers: BTreeSet<(At, AttemptNo)>,
    next_attempt: u32,
    /// Attempts that were stopped before the start of any child of them had arrived, the latest
    /// last.
    stopped_ahead: VecDeque<AttemptKey>,
    strays: Strays,
    /// The time at which to look again for children that have ended, if they could not be listed.
    list_again: Option<At>,

    environments: Environments,
    journal: Journal,
    sampler: Sampler,
    own_peak: OwnPeak,
    /// The time until which the list of all processes may be reused, and the list.
    processes: (Option<At>, Vec<Stat>),
    chases: Chases,
    buffer: Vec<u8>,

    /// The connection of the host that is obeyed.
    host: Option<Connection>,
    /// Connections that have not sent a hello yet.
    greeting: Vec<Connection>,
    next_connection: u32,
    /// The time until which the listener is ignored, because no descriptor is left for a
    /// connection.
    deaf_until: Option<At>,
    /// The connections that feed a child.
    feeders: HashMap<ConnectionNo, (AttemptNo, u16)>,
    epoch: u64,
    received: u64,
    confirmed: u64,

    idle_since: Option<At>,
    /// The time of the next check that the directory still exists; `None` while a host is
    /// connected, since the host makes that check.
    look_at: Option<At>,
    quitting: bool,
    terminated: bool,
}

impl Supervisor {
    fn open(dir: &Path, descriptors: Option<u64>) -> io::Result<Self> {
        let mut place = Place::open(dir)?;
        if let Err(error) = reset_execution() {
            say!("cannot reset the personality and the timer slack: {error}");
        }
        rustix::process::set_child_subreaper(rustix::process::Pid::from_raw(1))?;
        let arrivals = Arrivals::open()?;
        let identity = own_identity()?;
        let mut journal = Journal::create(dir.join(journal::FILE))?;
        journal.note(&Message::Supervisor(identity.clone()));
        journal.flush();

        let listener = place.listen()?;
        place.note(&identity)?;

        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(
            &epoll,
            &arrivals,
            Token::Signals.pack(),
            epoll::EventFlags::IN,
        )?;
        epoll::add(
            &epoll,
            &listener,
            Token::Listener.pack(),
            epoll::EventFlags::IN,
        )?;
        // The supervisor sets a tag of its own, because with the tag of its host it would be taken
        // for a command of the host. If setting the tag fails, the host cannot have set a tag on
        // this system either, and the supervisor has inherited none.
        Tag::of_supervisor(identity.pid, identity.start_time)
            .hand_on()
            .unwrap_or_default();
        let bounds = Bounds::of_this_process();
        let limits = FileLimits::raise(descriptors)?;
        let supervisor = Self {
            place,
            identity,
            epoll,
            arrivals,
            listener,
            limits,
            childrens_bounds: bounds.with_descriptors(limits.of_children()),
            null: File::open("/dev/null")?,
            attempts: HashMap::new(),
            by_key: HashMap::new(),
            leaders: HashMap::new(),
            draining: BTreeSet::new(),
            timers: BTreeSet::new(),
            next_attempt: 0,
            stopped_ahead: VecDeque::new(),
            strays: Strays::open()?,
            list_again: None,
            environments: Environments::default(),
            journal,
            sampler: Sampler::default(),
            own_peak: OwnPeak::default(),
            processes: (None, Vec::new()),
            chases: Chases::of_round(clock::monotonic()),
            buffer: vec![0; HEADER_BYTES + READ_BYTES],
            host: None,
            greeting: Vec::new(),
            next_connection: 0,
            deaf_until: None,
            feeders: HashMap::new(),
            epoch: 0,
            received: 0,
            confirmed: 0,
            idle_since: None,
            look_at: None,
            quitting: false,
            terminated: false,
        };
        launch::announce_ready("ready")?;
        Ok(supervisor)
    }

    fn serve(&mut self) -> io::Result<()> {
        let mut events = Vec::with_capacity(EVENTS_AT_ONCE);
        while !self.is_done() {
            let timeout = self.timeout();
            events.clear();
            match epoll::wait(
                &self.epoll,
                rustix::buffer::spare_capacity(&mut events),
                timeout.as_ref(),
            ) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            self.chases = Chases::of_round(clock::monotonic());
            for event in &events {
                self.dispatch(Token::unpack(event.data), event.flags)?;
            }
            self.run_timers();
            // The order matters: a report must be in the journal before it is sent to the host.
            self.journal.flush();
            self.compact_journal();
            self.flush_host();
        }
        self.leave();
        Ok(())
    }

    fn dispatch(&mut self, token: Token, flags: epoll::EventFlags) -> io::Result<()> {
        match token {
            Token::Signals => {
                let arrived = self.arrivals.take()?;
                if arrived.terminate {
                    self.terminated = true;
                    let why = if self.place.has(ASKED_FILE) {
                        StopWhy::Cancelled
                    } else {
                        say!("a signal ends this supervisor with everything that it has started");
                        StopWhy::Shutdown
                    };
                    self.stop_all(why);
                }
                if arrived.child {
                    self.children_ended();
                }
            }
            Token::Listener => self.accept(),
            Token::Connection(no) => self.hear(no, flags),
            Token::Pipe(attempt, child, channel) => self.pump(attempt, child, channel),
        }
        Ok(())
    }

    fn run_timers(&mut self) {
        let now = clock::monotonic();
        // Each attempt is visited once, so that an attempt without progress does not delay the
        // others.
        let due: Vec<AttemptNo> = self
            .timers
            .iter()
            .take_while(|(at, _)| *at <= now)
            .map(|(_, no)| *no)
            .collect();
        for no in due {
            // After a suspension of this process, its timers are due before it has read that
            // children have ended.
            self.notice_ends(no);
            self.tell_late_starts(no, now);
            self.retry_log(no, now);
            self.check_deadlines(no, now);
            self.go_on_stopping(no, now);
            self.go_on_draining(no, now);
            self.rearm(no);
        }
        if self.list_again.is_some_and(|at| at <= now) {
            self.children_ended();
        }
        self.sample(now);
        self.listen_again(now);
        self.look_for_directory(now);
    }

    /// Ends all children and then the supervisor itself if its directory was removed: if the lock
    /// file is missing, hosts take the supervisor for dead and its attempts for lost. Makes the
    /// socket and the identity anew if only they were removed.
    fn look_for_directory(&mut self, now: At) {
        if self.host.is_some() || self.terminated {
            self.look_at = None;
            return;
        }
        if self.look_at.is_some_and(|at| at > now) {
            return;
        }
        self.look_at = Some(now + LOOK_FOR_DIRECTORY);
        if self.place.is_removed() {
            say!("{} was removed", self.place.path().display());
            self.look_at = None;
            self.terminated = true;
            self.stop_all(StopWhy::Shutdown);
        } else if let Err(error) = self.be_reachable() {
            let dir = self.place.path().display();
            say!("no host can connect, as the socket in {dir} cannot be made again: {error}");
        }
    }

    fn be_reachable(&mut self) -> io::Result<()> {
        self.place.note_again(&self.identity)?;
        let Some(listener) = self.place.listen_again()? else {
            return Ok(());
        };
        let path = self.place.path().display();
        say!("the socket in {path} was removed; listening again");
        self.watch(&listener, Token::Listener, epoll::EventFlags::IN)?;
        self.listener = listener;
        Ok(())
    }

    /// Updates the list of timers after an attempt has changed.
    fn rearm(&mut self, no: AttemptNo) {
        let Some(attempt) = self.attempts.get_mut(&no) else {
            return;
        };
        let due = attempt.due();
        if attempt.wake == due {
            return;
        }
        if let Some(old) = attempt.wake {
            self.timers.remove(&(old, no));
        }
        self.timers.extend(due.map(|at| (at, no)));
        attempt.wake = due;
    }

    fn timeout(&self) -> Option<rustix::time::Timespec> {
        let timer = self.timers.first().map(|(at, _)| *at);
        let linger = self.idle_since.map(|since| since + LINGER);
        let others = [
            self.sampler.due(),
            self.deaf_until,
            self.look_at,
            self.list_again,
            self.journal.due(),
        ];
        let next = [timer, linger].into_iter().chain(others).flatten().min()?;
        let wait = next.saturating_sub(clock::monotonic());
        Some(rustix::time::Timespec {
            tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: wait.subsec_nanos().into(),
        })
    }

    fn is_done(&mut self) -> bool {
        if self.terminated && self.has_ended_all() {
            return true;
        }
        if !self.attempts.is_empty() || (self.host.is_some() && !self.quitting) {
            self.idle_since = None;
            return false;
        }
        let since = *self.idle_since.get_or_insert_with(clock::monotonic);
        self.quitting || clock::monotonic() >= since + LINGER
    }

    /// Whether all attempts have ended, and the notes say how, if a host has still to learn it. If
    /// they cannot (on a full disk), the ends would be lost with this process.
    fn has_ended_all(&self) -> bool {
        let is_noted =
            || self.attempts.is_empty() || self.journal.is_written() || self.place.is_removed();
        self.attempts.values().all(Attempt::is_quiet) && is_noted()
    }

    /// Removes the files by which a host would find this supervisor. The lock is released at the
    /// end of the process.
    fn leave(&mut self) {
        self.flush_host();
        for name in [SOCKET_FILE, IDENTITY_FILE] {
            if let Err(error) = self.place.remove(name) {
                let dir = self.place.path().display();
                say!("cannot remove {name} from {dir}: {error}");
            }
        }
    }

    fn compact_journal(&mut self) {
        if !self.journal.is_long() {
            return;
        }
        let identity = Message::Supervisor(self.identity.clone());
        let lines = self
            .attempts
            .values()
            .map(|attempt| Message::Attempt(attempt.view()))
            .chain(self.strays.lines());
        let lines = std::iter::once(identity).chain(lines);
        let path = self.place.file(journal::FILE);
        if let Err(error) = self.journal.rewrite(&path, lines) {
            let dir = self.place.path().display();
            say!("cannot rewrite the journal in {dir}: {error}");
        }
    }

    fn watch(
        &self,
        descriptor: impl AsFd,
        token: Token,
        flags: epoll::EventFlags,
    ) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, descriptor, token.pack(), flags)?)
    }
}

fn own_identity() -> io::Result<Identity> {
    let pid = std::process::id();
    let stat = procfs::try_stat(pid)?;
    let stat = stat.ok_or_else(|| io::Error::other("/proc is not mounted"))?;
    Ok(Identity {
        pid,
        start_time: stat.start_time,
        boot_id: clock::boot_id().to_string(),
        pid_namespace: procfs::own_pid_namespace(),
        build: own_build()?,
    })
}

/// The version and file of this process's executable, to distinguish an older executable from the
/// current one, and what tasks inherit from this process: a host with other groups needs a
/// supervisor with these groups.
pub(super) fn own_build() -> io::Result<String> {
    use std::os::unix::fs::MetadataExt;
    let file = std::fs::metadata("/proc/self/exe")?;
    let version = env!("CARGO_PKG_VERSION");
    Ok(format!(
        "{version} {}-{}-{}.{} {}",
        file.dev(),
        file.ino(),
        file.mtime(),
        file.mtime_nsec(),
        crate::inherited::Inherited::of_this_process()?
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_unpacked_without_loss() {
        for token in [
            Token::Signals,
            Token::Listener,
            Token::Connection(ConnectionNo(u32::MAX)),
            Token::Pipe(AttemptNo(7), u16::MAX, Channel::Stderr),
            Token::Pipe(AttemptNo(u32::MAX), 0, Channel::Stdout),
        ] {
            assert_eq!(Token::unpack(token.pack()), token);
        }
    }
}

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
//! all its children, if its directory is removed, because no host could find it any more.
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
mod sample;
mod start;
mod stop;
mod strays;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use rustix::event::epoll;
use rustix::fs::FlockOperation;

use self::attempt::{At, Attempt, AttemptNo};
use self::connection::{Connection, ConnectionNo};
use self::environment::Environments;
use self::journal::Journal;
use self::sample::{OwnPeak, Sampler};
use self::stop::Chases;
use self::strays::Strays;
use super::launch;
use super::log::{Channel, HEADER_BYTES};
use super::protocol::{Identity, Message};
use super::sys::files::{self, FileLimits, Inherited, SocketPath};
use super::sys::procfs::{self, Stat};
use super::sys::signals::{self, Arrivals};
use super::sys::spawn::reset_execution;
use super::sys::tag::Tag;
use super::words::{AttemptKey, StopWhy};
use crate::bounds::Bounds;
use crate::clock;
use crate::fsx::{self, Lasting};

pub(super) const LOCK_FILE: &str = "lock";
pub(super) const SOCKET_FILE: &str = "sock";
pub(super) const IDENTITY_FILE: &str = "identity.json";
pub(super) const LOG_FILE: &str = "log";

/// How long the supervisor stays when no host is connected and nothing is left to do: long enough
/// for a host to restart.
const LINGER: Duration = Duration::from_secs(3);
/// How long to wait for the supervisor's lock at its start. A host that checks the lock may hold it
/// for a moment.
const LOOKED_AT: Duration = Duration::from_secs(1);
/// How often the supervisor checks, while no host is connected, that its directory still exists.
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
    dir: PathBuf,
    identity: Identity,
    epoll: OwnedFd,
    arrivals: Arrivals,
    listener: UnixListener,
    limits: FileLimits,
    /// The limits of a child whose start contains no limits.
    childrens_bounds: Bounds,
    null: File,
    /// Held while the supervisor lives: a host that gets this lock knows that the supervisor is
    /// dead.
    lock: File,

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
        let lock = fsx::private()
            .create(true)
            .truncate(false)
            .write(true)
            .open(dir.join(LOCK_FILE))?;
        hold(&lock)?;
        if let Err(error) = reset_execution() {
            say!("cannot reset the personality and the timer slack: {error}");
        }
        rustix::process::set_child_subreaper(rustix::process::Pid::from_raw(1))?;
        let arrivals = Arrivals::open()?;
        let identity = own_identity()?;
        let mut journal = Journal::create(dir.join(journal::FILE))?;
        journal.note(&Message::Supervisor(identity.clone()));
        journal.flush();

        let socket = SocketPath::new(dir, SOCKET_FILE)?;
        remove_stale(&dir.join(SOCKET_FILE))?;
        let listener = UnixListener::bind(socket.as_path())?;
        // A program that can connect can start processes as this user, so only this user may
        // connect.
        std::fs::set_permissions(
            socket.as_path(),
            std::os::unix::fs::PermissionsExt::from_mode(0o600),
        )?;
        listener.set_nonblocking(true)?;
        write_identity(dir, &identity)?;

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
            dir: dir.to_owned(),
            identity,
            epoll,
            arrivals,
            listener,
            limits,
            childrens_bounds: bounds.with_descriptors(limits.of_children()),
            null: File::open("/dev/null")?,
            lock,
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
                    self.stop_all(StopWhy::Shutdown);
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
    /// file is missing, hosts take the supervisor for dead and its attempts for lost.
    fn look_for_directory(&mut self, now: At) {
        if self.host.is_some() || self.terminated {
            self.look_at = None;
            return;
        }
        if self.look_at.is_some_and(|at| at > now) {
            return;
        }
        self.look_at = Some(now + LOOK_FOR_DIRECTORY);
        if is_removed(&self.lock) {
            say!("{} was removed", self.dir.display());
            self.look_at = None;
            self.terminated = true;
            self.stop_all(StopWhy::Shutdown);
        }
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
        ];
        let next = [timer, linger].into_iter().chain(others).flatten().min()?;
        let wait = next.saturating_sub(clock::monotonic());
        Some(rustix::time::Timespec {
            tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: wait.subsec_nanos().into(),
        })
    }

    fn is_done(&mut self) -> bool {
        if self.terminated && self.attempts.values().all(Attempt::is_quiet) {
            return true;
        }
        if !self.attempts.is_empty() || (self.host.is_some() && !self.quitting) {
            self.idle_since = None;
            return false;
        }
        let since = *self.idle_since.get_or_insert_with(clock::monotonic);
        self.quitting || clock::monotonic() >= since + LINGER
    }

    /// Removes the files by which a host would find this supervisor. The lock is released at the
    /// end of the process.
    fn leave(&mut self) {
        self.flush_host();
        for name in [SOCKET_FILE, IDENTITY_FILE] {
            if let Err(error) = std::fs::remove_file(self.dir.join(name)) {
                say!("cannot remove {name} from {}: {error}", self.dir.display());
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
        if let Err(error) = self.journal.rewrite(std::iter::once(identity).chain(lines)) {
            say!(
                "cannot rewrite the journal in {}: {error}",
                self.dir.display()
            );
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

/// Takes the lock. A host that checks whether this supervisor lives may hold it for a moment.
fn hold(lock: &File) -> io::Result<()> {
    take_soon(|| rustix::fs::flock(lock, FlockOperation::NonBlockingLockExclusive))
}

fn take_soon(mut take: impl FnMut() -> rustix::io::Result<()>) -> io::Result<()> {
    let give_up = clock::monotonic() + LOOKED_AT;
    loop {
        match take() {
            Ok(()) => return Ok(()),
            Err(rustix::io::Errno::WOULDBLOCK) if clock::monotonic() < give_up => {
                std::thread::sleep(LOOKED_AT / 100);
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Whether a file was removed (no name leads to it any more). If the file cannot be looked at, it
/// is assumed to exist.
fn is_removed(file: &File) -> bool {
    use std::os::unix::fs::MetadataExt;
    file.metadata().is_ok_and(|found| found.nlink() == 0)
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

fn remove_stale(socket: &Path) -> io::Result<()> {
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn write_identity(dir: &Path, identity: &Identity) -> io::Result<()> {
    let text = serde_json::to_vec(identity)?;
    // Need not be synced: the file names the process that holds the lock, and a power cut ends that
    // process.
    fsx::replace(&dir.join(IDENTITY_FILE), Lasting::Process, &text).map(drop)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn a_lock_that_is_soon_released_is_taken_and_a_lock_that_stays_held_is_an_error() {
        let mut looks = 0;
        let looked_at = take_soon(|| {
            looks += 1;
            match looks {
                1 | 2 => Err(rustix::io::Errno::WOULDBLOCK),
                _ => Ok(()),
            }
        });
        looked_at.unwrap();
        assert_eq!(looks, 3);

        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(LOCK_FILE);
        let lock = File::create(&path).unwrap();
        hold(&lock).unwrap();
        assert!(hold(&File::open(&path).unwrap()).is_err());
    }

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

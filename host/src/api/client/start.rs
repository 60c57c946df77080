//! Starts a host if none runs. If many clients need a host at the same moment, only one is started.
//!
//! Clients take turns with a lock in the data directory, and the next client finds the host that
//! the first client started. The host reports on a pipe that it is ready, or why it failed, so the
//! client does not have to poll and can show the error. The host keeps no other descriptor of the
//! client, so that `$(claudine delegate …)` returns at once.

use std::{
    fs::File,
    io::{self, Read},
    os::{fd::AsFd, unix::process::ExitStatusExt},
    path::{Path, PathBuf},
    process::ExitStatus,
    time::Duration,
};

use claudine_domain::principal::Via;
use rustix::{
    event::{PollFd, PollFlags, Timespec},
    fs::FlockOperation,
    process::{Pid, WaitOptions, waitpid},
};
use serde::{Deserialize, Serialize};
use tokio::net::UnixStream;

use super::ClientError;
use crate::{
    api::{Background, Offline},
    app::{AppError, ErrorKind, HostInfo, stopped_compiler},
    aside, clock,
    config::{self, Begin, Overrides},
    fsx,
    identity::HostProcess,
    kept::Kept,
    layout::Layout,
};

/// Time limit of a host's start. Loading ten thousand unfinished tasks takes a second, and recovery
/// after a crash takes a few seconds.
const READY_LIMIT: Duration = Duration::from_mins(1);
/// Time limit for a host that is shutting down or being started by somebody else.
pub(super) const OTHER_HOST_LIMIT: Duration = Duration::from_secs(15);
/// Time limit for a host that is starting or shutting down, if the request can be answered without
/// a host.
const COMES_OR_GOES: Duration = Duration::from_secs(2);
const OTHER_HOST_LOOK: Duration = Duration::from_millis(25);
/// Time limit for a place in the queue of the socket. It is longer than the time after which a
/// client looks whether the host is stopped by a signal, since this is a better reason to give.
const QUEUE_LIMIT: Duration = Duration::from_millis(if cfg!(test) { 300 } else { 3_000 });
const QUEUE_LOOK: Duration = Duration::from_millis(20);
const TURN_LOOK: Duration = Duration::from_millis(5);
/// Time after which the user is told that the host compiles plugins.
pub(super) const TELL_AFTER: Duration = Duration::from_millis(if cfg!(test) { 20 } else { 5_000 });
/// Time limit for the end of a host that has closed its output.
const END_LIMIT: Duration = Duration::from_secs(1);
/// Limit of the bytes of the log that an error shows.
const LOG_END_BYTES: usize = 2_000;

/// Report of a started host: one line of JSON on its standard output.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::api) enum Announcement {
    Ready(Box<HostInfo>),
    Failed(AppError),
}

/// Whether to start a host if none runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::api) enum Policy {
    IfNeeded,
    /// Only if the last host has crashed and nobody has ended it since, or for a request that gives
    /// a host work and that would not be refused. A client that a model drives must not undo a
    /// person's `down` by a question.
    ForWork,
    Never,
}

/// Why a host is to be started.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Reason {
    Request,
    /// The last host crashed, and nobody has ended it since.
    Lost,
}

/// What the user of a command was told while the host compiles plugins.
#[derive(Debug, Default)]
pub(super) struct Told {
    is_of_compiling: bool,
    is_of_stop: bool,
}

/// Says how to reach the host of a data directory, and how to start it.
#[derive(Clone)]
pub(in crate::api) struct HostStart {
    pub(in crate::api) layout: Layout,
    pub(in crate::api) overrides: Overrides,
    pub(in crate::api) policy: Policy,
    /// Origin of the requests, sent to the host.
    pub(in crate::api) via: Via,
    pub(in crate::api) launch: fn(&Background) -> io::Result<(u32, File)>,
    pub(in crate::api) offline: Offline,
    /// Writes a message for the user of the command that starts a host.
    pub(in crate::api) say: fn(&str),
}

impl HostStart {
    /// Connects to the host. If none runs and the policy allows it, starts one. Also returns
    /// whether a host was started.
    pub(in crate::api) async fn connect(&self) -> Result<(UnixStream, bool), ClientError> {
        self.connect_for(Reason::Request).await
    }

    /// Connects to the host, or starts the next one if the last host is still lost when the turn of
    /// this client comes.
    pub(super) async fn connect_if_lost(&self) -> Result<UnixStream, ClientError> {
        Ok(self.connect_for(Reason::Lost).await?.0)
    }

    /// Starts a host if none runs. Does not check whether it can be reached, because it may end by
    /// itself at once.
    pub(in crate::api) async fn begin(&self) -> Result<(), ClientError> {
        let give_up = clock::monotonic() + OTHER_HOST_LIMIT;
        loop {
            match self.start_aside(Reason::Request).await {
                // Another host holds the directory, because it is shutting down or is just being
                // started.
                Err(ClientError::Refused(error))
                    if error.kind == ErrorKind::Conflict && clock::monotonic() < give_up =>
                {
                    clock::sleep(OTHER_HOST_LOOK).await;
                }
                begun => return begun,
            }
        }
    }

    /// Waits for this client's turn on a thread that may block: see [`Self::start_in_turn`].
    async fn start_aside(&self, reason: Reason) -> Result<(), ClientError> {
        let this = self.clone();
        let started = aside::run(move || this.start_in_turn(reason)).await;
        started.map_err(|error| self.cannot_start(io::Error::other(error)))?
    }

    async fn connect_for(&self, reason: Reason) -> Result<(UnixStream, bool), ClientError> {
        if let Some(stream) = self.try_connect().await? {
            return Ok((stream, false));
        }
        if self.policy == Policy::Never {
            return Err(self.not_running());
        }
        let mut waited = Duration::ZERO;
        loop {
            let held = match self.start_aside(reason).await {
                Ok(()) => None,
                Err(ClientError::Refused(error)) if error.kind == ErrorKind::Conflict => {
                    Some(error)
                }
                Err(error) => return Err(error),
            };
            if let Some(stream) = self.try_connect().await? {
                return Ok((stream, held.is_none()));
            }
            // Another host holds the directory but does not listen, because it is shutting down or
            // is just being started.
            if waited >= OTHER_HOST_LIMIT {
                return Err(
                    held.map_or(ClientError::Silent(OTHER_HOST_LIMIT), ClientError::Refused)
                );
            }
            clock::sleep(OTHER_HOST_LOOK).await;
            waited += OTHER_HOST_LOOK;
        }
    }

    /// Connects to a running host without starting one. Waits briefly for a host that is just
    /// starting or shutting down.
    pub(super) async fn reach(&self) -> Result<Option<UnixStream>, ClientError> {
        let give_up = clock::monotonic() + COMES_OR_GOES;
        loop {
            if let Some(stream) = self.try_connect().await? {
                return Ok(Some(stream));
            }
            if HostProcess::of(&self.layout).is_none() || clock::monotonic() >= give_up {
                return Ok(None);
            }
            clock::sleep(OTHER_HOST_LOOK).await;
        }
    }

    /// Whether the last host crashed, and nobody has ended it since. A crashed host leaves its
    /// file, which only a proper shutdown and [`Self::note_end`] remove.
    pub(in crate::api) fn is_lost(&self) -> bool {
        self.layout.host_file().exists() && HostProcess::of(&self.layout).is_none()
    }

    /// Records that a person wants no host, so that a host that has crashed does not count as lost.
    /// Returns false, and records nothing, if a host runs or another command has just started one.
    pub(in crate::api) async fn note_end(&self) -> io::Result<bool> {
        let this = self.clone();
        let noted = aside::run(move || this.note_end_in_turn()).await;
        noted.map_err(io::Error::other)?
    }

    fn note_end_in_turn(&self) -> io::Result<bool> {
        let file = self.layout.host_file();
        if fsx::is_missing(&file) {
            return Ok(true);
        }
        // Without the turn, another client could be starting the next host at this moment.
        let turn = self.turn()?;
        let is_over = HostProcess::of(&self.layout).is_none();
        if is_over {
            fsx::remove_file(&file)?;
        }
        drop(turn);
        Ok(is_over)
    }

    /// Whether the host compiles plugins. It answers a request that needs them afterwards.
    pub(super) fn is_compiling(&self) -> bool {
        HostProcess::of(&self.layout).is_some_and(|host| self.layout.is_compiling(host.pid))
    }

    /// Tells the user, if this was not done before, that the host compiles plugins, so that its
    /// start takes long, and that a compiler does nothing.
    pub(super) fn tell_of_compiling(&self, told: &mut Told) {
        if !std::mem::replace(&mut told.is_of_compiling, true) {
            (self.say)(
                "note: the host is compiling plugins; it keeps their code, so this happens once for each version",
            );
        }
        if !told.is_of_stop
            && let Some(compiler) = stopped_compiler(&self.layout)
        {
            told.is_of_stop = true;
            (self.say)(&format!(
                "note: {}; {}, or else the host ends it after some minutes",
                compiler.said_of_compiler(),
                compiler.way_out()
            ));
        }
    }

    /// The error for a wait for the next host, if the database was removed.
    pub(in crate::api) fn removed(&self) -> Option<ClientError> {
        fsx::is_missing(&self.layout.database()).then(|| ClientError::Gone {
            data_dir: self.layout.root().to_owned(),
        })
    }

    /// The error of [`Self::removed`], unless there was no database at the beginning.
    pub(in crate::api) fn removed_since(&self, had_database: bool) -> Option<ClientError> {
        self.removed().filter(|_| had_database)
    }

    /// Connects to the socket; `None` if nobody listens. Nothing is sent if the listener belongs to
    /// another user.
    async fn try_connect(&self) -> Result<Option<UnixStream>, ClientError> {
        let path = self.layout.socket();
        let failed = |source| ClientError::Socket {
            path: path.clone(),
            source,
        };
        match self.layout.check_socket_dir() {
            Ok(()) => {}
            Err(error) if nobody_listens(&error) => return Ok(None),
            Err(source) => return Err(failed(source)),
        }
        let stream = match queued(&path).await {
            Ok(stream) => stream,
            Err(error) if nobody_listens(&error) => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let limit = QUEUE_LIMIT;
                return Err(ClientError::Crowded { path, limit });
            }
            Err(source) => return Err(failed(source)),
        };
        let listener = stream.peer_cred().map_err(failed)?.uid();
        if listener != rustix::process::geteuid().as_raw() {
            return Err(ClientError::Foreign { path, listener });
        }
        Ok(Some(stream))
    }

    /// Waits for this client's turn. Then starts a host if no other client has just started one.
    /// Blocks the thread.
    fn start_in_turn(&self, reason: Reason) -> Result<(), ClientError> {
        let turn = self.turn().map_err(|source| self.cannot_start(source))?;
        let path = self.layout.socket();
        match std::os::unix::net::UnixStream::connect(&path) {
            Ok(_) => return Ok(()),
            Err(error) if nobody_listens(&error) => {}
            Err(source) => return Err(ClientError::Socket { path, source }),
        }
        // A person may have ended the lost host meanwhile. A host that is alive is just starting,
        // or shutting down.
        let is_ended = || HostProcess::of(&self.layout).is_none() && !self.is_lost();
        if reason == Reason::Lost && is_ended() {
            return Err(self.not_running());
        }
        let started = self.start();
        drop(turn);
        started
    }

    fn turn(&self) -> io::Result<File> {
        fsx::make_private_dir(self.layout.root())?;
        let path = self.layout.root().join("start.lock");
        let file = fsx::open_lock(&path).map_err(|error| {
            io::Error::new(error.kind(), format!("{}: {error}", path.display()))
        })?;
        fsx::unmask(&file)?;
        let begun = clock::monotonic();
        let (mut give_up, mut look_at) = (begun + READY_LIMIT, begun + TELL_AFTER);
        let mut told = Told::default();
        loop {
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(file),
                Err(rustix::io::Errno::INTR | rustix::io::Errno::WOULDBLOCK) => {}
                Err(error) => return Err(error.into()),
            }
            // Another command is starting a host. Unless the host compiles plugins, this takes
            // longer than `READY_LIMIT` only if that command was suspended.
            let now = clock::monotonic();
            if now >= look_at {
                look_at = now + TELL_AFTER;
                if self.is_compiling() {
                    give_up = now + READY_LIMIT;
                    self.tell_of_compiling(&mut told);
                }
            }
            if now >= give_up {
                let (path, limit) = (path.display(), READY_LIMIT.as_secs());
                return Err(io::Error::other(format!(
                    "another process has kept {path} locked for more than {limit} s; `lslocks` \
                     shows it: most likely a command that starts the host and was suspended"
                )));
            }
            std::thread::sleep(TURN_LOOK);
        }
    }

    fn start(&self) -> Result<(), ClientError> {
        let (pid, announced) = self
            .background()
            .and_then(|host| (self.launch)(&host))
            .map_err(|source| self.cannot_start(source))?;
        let line = self.announcement(pid, announced)?;
        match serde_json::from_slice(&line) {
            Ok(Announcement::Ready(_)) => {
                self.say_what_is_kept();
                Ok(())
            }
            Ok(Announcement::Failed(error)) => Err(ClientError::Refused(error)),
            Err(_) => {
                let log = self.layout.host_log();
                Err(ClientError::StillBorn {
                    ended: end_of_process(pid),
                    log_end: end_of(&log),
                    log,
                })
            }
        }
    }

    /// Says so if the new host does not apply the retention of this command yet.
    fn say_what_is_kept(&self) {
        // If the record cannot be read, the log of the host says so.
        if let Ok(Some(kept)) = Kept::read(&self.layout)
            && let Some(text) = kept.text(clock::wall())
        {
            (self.say)(&format!("warning: {text}"));
        }
    }

    fn background(&self) -> io::Result<Background> {
        let data_dir = self.layout.root().to_owned();
        let mut arguments = vec![
            "serve".into(),
            "--background".into(),
            "--data-dir".into(),
            data_dir.clone().into(),
        ];
        let mut settings = Vec::new();
        if let Some(slots) = &self.overrides.slots {
            settings.extend(["--slots".into(), slots.into()]);
        }
        if let Some(keep) = &self.overrides.keep {
            settings.extend(["--keep".into(), keep.into()]);
        }
        if !self.overrides.on_demand {
            arguments.push("--asked".into());
        }
        match self.overrides.begin {
            Begin::Usual => {}
            Begin::Paused => settings.push("--paused".into()),
            Begin::Draining => settings.push("--draining".into()),
            Begin::Killing => settings.push("--killing".into()),
        }
        Ok(Background {
            program: this_program()?,
            arguments,
            settings,
            data_dir,
            log: self.layout.host_log(),
        })
    }

    /// Reads the host's report up to the end of the line, or of the output. The time in which the
    /// host compiles plugins does not count, because the compiler has a time limit of its own.
    fn announcement(&self, pid: u32, mut from: File) -> Result<Vec<u8>, ClientError> {
        let mut deadline = clock::monotonic() + READY_LIMIT;
        let mut told = Told::default();
        let mut line = Vec::new();
        let mut piece = [0; 4096];
        loop {
            let left = deadline.saturating_sub(clock::monotonic());
            if left.is_zero() {
                return Err(ClientError::NotReady {
                    log: self.layout.host_log(),
                    limit: READY_LIMIT,
                });
            }
            let is_readable = readable_within(&from, left.min(TELL_AFTER));
            if !is_readable.map_err(|source| self.cannot_start(source))? {
                if self.layout.is_compiling(pid) {
                    deadline = clock::monotonic() + READY_LIMIT;
                    self.tell_of_compiling(&mut told);
                }
                continue;
            }
            let length = from
                .read(&mut piece)
                .map_err(|source| self.cannot_start(source))?;
            line.extend_from_slice(&piece[..length]);
            if length == 0 || line.ends_with(b"\n") {
                return Ok(line);
            }
        }
    }

    pub(super) fn not_running(&self) -> ClientError {
        ClientError::NotRunning {
            data_dir: self.layout.root().to_owned(),
        }
    }

    fn cannot_start(&self, source: io::Error) -> ClientError {
        ClientError::Start {
            data_dir: self.layout.root().to_owned(),
            source,
        }
    }
}

/// The path of the program on disk. After an upgrade the running program's own path ends in
/// ` (deleted)`, and the new program is at the path without this suffix.
fn this_program() -> io::Result<PathBuf> {
    let path = std::env::current_exe()?;
    let text = path.as_os_str().to_string_lossy();
    match text.strip_suffix(" (deleted)") {
        Some(replaced) if !path.exists() => Ok(PathBuf::from(replaced)),
        _ => Ok(path),
    }
}

/// Connects to a socket. If too many other clients are connecting, waits for a place in the queue;
/// the kernel does not wait for one on a socket that does not block.
async fn queued(path: &Path) -> io::Result<UnixStream> {
    let give_up = clock::monotonic() + QUEUE_LIMIT;
    loop {
        match UnixStream::connect(path).await {
            Err(error)
                if error.kind() == io::ErrorKind::WouldBlock && clock::monotonic() < give_up =>
            {
                clock::sleep(QUEUE_LOOK).await;
            }
            connected => return connected,
        }
    }
}

fn nobody_listens(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        // A host that ends resets the connections that it has not accepted.
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset
    )
}

fn readable_within(from: &impl AsFd, limit: Duration) -> io::Result<bool> {
    let mut polled = [PollFd::new(from, PollFlags::IN)];
    let limit = Timespec {
        tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: limit.subsec_nanos().into(),
    };
    match rustix::event::poll(&mut polled, Some(&limit)) {
        Ok(ready) => Ok(ready > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// How a child of this process ended, after it has closed its output. `None` if it does not end
/// within [`END_LIMIT`].
fn end_of_process(pid: u32) -> Option<ExitStatus> {
    let pid = Pid::from_raw(pid.cast_signed())?;
    let give_up = clock::monotonic() + END_LIMIT;
    loop {
        match waitpid(Some(pid), WaitOptions::NOHANG) {
            Ok(Some((_, status))) => return Some(ExitStatus::from_raw(status.as_raw())),
            Ok(None) if clock::monotonic() < give_up => std::thread::sleep(TURN_LOOK),
            Err(rustix::io::Errno::INTR) => {}
            Ok(None) | Err(_) => return None,
        }
    }
}

/// The last whole lines of the log; empty if the log cannot be read, because the log only adds
/// detail to an error. A line that is longer than the limit is cut at its beginning.
fn end_of(log: &Path) -> String {
    let bytes = fsx::read(log).unwrap_or_default();
    let bytes = bytes.trim_ascii_end();
    let from = bytes.len().saturating_sub(LOG_END_BYTES);
    let (before, end) = bytes.split_at(from);
    let is_cut = before.last().is_some_and(|last| *last != b'\n');
    let line_end = end.iter().position(|byte| *byte == b'\n');
    let whole = line_end.filter(|_| is_cut).map_or(0, |at| at + 1);
    String::from_utf8_lossy(&end[whole..]).trim().to_owned()
}

/// The data directory, found by the same rule as in the host.
pub(in crate::api) fn layout(overrides: &Overrides) -> Result<Layout, config::ConfigError> {
    config::data_dir(overrides.data_dir.as_deref(), &config::process_environment).map(Layout::new)
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::{
        fs,
        os::unix::net::UnixListener,
        sync::atomic::{AtomicBool, Ordering},
    };

    use rustix::{process::Uid, thread::set_thread_res_uid};

    use super::*;
    use crate::identity::Purpose;

    const NOBODY: u32 = 65_534;

    /// Reaches a host of this directory, and starts none.
    pub(in crate::api) fn host_start(layout: Layout) -> HostStart {
        HostStart {
            layout,
            overrides: Overrides::default(),
            policy: Policy::Never,
            via: claudine_domain::principal::Via::Cli,
            launch: |_| Err(io::ErrorKind::Unsupported.into()),
            offline: |_| Err(AppError::new(ErrorKind::Internal, "not here")),
            say: |_| {},
        }
    }

    /// Listens as another user. A new thread changes its user id; the other threads keep theirs.
    fn listen_as_nobody(socket: PathBuf) -> UnixListener {
        assert!(
            rustix::process::geteuid().is_root(),
            "this test listens as another user: run it as root"
        );
        let listening = std::thread::spawn(move || {
            let nobody = Uid::from_raw(NOBODY);
            set_thread_res_uid(nobody, nobody, nobody).unwrap();
            UnixListener::bind(socket).unwrap()
        });
        listening.join().unwrap()
    }

    #[tokio::test]
    async fn a_client_waits_for_a_place_in_the_full_queue_of_the_socket() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let listener = UnixListener::bind(layout.socket()).unwrap();
        // A second call changes the length of the queue: now it has room for one connection.
        rustix::net::listen(&listener, 0).unwrap();
        let _first = UnixStream::connect(layout.socket()).await.unwrap();
        let client = host_start(layout);
        let refused = client.connect().await.unwrap_err();
        assert!(matches!(refused, ClientError::Crowded { .. }), "{refused}");
        assert!(AppError::from(refused).hint.is_some());

        let connecting = client.connect();
        tokio::pin!(connecting);
        let early = clock::within(QUEUE_LIMIT / 10, connecting.as_mut()).await;
        assert!(early.is_none(), "{early:?}");
        listener.accept().unwrap();
        connecting.await.unwrap();
    }

    #[tokio::test]
    async fn nothing_is_sent_to_a_listener_of_another_user() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("data");
        fs::create_dir(&root).unwrap();
        let layout = Layout::new(&root);
        let open = |mode| std::os::unix::fs::PermissionsExt::from_mode(mode);
        fs::set_permissions(dir.path(), open(0o755)).unwrap();
        fs::set_permissions(&root, open(0o777)).unwrap();
        let listener = listen_as_nobody(layout.socket());
        listener.set_nonblocking(true).unwrap();
        let client = host_start(layout.clone());

        // A directory that others can write to is reason enough to refuse.
        let refused = client.connect().await.unwrap_err();
        assert!(matches!(refused, ClientError::Socket { .. }), "{refused}");
        assert!(listener.accept().is_err(), "the listener was connected to");

        // In a directory that only its owner can write to, the owner of the listener is checked.
        fs::set_permissions(&root, open(0o755)).unwrap();
        let refused = client.connect().await.unwrap_err();
        let foreign = matches!(
            refused,
            ClientError::Foreign {
                listener: NOBODY,
                ..
            }
        );
        assert!(foreign, "{refused}");
        let (mut accepted, _) = listener.accept().unwrap();
        accepted.set_nonblocking(false).unwrap();
        let mut received = Vec::new();
        accepted.read_to_end(&mut received).unwrap();
        assert!(received.is_empty(), "{received:?}");
    }

    #[tokio::test]
    async fn a_listener_of_the_same_user_is_accepted() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let client = host_start(layout.clone());
        let none = client.connect().await.unwrap_err();
        assert!(matches!(none, ClientError::NotRunning { .. }), "{none}");
        let _listener = UnixListener::bind(layout.socket()).unwrap();
        assert!(matches!(client.connect().await, Ok((_, false))));
    }

    #[test]
    fn the_end_of_a_log_begins_with_a_whole_line() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("host.log");
        let check = |text: &str, expected: &str| {
            fs::write(&log, text).unwrap();
            assert_eq!(end_of(&log), expected);
        };
        check("first\nlast\n", "first\nlast");
        let fits = "x".repeat(LOG_END_BYTES - 2);
        check(&format!("first\n1\n{fits}\n"), &format!("1\n{fits}"));
        check(&format!("first\n123\n{fits}\n"), &fits);
        let long = "y".repeat(LOG_END_BYTES);
        check(&format!("first\nx{long}\n"), &long);
    }

    /// Whether the client of the test below has said something.
    static IS_TOLD: AtomicBool = AtomicBool::new(false);

    #[test]
    fn a_command_that_waits_for_its_turn_while_the_host_compiles_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        layout.create().unwrap();
        let mut lock = File::create(layout.lock()).unwrap();
        HostProcess::note(&mut lock, Purpose::Host).unwrap();
        let source = layout.cache().join("shell");
        let source = source.with_extension(Layout::compiled_by(std::process::id()));
        fs::write(source, "").unwrap();
        let client = HostStart {
            say: |text| IS_TOLD.store(text.contains("compiling plugins"), Ordering::Relaxed),
            ..host_start(layout)
        };
        let turn = client.turn().unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| client.turn());
            while !IS_TOLD.load(Ordering::Relaxed) {
                std::thread::yield_now();
            }
            drop(turn);
            waiting.join().unwrap().unwrap();
        });
    }

    #[tokio::test]
    async fn a_crashed_host_is_not_lost_once_its_end_is_noted() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let client = HostStart {
            policy: Policy::ForWork,
            ..host_start(layout.clone())
        };
        assert!(client.note_end().await.unwrap(), "no host has run");
        assert!(!layout.root().join("start.lock").exists());
        fs::write(layout.host_file(), "{}").unwrap();
        assert!(client.is_lost());
        assert!(client.note_end().await.unwrap());
        assert!(!client.is_lost());
        let none = client.connect_if_lost().await.unwrap_err();
        assert!(matches!(none, ClientError::NotRunning { .. }), "{none}");

        // A host that runs is left alone.
        fs::write(layout.host_file(), "{}").unwrap();
        let mut lock = File::create(layout.lock()).unwrap();
        HostProcess::note(&mut lock, Purpose::Host).unwrap();
        assert!(!client.note_end().await.unwrap());
        assert!(layout.host_file().exists());
    }
}

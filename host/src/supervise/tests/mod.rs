//! Tests of the real supervisor in a separate process, driven through the host's side.
//!
//! The test program is its own supervisor: if it is started with `__supervise DIR`, it becomes a
//! supervisor before the test harness begins, so that it has a single thread, as the real
//! supervisor has.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod answers;
mod connection;
mod directory;
mod disk;
mod fenced;
mod impostor;
mod input;
mod leftovers;
mod output;
mod peer;
mod recovery;
mod room;
mod start;
mod stop;
mod suspended;

use std::ffi::{CStr, OsString, c_char, c_int};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use self::impostor::Impostor;
use super::log::{Channel, LogReader, Piece};
use super::sys::procfs;
use super::*;

/// Longer than any step here takes on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

#[allow(
    unsafe_code,
    reason = "the C runtime calls it with the program's arguments before main"
)]
#[unsafe(link_section = ".init_array")]
#[used]
static BECOME_SUPERVISOR: extern "C" fn(c_int, *const *const c_char) = become_supervisor;

#[allow(unsafe_code, reason = "see above")]
extern "C" fn become_supervisor(count: c_int, arguments: *const *const c_char) {
    if count != 3 {
        return;
    }
    // SAFETY: the C runtime passes `count` NUL-terminated strings.
    let [verb, dir] = [1, 2].map(|index| unsafe { CStr::from_ptr(*arguments.add(index)) });
    if verb == c"__supervise" {
        let dir = Path::new(std::ffi::OsStr::from_bytes(dir.to_bytes()));
        procfs::fault::DIR.set(dir.to_owned()).unwrap();
        let code = i32::from(process::run(dir, None) != std::process::ExitCode::SUCCESS);
        std::process::exit(code);
    }
}

/// A data directory, and the host's side of the supervision of this directory.
pub(super) struct Lab {
    pub(super) dir: Place,
    pub(super) host: Host,
}

pub(super) struct Host {
    pub(super) supervisors: Supervisors,
    pub(super) found: Vec<Found>,
    pub(super) reports: mpsc::Receiver<Report>,
    pub(super) router: JoinHandle<()>,
}

impl Host {
    pub(super) async fn open(dir: &Path, epoch: u64) -> Self {
        Self::open_with(dir, epoch, &std::env::current_exe().unwrap()).await
    }

    pub(super) async fn open_with(dir: &Path, epoch: u64, executable: &Path) -> Self {
        let program = Program {
            path: executable.to_owned(),
            args: vec![OsString::from("__supervise")],
        };
        Self::open_by(dir, epoch, program).await
    }

    pub(super) fn settings(dir: &Path, epoch: u64, program: Program) -> Settings {
        Settings {
            dir: dir.join("supervisors"),
            program,
            environment: std::env::vars_os().collect(),
            descriptors: None,
            epoch,
        }
    }

    /// Opens the host's side; `program` is the executable that runs its supervisors.
    pub(super) async fn open_by(dir: &Path, epoch: u64, program: Program) -> Self {
        let settings = Self::settings(dir, epoch, program);
        let orphans = Orphans::look_for(&settings.dir);
        let Opened {
            supervisors,
            found,
            reports,
            router,
        } = open(settings, orphans).await.unwrap();
        Self {
            supervisors,
            found,
            reports,
            router,
        }
    }

    pub(super) async fn next(&mut self) -> Report {
        tokio::time::timeout(PATIENCE, self.reports.recv())
            .await
            .expect("no report came")
            .expect("the router ended")
    }

    /// Waits for the exit of a child, ignoring other reports.
    pub(super) async fn exit(&mut self, child: &ChildId) -> (Exit, bool) {
        loop {
            match self.next().await {
                Report::Exited {
                    child: of,
                    exit,
                    ended,
                } if of == *child => return (exit, ended),
                Report::NotStarted {
                    child: of, message, ..
                } if of == *child => panic!("not started: {message}"),
                _ => {}
            }
        }
    }

    pub(super) async fn started(&mut self, child: &ChildId) -> (u32, u64) {
        loop {
            match self.next().await {
                Report::Started {
                    child: of,
                    pid,
                    start_time,
                } if of == *child => return (pid, start_time),
                Report::Exited { child: of, .. } if of == *child => {
                    panic!("the child ended before its start was reported")
                }
                _ => {}
            }
        }
    }

    /// Waits until nothing of the attempt is alive; returns how many leftovers were ended.
    pub(super) async fn ended(&mut self, key: &AttemptKey) -> u32 {
        loop {
            match self.next().await {
                Report::Exited {
                    child, ended: true, ..
                } if child.attempt() == key => return 0,
                Report::Ended {
                    attempt,
                    swept,
                    alive,
                } if attempt == *key => {
                    assert_eq!(alive, 0);
                    return swept;
                }
                _ => {}
            }
        }
    }

    /// Waits until the supervisor is reported lost; returns its attempts and its children.
    pub(super) async fn supervisor_lost(&mut self) -> (Vec<AttemptKey>, Vec<ChildId>) {
        loop {
            match self.next().await {
                Report::SupervisorLost { attempts, children } => return (attempts, children),
                Report::Started { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    }

    pub(super) async fn close(self) {
        drop(self.supervisors);
        drop(self.reports);
        self.router.await.unwrap();
    }
}

impl Lab {
    /// Makes a fifo of this name in the directory in which scripts run.
    fn fifo(&self, name: &str) {
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mkfifoat(rustix::fs::CWD, self.dir.path().join(name), mode).unwrap();
    }

    pub(super) async fn new() -> Self {
        let dir = Place(TempDir::new().unwrap());
        let host = Host::open(dir.path(), 1).await;
        assert_eq!(host.found, []);
        Self { dir, host }
    }

    /// Ends the host.
    pub(super) async fn leave(self) -> Place {
        self.host.close().await;
        self.dir
    }

    /// Ends the host and opens another one.
    pub(super) async fn restart_host(self, epoch: u64) -> Self {
        let dir = self.leave().await;
        let host = Host::open(dir.path(), epoch).await;
        Self { dir, host }
    }

    pub(super) fn log(&self, attempt: &str) -> PathBuf {
        self.dir
            .path()
            .join("logs/00")
            .join(format!("{attempt}.log"))
    }

    pub(super) fn command(&self, attempt: &str, argv: &[&str]) -> StartChild {
        StartChild {
            child: ChildId::new(key(attempt), 0),
            argv: argv.iter().map(ToString::to_string).collect(),
            cwd: self.dir.path().to_owned(),
            env_file: None,
            env_remove: Vec::new(),
            env_set: vec![("PATH".to_owned(), std::env::var("PATH").unwrap())],
            umask: None,
            bounds: None,
            stdin: Stdin::Empty,
            log: self.log(attempt),
            cap_bytes: 1 << 30,
            timeout: None,
            idle_timeout: None,
            ladder: vec![Rung {
                signal: Signal::Term,
                wait: Duration::from_millis(300),
            }],
        }
    }

    pub(super) fn script(&self, attempt: &str, text: &str) -> StartChild {
        self.command(attempt, &["sh", "-c", text])
    }

    pub(super) async fn start(&self, start: StartChild) {
        self.host.supervisors.start(start).done().await.unwrap();
    }

    pub(super) async fn stop(&self, attempt: AttemptKey, why: StopWhy, ladder: Vec<Rung>) {
        let order = self.host.supervisors.stop(attempt, why, ladder);
        order.done().await.unwrap();
    }

    pub(super) async fn finish(&self, attempt: AttemptKey) {
        self.host.supervisors.finish(attempt).done().await.unwrap();
    }

    pub(super) async fn ack(&self, attempt: AttemptKey) {
        self.host.supervisors.ack(attempt).done().await.unwrap();
    }

    /// Starts the child and waits for its end.
    pub(super) async fn run(&mut self, start: StartChild) -> (Exit, bool) {
        let child = start.child.clone();
        self.host.supervisors.start(start).done().await.unwrap();
        self.host.exit(&child).await
    }

    pub(super) fn output(&self, attempt: &str, channel: Channel) -> Vec<u8> {
        read(LogReader::new(&self.log(attempt)).channel(channel))
    }

    pub(super) fn text(&self, attempt: &str) -> String {
        String::from_utf8(self.output(attempt, Channel::Stdout)).unwrap()
    }

    /// Follows the output until it has this many whole lines.
    pub(super) async fn lines(&self, attempt: &str, count: usize) -> Vec<String> {
        let path = self.log(attempt);
        let subscription = self.host.supervisors.log_watch().subscribe(&path);
        let mut reader = LogReader::new(&path).channel(Channel::Stdout);
        let mut bytes = Vec::new();
        let follow = async {
            while bytes.split(|byte| *byte == b'\n').count() <= count {
                match reader.next_piece().unwrap() {
                    Some(Piece::Bytes { bytes: more, .. }) => bytes.extend(more),
                    Some(gap) => panic!("{gap:?}"),
                    None => subscription.grown().await,
                }
            }
        };
        tokio::time::timeout(PATIENCE, follow)
            .await
            .expect("the output did not come");
        String::from_utf8(bytes)
            .unwrap()
            .lines()
            .take(count)
            .map(str::to_owned)
            .collect()
    }

    pub(super) fn supervisor_pid(&self) -> u32 {
        let identities = std::fs::read_dir(self.dir.path().join("supervisors")).unwrap();
        let pids: Vec<u32> = identities
            .filter_map(|entry| {
                std::fs::read(entry.unwrap().path().join(process::IDENTITY_FILE)).ok()
            })
            .map(|text| {
                serde_json::from_slice::<protocol::Identity>(&text)
                    .unwrap()
                    .pid
            })
            .collect();
        assert_eq!(pids.len(), 1, "exactly one supervisor");
        pids[0]
    }
}

/// A data directory. When the `Place` is dropped, the directory's supervisors and their children
/// are killed, so that a failing test leaves no process behind.
pub(super) struct Place(TempDir);

impl Place {
    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Ok(entries) = std::fs::read_dir(self.path().join("supervisors")) else {
            return;
        };
        for entry in entries.flatten() {
            let Ok(text) = std::fs::read(entry.path().join(process::IDENTITY_FILE)) else {
                continue;
            };
            let Ok(identity) = serde_json::from_slice::<protocol::Identity>(&text) else {
                continue;
            };
            for process in procfs::all().unwrap() {
                if process.parent == identity.pid || process.pid == identity.pid {
                    // An error means that the process has ended already, as wanted.
                    sys::signals::kill_pinned(process.pid, process.start_time).ok();
                }
            }
        }
    }
}

pub(super) fn read(mut reader: LogReader) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(piece) = reader.next_piece().unwrap() {
        match piece {
            Piece::Bytes { bytes, .. } => all.extend(bytes),
            Piece::Gap { .. } => panic!("a gap"),
        }
    }
    all
}

pub(super) fn is_alive(pid: u32) -> bool {
    procfs::stat(pid).is_some_and(|stat| !stat.is_zombie())
}

/// Blocks until the process has ended, even if it is not a child of this process.
pub(super) fn wait_gone(pid: u32) {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let target = rustix::process::Pid::from_raw(pid.cast_signed()).unwrap();
    let Ok(pinned) = rustix::process::pidfd_open(target, rustix::process::PidfdFlags::empty())
    else {
        return;
    };
    let patience = Timespec {
        tv_sec: 60,
        tv_nsec: 0,
    };
    assert_eq!(
        poll(&mut [PollFd::new(&pinned, PollFlags::IN)], Some(&patience)),
        Ok(1),
        "process {pid} lives on"
    );
}

/// A process that is stopped. A stopped process does not end by itself, so it is killed if this
/// program is killed.
pub(super) struct Suspended {
    pid: rustix::process::Pid,
    /// Kills the process once nobody holds the other end of its input.
    watch: std::process::Child,
}

pub(super) fn suspend(pid: u32) -> Suspended {
    use std::os::unix::process::CommandExt;
    let watch = std::process::Command::new("sh")
        .args(["-c", "read line; kill -KILL $0", &pid.to_string()])
        .stdin(std::process::Stdio::piped())
        // A signal to the group of this program must not end it too.
        .process_group(0)
        .spawn()
        .unwrap();
    let pid = rustix::process::Pid::from_raw(pid.cast_signed()).unwrap();
    let suspended = Suspended { pid, watch };
    suspended.send(rustix::process::Signal::STOP);
    suspended
}

impl Suspended {
    pub(super) fn go_on(self) {
        self.send(rustix::process::Signal::CONT);
    }

    fn send(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(self.pid, signal).unwrap();
    }

    /// Does what the end of this program does.
    fn test_ended(&mut self) {
        self.watch.stdin = None;
    }
}

impl Drop for Suspended {
    fn drop(&mut self) {
        // Before its input is closed.
        self.watch.kill().unwrap();
        self.watch.wait().unwrap();
    }
}

#[test]
fn a_suspended_process_is_killed_once_the_test_program_has_ended() {
    use std::os::unix::process::ExitStatusExt;
    let mut process = std::process::Command::new("sleep")
        .arg("1000")
        .spawn()
        .unwrap();
    let mut suspended = suspend(process.id());
    suspended.test_ended();
    assert_eq!(process.wait().unwrap().signal(), Some(9));
}

pub(super) fn kill(pid: u32) {
    let stat = procfs::stat(pid).expect("the process lives");
    assert!(sys::signals::signal_process(pid, stat.start_time, Signal::Kill).unwrap());
    wait_gone(pid);
}

/// The processes that carry the marker of this attempt.
pub(super) fn marked(attempt: &str) -> Vec<u32> {
    let key = key(attempt);
    let is_marked = |process: &procfs::Stat| {
        procfs::marks(process.pid).unwrap().attempt.as_deref() == Some(key.as_str())
    };
    let processes = procfs::all().unwrap().into_iter();
    processes
        .filter(|process| !process.is_zombie() && is_marked(process))
        .map(|process| process.pid)
        .collect()
}

/// The key of an attempt that only this test uses: recovery looks for the marker on the whole
/// machine, where other tests run.
pub(super) fn key(name: &str) -> AttemptKey {
    let (process, test) = (std::process::id(), std::thread::current().id());
    AttemptKey::new(format!("{process}:{test:?}:{name}"))
}

/// The name from which [`key`] was made.
pub(super) fn name_of(key: &AttemptKey) -> &str {
    key.as_str().rsplit_once(':').unwrap().1
}

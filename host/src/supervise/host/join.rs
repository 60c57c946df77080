//! Connecting to a supervisor: finds its directory, checks whether it is alive, and does the
//! handshake up to `ready`.

use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

pub(super) use super::recover::is_dead;
use super::{Settings, recover};
use crate::clock;
use crate::fsx;
use crate::proc_stat::{self, Stat, is_alive};
use crate::supervise::SuperviseError;
use crate::supervise::frame::{self, Incoming};
use crate::supervise::launch;
use crate::supervise::process::{IDENTITY_FILE, LOG_FILE, SOCKET_FILE};
use crate::supervise::protocol::{AttemptState, Hello, Identity, Message, PROTOCOL, Welcome};
use crate::supervise::sys::files::SocketPath;
use crate::supervise::sys::{freezer, procfs, wait};
use crate::supervise::words::AttemptKey;

/// How long a supervisor may take to become ready, and to answer a hello.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// How long to try to reconnect to a living supervisor before an error is reported.
const LONGEST_SILENCE: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// A connection whose handshake is complete.
#[derive(Debug)]
pub(super) struct Joined {
    pub(super) stream: UnixStream,
    pub(super) incoming: Incoming,
    pub(super) welcome: Welcome,
    pub(super) states: Vec<AttemptState>,
}

/// Why a supervisor could not be joined.
#[derive(Debug)]
pub(super) enum NotJoined {
    /// The supervisor's process has ended.
    Dead,
    Fault(SuperviseError),
}

/// The supervisors' directories that exist.
#[derive(Debug, Default)]
pub(super) struct Directories {
    /// The directory of each supervisor, by its number.
    pub(super) found: Vec<(u32, PathBuf)>,
    /// The highest number that is the name of a directory or of any other file.
    pub(super) last_number: u32,
}

/// Makes the directory of all supervisors if it is missing, and lists the supervisors' directories
/// by number.
pub(super) fn directories(dir: &Path) -> Result<Directories, SuperviseError> {
    fsx::make_private_dir(dir).map_err(|source| unusable(dir, source))?;
    list(dir)
}

/// Lists the supervisors' directories by number; none if the directory of all supervisors is
/// missing. A file whose name is a number is ignored.
pub(super) fn list(dir: &Path) -> Result<Directories, SuperviseError> {
    let fault = |source| unusable(dir, source);
    let mut directories = Directories::default();
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(directories),
        entries => entries.map_err(fault)?,
    };
    for entry in entries {
        let entry = entry.map_err(fault)?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.parse().ok());
        let Some(number) = number.filter(|number| *number < u32::MAX) else {
            continue;
        };
        directories.last_number = directories.last_number.max(number);
        if entry.file_type().map_err(fault)?.is_dir() {
            directories.found.push((number, entry.path()));
        } else {
            tracing::debug!(path = %entry.path().display(), "not a supervisor's directory; it is ignored");
        }
    }
    directories.found.sort_unstable();
    Ok(directories)
}

pub(super) fn unusable(dir: &Path, source: io::Error) -> SuperviseError {
    SuperviseError::Directory {
        path: dir.to_owned(),
        source,
    }
}

/// The pids of the living supervisors in `dir`, read from their notes. This neither connects to the
/// supervisors nor touches their locks.
pub(crate) fn pids(dir: &Path) -> Result<Vec<u32>, SuperviseError> {
    let identities = identities(dir)?;
    Ok(identities.iter().map(|identity| identity.pid).collect())
}

/// The pids of the living supervisors that a signal has suspended. A suspended supervisor reads no
/// output, enforces no limits and notices no ends.
pub(crate) fn suspended(dir: &Path) -> Result<Vec<u32>, SuperviseError> {
    let mut suspended = Vec::new();
    for supervisor in identities(dir)? {
        let stat = proc_stat::try_stat(supervisor.pid).map_err(|source| unusable(dir, source))?;
        let is_suspended =
            |stat: Stat| stat.start_time == supervisor.start_time && stat.is_stopped();
        if stat.is_some_and(is_suspended) {
            suspended.push(supervisor.pid);
        }
    }
    Ok(suspended)
}

/// The pids of the living supervisors in frozen control groups, as far as this can be seen. They do
/// as little as suspended ones.
pub(crate) fn frozen(dir: &Path) -> Result<Vec<u32>, SuperviseError> {
    Ok(frozen_among(pids(dir)?))
}

/// Those of these processes that are in frozen control groups, as far as this can be seen.
pub(crate) fn frozen_among(pids: Vec<u32>) -> Vec<u32> {
    freezer::frozen(Path::new("/"), pids)
}

/// Whether a living supervisor of this boot belongs to another pid namespace (a container, or the
/// system around this container), or to another time namespace, in which processes have other start
/// times. The processes of such a supervisor cannot be recognised from here, but the lock of its
/// directory shows whether it lives. A lock that cannot be examined counts as held.
pub(crate) fn is_out_of_sight(dir: &Path) -> Result<bool, SuperviseError> {
    let own = procfs::own_pid_namespace();
    for (_, dir) in list(dir)?.found {
        if is_dead(&dir).unwrap_or(false) {
            continue;
        }
        let noted = noted(&dir).map_err(|source| unusable(&dir, source))?;
        let Some(noted) = noted else { continue };
        let is_elsewhere = noted.pid_namespace.is_some() && noted.pid_namespace != own;
        if is_elsewhere || procfs::has_other_times(noted.pid) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether a child of the attempt is alive, according to the notes of the supervisors in `dir`,
/// living or dead. `None` if the notes do not tell. Blocks.
pub(crate) fn runs_as_noted(
    dir: &Path,
    attempt: &AttemptKey,
) -> Result<Option<bool>, SuperviseError> {
    for (_, dir) in list(dir)?.found {
        let noted = recover::runs_as_noted(&dir, attempt);
        let noted = noted.map_err(|source| unusable(&dir, source))?;
        if noted.is_some() {
            return Ok(noted);
        }
    }
    Ok(None)
}

/// Whether dead supervisors in `dir` may have left processes: their notes are of this boot, and
/// name an attempt or a command that was not over. Blocks.
pub(crate) fn may_have_left(dir: &Path) -> Result<bool, SuperviseError> {
    for (_, dir) in list(dir)?.found {
        let fault = |source| unusable(&dir, source);
        let is_dead = identity(&dir).map_err(fault)?.is_none();
        if is_dead && recover::has_unended(&dir).map_err(fault)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The pids of the children that are alive, of all attempts and commands that are not over
/// according to the notes of the supervisors in `dir`, living or dead. Blocks.
pub(crate) fn leaders(dir: &Path) -> Result<Vec<u32>, SuperviseError> {
    let mut leaders = Vec::new();
    for (_, dir) in list(dir)?.found {
        leaders.extend(recover::leaders_alive(&dir).map_err(|source| unusable(&dir, source))?);
    }
    Ok(leaders)
}

/// The attempts and commands that are not over according to the notes of the supervisors in `dir`,
/// living or dead. Blocks.
pub(crate) fn open_attempts(dir: &Path) -> Result<Vec<AttemptKey>, SuperviseError> {
    let mut open = Vec::new();
    for (_, dir) in list(dir)?.found {
        open.extend(recover::unended(&dir).map_err(|source| unusable(&dir, source))?);
    }
    Ok(open)
}

fn identities(dir: &Path) -> Result<Vec<Identity>, SuperviseError> {
    let mut identities = Vec::new();
    for (_, dir) in list(dir)?.found {
        identities.extend(identity(&dir).map_err(|source| unusable(&dir, source))?);
    }
    Ok(identities)
}

/// The supervisor of a directory, if its process is alive.
pub(super) fn identity(dir: &Path) -> io::Result<Option<Identity>> {
    let Some(noted) = noted(dir)? else {
        return Ok(None);
    };
    Ok(is_alive(noted.pid, noted.start_time)?.then_some(noted))
}

/// The supervisor of a directory, alive or dead, if it was started in this boot. If its file was
/// removed or damaged, the supervisor's notes name it too.
fn noted(dir: &Path) -> io::Result<Option<Identity>> {
    let text = match fsx::read(&dir.join(IDENTITY_FILE)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        text => text?,
    };
    // After a power cut the file may be empty.
    let noted = match serde_json::from_slice::<Identity>(&text) {
        Ok(noted) => Some(noted),
        Err(_) => recover::author(dir)?,
    };
    Ok(noted.filter(|noted| *noted.boot_id == *clock::boot_id()))
}

/// Starts a supervisor in a new directory and waits until it accepts connections.
pub(super) async fn launch(settings: Settings, dir: PathBuf) -> Result<Joined, NotJoined> {
    let started = crate::aside::run({
        let dir = dir.clone();
        move || start_process(&settings, &dir).map(|said| (said, settings.epoch))
    });
    // After a timeout, this thread is not interrupted: it ends once the supervisor has reported
    // that it is ready, or has died.
    let outcome = tokio::select! {
        outcome = started => outcome.unwrap_or_else(|panic| Err(not_ready(&dir, panic.to_string()))),
        () = clock::sleep(PATIENCE) => Err(not_ready(&dir, "no answer in time".to_owned())),
    };
    match outcome {
        Ok((Some(_), epoch)) => connect(&dir, epoch).await,
        Ok((None, _)) => {
            let log = fsx::read_text(&dir.join(LOG_FILE)).unwrap_or_else(|error| error.to_string());
            Err(NotJoined::Fault(not_ready(
                &dir,
                format!("it ended: {}", log.trim_end()),
            )))
        }
        Err(error) => Err(NotJoined::Fault(error)),
    }
}

fn start_process(settings: &Settings, dir: &Path) -> Result<Option<String>, SuperviseError> {
    let fault = |source| SuperviseError::Directory {
        path: dir.to_owned(),
        source,
    };
    DirBuilder::new().mode(0o700).create(dir).map_err(fault)?;
    let program = &settings.program;
    let descriptors = settings
        .descriptors
        .map(|soft| OsString::from(soft.to_string()));
    let args: Vec<&OsStr> = std::iter::once(dir.as_os_str())
        .chain(descriptors.as_deref())
        .collect();
    launch::launch(
        program,
        &args,
        settings.environment.iter().cloned(),
        &dir.join(LOG_FILE),
    )
    .and_then(|mut launched| {
        let said = launched.wait_ready()?;
        if said.is_none() {
            wait::reap(launched.pid);
        }
        Ok(said)
    })
    .map_err(|source| SuperviseError::Launch {
        program: program.path.clone(),
        source,
    })
}

fn not_ready(dir: &Path, message: String) -> SuperviseError {
    SuperviseError::NotReady {
        dir: dir.to_owned(),
        message,
    }
}

/// Tries to connect until the connection succeeds, the supervisor is dead, or the supervisor
/// refuses this host; for [`LONGEST_SILENCE`] at most. A single failure proves nothing: the
/// connection to a supervisor that is ending may break before its lock is free, and only a free
/// lock shows that it is dead.
pub(super) async fn rejoin(dir: PathBuf, epoch: u64) -> Result<Joined, NotJoined> {
    let give_up = clock::monotonic() + LONGEST_SILENCE;
    let mut pause = FIRST_PAUSE;
    loop {
        match connect(&dir, epoch).await {
            Err(NotJoined::Fault(error))
                if clock::monotonic() < give_up
                    && !matches!(
                        error,
                        SuperviseError::Fenced { .. } | SuperviseError::Protocol { .. }
                    ) =>
            {
                tracing::debug!(%error, "the supervisor cannot be reached yet");
            }
            other => return other,
        }
        clock::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Tries to connect once.
pub(super) async fn connect(dir: &Path, epoch: u64) -> Result<Joined, NotJoined> {
    if is_dead(dir).map_err(|source| {
        NotJoined::Fault(SuperviseError::Directory {
            path: dir.to_owned(),
            source,
        })
    })? {
        return Err(NotJoined::Dead);
    }
    tokio::select! {
        joined = greet(dir, epoch) => joined.map_err(NotJoined::Fault),
        () = clock::sleep(PATIENCE) => {
            Err(NotJoined::Fault(SuperviseError::Connection { dir: dir.to_owned(), source: io::ErrorKind::TimedOut.into() }))
        }
    }
}

async fn greet(dir: &Path, epoch: u64) -> Result<Joined, SuperviseError> {
    let fault = |source| SuperviseError::Connection {
        dir: dir.to_owned(),
        source,
    };
    let damaged =
        |error: frame::FrameError| fault(io::Error::new(io::ErrorKind::InvalidData, error));
    let path = SocketPath::new(dir, SOCKET_FILE).map_err(fault)?;
    let mut stream = UnixStream::connect(path.as_path()).await.map_err(fault)?;
    if stream.peer_cred().map_err(fault)?.uid() != rustix::process::geteuid().as_raw() {
        let foreign = "a program of another user listens on the supervisor's socket";
        return Err(fault(io::Error::new(
            io::ErrorKind::PermissionDenied,
            foreign,
        )));
    }
    let mut hello = Vec::new();
    frame::encode(
        &Hello {
            protocol: PROTOCOL,
            epoch,
            feed: None,
        },
        &mut hello,
    )
    .map_err(damaged)?;
    stream.write_all(&hello).await.map_err(fault)?;

    let mut incoming = Incoming::default();
    let mut buffer = vec![0; 64 << 10];
    let mut welcome = None;
    let mut states = Vec::new();
    loop {
        while let Some(message) = incoming.next_frame().map_err(damaged)? {
            match frame::decode(message).map_err(damaged)? {
                Message::Welcome(it) if it.protocol == PROTOCOL => welcome = Some(it),
                Message::Welcome(it) => {
                    return Err(SuperviseError::Protocol {
                        dir: dir.to_owned(),
                        theirs: it.protocol,
                    });
                }
                Message::Fenced { epoch } => {
                    return Err(SuperviseError::Fenced {
                        dir: dir.to_owned(),
                        epoch,
                    });
                }
                Message::Attempt(state) => states.push(state),
                Message::Ready => {
                    let Some(welcome) = welcome else {
                        return Err(fault(io::ErrorKind::InvalidData.into()));
                    };
                    return Ok(Joined {
                        stream,
                        incoming,
                        welcome,
                        states,
                    });
                }
                _ => {}
            }
        }
        match stream.read(&mut buffer).await.map_err(fault)? {
            0 => return Err(fault(io::ErrorKind::UnexpectedEof.into())),
            length => incoming.extend(&buffer[..length]),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::supervise::process::LOCK_FILE;

    #[test]
    fn a_supervisor_of_another_namespace_may_live_if_its_lock_cannot_be_examined() {
        let dir = tempfile::tempdir().unwrap();
        let supervisor = dir.path().join("1");
        fs::create_dir(&supervisor).unwrap();
        let identity = Identity {
            pid: 1,
            start_time: 1,
            boot_id: clock::boot_id().to_string(),
            pid_namespace: Some("pid:[1]".to_owned()),
            build: "any".to_owned(),
        };
        let identity = serde_json::to_vec(&identity).unwrap();
        fs::write(supervisor.join(IDENTITY_FILE), identity).unwrap();
        // Without a lock the supervisor is dead.
        assert!(!is_out_of_sight(dir.path()).unwrap());
        // A symbolic link to itself cannot be opened.
        std::os::unix::fs::symlink(LOCK_FILE, supervisor.join(LOCK_FILE)).unwrap();
        assert!(is_out_of_sight(dir.path()).unwrap());
    }

    #[test]
    fn supervisors_that_cannot_be_listed_are_not_taken_for_none() {
        let dir = tempfile::tempdir().unwrap();
        let supervisors = dir.path().join("supervisors");
        assert!(pids(&supervisors).unwrap().is_empty());
        assert!(suspended(&supervisors).unwrap().is_empty());
        assert!(!is_out_of_sight(&supervisors).unwrap());
        assert!(!supervisors.exists());

        let are_errors = || {
            let listed = [pids(&supervisors), suspended(&supervisors)];
            let is_out_of_sight = is_out_of_sight(&supervisors);
            listed.iter().all(Result::is_err) && is_out_of_sight.is_err()
        };
        fs::write(&supervisors, "").unwrap();
        assert!(are_errors());
        fs::remove_file(&supervisors).unwrap();
        // The notes of this supervisor cannot be read. Its lock cannot be examined, so that it may
        // live.
        let one = supervisors.join("1");
        fs::create_dir_all(one.join(IDENTITY_FILE)).unwrap();
        std::os::unix::fs::symlink(LOCK_FILE, one.join(LOCK_FILE)).unwrap();
        assert!(are_errors());
    }
}

//! The supervisor's own directory.
//!
//! The directory may be moved or removed while the supervisor runs, and another supervisor may have
//! a directory at the old path by then. So after the start, the supervisor reaches its files only
//! through the descriptor of its directory, and touches no file of another supervisor.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{AtFlags, FlockOperation};
use rustix::io::Errno;

use super::{IDENTITY_FILE, LOCK_FILE, SOCKET_FILE};
use crate::clock;
use crate::fsx::{self, Lasting};
use crate::supervise::leader;
use crate::supervise::protocol::Identity;
use crate::supervise::sys::files::SocketPath;

/// How long to wait for the supervisor's lock at its start. A host that checks the lock may hold it
/// for a moment.
const LOOKED_AT: Duration = Duration::from_secs(1);

pub(super) struct Place {
    /// The path at the start of the supervisor.
    path: PathBuf,
    directory: File,
    /// Held while the supervisor lives: a host that gets this lock knows that the supervisor is
    /// dead.
    lock: File,
    /// Device and inode of the socket that this supervisor has made.
    socket: Option<(u64, u64)>,
}

impl Place {
    /// Opens the directory and takes its lock.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let directory = File::open(path)?;
        let lock = fsx::open_lock(&path.join(LOCK_FILE))?;
        hold(&lock)?;
        Ok(Self {
            path: path.to_owned(),
            directory,
            lock,
            socket: None,
        })
    }

    /// The path at the start of the supervisor, for messages.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// A path that leads to a file of this directory, wherever the directory is now.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        let directory = self.directory.as_raw_fd();
        PathBuf::from(format!("/proc/self/fd/{directory}/{name}"))
    }

    /// Whether the lock file was removed (no name leads to it any more). If it cannot be looked at,
    /// it is assumed to exist.
    pub(super) fn is_removed(&self) -> bool {
        use std::os::unix::fs::MetadataExt;
        self.lock.metadata().is_ok_and(|found| found.nlink() == 0)
    }

    /// Begins to listen at the start of the supervisor.
    pub(super) fn listen(&mut self) -> io::Result<UnixListener> {
        let socket = SocketPath::new(&self.path, SOCKET_FILE)?;
        self.bind(socket.as_path())
    }

    /// Begins to listen again if the socket was removed or replaced, because no host can connect
    /// without it.
    pub(super) fn listen_again(&mut self) -> io::Result<Option<UnixListener>> {
        if self.socket == self.identity_of(SOCKET_FILE)? {
            return Ok(None);
        }
        self.bind(&self.file(SOCKET_FILE)).map(Some)
    }

    fn bind(&mut self, path: &Path) -> io::Result<UnixListener> {
        self.remove(SOCKET_FILE)?;
        let listener = UnixListener::bind(path)?;
        // A program that can connect can start processes as this user, so only this user may
        // connect.
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        self.socket = self.identity_of(SOCKET_FILE)?;
        Ok(listener)
    }

    /// Device and inode of a file; none if it does not exist.
    fn identity_of(&self, name: &str) -> io::Result<Option<(u64, u64)>> {
        use std::os::unix::fs::MetadataExt;
        match std::fs::symlink_metadata(self.file(name)) {
            Ok(found) => Ok(Some((found.dev(), found.ino()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.identity_of(name).is_ok_and(|found| found.is_some())
    }

    /// Writes the supervisor's identity at its start.
    pub(super) fn note(&self, identity: &Identity) -> io::Result<()> {
        write_identity(&self.path.join(IDENTITY_FILE), identity)
    }

    /// Writes the supervisor's identity again if it was removed.
    pub(super) fn note_again(&self, identity: &Identity) -> io::Result<()> {
        match self.identity_of(IDENTITY_FILE)? {
            Some(_) => Ok(()),
            None => write_identity(&self.file(IDENTITY_FILE), identity),
        }
    }

    /// Removes a file of this directory. It is not an error if the file does not exist.
    pub(super) fn remove(&self, name: &str) -> io::Result<()> {
        match rustix::fs::unlinkat(&self.directory, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The epoch of the leading host of the data directory in which this directory is now.
    pub(super) fn epoch(&self) -> io::Result<Option<u64>> {
        leader::epoch_above(&self.directory)
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
            Err(Errno::WOULDBLOCK) if clock::monotonic() < give_up => {
                std::thread::sleep(LOOKED_AT / 100);
            }
            Err(Errno::INTR) => {}
            Err(Errno::WOULDBLOCK) => {
                let text = "another process has locked the directory of this supervisor";
                return Err(io::Error::new(io::ErrorKind::WouldBlock, text));
            }
            Err(error) => return Err(error.into()),
        }
    }
}

fn write_identity(path: &Path, identity: &Identity) -> io::Result<()> {
    let text = serde_json::to_vec(identity)?;
    // Need not be synced: the file names the process that holds the lock, and a power cut ends that
    // process.
    fsx::replace(path, Lasting::Process, &text).map(drop)
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
                1 | 2 => Err(Errno::WOULDBLOCK),
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
    fn the_files_of_another_supervisor_at_the_old_path_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (path, moved) = (dir.path().join("1"), dir.path().join("moved/1"));
        std::fs::create_dir(&path).unwrap();
        let mut place = Place::open(&path).unwrap();
        let _listener = place.listen().unwrap();
        let all = dir.path().join("moved");
        std::fs::create_dir(&all).unwrap();
        leader::note(dir.path(), 8).unwrap();
        leader::note(&all, 7).unwrap();
        std::fs::rename(&path, &moved).unwrap();
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join(SOCKET_FILE), "").unwrap();
        assert_eq!(place.epoch().unwrap(), Some(7));
        assert!(!place.is_removed());
        assert!(place.listen_again().unwrap().is_none());
        place.remove(SOCKET_FILE).unwrap();
        assert!(path.join(SOCKET_FILE).exists());
        assert!(!moved.join(SOCKET_FILE).exists());
        assert!(place.listen_again().unwrap().is_some());
        assert!(moved.join(SOCKET_FILE).exists());

        std::fs::remove_dir_all(&moved).unwrap();
        assert!(place.is_removed());
        place.remove(SOCKET_FILE).unwrap();
        assert!(path.join(SOCKET_FILE).exists());
    }
}

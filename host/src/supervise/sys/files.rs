//! Descriptors: the limit on them, those inherited, and socket paths of any length.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::process::{Resource, Rlimit};

/// A Unix socket's path has at most 107 bytes. Through the directory's descriptor in `/proc` any directory will do.
#[derive(Debug)]
pub(in crate::supervise) struct SocketPath {
    path: PathBuf,
    /// Keeps the number in the path valid.
    _directory: Option<File>,
}

impl SocketPath {
    pub(in crate::supervise) fn new(directory: &Path, name: &str) -> io::Result<Self> {
        const LONGEST: usize = 107;
        let path = directory.join(name);
        if path.as_os_str().as_bytes().len() <= LONGEST {
            return Ok(Self {
                path,
                _directory: None,
            });
        }
        let directory = File::open(directory)?;
        let path = PathBuf::from(format!("/proc/self/fd/{}/{name}", directory.as_raw_fd()));
        Ok(Self {
            path,
            _directory: Some(directory),
        })
    }

    pub(in crate::supervise) fn as_path(&self) -> &Path {
        &self.path
    }
}

/// Closes everything but stdio. Only for a process that has just begun and owns no descriptor yet.
#[allow(
    unsafe_code,
    reason = "close_range has no safe wrapper, since it closes what others may own"
)]
pub(in crate::supervise) fn close_inherited() {
    // SAFETY: the caller owns no descriptor above 2, so none is closed under an owner. The result is given up: a kernel without
    // the call leaves descriptors that the starter has already marked close-on-exec.
    unsafe { libc::close_range(3, libc::c_uint::MAX, 0) };
}

/// Puts `file` in the place of stdout.
#[allow(
    unsafe_code,
    reason = "replacing a standard descriptor has no safe wrapper without an owner of it"
)]
pub(in crate::supervise) fn redirect_stdout(file: &File) -> io::Result<()> {
    // SAFETY: both descriptors are open, and nobody owns 1 in the sense of closing it.
    let result = unsafe { libc::dup2(file.as_raw_fd(), libc::STDOUT_FILENO) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// The soft limit on open files as children should have it, and ours, which is the hard limit: a thousand children at once are two
/// thousand pipes here, while a child may rely on small numbers (`select`).
#[derive(Debug, Clone, Copy)]
pub(in crate::supervise) struct FileLimits {
    children: Rlimit,
    ours: Rlimit,
}

impl FileLimits {
    pub(in crate::supervise) fn raise() -> io::Result<Self> {
        let children = rustix::process::getrlimit(Resource::Nofile);
        let ours = Rlimit {
            current: children.maximum,
            maximum: children.maximum,
        };
        rustix::process::setrlimit(Resource::Nofile, ours)?;
        Ok(Self { children, ours })
    }

    /// Runs `start` under the children's limit. Nothing that opens a descriptor happens in it but in the child.
    pub(in crate::supervise) fn for_child<T>(
        &self,
        start: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        if self.children.current == self.ours.current {
            return start();
        }
        rustix::process::setrlimit(Resource::Nofile, self.children)?;
        let result = start();
        if let Err(error) = rustix::process::setrlimit(Resource::Nofile, self.ours) {
            // The child is there; the next one may find no descriptor left, and says so.
            eprintln!("cannot raise the limit on open files again: {error}");
        }
        result
    }
}

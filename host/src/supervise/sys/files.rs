//! File descriptors: the limit on their number, inherited descriptors, and socket paths of any
//! length.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::Mode;
use rustix::process::{Resource, Rlimit};

/// A path for a Unix socket, which may have at most 107 bytes. A longer path is replaced by a path
/// that leads through the directory's descriptor in `/proc`.
#[derive(Debug)]
pub(in crate::supervise) struct SocketPath {
    path: PathBuf,
    /// Keeps the descriptor number in the path valid.
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

/// The treatment of descriptors that this process inherited beside stdio.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::supervise) enum Inherited {
    /// Close them, because this process uses nothing of its starter.
    Closed,
    /// Keep them, but do not pass them on to children: the starter may have meant them for this
    /// process (for example a lock that is held while this process runs).
    Kept,
}

/// Closes or keeps all descriptors except stdio. Only for a process that has just begun and owns no
/// descriptor yet.
#[allow(
    unsafe_code,
    reason = "close_range has no safe wrapper, since other code may own the descriptors"
)]
pub(in crate::supervise) fn seal_inherited(inherited: Inherited) -> io::Result<()> {
    let flags = match inherited {
        Inherited::Closed => 0,
        Inherited::Kept => libc::CLOSE_RANGE_CLOEXEC.cast_signed(),
    };
    // SAFETY: the caller owns no descriptor above 2, so no descriptor is closed while something
    // still owns it.
    let sealed = unsafe { libc::close_range(3, libc::c_uint::MAX, flags) };
    if sealed == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        // The kernel is older than 5.9, or than 5.11 for the flag.
        Some(libc::ENOSYS | libc::EINVAL) => seal_one_by_one(inherited),
        _ => Err(error),
    }
}

#[allow(
    unsafe_code,
    reason = "a descriptor that nobody owns can be closed, or set to close on exec, only by its number"
)]
fn seal_one_by_one(inherited: Inherited) -> io::Result<()> {
    let names: Vec<OsString> = std::fs::read_dir("/proc/self/fd")?
        .map(|entry| entry.map(|entry| entry.file_name()))
        .collect::<io::Result<_>>()?;
    let listed = names
        .iter()
        .filter_map(|name| name.to_str()?.parse::<i32>().ok());
    for descriptor in listed.filter(|descriptor| *descriptor > 2) {
        // SAFETY: as in `seal_inherited`. The descriptor of the listed directory is closed already,
        // so closing its number again fails harmlessly.
        unsafe {
            match inherited {
                Inherited::Closed => libc::close(descriptor),
                Inherited::Kept => libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC),
            };
        }
    }
    Ok(())
}

/// Runs `start` while this process has the given umask. Only the child creates files with this
/// umask, because `start` creates none and this process has only one thread.
pub(in crate::supervise) fn with_umask<T>(umask: Option<u16>, start: impl FnOnce() -> T) -> T {
    let Some(umask) = umask else { return start() };
    let own = rustix::process::umask(Mode::from_raw_mode(umask.into()));
    let result = start();
    rustix::process::umask(own);
    result
}

/// Replaces stdout by `file`.
#[allow(
    unsafe_code,
    reason = "no safe wrapper replaces a standard descriptor that has no owner"
)]
pub(in crate::supervise) fn redirect_stdout(file: &File) -> io::Result<()> {
    // SAFETY: both descriptors are open, and nothing owns descriptor 1.
    let result = unsafe { libc::dup2(file.as_raw_fd(), libc::STDOUT_FILENO) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// The number of descriptors that are kept free for looking at processes and ending them. If a
/// process could not be looked at, it would be left behind.
const RESERVE: u64 = 16;

/// The soft limits on open files: one for children, and one for this process, which is the hard
/// limit less a reserve. The limits differ, because this process has two thousand pipes open for a
/// thousand children, while a child may rely on small descriptor numbers (for `select`).
#[derive(Debug, Clone, Copy)]
pub(in crate::supervise) struct FileLimits {
    children: Rlimit,
    ours: Rlimit,
    with_reserve: Rlimit,
}

impl FileLimits {
    /// Raises this process's limit. `soft` is the limit for children, by default the limit that
    /// this process had before.
    pub(in crate::supervise) fn raise(soft: Option<u64>) -> io::Result<Self> {
        let mut children = rustix::process::getrlimit(Resource::Nofile);
        let most = children.maximum.unwrap_or(u64::MAX);
        children.current = soft.filter(|soft| *soft <= most).or(children.current);
        let limit = |current| Rlimit {
            current,
            maximum: children.maximum,
        };
        let left = |most: u64| most.saturating_sub(RESERVE).max(most / 2);
        let ours = limit(children.maximum.map(left));
        rustix::process::setrlimit(Resource::Nofile, ours)?;
        Ok(Self {
            children,
            ours,
            with_reserve: limit(children.maximum),
        })
    }

    /// The soft limit of children.
    pub(in crate::supervise) fn of_children(&self) -> Option<u64> {
        self.children.current
    }

    /// Sets the children's limit for the calling process, which is a child that has not executed
    /// its program yet.
    pub(in crate::supervise) fn become_childs(&self) -> io::Result<()> {
        Ok(rustix::process::setrlimit(Resource::Nofile, self.children)?)
    }

    /// Runs `start` with the children's limit. `start` must open no descriptor in this process.
    pub(in crate::supervise) fn for_child<T>(
        &self,
        start: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        if self.children.current == self.ours.current {
            return start();
        }
        rustix::process::setrlimit(Resource::Nofile, self.children)?;
        let result = start();
        self.return_to_ours();
        result
    }

    /// Runs `look` with the reserve of descriptors.
    pub(in crate::supervise) fn with_reserve<T>(&self, look: impl FnOnce() -> T) -> T {
        if self.with_reserve.current == self.ours.current {
            return look();
        }
        if let Err(error) = rustix::process::setrlimit(Resource::Nofile, self.with_reserve) {
            say!("cannot raise the limit on open files: {error}");
        }
        let found = look();
        self.return_to_ours();
        found
    }

    fn return_to_ours(&self) {
        if let Err(error) = rustix::process::setrlimit(Resource::Nofile, self.ours) {
            // This is not an error of `start` or `look`. If the next start finds no free
            // descriptor, the start reports its own error.
            say!("cannot restore the limit on open files: {error}");
        }
    }
}

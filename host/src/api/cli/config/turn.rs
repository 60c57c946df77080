//! Lets one command at a time change the configuration file.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::{fs::FlockOperation, io::Errno};

use crate::{clock, fsx};

/// Time limit for the turn. A change takes milliseconds, so another command that holds the turn for
/// longer was suspended, or its disk does not answer.
const TURN_WITHIN: Duration = Duration::from_secs(20);
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// The turn of this command to change the configuration file. Without it, of two commands that read
/// the file before either has written it, one would undo what the other has changed. A file beside
/// the configuration file is locked, because the configuration file itself is replaced by each
/// change, and need not exist.
pub(super) struct Turn {
    path: PathBuf,
    /// The lock ends when this file is closed, also if this process is killed.
    _lock: File,
}

impl Turn {
    /// Waits for the turn to change this file, whose directory must exist.
    pub(super) fn take(file: &Path) -> io::Result<Self> {
        Self::take_within(file, TURN_WITHIN)
    }

    fn take_within(file: &Path, limit: Duration) -> io::Result<Self> {
        let path = lock_of(file);
        let give_up = clock::monotonic() + limit;
        loop {
            let lock = fsx::open_lock(&path).map_err(|error| {
                io::Error::new(error.kind(), format!("{}: {error}", path.display()))
            })?;
            fsx::unmask(&lock)?;
            match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) if is_at(&lock, &path)? => {
                    remove_left(file);
                    return Ok(Self { path, _lock: lock });
                }
                // Another command has the turn, or has removed the file since it was opened.
                Ok(()) | Err(Errno::INTR | Errno::WOULDBLOCK) => {}
                Err(error) => return Err(error.into()),
            }
            if clock::monotonic() >= give_up {
                return Err(kept_by_another(&path, limit));
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        // Removed while it is locked, so that nobody else has locked it.
        if let Err(error) = fsx::remove_file(&self.path) {
            tracing::debug!(%error, "an unused lock file stays beside the configuration file");
        }
    }
}

/// The error if other processes have had the lock for all of the time. They need not be commands
/// that change the file.
fn kept_by_another(lock: &Path, limit: Duration) -> io::Error {
    let (lock, limit) = (lock.display(), limit.as_secs());
    io::Error::other(format!(
        "other processes have kept {lock} locked for more than {limit} s; let the other `claudine \
         config` end, or end the process that `lslocks` shows for this file"
    ))
}

/// Removes what a command that was killed while it changed the file has left beside the file.
fn remove_left(file: &Path) {
    if let Err(error) = fsx::remove_left_beside(file) {
        tracing::debug!(%error, "files of a killed command stay beside the configuration file");
    }
}

fn lock_of(file: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(file.file_name().unwrap_or_default());
    name.push(".lock");
    file.with_file_name(name)
}

/// Whether the file at the path is this one.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let own = file.metadata()?;
    match fs::symlink_metadata(path) {
        Ok(found) => Ok((found.dev(), found.ino()) == (own.dev(), own.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::fsx::Lasting;

    #[test]
    fn no_change_is_lost_if_many_change_a_file_at_the_same_time() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.toml");
        let add = |line: usize| {
            let _turn = Turn::take(&file).unwrap();
            let text = fs::read_to_string(&file).unwrap_or_default();
            // Lets the others read the same text, if they may.
            std::thread::yield_now();
            let text = format!("{text}{line}\n");
            fsx::replace(&file, Lasting::Process, text.as_bytes()).unwrap();
        };
        let (threads, rounds) = (8, 25);
        std::thread::scope(|scope| {
            for thread in 0..threads {
                let add = &add;
                scope.spawn(move || (0..rounds).for_each(|round| add(thread * rounds + round)));
            }
        });
        let text = fs::read_to_string(&file).unwrap();
        let mut lines: Vec<usize> = text.lines().map(|line| line.parse().unwrap()).collect();
        lines.sort_unstable();
        assert_eq!(lines, (0..threads * rounds).collect::<Vec<_>>());
        // Nothing is left beside the file.
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_turn_that_another_command_keeps_is_an_error_and_one_that_it_has_left_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.toml");
        // A command that was killed leaves its file.
        fs::write(lock_of(&file), "").unwrap();
        let turn = Turn::take_within(&file, Duration::ZERO).unwrap();
        let kept = Turn::take_within(&file, Duration::ZERO).err().unwrap();
        let lock = lock_of(&file);
        let said = format!("other processes have kept {} locked", lock.display());
        assert!(kept.to_string().starts_with(&said), "{kept}");
        drop(turn);
        Turn::take_within(&file, Duration::ZERO).unwrap();
    }

    #[test]
    fn a_link_in_place_of_the_lock_is_refused_at_once_and_its_target_stays_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let [file, other] = ["config.toml", "other"].map(|name| dir.path().join(name));
        let lock = lock_of(&file);
        for is_there in [false, true] {
            if is_there {
                fs::write(&other, "kept").unwrap();
            }
            std::os::unix::fs::symlink(&other, &lock).unwrap();
            let begun = clock::monotonic();
            let refused = Turn::take(&file).err().unwrap().to_string();
            assert!(clock::monotonic() < begun + TURN_WITHIN, "{refused}");
            let said = format!(
                "{}: it is no regular file, but a symbolic link",
                lock.display()
            );
            assert!(refused.starts_with(&said), "{refused}");
            assert_eq!(other.exists(), is_there);
            fs::remove_file(&lock).unwrap();
        }
        assert_eq!(fs::read(&other).unwrap(), b"kept");
    }

    #[test]
    fn a_turn_removes_what_a_killed_command_has_left() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.toml");
        let names = [".config.toml.new-aB3dE6", ".other.new-aB3dE6"];
        let [left, other] = names.map(|name| dir.path().join(name));
        for path in [&left, &other] {
            fs::write(path, "").unwrap();
        }
        drop(Turn::take(&file).unwrap());
        assert!(!left.exists() && other.exists());
    }
}

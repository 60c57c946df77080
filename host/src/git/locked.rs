//! Recognises commands that have failed because of a lock.

use super::{GitError, failed, spec::Spec};
use crate::command::Finished;

/// Whether git has failed because another git process holds a lock.
pub(super) fn is_locked(finished: &Finished) -> bool {
    let said = String::from_utf8_lossy(&finished.stderr);
    said.contains(".lock': File exists")
        || said.contains("could not lock")
        || is_of_half_made_checkout(&said)
}

/// Whether git has failed because another git process has created the file `commondir` of a new
/// checkout and has not yet written it.
pub(super) fn is_of_half_made_checkout(said: &str) -> bool {
    said.contains("failed to read") && said.contains("commondir")
}

/// The error of a command that a lock has prevented. Names the lock if git has named it.
pub(super) fn locked(spec: &Spec, finished: &Finished) -> GitError {
    let said = String::from_utf8_lossy(&finished.stderr);
    match lock_named_in(&said) {
        Some(lock) => GitError::Locked {
            called: spec.called(),
            lock: lock.into(),
        },
        None => failed(spec, finished),
    }
}

pub(super) fn lock_named_in(said: &str) -> Option<&str> {
    // A push also prints what git says on another machine.
    let mut own = said.lines().filter(|line| !line.starts_with("remote: "));
    own.find_map(|line| {
        let (_, rest) = line.split_once("Unable to create '")?;
        let (lock, _) = rest.split_once("': File exists")?;
        Some(lock)
    })
}

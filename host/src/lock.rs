//! Locks that a panic elsewhere does not take along.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks what is valid after every statement that changes it, as whatever is behind a lock here is:
/// a panic of another thread has left nothing half changed, so its poison says nothing.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

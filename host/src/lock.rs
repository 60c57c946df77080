//! Locks that a panic elsewhere does not take along.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks a value that is valid after every statement that changes it, as every locked value of this
/// crate is: a panic of another thread leaves nothing half changed, so its poison means nothing.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

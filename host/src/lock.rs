//! Locks that ignore poisoning.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks a value that is valid after every statement that changes it. All locked values of this
/// crate are of this kind. So a panic of another thread leaves no half-made change, and poisoning
/// can be ignored.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

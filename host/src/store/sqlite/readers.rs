//! A small pool of connections that only read.

use std::{
    path::PathBuf,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

use rusqlite::Connection;

use super::{fault::Fault, open};
use crate::lock::lock;

/// The maximum number of open connections. Further readers wait. More connections would not read
/// faster on the usual machines, and each connection has a cache.
const MOST_OPEN: usize = 8;
/// The maximum number of connections that remain open while nobody reads: as many as the maximum
/// number of threads of the host's runtime. A new connection has to read the schema and prepare its
/// queries, which takes longer than a usual read.
const MOST_IDLE: usize = 4;

pub(super) struct Readers {
    path: PathBuf,
    pool: Mutex<Pool>,
    returned: Condvar,
}

#[derive(Default)]
struct Pool {
    idle: Vec<Connection>,
    in_use: usize,
}

impl Readers {
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            pool: Mutex::default(),
            returned: Condvar::new(),
        }
    }

    /// Runs a query on a connection of the pool.
    pub(super) fn with<T>(
        &self,
        query: impl FnOnce(&Connection) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let (_place, idle) = self.enter();
        let connection = match idle {
            Some(connection) => connection,
            None => open::reader(&self.path)?,
        };
        let answer = query(&connection);
        let mut pool = self.pool();
        if pool.idle.len() < MOST_IDLE {
            pool.idle.push(connection);
        }
        answer
    }

    fn enter(&self) -> (Place<'_>, Option<Connection>) {
        let pool = self
            .returned
            .wait_while(self.pool(), |pool| pool.in_use >= MOST_OPEN);
        let mut pool = pool.unwrap_or_else(PoisonError::into_inner);
        pool.in_use += 1;
        (Place(self), pool.idle.pop())
    }

    /// Locks the pool. A panic cannot leave a change to the pool half done.
    fn pool(&self) -> MutexGuard<'_, Pool> {
        lock(&self.pool)
    }
}

/// A place in the pool. It is released even if a connection cannot be opened or a query panics.
struct Place<'a>(&'a Readers);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.pool().in_use -= 1;
        self.0.returned.notify_one();
    }
}

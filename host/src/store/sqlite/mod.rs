//! The store that the host uses: one SQLite file in the data directory.
//!
//! The database uses a write-ahead log with `synchronous = FULL`: a commit is one `fdatasync`, and
//! commits and readers do not wait for each other. One connection writes. Its lock is held only
//! during a commit. The row of a task has a JSON body and only the few columns by which queries
//! find the task, since each index costs time in every commit. Reads of a task use only the body.
//!
//! This module does not take the lock on the data directory, and it does not check the rules of the
//! queue.

mod before;
mod commit;
#[cfg(test)]
mod damage;
mod edges;
mod fault;
#[cfg(test)]
mod fixture;
mod in_place;
mod list;
mod load;
mod network;
mod noted;
mod open;
mod prune;
mod query;
mod readers;
mod resolve;
mod row;
mod schema;
mod share;
#[cfg(test)]
mod torn;
mod transfer;
mod unattended;
mod unfinished;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use claudine_domain::{
    batch::{Batch, BatchNumber, DocumentKey},
    board::Stored,
    budget::Scope,
    dependency::End,
    event::Event,
    id::TaskId,
    queue::{Pause, Queue},
    task::Task,
    time::Timestamp,
};
use rusqlite::{Connection, config::DbConfig};

use self::{fault::Fault, readers::Readers, unattended::Unattended};
use super::{
    Epoch, Filter, InGroup, Intent, Old, Page, Prunable, Record, Resolved, Sequence, Status, Store,
    StoreError,
};
use crate::{clock, lock::lock};

pub(crate) use self::{
    in_place::InPlace,
    network::refuse_network_filesystem,
    noted::{Noted, Noting},
    transfer::Content,
};

/// The number of the schema that this version writes.
pub(crate) fn known_schema() -> u32 {
    schema::number(schema::KNOWN)
}

pub(crate) struct SqliteStore {
    path: PathBuf,
    /// The readers. Declared before the writer, so that the writer is closed last and can copy the
    /// log into the file.
    readers: Access,
    /// The connection that writes; `None` if the store is only read.
    writer: Option<Mutex<Connection>>,
    /// The files that the writer has open; `None` if the store is only read.
    in_place: Option<InPlace>,
    /// Where the number of the last batch is noted, if anywhere.
    noting: Option<Noting>,
    /// What corrects the tasks of a list, if anything. Called for each list.
    listed: Option<Box<dyn Fn() -> Correction + Send + Sync>>,
}

/// The way in which the store is read.
enum Access {
    Open(Readers),
    Unattended(Unattended, Correction),
}

/// Function that corrects a task that was read to be shown.
type Correction = Box<dyn Fn(&mut Task) + Send + Sync>;

impl SqliteStore {
    /// Opens the database at `path`. Creates the database if there is none, and migrates it to this
    /// version's schema.
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        let writer = open::writer(path)?;
        Ok(Self {
            path: path.to_owned(),
            readers: Access::Open(Readers::new(path.to_owned())),
            writer: Some(Mutex::new(writer)),
            in_place: Some(InPlace::of(path)?),
            noting: None,
            listed: None,
        })
    }

    /// Notes the number of the last batch in this file from now on.
    pub(crate) fn note_in(&mut self, path: PathBuf) -> Noting {
        self.noting.insert(Noting::new(path)).clone()
    }

    /// Calls `begin` for each list from now on, and passes the tasks of the list to its result,
    /// before their states are compared. Tasks that are read for other purposes stay as they are
    /// stored.
    pub(crate) fn correct_lists(&mut self, begin: impl Fn() -> Correction + Send + Sync + 'static) {
        self.listed = Some(Box::new(begin));
    }

    /// The files that a store which is written has open.
    pub(crate) fn in_place(&self) -> Option<InPlace> {
        self.in_place.clone()
    }

    /// Refuses a missing or empty database if there are logs of its tasks: the database was lost,
    /// and an empty queue would hide this.
    pub(crate) fn refuse_lost(
        path: &Path,
        logs: &Path,
        has_logs: impl FnOnce() -> io::Result<bool>,
    ) -> Result<(), StoreError> {
        if !open::is_empty(path)? {
            return Ok(());
        }
        match has_logs() {
            Ok(false) => Ok(()),
            Ok(true) => Err(StoreError::Missing {
                path: path.to_owned(),
                logs: logs.to_owned(),
            }),
            Err(error) => Err(StoreError::Unreadable {
                path: logs.to_owned(),
                why: error.to_string(),
            }),
        }
    }

    /// The epoch of the last host that has led with this database; 0 if there was none.
    pub(crate) fn last_epoch(&self) -> Result<u64, StoreError> {
        self.read(query::last_epoch)
    }

    /// Pauses the queue before a host leads. A pause that the queue has already is kept.
    pub(crate) fn pause(&self, pause: Pause) -> Result<(), StoreError> {
        self.write(|writer| commit::pause(writer, pause))
    }

    /// Opens a database only to read it, while another process may be writing to it. The database
    /// is not changed. If it has an older schema, it is refused.
    pub(crate) fn open_read_only(path: &Path) -> Result<Self, StoreError> {
        let reader = open::existing(path).map_err(|fault| fault.at(path))?;
        drop(reader);
        Ok(Self {
            path: path.to_owned(),
            readers: Access::Open(Readers::new(path.to_owned())),
            writer: None,
            in_place: None,
            noting: None,
            listed: None,
        })
    }

    /// Opens the database of a data directory without a host, only to read it, and leaves no trace.
    /// The database need not exist, and a host may start at any time. A database with another
    /// schema is refused when it is read. Each unfinished task is passed to `correct` before it is
    /// shown.
    pub(crate) fn open_unattended(
        path: &Path,
        correct: impl Fn(&mut Task) + Send + Sync + 'static,
    ) -> Self {
        let unattended = Unattended::new(path.to_owned());
        Self {
            path: path.to_owned(),
            readers: Access::Unattended(unattended, Box::new(correct)),
            writer: None,
            in_place: None,
            noting: None,
            listed: None,
        }
    }

    /// Summarises a database of any schema; `None` if there is no database, or if it has no tables.
    pub(crate) fn content(path: &Path) -> Result<Option<Content>, StoreError> {
        if !Self::is_made(path)? {
            return Ok(None);
        }
        let content = open::reader(path).and_then(|reader| transfer::content(&reader));
        content.map(Some).map_err(|fault| fault.at(path))
    }

    /// Whether a database with tables exists, even if it is that of another program. A database
    /// without tables is being created, or its creator was killed.
    pub(crate) fn is_made(path: &Path) -> Result<bool, StoreError> {
        if open::is_empty(path)? {
            return Ok(false);
        }
        let is_new = open::reader(path).and_then(|reader| schema::is_new(&reader));
        is_new.map(|is_new| !is_new).map_err(|fault| fault.at(path))
    }

    /// Copies the whole log into the file and closes the store. After that, the file contains
    /// everything that was committed.
    pub(crate) fn close(self) -> Result<(), StoreError> {
        let Self {
            path,
            readers,
            writer,
            ..
        } = self;
        drop(readers);
        let Some(writer) = writer else { return Ok(()) };
        let writer = writer.into_inner().unwrap_or_else(PoisonError::into_inner);
        let folded = commit::checkpoint_whole_log(&writer);
        let closed = folded.and_then(|()| Ok(writer.close().map_err(|(_, error)| error)?));
        closed.map_err(|fault| fault.at(&path))
    }

    fn read<T>(&self, query: impl FnMut(&Connection) -> Result<T, Fault>) -> Result<T, StoreError> {
        let answer = match &self.readers {
            Access::Open(readers) => readers.with(query),
            Access::Unattended(unattended, _) => unattended.with(query),
        };
        answer.map_err(|fault| self.seen(fault).at(&self.path))
    }

    /// Looks whether the fault means that a file of the database was cut or overwritten. If so,
    /// nothing more is committed, and the log is not copied into the file when it is closed.
    fn seen(&self, fault: Fault) -> Fault {
        if fault.may_be_of_the_file() {
            self.look_for_spoilt_log();
        }
        fault
    }

    /// Reads the row that each batch changes, with nothing of it in a cache.
    fn look_for_spoilt_log(&self) {
        let Some(in_place) = &self.in_place else {
            return;
        };
        let read = open::reader(&self.path).and_then(|reader| query::last_epoch(&reader));
        let Err(fault) = read else { return };
        if !fault.may_be_of_the_file() {
            return;
        }
        in_place.spoil();
        if let Some(writer) = &self.writer {
            let kept = DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
            if let Err(error) = lock(writer).set_db_config(kept, true) {
                tracing::error!(%error, "a damaged log may be copied into the database");
            }
        }
    }

    fn correct<'a>(&self, tasks: impl IntoIterator<Item = &'a mut Task>) {
        if let Access::Unattended(_, correct) = &self.readers {
            tasks.into_iter().for_each(correct);
        }
    }

    fn write<T>(
        &self,
        change: impl FnOnce(&mut Connection) -> Result<T, Fault>,
    ) -> Result<T, StoreError> {
        let writer = self.writer.as_ref().ok_or_else(|| StoreError::ReadOnly {
            path: self.path.clone(),
            why: "it was opened read-only".to_owned(),
        })?;
        // A panic under the lock has rolled back its transaction, so the connection can still be
        // used.
        let changed = change(&mut lock(writer));
        changed.map_err(|fault| self.seen(fault).at(&self.path))
    }

    /// Stops the file from growing, as on a full disk, or lets it grow again.
    #[cfg(test)]
    pub(super) fn limit_pages(&self, limit: bool) {
        let pages = if limit { 1 } else { u32::MAX - 1 };
        let answer = self
            .writer()
            .pragma_update_and_check(None, "max_page_count", pages, |row| row.get::<_, i64>(0));
        assert!(answer.is_ok(), "{answer:?}");
    }

    #[cfg(test)]
    #[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    fn writer(&self) -> std::sync::MutexGuard<'_, Connection> {
        lock(self.writer.as_ref().unwrap())
    }
}

impl Store for SqliteStore {
    fn lead_after(&self, led: u64) -> Result<Epoch, StoreError> {
        self.write(|writer| commit::lead_after(writer, led))
    }

    fn load(&self, remember_since: Timestamp) -> Result<Stored, StoreError> {
        let mut stored = self.read(|reader| load::stored(reader, remember_since))?;
        self.correct(&mut stored.unfinished);
        Ok(stored)
    }

    /// Commits a batch. On a full disk, the log may have no room for the batch, while the file has
    /// room for the content of the log. Once this content is copied into the file, the log is
    /// written from its beginning again and needs no more space.
    ///
    /// Nothing is stored by a commit to a file that was removed. This is checked after the commit,
    /// so that a removal during the commit is noticed too. A log that was cut is as long as before
    /// after the commit, so this is checked before.
    fn commit(&self, epoch: Epoch, batch: &Batch) -> Result<(), StoreError> {
        if let Some(in_place) = &self.in_place {
            if in_place.is_log_shorter() {
                self.look_for_spoilt_log();
            }
            if let Some(spoilt) = in_place.spoilt() {
                return Err(spoilt);
            }
        }
        let commit = || self.write(|writer| commit::batch(writer, epoch, batch));
        let committed = match commit() {
            Err(StoreError::Full { .. }) => {
                self.write(commit::checkpoint_log)?;
                commit()
            }
            answer => answer,
        };
        let spoilt = || self.in_place.as_ref().and_then(InPlace::spoilt);
        committed.map_err(|error| spoilt().unwrap_or(error))?;
        let in_place = self.in_place.as_ref();
        in_place.map_or(Ok(()), InPlace::committed)?;
        if let Some(noting) = &self.noting {
            noting.stored(epoch, batch.number, clock::monotonic());
        }
        Ok(())
    }

    fn last_batch(&self) -> Result<BatchNumber, StoreError> {
        self.read(query::last_batch)
    }

    fn task(&self, id: TaskId) -> Result<Option<Task>, StoreError> {
        let mut task = self.read(|reader| query::task(reader, id))?;
        self.correct(&mut task);
        Ok(task)
    }

    fn task_of_key(&self, key: &str, since: Timestamp) -> Result<Option<Task>, StoreError> {
        let mut task = self.read(|reader| query::task_of_key(reader, key, since))?;
        self.correct(&mut task);
        Ok(task)
    }

    fn resolve(&self, reference: &str, intent: Intent) -> Result<Resolved, StoreError> {
        self.read(|reader| resolve::resolve(reader, reference, intent))
    }

    fn resolve_part(&self, part: &str, intent: Intent) -> Result<Resolved, StoreError> {
        self.read(|reader| resolve::resolve_part(reader, part, intent))
    }

    fn are_parts(&self, texts: &[&str], intent: Intent) -> Result<Vec<bool>, StoreError> {
        self.read(|reader| resolve::are_parts(reader, texts, intent))
    }

    fn list(&self, filter: &Filter, limit: usize) -> Result<Page, StoreError> {
        let listed = self.listed.as_ref().map(|begin| begin());
        let correct = |task: &mut Task| {
            self.correct([&mut *task]);
            if let Some(correct) = &listed {
                correct(task);
            }
        };
        self.read(|reader| list::list(reader, filter, limit, &correct))
    }

    fn last_ended(&self, filter: &Filter, limit: usize) -> Result<Vec<Task>, StoreError> {
        self.read(|reader| list::last_ended(reader, filter, limit))
    }

    fn graphs_named(&self, name: &str, limit: usize) -> Result<Vec<TaskId>, StoreError> {
        self.read(|reader| query::graphs_named(reader, name, limit))
    }

    fn counts(&self) -> Result<Vec<(Status, u64)>, StoreError> {
        self.read(query::counts)
    }

    fn ends(&self, ids: &BTreeSet<TaskId>) -> Result<BTreeMap<TaskId, Option<End>>, StoreError> {
        self.read(|reader| query::ends(reader, ids))
    }

    fn group_counts(&self) -> Result<Vec<(String, Status, u64)>, StoreError> {
        self.read(query::group_counts)
    }

    fn group_tasks(&self, most: usize) -> Result<Vec<InGroup>, StoreError> {
        self.read(|reader| list::group_tasks(reader, most))
    }

    fn queue(&self) -> Result<Queue, StoreError> {
        self.read(|reader| load::queue(reader, &mut Vec::new()))
    }

    fn dependants(&self, id: TaskId) -> Result<Vec<TaskId>, StoreError> {
        self.read(|reader| edges::dependants(reader, id))
    }

    fn spoilt_by(&self, culprit: TaskId) -> Result<Vec<Task>, StoreError> {
        self.read(|reader| query::spoilt_by(reader, culprit))
    }

    fn spent_on(&self, scope: Scope) -> Result<u64, StoreError> {
        self.read(|reader| query::spent_on(reader, scope))
    }

    fn document(&self, key: DocumentKey) -> Result<Option<Vec<u8>>, StoreError> {
        self.read(|reader| query::document(reader, key))
    }

    fn events_after(
        &self,
        sequence: Sequence,
        limit: usize,
    ) -> Result<Vec<(Sequence, Event)>, StoreError> {
        self.read(|reader| query::events_after(reader, sequence, limit))
    }

    fn last_event(&self) -> Result<Sequence, StoreError> {
        self.read(query::last_event)
    }

    fn first_event_since(&self, at: Timestamp) -> Result<Option<Sequence>, StoreError> {
        self.read(|reader| query::first_event_since(reader, at))
    }

    fn env_digests_in_use(&self) -> Result<Vec<String>, StoreError> {
        self.read(query::env_digests)
    }

    fn export(&self, each: &mut dyn FnMut(Record) -> bool) -> Result<(), StoreError> {
        self.read(|reader| transfer::export(reader, each))
    }

    fn import(&self, part: u32, records: Vec<Record>) -> Result<(), StoreError> {
        self.write(|writer| transfer::import(writer, part, records))
    }

    fn prunable(
        &self,
        old: Old,
        after: Option<TaskId>,
        limit: usize,
    ) -> Result<Vec<Prunable>, StoreError> {
        self.read(|reader| prune::prunable(reader, old, after, limit))
    }

    fn last_old_event(
        &self,
        older_than: Timestamp,
        limit: usize,
    ) -> Result<Option<Sequence>, StoreError> {
        self.read(|reader| prune::last_old_event(reader, older_than, limit))
    }

    fn known(&self, ids: &BTreeSet<TaskId>) -> Result<BTreeSet<TaskId>, StoreError> {
        self.read(|reader| query::known(reader, ids))
    }
}

//! Takes a backup: first a snapshot of the store, then the files next to it.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use claudine_domain::{
    id::{AttemptId, TaskId},
    time::Timestamp,
};

use super::{
    super::error::{AppError, ErrorKind},
    BackupTaken, cannot,
    entry::{FORMAT, Manifest, Name, is_digest},
    file::{Target, refuse_own},
    kind_of,
    place::refuse_incomplete,
    write::Writer,
};
use crate::{
    clock, fsx,
    layout::Layout,
    stdout,
    store::{
        Record, Store,
        sqlite::{SqliteStore, known_schema},
    },
    supervise::{
        launch,
        log::{self, Look, Written},
    },
    transcript::written_by,
    units::bytes_text,
};

/// Size at which the collected rows are written as an entry.
const ROWS_BYTES: usize = 1 << 20;
/// Limit of the missing or damaged logs that are named.
const NAMED: usize = 10;

/// Writes a backup to a private file.
pub(crate) fn to_file(
    layout: &Layout,
    path: &Path,
    with_environments: bool,
    force: bool,
) -> Result<BackupTaken, AppError> {
    let store = open(layout)?;
    refuse_own(layout.root(), path)?;
    let (target, file) = Target::create(path, force)?;
    let taken = take(layout, &store, &file, with_environments).and_then(|mut taken| {
        let length = file.metadata().map_err(|error| failed(&error))?.len();
        taken.bytes = length;
        taken.file = Some(path.display().to_string());
        Ok(taken)
    });
    match taken {
        Ok(taken) => target.name(&file).map(|()| taken),
        Err(error) => {
            target.give_up();
            Err(error)
        }
    }
}

/// Writes a backup to standard output.
pub(crate) fn to_stdout(layout: &Layout, with_environments: bool) -> Result<BackupTaken, AppError> {
    stdout::check().map_err(|error| failed(&error))?;
    let store = open(layout)?;
    let mut counted = Counted {
        to: io::stdout().lock(),
        bytes: 0,
    };
    let mut taken = take(layout, &store, &mut counted, with_environments)?;
    counted.flush().map_err(|error| failed(&error))?;
    taken.bytes = counted.bytes;
    Ok(taken)
}

fn open(layout: &Layout) -> Result<SqliteStore, AppError> {
    let database = layout.database();
    refuse_incomplete(layout)?;
    if layout.to_be_placed().exists() {
        let directory = layout.root().display();
        let message = format!("a restore into {directory} was killed before it was complete");
        return Err(AppError::new(ErrorKind::Conflict, message)
            .hint("`claudine up` completes the restore; back up the queue after that"));
    }
    SqliteStore::refuse_lost(&database, &layout.logs(), || layout.has_logs())?;
    if !SqliteStore::is_made(&database)? {
        let directory = layout.root().display();
        let message = format!("there is nothing to back up: {directory} has no queue");
        return Err(AppError::new(ErrorKind::NotFound, message)
            .hint("--data-dir or CLAUDINE_DATA_DIR names another data directory"));
    }
    // A backup that is larger than a file may be fails with an error, and its file is removed.
    launch::survive_file_limit().map_err(|error| failed(&error))?;
    Ok(SqliteStore::open_read_only(&database)?)
}

fn failed(error: &io::Error) -> AppError {
    let message = format!("the backup cannot be written: {error}");
    let failed = AppError::new(kind_of(error), message);
    match fsx::file_limit().filter(|_| error.kind() == io::ErrorKind::FileTooLarge) {
        Some(limit) => failed.hint(format!(
            "no file can become larger than {} here (`ulimit -f`)",
            bytes_text(limit)
        )),
        None => failed,
    }
}

struct Counted<W> {
    to: W,
    bytes: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.to.write(bytes)?;
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// A backup in progress.
struct Taking<W: Write> {
    writer: Writer<W>,
    taken: BackupTaken,
    /// How many bytes of output each ended attempt had written, until its log is found.
    written: BTreeMap<AttemptId, Written>,
    /// Number of warnings that are not among those of `taken`.
    unnamed: usize,
    rows: Vec<u8>,
    parts: u32,
}

pub(super) fn take(
    layout: &Layout,
    store: &dyn Store,
    to: impl Write,
    with_environments: bool,
) -> Result<BackupTaken, AppError> {
    let taken_at = clock::wall();
    let manifest = Manifest {
        format: FORMAT,
        schema: known_schema(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        taken_at,
        environments: with_environments,
    };
    let mut taking = Taking::begin(to, taken_at, with_environments);
    let text = serde_json::to_vec(&manifest).map_err(|error| failed(&error.into()))?;
    let begun = taking.writer.put(&Name::Manifest, &text);
    begun.map_err(|error| failed(&error))?;
    taking.store(store)?;
    if with_environments {
        taking.environments(layout, store)?;
    }
    // Tasks submitted after the store was read are not in the backup, so their output is left out.
    taking.logs(layout, store, TaskId::new(clock::wall().0 + 1, 0))?;
    taking.writer.finish().map_err(|error| failed(&error))?;
    Ok(taking.taken)
}

impl<W: Write> Taking<W> {
    fn begin(to: W, taken_at: Timestamp, with_environments: bool) -> Self {
        Self {
            writer: Writer::new(to, taken_at),
            taken: BackupTaken {
                file: None,
                taken_at: clock::rfc3339(taken_at),
                tasks: 0,
                unfinished: 0,
                events: 0,
                logs: 0,
                environments: with_environments.then_some(0),
                bytes: 0,
                warnings: Vec::new(),
            },
            written: BTreeMap::new(),
            unnamed: 0,
            rows: Vec::new(),
            parts: 0,
        }
    }

    fn store(&mut self, store: &dyn Store) -> Result<(), AppError> {
        let mut written = Ok(());
        store.export(&mut |record| {
            written = self.row(&record);
            written.is_ok()
        })?;
        written
            .and_then(|()| self.write_rows())
            .map_err(|error| failed(&error))
    }

    fn row(&mut self, record: &Record) -> io::Result<()> {
        match record {
            Record::Task { task, .. } => {
                self.taken.tasks += 1;
                self.taken.unfinished += u64::from(!task.is_done());
                for attempt in &task.attempts {
                    let written = written_by(attempt);
                    let id = AttemptId {
                        task: task.id,
                        number: attempt.number,
                    };
                    if written != Written::default() {
                        self.written.insert(id, written);
                    }
                }
            }
            Record::Event { .. } => self.taken.events += 1,
            _ => {}
        }
        serde_json::to_writer(&mut self.rows, record)?;
        self.rows.push(b'\n');
        if self.rows.len() >= ROWS_BYTES {
            self.write_rows()?;
        }
        Ok(())
    }

    fn write_rows(&mut self) -> io::Result<()> {
        self.parts += 1;
        self.writer.put(&Name::Rows(self.parts), &self.rows)?;
        self.rows.clear();
        Ok(())
    }

    fn environments(&mut self, layout: &Layout, store: &dyn Store) -> Result<(), AppError> {
        for digest in store.env_digests_in_use()? {
            let path = layout.environment(&digest);
            if is_digest(&digest) && self.file(&Name::Environment(digest), &path)? {
                self.taken.environments = self.taken.environments.map(|count| count + 1);
            }
        }
        Ok(())
    }

    /// Adds the output of all attempts of tasks older than `newest`.
    fn logs(&mut self, layout: &Layout, store: &dyn Store, newest: TaskId) -> Result<(), AppError> {
        for shard in entries(&layout.logs())? {
            // A directory that cannot be looked at is an error: its logs would be missing in the
            // backup.
            match fs::metadata(&shard) {
                Ok(found) if found.is_dir() => {}
                Ok(_) => continue,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(cannot("read", &shard, &error)),
            }
            for path in entries(&shard)? {
                let name = path.file_name().and_then(|name| name.to_str());
                let Some((attempt, segment)) = name.and_then(Layout::attempt_of_log) else {
                    continue;
                };
                if attempt.task >= newest {
                    continue;
                }
                // Nothing can be added of a FIFO, a directory or a file that cannot be read, but a
                // warning names it.
                let name = Name::Log(attempt, segment);
                let is_added = match fsx::open(&path) {
                    Ok(file) => self.add(&name, file, &path).map(|()| true)?,
                    Err(error) if fsx::is_of_the_system(&error) => {
                        return Err(cannot("read", &path, &error));
                    }
                    Err(_) => false,
                };
                self.taken.logs += u64::from(is_added);
                let is_there = is_added || path.symlink_metadata().is_ok();
                if segment == 0 && is_there {
                    self.examine(store, attempt, &path)?;
                }
            }
        }
        for (attempt, written) in std::mem::take(&mut self.written) {
            // An attempt without output has no log.
            if written.bytes == 0 {
                continue;
            }
            let path = layout.log(attempt);
            let text = format!("the log {} is missing", path.display());
            self.warn(store, attempt, text);
        }
        if self.unnamed > 0 {
            let text = match self.unnamed {
                1 => "1 more log is missing or damaged".to_owned(),
                more => format!("{more} more logs are missing or damaged"),
            };
            self.taken.warnings.push(text);
        }
        Ok(())
    }

    /// Warns if something is wrong with a log. The backup contains the log as it is.
    fn examine(
        &mut self,
        store: &dyn Store,
        attempt: AttemptId,
        path: &Path,
    ) -> Result<(), AppError> {
        let written = self.written.remove(&attempt).unwrap_or_default();
        let fault = log::fault(path, written, Look::Whole);
        if let Some(fault) = fault.map_err(|error| cannot("read", path, &error))? {
            self.warn(store, attempt, format!("the log {fault}"));
        }
        Ok(())
    }

    /// Adds a warning about the log of an attempt, except if its task was removed since the store
    /// was read, because its log is removed after it.
    fn warn(&mut self, store: &dyn Store, attempt: AttemptId, text: String) {
        // A task that cannot be read is still there.
        if matches!(store.task(attempt.task), Ok(None)) {
            return;
        }
        if self.taken.warnings.len() < NAMED {
            self.taken.warnings.push(text);
        } else {
            self.unnamed += 1;
        }
    }

    /// Adds a file; returns false if it was removed meanwhile, which is not an error.
    fn file(&mut self, name: &Name, path: &Path) -> Result<bool, AppError> {
        match fsx::open(path) {
            Ok(file) => self.add(name, file, path).map(|()| true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(cannot("read", path, &error)),
        }
    }

    fn add(&mut self, name: &Name, mut file: File, path: &Path) -> Result<(), AppError> {
        let length = file.metadata().map(|found| found.len());
        let length = length.map_err(|error| cannot("read", path, &error))?;
        let copied = self.writer.copy(name, length, &mut file);
        copied.map_err(|error| failed(&error))
    }
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>, AppError> {
    fsx::entries(directory).map_err(|error| cannot("read", directory, &error))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::store::sample_batch;

    #[test]
    fn a_log_that_is_removed_with_its_task_while_a_backup_is_taken_is_not_missing() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        layout.create().unwrap();
        let store = SqliteStore::open(&layout.database()).unwrap();
        let epoch = store.lead().unwrap();
        let batch = sample_batch();
        store.commit(epoch, &batch).unwrap();
        let missing = |count: u32| {
            let mut taking = Taking::begin(io::sink(), Timestamp(0), false);
            let [there, gone] = [batch.tasks[0].id, TaskId::new(0, 77)];
            for number in 1..=count {
                let written = Written {
                    bytes: 8,
                    is_all: false,
                };
                for task in [there, gone] {
                    taking.written.insert(AttemptId { task, number }, written);
                }
            }
            taking.logs(&layout, &store, TaskId::new(1, 0)).unwrap();
            taking.taken.warnings
        };
        let task = batch.tasks[0].id;
        let log = layout.log(AttemptId { task, number: 1 });
        assert_eq!(
            missing(1),
            [format!("the log {} is missing", log.display())]
        );
        let more = |count: u32| missing(count)[NAMED..].to_vec();
        assert_eq!(more(10), Vec::<String>::new());
        assert_eq!(more(11), ["1 more log is missing or damaged"]);
        assert_eq!(more(12), ["2 more logs are missing or damaged"]);
    }
}

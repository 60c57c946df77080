//! Restores a backup into a data directory without a queue.

use std::{
    fs,
    io::{self, BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
};

use claudine_domain::{
    board::{Board, Bounds, IDEMPOTENCY_WINDOW},
    capacity::Limits,
    event::Fact,
    id::AttemptId,
    step::Input,
    task::Task,
    time::{Timestamp, millis},
};

use super::{
    super::error::{AppError, ErrorKind},
    QueueRestored, cannot,
    entry::{Manifest, Name},
    place::{Pause, place_by_steps},
    read::{Whole, damaged, read},
};
use crate::{
    ballast::START_BYTES,
    clock,
    config::EnvRules,
    environment::{Environment, Environments},
    fsx,
    layout::Layout,
    restored::Restored,
    store::{
        Record, Store,
        sqlite::{Content, SqliteStore},
    },
    supervise::{self, launch},
    units::bytes_text,
};

/// Space to leave free, so that a host can start.
const SPARE_BYTES: u64 = 4 * START_BYTES;
/// Unit in which file systems allocate the space of a file.
const BLOCK_BYTES: u64 = 4 << 10;
/// Size of the database as a multiple of the size of its rows. It also needs space for its indexes,
/// and for its log while all unfinished tasks are held in one transaction.
const DATABASE: u64 = 3;

/// Highest valid number of an attempt. It is far above any real number, and far below the maximum
/// of the type.
const HIGHEST_ATTEMPT: u32 = 1 << 24;

/// Input of a restore besides the backup.
pub(crate) struct Restore {
    /// Capacity of a host; needed for the board, although nothing is started.
    pub(crate) limits: Limits,
    pub(crate) rules: EnvRules,
    /// The environment of the restoring command, for tasks whose own environment is not in the
    /// backup.
    pub(crate) environment: Environment,
}

/// A backup that was read and verified.
pub(crate) struct Checked {
    path: PathBuf,
    whole: Whole,
    /// The most space that the restore takes at any moment.
    pub(super) needed_bytes: u64,
}

/// Reads and verifies a backup without writing anything.
pub(crate) fn check(path: &Path) -> Result<Checked, AppError> {
    let mut needed_bytes = SPARE_BYTES;
    let whole = read(path, &mut |_, name, from| {
        let bytes = io::copy(from, &mut io::sink()).map_err(damaged)?;
        let taken = match name {
            Name::Rows(_) => bytes.saturating_mul(DATABASE),
            _ => bytes.next_multiple_of(BLOCK_BYTES),
        };
        needed_bytes = needed_bytes.saturating_add(taken);
        Ok(())
    })?;
    Ok(Checked {
        path: path.to_owned(),
        whole,
        needed_bytes,
    })
}

/// The nearest existing ancestor of the data directory, or the data directory itself.
fn existing(layout: &Layout) -> &Path {
    let mut places = layout.root().ancestors();
    places.find(|place| place.exists()).unwrap_or(layout.root())
}

/// Refuses a data directory that has a queue. Returns the epoch of its empty database.
pub(crate) fn refuse_used(layout: &Layout) -> Result<u64, AppError> {
    let place = existing(layout);
    if place.exists() && !place.is_dir() {
        let message = format!("{} is not a directory", place.display());
        return Err(AppError::new(ErrorKind::Conflict, message)
            .hint("--data-dir chooses another data directory, which need not exist"));
    }
    match SqliteStore::content(&layout.database())? {
        None => Ok(0),
        Some(Content {
            has_rows: false,
            epoch,
        }) => Ok(epoch),
        Some(_) => {
            let directory = layout.root().display();
            let message = format!("{directory} already has a queue");
            Err(AppError::new(ErrorKind::Conflict, message)
                .hint("nothing was changed; restore into another data directory (--data-dir), or move this one away"))
        }
    }
}

/// Restores a backup. The caller must hold the lock of the data directory.
pub(crate) fn restore(
    backup: &Checked,
    layout: &Layout,
    how: Restore,
) -> Result<QueueRestored, AppError> {
    launch::survive_file_limit().map_err(|error| cannot("restore into", layout.root(), &error))?;
    let restored = restore_by_steps(backup, layout, how, &mut || Ok(()));
    if restored.is_err()
        && let Err(error) = fsx::remove_tree(&layout.restoring())
    {
        tracing::warn!(%error, "the incomplete restore cannot be removed; the next start tries again");
    }
    restored
}

/// Removes a new data directory into which nothing was restored. The caller must hold its lock.
pub(crate) fn discard(layout: &Layout) {
    // A complete restore is moved into place by the next host.
    if !fsx::is_missing(&layout.to_be_placed()) || !fsx::is_missing(&layout.database()) {
        return;
    }
    if let Err(error) = fsx::remove_tree(layout.root()) {
        tracing::warn!(%error, "the empty data directory of the failed restore cannot be removed");
    }
}

pub(super) fn restore_by_steps(
    backup: &Checked,
    layout: &Layout,
    how: Restore,
    pause: Pause<'_>,
) -> Result<QueueRestored, AppError> {
    let at = |error: io::Error| cannot("restore into", layout.root(), &error);
    place_by_steps(layout, pause).map_err(at)?;
    // A database that was lost had an epoch too. The next host would take the restored one for an
    // earlier copy of it, and pause the queue.
    let led = supervise::last_epoch(&layout.supervisors());
    let epoch = refuse_used(layout)?.max(led);
    backup.look_for_room(layout)?;
    let mut staged = Staged::begin(layout)?;
    let whole = read(&backup.path, &mut |manifest, name, from| {
        pause().map_err(at)?;
        staged.take(manifest, name, from)
    })?;
    if whole != backup.whole {
        let path = backup.path.display();
        let message = format!("{path} was changed while it was read");
        return Err(AppError::new(ErrorKind::Conflict, message));
    }
    let restored = staged.finish(&whole.manifest, epoch, how, pause)?;
    fsx::sync_file_system(layout.root()).map_err(at)?;
    pause().map_err(at)?;
    // This rename commits the restore.
    fs::rename(layout.restoring(), layout.to_be_placed()).map_err(at)?;
    fsx::sync_file_system(layout.root()).map_err(at)?;
    pause().map_err(at)?;
    place_by_steps(layout, pause).map_err(at)?;
    Ok(QueueRestored {
        data_dir: layout.root().display().to_string(),
        ..restored
    })
}

impl Checked {
    /// Refuses a data directory without enough space. The directory need not exist.
    pub(crate) fn look_for_room(&self, layout: &Layout) -> Result<(), AppError> {
        let (needed, place) = (self.needed_bytes, existing(layout));
        let free = fsx::free_bytes(place).map_err(|error| cannot("restore into", place, &error))?;
        if free >= needed {
            return Ok(());
        }
        let directory = layout.root().display();
        let message = format!(
            "not enough space in {directory} for the backup: {} are needed, {} are free",
            bytes_text(needed),
            bytes_text(free)
        );
        Err(AppError::new(ErrorKind::StoreFull, message)
            .hint("free some space, or restore into another data directory (--data-dir)"))
    }
}

/// A restore in progress, in a directory that is ignored until the restore is complete.
struct Staged {
    layout: Layout,
    store: SqliteStore,
    parts: u32,
    /// The attempt of the last log, and whether the attempt is in the history.
    known: Option<(AttemptId, bool)>,
    restored: QueueRestored,
}

impl Staged {
    fn begin(layout: &Layout) -> Result<Self, AppError> {
        let staged = Layout::new(layout.restoring());
        let at = |error: io::Error| cannot("restore into", layout.root(), &error);
        for directory in [staged.root(), &staged.logs(), &staged.environments()] {
            fsx::make_private_dir(directory).map_err(at)?;
        }
        Ok(Self {
            store: SqliteStore::open(&staged.database())?,
            layout: staged,
            parts: 0,
            known: None,
            restored: QueueRestored {
                data_dir: String::new(),
                taken_at: String::new(),
                tasks: 0,
                held: 0,
                lost: 0,
                logs: 0,
                environments: 0,
                stands_in: false,
            },
        })
    }

    fn take(
        &mut self,
        manifest: &Manifest,
        name: &Name,
        from: &mut dyn Read,
    ) -> Result<(), AppError> {
        match name {
            Name::Rows(_) => self.rows(manifest, from),
            Name::Environment(digest) => {
                self.restored.environments += 1;
                copy(from, &self.layout.environment(digest))
            }
            Name::Log(attempt, segment) => self.log(*attempt, *segment, from),
            Name::Manifest | Name::Sums(_) | Name::End => Ok(()),
        }
    }

    fn rows(&mut self, manifest: &Manifest, from: &mut dyn Read) -> Result<(), AppError> {
        let unreadable = |error: &dyn std::fmt::Display| {
            let version = &manifest.version;
            let message = format!("a row that {version} wrote cannot be read: {error}");
            AppError::new(ErrorKind::Invalid, message)
        };
        let mut records = Vec::new();
        for line in BufReader::new(from).lines() {
            let line = line.map_err(|error| unreadable(&error))?;
            let record: Record = serde_json::from_str(&line).map_err(|error| unreadable(&error))?;
            if let Record::Task { task, .. } = &record {
                if let Some(why) = out_of_order(task) {
                    return Err(unreadable(&why));
                }
                self.restored.tasks += 1;
            }
            records.push(record);
        }
        self.store.import(self.parts, records)?;
        self.parts += 1;
        Ok(())
    }

    /// Restores a log. Logs of attempts that began after the rows were read are skipped.
    fn log(
        &mut self,
        attempt: AttemptId,
        segment: u32,
        from: &mut dyn Read,
    ) -> Result<(), AppError> {
        if !self.has_attempt(attempt)? {
            return Ok(());
        }
        let mut path = self.layout.log(attempt).into_os_string();
        if segment > 0 {
            path.push(format!(".{segment}"));
        }
        let path = PathBuf::from(path);
        if let Some(shard) = path.parent() {
            fsx::make_private_dir(shard).map_err(|error| cannot("write", shard, &error))?;
        }
        self.restored.logs += 1;
        copy(from, &path)
    }

    fn has_attempt(&mut self, id: AttemptId) -> Result<bool, AppError> {
        if let Some((known, is_there)) = self.known
            && known == id
        {
            return Ok(is_there);
        }
        let task = self.store.task(id.task)?;
        let mut attempts = task.iter().flat_map(|task| &task.attempts);
        let is_there = attempts.any(|attempt| attempt.number == id.number);
        self.known = Some((id, is_there));
        Ok(is_there)
    }

    /// Ends running attempts, holds unfinished tasks, and closes the store.
    fn finish(
        mut self,
        manifest: &Manifest,
        epoch: u64,
        how: Restore,
        pause: Pause<'_>,
    ) -> Result<QueueRestored, AppError> {
        let root = self.layout.root().to_owned();
        let at = |error: io::Error| cannot("restore into", &root, &error);
        let taken_at = manifest.taken_at;
        self.hold(taken_at, epoch, how.limits)?;
        pause().map_err(at)?;
        let environment = self.stand_in(how.rules, how.environment).map_err(at)?;
        let restored = Restored {
            taken_at,
            at: clock::wall(),
            environment,
        };
        restored.write(&self.layout).map_err(at)?;
        self.restored.taken_at = clock::rfc3339(taken_at);
        self.restored.stands_in = restored.environment.is_some();
        pause().map_err(at)?;
        self.store.close()?;
        pause().map_err(at)?;
        Ok(self.restored)
    }

    /// Holds the tasks; `led` is the last epoch of a host in this data directory.
    fn hold(&mut self, taken_at: Timestamp, led: u64, limits: Limits) -> Result<(), AppError> {
        let now = clock::now();
        let window = millis(IDEMPOTENCY_WINDOW);
        let stored = self
            .store
            .load(Timestamp(now.wall.0.saturating_sub(window)))?;
        // The backup may be from a data directory whose hosts had lower epochs.
        let epoch = self.store.lead_after(led)?;
        let mut board = Board::new(stored, limits, Bounds::default(), clock::boot_id());
        board
            .step(now, Input::Restored { taken_at })
            .map_err(|refused| AppError::new(ErrorKind::Internal, refused.to_string()))?;
        if !board.has_pending() {
            return Ok(());
        }
        let (batch, _nothing_runs_here) = board.seal();
        let count = |wanted: fn(&Fact) -> bool| {
            let facts = batch.events.iter().map(|event| &event.fact);
            facts.filter(|fact| wanted(fact)).count() as u64
        };
        self.restored.held = count(|fact| matches!(fact, Fact::Restored { .. }));
        self.restored.lost = count(|fact| matches!(fact, Fact::AttemptEnded { .. }));
        Ok(self.store.commit(epoch, &batch)?)
    }

    /// Stores the environment of the restoring command if the environment of a task is not in the
    /// backup.
    fn stand_in(&self, rules: EnvRules, environment: Environment) -> io::Result<Option<String>> {
        let digests = self.store.env_digests_in_use().map_err(io::Error::other)?;
        let missing = |digest: &String| !self.layout.environment(digest).exists();
        if !digests.iter().any(missing) {
            return Ok(None);
        }
        let environments = Environments::new(self.layout.clone(), rules);
        environments.keep_blocking(environment).map(Some)
    }
}

/// The reason why a task cannot be restored, if the numbers of its attempts do not increase. They
/// must increase, because the next attempt gets the number after the last one.
fn out_of_order(task: &Task) -> Option<String> {
    let mut last = 0;
    for attempt in &task.attempts {
        let number = attempt.number;
        if number <= last || number > HIGHEST_ATTEMPT {
            return Some(format!(
                "attempt {number} of task {:#} is out of order",
                task.id
            ));
        }
        last = number;
    }
    None
}

/// Copies an entry to a private file.
fn copy(from: &mut dyn Read, path: &Path) -> Result<(), AppError> {
    let mut file = fsx::private()
        .write(true)
        .create_new(true)
        .open(path)
        .map_err(|error| cannot("write", path, &error))?;
    let mut buffer = vec![0; 64 << 10];
    loop {
        let count = from.read(&mut buffer).map_err(damaged)?;
        if count == 0 {
            return Ok(());
        }
        file.write_all(&buffer[..count])
            .map_err(|error| cannot("write", path, &error))?;
    }
}

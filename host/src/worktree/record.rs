//! What is known of a worktree beside the task that it is of: the task is forgotten after some days, and work that nobody fetched is not.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use claudine_domain::{id::TaskId, worktree::Merge};
use serde::{Deserialize, Serialize};

use super::{WorktreeError, Worktrees};

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) task: TaskId,
    pub(super) repository: PathBuf,
    pub(super) branch: String,
    pub(super) base: Option<String>,
    /// Where the branch left its base.
    pub(super) base_commit: String,
    /// The branch was named by somebody: it is not taken away.
    #[serde(default)]
    pub(super) is_named: bool,
    /// It was made to the end.
    #[serde(default)]
    pub(super) is_ready: bool,
    /// What became of the work of this attempt.
    #[serde(default)]
    pub(super) settled: Option<(u32, Merge)>,
    /// What came of it when somebody asked again, after the task had ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) again: Option<Merge>,
}

fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> WorktreeError {
    let path = path.to_owned();
    move |source| WorktreeError::Io { what, path, source }
}

impl Worktrees {
    pub(super) fn record(&self, task: TaskId) -> Result<Option<Record>, WorktreeError> {
        let path = self.layout.worktree_record(task);
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|error| io_error("cannot read", &path)(error.into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io_error("cannot read", &path)(error)),
        }
    }

    /// The record of a task that has a worktree.
    pub(super) fn known(&self, task: TaskId) -> Result<Record, WorktreeError> {
        self.record(task)?.ok_or(WorktreeError::NoWorktree { task })
    }

    pub(super) fn write_record(&self, record: &Record) -> Result<(), WorktreeError> {
        let path = self.layout.worktree_record(record.task);
        let fresh = path.with_extension("new");
        let write = || -> io::Result<()> {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(self.layout.worktrees())?;
            let mut file = OpenOptions::new()
                .create(true)
                .write(true)
                .truncate(true)
                .mode(0o600)
                .open(&fresh)?;
            file.write_all(&serde_json::to_vec(record)?)?;
            file.sync_all()?;
            fs::rename(&fresh, &path)
        };
        write().map_err(io_error("cannot write", &path))
    }

    pub(super) fn remove_record(&self, task: TaskId) -> Result<(), WorktreeError> {
        let path = self.layout.worktree_record(task);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(io_error("cannot remove", &path)(error))
            }
            _ => Ok(()),
        }
    }

    /// All records, the oldest task first.
    pub(super) fn records(&self) -> Result<Vec<Record>, WorktreeError> {
        let dir = self.layout.worktrees();
        let entries = match fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(io_error("cannot read", &dir)(error)),
        };
        let mut tasks = Vec::new();
        for entry in entries {
            let name = entry.map_err(io_error("cannot read", &dir))?.file_name();
            let task = name
                .to_str()
                .and_then(|name| name.strip_suffix(".json")?.parse::<TaskId>().ok());
            tasks.extend(task);
        }
        tasks.sort();
        let records = tasks
            .into_iter()
            .filter_map(|task| self.record(task).transpose());
        records.collect()
    }
}

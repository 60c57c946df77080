//! Moves the contents of a complete restore into place. The holder of the data directory's lock
//! does this: the restore itself or, after a crash, the next host or restore. Any of the steps may
//! already have been done before a crash.

use std::{fs, io, path::Path};

use super::super::error::{AppError, ErrorKind};
use crate::{fsx, layout::Layout, text::shell_word};

/// Called between two steps, so that tests can stop at each point at which a kill could happen.
pub(super) type Pause<'a> = &'a mut dyn FnMut() -> io::Result<()>;

/// Refuses a data directory in which a restore was killed before it was complete. The person who
/// began the restore expects the tasks of the backup, and not an empty queue.
pub(crate) fn refuse_incomplete(layout: &Layout) -> Result<(), AppError> {
    let rest = layout.restoring();
    if fsx::is_missing(&rest) {
        return Ok(());
    }
    let directory = layout.root().display();
    let message = format!("a restore into {directory} was killed before it was complete");
    Err(AppError::new(ErrorKind::Forbidden, message).hint(format!(
        "repeat `claudine restore FILE`, or give the restore up: `rm -r {}`",
        shell_word(&rest.display().to_string())
    )))
}

/// Removes an incomplete restore, or moves a complete restore into place. Returns whether there was
/// a complete restore.
pub(crate) fn place(layout: &Layout) -> io::Result<bool> {
    place_by_steps(layout, &mut || Ok(()))
}

pub(super) fn place_by_steps(layout: &Layout, pause: Pause<'_>) -> io::Result<bool> {
    fsx::remove_tree(&layout.restoring())?;
    let from = layout.to_be_placed();
    if !from.try_exists()? {
        return Ok(false);
    }
    layout.create()?;
    pause()?;
    let staged = Layout::new(&from);
    for shard in fsx::entries(&staged.logs())? {
        let Some(name) = shard.file_name() else {
            continue;
        };
        let to = layout.logs().join(name);
        fsx::make_private_dir(&to)?;
        move_all(&shard, &to, pause)?;
    }
    move_all(&staged.environments(), &layout.environments(), pause)?;
    move_file(&staged.restored_file(), &layout.restored_file())?;
    pause()?;
    place_database(&staged, layout, pause)?;
    fsx::sync_file_system(layout.root())?;
    pause()?;
    fsx::remove_tree(&from)?;
    Ok(true)
}

/// Moves the database last, because the other files are used only once the database is in place.
/// Removes the log of the empty database in the data directory first, because SQLite would apply
/// that log to the new database.
fn place_database(staged: &Layout, layout: &Layout, pause: Pause<'_>) -> io::Result<()> {
    let (from, to) = (staged.database(), layout.database());
    if !from.try_exists()? {
        return Ok(());
    }
    for suffix in ["-wal", "-shm"] {
        let mut beside = to.as_os_str().to_owned();
        beside.push(suffix);
        fsx::remove_file(Path::new(&beside))?;
        pause()?;
    }
    move_file(&from, &to)?;
    pause()
}

fn move_all(from: &Path, to: &Path, pause: Pause<'_>) -> io::Result<()> {
    for path in fsx::entries(from)? {
        if let Some(name) = path.file_name() {
            move_file(&path, &to.join(name))?;
            pause()?;
        }
    }
    Ok(())
}

fn move_file(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        // The file was already moved.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

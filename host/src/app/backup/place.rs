//! Putting in its place what a restore has made whole. The holder of the data directory's lock does
//! it: the restore itself or, after its death, the next host or restore. Each step may have been
//! done before.

use std::{
    fs::{self, File},
    io,
    path::Path,
};

use crate::{fsx, layout::Layout};

/// Called between any two steps. A test ends there what a kill would end.
pub(super) type Pause<'a> = &'a mut dyn FnMut() -> io::Result<()>;

/// Removes what was given up before it was whole, and moves what was whole; tells whether there was
/// any of that.
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
    sync(layout.root())?;
    pause()?;
    fsx::remove_tree(&from)?;
    Ok(true)
}

/// Last, since everything else counts for nothing without it. The log of the empty database that is
/// there must not be taken for its own.
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
        // It was moved before.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Everything that was written to the filesystem that this directory is on.
pub(super) fn sync(directory: &Path) -> io::Result<()> {
    let directory = File::open(directory)?;
    Ok(rustix::fs::syncfs(&directory)?)
}

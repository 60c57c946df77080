//! Machine code of the built-in plugins, compiled once for each build of `claudine` and shared by
//! all tests. If the code were not shared, hundreds of hosts would each begin to compile it, and
//! most hosts would end before they had finished.
//!
//! A host accepts a file of code only if the digest of its content is beside it, so copied code is
//! checked like code that the host has compiled.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::Path,
};

use tempfile::NamedTempFile;

/// File extensions of the code and its digest. The digest is copied last, because only the digest
/// makes an entry valid.
const EXTENSIONS: [&str; 2] = ["cwasm", "sha256"];

/// File in the shared directory that is locked while a test compiles the plugins.
const LOCK: &str = "lock";

/// If no test has compiled the plugins for this binary before, calls `compile`, which puts the code
/// into `shared`. Concurrent tests wait until the code is there. The code of earlier builds is
/// removed, because each test copies all that is in `shared`.
pub(crate) fn once(shared: &Path, binary: &Path, compile: impl FnOnce()) -> io::Result<()> {
    let built = fs::metadata(binary)?;
    let (seconds, nanoseconds) = (built.mtime(), built.mtime_nsec());
    let done = shared.join(format!("{}-{seconds}-{nanoseconds}.done", built.len()));
    if done.exists() {
        return Ok(());
    }
    fs::create_dir_all(shared)?;
    let lock = File::create(shared.join(LOCK))?;
    lock.lock()?;
    if !done.exists() {
        for entry in fs::read_dir(shared)? {
            let entry = entry?;
            if entry.file_name() != LOCK {
                fs::remove_file(entry.path())?;
            }
        }
        compile();
        File::create(done)?;
    }
    Ok(())
}

/// Copies the shared code into the data directory, which is created if it is missing.
pub(crate) fn take_over(shared: &Path, data_dir: &Path) -> io::Result<()> {
    let cache = data_dir.join("cache");
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&cache)?;
    copy_new(shared, &cache)
}

/// Copies new code from the data directory to `shared`.
pub(crate) fn hand_on(data_dir: &Path, shared: &Path) -> io::Result<()> {
    fs::create_dir_all(shared)?;
    copy_new(&data_dir.join("cache"), shared)
}

/// Copies complete entries that `to` does not contain. Each file is written under a temporary name
/// and then renamed, so that concurrent processes never see a part of it.
fn copy_new(from: &Path, to: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(from) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let record = entry?.path();
        let is_record = record.extension().is_some_and(|it| it == EXTENSIONS[1]);
        let Some(name) = record.file_name().filter(|_| is_record) else {
            continue;
        };
        if to.join(name).exists() {
            continue;
        }
        for extension in EXTENSIONS {
            let source = record.with_extension(extension);
            let target = to.join(name).with_extension(extension);
            let mut new = NamedTempFile::new_in(to)?;
            // The kernel copies from a `File` to a `File`, but not to the `NamedTempFile` itself.
            io::copy(&mut File::open(&source)?, new.as_file_mut())?;
            new.persist(&target)?;
        }
    }
    Ok(())
}

//! The machine code of the built-in plugins, compiled by one test's host and taken over by those of
//! all later tests: else each of some hundreds of hosts would spend seconds on the same.
//!
//! A host takes a file only with the digest that was written beside it, so what is copied here is
//! checked there as ever.

use std::{fs, io, os::unix::fs::DirBuilderExt, path::Path};

use tempfile::NamedTempFile;

/// The code and its digest, in the order in which they are copied: the second makes it count.
const EXTENSIONS: [&str; 2] = ["cwasm", "sha256"];

/// Puts what is in `shared` into the data directory, which is made where it is missing.
pub(crate) fn take_over(shared: &Path, data_dir: &Path) -> io::Result<()> {
    let cache = data_dir.join("cache");
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&cache)?;
    copy_new(shared, &cache)
}

/// Puts into `shared` what the data directory has beyond it.
pub(crate) fn hand_on(data_dir: &Path, shared: &Path) -> io::Result<()> {
    fs::create_dir_all(shared)?;
    copy_new(&data_dir.join("cache"), shared)
}

/// Copies whole entries that are not there yet. Each file appears at once, so that another
/// process that does the same finds all of it or nothing.
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
            io::copy(&mut fs::File::open(&source)?, &mut new)?;
            new.persist(&target)?;
        }
    }
    Ok(())
}

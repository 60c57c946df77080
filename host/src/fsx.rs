//! File operations of the host: private to its user, atomic, and as durable as needed.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{self, Read, Write},
    os::unix::{
        ffi::OsStrExt,
        fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    },
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::{
    fs::{AtFlags, CWD, Mode, OFlags, StatxAttributes, StatxFlags, statx},
    io::Errno,
};
use tempfile::NamedTempFile;

use crate::clock;

/// Size of the buffer for a virtual file. Most of these files are shorter, and are read at once.
const VIRTUAL_BYTES: usize = 8 << 10;

/// Keeps an open from waiting for the other end of a FIFO.
const NONBLOCK: i32 = OFlags::NONBLOCK.bits().cast_signed();
/// Keeps an open from following a symbolic link in the place of the file.
const NOFOLLOW: i32 = OFlags::NOFOLLOW.bits().cast_signed();

const NO_FILE: &str =
    "it is no regular file, but a directory, a FIFO, a socket or a device; move it away";
const LINK: &str = "it is no regular file, but a symbolic link; move it away";

/// Beginning of the names of new files that have not replaced a file yet.
const FRESH: &str = ".new-";
/// Number of random letters and digits at the end of such a name.
const FRESH_RANDOM: usize = 6;
/// The age at which such a file was left by a process that was killed. A replacement takes
/// milliseconds.
const LEFT_AFTER: Duration = Duration::from_mins(1);

/// Durability of the replacement of a file. In both cases, readers see either the whole old file or
/// the whole new file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Lasting {
    /// The replacement survives the end of this process. After a power cut the file may have its
    /// old contents or be empty. This is sufficient for files that are written again or checked at
    /// the next start. Nothing is synced.
    Process,
    /// The replacement survives a power cut once the call has returned: the bytes are synced before
    /// the file gets its name, and the directory after that.
    PowerCut,
}

/// Replaces or creates a file. Returns the new file, to which more can be appended.
pub(crate) fn replace(path: &Path, lasting: Lasting, bytes: &[u8]) -> io::Result<File> {
    persist(fresh(path, OsStr::new(FRESH), bytes)?, path, lasting)
}

/// Replaces or creates a file. The new file has the permissions of the old one, if there is one.
/// Refuses to replace anything but a regular file: root could replace `/dev/null` for the whole
/// system. If this process is killed meanwhile, it leaves a file that [`remove_left_beside`]
/// removes.
pub(crate) fn replace_with_permissions(
    path: &Path,
    lasting: Lasting,
    bytes: &[u8],
) -> io::Result<()> {
    refuse_append_only(dir_of(path))?;
    let fresh = fresh(path, &fresh_beside(path), bytes)?;
    match fs::metadata(path) {
        Ok(old) if !old.is_file() => {
            let message = "it is not a regular file and is not replaced";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        // Sets the permissions before the file gets its name, so that an error means that nothing
        // was replaced.
        Ok(old) => fresh.as_file().set_permissions(old.permissions())?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    persist(fresh, path, lasting).map(drop)
}

/// Refuses a directory in which nothing can be replaced or removed: a new file would stay there
/// beside the old one. A directory that cannot be looked at is not refused.
fn refuse_append_only(dir: &Path) -> io::Result<()> {
    let found = statx(CWD, dir, AtFlags::empty(), StatxFlags::TYPE);
    if found.is_ok_and(|found| found.stx_attributes.contains(StatxAttributes::APPEND)) {
        let dir = dir.display();
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("nothing can be replaced in {dir} (`chattr +a`); `chattr -a {dir}` allows it"),
        ));
    }
    Ok(())
}

/// Beginning of the names of the files that [`replace_with_permissions`] makes for this file. The
/// directory is not one of ours, so the name tells whose the file is.
fn fresh_beside(path: &Path) -> OsString {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(FRESH);
    name
}

/// Removes the files that [`replace_with_permissions`] has left beside this file, because its
/// process was killed. No other process may replace the file meanwhile.
pub(crate) fn remove_left_beside(path: &Path) -> io::Result<()> {
    remove_fresh(dir_of(path), &fresh_beside(path), None)
}

/// Removes the files that [`replace`] has left in this directory a while ago, because its process
/// was killed.
pub(crate) fn remove_left_in(dir: &Path) -> io::Result<()> {
    remove_fresh(dir, OsStr::new(FRESH), Some(LEFT_AFTER))
}

/// A temporary file with these bytes that can be renamed to this path. It is readable only by its
/// owner, and is removed on an error.
fn fresh(path: &Path, prefix: &OsStr, bytes: &[u8]) -> io::Result<NamedTempFile> {
    let mut fresh = tempfile::Builder::new()
        .prefix(prefix)
        .rand_bytes(FRESH_RANDOM)
        .append(true)
        .tempfile_in(dir_of(path))?;
    fresh.write_all(bytes)?;
    Ok(fresh)
}

fn persist(fresh: NamedTempFile, path: &Path, lasting: Lasting) -> io::Result<File> {
    if lasting == Lasting::PowerCut {
        fresh.as_file().sync_all()?;
    }
    let file = fresh.persist(path)?;
    if lasting == Lasting::PowerCut {
        File::open(dir_of(path))?.sync_all()?;
    }
    Ok(file)
}

/// Renames a file that other code has written.
pub(crate) fn rename(from: &Path, to: &Path, lasting: Lasting) -> io::Result<()> {
    if lasting == Lasting::PowerCut {
        File::open(from)?.sync_all()?;
    }
    fs::rename(from, to)?;
    if lasting == Lasting::PowerCut {
        File::open(dir_of(to))?.sync_all()?;
    }
    Ok(())
}

/// Whether a file, a directory or a link exists at this path. A link counts even if its target does
/// not exist.
pub(crate) fn is_taken(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

/// Whether nothing exists at this path. If the path cannot be examined, it counts as existing.
pub(crate) fn is_missing(path: &Path) -> bool {
    let kind = fs::symlink_metadata(path).map_err(|error| error.kind());
    matches!(
        kind,
        Err(io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
    )
}

/// Writes a file that nobody reads before this call returns. A symbolic link in its place is an
/// error. Nothing is synced, and a reader that opens the file during the call may see any part of
/// it.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = private();
    let options = options.create(true).write(true).truncate(true);
    let opened = options.custom_flags(NOFOLLOW).open(path);
    unless_link(path, opened)?.write_all(bytes)
}

/// Options for opening a file. If the file is created, only its owner may read and write it.
pub(crate) fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(0o600);
    options
}

/// Opens a file for reading: see [`open_with`].
pub(crate) fn open(path: &Path) -> io::Result<File> {
    open_with(path, OpenOptions::new().read(true))
}

/// Reads a file: see [`open_with`].
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Like [`read`], for a path that begins at an open directory, which may have been moved. Going
/// through `/proc` to such a directory would cost several times as much.
pub(crate) fn read_from(directory: &File, path: &str) -> io::Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = rustix::fs::openat(directory, path, flags, Mode::empty())?;
    let mut file = File::from(opened);
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, NO_FILE));
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Like [`read`], for a file that somebody else may have made. A file with more bytes than `most`
/// is an error: a few bytes on a disk can be a file of any size.
pub(crate) fn read_at_most(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?
        .take(most.saturating_add(1))
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        let message = format!("it has more than {most} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    Ok(bytes)
}

/// Like [`read`], for a file that contains text.
pub(crate) fn read_text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    open(path)?.read_to_string(&mut text)?;
    Ok(text)
}

/// Advice for the start of a host if [`is_no_file`].
pub(crate) const NO_FILE_HINT: &str =
    "`claudine down --kill` ends running tasks although no host can be started";

/// Opens a lock file, and creates it if it does not exist: see [`open_own`].
pub(crate) fn open_lock(path: &Path) -> io::Result<File> {
    open_own(path, private().create(true).truncate(false).write(true))
}

/// [`open_with`], for a file that nobody but this program makes. A symbolic link in its place is an
/// error too: another file would be locked, cut or made.
pub(crate) fn open_own(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    unless_link(path, open_flagged(path, options, NONBLOCK | NOFOLLOW))
}

/// The result of an open that follows no link, with an error that says so if there is one.
fn unless_link(path: &Path, opened: io::Result<File>) -> io::Result<File> {
    match opened {
        Err(error) if Errno::from_io_error(&error) == Some(Errno::LOOP) && path.is_symlink() => {
            Err(io::Error::new(io::ErrorKind::InvalidInput, LINK))
        }
        opened => opened,
    }
}

/// Opens a file. If it is a directory, a FIFO, a socket or a device, this is an error at once: a
/// FIFO could block for ever.
pub(crate) fn open_with(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    open_flagged(path, options, NONBLOCK)
}

fn open_flagged(path: &Path, options: &mut OpenOptions, flags: i32) -> io::Result<File> {
    let opened = options.custom_flags(flags).open(path);
    let found = match &opened {
        Ok(file) => file.metadata(),
        Err(_) => fs::metadata(path),
    };
    if found.is_ok_and(|found| !found.is_file()) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, NO_FILE));
    }
    opened
}

/// [`open_with`], with the path in the error if something else is in the place of the file. For
/// errors that are shown without the path.
pub(crate) fn open_named(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    open_with(path, options).map_err(|error| {
        if !is_no_file(&error) {
            return error;
        }
        let text = format!("{}: {error}", path.display());
        io::Error::new(error.kind(), text)
    })
}

/// Whether an error of this module says that something else than a file is in the place of a file.
pub(crate) fn is_no_file(error: &io::Error) -> bool {
    let says = |text: &str| error.to_string().ends_with(text);
    error.kind() == io::ErrorKind::InvalidInput && (says(NO_FILE) || says(LINK))
}

/// Whether an error says that the system lacks something at the moment. Other errors say something
/// about the file, and another attempt would end in the same error.
pub(crate) fn is_of_the_system(error: &io::Error) -> bool {
    let lacks = [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::INTR];
    Errno::from_io_error(error).is_some_and(|found| lacks.contains(&found))
}

/// Opens a file for appending, and creates it if it does not exist. A FIFO is an error, because the
/// open would wait for a reader. A device, such as `/dev/null`, is none.
pub(crate) fn append_private(path: &Path) -> io::Result<File> {
    if fs::metadata(path).is_ok_and(|found| found.file_type().is_fifo()) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, NO_FILE));
    }
    private().create(true).append(true).open(path)
}

/// Creates a directory that only its owner may enter, and the missing directories above it. Their
/// mode does not depend on the umask.
pub(crate) fn make_private_dir(dir: &Path) -> io::Result<()> {
    let made = DirBuilder::new().mode(0o700).create(dir);
    let made = match (made, dir.parent()) {
        (Err(error), Some(above)) if error.kind() == io::ErrorKind::NotFound => {
            make_private_dir(above)?;
            DirBuilder::new().mode(0o700).create(dir)
        }
        (made, _) => made,
    };
    match made {
        Ok(()) => fs::set_permissions(dir, Permissions::from_mode(0o700)),
        Err(_) if dir.is_dir() => Ok(()),
        Err(error) => match link_to_nothing(dir).or_else(|| no_directory(dir)) {
            Some(reason) => Err(io::Error::new(error.kind(), reason)),
            None => Err(error),
        },
    }
}

/// If something other than a directory is at the path, or where a directory above it should be:
/// says so, with the way out.
fn no_directory(path: &Path) -> Option<String> {
    let mut found = path.ancestors().map(|at| (at, fs::metadata(at)));
    let (at, found) = found.find_map(|(at, found)| Some((at, found.ok()?)))?;
    (!found.is_dir()).then(|| format!("{} is no directory; move it away", at.display()))
}

/// If the path is a link whose target does not exist: says so, with the way out.
pub(crate) fn link_to_nothing(path: &Path) -> Option<String> {
    let target = fs::read_link(path).ok()?;
    let is_missing = fs::metadata(path).is_err_and(|it| it.kind() == io::ErrorKind::NotFound);
    is_missing.then(|| {
        let (path, target) = (path.display(), target.display());
        format!("{path} is a link to {target}, which does not exist; make it or remove the link")
    })
}

/// Lets the owner of a file that this process may just have created open the file again, even if
/// the umask of this process masks permissions of the owner.
pub(crate) fn unmask(file: &File) -> io::Result<()> {
    let found = file.metadata()?;
    let mode = found.permissions().mode();
    // The path may be a link to a device.
    if found.is_file() && mode & 0o600 != 0o600 {
        file.set_permissions(Permissions::from_mode(mode | 0o600))?;
    }
    Ok(())
}

/// Makes everything that this process and its children create accessible to its owner, even if the
/// umask that the process inherited masks permissions of the owner. The umask is that of all
/// threads, so this function is called before any other thread creates files.
pub(crate) fn unmask_owner() {
    let inherited = rustix::process::umask(Mode::RWXG | Mode::RWXO);
    rustix::process::umask(inherited.difference(Mode::RWXU));
}

/// Removes a file. It is not an error if the file does not exist.
pub(crate) fn remove_file(path: &Path) -> io::Result<()> {
    unless_gone(fs::remove_file(path))
}

/// Removes a directory with its contents. It is not an error if the directory does not exist.
pub(crate) fn remove_tree(path: &Path) -> io::Result<()> {
    unless_gone(fs::remove_dir_all(path))
}

/// Removes the files and directories in a directory whose names begin with this prefix, and that
/// have not changed for this long. On an error, the others are still removed.
pub(crate) fn remove_older(dir: &Path, prefix: &str, age: Duration) -> io::Result<()> {
    let mut result = Ok(());
    for path in entries(dir)? {
        let name = path.file_name().unwrap_or_default();
        if !name.as_bytes().starts_with(prefix.as_bytes()) {
            continue;
        }
        let removed = match fs::symlink_metadata(&path) {
            Ok(found) if !is_older(&found, Some(age)) => Ok(()),
            Ok(found) if found.is_dir() => fs::remove_dir_all(&path),
            Ok(_) => fs::remove_file(&path),
            Err(error) => Err(error),
        };
        // Somebody else may have just removed it.
        result = result.and(unless_gone(removed));
    }
    result
}

/// Removes the files in a directory that [`fresh`] may have made with this prefix, and that have
/// not changed for this long. On an error, the others are still removed.
fn remove_fresh(dir: &Path, prefix: &OsStr, age: Option<Duration>) -> io::Result<()> {
    let mut result = Ok(());
    for path in entries(dir)? {
        if !is_fresh_name(path.file_name().unwrap_or_default(), prefix) {
            continue;
        }
        let removed = match fs::symlink_metadata(&path) {
            Ok(found) if found.is_file() && is_older(&found, age) => fs::remove_file(&path),
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        };
        // Somebody else may have just removed it.
        result = result.and(unless_gone(removed));
    }
    result
}

/// Whether [`fresh`] may have made a file of this name with this prefix. A person may have files
/// whose names only begin with it.
fn is_fresh_name(name: &OsStr, prefix: &OsStr) -> bool {
    let random = name.as_bytes().strip_prefix(prefix.as_bytes());
    random.is_some_and(|random| {
        random.len() == FRESH_RANDOM && random.iter().all(u8::is_ascii_alphanumeric)
    })
}

/// Whether a file has not changed for this long; `None` means that its age does not count.
fn is_older(found: &fs::Metadata, age: Option<Duration>) -> bool {
    let now = clock::wall().0 / 1_000;
    let changed = u64::try_from(found.mtime()).unwrap_or(0);
    age.is_none_or(|age| now.saturating_sub(changed) > age.as_secs())
}

fn unless_gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Reads a file of a virtual file system, such as `/proc`. Such a file has no size, so `fs::read`
/// would begin with pieces of 32 bytes. The host reads dozens of these files for each connection
/// and each start.
pub(crate) fn read_virtual(path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
    let mut content = Vec::with_capacity(VIRTUAL_BYTES);
    File::open(path)?.take(u64::MAX).read_to_end(&mut content)?;
    Ok(content)
}

/// Like [`read_virtual`], for a file that contains text.
pub(crate) fn read_virtual_text(path: impl AsRef<Path>) -> io::Result<String> {
    let text = String::from_utf8(read_virtual(path)?);
    text.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Reads a virtual file with names of others, such as mount points, which need not be UTF-8.
pub(crate) fn read_virtual_lossy(path: impl AsRef<Path>) -> io::Result<String> {
    let bytes = read_virtual(path)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The entries of a directory, sorted by name; none if the directory does not exist.
pub(crate) fn entries(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let paths = entries.map(|entry| entry.map(|entry| entry.path()));
    let mut paths: Vec<PathBuf> = paths.collect::<io::Result<_>>()?;
    paths.sort_unstable();
    Ok(paths)
}

/// Resolves the part of a path that exists. The part that does not exist is kept unchanged.
pub(crate) fn real(path: &Path) -> PathBuf {
    let real = |place: &Path| {
        let there = fs::canonicalize(place).ok()?;
        let rest = path.strip_prefix(place).ok()?;
        let is_all = rest.as_os_str().is_empty();
        Some(if is_all { there } else { there.join(rest) })
    };
    let known = path.ancestors().find_map(real);
    known.unwrap_or_else(|| path.to_owned())
}

/// Writes all that is not yet on the disk in the file system of this directory, whoever has written
/// it.
pub(crate) fn sync_file_system(dir: &Path) -> io::Result<()> {
    #[cfg(test)]
    fault::unless_injected(dir)?;
    Ok(rustix::fs::syncfs(File::open(dir)?)?)
}

/// Number of bytes that an unprivileged process may still write to the file system of `path`.
pub(crate) fn free_bytes(path: &Path) -> io::Result<u64> {
    let disk = rustix::fs::statvfs(path)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// Number of files that an unprivileged process may still create in the file system of `path`;
/// `None` if the file system has no limit.
pub(crate) fn free_files(path: &Path) -> io::Result<Option<u64>> {
    let disk = rustix::fs::statvfs(path)?;
    Ok((disk.f_files > 0).then_some(disk.f_favail))
}

/// The size that no file which this process writes may exceed (`ulimit -f`), if there is one.
pub(crate) fn file_limit() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::Fsize).current
}

/// Whether there is space for this many bytes. Also true if the free space is unknown, because the
/// write itself will show whether it fits.
pub(crate) fn has_room(path: &Path, bytes: u64) -> bool {
    free_bytes(path).map_or(true, |free| free >= bytes)
}

fn dir_of(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    }
}

/// Faults that tests inject.
#[cfg(test)]
pub(crate) mod fault {
    use std::{io, path::Path};

    /// Name of a file. As long as a directory contains it,
    /// [`sync_file_system`](super::sync_file_system) fails for this directory.
    pub(crate) const NO_SYNC: &str = "no-sync";

    pub(super) fn unless_injected(dir: &Path) -> io::Result<()> {
        if dir.join(NO_SYNC).exists() {
            return Err(rustix::io::Errno::IO.into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::os::unix::net::UnixListener;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_fifo_or_a_directory_in_place_of_a_file_is_an_error_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, Mode::RUSR | Mode::WUSR).unwrap();
        for opened in [
            open(&fifo).map(drop),
            read(&fifo).map(drop),
            read_text(&fifo).map(drop),
            open_lock(&fifo).map(drop),
            open_with(&fifo, private().create(true).write(true).truncate(true)).map(drop),
            append_private(&fifo).map(drop),
            open(dir.path()).map(drop),
            open_lock(dir.path()).map(drop),
        ] {
            let error = opened.unwrap_err();
            assert!(error.to_string().contains("FIFO"), "{error}");
            assert!(is_no_file(&error), "{error}");
        }
        let file = dir.path().join("file");
        let missing = read(&file).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        assert!(!is_no_file(&missing));
        // The path of a socket is limited.
        let long = UnixListener::bind("x".repeat(200)).unwrap_err();
        assert_eq!(long.kind(), io::ErrorKind::InvalidInput);
        assert!(!is_no_file(&long), "{long}");
        open_lock(&file).unwrap();
        assert!(read(&file).unwrap().is_empty());
        fs::write(&file, "text").unwrap();
        assert_eq!(read_text(&file).unwrap(), "text");
    }

    #[test]
    fn a_link_in_the_place_of_a_file_is_an_error_and_its_target_stays_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let [link, target] = ["link", "target"].map(|name| dir.path().join(name));
        let check = || {
            let opened = open_lock(&link).map(drop);
            for opened in [opened, write_private(&link, b"new")] {
                let error = opened.unwrap_err();
                assert!(error.to_string().contains("symbolic link"), "{error}");
                assert!(is_no_file(&error), "{error}");
            }
        };
        std::os::unix::fs::symlink(&target, &link).unwrap();
        check();
        assert!(!target.exists());
        fs::write(&target, "kept").unwrap();
        check();
        assert_eq!(fs::read(&target).unwrap(), b"kept");
        // A link to itself.
        fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink(&link, &link).unwrap();
        check();
        // Links above the file are followed.
        let above = dir.path().join("above");
        std::os::unix::fs::symlink(dir.path(), &above).unwrap();
        open_lock(&above.join("lock")).unwrap();
        assert!(dir.path().join("lock").exists());
    }

    #[test]
    fn a_file_that_is_larger_than_expected_is_not_read_to_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let file = File::create(&path).unwrap();
        file.set_len(1 << 40).unwrap();
        let error = read_at_most(&path, 10).unwrap_err();
        assert_eq!(error.to_string(), "it has more than 10 bytes");
        file.set_len(10).unwrap();
        assert_eq!(read_at_most(&path, 10).unwrap(), [0; 10]);
    }

    #[test]
    fn new_files_that_killed_processes_have_left_are_removed_and_no_others() {
        let dir = tempfile::tempdir().unwrap();
        let make = |name: &str, is_old: bool| {
            let path = dir.path().join(name);
            fs::write(&path, "").unwrap();
            if is_old {
                let opened = File::open(&path).unwrap();
                opened.set_modified(std::time::UNIX_EPOCH).unwrap();
            }
            path
        };
        let file = dir.path().join("settings");
        let left_in = make(".new-aaaaaa", true);
        let left_beside = make(".settings.new-bbbbbb", false);
        let kept = [
            make(".new-cccccc", false),
            make(".other.new-dddddd", true),
            // Files of a person.
            make(".new-ideas.txt", true),
            make(".new-", true),
            make(".settings.new-ideas.txt", true),
            make(".settings.new-a.toml", true),
        ];
        remove_left_beside(&file).unwrap();
        assert!(left_in.exists() && !left_beside.exists());
        remove_left_in(dir.path()).unwrap();
        assert!(!left_in.exists());
        assert!(kept.iter().all(|path| path.exists()));
        // The names are those under which new files are made.
        let fresh_in = fresh(&file, OsStr::new(FRESH), b"")
            .unwrap()
            .keep()
            .unwrap()
            .1;
        let fresh_beside = fresh(&file, &fresh_beside(&file), b"").unwrap();
        let fresh_beside = fresh_beside.keep().unwrap().1;
        remove_left_beside(&file).unwrap();
        assert!(fresh_in.exists() && !fresh_beside.exists());
        File::open(&fresh_in)
            .and_then(|opened| opened.set_modified(std::time::UNIX_EPOCH))
            .unwrap();
        remove_left_in(dir.path()).unwrap();
        assert!(!fresh_in.exists());
    }

    #[test]
    fn only_a_regular_file_is_replaced_by_a_file_with_its_permissions() {
        let dir = tempfile::tempdir().unwrap();
        let [file, fifo] = ["file", "fifo"].map(|name| dir.path().join(name));
        rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, Mode::RUSR | Mode::WUSR).unwrap();
        let replace = |path: &Path| replace_with_permissions(path, Lasting::Process, b"new");
        let refused = replace(&fifo).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
        assert!(fs::metadata(&fifo).unwrap().file_type().is_fifo());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        fs::write(&file, "old").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        replace(&file).unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"new");
        assert_eq!(mode(&file), 0o644);
    }

    #[test]
    fn only_a_file_that_cannot_exist_is_missing() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(is_missing(&dir.path().join("nothing/.git")));
        assert!(is_missing(&file.join(".git")));
        assert!(!is_missing(&file));
        // Any other error does not prove that there is no file.
        assert!(!is_missing(&dir.path().join("x".repeat(1_000))));
    }

    #[test]
    fn a_file_is_replaced_atomically_and_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        for lasting in [Lasting::Process, Lasting::PowerCut] {
            let mut file = replace(&path, lasting, b"first").unwrap();
            let old = File::open(&path).unwrap();
            replace(&path, lasting, b"second").unwrap();
            assert_eq!(io::read_to_string(old).unwrap(), "first");
            assert_eq!(fs::read_to_string(&path).unwrap(), "second");
            assert_eq!(mode(&path), 0o600);
            // The file that the first call returned is no longer at this path, so appending to it
            // changes nothing here.
            file.write_all(b" and more").unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), "second");
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_replacement_with_permissions_has_those_of_the_old_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let replace = |text: &str| {
            replace_with_permissions(&path, Lasting::PowerCut, text.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
            mode(&path)
        };
        assert_eq!(replace("first"), 0o600);
        for old in [0o644, 0o440] {
            fs::set_permissions(&path, Permissions::from_mode(old)).unwrap();
            assert_eq!(replace("second"), old);
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_virtual_file_is_read_to_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        for length in [
            0,
            1,
            VIRTUAL_BYTES - 1,
            VIRTUAL_BYTES,
            5 * VIRTUAL_BYTES + 1,
        ] {
            fs::write(&path, "x".repeat(length)).unwrap();
            assert_eq!(read_virtual_text(&path).unwrap(), "x".repeat(length));
        }
        let own = read_virtual_text("/proc/self/status").unwrap();
        assert!(own.contains(&format!("Pid:\t{}\n", std::process::id())));
        let missing = read_virtual(dir.path().join("missing"));
        assert_eq!(missing.unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_failed_replacement_leaves_no_temporary_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("taken");
        fs::create_dir_all(path.join("inside")).unwrap();
        replace(&path, Lasting::PowerCut, b"bytes").unwrap_err();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn missing_files_and_directories_are_not_errors() {
        let dir = tempfile::tempdir().unwrap();
        let (missing, inner) = (dir.path().join("missing"), dir.path().join("inner"));
        remove_file(&missing).unwrap();
        remove_tree(&missing).unwrap();
        assert!(entries(&missing).unwrap().is_empty());
        make_private_dir(&inner).unwrap();
        for name in ["b", "a"] {
            write_private(&inner.join(name), b"").unwrap();
        }
        let sorted = ["a", "b"].map(|name| inner.join(name));
        assert_eq!(entries(&inner).unwrap(), sorted);
        assert!(entries(&inner.join("a")).is_err());
        remove_file(&inner.join("a")).unwrap();
        assert!(remove_file(&inner).is_err());
        remove_tree(&inner).unwrap();
        assert!(!inner.exists());
    }

    #[test]
    fn only_old_files_and_directories_with_the_prefix_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let make = |name: &str, is_dir: bool, is_old: bool| {
            let path = dir.path().join(name);
            if is_dir {
                fs::create_dir(&path).unwrap();
                fs::write(path.join("inside"), "").unwrap();
            } else {
                fs::write(&path, "").unwrap();
            }
            if is_old {
                let opened = File::open(&path).unwrap();
                opened.set_modified(std::time::UNIX_EPOCH).unwrap();
            }
            path
        };
        let old = [make("left.1", true, true), make("left.2", false, true)];
        let kept = [
            make("left.3", true, false),
            make("left.4", false, false),
            make("other", false, true),
        ];
        remove_older(dir.path(), "left.", Duration::from_hours(1)).unwrap();
        assert!(old.iter().all(|path| !path.exists()));
        assert!(kept.iter().all(|path| path.exists()));
    }

    #[test]
    fn a_link_to_nothing_is_named_as_the_reason_why_a_directory_cannot_be_made() {
        let dir = tempfile::tempdir().unwrap();
        let (link, target) = (dir.path().join("link"), dir.path().join("away"));
        std::os::unix::fs::symlink(&target, &link).unwrap();
        let expected = format!("{} is a link to {}", link.display(), target.display());
        for made in [&link, &link.join("below")] {
            let error = make_private_dir(made).unwrap_err().to_string();
            assert!(error.starts_with(&expected), "{error}");
            assert!(error.contains("does not exist"), "{error}");
        }
        fs::create_dir(&target).unwrap();
        make_private_dir(&link.join("below")).unwrap();
        assert_eq!(link_to_nothing(&link), None);
        assert_eq!(link_to_nothing(&target), None);
        assert_eq!(link_to_nothing(&dir.path().join("missing")), None);
    }

    #[test]
    fn missing_directories_are_private_and_existing_ones_keep_their_mode() {
        let dir = tempfile::tempdir().unwrap();
        let (above, inner) = (dir.path().join("a"), dir.path().join("a/b/c"));
        make_private_dir(&inner).unwrap();
        assert_eq!((mode(&above), mode(&inner)), (0o700, 0o700));
        fs::set_permissions(&above, Permissions::from_mode(0o750)).unwrap();
        make_private_dir(&above).unwrap();
        assert_eq!(mode(&above), 0o750);
        let file = above.join("file");
        fs::write(&file, "").unwrap();
        let fifo = above.join("fifo");
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, mode).unwrap();
        for it in [file, fifo] {
            for made in [&it, &it.join("below"), &it.join("below/it")] {
                let said = make_private_dir(made).unwrap_err().to_string();
                let expected = format!("{} is no directory; move it away", it.display());
                assert_eq!(said, expected);
            }
        }
    }

    #[test]
    fn only_missing_permissions_of_the_owner_are_added_to_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let file = File::create(&path).unwrap();
        for (before, after) in [(0o000, 0o600), (0o440, 0o640), (0o644, 0o644)] {
            fs::set_permissions(&path, Permissions::from_mode(before)).unwrap();
            unmask(&file).unwrap();
            assert_eq!(mode(&path), after);
        }
    }

    #[test]
    fn a_replaced_file_can_be_appended_to() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let mut file = replace(&path, Lasting::Process, b"one").unwrap();
        append_private(&path).unwrap().write_all(b" two").unwrap();
        file.write_all(b" three").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "one two three");
    }

    #[test]
    fn space_is_checked_and_unknown_space_counts_as_enough() {
        let dir = tempfile::tempdir().unwrap();
        assert!(has_room(dir.path(), 0));
        assert!(!has_room(dir.path(), u64::MAX));
        assert!(has_room(Path::new("/no/such/place"), u64::MAX));
    }
}

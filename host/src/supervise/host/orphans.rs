//! Supervisors that no host can find any more, because their directory was removed or moved out of
//! its place. Such a supervisor ends itself when it notices this, but only after some seconds. A
//! host that says of the supervisor's attempts that nobody knows how they ended must be sure that
//! their processes do not go on.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::join::unusable;
use super::recover;
use crate::aside::{self, Aside};
use crate::proc_stat::{Stat, try_stat, unless_no_room};
use crate::supervise::SuperviseError;
use crate::supervise::peer;
use crate::supervise::process::{LOCK_FILE, journal};
use crate::supervise::sys::{procfs, signals};

/// How long such a supervisor has to end its attempts, before all is killed.
const ENDS_WITHIN: Duration = Duration::from_secs(5);
/// What the kernel appends to the path of an open file that was removed.
const REMOVED: &[u8] = b" (deleted)";

/// A search for the supervisors that were started in a directory of supervisors, and that are in no
/// such directory now. It needs as much time as the opening of a database, beside which it goes on.
/// Every supervisor that it can find was started by an earlier host, so it may begin as soon as no
/// other host can start.
#[derive(Debug)]
pub(crate) struct Orphans {
    dir: PathBuf,
    found: Aside<io::Result<Vec<Stat>>>,
}

impl Orphans {
    /// Begins the search. To be called within a runtime.
    pub(crate) fn look_for(dir: &Path) -> Self {
        let of = dir.to_owned();
        Self {
            dir: dir.to_owned(),
            found: aside::run(move || find(&of)),
        }
    }

    /// Ends the supervisors that were found, with everything that they have started.
    pub(super) async fn end(self) -> Result<(), SuperviseError> {
        let Self { dir, found } = self;
        let found = found
            .await
            .unwrap_or_else(|error| Err(io::Error::other(error)));
        let found = found.map_err(|source| unusable(&dir, source))?;
        if found.is_empty() {
            return Ok(());
        }
        let of = dir.clone();
        let ending = aside::run(move || end_found(&of, &found));
        ending
            .await
            .unwrap_or_else(|error| Err(unusable(&dir, io::Error::other(error))))
    }
}

/// Ends the supervisors that were started in `dir`, the directory of all supervisors, and that are
/// in no directory of supervisors now, with everything that they have started. Blocks.
pub(super) fn end(dir: &Path) -> Result<(), SuperviseError> {
    end_found(dir, &find(dir).map_err(|source| unusable(dir, source))?)
}

fn end_found(dir: &Path, orphans: &[Stat]) -> Result<(), SuperviseError> {
    let fault = |source| unusable(dir, source);
    let mut asked = Vec::new();
    for orphan in orphans {
        tracing::warn!(
            pid = orphan.pid,
            "a supervisor whose directory was removed is ended with its tasks"
        );
        let pinned = signals::ask_pinned(orphan.pid, orphan.start_time);
        asked.extend(pinned.map_err(fault)?);
    }
    recover::wait_for_ends(&asked, ENDS_WITHIN).map_err(fault)?;
    for orphan in orphans {
        recover::end_without_notes(orphan).map_err(fault)?;
    }
    Ok(())
}

fn find(dir: &Path) -> io::Result<Vec<Stat>> {
    let mut orphans = Vec::new();
    for pid in procfs::pids()? {
        let pid = pid?;
        // Every start of a host looks at every process, so most are recognised by their command
        // line alone.
        if peer::is_supervisor_in(pid, dir)? && is_orphan(pid)? {
            let process = unless_no_room(try_stat(pid))?;
            orphans.extend(process.filter(|process| !process.is_zombie()));
        }
    }
    Ok(orphans)
}

/// Whether no file of the supervisor's directory is where a host would look for it. If no such file
/// is seen, nothing is known.
fn is_orphan(pid: u32) -> io::Result<bool> {
    let files = own_files(pid)?;
    Ok(!files.is_empty() && !files.iter().any(|file| is_in_place(file)))
}

/// The paths of the files of its directory that a supervisor keeps open.
fn own_files(pid: u32) -> io::Result<Vec<PathBuf>> {
    let mut files = procfs::open_files(pid)?;
    files.retain(|file| is_own(file));
    Ok(files)
}

fn is_own(file: &Path) -> bool {
    let name = file.file_name().unwrap_or_default().as_bytes();
    let name = name.strip_suffix(REMOVED).unwrap_or(name);
    name == LOCK_FILE.as_bytes() || name == journal::FILE.as_bytes()
}

/// Whether a file exists and is in the directory of a supervisor in any data directory: the data
/// directory may have been moved, and a host of the other place then finds the supervisor.
fn is_in_place(file: &Path) -> bool {
    let is_removed = file.as_os_str().as_bytes().ends_with(REMOVED);
    let own = file.parent();
    let number = own.and_then(Path::file_name).and_then(OsStr::to_str);
    let of_all = own.and_then(Path::parent).and_then(Path::file_name);
    !is_removed
        && number.is_some_and(|number| number.parse::<u32>().is_ok())
        && of_all.is_some_and(|name| name == "supervisors")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_in_place_only_in_a_directory_of_supervisors() {
        for (file, expected) in [
            ("/data/supervisors/1/lock", true),
            ("/moved/data/supervisors/12/exits.log", true),
            ("/data/supervisors/1/lock (deleted)", false),
            ("/data/supervisors.old/1/lock", false),
            ("/data/supervisors/old/lock", false),
            ("/tmp/1/exits.log", false),
        ] {
            assert!(is_own(Path::new(file)), "{file}");
            assert_eq!(is_in_place(Path::new(file)), expected, "{file}");
        }
        assert!(!is_own(Path::new("pipe:[1]")));
        assert!(!is_own(Path::new("/data/logs/lock.log")));
    }
}

//! Replaces files of a checkout so that none is lost that a person saves meanwhile. Each file is
//! exchanged for its new version in one step of the file system. If the file that was in its place
//! is not the one that was looked at before, a person has just saved it, and everything is put
//! back. A file of a person that cannot be put back stays aside, where it is found (see
//! [`Swaps::changed_aside`]).

use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, CWD, RenameFlags, Timestamps, UTIME_NOW, getxattr, renameat_with, utimensat},
    io::Errno,
    process::getegid,
    time::Timespec,
};
use serde::{Deserialize, Serialize};

use super::{
    aside::NOTE,
    put_back::{Changed, is_free, remove_empty_parents},
};
use crate::fsx::{self, Lasting};

/// The bit in the mode of a directory that passes the group of the directory on to new files.
const SET_GROUP: u32 = 0o2000;
/// The attribute of a directory with the access list of new files, and its maximum length.
const ACCESS_LIST: &str = "system.posix_acl_default";
const ACCESS_BYTES: usize = 4 << 10;

/// The properties that distinguish a file from any other, and from its own later states.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Stamp {
    device: u64,
    inode: u64,
    mode: u32,
    size: u64,
    modified: (i64, i64),
}

/// The error if a directory cannot be made, inside an [`io::Error`].
#[derive(Debug, thiserror::Error)]
#[error("the directory {} cannot be made: {source}", dir.display())]
pub(super) struct Unmade {
    pub(super) dir: PathBuf,
    pub(super) source: io::Error,
}

/// What a new file gets from the directory in which it is made.
#[derive(PartialEq, Eq)]
struct Inherited {
    group: u32,
    access_list: Vec<u8>,
}

impl Inherited {
    fn of(dir: &Path) -> io::Result<Self> {
        let found = fs::symlink_metadata(dir)?;
        let passes_on = found.mode() & SET_GROUP != 0;
        let mut access_list = vec![0_u8; ACCESS_BYTES];
        let length = match getxattr(dir, ACCESS_LIST, &mut access_list[..]) {
            Err(Errno::NODATA | Errno::OPNOTSUPP) => 0,
            length => length?,
        };
        access_list.truncate(length);
        Ok(Self {
            group: if passes_on {
                found.gid()
            } else {
                getegid().as_raw()
            },
            access_list,
        })
    }
}

/// A file to be replaced, added or removed.
#[derive(Serialize, Deserialize)]
struct Swap {
    path: String,
    old: Option<Stamp>,
    new: Option<Stamp>,
}

/// The files of a checkout, and the files that take their places.
pub(super) struct Swaps {
    top: PathBuf,
    /// The directory that has the new files and, once they are in their places, the old ones.
    aside: PathBuf,
    files: Vec<Swap>,
    /// The directories of new files that did not exist when the files were looked at.
    absent: BTreeSet<PathBuf>,
    /// The number of files, from the first one on, whose new versions are in their places.
    done: usize,
}

impl Swaps {
    /// Looks at the files in the checkout `top`, and at their new versions, which have the same
    /// paths in the directory `aside`. Returns `None` if they cannot be exchanged one by one: if
    /// something else is in a place, if a place is on another file system, or if git would give the
    /// new files another group or access list there.
    pub(super) fn new(top: &Path, aside: &Path, files: &[Changed]) -> io::Result<Option<Self>> {
        let device = fs::symlink_metadata(aside)?.dev();
        let inherited = Inherited::of(aside)?;
        let (mut dirs, mut absent) = (BTreeSet::new(), BTreeSet::new());
        let mut swaps = Vec::with_capacity(files.len());
        for file in files {
            let place = top.join(&file.path);
            let dir = place.ancestors().skip(1).find(|dir| fsx::is_taken(dir));
            if let Some(dir) = dir
                && file.in_new
                && dirs.insert(dir.to_owned())
                && Inherited::of(dir)? != inherited
            {
                return Ok(None);
            }
            let (old, new) = (stamp(&place)?, stamp(&aside.join(&file.path))?);
            let is_elsewhere = old.is_some_and(|old| old.device != device);
            if old.is_some() != file.in_old
                || new.is_some() != file.in_new
                || is_elsewhere
                || !is_free(top, &file.path)
            {
                return Ok(None);
            }
            if file.in_new {
                let missing = place.ancestors().skip(1);
                let missing = missing.take_while(|dir| !fsx::is_taken(dir));
                absent.extend(missing.map(Path::to_owned));
            }
            swaps.push(Swap {
                path: file.path.clone(),
                old,
                new,
            });
        }
        Ok(Some(Self {
            top: top.to_owned(),
            aside: aside.to_owned(),
            files: swaps,
            absent,
            done: 0,
        }))
    }

    /// The files that a killed host was replacing, for [`Self::changed_aside`] and
    /// [`Self::undo_left`]. Returns `None` if the host has left nothing, or has noted nothing, as
    /// earlier versions did, or if the note cannot be parsed, because it may be empty after a power
    /// cut. `top` is the checkout, and `aside` the directory that had the new files.
    pub(super) fn noted(top: &Path, aside: &Path) -> io::Result<Option<Self>> {
        let note = aside.with_file_name(NOTE);
        let noted = match fsx::read(&note) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            noted => noted?,
        };
        let files = match serde_json::from_slice(&noted) {
            Ok(files) => files,
            Err(error) => {
                tracing::warn!(
                    path = %note.display(), %error,
                    "the note of the files that a killed host was replacing cannot be parsed"
                );
                return Ok(None);
            }
        };
        Ok(Some(Self {
            top: top.to_owned(),
            aside: aside.to_owned(),
            files,
            absent: BTreeSet::new(),
            done: 0,
        }))
    }

    /// Puts all new files in their places. On an error, and if a person has changed one of the
    /// files since they were looked at, all old files are put back. The error contains [`Unmade`]
    /// if a directory cannot be made.
    pub(super) fn swap_all(&mut self) -> io::Result<()> {
        for file in self.files.iter_mut().filter(|file| file.new.is_some()) {
            let aside = self.aside.join(&file.path);
            touch(&aside)?;
            file.new = stamp(&aside)?;
        }
        let note = serde_json::to_vec(&self.files)?;
        fsx::replace(&self.aside.with_file_name(NOTE), Lasting::Process, &note)?;
        while let Some(file) = self.files.get(self.done) {
            if let Err(error) = self.swap(file) {
                self.undo();
                return Err(error);
            }
            self.done += 1;
        }
        Ok(())
    }

    /// Removes the directories of removed files that are empty now, as git does. Called only once
    /// no file will be put back, because a directory that is made again would get another mode.
    pub(super) fn remove_emptied(&self) {
        let removed = self.files.iter().filter(|file| file.new.is_none());
        for file in removed.filter(|file| is_free(&self.top, &file.path)) {
            remove_empty_parents(&self.top, &file.path);
        }
    }

    /// Puts the old files back. A file that a person has changed since is left as it is.
    pub(super) fn undo(&mut self) {
        self.touch_old();
        for file in self.files[..self.done].iter().rev() {
            if let Err(error) = self.swap_back(file) {
                tracing::warn!(file = file.path, %error, "a file cannot be put back");
            }
        }
        self.done = 0;
    }

    /// Puts back the old files that a killed host had replaced, without git and its filters, if
    /// their paths are `ours`. Files that somebody has changed since are left as they are. Returns
    /// whether there were such files.
    pub(super) fn undo_left(&self, ours: impl Fn(&str) -> bool) -> bool {
        let replaced = self.files.iter().rev();
        let replaced = replaced.filter(|file| ours(&file.path) && self.is_replaced(file));
        let mut is_any = false;
        for file in replaced {
            is_any = true;
            if let Err(error) = self.swap_back_left(file) {
                tracing::warn!(file = file.path, %error, "a file cannot be put back");
            }
        }
        is_any
    }

    fn swap_back_left(&self, file: &Swap) -> io::Result<()> {
        self.check_free(file)?;
        let (here, aside) = self.places(file);
        if stamp(&here)? != file.new {
            return Ok(());
        }
        if file.old.is_some()
            && let Err(error) = touch(&aside)
        {
            warn_of_time(file, &error);
        }
        self.swap_back(file)?;
        if file.old.is_none() && is_free(&self.top, &file.path) {
            remove_empty_parents(&self.top, &file.path);
        }
        Ok(())
    }

    /// Whether all old files are in their places, unless somebody has changed them there.
    pub(super) fn is_undone(&self) -> bool {
        self.replaced().is_empty()
    }

    /// The files whose new versions are not aside any more, without added files that somebody has
    /// removed since.
    pub(super) fn replaced(&self) -> BTreeSet<String> {
        let replaced = self.files.iter().filter(|file| self.is_replaced(file));
        replaced.map(|file| file.path.clone()).collect()
    }

    fn is_replaced(&self, file: &Swap) -> bool {
        let (here, aside) = self.places(file);
        let is_removed = file.old.is_none() && fsx::is_missing(&here);
        // If it cannot be examined, nobody knows that the new version is still there.
        !is_removed && !stamp(&aside).is_ok_and(|aside| aside == file.new)
    }

    /// Sets the modification times of the old files that were put aside to now, because they are
    /// about to be put back.
    fn touch_old(&mut self) {
        let done = &mut self.files[..self.done];
        for file in done.iter_mut().filter(|file| file.old.is_some()) {
            let aside = self.aside.join(&file.path);
            let is_unchanged = stamp(&aside).is_ok_and(|found| found == file.old);
            match touch(&aside).and_then(|()| stamp(&aside)) {
                Ok(Some(touched)) if is_unchanged => file.old = Some(touched),
                Ok(_) => {}
                Err(error) => warn_of_time(file, &error),
            }
        }
    }

    /// The files aside that are neither the old nor the new ones: those that a person has just
    /// saved and that could not be put back, and old ones that were changed after they were put
    /// aside, by a program that had opened them before.
    pub(super) fn changed_aside(&self) -> BTreeSet<&str> {
        let changed = self.files.iter().filter(|file| {
            let is_known =
                |found: Option<Stamp>| found.is_none() || found == file.old || found == file.new;
            !stamp(&self.aside.join(&file.path)).is_ok_and(is_known)
        });
        changed.map(|file| file.path.as_str()).collect()
    }

    fn swap(&self, file: &Swap) -> io::Result<()> {
        self.check_free(file)?;
        self.put(file)?;
        self.refuse_changed(file)
    }

    /// Puts the new file in its place, and the file that was there aside.
    fn put(&self, file: &Swap) -> io::Result<()> {
        let (here, aside) = self.places(file);
        match (file.old, file.new) {
            (Some(_), Some(_)) => rename(&aside, &here, RenameFlags::EXCHANGE),
            (Some(_), None) => {
                make_parents(&aside)?;
                rename(&here, &aside, RenameFlags::NOREPLACE)
            }
            (None, Some(_)) => {
                let added = make_parents(&here)
                    .and_then(|()| rename(&aside, &here, RenameFlags::NOREPLACE));
                if added.is_err() {
                    self.remove_made_dirs(file);
                }
                added
            }
            (None, None) => Ok(()),
        }
    }

    /// If a person had changed the file that was put aside, puts it back and fails. If the file
    /// cannot be put back, because somebody has just replaced its directory, it stays aside.
    fn refuse_changed(&self, file: &Swap) -> io::Result<()> {
        let (here, aside) = self.places(file);
        if file.old.is_none() || stamp(&aside)? == file.old {
            return Ok(());
        }
        match file.new {
            Some(new) => exchange_back(&here, &aside, new)?,
            None => rename(&aside, &here, RenameFlags::NOREPLACE)?,
        }
        Err(changed(&file.path))
    }

    fn swap_back(&self, file: &Swap) -> io::Result<()> {
        self.check_free(file)?;
        let (here, aside) = self.places(file);
        match (file.old, file.new) {
            (Some(_), Some(new)) => exchange_back(&here, &aside, new),
            (Some(_), None) => {
                make_parents(&here)?;
                rename(&aside, &here, RenameFlags::NOREPLACE)
            }
            (None, Some(new)) => {
                if stamp(&here)? == Some(new) {
                    self.take_back(file, new)
                } else {
                    Ok(())
                }
            }
            (None, None) => Ok(()),
        }
    }

    /// Puts an added file aside again.
    fn take_back(&self, file: &Swap, new: Stamp) -> io::Result<()> {
        let (here, aside) = self.places(file);
        rename(&here, &aside, RenameFlags::NOREPLACE)?;
        // The person may have saved the file in this moment.
        if stamp(&aside)? != Some(new) {
            return rename(&aside, &here, RenameFlags::NOREPLACE);
        }
        self.remove_made_dirs(file);
        Ok(())
    }

    /// Removes the directories that were made for a new file, if they are empty.
    fn remove_made_dirs(&self, file: &Swap) {
        let place = self.top.join(&file.path);
        let above = place.ancestors().skip(1);
        for dir in above.take_while(|dir| self.absent.contains(*dir)) {
            // Perhaps only a directory above this one could be made.
            let is_gone = fs::remove_dir(dir).is_ok() || fsx::is_missing(dir);
            // Otherwise it has other files.
            if !is_gone {
                break;
            }
        }
    }

    /// Fails if something else has taken the file's place meanwhile. A link in place of a directory
    /// could lead out of the checkout.
    fn check_free(&self, file: &Swap) -> io::Result<()> {
        if is_free(&self.top, &file.path) {
            Ok(())
        } else {
            Err(changed(&file.path))
        }
    }

    fn places(&self, file: &Swap) -> (PathBuf, PathBuf) {
        (self.top.join(&file.path), self.aside.join(&file.path))
    }
}

/// Exchanges the new file for the old one, unless a person has changed the new file.
fn exchange_back(here: &Path, aside: &Path, new: Stamp) -> io::Result<()> {
    if stamp(here)? != Some(new) {
        return Ok(());
    }
    rename(aside, here, RenameFlags::EXCHANGE)?;
    // The person may have saved the file in this moment.
    if stamp(aside)? != Some(new) {
        rename(aside, here, RenameFlags::EXCHANGE)?;
    }
    Ok(())
}

/// Sets the modification time of a file to now, as if it were written in its place. Otherwise a
/// build that has read the other version of the file meanwhile would count as up to date.
fn touch(path: &Path) -> io::Result<()> {
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: UTIME_NOW,
    };
    let times = Timestamps {
        last_access: now,
        last_modification: now,
    };
    Ok(utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Notes in the log that the time of an old file cannot be set. The file may belong to another
/// user.
fn warn_of_time(file: &Swap, error: &io::Error) {
    tracing::warn!(file = file.path, %error, "the time of a file cannot be set");
}

fn rename(from: &Path, to: &Path, flags: RenameFlags) -> io::Result<()> {
    Ok(renameat_with(CWD, from, CWD, to, flags)?)
}

fn make_parents(path: &Path) -> io::Result<()> {
    let Some(dir) = path.parent() else {
        return Ok(());
    };
    fs::create_dir_all(dir).map_err(|source| match source.kind() {
        // Somebody has just put a file in the way, or moved a directory.
        io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory | io::ErrorKind::NotFound => {
            source
        }
        kind => {
            let dir = dir.to_owned();
            io::Error::new(kind, Unmade { dir, source })
        }
    })
}

fn changed(path: &str) -> io::Error {
    io::Error::other(format!("somebody has just changed {path}"))
}

/// The properties of a file; `None` if nothing exists at this path.
fn stamp(path: &Path) -> io::Result<Option<Stamp>> {
    let found = match fs::symlink_metadata(path) {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            return Ok(None);
        }
        found => found?,
    };
    Ok(Some(Stamp {
        device: found.dev(),
        inode: found.ino(),
        mode: found.mode(),
        size: found.size(),
        modified: (found.mtime(), found.mtime_nsec()),
    }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::{os::unix::fs::PermissionsExt, time::UNIX_EPOCH};

    use rustix::fs::{XattrFlags, setxattr};
    use tempfile::TempDir;

    use super::*;

    /// Files of a checkout in `top`, and new versions in `aside`: `file` is to be changed,
    /// `gone/file` removed, `new/file` added, and `last` changed.
    fn checkout() -> (TempDir, Swaps) {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in [
            ("top/file", "old"),
            ("top/gone/file", "old"),
            ("top/last", "old"),
            ("aside/file", "new"),
            ("aside/new/file", "new"),
            ("aside/last", "new"),
        ] {
            write(&dir, path, text);
        }
        let swaps = swaps(&dir).unwrap();
        (dir, swaps)
    }

    fn swaps(dir: &TempDir) -> Option<Swaps> {
        let file = |path: &str, in_old, in_new| Changed {
            path: path.to_owned(),
            in_old,
            in_new,
        };
        let files = [
            file("file", true, true),
            file("gone/file", true, false),
            file("new/file", false, true),
            file("last", true, true),
        ];
        let [top, aside] = ["top", "aside"].map(|name| dir.path().join(name));
        Swaps::new(&top, &aside, &files).unwrap()
    }

    fn write(dir: &TempDir, path: &str, text: &str) {
        let path = dir.path().join(path);
        make_parents(&path).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Writes a file as an editor does that first writes a new file and then renames it.
    fn save(dir: &TempDir, path: &str) {
        write(dir, "saved", "mine");
        make_parents(&dir.path().join(path)).unwrap();
        fs::rename(dir.path().join("saved"), dir.path().join(path)).unwrap();
    }

    /// Texts of the files; an empty text if a file does not exist.
    fn texts(dir: &TempDir) -> [String; 4] {
        let paths = ["file", "gone/file", "new/file", "last"];
        paths.map(|path| fs::read_to_string(dir.path().join("top").join(path)).unwrap_or_default())
    }

    #[test]
    fn files_are_replaced_and_put_back() {
        let (dir, mut swaps) = checkout();
        swaps.swap_all().unwrap();
        assert_eq!(texts(&dir), ["new", "", "new", "new"]);
        assert!(swaps.changed_aside().is_empty());
        swaps.undo();
        assert_eq!(texts(&dir), ["old", "old", "", "old"]);
        assert!(!dir.path().join("top/new").exists());
        swaps.swap_all().unwrap();
        swaps.remove_emptied();
        assert_eq!(texts(&dir), ["new", "", "new", "new"]);
        assert!(!dir.path().join("top/gone").exists());
    }

    #[test]
    fn directories_keep_their_modes_when_files_are_put_back() {
        let (dir, _) = checkout();
        let [gone, new] = ["top/gone", "top/new"].map(|path| dir.path().join(path));
        fs::create_dir(&new).unwrap();
        for dir in [&gone, &new] {
            fs::set_permissions(dir, fs::Permissions::from_mode(0o711)).unwrap();
        }
        let mut swaps = swaps(&dir).unwrap();
        swaps.swap_all().unwrap();
        swaps.undo();
        for dir in [gone, new] {
            let mode = fs::metadata(&dir).unwrap().mode() & 0o777;
            assert_eq!(mode, 0o711, "{}", dir.display());
        }
    }

    #[test]
    fn an_added_file_that_was_saved_after_the_look_is_kept_when_it_is_taken_back() {
        let (dir, mut swaps) = checkout();
        swaps.swap_all().unwrap();
        let file = &swaps.files[2];
        save(&dir, "top/new/file");
        swaps.take_back(file, file.new.unwrap()).unwrap();
        assert_eq!(texts(&dir), ["new", "", "mine", "new"]);
    }

    #[test]
    fn a_file_that_was_saved_after_the_look_is_kept_and_everything_is_put_back() {
        for (at, path) in ["file", "gone/file", "new/file", "last"].iter().enumerate() {
            for is_renamed in [true, false] {
                let (dir, mut swaps) = checkout();
                let path = format!("top/{path}");
                if is_renamed {
                    save(&dir, &path);
                } else {
                    write(&dir, &path, "mine");
                }
                swaps.swap_all().unwrap_err();
                let mut expected = ["old", "old", "", "old"];
                expected[at] = "mine";
                assert_eq!(texts(&dir), expected, "{path}");
            }
        }
    }

    #[test]
    fn a_file_that_was_saved_after_it_was_replaced_is_kept_when_everything_is_put_back() {
        let (dir, mut swaps) = checkout();
        swaps.swap_all().unwrap();
        for path in ["file", "gone/file", "new/file", "last"] {
            save(&dir, &format!("top/{path}"));
        }
        swaps.undo();
        assert_eq!(texts(&dir), ["mine"; 4]);
    }

    #[test]
    fn a_file_that_was_just_saved_and_cannot_be_put_back_stays_aside() {
        for (at, path) in ["file", "gone/file"].into_iter().enumerate() {
            for is_gone in [true, false] {
                let (dir, swaps) = checkout();
                save(&dir, &format!("top/{path}"));
                swaps.put(&swaps.files[at]).unwrap();
                // Somebody replaces the directory at this moment.
                let top = dir.path().join("top");
                fs::rename(&top, dir.path().join("replaced")).unwrap();
                if !is_gone {
                    fs::create_dir_all(top.join(path)).unwrap();
                }
                swaps.refuse_changed(&swaps.files[at]).unwrap_err();
                let changed: Vec<&str> = swaps.changed_aside().into_iter().collect();
                assert_eq!(changed, [path], "{is_gone}");
                let kept = fs::read_to_string(dir.path().join("aside").join(path));
                assert_eq!(kept.unwrap(), "mine", "{path}: {is_gone}");
            }
        }
    }

    /// None of the files has changes of a person, whatever is in its place.
    #[test]
    fn old_and_new_files_that_are_aside_do_not_count_as_changed() {
        let (dir, mut swaps) = checkout();
        assert!(swaps.changed_aside().is_empty());
        swaps.swap_all().unwrap();
        assert!(swaps.changed_aside().is_empty());
        for path in ["file", "gone/file", "new/file"] {
            save(&dir, &format!("top/{path}"));
        }
        swaps.undo();
        assert!(swaps.changed_aside().is_empty());
    }

    #[test]
    fn files_get_the_time_at_which_they_are_replaced_or_put_back() {
        let (dir, _) = checkout();
        for path in ["top/file", "top/gone/file", "aside/file", "aside/new/file"] {
            let file = fs::File::open(dir.path().join(path)).unwrap();
            file.set_modified(UNIX_EPOCH).unwrap();
        }
        let mut swaps = swaps(&dir).unwrap();
        let is_new = |path: &str| {
            let found = fs::metadata(dir.path().join("top").join(path)).unwrap();
            found.modified().unwrap() > UNIX_EPOCH
        };
        swaps.swap_all().unwrap();
        assert!(is_new("file") && is_new("new/file"));
        swaps.undo();
        assert!(is_new("file") && is_new("gone/file"));
    }

    /// Git makes a new file in the directory to which it belongs, from which it gets its access
    /// list.
    #[test]
    fn files_are_left_to_git_if_their_directory_has_another_access_list_for_new_files() {
        let (dir, _) = checkout();
        let mut list = vec![2_u8, 0, 0, 0];
        for (who, may) in [(0x01, 7), (0x04, 7), (0x20, 5)] {
            list.extend([who, 0, may, 0, 255, 255, 255, 255]);
        }
        let set = |path: &str| {
            let path = dir.path().join(path);
            setxattr(path, ACCESS_LIST, &list, XattrFlags::empty())
        };
        // The file system may not support access lists.
        if set("top") == Err(Errno::OPNOTSUPP) {
            return;
        }
        assert!(swaps(&dir).is_none());
        set("aside").unwrap();
        assert!(swaps(&dir).is_some());
    }

    #[test]
    fn no_file_is_written_through_a_link_that_takes_the_place_of_a_directory() {
        let (dir, mut swaps) = checkout();
        let outside = dir.path().join("outside");
        fs::create_dir(&outside).unwrap();
        std::os::unix::fs::symlink(&outside, dir.path().join("top/new")).unwrap();
        swaps.swap_all().unwrap_err();
        assert_eq!(texts(&dir), ["old", "old", "", "old"]);
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);

        let (dir, mut swaps) = checkout();
        swaps.swap_all().unwrap();
        let outside = dir.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::remove_dir(dir.path().join("top/gone")).unwrap();
        std::os::unix::fs::symlink(&outside, dir.path().join("top/gone")).unwrap();
        swaps.undo();
        assert_eq!(texts(&dir), ["old", "", "", "old"]);
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    }

    #[test]
    fn an_old_file_whose_directory_was_replaced_after_its_host_was_killed_stays_unchanged_aside() {
        let (dir, _) = checkout();
        let [top, aside] = ["top", "aside"].map(|name| dir.path().join(name));
        let gone = fs::File::open(top.join("gone/file")).unwrap();
        gone.set_modified(UNIX_EPOCH).unwrap();
        swaps(&dir).unwrap().swap_all().unwrap();
        fs::create_dir(dir.path().join("outside")).unwrap();
        fs::remove_dir(top.join("gone")).unwrap();
        std::os::unix::fs::symlink("../outside", top.join("gone")).unwrap();
        let left = Swaps::noted(&top, &aside).unwrap().unwrap();
        assert!(left.undo_left(|_| true));
        assert_eq!(texts(&dir), ["old", "", "", "old"]);
        assert!(!left.is_undone());
        assert!(left.changed_aside().is_empty());
        assert!(aside.join("gone/file").exists());
    }

    #[test]
    fn directories_of_a_new_file_are_removed_even_if_only_the_first_of_them_could_be_made() {
        let (dir, _) = checkout();
        write(&dir, "aside/made/in/part/file", "new");
        let [top, aside] = ["top", "aside"].map(|name| dir.path().join(name));
        let added = Changed {
            path: "made/in/part/file".to_owned(),
            in_old: false,
            in_new: true,
        };
        let swaps = Swaps::new(&top, &aside, &[added]).unwrap().unwrap();
        fs::create_dir_all(top.join("made/in")).unwrap();
        swaps.remove_made_dirs(&swaps.files[0]);
        assert!(!top.join("made").exists());
    }

    /// An editor may have opened the file before it was replaced.
    #[test]
    fn a_change_of_an_old_file_after_it_was_put_aside_is_noticed() {
        let (dir, mut swaps) = checkout();
        let mut opened = fs::File::options()
            .append(true)
            .open(dir.path().join("top/file"))
            .unwrap();
        swaps.swap_all().unwrap();
        io::Write::write_all(&mut opened, b"mine").unwrap();
        let changed: Vec<&str> = swaps.changed_aside().into_iter().collect();
        assert_eq!(changed, ["file"]);
    }
}

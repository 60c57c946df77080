//! Backups and restores that are interrupted: by a kill at any step, an error, or a full disk.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Write},
    os::unix::{fs::symlink, net::UnixListener},
    path::Path,
};

use claudine_domain::task::{State, Task};

use super::{
    super::{
        super::error::ErrorKind,
        check,
        file::Target,
        place::{place, place_by_steps, refuse_incomplete},
        refuse_used,
        restore::restore_by_steps,
        take::{take, to_file},
    },
    Place, attempts, backup, empty, how, log, output, restored, tasks, used,
};
use crate::{
    restored::Restored,
    store::{Store, sqlite::SqliteStore},
};

/// A kill at any step leaves a complete restore or nothing, and no later restore fails because of
/// the kill.
#[test]
fn a_restore_killed_at_any_step_is_complete_or_leaves_nothing() {
    let old = used();
    let (file, _) = backup(&old, false);
    let (mut nothing, mut all) = (0, 0);
    for steps in 0.. {
        let new = empty();
        // An earlier host has left a database with a write-ahead log.
        let used = SqliteStore::open(&new.layout.database()).unwrap();
        used.lead().unwrap();
        std::mem::forget(used);
        let mut left = steps;
        let pause = &mut || {
            left -= 1;
            if left < 0 {
                return Err(io::Error::other("killed"));
            }
            Ok(())
        };
        let cut = restore_by_steps(&check(&file).unwrap(), &new.layout, how(), pause);
        // The next host moves a complete restore into place. It is interrupted once too.
        let mut once = 3;
        let pause = &mut || {
            once -= 1;
            if once == 0 {
                return Err(io::Error::other("killed"));
            }
            Ok(())
        };
        drop(place_by_steps(&new.layout, pause));
        place(&new.layout).unwrap();
        assert!(!new.layout.restoring().exists() && !new.layout.to_be_placed().exists());
        if refuse_used(&new.layout).is_ok() {
            nothing += 1;
            let logs = fs::read_dir(new.layout.logs()).unwrap();
            assert_eq!(logs.count(), 0, "after {steps} steps");
            restored(&file, &new).unwrap();
        } else {
            all += 1;
        }
        is_whole(&old, &new);
        if cut.is_ok() {
            break;
        }
    }
    assert!(nothing > 10 && all > 10, "{nothing} and {all}");
}

/// A backup taken before the contents are in place would look like a backup of an empty queue.
#[test]
fn no_backup_is_taken_of_an_incomplete_restore() {
    let old = used();
    let (file, _) = backup(&old, false);
    let new = empty();
    SqliteStore::open(&new.layout.database())
        .and_then(SqliteStore::close)
        .unwrap();
    let staged = &new.layout.to_be_placed();
    let pause = &mut || {
        if staged.exists() {
            return Err(io::Error::other("killed"));
        }
        Ok(())
    };
    let cut = restore_by_steps(&check(&file).unwrap(), &new.layout, how(), pause);
    assert!(cut.is_err());
    let to = new.layout.root().join("../second.backup");
    let refused = to_file(&new.layout, &to, false, false).err().unwrap();
    assert_eq!(refused.kind, ErrorKind::Conflict);
    place(&new.layout).unwrap();
    let taken = to_file(&new.layout, &to, false, false).unwrap();
    assert_eq!(taken.tasks, tasks(&old.layout).len() as u64);
}

/// Whoever began the restore expects the tasks of the backup, and not an empty queue.
#[test]
fn an_incomplete_restore_is_refused_until_it_is_repeated_or_removed() {
    let old = used();
    let (file, _) = backup(&old, false);
    let new = empty();
    refuse_incomplete(&new.layout).unwrap();
    let rest = &new.layout.restoring();
    let pause = &mut || {
        if rest.exists() {
            return Err(io::Error::other("killed"));
        }
        Ok(())
    };
    assert!(restore_by_steps(&check(&file).unwrap(), &new.layout, how(), pause).is_err());
    let refused = refuse_incomplete(&new.layout).unwrap_err();
    assert!(refused.message.contains("was killed"), "{refused}");
    let hint = refused.hint.unwrap();
    let removal = format!("rm -r {}", rest.display());
    assert!(
        hint.contains("claudine restore FILE") && hint.contains(&removal),
        "{hint}"
    );
    let to = new.layout.root().join("../second.backup");
    let no_backup = to_file(&new.layout, &to, false, false).err().unwrap();
    assert_eq!(no_backup.kind, refused.kind);
    restored(&file, &new).unwrap();
    refuse_incomplete(&new.layout).unwrap();
}

fn is_whole(old: &Place, new: &Place) {
    let ids = |place: &Place| tasks(&place.layout).into_keys().collect::<BTreeSet<_>>();
    assert_eq!(ids(new), ids(old));
    let running = |task: &Task| matches!(task.state, State::Running { .. });
    assert!(!tasks(&new.layout).values().any(running));
    for (attempt, segment) in attempts() {
        let path = log(&new.layout, attempt, segment);
        assert_eq!(fs::read(path).unwrap(), output(attempt, segment));
    }
    assert!(Restored::read(&new.layout).unwrap().is_some());
}

/// The file gets its name once it is complete, and never replaces another file.
#[test]
fn a_backup_file_exists_completely_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("queue.backup");
    let names = || {
        let entries = fs::read_dir(dir.path()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.collect::<BTreeSet<_>>()
    };
    let (target, mut file) = Target::create(&path, false).unwrap();
    file.write_all(b"first").unwrap();
    assert!(!path.exists(), "a kill here leaves no backup");
    assert!(names().iter().all(|name| name.ends_with(".partial")));
    // Another process has created the file first.
    let (late, late_file) = Target::create(&path, false).unwrap();
    target.name(&file).unwrap();
    let refused = late.name(&late_file).err().unwrap();
    assert_eq!(refused.kind, ErrorKind::Conflict);
    assert!(Target::create(&path, false).is_err());
    let (target, mut file) = Target::create(&path, true).unwrap();
    file.write_all(b"second").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"first");
    target.name(&file).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"second");
    assert_eq!(names(), BTreeSet::from(["queue.backup".to_owned()]));
}

/// A file whose writer is killed after a number of writes of at most 512 bytes.
struct Killed<'a> {
    file: &'a File,
    writes: u32,
}

impl Write for Killed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let left = self.writes.checked_sub(1);
        self.writes = left.ok_or_else(|| io::Error::other("killed"))?;
        self.file.write(&bytes[..bytes.len().min(512)])
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Before the rename no file has the name of the backup. The partial file of a killed process does
/// not prevent the next backup from becoming complete.
#[test]
fn a_backup_killed_at_any_step_leaves_no_file_with_its_name() {
    let old = used();
    let store = SqliteStore::open_read_only(&old.layout.database()).unwrap();
    let path = old.layout.root().join("../queue.backup");
    let mut steps = 0;
    for writes in 0.. {
        let (target, file) = Target::create(&path, false).unwrap();
        let killed = Killed {
            file: &file,
            writes,
        };
        let taken = take(&old.layout, &store, killed, false);
        // A killed process runs no destructors.
        std::mem::forget(target);
        assert!(!path.exists(), "after {writes} writes");
        if taken.is_ok() {
            break;
        }
        steps += 1;
    }
    assert!(steps > 10, "{steps}");
    to_file(&old.layout, &path, false, false).unwrap();
    let new = empty();
    restored(&path, &new).unwrap();
    is_whole(&old, &new);
}

/// A backup to a link replaces the file to which the link leads. Devices, sockets, directories and
/// broken links are not replaced.
#[test]
fn only_regular_files_are_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("kept"), b"old").unwrap();
    fs::create_dir(at("directory")).unwrap();
    symlink(at("kept"), at("link")).unwrap();
    symlink(at("nowhere"), at("broken")).unwrap();
    symlink("/dev/null", at("device")).unwrap();
    let _listener = UnixListener::bind(at("socket")).unwrap();
    for name in ["directory", "broken", "device", "socket"] {
        let before = fs::symlink_metadata(at(name)).unwrap().file_type();
        assert!(Target::create(&at(name), true).is_err(), "{name}");
        assert!(Target::create(&at(name), false).is_err(), "{name}");
        let after = fs::symlink_metadata(at(name)).unwrap().file_type();
        assert_eq!(before, after, "{name}");
    }
    assert!(Target::create(Path::new("/dev/null"), true).is_err());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 6);
    let (target, mut file) = Target::create(&at("link"), true).unwrap();
    file.write_all(b"new").unwrap();
    target.name(&file).unwrap();
    assert_eq!(fs::read(at("kept")).unwrap(), b"new");
    assert!(fs::symlink_metadata(at("link")).unwrap().is_symlink());
}

/// A backup that replaced the database would destroy the queue.
#[test]
fn no_backup_is_written_into_its_data_directory() {
    let old = used();
    let root = old.layout.root();
    let at = |name: &str| root.with_file_name(name);
    symlink(root, at("link")).unwrap();
    symlink(old.layout.database(), at("linked.db")).unwrap();
    fs::hard_link(old.layout.database(), at("same.db")).unwrap();
    // The user has moved a part of the data directory to another disk.
    fs::create_dir(at("large")).unwrap();
    symlink(at("large"), root.join("cache-elsewhere")).unwrap();
    let refused = [
        old.layout.database(),
        root.join("new.backup"),
        old.layout.logs().join("missing/new.backup"),
        root.join("../data/new.backup"),
        at("link").join("new.backup"),
        at("link").join("claudine.db"),
        at("linked.db"),
        at("same.db"),
        at("large").join("new.backup"),
    ];
    let database = fs::read(old.layout.database()).unwrap();
    for path in refused {
        for force in [false, true] {
            let refused = to_file(&old.layout, &path, false, force).err().unwrap();
            let expected = format!(
                "{} belongs to the data directory {}",
                path.display(),
                root.display()
            );
            assert_eq!(refused.message, expected);
        }
    }
    assert_eq!(fs::read(old.layout.database()).unwrap(), database);
    to_file(&old.layout, &at("data.backup"), false, false).unwrap();
}

/// After any error no file has the name of the backup.
#[test]
fn a_failed_backup_leaves_no_file() {
    let old = used();
    let file = old.layout.root().join("../queue.backup");
    // A link to itself cannot be followed, not even by root.
    let unreadable = old.layout.logs().join("unreadable");
    symlink(&unreadable, &unreadable).unwrap();
    assert!(to_file(&old.layout, &file, false, false).is_err());
    let beside = fs::read_dir(file.parent().unwrap()).unwrap();
    assert_eq!(beside.count(), 1, "only the data directory is left");
    let nobody = empty();
    let refused = to_file(&nobody.layout, &file, false, false).err().unwrap();
    assert_eq!(refused.kind, ErrorKind::NotFound);
    assert!(!file.exists());
}

/// A disk that accepts this many bytes.
struct Full(usize);

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0 == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let count = bytes.len().min(self.0);
        self.0 -= count;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_disk_is_reported() {
    let old = used();
    let store = SqliteStore::open_read_only(&old.layout.database()).unwrap();
    let mut whole = Vec::new();
    take(&old.layout, &store, &mut whole, false).unwrap();
    for room in [0, 1, whole.len() / 2, whole.len() - 100] {
        let full = take(&old.layout, &store, Full(room), false).err().unwrap();
        assert_eq!(full.kind, ErrorKind::StoreFull, "{room}");
    }
    assert!(take(&old.layout, &store, Full(usize::MAX), false).is_ok());
}

//! Files that are damaged or were not written by this version.

use std::{
    cell::Cell,
    fs::{self, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
};

use claudine_domain::time::Timestamp;

use super::{
    super::{
        super::error::ErrorKind,
        check,
        entry::{FORMAT, Manifest, Name},
        read::read,
        refuse_used, restore,
        take::take,
        write::Writer,
    },
    backup, empty, how, records, restored, used,
};
use crate::store::{
    Record,
    sqlite::{SqliteStore, known_schema},
};

#[test]
fn a_file_damaged_or_cut_at_any_byte_is_refused() {
    let old = used();
    let (file, _) = backup(&old, true);
    let bytes = fs::read(&file).unwrap();
    let whole = read(&file, &mut |_, _, _| Ok(())).unwrap();
    let spoilt = file.with_extension("spoilt");
    let refused = Cell::new(0);
    let check_spoilt = |bytes: &[u8], how: &str| {
        fs::write(&spoilt, bytes).unwrap();
        match read(&spoilt, &mut |_, _, _| Ok(())) {
            Err(error) => {
                refused.set(refused.get() + 1);
                assert_eq!(error.kind, ErrorKind::Invalid, "{how}: {error}");
                assert!(error.message.contains(spoilt.to_str().unwrap()), "{error}");
            }
            // A few bits, such as the time in gzip's header, do not change the contents.
            Ok(found) => assert_eq!(found, whole, "{how}"),
        }
    };
    for at in (0..bytes.len()).step_by(3) {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        check_spoilt(&flipped, &format!("a bit of byte {at}"));
    }
    let flips = refused.get();
    let lengths = (0..bytes.len()).step_by(17).chain([bytes.len() - 1]);
    let cuts = lengths.clone().count();
    for length in lengths {
        check_spoilt(&bytes[..length], &format!("cut at {length}"));
    }
    assert_eq!(refused.get() - flips, cuts);
    let flipped = bytes.len().div_ceil(3);
    assert!(flips * 100 > flipped * 97, "{flips} of {flipped}");
    let longer = [&bytes[..], b"x"].concat();
    fs::write(&spoilt, longer).unwrap();
    assert!(check(&spoilt).is_err(), "something follows it");
}

fn manifest() -> Manifest {
    Manifest {
        format: FORMAT,
        schema: known_schema(),
        version: "9.9.9".to_owned(),
        taken_at: Timestamp(1),
        environments: false,
    }
}

/// Files with valid digests but unsupported contents.
#[test]
fn unsupported_files_are_refused_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("made");
    let manifest = manifest();
    let check = |make: &dyn Fn(&mut Writer<fs::File>) -> io::Result<()>, expected: &str| {
        let mut writer = Writer::new(fs::File::create(&file).unwrap(), manifest.taken_at);
        make(&mut writer).unwrap();
        writer.finish().unwrap();
        let refused = super::super::check(&file).err().map(|error| error.message);
        let refused = refused.unwrap_or_default();
        assert!(refused.contains(expected), "{expected}: {refused}");
    };
    let put = |writer: &mut Writer<fs::File>, manifest: &Manifest| {
        writer.put(&Name::Manifest, &serde_json::to_vec(manifest).unwrap())
    };
    let newer = Manifest {
        format: FORMAT + 1,
        ..manifest.clone()
    };
    check(
        &|writer| put(writer, &newer),
        "it was made by 9.9.9 with format 2, but this version reads only up to format 1",
    );
    let newer = Manifest {
        schema: known_schema() + 1,
        ..manifest.clone()
    };
    check(
        &|writer| put(writer, &newer),
        "it was made by 9.9.9 with schema",
    );
    check(&|_| Ok(()), "it has no manifest");
    check(
        &|writer| writer.put(&Name::Rows(1), b""),
        "it does not begin with a manifest",
    );
    check(
        &|writer| {
            put(writer, &manifest)?;
            writer.put(&Name::Environment("unknown".to_owned()), b"")
        },
        "it has an unknown entry `env/unknown`",
    );
    fs::write(&file, b"text").unwrap();
    let text = super::super::check(&file).err().unwrap();
    assert!(
        text.message
            .ends_with("cannot be restored: it is not a backup"),
        "{text}"
    );
    let missing = super::super::check(&dir.path().join("missing"))
        .err()
        .unwrap();
    assert_eq!(missing.kind, ErrorKind::NotFound);
}

/// After an attempt with the number `u32::MAX`, the next attempt would get no number. After an
/// attempt with the number 0, it would get a number that was used before.
#[test]
fn attempts_that_are_out_of_order_are_refused() {
    let (old, new) = (used(), empty());
    let file = old.layout.root().join("../made");
    let manifest = manifest();
    for number in [0, u32::MAX] {
        let mut rows = Vec::new();
        for mut record in records(&old.layout) {
            if let Record::Task { task, .. } = &mut record
                && let Some(last) = task.attempts.last_mut()
            {
                last.number = number;
            }
            serde_json::to_writer(&mut rows, &record).unwrap();
            rows.push(b'\n');
        }
        let mut writer = Writer::new(fs::File::create(&file).unwrap(), manifest.taken_at);
        let text = serde_json::to_vec(&manifest).unwrap();
        writer.put(&Name::Manifest, &text).unwrap();
        writer.put(&Name::Rows(1), &rows).unwrap();
        writer.finish().unwrap();
        let refused = restored(&file, &new).err().unwrap();
        assert_eq!(refused.kind, ErrorKind::Invalid, "{refused}");
        let said = format!("attempt {number} of task ");
        assert!(refused.message.contains(&said), "{refused}");
        assert!(refuse_used(&new.layout).is_ok() && !new.layout.restoring().exists());
    }
}

/// The file is replaced between the check and the restore, which both read it.
#[test]
fn a_backup_replaced_while_it_is_read_is_refused() {
    let (old, new) = (used(), empty());
    let (file, _) = backup(&old, false);
    let checked = check(&file).unwrap();
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let other = options.open(&file).unwrap();
    let store = SqliteStore::open_read_only(&old.layout.database()).unwrap();
    take(&old.layout, &store, other, true).unwrap();
    let refused = restore(&checked, &new.layout, how()).err().unwrap();
    assert_eq!(refused.kind, ErrorKind::Conflict, "{refused}");
    assert!(refuse_used(&new.layout).is_ok() && !new.layout.restoring().exists());
}

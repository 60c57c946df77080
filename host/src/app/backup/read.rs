//! Reads a backup from beginning to end and checks everything in it.
//!
//! Entries are passed on before their digests are checked, so nothing may depend on them until the
//! whole file has been read.

use std::{
    fs::File,
    io::{self, BufReader, Read},
    path::Path,
};

use flate2::bufread::GzDecoder;
use serde::de::DeserializeOwned;

use super::{
    super::error::{AppError, ErrorKind},
    cannot,
    entry::{End, FORMAT, Manifest, Name, Sums, Version},
    write::Measured,
};
use crate::store::sqlite::known_schema;

/// Size of one read, and size limit of entries that are read in one piece.
const PIECE_BYTES: usize = 64 << 10;
const WHOLE_BYTES: u64 = 1 << 20;

type Compressed = GzDecoder<BufReader<File>>;

/// Called with each entry that has rows, an environment or a log. If the function does not read an
/// entry to its end, the rest is skipped.
pub(super) type Each<'a> =
    &'a mut dyn FnMut(&Manifest, &Name, &mut dyn Read) -> Result<(), AppError>;

/// A backup that was read completely and matches its digests.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Whole {
    pub(super) manifest: Manifest,
    pub(super) end: End,
}

/// Error for a damaged backup; [`read`] adds the name of the file.
pub(super) fn damaged(detail: impl std::fmt::Display) -> AppError {
    AppError::new(
        ErrorKind::Invalid,
        format!("it is damaged or cut off: {detail}"),
    )
}

pub(super) fn read(path: &Path, each: Each<'_>) -> Result<Whole, AppError> {
    let file = File::open(path).map_err(|error| cannot("read the backup", path, &error))?;
    let compressed = GzDecoder::new(BufReader::with_capacity(PIECE_BYTES, file));
    through(compressed, each).map_err(|error| AppError {
        message: format!("{} cannot be restored: {}", path.display(), error.message),
        ..error
    })
}

fn through(compressed: Compressed, each: Each<'_>) -> Result<Whole, AppError> {
    if compressed.header().is_none() {
        return Err(AppError::new(ErrorKind::Invalid, "it is not a backup"));
    }
    let mut archive = tar::Archive::new(compressed);
    let mut reading = Reading::default();
    let entries = archive.entries().map_err(damaged)?;
    for entry in entries.raw(true) {
        reading.entry(entry.map_err(damaged)?, each)?;
    }
    let whole = reading.whole()?;
    nothing_follows(archive.into_inner())?;
    Ok(whole)
}

/// Reads past the last entry, so that the checksum at the end is verified.
fn nothing_follows(mut compressed: Compressed) -> Result<(), AppError> {
    let mut buffer = vec![0; PIECE_BYTES];
    loop {
        match compressed.read(&mut buffer).map_err(damaged)? {
            0 => break,
            count if buffer[..count].iter().all(|byte| *byte == 0) => {}
            _ => return Err(damaged("there are entries after its end marker")),
        }
    }
    let mut beyond = [0];
    match compressed.into_inner().read(&mut beyond).map_err(damaged)? {
        0 => Ok(()),
        _ => Err(damaged("there is data after its end")),
    }
}

/// State of reading a backup.
#[derive(Default)]
struct Reading {
    manifest: Option<Manifest>,
    sums: Sums,
    end: Option<End>,
}

impl Reading {
    fn entry(
        &mut self,
        mut entry: tar::Entry<'_, Compressed>,
        each: Each<'_>,
    ) -> Result<(), AppError> {
        let name = entry.path_bytes().into_owned();
        let name = String::from_utf8_lossy(&name).into_owned();
        let known: Option<Name> = name.parse().ok();
        let is_file = entry.header().entry_type() == tar::EntryType::Regular;
        let Some(known) = known.filter(|_| is_file) else {
            let name: String = name.chars().take(80).collect();
            return Err(damaged(format!(
                "it has an unknown entry `{}`",
                name.escape_debug()
            )));
        };
        if self.end.is_some() {
            return Err(damaged("there are entries after its end marker"));
        }
        let bytes = entry.size();
        match known {
            Name::Manifest => {
                let text = whole(&mut entry, bytes)?;
                self.manifest = Some(manifest(&text)?);
                self.sums.add(&known, bytes, &crate::digest::hex(&text));
                Ok(())
            }
            Name::Sums(_) => self.compare(&known, &whole(&mut entry, bytes)?),
            Name::End => {
                self.end = Some(parse("its last entry", &whole(&mut entry, bytes)?)?);
                Ok(())
            }
            Name::Rows(_) | Name::Environment(_) | Name::Log(..) => {
                self.shown(&known, bytes, &mut entry, each)
            }
        }
    }

    fn shown(
        &mut self,
        name: &Name,
        bytes: u64,
        from: &mut dyn Read,
        each: Each<'_>,
    ) -> Result<(), AppError> {
        let manifest = self
            .manifest
            .as_ref()
            .ok_or_else(|| damaged("it does not begin with a manifest"))?;
        let mut measured = Measured::new(from);
        each(manifest, name, &mut measured)?;
        io::copy(&mut measured, &mut io::sink()).map_err(damaged)?;
        if measured.bytes != bytes {
            return Err(damaged(format!("{name} is incomplete")));
        }
        self.sums.add(name, bytes, &measured.digest.hex());
        Ok(())
    }

    /// Compares the digests of the entries with the recorded digests.
    fn compare(&mut self, name: &Name, written: &[u8]) -> Result<(), AppError> {
        let (expected_name, expected) = self.sums.list();
        let written = String::from_utf8_lossy(written);
        if *name == expected_name && written == expected {
            return Ok(());
        }
        let other = |(one, other): &(&str, &str)| one != other;
        let differing = expected.lines().zip(written.lines()).find(other);
        let entry = differing.and_then(|(line, _)| line.split_whitespace().last());
        Err(damaged(format!(
            "{} does not match its digest",
            entry.unwrap_or("a list of digests")
        )))
    }

    fn whole(self) -> Result<Whole, AppError> {
        let end = self.end.ok_or_else(|| damaged("its end is missing"))?;
        let manifest = self.manifest.ok_or_else(|| damaged("it has no manifest"))?;
        if !self.sums.is_empty() || self.sums.end() != end {
            return Err(damaged("entries are missing"));
        }
        Ok(Whole { manifest, end })
    }
}

/// Reads a short entry in one piece.
fn whole(from: &mut dyn Read, bytes: u64) -> Result<Vec<u8>, AppError> {
    if bytes > WHOLE_BYTES {
        return Err(damaged(format!("an entry has {bytes} bytes")));
    }
    let mut text = Vec::new();
    from.take(bytes).read_to_end(&mut text).map_err(damaged)?;
    if text.len() as u64 == bytes {
        Ok(text)
    } else {
        Err(damaged("an entry is incomplete"))
    }
}

fn parse<T: DeserializeOwned>(what: &str, text: &[u8]) -> Result<T, AppError> {
    serde_json::from_slice(text).map_err(|error| damaged(format!("{what} cannot be read: {error}")))
}

/// The manifest, if this version supports its format.
fn manifest(text: &[u8]) -> Result<Manifest, AppError> {
    let Version { format, version } = parse("its manifest", text)?;
    let newer = |what: &str, found: u32, known: u32| {
        let by = version.as_deref().unwrap_or("a newer version");
        let message = format!(
            "it was made by {by} with {what} {found}, but this version reads only up to {what} {known}"
        );
        AppError::new(ErrorKind::Invalid, message)
            .hint("use the version that made it, or a newer one")
    };
    if format > FORMAT {
        return Err(newer("format", format, FORMAT));
    }
    let manifest: Manifest = parse("its manifest", text)?;
    if manifest.schema > known_schema() {
        return Err(newer("schema", manifest.schema, known_schema()));
    }
    Ok(manifest)
}

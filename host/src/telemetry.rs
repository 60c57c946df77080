//! The host's own log: lines with time, level and message, on standard error in the foreground and
//! in `host.log` in the background.
//!
//! A full file is renamed and a new file is started, so the total size of both files is limited,
//! however much a guest logs. Text is escaped here, because lines quote names of files, output of
//! git and text of guests.

use std::{
    fmt,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Mutex,
};

use tracing::field::{Field, Visit};
use tracing_subscriber::{
    field::RecordFields,
    filter::{LevelFilter, Targets},
    fmt::format::{FormatFields, Writer},
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

use crate::{fsx::append_private, text::line_of_log};

const LOG_FILE_BYTES: u64 = 16 << 20;
/// Length limit of a message or field, such as a line that a guest logged.
const FIELD_BYTES: usize = 16 << 10;

/// Destination of the log.
pub(crate) enum Sink<'a> {
    Stderr,
    File(&'a Path),
}

/// Sets up the log, once for each process. `level` was validated with the settings.
pub(crate) fn start(level: &str, sink: &Sink<'_>) -> io::Result<()> {
    let level: LevelFilter = level.parse().map_err(io::Error::other)?;
    // Below the level `warn`, wasmtime and its compiler log nothing useful to users.
    let filter = Targets::new()
        .with_default(LevelFilter::WARN)
        .with_target("claudine", level);
    let lines = tracing_subscriber::fmt::layer()
        .with_target(false)
        // Colours need the feature `ansi` of `tracing_subscriber`, which is not enabled.
        .with_ansi(false)
        // These errors would be written with `eprintln!`, which panics if the disk is full.
        .log_internal_errors(false)
        .fmt_fields(Harmless);
    let log = tracing_subscriber::registry();
    let set = match sink {
        Sink::Stderr => log
            .with(lines.with_writer(io::stderr))
            .with(filter)
            .try_init(),
        Sink::File(path) => {
            let file = LogFile::open(path, LOG_FILE_BYTES)?;
            log.with(lines.with_writer(Mutex::new(file)))
                .with(filter)
                .try_init()
        }
    };
    set.map_err(io::Error::other)
}

/// Formats messages and fields as usual, and escapes them.
struct Harmless;

impl<'writer> FormatFields<'writer> for Harmless {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut written = WriteFields {
            writer,
            between: "",
            result: Ok(()),
        };
        fields.record(&mut written);
        written.result
    }
}

struct WriteFields<'writer> {
    writer: Writer<'writer>,
    between: &'static str,
    result: fmt::Result,
}

impl Visit for WriteFields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let between = std::mem::replace(&mut self.between, " ");
        let value = line_of_log(&format!("{value:?}"), FIELD_BYTES);
        self.result = self.result.and_then(|()| match field.name() {
            "message" => write!(self.writer, "{between}{value}"),
            name => write!(self.writer, "{between}{name}={value}"),
        });
    }
}

/// A log file whose size is limited.
struct LogFile {
    path: PathBuf,
    file: File,
    bytes: u64,
    most_bytes: u64,
}

impl LogFile {
    fn open(path: &Path, most_bytes: u64) -> io::Result<Self> {
        let file = append_private(path)?;
        let bytes = file.metadata()?.len();
        let path = path.to_owned();
        Ok(Self {
            path,
            file,
            bytes,
            most_bytes,
        })
    }

    fn begin_anew(&mut self) -> io::Result<()> {
        fs::rename(&self.path, self.path.with_extension("log.old"))?;
        self.file = append_private(&self.path)?;
        self.bytes = 0;
        Ok(())
    }
}

impl Write for LogFile {
    /// Writes a line. A line is never split between two files.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.bytes >= self.most_bytes && self.begin_anew().is_err() {
            // The file cannot be renamed, so writing continues in it. The next try follows after
            // `most_bytes` more bytes.
            self.bytes = 0;
        }
        let written = self.file.write(line)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn a_full_log_is_renamed_and_started_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("host.log");
        let read = |path: &Path| fs::read_to_string(path).unwrap_or_default();
        let mut log = LogFile::open(&path, 10).unwrap();
        for line in ["one two\n", "three\n", "four\n"] {
            log.write_all(line.as_bytes()).unwrap();
        }
        assert_eq!(read(&path), "four\n");
        assert_eq!(read(&path.with_extension("log.old")), "one two\nthree\n");
        // After a restart, the existing bytes count too.
        let mut log = LogFile::open(&path, 3).unwrap();
        log.write_all(b"five\n").unwrap();
        assert_eq!(read(&path), "five\n");
    }

    #[test]
    fn lines_of_the_log_are_escaped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("host.log");
        let log = Mutex::new(LogFile::open(&path, LOG_FILE_BYTES).unwrap());
        let lines = tracing_subscriber::fmt()
            .without_time()
            .with_target(false)
            .with_ansi(false)
            .fmt_fields(Harmless)
            .with_writer(log)
            .finish();
        tracing::subscriber::with_default(lines, || {
            let hostile = "a\u{1b}[2J\u{61C}\u{2028}\nERROR b";
            tracing::warn!(plugin = hostile, path = %hostile, number = 7, "said {hostile}");
        });
        let shown = r"a\u{1b}[2J\u{61c}\u{2028} ERROR b";
        let quoted = format!("{:?}", "a\u{1b}[2J\u{61C}\u{2028}\nERROR b");
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            format!(" WARN said {shown} plugin={quoted} path={shown} number=7\n")
        );
    }
}

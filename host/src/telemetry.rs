//! The host's own log: lines of time, level and message, to stderr in the foreground and to `host.log` in the background.
//!
//! The file is begun anew at a start that finds it over its limit; the one before is kept beside it.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::Path,
    sync::Mutex,
};

use tracing_subscriber::EnvFilter;

const LOG_FILE_BYTES: u64 = 16 << 20;

/// Where the host's lines go.
pub(crate) enum Sink<'a> {
    Stderr,
    File(&'a Path),
}

/// Sets the log up, once for each process. `level` was checked with the settings.
pub(crate) fn start(level: &str, sink: &Sink<'_>) -> io::Result<()> {
    // wasmtime and its compiler have nothing to say to a person at these levels.
    let filter = EnvFilter::new(format!("warn,claudine={level}"));
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false);
    let set = match sink {
        Sink::Stderr => lines
            .with_writer(io::stderr)
            .with_ansi(rustix::termios::isatty(io::stderr()))
            .try_init(),
        Sink::File(path) => lines
            .with_writer(Mutex::new(open(path)?))
            .with_ansi(false)
            .try_init(),
    };
    set.map_err(io::Error::other)
}

fn open(path: &Path) -> io::Result<File> {
    if fs::metadata(path).is_ok_and(|meta| meta.len() > LOG_FILE_BYTES) {
        fs::rename(path, path.with_extension("log.old"))?;
    }
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
}

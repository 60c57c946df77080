//! The entry points: a REST API on the host's socket, the command line, and MCP.
//!
//! None of them contains rules of the product. `rest` parses a request, asks [`crate::app::Host`]
//! and writes the answer. `cli` and `mcp` reach the host only through `client`, over the socket, so
//! that people, agents and scripts get the same answers, and clients work with hosts of other
//! versions. If no host runs, reading requests are answered by the same `rest` within this process.
//! Only `backup` and `restore` open a data directory themselves: a backup works with or without a
//! running host, and a restore only without one.

pub(crate) mod cli;
mod client;
mod lenient;
mod mcp;
mod member;
mod once;
mod paragraphs;
pub(crate) mod rest;
mod status;
mod words;

pub(crate) use self::status::CLAUDINE;

use std::{
    ffi::OsString,
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    app::{AppError, Environment, Host, HostInfo, backup::QueueRestored},
    config::Overrides,
};

/// A host to start in the background.
#[derive(Debug)]
pub(crate) struct Background {
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<OsString>,
    /// Further arguments, with the settings that the starting command gives.
    pub(crate) settings: Vec<OsString>,
    pub(crate) data_dir: PathBuf,
    /// File for the host's standard error.
    pub(crate) log: PathBuf,
}

/// Runs a host with these settings until it shuts down, and calls the function once the host is
/// reachable. The flag says whether the host runs in the background.
type Serve = fn(&Overrides, bool, &mut dyn FnMut(&HostInfo)) -> Result<(), AppError>;
/// Builds a plugin from the source in the first directory into the second one, and reports
/// progress. Returns the path of the component.
type BuildPlugin = fn(&Path, &Path, &mut dyn FnMut(&str)) -> Result<PathBuf, AppError>;

/// Restores a backup file into a data directory that no host uses. Tasks whose own environment is
/// not in the backup get the given environment.
type RestoreBackup = fn(&Overrides, &Path, Environment) -> Result<QueueRestored, AppError>;

/// Creates a read-only host within this process, to answer requests while no host runs. Must be
/// called within a tokio runtime. Also returns a warning if the configuration file cannot be used.
pub(crate) type Offline = fn(&Overrides) -> Result<(Arc<Host>, Option<String>), AppError>;

/// Functions of other layers that the entry points need. `lib.rs` sets them, so that `api` does not
/// depend on the engine or on processes.
#[derive(Clone, Copy)]
pub(crate) struct Wiring {
    pub(crate) serve: Serve,
    /// Starts a process that outlives the current one. Returns its pid, and a file from which its
    /// standard output can be read.
    pub(crate) launch: fn(&Background) -> io::Result<(u32, File)>,
    /// Writes a line to standard output, which the launching process reads, and closes standard
    /// output.
    pub(crate) announce: fn(&str) -> io::Result<()>,
    pub(crate) build_plugin: BuildPlugin,
    pub(crate) restore: RestoreBackup,
    pub(crate) offline: Offline,
}

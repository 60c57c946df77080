//! The ways in: a REST API on the host's socket, the command line, and MCP.
//!
//! None of them has a rule of the product in it. `rest` turns a request into a typed one, asks
//! [`crate::app::Host`] and writes down the answer. `cli` and `mcp` know the host only by `client`,
//! over the socket, so a person, an agent and a script see the same answers, and a client of
//! another version than its host still understands it. What only reads is answered by the same
//! `rest` within this process where no host runs. Only `backup` and `restore` touch a data
//! directory themselves: a backup can be had whether a host runs or not, and a restore only where
//! none runs.

pub(crate) mod cli;
mod client;
mod lenient;
mod mcp;
mod member;
mod paragraphs;
pub(crate) mod rest;
mod status;
mod words;

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

/// A host to be started in the background.
#[derive(Debug)]
pub(crate) struct Background {
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<OsString>,
    pub(crate) data_dir: PathBuf,
    /// What it says on standard error goes here.
    pub(crate) log: PathBuf,
}

/// Runs a host until it goes down: with these settings, in the background or not, and it tells when
/// it can be reached.
type Serve = fn(&Overrides, bool, &mut dyn FnMut(&HostInfo)) -> Result<(), AppError>;
/// Builds a plugin from its source: the folder, where to put it, and whom to tell how it goes. The
/// component's path.
type BuildPlugin = fn(&Path, &Path, &mut dyn FnMut(&str)) -> Result<PathBuf, AppError>;

/// Restores a backup into a data directory that no host uses, from the file, with the environment
/// of the command.
type RestoreBackup = fn(&Overrides, &Path, Environment) -> Result<QueueRestored, AppError>;

/// Makes a host of this process that only reads, for where none runs; within a runtime.
pub(crate) type Offline = fn(&Overrides) -> Result<Arc<Host>, AppError>;

/// What the layers below lend to the entry points. It is filled in where everything is wired, so
/// that `api` names neither the engine nor the processes.
#[derive(Clone, Copy)]
pub(crate) struct Wiring {
    pub(crate) serve: Serve,
    /// Starts a process that outlives this one. What it says on its standard output can be read
    /// from the file.
    pub(crate) launch: fn(&Background) -> io::Result<File>,
    /// Says a line on standard output to whoever launched this process, and lets go of it.
    pub(crate) announce: fn(&str) -> io::Result<()>,
    pub(crate) build_plugin: BuildPlugin,
    pub(crate) restore: RestoreBackup,
    pub(crate) offline: Offline,
}

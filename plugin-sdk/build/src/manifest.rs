//! `plugin.toml`: describes a plugin, says how its attempts are treated, and requests permissions.
//!
//! The file is shipped beside the component and hashed with it. Grants are decided elsewhere. An
//! unknown field is an error, so that a misspelt limit is not ignored.

mod check;
mod document;

use std::time::Duration;

pub use semver::Version;

/// Version of the contract in `wit/` that this build of Claudine supports. Plugins for any 0.1
/// load.
pub const WIT_VERSION: Version = Version::new(0, 1, 0);

/// A valid manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    pub kind: Kind,
    /// Name of the plugin: lower-case letters, digits and hyphens; starts with a letter; at most 32
    /// bytes.
    pub name: String,
    pub version: Version,
    /// Version of the contract for which the plugin was written.
    pub wit: Version,
    /// Description in one line.
    pub summary: String,
    pub class: Class,
    /// Time without output after which an attempt is stopped, unless the task sets another. `None`:
    /// no limit.
    pub idle_timeout: Option<Duration>,
    /// Time limit from the start to the first sign of life. `None`: the executor gives no sign of
    /// life.
    pub start_timeout: Option<Duration>,
    /// Whether attempts of one account start one after the other, each only after the first sign of
    /// life of the previous attempt.
    pub serial_start: bool,
    /// Whether `run` may be called before the attempt's start, if a slot is about to become free.
    /// Until its first `spawn`, which waits for the start, `run` only computes; reports before the
    /// start are dropped.
    pub standby: bool,
    /// Names of the variables of a task's environment that the guest may read.
    pub reads_env: Vec<String>,
    /// Signals that end an attempt's process group, each with the time until the next. The last one
    /// is `KILL`.
    pub stop: Vec<StopStep>,
    /// Location of the driven program's login. `None`: the program has no login.
    pub account: Option<Account>,
    pub permissions: Permissions,
}

impl Manifest {
    /// Parses and checks a manifest.
    pub fn parse(text: &str) -> Result<Self, ManifestError> {
        if text.len() > LONGEST_BYTES {
            return Err(ManifestError::TooLong {
                length_bytes: text.len(),
            });
        }
        let document: document::Document =
            toml::from_str(text).map_err(|error| ManifestError::Syntax(Box::new(error)))?;
        check::check(document).map_err(ManifestError::Faults)
    }
}

/// Size limit of a manifest. A longer file was not written by hand.
const LONGEST_BYTES: usize = 64 * 1024;

/// Kind of plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    Executor,
}

/// Expected load of a task of this kind on the machine, until the usage of earlier tasks of this
/// kind is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// An ordinary program.
    #[default]
    Command,
    /// An agent: needs hundreds of megabytes, and runs commands of its own.
    Agent,
}

/// A signal used to stop an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum StopSignal {
    Hup,
    Int,
    Kill,
    Term,
    Usr1,
    Usr2,
}

impl StopSignal {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hup => "HUP",
            Self::Int => "INT",
            Self::Kill => "KILL",
            Self::Term => "TERM",
            Self::Usr1 => "USR1",
            Self::Usr2 => "USR2",
        }
    }
}

impl std::fmt::Display for StopSignal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One step of stopping an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StopStep {
    pub signal: StopSignal,
    /// Time until the next step; zero for the last one.
    pub wait: Duration,
}

/// How tasks with a common login are recognised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Name of the variable that holds the configuration directory.
    pub directory_variable: String,
    /// Directory used if the variable is not set: absolute, or below the home directory (`~/…`).
    pub default_directory: String,
    /// Variables that contain a login; their values are hashed, never shown.
    pub credentials: Vec<String>,
}

/// Requested permissions. A plugin can never do anything that it does not request here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Permissions {
    pub process: Option<ProcessPermission>,
}

/// Permission to start children.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessPermission {
    pub commands: Vec<CommandPattern>,
    /// Reason shown when the grant is requested: one sentence.
    pub why: String,
}

/// Commands that may be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandPattern {
    /// Every command. This equals the user's own authority.
    Any,
    /// A name, which is resolved when the permission is granted.
    Name(String),
    /// An absolute path.
    Path(String),
}

impl std::fmt::Display for CommandPattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Any => "*",
            Self::Name(text) | Self::Path(text) => text,
        })
    }
}

/// Reason why a text is not a valid manifest.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error(
        "the manifest is {length_bytes} bytes long; at most {} are read",
        LONGEST_BYTES
    )]
    TooLong { length_bytes: usize },
    /// A syntax error. Its text names the line and what was expected there.
    #[error("the manifest cannot be read: {0}")]
    Syntax(Box<toml::de::Error>),
    #[error("the manifest is not valid: {}", list(.0))]
    Faults(Vec<Fault>),
}

/// One fault of a manifest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct Fault {
    /// Name of the field in TOML notation: `stop[1].wait-ms`.
    pub field: String,
    pub message: String,
}

fn list(faults: &[Fault]) -> String {
    faults
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("; ")
}

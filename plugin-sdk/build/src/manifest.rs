//! `plugin.toml`: what a plugin is, how its attempts are to be treated, and what it asks for.
//!
//! The file is shipped beside the component and hashed with it. Whether what it asks for is granted
//! is not decided here. A field nobody knows is an error: a misspelt limit must not be a missing
//! one.

mod check;
mod document;

use std::time::Duration;

pub use semver::Version;

/// The version of the contract in `wit/` that this build of Claudine speaks. Plugins for any 0.1
/// load.
pub const WIT_VERSION: Version = Version::new(0, 1, 0);

/// A manifest without a fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    pub kind: Kind,
    /// Lower-case letters, digits and hyphens; starts with a letter; at most 32 bytes.
    pub name: String,
    pub version: Version,
    /// The version of the contract it was written for.
    pub wit: Version,
    /// One line.
    pub summary: String,
    pub class: Class,
    /// How long a task of this kind may print nothing, unless the task says otherwise. `None`: for
    /// ever.
    pub idle_timeout: Option<Duration>,
    /// How long from the start to the first sign of life. `None`: the executor gives none.
    pub start_timeout: Option<Duration>,
    /// One start at a time for each account, until the first sign of life.
    pub serial_start: bool,
    /// Its `run` may be called ahead of the attempt's start, where a slot is about to become free:
    /// up to its first `spawn`, which waits for the start, it only computes. What it tells before
    /// that is dropped.
    pub standby: bool,
    /// Names of the variables of a task's environment that the guest may see.
    pub reads_env: Vec<String>,
    /// What is sent to an attempt's process group when it has to end, and how long each has. The
    /// last step is `KILL`.
    pub stop: Vec<StopStep>,
    /// Where the login of what it drives is kept. `None`: it has none.
    pub account: Option<Account>,
    pub permissions: Permissions,
}

impl Manifest {
    /// Reads and checks a manifest.
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

/// A manifest is written by hand; one longer than this is something else.
const LONGEST_BYTES: usize = 64 * 1024;

/// What a plugin does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    Executor,
}

/// What a task of this kind is to the machine, until its own history says better.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// A program like any other.
    #[default]
    Command,
    /// An agent: hundreds of megabytes, and commands of its own.
    Agent,
}

/// A signal of the ladder by which an attempt is stopped.
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

impl std::fmt::Display for StopSignal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Hup => "HUP",
            Self::Int => "INT",
            Self::Kill => "KILL",
            Self::Term => "TERM",
            Self::Usr1 => "USR1",
            Self::Usr2 => "USR2",
        })
    }
}

/// One step of that ladder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StopStep {
    pub signal: StopSignal,
    /// Until the next step; zero for the last one.
    pub wait: Duration,
}

/// How tasks that share a login are told from others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The variable that names the configuration directory.
    pub directory_variable: String,
    /// The directory where the variable is not set: absolute, or below the home directory (`~/…`).
    pub default_directory: String,
    /// Variables that hold a login themselves; their values are hashed, never shown.
    pub credentials: Vec<String>,
}

/// What a plugin asks for. What is missing here it can never do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Permissions {
    pub process: Option<ProcessPermission>,
}

/// To start children.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessPermission {
    pub commands: Vec<CommandPattern>,
    /// Shown when the grant is asked for: one sentence.
    pub why: String,
}

/// Which commands may be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandPattern {
    /// Every command there is, which equals the user's own authority.
    Any,
    /// A name, resolved when it is granted.
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

/// Why a text is no manifest.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error(
        "the manifest is {length_bytes} bytes long; at most {} are read",
        LONGEST_BYTES
    )]
    TooLong { length_bytes: usize },
    /// The text names the line and what was expected there.
    #[error("the manifest cannot be read: {0}")]
    Syntax(Box<toml::de::Error>),
    #[error("the manifest is not valid: {}", list(.0))]
    Faults(Vec<Fault>),
}

/// One fault of a manifest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct Fault {
    /// As one would write it in TOML: `stop[1].wait-ms`.
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

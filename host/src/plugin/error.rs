//! Errors of plugins. Each error is a fault of the plugin or its files, or of the machine, never of
//! the task.

use std::io;
use std::path::{Path, PathBuf};

use super::port::Failure;

/// An error can be cloned: if a component could not be loaded, every task that needs the component
/// gets the same error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PluginError {
    #[error("there is no plugin `{name}`")]
    Unknown { name: String },
    #[error("its manifest {} is wrong: {message}", path.display())]
    Manifest { path: PathBuf, message: String },
    #[error("its grant {} cannot be read: {message}", path.display())]
    Grant { path: PathBuf, message: String },
    #[error("{} cannot be used: {message}", path.display())]
    Io { path: PathBuf, message: String },
    /// A file of the plugin could not be read when the host started, which reads it only then.
    #[error("{message}; once this is put right, restart the host to use the plugin")]
    Unread { message: String },
    /// A file of the plugin was missing or was not text when the host started.
    #[error("{message}; once this is put right, restart the host to use the plugin")]
    Absent { message: String },
    #[error("it is not a WebAssembly component: {found}")]
    NotAComponent { found: &'static str },
    #[error(
        "it was built for {wanted}, and this host speaks only claudine:plugin@0.1; a newer host may run it"
    )]
    NewerContract { wanted: String },
    #[error("it does not export {missing}, so it is not an executor")]
    WrongWorld { missing: String },
    #[error("it imports {import}, which this host does not offer")]
    UnknownImport { import: String },
    #[error(
        "it imports {import}, and its manifest does not ask for the permission that this import needs"
    )]
    Unasked { import: String },
    #[error("its types do not match the contract: {message}")]
    WrongTypes { message: String },
    #[error("it could not be compiled: {message}")]
    Compile { message: String },
    /// The compiler could not do its work. This says nothing about the component.
    #[error("it cannot be compiled at the moment: {message}")]
    Uncompiled { message: String },
    #[error("its compiled code could not be loaded: {message}")]
    Load { message: String },
    #[error("the WebAssembly engine could not be set up: {message}")]
    Engine { message: String },
    #[error("{message}")]
    NoThread { message: String },
    #[error("all {limit} instances are in use")]
    Full { limit: u32 },
    #[error("{0}")]
    Crashed(Crash),
    #[error("it took longer than {limit_ms} ms to answer")]
    Slow { limit_ms: u128 },
    #[error("it gave an answer that the contract does not allow: {message}")]
    Answer { message: String },
    #[error(
        "it is disabled after crashes in {attempts} attempts in a row: {last}; restart the host to \
         retry"
    )]
    Disabled { attempts: u32, last: Crash },
}

impl PluginError {
    pub(crate) fn io(path: &Path, error: &io::Error) -> PluginError {
        PluginError::Io {
            path: path.into(),
            message: error.to_string(),
        }
    }

    /// The error of a file that is read only when the host starts.
    pub(crate) fn at_start(path: &Path, error: &io::Error) -> PluginError {
        let message = Self::io(path, error).to_string();
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::InvalidData => Self::Absent { message },
            _ => Self::Unread { message },
        }
    }

    /// Whether a retry may succeed without a change.
    pub(crate) fn is_passing(&self) -> bool {
        matches!(
            self,
            PluginError::Full { .. } | PluginError::Slow { .. } | PluginError::Crashed(_)
        ) || self.is_lack_of_code()
    }

    /// Whether the component's code cannot be had at the moment, for a reason that lies in the
    /// machine: a full disk, a file that cannot be read, a compiler that was killed. Nothing is
    /// wrong with the plugin as far as is known, so its tasks wait.
    pub(crate) fn is_lack_of_code(&self) -> bool {
        matches!(
            self,
            PluginError::Io { .. } | PluginError::NoThread { .. } | PluginError::Uncompiled { .. }
        )
    }

    /// Whether the plugin's tasks wait: until its code can be had, or, if its files could not be
    /// read when this host started, for the next host.
    pub(crate) fn lets_tasks_wait(&self) -> bool {
        self.is_lack_of_code() || matches!(self, PluginError::Unread { .. })
    }

    /// Converts the error to an attempt's reason.
    pub(crate) fn failure(&self, plugin: &str) -> Failure {
        let mut failure = Failure::new("plugin", format!("plugin {plugin}: {self}"));
        failure.retryable = self.is_passing();
        failure
    }
}

/// How an instance crashed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Crash {
    #[error("it trapped: {0}")]
    Trap(String),
    #[error("{0}")]
    Spun(String),
    #[error("it asked for {0}")]
    Limit(&'static str),
}

/// How an attempt ended without an outcome.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(crate) enum GuestEnd {
    /// The executor reported a failure.
    #[error("{}", .0.message)]
    Failed(Failure),
    /// The attempt's last instance crashed and was not followed by another, because no resume was
    /// left or because the attempt was being stopped.
    #[error("it crashed {times} times, the last time: {last}")]
    Crashed { times: u32, last: Crash },
    /// The instance did not answer a stop within the grace period.
    #[error("it was dropped, because it did not stop within its grace period")]
    Dropped,
    /// No instance of the plugin could be started.
    #[error("{0}")]
    Unavailable(PluginError),
}

impl GuestEnd {
    /// Converts the end to an attempt's reason.
    pub(crate) fn failure(&self, plugin: &str) -> Failure {
        match self {
            GuestEnd::Failed(failure) => failure.clone(),
            GuestEnd::Unavailable(error) => error.failure(plugin),
            GuestEnd::Crashed { .. } | GuestEnd::Dropped => {
                Failure::new("plugin", format!("plugin {plugin}: {self}"))
            }
        }
    }
}

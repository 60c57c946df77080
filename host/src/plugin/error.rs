//! What can be wrong with a plugin. Every one of these is the plugin's fault or its files', never
//! the task's.

use std::path::{Path, PathBuf};

use super::port::Failure;

/// Cloneable, because a component that could not be loaded gives the same answer to every task that
/// asks for it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PluginError {
    #[error("no plugin is called `{name}`")]
    Unknown { name: String },
    #[error("its manifest {} is wrong: {message}", path.display())]
    Manifest { path: PathBuf, message: String },
    #[error("its grant {} cannot be read: {message}", path.display())]
    Grant { path: PathBuf, message: String },
    #[error("{} cannot be used: {message}", path.display())]
    Io { path: PathBuf, message: String },
    #[error("it is no WebAssembly component: {found}")]
    NotAComponent { found: &'static str },
    #[error(
        "it was built for {wanted}, and this host speaks claudine:plugin@0.1; a newer host may run it"
    )]
    NewerContract { wanted: String },
    #[error("it does not export {missing}, so it is no executor")]
    WrongWorld { missing: String },
    #[error("it imports {import}, which this host does not offer")]
    UnknownImport { import: String },
    #[error("it imports {import}, and its manifest does not ask for what that needs")]
    Unasked { import: String },
    #[error("its types are not those of the contract: {message}")]
    WrongTypes { message: String },
    #[error("it could not be compiled: {message}")]
    Compile { message: String },
    #[error("its compiled code could not be loaded: {message}")]
    Load { message: String },
    #[error("the WebAssembly engine could not be set up: {message}")]
    Engine { message: String },
    #[error("all {limit} places for instances are taken")]
    Full { limit: u32 },
    #[error("{0}")]
    Crashed(Crash),
    #[error("it took longer than {limit_ms} ms to answer")]
    Slow { limit_ms: u128 },
    #[error("it gave an answer that the contract does not allow: {message}")]
    Answer { message: String },
    #[error(
        "it was disabled after it crashed in {attempts} attempts one after another: {last}; a host that is started anew tries it again"
    )]
    Disabled { attempts: u32, last: Crash },
}

impl PluginError {
    pub(crate) fn io(path: &Path, error: &std::io::Error) -> PluginError {
        PluginError::Io {
            path: path.into(),
            message: error.to_string(),
        }
    }

    /// Whether the next try may go otherwise without anything being changed.
    pub(crate) fn is_passing(&self) -> bool {
        matches!(
            self,
            PluginError::Io { .. }
                | PluginError::Full { .. }
                | PluginError::Slow { .. }
                | PluginError::Crashed(_)
        )
    }

    /// As an attempt's reason.
    pub(crate) fn failure(&self, plugin: &str) -> Failure {
        let mut failure = Failure::new("plugin", format!("plugin {plugin}: {self}"));
        failure.retryable = self.is_passing();
        failure
    }
}

/// How an instance ended that did not end by itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Crash {
    #[error("it trapped: {0}")]
    Trap(String),
    #[error("{0}")]
    Spun(String),
    #[error("it asked for {0}")]
    Limit(&'static str),
}

/// How an attempt ended other than by an outcome.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(crate) enum GuestEnd {
    /// The executor says why it could not do it.
    #[error("{}", .0.message)]
    Failed(Failure),
    /// The instance crashed, was resumed as often as it may be, and crashed again; or it crashed
    /// while it was being stopped.
    #[error("it crashed {times} times, the last time: {last}")]
    Crashed { times: u32, last: Crash },
    /// It did not answer a stop within the grace.
    #[error("it was dropped, because it did not stop within its grace")]
    Dropped,
    /// It could not even be asked.
    #[error("{0}")]
    Unavailable(PluginError),
}

impl GuestEnd {
    /// As an attempt's reason.
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

//! Errors of building a plugin, with hints.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;

use crate::manifest::ManifestError;
use crate::toolchain::ToolchainError;

/// Reason why a plugin could not be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    #[error("cannot {action} {}", path.display())]
    File {
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("{}: {source}", path.display())]
    Manifest {
        path: PathBuf,
        source: ManifestError,
    },
    #[error(transparent)]
    Toolchain(#[from] ToolchainError),
    #[error("cannot start {}", program.display())]
    Program { program: PathBuf, source: io::Error },
    #[error("cargo could not build the crate ({status})")]
    Cargo { status: ExitStatus },
    #[error("the crate has no library of type cdylib")]
    NoModule,
    #[error("plugin.toml says version {manifest}, Cargo.toml says {package}")]
    Versions { manifest: String, package: String },
    #[error("the module is not a plugin: {reason}")]
    Encode { reason: String, hint: &'static str },
    #[error("the component imports {}", names.join(", "))]
    Imports { names: Vec<String> },
    #[error("the component imports {import}, and plugin.toml does not request it")]
    Unasked { import: String },
}

impl BuildError {
    /// Hint on how to fix the error, if there is one.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::File {
                action: "read",
                path,
                ..
            } if path.ends_with("plugin.toml") => {
                Some("put the plugin's manifest, plugin.toml, beside its Cargo.toml")
            }
            Self::Toolchain(_) => Some(ToolchainError::HINT),
            Self::Program { .. } => Some("install Rust: https://rustup.rs"),
            Self::Cargo { .. } => Some("see cargo's messages above"),
            Self::NoModule => {
                Some("put `crate-type = [\"cdylib\"]` under `[lib]` in its Cargo.toml")
            }
            Self::Versions { .. } => Some("write the same version into both"),
            Self::Encode { hint, .. } => Some(hint),
            Self::Imports { .. } => Some(
                "a plugin may import only claudine:plugin: build it for wasm32-unknown-unknown, without WASI",
            ),
            Self::Unasked { .. } => Some(
                "request the commands that it starts under `[permissions.process]`, with the reason in `why`",
            ),
            Self::File { .. } | Self::Manifest { .. } => None,
        }
    }
}

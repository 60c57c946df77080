//! Finds a toolchain that compiles for wasm32-unknown-unknown.
//!
//! Three sources are tried, the cheapest first: the Rust in use has the target; rustup adds the
//! target; the distribution's Rust includes the source code of the standard library, which is then
//! built with the plugin. The result of each source is kept, so that the error can say what each
//! source would need. The rest of Claudine does not depend on the source.

mod look;

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) const TARGET: &str = "wasm32-unknown-unknown";

/// Source of a toolchain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The Rust in use has the target already.
    InUse,
    /// Rustup adds the target to the Rust in use: a download into the user's own directory.
    Rustup,
    /// The distribution's Rust includes the source code of its standard library.
    Distribution,
}

impl Way {
    /// All sources, the cheapest first.
    pub const USUAL: [Self; 3] = [Self::InUse, Self::Rustup, Self::Distribution];
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InUse => "the Rust in use",
            Self::Rustup => "rustup",
            Self::Distribution => "the distribution",
        })
    }
}

/// A toolchain that compiles for WebAssembly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Toolchain {
    /// The Rust in use has the target.
    Target { rustc: String },
    /// The distribution's Rust builds its own standard library.
    BuildStd {
        rustc: PathBuf,
        version: String,
        linker: PathBuf,
    },
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Target { rustc } => write!(f, "{rustc} and its target {TARGET}"),
            Self::BuildStd { rustc, version, .. } => write!(
                f,
                "{version} ({}), building its standard library for {TARGET} (a minute or two, once)",
                rustc.display()
            ),
        }
    }
}

/// Error: no toolchain was found that compiles for WebAssembly.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no toolchain for {TARGET} found{}", list(.tried))]
pub struct ToolchainError {
    /// The sources that were tried, each with its result in one sentence.
    pub tried: Vec<(Way, String)>,
}

impl ToolchainError {
    /// How to get a toolchain.
    pub const HINT: &str = "either `rustup target add wasm32-unknown-unknown`, or on Debian and Ubuntu \
        `apt-get install --no-install-recommends rustc-web rust-web-src` and an LLD (rustup's Rust includes one; otherwise install the package lld)";
}

fn list(tried: &[(Way, String)]) -> String {
    tried.iter().fold(String::new(), |list, (way, result)| {
        list + &format!("\n  {way}: {result}")
    })
}

impl Toolchain {
    /// Tries the sources in order, in the crate's directory, because the crate may choose its own
    /// Rust.
    pub fn find(
        crate_dir: &Path,
        ways: &[Way],
        say: &mut dyn FnMut(&str),
    ) -> Result<Self, ToolchainError> {
        let mut tried = Vec::new();
        for way in ways {
            let found = match way {
                Way::InUse => look::in_use(crate_dir),
                Way::Rustup => look::rustup(crate_dir, say),
                Way::Distribution => look::distribution(crate_dir),
            };
            match found {
                Ok(toolchain) => return Ok(toolchain),
                Err(result) => tried.push((*way, result)),
            }
        }
        Err(ToolchainError { tried })
    }

    /// Adds the arguments that this toolchain needs to a cargo command.
    pub(crate) fn apply(&self, cargo: &mut Command) {
        if let Self::BuildStd { rustc, linker, .. } = self {
            // `-Zbuild-std` is unstable and Debian's Rust is a release, so this variable makes the
            // release accept the option.
            cargo
                .env("RUSTC", rustc)
                .env("RUSTC_BOOTSTRAP", "1")
                .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker)
                .arg("-Zbuild-std=std,panic_abort");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_lists_the_tried_sources() {
        let error = ToolchainError {
            tried: vec![
                (Way::Rustup, "could not download".to_owned()),
                (Way::Distribution, "no rustc".to_owned()),
            ],
        };
        assert_eq!(
            error.to_string(),
            "no toolchain for wasm32-unknown-unknown found\n  rustup: could not download\n  the distribution: no rustc"
        );
    }
}

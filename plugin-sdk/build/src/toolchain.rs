//! Finds what can compile for wasm32-unknown-unknown.
//!
//! Three places are looked at, the cheapest first: the Rust in use has the target; rustup can add
//! it; a distribution's Rust brings the sources of the standard library, which is then built with
//! the plugin. What was found wanting at each is kept, because somebody who has none of the three
//! needs to know what each would have taken. Nothing else in Claudine knows of the difference.

mod look;

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) const TARGET: &str = "wasm32-unknown-unknown";

/// Where a toolchain may come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The Rust in use has the target already.
    InUse,
    /// rustup adds the target to the Rust in use: a download into the user's own directory.
    Rustup,
    /// The distribution's Rust has the sources of its standard library.
    Distribution,
}

impl Way {
    /// All of them, the cheapest first.
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

/// A way to compile for WebAssembly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Toolchain {
    /// The Rust in use has the target.
    Target { rustc: String },
    /// Another Rust has the sources of the standard library.
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

/// There is no way to compile for WebAssembly.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nothing here can compile for {TARGET}{}", list(.tried))]
pub struct ToolchainError {
    /// What was tried, and in one sentence what came of it.
    pub tried: Vec<(Way, String)>,
}

impl ToolchainError {
    /// What would help.
    pub const HINT: &str = "either `rustup target add wasm32-unknown-unknown`, or on Debian and Ubuntu \
        `apt-get install --no-install-recommends rustc-web rust-web-src` and an LLD (rustup's Rust brings one, else the package lld)";
}

fn list(tried: &[(Way, String)]) -> String {
    tried.iter().fold(String::new(), |list, (way, result)| {
        list + &format!("\n  {way}: {result}")
    })
}

impl Toolchain {
    /// Tries the ways in their order. A directory can choose its own Rust, so the crate's counts.
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

    /// Adds to a cargo command what this way of compiling needs.
    pub(crate) fn apply(&self, cargo: &mut Command) {
        if let Self::BuildStd { rustc, linker, .. } = self {
            // build-std is unstable; Debian's Rust is a release, and this is how a release is told
            // to take it.
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
    fn an_error_lists_what_was_tried() {
        let error = ToolchainError {
            tried: vec![
                (Way::Rustup, "could not download".to_owned()),
                (Way::Distribution, "no rustc".to_owned()),
            ],
        };
        assert_eq!(
            error.to_string(),
            "nothing here can compile for wasm32-unknown-unknown\n  rustup: could not download\n  the distribution: no rustc"
        );
    }
}

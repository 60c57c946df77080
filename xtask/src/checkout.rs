//! Locations: the checkout, cargo's target directory, and the cache outside the checkout for the
//! tests' tools.

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

/// Root of the checkout: this package is one directory below it.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// Cargo's target directory.
pub(crate) fn target() -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => root().join(dir),
        None => root().join("target"),
    }
}

/// Directory of the built components, from which the host's build takes them.
pub(crate) fn plugins() -> PathBuf {
    target().join("plugins")
}

/// Directory for a host with only these built components. It is not `plugins`, because that
/// directory has every component that was ever built, even from an earlier state of the checkout,
/// and the host would contain them all.
pub(crate) fn only_plugins(names: &[&str]) -> PathBuf {
    target().join(format!("plugins-{}", names.join("-")))
}

/// Cache for files that the tests need and the checkout does not contain, such as Claude Code.
pub(crate) fn cache() -> Result<PathBuf> {
    let base = match env::var_os("XDG_CACHE_HOME") {
        Some(dir) => PathBuf::from(dir),
        None => {
            PathBuf::from(env::var_os("HOME").context("neither XDG_CACHE_HOME nor HOME is set")?)
                .join(".cache")
        }
    };
    Ok(base.join("claudine-test"))
}

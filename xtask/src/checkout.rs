//! Where things are: the checkout, what cargo builds to, and the cache outside the checkout in
//! which the tests' tools are kept.

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

/// The root of the checkout: this package is one directory below it.
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

/// Where the built components are put, and where the host's build takes them from.
pub(crate) fn plugins() -> PathBuf {
    target().join("plugins")
}

/// What the tests need and the checkout does not hold, such as Claude Code itself.
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

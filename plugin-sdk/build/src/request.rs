//! The request to build a plugin.

use std::path::PathBuf;

/// A plugin to build, and its destination.
#[derive(Clone, Debug)]
pub struct BuildRequest {
    /// The directory with the plugin's `Cargo.toml` and `plugin.toml`.
    pub crate_dir: PathBuf,
    /// Destination of `NAME.wasm`, `NAME.toml` and `NAME.sha256`.
    pub out_dir: PathBuf,
    /// Cargo's target directory. If it is kept between builds, a second build compiles only
    /// changes.
    pub target_dir: PathBuf,
    /// Whether to optimise for the size and speed of the component. If not, the build itself is
    /// faster.
    pub release: bool,
}

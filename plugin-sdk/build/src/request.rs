//! What a build is asked for.

use std::path::PathBuf;

/// What is to be built, and where to.
#[derive(Clone, Debug)]
pub struct BuildRequest {
    /// The directory with the plugin's `Cargo.toml` and `plugin.toml`.
    pub crate_dir: PathBuf,
    /// Gets `NAME.wasm`, `NAME.toml` and `NAME.sha256`.
    pub out_dir: PathBuf,
    /// Cargo's; kept between builds, a second build compiles only what has changed.
    pub target_dir: PathBuf,
    /// Small and quick to run. Without it: quick to build.
    pub release: bool,
}

//! Everything between a plugin's source and the host that loads it: the manifest, a toolchain, and
//! the build from crate to component.
//!
//! This is a library because two programs build plugins (`claudine plugin build` and the project's
//! own build), and because the host must read manifests by the same rules. The library does not
//! load or run plugins.

mod build;
mod cargo;
mod component;
mod error;
pub mod manifest;
mod request;
mod toolchain;

pub use build::{Built, build};
pub use error::BuildError;
pub use manifest::{Manifest, ManifestError};
pub use request::BuildRequest;
pub use toolchain::{Toolchain, ToolchainError, Way};

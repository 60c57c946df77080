//! The SDK for Claudine plugins.
//!
//! A plugin is a WebAssembly component that knows how to run one kind of task. This crate hides the
//! component model: implement [`Executor`], name the type in [`export!`], describe the plugin in a
//! file `plugin.toml` beside `Cargo.toml`, and `claudine plugin build` makes the component.
//!
//! ```
//! use claudine_plugin_sdk::{Command, Ctx, Executor, Failure, Outcome, Task};
//!
//! #[derive(serde::Deserialize)]
//! #[serde(deny_unknown_fields)]
//! struct Spec {
//!     name: String,
//! }
//!
//! #[derive(Default)]
//! struct Greet;
//!
//! impl Executor for Greet {
//!     type Spec = Spec;
//!
//!     fn task_schema() -> &'static str {
//!         r#"{"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}"#
//!     }
//!
//!     async fn run(&self, task: Task<Spec>, _ctx: Ctx) -> Result<Outcome, Failure> {
//!         let child = Command::new("echo").arg("hello").arg(task.spec.name).spawn().await?;
//!         Ok(child.wait().await?.into())
//!     }
//! }
//!
//! claudine_plugin_sdk::export!(Greet);
//! ```
//!
//! # Instances
//!
//! Each attempt has its own instance, with its own memory; nothing is shared between attempts, and
//! no memory outlives its attempt. An instance may be lost at any moment: by a trap (a panic is
//! one), by a restart of the host, or because it did not answer [`Executor::stop`] in time.
//! Children and their output belong to the host and survive this loss. A new instance is then asked
//! to [`resume`](Executor::resume), and finds the children through [`Ctx::children`].
//!
//! # Isolation
//!
//! A plugin has no files, network, clock or environment except through the modules here, and of
//! these it may use only what its manifest requests and a grant allows. A call that is not allowed
//! fails with [`Class::Denied`] and names the command that would grant it.
//!
//! # Limits
//!
//! There is one thread, so a loop that never awaits blocks the instance. The host ends such an
//! instance by a trap when its computing time is used up. Memory is limited to 64 MiB. Futures of
//! this crate may be dropped at any await: nothing is lost.

#![warn(missing_docs)]

/// The standard library's allocator, set to begin with the memory that the linker reserved. So an
/// ordinary instance never grows its memory, and the host need not change page protections: on a
/// machine with several cores, changing them would be the most expensive part of making an
/// instance.
#[cfg(all(target_arch = "wasm32", feature = "allocator"))]
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

mod authority;
#[doc(hidden)]
pub mod bindings;
pub mod clock;
mod config;
mod ctx;
mod executor;
mod export;
mod facts;
mod failure;
mod log;
mod outcome;
pub mod process;
mod spec;
mod stop;
mod task;
pub mod transcript;

pub use authority::{Authority, Step};
pub use config::config;
pub use ctx::Ctx;
pub use executor::{Executor, Health};
#[doc(hidden)]
pub use export::Glue;
pub use facts::facts;
pub use failure::{Class, Failure, Issue};
pub use log::Level;
#[doc(hidden)]
pub use log::write as log_write;
pub use log::write_with as log_with;
pub use outcome::Outcome;
pub use process::{Child, Command, ExitStatus, Signal};
pub use spec::parse;
pub use stop::{StopReason, StopRequest};
pub use task::{Attributes, Draft, Previous, Task};
pub use transcript::{Item, ItemKind, Reading};

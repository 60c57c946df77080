//! Plugins: WebAssembly components that run tasks, each attempt in a separate sandbox.
//!
//! The catalog lists the plugins; each plugin is an executor; an attempt is a chain of instances of
//! one executor. The host serves an attempt through the trait [`AttemptHost`]. The attempt's
//! children belong to the host and outlive every instance. Only this folder uses wasmtime.

#[cfg(feature = "bench")]
mod bench;
mod builtin;
#[cfg(test)]
mod builtin_tests;
mod capability;
mod capture;
mod catalog;
mod check;
mod compile;
mod engine;
mod epoch;
mod error;
mod executor;
mod find;
#[cfg(test)]
mod fixtures;
mod grant;
mod guest;
mod limits;
mod load;
mod meter;
mod port;
mod run;
mod states;
#[cfg(test)]
mod tests;
mod transcript;
mod v0_1;
mod visible;

pub(crate) use claudine_plugin_build::manifest::{Class as ManifestClass, Manifest};

#[cfg(feature = "bench")]
pub use bench::main as bench_main;
pub(crate) use builtin::BUILTINS;
pub(crate) use catalog::{Catalog, Inspection, Listing, Places, Status};
#[cfg(test)]
pub(crate) use catalog::{Origin, Shipped};
pub(crate) use compile::{compilers_of, is_compiler, main as compile_main};
pub(crate) use error::{GuestEnd, PluginError};
pub(crate) use executor::{Executor, Lack};
#[cfg(test)]
pub(crate) use grant::Grant;
pub(crate) use load::{Compiler, belongs_to};
pub(crate) use port::{
    AttemptHost, BoxFuture, Channel, ChildExit, ChildRef, Draft, EnvRemove, Failure, GuestOutcome,
    GuestTask, Health, HealthState, InputPiece, InputStream, Issue, LogLevel, Output,
    PreviousAttempt, Signal, SpawnSpec, Start, Stdin, StopRequest, Usage,
};
#[cfg(test)]
pub(crate) use transcript::Reading;
pub(crate) use transcript::{ItemKind, TRANSCRIPT_LINE_BYTES, Transcribes, TranscriptItem};
pub(crate) use visible::visible;

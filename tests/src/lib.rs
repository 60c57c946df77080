//! Shared code of the integration tests, which are in `tests/tests`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

pub mod command;
mod compiled;
pub mod git;
pub mod guard;
pub mod harness;
pub mod mcp;
pub mod messages_api;
pub mod process;
pub mod recording;
pub mod schema;
mod socket;
pub mod terminal;
pub mod wait;

pub use command::Ran;
pub use harness::{HostBuilder, TestHost, short_id};
pub use wait::wait_for;

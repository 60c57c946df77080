//! The real Claude Code, driven by the real binary, against the scripted Messages API.
//!
//! The executor's own tests cover the interpretation of each event. The tests here cover behaviour
//! that needs the whole system: processes, sessions on disk, restarts of the host while an agent
//! runs. They use the version of Claude Code for which the executor was written.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod budgets;
mod ceiling;
mod changes;
mod day;
mod endings;
mod failures;
mod git;
mod machine;
mod patterns;
mod readme;
mod recording;
mod refusals;
mod restarts;
mod results;
mod sessions;
mod stops;
mod transcripts;
mod world;

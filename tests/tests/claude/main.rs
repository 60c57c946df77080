//! The real Claude Code, driven by the real binary, against the scripted Messages API.
//!
//! The executor's own tables test the interpretation of each event. These tests cover what only the
//! whole can show: processes, sessions on disk, restarts of the host under a running agent. The
//! version is the one that the executor was written for.

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
mod recording;
mod refusals;
mod restarts;
mod results;
mod sessions;
mod stops;
mod transcripts;
mod world;

//! The binary from end to end, as a user drives it: commands, crashes, invalid input. The host's
//! parts have their own tests.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod authority;
mod authority_finished;
mod authority_host;
mod backup;
mod bad_input;
mod capacity;
mod colours;
mod completions;
mod crash;
mod crowd;
mod damage;
mod down;
mod events;
mod faults;
mod graphs;
mod guard;
mod hostile;
mod input;
mod log_faults;
mod logs;
mod mcp;
mod mcp_lines;
mod mounts;
mod naming;
mod nested;
mod offline;
mod patterns;
mod pausing;
mod pictures;
mod plugin_code;
mod results;
mod run;
mod schemas;
mod sessions;
mod several;
mod standby;
mod start;
mod tasks;
mod times;
mod top;
mod torture;
mod upgrade;
mod waiting;
mod words;
mod worktrees;

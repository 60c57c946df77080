//! The house rules that a machine can check, read from the sources. Each failure names the rule,
//! the file and the line.
//!
//! The rules concern the architecture (the allowed dependencies), a few habits and phrases that are
//! never right, and the existence of named files, tests and callers. Rules that need judgement are
//! not here.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod architecture;
mod circles;
mod habits;
mod layers;
mod messages;
mod rules;
mod scan;
mod sources;
mod unused;
mod words;

use std::fmt::Write;

use sources::Breach;

/// Fails with the list of breaches, unless it is empty.
#[track_caller]
fn nothing(rule: &str, breaches: &[Breach]) {
    let mut list = String::new();
    for Breach { file, line, what } in breaches {
        writeln!(list, "  {file}:{line}: {what}").unwrap();
    }
    assert!(breaches.is_empty(), "{rule}\n{list}");
}

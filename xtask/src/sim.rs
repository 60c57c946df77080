//! `cargo xtask sim`: random histories of the queue, optimised, by the thousand.
//!
//! A history is the real domain in a world that fails: hosts that crash with a batch on disk or not, commits that fail, reports that come late, twice and
//! out of order, clocks that jump. After each step everything that must always be true is checked: see `host/domain/src/tests/world.rs`.
//! A history that breaks a promise is made as short as it can be, printed, and kept in `host/domain/proptest-regressions`, from where it
//! is lived first from then on.

use anyhow::{Context, Result, bail};

use crate::program::{cargo, run as run_command};

/// What `cargo xtask sim` lives where nothing else is said.
const HISTORIES: u32 = 20_000;
/// What the test command lives.
pub(crate) const HISTORIES_IN_TESTS: u32 = 2_000;

pub(crate) fn run(arguments: &[&str]) -> Result<()> {
    match arguments {
        [] => histories(HISTORIES),
        [number] => histories(
            number
                .parse()
                .context("the number of histories is a whole number")?,
        ),
        other => bail!(
            "cannot make sense of `{}`: `cargo xtask sim [HISTORIES]`",
            other.join(" ")
        ),
    }
}

pub(crate) fn histories(count: u32) -> Result<()> {
    let test = "tests::history::any_history_keeps_its_promises";
    run_command(
        cargo([
            "test",
            "--quiet",
            "--profile",
            "sim",
            "--package",
            "claudine-domain",
            "--lib",
            "--",
            "--exact",
            test,
        ])
        .env("PROPTEST_CASES", count.to_string()),
    )
}

//! `cargo xtask sim`: runs thousands of random histories of the queue, in an optimised build.
//!
//! A history runs the real domain in a world with failures: hosts crash with or without their batch
//! on disk, alone, with their supervisor or with the whole machine; commits fail; starts are lost;
//! reports come late, twice and out of order; clocks jump. After each step the invariants are
//! checked: see `host/domain/src/tests/world/check.rs`. A history that breaks an invariant is
//! shrunk, printed and kept in `host/domain/proptest-regressions`; later runs try it first.

use std::{
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};

use crate::program::{cargo, run as run_command};

/// Default number of histories of each kind in `cargo xtask sim`.
const HISTORIES: u32 = 20_000;
/// Kinds of histories: one kind with every event, and kinds that concentrate on events that often
/// fail together.
pub(crate) const KINDS: [&str; 3] = [
    "tests::history::any_history_keeps_the_rules",
    "tests::history::history_of_retries_holds_and_groups_keeps_the_rules",
    "tests::history::history_of_parents_and_waits_keeps_the_rules",
];
/// Number of histories of each kind in `cargo xtask test`. They run in a build that is not
/// optimised, because they take less time than compiling an optimised build.
const HISTORIES_IN_TESTS: u32 = 500;

pub(crate) fn run(arguments: &[&str]) -> Result<()> {
    match arguments {
        [] => optimised(HISTORIES),
        [number] => optimised(
            number
                .parse()
                .context("the number of histories is a whole number")?,
        ),
        other => bail!(
            "unknown argument `{}`: `cargo xtask sim [HISTORIES]`",
            other.join(" ")
        ),
    }
}

fn optimised(count: u32) -> Result<()> {
    histories(count, || {
        cargo("test --quiet --profile sim --package claudine-domain --lib".split(' '))
    })
}

/// Runs a small number of histories in the build of the tests. `tests` makes a command that tests
/// the whole workspace.
pub(crate) fn in_tests(tests: impl Fn() -> Command) -> Result<()> {
    histories(HISTORIES_IN_TESTS, tests)
}

fn histories(count: u32, tests: impl Fn() -> Command) -> Result<()> {
    run_command(tests().arg("--no-run"))?;
    let before = time_of_children()?;
    let mut histories = tests();
    histories.args(["--", "--exact", "--nocapture"]).args(KINDS);
    histories.env("PROPTEST_CASES", count.to_string());
    let lived = histories
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run cargo")?;
    let took = time_of_children()?.saturating_sub(before);
    let told = String::from_utf8_lossy(&lived.stdout);
    if !lived.status.success() {
        bail!(
            "{told}\na history broke a rule. It is kept in host/domain/proptest-regressions: \
             `cargo xtask sim 1` runs it again"
        );
    }
    // Each kind prints the total number of steps when it ends.
    let steps = told
        .lines()
        .filter_map(|line| line.strip_suffix(" steps"))
        .filter_map(|line| line.trim_start_matches('.').parse().ok())
        .reduce(f64::max)
        .context("the tests do not print their number of steps")?;
    let seconds = took.as_secs_f64();
    println!(
        "{count} histories of each kind, {steps} steps in {seconds:.1} s of one core: {:.0} steps a second",
        steps / seconds
    );
    Ok(())
}

/// Processor time of all ended children, as the kernel counts it. The load of other processes is
/// not included.
fn time_of_children() -> Result<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat").context("cannot read /proc/self/stat")?;
    // The fields are counted after the command's name, because the name may contain any character.
    // Counted like this, `cutime` and `cstime` are numbers 14 and 15.
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let ticks: Vec<u64> = fields
        .split_whitespace()
        .skip(13)
        .take(2)
        .map(str::parse)
        .collect::<Result<_, _>>()
        .context("/proc/self/stat has an unknown format")?;
    let a_second = rustix::param::clock_ticks_per_second();
    Ok(Duration::from_millis(
        ticks.iter().sum::<u64>() * 1000 / a_second,
    ))
}

//! `cargo xtask sim`: random histories of the queue, optimised, by the thousand.
//!
//! A history is the real domain in a world that fails: hosts that crash with a batch on disk or
//! not, alone, with their supervisor or with the whole machine, commits that fail, starts that are
//! lost, reports that come late, twice and out of order, clocks that jump. After each step what
//! must always be true is checked: see `host/domain/src/tests/world/check.rs`. A history that
//! breaks a promise is made as short as it can be, printed, and kept in
//! `host/domain/proptest-regressions`, from where it is lived first from then on.

use std::{process::Stdio, time::Duration};

use anyhow::{Context, Result, bail};

use crate::program::{cargo, run as run_command};

/// How many of each profile `cargo xtask sim` lives where nothing else is said.
const HISTORIES: u32 = 20_000;
/// What histories are made of: everything, or little else than what goes wrong together.
const PROFILES: [&str; 3] = [
    "tests::history::any_history_keeps_the_rules",
    "tests::history::history_of_retries_holds_and_groups_keeps_the_rules",
    "tests::history::history_of_parents_and_waits_keeps_the_rules",
];
/// How many of each profile the test command lives.
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
    let selection = "test --quiet --profile sim --package claudine-domain --lib";
    run_command(cargo(selection.split(' ')).arg("--no-run"))?;
    let before = time_of_children()?;
    let mut histories = cargo(selection.split(' '));
    histories
        .args(["--", "--exact", "--nocapture"])
        .args(PROFILES);
    histories.env("PROPTEST_CASES", count.to_string());
    let lived = histories
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run cargo")?;
    let took = time_of_children()?.saturating_sub(before);
    let told = String::from_utf8_lossy(&lived.stdout);
    if !lived.status.success() {
        bail!(
            "{told}\na history broke a promise. It is kept in host/domain/proptest-regressions: `cargo xtask sim 1` lives it again"
        );
    }
    // Each profile says how many there were of all of them when it was through.
    let steps = told
        .lines()
        .filter_map(|line| line.strip_suffix(" steps"))
        .filter_map(|line| line.trim_start_matches('.').parse().ok())
        .reduce(f64::max)
        .context("the tests do not say how many steps they made")?;
    let seconds = took.as_secs_f64();
    println!(
        "{count} histories of each profile, {steps} steps in {seconds:.1} s of one core: {:.0} steps a second",
        steps / seconds
    );
    Ok(())
}

/// The processor time of all children that have ended, as the kernel counts it: what else the
/// machine does is not in it.
fn time_of_children() -> Result<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat").context("cannot read /proc/self/stat")?;
    // Behind the command's name, which may hold anything, `cutime` and `cstime` are the 14th and
    // 15th field.
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let ticks: Vec<u64> = fields
        .split_whitespace()
        .skip(13)
        .take(2)
        .map(str::parse)
        .collect::<Result<_, _>>()
        .context("/proc/self/stat is not as it was")?;
    let a_second = rustix::param::clock_ticks_per_second();
    Ok(Duration::from_millis(
        ticks.iter().sum::<u64>() * 1000 / a_second,
    ))
}

//! `cargo xtask mutants`: checks that a test fails if a line of the rules is changed.
//!
//! cargo-mutants changes `host/domain` in one place at a time and runs its tests against each
//! change. The exceptions, with reasons, are in `.cargo/mutants.toml`. The program works on a copy
//! of the checkout, with its own build directory.

use std::{env, path::PathBuf};

use anyhow::{Context, Result};

use crate::{
    checkout,
    program::{cargo, command, run as run_command, succeeds},
};

/// The version of cargo-mutants for which the configuration is written.
const VERSION: &str = "27.1.0";

/// Number of random histories per mutant: enough to catch nearly every mutant that random histories
/// can catch, and few enough for some hundred mutants.
const HISTORIES: &str = "150";

pub(crate) fn run(arguments: &[&str]) -> Result<()> {
    let more = arguments.strip_prefix(&["--"]).unwrap_or(arguments);
    let path = path_with_tools()?;
    let found = succeeds(command("cargo-mutants", ["mutants", "--version"]).env("PATH", &path));
    if !found {
        let tools = tools();
        let install = ["install", "cargo-mutants", "--locked", "--version", VERSION];
        run_command(cargo(install).arg("--root").arg(&tools))?;
    }
    let selection = ["mutants", "--package", "claudine-domain", "--output"];
    let mut mutants = cargo(selection);
    mutants.arg(checkout::target());
    if succeeds(&mut cargo(["nextest", "--version"])) {
        // A mutant's run ends with the first failing test, so that a test that loops does not delay
        // it. This halves the total time.
        mutants.args([
            "--test-tool=nextest",
            "--cargo-test-arg=--max-fail=1:immediate",
        ]);
    }
    mutants.args(more);
    mutants.env("PATH", path).env("PROPTEST_CASES", HISTORIES);
    // A mutant is caught by the first history that it breaks. The history is not kept, since a kept
    // history would also be tried against the next mutants.
    mutants.env("PROPTEST_MAX_SHRINK_ITERS", "0");
    mutants.env("PROPTEST_DISABLE_FAILURE_PERSISTENCE", "1");
    // The changed copy must not be built into the original checkout's target directory.
    mutants.env_remove("CARGO_TARGET_DIR");
    run_command(&mut mutants)
}

/// Where cargo-mutants is installed if the machine does not have it.
fn tools() -> PathBuf {
    checkout::target().join("tools")
}

fn path_with_tools() -> Result<std::ffi::OsString> {
    let before = env::var_os("PATH").unwrap_or_default();
    let dirs = env::split_paths(&before).chain([tools().join("bin")]);
    env::join_paths(dirs).context("the build directory has a colon in its path")
}

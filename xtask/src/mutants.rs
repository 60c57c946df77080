//! `cargo xtask mutants`: does a test of the rules fail where a line of the rules is broken?
//!
//! cargo-mutants changes `host/domain` in one place after the other and runs its tests against each
//! change. What it leaves out, and why, is in `.cargo/mutants.toml`. It works on a copy of the
//! checkout, with a build directory of its own.

use std::{env, path::PathBuf};

use anyhow::{Context, Result};

use crate::{
    checkout,
    program::{cargo, command, run as run_command, succeeds},
};

/// The version whose settings the configuration is written for.
const VERSION: &str = "27.1.0";

/// How many random histories each mutant has to get through: enough to find what they find at all,
/// few enough for some hundred mutants.
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
        // The first test that fails is enough, and one that loops keeps nobody waiting for it: half
        // the time.
        mutants.args([
            "--test-tool=nextest",
            "--cargo-test-arg=--max-fail=1:immediate",
        ]);
    }
    mutants.args(more);
    mutants.env("PATH", path).env("PROPTEST_CASES", HISTORIES);
    // A mutant is caught by the first history that it breaks. None is kept: what one mutant breaks
    // is not to be tried against the next.
    mutants.env("PROPTEST_MAX_SHRINK_ITERS", "0");
    mutants.env("PROPTEST_DISABLE_FAILURE_PERSISTENCE", "1");
    // The copy that is changed is not to be built into the directory of the original.
    mutants.env_remove("CARGO_TARGET_DIR");
    run_command(&mut mutants)
}

/// Where it is installed where the machine has none.
fn tools() -> PathBuf {
    checkout::target().join("tools")
}

fn path_with_tools() -> Result<std::ffi::OsString> {
    let before = env::var_os("PATH").unwrap_or_default();
    let dirs = env::split_paths(&before).chain([tools().join("bin")]);
    env::join_paths(dirs).context("the build directory has a colon in its path")
}

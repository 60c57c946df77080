//! `cargo xtask test`: all checks, the cheapest first. Each stage has a heading and a time; a table
//! of all stages and the test runner's summary come last.
//!
//! After a failed stage, all later stages that do not need its result still run, because people who
//! wait for the checks want to see all failures.
//!
//! The whole workspace with its tests is compiled as one selection of packages. A separate
//! selection for the binary would give its dependencies other features, so that they would be
//! compiled twice.
//!
//! Clippy's compiler builds the tested binaries, and a later stage reports its warnings. A separate
//! `cargo clippy` would check some four hundred dependencies a second time.

mod stage;

use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use rustix::fs::{StatVfsMountFlags, statvfs};
use tempfile::TempDir;

use crate::{
    build, checkout,
    program::{cargo, run, run_watching, succeeds},
    setup::{self, Tools},
    sim,
};
use stage::Stages;

/// Arguments for the test runner: filters that select tests.
pub(crate) struct Options {
    filter: Vec<String>,
}

impl Options {
    pub(crate) fn parse(arguments: &[&str]) -> Result<Self> {
        match arguments {
            [] => Ok(Self { filter: Vec::new() }),
            ["--", filter @ ..] => Ok(Self {
                filter: filter.iter().map(|&word| word.to_owned()).collect(),
            }),
            other => bail!(
                "unknown argument `{}`: `cargo xtask test [-- FILTER…]`",
                other.join(" ")
            ),
        }
    }
}

/// Runs every stage.
pub(crate) fn everything(options: &Options) -> ExitCode {
    let mut stages = Stages::default();
    let mut summary = None;
    stages.run("fmt", || run(&mut cargo(["fmt", "--all", "--", "--check"])));
    stages.run("tidy", || {
        run(&mut workspace("test", "--quiet --test tidy"))
    });
    let tools = stages.run("what the tests need", setup::tools);
    let built = stages.run("plugins", build::plugins);
    let compiled = built.and_then(|()| stages.run("compile", compile));
    if let Some(warnings) = compiled {
        stages.run("lints", || match warnings {
            0 => Ok(()),
            _ => bail!("{warnings} warnings above, under `compile`"),
        });
    }
    if let (Some(tools), Some(_)) = (&tools, compiled) {
        if let Some(left_out) = build::left_out_without_debians_rust() {
            stages.leave_out(left_out);
        }
        stages.run("tests", || tests(tools, &options.filter, &mut summary));
        if options.filter.is_empty() {
            stages.run("simulation", || {
                sim::in_tests(|| workspace("test", "--quiet --lib"))
            });
        }
        stages.run("examples in the documentation", || {
            run(&mut workspace("test", "--quiet --doc"))
        });
    }
    let passed = stages.print_table();
    if let Some(summary) = summary {
        println!("{summary}");
    }
    if passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Compiles everything; returns the number of warnings.
fn compile() -> Result<usize> {
    let mut warnings = 0;
    run_watching(&mut workspace("build", "--all-targets"), |line| {
        // Cargo's own summary line of a package, which repeats the number of its warnings, is not
        // counted.
        if line.starts_with("warning: ") && !line.starts_with("warning: `") {
            warnings += 1;
        }
    })?;
    Ok(warnings)
}

/// A cargo command for the whole workspace, with the host's built components and with Clippy's
/// compiler. `rest` must not contain words with spaces.
pub(crate) fn workspace(verb: &str, rest: &str) -> Command {
    let selection = ["--workspace", "--features", "xtask/bench"];
    let mut cargo = cargo(
        verb.split(' ')
            .chain(selection)
            .chain(rest.split(' ').filter(|word| !word.is_empty())),
    );
    cargo
        .env("CLAUDINE_PLUGINS", checkout::plugins())
        .env("RUSTC_WORKSPACE_WRAPPER", "clippy-driver");
    cargo
}

/// Number of tests that run at once. It is higher than the number of cores, because a test of a
/// host waits for other processes much of its time. With two tests for each core, the cores were
/// idle for a fifth of the time.
fn threads() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    3 * cores
}

/// The file system in memory that Linux machines have.
const IN_MEMORY: &str = "/dev/shm";

/// Free space in memory that is enough for all tests that run at once.
const ROOM_BYTES: u64 = 4 << 30;

/// A directory in memory for the tests' files, if the machine has room for it and `TMPDIR` names no
/// other directory.
///
/// The tests delete thousands of files, and a file system on a disk passes over each file deleted
/// within the last minutes when it creates another one. This would take a twentieth of the tests'
/// processor time, and waiting for the disk even more of their time.
fn directory_in_memory() -> Result<Option<TempDir>> {
    if std::env::var_os("TMPDIR").is_some() {
        return Ok(None);
    }
    let Ok(found) = statvfs(IN_MEMORY) else {
        return Ok(None);
    };
    let has_room = found.f_bavail * found.f_frsize >= ROOM_BYTES;
    let may_run_programs = !found.f_flag.contains(StatVfsMountFlags::NOEXEC);
    if !has_room || !may_run_programs {
        return Ok(None);
    }
    // The path is short, because tests show paths of sockets on terminals of 80 columns.
    let mut name = tempfile::Builder::new();
    let dir = name.prefix("c").rand_bytes(3).tempdir_in(IN_MEMORY);
    dir.map(Some)
        .with_context(|| format!("cannot make a directory in {IN_MEMORY}"))
}

/// Selects the tests that the stages `tidy` and `simulation` run.
fn in_other_stages() -> String {
    let kinds = sim::KINDS.map(|kind| format!(" | package(claudine-domain) & test(={kind})"));
    format!("binary(tidy){}", kinds.concat())
}

/// Runs all tests of all packages. Sets `summary` to the runner's own summary line, whether the
/// tests pass or not.
fn tests(tools: &Tools, filter: &[String], summary: &mut Option<String>) -> Result<()> {
    let mut runner = if succeeds(&mut cargo(["nextest", "--version"])) {
        let threads = format!("--no-fail-fast --test-threads {}", threads());
        let mut nextest = workspace("nextest run", &threads);
        if filter.is_empty() {
            nextest.args(["--filterset", &format!("not ({})", in_other_stages())]);
        }
        nextest
    } else {
        eprintln!(
            "cargo-nextest is not installed: `cargo test` runs the tests, without a limit on the time of each"
        );
        workspace("test", "--no-fail-fast --lib --bins --tests")
    };
    if !filter.is_empty() {
        runner.arg("--").args(filter);
    }
    runner.env("CLAUDINE_BIN", checkout::target().join("debug/claudine"));
    runner.envs(tools.variables());
    let in_memory = directory_in_memory()?;
    if let Some(dir) = &in_memory {
        runner.env("TMPDIR", dir.path());
    }
    run_watching(&mut runner, |line| {
        if line.trim_start().starts_with("Summary [") {
            *summary = Some(line.to_owned());
        }
    })
}

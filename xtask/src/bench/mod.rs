//! `cargo xtask bench`: the speed targets. Most are ratios of two figures that are measured
//! alternately in the same run (A B A B …, medians), and some are absolute figures. Programs for
//! the same purpose are measured too, if they are installed.
//!
//! Absolute figures depend on the machine. No result fails a build.

mod against;
mod breakdown;
mod graph;
mod host;
pub(crate) mod load;
mod mcp;
mod output;
mod peers;
mod submit;
mod table;
mod throughput;

use std::{
    env, fs,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{build, checkout, program};
use table::Table;

pub(crate) use host::{anonymous_kib, rss_kib};

/// The binary to measure, and the options.
pub(crate) struct Bench {
    claudine: PathBuf,
    limit: PathBuf,
    bare_mcp: PathBuf,
    /// Number of measurements of each side of a ratio.
    rounds: usize,
    /// Whether measurements that take minutes are included.
    full: bool,
}

impl Bench {
    /// Runs `bench-limit`; returns the microseconds that it prints.
    fn limit(&self, arguments: &[&str]) -> Result<f64> {
        let text = program::output(&mut program::command(&self.limit, arguments))?;
        text.trim()
            .parse()
            .with_context(|| format!("bench-limit printed {text:?}"))
    }
}

type Measure = fn(&Bench, &mut Table) -> Result<()>;

const MEASURES: &[(&str, Measure)] = &[
    ("throughput", throughput::measure),
    ("submit", submit::measure),
    ("noop", throughput::measure_no_op),
    ("host", host::measure),
    ("output", output::measure),
    ("mcp", mcp::measure),
    ("graph", graph::measure),
];

/// Number of pairs in a comparison of two binaries.
const PAIRS: usize = 15;

pub(crate) fn run(arguments: &[&str]) -> Result<()> {
    let mut wanted = Vec::new();
    let (mut rounds, mut full) = (5, false);
    let mut older = None;
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        match *argument {
            "--quick" => rounds = 1,
            "--full" => full = true,
            "--against" => {
                let path = arguments.next().context("--against BINARY")?;
                older = Some(fs::canonicalize(path).with_context(|| format!("no {path}"))?);
            }
            name => wanted.push(name),
        }
    }
    let known: Vec<&str> = match older {
        Some(_) => against::names().collect(),
        None => MEASURES.iter().map(|(name, _)| *name).collect(),
    };
    if let Some(other) = wanted.iter().find(|name| !known.contains(name)) {
        bail!(
            "unknown argument `{other}`: `cargo xtask bench [--quick] [--full] \
             [--against BINARY] [{}]`",
            known.join("|")
        );
    }
    let programs = ["xtask", "bench-limit", "bench-mcp"];
    let built = build::host_and_programs(&programs)?;
    let release = checkout::target().join("release");
    continue_as(&release.join("xtask"))?;
    let claudine = env::var_os("CLAUDINE_BIN").map_or(built, PathBuf::from);
    let bench = Bench {
        claudine,
        limit: release.join("bench-limit"),
        bare_mcp: release.join("bench-mcp"),
        rounds,
        full,
    };
    let mut table = Table::default();
    if let Some(older) = older {
        let bench = Bench {
            rounds: if rounds == 1 { 1 } else { PAIRS },
            ..bench
        };
        against::compare(bench, &older, &wanted, &mut table)?;
        table.print();
        return Ok(());
    }
    for (name, measure) in MEASURES
        .iter()
        .filter(|(name, _)| wanted.is_empty() || wanted.contains(name))
    {
        if let Err(error) = measure(&bench, &mut table) {
            table.failed(name, &error);
        }
    }
    table.print();
    Ok(())
}

/// Replaces this program by its optimised build, unless this is that build: this program submits
/// tasks, and its own cost must not dominate what is measured.
fn continue_as(optimised: &Path) -> Result<()> {
    if fs::canonicalize(env::current_exe()?)? == fs::canonicalize(optimised)? {
        return Ok(());
    }
    let failed = Command::new(optimised).args(env::args_os().skip(1)).exec();
    Err(failed).with_context(|| format!("cannot run {}", optimised.display()))
}

fn median(times: &[f64]) -> f64 {
    let mut times = times.to_vec();
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Measures both sides alternately; returns the median of each.
fn side_by_side(
    rounds: usize,
    mut ours: impl FnMut() -> Result<f64>,
    mut theirs: impl FnMut() -> Result<f64>,
) -> Result<(f64, f64)> {
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        b.push(theirs()?);
        a.push(ours()?);
    }
    Ok((median(&a), median(&b)))
}

//! `cargo xtask bench --against BINARY`: measures the same figures for two binaries, in interleaved
//! pairs.
//!
//! Each pair measures both sides one after the other, and every second pair begins with the other
//! side, so that disturbances affect both. The result is the median ratio of the pairs. Each figure
//! is a cost, so a ratio above one is a loss.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::{
    Bench, graph, host, load, mcp, median, output,
    submit::{self, LIMITED, Latencies},
    table::{Table, Target},
    throughput,
};
use crate::trial::{self, Trial};

/// The highest ratio that does not count as a loss.
const LIMIT: f64 = 1.10;
/// Number of processes from which one median is taken.
const PROCESSES: &str = "30";
const SUBMITTED: u32 = 200;
const UNFINISHED: usize = 10_000;
const TASKS: u32 = 1_000;
const NO_OPS: u32 = 4_000;
const GRAPH: u64 = 20_000;
const SLEEPING: usize = 200;

/// A host of one of the two binaries.
struct Side<'a> {
    bench: &'a Bench,
    binary: PathBuf,
    trial: Trial,
    round: u32,
}

impl<'a> Side<'a> {
    fn new(bench: &'a Bench, binary: &Path, slots: &str) -> Result<Self> {
        let trial = Trial::new(binary, &[("CLAUDINE_SLOTS", slots)])?;
        // The first task makes the host compile the plugins and start a supervisor.
        trial.output(["run", "--wait", "--", "true"])?;
        host::until_idle(&trial)?;
        Ok(Self {
            bench,
            binary: binary.to_owned(),
            trial,
            round: 0,
        })
    }

    fn fresh(&self, slots: &str) -> Result<Self> {
        Self::new(self.bench, &self.binary, slots)
    }
}

/// Figures that are measured together, each with its unit.
struct Comparison {
    name: &'static str,
    figures: &'static [(&'static str, &'static str)],
    slots: &'static str,
    prepare: fn(&Side) -> Result<()>,
    measure: fn(&mut Side) -> Result<Vec<f64>>,
}

const COMPARISONS: &[Comparison] = &[
    Comparison {
        name: "command",
        figures: &[
            ("claudine --version", "µs"),
            ("claudine list --limit 20, beside a host", "µs"),
            ("claudine run -- true", "µs"),
        ],
        slots: "1",
        prepare: hold_the_slot,
        measure: commands,
    },
    Comparison {
        name: "list",
        figures: &[("claudine list, beside a host", "µs")],
        slots: "1",
        prepare: a_screen_of_tasks,
        measure: |side| {
            let claudine = side.binary.display().to_string();
            let latencies = Latencies::new(side.bench, PROCESSES);
            Ok(vec![latencies.of_list(&claudine, &side.trial, &[])?])
        },
    },
    Comparison {
        name: "socket",
        figures: &[
            ("submission over the socket, one caller", "µs"),
            ("submission over the socket, 16 callers", "µs"),
        ],
        slots: "1",
        prepare: hold_the_slot,
        measure: socket,
    },
    Comparison {
        name: "tasks",
        figures: &[
            ("1,000 × true, two at a time, per task", "µs"),
            ("a chain of 200 × true, per task", "µs"),
            ("1 → 1,000 → 1 × true, per task", "µs"),
        ],
        slots: "2",
        prepare: |_| Ok(()),
        measure: tasks,
    },
    Comparison {
        name: "noop",
        figures: &[
            ("no-op, a request each by 16 callers, per task", "µs"),
            ("no-op, 500 in a request, per task", "µs"),
        ],
        slots: "64",
        prepare: |_| Ok(()),
        measure: no_ops,
    },
    Comparison {
        name: "output",
        figures: &[("283 MB of output captured", "ms")],
        slots: "2",
        prepare: |_| Ok(()),
        measure: |side| {
            // A new host for each measurement, so that the output of earlier measurements is
            // removed from the disk.
            let side = side.fresh("2")?;
            Ok(vec![output::captured(
                &side.trial,
                output::SEQ,
                output::BYTES,
            )?])
        },
    },
    Comparison {
        name: "mcp",
        figures: &[
            ("TaskStatus over MCP, 1 in flight", "µs"),
            ("TaskStatus over MCP, 16 in flight", "µs"),
        ],
        slots: "2",
        prepare: |_| Ok(()),
        measure: mcp_calls,
    },
    Comparison {
        name: "host",
        figures: &[
            ("first answer after a cold start", "ms"),
            ("memory of that host, idle", "KiB"),
        ],
        slots: "2",
        prepare: |_| Ok(()),
        measure: start,
    },
    Comparison {
        name: "unfinished",
        figures: &[
            ("first answer with 10,000 unfinished tasks", "ms"),
            ("memory of that host, idle", "KiB"),
        ],
        slots: "1",
        prepare: |side| {
            hold_the_slot(side)?;
            let request = load::request(&side.trial, "shell", &json!({ "argv": ["true"] }));
            load::submit_many(&side.trial, &request, UNFINISHED, 16).map(drop)
        },
        measure: start,
    },
    Comparison {
        name: "graph",
        figures: &[
            ("a graph of 20,000 tasks accepted", "ms"),
            ("memory of that host, per task", "KiB"),
            ("first answer of the next host", "ms"),
        ],
        slots: "1",
        prepare: |_| Ok(()),
        measure: large_graph,
    },
    Comparison {
        name: "sleeping",
        figures: &[("memory of the host for a task that sleeps", "KiB")],
        slots: "200",
        prepare: |_| Ok(()),
        measure: sleeping,
    },
];

/// Names of comparisons that can be run alone.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    COMPARISONS.iter().map(|comparison| comparison.name)
}

/// Compares the binary of `bench` with the `older` one. `wanted` names the comparisons; if it is
/// empty, all are made.
pub(super) fn compare(
    bench: Bench,
    older: &Path,
    wanted: &[&str],
    table: &mut Table,
) -> Result<()> {
    table.section(&format!(
        "{} pairs: {} against {}",
        bench.rounds,
        bench.claudine.display(),
        older.display()
    ));
    let copies = tempfile::tempdir().context("cannot make a temporary directory")?;
    let older = &copy(older, &copies.path().join("old"))?;
    let bench = &Bench {
        claudine: copy(&bench.claudine, &copies.path().join("new"))?,
        ..bench
    };
    for comparison in COMPARISONS {
        if !wanted.is_empty() && !wanted.contains(&comparison.name) {
            continue;
        }
        if let Err(error) = pairs(bench, older, comparison, table) {
            table.failed(comparison.name, &error);
        }
    }
    Ok(())
}

/// Copies a binary. How many pages of a program the kernel maps at a time depends on how its file
/// came into the page cache, and so do a host's memory and the time of its start: for the same
/// binary, by up to a sixth. Two copies that are made one after the other are cached alike.
fn copy(binary: &Path, into: &Path) -> Result<PathBuf> {
    let copied = into.join("claudine");
    fs::create_dir(into)?;
    fs::copy(binary, &copied).with_context(|| format!("cannot copy {}", binary.display()))?;
    Ok(copied)
}

/// Results of one measurement on each side: one value for each figure of the comparison.
struct Pair {
    new: Vec<f64>,
    old: Vec<f64>,
}

fn pairs(bench: &Bench, older: &Path, comparison: &Comparison, table: &mut Table) -> Result<()> {
    let mut newer = Side::new(bench, &bench.claudine, comparison.slots)?;
    let mut older = Side::new(bench, older, comparison.slots)?;
    (comparison.prepare)(&newer)?;
    (comparison.prepare)(&older)?;
    let mut pairs = Vec::new();
    for round in 0..bench.rounds {
        let pair = if round % 2 == 0 {
            let new = (comparison.measure)(&mut newer)?;
            Pair {
                new,
                old: (comparison.measure)(&mut older)?,
            }
        } else {
            let old = (comparison.measure)(&mut older)?;
            Pair {
                new: (comparison.measure)(&mut newer)?,
                old,
            }
        };
        pairs.push(pair);
    }
    let median_of = |figure: &dyn Fn(&Pair) -> f64| -> f64 {
        median(&pairs.iter().map(figure).collect::<Vec<f64>>())
    };
    for (index, (what, unit)) in comparison.figures.iter().enumerate() {
        table.pairs(
            what,
            median_of(&|pair| pair.new[index] / pair.old[index]),
            (
                median_of(&|pair| pair.new[index]),
                median_of(&|pair| pair.old[index]),
            ),
            unit,
            Target::AtMost(LIMIT),
        );
    }
    Ok(())
}

fn hold_the_slot(side: &Side) -> Result<()> {
    load::hold_slot(&side.trial, &mut side.trial.connect()?, "never").map(drop)
}

/// Submits as many finished and unfinished tasks as `list` of either binary shows at most. No
/// measurement adds to these tasks.
fn a_screen_of_tasks(side: &Side) -> Result<()> {
    let request = load::request(&side.trial, "shell", &json!({ "argv": ["true"] }));
    let finished = load::submit_many(&side.trial, &request, 19, 1)?;
    load::all_succeed(&mut side.trial.connect()?, &finished)?;
    hold_the_slot(side)?;
    load::submit_many(&side.trial, &request, 19, 1).map(drop)
}

fn commands(side: &mut Side) -> Result<Vec<f64>> {
    let latencies = Latencies::new(side.bench, PROCESSES);
    let claudine = side.binary.display().to_string();
    Ok(vec![
        latencies.of(&[&claudine, "--version"])?,
        latencies.of_list(&claudine, &side.trial, LIMITED)?,
        latencies.of_submission(&claudine, &side.trial)?,
    ])
}

fn socket(side: &mut Side) -> Result<Vec<f64>> {
    let request = load::request(&side.trial, "shell", &json!({ "argv": ["true"] }));
    Ok(vec![
        submit::one_caller(&mut side.trial.connect()?, &request, SUBMITTED)?,
        submit::sixteen_callers(&side.trial, &request, 4 * SUBMITTED)?,
    ])
}

fn tasks(side: &mut Side) -> Result<Vec<f64>> {
    side.round += 1;
    let round = side.round;
    Ok(vec![
        throughput::queued(&side.trial, TASKS, &format!("go.{round}"))?.0,
        graph::run_graph(&side.trial, &format!("chain{round}"), &graph::chain(200))?,
        graph::run_graph(&side.trial, &format!("fan{round}"), &graph::fan(TASKS))?,
    ])
}

fn no_ops(side: &mut Side) -> Result<Vec<f64>> {
    Ok(vec![
        throughput::no_ops_each_by_itself(&side.trial, NO_OPS)?.0,
        throughput::no_ops_together(&side.trial, NO_OPS)?,
    ])
}

fn mcp_calls(side: &mut Side) -> Result<Vec<f64>> {
    let claudine = side.binary.display().to_string();
    let id = mcp::finished_task(&side.trial)?;
    ["1", "16"]
        .iter()
        .map(|in_flight| {
            mcp::task_status(side.bench, &claudine, &side.trial, &id, "1000", in_flight)
        })
        .collect()
}

fn start(side: &mut Side) -> Result<Vec<f64>> {
    let took = host::cold_start(&side.trial)?;
    // Otherwise the steps that follow the start would disturb the start of the other side, and the
    // memory would depend on how many of them have ended.
    host::until_idle(&side.trial)?;
    Ok(vec![took, host::rss_kib(side.trial.host_pid()?)?])
}

fn large_graph(side: &mut Side) -> Result<Vec<f64>> {
    let side = side.fresh("1")?;
    let measured = graph::accept(&side.trial, GRAPH)?;
    Ok(vec![
        measured.taken_seconds * 1e3,
        measured.kib_a_task,
        measured.loaded_seconds * 1e3,
    ])
}

fn sleeping(side: &mut Side) -> Result<Vec<f64>> {
    let side = side.fresh(&SLEEPING.to_string())?;
    let memory = graph::kib_for_each_sleeping(&side.trial, SLEEPING)?;
    ensure!(memory > 0.0, "the host did not grow");
    for pid in side.trial.supervisor_pids()? {
        ensure!(trial::alive(pid), "the supervisor {pid} is gone");
    }
    Ok(vec![memory])
}

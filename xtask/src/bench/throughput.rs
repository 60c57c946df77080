//! Cost per task: thousands of processes that do nothing, and thousands of tasks without a process.

use std::{fs, time::Instant};

use anyhow::Result;
use serde_json::json;

use super::{
    Bench,
    breakdown::Usage,
    load, median, peers, side_by_side,
    table::{Table, Target},
};
use crate::trial::Trial;

const TASKS: u32 = 2_000;
const NO_OPS: u32 = 20_000;
const BATCH: usize = 500;
const FINISHED: usize = 100_000;
const LIMIT: &str = "posix_spawn, two in flight";

/// Measures section A1 of the table: 2,000 × `true`, two at a time.
pub(crate) fn measure(bench: &Bench, table: &mut Table) -> Result<()> {
    table.section(&format!("A1  {TASKS} × `true`, two at a time, per task"));
    let trial = Trial::new(&bench.claudine, &[("CLAUDINE_SLOTS", "2")])?;
    let mut rounds = Rounds::default();
    let limit = || bench.limit(&["spawn", &TASKS.to_string(), "2", "true"]);
    let (ours, theirs) = side_by_side(bench.rounds, || rounds.queued(&trial), limit)?;
    table.ratio(
        "queued, then run",
        ours,
        LIMIT,
        theirs,
        "µs",
        Target::AtMost(1.5),
    );
    if let Some(usage) = &rounds.last {
        usage.print(table, f64::from(TASKS));
    }
    let (ours, theirs) = side_by_side(bench.rounds, || submitted_meanwhile(&trial), limit)?;
    table.ratio(
        "submitted while they run, by one caller",
        ours,
        LIMIT,
        theirs,
        "µs",
        Target::None,
    );
    for (peer, measured) in peers::two_at_a_time(bench.rounds, TASKS)? {
        match measured {
            Some(per_task) => table.ratio(peer, per_task, LIMIT, theirs, "µs", Target::None),
            None => table.note(&format!("{peer} is not installed")),
        }
    }

    let finished = if bench.full { FINISHED } else { FINISHED / 10 };
    let ids = load::submit_many(
        &trial,
        &load::request(&trial, "mock", &json!({})),
        finished,
        16,
    )?;
    load::all_succeed(&mut trial.connect()?, &ids)?;
    let empty = Trial::new(&bench.claudine, &[("CLAUDINE_SLOTS", "2")])?;
    let mut of_empty = Rounds::default();
    let (full, empty) = side_by_side(
        bench.rounds,
        || rounds.queued(&trial),
        || of_empty.queued(&empty),
    )?;
    table.ratio(
        &format!("with {finished} finished tasks kept"),
        full,
        "the same with none kept",
        empty,
        "µs",
        Target::AtMost(1.1),
    );
    Ok(())
}

/// Rounds of the same measurement on one host.
#[derive(Default)]
struct Rounds {
    count: u32,
    last: Option<Usage>,
}

impl Rounds {
    fn queued(&mut self, trial: &Trial) -> Result<f64> {
        self.count += 1;
        let (per_task, usage) = queued(trial, TASKS, &format!("go.{}", self.count))?;
        self.last = Some(usage);
        Ok(per_task)
    }
}

/// Microseconds per task, and the processor time used. Both slots are occupied until all tasks are
/// submitted, and freed by creating the file `go`.
pub(super) fn queued(trial: &Trial, tasks: u32, go: &str) -> Result<(f64, Usage)> {
    let mut connection = trial.connect()?;
    let holders = [
        load::hold_slot(trial, &mut connection, go)?,
        load::hold_slot(trial, &mut connection, go)?,
    ];
    let ids = load::submit_many(
        trial,
        &load::request(trial, "shell", &json!({ "argv": ["true"] })),
        tasks as usize,
        8,
    )?;
    let before = Usage::now(trial)?;
    fs::write(trial.work().join(go), "")?;
    load::wait(&mut connection, &holders[0])?;
    let begin = Instant::now();
    load::all_succeed(&mut connection, &ids[ids.len() - 2..])?;
    let took = begin.elapsed().as_secs_f64();
    let usage = Usage::now(trial)?.since(&before, took);
    load::all_succeed(&mut connection, &ids)?;
    Ok((took * 1e6 / f64::from(tasks), usage))
}

fn submitted_meanwhile(trial: &Trial) -> Result<f64> {
    let request = load::request(trial, "shell", &json!({ "argv": ["true"] }));
    let mut connection = trial.connect()?;
    let begin = Instant::now();
    let ids = (0..TASKS)
        .map(|_| load::submit(&mut connection, &request))
        .collect::<Result<Vec<_>>>()?;
    load::all_succeed(&mut connection, &ids[ids.len() - 2..])?;
    let took = begin.elapsed().as_secs_f64();
    load::all_succeed(&mut connection, &ids)?;
    Ok(took * 1e6 / f64::from(TASKS))
}

/// Measures section A3 of the table: tasks that begin and end in the plugin.
pub(crate) fn measure_no_op(bench: &Bench, table: &mut Table) -> Result<()> {
    table.section("A3  no-op through the mock executor, every one durable");
    let trial = Trial::new(&bench.claudine, &[("CLAUDINE_SLOTS", "64")])?;
    let mut rates = Vec::new();
    let mut usage = None;
    for _ in 0..bench.rounds {
        let (per_task, used) = no_ops_each_by_itself(&trial, NO_OPS)?;
        rates.push(1e6 / per_task);
        usage = Some(used);
    }
    table.figure(
        "submitted by 16 callers, run and ended",
        median(&rates),
        "tasks/s",
        Target::AtLeast(10_000.0),
    );
    if let Some(usage) = usage {
        usage.print(table, f64::from(NO_OPS));
    }
    let rates = (0..bench.rounds)
        .map(|_| Ok(1e6 / no_ops_together(&trial, NO_OPS)?))
        .collect::<Result<Vec<f64>>>()?;
    table.figure(
        &format!("submitted {BATCH} at a time by one caller"),
        median(&rates),
        "tasks/s",
        Target::AtLeast(10_000.0),
    );
    Ok(())
}

/// Microseconds per task, and the processor time used: 16 callers, one request per task.
pub(super) fn no_ops_each_by_itself(trial: &Trial, tasks: u32) -> Result<(f64, Usage)> {
    let request = load::request(trial, "mock", &json!({}));
    let mut connection = trial.connect()?;
    let before = Usage::now(trial)?;
    let begin = Instant::now();
    let ids = load::submit_many(trial, &request, tasks as usize, 16)?;
    load::all_succeed(&mut connection, &ids[ids.len() - 64..])?;
    let took = begin.elapsed().as_secs_f64();
    let usage = Usage::now(trial)?.since(&before, took);
    load::all_succeed(&mut connection, &ids)?;
    Ok((took * 1e6 / f64::from(tasks), usage))
}

/// Microseconds per task: one caller, requests of [`BATCH`] tasks.
pub(super) fn no_ops_together(trial: &Trial, tasks: u32) -> Result<f64> {
    let batch = load::request_of_many(trial, "mock", &json!({}), BATCH);
    let mut connection = trial.connect()?;
    let begin = Instant::now();
    let mut ids = Vec::new();
    for _ in 0..tasks as usize / BATCH {
        ids.extend(load::submit_together(&mut connection, &batch)?);
    }
    load::all_succeed(&mut connection, &ids[ids.len() - 64..])?;
    let took = begin.elapsed().as_secs_f64();
    load::all_succeed(&mut connection, &ids)?;
    Ok(took * 1e6 / f64::from(tasks))
}

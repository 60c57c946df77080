//! Cost of dependencies: from the end of a task to the start of the next one, over a fan, and in a
//! graph of a hundred thousand tasks.

use std::{fs, time::Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{
    Bench, host, load, median, peers, side_by_side,
    table::{Table, Target},
};
use crate::{checkout, program, trial::Trial};

const CHAIN: u32 = 200;
const FAN: u32 = 1_000;
const TASKS: u64 = 100_000;
const EDGES_A_TASK: u64 = 10;
const SLEEPING: u32 = 1_000;
/// Largest size in the measurement of the board alone.
const LARGEST: &str = "1000000";

/// Measures chains and fans, a large graph, and sleeping tasks (sections B1, B2 and B4 of the
/// table).
pub(crate) fn measure(bench: &Bench, table: &mut Table) -> Result<()> {
    hops(bench, table)?;
    large(bench, table)?;
    board(table)?;
    sleeping(bench, table)
}

/// A named task of a request, with dependencies.
fn task(trial: &Trial, name: &str, spec: &Value, after: &[&str]) -> Value {
    json!({
        "name": name, "executor": "shell", "spec": spec, "working_directory": trial.work(), "dependencies": after,
    })
}

fn hops(bench: &Bench, table: &mut Table) -> Result<()> {
    table.section(&format!(
        "B1  a chain of {CHAIN} × `true`, and 1 → {FAN} → 1, per task"
    ));
    let trial = Trial::new(&bench.claudine, &[("CLAUDINE_SLOTS", "2")])?;
    for (what, count, in_flight, limit, edges) in [
        (
            "chain",
            CHAIN,
            "1",
            "posix_spawn, one in flight",
            chain as fn(u32) -> Edges,
        ),
        ("fan", FAN, "2", "posix_spawn, two in flight", fan),
    ] {
        let edges = edges(count);
        let mut round = 0;
        let (ours, theirs) = side_by_side(
            bench.rounds,
            || {
                round += 1;
                run_graph(&trial, &format!("{what}{round}"), &edges)
            },
            || bench.limit(&["spawn", &count.to_string(), in_flight, "true"]),
        )?;
        table.ratio(what, ours, limit, theirs, "µs", Target::AtMost(1.5));
        for (peer, measured) in peers::after_one_another(bench.rounds, &edges)? {
            match measured {
                Some(per_task) => table.ratio(peer, per_task, limit, theirs, "µs", Target::None),
                None => table.note(&format!("{peer} is not installed")),
            }
        }
    }
    Ok(())
}

/// For each task, the numbers of its dependencies.
pub(crate) type Edges = Vec<Vec<u32>>;

pub(super) fn chain(count: u32) -> Edges {
    (0..count)
        .map(|n| n.checked_sub(1).into_iter().collect())
        .collect()
}

/// A first task, `count` tasks after it, and a last task after all of these.
pub(super) fn fan(count: u32) -> Edges {
    let mut edges = vec![vec![]];
    edges.extend((0..count).map(|_| vec![0]));
    edges.push((1..=count).collect());
    edges
}

/// Microseconds per task, from the end of the gate, for which the first task waits, to the end of
/// the last task.
pub(super) fn run_graph(trial: &Trial, name: &str, edges: &Edges) -> Result<f64> {
    let mut connection = trial.connect()?;
    let gate = load::hold_slot(trial, &mut connection, &format!("go.{name}"))?;
    let names: Vec<String> = (0..edges.len()).map(|n| format!("{name}-{n}")).collect();
    let tasks: Vec<Value> = edges
        .iter()
        .zip(&names)
        .map(|(after, name)| {
            let mut after: Vec<&str> = after.iter().map(|n| names[*n as usize].as_str()).collect();
            if after.is_empty() {
                after.push(&gate);
            }
            task(trial, name, &json!({ "argv": ["true"] }), &after)
        })
        .collect();
    let ids = load::submit_together(&mut connection, &load::of_tasks(trial, &tasks))?;
    fs::write(trial.work().join(format!("go.{name}")), "")?;
    load::wait(&mut connection, &gate)?;
    let begin = Instant::now();
    load::all_succeed(&mut connection, &ids[ids.len() - 1..])?;
    Ok(begin.elapsed().as_secs_f64() * 1e6 / edges.len() as f64)
}

/// Measures section B2 of the table: one large request accepted, kept in memory, and loaded by the
/// next host.
fn large(bench: &Bench, table: &mut Table) -> Result<()> {
    table.section(&format!(
        "B2  a graph of {TASKS} tasks with {} edges, in one request",
        TASKS * EDGES_A_TASK
    ));
    let (mut taken, mut loaded, mut after, mut again) = (vec![], vec![], vec![], vec![]);
    for _ in 0..bench.rounds.min(3) {
        let trial = Trial::new(&bench.claudine, &[("CLAUDINE_SLOTS", "1")])?;
        let graph = accept(&trial, TASKS)?;
        taken.push(graph.taken_seconds);
        after.push(graph.kib_a_task);
        loaded.push(graph.loaded_seconds);
        again.push(graph.kib_a_task_loaded);
    }
    let mut figure = |what, figures: &[f64], unit, target| {
        table.figure(what, median(figures), unit, Target::AtMost(target));
    };
    figure("accepted, on disk", &taken, "s", 5.0);
    figure("memory of that host, per task", &after, "KiB", 1.5);
    figure("first answer of the next host", &loaded, "s", 2.0);
    figure("memory of that host, per task", &again, "KiB", 1.5);
    Ok(())
}

/// Cost of a graph for the host that accepts it, and for the next host.
pub(super) struct Accepted {
    pub(super) taken_seconds: f64,
    pub(super) kib_a_task: f64,
    pub(super) loaded_seconds: f64,
    kib_a_task_loaded: f64,
}

pub(super) fn accept(trial: &Trial, tasks: u64) -> Result<Accepted> {
    let mut connection = trial.connect()?;
    let gate = load::hold_slot(trial, &mut connection, "never")?;
    let empty = host::rss_kib(trial.host_pid()?)?;
    let a_task = |kib: f64| (kib - empty) / tasks as f64;
    let request = load::of_tasks(trial, &random_graph(trial, &gate, tasks));
    let begin = Instant::now();
    let ids = load::submit_together(&mut connection, &request)?;
    let taken_seconds = begin.elapsed().as_secs_f64();
    ensure!(
        ids.len() as u64 == tasks,
        "{} tasks were accepted",
        ids.len()
    );
    let kib_a_task = a_task(host::rss_kib(trial.host_pid()?)?);
    let loaded_seconds = host::cold_start(trial)? / 1e3;
    Ok(Accepted {
        taken_seconds,
        kib_a_task,
        loaded_seconds,
        kib_a_task_loaded: a_task(host::rss_kib(trial.host_pid()?)?),
    })
}

/// Tasks of which each depends on up to ten earlier tasks, which a fixed rule chooses.
fn random_graph(trial: &Trial, gate: &str, tasks_in_all: u64) -> Vec<Value> {
    let mut tasks = Vec::new();
    for number in 0..tasks_in_all {
        let mut after: Vec<String> = (0..EDGES_A_TASK.min(number))
            .map(|edge| {
                let scattered =
                    (number * EDGES_A_TASK + edge).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
                format!("t{}", scattered % number)
            })
            .collect();
        after.sort();
        after.dedup();
        let mut after: Vec<&str> = after.iter().map(String::as_str).collect();
        if after.is_empty() {
            after.push(gate);
        }
        let script = format!("make target-{number}");
        tasks.push(task(
            trial,
            &format!("t{number}"),
            &json!({ "argv": ["sh", "-c", script] }),
            &after,
        ));
    }
    tasks
}

/// Measures the board (the queue in memory) alone, with more and more tasks. This is section B2 of
/// the table.
fn board(table: &mut Table) -> Result<()> {
    table.section("B2  the board alone, ten edges a task");
    let mut cargo = program::cargo(["run", "--release", "--quiet"]);
    cargo.args(["--package", "claudine-domain", "--example", "graph", "--"]);
    cargo.arg(LARGEST).current_dir(checkout::root());
    let text = program::output(&mut cargo)?;
    for line in text.lines() {
        table.note(line);
    }
    let worst = text
        .lines()
        .filter_map(|line| line.rsplit_once("p99 ")?.1.split_whitespace().next())
        .map(|figure| figure.parse::<f64>().context("a number of microseconds"))
        .try_fold(0.0, |worst, p99| p99.map(|p99| f64::max(worst, p99)))?;
    ensure!(worst > 0.0, "the example printed no figure: {text:?}");
    table.figure(
        "from an end to its dependants, p99, the largest",
        worst,
        "µs",
        Target::AtMost(100.0),
    );
    Ok(())
}

/// Measures section B4 of the table: a thousand sleeping tasks.
fn sleeping(bench: &Bench, table: &mut Table) -> Result<()> {
    table.section(&format!("B4  {SLEEPING} tasks that sleep at once"));
    let trial = Trial::new(
        &bench.claudine,
        &[("CLAUDINE_SLOTS", &SLEEPING.to_string())],
    )?;
    let memory = kib_for_each_sleeping(&trial, SLEEPING as usize)?;
    table.figure(
        "memory of the host for each (proportional set)",
        memory,
        "KiB",
        Target::AtMost(100.0),
    );
    Ok(())
}

/// Memory that the host needs for each of `count` sleeping tasks.
pub(super) fn kib_for_each_sleeping(trial: &Trial, count: usize) -> Result<f64> {
    let mut connection = trial.connect()?;
    load::wait(
        &mut connection,
        &load::submit(
            &mut trial.connect()?,
            &load::request(trial, "shell", &json!({ "argv": ["true"] })),
        )?,
    )?;
    let empty = host::pss_kib(trial.host_pid()?)?;
    let sleep = load::request(trial, "shell", &json!({ "argv": ["sleep", "3600"] }));
    for id in load::submit_many(trial, &sleep, count, 16)? {
        crate::trial::until("all tasks to sleep", || {
            let path = format!("/v1/tasks/{id}");
            let (_, task) = connection.ask("GET", &path, None).ok()?;
            (task["phase"] == "live").then_some(())
        })?;
    }
    // All guests share the pages of the plugin. Proportional memory (PSS) counts these pages once,
    // not once per guest.
    let full = host::pss_kib(trial.host_pid()?)?;
    Ok((full - empty) / count as f64)
}

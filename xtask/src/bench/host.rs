//! Cost of an idle host, and the time of its start.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use serde_json::json;

use super::{
    Bench, load, median,
    peers::Pueue,
    table::{Table, Target},
};
use crate::trial::Trial;

const UNFINISHED: usize = 10_000;
const IDLE: Duration = Duration::from_secs(10);

/// Measures section A4 of the table: cold start, idle memory, idle wake-ups.
pub(crate) fn measure(bench: &Bench, table: &mut Table) -> Result<()> {
    table.section("A4  the host");
    let trial = Trial::new(&bench.claudine, &[("CLAUDINE_SLOTS", "2")])?;
    // The first host that starts compiles the plugins. Later hosts need not.
    trial.output(["list"])?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let mut pueue_kib = None;
    for _ in 0..bench.rounds {
        ours.push(cold_start(&trial)?);
        if let Some(pueue) = Pueue::start()? {
            theirs.push(pueue.first_answer_ms);
            pueue_kib = Some(rss_kib(pueue.pid())?);
        }
    }
    if theirs.is_empty() {
        table.figure(
            "first answer after a cold start",
            median(&ours),
            "ms",
            Target::None,
        );
        table.note("pueue is not installed (`cargo install pueue`)");
    } else {
        table.ratio(
            "first answer after a cold start",
            median(&ours),
            "pueued's",
            median(&theirs),
            "ms",
            Target::AtMost(1.0),
        );
    }
    idle(&trial, pueue_kib, table)?;

    let mut connection = trial.connect()?;
    for _ in 0..2 {
        load::hold_slot(&trial, &mut connection, "never")?;
    }
    load::submit_many(
        &trial,
        &load::request(&trial, "shell", &json!({ "argv": ["true"] })),
        UNFINISHED,
        16,
    )?;
    let times = (0..bench.rounds)
        .map(|_| cold_start(&trial))
        .collect::<Result<Vec<f64>>>()?;
    table.figure(
        &format!("first answer with {UNFINISHED} unfinished tasks"),
        median(&times),
        "ms",
        Target::AtMost(1000.0),
    );
    until_idle(&trial)?;
    table.figure(
        "memory of that host, idle",
        rss_kib(trial.host_pid()?)? / 1024.0,
        "MiB",
        Target::None,
    );
    Ok(())
}

/// Milliseconds that `up` takes if no host runs; `up` ends with the host's first answer.
pub(super) fn cold_start(trial: &Trial) -> Result<f64> {
    trial.output(["down"])?;
    let begin = Instant::now();
    trial.output(["up"])?;
    Ok(begin.elapsed().as_secs_f64() * 1e3)
}

/// Time without work after which a host counts as idle, and the processor time that an idle host
/// may use in it.
const SETTLED: (Duration, f64) = (Duration::from_millis(200), 0.002);

/// Waits until the host has no more work. The first host in a data directory compiles the plugins
/// in processes below it, which would be measured as a part of everything else.
pub(super) fn until_idle(trial: &Trial) -> Result<()> {
    let (pause, at_most) = SETTLED;
    let pid = trial.host_pid()?;
    let mut before = on_a_processor(pid)?;
    crate::trial::until("the host to be idle", || {
        thread::sleep(pause);
        let now = on_a_processor(pid).ok()?;
        let used = now - std::mem::replace(&mut before, now);
        let runs_others = has_other_children(trial, pid).ok()?;
        (used <= at_most && !runs_others).then_some(())
    })
}

/// Whether the host has child processes that are not supervisors.
fn has_other_children(trial: &Trial, pid: u32) -> Result<bool> {
    let supervisors = trial.supervisor_pids()?;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let children = fs::read_to_string(thread?.path().join("children"))?;
        for child in children.split_whitespace() {
            if !supervisors.contains(&child.parse()?) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Seconds that the process's threads were on a processor. The scheduler's figure is used because
/// an idle host uses less than a clock tick.
fn on_a_processor(pid: u32) -> Result<f64> {
    let mut nanoseconds = 0.0;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = fs::read_to_string(thread?.path().join("schedstat"))?;
        let first = text.split(' ').next().context("a figure")?;
        nanoseconds += first.parse::<f64>()?;
    }
    Ok(nanoseconds / 1e9)
}

fn idle(trial: &Trial, pueue_kib: Option<f64>, table: &mut Table) -> Result<()> {
    // This task makes the host start a supervisor.
    trial.output(["run", "--wait", "--", "true"])?;
    let pids = [vec![trial.host_pid()?], trial.supervisor_pids()?].concat();
    let wake_ups = || {
        pids.iter()
            .map(|pid| voluntary_switches(*pid))
            .sum::<Result<f64>>()
    };
    let processor = || {
        pids.iter()
            .map(|pid| on_a_processor(*pid))
            .sum::<Result<f64>>()
    };
    let before = (wake_ups()?, processor()?);
    thread::sleep(IDLE);
    let after = (wake_ups()?, processor()?);
    table.figure(
        "idle wake-ups of host and supervisor",
        (after.0 - before.0) / IDLE.as_secs_f64(),
        "a second",
        Target::AtMost(5.0),
    );
    table.figure(
        "processor time in ten idle seconds",
        (after.1 - before.1) * 1e3,
        "ms",
        Target::AtMost(10.0),
    );
    let host = rss_kib(pids[0])? / 1024.0;
    match pueue_kib {
        Some(theirs) => table.ratio(
            "idle memory of the host",
            host,
            "pueued's",
            theirs / 1024.0,
            "MiB",
            Target::AtMost(0.7),
        ),
        None => table.figure("idle memory of the host", host, "MiB", Target::None),
    }
    for pid in &pids[1..] {
        table.figure(
            "idle memory of the supervisor",
            rss_kib(*pid)? / 1024.0,
            "MiB",
            Target::None,
        );
    }
    Ok(())
}

/// A number from a `status` file of `/proc`.
fn status_field(path: &str, field: &str) -> Result<f64> {
    let status = fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(field))
        .with_context(|| format!("no {field} in {path}"))?;
    let number = line
        .trim_start_matches(':')
        .split_whitespace()
        .next()
        .context("a number")?;
    Ok(number.parse()?)
}

pub(crate) fn rss_kib(pid: u32) -> Result<f64> {
    status_field(&format!("/proc/{pid}/status"), "VmRSS")
}

/// The part of the resident memory that is not mapped from files. The other part is pages of the
/// binary and of the database, which the system takes back when it needs memory.
pub(crate) fn anonymous_kib(pid: u32) -> Result<f64> {
    status_field(&format!("/proc/{pid}/status"), "RssAnon")
}

/// Proportional memory: the size of a shared page is divided by the number of processes that share
/// the page.
pub(crate) fn pss_kib(pid: u32) -> Result<f64> {
    status_field(&format!("/proc/{pid}/smaps_rollup"), "Pss")
}

/// Peak memory of a process.
pub(crate) fn peak_kib(pid: u32) -> Result<f64> {
    status_field(&format!("/proc/{pid}/status"), "VmHWM")
}

/// Number of times that the process's threads went to sleep, and so were woken. Preemption is not a
/// wake-up.
fn voluntary_switches(pid: u32) -> Result<f64> {
    let mut sum = 0.0;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let status = thread?.path().join("status");
        sum += status_field(&status.display().to_string(), "voluntary_ctxt_switches")?;
    }
    Ok(sum)
}

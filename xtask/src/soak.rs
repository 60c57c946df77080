//! `cargo xtask soak`: runs mixed load for a given time, and shows whether anything grows. The
//! first quarter of the time is warm-up, and its samples are left out.

use std::{
    fs,
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use serde_json::json;

use crate::{
    bench::{anonymous_kib, load, rss_kib},
    build,
    trial::Trial,
};

const MINUTES: u64 = 60;
const BETWEEN_SAMPLES: Duration = Duration::from_secs(10);

/// Values sampled every ten seconds.
#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Duration,
    host_kib: f64,
    /// The part of `host_kib` that is not mapped from files.
    anonymous_kib: f64,
    supervisor_kib: f64,
    descriptors: usize,
    threads: usize,
    processes: usize,
}

pub(crate) fn run(arguments: &[&str]) -> Result<()> {
    let minutes = match arguments {
        [] => MINUTES,
        ["--minutes", minutes] => minutes.parse().context("--minutes takes a number")?,
        other => bail!(
            "unknown argument `{}`: `cargo xtask soak [--minutes N]`",
            other.join(" ")
        ),
    };
    let binary = build::ready()?;
    let trial = Trial::new(
        &binary,
        &[
            ("CLAUDINE_SLOTS", "4"),
            ("CLAUDINE_BIN", &binary.display().to_string()),
        ],
    )?;
    trial.output(["up"])?;
    let stop = AtomicBool::new(false);
    let done = AtomicU64::new(0);
    let samples = thread::scope(|scope| {
        let workers: Vec<_> = LOADS
            .iter()
            .map(|load| scope.spawn(|| work(&trial, *load, &stop, &done)))
            .collect();
        let samples = watch(&trial, Duration::from_secs(minutes * 60), &done);
        stop.store(true, Ordering::Relaxed);
        for worker in workers {
            worker
                .join()
                .map_err(|_| anyhow::anyhow!("a load panicked"))??;
        }
        samples
    })?;
    report(&samples, done.load(Ordering::Relaxed))
}

type Load = fn(&Trial, u64) -> Result<()>;

const LOADS: &[Load] = &[
    short_commands,
    output_and_logs,
    failures_and_retries,
    cancels,
    no_ops,
    nested,
];

fn work(trial: &Trial, load: Load, stop: &AtomicBool, done: &AtomicU64) -> Result<()> {
    let mut round = 0;
    while !stop.load(Ordering::Relaxed) {
        load(trial, round)?;
        round += 1;
        done.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

fn short_commands(trial: &Trial, _: u64) -> Result<()> {
    trial.output(["run", "--wait", "--", "true"]).map(drop)
}

fn output_and_logs(trial: &Trial, round: u64) -> Result<()> {
    let id = trial.output([
        "run",
        "--script",
        "seq 1 20000; sleep 0.2; echo the end >&2",
    ])?;
    let log = trial.output([
        "logs",
        &id,
        if round.is_multiple_of(2) {
            "--follow"
        } else {
            "--tail=5"
        },
    ])?;
    anyhow::ensure!(
        !round.is_multiple_of(2) || log.contains("20000"),
        "{id}: a log is incomplete"
    );
    quiet(trial.command(["wait", &id]))
}

fn failures_and_retries(trial: &Trial, _: u64) -> Result<()> {
    let id = trial.output(["run", "--script", "sleep 0.1; exit 3"])?;
    quiet(trial.command(["wait", &id]))?;
    trial.output(["retry", &id])?;
    quiet(trial.command(["wait", &id]))
}

fn cancels(trial: &Trial, round: u64) -> Result<()> {
    let id = trial.output([
        "run",
        "--script",
        "setsid sleep 60 & (trap '' TERM; exec sleep 60) & exec sleep 60",
    ])?;
    if round.is_multiple_of(2) {
        crate::trial::until("a task to run", || {
            let task = trial.json(["status", &id, "--json"]).ok()?;
            (task["phase"] == "live").then_some(())
        })?;
    }
    trial.output(["cancel", &id])?;
    quiet(trial.command(["wait", &id]))
}

fn no_ops(trial: &Trial, _: u64) -> Result<()> {
    let ids = load::submit_many(trial, &load::request(trial, "mock", &json!({})), 50, 4)?;
    load::all_succeed(&mut trial.connect()?, &ids)
}

fn nested(trial: &Trial, _: u64) -> Result<()> {
    trial
        .output([
            "run",
            "--wait",
            "--script",
            "\"$CLAUDINE_BIN\" run --wait -- sleep 0.1",
        ])
        .map(drop)
}

/// Runs a command without showing its output. The command's exit code is ignored, because it is the
/// exit code of a task, and some tasks fail on purpose.
fn quiet(mut command: Command) -> Result<()> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()?;
    Ok(())
}

fn watch(trial: &Trial, length: Duration, done: &AtomicU64) -> Result<Vec<Sample>> {
    let begin = Instant::now();
    let mut samples = Vec::new();
    println!(
        "{:>8} {:>10} {:>10} {:>14} {:>6} {:>8} {:>6} {:>8}",
        "seconds", "host KiB", "anonymous", "supervisor KiB", "fds", "threads", "procs", "rounds"
    );
    while begin.elapsed() < length {
        thread::sleep(BETWEEN_SAMPLES);
        let sample = sample(trial, begin.elapsed())?;
        println!(
            "{:>8} {:>10.0} {:>10.0} {:>14.0} {:>6} {:>8} {:>6} {:>8}",
            sample.at.as_secs(),
            sample.host_kib,
            sample.anonymous_kib,
            sample.supervisor_kib,
            sample.descriptors,
            sample.threads,
            sample.processes,
            done.load(Ordering::Relaxed)
        );
        samples.push(sample);
    }
    Ok(samples)
}

fn sample(trial: &Trial, at: Duration) -> Result<Sample> {
    let host = trial.host_pid()?;
    let supervisors = trial.supervisor_pids()?;
    let count = |what: &str| -> Result<usize> {
        let entries = |pid: &u32| Ok(fs::read_dir(format!("/proc/{pid}/{what}"))?.count());
        supervisors.iter().chain([&host]).map(entries).sum()
    };
    Ok(Sample {
        at,
        host_kib: rss_kib(host)?,
        anonymous_kib: anonymous_kib(host)?,
        supervisor_kib: supervisors
            .iter()
            .map(|pid| rss_kib(*pid))
            .sum::<Result<f64>>()?,
        descriptors: count("fd")?,
        threads: count("task")?,
        processes: trial.processes().len(),
    })
}

fn report(samples: &[Sample], rounds: u64) -> Result<()> {
    let kept: Vec<&Sample> = samples.iter().skip(samples.len() / 4).collect();
    let (Some(first), Some(last)) = (kept.first(), kept.last()) else {
        bail!("the run was too short for a result")
    };
    let minutes = last.at.saturating_sub(first.at).as_secs_f64() / 60.0;
    println!(
        "\n{rounds} rounds; the last {minutes:.0} minutes, of {} samples:",
        kept.len()
    );
    println!(
        "  memory of the host:       {:+.2} MiB an hour",
        slope(&kept, |sample| sample.host_kib) / 1024.0
    );
    println!(
        "    of it not from files:   {:+.2} MiB an hour",
        slope(&kept, |sample| sample.anonymous_kib) / 1024.0
    );
    println!(
        "  memory of the supervisor: {:+.2} MiB an hour",
        slope(&kept, |sample| sample.supervisor_kib) / 1024.0
    );
    // A single sample shows little, because tasks begin and end all the time. So the minima of the
    // first and the last sixth of the samples are compared.
    let sixth = (kept.len() / 6).max(1);
    let least = |samples: &[&Sample], of: fn(&Sample) -> usize| {
        samples.iter().map(|sample| of(sample)).min().unwrap_or(0)
    };
    for (name, of) in [
        ("descriptors", (|s| s.descriptors) as fn(&Sample) -> usize),
        ("threads", |s| s.threads),
        ("processes", |s| s.processes),
    ] {
        println!(
            "  {name}: at least {} at the beginning, {} at the end",
            least(&kept[..sixth], of),
            least(&kept[kept.len() - sixth..], of)
        );
    }
    Ok(())
}

/// Slope of the least-squares line through the samples, per hour.
fn slope(samples: &[&Sample], of: fn(&Sample) -> f64) -> f64 {
    let hours = |sample: &Sample| sample.at.as_secs_f64() / 3600.0;
    let n = samples.iter().map(|_| 1.0).sum::<f64>();
    let mean_x = samples.iter().map(|sample| hours(sample)).sum::<f64>() / n;
    let mean_y = samples.iter().map(|sample| of(sample)).sum::<f64>() / n;
    let over = samples
        .iter()
        .map(|sample| (hours(sample) - mean_x) * (of(sample) - mean_y))
        .sum::<f64>();
    over / samples
        .iter()
        .map(|sample| (hours(sample) - mean_x).powi(2))
        .sum::<f64>()
}

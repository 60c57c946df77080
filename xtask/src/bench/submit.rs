//! Time until a submitted task is accepted.

use std::time::Instant;

use anyhow::Result;
use serde_json::json;

use super::{
    Bench, load, median,
    peers::Pueue,
    side_by_side,
    table::{Table, Target},
};
use crate::{http::Connection, trial::Trial};

const CALLS: u32 = 500;
const PROCESSES: &str = "100";
const QUEUED: usize = 10_000;
/// Limits a list, so that tasks that other measurements have left do not add to its time.
pub(super) const LIMITED: &[&str] = &["--limit", "20"];

/// Measures section A2 of the table: the command line and the socket.
pub(crate) fn measure(bench: &Bench, table: &mut Table) -> Result<()> {
    table.section("A2  submission, median");
    let claudine = bench.claudine.display().to_string();
    let latencies = Latencies::new(bench, PROCESSES);
    let nothing = || latencies.of(&["true"]);
    let (version, true_) = side_by_side(
        bench.rounds,
        || latencies.of(&[&claudine, "--version"]),
        nothing,
    )?;
    table.ratio(
        "claudine --version",
        version,
        "true",
        true_,
        "µs",
        Target::AtMost(2.0),
    );

    let trial = busy(bench)?;
    for (what, options) in [
        ("claudine list, beside a host", &[][..]),
        ("claudine list --limit 20, beside a host", LIMITED),
    ] {
        let median = latencies.of_list(&claudine, &trial, options)? / 1e3;
        table.figure(what, median, "ms", Target::AtMost(5.0));
    }
    let run = || latencies.of_submission(&claudine, &trial);
    let (submission, true_) = side_by_side(bench.rounds, run, nothing)?;
    table.ratio(
        "claudine run -- true",
        submission,
        "true",
        true_,
        "µs",
        Target::AtMost(2.5),
    );
    match Pueue::start()? {
        Some(pueue) => {
            let config = pueue.config();
            let add = ["pueue", "--config", &config, "add", "--stashed", "true"];
            let (ours, theirs) = side_by_side(bench.rounds, run, || latencies.of(&add))?;
            table.ratio(
                "claudine run -- true",
                ours,
                "pueue add",
                theirs,
                "µs",
                Target::AtMost(0.5),
            );
        }
        None => table.note("pueue is not installed (`cargo install pueue`)"),
    }

    over_the_socket(bench, table, &trial)?;

    load::submit_many(
        &trial,
        &load::request(&trial, "shell", &json!({ "argv": ["true"] })),
        QUEUED,
        16,
    )?;
    let empty = busy(bench)?;
    let run_empty = || latencies.of_submission(&claudine, &empty);
    let (full, empty) = side_by_side(bench.rounds, run, run_empty)?;
    table.ratio(
        &format!("claudine run -- true, with {QUEUED} queued"),
        full,
        "the same with few queued",
        empty,
        "µs",
        Target::AtMost(1.1),
    );
    Ok(())
}

/// Times from the start of a process to its end.
pub(super) struct Latencies<'a> {
    bench: &'a Bench,
    /// Number of processes from which one median is taken.
    processes: &'a str,
}

impl<'a> Latencies<'a> {
    pub(super) fn new(bench: &'a Bench, processes: &'a str) -> Self {
        Self { bench, processes }
    }

    /// The median in microseconds.
    pub(super) fn of(&self, command: &[&str]) -> Result<f64> {
        self.bench
            .limit(&[&["latency", self.processes], command].concat())
    }

    pub(super) fn of_list(&self, claudine: &str, trial: &Trial, options: &[&str]) -> Result<f64> {
        let data_dir = trial.data_dir().display().to_string();
        let list = [claudine, "--data-dir", &data_dir, "list"];
        self.of(&[&list[..], options].concat())
    }

    pub(super) fn of_submission(&self, claudine: &str, trial: &Trial) -> Result<f64> {
        let data_dir = trial.data_dir().display().to_string();
        self.of(&[claudine, "--data-dir", &data_dir, "run", "--", "true"])
    }
}

/// Microseconds per submission, the median of `calls`.
pub(super) fn one_caller(connection: &mut Connection, request: &str, calls: u32) -> Result<f64> {
    let mut times = Vec::new();
    for _ in 0..calls {
        let begin = Instant::now();
        load::submit(connection, request)?;
        times.push(begin.elapsed().as_secs_f64() * 1e6);
    }
    Ok(median(&times))
}

/// Microseconds per submission, over all `calls` of 16 callers.
pub(super) fn sixteen_callers(trial: &Trial, request: &str, calls: u32) -> Result<f64> {
    let begin = Instant::now();
    load::submit_many(trial, request, calls as usize, 16)?;
    Ok(begin.elapsed().as_secs_f64() * 1e6 / f64::from(calls))
}

/// A host whose only slot is occupied: submitted tasks stay queued, and so take no processor time
/// from the submitter.
fn busy(bench: &Bench) -> Result<Trial> {
    let trial = Trial::new(&bench.claudine, &[("CLAUDINE_SLOTS", "1")])?;
    load::hold_slot(&trial, &mut trial.connect()?, "never")?;
    Ok(trial)
}

fn over_the_socket(bench: &Bench, table: &mut Table, trial: &Trial) -> Result<()> {
    let request = load::request(trial, "shell", &json!({ "argv": ["true"] }));
    let mut connection = trial.connect()?;
    let dir = trial.root().display().to_string();
    let (one, echo) = side_by_side(
        bench.rounds,
        || one_caller(&mut connection, &request, CALLS),
        || bench.limit(&["echo", &CALLS.to_string(), &dir]),
    )?;
    table.ratio(
        "over the socket, one caller",
        one,
        "socket echo + fdatasync",
        echo,
        "µs",
        Target::AtMost(1.5),
    );

    let together = (0..bench.rounds)
        .map(|_| sixteen_callers(trial, &request, 4 * CALLS))
        .collect::<Result<Vec<f64>>>()?;
    table.figure(
        "rate of 16 callers, relative to one",
        one / median(&together),
        "×",
        Target::AtLeast(6.0),
    );
    Ok(())
}

//! How long it takes until a task is taken on.

use std::time::Instant;

use anyhow::Result;
use serde_json::json;

use super::{
    Bench, load, median,
    peers::Pueue,
    side_by_side,
    table::{Table, Target},
};
use crate::trial::Trial;

const CALLS: u32 = 500;
const PROCESSES: &str = "100";
const QUEUED: usize = 10_000;

/// A2: the command line and the socket.
pub(crate) fn measure(bench: &Bench, table: &mut Table) -> Result<()> {
    table.section("A2  submission, median");
    let claudine = bench.claudine.display().to_string();
    let latency = |command: &[&str]| bench.limit(&[&["latency", PROCESSES], command].concat());
    let (version, nothing) = side_by_side(
        bench.rounds,
        || latency(&[&claudine, "--version"]),
        || latency(&["true"]),
    )?;
    table.ratio(
        "claudine --version",
        version,
        "true",
        nothing,
        "µs",
        Target::AtMost(2.0),
    );

    let trial = busy(bench)?;
    let data_dir = trial.data_dir().display().to_string();
    let run = [
        claudine.as_str(),
        "--data-dir",
        &data_dir,
        "run",
        "--",
        "true",
    ];
    let (submission, nothing) =
        side_by_side(bench.rounds, || latency(&run), || latency(&["true"]))?;
    table.ratio(
        "claudine run -- true",
        submission,
        "true",
        nothing,
        "µs",
        Target::AtMost(2.5),
    );
    match Pueue::start()? {
        Some(pueue) => {
            let config = pueue.config();
            let add = ["pueue", "--config", &config, "add", "--stashed", "true"];
            let (ours, theirs) = side_by_side(bench.rounds, || latency(&run), || latency(&add))?;
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
    let empty_dir = empty.data_dir().display().to_string();
    let run_empty = [
        claudine.as_str(),
        "--data-dir",
        &empty_dir,
        "run",
        "--",
        "true",
    ];
    let (full, empty) = side_by_side(bench.rounds, || latency(&run), || latency(&run_empty))?;
    table.ratio(
        &format!("claudine run -- true, with {QUEUED} queued"),
        full,
        "itself with few",
        empty,
        "µs",
        Target::AtMost(1.1),
    );
    Ok(())
}

/// A host whose only slot is held, so that what is submitted stays queued and takes no time from who submits.
fn busy(bench: &Bench) -> Result<Trial> {
    let trial = Trial::new(&bench.claudine, &[("CLAUDINE_SLOTS", "1")])?;
    load::hold_slot(&trial, &mut trial.connect()?, "never")?;
    Ok(trial)
}

fn over_the_socket(bench: &Bench, table: &mut Table, trial: &Trial) -> Result<()> {
    let request = load::request(trial, "shell", &json!({ "argv": ["true"] }));
    let mut connection = trial.connect()?;
    let one_caller = || {
        let mut times = Vec::new();
        for _ in 0..CALLS {
            let begin = Instant::now();
            load::submit(&mut connection, &request)?;
            times.push(begin.elapsed().as_secs_f64() * 1e6);
        }
        Ok(median(&times))
    };
    let dir = trial.root().display().to_string();
    let (one, echo) = side_by_side(bench.rounds, one_caller, || {
        bench.limit(&["echo", &CALLS.to_string(), &dir])
    })?;
    table.ratio(
        "over the socket, one caller",
        one,
        "socket echo + fdatasync",
        echo,
        "µs",
        Target::AtMost(1.5),
    );

    let mut together = Vec::new();
    for _ in 0..bench.rounds {
        let begin = Instant::now();
        load::submit_many(trial, &request, 4 * CALLS as usize, 16)?;
        together.push(begin.elapsed().as_secs_f64() * 1e6 / f64::from(4 * CALLS));
    }
    table.figure(
        "rate of 16 callers, in times that of one",
        one / median(&together),
        "×",
        Target::AtLeast(6.0),
    );
    Ok(())
}

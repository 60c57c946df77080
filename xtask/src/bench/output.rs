//! Output by the gigabyte.

use std::{
    fs::{self, File},
    io::{BufWriter, Write},
    path::Path,
    process::Stdio,
    time::Instant,
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{
    Bench,
    host::{peak_kib, rss_kib},
    load, side_by_side,
    table::{Table, Target},
};
use crate::{program, trial::Trial};

pub(super) const BYTES: u64 = 283_000_000;
const MANY_BYTES: u64 = 10_000_000_000;
/// Writes 283 MB.
pub(super) const SEQ: &[&str] = &["seq", "1", "32680000"];
const CAT: &[&str] = &["cat", "big"];

/// Measures section A5 of the table: captured output against redirected output.
pub(crate) fn measure(bench: &Bench, table: &mut Table) -> Result<()> {
    table.section("A5  output captured");
    let trial = Trial::new(&bench.claudine, &[("CLAUDINE_SLOTS", "2")])?;
    let work = trial.work();
    write_lines(&work.join("big"), 1_000_000)?;
    // This first run does all one-time work, so that the memory for it does not count in the growth
    // below.
    captured(&trial, CAT, BYTES)?;
    write_lines(&work.join("big"), BYTES)?;
    let pids = [vec![trial.host_pid()?], trial.supervisor_pids()?].concat();
    let before = pids
        .iter()
        .map(|pid| rss_kib(*pid))
        .collect::<Result<Vec<f64>>>()?;
    let rows = [
        ("283 MB from `seq`", SEQ, "seq > file", Target::AtMost(1.0)),
        // If the output of `cat` is a file, `cat` has the kernel copy the data and writes nothing
        // itself, which is less work.
        ("283 MB through `cat`", CAT, "cat > file", Target::None),
    ];
    for (name, argv, redirect, target) in rows {
        let (ours, theirs) = side_by_side(
            bench.rounds,
            || captured(&trial, argv, BYTES),
            || redirected(&work, argv),
        )?;
        table.ratio(name, ours, redirect, theirs, "ms", target);
    }
    growth(table, &pids, &before)?;
    if bench.full {
        write_lines(&work.join("big"), MANY_BYTES)?;
        let (ours, theirs) = side_by_side(
            1,
            || captured(&trial, CAT, MANY_BYTES),
            || redirected(&work, CAT),
        )?;
        table.ratio(
            "10 GB through `cat`",
            ours,
            "cat > file",
            theirs,
            "ms",
            Target::None,
        );
        growth(table, &pids, &before)?;
    } else {
        table.note("10 GB: only with --full");
    }
    Ok(())
}

fn growth(table: &mut Table, pids: &[u32], before: &[f64]) -> Result<()> {
    for (name, (pid, before)) in ["host", "supervisor"].iter().zip(pids.iter().zip(before)) {
        let grown = (peak_kib(*pid)? - before).max(0.0) / 1024.0;
        table.figure(
            &format!("memory of the {name} grew by at most"),
            grown,
            "MiB",
            Target::AtMost(5.0),
        );
    }
    Ok(())
}

fn write_lines(path: &Path, bytes: u64) -> Result<()> {
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    let line = [b"0123456789abcdef".repeat(6), b"xyz\n".to_vec()].concat();
    for _ in 0..bytes / line.len() as u64 {
        file.write_all(&line)?;
    }
    file.flush()?;
    file.get_ref().sync_all()?;
    Ok(())
}

/// Milliseconds from the submission to the end.
pub(super) fn captured(trial: &Trial, argv: &[&str], bytes: u64) -> Result<f64> {
    let mut connection = trial.connect()?;
    let request = load::request(trial, "shell", &json!({ "argv": argv }));
    let mut request: Value = serde_json::from_str(&request)?;
    request["tasks"][0]["max_output_bytes"] = json!(bytes * 2);
    let begin = Instant::now();
    let id = load::submit(&mut connection, &request.to_string())?;
    let task = load::wait(&mut connection, &id)?;
    let took = begin.elapsed().as_secs_f64() * 1e3;
    ensure!(task["outcome"] == "succeeded", "{task:#}");
    Ok(took)
}

fn redirected(work: &Path, argv: &[&str]) -> Result<f64> {
    let copy = work.join("copy");
    let begin = Instant::now();
    let (program, arguments) = argv.split_first().context("no command")?;
    let mut writer = program::command(program, arguments);
    let status = writer
        .current_dir(work)
        .stdout(Stdio::from(File::create(&copy)?))
        .status()
        .with_context(|| format!("cannot run {program}"))?;
    let took = begin.elapsed().as_secs_f64() * 1e3;
    ensure!(status.success(), "{program} failed");
    fs::remove_file(copy)?;
    Ok(took)
}

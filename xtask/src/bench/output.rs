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

const BYTES: u64 = 283_000_000;
const MANY_BYTES: u64 = 10_000_000_000;

/// A5: output that is captured, against output that is redirected.
pub(crate) fn measure(bench: &Bench, table: &mut Table) -> Result<()> {
    table.section("A5  output captured");
    let trial = Trial::new(&bench.claudine, &[("CLAUDINE_SLOTS", "2")])?;
    let work = trial.work();
    write_lines(&work.join("big"), 1_000_000)?;
    // Whatever is done once is done before memory is looked at.
    captured(&trial, BYTES)?;
    write_lines(&work.join("big"), BYTES)?;
    let pids = [vec![trial.host_pid()?], trial.supervisor_pids()?].concat();
    let before = pids
        .iter()
        .map(|pid| rss_kib(*pid))
        .collect::<Result<Vec<f64>>>()?;
    let (ours, theirs) = side_by_side(
        bench.rounds,
        || captured(&trial, BYTES),
        || redirected(&work),
    )?;
    table.ratio(
        "283 MB through `cat`",
        ours,
        "cat > file",
        theirs,
        "ms",
        Target::AtMost(1.0),
    );
    growth(table, &pids, &before)?;
    if bench.full {
        write_lines(&work.join("big"), MANY_BYTES)?;
        let (ours, theirs) =
            side_by_side(1, || captured(&trial, MANY_BYTES), || redirected(&work))?;
        table.ratio(
            "10 GB through `cat`",
            ours,
            "cat > file",
            theirs,
            "ms",
            Target::AtMost(1.0),
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
fn captured(trial: &Trial, bytes: u64) -> Result<f64> {
    let mut connection = trial.connect()?;
    let request = load::request(trial, "shell", &json!({ "argv": ["cat", "big"] }));
    let mut request: Value = serde_json::from_str(&request)?;
    request["max_output_bytes"] = json!(bytes * 2);
    let begin = Instant::now();
    let id = load::submit(&mut connection, &request.to_string())?;
    let task = load::wait(&mut connection, &id)?;
    let took = begin.elapsed().as_secs_f64() * 1e3;
    ensure!(task["outcome"] == "succeeded", "{task:#}");
    Ok(took)
}

fn redirected(work: &Path) -> Result<f64> {
    let copy = work.join("copy");
    let begin = Instant::now();
    let mut cat = program::command("cat", ["big"]);
    let status = cat
        .current_dir(work)
        .stdout(Stdio::from(File::create(&copy)?))
        .status()
        .context("cannot run cat")?;
    let took = begin.elapsed().as_secs_f64() * 1e3;
    ensure!(status.success(), "cat failed");
    fs::remove_file(copy)?;
    Ok(took)
}

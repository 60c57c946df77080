//! Cost of an agent's tool call.

use anyhow::Result;
use serde_json::json;

use super::{
    Bench, load, side_by_side,
    table::{Table, Target},
};
use crate::trial::Trial;

const CALLS: &str = "3000";

/// Measures section A6 of the table: `tools/call` over standard input and output.
pub(crate) fn measure(bench: &Bench, table: &mut Table) -> Result<()> {
    table.section("A6  MCP over stdio, per call");
    let trial = Trial::new(&bench.claudine, &[("CLAUDINE_SLOTS", "2")])?;
    let id = finished_task(&trial)?;
    let claudine = bench.claudine.display().to_string();
    let bare = bench.bare_mcp.display().to_string();
    for in_flight in ["1", "16"] {
        let ours = || task_status(bench, &claudine, &trial, &id, CALLS, in_flight);
        let theirs = || bench.limit(&["mcp", CALLS, in_flight, "say", "{}", &bare]);
        let (ours, theirs) = side_by_side(bench.rounds, ours, theirs)?;
        table.ratio(
            &format!("TaskStatus, {in_flight} in flight"),
            ours,
            "a bare rmcp server",
            theirs,
            "µs",
            Target::AtMost(1.5),
        );
    }
    Ok(())
}

pub(super) fn finished_task(trial: &Trial) -> Result<String> {
    let mut connection = trial.connect()?;
    let request = load::request(trial, "shell", &json!({ "argv": ["true"] }));
    let id = load::submit(&mut connection, &request)?;
    load::wait(&mut connection, &id)?;
    Ok(id)
}

/// Microseconds per call.
pub(super) fn task_status(
    bench: &Bench,
    claudine: &str,
    trial: &Trial,
    id: &str,
    calls: &str,
    in_flight: &str,
) -> Result<f64> {
    let arguments = json!({ "taskId": id }).to_string();
    let data_dir = trial.data_dir().display().to_string();
    let measured = ["mcp", calls, in_flight, "TaskStatus", &arguments];
    let server = [claudine, "--data-dir", &data_dir, "mcp"];
    bench.limit(&[&measured[..], &server].concat())
}

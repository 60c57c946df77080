//! Builds a graph from tasks.

use claudine_domain::{
    id::TaskId,
    task::{State, Task},
    time::Timestamp,
};

use super::{
    super::{
        past::Past,
        present::{phase, reason_view},
    },
    Edge, Graph, Node, shape,
};
use crate::{clock::rfc3339, store::unrecorded};

/// The graph of these tasks, oldest first. Edges to other tasks are left out.
pub(super) fn build(mut tasks: Vec<Task>, past: &Past, now: Timestamp) -> Graph {
    tasks.sort_unstable_by_key(|task| task.id);
    let mut nodes: Vec<Node> = tasks.iter().map(|task| node(task, past, now)).collect();
    let mut edges = edges(&tasks);
    let critical_paths = shape::mark_critical(&mut nodes, &mut edges);
    Graph {
        at: rfc3339(now),
        nodes,
        edges,
        critical_paths,
    }
}

/// The dependencies between these tasks.
fn edges(tasks: &[Task]) -> Vec<Edge> {
    let there = |id: TaskId| tasks.binary_search_by_key(&id, |task| task.id).is_ok();
    let mut edges = Vec::new();
    for task in tasks {
        for dependency in task.dependencies.iter().filter(|it| there(it.task)) {
            edges.push(Edge {
                from: dependency.task.to_string(),
                to: task.id.to_string(),
                condition: dependency.condition.as_str().to_owned(),
                critical: false,
            });
        }
    }
    edges
}

fn node(task: &Task, past: &Past, now: Timestamp) -> Node {
    let request = &task.request;
    let last = task.last_attempt();
    let deciding = task.deciding_attempt();
    let started_at = deciding.and_then(|attempt| attempt.started_at);
    let (outcome, reason, finished_at) = match &task.state {
        State::Done {
            at,
            outcome,
            reason,
            ..
        } => (Some(*outcome), reason.as_ref(), Some(*at)),
        _ => (None, None, None),
    };
    // Even if another attempt is to follow, the run time ends with the last attempt.
    let ended_at = last
        .and_then(|attempt| attempt.ended.as_ref())
        .map(|ended| ended.at);
    // If the end of a process is not recorded yet, the time of its end is unknown.
    let running_to = (!unrecorded::is_marked(task)).then_some(now);
    let until = finished_at.or(ended_at).or(running_to);
    Node {
        id: task.id.to_string(),
        name: request.name.clone(),
        executor: request.executor.to_string(),
        summary: request.summary.clone(),
        group: request.group.clone(),
        state: task.state.as_str().to_owned(),
        phase: phase(task),
        outcome: outcome.map(|outcome| outcome.as_str().to_owned()),
        reason: reason.map(reason_view),
        created_at: rfc3339(task.created_at),
        started_at: started_at.map(rfc3339),
        finished_at: finished_at.map(rfc3339),
        elapsed_ms: started_at
            .zip(until)
            .map(|(start, until)| until.0.saturating_sub(start.0)),
        expected_ms: past.expected(task),
        critical: false,
    }
}

#[cfg(test)]
mod tests {
    use claudine_domain::outcome::Outcome;

    use super::super::samples::*;

    #[test]
    fn a_node_has_the_run_time_of_its_task() {
        let check = |sample: Sample, expected: (&str, Option<&str>, Option<u64>)| {
            let graph = graph(vec![sample], &[]);
            let node = &graph.nodes[0];
            let outcome = node.outcome.as_deref();
            assert_eq!((node.state.as_str(), outcome, node.elapsed_ms), expected);
        };
        check(task(1), ("ready", None, None));
        check(task(1).running(NOW - 5_000), ("running", None, Some(5_000)));
        check(
            task(1).succeeded(1_000, 3_500),
            ("done", Some("succeeded"), Some(2_500)),
        );
        // The task was retried, and ended before its next attempt.
        check(
            task(1)
                .succeeded(1_000, 3_500)
                .ended(Outcome::UpstreamFailed),
            ("done", Some("upstream_failed"), None),
        );
        // The wall clock was set back meanwhile.
        check(task(1).running(NOW + 5_000), ("running", None, Some(0)));
    }
}

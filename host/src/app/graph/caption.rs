//! Texts on nodes and edges. They are not yet escaped for an output form.

use std::time::Duration;

use super::{
    CriticalPath, Edge, Graph, Node,
    shade::Shade,
    shape::{is_unknown, remaining_ms},
};
use crate::{
    app::view::ENDED_PHASE,
    text::{fit, harmless, span},
};

/// The condition that is not written on edges, to save space.
pub(super) const USUAL: &str = "succeeded";

/// The name, or the summary if the task has no name.
pub(super) fn title(node: &Node, most: usize) -> String {
    let named = node.name.as_deref().filter(|name| !name.is_empty());
    let title = harmless(named.unwrap_or(&node.summary));
    let title = title.trim();
    if title.is_empty() {
        return fit(&harmless(&node.id), most);
    }
    fit(title, most)
}

/// The outcome, or the state if the task has no outcome. If the task's process has ended while no
/// host ran, the task is shown as ended and not as running.
pub(super) fn state(node: &Node) -> String {
    let ended = node.phase.as_deref().filter(|phase| *phase == ENDED_PHASE);
    let word = node.outcome.as_deref().or(ended);
    fit(&harmless(word.unwrap_or(&node.state)), 24)
}

/// The run time: `12s`, or `12s (~20s)` if a time was expected. While the task is running, `5.0s of
/// ~20s`. Before the task has begun, `~20s`.
pub(super) fn time(node: &Node) -> Option<String> {
    let elapsed = node.elapsed_ms.map(in_words);
    let expected = node
        .expected_ms
        .map(|millis| format!("~{}", in_words(millis)));
    match (elapsed, expected) {
        (Some(elapsed), Some(expected)) if node.outcome.is_none() => {
            Some(format!("{elapsed} of {expected}"))
        }
        (Some(elapsed), Some(expected)) => Some(format!("{elapsed} ({expected})")),
        (Some(elapsed), None) => Some(elapsed),
        (None, Some(expected)) if node.outcome.is_none() => Some(expected),
        (None, _) => None,
    }
}

/// State and time on one line.
pub(super) fn subtitle(node: &Node) -> String {
    match time(node) {
        Some(time) => format!("{} · {time}", state(node)),
        None => state(node),
    }
}

pub(super) fn condition(edge: &Edge) -> String {
    fit(&harmless(&edge.condition), 24)
}

/// `critical path: 3 tasks, 1m02s, 20s to go`
pub(super) fn critical(path: &CriticalPath) -> String {
    let mut words = format!("critical path: {} tasks", path.tasks.len());
    let least = if path.is_partly_unknown {
        "at least "
    } else {
        ""
    };
    if path.total_ms > 0 {
        words += &format!(", {least}{}", in_words(path.total_ms));
    }
    if path.remaining_ms > 0 {
        words += &format!(", {least}{} to go", in_words(path.remaining_ms));
    }
    words
}

/// `6 ✓ · 1 ✗ · 2 running · 3 waiting · ~40s to go`: the remaining time is estimated from earlier
/// runs of similar tasks, as if each task started as soon as its dependencies allow.
pub(super) fn foot(graph: &Graph) -> String {
    let count = |shade: Shade| {
        graph
            .nodes
            .iter()
            .filter(|node| node.shade() == shade)
            .count()
    };
    let words = [
        (Shade::Succeeded, Shade::Succeeded.mark()),
        (Shade::Failed, Shade::Failed.mark()),
        (Shade::UpstreamFailed, "not run"),
        (Shade::Dropped, "cancelled"),
        (Shade::Running, "running"),
        (Shade::Waiting, "waiting"),
        (Shade::Held, "held"),
    ];
    let counts = words.into_iter().map(|(shade, word)| (count(shade), word));
    let counts = counts.filter(|(count, _)| *count > 0);
    let mut parts: Vec<String> = counts
        .map(|(count, word)| format!("{count} {word}"))
        .collect();
    let paths = graph.critical_paths.iter().map(|path| path.remaining_ms);
    let remaining = paths.chain(graph.nodes.iter().map(remaining_ms)).max();
    if let Some(remaining) = remaining.filter(|remaining| *remaining > 0) {
        let is_least = graph.nodes.iter().any(is_unknown);
        let about = if is_least { "at least " } else { "~" };
        parts.push(format!("{about}{} to go", in_words(remaining)));
    }
    parts.join(" · ")
}

fn in_words(millis: u64) -> String {
    span(Duration::from_millis(millis))
}

#[cfg(test)]
mod tests {
    use claudine_domain::outcome::Outcome;

    use super::{super::samples::*, *};

    #[test]
    fn the_subtitle_shows_the_state_with_elapsed_and_expected_time() {
        let check = |sample: Sample, expected: &str| {
            let graph = graph(vec![sample], &[]);
            assert_eq!(subtitle(&graph.nodes[0]), expected);
        };
        check(task(1), "ready");
        check(task(1).expected(20_000), "ready · ~20s");
        check(task(1).running(NOW - 5_000), "running · 5.0s");
        check(
            task(1).running(NOW - 5_000).expected(20_000),
            "running · 5.0s of ~20s",
        );
        check(task(1).succeeded(0, 12_000), "succeeded · 12s");
        check(
            task(1).failed(0, 12_000).expected(20_000),
            "failed · 12s (~20s)",
        );
    }

    #[test]
    fn the_foot_shows_counts_and_the_remaining_time() {
        let check = |samples: Vec<Sample>, edges: &[(u128, u128)], expected: &str| {
            assert_eq!(foot(&graph(samples, edges)), expected);
        };
        check(Vec::new(), &[], "");
        let done = || task(1).succeeded(0, 10);
        check(vec![done(), task(2).failed(0, 5)], &[], "1 ✓ · 1 ✗");
        let running = || task(2).running(NOW - 5_000).expected(20_000);
        let expected = "1 ✓ · 1 running · 1 waiting · ~45s to go";
        let last = || task(3).expected(30_000);
        check(vec![done(), running(), last()], &[(1, 2), (2, 3)], expected);
        // Of parallel tasks, only the longest counts.
        let expected = "1 ✓ · 1 running · 1 waiting · ~30s to go";
        check(vec![done(), running(), last()], &[(1, 2), (1, 3)], expected);
        check(vec![done(), running(), last()], &[], expected);
        let unknown = vec![done(), running(), task(3)];
        let expected = "1 ✓ · 1 running · 1 waiting · at least 15s to go";
        check(unknown, &[(1, 2), (2, 3)], expected);
        check(vec![task(1), task(2)], &[(1, 2)], "2 waiting");
        let ended = vec![
            task(1).ended(Outcome::UpstreamFailed),
            task(2).ended(Outcome::Cancelled),
        ];
        check(ended, &[], "1 not run · 1 cancelled");
    }

    #[test]
    fn the_title_is_the_name_or_else_the_summary() {
        let check = |sample: Sample, expected: &str| {
            let graph = graph(vec![sample], &[]);
            assert_eq!(title(&graph.nodes[0], 10), expected);
        };
        check(named(task(1), "build"), "build");
        check(task(1).asked("cargo build --release"), "cargo bui…");
        check(named(task(1).asked("ls"), ""), "ls");
        check(task(1).asked(" \n"), "task_0000…");
        check(named(task(1), "a\u{1b}[2Jb"), "a\\u{1b}[2…");
    }
}

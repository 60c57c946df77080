//! What is written on nodes and edges, before a form quotes it.

use std::time::Duration;

use super::{CriticalPath, Edge, Node};
use crate::text::{fit, harmless, span};

/// The condition that needs no word where words are dear.
pub(super) const USUAL: &str = "succeeded";

/// Its name, else what it was asked.
pub(super) fn title(node: &Node, most: usize) -> String {
    let named = node.name.as_deref().filter(|name| !name.is_empty());
    let title = harmless(named.unwrap_or(&node.summary));
    let title = title.trim();
    if title.is_empty() {
        return fit(&harmless(&node.id), most);
    }
    fit(title, most)
}

/// One word for where it stands: its outcome once it has one.
pub(super) fn state(node: &Node) -> String {
    fit(
        &harmless(node.outcome.as_deref().unwrap_or(&node.state)),
        24,
    )
}

/// `12s`, `5.0s of ~20s` while it runs, `~20s` before.
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

fn in_words(millis: u64) -> String {
    span(Duration::from_millis(millis))
}

#[cfg(test)]
mod tests {
    use super::{super::samples::*, *};

    #[test]
    fn times() {
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
    fn titles() {
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

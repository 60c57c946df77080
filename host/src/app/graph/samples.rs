//! Sample graphs for the tests of this module.

use std::sync::Arc;

use claudine_domain::{
    attempt::{Attempt, Ended, Phase},
    id::TaskId,
    outcome::{Outcome, Reason, ReasonClass},
    task::{State, Task},
    time::Timestamp,
};

use super::{super::past::Past, Edge, Graph, build, shape};
use crate::store::sample_task;

/// Time at which all sample graphs are read.
pub(super) const NOW: u64 = 1_760_000_100_000;

/// A task with its expected run time.
pub(in crate::app) struct Sample {
    task: Task,
    expected_ms: Option<u64>,
}

/// A ready task with this number as its id.
pub(in crate::app) fn task(number: u128) -> Sample {
    let mut task = sample_task(0);
    task.id = TaskId::new(0, number);
    Sample {
        task,
        expected_ms: None,
    }
    .asked(&format!("step {number}"))
}

pub(in crate::app) fn named(mut sample: Sample, name: &str) -> Sample {
    Arc::make_mut(&mut sample.task.request).name = Some(name.to_owned());
    sample
}

impl Sample {
    pub(in crate::app) fn asked(mut self, summary: &str) -> Self {
        Arc::make_mut(&mut self.task.request).summary = summary.to_owned();
        self
    }

    pub(in crate::app) fn by(mut self, executor: &str) -> Self {
        Arc::make_mut(&mut self.task.request).executor = executor.into();
        self
    }

    pub(super) fn expected(mut self, millis: u64) -> Self {
        self.expected_ms = Some(millis);
        self
    }

    pub(super) fn running(mut self, since: u64) -> Self {
        let since = Timestamp(since);
        let mut attempt = Attempt::new(1, since);
        attempt.started_at = Some(since);
        self.task.attempts = vec![attempt];
        self.task.state = State::Running {
            phase: Phase::Live,
            since,
        };
        self
    }

    pub(in crate::app) fn succeeded(self, from: u64, to: u64) -> Self {
        self.done(Outcome::Succeeded, None, from, to)
    }

    pub(in crate::app) fn failed(self, from: u64, to: u64) -> Self {
        let reason = Reason::new(ReasonClass::Exit, "exited with code 3");
        self.done(Outcome::Failed, Some(reason), from, to)
    }

    fn done(self, outcome: Outcome, reason: Option<Reason>, from: u64, to: u64) -> Self {
        let mut sample = self.running(from);
        let at = Timestamp(to);
        for attempt in &mut sample.task.attempts {
            attempt.ended = Some(Ended {
                reason: reason.clone(),
                ..Ended::new(at, outcome)
            });
        }
        sample.task.state = State::Done {
            at,
            outcome,
            reason,
            culprit: None,
        };
        sample
    }

    /// A task that ended without having run.
    pub(in crate::app) fn ended(mut self, outcome: Outcome) -> Self {
        self.task.state = State::Done {
            at: Timestamp(NOW),
            outcome,
            reason: None,
            culprit: None,
        };
        self
    }

    pub(in crate::app) fn into_task(self) -> Task {
        self.task
    }
}

/// The number in an id made by [`task`].
pub(super) fn number_of(id: &str) -> String {
    id.trim_start_matches("task_")
        .trim_start_matches('0')
        .to_owned()
}

/// A graph whose edges require success.
pub(super) fn graph(samples: Vec<Sample>, edges: &[(u128, u128)]) -> Graph {
    let edges: Vec<_> = edges
        .iter()
        .map(|(from, to)| (*from, *to, "succeeded"))
        .collect();
    graph_with(samples, &edges)
}

pub(super) fn graph_with(samples: Vec<Sample>, edges: &[(u128, u128, &str)]) -> Graph {
    let id = |number| TaskId::new(0, number).to_string();
    let edges: Vec<Edge> = edges
        .iter()
        .map(|(from, to, condition)| Edge {
            from: id(*from),
            to: id(*to),
            condition: (*condition).to_owned(),
            critical: false,
        })
        .collect();
    let expected: Vec<(String, Option<u64>)> = samples
        .iter()
        .map(|sample| (sample.task.id.to_string(), sample.expected_ms))
        .collect();
    let tasks = samples.into_iter().map(Sample::into_task).collect();
    let mut graph = build::build(tasks, &Past::default(), Timestamp(NOW));
    for (id, millis) in expected {
        let nodes = graph.nodes.iter_mut().filter(|node| node.id == id);
        nodes.for_each(|node| node.expected_ms = millis);
    }
    graph.edges = edges;
    graph.critical_paths = shape::mark_critical(&mut graph.nodes, &mut graph.edges);
    graph
}

/// A release that contains everything a form can show.
pub(super) fn release() -> Graph {
    graph_with(
        vec![
            named(task(1), "fetch")
                .succeeded(NOW - 90_000, NOW - 80_000)
                .expected(12_000),
            named(task(2), "build")
                .succeeded(NOW - 80_000, NOW - 20_000)
                .expected(55_000),
            named(task(3), "lint").failed(NOW - 80_000, NOW - 75_000),
            named(task(4), "test")
                .running(NOW - 20_000)
                .expected(65_000),
            named(task(5), "publish"),
            named(task(6), "notify").expected(1_000),
            named(task(7), "clean up"),
            named(task(8), "badge").ended(Outcome::UpstreamFailed),
            named(task(9), "alone").ended(Outcome::Cancelled),
        ],
        &[
            (1, 2, "succeeded"),
            (1, 3, "succeeded"),
            (2, 4, "succeeded"),
            (3, 8, "succeeded"),
            (4, 5, "succeeded"),
            (5, 6, "completed"),
            (4, 7, "any"),
            (3, 7, "any"),
        ],
    )
}

/// Names with special characters: quotes, tags, entities, line breaks, escapes and other scripts,
/// and a name that is too long.
pub(super) fn awkward() -> Graph {
    let names = [
        "say \"hi\" & <b>bold</b>",
        "back\\slash \\n \\N ends\\",
        "two\nlines\rand\ta tab",
        "\u{1b}[31mred\u{1b}[0m \u{7} \u{202e}backwards",
        "`code` *stars* _under_ snake_case #quot; ]--> x",
        "%%{init: {\"theme\": \"dark\"}}%%",
        "漢字 naïve émigré 🚀 \u{fffe}",
        "- no list",
        "1. none either",
    ];
    let mut samples: Vec<Sample> = names
        .iter()
        .zip(1..)
        .map(|(name, number)| named(task(number), name))
        .collect();
    let long = "long ".repeat(100);
    samples.push(named(task(10), &long));
    let edges: Vec<_> = (2..=10).map(|to| (1, to, "succeeded")).collect();
    graph_with(samples, &edges)
}

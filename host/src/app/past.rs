//! How long tasks took, for how long the like of them may take.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use claudine_domain::{
    outcome::Outcome,
    task::{State, Task},
};

use crate::{clock, lock::lock};

/// How long it is taken for true.
const KEPT_FOR: Duration = Duration::from_secs(30);

/// Runs that count, the newest: what a task took half a year ago says little.
const RUNS: usize = 21;

/// What succeeded tasks took, by executor and name, or summary where they have none.
#[derive(Default)]
pub(super) struct Past(HashMap<(String, String), Vec<u64>>);

impl Past {
    /// Of finished tasks, newest first.
    pub(super) fn of(tasks: &[Task]) -> Self {
        let mut past = Self::default();
        for task in tasks {
            if let Some(took) = took(task) {
                for key in keys(task) {
                    let runs = past.0.entry(key).or_default();
                    if runs.len() < RUNS {
                        runs.push(took);
                    }
                }
            }
        }
        past
    }

    /// The median of earlier runs of this name, else of tasks that were asked the same.
    pub(super) fn expected(&self, task: &Task) -> Option<u64> {
        keys(task)
            .into_iter()
            .find_map(|key| median(self.0.get(&key)?))
    }
}

/// What was found out last, for whoever asks again and again: it takes a walk through some thousand
/// tasks.
#[derive(Default)]
pub(super) struct KeptPast(Mutex<Option<(Duration, Arc<Past>)>>);

impl KeptPast {
    pub(super) fn get(&self) -> Option<Arc<Past>> {
        let (since, past) = lock(&self.0).clone()?;
        (clock::monotonic() < since + KEPT_FOR).then_some(past)
    }

    pub(super) fn keep(&self, past: &Arc<Past>) {
        *lock(&self.0) = Some((clock::monotonic(), Arc::clone(past)));
    }
}

/// The better one first. A name and a summary that read the same do not meet: a summary is never
/// empty before its `\n`.
fn keys(task: &Task) -> Vec<(String, String)> {
    let request = &task.request;
    let named = request.name.clone();
    let asked = Some(format!("\n{}", request.summary));
    [named, asked]
        .into_iter()
        .flatten()
        .map(|what| (request.executor.to_string(), what))
        .collect()
}

/// Only a success tells: what failed early would promise too much.
fn took(task: &Task) -> Option<u64> {
    let State::Done {
        outcome: Outcome::Succeeded,
        ..
    } = task.state
    else {
        return None;
    };
    let attempt = task.last_run()?;
    let ended = attempt.ended.as_ref()?;
    Some(ended.at.0.saturating_sub(attempt.started_at?.0))
}

fn median(runs: &[u64]) -> Option<u64> {
    let mut sorted = runs.to_vec();
    sorted.sort_unstable();
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    sorted
        .get(middle.checked_sub(1)?)
        .map(|lower| lower.midpoint(upper))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::{super::graph::samples::*, *};

    #[test]
    fn a_median_is_in_the_middle() {
        let check = |runs: &[u64], expected: Option<u64>| assert_eq!(median(runs), expected);
        check(&[], None);
        check(&[7], Some(7));
        check(&[9, 1], Some(5));
        check(&[100, 1, 2], Some(2));
        check(&[u64::MAX, u64::MAX], Some(u64::MAX));
    }

    #[test]
    fn expectations_come_from_the_like() {
        let earlier = [
            named(task(1), "build").succeeded(10_000, 30_000),
            named(task(2), "build").succeeded(10_000, 40_000),
            named(task(3), "build").failed(10_000, 11_000),
            task(4).asked("cargo doc").succeeded(0, 5_000),
            named(task(5).asked("cargo doc"), "docs").succeeded(0, 7_000),
        ];
        let past = Past::of(&earlier.map(Sample::into_task));
        let check = |sample: Sample, expected: Option<u64>| {
            assert_eq!(past.expected(&sample.into_task()), expected);
        };
        check(named(task(9), "build"), Some(25_000));
        // Its name is new, but not what it is asked.
        check(named(task(9).asked("cargo doc"), "other"), Some(6_000));
        check(task(9).asked("cargo doc"), Some(6_000));
        check(task(9).asked("cargo doc").by("mock"), None);
        check(named(task(9).by("mock"), "build"), None);
        // A summary is no name.
        check(task(9).asked("build"), None);
    }
}

//! Expected run times, from earlier runs of similar tasks.

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

/// Time for which the run times are reused.
const KEPT_FOR: Duration = Duration::from_secs(30);

/// Maximum number of earlier runs that are used. The newest runs are used, because older runs say
/// little about the next one.
const RUNS: usize = 21;

/// Run times of successful tasks by executor and name, and by executor and summary.
#[derive(Default)]
pub(super) struct Past(HashMap<(String, String), Vec<u64>>);

impl Past {
    /// The run times of these finished tasks, newest first.
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

    /// The median of earlier runs with the same name, or else with the same request.
    pub(super) fn expected(&self, task: &Task) -> Option<u64> {
        keys(task)
            .into_iter()
            .find_map(|key| median(self.0.get(&key)?))
    }
}

/// The run times that were read last. They are kept for repeated requests, because reading them
/// means reading some thousand tasks.
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

/// The keys of a task, the more specific one first. The newline distinguishes summaries from names.
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

/// Run time of a successful task. `None` for other tasks, because early failures would make the
/// expected run time too short.
fn took(task: &Task) -> Option<u64> {
    let State::Done {
        outcome: Outcome::Succeeded,
        ..
    } = task.state
    else {
        return None;
    };
    task.last_run()?.ran_ms()
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
    fn the_median_is_the_middle_value() {
        let check = |runs: &[u64], expected: Option<u64>| assert_eq!(median(runs), expected);
        check(&[], None);
        check(&[7], Some(7));
        check(&[9, 1], Some(5));
        check(&[100, 1, 2], Some(2));
        check(&[u64::MAX, u64::MAX], Some(u64::MAX));
    }

    #[test]
    fn expected_times_come_from_similar_tasks() {
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
        // No earlier task has this name, but earlier tasks had the same request.
        check(named(task(9).asked("cargo doc"), "other"), Some(6_000));
        check(task(9).asked("cargo doc"), Some(6_000));
        check(task(9).asked("cargo doc").by("mock"), None);
        check(named(task(9).by("mock"), "build"), None);
        // A task with a request `build` is not similar to a task with the name `build`.
        check(task(9).asked("build"), None);
    }
}

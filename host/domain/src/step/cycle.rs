//! Finds cycles among tasks that are submitted together. No other cycles are possible: a task
//! cannot depend on a task that is submitted later.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

use super::Submission;
use crate::id::TaskId;

/// Returns a cycle, if there is one: the tasks from one task back to itself, each of which depends
/// on the next.
///
/// Kahn's algorithm (Kahn, "Topological sorting of large networks", CACM 1962) removes tasks
/// without remaining dependencies until none is left to remove. Each remaining task depends on
/// another remaining one, so following those edges leads into a cycle.
pub(super) fn find(tasks: &[Submission]) -> Option<Vec<TaskId>> {
    let place: FxHashMap<TaskId, usize> = tasks
        .iter()
        .enumerate()
        .map(|(index, task)| (task.id, index))
        .collect();
    let upstream = |index: usize| {
        let dependencies = tasks[index].dependencies.iter();
        dependencies.filter_map(|dependency| place.get(&dependency.task).copied())
    };
    let mut dependants = vec![Vec::new(); tasks.len()];
    let mut waits_for = vec![0usize; tasks.len()];
    for (index, count) in waits_for.iter_mut().enumerate() {
        for other in upstream(index) {
            dependants[other].push(index);
            *count += 1;
        }
    }
    let mut free: Vec<usize> = (0..tasks.len()).filter(|at| waits_for[*at] == 0).collect();
    while let Some(index) = free.pop() {
        for &dependant in &dependants[index] {
            waits_for[dependant] -= 1;
            if waits_for[dependant] == 0 {
                free.push(dependant);
            }
        }
    }
    let is_left = |index: &usize| waits_for[*index] > 0;
    let mut path = vec![(0..tasks.len()).find(is_left)?];
    let mut seen = BTreeMap::from([(path[0], 0)]);
    loop {
        let next = upstream(*path.last()?).find(is_left)?;
        if let Some(start) = seen.insert(next, path.len()) {
            let circle = path[start..].iter().chain([&next]);
            return Some(circle.map(|index| tasks[*index].id).collect());
        }
        path.push(next);
    }
}

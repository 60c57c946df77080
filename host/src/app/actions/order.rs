//! Sorts tasks so that each comes after its dependencies.

use std::collections::HashMap;

use claudine_domain::id::TaskId;

/// Positions of the tasks, sorted so that each task comes after its dependencies and, apart from
/// that, older tasks come first. Not recursive, because a chain may be deeper than the stack.
pub(super) fn upstream_first<'a>(
    tasks: impl Iterator<Item = (TaskId, &'a [TaskId])>,
) -> Vec<usize> {
    let tasks: Vec<(TaskId, &[TaskId])> = tasks.collect();
    let places: HashMap<TaskId, usize> = tasks
        .iter()
        .enumerate()
        .map(|(place, (id, _))| (*id, place))
        .collect();
    let mut oldest_first: Vec<usize> = (0..tasks.len()).collect();
    oldest_first.sort_unstable_by_key(|place| tasks[*place].0);
    let mut seen = vec![false; tasks.len()];
    let mut order = Vec::with_capacity(tasks.len());
    for start in oldest_first {
        if std::mem::replace(&mut seen[start], true) {
            continue;
        }
        let mut path = vec![(start, tasks[start].1.iter())];
        while let Some((place, upstream)) = path.last_mut() {
            let Some(next) = upstream.next() else {
                order.push(*place);
                path.pop();
                continue;
            };
            if let Some(next) = places.get(next)
                && !std::mem::replace(&mut seen[*next], true)
            {
                path.push((*next, tasks[*next].1.iter()));
            }
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u64) -> TaskId {
        TaskId::new(number, number.into())
    }

    #[test]
    fn each_task_comes_after_its_dependencies() {
        let check = |tasks: &[(u64, &[u64])], expected: &[u64]| {
            let tasks: Vec<(TaskId, Vec<TaskId>)> = tasks
                .iter()
                .map(|(task, upstream)| (id(*task), upstream.iter().copied().map(id).collect()))
                .collect();
            let order = upstream_first(
                tasks
                    .iter()
                    .map(|(id, upstream)| (*id, upstream.as_slice())),
            );
            let found: Vec<TaskId> = order.into_iter().map(|place| tasks[place].0).collect();
            let expected: Vec<TaskId> = expected.iter().copied().map(id).collect();
            assert_eq!(found, expected);
        };
        check(&[], &[]);
        check(&[(3, &[]), (1, &[]), (2, &[])], &[1, 2, 3]);
        check(&[(1, &[2]), (2, &[3]), (3, &[])], &[3, 2, 1]);
        // Dependencies outside the list are ignored.
        check(&[(2, &[1, 9]), (3, &[2])], &[2, 3]);
        check(
            &[(4, &[3, 2]), (3, &[1]), (2, &[1]), (1, &[])],
            &[1, 2, 3, 4],
        );
        // Cycles do not occur, but the function would terminate even then.
        check(&[(1, &[2]), (2, &[1])], &[2, 1]);
    }

    #[test]
    fn a_chain_may_be_deeper_than_the_stack() {
        let upstream: Vec<[TaskId; 1]> = (0..20_000).map(|number| [id(number + 1)]).collect();
        let tasks = (0..20_000).zip(&upstream);
        let order =
            upstream_first(tasks.map(|(number, upstream)| (id(number), upstream.as_slice())));
        assert!(order.iter().rev().copied().eq(0..20_000));
    }
}

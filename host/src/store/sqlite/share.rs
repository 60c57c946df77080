//! Shares equal parts of the tasks that a host reads at its start. Each row has its own copy of
//! them, and most tasks of a host have the same executor, directory, environment and limits.

use std::{
    collections::{BTreeSet, HashSet},
    hash::Hash,
    sync::Arc,
};

use claudine_domain::{principal::Principal, task::Task};

/// The parts that were read so far.
#[derive(Default)]
pub(super) struct Shared {
    texts: HashSet<Arc<str>>,
    names: HashSet<Arc<BTreeSet<String>>>,
    submitter: Option<Arc<Principal>>,
}

impl Shared {
    /// Replaces parts of a task that was just read by equal parts of earlier tasks.
    pub(super) fn replace_equal(&mut self, task: &mut Task) {
        let Some(request) = Arc::get_mut(&mut task.request) else {
            return;
        };
        let texts = [
            &mut request.executor,
            &mut request.cwd,
            &mut request.env_digest,
        ];
        for text in texts.into_iter().chain(request.bounds.as_mut()) {
            share(&mut self.texts, text);
        }
        if let Some(names) = &mut request.set_variables {
            share(&mut self.names, names);
        }
        let last = self.submitter.get_or_insert_with(|| request.by.clone());
        if *last == request.by {
            request.by = last.clone();
        } else {
            *last = request.by.clone();
        }
    }
}

/// Replaces a part by an equal one that was read earlier.
fn share<T: Eq + Hash + ?Sized>(known: &mut HashSet<Arc<T>>, part: &mut Arc<T>) {
    match known.get(part) {
        Some(earlier) => *part = earlier.clone(),
        None => drop(known.insert(part.clone())),
    }
}

#[cfg(test)]
mod tests {
    use claudine_domain::task::Request;

    use super::*;
    use crate::store::sample_task;

    #[test]
    fn equal_parts_of_tasks_are_shared_and_no_task_changes() {
        let with_bounds = |number: u64, bounds: &str| {
            let task = sample_task(number);
            let request = Request {
                bounds: Some(bounds.into()),
                cwd: "/work".into(),
                set_variables: Some(Arc::new(BTreeSet::from([bounds.to_owned()]))),
                ..Request::clone(&task.request)
            };
            Task {
                request: request.into(),
                ..task
            }
        };
        let read = [
            with_bounds(1, "a"),
            with_bounds(2, "b"),
            with_bounds(3, "a"),
        ];
        let mut shared = read.clone().map(|task| Task {
            request: Arc::new(Request::clone(&task.request)),
            ..task
        });
        let mut earlier = Shared::default();
        for task in &mut shared {
            earlier.replace_equal(task);
        }
        assert_eq!(shared, read);
        let [first, second, third] = shared.map(|task| task.request);
        for other in [&second, &third] {
            assert!(Arc::ptr_eq(&first.cwd, &other.cwd));
            assert!(Arc::ptr_eq(&first.by, &other.by));
        }
        let names = [&first, &third].map(|it| it.set_variables.clone());
        assert!(matches!(&names, [Some(one), Some(other)] if Arc::ptr_eq(one, other)));
        let bounds = [first, third].map(|it| it.bounds.clone());
        assert!(matches!(&bounds, [Some(one), Some(other)] if Arc::ptr_eq(one, other)));
    }
}

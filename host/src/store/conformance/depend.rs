//! Tests of dependencies between tasks, and of the ends of tasks.

use std::collections::BTreeMap;

use claudine_domain::{
    attempt::Phase,
    dependency::{Condition, End},
    outcome::Outcome,
    task::State,
};

use super::{Leader, after, check, depending};
use crate::store::{
    Filter,
    samples::{at, done, id, ready, running},
};

#[test]
fn dependencies_and_dependants_are_found_even_after_the_tasks_change() {
    check(|store| {
        let mut leader = Leader::of(store);
        let both = [(1, Condition::Succeeded), (2, Condition::Any)];
        let third = after(ready(3), &both);
        let fourth = after(ready(4), &[(2, Condition::Completed)]);
        leader.commit(depending([
            ready(1),
            ready(2),
            third.clone(),
            fourth.clone(),
        ]));
        assert_eq!(store.task(id(3)).unwrap(), Some(third.clone()));
        assert_eq!(store.dependants(id(1)).unwrap(), [id(3)]);
        assert_eq!(store.dependants(id(2)).unwrap(), [id(3), id(4)]);
        assert_eq!(store.dependants(id(4)).unwrap(), []);
        // A task that is written again keeps its dependencies.
        leader.put([running(third.clone(), Phase::Live)]);
        let found = store.task(id(3)).unwrap().unwrap();
        assert_eq!(found.dependencies, third.dependencies);
        let loaded = store.load(at(0)).unwrap().unfinished;
        let edges: Vec<_> = loaded.iter().map(|task| task.dependencies.len()).collect();
        assert_eq!(edges, [0, 0, 2, 1]);
        let page = store.list(&Filter::default(), 1).unwrap();
        assert_eq!(page.tasks, [fourth]);
    });
}

#[test]
fn ends_of_existing_tasks_are_returned() {
    check(|store| {
        let mut leader = Leader::of(store);
        let mut spoilt = done(ready(3), Outcome::UpstreamFailed);
        if let State::Done { culprit, .. } = &mut spoilt.state {
            *culprit = Some(id(2));
        }
        let failed = done(running(ready(2), Phase::Live), Outcome::Failed);
        leader.put([ready(1), failed, spoilt.clone()]);
        let end = |outcome, culprit| Some(End { outcome, culprit });
        let asked = (1..=4).map(id).collect();
        let expected = BTreeMap::from([
            (id(1), None),
            (id(2), end(Outcome::Failed, None)),
            (id(3), end(Outcome::UpstreamFailed, Some(id(2)))),
        ]);
        assert_eq!(store.ends(&asked).unwrap(), expected);
        assert_eq!(store.spoilt_by(id(2)).unwrap(), [spoilt]);
        // The task is ready again, so it no longer counts as a task that could not run because of
        // its dependency.
        leader.put([ready(3)]);
        assert_eq!(store.spoilt_by(id(2)).unwrap(), []);
    });
}

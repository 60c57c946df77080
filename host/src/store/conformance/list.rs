//! Lists, pages, references and counts.

use claudine_domain::{attempt::Phase, outcome::Outcome};

use super::{Leader, check, ids};
use crate::store::{
    Filter, Resolved, Status, StatusFilter,
    samples::{asked, done, id, named, ready, running, tasks},
};

#[test]
fn lists_are_filtered() {
    check(|store| {
        let mut leader = Leader::of(store);
        leader.put(tasks());
        let check = |filter: Filter, expected: &[u64]| {
            let expected: Vec<_> = expected.iter().map(|number| id(*number)).collect();
            assert_eq!(ids(store, &filter), expected, "{filter:?}");
        };
        let status = |word: &str| Filter {
            status: Some(word.parse().unwrap()),
            ..Filter::default()
        };
        let label = |key: &str, value: &str| Filter {
            label: Some((key.to_owned(), value.to_owned())),
            ..Filter::default()
        };
        let name = |name: &str| Filter {
            name: Some(name.to_owned()),
            ..Filter::default()
        };
        let executor = |executor: &str| Filter {
            executor: Some(executor.to_owned()),
            ..Filter::default()
        };
        check(status("waiting"), &[0]);
        check(status("ready"), &[10, 3, 2, 1]);
        check(status("running"), &[17, 16, 15, 14, 13, 12, 11]);
        check(status("done"), &[31, 30, 26, 25, 24, 23, 22, 21, 20]);
        check(status("succeeded"), &[31, 20]);
        check(status("failed"), &[21]);
        check(status("cancelled"), &[30, 23]);
        check(name("nightly"), &[2]);
        check(name("night"), &[]);
        check(executor("claude"), &[0]);
        check(executor("mock"), &[]);
        check(label("team", "infra"), &[2]);
        check(label("team", "other"), &[]);
        check(label("a \"b\".c$[0]", "größe\\\n"), &[2]);
        check(label("", ""), &[2]);
        let parent = Some(id(2));
        check(
            Filter {
                parent,
                ..Filter::default()
            },
            &[3],
        );
        check(
            Filter {
                parent,
                ..status("ready")
            },
            &[3],
        );
        check(
            Filter {
                parent,
                ..status("running")
            },
            &[],
        );
        let before = Some(id(23));
        check(
            Filter {
                before,
                ..status("done")
            },
            &[22, 21, 20],
        );
        check(
            Filter {
                before,
                ..status("cancelled")
            },
            &[],
        );
        check(
            Filter {
                before: Some(id(2)),
                ..executor("shell")
            },
            &[1],
        );
    });
}

#[test]
fn pages_follow_each_other_without_gap_or_double() {
    check(|store| {
        let mut leader = Leader::of(store);
        leader.put((0..10).map(ready));
        let check = |limit: usize, expected: &[usize]| {
            let mut filter = Filter::default();
            let (mut sizes, mut seen) = (Vec::new(), Vec::new());
            loop {
                let page = store.list(&filter, limit).unwrap();
                sizes.push(page.tasks.len());
                seen.extend(page.tasks.into_iter().map(|task| task.id));
                let Some(next) = page.next else { break };
                filter.before = Some(next);
            }
            assert_eq!(sizes, expected, "pages of {limit}");
            let all: Vec<_> = (0..10).rev().map(id).collect();
            assert_eq!(seen, all, "pages of {limit}");
        };
        check(3, &[3, 3, 3, 1]);
        check(5, &[5, 5]);
        check(9, &[9, 1]);
        check(10, &[10]);
        check(usize::MAX, &[10]);
    });
}

#[test]
fn references_find_what_a_person_means() {
    check(|store| {
        let mut leader = Leader::of(store);
        let old = done(named(1, "build"), Outcome::Succeeded);
        let digits = id(7).to_string().replace("task_", "");
        leader.put([
            old,
            named(2, "build"),
            done(named(3, "build"), Outcome::Failed),
            done(named(4, "deploy"), Outcome::Failed),
            done(named(5, "deploy"), Outcome::Succeeded),
            named(6, &digits[..12]),
            ready(7),
        ]);
        // The samples' ids share their first digits; those of the second they were made in tell them apart.
        let whole = id(7).to_string();
        let all: Vec<_> = (1..8).rev().map(id).collect();
        let check = |reference: &str, expected: Resolved| {
            assert_eq!(store.resolve(reference).unwrap(), expected, "{reference}");
        };
        check("build", Resolved::Found(id(2)));
        check("deploy", Resolved::Found(id(5)));
        check("Build", Resolved::NotFound);
        check("buil", Resolved::NotFound);
        check("", Resolved::NotFound);
        check("task_", Resolved::NotFound);
        check(&whole, Resolved::Found(id(7)));
        check(
            &whole.to_uppercase().replace("TASK", "task"),
            Resolved::Found(id(7)),
        );
        check(&digits, Resolved::Found(id(7)));
        check(&digits[..13], Resolved::Found(id(7)));
        check(&digits[..12], Resolved::Found(id(6)));
        check(&whole[..17], Resolved::Found(id(7)));
        check(&id(9).to_string(), Resolved::NotFound);
        check(&digits[..6], Resolved::Ambiguous(all.clone()));
        check("task_0", Resolved::Ambiguous(all));
        check(&digits[..3], Resolved::NotFound);
        leader.put((20..40).map(ready));
        let newest = (30..40).rev().map(id).collect();
        check(&digits[..6], Resolved::Ambiguous(newest));
    });
}

#[test]
fn unfinished_tasks_are_counted_by_group() {
    check(|store| {
        let mut leader = Leader::of(store);
        let grouped = |number, group: &str| {
            asked(ready(number), |request| {
                request.group = Some(group.to_owned());
            })
        };
        leader.put([
            ready(1),
            grouped(2, "b"),
            grouped(3, "a"),
            grouped(4, "b"),
            running(grouped(5, "b"), Phase::Live),
            done(grouped(6, "a"), Outcome::Succeeded),
        ]);
        let count = |group: &str, status, count| (group.to_owned(), status, count);
        let expected = [
            count("a", Status::Ready, 1),
            count("b", Status::Ready, 2),
            count("b", Status::Running, 1),
        ];
        assert_eq!(store.group_counts().unwrap(), expected);
    });
}

#[test]
fn counts_and_environments() {
    check(|store| {
        let mut leader = Leader::of(store);
        leader.put(tasks());
        leader.put([asked(ready(40), |request| {
            request.env_digest = "00".into();
        })]);
        let mut expected = vec![
            (Status::Waiting, 1),
            (Status::Ready, 5),
            (Status::Running, 7),
        ];
        expected.extend(crate::store::OUTCOMES.map(|outcome| match outcome {
            Outcome::Succeeded | Outcome::Cancelled => (Status::Done(outcome), 2),
            _ => (Status::Done(outcome), 1),
        }));
        assert_eq!(store.counts().unwrap(), expected);
        assert_eq!(
            store.env_digests_in_use().unwrap(),
            ["00".to_owned(), "0f".repeat(32)]
        );
    });
}

#[test]
fn filters_hold_for_the_status_that_is_counted() {
    check(|store| {
        let mut leader = Leader::of(store);
        leader.put(tasks());
        for (status, count) in store.counts().unwrap() {
            let filter = Filter {
                status: Some(StatusFilter::Is(status)),
                ..Filter::default()
            };
            assert_eq!(ids(store, &filter).len() as u64, count, "{status:?}");
        }
    });
}

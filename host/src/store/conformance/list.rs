//! Tests of lists, pages, references and counts.

use std::{sync::Arc, time::Duration};

use claudine_domain::{
    attempt::Phase,
    id::TaskId,
    outcome::Outcome,
    principal::Principal,
    task::{State, Task},
};

use super::{Leader, check, ids};
use crate::store::{
    Filter, InGroup, Intent, Name, Resolved, States, Status,
    samples::{asked, at, done, id, in_graph, named, ready, running, tasks},
    unrestrained_of_word,
};

#[test]
fn lists_are_filtered_by_status_label_name_executor_and_parent() {
    check(|store| {
        let mut leader = Leader::of(store);
        leader.put(tasks());
        let check = |filter: Filter, expected: &[u64]| {
            let expected: Vec<_> = expected.iter().map(|number| id(*number)).collect();
            assert_eq!(ids(store, &filter), expected, "{filter:?}");
        };
        let status = |word: &str| Filter {
            states: States::parse([word]).unwrap(),
            ..Filter::default()
        };
        let label = |key: &str, value: &str| Filter {
            labels: vec![(key.to_owned(), value.to_owned())],
            ..Filter::default()
        };
        let name = |name: &str| Filter {
            name: Some(Name::parse(name)),
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
        check(status("failed,timed_out,ready"), &[22, 21, 10, 3, 2, 1]);
        check(status("stopping"), &[16, 15, 14, 13]);
        check(status("starting,failed"), &[21, 11]);
        check(name("nightly"), &[2]);
        check(name("night"), &[]);
        check(name("n?ght*"), &[2]);
        check(name("*"), &[2]);
        check(name("night?"), &[]);
        check(name("[n]ight*"), &[]);
        check(executor("claude"), &[0]);
        check(executor("mock"), &[]);
        check(label("team", "infra"), &[2]);
        check(label("team", "other"), &[]);
        check(label("a \"b\".c$[0]", "größe\\\n"), &[2]);
        check(label("", ""), &[2]);
        let session = |id: &str| Filter {
            session: Some(id.to_owned()),
            ..Filter::default()
        };
        let with_session = |task: &Task| task.attempts.iter().any(|it| it.session.is_some());
        let expected = tasks().into_iter().filter(with_session).map(|task| task.id);
        let mut expected: Vec<TaskId> = expected.collect();
        expected.sort_unstable_by(|one, other| other.cmp(one));
        assert!(!expected.is_empty());
        assert_eq!(ids(store, &session("6e0b-11")), expected);
        check(session("6e0b"), &[]);
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
fn tasks_of_a_session_have_reported_it_or_name_it() {
    check(|store| {
        let mut leader = Leader::of(store);
        let names = |number, session: &str| {
            asked(ready(number), |request| {
                request.resumes_session = Some(session.into());
            })
        };
        leader.put([
            ready(1),
            done(running(ready(2), Phase::Live), Outcome::Failed),
            names(3, "6e0b-11"),
            names(4, "6E0B-11"),
            names(5, "77aa"),
            done(running(names(6, "77aa"), Phase::Live), Outcome::Failed),
        ]);
        let check = |session: &str, states: States, expected: &[u64]| {
            let filter = Filter {
                session: Some(session.to_owned()),
                states,
                ..Filter::default()
            };
            let expected: Vec<_> = expected.iter().map(|number| id(*number)).collect();
            assert_eq!(ids(store, &filter), expected, "{filter:?}");
        };
        let any = States::default;
        check("6e0b-11", any(), &[6, 4, 3, 2]);
        check("6E0B-11", any(), &[6, 4, 3, 2]);
        check("6E0b11", any(), &[6, 4, 3, 2]);
        check("77aa", any(), &[6, 5]);
        check("6e0b-11", States::unfinished(), &[4, 3]);
        check("6e0b", any(), &[]);
        check("", any(), &[]);
    });
}

#[test]
fn lists_are_filtered_by_group_graph_labels_and_time() {
    check(|store| {
        let mut leader = Leader::of(store);
        let in_group = |number| asked(ready(number), |request| request.group = Some("gpu".into()));
        let two_labels = asked(ready(3), |request| {
            let labels = [("a", "b"), ("c", "d")];
            let owned = labels.map(|(key, value)| (key.to_owned(), value.to_owned()));
            request.labels = owned.into();
        });
        let one_label = asked(ready(4), |request| {
            request.labels = [("a".to_owned(), "b".to_owned())].into();
        });
        leader.put([
            in_group(1),
            done(in_group(2), Outcome::Failed),
            two_labels,
            one_label,
            in_graph(5, 5, Some("release")),
            done(in_graph(6, 5, None), Outcome::Succeeded),
            in_graph(7, 7, Some("release")),
        ]);
        let all = Filter::default;
        let check = |filter: Filter, expected: &[u64]| {
            let expected: Vec<_> = expected.iter().map(|number| id(*number)).collect();
            assert_eq!(ids(store, &filter), expected, "{filter:?}");
        };
        let group = |name: &str| Some(name.to_owned());
        check(
            Filter {
                group: group("gpu"),
                ..all()
            },
            &[2, 1],
        );
        check(
            Filter {
                group: group("g"),
                ..all()
            },
            &[],
        );
        let failed = States::parse(["failed"]).unwrap();
        check(
            Filter {
                group: group("gpu"),
                states: failed,
                ..all()
            },
            &[2],
        );
        let label = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        check(
            Filter {
                labels: vec![label("a", "b")],
                ..all()
            },
            &[4, 3],
        );
        let both = vec![label("a", "b"), label("c", "d")];
        check(
            Filter {
                labels: both,
                ..all()
            },
            &[3],
        );
        let neither = vec![label("a", "b"), label("c", "e")];
        check(
            Filter {
                labels: neither,
                ..all()
            },
            &[],
        );
        check(
            Filter {
                graph: Some(id(5)),
                ..all()
            },
            &[6, 5],
        );
        check(
            Filter {
                graph: Some(id(6)),
                ..all()
            },
            &[],
        );
        // Each sample task was created at a full second. The ended tasks ended a quarter of a
        // second later.
        let ended = |number: u64| at(number).after(Duration::from_millis(250));
        check(
            Filter {
                since: Some(ended(6)),
                ..all()
            },
            &[7, 6, 5, 4, 3, 1],
        );
        let later = ended(6).after(Duration::from_millis(1));
        check(
            Filter {
                since: Some(later),
                ..all()
            },
            &[7, 5, 4, 3, 1],
        );
        check(
            Filter {
                until: Some(ended(6)),
                ..all()
            },
            &[5, 4, 3, 2, 1],
        );
        check(
            Filter {
                until: Some(later),
                ..all()
            },
            &[6, 5, 4, 3, 2, 1],
        );
        check(
            Filter {
                until: Some(at(2)),
                ..all()
            },
            &[1],
        );
        let only = Filter {
            since: Some(at(2)),
            until: Some(at(4)),
            ..all()
        };
        check(only.clone(), &[3, 2, 1]);
        check(
            Filter {
                before: Some(id(3)),
                ..only
            },
            &[2, 1],
        );
        assert_eq!(store.graphs_named("release", 10).unwrap(), [id(7), id(5)]);
        assert_eq!(store.graphs_named("release", 1).unwrap(), [id(7)]);
        assert_eq!(store.graphs_named("rel", 10).unwrap(), []);
    });
}

#[test]
fn pages_list_all_tasks_without_gaps_or_duplicates() {
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
fn references_find_the_intended_task() {
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
        // The ids of the sample tasks begin with the same digits. They differ in the digits that
        // encode the second of creation.
        let whole = id(7).to_string();
        let all: Vec<_> = (1..8).rev().map(id).collect();
        let check = |reference: &str, expected: Resolved| {
            assert_eq!(
                store.resolve(reference, Intent::Change).unwrap(),
                expected,
                "{reference}"
            );
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
        // The result lists one task more than the user is shown, so that the caller knows that
        // there are more tasks.
        let newest = (29..40).rev().map(id).collect();
        check(&digits[..6], Resolved::Ambiguous(newest));
    });
}

/// A client could otherwise give its task the name of a person's task.
#[test]
fn a_name_means_a_task_of_an_unrestrained_principal_if_there_is_one() {
    let by_client = |task: Task| {
        asked(task, |request| {
            request.by = Arc::new(Principal {
                restrained: true,
                ..Principal::default()
            });
        })
    };
    check(|store| {
        let mut leader = Leader::of(store);
        let in_release = |number| in_graph(number, number, Some("release"));
        leader.put([
            done(named(1, "tests"), Outcome::Failed),
            done(named(2, "tests"), Outcome::Failed),
            by_client(named(3, "tests")),
            by_client(done(named(4, "theirs"), Outcome::Failed)),
            by_client(named(5, "theirs")),
            done(in_release(6), Outcome::Failed),
            by_client(in_release(7)),
            by_client(in_graph(8, 8, Some("theirs"))),
        ]);
        let check = |name: &str, expected: u64| {
            let found = store.resolve(name, Intent::Change).unwrap();
            assert_eq!(found, Resolved::Found(id(expected)), "{name}");
        };
        check("tests", 2);
        check("theirs", 5);
        assert_eq!(store.graphs_named("release", 9).unwrap(), [id(6)]);
        assert_eq!(store.graphs_named("theirs", 9).unwrap(), [id(8)]);
        leader.put([named(9, "tests")]);
        check("tests", 9);
        let unrestrained = |name: Option<&str>| Filter {
            name: name.map(Name::parse),
            unrestrained: true,
            ..Filter::default()
        };
        let expected =
            |numbers: &[u64]| -> Vec<TaskId> { numbers.iter().map(|number| id(*number)).collect() };
        assert_eq!(ids(store, &unrestrained(None)), expected(&[9, 6, 2, 1]));
        assert_eq!(ids(store, &unrestrained(Some("theirs"))), expected(&[]));
        let newest = |word: &str| {
            let filter = unrestrained_of_word(word).unwrap();
            ids(store, &filter).first().copied()
        };
        assert_eq!(newest("@last"), Some(id(9)));
        assert_eq!(newest("@running"), None);
        leader.put([
            running(ready(10), Phase::Live),
            by_client(running(ready(11), Phase::Live)),
        ]);
        assert_eq!(newest("@running"), Some(id(10)));
        assert!(unrestrained_of_word("tests").is_none());
    });
}

#[test]
fn the_end_of_an_id_finds_a_task() {
    check(|store| {
        let mut leader = Leader::of(store);
        // The ids of the sample tasks end in their numbers. Read from the end, the ids of task 7
        // and of `like_seven` first differ in the fifth digit.
        let like_seven = TaskId::new(at(50).0, 7 + (1 << 20));
        let other = Task {
            id: like_seven,
            ..ready(50)
        };
        let finished = done(ready(7), Outcome::Succeeded);
        leader.put([finished, ready(8), named(9, "00000008"), other]);
        let check = |reference: &str, intent: Intent, expected: Resolved| {
            let found = store.resolve(reference, intent).unwrap();
            assert_eq!(found, expected, "{reference} {intent:?}");
        };
        let both = |reference: &str, expected: Resolved| {
            check(reference, Intent::Look, expected.clone());
            check(reference, Intent::Change, expected);
        };
        both("0008", Resolved::Found(id(8)));
        both("10007", Resolved::Found(like_seven));
        both("00007", Resolved::Found(id(7)));
        both("0007", Resolved::Ambiguous(vec![like_seven, id(7)]));
        both("00010007", Resolved::Found(like_seven));
        both("0003", Resolved::NotFound);
        // An exact name has precedence over the end of an id.
        both("00000008", Resolved::Found(id(9)));
        both("000000008", Resolved::Found(id(8)));
        // Fewer digits are accepted only for a command that just looks at the task.
        check("008", Intent::Look, Resolved::Found(id(8)));
        check("008", Intent::Change, Resolved::NotFound);
        let several = Resolved::Ambiguous(vec![like_seven, id(7)]);
        check("007", Intent::Look, several);
        both("08", Resolved::NotFound);
        // If names are ignored, each text can only be an id or a part of one.
        let part = |part: &str, expected: Resolved| {
            let found = store.resolve_part(part, Intent::Change).unwrap();
            assert_eq!(found, expected, "{part}");
        };
        part("00000008", Resolved::Found(id(8)));
        part("0007", Resolved::Ambiguous(vec![like_seven, id(7)]));
        part(&id(9).to_string(), Resolved::Found(id(9)));
        part("008", Resolved::NotFound);
        part("@last", Resolved::NotFound);
        let nine = id(9).to_string();
        let texts = [
            "00000008",
            "0007",
            &nine,
            "008",
            "@last",
            "0003",
            &nine[..12],
        ];
        for (intent, short) in [(Intent::Look, true), (Intent::Change, false)] {
            let expected = [true, true, true, short, false, false, true];
            assert_eq!(store.are_parts(&texts, intent).unwrap(), expected);
            for (text, is_part) in texts.into_iter().zip(expected) {
                assert_eq!(store.are_parts(&[text], intent).unwrap(), [is_part]);
            }
        }
        both("@last", Resolved::Found(like_seven));
        both("@running", Resolved::NotFound);
        leader.put([
            running(ready(3), Phase::Live),
            running(ready(4), Phase::Live),
        ]);
        both("@running", Resolved::Found(id(4)));
        both("@last", Resolved::Found(like_seven));
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
fn running_and_then_newer_tasks_of_each_group_come_first_and_finished_ones_are_left_out() {
    check(|store| {
        let mut leader = Leader::of(store);
        let grouped = |task, group: &str| {
            asked(task, |request| {
                request.group = Some(group.to_owned());
            })
        };
        leader.put([
            ready(1),
            running(grouped(ready(2), "b"), Phase::Live),
            grouped(ready(3), "b"),
            grouped(named(4, "x"), "b"),
            grouped(ready(5), "a"),
            done(grouped(ready(6), "a"), Outcome::Succeeded),
            done(grouped(ready(7), "c"), Outcome::Succeeded),
        ]);
        let check = |most: usize, expected: &[(&str, u64, Option<&str>)]| {
            let expected = expected.iter().map(|(group, number, name)| InGroup {
                group: (*group).to_owned(),
                id: id(*number),
                name: name.map(str::to_owned),
            });
            let expected: Vec<_> = expected.collect();
            assert_eq!(store.group_tasks(most).unwrap(), expected, "{most}");
        };
        check(
            9,
            &[
                ("a", 5, None),
                ("b", 2, None),
                ("b", 4, Some("x")),
                ("b", 3, None),
            ],
        );
        check(2, &[("a", 5, None), ("b", 2, None), ("b", 4, Some("x"))]);
    });
}

#[test]
fn statuses_are_counted_and_environments_in_use_are_listed() {
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
fn filters_and_counts_agree_on_each_status() {
    check(|store| {
        let mut leader = Leader::of(store);
        leader.put(tasks());
        let counts = store.counts().unwrap();
        let all: u64 = counts.iter().map(|(_, count)| count).sum();
        assert_eq!(all, tasks().len() as u64);
        for (status, count) in counts {
            let filter = Filter::in_state(status);
            assert_eq!(ids(store, &filter).len() as u64, count, "{status:?}");
        }
    });
}

#[test]
fn tasks_that_ended_last_come_first() {
    check(|store| {
        let mut leader = Leader::of(store);
        let ended = |number: u64, outcome: Outcome, second: u64| {
            let mut task = done(ready(number), outcome);
            if let State::Done { at: end, .. } = &mut task.state {
                *end = at(second);
            }
            task
        };
        leader.put(vec![
            ended(1, Outcome::Succeeded, 90),
            ended(2, Outcome::Failed, 50),
            ended(3, Outcome::Failed, 70),
            ended(4, Outcome::Succeeded, 70),
            ready(5),
        ]);
        let check = |filter: Filter, limit: usize, expected: &[u64]| {
            let found = store.last_ended(&filter, limit).unwrap();
            let found: Vec<_> = found.iter().map(|task| task.id).collect();
            let expected: Vec<_> = expected.iter().map(|number| id(*number)).collect();
            assert_eq!(found, expected, "{filter:?}");
        };
        check(Filter::default(), 9, &[1, 4, 3, 2]);
        check(Filter::default(), 2, &[1, 4]);
        check(Filter::in_state(Status::Done(Outcome::Failed)), 9, &[3, 2]);
        check(Filter::in_state(Status::Ready), 9, &[]);
        let since = Some(at(70));
        check(
            Filter {
                since,
                ..Filter::default()
            },
            9,
            &[1, 4, 3],
        );
    });
}

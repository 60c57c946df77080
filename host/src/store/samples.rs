//! Sample tasks in the states and phases of schema 1, with everything that belongs to them.
//!
//! The content of [`batch`] must never change, because the fixture with the database of schema 1
//! was made from it. Data of later schemas is in separate functions.

#![allow(clippy::expect_used, reason = "a test fails by panicking")]

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use claudine_domain::{
    account::Parked,
    attempt::{Attempt, Ended, Leader, Phase, StopWhy, Usage},
    batch::{Batch, DocumentKey, Pruned},
    budget::{Day, Scope},
    capacity::Slots,
    event::{Event, Fact},
    id::{AccountKey, AttemptId, TaskId},
    ladder::Rung,
    outcome::{Outcome, Reason, ReasonClass},
    principal::{Authority, Kind, Principal, Via},
    profile::{Profile, ProfileKey},
    queue::{Pause, Queue},
    session::Session,
    task::{Class, Idempotency, InGraph, Priority, Request, State, Task, WaitingFor},
    time::{MonotonicMs, Timestamp},
};

/// The creation time of the first samples, 2025-10-09T08:53:20Z.
pub(super) const BEGINNING: u64 = 1_760_000_000_000;

/// The id of the sample with this number. The sample was created this many seconds after
/// [`BEGINNING`].
pub(super) fn id(number: u64) -> TaskId {
    TaskId::new(at(number).0, u128::from(number))
}

pub(super) fn at(second: u64) -> Timestamp {
    Timestamp(BEGINNING + second * 1_000)
}

pub(crate) fn ready(number: u64) -> Task {
    let request = Arc::new(Request {
        cwd: "/home/someone/project".into(),
        summary: format!("make {number}"),
        env_digest: "0f".repeat(32).into(),
        ladder: [Rung {
            signal: "TERM".to_owned(),
            wait_ms: 5_000,
        }]
        .into(),
        ..Request::new("shell", Class::Command)
    });
    Task {
        state: State::Ready {
            since: at(number),
            clock: None,
        },
        ..Task::blocked(id(number), request, Arc::default(), at(number))
    }
}

pub(super) fn asked(mut task: Task, edit: impl FnOnce(&mut Request)) -> Task {
    edit(Arc::make_mut(&mut task.request));
    task
}

pub(super) fn named(number: u64, name: &str) -> Task {
    asked(ready(number), |request| {
        request.name = Some(name.to_owned());
    })
}

pub(super) fn child(number: u64, parent: u64) -> Task {
    asked(ready(number), |request| {
        request.parent = Some(id(parent));
    })
}

/// A task of the graph whose first task is `first`.
pub(super) fn in_graph(number: u64, first: u64, name: Option<&str>) -> Task {
    asked(ready(number), |request| {
        request.graph = Some(Arc::new(InGraph {
            first: id(first),
            name: name.map(str::to_owned),
        }));
    })
}

pub(super) fn running(mut task: Task, phase: Phase) -> Task {
    let since = task.created_at;
    let number = task.last_attempt().map_or(1, |last| last.number + 1);
    let mut attempt = Attempt::new(number, since);
    if phase != Phase::Assigned {
        attempt.started_at = Some(since);
        attempt.started_monotonic = Some((MonotonicMs(81_000), "c5c3a2c6-5b8e-4f0f".into()));
        attempt.leader = Some(Leader {
            pid: 4_321,
            start_time: 987_654,
        });
    }
    task.attempts.push(attempt);
    task.state = State::Running { phase, since };
    task
}

pub(super) fn done(mut task: Task, outcome: Outcome) -> Task {
    let at = task.created_at.after(Duration::from_millis(250));
    let reason = (outcome != Outcome::Succeeded).then(|| {
        Reason::new(
            ReasonClass::Exit,
            "exit code 2: \"no rule\"\n\u{fffd}größe\0",
        )
    });
    if let Some(attempt) = task.attempts.last_mut() {
        attempt.session = Some(Session {
            id: "6e0b-11".to_owned(),
            model: Some("claude-opus".to_owned()),
        });
        attempt.ended = Some(Ended {
            reason: reason.clone(),
            exit_code: Some(2),
            usage: Usage {
                wall_ms: 250,
                cpu_ms: Some(12),
                peak_rss_bytes: None,
            },
            cost_micro_usd: Some(12_345),
            ..Ended::new(at, outcome)
        });
    }
    task.state = State::Done {
        at,
        outcome,
        reason,
        culprit: None,
    };
    task
}

fn waiting(number: u64) -> Task {
    let account = AccountKey("/home/someone/.claude#5c".to_owned());
    let mut task = asked(ready(number), |request| {
        request.account = Some(account.clone());
        request.class = Class::Agent;
        request.executor = "claude".into();
        request.serial_start = Some("/home/someone/.claude".to_owned());
        request.idempotency = Some(Box::new(Idempotency {
            key: "nightly-42".to_owned(),
            payload_digest: "ab".repeat(32),
        }));
        request.timeout = Some(Duration::from_millis(90_500));
    });
    task.state = State::Waiting {
        until: at(number + 600),
        why: WaitingFor::Account(account),
    };
    task
}

/// At least one task for each state, phase, way of stopping and outcome of schema 1.
pub(super) fn tasks() -> Vec<Task> {
    let reason = Some("no longer needed".to_owned());
    let phases = [
        Phase::Assigned,
        Phase::Starting,
        Phase::Live,
        Phase::Stopping(StopWhy::Cancelled { reason }),
        Phase::Stopping(StopWhy::Timeout),
        Phase::Stopping(StopWhy::StartTimeout),
        Phase::Stopping(StopWhy::IdleTimeout),
        Phase::Finishing,
    ];
    let labelled = asked(named(2, "nightly"), |request| {
        let label = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        request.labels = BTreeMap::from([
            label("team", "infra"),
            label("a \"b\".c$[0]", "größe\\\n"),
            label("", ""),
        ]);
        request.priority = Priority::P0;
    });
    let mut tasks = vec![waiting(0), ready(1), labelled, child(3, 2)];
    let rest = (10..).zip(phases);
    tasks.extend(rest.map(|(number, phase)| running(ready(number), phase)));
    let rest = (20..).zip(super::OUTCOMES);
    tasks.extend(rest.map(|(number, outcome)| done(running(ready(number), Phase::Live), outcome)));
    tasks.push(done(ready(30), Outcome::Cancelled));
    let twice = done(running(ready(31), Phase::Live), Outcome::Failed);
    tasks.push(done(running(twice, Phase::Live), Outcome::Succeeded));
    tasks
}

/// All tasks of [`tasks`], an account, and a document and an event of each kind of schema 1.
pub(crate) fn batch() -> Batch {
    let finished = AttemptId {
        task: id(20),
        number: 1,
    };
    let parked = Parked {
        until: at(600),
        stands_until: None,
        guesses: 2,
        times: 0,
        probe: Some(finished),
        limit: None,
    };
    let account = AccountKey("/home/someone/.claude#5c".to_owned());
    Batch {
        number: 7,
        tasks: tasks().into_iter().map(Arc::new).collect(),
        documents: vec![
            (
                DocumentKey::Spec(id(20)),
                br#"{"argv":["true"]}"#[..].into(),
            ),
            (DocumentKey::Outputs(finished), b"{}"[..].into()),
            (DocumentKey::Checkpoint(finished), [0, 255, 128][..].into()),
        ],
        dependencies: Vec::new(),
        groups: Vec::new(),
        queue: None,
        accounts: vec![(account.clone(), Some(parked))],
        profiles: Vec::new(),
        spent: Vec::new(),
        events: facts(account)
            .into_iter()
            .map(|fact| event(20, fact))
            .collect(),
        pruned: Pruned::default(),
    }
}

/// Data that schema 4 added: the sum of a day and the sum of a graph.
pub(super) fn spent() -> Vec<(Scope, u64)> {
    vec![
        (Scope::Day(Day(20_780)), 1_250_000),
        (Scope::Day(Day(20_781)), 0),
        (Scope::Graph(id(2)), u64::MAX >> 1),
    ]
}

/// Data that schema 3 added: two profiles.
pub(super) fn profiles() -> Vec<(ProfileKey, Option<Profile>)> {
    let executor = ProfileKey {
        executor: "claude".into(),
        class: Class::Agent,
        labels: BTreeMap::new(),
    };
    let labels = [("a \"b\"".to_owned(), "größe\\\n".to_owned())];
    let class = ProfileKey {
        labels: BTreeMap::from(labels),
        ..executor.clone()
    };
    vec![
        (
            executor,
            Some(profile(70, &[(150, 450 << 20), (0, 4 << 20)])),
        ),
        (class, Some(profile(1, &[(u32::MAX, u64::MAX)]))),
    ]
}

/// Data that schema 8 added: a queue that an agent has paused, and a number of slots.
pub(super) fn queue() -> Queue {
    let by = Arc::new(Principal {
        kind: Kind::Agent { task: Some(id(1)) },
        ..Principal::default()
    });
    Queue {
        paused: Some(Pause { since: at(9), by }),
        slots: Some(Slots::Fixed(3)),
        sessions_forgotten_to: None,
        all_sessions_forgotten_to: None,
    }
}

/// A profile with these samples, each as thousandths of a core and bytes of memory.
pub(super) fn profile(attempts: u64, samples: &[(u32, u64)]) -> Profile {
    let body = serde_json::json!({
        "attempts": attempts,
        "taught_at": at(attempts).0,
        "samples": samples,
    });
    serde_json::from_value(body).expect("the shape is that of a profile")
}

pub(super) fn event(number: u64, fact: Fact) -> Event {
    Event {
        task: id(number),
        at: at(number),
        by: None,
        fact,
    }
}

/// Makes an agent the submitter of the first task, a holder of this task, and the cause of the
/// first event. All fields of the agent except its name are set.
pub(super) fn name_principals(batch: &mut Batch) {
    let agent = Arc::new(Principal {
        kind: Kind::Agent { task: Some(id(1)) },
        name: None,
        via: Via::Mcp,
        restrained: true,
    });
    if let Some(event) = batch.events.first_mut() {
        event.by = Some(agent.clone());
    }
    if let Some(task) = batch.tasks.first_mut().map(Arc::make_mut) {
        task.holders.push(agent.clone());
        let request = Arc::make_mut(&mut task.request);
        request.by = agent;
        request.authority = Some(Arc::new(Authority::of_words("edit", ["network"])));
    }
}

/// Data that schema 7 added: a graph with a name, a task in a group, and a manual merge.
pub(super) fn put_in_graph(batch: &mut Batch) {
    let graph = [(40, Some("release")), (41, None)];
    let tasks = graph.map(|(number, name)| in_graph(number, 40, name));
    let grouped = asked(ready(42), |request| request.group = Some("gpu".to_owned()));
    let more = tasks.into_iter().chain([grouped]);
    batch.tasks.extend(more.map(Arc::new));
    batch
        .events
        .push(event(20, Fact::MergedByHand { attempt: 2 }));
}

fn facts(account: AccountKey) -> Vec<Fact> {
    let outcome = Outcome::Failed;
    let reason = Some(Reason::new(ReasonClass::Signal, "killed"));
    vec![
        Fact::Submitted,
        Fact::Parked {
            account,
            until: at(600),
        },
        Fact::BackToReady,
        Fact::AttemptStarted {
            attempt: 1,
            leader: Some(Leader {
                pid: 7,
                start_time: 8,
            }),
        },
        Fact::Progress {
            attempt: 1,
            progress: "tool".to_owned(),
            data: "{\"name\":\"Bash\"}".to_owned(),
        },
        Fact::StopRequested {
            attempt: 1,
            why: StopWhy::IdleTimeout,
        },
        Fact::AttemptEnded {
            attempt: 1,
            outcome,
            reason: reason.clone(),
        },
        Fact::Done {
            outcome,
            reason,
            culprit: None,
        },
        Fact::Retried,
    ]
}

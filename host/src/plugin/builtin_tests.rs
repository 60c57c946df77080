//! Tests of the built-in components in the host: the promises of the contract, seen from a real
//! guest.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::builtin::BUILTINS;
use super::catalog::{Catalog, Places, Status};
use super::check;
use super::engine::Wasm;
use super::error::{Crash, GuestEnd};
use super::fixtures::{Recorder, draft, share_code, task};
use super::load::Compiler;
use super::port::{
    AuthorityStep, GuestOutcome, GuestTask, InputPiece, InputStream, Start, StopRequest,
};
use super::transcript::{ItemKind, Transcribes};
use crate::digest;

/// A catalog of the components in this binary.
struct House {
    _dir: tempfile::TempDir,
    catalog: Catalog,
}

fn house() -> House {
    assert!(
        !BUILTINS.is_empty(),
        "these tests were built without plugins: `cargo xtask test` sets CLAUDINE_PLUGINS for them"
    );
    let dir = tempfile::tempdir().unwrap();
    share_code(dir.path());
    let places = Places {
        data_dir: dir.path().into(),
        compiler: Compiler::Here,
        configs: BTreeMap::new(),
    };
    let catalog = Catalog::open_with(places, BUILTINS, Wasm::on_demand).unwrap();
    House { _dir: dir, catalog }
}

fn asked(spec: &str) -> GuestTask {
    GuestTask {
        spec: spec.into(),
        ..task()
    }
}

/// Runs a script of the mock executor to its end.
async fn mock(script: &str, start: Start, host: &Arc<Recorder>) -> Result<GuestOutcome, GuestEnd> {
    let house = house();
    let (_keep, stop) = oneshot::channel();
    house
        .catalog
        .executor("mock")
        .unwrap()
        .run(asked(script), start, Arc::clone(host) as _, stop)
        .await
}

#[test]
fn recorded_digest_is_that_of_the_component() {
    assert!(!BUILTINS.is_empty());
    for builtin in BUILTINS {
        let component = builtin.component().unwrap();
        check::header(&component).unwrap();
        assert_eq!(digest::hex(&component), builtin.digest);
    }
}

#[tokio::test]
async fn every_builtin_plugin_is_an_executor_and_is_granted_its_permissions() {
    let house = house();
    for name in ["claude", "mock", "shell"] {
        let inspection = house.catalog.inspect(name).await.unwrap();
        let component = inspection.component.unwrap();
        assert!(
            component
                .imports
                .iter()
                .all(|import| import.starts_with("claudine:plugin/")),
            "{:?}",
            component.imports
        );
        assert!(
            component.task_schema.contains("json-schema.org"),
            "{}",
            component.task_schema
        );
        assert!(component.config_schema.contains("object"));
        assert_eq!(component.config_issues, []);
        let shipped = inspection.listing.shipped.unwrap();
        let asks = shipped.manifest.permissions.process.unwrap().commands;
        assert_eq!(
            shipped.grant.process,
            asks.iter().map(ToString::to_string).collect::<Vec<_>>()
        );
        assert!(
            matches!(inspection.listing.status, Status::Looked(_)),
            "{:?}",
            inspection.listing.status
        );
    }
    assert_eq!(house.catalog.executor_names(), ["claude", "mock", "shell"]);
}

/// The stop ladder of each executor, and how long its tasks may be silent.
#[tokio::test]
async fn agents_have_their_own_timeouts_and_stop_ladder() {
    let house = house();
    let check = async |name: &str, start: Option<u64>, idle: Option<u64>, ladder: &[&str]| {
        let inspection = house.catalog.inspect(name).await.unwrap();
        let manifest = inspection.listing.shipped.unwrap().manifest;
        assert_eq!(manifest.standby, name == "shell");
        let seconds = |time: Option<Duration>| time.map(|time| time.as_secs());
        assert_eq!(seconds(manifest.start_timeout), start, "{name}");
        assert_eq!(seconds(manifest.idle_timeout), idle, "{name}");
        let signals: Vec<_> = manifest
            .stop
            .iter()
            .map(|rung| format!("{:?}", rung.signal))
            .collect();
        assert_eq!(signals, ladder, "{name}");
    };
    check("claude", Some(120), Some(1_800), &["Int", "Term", "Kill"]).await;
    check("shell", None, None, &["Term", "Kill"]).await;
}

#[tokio::test]
async fn a_spec_is_checked_by_its_executor() {
    let house = house();
    let check = async |name: &str, spec: &str, expected: usize| {
        let issues = house
            .catalog
            .executor(name)
            .unwrap()
            .validate(spec, &Vec::new())
            .await
            .unwrap();
        assert_eq!(issues.len(), expected, "{name} {spec}: {issues:?}");
    };
    check("shell", r#"{"argv": ["true"]}"#, 0).await;
    check("shell", r#"{"argv": []}"#, 1).await;
    check("mock", "{}", 0).await;
    check("mock", r#"{"steps": [{"no_such_step": 1}]}"#, 1).await;
}

/// The authority that each executor reports, which the host compares with ceilings.
#[tokio::test]
async fn each_executor_reports_the_authority_of_its_tasks() {
    use AuthorityStep::{Edit, Full, Read, Run};
    let house = house();
    let check = async |name: &str, spec: &str, step: AuthorityStep, extras: &[&str]| {
        let executor = house.catalog.executor(name).unwrap();
        let authority = executor.authority(&draft(spec)).await;
        let found: Vec<_> = authority.extras.iter().map(String::as_str).collect();
        assert_eq!((authority.step, &*found), (step, extras), "{name} {spec}");
    };
    check("shell", r#"{"argv": ["true"]}"#, Full, &[]).await;
    check("claude", r#"{"prompt": "x"}"#, Edit, &[]).await;
    let plan = r#"{"prompt": "x", "permission_mode": "plan", "allowed_tools": ["WebSearch"]}"#;
    check("claude", plan, Read, &["network"]).await;
    let tests = r#"{"prompt": "x", "allowed_tools": ["Bash(npm test)"]}"#;
    check("claude", tests, Run, &[]).await;
    let unknown = r#"{"prompt": "x", "extra_args": ["--settings", "{}"]}"#;
    check("claude", unknown, Full, &[]).await;
    check("claude", "not even JSON", Full, &[]).await;
    let told = r#"{"authority": {"step": "read", "extras": ["push", "network"]}}"#;
    check("mock", told, Read, &["network", "push"]).await;
    check("mock", r#"{"trap_in_authority": true}"#, Full, &[]).await;
    check("mock", "{}", Full, &[]).await;
}

/// The host checks fields of the document too, for example the session that it names. So a document
/// is refused if another reader could find other values in it.
#[tokio::test]
async fn an_agents_document_with_an_unclear_field_is_refused_and_counts_as_full() {
    let house = house();
    let executor = house.catalog.executor("claude").unwrap();
    let check = async |fields: &[(&str, &str)], is_accepted: bool| {
        let fields = fields
            .iter()
            .map(|(name, value)| format!("\"{name}\":{value}"));
        let spec = format!("{{{}}}", fields.collect::<Vec<_>>().join(","));
        let issues = executor.validate(&spec, &Vec::new()).await.unwrap();
        assert_eq!(issues.is_empty(), is_accepted, "{spec}: {issues:?}");
        let step = executor.authority(&draft(&spec)).await.step;
        let expected = if is_accepted {
            AuthorityStep::Read
        } else {
            AuthorityStep::Full
        };
        assert_eq!(step, expected, "{spec}");
    };
    let session = "\"8f14e45f-ceea-467f-9d2c-51f1c7a6a6d1\"";
    let in_list = format!("[{session}]");
    // Each field with a valid value, and with values of other types.
    let fields: [(&str, &str, &[&str]); 10] = [
        ("prompt", "\"p\"", &["1", "[\"p\"]", "null"]),
        ("model", "\"opus\"", &["1", "[\"opus\"]"]),
        (
            "permission_mode",
            "\"plan\"",
            &["1", "[\"plan\"]", "\"Plan\""],
        ),
        ("allowed_tools", "[\"Read\"]", &["\"Read\"", "[1]", "null"]),
        ("append_system_prompt", "\"be brief\"", &["1", "[\"x\"]"]),
        ("max_turns", "1", &["\"1\"", "1.5", "[1]"]),
        ("max_budget_usd", "1", &["\"1\"", "[1]"]),
        ("fail_on_denied", "true", &["\"true\"", "1", "null"]),
        ("resume_session", session, &["1", in_list.as_str()]),
        ("extra_args", "[]", &["\"--effort\"", "[1]", "null"]),
    ];
    for (field, value, others) in fields {
        let rest = [("prompt", "\"p\""), ("permission_mode", "\"plan\"")];
        let rest = rest.into_iter().filter(|(name, _)| *name != field);
        let rest: Vec<(&str, &str)> = rest.collect();
        let beside = async |more: &[(&str, &str)], is_accepted: bool| {
            check(&[&rest[..], more].concat(), is_accepted).await;
        };
        beside(&[(field, value)], true).await;
        beside(&[(field, value), (field, value)], false).await;
        let capital = field[..1].to_uppercase() + &field[1..];
        for odd in [field.to_uppercase(), capital] {
            beside(&[(odd.as_str(), value)], false).await;
            beside(&[(field, value), (odd.as_str(), value)], false).await;
        }
        for other in others {
            beside(&[(field, *other)], false).await;
        }
    }
}

#[tokio::test]
async fn each_executor_makes_a_transcript_of_its_output() {
    let house = house();
    let check = async |name: &str, pieces: &[&str], expected: &[(ItemKind, &str)]| {
        let executor = house.catalog.executor(name).unwrap();
        let (mut state, mut found) = (Vec::new(), Vec::new());
        for piece in pieces.iter().copied().chain([""]) {
            let part = [piece.as_bytes().to_vec()];
            let reading = executor.transcript(&part, state).await.unwrap();
            state = reading.state;
            found.extend(reading.items.concat());
        }
        let found: Vec<_> = found.iter().map(|item| (item.kind, &*item.text)).collect();
        assert_eq!(found, expected, "{name}");
    };
    let plain = [(ItemKind::Text, "one\n"), (ItemKind::Text, "two")];
    check("shell", &["on", "e\ntw", "o"], &plain).await;
    let call = r#"{"type":"assistant","message":{"content":[{"type":"tool_use","name":"Bash","#;
    let rest = "\"input\":{\"command\":\"ls\"}}]}}\nwarning\n";
    let items = [(ItemKind::Tool, "ls"), (ItemKind::Text, "warning")];
    check("claude", &[call, rest], &items).await;
    // The line is larger than the piece that a guest is given at a time.
    let long = "x".repeat(100_000) + "\n";
    let executor = house.catalog.executor("shell").unwrap();
    let parts = [long.as_bytes().to_vec(), b"end".to_vec(), Vec::new()];
    let reading = executor.transcript(&parts, Vec::new()).await.unwrap();
    let texts = reading.items.iter().map(|items| {
        let texts = items.iter().map(|item| &*item.text);
        texts.collect::<String>()
    });
    let texts: Vec<String> = texts.collect();
    assert!(
        texts == [&*long, "", "end"],
        "each item belongs to the part that completed it"
    );
    assert_eq!(reading.state.len(), 0);
}

#[tokio::test]
async fn an_outcome_is_passed_on_unchanged() {
    let script = r#"{"outcome": {"cause": "exit", "code": 3, "summary": "three", "outputs": {"a": [1]}, "retry_after_ms": 1500,
        "metrics": [["x_ms", 2.5]]}}"#;
    let outcome = mock(script, Start::Fresh, &Arc::default()).await.unwrap();
    assert_eq!(
        (outcome.cause.as_str(), outcome.code, outcome.signal),
        ("exit", Some(3), None)
    );
    assert_eq!(
        (outcome.summary.as_str(), outcome.outputs.as_str()),
        ("three", r#"{"a":[1]}"#)
    );
    assert_eq!(
        (outcome.retry_after, outcome.metrics),
        (
            Some(Duration::from_millis(1500)),
            vec![("x_ms".to_owned(), 2.5)]
        )
    );
}

#[tokio::test]
async fn a_failure_is_passed_on_unchanged() {
    let script = r#"{"fail": {"code": "network", "message": "no route", "retryable": true, "retry_after_ms": 20}}"#;
    let GuestEnd::Failed(failure) = mock(script, Start::Fresh, &Arc::default())
        .await
        .unwrap_err()
    else {
        panic!("no failure")
    };
    assert_eq!(
        (
            failure.code.as_str(),
            failure.message.as_str(),
            failure.retryable
        ),
        ("network", "no route", true)
    );
    assert_eq!(failure.retry_after, Some(Duration::from_millis(20)));
}

/// The child that was started before the trap is found again, and no second child is started.
#[tokio::test]
async fn an_attempt_continues_in_a_new_instance_after_a_trap() {
    let host = Arc::new(Recorder::default());
    let script = r#"{"steps": [{"spawn": {"argv": ["x"], "wait": false}}, {"checkpoint": "here"}, {"trap_once": true}, {"alive": true}]}"#;
    let outcome = mock(script, Start::Fresh, &host).await.unwrap();
    assert_eq!((outcome.cause.as_str(), host.crashes()), ("success", 1));
    assert_eq!(*host.spawned.lock().unwrap(), ["x"]);
    assert_eq!(host.reports.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_resumed_attempt_continues_from_its_checkpoint() {
    let host = Arc::new(Recorder::default());
    let script =
        r#"{"steps": [{"checkpoint": "first"}, {"checkpoint": "second"}, {"alive": true}]}"#;
    mock(script, Start::Fresh, &host).await.unwrap();
    let state = host.states.lock().unwrap()[0].clone();
    let later = Arc::new(Recorder::default());
    mock(script, Start::Resume(state), &later).await.unwrap();
    assert_eq!(
        later.states.lock().unwrap().len(),
        1,
        "the first step was done already"
    );
}

#[tokio::test]
async fn an_attempt_that_keeps_crashing_ends_with_the_reason() {
    let check = async |step: &str, expected: &str| {
        let host = Arc::new(Recorder::default());
        let end = mock(&format!(r#"{{"steps": [{step}]}}"#), Start::Fresh, &host)
            .await
            .unwrap_err();
        let GuestEnd::Crashed { times: 4, last } = &end else {
            panic!("{end}")
        };
        assert!(last.to_string().contains(expected), "{last}");
        assert!(matches!(
            (expected, last),
            ("64 MiB", Crash::Limit(_)) | ("waiting", Crash::Spun(_)) | (_, Crash::Trap(_))
        ));
    };
    check(r#"{"trap": true}"#, "trapped").await;
    // A panic traps without a message of its own; the message is logged before.
    check(r#"{"panic": "what a pity"}"#, "what a pity").await;
    check(r#"{"eat_memory": true}"#, "64 MiB").await;
    check(r#"{"spin": true}"#, "waiting").await;
}

#[tokio::test]
async fn the_message_of_a_panic_is_logged() {
    let host = Arc::new(Recorder::default());
    let end = mock(
        r#"{"steps": [{"panic": "what a pity"}]}"#,
        Start::Fresh,
        &host,
    )
    .await;
    assert!(matches!(end, Err(GuestEnd::Crashed { .. })), "{end:?}");
    let lines = host.lines();
    assert!(
        lines.iter().any(|(_, line)| line.contains("what a pity")),
        "{lines:?}"
    );
}

#[tokio::test]
async fn a_stop_ends_an_attempt_whether_or_not_the_guest_answers() {
    let stop = async |script: &str, grace: Duration| {
        let house = house();
        let host = Arc::new(Recorder::default());
        let (ask, stop) = oneshot::channel();
        let executor = Arc::clone(house.catalog.executor("mock").unwrap());
        let attempt = tokio::spawn({
            let (host, task) = (Arc::clone(&host), asked(script));
            async move { executor.run(task, Start::Fresh, host, stop).await }
        });
        host.told.notified().await;
        ask.send(StopRequest {
            reason: "cancelled".into(),
            grace,
            last_words: Duration::ZERO,
        })
        .unwrap();
        attempt.await.unwrap()
    };
    let waits = r#"{"steps": [{"alive": true}, {"sleep_ms": 3600000}]}"#;
    assert_eq!(
        stop(waits, Duration::from_mins(1)).await.unwrap().cause,
        "signal"
    );
    let ignores = r#"{"steps": [{"alive": true}, {"sleep_ms": 3600000}], "ignore_stop": true}"#;
    assert_eq!(
        stop(ignores, Duration::from_millis(50)).await.unwrap_err(),
        GuestEnd::Dropped
    );
    let hangs = r#"{"steps": [{"alive": true}, {"hang": true}]}"#;
    assert_eq!(
        stop(hangs, Duration::from_millis(50)).await.unwrap_err(),
        GuestEnd::Dropped
    );
}

#[tokio::test]
async fn output_reaches_the_guest_complete() {
    let host = Arc::new(Recorder {
        output: vec![b'x'; 3_000_000],
        ..Recorder::default()
    });
    let script = r#"{"steps": [{"spawn": {"argv": ["x"], "wait": false}}, {"read": "stdout"}]}"#;
    let outcome = mock(script, Start::Fresh, &host).await.unwrap();
    assert_eq!(outcome.outputs, r#"{"read_bytes":3000000}"#);
}

/// A gap is reported at its place, and reading continues after it.
#[tokio::test]
async fn a_gap_in_the_output_is_reported_to_the_guest() {
    let read = r#"{"steps": [{"spawn": {"argv": ["x"]}}, {"read": "stdout"}]}"#;
    let host = Arc::new(Recorder {
        output: vec![b'x'; 300_000],
        gap: Some(100_000..250_000),
        ..Recorder::default()
    });
    let outcome = mock(read, Start::Fresh, &host).await.unwrap();
    let expected = r#"{"left_out_bytes":150000,"read_bytes":150000}"#;
    assert_eq!(outcome.outputs, expected);
}

#[tokio::test]
async fn unreadable_output_is_a_failure_and_not_a_crash() {
    let read = r#"{"steps": [{"spawn": {"argv": ["x"]}}, {"read": "stdout"}]}"#;
    let host = Arc::new(Recorder {
        is_unreadable: true,
        ..Recorder::default()
    });
    let end = mock(read, Start::Fresh, &host).await.unwrap_err();
    let GuestEnd::Failed(failure) = &end else {
        panic!("{end}")
    };
    assert_eq!((failure.code.as_str(), host.crashes()), ("resource", 0));
    assert!(failure.message.contains("no such block"), "{failure:?}");
}

/// Runs a script together with a reader of the stream that it feeds to its child.
async fn feeding<T>(
    script: &str,
    fed: impl AsyncFnOnce(InputStream) -> T,
) -> (Result<GuestOutcome, GuestEnd>, T) {
    let host = Arc::new(Recorder::default());
    let stream = async {
        host.streamed.notified().await;
        let stream = host.streams.lock().unwrap().pop().unwrap();
        fed(stream).await
    };
    tokio::join!(mock(script, Start::Fresh, &host), stream)
}

#[tokio::test]
async fn a_stream_ends_if_the_guest_finishes_it_and_breaks_off_otherwise() {
    let check = async |bytes: u64, piece_bytes: u64, then: &str, expected: InputPiece| {
        let script = format!(
            r#"{{"steps": [{{"feed": {{"argv": ["cat"], "bytes": {bytes}, "piece_bytes": {piece_bytes}, "then": "{then}"}}}}]}}"#
        );
        let (_, (read, end)) = feeding(&script, async |mut stream| {
            let mut read = Vec::new();
            loop {
                match stream.next().await {
                    InputPiece::Bytes(bytes) => read.extend(bytes),
                    end => return (read, end),
                }
            }
        })
        .await;
        let written = (0..bytes).map(|at| u8::try_from(at % 251).unwrap());
        assert!(read.into_iter().eq(written), "{script}");
        assert_eq!(end, expected, "{script}");
    };
    check(0, 1, "finish", InputPiece::End).await;
    check(3_000_000, 65536, "finish", InputPiece::End).await;
    check(3_000_000, 1_000_000, "finish", InputPiece::End).await;
    check(1000, 1, "finish", InputPiece::End).await;
    check(300_000, 65536, "trap", InputPiece::BrokenOff).await;
    // The SDK kills a child whose input it cannot end.
    check(300_000, 65536, "drop", InputPiece::BrokenOff).await;
    check(300_000, 65536, "keep", InputPiece::BrokenOff).await;
}

#[tokio::test]
async fn an_unread_stream_slows_the_guest_down_without_hanging_it() {
    let script = r#"{"steps": [{"feed": {"argv": ["cat"], "bytes": 50000000}}]}"#;
    let (outcome, waiting) = feeding(script, async |stream| {
        while stream.waiting() < 2 {
            tokio::task::yield_now().await;
        }
        // After these yields the guest has done everything that it can do without a reader.
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
        stream.waiting()
    })
    .await;
    assert_eq!(waiting, 2);
    let outputs: serde_json::Value = serde_json::from_str(&outcome.unwrap().outputs).unwrap();
    assert!(
        outputs["fed_bytes"].as_u64().unwrap() <= 3 * 65536,
        "{outputs}"
    );
}

#[tokio::test]
async fn dropping_an_attempt_breaks_off_its_stream() {
    let script = r#"{"steps": [{"feed": {"argv": ["cat"], "bytes": 50000000}}]}"#;
    let host = Arc::new(Recorder::default());
    let mut stream = tokio::select! {
        end = mock(script, Start::Fresh, &host) => panic!("nobody reads: {end:?}"),
        () = host.streamed.notified() => host.streams.lock().unwrap().pop().unwrap(),
    };
    let end = loop {
        match stream.next().await {
            InputPiece::Bytes(_) => {}
            end => break end,
        }
    };
    assert_eq!(end, InputPiece::BrokenOff);
}

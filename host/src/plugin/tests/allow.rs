//! The permissions of a component, by its manifest and its grant.

use std::sync::Arc;
use std::time::Duration;

use super::{House, run, run_unseen};
use crate::clock;
use crate::plugin::{
    error::{GuestEnd, PluginError},
    fixtures::{self, Recorder, Wat},
    port::{Authority, AuthorityStep, HealthState},
};

#[tokio::test]
async fn a_guest_with_too_many_child_handles_is_ended() {
    let house = House::with(&Wat::good().run(fixtures::EAT_CHILD_HANDLES).component());
    let host = Arc::new(Recorder {
        children: vec![crate::plugin::port::ChildRef::new("task_01.1/0")],
        ..Recorder::default()
    });
    // `resume` succeeds, because the handles were released with the crashed instance.
    assert_eq!(run(house.executor(), &host).await.unwrap().cause, "success");
    assert_eq!(host.crashes(), 1);
}

/// Calls `spawn`. The result is at 4096: first its discriminant and, 8 bytes further, the code of a
/// failure.
fn spawn(command: (u32, u32)) -> String {
    let (at, length) = command;
    // Arguments, working directory, variables, standard input and options are empty.
    let zeros = "(i32.const 0) ".repeat(14);
    format!(
        "(call $spawn (i32.const {at}) (i32.const {length}) {zeros} (i32.const 4096))
         (if (i32.eqz (i32.load8_u (i32.const 4096))) (then (return (call $success))))
         (i32.store8 (i32.const 2048) (i32.const 1))
         (memory.copy (i32.const 2056) (i32.const 4104) (i32.const 48))
         (return (i32.const 2048))"
    )
}

#[tokio::test]
async fn a_child_starts_only_if_manifest_and_grant_allow_its_command() {
    async fn check(granted: &[&str], command: (u32, u32), expected: Result<&str, &str>) {
        let house = House::granting(&Wat::good().run(&spawn(command)).component(), granted);
        let host = Arc::new(Recorder::default());
        let result = run(house.executor(), &host).await;
        let spawned = host.spawned.lock().unwrap().clone();
        match (result, expected) {
            // The name was resolved to this file.
            (Ok(_), Ok(name)) => {
                let [file] = spawned.as_slice() else {
                    panic!("{spawned:?}")
                };
                let file = std::path::Path::new(file);
                assert!(file.is_absolute() && file.ends_with(name), "{file:?}");
            }
            (Err(GuestEnd::Failed(failure)), Err(part)) => {
                assert!(spawned.is_empty());
                assert!(failure.message.contains(part), "{failure:?}");
            }
            (result, _) => panic!("{result:?}"),
        }
    }
    let (sh, guest, nul) = ((96, 2), (48, 5), (112, 5));
    check(&["sh"], sh, Ok("sh")).await;
    check(&[], sh, Err("grants/guest.toml")).await;
    check(
        &["sh"],
        guest,
        Err("manifest of guest does not ask to start `guest`"),
    )
    .await;
    check(&["*"], nul, Err("does not ask")).await;
}

/// Runs a guest that makes this call `count` times; returns the recorder and the time it took.
async fn flood(call: &str, count: u32) -> (Arc<Recorder>, Duration) {
    let body = format!(
        "(local $left i32) (local.set $left (i32.const {count}))
        (loop $again {call}
            (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))"
    );
    let house = House::with(&Wat::good().run(&body).component());
    house.executor().task_schema().await.unwrap();
    let host = Arc::new(Recorder::default());
    let before = clock::monotonic();
    run(house.executor(), &host).await.unwrap();
    (host, clock::monotonic().saturating_sub(before))
}

/// The most calls that a limit per second allows within a time. A new window begins as soon as the
/// last one is over.
fn most(limit: u32, time: Duration) -> usize {
    usize::try_from(u64::from(limit) * (time.as_secs() + 1)).unwrap()
}

#[tokio::test]
async fn log_lines_and_events_of_a_flood_are_limited_per_second() {
    let line = "(call $log (i32.const 2) (i32.const 48) (i32.const 5) (i32.const 0) (i32.const 0))";
    let (host, time) = flood(line, 20_000).await;
    let lines = host.lines();
    let written = |text: &str| lines.iter().filter(|(_, line)| line == text).count();
    let allowed = 1_000..=most(1_000, time);
    assert!(allowed.contains(&written("guest")), "{time:?}");
    // An event of a kind that only this guest uses.
    let event = "(call $emit (i32.const 48) (i32.const 5) (i32.const 64) (i32.const 2))";
    let (host, time) = flood(event, 20_000).await;
    let told = host.reports.lock().unwrap().len();
    assert!(
        (100..=most(100, time)).contains(&told),
        "{told} in {time:?}"
    );
}

/// A flood of one kind of state drops no other kind, and its last report is passed on.
#[tokio::test]
async fn the_last_report_of_a_flood_of_states_is_passed_on() {
    // Reports `phase` 5,000 times with the same data, then a `cost`, and at last a `phase` with
    // other data.
    let imports = r#"(data (i32.const 160) "phase") (data (i32.const 176) "cost")"#;
    let body = "(local $left i32) (local.set $left (i32.const 5000))
        (loop $again
            (call $emit (i32.const 160) (i32.const 5) (i32.const 64) (i32.const 2))
            (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
        (call $emit (i32.const 176) (i32.const 4) (i32.const 64) (i32.const 2))
        (call $emit (i32.const 160) (i32.const 5) (i32.const 192) (i32.const 1))";
    let last = r#"(data (i32.const 192) "7")"#;
    let wat = Wat::good()
        .run(body)
        .with("data", format!("{imports} {last}"));
    let house = House::with(&wat.component());
    house.executor().task_schema().await.unwrap();
    let host = Arc::new(Recorder::default());
    let before = clock::monotonic();
    run(house.executor(), &host).await.unwrap();
    let time = clock::monotonic().saturating_sub(before);
    let reports = host.reports.lock().unwrap().clone();
    let told = |kind: &str| reports.iter().filter(|(told, _)| told == kind).count();
    assert_eq!(told("cost"), 1, "{reports:?}");
    assert_eq!(
        reports.last().unwrap(),
        &("phase".to_owned(), "7".to_owned())
    );
    let most = time.as_millis() / 50 + 3;
    assert!(
        told("phase") as u128 <= most,
        "{} in {time:?}",
        told("phase")
    );
}

/// Runs `sh` to its end; the result is at 4096 as for [`spawn`].
fn capture() -> String {
    let zeros = "(i32.const 0) ".repeat(14);
    format!("(call $capture (i32.const 96) (i32.const 2) {zeros} (i32.const 4096))")
}

/// Traps unless the preceding call failed with the code `denied`.
const UNLESS_DENIED: &str = r"
    (if (i32.eqz (i32.load8_u (i32.const 4096))) (then (unreachable)))
    (if (i32.ne (i32.load offset=4 (i32.const 4104)) (i32.const 6)) (then (unreachable)))
    (if (i32.ne (i32.load (i32.load (i32.const 4104))) (i32.const 0x696e6564)) (then (unreachable)))";

/// In a question `spawn` and `capture` are denied, and there is no attempt with children to list.
#[tokio::test]
async fn a_question_may_not_start_anything() {
    let zeros = "(i32.const 0) ".repeat(14);
    let spawn = format!("(call $spawn (i32.const 96) (i32.const 2) {zeros} (i32.const 4096))");
    let list = "(call $children (i32.const 4096))
        (if (i32.load offset=4 (i32.const 4096)) (then (unreachable)))";
    for body in [
        format!("{} {UNLESS_DENIED}", capture()),
        list.to_owned(),
        format!("{spawn} {UNLESS_DENIED}"),
    ] {
        for part in ["validate", "authority", "task-schema", "validate-config"] {
            let house = House::granting(&Wat::good().with(part, &*body).component(), &["sh"]);
            let executor = house.executor();
            let error = match part {
                "validate" => executor.validate("{}", &vec![]).await.err(),
                "authority" => (executor.authority(&fixtures::draft("{}")).await.step
                    == AuthorityStep::Full)
                    .then(|| PluginError::Answer {
                        message: "trapped".into(),
                    }),
                "task-schema" => executor.task_schema().await.err(),
                _ => executor.validate_config().await.err(),
            };
            // A question cannot wait for an asynchronous import at all, so calling such an import
            // traps.
            let is_waiting = !body.contains("$children");
            let trapped = error.is_some_and(|error| error.to_string().contains("trapped"));
            assert_eq!(trapped, is_waiting, "{part}: {body}");
        }
    }
}

#[tokio::test]
async fn an_attempt_may_not_capture_the_output_of_a_command() {
    let body = format!("{} {UNLESS_DENIED}", capture());
    let house = House::with(&Wat::good().run(&body).component());
    let outcome = run_unseen(house.executor()).await;
    assert_eq!(outcome.unwrap().cause, "success");
}

#[tokio::test]
async fn a_fingerprint_may_capture_the_output_of_a_granted_command() {
    let body = format!(
        "{} (if (i32.load8_u (i32.const 4096)) (then (unreachable)))",
        capture()
    );
    let house = House::with(&Wat::good().with("fingerprint", &*body).component());
    assert_eq!(
        house.executor().fingerprint().await.unwrap().state,
        HealthState::Healthy
    );
    let denied = House::granting(&Wat::good().with("fingerprint", &*body).component(), &[]);
    assert!(matches!(
        denied.executor().fingerprint().await,
        Err(PluginError::Crashed(_))
    ));
}

/// A question may read the host's facts and the clock.
#[tokio::test]
async fn a_question_may_read_the_facts_of_the_host_and_the_clock() {
    let body = "(call $facts (i32.const 4096))
        (if (i32.lt_u (i32.load offset=4 (i32.const 4096)) (i32.const 4)) (then (unreachable)))
        (drop (call $now))";
    let house = House::with(&Wat::good().with("validate", body).component());
    let issues = house.executor().validate("{}", &vec![]).await;
    assert_eq!(issues.unwrap(), []);
}

/// An authority that cannot be asked for counts as full.
#[tokio::test]
async fn an_unknown_authority_counts_as_full() {
    let step = |body: &str| Wat::good().with("authority", body);
    let told =
        "(call $text (i32.const 1664) (i32.const 16) (i32.const 7)) (return (i32.const 1664))";
    for (wat, expected) in [
        (Wat::good(), AuthorityStep::Edit),
        (step(fixtures::TRAP), AuthorityStep::Full),
        (step(fixtures::SPIN), AuthorityStep::Full),
        (step(told), AuthorityStep::Full),
    ] {
        let house = House::with(&wat.component());
        assert_eq!(
            house
                .executor()
                .authority(&fixtures::draft("{}"))
                .await
                .step,
            expected
        );
    }
    let house = House::with(b"not a component");
    assert_eq!(
        house.executor().authority(&fixtures::draft("{}")).await,
        Authority::full()
    );
}

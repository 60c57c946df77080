//! Components that trap, spin or use up resources, and the effects on themselves and on others.

use std::sync::Arc;

use super::{House, run, run_unseen};
use crate::plugin::{
    catalog::Status,
    error::{Crash, GuestEnd, PluginError},
    fixtures::{self, Recorder, Wat},
    transcript::Transcribes,
};

/// The instance of a hostile guest is ended, and the reason is reported.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hostile_question_is_ended_with_a_reason() {
    async fn check(part: &'static str, body: &str, expected: &str) {
        let wat = match part {
            "start" => Wat::good().with("start", format!("(start $begin) (func $begin {body})")),
            part => Wat::good().with(part, body),
        };
        let house = House::with(&wat.component());
        let executor = house.executor();
        let error = match part {
            "task-schema" => executor.task_schema().await.unwrap_err(),
            "fingerprint" => executor.fingerprint().await.unwrap_err(),
            "validate-config" => executor.validate_config().await.unwrap_err(),
            "config-schema" => executor.config_schema().await.unwrap_err(),
            "transcript" => executor
                .transcript(&[b"x".to_vec()], Vec::new())
                .await
                .unwrap_err(),
            _ => executor.validate("{}", &vec![]).await.unwrap_err(),
        };
        assert!(error.to_string().contains(expected), "{part}: {error}");
    }
    let (spun, memory, table) = (
        "without waiting",
        "more than 64 MiB of memory",
        "more than 10,000 table elements",
    );
    for part in [
        "config-schema",
        "transcript",
        "validate",
        "task-schema",
        "validate-config",
        "fingerprint",
        "realloc",
        "start",
    ] {
        check(part, fixtures::SPIN, spun).await;
        check(part, fixtures::TRAP, "unreachable").await;
    }
    check("validate", fixtures::EAT_MEMORY, memory).await;
    check("start", fixtures::EAT_MEMORY, memory).await;
    check("validate", fixtures::EAT_TABLE, table).await;
    check("validate", fixtures::EAT_HANDLES, "trapped").await;
    // A string of a gigabyte, which is larger than the guest's memory, and a string of 32 MiB,
    // which fits into the memory.
    check(
        "validate",
        "(call $log (i32.const 2) (i32.const 0) (i32.const 1073741824) (i32.const 0) (i32.const 0))",
        "trapped",
    )
    .await;
    let long = "(drop (memory.grow (i32.const 512))) (call $log (i32.const 2) (i32.const 0) (i32.const 33554432)
        (i32.const 0) (i32.const 0))";
    check("validate", long, "trapped").await;
    check(
        "validate",
        "(call $log (i32.const 9) (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 0))",
        "trapped",
    )
    .await;
    check(
        "task-schema",
        "(call $text (i32.const 1408) (i32.const 128) (i32.const 8)) (return (i32.const 1408))",
        "not JSON",
    )
    .await;
    check(
        "validate",
        "(call $sleep (i64.const 1000)) (unreachable)",
        "trapped",
    )
    .await;
}

/// A call of an import does not count as waiting: a loop around it is ended like any other loop.
#[tokio::test]
async fn a_loop_of_calls_that_do_not_wait_is_ended() {
    let zeros = "(i32.const 0) ".repeat(14);
    for call in [
        // This call is denied, since the command was not granted.
        format!("(call $spawn (i32.const 48) (i32.const 5) {zeros} (i32.const 4096))"),
        format!("(call $capture (i32.const 96) (i32.const 2) {zeros} (i32.const 4096))"),
        "(call $checkpoint (i32.const 32) (i32.const 7) (i32.const 4096))".to_owned(),
        "(call $children (i32.const 4096))".to_owned(),
        "(drop (call $now))".to_owned(),
        "(call $emit (i32.const 80) (i32.const 5) (i32.const 64) (i32.const 2))".to_owned(),
    ] {
        // The guest's memory is used again, because a full memory would end the guest earlier.
        let again = "(global.set $heap (i32.const 65536)) (br $again)";
        let body = format!("(loop $again {call} {again})");
        let house = House::with(&Wat::good().run(&body).component());
        let host = Arc::new(Recorder::default());
        // `resume` succeeds.
        assert_eq!(run(house.executor(), &host).await.unwrap().cause, "success");
        let lines = host.lines();
        assert!(
            lines
                .iter()
                .any(|(_, line)| line.contains("without waiting")),
            "{call}: {lines:?}"
        );
    }
}

/// A wait takes at least a tick, so a loop that waits as briefly as possible costs almost nothing.
#[tokio::test]
async fn a_sleep_of_zero_takes_at_least_a_tick() {
    let body = "(local $left i32) (local.set $left (i32.const 20))
        (loop $again (call $sleep (i64.const 0))
            (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))";
    let house = House::with(&Wat::good().run(body).component());
    house.executor().task_schema().await.unwrap();
    let before = crate::clock::monotonic();
    let outcome = run_unseen(house.executor()).await.unwrap();
    assert_eq!(outcome.cause, "success");
    let passed = crate::clock::monotonic().saturating_sub(before);
    assert!(passed >= 20 * crate::plugin::limits::TICK, "{passed:?}");
}

#[tokio::test]
async fn a_crashed_attempt_is_resumed_from_the_last_checkpoint() {
    // `run` stores "healthy" as its state and traps; `resume` succeeds only if it is given seven
    // bytes. The task's record takes 104 bytes, and the state follows it.
    let store_and_trap =
        "(call $checkpoint (i32.const 32) (i32.const 7) (i32.const 4096)) (unreachable)";
    let seven =
        "(if (i32.ne (i32.load offset=108 (local.get $task)) (i32.const 7)) (then (unreachable)))";
    let house = House::with(
        &Wat::good()
            .run(store_and_trap)
            .with("resume", seven)
            .component(),
    );
    let host = Arc::new(Recorder::default());
    let outcome = run(house.executor(), &host).await.unwrap();
    assert_eq!(outcome.cause, "success");
    assert_eq!(*host.states.lock().unwrap(), [b"healthy".to_vec()]);
    assert_eq!(host.crashes(), 1);
}

#[tokio::test]
async fn an_attempt_ends_after_four_crashes_and_five_such_attempts_disable_the_plugin() {
    let house = House::with(
        &Wat::good()
            .run(fixtures::TRAP)
            .with("resume", fixtures::TRAP)
            .component(),
    );
    let executor = house.executor();
    for _ in 0..5 {
        let host = Arc::new(Recorder::default());
        let end = run(executor, &host).await.unwrap_err();
        assert!(
            matches!(&end, GuestEnd::Crashed { times: 4, last: Crash::Trap(text) } if text.contains("unreachable")),
            "{end}"
        );
        assert_eq!(host.crashes(), 4);
        assert_eq!(end.failure("guest").code, "plugin");
    }
    let end = run_unseen(executor).await.unwrap_err();
    assert!(
        matches!(
            &end,
            GuestEnd::Unavailable(PluginError::Disabled { attempts: 5, .. })
        ),
        "{end}"
    );
    assert!(matches!(
        &house.catalog.list(false).await[0].status,
        Status::Broken(PluginError::Disabled { .. })
    ));
    executor.fingerprint().await.unwrap();
    assert!(
        executor.disabled().is_some(),
        "a successful check of the machine does not enable the plugin again"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spinning_guests_on_every_worker_do_not_block_other_guests() {
    let spinning = House::with(&Wat::good().run(fixtures::SPIN).component());
    let good = House::with(&Wat::good().component());
    let hosts: Vec<_> = (0..4).map(|_| Arc::new(Recorder::default())).collect();
    let attempts: Vec<_> = hosts
        .iter()
        .map(|host| {
            let (executor, host) = (Arc::clone(spinning.executor()), Arc::clone(host));
            tokio::spawn(async move { run(&executor, &host).await })
        })
        .collect();
    for _ in 0..10 {
        assert_eq!(good.executor().validate("{}", &vec![]).await.unwrap(), []);
    }
    assert!(
        hosts.iter().all(|host| host.crashes() == 0),
        "the questions were answered while the others were spinning"
    );
    for attempt in attempts {
        // `resume` of this guest succeeds.
        assert_eq!(attempt.await.unwrap().unwrap().cause, "success");
    }
    assert!(
        hosts
            .iter()
            .all(|host| host.crashes() == 1 && host.lines()[0].1.contains("without waiting"))
    );
}

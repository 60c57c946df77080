//! Components that trap, spin and flood, and what that costs.

use std::sync::Arc;

use super::{House, run};
use crate::plugin::{
    catalog::Status,
    error::{Crash, GuestEnd, PluginError},
    fixtures::{self, Recorder, Wat},
};

/// A hostile guest costs its instance; the reason is told, and another guest of the same engine is answered meanwhile.
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
            "describe" => executor.check_name().await.unwrap_err(),
            _ => executor.validate(&"{}".into(), &vec![]).await.unwrap_err(),
        };
        assert!(error.to_string().contains(expected), "{part}: {error}");
    }
    let (spun, memory, table) = (
        "without waiting",
        "more than 64 MiB of memory",
        "more than 10,000 table elements",
    );
    for part in [
        "describe",
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
    // A gigabyte that is not there, and 32 MiB that are.
    check(
        "validate",
        "(call $log (i32.const 2) (i32.const 0) (i32.const 1073741824))",
        "trapped",
    )
    .await;
    let long = "(drop (memory.grow (i32.const 512))) (call $log (i32.const 2) (i32.const 0) (i32.const 33554432))";
    check("validate", long, "trapped").await;
    check(
        "validate",
        "(call $log (i32.const 9) (i32.const 0) (i32.const 1))",
        "trapped",
    )
    .await;
    check(
        "task-schema",
        "(call $text (i32.const 1408) (i32.const 128) (i32.const 8)) (return (i32.const 1408))",
        "no JSON",
    )
    .await;
    check(
        "validate",
        "(call $sleep (i64.const 1000)) (unreachable)",
        "trapped",
    )
    .await;
}

#[tokio::test]
async fn a_crash_is_resumed_from_the_last_checkpoint() {
    // `run` stores "healthy" as its state and traps; `resume` succeeds only where it is given seven bytes. The task's record takes
    // 88 bytes, and the state follows it.
    let store_and_trap =
        "(call $checkpoint (i32.const 32) (i32.const 7) (i32.const 4096)) (unreachable)";
    let seven =
        "(if (i32.ne (i32.load offset=92 (local.get $task)) (i32.const 7)) (then (unreachable)))";
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
async fn a_guest_that_keeps_crashing_is_given_up_and_then_disabled() {
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
    let end = run(executor, &Arc::new(Recorder::default()))
        .await
        .unwrap_err();
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
        "that it is there does not make it work"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spinning_guests_on_every_worker_leave_room_for_others() {
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
    for _ in 0..20 {
        assert_eq!(
            good.executor()
                .validate(&"{}".into(), &vec![])
                .await
                .unwrap(),
            []
        );
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

//! What a component may do, by its manifest and its grant.

use std::sync::Arc;

use super::{House, run};
use crate::plugin::{
    error::{GuestEnd, PluginError},
    fixtures::{self, Recorder, Wat},
    port::{HealthState, LogLevel},
};

#[tokio::test]
async fn handles_are_bounded() {
    let house = House::with(&Wat::good().run(fixtures::EAT_CHILD_HANDLES).component());
    let host = Arc::new(Recorder {
        children: vec![crate::plugin::port::ChildRef::new("task_01.1/0")],
        ..Recorder::default()
    });
    // `resume` succeeds: what the bomb took is gone with its instance.
    assert_eq!(run(house.executor(), &host).await.unwrap().cause, "success");
    assert_eq!(host.crashes(), 1);
}

/// The result of `spawn` is at 4096: its discriminant, and at 8 the code of a failure.
fn spawn(command: (u32, u32)) -> String {
    let (at, length) = command;
    // Arguments, working directory, variables and standard input are empty.
    let zeros = "(i32.const 0) ".repeat(12);
    format!(
        "(call $spawn (i32.const {at}) (i32.const {length}) {zeros} (i32.const 4096))
         (if (i32.eqz (i32.load8_u (i32.const 4096))) (then (return (call $success))))
         (i32.store8 (i32.const 2048) (i32.const 1))
         (memory.copy (i32.const 2056) (i32.const 4104) (i32.const 48))
         (return (i32.const 2048))"
    )
}

#[tokio::test]
async fn a_child_needs_manifest_and_grant() {
    async fn check(granted: &[&str], command: (u32, u32), expected: Result<&str, &str>) {
        let house = House::granting(&Wat::good().run(&spawn(command)).component(), granted);
        let host = Arc::new(Recorder::default());
        let result = run(house.executor(), &host).await;
        let spawned = host.spawned.lock().unwrap().clone();
        match (result, expected) {
            (Ok(_), Ok(command)) => assert_eq!(spawned, [command]),
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

#[tokio::test]
async fn floods_are_bounded() {
    let flood = |call: &str| {
        format!("(local $left i32) (local.set $left (i32.const 20000))
            (loop $again {call} (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))")
    };
    let lines = flood("(call $log (i32.const 2) (i32.const 48) (i32.const 5))");
    let reports = flood("(call $emit (i32.const 80) (i32.const 5) (i32.const 64) (i32.const 2))");
    let host = Arc::new(Recorder::default());
    let house = House::with(&Wat::good().run(&lines).component());
    run(house.executor(), &host).await.unwrap();
    let written = host
        .lines()
        .iter()
        .filter(|(level, line)| *level == LogLevel::Info && line == "guest")
        .count();
    assert!((1_000..20_000).contains(&written), "{written}");
    let host = Arc::new(Recorder::default());
    let house = House::with(&Wat::good().run(&reports).component());
    run(house.executor(), &host).await.unwrap();
    let told = host.reports.lock().unwrap().len();
    assert!((100..20_000).contains(&told), "{told}");
}

#[tokio::test]
async fn a_question_may_not_start_anything() {
    let probe =
        "(call $probe (i32.const 96) (i32.const 2) (i32.const 0) (i32.const 0) (i32.const 4096))
        (if (i32.eqz (i32.load8_u (i32.const 4096))) (then (unreachable)))";
    let house = House::with(&Wat::good().run(probe).component());
    assert_eq!(
        run(house.executor(), &Arc::new(Recorder::default()))
            .await
            .unwrap()
            .cause,
        "success"
    );
}

#[tokio::test]
async fn a_fingerprint_may_probe() {
    let probe =
        "(call $probe (i32.const 96) (i32.const 2) (i32.const 0) (i32.const 0) (i32.const 4096))
        (if (i32.load8_u (i32.const 4096)) (then (unreachable)))";
    let house = House::with(&Wat::good().with("fingerprint", probe).component());
    assert_eq!(
        house.executor().fingerprint().await.unwrap().state,
        HealthState::Healthy
    );
    let denied = House::granting(&Wat::good().with("fingerprint", probe).component(), &[]);
    assert!(matches!(
        denied.executor().fingerprint().await,
        Err(PluginError::Crashed(_))
    ));
}

//! The host against components that behave, and against those that do not.
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

use super::catalog::{Catalog, Places, Status};
use super::engine::Wasm;
use super::error::{Crash, GuestEnd, PluginError};
use super::executor::Executor;
use super::fixtures::{self, Recorder, Wat};
use super::load::Compiler;
use super::port::{GuestOutcome, HealthState, LogLevel, Start, StopRequest};
use crate::digest;

const MANIFEST: &str = r#"
kind = "executor"
name = "guest"
version = "0.1.0"
wit = "0.1.0"
summary = "Does what its test says"

[permissions.process]
commands = ["sh"]
why = "a test starts it"
"#;

/// A data directory with one plugin in it, and its catalog.
struct House {
    dir: tempfile::TempDir,
    catalog: Catalog,
}

impl House {
    fn with(component: &[u8]) -> House {
        House::granting(component, &["sh"])
    }

    fn granting(component: &[u8], process: &[&str]) -> House {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("plugins/guest");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::create_dir_all(dir.path().join("grants")).unwrap();
        std::fs::write(folder.join("plugin.toml"), MANIFEST).unwrap();
        std::fs::write(folder.join("guest.wasm"), component).unwrap();
        let grant = format!(
            "digest = \"{}\"\nprocess = {process:?}\n",
            digest::hex(component)
        );
        std::fs::write(dir.path().join("grants/guest.toml"), grant).unwrap();
        let catalog = open(dir.path(), Wasm::on_demand);
        House { dir, catalog }
    }

    fn executor(&self) -> &Arc<Executor> {
        self.catalog.executor("guest").unwrap()
    }
}

fn open(dir: &std::path::Path, start: fn() -> Result<Wasm, PluginError>) -> Catalog {
    let places = Places {
        data_dir: dir.into(),
        compiler: Compiler::Here,
        configs: BTreeMap::new(),
    };
    Catalog::open_with(places, &[], start).unwrap()
}

/// An attempt that nobody stops.
async fn run(executor: &Executor, host: &Arc<Recorder>) -> Result<GuestOutcome, GuestEnd> {
    let (_keep, stop) = oneshot::channel();
    let host = Arc::clone(host);
    executor
        .run(fixtures::task(), Start::Fresh, host, stop)
        .await
}

#[tokio::test]
async fn a_good_guest_answers_everything() {
    let house = House::with(&Wat::good().component());
    let executor = house.executor();
    assert_eq!(executor.validate(&"{}".into(), &vec![]).await.unwrap(), []);
    assert_eq!(executor.task_schema().await.unwrap(), "{}");
    let inspection = house.catalog.inspect("guest").await.unwrap();
    assert!(
        matches!(&inspection.listing.status, Status::Looked(health) if health.state == HealthState::Healthy)
    );
    let component = inspection.component.unwrap();
    let process = "claudine:plugin/process@0.1.0".to_owned();
    assert!(
        component.imports.contains(&process),
        "{:?}",
        component.imports
    );
    assert_eq!(
        (component.task_schema.as_str(), component.config_issues),
        ("{}", vec![])
    );
    let host = Arc::new(Recorder::default());
    let outcome = run(executor, &host).await.unwrap();
    assert_eq!(
        (
            outcome.cause.as_str(),
            outcome.code,
            outcome.outputs.as_str()
        ),
        ("success", None, "{}")
    );
    assert_eq!(host.lines(), []);
}

#[tokio::test]
async fn the_synchronous_abi_runs_too() {
    let house = House::with(&Wat::good().run("").component());
    let outcome = run(house.executor(), &Arc::new(Recorder::default()))
        .await
        .unwrap();
    assert_eq!(outcome.cause, "success");
}

/// What is no executor is refused with its reason, and asked again gives the same.
#[tokio::test]
async fn what_is_no_executor_says_why() {
    async fn check(component: &[u8], expected: &str) {
        let house = House::with(component);
        for _ in 0..2 {
            let error = house
                .executor()
                .validate(&"{}".into(), &vec![])
                .await
                .unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
        let end = run(house.executor(), &Arc::new(Recorder::default()))
            .await
            .unwrap_err();
        let failure = end.failure("guest");
        assert_eq!(
            (failure.code.as_str(), failure.retryable),
            ("plugin", false)
        );
        assert!(failure.message.contains(expected), "{failure:?}");
    }
    let newer = "package claudine:plugin@0.2.0; interface lifecycle { ping: func(); } world executor-plugin { export lifecycle; }";
    let newer_core = r#"(module (func (export "claudine:plugin/lifecycle@0.2.0#ping")))"#;
    let other = "package other:thing@1.0.0; interface greeter { greet: func(); } world thing { export greeter; }";
    let other_core = r#"(module (func (export "other:thing/greeter@1.0.0#greet")))"#;
    let wanting = "package other:thing@1.0.0; interface kernel { halt: func(); } world thing { import kernel; export run: func(); }";
    let wanting_core = r#"(module (import "other:thing/kernel@1.0.0" "halt" (func $halt)) (func (export "run") (call $halt)))"#;
    let half = "package claudine:plugin@0.1.0; interface lifecycle { ping: func(); } world executor-plugin { export lifecycle; }";
    let half_core = r#"(module (func (export "claudine:plugin/lifecycle@0.1.0#ping")))"#;
    let twisted = "package claudine:plugin@0.1.0; interface lifecycle { describe: func(); }
        interface executor { run: func(); } world executor-plugin { export lifecycle; export executor; }";
    let twisted_core = r#"(module (func (export "claudine:plugin/lifecycle@0.1.0#describe"))
        (func (export "claudine:plugin/executor@0.1.0#run")))"#;
    let world = "executor-plugin";
    check(
        &fixtures::component_of_text(newer_core, newer, world),
        "was built for claudine:plugin/lifecycle@0.2.0",
    )
    .await;
    check(
        &fixtures::component_of_text(other_core, other, "thing"),
        "does not export claudine:plugin/lifecycle@0.1.0",
    )
    .await;
    check(
        &fixtures::component_of_text(wanting_core, wanting, "thing"),
        "imports other:thing/kernel@1.0.0",
    )
    .await;
    check(
        &fixtures::component_of_text(half_core, half, world),
        "does not export claudine:plugin/executor@0.1.0",
    )
    .await;
    check(
        &fixtures::component_of_text(twisted_core, twisted, world),
        "types are not those of the contract",
    )
    .await;
    check(&wat::parse_str("(module)").unwrap(), "core module").await;
    check(b"\x00\x01\x02 not a component at all", "first bytes").await;
    check(
        b"\0asm\x0d\0\x01\0 and then garbage",
        "could not be compiled",
    )
    .await;
    check(b"", "first bytes").await;
}

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

async fn stopped(wat: Wat, grace: Duration) -> Result<GuestOutcome, GuestEnd> {
    let house = House::with(&wat.component());
    let (ask, stop) = oneshot::channel();
    ask.send(StopRequest {
        reason: "cancelled".into(),
        grace,
    })
    .unwrap();
    house
        .executor()
        .run(
            fixtures::task(),
            Start::Fresh,
            Arc::new(Recorder::default()),
            stop,
        )
        .await
}

const LONG: Duration = Duration::from_mins(1);
const SHORT: Duration = Duration::from_millis(50);

#[tokio::test]
async fn stop_is_called_beside_the_pending_run() {
    let outcome = stopped(Wat::good().with("run", fixtures::RUN_UNTIL_STOPPED), LONG)
        .await
        .unwrap();
    assert_eq!(outcome.cause, "success");
}

#[tokio::test]
async fn the_attempt_ends_when_the_task_has_exited() {
    let wat = Wat::good().with("run", fixtures::RUN_RETURNS_AND_STAYS);
    assert_eq!(stopped(wat.clone(), LONG).await.unwrap().cause, "success");
    // What was returned stands, even where the guest does not end after it.
    assert_eq!(
        stopped(wat.with("stop", "(return)"), SHORT)
            .await
            .unwrap()
            .cause,
        "success"
    );
}

#[tokio::test]
async fn a_guest_that_does_not_stop_is_dropped() {
    for wat in [
        Wat::good().run(fixtures::SLEEP_FOR_A_DAY),
        Wat::good()
            .with("run", fixtures::RUN_UNTIL_STOPPED)
            .with("stop", "(return)"),
        Wat::good().run(fixtures::SPIN),
    ] {
        assert_eq!(stopped(wat, SHORT).await.unwrap_err(), GuestEnd::Dropped);
    }
}

#[tokio::test]
async fn a_crash_while_stopping_is_not_resumed() {
    let end = stopped(
        Wat::good()
            .with("run", fixtures::RUN_UNTIL_STOPPED)
            .with("stop", fixtures::TRAP),
        LONG,
    )
    .await
    .unwrap_err();
    assert!(matches!(end, GuestEnd::Crashed { times: 1, .. }), "{end}");
}

#[tokio::test]
async fn handles_are_bounded() {
    let house = House::with(&Wat::good().run(fixtures::EAT_CHILD_HANDLES).component());
    let host = Arc::new(Recorder {
        children: vec![super::port::ChildRef::new("task_01.1/0")],
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

#[tokio::test]
async fn pool_and_demand_run_the_same_code() {
    let house = House::with(&Wat::good().component());
    run(house.executor(), &Arc::new(Recorder::default()))
        .await
        .unwrap();
    let cached = || {
        std::fs::read_dir(house.dir.path().join("cache"))
            .unwrap()
            .count()
    };
    assert_eq!(cached(), 2, "the code and its record");
    let pooled = open(house.dir.path(), Wasm::start);
    run(
        pooled.executor("guest").unwrap(),
        &Arc::new(Recorder::default()),
    )
    .await
    .unwrap();
    assert_eq!(cached(), 2);
}

#[tokio::test]
async fn a_changed_cache_is_made_anew_and_a_changed_component_is_not_run() {
    let house = House::with(&Wat::good().component());
    run(house.executor(), &Arc::new(Recorder::default()))
        .await
        .unwrap();
    for file in std::fs::read_dir(house.dir.path().join("cache")).unwrap() {
        let path = file.unwrap().path();
        if path.extension().unwrap() == "cwasm" {
            let mut code = std::fs::read(&path).unwrap();
            let middle = code.len() / 2;
            code[middle] ^= 0xff;
            // Another file of the same name: the one that is mapped stays as it was.
            std::fs::remove_file(&path).unwrap();
            std::fs::write(&path, code).unwrap();
        }
    }
    let again = open(house.dir.path(), Wasm::on_demand);
    run(
        again.executor("guest").unwrap(),
        &Arc::new(Recorder::default()),
    )
    .await
    .unwrap();
    let late = open(house.dir.path(), Wasm::on_demand);
    let component = Wat::good().with("validate", fixtures::TRAP).component();
    std::fs::write(
        house.dir.path().join("plugins/guest/guest.wasm"),
        &component,
    )
    .unwrap();
    let error = late
        .executor("guest")
        .unwrap()
        .validate(&"{}".into(), &vec![])
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("was changed while the host was running"),
        "{error}"
    );
    let reopened = open(house.dir.path(), Wasm::on_demand);
    assert_eq!(
        reopened.executor("guest").unwrap().grant().process,
        Vec::<String>::new(),
        "the grant was for another component"
    );
}

#[tokio::test]
async fn broken_plugins_are_listed_with_their_reason() {
    let house = House::with(&Wat::good().component());
    let plugins = house.dir.path().join("plugins");
    for (name, manifest) in [("torn", "name = "), ("other", MANIFEST)] {
        std::fs::create_dir(plugins.join(name)).unwrap();
        std::fs::write(plugins.join(name).join("plugin.toml"), manifest).unwrap();
    }
    std::fs::create_dir(plugins.join("empty")).unwrap();
    let catalog = open(house.dir.path(), Wasm::on_demand);
    let list = catalog.list(false).await.into_iter();
    let names: Vec<_> = list
        .map(|line| (line.name, matches!(line.status, Status::Broken(_))))
        .collect();
    let expected = [
        ("empty", true),
        ("guest", false),
        ("other", true),
        ("torn", true),
    ];
    assert_eq!(
        names,
        expected.map(|(name, broken)| (name.to_owned(), broken))
    );
    assert!(matches!(
        catalog.executor("torn"),
        Err(PluginError::Manifest { .. })
    ));
    assert!(matches!(
        catalog.executor("nobody"),
        Err(PluginError::Unknown { .. })
    ));
}

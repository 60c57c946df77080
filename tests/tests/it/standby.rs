//! Standby: the host runs the executor of the next task early, but lets the executor start its
//! child only when it is the task's turn. Until then, the attempt is not shown as begun.

use std::{
    fs,
    time::{Duration, Instant},
};

use claudine_tests::{TestHost, wait_for};
use serde_json::json;

#[test]
fn time_limit_counts_from_the_start_and_not_from_standby() {
    let host = TestHost::builder().slots(1).build();
    let first = host.script("until test -e go; do sleep 0.02; done");
    host.live(&first);
    let second = host.text(["run", "--timeout", "5s", "--", "true"]);
    let submitted = Instant::now();
    wait_for("the time limit to pass on standby", || {
        (submitted.elapsed() > Duration::from_secs(6)).then_some(())
    });
    fs::write(host.work().join("go"), "").unwrap();
    let second = host.finished(&second);
    assert_eq!(second["outcome"], "succeeded", "{second:#}");
    let first = host.finished(&first);
    assert!(first["finished_at"].as_str() <= second["started_at"].as_str());
    let wall_ms = second["usage"]["wall_ms"].as_u64().unwrap();
    assert!(wall_ms < 5_000, "{second:#}");
}

#[test]
fn task_cancelled_or_held_on_standby_has_no_attempt() {
    let host = TestHost::builder().slots(1).build();
    let gate = host.work().join("gate");
    let first = host.script("until [ -e gate ]; do sleep 0.1; done");
    host.live(&first);
    let behind: Vec<String> = (0..3)
        .map(|n| host.script(&format!("echo {n} >> order")))
        .collect();
    host.text(["cancel", &behind[0]]);
    host.text(["hold", &behind[1]]);
    fs::write(gate, "").unwrap();
    host.finished(&behind[2]);
    for (id, state) in [(&behind[0], "done"), (&behind[1], "held")] {
        let status = host.status(id);
        assert_eq!(
            (&status["state"], &status["attempts"]),
            (&json!(state), &json!([]))
        );
    }
    host.text(["release", &behind[1]]);
    assert_eq!(host.finished(&behind[1])["attempts"][0]["number"], 1);
    assert_eq!(
        fs::read_to_string(host.work().join("order")).unwrap(),
        "2\n1\n"
    );
}

/// Each task is put on standby while the task before it runs, and may start before the end of that
/// task is on disk.
#[test]
fn chain_runs_once_and_in_order_whenever_the_host_is_killed() {
    let host = TestHost::builder().slots(2).build();
    host.up();
    let length = 60;
    let graph: Vec<_> = (0..length)
        .map(|n: usize| {
            let after: Vec<String> = n.checked_sub(1).map(|before| format!("c{before}")).into_iter().collect();
            json!({"name": format!("c{n}"), "script": format!("echo {n} >> order"), "dependencies": after})
        })
        .collect();
    let graph = serde_json::to_vec(&graph).unwrap();
    let ids = host.run_with(["submit", "-"], &graph).ok().text();
    let order = || fs::read_to_string(host.work().join("order")).unwrap_or_default();
    for kills in 1..=8 {
        wait_for("the chain to go on", || {
            (order().lines().count() >= kills * 6).then_some(())
        });
        host.kill_host();
        host.up();
    }
    let last = host.finished(ids.lines().last().unwrap());
    assert_eq!(last["outcome"], "succeeded", "{last:#}");
    let expected: Vec<String> = (0..length).map(|n| n.to_string()).collect();
    assert_eq!(order().lines().collect::<Vec<_>>(), expected);
    for id in ids.lines() {
        let status = host.status(id);
        assert_eq!(
            status["attempts"].as_array().map(Vec::len),
            Some(1),
            "{status:#}"
        );
    }
}

/// The dependant may start before the end of its dependency is on disk, and must see this end all
/// the same.
#[test]
fn dependant_always_sees_the_end_of_its_dependency() {
    let host = TestHost::new();
    let binary = claudine_tests::harness::binary();
    let look = format!("{} status first --json", binary.display());
    let graph = json!([
        {"name": "first", "argv": ["true"]},
        {"name": "second", "script": look, "dependencies": ["first"]},
    ]);
    for _ in 0..10 {
        let graph = serde_json::to_vec(&graph).unwrap();
        let ids = host.run_with(["submit", "-"], &graph).ok().text();
        let second = host.finished(ids.lines().last().unwrap());
        let seen: serde_json::Value =
            serde_json::from_str(second["output"].as_str().unwrap()).unwrap();
        assert_eq!(seen["outcome"], "succeeded", "{second:#}");
    }
}

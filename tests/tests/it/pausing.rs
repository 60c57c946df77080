//! Pausing the queue or a group, and changing the number of slots.

use std::fs;

use claudine_tests::TestHost;

#[test]
fn pause_survives_a_restart_and_is_shown_by_list_status_why_and_capacity() {
    let host = TestHost::new();
    let running = host.script("until test -e go; do sleep 0.1; done");
    host.live(&running);
    host.run(["pause"])
        .ok()
        .says(&["queue paused: 1 running, 0 queued"]);
    host.run(["pause", "--all"])
        .ok()
        .says(&["queue already paused"]);
    let waits = host.script("echo ran");
    let shown = |host: &TestHost| {
        assert_eq!(host.status(&waits)["state"], "ready");
        for look in [&["list"][..], &["capacity"], &["slots"]] {
            host.run(look)
                .ok()
                .says(&["queue paused since", "claudine unpause"]);
        }
        let status = host.text(["status", &waits]);
        assert!(status.contains("queue paused since"), "{status}");
        let why = host.text(["why", &waits]);
        assert!(why.contains("the queue is paused since"), "{why}");
        assert!(host.json(["list"])["queue"]["paused_since"].is_string());
        assert_eq!(host.json(["why", &waits])["brief"], "queue paused");
    };
    shown(&host);
    // Running tasks continue.
    fs::write(host.work().join("go"), "").unwrap();
    assert_eq!(host.finished(&running)["outcome"], "succeeded");
    host.kill_host();
    host.up();
    shown(&host);
    host.run(["unpause"]).ok().says(&["queue unpaused"]);
    assert_eq!(host.finished(&waits)["output"], "ran\n");
    host.run(["unpause"]).ok().says(&["queue was not paused"]);
}

#[test]
fn host_started_by_pause_starts_no_waiting_task() {
    let host = TestHost::builder().slots(1).build();
    let running = host.script("until test -e go; do sleep 0.1; done");
    host.live(&running);
    let waits = host.script("echo ran >> ran");
    host.run(["down"]).check();
    fs::write(host.work().join("go"), "").unwrap();
    host.run(["pause"]).check();
    assert_eq!(host.finished(&running)["outcome"], "succeeded");
    assert_eq!(host.status(&waits)["state"], "ready");
    assert!(!host.work().join("ran").exists());
    host.run(["unpause"]).check();
    assert_eq!(host.finished(&waits)["outcome"], "succeeded");
}

#[test]
fn task_creates_its_group_and_a_command_for_an_unknown_group_is_refused() {
    let host = TestHost::new();
    host.run(["group", "set", "gpu", "--limit", "1"]).check();
    for verb in [
        &["pause", "gpus"][..],
        &["unpause", "gpus"],
        &["group", "pause", "gpus"],
        &["group", "resume", "gpus"],
        &["group", "rm", "gpus"],
    ] {
        host.run(verb).code(125).says(&[
            "error: no group 'gpus'; did you mean 'gpu'?",
            "claudine group add gpus",
        ]);
    }
    let names = || -> Vec<String> {
        let groups = host.json(["group", "list"]);
        let groups = groups.as_array().unwrap().iter();
        groups
            .map(|group| group["name"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(names(), ["gpu"]);
    // A task creates its group, and the group cannot be removed before the task has ended.
    host.run([
        "run", "--hold", "--group", "nightly", "--name", "n", "--", "true",
    ])
    .check();
    host.run(["pause", "nightly"]).ok().says(&["nightly"]);
    let list = host.text(["group", "list"]);
    let line = list.lines().find(|line| line.contains("nightly")).unwrap();
    let words: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(
        words,
        ["nightly", "none", "0", "1", "paused", "n"],
        "{list}"
    );
    host.run(["group", "rm", "nightly"])
        .code(125)
        .says(&["has 1 unfinished task", "claudine list --group nightly"]);
    host.run(["cancel", "n"]).check();
    host.run(["group", "rm", "nightly"]).check();
    assert_eq!(names(), ["gpu"]);
    host.run(["group", "add", "empty"]).check();
    host.run(["group", "set", "gpu", "--limit", "none"]).check();
    host.kill_host();
    host.up();
    assert_eq!(names(), ["empty", "gpu"]);
    assert!(host.json(["group", "list"])[1]["limit"].is_null());
}

#[test]
fn pauses_of_queue_and_groups_are_lifted_separately_or_together() {
    let host = TestHost::new();
    host.run(["group", "add", "g"]).check();
    host.run(["pause", "g"]).check();
    host.run(["pause"]).check();
    host.run(["unpause"])
        .ok()
        .says(&["queue unpaused", "group g stays paused"]);
    let waits = host.text(["run", "--group", "g", "--", "true"]);
    let why = host.text(["why", &waits]);
    assert!(why.contains("claudine unpause g"), "{why}");
    host.run(["pause"]).check();
    host.run(["unpause", "--all"])
        .ok()
        .says(&["queue unpaused", "group g unpaused"]);
    assert_eq!(host.finished(&waits)["outcome"], "succeeded");
}

#[test]
fn number_of_slots_that_was_set_is_kept_until_it_is_reset() {
    let host = TestHost::builder().slots(3).build();
    assert_eq!(host.text(["slots", "2"]), "2");
    host.run(["down"]).check();
    assert_eq!(host.text(["slots"]), "2", "still 2 slots without a host");
    host.up();
    host.run(["slots"])
        .ok()
        .says(&["set by hand", "claudine slots default", "3"]);
    assert_eq!(host.json(["slots"])["configured_slots"], 3);
    assert_eq!(host.text(["slots", "default"]), "3");
    assert_eq!(host.json(["up", "--slots", "5"])["slots"], 5);
    host.kill_host();
    host.up();
    assert_eq!(host.text(["slots"]), "5");
    for zero in [&["slots", "0"][..], &["up", "--slots", "0"]] {
        host.run(zero).code(2).says(&["claudine pause"]);
    }
}

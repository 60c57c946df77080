//! MCP calls while no host runs, because a person has ended it.

use std::{fs, os::unix::fs::symlink, thread};

use claudine_tests::{TestHost, command, harness::binary, mcp::Client, wait::PATIENCE, wait_for};
use serde_json::json;

use crate::authority::{refused, smallest};

fn host() -> TestHost {
    let config = "[mcp]\nexecutors = [\"shell\"]\n";
    TestHost::builder().config(config).build()
}

#[test]
fn only_an_accepted_task_over_mcp_starts_a_host_that_a_person_has_ended() {
    let host = host();
    let mut client = Client::connect(&host);
    let ended = host.script("echo one");
    host.finished(&ended);
    let queued = host.text(["run", "--at", "+2h", "--", "true"]);
    let keyed = json!({"prompt": "true", "executor": "shell", "idempotencyKey": "k"});
    let keyed = client.call("DelegateTask", keyed);
    host.finished(keyed["taskId"].as_str().unwrap());
    let held = json!({"prompt": "true", "executor": "shell", "after": 7_200_000});
    let held = client.call("DelegateTask", held)["taskId"].clone();
    host.run(["hold", held.as_str().unwrap()]).check();
    host.run(["down"]).check();
    for (tool, asked) in [
        ("ListTasks", json!({})),
        ("TaskStatus", json!({ "taskId": queued })),
        ("TaskLogs", json!({ "taskId": ended })),
        ("WaitTask", json!({ "taskId": ended })),
    ] {
        client.call(tool, asked);
        assert_eq!(host.host_pid(), None, "{tool} has started a host");
    }
    let graph = json!([{"script": "true", "dependencies": ["nobody"]}]);
    let cycle = json!([
        {"name": "a", "script": "true", "dependencies": ["b"]},
        {"name": "b", "script": "true", "dependencies": ["a"]},
    ]);
    let with_key = |key: &str| json!({"script": "false", "idempotencyKey": key});
    for (tool, asked, says) in [
        ("WaitTask", json!({ "taskId": queued }), "is of no use now"),
        (
            "WaitTask",
            json!({ "taskIds": [ended, queued] }),
            "DelegateTask, SubmitGraph, RetryTask or ResumeTask",
        ),
        (
            "CancelTask",
            json!({ "taskId": queued }),
            "so it cannot be cancelled now",
        ),
        (
            "CancelTask",
            json!({ "taskId": ended }),
            "has already ended: succeeded",
        ),
        (
            "CancelTask",
            json!({ "taskId": "nobody" }),
            "no task matches `nobody`",
        ),
        ("RetryTask", json!({ "taskId": ended }), "has succeeded"),
        (
            "ResumeTask",
            json!({ "taskId": queued }),
            "is waiting, not done",
        ),
        (
            "MergeTask",
            json!({ "taskId": ended }),
            "so nothing can be merged now",
        ),
        (
            "DelegateTask",
            json!({ "prompt": "p" }),
            "executor `claude` may not be used",
        ),
        (
            "SubmitGraph",
            json!({ "tasks": graph }),
            "no task matches `nobody`",
        ),
        // These requests are refused by the board.
        (
            "SubmitGraph",
            json!({ "tasks": cycle }),
            "dependency cycle: ",
        ),
        (
            "SubmitGraph",
            json!({ "tasks": [with_key("z"), with_key("z")] }),
            "two tasks of the request have the idempotency key `z`",
        ),
        (
            "SubmitGraph",
            json!({ "tasks": [with_key("k"), with_key("l")] }),
            "with a different request",
        ),
        (
            "DelegateTask",
            json!({"prompt": "false", "executor": "shell", "idempotencyKey": "k"}),
            "with a different request",
        ),
        (
            "RetryTask",
            json!({ "taskId": held, "now": true }),
            "is held, not done",
        ),
    ] {
        let complaint = client.fail(tool, asked);
        assert!(complaint.contains(says), "{tool}: {complaint}");
        assert_eq!(host.host_pid(), None, "{tool} has started a host");
    }
    let asked = json!({"prompt": "true", "executor": "shell"});
    let taken = client.call("DelegateTask", asked);
    assert!(host.host_pid().is_some());
    host.finished(taken["taskId"].as_str().unwrap());
}

#[test]
fn wait_over_mcp_says_what_to_do_if_a_person_ends_the_host_meanwhile() {
    let host = host();
    let mut client = Client::connect(&host);
    let queued = host.text(["run", "--at", "+2h", "--", "true"]);
    let waiting = thread::spawn(move || client.fail("WaitTask", json!({ "taskId": queued })));
    host.run(["down"]).check();
    let complaint = waiting.join().unwrap();
    for says in ["is waiting, and no host runs", "ask whether to go on"] {
        assert!(complaint.contains(says), "{complaint}");
    }
    assert_eq!(host.host_pid(), None);
}

#[test]
fn wait_over_mcp_goes_on_after_a_restart_and_a_crash_of_the_host() {
    let config = "[mcp]\nexecutors = [\"shell\"]\n";
    let host = TestHost::builder().slots(1).config(config).build();
    let parent = host.script("until test -e over; do sleep 0.1; done");
    host.live(&parent);
    let mut client = Client::connect_within(&host, &format!("{parent}.1"));
    let script = "until test -e go; do sleep 0.1; done";
    let taken = client.call(
        "DelegateTask",
        json!({ "prompt": script, "executor": "shell" }),
    );
    let child = taken["taskId"].as_str().unwrap().to_owned();
    let asked = json!({ "taskId": child });
    let waiting = thread::spawn(move || client.call("WaitTask", asked));
    // The child gets the only slot once its parent waits for it.
    host.live(&child);
    host.run(["down"]).check();
    host.up();
    host.kill_host();
    fs::write(host.work().join("go"), "").unwrap();
    let waited = waiting.join().unwrap();
    assert_eq!(waited["status"], "completed", "{waited:#}");
    fs::write(host.work().join("over"), "").unwrap();
    assert_eq!(host.finished(&parent)["outcome"], "succeeded");
}

#[test]
fn wait_over_mcp_starts_a_host_after_a_crash() {
    let host = host();
    let mut client = Client::connect(&host);
    let queued = host.text(["run", "--at", "+2h", "--", "true"]);
    host.kill_host();
    let waited = client.call("WaitTask", json!({"taskId": queued, "timeout": 0}));
    assert_eq!(waited["done"], false);
    assert!(host.host_pid().is_some());
}

#[test]
fn client_starts_no_crashed_host_that_a_person_has_ended_since() {
    let host = host();
    let mut client = Client::connect(&host);
    let queued = host.text(["run", "--at", "+2h", "--", "true"]);
    for way in [None, Some("--drain"), Some("--kill")] {
        host.up();
        host.kill_host();
        host.run(["down"].into_iter().chain(way)).check();
        for (tool, says) in [
            ("WaitTask", "is of no use now"),
            ("CancelTask", "so it cannot be cancelled now"),
            ("MergeTask", "so nothing can be merged now"),
        ] {
            let complaint = client.fail(tool, json!({ "taskId": queued }));
            assert!(complaint.contains(says), "{tool}: {complaint}");
            assert_eq!(host.host_pid(), None, "{tool} has started a host");
        }
    }
    // The end of a crashed host does not last longer than the end of any other.
    host.up();
    host.kill_host();
    client.call("WaitTask", json!({"taskId": queued, "timeout": 0}));
    assert!(host.host_pid().is_some());
}

/// Only a host compiles executors. Until one has done so, nobody knows what the task could do.
#[test]
fn refusal_does_not_say_that_only_a_person_can_start_a_task_if_nobody_knows_whether_a_client_may() {
    let (host, _agent) = smallest();
    let mut client = Client::connect(&host);
    let asked = json!({"prompt": "p", "permissionMode": "plan", "after": 7_200_000});
    let id = client.call("DelegateTask", asked)["taskId"].clone();
    let says = "is waiting, not done";
    let refused = client.fail("RetryTask", json!({ "taskId": id }));
    for says in [says, "`now: true` starts the task now"] {
        assert!(refused.contains(says), "{refused}");
    }
    host.run(["down"]).check();
    fs::remove_dir_all(host.data_dir().join("cache")).unwrap();
    let mut client = Client::connect(&host);
    let refused = client.fail("RetryTask", json!({ "taskId": id }));
    assert!(refused.contains(says), "{refused}");
    for unknown in ["only a person", "starts the task now"] {
        assert!(!refused.contains(unknown), "{refused}");
    }
    assert_eq!(host.host_pid(), None);
}

const NO_MORE: &str = "no more than the last host";

/// Starts a host with settings that allow no shell, from a file that only a variable names.
fn start_strictly(host: &TestHost) {
    let strict = host.root().join("strict.toml");
    fs::write(&strict, "[mcp]\nexecutors = [\"claude\"]\n").unwrap();
    let mut up = host.command(["up"]);
    up.env("CLAUDINE_CONFIG", strict);
    command::run(up, b"", PATIENCE).check();
}

#[track_caller]
fn refuses_shell(client: &mut Client) {
    let asked = json!({"prompt": "touch ran", "executor": "shell"});
    let says = ["executor `shell` may not be used"];
    refused(client, "DelegateTask", asked, &says);
}

/// Otherwise a client would get what the person has refused as soon as the last host has ended.
#[test]
fn host_that_a_client_or_a_command_starts_allows_no_more_than_the_last_host() {
    let host = TestHost::new();
    start_strictly(&host);
    let mut client = Client::connect(&host);
    refuses_shell(&mut client);
    host.run(["down"]).check();
    refuses_shell(&mut client);
    assert_eq!(host.host_pid(), None);
    host.finished(&host.text(["run", "--", "true"]));
    refuses_shell(&mut client);
    let warnings = host.up()["warnings"].to_string();
    assert!(warnings.contains(NO_MORE), "{warnings}");
    host.kill_host();
    refuses_shell(&mut client);
    assert!(!host.work().join("ran").exists());
    // A person may start a host with other settings.
    host.run(["down"]).check();
    let warnings = host.up()["warnings"].to_string();
    assert!(!warnings.contains(NO_MORE), "{warnings}");
    let asked = json!({"prompt": "true", "executor": "shell"});
    client.call("DelegateTask", asked);
}

/// Otherwise a secret of the submitter would reach a task as soon as the last host has ended.
#[test]
fn host_that_a_command_starts_gives_tasks_no_variable_that_the_last_host_excluded() {
    let host = TestHost::new();
    let strict = host.root().join("strict.toml");
    fs::write(&strict, "[env]\nexclude = [\"SECRET_*\"]\n").unwrap();
    let mut up = host.command(["up"]);
    up.env("CLAUDINE_CONFIG", strict);
    command::run(up, b"", PATIENCE).check();
    let seen = || {
        let mut run = host.command([
            "run",
            "--",
            "sh",
            "-c",
            "printf %s \"$SECRET_KEY$OPEN\" > seen",
        ]);
        run.env("SECRET_KEY", "secret ").env("OPEN", "open");
        let id = command::run(run, b"", PATIENCE).ok().text();
        host.finished(&id);
        fs::read_to_string(host.work().join("seen")).unwrap()
    };
    assert_eq!(seen(), "open");
    host.kill_host();
    assert_eq!(seen(), "open");
    let warnings = host.up()["warnings"].to_string();
    assert!(warnings.contains("excluded, because"), "{warnings}");
    // A person may start a host with other settings.
    host.run(["down"]).check();
    host.up();
    assert_eq!(seen(), "secret open");
}

#[test]
fn host_that_a_task_starts_allows_no_more_than_the_last_host() {
    let host = TestHost::new();
    start_strictly(&host);
    let script = format!(
        "touch begun; until test -e go; do sleep 0.1; done; '{}' run -- true; touch over",
        binary().display()
    );
    let id = host.script(&script);
    let at = |file: &str| host.work().join(file);
    wait_for("the task", || at("begun").exists().then_some(()));
    host.kill_host();
    fs::write(at("go"), "").unwrap();
    wait_for("a host", || at("over").exists().then_some(()));
    let warnings = host.up()["warnings"].to_string();
    assert!(
        warnings.contains("a task has started this host"),
        "{warnings}"
    );
    assert!(warnings.contains(NO_MORE), "{warnings}");
    refuses_shell(&mut Client::connect(&host));
    host.finished(&id);
}

/// Otherwise a host would start with settings that allow more than those of the person.
#[test]
fn no_host_starts_if_its_settings_cannot_be_found() {
    let host = TestHost::new();
    let file = host.config_dir().join("claudine/config.toml");
    symlink("unmounted/config.toml", &file).unwrap();
    let asked = json!({"prompt": "true", "executor": "shell"});
    let says = ["config.toml is a link to a file that does not exist"];
    refused(&mut Client::connect(&host), "DelegateTask", asked, &says);
    host.run(["run", "--", "true"]).code(2).says(&says);
    fs::remove_file(&file).unwrap();
    let mut homeless = host.command(["run", "--", "true"]);
    homeless.env_remove("HOME").env_remove("XDG_CONFIG_HOME");
    let ran = command::run(homeless, b"", PATIENCE).code(2);
    ran.says(&["so the settings are unknown; set HOME"]);
    assert_eq!(host.host_pid(), None);
}

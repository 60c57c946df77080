//! Results that are passed on: from a task to the tasks that use its output, and from an attempt to
//! the attempt that continues it.

use std::fs;

use claudine_tests::{TestHost, mcp::Client, process::kill_9, wait_for};
use serde_json::{Value, json};

/// Number of input directories that attempts have left behind.
fn inputs_left(host: &TestHost) -> usize {
    fs::read_dir(host.data_dir().join("inputs"))
        .unwrap()
        .count()
}

#[test]
fn command_gets_the_output_of_other_tasks_in_files() {
    let host = TestHost::new();
    let graph = r#"
- {name: numbers, script: 'seq 3; echo careful >&2'}
- {name: "odd name", script: 'echo $((6*7)); exit 3'}
- name: sum
  script: |
    test "$(cat "$CLAUDINE_INPUT_NUMBERS/output")" = "$(seq 3)" || exit 11
    test "$(cat "$CLAUDINE_INPUTS/numbers/stderr")" = careful || exit 12
    cd "$CLAUDINE_INPUTS" && for status in */status.json; do cat "$status"; done
  with_output_of: [numbers, "odd name"]
  dependencies: [{task: "odd name", condition: any}]
"#;
    let ids = host.run_with(["submit", "-"], graph.as_bytes()).ok().text();
    let sum = host.finished(ids.lines().last().unwrap());
    assert_eq!(sum["outcome"], "succeeded", "{sum:#}");
    let conditions: Vec<&Value> = sum["dependencies"]
        .as_array()
        .unwrap()
        .iter()
        .map(|edge| &edge["condition"])
        .collect();
    assert_eq!(conditions, ["succeeded", "any"]);
    let statuses: Vec<Value> = serde_json::Deserializer::from_str(sum["output"].as_str().unwrap())
        .into_iter()
        .collect::<Result<_, _>>()
        .unwrap();
    let mut outcomes: Vec<String> = statuses
        .iter()
        .map(|status| {
            format!(
                "{} {} {}",
                status["name"], status["outcome"], status["exit_code"]
            )
        })
        .collect();
    outcomes.sort();
    assert_eq!(
        outcomes,
        [r#""numbers" "succeeded" 0"#, r#""odd name" "failed" 3"#]
    );
    assert_eq!(inputs_left(&host), 0, "inputs of an ended attempt are left");
}

/// The task succeeds, is retried, and is cancelled before its second attempt starts. Only the
/// cancel, the task's last end, counts.
#[test]
fn task_cancelled_before_its_next_attempt_counts_as_cancelled_for_dependants() {
    let host = TestHost::new();
    let first = host.text([
        "run", "--group", "g", "--name", "first", "--", "echo", "old",
    ]);
    host.finished(&first);
    host.text(["group", "add", "g"]);
    host.text(["group", "pause", "g"]);
    host.text(["retry", &first]);
    host.text(["cancel", &first]);
    let script = r#"cat "$CLAUDINE_INPUT_FIRST/status.json""#;
    let options = [
        "run",
        "--with-output-of",
        "first",
        "--depends-on-any",
        "first",
    ];
    let second = host.text(options.iter().chain(&["--script", script]));
    let second = host.finished(&second);
    let status: Value = serde_json::from_str(second["output"].as_str().unwrap()).unwrap();
    assert_eq!(status["outcome"], "cancelled", "{status:#}");
    assert_eq!(status["exit_code"], Value::Null);
}

#[test]
fn output_of_other_tasks_never_becomes_part_of_a_script() {
    let host = TestHost::new();
    let evil = host.text([
        "run",
        "--name",
        "evil",
        "--",
        "echo",
        "$(touch evil); `touch evil`",
    ]);
    host.finished(evil.trim());
    let used = host.text([
        "run",
        "--with-output-of",
        "evil",
        "--script",
        r#"cat "$CLAUDINE_INPUT_EVIL/output""#,
    ]);
    let used = host.finished(used.trim());
    assert_eq!(used["output"], "$(touch evil); `touch evil`\n");
    assert!(!host.work().join("evil").exists());
}

#[test]
fn inputs_survive_a_restart_and_contain_long_outputs_completely() {
    let host = TestHost::new();
    let long = host.text(["run", "--name", "long", "--script", "seq 300000"]);
    host.finished(long.trim());
    let script = r#"
        : > started
        until test -e go; do sleep 0.1; done
        cmp "$CLAUDINE_INPUT_LONG/output" - <<EOF || exit 9
$(seq 300000)
EOF"#;
    let used = host.text(["run", "--with-output-of", "long", "--script", script]);
    wait_for("the attempt to have begun", || {
        host.work().join("started").exists().then_some(())
    });
    kill_9(host.host_pid().unwrap());
    host.up();
    fs::write(host.work().join("go"), "").unwrap();
    let used = host.finished(used.trim());
    assert_eq!(used["outcome"], "succeeded", "{used:#}");
    assert_eq!(inputs_left(&host), 0);
}

#[test]
fn task_whose_output_is_used_must_exist_and_succeed() {
    let host = TestHost::new();
    host.run(["run", "--with-output-of", "nobody", "--", "true"])
        .code(125)
        .says(&["no task matches `nobody`"]);
    let failed = host.text(["run", "--", "false"]);
    host.finished(failed.trim());
    let used = host.text(["run", "--with-output-of", failed.trim(), "--", "true"]);
    assert_eq!(host.finished(used.trim())["outcome"], "upstream_failed");
}

#[test]
fn resumed_command_gets_its_last_attempts_output_and_the_context() {
    let host = TestHost::new();
    let script = r#"
        if test -z "$CLAUDINE_PREVIOUS"; then echo half of it; exit 4; fi
        cat "$CLAUDINE_PREVIOUS/output" "$CLAUDINE_CONTEXT"
        grep -c '"exit_code": 4' "$CLAUDINE_PREVIOUS/status.json""#;
    let id = host.text(["run", "--name", "job", "--script", script]);
    assert_eq!(host.finished(id.trim())["outcome"], "failed");
    let checkpoint = host.json(["checkpoint", "job"]);
    assert_eq!(checkpoint["last_lines"], "half of it\n");
    assert_eq!(checkpoint["exit_code"], 4);
    host.run_with(["resume", "job", "--context", "-"], b"the other half\n")
        .check();
    let done = host.finished(id.trim());
    assert_eq!(
        done["output"], "half of it\nthe other half\n1\n",
        "{done:#}"
    );
    // A plain retry does not use the context.
    host.run(["retry", "job"]).check();
    assert_eq!(host.finished(id.trim())["output"], "half of it\n");
    let events = host.text(["events", "job"]);
    assert!(events.contains("to continue from attempt 1"), "{events}");
}

#[test]
fn only_a_task_that_has_run_can_be_resumed() {
    let host = TestHost::new();
    let id = host.text(["run", "--hold", "--", "true"]);
    host.run(["resume", id.trim()])
        .code(125)
        .says(&["is held, not done"]);
    host.run(["cancel", id.trim()]).check();
    host.run(["resume", id.trim()])
        .code(125)
        .says(&["has no attempt that can be continued"]);
    host.run(["checkpoint", id.trim()])
        .code(125)
        .says(&["has no attempt that has ended"]);
    host.run(["retry", id.trim()]).check();
    host.run(["release", id.trim()]).check();
    host.finished(id.trim());
    host.run(["checkpoint", id.trim(), "--attempt", "9"])
        .code(125)
        .says(&["has no attempt 9; its last is 1"]);
}

#[test]
fn requests_for_an_attempt_that_does_not_exist_are_answered_alike() {
    let host = TestHost::new();
    let held = host.text(["run", "--hold", "--", "true"]);
    let done = host.script("true");
    host.finished(&done);
    let cases = [(held, "it has no attempts yet"), (done, "its last is 1")];
    for (id, last) in cases {
        let says = format!("has no attempt 9; {last}");
        for of in ["logs", "checkpoint"] {
            let answer = host.said(&format!("GET /v1/tasks/{id}/{of}?attempt=9 HTTP/1.1"), "");
            assert!(answer.starts_with("HTTP/1.1 404 "), "{of}: {answer}");
            assert!(answer.contains(&says), "{of}: {answer}");
        }
    }
}

#[test]
fn task_can_be_resumed_and_its_output_used_over_mcp() {
    let host = TestHost::new();
    let mut client = Client::connect(&host);
    let script = r#"cat "$CLAUDINE_CONTEXT" 2> /dev/null || exit 1"#;
    let task = client.call(
        "DelegateTask",
        json!({"prompt": script, "executor": "shell", "name": "job"}),
    );
    let id = task["taskId"].as_str().unwrap();
    host.finished(id);
    let resumed = client.call(
        "ResumeTask",
        json!({"taskId": "job", "additionalContext": "with this"}),
    );
    assert_eq!(resumed["taskId"], id);
    assert_eq!(resumed["attemptNumber"], 2);
    assert_eq!(host.finished(id)["output"], "with this");
    let used = client.call(
        "DelegateTask",
        json!({
            "prompt": r#"cat "$CLAUDINE_INPUT_JOB/output""#,
            "executor": "shell", "withOutputOf": ["job"],
        }),
    );
    let used = host.finished(used["taskId"].as_str().unwrap());
    assert_eq!(used["output"], "with this");
}

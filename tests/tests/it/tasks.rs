//! Commands that show and change tasks: `list`, `status`, `wait`, `cancel`, `retry`, `why`.

use std::fs;

use claudine_tests::{TestHost, command, process::alive, short_id, wait::PATIENCE, wait_for};
use serde_json::{Value, json};

/// Fields that `status --json` must have for a task that has run and ended.
const FIELDS: &[&str] = &[
    "id",
    "summary",
    "executor",
    "state",
    "outcome",
    "priority",
    "labels",
    "cwd",
    "by",
    "attempt",
    "attempts_left",
    "created_at",
    "started_at",
    "finished_at",
    "dependencies",
    "attempts",
    "output",
    "output_truncated",
    "output_bytes",
    "usage",
    "spec",
];

#[test]
fn status_shows_the_request_and_the_end_of_a_failed_task() {
    let host = TestHost::new();
    let id = host.text([
        "run",
        "--name",
        "greeting",
        "-p",
        "P1",
        "--label",
        "team=red",
        "--script",
        "echo hello; dd if=/dev/zero of=/dev/null bs=64M count=1 status=none; exit 3",
    ]);
    let task = host.finished(&id);
    let object = task.as_object().unwrap();
    let missing: Vec<_> = FIELDS
        .iter()
        .filter(|field| !object.contains_key(**field))
        .collect();
    assert!(missing.is_empty(), "{missing:?} are missing in {task:#}");
    let check =
        |field: &str, expected: Value| assert_eq!(task[field], expected, "{field} in {task:#}");
    check("id", id.as_str().into());
    check("name", "greeting".into());
    check("executor", "shell".into());
    check("state", "done".into());
    check("attempt", 1.into());
    check("attempts_left", 0.into());
    check("status", Value::Null);
    check("outcome", "failed".into());
    check("exit_code", 3.into());
    check("signal", Value::Null);
    check("output", "hello\n".into());
    check("output_truncated", false.into());
    check("priority", "P1".into());
    check("cwd", host.work().to_str().unwrap().into());
    assert_eq!(task["reason"]["class"], "exit", "{task:#}");
    assert_eq!(task["labels"]["team"], "red", "{task:#}");
    for time in ["created_at", "started_at", "finished_at"] {
        assert!(
            task[time].as_str().is_some_and(|time| time.ends_with('Z')),
            "{time} in {task:#}"
        );
    }
    assert!(
        task["usage"]["peak_rss_bytes"]
            .as_u64()
            .is_some_and(|bytes| bytes > 64 << 20),
        "{task:#}"
    );
}

#[test]
fn death_by_a_signal_is_reported_with_the_signal() {
    let host = TestHost::new();
    let task = host.finished(&host.script("kill -KILL $$"));
    assert_eq!(
        (&task["outcome"], &task["exit_code"], &task["signal"]),
        (&"failed".into(), &Value::Null, &9.into())
    );
    assert_eq!(task["reason"]["class"], "signal");
}

#[test]
fn list_shows_the_newest_task_first() {
    let host = TestHost::new();
    let ids: Vec<String> = (0..3).map(|_| host.text(["run", "--", "true"])).collect();
    let list = host.json(["list"]);
    let listed: Vec<&str> = list["tasks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|task| task["id"].as_str().unwrap())
        .collect();
    let newest: Vec<&str> = ids.iter().rev().map(String::as_str).collect();
    assert_eq!(listed, newest);
    // A heading, and one line per task.
    assert_eq!(host.text(["list"]).lines().count(), 4);
}

#[test]
fn list_shows_unfinished_tasks_before_the_twenty_that_ended_last() {
    // With one slot, the tasks end in the order of their submission.
    let host = TestHost::builder().slots(1).build();
    let held = host.text(["run", "--hold", "--name", "old", "--", "true"]);
    host.text(["run", "--", "false"]);
    let ids: Vec<String> = (1..25).map(|_| host.text(["run", "--", "true"])).collect();
    host.finished(&ids[23]);
    let last = ids.iter().rev().take(20);
    let expected: Vec<&String> = [&held].into_iter().chain(last).collect();
    let listed = host.text(["list", "--quiet"]);
    assert_eq!(listed.lines().collect::<Vec<_>>(), expected);
    let list = host.run(["list"]).ok();
    let text = list.text();
    let rows: Vec<&str> = text.lines().skip(1).collect();
    assert_eq!(rows.len(), 21, "{list}");
    assert!(rows[0].contains("⏸ held"), "{list}");
    assert!(
        rows[1..].iter().all(|row| row.contains("✓ succeeded")),
        "{list}"
    );
    // Tasks that are not shown are counted too.
    list.says(&["1 held · 1 failed · 21 of 26 shown"]);
}

#[test]
fn prefix_of_an_id_finds_its_task_and_a_name_finds_the_newest_task() {
    let host = TestHost::new();
    let first = host.text(["run", "--name", "job", "--", "true"]);
    host.finished(&first);
    let second = host.text(["run", "--name", "job", "--", "true"]);
    assert_eq!(host.status("job")["id"], second.as_str());
    assert_eq!(host.status(&first[..30])["id"], first.as_str());
}

#[test]
fn wait_for_several_tasks_returns_the_first_nonzero_exit_code() {
    let host = TestHost::new();
    let ids: Vec<String> = ["exit 0", "exit 4", "exit 5"]
        .iter()
        .map(|script| host.script(script))
        .collect();
    drop(host.run(["wait", &ids[0], &ids[1], &ids[2]]).code(4));
    drop(host.run(["wait", &ids[0]]).code(0));
    // Even with the shortest time limit, the end of a task that has ended is reported.
    drop(host.run(["wait", "--timeout", "0", &ids[1]]).code(4));
    let runs = host.script("sleep 600");
    drop(
        host.run(["wait", "--timeout", "0", &ids[0], &runs])
            .code(124),
    );
}

#[test]
fn cancelled_task_leaves_no_process_alive() {
    let host = TestHost::new();
    // The task has a child in its own session, and a child that ignores the first signal.
    let id = host
        .script("setsid sleep 600 & (trap '' TERM INT; exec sleep 600) & echo up; exec sleep 600");
    host.live(&id);
    let marker = format!("CLAUDINE_ATTEMPT={id}.1");
    let carrying = || -> Vec<u32> {
        host.processes()
            .iter()
            .map(|found| found.pid)
            .filter(|pid| environment_has(*pid, &marker))
            .collect()
    };
    let before = wait_for("the task's processes", || {
        Some(carrying()).filter(|pids| pids.len() >= 3)
    });
    host.run(["cancel", &id, "-m", "changed my mind"]).check();
    let task = host.finished(&id);
    // The task counts as done only after all its processes have ended.
    assert_eq!(before.iter().filter(|pid| alive(**pid)).count(), 0);
    assert!(carrying().is_empty());
    assert_eq!(task["outcome"], "cancelled");
    assert!(
        task["reason"]["message"]
            .as_str()
            .unwrap()
            .contains("changed my mind"),
        "{task:#}"
    );
}

#[test]
fn leftover_processes_are_ended_with_their_task() {
    let host = TestHost::new();
    let id = host.script("setsid sleep 600 > /dev/null 2>&1 & echo $! > left; exit 0");
    assert_eq!(host.finished(&id)["outcome"], "succeeded");
    let left: u32 = fs::read_to_string(host.work().join("left"))
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    assert!(!alive(left));
}

#[test]
fn queued_task_is_cancelled_without_running() {
    let host = TestHost::builder().slots(1).build();
    let first = host.script("exec sleep 600");
    host.live(&first);
    let second = host.script("echo ran > second");
    assert_eq!(host.status(&second)["attempts_left"], 1);
    host.run(["cancel", &second]).check();
    assert_eq!(host.finished(&second)["outcome"], "cancelled");
    host.run(["cancel", &first]).check();
    host.finished(&first);
    assert!(!host.work().join("second").exists());
}

#[test]
fn retry_is_another_attempt_of_the_same_task() {
    let host = TestHost::new();
    let id = host.script("echo $CLAUDINE_ATTEMPT; test -e ready");
    assert_eq!(host.finished(&id)["outcome"], "failed");
    fs::write(host.work().join("ready"), "").unwrap();
    host.run(["retry", &id]).check();
    let task = host.finished(&id);
    assert_eq!(
        (&task["outcome"], task["attempts"].as_array().unwrap().len()),
        (&"succeeded".into(), 2)
    );
    assert_eq!(task["output"], format!("{id}.2\n"));
}

#[test]
fn why_reports_that_a_ready_task_waits_for_a_slot() {
    let host = TestHost::builder().slots(1).build();
    let first = host.script("exec sleep 600");
    host.live(&first);
    let second = host.text(["run", "--", "true"]);
    let why = host.text(["why", &second]);
    assert!(why.contains("slot"), "{why}");
    host.run(["cancel", &first]).check();
    host.finished(&second);
}

#[test]
fn request_repeated_with_its_idempotency_key_returns_the_first_task() {
    let host = TestHost::new();
    let delegate =
        |script: &str| host.run(["run", "--idempotency-key", "nightly", "--script", script]);
    let first = delegate("echo once >> count").ok().text();
    let again = delegate("echo once >> count").ok().text();
    assert_eq!(first, again);
    delegate("something else").code(125).says(&["nightly"]);
    host.finished(&first);
    assert_eq!(
        fs::read_to_string(host.work().join("count")).unwrap(),
        "once\n"
    );
}

/// A request repeated within a day returns its task, even if other tasks are kept for a shorter
/// time. If the task's dependency has been forgotten, a retry of the task is refused with this
/// reason.
#[test]
fn idempotency_key_outlives_the_retention_of_finished_tasks() {
    let host = TestHost::builder().env("CLAUDINE_KEEP", "1s").build();
    let ask = || {
        let script = "echo once >> count";
        host.text(["run", "--idempotency-key", "nightly", "--script", script])
    };
    let keyed = ask();
    host.finished(&keyed);
    let other = host.script("exit 3");
    host.finished(&other);
    let spoilt = ["run", "--idempotency-key", "spoilt", "--depends-on-success"];
    let spoilt = host.text(spoilt.iter().chain(&[other.as_str(), "--", "true"]));
    // Each host forgets old tasks when it starts.
    wait_for("the other task to be forgotten", || {
        host.run(["down"]).check();
        host.up();
        let status = host.run(["status", &other]);
        (!status.status.success()).then_some(())
    });
    assert_eq!(ask(), keyed);
    assert_eq!(host.status(&keyed)["outcome"], "succeeded");
    let count = fs::read_to_string(host.work().join("count")).unwrap();
    assert_eq!(count, "once\n");
    let forgotten = format!("{} has been forgotten", short_id(&other));
    host.run(["retry", &spoilt])
        .code(125)
        .says(&[forgotten.as_str()]);
    let why = host.json(["why", &spoilt])["reasons"].to_string();
    let forgotten = format!("{}, which is no longer", short_id(&other));
    assert!(why.contains(&forgotten), "{why}");
}

#[test]
fn command_that_starts_a_host_with_a_shorter_retention_removes_no_history() {
    let host = TestHost::new();
    let old = host.script("echo precious");
    host.finished(&old);
    // After this command, more than a second has passed since the end of the old task.
    host.run(["run", "--wait", "--", "sleep", "1.1"]).check();
    host.run(["down"]).check();
    let mut later = host.command(["run", "--wait", "--", "true"]);
    later.env("CLAUDINE_KEEP", "1s");
    command::run(later, b"", PATIENCE).ok().says(&[
        "keep is 1s",
        "was 7d",
        "`claudine down && claudine up`",
    ]);
    host.run(["down"]).check();
    assert_eq!(host.text(["logs", &old]), "precious");
    host.run(["up", "--keep", "1s"]).check();
    wait_for("the old task to be removed", || {
        let status = host.run(["status", &old]);
        (!status.status.success()).then_some(())
    });
}

#[test]
fn finished_task_can_be_neither_held_nor_released() {
    let host = TestHost::new();
    let id = host.script("true");
    host.finished(&id);
    for verb in ["hold", "release"] {
        let refused = host.run([verb, &id]).code(125);
        refused.says(&["is done (succeeded)", "claudine retry"]);
    }
}

#[test]
fn graph_with_a_used_idempotency_key_and_another_budget_is_refused() {
    let host = TestHost::new();
    let graph = b"- {argv: [\"true\"], idempotency_key: nightly}\n";
    let submit = |options: &[&str]| {
        let arguments = ["submit", "-"].iter().chain(options);
        host.run_with(arguments, graph)
    };
    let first = submit(&["--budget-usd", "1"]).ok().text();
    assert_eq!(submit(&["--budget-usd", "1.0"]).ok().text(), first);
    for other in [&["--budget-usd", "2"][..], &[]] {
        submit(other).code(125).says(&[
            "idempotency key `nightly` was used for",
            "with a different request",
        ]);
    }
    assert_eq!(host.json(["list"])["tasks"].as_array().unwrap().len(), 1);
}

#[test]
fn no_more_tasks_run_than_there_are_slots() {
    let host = TestHost::builder().slots(2).build();
    // Each task records how many tasks run at the same time.
    let ids: Vec<String> = (0..8)
        .map(|_| host.script("mkdir running.$$; ls -d running.* | wc -l >> seen; rmdir running.$$"))
        .collect();
    for id in &ids {
        assert_eq!(host.finished(id)["outcome"], "succeeded");
    }
    let seen = fs::read_to_string(host.work().join("seen")).unwrap();
    assert!(
        seen.lines()
            .all(|line| line.trim() == "1" || line.trim() == "2"),
        "{seen}"
    );
    assert_eq!(seen.lines().count(), 8);
}

#[test]
fn urgent_tasks_start_first() {
    let host = TestHost::builder().slots(1).build();
    let blocker = host.script("exec sleep 600");
    host.live(&blocker);
    let submit = |priority: &&str| {
        host.text([
            "run",
            "-p",
            priority,
            "--script",
            &format!("echo {priority} >> order"),
        ])
    };
    let ids: Vec<String> = ["P2", "P1", "P0"].iter().map(submit).collect();
    host.run(["cancel", &blocker]).check();
    for id in &ids {
        host.finished(id);
    }
    // `P2` starts first if it was put on standby before the other tasks were submitted.
    let order = fs::read_to_string(host.work().join("order")).unwrap();
    assert!(
        ["P0\nP1\nP2\n", "P2\nP0\nP1\n"].contains(&order.as_str()),
        "{order}"
    );
}

fn environment_has(pid: u32, variable: &str) -> bool {
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environment
        .split(|byte| *byte == 0)
        .any(|piece| piece == variable.as_bytes())
}

#[test]
fn command_suggested_after_a_time_limit_gives_the_task_more_time() {
    let host = TestHost::new();
    let script = "test -e go || exec sleep 600";
    for (name, option) in [("slow", "--timeout"), ("silent", "--idle-timeout")] {
        let line = ["run", "--wait", "--name", name, option, "1s"];
        let ended = host.run([&line[..], &["--script", script]].concat());
        let task = host.status(name);
        let id = task["id"].as_str().unwrap();
        let hint = format!("claudine retry {} {option} 2s", short_id(id));
        ended.code(124).says(&[&format!("hint: {hint}")]);
        for command in ["status", "why"] {
            let shown = host.text([command, id]);
            assert!(shown.contains(&hint), "{shown}");
        }
        fs::write(host.work().join("go"), "").unwrap();
        host.run(hint.split(' ').skip(1)).check();
        let task = host.finished(id);
        assert_eq!(task["outcome"], "succeeded", "{task:#}");
        let revised = &task["attempts"][1]["revised"][0];
        assert_eq!(revised["after"], "2s", "{task:#}");
        fs::remove_file(host.work().join("go")).unwrap();
    }
}

#[test]
fn retry_with_edit_runs_the_task_as_changed_in_the_editor() {
    let host = TestHost::new();
    let id = host.text(["run", "--", "sh", "-c", "exit 3"]);
    assert_eq!(host.finished(&id)["exit_code"], 3);
    let edit = |editor: &str, tasks: &[&str]| {
        let mut retry = host.command(["retry", "--edit"].iter().chain(tasks));
        retry.env("EDITOR", editor);
        command::run(retry, b"", PATIENCE)
    };
    let other = host.script("exit 3");
    host.finished(&other);
    edit("sed -i s/3/0/", &[&id, &other])
        .code(2)
        .says(&["name exactly one"]);
    edit("false", &[&id])
        .code(2)
        .says(&["so nothing was changed"]);
    edit("sed -i d", &[&id])
        .code(2)
        .says(&["not a JSON object, nothing was changed"]);
    let complaint = edit("sed -i 1d", &[&id]).code(2).complaint();
    let (_, kept) = complaint
        .split_once("hint: your edited text is in ")
        .unwrap();
    assert!(
        fs::read_to_string(kept.trim())
            .unwrap()
            .contains("\"exit 3\"")
    );
    fs::remove_file(kept.trim()).unwrap();
    let twice = edit(r#"sed -i s/^}/,\"argv\":1}/"#, &[&id]).code(2);
    twice.says(&[
        "the edited text cannot be used",
        "the field 'argv' is given twice",
    ]);
    let complaint = twice.complaint();
    let (_, kept) = complaint.split_once("your edited text is in ").unwrap();
    fs::remove_file(kept.trim()).unwrap();
    assert_eq!(host.status(&id)["attempts"].as_array().unwrap().len(), 1);
    edit("sed -i s/3/0/", &[&id]).check();
    let task = host.finished(&id);
    assert_eq!(task["outcome"], "succeeded", "{task:#}");
    let revised = &task["attempts"][1]["revised"];
    assert_eq!(
        revised,
        &json!([{
            "option": "argv",
            "before": r#"["sh","-c","exit 3"]"#,
            "after": r#"["sh","-c","exit 0"]"#,
        }])
    );
}

#[test]
fn edited_request_is_kept_if_it_cannot_be_read_or_the_host_refuses_it() {
    let host = TestHost::new();
    let id = host.text(["run", "--", "sh", "-c", "exit 3"]);
    host.finished(&id);
    let editor = host.work().join("editor");
    let check = |verb: &str, script: &str, code: i32, says: &str, kept: &[u8]| {
        fs::write(&editor, script).unwrap();
        let mut edit = host.command([verb, "--edit", &id]);
        edit.env("EDITOR", format!("sh {}", editor.display()));
        let ran = command::run(edit, b"", PATIENCE).code(code);
        ran.says(&[says]);
        let complaint = ran.complaint();
        let (_, place) = complaint.split_once("your edited text is in ").unwrap();
        let text = fs::read(place.trim()).unwrap();
        let has_it = text.windows(kept.len()).any(|piece| piece == kept);
        assert!(has_it, "{}", String::from_utf8_lossy(&text));
        fs::remove_file(place.trim()).unwrap();
    };
    for verb in ["retry", "resume"] {
        check(verb, r"printf '\377' > $1", 125, "UTF-8", b"\xff");
        let refused = "unknown field `arguments`";
        let script = "sed -i s/argv/arguments/ $1";
        check(verb, script, 2, refused, b"\"arguments\"");
    }
    assert_eq!(host.status(&id)["attempts"].as_array().unwrap().len(), 1);
}

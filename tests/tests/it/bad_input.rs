//! Invalid requests are refused with a message that names the fault, and leave no task behind.

use std::{
    ffi::OsString,
    fs,
    os::unix::{ffi::OsStringExt, fs::PermissionsExt},
};

use claudine_tests::{
    TestHost,
    command::{self, Ran},
    short_id,
    wait::PATIENCE,
};

/// Exit code if a named task or executor does not exist, or does not allow the request now.
const REFUSED: i32 = 125;
/// Exit code if the command line or the request is invalid in any state.
const USAGE: i32 = 2;

#[track_caller]
fn check(host: &TestHost, arguments: &[&str], code: i32, says: &[&str]) {
    let ran: Ran = host.run(arguments).code(code);
    ran.says(says);
    assert!(ran.stdout.is_empty(), "a refusal printed to stdout\n{ran}");
}

#[test]
fn names_in_the_settings_that_no_plugin_has_are_a_warning() {
    let config = "[mcp]\nexecutors = [\"claud\"]\n[plugins.shel]\na = 1\n";
    let host = TestHost::builder().config(config).build();
    host.up();
    let doctor = host.run(["doctor"]).text();
    // Its lines are wrapped.
    let doctor: Vec<&str> = doctor.split_whitespace().collect();
    let doctor = doctor.join(" ");
    for says in [
        "`claud` among mcp.executors has no effect",
        "did you mean 'claude'?",
        "`[plugins.shel]` have no effect",
        "did you mean 'shell'?",
    ] {
        assert!(doctor.contains(says), "{says}: {doctor}");
    }
}

#[test]
fn refusal_of_an_invalid_request_names_the_fault() {
    let host = TestHost::new();
    check(
        &host,
        &["delegate", "--executor", "nonesuch", "hello"],
        REFUSED,
        &["nonesuch", "shell"],
    );
    check(
        &host,
        &["delegate", "--executor", "shell", ""],
        USAGE,
        &["empty"],
    );
    check(&host, &["run", "--"], USAGE, &["Usage"]);
    check(
        &host,
        &["run", "-w", "/no/such/directory", "--", "true"],
        USAGE,
        &["/no/such/directory"],
    );
    check(
        &host,
        &["run", "-w", "/etc/passwd", "--", "true"],
        USAGE,
        &["/etc/passwd", "directory"],
    );
    check(
        &host,
        &["run", "--timeout=-5", "--", "true"],
        USAGE,
        &["-5", "timeout"],
    );
    check(
        &host,
        &["run", "--timeout", "9999999h", "--", "true"],
        USAGE,
        &["9999999h", "timeout"],
    );
    check(
        &host,
        &["run", "--timeout", "soon", "--", "true"],
        USAGE,
        &["soon", "timeout"],
    );
    check(
        &host,
        &["run", "--env", "NOVALUE", "--", "true"],
        USAGE,
        &["NOVALUE", "="],
    );
    check(&host, &["run", "-p", "P9", "--", "true"], USAGE, &["P9"]);
    check(
        &host,
        &["status", "task_00000000000000000000000000"],
        REFUSED,
        &["task_00000000000000000000000000"],
    );
    check(
        &host,
        &["status", "no-such-name"],
        REFUSED,
        &["no-such-name"],
    );
    check(&host, &["logs", "no-such-name"], REFUSED, &["no-such-name"]);
    check(&host, &["frobnicate"], USAGE, &["frobnicate"]);
    assert_eq!(host.json(["list"])["tasks"].as_array().unwrap().len(), 0);
}

/// An empty name usually comes from a variable of a script that is not set.
#[test]
fn empty_name_is_refused() {
    let host = TestHost::new();
    let task = host.script("true");
    let options = [
        "--depends-on",
        "--depends-on-success",
        "--depends-on-any",
        "--with-output-of",
    ];
    for option in options {
        for empty in ["", " ", ",", &format!("{task},"), &format!(",{task}")] {
            let says = ["empty", option];
            let run = ["run", option, empty, "--hold", "--", "true"];
            check(&host, &run, USAGE, &says);
            let delegate = ["delegate", "--executor", "shell", "true", option, empty];
            check(&host, &delegate, USAGE, &says);
        }
        let delegate = ["delegate", "--executor", "shell", option, &task, ""];
        check(&host, &delegate, USAGE, &["the prompt is empty"]);
    }
    for option in ["--name", "--group", "--executor"] {
        check(&host, &["wait", option, ""], USAGE, &[option, "required"]);
    }
    let says = &["the name of the task is empty"];
    check(&host, &["wait", ""], USAGE, says);
    assert_eq!(host.json(["list"])["tasks"].as_array().unwrap().len(), 1);
}

#[test]
fn bytes_that_cannot_be_passed_to_a_command_are_refused() {
    let host = TestHost::new();
    let invalid = OsString::from_vec(b"caf\xe9".to_vec());
    let ran = host
        .run([
            OsString::from("run"),
            "--".into(),
            "echo".into(),
            invalid.clone(),
        ])
        .code(USAGE);
    ran.says(&["UTF-8"]);
    host.run([
        OsString::from("delegate"),
        "--executor".into(),
        "shell".into(),
        invalid,
    ])
    .code(USAGE)
    .says(&["UTF-8"]);
    // The kernel ends an argument at a NUL, so only standard input can contain a NUL.
    host.run_with(["delegate", "--executor", "shell", "-"], b"echo a\0b")
        .code(USAGE)
        .says(&["NUL"]);
    host.run_with(["delegate", "--executor", "shell", "-"], b"echo \xff")
        .code(USAGE)
        .says(&["UTF-8"]);
}

/// Somebody who lists the variables of a task on a terminal would not see what is there.
#[test]
fn variable_with_a_control_character_in_its_name_is_refused_and_an_inherited_one_is_left_out() {
    let host = TestHost::new();
    let name = "LC_\u{1b}[2J";
    let set = format!("{name}=unseen");
    host.run(["run", "--env", &set, "--", "true"])
        .code(USAGE)
        .says(&["`LC_\\u{1b}[2J` is not a valid variable name"]);
    assert_eq!(host.json(["list"])["tasks"].as_array().unwrap().len(), 0);
    let mut command = host.command(["run", "--", "env"]);
    command.env(name, "unseen");
    let ran = command::run(command, b"", PATIENCE).ok();
    ran.says(&["control characters in their names", "LC_\\u{1b}[2J"]);
    let id = ran.text();
    assert_eq!(host.finished(&id)["outcome"], "succeeded");
    assert!(!host.text(["logs", &id]).contains("unseen"));
}

#[test]
fn command_is_refused_if_a_path_in_a_variable_is_not_utf8() {
    let host = TestHost::new();
    let check = |name: &str, arguments: &[&str]| {
        let mut path = host.root().join("jos").into_os_string().into_vec();
        path.push(0xe9);
        let mut command = host.command(arguments);
        command.env(name, OsString::from_vec(path));
        let ran = command::run(command, b"", PATIENCE).code(USAGE);
        ran.says(&[name, "UTF-8"]);
    };
    check("CLAUDINE_DATA_DIR", &["down", "--kill"]);
    check("CLAUDINE_DATA_DIR", &["run", "--", "true"]);
    check("CLAUDINE_CONFIG", &["up"]);
    check("CLAUDINE_CONFIG", &["config", "show"]);
    let usual = host.root().join("state/claudine");
    assert!(!usual.exists(), "the usual data directory was used");
    assert_eq!(host.host_pid(), None);
}

#[test]
fn command_that_cannot_be_started_fails_its_task() {
    let host = TestHost::new();
    fs::write(host.work().join("plain"), "no program\n").unwrap();
    let check = |command: &str, code: i32, says: &[&str]| {
        // The exit codes are those of a shell; 1 would mean that the command ran and failed.
        host.run(["run", "--wait", "--", command])
            .code(code)
            .says(says);
        let id = host.text(["run", "--", command]);
        let task = host.finished(&id);
        assert_eq!(
            (&task["outcome"], &task["reason"]["class"]),
            (&"failed".into(), &"spawn".into()),
            "{task:#}"
        );
        let message = task["reason"]["message"].as_str().unwrap();
        for piece in says {
            assert!(
                message.contains(piece),
                "{message:?} does not contain {piece:?}"
            );
        }
    };
    check("no-such-command", 127, &["no-such-command", "not found"]);
    check("./plain", 126, &["./plain", "ermission"]);
    check("./absent", 127, &["./absent"]);
    let windows = host.work().join("windows");
    fs::write(&windows, "#!/bin/sh\r\necho hi\r\n").unwrap();
    fs::set_permissions(&windows, fs::Permissions::from_mode(0o755)).unwrap();
    check("./windows", 126, &[r"`/bin/sh\r`"]);
}

#[test]
fn prompt_after_the_dependencies_is_recognised() {
    let host = TestHost::new();
    host.text(["run", "--name", "tests", "--", "true"]);
    host.text(["run", "--name", "lint", "--", "true"]);
    let delegate = [
        "delegate",
        "--executor",
        "shell",
        "--wait",
        "--depends-on",
        "tests",
        "lint",
    ];
    let ran = host.run(delegate.iter().chain(&["echo done"])).ok();
    assert_eq!(ran.text(), "done");
    // Other options may follow, and one value may name several tasks.
    let ran = host.run([
        "delegate",
        "--executor",
        "shell",
        "--with-output-of",
        "tests,lint",
        "echo again",
        "--wait",
    ]);
    assert_eq!(ran.ok().text(), "again");
    let id = host.text([
        "delegate",
        "--executor",
        "shell",
        "echo first",
        "--depends-on",
        "tests",
        "lint",
    ]);
    let dependencies = host.status(&id)["dependencies"].clone();
    assert_eq!(
        dependencies.as_array().unwrap().len(),
        2,
        "{dependencies:#}"
    );
    // Nothing is submitted if the prompt is ambiguous.
    let unclear = [
        "delegate",
        "--depends-on",
        "tests",
        "nobody",
        "--with-output-of",
        "lint",
        "Fix it",
    ];
    let says = [
        "neither `nobody` nor `Fix it` is a task",
        "put the prompt first",
    ];
    check(&host, &unclear, USAGE, &says);
    // If no prompt is given, the last task is not taken for the prompt.
    check(&host, &delegate, USAGE, &["no prompt", "`lint` is a task"]);
    let front = "--- \ntitle: x\n--- \nDo it.";
    let id = host.text(["delegate", "--executor", "shell", "--hold", front]);
    assert_eq!(host.status(&id)["spec"]["script"], front);
    host.run(["cancel", &id]).check();
}

#[test]
fn prefix_of_two_ids_is_ambiguous() {
    let host = TestHost::new();
    let ids = [
        host.text(["run", "--", "true"]),
        host.text(["run", "--", "true"]),
    ];
    // Ids begin with the time, so two ids of the same moment share their beginning.
    let shared = &ids[0][.."task_".len() + 4];
    check(
        &host,
        &["status", shared],
        REFUSED,
        &[shared, &ids[0][25..], &ids[1][25..]],
    );
}

#[test]
fn finished_task_cannot_be_cancelled() {
    let host = TestHost::new();
    let id = host.text(["run", "--", "true"]);
    host.finished(&id);
    check(
        &host,
        &["cancel", &id],
        REFUSED,
        &[short_id(&id), "succeeded"],
    );
    assert_eq!(host.status(&id)["outcome"], "succeeded");
}

#[test]
fn running_task_cannot_be_retried() {
    let host = TestHost::new();
    let id = host.script("exec sleep 600");
    host.live(&id);
    check(&host, &["retry", &id], REFUSED, &["running"]);
    host.run(["cancel", &id]).check();
    host.finished(&id);
}

#[test]
fn name_of_a_hundred_thousand_characters_is_refused() {
    let host = TestHost::new();
    // The kernel accepts an argument of 100,000 characters, so `claudine` itself must refuse the
    // name.
    let name = "n".repeat(100_000);
    let ran = host.run(["run", "--name", &name, "--", "true"]);
    assert!(!ran.status.success());
    let complaint = ran.complaint();
    assert!(
        complaint.contains("name") && complaint.len() < 1_000,
        "{complaint:.300}"
    );
    assert_eq!(host.json(["list"])["tasks"].as_array().unwrap().len(), 0);
}

#[test]
fn invalid_variable_is_named_in_a_warning_and_an_unknown_setting_is_refused() {
    let variables = [
        ("CLAUDINE_CPU_THRESHOLD", "many"),
        ("CLAUDINE_MEMORY_RESERVE", "-1"),
        ("CLAUDINE_TASK_TIMEOUT", "soon"),
        ("CLAUDINE_MAX_OUTPUT_BUFFER", "ten"),
        ("CLAUDINE_LOG_LEVEL", "verbose"),
    ];
    // Variables meant for other programs have no effect here.
    let mut host = TestHost::builder()
        .env("LOG_LEVEL", "loud")
        .env("TASK_TIMEOUT", "5m");
    for (name, value) in variables {
        host = host.env(name, value);
    }
    let host = host.build();
    let ran = host.run(["up"]).ok();
    for (name, value) in variables {
        ran.says(&["warning", name, value]);
    }
    assert!(!ran.complaint().contains("loud"), "{ran}");
    host.run(["config", "show"])
        .ok()
        .says(&["CLAUDINE_LOG_LEVEL", "verbose"]);
    let ran = host.run(["run", "--wait", "--", "echo", "works"]).ok();
    assert_eq!(ran.text(), "works");
    let host = TestHost::builder().config("slotz = 3\n").build();
    check(&host, &["up"], USAGE, &["slotz", "config.toml"]);
}

/// Short documents of one request are validated together. If a document makes the instance trap,
/// the message still names that document's task.
#[test]
fn plugin_that_traps_in_validation_is_named_with_the_task() {
    let host = TestHost::new();
    let spec = r#"{"trap_in_validate": true}"#;
    check(
        &host,
        &["delegate", "--executor", "mock", "--spec", spec],
        REFUSED,
        &["executor `mock` cannot validate the request"],
    );
    let graph = r"
- {name: good, executor: mock, spec: {}}
- {name: bad, executor: mock, spec: {trap_in_validate: true}}
- {name: behind, executor: mock, spec: {}}
";
    let ran = host.run_with(["submit", "-"], graph.as_bytes());
    ran.code(REFUSED).says(&[
        "standard input:3:3",
        "name: bad",
        "executor `mock` cannot validate the request",
    ]);
    assert_eq!(host.json(["list"])["tasks"], serde_json::json!([]));
}

#[test]
fn request_with_an_encoded_body_or_a_query_that_is_not_utf8_is_refused() {
    let host = TestHost::new();
    host.up();
    let check = |head: &str, body: &str, status: u16, reason: &str| {
        let answer = host.said(head, body);
        let status = format!("HTTP/1.1 {status} ");
        assert!(answer.starts_with(&status), "{head}: {answer}");
        assert!(answer.contains(reason), "{head}: {answer}");
    };
    let post = |header: &str| format!("POST /v1/tasks HTTP/1.1\r\n{header}");
    let zipped = post("content-encoding: gzip\r\ncontent-length: 2");
    check(&zipped, "{}", 415, "encoding `gzip` (content-encoding)");
    let zipped = post("transfer-encoding: gzip, chunked");
    check(
        &zipped,
        "2\r\n{}\r\n0\r\n\r\n",
        501,
        "encoding `gzip` (transfer-encoding)",
    );
    let get = |name: &str| format!("GET /v1/tasks?name={name} HTTP/1.1");
    check(&get("%ff"), "", 400, "the request's query: it is not UTF-8");
    check(&get("%c3%bc"), "", 200, "\"tasks\"");
}

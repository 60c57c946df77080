//! The output of tasks: `logs` with its options, and the end of the output in `status`.

use std::{fs, path::PathBuf};

use claudine_tests::{
    TestHost,
    command::{self, Reading},
    harness::{binary, short_id},
    mcp::Client,
    wait::PATIENCE,
    wait_for,
};
use serde_json::json;

use crate::authority::with_agent;

/// Runs a task whose log has two frames of output, of a line each.
fn finished_with_two_frames(host: &TestHost) -> String {
    let id = host.script("echo one; until test -e go; do sleep 0.02; done; echo two");
    wait_for("the first line", || {
        (host.text(["logs", &id]) == "one").then_some(())
    });
    fs::write(host.work().join("go"), "").unwrap();
    host.finished(&id);
    id
}

/// The log of the first attempt of a task.
fn log_of(host: &TestHost, id: &str) -> PathBuf {
    let shard = &id[id.len() - 2..];
    host.data_dir().join(format!("logs/{shard}/{id}.1.log"))
}

/// Output with binary bytes, escapes, and no final line end.
const AWKWARD: &str = r"printf 'plain\n\000\001\377\n\033[31mred\033[0m\n'; printf 'no end'";
const AWKWARD_BYTES: &[u8] = b"plain\n\0\x01\xff\n\x1b[31mred\x1b[0m\nno end";

#[test]
fn every_byte_of_the_output_is_kept() {
    let host = TestHost::new();
    let id = host.script(AWKWARD);
    host.finished(&id);
    assert_eq!(host.run(["logs", &id]).ok().stdout, AWKWARD_BYTES);
    // The bytes are the same after a crash of the host.
    host.kill_host();
    assert_eq!(host.run(["logs", &id]).ok().stdout, AWKWARD_BYTES);
}

#[test]
fn logs_of_one_stream_and_its_last_lines_can_be_selected() {
    let host = TestHost::new();
    let id = host.script("for i in 1 2 3; do echo out $i; echo err $i >&2; done");
    host.finished(&id);
    let check = |arguments: &[&str], expected: &str| {
        let ran = host.run(["logs", &id].iter().chain(arguments)).ok();
        // The two output streams of `logs` together contain exactly these lines.
        assert_eq!(
            String::from_utf8([ran.stdout, ran.stderr].concat()).unwrap(),
            expected,
            "{arguments:?}"
        );
    };
    check(&["--stream", "stdout"], "out 1\nout 2\nout 3\n");
    check(&["--stream", "stdout", "--tail", "1"], "out 3\n");
    check(
        &["--stream", "stdout", "--tail", "100"],
        "out 1\nout 2\nout 3\n",
    );
    check(&["--stream", "stderr", "--tail", "2"], "err 2\nerr 3\n");
}

#[test]
fn logs_can_be_selected_by_time_offset_and_attempt() {
    let host = TestHost::new();
    let id = host.script(
        "test -e again && { echo second time; exit 0; }; echo before; touch there; until test -e go; do sleep 0.1; done; echo after; touch again",
    );
    wait_for("the first line to be read", || {
        let log = host.run(["logs", &id]).ok();
        (log.text() == "before").then_some(())
    });
    let mut date = host.other("date");
    date.args(["-u", "+%Y-%m-%dT%H:%M:%S.%3NZ"]);
    let between = command::run(date, b"", PATIENCE).ok().text();
    let read = host.status(&id)["output_bytes"].to_string();
    fs::write(host.work().join("go"), "").unwrap();
    host.finished(&id);
    let check = |arguments: &[&str], expected: &str| {
        let ran = host.run(["logs", &id].iter().chain(arguments)).ok();
        assert_eq!(ran.text(), expected, "{arguments:?}");
    };
    check(&["--since", &between], "after");
    check(&["--since", "1h"], "before\nafter");
    check(&["--since", "2999-01-01T00:00:00Z"], "");
    assert_eq!(read, "7");
    check(&["--stream", "stdout", "--offset", &read], "after");
    host.run(["retry", &id]).check();
    host.finished(&id);
    check(&[], "second time");
    check(&["--attempt", "1"], "before\nafter");
    check(&["--attempt", "1", "--since", &between], "after");
    check(
        &["--attempt", "1", "--offset", "3", "--stream", "stdout"],
        "ore\nafter",
    );
    let check_refused = |arguments: &[&str], why: &str| {
        let ran = host.run(["logs", &id].iter().chain(arguments)).code(2);
        assert!(ran.complaint().contains(why), "{}", ran.complaint());
    };
    check_refused(&["--since", "soon"], "`soon` is not a time");
    check_refused(&["--since", "1h", "--tail", "1"], "cannot be used with");
}

#[test]
fn logs_with_follow_end_with_the_task() {
    let host = TestHost::new();
    let id = host.script("echo first; until test -e go; do sleep 0.1; done; echo last");
    host.live(&id);
    let mut follow = Reading::start(host.command(["logs", &id, "-f"]));
    assert_eq!(follow.line(), "first\n", "no output while the task runs");
    fs::write(host.work().join("go"), "").unwrap();
    let (rest, ended) = follow.rest();
    assert_eq!(rest, "last\n");
    assert!(ended.success(), "{ended}");
    host.finished(&id);
}

#[test]
fn output_cap_keeps_the_beginning_and_the_end() {
    let host = TestHost::new();
    let id = host.text([
        "run",
        "--max-output",
        "64K",
        "--script",
        "echo the beginning; seq 1 100000; echo the end",
    ]);
    assert_eq!(host.finished(&id)["outcome"], "succeeded");
    let log = host.run(["logs", &id]).ok();
    let log = String::from_utf8_lossy(&log.stdout).into_owned();
    assert!(
        log.starts_with("the beginning\n1\n2\n") && log.ends_with("100000\nthe end\n"),
        "{} bytes: {log:.60}",
        log.len()
    );
    assert!(log.len() < 80 * 1024, "{} bytes", log.len());
    assert_eq!(host.status(&id)["output_bytes"], 588_917);
    // The cut lines are not joined: a line of its own marks the place.
    let is_mark = |line: &str| {
        line.starts_with("[claudine: ")
            && line.ends_with(" bytes left out here: over --max-output, or its log was changed]")
    };
    assert_eq!(log.lines().filter(|line| is_mark(line)).count(), 1);
    let raw = host.run(["logs", "--raw", &id]).ok();
    raw.says(&[" bytes left out here: over --max-output, or its log was changed]"]);
    assert!(!String::from_utf8_lossy(&raw.stdout).contains("claudine"));
}

#[test]
fn logs_end_without_an_error_if_their_reader_closes_the_pipe() {
    let host = TestHost::new();
    let id = host.script("seq 1 200000");
    host.finished(&id);
    let mut head = host.other("sh");
    head.args([
        "-c",
        &format!("'{}' logs {id} | head -1", binary().display()),
    ]);
    let ran = command::run(head, b"", PATIENCE).ok();
    assert_eq!((ran.text().as_str(), ran.complaint().as_str()), ("1", ""));
    host.run(["list"]).check();
}

#[test]
fn fifo_in_place_of_a_log_is_named_and_keeps_no_command_waiting() {
    let host = TestHost::new();
    let id = host.script("echo out");
    host.finished(&id);
    let log = log_of(&host, &id);
    fs::remove_file(&log).unwrap();
    let made = host.other("mkfifo").arg(&log).status().unwrap();
    assert!(made.success());
    let said = format!("{id}.1.log is no regular file; move it away");
    for arguments in [vec!["logs", &id], vec!["logs", "--tail", "1", &id]] {
        let ran = host.run(&arguments).code(125);
        ran.says(&[&said]);
    }
    let status = host.status(&id);
    assert_eq!(status["outcome"], "succeeded", "{status:#}");
    assert_eq!(status["output"], "");
    let shown = host.text(["status", &id]);
    assert!(shown.contains(&said), "{shown}");
}

#[test]
fn status_shows_the_end_of_both_streams() {
    let host = TestHost::new();
    let id = host.script(r"printf '\033[32mPASS\033[0m\n'; echo why >&2; exit 5");
    host.finished(&id);
    let shown = host.text(["status", &id]);
    let (_, output) = shown.split_once("\nOutput:\n").unwrap();
    let mut lines: Vec<_> = output.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["PASS", "why"], "no colours in a pipe");
    let terminal = command::run(host.on_terminal(&["status", &id]), b"", PATIENCE).ok();
    let shown = terminal.text();
    assert!(
        shown.contains("\x1b[32mPASS\x1b[0m") && shown.contains("\x1b[2;31mwhy\x1b[0m"),
        "{shown:?}"
    );
    let kept = host.json(["checkpoint", &id]);
    let kept = kept["last_lines"].as_str().unwrap();
    assert!(
        kept.contains("PASS\n") && kept.contains("why\n"),
        "{kept:?}"
    );
    assert!(!kept.contains('\x1b'), "{kept:?}");
}

#[test]
fn status_shows_twenty_lines_of_output_and_the_number_of_earlier_lines() {
    let host = TestHost::new();
    let id = host.script("seq 1 41");
    host.finished(&id);
    let shown = host.text(["status", &id]);
    let (_, output) = shown.split_once("\nOutput:\n").unwrap();
    let mut lines = output.lines();
    let earlier = format!("… 21 earlier lines: claudine logs {}", short_id(&id));
    assert_eq!(lines.next(), Some(&*earlier));
    let expected: Vec<String> = (22..=41).map(|n| n.to_string()).collect();
    assert_eq!(lines.collect::<Vec<_>>(), expected);
    // The output has more lines than `status` counts.
    let id = host.script("seq 1 200000");
    host.finished(&id);
    let shown = host.text(["status", &id]);
    assert!(shown.contains("… more than "), "{shown}");
    assert!(shown.ends_with("\n199999\n200000"), "{shown}");
}

#[test]
fn logs_on_a_terminal_are_unchanged_except_that_colours_are_reset_at_the_end() {
    let host = TestHost::new();
    let id = host.script(r"printf 'a\n\033[31mred\033[0m\nb\n'");
    host.finished(&id);
    let shown = command::run(host.on_terminal(&["logs", &id]), b"", PATIENCE).ok();
    // The terminal itself turns a line feed into two characters.
    assert_eq!(
        shown.stdout, b"a\r\n\x1b[31mred\x1b[0m\r\nb\r\n\x1b[0m",
        "the colour is not reset"
    );
    assert_eq!(host.text(["logs", "-n", "1", &id]), "b");
}

#[test]
fn log_that_was_cut_short_is_shown_and_then_reported_as_incomplete() {
    let host = TestHost::new();
    let id = finished_with_two_frames(&host);
    let path = log_of(&host, &id);
    let whole = fs::read(&path).unwrap();
    // The first frame has a header of 16 bytes and four bytes of output.
    for (length, shown, bytes) in [(20, "one\n", 4), (39, "one\n", 4), (10, "", 0), (0, "", 0)] {
        fs::write(&path, &whole[..length]).unwrap();
        let ran = host.run(["logs", &id]).code(125);
        assert_eq!(ran.stdout, shown.as_bytes(), "{length}");
        let says = format!("has {bytes} of at least 8 bytes of output");
        ran.says(&["the log of attempt 1", "is not what was written", &says]);
    }
    fs::write(&path, &whole).unwrap();
    assert_eq!(host.text(["logs", &id]), "one\ntwo");
}

/// The task goes on and succeeds.
#[test]
fn log_that_is_cut_short_while_its_task_runs_is_shown_and_then_reported_as_incomplete() {
    let host = TestHost::new();
    let id = host.script("echo one; until test -e go; do sleep 0.02; done; echo two");
    let path = log_of(&host, &id);
    wait_for("the first line", || {
        fs::metadata(&path)
            .is_ok_and(|found| found.len() == 20)
            .then_some(())
    });
    fs::write(&path, "").unwrap();
    fs::write(host.work().join("go"), "").unwrap();
    host.finished(&id);
    let said = "has 4 of at least 8 bytes of output";
    let ran = host.run(["logs", "--raw", &id]).code(125);
    assert_eq!(ran.stdout, b"two\n");
    ran.says(&["4 bytes left out here", "is not what was written", said]);
    let ran = host.run(["logs", &id]).code(125);
    assert!(ran.stdout.ends_with(b"two\n"), "{ran}");
    ran.says(&["is not what was written", said]);
    let status = host.status(&id);
    assert_eq!(status["outcome"], "succeeded", "{status:#}");
    assert_eq!(status["output"], "two\n");
    assert_eq!(status["output_bytes"], 8);
    assert_eq!(status["output_truncated"], true);
    let backup = host.root().join("backup");
    let taken = host.run(["backup", backup.to_str().unwrap()]).ok();
    assert!(taken.complaint().contains(said), "{taken}");
}

#[test]
fn log_with_added_output_is_shown_and_then_reported_except_if_left_processes_wrote_it() {
    let host = TestHost::new();
    let id = host.script("echo output");
    host.finished(&id);
    let path = log_of(&host, &id);
    let whole = fs::read(&path).unwrap();
    fs::write(&path, whole.repeat(2)).unwrap();
    let ran = host.run(["logs", &id]).code(125);
    assert_eq!(ran.stdout, b"output\noutput\n");
    ran.says(&["has 14 bytes of output, but only 7 were written"]);
    // The process that is left writes when it is ended, after its parent was counted.
    let left = "trap 'echo late; exit' TERM; touch up; while true; do sleep 0.02; done";
    let id = host.script(&format!(
        "({left}) 2> /dev/null & until test -e up; do sleep 0.02; done; echo one"
    ));
    host.finished(&id);
    assert_eq!(host.text(["logs", &id]), "one\nlate");
}

#[test]
fn damaged_log_is_shown_as_far_as_it_can_be_read_and_does_not_hide_how_its_task_ended() {
    let host = TestHost::new();
    let id = finished_with_two_frames(&host);
    let path = log_of(&host, &id);
    let mut bytes = fs::read(&path).unwrap();
    // The header of the second frame.
    bytes[20..36].fill(0xff);
    fs::write(&path, bytes).unwrap();
    let damage = format!("{id}.1.log is damaged at byte 20");
    for arguments in [vec!["logs", &id], vec!["logs", "--tail", "1", &id]] {
        let ran = host.run(&arguments).code(125);
        assert_eq!(ran.stdout, b"one\n", "{arguments:?}");
        ran.says(&[&damage]);
    }
    let status = host.status(&id);
    assert_eq!(status["outcome"], "succeeded", "{status:#}");
    assert_eq!(status["output"], "one\n");
    assert_eq!(status["output_truncated"], true);
    let shown = host.text(["status", &id]);
    let (_, output) = shown.split_once("\nOutput:\n").unwrap();
    assert!(
        output.contains("one\n") && output.contains(&damage),
        "{output}"
    );
}

/// A task without output has no log, and neither has a task that has not begun.
#[test]
fn removed_log_is_reported_as_missing_with_its_path() {
    let host = TestHost::new();
    let id = host.script("echo said");
    host.finished(&id);
    let script = "echo said; until test -e go; do sleep 0.02; done";
    let with_limit = host.text(["run", "--start-timeout", "1m", "--", "sh", "-c", script]);
    host.live(&with_limit);
    fs::write(host.work().join("go"), "").unwrap();
    host.finished(&with_limit);
    let silent = host.script("true");
    host.finished(&silent);
    let later = host.text(["run", "--at", "+2h", "--", "true"]);
    for task in [&silent, &later] {
        assert_eq!(host.text(["logs", task]), "");
    }
    let logs = host.data_dir().join("logs");
    let missing = |task: &str| {
        let says = [
            format!("the log of attempt 1 of task {} is missing", short_id(task)),
            format!("it was expected at {}", log_of(&host, task).display()),
        ];
        let ran = host.run(["logs", task]).code(125);
        ran.says(&[&*says[0], &*says[1]]);
    };
    fs::remove_dir_all(&logs).unwrap();
    missing(&id);
    missing(&with_limit);
    assert_eq!(host.text(["logs", &later]), "");

    // Whether there was output is known even if the directory exists again.
    let other = host.script("echo other");
    host.finished(&other);
    missing(&id);
    missing(&with_limit);
    assert_eq!(host.text(["logs", &other]), "other");
    assert_eq!(host.text(["logs", &silent]), "");
}

/// An agent that prints a tool's result of 10 MiB in one line, between two texts.
const AGENT_WITH_A_LONG_LINE: &str = r#"
case "$*" in *--version*) echo '2.1.330 (Claude Code)'; exit ;; esac
cat > /dev/null
session=11111111-2222-4333-8444-555555555555
text() { echo '{"type":"assistant","message":{"content":[{"type":"text","text":"'"$1"'"}]}}'; }
echo '{"type":"system","subtype":"init","session_id":"'$session'"}'
text before
printf '{"type":"user","message":{"content":[{"type":"tool_result","tool_use_id":"t","content":"'
head -c 10485760 /dev/zero | tr '\0' x
echo '"}]}}'
text after
printf '{"type":"result","subtype":"success","is_error":false,"num_turns":1,"total_cost_usd":0.01,'
echo '"session_id":"'$session'","result":"after"}'
"#;

#[test]
fn line_that_is_too_long_for_a_transcript_is_shown_as_a_note_by_every_reader() {
    let (host, _agent) = with_agent("", AGENT_WITH_A_LONG_LINE);
    let id = host.text(["delegate", "p"]);
    let task = host.finished(&id);
    assert_eq!(task["outcome"], "succeeded", "{task:#}");
    let note = "[claudine: a line of 10.0 MiB is not shown here: `claudine logs --raw`]";
    let has_all = |shown: &str| {
        for piece in ["before", note, "after"] {
            assert!(shown.contains(piece), "{piece} in {shown}");
        }
        assert!(shown.len() < 4_000, "{} bytes", shown.len());
    };
    let on_terminal = |arguments: &[&str]| {
        let shown = command::run(host.on_terminal(arguments), b"", PATIENCE).ok();
        shown.text()
    };
    has_all(&on_terminal(&["logs", &id]));
    // Only as much of the line is read as the wanted lines need.
    let end = on_terminal(&["logs", "-n", "3", &id]);
    let (rest, end) = end.split_once('\n').unwrap();
    assert!(rest.contains("[claudine: a line of at least "), "{rest}");
    assert!(end.contains("after") && end.contains("cost "), "{end}");
    let mut client = Client::connect(&host);
    let logs = client.call("TaskLogs", json!({ "taskId": id }));
    has_all(logs["output"].as_str().unwrap());
    let kept = host.json(["checkpoint", &id]);
    let lines = kept["last_lines"].as_str().unwrap();
    assert!(lines.contains("[claudine: a line of "), "{lines}");
    assert!(host.text(["status", &id]).contains("[claudine: a line of "));
    // In a pipe, the line is copied.
    let raw = host.run(["logs", &id]).ok().stdout;
    let lines: Vec<&[u8]> = raw.split_inclusive(|byte| *byte == b'\n').collect();
    let lengths: Vec<usize> = lines.iter().map(|line| line.len()).collect();
    assert_eq!(lines.len(), 5, "{lengths:?}");
    assert!(lengths[2] > 10 << 20, "{lengths:?}");
    for count in [1, 2, 3, 4] {
        let last = host.run(["logs", "-n", &count.to_string(), &id]).ok();
        let expected = lines[5 - count..].concat();
        assert!(last.stdout == expected, "the last {count} lines");
    }
}

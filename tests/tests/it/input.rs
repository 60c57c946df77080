//! An executor that streams its child's input: the whole input arrives, and a child never takes a
//! part of its input for the whole.

use std::{
    fs,
    io::Write,
    process::{Command, Stdio},
    thread,
};

use claudine_tests::{TestHost, process::alive, wait_for};
use serde_json::{Value, json};

/// A task whose child gets this number of bytes as input from the executor; `then` is the
/// executor's next step.
fn feed(host: &TestHost, argv: &[&str], bytes: u64, then: &str) -> String {
    let step = json!({"feed": {"argv": argv, "bytes": bytes, "then": then}});
    let spec = json!({"steps": [step]}).to_string();
    host.text(["delegate", "--executor", "mock", "--spec", &spec])
}

/// A child that reports when it has read a part of its input, and records whether it saw the end.
const READER: [&str; 3] = [
    "sh",
    "-c",
    "head -c 1000000 > part; echo there > there; cat > rest; echo end > end-seen",
];

/// Waits until the child has read the first part of its input.
fn read_a_part(host: &TestHost) {
    wait_for("the child to read", || {
        host.work().join("there").exists().then_some(())
    });
}

fn check_broken_off(host: &TestHost, task: &Value) {
    assert_eq!(
        (&task["outcome"], &task["reason"]["class"], &task["signal"]),
        (&"failed".into(), &"signal".into(), &9.into()),
        "{task:#}"
    );
    let message = task["reason"]["message"].as_str().unwrap();
    assert!(message.contains("its input broke off"), "{task:#}");
    assert_eq!(task["attempts"].as_array().unwrap().len(), 1, "{task:#}");
    assert!(!host.work().join("end-seen").exists());
}

#[test]
fn every_byte_of_the_input_arrives() {
    const BYTES: u64 = 100_000_000;
    let host = TestHost::new();
    let task = host.finished(&feed(&host, &["sha256sum"], BYTES, "finish"));
    assert_eq!(task["outcome"], "succeeded", "{task:#}");
    let mut sum = Command::new("sha256sum")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = sum.stdin.take().unwrap();
    let writer = thread::spawn(move || {
        let turn: Vec<u8> = (0..251).collect();
        let mut left = usize::try_from(BYTES).unwrap();
        while left > 0 {
            let piece = &turn[..left.min(turn.len())];
            input.write_all(piece).unwrap();
            left -= piece.len();
        }
    });
    let expected = String::from_utf8(sum.wait_with_output().unwrap().stdout).unwrap();
    writer.join().unwrap();
    assert_eq!(task["output"], expected.as_str(), "{task:#}");
}

#[test]
fn child_that_exits_before_reading_all_its_input_fails_its_task() {
    let host = TestHost::new();
    let script = "head -c 10 > part; exit 3";
    let task = host.finished(&feed(&host, &["sh", "-c", script], 100_000_000, "finish"));
    assert_eq!(
        (&task["outcome"], &task["exit_code"]),
        (&"failed".into(), &3.into()),
        "{task:#}"
    );
    assert!(
        !task["reason"]["message"].to_string().contains("broke off"),
        "{task:#}"
    );
}

#[test]
fn crash_of_the_guest_kills_a_child_with_unfinished_input() {
    let host = TestHost::new();
    let id = feed(&host, &READER, 2_000_000, "trap");
    check_broken_off(&host, &host.finished(&id));
}

#[test]
fn guest_that_drops_the_input_kills_its_child() {
    let host = TestHost::new();
    let task = host.finished(&feed(&host, &READER, 2_000_000, "drop"));
    assert_eq!(
        (&task["outcome"], &task["signal"]),
        (&"failed".into(), &9.into()),
        "{task:#}"
    );
    assert!(!host.work().join("end-seen").exists());
}

#[test]
fn end_of_the_host_kills_a_child_with_unfinished_input() {
    let check = |go: fn(&TestHost)| {
        let host = TestHost::new();
        let id = feed(&host, &READER, 2_000_000, "keep");
        read_a_part(&host);
        let pid = host.live(&id);
        go(&host);
        wait_for("the child to be killed", || (!alive(pid)).then_some(()));
        assert!(host.host_pid().is_none());
        check_broken_off(&host, &host.finished(&id));
    };
    check(|host| {
        host.kill_host();
    });
    check(|host| {
        host.run(["down"]).check();
    });
}

#[test]
fn task_cancelled_during_its_input_ends_as_cancelled() {
    let host = TestHost::new();
    let id = feed(&host, &READER, 10_000_000_000, "finish");
    read_a_part(&host);
    host.run(["cancel", &id]).check();
    let task = host.finished(&id);
    assert_eq!(task["outcome"], "cancelled", "{task:#}");
    assert!(!host.work().join("end-seen").exists());
    fs::remove_file(host.work().join("rest")).unwrap();
}

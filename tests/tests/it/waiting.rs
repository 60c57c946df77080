//! Waiting commands: their messages, and that a wait survives the end of its host.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    path::Path,
    process::Stdio,
};

use claudine_tests::{
    TestHost,
    command::ends_within,
    process::{self, alive, suspend},
    terminal::Terminal,
    wait::PATIENCE,
    wait_for,
};
use rustix::process::Signal;

const USUAL: (u16, u16) = (80, 24);

#[test]
fn wait_for_several_tasks_shows_each_end_and_why_the_other_tasks_wait() {
    let host = TestHost::new();
    let script = "until test -e go; do sleep 0.1; done";
    host.run(["run", "--name", "b", "--script", script]).check();
    host.live("b");
    let c = [
        "run",
        "--name",
        "c",
        "--depends-on-success",
        "b",
        "--",
        "true",
    ];
    host.run(c).check();
    host.run(["run", "--name", "a", "--", "true"]).check();
    host.finished("a");
    let mut wait = Terminal::start(&host, &["wait", "c", "b", "a"], USUAL);
    wait.shows(&["1/3 done · b running", "c waits for b"]);
    fs::write(host.work().join("go"), "").unwrap();
    assert!(wait.ended().success());
    let screen = wait.screen();
    assert!(
        !screen.contains("done ·"),
        "the line with the progress is still there: {screen}"
    );
    // One line for the end of each task.
    let lines: Vec<&str> = screen
        .lines()
        .filter(|line| line.contains("succeeded"))
        .collect();
    assert_eq!(lines.len(), 3, "{screen}");
    let piped = host.run(["wait", "c", "b", "a"]).ok();
    assert_eq!(piped.text().lines().count(), 3, "{piped}");
    assert_eq!(piped.complaint(), "", "a pipe got more than the results");
}

#[test]
fn wait_for_a_queued_task_tells_why_it_is_queued() {
    let host = TestHost::builder().slots(1).build();
    let first = host.script("sleep 600");
    host.live(&first);
    let mut waits = Terminal::start(&host, &["run", "--wait", "--", "true"], USUAL);
    waits.shows(&["queued", "slots full (1 of 1)"]);
    host.run(["pause"]).check();
    waits.shows(&["queue paused"]);
    host.run(["unpause"]).check();
    host.run(["cancel", &first]).check();
    assert!(waits.ended().success());
}

#[test]
fn wait_goes_on_after_the_end_of_its_host_and_starts_no_host() {
    let host = TestHost::new();
    let id = host.script("until test -e go; do sleep 0.1; done; exit 3");
    host.live(&id);
    let mut wait = Terminal::start(&host, &["wait", &id], USUAL);
    wait.shows(&["0/1 done", "running"]);
    host.run(["down"]).check();
    wait.shows(&["waiting for the next one"]);
    assert!(
        host.host_pid().is_none(),
        "a waiting command started a host"
    );
    host.up();
    fs::write(host.work().join("go"), "").unwrap();
    assert_eq!(wait.ended().code(), Some(3));
}

#[test]
fn run_that_prints_output_tells_that_no_host_is_running() {
    let host = TestHost::new();
    let script = "until test -e go; do sleep 0.1; done; exit 3";
    let mut run = host.command(["run", "--wait", "--name", "n", "--script", script]);
    let mut run = run
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for("the task", || {
        (host.json(["list"])["tasks"][0]["phase"] == "live").then_some(())
    });
    host.run(["down"]).check();
    let mut told = String::new();
    let stderr = run.stderr.take().unwrap();
    BufReader::new(stderr).read_line(&mut told).unwrap();
    assert!(
        told.contains("no host is running; waiting for the next one"),
        "{told}"
    );
    host.up();
    fs::write(host.work().join("go"), "").unwrap();
    assert_eq!(run.wait().unwrap().code(), Some(3));
}

/// Starts commands, each with the text that it shows once its wait has begun, and with its exit
/// code. Returns each with its exit code.
#[track_caller]
fn begun(host: &TestHost, commands: &[(Vec<&str>, &str, i32)]) -> Vec<(Terminal, i32)> {
    let begin = |(words, shown, code): &(Vec<&str>, &str, i32)| {
        let wait = Terminal::start(host, words, USUAL);
        wait.shows(&[*shown]);
        (wait, *code)
    };
    commands.iter().map(begin).collect()
}

#[test]
fn waits_go_on_after_their_host_was_stopped_by_a_signal() {
    let host = TestHost::new();
    let script = "echo begun; until test -e go; do sleep 0.1; done; exit 3";
    for name in ["a", "b"] {
        host.run(["run", "--name", name, "--script", script])
            .check();
        host.live(name);
    }
    let commands = [
        (vec!["wait", "a", "b"], "0/2 done", 3),
        (vec!["run", "--wait", "--script", script], "begun", 3),
        (vec!["graph", "-f", "a"], "a", 0),
    ];
    let waits = begun(&host, &commands);
    let pid = host.host_pid().unwrap();
    suspend(pid);
    let stopped = format!("the host (pid {pid}) is stopped by a signal");
    for (wait, _) in &waits {
        wait.shows(&[&stopped]);
    }
    process::signal(pid, Signal::CONT);
    fs::write(host.work().join("go"), "").unwrap();
    for (mut wait, code) in waits {
        assert_eq!(wait.ended().code(), Some(code), "{}", wait.screen());
        let screen = wait.screen();
        assert_eq!(screen.matches(&stopped).count(), 1, "{screen}");
    }
}

#[test]
fn waits_name_a_supervisor_that_is_stopped_by_a_signal() {
    let host = TestHost::new();
    let script = "echo begun; until test -e go; do sleep 0.1; done; exit 3";
    host.run(["run", "--name", "a", "--script", script]).check();
    host.live("a");
    let supervisor = host.supervisor_pids()[0];
    suspend(supervisor);
    let begin = |words: &[&str]| Terminal::start(&host, words, USUAL);
    let mut waits = [
        (begin(&["wait", "a"]), "a", 3),
        (begin(&["logs", "-f", "a"]), "a", 0),
        (begin(&["graph", "-f", "a"]), "a", 0),
        (
            begin(&["run", "--wait", "--name", "b", "--", "true"]),
            "b",
            0,
        ),
    ];
    for (wait, task, _) in &waits {
        wait.shows(&[&format!(
            "note: {task} cannot end: the supervisor (pid {supervisor})"
        )]);
    }
    process::signal(supervisor, Signal::CONT);
    fs::write(host.work().join("go"), "").unwrap();
    for (wait, _, code) in &mut waits {
        assert_eq!(wait.ended().code(), Some(*code), "{}", wait.screen());
    }
}

#[test]
fn waits_end_although_the_task_ended_under_a_host_that_they_did_not_see() {
    let host = TestHost::new();
    let script = "until test -e go; do sleep 0.1; done; exit 3";
    host.run(["run", "--name", "build", "--script", script])
        .check();
    host.live("build");
    let commands = [
        (vec!["wait", "build"], "0/1 done", 3),
        (vec!["events", "-f", "build"], "attempt 1 started", 0),
        (vec!["graph", "-f", "build"], "build", 0),
    ];
    let waits = begun(&host, &commands);
    host.run(["down"]).check();
    for (wait, _) in &waits[..2] {
        wait.shows(&["waiting for the next one"]);
    }
    for (wait, _) in &waits {
        process::signal(wait.pid(), Signal::STOP);
        wait.is_stopped();
    }
    host.up();
    fs::write(host.work().join("go"), "").unwrap();
    host.finished("build");
    host.run(["down"]).check();
    for (wait, _) in &waits {
        process::signal(wait.pid(), Signal::CONT);
    }
    for (mut wait, code) in waits {
        assert_eq!(wait.ended().code(), Some(code), "{}", wait.screen());
    }
    assert!(
        host.host_pid().is_none(),
        "a waiting command started a host"
    );
}

#[test]
fn waits_end_with_an_error_if_the_database_or_its_directory_is_removed() {
    check_waits_after_the_removal(|data_dir| {
        fs::remove_file(data_dir.join("claudine.db")).unwrap();
    });
    check_waits_after_the_removal(|data_dir| fs::remove_dir_all(data_dir).unwrap());
}

fn check_waits_after_the_removal(remove: impl Fn(&Path)) {
    let host = TestHost::new();
    host.run(["run", "--hold", "--name", "deploy", "--", "true"])
        .check();
    let noisy = [
        "run",
        "--name",
        "noisy",
        "--retries",
        "1",
        "--backoff",
        "30d",
        "--script",
        "echo begun; exit 1",
    ];
    host.run(noisy).check();
    let commands = [
        (vec!["wait", "deploy"], "0/1 done"),
        (vec!["events", "-f", "--since", "0"], "submitted"),
        (vec!["logs", "-f", "noisy"], "begun"),
        (vec!["top"], "deploy"),
    ];
    let mut waits = Vec::new();
    for (words, shown) in &commands {
        let wait = Terminal::start(&host, words, USUAL);
        wait.shows(&[*shown]);
        waits.push(wait);
    }
    host.run(["down"]).check();
    for wait in &waits[..2] {
        wait.shows(&["waiting for the next one"]);
    }
    waits[3].shows(&["no host is running"]);
    wait_for("the end of the supervisors", || {
        host.supervisor_pids().is_empty().then_some(())
    });
    remove(host.data_dir());
    for mut wait in waits {
        assert_eq!(wait.ended().code(), Some(125), "{}", wait.screen());
        wait.shows(&["removed"]);
    }
}

#[test]
fn logs_are_followed_while_the_host_ends_and_another_one_starts() {
    let host = TestHost::new();
    let until = |file: &str| format!("until test -e {file}; do sleep 0.1; done");
    let script = format!("echo 1; {}; echo 2; {}; echo 3", until("go"), until("on"));
    let id = host.script(&script);
    host.live(&id);
    let file = host.root().join("followed");
    let mut follow = host.command(["logs", "-f", &id]);
    follow
        .stdin(Stdio::null())
        .stdout(File::create(&file).unwrap());
    let mut follow = follow.spawn().unwrap();
    let shows = |text: &str| {
        wait_for(&format!("{text:?} in the followed output"), || {
            (fs::read_to_string(&file).unwrap() == text).then_some(())
        });
    };
    shows("1\n");
    host.run(["down"]).check();
    assert!(host.host_pid().is_none());
    fs::write(host.work().join("go"), "").unwrap();
    shows("1\n2\n");
    host.up();
    fs::write(host.work().join("on"), "").unwrap();
    let ended = ends_within(&mut follow, PATIENCE).expect("the command has not ended");
    assert!(ended.success());
    shows("1\n2\n3\n");
}

#[test]
fn drain_shows_its_running_tasks_and_an_interrupt_reports_that_the_drain_continues() {
    let host = TestHost::new();
    let script = "until test -e go; do sleep 0.1; done";
    host.run(["run", "--name", "suite", "--script", script])
        .check();
    host.live("suite");
    let mut drain = Terminal::start(&host, &["down", "--drain"], USUAL);
    drain.shows(&["1 running: suite"]);
    drain.press("\u{3}");
    assert_eq!(drain.ended().code(), Some(130));
    let screen = drain.screen();
    assert!(
        screen.contains("still draining; claudine up lifts the drain"),
        "{screen}"
    );
    host.run(["list"])
        .ok()
        .says(&["host draining (claudine up)"]);
    host.run(["up", "--slots", "2"])
        .ok()
        .says(&["drain lifted"]);
    assert_eq!(host.text(["slots"]), "2");
    let other = host.script("true");
    assert_eq!(host.finished(&other)["outcome"], "succeeded");
    // In a pipe only the result is printed.
    fs::write(host.work().join("go"), "").unwrap();
    let drained = host.run(["down", "--drain"]).ok();
    assert!(drained.complaint().ends_with("host ended\n"), "{drained}");
}

#[test]
fn ctrl_c_ends_the_wait_and_not_the_task() {
    let host = TestHost::new();
    let id = host.script("sleep 600");
    let pid = host.live(&id);
    let mut wait = Terminal::start(&host, &["wait", &id], USUAL);
    wait.shows(&["0/1 done"]);
    wait.press("\u{3}");
    assert_eq!(wait.ended().code(), Some(130));
    assert!(alive(pid), "the task was ended");
}

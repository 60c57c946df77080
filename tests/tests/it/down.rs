//! `down`, with each of its options.

use std::{env, fs, os::unix::fs::PermissionsExt, process::Stdio};

use claudine_tests::{TestHost, process::alive, wait_for};

/// Notes that it has begun, and then waits for the file `go`.
pub(super) const WAITING_SCRIPT: &str =
    "echo begun >> runs; until test -e go; do sleep 0.1; done; echo through";

/// Lets the task with [`WAITING_SCRIPT`] end, and checks that its script has run once.
#[track_caller]
pub(super) fn ends_after_one_run(host: &TestHost, id: &str) {
    fs::write(host.work().join("go"), "").unwrap();
    let task = host.finished(id);
    assert_eq!(
        (&task["outcome"], &task["output"]),
        (&"succeeded".into(), &"through\n".into())
    );
    assert_eq!(
        fs::read_to_string(host.work().join("runs")).unwrap(),
        "begun\n"
    );
}

#[test]
fn down_leaves_tasks_running() {
    let host = TestHost::new();
    let id = host.script(WAITING_SCRIPT);
    let pid = host.live(&id);
    let before = host.host_pid().unwrap();
    host.run(["down"]).check();
    assert!(!alive(before) && alive(pid));
    // The next command starts a host, which takes over the task.
    assert_eq!(host.live(&id), pid);
    ends_after_one_run(&host, &id);
}

#[test]
fn outcome_of_a_task_that_ends_while_no_host_runs_is_recorded() {
    let host = TestHost::new();
    let id = host.script("until test -e go; do sleep 0.1; done; echo through; exit 9");
    let pid = host.live(&id);
    host.run(["down"]).check();
    fs::write(host.work().join("go"), "").unwrap();
    wait_for("the task's end", || (!alive(pid)).then_some(()));
    assert!(host.host_pid().is_none());
    let task = host.finished(&id);
    assert_eq!(
        (&task["exit_code"], &task["output"]),
        (&9.into(), &"through\n".into())
    );
}

#[test]
fn time_limit_is_enforced_without_a_host() {
    let host = TestHost::new();
    let id = host.text([
        "run",
        "--timeout",
        "2s",
        "--script",
        "trap '' TERM INT; sleep 600",
    ]);
    let pid = host.live(&id);
    host.kill_host();
    wait_for("the task's end", || (!alive(pid)).then_some(()));
    assert!(host.host_pid().is_none());
    assert_eq!(host.finished(&id)["outcome"], "timed_out");
}

#[test]
fn drain_waits_for_running_tasks_and_starts_no_further_task() {
    let host = TestHost::builder().slots(1).build();
    let first = host.script("until test -e go; do sleep 0.1; done");
    host.live(&first);
    let second = host.script("echo ran >> second");
    let mut drain = host
        .command(["down", "--drain"])
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    wait_for("the host to refuse new tasks", || {
        (!host.run(["run", "--", "true"]).status.success()).then_some(())
    });
    assert!(drain.try_wait().unwrap().is_none(), "the drain has ended");
    assert!(!host.work().join("second").exists());
    fs::write(host.work().join("go"), "").unwrap();
    assert!(drain.wait().unwrap().success());
    assert!(host.host_pid().is_none());
    assert!(!host.work().join("second").exists());
    // A new host goes on with the queued tasks.
    assert_eq!(host.finished(&second)["outcome"], "succeeded");
    assert_eq!(host.finished(&first)["outcome"], "succeeded");
}

/// Starts `down` with this option, and kills the command once the host drains. The host goes on
/// draining.
fn begin_and_leave(host: &TestHost, way: &str) {
    let mut down = host.command(["down", way]);
    let mut down = down.stdin(Stdio::null()).spawn().unwrap();
    wait_for("the host to drain", || {
        (!host.run(["run", "--", "true"]).status.success()).then_some(())
    });
    down.kill().unwrap();
    down.wait().unwrap();
}

#[test]
fn drain_outlives_its_command_and_can_be_joined_or_lifted() {
    let host = TestHost::builder().slots(1).build();
    let first = host.script("until test -e go; do sleep 0.1; done");
    host.live(&first);
    let second = host.script("until test -e go2; do sleep 0.1; done");
    begin_and_leave(&host, "--drain");
    host.run(["run", "--", "true"])
        .code(125)
        .says(&["draining", "claudine up"]);
    let before = host.host_pid();
    host.run(["up"]).ok().says(&["drain lifted"]);
    assert_eq!(host.host_pid(), before);
    fs::write(host.work().join("go"), "").unwrap();
    // After the drain is lifted, the host starts the waiting task.
    host.live(&second);

    begin_and_leave(&host, "--drain");
    let mut joined = host.command(["down", "--drain"]);
    let mut joined = joined.stdin(Stdio::null()).spawn().unwrap();
    fs::write(host.work().join("go2"), "").unwrap();
    assert!(joined.wait().unwrap().success());
    assert!(host.host_pid().is_none());
    assert_eq!(host.finished(&second)["outcome"], "succeeded");
}

#[test]
fn drain_completes_without_a_client() {
    let host = TestHost::new();
    let id = host.script("until test -e go; do sleep 0.1; done");
    host.live(&id);
    let pid = host.host_pid().unwrap();
    begin_and_leave(&host, "--drain");
    fs::write(host.work().join("go"), "").unwrap();
    wait_for("the host to end", || (!alive(pid)).then_some(()));
    assert_eq!(host.finished(&id)["outcome"], "succeeded");
}

/// If a person drains the host before shutting down the machine, the command must not report
/// success while a task still runs.
#[test]
fn drain_that_ends_while_a_task_still_runs_fails() {
    let host = TestHost::new();
    let id = host.text(["run", "--name", "suite", "--", "sleep", "600"]);
    let pid = host.live(&id);
    let drained = |end: &dyn Fn()| {
        let mut drain = host.command(["down", "--drain"]);
        let drain = drain.stdin(Stdio::null()).stderr(Stdio::piped());
        let drain = drain.spawn().unwrap();
        wait_for("the host to drain", || {
            (!host.run(["run", "--", "true"]).status.success()).then_some(())
        });
        end();
        let drained = drain.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&drained.stderr).into_owned();
        assert_eq!(drained.status.code(), Some(125), "{said}");
        assert!(said.contains("1 task left running"), "{said}");
        assert!(said.contains("claudine down --drain"), "{said}");
        assert!(alive(pid));
        host.up();
    };
    drained(&|| host.run(["down"]).check());
    drained(&|| assert!(host.kill_host() > 0));
    host.run(["down", "--kill"]).check();
    assert!(!alive(pid));
}

#[test]
fn down_kill_stops_running_tasks() {
    let host = TestHost::new();
    let id = host.script("exec sleep 600");
    let pid = host.live(&id);
    host.run(["down", "--kill"]).check();
    assert!(host.host_pid().is_none() && !alive(pid));
    assert_eq!(host.finished(&id)["outcome"], "cancelled");
}

#[test]
fn down_starts_no_host_if_no_host_runs() {
    let host = TestHost::new();
    host.run(["down"]).check();
    assert!(host.processes().is_empty());
}

/// A supervisor stays for a moment after the end of its last task.
#[test]
fn second_down_mentions_no_tasks_if_all_have_ended() {
    let host = TestHost::new();
    host.run(["run", "--wait", "--", "true"]).check();
    host.run(["down"]).check();
    let again = host.run(["down"]).ok();
    assert_eq!(again.complaint(), "no host is running\n");
}

/// A probe of an executor is not a task, but its leftover processes must be ended too.
#[test]
fn commands_run_by_the_host_itself_do_not_outlive_the_host() {
    let bin = tempfile::tempdir().unwrap();
    let (claude, told) = (bin.path().join("claude"), bin.path().join("pid"));
    let script = format!(
        "#!/bin/sh\n\
         setsid env -i sleep 1000 > /dev/null 2>&1 &\n\
         until grep -qx sleep /proc/$!/comm; do :; done\n\
         echo $! > {}\n\
         echo 2.1.0\n",
        told.display()
    );
    fs::write(&claude, script).unwrap();
    fs::set_permissions(&claude, fs::Permissions::from_mode(0o755)).unwrap();
    let path = env::var("PATH").unwrap();
    let path = format!("{}:{path}", bin.path().display());
    let host = TestHost::builder().env("PATH", path).build();
    let probed = || -> u32 {
        host.up();
        // The exit code is not checked, because `doctor` reports this version of the agent as
        // faulty.
        host.run(["doctor"]);
        let pid = fs::read_to_string(&told).unwrap().trim().parse().unwrap();
        assert!(alive(pid));
        pid
    };
    let pid = probed();
    host.run(["down"]).check();
    wait_for("the leftover to end", || (!alive(pid)).then_some(()));
    let pid = probed();
    host.kill_host();
    assert!(alive(pid));
    host.up();
    wait_for("the leftover to end", || (!alive(pid)).then_some(()));
}

#[test]
fn down_kill_without_a_host_ends_processes_of_earlier_hosts() {
    let host = TestHost::new();
    let ids = ["suite", "ren"].map(|name| {
        let id = host.text(["run", "--name", name, "--", "sleep", "600"]);
        (host.live(&id), id)
    });
    let waits = host.text([
        "run",
        "--depends-on",
        "suite",
        "--script",
        "echo ran >> ran",
    ]);
    host.run(["down"]).check();
    host.run(["down"])
        .ok()
        .says(&["no host is running", "claudine down --kill"]);
    host.up();
    host.kill_host();
    let ended = host.run(["down", "--kill"]).ok();
    ended.says(&["cancelled ", "suite", "ren"]);
    assert!(ids.iter().all(|(pid, _)| !alive(*pid)));
    assert!(host.processes().is_empty(), "a host is still running");
    for (_, id) in &ids {
        assert_eq!(host.status(id)["outcome"], "cancelled");
    }
    assert!(
        !host.work().join("ran").exists(),
        "the waiting task was started"
    );
    assert_eq!(host.json(["down", "--kill"])["was_running"], false);
    host.run(["cancel", &waits]);
}

#[test]
fn drain_without_a_host_waits_for_processes_of_earlier_hosts() {
    let host = TestHost::builder().slots(1).build();
    let id = host.text([
        "run",
        "--name",
        "suite",
        "--script",
        "until test -e go; do sleep 0.1; done",
    ]);
    host.live(&id);
    let waits = host.script("echo ran >> ran");
    host.run(["down"]).check();
    let mut drain = host.command(["down", "--drain"]);
    let mut drain = drain.stdin(Stdio::null()).spawn().unwrap();
    wait_for("a host to drain", || host.host_pid());
    fs::write(host.work().join("go"), "").unwrap();
    assert!(drain.wait().unwrap().success());
    assert!(host.host_pid().is_none());
    assert_eq!(host.status(&id)["outcome"], "succeeded");
    assert_eq!(host.status(&waits)["state"], "ready");
    assert!(!host.work().join("ran").exists());
}

//! If a part of a host fails, the host reports it, and everything that does not need this part goes
//! on.

use std::{
    fs,
    os::unix::fs::symlink,
    process::Stdio,
    time::{Duration, Instant},
};

use claudine_tests::{
    TestHost, command,
    harness::binary,
    process::{alive, kill_9, signal, suspend},
    short_id,
    wait::PATIENCE,
    wait_for,
};
use rustix::process::Signal;
use serde_json::json;

/// Takes over the data directory, as a second host would do it.
fn take_over(host: &TestHost) {
    let script = "import sqlite3, sys; db = sqlite3.connect(sys.argv[1]); \
                  db.execute('update leader set epoch = epoch + 1'); db.commit(); db.close()";
    let mut python = host.other("python3");
    python.args(["-c", script]);
    python.arg(host.data_dir().join("claudine.db"));
    command::run(python, b"", PATIENCE).check();
}

#[test]
fn host_ends_with_a_reason_if_its_engine_ends_and_the_next_host_goes_on() {
    let host = TestHost::new();
    let mut serve = host.command(["serve"]);
    serve.stdin(Stdio::null()).stdout(Stdio::null());
    let mut serve = serve.stderr(Stdio::piped()).spawn().unwrap();
    wait_for("the host to answer", || {
        (host.host_pid() == Some(serve.id())).then_some(())
    });
    let id = host.script("until test -e go; do sleep 0.1; done; echo through");
    let pid = host.live(&id);
    take_over(&host);
    // The next write fails.
    let refused = host.run(["run", "--", "true"]);
    assert!(!refused.status.success(), "{refused}");
    let status = command::ends_within(&mut serve, PATIENCE).expect("the host does not end");
    assert_eq!(status.code(), Some(125));
    let mut said = String::new();
    std::io::Read::read_to_string(&mut serve.stderr.take().unwrap(), &mut said).unwrap();
    assert!(said.contains("another host has taken over"), "{said}");
    assert!(alive(pid), "the running task was ended");

    assert_eq!(host.live(&id), pid, "the next host lost the task");
    fs::write(host.work().join("go"), "").unwrap();
    assert_eq!(host.finished(&id)["output"], "through\n");
}

#[test]
fn host_in_the_background_logs_why_it_ended() {
    let host = TestHost::new();
    let pid = host.up()["pid"].as_u64().unwrap();
    take_over(&host);
    host.run(["run", "--", "true"]);
    wait_for("the host to end", || {
        (!alive(u32::try_from(pid).unwrap())).then_some(())
    });
    let log = fs::read_to_string(host.data_dir().join("host.log")).unwrap();
    assert!(log.contains("the engine has ended"), "{log}");
    assert_eq!(host.finished(&host.script("true"))["outcome"], "succeeded");
}

#[test]
fn host_whose_socket_was_removed_is_reached_again() {
    let host = TestHost::new();
    let pid = host.up()["pid"].as_u64();
    for _ in 0..2 {
        fs::remove_file(host.data_dir().join("host.sock")).unwrap();
        host.run(["list"]).check();
    }
    assert_eq!(host.up()["pid"].as_u64(), pid);
    fs::remove_file(host.data_dir().join("host.sock")).unwrap();
    host.run(["down"]).check();
    assert!(host.host_pid().is_none());
}

#[test]
fn unreachable_host_is_found_by_its_lock_and_ended() {
    let host = TestHost::new();
    host.up();
    let pid = host.host_pid().unwrap();
    let id = host.script("exec sleep 600");
    let task = host.live(&id);
    // The host cannot replace a directory in the socket's place.
    let socket = host.data_dir().join("host.sock");
    fs::rename(&socket, host.data_dir().join("old.sock")).unwrap();
    // The host may be quicker, and bind a new socket before the directory is made.
    wait_for("a directory in the socket's place", || {
        fs::remove_file(&socket).ok();
        fs::create_dir(&socket).ok()
    });
    fs::write(socket.join("in-the-way"), "").unwrap();
    host.run(["down", "--drain"])
        .code(125)
        .says(&["no socket", "claudine down"]);
    host.run(["down"]).ok().says(&["its socket did not answer"]);
    assert!(!alive(pid) && alive(task));
    fs::remove_dir_all(&socket).unwrap();
    assert_eq!(host.live(&id), task);
}

#[test]
fn host_starts_although_a_supervisor_does_not_answer() {
    let host = TestHost::new();
    let id = host.script("until test -e go; do sleep 0.1; done; echo through");
    host.live(&id);
    let supervisor = host.supervisor_pids()[0];
    suspend(supervisor);
    // The supervisor cannot note that it has this task.
    let unnoted = host.script("true");
    wait_for("the second task to be starting", || {
        (host.status(&unnoted)["phase"] == "starting").then_some(())
    });
    host.kill_host();
    // A file is not a supervisor's directory, even if its name is a number.
    fs::write(host.data_dir().join("supervisors/7"), "").unwrap();
    let begun = Instant::now();
    let other = host.run(["run", "--wait", "--", "echo", "on"]);
    let took = begun.elapsed();
    let doctor = host.run(["doctor"]);
    let why = host.status(&id);
    let explained = [&id, &unnoted].map(|id| host.text(["why", id]));
    signal(supervisor, Signal::CONT);
    assert_eq!(other.ok().text(), "on");
    assert!(took < Duration::from_secs(30), "{took:?}");
    let doctor = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(doctor.contains("cannot be reached"), "{doctor}");
    assert_eq!(why["state"], "running", "{why:#}");
    for explained in explained {
        assert!(explained.contains("cannot be reached"), "{explained}");
        assert!(!explained.contains("can be written"), "{explained}");
    }
    // Once the supervisor continues, its attempt continues too.
    fs::write(host.work().join("go"), "").unwrap();
    assert_eq!(host.finished(&id)["output"], "through\n");
    assert_eq!(host.status(&id)["attempts"].as_array().unwrap().len(), 1);
    assert_eq!(host.finished(&unnoted)["outcome"], "succeeded");
}

#[test]
fn copy_of_a_data_directory_is_refused_while_the_original_tasks_run() {
    let host = TestHost::new();
    let id = host.script("until test -e go; do sleep 0.1; done; echo through");
    let task = host.live(&id);
    let original = host.host_pid();
    let place = host.root().join("copy");
    let mut copying = host.other("cp");
    copying.arg("-a").args([host.data_dir(), &place]);
    command::run(copying, b"", PATIENCE).check();
    let copy = TestHost::builder().data_dir(&place).build();
    // The copied record of a host names the original's host, which `down` must not end.
    copy.run(["down"]).check();
    for command in [vec!["wait", &id], vec!["down", "--kill"]] {
        let refused = copy.run(command).code(125);
        let copied = format!("is a copy of {}", host.data_dir().display());
        refused.says(&[&copied, "down --drain", "claudine backup"]);
    }
    assert_eq!(host.host_pid(), original);
    assert!(alive(task), "the original's task was ended");
    fs::write(host.work().join("go"), "").unwrap();
    assert_eq!(host.finished(&id)["output"], "through\n");
    // Without a supervisor of the original, the copy is an ordinary data directory.
    host.run(["down", "--drain"]).check();
    assert_eq!(copy.finished(&id)["outcome"], "lost");
}

#[test]
fn commands_report_a_suspended_host_and_how_to_continue_it() {
    let host = TestHost::new();
    host.up();
    let pid = host.host_pid().unwrap();
    suspend(pid);
    let begun = Instant::now();
    let doctor = host.run(["doctor"]);
    let others = [["down"], ["events"]].map(|command| host.run(command));
    let change = host.run(["slots", "3"]);
    let took = begun.elapsed();
    signal(pid, Signal::CONT);
    // Nobody knows whether the host gets to a request whose client has gone.
    let unknown = format!("`kill -CONT {pid}` continues the host, which may or may not");
    change
        .code(125)
        .says(&[&unknown, "`claudine capacity` before repeating it"]);
    for other in others {
        let said = other.code(125).complaint();
        assert!(said.contains(&format!("`kill -CONT {pid}`")), "{said}");
    }
    let found = doctor.code(1).text();
    assert!(found.contains("is stopped by a signal"), "{found}");
    assert!(took < Duration::from_secs(40), "{took:?}");
    host.run(["list"]).check();
}

#[test]
fn suspended_supervisor_is_named_with_the_command_that_continues_it() {
    let host = TestHost::new();
    let id = host.script("exec sleep 600");
    let task = host.live(&id);
    let supervisor = host.supervisor_pids()[0];
    suspend(supervisor);
    let named = format!("`kill -CONT {supervisor}` continues it");
    let why = host.text(["why", &id]);
    let doing = host.status(&id)["doing"].to_string();
    host.run(["cancel", &id]).check();
    let again = host.run(["cancel", &id]);
    let doctor = host.run(["doctor"]).code(1).text();
    // Neither command waits for the tasks. If it did, it would exceed the time limit that this test
    // sets for each command.
    let downs = [["down", "--kill"], ["down", "--drain"]].map(|down| host.run(down));
    host.kill_host();
    let why_without_host = host.text(["why", &id]);
    let down_without_host = host.run(["down", "--kill"]);
    let is_hostless = host.host_pid().is_none();
    signal(supervisor, Signal::CONT);
    for told in [why, doing, why_without_host, doctor] {
        assert!(told.contains(&named), "{told}");
    }
    again.ok().says(&["is already stopping", &named]);
    for down in downs {
        down.code(125).says(&[&named]);
    }
    down_without_host.code(125).says(&[&named]);
    assert!(is_hostless);
    host.run(["down", "--kill"]).check();
    assert!(!alive(task));
    assert_eq!(host.status(&id)["outcome"], "cancelled");
}

#[test]
fn task_that_has_ended_below_a_suspended_supervisor_is_not_shown_as_running() {
    let host = TestHost::new();
    let id = host.text(["run", "--group", "g", "--", "sleep", "600"]);
    let id = id.as_str();
    let process = host.live(id);
    let other = host.script("exec sleep 600");
    host.live(&other);
    let supervisor = host.supervisor_pids()[0];
    suspend(supervisor);
    let before = host.status(id);
    kill_9(process);
    wait_for("the process's end", || (!alive(process)).then_some(()));
    let found = |state: &str| {
        let listed = host.json(["list", "--state", state]);
        let tasks = listed["tasks"].as_array().unwrap().iter();
        let ids = tasks.filter_map(|task| task["id"].as_str().map(str::to_owned));
        ids.collect::<Vec<_>>()
    };
    let phases = ["ended", "live"].map(found);
    let shown = host.status(id);
    let list = host.run(["list"]);
    let why = host.text(["why", id]);
    let graph = host.text(["graph", id]);
    let groups = host.json(["group", "list"]);
    let is_running = host.host_pid().is_some();
    signal(supervisor, Signal::CONT);
    assert!(is_running, "the host has ended");
    assert_eq!(before["phase"], "live");
    assert_eq!(phases, [vec![id.to_owned()], vec![other.clone()]]);
    assert_eq!(shown["phase"], "ended");
    assert_eq!(shown["attempts"][0]["pid"], serde_json::Value::Null);
    let named = format!("`kill -CONT {supervisor}` continues it");
    assert!(shown["doing"].to_string().contains(&named), "{shown:#}");
    list.says(&["1 running · 2 in all"]);
    let list = list.text();
    let row = list.lines().find(|line| line.contains(short_id(id)));
    assert!(row.is_some_and(|row| row.contains("○ ended")), "{list}");
    for told in [&why, &graph] {
        let words = told.replace("0 running", "");
        let is_right = !words.contains("running") && words.contains("ended");
        assert!(is_right, "{told}");
    }
    assert!(why.contains(&named), "{why}");
    assert_eq!(groups[0]["running"], 0, "{groups:#}");
    assert_eq!(host.finished(id)["outcome"], "failed");
    assert_eq!(host.status(&other)["phase"], "live");
}

/// The host orders a stop when the hard limit has passed, and the supervisor enforces both limits.
#[test]
fn task_that_ends_below_a_suspended_supervisor_within_its_time_limit_has_not_timed_out() {
    const LIMIT: Duration = Duration::from_secs(10);
    let host = TestHost::new();
    let kinds = [
        ("--timeout", 0, "succeeded"),
        ("--idle-timeout", 0, "succeeded"),
        ("--timeout", 7, "failed"),
        ("--idle-timeout", 7, "failed"),
    ];
    let limited = kinds.map(|(limit, code, _)| {
        let script = format!("until test -e go; do sleep 0.05; done; exit {code}");
        host.text(["run", limit, "10s", "--script", &script])
    });
    let processes = limited.each_ref().map(|id| host.live(id));
    let begun = Instant::now();
    let supervisor = host.supervisor_pids()[0];
    suspend(supervisor);
    fs::write(host.work().join("go"), "").unwrap();
    for process in processes {
        wait_for("the process's end", || (!alive(process)).then_some(()));
    }
    wait_for("the limits to pass", || {
        (begun.elapsed() > LIMIT).then_some(())
    });
    signal(supervisor, Signal::CONT);
    for (id, (limit, code, outcome)) in limited.iter().zip(kinds) {
        let end = host.finished(id);
        assert_eq!(end["outcome"], outcome, "{limit} {code}: {end:#}");
    }
}

/// The sign of life is read only after the host was continued, when the limit has passed.
#[test]
fn task_that_gives_a_sign_of_life_while_the_host_is_suspended_has_not_timed_out() {
    const LIMIT: Duration = Duration::from_secs(10);
    let host = TestHost::new();
    let script = "until test -e go; do sleep 0.02; done; echo alive; exec sleep 600";
    let id = host.text(["run", "--start-timeout", "10s", "--script", script]);
    wait_for("the process", || {
        host.status(&id)["attempts"][0]["pid"].as_u64()
    });
    let begun = Instant::now();
    let pid = host.host_pid().unwrap();
    suspend(pid);
    fs::write(host.work().join("go"), "").unwrap();
    wait_for("the limit to pass", || {
        (begun.elapsed() > LIMIT + Duration::from_secs(1)).then_some(())
    });
    signal(pid, Signal::CONT);
    host.live(&id);
    host.run(["cancel", &id]).check();
    assert_eq!(host.finished(&id)["outcome"], "cancelled");
}

/// The executor, which alone can tell how the task ended, is not given up meanwhile.
#[test]
fn task_that_ends_below_a_suspended_supervisor_keeps_its_outcome_however_late_its_stop_is_obeyed() {
    // Longer than an executor has to end after a stop.
    const LATER: Duration = Duration::from_secs(12);
    let host = TestHost::new();
    let kinds = [
        (&["--retries", "1"][..], 0, "succeeded"),
        (&["--timeout", "12s", "--retries", "1"][..], 0, "succeeded"),
        (&["--timeout", "12s"][..], 7, "failed"),
        (&["--retries", "0"][..], 7, "cancelled"),
    ];
    let ids = kinds.map(|(options, code, _)| {
        let script = format!("until test -e go; do sleep 0.05; done; exit {code}");
        let options = options.iter().copied();
        host.text(
            ["run"]
                .into_iter()
                .chain(options)
                .chain(["--script", &script]),
        )
    });
    let processes = ids.each_ref().map(|id| host.live(id));
    let supervisor = host.supervisor_pids()[0];
    suspend(supervisor);
    fs::write(host.work().join("go"), "").unwrap();
    for process in processes {
        wait_for("the process's end", || (!alive(process)).then_some(()));
    }
    for (id, (options, ..)) in ids.iter().zip(kinds) {
        if !options.contains(&"--timeout") {
            host.run(["cancel", id]).check();
        }
    }
    for id in &ids {
        wait_for("the stop", || {
            // The task is shown as ended, whether it is to be stopped or not.
            let events = host.text(["events", id]);
            events.contains("is being stopped").then_some(())
        });
    }
    let stopped = Instant::now();
    wait_for("an executor to be given up", || {
        (stopped.elapsed() > LATER).then_some(())
    });
    signal(supervisor, Signal::CONT);
    for (id, (options, code, outcome)) in ids.iter().zip(kinds) {
        let end = host.finished(id);
        assert_eq!(end["outcome"], outcome, "{options:?} {code}: {end:#}");
        let attempts = end["attempts"].as_array().map(Vec::len);
        assert_eq!(attempts, Some(1), "{options:?} {code}: {end:#}");
    }
}

/// The supervisor is as silent in a frozen control group. New tasks get another supervisor once the
/// host has noticed the silence.
#[test]
fn stop_that_a_suspended_supervisor_does_not_confirm_is_told_and_others_are_obeyed() {
    let host = TestHost::new();
    let silent = host.script("exec sleep 600");
    let its_process = host.live(&silent);
    let supervisor = host.supervisor_pids()[0];
    suspend(supervisor);
    host.run(["cancel", &silent]).check();
    let named = format!("(pid {supervisor}) does not answer");
    let halted = wait_for("the host to miss the confirmation", || {
        let found = host.ask("/v1/host", ["up"]);
        let warnings = found["warnings"].to_string();
        let halted = found["halted_supervisors"][0].clone();
        warnings.contains(&named).then_some(halted)
    });
    let doctor = host.run(["doctor", "--json"]).code(1).text();
    let why = host.json(["why", &silent]);
    let other = host.script("exec sleep 600");
    let other_process = host.live(&other);
    host.run(["cancel", &other]).check();
    assert_eq!(host.finished(&other)["outcome"], "cancelled");
    assert!(!alive(other_process) && alive(its_process));
    assert_eq!(host.status(&silent)["state"], "running");
    let down = host.run(["down", "--kill"]).code(125);
    signal(supervisor, Signal::CONT);
    assert!(doctor.contains(&named), "{doctor}");
    assert_eq!(halted["kind"], "unanswered", "{halted}");
    assert_eq!(halted["pid"], supervisor, "{halted}");
    // A suspended supervisor is named as such.
    let way_out = format!("`kill -CONT {supervisor}` continues it");
    assert!(why["halted"].to_string().contains(&way_out), "{why:#}");
    down.says(&[&way_out]);
    wait_for("the host to end as it was asked to", || {
        host.host_pid().is_none().then_some(())
    });
    assert!(!alive(its_process));
    wait_for("every process of the host to end", || {
        host.processes().is_empty().then_some(())
    });
    assert_eq!(host.status(&silent)["outcome"], "cancelled");
}

#[test]
fn suspended_host_that_has_lost_its_lock_is_reported_with_its_pid() {
    let host = TestHost::new();
    host.up();
    let pid = host.host_pid().unwrap();
    suspend(pid);
    fs::remove_file(host.data_dir().join("lock")).unwrap();
    let listed = host.run(["list"]);
    signal(pid, Signal::CONT);
    let stopped = format!("the host (pid {pid}) is stopped by a signal");
    listed.code(125).says(&[&stopped]);
    // Another host may use the directory by now, so this one ends.
    wait_for("the host without a lock to end", || {
        (!alive(pid)).then_some(())
    });
}

#[test]
fn fifo_in_place_of_a_lock_is_named_and_keeps_no_command_waiting() {
    let host = TestHost::new();
    for lock in ["lock", "start.lock"] {
        // The file of an earlier command may be there.
        fs::remove_file(host.data_dir().join(lock)).ok();
        let mut make = host.other("mkfifo");
        make.arg(host.data_dir().join(lock));
        command::run(make, b"", PATIENCE).check();
        host.run(["up"]).code(125).says(&["a FIFO"]);
        fs::remove_file(host.data_dir().join(lock)).unwrap();
    }
    host.up();
}

#[test]
fn link_in_place_of_a_lock_is_named_and_its_target_is_not_made() {
    let host = TestHost::new();
    host.up();
    host.run(["down"]).check();
    let target = host.work().join("nowhere");
    for lock in ["lock", "start.lock"] {
        let path = host.data_dir().join(lock);
        fs::remove_file(&path).unwrap();
        symlink(&target, &path).unwrap();
        let said = format!("/{lock}: it is no regular file, but a symbolic link; move it away");
        host.run(["up"]).code(125).says(&[&said]);
        assert!(!target.exists());
        fs::remove_file(&path).unwrap();
    }
    host.up();
}

#[test]
fn down_kill_ends_tasks_although_a_directory_is_in_place_of_a_lock() {
    for lock in ["lock", "start.lock"] {
        let host = TestHost::new();
        let id = host.script("exec sleep 600");
        let task = host.live(&id);
        host.kill_host();
        let path = host.data_dir().join(lock);
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        let file = format!("/{lock}: it is no regular file");
        let refused = host.run(["up"]).code(125);
        refused.says(&[&file, "`claudine down --kill` ends running tasks"]);
        assert!(alive(task));
        let ended = host.run(["down", "--kill"]).ok();
        ended.says(&[&format!("ended {}", short_id(&id)), &file, "move it away"]);
        assert!(!alive(task));
        fs::remove_dir(&path).unwrap();
        assert_eq!(host.finished(&id)["outcome"], "cancelled");
    }
}

/// Nobody has cancelled the task.
#[test]
fn task_whose_supervisor_is_ended_by_a_signal_is_lost_with_that_reason() {
    let host = TestHost::new();
    let id = host.script("exec sleep 600");
    host.live(&id);
    signal(host.supervisor_pids()[0], Signal::TERM);
    let task = host.finished(&id);
    assert_eq!(task["outcome"], "lost", "{task:#}");
    let message = task["reason"]["message"].as_str().unwrap();
    assert!(message.contains("ended by a signal (SIGTERM)"), "{task:#}");
    let log = fs::read_to_string(host.data_dir().join("host.log")).unwrap();
    assert!(log.contains("ended by a signal (SIGTERM)"), "{log}");
}

/// A supervisor makes its socket again if it was removed. The test puts a directory in its place,
/// which the supervisor cannot remove.
#[test]
fn supervisor_that_cannot_be_reached_is_named_by_a_down_that_waits_for_its_tasks() {
    let host = TestHost::new();
    let task = host.live(&host.script("exec sleep 600"));
    let supervisor = host.supervisor_pids()[0];
    host.kill_host();
    let own = host.data_dir().join("supervisors/1");
    fs::remove_file(own.join("identity.json")).unwrap();
    wait_for("the place of the socket", || {
        fs::remove_file(own.join("sock")).ok();
        fs::create_dir(own.join("sock")).ok()
    });
    fs::write(own.join("sock/file"), "").unwrap();
    let told = host.run(["down", "--kill"]).code(125);
    told.says(&[
        &format!("(pid {supervisor}) cannot be reached"),
        "`kill` with the supervisor's pid ends it and its tasks",
    ]);
    assert!(alive(task));
    signal(supervisor, Signal::TERM);
    wait_for("the host to end as it was asked to", || {
        host.host_pid().is_none().then_some(())
    });
    assert!(!alive(task));
}

#[test]
fn why_answers_although_the_notes_of_a_supervisor_cannot_be_read() {
    let host = TestHost::new();
    let id = host.script("exec sleep 600");
    host.live(&id);
    let other = host.data_dir().join("supervisors/99");
    fs::create_dir_all(other.join("identity.json")).unwrap();
    // The lock cannot be examined, so this supervisor may live.
    symlink("lock", other.join("lock")).unwrap();
    let why = host.text(["why", &id]);
    host.kill_host();
    let why_without_host = host.text(["why", &id]);
    fs::remove_dir_all(&other).unwrap();
    for told in [why, why_without_host] {
        assert!(told.contains("is running"), "{told}");
    }
}

/// The exit code of a panic would look like that of a task.
#[test]
fn command_that_may_open_too_few_files_ends_with_an_error_of_claudine() {
    let host = TestHost::new();
    let id = host.script("exit 3");
    host.finished(&id);
    let mut refused = 0;
    // With fewer, the program itself cannot be loaded.
    for limit in 4..20 {
        let mut wait = host.other("sh");
        let script = format!("ulimit -n {limit}; exec \"$0\" wait \"$1\"");
        wait.args(["-c", &script]).arg(binary()).arg(&id);
        let ended = command::run(wait, b"", PATIENCE);
        if ended.status.code() != Some(3) {
            let said = ended.code(125).complaint();
            assert!(said.contains("error: "), "{limit}: {said}");
            refused += 1;
        }
    }
    assert!(refused > 0, "each of these limits is enough");
}

/// Each task needs three descriptors of the supervisor: two pipes and a log.
#[test]
fn task_without_free_descriptors_waits_instead_of_failing() {
    let host = TestHost::builder().slots(60).build();
    let mut up = host.other("sh");
    up.args(["-c", "ulimit -n 128; exec \"$0\" up"])
        .arg(binary());
    command::run(up, b"", PATIENCE).check();
    let task = json!({"script": "echo up; until test -e go; do sleep 1; done"});
    let tasks = json!(vec![task; 60]).to_string();
    let ids = host.run_with(["submit", "-"], tasks.as_bytes()).ok().text();
    let ids: Vec<&str> = ids.lines().collect();
    wait_for("a task to wait for descriptors", || {
        let listed = host.json(["list"]);
        let mut tasks = listed["tasks"].as_array()?.iter();
        tasks.any(|task| task["state"] == "waiting").then_some(())
    });
    fs::write(host.work().join("go"), "").unwrap();
    host.run(["wait"].iter().chain(&ids)).check();
    for id in [ids[0], ids[59]] {
        assert_eq!(host.text(["logs", id]), "up");
    }
}

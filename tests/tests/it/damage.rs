//! Data directories that are damaged, full, of a newer version, or of another user.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
};

use claudine_tests::{
    TestHost, command,
    git::with_repository,
    process::{alive, signal, suspend},
    short_id,
    wait::PATIENCE,
    wait_for,
};
use rustix::process::{Signal, geteuid};

use crate::mounts::SmallDisk;

/// A host that has run a task and is down again.
fn used() -> TestHost {
    let host = TestHost::new();
    host.finished(&host.script("echo output"));
    host.run(["down"]).check();
    wait_for("all processes to be gone", || {
        host.processes().is_empty().then_some(())
    });
    host
}

fn database(host: &TestHost) -> PathBuf {
    host.data_dir().join("claudine.db")
}

#[test]
fn corrupt_database_is_refused_and_kept() {
    let host = used();
    let garbage = b"this is no database ".repeat(500);
    for beside in ["claudine.db-wal", "claudine.db-shm"] {
        // The file does not exist if the host has closed the database.
        if host.data_dir().join(beside).exists() {
            fs::remove_file(host.data_dir().join(beside)).unwrap();
        }
    }
    fs::write(database(&host), &garbage).unwrap();
    host.run(["list"])
        .code(125)
        .says(&[database(&host).to_str().unwrap()]);
    assert_eq!(
        fs::read(database(&host)).unwrap(),
        garbage,
        "the damaged file was overwritten"
    );
}

const DATABASE: [&str; 3] = ["claudine.db", "claudine.db-wal", "claudine.db-shm"];

/// Moves the database of a host that was killed aside; returns the directory with its files.
fn without_database(host: &TestHost) -> PathBuf {
    let aside = host.root().join("database");
    fs::create_dir(&aside).unwrap();
    for file in DATABASE {
        match fs::rename(host.data_dir().join(file), aside.join(file)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            moved => moved.unwrap(),
        }
    }
    aside
}

#[test]
fn down_kill_ends_tasks_although_the_database_is_damaged() {
    let host = TestHost::new();
    let id = host.script("exec sleep 600");
    let task = host.live(&id);
    host.kill_host();
    let aside = without_database(&host);
    fs::write(database(&host), b"this is no database ".repeat(500)).unwrap();
    let advice = "`claudine down --kill` ends them; which ones cannot be read";
    host.run(["down"]).ok().says(&[advice]);
    assert!(alive(task));
    let ended = host.run(["down", "--kill"]).ok();
    let named = format!("ended {}", short_id(&id));
    ended.says(&[&named, "no host can be started now", "claudine.db"]);
    assert!(!alive(task));
    wait_for("all processes to be gone", || {
        host.processes().is_empty().then_some(())
    });
    // Nothing is left to end.
    host.run(["down", "--kill"]).ok().says(&["no task runs"]);

    for file in fs::read_dir(&aside).unwrap() {
        let file = file.unwrap();
        fs::rename(file.path(), host.data_dir().join(file.file_name())).unwrap();
    }
    assert_eq!(host.finished(&id)["outcome"], "cancelled");
}

#[test]
fn down_kill_ends_what_a_dead_supervisor_has_left_although_the_database_is_damaged() {
    let host = TestHost::new();
    let task = host.live(&host.script("exec sleep 600"));
    host.kill_host();
    host.kill_supervisors();
    without_database(&host);
    fs::write(database(&host), b"this is no database ".repeat(500)).unwrap();
    let ended = host.run(["down", "--kill"]).ok();
    ended.says(&["no host can be started now"]);
    assert!(!alive(task));
}

#[test]
fn down_kill_ends_tasks_although_the_database_is_missing() {
    let check = |script: &str, output: &str| {
        let host = TestHost::new();
        let id = host.script(script);
        let task = host.live(&id);
        wait_for("the output to be stored", || {
            (host.text(["logs", &id]) == output).then_some(())
        });
        host.kill_host();
        without_database(&host);
        host.run(["down", "--kill"]).check();
        assert!(!alive(task), "{script}");
    };
    check("exec sleep 600", "");
    // The log of a task shows that there was a queue, so no host starts.
    check("echo output; exec sleep 600", "output");
}

/// A program that keeps the host from writing its database until its input is closed.
fn lock_database(host: &TestHost) -> Child {
    let script = "import sqlite3, sys; \
                  db = sqlite3.connect(sys.argv[1], isolation_level=None); \
                  db.execute('begin immediate'); print('locked', flush=True); sys.stdin.read()";
    let mut python = host.other("python3");
    python.args(["-c", script]).arg(database(host));
    python.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut python = python.spawn().unwrap();
    let mut line = String::new();
    let said = python.stdout.as_mut().unwrap();
    BufReader::new(said).read_line(&mut line).unwrap();
    assert_eq!(line, "locked\n");
    python
}

fn unlock(mut python: Child) {
    drop(python.stdin.take());
    assert!(python.wait().unwrap().success());
}

#[test]
fn down_kill_ends_tasks_although_the_host_cannot_write_its_database() {
    let host = TestHost::new();
    let id = host.script("exec sleep 600");
    let task = host.live(&id);
    let before = host.host_pid().unwrap();
    let locked = lock_database(&host);
    let refused = host.run(["cancel", &id]).code(125);
    refused.says(&["locked", "`claudine down --kill` ends all tasks"]);
    assert!(alive(task));
    let ended = host.run(["down", "--kill"]).ok();
    let named = format!("ended {}", short_id(&id));
    ended.says(&[&named, "nothing can be stored", "locked", "the next host"]);
    assert!(!alive(task) && !alive(before));
    unlock(locked);
    assert_eq!(host.finished(&id)["outcome"], "cancelled");
}

/// The drain itself changes nothing in the database, but the end of the task does.
#[test]
fn drain_that_cannot_be_completed_says_why_and_how_the_host_can_be_ended() {
    let host = TestHost::new();
    let id = host.script("until test -e go; do sleep 0.1; done");
    let task = host.live(&id);
    let before = host.host_pid().unwrap();
    let locked = lock_database(&host);
    fs::write(host.work().join("go"), "").unwrap();
    let drained = host.run(["down", "--drain"]).code(125);
    drained.says(&["nothing can be stored", "locked", "claudine down --kill"]);
    assert!(!alive(task));
    host.run(["down"]).check();
    assert!(!alive(before));
    unlock(locked);
    assert_eq!(host.finished(&id)["outcome"], "succeeded");
}

/// Once the log was overwritten instead, only the next read that needs it shows this.
#[test]
fn host_whose_log_was_cut_accepts_nothing_more_and_ends_with_a_reason() {
    let host = TestHost::new();
    let id = host.script("exec sleep 600");
    let task = host.live(&id);
    let before = host.host_pid().unwrap();
    let file = host.data_dir().join("claudine.db-wal");
    let file = fs::OpenOptions::new().write(true).open(file).unwrap();
    file.set_len(0).unwrap();
    let refused = host.run(["run", "--script", "echo ran > ran"]);
    refused.code(125).says(&["claudine.db"]);
    wait_for("the host to end", || (!alive(before)).then_some(()));
    let log = fs::read_to_string(host.data_dir().join("host.log")).unwrap();
    assert!(log.contains("was cut or overwritten"), "{log}");
    assert!(alive(task) && !host.work().join("ran").exists());
    host.run(["down", "--kill"]).check();
    wait_for("the task to end", || (!alive(task)).then_some(()));
}

#[test]
fn data_directory_of_a_newer_version_is_refused() {
    let host = used();
    let script = "import sqlite3, sys; db = sqlite3.connect(sys.argv[1]); db.execute('pragma user_version = 999'); db.commit(); db.close()";
    let mut python = Command::new("python3");
    python.args(["-c", script]).arg(database(&host));
    command::run(python, b"", PATIENCE).check();
    host.run(["list"])
        .code(125)
        .says(&["newer", host.data_dir().to_str().unwrap()]);
}

/// The supervisor of the lost task is left. It obeys the next host although the epochs of the new
/// database begin anew. The task has no output that would show that there was a queue.
#[test]
fn tasks_run_after_the_database_was_removed_while_a_task_ran() {
    let host = TestHost::new();
    let lost = host.live(&host.script("exec sleep 600"));
    down(&host);
    remove_database(&host);
    let warnings = host.up()["warnings"].to_string();
    assert!(warnings.contains("made anew"), "{warnings}");
    let next = host.script("echo next");
    assert_eq!(host.finished(&next)["outcome"], "succeeded");
    wait_for("the process of the lost task to be ended", || {
        (!alive(lost)).then_some(())
    });
}

/// Ends the host without its tasks.
fn down(host: &TestHost) {
    host.run(["down"]).check();
    wait_for("the host to be gone", || {
        host.host_pid().is_none().then_some(())
    });
}

fn remove_database(host: &TestHost) {
    for file in ["claudine.db", "claudine.db-wal", "claudine.db-shm"] {
        match fs::remove_file(host.data_dir().join(file)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            removed => removed.unwrap(),
        }
    }
}

/// Checks that the task's last attempt is lost for this reason.
#[track_caller]
fn check_lost(host: &TestHost, id: &str, reason: &str) {
    let task = host.finished(id);
    assert_eq!(task["outcome"], "lost", "{task:#}");
    let message = task["reason"]["message"].as_str().unwrap();
    assert!(message.contains(reason), "{task:#}");
}

#[test]
fn end_of_a_supervisor_of_a_moved_queue_leaves_a_new_queue_at_the_old_place_alone() {
    let host = TestHost::new();
    let old = host.live(&host.script("exec sleep 600"));
    let supervisor = host.supervisor_pids()[0];
    down(&host);
    let moved = host.root().join("moved");
    fs::rename(host.data_dir(), &moved).unwrap();
    fs::create_dir(host.data_dir()).unwrap();
    fs::set_permissions(host.data_dir(), fs::Permissions::from_mode(0o700)).unwrap();
    // The compiled plugins are needed in both places, but the old queue runs nothing more.
    fs::rename(moved.join("cache"), host.data_dir().join("cache")).unwrap();
    let id = host.script("exec sleep 600");
    let task = host.live(&id);
    assert!(alive(old));
    signal(supervisor, Signal::TERM);
    wait_for("the supervisor of the old queue to end", || {
        (!alive(supervisor)).then_some(())
    });
    assert!(host.data_dir().join("supervisors/1/sock").exists());
    host.kill_host();
    host.run(["down", "--kill"]).check();
    assert!(!alive(task));
    assert_eq!(host.status(&id)["outcome"], "cancelled");
}

/// The supervisor would notice the loss itself, but only after some seconds, so it is suspended.
#[test]
fn task_whose_supervisor_has_lost_its_directory_is_lost_and_its_process_ended() {
    let host = TestHost::new();
    let id = host.script("exec sleep 600");
    let task = host.live(&id);
    let supervisor = host.supervisor_pids()[0];
    suspend(supervisor);
    host.kill_host();
    fs::remove_dir_all(host.data_dir().join("supervisors/1")).unwrap();
    host.up();
    assert!(!alive(task));
    assert!(!alive(supervisor));
    check_lost(&host, &id, "no supervisor knows it any more");
}

/// The copy is older than everything else in the data directory. One of the tasks was running when
/// it was taken, the other was not submitted to a supervisor yet.
#[test]
fn attempt_that_has_ended_is_not_run_again_after_an_earlier_database_was_put_back() {
    let host = TestHost::new();
    let script = "echo run >> runs; until test -e go; do sleep 0.02; done";
    let running = host.script(script);
    host.live(&running);
    let words = ["run", "--hold", "--script"];
    let held = host.text(words.into_iter().chain(["echo run >> held; echo output"]));
    down(&host);
    let copy = host.root().join("copy");
    fs::copy(database(&host), &copy).unwrap();
    host.run(["release", &held]).check();
    fs::write(host.work().join("go"), "").unwrap();
    for id in [&running, &held] {
        assert_eq!(host.finished(id)["outcome"], "succeeded");
    }
    down(&host);
    remove_database(&host);
    fs::copy(&copy, database(&host)).unwrap();

    let warnings = host.up()["warnings"].to_string();
    assert!(warnings.contains("is an earlier copy"), "{warnings}");
    check_lost(&host, &running, "no supervisor knows it any more");
    host.run(["release", &held]).check();
    let why = host.text(["why", &held]);
    assert!(why.contains("the queue is paused"), "{why}");
    host.run(["unpause"]).check();
    check_lost(&host, &held, "the attempt was started before");
    let read = |name: &str| fs::read_to_string(host.work().join(name)).unwrap();
    assert_eq!([read("runs"), read("held")], ["run\n", "run\n"]);
    assert_eq!(host.text(["logs", &held]), "output");

    // The next attempt has a number and a log of its own.
    host.run(["retry", &held]).check();
    assert_eq!(host.finished(&held)["outcome"], "succeeded");
    assert_eq!(read("held"), "run\nrun\n");
}

/// The epoch of the copy is that of the last host, so only the noted batch shows that it is
/// earlier.
#[test]
fn database_copied_while_its_last_host_was_up_is_noticed_as_an_earlier_copy() {
    let host = TestHost::new();
    host.finished(&host.script("true"));
    down(&host);
    let warnings = host.up()["warnings"].to_string();
    assert!(!warnings.contains("is an earlier copy"), "{warnings}");
    let second = host.text(["run", "--hold", "--script", "echo run >> second"]);
    let copies = host.root().join("copies");
    fs::create_dir(&copies).unwrap();
    // The host makes the file for shared memory anew.
    for file in &DATABASE[..2] {
        fs::copy(host.data_dir().join(file), copies.join(file)).unwrap();
    }
    host.run(["release", &second]).check();
    assert_eq!(host.finished(&second)["outcome"], "succeeded");
    down(&host);
    remove_database(&host);
    for file in &DATABASE[..2] {
        fs::copy(copies.join(file), host.data_dir().join(file)).unwrap();
    }

    let warnings = host.up()["warnings"].to_string();
    assert!(warnings.contains("is an earlier copy"), "{warnings}");
    host.run(["release", &second]).check();
    let why = host.text(["why", &second]);
    assert!(why.contains("the queue is paused"), "{why}");
    // The pause is the answer to the copy, and the next host knows that.
    down(&host);
    let warnings = host.up()["warnings"].to_string();
    assert!(!warnings.contains("is an earlier copy"), "{warnings}");
    let ran = fs::read_to_string(host.work().join("second")).unwrap();
    assert_eq!(ran, "run\n");
}

/// The first host after the copy was put back only ends what runs, and notices the copy.
#[test]
fn queue_of_an_earlier_database_stays_paused_although_its_first_host_starts_no_tasks() {
    let host = TestHost::builder().slots(2).build();
    let running = host.live(&host.script("exec sleep 600"));
    let held = host.text(["run", "--hold", "--script", "echo run >> held"]);
    down(&host);
    let copy = host.root().join("copy");
    fs::copy(database(&host), &copy).unwrap();
    host.run(["release", &held]).check();
    assert_eq!(host.finished(&held)["outcome"], "succeeded");
    down(&host);
    remove_database(&host);
    fs::copy(&copy, database(&host)).unwrap();

    host.run(["down", "--kill"]).check();
    assert!(!alive(running));
    host.run(["release", &held]).check();
    let why = host.text(["why", &held]);
    assert!(why.contains("the queue is paused"), "{why}");
    let ran = fs::read_to_string(host.work().join("held")).unwrap();
    assert_eq!(ran, "run\n");
}

#[test]
fn host_ends_when_its_database_is_removed_and_no_empty_queue_takes_its_place() {
    let host = TestHost::new();
    let id = host.script("echo output");
    host.finished(&id);
    let backup = host.root().join("queue.backup");
    host.run(["backup", backup.to_str().unwrap()]).check();
    remove_database(&host);
    wait_for("the host to end", || {
        host.host_pid().is_none().then_some(())
    });
    let log = fs::read_to_string(host.data_dir().join("host.log")).unwrap();
    assert!(log.contains("was removed or replaced"), "{log}");

    let missing = "is missing or empty";
    fs::write(database(&host), "").unwrap();
    let other = host.root().join("other.backup");
    for words in [
        &["list"][..],
        &["run", "--", "true"],
        &["backup", other.to_str().unwrap()],
    ] {
        let refused = host.run(words).code(125);
        refused.says(&[missing, "restore a backup"]);
    }
    let doctor = host.run(["doctor"]).code(1).text();
    assert!(doctor.contains(missing), "{doctor}");
    assert!(!other.exists());
    assert!(host.host_pid().is_none());

    host.run(["restore", backup.to_str().unwrap()]).check();
    let warnings = host.up()["warnings"].to_string();
    assert!(!warnings.contains("is an earlier copy"), "{warnings}");
    assert_eq!(host.status(&id)["outcome"], "succeeded");
    assert_eq!(host.text(["logs", &id]), "output");
}

#[test]
fn queue_begins_anew_once_the_logs_of_a_lost_one_are_moved_away() {
    let host = used();
    remove_database(&host);
    host.run(["up"]).code(125).says(&["is missing or empty"]);
    let logs = host.data_dir().join("logs");
    fs::rename(&logs, logs.with_extension("old")).unwrap();
    assert_eq!(host.finished(&host.script("true"))["outcome"], "succeeded");
    assert_eq!(host.json(["list"])["tasks"].as_array().unwrap().len(), 1);
}

/// The dependants of the unreadable task wait, all other tasks continue, and the host reports the
/// unreadable task.
#[test]
fn unreadable_task_holds_up_only_its_dependants() {
    let host = TestHost::new();
    let lost = host.text(["run", "--name", "lost", "--hold", "--", "true"]);
    let waits = host.text([
        "run",
        "--name",
        "waits",
        "--depends-on",
        &lost,
        "--",
        "true",
    ]);
    host.run(["down"]).check();
    wait_for("all processes to be gone", || {
        host.processes().is_empty().then_some(())
    });
    let script = "import sqlite3, sys; db = sqlite3.connect(sys.argv[1]); \
        db.execute(\"update task set body = '{' where name = 'lost'\"); db.commit(); db.close()";
    let mut python = Command::new("python3");
    python.args(["-c", script]).arg(database(&host));
    command::run(python, b"", PATIENCE).check();
    let warnings = host.up()["warnings"].to_string();
    assert!(
        warnings.contains(&lost) && warnings.contains("cannot be read"),
        "{warnings}"
    );
    let other = host.script("true");
    assert_eq!(host.finished(&other)["outcome"], "succeeded");
    assert_eq!(host.status(&waits)["state"], "blocked");
    let why = host.json(["why", &waits])["reasons"].to_string();
    let end = &lost[lost.len() - 6..];
    assert!(why.contains(end) && why.contains("cannot be read"), "{why}");
    let listed = host.json(["list"])["tasks"].as_array().unwrap().len();
    assert_eq!(listed, 2, "`list` does not show exactly the readable tasks");
    host.run(["status", "lost"])
        .code(125)
        .says(&["cannot be read"]);
    host.run(["cancel", &waits]).check();
    assert_eq!(host.finished(&waits)["outcome"], "cancelled");
}

#[test]
fn data_directory_of_another_user_is_refused() {
    let host = used();
    let why = if geteuid().is_root() {
        "belongs to another user"
    } else {
        "ermission denied"
    };
    let ran = if geteuid().is_root() {
        // Runs the command as another user, who may not enter the data directory.
        fs::set_permissions(host.root(), fs::Permissions::from_mode(0o755)).unwrap();
        let mut other = host.other("setpriv");
        other
            .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
            .arg(readable_binary(&host))
            .arg("list");
        command::run(other, b"", PATIENCE)
    } else {
        fs::set_permissions(host.data_dir(), fs::Permissions::from_mode(0o000)).unwrap();
        let ran = host.run(["list"]);
        fs::set_permissions(host.data_dir(), fs::Permissions::from_mode(0o700)).unwrap();
        ran
    };
    ran.code(125)
        .says(&[why, host.data_dir().to_str().unwrap()]);
}

/// A copy of the binary that other users can read, because the original may be readable only by
/// root.
fn readable_binary(host: &TestHost) -> PathBuf {
    let copy = host.root().join("claudine");
    fs::copy(claudine_tests::harness::binary(), &copy).unwrap();
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
    copy
}

#[test]
fn full_disk_refuses_new_tasks_and_loses_nothing() {
    let disk = SmallDisk::mount(128);
    let host = disk.host();
    let writer = host.script("until test -e go; do sleep 0.1; done; seq 1 5000000");
    let other = host.script("exec sleep 600");
    host.live(&writer);
    host.live(&other);

    disk.fill();
    fs::write(host.work().join("go"), "").unwrap();
    let refused = wait_for("a new task to be refused", || {
        Some(host.run(["run", "--", "true"])).filter(|ran| !ran.status.success())
    });
    refused.code(125).says(&["disk"]);
    // Stops are still carried out.
    host.run(["cancel", &other]).check();
    assert_eq!(host.finished(&other)["outcome"], "cancelled");
    assert_eq!(
        host.status(&writer)["state"],
        "running",
        "the writing task was not held back"
    );
    wait_for("`why` to report the full disk", || {
        let why = host.text(["why", &writer]);
        (why.contains("held back") && why.contains("less than 16.0 MiB are free")).then_some(())
    });

    disk.empty();
    let task = host.finished(&writer);
    assert_eq!(task["outcome"], "succeeded", "{task:#}");
    let expected: String = (1..=5_000_000)
        .flat_map(|n: u32| [n.to_string(), "\n".to_owned()])
        .collect();
    assert!(
        host.run(["logs", &writer]).ok().stdout == expected.as_bytes(),
        "the log is not complete"
    );
    assert_eq!(host.finished(&host.script("true"))["outcome"], "succeeded");
}

#[test]
fn commands_that_wait_and_doctor_report_output_that_waits_for_a_full_disk() {
    let disk = SmallDisk::mount(128);
    let host = disk.host();
    let writer = host.script("until test -e go; do sleep 0.1; done; exec yes");
    host.live(&writer);
    disk.fill();
    fs::write(host.work().join("go"), "").unwrap();
    wait_for("the output to be held back", || {
        host.text(["why", &writer])
            .contains("held back")
            .then_some(())
    });
    let waits = "1 task does not end before its output can be written: less than 16.0 MiB are free";
    let note_of = |command: &[&str]| {
        let mut waiting = host.command(command.iter().chain(&[&*writer]));
        let mut waiting = waiting.stderr(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(waiting.stderr.take().unwrap());
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            let mut note = String::new();
            said.read_line(&mut note).unwrap();
            sender.send(note).unwrap();
        });
        let note = receiver.recv_timeout(PATIENCE);
        waiting.kill().unwrap();
        waiting.wait().unwrap();
        note.unwrap()
    };
    for command in [&["wait"][..], &["graph", "--follow"]] {
        let note = note_of(command);
        assert!(note.contains(waits), "{command:?}: {note}");
    }
    let way_out = format!("if the disk of {} is full", host.data_dir().display());
    for down in ["--drain", "--kill"] {
        let down = host.run(["down", down]).code(125);
        down.says(&[waits, &way_out, "then the host ends as it was asked to"]);
    }
    let doctor = host.run(["doctor"]).code(1).text();
    assert!(doctor.contains(waits), "{doctor}");
    assert!(host.host_pid().is_some());

    disk.empty();
    wait_for("the host to end", || {
        host.host_pid().is_none().then_some(())
    });
    assert_eq!(host.status(&writer)["outcome"], "cancelled");
}

/// The supervisor keeps the output until it can be written, so it does not end before that.
#[test]
fn down_kill_without_a_host_says_that_only_output_waits_for_a_full_disk() {
    let disk = SmallDisk::mount(128);
    let host = disk.host();
    let writer = host.script("until test -e go; do sleep 0.1; done; echo written");
    let pid = host.live(&writer);
    host.kill_host();
    disk.fill();
    // This host uses up the ballast, so the next one cannot start.
    host.up();
    host.kill_host();
    disk.fill();
    fs::write(host.work().join("go"), "").unwrap();
    wait_for("the task's process to end", || (!alive(pid)).then_some(()));
    let refused = host.run(["down", "--kill"]).code(125);
    refused.says(&[
        "all processes of tasks have ended, but their output or how they ended cannot be written: \
         less than 16.0 MiB are free",
        &format!("if the disk of {} is full", host.data_dir().display()),
        "then the supervisor (pid",
        "no host can be started now",
    ]);

    disk.empty();
    wait_for("the supervisor to end", || {
        host.supervisor_pids().is_empty().then_some(())
    });
    assert_eq!(host.finished(&writer)["outcome"], "succeeded");
    assert_eq!(host.text(["logs", &writer]), "written");
}

/// The disk has some free space, but not enough for logs.
#[test]
fn request_that_reads_with_git_is_refused_while_logs_have_no_room() {
    let disk = SmallDisk::mount(128);
    let host = disk.host();
    with_repository(&host);
    let id = host.text(["run", "--worktree", "--script", "echo new > file"]);
    host.finished(&id);
    host.run(["diff", &id]).check();

    disk.fill_except(12 << 20);
    let refused = host.run(["diff", &id]).code(125);
    refused.says(&[
        "its output cannot be written",
        "less than 16.0 MiB are free",
    ]);

    disk.empty();
    host.run(["diff", &id]).check();
    // The supervisor ends with the host only after it has forgotten the refused command.
    let logs = host.data_dir().join("commands");
    wait_for("the end of the refused command", || {
        fs::read_dir(&logs).unwrap().next().is_none().then_some(())
    });
}

#[test]
fn host_starts_on_a_full_disk_with_its_ballast_or_reports_the_space_it_needs() {
    let disk = SmallDisk::mount(128);
    let host = disk.host();
    let done = host.script("echo output");
    host.finished(&done);
    let open = host.script("exec sleep 600");
    let pid = host.live(&open);
    host.kill_host();
    disk.fill();
    host.up();
    assert_eq!(host.json(["list"])["tasks"].as_array().unwrap().len(), 2);
    assert_eq!(host.text(["logs", &done]), "output");
    assert_eq!(host.status(&open)["state"], "running");
    assert!(!host.data_dir().join("ballast").exists());
    host.run(["run", "--", "true"])
        .code(125)
        .says(&["no new task is accepted until 32.0 MiB and 256 inodes are free"]);

    host.kill_host();
    disk.fill();
    assert_eq!(
        host.status(&open)["state"],
        "running",
        "tasks cannot be shown"
    );
    let refused = host.run(["up"]).code(125);
    refused.says(&[
        &format!("no host can start: the disk at {}", disk.dir.display()),
        "is full (nothing is free)",
        "free at least 1024 KiB there; nothing that was accepted is lost, and running tasks continue",
    ]);
    assert!(alive(pid));

    disk.empty();
    assert_eq!(host.live(&open), pid);
    host.run(["cancel", &open]).check();
    assert_eq!(host.finished(&open)["outcome"], "cancelled");
    assert_eq!(host.finished(&host.script("true"))["outcome"], "succeeded");
}

#[test]
fn host_starts_on_a_disk_without_a_free_inode_or_reports_that_inodes_are_missing() {
    let disk = SmallDisk::mount_with("size=128m,nr_inodes=2000");
    let host = disk.host();
    let open = host.script("exec sleep 600");
    host.live(&open);
    let other = host.script("exec sleep 600");
    let pid = host.live(&other);
    host.kill_host();
    disk.use_all_inodes();
    host.run(["cancel", &open]).check();
    assert_eq!(host.finished(&open)["outcome"], "cancelled");
    host.run(["run", "--", "true"])
        .code(125)
        .says(&["no new task is accepted until 32.0 MiB and 256 inodes are free"]);

    host.kill_host();
    disk.use_all_inodes();
    host.run(["up"]).code(125).says(&[
        &format!("no host can start: the disk at {}", disk.dir.display()),
        "is full (free inodes: ",
        "files there; nothing that was accepted is lost, and running tasks continue",
    ]);
    // The host that `up` started has removed the write-ahead log of the database when it gave up.
    // There is no inode for a new log, so the database cannot be opened.
    disk.use_all_inodes();
    host.run(["cancel", &other]).code(125).says(&["inodes"]);
    assert!(alive(pid));

    disk.free_inodes();
    assert_eq!(host.live(&other), pid);
    host.run(["cancel", &other]).check();
    assert_eq!(host.finished(&host.script("true"))["outcome"], "succeeded");
}

#[test]
fn task_that_waits_for_inodes_says_so() {
    let disk = SmallDisk::mount_with("size=128m,nr_inodes=2000");
    let host = disk.host();
    host.up();
    host.run(["slots", "1"]).check();
    let first = host.script("until test -e go; do sleep 0.1; done");
    host.live(&first);
    let second = host.script("true");
    disk.use_all_inodes();
    wait_for("the reading of the disk", || {
        let capacity = host.json(["capacity"]);
        capacity["reading"]["disk_free_inodes"].as_u64()
    });
    fs::write(host.work().join("go"), "").unwrap();
    host.finished(&first);
    wait_for("the reason", || {
        let why = host.text(["why", &second]);
        (why.contains("disk full: ") && why.contains(" inodes free, 32 needed")).then_some(())
    });
    disk.free_inodes();
    assert_eq!(host.finished(&second)["outcome"], "succeeded");
}

#[test]
fn invalid_plugins_are_refused_and_other_executors_still_work() {
    let host = used();
    let install = |name: &str, manifest: &str, component: &[u8]| {
        let dir = host.data_dir().join("plugins").join(name);
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("plugin.toml"), manifest).unwrap();
        fs::write(dir.join(format!("{name}.wasm")), component).unwrap();
    };
    let manifest = include_str!("../../../plugins/shell/plugin.toml");
    install(
        "noise",
        &manifest.replace("name = \"shell\"", "name = \"noise\""),
        &b"\0noise\xff".repeat(1000),
    );
    install("unreadable", "not a manifest", b"");
    let list = host.run(["plugin", "list"]).ok();
    for name in ["noise", "unreadable", "shell"] {
        assert!(list.text().contains(name), "{list}");
    }
    for name in ["noise", "unreadable"] {
        let refused = host.run(["delegate", "--executor", name, "hello"]);
        assert!(
            !refused.status.success() && refused.complaint().contains(name),
            "{refused}"
        );
    }
    assert_eq!(host.finished(&host.script("true"))["outcome"], "succeeded");
}

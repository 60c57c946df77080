//! The host process: how it starts, and that there is only one.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, Command, Stdio},
};

use claudine_tests::{
    TestHost, command,
    harness::binary,
    process::{alive, signal, suspend},
    terminal::Terminal,
    wait::PATIENCE,
    wait_for,
};
use rustix::process::Signal;
use serde_json::Value;

#[test]
fn up_with_a_running_host_starts_no_second_host() {
    let host = TestHost::new();
    let first = host.up();
    assert_eq!(first["mcp_url"], Value::Null);
    assert!(
        first["url"].as_str().unwrap().starts_with("unix:/"),
        "{first}"
    );
    assert_eq!(host.up()["pid"], first["pid"]);
    assert_eq!(host.host_pid().map(u64::from), first["pid"].as_u64());
}

/// Starts a host that may write no file with more than this many blocks of 512 bytes.
fn up_with_small_files(host: &TestHost, blocks: u32) -> command::Ran {
    let mut up = host.other("sh");
    let script = format!("ulimit -f {blocks}; exec \"$0\" up");
    up.args(["-c", &script]).arg(binary());
    command::run(up, b"", PATIENCE)
}

/// The limit on the size of files is too small for the database.
#[test]
fn limit_that_prevents_a_start_is_named() {
    let host = TestHost::new();
    let ran = up_with_small_files(&host, 50).code(125);
    ran.says(&["the database ", "`ulimit -Hf`"]);
}

/// The database fits into a file, and the ballast does not.
#[test]
fn limit_on_the_size_of_files_is_not_reported_as_a_full_disk() {
    let host = TestHost::new();
    up_with_small_files(&host, 2_000).check();
    let refused = host.run(["run", "--", "true"]).code(125);
    refused.says(&["no file of the host can become larger than 1000.0 KiB (`ulimit -Hf`)"]);
    assert!(!refused.complaint().contains("disk is full"), "{refused}");
}

/// The ballast fits into a file, and the output does not.
#[test]
fn output_over_the_limit_on_the_size_of_files_is_kept_and_ends_no_other_task() {
    let host = TestHost::new();
    up_with_small_files(&host, 20_000).check();
    let other = host.script("until test -e go; do sleep 0.1; done; echo whole");
    let large = host.script("head -c 30000000 /dev/zero; exit 3");
    assert_eq!(host.finished(&large)["exit_code"], 3);
    fs::write(host.work().join("go"), "").unwrap();
    assert_eq!(host.finished(&other)["outcome"], "succeeded");
    assert_eq!(host.text(["logs", &other]), "whole");
    let logs = host.run(["logs", "--raw", &large]).ok();
    assert_eq!(logs.stdout.len(), 30_000_000);
    let doctor = host.run(["doctor"]).text();
    assert!(
        doctor.contains("no file of the host can become larger than 9.7 MiB"),
        "{doctor}"
    );
}

#[test]
fn twenty_commands_at_once_start_one_host() {
    let host = TestHost::new();
    let start = |_| {
        let mut command = host.command(["run", "--json", "--", "true"]);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let started: Vec<_> = (0..20).map(start).collect();
    for child in started {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    let list = host.json(["list"]);
    assert_eq!(list["tasks"].as_array().unwrap().len(), 20);
    let hosts: Vec<_> = host
        .processes()
        .into_iter()
        .filter(|found| found.command.contains(" serve"))
        .collect();
    assert_eq!(hosts.len(), 1, "{hosts:?}");
    for task in list["tasks"].as_array().unwrap() {
        host.finished(task["id"].as_str().unwrap());
    }
}

#[test]
fn files_of_the_host_are_private_to_the_user() {
    let host = TestHost::builder().from_nothing().build();
    host.finished(&host.script("echo output"));
    let mut open = Vec::new();
    let mut dirs = vec![host.data_dir().to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let entry = entry.unwrap();
            let mode = entry.metadata().unwrap().permissions().mode();
            if mode & 0o077 != 0 {
                open.push(format!("{} {mode:o}", entry.path().display()));
            }
            if entry.file_type().unwrap().is_dir() {
                dirs.push(entry.path());
            }
        }
    }
    assert!(open.is_empty(), "{open:#?}");
    assert_eq!(
        host.data_dir().metadata().unwrap().permissions().mode() & 0o777,
        0o700
    );
}

/// A compiler that takes long makes the first commands wait.
#[test]
fn command_that_waits_for_the_compiler_says_so() {
    let host = TestHost::builder().from_nothing().build();
    let mut run = host.command(["run", "--wait", "--", "true"]);
    let run = run.stdin(Stdio::null()).stdout(Stdio::null());
    let mut run = run.stderr(Stdio::piped()).spawn().unwrap();
    let compiler = wait_for("the compiler", || {
        let found = host.processes().into_iter().find(|found| {
            let pieces = [" __compile ", "/cache/shell-"];
            pieces.iter().all(|piece| found.command.contains(piece))
        });
        found.map(|found| found.pid)
    });
    suspend(compiler);
    let mut said = String::new();
    let mut stderr = BufReader::new(run.stderr.take().unwrap());
    stderr.read_line(&mut said).unwrap();
    assert!(said.contains("the host is compiling plugins"), "{said}");
    signal(compiler, Signal::CONT);
    let ended = command::ends_within(&mut run, 4 * PATIENCE).expect("it ends");
    assert!(ended.success(), "{ended}");
}

#[test]
fn host_started_by_a_task_outlives_the_task() {
    let outer = TestHost::new();
    let inner = TestHost::new();
    // The outer task is cancelled with all its processes. The inner host is not one of them,
    // although the outer task has started it.
    let script = format!(
        "export CLAUDINE_DATA_DIR='{}'; '{}' run -- sleep 600 && touch started; exec sleep 600",
        inner.data_dir().display(),
        binary().display()
    );
    let id = outer.script(&script);
    wait_for("the inner host", || {
        outer.work().join("started").exists().then_some(())
    });
    let pid = inner.host_pid().expect("an inner host");
    outer.run(["cancel", &id]).check();
    assert_eq!(outer.finished(&id)["outcome"], "cancelled");
    assert!(alive(pid), "the inner host is gone");
    let task = inner.json(["list"])["tasks"][0].clone();
    assert_eq!(task["state"], "running", "{task:#}");
    assert_eq!(inner.host_pid(), Some(pid));
}

#[test]
fn background_host_keeps_no_descriptor_of_its_starter() {
    let host = TestHost::new();
    // The script holds a lock on descriptor 9, like a script that must not run twice at once, and a
    // pipe on descriptor 3, whose reader waits for the end of the pipe.
    let script = format!(
        "exec 9>lock; flock 9; got=$({{ '{}' run -- true >/dev/null; echo over >&3; }} 3>&1); echo $got",
        binary().display()
    );
    let mut command = host.other("sh");
    command.args(["-c", &script]);
    assert_eq!(command::run(command, b"", PATIENCE).ok().text(), "over");
    let pid = host.host_pid().expect("`run` has started a host");
    let lock = fs::File::open(host.work().join("lock")).unwrap();
    lock.try_lock().expect("the lock is free");
    let open = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let of_starter: Vec<_> = open
        .filter_map(|entry| fs::read_link(entry.unwrap().path()).ok())
        .filter(|target| target.starts_with(host.work()))
        .collect();
    assert!(of_starter.is_empty(), "{of_starter:?}");
}

/// Starts a host in the foreground with this command, and waits until the host answers.
#[track_caller]
fn serving(host: &TestHost, mut serve: Command) -> Child {
    let serve = serve
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_for("the host to answer", || {
        (host.host_pid() == Some(serve.id())).then_some(())
    });
    serve
}

#[test]
fn foreground_host_passes_no_descriptor_on_to_tasks() {
    let host = TestHost::new();
    let script = format!("exec 9>lock; flock 9; exec '{}' serve", binary().display());
    let mut serve = host.other("sh");
    serve.args(["-c", &script]);
    let mut serve = serving(&host, serve);
    let opened = host
        .run(["run", "--wait", "--", "ls", "/proc/self/fd"])
        .ok();
    assert_eq!(
        opened.text().lines().collect::<Vec<_>>(),
        ["0", "1", "2", "3"]
    );
    let lock = fs::File::open(host.work().join("lock")).unwrap();
    assert!(
        lock.try_lock().is_err(),
        "the lock is free while the host runs"
    );
    signal(serve.id(), Signal::TERM);
    command::ends_within(&mut serve, PATIENCE).expect("it ends");
    wait_for("the lock to be free", || lock.try_lock().ok());
}

#[test]
fn host_receives_signals_that_its_starter_had_blocked_or_ignored() {
    let host = TestHost::new();
    let script = "import os, signal, sys; signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM]); \
                  signal.signal(signal.SIGCHLD, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])";
    let mut serve = host.other("python3");
    serve.args(["-c", script]).arg(binary()).arg("serve");
    let mut serve = serving(&host, serve);
    // The host runs commands itself to probe its executors. It must notice the ends of these
    // commands although the process that started the host ignored `SIGCHLD`.
    host.run(["plugin", "list"]).check();
    signal(serve.id(), Signal::TERM);
    let status = command::ends_within(&mut serve, PATIENCE).expect("it ends");
    assert!(status.success(), "{status}");
}

#[test]
fn directories_and_files_are_usable_whatever_the_umask_of_the_command_that_makes_them() {
    let host = TestHost::new();
    let under = |umask: &str, host: &TestHost, arguments: &[&str]| {
        let mut shell = host.other("sh");
        shell.args(["-c", "umask $0; exec \"$@\"", umask]);
        shell.arg(binary()).args(arguments);
        command::run(shell, b"", PATIENCE).ok()
    };
    for umask in ["0177", "0377", "0777"] {
        under(umask, &host, &["up"]);
        // The task has the umask of its submitter nevertheless.
        let asked = ["run", "--wait", "--script", "umask"];
        assert_eq!(under(umask, &host, &asked).text(), umask);
        host.run(["down"]).check();
    }
    let backup = host.root().join("queue.backup");
    let file = backup.to_str().unwrap();
    under("0777", &host, &["backup", file]);
    assert_eq!(
        fs::metadata(&backup).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let restored = TestHost::builder()
        .from_nothing()
        .data_dir(host.root().join("far/again"))
        .build();
    under("0777", &restored, &["restore", file]);
    let new = TestHost::builder()
        .from_nothing()
        .data_dir(host.root().join("far/new"))
        .build();
    under("0777", &new, &["up"]);
    new.run(["down"]).check();
    for host in [&host, &restored, &new] {
        wait_for("the end of the supervisors", || {
            host.supervisor_pids().is_empty().then_some(())
        });
        are_usable(host.data_dir());
    }
}

/// Panics unless the owner may use everything below this directory.
#[track_caller]
fn are_usable(directory: &Path) {
    let found = fs::symlink_metadata(directory).unwrap();
    let mode = found.permissions().mode();
    let needed = if found.is_dir() { 0o700 } else { 0o600 };
    assert_eq!(mode & needed, needed, "{}", directory.display());
    if found.is_dir() {
        for entry in fs::read_dir(directory).unwrap() {
            are_usable(&entry.unwrap().path());
        }
    }
}

#[test]
fn second_host_is_refused() {
    let host = TestHost::new();
    let pid = host.up()["pid"].as_u64().unwrap();
    host.run(["serve"])
        .code(125)
        .says(&[&pid.to_string(), host.data_dir().to_str().unwrap()]);
    assert_eq!(host.host_pid().map(u64::from), Some(pid));
}

#[test]
fn serve_stays_in_the_foreground_and_ends_at_a_signal() {
    let host = TestHost::new();
    let mut serve = serving(&host, host.command(["serve"]));
    let id = host.script("exec sleep 600");
    let pid = host.live(&id);
    signal(serve.id(), Signal::TERM);
    let status = command::ends_within(&mut serve, PATIENCE).expect("it ends");
    assert!(status.success(), "{status}");
    assert!(alive(pid), "a task was ended with the host");
    assert_eq!(host.live(&id), pid);
}

/// The library that writes the log would complain if it were asked for colours, which it was built
/// without.
#[test]
fn serve_on_a_terminal_shows_only_its_log_and_that_it_is_ready() {
    let host = TestHost::new();
    let serve = Terminal::start(&host, &["serve"], (200, 24));
    let screen = serve.shows(&["host ready: ", "INFO the host is up"]);
    let mut lines = screen.lines();
    let levels = ["host ready: ", " INFO ", " WARN "];
    let other = lines.find(|line| !levels.iter().any(|level| line.contains(level)));
    assert_eq!(other, None, "{screen}");
    host.run(["down"]).check();
}

#[test]
fn host_is_reached_if_the_path_of_its_data_directory_is_long() {
    let root = TestHost::new();
    let host = TestHost::builder()
        .data_dir(root.root().join("d".repeat(120)))
        .build();
    assert_eq!(host.finished(&host.script("true"))["outcome"], "succeeded");
}

/// The supervisor of the older task could give new tasks only what it has inherited itself.
#[test]
fn tasks_inherit_from_their_host_what_nobody_can_take_over_and_doctor_tells_the_difference() {
    let host = TestHost::new();
    let older = host.text(["run", "--", "sleep", "600"]);
    host.live(&older);
    let restricted = |arguments: &[&str]| {
        let mut command = host.other("setpriv");
        command.arg("--no-new-privs").arg(binary()).args(arguments);
        command::run(command, b"", PATIENCE)
    };
    let asked = [
        "run",
        "--wait",
        "--script",
        "grep NoNewPrivs /proc/self/status",
    ];
    // If this test itself runs with `no_new_privs`, nothing differs.
    let before = host.run(asked).ok().text();
    assert_eq!(restricted(&asked).ok().text(), before);
    let told = |found: Value| {
        let findings = found.as_array().unwrap().iter();
        let mut told = findings.filter_map(|finding| finding["found"].as_str());
        told.any(|told| told.contains("they can gain privileges although this command cannot"))
    };
    // The exit code is not checked, because `doctor` may find other faults of the machine.
    assert!(!told(host.run(["--json", "doctor"]).json()));
    let differs = before.ends_with('0');
    assert_eq!(told(restricted(&["--json", "doctor"]).json()), differs);
    host.run(["down"]).check();
    restricted(&["up"]).check();
    assert_eq!(host.run(asked).ok().text(), "NoNewPrivs:\t1");
    assert_eq!(host.status(&older)["state"], "running");
    assert!(!told(restricted(&["--json", "doctor"]).json()));
}

//! `run` and `delegate`: the command with its arguments, environment, directory and input, and its
//! results.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    process::{Command, Stdio},
};

use claudine_tests::{
    TestHost,
    command::{self, Ran},
    harness::binary,
    process::{alive, signal},
    short_id,
    wait::PATIENCE,
    wait_for,
};
use rustix::process::{Signal, geteuid};

fn to_the_end(command: Command) -> Ran {
    command::run(command, b"", PATIENCE)
}

#[test]
fn arguments_of_a_command_arrive_unchanged() {
    let host = TestHost::new();
    let ran = host
        .run([
            "run", "--wait", "--", "printf", "%s|", "a", "b  c", "$HOME", "", "*", "'\"\\", "ü\n",
        ])
        .ok();
    assert_eq!(ran.text(), "a|b  c|$HOME||*|'\"\\|ü\n|");
}

#[test]
fn run_with_wait_exits_with_the_tasks_code_or_signal_or_124_after_a_timeout() {
    let host = TestHost::new();
    let check = |arguments: &[&str], code: i32| drop(host.run(arguments).code(code));
    check(&["run", "--wait", "--script", "exit 0"], 0);
    check(&["run", "--wait", "--script", "exit 7"], 7);
    check(&["run", "--wait", "--script", "kill -KILL $$"], 137);
    check(&["run", "--wait", "--script", "kill -TERM $$"], 143);
    check(
        &["run", "--wait", "--timeout", "1s", "--", "sleep", "600"],
        124,
    );
    check(
        &[
            "run",
            "--wait",
            "--idle-timeout",
            "1s",
            "--",
            "sleep",
            "600",
        ],
        124,
    );
    let start = ["--start-timeout", "1s", "--", "sleep", "600"];
    check(&[&["run", "--wait"][..], &start].concat(), 124);
}

/// The host that sees the first output is another one than the host that started the task.
#[test]
fn start_timeout_of_a_command_ends_with_its_first_output() {
    let host = TestHost::new();
    let script = "until test -e go; do sleep 0.05; done; echo begun; exec sleep 600";
    let limit = ["--start-timeout", "5s"];
    let id = host.text([&["run"][..], &limit, &["--script", script]].concat());
    wait_for("the process of the task", || {
        host.status(&id)["attempts"][0]["pid"].as_u64()
    });
    assert_eq!(host.status(&id)["phase"], "starting");
    host.run(["down"]).check();
    fs::write(host.work().join("go"), "").unwrap();
    host.up();
    host.live(&id);
    // Once a task that starts now has reached the limit, the first task has passed it.
    let silent = [&["run", "--wait"][..], &limit, &["--", "sleep", "600"]];
    let ended = host.run(silent.concat());
    assert_eq!(ended.status.code(), Some(124), "{ended}");
    assert_eq!(host.status(&id)["phase"], "live");
}

/// Runs a script of the shell in which `$1` is the program.
fn in_shell(host: &TestHost, script: &str) -> Ran {
    let mut shell = host.other("sh");
    shell.args(["-c", script, "sh"]).arg(binary());
    to_the_end(shell)
}

#[test]
fn run_with_wait_fails_if_its_reader_leaves_while_the_task_continues() {
    let host = TestHost::new();
    let endless = "while :; do echo line; sleep 0.05; done";
    let piped =
        format!("{{ \"$1\" run --wait --script '{endless}'; echo code $? >&2; }} | head -n 1");
    let ran = in_shell(&host, &piped).ok();
    assert_eq!(ran.text(), "line");
    let task = host.json(["list"])["tasks"][0].clone();
    assert_eq!(task["state"], "running", "{task:#}");
    let id = short_id(task["id"].as_str().unwrap());
    ran.says(&["code 130", &format!("the task continues: {id}")]);
    host.run(["cancel", id]).check();
    host.run(["wait", id]).code(143).says(&[]);
    // The exit code does not depend on a reader of the messages.
    let piped = "{ \"$1\" wait @last; echo code $? >&2; } | true";
    in_shell(&host, piped).ok().says(&["code 143"]);
}

#[test]
fn submitted_task_is_named_if_its_id_cannot_be_written() {
    let host = TestHost::new();
    let ran = in_shell(&host, "\"$1\" run -- true >/dev/full").code(125);
    let task = host.json(["list"])["tasks"][0].clone();
    let id = short_id(task["id"].as_str().unwrap());
    let named = format!("the task was submitted: {id}");
    ran.says(&[&named, "cannot write the answer"]);
}

#[test]
fn answer_that_cannot_be_written_is_an_error() {
    let host = TestHost::new();
    let closed = "standard output is closed";
    let ran = in_shell(&host, "\"$1\" run -- true >&-").code(125);
    let task = host.json(["list"])["tasks"][0].clone();
    let id = short_id(task["id"].as_str().unwrap());
    ran.says(&[&format!("the task was submitted: {id}"), closed]);
    for command in [
        "list",
        "run --wait -- echo hi",
        "--version",
        "--help",
        "list --help",
    ] {
        in_shell(&host, &format!("\"$1\" {command} >&-"))
            .code(125)
            .says(&["cannot write the answer", closed]);
        in_shell(&host, &format!("\"$1\" {command} >/dev/full"))
            .code(125)
            .says(&["cannot write the answer"]);
    }
    for (target, why) in [("&-", closed), ("/dev/full", "No space left")] {
        in_shell(&host, &format!("\"$1\" backup - >{target}"))
            .code(125)
            .says(&["the backup cannot be written", why]);
    }
    // A command that has nothing to write to standard output does not need it.
    in_shell(&host, "\"$1\" run --wait -- true >&-").check();
}

#[test]
fn cancelled_task_has_an_exit_code_that_shows_whether_it_ran() {
    let host = TestHost::new();
    let ends = ["exit 0", "exit 7", "kill -KILL $$"];
    for end in ends {
        let script = format!("trap '{end}' TERM; echo begun; while :; do sleep 0.05; done");
        let id = host.script(&script);
        wait_for("the trap", || {
            (host.text(["logs", &id]) == "begun").then_some(())
        });
        host.run(["cancel", &id]).check();
        host.run(["wait", &id]).code(143).says(&[]);
    }
    let id = host.text(["run", "--hold", "--", "true"]);
    host.run(["cancel", &id]).check();
    host.run(["wait", &id]).code(130).says(&[]);
}

#[test]
fn submission_prints_only_the_id_or_with_json_an_object_with_the_id() {
    let host = TestHost::new();
    let id = host.text(["run", "--", "true"]);
    assert!(
        id.starts_with("task_") && id.len() == 31 && !id.contains(char::is_whitespace),
        "{id:?}"
    );
    let delegated = host.json(["delegate", "--executor", "shell", "true"]);
    assert!(
        delegated["id"].as_str().unwrap().starts_with("task_"),
        "{delegated}"
    );
}

#[test]
fn prompt_can_come_from_standard_input() {
    let host = TestHost::new();
    let ran = host
        .run_with(
            ["delegate", "--executor", "shell", "--wait", "-"],
            b"echo one\necho two\n",
        )
        .ok();
    assert_eq!(ran.text(), "one\ntwo");
}

#[test]
fn standard_input_of_a_task_is_empty() {
    let host = TestHost::new();
    assert_eq!(
        host.run_with(["run", "--wait", "--", "cat"], b"not for the task")
            .ok()
            .text(),
        ""
    );
}

#[test]
fn run_with_wait_prints_both_output_streams_separately() {
    let host = TestHost::new();
    let ran = host
        .run(["run", "--wait", "--script", "echo out; echo err >&2"])
        .ok();
    assert_eq!(ran.text(), "out");
    ran.says(&["err"]);
}

#[test]
fn task_has_its_submitters_environment_unless_a_clean_environment_is_requested() {
    let host = TestHost::builder().env("CLAUDECODE", "1").build();
    // The host already runs, with its own environment.
    host.up();
    let mut command = host.command([
        "run",
        "--wait",
        "--env",
        "GIVEN=here we are",
        "--script",
        "echo \"$CALLERS/$GIVEN/$CLAUDECODE\"",
    ]);
    command.env("CALLERS", "yes");
    assert_eq!(to_the_end(command).ok().text(), "yes/here we are/");

    let mut command = host.command([
        "run",
        "--wait",
        "--env-clean",
        "--env",
        "GIVEN=1",
        "--script",
        "echo \"$CALLERS/$GIVEN/$HOME\"",
    ]);
    command.env("CALLERS", "yes");
    assert_eq!(
        to_the_end(command).ok().text(),
        format!("/1/{}", host.home().display())
    );
}

#[test]
fn environment_of_a_task_is_in_no_answer_and_not_in_the_database_or_log() {
    const SECRET: &str = "hunter2-of-this-test";
    let host = TestHost::new();
    let mut command = host.command(["run", "--env", "GIVEN=1", "--", "false"]);
    command.env("TOKEN", SECRET);
    let id = to_the_end(command).ok().text();
    host.finished(&id);
    for verb in [
        &["status", &id][..],
        &["status", &id, "--json"],
        &["list", "--json"],
        &["events", "--json"],
        &["why", &id, "--json"],
        &["graph", &id, "--format", "json"],
        &["logs", &id],
        &["doctor", "--json"],
    ] {
        let ran = host.run(verb);
        let printed = [ran.stdout.as_slice(), ran.complaint().as_bytes()].concat();
        assert!(!holds(&printed, SECRET), "{verb:?} prints the secret");
    }
    for file in ["host.log", "host.json", "claudine.db", "claudine.db-wal"] {
        let path = host.data_dir().join(file);
        assert!(
            !holds(&fs::read(&path).unwrap(), SECRET),
            "{file} contains the secret"
        );
    }
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes
        .windows(text.len())
        .any(|window| window == text.as_bytes())
}

#[test]
fn task_gets_its_id_its_attempt_and_the_data_directory_as_variables() {
    let host = TestHost::new();
    let id = host.script("echo $CLAUDINE_TASK_ID $CLAUDINE_ATTEMPT $CLAUDINE_DATA_DIR");
    let expected = format!("{id} {id}.1 {}\n", host.data_dir().display());
    assert_eq!(host.finished(&id)["output"], expected);
}

#[test]
fn working_directory_is_that_of_the_caller_or_of_the_option() {
    let host = TestHost::new();
    assert_eq!(
        host.text(["run", "--wait", "--", "pwd"]),
        host.work().to_str().unwrap()
    );
    let deeper = host.work().join("deeper");
    fs::create_dir(&deeper).unwrap();
    for given in ["deeper", deeper.to_str().unwrap()] {
        assert_eq!(
            host.text(["run", "--wait", "-w", given, "--", "pwd"]),
            deeper.to_str().unwrap()
        );
    }
}

#[test]
fn long_script_is_run_completely() {
    let host = TestHost::new();
    // The script is longer than a single argument may be.
    let script = format!(": {}\necho the end", "x".repeat(300_000));
    let ran = host
        .run_with(
            ["delegate", "--executor", "shell", "--wait", "-"],
            script.as_bytes(),
        )
        .ok();
    assert_eq!(ran.text(), "the end");
}

/// The command that happens to start the host must not decide the permissions of files that later
/// tasks create.
#[test]
fn task_has_its_submitters_umask_limits_and_scheduling() {
    let host = TestHost::new();
    let asked = "umask; ulimit -Sn; ulimit -Hc; nice; \
                 taskset -cp $$ | cut -d: -f2; chrt -p $$ | cut -d: -f2; ionice -p $$";
    // The host is started with another umask, other limits and a lower priority than the task's
    // submitter has, and on a single processor.
    let script = format!(
        "one=$(taskset -cp $$ | cut -d: -f2 | cut -d, -f1 | cut -d- -f1); \
         umask 077; ulimit -Sn 300; ulimit -Sf 10; \
         taskset -c $one chrt -b 0 ionice -c 3 '{0}' up >/dev/null; \
         umask 027; ulimit -Sf $(ulimit -Hf); ulimit -Sn 400; ulimit -c 0; \
         nice -n 3 '{0}' run --wait --script '{asked}'; nice -n 3 sh -c '{asked}'",
        binary().display()
    );
    let mut command = host.other("sh");
    command.args(["-c", &script]);
    let text = to_the_end(command).ok().text();
    let lines: Vec<&str> = text.lines().collect();
    let (task, same) = lines.split_at(lines.len() / 2);
    assert!(task.len() >= 8, "{text}");
    assert_eq!(task, same);
    assert_eq!(task[..3], ["0027", "400", "0"]);
}

#[test]
fn variable_pwd_names_the_directory_of_the_task() {
    let host = TestHost::new();
    let (sub, link) = (host.work().join("sub"), host.root().join("link"));
    fs::create_dir(&sub).unwrap();
    std::os::unix::fs::symlink(host.work(), &link).unwrap();
    let pwd = |options: &[&str], pwd: &std::path::Path| {
        let words = [&["run", "--wait"][..], options, &["--", "printenv", "PWD"]].concat();
        let mut command = host.command(words);
        command.env("PWD", pwd);
        to_the_end(command).ok().text()
    };
    let elsewhere = ["--working-directory", sub.to_str().unwrap()];
    assert_eq!(pwd(&elsewhere, &host.work()), sub.to_str().unwrap());
    assert_eq!(pwd(&[], &host.work()), host.work().to_str().unwrap());
    // A path through symbolic links to the same directory is kept, because it is the path that the
    // person knows.
    assert_eq!(pwd(&[], &link), link.to_str().unwrap());
}

#[test]
fn tasks_run_under_a_limit_on_address_space() {
    let host = TestHost::new();
    let script = format!(
        "ulimit -v 4000000; '{}' run --wait -- echo hello",
        binary().display()
    );
    let mut command = host.other("sh");
    command.args(["-c", &script]);
    assert_eq!(to_the_end(command).ok().text(), "hello");
}

/// Runs a command under a limit.
fn limited(host: &TestHost, limit: &str, command: &str) -> Ran {
    let script = format!("ulimit {limit}; exec \"$0\" {command}");
    let mut shell = host.other("sh");
    shell.args(["-c", &script]).arg(binary());
    to_the_end(shell)
}

#[test]
fn host_refuses_to_start_under_a_limit_that_would_end_it() {
    let host = TestHost::new();
    for (limit, least) in [
        ("-v 300000", "a host needs 400.0 MiB"),
        ("-d 100000", "a host needs 256.0 MiB"),
        ("-t 30", "a host needs 1m"),
        ("-n 40", "a host needs 64"),
    ] {
        let named = format!("`ulimit {}`", &limit[..2]);
        let refused = limited(&host, limit, "up").code(125);
        refused.says(&["limited to", &named, least, "without this limit"]);
        assert!(host.host_pid().is_none());
    }
    // Only the soft limit is low, and the host raises it.
    limited(&host, "-S -t 30", "up").check();
}

/// A user whose processes and threads are only those of a test.
const LONE: u32 = 64_997;

/// A limit on processes applies to no command of root, and counts all threads of the user.
#[test]
fn host_refuses_to_start_under_a_limit_on_processes_that_leaves_it_too_few_threads() {
    assert!(
        geteuid().is_root(),
        "this test runs commands as another user: run it as root"
    );
    let host = TestHost::new();
    let claudine = host.root().join("claudine");
    fs::copy(binary(), &claudine).unwrap();
    for path in [host.root(), &claudine] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let home = host.root().join("lone");
    fs::create_dir(&home).unwrap();
    chown(&home, Some(LONE), Some(LONE)).unwrap();
    let data_dir = home.join("data");
    let user = LONE.to_string();
    let limited = |limit: u32, command: &[&str]| {
        let mut limited = host.other("setpriv");
        limited
            .args(["--reuid", &user, "--regid", &user, "--clear-groups"])
            .args(["prlimit", &format!("--nproc={limit}")])
            .arg(&claudine)
            .args(command)
            .env("CLAUDINE_DATA_DIR", &data_dir)
            .envs(["HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME"].map(|name| (name, &home)))
            .envs(["XDG_CACHE_HOME", "XDG_RUNTIME_DIR"].map(|name| (name, &home)))
            .current_dir(&home);
        to_the_end(limited)
    };
    let is_of_user =
        |process: &fs::DirEntry| process.metadata().is_ok_and(|found| found.uid() == LONE);
    // A process that has ended has no command line, even if nobody has reaped it.
    let is_alive = |process: &fs::DirEntry| {
        fs::read(process.path().join("cmdline")).is_ok_and(|line| !line.is_empty())
    };
    let is_alone = || {
        let mut processes = fs::read_dir("/proc").unwrap().flatten();
        let left = processes.any(|process| is_of_user(&process) && is_alive(&process));
        (!left).then_some(())
    };
    let mut named = false;
    for limit in [1, 2, 3, 7, 9, 12, 14, 18] {
        for command in [&["up"][..], &["run", "--", "true"]] {
            let refused = limited(limit, command).code(125);
            refused.says(&["`ulimit -u`"]);
            let complaint = refused.complaint();
            assert!(!complaint.contains("panicked"), "{limit}: {complaint}");
            let user = format!("threads of this user are limited to {limit} (`ulimit -u`)");
            named |= complaint.contains("a host needs") && complaint.contains(&user);
            wait_for("every process to end", is_alone);
        }
    }
    // Under the smallest limits, the command itself cannot start a thread.
    assert!(named, "no host named its limit");

    limited(400, &["up"]).check();
    limited(400, &["down"]).check();
    wait_for("every process to end", is_alone);
}

#[test]
fn command_with_too_small_a_stack_says_so() {
    let host = TestHost::new();
    for command in ["up", "list"] {
        let refused = limited(&host, "-s 64", command).code(125);
        refused.says(&["the stack is limited to 64.0 KiB (`ulimit -s`)", "1.0 MiB"]);
    }
    assert!(host.host_pid().is_none());
}

#[test]
fn host_with_limited_processor_time_says_that_it_will_end() {
    let host = TestHost::new();
    let up = limited(&host, "-t 7200", "up").ok();
    up.says(&["2h of processor time", "`ulimit -Ht`"]);
}

#[test]
fn command_substitution_with_run_returns_before_the_task_ends() {
    let host = TestHost::new();
    // Neither the host that `run` starts nor the task may keep the substitution's pipe open.
    let claudine = binary();
    let claudine = claudine.display();
    let mut command = host.other("sh");
    command.args([
        "-c",
        &format!("id=$('{claudine}' run -- sleep 600) && '{claudine}' cancel \"$id\""),
    ]);
    to_the_end(command).check();
}

#[test]
fn interrupt_ends_the_wait_and_not_the_task() {
    let host = TestHost::new();
    let mut waiting = host.command(["run", "--wait", "--script", "echo shown; exec sleep 600"]);
    let mut waiting = waiting
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Once it shows output, the command waits, and no longer submits.
    let mut shown = BufReader::new(waiting.stdout.take().unwrap()).lines();
    let mut before = String::new();
    while !before.contains("shown") {
        before += &shown.next().unwrap().unwrap();
    }
    let id = host.json(["list"])["tasks"][0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let pid = host.live(&id);
    signal(waiting.id(), Signal::INT);
    let left = waiting.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&left.stderr);
    let after: String = shown.map(Result::unwrap).collect();
    assert!((before + &after).contains(&id), "{after}: {stderr}");
    assert!(alive(pid));
    host.run(["cancel", &id]).check();
    assert_eq!(host.finished(&id)["outcome"], "cancelled");
}

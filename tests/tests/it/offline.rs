//! Reading tasks while no host runs: checks the answers, and that reading starts no host and
//! changes no file.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use claudine_tests::{
    TestHost,
    command::{self, Reading},
    harness::binary,
    process::{alive, kill_9},
    wait::PATIENCE,
    wait_for,
};
use serde_json::Value;

/// Every file below a directory, with its length and the time of its last change.
fn files(dir: &Path) -> BTreeMap<PathBuf, (u64, i64, i64)> {
    let mut found = BTreeMap::new();
    let Ok(entries) = fs::read_dir(dir) else {
        return found;
    };
    for entry in entries {
        let path = entry.unwrap().path();
        let it = fs::symlink_metadata(&path).unwrap();
        if it.is_dir() {
            found.extend(files(&path));
        }
        found.insert(path, (it.len(), it.mtime(), it.mtime_nsec()));
    }
    found
}

/// Commands that only read, among them one for this group and some for this task.
fn looks<'a>(task: &'a str, group: &'a str) -> Vec<Vec<&'a str>> {
    vec![
        vec!["list", "--group", group],
        vec!["status", task],
        vec!["why", task],
        vec!["logs", task],
        vec!["events", "--since", "0"],
        vec!["graph", task],
        vec!["checkpoint", task],
        vec!["group", "list"],
        vec!["worktree", "list"],
        vec!["slots"],
    ]
}

fn gone(host: &TestHost) {
    host.run(["down"]).check();
    wait_for("all processes to be gone", || {
        host.processes().is_empty().then_some(())
    });
}

/// The answer without its time, and without the fields that differ while no host runs.
fn without_host(mut answer: Value) -> Value {
    if let Some(answer) = answer.as_object_mut() {
        answer.remove("queue");
        answer.remove("reasons");
        answer.remove("brief");
        answer.remove("at");
    }
    answer
}

#[test]
fn reading_without_a_host_gives_the_same_answers_and_changes_nothing() {
    let host = TestHost::new();
    let id = host.text([
        "run",
        "--name",
        "build",
        "--group",
        "g",
        "--script",
        "echo out; exit 3",
    ]);
    host.finished(&id);
    host.run(["group", "set", "g", "--limit", "2"]).check();
    let answers = |host: &TestHost| -> Vec<Value> {
        let looks = looks(&id, "g").into_iter();
        looks
            .filter(|look| !matches!(look[0], "logs" | "events"))
            .map(|look| without_host(host.json(look)))
            .collect()
    };
    let output = |host: &TestHost| host.run(["logs", "build"]).ok().stdout;
    let (before, log) = (answers(&host), output(&host));
    gone(&host);
    let left = files(host.data_dir());
    assert_eq!(answers(&host), before);
    assert_eq!(output(&host), log);
    host.run(["list"])
        .ok()
        .says(&["no host is running", "claudine up"]);
    assert!(host.run(["capacity"]).ok().text().contains("cores in use"));
    assert_eq!(files(host.data_dir()), left);
    assert!(host.processes().is_empty());
}

#[test]
fn stored_tasks_are_shown_although_the_configuration_file_is_broken() {
    let host = TestHost::builder().config("slots = 4\n").build();
    let id = host.text(["run", "--group", "g", "--", "echo", "out"]);
    host.finished(&id);
    host.run(["group", "set", "g", "--limit", "2"]).check();
    let file = host.config_dir().join("claudine/config.toml");
    fs::write(&file, "slots = = 4\n").unwrap();
    let named = file.to_str().unwrap();
    let doctor = host.run(["doctor"]).code(1).text();
    assert!(
        doctor.contains("the next one cannot start") && doctor.contains("config.toml"),
        "{doctor}"
    );
    gone(&host);
    let more = [
        vec!["cost"],
        vec!["wait", &id],
        vec!["capacity"],
        vec!["plugin", "list"],
        vec!["plugin", "inspect", "shell"],
    ];
    for look in looks(&id, "g").into_iter().chain(more) {
        let ran = host.run(&look).ok();
        ran.says(&["warning: no host can start now", named]);
    }
    assert_eq!(host.text(["logs", &id]), "out");
    // What needs a host is refused as before.
    for change in [vec!["run", "--", "true"], vec!["up"], vec!["retry", &id]] {
        let refused = host.run(&change).code(2);
        refused.says(&["error: ", named]);
    }
    let down = host.run(["down"]).ok();
    assert!(!down.complaint().contains("may still run"), "{down}");
    assert!(host.processes().is_empty());
}

#[test]
fn reading_creates_no_data_directory() {
    let host = TestHost::builder().from_nothing().build();
    for look in looks("nobody", "g") {
        let ran = host.run(&look);
        let names_a_task = look.contains(&"nobody");
        assert_ne!(ran.status.success(), names_a_task, "{ran}");
    }
    assert_eq!(host.json(["list"])["tasks"], Value::Array(Vec::new()));
    assert!(!host.data_dir().exists());
    assert!(host.processes().is_empty());
}

#[test]
fn running_task_is_shown_and_followed_without_a_host() {
    let host = TestHost::builder().slots(1).build();
    let id = host.script("echo first; until test -e go; do sleep 0.1; done; echo last");
    let pid = host.live(&id);
    let queued = host.script("true");
    host.run(["down"]).check();
    assert_eq!(host.status(&id)["phase"], "live");
    let why = host.json(["why", &queued]);
    assert!(why["reasons"].to_string().contains("no host is running"));
    assert_eq!(why["brief"], "no host is running");
    let mut follow = Reading::start(host.command(["logs", "-f", &id]));
    assert_eq!(follow.line(), "first\n", "no output while the task runs");
    fs::write(host.work().join("go"), "").unwrap();
    wait_for("the task's end", || (!alive(pid)).then_some(()));
    assert!(host.host_pid().is_none(), "a host was started");
    // Only a host records the end, but no command claims that the process still runs.
    let ended = host.status(&id);
    assert_eq!(ended["phase"], "ended");
    assert_eq!(ended["attempts"][0]["pid"], Value::Null);
    let listed = host.json(["list", "--state", "running"]);
    assert_eq!(listed["tasks"][0]["phase"], "ended");
    host.up();
    let (rest, ended) = follow.rest();
    assert_eq!(rest, "last\n");
    assert!(ended.success(), "{ended}");
    assert_eq!(host.finished(&queued)["outcome"], "succeeded");
}

#[test]
fn task_whose_process_ended_without_a_host_is_neither_counted_nor_shown_as_running() {
    let host = TestHost::builder().slots(1).build();
    let id = host.text(["run", "--group", "g", "--", "sleep", "600"]);
    let pid = host.live(&id);
    let queued = host.script("true");
    host.kill_host();
    host.kill_supervisors();
    kill_9(pid);
    wait_for("the task's end", || (!alive(pid)).then_some(()));

    let id = id.as_str();
    for look in [
        vec!["graph", id],
        vec!["top"],
        vec!["status", id],
        vec!["why", id],
        vec!["list"],
    ] {
        let shown = host.text(&look);
        let words = shown
            .replace("no host is running", "")
            .replace("0 running", "");
        assert!(!words.contains("running"), "{look:?}: {shown}");
        assert!(words.contains("ended"), "{look:?}: {shown}");
    }
    assert_eq!(
        host.json(["graph", id])["nodes"][0]["elapsed_ms"],
        Value::Null
    );
    let found = |state: &str| {
        let listed = host.json(["list", "--state", state]);
        let tasks = listed["tasks"].as_array().unwrap().iter();
        tasks.map(|task| task["id"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(found("ended"), [id]);
    assert_eq!(found("running"), [id]);
    for phase in ["live", "finishing"] {
        assert_eq!(found(phase), [Value::Null; 0], "{phase}");
    }
    let capacity = host.json(["capacity"]);
    assert_eq!(capacity["running"], 0, "{capacity:#}");
    let groups = host.json(["group", "list"]);
    assert_eq!(groups[0]["running"], 0, "{groups:#}");
    let why = host.json(["why", id])["reasons"].to_string();
    assert!(
        why.contains("its process has ended; the next host reads the rest"),
        "{why}"
    );

    host.up();
    assert_eq!(host.finished(id)["outcome"], "lost");
    assert_eq!(host.finished(&queued)["outcome"], "succeeded");
}

/// A command in a container cannot see the processes of tasks outside the container. The test gives
/// the supervisor's record another namespace to simulate this case.
#[test]
fn task_in_another_pid_namespace_is_not_shown_as_ended() {
    let host = TestHost::new();
    let id = host.script("exec sleep 600");
    let pid = host.live(&id);
    host.run(["down"]).check();
    let notes = host.data_dir().join("supervisors/1/identity.json");
    let own = fs::read_link("/proc/self/ns/pid").unwrap();
    let own = own.to_str().unwrap();
    let noted = fs::read_to_string(&notes).unwrap();
    assert!(noted.contains(own), "{noted}");
    fs::write(&notes, noted.replace(own, "pid:[1]")).unwrap();
    // Kills the task's process, so that no command can see it, like a process in another namespace.
    kill_9(pid);
    wait_for("the task's end", || (!alive(pid)).then_some(()));

    let task = host.status(&id);
    assert_eq!(
        (&task["state"], &task["phase"]),
        (&"running".into(), &"live".into())
    );
    let why = host.text(["why", &id]);
    assert!(why.contains("cannot be seen from here"), "{why}");
    let listed = host.json(["list"]);
    assert_eq!(listed["tasks"][0]["phase"], "live", "{listed:#}");
    fs::write(&notes, &noted).unwrap();
    assert_eq!(host.status(&id)["phase"], "ended");
    // The lock shows in every namespace that a supervisor has ended.
    fs::write(&notes, noted.replace(own, "pid:[1]")).unwrap();
    assert_eq!(host.status(&id)["phase"], "live");
    host.kill_supervisors();
    assert_eq!(host.status(&id)["phase"], "ended");
}

/// In a time namespace, the same processes have other start times.
#[test]
fn task_in_another_time_namespace_is_not_shown_as_ended() {
    let host = TestHost::new();
    let id = host.script("exec sleep 600");
    let pid = host.live(&id);
    host.run(["down"]).check();
    let elsewhere = |words: &[&str]| {
        let mut command = host.other("unshare");
        command.args(["--time", "--boottime", "500000", "--fork"]);
        command.arg(binary()).args(words);
        command::run(command, b"", PATIENCE).ok()
    };
    let task = elsewhere(&["status", &id, "--json"]).json();
    assert_eq!(task["phase"], "live", "{task:#}");
    let why = elsewhere(&["why", &id]).text();
    assert!(why.contains("cannot be seen from here"), "{why}");
    assert_eq!(host.status(&id)["phase"], "live");
    host.run(["down", "--kill"]).check();
    assert!(!alive(pid));
}

#[test]
fn reading_does_not_disturb_a_host_that_starts_and_stops() {
    let host = TestHost::new();
    let id = host.script("echo out");
    host.finished(&id);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    assert_eq!(host.text(["logs", &id]), "out");
                    assert_eq!(host.status(&id)["outcome"], "succeeded");
                }
            });
        }
        for _ in 0..4 {
            host.run(["down"]).check();
            host.up();
            let id = host.script("true");
            assert_eq!(host.finished(&id)["outcome"], "succeeded");
        }
        over.store(true, Ordering::Relaxed);
    });
}

#[test]
fn data_of_a_killed_host_can_be_read() {
    let host = TestHost::new();
    let id = host.script("sleep 600");
    let pid = host.live(&id);
    host.kill_host();
    let left = files(host.data_dir());
    assert_eq!(host.status(&id)["phase"], "live");
    let names = |files: BTreeMap<PathBuf, _>| files.into_keys().collect::<Vec<_>>();
    assert_eq!(names(files(host.data_dir())), names(left));
    assert!(host.host_pid().is_none() && alive(pid));
}

/// Sets a pragma of this database, and creates the database if it is missing.
fn set(database: &Path, pragma: &str, value: &str) {
    let script = "import sqlite3, sys; db = sqlite3.connect(sys.argv[1]); \
        db.execute(f'pragma {sys.argv[2]} = {sys.argv[3]}'); db.close()";
    let mut python = Command::new("python3");
    let python = python.args(["-c", script]).arg(database);
    assert!(python.args([pragma, value]).status().unwrap().success());
}

/// If the first host is killed before it has created the tables, it leaves a database without
/// tables.
#[test]
fn database_without_tables_is_read_as_an_empty_queue() {
    let host = TestHost::new();
    let database = host.data_dir().join("claudine.db");
    set(&database, "journal_mode", "wal");
    assert!(fs::metadata(&database).unwrap().len() > 0);
    let left = files(host.data_dir());
    assert_eq!(host.json(["list"])["tasks"], Value::Array(Vec::new()));
    assert_eq!(files(host.data_dir()), left);
    host.run(["backup", "queue.backup"])
        .code(125)
        .says(&["nothing to back up"]);
    let id = host.script("true");
    assert_eq!(host.finished(&id)["outcome"], "succeeded");
}

#[test]
fn database_of_another_version_is_not_touched() {
    let host = TestHost::new();
    let id = host.script("true");
    host.finished(&id);
    gone(&host);
    let database = host.data_dir().join("claudine.db");
    let set = |version| set(&database, "user_version", version);
    set("1");
    let before = fs::read(&database).unwrap();
    host.run(["list"])
        .code(125)
        .says(&["written by an older version", "claudine up"]);
    assert_eq!(fs::read(&database).unwrap(), before);
    set("9999");
    host.run(["list"])
        .code(125)
        .says(&["written by a newer version"]);
    assert!(host.processes().is_empty());
}

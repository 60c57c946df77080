//! `kill -9` at any moment: of the host, and of the host together with its supervisor.
//!
//! Each task writes its beginning and its end into a file, and a copy of its output into another
//! file. The tests compare these files with the states and logs that the host shows.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader},
    process::Stdio,
    time::Duration,
};

use claudine_tests::{
    TestHost,
    process::{alive, kill_9},
    wait::{Random, any_moment_within},
    wait_for,
};
use serde_json::{Value, json};

const TASKS: usize = 20;
const KILLS: usize = 30;

/// A script that prints until a file `go` exists.
fn chatty(n: usize) -> String {
    format!(
        "echo begun >> runs.{n}; i=0; \
         until test -e go; do i=$((i+1)); echo \"task {n} line $i\"; echo \"task {n} line $i\" >> copy.{n}; sleep 0.3; done; \
         echo ended >> runs.{n}"
    )
}

#[test]
fn tasks_survive_the_death_of_the_host_at_any_moment() {
    let host = TestHost::builder().slots(TASKS + 4).build();
    let mut random = Random::seeded();
    let ids: Vec<String> = (0..TASKS).map(|n| host.script(&chatty(n))).collect();
    let pids: BTreeMap<&str, u32> = ids.iter().map(|id| (id.as_str(), host.live(id))).collect();

    let mut late = Vec::new();
    for round in 0..KILLS {
        // A submission is under way while the host dies. A repetition of the submission with the
        // same key returns the same task.
        let key = format!("late-{round}");
        let script = format!("echo ran >> late.{round}");
        let submission = ["run", "--idempotency-key", &key, "--script", &script];
        let under_way = host
            .command(submission)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        any_moment_within(Duration::from_millis(120), &mut random);
        kill_hosts(&host);
        let first = under_way.wait_with_output().unwrap();
        let id = host.text(submission);
        if first.status.success() {
            assert_eq!(
                String::from_utf8(first.stdout).unwrap().trim(),
                id,
                "an accepted task was lost"
            );
        }
        late.push(id);
        check_shown_as_running(&host, &pids, round);
    }

    fs::write(host.work().join("go"), "").unwrap();
    for (n, id) in ids.iter().enumerate() {
        let task = host.finished(id);
        assert_eq!(task["outcome"], "succeeded", "{task:#}");
        assert_eq!(task["attempts"].as_array().unwrap().len(), 1, "{task:#}");
        assert_eq!(read(&host, &format!("runs.{n}")), "begun\nended\n", "{id}");
        let log = String::from_utf8(host.run(["logs", id]).ok().stdout).unwrap();
        assert_eq!(
            log,
            read(&host, &format!("copy.{n}")),
            "{id}: the log differs from the output"
        );
    }
    for (round, id) in late.iter().enumerate() {
        assert_eq!(host.finished(id)["outcome"], "succeeded");
        assert_eq!(read(&host, &format!("late.{round}")), "ran\n");
    }
    let list = host.json(["list", "--limit", "1000"]);
    assert_eq!(
        list["tasks"].as_array().unwrap().len(),
        TASKS + KILLS,
        "tasks were lost or doubled"
    );
}

/// Checks that every task of `pids` is shown as running, with its original process.
fn check_shown_as_running(host: &TestHost, pids: &BTreeMap<&str, u32>, round: usize) {
    for (id, pid) in pids {
        // A host that has just started takes over its attempts one by one.
        wait_for(&format!("round {round}: {id} to be live again"), || {
            let task = host.status(id);
            assert_eq!(task["state"], "running", "round {round}: {task:#}");
            (task["phase"] == "live")
                .then(|| assert_eq!(pid_of(&task), Some(*pid), "round {round}: {task:#}"))
        });
        assert!(
            alive(*pid),
            "round {round}: {id} is shown as running but is not"
        );
    }
}

#[test]
fn no_process_survives_or_runs_twice_after_host_and_supervisor_die() {
    let host = TestHost::builder().slots(6).build();
    let running: Vec<String> = (0..6)
        .map(|n| {
            host.script(&format!(
                "echo begun >> runs.{n}; setsid sleep 600 & sleep 600 & exec sleep 600"
            ))
        })
        .collect();
    for id in &running {
        host.live(id);
    }
    let waiting: Vec<String> = (0..4)
        .map(|n| host.script(&format!("echo ran >> waited.{n}")))
        .collect();
    // Counts all processes that the tasks started.
    let of_tasks = || {
        let processes = host.processes();
        processes
            .into_iter()
            .filter(|found| found.command.contains("sleep 600"))
            .map(|found| found.pid)
            .collect::<Vec<u32>>()
    };
    let before = wait_for("the tasks' processes", || {
        Some(of_tasks()).filter(|pids| pids.len() == 18)
    });

    kill_hosts(&host);
    host.kill_supervisors();
    host.up();

    for id in &running {
        let task = host.finished(id);
        assert_eq!(
            (&task["outcome"], &task["reason"]["class"]),
            (&"lost".into(), &"lost".into()),
            "{task:#}"
        );
        assert_eq!(task["attempts"].as_array().unwrap().len(), 1);
    }
    assert_eq!(
        before.iter().filter(|pid| alive(**pid)).count(),
        0,
        "left alive: {:?}",
        of_tasks()
    );
    for (n, id) in waiting.iter().enumerate() {
        assert_eq!(host.finished(id)["outcome"], "succeeded");
        assert_eq!(read(&host, &format!("waited.{n}")), "ran\n");
    }
    for n in 0..6 {
        assert_eq!(read(&host, &format!("runs.{n}")), "begun\n");
    }
}

#[test]
fn supervisor_finishes_a_stop_after_the_death_of_the_host() {
    let host = TestHost::new();
    let id = host.script("trap 'touch asked' TERM INT; touch up; while :; do sleep 0.1; done");
    let pid = host.live(&id);
    let file = |name: &str| host.work().join(name).exists().then_some(());
    wait_for("the script to set its trap", || file("up"));
    host.run(["cancel", &id]).check();
    // A cancel is answered once it is on disk. The first signal shows that the supervisor has
    // received it too.
    wait_for("the first signal", || file("asked"));
    kill_hosts(&host);
    wait_for("the task's end", || (!alive(pid)).then_some(()));
    let task = host.finished(&id);
    assert_eq!(
        (&task["outcome"], task["attempts"].as_array().unwrap().len()),
        (&"cancelled".into(), 1)
    );
}

#[test]
fn attempt_is_lost_and_its_process_ended_if_only_the_supervisor_dies() {
    let host = TestHost::new();
    let id = host.script("echo begun >> runs; exec sleep 600");
    let pid = host.live(&id);
    host.kill_supervisors();
    let task = host.finished(&id);
    assert_eq!(task["outcome"], "lost", "{task:#}");
    assert!(!alive(pid));
    // The host goes on with another supervisor.
    assert_eq!(
        host.finished(&host.script("echo begun >> runs"))["outcome"],
        "succeeded"
    );
    assert_eq!(read(&host, "runs"), "begun\nbegun\n");
}

#[test]
fn task_starts_again_if_no_supervisor_could_be_started_for_it() {
    let host = TestHost::new();
    host.finished(&host.script("true"));
    prevent_next_supervisor(&host);
    let task = host.finished(&host.script("echo ran >> runs"));
    check_first_was_not_received(&task);
    assert_eq!(read(&host, "runs"), "ran\n");
}

#[test]
fn each_of_many_short_tasks_runs_once_although_hosts_are_killed() {
    let host = TestHost::new();
    let mut random = Random::seeded();
    let task = |n: usize| json!({"executor": "shell", "script": format!("echo {n} >> done.{n}")});
    let tasks: String = (0..120).map(|n| task(n).to_string() + "\n").collect();
    let ids = host.run_with(["submit", "-"], tasks.as_bytes()).ok().text();
    for _ in 0..5 {
        any_moment_within(Duration::from_millis(60), &mut random);
        kill_hosts(&host);
        host.up();
    }
    let ended = host.json(["wait"].into_iter().chain(ids.lines()));
    let ended = ended.as_array().unwrap();
    assert_eq!(ended.len(), 120);
    for (n, task) in ended.iter().enumerate() {
        assert_eq!(task["outcome"], "succeeded", "{task:#}");
        assert_eq!(
            read(&host, &format!("done.{n}")),
            format!("{n}\n"),
            "{task:#}"
        );
    }
}

/// Kills the host's only supervisor, and creates a file with the name of the next supervisor's
/// directory, so that this supervisor cannot start. The supervisor after it can start.
pub(crate) fn prevent_next_supervisor(host: &TestHost) {
    host.kill_supervisors();
    let supervisors = host.data_dir().join("supervisors");
    wait_for("the host to clean up after its supervisor", || {
        (!supervisors.join("1").exists()).then_some(())
    });
    fs::write(supervisors.join("2"), "").unwrap();
}

/// Checks that the second attempt of the task has succeeded, and that no supervisor received the
/// first one.
#[track_caller]
fn check_first_was_not_received(task: &Value) {
    assert_eq!(task["outcome"], "succeeded", "{task:#}");
    let attempts = task["attempts"].as_array().unwrap();
    assert_eq!(attempts.len(), 2, "{task:#}");
    let message = attempts[0]["reason"]["message"].as_str().unwrap();
    let expected = "no supervisor received its start: ";
    assert!(message.starts_with(expected), "{task:#}");
}

/// Kills every host of this data directory with `kill -9`, including one that is still starting.
fn kill_hosts(host: &TestHost) {
    for found in host
        .processes()
        .iter()
        .filter(|found| found.command.contains(" serve"))
    {
        kill_9(found.pid);
        wait_for("the killed host to be gone", || {
            (!alive(found.pid)).then_some(())
        });
    }
}

fn pid_of(task: &Value) -> Option<u32> {
    u32::try_from(task["attempts"].as_array()?.last()?["pid"].as_u64()?).ok()
}

fn read(host: &TestHost, name: &str) -> String {
    fs::read_to_string(host.work().join(name)).unwrap_or_default()
}

/// Script that waits for the file that its second argument names, and then locks the store until
/// its standard input ends. It prints `held` once it has the lock.
const HOLD: &str = "
import os, sqlite3, sys
db = sqlite3.connect(sys.argv[1], timeout=0, isolation_level=None)
db.execute('select count(*) from task').fetchall()
print('ready', flush=True)
while not os.path.exists(sys.argv[2]): pass
while True:
    try:
        db.execute('begin immediate')
        break
    except sqlite3.OperationalError: pass
print('held', flush=True)
sys.stdin.read()
";

/// The task's process runs, and the host dies before the start is recorded.
#[test]
fn process_whose_start_was_not_recorded_is_found_by_the_next_host() {
    let host = TestHost::new();
    host.up();
    let up = host.work().join("up");
    let mut holder = host.other("python3");
    holder.args(["-c", HOLD]);
    holder.args([&host.data_dir().join("claudine.db"), &up]);
    let mut holder = holder
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(holder.stdout.take().unwrap()).lines();
    assert_eq!(said.next().unwrap().unwrap(), "ready");
    let id = host.script("echo $$ > pid; : > up; until test -e go; do sleep 0.1; done");
    assert_eq!(said.next().unwrap().unwrap(), "held");
    host.kill_host();
    drop(holder.stdin.take());
    assert!(holder.wait().unwrap().success());
    host.up();
    let pid = host.live(&id);
    let written = fs::read_to_string(host.work().join("pid")).unwrap();
    assert_eq!(written.trim(), pid.to_string());
    fs::write(host.work().join("go"), "").unwrap();
    let task = host.finished(&id);
    assert_eq!(task["outcome"], "succeeded");
    assert_eq!(task["attempts"].as_array().unwrap().len(), 1);
}

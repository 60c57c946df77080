//! Processes that resist their end, random kills of the host and the supervisor, and great numbers
//! of processes, tasks and bytes. The supervisor alone is tested in `supervise/tests`; the tests
//! here run the whole host.

use std::{fs, os::unix::fs::MetadataExt, path::PathBuf, thread, time::Duration};

use claudine_tests::{
    TestHost,
    process::alive,
    wait::{PATIENCE, Random, any_moment_within, wait_at_most},
    wait_for,
};
use serde_json::Value;

/// A cgroup with a limit on processes; it is removed at the end of the test.
struct PidsLimit(PathBuf);

impl PidsLimit {
    /// Makes the cgroup if the pids controller of cgroup version 1 or 2 is writable.
    fn new(most: u32) -> Option<Self> {
        let name = format!("claudine-test-{}", std::process::id());
        let hierarchies = ["/sys/fs/cgroup/pids", "/sys/fs/cgroup"];
        hierarchies.iter().find_map(|hierarchy| {
            let group = Self(PathBuf::from(hierarchy).join(&name));
            fs::create_dir(&group.0).ok()?;
            fs::write(group.0.join("pids.max"), most.to_string()).ok()?;
            Some(group)
        })
    }

    fn count(&self) -> usize {
        let pids = fs::read_to_string(self.0.join("cgroup.procs")).unwrap();
        pids.lines().count()
    }
}

impl Drop for PidsLimit {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir(&self.0) {
            eprintln!("{} stays behind: {error}", self.0.display());
        }
    }
}

/// A user without other processes, for a limit on the processes of one user.
const BOMBER: u32 = 64_999;

/// The limit on the processes of a bomb: more than [`goes_off`] waits for.
const MOST: u32 = 200;

/// Number of living processes of a user. A process that disappears while it is read does not count.
fn processes_of(user: u32) -> usize {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_of_user = |pid: &u32| {
        let owner = fs::metadata(format!("/proc/{pid}")).map(|found| found.uid());
        owner.is_ok_and(|owner| owner == user) && alive(*pid)
    };
    pids.filter(is_of_user).count()
}

/// A fork bomb that ignores the first signals and cannot collapse: a process whose fork fails tries
/// again. (A shell exits when a fork fails, so a bomb of shells may end before it has taken all
/// places.)
const BOMB: &str = "perl -e '$SIG{TERM} = $SIG{INT} = \"IGNORE\"; \
    while (1) { defined(fork) or select undef, undef, undef, 0.1 }'";

/// Starts a fork bomb and cancels it; `count` returns the number of its processes. Checks that the
/// host answers meanwhile, and that no process of the bomb remains.
fn goes_off(host: &TestHost, script: &str, count: impl Fn() -> usize) {
    let id = host.script(script);
    wait_for("the bomb to have gone off", || {
        (count() >= 100).then_some(())
    });
    assert_eq!(
        host.text(["run", "--wait", "--", "echo", "still there"]),
        "still there"
    );
    host.run(["cancel", &id]).check();
    let task = host.finished(&id);
    assert_eq!(task["outcome"], "cancelled", "{task:#}");
    assert_eq!(
        count(),
        0,
        "processes are left when the task counts as ended"
    );
}

#[test]
fn fork_bomb_in_its_own_cgroup_is_ended_while_the_host_answers() {
    let Some(limit) = PidsLimit::new(MOST) else {
        eprintln!(
            "SKIPPED: the pids controller is not writable here; the bomb of another user is still tested"
        );
        return;
    };
    let script = format!(
        "echo $$ > {}/cgroup.procs && exec {BOMB}",
        limit.0.display()
    );
    goes_off(&TestHost::new(), &script, || limit.count());
}

#[test]
fn fork_bomb_of_another_user_is_ended_while_the_host_answers() {
    assert!(
        rustix::process::geteuid().is_root(),
        "this test runs a process as another user: run it as root"
    );
    let script = format!(
        "exec setpriv --reuid {BOMBER} --regid {BOMBER} --clear-groups prlimit --nproc={MOST} {BOMB}"
    );
    goes_off(&TestHost::new(), &script, || processes_of(BOMBER));
}

/// Scripts whose processes try to escape the end of their task, each in another way: they leave the
/// task's process group or session, outlive their parent process, ignore or block the first signal,
/// lose the marker in the environment, or hold the output open.
const ESCAPES: [&str; 7] = [
    // A classic daemon: two forks, a session, no descriptors, another directory.
    "setsid sh -c 'cd /; exec 0<&- 1>&- 2>&-; sh -c \"trap : TERM INT HUP; echo \\$\\$ >> $PIDS; while :; do sleep 1; done\" & exit' &",
    "setsid -f sh -c 'trap : TERM INT HUP; echo $$ >> $PIDS; while :; do sleep 1; done'",
    "(trap '' TERM INT HUP; sh -c 'echo $$ >> $PIDS; exec sleep 600') &",
    // The process has no marker in its environment.
    "env -i PIDS=$PIDS sh -c 'trap : TERM; echo $$ >> $PIDS; while :; do sleep 1; done' &",
    "set -m; sh -c 'trap : TERM INT; echo $$ >> $PIDS; while :; do sleep 1; done' & set +m;",
    // The process holds the output open.
    "nohup sh -c 'echo $$ >> $PIDS; exec sleep 600' &",
    "python3 -c 'import os,signal,time\nos.setpgid(0,0)\nsignal.pthread_sigmask(signal.SIG_BLOCK,set(range(1,32)))\nopen(os.environ[\"PIDS\"],\"a\").write(str(os.getpid())+\"\\n\")\ntime.sleep(600)' &",
];

/// Starts a process for each way to escape; returns the task's id and the pids of all these
/// processes, which they note in a file of this name.
fn escapees(host: &TestHost, name: &str, then: &str) -> (String, Vec<u32>) {
    let file = host.work().join(name);
    fs::write(&file, "").unwrap();
    let script = format!(
        "export PIDS={}\n{}\n{then}",
        file.display(),
        ESCAPES.join("\n")
    );
    let id = host.script(&script);
    let all = wait_for("all to have escaped", || {
        let text = fs::read_to_string(&file).unwrap_or_default();
        let pids: Vec<u32> = text.lines().filter_map(|line| line.parse().ok()).collect();
        Some(pids).filter(|pids| pids.len() == ESCAPES.len())
    });
    (id, all)
}

/// The tasks end at the same time, because the processes of each have some seconds to end.
#[test]
fn escaped_processes_are_ended_with_their_task() {
    let host = &TestHost::new();
    host.up();
    let check = |name: &str, then: &str, cancel: bool, outcome: &str| {
        let (id, pids) = escapees(host, name, then);
        if cancel {
            host.run(["cancel", &id]).check();
        }
        let task = host.finished(&id);
        let left: Vec<&u32> = pids.iter().filter(|pid| alive(**pid)).collect();
        assert_eq!(task["outcome"], outcome, "{task:#}");
        assert_eq!(
            left,
            Vec::<&u32>::new(),
            "{then}: processes were left when the task counted as ended"
        );
    };
    let all_noted = format!(
        "until test $(wc -l < $PIDS) -eq {}; do sleep 0.1; done; exit 0",
        ESCAPES.len()
    );
    let traps = "trap : TERM INT; while :; do sleep 1; done";
    let closes = "exec 0<&- 1>&- 2>&-; sleep 600";
    thread::scope(|scope| {
        scope.spawn(|| check("ends", &all_noted, false, "succeeded"));
        scope.spawn(|| check("traps", traps, true, "cancelled"));
        scope.spawn(|| check("closes", closes, true, "cancelled"));
    });
}

#[test]
fn gigabytes_of_output_fill_neither_memory_nor_disk() {
    const CAP: u64 = 8 << 20;
    let host = TestHost::new();
    // Running a first task loads code into memory, which must not count as growth.
    let first = host.script("echo first");
    host.finished(&first);
    host.text(["logs", &first]);
    let pids: Vec<u32> = host
        .host_pid()
        .into_iter()
        .chain(host.supervisor_pids())
        .collect();
    let before: u64 = pids.iter().map(|pid| resident(*pid)).sum();
    let cap = CAP.to_string();
    let script = "echo begin; head -c 2G /dev/zero; echo; echo end";
    let id = host.text(["run", "--max-output", &cap, "--script", script]);
    let task = host.finished(&id);
    assert_eq!(task["outcome"], "succeeded", "{task:#}");
    let after: u64 = pids.iter().map(|pid| resident(*pid)).sum();
    let grown = after.saturating_sub(before);
    assert!(
        grown < 16 << 20,
        "host and supervisor have grown by {grown} bytes"
    );
    assert!(on_disk(&host.data_dir().join("logs")) < 3 * CAP);
    let output = host.run(["logs", "--raw", &id]).ok();
    assert!(output.stdout.starts_with(b"begin\n\0\0\0"));
    assert!(output.stdout.ends_with(b"\0\nend\n"));
    assert!((output.stdout.len() as u64) <= CAP + 4096);
    output.says(&["left out"]);
}

fn resident(pid: u32) -> u64 {
    let statm = fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    let pages = statm
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * 4096
}

fn on_disk(folder: &std::path::Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else {
        return 0;
    };
    let sizes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => on_disk(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    });
    sizes.sum()
}

#[test]
fn line_of_a_hundred_megabytes_is_returned_completely() {
    let host = TestHost::new();
    let id = host.script("head -c 100M /dev/zero | tr '\\0' 'y'; printf z");
    assert_eq!(host.finished(&id)["outcome"], "succeeded");
    let output = host.run(["logs", &id]).ok().stdout;
    assert_eq!(output.len(), (100 << 20) + 1);
    assert!(output.starts_with(b"yyy") && output.ends_with(b"yz"));
    let tail = host.run(["logs", "--tail", "1", &id]).ok().stdout;
    assert_eq!(tail.len(), output.len(), "the last line is not complete");
    let shown = host.status(&id);
    assert_eq!(shown["output_truncated"], true);
    assert!(shown["output"].as_str().unwrap().len() <= 64 << 10);
}

#[test]
fn binary_output_is_kept_and_cannot_control_a_terminal() {
    const WILD: &[u8] = b"\xff\xfe\x00 \x1b[2J\x1b]0;title\x07 \xe2\x80\xae r\rn\n";
    let host = TestHost::new();
    fs::write(host.work().join("wild"), WILD).unwrap();
    let id = host.text(["run", "--", "cat", "wild", "\u{1b}[2J\u{202e}"]);
    // `cat` fails, because its second file does not exist.
    assert_eq!(host.finished(&id)["exit_code"], 1);
    let bytes = host.run(["logs", "--stream", "stdout", &id]).ok().stdout;
    assert_eq!(bytes, WILD, "`logs` has changed the bytes");
    for shown in [vec!["status", &id], vec!["list"], vec!["why", &id]] {
        let shown = host.run(&shown).ok();
        let text = std::str::from_utf8(&shown.stdout).expect("the output is text");
        assert!(!text.contains(['\u{1b}', '\u{7}', '\u{202e}']), "{shown}");
    }
    // In JSON, control characters are escaped, and invalid UTF-8 is replaced.
    let task = host.status(&id);
    assert!(
        task["output"].as_str().unwrap().contains('\u{fffd}'),
        "{task:#}"
    );
}

const KILLS: usize = 12;

#[derive(Clone, Copy)]
enum Kill {
    Host,
    Supervisors,
}

#[test]
fn no_task_runs_twice_or_is_forgotten_if_host_and_supervisor_are_killed() {
    let host = TestHost::builder().slots(8).build();
    let mut random = Random::seeded();
    let mut ids = Vec::new();
    for round in 0..KILLS {
        for n in 0..4 {
            let name = format!("r{round}.{n}");
            let script = format!("echo begun >> {name}; sleep 0.2; echo ended >> {name}");
            // The socket of a host that is being killed may still accept a request; the key makes
            // it safe to repeat the request.
            let id = host.text(["run", "--idempotency-key", &name, "--script", &script]);
            ids.push((id, name));
        }
        any_moment_within(Duration::from_millis(300), &mut random);
        let kills: &[Kill] = match random.below(4) {
            0 => &[Kill::Host],
            1 => &[Kill::Supervisors],
            2 => &[Kill::Host, Kill::Supervisors],
            _ => &[Kill::Supervisors, Kill::Host],
        };
        for kill in kills {
            match kill {
                Kill::Host if host.host_pid().is_some() => _ = host.kill_host(),
                Kill::Host => {}
                Kill::Supervisors => host.kill_supervisors(),
            }
            any_moment_within(Duration::from_millis(20), &mut random);
        }
    }
    let named = ids.iter().map(|(id, _)| id.as_str());
    let waited = host.run(["wait", "--json"].into_iter().chain(named)).json();
    let tasks = waited.as_array().unwrap();
    assert_eq!(tasks.len(), ids.len());
    for ((id, name), task) in ids.iter().zip(tasks) {
        assert_eq!(task["id"], **id);
        let notes = fs::read_to_string(host.work().join(name)).unwrap_or_default();
        let begun = notes.matches("begun").count();
        // A task that has begun is retried only on request, so no task has run twice. A successful
        // task has done all of its work.
        match task["outcome"].as_str() {
            Some("succeeded") => assert_eq!(notes, "begun\nended\n", "{task:#}"),
            Some("lost") => assert!(begun <= 1, "{notes} {task:#}"),
            _ => panic!("{notes} {task:#}"),
        }
    }
    let list = host.json(["list", "--limit", "1000"]);
    assert_eq!(list["tasks"].as_array().map(Vec::len), Some(ids.len()));
}

const SLEEPING: usize = 1_000;
const QUEUED: usize = 5_000;
/// The number of queued tasks that are run while the others sleep. Running all queued tasks would
/// take minutes on a machine that also does other work.
const RUN: usize = 200;

/// Submits this number of tasks to the host in one request.
fn submit_many(host: &TestHost, count: usize, script: &str) {
    let task = serde_json::json!({"executor": "shell", "script": script}).to_string();
    let lines = format!("{task}\n").repeat(count);
    let ids = host.run_with(["submit", "-"], lines.as_bytes()).ok().text();
    assert_eq!(ids.lines().count(), count);
}

fn counts(host: &TestHost) -> (u64, u64) {
    let info: Value = host.ask("/v1/host", ["slots"]);
    (
        info["running"].as_u64().unwrap(),
        info["queued"].as_u64().unwrap(),
    )
}

#[test]
fn thousand_tasks_run_while_five_thousand_wait() {
    let host = TestHost::builder().slots(SLEEPING).build();
    host.up();
    let pid = host.host_pid().unwrap();
    host.text(["run", "--wait", "--", "true"]);
    let empty = resident(pid);
    submit_many(&host, SLEEPING, "sleep 900");
    wait_for("a thousand tasks to run", || {
        (counts(&host).0 == SLEEPING as u64).then_some(())
    });
    let each = resident(pid).saturating_sub(empty) / SLEEPING as u64;
    eprintln!("{each} bytes of the host's memory for each sleeping task");
    assert!(each < 400 << 10, "{each} bytes for each task");
    submit_many(&host, QUEUED, "true");
    assert_eq!(counts(&host), (SLEEPING as u64, QUEUED as u64));
    // The next host has all these tasks.
    host.kill_host();
    wait_for("the next host to take over all tasks", || {
        (counts(&host) == (SLEEPING as u64, QUEUED as u64)).then_some(())
    });
    assert_eq!(host.text(["slots", "1010"]), "1010");
    let waiting = (QUEUED - RUN) as u64;
    let done = wait_at_most(4 * PATIENCE, || (counts(&host).1 <= waiting).then_some(()));
    assert!(done.is_some(), "{} tasks still wait", counts(&host).1);
    host.run(["down", "--kill"]).check();
    assert!(host.processes().is_empty(), "{:?}", host.processes());
}

//! Leftovers of a task are ended, whatever they did to escape, and no other process is ended.

use super::*;

#[tokio::test]
async fn no_descendant_outlives_its_leader() {
    let mut lab = Lab::new().await;
    let mut check = async |name: &str, script: &str| {
        let script = format!("{script}\necho $!; echo started");
        let (exit, ended) = lab.run(lab.script(name, &script)).await;
        assert_eq!((exit.status, ended), (Status::Code(0), false), "{name}");
        let swept = lab.host.ended(&key(name)).await;
        assert!(swept >= 1, "{name} left {swept}");
        assert_eq!(marked(name), [0; 0], "{name}");
    };
    check("same-group.1", "sleep 1000 &").await;
    check("holds-no-pipe.1", "sleep 1000 > /dev/null 2>&1 &").await;
    check("own-group.1", "set -m; sleep 1000 > /dev/null 2>&1 &").await;
    check("session.1", "setsid sleep 1000 > /dev/null 2>&1 &").await;
    check(
        "daemon.1",
        "setsid sh -c 'setsid sleep 1000 > /dev/null 2>&1 < /dev/null & exit' &",
    )
    .await;
    check(
        "deaf.1",
        "setsid sh -c 'trap \"\" TERM; sleep 1000 & wait; sleep 1000' > /dev/null 2>&1 &",
    )
    .await;
}

#[tokio::test]
async fn a_descendant_without_its_marker_is_ended() {
    let mut lab = Lab::new().await;
    let script = "setsid env -i sh -c 'echo $$ > pid; exec sleep 1000' > /dev/null 2>&1 & while ! test -s pid; do :; done";
    lab.run(lab.script("t.1", script)).await;
    lab.host.ended(&key("t.1")).await;
    let pid: u32 = std::fs::read_to_string(lab.dir.path().join("pid"))
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    assert!(!is_alive(pid));
}

/// Other attempts, to which the process could belong, run at the same time.
#[tokio::test]
async fn a_descendant_known_only_by_its_tag_is_ended_with_its_own_attempt() {
    let mut lab = Lab::new().await;
    let escape = |environment: &str| {
        format!(
            "rm -f pid; setsid setsid env -i {environment} \
             sh -c 'echo $$ > pid; exec sleep 1000' > /dev/null 2>&1 & \
             while ! test -s pid; do :; done"
        )
    };
    let pid = |dir: &Path| -> u32 {
        let text = std::fs::read_to_string(dir.join("pid")).unwrap();
        text.trim().parse().unwrap()
    };
    let others = escape("") + "; echo up; sleep 1000";
    lab.start(lab.script("other.1", &others)).await;
    lab.lines("other.1", 1).await;
    let others = pid(lab.dir.path());
    for (name, environment) in [("t.1", ""), ("made-up.1", "CLAUDINE_ATTEMPT=nobody.1")] {
        lab.run(lab.script(name, &escape(environment))).await;
        lab.host.ended(&key(name)).await;
        assert!(!is_alive(pid(lab.dir.path())), "{name}");
    }
    assert!(is_alive(others));
    lab.stop(key("other.1"), StopWhy::Cancelled, Vec::new())
        .await;
    lab.host.ended(&key("other.1")).await;
    assert!(!is_alive(others));
}

/// Another attempt, to which the process could belong, runs at the same time.
#[tokio::test]
async fn a_process_without_any_mark_is_ended_if_it_was_a_descendant_when_the_stop_began() {
    let mut lab = Lab::new().await;
    lab.start(lab.script("other.1", "echo up; sleep 1000"))
        .await;
    lab.lines("other.1", 1).await;
    // Everything but the last process ends at the first signal.
    let script = "setsid sh -c 'prlimit --locks=unlimited setsid env -i \
                  sh -c \"trap : TERM; echo \\$\\$; while :; do sleep 1; done\" & wait'";
    lab.start(lab.script("t.1", script)).await;
    let pid: u32 = lab.lines("t.1", 1).await[0].parse().unwrap();
    let politely = Rung {
        signal: Signal::Term,
        wait: Duration::from_secs(10),
    };
    lab.stop(key("t.1"), StopWhy::Cancelled, vec![politely])
        .await;
    lab.host.ended(&key("t.1")).await;
    assert!(!is_alive(pid));
    lab.stop(key("other.1"), StopWhy::Cancelled, Vec::new())
        .await;
    lab.host.ended(&key("other.1")).await;
}

/// Starts a process that has none of the marks of its attempt, and waits until it runs. Its pid is
/// in the file `pid`.
fn unmarked(environment: &str, output: &str) -> String {
    format!(
        "rm -f pid; prlimit --locks=unlimited setsid setsid env -i {environment} \
         sh -c 'echo $$ > pid; exec sleep 1000' {output} & \
         while ! test -s pid; do :; done"
    )
}

fn pid_in(dir: &Path) -> u32 {
    let text = std::fs::read_to_string(dir.join("pid")).unwrap();
    text.trim().parse().unwrap()
}

/// Another attempt, to which the process could belong, runs at the same time.
#[tokio::test]
async fn a_process_without_any_mark_is_ended_with_the_attempt_whose_output_it_holds_open() {
    let mut lab = Lab::new().await;
    lab.start(lab.script("other.1", "echo up; sleep 1000"))
        .await;
    lab.lines("other.1", 1).await;
    for (name, environment) in [("t.1", ""), ("made-up.1", "CLAUDINE_ATTEMPT=nobody.1")] {
        let script = unmarked(environment, "");
        lab.run(lab.script(name, &script)).await;
        lab.host.ended(&key(name)).await;
        assert!(!is_alive(pid_in(lab.dir.path())), "{name}");
    }
    lab.stop(key("other.1"), StopWhy::Cancelled, Vec::new())
        .await;
    lab.host.ended(&key("other.1")).await;
}

#[tokio::test]
async fn a_process_without_any_mark_does_not_belong_to_an_attempt_that_began_after_it() {
    let mut lab = Lab::new().await;
    lab.fifo("fifo");
    let script = unmarked("", "> /dev/null 2>&1") + "; echo up; read line < fifo";
    let start = lab.script("t.1", &script);
    let child = start.child.clone();
    lab.start(start).await;
    lab.lines("t.1", 1).await;
    let pid = pid_in(lab.dir.path());
    let start_time = procfs::stat(pid).unwrap().start_time;
    // A process that starts in the same tick could be an ancestor.
    while procfs::ticks_since_boot() <= start_time {
        tokio::task::yield_now().await;
    }
    lab.start(lab.script("later.1", "echo up; sleep 1000"))
        .await;
    lab.lines("later.1", 1).await;
    std::fs::write(lab.dir.path().join("fifo"), "go\n").unwrap();
    let (_, ended) = lab.host.exit(&child).await;
    assert!(!ended);
    lab.host.ended(&key("t.1")).await;
    assert!(!is_alive(pid));
    lab.stop(key("later.1"), StopWhy::Cancelled, Vec::new())
        .await;
    lab.host.ended(&key("later.1")).await;
}

#[tokio::test]
async fn a_process_without_any_mark_is_ended_once_no_leader_of_its_attempts_runs() {
    let mut lab = Lab::new().await;
    lab.fifo("fifo");
    lab.fifo("last");
    // The leftover of this attempt stays until it is killed.
    let drains = "(trap '' TERM; echo up; exec sleep 1000) & read line < fifo";
    let drains = lab.script("drains.1", drains);
    let child = drains.child.clone();
    lab.start(drains).await;
    lab.lines("drains.1", 1).await;
    let script = unmarked("", "> /dev/null 2>&1") + "; echo up; read line < last";
    lab.start(lab.script("t.1", &script)).await;
    lab.lines("t.1", 1).await;
    let pid = pid_in(lab.dir.path());
    std::fs::write(lab.dir.path().join("fifo"), "go\n").unwrap();
    let (_, ended) = lab.host.exit(&child).await;
    assert!(!ended);
    assert!(is_alive(pid), "an attempt to which it may belong runs");
    std::fs::write(lab.dir.path().join("last"), "go\n").unwrap();
    lab.host.ended(&key("t.1")).await;
    assert!(!is_alive(pid));
    lab.stop(key("drains.1"), StopWhy::Cancelled, Vec::new())
        .await;
    lab.host.ended(&key("drains.1")).await;
}

/// `/proc` shows such a process as a zombie.
#[tokio::test]
async fn a_process_whose_main_thread_has_ended_is_ended() {
    let mut lab = Lab::new().await;
    let python = "import ctypes, os, platform, threading, time\n\
                  threading.Thread(target=time.sleep, args=(1000,)).start()\n\
                  exit_thread = 60 if platform.machine() == \"x86_64\" else 93\n\
                  open(\"pid\", \"w\").write(str(os.getpid()))\n\
                  ctypes.CDLL(None).syscall(exit_thread, 0)";
    let script = format!(
        "setsid python3 -c '{python}' > /dev/null 2>&1 & \
         until test -s pid && grep -q '^State:.Z' /proc/$(cat pid)/status; do :; done"
    );
    lab.run(lab.script("t.1", &script)).await;
    lab.host.ended(&key("t.1")).await;
    let pid = pid_in(lab.dir.path());
    assert!(procfs::stat(pid).is_none(), "process {pid} was not ended");
}

#[tokio::test]
async fn a_process_that_forks_and_ends_over_and_over_is_ended() {
    let mut lab = Lab::new().await;
    let hop = "import os\nwhile True:\n  if os.fork(): os._exit(0)\n  os.setsid()";
    for name in ["t.1", "t.2", "t.3", "t.4", "t.5"] {
        let script = format!("python3 -c '{hop}' > /dev/null 2>&1 &");
        lab.run(lab.script(name, &script)).await;
        lab.host.ended(&key(name)).await;
        assert_eq!(marked(name), [0; 0], "{name}");
    }
}

#[tokio::test]
async fn a_process_detached_on_purpose_lives_on() {
    let mut lab = Lab::new().await;
    let script = "CLAUDINE_DETACHED=1 setsid sh -c 'echo up > up; exec sleep 1000' > /dev/null 2>&1 & \
                  while ! test -s up; do :; done; echo $!";
    lab.run(lab.script("t.1", script)).await;
    lab.finish(key("t.1")).await;
    lab.host.ended(&key("t.1")).await;
    let pid: u32 = lab.text("t.1").trim().parse().unwrap();
    assert!(is_alive(pid));
    kill(pid);
}

#[tokio::test]
async fn leftovers_of_other_attempts_are_left_alone() {
    let mut lab = Lab::new().await;
    lab.start(lab.script("other.1", "setsid sleep 1000 & echo $!; wait"))
        .await;
    let other: u32 = lab.lines("other.1", 1).await[0].parse().unwrap();
    lab.run(lab.script("t.1", "setsid sleep 1000 > /dev/null 2>&1 &"))
        .await;
    lab.host.ended(&key("t.1")).await;
    assert!(is_alive(other));
    lab.stop(key("other.1"), StopWhy::Cancelled, Vec::new())
        .await;
    lab.host.ended(&key("other.1")).await;
    assert!(!is_alive(other));
}

#[tokio::test]
async fn output_of_a_leftover_is_kept_until_it_ends() {
    let mut lab = Lab::new().await;
    let script = "(trap 'echo last words; exit' TERM; echo up; : > up; while :; do sleep 0.02; done) & \
                  until test -e up; do sleep 0.02; done; echo leader done";
    let (_, ended) = lab.run(lab.script("t.1", script)).await;
    assert!(!ended);
    lab.host.ended(&key("t.1")).await;
    assert_eq!(lab.text("t.1"), "up\nleader done\nlast words\n");
}

#[tokio::test]
async fn a_child_that_closes_its_output_runs_on_to_its_own_exit() {
    let mut lab = Lab::new().await;
    let (exit, ended) = lab
        .run(lab.script(
            "t.1",
            "echo before; exec > /dev/null 2>&1; sleep 0.1; exit 4",
        ))
        .await;
    assert_eq!((exit.status, ended), (Status::Code(4), true));
    assert_eq!(lab.text("t.1"), "before\n");
}

#[tokio::test]
async fn a_burst_of_orphans_is_reaped_while_the_leader_runs() {
    let mut lab = Lab::new().await;
    let script = "for i in $(seq 200); do (sh -c : & ) ; done; echo done; read line < fifo";
    lab.fifo("fifo");
    lab.start(lab.script("t.1", script)).await;
    lab.lines("t.1", 1).await;
    let supervisor = lab.supervisor_pid();
    let orphans = move || {
        procfs::all()
            .unwrap()
            .into_iter()
            .filter(move |process| process.parent == supervisor)
    };
    let leader = procfs::stat(marked("t.1")[0]).unwrap();
    tokio::task::spawn_blocking(move || {
        for process in orphans()
            .filter(|process| process.session == leader.session && process.pid != leader.session)
        {
            wait_gone(process.pid);
        }
    })
    .await
    .unwrap();
    std::fs::write(lab.dir.path().join("fifo"), "go\n").unwrap();
    let (_, ended) = lab.host.exit(&ChildId::new(key("t.1"), 0)).await;
    assert!(ended);
    let zombies = procfs::all()
        .unwrap()
        .into_iter()
        .filter(|process| process.parent == supervisor && process.is_zombie());
    assert_eq!(zombies.count(), 0);
}

#[tokio::test]
async fn a_leftover_that_floods_its_output_does_not_delay_other_children() {
    let mut lab = Lab::new().await;
    let script = "for n in 1 2 3 4; do (trap '' TERM; exec cat /dev/zero) & done; exit 3";
    let mut start = lab.script("flood.1", script);
    start.cap_bytes = 1 << 20;
    let child = start.child.clone();
    lab.start(start).await;
    // The leader's end is reported while the leftovers still write.
    let (exit, ended) = lab.host.exit(&child).await;
    assert_eq!((exit.status, ended), (Status::Code(3), false));
    assert!(exit.usage.wall_ms < 4000, "{:?}", exit.usage);
    let (exit, _) = lab.run(lab.command("other.1", &["true"])).await;
    assert_eq!(exit.status, Status::Code(0));
    lab.host.ended(&key("flood.1")).await;
}

/// The supervisor ends because no host could find it or its attempts again.
#[tokio::test]
async fn a_supervisor_whose_directory_was_removed_ends_with_its_processes() {
    let mut lab = Lab::new().await;
    lab.start(lab.command("t.1", &["sleep", "1000"])).await;
    let (child, _) = lab.host.started(&ChildId::new(key("t.1"), 0)).await;
    let supervisor = lab.supervisor_pid();
    std::fs::remove_dir_all(lab.dir.path().join("supervisors")).unwrap();
    let _dir = lab.leave().await;
    wait_gone(supervisor);
    assert!(!is_alive(child));
}

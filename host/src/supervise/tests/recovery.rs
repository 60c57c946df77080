//! A killed supervisor: none of its processes stays alive, no other process is touched, and the
//! outcomes of its attempts are reported if they were recorded.

use super::connection::with_older_executable;
use super::*;
use crate::supervise::processes_of;
use crate::supervise::sys::signals;

#[tokio::test]
async fn all_processes_of_a_killed_supervisor_are_ended_and_its_attempts_are_reported_lost() {
    let mut lab = Lab::new().await;
    lab.run(lab.script("done.1", "exit 3")).await;
    lab.start(lab.command("leader.1", &["sleep", "1000"])).await;
    lab.start(lab.script("family.1", "sleep 1000 & setsid sleep 1000 & echo up; wait"))
        .await;
    lab.start(lab.script(
        "daemon.1",
        "trap '' TERM; setsid sh -c 'setsid sleep 1000 & echo up'; sleep 1000",
    ))
    .await;
    lab.start(lab.command(
        "unmarked.1",
        &["env", "-i", "sh", "-c", "echo up; /bin/sleep 1000"],
    ))
    .await;
    lab.start(lab.script(
        "bare.1",
        "(setsid env -i sh -c 'echo up; exec sleep 1000' &); sleep 1000",
    ))
    .await;
    for name in ["family.1", "daemon.1", "unmarked.1", "bare.1"] {
        lab.lines(name, 1).await;
    }
    lab.host.started(&ChildId::new(key("unmarked.1"), 0)).await;
    let supervisor = lab.supervisor_pid();
    let family: Vec<u32> = family_of(supervisor);
    assert!(family.len() >= 9, "{family:?}");
    kill(supervisor);

    let (attempts, children) = lab.host.supervisor_lost().await;
    let names: Vec<&str> = attempts.iter().map(name_of).collect();
    assert_eq!(
        names,
        ["bare.1", "daemon.1", "family.1", "leader.1", "unmarked.1"]
    );
    assert_eq!(children.len(), 5);
    assert_eq!(
        family
            .into_iter()
            .filter(|pid| is_alive(*pid))
            .collect::<Vec<_>>(),
        [0; 0]
    );

    // New work runs, and the old directory is removed with the last acknowledgement.
    let (exit, _) = lab.run(lab.command("next.1", &["true"])).await;
    assert_eq!(exit.status, Status::Code(0));
    assert!(lab.dir.path().join("supervisors/1").exists());
    for name in [
        "done.1",
        "bare.1",
        "daemon.1",
        "family.1",
        "leader.1",
        "unmarked.1",
        "next.1",
    ] {
        lab.ack(key(name)).await;
    }
    lab.finish(key("nobody.1")).await;
    lab.host.next().await;
    assert!(!lab.dir.path().join("supervisors/1").exists());
}

/// After a restore, two hosts may have attempts with the same ids.
#[tokio::test]
async fn a_process_of_another_data_directory_with_the_same_marker_is_neither_named_nor_ended() {
    let (mut lab, other) = (Lab::new().await, Lab::new().await);
    let mut pids = Vec::new();
    for lab in [&lab, &other] {
        lab.start(lab.script("twin.1", "echo $$; exec sleep 1000"))
            .await;
        let pid: u32 = lab.lines("twin.1", 1).await[0].parse().unwrap();
        pids.push(pid);
    }
    let twin = key("twin.1");
    let task = vec![twin.as_str().rsplit_once('.').unwrap().0.to_owned()];
    for (lab, pid) in [&lab, &other].into_iter().zip(&pids) {
        let supervisors = lab.dir.path().join("supervisors");
        let named = processes_of(&supervisors, &task).unwrap();
        let named: Vec<u32> = named.iter().map(|one| one.pid).collect();
        assert_eq!(named, [*pid]);
    }
    kill(lab.supervisor_pid());
    lab.host.supervisor_lost().await;
    assert!(!is_alive(pids[0]) && is_alive(pids[1]));
}

/// A git that is killed leaves its locks in the repository.
#[tokio::test]
async fn commands_that_a_host_had_run_are_asked_to_end_before_they_are_killed() {
    let mut lab = Lab::new().await;
    let all = [
        ("host+1.1", "echo ended > asked; exit 0"),
        ("host+1.2", ""),
        ("task.1", "echo ended > task; exit 0"),
    ];
    for (name, trap) in all {
        // A shell tells of a child that a signal has ended. Without its supervisor, nobody reads
        // the pipe, and PIPE would end the shell before its trap.
        let script =
            format!("trap '{trap}' TERM; exec 2> /dev/null; echo up; while :; do sleep 0.02; done");
        lab.start(lab.script(name, &script)).await;
        lab.lines(name, 1).await;
    }
    kill(lab.supervisor_pid());
    lab.host.supervisor_lost().await;
    for (name, _) in all {
        assert!(marked(name).is_empty(), "{name}");
    }
    assert!(lab.dir.path().join("asked").exists());
    // The processes of attempts are killed at once.
    assert!(!lab.dir.path().join("task").exists());
}

/// A hook may have started the next host.
#[tokio::test]
async fn a_detached_process_in_the_group_of_a_command_is_neither_asked_nor_killed() {
    let mut lab = Lab::new().await;
    let script = "CLAUDINE_DETACHED=1 sh -c 'echo $$; exec sleep 1000' & wait";
    lab.start(lab.script("host+1.1", script)).await;
    let detached: u32 = lab.lines("host+1.1", 1).await[0].parse().unwrap();
    let group = procfs::stat(detached).unwrap().group;
    assert_ne!(group, detached);
    kill(lab.supervisor_pid());
    lab.host.supervisor_lost().await;
    assert!(!is_alive(group));
    assert!(is_alive(detached));
    kill(detached);
}

/// The process has changed its parent, session, group, environment and tag.
#[tokio::test]
async fn a_process_without_any_mark_is_ended_if_the_supervisor_had_seen_it() {
    let mut lab = Lab::new().await;
    let script = "(setsid env -i prlimit --locks=12345 sh -c 'echo $$; exec sleep 1000' &); \
                  exec sleep 1000";
    lab.start(lab.script("bare.1", script)).await;
    let bare: u32 = lab.lines("bare.1", 1).await[0].parse().unwrap();
    let notes = lab.dir.path().join("supervisors/1");
    let notes = notes.join(process::journal::FILE);
    let line = format!("{{\"stray\":{{\"pid\":{bare},");
    let is_seen = || std::fs::read_to_string(&notes).unwrap().contains(&line);
    let seen = async {
        while !is_seen() {
            tokio::task::yield_now().await;
        }
    };
    let seen = tokio::time::timeout(PATIENCE, seen).await;
    seen.expect("the supervisor does not see the stray");
    assert!(is_alive(bare));
    kill(lab.supervisor_pid());
    lab.host.supervisor_lost().await;
    wait_gone(bare);
}

/// As long as the supervisor's notes cannot be read, the host does not know which processes it
/// left.
#[tokio::test]
async fn nothing_is_reported_lost_until_the_processes_of_a_dead_supervisor_could_be_ended() {
    let mut lab = Lab::new().await;
    let first = ChildId::new(key("t.1"), 0);
    lab.start(lab.command("t.1", &["sleep", "1000"])).await;
    let (pid, _) = lab.host.started(&first).await;
    let dir = lab.dir.path().join("supervisors/1");
    let (notes, aside) = (dir.join(process::journal::FILE), dir.join("aside"));
    std::fs::rename(&notes, &aside).unwrap();
    std::fs::create_dir(&notes).unwrap();
    kill(lab.supervisor_pid());
    let noticed = async {
        while lab.host.supervisors.silent().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    let noticed = tokio::time::timeout(PATIENCE, noticed).await;
    noticed.expect("the host does not report that it cannot clean up");

    // Meanwhile new work runs. A start for an attempt of the dead supervisor waits.
    let next = lab.command("next.1", &["true"]);
    let second = StartChild {
        child: ChildId::new(key("t.1"), 1),
        ..lab.command("t.1", &["true"])
    };
    lab.start(second.clone()).await;
    lab.start(next.clone()).await;
    let mut held = None;
    loop {
        match lab.host.next().await {
            Report::Exited { child, .. } if child == next.child => break,
            Report::Started { child, .. } if child == next.child => {}
            Report::Held { attempt, message } if attempt == key("t.1") => held = message,
            other => panic!("{other:?}"),
        }
    }
    // The attempt is not shown as if it ran.
    assert_eq!(held, lab.host.supervisors.silent().pop());
    assert!(is_alive(pid));

    std::fs::remove_dir(&notes).unwrap();
    std::fs::rename(&aside, &notes).unwrap();
    let mut refused = None;
    let lost = loop {
        match lab.host.next().await {
            Report::Reached { number, found } => {
                assert_eq!(found, []);
                let number = number.unwrap();
                // Until the engine has looked at the report, it must not conclude anything.
                assert_eq!(lab.host.supervisors.silent().len(), 1);
                lab.host.supervisors.heard_of(number);
            }
            Report::NotStarted { child, class, .. } => refused = Some((child, class)),
            Report::Held { attempt, message } if attempt == key("t.1") => held = message,
            Report::SupervisorLost { attempts, children } => break (attempts, children),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(held, None);
    assert_eq!(refused, Some((second.child, NotStartedClass::Supervisor)));
    assert_eq!(lost, (vec![key("t.1")], vec![first]));
    assert!(!is_alive(pid));
    assert!(lab.host.supervisors.silent().is_empty());
}

#[tokio::test]
async fn a_host_starts_although_the_processes_of_a_dead_supervisor_cannot_be_ended_yet() {
    let mut lab = Lab::new().await;
    let first = ChildId::new(key("t.1"), 0);
    lab.start(lab.command("t.1", &["sleep", "1000"])).await;
    let (pid, _) = lab.host.started(&first).await;
    let supervisor = lab.supervisor_pid();
    let dir = lab.leave().await;
    let number = dir.path().join("supervisors/1");
    let (notes, aside) = (number.join(process::journal::FILE), number.join("aside"));
    std::fs::rename(&notes, &aside).unwrap();
    std::fs::create_dir(&notes).unwrap();
    kill(supervisor);

    let host = Host::open(dir.path(), 2).await;
    assert_eq!(host.found, []);
    assert_eq!(host.supervisors.silent().len(), 1);
    let mut lab = Lab { dir, host };
    let (exit, _) = lab.run(lab.command("next.1", &["true"])).await;
    assert_eq!(exit.status, Status::Code(0));
    // The host can end although it cannot clean up.
    let flushed = tokio::time::timeout(PATIENCE, lab.host.supervisors.flush()).await;
    flushed.expect("the commands are not sent");
    assert!(is_alive(pid));

    std::fs::remove_dir(&notes).unwrap();
    std::fs::rename(&aside, &notes).unwrap();
    let found = loop {
        if let Report::Reached { found, .. } = lab.host.next().await {
            break found;
        }
    };
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].attempt, key("t.1"));
    assert_eq!(found[0].children[0].state, FoundState::Lost);
    assert!(!is_alive(pid));
}

/// All processes below `root`, detached or not.
fn family_of(root: u32) -> Vec<u32> {
    let processes = procfs::all().unwrap();
    let children = processes
        .iter()
        .filter(|process| process.parent == root)
        .map(|process| process.pid);
    procfs::below(&processes, &children.collect::<Vec<_>>())
        .unwrap()
        .iter()
        .map(|process| process.pid)
        .collect()
}

#[tokio::test]
async fn a_new_host_gets_the_recorded_outcomes_after_host_and_supervisor_have_died() {
    let mut lab = Lab::new().await;
    lab.run(lab.script("done.1", "exit 3")).await;
    lab.start(lab.command("absent.1", &["no-such-command"]))
        .await;
    lab.host.next().await;
    lab.run(lab.command("forgotten.1", &["true"])).await;
    lab.ack(key("forgotten.1")).await;
    lab.start(lab.script("runs.1", "echo up; sleep 1000")).await;
    lab.lines("runs.1", 1).await;
    let supervisor = lab.supervisor_pid();
    let running = marked("runs.1");
    let dir = lab.leave().await;
    kill(supervisor);

    for epoch in [2, 3] {
        // The second host finds the same outcomes as the first, which acknowledged nothing.
        let mut host = Host::open(dir.path(), epoch).await;
        host.found
            .sort_by(|one, other| one.attempt.cmp(&other.attempt));
        let states: Vec<_> = host
            .found
            .iter()
            .map(|found| (name_of(&found.attempt), &found.children[0].state))
            .collect();
        let [
            ("absent.1", absent),
            ("done.1", done),
            ("runs.1", FoundState::Lost),
        ] = &states[..]
        else {
            panic!("{states:?}")
        };
        assert!(matches!(
            absent,
            FoundState::NotStarted {
                class: NotStartedClass::CommandNotFound,
                ..
            }
        ));
        assert!(matches!(done, FoundState::Exited(exit) if exit.status == Status::Code(3)));
        assert!(host.found.iter().all(|found| found.ended));
        assert!(running.iter().all(|pid| !is_alive(*pid)));
        host.close().await;
    }
}

/// The supervisor is killed while it hangs in the start, or once the process runs. It cannot note
/// that it has started the process, because its notes may not grow any more.
#[tokio::test]
async fn an_attempt_is_lost_if_its_process_was_started_but_not_noted_when_the_supervisor_died() {
    for is_started in [false, true] {
        let lab = Lab::new().await;
        lab.fifo("fifo");
        let fifo = lab.dir.path().join("fifo");
        let runs = StartChild {
            // As long as nobody opens the fifo for writing, it cannot be opened for reading.
            stdin: Stdin::File(fifo.clone()),
            ..lab.script("runs.1", "echo > ran; exec sleep 1000")
        };
        lab.start(runs).await;
        let notes = lab.dir.path().join("supervisors/1");
        let notes = notes.join(process::journal::FILE);
        let has_noted = |word: &str| {
            let noted = std::fs::read_to_string(&notes);
            noted.is_ok_and(|noted| noted.contains(word))
        };
        let begun = async {
            while !has_noted("{\"starting\":") {
                tokio::task::yield_now().await;
            }
        };
        let begun = tokio::time::timeout(PATIENCE, begun).await;
        begun.expect("the start is not begun");
        if is_started {
            lab.limit_files(Some(std::fs::metadata(&notes).unwrap().len()));
            drop(std::fs::File::create(fifo).unwrap());
            let ran = lab.dir.path().join("ran");
            let runs = async {
                while !ran.exists() {
                    tokio::task::yield_now().await;
                }
            };
            let runs = tokio::time::timeout(PATIENCE, runs).await;
            runs.expect("the process does not run");
        }
        let supervisor = lab.supervisor_pid();
        let running = marked("runs.1");
        assert_eq!(running.len(), usize::from(is_started), "{running:?}");
        let dir = lab.leave().await;
        kill(supervisor);
        assert!(!has_noted("{\"started\":"), "the start was noted");

        let host = Host::open(dir.path(), 2).await;
        let found = host.found.iter();
        let found: Vec<_> = found
            .map(|found| (name_of(&found.attempt), &found.children[0].state))
            .collect();
        assert_eq!(found, [("runs.1", &FoundState::Lost)]);
        assert!(running.iter().all(|pid| !is_alive(*pid)));
        assert!(marked("runs.1").is_empty());
        host.close().await;
    }
}

/// A killed supervisor that was suspended has not read the start.
#[tokio::test]
async fn a_start_that_a_dead_supervisor_had_not_begun_is_reported_as_not_started() {
    let mut lab = Lab::new().await;
    lab.run(lab.command("first.1", &["true"])).await;
    let supervisor = lab.supervisor_pid();
    let _suspended = suspend(supervisor);
    let waits = lab.command("waits.1", &["true"]);
    lab.start(waits.clone()).await;
    lab.host.supervisors.flush().await;
    kill(supervisor);
    let refused = loop {
        match lab.host.next().await {
            Report::NotStarted { child, class, .. } => break (child, class),
            Report::Ended { .. } => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(refused, (waits.child, NotStartedClass::Supervisor));
}

#[test]
fn a_process_with_another_start_time_is_not_signalled() {
    let mut child = std::process::Command::new("sleep")
        .arg("1000")
        .spawn()
        .unwrap();
    let start_time = procfs::stat(child.id()).unwrap().start_time;
    assert!(!signals::signal_process(child.id(), start_time + 1, Signal::Kill).unwrap());
    assert!(
        signals::kill_pinned(child.id(), start_time - 1)
            .unwrap()
            .is_none()
    );
    assert!(is_alive(child.id()));
    assert!(signals::signal_process(child.id(), start_time, Signal::Kill).unwrap());
    child.wait().unwrap();
    assert!(!signals::signal_process(child.id(), start_time, Signal::Kill).unwrap());
}

/// The journal is in a copy of the data directory, while the supervisor works for the original.
#[tokio::test]
async fn the_journal_of_a_living_supervisor_is_refused_and_ends_no_process() {
    let lab = Lab::new().await;
    lab.start(lab.script("runs.1", "echo up; sleep 1000")).await;
    lab.lines("runs.1", 1).await;
    let pid = lab.supervisor_pid();
    let running = family_of(pid);
    assert!(!running.is_empty());
    let copy = tempfile::TempDir::new().unwrap();
    let of = |dir: &Path| dir.join("supervisors/1");
    std::fs::create_dir_all(of(copy.path())).unwrap();
    let journal = |dir: &Path| of(dir).join(process::journal::FILE);
    std::fs::copy(journal(lab.dir.path()), journal(copy.path())).unwrap();
    let program = Program {
        path: std::env::current_exe().unwrap(),
        args: vec![OsString::from("__supervise")],
    };
    let settings = Host::settings(copy.path(), 9, program);
    let orphans = Orphans::look_for(&settings.dir);
    // The original is locked by the supervisor, so nobody waits whether the supervisor is about to
    // end, which would take five seconds each time.
    let is_soon = |begun: Duration| {
        let took = crate::clock::monotonic().saturating_sub(begun);
        assert!(took < Duration::from_secs(5), "{took:?}");
    };
    let begun = crate::clock::monotonic();
    let opened = open(settings, orphans).await;
    is_soon(begun);
    let Err(SuperviseError::Copied {
        original,
        pid: living,
        ..
    }) = opened
    else {
        panic!("{opened:?}")
    };
    assert_eq!((original.as_deref(), living), (Some(lab.dir.path()), pid));
    let begun = crate::clock::monotonic();
    let ended = end_all(&copy.path().join("supervisors"));
    is_soon(begun);
    assert!(
        matches!(ended, Err(SuperviseError::Copied { .. })),
        "{ended:?}"
    );
    assert!(running.iter().all(|pid| is_alive(*pid)));
}

/// The wait for the other supervisor may end with an error.
#[tokio::test]
async fn what_a_dead_supervisor_has_left_is_ended_although_another_one_does_not_end() {
    let (mut lab, _) = with_older_executable().await;
    lab.start(lab.command("old.1", &["sleep", "1000"])).await;
    let (left, _) = lab.host.started(&ChildId::new(key("old.1"), 0)).await;
    let old = lab.supervisor_pid();
    let mut lab = lab.restart_host(3).await;
    lab.start(lab.command("new.1", &["sleep", "1000"])).await;
    lab.host.started(&ChildId::new(key("new.1"), 0)).await;
    let all = lab.dir.path().join("supervisors");
    let living = pids(&all).unwrap();
    let [first, new] = living[..] else {
        panic!("{living:?}")
    };
    assert_eq!(first, old);
    let _dir = lab.leave().await;
    kill(old);
    let suspended = suspend(new);
    let ending = tokio::task::spawn_blocking(move || end_all(&all));
    tokio::task::spawn_blocking(move || wait_gone(left))
        .await
        .unwrap();
    drop(suspended);
    let ended = ending.await.unwrap().unwrap();
    assert_eq!(ended, [key("old.1"), key("new.1")]);
}

#[tokio::test]
async fn a_journal_of_another_boot_or_with_a_reused_pid_ends_no_process() {
    let dir = tempfile::TempDir::new().unwrap();
    let mut bystander = std::process::Command::new("sleep")
        .arg("1000")
        .spawn()
        .unwrap();
    let stat = procfs::stat(bystander.id()).unwrap();
    let boot_id = crate::clock::boot_id();
    let check = async |number: u32, boot_id: &str, start_time: u64| {
        let supervisor = dir.path().join("supervisors").join(number.to_string());
        std::fs::create_dir_all(&supervisor).unwrap();
        let pid = stat.pid;
        let attempt = key(&format!("t.{number}"));
        let lines = format!(
            "{{\"supervisor\":{{\"pid\":{pid},\"start_time\":1,\"boot_id\":\"{boot_id}\",\"build\":\"x\"}}}}\n\
             {{\"started\":{{\"child\":\"{attempt}/0\",\"pid\":{pid},\"start_time\":{start_time}}}}}\n\
             {{\"exited\":{{\"child\":\"{attempt}/0\",\"cut off in the mid"
        );
        std::fs::write(supervisor.join("exits.log"), lines).unwrap();
        let host = Host::open(dir.path(), number.into()).await;
        let found = host
            .found
            .iter()
            .find(|found| found.attempt == attempt)
            .unwrap();
        assert_eq!(found.children[0].state, FoundState::Lost);
        host.close().await;
        assert!(is_alive(pid));
    };
    check(1, "another boot", stat.start_time).await;
    check(2, &boot_id, stat.start_time + 1).await;
    bystander.kill().unwrap();
    bystander.wait().unwrap();
}

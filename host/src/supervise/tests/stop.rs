//! Stopping: the ladder, deadlines with and without a host, reasons.

use super::*;

/// Starts a script and waits for its first line, which the script prints once it is set up.
async fn started_script(
    lab: &mut Lab,
    name: &str,
    script: &str,
    change: impl Fn(&mut StartChild),
) -> ChildId {
    let mut start = lab.script(name, script);
    change(&mut start);
    let child = start.child.clone();
    lab.start(start).await;
    lab.lines(name, 1).await;
    child
}

#[tokio::test]
async fn a_stop_sends_the_signals_of_the_ladder_and_then_kill() {
    let mut lab = Lab::new().await;
    let ladder = lab.command("x", &[]).ladder;

    let polite = "trap 'echo bye; exit 5' TERM; echo ready; while :; do sleep 1000 & wait; done";
    let child = started_script(&mut lab, "polite.1", polite, |_| {}).await;
    lab.stop(key("polite.1"), StopWhy::Cancelled, ladder.clone())
        .await;
    let (exit, _) = lab.host.exit(&child).await;
    assert_eq!(
        (exit.status, exit.stopped),
        (Status::Code(5), Some(StopWhy::Cancelled))
    );
    assert_eq!(lab.text("polite.1"), "ready\nbye\n");

    let deaf = "trap '' TERM INT; echo ready; while :; do sleep 1000; done";
    let child = started_script(&mut lab, "deaf.1", deaf, |_| {}).await;
    lab.stop(key("deaf.1"), StopWhy::Cancelled, ladder).await;
    let (exit, ended) = lab.host.exit(&child).await;
    assert_eq!(
        (exit.status, exit.stopped),
        (Status::Signal(9), Some(StopWhy::Cancelled))
    );
    assert!(
        exit.usage.wall_ms >= 300,
        "the ladder's wait was kept: {:?}",
        exit.usage
    );
    // The script's `sleep` was killed at the same instant, and may end a little later.
    if !ended {
        lab.host.ended(&key("deaf.1")).await;
    }
    assert_eq!(marked("deaf.1"), [0; 0]);
}

/// The leader waits for its child: if the signal reached only the leader, both would run for ever.
#[tokio::test]
async fn a_signal_reaches_the_whole_process_group() {
    let mut lab = Lab::new().await;
    let child = "trap \"echo child; exit 0\" USR1; echo ready; while :; do sleep 0.02; done";
    let script = format!("trap 'echo leader' USR1; sh -c '{child}' & wait; wait; exit 7");
    let child = started_script(&mut lab, "t.1", &script, |_| {}).await;
    let signal = lab.host.supervisors.signal(child.clone(), Signal::Usr1);
    signal.done().await.unwrap();
    let (exit, _) = lab.host.exit(&child).await;
    assert_eq!(
        (exit.status, exit.stopped),
        (Status::Code(7), None),
        "nobody asked for a stop"
    );
    let text = lab.text("t.1");
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["child", "leader", "ready"]);
    let late = lab.host.supervisors.signal(child, Signal::Hup);
    late.done().await.unwrap();
}

/// A suspended process takes no signal until it is resumed.
#[tokio::test]
async fn a_suspended_child_is_resumed_so_that_it_can_end() {
    let mut lab = Lab::new().await;
    let ladder = vec![Rung {
        signal: Signal::Term,
        wait: PATIENCE,
    }];
    let script =
        "trap 'echo bye; exit 5' TERM; echo ready; kill -STOP $$; while :; do sleep 0.02; done";
    let child = started_script(&mut lab, "t.1", script, |_| {}).await;
    let (pid, _) = lab.host.started(&child).await;
    while !procfs::stat(pid).unwrap().is_stopped() {
        tokio::task::yield_now().await;
    }
    let stop = lab
        .host
        .supervisors
        .stop(key("t.1"), StopWhy::Cancelled, ladder);
    stop.done().await.unwrap();
    let (exit, _) = lab.host.exit(&child).await;
    assert_eq!(
        (exit.status, exit.stopped),
        (Status::Code(5), Some(StopWhy::Cancelled))
    );
    assert_eq!(lab.text("t.1"), "ready\nbye\n");
}

/// When the attempt is stopped, no supervisor knows it yet. No child of the attempt is started
/// until the attempt is acknowledged.
#[tokio::test]
async fn a_start_that_arrives_after_the_stop_of_its_attempt_is_refused() {
    async fn refused(lab: &mut Lab, start: StartChild) -> Report {
        let order = lab.host.supervisors.start(start);
        order.done().await.unwrap();
        lab.host.next().await
    }
    fn stopped(report: &Report) -> bool {
        let class = NotStartedClass::Stopped;
        matches!(report, Report::NotStarted { class: of, .. } if *of == class)
    }
    let mut lab = Lab::new().await;
    let stop = lab
        .host
        .supervisors
        .stop(key("t.1"), StopWhy::Cancelled, Vec::new());
    stop.done().await.unwrap();
    let nothing_lives = lab.host.next().await;
    assert!(
        matches!(nothing_lives, Report::Ended { .. }),
        "{nothing_lives:?}"
    );
    let start = lab.script("t.1", "touch ran");
    let report = refused(&mut lab, start).await;
    assert!(stopped(&report), "{report:?}");
    // Other attempts are not affected.
    let (exit, _) = lab.run(lab.script("u.1", "exit 3")).await;
    assert_eq!(exit.status, Status::Code(3));
    assert!(!lab.dir.path().join("ran").exists());
    // An acknowledged attempt is forgotten: ids are not reused, but memory is limited.
    lab.ack(key("t.1")).await;
    let (exit, _) = lab.run(lab.script("t.1", "exit 4")).await;
    assert_eq!(exit.status, Status::Code(4));
}

#[tokio::test]
async fn an_attempt_that_is_started_and_stopped_while_its_supervisor_is_suspended_never_runs() {
    let mut lab = Lab::new().await;
    lab.run(lab.command("first.1", &["true"])).await;
    let suspended = suspend(lab.supervisor_pid());
    lab.start(lab.script("t.1", "touch ran")).await;
    lab.stop(key("t.1"), StopWhy::Cancelled, Vec::new()).await;
    lab.host.supervisors.flush().await;
    suspended.go_on();
    let class = loop {
        match lab.host.next().await {
            Report::NotStarted { class, .. } => break class,
            Report::Ended { .. } => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(class, NotStartedClass::Stopped);
    lab.host.ended(&key("t.1")).await;
    assert!(!lab.dir.path().join("ran").exists());
}

/// Attempts that no task names are ended like this when a host starts.
#[tokio::test]
async fn an_attempt_is_stopped_before_it_is_forgotten_even_if_the_queue_was_full() {
    let mut lab = Lab::new().await;
    let start = lab.command("t.1", &["sleep", "1000"]);
    let child = start.child.clone();
    lab.start(start).await;
    let (pid, _) = lab.host.started(&child).await;
    while !lab.host.supervisors.finish(key("nobody.1")).waits() {}
    let supervisors = &lab.host.supervisors;
    let ending = supervisors.stop_and_ack(key("t.1"), StopWhy::Cancelled, Vec::new());
    ending.await.unwrap();
    supervisors.flush().await;
    tokio::task::spawn_blocking(move || wait_gone(pid))
        .await
        .unwrap();
}

/// The supervisor has received both starts, and hangs in the first one.
#[tokio::test]
async fn an_attempt_that_is_stopped_while_its_start_waits_for_another_start_never_runs() {
    let mut lab = Lab::new().await;
    lab.fifo("fifo");
    let fifo = lab.dir.path().join("fifo");
    let hangs = StartChild {
        // As long as nobody opens the fifo for writing, it cannot be opened for reading.
        stdin: Stdin::File(fifo.clone()),
        ..lab.command("hangs.1", &["cat"])
    };
    lab.start(hangs.clone()).await;
    lab.start(lab.script("t.1", "touch ran")).await;
    let notes = lab.dir.path().join("supervisors/1");
    let notes = notes.join(process::journal::FILE);
    let begun = async {
        while !std::fs::read_to_string(&notes).is_ok_and(|notes| notes.contains("hangs.1")) {
            tokio::task::yield_now().await;
        }
    };
    let begun = tokio::time::timeout(PATIENCE, begun).await;
    begun.expect("the first start is not begun");
    lab.stop(key("t.1"), StopWhy::Cancelled, Vec::new()).await;
    lab.host.supervisors.flush().await;
    let writer = std::fs::File::create(fifo).unwrap();
    drop(writer);
    let class = loop {
        match lab.host.next().await {
            Report::NotStarted { class, .. } => break class,
            Report::Started { child, .. } | Report::Exited { child, .. } => {
                assert_eq!(child, hangs.child);
            }
            _ => {}
        }
    };
    assert_eq!(class, NotStartedClass::Stopped);
}

#[tokio::test]
async fn deadlines_are_enforced_while_no_host_is_connected() {
    let mut lab = Lab::new().await;
    let deaf = "trap '' TERM; echo ready; while :; do sleep 1000; done";
    let child = started_script(&mut lab, "hard.1", deaf, |start| {
        start.timeout = Some(Duration::from_millis(400));
    })
    .await;
    let talks = "echo ready; while :; do echo more; sleep 0.05; done";
    let idle = |start: &mut StartChild| {
        start.idle_timeout = Some(Duration::from_millis(400));
        start.timeout = Some(Duration::from_millis(1500));
    };
    let talking = started_script(&mut lab, "talks.1", talks, idle).await;
    let silent = started_script(&mut lab, "silent.1", "echo ready; sleep 1000", idle).await;
    let pids: Vec<u32> = ["hard.1", "talks.1", "silent.1"]
        .iter()
        .flat_map(|name| marked(name))
        .collect();
    let dir = lab.leave().await;
    tokio::task::spawn_blocking(move || pids.into_iter().for_each(wait_gone))
        .await
        .unwrap();

    let host = Host::open(dir.path(), 2).await;
    let check = |child: &ChildId, status: Status, why: StopWhy| {
        let found = host
            .found
            .iter()
            .find(|found| found.attempt == *child.attempt())
            .unwrap();
        let FoundState::Exited(exit) = &found.children[0].state else {
            panic!("{found:?}")
        };
        assert_eq!((exit.status, exit.stopped), (status, Some(why)), "{child}");
    };
    check(&child, Status::Signal(9), StopWhy::TimedOut);
    check(&talking, Status::Signal(15), StopWhy::TimedOut);
    check(&silent, Status::Signal(15), StopWhy::Idle);
    drop(Lab { dir, host });
}

#[tokio::test]
async fn finishing_an_attempt_ends_its_running_children() {
    let mut lab = Lab::new().await;
    let child = started_script(&mut lab, "t.1", "echo ready; exec sleep 1000", |_| {}).await;
    lab.finish(child.attempt().clone()).await;
    let (exit, ended) = lab.host.exit(&child).await;
    assert_eq!((exit.stopped, ended), (Some(StopWhy::Finished), true));
    lab.finish(key("unknown.1")).await;
    let report = lab.host.next().await;
    assert_eq!(
        report,
        Report::Ended {
            attempt: key("unknown.1"),
            swept: 0,
            alive: 0
        }
    );
}

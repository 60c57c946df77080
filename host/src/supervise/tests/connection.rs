//! Connections that break, and supervisors that come and go: no report is lost or duplicated,
//! nothing runs twice.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use serde_json::json;

use super::*;
use crate::supervise::frame::{self, Incoming};
use crate::supervise::process::journal;
use crate::supervise::protocol::{Hello, Message, PROTOCOL};
use crate::supervise::sys::files::SocketPath;

/// A plain connection, as another host would open it.
pub(super) struct Bare {
    stream: UnixStream,
    incoming: Incoming,
}

impl Bare {
    pub(super) fn connect(dir: &Path, epoch: u64) -> Self {
        let mut bare = Self::connect_silently(dir);
        bare.greet(epoch);
        bare
    }

    /// Connects without a hello.
    pub(super) fn connect_silently(dir: &Path) -> Self {
        let path = SocketPath::new(dir, process::SOCKET_FILE).unwrap();
        let stream = UnixStream::connect(path.as_path()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self {
            stream,
            incoming: Incoming::default(),
        }
    }

    pub(super) fn greet(&mut self, epoch: u64) {
        self.send(&Hello {
            protocol: PROTOCOL,
            epoch,
            feed: None,
        });
    }

    pub(super) fn send(&mut self, word: &impl serde::Serialize) {
        self.send_all(std::slice::from_ref(word));
    }

    /// Sends several words at once, so that they need less room in the socket.
    pub(super) fn send_all(&mut self, words: &[impl serde::Serialize]) {
        let mut bytes = Vec::new();
        for word in words {
            frame::encode(word, &mut bytes).unwrap();
        }
        self.stream.write_all(&bytes).unwrap();
    }

    pub(super) fn next(&mut self) -> Message {
        loop {
            if let Some(frame) = self.incoming.next_frame().unwrap() {
                return frame::decode(frame).unwrap();
            }
            let mut buffer = [0; 4096];
            let length = self.stream.read(&mut buffer).unwrap();
            assert!(length > 0, "the connection was closed");
            self.incoming.extend(&buffer[..length]);
        }
    }
}

/// The names in the directory of all supervisors.
fn entries(data_dir: &Path) -> Vec<OsString> {
    let entries = std::fs::read_dir(data_dir.join("supervisors")).unwrap();
    entries.map(|entry| entry.unwrap().file_name()).collect()
}

pub(super) fn supervisor_dir(lab: &Lab) -> PathBuf {
    lab.dir.path().join("supervisors/1")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_cut_at_any_point_lose_and_duplicate_no_report() {
    const TASKS: usize = 120;
    let mut lab = Lab::new().await;
    lab.run(lab.command("first.1", &["true"])).await;
    let dir = supervisor_dir(&lab);
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    // A newer connection of the same epoch cuts off the host's connection; the reconnected host
    // then cuts off the newer one, and so on.
    let cutter = std::thread::spawn(move || {
        let mut cuts = 0;
        while stopped.try_recv().is_err() {
            let mut bare = Bare::connect(&dir, 1);
            cuts += 1;
            // Waits until the host has reconnected and in turn cut off this connection.
            let mut rest = [0; 4096];
            while bare.stream.read(&mut rest).is_ok_and(|length| length > 0) {}
        }
        cuts
    });
    let mut outcomes: BTreeMap<ChildId, Vec<Report>> = BTreeMap::new();
    let mut over = 0;
    for number in 0..TASKS {
        let name = format!("t.{number}");
        let mut start = lab.script(
            &name,
            &format!("echo run >> ran-{number}; sleep 0.01; exit {}", number % 7),
        );
        start.log = lab.log(&name);
        lab.start(start).await;
        while over + 4 <= number {
            over += usize::from(take(&mut lab, &mut outcomes).await);
        }
    }
    while over < TASKS {
        over += usize::from(take(&mut lab, &mut outcomes).await);
    }
    stop.send(()).unwrap();
    // The answer to this `finish` comes after all other reports.
    lab.finish(key("first.1")).await;
    loop {
        match lab.host.next().await {
            Report::Ended { attempt, .. } if attempt == key("first.1") => break,
            Report::Ended { .. } => {}
            other => panic!("reported twice: {other:?}"),
        }
    }
    for number in 0..TASKS {
        let child = ChildId::new(key(&format!("t.{number}")), 0);
        let exits: Vec<_> = outcomes[&child]
            .iter()
            .filter(|report| matches!(report, Report::Exited { .. }))
            .collect();
        let [Report::Exited { exit, .. }] = exits[..] else {
            panic!("{child}: {exits:?}")
        };
        assert_eq!(
            exit.status,
            Status::Code(i32::try_from(number % 7).unwrap())
        );
        assert!(
            outcomes[&child].len() <= 2,
            "{child}: {:?}",
            outcomes[&child]
        );
        let ran = std::fs::read_to_string(lab.dir.path().join(format!("ran-{number}"))).unwrap();
        assert_eq!(ran, "run\n", "{child} ran more than once");
    }
    drop(lab);
    assert!(cutter.join().unwrap() > 1);
}

/// Records a report; `true` if it is the end of a child.
async fn take(lab: &mut Lab, outcomes: &mut BTreeMap<ChildId, Vec<Report>>) -> bool {
    let report = lab.host.next().await;
    let (child, over) = match &report {
        Report::Started { child, .. } => (child.clone(), false),
        Report::Exited { child, .. } => (child.clone(), true),
        Report::Ended { .. } => return false,
        other => panic!("{other:?}"),
    };
    outcomes.entry(child).or_default().push(report);
    over
}

#[tokio::test]
async fn messages_that_arrive_together_with_the_handshake_are_handled() {
    let lab = Lab::new().await;
    let dir = lab.leave().await;
    let child = ChildId::new(key("t.1"), 0);
    let state = json!({"attempt": child.attempt(), "children": [{"child": child, "state": {"running": {"pid": 1, "start_time": 1}}}],
        "stopping": null, "finished": false, "ended": null, "held": null});
    let exit = json!({"pid": 1, "start_time": 1, "status": {"code": 7}, "usage": {"wall_ms": 1, "cpu_ms": 1, "peak_rss_bytes": 1},
        "stopped": null, "stdout_bytes": 0, "stderr_bytes": 0});
    let words = vec![
        json!({"attempt": state}),
        json!("ready"),
        json!({"exited": {"child": child, "exit": exit, "ended": true}}),
    ];
    let impostor = Impostor::begin(dir.path(), words);
    let mut host = Host::open(dir.path(), 2).await;
    let (exit, ended) = host.exit(&child).await;
    assert_eq!((exit.status, ended), (Status::Code(7), true));
    host.close().await;
    impostor.heard();
}

/// The impostor frees its lock once the host has disconnected. So a host that contacted it again
/// would find it dead, and would no longer count it as silent.
#[tokio::test]
async fn a_supervisor_of_a_newer_protocol_keeps_its_attempts_and_other_work_runs() {
    let lab = Lab::new().await;
    let dir = lab.leave().await;
    let impostor = Impostor::of_protocol(PROTOCOL + 1, dir.path(), Vec::new());
    let child = ChildId::new(key("old.1"), 0);
    let note = json!({"attempt": {"attempt": child.attempt(), "children": [{"child": child, "state": {"running": {"pid": 1, "start_time": 1}}}],
        "stopping": null, "finished": false, "ended": null, "held": null}});
    let notes = dir.path().join("supervisors/1").join(journal::FILE);
    std::fs::write(notes, format!("{note}\n")).unwrap();

    let host = Host::open(dir.path(), 2).await;
    let mut lab = Lab { dir, host };
    assert_eq!(impostor.heard(), 1, "only the hello was sent");
    let [found] = &lab.host.found[..] else {
        panic!("{:?}", lab.host.found)
    };
    assert_eq!(found.attempt, *child.attempt());
    let (exit, _) = lab.run(lab.command("new.1", &["true"])).await;
    assert_eq!(exit.status, Status::Code(0));

    lab.host.supervisors.flush().await;
    let silent = lab.host.supervisors.silent();
    let speaks = format!("speaks protocol {}", PROTOCOL + 1);
    assert!(
        silent.len() == 1 && silent[0].contains(&speaks),
        "{silent:?}"
    );
}

#[tokio::test]
async fn a_supervisor_without_work_ends_when_asked() {
    let mut lab = Lab::new().await;
    lab.run(lab.command("t.1", &["true"])).await;
    let pid = lab.supervisor_pid();
    lab.host.supervisors.quit().done().await.unwrap();
    lab.ack(key("t.1")).await;
    tokio::task::spawn_blocking(move || wait_gone(pid))
        .await
        .unwrap();
    // The next child gets another supervisor.
    let (exit, _) = lab.run(lab.command("t.2", &["true"])).await;
    assert_eq!(exit.status, Status::Code(0));
}

#[tokio::test]
async fn a_supervisor_in_a_long_path_is_reached_and_drops_a_garbled_connection() {
    let mut lab = Lab::new().await;
    let deep = lab.dir.path().join("x".repeat(120));
    let mut host = Host::open(&deep, 1).await;
    let start = lab.command("deep.1", &["true"]);
    host.supervisors.start(start.clone()).done().await.unwrap();
    host.exit(&start.child).await;
    let mut garbled = UnixStream::connect(
        SocketPath::new(&deep.join("supervisors/1"), "sock")
            .unwrap()
            .as_path(),
    )
    .unwrap();
    garbled.write_all(&[0xff; 64]).unwrap();
    let mut nothing = [0; 8];
    assert_eq!(
        garbled.read(&mut nothing).unwrap(),
        0,
        "the connection is closed"
    );
    host.supervisors
        .finish(start.child.attempt().clone())
        .done()
        .await
        .unwrap();
    host.ended(start.child.attempt()).await;
    host.supervisors
        .ack(start.child.attempt().clone())
        .done()
        .await
        .unwrap();
    host.supervisors.quit().done().await.unwrap();
    host.close().await;
    lab.run(lab.command("t.1", &["true"])).await;
}

#[tokio::test]
async fn a_start_fails_if_the_executable_is_not_a_supervisor() {
    let lab = Lab::new().await;
    let settings = Settings {
        dir: lab.dir.path().join("others"),
        program: Program {
            path: "/bin/false".into(),
            args: Vec::new(),
        },
        environment: Vec::new(),
        descriptors: None,
        epoch: 1,
    };
    let orphans = Orphans::look_for(&settings.dir);
    let mut opened = open(settings, orphans).await.unwrap();
    opened
        .supervisors
        .start(lab.command("t.1", &["true"]))
        .done()
        .await
        .unwrap();
    let report = opened.reports.recv().await.unwrap();
    assert!(
        matches!(
            report,
            Report::NotStarted {
                class: NotStartedClass::Supervisor,
                ..
            }
        ),
        "{report:?}"
    );
}

/// A host of epoch 2 that starts its supervisor from another executable file, and the path of this
/// file.
pub(super) async fn with_older_executable() -> (Lab, PathBuf) {
    let lab = Lab::new().await;
    let copy = lab.dir.path().join("older");
    std::fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    let dir = lab.leave().await;
    let host = Host::open_with(dir.path(), 2, &copy).await;
    (Lab { dir, host }, copy)
}

#[tokio::test]
async fn a_supervisor_of_another_executable_is_kept_until_its_work_is_done() {
    let (mut lab, executable) = with_older_executable().await;
    lab.start(lab.command("old.1", &["sleep", "1000"])).await;
    lab.host.started(&ChildId::new(key("old.1"), 0)).await;
    let old = lab.supervisor_pid();
    // A running supervisor needs neither a host nor its executable file.
    std::fs::remove_file(&executable).unwrap();

    let mut lab = lab.restart_host(3).await;
    assert!(matches!(
        lab.host.found[0].children[0].state,
        FoundState::Running { .. }
    ));
    lab.run(lab.command("new.1", &["true"])).await;
    let live = pids(&lab.dir.path().join("supervisors")).unwrap();
    assert!(live.len() == 2 && live[0] == old, "{live:?}");

    lab.stop(key("old.1"), StopWhy::Cancelled, Vec::new()).await;
    lab.host.exit(&ChildId::new(key("old.1"), 0)).await;
    assert!(is_alive(old), "the outcome is not acknowledged yet");
    lab.ack(key("old.1")).await;
    tokio::task::spawn_blocking(move || wait_gone(old))
        .await
        .unwrap();
    lab.run(lab.command("new.2", &["true"])).await;
    assert_eq!(
        pids(&lab.dir.path().join("supervisors")).unwrap(),
        live[1..]
    );
}

/// The supervisor is suspended while the next host starts.
#[tokio::test]
async fn an_older_supervisor_without_attempts_ends_once_it_answers() {
    let (mut lab, _) = with_older_executable().await;
    lab.run(lab.command("old.1", &["true"])).await;
    let old = lab.supervisor_pid();
    lab.ack(key("old.1")).await;
    let notes = supervisor_dir(&lab).join(process::journal::FILE);
    let forgets = async {
        while !std::fs::read_to_string(&notes)
            .unwrap()
            .contains("forgotten")
        {
            tokio::task::yield_now().await;
        }
    };
    let forgotten = tokio::time::timeout(PATIENCE, forgets).await;
    forgotten.expect("the attempt is forgotten");
    let suspended = suspend(old);

    let lab = lab.restart_host(3).await;
    assert_eq!(lab.host.found, []);
    suspended.go_on();
    tokio::task::spawn_blocking(move || wait_gone(old))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_supervisor_without_host_and_attempts_ends_by_itself() {
    let mut lab = Lab::new().await;
    lab.run(lab.command("t.1", &["true"])).await;
    let pid = lab.supervisor_pid();
    lab.ack(key("t.1")).await;
    let dir = lab.leave().await;
    tokio::task::spawn_blocking(move || wait_gone(pid))
        .await
        .unwrap();
    let host = Host::open(dir.path(), 2).await;
    assert_eq!(host.found, []);
    assert_eq!(entries(dir.path()), ["leader"]);
    host.close().await;
}

#[tokio::test]
async fn a_supervisor_that_is_told_to_terminate_ends_its_children_first() {
    let mut lab = Lab::new().await;
    lab.start(lab.script(
        "t.1",
        "trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.02; done",
    ))
    .await;
    lab.lines("t.1", 1).await;
    let stat = procfs::stat(lab.supervisor_pid()).unwrap();
    assert!(sys::signals::signal_process(stat.pid, stat.start_time, Signal::Term).unwrap());
    let (exit, _) = lab.host.exit(&ChildId::new(key("t.1"), 0)).await;
    assert_eq!(
        (exit.status, exit.stopped),
        (Status::Code(3), Some(StopWhy::Shutdown))
    );
    tokio::task::spawn_blocking(move || wait_gone(stat.pid))
        .await
        .unwrap();
    assert_eq!(lab.text("t.1"), "up\nbye\n");
}

/// The supervisor cannot end as long as a child takes no notice of the signal.
#[tokio::test]
async fn work_that_an_ending_supervisor_refuses_runs_under_another_one() {
    let mut lab = Lab::new().await;
    let mut deaf = lab.script(
        "deaf.1",
        "trap 'echo asked' TERM; echo up; while :; do sleep 0.02; done",
    );
    deaf.ladder[0].wait = PATIENCE;
    lab.start(deaf).await;
    lab.lines("deaf.1", 1).await;
    let stat = procfs::stat(lab.supervisor_pid()).unwrap();
    assert!(sys::signals::signal_process(stat.pid, stat.start_time, Signal::Term).unwrap());
    lab.lines("deaf.1", 2).await;
    let refused = lab.command("refused.1", &["true"]);
    lab.start(refused.clone()).await;
    let class = loop {
        match lab.host.next().await {
            Report::NotStarted { child, class, .. } if child == refused.child => break class,
            Report::Started { .. } => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(class, NotStartedClass::Supervisor);
    let (exit, _) = lab.run(lab.command("next.1", &["true"])).await;
    assert_eq!(exit.status, Status::Code(0));
    let live = pids(&lab.dir.path().join("supervisors")).unwrap();
    assert!(live.len() == 2 && live.contains(&stat.pid), "{live:?}");
}

/// The router does not run until this test awaits something, so the queue fills up.
#[tokio::test]
async fn orders_wait_while_the_queue_is_full() {
    let mut lab = Lab::new().await;
    let mut sent = 0;
    let waiting = loop {
        let order = lab.host.supervisors.finish(key(&format!("f.{sent}")));
        sent += 1;
        if order.waits() {
            break order;
        }
        order.done().await.unwrap();
        assert!(sent < 1 << 20, "the queue has no bound");
    };
    let mut ended = Vec::new();
    for _ in 1..sent {
        ended.push(lab.host.next().await);
    }
    waiting.done().await.unwrap();
    ended.push(lab.host.next().await);
    let attempts = ended.iter().map(|report| match report {
        Report::Ended { attempt, .. } => name_of(attempt).to_owned(),
        other => panic!("{other:?}"),
    });
    assert!(attempts.eq((0..sent).map(|number| format!("f.{number}"))));
}

//! A supervisor that does not answer although the host is connected to it.

use std::collections::BTreeSet;

use super::connection::{Bare, supervisor_dir};
use super::*;
use crate::supervise::protocol::{Command, Message, Numbered};

/// Waits until this many attempts are reported as held back or, if `is_held` is false, as no longer
/// held back. Returns these attempts, and the reason in the last report.
async fn held(
    host: &mut Host,
    count: usize,
    is_held: bool,
) -> (BTreeSet<AttemptKey>, Option<String>) {
    let (mut held, mut why) = (BTreeSet::new(), None);
    while held.len() < count {
        if let Report::Held { attempt, message } = host.next().await {
            assert_eq!(message.is_some(), is_held, "{attempt}: {message:?}");
            held.insert(attempt);
            why = message;
        }
    }
    (held, why)
}

/// A lab in which one attempt runs, and the child of this attempt.
async fn with_running() -> (Lab, ChildId) {
    let mut lab = Lab::new().await;
    let running = lab.command("running.1", &["sleep", "1000"]);
    let child = running.child.clone();
    lab.start(running).await;
    lab.host.started(&child).await;
    (lab, child)
}

/// A lab in which one attempt runs whose supervisor is suspended, the child of this attempt, and
/// the pid of the supervisor.
async fn with_suspended() -> (Lab, ChildId, u32, Suspended) {
    let (lab, child) = with_running().await;
    let supervisor = lab.supervisor_pid();
    (lab, child, supervisor, suspend(supervisor))
}

#[tokio::test]
async fn new_work_goes_to_another_supervisor_while_one_does_not_answer() {
    let (mut lab, _, supervisor, suspended) = with_suspended().await;
    let waiting = lab.command("waiting.1", &["sleep", "1000"]);
    let child = waiting.child.clone();
    lab.start(waiting).await;

    let both = BTreeSet::from([key("running.1"), key("waiting.1")]);
    let (waiting, why) = held(&mut lab.host, 2, true).await;
    assert_eq!(waiting, both);
    let why = why.unwrap();
    let named = format!("(pid {supervisor}) does not answer");
    assert!(why.contains(&named), "{why}");
    assert_eq!(lab.host.supervisors.silent(), [why]);
    let (exit, _) = lab.run(lab.command("new.1", &["true"])).await;
    assert_eq!(exit.status, Status::Code(0));

    suspended.go_on();
    let (waiting, _) = held(&mut lab.host, 2, false).await;
    assert_eq!(waiting, both);
    // The engine looks again for attempts that it did not find while the supervisor was silent.
    let number = loop {
        if let Report::Reached { number, .. } = lab.host.next().await {
            break number;
        }
    };
    // With a number, the engine would still have to end the silence of the supervisor, and could
    // end a later silence by mistake.
    assert_eq!(number, None);
    assert!(lab.host.supervisors.silent().is_empty());
    lab.finish(key("waiting.1")).await;
    lab.host.exit(&child).await;
}

#[tokio::test]
async fn an_attempt_whose_next_child_waits_for_a_silent_supervisor_is_shown_as_held_back() {
    let mut lab = Lab::new().await;
    let (_, ended) = lab.run(lab.command("between.1", &["true"])).await;
    assert!(ended);
    let suspended = suspend(lab.supervisor_pid());
    lab.start(lab.command("waiting.1", &["true"])).await;
    let (waiting, _) = held(&mut lab.host, 1, true).await;
    assert_eq!(waiting, BTreeSet::from([key("waiting.1")]));
    let next = StartChild {
        child: ChildId::new(key("between.1"), 1),
        ..lab.command("between.1", &["true"])
    };
    lab.start(next.clone()).await;
    let (waiting, _) = held(&mut lab.host, 1, true).await;
    assert_eq!(waiting, BTreeSet::from([key("between.1")]));
    suspended.go_on();
    lab.host.exit(&next.child).await;
}

/// A supervisor in a frozen control group is as silent as a suspended one.
#[tokio::test]
async fn a_supervisor_that_does_not_confirm_a_stop_is_named_and_its_attempts_are_held_back() {
    let (mut lab, child, supervisor, suspended) = with_suspended().await;
    lab.stop(key("running.1"), StopWhy::Cancelled, Vec::new())
        .await;

    let (waiting, why) = held(&mut lab.host, 1, true).await;
    assert_eq!(waiting, BTreeSet::from([key("running.1")]));
    let why = why.unwrap();
    let named = format!("(pid {supervisor}) does not answer");
    assert!(why.contains(&named), "{why}");
    assert_eq!(lab.host.supervisors.silent(), [why]);

    suspended.go_on();
    let (mut goes_on, mut is_over) = (false, false);
    while !goes_on || !is_over {
        match lab.host.next().await {
            Report::Held { message, .. } => goes_on |= message.is_none(),
            Report::Exited { child: of, .. } => is_over |= of == child,
            _ => {}
        }
    }
    assert!(lab.host.supervisors.silent().is_empty());
}

fn stop(seq: u64, attempt: &str, ladder: Vec<Rung>) -> Numbered {
    let command = Command::Stop {
        attempt: key(attempt),
        why: StopWhy::Cancelled,
        ladder,
    };
    Numbered { seq, command }
}

/// The attempt does not end when it is stopped, and another connection takes the place of the
/// host's. The supervisor would say nothing more for an hour.
#[tokio::test]
async fn a_stop_is_confirmed_before_its_attempt_has_ended() {
    let mut lab = Lab::new().await;
    let running = lab.script(
        "stubborn.1",
        "trap '' TERM; echo up; while true; do sleep 1000; done",
    );
    let child = running.child.clone();
    lab.start(running).await;
    lab.host.started(&child).await;
    lab.lines("stubborn.1", 1).await;
    let mut bare = Bare::connect(&lab.dir.path().join("supervisors/1"), 2);
    loop {
        match bare.next() {
            Message::Welcome(welcome) => assert!(welcome.confirms_at_once),
            Message::Ready => break,
            _ => {}
        }
    }
    let hour = Rung {
        signal: Signal::Term,
        wait: Duration::from_hours(1),
    };
    bare.send(&stop(1, "stubborn.1", vec![hour]));
    assert_eq!(bare.next(), Message::Received { seq: 1 });
    bare.send(&stop(2, "stubborn.1", Vec::new()));
    while !matches!(bare.next(), Message::Exited { .. }) {}
}

/// The later start hangs. Many starts together may take as long.
#[tokio::test]
async fn a_start_is_confirmed_while_a_later_one_is_carried_out() {
    let mut lab = Lab::new().await;
    lab.run(lab.command("first.1", &["true"])).await;
    lab.fifo("fifo");
    let fifo = lab.dir.path().join("fifo");
    let hangs = StartChild {
        // As long as nobody opens the fifo for writing, it cannot be opened for reading.
        stdin: Stdin::File(fifo.clone()),
        ..lab.command("hangs.1", &["cat"])
    };
    let child = hangs.child.clone();
    let suspended = suspend(lab.supervisor_pid());
    let mut bare = Bare::connect(&supervisor_dir(&lab), 2);
    for (seq, start) in (1..).zip([lab.command("quick.1", &["true"]), hangs]) {
        let command = Command::Start(Box::new(start));
        bare.send(&Numbered { seq, command });
    }
    suspended.go_on();
    while bare.next() != (Message::Received { seq: 1 }) {}
    drop(std::fs::File::create(fifo).unwrap());
    let is_its_end =
        |message: &Message| matches!(message, Message::Exited { child: of, .. } if *of == child);
    while !is_its_end(&bare.next()) {}
}

/// A host sends its last commands and ends. The supervisor obeys them only afterwards.
#[tokio::test]
async fn all_stops_that_have_arrived_are_obeyed_although_their_host_has_ended() {
    const NAMES: [&str; 3] = ["one.1", "two.1", "three.1"];
    let mut lab = Lab::new().await;
    let mut pids = Vec::new();
    for name in NAMES {
        let start = lab.command(name, &["sleep", "1000"]);
        let child = start.child.clone();
        lab.start(start).await;
        pids.push(lab.host.started(&child).await.0);
    }
    let suspended = suspend(lab.supervisor_pid());
    let mut bare = Bare::connect(&supervisor_dir(&lab), 2);
    for (seq, name) in (1..).zip(NAMES) {
        bare.send(&stop(seq, name, Vec::new()));
    }
    drop(bare);
    suspended.go_on();
    for pid in pids {
        tokio::task::spawn_blocking(move || wait_gone(pid))
            .await
            .unwrap();
    }
}

/// If the supervisor is killed later, its notes show at least what the host knows.
#[tokio::test]
async fn a_report_is_noted_before_it_is_sent_between_two_stops() {
    let mut lab = Lab::new().await;
    lab.run(lab.command("first.1", &["true"])).await;
    let dir = supervisor_dir(&lab);
    let suspended = suspend(lab.supervisor_pid());
    let mut bare = Bare::connect(&dir, 2);
    let refused = lab.command("refused.1", &["/no/such/program"]);
    let command = Command::Start(Box::new(refused));
    // All of them are obeyed in one round, which therefore takes some time.
    let mut all = vec![Numbered { seq: 1, command }];
    all.extend((2..800).map(|seq| stop(seq, "nobody.1", Vec::new())));
    bare.send_all(&all);
    suspended.go_on();
    while !matches!(bare.next(), Message::NotStarted { .. }) {}
    let notes = std::fs::read_to_string(dir.join(process::journal::FILE)).unwrap();
    assert!(notes.contains("not_started"), "{notes}");
}

/// The host's connection is replaced by another one of the same epoch, and the socket is hidden, so
/// that the host cannot connect again.
#[tokio::test]
async fn attempts_of_a_supervisor_that_cannot_be_reached_again_are_shown_as_held_back() {
    let (mut lab, child) = with_running().await;
    let dir = lab.dir.path().join("supervisors/1");
    let (socket, aside) = (dir.join(process::SOCKET_FILE), dir.join("aside"));
    let mut other = Bare::connect(&dir, 1);
    other.next();
    std::fs::rename(&socket, &aside).unwrap();

    let (waiting, why) = held(&mut lab.host, 1, true).await;
    assert_eq!(waiting, BTreeSet::from([key("running.1")]));
    let why = why.unwrap();
    assert!(why.contains("cannot be reached"), "{why}");
    assert_eq!(lab.host.supervisors.silent(), [why]);
    let (exit, _) = lab.run(lab.command("new.1", &["true"])).await;
    assert_eq!(exit.status, Status::Code(0));

    std::fs::rename(&aside, &socket).unwrap();
    held(&mut lab.host, 1, false).await;
    while !matches!(lab.host.next().await, Report::Reached { .. }) {}
    assert!(lab.host.supervisors.silent().is_empty());
    lab.stop(key("running.1"), StopWhy::Cancelled, Vec::new())
        .await;
    lab.host.exit(&child).await;
}

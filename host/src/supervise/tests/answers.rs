//! A supervisor that does not answer although the host is connected to it.

use std::collections::BTreeSet;

use super::*;

fn send(pid: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(pid.cast_signed()).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

/// Waits until two attempts are reported as held back or, if `is_held` is false, as no longer held
/// back. Returns these attempts, and the reason in the last report.
async fn two_held(host: &mut Host, is_held: bool) -> (BTreeSet<AttemptKey>, Option<String>) {
    let (mut held, mut why) = (BTreeSet::new(), None);
    while held.len() < 2 {
        if let Report::Held { attempt, message } = host.next().await {
            assert_eq!(message.is_some(), is_held, "{attempt}: {message:?}");
            held.insert(attempt);
            why = message;
        }
    }
    (held, why)
}

#[tokio::test]
async fn new_work_goes_to_another_supervisor_while_one_does_not_answer() {
    let mut lab = Lab::new().await;
    let running = lab.command("running.1", &["sleep", "1000"]);
    let child = running.child.clone();
    lab.start(running).await;
    lab.host.started(&child).await;
    let supervisor = lab.supervisor_pid();
    send(supervisor, rustix::process::Signal::STOP);
    let waiting = lab.command("waiting.1", &["sleep", "1000"]);
    let child = waiting.child.clone();
    lab.start(waiting).await;

    let both = BTreeSet::from([key("running.1"), key("waiting.1")]);
    let (held, why) = two_held(&mut lab.host, true).await;
    assert_eq!(held, both);
    let why = why.unwrap();
    let named = format!("(pid {supervisor}) does not answer");
    assert!(why.contains(&named), "{why}");
    assert_eq!(lab.host.supervisors.silent(), [why]);
    let (exit, _) = lab.run(lab.command("new.1", &["true"])).await;
    assert_eq!(exit.status, Status::Code(0));

    send(supervisor, rustix::process::Signal::CONT);
    let (held, _) = two_held(&mut lab.host, false).await;
    assert_eq!(held, both);
    // The engine looks again for attempts that it did not find while the supervisor was silent.
    let number = loop {
        if let Report::Reached { number, .. } = lab.host.next().await {
            break number;
        }
    };
    // If the engine still had to forget the supervisor, it could forget a later silence.
    assert_eq!(number, None);
    assert!(lab.host.supervisors.silent().is_empty());
    lab.finish(key("waiting.1")).await;
    lab.host.exit(&child).await;
}

//! Hosts that come and go: only the newest host is obeyed, and no host takes a supervisor or its
//! directory from a newer one.

use serde_json::json;

use super::connection::{Bare, supervisor_dir};
use super::*;
use crate::supervise::protocol::{Message, PROTOCOL};

#[tokio::test]
async fn a_new_host_finds_every_attempt_and_an_old_host_is_refused() {
    let mut lab = Lab::new().await;
    lab.run(lab.script("done.1", "exit 9")).await;
    lab.run(lab.command("forgotten.1", &["true"])).await;
    lab.ack(key("forgotten.1")).await;
    lab.start(lab.command("runs.1", &["sleep", "1000"])).await;
    let (pid, start_time) = lab.host.started(&ChildId::new(key("runs.1"), 0)).await;
    let supervisor = lab.supervisor_pid();
    let alive = pids(&lab.dir.path().join("supervisors")).unwrap();
    assert_eq!(alive, [supervisor]);

    let mut lab = lab.restart_host(5).await;
    assert_eq!(
        lab.supervisor_pid(),
        supervisor,
        "the supervisor is taken over, not replaced"
    );
    lab.host
        .found
        .sort_by(|one, other| one.attempt.cmp(&other.attempt));
    let [done, runs] = &lab.host.found[..] else {
        panic!("{:?}", lab.host.found)
    };
    assert!(done.ended && !runs.ended);
    assert!(
        matches!(&done.children[0].state, FoundState::Exited(exit) if exit.status == Status::Code(9))
    );
    assert_eq!(
        runs.children[0].state,
        FoundState::Running { pid, start_time }
    );

    let mut old = Bare::connect(&supervisor_dir(&lab), 4);
    assert_eq!(old.next(), Message::Fenced { epoch: 5 });

    // The supervisor knows the child: a repeated start does not run it again.
    lab.start(lab.command("runs.1", &["sleep", "1000"])).await;
    lab.stop(key("runs.1"), StopWhy::Cancelled, Vec::new())
        .await;
    let (exit, _) = lab.host.exit(&ChildId::new(key("runs.1"), 0)).await;
    assert_eq!(exit.pid, pid);
}

/// The first host sends a start to a suspended supervisor; the second host concludes the attempt,
/// since no supervisor reports that the start was carried out.
#[tokio::test]
async fn a_start_that_an_earlier_host_sent_is_not_carried_out_once_a_new_host_leads() {
    let mut lab = Lab::new().await;
    lab.start(lab.command("runs.1", &["sleep", "1000"])).await;
    lab.host.started(&ChildId::new(key("runs.1"), 0)).await;
    let supervisor = lab.supervisor_pid();
    let suspended = suspend(supervisor);
    lab.start(lab.script("late.1", "echo ran > ran")).await;
    lab.host.supervisors.flush().await;

    let mut lab = lab.restart_host(2).await;
    assert_eq!(
        lab.host.found.len(),
        1,
        "the notes of the suspended supervisor contain the running attempt"
    );
    lab.stop(key("late.1"), StopWhy::Cancelled, Vec::new())
        .await;
    lab.host.ended(&key("late.1")).await;
    let dir = lab.leave().await;
    suspended.go_on();

    let host = Host::open(dir.path(), 3).await;
    let found: Vec<&str> = host
        .found
        .iter()
        .map(|found| name_of(&found.attempt))
        .collect();
    assert_eq!(found, ["runs.1"]);
    let mut lab = Lab { dir, host };
    let (exit, _) = lab.run(lab.command("next.1", &["true"])).await;
    assert_eq!(exit.status, Status::Code(0));
    assert_eq!(lab.supervisor_pid(), supervisor);
    assert!(!lab.dir.path().join("ran").exists());
    lab.stop(key("runs.1"), StopWhy::Cancelled, Vec::new())
        .await;
    lab.host.exit(&ChildId::new(key("runs.1"), 0)).await;
}

/// A lab in which a start waits for a supervisor, whose place the test gives to an impostor.
async fn before_an_impostor() -> Lab {
    let dir = Place(TempDir::new().unwrap());
    let script = "until test -S \"$1/sock\"; do sleep 0.02; done; echo ready";
    let program = Program {
        path: "/bin/sh".into(),
        args: vec!["-c".into(), script.into(), "sh".into()],
    };
    let host = Host::open_by(dir.path(), 1, program).await;
    let lab = Lab { dir, host };
    lab.start(lab.command("t.1", &["true"])).await;
    while !supervisor_dir(&lab).exists() {
        tokio::task::yield_now().await;
    }
    lab
}

/// Waits for the report that the next child was not started because it has no supervisor; returns
/// the reason.
async fn without_supervisor(lab: &mut Lab) -> String {
    let Report::NotStarted { class, message, .. } = lab.host.next().await else {
        panic!("it started")
    };
    assert_eq!(class, NotStartedClass::Supervisor);
    message
}

/// The executable file of the host was replaced by another version.
#[tokio::test]
async fn a_start_is_not_received_by_a_new_supervisor_of_another_protocol() {
    let mut lab = before_an_impostor().await;
    let impostor = Impostor::of_protocol(PROTOCOL + 1, lab.dir.path(), Vec::new());
    let message = without_supervisor(&mut lab).await;
    assert!(message.contains("speaks protocol"), "{message}");
    assert_eq!(impostor.heard(), 1, "only the hello was sent");
    assert!(!supervisor_dir(&lab).exists());
}

/// A newer host has taken over the supervisor before this host could connect to it.
#[tokio::test]
async fn the_directory_of_a_new_supervisor_that_obeys_a_newer_host_is_kept() {
    let mut lab = before_an_impostor().await;
    let fenced = vec![json!({"fenced": {"epoch": 2}})];
    let impostor = Impostor::begin(lab.dir.path(), fenced);
    let message = without_supervisor(&mut lab).await;
    assert!(message.contains("newer host (epoch 2)"), "{message}");
    assert_eq!(impostor.heard(), 1, "only the hello was sent");
    assert!(supervisor_dir(&lab).exists());
}

#[tokio::test]
async fn a_supervisors_directory_that_another_host_has_made_is_kept() {
    let mut lab = Lab::new().await;
    std::fs::create_dir(supervisor_dir(&lab)).unwrap();
    lab.start(lab.command("t.1", &["true"])).await;
    let message = without_supervisor(&mut lab).await;
    assert!(message.contains("cannot be used"), "{message}");
    assert!(supervisor_dir(&lab).exists());
    // The next start makes a directory with another number.
    let (exit, _) = lab.run(lab.command("t.2", &["true"])).await;
    assert_eq!(exit.status, Status::Code(0));
}

#[tokio::test]
async fn a_supervisor_that_an_earlier_host_told_to_end_stays_for_the_next_host() {
    let mut lab = Lab::new().await;
    lab.start(lab.command("runs.1", &["sleep", "1000"])).await;
    lab.host.started(&ChildId::new(key("runs.1"), 0)).await;
    let pid = lab.supervisor_pid();
    lab.host.supervisors.quit().done().await.unwrap();
    lab.host.supervisors.flush().await;

    let mut lab = lab.restart_host(2).await;
    lab.stop(key("runs.1"), StopWhy::Cancelled, Vec::new())
        .await;
    lab.host.ended(&key("runs.1")).await;
    // Now the supervisor has no attempt for a moment.
    lab.ack(key("runs.1")).await;
    lab.host.supervisors.flush().await;
    let (exit, _) = lab.run(lab.command("next.1", &["true"])).await;
    assert_eq!(exit.status, Status::Code(0));
    assert_eq!(lab.supervisor_pid(), pid);
}

//! A supervisor that goes on after a suspension: a child that has ended meanwhile has ended by
//! itself, whatever else has come or passed since.

use std::collections::BTreeMap;

use super::connection::{Bare, supervisor_dir};
use super::*;
use crate::supervise::protocol::{ChildState, Command, Message, Numbered};

/// Long enough for a busy machine to suspend the supervisor before this limit has passed.
const LIMIT: Duration = Duration::from_secs(5);

/// A script that waits for a file of this name, and then does the rest.
fn once(file: &str, rest: &str) -> String {
    format!("until test -e {file}; do sleep 0.02; done; {rest}")
}

impl Lab {
    /// Starts a child that ends with code 7 once there is a file with the name of its attempt.
    async fn start_waiting(&mut self, name: &str, change: impl Fn(&mut StartChild)) -> u32 {
        let mut start = self.script(name, &once(name, "exit 7"));
        change(&mut start);
        let child = start.child.clone();
        self.start(start).await;
        self.host.started(&child).await.0
    }

    fn touch(&self, file: &str) {
        std::fs::write(self.dir.path().join(file), "").unwrap();
    }

    /// Lets a child of the suspended supervisor end.
    async fn let_end(&self, name: &str, pid: u32) {
        self.touch(name);
        until(|| procfs::stat(pid).unwrap().is_zombie()).await;
    }

    /// Suspends the supervisor; returns once it does nothing.
    async fn suspend_supervisor(&self) -> Suspended {
        let pid = self.supervisor_pid();
        let suspended = suspend(pid);
        until(|| procfs::stat(pid).unwrap().is_stopped()).await;
        suspended
    }

    /// Waits for the exits of these attempts; returns the status and the reason of the stop.
    async fn exits(&mut self, names: &[&str]) -> BTreeMap<String, (Status, Option<StopWhy>)> {
        let mut exits = BTreeMap::new();
        while exits.len() < names.len() {
            if let Report::Exited { child, exit, .. } = self.host.next().await {
                let name = name_of(child.attempt()).to_owned();
                exits.insert(name, (exit.status, exit.stopped));
            }
        }
        assert!(exits.keys().eq(names), "{exits:?}");
        exits
    }

    /// Waits until these attempts have ended by themselves, in alphabetical order.
    async fn have_ended_by_themselves(&mut self, names: &[&str]) {
        for (name, how) in self.exits(names).await {
            assert_eq!(how, (Status::Code(7), None), "{name}");
        }
    }
}

async fn until(is_so: impl Fn() -> bool) {
    let wait = async {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap();
}

#[tokio::test]
async fn a_child_that_ended_before_its_deadline_has_not_timed_out_if_this_is_noticed_later() {
    let mut lab = Lab::new().await;
    let hard = |start: &mut StartChild| start.timeout = Some(LIMIT);
    let hard = lab.start_waiting("hard.1", hard).await;
    let idle = |start: &mut StartChild| start.idle_timeout = Some(LIMIT);
    let idle = lab.start_waiting("idle.1", idle).await;
    let passed = tokio::time::Instant::now() + LIMIT;
    let suspended = lab.suspend_supervisor().await;
    lab.let_end("hard.1", hard).await;
    lab.let_end("idle.1", idle).await;
    tokio::time::sleep_until(passed).await;
    suspended.go_on();
    lab.have_ended_by_themselves(&["hard.1", "idle.1"]).await;
}

#[tokio::test]
async fn output_that_came_before_the_idle_deadline_counts_although_it_is_read_later() {
    let mut lab = Lab::new().await;
    let script = once(
        "speak",
        &format!("echo out; touch said; {}", once("go", "exit 7")),
    );
    let start = StartChild {
        idle_timeout: Some(LIMIT),
        ..lab.script("speaks.1", &script)
    };
    let child = start.child.clone();
    lab.start(start).await;
    lab.host.started(&child).await;
    let passed = tokio::time::Instant::now() + LIMIT;
    let suspended = lab.suspend_supervisor().await;
    lab.touch("speak");
    let said = lab.dir.path().join("said");
    until(|| said.exists()).await;
    tokio::time::sleep_until(passed).await;
    suspended.go_on();
    assert_eq!(lab.lines("speaks.1", 1).await, ["out"]);
    lab.touch("go");
    lab.have_ended_by_themselves(&["speaks.1"]).await;
}

/// The supervisor reads the orders before the signal that reports the ends, because another order
/// had arrived before the children ended.
#[tokio::test]
async fn a_child_that_has_ended_is_not_stopped_by_an_order_that_is_read_before_its_end() {
    let mut lab = Lab::new().await;
    let cancelled = lab.start_waiting("cancelled.1", |_| {}).await;
    let finished = lab.start_waiting("finished.1", |_| {}).await;
    let suspended = lab.suspend_supervisor().await;
    lab.finish(key("nobody.1")).await;
    lab.host.supervisors.flush().await;
    lab.let_end("cancelled.1", cancelled).await;
    lab.let_end("finished.1", finished).await;
    let why = StopWhy::Cancelled;
    lab.stop(key("cancelled.1"), why, Vec::new()).await;
    lab.finish(key("finished.1")).await;
    lab.host.supervisors.flush().await;
    suspended.go_on();
    let both = ["cancelled.1", "finished.1"];
    lab.have_ended_by_themselves(&both).await;
}

#[tokio::test]
async fn a_child_that_has_ended_does_not_count_as_ended_with_its_supervisor() {
    let mut lab = Lab::new().await;
    let pid = lab.start_waiting("t.1", |_| {}).await;
    let suspended = lab.suspend_supervisor().await;
    lab.let_end("t.1", pid).await;
    suspended.send(rustix::process::Signal::TERM);
    suspended.go_on();
    lab.have_ended_by_themselves(&["t.1"]).await;
}

/// A new host takes over, and the supervisor reads its hello before the signal that reports the end
/// of the child.
#[tokio::test]
async fn a_child_that_a_signal_has_ended_was_not_killed_for_an_input_that_breaks_off_later() {
    let mut lab = Lab::new().await;
    lab.run(lab.command("first.1", &["true"])).await;
    let dir = supervisor_dir(&lab);
    let mut old = Bare::connect(&dir, 2);
    let start = StartChild {
        stdin: Stdin::Stream,
        ..lab.script("t.1", &once("t.1", "kill -USR1 $$"))
    };
    let child = start.child.clone();
    let command = Command::Start(Box::new(start));
    old.send(&Numbered { seq: 1, command });
    let pid = loop {
        if let Message::Started { pid, .. } = old.next() {
            break pid;
        }
    };
    let mut new = Bare::connect_silently(&dir);
    let nobody = key("nobody.1");
    let attempt = nobody.clone();
    let command = Command::Finish { attempt };
    old.send(&Numbered { seq: 2, command });
    // The supervisor has accepted the connection by the time of the answer.
    let is_answer =
        |message: &Message| matches!(message, Message::Ended { attempt, .. } if *attempt == nobody);
    while !is_answer(&old.next()) {}
    let suspended = lab.suspend_supervisor().await;
    new.greet(3);
    lab.let_end("t.1", pid).await;
    suspended.go_on();
    let exit = loop {
        match new.next() {
            Message::Exited {
                child: of, exit, ..
            } if of == child => break exit,
            Message::Attempt(state) if state.attempt == *child.attempt() => {
                if let ChildState::Exited(exit) = &state.children[0].state {
                    break exit.clone();
                }
            }
            _ => {}
        }
    };
    assert_eq!(
        (exit.status, exit.input_broke_off),
        (Status::Signal(10), false)
    );
}

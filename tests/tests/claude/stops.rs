//! All processes of an agent end when its task is stopped.

use std::time::Duration;

use claudine_tests::messages_api::{Answer, Script};
use claudine_tests::process;
use claudine_tests::short_id;
use claudine_tests::wait::wait_at_most;

use crate::world::World;

/// Longest time from the request to the end of the last process.
const AT_MOST: Duration = Duration::from_secs(10);

/// Runs a command in the agent's Bash tool that leaves a process running and writes its pid into
/// the file `pid`. Then cancels the task, and checks that this process and the agent end.
#[track_caller]
fn check(command: &str) {
    let script = Script::command_then(command, "done");
    let world = World::new(script);
    let id = world.delegate(&[
        "run it",
        "--permission-mode",
        "bypassPermissions",
        "--env",
        "IS_SANDBOX=1",
    ]);
    let left: u32 = world.line_of("pid").parse().expect("a pid");
    let agent = world.host.live(&id);
    world
        .host
        .run(["cancel", &id, "-m", "changed my mind"])
        .check();
    let gone = wait_at_most(AT_MOST, || {
        (!process::alive(left) && !process::alive(agent)).then_some(())
    });
    assert!(
        gone.is_some(),
        "processes are left {AT_MOST:?} after the cancel: {:?}",
        world.host.processes()
    );
    let task = world.host.finished(&id);
    assert_eq!(task["outcome"], "cancelled", "{task:#}");
}

#[test]
fn cancel_ends_a_command_of_the_agent() {
    check("echo $$ > pid; exec tail -f /dev/null");
}

#[test]
fn cancel_ends_a_command_that_ignores_signals() {
    check("trap '' INT TERM HUP; echo $$ > pid; exec tail -f /dev/null");
}

#[test]
fn cancel_ends_a_daemon_that_the_agent_has_started() {
    check(
        "(setsid sh -c 'echo $$ > pid; exec tail -f /dev/null' >/dev/null 2>&1 &); tail -f /dev/null",
    );
}

#[test]
fn cancel_ends_an_agent_that_waits_for_the_service() {
    let world = World::new(Script::always(Answer::silent("for ever")));
    let id = world.delegate(&["hi"]);
    world.reach("for ever");
    let agent = world.host.live(&id);
    world.host.run(["cancel", &id]).check();
    assert!(wait_at_most(AT_MOST, || (!process::alive(agent)).then_some(())).is_some());
    assert_eq!(world.host.finished(&id)["outcome"], "cancelled");
}

#[test]
fn agent_that_prints_nothing_times_out() {
    let world = World::new(Script::always(Answer::silent("for ever")));
    let task = world.done(&["hi", "--idle-timeout", "3s"]);
    assert_eq!(task["outcome"], "timed_out", "{task:#}");
    assert_eq!(task["reason"]["class"], "timeout");
    let id = task["id"].as_str().unwrap();
    let expected = format!("claudine resume {} --idle-timeout 6s", short_id(id));
    assert_eq!(task["hint"], expected);
}

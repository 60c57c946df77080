//! All processes of an agent end when its task is stopped.

use std::time::Duration;

use claudine_tests::messages_api::{Answer, Script};
use claudine_tests::process;
use claudine_tests::short_id;
use claudine_tests::wait::wait_at_most;

use crate::world::World;

/// Longest time from the request to the end of the last process.
pub(crate) const AT_MOST: Duration = Duration::from_secs(10);

/// A command for the agent's Bash tool that leaves three processes, each of which writes its pid
/// into a file: an ordinary one, a daemon, and one that ignores signals.
const LEAVES: &str = "\
    sh -c 'echo $$ > plain; exec tail -f /dev/null' & \
    (setsid sh -c 'echo $$ > daemon; exec tail -f /dev/null' >/dev/null 2>&1 &); \
    trap '' INT TERM HUP; echo $$ > stubborn; exec tail -f /dev/null";

#[test]
fn cancel_ends_all_commands_of_the_agent_and_the_daemons_that_they_have_started() {
    let script = Script::command_then(LEAVES, "done");
    let world = World::new(script);
    let id = world.delegate(&[
        "run it",
        "--permission-mode",
        "bypassPermissions",
        "--env",
        "IS_SANDBOX=1",
    ]);
    let files = ["plain", "daemon", "stubborn"];
    let pids = files.map(|file| world.line_of(file).parse::<u32>().expect("a pid"));
    let mut pids = pids.to_vec();
    pids.push(world.host.live(&id));
    world
        .host
        .run(["cancel", &id, "-m", "changed my mind"])
        .check();
    let gone = wait_at_most(AT_MOST, || {
        (!pids.iter().any(|pid| process::alive(*pid))).then_some(())
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
fn agent_that_prints_nothing_times_out() {
    let world = World::new(Script::always(Answer::silent("for ever")));
    let task = world.done(&["hi", "--idle-timeout", "3s"]);
    assert_eq!(task["outcome"], "timed_out", "{task:#}");
    assert_eq!(task["reason"]["class"], "timeout");
    let id = task["id"].as_str().unwrap();
    let expected = format!("claudine resume {} --idle-timeout 6s", short_id(id));
    assert_eq!(task["hint"], expected);
}

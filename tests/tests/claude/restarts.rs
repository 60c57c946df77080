//! The host is killed while an agent runs, between any two lines of the agent's output, without an
//! effect on the result.

use claudine_tests::messages_api::{Answer, Rule, Script, Step};
use claudine_tests::{process, wait_for};

use crate::world::{World, attempt, succeeded};

/// A run with one command, held before and after each line that the agent prints.
fn script() -> Script {
    let tool = Answer::steps([
        Step::Pause("began".to_owned()),
        Step::bash("echo ran >> runs", false),
        Step::Pause("asked".to_owned()),
    ]);
    let text = Answer::steps([
        Step::Pause("told".to_owned()),
        Step::Text("the ".to_owned()),
        Step::Pause("half".to_owned()),
        Step::Text("answer".to_owned()),
    ]);
    Script::default()
        .then(Rule::new(tool).at_turn(0))
        .then(Rule::new(text))
}

const POINTS: [&str; 4] = ["began", "asked", "told", "half"];

/// Kills the host when the agent waits at this point. If `goes_on_alone` is set, the agent
/// continues while no host runs. Otherwise, the agent continues once a host runs again.
fn check(point: &str, goes_on_alone: bool) {
    let world = World::new(script());
    let id = world.delegate(&["do it", "--allowed-tools", "Bash"]);
    for before in POINTS.iter().take_while(|before| **before != point) {
        world.api.release(before);
    }
    world.reach(point);
    let pid = world.host.live(&id);
    world.host.kill_host();
    assert!(process::alive(pid), "the agent died with the host");
    let go_on = || POINTS.iter().for_each(|point| world.api.release(point));
    if goes_on_alone {
        go_on();
        wait_for("the agent to end while there is no host", || {
            (!process::alive(pid)).then_some(())
        });
    }
    world.host.up();
    if !goes_on_alone {
        assert_eq!(world.host.live(&id), pid);
        go_on();
    }
    let task = world.host.finished(&id);
    succeeded(&task, "the answer");
    assert_eq!(task["cost_usd"], 0.0016);
    assert_eq!(
        task["attempts"].as_array().map(Vec::len),
        Some(1),
        "{task:#}"
    );
    assert_eq!(attempt(&task, 0, "pid"), pid);
    assert_eq!(world.line_of("runs"), "ran");
    assert_eq!(world.api.message_requests().len(), 2);
}

#[test]
fn agent_succeeds_if_the_host_is_killed_before_the_first_answer() {
    check("began", false);
    check("began", true);
}

#[test]
fn agent_succeeds_if_the_host_is_killed_before_a_tool_runs() {
    check("asked", false);
    check("asked", true);
}

#[test]
fn agent_succeeds_if_the_host_is_killed_before_the_last_answer() {
    check("told", false);
    check("told", true);
}

#[test]
fn agent_succeeds_if_the_host_is_killed_during_the_last_answer() {
    check("half", false);
    check("half", true);
}

#[test]
fn agent_succeeds_if_the_host_is_killed_while_a_tool_runs() {
    let script = Script::command_then("mkfifo gate; echo here > reached; cat gate", "the answer");
    let world = World::new(script);
    let id = world.delegate(&["do it", "--allowed-tools", "Bash"]);
    assert_eq!(world.line_of("reached"), "here");
    let pid = world.host.live(&id);
    world.host.kill_host();
    world.host.up();
    assert_eq!(world.host.live(&id), pid);
    std::fs::write(world.host.work().join("gate"), "through").unwrap();
    succeeded(&world.host.finished(&id), "the answer");
}

/// The second attempt starts two processes of the agent: the first ends because it finds no
/// session, and the host is killed while the second runs. The executor's next instance gets both
/// processes.
#[test]
fn agent_succeeds_if_the_host_is_killed_during_the_second_process_of_an_attempt() {
    let script = Script::default()
        .then(Rule::new(Answer::silent("for ever")).times(1))
        .then(Rule::new(Answer::steps([
            Step::Text("the ".to_owned()),
            Step::Pause("half".to_owned()),
            Step::Text("answer".to_owned()),
        ])));
    let world = World::new(script);
    let id = world.delegate(&["do it"]);
    world.reach("for ever");
    process::kill_9(world.host.live(&id));
    world.host.finished(&id);
    world.forget_sessions();
    world.host.run(["retry", &id]).check();
    world.reach("half");
    world.host.kill_host();
    world.host.up();
    world.api.release("half");
    let task = world.host.finished(&id);
    succeeded(&task, "the answer");
    let why = task["outputs"]["fresh_session_reason"].as_str();
    assert!(
        why.is_some_and(|why| why.starts_with("No conversation found")),
        "{task:#}"
    );
}

#[test]
fn cancel_ends_an_agent_that_the_next_host_has_taken_over() {
    let script = Script::always(Answer::bash("echo $$ > pid; exec tail -f /dev/null"));
    let world = World::new(script);
    let id = world.delegate(&["do it", "--allowed-tools", "Bash"]);
    let command: u32 = world.line_of("pid").parse().expect("a pid");
    let agent = world.host.live(&id);
    world.host.kill_host();
    world.host.up();
    world.host.run(["cancel", &id]).check();
    assert_eq!(world.host.finished(&id)["outcome"], "cancelled");
    assert!(!process::alive(agent) && !process::alive(command));
}

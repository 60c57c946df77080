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

/// An agent that runs the script.
fn agent() -> (World, String) {
    let world = World::new(script());
    let id = world.delegate(&["do it", "--allowed-tools", "Bash"]);
    (world, id)
}

/// Kills the host when the agent waits at this point; returns the agent's pid.
#[track_caller]
fn host_dies(world: &World, id: &str, point: &str) -> u32 {
    world.reach(point);
    let pid = world.host.live(id);
    world.host.kill_host();
    assert!(process::alive(pid), "the agent died with the host");
    pid
}

/// Waits until the agent ends, although no host runs.
fn ends_alone(pid: u32) {
    wait_for("the agent to end while there is no host", || {
        (!process::alive(pid)).then_some(())
    });
}

/// Checks that nothing was lost, repeated or counted twice.
#[track_caller]
fn ran_once(world: &World, id: &str, pid: u32) {
    let task = world.host.finished(id);
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
fn agent_succeeds_if_the_host_is_killed_and_replaced_before_and_during_each_answer() {
    let (world, id) = agent();
    let mut pids = Vec::new();
    for point in POINTS {
        pids.push(host_dies(&world, &id, point));
        world.host.up();
        assert_eq!(world.host.live(&id), pids[0]);
        world.api.release(point);
    }
    ran_once(&world, &id, pids[0]);
}

/// Before and during each answer, the host is killed. While no host runs, the agent continues to
/// the next point.
#[test]
fn agent_succeeds_if_it_continues_without_a_host_between_any_two_hosts() {
    let (world, id) = agent();
    let mut pids = Vec::new();
    for (index, point) in POINTS.iter().enumerate() {
        let pid = host_dies(&world, &id, point);
        pids.push(pid);
        world.api.release(point);
        match POINTS.get(index + 1) {
            Some(next) => world.reach(next),
            None => ends_alone(pid),
        }
        world.host.up();
    }
    assert_eq!(pids, [pids[0]; POINTS.len()]);
    ran_once(&world, &id, pids[0]);
}

#[test]
fn agent_succeeds_if_it_continues_without_a_host_from_its_first_answer_to_its_end() {
    let (world, id) = agent();
    let pid = host_dies(&world, &id, POINTS[0]);
    for point in POINTS {
        world.api.release(point);
    }
    ends_alone(pid);
    world.host.up();
    ran_once(&world, &id, pid);
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

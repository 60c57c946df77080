//! Agents' processes that do not end as they should.

use claudine_tests::messages_api::{Answer, Rule, Script, Step};
use claudine_tests::process;

use crate::world::{World, ended, succeeded};

#[test]
fn agent_is_killed_if_it_does_not_exit_after_its_result() {
    let stubborn = "\"$CLAUDE\" \"$@\"\ntrap '' INT TERM\nexec tail -f /dev/null";
    let (world, _wrapper) = World::wrapped(Script::always(Answer::text("the answer")), stubborn);
    let id = world.delegate(&["hi"]);
    let pid = world.host.live(&id);
    succeeded(&world.host.finished(&id), "the answer");
    assert!(!process::alive(pid));
}

#[test]
fn background_command_of_an_agent_is_killed_when_the_agent_ends() {
    let script = Script::default()
        .then(
            Rule::new(Answer::steps([Step::bash(
                "echo $$ > pid; exec tail -f /dev/null",
                true,
            )]))
            .at_turn(0),
        )
        .then(Rule::new(Answer::text("it runs")));
    let world = World::new(script);
    let id = world.delegate(&[
        "start a server",
        "--permission-mode",
        "bypassPermissions",
        "--env",
        "IS_SANDBOX=1",
    ]);
    let server: u32 = world.line_of("pid").parse().expect("a pid");
    succeeded(&world.host.finished(&id), "it runs");
    assert!(
        !process::alive(server),
        "the agent's command is still alive"
    );
}

#[test]
fn agent_that_exits_without_a_result_has_failed() {
    let (world, _wrapper) = World::wrapped(
        Script::always(Answer::text("lost")),
        "\"$CLAUDE\" \"$@\" | head -n 1\nexit 0",
    );
    let message = ended(&world.done(&["hi"]), "failed", "no_result");
    assert_eq!(message, "claude exited with code 0 without a result");
}

#[test]
fn failure_of_an_agent_quotes_the_last_line_of_its_standard_error() {
    let (world, _wrapper) = World::wrapped(
        Script::default(),
        "echo 'cannot find my shoes.' >&2\nexit 7",
    );
    let task = world.done(&["hi"]);
    let message = ended(&task, "failed", "no_result");
    assert_eq!(
        message,
        "claude exited with code 7 without a result: cannot find my shoes"
    );
    assert_eq!(task["exit_code"], 7);
}

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
fn long_result_is_cut_to_its_limit_and_says_so() {
    // Like `claude`, but with a result of 8 MiB, which is longer than what is kept of the output.
    let (world, _wrapper) = World::wrapped(
        Script::default(),
        r#"case "$*" in *--version*) exec "$CLAUDE" "$@" ;; esac
        cat > /dev/null
        session=6f2a0d8e-3f57-4f1e-9d5b-1c1f5f7c0aff
        printf '{"type":"system","subtype":"init","session_id":"%s","model":"m"}\n' $session
        printf '{"type":"result","subtype":"success","is_error":false,"num_turns":1,"result":"'
        head -c 8388608 /dev/zero | tr '\0' x
        printf '","session_id":"%s","total_cost_usd":0.01}\n' $session"#,
    );
    let check = |max_output: &str, kept: usize, limit: &str| {
        let task = world.done(&["hi", "--max-output", max_output]);
        assert_eq!(task["outcome"], "succeeded", "{}", task["reason"]);
        let output = task["output"].as_str().expect("a result");
        let text = output.trim_start_matches('x');
        assert_eq!(output.len() - text.len(), kept, "{max_output}");
        let note = format!("… [claudine: the rest is left out: a result is kept up to {limit}]");
        assert_eq!(text, note, "{max_output}");
    };
    check("1M", 256 << 10, "256.0 KiB");
    check("1G", 1 << 20, "1.0 MiB");
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

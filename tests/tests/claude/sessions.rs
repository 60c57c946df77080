//! Sessions that are continued.

use claudine_tests::messages_api::{Answer, Rule, Script, Step};
use claudine_tests::wait::wait_at_most;
use claudine_tests::{process, wait_for};

use crate::stops::AT_MOST;
use crate::world::{World, attempt, ended, succeeded};

/// The command that the agent runs first.
fn first_command() -> Rule {
    Rule::new(Answer::bash("echo ran >> runs"))
        .at_turn(0)
        .times(1)
}

#[test]
fn retry_after_a_failure_of_the_service_continues_the_session() {
    let overloaded = Answer::error(529, "overloaded_error", "Overloaded");
    let script = Script::default()
        .then(first_command())
        .then(Rule::new(overloaded).times(3))
        .then(Rule::new(Answer::text("finished")));
    let world = World::new(script);
    let id = world.delegate(&[
        "the original prompt",
        "--permission-mode",
        "bypassPermissions",
        "--env",
        "IS_SANDBOX=1",
    ]);
    let task = world.host.finished(&id);
    ended(&task, "failed", "network");
    let session = attempt(&task, 0, "session_id").clone();

    // The script is replaced, because it may still contain failures that the first attempt has not
    // used up.
    world
        .api
        .set_script(Script::always(Answer::text("finished")));
    world.host.run(["retry", &id]).check();
    let task = world.host.finished(&id);
    succeeded(&task, "finished");
    assert_eq!(*attempt(&task, 1, "session_id"), session);
    assert_eq!(task["outputs"]["resumed"], true);
    let last = world.api.message_requests().pop().unwrap().messages();
    for piece in [
        "the original prompt",
        "echo ran",
        "was interrupted before it was finished",
    ] {
        assert!(last.contains(piece), "{piece:?} is not in {last}");
    }
    assert_eq!(world.line_of("runs"), "ran");
    // The agent reports the total cost of its session, but each attempt shows only its own cost.
    let cost = |index| attempt(&task, index, "cost_usd").as_f64().expect("a cost");
    let total = task["outputs"]["total_cost_usd"].as_f64().unwrap();
    assert!((cost(0) + cost(1) - total).abs() < 1e-9, "{task:#}");
    assert!((cost(1) - 0.0008).abs() < 1e-9, "{task:#}");
}

/// The second attempt starts two processes of the agent: the first ends because it finds no
/// session, and the host is killed while the second runs. The executor's next instance gets both
/// processes.
#[test]
fn retry_starts_a_new_session_if_the_last_session_is_gone_even_if_the_host_is_killed_meanwhile() {
    let script = Script::default()
        .then(Rule::new(Answer::silent("for ever")).times(1))
        .then(Rule::new(Answer::steps([
            Step::Text("the ".to_owned()),
            Step::Pause("half".to_owned()),
            Step::Text("answer".to_owned()),
        ])));
    let world = World::new(script);
    let id = world.delegate(&["the original prompt"]);
    world.reach("for ever");
    process::kill_9(world.host.live(&id));
    let task = world.host.finished(&id);
    ended(&task, "failed", "signal");
    assert_eq!(task["signal"], 9);

    world.forget_sessions();
    world.host.run(["retry", &id]).check();
    world.reach("half");
    world.host.kill_host();
    world.host.up();
    world.api.release("half");
    let task = world.host.finished(&id);
    succeeded(&task, "the answer");
    assert_eq!(
        task["attempts"].as_array().map(Vec::len),
        Some(2),
        "{task:#}"
    );
    assert_ne!(
        attempt(&task, 0, "session_id"),
        attempt(&task, 1, "session_id")
    );
    let why = task["outputs"]["fresh_session_reason"]
        .as_str()
        .expect("a reason");
    assert!(why.starts_with("No conversation found"), "{why}");
    let last = world.api.message_requests().pop().unwrap().messages();
    assert!(last.contains("the original prompt"), "{last}");
}

/// The agent of the first attempt is killed, the second attempt is lost with its supervisor, and
/// the third is cancelled. Each waits for an answer of the service.
#[test]
fn retry_continues_the_session_of_a_killed_or_lost_attempt_but_not_of_a_cancelled_attempt() {
    let script = Script::default()
        .then(first_command())
        .then(Rule::new(Answer::silent("first")));
    let world = World::new(script);
    let id = world.delegate(&["the original prompt", "--allowed-tools", "Bash"]);
    world.reach("first");
    world.in_session("tool_result");
    process::kill_9(world.host.live(&id));
    let task = world.host.finished(&id);
    ended(&task, "failed", "signal");
    let session = attempt(&task, 0, "session_id").clone();

    // Retries the task, and checks that the agent sees the first attempt's prompt and actions;
    // returns the agent's pid.
    let continues = |index: usize, point: &str| {
        world.api.set_script(Script::always(Answer::silent(point)));
        world.host.run(["retry", &id]).check();
        world.reach(point);
        wait_for("the session to be continued", || {
            let task = world.host.status(&id);
            (*attempt(&task, index, "session_id") == session).then_some(())
        });
        let last = world.api.message_requests().pop().unwrap().messages();
        assert!(
            last.contains("the original prompt") && last.contains("echo ran"),
            "{last}"
        );
        world.host.live(&id)
    };
    let agent = continues(1, "second");
    world.host.kill_host();
    world.host.kill_supervisors();
    world.host.up();
    let task = world.host.finished(&id);
    assert_eq!(task["outcome"], "lost", "{task:#}");
    assert!(
        !process::alive(agent),
        "the agent of a lost attempt is alive"
    );

    let agent = continues(2, "third");
    world.host.run(["cancel", &id]).check();
    assert!(wait_at_most(AT_MOST, || (!process::alive(agent)).then_some(())).is_some());
    assert_eq!(world.host.finished(&id)["outcome"], "cancelled");

    world
        .api
        .set_script(Script::always(Answer::text("finished")));
    world.host.run(["retry", &id]).check();
    let task = world.host.finished(&id);
    succeeded(&task, "finished");
    assert_ne!(*attempt(&task, 3, "session_id"), session);
    let last = world.api.message_requests().pop().unwrap().messages();
    assert!(
        last.contains("the original prompt") && !last.contains("echo ran"),
        "{last}"
    );
}

#[test]
fn task_that_resumes_an_unknown_session_fails_with_class_invalid() {
    let world = World::new(Script::always(Answer::text("noted")));
    let session = "8f14e45f-ceea-467f-9d2c-51f1c7a6a6d1";
    let message = ended(
        &world.done(&["which number?", "--resume-session", session]),
        "failed",
        "invalid",
    );
    assert!(
        message.contains(session) && message.contains("No conversation found"),
        "{message}"
    );
    assert!(world.api.message_requests().is_empty());
}

#[test]
fn session_is_continued_by_resume_with_the_given_context_and_by_another_task() {
    let world = World::new(Script::always(Answer::text("finished")));
    let first = world.done(&["the original prompt"]);
    let id = first["id"].as_str().unwrap();
    succeeded(&first, "finished");
    world
        .host
        .run(["resume", id, "--context", "and the documentation"])
        .check();
    let task = world.host.finished(id);
    succeeded(&task, "finished");
    assert_eq!(
        attempt(&task, 0, "session_id"),
        attempt(&task, 1, "session_id")
    );
    let last = world.api.message_requests().pop().unwrap().messages();
    for piece in ["the original prompt", "and the documentation"] {
        assert!(last.contains(piece), "{piece:?} is not in {last}");
    }
    assert!(!last.contains("An earlier attempt"), "{last}");
    let cost = |index| attempt(&task, index, "cost_usd").as_f64().expect("a cost");
    assert!((cost(1) - 0.0008).abs() < 1e-9, "{task:#}");

    let session = attempt(&task, 0, "session_id").as_str().unwrap();
    let other = world.done(&["what was it?", "--resume-session", session]);
    succeeded(&other, "finished");
    assert_eq!(*attempt(&other, 0, "session_id"), session);
    assert_eq!(other["cost_usd"], 0.0008);
    let last = world.api.message_requests().pop().unwrap().messages();
    for piece in ["the original prompt", "what was it?"] {
        assert!(last.contains(piece), "{piece:?} is not in {last}");
    }
}

#[test]
fn prompt_of_an_agent_contains_the_output_of_another_task() {
    let world = World::new(Script::always(Answer::text("finished")));
    let built = world.host.text([
        "run",
        "--name",
        "build",
        "--script",
        "echo all is built; exit 3",
    ]);
    world.host.finished(built.trim());
    let task = world.done(&[
        "fix the build",
        "--with-output-of",
        "build",
        "--depends-on",
        "build",
    ]);
    succeeded(&task, "finished");
    let asked = world.api.message_requests().pop().unwrap().messages();
    for piece in [
        "all is built",
        "outcome=",
        "failed",
        "exit_code",
        "fix the build",
    ] {
        assert!(asked.contains(piece), "{piece:?} is not in {asked}");
    }
}

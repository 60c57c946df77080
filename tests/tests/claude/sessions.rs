//! Sessions that are continued.

use claudine_tests::messages_api::{Answer, Rule, Script};
use claudine_tests::process;

use crate::world::{World, attempt, ended, succeeded};

/// The command that the agent runs first.
fn first_command() -> Rule {
    Rule::new(Answer::bash("echo ran >> runs"))
        .at_turn(0)
        .times(1)
}

/// A task whose agent has run its first command, and waits for the answer to its second request.
#[track_caller]
fn begun() -> (World, String) {
    let script = Script::default()
        .then(first_command())
        .then(Rule::new(Answer::silent("for ever")));
    let world = World::new(script);
    let id = world.delegate(&["the original prompt", "--allowed-tools", "Bash"]);
    world.reach("for ever");
    (world, id)
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

#[test]
fn retry_starts_a_new_session_if_the_last_session_is_gone() {
    let script = Script::default()
        .then(Rule::new(Answer::silent("for ever")).times(1))
        .then(Rule::new(Answer::text("finished")));
    let world = World::new(script);
    let id = world.delegate(&["the original prompt"]);
    world.reach("for ever");
    process::kill_9(world.host.live(&id));
    ended(&world.host.finished(&id), "failed", "signal");
    // Whether the agent has written its session by now depends on timing.
    let sessions = world.host.home().join(".claude/projects");
    if sessions.exists() {
        std::fs::remove_dir_all(sessions).expect("the sessions can be removed");
    }

    world.forget_sessions();
    world.host.run(["retry", &id]).check();
    let task = world.host.finished(&id);
    succeeded(&task, "finished");
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

#[test]
fn retry_after_the_agent_was_killed_continues_the_session() {
    let (world, id) = begun();
    world.in_session("tool_result");
    process::kill_9(world.host.live(&id));
    ended(&world.host.finished(&id), "failed", "signal");

    retried_in_its_session(&world, &id);
}

/// Retries the task, and checks that the second attempt continues the session of the first, so that
/// the agent sees the first attempt's prompt and actions.
#[track_caller]
fn retried_in_its_session(world: &World, id: &str) {
    world
        .api
        .set_script(Script::always(Answer::text("finished")));
    world.host.run(["retry", id]).check();
    let task = world.host.finished(id);
    succeeded(&task, "finished");
    assert_eq!(
        attempt(&task, 0, "session_id"),
        attempt(&task, 1, "session_id")
    );
    let last = world.api.message_requests().pop().unwrap().messages();
    assert!(
        last.contains("the original prompt") && last.contains("echo ran"),
        "{last}"
    );
}

#[test]
fn session_can_be_continued_by_another_task() {
    let world = World::new(Script::always(Answer::text("noted")));
    let first = world.done(&["remember the number 7341"]);
    let session = attempt(&first, 0, "session_id").as_str().unwrap();
    let second = world.done(&["which number?", "--resume-session", session]);
    succeeded(&second, "noted");
    assert_eq!(*attempt(&second, 0, "session_id"), session);
    assert_eq!(second["cost_usd"], 0.0008);
    let last = world.api.message_requests().pop().unwrap().messages();
    assert!(
        last.contains("7341") && last.contains("which number?"),
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
fn retry_continues_the_session_of_a_lost_attempt() {
    let (world, id) = begun();
    world.in_session("tool_result");
    let agent = world.host.live(&id);
    world.host.kill_host();
    world.host.kill_supervisors();
    world.host.up();
    let task = world.host.finished(&id);
    assert_eq!(task["outcome"], "lost", "{task:#}");
    assert!(
        !process::alive(agent),
        "the agent of a lost attempt is alive"
    );

    retried_in_its_session(&world, &id);
}

#[test]
fn retry_of_a_cancelled_task_starts_a_new_session() {
    let (world, id) = begun();
    world.host.run(["cancel", &id]).check();
    assert_eq!(world.host.finished(&id)["outcome"], "cancelled");

    world
        .api
        .set_script(Script::always(Answer::text("finished")));
    world.host.run(["retry", &id]).check();
    let task = world.host.finished(&id);
    succeeded(&task, "finished");
    assert_ne!(
        attempt(&task, 0, "session_id"),
        attempt(&task, 1, "session_id")
    );
    let last = world.api.message_requests().pop().unwrap().messages();
    assert!(
        last.contains("the original prompt") && !last.contains("echo ran"),
        "{last}"
    );
}

#[test]
fn resume_continues_the_session_of_the_last_attempt_with_the_given_context() {
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
}

#[test]
fn resume_without_a_session_puts_the_last_attempts_results_into_the_prompt() {
    let world = World::new(Script::always(Answer::text("finished so far")));
    let first = world.done(&["the original prompt"]);
    let id = first["id"].as_str().unwrap();
    world.forget_sessions();
    world
        .host
        .run(["resume", id, "--context", "and the documentation"])
        .check();
    let task = world.host.finished(id);
    assert_ne!(
        attempt(&task, 0, "session_id"),
        attempt(&task, 1, "session_id")
    );
    let last = world.api.message_requests().pop().unwrap().messages();
    for piece in [
        "An earlier attempt",
        "finished so far",
        "and the documentation",
        "The task:",
        "the original prompt",
    ] {
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

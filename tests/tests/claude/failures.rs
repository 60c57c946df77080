//! Runs that fail because of the service's or the agent's answers.

use std::process::Command;

use claudine_tests::{
    mcp::Client,
    messages_api::{Answer, Rule, Script, Step},
};
use serde_json::json;

use crate::world::{Login, World, attempt, ended, succeeded};

/// Checks that a run that always gets this answer fails with this class and message.
#[track_caller]
fn check(answer: Answer, login: Login, class: &str, says: &str) {
    let world = World::with(Script::always(answer), login, |host| host);
    let message = ended(&world.done(&["hi"]), "failed", class);
    assert!(message.contains(says), "{message:?}");
}

#[test]
fn refused_login_fails_with_class_auth() {
    let answer = Answer::error(401, "authentication_error", "OAuth token has expired");
    check(answer, Login::Subscription, "auth", "401");
}

#[test]
fn missing_credit_fails_with_class_auth() {
    let answer = Answer::error(
        400,
        "invalid_request_error",
        "Your credit balance is too low to access the Anthropic API.",
    );
    check(answer, Login::ApiKey, "auth", "Credit balance is too low");
}

#[test]
fn overloaded_service_fails_with_class_network() {
    check(
        Answer::error(529, "overloaded_error", "Overloaded"),
        Login::ApiKey,
        "network",
        "529",
    );
}

#[test]
fn server_error_fails_with_class_network() {
    check(
        Answer::error(500, "api_error", "Internal server error"),
        Login::ApiKey,
        "network",
        "500",
    );
}

#[test]
fn connections_that_are_always_cut_fail_with_class_network() {
    let cut = Answer::steps([Step::Text("half".to_owned()), Step::Cut]);
    check(cut, Login::ApiKey, "network", "");
}

#[test]
fn prompt_too_long_for_the_model_fails_with_class_invalid() {
    let answer = Answer::error(
        400,
        "invalid_request_error",
        "prompt is too long: 250000 tokens > 200000 maximum",
    );
    check(answer, Login::ApiKey, "invalid", "Prompt is too long");
}

#[test]
fn exceeded_turns_fail_with_their_own_class_and_delegate_with_wait_reports_it() {
    let world = World::new(Script::always(Answer::bash("git init denied")));
    let ran = world
        .host
        .run(["delegate", "--wait", "--max-turns", "2", "try"])
        .code(1);
    assert_eq!(ran.stdout, b"", "events belong in `logs`");
    ran.says(&["failed: "]);
    let message = ended(&world.host.json(["status"]), "failed", "max_turns");
    let says = "maximum number of turns (2)";
    assert!(message.contains(says), "{message:?}");
}

#[test]
fn denied_tool_fails_a_task_with_fail_on_denied() {
    let script = Script::command_then("git init x", "I could not");
    let world = World::new(script);
    let task = world.done(&["try", "--fail-on-denied"]);
    ended(&task, "failed", "permission");
    assert_eq!(task["output"], "I could not");
}

#[test]
fn connection_that_is_cut_once_does_not_fail_the_run() {
    let cut = Answer::steps([Step::Text("half".to_owned()), Step::Cut]);
    let script = Script::default()
        .then(Rule::new(cut).times(1))
        .then(Rule::new(Answer::text("whole")));
    succeeded(&World::new(script).done(&["hi"]), "whole");
}

/// A time as formatted by `date`, in UTC.
fn date(time: &str, format: &str) -> String {
    let output = Command::new("date")
        .args(["-u", "-d", time, format])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn tasks_of_an_account_at_its_usage_limit_wait_and_other_tasks_continue() {
    let reset: u64 = date("+3 days", "+%s").parse().unwrap();
    let script = Script::always(Answer::usage_limit(reset));
    let world = World::with(script, Login::Subscription, |host| host);
    let first = world.delegate(&["hi"]);
    let parked = claudine_tests::wait_for("the task to be parked", || {
        let task = world.host.status(&first);
        (task["state"] == "waiting").then_some(task)
    });
    // The task waits until one minute after the announced end of the limit.
    let until = date(&format!("@{}", reset + 60), "+%Y-%m-%dT%H:%M:%S");
    let told = parked["until"].as_str();
    assert!(
        told.is_some_and(|told| told.starts_with(&until)),
        "{until} {parked:#}"
    );
    assert_eq!(attempt(&parked, 0, "reason")["class"], "rate_limit");
    let ran = parked["ran_ms"].as_u64().expect("the attempt ran");
    let second = world.delegate(&["hi again"]);
    assert_eq!(world.host.status(&second)["state"], "waiting");
    // Every view uses the same phrase.
    let limit = "Claude usage limit (5-hour) until ";
    let id = second.as_str();
    for command in [vec!["why", id], vec!["status", id], vec!["doctor"]] {
        let told = world.host.run(&command).ok().text();
        assert!(told.contains(limit), "{command:?} {told}");
        assert!(told.contains(" (in "), "{command:?} {told}");
    }
    let doctor = world.host.text(["doctor"]);
    assert!(doctor.contains(" · 2 tasks wait"), "{doctor}");
    world
        .host
        .run(["list"])
        .ok()
        .says(&[limit, " · 2 tasks wait"]);
    assert_eq!(
        world.api.message_requests().len(),
        1,
        "the second task made a request although the account is at its limit"
    );
    // The wait is not counted as run time.
    assert_eq!(world.host.status(&first)["ran_ms"], ran);
    // The limit applies only to the account; other work goes on.
    let id = world.host.script("echo free");
    assert_eq!(world.host.finished(&id)["outcome"], "succeeded");
    // A client may start only its own tasks, and gets told how it does so.
    let mut client = Client::connect(&world.host);
    let asked = json!({"prompt": "hi from a client", "permissionMode": "plan"});
    let taken = client.call("DelegateTask", asked);
    let own = taken["taskId"].as_str().unwrap();
    for (id, is_own) in [(second.as_str(), false), (own, true)] {
        let told = client.call("TaskStatus", json!({ "taskId": id }));
        let why = told["why"][0].as_str().unwrap_or_default();
        assert!(why.contains(limit), "{told:#}");
        let call = "; RetryTask with `now: true` starts the task now";
        assert_eq!(why.ends_with(call), is_own, "{told:#}");
        assert!(!why.contains("claudine retry"), "{told:#}");
    }
    client.call("CancelTask", json!({ "taskId": own }));
    // The service answers again, as if somebody had bought a higher limit.
    world
        .host
        .run(["retry", &second])
        .code(125)
        .says(&["is waiting, not done", "claudine retry --now"]);
    world
        .api
        .set_script(Script::always(Answer::text("bought more")));
    world.host.run(["retry", "--now", &second]).check();
    for task in [&second, &first] {
        succeeded(&world.host.finished(task), "bought more");
    }
}

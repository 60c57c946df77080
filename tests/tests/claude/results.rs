//! What a run that went well leaves.

use claudine_tests::messages_api::{Answer, Rule, Script};
use serde_json::json;

use crate::world::{Login, World, attempt, succeeded};

#[test]
fn the_result_its_cost_and_its_session_are_stored() {
    let world = World::new(Script::always(Answer::text("the answer")));
    let task = world.done(&["what is it?"]);
    succeeded(&task, "the answer");
    assert_eq!(task["executor"], "claude");
    assert_eq!(task["cost_usd"], 0.0008);
    let session = attempt(&task, 0, "session_id").as_str().expect("a session");
    assert_eq!(session.len(), 36);
    assert_eq!(task["outputs"]["session_id"], session);
    assert_eq!(task["outputs"]["num_turns"], 1);
    assert_eq!(task["outputs"]["claude_code_version"], "2.1.330");
    let id = task["id"].as_str().unwrap();
    let log = world.host.text(["logs", id, "--stream", "stdout"]);
    let kinds: Vec<String> = log
        .lines()
        .map(|line| {
            serde_json::from_str::<serde_json::Value>(line).expect("an event")["type"].to_string()
        })
        .collect();
    assert_eq!(kinds, ["\"system\"", "\"assistant\"", "\"result\""]);
}

#[test]
fn waiting_for_it_shows_the_answer() {
    let world = World::new(Script::always(Answer::text("the answer")));
    let ran = world.host.run(["delegate", "--wait", "what is it?"]).ok();
    assert!(ran.text().contains("the answer"), "{ran}");
}

#[test]
fn an_agent_uses_the_tools_it_is_given() {
    let script = Script::default()
        .then(Rule::new(Answer::bash("git init --quiet made && pwd > where")).at_turn(0))
        .then(Rule::new(Answer::text("done")));
    let world = World::new(script);
    let task = world.done(&["make it", "--allowed-tools", "Bash"]);
    succeeded(&task, "done");
    assert_eq!(task["cost_usd"], 0.0016);
    assert!(task["outputs"].get("denials").is_none(), "{task:#}");
    let work = world.host.work().canonicalize().unwrap();
    assert_eq!(world.line_of("where"), work.to_str().unwrap());
    assert!(work.join("made/.git").is_dir());
}

#[test]
fn edits_are_accepted_and_what_is_denied_is_shown() {
    let script = Script::default()
        .then(Rule::new(Answer::bash("mkdir accepted")).at_turn(0))
        .then(Rule::new(Answer::bash("git init denied")).at_turn(1))
        .then(Rule::new(Answer::text("as far as I could")));
    let world = World::new(script);
    let task = world.done(&["try"]);
    succeeded(&task, "as far as I could");
    let denied = json!([{"tool": "Bash", "input": {"command": "git init denied", "description": "a scripted command"}}]);
    assert_eq!(task["outputs"]["denials"], denied);
    assert!(world.host.work().join("accepted").is_dir());
    assert!(!world.host.work().join("denied").exists());
    let id = task["id"].as_str().unwrap();
    let shown = world.host.text(["status", id]);
    assert!(
        shown.contains("Denied") && shown.contains("Bash"),
        "{shown}"
    );
}

#[test]
fn a_prompt_of_a_mebibyte_arrives_whole() {
    let world = World::new(Script::always(Answer::text("long")));
    let prompt = format!("{}the end", "lorem ipsum ".repeat(87_381));
    assert!(prompt.len() >= 1 << 20);
    let id = world
        .host
        .run_with(["delegate", "-"], prompt.as_bytes())
        .ok()
        .text();
    succeeded(&world.host.finished(&id), "long");
    let requests = world.api.message_requests();
    assert!(
        requests[0].messages().contains(&prompt),
        "the prompt was changed on its way"
    );
}

#[test]
fn options_reach_the_agent() {
    let world = World::new(Script::always(Answer::text("ok")));
    let task = world.done(&[
        "hi",
        "--model",
        "claude-haiku-4-5",
        "--append-system-prompt",
        "speak like a pirate",
    ]);
    succeeded(&task, "ok");
    let request = &world.api.message_requests()[0];
    assert!(
        request.body["model"]
            .as_str()
            .is_some_and(|model| model.starts_with("claude-haiku-4-5")),
        "{}",
        request.body["model"]
    );
    assert!(request.body.to_string().contains("speak like a pirate"));
    assert_eq!(attempt(&task, 0, "model"), "claude-haiku-4-5");
}

#[test]
fn many_at_once_share_an_account() {
    let script = (0..8).fold(Script::default(), |script, number| {
        let prompt = format!("question {number}.");
        script.then(Rule::new(Answer::text(&format!("answer {number}"))).containing(&prompt))
    });
    let world = World::with(script, Login::ApiKey, |host| host.slots(8));
    let ids: Vec<String> = (0..8)
        .map(|number| world.delegate(&[&format!("question {number}.")]))
        .collect();
    for (number, id) in ids.iter().enumerate() {
        succeeded(&world.host.finished(id), &format!("answer {number}"));
    }
}

//! Results of successful runs.

use std::{fs, io::Read, process::Stdio};

use claudine_tests::{
    harness::binary,
    messages_api::{Answer, Rule, Script},
};

use crate::world::{World, attempt, succeeded};

#[test]
fn delegate_with_wait_prints_only_the_answer_and_stores_result_cost_and_session() {
    let world = World::new(Script::always(Answer::text("the answer")));
    let ran = world.host.run(["delegate", "--wait", "what is it?"]).ok();
    assert_eq!(ran.stdout, b"the answer\n", "only the result");
    assert_eq!(ran.stderr, b"", "no messages in a pipe");
    let task = world.host.json(["status"]);
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
    let outside_a_repository = task["attempts"][0].get("git");
    assert_eq!(outside_a_repository, None, "{task:#}");
}

#[test]
fn wait_on_a_terminal_shows_the_activity_and_then_the_result() {
    let script = Script::command_then("until test -e go; do sleep 0.1; done", "all\nis well");
    let world = World::new(script);
    let waiting = format!(
        "'{}' delegate --wait --allowed-tools Bash 'wait for it'",
        binary().display()
    );
    // `script` gives the command a terminal.
    let mut terminal = world
        .host
        .other("script")
        .args(["--quiet", "--return", "--command", &waiting, "/dev/null"])
        .env("TERM", "xterm")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("script of util-linux");
    let mut output = terminal.stdout.take().expect("a pipe");
    let mut shown = Vec::new();
    while !String::from_utf8_lossy(&shown).contains("Bash: until test -e go") {
        let mut more = [0; 1024];
        let count = output.read(&mut more).expect("a pipe");
        assert!(count > 0, "{}", String::from_utf8_lossy(&shown));
        shown.extend_from_slice(&more[..count]);
    }
    assert!(String::from_utf8_lossy(&shown).contains("running"));
    fs::write(world.host.work().join("go"), "").unwrap();
    let mut rest = String::new();
    output.read_to_string(&mut rest).expect("a pipe");
    assert!(terminal.wait().expect("a child").success());
    let (_, end) = rest
        .rsplit_once("\r\u{1b}[Kall\r\nis well\r\n")
        .unwrap_or_else(|| panic!("{rest:?}"));
    assert!(end.starts_with("✓ ") && end.ends_with("\r\n"), "{rest:?}");
}

#[test]
fn prompt_of_one_mebibyte_arrives_complete() {
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
fn model_and_appended_system_prompt_reach_the_agent() {
    let world = World::new(Script::always(Answer::text("ok")));
    // With `--json`, the command prints the task.
    let task = world.host.json([
        "delegate",
        "--wait",
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
fn four_concurrent_agents_of_an_account_all_get_their_answers() {
    let script = (0..4).fold(Script::default(), |script, number| {
        let prompt = format!("question {number}.");
        script.then(Rule::new(Answer::text(&format!("answer {number}"))).containing(&prompt))
    });
    let world = World::new(script);
    let ids: Vec<String> = (0..4)
        .map(|number| world.delegate(&[&format!("question {number}.")]))
        .collect();
    for (number, id) in ids.iter().enumerate() {
        succeeded(&world.host.finished(id), &format!("answer {number}"));
    }
}

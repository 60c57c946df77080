//! Results of successful runs.

use std::{fs, io::Read, process::Stdio};

use claudine_tests::{
    harness::binary,
    messages_api::{Answer, Rule, Script},
    wait_for,
};
use serde_json::json;

use crate::world::{Login, World, attempt, succeeded};

#[test]
fn result_cost_and_session_are_stored() {
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
fn delegate_with_wait_prints_only_the_answer() {
    let world = World::new(Script::always(Answer::text("the answer")));
    let ran = world.host.run(["delegate", "--wait", "what is it?"]).ok();
    assert_eq!(ran.stdout, b"the answer\n", "only the result");
    assert_eq!(ran.stderr, b"", "no messages in a pipe");
    let task = world.host.json(["delegate", "--wait", "what is it?"]);
    assert_eq!(task["output"], "the answer", "{task:#}");
}

#[test]
fn delegate_with_wait_reports_why_the_task_failed() {
    let world = World::new(Script::always(Answer::bash("git init denied")));
    let ran = world
        .host
        .run(["delegate", "--wait", "--max-turns", "1", "try"])
        .code(1);
    assert_eq!(ran.stdout, b"", "events belong in `logs`");
    ran.says(&["failed: "]);
}

#[test]
fn delegate_with_wait_lists_the_denied_tools() {
    let script = Script::command_then("git init denied", "as far as I could");
    let ran = World::new(script)
        .host
        .run(["delegate", "--wait", "try"])
        .ok();
    assert_eq!(ran.stdout, b"as far as I could\n");
    let said = ran.complaint();
    let lines: Vec<&str> = said.lines().collect();
    let [glance, denied, hint] = lines[..] else {
        panic!("{said}")
    };
    assert!(
        glance.starts_with("✓ ") && glance.ends_with(" · $0.0016 · 1 denied"),
        "{glance}"
    );
    assert_eq!(denied, "denied: Bash: git init denied");
    assert!(hint.starts_with("hint: claudine resume "), "{hint}");
    assert!(hint.ends_with(" --allowed-tools 'Bash(git:*)'"), "{hint}");
}

#[test]
fn status_shows_the_activity_of_an_agent_across_a_restart() {
    let script = Script::command_then("touch there; until test -e go; do sleep 0.1; done", "done");
    let world = World::new(script);
    let id = world.delegate(&["wait for it", "--allowed-tools", "Bash"]);
    let doing = wait_for("the tool to be reported", || {
        let task = world.host.status(&id);
        Some(task["doing"].as_str()?.to_owned())
    });
    assert!(doing.starts_with("Bash: touch there; until"), "{doing}");
    // The next host shows the same activity.
    world.host.kill_host();
    assert_eq!(world.host.status(&id)["doing"], doing.as_str());
    fs::write(world.host.work().join("go"), "").unwrap();
    let task = world.host.finished(&id);
    succeeded(&task, "done");
    assert_eq!(task["doing"], serde_json::Value::Null);
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
fn agent_uses_the_allowed_tools() {
    let script = Script::command_then("git init --quiet made && pwd > where", "done");
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
fn agent_may_change_files_by_default_and_denied_commands_are_shown() {
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
fn eight_concurrent_agents_of_an_account_all_get_their_answers() {
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

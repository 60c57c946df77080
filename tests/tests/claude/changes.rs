//! A finished task is changed before it runs again: it gets other tools, another model or a higher
//! budget.

use claudine_tests::messages_api::{Answer, Rule, Script};
use serde_json::json;

use crate::world::{World, attempt, ended, git, succeeded};

/// An agent that tries one command, and gives the same answer whether or not the command is denied.
fn wants(command: &str) -> Script {
    Script::default()
        .then(Rule::new(Answer::bash(command)).at_turn(0))
        .then(Rule::new(Answer::text("as far as I could")).times(1))
        .then(Rule::new(Answer::bash(command)).times(1))
        .then(Rule::new(Answer::text("done")))
}

#[test]
fn denied_tools_are_shown_and_the_hinted_command_resumes_the_agent_with_more_rights() {
    let script = Script::default()
        .then(Rule::new(Answer::bash("mkdir accepted")).at_turn(0))
        .then(Rule::new(Answer::bash("git init made")).at_turn(1))
        .then(Rule::new(Answer::text("as far as I could")).times(1))
        .then(Rule::new(Answer::bash("git init made")).times(1))
        .then(Rule::new(Answer::text("done")));
    let world = World::new(script);
    let ran = world.host.run(["delegate", "--wait", "make it"]).ok();
    assert_eq!(ran.stdout, b"as far as I could\n");
    let task = world.host.json(["status"]);
    succeeded(&task, "as far as I could");
    assert_eq!(task["denied"], 1);
    let denied = json!([{"tool": "Bash", "input": {"command": "git init made", "description": "a scripted command"}}]);
    assert_eq!(task["outputs"]["denials"], denied);
    // By default, an agent may change files.
    assert!(world.host.work().join("accepted").is_dir());
    assert!(!world.host.work().join("made").exists());
    let hint = task["hint"].as_str().expect("a hint");
    let said = ran.complaint();
    let lines: Vec<&str> = said.lines().collect();
    let [glance, denied, told] = lines[..] else {
        panic!("{said}")
    };
    assert!(
        glance.starts_with("✓ ") && glance.ends_with(" · $0.0024 · 1 denied"),
        "{glance}"
    );
    assert_eq!(denied, "denied: Bash: git init made");
    assert_eq!(told, format!("hint: {hint}"));
    let (command, tools) = hint.split_once(" --allowed-tools ").expect("an option");
    assert!(command.starts_with("claudine resume "), "{hint}");
    assert_eq!(tools, "'Bash(git:*)'");
    let id = task["id"].as_str().unwrap();
    let shown = world.host.text(["status", id]);
    for piece in [hint, "Denied"] {
        assert!(shown.contains(piece), "{shown}");
    }
    // Takes the command from the message, as a user copies it.
    let words: Vec<&str> = command.split(' ').skip(1).collect();
    let line = [words.as_slice(), &["--allowed-tools", "Bash(git:*)"]].concat();
    world.host.run(&line).check();
    let task = world.host.finished(id);
    succeeded(&task, "done");
    assert!(world.host.work().join("made/.git").is_dir());
    assert_eq!(
        attempt(&task, 0, "session_id"),
        attempt(&task, 1, "session_id")
    );
    assert_eq!(task["hint"], serde_json::Value::Null);
    // The history shows which attempt ran with which options.
    assert_eq!(*attempt(&task, 0, "revised"), serde_json::Value::Null);
    let revised = json!([{"option": "allowed_tools", "after": "[\"Bash(git:*)\"]"}]);
    assert_eq!(*attempt(&task, 1, "revised"), revised);
    assert_eq!(task["spec"]["allowed_tools"], json!(["Bash(git:*)"]));
    let events = world.host.text(["events", id]);
    let told = "attempt 2 runs with allowed_tools [\"Bash(git:*)\"]";
    assert!(events.contains(told), "{events}");
}

#[test]
fn retry_can_change_the_model_and_validates_the_changes() {
    let world = World::new(Script::always(Answer::text("done")));
    let task = world.done(&["hi", "--model", "claude-opus-4-5"]);
    let id = task["id"].as_str().unwrap();
    for (option, said) in [
        ("--model=--settings", "is an option, not a model"),
        ("--max-turns=0", "/max_turns: must be at least 1"),
    ] {
        world.host.run(["retry", id, option]).code(2).says(&[said]);
    }
    assert_eq!(world.host.status(id)["state"], "done", "the task started");
    let line = [
        "retry",
        id,
        "--model",
        "claude-haiku-4-5",
        "-t",
        "5m",
        "-p",
        "P0",
    ];
    world.host.run(line).check();
    let task = world.host.finished(id);
    assert_eq!(attempt(&task, 1, "model"), "claude-haiku-4-5");
    assert_eq!(task["priority"], "P0");
    let options = attempt(&task, 1, "revised").as_array().expect("a list");
    let options: Vec<&str> = options
        .iter()
        .filter_map(|one| one["option"].as_str())
        .collect();
    assert_eq!(options, ["model", "priority", "timeout"]);
    // Repeating the same command changes nothing.
    let id = world.host.script("exit 1");
    world.host.finished(&id);
    for revised in [json!(["priority", "timeout"]), json!(null)] {
        let line = ["retry", &id, "-t", "5m", "-p", "P0"];
        world.host.run(line).check();
        let task = world.host.finished(&id);
        let last = task["attempts"].as_array().unwrap().last().unwrap();
        let options = last["revised"].as_array();
        let options = options.map(|all| all.iter().map(|one| &one["option"]).collect::<Vec<_>>());
        assert_eq!(json!(options), revised, "{task:#}");
    }
}

#[test]
fn agent_that_was_denied_tools_and_changed_nothing_has_failed() {
    let world = World::new(wants("git init made"));
    git(&world, &["init", "-q", "-b", "trunk"]);
    git(&world, &["commit", "-q", "--allow-empty", "-m", "first"]);
    let task = world.done(&["make it", "--worktree"]);
    let message = ended(&task, "failed", "permission");
    assert_eq!(message, "1 tool call was denied, and nothing was changed");
    assert_eq!(
        (&task["denied"], &task["files_changed"]),
        (&json!(1), &json!(0))
    );
    let id = task["id"].as_str().unwrap();
    // The agent tries the same once more.
    world.host.run(["resume", id, "--allow-denied"]).check();
    let task = world.host.finished(id);
    succeeded(&task, "done");
    assert_eq!(
        task["attempts"].as_array().map(Vec::len),
        Some(2),
        "{task:#}"
    );
    let list = world.host.text(["list"]);
    assert!(list.contains("no changes · 1 denied · make it"), "{list}");
}

#[test]
fn files_changed_by_an_agent_are_counted() {
    let script = Script::command_then("mkdir -p src && touch src/a src/b && echo x > c", "done");
    let world = World::new(script);
    git(&world, &["init", "-q", "-b", "trunk"]);
    git(&world, &["commit", "-q", "--allow-empty", "-m", "first"]);
    let task = world.done(&["make them", "--worktree", "--allowed-tools", "Bash"]);
    succeeded(&task, "done");
    assert_eq!(task["files_changed"], 3);
    assert_eq!(task.get("denied"), None);
}

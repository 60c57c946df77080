//! State of the repository after an agent worked in it.

use std::fs;

use claudine_tests::messages_api::{Answer, Rule, Script};
use serde_json::json;

use crate::world::{World, attempt, ended, git, succeeded};

#[test]
fn branch_commit_and_uncommitted_changes_are_recorded_and_told_to_an_agent_without_a_session() {
    let changes = "echo new > file; mkdir -p src; touch src/a; pwd > src/b";
    let script = Script::command_then(changes, "finished so far");
    let world = World::new(script);
    git(&world, &["init", "-q", "-b", "trunk"]);
    git(&world, &["commit", "-q", "--allow-empty", "-m", "first"]);
    let task = world.done(&["change it", "--allowed-tools", "Bash"]);
    succeeded(&task, "finished so far");
    assert_eq!(task["cost_usd"], 0.0016);
    assert!(task["outputs"].get("denials").is_none(), "{task:#}");
    let work = world.host.work().canonicalize().unwrap();
    assert_eq!(world.line_of("src/b"), work.to_str().unwrap());
    assert_eq!(
        *attempt(&task, 0, "git"),
        json!({
            "branch": "trunk", "commit": git(&world, &["rev-parse", "HEAD"]), "dirty": ["file", "src/"], "dirty_count": 2,
        })
    );
    let id = task["id"].as_str().unwrap();
    let checkpoint = world.host.json(["checkpoint", id]);
    assert_eq!(checkpoint["git"], *attempt(&task, 0, "git"));
    assert_eq!(checkpoint["summary"], "finished so far");
    let shown = world.host.text(["status", id]);
    assert!(shown.contains("2 not committed: file, src/"), "{shown}");

    world.forget_sessions();
    world
        .host
        .run(["resume", id, "--context", "and the documentation"])
        .check();
    let task = world.host.finished(id);
    succeeded(&task, "finished so far");
    assert_ne!(
        attempt(&task, 0, "session_id"),
        attempt(&task, 1, "session_id")
    );
    let asked = world.api.message_requests().pop().unwrap().messages();
    for piece in [
        "An earlier attempt",
        "finished so far",
        "trunk at ",
        "not committed: file, src/",
        "and the documentation",
        "The task:",
        "change it",
    ] {
        assert!(asked.contains(piece), "{piece:?} is not in {asked}");
    }
}

#[test]
fn agent_in_a_broken_repository_succeeds_and_the_error_of_git_is_recorded() {
    let world = World::new(Script::always(Answer::text("done")));
    fs::write(world.host.work().join(".git"), "no repository at all").unwrap();
    let task = world.done(&["look at it"]);
    succeeded(&task, "done");
    let error = attempt(&task, 0, "git")["error"].as_str().unwrap();
    assert!(error.starts_with("`git rev-parse` failed: "), "{error}");
}

#[test]
fn agent_resolves_its_conflict_with_the_command_that_status_suggests() {
    let told = "Merge trunk and resolve the conflict in file";
    let merge = Answer::bash("git merge trunk; echo both > file; git commit -qam both");
    let change = Answer {
        hold: Some("change".to_owned()),
        ..Answer::bash("echo theirs > file")
    };
    let script = Script::default()
        .then(Rule::new(merge).containing(told).times(1))
        .then(Rule::new(Answer::text("resolved")).containing(told))
        .then(Rule::new(change).at_turn(0))
        .then(Rule::new(Answer::text("changed")));
    let world = World::new(script);
    let writes = |text: &str| {
        fs::write(world.host.work().join("file"), text).unwrap();
        git(&world, &["add", "file"]);
        git(&world, &["commit", "-q", "-m", text]);
    };
    git(&world, &["init", "-q", "-b", "trunk"]);
    git(&world, &["config", "user.name", "T"]);
    git(&world, &["config", "user.email", "t@example.org"]);
    writes("first");
    let id = world.delegate(&[
        "change it",
        "--worktree",
        "--merge",
        "auto",
        "--allowed-tools",
        "Bash",
    ]);
    world.reach("change");
    writes("ours");
    world.api.release("change");
    let task = world.host.finished(&id);
    assert_eq!(ended(&task, "failed", "conflict"), "merge conflict in file");
    // Takes the command from the answer, as a user copies it.
    let steps = task["steps"].as_array().unwrap().iter();
    let mut commands = steps.filter_map(|step| step["command"].as_str());
    let command = commands.find(|it| it.starts_with("claudine resume "));
    let command = command.unwrap_or_else(|| panic!("no step for the agent: {task:#}"));
    let (resume, context) = command.split_once(" --context ").expect("an option");
    assert_eq!(context, format!("'{told}'"));
    let words: Vec<&str> = resume.split(' ').skip(1).collect();
    let line = [&words[..], &["--context", told]].concat();
    world.host.run(line).check();
    let task = world.host.finished(&id);
    succeeded(&task, "resolved");
    assert_eq!(task["merge"]["state"], "merged", "{task:#}");
    assert_eq!(git(&world, &["show", "trunk:file"]), "both");
}

//! Limits on the rights of agents that a client requests over MCP, with the real Claude Code.

use std::fs;

use claudine_tests::{
    mcp::Client,
    messages_api::{Answer, Rule, Script, Step},
};
use serde_json::{Value, json};

use crate::world::{Login, World, git, succeeded};

const SMALLEST: &str =
    "[mcp]\nexecutors = [\"claude\"]\nmax_permission_mode = \"plan\"\nextras = []\n";

/// Writes files into the working directory that make Claude Code run commands as soon as it starts
/// there.
fn hostile(world: &World) {
    let touch = |file: &str| format!("touch {}", world.host.work().join(file).display());
    let hook = json!([{"hooks": [{"type": "command", "command": touch("by-hook")}]}]);
    let settings = json!({
        "hooks": {"SessionStart": hook},
        "apiKeyHelper": format!("{}; echo key", touch("by-helper")),
    });
    let server = json!({"command": "touch", "args": [world.host.work().join("by-server")]});
    let work = world.host.work();
    fs::create_dir_all(work.join(".claude/skills/deploy")).unwrap();
    fs::write(work.join(".claude/settings.json"), settings.to_string()).unwrap();
    let servers = json!({"mcpServers": {"any": server}});
    fs::write(work.join(".mcp.json"), servers.to_string()).unwrap();
    let skill = "---\nname: deploy\ndescription: deploys\nallowed-tools: Bash\n---\nDeploy.\n";
    fs::write(work.join(".claude/skills/deploy/SKILL.md"), skill).unwrap();
}

fn touched(world: &World) -> Vec<&'static str> {
    let files = ["by-hook", "by-helper", "by-server"];
    let there = |file: &&str| world.host.work().join(file).exists();
    files.into_iter().filter(there).collect()
}

/// Whether the agent had the tools `WebFetch` and `WebSearch`. Claude Code lets them reach some
/// sites without a permission, in every mode.
#[track_caller]
fn has_network_tools(world: &World, id: &str) -> [bool; 2] {
    let output = world.host.text(["logs", "--raw", "--stream", "stdout", id]);
    let mut lines = output
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let begin = lines.find(|line| line["subtype"] == "init").unwrap();
    let tools = begin["tools"].as_array().unwrap();
    let has = |name: &str| tools.iter().any(|tool| tool == name);
    assert!(has("Read"), "{tools:?}");
    [has("WebFetch"), has("WebSearch")]
}

#[test]
fn directory_gives_a_clients_agent_no_rights_and_without_extras_it_has_no_network_tools() {
    let script = Script::always(Answer::text("read it"));
    let world = World::with(script, Login::ApiKey, |host| host.config(SMALLEST));
    hostile(&world);
    let mut client = Client::connect(&world.host);
    let asked = json!({"prompt": "look around", "permissionMode": "plan"});
    let taken = client.call("DelegateTask", asked);
    let id = taken["taskId"].as_str().unwrap();
    succeeded(&world.host.finished(id), "read it");
    assert_eq!(touched(&world), [""; 0]);
    assert_eq!(has_network_tools(&world, id), [false; 2]);

    // An agent that the owner starts at the command line still runs the directory's commands.
    let task = world.done(&["look around", "--permission-mode", "plan"]);
    succeeded(&task, "read it");
    assert!(!touched(&world).is_empty());
}

#[test]
fn clients_agent_has_network_tools_if_the_extras_include_the_network() {
    let script = Script::always(Answer::text("done"));
    let world = World::new(script);
    let mut client = Client::connect(&world.host);
    let asked = json!({"prompt": "look it up", "permissionMode": "plan"});
    let taken = client.call("DelegateTask", asked);
    let id = taken["taskId"].as_str().unwrap();
    succeeded(&world.host.finished(id), "done");
    assert_eq!(has_network_tools(&world, id), [true; 2]);
}

/// An agent of the owner has the network tools until a client resumes its task. A client cannot
/// resume a task of the owner that has succeeded, so the agent gets too few turns to succeed.
#[test]
fn agent_of_the_owner_loses_its_network_tools_when_a_client_resumes_its_task() {
    let reads = Step::Tool {
        name: "Read".to_owned(),
        input: json!({"file_path": "/etc/hostname"}),
    };
    let script = Script::default()
        .then(Rule::new(Answer::steps([reads])).at_turn(0))
        .then(Rule::new(Answer::text("done")));
    let world = World::with(script, Login::ApiKey, |host| host.config(SMALLEST));
    let plan = ["--permission-mode", "plan", "--max-turns", "1"];
    let task = world.done(&[&["look it up"][..], &plan[..]].concat());
    let id = task["id"].as_str().unwrap();
    assert_eq!(task["outcome"], "failed", "{task:#}");
    assert_eq!(has_network_tools(&world, id), [true; 2]);
    let mut client = Client::connect(&world.host);
    client.call("ResumeTask", json!({ "taskId": id }));
    world.host.finished(id);
    assert_eq!(has_network_tools(&world, id), [false; 2]);
}

/// Otherwise a client could write into a person's own conversation with Claude Code.
#[test]
fn client_continues_only_sessions_of_its_own_tasks() {
    let script = Script::always(Answer::text("done"));
    let world = World::with(script, Login::ApiKey, |host| host.config(SMALLEST));
    let session_of = |id: &str| {
        let task = world.host.finished(id);
        let session = task["attempts"][0]["session_id"].as_str();
        session.unwrap().to_owned()
    };
    let mut client = Client::connect(&world.host);
    let begun = json!({"prompt": "begin", "permissionMode": "plan"});
    let taken = client.call("DelegateTask", begun);
    let own = session_of(taken["taskId"].as_str().unwrap());
    let of_person = session_of(&world.delegate(&["begin", "--permission-mode", "plan"]));
    let asked = |session: &str| json!({"prompt": "go on", "permissionMode": "plan", "resumeSession": session});
    let continued = client.call("DelegateTask", asked(&own));
    assert_eq!(session_of(continued["taskId"].as_str().unwrap()), own);
    for (session, says) in [
        (of_person.as_str(), "it belongs to task"),
        (
            "8f14e45f-ceea-467f-9d2c-51f1c7a6a6d1",
            "no stored task of this host has reported it",
        ),
    ] {
        let complaint = client.fail("DelegateTask", asked(session));
        assert!(complaint.contains(says), "{complaint}");
        assert!(
            complaint.contains("may not be continued over MCP"),
            "{complaint}"
        );
    }
}

/// Otherwise an agent that may only read could make worktrees and branches, and so run hooks.
#[test]
fn clients_agent_cannot_start_a_subagent_in_a_worktree() {
    let asks = Step::Tool {
        name: "Agent".to_owned(),
        input: json!({
            "description": "d",
            "prompt": "look around",
            "subagent_type": "general-purpose",
            "isolation": "worktree",
        }),
    };
    let script = Script::default()
        .then(Rule::new(Answer::steps([asks])).at_turn(0))
        .then(Rule::new(Answer::text("done")));
    let world = World::with(script, Login::ApiKey, |host| host.config(SMALLEST));
    git(&world, &["init", "-q"]);
    git(&world, &["commit", "-q", "--allow-empty", "-m", "first"]);
    let mut client = Client::connect(&world.host);
    let asked = json!({"prompt": "go", "permissionMode": "plan", "allowedTools": ["Agent"]});
    let taken = client.call("DelegateTask", asked);
    world.host.finished(taken["taskId"].as_str().unwrap());
    let asked = world.api.message_requests();
    let says = "isolation:worktree has been denied";
    let is_denied = asked.iter().any(|asked| asked.messages().contains(says));
    assert!(is_denied, "{asked:?}");
    assert_eq!(git(&world, &["worktree", "list"]).lines().count(), 1);
    assert_eq!(git(&world, &["branch", "--list"]).lines().count(), 1);
}

//! Limits on the rights of agents that a client requests over MCP, with the real Claude Code.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use claudine_tests::{
    mcp::Client,
    messages_api::{Answer, Rule, Script, Step},
    wait_for,
};
use serde_json::{Value, json};

use crate::world::{Login, World, ended, git, succeeded};

const SMALLEST: &str =
    "[mcp]\nexecutors = [\"claude\"]\nmax_permission_mode = \"plan\"\nextras = []\n";

const EDITS: &str =
    "[mcp]\nexecutors = [\"claude\"]\nmax_permission_mode = \"acceptEdits\"\nextras = []\n";

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

/// Makes a directory with a skill and a command, and with settings that enable a plugin from a
/// marketplace of the directory. The user has already added this marketplace, without the plugin.
fn hostile_to_add(world: &World) -> PathBuf {
    let added = world.host.root().join("added");
    let skill = "---\nname: deploy\ndescription: deploys\nallowed-tools: Bash\n---\nDeploy.\n";
    write(&added.join(".claude/skills/deploy/SKILL.md"), skill);
    let command = "---\ndescription: ships\nallowed-tools: Bash\n---\nShip.\n";
    write(&added.join(".claude/commands/ship.md"), command);
    write(&added.join("notes.txt"), "words of the notes\n");

    let touch = format!("touch {}", world.host.work().join("by-plugin").display());
    let hook = json!([{"hooks": [{"type": "command", "command": touch}]}]);
    let hooks = json!({"hooks": {"SessionStart": hook}});
    let market = added.join("market");
    let settings = enabling(world, &market, "hooks/hooks.json", &hooks);
    write(&added.join(".claude/settings.json"), &settings.to_string());
    added
}

/// Makes a marketplace, with a plugin that consists of this file, and adds the marketplace for the
/// user; returns settings that enable the plugin.
fn enabling(world: &World, market: &Path, name: &str, content: &Value) -> Value {
    let plugin = json!({"name": "greedy", "source": "./greedy", "description": "d"});
    let offer = json!({"name": "market", "owner": {"name": "o"}, "plugins": [plugin]});
    let place = market.join(".claude-plugin/marketplace.json");
    write(&place, &offer.to_string());
    let manifest = json!({"name": "greedy", "description": "d", "version": "1.0.0"});
    let place = market.join("greedy/.claude-plugin/plugin.json");
    write(&place, &manifest.to_string());
    write(&market.join("greedy").join(name), &content.to_string());

    let source = json!({"source": "directory", "path": market});
    let known = json!({"market": {
        "source": source,
        "installLocation": market,
        "lastUpdated": "2026-01-01T00:00:00.000Z",
    }});
    let plugins = world.host.home().join(".claude/plugins");
    write(&plugins.join("known_marketplaces.json"), &known.to_string());
    json!({
        "extraKnownMarketplaces": {"market": {"source": source}},
        "enabledPlugins": {"greedy@market": true},
    })
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// Settings of the user, who has a shell tool more, a plugin with a language server for files
/// `.any`, and a hook after each tool. Both programs leave files in the test's directory.
fn with_programs(world: &World) {
    let root = world.host.root();
    let server = json!({"any": {
        "command": "touch",
        "args": [root.join("by-server")],
        "extensionToLanguage": {".any": "any"},
    }});
    let mut settings = enabling(world, &root.join("market"), ".lsp.json", &server);
    let touch = format!("touch {}", root.join("by-hook").display());
    let hook = json!([{"hooks": [{"type": "command", "command": touch}]}]);
    settings["hooks"] = json!({ "PostToolUse": hook });
    settings["env"] = json!({"CLAUDE_CODE_USE_POWERSHELL_TOOL": "1"});
    with_settings(world, &settings);
}

fn with_settings(world: &World, settings: &Value) {
    let place = world.host.home().join(".claude/settings.json");
    write(&place, &settings.to_string());
}

/// A script in which the agent calls these tools, and then answers.
fn calling<const N: usize>(calls: [(&str, Value); N]) -> Script {
    let steps = calls.map(|(name, input)| Step::Tool {
        name: name.to_owned(),
        input,
    });
    Script::default()
        .then(Rule::new(Answer::steps(steps)).at_turn(0))
        .then(Rule::new(Answer::text("done")))
}

/// Delegates over MCP, in this permission mode; returns the ended task.
#[track_caller]
fn of_client(world: &World, mode: &str) -> Value {
    let mut client = Client::connect(&world.host);
    let asked = json!({"prompt": "go", "permissionMode": mode});
    let taken = client.call("DelegateTask", asked);
    world.host.finished(taken["taskId"].as_str().unwrap())
}

/// Names of the tools that a model was offered in the requests after so many. A placeholder, which
/// stands for no tool, is not among them.
fn offered(world: &World, before: usize) -> BTreeSet<String> {
    let asked = world.api.message_requests();
    let lists = asked[before..].iter().map(|asked| &asked.body["tools"]);
    let tools = lists.filter_map(Value::as_array).flatten();
    let names = tools.filter_map(|tool| tool["name"].as_str());
    let names = names.filter(|name| *name != "DeferredToolPlaceholder");
    names.map(str::to_owned).collect()
}

fn touched(world: &World) -> Vec<&'static str> {
    let files = ["by-hook", "by-helper", "by-server", "by-plugin"];
    let there = |file: &&str| world.host.work().join(file).exists();
    files.into_iter().filter(there).collect()
}

/// The line in which Claude Code names the session's tools, skills and commands.
#[track_caller]
fn opening(world: &World, id: &str) -> Value {
    let output = world.host.text(["logs", "--raw", "--stream", "stdout", id]);
    let mut lines = output
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.find(|line| line["subtype"] == "init").unwrap()
}

/// Whether the agent had the tools `WebFetch` and `WebSearch`. Claude Code lets them reach some
/// sites without a permission, in every mode.
#[track_caller]
fn has_network_tools(world: &World, id: &str) -> [bool; 2] {
    let begin = opening(world, id);
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

/// Otherwise a client could make an agent that may only read run commands, by adding a directory.
#[test]
fn added_directory_gives_a_clients_agent_no_skills_commands_and_plugins() {
    let world = World::with(Script::default(), Login::ApiKey, |host| {
        host.config(SMALLEST)
    });
    let added = hostile_to_add(&world);
    let tool = |name: &str, input: Value| Step::Tool {
        name: name.to_owned(),
        input,
    };
    let reads = tool("Read", json!({"file_path": added.join("notes.txt")}));
    let deploys = tool("Skill", json!({"skill": "deploy"}));
    let script = Script::default()
        .then(Rule::new(Answer::steps([reads, deploys])).at_turn(0))
        .then(Rule::new(Answer::text("done")));
    world.api.set_script(script);
    let has = |id: &str| {
        let begin = opening(&world, id);
        let commands = begin["slash_commands"].as_array().unwrap();
        ["deploy", "ship"].map(|name| commands.iter().any(|command| command == name))
    };
    let spec = json!({
        "prompt": "look around",
        "permission_mode": "plan",
        "extra_args": ["--add-dir", added],
    });
    let mut client = Client::connect(&world.host);
    let task = json!({"name": "of-client", "executor": "claude", "spec": spec});
    client.call("SubmitGraph", json!({ "tasks": [task] }));
    succeeded(&world.host.finished("of-client"), "done");
    assert_eq!(touched(&world), [""; 0]);
    assert_eq!(has("of-client"), [false; 2]);
    let asked = world.api.message_requests();
    for says in ["words of the notes", "No such tool available: Skill"] {
        let is_said = asked.iter().any(|asked| asked.messages().contains(says));
        assert!(is_said, "{says}: {asked:?}");
    }

    // An agent that the owner starts at the command line has them.
    let id = world.delegate(&["--spec", &spec.to_string()]);
    succeeded(&world.host.finished(&id), "done");
    assert_eq!(touched(&world), ["by-plugin"]);
    assert_eq!(has(&id), [true; 2]);
}

/// The options of the client come before the option that takes these tools away.
#[test]
fn client_cannot_get_a_tool_back_by_options_of_its_own() {
    let script = Script::always(Answer::text("done"));
    let world = World::with(script, Login::ApiKey, |host| host.config(SMALLEST));
    let away = [
        "CronCreate",
        "CronDelete",
        "EnterWorktree",
        "SendMessage",
        "WebFetch",
        "WebSearch",
    ];
    let options = [
        json!(["--disallowedTools", ""]),
        json!(["--disallowedTools="]),
        json!(["--disallowed-tools", "Read(x),Any("]),
        json!(["--disallowedTools", "", "--add-dir", "/"]),
    ];
    let tasks = options.iter().map(|options| {
        let spec = json!({"prompt": "go", "permission_mode": "plan", "extra_args": options});
        json!({"executor": "claude", "spec": spec})
    });
    let tasks: Vec<Value> = tasks.collect();
    let mut client = Client::connect(&world.host);
    let taken = client.call("SubmitGraph", json!({ "tasks": tasks }));
    let has = |id: &str, name: &str| {
        let begin = opening(&world, id);
        let tools = begin["tools"].as_array().unwrap();
        tools.iter().any(|tool| tool == name)
    };
    for (id, options) in taken["taskIds"].as_array().unwrap().iter().zip(&options) {
        let id = id.as_str().unwrap();
        succeeded(&world.host.finished(id), "done");
        assert!(has(id, "Read"), "{options}");
        for name in away {
            assert!(!has(id, name), "{options}: {name}");
        }
    }

    // An agent that the owner starts at the command line has them.
    let spec = tasks[0]["spec"].to_string();
    let id = world.delegate(&["--spec", &spec]);
    succeeded(&world.host.finished(&id), "done");
    for name in away {
        assert!(has(&id, name), "{name}");
    }
}

#[test]
fn client_cannot_allow_a_tool_that_leaves_plan_mode() {
    let script = Script::always(Answer::text("done"));
    let world = World::with(script, Login::ApiKey, |host| host.config(SMALLEST));
    let mut client = Client::connect(&world.host);
    for tools in [json!(["ExitPlanMode"]), json!(["Read, ExitPlanMode"])] {
        let asked = json!({"prompt": "go", "permissionMode": "plan", "allowedTools": tools});
        let complaint = client.fail("DelegateTask", asked);
        for says in ["ExitPlanMode", "may at most read"] {
            assert!(complaint.contains(says), "{complaint}");
        }
    }
    assert_eq!(world.host.json(["list"])["tasks"], json!([]));
}

/// Otherwise an agent that may only read could change a file of its directory, and have a prompt
/// carried out by a later session of a person.
#[test]
fn clients_agent_cannot_schedule_prompts_for_later_sessions() {
    let schedules = Step::Tool {
        name: "CronCreate".to_owned(),
        input: json!({"cron": "0 9 * * *", "prompt": "hi", "recurring": true, "durable": true}),
    };
    let script = Script::default()
        .then(Rule::new(Answer::steps([schedules])).at_turn(0))
        .then(Rule::new(Answer::text("done")));
    let world = World::with(script, Login::ApiKey, |host| host.config(SMALLEST));
    let scheduled = world.host.work().join(".claude/scheduled_tasks.json");
    let mut client = Client::connect(&world.host);
    let asked = json!({"prompt": "go", "permissionMode": "plan"});
    let taken = client.call("DelegateTask", asked);
    succeeded(
        &world.host.finished(taken["taskId"].as_str().unwrap()),
        "done",
    );
    assert!(!scheduled.exists());

    // An agent that the owner starts at the command line has the tool.
    let task = world.done(&["go", "--permission-mode", "plan"]);
    succeeded(&task, "done");
    assert!(scheduled.exists());
}

/// Otherwise a client's agent could write into a session of a person that runs at the same time.
#[test]
fn clients_agent_cannot_write_into_another_session() {
    let writes = Step::Tool {
        name: "SendMessage".to_owned(),
        input: json!({"to": "any", "message": "words", "summary": "s"}),
    };
    let script = Script::default()
        .then(Rule::new(Answer::steps([writes])).at_turn(0))
        .then(Rule::new(Answer::text("done")));
    let world = World::with(script, Login::ApiKey, |host| host.config(SMALLEST));
    let has_tool = |id: &str| {
        let begin = opening(&world, id);
        let tools = begin["tools"].as_array().unwrap();
        tools.iter().any(|tool| tool == "SendMessage")
    };
    let mut client = Client::connect(&world.host);
    let asked = json!({"prompt": "go", "permissionMode": "plan"});
    let taken = client.call("DelegateTask", asked);
    let id = taken["taskId"].as_str().unwrap();
    succeeded(&world.host.finished(id), "done");
    assert!(!has_tool(id));
    let asked = world.api.message_requests();
    let says = "No such tool available: SendMessage";
    let is_refused = asked.iter().any(|asked| asked.messages().contains(says));
    assert!(is_refused, "{asked:?}");

    // An agent that the owner starts at the command line has the tool.
    let id = world.delegate(&["go", "--permission-mode", "plan"]);
    succeeded(&world.host.finished(&id), "done");
    assert!(has_tool(&id));
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

/// Claude Code runs commands that only read without a permission, and `git status` runs a program
/// that `.git/config` names. Otherwise an agent that may only read could run such a program. It
/// could also write the memory of Claude Code, which needs no permission either.
#[test]
fn clients_agent_that_may_only_read_has_no_tools_that_run_commands_or_write() {
    let script = Script::default()
        .then(Rule::new(Answer::bash("git status")).at_turn(0))
        .then(Rule::new(Answer::text("done")));
    let world = World::with(script, Login::ApiKey, |host| host.config(SMALLEST));
    git(&world, &["init", "-q"]);
    let by_git = world.host.root().join("by-git");
    let program = format!("touch {}; :", by_git.display());
    git(&world, &["config", "core.fsmonitor", &program]);
    let has = |id: &str| {
        let begin = opening(&world, id);
        let tools = begin["tools"].as_array().unwrap();
        ["Bash", "Monitor", "Write", "Edit", "Grep"]
            .map(|name| tools.iter().any(|tool| tool == name))
    };
    let mut client = Client::connect(&world.host);
    for mode in ["plan", "dontAsk", "default"] {
        let asked = json!({"prompt": "go", "permissionMode": mode});
        let taken = client.call("DelegateTask", asked);
        let id = taken["taskId"].as_str().unwrap();
        succeeded(&world.host.finished(id), "done");
        assert_eq!(has(id), [false, false, false, false, true], "{mode}");
        assert!(!by_git.exists(), "{mode}");
    }

    // An agent that the owner starts at the command line has the tools.
    let id = world.delegate(&["go", "--permission-mode", "plan"]);
    succeeded(&world.host.finished(&id), "done");
    assert_eq!(has(&id)[..4], [true; 4]);
    assert!(by_git.exists());
}

/// For the state of a repository, Claude Code looks up the filters that the repository names, and
/// then runs `git status` without them. A client's other agent could add a filter in between.
#[test]
fn clients_agent_is_not_told_the_state_of_its_repository() {
    let script = Script::always(Answer::text("done"));
    let world = World::with(script, Login::ApiKey, |host| host.config(EDITS));
    git(&world, &["init", "-q"]);
    let settings = json!({"env": {"CLAUDE_CODE_DISABLE_GIT_INSTRUCTIONS": "0"}});
    write(
        &world.host.home().join(".claude/settings.json"),
        &settings.to_string(),
    );
    let is_told = |before: usize| {
        let asked = world.api.message_requests();
        assert!(asked.len() > before);
        let says = "This is the git status at the start of the conversation";
        let mut asked = asked[before..].iter();
        asked.any(|asked| asked.body.to_string().contains(says))
    };
    for mode in ["plan", "acceptEdits"] {
        let before = world.api.message_requests().len();
        succeeded(&of_client(&world, mode), "done");
        assert!(!is_told(before), "{mode}");
    }
    let before = world.api.message_requests().len();
    let id = world.delegate(&["go", "--permission-mode", "plan"]);
    succeeded(&world.host.finished(&id), "done");
    assert!(is_told(before));
}

/// Otherwise a client's agent would have tools that a variable or a plugin of the user adds, and
/// those that a later version adds.
#[test]
fn clients_agent_has_exactly_the_tools_of_its_authority_whatever_the_user_adds() {
    let script = Script::always(Answer::text("done"));
    let world = World::with(script, Login::ApiKey, |host| host.config(EDITS));
    with_programs(&world);
    let reads = ["Agent", "Glob", "Grep", "Read"];
    let edits = [&reads[..], &["Edit", "NotebookEdit", "Write"]].concat();
    for (mode, expected) in [
        ("plan", &reads[..]),
        ("default", &reads[..]),
        ("dontAsk", &reads[..]),
        ("acceptEdits", &edits[..]),
    ] {
        let before = world.api.message_requests().len();
        succeeded(&of_client(&world, mode), "done");
        let expected: BTreeSet<String> = expected.iter().map(|it| (*it).to_owned()).collect();
        assert_eq!(offered(&world, before), expected, "{mode}");
    }

    // An agent that the owner starts at the command line has the tools of the variable and the
    // plugin.
    let before = world.api.message_requests().len();
    let id = world.delegate(&["go", "--permission-mode", "plan"]);
    succeeded(&world.host.finished(&id), "done");
    assert!(offered(&world, before).contains("PowerShell"));
    let begin = opening(&world, &id);
    let tools = begin["tools"].as_array().unwrap();
    assert!(tools.iter().any(|tool| tool == "LSP"), "{tools:?}");
}

/// Claude Code starts a language server as soon as the agent has written a file. Servers and hooks
/// often run programs of the directory, which the agent could have written before.
#[test]
fn clients_agent_that_edits_starts_no_language_server_and_no_hook_of_the_user() {
    let world = World::with(Script::default(), Login::ApiKey, |host| host.config(EDITS));
    with_programs(&world);
    let written = world.host.work().join("made.any");
    let input = json!({"file_path": written, "content": "words\n"});
    world.api.set_script(calling([("Write", input)]));
    let root = world.host.root();
    let programs = [root.join("by-server"), root.join("by-hook")];
    succeeded(&of_client(&world, "acceptEdits"), "done");
    assert!(written.exists());
    for program in &programs {
        assert!(!program.exists(), "{}", program.display());
    }

    // An agent that the owner starts at the command line starts both.
    fs::remove_file(&written).unwrap();
    let task = world.done(&["go", "--permission-mode", "acceptEdits"]);
    succeeded(&task, "done");
    for program in &programs {
        wait_for(&format!("{}", program.display()), || {
            program.exists().then_some(())
        });
    }
}

/// Claude Code lets an agent write its memory without a permission, wherever this is.
#[test]
fn clients_agent_that_edits_does_not_write_the_memory_of_claude_code_elsewhere() {
    let world = World::with(Script::default(), Login::ApiKey, |host| host.config(EDITS));
    let memory = world.host.root().join("memory");
    with_settings(&world, &json!({ "autoMemoryDirectory": memory }));
    let note = memory.join("MEMORY.md");
    let inside = world.host.work().join("made.txt");
    let input = |path: &Path| json!({"file_path": path, "content": "words\n"});
    let script = calling([("Write", input(&note)), ("Write", input(&inside))]);
    world.api.set_script(script);
    succeeded(&of_client(&world, "acceptEdits"), "done");
    assert!(inside.exists());
    assert!(!note.exists());

    // An agent that the owner starts at the command line writes it.
    fs::remove_file(&inside).unwrap();
    let task = world.done(&["go", "--permission-mode", "acceptEdits"]);
    succeeded(&task, "done");
    assert!(note.exists());
}

/// The environments of the owner's tasks, with tokens, are in the data directory, and so is what
/// the host allows.
#[test]
fn clients_agent_reads_and_writes_no_files_of_the_host() {
    let world = World::with(Script::default(), Login::ApiKey, |host| host.config(EDITS));
    world.host.up();
    let (root, data) = (world.host.root(), world.host.data_dir());
    let environment = data.join("env/planted");
    fs::write(&environment, "TOKEN=words-of-a-token\n").unwrap();
    let written = |path: &Path| json!({"file_path": path, "content": "words\n"});
    let (grant, inside) = (data.join("grants/any.toml"), root.join("made.txt"));
    let settings = world.host.config_dir().join("claudine/other.toml");
    // The user's settings of git, with a link in their usual place.
    let of_git = root.join("dotfile");
    fs::write(&of_git, "# one\n").unwrap();
    symlink(&of_git, world.host.home().join(".gitconfig")).unwrap();
    let search = json!({"pattern": "words-of", "path": data, "output_mode": "content"});
    let calls = || {
        calling([
            ("Read", json!({ "file_path": environment })),
            ("Grep", search.clone()),
            ("Write", written(&grant)),
            ("Write", written(&settings)),
            ("Read", json!({ "file_path": of_git })),
            ("Write", json!({"file_path": of_git, "content": "# two\n"})),
            ("Write", written(&inside)),
        ])
    };
    let has_read = |before: usize| {
        let asked = world.api.message_requests();
        let mut said = asked[before..].iter().map(|asked| asked.body.to_string());
        said.any(|said| said.contains("words-of-a-token"))
    };
    world.api.set_script(calls());
    let mut client = Client::connect(&world.host);
    let asked = json!({
        "prompt": format!("look at @{}", environment.display()),
        "permissionMode": "acceptEdits",
        "workingDirectory": root,
    });
    let taken = client.call("DelegateTask", asked);
    let task = world.host.finished(taken["taskId"].as_str().unwrap());
    succeeded(&task, "done");
    assert!(inside.exists());
    assert!(!has_read(0));
    assert!(!grant.exists() && !settings.exists());
    assert_eq!(fs::read(&of_git).unwrap(), b"# one\n");

    // An agent of the owner does all of it.
    let before = world.api.message_requests().len();
    fs::remove_file(&inside).unwrap();
    world.api.set_script(calls());
    let place = root.to_str().unwrap();
    let task = world.done(&["go", "--permission-mode", "acceptEdits", "-w", place]);
    succeeded(&task, "done");
    assert!(has_read(before));
    assert!(grant.exists() && settings.exists());
    assert_eq!(fs::read(&of_git).unwrap(), b"# two\n");
}

/// The host's git would run the filters that these settings name, and Claude Code the helpers.
#[test]
fn clients_agent_changes_neither_included_settings_of_git_nor_the_directory_of_another_task() {
    let mut world = World::with(Script::default(), Login::ApiKey, |host| host.config(EDITS));
    world.host.up();
    let root = world.host.root().to_owned();
    let home = world.host.home();
    fs::write(home.join(".gitconfig"), "[include]\npath = dot/config\n").unwrap();
    let included = home.join("dot/config");
    let (planted, inside) = (root.join("profile/planted.json"), root.join("made.txt"));
    let places = [&included, &planted, &inside];
    let input = |path: &Path| json!({"file_path": path, "content": "# words\n"});
    let calls = || calling(places.map(|path| ("Write", input(path))));

    // An agent of the owner does all of it.
    world.api.set_script(calls());
    let place = root.to_str().unwrap();
    let task = world.done(&["go", "--permission-mode", "acceptEdits", "-w", place]);
    succeeded(&task, "done");
    for path in places {
        fs::remove_file(path).unwrap();
    }

    let mut client = Client::connect(&world.host);
    let profile = root.join("profile");
    world.host.set_env("CLAUDE_CONFIG_DIR", &profile);
    world.api.set_script(Script::always(Answer::text("done")));
    let task = world.done(&["go", "--permission-mode", "plan"]);
    succeeded(&task, "done");
    world.api.set_script(calls());
    let asked = json!({
        "prompt": "go",
        "permissionMode": "acceptEdits",
        "workingDirectory": root,
    });
    let taken = client.call("DelegateTask", asked);
    let task = world.host.finished(taken["taskId"].as_str().unwrap());
    succeeded(&task, "done");
    assert!(inside.exists());
    assert!(!included.exists() && !planted.exists());
}

/// Claude Code protects only what is called `.git`.
#[test]
fn clients_agent_changes_no_git_directory_whatever_its_name() {
    let world = World::with(Script::default(), Login::ApiKey, |host| host.config(EDITS));
    world.host.up();
    let work = world.host.work();
    let store = work.join("a/store");
    for part in ["objects", "refs"] {
        fs::create_dir_all(store.join(part)).unwrap();
    }
    write(&store.join("HEAD"), "ref: refs/heads/main\n");
    let denied = [
        "a/store/config",
        "a/b/c/d/repo.git/config",
        "a/b/c/d/worktrees/t/modules/s/HEAD",
        "a/b/c/d/any/commondir",
    ];
    let allowed = ["a/config", "a/b/c/d/any/HEAD"];
    let writing = |name: &str| {
        let path = work.join(name);
        ("Write", json!({"file_path": path, "content": "x\n"}))
    };
    let [one, two, three, four] = denied.map(writing);
    let [five, six] = allowed.map(writing);
    world
        .api
        .set_script(calling([one, two, three, four, five, six]));
    let mut client = Client::connect(&world.host);
    let asked = json!({"prompt": "go", "permissionMode": "acceptEdits"});
    let taken = client.call("DelegateTask", asked);
    let task = world.host.finished(taken["taskId"].as_str().unwrap());
    succeeded(&task, "done");
    for (names, exist) in [(&denied[..], false), (&allowed[..], true)] {
        for name in names {
            assert_eq!(work.join(name).exists(), exist, "{name}");
        }
    }
}

/// Programs of the user run what such files name, some of them at the client's request. The rules
/// have to leave out the worktrees, which are usually below `~/.local`.
#[test]
fn clients_agent_changes_no_hidden_file_of_the_home_directory_except_in_worktrees() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path().canonicalize().unwrap();
    let data = home.join(".local/state/claudine");
    let world = World::with(Script::default(), Login::ApiKey, |host| {
        host.config(EDITS).env("HOME", &home).data_dir(&data)
    });
    world.host.up();
    let worktree = data.join("worktrees/task_of_nobody");
    for path in [&home.join(".ssh"), &home.join(".claude"), &worktree] {
        fs::create_dir_all(path).unwrap();
    }
    let told = home.join("dot/told.md");
    write(&told, "# one\n");
    symlink("../dot/told.md", home.join(".claude/CLAUDE.md")).unwrap();
    let hidden = [".ssh/config", ".localised", ".local/bin/any", ".lo/any"];
    let hidden = hidden.map(|name| home.join(name));
    let free = [
        home.join("project/a.txt"),
        home.join("project/.github/a.txt"),
        worktree.join("a.txt"),
        worktree.join(".github/a.txt"),
    ];
    let written = |path: &PathBuf| json!({"file_path": path, "content": "# two\n"});
    let [one, two, three, four] = &hidden;
    let calls = || {
        let [plain, in_project, in_worktree, deeper] = &free;
        calling([
            ("Write", written(one)),
            ("Write", written(two)),
            ("Write", written(three)),
            ("Write", written(four)),
            ("Read", json!({ "file_path": told })),
            ("Write", written(&told)),
            ("Write", written(plain)),
            ("Write", written(in_project)),
            ("Write", written(in_worktree)),
            ("Write", written(deeper)),
        ])
    };
    world.api.set_script(calls());
    let mut client = Client::connect(&world.host);
    let asked = json!({
        "prompt": "go", "permissionMode": "acceptEdits", "workingDirectory": home,
    });
    let taken = client.call("DelegateTask", asked);
    let task = world.host.finished(taken["taskId"].as_str().unwrap());
    succeeded(&task, "done");
    for path in &free {
        assert!(path.exists(), "{}", path.display());
        fs::remove_file(path).unwrap();
    }
    for path in &hidden {
        assert!(!path.exists(), "{}", path.display());
    }
    assert_eq!(fs::read(&told).unwrap(), b"# one\n");

    // An agent in the worktree.
    let inside = worktree.join("a.txt");
    world.api.set_script(calling([("Write", written(&inside))]));
    let asked = json!({
        "prompt": "go", "permissionMode": "acceptEdits", "workingDirectory": worktree,
    });
    let taken = client.call("DelegateTask", asked);
    let task = world.host.finished(taken["taskId"].as_str().unwrap());
    succeeded(&task, "done");
    assert!(inside.exists());
    fs::remove_file(&inside).unwrap();

    // An agent of the owner does all of it.
    world.api.set_script(calls());
    let place = home.to_str().unwrap();
    let task = world.done(&["go", "--permission-mode", "acceptEdits", "-w", place]);
    succeeded(&task, "done");
    for path in hidden.iter().chain(&free) {
        assert!(path.exists(), "{}", path.display());
    }
    assert_eq!(fs::read(&told).unwrap(), b"# two\n");
}

/// A tool that writes needs a pattern within the directory: without one it may write anywhere.
#[test]
fn client_cannot_allow_a_tool_that_writes_outside_of_the_directory() {
    let script = Script::always(Answer::text("done"));
    let world = World::with(script, Login::ApiKey, |host| host.config(EDITS));
    let mut client = Client::connect(&world.host);
    let asked =
        |tool: &str| json!({"prompt": "go", "permissionMode": "plan", "allowedTools": [tool]});
    for tool in [
        "Write",
        "Edit",
        "NotebookEdit",
        "Edit(//**)",
        "Edit(~/**)",
        "Edit(../**)",
    ] {
        let complaint = client.fail("DelegateTask", asked(tool));
        for says in [tool, "do whatever the user can"] {
            assert!(complaint.contains(says), "{complaint}");
        }
    }
    assert_eq!(world.host.json(["list"])["tasks"], json!([]));
    let taken = client.call("DelegateTask", asked("Edit(src/**)"));
    let id = taken["taskId"].as_str().unwrap();
    succeeded(&world.host.finished(id), "done");
}

#[test]
fn clients_agent_is_bound_by_the_users_rules_that_deny() {
    let world = World::with(Script::default(), Login::ApiKey, |host| host.config(EDITS));
    let work = world.host.work();
    let [hidden, shown] = ["hidden.txt", "shown.txt"].map(|name| work.join(name));
    write(&hidden, "words of the hidden\n");
    write(&shown, "words of the shown\n");
    let rule = format!("Read(/{})", hidden.display());
    with_settings(&world, &json!({"permissions": {"deny": [rule]}}));
    let input = |path: &Path| json!({ "file_path": path });
    let script = calling([("Read", input(&hidden)), ("Read", input(&shown))]);
    world.api.set_script(script);
    for mode in ["plan", "acceptEdits"] {
        let before = world.api.message_requests().len();
        succeeded(&of_client(&world, mode), "done");
        let asked = world.api.message_requests();
        let has = |words: &str| {
            let asked = &asked[before..];
            asked.iter().any(|asked| asked.messages().contains(words))
        };
        assert!(has("words of the shown"), "{mode}");
        assert!(!has("words of the hidden"), "{mode}");
    }
}

/// Otherwise a client's agent would run without the limits that this version does not know.
#[test]
fn version_of_claude_code_that_cannot_limit_a_clients_agent_does_not_run_it() {
    let lacks = "case \" $* \" in *' --safe-mode '*)\n\
                 echo \"error: unknown option '--safe-mode'\" >&2; exit 1;;\n\
                 esac\nexec \"$CLAUDE\" \"$@\"";
    let (world, _directory) = World::wrapped(Script::always(Answer::text("done")), lacks);
    let why = ended(&of_client(&world, "plan"), "failed", "invalid");
    for says in ["does not know `--safe-mode`", "npm install -g"] {
        assert!(why.contains(says), "{why}");
    }
    assert!(world.api.message_requests().is_empty());

    // An agent that the owner starts at the command line needs no limits.
    succeeded(&world.done(&["go", "--permission-mode", "plan"]), "done");
}

/// Claude Code replaces `@path` in a prompt by the contents of that file.
#[test]
fn output_that_is_passed_to_an_agent_mentions_no_files() {
    let script = Script::always(Answer::text("done"));
    let world = World::new(script);
    let path = world.host.root().join("notes.txt");
    write(&path, "words of the notes\n");
    let mention = format!("look at @{}", path.display());
    let has_words = || {
        let asked = world.api.message_requests();
        let words = "words of the notes";
        asked.iter().any(|asked| asked.messages().contains(words))
    };
    let said = world.host.script(&format!("echo '{mention}'"));
    world.host.finished(&said);
    let task = world.done(&["summarise", "--with-output-of", &said]);
    succeeded(&task, "done");
    assert!(!has_words());

    // A mention in a prompt stays one.
    succeeded(&world.done(&[&mention]), "done");
    assert!(has_words());
}

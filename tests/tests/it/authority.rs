//! Principals and their rights: the owner at a terminal, commands and agents in attempts, and MCP
//! clients.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
};

use claudine_tests::{
    HostBuilder, TestHost, harness::binary, mcp::Client, short_id, terminal::Terminal, wait_for,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::mounts::{Mounted, SmallDisk};

/// The strictest limits for agents.
pub(super) const SMALLEST: &str = "[mcp]\nexecutors = [\"claude\"]\nmax_permission_mode = \"plan\"\n\
                        merge_strategies = [\"manual\"]\nextras = []\nenv = []\n";

/// A host whose agents run this script in place of Claude Code, as long as the returned directory
/// exists.
pub(super) fn with_agent(config: &str, script: &str) -> (TestHost, TempDir) {
    with_agent_and(config, script, |host| host)
}

fn with_agent_and(
    config: &str,
    script: &str,
    more: impl FnOnce(HostBuilder) -> HostBuilder,
) -> (TestHost, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let agent = directory.path().join("claude");
    fs::write(&agent, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&agent, fs::Permissions::from_mode(0o755)).unwrap();
    let path = std::env::var("PATH").unwrap();
    let host = TestHost::builder()
        .config(config)
        .env("PATH", format!("{}:{path}", directory.path().display()))
        // The variable lets a person request every permission mode, even if root runs the tests.
        .env("IS_SANDBOX", "1");
    (more(host).build(), directory)
}

pub(super) fn smallest() -> (TestHost, TempDir) {
    with_agent(SMALLEST, "exit 3")
}

#[track_caller]
pub(super) fn refused(client: &mut Client, tool: &str, arguments: Value, says: &[&str]) {
    let complaint = client.fail(tool, arguments);
    for piece in says {
        assert!(complaint.contains(piece), "{complaint:?} lacks {piece:?}");
    }
}

fn claudine() -> String {
    format!("'{}'", binary().display())
}

#[test]
fn each_mcp_request_beyond_the_ceiling_is_refused_with_a_reason() {
    let (host, _agent) = smallest();
    let mut client = Client::connect(&host);
    let mut check = |task: Value, says: &[&str]| {
        refused(&mut client, "SubmitGraph", json!({ "tasks": [task] }), says);
    };
    let plan = |name: &str, value: Value| {
        let mut task = json!({"prompt": "p", "permissionMode": "plan"});
        task[name] = value;
        task
    };
    let too_much = ["this task could", "over MCP may at most read (`plan`)"];
    // These variables would run a `claude` of the client's own, or code in the host's git.
    for (name, value) in [
        ("PATH", "/evil"),
        ("GIT_CONFIG_COUNT", "1"),
        ("LD_PRELOAD", "/evil.so"),
    ] {
        let says = format!("variable `{name}` may not be set over MCP");
        let why = "no setting allows it";
        check(plan("env", json!({ name: value })), &[&says, why]);
    }
    check(plan("env", json!({"CI": "1"})), &["mcp.env"]);
    let mut worktree = plan("env", json!({"GIT_CONFIG_COUNT": "1"}));
    worktree["worktree"] = true.into();
    check(worktree, &["variable `GIT_CONFIG_COUNT`"]);
    // Options that would extend the agent's rights.
    for arguments in [
        json!(["--settings", "{}"]),
        json!(["--mcp-config", "x.json"]),
        json!(["--dangerously-unheard-of"]),
    ] {
        let spec = json!({"prompt": "p", "permission_mode": "plan", "extra_args": arguments});
        let task = json!({"executor": "claude", "spec": spec});
        check(task, &[too_much[0], too_much[1], "extra_args"]);
    }
    check(plan("allowedTools", json!(["Bash"])), &too_much);
    check(
        plan("allowedTools", json!(["Read", "Bash(ls *)"])),
        &too_much,
    );
    check(plan("allowedTools", json!(["Edit"])), &too_much);
    check(
        json!({"prompt": "/deploy now", "permissionMode": "plan"}),
        &too_much,
    );
    // The default mode and other requests exceed the ceiling too.
    check(
        json!({"prompt": "p"}),
        &[too_much[1], "sets no `permission_mode`"],
    );
    for mode in ["acceptEdits", "bypassPermissions", "auto"] {
        check(json!({"prompt": "p", "permissionMode": mode}), &too_much);
    }
    check(
        json!({"script": "true"}),
        &["executor `shell`", "mcp.executors"],
    );
    check(
        plan("worktree", json!({"merge": "auto"})),
        &["mcp.merge_strategies"],
    );
    check(
        plan("max_output", json!("1T")),
        &["an output limit of 1T may not be requested over MCP; the most is 1G"],
    );
    let delegated = json!({"prompt": "p", "allowedTools": ["Bash"], "permissionMode": "plan"});
    refused(&mut client, "DelegateTask", delegated, &too_much);
    assert_eq!(host.json(["list"])["tasks"], json!([]));

    // A request within the ceiling is accepted, and its author and authority are stored.
    let asked = json!({"prompt": "p", "permissionMode": "plan"});
    let taken = client.call("DelegateTask", asked);
    let task = host.finished(taken["taskId"].as_str().unwrap());
    let chat = json!({"kind": "owner", "via": "mcp", "restrained": true});
    assert_eq!(task["by"], chat);
    assert_eq!(task["authority"]["step"], "read");
    let told = client.call("TaskStatus", json!({"taskId": taken["taskId"]}));
    assert_eq!(told["by"], chat);
}

/// Otherwise the host could check one value of a field, and the executor could use another one.
#[test]
fn document_that_could_be_read_in_two_ways_is_refused() {
    let (host, _agent) = smallest();
    host.up();
    let submit = |spec: &str| {
        let work = host.work().display().to_string();
        let task =
            format!(r#"{{"executor": "claude", "working_directory": "{work}", "spec": {spec}}}"#);
        let base = json!({"HOME": host.home(), "PATH": std::env::var("PATH").unwrap()});
        let body = format!(r#"{{"environment": {{"base": {base}}}, "tasks": [{task}]}}"#);
        host.post_as_client("/v1/tasks", &body)
    };
    let session = "\"8f14e45f-ceea-467f-9d2c-51f1c7a6a6d1\"";
    let plan = "\"prompt\": \"p\", \"permission_mode\": \"plan\"";
    // The executor would take the first of these for the fields in their order.
    for (spec, says) in [
        (
            format!(r#"[{session}, null, "plan", [], null, null, null, false, {session}, []]"#),
            "invalid type: sequence, expected a JSON object",
        ),
        (
            format!(r#"{{{plan}, "resume_session": null, "resume_session": {session}}}"#),
            "`resume_session` is given twice",
        ),
        (
            format!(r#"{{{plan}, "prompt": "/deploy"}}"#),
            "`prompt` is given twice",
        ),
        (
            format!(r#"{{{plan}, "Resume_Session": {session}}}"#),
            "unknown field `Resume_Session`",
        ),
        (
            format!(r#"{{{plan}, "resume_session": [{session}]}}"#),
            "/resume_session: invalid type",
        ),
        (
            format!(r#"{{{plan}, "resume_session": {session}}}"#),
            "no stored task of this host has reported it",
        ),
    ] {
        let answer = submit(&spec);
        assert!(answer.contains(says), "{spec}: {answer}");
    }
    assert_eq!(host.json(["list"])["tasks"], json!([]));
    let answer = submit(&format!("{{{plan}}}"));
    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
}

/// Otherwise `claudine wait NAME` and `--depends-on NAME` of a person could mean the client's task.
#[test]
fn client_cannot_take_the_name_of_a_persons_task() {
    let (host, _agent) = smallest();
    let mut client = Client::connect(&host);
    let plan = |name: &str| json!({"prompt": "p", "permissionMode": "plan", "name": name});
    host.finished(&host.text(["run", "--name", "tests", "--", "false"]));
    let graph = "- {name: check, script: \"false\"}\n";
    host.run_with(["submit", "-", "--name", "release"], graph.as_bytes())
        .check();
    for name in ["tests", "check", "release"] {
        let says = [
            format!("`{name}` is the name of "),
            "may not be used again over MCP".to_owned(),
            "choose another name".to_owned(),
        ];
        let says = says.each_ref().map(String::as_str);
        refused(&mut client, "DelegateTask", plan(name), &says);
        let in_graph = json!({ "tasks": [plan(name)] });
        refused(&mut client, "SubmitGraph", in_graph, &says);
        let graph = json!({ "tasks": [plan("own")], "name": name });
        refused(&mut client, "SubmitGraph", graph, &says);
    }
    // If a client uses a name first and a person uses it later, the name means the person's task.
    let asked =
        json!({"prompt": "p", "permissionMode": "plan", "name": "later", "after": 3_600_000});
    let theirs = client.call("DelegateTask", asked)["taskId"].clone();
    assert_eq!(host.status("later")["id"], theirs);
    let id = host.text(["run", "--name", "later", "--", "sh", "-c", "exit 7"]);
    let waited = host.run(["wait", "later"]);
    assert_eq!(waited.status.code(), Some(7), "{waited}");
    assert_eq!(host.status("later")["id"], id);
}

#[test]
fn repeated_request_of_a_client_is_answered_although_a_person_has_taken_its_name_since() {
    let (host, _agent) = smallest();
    let mut client = Client::connect(&host);
    let asked = |prompt: &str, name: &str, key: &str| {
        let mut asked = json!({"prompt": prompt, "permissionMode": "plan", "name": name});
        asked["idempotencyKey"] = key.into();
        asked
    };
    let single = asked("p", "tests", "single");
    let graph = json!({ "tasks": [asked("p", "check", "member")], "name": "release" });
    let first = client.call("DelegateTask", single.clone());
    let first_of_graph = client.call("SubmitGraph", graph.clone());
    host.run(["run", "--name", "tests", "--", "true"]).check();
    let of_person = "- {name: check, script: \"true\"}\n";
    host.run_with(["submit", "-", "--name", "release"], of_person.as_bytes())
        .check();
    let again = client.call("DelegateTask", single);
    assert_eq!(again["taskId"], first["taskId"]);
    let again = client.call("SubmitGraph", graph);
    assert_eq!(again["taskIds"], first_of_graph["taskIds"]);
    // A request that is not a repeated one cannot take a person's name.
    for (prompt, key) in [("p", "another"), ("q", "single")] {
        let says = ["`tests` is the name of ", "choose another name"];
        let asked = asked(prompt, "tests", key);
        refused(&mut client, "DelegateTask", asked, &says);
    }
}

/// Otherwise the agent would be refused, or would get a task that the client has submitted.
#[test]
fn idempotency_keys_of_a_client_and_of_the_agent_of_a_persons_task_are_separate() {
    let claudine = claudine();
    let script = format!(
        "case \"$PWD\" in *nested*) exit 0;; esac
         again() {{
             {claudine} delegate --permission-mode plan -w nested --idempotency-key \"$1\" p \\
                 >> ids 2>> refused
         }}
         again one; again two
         touch begun; until test -e go; do sleep 0.05; done
         again one"
    );
    let (host, _agent) = with_agent(SMALLEST, &script);
    let nested = host.work().join("nested");
    fs::create_dir(&nested).unwrap();
    let mut client = Client::connect(&host);
    let mut ask = |key: &str, prompt: &str| {
        let asked = json!({
            "prompt": prompt, "permissionMode": "plan", "workingDirectory": nested,
            "idempotencyKey": key,
        });
        let id = client.call("DelegateTask", asked)["taskId"].clone();
        id.as_str().unwrap().to_owned()
    };
    let theirs = [ask("one", "other"), ask("two", "p")];
    let id = host.text(["delegate", "--permission-mode", "plan", "p"]);
    let begun = host.work().join("begun");
    wait_for("the agent to submit tasks", || begun.exists().then_some(()));
    // A host that starts again remembers the keys of both.
    host.run(["down"]).check();
    host.up();
    fs::write(host.work().join("go"), "").unwrap();
    host.finished(&id);

    assert_eq!(said(&host, "refused"), "");
    let ids = said(&host, "ids");
    let ids: Vec<&str> = ids.lines().collect();
    assert_eq!(ids.len(), 3, "{ids:?}");
    assert_eq!(ids[0], ids[2]);
    assert_ne!(ids[0], ids[1]);
    assert!(ids.iter().all(|id| !theirs.contains(&(*id).to_owned())));
    assert_eq!([ask("one", "other"), ask("two", "p")], theirs);
}

#[test]
fn names_last_and_running_skip_tasks_of_clients_if_a_person_uses_them() {
    let (host, _agent) = smallest();
    let mut client = Client::connect(&host);
    let asked = json!({"prompt": "p", "permissionMode": "plan", "after": 3_600_000});
    let theirs = client.call("DelegateTask", asked.clone())["taskId"].clone();
    // There are only tasks of clients so far.
    assert_eq!(host.status("@last")["id"], theirs);
    let id = host.text([
        "run",
        "--",
        "sh",
        "-c",
        "until test -e go; do sleep 0.1; done; exit 7",
    ]);
    host.live(&id);
    let theirs = client.call("DelegateTask", asked)["taskId"].clone();
    assert_eq!(host.status("@last")["id"], id);
    assert_eq!(host.status("@running")["id"], id);
    let told = client.call("TaskStatus", json!({"taskId": "@last"}));
    assert_eq!(told["taskId"], theirs, "for a client, all tasks count");
    let next = host.text(["run", "--depends-on-success", "@last", "--", "true"]);
    assert_eq!(host.status(&next)["dependencies"][0]["task"], id);
    host.run(["cancel", &next]).check();
    let events = host.text(["events", "@last"]);
    assert!(
        !events.contains(short_id(theirs.as_str().unwrap())),
        "{events}"
    );
    fs::write(host.work().join("go"), "").unwrap();
    assert_eq!(host.finished(&id)["outcome"], "failed");
}

#[test]
fn client_cannot_start_a_persons_task_before_its_time() {
    let (host, _agent) = smallest();
    let mut client = Client::connect(&host);
    let words = ["delegate", "--permission-mode", "plan", "--at", "+2h", "p"];
    let later = host.text(words);
    let now = json!({"taskId": later, "now": true});
    refused(&mut client, "RetryTask", now, &["the start time of"]);
    assert_eq!(host.status(&later)["state"], "waiting");
    let asked = json!({"prompt": "p", "permissionMode": "plan", "after": 3_600_000});
    let own = client.call("DelegateTask", asked);
    let own = own["taskId"].as_str().unwrap();
    client.call("RetryTask", json!({"taskId": own, "now": true}));
    host.finished(own);
}

/// A client could let a person's task use up its retries before the cause of its failures is gone.
#[test]
fn client_cannot_shorten_the_backoff_of_a_persons_task() {
    let config = "[mcp]\nexecutors = [\"shell\"]\n";
    let host = TestHost::builder().config(config).build();
    let mut client = Client::connect(&host);
    let words = ["run", "--retries", "3", "--backoff", "5h", "--", "false"];
    let failing = host.text(words);
    wait_for("the backoff", || {
        (host.status(&failing)["state"] == "waiting").then_some(())
    });
    let now = json!({"taskId": failing, "now": true});
    let says = [
        "waits until its time",
        "may not be started earlier over MCP",
    ];
    refused(&mut client, "RetryTask", now, &says);
    // The way out that a client does not have is not proposed to it.
    let says = ["is waiting, not done", "only a person can start it now"];
    for tool in ["RetryTask", "ResumeTask"] {
        refused(&mut client, tool, json!({"taskId": failing}), &says);
    }
    let task = host.status(&failing);
    assert_eq!(task["state"], "waiting", "{task:#}");
    host.run(["retry", "--now", &failing]).check();
}

#[test]
fn default_mode_above_the_ceiling_is_refused_for_clients_and_applies_to_persons() {
    let config = "[mcp]\nexecutors = [\"claude\"]\n[plugins.claude]\npermission_mode = \"bypassPermissions\"\n";
    let (host, _agent) = with_agent(config, "exit 3");
    let mut client = Client::connect(&host);
    let says = [
        "do whatever the user can",
        "may at most change files (`acceptEdits`)",
    ];
    refused(&mut client, "DelegateTask", json!({"prompt": "p"}), &says);
    let asked = json!({"prompt": "p", "permissionMode": "acceptEdits"});
    client.call("DelegateTask", asked);
    let id = host.text(["delegate", "of the owner"]);
    let task = host.finished(&id);
    assert_eq!(task["by"], json!({"kind": "owner", "via": "cli"}));
    assert_eq!(task["authority"], json!({"step": "full"}));
}

#[test]
fn later_change_of_the_default_mode_does_not_extend_a_tasks_rights() {
    let config = "[mcp]\nexecutors = [\"claude\"]\n";
    let (host, _agent) = with_agent(config, "exit 3");
    let mut client = Client::connect(&host);
    let task = json!({"prompt": "p", "name": "later", "hold": true});
    client.call("SubmitGraph", json!({ "tasks": [task] }));
    host.run(["down"]).check();
    let lifted = format!("{config}[plugins.claude]\npermission_mode = \"bypassPermissions\"\n");
    fs::write(host.config_dir().join("claudine/config.toml"), lifted).unwrap();
    host.run(["release", "later"]).check();
    let task = host.finished("later");
    assert_eq!(task["reason"]["class"], "permission", "{task:#}");
    let message = task["reason"]["message"].as_str().unwrap();
    assert!(message.contains("(full instead of edit)"), "{message}");
}

/// Otherwise a client could queue work under a high ceiling, to be run whatever the person decides.
#[test]
fn queued_tasks_of_a_client_fail_at_their_start_if_a_person_has_lowered_the_ceiling_meanwhile() {
    let (host, _agent) = with_agent("", "exit 3");
    let mut client = Client::connect(&host);
    let plan = json!({"name": "plan", "prompt": "p", "permissionMode": "plan", "hold": true});
    let mut web = plan.clone();
    web["name"] = "web".into();
    web["allowedTools"] = json!(["WebFetch"]);
    let mut variable = plan.clone();
    variable["name"] = "variable".into();
    variable["env"] = json!({"CI": "1"});
    let tasks = json!([
        {"name": "script", "script": "true", "hold": true},
        {"name": "edit", "prompt": "p", "permissionMode": "acceptEdits", "hold": true},
        web,
        variable,
        plan,
    ]);
    client.call("SubmitGraph", json!({ "tasks": tasks }));
    host.text(["run", "--hold", "--name", "mine", "--", "true"]);
    host.run(["down"]).check();
    fs::write(host.config_dir().join("claudine/config.toml"), SMALLEST).unwrap();
    let held = ["script", "edit", "web", "variable", "plan", "mine"];
    host.run([&["release"][..], &held[..]].concat()).check();

    for (name, why, setting) in [
        (
            "script",
            "executor `shell` may not be used over MCP",
            "mcp.executors",
        ),
        (
            "edit",
            "may at most read (`plan`)",
            "mcp.max_permission_mode",
        ),
        ("web", "this task has `network`", "mcp.extras"),
        (
            "variable",
            "variable `CI` may not be set over MCP",
            "mcp.env",
        ),
    ] {
        let task = host.finished(name);
        assert_eq!(task["reason"]["class"], "permission", "{task:#}");
        let message = task["reason"]["message"].as_str().unwrap();
        for says in [why, setting] {
            assert!(message.contains(says), "{message}");
        }
    }
    // A task within the ceiling starts, and so do tasks that a person has submitted or retried.
    assert_eq!(host.finished("plan")["reason"]["class"], "no_result");
    assert_eq!(host.finished("mine")["outcome"], "succeeded");
    host.run(["retry", "script"]).check();
    assert_eq!(host.finished("script")["outcome"], "succeeded");
    let says = ["variable `CI` may not be set over MCP", "mcp.env"];
    let again = json!({"taskId": "variable"});
    refused(&mut client, "RetryTask", again, &says);
    host.run(["retry", "variable"]).check();
    assert_eq!(host.finished("variable")["reason"]["class"], "no_result");
    // A person who runs everything again is told of what the settings refuse to clients.
    let says = "3 tasks of clients are beyond";
    let failed = ["retry", "--failed"];
    let mut asked = Terminal::start(&host, &failed, (80, 24));
    asked.shows(&[says, "Retry 4 tasks? [y/N]"]);
    asked.press("\r");
    assert_eq!(asked.ended().code(), Some(1));
    let ran = host.run([&failed[..], &["--yes"]].concat()).ok();
    ran.says(&[says, "they run because you ask for it"]);
}

#[test]
fn output_of_a_clients_queued_task_is_limited_by_the_settings_at_its_start() {
    let host = TestHost::builder().config("").build();
    let mut client = Client::connect(&host);
    let script = "seq 1 100000";
    let theirs = json!({"name": "theirs", "script": script, "hold": true});
    client.call("SubmitGraph", json!({ "tasks": [theirs] }));
    host.text(["run", "--hold", "--name", "mine", "--script", script]);
    host.run(["down"]).check();
    let config = host.config_dir().join("claudine/config.toml");
    fs::write(config, "max_output = \"64K\"\n").unwrap();
    host.run(["release", "theirs", "mine"]).check();
    let shown = |name: &str| {
        assert_eq!(host.finished(name)["outcome"], "succeeded");
        host.run(["logs", name]).ok().stdout.len()
    };
    let theirs = shown("theirs");
    assert!((32 * 1024..80 * 1024).contains(&theirs), "{theirs}");
    assert_eq!(shown("mine"), 588_895);
}

/// The text that a command in an attempt has written to this file.
pub(super) fn said(host: &TestHost, file: &str) -> String {
    fs::read_to_string(host.work().join(file)).unwrap()
}

#[test]
fn command_in_a_persons_task_may_neither_end_the_host_nor_release_the_persons_hold() {
    let (host, _agent) = smallest();
    let claudine = claudine();
    let script = format!(
        "{claudine} run --name plain -- true
         (sh -c '{claudine} run --name orphan -- true; touch ran' > /dev/null 2>&1 &)
         until test -e ran; do :; done
         {claudine} run --hold --name held -- true
         {claudine} release held
         {claudine} release gate 2> gate
         {claudine} hold gate
         {claudine} release gate 2> still
         {claudine} down 2> down
         {claudine} group set line --limit 2"
    );
    let gate = host.text(["run", "--hold", "--name", "gate", "--", "true"]);
    let id = host.script(&script);
    assert_eq!(host.finished(&id)["outcome"], "succeeded");
    assert_eq!(
        host.status(&id)["by"],
        json!({"kind": "owner", "via": "cli"})
    );
    let by = json!({"kind": "agent", "task": id, "via": "cli"});
    for name in ["plain", "orphan", "held"] {
        let task = host.finished(name);
        assert_eq!((&task["by"], &task["parent"]), (&by, &json!(id)), "{name}");
    }
    let refused = said(&host, "gate");
    let is_held = format!("task {} is held by owner; agent", short_id(&gate));
    assert!(refused.contains(&is_held), "{refused}");
    let still = said(&host, "still");
    assert!(
        still.contains("is still held by owner; a person"),
        "{still}"
    );
    assert_eq!(host.status(&gate)["state"], "held");
    let refused = said(&host, "down");
    assert!(
        refused.contains(&format!(
            "agent {} via cli may not end the host",
            short_id(&id)
        )),
        "{refused}"
    );
    host.run(["release", "gate"]).check();
    host.finished("gate");
}

#[test]
fn agent_cannot_back_up_environments_whether_a_host_runs_or_not() {
    let claudine = claudine();
    let script = format!(
        "{claudine} backup --with-environments one 2> with-host
         {claudine} backup plain 2> plain-words
         touch backed-up
         until test -e go; do sleep 0.1; done
         {claudine} backup --with-environments two 2> without-host
         touch over; until test -e end; do sleep 0.1; done"
    );
    let (host, _agent) = with_agent("", &script);
    let at = |file: &str| host.work().join(file);
    let id = host.text(["delegate", "--permission-mode", "bypassPermissions", "p"]);
    wait_for("the first backups", || {
        at("backed-up").exists().then_some(())
    });
    host.kill_host();
    fs::write(at("go"), "").unwrap();
    wait_for("the last backup", || at("over").exists().then_some(()));
    for (file, backup) in [("with-host", "one"), ("without-host", "two")] {
        let refused = said(&host, file);
        let says = "may not read the environments of tasks";
        assert!(refused.contains(says), "{file}: {refused}");
        assert!(!at(backup).exists(), "{backup}");
    }
    assert!(at("plain").exists(), "{}", said(&host, "plain-words"));
    host.run(["backup", "--with-environments", "without"])
        .check();
    host.up();
    host.run(["backup", "--with-environments", "with"]).check();
    fs::write(at("end"), "").unwrap();
    host.finished(&id);
    // A command in a task of a person may back them up, as the person may.
    let script = format!("{claudine} backup --with-environments by-command");
    let id = host.script(&script);
    assert_eq!(host.finished(&id)["outcome"], "succeeded");
}

/// Otherwise an agent could give a host the settings that limit the agent itself, as soon as no
/// host runs.
#[test]
fn host_started_inside_a_task_takes_no_settings_from_the_task() {
    let claudine = claudine();
    let script = format!(
        "touch begun; until test -e go; do sleep 0.1; done
         echo 'slots = 77' > evil.toml
         CLAUDINE_CONFIG=\"$PWD/evil.toml\" CLAUDINE_SLOTS=78 {claudine} up --slots 79 > up 2> note
         touch over; until test -e end; do sleep 0.1; done"
    );
    let (host, _agent) = with_agent("slots = 3\n", &script);
    let at = |file: &str| host.work().join(file);
    let id = host.text(["delegate", "--permission-mode", "bypassPermissions", "p"]);
    wait_for("the agent", || at("begun").exists().then_some(()));
    host.run(["down"]).check();
    fs::write(at("go"), "").unwrap();
    wait_for("a host", || at("over").exists().then_some(()));
    assert!(said(&host, "up").contains("host started"));
    let note = said(&host, "note");
    for name in ["CLAUDINE_CONFIG", "CLAUDINE_SLOTS", "--slots"] {
        assert!(note.contains(name), "{note}");
    }
    assert!(note.contains("takes no settings from it"), "{note}");
    let running = host.up();
    assert_eq!(running["slots"], 3, "{running:#}");
    let warnings = running["warnings"].to_string();
    assert!(
        warnings.contains("a task has started this host"),
        "{warnings}"
    );
    fs::write(at("end"), "").unwrap();
    host.finished(&id);
}

/// Otherwise a client decides which program its agent is, by the directory that it names.
#[test]
fn program_of_a_clients_agent_is_not_looked_for_in_the_directory_that_the_client_names() {
    let (mut host, agent) = with_agent(
        SMALLEST,
        "printenv PATH > path; printenv PYTHONPATH > python; printenv PYTHONSAFEPATH > safe; \
         printenv BUN_INSPECT_PRELOAD > bun; echo $? >> bun; \
         printenv GOOGLE_APPLICATION_CREDENTIALS PYTHONUSERBASE PERL5OPT TOOL_DIR > places; \
         printenv KEPT_DIR > kept",
    );
    let path = std::env::var("PATH").unwrap();
    let fixed: Vec<&str> = path
        .split(':')
        .filter(|it| !it.ends_with("/shims"))
        .collect();
    let absolute = format!("{}:{}", agent.path().display(), fixed.join(":"));
    let shims = host.root().join("manager/shims");
    host.set_env("PATH", format!("./bin:{}::{absolute}:.", shims.display()));
    host.set_env("PYTHONPATH", "/lib/python:");
    host.set_env("BUN_INSPECT_PRELOAD", "./planted.js");
    for (name, value) in [
        ("GOOGLE_APPLICATION_CREDENTIALS", "adc.json"),
        ("PYTHONUSERBASE", ".pyuser"),
        ("PERL5OPT", "-Mlib=lib -MSetup"),
        ("TOOL_DIR", "tool"),
        ("KEPT_DIR", "/tool"),
    ] {
        host.set_env(name, value);
    }
    let in_shims = shims.join("claude");
    for place in ["claude", "bin/claude", "bin/git"]
        .map(Path::new)
        .into_iter()
        .chain([&*in_shims])
    {
        let planted = host.work().join(place);
        fs::create_dir_all(planted.parent().unwrap()).unwrap();
        fs::write(&planted, "#!/bin/sh\ntouch planted\n").unwrap();
        fs::set_permissions(&planted, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let mut client = Client::connect(&host);
    let asked = json!({"prompt": "p", "permissionMode": "plan"});
    let id = client.call("DelegateTask", asked)["taskId"].clone();
    host.finished(id.as_str().unwrap());
    assert_eq!(said(&host, "path"), format!("{absolute}\n"));
    assert_eq!(said(&host, "python"), "/lib/python\n");
    // The agent does not have the variable at all.
    assert_eq!(said(&host, "bun"), "1\n");
    assert_eq!(said(&host, "places"), "");
    assert_eq!(said(&host, "kept"), "/tool\n");
    // The agent runs a helper of the user in this directory, perhaps `python3 -m MODULE`.
    assert_eq!(said(&host, "safe"), "1\n");
    assert!(!host.work().join("planted").exists());
    // The tasks of a person keep what the person has set.
    host.finished(&host.text(["delegate", "--permission-mode", "plan", "p"]));
    assert!(host.work().join("planted").exists());
}

/// What a client submits is kept for days, and no task starts while less than the reserve is free.
#[test]
fn client_submits_nothing_and_runs_nothing_again_while_less_than_the_reserve_is_free() {
    let disk = SmallDisk::mount(200);
    let host = TestHost::builder()
        .data_dir(disk.dir.join("data"))
        .config("disk_reserve = \"100M\"\n[mcp]\nexecutors = [\"shell\"]\n")
        .build();
    host.up();
    let mut client = Client::connect(&host);
    let asked = || json!({"prompt": "true", "executor": "shell"});
    let mut keyed = asked();
    keyed["idempotencyKey"] = "key".into();
    let taken = client.call("DelegateTask", keyed.clone());
    host.finished(taken["taskId"].as_str().unwrap());
    disk.fill_except(60 << 20);
    let says = ["less than the reserve of 100", "(CLAUDINE_DISK_RESERVE)"];
    refused(&mut client, "DelegateTask", asked(), &says);
    let again = json!({"taskId": taken["taskId"]});
    refused(&mut client, "RetryTask", again, &says);
    // The answer to the first request may have been lost.
    let repeated = client.call("DelegateTask", keyed);
    assert_eq!(repeated["taskId"], taken["taskId"]);
    let id = host.text(["run", "--", "true"]);
    disk.empty();
    host.finished(&id);
}

#[test]
fn clients_agent_whose_program_is_only_a_version_managers_fails_with_the_way_out() {
    let (mut host, agent) = with_agent(SMALLEST, "touch ran");
    let shims = host.root().join("manager/shims");
    fs::create_dir_all(&shims).unwrap();
    fs::rename(agent.path().join("claude"), shims.join("claude")).unwrap();
    host.set_env("PATH", format!("{}:/usr/bin:/bin", shims.display()));
    let mut client = Client::connect(&host);
    let asked = json!({"prompt": "p", "permissionMode": "plan"});
    let id = client.call("DelegateTask", asked)["taskId"].clone();
    let task = host.finished(id.as_str().unwrap());
    let message = task["reason"]["message"].as_str().unwrap();
    for says in [
        "command not found: `claude` (PATH is /usr/bin:/bin)",
        "without those of version managers (shims)",
        "begin the PATH of the client with the directory of the program itself",
    ] {
        assert!(message.contains(says), "{task:#}");
    }
    assert!(!host.work().join("ran").exists());
    host.finished(&host.text(["delegate", "--permission-mode", "plan", "p"]));
    assert!(host.work().join("ran").exists());
}

/// Otherwise the agent would take the files of this directory for the settings of the person.
#[test]
fn clients_agent_does_not_run_with_a_home_directory_that_depends_on_the_working_directory() {
    let (mut host, _agent) = with_agent(SMALLEST, r#"test "$1" = --version || touch ran; exit 3"#);
    host.up();
    for (name, place) in [
        ("HOME", "hm"),
        ("HOME", "/proc/self/cwd"),
        ("CLAUDE_CONFIG_DIR", "/proc/self/cwd/.claude"),
    ] {
        let usual = host.home();
        host.set_env("HOME", &usual);
        host.set_env(name, place);
        let mut client = Client::connect(&host);
        let asked = json!({"prompt": "p", "permissionMode": "plan"});
        let id = client.call("DelegateTask", asked)["taskId"].clone();
        let task = host.finished(id.as_str().unwrap());
        assert_eq!(task["reason"]["class"], "invalid", "{task:#}");
        let message = task["reason"]["message"].as_str().unwrap();
        let says = format!("`{name}` is no absolute path");
        assert!(message.contains(&says), "{task:#}");
        assert!(!host.work().join("ran").exists());
    }
    // The tasks of a person keep what the person has set.
    host.set_env("HOME", "hm");
    host.finished(&host.text(["delegate", "--permission-mode", "plan", "p"]));
    assert!(host.work().join("ran").exists());
}

/// Otherwise an agent that may only read gets the environments of the owner's tasks, with tokens.
#[test]
fn client_lets_no_task_work_in_the_data_directory_or_beside_the_settings() {
    let (host, _agent) = smallest();
    host.up();
    let worktree = host.data_dir().join("worktrees/task_other");
    fs::create_dir_all(&worktree).unwrap();
    let link = host.work().join("link");
    symlink(host.data_dir(), &link).unwrap();
    let mut client = Client::connect(&host);
    let asked = |directory: &Path| {
        let mut asked = json!({"prompt": "p", "permissionMode": "plan"});
        asked["workingDirectory"] = json!(directory);
        asked
    };
    let in_data = ["", "env", "worktrees"].map(|name| host.data_dir().join(name));
    for directory in in_data.iter().chain([&link]) {
        let says = ["it is in the data directory", "the directory of a project"];
        refused(&mut client, "DelegateTask", asked(directory), &says);
    }
    let settings = host.config_dir().join("claudine");
    let says = ["it is in the directory of the settings"];
    refused(&mut client, "DelegateTask", asked(&settings), &says);
    client.call("DelegateTask", asked(host.root()));
    client.call("DelegateTask", asked(&worktree));
    // A link may lead there only after the request.
    let later = host.work().join("later");
    symlink(host.root(), &later).unwrap();
    host.run(["pause"]).check();
    let taken = client.call("DelegateTask", asked(&later));
    fs::remove_file(&later).unwrap();
    symlink(host.data_dir(), &later).unwrap();
    host.run(["unpause"]).check();
    let task = host.finished(taken["taskId"].as_str().unwrap());
    assert_eq!(task["reason"]["class"], "permission", "{task:#}");
    let message = task["reason"]["message"].as_str().unwrap();
    assert!(message.contains("it is in the data directory"), "{task:#}");
    // A person may.
    let data = host.data_dir().to_str().unwrap();
    host.text(["delegate", "--permission-mode", "plan", "-w", data, "p"]);
}

#[test]
fn client_lets_tasks_work_only_in_the_directories_of_the_settings() {
    let (host, _agent) = smallest();
    let [trusted, other] = ["trusted", "other"].map(|name| host.work().join(name));
    for directory in [&trusted, &other] {
        fs::create_dir(directory).unwrap();
    }
    symlink(&other, trusted.join("link")).unwrap();
    let setting = trusted.to_str().unwrap();
    host.run(["config", "set", "mcp.directories", setting])
        .check();
    let mut client = Client::connect(&host);
    let asked = |directory: &Path| {
        let mut asked = json!({"prompt": "p", "permissionMode": "plan"});
        asked["workingDirectory"] = json!(directory);
        asked
    };
    let says = ["mcp.directories", setting];
    for directory in [&host.work(), &other, &trusted.join("link")] {
        refused(&mut client, "DelegateTask", asked(directory), &says);
    }
    client.call("DelegateTask", asked(&trusted));
    // A checkout here may belong to a repository elsewhere.
    let git = |arguments: &[&str]| {
        let ran = host
            .other("git")
            .arg("-C")
            .arg(&other)
            .args(arguments)
            .output()
            .unwrap();
        assert!(ran.status.success(), "{ran:?}");
    };
    let identity = ["-c", "user.name=a", "-c", "user.email=a@example.com"];
    let commit = ["commit", "-q", "--allow-empty", "-m", "one"];
    let linked = trusted.join("linked");
    git(&["init", "-q"]);
    git(&[&identity[..], &commit].concat());
    git(&[
        "worktree",
        "add",
        "-q",
        "--detach",
        linked.to_str().unwrap(),
    ]);
    let mut in_worktree = asked(&linked);
    in_worktree["useWorktree"] = true.into();
    refused(&mut client, "DelegateTask", in_worktree, &says);
    // A link may lead elsewhere only after the request.
    let later = trusted.join("later");
    symlink(&trusted, &later).unwrap();
    host.run(["pause"]).check();
    let taken = client.call("DelegateTask", asked(&later));
    fs::remove_file(&later).unwrap();
    symlink(&other, &later).unwrap();
    host.run(["unpause"]).check();
    let task = host.finished(taken["taskId"].as_str().unwrap());
    assert_eq!(task["reason"]["class"], "permission", "{task:#}");
    // A person may.
    let other = other.to_str().unwrap();
    let own = host.text(["delegate", "--permission-mode", "plan", "-w", other, "p"]);
    let own = own.trim();
    assert_eq!(host.finished(own)["outcome"], "failed");
    refused(&mut client, "RetryTask", json!({"taskId": own}), &says);
}

#[test]
fn settings_for_mcp_also_limit_agents_that_use_the_command_line() {
    let claudine = claudine();
    let evil = "PATH=/evil LD_PRELOAD= CI=1";
    let script = format!(
        "case \"$PWD\" in *nested*) printenv > env; exit 0;; esac
         {claudine} run --name shell -- true 2> shell
         {claudine} delegate --name bypass --permission-mode bypassPermissions p 2> bypass
         {claudine} delegate --env PATH=/evil --permission-mode plan p 2> path
         (setsid env -i HOME=/ CLAUDINE_DATA_DIR=\"$CLAUDINE_DATA_DIR\" {claudine} run -- true 2> bare; touch ran) &
         until test -e ran; do :; done
         {claudine} release gate 2> release
         {claudine} group set line --limit 2 2> group
         {claudine} slots 9 2> slots
         {claudine} worktree clean 2> clean
         {claudine} down 2> down
         {claudine} retry persons 2> retry
         mkdir -p nested
         {evil} {claudine} delegate --name plan --permission-mode plan -w nested p 2> plan"
    );
    let (host, _agent) = with_agent(SMALLEST, &script);
    let persons = host.text(["run", "--name", "persons", "--", "false"]);
    host.finished(&persons);
    let gate = host.text(["run", "--hold", "--name", "gate", "--", "true"]);
    let id = host.text(["delegate", "--permission-mode", "bypassPermissions", "p"]);
    host.finished(&id);
    for (file, says) in [
        ("shell", "executor `shell` may not be used by an agent"),
        ("bypass", "this task could do whatever the user can"),
        ("path", "variable `PATH` may not be set by an agent"),
        ("bare", "executor `shell` may not be used by an agent"),
        ("release", "may not release it"),
        ("group", "may not change groups"),
        ("slots", "may not set the limit of concurrent tasks"),
        ("clean", "may not remove worktrees"),
        ("down", "may not end the host"),
        ("retry", "executor `shell` may not be used by an agent"),
    ] {
        let refused = said(&host, file);
        assert!(refused.contains(says), "{file}: {refused}");
    }
    assert_eq!(said(&host, "plan"), "");
    let task = host.finished("plan");
    let by = json!({"kind": "agent", "task": id, "via": "cli", "restrained": true});
    assert_eq!((&task["by"], &task["parent"]), (&by, &json!(id)));
    // The task `plan` ran in the environment of the agent's task, without the variables that the
    // agent had set for its command.
    let environment = said(&host, "nested/env");
    assert!(
        !environment.contains("/evil") && !environment.contains("CI=1"),
        "{environment}"
    );
    assert_eq!(host.status(&gate)["state"], "held");
    assert_eq!(host.run(["release", "gate"]).status.code(), Some(0));
    host.finished("gate");
}

/// A script in place of Claude Code that shows the rules of a client's agent in the file `rules`.
const SHOWS_RULES: &str =
    r#"case "$*" in *disallowedTools*) printf '%s\n' "$@" > rules;; esac; exit 3"#;

/// The rules that deny something to an agent of a client.
#[track_caller]
fn rules(host: &TestHost, client: &mut Client) -> String {
    let asked = json!({"prompt": "p", "permissionMode": "plan"});
    let taken = client.call("DelegateTask", asked);
    host.finished(taken["taskId"].as_str().unwrap());
    said(host, "rules")
}

/// Otherwise the host's git runs the filters that an agent which may edit files names there.
#[test]
fn clients_agent_is_denied_changes_to_what_the_users_settings_of_git_lead_to() {
    let (host, _agent) = with_agent(SMALLEST, SHOWS_RULES);
    host.up();
    let mut client = Client::connect(&host);
    let home = host.home();
    let check = |rules: &str, is_denied: bool| {
        for name in ["dot/config", "dot/more", "hooks/**", "clean"] {
            let rule = format!("Edit(/{})", home.join(name).display());
            assert_eq!(rules.contains(&rule), is_denied, "{rule}: {rules}");
        }
    };
    check(&rules(&host, &mut client), false);
    fs::create_dir(home.join("dot")).unwrap();
    let included = "[include]\npath = more\n[filter \"x\"]\nclean = sh ~/clean\n";
    fs::write(home.join("dot/config"), included).unwrap();
    let settings = "[includeIf \"gitdir:/no/such/\"]\npath = ~/dot/config\n\
                    [core]\nhooksPath = ~/hooks\n";
    fs::write(home.join(".gitconfig"), settings).unwrap();
    check(&rules(&host, &mut client), true);
}

/// Otherwise git of the host and of the person believes what an agent that may edit files has
/// written there.
#[test]
fn clients_agent_is_denied_changes_to_git_directories_with_unusual_names() {
    let (host, _agent) = with_agent(SMALLEST, SHOWS_RULES);
    host.up();
    let mut client = Client::connect(&host);
    let bare = host.work().join("p/.bare");
    let rule = format!("Edit(/{})", bare.display());
    let before = rules(&host, &mut client);
    assert!(!before.contains(&rule), "{before}");
    assert!(before.contains("Edit(//**/commondir)"), "{before}");
    for part in ["objects", "refs"] {
        fs::create_dir_all(bare.join(part)).unwrap();
    }
    fs::write(bare.join("HEAD"), "ref: refs/heads/main\n").unwrap();
    let after = rules(&host, &mut client);
    assert!(after.contains(&rule), "{after}");
}

/// Otherwise an agent that may edit files names programs there, which Claude Code runs for the next
/// task with this directory.
#[test]
fn clients_agent_is_denied_changes_to_the_directory_of_claude_code_of_another_task() {
    let (mut host, _agent) = with_agent(SMALLEST, SHOWS_RULES);
    host.up();
    let mut client = Client::connect(&host);
    let [other, of_host] = ["a profile", "another"].map(|name| host.root().join(name));
    let denied = |path: &Path| format!("Edit(/{}/**)", path.display());
    assert!(!rules(&host, &mut client).contains(&denied(&other)));
    host.set_env("CLAUDE_CONFIG_DIR", &other);
    host.finished(&host.text(["delegate", "--permission-mode", "plan", "p"]));
    assert!(rules(&host, &mut client).contains(&denied(&other)));
    // The next host knows it too, and its own.
    host.set_env("CLAUDE_CONFIG_DIR", &of_host);
    // A client starts a host if none runs, in its own environment.
    drop(client);
    host.run(["down"]).check();
    host.up();
    let rules = rules(&host, &mut Client::connect(&host));
    for path in [&other, &of_host] {
        assert!(rules.contains(&denied(path)), "{rules}");
    }
}

/// Otherwise an agent that may edit files names programs there which run later, some of them at the
/// client's request.
#[test]
fn clients_agent_is_denied_changes_to_hidden_files_of_the_home_directory_and_behind_links() {
    let (host, _agent) = with_agent(SMALLEST, SHOWS_RULES);
    host.up();
    let mut client = Client::connect(&host);
    let home = host.home();
    let denied = |name: &str| format!("Edit(/{})", home.join(name).display());
    let before = rules(&host, &mut client);
    assert!(before.contains(&denied(".*")), "{before}");
    let all = ["dot/ssh", "dot/agents", "dot/missing", "dot/a?b"].map(denied);
    for rule in &all {
        assert!(!before.contains(rule), "{before}");
    }
    for path in [".ssh", ".claude/plugins/one", "dot/agents"] {
        fs::create_dir_all(home.join(path)).unwrap();
    }
    for (link, target) in [
        (".ssh/config", "../dot/ssh"),
        (".agents", "dot/agents"),
        (".claude/plugins/one/link", "../../../dot/missing"),
        (".odd", "dot/a:b"),
    ] {
        symlink(target, home.join(link)).unwrap();
    }
    let after = rules(&host, &mut client);
    for rule in &all {
        assert!(after.contains(rule), "{rule}: {after}");
    }
}

#[test]
fn clients_agent_is_denied_the_other_name_of_a_home_directory_that_is_mounted_twice() {
    let (host, _agent) = with_agent(SMALLEST, SHOWS_RULES);
    host.up();
    let mut client = Client::connect(&host);
    let place = tempfile::tempdir().unwrap();
    let root = place.path().canonicalize().unwrap();
    let (home, data) = (root.join("home"), root.join("data"));
    fs::create_dir(&home).unwrap();
    fs::create_dir(&data).unwrap();
    let denied = [
        format!("Edit(/{}/.*)", home.display()),
        format!("Read(/{}/env)", data.display()),
    ];
    let before = rules(&host, &mut client);
    for rule in &denied {
        assert!(!before.contains(rule), "{before}");
    }
    let _home = Mounted::again(&host.home(), &home);
    let _data = Mounted::again(host.data_dir(), &data);
    let after = rules(&host, &mut client);
    for rule in &denied {
        assert!(after.contains(rule), "{rule}: {after}");
    }
    let asked = json!({"prompt": "p", "permissionMode": "plan", "workingDirectory": data});
    let says = ["it is in the data directory", "the directory of a project"];
    refused(&mut client, "DelegateTask", asked, &says);
}

/// The worktrees are usually among the hidden files of the home directory.
#[test]
fn clients_agent_may_change_worktrees_among_the_hidden_files_of_the_home_directory() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path().canonicalize().unwrap();
    let data = home.join(".local/state/claudine");
    let (host, _agent) = with_agent_and(SMALLEST, SHOWS_RULES, |host| {
        host.env("HOME", &home).data_dir(data)
    });
    host.up();
    let rules = rules(&host, &mut Client::connect(&host));
    for (name, is_denied) in [
        (".*", false),
        (".l", true),
        (".local?*", true),
        (".local/*", false),
        (".local/state?*", true),
        (".local/state/claudine?*", true),
        (".local/state/claudine/*", false),
        (".local/state/claudine/worktrees?*", true),
    ] {
        let rule = format!("Edit(/{})", home.join(name).display());
        assert_eq!(rules.contains(&rule), is_denied, "{rule}: {rules}");
    }
}

/// Otherwise a client reads what the tasks of another host have in their environments, and writes
/// the settings that the next host takes.
#[test]
fn clients_agent_is_denied_the_usual_places_of_other_hosts() {
    let (host, _agent) = with_agent(SMALLEST, SHOWS_RULES);
    host.up();
    let rules = rules(&host, &mut Client::connect(&host));
    let usual = host.home().join(".local/state/claudine");
    for path in [
        usual.join("env"),
        usual.join("*.*"),
        host.root().join("state/claudine/env"),
        host.home().join(".config/claudine/**"),
    ] {
        for tool in ["Read", "Edit"] {
            let rule = format!("{tool}(/{})", path.display());
            assert!(rules.contains(&rule), "{rule}: {rules}");
        }
    }
}

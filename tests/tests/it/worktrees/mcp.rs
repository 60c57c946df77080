//! Worktrees, diffs and merges that are requested over MCP.

use std::fs;

use claudine_tests::{TestHost, mcp::Client};
use serde_json::{Value, json};

use super::{REFUSED, Repository, THEIRS, git_in, in_conflict, merged, shim::Shimmed};

/// Submits a script in a worktree over MCP; returns the id of the task.
#[track_caller]
fn of_client(client: &mut Client, script: &str, strategy: &str) -> String {
    let answer = client.call(
        "DelegateTask",
        json!({
            "prompt": script, "executor": "shell", "useWorktree": true, "mergeStrategy": strategy,
        }),
    );
    answer["taskId"].as_str().unwrap().to_owned()
}

/// A task of a client whose merge met a conflict, where clients may use these merge strategies.
#[track_caller]
fn conflicting_of_client(strategies: &str) -> (Repository, Client, Value) {
    let config = format!("[mcp]\nmerge_strategies = [{strategies}]\n");
    let repository = Repository::with(TestHost::builder().config(&config));
    let mut client = Client::connect(&repository.host);
    let id = of_client(&mut client, THEIRS, "auto");
    let task = in_conflict(&repository, &id);
    (repository, client, task)
}

#[test]
fn worktree_can_be_requested_over_mcp() {
    let allowed = "[mcp]\nexecutors = [\"shell\"]\nmerge_strategies = [\"auto\"]\n";
    let builder = TestHost::builder().config(allowed);
    let repository = Repository::with(builder);
    let mut client = Client::connect(&repository.host);
    let answer = client.call(
        "DelegateTask",
        json!({
            "prompt": "echo two > file", "executor": "shell", "useWorktree": true, "branchName": "fix", "mergeStrategy": "auto",
            "keepWorktree": true,
        }),
    );
    let id = answer["taskId"].as_str().unwrap();
    let task = repository.host.finished(id);
    let told = client.call("TaskStatus", json!({ "taskId": id }));
    assert_eq!(told["worktree"]["branch"], "fix");
    assert_eq!(told["merge"]["state"], "merged");
    merged(&task, "succeeded", "merged");
    assert_eq!(repository.branches(), ["fix", "main"]);
    assert!(repository.worktree(&task).exists());
    let list = repository.host.text(["worktree", "list"]);
    assert!(list.contains("  fix     main  nothing  "), "{list}");
}

#[test]
fn agent_merges_only_if_the_settings_allow_it() {
    let repository =
        Repository::with(TestHost::builder().config("[mcp]\nexecutors = [\"shell\"]\n"));
    let mut client = Client::connect(&repository.host);
    let mut refused = |tool: &str, arguments: Value| {
        let complaint = client.fail(tool, arguments);
        assert!(
            complaint.contains("may not be used over MCP; allowed are: manual, patch")
                && complaint.contains("mcp.merge_strategies"),
            "{complaint}"
        );
    };
    for strategy in ["auto", "pr"] {
        refused(
            "DelegateTask",
            json!({ "prompt": "true", "executor": "shell", "useWorktree": true, "mergeStrategy": strategy }),
        );
    }
    refused(
        "SubmitGraph",
        json!({ "tasks": [{ "script": "true" }, { "script": "true", "worktree": { "merge": "auto" } }] }),
    );
    assert_eq!(repository.host.json(["list"])["tasks"], json!([]));
    let answer = client.call(
        "DelegateTask",
        json!({ "prompt": "echo two > file", "executor": "shell", "useWorktree": true, "mergeStrategy": "patch" }),
    );
    let task = repository.host.finished(answer["taskId"].as_str().unwrap());
    merged(&task, "succeeded", "written");
    let shown = repository.host.text(["config", "show"]);
    assert!(
        shown.contains("merge_strategies = [\"manual\", \"patch\"]"),
        "{shown}"
    );
}

#[test]
fn agent_sees_the_changes_of_a_task() {
    let repository = Repository::new();
    let mut client = Client::connect(&repository.host);
    let script = "echo two > file; for n in $(seq 9000); do echo line $n; done > long";
    let task = repository.done(&["--name", "fix"], script);
    let id = task["id"].as_str().unwrap();
    let diff = client.call("TaskDiff", json!({ "taskId": "fix" }));
    assert_eq!(diff["taskId"], id);
    assert_eq!(diff["branch"], task["worktree"]["branch"]);
    let stat = diff["stat"].as_str().unwrap();
    assert!(stat.starts_with(" file |    2\n long | 9000\n"), "{stat}");
    let patch = diff["patch"].as_str().unwrap();
    assert!(patch.contains("-one\n+two\n"), "{patch:.200}");
    let rest = format!("more bytes are left out; `claudine diff {id}` prints them]\n");
    assert!(patch.ends_with(&rest), "{patch:.200}");
    assert!(
        diff.to_string().len() < 45_000,
        "{}",
        diff.to_string().len()
    );
    let one = client.call("TaskDiff", json!({ "taskId": "fix", "path": "file" }));
    let patch = one["patch"].as_str().unwrap();
    assert!(
        patch.ends_with("-one\n+two\n") && !patch.contains("long"),
        "{patch}"
    );
    let stat = json!({ "taskId": "fix", "path": "sub", "statOnly": true });
    let none = client.call("TaskDiff", stat);
    assert_eq!((&none["stat"], &none["patch"]), (&json!(""), &Value::Null));
    let without = repository.host.script("true");
    repository.host.finished(&without);
    let complaint = client.fail("TaskDiff", json!({ "taskId": without }));
    assert!(complaint.contains("has no worktree"), "{complaint}");
    let shown = repository.host.text(["diff", "fix", "file"]);
    assert!(shown.contains("+two") && !shown.contains("long"), "{shown}");
}

#[test]
fn agent_merges_resolved_work() {
    let (repository, mut client, task) = conflicting_of_client("\"auto\"");
    let host = &repository.host;
    let id = task["id"].as_str().unwrap();
    let complaint = client.fail("MergeTask", json!({ "taskId": id }));
    assert!(
        complaint.contains("conflicts with `main` in file"),
        "{complaint}"
    );
    let worktree = repository.worktree(&task);
    fs::write(worktree.join("file"), "both\n").unwrap();
    git_in(host, &worktree, &["commit", "-q", "-a", "-m", "resolved"]);
    git_in(
        host,
        &worktree,
        &["merge", "-q", "--no-edit", "-X", "ours", "main"],
    );
    let answer = client.call("MergeTask", json!({ "taskId": id }));
    assert_eq!(answer["merge"]["state"], "merged", "{answer:#}");
    assert_eq!(answer["attemptNumber"], 2, "{answer:#}");
    assert_eq!(fs::read(repository.path().join("file")).unwrap(), b"both\n");
    assert_eq!(host.status(id)["outcome"], "succeeded");
}

/// The settings limit which merges a client may request: by the strategy, and by the permission
/// mode.
#[test]
fn merge_over_mcp_beyond_the_ceiling_is_refused() {
    let check = |config: &str, strategy: &str, setting: &str| {
        let config = format!("[mcp]\n{config}\n");
        let repository = Repository::with(TestHost::builder().config(&config));
        let mut client = Client::connect(&repository.host);
        let id = of_client(&mut client, "echo two > file", "manual");
        repository.host.finished(&id);
        let asked = json!({ "taskId": id, "mergeStrategy": strategy });
        let complaint = client.fail("MergeTask", asked);
        assert!(complaint.contains(setting), "{complaint}");
        // The same holds for a merge at the end of a task.
        let asked = json!({
            "prompt": "true", "executor": "shell", "useWorktree": true, "mergeStrategy": strategy,
        });
        let complaint = client.fail("DelegateTask", asked);
        assert!(complaint.contains(setting), "{complaint}");
        repository.is_untouched();
        assert_eq!(fs::read(repository.path().join("file")).unwrap(), b"one\n");
        // `TaskDiff` is allowed, because it only reads.
        let diff = client.call("TaskDiff", json!({ "taskId": id }));
        assert!(diff["patch"].to_string().contains("+two"), "{diff:#}");
    };
    let all = "merge_strategies = [\"auto\", \"manual\", \"pr\", \"patch\"]";
    for strategy in ["auto", "pr", "patch"] {
        let read = format!("max_permission_mode = \"plan\"\n{all}");
        check(&read, strategy, "mcp.max_permission_mode");
    }
    check("", "auto", "mcp.merge_strategies");
}

/// Otherwise a client could commit what a person has only begun to write, and remove the worktree
/// in which the person works.
#[test]
fn client_commits_in_no_worktree_of_a_persons_task_and_does_not_remove_it() {
    let repository = Repository::new();
    let host = &repository.host;
    let mut client = Client::connect(host);
    let work = "echo two > file; echo more > more";
    for (name, options, script) in [
        ("left", &[][..], work),
        ("kept", &["--keep-worktree"][..], work),
        ("clean", &[][..], "true"),
        ("failed", &[][..], "echo two > file; exit 3"),
        (
            "patched",
            &["--merge", "patch"][..],
            "echo two > file; exit 3",
        ),
    ] {
        let named = [&["--name", name][..], options].concat();
        let task = repository.done(&named, script);
        let id = task["id"].as_str().unwrap();
        let attempts = host.status(id)["attempts"].clone();
        let worktree = repository.worktree(&task);
        if name != "clean" {
            fs::write(worktree.join("mine"), "half\n").unwrap();
        }
        let mut tools = vec![(
            "MergeTask",
            json!({ "taskId": id, "mergeStrategy": "patch" }),
        )];
        if task["outcome"] == "failed" {
            tools.push(("RetryTask", json!({ "taskId": id })));
            tools.push(("ResumeTask", json!({ "taskId": id })));
        }
        for (tool, asked) in tools {
            let complaint = client.fail(tool, asked);
            for says in [
                "belongs to owner, who may be working there",
                "over MCP may neither commit in it nor remove it",
                "a person can do that with `claudine",
            ] {
                assert!(complaint.contains(says), "{name} {tool}: {complaint}");
            }
        }
        assert_eq!(host.status(id)["attempts"], attempts, "{name}");
        if name != "clean" {
            let status = git_in(host, &worktree, &["status", "--porcelain"]);
            assert!(status.contains("?? mine"), "{name}: {status}");
        }
    }
    // A person may do all of this.
    host.run(["worktree", "merge", "left", "--merge", "patch"])
        .check();
}

/// Otherwise a client could commit a file that the person has half written.
#[test]
fn client_does_not_interrupt_a_person_who_resolves_a_merge_in_the_worktree_of_its_task() {
    let (repository, mut client, task) = conflicting_of_client("\"auto\", \"patch\"");
    let host = &repository.host;
    let id = task["id"].as_str().unwrap();
    let worktree = repository.worktree(&task);
    let resolve = ["worktree", "resolve", id];
    host.run(resolve).code(REFUSED).says(&["not resolved"]);
    fs::write(worktree.join("file"), "half\n").unwrap();
    let before = git_in(host, &worktree, &["rev-parse", "HEAD"]);
    for (tool, asked) in [
        ("MergeTask", json!({ "taskId": id })),
        (
            "MergeTask",
            json!({ "taskId": id, "mergeStrategy": "patch" }),
        ),
        ("RetryTask", json!({ "taskId": id })),
        (
            "ResumeTask",
            json!({ "taskId": id, "additionalContext": "go on" }),
        ),
    ] {
        let complaint = client.fail(tool, asked);
        let says = "owner resolves a merge in the worktree of task";
        assert!(complaint.contains(says), "{tool}: {complaint}");
    }
    assert_eq!(git_in(host, &worktree, &["rev-parse", "HEAD"]), before);
    // Another command of the person must not commit the file either.
    host.run(["worktree", "merge", id])
        .code(REFUSED)
        .says(&["a merge is open in the worktree", "aborts it"]);
    assert_eq!(git_in(host, &worktree, &["rev-parse", "HEAD"]), before);
    host.run(["worktree", "resolve", id, "--abort"]).check();
    let complaint = client.fail("MergeTask", json!({ "taskId": id }));
    assert!(complaint.contains("conflicts with `main`"), "{complaint}");
}

/// The person begins while the client's request is being accepted.
#[test]
fn attempt_of_a_client_does_not_begin_in_a_merge_that_was_opened_since_its_request() {
    let config = "[mcp]\nmerge_strategies = [\"auto\"]\n";
    let shimmed = Shimmed::with(TestHost::builder().config(config));
    let (repository, host) = (&shimmed.repository, &shimmed.repository.host);
    let mut client = Client::connect(host);
    let id = of_client(&mut client, THEIRS, "auto");
    let worktree = repository.worktree(&in_conflict(repository, &id));
    // The task has ended when the person begins.
    let (mut person, _) = shimmed.stopped_at_git(&["worktree", "resolve", &id]);
    client.call("RetryTask", json!({ "taskId": id }));
    shimmed.go();
    assert_eq!(person.wait().unwrap().code(), Some(REFUSED));
    let task = host.finished(&id);
    assert_eq!(task["reason"]["class"], "permission", "{task:#}");
    let why = task["reason"]["message"].as_str().unwrap();
    assert!(why.contains("owner resolves a merge in"), "{why}");
    let text = fs::read_to_string(worktree.join("file")).unwrap();
    assert!(text.contains("<<<<<<< HEAD"), "{text}");

    fs::write(worktree.join("file"), "both\n").unwrap();
    host.run(["worktree", "resolve", &id]).check();
    assert_eq!(repository.git(&["show", "main:file"]), "both");
}

/// The next merge in the worktree may be the task's own.
#[test]
fn person_who_has_ended_a_merge_with_git_does_not_count_as_resolving_the_next_one() {
    let (repository, mut client, task) = conflicting_of_client("\"auto\"");
    let host = &repository.host;
    let id = task["id"].as_str().unwrap();
    let worktree = repository.worktree(&task);
    let own = |arguments: &[&str]| git_in(host, &worktree, arguments);
    let resolve = ["worktree", "resolve", id];
    host.run(resolve).code(REFUSED).says(&["not resolved"]);
    fs::write(worktree.join("file"), "theirs\n").unwrap();
    own(&["commit", "-q", "-a", "-m", "mine"]);
    repository.write("file", "ours again\n");
    repository.commit("ours again");
    client.call("RetryTask", json!({ "taskId": id }));
    host.live(id);
    let merge = "alias.try=!git merge main > /dev/null 2>&1 || true";
    own(&["-c", merge, "try"]);
    fs::write(worktree.join("go"), "").unwrap();
    merged(&host.finished(id), "failed", "conflict");
    let complaint = client.fail("MergeTask", json!({ "taskId": id }));
    let says = "a merge is open in the worktree";
    assert!(complaint.contains(says), "{complaint}");
}

/// A client knows the arguments of the tools, and not the options and commands of a terminal.
#[test]
fn refusals_over_mcp_name_arguments_and_tools() {
    let repository = Repository::new();
    let host = &repository.host;
    let mut client = Client::connect(host);
    let id = of_client(&mut client, "echo two > file", "manual");
    host.finished(&id);
    repository.git(&["branch", "fix"]);
    let held = host.text(["run", "--hold", "--", "true"]);
    let mut check = |tool: &str, asked: Value, says: &str| {
        let complaint = client.fail(tool, asked);
        assert!(complaint.contains(says), "{complaint}");
        assert!(!complaint.contains("--"), "{complaint}");
    };
    let says = "choose mergeStrategy auto, pr or patch";
    check("MergeTask", json!({ "taskId": id }), says);
    let taken = json!({
        "prompt": "true", "executor": "shell", "useWorktree": true, "branchName": "fix",
    });
    check("DelegateTask", taken, "or leave out branchName to have one");
    let nobody = json!({ "taskId": "nobody" });
    check("TaskStatus", nobody, "ListTasks lists the tasks");
    let says = "it is held by owner; a person can release it with `claudine release";
    check("RetryTask", json!({ "taskId": held }), says);
    // The refusal names the ceiling, and not a reason why this mode would not work anyway.
    let bypass = json!({ "prompt": "x", "permissionMode": "bypassPermissions" });
    check("DelegateTask", bypass, "mcp.max_permission_mode");
    for (path, says) in [
        ("../file", "is outside of the worktree"),
        ("/etc/passwd", "is outside of the worktree"),
        ("a\0b", "NUL byte"),
    ] {
        let asked = json!({ "taskId": id, "path": path });
        check("TaskDiff", asked, says);
    }
    // A value of the client is repeated unchanged, even if it looks like an option.
    let asked = json!({
        "prompt": "true", "executor": "shell", "useWorktree": true, "branchName": "--merge",
    });
    let complaint = client.fail("DelegateTask", asked);
    let says = "`--merge` cannot be the name of a branch";
    assert!(complaint.contains(says), "{complaint}");
}

/// Otherwise the next `git switch feature` of a person would check out the work of a client's task.
#[test]
fn client_cannot_name_a_branch_like_something_that_a_person_uses() {
    let repository = Repository::new();
    repository.git(&["update-ref", "refs/remotes/origin/feature", "HEAD"]);
    repository.git(&["config", "branch.release.remote", "origin"]);
    let mut client = Client::connect(&repository.host);
    for (name, why) in [
        ("feature", "the branch of a remote"),
        ("sub", "a path in the base"),
        ("release", "a branch with settings"),
        ("claudine/fix", "for branches named after tasks"),
        ("ma\u{131}n", "printable ASCII"),
    ] {
        let asked = json!({
            "prompt": "true", "executor": "shell", "useWorktree": true, "branchName": name,
        });
        let complaint = client.fail("DelegateTask", asked);
        for says in [why, "requested over MCP", "or leave out branchName"] {
            assert!(complaint.contains(says), "{complaint}");
        }
    }
    assert_eq!(repository.branches(), ["main"]);
    repository.done(&["--branch", "feature", "--merge", "manual"], "true");
}

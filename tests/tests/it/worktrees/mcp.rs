//! What agents may ask for.

use claudine_tests::{TestHost, mcp::PythonClient};
use serde_json::{Value, json};

use super::{Repository, merged};

#[test]
fn agents_ask_for_it_over_mcp() {
    let allowed = "[mcp]\nexecutors = [\"shell\"]\nmerge_strategies = [\"auto\"]\n";
    let builder = TestHost::builder().config(allowed);
    let repository = Repository::with(builder);
    let mut client = PythonClient::connect(&repository.host);
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
fn an_agent_merges_only_where_its_person_allows_it() {
    let repository =
        Repository::with(TestHost::builder().config("[mcp]\nexecutors = [\"shell\"]\n"));
    let mut client = PythonClient::connect(&repository.host);
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

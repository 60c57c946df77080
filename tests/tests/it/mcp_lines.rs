//! Lines on standard input, as no client library would send them.

use claudine_tests::TestHost;
use serde_json::{Value, json};

fn hello() -> Value {
    let params = json!({"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}});
    json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params})
}

/// All that is said to this input, which ends right behind its last line.
#[track_caller]
fn said(host: &TestHost, lines: &[Value]) -> Vec<Value> {
    let input: String = lines.iter().map(|line| line.to_string() + "\n").collect();
    let ran = host.run_with(["mcp"], input.as_bytes()).ok();
    ran.text()
        .lines()
        .map(|line| serde_json::from_str(line).expect("a line is JSON"))
        .collect()
}

#[test]
fn it_ends_with_its_input() {
    assert!(said(&TestHost::new(), &[]).is_empty());
    assert_eq!(said(&TestHost::new(), &[hello()]).len(), 1);
}

#[test]
fn what_was_asked_before_the_end_is_answered() {
    let host = TestHost::new();
    let call =
        json!({"name": "DelegateTask", "arguments": {"prompt": "echo asked", "executor": "shell"}});
    let answers = said(
        &host,
        &[
            hello(),
            json!({"jsonrpc": "2.0", "method": "notifications/initialized"}),
            json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": call}),
        ],
    );
    let answer = answers
        .iter()
        .find(|answer| answer["id"] == 2)
        .expect("the call is answered");
    let id = answer["result"]["structuredContent"]["taskId"]
        .as_str()
        .unwrap();
    assert_eq!(host.finished(id)["output"], "asked\n");
}

#[test]
fn it_says_when_to_delegate() {
    let answers = said(&TestHost::new(), &[hello()]);
    let instructions = answers[0]["result"]["instructions"].as_str().unwrap();
    assert!(instructions.contains("Delegate when"), "{instructions}");
    assert_eq!(answers[0]["result"]["serverInfo"]["name"], "claudine");
}

#[test]
fn no_host_is_started_before_it_is_needed() {
    let host = TestHost::new();
    said(
        &host,
        &[
            hello(),
            json!({"jsonrpc": "2.0", "id": 2, "method": "tools/list"}),
        ],
    );
    assert!(host.processes().is_empty());
}

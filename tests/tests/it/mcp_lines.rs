//! Raw lines on standard input, among them lines that no client library would send.

use std::{
    fs::{self, File},
    io::{Read, Write},
    process::Stdio,
    time::{Duration, Instant},
};

use claudine_tests::{TestHost, command::ends_within, wait::PATIENCE};
use serde_json::{Value, json};

/// The time limit of a wait over MCP.
const LONGEST_WAIT: Duration = Duration::from_secs(50);

fn hello() -> Value {
    let params = json!({"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}});
    json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params})
}

/// The server's complete output for these lines, after which its input ends.
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
fn mcp_server_ends_when_its_input_ends() {
    assert!(said(&TestHost::new(), &[]).is_empty());
    assert_eq!(said(&TestHost::new(), &[hello()]).len(), 1);
}

#[test]
fn requests_before_the_end_of_input_are_answered() {
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

/// Answer of a tool, whose call must fail if `fails` is set, and must succeed otherwise.
#[track_caller]
fn called(host: &TestHost, tool: &str, arguments: Value, fails: bool) -> Value {
    let call = json!({"name": tool, "arguments": arguments});
    let call = json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": call});
    let answers = said(host, &[hello(), call]);
    let answer = answers.iter().find(|answer| answer["id"] == 2).unwrap();
    let result = &answer["result"];
    assert_eq!(
        result["isError"].as_bool().unwrap_or(false),
        fails,
        "{answer:#}"
    );
    match &result["structuredContent"] {
        Value::Null => {
            serde_json::from_str(result["content"][0]["text"].as_str().unwrap()).unwrap()
        }
        answer => answer.clone(),
    }
}

#[test]
fn unreadable_request_gets_an_answer() {
    let host = TestHost::new();
    let half = r#"{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"DelegateTask","arguments":{"prompt":"echo \ud83d"}}}"#;
    let long = format!(
        r#"{{"method":"tools/list","params":"{}","jsonrpc":"2.0","id":3}}"#,
        "x".repeat(17 << 20)
    );
    let after = r#"{"jsonrpc":"2.0","id":4,"method":"tools/list"}"#;
    let input = format!("{}\n{half}\n{long}\nno JSON at all\n{after}\n", hello());
    let ran = host.run_with(["mcp"], input.as_bytes()).ok();
    let answers: Vec<Value> = ran
        .text()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let code = |id: Value| {
        let answer = answers.iter().find(|answer| answer["id"] == id);
        answer.unwrap_or_else(|| panic!("no answer to {id}"))["error"]["code"].clone()
    };
    assert_eq!(code(2.into()), -32700);
    assert_eq!(code(3.into()), -32600);
    assert_eq!(code(Value::Null), -32700);
    assert_eq!(code(4.into()), Value::Null);
}

#[test]
fn second_initialization_and_unoffered_lists_are_refused_and_the_session_goes_on() {
    let host = TestHost::new();
    let again = |id: u64| {
        let mut hello = hello();
        hello["id"] = id.into();
        hello["params"]["protocolVersion"] = "9999".into();
        hello
    };
    let list = |id: u64, method: &str| json!({"jsonrpc": "2.0", "id": id, "method": method});
    let answers = said(
        &host,
        &[
            hello(),
            json!({"jsonrpc": "2.0", "method": "notifications/initialized"}),
            again(2),
            list(3, "resources/list"),
            list(4, "prompts/list"),
            list(5, "tools/list"),
            list(6, "ping"),
        ],
    );
    let to = |id: u64| {
        let answer = answers.iter().find(|answer| answer["id"] == id);
        answer.unwrap_or_else(|| panic!("no answer to {id}"))
    };
    let error = &to(2)["error"];
    assert_eq!(error["code"], -32600, "{error}");
    let why = error["message"].as_str().unwrap();
    assert!(why.starts_with("the session has begun already"), "{why}");
    assert_eq!(to(6)["result"], json!({}), "{}", to(6));
    assert_eq!(to(1)["result"]["capabilities"], json!({"tools": {}}));
    for (id, method) in [(3, "resources/list"), (4, "prompts/list")] {
        let error = &to(id)["error"];
        assert_eq!(error["code"], -32601, "{error}");
        let why = format!("unknown method `{method}`: this server offers tools only");
        assert!(
            error["message"].as_str().unwrap().starts_with(&why),
            "{error}"
        );
    }
    assert!(to(5)["result"]["tools"].is_array(), "{}", to(5));
}

#[test]
fn notification_before_the_session_does_not_end_the_server() {
    let host = TestHost::new();
    let answers = said(
        &host,
        &[
            json!({"jsonrpc": "2.0", "id": 7, "method": "ping"}),
            json!({"jsonrpc": "2.0", "method": "notifications/initialized"}),
            hello(),
            json!({"jsonrpc": "2.0", "id": 8, "method": "tools/list"}),
        ],
    );
    let ids: Vec<&Value> = answers.iter().map(|answer| &answer["id"]).collect();
    assert_eq!(ids, [7, 1, 8]);
    assert!(answers[2]["result"]["tools"].is_array(), "{}", answers[2]);
}

#[test]
fn texts_of_a_client_are_cut_and_made_harmless_in_refusals() {
    let host = TestHost::new();
    let method = "x".repeat(100_000);
    let unknown = json!({"jsonrpc": "2.0", "id": 2, "method": &method, "params": {}});
    let answers = said(&host, &[hello(), unknown]);
    let answer = answers.iter().find(|answer| answer["id"] == 2).unwrap();
    assert_eq!(answer["error"]["code"], -32601, "{answer:.200}");
    assert!(answer.to_string().len() < 300, "{answer:.200}");
    let hostile = json!({"jsonrpc": "2.0", "id": 2, "method": "evil\u{1b}[2J", "params": {}});
    let answers = said(&host, &[hello(), hostile]);
    let answer = answers.iter().find(|answer| answer["id"] == 2).unwrap();
    let says = answer["error"]["message"].as_str().unwrap();
    assert!(
        says.starts_with("unknown method `evil\\u{1b}[2J`: "),
        "{says}"
    );
    for (tool, says) in [
        ("evil\u{1b}[2J", "unknown tool `evil\\\\u{1b}[2J`"),
        (&*method, "unknown tool `xxx"),
    ] {
        let refused = called(&host, tool, json!({}), true).to_string();
        assert!(refused.contains(says), "{refused:.300}");
        assert!(refused.len() < 600, "{refused:.300}");
    }
    let directory = format!("/{}", "x/".repeat(3_000));
    let asked = json!({"prompt": "true", "executor": "shell", "workingDirectory": directory});
    let refused = called(&host, "DelegateTask", asked, true).to_string();
    assert!(refused.contains("the working directory /x/x/"), "{refused}");
    assert!(refused.len() < 600, "{refused}");
    let asked = json!({"prompt": "x", "allowDenied": true, "failOnDenied": true});
    let refused = called(&host, "DelegateTask", asked, true).to_string();
    assert!(refused.contains("contradict each other"), "{refused}");
    let asked = json!({"prompt": "x", "permissionMode": "plan", "budgetUsd": 1e308});
    let refused = called(&host, "DelegateTask", asked, true).to_string();
    assert!(refused.contains("the budget is 1e308, but"), "{refused}");
}

#[test]
fn logs_are_cut_to_fit_an_agents_context() {
    let host = TestHost::new();
    let id = host.script("head -c 3000000 /dev/zero | tr '\\0' x; echo end; seq 20000 >&2");
    host.finished(&id);
    let logs = called(
        &host,
        "TaskLogs",
        json!({"taskId": id, "tail": 1000}),
        false,
    );
    assert!(
        logs.to_string().len() < 45_000,
        "{}",
        logs.to_string().len()
    );
    let output = logs["output"].as_str().unwrap();
    let told = format!("left out; `claudine logs {id} --stream stdout` prints them]\n");
    assert!(
        output.starts_with("[claudine: ") && output.contains(&told),
        "{output:.200}"
    );
    assert!(output.ends_with("xxend\n"), "the end is missing");
    let errors = logs["errors"].as_str().unwrap();
    assert!(
        errors.starts_with("19001\n") && errors.ends_with("20000\n"),
        "{errors:.200}"
    );
    assert_eq!(logs["lineCount"]["errors"], 1000);
}

#[test]
fn arguments_are_converted_or_named_in_the_error() {
    let host = TestHost::new();
    let graph = json!({"tasks": [
        {"name": "a", "script": "true", "dependencies": null, "env": null, "timeout": null, "hold": null},
        {"name": 5, "argv": ["echo", 5], "env": {"DEBUG": 8080}, "dependencies": "[\"a\"]"},
    ]});
    let ids = called(&host, "SubmitGraph", graph, false)["taskIds"].clone();
    assert_eq!(ids.as_array().unwrap().len(), 2);
    assert_eq!(host.finished("5")["output"], "5\n");
    let limit = json!({"limit": 1.0, "name": null});
    assert_eq!(
        called(&host, "ListTasks", limit, false)["tasks"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    for (arguments, expected) in [
        (
            json!({"limit": "many"}),
            "`limit`: this has to be a whole number",
        ),
        (
            json!({"name": []}),
            "`name`: this has to be a string, not a list",
        ),
        (
            json!({"colour": 1}),
            "unknown field `colour`; the fields are state, name",
        ),
    ] {
        let error = called(&host, "ListTasks", arguments, true)["error"].to_string();
        assert!(error.contains(expected), "{error}");
    }
    let error = called(
        &host,
        "DelegateTask",
        json!({"allowedTools": 5, "prompt": "x"}),
        true,
    );
    assert!(
        error["error"]
            .to_string()
            .contains("`allowedTools`: this has to be a list, not 5"),
        "{error}"
    );
    let error = called(&host, "DelegateTask", json!({}), true);
    assert!(
        error["error"].to_string().contains("`prompt` is missing"),
        "{error}"
    );
}

/// A wait must end in less than a minute, because clients give up a call after a minute.
#[test]
fn wait_over_mcp_ends_before_the_client_gives_up() {
    let host = TestHost::new();
    let id = host.text(["run", "--hold", "--", "true"]);
    let waited = called(
        &host,
        "WaitTask",
        json!({"taskId": id, "timeout": 300}),
        false,
    );
    assert_eq!(
        (&waited["done"], &waited["state"]),
        (&false.into(), &"held".into())
    );
    let error = called(
        &host,
        "WaitTask",
        json!({"taskId": id, "timeout": 50_001}),
        true,
    );
    assert_eq!(
        error["error"],
        "timeout is 50001, but must be from 0 to 50000"
    );
    host.run(["cancel", &id]).check();
    let waited = called(&host, "WaitTask", json!({"taskId": id}), false);
    assert_eq!(
        (&waited["done"], &waited["outcome"]),
        (&true.into(), &"cancelled".into())
    );
}

/// More requests than are carried out at the same time, so that the end of the input is behind
/// requests that are not read yet.
#[test]
fn waits_over_mcp_end_with_the_input() {
    const WAITS: u64 = 70;
    let host = TestHost::new();
    let id = host.text(["run", "--hold", "--", "true"]);
    let wait = json!({"name": "WaitTask", "arguments": {"taskId": id}});
    let waits = (0..WAITS)
        .map(|at| json!({"jsonrpc": "2.0", "id": 2 + at, "method": "tools/call", "params": wait}));
    let lines: Vec<Value> = [hello()].into_iter().chain(waits).collect();
    let begun = Instant::now();
    let answers = said(&host, &lines);
    let took = begun.elapsed();
    assert!(took < LONGEST_WAIT, "the server took {took:?} to end");
    for at in 0..WAITS {
        let answer = answers.iter().find(|answer| answer["id"] == 2 + at);
        let answer = answer.unwrap_or_else(|| panic!("no answer to wait {at}"));
        let task = &answer["result"]["structuredContent"];
        assert_eq!(
            (&task["done"], &task["state"]),
            (&false.into(), &"held".into()),
            "{answer:#}"
        );
    }
}

/// The list of tools is long, so that a few lists fill the pipe, which nobody reads. There are more
/// requests than are carried out at the same time, so that the end of the input is behind requests
/// that are not read yet.
#[test]
fn mcp_server_whose_client_reads_nothing_ends_after_its_input_with_an_error() {
    let host = TestHost::new();
    let lists = (2..100).map(|id| json!({"jsonrpc": "2.0", "id": id, "method": "tools/list"}));
    let lines: String = [hello()]
        .into_iter()
        .chain(lists)
        .map(|line| line.to_string() + "\n")
        .collect();
    let file = host.work().join("requests");
    fs::write(&file, &lines).unwrap();
    let start = |input: Stdio| {
        let mut server = host.command(["mcp"]);
        server.stdin(input).stdout(Stdio::piped());
        server.stderr(Stdio::piped()).spawn().unwrap()
    };
    let mut piped = start(Stdio::piped());
    let from_file = start(File::open(&file).unwrap().into());
    let mut input = piped.stdin.take().unwrap();
    input.write_all(lines.as_bytes()).unwrap();
    drop(input);
    for mut server in [piped, from_file] {
        let ended = ends_within(&mut server, PATIENCE).expect("the server ends");
        assert_eq!(ended.code(), Some(125));
        let mut said = String::new();
        let mut complaint = server.stderr.take().unwrap();
        complaint.read_to_string(&mut said).unwrap();
        assert!(said.starts_with("error: at least "), "{said}");
        let why = "because the client read none for 5 s after the end of its input";
        assert!(said.contains(why), "{said}");
    }
}

#[test]
fn instructions_tell_when_to_delegate() {
    let answers = said(&TestHost::new(), &[hello()]);
    let instructions = answers[0]["result"]["instructions"].as_str().unwrap();
    assert!(instructions.contains("Delegate when"), "{instructions}");
    assert_eq!(answers[0]["result"]["serverInfo"]["name"], "claudine");
}

#[test]
fn mcp_starts_no_host_to_list_its_tools() {
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

//! Clients of `claudine mcp`, kept open and driven call by call: a client of the tests' own and the
//! official Python client. Besides these, the command line of the Inspector.
//!
//! `cargo xtask test` installs the clients of other projects, and sets environment variables to
//! their paths.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use serde_json::{Value, json};

use crate::{
    TestHost,
    command::{self, Ran},
    harness::{binary, tool},
    schema,
    wait::PATIENCE,
};

/// A client that is connected to `claudine mcp`.
pub struct Client {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    kind: Kind,
    /// The server's instructions and the names of its tools.
    pub hello: Value,
}

enum Kind {
    /// The client of the tests' own, with the number of its requests and the schemas of the tools'
    /// answers.
    Own {
        requests: u64,
        schemas: BTreeMap<String, Value>,
    },
    /// The official Python client. It checks the answers against the schemas itself.
    Python,
}

impl Client {
    /// Connects the client of the tests' own. It sends and checks what the official client does,
    /// whose start takes two seconds of processor time.
    #[track_caller]
    pub fn connect(host: &TestHost) -> Self {
        Self::connected(host.command(["mcp"]))
    }

    /// Connects the client of the tests' own as if this attempt had started the server.
    #[track_caller]
    pub fn connect_within(host: &TestHost, attempt: &str) -> Self {
        let mut server = host.command(["mcp"]);
        server.env("CLAUDINE_ATTEMPT", attempt);
        Self::connected(server)
    }

    #[track_caller]
    fn connected(server: Command) -> Self {
        let kind = Kind::Own {
            requests: 0,
            schemas: BTreeMap::new(),
        };
        let mut client = Self::start(server, kind);
        let params = json!({
            "protocolVersion": "2025-06-18",
            "capabilities": {},
            "clientInfo": { "name": "tests", "version": "1" },
        });
        let begun = client.requested("initialize", params);
        client.write(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }));
        let listed = client.requested("tools/list", json!({}));
        let tools = listed["tools"].as_array().expect("a list of tools");
        let names: Vec<&Value> = tools.iter().map(|tool| &tool["name"]).collect();
        client.hello = json!({ "instructions": begun["instructions"], "tools": names });
        if let Kind::Own { schemas, .. } = &mut client.kind {
            for tool in tools {
                let name = tool["name"].as_str().expect("a name is text");
                schemas.insert(name.to_owned(), tool["outputSchema"].clone());
            }
        }
        client
    }

    /// Connects the official Python client.
    #[track_caller]
    pub fn official(host: &TestHost) -> Self {
        let mut python = host.other(tool("CLAUDINE_TEST_PYTHON"));
        python.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/mcp_client.py"));
        python.arg(binary()).arg("mcp");
        let mut client = Self::start(python, Kind::Python);
        client.hello = client.read();
        client
    }

    #[track_caller]
    fn start(mut command: Command, kind: Kind) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the client runs");
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().expect("piped"));
        Self {
            child,
            input,
            output,
            kind,
            hello: Value::Null,
        }
    }

    /// Calls a tool and returns its answer. Panics if the call fails, or if the answer's text and
    /// its structured content differ.
    #[track_caller]
    pub fn call(&mut self, tool: &str, arguments: Value) -> Value {
        let answer = self.answer(tool, arguments);
        assert_eq!(answer["is_error"], false, "{answer:#}");
        assert_eq!(answer["text"], answer["structured"], "{answer:#}");
        assert_eq!(answer["text"]["success"], true, "{answer:#}");
        answer["text"].clone()
    }

    /// Calls a tool and returns its error. Panics if the call succeeds.
    #[track_caller]
    pub fn fail(&mut self, tool: &str, arguments: Value) -> String {
        let answer = self.answer(tool, arguments);
        assert_eq!(answer["is_error"], true, "{answer:#}");
        assert_eq!(answer["text"]["success"], false, "{answer:#}");
        answer["text"]["error"]
            .as_str()
            .expect("an error is text")
            .to_owned()
    }

    /// Makes several calls at once; returns their answers in the order of the calls.
    #[track_caller]
    pub fn call_at_once(&mut self, calls: &[(&str, Value)]) -> Vec<Value> {
        let answers = self.answers(calls);
        answers
            .iter()
            .map(|answer| answer["text"].clone())
            .collect()
    }

    #[track_caller]
    fn answer(&mut self, tool: &str, arguments: Value) -> Value {
        self.answers(&[(tool, arguments)]).remove(0)
    }

    #[track_caller]
    fn answers(&mut self, calls: &[(&str, Value)]) -> Vec<Value> {
        if let Kind::Python = self.kind {
            let calls = calls
                .iter()
                .map(|(tool, arguments)| json!({ "tool": tool, "arguments": arguments }));
            self.write(&calls.collect());
            return self.read().as_array().expect("a list").clone();
        }
        let mut ids = Vec::new();
        for (tool, arguments) in calls {
            let params = json!({ "name": tool, "arguments": arguments });
            ids.push(self.request("tools/call", &params));
        }
        let mut results = self.results(&ids);
        let in_order = ids.iter().zip(calls).map(|(id, (tool, _))| {
            let result = results.remove(id).expect("a result for each request");
            self.checked(tool, &result)
        });
        in_order.collect()
    }

    /// The parts of a tool's result that are compared. Panics if a successful result does not match
    /// the tool's schema.
    #[track_caller]
    fn checked(&self, tool: &str, result: &Value) -> Value {
        let is_error = result["isError"].as_bool().unwrap_or(false);
        if let (Kind::Own { schemas, .. }, false) = (&self.kind, is_error) {
            let schema = schemas.get(tool).expect("a tool of the server");
            let mut faults = schema::faults(schema, &result["structuredContent"]);
            // A schema allows more fields than it names, unless it says the contrary.
            faults.retain(|fault| !fault.ends_with(schema::UNKNOWN));
            assert!(faults.is_empty(), "{tool}: {faults:?}\n{result:#}");
        }
        let text = result["content"][0]["text"].as_str();
        let text = text.unwrap_or_else(|| panic!("{tool} has no text: {result:#}"));
        let text: Value = serde_json::from_str(text)
            .unwrap_or_else(|error| panic!("{tool} said {text:?}: {error}"));
        json!({ "text": text, "structured": result["structuredContent"], "is_error": is_error })
    }

    /// Sends a request to the server, and returns its result.
    #[track_caller]
    fn requested(&mut self, method: &str, params: Value) -> Value {
        let id = self.request(method, &params);
        self.results(&[id]).remove(&id).expect("its own result")
    }

    /// Sends a request to the server; returns the id of the request.
    #[track_caller]
    fn request(&mut self, method: &str, params: &Value) -> u64 {
        let Kind::Own { requests, .. } = &mut self.kind else {
            panic!("the Python client makes its requests itself");
        };
        let id = *requests;
        *requests += 1;
        self.write(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }));
        id
    }

    /// Reads the results of these requests, which may arrive in any order.
    #[track_caller]
    fn results(&mut self, ids: &[u64]) -> BTreeMap<u64, Value> {
        let mut results = BTreeMap::new();
        while results.len() < ids.len() {
            let line = self.read();
            if let Some(id) = line["id"].as_u64() {
                assert!(ids.contains(&id), "the answer to no request: {line:#}");
                assert!(line["result"].is_object(), "{line:#}");
                results.insert(id, line["result"].clone());
            }
        }
        results
    }

    #[track_caller]
    fn write(&mut self, line: &Value) {
        let input = self.input.as_mut().expect("open until the drop");
        input
            .write_all(format!("{line}\n").as_bytes())
            .expect("the client is there");
    }

    #[track_caller]
    fn read(&mut self) -> Value {
        let mut line = String::new();
        self.output
            .read_line(&mut line)
            .expect("the client can be read");
        serde_json::from_str(&line)
            .unwrap_or_else(|error| panic!("the client said {line:?}: {error}"))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // At the end of its input the client ends its server, and then exits.
        drop(self.input.take());
        if command::ends_within(&mut self.child, PATIENCE).is_none() {
            self.child.kill().expect("our own child");
            self.child.wait().expect("our own child");
            assert!(
                std::thread::panicking(),
                "the client has not ended at the end of its input"
            );
        }
    }
}

/// Runs the command line of the Inspector against `claudine mcp`.
#[track_caller]
pub fn inspector(host: &TestHost, arguments: &[&str]) -> Ran {
    let mut node = host.other(tool("CLAUDINE_TEST_NODE"));
    node.arg(tool("CLAUDINE_TEST_INSPECTOR")).arg("--cli");
    // The Inspector gives the server only the variables that are named by `-e`.
    for (name, value) in [
        ("CLAUDINE_DATA_DIR", host.data_dir().to_owned()),
        ("HOME", host.home()),
    ] {
        node.arg("-e").arg(format!("{name}={}", value.display()));
    }
    node.arg(binary()).arg("mcp").args(arguments);
    command::run(node, b"", 2 * PATIENCE)
}

//! MCP clients of other projects: the official Python client, kept open and driven call by call,
//! and the command line of the Inspector.
//!
//! `cargo xtask test` installs both clients, and sets environment variables to their paths.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Stdio},
};

use serde_json::{Value, json};

use crate::{
    TestHost,
    command::{self, Ran},
    harness::{binary, tool},
    wait::PATIENCE,
};

/// The official Python client, connected to `claudine mcp`.
pub struct PythonClient {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    /// The server's answers about itself and its tools.
    pub hello: Value,
}

impl PythonClient {
    #[track_caller]
    pub fn connect(host: &TestHost) -> Self {
        let mut python = host.other(tool("CLAUDINE_TEST_PYTHON"));
        python.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/mcp_client.py"));
        python
            .arg(binary())
            .arg("mcp")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = python
            .spawn()
            .expect("the Python of the test's own environment runs");
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let mut client = Self {
            child,
            input,
            output,
            hello: Value::Null,
        };
        client.hello = client.read();
        client
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
        let calls: Vec<Value> = calls
            .iter()
            .map(|(tool, arguments)| json!({ "tool": tool, "arguments": arguments }))
            .collect();
        self.write(&Value::Array(calls));
        let answers = self.read();
        answers
            .as_array()
            .expect("a list")
            .iter()
            .map(|answer| answer["text"].clone())
            .collect()
    }

    #[track_caller]
    fn answer(&mut self, tool: &str, arguments: Value) -> Value {
        self.write(&json!({ "tool": tool, "arguments": arguments }));
        self.read()
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

impl Drop for PythonClient {
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

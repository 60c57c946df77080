//! `claudine mcp`

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    process::{Child, Command, ExitCode, Stdio},
};

use clap::{Args, Subcommand};
use claudine_domain::principal::Via;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    Common, environment,
    failure::Failure,
    output,
    session::{self, Session},
    terminal::{Look, Painted},
};
use crate::{
    api::{
        Wiring,
        client::Policy,
        mcp::{self, NAMES, Origins},
    },
    app::{AppError, ErrorKind},
};

/// Serve an MCP client on standard input and output.
///
/// `claudine mcp config` prints the configuration of the client. Tasks have the environment of this
/// command. The command starts a host to submit or repeat a task. After a crash of the host, though
/// not after `claudine down`, it also starts one if the client waits for a task, cancels it or
/// merges its work. The command exits at the end of its input.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  claude mcp add claudine -- claudine mcp
  claudine mcp config
  claudine mcp test")]
pub(super) struct Mcp {
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Clone, Copy, Debug, Subcommand)]
enum Verb {
    /// Serve the client (default).
    Start,
    /// Print the configuration for MCP clients.
    ///
    /// For Claude Code (`.mcp.json`), Claude Desktop (`claude_desktop_config.json`), Cursor
    /// (`.cursor/mcp.json`) and others that have `mcpServers`.
    Config,
    /// Start `claudine mcp` like a client and list its tools.
    Test,
}

impl Mcp {
    pub(super) fn run(self, common: &Common, wiring: Wiring) -> Result<ExitCode, Failure> {
        match self.verb.unwrap_or(Verb::Start) {
            Verb::Start => serve(&Session::new(common, wiring)?),
            Verb::Config => {
                output::json(&configuration(common)?)?;
                Ok(ExitCode::SUCCESS)
            }
            Verb::Test => test(common),
        }
    }
}

fn serve(session: &Session) -> Result<ExitCode, Failure> {
    let directory = std::env::current_dir().map_err(|error| {
        Failure::Usage(format!("the current directory cannot be used: {error}"))
    })?;
    let origins = Origins {
        directory,
        environment: environment::of_this_process(false),
        attempt: session::enclosing_attempt(),
    };
    session.block_on(async {
        let client = session.client_with(|start| {
            start.via = Via::Mcp;
            start.policy = Policy::ForWork;
        });
        Box::pin(mcp::serve(client, origins)).await?;
        Ok(ExitCode::SUCCESS)
    })
}

/// Entry for the configuration of MCP clients.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Clients {
    mcp_servers: BTreeMap<String, Value>,
}

/// Answers of `claudine mcp` to the test.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Tested {
    /// Name and version of the server.
    server: Value,
    /// Tools as defined by MCP.
    tools: Vec<Value>,
}

/// The entry for this executable. Its path is absolute, because a desktop client has another PATH.
fn configuration(common: &Common) -> Result<Clients, Failure> {
    let program = std::env::current_exe().map_err(|error| {
        AppError::new(
            ErrorKind::Internal,
            format!("cannot find this program: {error}"),
        )
    })?;
    let mut server = json!({"command": program, "args": ["mcp"]});
    if let Some(dir) = &common.data_dir {
        let dir = std::path::absolute(dir)
            .map_err(|error| Failure::Usage(format!("--data-dir: {error}")))?;
        server["env"] = json!({"CLAUDINE_DATA_DIR": dir});
    }
    Ok(Clients {
        mcp_servers: BTreeMap::from([("claudine".to_owned(), server)]),
    })
}

/// Tests the server by sending MCP requests to it. The three messages are composed here, because
/// they need no client library.
fn test(common: &Common) -> Result<ExitCode, Failure> {
    let failed = |what: &str| AppError::new(ErrorKind::Internal, format!("`claudine mcp` {what}"));
    let program =
        std::env::current_exe().map_err(|error| failed(&format!("cannot be found: {error}")))?;
    let mut command = Command::new(program);
    if let Some(dir) = &common.data_dir {
        command.arg("--data-dir").arg(dir);
    }
    let mut child = command
        .arg("mcp")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| failed(&format!("cannot be started: {error}")))?;
    let asked = converse(&mut child);
    // The server exits, because its input is closed.
    let ended = child
        .wait()
        .map_err(|error| failed(&format!("cannot be waited for: {error}")))?;
    let (server, tools) = asked.map_err(|error| failed(&error))?;
    if !ended.success() {
        return Err(failed(&format!("ended with {ended}")).into());
    }
    if common.json() {
        output::json(&Tested {
            server: server.clone(),
            tools: tools.clone(),
        })?;
    } else {
        output::painted(&shown(&server, &tools, Look::of_stdout()))?;
    }
    let found = tools.iter().filter_map(|tool| tool["name"].as_str());
    if found.eq(NAMES) {
        Ok(ExitCode::SUCCESS)
    } else {
        Err(failed("does not list the expected tools").into())
    }
}

/// The server, and below it each tool with its description.
fn shown(server: &Value, tools: &[Value], look: Look) -> Painted {
    const INDENT: usize = 14;
    let word = |value: &Value, name: &str| value[name].as_str().unwrap_or_default().to_owned();
    let mut shown = Painted::default();
    let server = format!("{} {}", word(server, "name"), word(server, "version"));
    look.prose(&mut shown, &server, INDENT);
    for tool in tools {
        let line = format!("{:<13} {}", word(tool, "name"), word(tool, "description"));
        look.prose(&mut shown, &line, INDENT);
    }
    shown
}

fn converse(child: &mut Child) -> Result<(Value, Vec<Value>), String> {
    let mut input = child.stdin.take().ok_or("has no input")?;
    let mut lines = BufReader::new(child.stdout.take().ok_or("has no output")?).lines();
    let mut ask = |message: Value| -> Result<(), String> {
        writeln!(input, "{message}").map_err(|error| format!("does not read its input: {error}"))
    };
    let mut answer = |id: u64| -> Result<Value, String> {
        for line in lines.by_ref() {
            let line = line.map_err(|error| format!("sent output that cannot be read: {error}"))?;
            let message: Value = serde_json::from_str(&line)
                .map_err(|_| format!("sent a line that is not JSON: {line}"))?;
            if message["id"] == id {
                return message
                    .get("result")
                    .cloned()
                    .ok_or_else(|| format!("answered with an error: {}", message["error"]));
            }
        }
        Err("ended without an answer".to_owned())
    };
    let client = json!({"name": "claudine mcp test", "version": env!("CARGO_PKG_VERSION")});
    let hello = json!({"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": client});
    ask(json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello}))?;
    let hello = answer(1)?;
    ask(json!({"jsonrpc": "2.0", "method": "notifications/initialized"}))?;
    ask(json!({"jsonrpc": "2.0", "id": 2, "method": "tools/list"}))?;
    let tools = answer(2)?;
    let tools = tools["tools"]
        .as_array()
        .cloned()
        .ok_or("listed no tools")?;
    Ok((hello["serverInfo"].clone(), tools))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::cli::terminal::in_each_look;

    #[test]
    fn tools_fit_the_width_of_the_terminal() {
        let server = json!({"name": "claudine", "version": "0.3.0"});
        let long = "Continues a finished task from where it ended, with new instructions. \
                    The task keeps its id; an agent continues its session.";
        let tools = [
            json!({"name": "ResumeTask", "description": long}),
            json!({"name": "ListTasks", "description": "Lists tasks, newest first.\u{1b}[2J"}),
        ];
        insta::assert_snapshot!("tools", in_each_look(|look| shown(&server, &tools, look)));
    }
}

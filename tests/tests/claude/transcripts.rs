//! Transcripts of agents, for people and for later tasks.

use std::{
    fs,
    io::Read,
    process::{Child, ChildStdout, Stdio},
};

use claudine_tests::{
    command,
    mcp::Client,
    messages_api::{Answer, Rule, Script},
    wait::PATIENCE,
    wait_for,
};
use serde_json::{Value, json};

use crate::world::{World, succeeded};

/// An agent that may create directories, but not run git.
fn tries() -> Script {
    Script::default()
        .then(Rule::new(Answer::bash("mkdir made")).at_turn(0))
        .then(Rule::new(Answer::bash("git init denied")).at_turn(1))
        .then(Rule::new(Answer::text("as far as I could")))
}

/// The lines of a terminal's output, without colours and without times of today.
fn seen(written: &str) -> Vec<String> {
    let written = written.replace('\r', "");
    let mut plain = String::new();
    let mut rest = &*written;
    while let Some((text, sequence)) = rest.split_once("\x1b[") {
        plain.push_str(text);
        rest = sequence.split_once(['m', 'K']).expect("a whole sequence").1;
    }
    plain.push_str(rest);
    let is_time = |text: &str| {
        let mut parts = text.split(':');
        let two = |part: &str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit());
        text.len() == 8 && parts.clone().count() == 3 && parts.all(two)
    };
    let line = |line: &str| match line.split_at_checked(9) {
        Some((time, rest)) if is_time(time.trim_end()) => rest.to_owned(),
        _ => line.to_owned(),
    };
    plain.lines().map(line).collect()
}

fn on_terminal(world: &World, arguments: &[&str]) -> Vec<String> {
    let shown = command::run(world.host.on_terminal(arguments), b"", PATIENCE).ok();
    seen(&shown.text())
}

/// A command on a terminal, and the part of its output that was read so far.
struct Terminal {
    child: Child,
    output: ChildStdout,
    shown: Vec<u8>,
}

impl Terminal {
    fn new(world: &World, arguments: &[&str]) -> Self {
        let mut command = world.host.on_terminal(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("script of util-linux");
        let output = child.stdout.take().expect("a pipe");
        Self {
            child,
            output,
            shown: Vec::new(),
        }
    }

    #[track_caller]
    fn shows(&mut self, text: &str) {
        while !String::from_utf8_lossy(&self.shown).contains(text) {
            let mut more = [0; 1024];
            let count = self.output.read(&mut more).expect("a pipe");
            assert!(count > 0, "{}", String::from_utf8_lossy(&self.shown));
            self.shown.extend_from_slice(&more[..count]);
        }
    }

    /// The command's complete output, after its end.
    fn end(mut self) -> String {
        self.output.read_to_end(&mut self.shown).expect("a pipe");
        assert!(self.child.wait().expect("a child").success());
        String::from_utf8_lossy(&self.shown).into_owned()
    }
}

#[test]
fn logs_are_a_transcript_on_a_terminal_and_over_mcp_and_raw_bytes_in_a_pipe() {
    let world = World::new(tries());
    let task = world.done(&["try"]);
    let id = task["id"].as_str().unwrap();
    let shown = on_terminal(&world, &["logs", id]);
    let has = |line: &str| shown.iter().any(|shown| shown.starts_with(line));
    for line in [
        "● Bash  mkdir made",
        "● Bash  git init denied",
        "  ✗ denied: ",
        "as far as I could",
        "cost $0.0024",
    ] {
        assert!(has(line), "`{line}` in {shown:#?}");
    }
    assert!(!has("{"), "{shown:#?}");
    assert_eq!(
        on_terminal(&world, &["logs", "-n", "1", id]),
        ["cost $0.0024"]
    );
    let raw = world.host.run(["logs", id]).ok();
    assert!(raw.stdout.starts_with(br#"{"type":"system""#));
    let terminal = command::run(
        world.host.on_terminal(&["logs", "--raw", id]),
        b"",
        PATIENCE,
    );
    let terminal = terminal.ok().text();
    assert!(terminal.contains(r#""type":"system""#), "{terminal}");
    // `status` shows the complete result, and does not repeat it in the transcript.
    let status = world.host.text(["status", id]);
    let (_, end) = status.split_once("\nTranscript:\n").unwrap();
    let (transcript, result) = end.split_once("\nResult:\n").unwrap();
    assert_eq!(result, "as far as I could");
    assert!(transcript.contains("● Bash  git init denied\n"), "{status}");
    assert!(!transcript.contains("as far"), "{status}");

    let mut client = Client::connect(&world.host);
    let logs = client.call("TaskLogs", json!({ "taskId": id }));
    let output = logs["output"].as_str().unwrap();
    assert!(output.starts_with("● Bash  mkdir made\n"), "{output}");
    assert!(
        output.ends_with("as far as I could\ncost $0.0024\n"),
        "{output}"
    );
    assert_eq!(logs["errors"], "");
    let last = client.call("TaskLogs", json!({ "taskId": id, "tail": 2 }));
    assert_eq!(last["output"], "as far as I could\ncost $0.0024\n");
    assert_eq!(last["lineCount"]["output"], 2);
}

#[test]
fn transcript_and_activity_are_shown_across_a_restart_of_the_host() {
    let script = Script::command_then("until test -e go; do sleep 0.1; done", "all is well");
    let world = World::new(script);
    let id = world.delegate(&["wait for it", "--allowed-tools", "Bash"]);
    let mut terminal = Terminal::new(&world, &["logs", "-f", &id]);
    terminal.shows("until test -e go");
    let doing = wait_for("the tool to be reported", || {
        let task = world.host.status(&id);
        Some(task["doing"].as_str()?.to_owned())
    });
    assert!(doing.starts_with("Bash: until test -e go"), "{doing}");
    world.host.kill_host();
    // The next host shows the same activity.
    assert_eq!(world.host.status(&id)["doing"], doing);
    fs::write(world.host.work().join("go"), "").unwrap();
    let shown = terminal.end();
    assert_eq!(shown.matches("until test").count(), 1, "{shown}");
    assert_eq!(shown.matches("all is well").count(), 1, "{shown}");
    let last = seen(&shown).last().cloned();
    assert!(
        last.is_some_and(|last| last.starts_with("cost ")),
        "{shown}"
    );
    let task = world.host.finished(&id);
    succeeded(&task, "all is well");
    assert_eq!(task["doing"], Value::Null);
}

#[test]
fn output_of_another_agent_is_passed_on_as_a_transcript() {
    let script = Script::default()
        .then(Rule::new(Answer::text("I saw it")).containing("look at it"))
        .then(Rule::new(Answer::bash("git init denied")));
    let world = World::new(script);
    let failed = world.done(&["try", "--max-turns", "1", "--name", "tried"]);
    let id = failed["id"].as_str().unwrap();
    assert_eq!(failed["outcome"], "failed", "{failed:#}");
    let output = failed["output"].as_str().unwrap();
    assert!(output.starts_with("● Bash  git init denied\n"), "{output}");
    let checkpoint = world.host.json(["checkpoint", id]);
    let lines = checkpoint["last_lines"].as_str().unwrap();
    assert!(lines.starts_with("● Bash  git init denied\n"), "{lines}");
    assert!(
        lines.contains("✗ Reached maximum number of turns"),
        "{lines}"
    );
    world.done(&["look at it", "--with-output-of", id, "--depends-on", id]);
    let requests = world.api.message_requests();
    let told = requests.last().unwrap().messages();
    assert!(
        told.contains(r"<last_lines>\n● Bash  git init denied\n"),
        "{told}"
    );
    assert!(!told.contains("session_id"), "{told}");
    let mut reading = world
        .host
        .command(["run", "--wait", "--with-output-of", id]);
    reading.args(["--depends-on", id, "--script"]);
    reading.arg(r#"cat "$CLAUDINE_INPUT_TRIED/output""#);
    let read = command::run(reading, b"", PATIENCE).ok().text();
    assert!(read.starts_with("● Bash  git init denied\n"), "{read}");
}

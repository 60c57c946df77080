//! Text that would control a terminal, in arguments, names of files and branches, and output of
//! tasks: only `logs`, and `run --wait` of a command, print output unchanged.

use std::fs;

use claudine_tests::{TestHost, command::Ran, git::git_in};
use serde_json::json;

use crate::words::commands_of;

/// Text that contains DEL and characters that clear a screen, set its title, change the reading
/// direction, end a line, and begin a colour with the C1 form of an escape sequence.
const HOSTILE: &str = "a\x1b[2J\x1b]0;t\x07b\u{202E}c\u{61C}d\u{2028}e\u{2066}f\u{9B}31m\u{7F}";

/// Commands that are not run on hostile text, each with the reason.
const EXEMPT: &[(&str, &str)] = &[
    ("completions", "prints a fixed text"),
    ("man", "prints fixed texts"),
    ("mcp config", "prints the configuration of a client as JSON"),
    ("mcp start", "prints JSON for a client"),
    (
        "mcp test",
        "prints what `claudine` itself says of its tools",
    ),
    (
        "plugin build",
        "takes minutes; its refusals are checked below",
    ),
    ("schema", "prints fixed texts"),
    ("serve", "prints its log, which is checked as a file"),
];

/// The commands that were run on hostile text.
struct Fed<'h> {
    host: &'h TestHost,
    lines: Vec<String>,
}

impl Fed<'_> {
    /// Runs a command without and with `--json`.
    #[track_caller]
    fn feed(&mut self, command: &[&str]) {
        self.feed_once(command);
        self.feed_once(&[command, &["--json"]].concat());
    }

    #[track_caller]
    fn feed_once(&mut self, command: &[&str]) {
        is_harmless(&self.host.run(command));
        self.lines.push(command.join(" "));
    }

    fn has(&self, command: &str) -> bool {
        let mut lines = self.lines.iter();
        lines.any(|line| {
            let rest = line.strip_prefix(command);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
        })
    }
}

/// Checks that neither output stream contains a character that controls a terminal.
#[track_caller]
fn is_harmless(ran: &Ran) {
    for stream in [&ran.stdout, &ran.stderr] {
        let text = std::str::from_utf8(stream).expect("UTF-8");
        let harmful = text
            .chars()
            .find(|c| !matches!(c, '\n' | '\t') && is_hostile(*c));
        assert_eq!(harmful, None, "{text:?}\n{}", ran.line.escape_debug());
    }
}

fn is_hostile(c: char) -> bool {
    c.is_control() || HOSTILE.contains(c) && !c.is_ascii()
}

/// A repository whose directory, branch and file have hostile names.
fn repository(host: &TestHost) -> String {
    let dir = host.work().join(HOSTILE);
    fs::create_dir(&dir).unwrap();
    let branch = "turned\u{202E}\u{61C}\u{2066}";
    for arguments in [
        &["init", "-q", "-b", branch][..],
        &["commit", "-q", "--allow-empty", "-m", HOSTILE],
    ] {
        git_in(host, &dir, arguments);
    }
    fs::write(dir.join(HOSTILE), "").unwrap();
    dir.into_os_string().into_string().unwrap()
}

/// A script that prints hostile text and fails.
fn script() -> String {
    format!("# {HOSTILE}\nprintf '%s' '{HOSTILE}'; exit 3")
}

/// Two tasks with hostile text in their working directories and commands: one task fails, the other
/// cannot be started.
fn tasks(host: &TestHost, dir: &str) -> [String; 2] {
    let failed = host.text(["run", "-w", dir, "--script", &script()]);
    let absent = host.text(["run", "-w", dir, "--worktree", "--", HOSTILE]);
    for id in [&failed, &absent] {
        is_harmless(&host.run(["wait", id]));
    }
    [failed, absent]
}

#[test]
fn only_logs_prints_text_that_controls_a_terminal() {
    let host = TestHost::builder().env("VISUAL", "true").build();
    let dir = repository(&host);
    let ids = tasks(&host, &dir);
    let mut fed = Fed {
        host: &host,
        lines: Vec::new(),
    };
    for id in &ids {
        let id = id.as_str();
        for command in [
            &["status", id][..],
            &["why", id],
            &["wait", id],
            &["checkpoint", id],
            &["graph", id],
            &["graph", "--format", "dot", id],
            &["graph", "--format", "mermaid", id],
            &["graph", "--format", "svg", id],
            &["events", id],
            &["diff", id],
            &["enter", id],
            &["worktree", "merge", id],
            &["worktree", "resolve", id],
            &["cancel", id, "-m", HOSTILE],
        ] {
            fed.feed(command);
        }
        fed.feed_once(&["logs", "--json", id]);
        for again in [
            &["retry", id][..],
            &["retry", "--json", id],
            &["resume", "--context", HOSTILE, id],
            &["resume", "--context", HOSTILE, "--json", id],
        ] {
            fed.feed_once(again);
            fed.feed_once(&["wait", id]);
        }
    }
    fed.feed(&["pause"]);
    let paused = host.text(["run", "-w", &dir, "--", HOSTILE]);
    for command in [
        &["hold", &paused][..],
        &["release", "--json", &paused],
        &["hold", "--json", &paused],
        &["release", &paused],
        &["cancel", &paused, "-m", HOSTILE],
    ] {
        fed.feed_once(command);
    }
    fed.feed(&["unpause"]);
    // Without `--json`, `run --wait` prints the output of its command, as `logs` does.
    fed.feed_once(&["run", "--wait", "-w", &dir, "--", HOSTILE]);
    fed.feed_once(&["run", "--wait", "--json", "-w", &dir, "--script", &script()]);
    let graph = json!([{"script": script(), "working_directory": dir}]);
    fs::write(host.work().join("tasks"), graph.to_string()).unwrap();
    let other = host.root().join("other");
    for command in [
        &["delegate", "--executor", "shell", "-w", &dir, HOSTILE][..],
        &["submit", "tasks"],
        &["submit", "--dry-run", "tasks"],
        &["list"],
        &["top", "--once"],
        &["events"],
        &["cost"],
        &["capacity"],
        &["slots"],
        &["doctor"],
        &["group", "add", "g"],
        &["group", "set", "g", "--limit", "1"],
        &["group", "pause", "g"],
        &["group", "list"],
        &["group", "unpause", "g"],
        &["group", "rm", "g"],
        &["worktree", "list"],
        &["worktree", "clean", "--all"],
        &["plugin", "list"],
        &["plugin", "inspect", "shell"],
        &["config", "show"],
        &["config", "path"],
        &["config", "set", "slots", "2"],
        &["config", "edit"],
        &["backup", "--force", "backup"],
        &["restore", "backup", "--data-dir", other.to_str().unwrap()],
        &["up"],
        &["down"],
    ] {
        fed.feed(command);
    }
    let log = fs::read_to_string(host.data_dir().join("host.log")).unwrap();
    assert!(!log.contains(|c| c != '\n' && is_hostile(c)), "{log:?}");
    let mut missed = commands_of(&host);
    missed.retain(|name| !fed.has(name) && !EXEMPT.iter().any(|(exempt, _)| exempt == name));
    assert!(
        missed.is_empty(),
        "these commands are run on no hostile text: {missed:?}"
    );
}

#[test]
fn no_refusal_prints_text_that_controls_a_terminal() {
    let host = TestHost::new();
    fs::write(
        host.work().join("tasks.yaml"),
        format!("- {{\"{}\": 1}}\n", "\\e\u{202E}"),
    )
    .unwrap();
    for verb in [
        "status",
        "why",
        "wait",
        "checkpoint",
        "graph",
        "events",
        "cancel",
        "retry",
        "resume",
        "hold",
        "release",
        "logs",
        "submit",
        "slots",
        "frobnicate",
        HOSTILE,
    ] {
        is_harmless(&host.run([verb, HOSTILE, HOSTILE]));
        is_harmless(&host.run([verb, HOSTILE]));
    }
    let option = format!("--{HOSTILE}");
    for command in [
        &["run", "--name", HOSTILE, "--", "true"][..],
        &["run", "--group", HOSTILE, "--", "true"],
        &["run", "--label", HOSTILE, "--", "true"],
        &["run", "-w", HOSTILE, "--", "true"],
        &["run", "--timeout", HOSTILE, "--", "true"],
        &["run", &option, "--", "true"],
        &["run", "--worktree", "--branch", HOSTILE, "--", "true"],
        &["run", "--depends-on", HOSTILE, "--", "true"],
        &["delegate", "--executor", HOSTILE, HOSTILE],
        &["submit", "tasks.yaml"],
        &["plugin", "inspect", HOSTILE],
        &["plugin", "build", HOSTILE],
        &["group", "set", HOSTILE, "--limit", "1"],
        &["group", "rm", HOSTILE],
        &["pause", HOSTILE],
        &["unpause", HOSTILE],
        &["worktree", "merge", HOSTILE],
        &["serve", "--keep", HOSTILE],
        &["serve", "--slots", HOSTILE],
        &["list", "--state", HOSTILE],
    ] {
        let ran = host.run(command);
        assert!(!ran.status.success(), "{ran}");
        is_harmless(&ran);
    }
}

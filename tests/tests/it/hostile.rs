//! Text that would control a terminal, in arguments, names of files and branches, and output of
//! tasks: only `logs` prints it unchanged.

use std::{fs, path::Path};

use claudine_tests::{TestHost, command::Ran};

/// Text that contains DEL and characters that clear a screen, set its title, change the reading
/// direction, end a line, and begin a colour with the C1 form of an escape sequence.
const HOSTILE: &str = "a\x1b[2J\x1b]0;t\x07b\u{202E}c\u{61C}d\u{2028}e\u{2066}f\u{9B}31m\u{7F}";

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
fn repository(host: &TestHost) -> std::path::PathBuf {
    let dir = host.work().join(HOSTILE);
    fs::create_dir(&dir).unwrap();
    let branch = "turned\u{202E}\u{61C}\u{2066}";
    for arguments in [
        &["init", "-q", "-b", branch][..],
        &["commit", "-q", "--allow-empty", "-m", HOSTILE],
    ] {
        let mut git = host.other("git");
        git.args(["-c", "user.name=T", "-c", "user.email=t@example.org"]);
        let done = git.args(arguments).current_dir(&dir).output().unwrap();
        assert!(done.status.success(), "{done:?}");
    }
    fs::write(dir.join(HOSTILE), "").unwrap();
    dir
}

/// Two tasks with hostile text in their working directories and commands: one task fails, the other
/// cannot be started.
fn tasks(host: &TestHost, dir: &Path) -> [String; 2] {
    let dir = dir.to_str().unwrap();
    let script = format!("# {HOSTILE}\nprintf '%s' '{HOSTILE}'; exit 3");
    let failed = host.text(["run", "-w", dir, "--script", &script]);
    let absent = host.text(["run", "-w", dir, "--worktree", "--", HOSTILE]);
    for id in [&failed, &absent] {
        is_harmless(&host.run(["wait", id]));
    }
    [failed, absent]
}

#[test]
fn only_logs_prints_text_that_controls_a_terminal() {
    let host = TestHost::new();
    let dir = repository(&host);
    let ids = tasks(&host, &dir);
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
            &["worktree", "merge", id],
            &["cancel", id, "-m", HOSTILE],
            &["logs", "--json", id],
        ] {
            is_harmless(&host.run(command));
            is_harmless(&host.run(command.iter().chain(&["--json"])));
        }
    }
    for command in [
        &["list"][..],
        &["events"],
        &["capacity"],
        &["doctor"],
        &["group", "list"],
        &["worktree", "list"],
        &["worktree", "clean", "--all"],
        &["plugin", "list"],
        &["config", "show"],
    ] {
        is_harmless(&host.run(command));
        is_harmless(&host.run(command.iter().chain(&["--json"])));
    }
    let log = fs::read_to_string(host.data_dir().join("host.log")).unwrap();
    assert!(!log.contains(|c| c != '\n' && is_hostile(c)), "{log:?}");
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

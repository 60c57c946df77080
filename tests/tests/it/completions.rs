//! Shell completion: the binary's answers, and the shells themselves.

use std::{env, fs, os::unix::fs::symlink, time::Instant};

use claudine_tests::{
    TestHost, command,
    harness::{binary, tool},
    wait::PATIENCE,
};

/// The binary's answers to a shell, one per line.
fn offered(host: &TestHost, words: &[&str]) -> Vec<String> {
    let mut asking = host.command(["--"].iter().chain(words));
    asking.env("CLAUDINE_COMPLETE", "fish");
    let ran = command::run(asking, b"", PATIENCE).ok();
    assert_eq!(ran.complaint(), "");
    ran.text().lines().map(str::to_owned).collect()
}

/// A `PATH` that begins with a directory in which the binary is named `claudine`.
fn path(host: &TestHost) -> String {
    let dir = host.root().join("bin");
    fs::create_dir_all(&dir).unwrap();
    let link = dir.join("claudine");
    if !link.exists() {
        symlink(binary(), link).unwrap();
    }
    let others = env::var("PATH").unwrap_or_else(|_| "/usr/bin:/bin".to_owned());
    format!("{}:{others}", dir.display())
}

/// Standard output of a shell's script.
#[track_caller]
fn in_shell(host: &TestHost, shell: &str, script: &str) -> String {
    let path = path(host);
    let installed = match shell {
        "nu" => Some(tool("CLAUDINE_TEST_NU")),
        _ => env::split_paths(&path)
            .map(|dir| dir.join(shell))
            .find(|program| program.is_file()),
    };
    let program = installed
        .unwrap_or_else(|| panic!("{shell} is not installed: `cargo xtask setup` installs it"));
    let mut command = host.other(program);
    match shell {
        "zsh" => command.arg("-f"),
        "fish" => command.arg("--no-config"),
        "nu" => command.arg("--no-config-file"),
        _ => command.arg("--norc"),
    };
    command.args(["-c", script]).env("PATH", path);
    command::run(command, b"", PATIENCE).ok().text()
}

#[test]
fn names_of_tasks_groups_and_labels_are_completed() {
    let host = TestHost::new();
    let bad = host.text([
        "run",
        "--name",
        "fix-tests",
        "--label",
        "pr=17",
        "--",
        "false",
    ]);
    host.finished(&bad);
    let held = host.text([
        "run",
        "--hold",
        "--group",
        "gpu",
        "--",
        "echo",
        "a\u{1b}[2Jb",
    ]);
    let end = &held[held.len() - 6..];
    let words = |found: &[String]| -> Vec<String> {
        let word = |line: &String| line.split('\t').next().unwrap().to_owned();
        let options = |word: &String| !word.starts_with('-');
        found.iter().map(word).filter(options).collect()
    };
    let logs = offered(&host, &["claudine", "logs", ""]);
    assert_eq!(words(&logs), [end, "fix-tests"], "{logs:?}");
    assert!(logs[1].contains("failed · false"), "{logs:?}");
    assert!(!logs.concat().contains('\u{1b}'), "{logs:?}");
    assert_eq!(
        words(&offered(&host, &["claudine", "retry", ""])),
        ["fix-tests"]
    );
    assert_eq!(words(&offered(&host, &["claudine", "release", ""])), [end]);
    assert_eq!(
        offered(&host, &["claudine", "list", "--group", "g"]),
        ["gpu"]
    );
    assert_eq!(
        offered(&host, &["claudine", "list", "--label", ""]),
        ["pr=17"]
    );
    assert_eq!(
        offered(&host, &["claudine", "list", "--executor", ""]),
        ["claude", "shell"]
    );
    let asked = Instant::now();
    offered(&host, &["claudine", "status", "fix"]);
    assert!(asked.elapsed() < PATIENCE / 4, "{:?}", asked.elapsed());
    // Stored names are offered even without a host.
    host.run(["down"]).check();
    // Asks for `fi`, because the end of an id may begin with `f`, but no id contains an `i`.
    let stored = offered(&host, &["claudine", "logs", "fi"]);
    assert_eq!(words(&stored), ["fix-tests"]);
    assert_eq!(host.host_pid(), None);
}

#[test]
fn completion_starts_no_host() {
    let host = TestHost::builder().from_nothing().build();
    assert_eq!(offered(&host, &["claudine", "logs", "f"]), [""; 0]);
    let merge = offered(&host, &["claudine", "run", "--merge", "p"]);
    assert_eq!(merge, ["patch", "pr"]);
    assert_eq!(host.host_pid(), None);
    assert!(!host.data_dir().exists());
}

#[test]
fn bash_completes_values_and_the_commands_of_run() {
    let host = TestHost::new();
    host.finished(&host.text(["run", "--name", "fix-tests", "--", "true"]));
    let script = |words: &str, at: usize| {
        format!(
            "source <(claudine completions bash); \
             _command_offset() {{ COMPREPLY=(\"offset $1\"); }}; \
             COMP_WORDS=({words}); COMP_CWORD={at}; COMP_TYPE=9; \
             _claudine claudine \"${{COMP_WORDS[COMP_CWORD]}}\"; printf '%s\\n' \"${{COMPREPLY[@]}}\""
        )
    };
    let check = |words: &str, at: usize, expected: &str| {
        let found = in_shell(&host, "bash", &script(words, at));
        assert_eq!(found.trim(), expected, "{words}");
    };
    check("claudine logs fi", 2, "fix-tests");
    check("claudine list --state time", 3, "timed_out");
    check("claudine run -- git sta", 4, "offset 3");
}

#[test]
fn zsh_completes_values_and_the_commands_of_run() {
    let host = TestHost::new();
    host.finished(&host.text(["run", "--name", "fix-tests", "--", "true"]));
    // Replaces functions of the completion system that work only while a person edits a line.
    let script = "autoload -Uz compinit && compinit -u -D; source <(claudine completions zsh); \
         function _describe { shift 2; print -l -- \"${(P@)1}\"; }; \
         function _normal { print -- normal $words; }; \
         words=(claudine logs fi); CURRENT=3; _claudine; \
         words=(claudine run -- git sta); CURRENT=5; _claudine";
    let found = in_shell(&host, "zsh", script);
    let lines: Vec<&str> = found.lines().collect();
    assert!(lines[0].starts_with("fix-tests:succeeded"), "{found}");
    assert_eq!(lines[1..], ["normal git sta"], "{found}");
}

#[test]
fn fish_completes_values_and_the_commands_of_run() {
    let host = TestHost::new();
    host.finished(&host.text(["run", "--name", "fix-tests", "--", "true"]));
    let script = "claudine completions fish | source; complete -c git -f -a 'status stash'; \
         complete -C 'claudine logs fi'; complete -C 'claudine run -- git sta'";
    let found = in_shell(&host, "fish", script);
    assert!(found.contains("fix-tests\tsucceeded"), "{found}");
    assert!(
        found.contains("status") && found.contains("stash"),
        "{found}"
    );
}

#[test]
fn nushell_completes_values_and_loading_its_script_changes_no_command() {
    let host = TestHost::new();
    host.finished(&host.text(["run", "--name", "fix-tests", "--", "true"]));
    let file = host.root().join("claudine.nu");
    fs::write(&file, host.text(["completions", "nushell"])).unwrap();
    // The completer that is set before `source` stands for one that the user had configured.
    let script = |line: &str| {
        format!(
            "$env.config.completions.external.completer = {{|words| [($words | str join ' ')] }}; \
             source {}; \
             def offered [words: list<string>] {{ \
                 do $env.config.completions.external.completer $words | to json --raw }}; \
             {line}",
            file.display()
        )
    };
    let check = |line: &str, expected: &str| {
        let found = in_shell(&host, "nu", &script(line));
        assert_eq!(found, expected, "{line}");
    };
    check(
        "offered [claudine logs fi]",
        r#"[{"value":"fix-tests","description":"succeeded · true"}]"#,
    );
    check(
        "offered [claudine list --state time]",
        r#"[{"value":"timed_out"}]"#,
    );
    let data_dir = format!(
        r#"offered [claudine logs --data-dir '"{}"' "'fi"] | from json | get value.0"#,
        host.data_dir().display()
    );
    check(&data_dir, "fix-tests");
    check("offered [claudine logs none]", "[]");
    check("offered [claudine run -- git sta]", r#"["git sta"]"#);
    check("offered [git sta]", r#"["git sta"]"#);
    let name = "claudine list --json | from json | get tasks.0.name";
    check(name, "fix-tests");
    let selected = "claudine list --json=name | from json | get tasks.0 | to json --raw";
    check(selected, r#"{"name":"fix-tests"}"#);
    check("claudine run --wait -- echo true 1e3", "true 1e3");
}

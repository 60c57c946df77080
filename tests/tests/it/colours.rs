//! Colours, signs and widths: on a terminal, in a pipe, and as the environment requests.

use claudine_tests::{TestHost, terminal::Terminal};

#[test]
fn colours_are_used_on_terminals_unless_an_option_or_variable_decides() {
    let host = TestHost::new();
    let id = host.text(["run", "--", "true"]);
    host.finished(&id);
    let check = |variables: &[(&str, &str)], arguments: &[&str], expected: bool| {
        let mut command = host.command(["list"].iter().chain(arguments));
        command.envs(variables.iter().copied());
        let ran = claudine_tests::command::run(command, b"", claudine_tests::wait::PATIENCE).ok();
        let colours = ran.text().contains("\x1b[32m");
        assert_eq!(colours, expected, "{variables:?} {arguments:?}\n{ran}");
    };
    check(&[], &[], false);
    check(&[], &["--color", "always"], true);
    check(&[("CLICOLOR_FORCE", "1")], &[], true);
    check(&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")], &[], false);
    check(&[("CLICOLOR_FORCE", "1")], &["--color", "never"], false);
    for (variables, expected) in [(&[][..], true), (&[("NO_COLOR", "1")], false)] {
        let mut list = Terminal::start_with(&host, &["list"], (80, 24), variables);
        assert!(list.ended().success());
        list.shows(&["✓ succeeded"]);
        let bytes = String::from_utf8_lossy(&list.bytes()).into_owned();
        assert_eq!(bytes.contains("\x1b[32m"), expected, "{bytes:?}");
    }
}

#[test]
fn output_is_ascii_if_the_locale_has_no_unicode() {
    let host = TestHost::builder().env("LANG", "C").build();
    let id = host.text(["run", "--name", "n", "--", "true"]);
    host.finished(&id);
    let list = host.text(["list"]);
    assert!(list.contains("+ succeeded") && list.is_ascii(), "{list}");
    let graph = host.text(["graph", "n"]);
    assert!(graph.contains("+ n") && graph.is_ascii(), "{graph}");
}

#[test]
fn tables_are_no_wider_than_the_variable_columns() {
    let host = TestHost::builder().env("COLUMNS", "60").build();
    let name = format!("a-long-name-{}", "x".repeat(40));
    let id = host.text(["run", "--name", &name, "--script", "echo a; echo b; exit 3"]);
    host.finished(&id);
    for command in [
        &["list"][..],
        &["events"],
        &["capacity"],
        &["plugin", "list"],
        &["graph", &name],
        &["worktree", "list"],
        &["group", "list"],
        &["top"],
        &["cost"],
        &["cost", "--by", "executor"],
    ] {
        let shown = host.run(command).ok();
        let text = shown.text();
        let widest = text.lines().map(|line| line.chars().count()).max();
        assert!(widest <= Some(60), "{command:?}\n{text}");
    }
}

#[test]
fn texts_are_wrapped_to_the_variable_columns() {
    let host = TestHost::builder().env("COLUMNS", "80").build();
    let name = format!("a-long-name-{}", "x".repeat(40));
    let id = host.text(["run", "--name", &name, "--script", "echo a; exit 3"]);
    host.finished(&id);
    for command in [
        &["why", &name][..],
        &["checkpoint", &name],
        &["doctor"],
        &["plugin", "inspect", "claude"],
        &["mcp", "test"],
        // Refused with a hint, because the directory is in no repository.
        &["run", "--worktree", "--", "true"],
    ] {
        let shown = host.run(command);
        let text = format!("{}\n{}", shown.text(), shown.complaint());
        for line in text.lines() {
            // A path that is longer than a line stands alone.
            let is_path = line.split_whitespace().count() == 1;
            assert!(line.chars().count() <= 80 || is_path, "{shown}");
        }
    }
}

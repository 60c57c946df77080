//! What the program says about itself: help, completions, the plugins, the configuration, and the
//! README.

use std::fs;

use claudine_tests::TestHost;

/// The subcommands, as `--help` lists them.
fn verbs(host: &TestHost) -> Vec<String> {
    let help = host.text(["--help"]);
    // Between the usage and the options they stand in groups.
    let (commands, _) = help.split_once("\nOptions:\n").expect("options");
    let names = commands
        .lines()
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next());
    let names: Vec<String> = names
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect();
    assert!(names.len() > 10, "{help}");
    names
}

#[test]
fn every_command_explains_itself() {
    let host = TestHost::new();
    for verb in verbs(&host) {
        let help = host.text([verb.as_str(), "--help"]);
        assert!(help.contains("Usage: claudine"), "{help}");
        assert!(
            help.lines().count() > 5,
            "`{verb} --help` says too little:\n{help}"
        );
    }
    assert!(host.processes().is_empty(), "help needs no host");
}

#[test]
fn the_readme_names_every_command() {
    let host = TestHost::new();
    let readme = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md")).unwrap();
    let missing: Vec<_> = verbs(&host)
        .into_iter()
        .filter(|verb| !readme.contains(&format!("claudine {verb}")))
        .collect();
    assert!(missing.is_empty(), "README.md does not name {missing:?}");
}

#[test]
fn the_version_needs_no_host() {
    let host = TestHost::new();
    assert!(host.text(["--version"]).starts_with("claudine 0."));
    assert!(host.processes().is_empty());
}

#[test]
fn the_built_in_plugins_are_listed_with_what_they_may_do() {
    let host = TestHost::new();
    let list = host.json(["plugin", "list"]);
    let names: Vec<&str> = list["plugins"]
        .as_array()
        .or_else(|| list.as_array())
        .unwrap()
        .iter()
        .map(|plugin| plugin["name"].as_str().unwrap())
        .collect();
    for name in ["shell", "claude", "mock"] {
        assert!(names.contains(&name), "{names:?}");
        let plugin = host.json(["plugin", "inspect", name]);
        assert!(
            plugin["imports"]
                .as_array()
                .unwrap()
                .iter()
                .all(|import| import.as_str().unwrap().starts_with("claudine:plugin/")),
            "{plugin:#}"
        );
        assert_eq!(plugin["grants"][0]["kind"], "process", "{plugin:#}");
        assert!(
            !plugin["grants"][0]["worth"].as_str().unwrap().is_empty(),
            "{plugin:#}"
        );
    }
}

#[test]
fn doctor_and_configuration_are_shown() {
    let host = TestHost::builder().config("slots = 3\n").build();
    let doctor = host.run(["doctor"]);
    assert!(doctor.text().contains("shell"), "{doctor}");
    let config = host.text(["config", "show"]);
    assert!(config.contains("slots"), "{config}");
}

#[test]
fn completions_are_written_for_each_shell() {
    let host = TestHost::new();
    for shell in ["bash", "zsh", "fish"] {
        assert!(
            host.text(["completions", shell])
                .contains("CLAUDINE_COMPLETE"),
            "{shell}"
        );
    }
    assert!(host.processes().is_empty());
}

#[test]
fn manual_pages_are_written() {
    let host = TestHost::new();
    let dir = host.root().join("share/man1");
    host.text(["man", dir.to_str().unwrap()]);
    let page = fs::read_to_string(dir.join("claudine-worktree-merge.1")).unwrap();
    assert!(page.contains("claudine worktree merge"), "{page}");
    let page = fs::read_to_string(dir.join("claudine.1")).unwrap();
    assert_eq!(host.text(["man"]).trim(), page.trim());
    let file = dir.join("claudine.1");
    let refused = host.run(["man", file.to_str().unwrap()]);
    assert!(refused.complaint().contains("cannot make"), "{refused}");
    assert!(host.processes().is_empty());
}

#[test]
fn mcp_shows_its_configuration_and_tests_itself() {
    let host = TestHost::new();
    let config = host.text(["mcp", "config"]);
    assert!(
        config.contains("mcpServers") && config.contains("\"mcp\""),
        "{config}"
    );
    let test = host.text(["mcp", "test"]);
    for tool in [
        "DelegateTask",
        "TaskStatus",
        "TaskLogs",
        "CancelTask",
        "RetryTask",
        "ResumeTask",
        "ListTasks",
        "WaitTask",
        "TaskDiff",
        "MergeTask",
    ] {
        assert!(test.contains(tool), "{test}");
    }
}

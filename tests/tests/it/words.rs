//! Descriptions of the program: help, completions, plugins, configuration, README.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Stdio,
};

use claudine_tests::{
    TestHost,
    command::{self, Ran},
    wait::PATIENCE,
};

use crate::mcp::TOOLS;

/// The subcommands listed by `--help`.
fn verbs(host: &TestHost) -> Vec<String> {
    let help = host.text(["--help"]);
    // The subcommands are grouped between the usage and the options.
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

/// All commands that do something. A verb with subcommands, such as `group`, is not one of them,
/// but `group add` is.
pub(super) fn commands_of(host: &TestHost) -> Vec<String> {
    let mut commands = Vec::new();
    for verb in verbs(host) {
        let help = host.text([verb.as_str(), "--help"]);
        let inner = inner_commands(&help);
        let inner = inner.filter(|name| *name != "help");
        let count = commands.len();
        commands.extend(inner.map(|name| format!("{verb} {name}")));
        if commands.len() == count {
            commands.push(verb);
        }
    }
    commands
}

/// The subcommands that the help of a verb lists.
fn inner_commands(help: &str) -> impl Iterator<Item = &str> {
    let (_, inner) = help.split_once("Commands:\n").unwrap_or_default();
    let lines = inner.lines().take_while(|line| !line.is_empty());
    lines.filter_map(|line| line.split_whitespace().next())
}

#[test]
fn every_command_has_a_help_text() {
    let host = TestHost::new();
    for verb in verbs(&host) {
        let help = host.text([verb.as_str(), "--help"]);
        assert!(help.contains("Usage: claudine"), "{help}");
        assert!(
            help.lines().count() > 5,
            "`{verb} --help` is too short:\n{help}"
        );
    }
    assert!(host.processes().is_empty(), "help started a host");
}

#[test]
fn readme_names_every_command() {
    let host = TestHost::new();
    let readme = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md")).unwrap();
    let missing: Vec<_> = verbs(&host)
        .into_iter()
        .filter(|verb| !readme.contains(&format!("claudine {verb}")))
        .collect();
    assert!(missing.is_empty(), "README.md does not name {missing:?}");
}

/// Every command `claudine …` that a text contains in backquotes, or after a prompt in a block of
/// code.
fn commands(text: &str) -> Vec<String> {
    let text = text.replace("\\\n", " ");
    let mut found = Vec::new();
    for (index, part) in text.split("```").enumerate() {
        if index % 2 == 0 {
            let spans = part.split('`').skip(1).step_by(2);
            let spans = spans.filter(|span| span.starts_with("claudine "));
            found.extend(spans.map(str::to_owned));
            continue;
        }
        for line in part
            .lines()
            .filter_map(|line| line.strip_prefix(['$', '>']))
        {
            let line = line.split(" #").next().unwrap_or_default();
            let begin = line.find(" claudine ");
            found.extend(begin.map(|at| line[at + 1..].to_owned()));
        }
    }
    found
}

/// The words of a help text, among them the names of commands and options.
fn names(help: &str) -> impl Iterator<Item = &str> {
    help.split(|c: char| !c.is_ascii_alphanumeric() && c != '-')
}

#[test]
fn commands_and_options_in_the_documentation_exist() {
    let host = TestHost::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let pages = fs::read_dir(root.join("docs")).unwrap();
    let pages = pages.map(|page| page.unwrap().path());
    let pages = pages.filter(|page| page.extension().is_some_and(|it| it == "md"));
    let mut helps: BTreeMap<Vec<String>, String> = BTreeMap::new();
    let mut help = |words: &[&str]| {
        let key = words.iter().map(|&word| word.to_owned()).collect();
        let text = || host.text(words.iter().chain(&["--help"]));
        helps.entry(key).or_insert_with(text).clone()
    };
    let (mut count, mut wrong) = (0, Vec::new());
    for page in pages.chain([root.join("README.md")]) {
        for command in commands(&fs::read_to_string(&page).unwrap()) {
            count += 1;
            let words: Vec<&str> = command.split_whitespace().skip(1).collect();
            let [verb, rest @ ..] = &words[..] else {
                continue;
            };
            if !verb.starts_with('-') && !names(&help(&[])).any(|name| name == *verb) {
                wrong.push(format!("{}: no `{verb}`: {command}", page.display()));
                continue;
            }
            let path = &words[..usize::from(!verb.starts_with('-'))];
            let mut known = help(path);
            let inner = rest
                .first()
                .filter(|word| inner_commands(&known).any(|name| name == **word));
            if let Some(inner) = inner {
                known = help(&[*verb, *inner]);
            }
            // Words after `--` belong to another program.
            let options = words.iter().take_while(|word| **word != "--");
            for option in options.filter(|word| word.starts_with('-')) {
                let option = names(option).next().unwrap_or_default();
                if !names(&known).any(|name| name == option) {
                    wrong.push(format!("{}: no `{option}`: {command}", page.display()));
                }
            }
        }
    }
    assert!(count > 80, "only {count} commands were found");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn commands_are_found_in_backquotes_and_after_prompts() {
    let text = "Type `claudine list -q`, not `list`.\n```console\n$ claudine run \\\n    --wait -- make   # a word\n\
                claudine list\n>   claudine up\n$ echo a; claudine down\n```\n`claudine top`";
    let expected = [
        "claudine list -q",
        "claudine run      --wait -- make  ",
        "claudine up",
        "claudine down",
        "claudine top",
    ];
    assert_eq!(commands(text), expected);
}

#[test]
fn version_is_printed_without_a_host() {
    let host = TestHost::new();
    assert!(host.text(["--version"]).starts_with("claudine 0."));
    assert!(host.processes().is_empty());
}

#[test]
fn built_in_plugins_are_listed_with_their_permissions() {
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
fn doctor_shows_executors_and_config_show_lists_settings() {
    let host = TestHost::builder().config("cpu_threshold = 70\n").build();
    let doctor = host.run(["doctor"]);
    assert!(doctor.text().contains("shell"), "{doctor}");
    let config = host.text(["config", "show"]);
    assert!(config.contains("cpu_threshold = 70"), "{config}");
}

/// Runs `config edit` with a script as the editor, which gets the path of the copy as `$1`.
fn edit_config(host: &TestHost, script: &str) -> Ran {
    let editor = host.work().join("editor");
    fs::write(&editor, script).unwrap();
    let mut edit = host.command(["config", "edit"]);
    edit.env("EDITOR", format!("sh {}", editor.display()));
    command::run(edit, b"", PATIENCE)
}

#[test]
fn settings_are_unchanged_and_an_edited_text_is_kept_if_it_cannot_be_taken_over() {
    let host = TestHost::builder().config("slots = 3\n").build();
    let file = host.config_dir().join("claudine/config.toml");
    let check = |script: &str, code: i32, says: &[&str], left: Option<&[u8]>| {
        let ran = edit_config(&host, script).code(code);
        ran.says(says);
        ran.says(&["hint: this command has not changed ", "config.toml"]);
        assert_eq!(fs::read_to_string(&file).unwrap(), "slots = 3\n");
        let complaint = ran.complaint();
        let copy = complaint.split_once("; your edited text is in ");
        let copy = copy.map(|(_, path)| PathBuf::from(path.trim()));
        let kept = copy.as_ref().map(|copy| fs::read(copy).unwrap());
        assert_eq!(kept.as_deref(), left, "{ran}");
        if let Some(copy) = copy {
            fs::remove_file(copy).unwrap();
        }
        complaint.len()
    };
    check("rm $1", 125, &["cannot read", "No such file"], None);
    check(
        r"printf '\377' > $1",
        125,
        &["cannot read", "UTF-8"],
        Some(&b"\xff"[..]),
    );
    check(
        "echo slots = 4 > $1; exit 1",
        2,
        &["status: 1"],
        Some(&b"slots = 4\n"[..]),
    );
    check("kill -KILL $$", 2, &["SIGKILL"], None);
    let long = format!("slots = {}\n", "x".repeat(5_000));
    let script = format!("echo '{}' > $1", long.trim());
    let complaint = check(&script, 2, &["line 1, column 9"], Some(long.as_bytes()));
    assert!(complaint < 1_000, "{complaint} bytes");
}

/// Otherwise a setting that limits nothing would lift the limits of a file that has vanished.
#[test]
fn limits_of_the_last_host_are_written_with_the_first_setting_of_a_new_file() {
    let limits = "[mcp]\nexecutors = [\"claude\"]\n\n[env]\nexclude = [\"AWS_*\"]\n";
    let host = TestHost::builder().config(limits).build();
    let file = host.config_dir().join("claudine/config.toml");
    host.up();
    host.kill_host();
    let text = || fs::read_to_string(&file).unwrap();
    fs::remove_file(&file).unwrap();
    let set = host.run(["config", "set", "keep", "8d"]).ok();
    set.says(&[
        "limits of the last host were written",
        "(mcp.executors, env.exclude)",
    ]);
    assert_eq!(text(), format!("keep = \"8d\"\n\n{limits}"));
    let again = host.run(["config", "set", "keep", "9d"]).ok();
    assert!(!again.complaint().contains("last host"), "{again}");
    // The given value counts.
    fs::write(&file, "# ours\n").unwrap();
    let own = host.run(["config", "set", "mcp.executors", "shell"]).ok();
    own.says(&["limits of the last host were written", "(env.exclude)"]);
    let written = text();
    assert!(written.starts_with("# ours\n"), "{written}");
    assert!(written.contains("executors = [\"shell\"]"), "{written}");
    assert!(written.contains("exclude = [\"AWS_*\"]"), "{written}");
    fs::remove_file(&file).unwrap();
    edit_config(&host, "true").check();
    let edited = text();
    assert!(edited.starts_with("# Settings of Claudine"), "{edited}");
    assert!(edited.ends_with(limits), "{edited}");
    // A person who starts a host without limits has lifted them.
    fs::remove_file(&file).unwrap();
    host.up();
    host.run(["config", "set", "keep", "8d"]).check();
    assert_eq!(text(), "keep = \"8d\"\n");
}

#[test]
fn limits_of_the_last_host_are_kept_with_another_data_directory_and_beside_an_empty_table() {
    let limits = "[mcp]\nexecutors = [\"claude\"]\n";
    let host = TestHost::builder().config(limits).build();
    let file = host.config_dir().join("claudine/config.toml");
    host.up();
    host.kill_host();
    let other = host.root().join("other");
    let other = ["--data-dir", other.to_str().unwrap()];
    for (before, data_dir) in [
        ("", &other[..]),
        ("[plugins.claude]\n", &other[..0]),
        ("[plugins.claude]\n", &other[..]),
    ] {
        fs::write(&file, before).unwrap();
        let set = [data_dir, &["config", "set", "keep", "8d"]].concat();
        let said = host.run(set).ok();
        said.says(&["limits of the last host were written"]);
        let written = fs::read_to_string(&file).unwrap();
        assert!(written.contains(limits), "{before}\n{written}");
    }
}

/// Otherwise a file with settings would be taken for one with all the limits that a person wants.
#[test]
fn setting_is_not_written_to_an_empty_file_if_the_limits_of_the_last_host_cannot_be_read() {
    let host = TestHost::builder().config("# ours\n").build();
    let file = host.config_dir().join("claudine/config.toml");
    fs::create_dir_all(host.data_dir()).unwrap();
    fs::write(host.data_dir().join("ceiling.json"), "{").unwrap();
    let refused = host.run(["config", "set", "keep", "8d"]).code(125);
    refused.says(&["ceiling.json", "cannot be read", "`claudine config edit`"]);
    assert_eq!(fs::read_to_string(&file).unwrap(), "# ours\n");
    // Whoever writes the limits can set everything else.
    let edited = edit_config(&host, "echo slots = 4 > $1").ok();
    edited.says(&["ceiling.json", "cannot be read"]);
    host.run(["config", "set", "keep", "8d"]).check();
    let written = fs::read_to_string(&file).unwrap();
    assert_eq!(written, "slots = 4\nkeep = \"8d\"\n");
}

#[test]
fn setting_is_changed_although_another_part_of_the_file_is_wrong_if_a_host_could_start_with_it() {
    let host = TestHost::builder()
        .config("[plugins]\nclaude = 1\nshell = 2\n")
        .build();
    let file = host.config_dir().join("claudine/config.toml");
    let text = || fs::read_to_string(&file).unwrap();
    let wrong = ["plugins.claude is `1`, but", "plugins.shell is `2`, but"];
    let set = host.run(["config", "set", "keep", "8d"]).ok();
    set.says(&["warning: ", wrong[0], wrong[1]]);
    let below = ["config", "set", "plugins.shell.a", "1"];
    host.run(below).code(2).says(&[wrong[1]]);
    let unset = ["config", "set", "--unset", "plugins.claude"];
    let unset = host.run(unset).ok();
    unset.says(&["warning: ", wrong[1]]);
    assert!(!unset.complaint().contains(wrong[0]), "{unset}");
    assert_eq!(text(), "keep = \"8d\"\n[plugins]\nshell = 2\n");

    let faulty = "slots = 0\nkeep = \"soon\"\n";
    fs::write(&file, faulty).unwrap();
    host.run(["config", "set", "slots", "4"]).code(2).says(&[
        "keep is `soon`, but",
        "the file was wrong before this change",
        "`claudine config edit` opens it",
    ]);
    assert_eq!(text(), faulty);
}

#[test]
fn settings_that_many_commands_set_at_the_same_time_are_all_in_the_file() {
    let host = TestHost::new();
    let file = host.config_dir().join("claudine/config.toml");
    let all = [
        ("slots", "2"),
        ("keep", "3d"),
        ("max_output", "1M"),
        ("task_timeout", "1h"),
        ("budget.daily_usd", "5"),
        ("mcp.executors", "claude"),
        ("mcp.max_permission_mode", "plan"),
        ("env.exclude", "TOKEN"),
    ];
    for _ in 0..4 {
        fs::write(&file, "# ours\n").unwrap();
        let start = |(name, value): (&str, &str)| {
            let mut set = host.command(["config", "set", name, value]);
            set.stdin(Stdio::null()).stdout(Stdio::null());
            set.stderr(Stdio::null()).spawn().unwrap()
        };
        for mut set in all.map(start) {
            let ended = command::ends_within(&mut set, PATIENCE).expect("it ends");
            assert!(ended.success(), "{ended}");
        }
        let text = fs::read_to_string(&file).unwrap();
        for (name, _) in all {
            let key = name.rsplit('.').next().unwrap();
            assert!(text.contains(&format!("{key} = ")), "{name}\n{text}");
        }
    }
    // Nothing else is left beside the file.
    let names = fs::read_dir(file.parent().unwrap()).unwrap();
    assert_eq!(names.count(), 1);
}

#[test]
fn configuration_that_was_changed_meanwhile_is_not_replaced_by_the_edited_text() {
    let host = TestHost::builder().config("slots = 3\n").build();
    let file = host.config_dir().join("claudine/config.toml");
    let script = format!(
        "echo keep = '\"2d\"' > {}; echo slots = 4 > $1",
        file.display()
    );
    let ran = edit_config(&host, &script).code(125);
    ran.says(&["was changed while you edited it"]);
    assert_eq!(fs::read_to_string(&file).unwrap(), "keep = \"2d\"\n");
    let complaint = ran.complaint();
    let (_, copy) = complaint.split_once("; your edited text is in ").unwrap();
    assert_eq!(fs::read_to_string(copy.trim()).unwrap(), "slots = 4\n");
    fs::remove_file(copy.trim()).unwrap();
}

#[test]
fn configuration_is_written_to_the_file_at_which_its_links_end() {
    let host = TestHost::new();
    let file = host.config_dir().join("claudine/config.toml");
    let (link, target) = (host.work().join("link"), host.work().join("new/settings"));
    symlink(&link, &file).unwrap();
    symlink("new/settings", &link).unwrap();
    for slots in ["3", "4"] {
        host.run(["config", "set", "slots", slots]).check();
        let expected = format!("slots = {slots}");
        let written = fs::read_to_string(&target).unwrap();
        assert!(written.contains(&expected), "{written}");
    }
    for link in [file, link] {
        assert!(fs::symlink_metadata(link).unwrap().is_symlink());
    }
}

/// Whoever follows the link would lock or make another file.
#[test]
fn link_in_place_of_the_lock_of_the_configuration_is_named() {
    let host = TestHost::new();
    let lock = host.config_dir().join("claudine/.config.toml.lock");
    let target = host.work().join("nowhere");
    symlink(&target, &lock).unwrap();
    let refused = host.run(["config", "set", "slots", "3"]).code(125);
    refused.says(&[".config.toml.lock: it is no regular file, but a symbolic link; move it away"]);
    assert!(!target.exists());
}

#[test]
fn config_show_lists_the_settings_in_which_the_running_host_differs() {
    let host = TestHost::new();
    host.up();
    let shown = || host.run(["config", "show"]).ok();
    assert_eq!(shown().complaint(), "");
    fs::write(
        host.config_dir().join("claudine/config.toml"),
        "keep = \"2d\"\n",
    )
    .unwrap();
    let note = "note: the running host has other values (keep = \"7d\")";
    shown().says(&[note, "`claudine down && claudine up` restarts it"]);
    host.run(["down"]).check();
    assert_eq!(shown().complaint(), "");
}

#[test]
fn completions_exist_for_each_shell() {
    let host = TestHost::new();
    for shell in ["bash", "zsh", "fish", "nushell"] {
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
fn mcp_config_prints_the_configuration_and_mcp_test_lists_the_tools() {
    let host = TestHost::new();
    let config = host.text(["mcp", "config"]);
    assert!(
        config.contains("mcpServers") && config.contains("\"mcp\""),
        "{config}"
    );
    let test = host.text(["mcp", "test"]);
    for tool in TOOLS {
        assert!(test.contains(tool), "{test}");
    }
}

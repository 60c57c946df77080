//! The output that README.md shows: the commands above it are run in the order of README.md, on a
//! terminal, in the project of the recording, and print the same.

use std::{fs, os::unix::fs::symlink};

use claudine_tests::{
    harness::binary,
    messages_api::{Answer, Rule},
    terminal::Terminal,
};

use crate::{
    recording::{agent, is_short_id, set_up, without_numbers},
    world::World,
};

const README: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md");
/// Lines of README.md have at most this many columns.
const SIZE: (u16, u16) = (100, 60);

/// A command, and the output below it.
struct Example {
    command: String,
    output: String,
}

/// The `claudine` commands whose output is shown below them.
fn examples(text: &str) -> Vec<Example> {
    let blocks = text.split("```console\n$ ").skip(1);
    let blocks = blocks.filter_map(|rest| Some(rest.split_once("\n```")?.0));
    let typed = blocks.flat_map(|block| block.split("\n$ "));
    let examples = typed.filter_map(|typed| {
        let lines: Vec<&str> = typed.lines().collect();
        let end = lines.iter().position(|line| !line.ends_with('\\'))?;
        let (command, output) = lines.split_at(end + 1);
        let is_shown = typed.starts_with("claudine ") && !output.is_empty();
        is_shown.then(|| Example {
            command: command.join("\n"),
            output: output.join("\n"),
        })
    });
    examples.collect()
}

#[test]
fn commands_in_the_readme_print_the_output_below_them() {
    let mut script = agent();
    // The agent begins only after it was listed.
    script.rules[0].answer.hold = Some("begin".to_owned());
    let notes = Rule::new(Answer::text("Weeks are read.")).containing("Write the release notes.");
    script.rules.insert(0, notes);
    let (world, programs) = World::wrapped(script, r#"exec "$CLAUDE" "$@""#);
    symlink(binary(), programs.path().join("claudine")).unwrap();
    set_up(&world);
    // Each id in README.md, and the id of the task that this test submits in its place.
    let mut ids: Vec<(String, String)> = Vec::new();
    for Example { command, output } in examples(&fs::read_to_string(README).unwrap()) {
        let command = with_ids(&command, &ids);
        if command.starts_with("claudine list") {
            world.host.live(&ids[0].1);
        } else if command.starts_with("claudine logs") {
            for point in ["begin", "read", "edit"] {
                world.api.release(point);
            }
        }
        let mut shell = Terminal::start_program(&world.host, "sh", &["-c", &command], SIZE, &[]);
        let ended = shell.ended();
        let printed = shell.screen();
        assert!(ended.success(), "{ended}: {command}\n{printed}");
        if let (Some(shown), Some(own)) = (id_at_end(&output), id_at_end(&printed)) {
            ids.push((shown, own));
        }
        assert_eq!(
            fixed_words(&with_ids(&output, &ids)),
            fixed_words(&printed),
            "left is README.md, right is the current output of `{command}`"
        );
    }
    assert_eq!(ids.len(), 3, "three tasks are submitted: {ids:?}");
}

fn with_ids(text: &str, ids: &[(String, String)]) -> String {
    ids.iter().fold(text.to_owned(), |text, (shown, own)| {
        text.replace(shown, own)
    })
}

/// The id that a command prints on its last line after a submission.
fn id_at_end(text: &str) -> Option<String> {
    let last = text.lines().last().filter(|line| is_short_id(line));
    last.map(str::to_owned)
}

/// The text without numbers and times. `tomorrow` is left out, because the next two o'clock is
/// today if the test runs just after midnight.
fn fixed_words(text: &str) -> Vec<String> {
    let lines = text.trim_end().lines();
    let lines = lines.map(|line| without_numbers(&line.replace("tomorrow ", "")));
    lines.collect()
}

//! The recording in README.md: a scene is played on a terminal, and its output is compared with
//! `docs/recording.svg`. `cargo xtask record` sets `CLAUDINE_RECORD` to the path of a file. The
//! output is then written to this file, and not compared.

use std::{
    collections::BTreeSet,
    env, fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    time::Duration,
};

use claudine_tests::{
    harness::binary,
    messages_api::{Answer, Rule, Script, Step},
    process,
    recording::{Film, Recorded, Size, Typist, draw},
    wait_for,
};
use serde_json::json;

use crate::world::{World, git};

const SIZE: Size = (80, 24);
/// Maximum size, so that the README loads quickly.
const LARGEST_BYTES: usize = 100_000;
const LONGEST: Duration = Duration::from_mins(1);

const TITLE: &str = "Claudine in a terminal";
const DESCRIPTION: &str = "An agent is asked to fix a failing test, lint runs beside it, and a \
    release waits for both. Lint fails, and claudine why says that the release could not run \
    because of it. The host is killed, and the agent works on. Its fix is merged, lint is tried \
    again, and then the release runs.";

/// The answers of the agent's model. The scene releases the points at which the answers pause.
pub(crate) fn agent() -> Script {
    let test = || Step::Tool {
        name: "Bash".to_owned(),
        input: json!({ "command": "make test", "description": "Run the tests" }),
    };
    let read = Step::Tool {
        name: "Read".to_owned(),
        input: json!({ "file_path": "dates.py" }),
    };
    let edit = Step::Tool {
        name: "Edit".to_owned(),
        input: json!({
            "file_path": "dates.py",
            "old_string": "    # TODO: weeks\n    return int(text[:-1])",
            "new_string": "    return int(text[:-1]) * {\"d\": 1, \"w\": 7}[text[-1]]",
        }),
    };
    let say = |text: &str| Step::Text(text.to_owned());
    let pause = |point: &str| Step::Pause(point.to_owned());
    let turns = [
        vec![
            say("I run the tests first, to see which one fails."),
            test(),
        ],
        vec![pause("read"), say("`2w` is read as two days."), read],
        vec![pause("edit"), edit],
        vec![test()],
        vec![say("Both tests pass: weeks are read as seven days now.")],
    ];
    let rules = turns.into_iter().enumerate();
    rules.fold(Script::default(), |script, (turn, steps)| {
        script.then(Rule::new(Answer::steps(steps)).at_turn(turn))
    })
}

/// The files of the project. The commands in its Makefile wait until the scene creates files beside
/// the project.
const FILES: &[(&str, &str)] = &[
    (
        "Makefile",
        "test:\n\
         \t@python3 -B -m unittest -q test_dates\n\
         lint:\n\
         \t@until test -e ../lint; do sleep 0.1; done\n\
         \t@! grep -n TODO dates.py\n\
         release:\n\
         \t@until test -e ../release; do sleep 0.1; done\n\
         \t@echo released\n",
    ),
    (
        "dates.py",
        "def days(text):\n    # TODO: weeks\n    return int(text[:-1])\n",
    ),
    (
        "test_dates.py",
        "import unittest\n\
         from dates import days\n\n\n\
         class T(unittest.TestCase):\n    \
             def test_days(self):\n        \
                 self.assertEqual(days(\"3d\"), 3)\n\n    \
             def test_weeks(self):\n        \
                 self.assertEqual(days(\"2w\"), 14)\n",
    ),
];

/// Makes the project, whose test fails.
pub(crate) fn set_up(world: &World) {
    for (name, text) in FILES {
        fs::write(world.host.work().join(name), text).unwrap();
    }
    git(world, &["init", "-q", "-b", "main"]);
    git(world, &["config", "user.name", "T"]);
    git(world, &["config", "user.email", "t@example.org"]);
    git(world, &["add", "."]);
    git(world, &["commit", "-q", "-m", "Read dates"]);
}

fn play(world: &World) -> Film {
    let host = &world.host;
    let go = |name: &str| fs::write(host.root().join(name), "").unwrap();
    let (glance, moment) = (Duration::from_millis(700), Duration::from_millis(1_200));
    let long = Duration::from_secs(2);
    let mut person = Typist::start(host, SIZE);
    person.looks(glance);

    person.runs(&[
        r"claudine delegate --name fix --worktree --merge auto \",
        r"  --allowed-tools 'Edit,Bash(make test)' 'Fix the failing test.'",
    ]);
    person.looks(glance);
    person.runs(&["claudine run --name lint -- make lint"]);
    person.looks(glance);
    person.runs(&["claudine run --name release --depends-on-success fix,lint -- make release"]);
    person.looks(moment);

    let written = person.enters("claudine top");
    person.sees(&["fix", "lint", "release", "── lint ─"]);
    person.looks(moment);
    person.presses('j');
    person.sees(&["── fix ─", "make: *** [Makefile"]);
    person.looks(moment);
    world.api.release("read");
    person.sees(&["● Read  dates.py", "return int"]);
    person.looks(moment);
    go("lint");
    person.sees(&["✗ failed", "⊘ upstream_failed"]);
    person.looks(moment);
    person.presses('q');
    person.is_back(written);

    person.runs(&["claudine why release"]);
    person.looks(long);
    // Waits until the task is live, because its agent may still be starting.
    host.live("fix");
    let up = host.up();
    person.runs(&["claudine up"]);
    person.looks(glance);
    let pid = u32::try_from(up["pid"].as_u64().unwrap()).unwrap();
    person.runs(&[&format!("kill -9 {pid}")]);
    wait_for("the host to be gone", || {
        (!process::alive(pid)).then_some(())
    });
    person.looks(glance);
    person.runs(&["claudine list"]);
    person.looks(long);

    let written = person.enters("claudine wait fix");
    person.sees(&["0/1 done"]);
    person.looks(glance);
    world.api.release("edit");
    person.is_back(written);
    person.looks(moment);
    person.runs(&["claudine retry lint"]);
    person.looks(glance);
    let written = person.enters("claudine graph release -f");
    person.sees(&["● release"]);
    person.looks(moment);
    go("release");
    person.is_back(written);
    person.looks(Duration::from_secs(4));
    person.film()
}

#[test]
fn recording_matches_the_output_of_the_same_commands() {
    let (world, programs) = World::wrapped(agent(), r#"exec "$CLAUDE" "$@""#);
    symlink(binary(), programs.path().join("claudine")).unwrap();
    set_up(&world);
    let played = draw(&play(&world), TITLE, DESCRIPTION);
    if let Some(file) = env::var_os("CLAUDINE_RECORD") {
        check(&played);
        fs::write(file, played).unwrap();
        return;
    }
    assert_eq!(
        fixed_words(&committed()),
        fixed_words(&played),
        "left is {}, right is the current output: `cargo xtask record` records it again",
        file().display()
    );
}

#[test]
fn recording_is_small_and_harmless() {
    check(&committed());
}

/// Checks the properties that readers of README.md expect.
#[track_caller]
fn check(svg: &str) {
    assert!(svg.len() < LARGEST_BYTES, "{} bytes", svg.len());
    let recorded = Recorded::read(svg).unwrap();
    assert!(recorded.length() < LONGEST, "{:?}", recorded.length());
    assert!(
        svg.contains("prefers-reduced-motion"),
        "the recording ignores prefers-reduced-motion"
    );
    // Readers who prefer no motion see the end of the scene.
    let last = recorded.seen(recorded.length()).unwrap();
    let last = last.join("\n");
    assert!(last.contains("✓ release   succeeded"), "{last}");
}

fn file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/recording.svg")
}

fn committed() -> String {
    fs::read_to_string(file()).unwrap()
}

/// The text of a recording, without parts that differ between runs: ids, times, the host's process
/// and its directory.
fn fixed_words(svg: &str) -> String {
    let recorded = Recorded::read(svg).unwrap();
    let lines = recorded.transcript(usize::from(SIZE.0));
    // Each id is printed alone on a line when its task is submitted.
    let ids: BTreeSet<&String> = lines.iter().filter(|line| is_short_id(line)).collect();
    assert_eq!(ids.len(), 3, "{lines:#?}");
    // Lines with the progress of a wait are left out, because they depend on timing.
    let lasting = lines.iter().filter(|line| !line.starts_with(is_spinner));
    let shown = lasting.map(|line| {
        let line = ids
            .iter()
            .fold(line.clone(), |line, id| line.replace(*id, "ID"));
        without_numbers(&line)
    });
    shown.collect::<Vec<_>>().join("\n")
}

/// The words of a line; numbers, times and the path of the socket are replaced.
pub(crate) fn without_numbers(line: &str) -> String {
    let words = line.split_whitespace().map(|word| match word {
        word if word.starts_with("unix:/") => "unix:SOCKET",
        word if is_number(word.trim_matches(['(', ')', '~', ','])) => "N",
        word => word,
    });
    words.collect::<Vec<_>>().join(" ")
}

pub(crate) fn is_short_id(line: &str) -> bool {
    let is_part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    line.len() == 6 && line.chars().all(is_part)
}

/// Whether the word is a number, a time or part of a time.
fn is_number(word: &str) -> bool {
    let is_part = |c: char| c.is_ascii_digit() || ".:$msh".contains(c);
    word.contains(|c: char| c.is_ascii_digit()) && word.chars().all(is_part)
}

fn is_spinner(c: char) -> bool {
    ('\u{2800}'..='\u{28ff}').contains(&c)
}

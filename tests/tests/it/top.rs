//! The live view on a terminal: checks its display and its keys, and that it restores the terminal.

use std::{
    fs,
    time::{Duration, Instant},
};

use claudine_tests::{TestHost, process, short_id, terminal::Terminal, wait_for};
use rustix::process::Signal;

const USUAL: (u16, u16) = (80, 24);

/// A time in which output that is written every second would be noticed.
const A_WHILE: Duration = Duration::from_millis(2_500);

fn lines_fit(terminal: &Terminal, columns: usize) {
    let screen = terminal.screen();
    let widest = screen.lines().map(|line| line.chars().count()).max();
    assert!(widest <= Some(columns), "{screen}");
}

/// Waits until the terminal is restored, because the last output of `top` appears with a short
/// delay.
#[track_caller]
fn is_given_back(top: &Terminal) {
    wait_for("the terminal to be restored", || {
        top.look(|screen| !screen.alternate_screen() && !screen.hide_cursor())
            .then_some(())
    });
}

fn running(host: &TestHost) -> String {
    let id = host.text([
        "run",
        "--name",
        "build",
        "--script",
        "echo compiling everything; until test -e go; do sleep 0.1; done",
    ]);
    host.live(&id);
    id
}

fn let_go(host: &TestHost, id: &str) {
    fs::write(host.work().join("go"), "").unwrap();
    host.finished(id);
}

#[test]
fn view_shows_tasks_and_follows_their_changes() {
    let host = TestHost::new();
    let build = running(&host);
    let failed = host.text(["run", "--name", "lint", "--script", "exit 3"]);
    host.finished(&failed);
    host.run(["run", "--hold", "--name", "deploy", "--", "true"])
        .check();
    let mut top = Terminal::start(&host, &["top"], USUAL);
    let screen = top.shows(&[
        "1 running",
        "1 held",
        "1 failed",
        "1 needs you",
        "compiling everything",
    ]);
    let line = |name: &str| {
        screen
            .lines()
            .find(|line| line.contains(name))
            .unwrap()
            .to_owned()
    };
    assert!(line("build").contains("● running"), "{screen}");
    assert!(line("deploy").contains("⏸ held"), "{screen}");
    assert!(line("lint").contains("✗ failed"), "{screen}");
    assert!(line("build").contains(short_id(&build)), "{screen}");
    assert!(top.look(|screen| screen.alternate_screen() && screen.hide_cursor()));
    lines_fit(&top, 80);
    let_go(&host, &build);
    top.shows(&["nothing runs", "✓ succeeded"]);
    top.press("q");
    assert!(top.ended().success());
    is_given_back(&top);
}

#[test]
fn view_writes_nothing_while_no_task_changes() {
    let host = TestHost::new();
    host.run(["run", "--hold", "--name", "deploy", "--", "true"])
        .check();
    let top = Terminal::start(&host, &["top"], USUAL);
    top.shows(&["1 held", "deploy"]);
    // During the first period, `top` may still write the lines below the tasks.
    assert!(top.is_calm_for(A_WHILE) || top.is_calm_for(A_WHILE));
    // After a change, only the changed parts of the screen are written.
    let before = top.bytes().len();
    host.run(["run", "--hold", "--name", "other", "--", "true"])
        .check();
    top.shows(&["2 held", "other"]);
    assert!(top.bytes().len() - before < 2_000);
}

#[test]
fn view_writes_few_bytes_each_second_while_a_task_runs() {
    let host = TestHost::new();
    let build = running(&host);
    let top = Terminal::start(&host, &["top"], USUAL);
    top.shows(&["build", "compiling everything"]);
    let (begin, before) = (Instant::now(), top.bytes().len());
    let later = || String::from_utf8_lossy(&top.bytes()[before..]).into_owned();
    let written = wait_for("three updates of the time", || {
        let updates = later().matches("\x1b[?2026l").count();
        (updates >= 3).then(later)
    });
    let ticks = usize::try_from(begin.elapsed().as_secs()).unwrap() + 1;
    assert!(written.len() < 200 * ticks, "{ticks} s: {written:?}");
    assert!(!written.contains("\x1b[2J"), "{written:?}");
    let_go(&host, &build);
}

#[test]
fn keys_of_the_view_do_what_its_help_says() {
    let host = TestHost::new();
    let build = running(&host);
    let top = Terminal::start(&host, &["top"], USUAL);
    top.shows(&["build", "compiling everything"]);
    top.press("?");
    top.shows(&["show its output", "any key closes this"]);
    top.press("x");
    top.shows(&["enter logs"]);
    top.press("w");
    top.shows(&["is running", "q back"]);
    top.press("q");
    top.shows(&["enter logs"]);
    top.press("\r");
    top.shows(&["Output of", "compiling everything", "q back"]);
    top.press("q");
    top.press("/nothing-like-it");
    top.shows(&["/nothing-like-it", "no task matches the filter"]);
    top.press("\x1b");
    top.shows(&["enter logs", "build"]);
    top.press("c");
    top.shows(&["Cancel", "any other key does not"]);
    top.press("n");
    top.shows(&["enter logs"]);
    top.press("c");
    top.shows(&["Cancel"]);
    top.press("y");
    top.shows(&["⊘ cancelled"]);
    assert_eq!(host.finished(&build)["outcome"], "cancelled");
    top.press("h");
    top.shows(&["cannot be held"]);
    top.press("r");
    top.shows(&["● running"]);
    host.run(["cancel", &build]).check();
}

#[test]
fn view_follows_the_size_of_the_terminal() {
    let host = TestHost::new();
    let asked = format!("echo {}", "x".repeat(200));
    let id = host.text(["run", "--name", "wide", "--script", &asked]);
    host.finished(&id);
    let top = Terminal::start(&host, &["top"], USUAL);
    top.shows(&["wide", "q quit"]);
    for size in [(120, 40), (40, 10), (200, 50), (80, 24)] {
        top.resize(size);
        // The footer is on the last line.
        wait_for("the footer on the last line", || {
            let last = usize::from(size.1) - 1;
            let screen = top.screen();
            screen
                .lines()
                .nth(last)?
                .contains("enter logs")
                .then_some(())
        });
        lines_fit(&top, size.0.into());
    }
}

#[test]
fn view_waits_for_the_next_host() {
    let host = TestHost::new();
    host.run(["run", "--hold", "--name", "deploy", "--", "true"])
        .check();
    let top = Terminal::start(&host, &["top"], USUAL);
    top.shows(&["1 held"]);
    host.kill_host();
    top.shows(&["no host is running; waiting for one", "deploy"]);
    assert_eq!(host.host_pid(), None, "the view started a host");
    host.run(["run", "--hold", "--name", "later", "--", "true"])
        .check();
    let screen = top.shows(&["2 held", "later"]);
    assert!(!screen.contains("waiting for one"), "{screen}");
    host.run(["down"]).check();
    top.shows(&["waiting for"]);
    // The stopped view does not see the next host start and end. Once the view continues, it reads
    // from the database what that host has recorded.
    process::signal(top.pid(), Signal::STOP);
    top.is_stopped();
    host.run(["release", "later"]).check();
    host.finished("later");
    host.run(["down"]).check();
    process::signal(top.pid(), Signal::CONT);
    let screen = top.shows(&["waiting for", "1 held"]);
    assert_eq!(host.host_pid(), None, "the view started a host: {screen}");
    host.up();
    top.shows(&["1 held"]);
}

#[test]
fn terminal_is_restored_on_suspension_and_on_a_signal() {
    let host = TestHost::new();
    host.run(["run", "--hold", "--name", "deploy", "--", "true"])
        .check();
    let mut top = Terminal::start(&host, &["top"], USUAL);
    top.shows(&["1 held"]);
    for how in ["key", "signal"] {
        match how {
            "key" => top.press("\x1a"),
            _ => process::signal(top.pid(), Signal::TSTP),
        }
        top.is_stopped();
        is_given_back(&top);
        process::signal(top.pid(), Signal::CONT);
        top.shows(&["1 held", "deploy"]);
        assert!(top.look(vt100_alternate), "{how}");
    }
    process::signal(top.pid(), Signal::TERM);
    assert!(top.ended().success());
    is_given_back(&top);
}

fn vt100_alternate(screen: &vt100::Screen) -> bool {
    screen.alternate_screen()
}

#[test]
fn ten_thousand_tasks_are_counted_and_the_newest_are_shown() {
    let host = TestHost::new();
    let tasks: Vec<String> = (0..10_000)
        .map(|number| {
            serde_json::json!({"executor": "shell", "argv": ["true"], "name": format!("n{number}"), "hold": true})
                .to_string()
        })
        .collect();
    host.run_with(["submit", "-"], tasks.join("\n").as_bytes())
        .check();
    let top = Terminal::start(&host, &["top"], USUAL);
    top.shows(&["10000 held", "1000 of 10000 shown"]);
    shows_consecutive_tasks(&top, |names| names[0] == "n9999");
    lines_fit(&top, 80);
    // The last of the thousand tasks.
    top.press("G");
    shows_consecutive_tasks(&top, |names| names[names.len() - 1] == "n9000");
    top.press("g");
    shows_consecutive_tasks(&top, |names| names[0] == "n9999");
    host.run(["cancel", "n9999"]).check();
    // The selection follows its task, which is behind the held tasks now.
    top.shows(&["9999 held", "⊘ cancelled"]);
    top.press("g");
    shows_consecutive_tasks(&top, |names| names[0] == "n9998");
}

/// Waits until the screen is full of held tasks, each of which was submitted just before the one
/// above it, and their names are as expected.
#[track_caller]
fn shows_consecutive_tasks(top: &Terminal, is_expected: impl Fn(&[String]) -> bool) {
    wait_for("the expected tasks", || {
        let names = held(&top.screen());
        let first: usize = names.first()?.strip_prefix('n')?.parse().ok()?;
        let is_consecutive = (0..)
            .zip(&names)
            .all(|(at, name)| *name == format!("n{}", first.saturating_sub(at)));
        (names.len() > 10 && is_consecutive && is_expected(&names)).then_some(())
    });
}

/// The names of the held tasks on a screen, from the top.
fn held(screen: &str) -> Vec<String> {
    let rows = screen.lines().filter_map(|row| row.split_once("⏸ held"));
    rows.filter_map(|(_, rest)| rest.split_whitespace().next().map(str::to_owned))
        .collect()
}

#[test]
fn claudine_without_a_command_prints_the_view_once() {
    let host = TestHost::new();
    host.run(["run", "--hold", "--name", "deploy", "--", "true"])
        .check();
    let mut plain = Terminal::start(&host, &[], USUAL);
    assert!(plain.ended().success());
    let screen = plain.shows(&["1 held", "deploy", "claudine --help lists the commands"]);
    assert!(plain.look(|screen| !screen.alternate_screen()), "{screen}");
    // Programs without a terminal get an error if the command is missing.
    let none: [&str; 0] = [];
    host.run(none).code(2).says(&["Usage"]);
    // Without a terminal, `top` prints one picture.
    let once = host.text(["top"]);
    assert!(once.contains("1 held") && once.contains("deploy"), "{once}");
    assert!(!once.contains('\x1b'), "{once}");
}

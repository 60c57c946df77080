//! `cargo xtask demo`: shows Claudine on this machine in half a minute: real commands side by side,
//! an agent if one is installed, and the death of the host while they run.

use std::process::Command;

use anyhow::Result;

use crate::{
    build, setup,
    trial::{Trial, alive, until},
};

/// A command that runs long enough to outlive a host, and short enough to watch.
const COUNT: &str = "for i in 1 2 3 4 5 6 7 8 9 10; do echo \"step $i of 10\"; sleep 1; done";

pub(crate) fn run() -> Result<()> {
    let with_agent = setup::on_path("claude").is_some();
    let plugins: &[&str] = if with_agent {
        &["claude", "shell"]
    } else {
        &["shell"]
    };
    let binary = build::to_show_with(plugins)?;
    let trial = Trial::new(&binary, &[("CLAUDINE_SLOTS", "8")])?;

    heading("A host with its own directory");
    show(&trial, &["up"])?;

    heading("Tasks side by side: each command returns at once, with an id");
    show(&trial, &["run", "--name", "count", "--script", COUNT])?;
    show(
        &trial,
        &[
            "run",
            "--name",
            "words",
            "--",
            "printf",
            "%s\\n",
            "words arrive",
            "as they were given: $HOME * \"'",
        ],
    )?;
    show(&trial, &["run", "--name", "disk", "--", "df", "-h", "/"])?;
    show(
        &trial,
        &["run", "--name", "fails", "--", "ls", "/no/such/directory"],
    )?;
    show(
        &trial,
        &[
            "run",
            "--name",
            "too-long",
            "--timeout",
            "2s",
            "--",
            "sleep",
            "60",
        ],
    )?;
    let agent = delegate_to_claude(&trial, with_agent)?;
    show(&trial, &["list"])?;

    heading("The host dies (kill -9) while they run");
    let pid = until("the task to run", || task_pid(&trial))?;
    let host = trial.kill_host()?;
    println!("$ kill -9 {host}");
    println!(
        "the host is gone; process {pid} of the task `count` is {}",
        if alive(pid) { "alive" } else { "dead" }
    );

    heading("The next command starts a host again, which takes over the running tasks");
    show(&trial, &["status", "count"])?;
    match until("the task to be taken over", || taken_back(&trial))? {
        Some(again) => println!("before: process {pid}; now: process {again}"),
        None => println!("process {pid} has ended meanwhile, and its exit status is known"),
    }

    heading("All tasks end");
    let mut names = vec!["count", "words", "disk", "fails", "too-long"];
    names.extend(agent);
    for name in &names {
        // The exit code of `wait` is that of the task, which is shown below.
        let _ = trial.command(["wait", name]).output()?;
    }
    show(&trial, &["list"])?;
    show(&trial, &["logs", "count", "--tail", "4"])?;
    show(&trial, &["logs", "words"])?;
    show(&trial, &["status", "fails"])?;
    if let Some(agent) = agent {
        show(&trial, &["status", agent])?;
    }

    heading("Next steps");
    println!(
        "This was {}: unless CLAUDINE_BIN is set, a debug build with only the plugins that were \
         needed. To build a binary to keep:",
        binary.display()
    );
    println!("  cargo xtask build                           # optimised, target/release/claudine");
    println!("  claudine delegate --allowed-tools 'Read,Edit,Bash' 'Make the failing test pass.'");
    println!("  claude mcp add claudine -- claudine mcp     # the same for your agent");
    println!("  claudine --help                             # and README.md");
    println!(
        "\nCleaning up: removing the host, its tasks and {}.",
        trial.root().display()
    );
    Ok(())
}

/// The task's name, if Claude Code is installed.
fn delegate_to_claude(trial: &Trial, installed: bool) -> Result<Option<&'static str>> {
    if !installed {
        println!(
            "\n(No `claude` on PATH: the demonstration goes on without an agent. \
             `npm install -g @anthropic-ai/claude-code` gets it.)"
        );
        return Ok(None);
    }
    std::fs::write(
        trial.work().join("note.txt"),
        "The parcel is behind the green door.\n",
    )?;
    let prompt = "Read note.txt and say in one short sentence where the parcel is.";
    show(
        trial,
        &[
            "delegate",
            "--name",
            "agent",
            "--allowed-tools",
            "Read",
            "--max-turns",
            "4",
            "--timeout",
            "2m",
            prompt,
        ],
    )?;
    Ok(Some("agent"))
}

/// The process of the task `count`: `Some(Some(pid))` while it runs, `Some(None)` once the task has
/// ended, and `None` if neither is known yet.
#[allow(
    clippy::option_option,
    reason = "the outer option is `None` as long as nothing is known"
)]
fn taken_back(trial: &Trial) -> Option<Option<u32>> {
    let task = trial.json(["status", "count", "--json"]).ok()?;
    if task["outcome"].is_string() {
        return Some(None);
    }
    task_pid(trial).map(Some)
}

fn task_pid(trial: &Trial) -> Option<u32> {
    let task = trial.json(["status", "count", "--json"]).ok()?;
    let pid = task["attempts"].as_array()?.last()?["pid"]
        .as_u64()
        .filter(|_| task["phase"] == "live")?;
    u32::try_from(pid).ok()
}

fn heading(text: &str) {
    println!("\n── {text}");
}

/// Shows a command and its output, even if it fails.
fn show(trial: &Trial, arguments: &[&str]) -> Result<()> {
    let words: Vec<String> = arguments.iter().map(|word| quoted(word)).collect();
    println!("$ claudine {}", words.join(" "));
    let mut command: Command = trial.command(arguments);
    command.status()?;
    Ok(())
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./,=:%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

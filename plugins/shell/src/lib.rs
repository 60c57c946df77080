//! Runs a command exactly as given, or a script through a named shell.
//!
//! A short script is an argument of the shell (`-c`). Linux takes no argument of 128 KiB or more,
//! so a long one is a file: the host puts it on the shell's standard input, and the shell is told
//! to read `/dev/stdin`, which opens it a second time. The first line then gives the script the
//! empty standard input that it would have had otherwise. Input of its own is refused for a long
//! script rather than mixed into it.

mod spec;

use claudine_plugin_sdk::{Command, Ctx, Draft, Executor, Failure, Issue, Outcome, Task};
use spec::{Spec, Work};

#[derive(Default)]
struct Shell;

impl Executor for Shell {
    type Spec = Spec;

    fn task_schema() -> &'static str {
        include_str!("schema.json")
    }

    fn validate(draft: &Draft<Spec>) -> Vec<Issue> {
        draft.spec.work().err().unwrap_or_default()
    }

    // `authority` is the default: a command may do whatever the user may do. So is `transcript`:
    // what it prints is shown as it is. And so is `resume`: wait for the one child and take its
    // exit status, as here.
    async fn run(&self, task: Task<Spec>, _ctx: Ctx) -> Result<Outcome, Failure> {
        let work = task.spec.work().map_err(first)?;
        Ok(command(work).spawn().await?.wait().await?.into())
    }
}

fn command(work: Work<'_>) -> Command {
    let (command, stdin) = match work {
        Work::Argv {
            command,
            args,
            stdin,
        } => (Command::new(command).args(args), stdin),
        Work::ShortScript {
            shell,
            script,
            stdin,
        } => (Command::new(shell).args(["-c", script]), stdin),
        Work::LongScript { shell, text } => {
            return Command::new(shell).arg("/dev/stdin").stdin_bytes(text);
        }
    };
    match stdin {
        Some(text) => command.stdin_bytes(text),
        None => command,
    }
}

/// The host runs nothing that `validate` refused, so this speaks only to a host that does not ask.
fn first(issues: Vec<Issue>) -> Failure {
    let issue = issues
        .into_iter()
        .next()
        .unwrap_or_else(|| Issue::new("", "the task is not valid"));
    issue.into()
}

claudine_plugin_sdk::export!(Shell);

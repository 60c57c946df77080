//! Runs a command exactly as given, or a script through a named shell.
//!
//! A short script is an argument of the shell (`-c`). Linux accepts no argument of 128 KiB or more,
//! so a long script is a file: the host puts it on the shell's standard input, and the shell reads
//! `/dev/stdin`, which opens the file a second time. The first line of this file then gives the
//! script the empty standard input that a short script has too (in every named shell except fish).
//! A long script cannot be combined with a standard input of its own, because the two would mix.

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

    // Three functions keep their defaults: `authority`, because a command may do anything that the
    // user may do; `transcript`, which shows the output unchanged; and `resume`, which waits for
    // the one child and returns its exit status, as `run` does.
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

/// The first issue as a failure. The host starts no task that `validate` refused, so this is needed
/// only for a host that does not call `validate`.
fn first(issues: Vec<Issue>) -> Failure {
    let issue = issues
        .into_iter()
        .next()
        .unwrap_or_else(|| Issue::new("", "the task is not valid"));
    issue.into()
}

claudine_plugin_sdk::export!(Shell);

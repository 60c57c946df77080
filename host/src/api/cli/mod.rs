//! The command line. Each verb has a file; the doc comment of the verb's type is its manual.
//!
//! Standard output is for data: ids, tables, a task's output, JSON. Messages to a person go to
//! standard error. A command reaches the host only through `client`.

mod arguments;
mod backup;
mod cancel;
mod candidates;
mod capacity;
mod change;
mod checkpoint;
mod complete;
mod completions;
mod config;
mod cost;
mod delegate;
mod diff;
mod doctor;
mod down;
mod editor;
mod enter;
mod environment;
mod events;
mod exit;
mod failure;
mod fields;
mod follow;
mod graph;
mod graph_file;
mod group;
mod help;
mod hold;
mod inside;
mod list;
mod logs;
mod man;
mod mcp;
mod merged;
mod named;
mod output;
mod pager;
mod parse;
mod pause;
mod plugin;
mod progress;
mod resolve;
mod restore;
mod resume;
mod retry;
mod run;
mod schema;
mod select;
mod serve;
mod session;
mod several;
mod slots;
mod spinner;
mod status;
mod stuck;
mod submit;
mod submit_file;
mod table;
mod terminal;
mod text;
mod times;
mod top;
mod transcript;
mod up;
mod wait;
mod watch;
mod why;
mod worktree;

use std::{ffi::OsString, panic::AssertUnwindSafe, process::ExitCode};

use clap::{Args, Parser, Subcommand};

use self::{failure::Failure, help::Layout as _, session::Session};
use super::Wiring;
use crate::{
    app::{AppError, ErrorKind},
    config::Overrides,
};

/// Part of the text below the help of the program.
const EXIT_CODES: &str = "\
Exit codes:
  0        success
  1-123    the task's exit code (1 if it failed without one)
  124      a task timed out
  125      an error of Claudine
  126      the task's command cannot be executed
  127      the task's command was not found
  2        an invalid command line or request
  130      Ctrl-C or a closed pipe left a task running, or a task was cancelled
           before it ran
  143      a task was cancelled while it ran
  128+N    signal N ended the task";

const ENVIRONMENT: &str = "\
Environment:
  CLAUDINE_DATA_DIR   data directory [default: $XDG_STATE_HOME/claudine]
  CLAUDINE_CONFIG     configuration file
                      [default: $XDG_CONFIG_HOME/claudine/config.toml]
  CLAUDINE_SLOTS      concurrent tasks: `auto` or a number; for the next host
  NO_COLOR            disable colours; CLICOLOR_FORCE enables them in a pipe
  COLUMNS             width of output without a terminal, as set by `watch`
  TZ                  time zone of displayed times
`claudine config show` lists the other settings of a host.";

/// Run coding agents and commands in the background, durably.
///
/// A host in the background keeps tasks on disk, runs as many at once as the machine has room for,
/// keeps their output, and finds running tasks again after a crash. Commands start the host if they
/// need it. `claudine COMMAND -h` has the usual options of a command, `--help` all of them.
#[derive(Debug, Parser)]
#[command(name = "claudine", version, max_term_width = 100, in_groups(), after_long_help = format!("{EXIT_CODES}\n\n{ENVIRONMENT}"))]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    verb: Verb,
}

/// Options of every command.
#[derive(Clone, Debug, Args)]
struct Common {
    /// Data directory; each has its own host.
    #[arg(
        long,
        global = true,
        hide_short_help = true,
        value_name = "DIR",
        help_heading = "Common options"
    )]
    data_dir: Option<std::path::PathBuf>,
    /// Print JSON; `--json=id,state` selects fields
    ///
    /// An error is then a line of JSON on standard error. `claudine schema` describes both.
    #[arg(
        long,
        global = true,
        value_name = "FIELDS",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "",
        help_heading = "Common options"
    )]
    json: Option<String>,
    /// Use colours: auto, always or never.
    #[arg(
        long,
        global = true,
        hide_short_help = true,
        value_name = "WHEN",
        default_value = "auto",
        help_heading = "Common options"
    )]
    color: terminal::ColourWhen,
}

impl Common {
    fn json(&self) -> bool {
        self.json.is_some()
    }

    /// Fields selected by `--json=FIELDS`; empty for all.
    fn fields(&self) -> Vec<String> {
        let fields = self.json.iter().flat_map(|fields| fields.split(','));
        let fields = fields.map(str::trim).filter(|field| !field.is_empty());
        fields.map(str::to_owned).collect()
    }

    fn overrides(&self) -> Overrides {
        Overrides {
            data_dir: self.data_dir.clone(),
            ..Overrides::default()
        }
    }
}

#[derive(Debug, Subcommand)]
#[expect(
    clippy::large_enum_variant,
    reason = "a process has only one value of this type"
)]
enum Verb {
    #[command(flatten)]
    Asking(Asking),
    #[command(flatten)]
    Local(Local),
}

impl Verb {
    /// The schema of the answer, if the options decide which of several answers it is.
    fn answer(&self) -> Option<schema::Of> {
        let Self::Asking(verb) = self else {
            return None;
        };
        match verb {
            Asking::Delegate(verb) => Some(schema::of_submission(verb.waits())),
            Asking::Run(verb) => Some(schema::of_submission(verb.waits())),
            Asking::Submit(verb) => Some(schema::of_file(verb.is_dry_run())),
            Asking::Pause(verb) => Some(schema::of_pause(verb.is_of_group())),
            Asking::Unpause(verb) => Some(schema::of_pause(verb.is_of_group())),
            _ => None,
        }
    }
}

/// Commands that ask a host.
#[derive(Debug, Subcommand)]
enum Asking {
    Delegate(delegate::Delegate),
    Run(run::Run),
    Submit(submit_file::Submit),
    Top(top::Top),
    List(list::List),
    Status(status::Status),
    Logs(logs::Logs),
    Events(events::Events),
    Graph(graph::Graph),
    Wait(wait::Wait),
    Cancel(cancel::Cancel),
    Retry(retry::Retry),
    Resume(resume::Resume),
    Checkpoint(checkpoint::Checkpoint),
    Hold(hold::Hold),
    Release(hold::Release),
    Group(group::Group),
    Pause(pause::Pause),
    Unpause(pause::Unpause),
    Worktree(worktree::Worktree),
    Diff(diff::Diff),
    Enter(enter::Enter),
    Why(why::Why),
    Capacity(capacity::Capacity),
    Cost(cost::Cost),
    Slots(slots::Slots),
    Up(up::Up),
    Down(down::Down),
    Doctor(doctor::Doctor),
}

/// Commands that need no host, are the host, or decide themselves whether they need one.
#[derive(Debug, Subcommand)]
enum Local {
    Mcp(mcp::Mcp),
    Plugin(plugin::Plugin),
    Serve(serve::Serve),
    Backup(backup::Backup),
    Restore(restore::Restore),
    Config(config::Config),
    Schema(schema::Schema),
    Completions(completions::Completions),
    Man(man::Man),
}

/// Parses the arguments, of which the first is the program's name, runs the command and reports the
/// result.
pub(crate) fn run(arguments: Vec<OsString>, wiring: Wiring) -> ExitCode {
    if let Some(code) = complete::answer(&arguments, wiring) {
        return code;
    }
    let parsed = arguments::parse(arguments.clone());
    let json = match &parsed {
        Ok(cli) => cli.common.json(),
        Err(_) => arguments::asks_for_json(&arguments),
    };
    let done = parsed.and_then(|cli| {
        let fields = cli.common.fields();
        if !fields.is_empty() {
            let command = arguments::command(&arguments);
            schema::check_fields(&command, cli.verb.answer(), &fields)?;
            output::select(fields);
        }
        unless_it_panics(|| carry_out(cli, wiring))
    });
    done.unwrap_or_else(|failure| exit::report(failure, json))
}

/// Turns a panic into an error, because the exit code of a panic, 101, could be that of a task. The
/// message of the panic is written when it occurs. A panic need not be an error in Claudine: an
/// async runtime panics if too few files may be open.
fn unless_it_panics(work: impl FnOnce() -> Result<ExitCode, Failure>) -> Result<ExitCode, Failure> {
    std::panic::catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        let message = "this command has panicked; the reason is printed above";
        Err(AppError::new(ErrorKind::Internal, message).into())
    })
}

fn carry_out(cli: Cli, wiring: Wiring) -> Result<ExitCode, Failure> {
    terminal::set_colours(cli.common.color);
    match cli.verb {
        Verb::Asking(verb) => ask(verb, &Session::new(&cli.common, wiring)?),
        Verb::Local(verb) => match verb {
            Local::Mcp(verb) => verb.run(&cli.common, wiring),
            Local::Plugin(verb) => verb.run(&cli.common, wiring),
            Local::Serve(verb) => verb.run(&cli.common, wiring),
            Local::Backup(verb) => verb.run(&cli.common, wiring),
            Local::Restore(verb) => verb.run(&cli.common, wiring),
            Local::Config(verb) => verb.run(&cli.common, wiring),
            Local::Schema(verb) => verb.run(cli.common.json()),
            Local::Completions(verb) => verb.run(),
            Local::Man(verb) => verb.run(),
        },
    }
}

fn ask(verb: Asking, session: &Session) -> Result<ExitCode, Failure> {
    session.block_on(async {
        match verb {
            // Boxed, because these futures are much larger than the others.
            Asking::Delegate(verb) => Box::pin(verb.run(session)).await,
            Asking::Run(verb) => Box::pin(verb.run(session)).await,
            Asking::Submit(verb) => verb.run(session).await,
            Asking::Top(verb) => Box::pin(verb.run(session)).await,
            Asking::List(verb) => verb.run(session).await,
            Asking::Status(verb) => verb.run(session).await,
            Asking::Logs(verb) => verb.run(session).await,
            Asking::Events(verb) => verb.run(session).await,
            Asking::Graph(verb) => verb.run(session).await,
            Asking::Wait(verb) => verb.run(session).await,
            Asking::Cancel(verb) => verb.run(session).await,
            Asking::Retry(verb) => verb.run(session).await,
            Asking::Resume(verb) => verb.run(session).await,
            Asking::Checkpoint(verb) => verb.run(session).await,
            Asking::Hold(verb) => verb.run(session).await,
            Asking::Release(verb) => verb.run(session).await,
            Asking::Group(verb) => verb.run(session).await,
            Asking::Pause(verb) => verb.run(session).await,
            Asking::Unpause(verb) => verb.run(session).await,
            Asking::Worktree(verb) => verb.run(session).await,
            Asking::Diff(verb) => verb.run(session).await,
            Asking::Enter(verb) => verb.run(session).await,
            Asking::Why(verb) => verb.run(session).await,
            Asking::Capacity(verb) => verb.run(session).await,
            Asking::Cost(verb) => verb.run(session).await,
            Asking::Slots(verb) => verb.run(session).await,
            Asking::Up(verb) => verb.run(session).await,
            Asking::Down(verb) => verb.run(session).await,
            Asking::Doctor(verb) => verb.run(session).await,
        }
    })
}

#[cfg(test)]
pub(in crate::api) use exit::tests::task;

#[cfg(test)]
mod tests {
    use clap::{Command, CommandFactory, builder::StyledStr};

    use super::Cli;
    use crate::text::{columns, plain};

    /// Collects the help of every command, as `-h` and `--help` print it in colour.
    fn help_of_all(command: &mut Command, path: &str, into: &mut String) {
        let mut add = |option: &str, help: &StyledStr| {
            let help = help.ansi().to_string();
            into.extend(["==== ", path, option, "\n", &help, "\n"]);
        };
        add(" -h", &command.render_help());
        add(" --help", &command.render_long_help());
        for sub in command
            .get_subcommands_mut()
            .filter(|sub| sub.get_name() != "help")
        {
            let path = format!("{path} {}", sub.get_name());
            help_of_all(sub, &path, into);
        }
    }

    #[test]
    fn the_help_of_every_command_is_as_recorded() {
        let help = |width: usize| {
            let mut command = Cli::command().term_width(width);
            command.build();
            let mut help = String::new();
            help_of_all(&mut command, "claudine", &mut help);
            for line in plain(&help).lines() {
                assert!(columns(line) <= width, "{width}: {line}");
            }
            help
        };
        insta::assert_snapshot!("help_at_80_in_colour", help(80).replace('\u{1b}', "␛"));
        insta::assert_snapshot!("help_at_80", plain(&help(80)));
        // The help is never wider than 100 columns.
        insta::assert_snapshot!("help_at_120", plain(&help(100)));
    }
}

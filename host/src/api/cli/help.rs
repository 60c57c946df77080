//! Layout of the help: commands in groups, examples first, and the usual options on top.

use clap::{Arg, Command};

/// Commands by purpose; each is in one group.
const GROUPS: [(&str, &[&str]); 4] = [
    (
        "Start work",
        &["delegate", "run", "submit", "retry", "resume"],
    ),
    (
        "Look",
        &[
            "top",
            "list",
            "status",
            "logs",
            "why",
            "graph",
            "diff",
            "checkpoint",
            "events",
            "cost",
            "capacity",
        ],
    ),
    (
        "Steer",
        &[
            "wait", "cancel", "hold", "release", "pause", "unpause", "group", "slots", "worktree",
            "enter",
        ],
    ),
    (
        "Set up",
        &[
            "up",
            "down",
            "serve",
            "doctor",
            "config",
            "mcp",
            "plugin",
            "schema",
            "backup",
            "restore",
            "completions",
            "man",
        ],
    ),
];

/// Template of a command's help, with the examples above the options.
const COMMAND: &str = "\
{before-help}{about-with-newline}
{usage-heading} {usage}{after-help}

{all-args}";

/// Changes to the layout of a command's help.
pub(super) trait Layout: Sized {
    /// Lists the commands in groups, and puts each command's examples above its options.
    fn in_groups(self) -> Self;
    /// Lists these options first, in this order and without a heading, in the short help too.
    fn options_first(self, first: &[&str]) -> Self;
}

impl Layout for Command {
    fn in_groups(self) -> Self {
        let template = root(&self);
        self.help_template(template)
            .mut_subcommands(examples_on_top)
            .mut_subcommands(with_negative_numbers)
    }

    fn options_first(self, first: &[&str]) -> Self {
        self.mut_args(|option| match place(&option, first) {
            Some(place) => option
                .help_heading(None::<&'static str>)
                .display_order(place)
                .hide_short_help(false),
            None => option,
        })
    }
}

fn place(option: &Arg, first: &[&str]) -> Option<usize> {
    let long = option.get_long()?;
    first.iter().position(|name| *name == long)
}

fn examples_on_top(command: Command) -> Command {
    command
        .help_template(COMMAND)
        .mut_subcommands(examples_on_top)
}

/// Lets a negative number be the value of any option. The error for `--limit -1` then gives the
/// range of the option, while clap alone would report an unexpected argument `-1`.
fn with_negative_numbers(command: Command) -> Command {
    let takes = |option: &Arg| !option.is_positional() && option.get_action().takes_values();
    command
        .mut_args(|option| {
            if takes(&option) && !option.is_allow_hyphen_values_set() {
                option.allow_negative_numbers(true)
            } else {
                option
            }
        })
        .mut_subcommands(with_negative_numbers)
}

/// Help of the program. A command that is missing from the groups is listed under `Other`.
fn root(program: &Command) -> String {
    let header = program.get_styles().get_header();
    let is_grouped = |name: &str| GROUPS.iter().any(|(_, names)| names.contains(&name));
    let commands = program.get_subcommands().map(Command::get_name);
    let others: Vec<&str> = commands.filter(|name| !is_grouped(name)).collect();
    let width = program.get_subcommands().map(|sub| sub.get_name().len());
    let width = width.max().unwrap_or_default();
    let groups = GROUPS.iter().copied().chain([("Other", others.as_slice())]);
    let groups: Vec<String> = groups
        .filter(|(_, names)| !names.is_empty())
        .map(|(group, names)| {
            let found = names
                .iter()
                .filter_map(|name| program.find_subcommand(name));
            let lines: String = found.map(|command| line(command, width)).collect();
            format!("{header}{group}:{header:#}\n{lines}\n")
        })
        .collect();
    let groups = groups.concat();
    format!(
        "{{before-help}}{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\n{groups}\
         {header}Options:{header:#}\n{{options}}{{after-help}}"
    )
}

/// The line of a command: `  list         List tasks [aliases: ls, ps]`.
fn line(command: &Command, width: usize) -> String {
    let literal = command.get_styles().get_literal();
    let name = command.get_name();
    let about = command.get_about().map(ToString::to_string);
    let about = about.unwrap_or_default();
    let aliases: Vec<&str> = command.get_visible_aliases().collect();
    let aliases = match aliases.as_slice() {
        [] => String::new(),
        [alias] => format!(" [alias: {alias}]"),
        several => format!(" [aliases: {}]", several.join(", ")),
    };
    let space = " ".repeat(width.saturating_sub(name.len()) + 2);
    format!("  {literal}{name}{literal:#}{space}{about}{aliases}\n")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use clap::CommandFactory;

    use super::*;
    use crate::api::cli::Cli;

    #[test]
    fn each_command_is_in_exactly_one_group_of_the_help() {
        let program = Cli::command();
        let grouped = || GROUPS.iter().flat_map(|(_, names)| names.iter().copied());
        for command in program.get_subcommands() {
            let name = command.get_name();
            let groups = grouped().filter(|grouped| *grouped == name).count();
            assert_eq!(groups, 1, "{name}");
        }
        for name in grouped() {
            assert!(program.find_subcommand(name).is_some(), "{name}");
        }
    }

    /// Runs the check for every subcommand, with its path.
    fn for_each(command: &mut Command, path: &str, check: &mut impl FnMut(&mut Command, &str)) {
        let subs = command.get_subcommands_mut();
        for sub in subs.filter(|sub| sub.get_name() != "help") {
            let path = format!("{path} {}", sub.get_name());
            check(sub, &path);
            for_each(sub, &path, check);
        }
    }

    #[test]
    fn the_summary_of_a_command_fits_on_a_line() {
        let mut program = Cli::command();
        for_each(
            &mut program,
            "claudine",
            &mut |command: &mut Command, path: &str| {
                let about = command.get_about().map(ToString::to_string);
                let about = about.unwrap_or_default();
                assert!(about.chars().count() <= 70, "{path}: {about}");
            },
        );
    }

    #[test]
    fn short_help_fits_on_a_screen() {
        for width in [80, 100] {
            let mut program = Cli::command().term_width(width);
            program.build();
            for_each(
                &mut program,
                "claudine",
                &mut |command: &mut Command, path: &str| {
                    let help = command.render_help().to_string();
                    assert!(help.lines().count() <= 40, "{path} -h:\n{help}");
                },
            );
        }
    }

    /// A longer line would be wrapped, but an example is to be copied, and a table is to be read.
    #[test]
    fn examples_and_tables_fit_on_a_screen_as_they_are_written() {
        let mut check = |command: &mut Command, path: &str| {
            let texts = [command.get_after_help(), command.get_after_long_help()];
            for text in texts.into_iter().flatten().map(ToString::to_string) {
                for line in text.lines() {
                    assert!(line.chars().count() <= 80, "{path}: {line}");
                }
            }
        };
        let mut program = Cli::command();
        check(&mut program, "claudine");
        for_each(&mut program, "claudine", &mut check);
    }

    #[test]
    fn the_help_of_delegate_lists_its_usual_options_first() {
        let mut program = Cli::command().term_width(100);
        program.build();
        let delegate = program.find_subcommand_mut("delegate").unwrap();
        let help = delegate.render_help().to_string();
        let (_, options) = help.split_once("\nOptions:\n").unwrap();
        let options = options.lines().take_while(|line| !line.is_empty());
        let options: Vec<_> = options
            .filter_map(|line| line.split_whitespace().find(|word| word.starts_with("--")))
            .collect();
        let expected = [
            "--wait",
            "--name",
            "--depends-on",
            "--worktree",
            "--allowed-tools",
            "--model",
            "--help",
        ];
        assert_eq!(options, expected, "{help}");
    }
}

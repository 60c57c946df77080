//! Says in the words of the tools what an error says in the words of the command line.
//!
//! The same errors reach persons and clients. A client knows the arguments of the tools and not the
//! options of commands, and may have no command line. So options become arguments, a command that a
//! tool replaces becomes the tool, and a note says who can run other commands. A message may quote
//! values of the client, and a hint quotes only what a person types.

use crate::text::{harmless, shortened};

/// Length limit of the name of an unknown method or tool in its refusal.
const NAME_CHARS: usize = 80;

/// Options, and the arguments that mean the same.
const ARGUMENTS: [(&str, &str); 11] = [
    ("--allowed-tools", "allowedTools"),
    ("--base", "baseBranch"),
    ("--branch", "branchName"),
    ("--budget-usd", "budgetUsd"),
    ("--graph", "graph"),
    ("--keep-worktree", "keepWorktree"),
    ("--max-turns", "maxTurns"),
    ("--merge", "mergeStrategy"),
    ("--permission-mode", "permissionMode"),
    ("--timeout", "timeout"),
    ("--worktree", "useWorktree"),
];

/// The call that starts a waiting task now.
const RETRY_NOW: &str = "RetryTask with `now: true`";

/// Marks in texts the words that are typed.
const QUOTE: char = '`';

/// The message for a client. Quotations stay as they are, because they may be values of the client.
pub(super) fn message(text: &str) -> String {
    reworded(text, |part| format!("`{part}`"))
}

/// The hint for a client. Its quotations are words of the command line.
pub(super) fn hint(text: &str) -> String {
    let is_for_person = text.contains("a person");
    reworded(text, |part| match call(part, is_for_person) {
        Some(call) => call.to_owned(),
        None => format!("`{}`", replaced(part)),
    })
}

/// The reason why a task waits, for a client. Only the command that starts the task is replaced,
/// because reasons quote values of the client and commands of persons.
pub(super) fn reason(text: &str) -> String {
    let replaced = || {
        let (before, rest) = text.split_once("`claudine retry --now ")?;
        let (_, after) = rest.split_once("` starts the task now")?;
        Some(format!("{before}{RETRY_NOW} starts the task now{after}"))
    };
    replaced().unwrap_or_else(|| text.to_owned())
}

/// The text with arguments in place of options. `quotation` rewords the text between quotes.
fn reworded(text: &str, quotation: impl Fn(&str) -> String) -> String {
    // Without its second half, a quotation cannot be told from other text.
    if !text.matches(QUOTE).count().is_multiple_of(2) {
        return text.to_owned();
    }
    let mut said = String::with_capacity(text.len());
    for (index, part) in text.split(QUOTE).enumerate() {
        if index % 2 == 0 {
            part.split_inclusive(' ')
                .for_each(|word| said.push_str(&replaced(word)));
        } else {
            said.push_str(&quotation(part));
        }
    }
    said
}

/// A note for a text that names commands, unless the text says who runs them.
pub(super) fn note(text: &str) -> Option<&'static str> {
    let quoted = || text.split(QUOTE).skip(1).step_by(2);
    let names_a_command = quoted().any(|part| part.starts_with("claudine "));
    let note = "a person can run the command";
    (names_a_command && !text.contains("a person")).then_some(note)
}

/// The call that replaces a command. A command for a person is replaced only if a client may do the
/// same.
fn call(command: &str, is_for_person: bool) -> Option<&'static str> {
    if command == "claudine list" {
        Some("ListTasks")
    } else if command == "claudine worktree list" {
        Some("TaskStatus")
    } else if command.starts_with("claudine retry --now ") {
        Some(RETRY_NOW)
    } else {
        let (verb, task) = command.strip_prefix("claudine ")?.split_once(' ')?;
        let is_plain = !is_for_person && !task.contains(' ') && !task.starts_with('-');
        match verb {
            "cancel" if is_plain => Some("CancelTask"),
            "retry" if is_plain => Some("RetryTask"),
            "status" | "why" if is_plain => Some("TaskStatus"),
            "wait" if is_plain => Some("WaitTask"),
            _ => None,
        }
    }
}

/// A word with the argument in place of an option. A command in quotes is no option.
fn replaced(word: &str) -> String {
    let bare = word.trim_end_matches([' ', ',', '.', ';', ':', ')']);
    let found = ARGUMENTS.iter().find(|(option, _)| *option == bare);
    match found {
        Some((option, argument)) => word.replacen(option, argument, 1),
        None => word.to_owned(),
    }
}

/// The name of an unknown method or tool, for its refusal.
pub(super) fn shown_name(name: &str) -> String {
    shortened(&harmless(name), NAME_CHARS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_become_arguments_and_commands_become_calls_or_get_a_note() {
        let check = |text: &str, expected: &str, has_note: bool| {
            let said = hint(text);
            assert_eq!(said, expected);
            assert_eq!(note(&said).is_some(), has_note, "{text}");
        };
        check(
            "choose --merge auto, pr or patch",
            "choose mergeStrategy auto, pr or patch",
            false,
        );
        check(
            "choose another name, or leave out --branch to have one named after the task",
            "choose another name, or leave out branchName to have one named after the task",
            false,
        );
        check(
            "`--budget-usd` is the budget of the task itself",
            "`budgetUsd` is the budget of the task itself",
            false,
        );
        check(
            "name a branch with --base, or choose --merge manual",
            "name a branch with baseBranch, or choose mergeStrategy manual",
            false,
        );
        check(
            "`claudine list` lists the tasks",
            "ListTasks lists the tasks",
            false,
        );
        check(
            "look at `claudine worktree list` before repeating it",
            "look at TaskStatus before repeating it",
            false,
        );
        check(
            "`claudine retry --now x7tqrp` starts the task now",
            "RetryTask with `now: true` starts the task now",
            false,
        );
        check(
            "`claudine wait x7tqrp` waits for its end, `claudine cancel x7tqrp` ends it",
            "WaitTask waits for its end, CancelTask ends it",
            false,
        );
        check(
            "`claudine retry x7tqrp` runs it again",
            "RetryTask runs it again",
            false,
        );
        for command in ["claudine status x7tqrp", "claudine why x7tqrp"] {
            check(
                &format!("`{command}` shows it"),
                "TaskStatus shows it",
                false,
            );
        }
        check("`claudine cancel --all`", "`claudine cancel --all`", true);
        let for_person = "a person can run this one again with `claudine retry x7tqrp`";
        check(for_person, for_person, false);
        // A command stays as it has to be typed.
        let command = "`claudine resume x7tqrp --budget-usd 5` gives it more";
        check(command, command, true);
        let for_person = "a person can release it with `claudine release x7tqrp`";
        check(for_person, for_person, false);
        let other = "`git init` makes one; an unmatched quote of --mergers";
        check(other, other, false);
        check("a `half of --merge", "a `half of --merge", false);
    }

    #[test]
    fn only_the_command_that_starts_a_waiting_task_becomes_a_call_in_a_reason() {
        let limit = "Claude usage limit (5-hour) until 2026-11-22T20:15:00.000Z; ";
        assert_eq!(
            reason(&format!(
                "{limit}`claudine retry --now x7tqrp` starts the task now"
            )),
            format!("{limit}RetryTask with `now: true` starts the task now")
        );
        for text in [
            "no task matches `claudine list`",
            "`claudine worktree merge x7tqrp` merges --base again",
            "`claudine retry --now x7tqrp` is a task of the client",
        ] {
            assert_eq!(reason(text), text);
        }
    }

    #[test]
    fn values_that_a_message_quotes_stay() {
        for text in [
            "`--merge` cannot be the name of a branch",
            "no task matches `claudine list`",
        ] {
            assert_eq!(message(text), text);
        }
        assert_eq!(
            message("--merge auto would move `--base`"),
            "mergeStrategy auto would move `--base`"
        );
    }
}

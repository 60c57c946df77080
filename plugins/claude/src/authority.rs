//! Authority of a task for Claude Code.
//!
//! Each list here names known items: a mode, a tool or an option that is in no list counts as full
//! authority. An agent of a restrained principal gets only the tools in these lists, up to its
//! authority, so that no tool of a later version, of a plugin or of a setting is beyond it. The
//! workspace's own settings, hooks and commands are not considered.

use claudine_plugin_sdk::{Authority, Step};

use crate::Config;
use crate::spec::{PermissionMode, Spec};

/// Tools that only read, and `TodoWrite`, which writes a list of the session's own. `Agent` is one
/// of them, because a subagent needs the same permissions for its tools as the agent.
///
/// `ExitPlanMode` is none of them: a version that offers the tool without a terminal would leave
/// plan mode without a person's approval.
const READING_TOOLS: &[&str] = &[
    "Agent",
    "BashOutput",
    "Glob",
    "Grep",
    "LS",
    "NotebookRead",
    "Read",
    "Task",
    "TaskOutput",
    "TodoWrite",
];

const EDITING_TOOLS: &[&str] = &["Edit", "MultiEdit", "NotebookEdit", "Write"];

/// The tool that runs commands. Claude Code runs commands that it takes for reading, such as
/// `git log`, without a permission and in every permission mode, and git runs the programs that the
/// directory's `.git/config` names.
const COMMANDS: &str = "Bash";

pub(crate) const NETWORK_TOOLS: &[&str] = &["WebFetch", "WebSearch"];

/// The extra that the network tools need.
const NETWORK: &str = "network";

/// Programs that run any command given to them, so a pattern that leaves their arguments open
/// limits nothing.
const RUNS_ANYTHING: &[&str] = &[
    "ash", "awk", "bash", "bun", "busybox", "dash", "deno", "doas", "env", "exec", "eval", "find",
    "fish", "ksh", "lua", "node", "nohup", "npx", "perl", "php", "python", "python3", "ruby", "sh",
    "ssh", "su", "sudo", "time", "timeout", "uvx", "xargs", "zsh",
];

/// Number of values that an option takes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Values {
    None,
    One,
    /// All values up to the next option.
    Many,
}

/// Options that give the agent no further abilities.
const HARMLESS_OPTIONS: &[(&str, Values)] = &[
    ("--betas", Values::Many),
    ("--disable-slash-commands", Values::None),
    ("--disallowed-tools", Values::Many),
    ("--disallowedTools", Values::Many),
    ("--effort", Values::One),
    ("--fallback-model", Values::One),
    ("--include-partial-messages", Values::None),
    ("--json-schema", Values::One),
    ("--no-session-persistence", Values::None),
    ("--strict-mcp-config", Values::None),
];

/// Gives the tools access to another directory. Claude Code would also load the skills, commands,
/// subagents and plugins that this directory names, but not for a restrained principal's agent,
/// because [`crate::start`] leaves out the settings of projects for such an agent.
const ADD_DIRECTORY: &str = "--add-dir";

pub(crate) fn of(spec: &Spec, config: &Config) -> Authority {
    let mut authority = of_mode(spec.mode(config));
    if names_a_command(&spec.prompt) {
        return Authority::full();
    }
    for list in &spec.allowed_tools {
        let Some(tools) = split(list) else {
            return Authority::full();
        };
        authority = tools.into_iter().fold(authority, with_tool);
    }
    with_options(authority, &spec.extra_args)
}

/// The tools of a restrained agent with this authority, or `None` if it may do anything.
pub(crate) fn tools(step: Step, has_network: bool) -> Option<Vec<&'static str>> {
    if step >= Step::Full {
        return None;
    }
    let mut tools = READING_TOOLS.to_vec();
    if has_network {
        tools.extend(NETWORK_TOOLS);
    }
    if step >= Step::Edit {
        tools.extend(EDITING_TOOLS);
    }
    if step >= Step::Run {
        tools.push(COMMANDS);
    }
    Some(tools)
}

/// Whether a restrained task may use the network, given the extras that it may have (`*` for all).
pub(crate) fn allows_network(extras: &str) -> bool {
    extras.split(',').any(|it| it == NETWORK || it == "*")
}

/// Authority of a permission mode. Calls that need an approval do not count, because nobody is
/// there to approve them and all are denied.
fn of_mode(mode: PermissionMode) -> Authority {
    Authority::of(match mode {
        PermissionMode::Plan
        | PermissionMode::Default
        | PermissionMode::DontAsk
        | PermissionMode::Manual => Step::Read,
        PermissionMode::AcceptEdits => Step::Edit,
        // In mode `auto`, a model decides which calls are allowed.
        PermissionMode::Auto | PermissionMode::BypassPermissions => Step::Full,
    })
}

/// Whether the prompt is a command of the workspace or the user, such as `/deploy now`, which may
/// grant permissions for tools. A path is not a command.
fn names_a_command(prompt: &str) -> bool {
    let prompt = prompt.trim_start_matches(is_unseen);
    let first = prompt.split_whitespace().next().unwrap_or_default();
    first
        .strip_prefix('/')
        .is_some_and(|name| !name.is_empty() && !name.contains('/'))
}

/// Whether a character before a command may be no part of the prompt for Claude Code, which treats
/// a byte order mark as white space. All characters that cannot be seen count, because versions
/// differ, and because a person who reads the prompt does not see them either.
fn is_unseen(it: char) -> bool {
    it.is_whitespace()
        || it.is_control()
        || matches!(it,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffc}' | '\u{13430}'..='\u{1343f}'
            | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// Splits tools that are listed in one string, `Bash(git status), Edit`, as Claude Code does: at
/// commas and spaces outside of parentheses. `None` if parentheses are nested or unbalanced: Claude
/// Code does not count them, so `Read((a),Bash,x)` allows `Bash`.
fn split(list: &str) -> Option<Vec<&str>> {
    let mut depth = 0_u32;
    for character in list.chars() {
        depth = match character {
            '(' if depth == 0 => 1,
            ')' if depth == 1 => 0,
            '(' | ')' => return None,
            _ => depth,
        };
    }
    if depth != 0 {
        return None;
    }
    let mut is_inside = false;
    let tools = list.split(|character: char| {
        match character {
            '(' => is_inside = true,
            ')' => is_inside = false,
            _ => {}
        }
        !is_inside && (character == ',' || character.is_whitespace())
    });
    Some(tools.filter(|tool| !tool.is_empty()).collect())
}

fn with_tool(authority: Authority, tool: &str) -> Authority {
    let (name, pattern) = match tool.split_once('(') {
        None => (tool, None),
        Some((name, rest)) => match rest.strip_suffix(')') {
            // Text between two patterns, as in `Read(a)x(b)`, has no documented meaning.
            Some(pattern) if !pattern.contains(['(', ')']) => (name, Some(pattern)),
            _ => return Authority::full(),
        },
    };
    if READING_TOOLS.contains(&name) {
        authority
    } else if EDITING_TOOLS.contains(&name) && pattern.is_some_and(is_inside) {
        authority.at_least(Step::Edit)
    } else if NETWORK_TOOLS.contains(&name) {
        authority.with(NETWORK)
    } else if name == COMMANDS && pattern.is_some_and(is_bounded) {
        authority.at_least(Step::Run)
    } else {
        Authority::full()
    }
}

/// Whether a pattern of files matches only files in the task's directory. A tool without a pattern
/// may write anywhere, and so may one with a pattern that begins with `//` or `~`. A pattern with
/// characters that could have another meaning does not count, nor does `*` alone, because versions
/// differ in whether this is a pattern at all.
fn is_inside(pattern: &str) -> bool {
    let is_plain = |it: char| it.is_alphanumeric() || "*?/.-_+".contains(it);
    !matches!(pattern, "" | "*")
        && !pattern.starts_with('/')
        && pattern.chars().all(is_plain)
        && pattern.split('/').all(|part| part != "..")
}

/// Whether a pattern names its program, and either leaves no arguments open or names a program that
/// runs no other commands.
fn is_bounded(pattern: &str) -> bool {
    let is_open = pattern.contains('*');
    let program = pattern.split_whitespace().next().unwrap_or_default();
    let program = program.strip_suffix(":*").unwrap_or(program);
    let name = program.rsplit('/').next().unwrap_or_default();
    let is_named = !name.is_empty() && !program.contains(['*', '=', '$', '`']);
    is_named && !(is_open && RUNS_ANYTHING.contains(&name))
}

fn with_options(mut authority: Authority, arguments: &[String]) -> Authority {
    let mut rest = arguments.iter().map(String::as_str).peekable();
    while let Some(argument) = rest.next() {
        let (name, value) = match argument.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (argument, None),
        };
        let values = match HARMLESS_OPTIONS.iter().find(|(known, _)| *known == name) {
            Some((_, values)) => *values,
            None if name == ADD_DIRECTORY => {
                // An agent that may edit files in another directory could change a start-up file
                // there, and so decide what other programs run.
                if authority.step() >= Step::Edit {
                    authority = Authority::full();
                }
                Values::Many
            }
            None => return Authority::full(),
        };
        match (values, value) {
            (Values::None, None) | (Values::One | Values::Many, Some(_)) => {}
            (Values::One, None) => {
                if rest.next().is_none_or(|value| value.starts_with('-')) {
                    return Authority::full();
                }
            }
            (Values::Many, None) => {
                // Without a value, this option takes the next option as its value, which might be
                // the option that limits the agent.
                if rest.next_if(|value| !value.starts_with('-')).is_none() {
                    return Authority::full();
                }
                while rest.next_if(|value| !value.starts_with('-')).is_some() {}
            }
            (Values::None, Some(_)) => return Authority::full(),
        }
    }
    authority
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use serde_json::{Value, json};

    use super::*;

    fn authority(spec: Value, config: Value) -> String {
        let mut whole = json!({"prompt": "do it"});
        whole
            .as_object_mut()
            .unwrap()
            .extend(spec.as_object().unwrap().clone());
        let spec: Spec = serde_json::from_value(whole).unwrap();
        let config: Config = serde_json::from_value(config).unwrap();
        let authority = of(&spec, &config);
        let mut text = authority.step().as_str().to_owned();
        for extra in authority.extras() {
            text.push('+');
            text.push_str(extra);
        }
        text
    }

    fn check(spec: Value, expected: &str) {
        assert_eq!(authority(spec.clone(), json!({})), expected, "{spec}");
    }

    #[test]
    fn mode_of_the_task_overrides_the_configuration() {
        for (mode, expected) in [
            ("plan", "read"),
            ("default", "read"),
            ("dontAsk", "read"),
            ("manual", "read"),
            ("acceptEdits", "edit"),
            ("auto", "full"),
            ("bypassPermissions", "full"),
        ] {
            check(json!({"permission_mode": mode}), expected);
            let config = json!({"permission_mode": mode});
            assert_eq!(authority(json!({}), config.clone()), expected);
            assert_eq!(
                authority(json!({"permission_mode": "plan"}), config),
                "read"
            );
        }
        check(json!({}), "edit");
    }

    #[test]
    fn allowed_tool_raises_the_authority() {
        for (tools, expected) in [
            (json!(["Read", "Grep(src/**)", "Task"]), "read"),
            (json!(["Edit(**)"]), "edit"),
            (json!(["Edit(./**)", "Write(notes.md)"]), "edit"),
            (json!(["Edit(src/**)", "Read"]), "edit"),
            (json!(["Edit"]), "full"),
            (json!(["Write"]), "full"),
            (json!(["MultiEdit"]), "full"),
            (json!(["NotebookEdit"]), "full"),
            (json!(["Read, Write"]), "full"),
            (json!(["Edit()"]), "full"),
            (json!(["Edit(*)"]), "full"),
            (json!(["Edit(//**)"]), "full"),
            (json!(["Edit(//home/me/**)"]), "full"),
            (json!(["Edit(/**)"]), "full"),
            (json!(["Edit(~/**)"]), "full"),
            (json!(["Edit(~root/**)"]), "full"),
            (json!(["Edit(../**)"]), "full"),
            (json!(["Edit(src/../../**)"]), "full"),
            (json!(["Edit(..)"]), "full"),
            (json!(["Edit( //**)"]), "full"),
            (json!(["Edit($HOME/**)"]), "full"),
            (json!(["Edit({a,//}/**)"]), "full"),
            (json!(["Edit(\\//**)"]), "full"),
            (json!(["Edit([/]/**)"]), "full"),
            (json!(["Edit(!x)"]), "full"),
            (json!(["Write(//**)"]), "full"),
            (json!(["WebFetch(domain:example.com)"]), "read+network"),
            (json!(["WebSearch", "Write(out/**)"]), "edit+network"),
            (json!(["Bash(npm test)"]), "run"),
            (json!(["Bash(npm run test:*)", "Bash(git *)"]), "run"),
            (json!(["Bash(python3 check.py)"]), "run"),
            (json!(["Read, Edit(**) Bash(git status)"]), "run"),
            (json!(["Bash"]), "full"),
            (json!(["Read Bash"]), "full"),
            (json!(["Bash()"]), "full"),
            (json!(["Bash(*)"]), "full"),
            (json!(["Bash(:*)"]), "full"),
            (json!(["Bash(* --help)"]), "full"),
            (json!(["Bash(bash -c *)"]), "full"),
            (json!(["Bash(/usr/bin/env:*)"]), "full"),
            (json!(["Bash(A=1 make *)"]), "full"),
            (json!(["Bash(npm test"]), "full"),
            (json!(["Read((a),Bash,x)"]), "full"),
            (json!(["Read(a", "Bash)"]), "full"),
            (json!(["Read(a)) Grep"]), "full"),
            (json!(["Read(a)Bash(b)"]), "full"),
            (json!(["Read(a)(b)"]), "full"),
            (json!(["Read(\\(a, b)"]), "full"),
            (json!(["Read(a, b) Grep"]), "read"),
            (json!(["ExitPlanMode"]), "full"),
            (json!(["Read, ExitPlanMode"]), "full"),
            (json!(["Workflow"]), "full"),
            (json!(["Skill"]), "full"),
            (json!(["Skill(deploy)"]), "full"),
            (json!(["SlashCommand"]), "full"),
            (json!(["CronCreate"]), "full"),
            (json!(["CronDelete"]), "full"),
            (json!(["Monitor"]), "full"),
            (json!(["KillShell"]), "full"),
            (json!(["TaskStop"]), "full"),
            (json!(["SendMessage"]), "full"),
            (json!(["mcp__db__query"]), "full"),
            (json!(["Hologram"]), "full"),
        ] {
            check(
                json!({"permission_mode": "plan", "allowed_tools": tools}),
                expected,
            );
        }
    }

    /// Otherwise a tool that a setting, a variable, a plugin or a later version adds would be
    /// beyond the authority.
    #[test]
    fn restrained_agent_gets_the_tools_of_its_authority_and_no_others() {
        let check = |step: Step, has_network: bool, more: &[&str]| {
            let expected = [READING_TOOLS, more].concat();
            assert_eq!(tools(step, has_network), Some(expected), "{step:?}");
        };
        let network = ["WebFetch", "WebSearch"];
        let editing = ["Edit", "MultiEdit", "NotebookEdit", "Write"];
        check(Step::Read, false, &[]);
        check(Step::Read, true, &network);
        check(Step::Edit, false, &editing);
        check(Step::Edit, true, &[&network[..], &editing].concat());
        check(Step::Run, false, &[&editing[..], &["Bash"]].concat());
        assert_eq!(tools(Step::Full, false), None);
        for tool in ["Bash", "Edit", "PowerShell", "LSP", "Skill", "Workflow"] {
            assert!(!READING_TOOLS.contains(&tool), "{tool}");
        }
    }

    #[test]
    fn restrained_task_may_use_the_network_if_the_extras_include_it() {
        for (extras, expected) in [
            ("network", true),
            ("printer,network", true),
            ("*", true),
            ("1", false),
            ("networks", false),
            ("", false),
        ] {
            assert_eq!(allows_network(extras), expected, "{extras}");
        }
    }

    #[test]
    fn argument_that_is_unknown_or_misused_counts_as_full() {
        for (arguments, expected) in [
            (json!([]), "read"),
            (json!(["--effort", "high", "--strict-mcp-config"]), "read"),
            (json!(["--fallback-model=sonnet"]), "read"),
            (
                json!(["--disallowedTools", "Bash", "Edit", "--effort", "low"]),
                "read",
            ),
            (json!(["--add-dir", "/x", "/y"]), "read"),
            (json!(["--add-dir", "/"]), "read"),
            (json!(["--add-dir=/", "--add-dir", ""]), "read"),
            // These give no tool back that `start` takes away: `claude::ceiling` tests this with
            // the real Claude Code.
            (json!(["--disallowedTools", ""]), "read"),
            (json!(["--disallowedTools="]), "read"),
            (json!(["--disallowed-tools", "Read("]), "read"),
            (json!(["--disallowedTools", "", "--settings"]), "full"),
            (json!(["--add-dir", "/", "--", "x"]), "full"),
            (json!(["--settings", "{}"]), "full"),
            (json!(["--settings={}"]), "full"),
            (json!(["--mcp-config", "x.json"]), "full"),
            (json!(["--plugin-dir", "x"]), "full"),
            (json!(["--effort"]), "full"),
            (json!(["--effort", "--settings"]), "full"),
            (json!(["--disallowedTools"]), "full"),
            (json!(["--betas", "--effort", "low"]), "full"),
            (json!(["--add-dir"]), "full"),
            (json!(["--effort", "high", "a prompt"]), "full"),
            (json!(["--strict-mcp-config=no"]), "full"),
            (json!(["-d"]), "full"),
            (json!(["words"]), "full"),
            (json!(["--some-day-new"]), "full"),
        ] {
            let spec = json!({"permission_mode": "plan", "extra_args": arguments});
            check(spec, expected);
        }
        for arguments in [json!(["--add-dir", "/x"]), json!(["--add-dir="])] {
            check(json!({ "extra_args": arguments }), "full");
            let plan = json!({
                "permission_mode": "plan", "allowed_tools": ["Edit"], "extra_args": arguments,
            });
            check(plan, "full");
        }
    }

    #[test]
    fn prompt_that_is_a_command_counts_as_full() {
        check(json!({"prompt": "/deploy now"}), "full");
        check(json!({"prompt": "  /team:review"}), "full");
        check(json!({"prompt": "\u{feff} /deploy"}), "full");
        let unseen = "\u{feff}\u{200b}\u{200d}\u{2060}\u{180e}\u{ad}\u{1}\u{1b}\u{7f}\u{85}\
                      \u{2800}\u{fffc}\u{e0041}";
        for it in unseen.chars() {
            check(json!({"prompt": format!("{it}/deploy now")}), "full");
            check(json!({"prompt": format!(" {it} {it}/deploy")}), "full");
            check(
                json!({"prompt": format!("{it}/src/main.rs is long")}),
                "edit",
            );
        }
        check(json!({"prompt": "/src/main.rs does not compile"}), "edit");
        check(json!({"prompt": "look at /deploy"}), "edit");
    }
}

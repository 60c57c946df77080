//! The document of a task for Claude Code, and the checks before anything is started.

use std::fmt;

use claudine_plugin_sdk::{Attributes, Issue};
use serde::{Deserialize, Serialize};

use crate::Config;
use crate::session::is_id;

/// Claude Code refuses more than 10 MB on standard input, but only after it has started.
const LARGEST_PROMPT_BYTES: usize = 10_000_000;

/// The system prompt is passed as an argument, and Linux limits each argument to 128 KiB.
const LARGEST_SYSTEM_PROMPT_BYTES: usize = 100 * 1024;

/// Bound of all arguments together. Linux allows 2 MiB for arguments and variables, with the usual
/// limit of the stack.
const LARGEST_ARGUMENTS_BYTES: usize = 1024 * 1024;

/// Bytes that each argument needs in addition to its text: its end, and a pointer to it. A tool
/// also needs an option of its own.
const BYTES_PER_ARGUMENT: usize = 32;

/// Options that the executor sets itself, each with the reason.
const OWN_OPTIONS: &[(&str, &str)] = &[
    ("-p", "the executor sets it for every task"),
    ("--print", "the executor sets it for every task"),
    ("--verbose", "the executor sets it for every task"),
    ("--output-format", "the executor reads `stream-json`"),
    ("--input-format", "the prompt is given as text"),
    (
        "--session-id",
        "the executor chooses the session of an attempt",
    ),
    ("-r", "use `resume_session`"),
    ("--resume", "use `resume_session`"),
    ("-c", "use `resume_session`"),
    ("--continue", "use `resume_session`"),
    (
        "--fork-session",
        "the executor chooses the session of an attempt",
    ),
    ("--permission-mode", "use `permission_mode`"),
    ("--dangerously-skip-permissions", "use `permission_mode`"),
    (
        "--allow-dangerously-skip-permissions",
        "use `permission_mode`",
    ),
    ("--model", "use `model`"),
    ("--allowedTools", "use `allowed_tools`"),
    ("--allowed-tools", "use `allowed_tools`"),
    ("--append-system-prompt", "use `append_system_prompt`"),
    ("--max-turns", "use `max_turns`"),
    ("--max-budget-usd", "use `max_budget_usd`"),
];

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Spec {
    pub(crate) prompt: String,
    pub(crate) model: Option<String>,
    pub(crate) permission_mode: Option<PermissionMode>,
    #[serde(default)]
    pub(crate) allowed_tools: Vec<String>,
    pub(crate) append_system_prompt: Option<String>,
    pub(crate) max_turns: Option<u32>,
    pub(crate) max_budget_usd: Option<f64>,
    /// Fails the task as `permission` if a tool was denied.
    #[serde(default)]
    pub(crate) fail_on_denied: bool,
    pub(crate) resume_session: Option<String>,
    #[serde(default)]
    pub(crate) extra_args: Vec<String>,
}

/// Actions that the agent may take without approval; nobody is there to approve any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum PermissionMode {
    #[default]
    AcceptEdits,
    Auto,
    BypassPermissions,
    Default,
    DontAsk,
    Manual,
    Plan,
}

impl PermissionMode {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::AcceptEdits => "acceptEdits",
            Self::Auto => "auto",
            Self::BypassPermissions => "bypassPermissions",
            Self::Default => "default",
            Self::DontAsk => "dontAsk",
            Self::Manual => "manual",
            Self::Plan => "plan",
        }
    }
}

impl fmt::Display for PermissionMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Spec {
    /// All faults, in the order of the fields.
    pub(crate) fn issues(&self, machine: Machine) -> Vec<Issue> {
        [
            self.prompt_issue(),
            self.model.as_deref().and_then(model_issue),
            self.permission_mode
                .and_then(|mode| root_bypass(mode, machine))
                .map(|message| Issue::new("/permission_mode", message)),
            text_issue(
                "/append_system_prompt",
                self.append_system_prompt.as_deref(),
                LARGEST_SYSTEM_PROMPT_BYTES,
            ),
            self.max_turns.filter(|turns| *turns == 0).map(|_| {
                Issue::new(
                    "/max_turns",
                    "must be at least 1; leave the field out for no limit",
                )
            }),
            self.max_budget_usd
                .filter(|budget| !(budget.is_finite() && *budget > 0.0))
                .map(|_| {
                    Issue::new(
                        "/max_budget_usd",
                        "must be an amount greater than 0; leave the field out for no limit",
                    )
                }),
            self.resume_session.as_deref().and_then(session_issue),
            self.arguments_issue(),
        ]
        .into_iter()
        .flatten()
        .chain(self.allowed_tools.iter().enumerate().filter_map(tool_issue))
        .chain(self.extra_args.iter().enumerate().filter_map(extra_issue))
        .collect()
    }

    /// Permission mode of the run.
    pub(crate) fn mode(&self, config: &Config) -> PermissionMode {
        self.permission_mode
            .or(config.permission_mode)
            .unwrap_or_default()
    }

    fn arguments_issue(&self) -> Option<Issue> {
        let arguments = self.allowed_tools.iter().chain(&self.extra_args);
        let bytes: usize = arguments.map(|it| it.len() + BYTES_PER_ARGUMENT).sum();
        (bytes > LARGEST_ARGUMENTS_BYTES).then(|| {
            Issue::new(
                "/allowed_tools",
                format!(
                    "is too long: with `extra_args` it needs {bytes} bytes, and {LARGEST_ARGUMENTS_BYTES} are possible"
                ),
            )
        })
    }

    fn prompt_issue(&self) -> Option<Issue> {
        let message = if self.prompt.trim().is_empty() {
            "is empty; say what is to be done".to_owned()
        } else if self.prompt.len() > LARGEST_PROMPT_BYTES {
            format!(
                "is {} bytes long and Claude Code takes at most {LARGEST_PROMPT_BYTES}; put the text in a file and name the file in the prompt",
                self.prompt.len()
            )
        } else {
            return nul_issue("/prompt", &self.prompt);
        };
        Some(Issue::new("/prompt", message))
    }
}

/// The machine that runs Claude Code.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Machine {
    pub(crate) is_root: bool,
    pub(crate) is_sandbox: bool,
}

impl Machine {
    /// Derives the properties of the machine from the host's facts and a task's environment.
    pub(crate) fn of(facts: &Attributes, env: &Attributes) -> Self {
        Self {
            is_root: facts.get("uid") == Some("0"),
            // Claude Code accepts no other value than 1.
            is_sandbox: env.get("IS_SANDBOX") == Some("1"),
        }
    }
}

/// Reason why this mode cannot work for the user who runs the host, with the remedy. Claude Code
/// itself reports this reason only on standard error, after its start.
pub(crate) fn root_bypass(mode: PermissionMode, machine: Machine) -> Option<String> {
    let Machine {
        is_root,
        is_sandbox,
    } = machine;
    (mode == PermissionMode::BypassPermissions && is_root && !is_sandbox).then(|| {
        format!(
            "`{mode}` is refused by Claude Code when it runs as root; run the host as another user, or set IS_SANDBOX=1 in the task's environment if the machine is a sandbox"
        )
    })
}

fn text_issue(path: &str, text: Option<&str>, largest_bytes: usize) -> Option<Issue> {
    let text = text?;
    if text.is_empty() {
        return Some(Issue::new(path, "is empty; leave it out instead"));
    }
    if text.len() > largest_bytes {
        return Some(Issue::new(
            path,
            format!(
                "is {} bytes long; at most {largest_bytes} are possible",
                text.len()
            ),
        ));
    }
    nul_issue(path, text)
}

fn nul_issue(path: &str, text: &str) -> Option<Issue> {
    let position = text.find('\0')?;
    Some(Issue::new(
        path,
        format!("contains a NUL byte at byte {position}"),
    ))
}

/// Reason why a text cannot be the session that a task names.
pub(crate) fn no_session_id(session: &str) -> Option<&'static str> {
    (!is_id(session))
        .then_some("is not a session id: a UUID such as 8f14e45f-ceea-467f-9d2c-51f1c7a6a6d1")
}

fn session_issue(session: &str) -> Option<Issue> {
    no_session_id(session).map(|message| Issue::new("/resume_session", message))
}

fn model_issue(model: &str) -> Option<Issue> {
    if model.starts_with('-') {
        let message = "is an option, not a model; models are such as `opus` or `sonnet`";
        return Some(Issue::new("/model", message));
    }
    if model.contains(|c: char| c.is_whitespace() || (c.is_control() && c != '\0')) {
        let message = "has a space or a control character; models are such as `opus` or `sonnet`";
        return Some(Issue::new("/model", message));
    }
    text_issue("/model", Some(model), usize::MAX)
}

fn tool_issue((index, tool): (usize, &String)) -> Option<Issue> {
    let path = format!("/allowed_tools/{index}");
    if tool.starts_with('-') {
        return Some(Issue::new(
            path,
            "is an option, not a tool; tools are such as `Bash(npm test)` or `Edit(**)`",
        ));
    }
    text_issue(&path, Some(tool), LARGEST_SYSTEM_PROMPT_BYTES)
}

fn extra_issue((index, argument): (usize, &String)) -> Option<Issue> {
    let path = format!("/extra_args/{index}");
    let name = argument
        .split_once('=')
        .map_or(argument.as_str(), |(name, _)| name);
    match OWN_OPTIONS.iter().find(|(own, _)| *own == name) {
        Some((own, instead)) => Some(Issue::new(
            path,
            format!("{own} cannot be given here: {instead}"),
        )),
        None => nul_issue(&path, argument),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use serde_json::{Value, json};

    use super::*;

    /// The host's facts and the task's environment in one list: no name occurs in both.
    const ROOT: &[(&str, &str)] = &[("uid", "0")];

    fn issues(spec: Value, env: &[(&str, &str)]) -> Vec<(String, String)> {
        let env = env
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let both = Attributes::new(env);
        match claudine_plugin_sdk::parse::<Spec>(&spec.to_string()) {
            Ok(spec) => spec.issues(Machine::of(&both, &both)),
            Err(issue) => vec![issue],
        }
        .into_iter()
        .map(|issue| (issue.path, issue.message))
        .collect()
    }

    /// Expects one issue at this place whose message contains this text.
    fn check(spec: Value, env: &[(&str, &str)], path: &str, text: &str) {
        let found = issues(spec.clone(), env);
        assert_eq!(found.len(), 1, "{spec}: {found:?}");
        assert_eq!(found[0].0, path);
        assert!(found[0].1.contains(text), "{:?}", found[0].1);
    }

    fn accepted(spec: Value, env: &[(&str, &str)]) {
        assert_eq!(issues(spec.clone(), env), [], "{spec}");
    }

    #[test]
    fn prompt_is_required_and_bounded_and_has_no_nul_byte() {
        check(json!({"prompt": ""}), &[], "/prompt", "is empty");
        check(json!({"prompt": " \n\t"}), &[], "/prompt", "is empty");
        check(
            json!({"prompt": "x".repeat(10_000_001)}),
            &[],
            "/prompt",
            "name the file in the prompt",
        );
        check(
            json!({"prompt": "a\u{0}b"}),
            &[],
            "/prompt",
            "NUL byte at byte 1",
        );
        check(json!({}), &[], "", "missing field `prompt`");
        accepted(json!({"prompt": "x".repeat(1 << 20)}), &[]);
        accepted(json!({"prompt": "--help"}), &[]);
    }

    #[test]
    fn arguments_are_bounded_together() {
        let tools = |count: usize| vec!["Read"; count];
        accepted(json!({"prompt": "x", "allowed_tools": tools(20_000)}), &[]);
        check(
            json!({"prompt": "x", "allowed_tools": tools(100_000)}),
            &[],
            "/allowed_tools",
            "3600000 bytes, and 1048576 are possible",
        );
        let long = vec!["x".repeat(100_000); 11];
        check(
            json!({"prompt": "x", "extra_args": long}),
            &[],
            "/allowed_tools",
            "with `extra_args` it needs",
        );
    }

    #[test]
    fn permission_modes_are_those_of_claude_code() {
        check(
            json!({"prompt": "x", "permission_mode": "yolo"}),
            &[],
            "/permission_mode",
            "unknown variant `yolo`",
        );
        for mode in [
            "acceptEdits",
            "auto",
            "bypassPermissions",
            "default",
            "dontAsk",
            "manual",
            "plan",
        ] {
            accepted(
                json!({"prompt": "x", "permission_mode": mode}),
                &[("uid", "1000")],
            );
            let parsed: PermissionMode = serde_json::from_value(json!(mode)).unwrap();
            assert_eq!(parsed.as_str(), mode);
        }
    }

    #[test]
    fn root_may_not_bypass_permissions_without_a_sandbox() {
        let bypass = json!({"prompt": "x", "permission_mode": "bypassPermissions"});
        check(bypass.clone(), ROOT, "/permission_mode", "IS_SANDBOX=1");
        check(
            bypass.clone(),
            &[("uid", "0"), ("IS_SANDBOX", "true")],
            "/permission_mode",
            "IS_SANDBOX=1",
        );
        accepted(bypass, &[("uid", "0"), ("IS_SANDBOX", "1")]);
        accepted(json!({"prompt": "x", "permission_mode": "plan"}), ROOT);
    }

    #[test]
    fn limits_must_be_positive() {
        check(
            json!({"prompt": "x", "max_turns": 0}),
            &[],
            "/max_turns",
            "at least 1",
        );
        check(
            json!({"prompt": "x", "max_turns": -1}),
            &[],
            "/max_turns",
            "expected u32",
        );
        check(
            json!({"prompt": "x", "max_budget_usd": 0}),
            &[],
            "/max_budget_usd",
            "greater than 0",
        );
        check(
            json!({"prompt": "x", "max_budget_usd": -0.5}),
            &[],
            "/max_budget_usd",
            "greater than 0",
        );
        accepted(
            json!({"prompt": "x", "max_turns": 1, "max_budget_usd": 0.01}),
            &[],
        );
    }

    #[test]
    fn session_must_be_a_uuid() {
        check(
            json!({"prompt": "x", "resume_session": "last"}),
            &[],
            "/resume_session",
            "a UUID",
        );
        check(
            json!({"prompt": "x", "resume_session": "8f14e45fceea467f9d2c51f1c7a6a6d1"}),
            &[],
            "/resume_session",
            "a UUID",
        );
        accepted(
            json!({"prompt": "x", "resume_session": "8f14e45f-ceea-467f-9d2c-51f1c7a6a6d1"}),
            &[],
        );
    }

    #[test]
    fn misplaced_options_empty_values_and_unknown_fields_are_refused() {
        check(
            json!({"prompt": "x", "extra_args": ["--add-dir", "--resume=x"]}),
            &[],
            "/extra_args/1",
            "use `resume_session`",
        );
        check(
            json!({"prompt": "x", "extra_args": ["--dangerously-skip-permissions"]}),
            &[],
            "/extra_args/0",
            "permission_mode",
        );
        check(
            json!({"prompt": "x", "allowed_tools": ["Edit", "--model"]}),
            &[],
            "/allowed_tools/1",
            "is an option, not a tool; tools are such as `Bash(npm test)` or `Edit(**)`",
        );
        check(
            json!({"prompt": "x", "allowed_tools": [""]}),
            &[],
            "/allowed_tools/0",
            "is empty",
        );
        check(
            json!({"prompt": "x", "append_system_prompt": ""}),
            &[],
            "/append_system_prompt",
            "is empty",
        );
        check(
            json!({"prompt": "x", "model": ""}),
            &[],
            "/model",
            "is empty",
        );
        check(
            json!({"prompt": "x", "model": "--settings={}"}),
            &[],
            "/model",
            "is an option, not a model",
        );
        for model in ["opus 4", "opus\n", "opus\u{1b}[1m", "\u{a0}"] {
            check(
                json!({"prompt": "x", "model": model}),
                &[],
                "/model",
                "has a space or a control character",
            );
        }
        check(
            json!({"prompt": "x", "allow_tools": []}),
            &[],
            "/allow_tools",
            "unknown field `allow_tools`",
        );
        for model in [
            "opus[1m]",
            "arn:aws:bedrock:us-east-1:1:inference-profile/x.y-v1:0",
        ] {
            accepted(json!({"prompt": "x", "model": model}), &[]);
        }
        accepted(
            json!({"prompt": "x", "allowed_tools": ["Bash(git *)"], "extra_args": ["--add-dir", "/x"]}),
            &[],
        );
    }
}

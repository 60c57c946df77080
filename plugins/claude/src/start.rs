//! How an attempt begins: in a session of its own, or in an existing one.
//!
//! After an infrastructure failure the session is resumed with a request to continue. The session
//! contains the prompt, because Claude Code writes session and prompt together, about 20 ms after
//! its first request. If the failure came before that, there is no session, and the attempt begins
//! a fresh one. After any other failure the attempt begins a fresh session too, because the
//! conversation itself has led to the failure. However, if a user resumes the task, its session is
//! resumed after any failure.

use claudine_plugin_sdk::{Class, Failure, Previous, Step, Task};
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use crate::authority::{NETWORK_TOOLS, tools};
use crate::session;
use crate::spec::{PermissionMode, Spec, no_session_id};

/// Prompt for a resumed session that was interrupted.
const GO_ON: &str = "The previous run of this task was interrupted before it was finished. Look at what was done already and go on from there.";

/// Prompt for an agent that is started without its directory's settings.
const LEFT_OUT: &str = "The settings and the memory of this directory are not loaded. If there is a \
                        CLAUDE.md, read it first: it says how people want to work here. Claudine \
                        lets you change no hidden files of the home directory (`~/.*`), except in \
                        a worktree that it has made for a task.";

/// Options that ignore the hooks, helpers, MCP servers and plugins of the directory and of those
/// that `--add-dir` adds, and their skills, which can allow tools and run commands.
/// Without a terminal Claude Code uses all of them even in a directory that was never trusted, and
/// runs their commands before the first message.
const WITHOUT_DIRECTORY: [&str; 3] = ["--setting-sources", "user", "--strict-mcp-config"];

/// Options that ignore also the user's own plugins, hooks and skills, but not the user's
/// permissions, variables and login. Language servers of plugins and hooks after an edit often run
/// programs of the directory, such as `node_modules/typescript`, as soon as the agent has written a
/// file. The first option is the newest, so a version that lacks it names it.
const WITHOUT_PROGRAMS: [&str; 2] = ["--safe-mode", "--no-chrome"];

/// Option for the tools that there are, whatever variables, settings, plugins and the service add.
const TOOLS: &str = "--tools";

/// Limits plan mode to reading. Without this setting Claude Code runs commands in plan mode too, if
/// a model at the service considers them harmless.
const PLAN_ONLY: &str = r#""useAutoModeDuringPlan":false"#;

/// Moves the memory of Claude Code, which an agent may write without a permission, to a place where
/// [`NO_MEMORY`] denies it. Otherwise it could be anywhere: in `CLAUDE_CONFIG_DIR`, or where the
/// user's settings say.
const MEMORY_PLACE: &str = r#""autoMemoryDirectory":"~/.claude/no-memory""#;

/// Keeps Claude Code from telling an agent the state of the repository. Before the first message,
/// it would look up the filters that the repository names, and then run `git status` without them;
/// another agent could add a filter in between. The variable is stronger than the setting, and the
/// user's settings could set it to 0.
const NO_GIT_STATUS: &str =
    r#""includeGitInstructions":false,"env":{"CLAUDE_CODE_DISABLE_GIT_INSTRUCTIONS":"1"}"#;

/// Takes away what Claude Code allows without a permission, in every permission mode: a tool that
/// makes a worktree and a branch, subagents with a worktree of their own, tools that change
/// `.claude/scheduled_tasks.json` in the directory, where prompts for later sessions are kept, and
/// the tool that writes into other sessions of the user.
const NO_UNASKED_CHANGES: &str =
    "--disallowedTools=EnterWorktree,Agent(isolation:worktree),CronCreate,CronDelete,SendMessage";

/// Keeps an agent from writing the memory of Claude Code, which is given to later sessions of the
/// user as instructions, and other files that later sessions load. The rules hold for all tools
/// that write.
const NO_MEMORY: &str = ",Edit(~/.claude/**),Edit(.claude/**)";

/// The variables that name another directory for what Claude Code keeps in `~/.claude`, or for its
/// memory.
pub(crate) const ELSEWHERE: [&str; 2] = ["CLAUDE_CONFIG_DIR", "CLAUDE_CODE_REMOTE_MEMORY_DIR"];

/// Subagents that run at the service.
const REMOTE_AGENT: &str = "Agent(isolation:remote)";

/// Namespace of session ids, itself a random UUID.
const NAMESPACE: Uuid = Uuid::from_u128(0x5b0c_93d2_7a64_4e0f_9d1e_c27f_41d8_86a3);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// A new session.
    Fresh { session_id: String },
    /// The session that the task names. If it is gone, the attempt fails.
    Named { session_id: String },
    /// The session of an earlier attempt, and the message for this session. If the session is gone,
    /// a fresh one is used.
    Again { session_id: String, say: String },
}

/// Outputs of an attempt that the next attempt reads.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Earlier {
    #[serde(deserialize_with = "session::reported")]
    pub(crate) session_id: Option<String>,
    pub(crate) total_cost_usd: Option<f64>,
    /// Tokens by model, as Claude Code reported them.
    pub(crate) model_usage: Option<Value>,
}

/// Parts of a command line that do not follow from the task's document.
pub(crate) struct Means<'a> {
    pub(crate) model: Option<&'a str>,
    pub(crate) mode: PermissionMode,
    /// Budget of the run.
    pub(crate) budget_usd: Option<f64>,
    /// `None` if nobody restrained has requested the attempt.
    pub(crate) limits: Option<Limits<'a>>,
}

/// The limits of an agent that works for a restrained principal.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits<'a> {
    pub(crate) step: Step,
    /// The directories that [`ELSEWHERE`] names.
    pub(crate) elsewhere: [Option<Directory<'a>>; ELSEWHERE.len()],
    /// The rules of [`without_private`].
    pub(crate) private: &'a str,
    /// Whether the agent may use the network. If not, it gets no network tools, because Claude Code
    /// lets them reach some sites in every permission mode.
    pub(crate) has_network: bool,
}

/// A directory that a rule of Claude Code can name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Directory<'a>(&'a str);

impl<'a> Directory<'a> {
    /// The value of this variable as such a directory. Fails if a rule would take a character of it
    /// for a part of a pattern, because the rule would then hold for another directory. A relative
    /// directory, and an empty one, would be one of the directory that a client names.
    pub(crate) fn of(variable: &str, value: Option<&'a str>) -> Result<Option<Self>, Failure> {
        let Some(path) = value else {
            return Ok(None);
        };
        let message = if !path.starts_with('/') {
            format!(
                "an agent of an MCP client would take the settings of Claude Code from the \
                 directory in which it works, because `{variable}` is no absolute path; set it to \
                 one, or unset it"
            )
        } else if is_plain(path) {
            return Ok(Some(Self(path)));
        } else {
            format!(
                "an agent of an MCP client cannot be kept from writing to the directory that \
                 `{variable}` names, because its name has an unusual character, `.` or `..`; give it another name"
            )
        };
        Err(Failure::new(Class::Invalid, message))
    }

    /// The rule for all that is in the directory. In a rule, two slashes begin an absolute path.
    fn rule(self) -> String {
        let names = self.0.split('/').filter(|name| !name.is_empty());
        let path: Vec<&str> = names.chain(["**"]).collect();
        format!(",Edit(//{})", path.join("/"))
    }
}

/// Whether a rule takes each character of the path for itself, and not for a part of a pattern.
fn is_plain(path: &str) -> bool {
    let is_plain = |it: char| it.is_alphanumeric() || "/._-+@ ".contains(it);
    let is_name = |part: &str| part.trim() == part && part != "." && part != "..";
    path.chars().all(is_plain) && path.split('/').all(is_name)
}

/// Files below a path that an agent must not change: those of hosts, hidden ones of the user's home
/// directory, those that the user's settings lead to, and those of Claude Code for other tasks.
#[derive(Debug, Deserialize)]
struct Private {
    root: String,
    /// Patterns of names that an agent neither reads nor writes. An empty one means the path.
    unread: Vec<String>,
    /// Patterns of names that an agent only reads.
    unwritten: Vec<String>,
}

/// Rules that keep an agent from the files that `told` lists. A rule that denies something is
/// stronger than all that allow it.
pub(crate) fn without_private(told: &str) -> Result<String, Failure> {
    let all: Vec<Private> = serde_json::from_str(told).map_err(|error| {
        let message = format!("the list of the host's own files cannot be read: {error}");
        Failure::new(Class::Plugin, message)
    })?;
    let mut rules = String::new();
    for Private {
        root,
        unread,
        unwritten,
    } in all
    {
        if !is_plain(&root) {
            let message = format!(
                "an agent of an MCP client cannot be kept from `{root}`, which has files of \
                 Claudine, of your settings or of another task's Claude Code, because its name has \
                 an unusual character, `.` or `..`; give it another name"
            );
            return Err(Failure::new(Class::Invalid, message));
        }
        let path = |name: &str| {
            let names = root.split('/').chain([name]);
            let names: Vec<&str> = names.filter(|name| !name.is_empty()).collect();
            format!("//{}", names.join("/"))
        };
        for name in &unread {
            let path = path(name);
            rules.extend([",Read(", &*path, "),Edit(", &*path, ")"]);
        }
        for name in &unwritten {
            rules.extend([",Edit(", &*path(name), ")"]);
        }
    }
    Ok(rules)
}

impl Limits<'_> {
    /// Whether the agent has no tool that runs commands.
    pub(crate) fn forbids_commands(self) -> bool {
        self.step < Step::Run
    }

    fn arguments(self) -> Vec<String> {
        let mut without = format!("{NO_UNASKED_CHANGES}{NO_MEMORY}");
        without.extend(self.elsewhere.into_iter().flatten().map(Directory::rule));
        without.push_str(self.private);
        if !self.has_network {
            let network = NETWORK_TOOLS.iter().chain([&REMOTE_AGENT]);
            without.extend(network.flat_map(|tool| [",", *tool]));
        }
        let mut arguments: Vec<String> = WITHOUT_DIRECTORY.map(str::to_owned).into();
        if let Some(tools) = tools(self.step, self.has_network) {
            arguments.extend(WITHOUT_PROGRAMS.map(str::to_owned));
            arguments.push(format!("{TOOLS}={}", tools.join(",")));
        }
        arguments.push(without);
        arguments
    }
}

/// Whether a restrained agent needs this option, which a version of Claude Code may lack.
pub(crate) fn limits_an_agent(option: &str) -> bool {
    WITHOUT_PROGRAMS.contains(&option) || WITHOUT_DIRECTORY.contains(&option) || option == TOOLS
}

impl Earlier {
    /// Empty if the attempt left nothing readable.
    pub(crate) fn of(previous: &Previous) -> Self {
        claudine_plugin_sdk::parse(&previous.outputs).unwrap_or_default()
    }
}

impl Start {
    /// Fails if the task names a text that is no session id, which an earlier version may have
    /// accepted.
    pub(crate) fn of(task: &Task<Spec>) -> Result<Self, Failure> {
        let named = &task.spec.resume_session;
        if let Some(why) = named.as_deref().and_then(no_session_id) {
            let message = format!("`resume_session` of the task {why}");
            return Err(Failure::new(Class::Invalid, message));
        }
        let earlier = task.previous.as_ref().map(|previous| {
            let session_id = Earlier::of(previous).session_id;
            (session_id.or_else(|| named.clone()), previous)
        });
        let again = |session_id: Option<String>, previous: &Previous, say: &str| Self::Again {
            session_id: session_id.unwrap_or_else(|| session_id_of(&task.id, previous.number)),
            say: say.to_owned(),
        };
        Ok(match (earlier, named) {
            (Some((session_id, previous)), _) if previous.resume.is_some() => {
                let said = previous.resume.as_deref().map_or("", str::trim);
                again(
                    session_id,
                    previous,
                    if said.is_empty() { GO_ON } else { said },
                )
            }
            (Some((Some(session_id), previous)), Some(_)) if is_infrastructure(&previous.class) => {
                Self::Named { session_id }
            }
            (_, Some(named)) => Self::Named {
                session_id: named.clone(),
            },
            (Some((session_id, previous)), None) if is_infrastructure(&previous.class) => {
                again(session_id, previous, GO_ON)
            }
            (_, None) => Self::fresh(task),
        })
    }

    pub(crate) fn fresh(task: &Task<Spec>) -> Self {
        Self::Fresh {
            session_id: session_id_of(&task.id, task.attempt),
        }
    }

    /// The prompt, or a request to continue. A session that the task names always gets the prompt,
    /// because that session may not contain the prompt.
    pub(crate) fn input<'a>(&'a self, spec: &'a Spec) -> &'a str {
        match self {
            Self::Again { say, .. } => say,
            Self::Fresh { .. } | Self::Named { .. } => &spec.prompt,
        }
    }

    /// Arguments of `claude`.
    pub(crate) fn arguments(&self, spec: &Spec, means: &Means<'_>) -> Vec<String> {
        let Means {
            model,
            mode,
            budget_usd,
            limits,
        } = *means;
        let told = spec.append_system_prompt.iter().map(String::as_str);
        let told: Vec<&str> = told.chain(limits.map(|_| LEFT_OUT)).collect();
        let (session_option, session_id) = match self {
            Self::Fresh { session_id } => ("--session-id", session_id),
            Self::Named { session_id } | Self::Again { session_id, .. } => ("--resume", session_id),
        };
        let mut arguments: Vec<String> = ["-p", "--verbose", "--output-format", "stream-json"]
            .map(str::to_owned)
            .into();
        let mut option = |name: &str, value: String| arguments.extend([name.to_owned(), value]);
        option(session_option, session_id.clone());
        option("--permission-mode", mode.to_string());
        for (name, value) in [
            ("--model", model.map(str::to_owned)),
            ("--max-turns", spec.max_turns.map(|turns| turns.to_string())),
            (
                "--max-budget-usd",
                budget_usd.map(|budget| budget.to_string()),
            ),
        ] {
            if let Some(value) = value {
                option(name, value);
            }
        }
        for tool in &spec.allowed_tools {
            option("--allowedTools", tool.clone());
        }
        // Option and text are one argument, because a separate text might look like an option.
        if !told.is_empty() {
            arguments.push(format!("--append-system-prompt={}", told.join("\n\n")));
        }
        // If the option is given twice, Claude Code uses only the last one.
        let plan_only = (mode == PermissionMode::Plan).then_some(PLAN_ONLY);
        let forbids_commands = limits.is_some_and(Limits::forbids_commands);
        let settings: Vec<&str> = plan_only
            .into_iter()
            .chain(limits.map(|_| MEMORY_PLACE))
            .chain(forbids_commands.then_some(NO_GIT_STATUS))
            .collect();
        if !settings.is_empty() {
            arguments.push(format!("--settings={{{}}}", settings.join(",")));
        }
        arguments.extend(spec.extra_args.iter().cloned());
        arguments.extend(limits.into_iter().flat_map(Limits::arguments));
        arguments
    }
}

/// Whether the conversation can be continued after this failure. A conversation that ran out of
/// budget can continue once there is more budget.
fn is_infrastructure(class: &Class) -> bool {
    matches!(
        class,
        Class::Network
            | Class::RateLimit
            | Class::Lost
            | Class::Timeout
            | Class::Signal
            | Class::NoResult
            | Class::Resource
            | Class::Plugin
            | Class::Budget
    )
}

/// Session id of a fresh attempt, derived from the task's id and the attempt's number so that it is
/// known after a crash.
fn session_id_of(task_id: &str, attempt: u32) -> String {
    Uuid::new_v5(&NAMESPACE, format!("{task_id}.{attempt}").as_bytes()).to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use claudine_plugin_sdk::Attributes;

    use super::*;
    use crate::session::tests::{SESSION, others};

    fn task(spec: Spec, previous: Option<(&str, &str)>) -> Task<Spec> {
        Task {
            id: "task_01j".to_owned(),
            attempt: 2,
            spec: Spec {
                prompt: "do it".to_owned(),
                ..spec
            },
            workspace: "/w".to_owned(),
            env: Attributes::default(),
            labels: Attributes::default(),
            previous: previous.map(|(class, outputs)| Previous {
                number: 1,
                outcome: "failed".to_owned(),
                class: Class::from(class),
                outputs: outputs.to_owned(),
                resume: None,
            }),
            budget_usd: None,
        }
    }

    fn named() -> Spec {
        Spec {
            resume_session: Some(SESSION.to_owned()),
            ..Spec::default()
        }
    }

    fn check(spec: Spec, previous: Option<(&str, &str)>, expected: Start, input: &str) {
        let task = task(spec, previous);
        let start = Start::of(&task).unwrap();
        assert_eq!(start, expected, "{previous:?}");
        assert_eq!(start.input(&task.spec), input);
    }

    #[test]
    fn session_is_resumed_after_an_infrastructure_failure() {
        let with_session = format!(r#"{{"session_id":"{SESSION}","total_cost_usd":0.5}}"#);
        let again = Start::Again {
            session_id: SESSION.to_owned(),
            say: GO_ON.to_owned(),
        };
        let fresh = Start::Fresh {
            session_id: session_id_of("task_01j", 2),
        };
        for class in [
            "network",
            "rate_limit",
            "lost",
            "timeout",
            "signal",
            "no_result",
            "budget",
        ] {
            check(
                Spec::default(),
                Some((class, &with_session)),
                again.clone(),
                GO_ON,
            );
        }
        for class in [
            "max_turns",
            "exit",
            "auth",
            "permission",
            "invalid",
            "spawn",
        ] {
            check(
                Spec::default(),
                Some((class, &with_session)),
                fresh.clone(),
                "do it",
            );
        }
        check(Spec::default(), None, fresh, "do it");
        let first = Start::Again {
            session_id: session_id_of("task_01j", 1),
            say: GO_ON.to_owned(),
        };
        check(Spec::default(), Some(("lost", "{}")), first.clone(), GO_ON);
        check(Spec::default(), Some(("lost", "")), first, GO_ON);
    }

    #[test]
    fn session_named_by_the_task_gets_the_prompt() {
        check(
            named(),
            None,
            Start::Named {
                session_id: SESSION.to_owned(),
            },
            "do it",
        );
        check(
            named(),
            Some(("lost", "{}")),
            Start::Named {
                session_id: SESSION.to_owned(),
            },
            "do it",
        );
        check(
            named(),
            Some(("max_turns", "{}")),
            Start::Named {
                session_id: SESSION.to_owned(),
            },
            "do it",
        );
    }

    #[test]
    fn resumed_attempt_gets_the_given_message() {
        let check =
            |spec: Spec, class: &str, outputs: &str, said: &str, session: &str, input: &str| {
                let mut task = task(spec, Some((class, outputs)));
                if let Some(previous) = &mut task.previous {
                    previous.resume = Some(said.to_owned());
                }
                let start = Start::of(&task).unwrap();
                assert_eq!(start.input(&task.spec), input);
                let expected = Start::Again {
                    session_id: session.to_owned(),
                    say: input.to_owned(),
                };
                assert_eq!(start, expected, "{class} {said:?}");
            };
        let with_session = format!(r#"{{"session_id":"{SESSION}"}}"#);
        for class in ["", "exit", "max_turns", "lost"] {
            check(
                Spec::default(),
                class,
                &with_session,
                " and the docs\n",
                SESSION,
                "and the docs",
            );
        }
        check(Spec::default(), "", &with_session, " ", SESSION, GO_ON);
        check(named(), "exit", "{}", "go", SESSION, "go");
        let first = session_id_of("task_01j", 1);
        check(Spec::default(), "cancelled", "{}", "go", &first, "go");
    }

    /// Otherwise an agent could give `claude` options, and continue conversations of other tasks.
    #[test]
    fn text_that_is_no_session_id_is_never_an_argument() {
        for other in others() {
            let outputs = serde_json::json!({ "session_id": other, "total_cost_usd": 0.5 });
            let outputs = outputs.to_string();
            let again = |spec: Spec, said: Option<&str>| {
                let mut task = task(spec, Some(("rate_limit", &outputs)));
                if let Some(previous) = &mut task.previous {
                    previous.resume = said.map(str::to_owned);
                    let earlier = Earlier::of(previous);
                    assert_eq!(earlier.session_id, None, "{other:?}");
                    assert_eq!(earlier.total_cost_usd, Some(0.5));
                }
                Start::of(&task)
            };
            let of_first = |say: &str| {
                Ok(Start::Again {
                    session_id: session_id_of("task_01j", 1),
                    say: say.to_owned(),
                })
            };
            assert_eq!(again(Spec::default(), None), of_first(GO_ON), "{other:?}");
            assert_eq!(again(Spec::default(), Some("go")), of_first("go"));
            let of_named = Start::Named {
                session_id: SESSION.to_owned(),
            };
            assert_eq!(again(named(), None), Ok(of_named), "{other:?}");
            let spec = Spec {
                resume_session: Some(other.clone()),
                ..Spec::default()
            };
            let failure = Start::of(&task(spec, None)).unwrap_err();
            assert_eq!(failure.class, Class::Invalid, "{other:?}");
            let says = "`resume_session` of the task is not a session id";
            assert!(failure.message.starts_with(says), "{}", failure.message);
        }
    }

    #[test]
    fn session_ids_are_valid_and_differ_by_attempt() {
        let (first, second) = (session_id_of("task_01j", 1), session_id_of("task_01j", 2));
        assert_ne!(first, second);
        assert!(Uuid::try_parse(&first).is_ok_and(|id| id.get_version_num() == 5));
        assert!(session::is_id(&first));
    }

    fn line(spec: &Spec, mode: PermissionMode, limits: Option<Limits<'_>>) -> String {
        let start = Start::Named {
            session_id: SESSION.to_owned(),
        };
        let means = Means {
            model: None,
            mode,
            budget_usd: None,
            limits,
        };
        start.arguments(spec, &means).join("|")
    }

    const WITHOUT: &str = "--setting-sources|user|--strict-mcp-config|";
    const UNASKED: &str = "--disallowedTools=EnterWorktree,Agent(isolation:worktree),CronCreate,\
                           CronDelete,SendMessage,Edit(~/.claude/**),Edit(.claude/**)";

    #[test]
    fn limited_agent_does_not_write_to_another_directory_of_claude_code() {
        let rule = |value: &str| {
            let limits = Some(Limits {
                step: Step::Edit,
                elsewhere: [None, Directory::of(ELSEWHERE[0], Some(value)).unwrap()],
                private: "",
                has_network: true,
            });
            line(&Spec::default(), PermissionMode::AcceptEdits, limits)
        };
        for (value, expected) in [
            ("//home/me//claude 2/", ",Edit(//home/me/claude 2/**)"),
            ("/", ",Edit(//**)"),
        ] {
            let line = rule(value);
            assert!(line.contains(expected), "{line}");
        }
        for unusual in [
            "/a*", "/a)", "/a\n", "/{a,b}", "/a\\b", "!/a", "~/a", "/a ", "/a/../b", "./a", "own",
            "",
        ] {
            let refused = Directory::of(ELSEWHERE[0], Some(unusual)).err().unwrap();
            assert_eq!(refused.class, Class::Invalid, "{unusual}");
        }
        assert!(Directory::of(ELSEWHERE[0], None).unwrap().is_none());
    }

    #[test]
    fn limited_agent_uses_no_files_of_the_host() {
        let told = r#"[{"root": "/d a//s", "unread": ["env", "w/*.*"], "unwritten": ["inputs"]},
            {"root": "/c.toml", "unread": [""], "unwritten": []}]"#;
        let rules = without_private(told).unwrap();
        let expected = ",Read(//d a/s/env),Edit(//d a/s/env),Read(//d a/s/w/*.*),\
                        Edit(//d a/s/w/*.*),Edit(//d a/s/inputs),Read(//c.toml),Edit(//c.toml)";
        assert_eq!(rules, expected);
        let limits = Some(Limits {
            step: Step::Full,
            elsewhere: [None; 2],
            private: &rules,
            has_network: true,
        });
        let line = line(&Spec::default(), PermissionMode::AcceptEdits, limits);
        assert!(line.ends_with(&format!("{UNASKED}{expected}")), "{line}");
        for unusual in ["/a*", "/a,b", "/a)", "/a/../b"] {
            let told = format!(r#"[{{"root": "{unusual}", "unread": [], "unwritten": []}}]"#);
            let refused = without_private(&told).unwrap_err();
            assert_eq!(refused.class, Class::Invalid, "{unusual}");
        }
        assert_eq!(without_private("{}").unwrap_err().class, Class::Plugin);
    }

    #[test]
    fn limited_agent_ignores_its_directorys_settings() {
        let full = Some(Limits {
            step: Step::Full,
            elsewhere: [None; 2],
            private: "",
            has_network: true,
        });
        let plain = line(&Spec::default(), PermissionMode::Plan, full);
        let settings = format!("--settings={{{PLAN_ONLY},{MEMORY_PLACE}}}");
        let expected = format!("|--append-system-prompt={LEFT_OUT}|{settings}|{WITHOUT}{UNASKED}");
        assert!(plain.ends_with(&expected), "{plain}");
        let spec = Spec {
            append_system_prompt: Some("be brief".to_owned()),
            extra_args: vec!["--setting-sources".to_owned(), "project".to_owned()],
            ..Spec::default()
        };
        let told = line(&spec, PermissionMode::AcceptEdits, full);
        // If an option is given twice, Claude Code uses the last one.
        let expected = format!(
            "be brief\n\n{LEFT_OUT}|--settings={{{MEMORY_PLACE}}}|--setting-sources|project|\
             {WITHOUT}{UNASKED}"
        );
        assert!(told.ends_with(&expected), "{told}");
    }

    /// Otherwise the agent would have tools that plugins, settings, variables and the service add,
    /// and language servers and hooks of the user would run programs of the directory.
    #[test]
    fn limited_agent_has_only_the_tools_of_its_authority_and_starts_no_programs_of_plugins() {
        let network = ",WebFetch,WebSearch,Agent(isolation:remote)";
        for (step, has_network) in [
            (Step::Read, false),
            (Step::Read, true),
            (Step::Edit, false),
            (Step::Run, false),
        ] {
            let limits = Some(Limits {
                step,
                elsewhere: [None; 2],
                private: "",
                has_network,
            });
            let found = line(&Spec::default(), PermissionMode::DontAsk, limits);
            let tools = tools(step, has_network).unwrap().join(",");
            let network = if has_network { "" } else { network };
            let programs = "--safe-mode|--no-chrome";
            let expected = format!("|{WITHOUT}{programs}|--tools={tools}|{UNASKED}{network}");
            assert!(found.ends_with(&expected), "{found}");
            let settings = match step {
                Step::Run => format!("|--settings={{{MEMORY_PLACE}}}|"),
                _ => format!("|--settings={{{MEMORY_PLACE},{NO_GIT_STATUS}}}|"),
            };
            assert!(found.contains(&settings), "{found}");
        }
        for option in ["--safe-mode", "--tools", "--no-chrome"] {
            assert!(limits_an_agent(option), "{option}");
        }
        for option in ["--add-dir", "Read", "--toolset"] {
            assert!(!limits_an_agent(option), "{option}");
        }
    }

    #[test]
    fn settings_of_the_command_line_are_json() {
        for limits in [
            None,
            Some(Limits {
                step: Step::Read,
                elsewhere: [None; 2],
                private: "",
                has_network: false,
            }),
        ] {
            let line = line(&Spec::default(), PermissionMode::Plan, limits);
            let given = line
                .split('|')
                .find_map(|it| it.strip_prefix("--settings="));
            let settings: Value = serde_json::from_str(given.unwrap()).unwrap();
            assert_eq!(settings["useAutoModeDuringPlan"], false);
            let place = settings.get("autoMemoryDirectory").is_some();
            assert_eq!(place, limits.is_some(), "{settings}");
        }
    }

    #[test]
    fn every_field_reaches_the_command_line() {
        let spec = Spec {
            append_system_prompt: Some("be brief".to_owned()),
            max_turns: Some(3),
            allowed_tools: vec!["Edit".to_owned(), "Bash(git *)".to_owned()],
            extra_args: vec!["--add-dir".to_owned(), "/x".to_owned()],
            ..Spec::default()
        };
        let start = Start::Named {
            session_id: SESSION.to_owned(),
        };
        let means = Means {
            model: Some("opus"),
            mode: PermissionMode::Plan,
            budget_usd: Some(0.5),
            limits: None,
        };
        let line = start.arguments(&spec, &means).join("|");
        assert_eq!(
            line,
            format!(
                "-p|--verbose|--output-format|stream-json|--resume|{SESSION}|--permission-mode|plan|--model|opus\
                 |--max-turns|3|--max-budget-usd|0.5|--allowedTools|Edit|--allowedTools|Bash(git *)\
                 |--append-system-prompt=be brief|--settings={{{PLAN_ONLY}}}|--add-dir|/x"
            )
        );
    }
}

//! Checks what a task could do against the settings for MCP clients.

use claudine_domain::{
    principal::{Authority, Principal, Step},
    task::{Class, Task},
    worktree::MergeStrategy,
};
use serde_json::{Map, Value};

use super::{Refusal, SHOWN, fields, values, variables::may_set, way};
use crate::{
    config::{McpCeiling, step_of_mode},
    text::is_blank,
};

/// A task that is to run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Work<'a> {
    pub(crate) executor: &'a str,
    pub(crate) class: Class,
    /// Authority of the task as stated by its executor.
    pub(crate) authority: &'a Authority,
    /// Merge strategy of the task's worktree, if the task has a worktree.
    pub(crate) merge: Option<MergeStrategy>,
    /// The executor's document; a refusal names the parts that determine the authority.
    pub(crate) spec: &'a str,
}

/// Decides whether a principal may use an executor at all.
pub(crate) fn may_use(by: &Principal, executor: &str, ceiling: &McpCeiling) -> Result<(), Refusal> {
    if !by.restrained || ceiling.executors.iter().any(|name| name == executor) {
        return Ok(());
    }
    let shown: String = executor.chars().take(SHOWN).collect();
    let message = format!(
        "executor `{}` may not be used {}; {}",
        shown.escape_debug(),
        way(by),
        values(ceiling.executors.iter().map(String::as_str))
    );
    Err(Refusal::of_setting(message, "executors"))
}

/// Checks a task that is to run against the settings for MCP clients.
pub(crate) fn within(by: &Principal, ceiling: &McpCeiling, work: Work<'_>) -> Result<(), Refusal> {
    may_use(by, work.executor, ceiling)?;
    if let Some(strategy) = work.merge {
        merges(by, ceiling, strategy)?;
        // The task would merge its work at its end. `manual` leaves the work on its branch.
        if strategy != MergeStrategy::Manual {
            changes_files(by, ceiling)?;
        }
    }
    // If a command executor is listed, everything that its commands do is allowed, because commands
    // have no permission modes.
    if work.class == Class::Command {
        return Ok(());
    }
    let most = ceiling.most();
    if work.authority.step > most.step {
        return Err(beyond(by, ceiling, work.authority.step, work.spec));
    }
    if most.covers(work.authority) {
        return Ok(());
    }
    let more = work.authority.extras.difference(&most.extras);
    let more: Vec<&str> = more.map(String::as_str).collect();
    let message = format!(
        "this task has `{}` in addition to permission to {}, which may not be requested {}",
        more.join("`, `"),
        can(work.authority.step),
        way(by)
    );
    Err(Refusal::of_setting(message, "extras"))
}

/// Whether a task of a restrained principal is beyond the settings, which may have been changed
/// since its submission. Its authority is that of its submission.
pub(crate) fn is_beyond(task: &Task, ceiling: &McpCeiling) -> bool {
    let (request, unknown) = (&task.request, Authority::full());
    let set = request.set_variables.iter().flat_map(|names| names.iter());
    let work = Work {
        executor: &request.executor,
        class: request.class,
        authority: request.authority.as_deref().unwrap_or(&unknown),
        merge: request.worktree.as_ref().map(|worktree| worktree.merge),
        spec: "",
    };
    let by = &request.by;
    let is_within = may_set(by, ceiling, set).and_then(|()| within(by, ceiling, work));
    by.restrained && is_within.is_err()
}

/// Refuses a permission mode above the ceiling. This is also checked before an executor looks at
/// the request, because an executor may refuse a mode for a reason that the client cannot change. A
/// document that cannot be read is left to its executor, and to [`within`].
pub(crate) fn may_ask_for_mode(
    by: &Principal,
    class: Class,
    spec: &str,
    ceiling: &McpCeiling,
) -> Result<(), Refusal> {
    if !by.restrained || class == Class::Command {
        return Ok(());
    }
    let asks = fields::<Asks>(spec).ok();
    let mode = asks.and_then(|asks| asks.permission_mode);
    match mode.and_then(|mode| step_of_mode(&mode)) {
        Some(step) if step > ceiling.most().step => Err(beyond(by, ceiling, step, spec)),
        _ => Ok(()),
    }
}

/// The refusal of a task that could do more than the ceiling allows.
fn beyond(by: &Principal, ceiling: &McpCeiling, step: Step, spec: &str) -> Refusal {
    let message = format!(
        "this task could {} ({}); tasks submitted {} may at most {} (`{}`)",
        can(step),
        because(spec),
        way(by),
        can(ceiling.most().step),
        ceiling.max_permission_mode
    );
    Refusal::of_setting(message, "max_permission_mode")
}

/// Decides whether a principal may merge the work of a task.
pub(crate) fn may_merge(
    by: &Principal,
    ceiling: &McpCeiling,
    strategy: MergeStrategy,
) -> Result<(), Refusal> {
    merges(by, ceiling, strategy)?;
    changes_files(by, ceiling)
}

fn merges(by: &Principal, ceiling: &McpCeiling, strategy: MergeStrategy) -> Result<(), Refusal> {
    if ceiling.merge_strategies.contains(&strategy) {
        return Ok(());
    }
    // A client that wants a worktree may not have named a strategy.
    let usual = if strategy == MergeStrategy::default() {
        " (the default)"
    } else {
        ""
    };
    let message = format!(
        "merge strategy `{}`{usual} may not be used {}; {}",
        strategy.as_str(),
        way(by),
        values(ceiling.merge_strategies.iter().map(|it| it.as_str()))
    );
    Err(Refusal::of_setting(message, "merge_strategies"))
}

/// Refuses merges to a principal that may only read.
fn changes_files(by: &Principal, ceiling: &McpCeiling) -> Result<(), Refusal> {
    let most = ceiling.most();
    if most.step >= Step::Edit {
        return Ok(());
    }
    let message = format!(
        "a merge changes files, but requests {} may at most {} (`{}`)",
        way(by),
        can(most.step),
        ceiling.max_permission_mode
    );
    Err(Refusal::of_setting(message, "max_permission_mode"))
}

/// What new instructions make of a document.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Told {
    /// There are no new instructions.
    Nothing,
    /// The document with the instructions as its prompt. They are checked like a prompt, because
    /// they may give an agent more authority than its prompt did.
    Document(String),
    /// The document has no prompt, so nobody knows what the instructions let an agent do.
    Unknown,
}

pub(crate) fn told(spec: &str, said: &[u8]) -> Told {
    if said.trim_ascii().is_empty() {
        return Told::Nothing;
    }
    let document = || {
        let said = std::str::from_utf8(said).ok()?.trim();
        let mut document = fields::<Map<String, Value>>(spec).ok()?;
        *document.get_mut("prompt")? = said.into();
        Some(Value::from(document).to_string())
    };
    document().map_or(Told::Unknown, Told::Document)
}

fn can(step: Step) -> &'static str {
    match step {
        Step::Read => "read",
        Step::Edit => "change files",
        Step::Run => "run commands",
        Step::Full => "do whatever the user can",
    }
}

/// The fields of an agent's document that determine its authority.
#[derive(serde::Deserialize)]
struct Asks {
    prompt: Option<String>,
    permission_mode: Option<String>,
    #[serde(default)]
    allowed_tools: Vec<String>,
    #[serde(default)]
    extra_args: Vec<String>,
}

/// The fields that determine the authority, or the executor's default if no field does.
fn because(spec: &str) -> String {
    let Ok(asks) = fields::<Asks>(spec) else {
        return "according to its executor".to_owned();
    };
    let mut reasons = vec![asks.permission_mode.map_or_else(
        || "it sets no `permission_mode`, so its executor's default applies".to_owned(),
        |mode| format!("permission mode `{mode}`"),
    )];
    // The executor leaves out what cannot be seen before a command.
    let is_command = |prompt: String| prompt.trim_start_matches(is_blank).starts_with('/');
    if asks.prompt.is_some_and(is_command) {
        reasons.push("a prompt that begins with a slash command".to_owned());
    }
    for (name, values) in [
        ("allowed_tools", asks.allowed_tools),
        ("extra_args", asks.extra_args),
    ] {
        if !values.is_empty() {
            let text = values.join(" ").escape_debug().to_string();
            let shown: String = text.chars().take(SHOWN).collect();
            reasons.push(format!("{name} `{shown}`"));
        }
    }
    reasons.join(", ")
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, sync::Arc};

    use claudine_domain::task::Request;

    use super::*;
    use crate::store::sample_task;

    #[test]
    fn a_clients_task_is_beyond_settings_that_would_refuse_it_now() {
        let usual = McpCeiling::default();
        let check = |expected: bool, ceiling: &McpCeiling, change: fn(&mut Request)| {
            let mut task = sample_task(1);
            let request = Arc::make_mut(&mut task.request);
            (request.executor, request.class) = ("claude".into(), Class::Agent);
            request.authority = Some(Arc::new(Authority {
                step: Step::Edit,
                ..Authority::full()
            }));
            change(request);
            assert!(!is_beyond(&task, ceiling), "a person's task");
            Arc::make_mut(&mut task.request).by = Arc::new(Principal {
                restrained: true,
                ..Principal::default()
            });
            assert_eq!(is_beyond(&task, ceiling), expected);
        };
        check(false, &usual, |_| {});
        check(true, &usual, |request| request.executor = "other".into());
        check(true, &usual, |request| request.authority = None);
        check(true, &usual, |request| {
            let names = BTreeSet::from(["PATH".to_owned()]);
            request.set_variables = Some(Arc::new(names));
        });
        let plan = McpCeiling {
            max_permission_mode: "plan".to_owned(),
            ..McpCeiling::default()
        };
        check(true, &plan, |_| {});
    }

    #[test]
    fn new_instructions_are_checked_like_a_prompt() {
        let check = |spec: &str, said: &[u8], expected: Told| {
            assert_eq!(told(spec, said), expected, "{spec}");
        };
        let spec = r#"{"model":"opus","prompt":"do it"}"#;
        let expected = r#"{"model":"opus","prompt":"/deploy now"}"#;
        let expected = || Told::Document(expected.to_owned());
        check(spec, b" /deploy now\n", expected());
        check(r#"{"model":"opus","prompt":5}"#, b"/deploy now", expected());
        check(spec, b" \n", Told::Nothing);
        for unclear in [
            r#"{"script":"make"}"#,
            r#"{"Prompt":"do it"}"#,
            r#"["do it"]"#,
            r#"["prompt"]"#,
            r#""prompt""#,
            "",
            r#"{"prompt":"do it""#,
        ] {
            check(unclear, b"/deploy now", Told::Unknown);
            check(unclear, b"", Told::Nothing);
        }
        check(spec, b"/deploy \xff", Told::Unknown);
    }

    /// The executor refuses what cannot be read. See the test of its documents in
    /// `plugin/builtin_tests.rs`.
    #[test]
    fn a_mode_in_a_document_that_cannot_be_read_is_left_to_the_executor() {
        let by = Principal {
            restrained: true,
            ..Principal::default()
        };
        let ceiling = McpCeiling::default();
        let check = |spec: &str, is_refused: bool| {
            let decided = may_ask_for_mode(&by, Class::Agent, spec, &ceiling);
            assert_eq!(decided.is_err(), is_refused, "{spec}: {decided:?}");
            let full = Authority::full();
            let work = Work {
                executor: "claude",
                class: Class::Agent,
                authority: &full,
                merge: None,
                spec,
            };
            // The executor states full authority for such a document.
            let refusal = within(&by, &ceiling, work).err();
            let hint = refusal.map(|refusal| refusal.hint).unwrap_or_default();
            assert!(hint.contains("mcp.max_permission_mode"), "{spec}: {hint}");
        };
        check(r#"{"permission_mode":"bypassPermissions"}"#, true);
        for unclear in [
            r#"{"permission_mode":"plan","permission_mode":"bypassPermissions"}"#,
            r#"{"permission_mode":["bypassPermissions"]}"#,
            r#"{"Permission_Mode":"bypassPermissions"}"#,
            // Names of steps, not of modes.
            r#"{"permission_mode":"edit"}"#,
            r#"{"permission_mode":"full"}"#,
            r#"["p",null,"bypassPermissions"]"#,
        ] {
            check(unclear, false);
        }
    }
}

//! Determines the environment of a request's tasks, depending on the caller.
//!
//! Variables can circumvent every other limit: `PATH` decides which program `claude` is, and
//! `LD_PRELOAD` and `GIT_CONFIG_COUNT` change what a harmless program does. Therefore a restrained
//! principal can set only the variables listed in `mcp.env`. All other variables come from a place
//! where the principal cannot write: for an MCP server from the process that started the server,
//! for an attempt from the attempt's own task, and for an unknown agent from the host (only the
//! variables in `MINIMAL`).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use claudine_domain::{
    principal::{Kind, Principal},
    task::Request,
};

use super::{
    error::{AppError, ErrorKind},
    host::Host,
    may::{Verb, may},
    request::{Environment, NewTask},
};
use crate::{
    ceiling::{
        variables::{Names, may_set},
        way,
    },
    config::{self, BOUNDS, McpCeiling, RESTRAINED, UMASK},
};

/// Variables of a task submitted by an unknown agent.
const MINIMAL: [&str; 6] = ["HOME", "PATH", "USER", "LANG", "TERM", "TMPDIR"];

/// Limit of the length of the names of all variables that a restrained principal sets for a task.
/// The names are stored with each task.
const NAMES_MAX_BYTES: usize = 4 << 10;

/// The environment that the tasks of a request get.
pub(super) struct Given {
    pub(super) environment: Environment,
    /// Names of the variables in it that a restrained principal has set.
    pub(super) set: Option<Names>,
}

/// The names of the variables that a restrained principal sets for a task: `of_all` for all tasks
/// of the request, and others for this task.
pub(super) fn set_for(
    by: &Principal,
    task: &NewTask,
    of_all: Option<&Names>,
) -> Result<Option<Names>, AppError> {
    if !by.restrained {
        return Ok(None);
    }
    let names = if task.env.is_empty() {
        of_all.cloned()
    } else {
        let mut names = of_all.map(|names| (**names).clone()).unwrap_or_default();
        names.extend(task.env.keys().cloned());
        Some(Arc::new(names))
    };
    let all = names.iter().flat_map(|names| names.iter());
    let bytes: usize = all.map(String::len).sum();
    if bytes > NAMES_MAX_BYTES {
        let message = format!(
            "the names of the variables that are set for a task {} have {bytes} bytes together; {NAMES_MAX_BYTES} is the limit",
            way(by)
        );
        let hint = match by.kind {
            // The variables of the agent's own task count whether the agent unsets them or not.
            Kind::Agent { .. } => {
                "set fewer variables beside those that the agent's own task was given"
            }
            _ => "unset the variables that the task does not need",
        };
        return Err(AppError::new(ErrorKind::Limit, message).hint(hint));
    }
    Ok(names)
}

impl Host {
    /// Decides whether a principal may read the environments of tasks. No answer of a host has
    /// them, but a backup may.
    pub(crate) fn may_read_environments(&self, by: &Principal) -> Result<(), AppError> {
        may(by, Verb::ReadEnvironments, None, &self.settings.mcp)
    }

    /// The environment that the tasks of a request get.
    pub(super) async fn environment_by(
        &self,
        by: &Principal,
        asked: Environment,
        tasks: &[NewTask],
    ) -> Result<Given, AppError> {
        let ceiling = &self.settings.mcp;
        let set = asked.set.keys();
        may_set(
            by,
            ceiling,
            set.chain(tasks.iter().flat_map(|task| task.env.keys())),
        )?;
        if !by.restrained {
            return Ok(Given {
                environment: asked,
                set: None,
            });
        }
        let Environment { base, mut set } = asked;
        let mut names: BTreeSet<String> = set.keys().cloned().collect();
        set.insert(RESTRAINED.to_owned(), "1".to_owned());
        let base = match by.kind {
            Kind::Owner => base,
            Kind::Agent { task: Some(task) } => {
                let task = self
                    .read(move |reader| Ok(reader.store.task(task)?))
                    .await?;
                let task = task.ok_or_else(|| gone(by))?;
                let mut own = BTreeMap::clone(&*self.variables_of(Some(&task)).await?);
                names.extend(inherited(&task.request, ceiling, &mut own));
                own.extend(beside_variables(&task.request));
                with_told(own, base, ceiling, &mut names)
            }
            _ => with_told(minimal(), base, ceiling, &mut names),
        };
        Ok(Given {
            environment: Environment { base, set },
            set: (!names.is_empty()).then(|| Arc::new(names)),
        })
    }
}

/// Removes those variables of an agent's task that a restrained principal has set and could not set
/// any more. Returns the names of the others.
fn inherited(
    request: &Request,
    ceiling: &McpCeiling,
    own: &mut BTreeMap<String, String>,
) -> BTreeSet<String> {
    let set = request.set_variables.iter().flat_map(|names| names.iter());
    let (kept, removed): (BTreeSet<String>, BTreeSet<String>) =
        set.cloned().partition(|name| ceiling.may_set(name));
    own.retain(|name, _| !removed.contains(name));
    kept
}

/// An environment with those variables of the caller's process that an agent may set. Adds the
/// names of the variables that the agent has changed to `names`.
fn with_told(
    mut own: BTreeMap<String, String>,
    told: BTreeMap<String, String>,
    ceiling: &McpCeiling,
    names: &mut BTreeSet<String>,
) -> BTreeMap<String, String> {
    let may_be_set = told.into_iter().filter(|(name, _)| ceiling.may_set(name));
    for (name, value) in may_be_set {
        if own.get(&name) != Some(&value) {
            names.insert(name.clone());
            own.insert(name, value);
        }
    }
    own
}

/// Properties that a task inherits from its submitter in addition to variables. They are encoded as
/// variables, as a client encodes them in a request.
fn beside_variables(request: &Request) -> impl Iterator<Item = (String, String)> {
    let umask = request.umask.map(|umask| (UMASK, format!("{umask:04o}")));
    let bounds = request.bounds.as_ref();
    let bounds = bounds.map(|bounds| (BOUNDS, bounds.to_string()));
    let told = umask.into_iter().chain(bounds);
    told.map(|(name, value)| (name.to_owned(), value))
}

/// The host's own values of the minimal variables. A value that is not valid UTF-8 cannot be stored
/// with a task.
fn minimal() -> BTreeMap<String, String> {
    let named = |name: &str| match config::process_environment(name)?.into_string() {
        Ok(value) => Some((name.to_owned(), value)),
        Err(value) => {
            tracing::warn!(
                variable = name,
                ?value,
                "tasks do not get a variable that is not UTF-8"
            );
            None
        }
    };
    MINIMAL.into_iter().filter_map(named).collect()
}

fn gone(by: &Principal) -> AppError {
    AppError::new(
        ErrorKind::Conflict,
        format!(
            "cannot submit: tasks get the environment of the task that submits them, and the task of {by} is no longer stored"
        ),
    )
    .hint("submit it from a terminal, or from a task that is stored")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use claudine_domain::principal::Via;

    use super::*;

    #[test]
    fn a_submitting_task_passes_its_umask_and_limits_to_the_new_task() {
        let told = |request: &Request| beside_variables(request).collect::<Vec<_>>();
        let class = claudine_domain::task::Class::Command;
        let mut request = Request::new("shell", class);
        assert!(told(&request).is_empty());
        (request.umask, request.bounds) = (Some(0o027), Some("nice=7".into()));
        let expected = [(UMASK, "0027"), (BOUNDS, "nice=7")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(told(&request), expected);
    }

    fn pairs<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
        let owned = pairs.map(|(name, value)| (name.to_owned(), value.to_owned()));
        owned.into()
    }

    fn names<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
        names.map(str::to_owned).into()
    }

    fn allowing(name: &str) -> McpCeiling {
        McpCeiling {
            env: vec![name.to_owned()],
            ..McpCeiling::default()
        }
    }

    #[test]
    fn variables_that_a_client_could_not_set_any_more_are_not_passed_to_tasks_of_its_agent() {
        let request = Request {
            set_variables: Some(Arc::new(names(["CI", "DEBUG"]))),
            ..Request::new("claude", claudine_domain::task::Class::Agent)
        };
        let mut own = pairs([("CI", "1"), ("DEBUG", "x"), ("HOME", "/home/me")]);
        let kept = inherited(&request, &allowing("DEBUG"), &mut own);
        assert_eq!(kept, names(["DEBUG"]));
        assert_eq!(own, pairs([("DEBUG", "x"), ("HOME", "/home/me")]));
    }

    #[test]
    fn a_variable_that_an_agent_has_changed_for_its_command_counts_as_set() {
        let own = pairs([("DEBUG", "x"), ("LC_ALL", "C"), ("PATH", "/bin")]);
        let told = pairs([
            ("DEBUG", "y"),
            ("LC_ALL", "C"),
            ("PATH", "/evil"),
            ("CI", "1"),
        ]);
        let mut set = names(["NO_COLOR"]);
        let given = with_told(own, told, &McpCeiling::default(), &mut set);
        assert_eq!(set, names(["CI", "DEBUG", "NO_COLOR"]));
        let expected = [
            ("CI", "1"),
            ("DEBUG", "y"),
            ("LC_ALL", "C"),
            ("PATH", "/bin"),
        ];
        assert_eq!(given, pairs(expected));
    }

    #[test]
    fn the_variables_set_for_a_task_are_those_of_its_request_and_its_own() {
        let task = |env: &[&str]| {
            let env: BTreeMap<&str, &str> = env.iter().map(|name| (*name, "1")).collect();
            let task = serde_json::json!({
                "executor": "shell", "spec": {"script": "true"}, "working_directory": "/",
                "env": env,
            });
            serde_json::from_value::<NewTask>(task).unwrap()
        };
        let chat = Principal {
            via: Via::Mcp,
            restrained: true,
            ..Principal::default()
        };
        let of_all = Arc::new(names(["CI"]));
        let check = |by: &Principal, env: &[&str], of_all: Option<&Names>, expected: &[&str]| {
            let found = set_for(by, &task(env), of_all).unwrap();
            let found: Vec<&str> = found
                .iter()
                .flat_map(|it| it.iter())
                .map(|it| &**it)
                .collect();
            assert_eq!(found, expected);
        };
        check(&chat, &["DEBUG"], Some(&of_all), &["CI", "DEBUG"]);
        check(&chat, &["DEBUG"], None, &["DEBUG"]);
        check(&chat, &[], Some(&of_all), &["CI"]);
        assert!(set_for(&chat, &task(&[]), None).unwrap().is_none());
        check(&Principal::default(), &["PATH"], None, &[]);
        // The tasks of a request share the names.
        let shared = set_for(&chat, &task(&[]), Some(&of_all)).unwrap();
        assert!(Arc::ptr_eq(&shared.unwrap(), &of_all));
        let long = format!("LC_{}", "X".repeat(NAMES_MAX_BYTES));
        let refused = set_for(&chat, &task(&[&long]), None).unwrap_err();
        assert_eq!(refused.kind, ErrorKind::Limit);
        assert!(refused.hint.unwrap().contains("unset"));
        // An agent cannot unset the variables that its own task was given.
        let agent = Principal {
            kind: Kind::Agent { task: None },
            ..chat
        };
        let refused = set_for(&agent, &task(&[&long]), None).unwrap_err();
        assert!(refused.hint.unwrap().contains("set fewer variables"));
    }
}

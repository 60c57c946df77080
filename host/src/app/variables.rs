//! Determines the environment of a request's tasks, depending on the caller.
//!
//! Variables can circumvent every other limit: `PATH` decides which program `claude` is, and
//! `LD_PRELOAD` and `GIT_CONFIG_COUNT` change what a harmless program does. Therefore a restrained
//! principal can set only the variables listed in `mcp.env`. All other variables come from a place
//! where the principal cannot write: for an MCP server from the process that started the server,
//! for an attempt from the attempt's own task, and for an unknown agent from the host (only the
//! variables in `MINIMAL`).

use std::collections::BTreeMap;

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
    ceiling::{Refusal, way},
    config::{self, BOUNDS, McpCeiling, RESTRAINED, UMASK, is_dangerous},
};

/// Variables of a task submitted by an unknown agent.
const MINIMAL: [&str; 6] = ["HOME", "PATH", "USER", "LANG", "TERM", "TMPDIR"];

/// Refuses variables that a restrained principal may not set.
pub(super) fn settable<'a>(
    by: &Principal,
    ceiling: &McpCeiling,
    names: impl IntoIterator<Item = &'a String>,
) -> Result<(), AppError> {
    if !by.restrained {
        return Ok(());
    }
    match names.into_iter().find(|name| !ceiling.may_set(name)) {
        None => Ok(()),
        Some(name) => {
            let shown: String = name.chars().take(80).collect();
            let refused = format!(
                "variable `{}` may not be set {}",
                shown.escape_debug(),
                way(by)
            );
            if is_dangerous(name) {
                let message =
                    format!("{refused}: this variable can make programs run something else");
                return Err(AppError::new(ErrorKind::Forbidden, message).hint(
                    "no setting allows it; put what is needed into the prompt or the script",
                ));
            }
            let message = match ceiling.env.as_slice() {
                [] => format!("{refused}; no variable is allowed"),
                names => format!("{refused}; allowed are: {}", names.join(", ")),
            };
            Err(Refusal::of_setting(message, "env").into())
        }
    }
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
    ) -> Result<Environment, AppError> {
        let ceiling = &self.settings.mcp;
        let set = asked.set.keys();
        settable(
            by,
            ceiling,
            set.chain(tasks.iter().flat_map(|task| task.env.keys())),
        )?;
        if !by.restrained {
            return Ok(asked);
        }
        let Environment { base, mut set } = asked;
        set.insert(RESTRAINED.to_owned(), "1".to_owned());
        let own = match by.kind {
            Kind::Owner => return Ok(Environment { base, set }),
            Kind::Agent { task: Some(task) } => {
                let task = self
                    .read(move |reader| Ok(reader.store.task(task)?))
                    .await?;
                let task = task.ok_or_else(|| gone(by))?;
                let mut own = BTreeMap::clone(&*self.variables_of(Some(&task)).await?);
                own.extend(beside_variables(&task.request));
                own
            }
            _ => minimal(),
        };
        let told = base.into_iter().filter(|(name, _)| ceiling.may_set(name));
        Ok(Environment {
            base: own.into_iter().chain(told).collect(),
            set,
        })
    }
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

    #[test]
    fn a_restrained_principal_sets_only_listed_variables() {
        let check = |by: &Principal, name: &str, expected: Option<&str>| {
            let found = settable(by, &McpCeiling::default(), [&name.to_owned()]).err();
            if let Some(error) = &found {
                let hint = error.hint.as_ref().unwrap();
                assert_eq!(hint.contains("mcp.env"), !is_dangerous(name), "{hint}");
            }
            let found = found.map(|error| error.message);
            assert_eq!(found.is_some(), expected.is_some(), "{by} {name}");
            if let Some(expected) = expected {
                assert!(found.unwrap().starts_with(expected), "{by} {name}");
            }
        };
        let owner = Principal::default();
        let chat = Principal {
            via: Via::Mcp,
            restrained: true,
            ..Principal::default()
        };
        let agent = Principal {
            kind: Kind::Agent { task: None },
            via: Via::Cli,
            ..chat.clone()
        };
        check(&owner, "PATH", None);
        check(&chat, "CI", None);
        check(&agent, "LC_ALL", None);
        check(
            &chat,
            "PATH",
            Some("variable `PATH` may not be set over MCP"),
        );
        check(
            &agent,
            "GIT_CONFIG_COUNT",
            Some("variable `GIT_CONFIG_COUNT` may not be set by an agent"),
        );
        check(
            &chat,
            "A\u{1b}[2J",
            Some("variable `A\\u{1b}[2J` may not be set over MCP"),
        );
    }
}

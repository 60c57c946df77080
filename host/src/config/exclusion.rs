//! Variables of a submitter that are not passed to its tasks.

use serde::{Deserialize, Serialize};

use super::{ATTEMPT, BOUNDS, ConfigError, RESTRAINED, TASK_ID, UMASK, values::Setting};

/// Variables of a submitter that are not passed to tasks.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct EnvRules {
    /// Names of the variables. A `*` at the end of a name matches any characters.
    pub(crate) exclude: Vec<String>,
}

/// Variables that describe the agent session or the attempt in which a submitter runs. Their values
/// are never passed to a task.
const SESSION_VARIABLES: [&str; 12] = [
    "CLAUDECODE",
    "CLAUDE_CODE_SESSION_ID",
    "CLAUDE_CODE_ENTRYPOINT",
    "CLAUDE_CODE_EXECPATH",
    "CLAUDE_CODE_MESSAGING_TOKEN",
    "CLAUDE_CODE_SSE_PORT",
    "CLAUDE_PID",
    ATTEMPT,
    TASK_ID,
    UMASK,
    BOUNDS,
    RESTRAINED,
];

/// Variables that make git use a repository other than that of the working directory. Hooks run
/// with these variables, but a task outlives the hook that submits it, and may work in another
/// repository.
pub(crate) const GIT_ELSEWHERE: &[&str] = &[
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_DIR",
    "GIT_IMPLICIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_INTERNAL_SUPER_PREFIX",
    "GIT_NAMESPACE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_QUARANTINE_PATH",
    "GIT_SHALLOW_FILE",
    "GIT_WORK_TREE",
];

/// Whether a variable may have this name. Programs accept control characters in it, but people who
/// list the variables of a task on a terminal would not see what is there.
pub(crate) fn is_variable_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(|c: char| c == '=' || c.is_control())
}

/// An error if one of the names in this setting can be no variable, and so would match none.
pub(super) fn check_names(setting: Setting<'_>, names: &[String]) -> Result<(), ConfigError> {
    let expected = "a list of names of variables, which have no `=` and no control characters; a \
                    `*` at the end of a name matches any characters";
    match names.iter().find(|name| !is_variable_name(name)) {
        Some(name) => Err(setting.wrong(&name.escape_debug().to_string(), expected)),
        None => Ok(()),
    }
}

impl EnvRules {
    pub(super) fn checked(self, source: &str) -> Result<Self, ConfigError> {
        let name = "env.exclude";
        check_names(Setting { source, name }, &self.exclude)?;
        Ok(self)
    }

    /// These rules, and all others by which more variables are dropped.
    pub(crate) fn joined(&self, other: &Self) -> Self {
        let covers = |name: &String| self.exclude.iter().any(|rule| matches(rule, name));
        let more = other.exclude.iter().filter(|rule| !covers(rule));
        Self {
            exclude: self.exclude.iter().chain(more).cloned().collect(),
        }
    }

    /// Whether a variable of the submitter is not passed to its task.
    pub(crate) fn drops(&self, name: &str) -> bool {
        SESSION_VARIABLES.contains(&name)
            || GIT_ELSEWHERE.contains(&name)
            || self.exclude.iter().any(|rule| matches(rule, name))
    }
}

/// Whether a rule matches a variable. A `*` at the end of the rule matches any characters.
pub(super) fn matches(rule: &str, name: &str) -> bool {
    match rule.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => name == rule,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joined_rules_drop_what_either_rules_drop() {
        let rules = |words: &str| EnvRules {
            exclude: words.split_whitespace().map(str::to_owned).collect(),
        };
        let check = |one: &str, other: &str, expected: &str| {
            assert_eq!(rules(one).joined(&rules(other)), rules(expected));
        };
        check("", "", "");
        check("A", "", "A");
        check("", "A B*", "A B*");
        check("B* A", "A BC B* C", "B* A C");
        check("BC", "B*", "BC B*");
    }

    #[test]
    fn session_variables_and_excluded_ones_are_not_passed_to_tasks() {
        let rules = EnvRules {
            exclude: vec!["AWS_*".to_owned(), "TOKEN".to_owned()],
        };
        let dropped: Vec<&str> = [
            "CLAUDECODE",
            "AWS_SECRET",
            "TOKEN",
            "TOKENS",
            "PATH",
            "CLAUDINE_ATTEMPT",
            "CLAUDE_CONFIG_DIR",
            "GIT_DIR",
            "GIT_INDEX_FILE",
            "GIT_AUTHOR_NAME",
        ]
        .into_iter()
        .filter(|name| rules.drops(name))
        .collect();
        assert_eq!(
            dropped,
            [
                "CLAUDECODE",
                "AWS_SECRET",
                "TOKEN",
                "CLAUDINE_ATTEMPT",
                "GIT_DIR",
                "GIT_INDEX_FILE"
            ]
        );
    }
}

//! The table `[mcp]`: limits on requests by MCP clients and agents.

use claudine_domain::{
    principal::{Authority, Step},
    worktree::MergeStrategy,
};
use serde::{Deserialize, Serialize};

use super::{ConfigError, exclusion::matches, values::Setting};

/// Limits on requests by MCP clients and agents.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct McpCeiling {
    pub(crate) executors: Vec<String>,
    /// The highest authority of a task that a request may submit: the most powerful permission mode
    /// allowed for an agent, or the name of a step (`read`, `edit`, `run` or `full`).
    pub(crate) max_permission_mode: String,
    /// Allowed merge strategies. The strategies that are not allowed by default have effects
    /// outside the worktree.
    pub(crate) merge_strategies: Vec<MergeStrategy>,
    /// Allowed authorities in addition to the step, such as `network`.
    pub(crate) extras: Vec<String>,
    /// Variables that may be set; a `*` at the end matches any characters.
    pub(crate) env: Vec<String>,
}

impl Default for McpCeiling {
    fn default() -> Self {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        Self {
            executors: words(&["claude", "shell"]),
            max_permission_mode: "acceptEdits".to_owned(),
            merge_strategies: vec![MergeStrategy::Manual, MergeStrategy::Patch],
            extras: words(&["network"]),
            env: words(&[
                "CI",
                "DEBUG",
                "FORCE_COLOR",
                "LANG",
                "LC_*",
                "NO_COLOR",
                "RUST_BACKTRACE",
                "RUST_LOG",
            ]),
        }
    }
}

/// Accepted values of `max_permission_mode`, each with its step: the permission modes of agents,
/// and the names of the steps.
const MODES: [(&str, Step); 11] = [
    ("plan", Step::Read),
    ("dontAsk", Step::Read),
    ("manual", Step::Read),
    ("default", Step::Read),
    ("acceptEdits", Step::Edit),
    // A model decides which actions are allowed in this mode.
    ("auto", Step::Full),
    ("bypassPermissions", Step::Full),
    ("read", Step::Read),
    ("edit", Step::Edit),
    ("run", Step::Run),
    ("full", Step::Full),
];

/// Variables that make programs run code, find other programs, send data elsewhere, or read
/// settings from another place. No setting lets an agent set them, and a plugin may set them only
/// for commands granted with `*`. A `*` at the beginning or end matches any characters; case does
/// not matter.
const NEVER: &[&str] = &[
    "PATH",
    "HOME",
    "SHELL",
    "ENV",
    "BASH_*",
    "BASHOPTS",
    "SHELLOPTS",
    "PS4",
    "GLOBIGNORE",
    "PROMPT_COMMAND",
    "IFS",
    "CDPATH",
    "ZDOTDIR",
    "FPATH",
    "LD_*",
    "DYLD_*",
    "GCONV_PATH",
    "LOCPATH",
    "NLSPATH",
    "TERMINFO*",
    "GLIBC_*",
    "MALLOC_*",
    "TMPDIR",
    "XDG_*",
    "GIT_*",
    "SSH_*",
    "GH_*",
    "EDITOR",
    "VISUAL",
    "PAGER",
    "MANPAGER",
    "BROWSER",
    "LESS*",
    "NODE_*",
    "NPM_*",
    "PYTHON*",
    "PERL*",
    "RUBY*",
    "GEM_*",
    "BUNDLE_*",
    "LUA_*",
    "PHP*",
    "JAVA_*",
    "_JAVA_*",
    "JDK_*",
    "CLASSPATH",
    "CARGO*",
    "RUSTC*",
    "RUSTUP_*",
    "RUSTFLAGS",
    "MAKEFLAGS",
    "MAKEFILES",
    "GNUMAKEFLAGS",
    "CLAUDE*",
    "CLAUDINE_*",
    "ANTHROPIC_*",
    "IS_SANDBOX",
    "*_PROXY",
    "*_PRELOAD",
    "*_ASKPASS",
    "DOCKER_*",
];

/// Whether a variable is dangerous: no setting lets an agent set it, and a plugin may set it only
/// for commands granted with `*`.
pub(crate) fn is_dangerous(name: &str) -> bool {
    let upper = name.to_ascii_uppercase();
    NEVER.iter().any(|rule| match rule.strip_prefix('*') {
        Some(end) => upper.ends_with(end),
        None => matches(rule, &upper),
    })
}

impl McpCeiling {
    /// Refuses settings that are invalid or would make the other limits ineffective.
    pub(super) fn checked(self, source: &str) -> Result<Self, ConfigError> {
        let of = |name| Setting { source, name };
        if step_of(&self.max_permission_mode).is_none() {
            return Err(of("mcp.max_permission_mode").wrong(
                &self.max_permission_mode,
                "plan, dontAsk, manual, default, acceptEdits, auto or bypassPermissions, or read, edit, run or full",
            ));
        }
        match self.env.iter().find(|name| is_dangerous(name)) {
            Some(name) => Err(of("mcp.env").wrong(
                name,
                "a list of variables that cannot make programs run other code",
            )),
            None => Ok(self),
        }
    }

    /// The highest authority that a task may have.
    pub(crate) fn most(&self) -> Authority {
        let step = step_of(&self.max_permission_mode).unwrap_or(Step::Read);
        Authority {
            step,
            extras: self.extras.iter().cloned().collect(),
        }
    }

    /// The value of the variable by which an executor knows that its task is restrained: the extras
    /// that the task may have, separated by commas. `1` stands for none and `*` for all.
    pub(crate) fn restraint(&self) -> String {
        if self.most().step == Step::Full {
            return "*".to_owned();
        }
        match self.extras.as_slice() {
            [] => "1".to_owned(),
            extras => extras.join(","),
        }
    }

    /// Whether a variable may be set.
    pub(crate) fn may_set(&self, name: &str) -> bool {
        !is_dangerous(name) && self.env.iter().any(|rule| matches(rule, name))
    }

    /// Whether a request may use the executor `shell`, whose tasks can run any command. This makes
    /// the other limits ineffective.
    pub(crate) fn allows_commands(&self) -> bool {
        self.executors.iter().any(|name| name == "shell")
    }
}

/// The step for a permission mode.
pub(crate) fn step_of(mode: &str) -> Option<Step> {
    let mut modes = MODES.into_iter();
    modes.find(|(word, _)| *word == mode).map(|(_, step)| step)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn ceiling(toml: &str) -> Result<McpCeiling, String> {
        let ceiling: McpCeiling = toml::from_str(toml).map_err(|error| error.to_string())?;
        ceiling.checked("f").map_err(|error| error.to_string())
    }

    #[test]
    fn each_permission_mode_has_a_step() {
        let check = |mode: &str, expected: &str| {
            let ceiling = ceiling(&format!("max_permission_mode = {mode:?}\nextras = []"));
            assert_eq!(ceiling.unwrap().most().to_string(), expected, "{mode}");
        };
        for mode in ["plan", "dontAsk", "manual", "default"] {
            check(mode, "read");
        }
        check("acceptEdits", "edit");
        check("auto", "full");
        check("bypassPermissions", "full");
        for step in Step::ALL {
            check(step.as_str(), step.as_str());
        }
        assert_eq!(McpCeiling::default().most().to_string(), "edit, network");
        let error = ceiling("max_permission_mode = \"yolo\"").unwrap_err();
        assert!(
            error.contains("mcp.max_permission_mode is `yolo`"),
            "{error}"
        );
    }

    #[test]
    fn an_executor_is_told_the_extras_that_a_restrained_task_may_have() {
        let check = |toml: &str, expected: &str| {
            assert_eq!(ceiling(toml).unwrap().restraint(), expected, "{toml}");
        };
        check("", "network");
        check("extras = []", "1");
        check("extras = ['network', 'printer']", "network,printer");
        check("extras = []\nmax_permission_mode = 'full'", "*");
    }

    #[test]
    fn only_listed_variables_that_are_not_dangerous_may_be_set() {
        let usual = McpCeiling::default();
        for name in ["CI", "RUST_LOG", "LC_ALL"] {
            assert!(usual.may_set(name), "{name}");
        }
        let all = McpCeiling {
            env: vec!["*".to_owned()],
            ..McpCeiling::default()
        };
        assert!(!usual.may_set("ANYTHING") && all.may_set("ANYTHING"));
        for name in [
            "PATH",
            "LD_PRELOAD",
            "GIT_CONFIG_COUNT",
            "GIT_SSH_COMMAND",
            "NODE_OPTIONS",
            "BASH_ENV",
            "BASH_FUNC_ls%%",
            "ENV",
            "PYTHONSTARTUP",
            "PERL5OPT",
            "RUBYOPT",
            "JAVA_TOOL_OPTIONS",
            "CLAUDE_CONFIG_DIR",
            "ANTHROPIC_BASE_URL",
            "CLAUDINE_DATA_DIR",
            "IS_SANDBOX",
            "HOME",
            "XDG_CONFIG_HOME",
            "https_proxy",
            "RUSTC_WRAPPER",
            "MAKEFILES",
            "CLASSPATH",
            "GEM_PATH",
            "SUDO_ASKPASS",
            "ANY_PRELOAD",
            "npm_config_script_shell",
        ] {
            assert!(!all.may_set(name) && !usual.may_set(name), "{name}");
            // A setting that lists a dangerous variable by its name is refused.
            let error = ceiling(&format!("env = [{name:?}]")).unwrap_err();
            assert!(error.contains("mcp.env"), "{error}");
        }
    }
}

//! The table `[mcp]`: what MCP clients and agents may ask for at most.

use claudine_domain::{
    principal::{Authority, Step},
    worktree::MergeStrategy,
};
use serde::{Deserialize, Serialize};

use super::{ConfigError, matches, values::Setting};

/// What MCP clients may ask for at most: agents are what the policy restrains.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct McpCeiling {
    pub(crate) executors: Vec<String>,
    /// A permission mode of agents: a request may do what an agent can do in it. Or the word of a
    /// step.
    pub(crate) max_permission_mode: String,
    /// What may become of a worktree's branch: all but these reaches further than the worktree.
    pub(crate) merge_strategies: Vec<MergeStrategy>,
    /// What tasks may have beside their step, such as `network`.
    pub(crate) extras: Vec<String>,
    /// The variables that may be set; a `*` at the end of a name stands for any rest.
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

/// The permission modes of agents, each with the step that it stands for, and the steps themselves.
const MODES: [(&str, Step); 11] = [
    ("plan", Step::Read),
    ("dontAsk", Step::Read),
    ("manual", Step::Read),
    ("default", Step::Read),
    ("acceptEdits", Step::Edit),
    // What it lets pass is decided by a model.
    ("auto", Step::Full),
    ("bypassPermissions", Step::Full),
    ("read", Step::Read),
    ("edit", Step::Edit),
    ("run", Step::Run),
    ("full", Step::Full),
];

/// Variables that make programs run code, find others than they would, send what they have
/// elsewhere, or take settings from another place. No setting lets an agent set them, and a plugin
/// may set them only for commands that it was granted with `*`. A `*` at the end stands for any
/// rest, at the beginning for anything before; case does not matter.
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

/// Whether a variable is one that no agent may set, and no plugin for a command that it was
/// granted.
pub(crate) fn is_dangerous(name: &str) -> bool {
    let upper = name.to_ascii_uppercase();
    NEVER.iter().any(|rule| match rule.strip_prefix('*') {
        Some(end) => upper.ends_with(end),
        None => matches(rule, &upper),
    })
}

impl McpCeiling {
    /// Refuses settings that mean nothing, or would let an agent out whatever else they say.
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
                "a list of variables by which no program can be made to run something else",
            )),
            None => Ok(self),
        }
    }

    /// The most that a task may be able to do.
    pub(crate) fn most(&self) -> Authority {
        let step = step_of(&self.max_permission_mode).unwrap_or(Step::Read);
        Authority {
            step,
            extras: self.extras.iter().cloned().collect(),
        }
    }

    /// Whether a variable may be set.
    pub(crate) fn may_set(&self, name: &str) -> bool {
        !is_dangerous(name) && self.env.iter().any(|rule| matches(rule, name))
    }

    /// Whether a task may run any command, so that what the other settings keep away can be had by
    /// one.
    pub(crate) fn allows_commands(&self) -> bool {
        self.executors.iter().any(|name| name == "shell")
    }
}

/// The step that a permission mode stands for.
fn step_of(mode: &str) -> Option<Step> {
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
    fn each_mode_stands_for_a_step() {
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
    fn only_what_is_listed_may_be_set_and_what_runs_code_never() {
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
            // A person who lists one by its name is told at once.
            let error = ceiling(&format!("env = [{name:?}]")).unwrap_err();
            assert!(error.contains("mcp.env"), "{error}");
        }
    }
}

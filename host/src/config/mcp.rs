//! The table `[mcp]`: limits on requests by MCP clients and agents.

use std::path::{Component, Path};

use claudine_domain::{
    principal::{Authority, Step},
    worktree::MergeStrategy,
};
use serde::{Deserialize, Serialize};

use super::{
    ConfigError,
    exclusion::{check_names, matches},
    values::Setting,
};

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
    /// Directories in which tasks may work, and below which.
    pub(crate) directories: Vec<String>,
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
            directories: words(&["/"]),
        }
    }
}

/// The permission modes of agents, each with its step.
const MODES: [(&str, Step); 7] = [
    ("plan", Step::Read),
    ("dontAsk", Step::Read),
    ("manual", Step::Read),
    ("default", Step::Read),
    ("acceptEdits", Step::Edit),
    // A model decides which actions are allowed in this mode.
    ("auto", Step::Full),
    ("bypassPermissions", Step::Full),
];

/// The names of the steps, which are accepted for `max_permission_mode` too.
const STEPS: [(&str, Step); 4] = [
    ("read", Step::Read),
    ("edit", Step::Edit),
    ("run", Step::Run),
    ("full", Step::Full),
];

/// The known variables that make programs run code, find other programs, send data elsewhere, or
/// read settings from another place. No setting lets an agent set them, and a plugin may set them
/// only for commands granted with `*`. A `*` at the beginning or end matches any characters; case
/// does not matter.
///
/// No list has all of them, so kinds of names are listed where the programs follow a convention.
const NEVER: &[&str] = &[
    // Where programs and files are found.
    "PATH",
    "*HOME",
    "CDPATH",
    "FPATH",
    "CPATH",
    "COMPILER_PATH",
    "GCC_EXEC_PREFIX",
    "AWKPATH",
    "M4PATH",
    "GOPATH",
    "HGRCPATH",
    "CLASSPATH",
    "GCONV_PATH",
    "LOCPATH",
    "NLSPATH",
    "*LOAD_PATH",
    "*LOADPATH",
    "*LIBPATH",
    "*LIBRARY_PATH",
    "*INCLUDE_PATH",
    "*PLUGIN_PATH",
    "*MODULE_PATH",
    "*LAYER_PATH",
    "*DRIVERS_PATH",
    "*_PLUGINS",
    "*_MODULES",
    "TERMINFO*",
    "TERMCAP",
    "TMPDIR",
    "TMP",
    "TEMP",
    "XDG_*",
    // Programs that other programs start.
    "SHELL",
    "*_SHELL",
    "COMSPEC",
    "*EDITOR",
    "VISUAL",
    "*PAGER",
    "BROWSER",
    "*_ASKPASS",
    "*_RSH",
    "*_SSH",
    "*_COMMAND",
    "*_CMD",
    "*_LAUNCHER",
    "*_WRAPPER",
    "*_LINKER",
    "*_BIN",
    "*_BINARY",
    "*_BINARY_PATH",
    "*_EXECUTABLE",
    "*_EXECUTABLE_PATH",
    "*_PROG",
    "*_PROGRAM",
    "CC",
    "CC_*",
    "*_CC",
    "CXX",
    "CXX_*",
    "*_CXX",
    "CPP",
    "FC",
    "LD",
    "AS",
    "AR",
    "NM",
    "RANLIB",
    "STRIP",
    "OBJCOPY",
    "MAKE",
    "CROSS_COMPILE",
    "CCACHE_*",
    "DISTCC_*",
    "LEX",
    "YACC",
    // Arguments that programs take beside those of their command line.
    "*OPTS",
    "*OPTIONS",
    "*_ARGS",
    "*FLAGS",
    "LESS*",
    // Files with settings.
    "*CONFIG",
    "*_CONFIG_FILE",
    "*_CONFIG_PATH",
    "*_CONFIG_DIR",
    "*_RCFILE",
    "*_CREDENTIALS",
    "*_CREDENTIALS_FILE",
    "CONFIG_SITE",
    "CURLRC",
    "CONDARC",
    "EXRC",
    "GHCRTS",
    "INPUTRC",
    "LDAPCONF",
    "LDAPRC",
    "MAILRC",
    "MAMBARC",
    "NETRC",
    "PGSERVICEFILE",
    "PGSYSCONFDIR",
    "PSQLRC",
    "PYLINTRC",
    "SCREENRC",
    "WGETRC",
    "XAUTHORITY",
    // Servers and certificates.
    "*PROXY",
    "*INDEX_URL",
    "*_REGISTRY",
    "*_MIRROR",
    "*_ENDPOINT",
    "*_ENDPOINT_URL",
    "AWS_ENDPOINT_URL*",
    "*_CA_BUNDLE",
    "*_CA_FILE",
    "*_CA_PATH",
    "*_CA_CERT",
    "*_CA_CERTS",
    "*_CERT_DIR",
    "*_CERT_FILE",
    "PGSSL*",
    "SSL_*",
    "SSLKEYLOGFILE",
    "OPENSSL_*",
    "KRB5*",
    "HOSTALIASES",
    "LOCALDOMAIN",
    "RESOLV_*",
    "DBUS_*",
    "DISPLAY",
    "WAYLAND_*",
    "OTEL_*",
    // Shells.
    "ENV",
    "BASH_*",
    "PS4",
    "GLOBIGNORE",
    "IFS",
    "ZDOTDIR",
    // The C library, and libraries that load others.
    "LD_*",
    "DYLD_*",
    "*_PRELOAD",
    "GLIBC_*",
    "MALLOC_*",
    "GTK*",
    "GIO_*",
    "GST_*",
    "QT_*",
    "QML*",
    "VK_*",
    "LIBGL_*",
    // Languages and their tools.
    "NODE_*",
    "NPM_*",
    "PNPM_*",
    "YARN_*",
    "BUN_*",
    "DENO_*",
    "TS_NODE_*",
    "ELECTRON_*",
    "PYTHON*",
    "PIP_*",
    "UV_*",
    "POETRY_*",
    "CONDA_*",
    "COVERAGE_PROCESS_START",
    "PERL*",
    "RUBY*",
    "GEM_*",
    "BUNDLE_*",
    "LUA_*",
    "PHP*",
    "COMPOSER*",
    "JAVA_*",
    "_JAVA_*",
    "JDK_*",
    "MAVEN_*",
    "GRADLE_*",
    "CARGO*",
    "RUSTC*",
    "RUSTUP_*",
    "GOAUTH",
    "GOBIN",
    "GOCACHE",
    "GOENV",
    "GOINSECURE",
    "GOMODCACHE",
    "GONOSUMDB",
    "GOPRIVATE",
    "GOROOT",
    "GOSUMDB",
    "GOTMPDIR",
    "GOTOOLCHAIN",
    "GOVCS",
    "DOTNET_*",
    "CORECLR_*",
    "COMPLUS_*",
    "COR_*",
    "NUGET_*",
    "ERL*",
    "ELIXIR_*",
    "R_*",
    "JULIA_*",
    "GUILE_*",
    "TCL*",
    "GHC_*",
    "MAKEFILES",
    "CMAKE_*",
    "PKG_CONFIG*",
    // Other programs.
    "GIT_*",
    "HG",
    "HGMERGE",
    "RSYNC_*",
    "SSH_*",
    "GH_*",
    "GPG_*",
    "CURL_*",
    "DOCKER_*",
    "KUBE*",
    "HELM_*",
    "ANSIBLE_*",
    "TF_CLI_*",
    "NIX_*",
    "VIM*",
    "NVIM*",
    "GVIMINIT",
    "EXINIT",
    // The agent and Claudine.
    "CLAUDE*",
    "CLAUDINE_*",
    "ANTHROPIC_*",
    "VERTEX_*",
    "IS_SANDBOX",
];

/// The end of names that `*FLAGS` matches although they are no arguments of programs. Other rules
/// still apply to such a name, because a program may have its own variable of this name.
const SWITCHES: &str = "FEATURE_FLAGS";

/// Variables that a rule above matches although they do none of that.
const HARMLESS: &[&str] = &[
    "NODE_ENV",
    "PYTHONUNBUFFERED",
    "PYTHONDONTWRITEBYTECODE",
    "PYTHONHASHSEED",
    "CARGO_TERM_COLOR",
    "DOTNET_ENVIRONMENT",
];

/// Whether a variable is dangerous: no setting lets an agent set it, and a plugin may set it only
/// for commands granted with `*`.
pub(crate) fn is_dangerous(name: &str) -> bool {
    let upper = name.to_ascii_uppercase();
    let is_switches = upper
        .strip_suffix(SWITCHES)
        .is_some_and(|before| before.is_empty() || before.ends_with('_'));
    let mut rules = NEVER.iter();
    let is_listed = rules.any(|rule| match rule.strip_prefix('*') {
        Some(end) => upper.ends_with(end) && !(is_switches && end == "FLAGS"),
        None => matches(rule, &upper),
    });
    is_listed && !HARMLESS.contains(&upper.as_str())
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
        if let Some(directory) = self.directories.iter().find(|it| !is_plain(it)) {
            let expected = "a list of absolute paths of directories, without `..`";
            return Err(of("mcp.directories").wrong(directory, expected));
        }
        check_names(of("mcp.env"), &self.env)?;
        match self.env.iter().find(|name| is_dangerous(name)) {
            Some(name) => Err(of("mcp.env").wrong(
                name,
                "a list of variables that cannot make programs run other code",
            )),
            None => Ok(self),
        }
    }

    /// A ceiling under which nothing is allowed.
    pub(crate) fn nothing() -> Self {
        Self {
            executors: Vec::new(),
            max_permission_mode: Step::Read.as_str().to_owned(),
            merge_strategies: Vec::new(),
            extras: Vec::new(),
            env: Vec::new(),
            directories: Vec::new(),
        }
    }

    /// This ceiling without everything that the other one does not allow.
    pub(crate) fn narrowed_to(&self, other: &Self) -> Self {
        let step = |ceiling: &Self| ceiling.most().step;
        let lower = if step(self) <= step(other) {
            self
        } else {
            other
        };
        Self {
            executors: common(&self.executors, &other.executors),
            max_permission_mode: lower.max_permission_mode.clone(),
            merge_strategies: common(&self.merge_strategies, &other.merge_strategies),
            extras: common(&self.extras, &other.extras),
            env: overlap(&self.env, &other.env, is_covered),
            directories: overlap(&self.directories, &other.directories, is_inside),
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

    /// Whether any variable may be set that is not known as dangerous.
    pub(crate) fn allows_any_variable(&self) -> bool {
        self.env.iter().any(|rule| rule == "*")
    }

    /// Whether a request may use the executor `shell`, whose tasks can run any command. This makes
    /// the other limits ineffective.
    pub(crate) fn allows_commands(&self) -> bool {
        self.executors.iter().any(|name| name == "shell")
    }
}

/// The items of the first list that are in the second one too.
fn common<T: Clone + PartialEq>(items: &[T], others: &[T]) -> Vec<T> {
    let common = items.iter().filter(|item| others.contains(item));
    common.cloned().collect()
}

/// The rules of either list that are covered by the other list.
fn overlap(
    rules: &[String],
    others: &[String],
    is_covered: fn(&str, &[String]) -> bool,
) -> Vec<String> {
    let mut both = rules.to_vec();
    both.retain(|rule| is_covered(rule, others));
    for rule in others {
        if is_covered(rule, rules) && !is_covered(rule, &both) {
            both.push(rule.clone());
        }
    }
    both
}

/// Whether a directory is one of these, or below one of them.
fn is_inside(directory: &str, directories: &[String]) -> bool {
    let mut directories = directories.iter();
    directories.any(|it| Path::new(directory).starts_with(it))
}

/// Whether a path is absolute and does not go back.
fn is_plain(path: &str) -> bool {
    let path = Path::new(path);
    path.is_absolute() && !path.components().any(|part| part == Component::ParentDir)
}

/// Whether all variables that a rule matches are matched by one of the other rules.
fn is_covered(rule: &str, others: &[String]) -> bool {
    others.iter().any(|other| matches(other, rule))
}

/// The step for a permission mode of an agent.
pub(crate) fn step_of_mode(mode: &str) -> Option<Step> {
    let mut modes = MODES.into_iter();
    modes.find(|(word, _)| *word == mode).map(|(_, step)| step)
}

/// The step for a value of `max_permission_mode`.
fn step_of(word: &str) -> Option<Step> {
    let mut steps = STEPS.into_iter();
    let step = steps.find(|(name, _)| *name == word);
    step.map(|(_, step)| step).or_else(|| step_of_mode(word))
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
    fn directories_are_absolute() {
        for (list, is_valid) in [
            ("'/home/me/src', '/srv'", true),
            ("", true),
            ("'src'", false),
            ("'~/src'", false),
            ("''", false),
            ("'/srv', '/home/me/../you'", false),
        ] {
            let read = ceiling(&format!("directories = [{list}]"));
            assert_eq!(read.is_ok(), is_valid, "{list}: {read:?}");
        }
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
    fn a_narrowed_ceiling_allows_what_both_ceilings_allow() {
        let check = |one: &str, other: &str, expected: &str| {
            let (one, other) = (ceiling(one).unwrap(), ceiling(other).unwrap());
            let expected = ceiling(expected).unwrap();
            assert_eq!(one.narrowed_to(&other), expected);
            assert_eq!(expected.narrowed_to(&other), expected);
            assert_eq!(expected.narrowed_to(&one), expected);
        };
        check("", "", "");
        check("executors = ['claude', 'x']", "", "executors = ['claude']");
        let (plan, run) = (
            "max_permission_mode = 'plan'",
            "max_permission_mode = 'run'",
        );
        check(plan, run, plan);
        check(run, plan, plan);
        check("extras = []", "", "extras = []");
        check("", "extras = ['printer']", "extras = []");
        let merges = "merge_strategies = ['auto', 'patch']";
        check(merges, "", "merge_strategies = ['patch']");
        let (some, others) = ("env = ['A_*', 'B', 'C']", "env = ['A_X', 'A_Y*', 'B*']");
        check(some, others, "env = ['B', 'A_X', 'A_Y*']");
        check(others, some, "env = ['A_X', 'A_Y*', 'B']");
        check("env = ['*']", "env = ['A*', 'AB']", "env = ['A*']");
        let (some, others) = (
            "directories = ['/a', '/b/c', '/e']",
            "directories = ['/a/x', '/b', '/a/xy', '/ef']",
        );
        check(some, others, "directories = ['/b/c', '/a/x', '/a/xy']");
        check(others, some, "directories = ['/a/x', '/a/xy', '/b/c']");
        check("", some, some);
        let nothing = McpCeiling::nothing();
        assert_eq!(
            McpCeiling::default().narrowed_to(&nothing).most(),
            nothing.most()
        );
        assert!(!nothing.allows_commands() && !nothing.may_set("CI"));
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
        assert!(all.allows_any_variable() && !usual.allows_any_variable());
    }

    #[test]
    fn a_variable_is_dangerous_by_its_name_or_its_kind() {
        let check = |expected: bool, names: &str| {
            for name in names.split_whitespace() {
                assert_eq!(is_dangerous(name), expected, "{name}");
            }
        };
        // Programs, and their arguments.
        check(
            true,
            "CC CXX LD AR MAKE CMAKE_C_COMPILER_LAUNCHER CMAKE_CXX_COMPILER_LAUNCHER",
        );
        check(
            true,
            "TAR_OPTIONS BUN_OPTIONS CFLAGS GOFLAGS ERL_FLAGS ERL_AFLAGS PYTEST_ADDOPTS",
        );
        check(
            true,
            "MAVEN_OPTS GRADLE_OPTS MAVEN_ARGS SVN_SSH CVS_RSH BAT_PAGER DELTA_PAGER",
        );
        check(
            true,
            "TARGET_CC SCCACHE_WRAPPER CHROME_BIN FZF_DEFAULT_COMMAND KUBE_EDITOR",
        );
        check(
            true,
            "GCC_EXEC_PREFIX COMPILER_PATH CCACHE_PREFIX DISTCC_HOSTS AWKPATH M4PATH LEX YACC",
        );
        // The kind of a name does not excuse it if it belongs to such a program.
        check(
            true,
            "CLAUDE_CODE_FEATURE_FLAGS NODE_FEATURE_FLAGS MYFEATURE_FLAGS",
        );
        // Code that programs load.
        check(
            true,
            "DOTNET_STARTUP_HOOKS CORECLR_PROFILER PYTEST_PLUGINS GTK_MODULES VIMINIT",
        );
        check(
            true,
            "QT_PLUGIN_PATH VK_LAYER_PATH EMACSLOADPATH LIBRARY_PATH R_PROFILE HGRCPATH",
        );
        // Files with settings.
        check(
            true,
            "AWS_CONFIG_FILE KUBECONFIG CURL_HOME WGETRC PSQLRC GNUPGHOME OPENSSL_CONF",
        );
        check(
            true,
            "AWS_SHARED_CREDENTIALS_FILE GOOGLE_APPLICATION_CREDENTIALS M2_HOME TMP",
        );
        // Servers.
        check(
            true,
            "SSL_CERT_FILE REQUESTS_CA_BUNDLE GOPROXY PIP_INDEX_URL UV_INDEX_URL",
        );
        check(
            true,
            "OTEL_EXPORTER_OTLP_ENDPOINT AWS_ENDPOINT_URL_S3 HOSTALIASES res_options",
        );
        check(
            false,
            "FOO DEBUG NO_COLOR FORCE_COLOR CI RUST_LOG RUST_BACKTRACE LANG LC_ALL TZ",
        );
        check(
            false,
            "DATABASE_URL REDIS_URL API_URL PORT HOST NODE_ENV RAILS_ENV APP_ENV MIX_ENV",
        );
        check(
            false,
            "FEATURE_FLAGS APP_FEATURE_FLAGS LOG_LEVEL VERBOSE TERM COLUMNS LINES USER",
        );
        check(
            false,
            "API_KEY SECRET_KEY_BASE BASE_PATH PUBLIC_PATH SRC OUT_DIR BUILD_NUMBER",
        );
        check(
            false,
            "GOOS GOARCH GOMAXPROCS GODEBUG PYTHONUNBUFFERED CARGO_TERM_COLOR",
        );
        check(
            false,
            "AWS_REGION AWS_PROFILE TEST_THREADS SEED VERSION TARGET STAGE TIMEOUT",
        );
    }
}

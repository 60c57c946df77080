//! A command of git or of `gh`: the program, its arguments and how to run it.

use std::{
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use super::{
    At, Commit,
    environment::{INDEX, Variables},
    settings::{self, FIXED, IGNORE_CASE, NO_HOOKS},
};

/// The time limit for looking at refs, or at the files of a large repository with a cold cache.
pub(super) const SHORT: Duration = Duration::from_secs(20);
/// The time limit for reading or writing a whole checkout, and for contacting a remote.
pub(super) const LONG: Duration = Duration::from_mins(10);
/// The maximum number of bytes kept of each output. Most commands print a line; the status of a
/// directory with a hundred thousand changes is a few MiB.
const KEPT_BYTES: usize = 4 << 20;

/// The maximum number of bytes kept of a list with an entry for each file of a checkout: enough for
/// some hundred thousand files.
pub(super) const LIST_BYTES: usize = 64 << 20;

/// Maximum number of files in the arguments of one command.
pub(super) const FILES_MAX: usize = 500;

/// Commands that read settings and names only, if they change nothing.
const READ_SETTINGS: [&str; 5] = [
    "check-ref-format",
    "config",
    "symbolic-ref",
    "var",
    "version",
];

/// Commands that read refs, commits, directories and lists of files, if they change nothing. They
/// compare no file of a checkout with its content in the repository, and so run no filter.
/// `rev-parse` runs none either, but is the first command in a place, where a repository with too
/// many programs is refused.
const READ_LISTS: [&str; 7] = [
    "diff-tree",
    "for-each-ref",
    "ls-files",
    "ls-tree",
    "merge-base",
    "rev-list",
    "worktree",
];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Program {
    Git,
    Gh,
}

impl Program {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Git => "git",
            Self::Gh => "gh",
        }
    }
}

/// The purpose of a command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Purpose {
    /// The command only reads: it may be ended at any moment, and takes no optional locks.
    Reads,
    /// The command changes something: it is not ended early, and is retried if another process
    /// holds a lock.
    Changes,
}

/// The hooks of the repository or the user that are run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Hooks {
    None,
    /// The hooks that git runs for a push.
    OfPush,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Spec {
    pub(super) program: Program,
    pub(super) arguments: Vec<OsString>,
    pub(super) purpose: Purpose,
    pub(super) hooks: Hooks,
    pub(super) limit: Duration,
    pub(super) kept_bytes: usize,
    /// The index to use instead of the checkout's own index.
    index: Option<OsString>,
    /// The commit from which attributes of files are read, in place of the checkout.
    attributes: Option<String>,
    /// The directory that takes the place of the checkout. The command must run in a repository
    /// that is named explicitly.
    work_tree: Option<PathBuf>,
    /// Whether replacements of commits (`git replace`) are ignored when history is read.
    is_true: bool,
    /// Settings that apply only to this command.
    settings: Vec<(String, String)>,
    /// A checkout in which git runs a command of its own.
    other_checkout: Option<PathBuf>,
}

impl Spec {
    fn new<A: AsRef<OsStr>>(purpose: Purpose, arguments: impl IntoIterator<Item = A>) -> Self {
        let arguments = arguments.into_iter();
        Self {
            program: Program::Git,
            arguments: arguments.map(|it| it.as_ref().to_owned()).collect(),
            purpose,
            hooks: Hooks::None,
            limit: SHORT,
            kept_bytes: KEPT_BYTES,
            index: None,
            attributes: None,
            work_tree: None,
            is_true: false,
            settings: Vec::new(),
            other_checkout: None,
        }
    }

    pub(super) fn reads<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Self {
        Self::new(Purpose::Reads, arguments)
    }

    pub(super) fn changes<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Self {
        Self::new(Purpose::Changes, arguments)
    }

    pub(super) fn gh<A: AsRef<OsStr>>(
        purpose: Purpose,
        arguments: impl IntoIterator<Item = A>,
    ) -> Self {
        Self {
            program: Program::Gh,
            ..Self::new(purpose, arguments)
        }
    }

    pub(super) fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    pub(super) fn limit(self, limit: Duration) -> Self {
        Self { limit, ..self }
    }

    pub(super) fn hooks(self, hooks: Hooks) -> Self {
        Self { hooks, ..self }
    }

    pub(super) fn kept_bytes(self, kept_bytes: usize) -> Self {
        Self { kept_bytes, ..self }
    }

    pub(super) fn index(self, index: &Path) -> Self {
        Self {
            index: Some(index.into()),
            ..self
        }
    }

    /// Reads the attributes of files from this commit. Only new versions of git support this.
    pub(super) fn attributes_of(self, commit: &Commit) -> Self {
        Self {
            attributes: Some(commit.hash().to_owned()),
            ..self
        }
    }

    pub(super) fn work_tree(self, dir: &Path) -> Self {
        Self {
            work_tree: Some(dir.to_owned()),
            ..self
        }
    }

    /// Ignores replacements of commits. Commands that decide whether a branch is still needed use
    /// this, because anyone with write access to a repository can replace a commit by a commit with
    /// other parents.
    pub(super) fn of_true_history(self) -> Self {
        Self {
            is_true: true,
            ..self
        }
    }

    pub(super) fn setting(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.push((name.into(), value.into()));
        self
    }

    /// Adds the settings that apply to another command. Git then includes the same files as during
    /// that command: a file may be included only if a remote has a certain URL
    /// (`hasconfig:remote.*.url`).
    pub(super) fn with_settings_of(mut self, other: &Self) -> Self {
        self.settings.extend(other.settings.iter().cloned());
        self
    }

    #[cfg(test)]
    pub(super) fn settings(&self) -> &[(String, String)] {
        &self.settings
    }

    /// Tells that git runs a command of its own in this checkout.
    pub(super) fn with_other_checkout(self, dir: &Path) -> Self {
        Self {
            other_checkout: Some(dir.to_owned()),
            ..self
        }
    }

    pub(super) fn other_checkout(&self) -> Option<&Path> {
        self.other_checkout.as_deref()
    }

    pub(super) fn verb(&self) -> &OsStr {
        let verb = self.arguments.first();
        verb.map_or(OsStr::new(""), OsString::as_os_str)
    }

    /// Whether the command only reads settings and names, and so runs no program.
    pub(super) fn reads_settings_only(&self) -> bool {
        let verb = self.verb();
        self.program == Program::Git
            && self.purpose == Purpose::Reads
            && READ_SETTINGS.iter().any(|known| verb == *known)
    }

    /// Whether git runs no filter, no merge driver and no update of a submodule for the command.
    pub(super) fn runs_nothing_for_files(&self) -> bool {
        let verb = self.verb();
        let reads_lists = self.program == Program::Git
            && self.purpose == Purpose::Reads
            && READ_LISTS.iter().any(|known| verb == *known);
        reads_lists || self.reads_settings_only()
    }

    /// The command in the form in which messages show it: `git merge`.
    pub(super) fn called(&self) -> String {
        format!("{} {}", self.program.name(), self.verb().display())
    }

    /// The command with its arguments and its environment. Nothing is inherited from this process's
    /// environment. `folds_case` is whether names that differ only in case denote the same file in
    /// the checkout.
    pub(super) fn command(&self, at: &At, variables: &Variables, folds_case: bool) -> Command {
        let mut command = Command::new(self.program.name());
        command
            .env_clear()
            .envs(variables.iter())
            .stdin(Stdio::null());
        let mut fixed: Vec<_> = FIXED
            .iter()
            .map(|(name, value, _)| (*name, *value))
            .collect();
        if self.hooks == Hooks::None {
            fixed.push(NO_HOOKS);
        }
        fixed.push((IGNORE_CASE, if folds_case { "true" } else { "false" }));
        let own = self.settings.iter();
        fixed.extend(own.map(|(name, value)| (name.as_str(), value.as_str())));
        command.envs(settings::as_variables(fixed));
        if self.purpose == Purpose::Reads {
            command.env("GIT_OPTIONAL_LOCKS", "0");
        }
        if let Some(index) = &self.index {
            command.env(INDEX, index);
        }
        if let Some(commit) = &self.attributes {
            command.env("GIT_ATTR_SOURCE", commit);
        }
        if self.is_true {
            command.env("GIT_NO_REPLACE_OBJECTS", "1");
            command.env("GIT_GRAFT_FILE", "/dev/null");
        }
        // The repository is named explicitly, because git may be configured not to use a bare
        // repository that it finds by a search.
        if let At::Repository(dir) = at {
            command.env("GIT_DIR", dir);
        }
        if let Some(dir) = &self.work_tree {
            command.env("GIT_WORK_TREE", dir);
        }
        match self.program {
            // Git itself enters the directory, so that git reports a missing directory.
            Program::Git => {
                let dir = self.work_tree.as_deref().unwrap_or(at.dir());
                command.arg("-C").arg(dir).current_dir("/")
            }
            Program::Gh => command.current_dir(at.dir()),
        };
        command.args(&self.arguments);
        command
    }
}

/// A pathspec that matches only this path, whatever characters the path contains.
pub(super) fn literal(path: &str) -> String {
    format!(":(top,literal){path}")
}

/// A pathspec that leaves out this path and everything below it.
pub(super) fn without(path: &str) -> String {
    format!(":(exclude,top,literal){path}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn variable(command: &Command, name: &str) -> Option<String> {
        let mut set = command.get_envs();
        let value = set.find_map(|(known, value)| (known == name).then_some(value))?;
        value.map(|value| value.to_string_lossy().into_owned())
    }

    fn settings_of(command: &Command) -> BTreeMap<String, String> {
        let count: usize = variable(command, "GIT_CONFIG_COUNT")
            .map_or(0, |count| count.parse().unwrap_or_default());
        let setting = |at: usize| {
            let name = variable(command, &format!("GIT_CONFIG_KEY_{at}"));
            let value = variable(command, &format!("GIT_CONFIG_VALUE_{at}"));
            name.zip(value)
        };
        (0..count).filter_map(setting).collect()
    }

    #[test]
    fn a_command_gets_only_its_own_variables_and_arguments() {
        let variables = Variables::new([], &BTreeMap::new());
        let checkout = At::Checkout("/work".into());
        let command = |spec: &Spec, at: &At| spec.command(at, &variables, false);

        let look = command(&Spec::reads(["status", "-z"]), &checkout);
        let words: Vec<_> = look.get_args().collect();
        assert_eq!(words, ["-C", "/work", "status", "-z"]);
        assert_eq!(variable(&look, "GIT_OPTIONAL_LOCKS").as_deref(), Some("0"));
        assert_eq!(variable(&look, "GIT_DIR"), None);
        let settings = settings_of(&look);
        assert_eq!(settings["core.hooksPath"], "/dev/null");
        assert_eq!(settings["gc.auto"], "0");
        assert_eq!(settings["core.ignoreCase"], "false");
        assert_eq!(settings["core.filesRefLockTimeout"], "100");
        assert_eq!(settings["core.packedRefsTimeout"], "1000");
        assert_eq!(settings.len(), FIXED.len() + 2);

        let folding = Spec::reads(["status"]).command(&checkout, &variables, true);
        assert_eq!(settings_of(&folding)["core.ignoreCase"], "true");

        let change = command(&Spec::changes(["commit"]), &checkout);
        assert_eq!(variable(&change, "GIT_OPTIONAL_LOCKS"), None);
        assert_eq!(settings_of(&change)["core.hooksPath"], "/dev/null");

        let one = Spec::changes(["merge"]).setting("branch.a.b.mergeOptions", "-x");
        let settings = settings_of(&command(&one, &checkout));
        assert_eq!(settings["branch.a.b.mergeOptions"], "-x");
        assert_eq!(settings["gc.auto"], "0");

        let push = Spec::changes(["push"]).hooks(Hooks::OfPush);
        let settings = settings_of(&command(&push, &checkout));
        assert!(!settings.contains_key("core.hooksPath"), "{settings:?}");

        let refs = Spec::reads(["rev-parse"]).index(Path::new("/index"));
        let refs = command(&refs, &At::Repository("/bare".into()));
        assert_eq!(variable(&refs, "GIT_DIR").as_deref(), Some("/bare"));
        assert_eq!(variable(&refs, "GIT_INDEX_FILE").as_deref(), Some("/index"));
    }

    #[test]
    fn only_commands_that_read_lists_count_as_running_nothing_for_files() {
        for arguments in [
            &["for-each-ref", "refs/heads"][..],
            &["worktree", "list"],
            &["ls-files", "--others"],
            &["config", "--list"],
        ] {
            assert!(Spec::reads(arguments).runs_nothing_for_files());
            assert!(!Spec::changes(arguments).runs_nothing_for_files());
            assert!(!Spec::gh(Purpose::Reads, arguments).runs_nothing_for_files());
        }
        for arguments in [
            &["status"][..],
            &["diff", "--cached"],
            &["diff-index", "HEAD"],
            &["add", "--intent-to-add"],
            &["cat-file", "--filters"],
        ] {
            assert!(!Spec::reads(arguments).runs_nothing_for_files());
        }
    }

    #[test]
    fn a_command_that_changes_a_ref_does_not_count_as_one_that_reads_settings_only() {
        assert!(Spec::reads(["config", "--get", "a.b"]).reads_settings_only());
        assert!(Spec::reads(["symbolic-ref", "HEAD"]).reads_settings_only());
        assert!(!Spec::changes(["symbolic-ref", "HEAD", "refs/heads/a"]).reads_settings_only());
        assert!(!Spec::reads(["status"]).reads_settings_only());
        assert!(!Spec::gh(Purpose::Reads, ["config"]).reads_settings_only());
    }

    #[test]
    fn messages_name_a_command_by_program_and_verb() {
        assert_eq!(Spec::reads(["rev-parse", "HEAD"]).called(), "git rev-parse");
        assert_eq!(Spec::gh(Purpose::Reads, ["pr", "list"]).called(), "gh pr");
    }
}

//! Settings of git that are always the same, whatever a user, a system or a repository has
//! configured.
//!
//! These settings are given with every command, and override all files. All other settings are
//! either fixed by an option of the command that reads them (`diff.*`, `push.followTags`,
//! `merge.ff` …), or apply to our commands on purpose: identity, remotes and their credentials,
//! filters, attributes, ignored files, line ends, merge drivers and the detection of renames in a
//! merge.

use std::path::Path;

use super::GitError;

/// A setting, its value, and the reason why it is fixed.
pub(super) const FIXED: &[(&str, &str, &str)] = &[
    (
        "core.fsmonitor",
        "false",
        "it runs a program whenever git checks the files",
    ),
    (
        "safe.bareRepository",
        "explicit",
        "plain files, which a clone may contain or an agent may write, could act as a \
         repository whose settings run programs",
    ),
    ("core.askPass", "", "no window may ask for a password"),
    (
        "credential.interactive",
        "false",
        "no helper may ask for a password",
    ),
    (
        "core.ignoreStat",
        "false",
        "it hides changes in a new checkout",
    ),
    (
        "core.trustCtime",
        "true",
        "a changed file may have the size and the modification time of the old one",
    ),
    (
        "core.checkStat",
        "default",
        "a changed file may have the size and the modification time of the old one",
    ),
    (
        "core.splitIndex",
        "false",
        "it leaves files beside a temporary index",
    ),
    (
        "core.filesRefLockTimeout",
        "100",
        "git could wait for ever for the lock of a ref, while files of a checkout are replaced",
    ),
    (
        "core.packedRefsTimeout",
        "1000",
        "git could wait for ever for the lock of a ref, while files of a checkout are replaced",
    ),
    ("core.quotePath", "false", "names must not be quoted"),
    (
        "core.safecrlf",
        "false",
        "it refuses to add files with mixed line ends",
    ),
    ("core.editor", ":", "nobody can use an editor"),
    ("color.ui", "false", "a program reads the output"),
    ("column.ui", "never", "a program reads the output"),
    (
        "status.showUntrackedFiles",
        "normal",
        "git's own check before it removes a worktree depends on it",
    ),
    (
        "status.renames",
        "false",
        "the old path of a renamed file must be listed too",
    ),
    (
        "diff.autoRefreshIndex",
        "true",
        "without it, unchanged files count as changed in a temporary index",
    ),
    (
        "diff.suppressBlankEmpty",
        "false",
        "no option can override it for a patch",
    ),
    (
        "diff.orderFile",
        "/dev/null",
        "a configured file that is missing makes git fail",
    ),
    (
        "add.ignoreErrors",
        "false",
        "a file that cannot be added must be an error",
    ),
    (
        "commit.gpgSign",
        "false",
        "nobody can type a passphrase, and signatures are the user's",
    ),
    (
        "commit.cleanup",
        "whitespace",
        "a line of a title may begin with `#`",
    ),
    ("i18n.commitEncoding", "UTF-8", "our messages are UTF-8"),
    (
        "merge.verifySignatures",
        "false",
        "commits of tasks are not signed",
    ),
    (
        "merge.autoStash",
        "false",
        "git must not move the user's uncommitted changes",
    ),
    ("merge.log", "false", "it adds text to a message"),
    (
        "rerere.enabled",
        "false",
        "it resolves conflicts unasked, by repeating earlier resolutions",
    ),
    (
        "rerere.autoUpdate",
        "false",
        "it resolves conflicts unasked",
    ),
    ("push.gpgSign", "false", "nobody can type a passphrase"),
    (
        "push.pushOption",
        "",
        "options act on the remote, such as opening a pull request",
    ),
    (
        "submodule.recurse",
        "false",
        "a separate command checks out submodules",
    ),
    (
        "worktree.useRelativePaths",
        "false",
        "an older git could no longer read the repository",
    ),
    (
        "worktree.guessRemote",
        "false",
        "a worktree is made only of the given commit",
    ),
    (
        "checkout.workers",
        "1",
        "a repository could let git start as many processes as it has files",
    ),
    (
        "submodule.fetchJobs",
        "1",
        "a repository could let git start as many processes as it has submodules",
    ),
    (
        "fetch.parallel",
        "1",
        "a repository could let git start as many processes as it has submodules",
    ),
    (
        "pack.threads",
        "0",
        "a repository could let git start very many threads; 0 means one for each core",
    ),
    (
        "gc.auto",
        "0",
        "it continues after the command, on files that the user may be using",
    ),
    (
        "maintenance.auto",
        "false",
        "it continues after the command",
    ),
];

/// Disables hooks, which are meant for the user's own commands. Only a push runs hooks, because
/// users rely on them to stop commits that must not reach a remote.
pub(super) const NO_HOOKS: (&str, &str) = ("core.hooksPath", "/dev/null");

/// The setting that tells git whether names that differ only in case denote the same file. It is
/// set to what the file system of the checkout does, because git overlooks files if the value is
/// wrong.
pub(super) const IGNORE_CASE: &str = "core.ignoreCase";

/// The maximum number of names of a configuration that are disabled one by one. Git searches its
/// whole environment for each setting, so many settings would make each command slow.
const DISABLED_MAX: usize = 500;

/// Fails if the settings of the repository of a directory name more programs than can be disabled.
pub(super) fn few_enough(count: usize, dir: &Path) -> Result<(), GitError> {
    if count <= DISABLED_MAX {
        return Ok(());
    }
    Err(GitError::TooManyPrograms {
        dir: dir.to_owned(),
        count,
        most: DISABLED_MAX,
    })
}

/// Settings as environment variables, which git passes on to every process that it starts.
pub(super) fn as_variables<'a>(
    settings: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Vec<(String, String)> {
    let mut variables = Vec::new();
    for (at, (name, value)) in settings.into_iter().enumerate() {
        variables.push((format!("GIT_CONFIG_KEY_{at}"), name.to_owned()));
        variables.push((format!("GIT_CONFIG_VALUE_{at}"), value.to_owned()));
    }
    let count = variables.len() / 2;
    variables.push(("GIT_CONFIG_COUNT".to_owned(), count.to_string()));
    variables
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_git_are_passed_as_variables() {
        let variables = as_variables([("a.b", "c"), NO_HOOKS]);
        let expected = [
            ("GIT_CONFIG_KEY_0", "a.b"),
            ("GIT_CONFIG_VALUE_0", "c"),
            ("GIT_CONFIG_KEY_1", "core.hooksPath"),
            ("GIT_CONFIG_VALUE_1", "/dev/null"),
            ("GIT_CONFIG_COUNT", "2"),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(variables, expected);
    }

    #[test]
    fn a_configuration_with_too_many_programs_is_refused_with_the_way_out() {
        let dir = Path::new("/work/a b");
        assert!(few_enough(DISABLED_MAX, dir).is_ok());
        let refused = few_enough(DISABLED_MAX + 1, dir).map_err(|error| error.to_string());
        let expected = "git is not run in /work/a b: its settings name 501 filters, merge \
                        drivers or hooks that would have to be disabled one by one, and 500 is \
                        the limit; `git -C '/work/a b' config --list --show-origin` shows in \
                        which files they are";
        assert_eq!(refused, Err(expected.to_owned()));
    }

    #[test]
    fn each_setting_has_one_value_and_a_reason() {
        let mut names: Vec<String> = FIXED.iter().map(|(name, ..)| name.to_lowercase()).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), FIXED.len());
        assert!(FIXED.iter().all(|(.., why)| !why.is_empty()));
    }
}

//! Settings of git that are the same whatever a person, a system or a repository has configured.
//!
//! They are given with every command, above all files. What is not in the table is either given by
//! an option of the command that heeds it (`diff.*`, `push.followTags`, `merge.ff` …), or is meant
//! to count for us too: identity, remotes and their credentials, filters, attributes, ignored
//! files, line ends, merge drivers and how renames are found in a merge.

/// A setting, its value, and why it is not left to anybody.
pub(super) const FIXED: &[(&str, &str, &str)] = &[
    (
        "core.fsmonitor",
        "false",
        "a program, at every look at the files",
    ),
    (
        "safe.bareRepository",
        "explicit",
        "a directory of plain files, as a clone may bring it or an agent may write it, is a \
         repository with programs of its own in its settings",
    ),
    ("core.askPass", "", "a window that asks for a password"),
    ("credential.interactive", "false", "the same, by a helper"),
    (
        "core.ignoreStat",
        "false",
        "it hides what is changed in a new checkout from every look",
    ),
    (
        "core.splitIndex",
        "false",
        "it leaves files beside an index that is only made for a look",
    ),
    ("core.quotePath", "false", "names are read as they are"),
    (
        "core.safecrlf",
        "false",
        "it refuses to add a file for its line ends",
    ),
    ("core.editor", ":", "nobody is there to write"),
    ("color.ui", "false", "what is printed is read by a program"),
    ("column.ui", "never", "the same"),
    (
        "status.showUntrackedFiles",
        "normal",
        "git itself heeds it before it removes a worktree",
    ),
    (
        "status.renames",
        "false",
        "the old path of a renamed file is a path too",
    ),
    (
        "diff.suppressBlankEmpty",
        "false",
        "no option of a patch says otherwise",
    ),
    (
        "diff.orderFile",
        "/dev/null",
        "without that file nothing is looked at and nothing committed",
    ),
    (
        "add.ignoreErrors",
        "false",
        "a file that cannot be added is not to be left out",
    ),
    (
        "commit.gpgSign",
        "false",
        "a passphrase that nobody types; what a person signs is theirs",
    ),
    (
        "commit.cleanup",
        "whitespace",
        "a line of a title may begin with a `#`",
    ),
    ("i18n.commitEncoding", "UTF-8", "messages are"),
    (
        "merge.verifySignatures",
        "false",
        "what a task has made is signed by nobody",
    ),
    (
        "merge.autoStash",
        "false",
        "changes of a person are left where they are",
    ),
    ("merge.log", "false", "it adds to a message"),
    (
        "rerere.enabled",
        "false",
        "it resolves a conflict by an earlier one, unasked",
    ),
    ("rerere.autoUpdate", "false", "the same"),
    ("push.gpgSign", "false", "a passphrase that nobody types"),
    (
        "push.pushOption",
        "",
        "options act on the remote, such as opening a request there",
    ),
    (
        "submodule.recurse",
        "false",
        "submodules are filled by a command of their own",
    ),
    (
        "worktree.useRelativePaths",
        "false",
        "an older git could not read the repository any more",
    ),
    (
        "worktree.guessRemote",
        "false",
        "a worktree is made of what it is told",
    ),
    (
        "gc.auto",
        "0",
        "it works on after its command, on what a person may be using",
    ),
    ("maintenance.auto", "false", "the same"),
];

/// Hooks are for what a person does. Only a push runs them: those that keep something from a remote
/// are to be asked by everybody.
pub(super) const NO_HOOKS: (&str, &str) = ("core.hooksPath", "/dev/null");

/// Settings as variables, which git hands on to all that it starts.
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
    fn settings_become_variables() {
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
    fn each_setting_has_one_value_and_a_reason() {
        let mut names: Vec<String> = FIXED.iter().map(|(name, ..)| name.to_lowercase()).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), FIXED.len());
        assert!(FIXED.iter().all(|(.., why)| !why.is_empty()));
    }
}

//! Disables hooks that a configuration names. Git from 2.54 runs them (`hook.NAME.command`) beside
//! those in the directory of hooks, which a setting replaces ([`NO_HOOKS`]).
//!
//! Git has no setting against all of them. It has two kinds of switches:
//!
//! - `hook.NAME.enabled` disables one of them, so the names are looked up before each command that
//!   could run one. Somebody could still add a name in the moment between this look and the
//!   command, or in a submodule, or in a file that is included only in a checkout that the command
//!   makes.
//! - `hook.EVENT.enabled` disables all hooks of an event, whatever their names are. Git from 2.55
//!   knows it, but takes the event for a name if somebody has set `hook.EVENT.command`.
//!
//! [`NO_HOOKS`]: super::settings::NO_HOOKS

use std::{
    borrow::Cow,
    collections::BTreeSet,
    env,
    ffi::OsStr,
    fs,
    os::unix::fs::MetadataExt,
    sync::{Arc, Mutex},
    time::Duration,
};

use super::{
    At, Git, GitError, failed,
    settings::few_enough,
    spec::{Hooks, Spec},
};
use crate::{clock, lock::lock};

/// Settings that make a name one of a hook.
const NAMED: &str = r"^hook\..*\.(command|event|parallel)$";

/// The events for which commands of the host could run hooks.
const EVENTS: [&str; 15] = [
    "applypatch-msg",
    "commit-msg",
    "post-applypatch",
    "post-checkout",
    "post-commit",
    "post-index-change",
    "post-merge",
    "post-rewrite",
    "pre-applypatch",
    "pre-auto-gc",
    "pre-commit",
    "pre-merge-commit",
    "pre-rebase",
    "prepare-commit-msg",
    "reference-transaction",
];

/// The first version that runs hooks which a configuration names is 2.54. Builds on the way to it
/// call themselves 2.53.
const SINCE: (u32, u32) = (2, 53);

/// How long the version of git counts as known, if its file is the same. A person may install
/// another git at any time, and the file may be a script that starts another one.
const KNOWN_FOR: Duration = Duration::from_mins(1);

/// What the installed git has said about itself.
#[derive(Debug, Default)]
pub(crate) struct Installed(Mutex<Option<Said>>);

#[derive(Debug)]
struct Said {
    /// The file that was git just before it was asked.
    file: Option<ProgramFile>,
    /// The text with which it told its version.
    printed: String,
    /// The time at which it was asked.
    at: Duration,
}

/// A file of a program. It is another one after an upgrade.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct ProgramFile {
    device: u64,
    inode: u64,
    /// The time of the last change of the file, in seconds and nanoseconds.
    changed: (i64, i64),
}

impl ProgramFile {
    /// The file that runs if a program is looked for in these directories.
    fn find(program: &str, path: &OsStr) -> Option<Self> {
        let mut found =
            env::split_paths(path).filter_map(|dir| fs::metadata(dir.join(program)).ok());
        let is_program = |file: &fs::Metadata| file.is_file() && file.mode() & 0o111 != 0;
        found.find(is_program).map(|file| Self {
            device: file.dev(),
            inode: file.ino(),
            changed: (file.ctime(), file.ctime_nsec()),
        })
    }
}

impl Installed {
    /// The last answer; `None` if it may be outdated, or if git was another file.
    fn recent(&self, file: Option<ProgramFile>, now: Duration) -> Option<String> {
        let said = lock(&self.0);
        let said = said.as_ref().filter(|said| said.file == file)?;
        let age = now.saturating_sub(said.at);
        (age < KNOWN_FOR).then(|| said.printed.clone())
    }

    fn note(&self, file: Option<ProgramFile>, printed: &str) {
        *lock(&self.0) = Some(Said {
            file,
            printed: printed.to_owned(),
            at: clock::monotonic(),
        });
    }
}

impl Git {
    /// The same setup, which uses what other gits of the host have found out about the program.
    pub(crate) fn sharing(self, installed: &Arc<Installed>) -> Self {
        Self {
            installed: installed.clone(),
            ..self
        }
    }

    /// The command with settings by which it runs no hook that a configuration names. A push runs
    /// its hooks.
    pub(super) async fn without_named_hooks<'a>(
        &self,
        spec: &'a Spec,
        folds_case: bool,
    ) -> Result<Cow<'a, Spec>, GitError> {
        let runs_hooks = spec.hooks == Hooks::None && !spec.reads_settings_only();
        if !runs_hooks || !self.knows_named_hooks(folds_case).await? {
            return Ok(Cow::Borrowed(spec));
        }
        let mut names = self.named_hooks_at(&self.at, spec, folds_case).await?;
        // Settings may be included only in one of the places.
        if let Some(dir) = spec.other_checkout() {
            let at = At::Checkout(dir.to_owned());
            names.extend(self.named_hooks_at(&at, spec, folds_case).await?);
        }
        few_enough(names.len(), self.dir())?;
        let names = EVENTS.into_iter().map(str::to_owned).chain(names);
        let disabled = names.fold(spec.clone(), |spec, name| {
            spec.setting(format!("hook.{name}.enabled"), "false")
        });
        Ok(Cow::Owned(disabled))
    }

    /// Whether this git runs hooks that a configuration names. This is looked up at most once.
    pub(super) async fn knows_named_hooks(&self, folds_case: bool) -> Result<bool, GitError> {
        let looked = self
            .knows_named_hooks
            .get_or_try_init(|| self.look_up_version(folds_case));
        looked.await.copied()
    }

    async fn look_up_version(&self, folds_case: bool) -> Result<bool, GitError> {
        let printed = self.printed_version(folds_case).await?;
        // An unknown version may be a newer one.
        Ok(version(&printed).is_none_or(|version| version >= SINCE))
    }

    /// The text with which git tells its version.
    pub(super) async fn printed_version(&self, folds_case: bool) -> Result<String, GitError> {
        let spec = Spec::reads(["version"]);
        let program = spec.program.name();
        let path = self.variables.path().map(OsStr::to_owned);
        let file = self
            .look_at_files(move |_| path.and_then(|path| ProgramFile::find(program, &path)))
            .await?;
        if let Some(printed) = self.installed.recent(file, clock::monotonic()) {
            return Ok(printed);
        }
        // The directory of the command may be missing, which the command itself reports.
        let at = At::Checkout("/".into());
        let found = self.run_at(&at, &spec, &self.variables, folds_case).await?;
        if !found.status.success() {
            return Err(failed(&spec, &found));
        }
        let printed = String::from_utf8_lossy(&found.stdout).into_owned();
        self.installed.note(file, &printed);
        Ok(printed)
    }

    /// The names of the hooks that the configuration of a place names during a command.
    async fn named_hooks_at(
        &self,
        at: &At,
        command: &Spec,
        folds_case: bool,
    ) -> Result<BTreeSet<String>, GitError> {
        let spec = Spec::reads(["config", "-z", "--name-only", "--get-regexp", NAMED]);
        let spec = spec.with_settings_of(command);
        self.settings_at(at, &spec, folds_case, hook_names).await
    }
}

/// The names of hooks in a list of names of settings; `None` if the list cannot be parsed.
fn hook_names(output: &str) -> Option<BTreeSet<String>> {
    let settings = output.split_terminator('\0');
    settings
        .map(|setting| {
            let (name, _) = setting.strip_prefix("hook.")?.rsplit_once('.')?;
            Some(name.to_owned())
        })
        .collect()
}

/// The first two numbers of the version that git has printed.
fn version(printed: &str) -> Option<(u32, u32)> {
    let mut numbers = printed.trim().strip_prefix("git version ")?.split('.');
    let major = numbers.next()?.parse().ok()?;
    let minor = numbers.next()?.parse().ok()?;
    Some((major, minor))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn the_names_of_hooks_are_found_whatever_characters_they_have() {
        let output = "hook.a.command\0hook.a.event\0hook.a.event\0hook.b=c. d.größe.event\0\
                      hook.Upper.command\0hook..command\0";
        let names = hook_names(output).unwrap();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        assert_eq!(names, ["", "Upper", "a", "b=c. d.größe"]);
        assert_eq!(hook_names(""), Some(BTreeSet::new()));
        assert_eq!(hook_names("hook.a.command\0hoo"), None);
    }

    #[test]
    fn a_version_is_looked_up_again_after_a_while() {
        let installed = Installed::default();
        let now = clock::monotonic;
        assert_eq!(installed.recent(None, now()), None);
        for printed in ["git version 2.47.3\n", "git version 2.54.0\n"] {
            installed.note(None, printed);
            assert_eq!(installed.recent(None, now()).as_deref(), Some(printed));
        }
        assert_eq!(installed.recent(None, now() + KNOWN_FOR), None);
    }

    #[test]
    fn hooks_are_looked_up_for_each_git_that_may_run_them() {
        let runs = |printed: &str| version(printed).is_none_or(|version| version >= SINCE);
        for old in [
            "git version 2.39.5\n",
            "git version 2.47.3",
            "git version 2.50.1 (Apple Git-155)",
            "git version 1.99",
        ] {
            assert!(!runs(old), "{old}");
        }
        for new in [
            "git version 2.53.GIT",
            "git version 2.54.0.rc1\n",
            "git version 2.100.0",
            "git version 3.0.0",
            "something else",
            "git version 2",
            "",
        ] {
            assert!(runs(new), "{new}");
        }
    }
}

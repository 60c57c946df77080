//! What a plugin may do: what its manifest asks for and a grant gives, both.
//!
//! This is the only place that decides it. A grant is a file that only the command line writes,
//! bound to the digest of the component it was given to; a built-in plugin is granted what its
//! manifest asks, because it is shipped with the host and belongs to it. No API grants anything.

use std::path::Path;

use claudine_plugin_build::manifest::CommandPattern;
use serde::{Deserialize, Serialize};

use super::error::PluginError;
use super::port::Failure;
use crate::config::is_dangerous;

/// What was given to one plugin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Grant {
    /// SHA-256 of the component, in hexadecimal. Another component of the same name has been
    /// granted nothing.
    pub(crate) digest: String,
    /// Commands that may be started: `*`, a name, or an absolute path.
    #[serde(default)]
    pub(crate) process: Vec<String>,
}

impl Grant {
    /// Reads a grant; a plugin without one has been granted nothing, and so has one whose component
    /// is another by now.
    pub(crate) fn read(path: &Path, digest: &str) -> Result<Grant, PluginError> {
        let nothing = Grant {
            digest: digest.into(),
            process: Vec::new(),
        };
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(nothing),
            Err(error) => return Err(PluginError::io(path, &error)),
        };
        let grant: Grant = toml::from_str(&text).map_err(|error| PluginError::Grant {
            path: path.into(),
            message: error.message().into(),
        })?;
        Ok(if grant.digest == digest {
            grant
        } else {
            nothing
        })
    }
}

/// Which file a command means that was granted by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lookup {
    /// Whatever the task's own `PATH` leads to, as for a command that a person types there. So it
    /// is for the built-in plugins, which belong to the host: the `PATH` that a task is given
    /// decides what `claude` is.
    TaskPath,
    /// What the host finds, never a file of the task's workspace.
    Host,
}

/// What an allowed command may come with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Permit {
    /// Anything: manifest and grant both say `*`.
    Anything,
    /// This command as it was meant when it was granted.
    AsGranted,
}

/// The check itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Gate {
    plugin: String,
    asked: Vec<CommandPattern>,
    granted: Vec<CommandPattern>,
    pub(crate) lookup: Lookup,
}

impl Gate {
    pub(crate) fn new(
        plugin: &str,
        asked: &[CommandPattern],
        granted: &[String],
        lookup: Lookup,
    ) -> Gate {
        let granted = granted.iter().map(|text| pattern(text)).collect();
        Gate {
            plugin: plugin.into(),
            asked: asked.to_vec(),
            granted,
            lookup,
        }
    }

    /// Whether this command may be started; the failure names the gate that is closed and what
    /// opens it.
    pub(crate) fn check_command(&self, command: &str) -> Result<Permit, Failure> {
        let allowed =
            |patterns: &[CommandPattern]| patterns.iter().any(|pattern| allows(pattern, command));
        if !allowed(&self.asked) {
            let message = format!(
                "the manifest of {} does not ask to start `{command}`",
                self.plugin
            );
            return Err(denied(message));
        }
        if !allowed(&self.granted) {
            let message = format!(
                "{plugin} was not granted to start `{command}`; `process = [\"{command}\"]` in \
                 grants/{plugin}.toml of the data directory would",
                plugin = self.plugin
            );
            return Err(denied(message));
        }
        let is_any = |patterns: &[CommandPattern]| patterns.contains(&CommandPattern::Any);
        Ok(if is_any(&self.asked) && is_any(&self.granted) {
            Permit::Anything
        } else {
            Permit::AsGranted
        })
    }

    /// Whether these variables may be set for a command: not those by which something else would be
    /// run in its place.
    pub(crate) fn check_variables(
        &self,
        permit: Permit,
        variables: &[(String, String)],
    ) -> Result<(), Failure> {
        let mut names = variables.iter().map(|(name, _)| name);
        match names.find(|name| permit == Permit::AsGranted && is_dangerous(name)) {
            None => Ok(()),
            Some(name) => Err(denied(format!(
                "{} may not set {name}, which decides what code is run; only a grant of `*` allows that",
                self.plugin
            ))),
        }
    }

    /// What is said of a working directory that is not the task's.
    pub(crate) fn deny_directory(&self, directory: &str) -> Failure {
        denied(format!(
            "{} may not start a command in {directory}, which is not in the task's workspace; only a grant \
             of `*` allows that",
            self.plugin
        ))
    }
}

fn denied(message: String) -> Failure {
    Failure::new("denied", message)
}

/// As in a manifest, where the same text has been checked.
fn pattern(text: &str) -> CommandPattern {
    match text {
        "*" => CommandPattern::Any,
        path if path.contains('/') => CommandPattern::Path(path.into()),
        name => CommandPattern::Name(name.into()),
    }
}

/// A name allows that name alone, and a path that path: a file elsewhere that is called the same is
/// another command.
fn allows(pattern: &CommandPattern, command: &str) -> bool {
    match pattern {
        CommandPattern::Any => true,
        CommandPattern::Path(granted) | CommandPattern::Name(granted) => command == granted,
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::panic,
        reason = "a test fails by panicking"
    )]
    use super::*;

    fn gate(asked: &[&str], granted: &[&str]) -> Gate {
        let own = |patterns: &[&str]| patterns.iter().map(ToString::to_string).collect::<Vec<_>>();
        let asked: Vec<_> = asked.iter().map(|text| pattern(text)).collect();
        Gate::new("demo", &asked, &own(granted), Lookup::Host)
    }

    fn check(asked: &[&str], granted: &[&str], command: &str, expected: Result<Permit, &str>) {
        let gate = gate(asked, granted);
        let result = gate.check_command(command).map_err(|failure| {
            assert_eq!(failure.code, "denied");
            failure.message
        });
        match (result, expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{command}"),
            (Err(message), Err(part)) => assert!(message.contains(part), "{message}"),
            (result, expected) => panic!("{command}: {result:?}, not {expected:?}"),
        }
    }

    #[test]
    fn both_gates_have_to_be_open() {
        let as_granted = Ok(Permit::AsGranted);
        check(&["*"], &["*"], "anything at all", Ok(Permit::Anything));
        check(&["*"], &["git"], "git", as_granted);
        check(&["claude"], &["*"], "claude", as_granted);
        check(&["claude"], &["claude"], "claude", as_granted);
        check(&["/usr/bin/git"], &["*"], "/usr/bin/git", as_granted);
        // A file of that name may be anybody's.
        let other = Err("does not ask");
        check(&["claude"], &["claude"], "/usr/bin/claude", other);
        check(&["claude"], &["*"], "/work/task/claude", other);
        check(&["claude"], &[], "claude", Err("grants/demo.toml"));
        check(&[], &["*"], "claude", Err("does not ask"));
        check(&["claude"], &["*"], "sh", Err("does not ask"));
        check(&["claude"], &["*"], "./claude", Err("does not ask"));
        check(&["claude"], &["*"], "bin/claude", Err("does not ask"));
        check(&["/usr/bin/git"], &["*"], "git", Err("does not ask"));
        check(
            &["/usr/bin/git"],
            &["*"],
            "/usr/bin/../bin/git",
            Err("does not ask"),
        );
        check(&["*"], &["git"], "/opt/git/evil", Err("was not granted"));
        check(&["claude"], &["*"], "", Err("does not ask"));
    }

    #[test]
    fn a_granted_command_comes_without_what_would_run_another() {
        let set = |name: &str| [(name.to_owned(), "x".to_owned())];
        let gate = gate(&["*"], &["*", "git"]);
        for name in [
            "LD_PRELOAD",
            "PATH",
            "GIT_SSH_COMMAND",
            "NODE_OPTIONS",
            "BASH_ENV",
        ] {
            let found = gate.check_variables(Permit::AsGranted, &set(name));
            let failure = found.unwrap_err();
            assert_eq!(failure.code, "denied");
            assert!(failure.message.contains(name), "{failure:?}");
            assert_eq!(gate.check_variables(Permit::Anything, &set(name)), Ok(()));
        }
        assert_eq!(
            gate.check_variables(Permit::AsGranted, &set("LANG")),
            Ok(())
        );
    }

    #[test]
    fn a_grant_is_bound_to_the_component() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("demo.toml");
        assert_eq!(
            Grant::read(&path, "abc").unwrap().process,
            Vec::<String>::new()
        );
        std::fs::write(&path, "digest = \"abc\"\nprocess = [\"git\"]\n").unwrap();
        assert_eq!(Grant::read(&path, "abc").unwrap().process, ["git"]);
        assert_eq!(
            Grant::read(&path, "other").unwrap().process,
            Vec::<String>::new()
        );
        std::fs::write(&path, "digest = 3").unwrap();
        assert!(matches!(
            Grant::read(&path, "abc"),
            Err(PluginError::Grant { .. })
        ));
    }
}

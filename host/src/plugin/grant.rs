//! Permissions of a plugin. A plugin has a permission only if its manifest asks for the permission
//! and a grant gives it.
//!
//! Only this module decides about permissions. A grant is a file that only the command line writes.
//! The grant contains the digest of the component for which it is valid. A built-in plugin is
//! granted everything that its manifest asks for, because it is a part of the host. No API can
//! write a grant.

use std::path::Path;

use claudine_plugin_build::manifest::CommandPattern;
use serde::{Deserialize, Serialize};

use super::error::PluginError;
use super::port::Failure;
use crate::{config::is_dangerous, fsx};

/// Variables with these values only take code away from a command, so every plugin may set them.
const SAFER: &[(&str, &str)] = &[("PYTHONSAFEPATH", "1")];

/// The grant of one plugin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Grant {
    /// The SHA-256 of the component, in hexadecimal. Another component of the same name has no
    /// grant.
    pub(crate) digest: String,
    /// The commands that may be started: `*`, a name, or an absolute path.
    #[serde(default)]
    pub(crate) process: Vec<String>,
}

impl Grant {
    /// Reads a grant. The grant is empty if there is no file, or if the component has changed since
    /// the grant was given.
    pub(crate) fn read(path: &Path, digest: &str) -> Result<Grant, PluginError> {
        let nothing = Grant {
            digest: digest.into(),
            process: Vec::new(),
        };
        let text = match fsx::read_text(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(nothing),
            Err(error) => return Err(PluginError::at_start(path, &error)),
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

/// How the host finds the program of a command that was granted by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lookup {
    /// On the task's own `PATH`, as a shell finds a command that a person types. Only for the
    /// built-in plugins, which are a part of the host: the task's `PATH` decides which `claude`
    /// runs.
    TaskPath,
    /// On the task's `PATH`, but never in the task's workspace.
    Host,
}

/// Conditions on an allowed command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Permit {
    /// No condition: manifest and grant both say `*`.
    Anything,
    /// The command must be the one that the grant names.
    AsGranted,
}

/// The permission check for one plugin.
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

    /// Whether this command may be started; the failure says whether the manifest or the grant
    /// forbids the command, and how to allow it.
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
                 grants/{plugin}.toml of the data directory allows it",
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

    /// Refuses variables that could make a command run other code than its own.
    pub(crate) fn check_variables(
        &self,
        permit: Permit,
        variables: &[(String, String)],
    ) -> Result<(), Failure> {
        let is_denied = |name: &str, value: &str| {
            permit == Permit::AsGranted && is_dangerous(name) && !SAFER.contains(&(name, value))
        };
        match variables
            .iter()
            .find(|(name, value)| is_denied(name, value))
        {
            None => Ok(()),
            Some((name, _)) => Err(denied(format!(
                "{} may not set {name}, which decides what code is run; only a grant of `*` allows that",
                self.plugin
            ))),
        }
    }

    /// The failure for a working directory outside the task's workspace.
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

/// Parses a pattern of a grant. As in a manifest, text with a slash is a path, and other text is a
/// name.
fn pattern(text: &str) -> CommandPattern {
    match text {
        "*" => CommandPattern::Any,
        path if path.contains('/') => CommandPattern::Path(path.into()),
        name => CommandPattern::Name(name.into()),
    }
}

/// A name allows only that name, and a path only that path: a file of the same name elsewhere is
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
    fn a_command_is_allowed_only_if_manifest_and_grant_allow_it() {
        let as_granted = Ok(Permit::AsGranted);
        check(&["*"], &["*"], "anything at all", Ok(Permit::Anything));
        check(&["*"], &["git"], "git", as_granted);
        check(&["claude"], &["*"], "claude", as_granted);
        check(&["claude"], &["claude"], "claude", as_granted);
        check(&["/usr/bin/git"], &["*"], "/usr/bin/git", as_granted);
        // A file of that name in another directory may have been written by anybody.
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
    fn variables_that_would_run_other_code_are_refused() {
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
        let set = |value: &str| vec![("PYTHONSAFEPATH".to_owned(), value.to_owned())];
        assert_eq!(gate.check_variables(Permit::AsGranted, &set("1")), Ok(()));
        gate.check_variables(Permit::AsGranted, &set(""))
            .unwrap_err();
    }

    #[test]
    fn a_grant_is_bound_to_its_component() {
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

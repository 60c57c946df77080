//! What a plugin may do: what its manifest asks for and a grant gives, both.
//!
//! This is the only place that decides it. A grant is a file that only the command line writes, bound to the digest of the
//! component it was given to; a built-in plugin is granted what its manifest asks, because it is shipped with the host and
//! belongs to it. No API grants anything.

use std::path::Path;

use claudine_plugin_build::manifest::CommandPattern;
use serde::{Deserialize, Serialize};

use super::error::PluginError;
use super::port::Failure;

/// What was given to one plugin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Grant {
    /// SHA-256 of the component, in hexadecimal. Another component of the same name has been granted nothing.
    pub(crate) digest: String,
    /// Commands that may be started: `*`, a name, or an absolute path.
    #[serde(default)]
    pub(crate) process: Vec<String>,
}

impl Grant {
    /// Reads a grant; a plugin without one has been granted nothing, and so has one whose component is another by now.
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

/// The check itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Gate {
    plugin: String,
    asked: Vec<CommandPattern>,
    granted: Vec<CommandPattern>,
}

impl Gate {
    pub(crate) fn new(plugin: &str, asked: &[CommandPattern], granted: &[String]) -> Gate {
        let granted = granted.iter().map(|text| pattern(text)).collect();
        Gate {
            plugin: plugin.into(),
            asked: asked.to_vec(),
            granted,
        }
    }

    /// Whether this command may be started; the failure names the gate that is closed and what opens it.
    pub(crate) fn check_command(&self, command: &str) -> Result<(), Failure> {
        let allowed =
            |patterns: &[CommandPattern]| patterns.iter().any(|pattern| allows(pattern, command));
        if !allowed(&self.asked) {
            let message = format!(
                "the manifest of {} does not ask to start `{command}`",
                self.plugin
            );
            return Err(Failure::new("denied", message));
        }
        if !allowed(&self.granted) {
            let message = format!(
                "{plugin} was not granted to start `{command}`; `process = [\"{command}\"]` in grants/{plugin}.toml of the data directory would",
                plugin = self.plugin
            );
            return Err(Failure::new("denied", message));
        }
        Ok(())
    }
}

/// As in a manifest, where the same text has been checked.
fn pattern(text: &str) -> CommandPattern {
    match text {
        "*" => CommandPattern::Any,
        path if path.contains('/') => CommandPattern::Path(path.into()),
        name => CommandPattern::Name(name.into()),
    }
}

/// A name allows the same name, looked up on the task's `PATH`, and an absolute path that ends in it. A relative path is allowed
/// by `*` alone: what it means depends on a directory that the task may write to.
fn allows(pattern: &CommandPattern, command: &str) -> bool {
    match pattern {
        CommandPattern::Any => true,
        CommandPattern::Path(path) => command == path,
        CommandPattern::Name(name) if command.contains('/') => {
            let file = Path::new(command).file_name();
            command.starts_with('/') && file.is_some_and(|file| file == name.as_str())
        }
        CommandPattern::Name(name) => command == name,
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

    fn check(asked: &[&str], granted: &[&str], command: &str, expected: Result<(), &str>) {
        let own = |patterns: &[&str]| patterns.iter().map(ToString::to_string).collect::<Vec<_>>();
        let asked: Vec<_> = asked.iter().map(|text| pattern(text)).collect();
        let gate = Gate::new("demo", &asked, &own(granted));
        let result = gate.check_command(command).map_err(|failure| {
            assert_eq!(failure.code, "denied");
            failure.message
        });
        match (result, expected) {
            (Ok(()), Ok(())) => {}
            (Err(message), Err(part)) => assert!(message.contains(part), "{message}"),
            (result, expected) => panic!("{command}: {result:?}, not {expected:?}"),
        }
    }

    #[test]
    fn both_gates_have_to_be_open() {
        check(&["*"], &["*"], "anything at all", Ok(()));
        check(&["claude"], &["claude"], "claude", Ok(()));
        check(&["claude"], &["claude"], "/usr/bin/claude", Ok(()));
        check(&["/usr/bin/git"], &["*"], "/usr/bin/git", Ok(()));
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

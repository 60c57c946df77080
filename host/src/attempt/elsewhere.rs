//! The directories in which the program of an executor keeps its settings for other tasks than the
//! one that is to start. An agent of a restrained principal must not write there either: the
//! program would run what it finds there for the next such task.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::PathBuf,
};

use crate::{config::is_absolute, environment::Environments, plugin::Manifest};

/// What the names of variables with a directory end with.
const DIRECTORY: &str = "_DIR";
/// What the names of Claudine's own variables begin with.
const OWN: &str = "CLAUDINE_";
const HOME: &str = "HOME";

/// How environments name such directories.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct SettingsDirectories {
    /// The variables with a directory, and [`HOME`] if there is a usual one.
    variables: BTreeSet<String>,
    /// The usual directory, below the home directory.
    in_home: Option<PathBuf>,
}

impl SettingsDirectories {
    /// According to this manifest.
    pub(super) fn of(manifest: &Manifest) -> Self {
        let account = manifest.account.as_ref();
        let usual = account.and_then(|account| account.default_directory.strip_prefix("~/"));
        let read = manifest.reads_env.iter();
        let read = read.filter(|name| name.ends_with(DIRECTORY) && !name.starts_with(OWN));
        let named = account.map(|account| &account.directory_variable);
        let variables = read.chain(named).cloned();
        Self {
            variables: variables.chain(usual.map(|_| HOME.to_owned())).collect(),
            in_home: usual.map(PathBuf::from),
        }
    }

    /// The variable with a directory that is not the same in all working directories, so that a
    /// program would take the settings of the user from the one that a client names. An empty value
    /// counts as such a directory, because programs differ in what they make of it.
    pub(super) fn relative(&self, own: &BTreeMap<String, String>) -> Option<&str> {
        let mut names = self.variables.iter().map(String::as_str).chain([HOME]);
        let is_relative = |name: &&str| {
            let value = own.get(*name);
            value.is_some_and(|value| !is_absolute(value.as_bytes()))
        };
        names.find(is_relative)
    }

    /// The directories that stored environments and that of the host name, but not those that a
    /// task has by its `own` environment, which its executor is told. Reads files.
    pub(super) fn directories(
        &self,
        environments: &Environments,
        own: &BTreeMap<String, String>,
    ) -> io::Result<BTreeSet<PathBuf>> {
        let all = environments.directories_of(&self.variables)?.into_iter();
        let others = all.filter(|(name, path)| {
            let own = own.get(name).map(PathBuf::from);
            own.as_ref() != Some(path)
        });
        let others = others.map(|(name, path)| self.directory(&name, path));
        Ok(others.collect())
    }

    /// The directories that a task has by its `own` environment.
    pub(super) fn own(&self, own: &BTreeMap<String, String>) -> BTreeSet<PathBuf> {
        let named = self.variables.iter();
        let named = named.filter_map(|name| Some((name, PathBuf::from(own.get(name)?))));
        let named = named.filter(|(_, path)| path.is_absolute());
        named
            .map(|(name, path)| self.directory(name, path))
            .collect()
    }

    /// The directory that this value of a variable means.
    fn directory(&self, name: &str, value: PathBuf) -> PathBuf {
        match &self.in_home {
            Some(usual) if name == HOME => value.join(usual),
            _ => value,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::{config::EnvRules, environment::Environment, layout::Layout};

    #[test]
    fn directories_of_other_environments_are_those_that_the_manifest_speaks_of() {
        let manifest = include_str!("../../../plugins/claude/plugin.toml");
        let elsewhere = SettingsDirectories::of(&Manifest::parse(manifest).unwrap());
        let names = ["CLAUDE_CODE_REMOTE_MEMORY_DIR", "CLAUDE_CONFIG_DIR", HOME];
        assert_eq!(
            elsewhere,
            SettingsDirectories {
                variables: names.map(str::to_owned).into(),
                in_home: Some(".claude".into()),
            }
        );

        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        layout.create().unwrap();
        let environments = Environments::new(layout, EnvRules::default());
        let pairs = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            let pairs = pairs.iter();
            let pairs = pairs.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            pairs.collect()
        };
        let own = pairs(&[("HOME", "/h"), ("CLAUDE_CONFIG_DIR", "/own")]);
        for set in [
            own.clone(),
            pairs(&[("HOME", "/other"), ("CLAUDE_CODE_REMOTE_MEMORY_DIR", "/m")]),
            pairs(&[("HOME", "/h"), ("CLAUDE_CONFIG_DIR", "/work")]),
            pairs(&[
                ("CLAUDE_CONFIG_DIR", "here"),
                ("TMPDIR", "/t"),
                ("A_DIR", "/a"),
            ]),
        ] {
            let base = BTreeMap::new();
            environments
                .keep_blocking(Environment { base, set })
                .unwrap();
        }
        assert_eq!(elsewhere.relative(&own), None);
        assert_eq!(elsewhere.relative(&BTreeMap::new()), None);
        for (name, value) in [
            (HOME, "."),
            (HOME, "hm"),
            (HOME, ""),
            (HOME, "/proc/self/cwd"),
            ("CLAUDE_CONFIG_DIR", "here"),
            ("CLAUDE_CONFIG_DIR", "/proc/thread-self/cwd/.claude"),
            ("CLAUDE_CODE_REMOTE_MEMORY_DIR", "~/m"),
        ] {
            assert_eq!(elsewhere.relative(&pairs(&[(name, value)])), Some(name));
        }
        let expected = ["/h/.claude", "/own"].map(PathBuf::from);
        assert_eq!(elsewhere.own(&own), BTreeSet::from(expected));
        let relative = pairs(&[("HOME", "h"), ("CLAUDE_CONFIG_DIR", "own")]);
        assert_eq!(elsewhere.own(&relative), BTreeSet::new());
        let found = elsewhere.directories(&environments, &own).unwrap();
        for expected in ["/other/.claude", "/m", "/work"] {
            assert!(found.contains(&PathBuf::from(expected)), "{found:?}");
        }
        for other in ["/h/.claude", "/own", "here", "/t", "/a", "/h"] {
            assert!(!found.contains(&PathBuf::from(other)), "{found:?}");
        }
    }
}

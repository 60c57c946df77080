//! Names in the settings that mean a plugin or what it can do. Which of them exist is known only
//! once the plugins are.

use super::{Settings, edit::likely_among, meant};
use crate::text::{harmless, shortened};

/// The extras of the built-in plugins.
const EXTRAS: [&str; 1] = ["network"];
/// Length limit of a name in a warning.
const NAME_CHARS: usize = 80;

impl Settings {
    /// What to tell of the names that mean nothing, given the names of all plugins. This is no
    /// error, because a plugin may be installed after its settings are written. The extras of
    /// `has_installed` plugins are not known.
    pub(crate) fn unknown_names(&self, plugins: &[&str], has_installed: bool) -> Vec<String> {
        let mut told = Vec::new();
        // A binary that was built without plugins says so when a task is submitted.
        if plugins.is_empty() {
            return told;
        }
        let is_unknown = |name: &&str| !plugins.contains(name);
        let meant_plugin = |name: &str| meant(likely_among(name, plugins.iter().copied()));
        for name in self.plugins.keys().map(String::as_str).filter(is_unknown) {
            told.push(format!(
                "the settings below `[plugins.{}]` have no effect, because no plugin has this \
                 name{}; `claudine plugin list` lists the plugins",
                shown(name),
                meant_plugin(name)
            ));
        }
        let executors = self.mcp.executors.iter().map(String::as_str);
        for name in executors.filter(is_unknown) {
            told.push(format!(
                "`{}` among mcp.executors has no effect, because no plugin has this name{}; \
                 `claudine plugin list` lists the plugins",
                shown(name),
                meant_plugin(name)
            ));
        }
        let extras = self.mcp.extras.iter().map(String::as_str);
        for name in extras.filter(|name| !has_installed && !EXTRAS.contains(name)) {
            told.push(format!(
                "`{}` among mcp.extras has no effect, because no plugin has such an ability{}; \
                 the abilities are {}",
                shown(name),
                meant(likely_among(name, EXTRAS)),
                EXTRAS.join(", ")
            ));
        }
        told
    }
}

fn shown(name: &str) -> String {
    shortened(&harmless(name), NAME_CHARS)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::fs;

    use crate::config::tests::load;

    #[test]
    fn a_name_in_the_settings_that_no_plugin_has_is_told_with_the_likely_one() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.toml");
        let check = |text: &str, plugins: &[&str], has_installed: bool, expected: &[&str]| {
            fs::write(&file, text).unwrap();
            let of = [("HOME", "/h"), ("CLAUDINE_CONFIG", file.to_str().unwrap())];
            let told = load(&of).unwrap().unknown_names(plugins, has_installed);
            assert_eq!(told.len(), expected.len(), "{told:?}");
            for (told, expected) in told.iter().zip(expected) {
                assert!(told.contains(expected), "{told}");
            }
        };
        let usual = ["claude", "shell"];
        check("", &usual, false, &[]);
        check("", &[], false, &[]);
        let known = "[mcp]\nexecutors = ['other']\n[plugins.other]\na = 1\n[plugins.claude]\n";
        check(known, &["claude", "other"], true, &[]);
        let none = "has no effect, because no plugin has this name; `claudine plugin list`";
        check("[mcp]\nexecutors = ['other']", &usual, false, &[none]);
        let likely = "has no effect, because no plugin has this name; did you mean 'claude'?;";
        check("[mcp]\nexecutors = ['claud']", &usual, true, &[likely]);
        let below = "below `[plugins.cluade]` have no effect, because no plugin has this name; did \
                     you mean 'claude'?;";
        let wrong = "[plugins.cluade]\nmodel = 'opus'";
        check(wrong, &usual, false, &[below]);
        let extras = "[mcp]\nextras = ['netwrok', 'network', 'x']";
        let meant = ["did you mean 'network'?", "the abilities are network"];
        check(extras, &usual, false, &meant);
        check(extras, &usual, true, &[]);
    }
}

//! The environment of git and of `gh`, made here from two lists of names.
//!
//! A task must not control the git commands of the host, so almost all variables are taken from the
//! host. Only the user's name and keys are taken from the task, because the socket of the key agent
//! changes with each login, while the host outlives a login. Git uses the values of these variables
//! as plain text, and never as a program, a file or a setting.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::users::UsersFiles;
use crate::config::{self, DATA_DIR, PATH, Shims, absolute_part};

/// Variables that are taken from the host. A git hook may have started the host, so the list
/// contains no `GIT_…` variable that could name a repository, a program or a setting.
const OF_THE_HOST: &[&str] = &[
    // Location of programs and of the user's settings.
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "TMPDIR",
    "XDG_CONFIG_HOME",
    "XDG_CACHE_HOME",
    "XDG_DATA_HOME",
    "GH_CONFIG_DIR",
    // Access to remotes: proxies, certificates and credentials.
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "NIX_SSL_CERT_FILE",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "GIT_SSL_CAPATH",
    "SSH_AUTH_SOCK",
    "SSH_AGENT_PID",
    "KRB5CCNAME",
    "KRB5_CONFIG",
    "XDG_RUNTIME_DIR",
    "DBUS_SESSION_BUS_ADDRESS",
    "GH_HOST",
    "GH_TOKEN",
    "GITHUB_TOKEN",
];

/// Variables that are taken from the task, if it has them: the user's name and keys.
const OF_THE_TASK: &[&str] = &[
    "EMAIL",
    "GIT_AUTHOR_EMAIL",
    "GIT_AUTHOR_NAME",
    "GIT_COMMITTER_EMAIL",
    "GIT_COMMITTER_NAME",
    "SSH_AUTH_SOCK",
    "SSH_AGENT_PID",
    "GH_TOKEN",
    "GITHUB_TOKEN",
];

/// Variables that always have these values, even if the host or the task has other values.
const FIXED: &[(&str, &str)] = &[
    ("LC_ALL", "C"),
    // Nobody can answer a prompt. An empty askpass program also disables a configured one.
    ("GIT_TERMINAL_PROMPT", "0"),
    ("GIT_ASKPASS", ""),
    ("SSH_ASKPASS_REQUIRE", "never"),
    ("GCM_INTERACTIVE", "never"),
    ("GIT_EDITOR", ":"),
    ("GIT_SEQUENCE_EDITOR", ":"),
    ("GIT_PAGER", "cat"),
    // Git's advice would hide the reason of a failure in the error message.
    ("GIT_ADVICE", "0"),
    // A filter `python3 -m NAME` must not find NAME in the checkout.
    ("PYTHONSAFEPATH", "1"),
    ("GH_PROMPT_DISABLED", "1"),
    ("GH_NO_UPDATE_NOTIFIER", "1"),
    ("GH_PAGER", "cat"),
    ("NO_COLOR", "1"),
];

/// The variable that names the index.
pub(super) const INDEX: &str = "GIT_INDEX_FILE";

/// The directory with the settings of a system, for git as distributions install it.
const SYSTEM: &str = "/etc";

/// The variables with which git and `gh` are run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Variables(Arc<BTreeMap<OsString, OsString>>);

/// The files with which git of the host begins to read settings and attributes that are no
/// repository's.
pub(crate) fn users_files() -> UsersFiles {
    Variables::new(config::whole_environment(), &BTreeMap::new()).users_files()
}

impl Variables {
    /// The files with which git begins to read settings and attributes that are no repository's.
    pub(super) fn users_files(&self) -> UsersFiles {
        let place = |name: &str| {
            let place = self.0.get(OsStr::new(name)).map(PathBuf::from);
            place.filter(|place| place.is_absolute())
        };
        let home = place("HOME");
        let in_home = home.as_ref().map(|home| home.join(".gitconfig"));
        let beside = place("XDG_CONFIG_HOME").or_else(|| Some(home.as_ref()?.join(".config")));
        let prefix = self.prefix();
        // Only git that is installed elsewhere has settings of its own in place of those in `/etc`.
        let elsewhere = prefix.as_ref().filter(|prefix| !has_usual_settings(prefix));
        let system: Vec<PathBuf> = elsewhere
            .map(|prefix| prefix.join("etc"))
            .into_iter()
            .chain([SYSTEM.into()])
            .collect();
        let of_system = |name: &'static str| system.iter().map(move |place| place.join(name));
        let beside = |name: &str| beside.as_ref().map(|beside| beside.join(name));
        UsersFiles {
            settings: in_home
                .into_iter()
                .chain(beside("git/config"))
                .chain(of_system("gitconfig"))
                .collect(),
            attributes: beside("git/attributes")
                .into_iter()
                .chain(of_system("gitattributes"))
                .collect(),
            home,
            prefix,
        }
    }

    /// The directory in which git is installed, which has a directory of programs.
    fn prefix(&self) -> Option<PathBuf> {
        let mut places = std::env::split_paths(self.path()?);
        let place = places.find(|place| place.join("git").is_file())?;
        place.parent().map(Path::to_owned)
    }

    pub(super) fn new(
        host: impl IntoIterator<Item = (OsString, OsString)>,
        task: &BTreeMap<String, String>,
    ) -> Self {
        let of_the_host = host
            .into_iter()
            .filter(|(name, _)| OF_THE_HOST.iter().any(|known| name == known));
        let of_the_task = OF_THE_TASK
            .iter()
            .filter_map(|name| Some((name.into(), task.get(*name)?.into())));
        // Git looks for programs and settings in the repository in which it runs.
        let absolute = |(name, value): (OsString, OsString)| {
            let value = absolute_part(&name, value)?;
            Some((name, value))
        };
        let given = of_the_host.chain(of_the_task);
        let mut variables: BTreeMap<OsString, OsString> = given.filter_map(absolute).collect();
        let fixed = FIXED
            .iter()
            .map(|(name, value)| (name.into(), value.into()));
        variables.extend(fixed);
        Self(Arc::new(variables))
    }

    /// Adds those of the variables that are not set yet.
    pub(super) fn with_missing(&self, missing: &[(&str, &str)]) -> Self {
        let mut variables = BTreeMap::clone(&self.0);
        for (name, value) in missing {
            variables.entry(name.into()).or_insert_with(|| value.into());
        }
        Self(Arc::new(variables))
    }

    /// Adds the data directory of the host. Otherwise a hook that calls `claudine` could reach or
    /// start another host, which would treat the caller as the user instead of a hook.
    pub(super) fn with_data_dir(mut self, dir: &Path) -> Self {
        Arc::make_mut(&mut self.0).insert(DATA_DIR.into(), dir.into());
        self
    }

    /// Adds the index to use in place of that of the checkout.
    pub(super) fn with_index(self, index: &Path) -> Self {
        self.with(INDEX, index)
    }

    /// Lets git use the index of the checkout.
    pub(super) fn without_index(self) -> Self {
        self.without(INDEX)
    }

    /// Lets programs that git runs not be looked for in directories whose paths are usual for those
    /// of version managers.
    pub(super) fn without_usual_shims(mut self) -> Self {
        if let Some(path) = Arc::make_mut(&mut self.0).get_mut(OsStr::new(PATH)) {
            *path = Shims::without_usual(path);
        }
        self
    }

    /// Lets programs that git runs not be looked for among those of version managers. Reads links.
    pub(super) fn without_shims(mut self) -> Self {
        let whole: BTreeMap<_, _> = config::whole_environment().into_iter().collect();
        let shims = Shims::of(|name| whole.get(OsStr::new(name)).map(PathBuf::from));
        if let Some(path) = Arc::make_mut(&mut self.0).get_mut(OsStr::new(PATH)) {
            *path = shims.without(path);
        }
        self
    }

    pub(super) fn without(mut self, name: &str) -> Self {
        let name = OsStr::new(name);
        if self.0.contains_key(name) {
            Arc::make_mut(&mut self.0).remove(name);
        }
        self
    }

    /// Adds a variable with the path of a file or a directory that git uses in place of another.
    pub(super) fn with(mut self, name: &str, path: &Path) -> Self {
        Arc::make_mut(&mut self.0).insert(name.into(), path.into());
        self
    }

    /// The directories in which git is looked for.
    pub(super) fn path(&self) -> Option<&OsStr> {
        self.0.get(OsStr::new(PATH)).map(OsString::as_os_str)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&OsStr, &OsStr)> {
        let pairs = self.0.iter();
        pairs.map(|(name, value)| (name.as_os_str(), value.as_os_str()))
    }
}

/// Whether git that is installed in this directory reads the settings in [`SYSTEM`].
fn has_usual_settings(prefix: &Path) -> bool {
    prefix == Path::new("/") || prefix == Path::new("/usr")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::fs;

    use super::*;

    /// The resulting variables, without the fixed ones.
    fn left(host: &[(&str, &str)], task: &[(&str, &str)]) -> Vec<(String, String)> {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let host = host.iter().map(|(name, value)| (name.into(), value.into()));
        let variables = Variables::new(host, &task.iter().map(own).collect());
        let fixed: Vec<&str> = FIXED.iter().map(|(name, _)| *name).collect();
        variables
            .iter()
            .filter(|(name, _)| !fixed.iter().any(|fixed| name == fixed))
            .map(|(name, value)| {
                (
                    name.to_string_lossy().into_owned(),
                    value.to_string_lossy().into_owned(),
                )
            })
            .collect()
    }

    #[test]
    fn git_looks_for_no_program_in_the_repository_in_which_it_runs() {
        let path = left(&[("PATH", ".:/bin:tools:")], &[]);
        assert_eq!(path, [("PATH".to_owned(), "/bin".to_owned())]);
        // Nor for the settings of the user, and for certificates and keys.
        for (name, value) in [
            ("XDG_CONFIG_HOME", ".xdg"),
            ("HOME", "hm"),
            ("HOME", ""),
            ("HOME", "/proc/self/cwd"),
            ("SSL_CERT_FILE", "ca.pem"),
            ("GIT_SSL_CAINFO", "./ca.pem"),
            ("TMPDIR", "tmp"),
        ] {
            assert_eq!(left(&[(name, value)], &[]), [], "{name}={value}");
        }
        assert_eq!(left(&[], &[("SSH_AUTH_SOCK", "agent")]), []);
        let named = left(&[], &[("GIT_AUTHOR_NAME", "./me")]);
        assert_eq!(named, [("GIT_AUTHOR_NAME".to_owned(), "./me".to_owned())]);
    }

    #[test]
    fn files_with_the_users_settings_are_where_git_looks_for_them() {
        let check = |host: &[(&str, &str)], settings: &[&str], attributes: &[&str]| {
            let host = host.iter().map(|(name, value)| (name.into(), value.into()));
            let found = Variables::new(host, &BTreeMap::new()).users_files();
            let paths = |names: &[&str], last: &str| {
                let names = names.iter().chain([&last]);
                names.map(PathBuf::from).collect::<Vec<_>>()
            };
            assert_eq!(found.settings, paths(settings, "/etc/gitconfig"));
            assert_eq!(found.attributes, paths(attributes, "/etc/gitattributes"));
        };
        let home = ("HOME", "/h");
        let usual = ["/h/.gitconfig", "/h/.config/git/config"];
        check(&[home], &usual, &["/h/.config/git/attributes"]);
        let relative = [home, ("XDG_CONFIG_HOME", "etc")];
        check(&relative, &usual, &["/h/.config/git/attributes"]);
        check(&[("HOME", "hm")], &[], &[]);
        let elsewhere = [home, ("XDG_CONFIG_HOME", "/etc/x")];
        let settings = ["/h/.gitconfig", "/etc/x/git/config"];
        check(&elsewhere, &settings, &["/etc/x/git/attributes"]);
        check(&[], &[], &[]);
        // Git that is installed elsewhere has settings of a system there.
        let dir = tempfile::tempdir().unwrap();
        let prefix = dir.path().to_str().unwrap();
        fs::create_dir(dir.path().join("bin")).unwrap();
        fs::write(dir.path().join("bin/git"), "").unwrap();
        let path = format!("/no/such:{prefix}/bin");
        let [settings, attributes] =
            ["gitconfig", "gitattributes"].map(|name| format!("{prefix}/etc/{name}"));
        let host = [("PATH", path.as_str())];
        check(&host, &[settings.as_str()], &[attributes.as_str()]);
        assert!(has_usual_settings(Path::new("/usr")));
    }

    #[test]
    fn variables_that_redirect_git_are_not_passed_on() {
        let hostile = [
            ("GIT_DIR", "/elsewhere/.git"),
            ("GIT_INDEX_FILE", "/elsewhere/index"),
            ("GIT_WORK_TREE", "/elsewhere"),
            ("GIT_CONFIG_COUNT", "1"),
            ("GIT_CONFIG_KEY_0", "core.hooksPath"),
            ("GIT_CONFIG_VALUE_0", "/elsewhere"),
            ("GIT_CONFIG_PARAMETERS", "'core.hooksPath'='/elsewhere'"),
            ("GIT_CONFIG_GLOBAL", "/elsewhere"),
            ("GIT_EXEC_PATH", "/elsewhere"),
            ("GIT_SSH_COMMAND", "elsewhere"),
            ("GIT_EXTERNAL_DIFF", "elsewhere"),
            ("GIT_TRACE", "/elsewhere"),
            ("LD_PRELOAD", "/elsewhere.so"),
        ];
        assert_eq!(left(&hostile, &hostile), []);
        // Only the host decides where programs and settings are, and which certificates are
        // trusted.
        let places = [
            ("PATH", "/elsewhere"),
            ("HOME", "/elsewhere"),
            ("XDG_CONFIG_HOME", "/elsewhere"),
            ("GIT_SSL_CAINFO", "/elsewhere"),
            ("https_proxy", "http://elsewhere"),
        ];
        assert_eq!(left(&[], &places), []);
        assert_eq!(left(&places, &[]).len(), places.len());
    }

    #[test]
    fn names_and_keys_are_taken_from_the_task() {
        let owned = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let check = |host, task, expected: &str| {
            assert_eq!(left(host, task), [owned("SSH_AUTH_SOCK", expected)]);
        };
        check(
            &[("SSH_AUTH_SOCK", "/old")],
            &[("SSH_AUTH_SOCK", "/new")],
            "/new",
        );
        check(&[("SSH_AUTH_SOCK", "/old")], &[], "/old");
        // The environment of a hook names the author of the commit for which the hook runs. If a
        // hook has started the host, this person must not become the author of every task's
        // commits.
        let name = [("GIT_AUTHOR_NAME", "A")];
        assert_eq!(left(&name, &[]), []);
        assert_eq!(left(&[], &name), [owned("GIT_AUTHOR_NAME", "A")]);
    }

    #[test]
    fn hooks_get_the_data_directory_of_the_host_that_runs_git() {
        let host = [(DATA_DIR.into(), "/elsewhere".into())];
        let task = BTreeMap::from([(DATA_DIR.to_owned(), "/elsewhere".to_owned())]);
        let variables = Variables::new(host, &task).with_data_dir(Path::new("/data"));
        let mut set = variables.iter();
        let found = set.find_map(|(name, value)| (name == DATA_DIR).then_some(value));
        assert_eq!(found, Some(OsStr::new("/data")));
    }

    #[test]
    fn neither_host_nor_task_can_change_fixed_variables() {
        let other: BTreeMap<String, String> = FIXED
            .iter()
            .map(|(name, _)| ((*name).to_owned(), "other".to_owned()))
            .collect();
        let host = other
            .iter()
            .map(|(name, value)| (name.into(), value.into()));
        let variables = Variables::new(host, &other);
        assert!(variables.iter().all(|(_, value)| value != "other"));
        assert_eq!(variables.iter().count(), FIXED.len());
    }
}

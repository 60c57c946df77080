//! The home directories of the person, and the usual places of Claudine in them. Hidden files in a
//! home directory belong to programs of the person: many of them name commands that such a program
//! runs, so an agent of a restrained principal changes none of them, nor what links there lead to.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    fs,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use crate::{
    accounts::{self, Account},
    config::{self, CONFIG, DATA_DIR},
};

/// How deep links are looked for below each hidden directory of a home directory, and below a
/// directory with settings of an executor.
const LEVELS: (usize, usize) = (1, 3);

/// Home directories, and usual places of Claudine's files, all of them absolute. The files of
/// several hosts may be there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Homes {
    pub(super) home_dirs: BTreeSet<PathBuf>,
    pub(super) data_dirs: BTreeSet<PathBuf>,
    pub(super) settings_files: BTreeSet<PathBuf>,
}

impl Homes {
    /// Those of this process, and of its user. Reads a file.
    pub(crate) fn of_process() -> Self {
        let variables = config::whole_environment().into_iter();
        let variables: BTreeMap<_, _> = variables.collect();
        let mut all = Self::default();
        all.add(|name| variables.get(OsStr::new(name)).map(PathBuf::from));
        // Some programs, such as `ssh`, do not look at `HOME`. A machine may know its users from
        // elsewhere only, and then the two directories are hardly ever different.
        let user = rustix::process::getuid().as_raw();
        let home = accounts::home_of(Account::Number(user));
        all.add(|name| home.clone().filter(|_| name == "HOME"));
        all
    }

    /// These, and those that the variables of a task name.
    pub(super) fn with(&self, variables: &BTreeMap<String, String>) -> Self {
        let mut all = self.clone();
        all.add(|name| variables.get(name).map(PathBuf::from));
        all
    }

    fn add(&mut self, variable: impl Fn(&str) -> Option<PathBuf>) {
        let place = |name: &str| variable(name).filter(|path| path.is_absolute());
        let home = place("HOME");
        let in_home = |name: &str| home.as_ref().map(|home| home.join(name));
        let state = [place("XDG_STATE_HOME"), in_home(".local/state")];
        let state = state.into_iter().flatten();
        self.data_dirs.extend(state.map(|dir| dir.join("claudine")));
        self.data_dirs.extend(place(DATA_DIR));
        let config = [place("XDG_CONFIG_HOME"), in_home(".config")];
        let config = config.into_iter().flatten();
        let usual = config.map(|dir| dir.join("claudine/config.toml"));
        self.settings_files.extend(usual);
        self.settings_files.extend(place(CONFIG));
        self.home_dirs.extend(home);
    }

    /// What the links among the hidden files lead to, and those in the directories with settings of
    /// executors. Reads directories. A directory that cannot be listed counts as empty.
    pub(super) fn led_to(&self, directories: &BTreeSet<PathBuf>) -> BTreeSet<PathBuf> {
        let mut found = BTreeSet::new();
        for home in &self.home_dirs {
            look(home, LEVELS.0, is_hidden, &mut found);
        }
        for directory in directories {
            look(directory, LEVELS.1 - 1, |_| true, &mut found);
        }
        found
    }
}

/// Whether the path is that of a hidden file of this home directory, or of one below it.
pub(super) fn is_hidden_in(home: &Path, path: &Path) -> bool {
    let rest = path.strip_prefix(home).ok();
    let first = rest.and_then(|rest| rest.components().next());
    first.is_some_and(|first| is_hidden(first.as_os_str()))
}

fn is_hidden(name: &OsStr) -> bool {
    name.as_bytes().starts_with(b".")
}

/// Adds what links in the directory lead to, and those `below` levels deeper. Links to directories
/// are not followed.
fn look(directory: &Path, below: usize, is_meant: fn(&OsStr) -> bool, to: &mut BTreeSet<PathBuf>) {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| is_meant(&entry.file_name())) {
        let path = entry.path();
        if let Ok(target) = fs::read_link(&path) {
            to.insert(directory.join(target));
        } else if below > 0 && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            look(&path, below - 1, |_| true, to);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::os::unix::fs::symlink;

    use super::*;

    fn paths(paths: &[&str]) -> BTreeSet<PathBuf> {
        paths.iter().map(PathBuf::from).collect()
    }

    #[test]
    fn usual_places_are_those_of_the_variables_and_of_the_home_directory() {
        let check = |pairs: &[(&str, &str)], homes: &[&str], data: &[&str], files: &[&str]| {
            let pairs = pairs.iter();
            let pairs = pairs.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            let expected = Homes {
                home_dirs: paths(homes),
                data_dirs: paths(data),
                settings_files: paths(files),
            };
            assert_eq!(Homes::default().with(&pairs.collect()), expected);
        };
        check(&[], &[], &[], &[]);
        check(
            &[("HOME", "/h")],
            &["/h"],
            &["/h/.local/state/claudine"],
            &["/h/.config/claudine/config.toml"],
        );
        let all = [
            ("HOME", "/h"),
            ("XDG_STATE_HOME", "/s"),
            ("XDG_CONFIG_HOME", "/c"),
            ("CLAUDINE_DATA_DIR", "/d"),
            ("CLAUDINE_CONFIG", "/f"),
        ];
        check(
            &all,
            &["/h"],
            &["/d", "/h/.local/state/claudine", "/s/claudine"],
            &[
                "/c/claudine/config.toml",
                "/f",
                "/h/.config/claudine/config.toml",
            ],
        );
        // These would be in the directory that a client names.
        check(&all.map(|(name, _)| (name, "a")), &[], &[], &[]);
    }

    #[test]
    fn links_among_hidden_files_and_in_directories_of_executors_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        for path in ["home/.a/b", "home/plain", "own/1/2/3", "dot"] {
            fs::create_dir_all(root.join(path)).unwrap();
        }
        for (link, target) in [
            ("home/.file", "dot/file"),
            ("home/.a/link", "/missing"),
            ("home/.dir", "../dot"),
            ("home/.a/b/deep", "no"),
            ("home/plain/link", "no"),
            ("home/shown", "no"),
            ("dot/link", "no"),
            ("own/link", "one"),
            ("own/1/2/link", "three"),
            ("own/1/2/3/link", "no"),
        ] {
            symlink(target, root.join(link)).unwrap();
        }
        let homes = Homes {
            home_dirs: [root.join("home"), root.join("none")].into(),
            ..Homes::default()
        };
        let found = homes.led_to(&[root.join("own")].into());
        let expected = [
            root.join("home/dot/file"),
            PathBuf::from("/missing"),
            root.join("home/../dot"),
            root.join("own/one"),
            root.join("own/1/2/three"),
        ];
        assert_eq!(found, BTreeSet::from(expected));
    }

    #[test]
    fn hidden_files_are_those_directly_in_the_home_directory_and_below() {
        for (path, expected) in [
            ("/h/.a", true),
            ("/h/.a/b", true),
            ("/h/a/.b", false),
            ("/h", false),
            ("/i/.a", false),
        ] {
            let found = is_hidden_in(Path::new("/h"), Path::new(path));
            assert_eq!(found, expected, "{path}");
        }
    }
}

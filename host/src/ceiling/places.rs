//! Keeps the tasks of restrained principals out of the places that belong to Claudine itself: its
//! data directory, which has the environments of all tasks, and the directory of its settings. The
//! worktrees in the data directory belong to tasks. The tasks do not change the user's settings of
//! git either, nor what these lead to, because git of the host runs what they name. The same holds
//! for the directories in which programs of executors keep the settings of other tasks.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs,
    path::{self, Component, Path, PathBuf},
};

use claudine_domain::principal::Principal;
use serde_json::{Value, json};

use super::{Refusal, SHOWN, way};
use crate::{
    git::{Led, UsersFiles},
    layout::Layout,
    text::shortened,
};

/// The name of a directory that has nothing but Claudine's settings.
const OWN: &str = "claudine";

/// How many links are followed on the way to a place. Linux follows no more.
const LINKS_MAX: usize = 40;

/// The places of a host, each by the path that was given and by the path without symbolic links.
pub(crate) struct Places {
    data: Vec<PathBuf>,
    /// The directory of the configuration file, if it has nothing else.
    settings: Vec<PathBuf>,
    /// The configuration file.
    file: Vec<PathBuf>,
    git: UsersFiles,
}

impl Places {
    /// The places of a host with this data directory, this configuration file and these files with
    /// the user's settings of git. Reads links.
    pub(crate) fn new(data_dir: &Path, file: &Path, git: UsersFiles) -> Self {
        let data = names_of(data_dir);
        let directory = file.parent().filter(|directory| directory.ends_with(OWN));
        let settings = directory.map(names_of).unwrap_or_default();
        // A rule for the directory would also hold for the worktrees.
        let has_data = |name: &PathBuf| data.iter().any(|data| data.starts_with(name));
        let settings = if settings.iter().any(has_data) {
            Vec::new()
        } else {
            settings
        };
        let file = if file.is_absolute() {
            names_of(file)
        } else {
            Vec::new()
        };
        Self {
            data,
            settings,
            file,
            git,
        }
    }

    /// The places as executors are told of them: for each root the patterns of the names that an
    /// agent may neither read nor write, and of those that it may only read. `elsewhere` are the
    /// directories with settings of other tasks. Reads the user's settings of git.
    pub(crate) fn told(&self, elsewhere: &BTreeSet<PathBuf>) -> String {
        let kept = |root: &PathBuf, unread: &[&str], unwritten: &[&str]| {
            let root = root.to_string_lossy();
            json!({"root": root, "unread": unread, "unwritten": unwritten})
        };
        let data = self.data.iter();
        let data = data.map(|root| kept(root, &Layout::PRIVATE, &Layout::PASSED));
        let settings = self.settings.iter().map(|root| kept(root, &["**"], &[]));
        let file = self.file.iter().map(|root| kept(root, &[""], &[]));
        // Somebody may have changed a file or a link since the start of the host.
        let Led { files, directories } = self.git.led_to();
        let files = all_names_of(&files);
        let files = files.iter().map(|file| kept(file, &[], &[""]));
        let directories = all_names_of(directories.union(elsewhere));
        let directories = directories.iter().map(|root| kept(root, &[], &["**"]));
        let of_host = data.chain(settings).chain(file);
        let all: Vec<Value> = of_host.chain(files).chain(directories).collect();
        Value::from(all).to_string()
    }

    /// Refuses a directory in which a restrained principal may not let a task work. Reads links.
    pub(crate) fn may_work_in(&self, by: &Principal, directory: &Path) -> Result<(), Refusal> {
        let Some(place) = self.place_of(directory).filter(|_| by.restrained) else {
            return Ok(());
        };
        let shown = shortened(&directory.to_string_lossy(), SHOWN);
        Err(Refusal {
            message: format!(
                "no task may be requested {} to work in {shown}: it is in {place}, which has what belongs to the host and to other tasks",
                way(by)
            ),
            hint: "name the directory of a project, or the worktree of a task".to_owned(),
        })
    }

    fn place_of(&self, directory: &Path) -> Option<&'static str> {
        let real = fs::canonicalize(directory).unwrap_or_else(|_| directory.to_owned());
        let is_in = |root: &PathBuf| real.starts_with(root);
        let is_in_worktree = |root: &PathBuf| {
            let within = real.strip_prefix(Layout::new(root).worktrees());
            within.is_ok_and(|rest| rest != Path::new(""))
        };
        if self.data.iter().any(is_in) && !self.data.iter().any(is_in_worktree) {
            Some("the data directory")
        } else if self.settings.iter().any(is_in) {
            Some("the directory of the settings")
        } else {
            None
        }
    }
}

/// The names of all these paths.
fn all_names_of<'a>(paths: impl IntoIterator<Item = &'a PathBuf>) -> BTreeSet<PathBuf> {
    paths.into_iter().flat_map(|path| names_of(path)).collect()
}

/// The path, unless it has `..`, and the path without symbolic links if that is another one. What
/// does not exist yet has names too.
fn names_of(path: &Path) -> Vec<PathBuf> {
    // Without a current directory, a relative path means nothing.
    let path = path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let real = without_links(&path);
    let is_plain = !path.components().any(|part| part == Component::ParentDir);
    let given = Some(path).filter(|path| is_plain && *path != real);
    given.into_iter().chain([real]).collect()
}

/// The path without symbolic links, `.` and `..`. A link may lead to what does not exist, and what
/// does not exist may be made.
fn without_links(path: &Path) -> PathBuf {
    let parts = |path: &Path| -> Vec<OsString> {
        let parts = path.components().rev();
        let parts = parts.filter(|part| *part != Component::CurDir);
        parts.map(|part| part.as_os_str().to_owned()).collect()
    };
    let (mut real, mut left, mut links) = (PathBuf::new(), parts(path), 0);
    while let Some(part) = left.pop() {
        if part == ".." {
            real.pop();
            continue;
        }
        let next = real.join(&part);
        // All that is no link cannot be read as one.
        match fs::read_link(&next) {
            Ok(target) if links < LINKS_MAX => {
                links += 1;
                left.extend(parts(&target));
            }
            _ => real = next,
        }
    }
    real
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::os::unix::fs::symlink;

    use claudine_domain::principal::Via;

    use super::*;

    fn chat() -> Principal {
        Principal {
            via: Via::Mcp,
            restrained: true,
            ..Principal::default()
        }
    }

    #[test]
    fn a_restrained_principal_lets_no_task_work_in_the_places_of_the_host_but_in_worktrees() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        for path in [
            "state/env",
            "state/worktrees/task_1/src",
            "claudine/a",
            "own",
            "statement",
        ] {
            fs::create_dir_all(root.join(path)).unwrap();
        }
        let link = |target: &str, name: &str| symlink(root.join(target), root.join(name)).unwrap();
        link("state", "data");
        link("state/env", "own/env");
        link("state/env", "state/worktrees/task_1/env");
        let places = Places::new(
            &root.join("data"),
            &root.join("claudine/config.toml"),
            UsersFiles::default(),
        );
        let check = |path: &str, expected: Option<&str>| {
            let found = places.may_work_in(&chat(), &root.join(path)).err();
            let found = found.map(|refusal| refusal.message);
            assert_eq!(found.is_some(), expected.is_some(), "{path}: {found:?}");
            if let (Some(found), Some(expected)) = (found, expected) {
                assert!(found.contains(expected), "{found}");
            }
            let person = places.may_work_in(&Principal::default(), &root.join(path));
            assert_eq!(person, Ok(()), "{path}");
        };
        let data = Some("it is in the data directory");
        for path in [
            "data",
            "state",
            "data/env",
            "state/env/",
            "own/env",
            "own/../state/env",
            "data/worktrees",
            "data/worktrees/task_1/env",
            "data/worktrees/task_1/../../env",
        ] {
            check(path, data);
        }
        let settings = Some("it is in the directory of the settings");
        check("claudine", settings);
        check("claudine/a", settings);
        for path in [
            "",
            "own",
            "statement",
            "data/worktrees/task_1",
            "state/worktrees/task_1/src",
        ] {
            check(path, None);
        }
    }

    #[test]
    fn executors_are_told_of_the_places_by_all_their_names() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let told = |data: &str, file: &str| {
            let git = UsersFiles::default();
            let places = Places::new(&root.join(data), &root.join(file), git);
            let told = places.told(&BTreeSet::new());
            let told: Vec<Value> = serde_json::from_str(&told).unwrap();
            let name = |one: &Value| {
                let path = Path::new(one["root"].as_str().unwrap());
                let path = path.strip_prefix(&root).unwrap().display().to_string();
                (path, one["unread"].as_array().unwrap().len())
            };
            told.iter().map(name).collect::<Vec<_>>()
        };
        fs::create_dir_all(root.join("state/claudine")).unwrap();
        fs::create_dir_all(root.join("claudine")).unwrap();
        fs::write(root.join("claudine/config.toml"), "").unwrap();
        symlink(root.join("state"), root.join("data")).unwrap();
        symlink(root.join("claudine/config.toml"), root.join("c.toml")).unwrap();
        let of_host = Layout::PRIVATE.len();
        let found = told("state", "claudine/config.toml");
        let expected = [
            ("state", of_host),
            ("claudine", 1),
            ("claudine/config.toml", 1),
        ];
        assert_eq!(
            found,
            expected.map(|(name, count)| (name.to_owned(), count))
        );
        // A directory that is not Claudine's own may have anything.
        let found = told("data", "c.toml");
        let names: Vec<&str> = found.iter().map(|(name, _)| &**name).collect();
        assert_eq!(names, ["data", "state", "c.toml", "claudine/config.toml"]);
        let found = told("state/claudine", "state/claudine/config.toml");
        let names: Vec<&str> = found.iter().map(|(name, _)| &**name).collect();
        assert_eq!(names, ["state/claudine", "state/claudine/config.toml"]);
    }

    /// The roots below which an agent may only read, without the root of the test.
    fn unwritten(places: &Places, elsewhere: &[PathBuf], root: &Path) -> Vec<(String, String)> {
        let elsewhere = elsewhere.iter().cloned().collect();
        let told: Vec<Value> = serde_json::from_str(&places.told(&elsewhere)).unwrap();
        let only_read = told.iter().filter(|one| one["unread"] == json!([]));
        let name = |one: &Value| {
            let path = Path::new(one["root"].as_str().unwrap());
            let path = path.strip_prefix(root).unwrap().display().to_string();
            (path, one["unwritten"][0].as_str().unwrap().to_owned())
        };
        only_read.map(name).collect()
    }

    #[test]
    fn executors_are_told_of_the_users_settings_of_git_and_of_what_they_lead_to() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let git = UsersFiles::of_home(&root);
        let places = Places::new(&root, &root.join("config.toml"), git);
        let check = |expected: &[(&str, &str)]| {
            let found = unwritten(&places, &[], &root);
            let found: Vec<_> = found.iter().map(|(one, two)| (&**one, &**two)).collect();
            assert_eq!(found, expected);
        };
        check(&[(".gitconfig", "")]);
        // The link leads to nothing yet.
        symlink(root.join("dot/config"), root.join(".gitconfig")).unwrap();
        check(&[(".gitconfig", ""), ("dot/config", "")]);
        fs::create_dir(root.join("dot")).unwrap();
        symlink("dot", root.join("link")).unwrap();
        let text = "[include]\npath = ~/more/../link/new\npath = link/other\n\
                    [core]\nhooksPath = ~/link/hooks\n";
        fs::write(root.join("dot/config"), text).unwrap();
        check(&[
            (".gitconfig", ""),
            ("dot/config", ""),
            ("dot/new", ""),
            ("dot/other", ""),
            ("link/other", ""),
            ("dot/hooks", "**"),
            ("link/hooks", "**"),
        ]);
    }

    #[test]
    fn executors_are_told_of_directories_with_settings_of_other_tasks() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        symlink(root.join("profile"), root.join("link")).unwrap();
        let config = root.join("config.toml");
        let places = Places::new(&root, &config, UsersFiles::default());
        let elsewhere = [root.join("link"), root.join("./other/")];
        let found = unwritten(&places, &elsewhere, &root);
        let expected = ["link", "other", "profile"].map(|name| (name.to_owned(), "**".to_owned()));
        assert_eq!(found, expected);
    }

    #[test]
    fn real_path_of_a_place_that_does_not_exist_is_known() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        symlink("./b/c", root.join("a")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        for (path, expected) in [
            ("a/d", "b/c/d"),
            ("a/../d", "b/d"),
            ("no/../a", "b/c"),
            ("no/such", "no/such"),
            ("loop", "loop"),
        ] {
            assert_eq!(
                without_links(&root.join(path)),
                root.join(expected),
                "{path}"
            );
        }
    }
}

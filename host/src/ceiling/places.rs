//! Keeps the tasks of restrained principals out of the places that belong to Claudine itself: its
//! data directory, which has the environments of all tasks, and the directory of its settings. The
//! worktrees in the data directory belong to tasks. The tasks do not change the user's settings of
//! git either, because git of the host runs what these name.

use std::{
    fs,
    path::{Path, PathBuf},
};

use claudine_domain::principal::Principal;
use serde_json::{Value, json};

use super::{Refusal, SHOWN, way};
use crate::{layout::Layout, text::shortened};

/// The name of a directory that has nothing but Claudine's settings.
const OWN: &str = "claudine";

/// The places of a host, each by the path that was given and by the path without symbolic links.
pub(crate) struct Places {
    data: Vec<PathBuf>,
    /// The directory of the configuration file, if it has nothing else.
    settings: Vec<PathBuf>,
    /// The configuration file.
    file: Vec<PathBuf>,
    /// The files with the user's settings of git, by the paths that were given.
    git: Vec<PathBuf>,
}

impl Places {
    /// The places of a host with this data directory, this configuration file and these files with
    /// the user's settings of git. Reads links.
    pub(crate) fn new(data_dir: &Path, file: &Path, git: Vec<PathBuf>) -> Self {
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
    /// agent may neither read nor write, and of those that it may only read.
    pub(crate) fn told(&self) -> String {
        let kept = |root: &PathBuf, unread: &[&str], unwritten: &[&str]| {
            let root = root.to_string_lossy();
            json!({"root": root, "unread": unread, "unwritten": unwritten})
        };
        let data = self.data.iter();
        let data = data.map(|root| kept(root, &Layout::PRIVATE, &Layout::PASSED));
        let settings = self.settings.iter().map(|root| kept(root, &["**"], &[]));
        let file = self.file.iter().map(|root| kept(root, &[""], &[]));
        // Somebody may have replaced such a file by a link since the start of the host.
        let git = self.git.iter().flat_map(|file| names_of(file));
        let git = git.map(|file| kept(&file, &[], &[""]));
        let all: Vec<Value> = data.chain(settings).chain(file).chain(git).collect();
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

/// The path, and the path without symbolic links if that is another one.
fn names_of(path: &Path) -> Vec<PathBuf> {
    let real = fs::canonicalize(path).ok().filter(|real| real != path);
    [path.to_owned()].into_iter().chain(real).collect()
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
            Vec::new(),
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
            let places = Places::new(&root.join(data), &root.join(file), Vec::new());
            let told: Vec<Value> = serde_json::from_str(&places.told()).unwrap();
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

    #[test]
    fn executors_are_told_of_the_users_settings_of_git_and_of_what_their_links_lead_to() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let git = root.join("gitconfig");
        let places = Places::new(&root, &root.join("config.toml"), vec![git.clone()]);
        let told = || {
            let told: Vec<Value> = serde_json::from_str(&places.told()).unwrap();
            let of_git = told
                .into_iter()
                .filter(|one| one["unwritten"] == json!([""]));
            let names = of_git.map(|one| one["root"].as_str().unwrap().into());
            names.collect::<Vec<PathBuf>>()
        };
        assert_eq!(told(), std::slice::from_ref(&git));
        fs::write(root.join("dotfile"), "").unwrap();
        symlink(root.join("dotfile"), &git).unwrap();
        assert_eq!(told(), [git, root.join("dotfile")]);
    }
}

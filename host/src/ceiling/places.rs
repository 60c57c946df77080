//! Keeps the tasks of restrained principals out of the places that belong to Claudine itself: its
//! data directory, which has the environments of all tasks, and the directory of its settings. The
//! worktrees in the data directory belong to tasks. The same holds for the usual places of other
//! hosts. The tasks change no hidden file of the person's home directory either, nor what links
//! there lead to, because programs run what many of these files name; nor the user's settings of
//! git and what these lead to, because git of the host runs what they name; nor the directories in
//! which programs of executors keep the settings of tasks. A place is known by all its names: those
//! by which links lead to it, and those that mounts give it.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    fs,
    path::{self, Component, Path, PathBuf},
};

use claudine_domain::principal::Principal;
use serde_json::{Value, json};

use super::{
    Refusal, SHOWN,
    homes::{Homes, is_hidden_in},
    mounts::Mounts,
    patterns::{all_but, named_but},
    values, way,
};
use crate::{
    git::{self, Led, UsersFiles},
    layout::Layout,
    text::shortened,
};

/// The name of a directory that has nothing but Claudine's settings.
const OWN: &str = "claudine";

/// How many links are followed on the way to a place. Linux follows no more.
const LINKS_MAX: usize = 40;

/// How many places outside of the home directory's hidden files an agent is told of because links
/// lead there. All of them have to fit into an argument of a program.
const LED_TO_MAX: usize = 500;

/// The places of a host, each by the path that was given and by the path without symbolic links.
pub(crate) struct Places {
    data: Vec<PathBuf>,
    settings: Settings,
    git: UsersFiles,
    homes: Homes,
    /// The directories in which restrained principals may let tasks work.
    allowed: Vec<PathBuf>,
}

/// Places of settings of Claudine.
#[derive(Default)]
struct Settings {
    /// The directories of configuration files that have nothing else.
    directories: BTreeSet<PathBuf>,
    /// The configuration files.
    files: BTreeSet<PathBuf>,
}

/// What the places depend on beside the host: directories in which programs of executors keep
/// settings, and the variables of the task that is to start.
pub(crate) struct Surroundings<'a> {
    /// The directories of other tasks.
    pub(crate) elsewhere: &'a BTreeSet<PathBuf>,
    /// The directories of the task, of which its executor knows itself.
    pub(crate) own: &'a BTreeSet<PathBuf>,
    pub(crate) variables: &'a BTreeMap<String, String>,
}

impl Places {
    /// The places of a host with this data directory, this configuration file, these files with the
    /// user's settings of git and these home directories. Reads links.
    fn new(data_dir: &Path, file: &Path, git: UsersFiles, homes: Homes) -> Self {
        let data = names_of(data_dir);
        let mut settings = Settings::default();
        settings.add(file, &data);
        Self {
            data,
            settings,
            git,
            homes,
            allowed: vec!["/".into()],
        }
    }

    /// The places of the host that this process is.
    pub(crate) fn of_host(data_dir: &Path, file: &Path, allowed: &[String]) -> Self {
        let (git, homes) = (git::users_files(), Homes::of_process());
        Self::new(data_dir, file, git, homes).with_allowed(allowed)
    }

    /// The same places, with the directories in which restrained principals may let tasks work.
    fn with_allowed(self, directories: &[String]) -> Self {
        Self {
            allowed: directories.iter().map(PathBuf::from).collect(),
            ..self
        }
    }

    /// The places as executors are told of them: for each root the patterns of the names that an
    /// agent may neither read nor write, and of those that it may only read. Reads the user's
    /// settings of git, links and mounts. The error is a message for the person.
    pub(crate) fn told(&self, around: &Surroundings<'_>) -> Result<String, String> {
        let mounts = Mounts::read().map_err(|error| {
            format!(
                "an agent of an MCP client cannot be kept from other names of your home directory \
                 and of the files of Claudine, because the mounts cannot be read: {error}; \
                 /proc has to be mounted"
            )
        })?;
        self.told_with(around, &mounts)
    }

    fn told_with(&self, around: &Surroundings<'_>, mounts: &Mounts) -> Result<String, String> {
        let kept = |root: &PathBuf, unread: &[&str], unwritten: &[&str]| {
            let root = root.to_string_lossy();
            json!({"root": root, "unread": unread, "unwritten": unwritten})
        };
        let homes = self.homes.with(around.variables);
        let own_data = with_mounts(&self.data, mounts);
        let mut other_data = with_mounts(&all_names_of(&homes.data_dirs), mounts);
        other_data.retain(|root| !own_data.contains(root));
        let data = own_data.iter().chain(&other_data);
        let data = data.map(|root| kept(root, &Layout::PRIVATE, &Layout::PASSED));
        let Settings { directories, files } = &self.settings.with_mounts(mounts);
        let settings = directories.iter().map(|root| kept(root, &["**"], &[]));
        let file = files.iter().map(|root| kept(root, &[""], &[]));
        let of_host = data.chain(settings).chain(file);
        let mut others = Settings::default();
        for file in &homes.settings_files {
            others.add(file, &self.data);
        }
        let others = others.with_mounts(mounts);
        let other_directories = others.directories.difference(directories);
        let other_directories = other_directories.map(|root| kept(root, &["**"], &[]));
        let other_files = others.files.difference(files);
        let other_files = other_files.map(|root| kept(root, &[""], &[]));
        let of_others = other_directories.chain(other_files);
        // Somebody may have changed a file or a link since the start of the host.
        let Led { files, directories } = self.git.led_to();
        let files = with_mounts(&all_names_of(&files), mounts);
        let files = files.iter().map(|file| kept(file, &[], &[""]));
        let directories = all_names_of(directories.union(around.elsewhere));
        let directories: BTreeSet<PathBuf> =
            with_mounts(&directories, mounts).into_iter().collect();
        let hidden = self.hidden(&homes, around, &directories, mounts)?;
        let directories = directories.iter().map(|root| kept(root, &[], &["**"]));
        let hidden = hidden.iter().map(|(root, patterns)| {
            let patterns: Vec<&str> = patterns.iter().map(String::as_str).collect();
            kept(root, &[], &patterns)
        });
        let all = of_host.chain(of_others).chain(files).chain(directories);
        let all: Vec<Value> = all.chain(hidden).collect();
        Ok(Value::from(all).to_string())
    }

    /// The hidden files of home directories and what links lead to, by patterns below roots, except
    /// the worktrees and what is in `directories`. Hidden files that are mounted elsewhere, too,
    /// count like what a link leads to.
    fn hidden(
        &self,
        homes: &Homes,
        around: &Surroundings<'_>,
        directories: &BTreeSet<PathBuf>,
        mounts: &Mounts,
    ) -> Result<Vec<(PathBuf, Vec<String>)>, String> {
        let data = with_mounts(&self.data, mounts);
        let worktrees = data.iter().map(|root| Layout::new(root).worktrees());
        let worktrees: Vec<PathBuf> = worktrees.collect();
        let below = |root: &PathBuf| {
            let within = worktrees
                .iter()
                .filter_map(|path| path.strip_prefix(root).ok());
            within.map(Path::to_owned).collect::<BTreeSet<_>>()
        };
        let mut free: BTreeMap<PathBuf, BTreeSet<PathBuf>> = BTreeMap::new();
        let mut mounted = Vec::new();
        for home in &homes.home_dirs {
            let names = names_of(home);
            for name in &names {
                let parts = mounts.parts(name).into_iter();
                let hidden = parts.filter(|(part, _)| is_hidden_in(Path::new(""), part));
                mounted.extend(hidden.map(|(_, other)| other));
            }
            let names = with_mounts(&names, mounts);
            let within: BTreeSet<PathBuf> = names.iter().flat_map(below).collect();
            for name in names {
                free.entry(name).or_default().extend(within.iter().cloned());
            }
        }
        let of_executors = with_mounts(&all_names_of(around.own), mounts);
        let is_known = |path: &PathBuf| {
            let is_in = |root: &PathBuf| path.starts_with(root);
            // A rule for all of these places would leave no directory to work in.
            let is_above = |home: &PathBuf| home.starts_with(path);
            free.keys()
                .any(|home| is_hidden_in(home, path) || is_above(home))
                || directories.iter().chain(&of_executors).any(is_in)
                || worktrees.iter().any(is_in)
        };
        let in_these = around.own.union(around.elsewhere).cloned();
        let in_these: BTreeSet<PathBuf> = in_these.collect();
        let led_to = with_mounts(&all_names_of(&homes.led_to(&in_these)), mounts);
        let mut led_to: BTreeSet<PathBuf> = led_to.into_iter().chain(mounted).collect();
        led_to.retain(|path| !is_known(path));
        if led_to.len() > LED_TO_MAX {
            return Err(format!(
                "an agent of an MCP client cannot be kept from what links and mounts among the \
                 hidden files of your home directory and in the directories of Claude Code lead \
                 to, because they lead to more than {LED_TO_MAX} places outside; let them lead to \
                 files in a hidden directory, such as `~/.dotfiles`"
            ));
        }
        let of_homes = free.iter();
        let of_homes = of_homes.map(|(home, free)| (home.clone(), all_but(free, ".")));
        let behind_links = led_to.iter().map(|path| named_but(path, &below(path)));
        Ok(of_homes.chain(behind_links).collect())
    }

    /// Refuses a directory in which a restrained principal may not let a task work. Reads links and
    /// mounts.
    pub(crate) fn may_work_in(&self, by: &Principal, directory: &Path) -> Result<(), Refusal> {
        if !by.restrained {
            return Ok(());
        }
        let mounts = Mounts::read().map_err(|error| Refusal {
            message: format!(
                "no task may be requested {} now, because the mounts cannot be read, which tell other names of the places of the host: {error}",
                way(by)
            ),
            hint: "let /proc be mounted where the host runs".to_owned(),
        })?;
        self.may_work_with(by, directory, &mounts)
    }

    fn may_work_with(
        &self,
        by: &Principal,
        directory: &Path,
        mounts: &Mounts,
    ) -> Result<(), Refusal> {
        let shown = shortened(&directory.to_string_lossy(), SHOWN);
        let Some(place) = self.place_of(directory, mounts) else {
            if self.is_allowed(directory) {
                return Ok(());
            }
            let message = format!(
                "no task may be requested {} to work in {shown}; {}",
                way(by),
                values(self.allowed.iter().map(|it| it.to_string_lossy()))
            );
            return Err(Refusal::of_setting(message, "directories"));
        };
        Err(Refusal {
            message: format!(
                "no task may be requested {} to work in {shown}: it is in {place}, which has what belongs to the host and to other tasks",
                way(by)
            ),
            hint: "name the directory of a project, or the worktree of a task".to_owned(),
        })
    }

    /// Whether a directory is in one of those that the settings allow, or in the worktree of a
    /// task. Reads links.
    fn is_allowed(&self, directory: &Path) -> bool {
        let real = without_links(directory);
        let mut worktrees = self.data.iter().map(|data| Layout::new(data).worktrees());
        let mut allowed = self.allowed.iter().map(|it| without_links(it));
        allowed.any(|it| real.starts_with(it)) || worktrees.any(|it| real.starts_with(it))
    }

    fn place_of(&self, directory: &Path, mounts: &Mounts) -> Option<&'static str> {
        // A directory that is missing may be made until the task starts.
        let real = without_links(directory);
        let data = with_mounts(&self.data, mounts);
        let settings = with_mounts(&self.settings.directories, mounts);
        let is_in = |root: &PathBuf| real.starts_with(root);
        let is_in_worktree = |root: &PathBuf| {
            let within = real.strip_prefix(Layout::new(root).worktrees());
            within.is_ok_and(|rest| rest != Path::new(""))
        };
        if data.iter().any(is_in) && !data.iter().any(is_in_worktree) {
            Some("the data directory")
        } else if settings.iter().any(is_in) {
            Some("the directory of the settings")
        } else {
            None
        }
    }
}

impl Settings {
    /// Adds those of a host with this configuration file. The directories must not contain this
    /// host's data: a rule for such a directory would also hold for the worktrees.
    fn add(&mut self, file: &Path, data: &[PathBuf]) {
        let directory = file.parent().filter(|directory| directory.ends_with(OWN));
        let names = directory.map(names_of).unwrap_or_default();
        let has_data = |name: &PathBuf| data.iter().any(|data| data.starts_with(name));
        if !names.iter().any(has_data) {
            self.directories.extend(names);
        }
        if file.is_absolute() {
            self.files.extend(names_of(file));
        }
    }

    /// These places by all names that mounts give them.
    fn with_mounts(&self, mounts: &Mounts) -> Self {
        let named = |places: &BTreeSet<PathBuf>| with_mounts(places, mounts).into_iter().collect();
        Self {
            directories: named(&self.directories),
            files: named(&self.files),
        }
    }
}

/// These names, and after them those that mounts give the same places.
fn with_mounts<'a>(names: impl IntoIterator<Item = &'a PathBuf>, mounts: &Mounts) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = names.into_iter().cloned().collect();
    let others: Vec<PathBuf> = all
        .iter()
        .flat_map(|name| mounts.other_names(name))
        .collect();
    for other in others {
        if !all.contains(&other) {
            all.push(other);
        }
    }
    all
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

    /// What executors are told for a task with these variables, which is to start while other tasks
    /// have these directories.
    fn told(places: &Places, variables: &[(&str, &Path)], elsewhere: &[PathBuf]) -> Vec<Value> {
        let variables = variables.iter();
        let variables =
            variables.map(|(name, value)| ((*name).to_owned(), value.display().to_string()));
        let around = Surroundings {
            elsewhere: &elsewhere.iter().cloned().collect(),
            own: &BTreeSet::new(),
            variables: &variables.collect(),
        };
        serde_json::from_str(&places.told(&around).unwrap()).unwrap()
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
            Homes::default(),
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
            "own/missing/../../state/env/missing",
            "own/missing/../../data/missing",
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
    fn a_restrained_principal_lets_tasks_work_only_in_the_allowed_directories() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        for directory in ["src/a", "other", "data/worktrees/task_1"] {
            fs::create_dir_all(root.join(directory)).unwrap();
        }
        symlink(root.join("src"), root.join("link")).unwrap();
        symlink(root.join("other"), root.join("src/out")).unwrap();
        let check = |allowed: &[&str], path: &str, expected: bool| {
            let (git, homes) = (UsersFiles::default(), Homes::default());
            let places = Places::new(&root.join("data"), &root.join("config.toml"), git, homes);
            let allowed = allowed.iter().map(|name| root.join(name));
            let allowed: Vec<String> = allowed.map(|it| it.display().to_string()).collect();
            let places = places.with_allowed(&allowed);
            let found = places.may_work_in(&chat(), &root.join(path));
            assert_eq!(found.is_ok(), expected, "{allowed:?}, {path}: {found:?}");
            if let Err(refusal) = found {
                assert!(refusal.hint.contains("mcp.directories"), "{refusal:?}");
            }
            let person = places.may_work_in(&Principal::default(), &root.join(path));
            assert_eq!(person, Ok(()), "{path}");
        };
        for allowed in ["src", "link"] {
            check(&[allowed], "src", true);
            check(&[allowed], "src/a", true);
            check(&[allowed], "link/a", true);
            check(&[allowed], "data/worktrees/task_1", true);
            check(&[allowed], "", false);
            check(&[allowed], "other", false);
            check(&[allowed], "src/../other", false);
            check(&[allowed], "src/out", false);
            check(&[allowed], "srcs", false);
        }
        check(&[], "src", false);
        check(&["src", "other"], "src/out", true);
    }

    #[test]
    fn executors_are_told_of_the_places_by_all_their_names() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let told = |data: &str, file: &str| {
            let (git, homes) = (UsersFiles::default(), Homes::default());
            let places = Places::new(&root.join(data), &root.join(file), git, homes);
            let told = told(&places, &[], &[]);
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
        let told = told(places, &[], elsewhere);
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
        let places = Places::new(&root, &root.join("config.toml"), git, Homes::default());
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
        let places = Places::new(&root, &config, UsersFiles::default(), Homes::default());
        let elsewhere = [root.join("link"), root.join("./other/")];
        let found = unwritten(&places, &elsewhere, &root);
        let expected = ["link", "other", "profile"].map(|name| (name.to_owned(), "**".to_owned()));
        assert_eq!(found, expected);
    }

    #[test]
    fn executors_are_told_of_the_usual_places_of_other_hosts() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let (git, homes) = (UsersFiles::default(), Homes::default());
        let file = root.join("h/.config/claudine/config.toml");
        let places = Places::new(&root.join("data"), &file, git, homes);
        let (home, state, config) = (root.join("h"), root.join("s"), root.join("data/.."));
        let variables = [
            ("HOME", &*home),
            ("XDG_STATE_HOME", &*state),
            ("XDG_CONFIG_HOME", &*config),
        ];
        let check = |variables: &[(&str, &Path)], expected: &[&str]| {
            let told = told(&places, variables, &[]);
            let is_unread = |one: &&Value| one["unread"] != json!([]);
            let name = |one: &Value| {
                let path = Path::new(one["root"].as_str().unwrap());
                path.strip_prefix(&root).unwrap().display().to_string()
            };
            let found: Vec<String> = told.iter().filter(is_unread).map(name).collect();
            assert_eq!(found, expected);
        };
        let own = [
            "data",
            "h/.config/claudine",
            "h/.config/claudine/config.toml",
        ];
        check(&[], &own);
        let all = [
            "data",
            "h/.local/state/claudine",
            "s/claudine",
            "h/.config/claudine",
            "h/.config/claudine/config.toml",
            "claudine",
            "claudine/config.toml",
        ];
        check(&variables, &all);
    }

    #[test]
    fn executors_are_told_of_hidden_files_of_the_home_directory_and_of_what_links_lead_to() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let home = root.join("home");
        let data = home.join(".local/state/claudine");
        for path in [
            ".ssh",
            ".local/state/claudine/worktrees/task_1",
            "dot/agents",
        ] {
            fs::create_dir_all(home.join(path)).unwrap();
        }
        for (link, target) in [
            (".ssh/config", "../dot/missing"),
            (".agents", "dot/agents"),
            (".odd", "dot/a:b/(c)"),
            (".inside", ".ssh/x"),
            (".work", ".local/state/claudine/worktrees/task_1"),
            (".all", "../home"),
        ] {
            symlink(target, home.join(link)).unwrap();
        }
        let git = UsersFiles::default();
        let file = root.join("c.toml");
        let places = Places::new(&data, &file, git.clone(), Homes::default());
        let patterns = |places: &Places| {
            let told = told(places, &[("HOME", &*home)], &[]);
            let only_read = told.iter().filter(|one| one["unread"] == json!([]));
            let all = only_read.flat_map(|one| {
                let path = Path::new(one["root"].as_str().unwrap());
                let path = path.strip_prefix(&root).unwrap().display().to_string();
                let patterns = one["unwritten"].as_array().unwrap().iter();
                patterns.map(move |pattern| format!("{path}: {}", pattern.as_str().unwrap()))
            });
            all.collect::<Vec<String>>()
        };
        let found = patterns(&places);
        let (of_home, led_to) = found.split_at(54);
        assert!(of_home.iter().all(|one| one.starts_with("home: .")));
        assert!(
            of_home.contains(&"home: .local/state?*".to_owned()),
            "{of_home:?}"
        );
        let expected = [
            "home/dot: a?b/?c?",
            "home/dot/agents: ",
            "home/dot/missing: ",
        ];
        assert_eq!(led_to, expected);

        // A link leads to a directory that contains the worktrees.
        fs::rename(home.join(".local/state"), root.join("state")).unwrap();
        symlink(root.join("state"), home.join(".local/state")).unwrap();
        let found = patterns(&Places::new(&data, &file, git, Homes::default()));
        let is_of_state = |one: &&String| one.starts_with("state: ");
        let of_state: Vec<&String> = found.iter().filter(is_of_state).collect();
        assert_eq!(of_state.len(), 16 + 18, "{of_state:?}");
        assert!(of_state.contains(&&"state: claudine/worktrees?*".to_owned()));
    }

    /// A file system with the home directory, which is mounted at another place too, with its data
    /// directory, and a hidden directory that is mounted alone.
    #[test]
    fn places_are_known_by_the_names_that_mounts_give_them() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let (home, data) = (root.join("home"), root.join("home/.state/claudine"));
        for path in [
            "home/.ssh",
            "home/.state/claudine/worktrees/task_1",
            "set/claudine",
        ] {
            fs::create_dir_all(root.join(path)).unwrap();
        }
        let file = root.join("set/claudine/config.toml");
        let git = UsersFiles::of_home(&home);
        let places = Places::new(&data, &file, git, Homes::default());
        let at = |path: &str| root.join(path).display().to_string();
        let lines = [
            ("/".to_owned(), "/".to_owned()),
            (at("home"), "/other".to_owned()),
            (at("home/.ssh"), "/keys".to_owned()),
            (at("set"), "/set".to_owned()),
        ];
        let lines = lines.map(|(root, at)| format!("1 1 8:1 {root} {at} rw - ext4 x rw\n"));
        let mounts = Mounts::parse(lines.concat().as_bytes());
        for (path, is_refused) in [
            ("/other/.state/claudine", true),
            ("/other/.state/claudine/env", true),
            ("/other/.state/claudine/worktrees/task_1", false),
            ("/set/claudine", true),
            ("/set/else", false),
            ("/other/project", false),
        ] {
            let refused = places.may_work_with(&chat(), Path::new(path), &mounts);
            assert_eq!(refused.is_err(), is_refused, "{path}: {refused:?}");
        }
        let told = |mounts: &Mounts| {
            let around = Surroundings {
                elsewhere: &BTreeSet::new(),
                own: &BTreeSet::new(),
                variables: &[("HOME".to_owned(), home.display().to_string())].into(),
            };
            let told = places.told_with(&around, mounts).unwrap();
            serde_json::from_str::<Vec<Value>>(&told).unwrap()
        };
        let (once, twice) = (told(&Mounts::default()), told(&mounts));
        let patterns_of = |told: &[Value], root: &str| {
            let of_root = told.iter().filter(|one| one["root"] == root);
            let of_root = of_root.map(|one| (one["unread"].clone(), one["unwritten"].clone()));
            of_root.collect::<Vec<_>>()
        };
        for (path, other) in [
            ("home", "/other"),
            ("home/.state/claudine", "/other/.state/claudine"),
            ("home/.gitconfig", "/other/.gitconfig"),
            ("set/claudine", "/set/claudine"),
            ("set/claudine/config.toml", "/set/claudine/config.toml"),
        ] {
            let expected = patterns_of(&once, &at(path));
            assert!(!expected.is_empty(), "{path}");
            assert_eq!(patterns_of(&twice, &at(path)), expected, "{path}");
            assert_eq!(patterns_of(&twice, other), expected, "{other}");
            assert!(patterns_of(&once, other).is_empty(), "{other}");
        }
        assert!(patterns_of(&once, "/keys").is_empty());
        assert_eq!(patterns_of(&twice, "/keys"), [(json!([]), json!([""]))]);
    }

    #[test]
    fn links_to_very_many_places_are_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let places = Places::new(
            &root.join("data"),
            &root.join("c.toml"),
            UsersFiles::default(),
            Homes::default(),
        );
        fs::create_dir_all(root.join("home/.a")).unwrap();
        let home = root.join("home");
        let told = || {
            let around = Surroundings {
                elsewhere: &BTreeSet::new(),
                own: &BTreeSet::new(),
                variables: &[("HOME".to_owned(), home.display().to_string())].into(),
            };
            places.told(&around)
        };
        for number in 0..LED_TO_MAX {
            symlink(format!("/no/{number}"), home.join(format!(".a/{number}"))).unwrap();
        }
        told().unwrap();
        symlink("/no/more", home.join(".a/more")).unwrap();
        let message = told().unwrap_err();
        assert!(message.contains("more than 500 places"), "{message}");
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

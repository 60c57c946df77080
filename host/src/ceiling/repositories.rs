//! Keeps agents of restrained principals from changing git directories. Claude Code protects those
//! that are called `.git`. A bare repository with worktrees beside it, or a separate git directory,
//! may have any name, and git of the host and of the person believes what is there.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use super::patterns::named_but;
use crate::git::unusual_git_dirs_at;

/// How many levels of directories below the directory of a task are searched, and how many
/// directories.
const LEVELS: usize = 3;
const DIRECTORIES_MAX: usize = 5_000;

/// How many git directories an agent is told of. All of them have to fit into an argument of a
/// program.
const GIT_DIRS_MAX: usize = 200;

/// Directories that are not searched.
const NOT_SEARCHED: [&str; 2] = [".git", "node_modules"];

/// Names of files that are hardly ever anything else than parts of git directories, wherever these
/// are.
const ANYWHERE: [&str; 4] = [
    "**/.bare/config",
    "**/*.git/config",
    "**/commondir",
    "**/config.worktree",
];

/// Names without which git takes no directory for the repository of a submodule of a worktree, or
/// by which it would run programs. In the worktrees of tasks, files of a project may have them.
const OF_SUBMODULES: [&str; 2] = [
    "**/worktrees/*/modules/**/HEAD",
    "**/worktrees/*/modules/**/config",
];

/// What an executor is told of git directories, for an agent in this directory: for each root the
/// patterns of names that it may only read. `of_tasks` are the repositories of tasks, and
/// `worktrees` is the directory with the worktrees of tasks. Reads directories. The error is a
/// message for the person.
pub(crate) fn told(
    directory: &Path,
    of_tasks: &BTreeSet<PathBuf>,
    worktrees: &Path,
) -> Result<Vec<Value>, String> {
    let directory = fs::canonicalize(directory).unwrap_or_else(|_| directory.to_owned());
    let found = git_dirs(&directory, of_tasks);
    if found.len() > GIT_DIRS_MAX {
        return Err(format!(
            "an agent of an MCP client cannot be kept from the git directories in {}, because \
             more than {GIT_DIRS_MAX} have another name than `.git`; let it work in a directory \
             with fewer repositories",
            directory.display()
        ));
    }
    let mut kept: BTreeMap<PathBuf, Vec<String>> = BTreeMap::new();
    for git_dir in found {
        let checkout = checkout_in(&git_dir, &directory);
        let (root, patterns) = named_but(&git_dir, &checkout.into_iter().collect());
        kept.entry(root).or_default().extend(patterns);
    }
    let is_in_worktree = fs::canonicalize(worktrees).is_ok_and(|it| directory.starts_with(it));
    let of_submodules = OF_SUBMODULES.iter().filter(|_| !is_in_worktree);
    let anywhere = ANYWHERE.iter().chain(of_submodules);
    let anywhere = anywhere.map(|pattern| (*pattern).to_owned());
    kept.entry("/".into()).or_default().extend(anywhere);
    let kept = kept.into_iter().map(|(root, patterns)| {
        json!({"root": root.to_string_lossy(), "unread": [], "unwritten": patterns})
    });
    Ok(kept.collect())
}

/// The git directories of the directories above this one, of this one and of those below, and those
/// of tasks that are among them. Those that are kept with another one are left out.
fn git_dirs(directory: &Path, of_tasks: &BTreeSet<PathBuf>) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for dir in directory.ancestors() {
        add(&mut found, unusual_git_dirs_at(dir), directory);
    }
    for repository in of_tasks {
        let mut git_dirs = unusual_git_dirs_at(repository);
        git_dirs.retain(|it| it.starts_with(directory) || directory.starts_with(it));
        add(&mut found, git_dirs, directory);
    }
    let mut left = VecDeque::from([(directory.to_owned(), LEVELS)]);
    let mut searched = 0;
    while let Some((dir, levels)) = left.pop_front() {
        // A directory that cannot be listed counts as empty.
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if !is_dir || NOT_SEARCHED.iter().any(|name| entry.file_name() == *name) {
                continue;
            }
            searched += 1;
            if searched > DIRECTORIES_MAX || found.len() > GIT_DIRS_MAX {
                return found;
            }
            let path = entry.path();
            add(&mut found, unusual_git_dirs_at(&path), directory);
            // A repository may have worktrees in it, but these have the same git directory.
            if levels > 1 && !found.contains(&path) {
                left.push_back((path, levels - 1));
            }
        }
    }
    found
}

/// Adds git directories to those that were found for an agent in this directory.
fn add(found: &mut BTreeSet<PathBuf>, git_dirs: Vec<PathBuf>, directory: &Path) {
    for git_dir in git_dirs {
        let mut around = git_dir.ancestors().filter(|it| found.contains(*it));
        if !around.any(|outer| is_kept_with(&git_dir, outer, directory)) {
            found.retain(|inner| !is_kept_with(inner, &git_dir, directory));
            found.insert(git_dir);
        }
    }
}

/// Whether an agent in this directory is kept from a git directory because it is kept from another
/// one around it, as from those of all worktrees of a bare repository. A checkout in the other one,
/// in which the agent works, is excepted.
fn is_kept_with(inner: &Path, outer: &Path, directory: &Path) -> bool {
    let is_excepted = |checkout: PathBuf| inner.starts_with(outer.join(checkout));
    inner.starts_with(outer) && !checkout_in(outer, directory).is_some_and(is_excepted)
}

/// The checkout of a repository that is inside its git directory and has this directory, relative
/// to the git directory.
fn checkout_in(git_dir: &Path, directory: &Path) -> Option<PathBuf> {
    let above = directory.ancestors();
    let mut inside = above.take_while(|dir| *dir != git_dir && dir.starts_with(git_dir));
    let is_checkout = |dir: &&Path| {
        let git_dirs = unusual_git_dirs_at(dir);
        !git_dirs.iter().any(|it| it == dir) && git_dirs.iter().any(|it| it == git_dir)
    };
    let checkout = inside.find(is_checkout)?;
    Some(checkout.strip_prefix(git_dir).ok()?.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    /// Makes a repository with a worktree `main` at this path.
    fn make(git_dir: &Path, checkout: &Path) {
        for part in ["objects", "refs", "worktrees/main"] {
            fs::create_dir_all(git_dir.join(part)).unwrap();
        }
        for head in ["HEAD", "worktrees/main/HEAD"] {
            fs::write(git_dir.join(head), "ref: refs/heads/main\n").unwrap();
        }
        let own = git_dir.join("worktrees/main");
        fs::write(own.join("commondir"), "../..\n").unwrap();
        fs::create_dir_all(checkout).unwrap();
        let text = format!("gitdir: {}\n", own.display());
        fs::write(checkout.join(".git"), text).unwrap();
    }

    /// The roots, without the root of the test, and their patterns.
    fn kept(root: &Path, directory: &str, of_tasks: &[&str]) -> Vec<String> {
        let of_tasks = of_tasks.iter().map(|path| root.join(path)).collect();
        let told = told(&root.join(directory), &of_tasks, &root.join("worktrees")).unwrap();
        let lines = told.iter().flat_map(|one| {
            assert_eq!(one["unread"], json!([]));
            let path = Path::new(one["root"].as_str().unwrap());
            let path = path.strip_prefix(root).unwrap_or(path).display();
            let patterns = one["unwritten"].as_array().unwrap().iter();
            let lines = patterns.map(|pattern| format!("{path}: {}", pattern.as_str().unwrap()));
            lines.collect::<Vec<_>>()
        });
        lines.collect()
    }

    #[test]
    fn executors_are_told_of_git_directories_with_unusual_names() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        make(&root.join("a/p/.bare"), &root.join("a/p/main"));
        make(&root.join("a/1/2/3/deep"), &root.join("other"));
        make(&root.join("a/o(d)d"), &root.join("a/x"));
        fs::create_dir_all(root.join("a/.git/objects")).unwrap();
        let own = |directory: &str, of_tasks: &[&str]| -> Vec<String> {
            let kept = kept(&root, directory, of_tasks).into_iter();
            kept.filter(|one| !one.starts_with("/: ")).collect()
        };
        assert_eq!(own("a/p/main", &[]), ["a/p/.bare: "]);
        assert_eq!(own("a/p/.bare/objects", &[]), ["a/p/.bare: "]);
        assert_eq!(own("a", &[]), ["a: o?d?d", "a/p/.bare: "]);
        let found = own("a", &["a/1/2/3/deep", "other"]);
        assert!(found.contains(&"a/1/2/3/deep: ".to_owned()), "{found:?}");
        assert_eq!(own("a/1", &["a/p/.bare"]), ["a/1/2/3/deep: "]);
    }

    #[test]
    fn agent_may_change_the_checkout_in_a_repository_in_which_it_works() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        make(&root.join("r.git"), &root.join("r.git/main"));
        fs::create_dir(root.join("r.git/main/src")).unwrap();
        let found = kept(&root, "r.git/main/src", &[]);
        for (pattern, is_kept) in [("", false), ("*", false), ("m", true), ("main?*", true)] {
            let line = format!("r.git: {pattern}");
            assert_eq!(found.contains(&line), is_kept, "{line}: {found:?}");
        }
        // It changes no other repository in the checkout.
        make(&root.join("r.git/main/lib"), &root.join("of-lib"));
        let found = kept(&root, "r.git/main", &[]);
        let of_lib = "r.git/main/lib: ".to_owned();
        assert!(found.contains(&of_lib), "{found:?}");
        // Without the checkout, all is kept.
        let found = kept(&root, "r.git", &[]);
        assert!(found.contains(&"r.git: ".to_owned()), "{found:?}");
    }

    #[test]
    fn parts_of_git_directories_are_known_by_their_names_wherever_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let of_submodules = "/: **/worktrees/*/modules/**/HEAD".to_owned();
        for (directory, is_kept) in [("plain", true), ("worktrees/task_1", false)] {
            fs::create_dir_all(root.join(directory)).unwrap();
            let found = kept(&root, directory, &[]);
            assert!(found.contains(&"/: **/commondir".to_owned()), "{found:?}");
            assert_eq!(found.contains(&of_submodules), is_kept, "{found:?}");
        }
    }

    #[test]
    fn very_many_git_directories_are_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        for number in 0..GIT_DIRS_MAX {
            let name = number.to_string();
            // The git directory of its worktree does not count.
            make(&root.join("a").join(&name), &root.join("b").join(name));
        }
        let check = || told(&root, &BTreeSet::new(), &root.join("worktrees"));
        check().unwrap();
        make(&root.join("a/more"), &root.join("b/more"));
        let message = check().unwrap_err();
        assert!(message.contains("more than 200 have"), "{message}");
    }
}

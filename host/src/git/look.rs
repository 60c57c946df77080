//! One look at a checkout: what would be lost with it. The same for showing, keeping and removing
//! one.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use claudine_domain::attempt::GitState;

use super::{
    Git, GitError, Stamps,
    place::{Place, is_top},
    refs::Tips,
    spec::Spec,
    status::Submodules,
};

/// How many files are named.
const NAMED: usize = 5;

/// How many slashes the name of a submodule may have.
const MODULES_DEPTH: usize = 16;

/// Files in a checkout's own git directory that are there while something is under way in it.
const UNDER_WAY: &[(&str, &str)] = &[
    ("rebase-merge", "a rebase"),
    ("rebase-apply", "a rebase, or the applying of patches,"),
    ("MERGE_HEAD", "a merge"),
    ("CHERRY_PICK_HEAD", "a cherry-pick"),
    ("REVERT_HEAD", "a revert"),
    ("sequencer", "a row of cherry-picks or reverts"),
    ("BISECT_START", "a bisect"),
];

/// What is in a checkout and nowhere else, beside the commits of its own repository.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Look {
    pub(crate) state: GitState,
    /// Files that are changed, and that git was told not to look at.
    pub(crate) unwatched: Vec<String>,
    /// Refs of its own have commits that are on no branch.
    has_own_commits: bool,
    /// Something that was begun and not ended.
    under_way: Option<&'static str>,
    /// What repositories within it have, in words.
    within: Option<String>,
    /// Ignored files and directories: the first of them, and how many there are.
    ignored: Vec<String>,
    pub(crate) ignored_count: u64,
    /// There are repositories within it, which git itself refuses to remove.
    has_repositories: bool,
}

impl Look {
    /// Files that are changed or new.
    pub(crate) fn dirty_count(&self) -> u64 {
        self.state.dirty_count + self.unwatched.len() as u64
    }

    /// What would be lost without the checkout, less ignored files.
    pub(crate) fn loss(&self) -> Option<String> {
        if self.state.dirty_count > 0 {
            return Some(format!(
                "it has changes that are not committed, in {} of its files",
                self.state.dirty_count
            ));
        }
        if !self.unwatched.is_empty() {
            return Some(format!(
                "it has changes in files that git was told not to look at: {}",
                shortened(&self.unwatched)
            ));
        }
        if let Some(what) = self.under_way {
            return Some(format!("{what} is under way in it"));
        }
        if self.has_own_commits {
            let own = "it has commits that only its own refs have, below refs/worktree/";
            return Some(own.to_owned());
        }
        self.within.clone()
    }

    /// Ignored files, in words.
    pub(crate) fn ignored(&self) -> Option<String> {
        (self.ignored_count > 0).then(|| {
            format!(
                "it has files that git ignores: {}",
                shortened(&self.ignored)
            )
        })
    }

    pub(super) fn has_repositories(&self) -> bool {
        self.has_repositories
    }
}

impl Git {
    /// Looks at this checkout of a repository; ignored files that were there at first do not count.
    pub(crate) async fn look(&self, repository: &Path, first: &Stamps) -> Result<Look, GitError> {
        let place = self.own_place(repository).await?;
        Ok(Look {
            has_own_commits: self.has_own_commits().await?,
            ..self.look_at(&place, first).await?
        })
    }

    async fn look_at(&self, place: &Place, first: &Stamps) -> Result<Look, GitError> {
        let status = self.full_status(Submodules::Inside, true).await?;
        let listed = self.listed().await?;
        let mut look = Look {
            state: status.state,
            unwatched: self.changed_unwatched(place, listed.unwatched).await?,
            has_own_commits: false,
            under_way: under_way(&place.git_dir),
            within: None,
            ignored: status.ignored,
            ignored_count: status.ignored_count,
            has_repositories: !listed.links.is_empty() || place.git_dir.join("modules").exists(),
        };
        if look.ignored_count > 0 && !first.is_empty() {
            look.ignored = self.ignored_since(first).await?;
            look.ignored_count = look.ignored.len() as u64;
        }
        self.leave_out_empty(&mut look).await?;
        let mut looked_at = Vec::new();
        for path in listed.links {
            looked_at.extend(self.look_within(&path, &mut look).await?);
        }
        let mut others = self.repositories_of_submodules(place).await?;
        others.retain(|other| !looked_at.contains(other));
        if let Some(other) = others.first()
            && look.within.is_none()
        {
            let name = other.strip_prefix(&place.git_dir).unwrap_or(other);
            look.within = Some(format!(
                "the repository of a submodule that is not checked out any more lies with it: {}",
                name.display()
            ));
        }
        Ok(look)
    }

    /// Leaves out ignored directories that have no file in them: git names them all the same.
    async fn leave_out_empty(&self, look: &mut Look) -> Result<(), GitError> {
        if look.ignored.is_empty() {
            return Ok(());
        }
        let mut ignored = std::mem::take(&mut look.ignored);
        let named = ignored.len();
        let with_files = self.look_at_files(move |top| {
            ignored.retain(|name| has_files(top.join(name)));
            ignored
        });
        look.ignored = with_files.await?;
        look.ignored_count -= named.saturating_sub(look.ignored.len()) as u64;
        Ok(())
    }

    /// The repositories of submodules that lie with this checkout, whether they are checked out or
    /// not.
    async fn repositories_of_submodules(&self, place: &Place) -> Result<Vec<PathBuf>, GitError> {
        let modules = place.git_dir.join("modules");
        let looked = self.look_at_files(move |_| {
            let found = repositories_below(&modules, MODULES_DEPTH);
            found.map_err(|source| GitError::Read {
                path: modules,
                source,
            })
        });
        looked.await?
    }

    /// Adds what a repository within this checkout has, and says where it lies. Its commits lie
    /// with it until they are pushed: each worktree has one of its own.
    async fn look_within(&self, path: &str, look: &mut Look) -> Result<Option<PathBuf>, GitError> {
        let inner = self.in_dir(self.dir().join(path));
        if !inner.dir().join(".git").exists() {
            return Ok(None);
        }
        let place = inner.place().await?;
        if !is_top(&place, inner.dir()) {
            return Err(GitError::NotItsOwn {
                dir: inner.dir().to_owned(),
                top: place.top,
            });
        }
        let found = Box::pin(inner.look_at(&place, &Stamps::default())).await?;
        look.ignored_count += found.ignored_count;
        let ignored = found.ignored.iter();
        look.ignored
            .extend(ignored.map(|name| format!("{path}/{name}")));
        if look.within.is_some() {
            return Ok(Some(place.git_dir));
        }
        look.within = match inner.tips().await? {
            Tips::Elsewhere => found
                .loss()
                .map(|loss| format!("its submodule `{path}`: {loss}")),
            Tips::Commits => Some(format!(
                "its submodule `{path}` has commits that are on no remote"
            )),
            Tips::Stash => Some(format!("its submodule `{path}` has a stash")),
        };
        Ok(Some(place.git_dir))
    }

    /// Checks all submodules out, and theirs, as far as git's own settings allow where they come
    /// from.
    pub(crate) async fn update_submodules(&self) -> Result<(), GitError> {
        let arguments = ["submodule", "--quiet", "update", "--init", "--recursive"];
        let spec = Spec::changes(arguments).limit(super::spec::LONG);
        self.change(&spec).await.map(drop)
    }

    /// Whether what is checked out here names submodules.
    pub(crate) fn has_submodules(&self) -> bool {
        self.dir().join(".gitmodules").exists()
    }
}

/// Whether there is anything but directories. What cannot be read may be anything.
fn has_files(path: PathBuf) -> bool {
    let mut paths = vec![path];
    while let Some(path) = paths.pop() {
        match fs::symlink_metadata(&path) {
            Ok(found) if found.is_dir() => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            _ => return true,
        }
        let Ok(entries) = fs::read_dir(&path) else {
            return true;
        };
        for entry in entries {
            match entry {
                Ok(entry) => paths.push(entry.path()),
                Err(_) => return true,
            }
        }
    }
    false
}

/// The repositories in a directory, less those within them. A name may have slashes in it.
fn repositories_below(dir: &Path, depth: usize) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        let path = entry.path();
        if !entry.file_type()?.is_dir() {
            continue;
        }
        if path.join("HEAD").exists() {
            found.push(path);
        } else if depth > 0 {
            found.extend(repositories_below(&path, depth - 1)?);
        }
    }
    Ok(found)
}

fn under_way(git_dir: &Path) -> Option<&'static str> {
    let found = UNDER_WAY
        .iter()
        .find(|(file, _)| git_dir.join(file).exists());
    found.map(|(_, what)| *what)
}

/// The first of some files, and that there are more.
pub(crate) fn shortened(files: &[String]) -> String {
    let mut shown: Vec<&str> = files.iter().take(NAMED).map(String::as_str).collect();
    if files.len() > NAMED {
        shown.push("…");
    }
    shown.join(", ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn what_cannot_be_looked_through_is_not_taken_for_empty() {
        let dir = tempfile::tempdir().unwrap();
        let modules = dir.path().join("modules");
        assert!(repositories_below(&modules, 1).unwrap().is_empty());
        let inner = modules.join("a/b");
        fs::create_dir_all(&inner).unwrap();
        fs::write(inner.join("HEAD"), "").unwrap();
        let found = repositories_below(&modules, 1).unwrap();
        assert_eq!(found, std::slice::from_ref(&inner));
        assert!(repositories_below(&inner.join("HEAD"), 1).is_err());
    }

    #[test]
    fn each_kind_of_loss_is_said() {
        let check = |look: Look, loss: Option<&str>, ignored: Option<&str>| {
            assert_eq!(look.loss().as_deref(), loss);
            assert_eq!(look.ignored().as_deref(), ignored);
        };
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        check(Look::default(), None, None);
        let mut look = Look {
            ignored: names(&["a", "b", "c", "d", "e", "f"]),
            ignored_count: 6,
            ..Look::default()
        };
        let ignored = Some("it has files that git ignores: a, b, c, d, e, …");
        check(look.clone(), None, ignored);
        look.within = Some("its submodule `lib` has a stash".to_owned());
        check(
            look.clone(),
            Some("its submodule `lib` has a stash"),
            ignored,
        );
        look.under_way = Some("a bisect");
        check(look.clone(), Some("a bisect is under way in it"), ignored);
        look.unwatched = names(&["local"]);
        let loss = "it has changes in files that git was told not to look at: local";
        check(look.clone(), Some(loss), ignored);
        look.state.dirty_count = 2;
        let loss = "it has changes that are not committed, in 2 of its files";
        check(look.clone(), Some(loss), ignored);
        assert_eq!(look.dirty_count(), 3);
    }
}

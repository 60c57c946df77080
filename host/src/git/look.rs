//! Finds out what would be lost if a checkout were removed. This is used to show, keep and remove
//! checkouts.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use claudine_domain::attempt::GitState;

use super::{
    BranchRef, Git, GitError, Operation, Stamps, is_lossy, names,
    place::{Place, is_top},
    refs::Tips,
    spec::{LIST_BYTES, LONG, Spec},
};
use crate::fsx;

/// The maximum number of files that a message names.
const NAMED: usize = 5;

/// The maximum number of slashes in the name of a submodule.
const MODULES_DEPTH: usize = 16;

/// The name of the remote against which relative URLs of submodules are resolved. Git knows it only
/// during one command.
const SUPERPROJECT: &str = "claudine-superproject";

/// The data that is in a checkout and nowhere else, apart from the commits of its repository.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Look {
    pub(crate) state: GitState,
    /// The changed files among the files whose changes git was told to ignore.
    pub(crate) unwatched: Vec<String>,
    /// Whether the refs that only this checkout has (`refs/worktree/`) contain commits that are on
    /// no branch.
    has_own_commits: bool,
    /// An operation that was begun but not finished.
    open: Option<Operation>,
    /// A message about data that would be lost in nested repositories.
    within: Option<String>,
    /// The first ignored files and directories, and the number of all.
    ignored: Vec<String>,
    pub(crate) ignored_count: u64,
    /// Whether the checkout contains repositories. Git refuses to remove such a checkout unless it
    /// is forced.
    has_repositories: bool,
}

impl Look {
    /// The number of changed and new files.
    pub(crate) fn dirty_count(&self) -> u64 {
        self.state.dirty_count + self.unwatched.len() as u64
    }

    /// A message about data that would be lost if the checkout were removed, apart from ignored
    /// files.
    pub(crate) fn loss(&self) -> Option<String> {
        if self.state.dirty_count > 0 {
            return Some(format!(
                "it has changes that are not committed, in {} of its files",
                self.state.dirty_count
            ));
        }
        if !self.unwatched.is_empty() {
            return Some(format!(
                "it has changes in files that git was told not to check: {}",
                shortened(&self.unwatched)
            ));
        }
        if let Some(operation) = self.open {
            return Some(format!("a {} is in progress in it", operation.as_str()));
        }
        if self.has_own_commits {
            let own = "it has commits that are only on its own refs below refs/worktree/";
            return Some(own.to_owned());
        }
        self.within.clone()
    }

    /// A message about the ignored files.
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
    /// Looks at this checkout of a repository. Ignored files do not count if they have not changed
    /// since `first` was made.
    pub(crate) async fn look(&self, repository: &Path, first: &Stamps) -> Result<Look, GitError> {
        let place = self.own_place(repository).await?;
        Ok(Look {
            has_own_commits: self.has_own_commits().await?,
            ..self.look_at(&place, first).await?
        })
    }

    /// The changed files among the files whose changes git was told to ignore.
    pub(crate) async fn changed_and_unwatched(
        &self,
        repository: &Path,
    ) -> Result<Vec<String>, GitError> {
        let place = self.own_place(repository).await?;
        let unwatched = self.listed().await?.unwatched;
        self.changed_unwatched(&place, unwatched).await
    }

    async fn look_at(&self, place: &Place, first: &Stamps) -> Result<Look, GitError> {
        let listed = self.listed().await?;
        let status = self.status_with(&listed.links, true).await?;
        let status = status.whole(self.dir())?;
        let mut look = Look {
            state: status.state,
            unwatched: self.changed_unwatched(place, listed.unwatched).await?,
            has_own_commits: false,
            open: Operation::open_in(&place.git_dir),
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
        look.within = self.repository_among_files(listed.dirs).await?;
        if look.within.is_none() {
            look.within = self.broken_repository().await?;
        }
        // This is checked again, because comparing the files may have taken long.
        let foreign = self.foreign_among(&listed.links).await?;
        let mut looked_at = Vec::new();
        for path in listed.links {
            let is_foreign = foreign.contains(&path);
            looked_at.extend(self.look_within(&path, is_foreign, &mut look).await?);
        }
        let mut others = self.repositories_of_submodules(place).await?;
        others.retain(|other| !looked_at.contains(other));
        if let Some(other) = others.first()
            && look.within.is_none()
        {
            let name = other.strip_prefix(&place.git_dir).unwrap_or(other);
            look.within = Some(format!(
                "it has the repository of a submodule that is no longer checked out: {}",
                name.display()
            ));
        }
        Ok(look)
    }

    /// A message about a repository in one of these directories, which contain committed files. Git
    /// sees only these files, and would remove the repository with them.
    async fn repository_among_files(
        &self,
        mut dirs: BTreeSet<PathBuf>,
    ) -> Result<Option<String>, GitError> {
        if dirs.is_empty() {
            return Ok(None);
        }
        let found = self.look_at_files(move |top| {
            dirs.retain(|dir| !fsx::is_missing(&top.join(dir).join(".git")));
            dirs.pop_first()
        });
        Ok(found.await?.map(|dir| {
            format!(
                "`{}` in it is a repository of its own, whose commits git does not see",
                dir.display()
            )
        }))
    }

    /// A message about a directory whose `.git` has files and is not that of a repository, perhaps
    /// because it was damaged. Git counts such a directory as empty.
    async fn broken_repository(&self) -> Result<Option<String>, GitError> {
        let spec = Spec::reads([
            "ls-files",
            "--others",
            "--directory",
            "--exclude-standard",
            "-z",
        ]);
        let spec = spec.limit(LONG).kept_bytes(LIST_BYTES);
        let mut dirs = names(&self.output(&spec).await?);
        dirs.retain(|path| path.ends_with('/'));
        let found = self.look_at_files(move |top| {
            let mut found = dirs.iter().filter_map(|dir| {
                if is_lossy(dir) {
                    return Some(PathBuf::from(dir));
                }
                let found = with_repository(top.join(dir))?;
                Some(found.strip_prefix(top).unwrap_or(&found).to_owned())
            });
            found.next()
        });
        Ok(found.await?.map(|dir: PathBuf| {
            format!(
                "`{}` in it has a `.git` with files that git does not see",
                dir.display()
            )
        }))
    }

    /// Removes directories without files from the list of ignored paths. Git lists such directories
    /// too, but they contain nothing that could be lost.
    async fn leave_out_empty(&self, look: &mut Look) -> Result<(), GitError> {
        if look.ignored.is_empty() {
            return Ok(());
        }
        let mut ignored = std::mem::take(&mut look.ignored);
        let named = ignored.len();
        let with_files = self.look_at_files(move |top| {
            ignored.retain(|name| is_lossy(name) || has_files(top.join(name)));
            ignored
        });
        look.ignored = with_files.await?;
        look.ignored_count -= named.saturating_sub(look.ignored.len()) as u64;
        Ok(())
    }

    /// The repositories of submodules in the git directory of this checkout, whether or not the
    /// submodules are checked out.
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

    /// Adds to `look` the data that would be lost in a submodule. Returns the submodule's git
    /// directory; `None` if the submodule is not checked out. Each worktree has its own repository
    /// for a submodule, so commits in it exist nowhere else until they are pushed. If the
    /// repository is foreign (see [`Git::foreign_links`]), only its commits are looked at.
    async fn look_within(
        &self,
        path: &str,
        is_foreign: bool,
        look: &mut Look,
    ) -> Result<Option<PathBuf>, GitError> {
        if is_lossy(path) {
            look.within.get_or_insert_with(|| {
                format!("its submodule `{path}` cannot be checked, because its name is not UTF-8")
            });
            return Ok(None);
        }
        let mut inner = self.in_dir(self.dir().join(path));
        if is_foreign {
            inner = inner.without_fetch();
        }
        let not_checked_out = inner.look_at_files(|dir| {
            fsx::is_missing(&dir.join(".git")).then(|| has_files(dir.to_owned()))
        });
        if let Some(has_files) = not_checked_out.await? {
            // Git sees no file in such a directory, so nothing else would notice the loss.
            if has_files {
                look.within.get_or_insert_with(|| {
                    format!(
                        "its submodule `{path}` is not checked out, but its directory has files, which git does not see"
                    )
                });
            }
            return Ok(None);
        }
        let place = inner.place().await?;
        if !is_top(&place, inner.dir()) {
            return Err(GitError::NotASubmodule {
                top: self.dir().to_owned(),
                path: path.to_owned(),
            });
        }
        let found = if is_foreign {
            Look {
                within: Some(
                    "its repository is not one that git has made here, so git does not look for changes"
                        .to_owned(),
                ),
                ..Look::default()
            }
        } else {
            Box::pin(inner.look_at(&place, &Stamps::default())).await?
        };
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
            Tips::Abandoned => Some(format!(
                "its submodule `{path}` has commits that are on no branch of a remote; `git log -g` shows them there"
            )),
            Tips::Stash => Some(format!("its submodule `{path}` has a stash")),
        };
        Ok(Some(place.git_dir))
    }

    /// Checks out all submodules, recursively, in this worktree, which is on `branch`. Git's
    /// settings decide from which sources git may get them. Nothing is written to the configuration
    /// that the worktree shares with the user's checkouts: `git submodule update --init` would
    /// write there, and resolve a relative URL against the worktree's own directory.
    pub(crate) async fn update_submodules(
        &self,
        branch: &BranchRef,
        base: Option<&BranchRef>,
        checkout: &Path,
    ) -> Result<(), GitError> {
        let remote = match base {
            Some(base) => self.setting(&format!("branch.{base}.remote")).await?,
            None => None,
        };
        let remote = remote.as_deref().unwrap_or("origin");
        let url = self.setting(&format!("remote.{remote}.url")).await?;
        let spec = Spec::changes(["submodule", "--quiet", "update"]).limit(LONG);
        // Git resolves relative URLs against the remote of the branch.
        let mut spec = spec
            .setting(format!("branch.{branch}.remote"), SUPERPROJECT)
            .setting(
                format!("remote.{SUPERPROJECT}.url"),
                superproject(url, checkout),
            );
        // Without this, submodules that are not initialized in the repository are left out.
        if self.setting("submodule.active").await?.is_none() {
            spec = spec.setting("submodule.active", ".");
        }
        if self.is_restrained() {
            let over_ssh = self.impatient_over_ssh().await?;
            let limited = |spec: Spec| match &over_ssh {
                Some((name, value)) => spec.setting(name, value),
                None => spec,
            };
            let nested = Spec::changes(["submodule", "--quiet", "update"]).limit(LONG);
            let (update, nested) = (limited(spec), limited(nested));
            let git = self.impatient();
            return Box::pin(git.update_step_by_step(&update, &nested)).await;
        }
        self.change(&spec).await?;
        // The repository of a submodule belongs to this worktree alone, so submodules in it are
        // initialized. A separate command does this, because git passes the settings above on.
        let nested = "git submodule --quiet update --init --recursive";
        let spec = Spec::changes(["submodule", "--quiet", "foreach", nested]).limit(LONG);
        self.change(&spec).await.map(drop)
    }

    /// Whether the checked out commit has submodules.
    pub(crate) fn has_submodules(&self) -> bool {
        self.dir().join(".gitmodules").exists()
    }
}

/// The URL against which relative URLs of submodules are resolved, as in the main checkout: the
/// remote's or, if there is none, the checkout itself.
fn superproject(remote: Option<String>, checkout: &Path) -> String {
    match remote {
        Some(path) if is_path(&path) => checkout.join(path).display().to_string(),
        Some(url) => url,
        None => checkout.display().to_string(),
    }
}

/// Whether git takes the URL of a remote for a path, which may be relative: it has no colon, or a
/// slash before the colon.
fn is_path(url: &str) -> bool {
    let before_colon = url.split_once(':').map(|(before, _)| before);
    before_colon.is_none_or(|before| before.contains('/'))
}

/// Whether the path is a file or a directory with files at any depth; `true` if a directory cannot
/// be read.
pub(super) fn has_files(path: PathBuf) -> bool {
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

/// The directory, or one below it, whose `.git` has files. A directory that cannot be examined or
/// read may be one.
fn with_repository(dir: PathBuf) -> Option<PathBuf> {
    let mut dirs = vec![dir];
    while let Some(dir) = dirs.pop() {
        let found = fs::symlink_metadata(&dir);
        if fsx::is_missing(&dir) || found.is_ok_and(|found| !found.is_dir()) {
            continue;
        }
        if has_files(dir.join(".git")) {
            return Some(dir);
        }
        let Ok(entries) = fsx::entries(&dir) else {
            return Some(dir);
        };
        dirs.extend(entries);
    }
    None
}

/// The repositories below a directory, without repositories inside other repositories. Directories
/// are searched to this depth, because the name of a submodule may contain slashes.
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

/// The first few of the files, followed by `…` if there are more.
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
    fn a_directory_that_cannot_be_examined_may_be_a_repository() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&link, &link).unwrap();
        assert!(with_repository(link.join("inner")).is_some());
        for without in [dir.path().to_owned(), link, dir.path().join("missing")] {
            assert_eq!(with_repository(without), None);
        }
    }

    #[test]
    fn an_unreadable_directory_does_not_count_as_empty() {
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
    fn relative_paths_of_a_remote_begin_at_the_checkout() {
        let check = |remote: Option<&str>, expected: &str| {
            let found = superproject(remote.map(str::to_owned), Path::new("/work"));
            assert_eq!(found, expected, "{remote:?}");
        };
        check(None, "/work");
        check(Some("../other"), "/work/../other");
        check(Some("./other"), "/work/./other");
        check(Some("near/other"), "/work/near/other");
        check(Some("near/a:b"), "/work/near/a:b");
        for elsewhere in [
            "/far/other",
            "https://example.org/other",
            "example.org:other",
        ] {
            check(Some(elsewhere), elsewhere);
        }
    }

    #[test]
    fn each_kind_of_loss_has_a_message() {
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
        look.open = Some(Operation::Bisect);
        check(look.clone(), Some("a bisect is in progress in it"), ignored);
        look.unwatched = names(&["local"]);
        let loss = "it has changes in files that git was told not to check: local";
        check(look.clone(), Some(loss), ignored);
        look.state.dirty_count = 2;
        let loss = "it has changes that are not committed, in 2 of its files";
        check(look.clone(), Some(loss), ignored);
        assert_eq!(look.dirty_count(), 3);
    }
}

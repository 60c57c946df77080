//! The checkouts of a repository: listing, adding and removing them.

use std::{
    ffi::OsStr,
    io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    BranchRef, Commit, Git, GitError, Keeping, Look,
    locked::is_of_half_made_checkout,
    place::{git_dir_of, is_same, read_pointer},
    spec::{LONG, SHORT, Spec},
};
use crate::{clock, fsx};

/// Maximum number of tries to list the checkouts. A list fails while another git process makes a
/// checkout.
const LISTS: u32 = 50;
const BETWEEN_LISTS: Duration = Duration::from_millis(20);

/// How a branch is used in a checkout.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Standing {
    CheckedOut,
    /// The branch is being rebased. Git moves it when the rebase ends: back to where it was if the
    /// rebase is aborted, even if somebody else has moved it meanwhile.
    Rebased,
    /// The branch is being bisected. Git returns to it when the bisect ends.
    Bisected,
    /// `git am` is open where the branch is checked out. If it is aborted, git may move the branch
    /// back to where it was, even if somebody else has moved it meanwhile.
    Patched,
    /// Several cherry-picks or reverts are open where the branch is checked out. If they are
    /// aborted, git moves the branch back too.
    Picked,
}

impl Standing {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::CheckedOut => "checked out",
            Self::Rebased => "being rebased",
            Self::Bisected => "being bisected",
            Self::Patched => "being changed by `git am`",
            Self::Picked => "being changed by a series of cherry-picks or reverts",
        }
    }

    /// The commands that end this use of the branch.
    pub(crate) fn ended_by(self) -> &'static str {
        match self {
            Self::CheckedOut => "`git switch` there",
            Self::Rebased => "`git rebase` there with `--continue` or `--abort`",
            Self::Bisected => "`git bisect reset` there",
            Self::Patched => "`git am` there with `--continue`, `--abort` or `--quit`",
            Self::Picked => {
                "`git cherry-pick` or `git revert` there with `--continue`, `--abort` or `--quit`"
            }
        }
    }
}

/// A directory in which a branch is used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Checkout {
    pub(crate) path: PathBuf,
    pub(crate) standing: Standing,
    /// Whether the checkout cannot be found: the main checkout may be anywhere, and another
    /// repository may be at the path of a linked one. If so, `path` is that of the repository.
    pub(crate) is_hidden: bool,
    /// Whether the directory is missing. It may be missing only for a while, for example on a drive
    /// that is not mounted, so git still counts the branch as used.
    pub(crate) is_missing: bool,
    /// The directory in which git works if it is run in this one, because `core.worktree` names
    /// that directory.
    pub(crate) led_to: Option<PathBuf>,
}

/// The directory of a checkout, as far as it is found.
struct Found {
    path: PathBuf,
    led_to: Option<PathBuf>,
}

/// End of messages about a branch that is in use in a missing directory: the cause, and what the
/// user can do.
const MISSING: &str = "that directory is missing; bring it back, for example by mounting its drive, or make git forget it with `git worktree prune` (first `git worktree unlock` if it is locked)";

impl Checkout {
    /// The directory and, if it is missing, what can be done about it.
    pub(crate) fn shown(&self) -> String {
        let path = self.path.display();
        if self.is_missing {
            format!("{path}, and {MISSING}")
        } else {
            path.to_string()
        }
    }
}

/// An entry of git's list of worktrees.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Entry {
    path: PathBuf,
    branch: Option<BranchRef>,
    is_bare: bool,
}

impl Git {
    /// The directories in which a branch is used. `main` is the path of the main checkout, for
    /// repositories from which git cannot find it.
    pub(crate) async fn checkouts_of(
        &self,
        branch: &BranchRef,
        main: Option<&Path>,
    ) -> Result<Vec<Checkout>, GitError> {
        let entries = self.entries().await?;
        let repository = self.common_dir().await?;
        let mut found = Vec::new();
        for (at, entry) in entries.into_iter().enumerate() {
            if entry.is_bare {
                continue;
            }
            let is_missing = at > 0 && fsx::is_missing(&entry.path.join(".git"));
            let git_dir = if at == 0 {
                Some(repository.clone())
            } else {
                match git_dir_of(&entry.path) {
                    None => git_dir_noted(&repository, &entry.path)?,
                    found => found,
                }
            };
            let in_operation = match &git_dir {
                Some(git_dir) => under_way(git_dir, branch)?,
                None => None,
            };
            let on_it = git_dir.as_deref().and_then(begun_on_branch);
            // While a person edits the list of commits for a rebase, the branch is still checked
            // out.
            let is_rebased = in_operation == Some(Standing::Rebased);
            let is_checked_out = entry.branch.as_ref() == Some(branch);
            let standing = if is_checked_out && !is_rebased {
                Some(on_it.unwrap_or(Standing::CheckedOut))
            } else {
                in_operation
            };
            let Some(standing) = standing else { continue };
            let checkout = if is_missing {
                Some(Found {
                    path: entry.path,
                    led_to: None,
                })
            } else if at == 0 {
                self.main_checkout(&entry.path, &repository, main).await?
            } else if is_of(&repository, &entry.path) {
                Some(self.found_at(&entry.path).await?)
            } else {
                None
            };
            let is_hidden = checkout.is_none();
            let Found { path, led_to } = checkout.unwrap_or_else(|| Found {
                path: repository.clone(),
                led_to: None,
            });
            found.push(Checkout {
                path,
                standing,
                is_hidden,
                is_missing,
                led_to,
            });
        }
        Ok(found)
    }

    /// A branch that is checked out somewhere and beside which this branch cannot be made: the same
    /// branch, or one that git would store in the way of this one. Also found if the checked out
    /// branch has no commit yet, so that git itself does not protect it. The checkout at `own` does
    /// not count.
    pub(crate) async fn checked_out_in_the_way_of(
        &self,
        branch: &BranchRef,
        own: Option<&Path>,
    ) -> Result<Option<(BranchRef, PathBuf)>, GitError> {
        let entries = self.entries().await?.into_iter();
        let mut others = entries.filter(|entry| !entry.is_bare && Some(&*entry.path) != own);
        Ok(others.find_map(|entry| {
            let other = entry.branch?;
            let is_in_the_way = other == *branch
                || branch.above().any(|above| above == other)
                || other.above().any(|above| above == *branch);
            is_in_the_way.then_some((other, entry.path))
        }))
    }

    async fn entries(&self) -> Result<Vec<Entry>, GitError> {
        let spec = Spec::reads(["worktree", "list", "--porcelain", "-z"]);
        let mut lists = 0;
        loop {
            lists += 1;
            match self.output(&spec).await {
                Err(GitError::Failed { said, .. })
                    if is_of_half_made_checkout(&said) && lists < LISTS =>
                {
                    clock::sleep(BETWEEN_LISTS).await;
                }
                list => return Ok(entries(&list?)),
            }
        }
    }

    /// The directory to which somebody has moved the checkout at `path` with git. The checkout is
    /// found by the name of its git directory, which git has derived from `path` and does not
    /// change.
    pub(crate) async fn moved_to(&self, path: &Path) -> Result<Option<PathBuf>, GitError> {
        let Some(git_dir) = self.git_dir_for(path).await? else {
            return Ok(None);
        };
        let linked = self.entries().await?.into_iter().skip(1);
        let mut others = linked.filter(|entry| entry.path != path);
        let moved = others
            .find(|entry| git_dir_of(&entry.path).is_some_and(|found| is_same(&found, &git_dir)));
        Ok(moved.map(|entry| entry.path))
    }

    /// The git directory of the linked checkout that was made at `path`; `None` if git has removed
    /// it. Git removes it together with the checkout. If somebody moves or removes the checkout
    /// without git, its git directory remains.
    pub(crate) async fn git_dir_for(&self, path: &Path) -> Result<Option<PathBuf>, GitError> {
        let git_dirs = self.common_dir().await?.join("worktrees");
        let git_dir = path.file_name().map(|name| git_dirs.join(name));
        Ok(git_dir.filter(|git_dir| git_dir.join("HEAD").exists()))
    }

    /// Whether git no longer knows a checkout at this directory: its `.git` is missing, or names a
    /// git directory that is missing.
    pub(crate) async fn is_forgotten(&self) -> Result<bool, GitError> {
        self.look_at_files(|top| {
            let is_away = |git_dir: PathBuf| fsx::is_missing(&git_dir);
            fsx::is_missing(&top.join(".git")) || git_dir_of(top).is_some_and(is_away)
        })
        .await
    }

    /// The linked checkout at this path, if its directory is missing although git still knows it.
    /// It may be on a drive that is not mounted.
    pub(crate) async fn missing_checkout(&self, path: &Path) -> Result<Option<Checkout>, GitError> {
        let repository = self.common_dir().await?;
        let path = path.to_owned();
        let looked = self.look_at_files(move |_| -> Result<Option<Checkout>, GitError> {
            let is_missing =
                fsx::is_missing(&path.join(".git")) && git_dir_noted(&repository, &path)?.is_some();
            Ok(is_missing.then_some(Checkout {
                path,
                standing: Standing::CheckedOut,
                is_hidden: false,
                is_missing,
                led_to: None,
            }))
        });
        looked.await?
    }

    /// The error for this directory if it should be a worktree of the repository and is not. `top`
    /// is the top directory of the checkout in which git would work instead.
    pub(super) async fn not_its_own(&self, top: PathBuf, repository: &Path) -> GitError {
        let noted_in = repository.to_owned();
        let looked = self.look_at_files(move |dir| git_dir_noted(&noted_in, dir));
        let is_unknown = matches!(clock::within(SHORT, looked).await, Some(Ok(Ok(None))));
        GitError::NotItsOwn {
            dir: self.dir().to_owned(),
            top,
            repository: repository.to_owned(),
            is_known: !is_unknown,
        }
    }

    /// The names of the files and directories here, without `.git`.
    pub(crate) async fn names_here(&self) -> Result<Vec<String>, GitError> {
        let path = self.dir().to_owned();
        let entries = self.look_at_files(fsx::entries).await?;
        let entries = entries.map_err(|source| GitError::Read { path, source })?;
        let names = entries.iter().filter_map(|path| path.file_name());
        let names = names.filter(|name| *name != ".git");
        Ok(names.map(|name| name.display().to_string()).collect())
    }

    /// The main checkout of a repository; `None` if it cannot be found. Git lists the directory
    /// that has the repository as its `.git`, even if `core.worktree` names another one.
    async fn main_checkout(
        &self,
        listed: &Path,
        repository: &Path,
        said: Option<&Path>,
    ) -> Result<Option<Found>, GitError> {
        let mut found = None;
        if is_same(&listed.join(".git"), repository) {
            let there = self.found_at(listed).await?;
            if there.led_to.is_none() {
                return Ok(Some(there));
            }
            found = Some(there);
        }
        let configured = self.setting("core.worktree").await?;
        let configured = configured.map(|path| repository.join(path));
        for path in said.map(Path::to_owned).into_iter().chain(configured) {
            let place = self.in_dir(&path).place().await;
            if place.is_ok_and(|place| {
                is_same(&place.git_dir, repository) && is_same(&place.top, &path)
            }) {
                return Ok(Some(Found { path, led_to: None }));
            }
        }
        Ok(found)
    }

    /// What git takes for the top of the checkout in this directory. Files in the directory itself
    /// must not be taken for those of the checkout if git works elsewhere.
    async fn found_at(&self, path: &Path) -> Result<Found, GitError> {
        let top = self.in_dir(path).place().await?.top;
        Ok(Found {
            path: path.to_owned(),
            led_to: (!is_same(&top, path)).then_some(top),
        })
    }

    /// Makes a checkout without files, with a detached head and a reflog. Git continues a reflog
    /// that exists, even if it is configured to keep no reflogs.
    ///
    /// The files are checked out by another command ([`Self::fill`]): that may take long, and
    /// changes nothing that the checkouts of the repository share. Besides, settings may be
    /// included only in the new checkout, so its filters and hooks are not known before it exists.
    pub(crate) async fn add_empty_worktree(
        &self,
        path: &Path,
        commit: &Commit,
    ) -> Result<(), GitError> {
        let add = ["worktree", "add", "--quiet", "--detach", "--no-checkout"];
        let add = Spec::changes(add).arg(path).arg(commit.hash());
        let add = add.setting("core.logAllRefUpdates", "true");
        self.change(&add).await.map(drop)
    }

    /// Checks out the files of a commit in this checkout, which has none. Writes no ref, unlike
    /// `git reset`, so that it does not move the branch back if somebody has moved it meanwhile.
    pub(crate) async fn fill(&self, commit: &Commit) -> Result<(), GitError> {
        let fill = ["read-tree", "--reset", "-u", "--no-recurse-submodules"];
        let fill = Spec::changes(fill).arg(commit.hash()).limit(LONG);
        // Otherwise settings could lead git to a directory of the user.
        let fill = fill.work_tree(self.dir());
        self.change(&fill).await.map(drop)
    }

    /// Makes a checkout with all files.
    #[cfg(test)]
    pub(crate) async fn add_worktree(&self, path: &Path, commit: &Commit) -> Result<(), GitError> {
        self.add_empty_worktree(path, commit).await?;
        self.in_dir(path).fill(commit).await
    }

    /// Switches this checkout to a branch. The checkout must be at the branch's commit. Uses the
    /// branch's full name, because `worktree add` and `switch` would use a tag of the same name
    /// instead.
    pub(crate) async fn stand_on(&self, branch: &BranchRef) -> Result<(), GitError> {
        let full = branch.full();
        let arguments = ["symbolic-ref", "-m", "claudine: made", "HEAD", &full];
        self.change(&Spec::changes(arguments)).await.map(drop)
    }

    /// Removes a checkout in which `look` has found nothing that would be lost. Git checks this
    /// once more, unless the checkout contains repositories: git would refuse to remove such a
    /// checkout, so its removal is forced, and git checks nothing. Before that, the repository is
    /// synced.
    pub(crate) async fn remove_worktree(&self, path: &Path, look: &Look) -> Result<(), GitError> {
        self.sync().await?;
        let spec = Spec::changes(["worktree", "remove"]).limit(LONG);
        let mut spec = spec.with_other_checkout(path);
        if look.has_repositories() {
            spec = spec.arg("--force");
        }
        self.change(&spec.arg(path)).await.map(drop)
    }

    /// Syncs the file system of the repository. Git itself does not sync what it commits, so after
    /// a power cut a checkout may have the only copy.
    async fn sync(&self) -> Result<(), GitError> {
        let path = self.common_dir().await?;
        let synced = self.look_at_files({
            let path = path.clone();
            move |_| fsx::sync_file_system(&path)
        });
        let synced = synced.await?;
        synced.map_err(|source| GitError::Sync { path, source })
    }

    /// Makes git forget a checkout whose directory was removed, even if the checkout was never made
    /// completely.
    pub(crate) async fn forget_worktree(&self, path: &Path) -> Result<(), GitError> {
        let spec = Spec::changes(["worktree", "remove", "--force", "--force"]);
        unless_unknown(self.change(&spec.arg(path).limit(LONG)).await)
    }

    /// Makes git forget the checkout at `path` if its directory is missing, and keeps its commits
    /// that are on no branch, and what is only in its index. Other checkouts whose directories are
    /// missing stay known to git, because a person may have moved such a checkout, or may keep it
    /// on a disk that is not mounted. Returns whether the ref of kept commits is known to exist.
    pub(crate) async fn forget_missing(
        &self,
        path: &Path,
        keeping: &Keeping,
    ) -> Result<bool, GitError> {
        if fsx::is_taken(path) {
            return Ok(false);
        }
        let is_kept = match self.git_dir_for(path).await? {
            // Git reads its notes about the checkout from this directory, so the checkout itself is
            // not needed.
            Some(git_dir) => {
                let git = self.in_repository(git_dir).with_identity().await?;
                git.keep_abandoned_and_staged(keeping).await?
            }
            None => false,
        };
        let spec = Spec::changes(["worktree", "remove"]).arg(path);
        unless_unknown(self.change(&spec).await)?;
        Ok(is_kept)
    }
}

/// Ignores the error that git does not know the checkout.
fn unless_unknown<T>(removed: Result<T, GitError>) -> Result<(), GitError> {
    match removed {
        Err(error) if error.says("is not a working tree") => Ok(()),
        done => done.map(drop),
    }
}

fn entries(list: &[u8]) -> Vec<Entry> {
    // Each line ends with NUL, and each entry ends with an empty line.
    let lines: Vec<&[u8]> = list.split(|byte| *byte == 0).collect();
    let entries = lines.split(|line| line.is_empty());
    entries
        .filter_map(|lines| {
            let (path, lines) = lines.split_first()?;
            let path = OsStr::from_bytes(path.strip_prefix(b"worktree ")?).into();
            let branch = lines.iter().find_map(|line| line.strip_prefix(b"branch "));
            let branch = branch.map(String::from_utf8_lossy);
            Some(Entry {
                path,
                branch: branch.and_then(|branch| BranchRef::from_full(&branch)),
                is_bare: lines.contains(&&b"bare"[..]),
            })
        })
        .collect()
}

/// Whether the directory is a linked checkout of this repository. A person may have put another
/// repository in its place, perhaps a clone that has the same branch.
fn is_of(repository: &Path, checkout: &Path) -> bool {
    let git_dir = git_dir_of(checkout);
    let git_dirs = git_dir.as_deref().and_then(Path::parent);
    git_dirs.is_some_and(|git_dirs| is_same(git_dirs, &repository.join("worktrees")))
}

/// The git directory of a linked checkout whose directory is missing or cannot be read. In each git
/// directory, git has noted the path of the checkout's `.git`.
fn git_dir_noted(repository: &Path, checkout: &Path) -> Result<Option<PathBuf>, GitError> {
    let git_dirs = repository.join("worktrees");
    let listed = fsx::entries(&git_dirs);
    let listed = listed.map_err(|source| GitError::Read {
        path: git_dirs,
        source,
    })?;
    for git_dir in listed {
        let noted = read_note(&git_dir.join("gitdir"))?;
        let noted = OsStr::from_bytes(noted.trim_ascii_end());
        if fsx::real(&git_dir.join(noted)) == fsx::real(&checkout.join(".git")) {
            return Ok(Some(git_dir));
        }
    }
    Ok(None)
}

/// The content of a file in which git has noted something; empty if the file does not exist.
fn read_note(path: &Path) -> Result<Vec<u8>, GitError> {
    match read_pointer(path) {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(Vec::new())
        }
        read => read.map_err(|source| GitError::Read {
            path: path.to_owned(),
            source,
        }),
    }
}

/// How a branch is used by a rebase or a bisect in progress. In this case no branch is checked out,
/// but git notes the branch in the files below, and reads these files before it deletes a branch. A
/// file that cannot be read may name the branch.
fn under_way(git_dir: &Path, branch: &BranchRef) -> Result<Option<Standing>, GitError> {
    // Invalid UTF-8 is accepted, because a file may name another branch with such a name.
    let read = |file: &str| {
        let bytes = read_note(&git_dir.join(file))?;
        Ok::<String, GitError>(String::from_utf8_lossy(&bytes).into_owned())
    };
    let full = branch.full();
    let rebases = [
        "rebase-merge/head-name",
        "rebase-apply/head-name",
        "rebase-merge/update-refs",
    ];
    for file in rebases {
        if read(file)?.lines().any(|line| line == full) {
            return Ok(Some(Standing::Rebased));
        }
    }
    // The file contains the name of a branch, mostly the short name, or the hash of a commit.
    let start = read("BISECT_START")?;
    let start = start.trim_end();
    Ok((start == branch.name() || start == full).then_some(Standing::Bisected))
}

/// How the branch that is checked out is used by an operation that git performs on the branch
/// itself and that moves it back if it is aborted. Git aborts a series only by the note of where it
/// began, and removes this note once all picks are made.
fn begun_on_branch(git_dir: &Path) -> Option<Standing> {
    let is_there = |file: &str| !fsx::is_missing(&git_dir.join(file));
    if is_there("rebase-apply/applying") {
        Some(Standing::Patched)
    } else {
        is_there("sequencer/head").then_some(Standing::Picked)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn a_note_of_any_size_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let branch = BranchRef::named("a");
        assert_eq!(under_way(dir.path(), &branch).unwrap(), None);
        let note = fs::File::create(dir.path().join("BISECT_START")).unwrap();
        note.set_len(2 << 20).unwrap();
        let error = under_way(dir.path(), &branch).unwrap_err().to_string();
        assert!(
            error.contains("BISECT_START cannot be read: it has more than"),
            "{error}"
        );
    }

    #[test]
    fn the_list_of_checkouts_is_parsed() {
        let list = b"worktree /a\0HEAD 1\0branch refs/heads/main\0\0\
            worktree /b c\0HEAD 2\0branch refs/heads/x\0locked it is away\0prunable gone\0\0\
            worktree /d\0HEAD 3\0detached\0\0worktree /e\0bare\0\0\
            worktree /f\0HEAD 2\0branch refs/heads/x\0prunable gone\0\0";
        let check = |at: usize, path: &str, branch: Option<&str>, bare: bool| {
            let expected = Entry {
                path: path.into(),
                branch: branch.map(BranchRef::named),
                is_bare: bare,
            };
            assert_eq!(entries(list)[at], expected);
        };
        check(0, "/a", Some("main"), false);
        check(1, "/b c", Some("x"), false);
        check(2, "/d", None, false);
        check(3, "/e", None, true);
        check(4, "/f", Some("x"), false);
        assert_eq!(entries(list).len(), 5);
    }

    #[test]
    fn the_git_directory_of_a_missing_checkout_is_found_through_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let [real, link] = ["real", "link"].map(|name| dir.path().join(name));
        let git_dir = real.join("worktrees/tree");
        fs::create_dir_all(&git_dir).unwrap();
        symlink(&real, &link).unwrap();
        let noted = link.join("away/.git");
        fs::write(git_dir.join("gitdir"), format!("{}\n", noted.display())).unwrap();
        let find = |checkout: &str| git_dir_noted(&real, &real.join(checkout));
        assert_eq!(find("away").unwrap(), Some(git_dir.clone()));
        assert_eq!(find("elsewhere").unwrap(), None);
        // A note that is missing belongs to a checkout that is being made.
        fs::remove_file(git_dir.join("gitdir")).unwrap();
        assert_eq!(find("away").unwrap(), None);
        fs::create_dir(git_dir.join("gitdir")).unwrap();
        assert!(find("away").is_err());
    }

    #[test]
    fn a_rebase_or_bisect_uses_its_branch() {
        let check = |file: &str, text: &str, expected: Option<Standing>| {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
            let found = under_way(dir.path(), &BranchRef::named("main")).unwrap();
            assert_eq!(found, expected, "{file}: {text}");
        };
        let rebased = Some(Standing::Rebased);
        check("rebase-merge/head-name", "refs/heads/main\n", rebased);
        check("rebase-apply/head-name", "refs/heads/main\n", rebased);
        check("rebase-merge/head-name", "detached HEAD\n", None);
        check("rebase-merge/head-name", "refs/heads/main2\n", None);
        check(
            "rebase-merge/update-refs",
            "refs/heads/main\n1\n2\n",
            rebased,
        );
        check("BISECT_START", "main\n", Some(Standing::Bisected));
        check("BISECT_START", "heads/main\n", None);
        check("HEAD", "ref: refs/heads/main\n", None);
        // A note that cannot be read may name the branch.
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("BISECT_START")).unwrap();
        assert!(under_way(dir.path(), &BranchRef::named("main")).is_err());
    }
}

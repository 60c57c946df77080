//! Restores a checkout after git has failed in the middle of a fast-forward, or after a host was
//! killed while it replaced the files (see `forward`). Then some files are those of the new commit.
//! If git has failed, perhaps the index is too. A killed host has left its lock of the index, and
//! perhaps the branch has moved.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{
    Commit, Git, GitError, Operation,
    aside::{self, INDEX, is_left_aside},
    entries::Entry,
    index::OtherIndex,
    index_lock::IndexLock,
    is_lossy, names,
    place::common_dir_of,
    spec::{FILES_MAX, LIST_BYTES, LONG, Spec, literal},
    unusable,
};
use crate::fsx;

/// Command that lists the names of files that differ from a commit.
const DIFF_INDEX: [&str; 5] = [
    "diff-index",
    "--name-only",
    "-z",
    "--no-renames",
    "--ignore-submodules=all",
];

/// A note of a step of a checkout from one commit to a later one. With it, another host can restore
/// the checkout.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct StepNote {
    pub(crate) old: Commit,
    pub(crate) new: Commit,
    /// The files that were in the way of the step: they existed in the checkout but not in the old
    /// commit.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    in_the_way: BTreeSet<String>,
    /// The name of the directory for files that are not in their places during the step.
    #[serde(default)]
    pub(super) aside: String,
    /// Whether git has failed, and the checkout is being put back. Then git, and not a person, has
    /// removed the files of the step that are missing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) has_failed: bool,
}

impl StepNote {
    /// The text of the host's lock of the index during the step.
    pub(crate) fn lock_text(&self) -> &str {
        &self.aside
    }
}

/// A step of a checkout from one commit to a later one.
pub(crate) struct Step {
    pub(crate) note: StepNote,
    /// The files that differ between the two commits, without files that were in the way.
    pub(super) files: Vec<Changed>,
    /// Whether the commits differ in submodules.
    has_links: bool,
    /// The repositories here that git would remove with all their files.
    pub(crate) replaced: Vec<String>,
}

impl Step {
    /// Whether the files can be replaced in any order: nothing was in the way, no submodule and no
    /// directory takes the place of a file or the other way round, and all names are known.
    pub(super) fn is_of_separate_files(&self) -> bool {
        let paths = self.files.iter().map(|file| Path::new(&file.path));
        let paths: BTreeSet<&Path> = paths.collect();
        let is_below_another = |path: &&Path| {
            let mut above = path.ancestors().skip(1);
            above.any(|above| paths.contains(above))
        };
        !self.has_links
            && self.note.in_the_way.is_empty()
            && !paths.iter().any(is_below_another)
            && !self.files.iter().any(|file| is_lossy(&file.path))
    }
}

/// A file that differs between two commits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Changed {
    pub(super) path: String,
    pub(super) in_old: bool,
    pub(super) in_new: bool,
}

/// Result of restoring the checkout after a failed step.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum PutBack {
    /// Nothing was restored, because no file has the contents of the new commit.
    Unchanged {
        /// Files that differ from both commits. Git may have stopped while it wrote them, or a
        /// person may have changed them.
        other: Vec<String>,
    },
    Done,
    Left {
        /// Files that git had changed and that could not be restored.
        changed: Vec<String>,
        /// Files that differ from both commits.
        other: Vec<String>,
    },
}

impl Git {
    /// Reads the files of a step before the step is tried. A new file that already exists here is
    /// left out. It belongs to a person, so git refuses the step, and the file must be kept.
    pub(crate) async fn step(&self, old: &Commit, new: &Commit) -> Result<Step, GitError> {
        let entries = self.entries_between(old.hash(), new.hash()).await?;
        let replaced = self.replaced_repositories(&entries).await?;
        let has_links = entries.iter().any(Entry::has_link);
        let files = changed(entries);
        let looked = self.look_at_files(move |top| {
            let is_of_step = |file: &Changed| file.in_old || !is_there(&top.join(&file.path));
            files.into_iter().partition::<Vec<Changed>, _>(is_of_step)
        });
        let (files, in_the_way) = looked.await?;
        Ok(Step {
            note: StepNote {
                old: old.clone(),
                new: new.clone(),
                in_the_way: in_the_way.into_iter().map(|file| file.path).collect(),
                aside: aside::name(),
                has_failed: false,
            },
            files,
            has_links,
            replaced,
        })
    }

    /// Whether a host that was killed during the noted step has left its lock of the index here.
    /// Then nobody has changed the index since.
    pub(crate) async fn has_lock_of(&self, note: &StepNote) -> Result<bool, GitError> {
        Ok(self.left_lock(note).await?.is_some())
    }

    async fn left_lock(&self, note: &StepNote) -> Result<Option<IndexLock>, GitError> {
        let git_dir = match self.git_dir().await {
            Ok(git_dir) => git_dir,
            // A person may have removed the checkout.
            Err(_) if self.is_forgotten().await? => return Ok(None),
            Err(error) => return Err(error),
        };
        let looked = self.look_at_files({
            let (git_dir, name) = (git_dir.clone(), note.aside.clone());
            move |_| IndexLock::left(&git_dir, &name)
        });
        looked.await?.map_err(unusable(&git_dir))
    }

    /// Restores this checkout after a step that an earlier host has noted, and that has failed. The
    /// old commit must still be checked out, unless that host has left its lock of the index.
    /// Returns `None`, and changes nothing, if no file was written or put aside, if the new commit
    /// no longer exists, or if a person has gone on since then: if an operation is in progress, or
    /// if the index is neither as before nor as after the step. Also returns `None` if the host was
    /// killed after the branch was moved; then the step is finished.
    pub(crate) async fn put_back_noted(
        &self,
        note: &StepNote,
    ) -> Result<Option<PutBack>, GitError> {
        if let Some(lock) = self.left_lock(note).await? {
            return Box::pin(self.put_back_locked(note, lock)).await;
        }
        if !self.is_half_way(note).await? {
            return Ok(None);
        }
        let step = self.noted_step(note).await?;
        let was_left = self.undo_left(note).await?;
        self.put_back(&step).await.map(|back| {
            Some(match back {
                PutBack::Unchanged { other } if was_left => put_back_except(other),
                back => back,
            })
        })
    }

    /// Whether the noted step has failed after a file was written or put aside here, or has failed
    /// according to the note, and no person has gone on since then. Must be called only if nobody
    /// has left a lock of the index for the step.
    pub(crate) async fn is_half_way(&self, note: &StepNote) -> Result<bool, GitError> {
        let git_dir = self.git_dir().await?;
        let is_in_use = self.look_at_files(move |_| {
            Operation::open_in(&git_dir).is_some() || !fsx::is_missing(&git_dir.join("SQUASH_MSG"))
        });
        // If the new commit is a merge, no ref keeps it, and git may have deleted it.
        if is_in_use.await? || self.commit_of(note.new.hash()).await?.is_none() {
            return Ok(false);
        }
        let step = self.noted_step(note).await?;
        let is_changed = self.is_index_changed(&step, &note.old).await?
            && self.is_index_changed(&step, &note.new).await?;
        if is_changed || note.has_failed {
            return Ok(!is_changed);
        }
        let other = self.not_as_new(&step).await?;
        Ok(self.has_new_file(&step, &note.old, &other).await? || self.has_put_aside(&step).await?)
    }

    /// Restores this checkout after a host was killed while it had the lock of the index, and
    /// releases the lock.
    async fn put_back_locked(
        &self,
        note: &StepNote,
        lock: IndexLock,
    ) -> Result<Option<PutBack>, GitError> {
        let git_dir = self.git_dir().await?;
        if self.commit_of("HEAD").await?.as_ref() == Some(&note.new) {
            let finished = self.look_at_files({
                let (git_dir, name) = (git_dir.clone(), note.aside.clone());
                move |_| finish_left(lock, &git_dir, &name)
            });
            finished.await?.map_err(unusable(&git_dir))?;
            return Ok(None);
        }
        let was_left = self.undo_left(note).await?;
        // The index is as before, because it was locked.
        if was_left && self.is_undone(note).await? {
            self.look_at_files(move |_| lock.release()).await?;
            return Ok(Some(PutBack::Done));
        }
        // If the new commit is a merge, no ref keeps it, and git may have deleted it.
        if self.commit_of(note.new.hash()).await?.is_none() {
            self.look_at_files(move |_| lock.release()).await?;
            return Ok(None);
        }
        let step = self.noted_step(note).await?;
        // Commands that change the index itself would fail because of the lock.
        let copy = OtherIndex::new(&git_dir);
        let (lock, copied) = self
            .look_at_files({
                let copy = copy.path().to_owned();
                move |_| {
                    let copied = lock.copy_index(&copy);
                    (lock, copied)
                }
            })
            .await?;
        copied.map_err(unusable(&git_dir))?;
        let back = match self.with_index(copy.path()).put_back(&step).await? {
            PutBack::Unchanged { other } if was_left => put_back_except(other),
            back => back,
        };
        let finished = self.look_at_files({
            let copy = copy.path().to_owned();
            move |_| lock.finish(&copy).map_err(|(error, _)| error)
        });
        finished.await?.map_err(unusable(&git_dir))?;
        Ok(Some(back))
    }

    /// Finishes a noted step whose host was killed after the branch had moved, if somebody has
    /// removed its lock since then: gives the files of the step their new entries in the index,
    /// because otherwise the next commit would undo the step. Entries that a person has changed
    /// stay.
    pub(crate) async fn finish_noted(&self, note: &StepNote) -> Result<(), GitError> {
        // Older hosts have noted no name.
        if note.aside.is_empty() {
            return Ok(());
        }
        let git_dir = self.git_dir().await?;
        let is_finished = self.look_at_files({
            let (git_dir, name) = (git_dir.clone(), note.aside.clone());
            move |_| new_index(&git_dir, &name).map(|new| !fsx::is_taken(&new))
        });
        if is_finished.await?.map_err(unusable(&git_dir))? {
            return Ok(());
        }
        let step = self.noted_step(note).await?;
        let changed = self.changed_in_index(&note.old).await?;
        let unchanged = step.files.iter().map(|file| &file.path);
        let unchanged: Vec<&String> = unchanged.filter(|path| !changed.contains(*path)).collect();
        for some in unchanged.chunks(FILES_MAX) {
            let spec = Spec::changes(["reset", "--quiet", note.new.hash(), "--"]);
            let spec = some.iter().fold(spec, |spec, path| spec.arg(literal(path)));
            self.change(&spec.limit(LONG)).await?;
        }
        Ok(())
    }

    pub(super) async fn noted_step(&self, note: &StepNote) -> Result<Step, GitError> {
        let entries = self.entries_between(note.old.hash(), note.new.hash());
        let mut files = changed(entries.await?);
        files.retain(|file| !note.in_the_way.contains(&file.path));
        Ok(Step {
            note: note.clone(),
            files,
            has_links: false,
            replaced: Vec::new(),
        })
    }

    /// Whether a file of the step exists here with the contents of the new commit, and `head` does
    /// not have these contents. `other` are the files of the step that exist here but differ from
    /// the new commit.
    pub(super) async fn has_new_file(
        &self,
        step: &Step,
        head: &Commit,
        other: &BTreeSet<String>,
    ) -> Result<bool, GitError> {
        let not_in_head = self.paths_between(&step.note.new, head).await?;
        let new = step.files.iter().filter(|file| file.in_new);
        let new = new.map(|file| file.path.clone());
        let new = new.filter(|path| not_in_head.contains(path) && !other.contains(path));
        let new: Vec<String> = new.collect();
        self.look_at_files(move |top| new.iter().any(|path| is_there(&top.join(path))))
            .await
    }

    /// Whether a killed host has put a file aside that the step removes. Otherwise a person may
    /// have removed the file.
    pub(super) async fn has_put_aside(&self, step: &Step) -> Result<bool, GitError> {
        let git_dir = self.git_dir().await?;
        let gone = step.files.iter().filter(|file| !file.in_new);
        let gone: Vec<String> = gone.map(|file| file.path.clone()).collect();
        let looked = self.look_at_files({
            let (git_dir, name) = (git_dir.clone(), step.note.aside.clone());
            move |top| is_left_aside(&git_dir, &name, top, &gone)
        });
        looked.await?.map_err(unusable(&git_dir))
    }

    /// Restores this checkout to the old commit after the step has failed. Writes only files that
    /// are missing or have the contents of the new commit, because a person may have changed any
    /// other file.
    pub(crate) async fn put_back(&self, step: &Step) -> Result<PutBack, GitError> {
        let before = self.not_as_old(step).await?;
        let other = self.not_as_new(step).await?;
        let is_other = |file: &Changed| other.contains(&file.path);
        let is_unchanged =
            before.iter().all(is_other) && !self.is_index_changed(step, &step.note.old).await?;
        if is_unchanged {
            let other = before.into_iter().map(|file| file.path).collect();
            return Ok(PutBack::Unchanged { other });
        }
        let arguments = ["read-tree", "-m", "-i"];
        let back = Spec::changes(arguments).arg(step.note.new.hash());
        let back = back.arg(step.note.old.hash());
        self.change(&back.limit(LONG)).await?;
        let found = self.not_as_old(step).await?;
        if found.is_empty() {
            return Ok(PutBack::Done);
        }
        let other = self.not_as_new(step).await?;
        let is_other = |file: &Changed| other.contains(&file.path);
        let ours = found.into_iter().filter(|file| !is_other(file));
        self.restore(ours.collect()).await?;
        let left = self.not_as_old(step).await?;
        if left.is_empty() {
            return Ok(PutBack::Done);
        }
        let left = left.into_iter().map(|file| file.path);
        let (other, changed) = self
            .look_at_files(move |top| {
                left.partition(|path| other.contains(path) || !is_free(top, path))
            })
            .await?;
        Ok(PutBack::Left { changed, other })
    }

    /// Whether a file of the step differs between the index and the commit.
    async fn is_index_changed(&self, step: &Step, commit: &Commit) -> Result<bool, GitError> {
        let changed = self.changed_in_index(commit).await?;
        Ok(step.files.iter().any(|file| changed.contains(&file.path)))
    }

    /// The files that differ between the index and the commit.
    pub(super) async fn changed_in_index(
        &self,
        commit: &Commit,
    ) -> Result<BTreeSet<String>, GitError> {
        let spec = Spec::reads(DIFF_INDEX).arg("--cached").arg(commit.hash());
        Ok(self.files_listed(spec).await?.into_iter().collect())
    }

    /// The paths that differ between two commits.
    pub(super) async fn paths_between(
        &self,
        old: &Commit,
        new: &Commit,
    ) -> Result<BTreeSet<String>, GitError> {
        let entries = self.entries_between(old.hash(), new.hash()).await?;
        Ok(entries.into_iter().map(|entry| entry.path).collect())
    }

    pub(super) async fn files_listed(&self, spec: Spec) -> Result<Vec<String>, GitError> {
        let spec = spec.limit(LONG).kept_bytes(LIST_BYTES);
        Ok(names(&self.output(&spec).await?))
    }

    /// The files of a step that differ from the old commit, either here or in the index.
    async fn not_as_old(&self, step: &Step) -> Result<Vec<Changed>, GitError> {
        self.not_as(step, &step.note.old, BTreeSet::new()).await
    }

    /// The files of a step that differ from a commit, either here or in the index. `since` are the
    /// paths that differ between the old commit of the step and this commit.
    pub(super) async fn not_as(
        &self,
        step: &Step,
        commit: &Commit,
        since: BTreeSet<String>,
    ) -> Result<Vec<Changed>, GitError> {
        let refresh = Spec::changes(["update-index", "-q", "--refresh"]);
        // This command fails if a file is changed, so its status is ignored.
        self.run(&refresh.limit(LONG)).await?;
        let changed = self.files_listed(Spec::reads(DIFF_INDEX).arg(commit.hash()));
        let changed: BTreeSet<String> = changed.await?.into_iter().collect();
        let files = step.files.clone();
        self.look_at_files(move |top| {
            let differs = |file: &Changed| {
                let is_untracked = !file.in_old && !since.contains(&file.path);
                changed.contains(&file.path) || is_untracked && is_there(&top.join(&file.path))
            };
            files.into_iter().filter(differs).collect()
        })
        .await
    }

    /// The files of a step that exist here but differ from the new commit. A file that cannot be
    /// examined may differ.
    pub(super) async fn not_as_new(&self, step: &Step) -> Result<BTreeSet<String>, GitError> {
        let fresh = OtherIndex::new(&self.git_dir().await?);
        let new = step.files.iter().filter(|file| file.in_new);
        let new: Vec<String> = new.map(|file| file.path.clone()).collect();
        let differing = self.differing(fresh.path(), &step.note.new, &new).await?;
        let files = step.files.clone();
        self.look_at_files(move |top| {
            let is_other = |file: &Changed| {
                let path = top.join(&file.path);
                if fsx::is_missing(&path) {
                    return false;
                }
                // If the new commit does not have the file, it may have a directory at this path.
                let is_as_new = if file.in_new {
                    !differing.contains(&file.path)
                } else {
                    fs::symlink_metadata(&path).is_ok_and(|found| found.is_dir())
                };
                !is_as_new
            };
            let other = files.into_iter().filter(is_other);
            other.map(|file| file.path).collect()
        })
        .await
    }

    /// Restores these files: removes those that the old commit does not have, and writes the other
    /// files from the index.
    pub(super) async fn restore(&self, ours: Vec<Changed>) -> Result<(), GitError> {
        let old = self.look_at_files(move |top| {
            let (old, new): (Vec<Changed>, Vec<Changed>) =
                ours.into_iter().partition(|file| file.in_old);
            for file in new {
                if let Err(error) = remove_with_parents(top, &file.path) {
                    tracing::warn!(file = file.path, %error, "a file cannot be put back");
                }
            }
            let paths = old.into_iter().map(|file| file.path);
            let free = paths.filter(|path| is_free(top, path));
            free.collect::<Vec<String>>()
        });
        let write = async |files: &[String]| {
            let spec = Spec::changes(["checkout-index", "--quiet", "--force", "-u", "--"]);
            let spec = files.iter().fold(spec, Spec::arg);
            self.change(&spec.limit(LONG)).await.map(drop)
        };
        for some in old.await?.chunks(FILES_MAX) {
            match write(some).await {
                Ok(()) => continue,
                Err(error) if is_cut_off(&error) => return Err(error),
                Err(_) => {}
            }
            // Git stops at the first file that it cannot write, so each file is now written
            // separately. The caller finds the files that were not restored.
            for file in some {
                if let Err(error) = write(std::slice::from_ref(file)).await {
                    if is_cut_off(&error) {
                        return Err(error);
                    }
                    tracing::warn!(%file, %error, "a file cannot be put back");
                }
            }
        }
        Ok(())
    }
}

/// The result of putting back all files of a step except for these, which differ from both commits.
pub(super) fn put_back_except(other: Vec<String>) -> PutBack {
    if other.is_empty() {
        return PutBack::Done;
    }
    PutBack::Left {
        changed: Vec::new(),
        other,
    }
}

/// Whether a git has not run to its end, perhaps because a filter hangs. A git for each file could
/// then take very long.
fn is_cut_off(error: &GitError) -> bool {
    matches!(
        error,
        GitError::Killed { .. } | GitError::Timeout { .. } | GitError::Spawn { .. }
    )
}

/// Finishes a step whose host was killed after it had moved the branch: puts the new index in its
/// place, unless it is there already, and releases the lock.
fn finish_left(lock: IndexLock, git_dir: &Path, name: &str) -> io::Result<()> {
    let new = new_index(git_dir, name)?;
    if fsx::is_taken(&new) {
        return lock.finish(&new).map_err(|(error, _)| error);
    }
    lock.release();
    Ok(())
}

/// The path of the new index of a step, until the index is replaced by it.
fn new_index(git_dir: &Path, name: &str) -> io::Result<PathBuf> {
    Ok(common_dir_of(git_dir)?.join(name).join(INDEX))
}

/// The files among these paths.
fn changed(entries: Vec<Entry>) -> Vec<Changed> {
    let files = entries.into_iter().filter(|entry| !entry.is_of_submodule());
    let files = files.map(|entry| Changed {
        in_old: entry.is_in_old(),
        in_new: entry.is_in_new(),
        path: entry.path,
    });
    files.collect()
}

/// Whether git could write this file without replacing anything else: a directory at its path, or a
/// file or a link at the path of a directory above it. A person must have made these.
pub(super) fn is_free(top: &Path, file: &str) -> bool {
    let above = Path::new(file).ancestors().skip(1);
    let mut dirs = above.map(|dir| top.join(dir));
    let is_other = |dir: &Path| fs::symlink_metadata(dir).is_ok_and(|found| !found.is_dir());
    // A link to a directory is no directory: git replaces the link itself.
    let is_dir = fs::symlink_metadata(top.join(file)).is_ok_and(|found| found.is_dir());
    !is_dir && !dirs.any(|dir| dir != top && is_other(&dir))
}

pub(super) fn is_there(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

/// Removes a file, and the directories above it that have become empty.
pub(super) fn remove_with_parents(top: &Path, file: &str) -> io::Result<()> {
    let path = top.join(file);
    // Git makes an empty directory for a submodule.
    if path.symlink_metadata()?.is_dir() {
        fs::remove_dir(&path)?;
    } else {
        fs::remove_file(&path)?;
    }
    remove_empty_parents(top, file);
    Ok(())
}

/// Removes the directories above a removed file that have become empty.
pub(super) fn remove_empty_parents(top: &Path, file: &str) {
    let path = top.join(file);
    let parents = path.ancestors().skip(1);
    for parent in parents.take_while(|parent| *parent != top) {
        // This fails at the first directory with other files.
        if fs::remove_dir(parent).is_err() {
            break;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::git::tests::Person;

    /// Makes the first commit, at which the repository stays. Returns the step to the second.
    async fn step(person: &Person) -> Step {
        for path in ["changed", "gone", "deep/gone", "dir", "same"] {
            person.write(path, "one\n");
        }
        person.commit_all("first");
        let old = person.commit("HEAD").await;
        person.write("changed", "two\n");
        person.write("new/deep/file", "two\n");
        person.git(&["rm", "-q", "gone", "deep/gone", "dir"]);
        person.write("dir/file", "two\n");
        person.commit_all("second");
        let new = person.commit("HEAD").await;
        person.git(&["reset", "-q", "--hard", old.hash()]);
        person.at(".").step(&old, &new).await.unwrap()
    }

    fn unchanged(other: &[&str]) -> PutBack {
        let other = other.iter().map(|path| (*path).to_owned());
        PutBack::Unchanged {
            other: other.collect(),
        }
    }

    /// Changes the files to those of the new commit, with or without the index.
    fn half(person: &Person, step: &Step, with_index: bool) {
        person.git(&[
            "read-tree",
            "-m",
            "-u",
            step.note.old.hash(),
            step.note.new.hash(),
        ]);
        if !with_index {
            person.git(&["read-tree", step.note.old.hash()]);
        }
    }

    #[tokio::test]
    async fn a_half_changed_checkout_is_put_back() {
        for with_index in [true, false] {
            let person = Person::with_repository("");
            let step = step(&person).await;
            let git = person.at(".");
            let back = async || git.put_back(&step).await.unwrap();
            assert_eq!(back().await, unchanged(&[]));
            half(&person, &step, with_index);
            fs::remove_file(person.work().join("changed")).unwrap();
            assert_eq!(back().await, PutBack::Done);
            assert_eq!(person.git(&["status", "--porcelain"]), "");
            assert!(!person.work().join("new").exists());
            assert_eq!(back().await, unchanged(&[]));
        }
    }

    /// To read all files of a large checkout takes minutes.
    #[tokio::test]
    async fn only_files_of_the_step_are_read_when_a_checkout_is_put_back() {
        let person = Person::with_repository("");
        person.git(&["config", "filter.noted.clean", "echo >> ../read; cat"]);
        person.write(".gitattributes", "same filter=noted\n");
        let step = step(&person).await;
        // Git reads a file again if the index is not newer.
        let same = fs::File::open(person.work().join("same")).unwrap();
        let long_ago = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1);
        same.set_modified(long_ago).unwrap();
        person.git(&["status"]);
        half(&person, &step, false);
        person.git(&["status"]);
        let noted = person.home().join("read");
        fs::remove_file(&noted).unwrap();
        let back = person.at(".").put_back(&step).await.unwrap();
        assert_eq!(back, PutBack::Done);
        assert!(!noted.exists());
    }

    #[tokio::test]
    async fn files_that_a_person_has_changed_are_kept_when_a_checkout_is_put_back() {
        for with_index in [true, false] {
            let person = Person::with_repository("");
            let step = step(&person).await;
            half(&person, &step, with_index);
            let mine = ["changed", "gone", "new/deep/file", "dir/file", "dir/mine"];
            for path in mine {
                person.write(path, "mine\n");
            }
            let left = person.at(".").put_back(&step).await.unwrap();
            let names = ["changed", "dir", "dir/file", "gone", "new/deep/file"];
            let other = names.map(str::to_owned).to_vec();
            let changed = Vec::new();
            assert_eq!(left, PutBack::Left { changed, other });
            for path in mine {
                let text = fs::read_to_string(person.work().join(path)).unwrap();
                assert_eq!(text, "mine\n", "{path}");
            }
            assert!(person.work().join("deep/gone").exists());
            assert_eq!(person.git(&["diff", "--cached", "--name-only"]), "");
        }
    }

    /// Git would replace the file or the link by a directory, and so would a person who followed an
    /// advice to restore the file in the directory.
    #[tokio::test]
    async fn a_file_or_link_of_a_person_in_place_of_a_directory_is_kept() {
        for is_link in [true, false] {
            let person = Person::with_repository("");
            let step = step(&person).await;
            half(&person, &step, true);
            let path = person.work().join("deep");
            if is_link {
                std::os::unix::fs::symlink("elsewhere", &path).unwrap();
            } else {
                fs::write(&path, "mine\n").unwrap();
            }
            let left = person.at(".").put_back(&step).await.unwrap();
            let (changed, other) = (Vec::new(), vec!["deep/gone".to_owned()]);
            assert_eq!(left, PutBack::Left { changed, other });
            assert_eq!(fs::symlink_metadata(&path).unwrap().is_symlink(), is_link);
            assert!(!fs::symlink_metadata(&path).unwrap().is_dir());
        }
    }

    #[tokio::test]
    async fn a_link_to_a_directory_is_put_back() {
        let person = Person::with_repository("");
        for dir in ["one", "two"] {
            person.write(&format!("{dir}/file"), "");
        }
        let link = person.work().join("link");
        std::os::unix::fs::symlink("one", &link).unwrap();
        person.commit_all("first");
        let old = person.commit("HEAD").await;
        fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink("two", &link).unwrap();
        person.commit_all("second");
        let new = person.commit("HEAD").await;
        person.git(&["reset", "-q", "--hard", old.hash()]);
        let git = person.at(".");
        let step = git.step(&old, &new).await.unwrap();
        half(&person, &step, true);
        assert_eq!(fs::read_link(&link).unwrap(), Path::new("two"));
        assert_eq!(git.put_back(&step).await.unwrap(), PutBack::Done);
        assert_eq!(fs::read_link(&link).unwrap(), Path::new("one"));
        assert_eq!(person.git(&["status", "--porcelain"]), "");
    }

    #[tokio::test]
    async fn a_checkout_that_only_a_person_has_changed_is_reported_as_unchanged() {
        let person = Person::with_repository("");
        let step = step(&person).await;
        person.write("changed", "mine\n");
        let back = person.at(".").put_back(&step).await.unwrap();
        assert_eq!(back, unchanged(&["changed"]));
        assert_eq!(person.git(&["status", "--porcelain"]), "M changed");
    }

    #[tokio::test]
    async fn a_file_that_was_in_the_way_before_the_step_is_kept() {
        let person = Person::with_repository("");
        let old = step(&person).await;
        person.write("new/deep/file", "two\n");
        let step = person
            .at(".")
            .step(&old.note.old, &old.note.new)
            .await
            .unwrap();
        let back = person.at(".").put_back(&step).await.unwrap();
        assert_eq!(back, unchanged(&[]));
        assert!(person.work().join("new/deep/file").exists());
    }

    #[tokio::test]
    async fn a_noted_step_is_put_back_unless_a_person_has_gone_on() {
        for with_index in [true, false] {
            let person = Person::with_repository("");
            let step = step(&person).await;
            let git = person.at(".");
            let back = async || git.put_back_noted(&step.note).await.unwrap();
            // Git has written no file, so a person must have removed this one.
            fs::remove_file(person.work().join("changed")).unwrap();
            assert_eq!(back().await, None);
            assert!(!person.work().join("changed").exists());
            // Unless git is known to have failed.
            let failed = StepNote {
                has_failed: true,
                ..step.note.clone()
            };
            let back_from_failure = git.put_back_noted(&failed).await.unwrap();
            assert_eq!(back_from_failure, Some(PutBack::Done));
            assert_eq!(person.git(&["status", "--porcelain"]), "");

            half(&person, &step, with_index);
            let status = || person.git(&["status", "--porcelain"]);
            let before = status();
            let gone = StepNote {
                new: Commit::parse(&"1".repeat(40)).unwrap(),
                ..step.note.clone()
            };
            assert_eq!(git.put_back_noted(&gone).await.unwrap(), None);
            person.write(".git/SQUASH_MSG", "");
            assert_eq!(back().await, None);
            fs::remove_file(person.work().join(".git/SQUASH_MSG")).unwrap();
            let (add, reset) = (&["add", "changed"][..], &["reset", "-q", "changed"][..]);
            let (change, undo) = if with_index {
                (reset, add)
            } else {
                (add, reset)
            };
            person.git(change);
            assert_eq!(back().await, None);
            person.git(undo);
            assert_eq!(status(), before);

            assert_eq!(back().await, Some(PutBack::Done));
            assert_eq!(status(), "");
        }
    }

    /// Git stops before it changes any file.
    #[tokio::test]
    async fn no_file_is_named_if_git_stops_before_it_changes_any() {
        let person = Person::with_repository("");
        let old = step(&person).await;
        person.write("new/deep/file/mine", "mine\n");
        person.write(".git/index.lock", "");
        let git = person.at(".");
        let step = git.step(&old.note.old, &old.note.new).await.unwrap();
        assert_eq!(git.put_back(&step).await.unwrap(), unchanged(&[]));
    }

    #[tokio::test]
    async fn a_file_that_git_has_not_written_to_its_end_is_named() {
        let person = Person::with_repository("");
        let step = step(&person).await;
        person.write("changed", "tw");
        person.write("new/deep/file", "tw");
        let back = person.at(".").put_back(&step).await.unwrap();
        assert_eq!(back, unchanged(&["changed", "new/deep/file"]));
    }
}

//! Updates the files of a checkout to a later commit. Git checks the files before it writes the
//! first of them, and overwrites a file that a person saves after that. So the new files are first
//! written elsewhere, and then exchanged for the old ones, one by one. Meanwhile the index is
//! locked, and git moves the branch with a copy of the index. Then this copy replaces the index. If
//! the index cannot be replaced, or if there is no room, nothing is changed.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    io,
    path::{Path, PathBuf},
};

use rustix::io::Errno;

use super::{
    BranchRef, Commit, Git, GitError, SAID_CHARS,
    aside::{FILES, INDEX, keep, make_aside},
    failed,
    index_lock::IndexLock,
    place::common_dir_of,
    put_back::{Step, StepNote},
    spec::{FILES_MAX, LONG, Spec},
    swap::{Swaps, Unmade},
    unusable,
};
use crate::{command::restoring, fsx};

/// The name of the files with attributes of other files.
const ATTRIBUTES: &str = ".gitattributes";

/// Parts of git's messages if it cannot write a file: the disk may be full.
const NOT_WRITTEN: [&str; 4] = [
    "unable to write",
    "No space left",
    "Disk quota exceeded",
    "Out of diskspace",
];

/// Part of git's last message if a required filter cannot make a file of a checkout.
const SMUDGE_FAILED: &str = ": smudge filter ";

/// The files of a step that were replaced, while HEAD is still at the old commit.
struct Replaced {
    note: StepNote,
    aside: Aside,
    lock: IndexLock,
}

/// The directory of the replaced files or, once these are back, of the new files. Only
/// [`Git::drop_aside`] removes it, so that it stays if the host ends before that.
pub(crate) struct Aside {
    swaps: Swaps,
    dir: PathBuf,
    /// Whether all replaced files were put back.
    is_undone: bool,
}

/// Files that somebody has changed while they were not in their places.
pub(crate) struct Late {
    pub(crate) files: Vec<String>,
    /// The directory that has the changed files.
    pub(crate) kept: PathBuf,
}

/// Result of replacing the files of a step.
enum Replacing {
    Done(Box<Replaced>),
    /// Somebody has changed one of the files meanwhile. All files were put back.
    Undone(Aside),
    /// Nothing was changed. Git itself can update the checkout, or says why it cannot.
    LeftToGit,
}

/// The files of a checkout after its update has failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum After {
    /// No file was changed.
    Untouched,
    /// No file was replaced, but git may have updated some of the files.
    LeftToGit,
    /// Files were replaced, and perhaps not all of them were put back.
    Replaced,
    /// All files that were replaced are in their places again, and the index is as before.
    AsBefore,
}

/// Result of updating a checkout.
pub(crate) struct Updated {
    pub(crate) result: Result<(), GitError>,
    /// Matters only if the result is an error.
    pub(crate) after: After,
    /// Files not in their places. They are dropped late: a program may still write to one of them.
    pub(crate) aside: Option<Aside>,
}

impl Git {
    /// Moves this checkout, in which `branch` is checked out, forward by a step.
    pub(crate) async fn update_checkout(&self, branch: &BranchRef, step: &Step) -> Updated {
        let StepNote { old, new, .. } = &step.note;
        let replaced = match Box::pin(self.replace_files(step)).await {
            Ok(Replacing::Done(replaced)) => *replaced,
            Ok(Replacing::Undone(aside)) => {
                return Updated {
                    result: self.fast_forward(branch, old, new).await,
                    after: After::LeftToGit,
                    aside: Some(aside),
                };
            }
            Ok(Replacing::LeftToGit) => {
                return Updated {
                    result: self.fast_forward(branch, old, new).await,
                    after: After::LeftToGit,
                    aside: None,
                };
            }
            Err(error) => {
                return Updated {
                    after: match error {
                        GitError::NotPutBack { .. } => After::Replaced,
                        _ => After::Untouched,
                    },
                    result: Err(error),
                    aside: None,
                };
            }
        };
        let with_new = self.with_index(&replaced.aside.dir.join(INDEX));
        let (result, aside) = match with_new.fast_forward(branch, old, new).await {
            Ok(()) => match self.finish_replacing(replaced).await {
                Ok(aside) => (Ok(()), Some(aside)),
                Err(error) => (Err(error), None),
            },
            Err(error) => match restoring(self.undo_replacing(replaced)).await {
                Ok(aside) => (Err(error), Some(aside)),
                Err(behind @ GitError::IndexBehind { .. }) => (Err(behind), None),
                Err(undoing) => {
                    tracing::warn!(
                        checkout = %self.dir().display(), error = %undoing,
                        "a checkout cannot be put back"
                    );
                    (Err(error), None)
                }
            },
        };
        let is_undone = aside.as_ref().is_some_and(|aside| aside.is_undone);
        Updated {
            result,
            after: if is_undone {
                After::AsBefore
            } else {
                After::Replaced
            },
            aside,
        }
    }

    /// Replaces the files of a step here, and makes the new index, while the index is locked. Fails
    /// if there is no room for the new files, if a directory cannot be made, if a filter fails that
    /// is required, if the index could not be replaced, if a git has not run to its end, or if
    /// files that somebody has changed could not be put back.
    async fn replace_files(&self, step: &Step) -> Result<Replacing, GitError> {
        let replaced = match self.try_to_replace(step).await {
            Err(error) if is_lack_of_room(&error) => return Err(self.no_room()),
            // Git itself would run the filter that took too long or failed once more, while files
            // are missing and the index is locked.
            Err(
                error @ (GitError::FilterFailed { .. }
                | GitError::Killed { .. }
                | GitError::Timeout { .. }
                | GitError::Spawn { .. }
                | GitError::IndexStays { .. }
                | GitError::Unmade { .. }
                | GitError::NotPutBack { .. }),
            ) => return Err(error),
            Err(error) => {
                tracing::info!(
                    path = %self.dir().display(), %error,
                    "the files of a checkout are left to git"
                );
                Replacing::LeftToGit
            }
            Ok(replaced) => replaced,
        };
        // Git itself writes all files before it tries to replace the index.
        if matches!(replaced, Replacing::LeftToGit) {
            match self.check_index(step).await {
                Err(error) if is_lack_of_room(&error) => return Err(self.no_room()),
                Err(error @ (GitError::IndexStays { .. } | GitError::Unmade { .. })) => {
                    return Err(error);
                }
                Err(error) => tracing::debug!(
                    path = %self.dir().display(), %error,
                    "whether an index can be replaced is unknown"
                ),
                Ok(()) => {}
            }
        }
        Ok(replaced)
    }

    fn no_room(&self) -> GitError {
        GitError::NoRoom {
            path: self.dir().to_owned(),
        }
    }

    async fn try_to_replace(&self, step: &Step) -> Result<Replacing, GitError> {
        if !step.is_of_separate_files() || changes_attributes(step) || self.folds_case().await? {
            return Ok(Replacing::LeftToGit);
        }
        let git_dir = self.git_dir_here().await?;
        // In a sparse checkout, git leaves out some of the files.
        let sparse = git_dir.join("info/sparse-checkout");
        let aside = self.look_at_files({
            let (git_dir, name) = (git_dir.clone(), step.note.aside.clone());
            move |_| fsx::is_missing(&sparse).then(|| make_aside(&git_dir, &name))
        });
        let Some(aside) = aside.await?.transpose().map_err(unmade(step, &git_dir))? else {
            return Ok(Replacing::LeftToGit);
        };
        self.write_new(aside.path(), step).await?;
        let swaps = self.look_at_files({
            let (files, new) = (step.files.clone(), aside.path().join(FILES));
            move |top| Swaps::new(top, &new, &files)
        });
        let Some(mut swaps) = swaps.await?.map_err(unusable(&git_dir))? else {
            return Ok(Replacing::LeftToGit);
        };
        // The files are compared after the look at them, so that each later change is noticed.
        if self.has_other_than_old(aside.path(), step).await? {
            return Ok(Replacing::LeftToGit);
        }
        // A git that works here could take the new files for changes of the person.
        let Some(mut lock) = self
            .locked_with_new_index(&git_dir, aside.path(), step)
            .await?
        else {
            return Ok(Replacing::LeftToGit);
        };
        // This is not interrupted even if nobody waits for it any more.
        let swapped = self.look_at_files(move |_| {
            let dir = aside.keep();
            lock.stay();
            let (swapped, is_changed) = match swaps.swap_all() {
                Ok(()) => (Ok(lock), false),
                Err(error) => {
                    lock.release();
                    (Err(error), !swaps.changed_aside().is_empty())
                }
            };
            let aside = Aside {
                swaps,
                dir,
                is_undone: false,
            };
            (swapped, is_changed, aside)
        });
        let (swapped, is_changed, aside) = swapped.await?;
        let error = match swapped.map_err(not_swapped(&git_dir)) {
            Ok(lock) => {
                return Ok(Replacing::Done(Box::new(Replaced {
                    note: step.note.clone(),
                    aside,
                    lock,
                })));
            }
            Err(error) => error,
        };
        if is_changed || is_lack_of_room(&error) || matches!(error, GitError::Unmade { .. }) {
            refuse_late(self.drop_aside(aside).await?)?;
            return Err(error);
        }
        tracing::info!(
            path = %self.dir().display(), %error,
            "the files of a checkout were put back"
        );
        Ok(Replacing::Undone(aside))
    }

    /// Locks the index; the copy has the new commit's entries. `None` if another git has the lock.
    async fn locked_with_new_index(
        &self,
        git_dir: &Path,
        aside: &Path,
        step: &Step,
    ) -> Result<Option<IndexLock>, GitError> {
        let Some(lock) = self.locked_with_copy(git_dir, aside, step).await? else {
            return Ok(None);
        };
        let StepNote { old, new, .. } = &step.note;
        let new_index = index_from(old, new).index(&aside.join(INDEX));
        // If a person has staged one of the files just now, this fails, and the lock is released.
        self.change(&new_index).await?;
        Ok(Some(lock))
    }

    /// Locks the index, and makes a copy of it. Returns `None` if another git has the lock. Fails
    /// if the index could not be replaced.
    async fn locked_with_copy(
        &self,
        git_dir: &Path,
        aside: &Path,
        step: &Step,
    ) -> Result<Option<IndexLock>, GitError> {
        let locked = self.look_at_files({
            let (git_dir, aside) = (git_dir.to_owned(), aside.to_owned());
            let name = step.note.aside.clone();
            move |_| {
                let copy = aside.join(INDEX);
                let taken = IndexLock::take(&git_dir, &aside, &name, &copy);
                let checked = |lock: IndexLock| (lock.check_replaceable(&copy), lock);
                taken.map(|lock| lock.map(checked))
            }
        });
        match locked.await?.map_err(unusable(git_dir))? {
            None => Ok(None),
            Some((Ok(()), lock)) => Ok(Some(lock)),
            Some((Err(source), _)) if is_refusal(&source) => Err(GitError::IndexStays {
                index: git_dir.join("index"),
                source,
            }),
            Some((Err(source), _)) => Err(unusable(git_dir)(source)),
        }
    }

    /// Fails if the index could not be replaced, or if there is no room for a copy of it, which git
    /// needs too. Succeeds if another git has the lock of the index.
    async fn check_index(&self, step: &Step) -> Result<(), GitError> {
        let git_dir = self.git_dir().await?;
        let aside = self.look_at_files({
            let (git_dir, name) = (git_dir.clone(), step.note.aside.clone());
            move |_| make_aside(&git_dir, &name)
        });
        let aside = aside.await?.map_err(unmade(step, &git_dir))?;
        self.locked_with_copy(&git_dir, aside.path(), step).await?;
        Ok(())
    }

    /// Writes the new files of a step into a directory, as git would write them here: filters run
    /// in the checkout, and all attributes in it apply.
    async fn write_new(&self, aside: &Path, step: &Step) -> Result<(), GitError> {
        let index = aside.join("new");
        let read = Spec::changes(["read-tree", step.note.new.hash()]).index(&index);
        self.change(&read.limit(LONG)).await?;
        let mut prefix = OsString::from("--prefix=");
        // The empty name adds a slash.
        prefix.push(aside.join(FILES).join(""));
        let new = step.files.iter().filter(|file| file.in_new);
        let new: Vec<&str> = new.map(|file| file.path.as_str()).collect();
        for some in new.chunks(FILES_MAX) {
            let spec = Spec::changes(["checkout-index", "--quiet", "--force"]);
            let spec = spec.arg(&prefix).arg("--").index(&index).limit(LONG);
            let spec = some.iter().fold(spec, Spec::arg);
            let finished = self.run(&spec).await?;
            // A filter may be a program that the step itself adds. If the filter is not required,
            // git writes the file without it, and succeeds.
            if !finished.status.success() || reports_errors(&finished.stderr) {
                let filter = failed_filter(&finished.stderr);
                return Err(filter.unwrap_or_else(|| failed(&spec, &finished)));
            }
        }
        Ok(())
    }

    /// Whether files of a step, or attributes that apply to its new files, differ here from the old
    /// commit, even if git was told to ignore their changes.
    async fn has_other_than_old(&self, aside: &Path, step: &Step) -> Result<bool, GitError> {
        let old = step.files.iter().filter(|file| file.in_old);
        let mut files: Vec<String> = old.map(|file| file.path.clone()).collect();
        files.extend(self.attributes_of(step).await?);
        let index = aside.join("old");
        let differing = self.differing(&index, &step.note.old, &files).await?;
        Ok(!differing.is_empty())
    }

    /// The files here with attributes that apply to new files of a step.
    async fn attributes_of(&self, step: &Step) -> Result<Vec<String>, GitError> {
        let new = step.files.iter().filter(|file| file.in_new);
        let dirs = new.flat_map(|file| Path::new(&file.path).ancestors().skip(1));
        let dirs: BTreeSet<PathBuf> = dirs.map(Path::to_owned).collect();
        self.look_at_files(move |top| {
            let files = dirs.iter().map(|dir| dir.join(ATTRIBUTES));
            let found = files.filter(|file| fsx::is_taken(&top.join(file)));
            found.map(|file| file.display().to_string()).collect()
        })
        .await
    }

    /// Puts the new index in its place, once HEAD is at the new commit. On an error, the files and
    /// the new index stay aside for [`Self::finish_noted`].
    async fn finish_replacing(&self, replaced: Replaced) -> Result<Aside, GitError> {
        let Replaced { note, aside, lock } = replaced;
        let index = aside.dir.join(INDEX);
        let finished = self.look_at_files(move |_| {
            let finished = lock.finish(&index).map_err(|(error, lock)| {
                lock.release();
                error
            });
            aside.swaps.remove_emptied();
            (finished, aside)
        });
        let (finished, aside) = finished.await?;
        if let Err(error) = finished {
            tracing::warn!(
                checkout = %self.dir().display(), %error,
                "the index of a checkout cannot be replaced"
            );
            // If somebody has removed the lock, git can still change the index.
            let changed = self.change(&index_from(&note.old, &note.new)).await;
            changed.map_err(|error| GitError::IndexBehind {
                checkout: self.dir().to_owned(),
                source: Box::new(error),
            })?;
        }
        Ok(aside)
    }

    /// Undoes [`Self::replace_files`]. The index is as before, because it was locked.
    async fn undo_replacing(&self, replaced: Replaced) -> Result<Aside, GitError> {
        // A git that was killed may have moved the branch before.
        if self.commit_of("HEAD").await?.as_ref() == Some(&replaced.note.new) {
            return self.finish_replacing(replaced).await;
        }
        let Replaced {
            mut aside, lock, ..
        } = replaced;
        self.look_at_files(move |_| {
            aside.swaps.undo();
            aside.is_undone = aside.swaps.is_undone();
            aside.swaps.remove_emptied();
            lock.release();
            aside
        })
        .await
    }

    /// Does the same as [`Self::drop_aside`] with the files that a killed host has left in the
    /// noted step. May be called in the repository, because a person may have removed the checkout.
    pub(crate) async fn drop_left_aside(&self, note: &StepNote) -> Result<Option<Late>, GitError> {
        let git_dir = self.git_dir().await?;
        let dropped = self.look_at_files({
            let (git_dir, name) = (git_dir.clone(), note.aside.clone());
            move |top| close_left(top, &git_dir, &name)
        });
        dropped.await?.map_err(unusable(&git_dir))
    }

    /// Removes the files that are not in their places, unless a program that had opened one of them
    /// before has changed it since.
    pub(crate) async fn drop_aside(&self, aside: Aside) -> Result<Option<Late>, GitError> {
        self.look_at_files(move |_| close(&aside.swaps, aside.dir))
            .await
    }
}

/// Fails if changed files could not be put back.
fn refuse_late(late: Option<Late>) -> Result<(), GitError> {
    match late {
        Some(Late { files, kept }) => Err(GitError::NotPutBack { files, kept }),
        None => Ok(()),
    }
}

/// Removes the directory for files that are not in their places, or keeps it if one of its files is
/// neither the old nor the new one.
fn close(swaps: &Swaps, aside: PathBuf) -> Option<Late> {
    let changed = swaps.changed_aside().into_iter();
    let files: Vec<String> = changed.map(str::to_owned).collect();
    if files.is_empty() {
        if let Err(error) = fsx::remove_tree(&aside) {
            tracing::warn!(path = %aside.display(), %error, "old files cannot be removed");
        }
        return None;
    }
    let kept = keep(aside).join(FILES);
    tracing::warn!(
        ?files, kept = %kept.display(),
        "files that somebody has changed while a merge replaced them are kept"
    );
    Some(Late { files, kept })
}

/// Does the same as [`close`] with the directory of this name that a killed host has left.
fn close_left(top: &Path, git_dir: &Path, name: &str) -> io::Result<Option<Late>> {
    let dir = common_dir_of(git_dir)?.join(name);
    let swaps = Swaps::noted(top, &dir.join(FILES))?;
    Ok(swaps.and_then(|swaps| close(&swaps, dir)))
}

/// Whether a step changes attributes. If git itself writes the files, the new attributes apply. If
/// the files are first written elsewhere, the old attributes apply.
fn changes_attributes(step: &Step) -> bool {
    let mut paths = step.files.iter().map(|file| Path::new(&file.path));
    paths.any(|path| path.ends_with(ATTRIBUTES))
}

/// Whether the new files of a step could not be written, probably because the disk is full. Git
/// itself would then fail in the middle of the checkout.
fn is_lack_of_room(error: &GitError) -> bool {
    match error {
        GitError::Failed { .. } => NOT_WRITTEN.iter().any(|it| error.says(it)),
        GitError::Read { source, .. } | GitError::Unmade { source, .. } => matches!(
            source.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        ),
        _ => false,
    }
}

/// Turns an I/O error into the error that the directory for the files of a step cannot be made.
fn unmade(step: &Step, git_dir: &Path) -> impl FnOnce(io::Error) -> GitError {
    let dir = git_dir.join(&step.note.aside);
    move |source| GitError::Unmade { dir, source }
}

/// Turns an I/O error into the error that the files of a step cannot be replaced.
fn not_swapped(git_dir: &Path) -> impl FnOnce(io::Error) -> GitError {
    let path = git_dir.to_owned();
    move |error| match error.downcast::<Unmade>() {
        Ok(Unmade { dir, source }) => GitError::Unmade { dir, source },
        Err(source) => GitError::Read { path, source },
    }
}

/// Whether a file cannot be replaced for a reason that holds for git too, such as a mount.
fn is_refusal(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::PERM | Errno::ACCESS | Errno::BUSY | Errno::ROFS)
    )
}

fn reports_errors(stderr: &[u8]) -> bool {
    let said = String::from_utf8_lossy(stderr);
    said.lines().any(|line| line.starts_with("error: "))
}

/// The error of a git that has ended because a filter that is required has failed; `None` if git
/// has ended for another reason. A lack of room is another reason, even if it is the filter's.
fn failed_filter(stderr: &[u8]) -> Option<GitError> {
    let text = String::from_utf8_lossy(stderr);
    let is_of_filter = |line: &str| line.starts_with("fatal: ") && line.contains(SMUDGE_FAILED);
    if !text.lines().any(is_of_filter) || NOT_WRITTEN.iter().any(|it| text.contains(it)) {
        return None;
    }
    // The filter itself may have said much, and git names the filter at the end.
    let said = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let left_out = said.chars().count().saturating_sub(SAID_CHARS);
    Some(GitError::FilterFailed {
        said: said.chars().skip(left_out).collect(),
    })
}

/// The command that changes only the index, from one commit to another.
fn index_from(old: &Commit, new: &Commit) -> Spec {
    let spec = Spec::changes(["read-tree", "-m", "-i"]);
    spec.arg(old.hash()).arg(new.hash()).limit(LONG)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::{fs, os::unix::fs::PermissionsExt, time::Duration};

    use super::*;
    use crate::git::{
        PutBack,
        aside::{self, NOTE},
        tests::Person,
    };

    /// Makes two commits, and stays at the first of them. Once a file `armed` exists, the filter of
    /// `watched` runs this command, when git compares the files for the last time.
    async fn step(person: &Person, command: &str) -> Step {
        let filter = format!("if test -e armed; then rm armed; {command}; fi; cat");
        person.git(&["config", "filter.late.clean", &filter]);
        person.write(".gitattributes", "watched filter=late\n");
        for path in ["file", "gone", "watched"] {
            person.write(path, "one\n");
        }
        person.commit_all("first");
        let old = person.commit("HEAD").await;
        for path in ["file", "watched", "dir/new"] {
            person.write(path, "two\n");
        }
        person.git(&["rm", "-q", "gone"]);
        person.commit_all("second");
        let new = person.commit("HEAD").await;
        person.git(&["reset", "-q", "--hard", old.hash()]);
        person.at(".").step(&old, &new).await.unwrap()
    }

    /// A repository with the step of [`step`], and the host's git in it.
    async fn stepped() -> (Person, Git, Step) {
        let person = Person::with_repository("");
        let step = step(&person, "true").await;
        let git = person.at(".");
        (person, git, step)
    }

    fn read(person: &Person, path: &str) -> String {
        fs::read_to_string(person.work().join(path)).unwrap_or_default()
    }

    /// Opens a file as a program does that writes to it later.
    fn opened(person: &Person, path: &str) -> fs::File {
        let file = person.work().join(path);
        fs::File::options().append(true).open(file).unwrap()
    }

    /// Checks that no file differs from the last commit, and that the index is not locked.
    #[track_caller]
    fn check_unchanged(person: &Person) {
        assert_eq!(person.git(&["status", "--porcelain"]), "");
        assert!(!is_locked(person));
    }

    /// Checks that the files of the old commit are in their places.
    #[track_caller]
    fn check_old_files(person: &Person) {
        for path in ["file", "gone", "watched"] {
            assert_eq!(read(person, path), "one\n", "{path}");
        }
    }

    /// A step whose files are replaced, and a step whose files are left to git, each in its own
    /// repository.
    async fn replaced_and_left_to_git() -> [(Person, Step); 2] {
        let [replaced, left] = [(); 2].map(|()| Person::with_repository(""));
        let to_replace = step(&replaced, "true").await;
        let to_leave = step_with_attributes(&left, "", "file text\n").await;
        [(replaced, to_replace), (left, to_leave)]
    }

    /// Replaces the files of a step; `None` if they are as before.
    async fn replaced(git: &Git, step: &Step) -> Option<Replaced> {
        match git.replace_files(step).await.unwrap() {
            Replacing::Done(replaced) => Some(*replaced),
            Replacing::Undone(aside) => {
                assert!(git.drop_aside(aside).await.unwrap().is_none());
                None
            }
            Replacing::LeftToGit => None,
        }
    }

    async fn fast_forward(git: &Git, replaced: &Replaced) -> Result<(), GitError> {
        let with_new = git.with_index(&replaced.aside.dir.join(INDEX));
        let main = BranchRef::named("main");
        let StepNote { old, new, .. } = &replaced.note;
        with_new.fast_forward(&main, old, new).await
    }

    async fn finish(git: &Git, replaced: Replaced) -> Option<Late> {
        fast_forward(git, &replaced).await.unwrap();
        let aside = git.finish_replacing(replaced).await.unwrap();
        git.drop_aside(aside).await.unwrap()
    }

    async fn undo(git: &Git, replaced: Replaced) -> Option<Late> {
        let aside = git.undo_replacing(replaced).await.unwrap();
        git.drop_aside(aside).await.unwrap()
    }

    /// Makes a git for the host. This git is killed once, after a command with these words.
    fn killed_at(person: &Person, words: &str) -> Git {
        let script = format!(
            "git \"$@\" || exit\n\
             case \"$*\" in *'{words}'*) mkdir {} 2>/dev/null && kill -9 $$;; esac\n\
             exit 0\n",
            person.home().join("killed").display(),
        );
        with_script(person, &script)
    }

    /// Lets the host run this script instead of git. The script can call the real git.
    fn with_script(person: &Person, script: &str) -> Git {
        let path = std::env::var("PATH").unwrap();
        let script = format!("#!/bin/sh\nPATH='{path}'\n{script}");
        let program = person.home().join("programs/git");
        fs::create_dir(person.home().join("programs")).unwrap();
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        person.with_programs(&person.home().join("programs"))
    }

    fn is_locked(person: &Person) -> bool {
        person.work().join(".git/index.lock").exists()
    }

    /// The number of directories for files that are not in their places.
    fn left(person: &Person) -> usize {
        let entries = fsx::entries(&person.work().join(".git")).unwrap();
        let names = entries.iter().filter_map(|path| path.file_name()?.to_str());
        names
            .filter(|name| name.starts_with("claudine.files."))
            .count()
    }

    #[tokio::test]
    async fn the_index_is_replaced_once_the_branch_has_moved() {
        let (person, git, step) = stepped().await;
        for is_undone in [true, false] {
            let replacing = replaced(&git, &step).await.unwrap();
            assert_eq!(person.git(&["diff", "--cached", "--name-only"]), "");
            assert_eq!(read(&person, "dir/new"), "two\n");
            assert!(is_locked(&person));
            if is_undone {
                assert!(undo(&git, replacing).await.is_none());
                assert!(!person.work().join("dir").exists());
            } else {
                assert!(finish(&git, replacing).await.is_none());
                assert_eq!(person.commit("main").await, step.note.new);
            }
            check_unchanged(&person);
            assert_eq!(left(&person), 0);
        }
    }

    #[tokio::test]
    async fn a_file_that_a_person_saves_at_the_last_moment_is_kept() {
        for (path, command) in [
            ("file", "echo mine > file"),
            ("file", "echo mine > saved; mv saved file"),
            ("gone", "echo mine > gone"),
            ("dir/new", "mkdir dir; echo mine > dir/new"),
        ] {
            let person = Person::with_repository("");
            let step = step(&person, command).await;
            person.write("armed", "");
            let git = person.at(".");
            assert!(replaced(&git, &step).await.is_none(), "{command}");
            assert!(!person.work().join("armed").exists(), "{command}");
            let main = BranchRef::named("main");
            git.fast_forward(&main, &step.note.old, &step.note.new)
                .await
                .unwrap_err();
            let expected = [
                ("file", "one\n"),
                ("gone", "one\n"),
                ("watched", "one\n"),
                ("dir/new", ""),
            ];
            for (other, text) in expected {
                let text = if other == path { "mine\n" } else { text };
                assert_eq!(read(&person, other), text, "{command}: {other}");
            }
            assert_eq!(person.commit("main").await, step.note.old);
            assert_eq!(left(&person), 0);
        }
    }

    #[tokio::test]
    async fn a_person_cannot_stage_or_commit_files_while_they_are_replaced() {
        let (person, git, step) = stepped().await;
        let replacing = replaced(&git, &step).await.unwrap();
        for command in [
            "add file",
            "rm -q --cached file",
            "commit -q --allow-empty -m mine",
            "commit -q -a -m mine",
            "commit -q -m mine file",
        ] {
            let refused = format!("alias.try=!git {command} 2> /dev/null || echo refused");
            let said = person.git(&["-c", &refused, "try"]);
            assert_eq!(said, "refused", "{command}");
        }
        assert!(undo(&git, replacing).await.is_none());
        assert_eq!(person.commit("main").await, step.note.old);
        assert_eq!(person.git(&["status", "--porcelain"]), "");
    }

    /// Git does not need the index to go to a new branch.
    #[tokio::test]
    async fn files_are_put_back_if_a_person_goes_to_another_branch_at_the_same_moment() {
        let (person, git, step) = stepped().await;
        let replacing = replaced(&git, &step).await.unwrap();
        person.git(&["switch", "-q", "-c", "other"]);
        fast_forward(&git, &replacing).await.unwrap_err();
        assert!(undo(&git, replacing).await.is_none());
        assert_eq!(person.git(&["status", "--porcelain"]), "");
        for branch in ["main", "other"] {
            assert_eq!(person.commit(branch).await, step.note.old, "{branch}");
        }
    }

    /// If a person aborts the rebase, git puts the branch back to the old commit.
    #[tokio::test]
    async fn a_checkout_is_not_updated_while_a_person_edits_the_list_of_a_rebase_there() {
        for (person, step) in replaced_and_left_to_git().await {
            let rebase = "git -c sequence.editor='kill -9 $PPID' rebase -i HEAD 2> /dev/null";
            let rebase = format!("alias.try=!{rebase} || echo killed");
            assert_eq!(person.git(&["-c", &rebase, "try"]), "killed");
            assert_eq!(person.git(&["branch", "--show-current"]), "main");
            let git = person.at(".");
            let updated = git.update_checkout(&BranchRef::named("main"), &step).await;
            assert!(matches!(
                updated.result,
                Err(GitError::OperationOpen { .. })
            ));
            if let Some(aside) = updated.aside {
                assert!(git.drop_aside(aside).await.unwrap().is_none());
            }
            assert_eq!(person.commit("main").await, step.note.old);
            check_unchanged(&person);
            assert_eq!(left(&person), 0);
        }
    }

    #[tokio::test]
    async fn files_are_left_to_git_if_another_git_has_the_lock_of_the_index() {
        let person = Person::with_repository("");
        let step = step(&person, "true").await;
        person.write(".git/index.lock", "");
        let git = person.at(".");
        assert!(replaced(&git, &step).await.is_none());
        assert_eq!(read(&person, "file"), "one\n");
        assert!(is_locked(&person));
        assert_eq!(left(&person), 0);
    }

    #[tokio::test]
    async fn nothing_is_replaced_if_the_git_that_makes_the_new_index_is_killed() {
        let person = Person::with_repository("");
        let step = step(&person, "true").await;
        let git = killed_at(&person, "read-tree -m -i");
        let updated = git.update_checkout(&BranchRef::named("main"), &step).await;
        assert!(matches!(updated.result, Err(GitError::Killed { .. })));
        assert_eq!(updated.after, After::Untouched);
        assert!(person.home().join("killed").exists());
        assert_eq!(person.commit("main").await, step.note.old);
        check_unchanged(&person);
        assert_eq!(left(&person), 0);
    }

    #[tokio::test]
    async fn a_step_is_finished_although_its_git_is_killed_after_the_branch_has_moved() {
        let person = Person::with_repository("");
        let step = step(&person, "true").await;
        let git = killed_at(&person, "--ff-only");
        let updated = git.update_checkout(&BranchRef::named("main"), &step).await;
        assert!(matches!(updated.result, Err(GitError::Killed { .. })));
        assert_eq!(person.commit("main").await, step.note.new);
        check_unchanged(&person);
    }

    /// The person's next commit would undo the merge.
    #[tokio::test]
    async fn an_index_that_cannot_be_replaced_once_the_branch_has_moved_is_reported() {
        let person = Person::with_repository("");
        let step = step(&person, "true").await;
        let [index, away] = ["index", "away"].map(|name| person.work().join(".git").join(name));
        let script = format!(
            "git \"$@\" || exit\n\
             case \"$*\" in *--ff-only*) mv {index} {away} && mkdir {index};; esac\n",
            index = index.display(),
            away = away.display(),
        );
        let git = with_script(&person, &script);
        let updated = git.update_checkout(&BranchRef::named("main"), &step).await;
        assert!(matches!(updated.result, Err(GitError::IndexBehind { .. })));
        assert!(updated.aside.is_none());
        assert_eq!(person.commit("main").await, step.note.new);
        assert_eq!(read(&person, "file"), "two\n");
        assert!(!is_locked(&person));

        fs::remove_dir(&index).unwrap();
        fs::rename(&away, &index).unwrap();
        assert_ne!(person.git(&["status", "--porcelain"]), "");
        let git = person.at(".");
        git.finish_noted(&step.note).await.unwrap();
        assert!(git.drop_left_aside(&step.note).await.unwrap().is_none());
        assert_eq!(person.git(&["status", "--porcelain"]), "");
        assert_eq!(left(&person), 0);
    }

    #[tokio::test]
    async fn a_checkout_is_not_updated_if_there_is_no_room_for_the_new_files() {
        let person = Person::with_repository("");
        let step = step(&person, "true").await;
        let script = "case \"$*\" in *checkout-index*) \
             echo 'error: unable to write file file' >&2; exit 1;; esac\ngit \"$@\"\n";
        let git = with_script(&person, script);
        let updated = git.update_checkout(&BranchRef::named("main"), &step).await;
        assert!(matches!(updated.result, Err(GitError::NoRoom { .. })));
        assert_eq!(person.commit("main").await, step.note.old);
        assert_eq!(read(&person, "file"), "one\n");
        assert_eq!(left(&person), 0);
    }

    /// Something has the name of the directory for the files that are not in their places.
    #[tokio::test]
    async fn a_checkout_is_not_updated_if_the_directory_for_its_files_cannot_be_made() {
        for (person, step) in replaced_and_left_to_git().await {
            let taken = person.work().join(".git").join(&step.note.aside);
            fs::write(&taken, "").unwrap();
            let git = person.at(".");
            let updated = git.update_checkout(&BranchRef::named("main"), &step).await;
            assert!(matches!(updated.result, Err(GitError::Unmade { .. })));
            assert_eq!(person.commit("main").await, step.note.old);
            assert_eq!(read(&person, "file"), "one\n");
            check_unchanged(&person);
        }
    }

    #[test]
    fn only_a_lack_of_room_is_taken_for_one() {
        let failed = |said: &str| GitError::Failed {
            called: String::new(),
            said: said.to_owned(),
        };
        let read = |error: Errno| unusable(Path::new("/"))(error.into());
        assert!(is_lack_of_room(&failed("error: unable to write file a")));
        assert!(is_lack_of_room(&failed(
            "error: new.lock write error. Out of diskspace"
        )));
        assert!(is_lack_of_room(&read(Errno::NOSPC)));
        assert!(is_lack_of_room(&GitError::Unmade {
            dir: PathBuf::new(),
            source: io::Error::new(io::ErrorKind::StorageFull, "at a path"),
        }));
        assert!(!is_lack_of_room(&failed("error: external filter failed")));
        assert!(!is_lack_of_room(&read(Errno::XDEV)));
    }

    /// An editor may have opened the file before the merge.
    #[tokio::test]
    async fn changes_of_a_replaced_file_are_kept_until_a_person_removes_them() {
        let (person, git, step) = stepped().await;
        let mut opened = opened(&person, "file");
        let replacing = replaced(&git, &step).await.unwrap();
        io::Write::write_all(&mut opened, b"mine\n").unwrap();
        let late = finish(&git, replacing).await.unwrap();
        assert_eq!(late.files, ["file"]);
        let text = || fs::read_to_string(late.kept.join("file")).unwrap();
        assert_eq!(text(), "one\nmine\n");
        assert_eq!(read(&person, "file"), "two\n");
        let dir = fs::File::open(late.kept.parent().unwrap()).unwrap();
        dir.set_modified(std::time::UNIX_EPOCH).unwrap();
        make_aside(&person.work().join(".git"), &aside::name()).unwrap();
        assert_eq!(text(), "one\nmine\n");
    }

    /// Git removes the git directory of a linked checkout together with the checkout.
    #[tokio::test]
    async fn changes_of_a_replaced_file_are_kept_although_their_checkout_is_removed() {
        let person = Person::with_repository("");
        let note = step(&person, "true").await.note;
        person.git(&["switch", "-q", "--detach"]);
        person.git(&["worktree", "add", "-q", "../tree", "main"]);
        let git = person.at("../tree");
        let step = git.step(&note.old, &note.new).await.unwrap();
        let file = person.home().join("tree/file");
        let mut opened = fs::File::options().append(true).open(file).unwrap();
        let replacing = replaced(&git, &step).await.unwrap();
        io::Write::write_all(&mut opened, b"mine\n").unwrap();
        let late = finish(&git, replacing).await.unwrap();
        person.git(&["worktree", "remove", "--force", "../tree"]);
        let text = fs::read_to_string(late.kept.join("file")).unwrap();
        assert_eq!(text, "one\nmine\n");
    }

    /// Somebody else has saved the file meanwhile, so the changes cannot go to its place.
    #[tokio::test]
    async fn changes_of_a_replaced_file_that_cannot_be_put_back_are_kept() {
        let (person, git, step) = stepped().await;
        let mut opened = opened(&person, "file");
        let replacing = replaced(&git, &step).await.unwrap();
        io::Write::write_all(&mut opened, b"mine\n").unwrap();
        person.write("file", "other\n");
        let late = undo(&git, replacing).await.unwrap();
        assert_eq!(late.files, ["file"]);
        let text = fs::read_to_string(late.kept.join("file")).unwrap();
        assert_eq!(text, "one\nmine\n");
        assert_eq!(read(&person, "file"), "other\n");
        assert_eq!(person.git(&["status", "--porcelain"]), "M file");
        assert_eq!(left(&person), 0);
    }

    /// A program has opened the new file before.
    #[tokio::test]
    async fn changes_of_a_new_file_after_it_was_taken_back_are_kept() {
        for path in ["file", "dir/new"] {
            let (person, git, step) = stepped().await;
            let replacing = replaced(&git, &step).await.unwrap();
            let mut opened = opened(&person, path);
            let aside = git.undo_replacing(replacing).await.unwrap();
            io::Write::write_all(&mut opened, b"mine\n").unwrap();
            let late = git.drop_aside(aside).await.unwrap().unwrap();
            assert_eq!(late.files, [path]);
            let text = fs::read_to_string(late.kept.join(path)).unwrap();
            assert_eq!(text, "two\nmine\n");
        }
    }

    /// The host ends before git has moved the branch.
    #[tokio::test]
    async fn old_files_stay_if_nobody_waits_for_the_end_of_a_merge_any_more() {
        let (person, git, step) = stepped().await;
        let mut opened = opened(&person, "file");
        let replacing = replaced(&git, &step).await.unwrap();
        io::Write::write_all(&mut opened, b"mine\n").unwrap();
        let aside = replacing.aside.dir.join(FILES);
        drop(replacing);
        let text = fs::read_to_string(aside.join("file")).unwrap();
        assert_eq!(text, "one\nmine\n");
        let late = git.drop_left_aside(&step.note).await.unwrap().unwrap();
        assert_eq!(late.files, ["file"]);
        let text = fs::read_to_string(late.kept.join("file")).unwrap();
        assert_eq!(text, "one\nmine\n");
    }

    /// The host leaves its lock, which a person may remove. A host of an earlier version may leave
    /// the new index.
    #[tokio::test]
    async fn removed_files_are_put_back_after_the_host_was_killed() {
        for (has_lock, has_new_index) in [(true, false), (false, false), (false, true)] {
            let person = Person::with_repository("");
            person.write("gone", "one\n");
            person.write("kept", "one\n");
            person.commit_all("first");
            let old = person.commit("HEAD").await;
            person.git(&["rm", "-q", "gone"]);
            person.git(&["commit", "-q", "-m", "second"]);
            let new = person.commit("HEAD").await;
            person.git(&["reset", "-q", "--hard", old.hash()]);
            let git = person.at(".");
            let step = git.step(&old, &new).await.unwrap();
            drop(replaced(&git, &step).await.unwrap());
            if !has_lock {
                fs::remove_file(person.work().join(".git/index.lock")).unwrap();
            }
            if has_new_index {
                person.git(&["read-tree", new.hash()]);
            }
            assert_eq!(read(&person, "gone"), "");
            assert_eq!(git.has_lock_of(&step.note).await.unwrap(), has_lock);
            let back = git.put_back_noted(&step.note).await.unwrap();
            assert_eq!(back, Some(PutBack::Done));
            assert_eq!(read(&person, "gone"), "one\n");
            check_unchanged(&person);
        }
    }

    /// A filter that is required may fail by now, or hang.
    #[tokio::test]
    async fn files_are_put_back_without_filters_after_the_host_was_killed() {
        let (person, git, step) = stepped().await;
        drop(replaced(&git, &step).await.unwrap());
        let filter = |name: &str, value: &str| {
            person.git(&["config", &format!("filter.late.{name}"), value]);
        };
        for (name, value) in [
            ("clean", "false"),
            ("smudge", "false"),
            ("required", "true"),
        ] {
            filter(name, value);
        }
        let back = git.put_back_noted(&step.note).await.unwrap();
        assert_eq!(back, Some(PutBack::Done));
        assert!(git.drop_left_aside(&step.note).await.unwrap().is_none());
        for name in ["clean", "smudge"] {
            filter(name, "cat");
        }
        check_old_files(&person);
        assert!(!person.work().join("dir").exists());
        check_unchanged(&person);
        assert_eq!(left(&person), 0);
    }

    /// Otherwise the index would stay locked.
    #[tokio::test]
    async fn files_are_put_back_although_their_note_is_lost_in_a_power_cut() {
        let (person, git, step) = stepped().await;
        let replacing = replaced(&git, &step).await.unwrap();
        fs::write(replacing.aside.dir.join(NOTE), "").unwrap();
        drop(replacing);
        let back = git.put_back_noted(&step.note).await.unwrap();
        assert_eq!(back, Some(PutBack::Done));
        assert!(git.drop_left_aside(&step.note).await.unwrap().is_none());
        check_old_files(&person);
        check_unchanged(&person);
        assert_eq!(left(&person), 1, "nobody knows what is in the directory");
    }

    /// Git may refuse to work there, for example because of the owner of the files.
    #[tokio::test]
    async fn a_checkout_in_which_git_fails_does_not_count_as_removed() {
        let person = Person::with_repository("");
        let note = step(&person, "true").await.note;
        let script = "case \"$*\" in *rev-parse*) echo no >&2; exit 128;; esac\ngit \"$@\"\n";
        let git = with_script(&person, script);
        let failed = git.has_lock_of(&note).await;
        assert!(matches!(failed, Err(GitError::Failed { .. })), "{failed:?}");
        fs::remove_dir_all(person.work()).unwrap();
        assert!(!git.has_lock_of(&note).await.unwrap());
    }

    /// The host may be killed after it has replaced only some of the files.
    #[tokio::test]
    async fn only_the_files_that_a_killed_host_had_replaced_are_put_back() {
        let (person, git, step) = stepped().await;
        let replacing = replaced(&git, &step).await.unwrap();
        let aside = replacing.aside.dir.join(FILES);
        drop(replacing);
        // The state before the last file was replaced.
        let (here, there) = (person.work().join("watched"), aside.join("watched"));
        let between = person.home().join("between");
        for (from, to) in [(&here, &between), (&there, &here), (&between, &there)] {
            fs::rename(from, to).unwrap();
        }
        let back = git.put_back_noted(&step.note).await.unwrap();
        assert_eq!(back, Some(PutBack::Done));
        assert!(git.drop_left_aside(&step.note).await.unwrap().is_none());
        check_old_files(&person);
        assert_eq!(person.git(&["status", "--porcelain"]), "");
        assert_eq!(left(&person), 0);
    }

    /// A message would otherwise name files in which nothing of the step is left.
    #[tokio::test]
    async fn what_a_person_has_committed_or_removed_is_not_left_of_a_step_to_a_deleted_commit() {
        let (person, git, step) = stepped().await;
        drop(replaced(&git, &step).await.unwrap());
        fs::remove_file(person.work().join(".git/index.lock")).unwrap();
        person.git(&["commit", "-q", "-m", "mine", "file"]);
        fs::remove_file(person.work().join("dir/new")).unwrap();
        person.git(&["update-ref", "-d", "ORIG_HEAD"]);
        person.git(&["reflog", "expire", "--expire=now", "--all"]);
        person.git(&["prune", "--expire=now"]);
        let back = git.put_back_without_new(&step.note).await.unwrap();
        assert_eq!(back, Some(PutBack::Done));
        assert_eq!(person.git(&["status", "--porcelain"]), "");
        assert_eq!(read(&person, "file"), "two\n");
        for path in ["gone", "watched"] {
            assert_eq!(read(&person, path), "one\n", "{path}");
        }
    }

    #[tokio::test]
    async fn a_checkout_whose_branch_does_not_move_is_known_to_be_as_before() {
        for edit in [None, Some("mine\n")] {
            let person = Person::with_repository("");
            let step = step(&person, "true").await;
            let file = person.work().join("file");
            let edits = edit.map_or(String::new(), |_| {
                format!("echo mine > '{}';", file.display())
            });
            let script = format!(
                "case \"$*\" in *--ff-only*) {edits} echo no >&2; exit 1;; esac\ngit \"$@\"\n"
            );
            let git = with_script(&person, &script);
            let updated = git.update_checkout(&BranchRef::named("main"), &step).await;
            assert!(matches!(updated.result, Err(GitError::Failed { .. })));
            let after = edit.map_or(After::AsBefore, |_| After::Replaced);
            assert_eq!(updated.after, after);
            assert_eq!(read(&person, "file"), edit.unwrap_or("one\n"));
            assert_eq!(read(&person, "gone"), "one\n");
            assert!(!is_locked(&person));
        }
    }

    #[tokio::test]
    async fn files_are_put_back_on_another_branch_after_the_host_was_killed() {
        let (person, git, step) = stepped().await;
        drop(replaced(&git, &step).await.unwrap());
        person.git(&["switch", "-q", "-c", "other"]);
        person.write("watched", "mine\n");
        let back = git.put_back_noted(&step.note).await.unwrap();
        let left = PutBack::Left {
            changed: Vec::new(),
            other: vec!["watched".to_owned()],
        };
        assert_eq!(back, Some(left));
        assert_eq!(person.git(&["status", "--porcelain"]), "M watched");
        assert!(!is_locked(&person));
    }

    /// The host is killed before or after it has replaced the index.
    #[tokio::test]
    async fn a_step_is_finished_if_the_host_was_killed_after_the_branch_had_moved() {
        for has_new_index in [true, false] {
            let (person, git, step) = stepped().await;
            let replacing = replaced(&git, &step).await.unwrap();
            fast_forward(&git, &replacing).await.unwrap();
            if has_new_index {
                let index = person.work().join(".git/index");
                fs::rename(replacing.aside.dir.join(INDEX), index).unwrap();
            }
            drop(replacing);
            assert_eq!(git.put_back_noted(&step.note).await.unwrap(), None);
            assert_eq!(left(&person), 1);
            let late = git.drop_left_aside(&step.note).await.unwrap();
            assert!(late.is_none());
            assert_eq!(left(&person), 0);
            assert_eq!(read(&person, "dir/new"), "two\n");
            check_unchanged(&person);
        }
    }

    /// Otherwise the person's next commit would undo the step.
    #[tokio::test]
    async fn a_step_is_finished_without_the_lock_except_for_what_a_person_has_staged() {
        let (person, git, step) = stepped().await;
        let replacing = replaced(&git, &step).await.unwrap();
        fast_forward(&git, &replacing).await.unwrap();
        drop(replacing);
        fs::remove_file(person.work().join(".git/index.lock")).unwrap();
        for path in ["file", "other"] {
            person.write(path, "mine\n");
            person.git(&["add", path]);
        }
        git.finish_noted(&step.note).await.unwrap();
        let status = || person.git(&["status", "--porcelain"]);
        assert_eq!(status(), "M  file\nA  other");
        assert!(!is_locked(&person));

        // A person stages an old file once the step is finished.
        assert!(git.drop_left_aside(&step.note).await.unwrap().is_none());
        person.git(&["reset", "-q", step.note.old.hash(), "--", "watched"]);
        let before = status();
        assert!(before.contains("MM watched"), "{before}");
        git.finish_noted(&step.note).await.unwrap();
        assert_eq!(status(), before);
    }

    #[tokio::test]
    async fn files_are_replaced_although_git_is_configured_not_to_refresh_an_index() {
        let person = Person::with_repository("[diff]\n\tautoRefreshIndex = false\n");
        let step = step(&person, "true").await;
        assert!(replaced(&person.at("."), &step).await.is_some());
    }

    /// To read all files of a large checkout takes minutes.
    #[tokio::test]
    async fn only_the_files_of_the_step_are_read() {
        let person = Person::with_repository("");
        person.git(&["config", "filter.noted.clean", "echo >> ../read; cat"]);
        person.write(".gitattributes", "other filter=noted\n");
        person.write("file", "one\n");
        person.write("other", "one\n");
        person.commit_all("first");
        let old = person.commit("HEAD").await;
        person.write("file", "two\n");
        person.commit_all("second");
        let new = person.commit("HEAD").await;
        person.git(&["reset", "-q", "--hard", old.hash()]);
        // Git reads a file again if the index is not newer.
        let other = fs::File::open(person.work().join("other")).unwrap();
        let long_ago = std::time::UNIX_EPOCH + Duration::from_secs(1);
        other.set_modified(long_ago).unwrap();
        person.git(&["status"]);
        let noted = person.home().join("read");
        fs::remove_file(&noted).unwrap();
        let git = person.at(".");
        let step = git.step(&old, &new).await.unwrap();
        assert!(replaced(&git, &step).await.is_some());
        assert!(!noted.exists());
    }

    #[tokio::test]
    async fn attributes_that_are_in_no_commit_apply_to_replaced_files() {
        let person = Person::with_repository("");
        let step = step(&person, "true").await;
        person.write("dir/.gitattributes", "* text eol=crlf\n");
        assert!(replaced(&person.at("."), &step).await.is_some());
        assert_eq!(read(&person, "dir/new"), "two\r\n");
    }

    /// The step from a commit with `before` in `.gitattributes` to a commit with `after` in it.
    async fn step_with_attributes(person: &Person, before: &str, after: &str) -> Step {
        person.write("file", "one\n");
        person.write(".gitattributes", before);
        person.commit_all("first");
        let old = person.commit("HEAD").await;
        person.write("file", "two\n");
        person.write(".gitattributes", after);
        person.commit_all("second");
        let new = person.commit("HEAD").await;
        person.git(&["reset", "-q", "--hard", old.hash()]);
        person.at(".").step(&old, &new).await.unwrap()
    }

    #[tokio::test]
    async fn files_are_left_to_git_if_attributes_change_with_them() {
        let person = Person::with_repository("");
        let step = step_with_attributes(&person, "", "file text eol=crlf\n").await;
        let git = person.at(".");
        assert!(replaced(&git, &step).await.is_none());
        let main = BranchRef::named("main");
        git.fast_forward(&main, &step.note.old, &step.note.new)
            .await
            .unwrap();
        assert_eq!(read(&person, "file"), "two\r\n");
    }

    /// Git reads the committed attributes when it writes a file.
    #[tokio::test]
    async fn files_are_left_to_git_if_it_was_told_to_ignore_a_change_of_attributes() {
        let person = Person::with_repository("");
        let step = step_with_attributes(&person, "\n", "\n").await;
        person.git(&["update-index", "--assume-unchanged", ".gitattributes"]);
        person.write(".gitattributes", "file text eol=crlf\n");
        let git = person.at(".");
        assert!(replaced(&git, &step).await.is_none());
        let main = BranchRef::named("main");
        git.fast_forward(&main, &step.note.old, &step.note.new)
            .await
            .unwrap();
        assert_eq!(read(&person, "file"), "two\n");
    }

    /// The step from a commit with the text one in `file` to a commit with the text two, through
    /// this filter.
    async fn step_with_filter(person: &Person, clean: &str, smudge: &str) -> Step {
        person.git(&["config", "filter.own.clean", clean]);
        person.git(&["config", "filter.own.smudge", smudge]);
        person.write(".gitattributes", "file filter=own\n");
        person.write("head", "head\n");
        person.write("file", "head\none\n");
        person.commit_all("first");
        let old = person.commit("HEAD").await;
        person.write("file", "head\ntwo\n");
        person.commit_all("second");
        let new = person.commit("HEAD").await;
        person.git(&["reset", "-q", "--hard", old.hash()]);
        person.at(".").step(&old, &new).await.unwrap()
    }

    #[tokio::test]
    async fn a_filter_reads_the_files_of_the_checkout() {
        let person = Person::with_repository("");
        let smudge = "if test -e head; then cat head; fi; cat";
        let step = step_with_filter(&person, "sed 1d", smudge).await;
        assert!(replaced(&person.at("."), &step).await.is_some());
        assert_eq!(read(&person, "file"), "head\ntwo\n");
    }

    #[tokio::test]
    async fn a_file_is_left_to_git_if_a_filter_fails_that_is_not_required() {
        let person = Person::with_repository("");
        let smudge = "if mkdir ../once; then exit 1; fi; cat";
        let step = step_with_filter(&person, "cat", "cat").await;
        person.git(&["config", "filter.own.smudge", smudge]);
        let git = person.at(".");
        assert!(replaced(&git, &step).await.is_none());
        assert_eq!(left(&person), 0);
        let main = BranchRef::named("main");
        git.fast_forward(&main, &step.note.old, &step.note.new)
            .await
            .unwrap();
        assert_eq!(read(&person, "file"), "head\ntwo\n");
    }

    /// Git itself would remove the old file before it runs the filter once more.
    #[tokio::test]
    async fn a_checkout_is_not_updated_if_a_filter_fails_that_is_required() {
        let person = Person::with_repository("");
        let step = step_with_filter(&person, "cat", "cat").await;
        let smudge = "seq 1000 >&2; echo why >&2; exit 1";
        person.git(&["config", "filter.own.smudge", smudge]);
        person.git(&["config", "filter.own.required", "true"]);
        let git = person.at(".");
        let updated = git.update_checkout(&BranchRef::named("main"), &step).await;
        assert_eq!(updated.after, After::Untouched);
        assert!(updated.aside.is_none());
        let error = updated.result.unwrap_err();
        assert!(matches!(error, GitError::FilterFailed { .. }), "{error}");
        let text = error.to_string();
        for says in ["why error: external filter", "smudge filter own failed; "] {
            assert!(text.contains(says), "{text}");
        }
        assert_eq!(person.commit("main").await, step.note.old);
        assert_eq!(read(&person, "file"), "head\none\n");
        check_unchanged(&person);
        assert_eq!(left(&person), 0);
    }

    #[test]
    fn only_the_failure_of_a_filter_that_is_required_is_taken_for_one() {
        let is_filters = |said: &str| failed_filter(said.as_bytes()).is_some();
        assert!(is_filters(
            "why\nerror: external filter 'x' failed 1\nfatal: file: smudge filter own failed\n"
        ));
        assert!(!is_filters("error: external filter 'x' failed 1\n"));
        assert!(!is_filters(
            "No space left on device\nfatal: file: smudge filter own failed\n"
        ));
    }

    /// Git is told not to look at the file.
    #[tokio::test]
    async fn a_change_that_git_was_told_to_ignore_is_not_replaced() {
        let person = Person::with_repository("");
        let step = step(&person, "true").await;
        person.git(&["update-index", "--assume-unchanged", "file"]);
        person.write("file", "mine\n");
        assert!(replaced(&person.at("."), &step).await.is_none());
        assert_eq!(read(&person, "file"), "mine\n");
    }
}

//! Undoes an update of a checkout that a killed host has left half-way, even after a person has
//! gone on there: has removed the lock of the index, and has then committed or staged something.
//! Each file is looked at separately. Only files with exactly the contents that the update has
//! written are put back, and only if HEAD has them as before the update.

use std::{collections::BTreeSet, io};

use super::{
    Commit, Git, GitError, Operation,
    aside::FILES,
    index::OtherIndex,
    place::common_dir_of,
    put_back::{Changed, PutBack, Step, StepNote, is_free, is_there, put_back_except},
    spec::{FILES_MAX, LONG, Spec, literal},
    swap::Swaps,
    unusable,
};
use crate::fsx;

/// A checkout in which some files are those of an interrupted update, although a person has gone on
/// there.
pub(crate) struct HalfWay {
    step: Step,
    head: Commit,
    /// The paths that a person has committed since the update began, or that another branch has
    /// otherwise.
    committed: BTreeSet<String>,
    /// The paths that are not put back: those in `committed`, and those of which a person has
    /// staged something else.
    foreign: BTreeSet<String>,
    /// The files to be put back in the index.
    staged: Vec<String>,
    /// Whether a person has begun a merge, a rebase or the like, which has to end first.
    is_open: bool,
}

impl Git {
    /// Puts back the files that a killed host had replaced in the noted step, without git and its
    /// filters. Returns whether there were such files.
    pub(super) async fn undo_left(&self, note: &StepNote) -> Result<bool, GitError> {
        self.undo_left_except(note, BTreeSet::new()).await
    }

    /// Does the same as [`Self::undo_left`], without the files at these paths.
    async fn undo_left_except(
        &self,
        note: &StepNote,
        foreign: BTreeSet<String>,
    ) -> Result<bool, GitError> {
        let undo = move |swaps: &Swaps| swaps.undo_left(|path| !foreign.contains(path));
        Ok(self.left_swaps(note, undo).await?.unwrap_or_default())
    }

    /// Whether all files that a killed host had replaced in the noted step are in their places.
    /// False if that host has noted nothing.
    pub(super) async fn is_undone(&self, note: &StepNote) -> Result<bool, GitError> {
        Ok(self
            .left_swaps(note, Swaps::is_undone)
            .await?
            .unwrap_or_default())
    }

    /// Looks at the files that a killed host had replaced in the noted step. Returns `None` if that
    /// host has noted nothing.
    async fn left_swaps<T: Send + 'static>(
        &self,
        note: &StepNote,
        look: impl FnOnce(&Swaps) -> T + Send + 'static,
    ) -> Result<Option<T>, GitError> {
        // Older hosts have noted no name.
        if note.aside.is_empty() {
            return Ok(None);
        }
        let git_dir = self.git_dir().await?;
        let looked = self.look_at_files({
            let (git_dir, name) = (git_dir.clone(), note.aside.clone());
            move |top| -> io::Result<Option<T>> {
                let aside = common_dir_of(&git_dir)?.join(name).join(FILES);
                Ok(Swaps::noted(top, &aside)?.map(|swaps| look(&swaps)))
            }
        });
        looked.await?.map_err(unusable(&git_dir))
    }

    /// Looks whether files here are those of the noted step, although HEAD or the index is no
    /// longer as before it. Returns `None` if no file is, if HEAD has the new commit, if one of the
    /// two commits no longer exists, or if a person has squashed a merge here. Must be called only
    /// if nobody has left a lock of the index for the step.
    pub(crate) async fn half_way(&self, note: &StepNote) -> Result<Option<HalfWay>, GitError> {
        let Some(head) = self.commit_of("HEAD").await? else {
            return Ok(None);
        };
        let git_dir = self.git_dir().await?;
        let (is_open, is_squashed) = self
            .look_at_files(move |_| {
                let is_open = Operation::open_in(&git_dir).is_some();
                (is_open, !fsx::is_missing(&git_dir.join("SQUASH_MSG")))
            })
            .await?;
        if is_squashed
            || self.commit_of(note.old.hash()).await?.is_none()
            || self.commit_of(note.new.hash()).await?.is_none()
            || self.is_ancestor(&note.new, &head).await?
        {
            return Ok(None);
        }
        let step = self.noted_step(note).await?;
        let committed = self.paths_between(&note.old, &head).await?;
        let not_as_old = self.changed_in_index(&note.old).await?;
        let mut foreign = committed.clone();
        if is_open {
            // The operation itself may have staged the same contents.
            foreign.extend(not_as_old.iter().cloned());
        } else {
            let not_as_new = self.changed_in_index(&note.new).await?;
            foreign.extend(not_as_old.intersection(&not_as_new).cloned());
        }
        let staged = step.files.iter().map(|file| &file.path);
        let staged = staged.filter(|path| not_as_old.contains(*path) && !foreign.contains(*path));
        let half = HalfWay {
            staged: staged.cloned().collect(),
            step,
            head,
            committed,
            foreign,
            is_open,
        };
        Ok(self.is_half_way_after(&half).await?.then_some(half))
    }

    /// Whether a file of the step was written or put aside here, and is not as in HEAD. Otherwise
    /// a person may have removed the files that are missing.
    async fn is_half_way_after(&self, half: &HalfWay) -> Result<bool, GitError> {
        let HalfWay { step, head, .. } = half;
        let other = self.not_as_new(step).await?;
        let has_new = self.has_new_file(step, head, &other).await?;
        if has_new && !half.is_open {
            return Ok(true);
        }
        let is_begun = has_new || step.note.has_failed || self.has_put_aside(step).await?;
        Ok(is_begun && (!half.staged.is_empty() || !self.left_of(half, &other).await?.is_empty()))
    }

    /// The files here that the step has written or removed and that are to be put back. `other` are
    /// those that exist and differ from the new commit.
    async fn left_of(
        &self,
        half: &HalfWay,
        other: &BTreeSet<String>,
    ) -> Result<Vec<Changed>, GitError> {
        let HalfWay { step, foreign, .. } = half;
        let is_own = |path: &String| !foreign.contains(path) && !other.contains(path);
        let files = step.files.iter().filter(|file| is_own(&file.path));
        let files: Vec<Changed> = files.cloned().collect();
        let old = files.iter().filter(|file| file.in_old);
        let old: Vec<String> = old.map(|file| file.path.clone()).collect();
        let fresh = OtherIndex::new(&self.git_dir().await?);
        let differing = self.differing(fresh.path(), &step.note.old, &old).await?;
        let left_out = self.left_out().await?;
        self.look_at_files(move |top| {
            let differs = |file: &Changed| {
                let is_there = is_there(&top.join(&file.path));
                if file.in_old {
                    let is_left_out = !is_there && left_out.contains(&file.path);
                    differing.contains(&file.path) && !is_left_out
                } else {
                    is_there
                }
            };
            files.into_iter().filter(differs).collect()
        })
        .await
    }

    /// The files that a sparse checkout leaves out.
    async fn left_out(&self) -> Result<BTreeSet<String>, GitError> {
        let listed = self.files_listed(Spec::reads(["ls-files", "-t", "-z"]));
        let listed = listed.await?.into_iter();
        // Each name comes after a letter.
        let left_out = listed.filter_map(|entry| entry.strip_prefix("S ").map(str::to_owned));
        Ok(left_out.collect())
    }

    /// Puts back the files of an interrupted update, here and in the index, as they are in HEAD.
    /// Changes nothing while a merge, a rebase or the like is open.
    pub(crate) async fn put_back_each(&self, half: &HalfWay) -> Result<PutBack, GitError> {
        let HalfWay {
            step,
            head,
            foreign,
            ..
        } = half;
        if half.is_open {
            let other = self.not_as_new(step).await?;
            let left = self.left_of(half, &other).await?.into_iter();
            return Ok(PutBack::Left {
                changed: left.map(|file| file.path).collect(),
                other: Vec::new(),
            });
        }
        for some in half.staged.chunks(FILES_MAX) {
            let spec = Spec::changes(["reset", "--quiet", head.hash(), "--"]);
            let spec = some.iter().fold(spec, |spec, path| spec.arg(literal(path)));
            self.change(&spec.limit(LONG)).await?;
        }
        self.undo_left_except(&step.note, foreign.clone()).await?;
        let other = self.not_as_new(step).await?;
        self.restore(self.left_of(half, &other).await?).await?;
        let left = self.not_as(step, head, half.committed.clone()).await?;
        if left.is_empty() {
            return Ok(PutBack::Done);
        }
        let left = left.into_iter().map(|file| file.path);
        let foreign = foreign.clone();
        let (other, changed) = self
            .look_at_files(move |top| {
                let is_other = |path: &String| {
                    other.contains(path) || foreign.contains(path) || !is_free(top, path)
                };
                left.partition(is_other)
            })
            .await?;
        Ok(PutBack::Left { changed, other })
    }

    /// Puts back the files that a killed host had replaced in the noted step, if git has deleted
    /// the new commit meanwhile. Returns `None` if the commit exists, or if no file is known to be
    /// replaced: if git itself was writing the files, nothing else shows which of them it has
    /// written.
    pub(crate) async fn put_back_without_new(
        &self,
        note: &StepNote,
    ) -> Result<Option<PutBack>, GitError> {
        if self.commit_of(note.new.hash()).await?.is_some() {
            return Ok(None);
        }
        let (Some(head), Some(_)) = (
            self.commit_of("HEAD").await?,
            self.commit_of(note.old.hash()).await?,
        ) else {
            return Ok(None);
        };
        let replaced = self.left_swaps(note, Swaps::replaced).await?;
        if replaced.is_none_or(|replaced| replaced.is_empty()) {
            return Ok(None);
        }
        let committed = self.paths_between(&note.old, &head).await?;
        let mut foreign = committed.clone();
        foreign.extend(self.changed_in_index(&note.old).await?);
        self.undo_left_except(note, foreign).await?;
        let left = self.left_swaps(note, Swaps::replaced).await?;
        let left = left.unwrap_or_default().into_iter();
        let left = left.filter(|path| !committed.contains(path));
        Ok(Some(put_back_except(left.collect())))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::fs;

    use super::*;
    use crate::git::tests::Person;

    /// A step that git has stopped after it has written all files, before it has changed the index.
    async fn cut_off(person: &Person) -> StepNote {
        for path in ["changed", "gone", "same"] {
            person.write(path, "one\n");
        }
        person.commit_all("first");
        let old = person.commit("HEAD").await;
        for path in ["added", "changed"] {
            person.write(path, "two\n");
        }
        person.git(&["rm", "-q", "gone"]);
        person.commit_all("second");
        let new = person.commit("HEAD").await;
        person.git(&["reset", "-q", "--hard", old.hash()]);
        let step = person.at(".").step(&old, &new).await.unwrap();
        person.git(&["read-tree", "-m", "-u", old.hash(), new.hash()]);
        person.git(&["read-tree", old.hash()]);
        step.note
    }

    /// Puts the files back; `None` if there is nothing to put back.
    async fn back(person: &Person, note: &StepNote) -> Option<PutBack> {
        let git = person.at(".");
        let half = git.half_way(note).await.unwrap()?;
        Some(git.put_back_each(&half).await.unwrap())
    }

    fn status(person: &Person) -> String {
        person.git(&["status", "--porcelain"])
    }

    fn read(person: &Person, path: &str) -> String {
        fs::read_to_string(person.work().join(path)).unwrap_or_default()
    }

    #[tokio::test]
    async fn an_update_is_put_back_except_for_what_a_person_has_committed() {
        let person = Person::with_repository("");
        let note = cut_off(&person).await;
        person.git(&["commit", "-q", "-m", "mine", "changed"]);
        assert_eq!(back(&person, &note).await, Some(PutBack::Done));
        assert_eq!(status(&person), "");
        assert_eq!(read(&person, "changed"), "two\n");
        assert_eq!(read(&person, "gone"), "one\n");
        assert!(!person.work().join("added").exists());
        assert_eq!(back(&person, &note).await, None);
    }

    #[tokio::test]
    async fn an_update_that_a_person_has_committed_or_squashed_is_not_put_back() {
        let person = Person::with_repository("");
        let note = cut_off(&person).await;
        person.write(".git/SQUASH_MSG", "");
        assert_eq!(back(&person, &note).await, None);
        fs::remove_file(person.work().join(".git/SQUASH_MSG")).unwrap();
        person.commit_all("mine");
        assert_eq!(back(&person, &note).await, None);
        person.git(&["reset", "-q", "--hard", note.new.hash()]);
        person.write("changed", "one\n");
        assert_eq!(back(&person, &note).await, None);
        assert_eq!(status(&person), "M changed");
    }

    /// The content that a person has staged is nowhere else.
    #[tokio::test]
    async fn a_file_of_which_a_person_has_staged_something_else_is_not_put_back() {
        let person = Person::with_repository("");
        let note = cut_off(&person).await;
        person.write("changed", "mine\n");
        person.git(&["add", "changed"]);
        person.write("changed", "two\n");
        let left = PutBack::Left {
            changed: Vec::new(),
            other: vec!["changed".to_owned()],
        };
        assert_eq!(back(&person, &note).await, Some(left));
        assert_eq!(status(&person), "MM changed");
        assert_eq!(person.git(&["show", ":changed"]), "mine");
    }

    #[tokio::test]
    async fn the_files_of_an_update_are_named_and_left_while_an_operation_is_open() {
        let person = Person::with_repository("");
        let note = cut_off(&person).await;
        let before = status(&person);
        let operation = person.work().join(".git/MERGE_HEAD");
        fs::write(&operation, format!("{}\n", note.old.hash())).unwrap();
        let left = PutBack::Left {
            changed: ["added", "changed", "gone"].map(str::to_owned).to_vec(),
            other: Vec::new(),
        };
        assert_eq!(back(&person, &note).await, Some(left));
        assert_eq!(status(&person), before);
        // The operation itself may have staged them.
        person.git(&["add", "-A"]);
        assert_eq!(back(&person, &note).await, None);
        fs::remove_file(&operation).unwrap();
        assert_eq!(back(&person, &note).await, Some(PutBack::Done));
        assert_eq!(status(&person), "");
    }

    #[tokio::test]
    async fn a_file_that_a_sparse_checkout_leaves_out_is_neither_named_nor_written() {
        let person = Person::with_repository("");
        let note = cut_off(&person).await;
        person.git(&["update-index", "--skip-worktree", "gone"]);
        let operation = person.work().join(".git/MERGE_HEAD");
        fs::write(&operation, format!("{}\n", note.old.hash())).unwrap();
        let left = PutBack::Left {
            changed: ["added", "changed"].map(str::to_owned).to_vec(),
            other: Vec::new(),
        };
        assert_eq!(back(&person, &note).await, Some(left));
        fs::remove_file(&operation).unwrap();
        assert_eq!(back(&person, &note).await, Some(PutBack::Done));
        assert_eq!(read(&person, "gone"), "");
        assert_eq!(status(&person), "");
    }

    #[tokio::test]
    async fn a_file_that_a_person_has_removed_stays_removed_unless_git_is_known_to_have_failed() {
        let person = Person::with_repository("");
        let note = cut_off(&person).await;
        person.git(&["reset", "-q", "--hard"]);
        fs::remove_file(person.work().join("added")).unwrap();
        person.git(&["commit", "-q", "--allow-empty", "-m", "mine"]);
        fs::remove_file(person.work().join("gone")).unwrap();
        assert_eq!(back(&person, &note).await, None);
        assert_eq!(status(&person), "D gone");
        let mut failed = note;
        failed.has_failed = true;
        assert_eq!(back(&person, &failed).await, Some(PutBack::Done));
        assert_eq!(status(&person), "");
    }
}

//! Updates the files of a checkout to a later commit. Git checks the files before it writes the
//! first of them, and overwrites a file that a person saves after that. So the new files are first
//! written elsewhere, and then exchanged for the old ones, one by one.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    Commit, Git, GitError,
    aside::{FILES, keep, make_aside},
    failed,
    put_back::{Step, StepNote},
    spec::{FILES_MAX, LONG, Spec, literal},
    swap::Swaps,
};
use crate::fsx;

/// The name of the files with attributes of other files.
const ATTRIBUTES: &str = ".gitattributes";

/// How long a git that somebody has started at the same moment is awaited.
const OTHERS_WITHIN: Duration = Duration::from_secs(5);

/// The files of a step that were replaced, while HEAD is still at the old commit.
pub(crate) struct Replaced {
    note: StepNote,
    swaps: Swaps,
    /// The directory that has the old files. It is removed only by [`close`], so that it stays if
    /// the host ends before that.
    aside: PathBuf,
}

/// Changes of files that were not in their places, because they were replaced.
pub(crate) struct Late {
    pub(crate) files: Vec<String>,
    /// The directory that has the changed files.
    pub(crate) kept: PathBuf,
}

impl Git {
    /// Replaces the files of a step here, and the index. Returns `None`, and changes nothing, if
    /// this is not possible, or if somebody changes one of the files meanwhile. Then git itself can
    /// update the checkout, or says why it cannot. Fails only if files that somebody has changed
    /// could not be put back.
    pub(crate) async fn replace_files(&self, step: &Step) -> Result<Option<Replaced>, GitError> {
        match self.try_to_replace(step).await {
            Err(error) if !matches!(error, GitError::NotPutBack { .. }) => {
                tracing::info!(
                    path = %self.dir().display(), %error,
                    "the files of a checkout are left to git"
                );
                Ok(None)
            }
            replaced => replaced,
        }
    }

    async fn try_to_replace(&self, step: &Step) -> Result<Option<Replaced>, GitError> {
        if !step.is_of_separate_files() || changes_attributes(step) || self.folds_case().await? {
            return Ok(None);
        }
        let git_dir = self.git_dir().await?;
        // In a sparse checkout, git leaves out some of the files.
        let sparse = git_dir.join("info/sparse-checkout");
        let aside = self.look_at_files({
            let (git_dir, name) = (git_dir.clone(), step.note.aside.clone());
            move |_| fsx::is_missing(&sparse).then(|| make_aside(&git_dir, &name))
        });
        let Some(aside) = aside.await?.transpose().map_err(unusable(&git_dir))? else {
            return Ok(None);
        };
        self.write_new(aside.path(), step).await?;
        let swaps = self.look_at_files({
            let (files, new) = (step.files.clone(), aside.path().join(FILES));
            move |top| Swaps::new(top, &new, &files)
        });
        let Some(mut swaps) = swaps.await?.map_err(unusable(&git_dir))? else {
            return Ok(None);
        };
        // The files are compared after the look at them, so that each later change is noticed.
        if self.has_other_than_old(aside.path(), step).await? {
            return Ok(None);
        }
        // A git that works here could take the new files for changes of the person.
        let lock = git_dir.join("index.lock");
        // This is not interrupted even if nobody waits for it any more.
        let swapped = self.look_at_files(move |_| {
            if fsx::is_taken(&lock) {
                return (Ok(None), None);
            }
            let aside = aside.keep();
            match swaps.swap_all() {
                Ok(()) => (Ok(Some((swaps, aside))), None),
                Err(error) => (Err(error), close(&swaps, aside)),
            }
        });
        let (swapped, late) = swapped.await?;
        refuse_late(late)?;
        let Some((swaps, aside)) = swapped.map_err(unusable(&git_dir))? else {
            return Ok(None);
        };
        let replaced = Replaced {
            note: step.note.clone(),
            swaps,
            aside,
        };
        let StepNote { old, new, .. } = &step.note;
        let spec = index_from(old, new);
        let finished = self.run(&spec).await;
        if finished.as_ref().is_ok_and(|it| it.status.success()) {
            return Ok(Some(replaced));
        }
        // A git that was killed may have changed the index.
        self.put_files_back(replaced, finished.is_err()).await?;
        Err(failed(&spec, &finished?))
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
                return Err(failed(&spec, &finished));
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

    /// Removes the old files after a step, unless a program that had opened one of them before has
    /// changed it since.
    pub(crate) async fn drop_old_files(
        &self,
        replaced: Replaced,
    ) -> Result<Option<Late>, GitError> {
        let Replaced { swaps, aside, .. } = replaced;
        self.look_at_files(move |_| {
            swaps.remove_emptied();
            close(&swaps, aside)
        })
        .await
    }

    /// Undoes [`Self::replace_files`]. If somebody has just committed here, or has gone to another
    /// branch, the files that have changed with HEAD stay. Fails, among others, if files that
    /// somebody has changed could not be put back.
    pub(crate) async fn undo_replacing(&self, replaced: Replaced) -> Result<(), GitError> {
        self.put_files_back(replaced, true).await
    }

    async fn put_files_back(&self, replaced: Replaced, with_index: bool) -> Result<(), GitError> {
        self.wait_while_locked(OTHERS_WITHIN).await?;
        let Replaced {
            note,
            mut swaps,
            aside,
        } = replaced;
        let StepNote { old, new, .. } = note;
        let moved = self.commit_of("HEAD").await?.filter(|head| *head != old);
        let kept: BTreeSet<String> = match &moved {
            Some(head) => {
                let entries = self.entries_between(old.hash(), head.hash()).await?;
                entries.into_iter().map(|entry| entry.path).collect()
            }
            None => BTreeSet::new(),
        };
        let paths = swaps.paths().filter(|path| !kept.contains(*path));
        let paths: Vec<String> = paths.map(literal).collect();
        let late = self.look_at_files(move |_| {
            swaps.undo(&kept);
            swaps.remove_emptied();
            close(&swaps, aside)
        });
        let late = late.await?;
        if with_index {
            let back = if moved.is_some() {
                self.unstage(&paths).await
            } else {
                self.change(&index_from(&new, &old)).await.map(drop)
            };
            if let Err(error) = back {
                tracing::warn!(
                    checkout = %self.dir().display(), %error,
                    "the index of a checkout cannot be put back"
                );
            }
        }
        refuse_late(late)
    }

    /// Gives the files at these pathspecs the entries of HEAD in the index.
    async fn unstage(&self, paths: &[String]) -> Result<(), GitError> {
        for some in paths.chunks(FILES_MAX) {
            let spec = Spec::changes(["reset", "--quiet", "--"]);
            let spec = some.iter().fold(spec, Spec::arg);
            self.change(&spec.limit(LONG)).await?;
        }
        Ok(())
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

/// Whether a step changes attributes. Git itself applies the new ones, but while the old files are
/// still in their places, the old ones apply.
fn changes_attributes(step: &Step) -> bool {
    let mut paths = step.files.iter().map(|file| Path::new(&file.path));
    paths.any(|path| path.ends_with(ATTRIBUTES))
}

fn reports_errors(stderr: &[u8]) -> bool {
    let said = String::from_utf8_lossy(stderr);
    said.lines().any(|line| line.starts_with("error: "))
}

/// The command that changes only the index, from one commit to another.
fn index_from(old: &Commit, new: &Commit) -> Spec {
    let spec = Spec::changes(["read-tree", "-m", "-i"]);
    spec.arg(old.hash()).arg(new.hash()).limit(LONG)
}

fn unusable(path: &Path) -> impl FnOnce(io::Error) -> GitError {
    let path = path.to_owned();
    move |source| GitError::Read { path, source }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::{
        fs,
        os::unix::fs::{MetadataExt, PermissionsExt},
    };

    use super::*;
    use crate::git::{BranchRef, PutBack, aside, tests::Person};

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

    fn read(person: &Person, path: &str) -> String {
        fs::read_to_string(person.work().join(path)).unwrap_or_default()
    }

    /// The directories for files that are not in their places.
    fn left(person: &Person) -> usize {
        let entries = fsx::entries(&person.work().join(".git")).unwrap();
        let names = entries.iter().filter_map(|path| path.file_name()?.to_str());
        names
            .filter(|name| name.starts_with("claudine.files."))
            .count()
    }

    #[tokio::test]
    async fn files_and_index_are_replaced_before_the_branch_moves() {
        let person = Person::with_repository("");
        let step = step(&person, "true").await;
        let git = person.at(".");
        let replaced = git.replace_files(&step).await.unwrap().unwrap();
        let diff = ["diff", "--cached", "--name-only", step.note.new.hash()];
        assert_eq!(person.git(&diff), "");
        assert_eq!(read(&person, "dir/new"), "two\n");
        git.undo_replacing(replaced).await.unwrap();
        assert_eq!(person.git(&["status", "--porcelain"]), "");
        assert!(!person.work().join("dir").exists());

        let replaced = git.replace_files(&step).await.unwrap().unwrap();
        let main = BranchRef::named("main");
        git.fast_forward(&main, &step.note.new).await.unwrap();
        git.drop_old_files(replaced).await.unwrap();
        assert_eq!(person.git(&["status", "--porcelain"]), "");
        assert_eq!(person.commit("main").await, step.note.new);
        assert_eq!(left(&person), 0);
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
            assert!(
                git.replace_files(&step).await.unwrap().is_none(),
                "{command}"
            );
            assert!(!person.work().join("armed").exists(), "{command}");
            let main = BranchRef::named("main");
            git.fast_forward(&main, &step.note.new).await.unwrap_err();
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
    async fn new_files_that_a_person_commits_at_the_same_moment_stay() {
        let person = Person::with_repository("");
        let step = step(&person, "true").await;
        let git = person.at(".");
        for with_all in [true, false] {
            let replaced = git.replace_files(&step).await.unwrap().unwrap();
            if with_all {
                person.git(&["commit", "-q", "-m", "mine"]);
            } else {
                person.git(&["commit", "-q", "-m", "mine", "file"]);
            }
            let main = BranchRef::named("main");
            git.fast_forward(&main, &step.note.new).await.unwrap_err();
            git.undo_replacing(replaced).await.unwrap();
            assert_eq!(person.git(&["status", "--porcelain"]), "", "{with_all}");
            let text = if with_all { "two\n" } else { "" };
            assert_eq!(read(&person, "dir/new"), text, "{with_all}");
            assert_eq!(read(&person, "file"), "two\n", "{with_all}");
            person.git(&["reset", "-q", "--hard", step.note.old.hash()]);
        }
    }

    #[tokio::test]
    async fn files_are_put_back_if_the_git_that_changes_the_index_is_killed() {
        let person = Person::with_repository("");
        let step = step(&person, "true").await;
        let file = person.work().join("file");
        let before = fs::metadata(&file).unwrap().ino();
        // The first of these commands is killed after its end.
        let script = format!(
            "#!/bin/sh\nPATH='{}'\ngit \"$@\" || exit\n\
             case \"$*\" in *'read-tree -m -i'*) mkdir {} 2>/dev/null && kill -9 $$;; esac\n\
             exit 0\n",
            std::env::var("PATH").unwrap(),
            person.home().join("killed").display(),
        );
        let program = person.home().join("programs/git");
        fs::create_dir(person.home().join("programs")).unwrap();
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let git = person.with_programs(&person.home().join("programs"));
        assert!(git.replace_files(&step).await.unwrap().is_none());
        assert!(person.home().join("killed").exists());
        assert_eq!(fs::metadata(&file).unwrap().ino(), before);
        assert_eq!(person.git(&["status", "--porcelain"]), "");
        assert_eq!(left(&person), 0);
    }

    /// An editor may have opened the file before the merge.
    #[tokio::test]
    async fn changes_of_a_replaced_file_are_kept_until_a_person_removes_them() {
        let person = Person::with_repository("");
        let step = step(&person, "true").await;
        let file = person.work().join("file");
        let mut opened = fs::File::options().append(true).open(file).unwrap();
        let git = person.at(".");
        let replaced = git.replace_files(&step).await.unwrap().unwrap();
        io::Write::write_all(&mut opened, b"mine\n").unwrap();
        let late = git.drop_old_files(replaced).await.unwrap().unwrap();
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
        let replaced = git.replace_files(&step).await.unwrap().unwrap();
        io::Write::write_all(&mut opened, b"mine\n").unwrap();
        let late = git.drop_old_files(replaced).await.unwrap().unwrap();
        person.git(&["worktree", "remove", "--force", "../tree"]);
        let text = fs::read_to_string(late.kept.join("file")).unwrap();
        assert_eq!(text, "one\nmine\n");
    }

    /// Somebody else has saved the file meanwhile, so the changes cannot go to its place.
    #[tokio::test]
    async fn changes_of_a_replaced_file_that_cannot_be_put_back_are_kept() {
        let person = Person::with_repository("");
        let step = step(&person, "true").await;
        let file = person.work().join("file");
        let mut opened = fs::File::options().append(true).open(file).unwrap();
        let git = person.at(".");
        let replaced = git.replace_files(&step).await.unwrap().unwrap();
        io::Write::write_all(&mut opened, b"mine\n").unwrap();
        person.write("file", "other\n");
        let kept = match git.undo_replacing(replaced).await {
            Err(GitError::NotPutBack { files, kept }) if files == ["file"] => Some(kept),
            _ => None,
        };
        let text = fs::read_to_string(kept.unwrap().join("file")).unwrap();
        assert_eq!(text, "one\nmine\n");
        assert_eq!(read(&person, "file"), "other\n");
        assert_eq!(person.git(&["status", "--porcelain"]), "M file");
        assert_eq!(left(&person), 0);
    }

    /// The host ends before git has moved the branch.
    #[tokio::test]
    async fn old_files_stay_if_nobody_waits_for_the_end_of_a_merge_any_more() {
        let person = Person::with_repository("");
        let step = step(&person, "true").await;
        let file = person.work().join("file");
        let mut opened = fs::File::options().append(true).open(file).unwrap();
        let git = person.at(".");
        let replaced = git.replace_files(&step).await.unwrap().unwrap();
        io::Write::write_all(&mut opened, b"mine\n").unwrap();
        let aside = replaced.aside.join(FILES);
        drop(replaced);
        let text = fs::read_to_string(aside.join("file")).unwrap();
        assert_eq!(text, "one\nmine\n");
    }

    /// The host is killed before or after it has changed the index.
    #[tokio::test]
    async fn removed_files_are_put_back_after_the_host_was_killed() {
        for with_index in [true, false] {
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
            let Replaced { aside, note, .. } = git.replace_files(&step).await.unwrap().unwrap();
            assert!(aside.exists());
            if !with_index {
                person.git(&["read-tree", old.hash()]);
            }
            assert_eq!(read(&person, "gone"), "");
            let back = git.put_back_noted(&note).await.unwrap();
            assert_eq!(back, Some(PutBack::Done));
            assert_eq!(read(&person, "gone"), "one\n");
            assert_eq!(person.git(&["status", "--porcelain"]), "");
        }
    }

    #[tokio::test]
    async fn files_are_replaced_although_git_is_configured_not_to_refresh_an_index() {
        let person = Person::with_repository("[diff]\n\tautoRefreshIndex = false\n");
        let step = step(&person, "true").await;
        assert!(person.at(".").replace_files(&step).await.unwrap().is_some());
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
        assert!(git.replace_files(&step).await.unwrap().is_some());
        assert!(!noted.exists());
    }

    #[tokio::test]
    async fn attributes_that_are_in_no_commit_apply_to_replaced_files() {
        let person = Person::with_repository("");
        let step = step(&person, "true").await;
        person.write("dir/.gitattributes", "* text eol=crlf\n");
        assert!(person.at(".").replace_files(&step).await.unwrap().is_some());
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
        assert!(git.replace_files(&step).await.unwrap().is_none());
        let main = BranchRef::named("main");
        git.fast_forward(&main, &step.note.new).await.unwrap();
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
        assert!(git.replace_files(&step).await.unwrap().is_none());
        let main = BranchRef::named("main");
        git.fast_forward(&main, &step.note.new).await.unwrap();
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
        assert!(person.at(".").replace_files(&step).await.unwrap().is_some());
        assert_eq!(read(&person, "file"), "head\ntwo\n");
    }

    #[tokio::test]
    async fn a_file_is_left_to_git_if_its_filter_fails() {
        let person = Person::with_repository("");
        let smudge = "if mkdir ../once; then exit 1; fi; cat";
        let step = step_with_filter(&person, "cat", "cat").await;
        person.git(&["config", "filter.own.smudge", smudge]);
        let git = person.at(".");
        assert!(git.replace_files(&step).await.unwrap().is_none());
        assert_eq!(left(&person), 0);
        let main = BranchRef::named("main");
        git.fast_forward(&main, &step.note.new).await.unwrap();
        assert_eq!(read(&person, "file"), "head\ntwo\n");
    }

    /// Git is told not to look at the file.
    #[tokio::test]
    async fn a_change_that_git_was_told_to_ignore_is_not_replaced() {
        let person = Person::with_repository("");
        let step = step(&person, "true").await;
        person.git(&["update-index", "--assume-unchanged", "file"]);
        person.write("file", "mine\n");
        assert!(person.at(".").replace_files(&step).await.unwrap().is_none());
        assert_eq!(read(&person, "file"), "mine\n");
    }
}

//! Merges with conflicts, from their start to the commit.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{self, BufRead, BufReader},
    path::Path,
};

use super::{
    BranchRef, Commit, Git, GitError, failed, names,
    put_back::{is_free, remove_with_parents},
    spec::{FILES_MAX, LIST_BYTES, LONG, Spec, literal},
    unusable,
};
use crate::fsx;

/// An unresolved file of a merge in progress, and the reason why it counts as unresolved.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Unresolved {
    pub(crate) path: String,
    pub(crate) why: &'static str,
}

const MARKED: &str = "has conflict markers";
const ONE_SIDED: &str = "was removed on one side: `git add` keeps it, `git rm` removes it";
const UNCHANGED: &str = "is the same as on this branch: `git add` accepts that";
const UNMARKED: &str = "has conflicts that git has not marked: `git add` accepts it as it is";
/// The beginning of the names of the temporary files that git makes for merge drivers, at the top
/// of the checkout.
const DRIVER_FILES: &str = ".merge_file_";
/// The minimum number of equal characters at the beginning of a conflict marker.
const MARK_SIGNS: usize = 7;
/// The number of bytes at the beginning of a line that are searched for a marker.
const MARK_BYTES: usize = 64;

/// The sides of a merge that still have a conflicting file.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Sides {
    ours: bool,
    theirs: bool,
}

impl Git {
    /// Begins to merge a branch into the branch that is checked out here. Does not commit the
    /// merge, even if there are no conflicts. Returns the merged commit.
    pub(crate) async fn begin_merge(
        &self,
        branch: &BranchRef,
        other: &BranchRef,
        message: &str,
    ) -> Result<Commit, GitError> {
        let other = other.full();
        let spec = Spec::changes([
            "merge",
            "--no-commit",
            "--no-ff",
            "--no-squash",
            "--no-verify-signatures",
            "--no-autostash",
            "--no-stat",
            "--no-edit",
            "-m",
            message,
            &other,
        ]);
        // The branch's own merge options do not apply to this merge.
        let spec = spec.setting(format!("branch.{branch}.mergeOptions"), "--no-squash");
        let spec = spec.limit(LONG);
        let finished = self.run(&spec).await?;
        let merged = if self.is_merging().await? {
            self.commit_of("MERGE_HEAD").await?
        } else {
            None
        };
        merged.ok_or_else(|| failed(&spec, &finished))
    }

    /// Gives a merge that was just begun here the result of the merge in the opposite direction:
    /// `tree`, in which `files` have conflicts. The two results differ if merge drivers treat the
    /// two sides differently, or if the branches have different attributes. Returns the files for
    /// which this is not possible, for example because they have a conflict only in `tree`.
    pub(crate) async fn adopt(
        &self,
        tree: &str,
        files: &[String],
    ) -> Result<Vec<String>, GitError> {
        let spec = Spec::reads([
            "diff-index",
            "--cached",
            "--raw",
            "-z",
            "--no-renames",
            "--ignore-submodules=none",
            tree,
        ]);
        let spec = spec.limit(LONG).kept_bytes(LIST_BYTES);
        let differing = differing(&self.output(&spec).await?);
        let is_open = |file: &&String| {
            let found = differing.iter().find(|it| it.path == **file);
            // If one side has a file where the other side has a directory, git adds the name of a
            // branch to the name of the file, so the index may have the file under another name.
            found.is_some_and(|it| matches!(it.how, 'U' | 'D'))
        };
        let mut left: Vec<String> = files.iter().filter(|it| !is_open(it)).cloned().collect();
        let mut taken = Vec::new();
        for Differing { path, how, in_tree } in differing {
            match how {
                _ if files.contains(&path) => {}
                'M' | 'T' | 'U' if in_tree => taken.push(path),
                'U' => {}
                _ => left.push(path),
            }
        }
        if left.is_empty() {
            for some in taken.chunks(FILES_MAX) {
                let arguments = [
                    "checkout",
                    "--quiet",
                    "--ignore-skip-worktree-bits",
                    tree,
                    "--",
                ];
                let spec = Spec::changes(arguments).limit(LONG);
                let spec = some.iter().fold(spec, |spec, path| spec.arg(literal(path)));
                self.change(&spec).await?;
            }
        }
        Ok(left)
    }

    /// Aborts a merge that was begun here. Fails if a file was changed since that git had merged
    /// without a conflict.
    pub(crate) async fn abort_merge(&self) -> Result<(), GitError> {
        let spec = Spec::changes(["merge", "--abort"]);
        self.change(&spec.limit(LONG)).await.map(drop)
    }

    /// Does the same as [`Self::abort_merge`], and discards what was changed in the merge.
    pub(crate) async fn abort_changed_merge(&self) -> Result<(), GitError> {
        let arguments = [
            "diff",
            "--name-only",
            "--no-renames",
            "--no-ext-diff",
            "--no-relative",
            "--ignore-submodules=all",
            "-z",
        ];
        let spec = Spec::reads(arguments).limit(LONG).kept_bytes(LIST_BYTES);
        let changed = names(&self.output(&spec).await?);
        let unmerged = self.unmerged().await?;
        let changed = self.look_at_files(move |top| {
            let merged = changed
                .into_iter()
                .filter(|path| !unmerged.contains_key(path));
            // Files in the way may be in no commit, so git must refuse then.
            let free = merged.filter(|path| is_free(top, path));
            free.collect::<Vec<String>>()
        });
        for some in changed.await?.chunks(FILES_MAX) {
            self.add(some).await?;
        }
        self.abort_merge().await
    }

    /// Puts a checkout that had no changes back to `tip`, after a merge with the result `tree` has
    /// failed before git noted the merge. Until then git has changed neither HEAD nor the index,
    /// but perhaps files.
    pub(crate) async fn undo_unnoted_merge(
        &self,
        tip: &Commit,
        tree: &str,
    ) -> Result<(), GitError> {
        let entries = self.entries_between(tip.hash(), tree).await?.into_iter();
        let new = entries.filter(|entry| !entry.is_in_old());
        let new: BTreeSet<String> = new.map(|entry| entry.path).collect();
        let spec = Spec::reads(["ls-files", "--others", "-z"]);
        let spec = spec.limit(LONG).kept_bytes(LIST_BYTES);
        let others = names(&self.output(&spec).await?);
        self.look_at_files(move |top| {
            let made = others
                .iter()
                .filter(|path| new.contains(*path) || is_of_driver(path));
            for file in made {
                if let Err(error) = remove_with_parents(top, file) {
                    tracing::warn!(file, %error, "a file of a merge cannot be removed");
                }
            }
        })
        .await?;
        let back = Spec::changes(["read-tree", "--reset", "-u"]).arg(tip.hash());
        self.change(&back.limit(LONG)).await.map(drop)
    }

    /// Returns the unresolved files of a merge in progress. If there are none, adds the resolved
    /// files to the index. A file that had conflict markers is resolved once it has none, even
    /// without `git add`. A file in which git left no conflict markers that can be recognised needs
    /// `git add` or `git rm`.
    pub(crate) async fn take_resolved(&self) -> Result<Vec<Unresolved>, GitError> {
        let unmerged = self.unmerged().await?;
        let edited = self.other_than_ours().await?;
        let told = self.told_resolved().await?;
        let paths: Vec<String> = unmerged.keys().chain(&told).cloned().collect();
        let marked = self
            .look_at_files(move |top| {
                let mut marked = BTreeSet::new();
                for path in paths {
                    let file = top.join(&path);
                    if has_markers(&file).map_err(unusable(&file))? {
                        marked.insert(path);
                    }
                }
                Ok::<_, GitError>(marked)
            })
            .await??;
        let (mut open, mut done) = (Vec::new(), Vec::new());
        for (path, sides) in unmerged {
            let why = if marked.contains(&path) {
                MARKED
            } else if !(sides.ours && sides.theirs) {
                ONE_SIDED
            } else if !edited.contains(&path) {
                UNCHANGED
            } else if !self.was_marked(&path).await? {
                UNMARKED
            } else {
                done.push(path);
                continue;
            };
            open.push(Unresolved { path, why });
        }
        let told = told.into_iter().filter(|path| marked.contains(path));
        open.extend(told.map(|path| Unresolved { path, why: MARKED }));
        // The files are added only once all files are resolved, so that each file can be reset
        // until then.
        if open.is_empty() {
            for some in done.chunks(FILES_MAX) {
                self.add(some).await?;
            }
        }
        Ok(open)
    }

    async fn add(&self, files: &[String]) -> Result<(), GitError> {
        let add = Spec::changes(["add", "--sparse", "--"]);
        let add = files.iter().fold(add, |add, path| add.arg(literal(path)));
        self.change(&add.limit(LONG)).await.map(drop)
    }

    async fn unmerged(&self) -> Result<BTreeMap<String, Sides>, GitError> {
        let spec = Spec::reads(["ls-files", "--unmerged", "-z"]);
        let spec = spec.limit(LONG).kept_bytes(LIST_BYTES);
        let mut found: BTreeMap<String, Sides> = BTreeMap::new();
        for (path, stage) in staged(&self.output(&spec).await?) {
            let sides = found.entry(path).or_default();
            sides.ours |= stage == "2";
            sides.theirs |= stage == "3";
        }
        Ok(found)
    }

    /// The files that somebody has marked as resolved with `git add` or `git rm`.
    async fn told_resolved(&self) -> Result<BTreeSet<String>, GitError> {
        let spec = Spec::reads(["ls-files", "--resolve-undo", "-z"]);
        let spec = spec.limit(LONG).kept_bytes(LIST_BYTES);
        let entries = staged(&self.output(&spec).await?);
        Ok(entries.into_iter().map(|(path, _)| path).collect())
    }

    /// Whether git left conflict markers that can be recognised in a file. There are none if the
    /// file is in UTF-16, if its markers are configured to be short, or if a merge driver has
    /// written it. Git notes the files as it leaves them, except with old merge strategies.
    async fn was_marked(&self, path: &str) -> Result<bool, GitError> {
        let blob = format!("AUTO_MERGE:{path}");
        let spec = Spec::reads(["cat-file", "--filters", &blob]);
        let finished = self.run(&spec.limit(LONG).kept_bytes(LIST_BYTES)).await?;
        Ok(finished.status.success() && find_marker(&*finished.stdout).unwrap_or(false))
    }

    /// The conflicting files that differ from their versions on this branch.
    async fn other_than_ours(&self) -> Result<BTreeSet<String>, GitError> {
        let arguments = [
            "diff",
            "--ours",
            "--name-only",
            "--diff-filter=M",
            "--no-ext-diff",
            "--no-relative",
            // Git would compare the files in each submodule, with the programs that it names.
            "--ignore-submodules=dirty",
            "-z",
        ];
        let spec = Spec::reads(arguments).limit(LONG).kept_bytes(LIST_BYTES);
        Ok(names(&self.output(&spec).await?).into_iter().collect())
    }
}

/// Whether a file has the name of the temporary files that git makes for merge drivers.
fn is_of_driver(path: &str) -> bool {
    let rest = path.strip_prefix(DRIVER_FILES);
    rest.is_some_and(|rest| rest.len() == 6 && rest.bytes().all(|it| it.is_ascii_alphanumeric()))
}

/// A file that differs between a tree and the index.
struct Differing {
    path: String,
    /// The letter with which git describes the difference.
    how: char,
    in_tree: bool,
}

/// Parses entries of the form `:OLDMODE NEWMODE OLD NEW STATUS`, each followed by its path.
fn differing(output: &[u8]) -> Vec<Differing> {
    let words = names(output);
    let pairs = words.chunks_exact(2);
    let files = pairs.map(|pair| Differing {
        path: pair[1].clone(),
        how: pair[0].chars().next_back().unwrap_or_default(),
        in_tree: !pair[0].starts_with(":000000 "),
    });
    files.collect()
}

/// Parses entries of the form `MODE HASH STAGE\tPATH`.
fn staged(output: &[u8]) -> Vec<(String, String)> {
    let entries = names(output).into_iter();
    let parts = entries.filter_map(|entry| {
        let (head, path) = entry.split_once('\t')?;
        let stage = head.rsplit(' ').next()?;
        Some((path.to_owned(), stage.to_owned()))
    });
    parts.collect()
}

/// Whether a file has conflict markers; `false` if it cannot be read.
fn has_markers(path: &Path) -> io::Result<bool> {
    let is_file = path.symlink_metadata().map(|found| found.is_file());
    unless_unreadable(match is_file {
        Ok(true) => File::open(path).and_then(find_marker),
        no_file => no_file,
    })
}

/// `false` if the file cannot be read: git cannot read it either, and says so. But if only this
/// process cannot read it at the moment, for example because it has too many open files, the file
/// must not be taken for a resolved one.
fn unless_unreadable(read: io::Result<bool>) -> io::Result<bool> {
    match read {
        Err(error) if !fsx::is_of_the_system(&error) => Ok(false),
        read => read,
    }
}

fn find_marker(file: impl io::Read) -> io::Result<bool> {
    let mut reader = BufReader::new(file);
    let mut line = Vec::new();
    loop {
        line.clear();
        // The rest of a long line is skipped, in pieces.
        let mut is_first = true;
        loop {
            let piece = reader.fill_buf()?;
            if piece.is_empty() {
                return Ok(is_marker(&line));
            }
            let end = piece.iter().position(|byte| *byte == b'\n');
            let length = end.unwrap_or(piece.len());
            if is_first || line.len() < MARK_BYTES {
                line.extend(&piece[..length.min(MARK_BYTES)]);
            }
            is_first = false;
            reader.consume(end.map_or(length, |end| end + 1));
            if end.is_some() {
                break;
            }
        }
        if is_marker(&line) {
            return Ok(true);
        }
    }
}

/// Whether a line is a conflict marker, such as `<<<<<<< main` or `>>>>>>> fix`. A repository may
/// be configured to use longer markers.
fn is_marker(line: &[u8]) -> bool {
    let Some(sign @ (b'<' | b'>')) = line.first() else {
        return false;
    };
    let signs = line.iter().take_while(|byte| *byte == sign).count();
    signs >= MARK_SIGNS && matches!(line.get(signs), Some(b' '))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::fs;

    use rustix::io::Errno;

    use super::*;
    use crate::git::tests::Person;

    #[test]
    fn conflict_markers_are_recognized() {
        let check = |text: &str, expected: bool| {
            assert_eq!(find_marker(text.as_bytes()).unwrap(), expected, "{text:?}");
        };
        check("a\n<<<<<<< HEAD\nb\n=======\nc\n>>>>>>> main\n", true);
        check("only the end\n>>>>>>> main", true);
        check("<<<<<<<<<<<< HEAD\n", true);
        check("a\n=======\nb\n", false);
        check("<<<<<<<\n", false);
        check(" <<<<<<< quoted\n", false);
        check("<<<<<< six\n", false);
        check("", false);
        let long = format!("{}\n<<<<<<< HEAD\n", "x".repeat(100_000));
        check(&long, true);
        let within = format!("{}<<<<<<< HEAD\n", "x".repeat(8_192));
        check(&within, false);
    }

    /// Otherwise a host with too many open files would commit conflict markers.
    #[test]
    fn a_file_that_only_this_process_cannot_read_is_not_taken_for_a_resolved_one() {
        let read = |error: Errno| unless_unreadable(Err(error.into()));
        for error in [Errno::MFILE, Errno::NFILE, Errno::NOMEM] {
            assert!(read(error).is_err(), "{error}");
        }
        for error in [Errno::NOENT, Errno::ACCESS] {
            assert!(!read(error).unwrap(), "{error}");
        }
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        assert!(!has_markers(&file).unwrap());
        fs::write(&file, "<<<<<<< HEAD\n").unwrap();
        assert!(has_markers(&file).unwrap());
        std::os::unix::fs::symlink(&file, dir.path().join("link")).unwrap();
        assert!(!has_markers(&dir.path().join("link")).unwrap());
    }

    /// A repository in which both sides have changed `te*t` and `binary`. One side removed `gone`,
    /// and the other side changed it.
    fn conflicting() -> Person {
        let person = Person::with_repository("");
        let write = |text: &str, binary: &str| {
            person.write("te*t", text);
            person.write("binary", binary);
        };
        write("one\n", "\0\x01");
        person.write("gone", "one\n");
        person.commit_all("first");
        person.git(&["switch", "-q", "-c", "task"]);
        write("task\n", "\0\x02");
        person.git(&["rm", "-q", "gone"]);
        person.commit_all("task");
        person.git(&["switch", "-q", "main"]);
        write("main\n", "\0\x03");
        person.write("gone", "main\n");
        person.commit_all("main");
        person.git(&["switch", "-q", "task"]);
        // The branch's own options do not apply to this merge.
        person.git(&["config", "branch.task.mergeOptions", "--squash"]);
        person
    }

    #[tokio::test]
    async fn a_merge_stays_open_until_all_files_are_resolved() {
        let person = conflicting();
        let git = person.at(".").with_identity().await.unwrap();
        let (task, main) = (BranchRef::named("task"), BranchRef::named("main"));
        git.begin_merge(&task, &main, "Merge branch 'main' into task")
            .await
            .unwrap();
        let open = |why: [&'static str; 3]| {
            let files = ["binary", "gone", "te*t"].into_iter().zip(why);
            let open = files.filter(|(_, why)| !why.is_empty());
            let open = open.map(|(path, why)| Unresolved {
                path: path.to_owned(),
                why,
            });
            open.collect::<Vec<_>>()
        };
        let found = async || git.take_resolved().await.unwrap();
        assert_eq!(found().await, open([UNCHANGED, ONE_SIDED, MARKED]));
        person.write("te*t", "both\n");
        assert_eq!(found().await, open([UNCHANGED, ONE_SIDED, ""]));
        person.git(&["add", "gone", "binary"]);
        // The file is marked as resolved, although it has conflict markers.
        person.write("te*t", "<<<<<<< HEAD\n");
        person.git(&["add", ":(literal)te*t"]);
        assert_eq!(found().await, open(["", "", MARKED]));
        person.write("te*t", "both\n");
        person.git(&["add", ":(literal)te*t"]);
        assert!(found().await.is_empty());
        git.commit_index("Merge branch 'main' into task")
            .await
            .unwrap();
        assert!(!git.is_merging().await.unwrap());
        let (main, head) = (person.commit("main").await, person.commit("HEAD").await);
        let commits = git.commits_between(&main, &head).await.unwrap();
        assert_eq!(commits, 2, "the task's own commit and the merge");
    }

    #[tokio::test]
    async fn a_file_without_recognisable_conflict_markers_needs_git_add() {
        let person =
            Person::with_repository("[merge \"own\"]\n\tdriver = \"echo both > %A; exit 1\"\n");
        let write = |text: &str| {
            let wide = format!("\u{feff}{text}\n");
            let wide: Vec<u8> = wide.encode_utf16().flat_map(u16::to_le_bytes).collect();
            fs::write(person.work().join("wide"), wide).unwrap();
            for path in ["driven", "short"] {
                person.write(path, &format!("{text}\n"));
            }
        };
        let commit = |text: &str| {
            write(text);
            person.commit_all(text);
        };
        let attributes = "wide working-tree-encoding=UTF-16LE-BOM text\n\
            driven merge=own\nshort conflict-marker-size=5\n";
        person.write(".gitattributes", attributes);
        commit("one");
        person.git(&["branch", "task"]);
        commit("main");
        person.git(&["switch", "-q", "task"]);
        commit("task");
        let git = person.at(".").with_identity().await.unwrap();
        let (task, main) = (BranchRef::named("task"), BranchRef::named("main"));
        git.begin_merge(&task, &main, "m").await.unwrap();
        let paths = ["driven", "short", "wide"];
        let open = paths.map(|path| Unresolved {
            path: path.to_owned(),
            why: UNMARKED,
        });
        assert_eq!(git.take_resolved().await.unwrap(), open);
        write("edited");
        assert_eq!(git.take_resolved().await.unwrap(), open);
        person.git(&[&["add"], &paths[..]].concat());
        assert!(git.take_resolved().await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn an_aborted_merge_leaves_the_branch_unchanged() {
        let person = conflicting();
        let git = person.at(".").with_identity().await.unwrap();
        let (task, main) = (BranchRef::named("task"), BranchRef::named("main"));
        let before = person.commit("HEAD").await;
        // Git would take this tag for the merged commit if there is no merge.
        person.git(&["tag", "MERGE_HEAD"]);
        assert!(!git.is_merging().await.unwrap());
        git.begin_merge(&task, &main, "m").await.unwrap();
        assert!(git.is_merging().await.unwrap());
        git.abort_merge().await.unwrap();
        assert!(!git.is_merging().await.unwrap());
        assert_eq!(person.commit("HEAD").await, before);
        assert_eq!(git.status().await.unwrap().dirty_count, 0);
        // A merge does not overwrite uncommitted changes.
        person.write("te*t", "mine\n");
        let refused = git.begin_merge(&task, &main, "m").await;
        assert!(
            matches!(refused, Err(GitError::Failed { .. })),
            "{refused:?}"
        );
    }

    #[tokio::test]
    async fn a_merge_is_aborted_although_files_without_a_conflict_were_changed_in_it() {
        let person = conflicting();
        person.git(&["switch", "-q", "main"]);
        for path in ["clean", "dir/removed", "kept"] {
            person.write(path, "main\n");
        }
        person.commit_all("more");
        person.git(&["switch", "-q", "task"]);
        let git = person.at(".").with_identity().await.unwrap();
        let (task, main) = (BranchRef::named("task"), BranchRef::named("main"));
        let before = person.commit("HEAD").await;
        git.begin_merge(&task, &main, "m").await.unwrap();
        person.write("te*t", "both\n");
        person.write("clean", "mine\n");
        fs::remove_dir_all(person.work().join("dir")).unwrap();
        // A file in place of a directory would be overwritten.
        person.write(".git/info/exclude", "dir\n");
        person.write("dir", "ignored\n");
        git.abort_changed_merge().await.unwrap_err();
        assert!(git.is_merging().await.unwrap());
        assert_eq!(
            fs::read_to_string(person.work().join("dir")).unwrap(),
            "ignored\n"
        );
        fs::remove_file(person.work().join("dir")).unwrap();
        git.abort_changed_merge().await.unwrap();
        assert!(!git.is_merging().await.unwrap());
        assert_eq!(person.commit("HEAD").await, before);
        assert_eq!(git.status().await.unwrap().dirty_count, 0);
    }
}

//! Reads git's reflogs, which are notes about earlier states of a checkout, and keeps the commits
//! that only reflogs and the refs of a single checkout name.

use std::{
    collections::BTreeSet,
    io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use claudine_domain::time::Timestamp;

use super::{
    BranchRef, Commit, Git, GitError, failed,
    index::OtherIndex,
    is_lossy, names,
    place::{is_pointer, read_pointer},
    spec::{FILES_MAX, LIST_BYTES, LONG, Spec, literal, without},
    unusable, whole, without_newline,
};
use crate::fsx;

/// Maximum number of commits in the arguments of one command.
const COMMITS_MAX: usize = 1_000;

/// A move of a branch to a commit.
pub(crate) struct Move {
    pub(crate) to: Commit,
    /// The reason that git noted for the move.
    pub(crate) why: String,
}

/// Beginnings of the reasons of moves that make a commit.
const MAKING: [&str; 5] = ["am: ", "cherry-pick", "commit", "rebase", "revert"];

impl Move {
    /// Whether git has made the commit for this move. Otherwise somebody else may have made it.
    pub(crate) fn has_made_commit(&self) -> bool {
        let Self { to, why } = self;
        // A rebase that has no commit to apply names the commit at which it ends.
        let is_old = why.ends_with(to.hash()) || why.ends_with("fast-forward");
        !is_old && MAKING.iter().any(|start| why.starts_with(start))
    }
}

/// How commits of a checkout that are on no branch are kept.
pub(crate) struct Keeping {
    /// The ref that keeps the commits.
    pub(crate) name: String,
    /// Commits that are kept in another way.
    pub(crate) known: Vec<Commit>,
    /// The message of the commit that the ref gets.
    pub(crate) message: String,
}

/// The refs whose commits are not lost when a checkout is removed. Refs that keep commits of other
/// checkouts do not count, because each of them is deleted after some time.
pub(super) const KEPT: &[&str] = &["--branches", "--tags", "--remotes"];
/// The refs whose commits are not lost when a repository is removed.
pub(super) const KEPT_ELSEWHERE: &[&str] = &["--remotes"];

/// The refs that each checkout has for itself, apart from those outside `refs/`.
const OWN: [&str; 3] = ["refs/bisect", "refs/rewritten", "refs/worktree"];

/// The option with which git lists the hashes that refs name.
const HASHES: &str = "--format=%(objectname)";

/// The file with the commits of the last fetch, which exist elsewhere.
const FETCHED: &str = "FETCH_HEAD";

/// Commits that are kept by a ref of Claudine.
pub(crate) struct KeptCommits {
    by: Commit,
    pub(crate) since: Timestamp,
}

impl Git {
    /// Keeps the commits that were checked out here, or that a ref of this checkout alone names,
    /// but that are on no branch, tag or remote, because git forgets them when the checkout is
    /// removed. The ref is set to a new commit whose parents are these commits and the previous
    /// commit of the ref. Returns whether the ref exists.
    pub(crate) async fn keep_abandoned(&self, keeping: &Keeping) -> Result<bool, GitError> {
        let before = self.commit_of(&keeping.name).await?;
        let abandoned = self.newly_abandoned(keeping, before.as_ref()).await?;
        self.keep(keeping, before.as_ref(), &abandoned).await
    }

    /// Like [`Self::keep_abandoned`], for a checkout whose directory is missing. Also keeps a
    /// commit of the index, because only the index has content that was added with `git add`.
    pub(super) async fn keep_abandoned_and_staged(
        &self,
        keeping: &Keeping,
    ) -> Result<bool, GitError> {
        let before = self.commit_of(&keeping.name).await?;
        let mut commits = self.newly_abandoned(keeping, before.as_ref()).await?;
        commits.extend(self.staged(&keeping.message).await?);
        self.keep(keeping, before.as_ref(), &commits).await
    }

    /// Keeps a commit of the index if it has content that is neither in HEAD nor in the files here,
    /// as after `git add FILE; rm FILE`. A commit of the files would lose this content.
    pub(crate) async fn keep_staged(&self, keeping: &Keeping) -> Result<(), GitError> {
        if !self.has_only_staged().await? {
            return Ok(());
        }
        let before = self.commit_of(&keeping.name).await?;
        let staged = self.staged(&keeping.message).await?;
        let kept = self.keep(keeping, before.as_ref(), staged.as_slice());
        kept.await.map(drop)
    }

    /// Keeps a commit of all files here that differ from HEAD, before they are put back. Leaves out
    /// nested repositories, and ignored files that are not in the index. Keeps nothing if the files
    /// are those that a merge in progress has written. Returns whether there was something to keep.
    pub(crate) async fn keep_changes(&self, keeping: &Keeping) -> Result<bool, GitError> {
        let Some(head) = self.commit_of("HEAD").await? else {
            return Ok(false);
        };
        let before = self.commit_of(&keeping.name).await?;
        let index = OtherIndex::new(&self.git_dir().await?);
        let there = |spec: Spec| spec.index(index.path()).limit(LONG);
        let read = Spec::changes(["read-tree", head.hash()]);
        self.change(&there(read)).await?;
        let add = Spec::changes(["add", "--all", "--sparse", "--", ":(top)"]);
        // Nested repositories stay as they are, and git fails if one of them has no commit.
        let nested = self.repositories_beside(Some(index.path())).await?;
        let add = nested.iter().fold(add, |add, path| add.arg(without(path)));
        // The task may have removed a submodule from its own index.
        let add = self.with_index(index.path()).without_foreign(add).await?;
        self.change(&there(add)).await?;
        for some in self.added(&head).await?.chunks(FILES_MAX) {
            let add = Spec::changes(["add", "--force", "--sparse", "--"]);
            let add = some.iter().fold(add, |add, path| add.arg(literal(path)));
            self.change(&there(add)).await?;
        }
        let tree = self.change(&there(Spec::changes(["write-tree"]))).await?;
        let of_merge = ["rev-parse", "--verify", "--quiet", "AUTO_MERGE^{tree}"];
        let of_merge = self.line_if(&Spec::reads(of_merge)).await?;
        if self.is_merging().await? && of_merge.is_some_and(|it| it.as_bytes() == tree.trim_ascii())
        {
            return Ok(false);
        }
        let new = self.unless_of_head(tree, &head, &keeping.message).await?;
        // The ref may exist already.
        self.keep(keeping, before.as_ref(), new.as_slice()).await?;
        Ok(new.is_some())
    }

    /// The files that exist here and that were added to the index, even if git ignores them.
    async fn added(&self, head: &Commit) -> Result<Vec<String>, GitError> {
        let spec = Spec::reads([
            "diff-index",
            "--cached",
            "--name-only",
            "--diff-filter=A",
            "-z",
            "--no-renames",
            "--ignore-submodules=all",
            head.hash(),
        ]);
        let spec = spec.limit(LONG).kept_bytes(LIST_BYTES);
        let mut added = names(&self.output(&spec).await?);
        self.look_at_files(move |top| {
            added.retain(|path| !is_lossy(path) && fsx::is_taken(&top.join(path)));
            added
        })
        .await
    }

    /// The commits to keep that the ref does not keep yet. `before` is the commit of the ref.
    async fn newly_abandoned(
        &self,
        keeping: &Keeping,
        before: Option<&Commit>,
    ) -> Result<Vec<Commit>, GitError> {
        let known: Vec<Commit> = keeping.known.iter().chain(before).cloned().collect();
        self.abandoned(&known, KEPT).await
    }

    /// A new commit of the index; `None` if the index has nothing that HEAD does not have, or has
    /// conflicts.
    async fn staged(&self, message: &str) -> Result<Option<Commit>, GitError> {
        let Some(head) = self.commit_of("HEAD").await? else {
            return Ok(None);
        };
        let index = self.git_dir().await?.join("index");
        if self.look_at_files(move |_| fsx::is_missing(&index)).await? {
            return Ok(None);
        }
        let written = self.run(&Spec::changes(["write-tree"]).limit(LONG)).await?;
        if !written.status.success() {
            return Ok(None);
        }
        self.unless_of_head(written.stdout, &head, message).await
    }

    /// A new commit of a tree, whose hash `git write-tree` has printed; `None` if HEAD has the same
    /// files.
    async fn unless_of_head(
        &self,
        printed: Vec<u8>,
        head: &Commit,
        message: &str,
    ) -> Result<Option<Commit>, GitError> {
        let tree = without_newline(printed);
        let of_head = format!("{}^{{tree}}", head.hash());
        let of_head = Spec::reads(["rev-parse", "--verify", "--end-of-options", &of_head]);
        if self.line(&of_head).await? == tree {
            return Ok(None);
        }
        self.commit_tree(&tree, &[head], message).await.map(Some)
    }

    /// Adds commits to those that the ref keeps. `before` is the commit of the ref. Returns whether
    /// the ref exists.
    async fn keep(
        &self,
        keeping: &Keeping,
        before: Option<&Commit>,
        commits: &[Commit],
    ) -> Result<bool, GitError> {
        let Keeping { name, message, .. } = keeping;
        if commits.is_empty() {
            return Ok(before.is_some());
        }
        let mut keeper = before.cloned();
        for some in commits.chunks(COMMITS_MAX) {
            let parents: Vec<&Commit> = keeper.iter().chain(some).collect();
            let tree = format!("{}^{{tree}}", some[0].hash());
            keeper = Some(self.commit_tree(&tree, &parents, message).await?);
        }
        let [new, old] = [keeper.as_ref(), before].map(|it| it.map_or("", Commit::hash));
        let spec = Spec::changes([
            "update-ref",
            "-m",
            "claudine: kept",
            name.as_str(),
            new,
            old,
        ]);
        self.change(&spec).await?;
        Ok(true)
    }

    /// The commits that were checked out here, or that a ref of this checkout alone names, and that
    /// cannot be reached from the refs in `kept` or the commits in `known`. A commit that can be
    /// reached from another commit of the result is left out.
    pub(super) async fn abandoned(
        &self,
        known: &[Commit],
        kept: &[&str],
    ) -> Result<Vec<Commit>, GitError> {
        let past = self.past_heads().await?;
        let own = self.own_heads(&past).await?;
        let lines = past + &own;
        let mut seen: BTreeSet<&str> = known.iter().map(Commit::hash).collect();
        let new = lines.lines().filter(|line| seen.insert(*line));
        let past: Vec<Commit> = new.filter_map(Commit::parse).collect();
        self.only_noted(&past, known, kept).await
    }

    /// The commits that were checked out here, the last one first, a line for each. They are read
    /// from the reflog of HEAD.
    async fn past_heads(&self) -> Result<String, GitError> {
        let spec = Spec::reads(["rev-list", "--walk-reflogs", "HEAD", "--"]);
        let spec = spec.limit(LONG).kept_bytes(LIST_BYTES);
        let walked = self.run(&spec).await?;
        if walked.status.success() {
            let output = whole(&spec, walked)?;
            return Ok(String::from_utf8_lossy(&output).into_owned());
        }
        if self.commit_of("HEAD").await?.is_some() {
            return Err(failed(&spec, &walked));
        }
        // Git does not print the reflog if HEAD has no commit, for example after `git switch
        // --orphan`, or if its branch was removed.
        let Some(notes) = self.notes(self.git_dir().await?, "HEAD").await? else {
            // Git prints the reflog only together with those of all branches.
            let arguments = ["rev-list", "--no-walk", "--single-worktree", "--reflog"];
            let spec = Spec::reads(arguments).limit(LONG).kept_bytes(LIST_BYTES);
            let output = self.output(&spec).await?;
            return Ok(String::from_utf8_lossy(&output).into_owned());
        };
        Ok(noted(&notes).flat_map(|hash| [hash, "\n"]).collect())
    }

    /// The commits that refs of this checkout alone name, a line for each, without those in `past`.
    /// Git deletes these refs with the checkout.
    async fn own_heads(&self, past: &str) -> Result<String, GitError> {
        let listed = |spec: Spec| spec.limit(LONG).kept_bytes(LIST_BYTES);
        let git_dir = self.git_dir().await?;
        // In every format, some refs are files, such as `MERGE_HEAD`, and git does not list them.
        let of_files = self.look_at_files(move |_| {
            let read = root_refs(&git_dir).map_err(unusable(&git_dir));
            let is_reftable = git_dir.join("reftable").exists();
            read.map(|read| (read, is_reftable, may_have_own_refs(&git_dir)))
        });
        let (mut named, is_reftable, may_have_own) = of_files.await??;
        if may_have_own {
            let spec = Spec::reads(["for-each-ref", HASHES]);
            let spec = listed(OWN.iter().fold(spec, Spec::arg));
            named.extend(self.output(&spec).await?);
        }
        if is_reftable {
            let arguments = ["for-each-ref", HASHES, "--include-root-refs"];
            let spec = Spec::reads(arguments).arg("--exclude=refs");
            named.extend(self.output(&listed(spec)).await?);
        }
        let known: BTreeSet<&str> = past.lines().collect();
        let named = String::from_utf8_lossy(&named);
        let is_new = |line: &&str| !known.contains(*line) && Commit::parse(line).is_some();
        let mut hashes: Vec<&str> = named.lines().filter(is_new).collect();
        if hashes.is_empty() {
            return Ok(String::new());
        }
        // A file with a text may have a hash of the other length, which git would take for a name.
        let length = match past.lines().find_map(Commit::parse) {
            Some(commit) => commit.hash().len(),
            None => self.hash_length().await?,
        };
        hashes.retain(|line| line.len() == length);
        // A hash may be that of a tag, and need not be that of an object.
        let mut commits = String::new();
        for some in hashes.chunks(COMMITS_MAX) {
            let spec = Spec::reads(["rev-list", "--no-walk", "--ignore-missing"]);
            let spec = listed(some.iter().fold(spec, Spec::arg));
            let output = self.output(&spec).await?;
            commits.push_str(&String::from_utf8_lossy(&output));
        }
        Ok(commits)
    }

    async fn hash_length(&self) -> Result<usize, GitError> {
        let asked = Spec::reads(["rev-parse", "--show-object-format"]);
        let is_long = self.line(&asked).await? == "sha256";
        Ok(if is_long { 64 } else { 40 })
    }

    /// Whether there may be refs that only this checkout has. If not, git need not be asked.
    pub(super) async fn may_have_own_refs(&self) -> Result<bool, GitError> {
        let git_dir = self.git_dir().await?;
        self.look_at_files(move |_| may_have_own_refs(&git_dir))
            .await
    }

    /// The reflog of a ref, whose file is in this git directory; `None` if the repository keeps its
    /// reflogs in another format (`reftable`).
    async fn notes(&self, git_dir: PathBuf, name: &str) -> Result<Option<String>, GitError> {
        let file = git_dir.join("logs").join(name);
        let read = move |_: &Path| {
            if git_dir.join("reftable").exists() {
                return Ok(None);
            }
            match read_reflog(&file) {
                Ok(notes) => Ok(Some(String::from_utf8_lossy(&notes).into_owned())),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Some(String::new())),
                Err(source) => Err(GitError::Read { path: file, source }),
            }
        };
        self.look_at_files(read).await?
    }

    /// Returns the commits of `past` that cannot be reached from the refs in `kept` or the commits
    /// in `known`, as [`Self::abandoned`] does.
    async fn only_noted(
        &self,
        past: &[Commit],
        known: &[Commit],
        kept: &[&str],
    ) -> Result<Vec<Commit>, GitError> {
        let (mut found, mut parents) = (BTreeSet::new(), BTreeSet::new());
        for some in past.chunks(COMMITS_MAX) {
            let spec = Spec::reads(["rev-list", "--ignore-missing", "--parents"]);
            let spec = some.iter().fold(spec, |spec, it| spec.arg(it.hash()));
            let spec = kept.iter().fold(spec.arg("--not"), Spec::arg);
            let spec = known.iter().fold(spec, |spec, it| spec.arg(it.hash()));
            let spec = spec.of_true_history().limit(LONG).kept_bytes(LIST_BYTES);
            let output = self.output(&spec).await?;
            for line in String::from_utf8_lossy(&output).lines() {
                let mut words = line.split(' ').map(str::to_owned);
                found.extend(words.next());
                parents.extend(words);
            }
        }
        let is_last = |it: &&Commit| found.contains(it.hash()) && !parents.contains(it.hash());
        Ok(past.iter().filter(is_last).cloned().collect())
    }

    /// The moves of a branch since it was made, the last one first, from the branch's reflog. Git
    /// deletes the reflog together with the branch, and may be configured to keep no reflogs.
    pub(crate) async fn moves(&self, branch: &BranchRef) -> Result<Vec<Move>, GitError> {
        let (repository, full) = (self.common_dir().await?, branch.full());
        if let Some(notes) = self.notes(repository, &full).await? {
            return Ok(moves(&notes));
        }
        let arguments = [
            "log",
            "--walk-reflogs",
            "--no-show-signature",
            "--format=%H %gs",
        ];
        let spec = Spec::reads(arguments).arg(full).arg("--");
        let output = self.output(&spec.kept_bytes(LIST_BYTES)).await?;
        let lines = String::from_utf8_lossy(&output);
        let moves = lines.lines().filter_map(|line| {
            let (to, why) = line.split_once(' ').unwrap_or((line, ""));
            Some(Move {
                to: Commit::parse(to)?,
                why: why.to_owned(),
            })
        });
        Ok(moves.collect())
    }

    /// The commits that this ref keeps; `None` if the ref does not exist.
    pub(crate) async fn kept_commits(&self, name: &str) -> Result<Option<KeptCommits>, GitError> {
        let format = "--format=%(objectname) %(creatordate:unix)";
        let spec = Spec::reads(["for-each-ref", format, name]);
        let line = self.line(&spec).await?;
        if line.is_empty() {
            return Ok(None);
        }
        let parsed = line.split_once(' ').and_then(|(commit, seconds)| {
            let seconds: u64 = seconds.parse().ok()?;
            let by = Commit::parse(commit)?;
            let since = Timestamp(seconds.saturating_mul(1_000));
            Some(KeptCommits { by, since })
        });
        let unreadable = || GitError::Unreadable {
            called: spec.called(),
            printed: line.clone(),
        };
        parsed.map(Some).ok_or_else(unreadable)
    }

    /// Deletes the ref, so that git may forget the commits that the ref keeps.
    pub(crate) async fn forget_commits(
        &self,
        name: &str,
        kept: &KeptCommits,
    ) -> Result<(), GitError> {
        let spec = Spec::changes(["update-ref", "--no-deref", "-d", name, kept.by.hash()]);
        self.change(&spec).await.map(drop)
    }

    /// The last commit that was checked out here, if git has noted it in the reflog. The reflog is
    /// read as a file, because git has no command that prints it once the branch is deleted.
    pub(crate) async fn last_commit(&self) -> Result<Option<Commit>, GitError> {
        let file = self.place().await?.git_dir.join("logs/HEAD");
        self.look_at_files(move |_| {
            // A reflog that cannot be read names no commit, because the commit only adds detail.
            let notes = read_reflog(&file).ok()?;
            noted(&String::from_utf8_lossy(&notes)).find_map(Commit::parse)
        })
        .await
    }
}

/// Reads a reflog, which may have as much as a list that git prints.
fn read_reflog(file: &Path) -> io::Result<Vec<u8>> {
    fsx::read_at_most(file, LIST_BYTES as u64)
}

/// Whether there may be refs that only the checkout with this git directory has, apart from those
/// outside `refs/`. Git stores each of them as a file in a directory for its kind, except in the
/// format `reftable`. Only a main checkout has `packed-refs`, to which an old git has added them.
fn may_have_own_refs(git_dir: &Path) -> bool {
    let mut places = OWN.iter().chain(&["packed-refs", "reftable"]);
    places.any(|place| !fsx::is_missing(&git_dir.join(place)))
}

/// The first word of each line in the refs outside `refs/` of a checkout with this git directory
/// that are files, such as `MERGE_AUTOSTASH`. The names of these refs have no small letters. Other
/// files with such names contain texts.
fn root_refs(git_dir: &Path) -> io::Result<Vec<u8>> {
    let is_of_name = |byte: &u8| byte.is_ascii_uppercase() || matches!(*byte, b'_' | b'-');
    let is_ref = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default();
        name != FETCHED && name.as_bytes().iter().all(is_of_name) && is_pointer(path)
    };
    let mut words = Vec::new();
    for path in fsx::entries(git_dir)?.iter().filter(|path| is_ref(path)) {
        for line in read_pointer(path)?.split(|byte| *byte == b'\n') {
            let mut of_line = line.split(u8::is_ascii_whitespace);
            words.extend(of_line.next().unwrap_or_default());
            words.push(b'\n');
        }
    }
    Ok(words)
}

/// The moves in a reflog, the last one first. The reason of a move follows after a tab.
fn moves(notes: &str) -> Vec<Move> {
    let moves = notes.lines().rev().filter_map(|line| {
        let (head, why) = line.split_once('\t').unwrap_or((line, ""));
        let to = head.split(' ').nth(1).filter(|hash| is_commit(hash))?;
        Some(Move {
            to: Commit::parse(to)?,
            why: why.to_owned(),
        })
    });
    moves.collect()
}

/// Whether a hash in a reflog is that of a commit. A hash of only zeros means no commit.
fn is_commit(hash: &str) -> bool {
    hash.bytes().any(|byte| byte != b'0')
}

/// The hashes in a reflog, the last one first. Each line describes a change, and begins with the
/// commits before and after the change.
fn noted(notes: &str) -> impl Iterator<Item = &str> {
    let lines = notes.lines().rev().filter_map(|line| {
        let mut words = line.split(' ');
        let (before, after) = (words.next()?, words.next()?);
        Some([after, before])
    });
    lines.flatten().filter(|hash| is_commit(hash))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn a_reflog_of_any_size_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("HEAD");
        let file = std::fs::File::create(&path).unwrap();
        assert!(read_reflog(&path).unwrap().is_empty());
        file.set_len(1 << 40).unwrap();
        let error = read_reflog(&path).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
    }

    #[test]
    fn only_a_move_to_a_new_commit_counts_as_making_one() {
        let hashes = ["0", "1", "2", "3"].map(|digit| digit.repeat(40));
        let [none, one, two, three] = hashes.each_ref().map(String::as_str);
        let check = |why: &str, expected: bool| {
            let line = |before: &str, after: &str, why: &str| {
                format!("{before} {after} P <p@x> 1795745120 +0000\t{why}\n")
            };
            let notes = line(none, one, "commit: first") + &line(one, two, why);
            let found = moves(&notes);
            let targets: Vec<&str> = found.iter().map(|it| it.to.hash()).collect();
            assert_eq!(targets, [two, one]);
            assert_eq!(found[0].has_made_commit(), expected, "{why}");
        };
        for why in [
            "commit: work",
            "commit (amend): work",
            "cherry-pick: work",
            "am: work",
        ] {
            check(why, true);
        }
        check(&format!("rebase (finish): refs/heads/a onto {three}"), true);
        check(&format!("rebase (finish): refs/heads/a onto {two}"), false);
        for why in [
            "merge main: Fast-forward",
            "cherry-pick: fast-forward",
            "reset: moving to main",
            "branch: Created from main",
            "claudine: merge",
            "",
        ] {
            check(why, false);
        }
        let gone = format!("{one} {none} P <p@x> 1795745120 +0000\n");
        assert!(moves(&gone).is_empty());
    }

    #[test]
    fn the_last_commit_is_found_in_a_reflog_that_ends_with_a_deleted_branch() {
        let hashes = ["0", "1", "2"].map(|digit| digit.repeat(40));
        let [none, one, two] = hashes.each_ref().map(String::as_str);
        let check = |notes: &[(&str, &str)], expected: Option<&str>| {
            let line = |(before, after): &(&str, &str)| {
                format!("{before} {after} P <p@x> 1795745120 +0000\tcommit: work\n")
            };
            let notes: String = notes.iter().map(line).collect();
            let last = noted(&notes).find_map(Commit::parse);
            assert_eq!(last, expected.and_then(Commit::parse));
        };
        check(&[(none, one), (one, two)], Some(two));
        check(&[(none, one), (one, two), (two, none)], Some(two));
        check(&[(none, none)], None);
        check(&[], None);
        assert_eq!(noted("something else").find_map(Commit::parse), None);
    }
}

//! Reads branch, commit, uncommitted changes and ignored files of a directory with one `git
//! status`.

use std::path::Path;

use claudine_domain::attempt::GitState;

use super::{
    Commit, Git, GitError, failed, names,
    spec::{LIST_BYTES, LONG, SHORT, Spec},
};

/// The maximum number of changed or ignored paths that are listed.
const NAMED: usize = 50;
/// The maximum total length of the listed changed paths, since the state is stored in the row of
/// its task.
const NAMED_BYTES: usize = 8 << 10;

/// How changes inside submodules are counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Submodules {
    /// Changes inside submodules count as changes of the checkout, since they would be lost with
    /// the checkout. In a worktree, they do not count if a submodule's repository is not where git
    /// has made it (see [`Git::foreign_links`]).
    Inside,
    /// Submodules do not count. A merge leaves the files of a submodule and the commit that is
    /// checked out in it as they are, and is refused if git would remove them. After a merge that
    /// contains another commit of a submodule, the submodule differs until a person updates it.
    Outside,
    /// The commits that are checked out in submodules count, and their files do not. For this, git
    /// starts no process in a submodule, which would run the programs that the submodule's own
    /// repository names.
    Unopened,
}

/// The uncommitted changes of a checkout.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Changes {
    /// The number of changed tracked files.
    pub(crate) known: u64,
    /// The first few of the changed tracked files.
    pub(crate) files: Vec<String>,
    /// The number of untracked files and directories.
    pub(crate) untracked: u64,
}

/// The state of a worktree, with what shows which further checks a commit of its changes needs. If
/// git has printed too much, each of them is needed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Uncommitted {
    pub(crate) state: GitState,
    /// Whether a file may have conflicts.
    pub(crate) may_conflict: bool,
    /// Whether the index may have something that HEAD does not have.
    pub(crate) may_be_staged: bool,
    /// Whether there may be a repository that is not a submodule. Git shows it, or the new
    /// directory that contains it, with a slash at the end.
    pub(crate) may_have_repositories: bool,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Status {
    pub(super) state: GitState,
    /// The number of untracked files among the uncommitted files.
    untracked_count: u64,
    /// The first few of the ignored files and of the directories that contain only ignored files.
    pub(super) ignored: Vec<String>,
    pub(super) ignored_count: u64,
    // These are explained at `Uncommitted`.
    may_conflict: bool,
    may_be_staged: bool,
    may_have_repositories: bool,
    /// Git's warning about a directory that it could not read, so that its files are missing here.
    unread: Option<String>,
}

/// The beginning of git's warning about a directory that it cannot read.
const UNREAD: &str = "warning: could not open directory ";

impl Status {
    /// Fails if git could not read a directory of the checkout.
    pub(super) fn whole(self, checkout: &Path) -> Result<Self, GitError> {
        match self.unread {
            None => Ok(self),
            Some(directory) => Err(GitError::Unread {
                checkout: checkout.to_owned(),
                directory,
            }),
        }
    }
}

impl From<Status> for Uncommitted {
    fn from(status: Status) -> Self {
        Self {
            state: status.state,
            may_conflict: status.may_conflict,
            may_be_staged: status.may_be_staged,
            may_have_repositories: status.may_have_repositories,
        }
    }
}

impl Git {
    /// The state of a checkout, with its submodules.
    pub(crate) async fn status(&self) -> Result<GitState, GitError> {
        Ok(self.full_status(Submodules::Inside).await?.state)
    }

    /// The state in which a task has left its worktree, to be shown. It has a short time limit,
    /// because the end of an attempt waits for it, and filters of the repository may run.
    pub(crate) async fn state_left(&self) -> Result<GitState, GitError> {
        let spec = Self::status_spec(Submodules::Unopened, false).limit(SHORT);
        Ok(self.read_status(&spec, Submodules::Unopened).await?.state)
    }

    /// Like [`Self::status`], but fails if git cannot read a directory, because files in it would
    /// be neither committed nor noticed.
    pub(crate) async fn whole_status(&self) -> Result<GitState, GitError> {
        let status = self.full_status(Submodules::Inside).await?;
        Ok(status.whole(self.dir())?.state)
    }

    /// Does the same as [`Self::whole_status`] before the changes are committed.
    pub(crate) async fn uncommitted(&self) -> Result<Uncommitted, GitError> {
        let status = self.full_status(Submodules::Inside).await?;
        Ok(status.whole(self.dir())?.into())
    }

    /// The changes in a user's checkout that matter for a merge.
    pub(crate) async fn changes(&self) -> Result<Changes, GitError> {
        let status = self.full_status(Submodules::Outside).await?;
        let known = status.state.dirty_count - status.untracked_count;
        // Git lists tracked files first.
        let mut files = status.state.dirty;
        files.truncate(usize::try_from(known).unwrap_or(usize::MAX));
        Ok(Changes {
            known,
            files,
            untracked: status.untracked_count,
        })
    }

    /// Whether tracked files are changed here. Untracked files need no check, because git refuses a
    /// fast-forward that would change them.
    pub(super) async fn has_changes(&self) -> Result<bool, GitError> {
        let spec = tracked("--ignore-submodules=dirty");
        let output = self.output(&spec.limit(LONG)).await?;
        Ok(parse(&output, Submodules::Outside).state.dirty_count > 0)
    }

    /// Whether the index has content of a file that neither HEAD nor the file itself has.
    pub(super) async fn has_only_staged(&self) -> Result<bool, GitError> {
        let arguments = [
            "diff",
            "--cached",
            "--quiet",
            "--no-ext-diff",
            "--ignore-submodules=all",
        ];
        // Most tasks add nothing to the index. Git does not look at files to find this out.
        let staged = self.run(&Spec::reads(arguments).limit(LONG)).await?;
        if staged.status.success() {
            return Ok(false);
        }
        let spec = tracked("--ignore-submodules=all");
        let spec = spec.limit(LONG).kept_bytes(LIST_BYTES);
        let output = self.output(&spec).await?;
        Ok(output.split(|byte| *byte == 0).any(is_only_staged))
    }

    /// The number of files that differ from this commit, whether or not the changes are committed.
    pub(crate) async fn changed_since(&self, base: &Commit) -> Result<u64, GitError> {
        let known = Spec::reads([
            "diff",
            "--name-only",
            "--no-renames",
            "--no-ext-diff",
            "--no-relative",
            "--ignore-submodules=dirty",
            "-z",
            base.hash(),
            "--",
        ]);
        let known = names(&self.output(&known.limit(LONG)).await?).len();
        let new = Spec::reads(["ls-files", "--others", "--exclude-standard", "-z"]);
        let new = names(&self.output(&new.limit(LONG)).await?).len();
        Ok((known + new) as u64)
    }

    async fn full_status(&self, submodules: Submodules) -> Result<Status, GitError> {
        if submodules == Submodules::Inside && self.linked_to.is_some() {
            let links = self.submodules().await?;
            return self.status_with(&links, false).await;
        }
        let spec = Self::status_spec(submodules, false).limit(LONG);
        self.read_status(&spec, submodules).await
    }

    /// The status of this checkout, which has the submodules `links`. Changes inside them count,
    /// unless git must not look into one of them.
    pub(super) async fn status_with(
        &self,
        links: &[String],
        ignored: bool,
    ) -> Result<Status, GitError> {
        let submodules = if self.foreign_among(links).await?.is_empty() {
            Submodules::Inside
        } else {
            Submodules::Unopened
        };
        let spec = Self::status_spec(submodules, ignored).limit(LONG);
        self.read_status(&spec, submodules).await
    }

    pub(super) fn status_spec(submodules: Submodules, ignored: bool) -> Spec {
        Spec::reads([
            "status",
            "--porcelain=v2",
            "--branch",
            "--no-ahead-behind",
            "--no-renames",
            "-z",
            "--untracked-files=normal",
            match submodules {
                Submodules::Inside => "--ignore-submodules=none",
                Submodules::Outside | Submodules::Unopened => "--ignore-submodules=dirty",
            },
            if ignored {
                "--ignored=matching"
            } else {
                "--ignored=no"
            },
        ])
        // The cache does not show that a directory has become a repository.
        .setting("core.untrackedCache", "false")
    }

    /// Runs a command that [`Self::status_spec`] has made.
    pub(super) async fn read_status(
        &self,
        spec: &Spec,
        submodules: Submodules,
    ) -> Result<Status, GitError> {
        let finished = self.run(spec).await?;
        if !finished.status.success() {
            return Err(failed(spec, &finished));
        }
        // Output that was cut is accepted, because it still has far more entries than are used.
        let said = String::from_utf8_lossy(&finished.stderr);
        let mut unread = said.lines().filter_map(|line| line.strip_prefix(UNREAD));
        let parsed = parse(&finished.stdout, submodules);
        let is_cut = finished.stdout.len() >= spec.kept_bytes;
        Ok(Status {
            unread: unread.next().map(str::to_owned),
            may_conflict: parsed.may_conflict || is_cut,
            may_be_staged: parsed.may_be_staged || is_cut,
            may_have_repositories: parsed.may_have_repositories || is_cut,
            ..parsed
        })
    }
}

/// Looks for changes of tracked files. `submodules` says which submodules are ignored.
fn tracked(submodules: &str) -> Spec {
    Spec::reads([
        "status",
        "--porcelain=v2",
        "--no-renames",
        "-z",
        "--untracked-files=no",
        submodules,
    ])
}

/// Parses lines that end with NUL. The line of a renamed file is followed by the file's old path.
fn parse(output: &[u8], submodules: Submodules) -> Status {
    let mut status = Status::default();
    let mut named_bytes = 0;
    let mut lines = output
        .split_inclusive(|byte| *byte == 0)
        // A line without a NUL at its end was cut off.
        .filter_map(|line| line.strip_suffix(&[0]));
    while let Some(line) = lines.next() {
        let text = String::from_utf8_lossy(line);
        if let Some(head) = text.strip_prefix("# ") {
            heading(head, &mut status.state);
            continue;
        }
        let kind = text.as_bytes().first();
        status.may_conflict |= kind == Some(&b'u');
        status.may_be_staged |= is_staged(line);
        let path = match kind {
            Some(b'1') if submodules == Submodules::Outside && is_moved_submodule(&text) => None,
            // The fields before the path are `1 XY sub mH mI mW hH hI`.
            Some(b'1') => text.splitn(9, ' ').nth(8),
            // A renamed file has one more field: the score of the rename.
            Some(b'2') => {
                lines.next();
                text.splitn(10, ' ').nth(9)
            }
            // The fields before the path are `u XY sub m1 m2 m3 mW h1 h2 h3`.
            Some(b'u') => text.splitn(11, ' ').nth(10),
            Some(b'?') => {
                status.untracked_count += 1;
                status.may_have_repositories |= text.ends_with('/');
                text.get(2..)
            }
            Some(b'!') => {
                status.ignored_count += 1;
                if status.ignored.len() < NAMED {
                    status
                        .ignored
                        .push(text.get(2..).unwrap_or_default().to_owned());
                }
                None
            }
            _ => None,
        };
        let Some(path) = path else { continue };
        let state = &mut status.state;
        state.dirty_count += 1;
        named_bytes += path.len();
        if state.dirty.len() < NAMED && named_bytes <= NAMED_BYTES {
            state.dirty.push(path.to_owned());
        }
    }
    status
}

/// Whether only the commit that is checked out in a submodule differs from the index. Such a line
/// begins with `1 .M SC`.
fn is_moved_submodule(line: &str) -> bool {
    let mut words = line.split(' ').skip(1);
    words.next() == Some(".M") && words.next().is_some_and(|sub| sub.starts_with('S'))
}

/// Whether a line is that of a file of which the index has another content than HEAD.
fn is_staged(line: &[u8]) -> bool {
    match line {
        [b'1', b' ', staged, ..] => *staged != b'.',
        [kind, ..] => matches!(*kind, b'2' | b'u'),
        [] => false,
    }
}

/// Whether a line begins with `1 XY`, where X means that the index has another content than HEAD,
/// and Y that the file has another content than the index or is missing.
fn is_only_staged(line: &[u8]) -> bool {
    match line {
        [b'1', b' ', staged, there, ..] => !matches!(*staged, b'.' | b'D') && *there != b'.',
        _ => false,
    }
}

fn heading(head: &str, state: &mut GitState) {
    match head.split_once(' ') {
        Some(("branch.oid", oid)) if oid != "(initial)" => state.commit = Some(oid.to_owned()),
        Some(("branch.head", head)) if head != "(detached)" => state.branch = Some(head.to_owned()),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::{
        fs::{self, File},
        time::{Duration, UNIX_EPOCH},
    };

    use super::*;
    use crate::git::tests::Person;

    fn check(lines: &[&str], branch: Option<&str>, commit: Option<&str>, dirty: &[&str]) {
        let output = lines.join("\0") + "\0";
        let state = parse(output.as_bytes(), Submodules::Inside).state;
        assert_eq!(
            (state.branch.as_deref(), state.commit.as_deref()),
            (branch, commit)
        );
        assert_eq!(state.dirty, dirty);
        assert_eq!(state.dirty_count, dirty.len() as u64);
    }

    #[test]
    fn each_kind_of_status_line_is_parsed() {
        check(
            &["# branch.oid ab12", "# branch.head main"],
            Some("main"),
            Some("ab12"),
            &[],
        );
        check(
            &["# branch.oid (initial)", "# branch.head (detached)"],
            None,
            None,
            &[],
        );
        check(
            &[
                "# branch.ab +1 -0",
                "1 .M N... 100644 100644 100644 aa bb a file",
                "2 R. N... 100644 100644 100644 aa bb R100 new name",
                "old name",
                "u UU N... 100644 100644 100644 100644 aa bb cc both",
                "? new/",
                "! ignored",
            ],
            None,
            None,
            &["a file", "new name", "both", "new/"],
        );
    }

    #[test]
    fn all_changed_paths_are_counted_but_only_a_limited_number_is_listed() {
        let many = "? file\0".repeat(60);
        let state = parse(many.as_bytes(), Submodules::Inside).state;
        assert_eq!((state.dirty.len(), state.dirty_count), (NAMED, 60));
        let long = format!("? {}\0? cut off", "d/".repeat(NAMED_BYTES));
        let state = parse(long.as_bytes(), Submodules::Inside).state;
        assert_eq!((state.dirty.len(), state.dirty_count), (0, 1));
    }

    #[test]
    fn ignored_files_are_counted_separately() {
        let many = "! out/\0".repeat(60);
        let output = format!("? new\0{many}! cut off");
        let status = parse(output.as_bytes(), Submodules::Inside);
        assert_eq!(status.state.dirty, ["new"]);
        assert_eq!((status.ignored.len(), status.ignored_count), (NAMED, 60));
        assert_eq!(status.ignored[0], "out/");
    }

    #[test]
    fn further_checks_before_a_commit_are_left_out_only_if_they_would_find_nothing() {
        let check = |lines: &str, expected: [bool; 3]| {
            let status = parse(lines.as_bytes(), Submodules::Inside);
            let found = Uncommitted::from(status);
            let found = [
                found.may_conflict,
                found.may_be_staged,
                found.may_have_repositories,
            ];
            assert_eq!(found, expected, "{lines:?}");
        };
        check("", [false; 3]);
        let fields = "N... 100644 100644 100644 aa bb";
        check(&format!("1 .M {fields} a/\0? new\0"), [false; 3]);
        check(&format!("1 M. {fields} a\0"), [false, true, false]);
        check("? new\0! x/\0", [false; 3]);
        check(&format!("1 .M {fields} a\0? dir/\0"), [false, false, true]);
        let both = "u UU N... 100644 100644 100644 100644 aa bb cc both\0";
        check(both, [true, true, false]);
    }

    #[tokio::test]
    async fn the_status_shows_a_repository_and_what_is_staged_before_a_commit() {
        let person = Person::with_repository("");
        person.write("file", "one");
        person.commit_all("first");
        let check = async |staged: bool, repositories: bool| {
            let found = person.at(".").uncommitted().await.unwrap();
            assert_eq!(
                (found.may_be_staged, found.may_have_repositories),
                (staged, repositories),
                "{found:?}"
            );
        };
        person.write("file", "two");
        check(false, false).await;
        person.git(&["init", "-q", "without-commit"]);
        check(false, true).await;
        person.git(&["add", "file"]);
        check(true, true).await;
    }

    /// Otherwise the repository would be committed as a hash that nobody else has.
    #[tokio::test]
    async fn a_repository_is_seen_in_a_directory_that_git_has_cached() {
        let person = Person::with_repository("[core]\n\tuntrackedCache = true\n");
        person.write("file", "one");
        person.commit_all("first");
        let inner = person.work().join("inner");
        fs::create_dir(&inner).unwrap();
        // Git does not trust its cache of a directory that has just changed.
        let long_ago = UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        for dir in [inner, person.work()] {
            File::open(dir).unwrap().set_modified(long_ago).unwrap();
        }
        person.git(&["status"]);
        person.git(&["init", "-q", "inner"]);
        let found = person.at(".").uncommitted().await.unwrap();
        assert!(found.may_have_repositories, "{found:?}");
    }

    #[tokio::test]
    async fn untracked_and_changed_files_are_distinguished() {
        let person = Person::new("");
        person.git(&["init", "-q", "-b", "trunk"]);
        person.write("z", "one");
        person.commit_all("first");
        person.write("a", "new");
        person.write("dir/b", "new");
        let changes = person.at(".").changes().await.unwrap();
        let expected = Changes {
            untracked: 2,
            ..Changes::default()
        };
        assert_eq!(changes, expected);
        person.write("z", "two");
        let changes = person.at(".").changes().await.unwrap();
        let expected = Changes {
            known: 1,
            files: vec!["z".to_owned()],
            untracked: 2,
        };
        assert_eq!(changes, expected);
    }

    #[tokio::test]
    async fn the_real_status_is_read_and_a_missing_git_is_reported() {
        let person = Person::new("");
        person.git(&["init", "-q", "-b", "trunk"]);
        person.write("größe\n2", "");
        let state = person.at(".").status().await.unwrap();
        assert_eq!(
            (state.branch.as_deref(), state.commit),
            (Some("trunk"), None)
        );
        assert_eq!(state.dirty, ["größe\n2"]);
        let git = person.with_programs(Path::new("/no/such"));
        let error = git.status().await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "git is not installed: `git` was not found on the host's PATH"
        );
    }
}

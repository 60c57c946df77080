//! The diff of a task, for people to read.
//!
//! The user's settings for the appearance of a diff apply. Settings that run programs do not apply,
//! so no external program compares files or converts them to text. The output is bounded.

use std::{fs, io, path::Path};

use super::{
    Commit, Git, GitError, failed,
    index::OtherIndex,
    spec::{LONG, Spec},
};

/// The length at which a diff is cut, since nobody reads more.
pub(crate) const DIFF_BYTES: usize = 4 << 20;

const OPTIONS: &[&str] = &[
    "diff",
    "--no-ext-diff",
    "--no-textconv",
    "--no-color",
    "--no-relative",
    "--submodule=short",
    "--ignore-submodules=dirty",
];

/// The shape of a diff: a patch, or a list of files with the size of each change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Shape {
    Patch,
    /// A list of the changed files, at most this many columns wide.
    Stat(u16),
}

/// The diff that is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) shape: Shape,
    /// The only file or directory to show, as a path from the top of the checkout.
    pub(crate) path: Option<&'a str>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Diff {
    pub(crate) text: String,
    /// Whether the end of the diff was cut off.
    pub(crate) is_cut: bool,
}

impl Git {
    pub(crate) async fn diff(
        &self,
        from: &Commit,
        to: &Commit,
        wanted: Wanted<'_>,
    ) -> Result<Diff, GitError> {
        let spec = spec(wanted, &[from, to]);
        self.read_diff(&spec).await
    }

    /// The diff from a commit to the files in the checkout, including untracked files that are not
    /// ignored. If git cannot look at one of these, the diff begins with a line that says so.
    /// Changes nothing in the checkout or its repository.
    pub(crate) async fn diff_to_files(
        &self,
        from: &Commit,
        repository: &Path,
        wanted: Wanted<'_>,
    ) -> Result<Diff, GitError> {
        let place = self.own_place(repository).await?;
        let index = self.copied_index(&place.git_dir).await?;
        // Only the names of new files are added to the temporary index, not their contents.
        let add = ["add", "--intent-to-add", "--ignore-errors", "--all"];
        let add = Spec::reads(add.into_iter().chain(["--", ":(top)"]));
        let add = self.without_foreign(add).await?.index(index.path());
        let add = add.limit(LONG);
        let added = self.run(&add).await?;
        let spec = spec(wanted, &[from]).index(index.path());
        let mut diff = self.read_diff(&spec).await?;
        if !added.status.success() {
            let why = failed(&add, &added);
            // For git, text before the first file is no part of a patch.
            diff.text = format!("new files may be missing: {why}\n{}", diff.text);
        }
        Ok(diff)
    }

    async fn copied_index(&self, git_dir: &Path) -> Result<OtherIndex, GitError> {
        let index = git_dir.join("index");
        let copy = OtherIndex::new(git_dir);
        let target = copy.path().to_owned();
        let copied = self
            .look_at_files(move |_| copy_with_its_time(&index, &target))
            .await?;
        match copied {
            Ok(()) => Ok(copy),
            // A checkout without files has no index. In this case git creates the temporary index.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(copy),
            Err(source) => Err(GitError::Read {
                path: git_dir.join("index"),
                source,
            }),
        }
    }

    async fn read_diff(&self, spec: &Spec) -> Result<Diff, GitError> {
        let finished = self.run(spec).await?;
        let is_cut = finished.stdout.len() >= DIFF_BYTES;
        if !finished.status.success() && !is_cut {
            return Err(failed(spec, &finished));
        }
        let text = String::from_utf8_lossy(&finished.stdout);
        let end = text.rfind('\n').filter(|_| is_cut).map(|end| end + 1);
        Ok(Diff {
            text: text[..end.unwrap_or(text.len())].to_owned(),
            is_cut,
        })
    }
}

/// Copies an index and keeps its modification time, because git trusts an index only if it is newer
/// than the files.
pub(super) fn copy_with_its_time(from: &Path, to: &Path) -> io::Result<()> {
    let time = fs::metadata(from)?.modified()?;
    fs::copy(from, to)?;
    fs::File::options().write(true).open(to)?.set_modified(time)
}

fn spec(wanted: Wanted<'_>, commits: &[&Commit]) -> Spec {
    let shaped = match wanted.shape {
        Shape::Patch => "--patch".to_owned(),
        Shape::Stat(columns) => format!("--stat={columns}"),
    };
    // In this form, a `*` in the path matches only itself, and the path is relative to the top of
    // the checkout even if git runs in another directory.
    let path = wanted.path.map(|path| format!(":(top,literal){path}"));
    let commits = commits.iter().map(|commit| commit.hash().to_owned());
    let rest = commits.chain(["--".to_owned()]).chain(path);
    rest.fold(Spec::reads(OPTIONS).arg(shaped), Spec::arg)
        .limit(LONG)
        .kept_bytes(DIFF_BYTES)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::path::PathBuf;

    use super::*;
    use crate::git::tests::Person;

    const HOSTILE: &str = "\
[diff]
	external = touch external; false
[diff \"own\"]
	textconv = touch textconv; od
	command = touch command; false
[core]
	attributesFile = ~/.attributes
	pager = touch pager; cat
[color]
	ui = always
";

    /// A worktree with a new file.
    struct Changed {
        dir: PathBuf,
        git: Git,
        repository: PathBuf,
        /// The commit at which the worktree was made.
        base: Commit,
    }

    impl Changed {
        /// The worktree is beside the repository of a person, which has no commit yet.
        async fn beside(person: &Person) -> Self {
            person.write("file", "one\n");
            person.commit_all("first");
            let base = person.commit("HEAD").await;
            let dir = person.home().join("beside");
            let path = dir.to_str().unwrap();
            person.git(&["worktree", "add", "-q", "-b", "task", path]);
            fs::write(dir.join("new"), "new\n").unwrap();
            let git = person.at(path);
            let repository = git.place().await.unwrap().repository;
            Self {
                dir,
                git,
                repository,
                base,
            }
        }

        async fn diff(&self, wanted: Wanted<'_>) -> Diff {
            let diff = self.git.diff_to_files(&self.base, &self.repository, wanted);
            diff.await.unwrap()
        }
    }

    const ALL: Wanted<'static> = Wanted {
        shape: Shape::Patch,
        path: None,
    };

    /// Git adds no repository without a commit.
    #[tokio::test]
    async fn a_diff_says_that_new_files_may_be_missing_and_shows_the_others() {
        let person = Person::with_repository("");
        let changed = Changed::beside(&person).await;
        let says = "new files may be missing: `git add` failed: ";
        let diff = changed.diff(ALL).await;
        assert!(diff.text.starts_with("diff --git "), "{}", diff.text);
        person.git_in(&changed.dir, &["init", "-q", "inner"]);
        let diff = changed.diff(ALL).await;
        assert!(diff.text.starts_with(says), "{}", diff.text);
        assert!(diff.text.contains("+++ b/new\n"), "{}", diff.text);
    }

    #[tokio::test]
    async fn a_diff_runs_no_programs_and_shows_new_files() {
        let person = Person::with_repository(HOSTILE);
        fs::write(person.home().join(".attributes"), "* diff=own\n").unwrap();
        let changed = Changed::beside(&person).await;
        let Changed { dir, git, .. } = &changed;
        fs::write(dir.join("file"), "two\n").unwrap();
        let wanted = |shape, path| Wanted { shape, path };
        let patch = changed.diff(ALL).await;
        assert!(patch.text.contains("-one\n+two\n"), "{}", patch.text);
        assert!(patch.text.contains("+++ b/new\n"), "{}", patch.text);
        assert!(!patch.is_cut && !patch.text.contains('\x1b'));
        let one = wanted(Shape::Patch, Some("new"));
        let of_one = changed.diff(one).await;
        assert!(of_one.text.contains("+++ b/new\n") && !of_one.text.contains("two"));
        let none = wanted(Shape::Patch, Some("*"));
        let of_none = changed.diff(none).await;
        assert_eq!(of_none.text, "");
        let stat = changed.diff(wanted(Shape::Stat(80), None)).await.text;
        assert!(
            stat.ends_with("2 files changed, 2 insertions(+), 1 deletion(-)\n"),
            "{stat}"
        );
        // The checkout is unchanged, no temporary index is left, and no program was run.
        assert_eq!(git.status().await.unwrap().dirty, ["file", "new"]);
        let git_dir = git.place().await.unwrap().git_dir;
        let left = fs::read_dir(git_dir).unwrap();
        let mut names = left.map(|entry| entry.unwrap().file_name());
        assert!(!names.any(|name| name.to_string_lossy().starts_with("claudine")));
        for program in ["external", "textconv", "command", "pager"] {
            assert!(!dir.join(program).exists(), "{program}");
        }
        fs::write(dir.join("new"), "long line\n".repeat(500_000)).unwrap();
        let cut = changed.diff(ALL).await;
        assert!(cut.is_cut && cut.text.len() <= DIFF_BYTES && cut.text.ends_with('\n'));
    }
}

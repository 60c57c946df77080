//! Merging in memory, with the attributes of files read from a commit instead of the checkout.

use std::{fs, path::PathBuf};

use tempfile::TempDir;

use super::{
    Commit, Git, GitError, failed,
    spec::{LONG, Spec},
};
use crate::command::Finished;

/// The first version of git that can merge with attributes from a commit. Versions 2.41 and 2.42
/// know `GIT_ATTR_SOURCE`, but their `merge-tree` crashes with it.
const MERGES_WITH_THOSE_OF_A_COMMIT: (u32, u32) = (2, 43);

/// A temporary directory.
struct Apart {
    dir: TempDir,
    /// An empty directory in `dir`, which git uses as its checkout.
    top: PathBuf,
    git: Git,
}

impl Git {
    /// Runs a merge in memory with the attributes in this commit. Attributes in the checkout are
    /// ignored. Merge drivers run in an empty directory and not in the checkout. In a checkout, git
    /// would leave temporary files if it is killed, and a relative command would run a program that
    /// the task has written.
    pub(super) async fn run_with_attributes_of(
        &self,
        commit: &Commit,
        spec: &Spec,
    ) -> Result<Finished, GitError> {
        if self.version().await? < MERGES_WITH_THOSE_OF_A_COMMIT {
            return self.run_beside_attributes_of(commit, spec).await;
        }
        let apart = self.apart().await?;
        let spec = spec.clone().attributes_of(commit).work_tree(&apart.top);
        apart.git.run(&spec).await
    }

    /// Does the same for versions that read attributes only from the files of the checkout: the
    /// directory contains the commit's attributes and nothing else.
    async fn run_beside_attributes_of(
        &self,
        commit: &Commit,
        spec: &Spec,
    ) -> Result<Finished, GitError> {
        let Apart { dir, top, git } = self.apart().await?;
        let index = dir.path().join("index");
        let there = |spec: Spec| spec.index(&index).work_tree(&top).limit(LONG);
        let read = there(Spec::changes(["read-tree", commit.hash()]));
        git.change(&read).await?;
        let arguments = ["checkout", "--quiet", "--ignore-skip-worktree-bits", "--"];
        let write = there(Spec::changes(arguments).arg(":(top,glob)**/.gitattributes"));
        let written = git.run(&write).await?;
        let said = String::from_utf8_lossy(&written.stderr);
        let has_none = said.contains("did not match any file");
        if !written.status.success() && !has_none {
            return Err(failed(&write, &written));
        }
        // To renormalize files, git would also read the attributes of the other side.
        let spec = spec.clone().setting("merge.renormalize", "false");
        git.run(&there(spec)).await
    }

    async fn apart(&self) -> Result<Apart, GitError> {
        let unusable = |source| GitError::Read {
            path: std::env::temp_dir(),
            source,
        };
        let dir = TempDir::new().map_err(unusable)?;
        let top = dir.path().join("top");
        fs::create_dir(&top).map_err(unusable)?;
        // This is the git directory of the checkout itself, which has the repositories of its
        // submodules.
        let git = self.in_repository(self.git_dir().await?);
        Ok(Apart { dir, top, git })
    }

    /// The first two numbers of git's version. An unreadable version counts as a new one.
    async fn version(&self) -> Result<(u32, u32), GitError> {
        let printed = self.printed_version(self.folds_case().await?).await?;
        Ok(parse(&printed).unwrap_or(MERGES_WITH_THOSE_OF_A_COMMIT))
    }
}

fn parse(line: &str) -> Option<(u32, u32)> {
    let version = line.strip_prefix("git version ")?;
    let mut numbers = version.split('.').map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::panic,
        reason = "a test fails by panicking"
    )]
    use super::*;
    use crate::git::tests::Person;

    #[test]
    fn a_version_is_parsed_from_the_answer_of_git() {
        let check = |line: &str, expected: Option<(u32, u32)>| {
            assert_eq!(parse(line), expected, "{line}");
        };
        check("git version 2.39.5\n", Some((2, 39)));
        check("git version 2.50.1 (Apple Git-155)\n", Some((2, 50)));
        check("git version 2.41.0.rc1\n", Some((2, 41)));
        check("git version 3.0.0-rc0\n", Some((3, 0)));
        check("something else", None);
    }

    /// Commits all files, with this text in `file`.
    async fn commit(person: &Person, text: &str) -> Commit {
        person.write("file", text);
        person.commit_all("change");
        person.commit("HEAD").await
    }

    fn merge(ours: &Commit, theirs: &Commit) -> Spec {
        Spec::changes(["merge-tree", "--write-tree", ours.hash(), theirs.hash()])
    }

    /// Results of a merge as a new git makes it, and as an old git makes it.
    async fn merged_both_ways(git: &Git, attributes_of: &Commit, merge: &Spec) -> [Finished; 2] {
        [
            git.run_with_attributes_of(attributes_of, merge)
                .await
                .unwrap(),
            git.run_beside_attributes_of(attributes_of, merge)
                .await
                .unwrap(),
        ]
    }

    #[tokio::test]
    async fn a_merge_follows_the_attributes_of_a_commit_instead_of_those_in_the_checkout() {
        let person = Person::with_repository("");
        // Directories with the names of the temporary files may have attributes too.
        for dir in ["inner", "index", "top"] {
            person.write(&format!("{dir}/.gitattributes"), "file of-the-commit\n");
        }
        person.write(".gitattributes", "file merge=union\n");
        commit(&person, "one\n").await;
        person.git(&["branch", "other"]);
        let ours = commit(&person, "one\nours\n").await;
        person.git(&["checkout", "-q", "other"]);
        // The other branch has attributes by which the files conflict.
        person.write(".gitattributes", "file -merge\n");
        let theirs = commit(&person, "one\ntheirs\n").await;
        let git = person.at("");
        let merge = merge(&ours, &theirs);
        for finished in merged_both_ways(&git, &ours, &merge).await {
            assert_eq!(finished.status.code(), Some(0), "{finished:?}");
            let tree = String::from_utf8_lossy(&finished.stdout);
            let file = format!("{}:file", tree.trim());
            assert_eq!(person.git(&["show", &file]), "one\nours\ntheirs");
        }
        let finished = git.run_beside_attributes_of(&theirs, &merge).await.unwrap();
        assert_eq!(finished.status.code(), Some(1), "{finished:?}");
        assert_eq!(git.status().await.unwrap().dirty, [""; 0]);
    }

    #[tokio::test]
    async fn attributes_of_the_other_side_are_ignored_even_if_files_are_renormalized() {
        let person = Person::with_repository("[merge]\n\trenormalize = true\n");
        commit(&person, "one\n").await;
        person.git(&["branch", "other"]);
        let ours = commit(&person, "one\nours\n").await;
        person.git(&["checkout", "-q", "other"]);
        person.write(".gitattributes", "file merge=union\n");
        let theirs = commit(&person, "one\ntheirs\n").await;
        let git = person.at("");
        let merge = merge(&ours, &theirs);
        for finished in merged_both_ways(&git, &ours, &merge).await {
            assert_eq!(finished.status.code(), Some(1), "{finished:?}");
        }
    }

    #[tokio::test]
    async fn a_merge_needs_no_attributes() {
        let person = Person::with_repository("");
        let commit = commit(&person, "one\n").await;
        let git = person.at("");
        let merge = merge(&commit, &commit);
        let finished = git.run_beside_attributes_of(&commit, &merge).await.unwrap();
        assert!(finished.status.success(), "{finished:?}");
    }
}

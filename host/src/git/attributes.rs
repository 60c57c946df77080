//! Runs git commands that must read the attributes of files from a commit instead of the checkout.

use tempfile::TempDir;

use super::{
    Commit, Git, GitError,
    spec::{LONG, Spec},
};
use crate::command::Finished;

/// The first version of git that can read attributes from a commit.
const READS_FROM_A_COMMIT: (u32, u32) = (2, 41);

impl Git {
    /// Runs a command that changes no files, with the attributes in this commit. Attributes in the
    /// checkout are ignored.
    pub(super) async fn run_with_attributes_of(
        &self,
        commit: &Commit,
        spec: &Spec,
    ) -> Result<Finished, GitError> {
        if self.version().await? >= READS_FROM_A_COMMIT {
            return self.run(&spec.clone().attributes_of(commit)).await;
        }
        self.run_on_index_of(commit, spec).await
    }

    /// Does the same with older versions of git, which read attributes only from the checkout, or
    /// else from the index. The command gets an empty directory as its checkout, and an index that
    /// is made from the commit.
    async fn run_on_index_of(&self, commit: &Commit, spec: &Spec) -> Result<Finished, GitError> {
        let no_files = TempDir::new().map_err(|source| GitError::Read {
            path: std::env::temp_dir(),
            source,
        })?;
        let git = self.in_repository(self.git_dir().await?);
        let index = no_files.path().join("index");
        let read = Spec::changes(["read-tree", commit.hash()]).index(&index);
        git.change(&read.limit(LONG)).await?;
        let spec = spec.clone().index(&index).work_tree(no_files.path());
        git.run(&spec).await
    }

    /// The first two numbers of git's version. An unreadable version counts as a new one.
    async fn version(&self) -> Result<(u32, u32), GitError> {
        let output = self.output(&Spec::reads(["version"])).await?;
        let version = parse(&String::from_utf8_lossy(&output));
        Ok(version.unwrap_or(READS_FROM_A_COMMIT))
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

    #[tokio::test]
    async fn attributes_of_a_commit_are_used_instead_of_those_in_the_checkout() {
        let person = Person::new("");
        person.git(&["init", "-q", "-b", "main"]);
        person.write("file", "one\n");
        person.write(".gitattributes", "file of-the-commit\n");
        person.git(&["add", "-A"]);
        person.git(&["commit", "-q", "-m", "first"]);
        let commit = person.commit("HEAD").await;
        person.write(".gitattributes", "file of-the-checkout\n");
        person.git(&["add", "-A"]);
        let git = person.at("");
        let asked = Spec::reads(["check-attr", "--all", "file"]);
        let told = git.run(&asked).await.unwrap().stdout;
        assert_eq!(
            String::from_utf8_lossy(&told),
            "file: of-the-checkout: set\n"
        );
        for finished in [
            git.run_with_attributes_of(&commit, &asked).await,
            git.run_on_index_of(&commit, &asked).await,
        ] {
            let told = finished.unwrap().stdout;
            assert_eq!(String::from_utf8_lossy(&told), "file: of-the-commit: set\n");
        }
        assert_eq!(git.status().await.unwrap().dirty, [".gitattributes"]);
    }
}

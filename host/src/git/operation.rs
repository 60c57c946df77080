//! Operations of git that somebody has begun in a checkout and has not ended.

use std::path::Path;

use super::{Git, GitError};
use crate::fsx;

/// An operation that stays open in a checkout until it is completed or aborted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Operation {
    Merge,
    Rebase,
    /// `git am`, which applies patches.
    Am,
    CherryPick,
    Revert,
    /// Several cherry-picks or reverts. Between two of them, nothing else is open.
    Series,
    Bisect,
}

/// The files and directories in the git directory of a checkout that show an open operation. An
/// operation that makes those of others too comes before the others.
const SIGNS: [(&str, Operation); 8] = [
    ("rebase-merge", Operation::Rebase),
    ("rebase-apply/applying", Operation::Am),
    ("rebase-apply", Operation::Rebase),
    ("MERGE_HEAD", Operation::Merge),
    ("CHERRY_PICK_HEAD", Operation::CherryPick),
    ("REVERT_HEAD", Operation::Revert),
    ("sequencer", Operation::Series),
    ("BISECT_START", Operation::Bisect),
];

impl Operation {
    /// The operation as a noun.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Merge => "merge",
            Self::Rebase => "rebase",
            Self::CherryPick => "cherry-pick",
            Self::Revert => "revert",
            Self::Am => "`git am`",
            Self::Series => "series of cherry-picks or reverts",
            Self::Bisect => "bisect",
        }
    }

    /// The operation that is open in the checkout with this git directory. A branch or tag may have
    /// the name of the file that shows this, so git is not asked.
    pub(super) fn open_in(git_dir: &Path) -> Option<Self> {
        let mut signs = SIGNS.into_iter();
        let found = signs.find(|(file, _)| !fsx::is_missing(&git_dir.join(file)));
        found.map(|(_, operation)| operation)
    }
}

impl Git {
    /// The operation that was begun here and has not ended.
    pub(crate) async fn operation(&self) -> Result<Option<Operation>, GitError> {
        let git_dir = self.git_dir_here().await?;
        self.look_at_files(move |_| Operation::open_in(&git_dir))
            .await
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::fs;

    use super::*;
    use crate::git::tests::Person;

    #[tokio::test]
    async fn an_operation_that_is_open_in_a_checkout_is_found() {
        let person = Person::with_repository("");
        let commit = |text: &str| {
            person.write("file", text);
            person.commit_all(text);
        };
        commit("one");
        person.git(&["switch", "-q", "-c", "other"]);
        commit("two");
        commit("three");
        person.git(&["format-patch", "-q", "-1", "-o", "..", "other"]);
        person.git(&["switch", "-q", "main"]);
        commit("mine");
        let git = person.at(".");
        let check = async |begin: &str, expected: Operation, end: &str| {
            assert_eq!(git.operation().await.unwrap(), None, "{begin}");
            let begin = format!("alias.begin=!git {begin} > /dev/null 2>&1 || true");
            person.git(&["-c", &begin, "begin"]);
            let found = git.operation().await.unwrap();
            assert_eq!(found, Some(expected), "{begin}");
            person.git(&end.split(' ').collect::<Vec<_>>());
        };
        check("merge other", Operation::Merge, "merge --abort").await;
        let (pick, abort) = ("cherry-pick other", "cherry-pick --abort");
        check(pick, Operation::CherryPick, abort).await;
        check("revert HEAD~1", Operation::Revert, "revert --abort").await;
        for rebase in ["rebase other", "rebase --apply other"] {
            check(rebase, Operation::Rebase, "rebase --abort").await;
        }
        check("am ../0001-three.patch", Operation::Am, "am --abort").await;
        check("bisect start", Operation::Bisect, "bisect reset").await;
        // The first pick has ended, and the second has not begun.
        let picks = "cherry-pick main..other; echo two > file; git commit -q -a -m picked";
        check(picks, Operation::Series, "cherry-pick --quit").await;

        assert_eq!(git.operation().await.unwrap(), None);
        let git_dir = git.git_dir().await.unwrap();
        fs::create_dir(git_dir.join("rebase-merge")).unwrap();
        fs::write(git_dir.join("CHERRY_PICK_HEAD"), "").unwrap();
        assert_eq!(git.operation().await.unwrap(), Some(Operation::Rebase));
    }
}

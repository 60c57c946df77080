//! Operations of git that somebody has begun in a checkout and has not ended.

use super::{Git, GitError};
use crate::fsx;

/// An operation that stays open in a checkout until it is completed or aborted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Operation {
    Merge,
    Rebase,
    CherryPick,
    Revert,
    Bisect,
}

/// The files in the git directory of a checkout that show an open operation. A rebase comes first,
/// because it makes the files of the others too.
const SIGNS: [(&str, Operation); 6] = [
    ("rebase-merge", Operation::Rebase),
    ("rebase-apply", Operation::Rebase),
    ("MERGE_HEAD", Operation::Merge),
    ("CHERRY_PICK_HEAD", Operation::CherryPick),
    ("REVERT_HEAD", Operation::Revert),
    ("BISECT_LOG", Operation::Bisect),
];

impl Operation {
    /// The operation as a noun.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Merge => "merge",
            Self::Rebase => "rebase",
            Self::CherryPick => "cherry-pick",
            Self::Revert => "revert",
            Self::Bisect => "bisect",
        }
    }
}

impl Git {
    /// The operation that was begun here and has not ended. A branch or tag may have the name of
    /// the file that shows this, so git is not asked.
    pub(crate) async fn operation(&self) -> Result<Option<Operation>, GitError> {
        let git_dir = self.git_dir().await?;
        self.look_at_files(move |_| {
            let mut signs = SIGNS.into_iter();
            let found = signs.find(|(file, _)| !fsx::is_missing(&git_dir.join(file)));
            found.map(|(_, operation)| operation)
        })
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
        person.write("file", "one\n");
        person.commit_all("first");
        let git = person.at(".");
        assert_eq!(git.operation().await.unwrap(), None);
        let git_dir = git.git_dir().await.unwrap();
        for (file, expected) in SIGNS {
            fs::write(git_dir.join(file), "").unwrap();
            let found = git.operation().await.unwrap();
            assert_eq!(found, Some(expected), "{file}");
            fs::remove_file(git_dir.join(file)).unwrap();
        }
        fs::create_dir(git_dir.join("rebase-merge")).unwrap();
        fs::write(git_dir.join("CHERRY_PICK_HEAD"), "").unwrap();
        assert_eq!(git.operation().await.unwrap(), Some(Operation::Rebase));
    }
}

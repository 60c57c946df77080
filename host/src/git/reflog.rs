//! Reads git's notes about earlier states of a checkout.

use std::fs;

use super::{Commit, Git, GitError};

impl Git {
    /// The last commit that was checked out here, if git has noted it. It is read from the file,
    /// because git has no command for it once the branch is deleted.
    pub(crate) async fn last_commit(&self) -> Result<Option<Commit>, GitError> {
        let file = self.place().await?.git_dir.join("logs/HEAD");
        self.look_at_files(move |_| {
            let notes = fs::read(file).ok()?;
            last_noted(&String::from_utf8_lossy(&notes))
        })
        .await
    }
}

/// Parses the last line. Each line begins with the commit before the change and the commit after
/// it. A hash of only zeros means no commit.
fn last_noted(notes: &str) -> Option<Commit> {
    notes.lines().rev().find_map(|line| {
        let mut words = line.split(' ');
        let (before, after) = (words.next()?, words.next()?);
        let is_one = |hash: &&str| hash.bytes().any(|byte| byte != b'0');
        let commit = [after, before].into_iter().find(is_one)?;
        Commit::parse(commit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_commit_is_known_after_its_branch_was_deleted() {
        let hashes = ["0", "1", "2"].map(|digit| digit.repeat(40));
        let [none, one, two] = hashes.each_ref().map(String::as_str);
        let check = |notes: &[(&str, &str)], expected: Option<&str>| {
            let line = |(before, after): &(&str, &str)| {
                format!("{before} {after} P <p@x> 1795745120 +0000\tcommit: work\n")
            };
            let notes: String = notes.iter().map(line).collect();
            assert_eq!(last_noted(&notes), expected.and_then(Commit::parse));
        };
        check(&[(none, one), (one, two)], Some(two));
        check(&[(none, one), (one, two), (two, none)], Some(two));
        check(&[(none, none)], None);
        check(&[], None);
        assert_eq!(last_noted("something else"), None);
    }
}

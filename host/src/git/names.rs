//! Types for names that are passed to git. They prevent ambiguity, because git takes a bare name
//! for a tag, a branch, a remote or the beginning of a hash, whichever it finds first.

use std::fmt;

use serde::{Deserialize, Serialize};

const HEADS: &str = "refs/heads/";
/// The maximum length of a part of a branch's name, in bytes. Each part between slashes becomes a
/// file name, and git also makes a file with `.lock` appended to the name.
const PART_BYTES: usize = 250;
/// Names outside `refs/` that git uses for itself and that do not end in `_HEAD`, and the short
/// name of `refs/stash`.
const OF_GIT: [&str; 7] = [
    "@",
    "AUTO_MERGE",
    "BISECT_EXPECTED_REV",
    "MERGE_AUTOSTASH",
    "NOTES_MERGE_PARTIAL",
    "NOTES_MERGE_REF",
    "stash",
];

/// Beginnings that git accepts before the name of a branch or tag, as in `heads/main`. A branch
/// with the whole name `heads/main` would hide the branch `main`, or be hidden by it.
const PLACES: [&str; 4] = ["refs/", "heads/", "tags/", "remotes/"];

/// A branch of this repository. Stores the short name, which people see. Git always gets the full
/// name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct BranchRef(String);

impl BranchRef {
    pub(crate) fn named(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// The branch with a full name; `None` if the name is not that of a branch.
    pub(crate) fn from_full(full: &str) -> Option<Self> {
        full.strip_prefix(HEADS).map(Self::named)
    }

    pub(crate) fn name(&self) -> &str {
        &self.0
    }

    pub(crate) fn full(&self) -> String {
        format!("{HEADS}{}", self.0)
    }

    /// Whether a file system can store the name.
    pub(super) fn fits(&self) -> bool {
        self.0.split('/').all(|part| part.len() <= PART_BYTES)
    }

    /// Whether git accepts the name for certain: each part begins with a small letter or a digit,
    /// and has no other characters except dashes and underscores.
    pub(super) fn is_plain(&self) -> bool {
        let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let is_plain = |part: &str| {
            part.bytes().next().is_some_and(is_word)
                && part
                    .bytes()
                    .all(|byte| is_word(byte) || b"-_".contains(&byte))
        };
        self.0.split('/').all(is_plain)
    }

    /// Whether git has another meaning for the name in every repository: a full name or the end of
    /// one, a whole hash, or a name such as `FETCH_HEAD`.
    pub(super) fn is_reserved(&self) -> bool {
        let name = self.name();
        let is_head = name == "HEAD" || name.ends_with("_HEAD") && !name.contains('/');
        is_head
            || OF_GIT.contains(&name)
            || PLACES.iter().any(|place| name.starts_with(place))
            || Commit::parse(&name.to_ascii_lowercase()).is_some()
    }

    /// The branches that cannot exist beside this branch, because their names would have to be
    /// directories: for `a/b/c` these are `a` and `a/b`.
    pub(super) fn above(&self) -> impl Iterator<Item = Self> {
        let slashes = self.0.match_indices('/');
        slashes.map(|(at, _)| Self::named(&self.0[..at]))
    }
}

impl fmt::Display for BranchRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A commit, identified by its whole hash in git's own spelling.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Commit(String);

impl Commit {
    /// Parses a whole hash; `None` for any other text.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let is_hash = matches!(text.len(), 40 | 64)
            && text
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        is_hash.then(|| Self(text.to_owned()))
    }

    pub(crate) fn hash(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Commit {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text).ok_or_else(|| format!("`{text}` is not the hash of a commit"))
    }
}

impl From<Commit> for String {
    fn from(commit: Commit) -> Self {
        commit.0
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn git_gets_only_full_names_of_branches() {
        for name in ["v2", "heads/v2", "refs/heads/v2", "@", "0123456789"] {
            let branch = BranchRef::named(name);
            assert_eq!(branch.full(), format!("refs/heads/{name}"));
            assert_eq!(BranchRef::from_full(&branch.full()), Some(branch.clone()));
            assert_eq!(branch.to_string(), name, "people see the short name");
        }
        assert_eq!(BranchRef::from_full("refs/tags/v2"), None);
    }

    #[test]
    fn names_that_git_uses_itself_are_reserved() {
        let check = |name: &str, expected: bool| {
            assert_eq!(BranchRef::named(name).is_reserved(), expected, "{name}");
        };
        for name in [
            "HEAD",
            "FETCH_HEAD",
            "ORIG_HEAD",
            "@",
            "stash",
            "AUTO_MERGE",
        ] {
            check(name, true);
        }
        for name in [
            "refs/heads/main",
            "refs/remotes/origin/main",
            "refs/x",
            "heads/new",
            "tags/v9",
            "remotes/origin/later",
        ] {
            check(name, true);
        }
        check(&"0f".repeat(20), true);
        check(&"0F".repeat(20), true);
        check(&"0f".repeat(32), true);
        for name in [
            "main",
            "head",
            "fix/HEAD",
            "stash/2",
            "my-refs/x",
            "heads",
            "fix/tags/v9",
            "12",
            "0f0f0f0",
        ] {
            check(name, false);
        }
    }

    #[test]
    fn the_branches_above_a_branch_are_listed() {
        let above = |name: &str| -> Vec<String> {
            let branch = BranchRef::named(name);
            branch.above().map(|above| above.0).collect()
        };
        assert_eq!(above("a/b/c"), ["a", "a/b"]);
        assert!(above("a").is_empty());
    }

    #[test]
    fn only_a_name_that_every_git_accepts_is_plain() {
        let check = |name: &str, expected: bool| {
            assert_eq!(BranchRef::named(name).is_plain(), expected, "{name:?}");
        };
        for plain in ["main", "claudine/fix-tests-2", "7/a_b"] {
            check(plain, true);
        }
        for other in [
            "",
            "-x",
            "a/-x",
            "a//b",
            "/a",
            "a/",
            "HEAD",
            "a..b",
            "x.lock",
            "@",
            "a b",
            "a~1",
            "größe",
            "(detached)",
            "a\nb",
        ] {
            check(other, false);
        }
    }

    #[test]
    fn a_branch_name_with_a_part_too_long_for_a_file_name_does_not_fit() {
        let check = |name: String, fits: bool| assert_eq!(BranchRef::named(name).fits(), fits);
        check("x".repeat(250), true);
        check("x".repeat(251), false);
        check(format!("a/{}/b", "x".repeat(251)), false);
    }

    #[test]
    fn only_a_whole_lower_case_hash_is_parsed_as_a_commit() {
        let check = |text: &str, is_one: bool| {
            assert_eq!(Commit::parse(text).is_some(), is_one, "{text}");
        };
        check(&"0f".repeat(20), true);
        check(&"0f".repeat(32), true);
        check(&"0F".repeat(20), false);
        check("0f0f0f0", false);
        check("main", false);
        check(&"-x".repeat(20), false);
        let text = format!("\"{}\"", "0f".repeat(20));
        let commit: Commit = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_string(&commit).unwrap(), text);
        assert!(serde_json::from_str::<Commit>("\"main\"").is_err());
    }
}

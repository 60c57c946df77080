//! The paths that differ between two commits.

use super::{
    Git, GitError, names,
    spec::{LIST_BYTES, LONG, Spec},
};

const NOTHING: &str = "000000";
pub(super) const LINK: &str = "160000";

/// A path that differs between two commits or trees.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Entry {
    pub(super) path: String,
    /// The mode of the path in the older commit.
    pub(super) old: String,
    /// The mode of the path in the newer commit.
    pub(super) new: String,
    /// The hash of the file, or the commit of the nested repository, in the newer commit.
    pub(super) hash: String,
}

impl Entry {
    pub(super) fn is_in_old(&self) -> bool {
        self.old != NOTHING
    }

    pub(super) fn is_in_new(&self) -> bool {
        self.new != NOTHING
    }

    /// Whether neither of the commits has a file at this path.
    pub(super) fn is_of_submodule(&self) -> bool {
        !is_file(&self.old) && !is_file(&self.new)
    }

    /// Whether one of the commits has a submodule at this path.
    pub(super) fn has_link(&self) -> bool {
        self.old == LINK || self.new == LINK
    }

    /// Whether the older commit has nothing of the same kind at this path.
    pub(super) fn is_new(&self) -> bool {
        self.is_new_file() || self.new == LINK && self.old != LINK
    }

    /// Whether only the newer commit has a file or a symbolic link at this path.
    pub(super) fn is_new_file(&self) -> bool {
        is_file(&self.new) && !is_file(&self.old)
    }
}

fn is_file(mode: &str) -> bool {
    mode != NOTHING && mode != LINK
}

impl Git {
    /// The paths that differ between two commits or trees.
    pub(super) async fn entries_between(
        &self,
        old: &str,
        new: &str,
    ) -> Result<Vec<Entry>, GitError> {
        let spec = Spec::reads([
            "diff-tree",
            "-r",
            "-z",
            "--raw",
            "--no-abbrev",
            "--no-renames",
            "--ignore-submodules=none",
            old,
            new,
        ]);
        let spec = spec.limit(LONG).kept_bytes(LIST_BYTES);
        Ok(parse(&self.output(&spec).await?))
    }
}

/// Parses entries of the form `:OLDMODE NEWMODE OLD NEW STATUS`, each followed by its path.
pub(super) fn parse(output: &[u8]) -> Vec<Entry> {
    let words = names(output);
    let entries = words.chunks_exact(2).filter_map(|pair| {
        let mut fields = pair[0].trim_start_matches(':').split(' ');
        Some(Entry {
            old: fields.next()?.to_owned(),
            new: fields.next()?.to_owned(),
            hash: fields.nth(1)?.to_owned(),
            path: pair[1].clone(),
        })
    });
    entries.collect()
}

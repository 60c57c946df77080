//! Finds files and repositories in a checkout that git would overwrite or remove, without a check,
//! when it goes to another commit or merges.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use super::{
    Commit, Git, GitError,
    entries::{Entry, LINK},
    is_lossy,
    look::has_files,
    names,
    spec::{LIST_BYTES, LONG, Spec},
};
use crate::fsx;

impl Git {
    /// The files and repositories here that are in no commit and that a merge with the result
    /// `tree` would overwrite or remove. Git overwrites files that it ignores, and directories of
    /// such files, whatever its options say.
    pub(crate) async fn in_the_way_of_merge(
        &self,
        tip: &Commit,
        tree: &str,
    ) -> Result<Vec<String>, GitError> {
        let entries = self.entries_between(tip.hash(), tree).await?;
        let mut found = self.replaced_repositories(&entries).await?;
        let new = entries.iter().filter(|entry| entry.is_new());
        let new: BTreeSet<&Path> = new.map(|entry| Path::new(&entry.path)).collect();
        if new.is_empty() {
            return Ok(found);
        }
        let dirs = new.iter().flat_map(|path| path.ancestors().skip(1));
        let dirs: BTreeSet<&Path> = dirs.collect();
        // Without a list of patterns, ignored files are listed too.
        let spec = Spec::reads(["ls-files", "--others", "-z"]);
        let spec = spec.limit(LONG).kept_bytes(LIST_BYTES);
        let there = names(&self.output(&spec).await?).into_iter();
        found.extend(there.filter(|file| {
            // A repository is listed with a slash at the end.
            let file = Path::new(file.trim_end_matches('/'));
            dirs.contains(file) || file.ancestors().any(|above| new.contains(above))
        }));
        Ok(found)
    }

    /// The repositories here that git would remove, because the newer commit has a file in place of
    /// a submodule, or of a directory that contains a repository. Git removes them with all their
    /// files and commits, and does not look into them.
    pub(super) async fn replaced_repositories(
        &self,
        entries: &[Entry],
    ) -> Result<Vec<String>, GitError> {
        let new = entries.iter().filter(|entry| entry.is_new_file());
        let files: BTreeSet<String> = new.map(|entry| entry.path.clone()).collect();
        if files.is_empty() {
            return Ok(Vec::new());
        }
        let links = entries.iter().filter(|entry| entry.old == LINK);
        let is_covered = |path: &&String| {
            let mut above = Path::new(path.as_str())
                .ancestors()
                .filter_map(Path::to_str);
            above.any(|above| files.contains(above))
        };
        let links = links.map(|entry| &entry.path).filter(is_covered);
        let links: Vec<String> = links.cloned().collect();
        self.look_at_files(move |top| {
            let with_files = links
                .into_iter()
                .filter(|path| is_lossy(path) || has_files(top.join(path)));
            let mut found: BTreeSet<String> = with_files.collect();
            found.extend(
                files
                    .into_iter()
                    .filter(|path| has_repository(top.join(path))),
            );
            found.into_iter().collect()
        })
        .await
    }
}

/// Whether the path is a directory that is a repository or contains one; `true` if a directory
/// cannot be examined or read.
fn has_repository(path: PathBuf) -> bool {
    let mut dirs = vec![path];
    while let Some(dir) = dirs.pop() {
        let found = fs::symlink_metadata(&dir);
        if fsx::is_missing(&dir) || found.is_ok_and(|found| !found.is_dir()) {
            continue;
        }
        if !fsx::is_missing(&dir.join(".git")) {
            return true;
        }
        let Ok(entries) = fsx::entries(&dir) else {
            return true;
        };
        dirs.extend(entries);
    }
    false
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::git::tests::Person;

    #[test]
    fn a_directory_that_cannot_be_examined_may_be_a_repository() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&link, &link).unwrap();
        assert!(has_repository(link.join("inner")));
        for without in [dir.path().to_owned(), link, dir.path().join("missing")] {
            assert!(!has_repository(without));
        }
    }

    #[tokio::test]
    async fn a_repository_that_a_committed_file_would_replace_is_found() {
        let person = Person::with_repository("");
        for path in ["package/file", "plain/file", "gone/file"] {
            person.write(path, "one\n");
        }
        person.commit_all("first");
        let first = person.commit("HEAD").await;
        for path in ["vendor/lib", "empty", "kept"] {
            let link = format!("160000,{},{path}", first.hash());
            person.git(&["update-index", "--add", "--cacheinfo", &link]);
        }
        person.git(&["commit", "-q", "-m", "links"]);
        let old = person.commit("HEAD").await;
        person.git(&["rm", "-rq", "--cached", "."]);
        for dir in ["package", "plain", "gone"] {
            fs::remove_dir_all(person.work().join(dir)).unwrap();
        }
        for path in ["package", "plain", "vendor", "empty"] {
            person.write(path, "two\n");
        }
        person.git(&["add", "-A"]);
        let link = format!("160000,{},kept", first.hash());
        person.git(&["update-index", "--add", "--cacheinfo", &link]);
        person.git(&["commit", "-q", "-m", "files"]);
        let new = person.commit("HEAD").await;
        person.git(&["reset", "-q", "--hard", old.hash()]);

        let git = person.at(".");
        let entries = git.entries_between(old.hash(), new.hash()).await.unwrap();
        let found = async || git.replaced_repositories(&entries).await.unwrap();
        assert!(found().await.is_empty());
        for dir in ["package", "gone", "kept"] {
            person.git(&["init", "-q", dir]);
        }
        person.write("vendor/lib/new", "new\n");
        assert_eq!(found().await, ["package", "vendor/lib"]);
    }
}

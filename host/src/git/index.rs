//! The index of a checkout, and the files of the checkout that are not in the index.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{
    Commit, Git, GitError, Uncommitted, is_lossy, names,
    place::Place,
    spec::{FILES_MAX, LIST_BYTES, LONG, Spec, literal},
};
use crate::{fsx, random};

/// The maximum number of ignored files that are remembered by name. If there are more ignored
/// files, all ignored files count as made by the task.
const STAMPS_MAX: usize = 10_000;

/// The ignored files that existed before a task began, each with the file's size and modification
/// time.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Stamps(BTreeMap<String, String>);

impl Stamps {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The entries of an index that need a closer check.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Listed {
    /// The files whose changes git was told to ignore (`assume-unchanged`, `skip-worktree`).
    pub(super) unwatched: Vec<String>,
    /// The submodules. A commit contains each of them only as the hash of one of its commits.
    pub(super) links: Vec<String>,
    /// The directories that contain entries.
    pub(super) dirs: BTreeSet<PathBuf>,
}

/// A temporary index beside the checkout's own index. Its name is random, because several requests
/// may look at a checkout at the same time.
pub(super) struct OtherIndex(PathBuf);

/// The beginning of the names of temporary indexes.
pub(super) const OTHER: &str = "claudine.index.";
/// The age at which nobody uses a temporary index any more.
const LEFT_AFTER: Duration = Duration::from_hours(1);

impl OtherIndex {
    pub(super) fn new(git_dir: &Path) -> Self {
        if let Err(error) = fsx::remove_older(git_dir, OTHER, LEFT_AFTER) {
            tracing::warn!(
                path = %git_dir.display(), %error,
                "temporary indexes of killed hosts cannot be removed"
            );
        }
        let name = format!("{OTHER}{:032x}", random::bits_128());
        Self(git_dir.join(name))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for OtherIndex {
    fn drop(&mut self) {
        for path in [self.0.clone(), lock_of(&self.0)] {
            if let Err(error) = fsx::remove_file(&path) {
                tracing::warn!(
                    path = %path.display(), %error,
                    "a temporary index cannot be removed"
                );
            }
        }
    }
}

/// The lock that git takes while it writes an index.
pub(super) fn lock_of(index: &Path) -> PathBuf {
    let mut lock = index.as_os_str().to_owned();
    lock.push(".lock");
    lock.into()
}

impl Git {
    pub(super) async fn listed(&self) -> Result<Listed, GitError> {
        let spec = Spec::reads(["ls-files", "-v", "--stage", "-z"]);
        let spec = spec.limit(LONG).kept_bytes(LIST_BYTES);
        Ok(parse(&self.output(&spec).await?))
    }

    /// The submodules of this checkout, by their paths.
    pub(crate) async fn submodules(&self) -> Result<Vec<String>, GitError> {
        Ok(self.listed().await?.links)
    }

    /// The changed files among the files whose changes git was told to ignore. A missing file
    /// counts as unchanged, since in a sparse checkout most files are missing.
    pub(super) async fn changed_unwatched(
        &self,
        place: &Place,
        unwatched: Vec<String>,
    ) -> Result<Vec<String>, GitError> {
        let there = self.only_there(unwatched).await?;
        if there.is_empty() {
            return Ok(Vec::new());
        }
        // A fresh index that is made from the commit has no flags that hide changes.
        let fresh = OtherIndex::new(&place.git_dir);
        let changed = self.changed_by(fresh.path()).await?.into_iter();
        Ok(changed.filter(|path| there.contains(path)).collect())
    }

    async fn changed_by(&self, index: &Path) -> Result<Vec<String>, GitError> {
        let read = Spec::changes(["read-tree", "HEAD"]).index(index);
        self.change(&read.limit(LONG)).await?;
        // Compares the contents of the files, because a fresh index contains no times and sizes of
        // the files on disk. This command fails if a file is changed, so its status is ignored.
        let refresh = Spec::reads(["update-index", "-q", "--really-refresh"]).index(index);
        self.run(&refresh.limit(LONG)).await?;
        let arguments = [
            "diff-index",
            "--name-only",
            "-z",
            "--no-renames",
            "--ignore-submodules=all",
            "HEAD",
        ];
        let spec = Spec::reads(arguments).index(index);
        let spec = spec.limit(LONG).kept_bytes(LIST_BYTES);
        Ok(names(&self.output(&spec).await?))
    }

    /// Those of these files that differ here from a commit, even if git was told to ignore their
    /// changes. Reads only these files, with a temporary index at the path `index`.
    pub(super) async fn differing(
        &self,
        index: &Path,
        commit: &Commit,
        files: &[String],
    ) -> Result<BTreeSet<String>, GitError> {
        let mut differing = BTreeSet::new();
        if files.is_empty() {
            return Ok(differing);
        }
        let read = Spec::changes(["read-tree", commit.hash()]).index(index);
        self.change(&read.limit(LONG)).await?;
        // Without this lock, git would read all other files of the checkout too, in order to note
        // their times in the index.
        let lock = lock_of(index);
        let locked = self.look_at_files(move |_| fs::write(lock, ""));
        locked.await?.map_err(|source| GitError::Read {
            path: index.to_owned(),
            source,
        })?;
        let arguments = [
            "diff",
            "--name-only",
            "-z",
            "--no-renames",
            "--no-ext-diff",
            "--no-relative",
            "--ignore-submodules=all",
            "--",
        ];
        for some in files.chunks(FILES_MAX) {
            let spec = Spec::reads(arguments).index(index).limit(LONG);
            let spec = some.iter().fold(spec, |spec, path| spec.arg(literal(path)));
            differing.extend(names(&self.output(&spec).await?));
        }
        Ok(differing)
    }

    /// Those of the paths at which something is, or may be, because they cannot be examined.
    async fn only_there(&self, mut paths: Vec<String>) -> Result<BTreeSet<String>, GitError> {
        if paths.is_empty() {
            return Ok(BTreeSet::new());
        }
        self.look_at_files(move |top| {
            paths.retain(|path| is_lossy(path) || !fsx::is_missing(&top.join(path)));
            paths.into_iter().collect()
        })
        .await
    }

    /// Nested repositories that are not submodules of this repository. If such a repository were
    /// committed, only the hash of one of its commits would be stored, and nobody else has this
    /// commit.
    pub(crate) async fn foreign_repositories(
        &self,
        here: &Uncommitted,
    ) -> Result<Vec<String>, GitError> {
        if !here.may_have_repositories {
            return Ok(Vec::new());
        }
        self.repositories_beside(None).await
    }

    /// The nested repositories that are not submodules in this index; `None` means the checkout's
    /// own index.
    pub(super) async fn repositories_beside(
        &self,
        index: Option<&Path>,
    ) -> Result<Vec<String>, GitError> {
        let spec = Spec::reads(["ls-files", "--others", "--exclude-standard", "-z"]);
        let spec = match index {
            Some(index) => spec.index(index),
            None => spec,
        };
        let spec = spec.limit(LONG).kept_bytes(LIST_BYTES);
        let others = names(&self.output(&spec).await?);
        // Git lists a directory, with a slash at the end, only if it is a repository.
        let inner = others.iter().filter_map(|path| path.strip_suffix('/'));
        Ok(inner.map(str::to_owned).collect())
    }

    /// The ignored files of this checkout, by path.
    pub(super) async fn ignored_files(&self) -> Result<Stamps, GitError> {
        let arguments = [
            "ls-files",
            "--others",
            "--ignored",
            "--exclude-standard",
            "-z",
        ];
        let spec = Spec::reads(arguments).limit(LONG).kept_bytes(LIST_BYTES);
        let paths = names(&self.output(&spec).await?);
        self.look_at_files(move |top| {
            let stamped = paths.into_iter().map(|path| {
                let stamp = stamp(&top.join(&path));
                (path, stamp)
            });
            Stamps(stamped.collect())
        })
        .await
    }

    /// The ignored files of a checkout that was just made; empty if there are too many to remember.
    pub(crate) async fn ignored_at_first(&self) -> Result<Stamps, GitError> {
        let mut stamps = self.ignored_files().await?;
        if stamps.0.len() > STAMPS_MAX {
            stamps.0.clear();
        }
        Ok(stamps)
    }

    /// The ignored files that are new, or that have changed since `first` was made.
    pub(super) async fn ignored_since(&self, first: &Stamps) -> Result<Vec<String>, GitError> {
        let now = self.ignored_files().await?.0;
        let new = now
            .into_iter()
            .filter(|(path, stamp)| is_lossy(path) || first.0.get(path) != Some(stamp));
        Ok(new.map(|(path, _)| path).collect())
    }
}

fn stamp(path: &PathBuf) -> String {
    match fs::symlink_metadata(path) {
        Ok(found) => format!(
            "{}:{}.{:09}",
            found.size(),
            found.mtime(),
            found.mtime_nsec()
        ),
        Err(error) => error.kind().to_string(),
    }
}

/// Parses entries of the form `TAG MODE HASH STAGE\tPATH`. The tag is a lower-case letter for files
/// that are assumed to be unchanged, and S for skipped files.
fn parse(output: &[u8]) -> Listed {
    let mut listed = Listed::default();
    for entry in names(output) {
        let Some((head, path)) = entry.split_once('\t') else {
            continue;
        };
        let mut head = head.split(' ');
        let (tag, mode) = (head.next().unwrap_or_default(), head.next());
        if tag == "S" || tag.starts_with(|tag: char| tag.is_ascii_lowercase()) {
            listed.unwatched.push(path.to_owned());
        }
        if mode == Some("160000") {
            listed.links.push(path.to_owned());
        }
        let above = Path::new(path).ancestors().skip(1);
        for dir in above.take_while(|dir| !dir.as_os_str().is_empty()) {
            // The directories above a known one are known too.
            if listed.dirs.contains(dir) {
                break;
            }
            listed.dirs.insert(dir.to_owned());
        }
    }
    listed
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::{fs::File, time::UNIX_EPOCH};

    use super::*;

    #[test]
    fn temporary_indexes_of_killed_hosts_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let left = dir.path().join("claudine.index.1");
        let used = dir.path().join("claudine.index.2");
        let long_ago = File::create(&left).unwrap();
        long_ago.set_modified(UNIX_EPOCH).unwrap();
        fs::write(&used, "").unwrap();
        let fresh = OtherIndex::new(dir.path());
        assert!(!left.exists() && used.exists());
        assert_eq!(fresh.path().parent(), Some(dir.path()));
    }

    #[test]
    fn an_index_is_parsed() {
        let output = b"H 100644 ab 0\tplain\0h 100644 ab 0\tassumed\0S 100644 ab 0\tskipped\0\
            s 100755 ab 0\tboth\0H 160000 cd 0\tlib\0M 100644 ab 2\tin conflict\0H 100644 ab 0\ta\tb\n\0\
            H 100644 ab 0\tone/two/file\0H 160000 ab 0\tone/lib\0";
        let listed = parse(output);
        assert_eq!(listed.unwatched, ["assumed", "skipped", "both"]);
        assert_eq!(listed.links, ["lib", "one/lib"]);
        let dirs: Vec<&Path> = listed.dirs.iter().map(PathBuf::as_path).collect();
        assert_eq!(dirs, [Path::new("one"), Path::new("one/two")]);
    }
}

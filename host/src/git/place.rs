//! The repository and the checkout to which a directory belongs.

use std::{
    ffi::OsString,
    fs, io,
    os::unix::{ffi::OsStringExt, fs::MetadataExt},
    path::{Path, PathBuf},
};

use super::{At, Commit, Git, GitError, spec::Spec};
use crate::fsx;

// The questions to `git rev-parse`.
const COMMON_DIR: &str = "--git-common-dir";
const GIT_DIR: &str = "--git-dir";
const TOP: &str = "--show-toplevel";
const PREFIX: &str = "--show-prefix";

/// The maximum size of a file from which git reads the path of a git directory.
const POINTER_BYTES: u64 = 1 << 20;

/// Parts of git's message if a directory is in no repository, or if its `.git` is a file that names
/// none.
const NO_REPOSITORY: [&str; 3] = [
    "not a git repository",
    "invalid gitfile format",
    "no path in gitfile",
];

/// The place of a directory in a repository.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    /// The directory that all checkouts of the repository share.
    pub(crate) repository: PathBuf,
    /// The git directory of this checkout: its index, and the state of operations in progress.
    pub(crate) git_dir: PathBuf,
    /// The top directory of this checkout.
    pub(crate) top: PathBuf,
    /// The directory itself, relative to the top.
    pub(crate) inside: PathBuf,
}

impl Place {
    /// The top directory, if this is the main checkout and git cannot find the checkout from the
    /// repository. This is so if `.git` in the checkout is a link, or a file that names a directory
    /// elsewhere.
    pub(crate) fn hidden_main(&self) -> Option<&Path> {
        let is_main = self.git_dir == self.repository;
        (is_main && self.repository != self.top.join(".git")).then_some(&self.top)
    }
}

impl Git {
    /// Looks up the place of this directory.
    pub(crate) async fn place(&self) -> Result<Place, GitError> {
        let questions = [COMMON_DIR, GIT_DIR, TOP, PREFIX];
        let spec = Spec::reads(["rev-parse", "--path-format=absolute"]);
        let finished = self
            .run(&questions.into_iter().fold(spec, Spec::arg))
            .await?;
        let lines: Vec<&[u8]> = finished.stdout.split(|byte| *byte == b'\n').collect();
        if let (true, [repository, git_dir, top, inside, []]) =
            (finished.status.success(), lines.as_slice())
        {
            return Ok(Place {
                repository: path_of(repository),
                git_dir: path_of(git_dir),
                top: path_of(top),
                inside: path_of(inside.strip_suffix(b"/").unwrap_or(inside)),
            });
        }
        // A path contains a line end, or git has failed. Each question is now asked separately.
        Ok(Place {
            repository: self.path(COMMON_DIR).await?,
            git_dir: self.path(GIT_DIR).await?,
            top: self.path(TOP).await?,
            inside: self.path(PREFIX).await?,
        })
    }

    /// The directory that all checkouts of the repository share.
    pub(super) async fn common_dir(&self) -> Result<PathBuf, GitError> {
        match &self.at {
            At::Repository(dir) => Ok(dir.clone()),
            At::Checkout(_) => self.path(COMMON_DIR).await,
        }
    }

    /// The directory with the refs, the index and the state of this checkout.
    pub(super) async fn git_dir(&self) -> Result<PathBuf, GitError> {
        match &self.at {
            At::Repository(dir) => Ok(dir.clone()),
            At::Checkout(_) => {
                self.refuse_led_away().await?;
                match self.look_at_files(git_dir_of).await? {
                    Some(git_dir) => Ok(git_dir),
                    None => self.path(GIT_DIR).await,
                }
            }
        }
    }

    /// Does the same as [`Self::git_dir`], but does not ask git in a main checkout. Git may refuse
    /// to work there nevertheless.
    pub(super) async fn git_dir_here(&self) -> Result<PathBuf, GitError> {
        if matches!(self.at, At::Checkout(_))
            && self.linked_to.is_none()
            && let Some(git_dir) = self.look_at_files(git_dir_in).await?
        {
            return Ok(git_dir);
        }
        self.git_dir().await
    }

    async fn path(&self, which: &str) -> Result<PathBuf, GitError> {
        let spec = Spec::reads(["rev-parse", "--path-format=absolute", which]);
        let mut output = self.output(&spec).await?;
        if output.last() == Some(&b'\n') {
            output.pop();
        }
        if which == PREFIX && output.last() == Some(&b'/') {
            output.pop();
        }
        Ok(path_of(&output))
    }

    /// The place of a directory that should be a worktree of this repository. Fails if git takes
    /// the directory for something else. There are several causes: if its `.git` is missing, the
    /// directory may count as a part of another repository around it. Settings may lead git to
    /// another directory. A task may have replaced the directory by a link, or its `.git` by the
    /// `.git` of another checkout.
    pub(crate) async fn own_place(&self, repository: &Path) -> Result<Place, GitError> {
        let place = match self.place().await {
            Err(error) if NO_REPOSITORY.iter().any(|it| error.says(it)) => {
                return Err(self.not_its_own(self.dir().to_owned(), repository).await);
            }
            place => place?,
        };
        let is_worktree =
            is_same(&place.repository, repository) && place.git_dir != place.repository;
        if is_worktree && is_top(&place, self.dir()) {
            return Ok(place);
        }
        Err(self.not_its_own(place.top, repository).await)
    }
}

fn path_of(bytes: &[u8]) -> PathBuf {
    OsString::from_vec(bytes.to_vec()).into()
}

/// Whether a directory itself is the top of its checkout, and is not a link to the top.
pub(super) fn is_top(place: &Place, dir: &Path) -> bool {
    let (Some(parent), Some(name)) = (dir.parent(), dir.file_name()) else {
        return place.top == dir;
    };
    fs::canonicalize(parent).is_ok_and(|parent| parent.join(name) == place.top)
}

/// The git directory of a linked checkout, by its top directory. The checkout's `.git` is a file
/// that names the git directory.
pub(super) fn git_dir_of(checkout: &Path) -> Option<PathBuf> {
    let text = read_pointer(&checkout.join(".git")).ok()?;
    let path = text.strip_prefix(b"gitdir: ")?;
    Some(checkout.join(path_in(path)))
}

/// The git directory in this directory; `None` if git might take it for something else, and would
/// look for a repository in the directories above.
fn git_dir_in(dir: &Path) -> Option<PathBuf> {
    let git_dir = fs::canonicalize(dir).ok()?.join(".git");
    let is_dir = |path: &Path| fs::symlink_metadata(path).is_ok_and(|found| found.is_dir());
    let has_all = is_dir(&git_dir)
        && ["objects", "refs"]
            .iter()
            .all(|it| is_dir(&git_dir.join(it)));
    let head = git_dir.join("HEAD");
    if !has_all || !is_pointer(&head) || fsx::is_taken(&git_dir.join("commondir")) {
        return None;
    }
    let head = String::from_utf8(read_pointer(&head).ok()?).ok()?;
    let is_head = head.starts_with("ref: refs/") || Commit::parse(head.trim_end()).is_some();
    is_head.then_some(git_dir)
}

/// Whether a directory itself, and not a link to it, is a linked checkout of this repository, and
/// leads to no other checkout of it: git would use the settings of the repository there, and the
/// index and HEAD of no other checkout. This is found out without git.
pub(super) fn is_linked_checkout(dir: &Path, repository: &Path) -> bool {
    let is_dir = fs::symlink_metadata(dir).is_ok_and(|found| found.is_dir());
    let Some(git_dir) = pointed_to(dir).filter(|_| is_dir) else {
        return false;
    };
    let git_dirs = git_dir.parent();
    git_dirs.is_some_and(|git_dirs| is_same(git_dirs, &repository.join("worktrees")))
        && is_pointer(&git_dir.join("commondir"))
        && common_dir_of(&git_dir).is_ok_and(|common| is_same(&common, repository))
        && !is_of_another(&git_dir, dir)
}

/// Whether git has noted in this git directory that it belongs to another checkout than `dir`. If
/// there is nothing at the noted path, `dir` may have been moved.
fn is_of_another(git_dir: &Path, dir: &Path) -> bool {
    let note = git_dir.join("gitdir");
    let noted = is_pointer(&note).then(|| read_pointer(&note));
    noted.and_then(Result::ok).is_some_and(|noted| {
        let noted = git_dir.join(path_in(&noted));
        // The directories are compared, because a file may have several names.
        fsx::is_taken(&noted) && noted.parent().and_then(id) != id(dir)
    })
}

/// The number of a directory, by which it is known whatever its path is.
fn id(dir: &Path) -> Option<(u64, u64)> {
    let found = fs::metadata(dir).ok()?;
    Some((found.dev(), found.ino()))
}

/// The real path of the git directory that the `.git` of a checkout names; `None` if the `.git` is
/// a directory or a link, or names nothing that exists.
pub(super) fn pointed_to(checkout: &Path) -> Option<PathBuf> {
    if !is_pointer(&checkout.join(".git")) {
        return None;
    }
    fs::canonicalize(git_dir_of(checkout)?).ok()
}

/// Whether this is a file of a size in which git would look for the path of a directory.
pub(super) fn is_pointer(file: &Path) -> bool {
    fs::symlink_metadata(file).is_ok_and(|found| found.is_file() && found.len() <= POINTER_BYTES)
}

/// Reads a file in which git has noted something short, such as the path of a directory. A larger
/// file is an error: whoever has made the repository decides what is in it.
pub(super) fn read_pointer(file: &Path) -> io::Result<Vec<u8>> {
    fsx::read_at_most(file, POINTER_BYTES)
}

/// What git takes for the path in a file: it removes line ends from the end, and reads up to the
/// first NUL. If more or less were removed, git could use another directory than the one that was
/// checked.
fn path_in(text: &[u8]) -> PathBuf {
    let is_of_path = |byte: &u8| !matches!(byte, b'\n' | b'\r');
    let end = text.iter().rposition(is_of_path).map_or(0, |last| last + 1);
    let path = text[..end].split(|byte| *byte == 0).next();
    path_of(path.unwrap_or_default())
}

/// The directory that all checkouts of a repository share, by the git directory of one of them.
pub(super) fn common_dir_of(git_dir: &Path) -> io::Result<PathBuf> {
    let common = match read_pointer(&git_dir.join("commondir")) {
        Ok(noted) => git_dir.join(path_in(&noted)),
        // Only the git directory of a linked checkout has this note.
        Err(error) if error.kind() == io::ErrorKind::NotFound => git_dir.to_owned(),
        Err(error) => return Err(error),
    };
    fs::canonicalize(common)
}

/// The file by which git could come to another common directory than that of the checkout, if this
/// is the real path of its git directory. Git itself makes `commondir` only in the git directory of
/// a linked checkout, where the file leads back to the repository that has this directory in
/// `worktrees`. Elsewhere, it depends on how git is called whether git follows the file, and a
/// second one after it.
pub(super) fn diverted_by(git_dir: &Path) -> Option<PathBuf> {
    let note = git_dir.join("commondir");
    if fsx::is_missing(&note) {
        return None;
    }
    let Some(repository) = repository_with(git_dir).filter(|_| is_pointer(&note)) else {
        return Some(note);
    };
    if !common_dir_of(git_dir).is_ok_and(|common| common == repository) {
        return Some(note);
    }
    let second = repository.join("commondir");
    (!fsx::is_missing(&second)).then_some(second)
}

/// The repository in whose `worktrees` this git directory is.
fn repository_with(git_dir: &Path) -> Option<&Path> {
    let git_dirs = git_dir.parent().filter(|it| it.ends_with("worktrees"));
    git_dirs?.parent()
}

/// Whether two paths lead to the same directory; `false` if a path does not exist.
pub(super) fn is_same(one: &Path, other: &Path) -> bool {
    matches!((fs::canonicalize(one), fs::canonicalize(other)), (Ok(one), Ok(other)) if one == other)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn a_pointer_of_another_size_than_that_of_a_path_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [(".git", "gitdir: ."), ("commondir", ".")] {
            fs::write(dir.path().join(name), text).unwrap();
        }
        assert!(git_dir_of(dir.path()).is_some());
        assert!(common_dir_of(dir.path()).is_ok());
        for name in [".git", "commondir"] {
            let mut file = fs::File::options();
            let file = file.write(true).open(dir.path().join(name)).unwrap();
            file.set_len(POINTER_BYTES + 1).unwrap();
        }
        assert_eq!(git_dir_of(dir.path()), None);
        let error = common_dir_of(dir.path()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
    }

    #[test]
    fn a_path_in_a_file_ends_where_it_ends_for_git() {
        for (text, expected) in [
            ("a", "a"),
            ("a\r\n\n", "a"),
            ("a \n", "a "),
            ("a\0b\n", "a"),
            ("a\n\0", "a\n"),
            ("\n", ""),
        ] {
            assert_eq!(path_in(text.as_bytes()), Path::new(expected), "{text:?}");
        }
    }

    /// Files `commondir` with their directories and contents, and the first that is refused.
    type Case<'a> = (&'a [(&'a str, &'a str)], Option<&'a str>);

    #[test]
    fn only_the_git_directory_of_a_linked_checkout_leads_to_another_and_only_to_its_own() {
        let far = "../../../elsewhere";
        let cases: &[Case<'_>] = &[
            (&[], None),
            // What git makes, in a submodule too.
            (&[("worktrees/x", "../..\n")], None),
            (&[("modules/m/worktrees/x", "../..\n")], None),
            (&[("worktrees/x", "../../../r")], None),
            // What only somebody else makes.
            (&[("", "worktrees\n")], Some("")),
            (&[("", ".")], Some("")),
            (&[("", "")], Some("")),
            (&[("modules/m", "../..")], Some("modules/m")),
            (&[("worktrees", "..")], Some("worktrees")),
            (&[("worktrees/x", far)], Some("worktrees/x")),
            (&[("worktrees/x", "..")], Some("worktrees/x")),
            (&[("worktrees/x", "../../missing")], Some("worktrees/x")),
            (&[("worktrees/x/y", "../../..")], Some("worktrees/x/y")),
            (&[("worktrees/x", "../.."), ("", "../elsewhere")], Some("")),
        ];
        for (notes, diverted) in cases {
            let dir = tempfile::tempdir().unwrap();
            let root = dir.path().canonicalize().unwrap();
            let repository = root.join("r");
            for path in ["r/worktrees/x/y", "r/modules/m/worktrees/x", "elsewhere"] {
                fs::create_dir_all(root.join(path)).unwrap();
            }
            for (path, text) in *notes {
                fs::write(repository.join(path).join("commondir"), text).unwrap();
            }
            let git_dir = repository.join(notes.first().map_or("", |(path, _)| *path));
            let expected = diverted.map(|path| repository.join(path).join("commondir"));
            assert_eq!(diverted_by(&git_dir), expected, "{notes:?}");
        }
        // Neither a link nor a directory is followed.
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let git_dir = root.join("worktrees/x");
        fs::create_dir_all(&git_dir).unwrap();
        fs::write(root.join("note"), "../..\n").unwrap();
        let note = git_dir.join("commondir");
        std::os::unix::fs::symlink(root.join("note"), &note).unwrap();
        assert_eq!(diverted_by(&git_dir), Some(note));
    }
}

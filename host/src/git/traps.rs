//! What a repository that somebody else has made may have and git for a restrained principal must
//! not meet: symbolic links, which git follows when it writes refs, their logs and objects, so that
//! it could change or remove any file of the user, or when it copies or shows what it reads; pipes
//! and devices, which would let git wait or read for ever; and what leads git to other refs,
//! objects or submodules than those that are looked at for links.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs::{self, FileType},
    io,
    os::unix::{ffi::OsStrExt, fs::FileTypeExt},
    path::{Component, Path, PathBuf},
};

use super::{
    At, Git, GitError,
    environment::Variables,
    led::{first_named, is_endless},
    place::{common_dir_of, diverted_by, git_dir_of, read_pointer},
    spec::SHORT,
    unusable,
    users::UsersFiles,
};
use crate::{
    aside, clock, fsx,
    text::{harmless, shell_word},
};

/// Entries of a git directory that may be links: git for a restrained principal neither writes nor
/// reads anything there, or only for a push (`hooks`). `annex` belongs to git-annex, which links it
/// in each worktree.
const MAY_BE_LINKS: [&str; 4] = ["annex", "description", "hooks", "rr-cache"];

/// The beginning of names that git gives to nothing. Emacs makes links with such names beside files
/// that somebody edits, such as the message of a commit.
const OF_EDITOR: &[u8] = b".#";

/// Directories with files that git reads whatever it does.
const READ: [&str; 3] = ["info", "objects/info", "objects/pack"];

/// Directories in which git writes, and how many levels of them it writes to.
const WRITTEN: [(&str, usize); 4] = [
    ("logs", usize::MAX),
    ("objects", 1),
    ("refs", usize::MAX),
    ("reftable", 1),
];

/// Directories with files whose contents git copies (`info/sparse-checkout`, into the git directory
/// of a new worktree) or shows in messages. Where such a link leads may depend on the process that
/// follows it (`/proc/self/cwd`), so none is looked at more closely.
const SHOWN: [&str; 2] = ["info", "objects/info"];

/// The directory with the files of `git lfs`, and how many levels of directories it has. `git lfs`
/// copies them into a checkout by their names and sizes, whatever is in them.
const LFS: (&str, usize) = ("lfs", 4);

/// The file that names directories with objects of other repositories. `git lfs` looks for files of
/// its own beside these directories.
const ALTERNATES: &str = "objects/info/alternates";

/// What a link leads to that takes a file away.
const NOTHING: &str = "/dev/null";

/// Extensions of repositories that do not change where git looks for refs, objects and submodules.
const EXTENSIONS: [&str; 8] = [
    "compatobjectformat",
    "noop",
    "noop-v1",
    "objectformat",
    "partialclone",
    "preciousobjects",
    "relativeworktrees",
    "worktreeconfig",
];

/// The ways in which git stores refs in the repository itself.
const REF_STORAGES: [&str; 2] = ["files", "reftable"];

/// What git must not meet in a repository.
#[derive(PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum Trap {
    #[error(
        "{} is a symbolic link, and git would change what it leads to; no task of an MCP client changes such a repository. Replace the link by what it leads to, or let the task work in a clone",
        harmless(&path.to_string_lossy())
    )]
    Link { path: PathBuf },
    #[error(
        "{} is a symbolic link, and git could copy or show what it leads to; no task of an MCP client changes such a repository. Replace the link by what it leads to, or let the task work in a clone",
        harmless(&path.to_string_lossy())
    )]
    Shown { path: PathBuf },
    #[error(
        "{} is a pipe or a device, and git could read it for ever; for an MCP client, git does nothing in such a repository. Remove it, or let the task work in a clone",
        harmless(&path.to_string_lossy())
    )]
    Endless { path: PathBuf },
    #[error(
        "{} names {}, which is a pipe or a device, and git could read it for ever; for an MCP client, git does nothing in such a repository. Remove the setting, or let the task work in a clone",
        harmless(&file.to_string_lossy()),
        harmless(&path.to_string_lossy())
    )]
    Named { file: PathBuf, path: PathBuf },
    #[error(
        "{} could lead git to another repository than the one that was checked, because git itself makes no such file there; for an MCP client, git does nothing in such a repository. Remove the file, or let the task work in a clone",
        harmless(&path.to_string_lossy())
    )]
    Diverted { path: PathBuf },
    #[error(
        "the configuration of the repository sets `{}`, and git could use other refs or submodules than those that were checked; for an MCP client, git does nothing in such a repository. `git -C {} config --show-origin --get-all {}` shows where it is set; let the task work in a clone",
        harmless(name),
        harmless(&shell_word(&dir.display().to_string())),
        harmless(&shell_word(name))
    )]
    Extended { dir: PathBuf, name: String },
}

/// Whether a setting of a repository could lead git to refs or submodules that are elsewhere. Git
/// reads from the settings `extensions.*` how the repository is made. Those that change nothing of
/// where its parts are, are listed; another one may come with a new version of git. `name` is in
/// the form in which git prints it.
pub(super) fn leads_elsewhere(name: &str, value: &str) -> bool {
    match name.strip_prefix("extensions.") {
        // A URL (`files://DIR`) would name a directory.
        Some("refstorage") => !REF_STORAGES.contains(&value),
        Some(extension) => !EXTENSIONS.contains(&extension),
        None => name.starts_with("submodule.") && name.ends_with(".gitdir"),
    }
}

impl Trap {
    /// The trap that a file of this kind is. A socket cannot be opened.
    fn of(path: &Path, kind: FileType) -> Option<Self> {
        let path = path.to_owned();
        if kind.is_symlink() {
            Some(Self::Link { path })
        } else if kind.is_fifo() || kind.is_char_device() || kind.is_block_device() {
            Some(Self::Endless { path })
        } else {
            None
        }
    }

    /// The trap to which a path leads that may be a link.
    fn behind(path: &Path, kind: FileType) -> Option<Self> {
        if !kind.is_symlink() {
            return Self::of(path, kind);
        }
        is_endless(path).then(|| Self::Endless {
            path: path.to_owned(),
        })
    }

    /// The trap that a file is whose contents git copies or shows.
    fn shown(path: &Path, kind: FileType) -> Option<Self> {
        Self::behind(path, kind).or_else(|| {
            let is_trap = kind.is_symlink() && !leads_to_nothing(path);
            is_trap.then(|| Self::Shown {
                path: path.to_owned(),
            })
        })
    }

    /// The same trap, if git does not write there but copies what is there.
    fn of_shown(self) -> Self {
        match self {
            Self::Link { path } => Self::Shown { path },
            other => other,
        }
    }
}

fn leads_to_nothing(link: &Path) -> bool {
    fs::read_link(link).is_ok_and(|target| target == Path::new(NOTHING))
}

impl Git {
    /// Fails if git could follow a link when it changes this repository, or read something without
    /// an end. Somebody could still make either in the moment before the command.
    pub(super) async fn refuse_traps(&self) -> Result<(), GitError> {
        let repository = match &self.linked_to {
            Some(repository) => repository.clone(),
            None => Box::pin(self.common_dir()).await?,
        };
        let of = repository.clone();
        let look = move || {
            // The given directory may be that of a linked checkout.
            let of = match common_dir_of(&of) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => of,
                found => found.map_err(unusable(&of))?,
            };
            first_trap(&of)
        };
        no_trap(&repository, look).await
    }
}

/// Fails if git would read something without an end at this place whatever it does, or if it is not
/// certain which repository git would use. The variables tell what the values of settings mean.
/// Somebody could still make such a thing in the moment before the command.
pub(super) async fn refuse_unusual(at: &At, variables: &Variables) -> Result<(), GitError> {
    let (of, variables) = (at.clone(), variables.clone());
    let look = move || {
        let users = variables.users_files();
        match of {
            // A file in place of the directory would name another one.
            At::Repository(path) if path.is_file() => Ok(Some(Trap::Diverted { path })),
            At::Repository(repository) => first_unusual(&repository, &repository, &users),
            At::Checkout(dir) => first_unusual_around(&dir, &users),
        }
    };
    no_trap(at.dir(), look).await
}

/// Fails if the look at a directory finds a trap.
async fn no_trap(
    dir: &Path,
    look: impl FnOnce() -> Result<Option<Trap>, GitError> + Send + 'static,
) -> Result<(), GitError> {
    match clock::within(SHORT, aside::run(look)).await {
        Some(Ok(looked)) => looked?.map_or(Ok(()), |trap| Err(trap.into())),
        Some(Err(panic)) => Err(unusable(dir)(io::Error::other(panic))),
        None => Err(unusable(dir)(io::ErrorKind::TimedOut.into())),
    }
}

/// The first unusual thing in the repositories of this directory and of those above it. Git goes on
/// upwards if it takes a `.git` for something else, and may take a directory in a `.git` for a
/// repository.
fn first_unusual_around(dir: &Path, users: &UsersFiles) -> Result<Option<Trap>, GitError> {
    let Ok(dir) = fs::canonicalize(dir) else {
        // Git cannot enter the directory, and says why.
        return Ok(None);
    };
    for top in dir.ancestors() {
        let path = top.join(".git");
        let mut found = None;
        if let Ok(entry) = fs::symlink_metadata(&path) {
            found = Trap::behind(&path, entry.file_type());
            if found.is_none() {
                found = first_unusual(&git_dir_of(top).unwrap_or(path), top, users)?;
            }
        }
        if found.is_none() && fsx::is_taken(&top.join("HEAD")) {
            found = first_unusual(top, top, users)?;
        }
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// The first unusual thing in a git directory and in the repository to which it belongs. Relative
/// paths in settings begin at `top`.
fn first_unusual(git_dir: &Path, top: &Path, users: &UsersFiles) -> Result<Option<Trap>, GitError> {
    let git_dir = match fs::canonicalize(git_dir) {
        Ok(git_dir) if git_dir.is_dir() => git_dir,
        // Git finds no repository there, and says so.
        _ => return Ok(None),
    };
    let looked = fs::symlink_metadata(git_dir.join("HEAD"));
    if looked.is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied) {
        // Git cannot look into the directory either.
        return Ok(None);
    }
    if let Some(trap) = first_endless(&git_dir) {
        return Ok(Some(trap));
    }
    if let Some(path) = diverted_by(&git_dir) {
        return Ok(Some(Trap::Diverted { path }));
    }
    let repository = common_dir_of(&git_dir).map_err(unusable(&git_dir))?;
    if let Some(trap) = first_endless(&repository) {
        return Ok(Some(trap));
    }
    let named = first_named(&[&repository, &git_dir], top, users)?;
    Ok(named.map(|(file, path)| Trap::Named { file, path }))
}

/// The first pipe or device among what git reads in a git directory whatever it does. A directory
/// that cannot be listed has none: git cannot read it either, and says so.
fn first_endless(git_dir: &Path) -> Option<Trap> {
    let dirs = [git_dir.to_owned()].into_iter();
    let mut dirs = dirs.chain(READ.map(|name| git_dir.join(name)));
    dirs.find_map(|dir| {
        let entries = entries(&dir).ok()?;
        entries
            .iter()
            .find_map(|(path, kind)| Trap::behind(path, *kind))
    })
}

/// The first trap in a repository and in the git directories of its worktrees. Those of submodules
/// (`modules`) are left out: git for a restrained principal makes new ones for each worktree.
fn first_trap(repository: &Path) -> Result<Option<Trap>, GitError> {
    if let Some(trap) = first_in(repository)? {
        return Ok(Some(trap));
    }
    for (path, kind) in entries(&repository.join("worktrees"))? {
        let trap = match Trap::of(&path, kind) {
            None if kind.is_dir() => first_in(&path)?,
            trap => trap,
        };
        if trap.is_some() {
            return Ok(trap);
        }
    }
    Ok(None)
}

/// The first trap in a git directory.
fn first_in(git_dir: &Path) -> Result<Option<Trap>, GitError> {
    for (path, kind) in entries(git_dir)? {
        let name = path.file_name().unwrap_or_default();
        let trap = if MAY_BE_LINKS.iter().any(|it| name == *it) || is_of_editor(&path) {
            Trap::behind(&path, kind)
        } else {
            Trap::of(&path, kind)
        };
        if trap.is_some() {
            return Ok(trap);
        }
    }
    for name in READ {
        let look = if SHOWN.contains(&name) {
            Trap::shown
        } else {
            Trap::behind
        };
        let entries = entries(&git_dir.join(name))?;
        let trap = entries.iter().find_map(|(path, kind)| {
            if is_of_editor(path) {
                Trap::behind(path, *kind)
            } else {
                look(path, *kind)
            }
        });
        if trap.is_some() {
            return Ok(trap);
        }
    }
    for (name, depth) in WRITTEN {
        if let Some(trap) = first_below(&git_dir.join(name), depth)? {
            return Ok(Some(trap));
        }
    }
    for (dir, _) in entries(&git_dir.join("objects"))? {
        // Git reads an object from a directory with the first two digits of the object's name.
        let is_read = dir.is_dir() && dir.file_name().is_some_and(|name| name.len() == 2);
        let objects = if is_read { entries(&dir)? } else { Vec::new() };
        let trap = objects
            .iter()
            .find_map(|(path, kind)| Trap::behind(path, *kind));
        if trap.is_some() {
            return Ok(trap);
        }
    }
    first_of_lfs(git_dir)
}

/// Whether an editor has made this entry of a directory in which git reads only known names.
fn is_of_editor(path: &Path) -> bool {
    path.file_name()
        .is_some_and(|name| name.as_bytes().starts_with(OF_EDITOR))
}

/// The first link among the files of `git lfs` here and in the repositories whose objects this one
/// uses.
fn first_of_lfs(git_dir: &Path) -> Result<Option<Trap>, GitError> {
    let alternates = git_dir.join(ALTERNATES);
    let named = match read_pointer(&alternates) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(_) if leads_to_nothing(&alternates) => Vec::new(),
        named => named.map_err(unusable(&alternates))?,
    };
    let named = named.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let named: Vec<&[u8]> = named.filter(|line| !line.is_empty()).collect();
    if named.iter().any(|line| line.starts_with(b"\"")) {
        let error = io::Error::new(io::ErrorKind::InvalidData, "it has a quoted path");
        return Err(unusable(&alternates)(error));
    }
    let named = named.into_iter().map(OsStr::from_bytes);
    // Many ways lead to the same directories, which may have very many files.
    let others: BTreeSet<PathBuf> = named
        .flat_map(|path| beside_objects(git_dir, Path::new(path)))
        .collect();
    for repository in [git_dir.to_owned()].into_iter().chain(others) {
        let (name, levels) = LFS;
        let dir = repository.join(name);
        let kind = fs::symlink_metadata(&dir).map(|found| found.file_type());
        let trap = match kind.ok().and_then(|kind| Trap::shown(&dir, kind)) {
            None => first_below(&dir, levels)?.map(Trap::of_shown),
            trap => trap,
        };
        if trap.is_some() {
            return Ok(trap);
        }
    }
    Ok(None)
}

/// The directories in which `git lfs` may look for its files because this path, which may be
/// relative, names a directory with objects. For git, it begins at the objects of the repository;
/// `git lfs` runs in `/`, removes `..` before it follows links, and looks into the directory itself
/// if the path ends with a slash.
fn beside_objects(git_dir: &Path, path: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for objects in [
        git_dir.join("objects").join(path),
        Path::new("/").join(path),
    ] {
        let mut plain = PathBuf::new();
        for part in objects.components() {
            if part == Component::ParentDir {
                plain.pop();
            } else {
                plain.push(part);
            }
        }
        for objects in [objects, plain] {
            found.extend(objects.parent().map(Path::to_owned));
            found.push(objects);
        }
    }
    found
}

/// The first trap in a directory, down to this depth.
fn first_below(dir: &Path, depth: usize) -> Result<Option<Trap>, GitError> {
    for (path, kind) in entries(dir)? {
        let trap = match Trap::of(&path, kind) {
            None if kind.is_dir() && depth > 1 => first_below(&path, depth - 1)?,
            trap => trap,
        };
        if trap.is_some() {
            return Ok(trap);
        }
    }
    Ok(None)
}

/// The entries of a directory, and what each of them is. A directory that is missing has none, and
/// an entry that was removed meanwhile, such as a lock, is left out.
fn entries(dir: &Path) -> Result<Vec<(PathBuf, FileType)>, GitError> {
    let is_gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    let listed = match fs::read_dir(dir) {
        Err(error) if is_gone(&error) => return Ok(Vec::new()),
        listed => listed.map_err(unusable(dir))?,
    };
    let mut found = Vec::new();
    for entry in listed {
        let entry = entry.map_err(unusable(dir))?;
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) => found.push((path, kind)),
            Err(error) if is_gone(&error) => {}
            Err(error) => return Err(unusable(&path)(error)),
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::panic,
        reason = "a test fails by panicking"
    )]
    use std::{collections::BTreeMap, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn links_by_which_git_would_write_elsewhere_are_found() {
        let elsewhere = tempfile::tempdir().unwrap();
        for (link, is_refused) in [
            ("refs", true),
            ("logs", true),
            ("packed-refs", true),
            ("HEAD", true),
            ("objects", true),
            ("objects/pack", true),
            ("objects/ab", true),
            ("refs/heads/a", true),
            ("refs/heads/a/b/c", true),
            ("logs/refs/heads/a", true),
            ("reftable/tables.list", true),
            ("worktrees/a", true),
            ("worktrees/a/HEAD", true),
            ("worktrees/a/locked", true),
            ("worktrees/a/logs/HEAD", true),
            ("worktrees/a/refs/bisect/bad", true),
            ("config.worktree", true),
            ("MERGE_MSG", true),
            ("FETCH_HEAD", true),
            ("modules", true),
            ("info", true),
            ("lfs", true),
            ("worktrees/a/info", true),
            ("annex", false),
            ("description", false),
            ("hooks", false),
            ("rr-cache", false),
            (".#COMMIT_EDITMSG", false),
            ("info/.#exclude", false),
            ("worktrees/.#a", true),
            ("worktrees/a/.#COMMIT_EDITMSG", false),
            ("objects/pack/a.pack", false),
            ("objects/ab/c", false),
            ("modules/a/annex", false),
            ("worktrees/a/annex", false),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join(link);
            assert_eq!(first_trap(dir.path()).unwrap(), None);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            symlink(elsewhere.path(), &path).unwrap();
            let expected = is_refused.then_some(Trap::Link { path });
            assert_eq!(first_trap(dir.path()).unwrap(), expected, "{link}");
        }
    }

    #[test]
    fn links_to_what_git_would_copy_or_show_are_found() {
        let elsewhere = tempfile::tempdir().unwrap();
        let check = |link: &str, target: &Path, is_refused: bool| {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join(link);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            symlink(target, &path).unwrap();
            let expected = is_refused.then_some(Trap::Shown { path });
            assert_eq!(
                first_trap(dir.path()).unwrap(),
                expected,
                "{link} {target:?}"
            );
        };
        let missing = elsewhere.path().join("missing");
        for link in [
            "info/sparse-checkout",
            "info/exclude",
            "objects/info/alternates",
            "worktrees/a/info/sparse-checkout",
        ] {
            check(link, elsewhere.path(), true);
            // What leads nowhere for the host may lead somewhere for git.
            check(link, &missing, true);
            check(link, Path::new("/proc/self/cwd/missing"), true);
            check(link, Path::new("/dev/null"), false);
        }
        for link in ["lfs/objects", "lfs/objects/ab/cd", "lfs/objects/ab/cd/abcd"] {
            check(link, elsewhere.path(), true);
        }
    }

    #[test]
    fn links_to_files_of_lfs_in_a_repository_whose_objects_are_used_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let (own, other) = (dir.path().join("own"), dir.path().join("other"));
        fs::create_dir_all(own.join("objects/info")).unwrap();
        fs::create_dir_all(other.join("lfs/objects/ab/cd")).unwrap();
        let alternates = own.join("objects/info/alternates");
        for named in ["../../other/objects\n", "# x\n\n../../other/objects"] {
            fs::write(&alternates, named).unwrap();
            assert_eq!(first_trap(&own).unwrap(), None);
        }
        symlink("/etc/passwd", other.join("lfs/objects/ab/cd/abcd")).unwrap();
        // This link is followed by git only, and not by `git lfs`.
        fs::create_dir(dir.path().join("else")).unwrap();
        symlink("../else", other.join("objects")).unwrap();
        let absolute = other.join("objects");
        let from_root = absolute.strip_prefix("/").unwrap();
        for named in [absolute.as_path(), from_root, &other.join("x/../objects")] {
            fs::write(&alternates, format!("{}\n", named.display())).unwrap();
            let found = first_trap(&own).unwrap();
            let Some(Trap::Shown { path }) = found else {
                panic!("{found:?}");
            };
            assert!(path.ends_with("lfs/objects/ab/cd/abcd"), "{path:?}");
        }
        fs::write(&alternates, "\"/elsewhere\"\n").unwrap();
        let refused = first_trap(&own).unwrap_err().to_string();
        assert!(refused.ends_with("it has a quoted path"), "{refused}");
    }

    #[test]
    fn pipes_and_devices_that_git_would_read_are_found() {
        for (name, target) in [
            ("info/attributes", "/dev/zero"),
            ("info/exclude", "/dev/urandom"),
            ("objects/info/alternates", "/dev/zero"),
            ("objects/pack/a.idx", "/dev/zero"),
            ("objects/ab/c", "/dev/zero"),
            ("worktrees/a/info/sparse-checkout", "/dev/zero"),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            symlink(target, &path).unwrap();
            let expected = Some(Trap::Endless { path });
            assert_eq!(first_trap(dir.path()).unwrap(), expected, "{name}");
        }
        for name in [
            "shallow",
            "refs/heads/a",
            "logs/HEAD",
            "objects/pack/a.idx",
            "objects/ab/c",
            "worktrees/a/gitdir",
        ] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RWXU).unwrap();
            let expected = Some(Trap::Endless { path });
            assert_eq!(first_trap(dir.path()).unwrap(), expected, "{name}");
        }
    }

    #[test]
    fn links_to_the_device_without_content_are_no_traps() {
        for name in ["hooks", "info/exclude"] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            symlink("/dev/null", &path).unwrap();
            assert_eq!(first_trap(dir.path()).unwrap(), None, "{name}");
        }
    }

    #[test]
    fn what_git_reads_to_find_its_repository_has_an_end() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        for path in ["a/b/.git", "a/.git", "real/worktrees/x", "linked"] {
            fs::create_dir_all(root.join(path)).unwrap();
        }
        let text = format!("gitdir: {}\n", root.join("real/worktrees/x").display());
        fs::write(root.join("linked/.git"), text).unwrap();
        fs::write(root.join("real/worktrees/x/commondir"), "../..\n").unwrap();
        let users = UsersFiles::default();
        let find = |dir: &str| first_unusual_around(&root.join(dir), &users).unwrap();
        for (dir, device) in [
            ("a/b", "a/.git/commondir"),
            ("linked", "real/packed-refs"),
            ("linked", "real/worktrees/x/HEAD"),
        ] {
            assert_eq!(find(dir), None);
            let path = root.join(device);
            symlink("/dev/zero", &path).unwrap();
            assert_eq!(find(dir), Some(Trap::Endless { path: path.clone() }));
            fs::remove_file(path).unwrap();
        }
        // Links are no traps for git that only reads.
        symlink("elsewhere", root.join("a/.git/refs")).unwrap();
        assert_eq!(find("a/b"), None);
        assert_eq!(find("missing"), None);
    }

    #[test]
    fn what_could_lead_git_to_another_repository_is_found() {
        let users = UsersFiles::default();
        let repository = "p/.bare";
        let check = |note: &str, text: &str, path: &str, at: At, is_found: bool, root: &Path| {
            let note = root.join(note);
            fs::write(&note, text).unwrap();
            let found = match &at {
                At::Repository(dir) => first_unusual(&root.join(dir), root, &users),
                At::Checkout(dir) => first_unusual_around(&root.join(dir), &users),
            };
            let expected = is_found.then(|| Trap::Diverted {
                path: root.join(path),
            });
            assert_eq!(found.unwrap(), expected, "{at:?} {}", note.display());
        };
        let (bare, main) = ("p/.bare/commondir", "p/.bare/worktrees/main/commondir");
        let of_repository = || At::Repository(repository.into());
        let of_checkout = |dir: &str| At::Checkout(dir.into());
        for (note, text, path, at, is_found) in [
            (main, "../..\n", "", of_checkout("p/main/e"), false),
            (main, "../..\n", "", of_checkout("p"), false),
            (main, "../..\n", "", of_repository(), false),
            (main, "../../../main/e", main, of_checkout("p/main"), true),
            (bare, "../main/e\n", bare, of_repository(), true),
            (bare, "../main/e\n", bare, of_checkout("p"), true),
            // The repository itself leads away, after its git directory has led there.
            (bare, "../main/e\n", bare, of_checkout("p/main"), true),
            // Git may take a directory in a `.git` for a repository.
            (
                "x/.git/modules/m/commondir",
                "..",
                "x/.git/modules/m/commondir",
                of_checkout("x/.git/modules/m"),
                true,
            ),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let root = dir.path().canonicalize().unwrap();
            for path in ["p/.bare/worktrees/main", "p/main/e", "x/.git/modules/m"] {
                fs::create_dir_all(root.join(path)).unwrap();
            }
            for (path, text) in [
                ("p/.git", "gitdir: ./.bare\n"),
                ("p/main/.git", "gitdir: ../.bare/worktrees/main\n"),
                (main, "../..\n"),
                ("x/.git/modules/m/HEAD", "ref: refs/heads/main\n"),
            ] {
                fs::write(root.join(path), text).unwrap();
            }
            check(note, text, path, at, is_found, &root);
        }
    }

    #[tokio::test]
    async fn a_file_in_place_of_a_repository_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r");
        fs::write(&path, "gitdir: elsewhere\n").unwrap();
        let at = At::Repository(path.clone());
        let variables = Variables::new([], &BTreeMap::new());
        let refused = refuse_unusual(&at, &variables).await.unwrap_err();
        let says = "could lead git to another repository than the one that was checked";
        assert!(refused.to_string().contains(says), "{refused}");
        fs::remove_file(&path).unwrap();
        refuse_unusual(&at, &variables).await.unwrap();
    }

    #[test]
    fn directory_that_cannot_be_listed_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let logs = dir.path().join("logs");
        fs::write(&logs, "").unwrap();
        let error = first_trap(dir.path()).unwrap_err().to_string();
        let expected = format!("{} cannot be read: ", logs.display());
        assert!(error.starts_with(&expected), "{error}");
    }

    #[test]
    fn message_is_one_line_whatever_the_name_of_the_trap() {
        let path = PathBuf::from("/r/refs/a\nb\u{1b}[31m");
        let shown = GitError::from(Trap::Link { path }).to_string();
        let expected = "/r/refs/a b\\u{1b}[31m is a symbolic link, ";
        assert!(shown.starts_with(expected), "{shown}");
    }
}

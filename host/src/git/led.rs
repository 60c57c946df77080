//! Pipes and devices to which the settings of a repository lead git. Git reads files that settings
//! name (`include.path`, `core.attributesFile`, `core.excludesFile`), and a new version may read
//! more of them. So no value may lead to a pipe or a device, whatever its setting is.
//!
//! The files with settings are read here, before any git that would read them.

use std::{
    collections::{BTreeSet, VecDeque},
    ffi::OsString,
    fs, io,
    os::unix::{
        ffi::{OsStrExt, OsStringExt},
        fs::{FileTypeExt, MetadataExt},
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{CWD, Mode, OFlags, ResolveFlags, openat2},
    io::Errno,
};

use super::{
    GitError, unusable,
    users::{DEPTH_MAX, UsersFiles, entries},
};
use crate::fsx;

/// The files with settings in a git directory.
const FILES: [&str; 2] = ["config", "config.worktree"];

/// Settings with addresses, by the names of their sections. Git opens no pipe there, and a path may
/// be on a server that does not answer.
const ADDRESSES: [(&str, &str); 3] = [
    ("remote", "pushurl"),
    ("remote", "url"),
    ("submodule", "url"),
];

/// The maximum number of bytes in all files with settings of a repository. One that names more
/// programs than can be disabled has fewer.
const BYTES_MAX: u64 = 4 << 20;

/// The numbers of `/dev/null`, which ends at once. Links lead there to take something away.
const NULL: (u32, u32) = (1, 3);

/// The character that stands for the byte 0, if a byte is no ASCII character. The names in a file
/// may have any encoding, and none of these characters means anything in a file with settings.
const BYTES: u32 = 0xe000;

/// Whether a path leads to a pipe or a device, other than `/dev/null`. If it leads nowhere, git
/// finds nothing there either.
pub(super) fn is_endless(path: &Path) -> bool {
    let Ok(found) = fs::metadata(path) else {
        return false;
    };
    let kind = found.file_type();
    let is_device = kind.is_char_device() || kind.is_block_device();
    let is_null = is_device && found.rdev() == rustix::fs::makedev(NULL.0, NULL.1);
    kind.is_fifo() || (is_device && !is_null) || passes_descriptor(path)
}

/// Whether the way to a file passes a link by which each process comes to a file of its own, such
/// as `/proc/self/fd/1`: for git, this is a pipe.
fn passes_descriptor(path: &Path) -> bool {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let opened = openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_MAGICLINKS);
    matches!(opened, Err(Errno::LOOP))
}

/// The first setting in these git directories that leads to a pipe or a device: the file in which
/// it is set, and the path. Relative values begin at `top`, or beside a file that includes another
/// one. `users` tells what the other values mean.
pub(super) fn first_named(
    git_dirs: &[&Path],
    top: &Path,
    users: &UsersFiles,
) -> Result<Option<(PathBuf, PathBuf)>, GitError> {
    let files = git_dirs
        .iter()
        .flat_map(|git_dir| FILES.map(|name| git_dir.join(name)));
    // A file counts with the fewest steps that lead to it.
    let mut next: VecDeque<(PathBuf, usize)> = files.map(|file| (file, 0)).collect();
    let (mut seen, mut left) = (BTreeSet::new(), BYTES_MAX);
    while let Some((file, depth)) = next.pop_front() {
        if depth > DEPTH_MAX || !seen.insert(file.clone()) {
            continue;
        }
        let Some(text) = read(&file, left)? else {
            continue;
        };
        left = left.saturating_sub(text.len() as u64);
        for entry in entries(&as_text(&text)) {
            if ADDRESSES.contains(&(entry.section.as_str(), entry.name.as_str())) {
                continue;
            }
            let Some(named) = users.place(&entry.value, Path::new("")) else {
                continue;
            };
            let named = as_path(&named);
            let is_included =
                matches!(entry.section.as_str(), "include" | "includeif") && entry.name == "path";
            let path = match file.parent().filter(|_| is_included) {
                Some(beside) => beside.join(named),
                None => top.join(named),
            };
            if is_endless(&path) {
                return Ok(Some((file, path)));
            }
            if is_included {
                next.push_back((path, depth + 1));
            }
        }
    }
    Ok(None)
}

/// The bytes of a file with settings; `None` if there is no such file, or none that git can read.
fn read(file: &Path, most: u64) -> Result<Option<Vec<u8>>, GitError> {
    if !fs::metadata(file).is_ok_and(|found| found.is_file()) {
        return Ok(None);
    }
    match fsx::read_at_most(file, most) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => Ok(None),
            _ => Err(unusable(file)(error)),
        },
    }
}

/// The bytes of a file as a text that loses none of them.
fn as_text(bytes: &[u8]) -> String {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let characters = bytes.iter().map(|byte| {
        let other = char::from_u32(BYTES + u32::from(*byte));
        other
            .filter(|_| !byte.is_ascii())
            .unwrap_or_else(|| char::from(*byte))
    });
    characters.collect()
}

/// The path that a value means, of the characters of [`as_text`]. For git, a NUL ends it.
fn as_path(value: &Path) -> PathBuf {
    let text = String::from_utf8_lossy(value.as_os_str().as_bytes());
    let mut bytes = Vec::new();
    for character in text.chars().take_while(|it| *it != '\0') {
        let code = u32::from(character);
        match code.checked_sub(BYTES).and_then(|it| u8::try_from(it).ok()) {
            Some(byte) => bytes.push(byte),
            None => bytes.extend(character.encode_utf8(&mut [0; 4]).bytes()),
        }
    }
    OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::os::unix::fs::symlink;

    use super::*;

    fn pipe(path: &Path) {
        rustix::fs::mkfifoat(CWD, path, Mode::RWXU).unwrap();
    }

    #[test]
    fn settings_that_lead_to_a_pipe_or_a_device_are_found() {
        let pipes = ["top/pipe", "r/pipe", "r/more/pipe", "home/pipe", "p\u{e0}"];
        let check = |files: &[(&str, &[u8])], expected: Option<(&str, &str)>| {
            let dir = tempfile::tempdir().unwrap();
            let root = dir.path().canonicalize().unwrap();
            for path in ["top", "r/more", "r/worktrees/x", "home"] {
                fs::create_dir_all(root.join(path)).unwrap();
            }
            for path in pipes {
                pipe(&root.join(path));
            }
            pipe(&root.join(as_path(Path::new("p\u{e0ff}"))));
            symlink(root.join("top/pipe"), root.join("link")).unwrap();
            let placed = root.to_str().unwrap().as_bytes();
            for (name, text) in files {
                let parts: Vec<&[u8]> = text.split(|byte| *byte == b'@').collect();
                fs::write(root.join(name), parts.join(placed)).unwrap();
            }
            let users = UsersFiles::of_home(&root.join("home"));
            let (common, git_dir) = (root.join("r"), root.join("r/worktrees/x"));
            let found = first_named(&[&common, &git_dir], &root.join("top"), &users);
            let expected = expected.map(|(file, path)| {
                let path = match path.strip_prefix('/') {
                    Some(_) => path.into(),
                    None => root.join(as_path(Path::new(path))),
                };
                (root.join(file), path)
            });
            assert_eq!(found.unwrap(), expected, "{files:?}");
        };
        let one = |text: &str, path: Option<&str>| {
            let expected = path.map(|path| ("r/config", path));
            check(&[("r/config", text.as_bytes())], expected);
        };
        one("[core]\nattributesFile = @/top/pipe\n", Some("top/pipe"));
        one("[core]\nexcludesFile = @/link\n", Some("link"));
        one("[core]\nexcludesFile = pipe\n", Some("top/pipe"));
        one("[core]\nexcludesFile = ~/pipe\n", Some("home/pipe"));
        one("[core]\nattributesFile = /dev/zero\n", Some("/dev/zero"));
        one("[core]\nattributesFile = /dev/fd/1\n", Some("/dev/fd/1"));
        one("[mailmap]\nfile = :(optional)@/link\n", Some("link"));
        one("[some]\nfuture = @/top/pipe\n", Some("top/pipe"));
        one("[core]\nexcludesFile = @/pà\n", Some("pà"));
        one("[core]\nexcludesFile = @/link\0x\n", Some("link"));
        one("[include]\npath = pipe\n", Some("r/pipe"));
        one("[includeIf \"gitdir:/no/\"]\npath = pipe\n", Some("r/pipe"));
        let bytes = b"[core]\nexcludesFile = @/p\xff\n";
        check(&[("r/config", bytes)], Some(("r/config", "p\u{e0ff}")));
        let of_worktree: &[u8] = b"[core]\nattributesFile = pipe\n";
        for name in ["r/config.worktree", "r/worktrees/x/config.worktree"] {
            check(&[(name, of_worktree)], Some((name, "top/pipe")));
        }
        let include: &[u8] = b"\xef\xbb\xbf[include]\npath = more/a\n";
        let included: &[u8] = b"[include]\npath = a\npath = pipe\n";
        check(
            &[("r/config", include), ("r/more/a", included)],
            Some(("r/more/a", "r/more/pipe")),
        );
        // Usual values, and files that git does not read.
        one("[core]\nbare = false\nexcludesFile = /dev/null\n", None);
        one("[core]\nexcludesFile = missing\n[user]\nname = a\n", None);
        one("[remote \"a\"]\nurl = @/top/pipe\n", None);
        check(&[], None);
    }

    #[test]
    fn a_very_large_file_with_settings_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let config = fs::File::create(dir.path().join("config")).unwrap();
        config.set_len(BYTES_MAX + 1).unwrap();
        let users = UsersFiles::default();
        let refused = first_named(&[dir.path()], dir.path(), &users).unwrap_err();
        let refused = refused.to_string();
        let says = "config cannot be read: it has more than 4194304 bytes";
        assert!(refused.ends_with(says), "{refused}");
    }
}

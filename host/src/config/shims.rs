//! Directories with programs of version managers (asdf, mise, pyenv, Volta, aqua, …). Such a
//! program starts another one, which files of the directory in which it runs may name.

use std::{
    ffi::{OsStr, OsString},
    fs,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
};

/// The `PATH` if no entry is left. An empty one would mean the directory of the program.
pub(super) const USUAL: &str = "/usr/local/bin:/usr/bin:/bin";

/// The ends of the usual paths of such directories.
const ENDS: [&str; 5] = [
    "shims",
    "dotnet-shims",
    ".volta/bin",
    ".proto/bin",
    "aquaproj-aqua/bin",
];

/// Variables that name such a directory, or one that has it under this name.
const VARIABLES: [(&str, &str); 4] = [
    ("AQUA_ROOT_DIR", "bin"),
    ("MISE_SHIMS_DIR", ""),
    ("PROTO_HOME", "bin"),
    ("VOLTA_HOME", "bin"),
];

/// The directories with programs of version managers: the usual ones, and these.
#[derive(Debug, Default)]
pub(crate) struct Shims(Vec<PathBuf>);

impl Shims {
    /// The directories if variables have these values. Reads links.
    pub(crate) fn of(variable: impl Fn(&str) -> Option<PathBuf>) -> Self {
        let named = VARIABLES.iter().filter_map(|(name, below)| {
            let named = variable(name).filter(|named| named.is_absolute());
            named.map(|named| named.join(below))
        });
        let with_real = |path: PathBuf| [fs::canonicalize(&path).ok(), Some(path)];
        Self(named.flat_map(with_real).flatten().collect())
    }

    /// Whether an entry of a `PATH` is such a directory, or leads to one. Reads links.
    pub(crate) fn has(&self, entry: &Path) -> bool {
        let is_one = |path: &Path| is_usual(path) || self.0.iter().any(|named| named == path);
        is_one(entry) || fs::canonicalize(entry).is_ok_and(|real| is_one(&real))
    }

    /// A `PATH` without such directories. Reads links.
    pub(crate) fn without(&self, path: &OsStr) -> OsString {
        without(path, |entry| self.has(entry))
    }

    /// A `PATH` without directories whose paths are usual for such programs. Reads nothing.
    pub(crate) fn without_usual(path: &OsStr) -> OsString {
        without(path, is_usual)
    }
}

fn is_usual(path: &Path) -> bool {
    ENDS.iter().any(|end| path.ends_with(end))
}

/// A `PATH` without these entries.
fn without(path: &OsStr, is_one: impl Fn(&Path) -> bool) -> OsString {
    let entries = path.as_bytes().split(|byte| *byte == b':');
    let entries = entries.filter(|entry| !is_one(Path::new(OsStr::from_bytes(entry))));
    let left: Vec<&[u8]> = entries.collect();
    if left.is_empty() {
        USUAL.into()
    } else {
        OsString::from_vec(left.join(&b':'))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn directories_of_version_managers_are_known_by_variables_and_behind_links() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let path = |name: &str| root.join(name);
        for name in [".asdf/shims", ".volta/bin", "volta/bin", "mise", "own/bin"] {
            fs::create_dir_all(path(name)).unwrap();
        }
        for (target, link) in [
            (".asdf/shims", "sh"),
            (".volta", "vl"),
            ("volta", "linked"),
            ("own/bin", "bin"),
        ] {
            symlink(path(target), path(link)).unwrap();
        }
        let shims = Shims::of(|name| match name {
            "VOLTA_HOME" => Some(path("linked")),
            "MISE_SHIMS_DIR" => Some(path("mise")),
            "AQUA_ROOT_DIR" => Some("own".into()),
            "PROTO_HOME" => Some(PathBuf::new()),
            _ => None,
        });
        for name in [
            "sh",
            "vl/bin",
            ".asdf/shims/x/..",
            "volta/bin",
            "linked/bin",
            "mise",
            "mise/",
            ".proto/bin",
            "mise/dotnet-shims",
        ] {
            fs::create_dir_all(path(".asdf/shims/x")).unwrap();
            assert!(shims.has(&path(name)), "{name}");
        }
        for name in ["own/bin", "bin", "volta", "linked", ".asdf", "missing"] {
            assert!(!shims.has(&path(name)), "{name}");
        }
        let whole = format!("{0}/sh:{0}/bin:{0}/linked/bin", root.display());
        let left = format!("{}/bin", root.display());
        assert_eq!(shims.without(whole.as_ref()), *left);
    }
}

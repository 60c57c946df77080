//! Other names of directories because of mounts: a file system, or a part of it, may be mounted at
//! several places (`mount --bind`). A rule for one name of a file does not hold for another one.

use std::{
    ffi::OsString,
    io,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
};

use crate::fsx;

const FILE: &str = "/proc/self/mountinfo";

/// All mounts that this process sees, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Mounts(Vec<Mount>);

#[derive(Debug, PartialEq, Eq)]
struct Mount {
    /// The number of the file system.
    device: Vec<u8>,
    /// The directory of the file system that is mounted.
    root: PathBuf,
    /// The directory at which it is mounted.
    at: PathBuf,
}

impl Mounts {
    pub(super) fn read() -> io::Result<Self> {
        fsx::read_virtual(FILE).map(|text| Self::parse(&text))
    }

    /// The mounts in a text of the kernel. A line that is wrong counts as none.
    pub(super) fn parse(text: &[u8]) -> Self {
        let lines = text.split(|byte| *byte == b'\n');
        let mounts = lines.filter_map(|line| {
            let mut fields = line.split(|byte| *byte == b' ').skip(2);
            Some(Mount {
                device: fields.next()?.to_owned(),
                root: path_of(fields.next()?),
                at: path_of(fields.next()?),
            })
        });
        Self(mounts.collect())
    }

    /// The other names of what is at this path, which has no links.
    pub(super) fn other_names(&self, path: &Path) -> Vec<PathBuf> {
        let Some((mount, within)) = self.place(path) else {
            return Vec::new();
        };
        let others = self.same_as(mount).filter_map(|other| {
            let rest = within.strip_prefix(&other.root).ok()?;
            Some(below(&other.at, rest))
        });
        distinct(others.filter(|other| other != path))
    }

    /// The places below this path that have another name elsewhere: for each its path relative to
    /// this one, and the other name. The path has no links.
    pub(super) fn parts(&self, path: &Path) -> Vec<(PathBuf, PathBuf)> {
        let mut parts = self.parts_of_mount(path);
        for mount in &self.0 {
            let Some(rest) = relative(path, &mount.at) else {
                continue;
            };
            let names = self.other_names(&mount.at).into_iter();
            parts.extend(names.map(|name| (rest.clone(), name)));
            let deeper = self.parts_of_mount(&mount.at).into_iter();
            parts.extend(deeper.map(|(part, name)| (rest.join(part), name)));
        }
        distinct(parts.into_iter())
    }

    /// The same for what is in the same mount as this path.
    fn parts_of_mount(&self, path: &Path) -> Vec<(PathBuf, PathBuf)> {
        let Some((mount, within)) = self.place(path) else {
            return Vec::new();
        };
        let parts = self.same_as(mount);
        let parts = parts.filter_map(|part| {
            let rest = relative(&within, &part.root)?;
            Some((rest, part.at.clone()))
        });
        parts.collect()
    }

    /// The mount of a path, and its path in the file system. Of several mounts at the same place,
    /// the last one hides the others.
    fn place(&self, path: &Path) -> Option<(&Mount, PathBuf)> {
        let above = self.0.iter().filter(|mount| path.starts_with(&mount.at));
        let mount = above.max_by_key(|mount| mount.at.components().count())?;
        let rest = path.strip_prefix(&mount.at).ok()?;
        Some((mount, below(&mount.root, rest)))
    }

    fn same_as(&self, mount: &Mount) -> impl Iterator<Item = &Mount> {
        let all = self.0.iter();
        all.filter(move |other| other.device == mount.device)
    }
}

/// The path of what is below another path, relative to that one.
fn relative(all: &Path, part: &Path) -> Option<PathBuf> {
    let rest = part.strip_prefix(all).ok()?;
    (rest != Path::new("")).then(|| rest.to_owned())
}

/// The path below another one, without a slash at its end.
fn below(path: &Path, rest: &Path) -> PathBuf {
    if rest == Path::new("") {
        path.to_owned()
    } else {
        path.join(rest)
    }
}

fn distinct<T: PartialEq>(all: impl Iterator<Item = T>) -> Vec<T> {
    let mut found = Vec::new();
    for one in all {
        if !found.contains(&one) {
            found.push(one);
        }
    }
    found
}

/// The path in a field, in which blanks, line ends and backslashes are octal numbers.
fn path_of(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::new();
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let number = after.get(..3).filter(|_| *first == b'\\');
        let number = number.and_then(|digits| str::from_utf8(digits).ok());
        if let Some(byte) = number.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            bytes.push(byte);
            rest = &after[3..];
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &[u8] = b"\
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 27 254:0 /var/lib/homes /home rw - ext4 /dev/vda rw
31 27 254:0 /var/lib/homes/me /mnt/a\\040b rw - ext4 /dev/vda rw
32 27 254:0 /var/lib/homes/me/.ssh /mnt/keys rw - ext4 /dev/vda rw
33 30 0:40 / /home/me/.cache rw - tmpfs tmpfs rw
34 27 0:40 /x /mnt/x rw - tmpfs tmpfs rw
35 27 0:40 / /mnt/cache rw - tmpfs tmpfs rw
36 27 0:41 / /data rw - tmpfs tmpfs rw
37 27 0:42 / /data rw - tmpfs tmpfs rw
38 27 0:42 / /other\xff rw - tmpfs tmpfs rw
wrong
";

    #[test]
    fn a_directory_is_known_by_all_names_that_mounts_give_it() {
        let mounts = Mounts::parse(MOUNTS);
        let check = |path: &str, expected: &[&[u8]]| {
            let expected: Vec<PathBuf> = expected.iter().map(|name| path_of(name)).collect();
            assert_eq!(mounts.other_names(Path::new(path)), expected, "{path}");
        };
        check("/home/me", &[b"/var/lib/homes/me", b"/mnt/a b"]);
        check("/home/me/a", &[b"/var/lib/homes/me/a", b"/mnt/a b/a"]);
        check("/home/you", &[b"/var/lib/homes/you"]);
        check("/mnt/a b/a", &[b"/var/lib/homes/me/a", b"/home/me/a"]);
        check("/home/me/.cache", &[b"/mnt/cache"]);
        check("/home/me/.cache/x", &[b"/mnt/x", b"/mnt/cache/x"]);
        check("/data/a", &[b"/other\xff/a"]);
        check("/home", &[b"/var/lib/homes"]);
        check("/usr", &[]);
        check("/", &[]);
    }

    #[test]
    fn parts_of_a_directory_that_are_mounted_elsewhere_are_known() {
        let mounts = Mounts::parse(MOUNTS);
        let check = |path: &str, expected: &[(&str, &str)]| {
            let expected = expected.iter();
            let expected: Vec<(PathBuf, PathBuf)> = expected
                .map(|(part, name)| (part.into(), name.into()))
                .collect();
            assert_eq!(mounts.parts(Path::new(path)), expected, "{path}");
        };
        let of_home = [
            (".ssh", "/mnt/keys"),
            (".cache", "/mnt/cache"),
            (".cache/x", "/mnt/x"),
        ];
        check("/home/me", &of_home);
        check("/home/you", &[]);
        check("/home/me/.cache", &[("x", "/mnt/x")]);
    }
}

//! Finds processes that are in frozen control groups, of version 1 or 2.

use std::path::{Path, PathBuf};

use crate::fsx::read_virtual_lossy;

/// Those of the processes that are in frozen control groups, as far as this can be seen from here.
/// `root` is `/`, except in tests.
pub(in crate::supervise) fn frozen(root: &Path, mut pids: Vec<u32>) -> Vec<u32> {
    if pids.is_empty() {
        return pids;
    }
    let read = |path: &Path| read_virtual_lossy(root.join(path)).unwrap_or_default();
    // Read once for all processes: a machine with many containers has thousands of mounts.
    let mounts = read(Path::new("proc/self/mountinfo"));
    pids.retain(|pid| {
        let groups = read(Path::new(&format!("proc/{pid}/cgroup")));
        is_frozen(&groups, &mounts, read)
    });
    pids
}

/// Whether one of the groups of a process is frozen. `read` reads a file, whose path has no `/` at
/// its beginning.
fn is_frozen(groups: &str, mounts: &str, read: impl Fn(&Path) -> String) -> bool {
    groups.lines().any(|line| {
        // `number:controllers:path`, in version 2 without controllers.
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (parts.next(), parts.next()) else {
            return false;
        };
        let (kind, file, signs): (_, _, &[&str]) = match controllers {
            "" => ("cgroup2", "cgroup.events", &["frozen 1"]),
            // A group in state `FREEZING` stays in it as long as one of its processes waits in the
            // kernel. All others do nothing any more.
            some if has_freezer(some) => ("cgroup", "freezer.state", &["FROZEN", "FREEZING"]),
            _ => return false,
        };
        folder(mounts, kind, group).is_some_and(|folder| {
            let state = read(&folder.join(file));
            state.lines().any(|line| signs.contains(&line))
        })
    })
}

fn has_freezer(list: &str) -> bool {
    list.split(',').any(|item| item == "freezer")
}

/// The folder of a group, without the `/` at its beginning; `None` if it is not mounted here. Each
/// line of `mounts` is `id parent device root mount-point options … - type source super-options`.
fn folder(mounts: &str, kind: &str, group: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let (place, about) = line.split_once(" - ")?;
        let mut about = about.split(' ');
        let is_it = about.next()? == kind && (kind == "cgroup2" || has_freezer(about.nth(1)?));
        let mut place = place.split(' ').skip(3);
        let (mounted, at) = (place.next()?, place.next()?);
        let below = Path::new(group).strip_prefix(mounted).ok()?;
        // A group outside of the namespace of this process begins with `/..`.
        let is_inside = !below.starts_with("..");
        (is_it && is_inside).then(|| Path::new(at.trim_start_matches('/')).join(below))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::fs;

    use super::*;

    const MOUNTS: &str = "\
35 31 0:32 /docker /sys/fs/cgroup/freezer rw - cgroup cgroup rw,freezer
36 31 0:33 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu
41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
";

    const ONE: &str = "5:cpu:/a\n4:freezer:/docker/a\n0::/\n";
    const STATE: &str = "sys/fs/cgroup/freezer/a/freezer.state";
    const TWO: &str = "0::/user.slice/a.service\n";
    const EVENTS: &str = "sys/fs/cgroup/unified/user.slice/a.service/cgroup.events";

    #[test]
    fn a_frozen_control_group_of_either_version_is_recognised() {
        let check = |groups: &str, files: &[(&str, &str)], expected: bool| {
            let root = tempfile::tempdir().unwrap();
            // The name of a mount point need not be UTF-8.
            let other = b"31 1 8:1 / /mnt/\xff rw - ext4 sda rw\n";
            let mounts = [&other[..], MOUNTS.as_bytes()].concat();
            let write = |path: &str, content: &[u8]| {
                let path = root.path().join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, content).unwrap();
            };
            write("proc/self/mountinfo", &mounts);
            for (path, content) in [("proc/7/cgroup", groups)].iter().chain(files) {
                write(path, content.as_bytes());
            }
            // The other process has ended.
            let found = frozen(root.path(), vec![7, 8]);
            let expected = if expected { vec![7] } else { Vec::new() };
            assert_eq!(found, expected, "{groups} {files:?}");
        };
        check(ONE, &[(STATE, "FROZEN\n")], true);
        check(ONE, &[(STATE, "FREEZING\n")], true);
        check(ONE, &[(STATE, "THAWED\n")], false);
        check(ONE, &[], false);
        check(TWO, &[(EVENTS, "populated 1\nfrozen 1\n")], true);
        check(TWO, &[(EVENTS, "populated 1\nfrozen 0\n")], false);
        // The mount has only the groups of another container.
        let state = [("sys/fs/cgroup/freezer/freezer.state", "FROZEN\n")];
        check("4:freezer:/\n", &state, false);
        let outside = [
            ("sys/fs/cgroup/unified/cgroup.procs", ""),
            ("sys/fs/cgroup/cgroup.events", "frozen 1\n"),
        ];
        check("0::/../\n", &outside, false);
    }
}

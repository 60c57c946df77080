//! Reads the limits of the control groups, of version 1 or 2, to which this process belongs. Its
//! own group and all groups above it may have limits.
//!
//! The folders of the groups are looked up once: `/proc/self/cgroup` names the groups, and
//! `/proc/self/mountinfo` shows where the files of the groups are. The values are read each time,
//! because a limit may be changed while the host runs. `sysinfo` is not used for this, because it
//! reads only the memory of groups, and counts cached files as memory in use, so that after some
//! gigabytes of output no task would start any more.

use std::path::{Path, PathBuf};

use crate::fsx::{read_virtual_lossy, read_virtual_text};

/// The folders of one controller's groups, from this process's own group up to the topmost visible
/// group.
#[derive(Debug, Default, PartialEq)]
struct Levels {
    version: Version,
    folders: Vec<PathBuf>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Version {
    One,
    #[default]
    Two,
}

#[derive(Debug, Default)]
pub(super) struct Cgroups {
    memory: Levels,
    cpu: Levels,
    /// The folders with the figures on processor use. In version 1 they may be in a separate
    /// hierarchy.
    accounting: Levels,
}

/// The tightest limit on memory.
#[derive(Debug, PartialEq)]
pub(super) struct MemoryLimit {
    pub(super) total_bytes: u64,
    pub(super) free_bytes: u64,
    /// The file with the memory stalls of the control group that has the least free memory.
    pub(super) pressure: Option<PathBuf>,
}

impl Cgroups {
    /// Looks up the groups. `root` is `/`, except in tests.
    pub(super) fn find(root: &Path) -> Self {
        let read = |path: &str| read_virtual_lossy(root.join(path)).unwrap_or_default();
        let (own, mounts) = (read("proc/self/cgroup"), read("proc/self/mountinfo"));
        let levels = |controller: &str| levels(root, &own, &mounts, controller);
        Self {
            memory: levels("memory"),
            cpu: levels("cpu"),
            accounting: levels("cpuacct"),
        }
    }

    /// The smallest limit of all control groups, and the smallest amount of memory that is free in
    /// one of them.
    pub(super) fn memory(&self) -> Option<MemoryLimit> {
        let version = self.memory.version;
        let limits = self.memory.folders.iter().filter_map(|folder| {
            let total_bytes = memory_limit(folder, version)?;
            let in_use = memory_in_use(folder, version)?;
            let pressure = (version == Version::Two).then(|| folder.join("memory.pressure"));
            Some(MemoryLimit {
                total_bytes,
                free_bytes: total_bytes.saturating_sub(in_use),
                pressure,
            })
        });
        limits.reduce(|tighter, above| MemoryLimit {
            total_bytes: tighter.total_bytes.min(above.total_bytes),
            free_bytes: tighter.free_bytes.min(above.free_bytes),
            pressure: if above.free_bytes < tighter.free_bytes {
                above.pressure
            } else {
                tighter.pressure
            },
        })
    }

    /// The number of cores that the tightest quota allows; `None` if there is no quota.
    pub(super) fn cpu_quota(&self) -> Option<f64> {
        Some(self.tightest_quota()?.0)
    }

    /// The processor time, in microseconds, that was used in the control group with the tightest
    /// quota since this group was made.
    pub(super) fn cpu_used_us(&self) -> Option<u64> {
        let (_, folder) = self.tightest_quota()?;
        match self.cpu.version {
            Version::Two => number_after(&folder.join("cpu.stat"), "usage_usec"),
            // Usually the quotas and the use are mounted together, and the use is read from the
            // group with the tightest quota. If they are mounted separately, only the use of our
            // own group can be read.
            Version::One => {
                let own = self.accounting.folders.first();
                let folders = [Some(folder), own.map(PathBuf::as_path)];
                let mut folders = folders.into_iter().flatten();
                folders.find_map(|folder| Some(number(&folder.join("cpuacct.usage"))? / 1_000))
            }
        }
    }

    fn tightest_quota(&self) -> Option<(f64, &Path)> {
        let quotas = self.cpu.folders.iter().filter_map(|folder| {
            let quota = cpu_quota(folder, self.cpu.version)?;
            Some((quota, folder.as_path()))
        });
        quotas.min_by(|(one, _), (other, _)| one.total_cmp(other))
    }
}

/// The number of processors on which the scheduler may run this process, according to its mask and
/// cpusets.
pub(super) fn allowed_cpus(root: &Path) -> Option<usize> {
    let status = read_virtual_text(root.join("proc/self/status")).ok()?;
    let list = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    list.trim().split(',').map(count_of_range).sum()
}

/// The number of processors in a range: four in `0-3`, one in `5`.
fn count_of_range(range: &str) -> Option<usize> {
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
    Some(last.checked_sub(first)? + 1)
}

/// The folders of a controller: in a hierarchy of version 1 if the controller has one, else in the
/// hierarchy of version 2.
fn levels(root: &Path, own: &str, mounts: &str, controller: &str) -> Levels {
    let of_one = own_group(own, |controllers| {
        controllers.split(',').any(|it| it == controller)
    });
    let of_two = own_group(own, str::is_empty);
    let found = match (of_one, of_two) {
        (Some(group), _) => mount(mounts, Some(controller)).map(|at| (Version::One, group, at)),
        (None, Some(group)) => mount(mounts, None).map(|at| (Version::Two, group, at)),
        (None, None) => None,
    };
    let Some((version, group, (mounted, at))) = found else {
        return Levels::default();
    };
    // If our group is not below the mounted group, only the mounted group is visible.
    let below = Path::new(group)
        .strip_prefix(mounted)
        .unwrap_or(Path::new(""));
    let below = below
        .to_str()
        .filter(|path| !path.contains(".."))
        .unwrap_or("");
    let top = root.join(at.trim_start_matches('/'));
    let folders = Path::new(below)
        .ancestors()
        .map(|level| top.join(level))
        .collect();
    Levels { version, folders }
}

/// The path of the first line `number:controllers:path` whose controllers match.
fn own_group(own: &str, passes: impl Fn(&str) -> bool) -> Option<&str> {
    own.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let controllers = parts.next()?;
        parts.next().filter(|_| passes(controllers))
    })
}

/// The mounted group and its mount point, for a controller of version 1 or, without a controller,
/// for version 2. Each line is `id parent device root mount-point options … - type source
/// super-options`.
fn mount<'a>(mounts: &'a str, controller: Option<&str>) -> Option<(&'a str, &'a str)> {
    mounts.lines().find_map(|line| {
        let (place, kind) = line.split_once(" - ")?;
        let mut kind = kind.split(' ');
        let is_it = match (kind.next()?, controller) {
            ("cgroup2", None) => true,
            ("cgroup", Some(controller)) => {
                kind.nth(1)?.split(',').any(|option| option == controller)
            }
            _ => false,
        };
        let mut place = place.split(' ').skip(3);
        is_it.then_some((place.next()?, place.next()?))
    })
}

fn memory_limit(folder: &Path, version: Version) -> Option<u64> {
    match version {
        Version::One => number(&folder.join("memory.limit_in_bytes")),
        // Above `high` the kernel slows down the whole group, so `high` counts as a limit too.
        Version::Two => {
            let limits = ["memory.max", "memory.high"];
            limits
                .iter()
                .filter_map(|limit| number(&folder.join(limit)))
                .min()
        }
    }
}

/// The memory in use, without the memory that the kernel would reclaim first: the working set, as
/// kubelet computes it.
fn memory_in_use(folder: &Path, version: Version) -> Option<u64> {
    let (usage, cache) = match version {
        Version::One => ("memory.usage_in_bytes", "total_inactive_file"),
        Version::Two => ("memory.current", "inactive_file"),
    };
    let cache = number_after(&folder.join("memory.stat"), cache).unwrap_or(0);
    Some(number(&folder.join(usage))?.saturating_sub(cache))
}

fn cpu_quota(folder: &Path, version: Version) -> Option<f64> {
    let (quota, period) = match version {
        // If there is no quota, the file contains −1, which does not parse as a number here.
        Version::One => (
            number(&folder.join("cpu.cfs_quota_us"))?,
            number(&folder.join("cpu.cfs_period_us"))?,
        ),
        Version::Two => {
            let text = read_virtual_text(folder.join("cpu.max")).ok()?;
            let (quota, period) = text.trim().split_once(' ')?;
            (quota.parse().ok()?, period.parse().ok()?)
        }
    };
    (period > 0).then(|| quota as f64 / period as f64)
}

/// The number in a file; `None` if the file is missing or contains no number, for example `max`.
fn number(path: &Path) -> Option<u64> {
    read_virtual_text(path).ok()?.trim().parse().ok()
}

/// The number that follows a word at the beginning of a line.
fn number_after(path: &Path, word: &str) -> Option<u64> {
    let text = read_virtual_text(path).ok()?;
    text.lines().find_map(|line| {
        let (name, number) = line.split_once(' ')?;
        (name == word).then(|| number.trim().parse().ok())?
    })
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::fs;

    use super::*;

    /// A folder with these files in it.
    pub(in crate::sample) fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        root
    }

    const TWO: [(&str, &str); 2] = [
        ("proc/self/cgroup", "0::/user.slice/claudine.service\n"),
        (
            "proc/self/mountinfo",
            "29 22 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n",
        ),
    ];
    const ONE: [(&str, &str); 2] = [
        (
            "proc/self/cgroup",
            "5:memory:/docker/1ab0\n2:cpu,cpuacct:/docker/1ab0\n1:name=systemd:/docker/1ab0\n0::/\n",
        ),
        (
            "proc/self/mountinfo",
            "35 31 0:32 /docker /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
             36 31 0:33 /docker /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
             41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
        ),
    ];

    fn check_memory(
        own: &[(&str, &str)],
        files: &[(&str, &str)],
        expected: Option<(u64, u64, Option<&str>)>,
    ) {
        let root = tree(&[own, files].concat());
        let found = Cgroups::find(root.path()).memory();
        let expected = expected.map(|(total_bytes, free_bytes, pressure)| MemoryLimit {
            total_bytes,
            free_bytes,
            pressure: pressure.map(|path| root.path().join(path)),
        });
        assert_eq!(found, expected, "{files:?}");
    }

    #[test]
    fn groups_are_found_although_the_name_of_a_mount_point_is_not_utf_8() {
        let own = [
            (
                "sys/fs/cgroup/user.slice/claudine.service/memory.max",
                "1000\n",
            ),
            (
                "sys/fs/cgroup/user.slice/claudine.service/memory.current",
                "400\n",
            ),
        ];
        let root = tree(&[TWO, own].concat());
        let (path, mounts) = TWO[1];
        let other = b"31 1 8:1 / /mnt/\xff rw - ext4 sda rw\n";
        let mounts = [&other[..], mounts.as_bytes()].concat();
        fs::write(root.path().join(path), mounts).unwrap();
        let found = Cgroups::find(root.path()).memory().unwrap();
        assert_eq!((found.total_bytes, found.free_bytes), (1_000, 600));
    }

    #[test]
    fn memory_of_version_two_is_read() {
        const OWN: &str = "sys/fs/cgroup/user.slice/claudine.service/memory";
        const SLICE: &str = "sys/fs/cgroup/user.slice/memory";
        let path = |level: &str, name: &str| format!("{level}.{name}");
        let check = |own: [&str; 4], slice: [&str; 4], expected| {
            let mut files = Vec::new();
            for (level, values) in [(OWN, own), (SLICE, slice)] {
                let names = ["max", "high", "current", "stat"];
                let named = names
                    .iter()
                    .zip(values)
                    .filter(|(_, value)| !value.is_empty());
                files.extend(named.map(|(name, value)| (path(level, name), value)));
            }
            let files: Vec<(&str, &str)> = files
                .iter()
                .map(|(path, value)| (path.as_str(), *value))
                .collect();
            check_memory(&TWO, &files, expected);
        };
        let pressure = path(OWN, "pressure");
        let of_slice = path(SLICE, "pressure");
        check(["", "", "", ""], ["", "", "", ""], None);
        check(
            ["max\n", "max\n", "10\n", ""],
            ["max\n", "", "10\n", ""],
            None,
        );
        check(
            ["1000\n", "max\n", "400\n", "anon 100\ninactive_file 300\n"],
            ["", "", "", ""],
            Some((1000, 900, Some(&pressure))),
        );
        check(
            ["1000\n", "800\n", "400\n", "file 1\n"],
            ["", "", "", ""],
            Some((800, 400, Some(&pressure))),
        );
        // The slice's limit is larger, but other groups use most of it.
        check(
            ["1000\n", "max\n", "400\n", ""],
            ["2000\n", "max\n", "1900\n", ""],
            Some((1000, 100, Some(&of_slice))),
        );
        check(
            ["max\n", "max\n", "400\n", ""],
            ["2000\n", "max\n", "2900\n", ""],
            Some((2000, 0, Some(&of_slice))),
        );
    }

    #[test]
    fn memory_of_version_one_is_read() {
        let own = "sys/fs/cgroup/memory/1ab0";
        let limit = format!("{own}/memory.limit_in_bytes");
        let usage = format!("{own}/memory.usage_in_bytes");
        let stat = format!("{own}/memory.stat");
        check_memory(
            &ONE,
            &[
                (&limit, "1000\n"),
                (&usage, "700\n"),
                (&stat, "inactive_file 1\ntotal_inactive_file 200\n"),
                ("sys/fs/cgroup/memory/memory.limit_in_bytes", "800\n"),
                ("sys/fs/cgroup/memory/memory.usage_in_bytes", "100\n"),
            ],
            Some((800, 500, None)),
        );
        check_memory(&ONE, &[(&limit, "much\n"), (&usage, "1\n")], None);
    }

    #[test]
    fn a_cgroup_outside_the_mount_is_read_from_the_mount_point() {
        let own = [
            ("proc/self/cgroup", "0::/../../elsewhere\n"),
            ("proc/self/mountinfo", TWO[1].1),
        ];
        let files = [
            ("sys/fs/cgroup/memory.max", "1000\n"),
            ("sys/fs/cgroup/memory.current", "1\n"),
            ("elsewhere/memory.max", "5\n"),
        ];
        let pressure = "sys/fs/cgroup/memory.pressure";
        check_memory(&own, &files, Some((1000, 999, Some(pressure))));
        check_memory(&[], &files, None);
    }

    #[test]
    fn quotas_of_both_versions_are_read() {
        let check = |own: &[(&str, &str)], files: &[(&str, &str)], quota, used| {
            let root = tree(&[own, files].concat());
            let cgroups = Cgroups::find(root.path());
            let found = (cgroups.cpu_quota(), cgroups.cpu_used_us());
            assert_eq!(found, (quota, used), "{files:?}");
        };
        let two = "sys/fs/cgroup/user.slice";
        let (max, above) = (
            format!("{two}/claudine.service/cpu.max"),
            format!("{two}/cpu.max"),
        );
        let (stat, stat_above) = (
            format!("{two}/claudine.service/cpu.stat"),
            format!("{two}/cpu.stat"),
        );
        let stats = [
            (stat.as_str(), "usage_usec 70\nuser_usec 1\n"),
            (&stat_above, "usage_usec 90\n"),
        ];
        check(&TWO, &[(&max, "max 100000\n")], None, None);
        check(
            &TWO,
            &[stats.as_slice(), &[(&max, "150000 100000\n")]].concat(),
            Some(1.5),
            Some(70),
        );
        // The use is read from the group with the tightest quota.
        check(
            &TWO,
            &[
                stats.as_slice(),
                &[(&max, "150000 100000\n"), (&above, "50000 100000\n")],
            ]
            .concat(),
            Some(0.5),
            Some(90),
        );
        check(&TWO, &[(&max, "5 0\n")], None, None);
        let one = "sys/fs/cgroup/cpu,cpuacct/1ab0";
        let (quota, period, usage) = (
            format!("{one}/cpu.cfs_quota_us"),
            format!("{one}/cpu.cfs_period_us"),
            format!("{one}/cpuacct.usage"),
        );
        check(
            &ONE,
            &[(&quota, "-1\n"), (&period, "100000\n"), (&usage, "7000\n")],
            None,
            None,
        );
        check(
            &ONE,
            &[
                (&quota, "250000\n"),
                (&period, "100000\n"),
                (&usage, "7000\n"),
            ],
            Some(2.5),
            Some(7),
        );
    }

    #[test]
    fn processors_are_counted_from_the_mask() {
        let check = |list: &str, expected: Option<usize>| {
            let status = format!("Name:\tclaudine\nCpus_allowed_list:\t{list}\nMems_allowed:\t1\n");
            let root = tree(&[("proc/self/status", &status)]);
            assert_eq!(allowed_cpus(root.path()), expected, "{list}");
        };
        check("0", Some(1));
        check("0-3", Some(4));
        check("0-1,4,6-7", Some(5));
        check("", None);
        check("3-1", None);
    }
}

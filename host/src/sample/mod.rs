//! Reads the resources of the machine, for the admission of tasks: processors and memory from
//! `sysinfo`, free disk space and, on Linux, the control groups that limit this process
//! ([`cgroup`]) and the kernel's memory stalls ([`pressure`]).
//!
//! This module makes no decisions. A reading takes about 0.2 ms, and is made once a second while
//! there is work.

mod cgroup;
mod pressure;

use std::path::{Path, PathBuf};

use claudine_domain::{capacity::Reading, time::MonotonicMs};
use sysinfo::{CpuRefreshKind, MemoryRefreshKind, RefreshKind, System};

use self::cgroup::{Cgroups, MemoryLimit};
use crate::{ballast, clock, engine::Machine, fsx};

/// Reads the machine. Keeps the last reading, because the use of processors is the difference
/// between two readings.
pub(crate) struct Sampler {
    system: System,
    cgroups: Cgroups,
    /// The processor time that the control group had used at the last reading, in microseconds, and
    /// the time of this reading.
    group_used: Option<(u64, MonotonicMs)>,
    root: PathBuf,
    data_dir: PathBuf,
}

/// The figures of the whole machine.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Whole {
    cores: f64,
    cores_in_use: f64,
    memory_total_bytes: u64,
    memory_free_bytes: u64,
}

impl Sampler {
    /// Makes a sampler for the disk of `data_dir`.
    pub(crate) fn new(data_dir: &Path) -> std::io::Result<Self> {
        let kinds = RefreshKind::nothing()
            .with_cpu(CpuRefreshKind::nothing().with_usage())
            .with_memory(MemoryRefreshKind::nothing().with_ram());
        let system = System::new_with_specifics(kinds).map_err(std::io::Error::other)?;
        let root = PathBuf::from("/");
        Ok(Self {
            system,
            cgroups: Cgroups::find(&root),
            group_used: None,
            root,
            data_dir: data_dir.to_owned(),
        })
    }

    fn whole(&mut self) -> Whole {
        self.system.refresh_cpu_usage();
        self.system
            .refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
        let cores = self.system.cpus().len() as f64;
        Whole {
            cores,
            cores_in_use: f64::from(self.system.global_cpu_usage()) / 100.0 * cores,
            memory_total_bytes: self.system.total_memory(),
            memory_free_bytes: self.system.available_memory(),
        }
    }

    /// The average number of cores that the control group has used since the last reading; `None`
    /// if this is unknown.
    fn group_cores_in_use(&mut self, now: MonotonicMs) -> Option<f64> {
        let used = self.cgroups.cpu_used_us()?;
        let before = self.group_used.replace((used, now));
        let (used_before, at) = before?;
        let elapsed_us = now.0.saturating_sub(at.0) * 1_000;
        (elapsed_us > 0).then(|| used.saturating_sub(used_before) as f64 / elapsed_us as f64)
    }
}

impl Machine for Sampler {
    fn read(&mut self) -> Reading {
        let at = clock::monotonic_ms();
        let whole = self.whole();
        let group_in_use = self.group_cores_in_use(at);
        let (cores, cores_in_use) = cores(
            whole,
            cgroup::allowed_cpus(&self.root),
            self.cgroups.cpu_quota(),
            group_in_use,
        );
        let limit = self.cgroups.memory();
        let (memory_total_bytes, memory_free_bytes, stall_of_group) = memory(whole, limit.as_ref());
        Reading {
            at,
            cores,
            cores_in_use,
            memory_total_bytes,
            memory_free_bytes,
            disk_free_bytes: fsx::free_bytes(&self.data_dir).unwrap_or(u64::MAX),
            too_few_inodes: ballast::too_few_inodes(&self.data_dir),
            memory_stall_percent: pressure::stall_percent(&self.root, stall_of_group),
        }
    }
}

/// The number of cores that this process may use, and the number of these cores that are in use.
/// Both the free cores of the whole machine and the unused rest of our quota limit the cores that
/// are free for us, so the smaller of the two numbers is used.
fn cores(
    whole: Whole,
    allowed: Option<usize>,
    quota: Option<f64>,
    group_in_use: Option<f64>,
) -> (f64, f64) {
    let allowed = allowed.map_or(whole.cores, |allowed| whole.cores.min(allowed as f64));
    let cores = quota.map_or(allowed, |quota| allowed.min(quota));
    let room = whole.cores - whole.cores_in_use;
    let room = match (quota, group_in_use) {
        (Some(_), Some(in_use)) => room.min(cores - in_use),
        _ => room,
    };
    (cores, (cores - room).clamp(0.0, cores))
}

/// The total and free memory, and the file with the stalls of the control group. If the limit of
/// the control group is below the machine's memory, the figures of the control group count,
/// otherwise those of the machine. A control group has no more free memory than the machine.
fn memory(whole: Whole, limit: Option<&MemoryLimit>) -> (u64, u64, Option<&Path>) {
    match limit.filter(|limit| limit.total_bytes < whole.memory_total_bytes) {
        Some(limit) => (
            limit.total_bytes,
            limit.free_bytes.min(whole.memory_free_bytes),
            limit.pressure.as_deref(),
        ),
        None => (whole.memory_total_bytes, whole.memory_free_bytes, None),
    }
}

/// The number of bytes that an unprivileged process may still write to the disk of `path`; the
/// largest number if the system does not report it. None can be written to new files if too few
/// inodes are free.
pub(crate) fn disk_free_bytes(path: &Path) -> u64 {
    if ballast::too_few_inodes(path).is_some() {
        return 0;
    }
    fsx::free_bytes(path).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn free_cores_are_limited_by_the_machine_and_by_the_cgroup() {
        let check = |in_use: f64,
                     allowed: Option<usize>,
                     quota: Option<f64>,
                     group: Option<f64>,
                     expected: (f64, f64)| {
            let whole = Whole {
                cores: 8.0,
                cores_in_use: in_use,
                memory_total_bytes: 0,
                memory_free_bytes: 0,
            };
            let found = cores(whole, allowed, quota, group);
            assert_eq!(found, expected, "{in_use} {allowed:?} {quota:?} {group:?}");
        };
        check(3.0, None, None, None, (8.0, 3.0));
        check(3.0, Some(4), None, None, (4.0, 0.0));
        check(7.0, Some(4), None, None, (4.0, 3.0));
        // Others use six of eight cores. Of our two and a half cores we use one.
        check(7.0, Some(8), Some(2.5), Some(1.0), (2.5, 1.5));
        check(3.0, Some(8), Some(2.5), Some(1.0), (2.5, 1.0));
        check(3.0, Some(8), Some(2.5), None, (2.5, 0.0));
        check(1.0, Some(8), Some(0.5), Some(0.6), (0.5, 0.5));
        check(9.0, None, None, None, (8.0, 8.0));
    }

    #[test]
    fn a_cgroup_has_no_more_free_memory_than_the_machine() {
        let check = |limit: Option<(u64, u64)>, expected: (u64, u64, Option<&str>)| {
            let whole = Whole {
                cores: 1.0,
                cores_in_use: 0.0,
                memory_total_bytes: 800,
                memory_free_bytes: 300,
            };
            let limit = limit.map(|(total_bytes, free_bytes)| MemoryLimit {
                total_bytes,
                free_bytes,
                pressure: Some("memory.pressure".into()),
            });
            let (total, free, pressure) = memory(whole, limit.as_ref());
            let pressure = pressure.and_then(Path::to_str);
            assert_eq!((total, free, pressure), expected, "{limit:?}");
        };
        check(None, (800, 300, None));
        check(Some((500, 200)), (500, 200, Some("memory.pressure")));
        check(Some((500, 400)), (500, 300, Some("memory.pressure")));
        check(Some((800, 100)), (800, 300, None));
        check(Some((u64::MAX, u64::MAX)), (800, 300, None));
    }
}

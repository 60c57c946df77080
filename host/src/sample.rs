//! Readings of the machine for admission: CPU and memory by `sysinfo`, memory stalls and cgroup limits where Linux has them, free disk.
//!
//! It decides nothing. A reading takes about 0.2 ms and is taken once a second while there is work.

use std::path::{Path, PathBuf};

use claudine_domain::capacity::Reading;
use sysinfo::{CpuRefreshKind, MemoryRefreshKind, RefreshKind, System};

use crate::clock;

/// Keeps what the next reading is compared with: CPU in use is a difference.
pub(crate) struct Sampler {
    system: System,
    data_dir: PathBuf,
}

impl Sampler {
    /// `data_dir` names the disk that counts.
    pub(crate) fn new(data_dir: &Path) -> std::io::Result<Self> {
        let kinds = RefreshKind::nothing()
            .with_cpu(CpuRefreshKind::nothing().with_usage())
            .with_memory(MemoryRefreshKind::nothing().with_ram());
        let system = System::new_with_specifics(kinds).map_err(std::io::Error::other)?;
        Ok(Self {
            system,
            data_dir: data_dir.to_owned(),
        })
    }

    pub(crate) fn read(&mut self) -> Reading {
        self.system.refresh_cpu_usage();
        self.system
            .refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
        let cores = self.cores();
        let (memory_total_bytes, memory_free_bytes) = self.memory();
        Reading {
            at: clock::monotonic_ms(),
            cores,
            cores_in_use: f64::from(self.system.global_cpu_usage()) / 100.0
                * self.system.cpus().len() as f64,
            memory_total_bytes,
            memory_free_bytes,
            disk_free_bytes: disk_free_bytes(&self.data_dir),
            memory_stall_percent: memory_stall_percent(),
        }
    }

    /// The cores this process may use: what the scheduler allows, less what a cgroup's quota takes away.
    fn cores(&self) -> f64 {
        std::thread::available_parallelism().map_or(self.system.cpus().len(), usize::from) as f64
    }

    /// Total and free memory, of the cgroup where it is tighter than the machine.
    fn memory(&self) -> (u64, u64) {
        let machine = (self.system.total_memory(), self.system.available_memory());
        match self.system.cgroup_limits() {
            Some(limits) if limits.total_memory > 0 && limits.total_memory < machine.0 => {
                (limits.total_memory, limits.free_memory.min(machine.1))
            }
            _ => machine,
        }
    }
}

/// Bytes that an unprivileged process may still write to the disk of `path`; for ever where the system does not say.
pub(crate) fn disk_free_bytes(path: &Path) -> u64 {
    rustix::fs::statvfs(path).map_or(u64::MAX, |stat| stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// The share of the last ten seconds in which some task stalled on memory (`/proc/pressure/memory`, `some avg10`).
fn memory_stall_percent() -> Option<f64> {
    parse_stall(&std::fs::read_to_string("/proc/pressure/memory").ok()?)
}

fn parse_stall(text: &str) -> Option<f64> {
    let some = text.lines().find(|line| line.starts_with("some "))?;
    some.split_whitespace()
        .find_map(|word| word.strip_prefix("avg10="))?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn pressure_is_read_from_the_line_of_some() {
        let text = "some avg10=12.34 avg60=1.00 avg300=0.00 total=12\nfull avg10=99.00 avg60=0.00 avg300=0.00 total=0\n";
        assert_eq!(parse_stall(text), Some(12.34));
        assert_eq!(parse_stall("nothing here"), None);
    }

    #[test]
    fn a_reading_of_this_machine_is_plausible() {
        let reading = Sampler::new(Path::new("/")).unwrap().read();
        assert!(reading.cores >= 1.0, "{reading:?}");
        assert!(
            reading.memory_free_bytes <= reading.memory_total_bytes,
            "{reading:?}"
        );
        assert!(reading.memory_total_bytes > 1 << 20, "{reading:?}");
    }
}

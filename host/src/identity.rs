//! Identifies the host process of a data directory, for processes that cannot ask the host itself.
//! The process that holds the lock of the directory writes its identity into the lock file.
//!
//! Pids are reused, so the start time is recorded too. Within one boot, pid and start time together
//! identify a process. The inode of the lock file is recorded as well. In a copy of a data
//! directory, the record names the host of the original directory, and the lock file has another
//! inode.

use std::{
    fs::File,
    io::{self, Read, Seek, Write},
    os::unix::fs::MetadataExt,
};

use serde::{Deserialize, Serialize};

use crate::{
    clock, fsx,
    layout::Layout,
    proc_stat::{self, Stat},
};

/// What the holder of the lock does with the data directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Purpose {
    #[default]
    Host,
    Restore,
}

/// The recorded process of a host or of a restore.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct HostProcess {
    pub(crate) pid: u32,
    /// Start time in clock ticks since the boot.
    start_time: u64,
    boot_id: String,
    /// Device and inode of the lock file. Earlier versions did not record them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    file: Option<(u64, u64)>,
    #[serde(default)]
    purpose: Purpose,
}

impl HostProcess {
    /// Records this process. The process must hold the lock.
    pub(crate) fn note(lock: &mut File, purpose: Purpose) -> io::Result<()> {
        let pid = std::process::id();
        let unseen = || io::Error::other("/proc is not mounted, or does not show this process");
        let boot_id = clock::boot_id().to_string();
        if boot_id.is_empty() {
            // Living processes of an earlier host would be taken for processes of an earlier boot,
            // and their tasks would be run twice.
            return Err(io::Error::other("/proc does not show the id of this boot"));
        }
        let this = Self {
            pid,
            start_time: proc_stat::try_stat(pid)?.ok_or_else(unseen)?.start_time,
            boot_id,
            file: Some(number_of(lock)?),
            purpose,
        };
        let mut line = serde_json::to_vec(&this)?;
        line.push(b'\n');
        lock.set_len(0)?;
        lock.rewind()?;
        lock.write_all(&line)
    }

    /// The host of a data directory, or the restore into it, if it is alive.
    pub(crate) fn of(layout: &Layout) -> Option<Self> {
        let mut lock = fsx::open(&layout.lock()).ok()?;
        let mut text = Vec::new();
        lock.read_to_end(&mut text).ok()?;
        let noted: Self = serde_json::from_slice(&text).ok()?;
        let is_copied = noted.file.is_some() && noted.file != number_of(&lock).ok();
        (!is_copied && noted.is_alive()).then_some(noted)
    }

    pub(crate) fn restores(&self) -> bool {
        self.purpose == Purpose::Restore
    }

    pub(crate) fn is_alive(&self) -> bool {
        match self.stat() {
            Ok(stat) => stat.is_some_and(|stat| !stat.is_zombie()),
            // A process that cannot be looked at may live.
            Err(_) => true,
        }
    }

    /// Whether the process is stopped by a signal, and so cannot answer.
    pub(crate) fn is_stopped(&self) -> bool {
        let stat = self.stat();
        stat.is_ok_and(|stat| stat.is_some_and(|stat| stat.is_stopped()))
    }

    /// The process's entry in `/proc`; `None` if the process has ended, even if another process has
    /// its pid now.
    fn stat(&self) -> io::Result<Option<Stat>> {
        if *self.boot_id != *clock::boot_id() {
            return Ok(None);
        }
        let stat = proc_stat::try_stat(self.pid)?;
        Ok(stat.filter(|stat| stat.start_time == self.start_time))
    }
}

/// Device and inode of a file.
fn number_of(file: &File) -> io::Result<(u64, u64)> {
    file.metadata().map(|it| (it.dev(), it.ino()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn a_record_in_a_copied_data_directory_names_no_host() {
        let dirs = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let [layout, copy] = dirs.each_ref().map(|dir| Layout::new(dir.path()));
        let mut lock = File::create(layout.lock()).unwrap();
        HostProcess::note(&mut lock, Purpose::Host).unwrap();
        std::fs::copy(layout.lock(), copy.lock()).unwrap();
        assert!(HostProcess::of(&layout).is_some());
        assert_eq!(HostProcess::of(&copy), None);
    }

    #[test]
    fn a_host_is_identified_by_its_pid_and_its_start_time() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        assert_eq!(HostProcess::of(&layout), None);
        let mut lock = File::create(layout.lock()).unwrap();
        // The record of an earlier host may be longer.
        lock.write_all(&[b' '; 500]).unwrap();
        HostProcess::note(&mut lock, Purpose::Restore).unwrap();
        assert!(HostProcess::of(&layout).unwrap().restores());
        HostProcess::note(&mut lock, Purpose::Host).unwrap();
        let host = HostProcess::of(&layout).unwrap();
        assert!(!host.restores());
        assert_eq!(host.pid, std::process::id());
        assert!(host.is_alive() && !host.is_stopped());
        let later = HostProcess {
            start_time: host.start_time + 1,
            ..host.clone()
        };
        let another_boot = HostProcess {
            boot_id: "another".to_owned(),
            ..host
        };
        assert!(!later.is_alive() && !another_boot.is_alive());
    }
}

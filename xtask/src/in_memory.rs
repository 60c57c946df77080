//! Directories in the file system in memory that Linux machines have.

use anyhow::{Context, Result};
use rustix::fs::{StatVfsMountFlags, statvfs};
use tempfile::TempDir;

const IN_MEMORY: &str = "/dev/shm";

/// A directory in memory, if `bytes` are free there and programs may be run from it. Its path is
/// short, because tests show paths of sockets on terminals of 80 columns.
pub(crate) fn directory(bytes: u64) -> Result<Option<TempDir>> {
    let Ok(found) = statvfs(IN_MEMORY) else {
        return Ok(None);
    };
    let has_room = found.f_bavail * found.f_frsize >= bytes;
    let may_run_programs = !found.f_flag.contains(StatVfsMountFlags::NOEXEC);
    if !has_room || !may_run_programs {
        return Ok(None);
    }
    let mut name = tempfile::Builder::new();
    let dir = name.prefix("c").rand_bytes(3).tempdir_in(IN_MEMORY);
    dir.map(Some)
        .with_context(|| format!("cannot make a directory in {IN_MEMORY}"))
}

//! Mounts of tests: small file systems, and files or directories that cannot be changed.

use std::{
    ffi::OsStr,
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

use claudine_tests::{TestHost, command, wait::PATIENCE};
use rustix::process::geteuid;

/// A small file system in memory.
pub(super) struct SmallDisk {
    pub(super) dir: PathBuf,
    _root: tempfile::TempDir,
}

impl SmallDisk {
    pub(super) fn mount(megabytes: u32) -> Self {
        Self::mount_with(&format!("size={megabytes}m"))
    }

    pub(super) fn mount_with(options: &str) -> Self {
        let root = tempfile::Builder::new()
            .prefix("cdn-disk-")
            .tempdir()
            .unwrap();
        let dir = root.path().join("disk");
        fs::create_dir(&dir).unwrap();
        mount(
            ["-t", "tmpfs", "-o", options, "claudine-test"],
            dir.as_os_str(),
        );
        Self { dir, _root: root }
    }

    /// A host whose data is on this disk, with a reserve that fits on it.
    pub(super) fn host(&self) -> TestHost {
        TestHost::builder()
            .data_dir(self.dir.join("data"))
            .config("disk_reserve = \"4M\"\n")
            .build()
    }

    fn filler(&self) -> PathBuf {
        self.dir.join("filler")
    }

    fn spent(&self) -> PathBuf {
        self.dir.join("spent")
    }

    /// Creates empty files until no file can be created.
    pub(super) fn use_all_inodes(&self) {
        if !self.spent().exists() {
            fs::create_dir(self.spent()).unwrap();
        }
        let fits = |number: &u32| fs::File::create(self.spent().join(number.to_string())).is_ok();
        assert!((0..1_000_000).take_while(fits).count() > 0);
    }

    pub(super) fn free_inodes(&self) {
        fs::remove_dir_all(self.spent()).unwrap();
    }

    /// Writes until nothing more fits.
    pub(super) fn fill(&self) {
        let mut file = fs::File::create(self.filler()).unwrap();
        for block in [vec![0_u8; 65_536], vec![0_u8; 512]] {
            while file.write_all(&block).is_ok() {}
        }
    }

    /// Writes until only this many bytes are free.
    pub(super) fn fill_except(&self, free_bytes: u64) {
        let disk = rustix::fs::statvfs(&self.dir).unwrap();
        let length = disk.f_bavail * disk.f_frsize - free_bytes;
        let bytes = vec![0; usize::try_from(length).unwrap()];
        fs::write(self.filler(), bytes).unwrap();
    }

    pub(super) fn empty(&self) {
        fs::remove_file(self.filler()).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        unmount(&self.dir);
    }
}

/// A file or a directory that is mounted on itself, or at a second place.
pub(super) struct Mounted(PathBuf);

impl Mounted {
    /// Nobody can replace or remove the file until this value is dropped.
    pub(super) fn file(file: PathBuf) -> Self {
        mount([OsStr::new("--bind"), file.as_os_str()], file.as_os_str());
        Self(file)
    }

    /// The directory has a second name until this value is dropped.
    pub(super) fn again(dir: &Path, at: &Path) -> Self {
        mount([OsStr::new("--bind"), dir.as_os_str()], at.as_os_str());
        Self(at.to_owned())
    }

    /// Nothing can be written in the directory until this value is dropped.
    pub(super) fn read_only(dir: PathBuf) -> Self {
        let bind = ["-o", "bind,ro"].map(OsStr::new);
        mount(bind.into_iter().chain([dir.as_os_str()]), dir.as_os_str());
        Self(dir)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        unmount(&self.0);
    }
}

fn mount<I: AsRef<OsStr>>(arguments: impl IntoIterator<Item = I>, at: &OsStr) {
    assert!(
        geteuid().is_root(),
        "this test mounts something: run it as root"
    );
    let mut mount = Command::new("mount");
    mount.args(arguments).arg(at);
    command::run(mount, b"", PATIENCE).check();
}

fn unmount(place: &Path) {
    // The unmount is lazy, because a failed test may have left a file open. An error here would
    // hide the message of that test.
    let unmounted = Command::new("umount").arg("--lazy").arg(place).status();
    if !unmounted.is_ok_and(|status| status.success()) {
        eprintln!("cannot unmount {}", place.display());
    }
}

//! Refuses data directories on network filesystems.
//!
//! SQLite's log needs memory shared between processes, reliable locks and an `fdatasync` that
//! really syncs. A filesystem whose bytes are on another machine guarantees none of these. Most of
//! these filesystems can be recognised by the number that the kernel gives each kind. Two numbers
//! are used by remote and by local filesystems: FUSE (sshfs, but also an encrypted local directory)
//! and 9p (a Windows drive under WSL, a file server over TCP, but also the root of many sandboxes).
//! For these two numbers, the type and the options of the mount decide. If these do not show that
//! the filesystem is remote, the directory is allowed.

use std::path::Path;

use super::{super::StoreError, fault::from_io};
use crate::fsx;

const FUSE: u32 = 0x6573_5546;
const NINE_P: u32 = 0x0102_1997;

/// Filesystems that are always on another machine, by their number in `statfs`.
const REMOTE: &[(u32, &str)] = &[
    (0x0000_6969, "nfs"),
    (0x0000_517b, "smb"),
    (0xff53_4d42, "cifs"),
    (0xfe53_4d42, "smb2"),
    (0x5346_414f, "afs"),
    (0x6b41_4653, "afs"),
    (0x7375_7245, "coda"),
    (0x0000_564c, "ncp"),
    (0x00c3_6400, "ceph"),
    (0x0bd0_0bd0, "lustre"),
    (0x4750_4653, "gpfs"),
    (0x1983_0326, "beegfs"),
    (0x2003_0528, "orangefs"),
    (0x0131_11a8, "ibrix"),
];

/// FUSE filesystems whose bytes are on another machine, by the part of their type in
/// `/proc/self/mountinfo` that follows `fuse.`.
const REMOTE_FUSE: &[&str] = &[
    "sshfs",
    "rclone",
    "s3fs",
    "goofys",
    "mount-s3",
    "gcsfuse",
    "blobfuse",
    "blobfuse2",
    "davfs",
    "davfs2",
    "curlftpfs",
    "glusterfs",
    "ceph",
    "cephfs",
    "juicefs",
    "moosefs",
    "mfs",
    "seaweedfs",
    "google-drive-ocamlfuse",
    "gvfsd-fuse",
    "smbnetfs",
];

/// Refuses a directory that is on a network filesystem.
pub(crate) fn refuse_network_filesystem(directory: &Path) -> Result<(), StoreError> {
    let io = |error| from_io(directory, error);
    let number = rustix::fs::statfs(directory).map_err(|error| io(error.into()))?;
    // The width of the field differs between architectures, but the numbers have 32 bits.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the number is the low 32 bits"
    )]
    let number = number.f_type as u32;
    let mount = if matches!(number, FUSE | NINE_P) {
        let resolved = directory.canonicalize().map_err(io)?;
        let mounts = fsx::read_virtual_lossy("/proc/self/mountinfo").map_err(io)?;
        mount_of(&mounts, &resolved)
    } else {
        None
    };
    match remote(number, mount.as_ref()) {
        None => Ok(()),
        Some(filesystem) => Err(StoreError::NetworkFilesystem {
            path: directory.to_owned(),
            filesystem,
        }),
    }
}

/// A mount, as `/proc/self/mountinfo` describes it.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Mount {
    kind: String,
    options: String,
}

/// The name of the network filesystem; `None` if the filesystem is local.
fn remote(number: u32, mount: Option<&Mount>) -> Option<String> {
    if let Some((_, name)) = REMOTE.iter().find(|(known, _)| *known == number) {
        return Some((*name).to_owned());
    }
    let mount = mount?;
    let remote = match number {
        FUSE => {
            let kind = mount.kind.strip_prefix("fuse.");
            kind.is_some_and(|kind| REMOTE_FUSE.contains(&kind))
        }
        NINE_P => mount.options.split([',', ';']).any(|option| {
            matches!(
                option,
                "trans=tcp" | "trans=rdma" | "trans=unix" | "aname=drvfs"
            )
        }),
        _ => false,
    };
    remote.then(|| mount.kind.clone())
}

/// The mount of a path: the deepest mount above the path. If several mounts have the same mount
/// point, the last of them counts, since it hides the others.
fn mount_of(mountinfo: &str, path: &Path) -> Option<Mount> {
    let mounts = mountinfo.lines().filter_map(|line| {
        let (place, filesystem) = line.split_once(" - ")?;
        let point = unescape(place.split(' ').nth(4)?);
        let mut fields = filesystem.split(' ');
        let mount = Mount {
            kind: fields.next()?.to_owned(),
            options: fields.nth(1).unwrap_or_default().to_owned(),
        };
        let depth = Path::new(&point).components().count();
        path.starts_with(&point).then_some((depth, mount))
    });
    mounts
        .max_by_key(|(depth, _)| *depth)
        .map(|(_, mount)| mount)
}

/// Decodes space, tab, newline and backslash. Mountinfo writes each of them as a backslash and
/// three octal digits.
fn unescape(text: &str) -> String {
    text.replace("\\040", " ")
        .replace("\\011", "\t")
        .replace("\\012", "\n")
        .replace("\\134", "\\")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn network_filesystems_are_recognised_by_number_and_mount() {
        let check = |number: u32, mount: Option<(&str, &str)>, expected: Option<&str>| {
            let mount = mount.map(|(kind, options)| Mount {
                kind: kind.to_owned(),
                options: options.to_owned(),
            });
            assert_eq!(
                remote(number, mount.as_ref()).as_deref(),
                expected,
                "{number:x} {mount:?}"
            );
        };
        check(0x6969, None, Some("nfs"));
        check(0xff53_4d42, None, Some("cifs"));
        check(0xfe53_4d42, None, Some("smb2"));
        check(0x517b, None, Some("smb"));
        check(0x00c3_6400, None, Some("ceph"));
        check(0x0bd0_0bd0, None, Some("lustre"));
        check(0xef53, None, None); // ext4
        check(0x9123_683e, None, None); // btrfs
        check(0x5846_5342, None, None); // xfs
        check(0x0102_1994, None, None); // tmpfs
        check(0x794c_7630, None, None); // overlay
        check(0x2fc1_2fc1, None, None); // zfs
        check(
            FUSE,
            Some(("fuse.sshfs", "rw,user_id=0")),
            Some("fuse.sshfs"),
        );
        check(FUSE, Some(("fuse.rclone", "rw")), Some("fuse.rclone"));
        check(FUSE, Some(("fuse.gocryptfs", "rw")), None);
        check(FUSE, Some(("fuseblk", "rw")), None);
        check(FUSE, Some(("virtiofs", "rw")), None);
        check(FUSE, None, None);
        check(NINE_P, Some(("9p", "rw,trans=fd,rfdno=4")), None);
        check(NINE_P, Some(("9p", "rw,access=client,trans=virtio")), None);
        check(NINE_P, Some(("9p", "rw,trans=tcp,port=564")), Some("9p"));
        check(
            NINE_P,
            Some(("9p", "rw,aname=drvfs;path=C:\\;uid=0,trans=fd")),
            Some("9p"),
        );
    }

    #[test]
    fn the_deepest_mount_above_a_path_is_found() {
        let mountinfo = "\
22 1 0:20 / / rw,relatime shared:1 - overlay overlay rw,lowerdir=/a
30 22 0:30 / /mnt/my\\040share rw - fuse.sshfs host:/ rw,user_id=1
31 22 0:31 / /mnt rw shared:2 master:1 - tmpfs tmpfs rw
32 22 0:32 / /data rw - ext4 /dev/vda rw
33 22 0:33 / /data rw - 9p share rw,trans=tcp";
        let check = |path: &str, expected: &str| {
            assert_eq!(
                mount_of(mountinfo, Path::new(path)).unwrap().kind,
                expected,
                "{path}"
            );
        };
        check("/home/me", "overlay");
        check("/mnt", "tmpfs");
        check("/mnt/my", "tmpfs");
        check("/mnt/my share/state", "fuse.sshfs");
        check("/data/claudine", "9p");
        check("/database", "overlay");
    }

    /// The test uses a filesystem of the kernel, because home and temporary directories may be on a
    /// network filesystem.
    #[test]
    fn the_kernels_own_filesystems_are_local() {
        refuse_network_filesystem(Path::new("/proc")).unwrap();
    }

    #[test]
    fn a_missing_directory_is_an_error() {
        let answer = refuse_network_filesystem(Path::new("/nonexistent/claudine"));
        assert!(
            matches!(answer, Err(StoreError::Failed { .. })),
            "{answer:?}"
        );
    }
}

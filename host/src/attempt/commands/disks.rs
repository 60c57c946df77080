//! Watches the file systems to which a preparation writes. A repository decides how much git
//! writes: a few hundred kilobytes can describe any number and size of files.
//!
//! A preparation is ended once two looks find less free than the least, and less than before. Space
//! that was used long ago, or that is freed, ends nothing.

use std::{
    collections::BTreeSet,
    fs,
    future::pending,
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use futures_util::stream::{FuturesUnordered, StreamExt as _};

use crate::{aside, clock, layout::Layout, units::bytes_text};

/// The longest and the shortest time between two looks at a file system.
const LOOK: Duration = Duration::from_millis(200);
const SHORTEST_LOOK: Duration = Duration::from_millis(10);

/// If this much more than the least is free, the longest time passes between two looks. Below that,
/// the time shrinks with what is left: several preparations side by side can write a gigabyte, or
/// some ten thousand files, within a second.
const NEAR_BYTES: u64 = 1 << 30;
const NEAR_FILES: u64 = 50_000;

/// The most files that stay free, however many a file system can have.
const MOST_FILES: u64 = 100_000;
/// The fewest files that stay free, unless the file system can have only few.
const FEWEST_FILES: u64 = 10_000;

/// What a command may use of a disk that had less than the least when the command began, but no
/// more than a quarter of what was left: making a branch takes a few kilobytes.
const FEW_BYTES: u64 = 16 << 20;
const FEW_FILES: u64 = 1_000;

/// What a preparation leaves free on each of its file systems.
#[derive(Clone, Debug)]
pub(super) struct Watched {
    places: Vec<Place>,
    /// Half of the reserve, in bytes.
    least_bytes: u64,
}

/// A directory on a file system to which a preparation writes.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Place {
    dir: PathBuf,
    is_of_data: bool,
}

/// What a file system can have, and what is free for an unprivileged process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Room {
    bytes: u64,
    all_bytes: u64,
    /// The number of free inodes, and of all inodes; `None` if the file system has no limit.
    files: Option<(u64, u64)>,
}

/// What stays free on a file system.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Least {
    bytes: u64,
    files: u64,
}

/// The resource that a file system lacks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Lack {
    Bytes { free: u64, least: u64 },
    Files { free: u64, least: u64 },
}

/// Why a preparation was ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Filled {
    place: Place,
    lack: Lack,
}

impl Watched {
    /// The file systems of a preparation: that of the data directory, that of the worktrees, and
    /// those of the repository, whose submodules are fetched into its git directory.
    pub(super) fn of(layout: &Layout, repository: Option<&Path>, reserve_bytes: u64) -> Self {
        let place = |dir: PathBuf| Place {
            dir,
            is_of_data: false,
        };
        let data = Place {
            dir: layout.root().to_owned(),
            is_of_data: true,
        };
        let of_repository = repository.into_iter().flat_map(|repository| {
            let inside = ["objects", "modules", "lfs"].map(|name| repository.join(name));
            [repository.to_owned()].into_iter().chain(inside)
        });
        let others = [layout.worktrees()].into_iter().chain(of_repository);
        Self {
            places: [data].into_iter().chain(others.map(place)).collect(),
            least_bytes: reserve_bytes / 2,
        }
    }

    /// Waits until one of the file systems fills. One that cannot be asked has no limit.
    pub(super) async fn fills(&self) -> Filled {
        let least_bytes = self.least_bytes;
        let places = distinct(self.places.clone()).await;
        let mut watched: FuturesUnordered<_> = places
            .into_iter()
            .map(move |place| async move {
                let least = |room| place.least(room, least_bytes);
                let lack = fills(|| room_on(&place.dir), least).await;
                Filled { place, lack }
            })
            .collect();
        match watched.next().await {
            Some(filled) => filled,
            None => pending().await,
        }
    }
}

impl Place {
    /// A file system without the data directory may be small, and have less than the reserve.
    fn least(&self, room: Room, least_bytes: u64) -> Least {
        let bytes = if self.is_of_data {
            least_bytes
        } else {
            least_bytes.min(room.all_bytes / 10)
        };
        let all = room.files.map_or(0, |(_, all)| all);
        let fewest = FEWEST_FILES.min(all / 5);
        Least {
            bytes,
            files: (all / 20).clamp(fewest, MOST_FILES),
        }
    }
}

impl Least {
    /// The same or, if less was free at the first look, a little less than at that look.
    fn lowered_to(self, first: Room) -> Self {
        let lower = |least: u64, first: u64, few: u64| {
            if first < least {
                first - few.min(first / 4)
            } else {
                least
            }
        };
        let files = first
            .files
            .map_or(self.files, |(free, _)| lower(self.files, free, FEW_FILES));
        Self {
            bytes: lower(self.bytes, first.bytes, FEW_BYTES),
            files,
        }
    }
}

impl Room {
    /// The resource of which less is free than the least, and less than before.
    fn lack(self, before: Self, least: Least) -> Option<Lack> {
        if self.bytes < least.bytes && self.bytes < before.bytes {
            return Some(Lack::Bytes {
                free: self.bytes,
                least: least.bytes,
            });
        }
        let ((free, _), (before, _)) = (self.files?, before.files?);
        (free < least.files && free < before).then_some(Lack::Files {
            free,
            least: least.files,
        })
    }

    /// The time until the next look: shorter if less is left.
    fn pause(self, least: Least) -> Duration {
        let left = |free: u64, least: u64, near: u64| {
            let per_mille = free.saturating_sub(least).min(near) * 1000 / near;
            LOOK * u32::try_from(per_mille).unwrap_or(1000) / 1000
        };
        let bytes = left(self.bytes, least.bytes, NEAR_BYTES);
        let files = self
            .files
            .map(|(free, _)| left(free, least.files, NEAR_FILES));
        bytes.min(files.unwrap_or(LOOK)).max(SHORTEST_LOOK)
    }
}

impl Filled {
    pub(super) fn into_error(self) -> io::Error {
        let Self { place, lack } = self;
        let dir = place.dir.display();
        let message = match lack {
            Lack::Bytes { free, .. } if place.is_of_data => format!(
                "it was ended because only {} are free on the disk of {dir}, less than half of \
                 CLAUDINE_DISK_RESERVE: free some space, or use a base with less in it",
                bytes_text(free)
            ),
            Lack::Bytes { free, least } => format!(
                "it was ended because only {} are free on the disk of {dir}, less than {}: free \
                 some space, or use a base with less in it",
                bytes_text(free),
                bytes_text(least)
            ),
            Lack::Files { free, least } => format!(
                "it was ended because only {free} inodes are free on the disk of {dir}, less than \
                 {least}: remove some files, or use a base with fewer files"
            ),
        };
        io::Error::new(io::ErrorKind::StorageFull, message)
    }
}

/// Looks again and again, until something is lacking. `least` is asked at each look, because some
/// file systems grow.
async fn fills<L: Future<Output = Option<Room>>>(
    mut look: impl FnMut() -> L,
    least: impl Fn(Room) -> Least,
) -> Lack {
    let (mut first, mut before): (Option<Room>, Option<Room>) = (None, None);
    loop {
        let room = look().await;
        first = first.or(room);
        let least = |room| first.map_or(least(room), |first| least(room).lowered_to(first));
        if let (Some(room), Some(before)) = (room, before)
            && let Some(lack) = room.lack(before, least(room))
        {
            return lack;
        }
        clock::sleep(room.map_or(LOOK, |room| room.pause(least(room)))).await;
        before = room;
    }
}

/// The places on different file systems, the first of each, without those that do not exist. If a
/// file system does not answer at once, all places: it must not keep the others from being watched.
async fn distinct(places: Vec<Place>) -> Vec<Place> {
    let asked = places.clone();
    let device = |place: &Place| fs::metadata(&place.dir).ok().map(|found| found.dev());
    let devices = aside::run(move || asked.iter().map(device).collect::<Vec<_>>());
    let Some(Ok(devices)) = clock::within(LOOK, devices).await else {
        return places;
    };
    let mut known = BTreeSet::new();
    let found = places.into_iter().zip(devices);
    let first = found.filter(|(_, device)| device.is_some_and(|device| known.insert(device)));
    first.map(|(place, _)| place).collect()
}

/// The free room on the file system of a directory; `None` if it is unknown.
async fn room_on(dir: &Path) -> Option<Room> {
    let of = dir.to_owned();
    let asked = aside::run(move || room(&of)).await;
    let room = asked.unwrap_or_else(|error| Err(io::Error::other(error)));
    room.inspect_err(
        |error| tracing::debug!(dir = %dir.display(), %error, "the free space is unknown"),
    )
    .ok()
}

fn room(dir: &Path) -> io::Result<Room> {
    let disk = rustix::fs::statvfs(dir)?;
    Ok(Room {
        bytes: disk.f_bavail.saturating_mul(disk.f_frsize),
        all_bytes: disk.f_blocks.saturating_mul(disk.f_frsize),
        files: (disk.f_files > 0).then_some((disk.f_favail, disk.f_files)),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::future::ready;

    use super::*;

    const LEAST: Least = Least {
        bytes: 10,
        files: 100,
    };

    fn free(bytes: u64, files: Option<u64>) -> Room {
        Room {
            bytes,
            all_bytes: 1000,
            files: files.map(|free| (free, 1000)),
        }
    }

    fn place(is_of_data: bool) -> Place {
        Place {
            dir: PathBuf::from("/disk"),
            is_of_data,
        }
    }

    #[test]
    fn a_disk_with_less_free_space_or_inodes_than_wanted_is_noticed_while_more_is_used() {
        let check = |before: Room, now: Room, expected: Option<Lack>| {
            assert_eq!(now.lack(before, LEAST), expected, "{before:?}, {now:?}");
        };
        for files in [None, Some(500)] {
            for before in [9, 11] {
                let lack = Lack::Bytes { free: 8, least: 10 };
                check(free(before, files), free(8, files), Some(lack));
            }
            // Space that was used before, or became free, ends nothing.
            for before in [8, 7] {
                check(free(before, files), free(8, files), None);
            }
            check(free(11, files), free(10, files), None);
        }
        for before in [99, 500] {
            let lack = Lack::Files {
                free: 98,
                least: 100,
            };
            check(free(50, Some(before)), free(50, Some(98)), Some(lack));
        }
        for before in [98, 97] {
            check(free(50, Some(before)), free(50, Some(98)), None);
        }
        check(free(50, Some(500)), free(50, Some(100)), None);
        // Some file systems have no number of inodes.
        check(free(50, None), free(40, None), None);
    }

    #[tokio::test]
    async fn a_disk_that_cannot_be_asked_for_a_moment_is_watched_on() {
        let looks = [Some(11), None, Some(8), None, Some(9), Some(7)];
        let mut looks = looks.into_iter();
        let look = || ready(looks.next().unwrap().map(|bytes| free(bytes, None)));
        let lack = fills(look, |_| LEAST).await;
        assert_eq!(lack, Lack::Bytes { free: 7, least: 10 });
    }

    /// Several preparations side by side could use what is left between two looks.
    #[test]
    fn looks_follow_faster_on_each_other_if_less_is_left() {
        let least = Least {
            bytes: 1 << 29,
            files: 10_000,
        };
        let pause = |over: u64, files: Option<u64>| {
            let room = Room {
                bytes: least.bytes + over,
                ..free(0, files)
            };
            room.pause(least)
        };
        for much in [NEAR_BYTES, 1 << 40] {
            for files in [None, Some(60_000), Some(1 << 30)] {
                assert_eq!(pause(much, files), LOOK);
            }
        }
        assert_eq!(pause(NEAR_BYTES / 2, None), LOOK / 2);
        assert_eq!(pause(NEAR_BYTES, Some(35_000)), LOOK / 2);
        assert_eq!(pause(0, None), SHORTEST_LOOK);
        assert_eq!(pause(NEAR_BYTES, Some(0)), SHORTEST_LOOK);
    }

    /// The person may always have less free than a preparation has to leave.
    #[test]
    fn a_preparation_may_use_a_little_of_a_disk_that_had_less_than_the_least_before() {
        let least = Least {
            bytes: 1 << 29,
            files: 10_000,
        };
        let from = |bytes: u64, files: Option<u64>| {
            let from = least.lowered_to(free(bytes, files));
            (from.bytes, from.files)
        };
        assert_eq!(from(1 << 29, Some(10_000)), (1 << 29, 10_000));
        assert_eq!(from(1 << 28, None), ((1 << 28) - FEW_BYTES, 10_000));
        assert_eq!(from(400, Some(8_000)), (300, 7_000));
        assert_eq!(from(0, Some(400)), (0, 300));
    }

    #[test]
    fn what_stays_free_depends_on_the_size_of_the_disk() {
        let least = |is_of_data: bool, all_bytes: u64, all_files: Option<u64>| {
            let room = Room {
                bytes: 0,
                all_bytes,
                files: all_files.map(|all| (0, all)),
            };
            let least = place(is_of_data).least(room, 1 << 29);
            (least.bytes, least.files)
        };
        // The repository may be on a small disk, on which the reserve was never free.
        assert_eq!(least(true, 300 << 20, None), (1 << 29, 0));
        assert_eq!(least(false, 300 << 20, None), (30 << 20, 0));
        assert_eq!(least(false, 1 << 40, None), (1 << 29, 0));
        for (all, files) in [
            (2_000, 400),
            (60_000, 10_000),
            (196_608, 10_000),
            (1_000_000, 50_000),
            (100_000_000, 100_000),
        ] {
            assert_eq!(least(true, 1 << 40, Some(all)).1, files, "{all}");
        }
    }

    #[tokio::test]
    async fn each_disk_to_which_a_preparation_writes_is_watched_once() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path().join("data"));
        layout.create().unwrap();
        let repository = dir.path().join("repository");
        fs::create_dir_all(repository.join("modules")).unwrap();
        let watched = Watched::of(&layout, Some(&repository), 8);
        assert_eq!(watched.least_bytes, 4);
        let dirs: Vec<_> = watched.places.iter().map(|it| it.dir.clone()).collect();
        for dir in [
            layout.root().to_owned(),
            layout.worktrees(),
            repository.clone(),
            repository.join("modules"),
        ] {
            assert!(dirs.contains(&dir), "{dirs:?}");
        }
        let distinct_places = distinct(watched.places.clone()).await;
        assert_eq!(distinct_places, watched.places[..1].to_vec());
        // Another file system.
        let watched = Watched::of(&layout, Some(Path::new("/proc")), 8);
        let distinct_places = distinct(watched.places).await;
        let of: Vec<_> = distinct_places.iter().map(|it| it.is_of_data).collect();
        assert_eq!(of, [true, false]);
        assert!(room_on(dir.path()).await.is_some());
        assert_eq!(room_on(&dir.path().join("missing")).await, None);
        // Nothing is ever less than no bytes.
        let watched = Watched::of(&layout, None, 0);
        assert_eq!(clock::within(LOOK * 3, watched.fills()).await, None);
    }

    #[test]
    fn the_error_names_the_disk_and_what_is_lacking() {
        let check = |is_of_data: bool, lack: Lack, expected: &str| {
            let place = place(is_of_data);
            let error = Filled { place, lack }.into_error();
            assert_eq!(error.kind(), io::ErrorKind::StorageFull);
            let error = error.to_string();
            assert!(error.contains(expected), "{error}");
        };
        let bytes = Lack::Bytes { free: 5, least: 10 };
        let only = format!("only {} are free on the disk of /disk", bytes_text(5));
        check(
            true,
            bytes,
            &format!("{only}, less than half of CLAUDINE_DISK_RESERVE"),
        );
        check(
            false,
            bytes,
            &format!("{only}, less than {}", bytes_text(10)),
        );
        let files = Lack::Files { free: 5, least: 10 };
        check(
            false,
            files,
            "only 5 inodes are free on the disk of /disk, less than 10",
        );
    }
}

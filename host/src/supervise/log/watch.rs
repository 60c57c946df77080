//! Notification that a log has grown: one inotify instance for all followers in a host (a user has
//! 128 by default).
//!
//! The folder is watched, not the file, because the file and its next segment may not exist yet. If
//! no inotify instance is available, a follower looks at the log ten times a second.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::DirBuilder;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use rustix::fs::inotify;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;

use super::frame::segment_number;
use crate::clock;
use crate::lock::lock;

const FALLBACK_INTERVAL: Duration = Duration::from_millis(100);

/// The watch on all followed logs.
#[derive(Debug, Clone)]
pub(crate) struct LogWatch {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// `None` if the system has no instance left.
    inotify: Option<AsyncFd<OwnedFd>>,
    folders: Mutex<HashMap<i32, Followers>>,
}

/// The followers of one folder's logs, by the log's file name.
type Followers = Vec<(OsString, Arc<Notify>)>;

/// Registers an inotify instance with the runtime.
#[allow(
    unsafe_code,
    reason = "tokio has no safe function for a descriptor of a type that it does not know"
)]
pub(crate) fn register(inotify: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the descriptor is open, and `OwnedFd` returns the same one until it is dropped with
    // the `AsyncFd`.
    unsafe { AsyncFd::register(inotify) }.map_err(io::Error::from)
}

/// The registration of one follower for one log; ends when the `Subscription` is dropped.
#[derive(Debug)]
pub(crate) struct Subscription {
    watch: LogWatch,
    /// `None` if the folder could not be watched.
    folder: Option<i32>,
    grown: Arc<Notify>,
}

impl LogWatch {
    /// To be called within a runtime. Followers are notified only while [`Self::drive`] runs.
    pub(in crate::supervise) fn open() -> Self {
        let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
        let inotify = inotify::init(flags)
            .map_err(io::Error::from)
            .and_then(register);
        if let Err(error) = &inotify {
            tracing::warn!(
                %error,
                "no inotify instance; followers look for output ten times a second"
            );
        }
        Self {
            shared: Arc::new(Shared {
                inotify: inotify.ok(),
                folders: Mutex::default(),
            }),
        }
    }

    /// A watch without inotify that creates no folder: followers look ten times a second.
    pub(crate) fn blind() -> Self {
        Self {
            shared: Arc::new(Shared {
                inotify: None,
                folders: Mutex::default(),
            }),
        }
    }

    /// Passes events to the followers; ends only with an error of the descriptor.
    pub(in crate::supervise) async fn drive(&self) -> io::Result<()> {
        let Some(inotify) = &self.shared.inotify else {
            return std::future::pending().await;
        };
        loop {
            let mut ready = inotify.readable().await?;
            // An error of `try_io` itself means that no events are left.
            if let Ok(read) = ready.try_io(|inotify| self.read_events(inotify.get_ref())) {
                read?;
            }
        }
    }

    /// Reads until no events are left, which is the error `WouldBlock`.
    fn read_events(&self, inotify: &OwnedFd) -> io::Result<()> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(inotify, &mut buffer);
        loop {
            let event = events.next()?;
            let folders = self.folders();
            if event.events().contains(inotify::ReadFlags::QUEUE_OVERFLOW) {
                folders
                    .values()
                    .flatten()
                    .for_each(|(_, grown)| grown.notify_one());
                continue;
            }
            let Some(name) = event.file_name() else {
                continue;
            };
            let name = OsStr::from_bytes(name.to_bytes());
            for (base, grown) in folders.get(&event.wd()).into_iter().flatten() {
                if segment_number(base, name).is_some() {
                    grown.notify_one();
                }
            }
        }
    }

    /// Begins to follow a log. A reader that subscribes first, then reads to the end, and then
    /// waits, misses nothing.
    pub(crate) fn subscribe(&self, log: &Path) -> Subscription {
        let grown = Arc::new(Notify::new());
        let folder = self.watch_folder(log, &grown).unwrap_or_else(|error| {
            tracing::warn!(
                %error, log = %log.display(),
                "cannot watch this output; its followers look ten times a second"
            );
            None
        });
        Subscription {
            watch: self.clone(),
            folder,
            grown,
        }
    }

    fn watch_folder(&self, log: &Path, grown: &Arc<Notify>) -> io::Result<Option<i32>> {
        let (Some(inotify), Some(folder), Some(name)) =
            (&self.shared.inotify, log.parent(), log.file_name())
        else {
            return Ok(None);
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
        let mut folders = self.folders();
        let number = inotify::add_watch(
            inotify,
            folder,
            inotify::WatchFlags::MODIFY | inotify::WatchFlags::CREATE,
        )?;
        folders
            .entry(number)
            .or_default()
            .push((name.to_owned(), Arc::clone(grown)));
        Ok(Some(number))
    }

    fn folders(&self) -> MutexGuard<'_, HashMap<i32, Followers>> {
        lock(&self.shared.folders)
    }
}

impl Subscription {
    /// Waits until the log may have grown since the last call. It may return early.
    pub(crate) async fn grown(&self) {
        if self.folder.is_some() {
            self.grown.notified().await;
        } else {
            clock::sleep(FALLBACK_INTERVAL).await;
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let Some(folder) = self.folder else { return };
        let mut folders = self.watch.folders();
        let Some(followers) = folders.get_mut(&folder) else {
            return;
        };
        followers.retain(|(_, grown)| !Arc::ptr_eq(grown, &self.grown));
        if followers.is_empty() {
            folders.remove(&folder);
            if let Some(inotify) = &self.watch.shared.inotify
                && let Err(error) = inotify::remove_watch(inotify, folder)
            {
                // The folder was removed, and the watch with it.
                tracing::debug!(%error, "a watch was gone before its last follower");
            }
        }
    }
}

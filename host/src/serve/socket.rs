//! Keeps the host's socket available. A host that nobody can reach is useless, and prevents the
//! next host from starting. So the host listens again if its socket is removed (by a cleaner of
//! `/tmp` or a mistaken `rm`), and ends if its data directory or its database is removed.

use std::{
    fs::{self, Permissions},
    future::pending,
    io,
    mem::MaybeUninit,
    os::{
        fd::OwnedFd,
        unix::fs::{MetadataExt, PermissionsExt},
    },
    path::Path,
    sync::Arc,
    time::Duration,
};

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::{io::unix::AsyncFd, net::UnixListener, sync::watch};

use super::{ServeError, claim::Claimed, io_error};
use crate::{clock, layout::Layout, store::sqlite::InPlace, supervise};

/// Time between two checks of the socket if inotify cannot be used.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// Pause between two tries to listen again.
const LISTEN_AGAIN: Duration = Duration::from_secs(1);

/// The current listener. It is replaced if the socket was lost.
pub(super) type Listeners = watch::Receiver<Arc<UnixListener>>;

/// The path of the socket, and the identity of the socket that this host created.
pub(super) struct Socket {
    layout: Layout,
    identity: Identity,
    listeners: watch::Sender<Arc<UnixListener>>,
    changes: Option<AsyncFd<OwnedFd>>,
}

/// Device and inode of a file.
type Identity = (u64, u64);

fn identity_of(path: &Path) -> io::Result<Identity> {
    fs::symlink_metadata(path).map(|found| (found.dev(), found.ino()))
}

/// Begins to listen. A socket that an earlier host left behind is removed, which is safe because
/// this host holds the lock.
pub(super) fn listen(layout: &Layout) -> Result<(Socket, Listeners), ServeError> {
    let (listener, identity) = bind(layout)?;
    let (sender, listeners) = watch::channel(Arc::new(listener));
    let changes = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)
        .map_err(io::Error::from)
        .and_then(supervise::log::register);
    if let Err(error) = &changes {
        tracing::warn!(%error, "inotify cannot be used; the socket is checked every few seconds");
    }
    let socket = Socket {
        layout: layout.clone(),
        identity,
        listeners: sender,
        changes: changes.ok(),
    };
    Ok((socket, listeners))
}

fn bind(layout: &Layout) -> Result<(UnixListener, Identity), ServeError> {
    let path = layout.socket();
    layout
        .create_socket_dir()
        .map_err(io_error("cannot use the directory of", &path))?;
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(io_error("cannot replace", &path)(error));
        }
        _ => {}
    }
    let listener = UnixListener::bind(&path).map_err(io_error("cannot listen on", &path))?;
    fs::set_permissions(&path, Permissions::from_mode(0o600))
        .map_err(io_error("cannot protect", &path))?;
    let identity = identity_of(&path).map_err(io_error("cannot read the metadata of", &path))?;
    Ok((listener, identity))
}

impl Socket {
    /// Keeps the socket in place. Returns the reason if this is no longer possible, or if the
    /// database is no longer in place.
    pub(super) async fn keep(mut self, claimed: Arc<Claimed>, database: Option<InPlace>) -> String {
        loop {
            // The directories are watched before the check, so that no change in between is missed.
            self.watch();
            if !claimed.holds() {
                return format!(
                    "the data directory {} or its lock was removed, moved or replaced",
                    self.layout.root().display()
                );
            }
            if let Some(Err(gone)) = database.as_ref().map(InPlace::check) {
                return gone.to_string();
            }
            if identity_of(&self.layout.socket()).ok() == Some(self.identity) {
                let spoilt = tokio::select! {
                    () = self.changed() => None,
                    spoilt = overwritten(database.as_ref()) => Some(spoilt),
                };
                match spoilt {
                    Some(spoilt) => return spoilt,
                    None => continue,
                }
            }
            match bind(&self.layout) {
                Ok((listener, identity)) => {
                    tracing::warn!("the host's socket was removed; listening again");
                    self.identity = identity;
                    self.listeners.send_replace(Arc::new(listener));
                }
                Err(error) => {
                    tracing::error!(%error, "the host's socket was removed, and no new one can be opened");
                    clock::sleep(LISTEN_AGAIN).await;
                }
            }
        }
    }

    /// Watches the directories of the socket and of the lock. A directory that is already watched
    /// is not affected.
    fn watch(&self) {
        let Some(changes) = &self.changes else { return };
        let socket = self.layout.socket();
        for dir in [Some(self.layout.root()), socket.parent()]
            .into_iter()
            .flatten()
        {
            let events = WatchFlags::DELETE
                | WatchFlags::MOVE
                | WatchFlags::DELETE_SELF
                | WatchFlags::MOVE_SELF
                | WatchFlags::ONLYDIR;
            if let Err(error) = inotify::add_watch(changes.get_ref(), dir, events) {
                tracing::debug!(%error, dir = %dir.display(), "a directory of the socket or of the lock cannot be watched");
            }
        }
    }

    async fn changed(&self) {
        let Some(changes) = &self.changes else {
            return clock::sleep(LOOK_AGAIN).await;
        };
        loop {
            match changes.readable().await {
                Ok(mut ready) => match ready.try_io(|changes| drain(changes.get_ref())) {
                    Ok(Ok(())) => return,
                    // The inotify instance cannot be read.
                    Ok(Err(_)) => return clock::sleep(LOOK_AGAIN).await,
                    // The wake-up was spurious.
                    Err(_) => {}
                },
                Err(_) => return clock::sleep(LOOK_AGAIN).await,
            }
        }
    }
}

/// Resolves once the log of the database was overwritten, with the reason.
async fn overwritten(database: Option<&InPlace>) -> String {
    match database {
        Some(database) => database.overwritten().await.to_string(),
        None => pending().await,
    }
}

/// Discards the reported changes. The caller checks the socket itself.
fn drain(changes: &OwnedFd) -> io::Result<()> {
    let mut buffer = [MaybeUninit::uninit(); 4096];
    inotify::Reader::new(changes, &mut buffer).next()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::{identity::Purpose, store::sqlite::SqliteStore};

    fn begin(root: &Path) -> (Layout, Listeners, tokio::task::JoinHandle<String>) {
        let claimed = super::super::claim(root, Purpose::Host).unwrap();
        let layout = Layout::new(root);
        let (socket, listeners) = listen(&layout).unwrap();
        (layout, listeners, tokio::spawn(socket.keep(claimed, None)))
    }

    #[tokio::test]
    async fn a_removed_socket_is_created_again() {
        let dir = tempfile::tempdir().unwrap();
        let (layout, mut listeners, _keeping) = begin(&dir.path().join("data"));
        listeners.borrow_and_update();
        let taken = |socket: &Path| fs::remove_file(socket).unwrap();
        let replaced = |socket: &Path| {
            fs::write(socket.with_extension("other"), "").unwrap();
            fs::rename(socket.with_extension("other"), socket).unwrap();
        };
        for take in [&taken as &dyn Fn(&Path), &replaced] {
            // Once the socket accepts connections, the keeper must be watching it.
            while UnixStream::connect(layout.socket()).is_err() {
                tokio::task::yield_now().await;
            }
            take(&layout.socket());
            listeners.changed().await.unwrap();
            UnixStream::connect(layout.socket()).unwrap();
        }
    }

    #[tokio::test]
    async fn a_host_ends_when_its_database_is_removed_or_replaced() {
        let removed = |path: &Path| fs::remove_file(path).unwrap();
        let replaced = |path: &Path| {
            fs::write(path.with_extension("other"), "").unwrap();
            fs::rename(path.with_extension("other"), path).unwrap();
        };
        for take in [&removed as &dyn Fn(&Path), &replaced] {
            let dir = tempfile::tempdir().unwrap();
            let claimed = super::super::claim(dir.path(), Purpose::Host).unwrap();
            let layout = Layout::new(dir.path());
            let store = SqliteStore::open(&layout.database()).unwrap();
            let (socket, _listeners) = listen(&layout).unwrap();
            let database = store.in_place().unwrap();
            database.check().unwrap();
            let keeping = tokio::spawn(socket.keep(claimed, Some(database)));
            take(&layout.database());
            let why = keeping.await.unwrap();
            assert!(why.contains("claudine.db was removed or replaced"), "{why}");
        }
    }

    #[tokio::test]
    async fn a_host_ends_when_its_data_directory_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let (layout, _listeners, keeping) = begin(&dir.path().join("data"));
        fs::rename(layout.root(), dir.path().join("elsewhere")).unwrap();
        // Another host may already use the directory.
        let other = super::super::claim(layout.root(), Purpose::Host).unwrap();
        let why = keeping.await.unwrap();
        assert!(why.contains("was removed, moved or replaced"), "{why}");
        drop(other);
    }
}

//! Commands that hosts run themselves (probes of executors, the compiler of components), and the
//! processes that these commands leave behind.
//!
//! Such a command is a child of the host. It outlives a host that is killed, and a process that it
//! has detached outlives the command. All these processes carry the tag of the data directory's
//! hosts. So this host finds the remaining processes at its end, and the next host finds them at
//! its start. These processes change nothing, so they may be ended at any moment.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use super::sys::procfs::{self, Stat};
use super::sys::signals;
use super::sys::tag::Tag;
use crate::clock;

/// The maximum number of looks for processes. More than one look is needed, because a look may miss
/// a process that is forked during it.
const LOOKS: u32 = 5;
/// How long to wait after a kill before the next look.
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);

/// The commands that the host runs itself.
#[derive(Debug)]
pub(crate) struct Own {
    tag: Tag,
    /// The time at which this host began, in clock ticks since boot.
    since: u64,
}

impl Own {
    /// Tags everything that this process starts from now on. `lock` is the file that each host of
    /// the data directory holds while it lives. The tag contains the inode number of `lock`. While
    /// `lock` is held, no other file has this number, not even the lock file of a new data
    /// directory at the place of a removed one.
    pub(crate) fn begin(lock: &Path) -> io::Result<Self> {
        let lock = fs::metadata(lock)?;
        let tag = Tag::of_host(lock.dev(), lock.ino());
        tag.hand_on()?;
        let own = procfs::try_stat(std::process::id())?;
        let own = own.ok_or_else(|| io::Error::other("/proc is not mounted"))?;
        Ok(Self {
            tag,
            since: own.start_time,
        })
    }

    /// Ends the processes that earlier hosts left.
    pub(crate) async fn end_earlier(&self) {
        self.end(Some(self.since)).await;
    }

    /// Ends the processes that this host and earlier hosts left.
    pub(crate) async fn end_all(&self) {
        self.end(None).await;
    }

    async fn end(&self, began_before: Option<u64>) {
        for _ in 0..LOOKS {
            let tag = self.tag;
            // Runs on a thread that may block, because it looks at every process of the machine.
            let look = crate::aside::run(move || left(tag, began_before));
            let left = match look
                .await
                .unwrap_or_else(|panic| Err(io::Error::other(panic)))
            {
                Ok(left) => left,
                Err(error) => {
                    tracing::warn!(%error, "cannot look for processes that hosts left behind");
                    clock::sleep(BETWEEN_LOOKS).await;
                    continue;
                }
            };
            if left.is_empty() {
                return;
            }
            let pids: Vec<u32> = left.iter().map(|stat| stat.pid).collect();
            tracing::info!(?pids, "ending processes that a host left behind");
            for stat in left {
                if let Err(error) = signals::kill_pinned(stat.pid, stat.start_time) {
                    tracing::warn!(
                        %error, pid = stat.pid,
                        "cannot end a process that a host left behind"
                    );
                }
            }
            clock::sleep(BETWEEN_LOOKS).await;
        }
    }
}

/// The processes with this tag, only those that began before this time (in clock ticks since boot).
fn left(tag: Tag, began_before: Option<u64>) -> io::Result<Vec<Stat>> {
    let mut left = Vec::new();
    for stat in procfs::all()? {
        let is_other = stat.pid != std::process::id() && !stat.is_zombie();
        let is_meant = began_before.is_none_or(|limit| stat.start_time < limit);
        if is_other && is_meant && Tag::of(stat.pid)? == Some(tag) {
            left.push(stat);
        }
    }
    Ok(left)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::io::Read;

    use super::*;
    use crate::supervise::sys::tag::tagged;

    #[tokio::test]
    async fn commands_of_a_host_are_ended_with_their_detached_processes() {
        let since = procfs::stat(std::process::id()).unwrap().start_time;
        let of = |inode| Own {
            tag: Tag::of_host(u64::from(std::process::id()), inode),
            since,
        };
        let (own, another) = (of(1), of(2));
        let script = "read go; setsid setsid env -i sleep 1000 & sleep 1000";
        let mut child = tagged(own.tag, script);
        let count = || left(own.tag, None).unwrap().len();
        while count() < 3 {
            tokio::task::yield_now().await;
        }
        assert!(left(own.tag, Some(since)).unwrap().is_empty());
        another.end_all().await;
        assert!(count() >= 3);
        own.end_all().await;
        child.wait().unwrap();
        // The end of the output shows that no process holds the pipe open any more.
        let mut output = child.stdout.take().unwrap();
        assert_eq!(output.read(&mut [0; 1]).unwrap(), 0);
    }
}

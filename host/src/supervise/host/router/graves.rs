//! Work after the death of a supervisor: ending the processes that it left, reporting the outcomes
//! of its attempts, and keeping its directory until these outcomes are stored.

use std::collections::HashSet;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::{Done, Router};
use crate::clock;
use crate::supervise::SuperviseError;
use crate::supervise::host::recover::{self, Recovered};
use crate::supervise::host::silent::Silence;
use crate::supervise::protocol::Message;
use crate::supervise::report::{FoundState, Report};
use crate::supervise::words::{AttemptKey, ChildId, NotStartedClass};
use crate::text::chain;

/// The pause before cleaning up again after a dead supervisor.
const CLEAN_UP_AGAIN: Duration = Duration::from_secs(1);

/// The directory of a dead supervisor.
pub(super) struct Grave {
    dir: PathBuf,
    /// The attempts that are not acknowledged yet.
    pub(super) attempts: HashSet<AttemptKey>,
}

/// Whether the directory of a supervisor that could not be started belongs to a newer host: the
/// supervisor obeys that host, or that host had made the directory before this host tried to.
fn is_of_another_host(error: &SuperviseError) -> bool {
    match error {
        SuperviseError::Fenced { .. } => true,
        SuperviseError::Directory { source, .. } => source.kind() == io::ErrorKind::AlreadyExists,
        _ => false,
    }
}

impl Router {
    pub(super) fn died(&mut self, number: u32) {
        let Some(link) = self.links.iter().find(|link| link.number == number) else {
            return;
        };
        // New attempts do not wait until everything that the supervisor left is ended.
        if self.current == Some(number) {
            self.current = None;
        }
        if link.was_joined {
            self.clean_up(number, Duration::ZERO);
        } else {
            let dir = link.dir.clone();
            let message = "it died before the host could connect to it".to_owned();
            self.not_launched(number, &SuperviseError::NotReady { dir, message });
        }
    }

    /// Drops a supervisor that could not be started, with its directory if this host has made it;
    /// reports its queued children as not started.
    pub(super) fn not_launched(&mut self, number: u32, error: &SuperviseError) {
        let Some(index) = self.links.iter().position(|link| link.number == number) else {
            return;
        };
        let link = self.links.swap_remove(index);
        if self.current == Some(number) {
            self.current = None;
        }
        let (attempts, children) = link.told.unfinished();
        let not_started = children.into_iter().map(|child| Report::NotStarted {
            child,
            class: NotStartedClass::Supervisor,
            message: chain(error),
        });
        self.news.extend(not_started);
        let over = attempts.into_iter();
        self.news.extend(over.map(|attempt| Report::Ended {
            attempt,
            swept: 0,
            alive: 0,
        }));
        if !is_of_another_host(error) {
            self.bury(number, link.dir, HashSet::new());
        }
    }

    /// Ends everything that a dead supervisor left, after a pause.
    fn clean_up(&mut self, number: u32, pause: Duration) {
        let Some(link) = self.links.iter().find(|link| link.number == number) else {
            return;
        };
        let dir = link.dir.clone();
        self.jobs.spawn(async move {
            clock::sleep(pause).await;
            let of = dir.clone();
            let recovering = crate::aside::run(move || recover::recover(&of));
            let recovered = recovering.await.unwrap_or_else(|panic| {
                Err(SuperviseError::Directory {
                    path: dir,
                    source: io::Error::other(panic),
                })
            });
            Done::Recovered(number, recovered)
        });
    }

    /// Cleans up again later. An error proves nothing: processes of the dead supervisor may live,
    /// and ends in its notes may be unread.
    pub(super) fn not_recovered(&mut self, number: u32, error: &SuperviseError) {
        let why = Silence::not_ended(error);
        if self.hold_back(number, &why) {
            tracing::error!("{}", why.said);
        }
        self.clean_up(number, CLEAN_UP_AGAIN);
    }

    pub(super) fn recovered(&mut self, number: u32, mut recovered: Recovered) {
        let Some(index) = self.links.iter().position(|link| link.number == number) else {
            return;
        };
        let mut link = self.links.swap_remove(index);
        let children = recovered.found.iter().flat_map(|found| &found.children);
        let noted: HashSet<ChildId> = children.map(|child| child.child.clone()).collect();
        let never_started = link.never_started(&noted, recovered.has_notes);
        let mut kept = HashSet::new();
        let mut unknown = Vec::new();
        if link.is_silent {
            (recovered.found, unknown) = recovered
                .found
                .into_iter()
                .partition(|found| link.told.knows(&found.attempt));
            kept.extend(unknown.iter().map(|found| found.attempt.clone()));
        }
        if let Some(why) = self.silent.why(number) {
            self.news.extend(link.told.let_go_on(&why));
            self.heard_of(number, unknown);
        }
        for child in recovered.found.into_iter().flat_map(|found| found.children) {
            let child_id = child.child;
            // The engine needs no report of an attempt that is already acknowledged.
            if !link.told.knows(child_id.attempt()) {
                continue;
            }
            let message = match child.state {
                FoundState::Exited(exit) => Message::Exited {
                    child: child_id,
                    exit,
                    ended: false,
                },
                FoundState::NotStarted { class, message } => Message::NotStarted {
                    child: child_id,
                    class,
                    message,
                },
                FoundState::Running { .. } | FoundState::Lost => continue,
            };
            self.news.extend(link.told.news(message));
        }
        for child in never_started {
            let message = "the supervisor ended before it had received the start".to_owned();
            self.news.extend(link.told.news(Message::NotStarted {
                child,
                class: NotStartedClass::Supervisor,
                message,
            }));
        }
        let (attempts, children) = link.told.unfinished();
        kept.extend(link.told.attempts().cloned());
        if !attempts.is_empty() {
            tracing::warn!(
                lost = children.len(),
                ended = recovered.swept,
                "a supervisor died"
            );
            self.news
                .push_back(Report::SupervisorLost { attempts, children });
        }
        self.bury(number, link.dir, kept);
    }

    /// Keeps a dead supervisor's directory until all its attempts are acknowledged: this host may
    /// die before it has stored their results.
    pub(super) fn bury(&mut self, number: u32, dir: PathBuf, attempts: HashSet<AttemptKey>) {
        self.graves.insert(number, Grave { dir, attempts });
        self.remove_empty_graves();
    }

    pub(super) fn remove_empty_graves(&mut self) {
        self.graves.retain(|_, grave| {
            if !grave.attempts.is_empty() {
                return true;
            }
            if let Err(error) = std::fs::remove_dir_all(&grave.dir) {
                // The next host finds the directory again, but all attempts in it are acknowledged.
                tracing::warn!(%error, dir = %grave.dir.display(), "cannot remove a dead supervisor's directory");
            }
            false
        });
    }
}

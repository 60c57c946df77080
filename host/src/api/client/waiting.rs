//! Waits for the end of a task across restarts of the host.
//!
//! A host that crashed is started again, as by any command. A host that was shut down is not
//! started again, because a wait must not undo a user's decision. The wait then continues with the
//! next host.

use std::time::Duration;

use super::{Client, ClientError, Policy};
use crate::{
    app::{ErrorKind, TaskView},
    clock,
};

/// Time between two checks for a host while waiting.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// Time limit for the end of a host that is shutting down.
const GOES: Duration = Duration::from_secs(2);

/// Progress reported during a wait.
pub(in crate::api) enum Seen<'a> {
    Task(&'a TaskView),
    /// The host shut down; the wait continues with the next one.
    HostLeft,
}

impl Client {
    /// Waits without a time limit until the task has ended. The first request starts a host if none
    /// runs. `each` is called with the task's state every `interval` and at the end.
    pub(in crate::api) async fn wait_done(
        &self,
        task: &str,
        waiter: Option<&str>,
        interval: Duration,
        mut each: impl FnMut(Seen<'_>),
    ) -> Result<TaskView, ClientError> {
        let patient = self.that_starts_none();
        let mut asked = self;
        let mut left = false;
        loop {
            match asked.wait(task, interval, waiter).await {
                Ok(view) => {
                    (asked, left) = (&patient, false);
                    each(Seen::Task(&view));
                    if view.outcome.is_some() {
                        return Ok(view);
                    }
                }
                Err(error) if is_of_its_end(&error) => {
                    asked = if self.start.is_lost() { self } else { &patient };
                    if !left {
                        left = true;
                        each(Seen::HostLeft);
                    }
                    clock::sleep(LOOK_AGAIN).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// A client like this one that starts no host.
    pub(in crate::api) fn that_starts_none(&self) -> Self {
        let mut start = self.start.clone();
        start.policy = Policy::Never;
        Self::new(start)
    }

    /// Whether no host runs, after a host that is shutting down was given a moment to end.
    pub(in crate::api) async fn is_alone(&self) -> bool {
        let give_up = clock::monotonic() + GOES;
        loop {
            if matches!(self.start.reach().await, Ok(None)) {
                return true;
            }
            if clock::monotonic() >= give_up {
                return false;
            }
            clock::sleep(LOOK_AGAIN).await;
        }
    }

    /// Starts a host if the last one crashed. An error is ignored, because the next request reports
    /// it.
    pub(super) async fn revive(&self) {
        if self.has_lost_its_host() {
            drop(self.start.connect().await);
        }
    }

    /// Whether the last host crashed and this client may start a new one.
    pub(super) fn has_lost_its_host(&self) -> bool {
        self.start.policy != Policy::Never && self.start.is_lost()
    }
}

/// Whether an error means that the host has ended or is shutting down.
pub(in crate::api) fn is_of_its_end(error: &ClientError) -> bool {
    match error {
        ClientError::Refused(error) => error.kind == ErrorKind::Unavailable,
        ClientError::NotRunning { .. } | ClientError::Cut(_) => true,
        _ => false,
    }
}

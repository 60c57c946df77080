//! Waiting for a task's end over restarts of the host.
//!
//! A host that was lost is started again, as by any command. One that was told to go down is not:
//! whoever only waits does not undo what somebody else wanted, and waits for the next one.

use std::time::Duration;

use super::{Client, ClientError, Policy};
use crate::{
    app::{ErrorKind, TaskView},
    clock,
};

/// How often somebody who waits looks whether there is a host again.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// What somebody who waits is shown meanwhile.
pub(in crate::api) enum Seen<'a> {
    Task(&'a TaskView),
    /// The host went down, and the next one is waited for.
    HostLeft,
}

impl Client {
    /// Waits until the task has ended, however long that takes. The first question starts a host if
    /// there is none. `each` sees the task as it is every `interval`.
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

    /// The same, but it starts no host.
    pub(super) fn that_starts_none(&self) -> Self {
        let mut start = self.start.clone();
        start.policy = Policy::Never;
        Self::new(start)
    }

    /// Starts a host again if the last one was lost. If that does not succeed, the next question
    /// says why.
    pub(super) async fn revive(&self) {
        if self.has_lost_its_host() {
            drop(self.start.connect().await);
        }
    }

    /// Whether the last host was lost, and this client may start the next one.
    pub(super) fn has_lost_its_host(&self) -> bool {
        self.start.policy == Policy::IfNeeded && self.start.is_lost()
    }
}

/// Whether the host was about to end, or has ended.
pub(super) fn is_of_its_end(error: &ClientError) -> bool {
    match error {
        ClientError::Refused(error) => error.kind == ErrorKind::Unavailable,
        ClientError::NotRunning { .. } | ClientError::Cut(_) => true,
        _ => false,
    }
}

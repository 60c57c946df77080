//! Waits for the end of a task across restarts of the host.
//!
//! A host that crashed is started again, as by any command. A host that was shut down, or that a
//! user has ended after its crash, is not started again, because a wait must not undo a user's
//! decision. The wait then continues with the next host; a wait with a time limit does so only if
//! the next host comes soon. Because the next host may come and go unseen, and because the last
//! host may have recorded the end of the task without telling this client, the database is read
//! meanwhile. A wait also goes on after its host was stopped by a signal, once that host is
//! continued or has ended.

use std::time::Duration;

use super::{Ask, Client, ClientError, Policy, address, is_refusal};
use crate::{
    app::{ErrorKind, TaskView},
    clock,
    identity::HostProcess,
};

/// Time between two checks for a host while waiting.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// Time for which a limited wait waits for the next host. A restart takes less, and after a `down`
/// the caller must learn soon that no host runs.
const NEXT_HOST: Duration = Duration::from_secs(5);

/// Time by which the answer to a limited wait may be late.
const LATE: Duration = Duration::from_secs(2);

/// Time limit for the end of a host that is shutting down.
const GOES: Duration = Duration::from_secs(2);

/// Progress reported during a wait.
pub(in crate::api) enum Seen<'a> {
    Task(&'a TaskView),
    /// The host shut down; the wait continues with the next one.
    HostLeft,
    /// The host with this pid is stopped by a signal; the wait continues once the host does.
    HostStopped(u32),
}

/// Result of a look for a task that is waited for.
enum Found {
    /// The task, which has ended.
    Ended(Box<TaskView>),
    /// A host, which can be asked to wait.
    Host,
    Nothing,
}

impl Client {
    /// Waits without a time limit until the task has ended. Starts a host if none runs and the task
    /// has not ended. `each` is called with the task's state every `interval` and at the end.
    pub(in crate::api) async fn wait_done(
        &self,
        task: &str,
        waiter: Option<&str>,
        interval: Duration,
        mut each: impl FnMut(Seen<'_>),
    ) -> Result<TaskView, ClientError> {
        // Only this client starts hosts. A request that is sent again after the end of a host must
        // start none.
        let patient = self.that_starts_none();
        let mut left = false;
        let mut found = self.begin_to_wait(&patient, task).await?;
        loop {
            let seen = match found {
                Found::Ended(view) => Ok(*view),
                Found::Host | Found::Nothing => patient.wait(task, interval, waiter).await,
            };
            found = Found::Host;
            match seen {
                Ok(view) => {
                    left = false;
                    each(Seen::Task(&view));
                    if view.outcome.is_some() {
                        return Ok(view);
                    }
                }
                Err(error) if is_of_its_end(&error) => {
                    found = self.look_again(&patient, task).await?;
                    if matches!(found, Found::Nothing) {
                        if !left {
                            left = true;
                            each(Seen::HostLeft);
                        }
                        clock::sleep(LOOK_AGAIN).await;
                    }
                }
                Err(ClientError::Stopped(pid)) => {
                    each(Seen::HostStopped(pid));
                    self.continued().await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits for the end of a task, up to the limit. If no host runs, sleeps for the whole limit.
    pub(in crate::api) async fn wait_a_while(
        &self,
        task: &str,
        limit: Duration,
    ) -> Result<(), ClientError> {
        match self.that_starts_none().wait(task, limit, None).await {
            Err(error) if is_of_its_end(&error) => {
                self.revive().await;
                clock::sleep(limit).await;
                Ok(())
            }
            waited => waited.map(drop),
        }
    }

    /// Waits until the task has ended, up to the limit, and returns the task as it is then. If the
    /// host ends meanwhile, the wait continues with the next one, if it comes within [`NEXT_HOST`].
    /// A host that is stopped by a signal has the same time to continue. If no host runs at the
    /// beginning, the error says so at once.
    pub(in crate::api) async fn wait_across_hosts(
        &self,
        task: &str,
        limit: Duration,
        waiter: Option<&str>,
    ) -> Result<TaskView, ClientError> {
        let ends_at = clock::monotonic() + limit;
        let mut give_up = clock::monotonic();
        loop {
            let had_host = self.has_host();
            let left = ends_at.saturating_sub(clock::monotonic());
            // A request that is sent again after a crash would last for the whole limit once more.
            let waited = clock::within(left + LATE, self.wait(task, left, waiter)).await;
            let error = match waited {
                Some(Err(error)) if is_of_its_end(&error) => error,
                Some(Err(ClientError::Stopped(pid))) => {
                    let left = ends_at.saturating_sub(clock::monotonic());
                    let continued = clock::within(left.min(NEXT_HOST), self.continued()).await;
                    if continued.is_none() {
                        return Err(ClientError::Stopped(pid));
                    }
                    continue;
                }
                Some(waited) => return waited,
                None => return self.status(task).await,
            };
            let now = clock::monotonic();
            if had_host || !matches!(error, ClientError::NotRunning { .. }) {
                give_up = now + NEXT_HOST;
            }
            let is_over = now >= ends_at;
            match self.status(task).await {
                // The last host may have recorded the end without telling this client.
                Ok(view) if view.outcome.is_some() || (is_over && self.has_host()) => {
                    return Ok(view);
                }
                Err(error) if !may_pass(&error) => return Err(error),
                Ok(_) | Err(_) => {}
            }
            if is_over || now >= give_up {
                return Err(error);
            }
            clock::sleep(LOOK_AGAIN).await;
        }
    }

    /// Connects `patient` to a host. If no host runs, reads the task, and starts a host unless the
    /// task has ended.
    async fn begin_to_wait(&self, patient: &Self, task: &str) -> Result<Found, ClientError> {
        let look = Ask::get(address::task(task, "/wait")?);
        match self.connection(&look).await {
            Ok(reached) if !reached.is_here => {
                patient.keep(reached);
                return Ok(Found::Host);
            }
            Ok(_) => {}
            // The host has just ended.
            Err(ClientError::Cut { .. }) => return Ok(Found::Nothing),
            Err(error) => return Err(error),
        }
        match self.status(task).await {
            Ok(view) if view.outcome.is_some() => return Ok(Found::Ended(Box::new(view))),
            Ok(_) => {}
            // Another host has started and is already shutting down.
            Err(error) if is_of_its_end(&error) => return Ok(Found::Nothing),
            Err(error) => return Err(error),
        }
        patient.keep(self.connection(&look.of_host()).await?);
        Ok(Found::Host)
    }

    /// Looks for the task after its host has gone: reads it from the database, and starts a host if
    /// the last one crashed.
    async fn look_again(&self, patient: &Self, task: &str) -> Result<Found, ClientError> {
        if let Some(removed) = self.start.removed() {
            return Err(removed);
        }
        if !self.has_lost_its_host() {
            match self.status(task).await {
                Ok(view) if view.outcome.is_some() => return Ok(Found::Ended(Box::new(view))),
                // The next host is stopped by a signal, which the next question reports.
                Err(ClientError::Stopped(_)) => return Ok(Found::Host),
                // A database that was removed has no tasks either.
                Err(error) if !may_pass(&error) => {
                    return Err(self.start.removed().unwrap_or(error));
                }
                // The task has not ended, or another host has started and is already shutting down.
                Ok(_) | Err(_) => {}
            }
        }
        // A killed host may have seemed to run for a moment.
        if !self.has_lost_its_host() {
            return Ok(Found::Nothing);
        }
        let look = Ask::get(address::task(task, "/wait")?).of_host();
        match self.connection(&look).await {
            Ok(connection) => {
                patient.keep(connection);
                Ok(Found::Host)
            }
            Err(error) if is_of_its_end(&error) => Ok(Found::Nothing),
            Err(error) => Err(error),
        }
    }

    /// Returns once no host is stopped by a signal: the host was continued, or it has ended.
    pub(in crate::api) async fn continued(&self) {
        while self.stopped_host().is_some() {
            clock::sleep(LOOK_AGAIN).await;
        }
    }

    /// A client like this one that starts no host.
    pub(in crate::api) fn that_starts_none(&self) -> Self {
        let mut start = self.start.clone();
        start.policy = Policy::Never;
        Self::new(start)
    }

    /// Whether the process of a host is alive, which may be starting or shutting down.
    pub(in crate::api) fn has_host(&self) -> bool {
        HostProcess::of(&self.start.layout).is_some()
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
            drop(self.start.connect_if_lost().await);
        }
    }

    /// Whether the last host crashed, nobody has ended it since, and this client may start a new
    /// one.
    pub(super) fn has_lost_its_host(&self) -> bool {
        self.start.policy != Policy::Never && self.start.is_lost()
    }
}

/// Whether the next host may give another answer. If the program was replaced meanwhile, only a
/// host can read the database, because it first changes the schema.
fn may_pass(error: &ClientError) -> bool {
    match error {
        ClientError::Refused(error) => !is_refusal(error.kind),
        error => is_of_its_end(error),
    }
}

/// Whether an error means that the host has ended or is shutting down.
pub(in crate::api) fn is_of_its_end(error: &ClientError) -> bool {
    match error {
        ClientError::Refused(error) => error.kind == ErrorKind::Unavailable,
        ClientError::NotRunning { .. } | ClientError::Cut { .. } => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::AppError;

    #[test]
    fn a_wait_goes_on_until_the_next_host_unless_the_request_is_refused() {
        let check = |kind: ErrorKind, expected: bool| {
            let error = ClientError::Refused(AppError::new(kind, ""));
            assert_eq!(may_pass(&error), expected, "{kind:?}");
        };
        check(ErrorKind::Unavailable, true);
        // The database has the schema of another version.
        check(ErrorKind::Internal, true);
        check(ErrorKind::NotFound, false);
        check(ErrorKind::Forbidden, false);
        assert!(may_pass(&ClientError::cut(None)));
    }
}

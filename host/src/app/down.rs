//! Shuts a host down. The host completes a requested shutdown by itself. The caller only watches,
//! and may disconnect and ask again.

use std::{
    collections::BTreeSet,
    fs::{File, TryLockError},
    future::pending,
    io,
    sync::Arc,
    time::Duration,
};

use claudine_domain::{
    attempt::Phase,
    id::{AttemptId, TaskId},
    principal::Principal,
    step::{Input, Refused},
    task::{Class, Task},
};
use futures_util::{
    future::join,
    stream::{self, StreamExt as _},
};

use super::{
    error::{AppError, ErrorKind},
    host::Host,
    leaving::{Leaving, Wanted, joined},
    may::{Verb, may},
    request::DownMode,
};
use crate::{
    clock,
    engine::EngineError,
    fsx,
    layout::Layout,
    store::{Filter, Status},
    supervise::{self, AttemptKey, SuperviseError},
    text::chain,
};

/// Pause after a failed step of the shutdown.
const AGAIN: Duration = Duration::from_secs(1);
/// Time limit for lifting a drain. The engine needs only a moment for it, between two inputs.
const LIFTED: Duration = Duration::from_secs(5);
/// Time limit of a drain for the executors that have still to say how attempts ended, once nothing
/// else runs: their code may be had in a moment. Later, the next host asks them.
const SETTLED_WITHIN: Duration = Duration::from_secs(5);
/// Maximum number of cancellations in progress at once. Cancellations in progress are committed
/// together.
const CANCELS_AT_ONCE: usize = 64;
/// Time limit for putting back the checkouts that an earlier host was updating, once nothing else
/// runs. Files that are not put back by then are put back by the next host.
const PUT_BACK_WITHIN: Duration = Duration::from_secs(5);

/// Pids of existing supervisors, which may run attempts of earlier hosts.
pub(crate) fn supervisors_left(layout: &Layout) -> Result<Vec<u32>, AppError> {
    supervise::pids(&layout.supervisors()).map_err(|error| unexamined(&error))
}

/// The supervisors of [`supervisors_left`] that are stopped by a signal.
pub(super) fn suspended_supervisors(layout: &Layout) -> Result<Vec<u32>, AppError> {
    supervise::suspended(&layout.supervisors()).map_err(|error| unexamined(&error))
}

/// Whether supervisors that have died may have left processes, which the next host ends.
pub(crate) fn processes_left(layout: &Layout) -> Result<bool, AppError> {
    supervise::may_have_left(&layout.supervisors()).map_err(|error| unexamined(&error))
}

/// Pids of processes that supervisors have started, for tasks or for hosts, and that still run.
pub(crate) fn still_running(layout: &Layout) -> Result<Vec<u32>, AppError> {
    supervise::leaders(&layout.supervisors()).map_err(|error| unexamined(&error))
}

/// Ends the tasks and commands that supervisors have started, without a host. Returns the tasks
/// that ran. Fails if a host runs, if this process belongs to a task, if the directory is a copy of
/// another host's, or if something may go on. Blocks.
pub(crate) fn end_without_host(layout: &Layout) -> Result<BTreeSet<TaskId>, AppError> {
    let supervisors = layout.supervisors();
    let path = layout.lock();
    let unlocked = |error: io::Error| {
        let message = format!("cannot lock {}: {error}", path.display());
        AppError::new(ErrorKind::Unavailable, message)
    };
    // Held to the end, so that no host starts meanwhile. The file still names the last host.
    let lock = match fsx::open_lock(&path) {
        Ok(lock) => Some(lock),
        // No host can start as long as something else is in the place of the file, and a host that
        // still runs ends because of it.
        Err(error) if fsx::is_no_file(&error) => None,
        Err(error) => return Err(unlocked(error)),
    };
    match lock.as_ref().map(File::try_lock) {
        None | Some(Ok(())) => {}
        Some(Err(TryLockError::WouldBlock)) => {
            let taken = "another process uses the data directory";
            return Err(AppError::new(ErrorKind::Conflict, taken));
        }
        Some(Err(TryLockError::Error(error))) => return Err(unlocked(error)),
    }
    // A task may not end the host that runs it, nor what it runs.
    let is_in_task = supervise::peer::is_in_task(&supervisors).map_err(|error| {
        let message = format!("cannot find out whether this process belongs to a task: {error}");
        AppError::new(ErrorKind::Unavailable, message)
    })?;
    if is_in_task {
        let refused = "a task may not end the tasks of its host";
        return Err(AppError::new(ErrorKind::Forbidden, refused));
    }
    let ended = supervise::end_all(&supervisors).map_err(|error| not_ended(&error, layout))?;
    drop(lock);
    Ok(tasks_of(&ended))
}

/// The error if not everything has ended.
fn not_ended(error: &SuperviseError, layout: &Layout) -> AppError {
    match error {
        SuperviseError::Unwritten { pid, why } => unwritten(*pid, why.as_deref(), layout),
        SuperviseError::Copied { .. } => may_run(ErrorKind::Forbidden, error),
        _ => may_run(ErrorKind::Unavailable, error),
    }
}

fn may_run(kind: ErrorKind, error: &SuperviseError) -> AppError {
    AppError::new(kind, format!("a task may still run: {}", chain(error)))
}

/// The error if all processes of tasks have ended, but a supervisor still has output of theirs, or
/// notes of their ends.
fn unwritten(pid: u32, why: Option<&str>, layout: &Layout) -> AppError {
    let dir = layout.root().display();
    let (message, way_out) = match why {
        Some(why) => (
            format!(
                "all processes of tasks have ended, but their output or how they ended cannot be \
                 written: {why}"
            ),
            format!("if the disk of {dir} is full, free space there"),
        ),
        None => (
            format!(
                "all processes of tasks have ended, but the supervisor (pid {pid}) has not; most \
                 likely it cannot write their output or how they ended"
            ),
            format!("let the files below {dir} be written"),
        ),
    };
    AppError::new(ErrorKind::Unavailable, message).hint(format!(
        "{way_out}; then the supervisor (pid {pid}) ends, and the next host records how the tasks \
         have ended"
    ))
}

/// The tasks of these attempts. Commands of a host are no attempts.
fn tasks_of(attempts: &[AttemptKey]) -> BTreeSet<TaskId> {
    let ids = attempts
        .iter()
        .filter_map(|key| key.as_str().parse::<AttemptId>().ok());
    ids.map(|id| id.task).collect()
}

/// The tasks of which supervisors have noted attempts that are not over.
pub(crate) fn tasks_left(layout: &Layout) -> Result<BTreeSet<TaskId>, AppError> {
    let attempts = supervise::open_attempts(&layout.supervisors());
    Ok(tasks_of(&attempts.map_err(|error| unexamined(&error))?))
}

/// Whether processes of tasks may run where this process cannot see them.
pub(crate) fn supervisors_out_of_sight(layout: &Layout) -> Result<bool, AppError> {
    supervise::is_out_of_sight(&layout.supervisors()).map_err(|error| unexamined(&error))
}

pub(super) fn unexamined(error: &SuperviseError) -> AppError {
    let message = format!("the supervisors cannot be examined: {}", chain(error));
    AppError::new(ErrorKind::Unavailable, message)
}

/// Whether nothing of the task's attempt is alive, and its executor has still to say how it ended,
/// and nothing else. The executor of an agent may start another process of the attempt: a fresh
/// session, if there is none to resume.
fn is_to_be_settled(task: &Task) -> bool {
    let is_over = task.last_attempt().is_some_and(|last| last.is_over);
    is_over && task.phase() == Some(&Phase::Finishing) && task.request.class == Class::Command
}

/// The reason why a host cannot end as it was asked to, if nothing can be stored.
fn unstored(why: &str) -> AppError {
    AppError::new(
        ErrorKind::Unavailable,
        format!("nothing can be stored: {why}"),
    )
}

impl Host {
    /// Shuts the host down. Returns when the host begins to end. For `Drain` and `Kill`, this is
    /// after the end of the last attempt. Fails if the host cannot store that attempts end.
    pub(crate) async fn go_down(
        &self,
        by: &Arc<Principal>,
        mode: DownMode,
    ) -> Result<(), AppError> {
        may(by, Verb::GoDown, None, &self.settings.mcp)?;
        let Leaving {
            wanted,
            leaves,
            obstacle,
        } = &self.leaving;
        // Another try may succeed.
        obstacle.send_replace(None);
        wanted.send_modify(|wanted| {
            let mode = joined(wanted.as_ref().map(|wanted| wanted.mode), mode);
            let by = by.clone();
            *wanted = Some(Wanted { mode, by });
        });
        let (mut wanted, mut leaves) = (wanted.subscribe(), leaves.subscribe());
        let mut obstacle = obstacle.subscribe();
        tokio::select! {
            biased;
            Ok(why) = obstacle.wait_for(Option::is_some), if mode != DownMode::Leave => {
                why.clone().map_or(Ok(()), Err)
            }
            _ = leaves.wait_for(Option::is_some) => Ok(()),
            _ = wanted.wait_for(Option::is_none) => Err(AppError::new(
                ErrorKind::Conflict,
                "the drain was lifted (`claudine up`); the host keeps running",
            )),
        }
    }

    /// Lifts a drain or kill in progress, and returns whether there was one to lift. Tasks
    /// cancelled so far stay cancelled.
    pub(crate) async fn stay_up(&self, by: &Arc<Principal>) -> Result<bool, AppError> {
        // Without a shutdown in progress there is nothing to lift.
        if self.leaving.wanted.borrow().is_some() {
            may(by, Verb::LiftDrain, None, &self.settings.mcp)?;
        }
        if self.leaving.leaves.borrow().is_some() {
            let gone = AppError::new(ErrorKind::Unavailable, "the host is going down");
            return Err(
                gone.hint("try again in a moment: the next host takes over the running tasks")
            );
        }
        if self.leaving.wanted.send_replace(None).is_none() {
            return Ok(false);
        }
        match clock::within(LIFTED, self.engine.takes_work()).await {
            Some(()) => Ok(true),
            None => Err(AppError::new(
                ErrorKind::Unavailable,
                "the engine did not lift the drain in time",
            )
            .hint("`claudine doctor` checks the host")),
        }
    }

    /// Marks that the host is ending now.
    pub(crate) fn leaves(&self, mode: DownMode) {
        self.leaving.leaves.send_replace(Some(mode));
    }

    /// Notes why the host ends although it was not asked to. Returns whether it was asked to end
    /// with its tasks, which are to be ended without it then.
    pub(crate) fn breaks(&self, why: &str) -> bool {
        self.leaving.obstacle.send_if_modified(|obstacle| {
            let is_new = obstacle.is_none();
            if is_new {
                *obstacle = Some(AppError::new(ErrorKind::Unavailable, why));
            }
            is_new
        });
        let wanted = self.leaving.wanted.borrow();
        matches!(&*wanted, Some(Wanted { mode, .. }) if *mode == DownMode::Kill)
    }

    /// Carries out requested shutdowns while the host runs. Returns when the host has to end, with
    /// an error if it cannot end its tasks, because nothing can be stored.
    pub(crate) async fn lead_down(&self) -> Result<DownMode, AppError> {
        let mut wanted = self.leaving.wanted.subscribe();
        loop {
            let asked = wanted.borrow_and_update().clone();
            tokio::select! {
                biased;
                changed = wanted.changed() => if changed.is_err() {
                    pending::<()>().await;
                },
                mode = self.go_through(asked) => {
                    // The request may have been withdrawn at this moment.
                    if wanted.has_changed().is_ok_and(|changed| !changed) {
                        if let Ok(mode) = &mode {
                            self.leaves(*mode);
                        }
                        return mode;
                    }
                }
            }
        }
    }

    /// Resolves with the requested mode when the host may end. Without a request, lifts a drain and
    /// never resolves. If nothing can be stored, those who wait for a drain are told so, and a kill
    /// is given up: its tasks are to be ended without this host.
    async fn go_through(&self, asked: Option<Wanted>) -> Result<DownMode, AppError> {
        let mode = asked.as_ref().map(|asked| asked.mode);
        let going = self.repeat_until_done(asked);
        tokio::pin!(going);
        let why = tokio::select! {
            biased;
            mode = &mut going => return Ok(mode),
            why = self.engine.stores_nothing() => unstored(&why),
        };
        match mode {
            Some(DownMode::Kill) => {
                tracing::error!(%why, "the tasks are ended without being stored");
                self.leaving.obstacle.send_replace(Some(why.clone()));
                Err(why)
            }
            Some(DownMode::Drain) => {
                tracing::error!(%why, "the drain cannot be completed");
                self.leaving.obstacle.send_replace(Some(why.hint(
                    "the host goes on trying; `claudine down` ends it and leaves its tasks \
                     running, and `claudine down --kill` ends them too",
                )));
                Ok(going.await)
            }
            Some(DownMode::Leave) | None => Ok(going.await),
        }
    }

    async fn repeat_until_done(&self, asked: Option<Wanted>) -> DownMode {
        let mode = asked.as_ref().map(|asked| asked.mode);
        loop {
            let done = match &asked {
                None => self.undrain().await,
                Some(Wanted { mode, by }) => match mode {
                    DownMode::Leave => Ok(()),
                    DownMode::Drain => self.drain().await,
                    DownMode::Kill => self.kill(by).await,
                },
            };
            match (done, mode) {
                (Ok(()), Some(mode)) => return mode,
                (Ok(()), None) => pending().await,
                (Err(error), _) => {
                    tracing::warn!(%error, ?mode, "a step of the shutdown failed; trying again");
                    clock::sleep(AGAIN).await;
                }
            }
        }
    }

    /// Always asks the engine to lift a drain, because the input that begins a drain may still be
    /// on its way to the engine.
    async fn undrain(&self) -> Result<(), AppError> {
        self.engine.command(Input::Undrain).await?;
        Ok(())
    }

    async fn drain(&self) -> Result<(), AppError> {
        self.engine.command(Input::Drain).await?;
        self.engine.idle().await?;
        let settled = clock::within(SETTLED_WITHIN, self.engine.runs_nothing()).await;
        if settled.is_none() {
            tracing::warn!("the host ends before executors have said how attempts ended");
        }
        if let Err(error) = self.commands.earlier_over().await {
            tracing::warn!(%error, "the host ends although a command of an earlier host goes on");
        }
        self.put_back_in_time().await;
        Ok(())
    }

    async fn kill(&self, by: &Arc<Principal>) -> Result<(), AppError> {
        self.engine.command(Input::Drain).await?;
        // Running tasks may wait for commands of an earlier host.
        let (cancelled, ()) = join(self.cancel_all(by), self.commands.end_earlier()).await;
        cancelled?;
        self.put_back_in_time().await;
        Ok(())
    }

    /// Cancels all running tasks, and waits for their ends.
    async fn cancel_all(&self, by: &Arc<Principal>) -> Result<(), AppError> {
        let running = self.running().await?.into_iter();
        let cancels = running.map(|task| self.cancel_running(by, task));
        let mut cancelled = stream::iter(cancels).buffer_unordered(CANCELS_AT_ONCE);
        while let Some(cancelled) = cancelled.next().await {
            cancelled?;
        }
        Ok(self.engine.idle().await?)
    }

    /// Waits until the checkouts are put back that an earlier host was updating, but not for ever.
    async fn put_back_in_time(&self) {
        self.restoring.close();
        let over = clock::within(PUT_BACK_WITHIN, self.restoring.wait()).await;
        if over.is_none() {
            tracing::warn!("files that an earlier host was replacing are not put back yet");
        }
    }

    async fn cancel_running(&self, by: &Arc<Principal>, task: TaskId) -> Result<(), AppError> {
        let cancel = Input::Cancel {
            task,
            reason: Some("the host was told to cancel running tasks".to_owned()),
        };
        match self.engine.asked(by, cancel).await {
            // The task has ended by itself.
            Ok(_) | Err(EngineError::Refused(Refused::Unknown { .. })) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The tasks with something to stop. A command whose processes have ended by themselves, and
    /// whose executor has still to say how, is left to this host or the next one.
    async fn running(&self) -> Result<Vec<TaskId>, AppError> {
        let filter = Filter::in_state(Status::Running);
        let page = self
            .read(move |reader| Ok(reader.store.list(&filter, usize::MAX / 2)?))
            .await?;
        let running = page.tasks.iter().filter(|task| !is_to_be_settled(task));
        Ok(running.map(|task| task.id).collect())
    }
}

#[cfg(test)]
mod tests {
    use claudine_domain::{
        attempt::{Attempt, StopWhy},
        task::State,
        time::Timestamp,
    };

    use super::*;
    use crate::store::sample_task;

    /// An agent may have another process to start, although all of its processes have ended.
    #[test]
    fn only_a_command_that_has_ended_is_left_to_the_next_host() {
        let check = |class: Class, is_over: bool, phase: Phase, expected: bool| {
            let mut task = sample_task(1);
            let since = Timestamp(0);
            Arc::make_mut(&mut task.request).class = class;
            task.state = State::Running { phase, since };
            task.attempts = vec![Attempt {
                is_over,
                ..Attempt::new(1, since)
            }];
            assert_eq!(is_to_be_settled(&task), expected, "{class:?} {is_over}");
        };
        check(Class::Command, true, Phase::Finishing, true);
        check(Class::Agent, true, Phase::Finishing, false);
        for class in [Class::Command, Class::Agent] {
            check(class, false, Phase::Finishing, false);
            check(class, false, Phase::Live, false);
            let why = StopWhy::Timeout;
            check(class, true, Phase::Stopping(why), false);
        }
    }
}

//! The launcher: runs the executor of an attempt to its answer, brings the attempt to rest, and tells its end.

use std::{panic::AssertUnwindSafe, sync::Arc};

use claudine_domain::{step::Report, task::Task, time::MonotonicMs};
use futures_util::FutureExt;
use tokio::{sync::oneshot, task::JoinHandle};
use tokio_util::task::TaskTracker;

use super::{
    allowed::still_allowed,
    ending::ending,
    guest_host::GuestHost,
    inputs::{Inputs, Prepared},
    live::{self, ChildState, Live, State},
    reporter::Reporter,
    workspaces::Workspaces,
};
use crate::{
    clock,
    engine::Launch,
    layout::Layout,
    plugin::{Catalog, Failure, GuestEnd, GuestOutcome, Start, StopRequest},
    supervise::Supervisors,
};

/// What attempts are run with.
pub(super) struct Launcher {
    pub(super) plugins: Arc<Catalog>,
    pub(super) supervisors: Supervisors,
    pub(super) layout: Layout,
    pub(super) inputs: Inputs,
    pub(super) workspaces: Workspaces,
    pub(super) reporter: Reporter,
    pub(super) tasks: TaskTracker,
}

impl Launcher {
    /// Runs the executor, which is held up at its first child until the attempt is begun, and sees to the end.
    pub(super) fn set_to_work(
        self: &Arc<Self>,
        launch: Launch,
        live: Arc<Live>,
        resumed: bool,
        stopped: oneshot::Receiver<StopRequest>,
    ) -> JoinHandle<()> {
        let launcher = self.clone();
        self.tasks.spawn(async move {
            let executing = Box::pin(launcher.execute(launch, &live, resumed, stopped));
            let result = unless_it_panics(executing)
                .await
                .unwrap_or_else(|panic| Err(broken(&panic)));
            let task = live.begun().await;
            let finishing = unless_it_panics(launcher.finish(task, &live, result));
            if let Err(panic) = finishing.await {
                launcher.bring_to_rest(&live).await;
                launcher.end_as_lost(task, &live, &panic).await;
            }
        })
    }

    /// Runs the executor to its answer.
    async fn execute(
        &self,
        launch: Launch,
        live: &Arc<Live>,
        resumed: bool,
        stopped: oneshot::Receiver<StopRequest>,
    ) -> Result<GuestOutcome, GuestEnd> {
        let executor = self
            .plugins
            .executor(&launch.task.request.executor)
            .map_err(GuestEnd::Unavailable)?
            .clone();
        let preparing = async {
            let workspace = self.workspaces.enter(&launch, &self.tasks).await?;
            let manifest = executor.manifest();
            let prepared = self.inputs.prepare(&launch, manifest, &workspace, resumed);
            let prepared = prepared.await?;
            still_allowed(&launch.task.request, &executor, &prepared.task).await?;
            executor.loaded().await.map_err(GuestEnd::Unavailable)?;
            Ok((workspace, prepared))
        };
        let (workspace, prepared) = unless_cut_short(live, preparing).await?;
        let Prepared {
            task,
            checkpoint,
            variables,
        } = prepared;
        live.change(|state| state.given = launch.task.reads_others());
        let start = if resumed {
            Start::Resume(checkpoint.unwrap_or_default())
        } else {
            Start::Fresh
        };
        let host = Arc::new(GuestHost {
            request: launch.task.request.clone(),
            workspace,
            live: live.clone(),
            supervisors: self.supervisors.clone(),
            layout: self.layout.clone(),
            env_file: self.inputs.env_file(&launch.task.request),
            reporter: self.reporter.clone(),
            tasks: self.tasks.clone(),
            variables,
            tells_alive: executor.manifest().start_timeout.is_some(),
        });
        // What was asked is the guest's now, and the row as it stood then is nobody's.
        drop(launch);
        executor.run(task, start, host, stopped).await
    }

    /// Waits until nothing of the attempt is alive, then tells its end.
    async fn finish(&self, task: &Task, live: &Live, result: Result<GuestOutcome, GuestEnd>) {
        self.bring_to_rest(live).await;
        let state = live.state();
        if state.untold {
            self.reporter.tell_facts(live.id, &state).await;
        }
        let wall = wall_ms(task, &clock::boot_id(), clock::monotonic_ms(), &state);
        let mut ending = Box::new(ending(&task.request.executor, result, &state, wall));
        self.workspaces.settle(live.id, task, &mut ending).await;
        self.reporter.tell_end(live, ending).await;
    }

    /// Returns when nothing of the attempt is alive; nothing more of it is started.
    async fn bring_to_rest(&self, live: &Live) {
        let (children, ended) = live.look(|state| (!state.children.is_empty(), state.is_over()));
        if !children || ended {
            return;
        }
        let attempt = live.id;
        self.reporter.send(attempt, Report::Finishing).await;
        if let Err(error) = self.supervisors.finish(live.key.clone()).done().await {
            tracing::warn!(%attempt, %error, "its supervisor cannot be told that it is finished");
        }
        live.until(|state| state.is_over().then_some(())).await;
    }

    /// The end of an attempt whose own task broke: nobody is shown as running who is not.
    async fn end_as_lost(&self, task: &Task, live: &Live, panic: &str) {
        tracing::error!(attempt = %live.id, panic, "the attempt's end could not be worked out");
        let (executor, state) = (&task.request.executor, live.state());
        let ending = ending(executor, Err(broken(panic)), &state, 0);
        self.reporter.tell_end(live, Box::new(ending)).await;
    }
}

/// Runs it to its end, or to the panic that ends it.
async fn unless_it_panics<T>(work: impl Future<Output = T>) -> Result<T, String> {
    let caught = AssertUnwindSafe(work).catch_unwind().await;
    caught.map_err(|panic| {
        let text = panic.downcast_ref::<&str>().map(ToString::to_string);
        text.or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "no reason is known".to_owned())
    })
}

/// The end of an attempt for a fault of this host: what it did is not known.
fn broken(panic: &str) -> GuestEnd {
    let message = format!("the host failed while it ran the attempt: {panic}");
    GuestEnd::Failed(Failure::new("lost", message))
}

/// Gives up as soon as the attempt is stopped, as long as nothing of it was started.
async fn unless_cut_short<T>(
    live: &Live,
    work: impl Future<Output = Result<T, GuestEnd>>,
) -> Result<T, GuestEnd> {
    tokio::select! {
        biased;
        () = live.until(|state| state.is_cut_short().then_some(())) => {
            Err(GuestEnd::Failed(live::stopped()))
        }
        result = work => result,
    }
}

/// How long the attempt ran, by the clock that does not jump. On another boot only its children's own time is known.
fn wall_ms(task: &Task, boot_id: &str, now: MonotonicMs, state: &State) -> u64 {
    let started = task
        .last_attempt()
        .and_then(|last| last.started_monotonic.as_ref());
    let ran = match started {
        Some((start, boot)) if **boot == *boot_id => Some(now.0.saturating_sub(start.0)),
        _ => None,
    };
    let of_children = || {
        let exits = state.children.iter().filter_map(|child| match child {
            ChildState::Exited(exit) => Some(exit.usage.wall_ms),
            _ => None,
        });
        exits.max().unwrap_or(0)
    };
    ran.unwrap_or_else(of_children)
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::panic,
        reason = "a test fails by panicking"
    )]

    use claudine_domain::{
        attempt::{Attempt, StopWhy},
        id::{AttemptId, TaskId},
        step::Cause,
        task::{Class, Request, State as TaskState},
        time::Timestamp,
    };

    use super::*;
    use crate::supervise::{Exit, Status, Usage};

    fn task() -> Task {
        let mut attempt = Attempt::new(1, Timestamp(0));
        attempt.started_at = Some(Timestamp(1_000_000));
        attempt.started_monotonic = Some((MonotonicMs(5_000), "boot-1".into()));
        Task {
            id: TaskId::new(1, 1),
            request: Request::new("shell", Class::Command).into(),
            created_at: Timestamp(0),
            state: TaskState::Ready {
                since: Timestamp(0),
                clock: None,
            },
            dependencies: Arc::default(),
            has_begun: true,
            retry_at: None,
            resumes: None,
            attempts: vec![attempt],
        }
    }

    fn ran_for(wall_ms: u64) -> ChildState {
        ChildState::Exited(Exit {
            pid: 7,
            start_time: 1,
            status: Status::Code(0),
            usage: Usage {
                wall_ms,
                ..Usage::default()
            },
            stopped: None,
            input_broke_off: false,
            stdout_bytes: 0,
            stderr_bytes: 0,
        })
    }

    /// The clock on the wall has no say.
    #[test]
    fn time_is_taken_by_the_clock_that_does_not_jump() {
        let check = |boot: &str, children: Vec<ChildState>, expected: u64| {
            let state = State {
                children,
                ..State::default()
            };
            let wall = wall_ms(&task(), boot, MonotonicMs(7_500), &state);
            assert_eq!(wall, expected, "{boot}");
        };
        check("boot-1", vec![], 2_500);
        check("boot-1", vec![ran_for(40)], 2_500);
        check("boot-2", vec![], 0);
        check("boot-2", vec![ran_for(40), ran_for(70)], 70);
    }

    #[tokio::test]
    async fn a_panic_is_the_end_of_an_attempt_and_is_lost() {
        let caught = unless_it_panics(async { panic!("no {}", "way") }).await;
        let panic: String = caught.map(|(): ()| String::new()).unwrap_err();
        let state = State::default();
        let ending = ending("shell", Err(broken(&panic)), &state, 0);
        let class = claudine_domain::outcome::ReasonClass::Lost;
        assert_eq!(ending.cause, Cause::Class(class));
        assert!(ending.message.ends_with("no way"), "{}", ending.message);
        assert_eq!(unless_it_panics(async { 7 }).await, Ok(7));
    }

    #[tokio::test]
    async fn what_is_stopped_before_its_first_child_is_not_waited_for() {
        let id = AttemptId {
            task: TaskId::new(1, 1),
            number: 1,
        };
        let (live, _stopped) = Live::new(id, Vec::new(), State::default());
        live.change(|state| state.stop = Some(StopWhy::StartTimeout));
        let never = std::future::pending::<Result<(), GuestEnd>>();
        let end = unless_cut_short(&live, never).await.unwrap_err();
        assert_eq!(end.failure("shell").code, "cancelled");
        // Once a child was sent it is the executor's to say how it ended.
        live.change(|state| state.children.push(ran_for(1)));
        let done = unless_cut_short(&live, async { Ok(7) }).await;
        assert_eq!(done.unwrap(), 7);
    }
}

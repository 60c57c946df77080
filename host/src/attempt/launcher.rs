//! The launcher: runs the executor of an attempt to its answer, waits until nothing of the attempt
//! is alive, and reports its end.

use std::{
    future::poll_fn,
    io,
    panic::AssertUnwindSafe,
    path::Path,
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use claudine_domain::{
    attempt::Phase,
    id::AttemptId,
    step::{Ending, Report},
    task::Task,
    time::MonotonicMs,
};
use futures_util::FutureExt;
use tokio::{sync::oneshot, task::JoinHandle};
use tokio_util::task::TaskTracker;

use super::{
    allowed::{
        merge_forbidden, place_still_allowed, request_within, sessions_still_allowed,
        still_allowed, worktree_still_free,
    },
    code::Loader,
    commands::{Commands, OfAttempt},
    ending::{ended_with_supervisor, ending, with_bounded_result},
    guest_host::GuestHost,
    inputs::{Inputs, Prepared},
    live::{self, ChildState, Live, State},
    reporter::Reporter,
    workspaces::{Workspace, Workspaces},
};
use crate::{
    clock,
    command::supervised_by,
    engine::Launch,
    layout::Layout,
    plugin::{Catalog, Failure, GuestEnd, GuestOutcome, Start, StopRequest},
    supervise::{self, Supervisors},
};

/// Everything needed to run attempts.
pub(super) struct Launcher {
    pub(super) plugins: Arc<Catalog>,
    pub(super) supervisors: Supervisors,
    pub(super) layout: Layout,
    pub(super) inputs: Inputs,
    pub(super) workspaces: Workspaces,
    pub(super) commands: Arc<Commands>,
    pub(super) loader: Loader,
    pub(super) reporter: Reporter,
    pub(super) tasks: TaskTracker,
}

impl Launcher {
    /// Runs the executor to the attempt's end. The executor waits at its first child until the
    /// attempt has begun.
    pub(super) fn set_to_work(
        self: &Arc<Self>,
        launch: Launch,
        live: Arc<Live>,
        resumed: bool,
        stopped: oneshot::Receiver<StopRequest>,
    ) -> JoinHandle<()> {
        let launcher = self.clone();
        self.tasks.spawn(async move {
            let answered = launch.task.last_attempt();
            let answered = answered.and_then(|last| last.answered.clone());
            let finishing = async {
                if let Some(ending) = answered {
                    let task = live.begun().await;
                    return Box::pin(launcher.go_on_settling(task, &live, ending)).await;
                }
                let executing = Box::pin(launcher.execute(launch, &live, resumed, stopped));
                let result = answer_of(executing).await;
                // Boxed, so that it takes memory only when the executor has answered.
                Box::pin(launcher.finish(live.begun().await, &live, result)).await;
            };
            let end_as_lost = |panic| launcher.end_as_lost(&live, panic);
            to_its_end(Box::pin(finishing), end_as_lost).await;
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
        if resumed {
            // Before the code is loaded, because this may take any time.
            self.reporter.tell_if_it_goes_on(live, &launch.task).await;
        }
        let is_preparing = launch.task.phase() == Some(&Phase::Preparing);
        if is_preparing {
            // If an earlier host died while preparing, its commands must not run beside the
            // commands that this host begins again.
            self.commands.end_earlier(live.id).await;
            if launch.task.request.worktree.is_some() {
                let patience = Duration::ZERO;
                self.commands.wait_for_all_earlier(live, patience).await;
            }
        }
        let by = launch.task.requester_of(launch.attempt.number);
        let worktree = launch.task.request.worktree.as_ref();
        let repository = worktree.map(|worktree| Path::new(&*worktree.repository));
        let elsewhere = self.commands.for_preparing(live, repository, by.restrained);
        let phase = launch.task.phase();
        let is_new = !resumed || matches!(phase, Some(Phase::Preparing | Phase::Starting));
        let executor = {
            let name = &launch.task.request.executor;
            let loading = self.loader.executor(&self.plugins, name, live, is_new);
            let mut loading = Box::pin(loading);
            unless_cut_short(live, loading.as_mut()).await?
        };
        // An attempt that an earlier host has started goes on.
        let is_limited = by.restrained && (is_preparing || !resumed);
        let places = &self.inputs.places;
        if is_limited && let Some(worktree) = worktree {
            // Before git does anything there.
            for named in [&*launch.task.request.cwd, &*worktree.repository] {
                Box::pin(place_still_allowed(&launch, places, named)).await?;
            }
        }
        // Boxed, so that the memory of this large future is free while the task runs.
        let workspace = {
            let made = supervised_by(elsewhere.clone(), self.workspaces.enter(&launch));
            let mut made = Box::pin(made);
            unless_cut_short_idle(live, &elsewhere, made.as_mut()).await?
        };
        let Workspace {
            dir: workspace,
            branch,
        } = workspace;
        if let Some(branch) = branch
            && launch
                .task
                .last_attempt()
                .and_then(|last| last.branch.as_ref())
                != Some(&branch)
        {
            self.reporter.send(live, Report::Branch(branch)).await;
        }
        let preparing = async {
            if is_limited {
                let resolver = Box::pin(self.workspaces.resolver(&launch.task));
                let resolver = supervised_by(elsewhere.clone(), resolver).await?;
                worktree_still_free(&launch, resolver.as_ref())?;
                Box::pin(place_still_allowed(&launch, places, &workspace)).await?;
            }
            let manifest = executor.manifest();
            let prepared = self.inputs.prepare(&launch, manifest, &workspace, resumed);
            let prepared = supervised_by(elsewhere, prepared).await?;
            let Inputs { store, ceiling, .. } = &self.inputs;
            let task = &prepared.task;
            still_allowed(&launch, &executor, task, ceiling, is_limited).await?;
            if live.has_begun() {
                self.reporter.ask_for_turn(live).await;
            }
            // While an attempt waits for its turn, a person may continue its session.
            if is_limited {
                Box::pin(sessions_still_allowed(&launch, task, store, ceiling)).await?;
            }
            Ok(prepared)
        };
        let prepared = {
            let mut preparing = Box::pin(preparing);
            unless_cut_short(live, preparing.as_mut()).await?
        };
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
            request: request_within(&launch, is_limited, self.inputs.most_output),
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
        // The guest has its request, and this copy of the task's row is no longer needed.
        drop(launch);
        if resumed {
            host.tell_found().await;
        }
        // Pinned here, because `select!` would move this large future once more.
        let running = pin!(executor.run(task, start, host.clone(), stopped));
        tokio::select! {
            biased;
            ended = running => {
                let most = host.request.max_output_bytes;
                ended.map(|outcome| with_bounded_result(outcome, most))
            }
            never = host.tell_output() => match never {},
        }
    }

    /// Waits until nothing of the attempt is alive, then reports its end.
    async fn finish(&self, task: &Task, live: &Arc<Live>, result: Result<GuestOutcome, GuestEnd>) {
        self.bring_to_rest(live).await;
        let state = live.state();
        let started = live.started(task, &clock::boot_id());
        let wall = wall_ms(started, clock::monotonic_ms(), &state);
        let mut ending = Box::new(ending(&task.request.executor, result, &state, wall));
        if ended_with_supervisor(&state) {
            tracing::warn!(attempt = %live.id, "{}", ending.message);
        }
        if state.output_cut {
            self.mark_cut(live.id).await;
        }
        if state.children.is_empty() && task.request.worktree.is_some() {
            // A stop may have interrupted the preparation of the worktree, here or in an earlier
            // host.
            let commands = self.commands.for_undoing(live);
            Box::pin(self.workspaces.take_back_unfinished(task, commands)).await;
        }
        if let Some(look) = self.workspaces.git_state(task).map(Box::pin) {
            // Git may hang, for example in a filter, and no process of the task runs any more.
            if !state.children.is_empty() {
                self.reporter.send(live, Report::Finishing).await;
            }
            let commands = if live.look(|state| state.stop.is_some()) {
                self.commands.for_undoing(live)
            } else {
                self.commands.for_settling(live)
            };
            ending.git = supervised_by(commands, look).await;
        }
        self.settle(task, live, ending).await;
    }

    /// Marks the end of the log, so that readers see that output may be missing.
    async fn mark_cut(&self, attempt: AttemptId) {
        let log = self.layout.log(attempt);
        let marking = crate::aside::run(move || supervise::log::mark_cut(&log, clock::wall_us()));
        let marked = marking.await;
        if let Err(error) = marked.unwrap_or_else(|panic| Err(io::Error::other(panic))) {
            tracing::warn!(%attempt, %error, "the end of a log cannot be marked as cut off");
        }
    }

    /// Settles the attempt's work, if there is any, and reports its end. If the attempt is stopped
    /// before its work is settled, the work stays where it is.
    async fn settle(&self, task: &Task, live: &Arc<Live>, mut ending: Box<Ending>) {
        if Workspaces::is_to_be_settled(task, &ending) {
            if self.reporter.ask_to_settle(live, &ending).await {
                Box::pin(self.settle_work(task, live, &mut ending)).await;
            } else {
                ending.stopped = live.look(|state| state.stop.clone());
            }
        }
        self.reporter.tell_end(live, ending).await;
    }

    async fn settle_work(&self, task: &Task, live: &Arc<Live>, ending: &mut Ending) {
        let patience = self.commands.patience;
        self.commands.wait_for_all_earlier(live, patience).await;
        let forbidden = merge_forbidden(task, live.id.number, &self.inputs.ceiling);
        let settling = self.workspaces.settle(live.id, task, ending, forbidden);
        supervised_by(self.commands.for_settling(live), settling).await;
    }

    /// Continues to settle the work of an ended attempt where an earlier host stopped.
    async fn go_on_settling(&self, task: &Task, live: &Arc<Live>, mut ending: Box<Ending>) {
        self.commands.wait_for_earlier(live).await;
        if self.workspaces.may_be_settled(task).await {
            Box::pin(self.settle_work(task, live, &mut ending)).await;
            self.reporter.tell_end(live, ending).await;
        } else {
            self.settle(task, live, ending).await;
        }
    }

    /// Waits until no process of the attempt is alive, and lets no further process start.
    async fn bring_to_rest(&self, live: &Live) {
        let (children, ended) = live.look(|state| (!state.children.is_empty(), state.is_over()));
        if !children || ended {
            return;
        }
        let attempt = live.id;
        self.reporter.send(live, Report::Finishing).await;
        if let Err(error) = self.supervisors.finish(live.key.clone()).done().await {
            tracing::warn!(%attempt, %error, "the supervisor cannot be told that the attempt is finished");
        }
        live.until(|state| state.is_over().then_some(())).await;
    }

    /// Reports the end of an attempt whose asynchronous task panicked, so that it is not shown as
    /// running.
    async fn end_as_lost(&self, live: &Live, panic: String) {
        let task = live.begun().await;
        self.bring_to_rest(live).await;
        tracing::error!(attempt = %live.id, panic, "the attempt's end is unknown");
        let (executor, state) = (&task.request.executor, live.state());
        let ending = ending(executor, Err(broken(&panic)), &state, 0);
        self.reporter.tell_end(live, Box::new(ending)).await;
    }
}

/// The answer of an executor. If `executing` panics, the attempt is lost.
async fn answer_of(
    executing: impl Future<Output = Result<GuestOutcome, GuestEnd>>,
) -> Result<GuestOutcome, GuestEnd> {
    unless_it_panics(executing)
        .await
        .unwrap_or_else(|panic| Err(broken(&panic)))
}

/// Runs `work` to its end. If it panics, runs `end_as_lost` with the message.
async fn to_its_end<L: Future<Output = ()>>(
    work: impl Future<Output = ()>,
    end_as_lost: impl FnOnce(String) -> L,
) {
    if let Err(panic) = unless_it_panics(work).await {
        end_as_lost(panic).await;
    }
}

/// Runs `work` to its end; returns the message if it panics.
async fn unless_it_panics<T>(work: impl Future<Output = T>) -> Result<T, String> {
    let caught = AssertUnwindSafe(work).catch_unwind().await;
    caught.map_err(|panic| {
        let text = panic.downcast_ref::<&str>().map(ToString::to_string);
        text.or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "no reason is known".to_owned())
    })
}

/// The end of an attempt during which this host failed. The attempt's result is unknown.
fn broken(panic: &str) -> GuestEnd {
    let message = format!("the host failed while it ran the attempt: {panic}");
    GuestEnd::Failed(Failure::new("lost", message))
}

/// Drops the work as soon as the attempt is stopped, if no child of the attempt was started.
async fn unless_cut_short<T>(
    live: &Live,
    mut work: Pin<&mut impl Future<Output = Result<T, GuestEnd>>>,
) -> Result<T, GuestEnd> {
    let mut stopped = pin!(live.until(|state| state.is_cut_short().then_some(())));
    poll_fn(|context| {
        // Most work is done at once, so that nothing has to wait for a change of the state.
        if live.look(State::is_cut_short) {
            return Poll::Ready(Err(GuestEnd::Failed(live::stopped())));
        }
        if let Poll::Ready(result) = work.as_mut().poll(context) {
            return Poll::Ready(result);
        }
        let stopped = stopped.as_mut().poll(context);
        stopped.map(|()| Err(GuestEnd::Failed(live::stopped())))
    })
    .await
}

/// Like [`unless_cut_short`], for work that runs commands. If a command is running when the attempt
/// is stopped, the command is ended and the work undoes its unfinished changes; this function waits
/// until it runs no command any more. Then the work is dropped, and the end of the attempt undoes
/// what is left.
async fn unless_cut_short_idle<T>(
    live: &Live,
    commands: &OfAttempt,
    work: Pin<&mut impl Future<Output = Result<T, GuestEnd>>>,
) -> Result<T, GuestEnd> {
    let stopped = live.until(|state| state.is_cut_short().then_some(()));
    let done = commands.until_idle(stopped, work).await;
    done.unwrap_or_else(|| Err(GuestEnd::Failed(live::stopped())))
}

/// How long the attempt ran, by the clock that does not jump. After a reboot, or if the attempt has
/// ended while no host ran, only the run time of the attempt's children is known.
fn wall_ms(started: Option<MonotonicMs>, now: MonotonicMs, state: &State) -> u64 {
    let ended_at = state.ended_at.unwrap_or(now);
    let started = started.filter(|_| !state.had_ended);
    let ran = started.map(|start| ended_at.0.saturating_sub(start.0));
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
            has_begun: true,
            attempts: vec![attempt],
            ..crate::store::sample_task(1)
        }
    }

    fn attempt() -> AttemptId {
        AttemptId {
            task: TaskId::new(1, 1),
            number: 1,
        }
    }

    fn ran_for(wall_ms: u64) -> ChildState {
        ChildState::Exited(Exit {
            usage: Usage {
                wall_ms,
                ..Usage::default()
            },
            ..Exit::sample(Status::Code(0))
        })
    }

    /// Changes of the wall clock have no effect.
    #[test]
    fn wall_time_is_measured_by_the_monotonic_clock() {
        let check = |boot: &str, children: Vec<ChildState>, expected: u64| {
            let state = State {
                children,
                ..State::default()
            };
            let (live, _stopped) = Live::new(attempt(), Vec::new(), State::default());
            let started = live.started(&task(), boot);
            let wall = wall_ms(started, MonotonicMs(7_500), &state);
            assert_eq!(wall, expected, "{boot}");
        };
        check("boot-1", vec![], 2_500);
        check("boot-1", vec![ran_for(40)], 2_500);
        check("boot-2", vec![], 0);
        check("boot-2", vec![ran_for(40), ran_for(70)], 70);
    }

    #[test]
    fn the_time_in_which_nobody_could_tell_how_an_attempt_ended_is_no_run_time() {
        let check = |ended_at: Option<u64>, had_ended: bool, expected: u64| {
            let state = State {
                children: vec![ran_for(40)],
                ended_at: ended_at.map(MonotonicMs),
                had_ended,
                ..State::default()
            };
            let wall = wall_ms(Some(MonotonicMs(5_000)), MonotonicMs(60_000), &state);
            assert_eq!(wall, expected, "{ended_at:?} {had_ended}");
        };
        check(None, false, 55_000);
        check(Some(7_000), false, 2_000);
        // It has ended without a host.
        check(None, true, 40);
    }

    #[tokio::test]
    async fn an_attempt_whose_asynchronous_task_panics_is_lost() {
        let result = answer_of(async { panic!("no {}", "way") }).await;
        let ending = ending("shell", result, &State::default(), 0);
        let class = claudine_domain::outcome::ReasonClass::Lost;
        assert_eq!(ending.cause, Cause::Class(class));
        assert!(ending.message.ends_with("no way"), "{}", ending.message);
        let mut lost = Vec::new();
        let end_as_lost = |panic| {
            lost.push(panic);
            std::future::ready(())
        };
        to_its_end(async { panic!("no way") }, end_as_lost).await;
        assert_eq!(lost, ["no way"]);
    }

    #[tokio::test]
    async fn an_attempt_stopped_before_its_first_child_is_cancelled() {
        let (live, _stopped) = Live::new(attempt(), Vec::new(), State::default());
        live.change(|state| state.stop = Some(StopWhy::StartTimeout));
        let never = std::future::pending::<Result<(), GuestEnd>>();
        let end = unless_cut_short(&live, pin!(never)).await.unwrap_err();
        assert_eq!(end.failure("shell").code, "cancelled");
        // Once the start of a child was sent, the executor decides how the attempt ended.
        live.change(|state| state.children.push(ran_for(1)));
        let done = unless_cut_short(&live, pin!(async { Ok(7) })).await;
        assert_eq!(done.unwrap(), 7);
    }
}

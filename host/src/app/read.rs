//! Reads tasks and the state of the host. Tasks come from the store; the state of the queue and of
//! the host comes from the engine's snapshot. Only `why`, and `info` for a sign of life, ask the
//! engine itself.

use std::time::Duration;

use claudine_domain::{
    attempt::Phase,
    board::Unreadable,
    budget::{Day, Level, Scope},
    capacity::Refusal,
    dependency::Dependency,
    outcome::Outcome,
    principal::Principal,
    task::{Class, State, Task, WaitingFor},
};

use super::{
    brief::brief,
    capacity::{BudgetView, slots_text},
    down::{supervisors_left, supervisors_out_of_sight, suspended_supervisors},
    error::{AppError, ErrorKind},
    explain::{self, InTheWay},
    halted::{Halted, halted_supervisor},
    host::Host,
    limit_view::LimitView,
    present::task_row,
    reader::Reader,
    request::{ListFilter, TaskRef},
    retry::spent_until,
    select::{Purpose, Selection},
    unended::{known_unendable, unendable_text},
    view::{HeldBackView, HostInfo, TaskList, TaskView, Why},
    written::begun,
};
use crate::{
    ballast,
    clock::{self, rfc3339},
    config,
    layout::Layout,
    store::{self, StoreError},
    transcript::{Reach, Wanted},
};

/// Time limit for the engine's sign of life, which the engine sends between two inputs.
const SIGN_OF_LIFE: Duration = Duration::from_secs(2);
/// Maximum number of transcript lines shown as the output of an agent without a result.
const OUTPUT_LINES: u64 = 100;
const OUTPUT_BYTES: usize = 64 << 10;
const LIST_DEFAULT: u32 = 100;
const LIST_MAX: u32 = 1000;
/// Limit of the dependencies named by `why`.
const UPSTREAM_SHOWN: usize = 10;
/// Limit of the unreadable rows named in warnings.
const UNREADABLE_SHOWN: usize = 10;

/// The words for states and outcomes by which lists can be filtered.
pub(crate) fn state_words() -> Vec<&'static str> {
    store::words()
}

impl Host {
    pub(crate) async fn list(&self, filter: ListFilter) -> Result<TaskList, AppError> {
        let invalid = |message: String| AppError::new(ErrorKind::Invalid, message);
        let limit = filter.limit.unwrap_or(LIST_DEFAULT);
        if !(1..=LIST_MAX).contains(&limit) {
            return Err(invalid(format!(
                "a page has 1 to {LIST_MAX} tasks, not {limit}"
            )));
        }
        let (tasks, next) = self
            .read_many(move |reader| {
                let selection = Selection::of(reader, &filter, Purpose::Show)?;
                let page = selection.page(reader, limit as usize)?;
                let rows: Vec<_> = page.tasks.iter().map(task_row).collect();
                Ok((rows, page.next))
            })
            .await?;
        Ok(TaskList {
            tasks,
            next: next.map(|id| id.to_string()),
            queue: self.queue().await?,
        })
    }

    pub(crate) async fn status(&self, reference: &TaskRef) -> Result<TaskView, AppError> {
        let (reference, worktrees) = (reference.clone(), self.worktrees.clone());
        let reading = self.read(move |reader| {
            let task = reader.task_to_show(&reference)?;
            let mut view = reader.full_view(&reader.as_shown(task.clone()))?;
            if task.is_done()
                && view.worktree.is_some()
                && let Some(merge) = worktrees.merged_again(task.id)?
            {
                view.merge = Some(merge);
            }
            // A finished agent without a result is shown with its output. The output of a running
            // agent is read only on request.
            let is_unshown = task.is_done() && view.output.is_none();
            let unshown = begun(&task).filter(|_| is_unshown);
            Ok((view, unshown, task))
        });
        let (mut view, unshown, task) = reading.await?;
        let attempt = task.last_attempt_id();
        if attempt.is_some_and(|attempt| (self.held_back)(attempt).is_some()) {
            // The output that is held back is not in the log yet.
            view.log_fault = None;
        }
        if let Some(number) = unshown {
            let output = self.output_of(&task, number);
            let wanted = Wanted {
                lines: OUTPUT_LINES,
                bytes: OUTPUT_BYTES,
                reach: Reach::Far,
            };
            let shown = self.last_text(&output, None, wanted);
            let shown = shown.await?;
            (view.output, view.output_truncated) = (Some(shown.text), shown.is_truncated);
        }
        if matches!(
            view.state.as_str(),
            "ready" | "blocked" | "waiting" | "held"
        ) {
            view.queue = self.queue().await?;
            // The task's own limit and plugin are described below, and limits of other accounts and
            // other plugins do not concern the task.
            view.queue.limits = Vec::new();
            view.queue.plugins_without_code = Vec::new();
        }
        self.name_limit(&task, &mut view);
        let earlier =
            explain::runs_git(&task).then(|| self.commands.earlier_in_words().into_iter().next());
        let obstacle = earlier.flatten().or_else(|| self.halt_of(&task));
        if let Some(obstacle) = obstacle.or_else(|| self.lack_of_plugin(&task)) {
            view.doing = Some(obstacle);
        }
        Ok(view)
    }

    pub(crate) async fn why(&self, by: &Principal, reference: &TaskRef) -> Result<Why, AppError> {
        let reference = reference.clone();
        let (task, mut in_the_way) = self
            .read(move |reader| in_the_way(reader, &reference))
            .await?;
        in_the_way.without_environment =
            self.environments.is_stood_in_for(&task.request.env_digest);
        let attempt = task.last_attempt_id();
        in_the_way.held_back = attempt.and_then(|attempt| (self.held_back)(attempt));
        in_the_way.without_plugin = self.lack_of_plugin(&task);
        in_the_way.is_unreached = self.unreached(&task).is_some();
        in_the_way.halted_supervisor =
            halted_supervisor(&task, &self.reader.layout).map(Halted::text);
        in_the_way.unendable = unendable(&task, &self.reader.layout).await;
        if explain::runs_git(&task) {
            in_the_way.earlier_commands = self.commands.earlier_in_words();
        }
        if explain::is_queued(&task) {
            in_the_way.refusal = self.engine.refusal_of(task.clone()).await?;
            if matches!(in_the_way.refusal, Some(Refusal::Slots { .. })) {
                in_the_way.taken_by_ended = self.taken_by_ended().await?;
            }
        }
        in_the_way.queue = self.queue().await?;
        in_the_way.is_out_of_sight =
            in_the_way.queue.no_host && may_be_out_of_sight(&self.reader.layout);
        in_the_way.limit = self.limit_of(&task);
        in_the_way.is_limit_over = matches!(
            task.state, State::Waiting { until, .. } if until <= clock::wall()
        );
        let waits_for_account = matches!(
            task.state,
            State::Waiting {
                why: WaitingFor::Account(_),
                ..
            }
        );
        in_the_way.may_not_hasten =
            waits_for_account && self.may_be_tried_now(by, &task).await != Some(true);
        let task = self.reader.as_shown(task);
        let brief = brief(&task, &in_the_way);
        Ok(Why {
            brief,
            ..explain::why(&task, in_the_way)
        })
    }

    /// Daily budget of agents and the amount spent. `None` without a budget, or if the store cannot
    /// be read.
    async fn day_budget(&self) -> Option<BudgetView> {
        let daily = self.settings.limits.daily_micro_usd?;
        let today = Scope::Day(Day::of(clock::wall()));
        let spent = self.read(move |reader| Ok(reader.store.spent_on(today)?));
        Some(BudgetView::of(spent.await.ok()?, daily))
    }

    /// What an agent is told that is to start now, if agents have spent the budget of the day.
    pub(super) async fn day_is_spent(&self) -> Option<String> {
        let budget = self.day_budget().await?;
        let until = Day::of(clock::wall()).end();
        (budget.left_usd <= 0.0).then(|| spent_until(until))
    }

    /// Settings with which the host was started.
    pub(crate) fn settings(&self) -> Vec<config::Shown> {
        self.settings.shown()
    }

    pub(crate) async fn info(&self) -> HostInfo {
        let mut faults = Vec::new();
        // The snapshot can be read even if the engine no longer works.
        if clock::within(SIGN_OF_LIFE, self.engine.answers()).await != Some(true) {
            faults.push("the engine does not answer: nothing is started or stopped".to_owned());
        }
        let snapshot = self.engine.snapshot();
        faults.extend(snapshot.trouble.unreadable.iter().map(|trouble| {
            format!("the store cannot be read, so nothing is started or stopped: {trouble}")
        }));
        if let (None, Some(why)) = (&snapshot.trouble.unreadable, snapshot.trouble.unstored())
            && !snapshot.store_full
        {
            faults.push(format!("the last change could not be stored: {why}"));
        }
        let supervisors = supervisors_left(&self.reader.layout);
        let suspended = suspended_supervisors(&self.reader.layout);
        let unexamined = supervisors.as_ref().err().or(suspended.as_ref().err());
        faults.extend(unexamined.map(ToString::to_string));
        let mut warnings = self.settings.warnings.clone();
        let halts = self.halts();
        warnings.extend(halts.iter().map(|halt| halt.message.clone()));
        if self.plugins.executor_names().is_empty() {
            warnings
                .push("there are no plugins: build the binary with `cargo xtask build`".to_owned());
        }
        let plugins_without_code: Vec<String> = self.plugins_without_code().collect();
        warnings.extend_from_slice(&plugins_without_code);
        if snapshot.store_full {
            warnings.push(ballast::refusal());
        }
        warnings.extend(unreadable(&snapshot.unreadable));
        // An unreadable store is already among the faults.
        let limits = self.limits().await.unwrap_or_default();
        warnings.extend(limits.iter().map(LimitView::text));
        HostInfo {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            url: format!("unix:{}", self.reader.layout.socket().display()),
            mcp_url: None,
            data_dir: self.reader.layout.root().display().to_string(),
            started_at: rfc3339(self.started_at),
            slots: slots_text(snapshot.limits.slots),
            running: snapshot.running,
            queued: snapshot.queued,
            draining: snapshot.draining,
            paused_since: snapshot
                .queue
                .paused
                .as_ref()
                .map(|pause| rfc3339(pause.since)),
            supervisors: supervisors.unwrap_or_default(),
            suspended_supervisors: suspended.unwrap_or_default(),
            halted_supervisors: halts,
            plugins_without_code,
            held_back: (self.all_held_back)().map(|(tasks, reason)| HeldBackView { tasks, reason }),
            earlier_commands: self.commands.earlier_in_words(),
            disk_reserve_bytes: self.settings.limits.disk_reserve_bytes,
            dropped_reports: snapshot.dropped_reports,
            commands_over_mcp: self.settings.mcp.allows_commands(),
            any_variable_over_mcp: self.settings.mcp.allows_any_variable(),
            budget: self.day_budget().await,
            faults,
            warnings,
        }
    }
}

/// Warnings about unreadable rows: the first ones individually, the rest as a number.
fn unreadable(rows: &[Unreadable]) -> impl Iterator<Item = String> {
    let more = rows.len().saturating_sub(UNREADABLE_SHOWN);
    let told = rows.iter().take(UNREADABLE_SHOWN).map(|row| {
        let (what, key, reason) = (row.what, &row.key, &row.reason);
        let waits = match (row.task, what) {
            (Some(_), _) => "; its dependants stay blocked",
            (None, "group") => "; the group is paused until it is set again",
            (None, "queue") => "; the queue is paused until `claudine unpause`",
            (None, _) => "",
        };
        format!("a stored {what} ({key}) cannot be read and was put aside: {reason}{waits}")
    });
    told.chain((more > 0).then(|| format!("and {more} more rows cannot be read")))
}

/// The processes of a task that is being stopped which cannot be ended now, in words.
async fn unendable(task: &Task, layout: &Layout) -> Option<String> {
    if !matches!(task.phase(), Some(Phase::Stopping(_) | Phase::Finishing)) {
        return None;
    }
    unendable_text(&known_unendable(layout, vec![task.id.to_string()]).await)
}

/// Whether processes of tasks may run where this process cannot see them. True if the supervisors
/// cannot be examined.
fn may_be_out_of_sight(layout: &Layout) -> bool {
    supervisors_out_of_sight(layout).unwrap_or_else(|error| {
        tracing::warn!(%error, "nobody knows whether processes run out of sight");
        true
    })
}

/// Budget of the graph of an unfinished agent, and the amount spent. Commands have no budget.
fn graph_level(reader: &Reader, task: &Task) -> Result<Option<Level>, AppError> {
    if task.request.class != Class::Agent || task.is_done() {
        return Ok(None);
    }
    reader.graph_level(task)
}

/// The `claudine` command that continues a finished task, if one higher limit or further permission
/// is enough. For a command, this can only be a higher time limit.
fn way_out(reader: &Reader, task: &Task) -> Result<Option<String>, AppError> {
    let has_one = task
        .end()
        .is_some_and(|end| task.request.class == Class::Agent || end.outcome == Outcome::TimedOut);
    if !has_one {
        return Ok(None);
    }
    Ok(reader.full_view(task)?.hint)
}

/// Reads a task, and looks in other tasks and in budgets for reasons why the task does not start or
/// did not run.
fn in_the_way(reader: &Reader, reference: &TaskRef) -> Result<(Task, InTheWay), AppError> {
    let task = reader.task_to_show(reference)?;
    let mut in_the_way = InTheWay::default();
    if let Some(culprit) = task.end().and_then(|end| end.culprit) {
        in_the_way.culprit = reader.store.task(culprit)?;
        if let Some(culprit) = &in_the_way.culprit {
            in_the_way.culprit_way_out = way_out(reader, culprit)?;
        }
    }
    in_the_way.way_out = way_out(reader, &task)?;
    in_the_way.graph = graph_level(reader, &task)?;
    if !matches!(task.state, State::Blocked { .. }) {
        return Ok((task, in_the_way));
    }
    let upstreams = task.dependencies.iter().map(|it| it.task).collect();
    let ends = reader.store.ends(&upstreams)?;
    let unfinished = |it: &&Dependency| ends.get(&it.task).is_some_and(Option::is_none);
    let open: Vec<&Dependency> = task.dependencies.iter().filter(unfinished).collect();
    let as_shown = reader.each_as_shown();
    for dependency in open.iter().take(UPSTREAM_SHOWN) {
        match reader.store.task(dependency.task) {
            Ok(Some(upstream)) => {
                let upstream = as_shown(upstream);
                in_the_way.upstream.push((dependency.condition, upstream));
            }
            Ok(None) => {}
            Err(error @ StoreError::Corrupt { .. }) => {
                let reason = error.to_string();
                in_the_way.unreadable.push((dependency.task, reason));
            }
            Err(error) => return Err(error.into()),
        }
    }
    in_the_way.more_upstream = open.len().saturating_sub(UPSTREAM_SHOWN);
    Ok((task, in_the_way))
}

//! Explains in sentences why a task waits. A pure function of the task and of the engine's answers.

use claudine_domain::{
    attempt::{Ended, Phase, StopWhy},
    budget::{Day, Level},
    capacity::{PATIENCE, Refusal, SETTLING},
    dependency::Condition,
    id::TaskId,
    outcome::Outcome,
    revision::Requested,
    step::spent_by,
    task::{State, Task, WaitingFor},
    time::Timestamp,
};

use super::{
    limit_view::{limit_text, past_limit_text},
    present::{held_by, phase},
    queue_view::{QueueView, paused_text},
    steps::{failed_merge, remarked_merge, steps},
    view::Why,
    without_code::TRIED_AGAIN,
};
use crate::{ballast::START_INODES, clock::rfc3339, store::unrecorded, text::shell_word};

const GIB: f64 = (1u64 << 30) as f64;
const MIB: f64 = (1u64 << 20) as f64;
/// Limit of the requests to run a task again that are named.
const REQUESTS_SHOWN: usize = 5;

/// Information that explains why a task waits, but is not stored with the task.
#[derive(Default)]
pub(super) struct InTheWay {
    /// Reasons that hold for the whole queue.
    pub(super) queue: QueueView,
    /// The reason for which admission does not start the task.
    pub(super) refusal: Option<Refusal>,
    /// The reason why output of the task's attempt cannot be written, or why the attempt's
    /// supervisor cannot be reached.
    pub(super) held_back: Option<String>,
    /// Why the plugin of a queued or running task cannot be used at the moment.
    pub(super) without_plugin: Option<String>,
    /// If all slots are taken: the tasks that take some of them although they have ended, and why.
    pub(super) taken_by_ended: Option<String>,
    /// Whether the attempt is held back because its supervisor cannot be reached.
    pub(super) is_unreached: bool,
    /// The sentence about the task's supervisor, if the supervisor does nothing.
    pub(super) halted_supervisor: Option<String>,
    /// Processes of a task that is being stopped which cannot be ended now, in words.
    pub(super) unendable: Option<String>,
    /// Commands of an earlier host for which the task's git commands wait, in sentences.
    pub(super) earlier_commands: Vec<String>,
    /// Whether no host runs, and the task's processes may be where this process cannot see them.
    pub(super) is_out_of_sight: bool,
    /// Some of the task's unfinished dependencies, and the number of the others.
    pub(super) upstream: Vec<(Condition, Task)>,
    pub(super) more_upstream: usize,
    /// Dependencies whose rows cannot be read, with the errors.
    pub(super) unreadable: Vec<(TaskId, String)>,
    /// The task because of which this task could not run.
    pub(super) culprit: Option<Task>,
    /// Budget of the task's graph, and the amount spent.
    pub(super) graph: Option<Level>,
    /// Name of the usage limit that the task waits for.
    pub(super) limit: Option<String>,
    /// Whether the usage limit has ended.
    pub(super) is_limit_over: bool,
    /// Whether the caller may not start the task before the usage limit ends, or perhaps not.
    pub(super) may_not_hasten: bool,
    /// The command that continues the task after its end, if there is such a command.
    pub(super) way_out: Option<String>,
    /// The command that continues the culprit after its end, if there is such a command.
    pub(super) culprit_way_out: Option<String>,
    /// Whether the task was restored from a backup without its environment.
    pub(super) without_environment: bool,
}

/// Whether only admission keeps the task from starting.
pub(super) fn is_queued(task: &Task) -> bool {
    matches!(
        task.state,
        State::Ready { .. }
            | State::Running {
                phase: Phase::Assigned,
                ..
            }
    )
}

/// Whether the host runs git for the task now, to make its worktree or to settle its work.
pub(super) fn runs_git(task: &Task) -> bool {
    let is_phase_of_git = matches!(task.phase(), Some(Phase::Preparing | Phase::Settling));
    is_phase_of_git && task.request.worktree.is_some()
}

/// Whether another attempt of the task is still to start.
fn has_yet_to_run(task: &Task) -> bool {
    let waits = matches!(
        task.state,
        State::Blocked { .. } | State::Held { .. } | State::Waiting { .. }
    );
    waits || is_queued(task)
}

pub(super) fn why(task: &Task, in_the_way: InTheWay) -> Why {
    let InTheWay {
        queue,
        refusal,
        held_back,
        without_plugin,
        taken_by_ended,
        is_unreached,
        halted_supervisor,
        unendable,
        earlier_commands,
        is_out_of_sight,
        upstream,
        more_upstream,
        unreadable,
        culprit,
        graph,
        limit,
        is_limit_over,
        may_not_hasten,
        way_out,
        culprit_way_out,
        without_environment,
    } = in_the_way;
    let unreached = held_back.clone().filter(|_| is_unreached);
    let halted = halted_supervisor.clone().or(unreached);
    let halted = halted.or_else(|| without_plugin.clone());
    let last_end = || {
        let ended = task.last_attempt().and_then(|last| last.ended.as_ref());
        ended.map_or(task.created_at, |ended| ended.at)
    };
    let (since, reasons) = match &task.state {
        State::Done {
            at,
            outcome,
            reason,
            culprit: of,
        } => {
            // A cancellation without a given reason has only the outcome's name as its message.
            let reason = reason
                .as_ref()
                .filter(|reason| *reason.message != *outcome.as_str());
            let detail = reason.map_or(String::new(), |reason| {
                format!(": {} ({})", reason.message, reason.class.as_str())
            });
            let done = format!("{}{detail}", outcome.as_str());
            let culprit = match culprit {
                Some(culprit) => Some(because_of(&culprit, culprit_way_out)),
                None => of.map(because_of_forgotten),
            };
            let held = task.held.map(|_| {
                let by = held_by(task);
                let is = task.restored_from.map_or("is held by", |_| "was");
                format!("it {is} {by} and must be released before it can run again")
            });
            let merge = failed_merge(task).or_else(|| remarked_merge(task));
            let merge = merge.map(|merge| merge.detail.clone());
            let steps = steps(task).into_iter();
            let steps = steps.map(|step| format!("`{}`: {}", step.command, step.purpose));
            let continued =
                way_out.map(|command| format!("`{command}` {}", effect_of(&command, "it")));
            let reasons = std::iter::once(done).chain(merge).chain(steps);
            let reasons = reasons.chain(continued);
            let reasons = reasons.chain(culprit).chain(held);
            (*at, reasons.collect())
        }
        State::Blocked { since } => {
            let unreadable = unreadable.iter().map(|(id, reason)| {
                format!("it waits for {id:#}, whose state cannot be read: {reason}")
            });
            let blocked = blocked(&upstream, more_upstream);
            (*since, blocked.into_iter().chain(unreadable).collect())
        }
        State::Held { since } => (*since, vec![held(task)]),
        State::Waiting {
            until: until_at,
            why,
        } => {
            let until = rfc3339(*until_at);
            let (since, reason) = match why {
                WaitingFor::Account(account) if is_limit_over => (
                    last_end(),
                    past_limit_text(account, limit.as_deref(), *until_at),
                ),
                WaitingFor::Account(account) => {
                    let limit = limit_text(account, limit.as_deref(), *until_at);
                    let reason = if may_not_hasten {
                        limit
                    } else {
                        format!(
                            "{limit}; `claudine retry --now {:#}` starts the task now",
                            task.id
                        )
                    };
                    (last_end(), reason)
                }
                WaitingFor::StartTime => (
                    task.created_at,
                    format!("it starts no earlier than {until}"),
                ),
                WaitingFor::Retry => (last_end(), retried(task, *until_at)),
            };
            (since, vec![reason])
        }
        State::Ready { since, .. }
        | State::Running {
            phase: Phase::Assigned,
            since,
        } => {
            // The refusal may be about the plugin too, and does not know what helps.
            let is_of_plugin = matches!(refusal, Some(Refusal::NoCode { .. }));
            let mut reasons = if is_of_plugin && without_plugin.is_some() {
                queue.reasons().collect()
            } else {
                queued(&queue, refusal.as_ref())
            };
            reasons.extend(taken_by_ended);
            reasons.extend(without_plugin);
            (*since, reasons)
        }
        State::Running { phase, since } => {
            let held = held_back.map(|why| {
                if is_unreached {
                    return why;
                }
                format!("it is held back until its output can be written: {why}")
            });
            let running = if queue.no_host {
                running_without_host(phase, unrecorded::is_marked(task), is_out_of_sight)
            } else if unrecorded::is_marked(task) && is_over(task) {
                "its processes have ended; its executor has still to say how".to_owned()
            } else if unrecorded::is_marked(task) {
                "its process has ended; its supervisor, which does nothing now, is to report this"
                    .to_owned()
            } else {
                running(phase)
            };
            let reasons = std::iter::once(running).chain(unendable);
            let reasons = reasons.chain(halted_supervisor).chain(held);
            let reasons = reasons.chain(without_plugin);
            (*since, reasons.chain(earlier_commands).collect())
        }
    };
    // If the task waits for something other than the queue, the reasons why nothing in the queue
    // starts are added, because they apply to the task too.
    let is_kept = has_yet_to_run(task) && !is_queued(task);
    let kept = queue.reasons().filter(|_| is_kept);
    let environment = (without_environment && has_yet_to_run(task)).then(|| {
        "its environment was not in the backup, so it will run in the environment of the restoring command"
            .to_owned()
    });
    Why {
        id: task.id.to_string(),
        state: task.state.as_str().to_owned(),
        phase: phase(task),
        since: since_text(since),
        reasons: reasons
            .into_iter()
            .chain(kept)
            .chain(environment)
            .chain(budgets(task, graph))
            .chain(requests(task))
            .collect(),
        halted,
        brief: None,
    }
}

/// Explains that a task could not run because of the culprit. `way_out` is the command that is
/// proposed for the culprit itself.
fn because_of(culprit: &Task, way_out: Option<String>) -> String {
    let because = format!("it could not run because of {}", called(culprit));
    let Some(end) = culprit.end() else {
        return format!("{because}, which runs again");
    };
    let ended = match end.outcome {
        Outcome::Succeeded => "has succeeded",
        Outcome::Failed => "has failed",
        Outcome::TimedOut => "timed out",
        Outcome::Cancelled => "was cancelled",
        Outcome::Skipped => "was skipped",
        Outcome::UpstreamFailed => "could not run either",
        Outcome::Lost => "was lost",
    };
    let (command, effect) = if let Some(step) = steps(culprit).into_iter().next() {
        (step.command, "merges that task's changes".to_owned())
    } else {
        let command = way_out.unwrap_or_else(|| format!("claudine retry {:#}", culprit.id));
        let effect = effect_of(&command, "that task");
        (command, effect)
    };
    format!("{because}, which {ended}; `{command}` {effect} and revives this task")
}

/// What a suggested `retry` or `resume` does with its task.
fn effect_of(command: &str, task: &str) -> String {
    if command.starts_with("claudine resume ") {
        format!("continues {task}")
    } else {
        format!("runs {task} again")
    }
}

fn because_of_forgotten(culprit: TaskId) -> String {
    format!(
        "it could not run because of {culprit:#}, which is no longer stored; submit this task again to run it"
    )
}

/// The holders of a task, and how to release it.
fn held(task: &Task) -> String {
    let (id, by) = (task.id, held_by(task));
    let Some(taken_at) = task.restored_from else {
        return format!("held by {by}; release it with `claudine release {id:#}`");
    };
    // `--restored` does not release a task that is also held by somebody.
    if !task.holders.is_empty() {
        return format!("{by}; release it with `claudine release {id:#}`");
    }
    format!(
        "restored from a backup of {} and held, so that two hosts do not do the same work; release it with `claudine release {id:#}`, or all restored tasks with `claudine release --restored`",
        rfc3339(taken_at)
    )
}

/// The attempts that somebody other than the submitter has requested, the last ones if there are
/// many.
fn requests(task: &Task) -> impl Iterator<Item = String> {
    let submitter = &task.request.by;
    let newest = task.last_attempt().map_or(0, |last| last.number);
    let mut told = Vec::new();
    for (index, Requested { from_attempt, by }) in task.requested.iter().enumerate() {
        if by.is_same_as(submitter) {
            continue;
        }
        let next = task.requested.get(index + 1);
        let last = next.map_or(newest, |next| next.from_attempt - 1);
        told.push(if last > *from_attempt {
            format!("attempts {from_attempt} to {last} were requested by {by}")
        } else {
            format!("attempt {from_attempt} was requested by {by}")
        });
    }
    let earlier = told.len().saturating_sub(REQUESTS_SHOWN);
    told.into_iter().skip(earlier)
}

/// The money that an unfinished task and its graph have spent, and the budgets.
fn budgets(task: &Task, graph: Option<Level>) -> impl Iterator<Item = String> {
    let own = task.request.budget_micro_usd.map(|budget_micro_usd| Level {
        spent_micro_usd: spent_by(&task.attempts),
        budget_micro_usd,
    });
    let own = own.map(|level| format!("the task has spent {level}"));
    let graph = graph.map(|level| format!("the task's graph has spent {level}"));
    let is_open = !task.is_done();
    own.into_iter().chain(graph).filter(move |_| is_open)
}

/// Name and id of a task.
fn called(task: &Task) -> String {
    match &task.request.name {
        Some(name) => format!("{name} ({:#})", task.id),
        None => format!("{:#}", task.id),
    }
}

fn blocked(upstream: &[(Condition, Task)], more: usize) -> Vec<String> {
    let mut reasons: Vec<String> = upstream
        .iter()
        .map(|(condition, task)| {
            let end = match condition {
                Condition::Succeeded => "to succeed",
                Condition::Completed => "to finish",
                Condition::Any => "to end",
            };
            let now = if unrecorded::is_marked(task) {
                "ended, but nobody has recorded how"
            } else {
                task.state.as_str()
            };
            format!("waiting for {} {end} (now {now})", called(task))
        })
        .collect();
    if more > 0 {
        reasons.push(format!("and for {more} more"));
    }
    reasons
}

fn retried(task: &Task, until: Timestamp) -> String {
    let last = task.last_attempt();
    let ended = last.and_then(|last| last.ended.as_ref());
    let reason = ended.and_then(|ended| ended.reason.as_ref());
    let number = last.map_or(0, |last| last.number);
    let detail = reason.map_or(String::new(), |reason| format!(" ({})", reason.message));
    let is_next_day = |ended: &&Ended| ended.cost_is_unknown && until == Day::of(ended.at).end();
    let rest = ended.filter(is_next_day).map_or(
        "",
        |_| ", because its cost is unknown and may be all that was left of the day's budget",
    );
    let until = rfc3339(until);
    format!("attempt {number} failed{detail}; retry at {until}{rest}")
}

fn since_text(since: Timestamp) -> String {
    rfc3339(since)
}

/// Whether nothing of the task's attempt is alive, according to its supervisor.
fn is_over(task: &Task) -> bool {
    task.last_attempt().is_some_and(|last| last.is_over)
}

fn running(phase: &Phase) -> String {
    match phase {
        Phase::Preparing => {
            "preparing: setting up its worktree, or waiting for another agent to start, or for room \
             on the machine"
                .to_owned()
        }
        Phase::Settling => "ended; committing, merging or pushing its changes".to_owned(),
        Phase::Assigned | Phase::Starting => "starting, no output yet".to_owned(),
        Phase::Live => "running".to_owned(),
        Phase::Stopping(why) => format!("stopping: {}", stop_word(why)),
        Phase::Finishing => "finishing: reading the last output, ending its processes, and \
             looking at its files with git"
            .to_owned(),
    }
}

/// Describes a running task while no host runs. Steps that only a host can take wait for the next
/// host.
fn running_without_host(phase: &Phase, is_unrecorded: bool, is_out_of_sight: bool) -> String {
    let what = match phase {
        _ if is_unrecorded => {
            "its process has ended; the next host reads the rest of its output and records the end"
        }
        Phase::Preparing => "it was being prepared when the host ended; the next host continues",
        Phase::Finishing => "it was finishing when the host ended; the next host continues",
        Phase::Starting | Phase::Live | Phase::Stopping(_) if is_out_of_sight => {
            "it was running when the host ended; its processes are in another container or \
             namespace, so whether they still run cannot be seen from here"
        }
        Phase::Settling => {
            "it has ended; the next host commits, merges or pushes the task's changes"
        }
        Phase::Assigned | Phase::Starting | Phase::Live | Phase::Stopping(_) => {
            return running(phase);
        }
    };
    format!("{what} (`claudine up` starts a host)")
}

pub(super) fn stop_word(why: &StopWhy) -> String {
    match why {
        StopWhy::Cancelled {
            reason: Some(reason),
        } => format!("cancelled ({reason})"),
        StopWhy::Cancelled { reason: None } => "cancelled".to_owned(),
        StopWhy::Timeout => "time limit reached".to_owned(),
        StopWhy::PrepareTimeout => "setup timed out".to_owned(),
        StopWhy::SettleTimeout => "merging its changes timed out".to_owned(),
        StopWhy::StartTimeout => "no output within the start timeout".to_owned(),
        StopWhy::IdleTimeout => "no output within the idle timeout".to_owned(),
        StopWhy::Budget { message } => message.clone(),
    }
}

fn queued(queue: &QueueView, refusal: Option<&Refusal>) -> Vec<String> {
    let kept: Vec<String> = queue.reasons().collect();
    if !kept.is_empty() {
        return kept;
    }
    match refusal {
        Some(refusal) => vec![refusal_text(refusal)],
        None => vec!["about to start".to_owned()],
    }
}

pub(super) fn refusal_text(refusal: &Refusal) -> String {
    match refusal {
        Refusal::Slots { running, slots } => format!("all slots are taken: {running} of {slots}"),
        Refusal::Cpu {
            in_use,
            allowed,
            cores,
            ..
        } => format!(
            "CPU busy: {in_use:.1} of {cores} cores; new tasks start below {allowed:.1}; if other programs cause the load, the first in line starts after {} s",
            PATIENCE.as_secs()
        ),
        Refusal::Memory {
            free_bytes,
            needed_bytes,
            reserve_bytes,
        } => format!(
            "memory short: {:.2} GiB available, {:.0} MiB needed, {:.2} GiB reserved",
            *free_bytes as f64 / GIB,
            *needed_bytes as f64 / MIB,
            *reserve_bytes as f64 / GIB
        ),
        Refusal::NeverFits {
            needed_bytes,
            total_bytes,
        } => format!(
            "memory: {:.2} GiB needed, more than the {:.2} GiB of this machine",
            *needed_bytes as f64 / GIB,
            *total_bytes as f64 / GIB
        ),
        Refusal::Ramp { settling } => format!(
            "{settling} attempts have just started, or begun to be prepared, and their usage is not known yet; more start within {} s, or once one of them ends",
            SETTLING.as_secs()
        ),
        Refusal::Preparing {
            preparing,
            by_restrained,
        } => {
            let whose = if *by_restrained {
                "MCP clients"
            } else {
                "people"
            };
            format!(
                "{preparing} tasks of {whose} are being prepared, some of them for long (`claudine list --state preparing`); more of them start once one of these is prepared or ends"
            )
        }
        Refusal::MemoryStall { percent } => {
            format!(
                "memory pressure: {percent:.0} % of the last ten seconds spent waiting for memory"
            )
        }
        Refusal::Disk {
            free_bytes,
            reserve_bytes,
        } => format!(
            "disk full: {:.2} GiB free, {:.2} GiB reserved (CLAUDINE_DISK_RESERVE)",
            *free_bytes as f64 / GIB,
            *reserve_bytes as f64 / GIB
        ),
        Refusal::Inodes { free } => format!(
            "disk full: {free} inodes free, {START_INODES} needed for new files; remove files from the disk of the data directory (`df -i`)"
        ),
        Refusal::Group {
            group,
            running,
            most,
        } => {
            format!("group `{group}` is full ({running} of {most})")
        }
        Refusal::Paused { since } => paused_text(&rfc3339(*since)),
        Refusal::GroupPaused { group } => {
            format!(
                "group `{group}` is paused; lift the pause with `claudine unpause {}`",
                shell_word(group)
            )
        }
        Refusal::DailyBudget { level, until } => format!(
            "budget: agents have spent {level} today (budget.daily_usd); the next day begins at {}",
            rfc3339(*until)
        ),
        Refusal::SerialStart { .. } => "waiting for another agent to finish starting".to_owned(),
        Refusal::Probing { .. } => "account at a usage limit; another task tries first".to_owned(),
        Refusal::NoRoom => {
            "the last start failed, because the machine or the limits of the host leave no \
             descriptors, processes or memory; the host tries again shortly. If this persists, \
             raise `ulimit -n` and `ulimit -u`, and start the host again"
                .to_owned()
        }
        Refusal::NoCode { executor, why } => {
            format!("plugin {executor} cannot be used at the moment: {why}; {TRIED_AGAIN}")
        }
        Refusal::EndsFirst { executor } => format!(
            "the costs of other agents that have ended are recorded first, as soon as plugin \
             {executor} has told them"
        ),
        Refusal::NoReading => "the machine has not been measured yet".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use claudine_domain::{
        attempt::Attempt,
        principal::{Principal, Via},
    };

    use super::*;
    use crate::store::sample_task;

    #[test]
    fn attempts_requested_by_others_are_named() {
        let chat = || {
            Arc::new(Principal {
                via: Via::Mcp,
                restrained: true,
                ..Principal::default()
            })
        };
        let check = |from: &[(u32, Arc<Principal>)], attempts: u32, expected: &[&str]| {
            let mut task = sample_task(1);
            let made = (1..=attempts).map(|number| Attempt::new(number, Timestamp(0)));
            task.attempts = made.collect();
            let requested = from.iter().map(|(from_attempt, by)| Requested {
                from_attempt: *from_attempt,
                by: by.clone(),
            });
            task.requested = requested.collect();
            let found = why(&task, InTheWay::default()).reasons;
            let found: Vec<&String> = found
                .iter()
                .filter(|reason| reason.contains("requested by"))
                .collect();
            assert_eq!(found, expected);
        };
        check(&[], 2, &[]);
        let second = "attempt 2 was requested by owner via mcp";
        // The second attempt has yet to begin.
        check(&[(2, chat())], 1, &[second]);
        check(&[(2, chat())], 2, &[second]);
        check(
            &[(2, chat())],
            4,
            &["attempts 2 to 4 were requested by owner via mcp"],
        );
        check(&[(2, chat()), (3, Arc::default())], 4, &[second]);
    }

    #[test]
    fn task_that_waits_for_preparations_is_told_whose_they_are() {
        let check = |by_restrained: bool, expected: &str| {
            let text = refusal_text(&Refusal::Preparing {
                preparing: 8,
                by_restrained,
            });
            assert!(text.starts_with(expected), "{text}");
        };
        check(true, "8 tasks of MCP clients are being prepared");
        check(false, "8 tasks of people are being prepared");
    }

    #[test]
    fn only_a_supervisor_that_does_nothing_halts_a_running_task() {
        let check = |halted: Option<&str>, is_unreached: bool, expected: Option<&str>| {
            let mut task = sample_task(1);
            task.state = State::Running {
                phase: Phase::Live,
                since: Timestamp(0),
            };
            let in_the_way = InTheWay {
                held_back: Some("the server of the disk cannot be reached".to_owned()),
                is_unreached,
                halted_supervisor: halted.map(str::to_owned),
                ..InTheWay::default()
            };
            let why = why(&task, in_the_way);
            assert_eq!(why.halted.as_deref(), expected);
            assert!(expected.is_none_or(|halted| why.reasons.iter().any(|it| it == halted)));
        };
        let stopped = "the supervisor is stopped by a signal";
        check(None, false, None);
        check(None, true, Some("the server of the disk cannot be reached"));
        check(Some(stopped), false, Some(stopped));
        check(Some(stopped), true, Some(stopped));
    }

    #[test]
    fn a_plugin_that_cannot_be_used_keeps_a_running_task_from_ending() {
        let mut task = sample_task(1);
        task.state = State::Running {
            phase: Phase::Live,
            since: Timestamp(0),
        };
        let said = "plugin shell cannot be used at the moment".to_owned();
        let in_the_way = InTheWay {
            without_plugin: Some(said.clone()),
            ..InTheWay::default()
        };
        let why = why(&task, in_the_way);
        assert!(why.reasons.contains(&said), "{:?}", why.reasons);
        assert_eq!(why.halted, Some(said));
    }

    #[test]
    fn a_task_without_a_slot_names_the_ended_tasks_that_take_slots() {
        let mut task = sample_task(1);
        task.state = State::Ready {
            since: Timestamp(0),
            clock: None,
        };
        let said = "one of the slots is taken by a task that has ended".to_owned();
        let in_the_way = InTheWay {
            refusal: Some(Refusal::Slots {
                running: 1,
                slots: 1,
            }),
            taken_by_ended: Some(said.clone()),
            ..InTheWay::default()
        };
        let reasons = why(&task, in_the_way).reasons;
        assert_eq!(reasons, ["all slots are taken: 1 of 1", said.as_str()]);
    }

    #[test]
    fn a_plugin_that_cannot_be_used_keeps_a_queued_task_from_starting() {
        let mut task = sample_task(1);
        task.state = State::Running {
            phase: Phase::Assigned,
            since: Timestamp(0),
        };
        let said = "plugin shell cannot be used at the moment".to_owned();
        let check = |refusal: Option<Refusal>, expected: usize| {
            let in_the_way = InTheWay {
                without_plugin: Some(said.clone()),
                refusal,
                ..InTheWay::default()
            };
            let why = why(&task, in_the_way);
            let about_it = why.reasons.iter().filter(|reason| reason.contains(&said));
            assert_eq!(about_it.count(), 1, "{:?}", why.reasons);
            assert_eq!(why.reasons.len(), expected, "{:?}", why.reasons);
            assert_eq!(why.reasons.last(), Some(&said));
            assert_eq!(why.halted.as_ref(), Some(&said));
        };
        let slots = Refusal::Slots {
            running: 1,
            slots: 1,
        };
        check(Some(slots), 2);
        let no_code = Refusal::NoCode {
            executor: "shell".into(),
            why: "the disk is full".into(),
        };
        check(Some(no_code), 1);
    }

    #[test]
    fn a_task_that_waits_for_the_next_day_because_of_an_unknown_cost_says_so() {
        let says = |cost_is_unknown: bool, until: Timestamp| {
            let mut task = sample_task(1);
            task.attempts = vec![Attempt {
                ended: Some(Ended {
                    cost_is_unknown,
                    ..Ended::new(Timestamp(5_000), Outcome::Failed)
                }),
                ..Attempt::new(1, Timestamp(0))
            }];
            task.state = State::Waiting {
                until,
                why: WaitingFor::Retry,
            };
            let reason = why(&task, InTheWay::default()).reasons.remove(0);
            assert!(reason.contains("; retry at 1970-01-0"), "{reason}");
            reason.ends_with("all that was left of the day's budget")
        };
        let midnight = Day(0).end();
        assert!(says(true, midnight));
        assert!(!says(false, midnight));
        assert!(!says(true, Timestamp(6_000)));
    }

    #[test]
    fn a_task_that_is_being_stopped_names_the_processes_that_cannot_be_ended() {
        let mut task = sample_task(1);
        task.state = State::Running {
            since: Timestamp(0),
            phase: Phase::Stopping(StopWhy::Cancelled { reason: None }),
        };
        let in_the_way = InTheWay {
            unendable: Some("process 8 cannot be ended now".to_owned()),
            ..InTheWay::default()
        };
        assert_eq!(
            why(&task, in_the_way).reasons,
            ["stopping: cancelled", "process 8 cannot be ended now"]
        );
    }
}

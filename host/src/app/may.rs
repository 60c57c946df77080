//! Decides which principal may perform which action. This is the only place where this is decided,
//! except that [`ceiling`](crate::ceiling) checks a task also at the start of each attempt.
//!
//! Every action that changes something asks [`may`] first. A *restrained* principal (see
//! [`Principal`](claudine_domain::principal::Principal)) is subject to the settings for MCP
//! clients: its request is checked with all defaults applied, and refused if its effect would
//! exceed the settings. The refusal names the reason and the setting that a person can change.

use claudine_domain::{
    board::Bounds, outcome::Outcome, principal::Principal, task::Task, worktree::MergeStrategy,
};

use super::error::{AppError, ErrorKind};
use crate::{
    ceiling::{
        is_of_others, way,
        work::{Work, may_merge, within},
    },
    config::McpCeiling,
    units::size_word,
};

/// An action on tasks or on the host.
#[derive(Clone, Copy, Debug)]
pub(super) enum Verb<'a> {
    Submit(Work<'a>),
    Retry(Work<'a>),
    Resume(Work<'a>),
    Cancel,
    Hold,
    Release,
    /// Merge the worktree of a finished task, or resolve its conflicts.
    Merge(MergeStrategy),
    CleanWorktrees,
    SetGroup,
    SetSlots,
    Pause,
    ForgetProfiles,
    /// Read the environments of tasks, which a backup may contain.
    ReadEnvironments,
    GoDown,
    LiftDrain,
}

/// Decides whether a principal may perform an action. `task` is the task that the action concerns,
/// if there is one.
pub(super) fn may(
    by: &Principal,
    verb: Verb<'_>,
    task: Option<&Task>,
    ceiling: &McpCeiling,
) -> Result<(), AppError> {
    match verb {
        Verb::Submit(work) | Verb::Retry(work) | Verb::Resume(work) if by.restrained => {
            within(by, ceiling, work)?;
            // Each attempt works in the worktree of its task, and may commit what is there.
            let command = if matches!(verb, Verb::Resume(_)) {
                "resume"
            } else {
                "retry"
            };
            match task.filter(|task| work.merge.is_some() && !task.attempts.is_empty()) {
                Some(task) => keeps_out(by, Some(task), command),
                None => Ok(()),
            }
        }
        Verb::Merge(strategy) if by.restrained => {
            keeps_out(by, task, "worktree merge")?;
            may_merge(by, ceiling, strategy).map_err(AppError::from)
        }
        Verb::CleanWorktrees
        | Verb::SetGroup
        | Verb::SetSlots
        | Verb::Pause
        | Verb::ForgetProfiles
        | Verb::ReadEnvironments
            if by.restrained =>
        {
            Err(persons(by, verb))
        }
        // An attempt of a command task may do what the task's submitter may do, but may not shut
        // down the host that runs the attempt.
        Verb::GoDown | Verb::LiftDrain if !by.is_person() => Err(persons(by, verb)),
        Verb::Release => match task {
            Some(task) if !task.may_be_released_by(by) => Err(held(by, task)),
            _ => Ok(()),
        },
        Verb::Submit(_)
        | Verb::Retry(_)
        | Verb::Resume(_)
        | Verb::Cancel
        | Verb::Hold
        | Verb::Merge(_)
        | Verb::CleanWorktrees
        | Verb::SetGroup
        | Verb::SetSlots
        | Verb::Pause
        | Verb::ForgetProfiles
        | Verb::ReadEnvironments
        | Verb::GoDown
        | Verb::LiftDrain => Ok(()),
    }
}

/// Number of attempts of a task that restrained principals may request together, if somebody less
/// restrained submitted the task. Each attempt of an agent costs money.
const ATTEMPTS_OF_RESTRAINED: usize = 3;

/// Decides whether a restrained principal may run a finished task again. Others rely on the end of
/// a task that somebody less restrained submitted, so such a task runs again only as it is, and
/// only if it did not succeed. Nor does it run again if restrained principals have requested enough
/// of its attempts, or if the attempt would use up what its submitter needs for attempts of their
/// own: a budget, or one of the last attempts that a task may have. `is_changed` is whether the
/// principal gives instructions or changes.
pub(super) fn may_end_anew(by: &Principal, task: &Task, is_changed: bool) -> Result<(), AppError> {
    let Some(end) = task.end().filter(|_| is_of_others(by, task)) else {
        return Ok(());
    };
    let (id, submitter, way) = (task.id, &task.request.by, way(by));
    let refused = |message: String, hint: String| {
        Err(AppError::new(ErrorKind::Forbidden, message).hint(hint))
    };
    if end.outcome == Outcome::Succeeded {
        return refused(
            format!(
                "task {id:#} of {submitter} has succeeded, and others may rely on its end, so it may not be run again {way}"
            ),
            format!(
                "submit a new task; a person can run this one again with `claudine retry {id:#}`"
            ),
        );
    }
    if is_changed {
        return refused(
            format!(
                "task {id:#} of {submitter} may be run again {way} only as it is, without instructions or changes"
            ),
            format!(
                "leave them out, or submit a new task; a person can continue this one with `claudine resume {id:#}`"
            ),
        );
    }
    let has_budget = task.request.budget_micro_usd.is_some() || task.request.graph_budget.is_some();
    let most = Bounds::default().attempts;
    let of_restrained = requested_by_restrained(task);
    let why = if has_budget && !task.attempts.is_empty() {
        format!("another attempt would spend the budget of {submitter}")
    } else if of_restrained >= ATTEMPTS_OF_RESTRAINED {
        format!(
            "MCP clients and agents have already caused {of_restrained} of its attempts; {ATTEMPTS_OF_RESTRAINED} is the limit"
        )
    } else if task.attempts.len() >= most / 2 {
        format!(
            "it has had {} of the {most} attempts that a task may have, and the others are left to {submitter}",
            task.attempts.len()
        )
    } else {
        return Ok(());
    };
    refused(
        format!("task {id:#} of {submitter} may not be run again {way}: {why}"),
        format!("submit a new task; a person can run this one again with `claudine retry {id:#}`"),
    )
}

/// Number of the task's attempts that restrained principals have requested.
fn requested_by_restrained(task: &Task) -> usize {
    let attempts = task.attempts.iter().filter(|attempt| !attempt.by_hand);
    attempts
        .filter(|attempt| task.requester_of(attempt.number).restrained)
        .count()
}

/// Decides whether a restrained principal may change a finished task before it runs again. Once
/// somebody unrestrained has changed the task, the changes stand: they may be limits for this
/// principal.
pub(super) fn may_change(by: &Principal, task: &Task) -> Result<(), AppError> {
    let Some(reviser) = task.unrestrained_reviser().filter(|_| by.restrained) else {
        return Ok(());
    };
    let id = task.id;
    let message = format!(
        "{reviser} has changed task {id:#}, so it may be run again {} only without further changes",
        way(by)
    );
    Err(AppError::new(ErrorKind::Forbidden, message).hint(format!(
        "leave them out, or submit a new task; a person can change this one with `claudine retry {id:#}`"
    )))
}

/// Decides whether a restrained principal may start a task that waits for a time. A start time that
/// somebody else has set, perhaps because something must not happen before, is kept. So is each
/// other wait of a task that somebody less restrained submitted: without the wait, the task could
/// use up its retries while the cause of its failures lasts.
pub(super) fn may_hasten(by: &Principal, task: &Task) -> Result<(), AppError> {
    let (id, request) = (task.id, &task.request);
    let waits_for_its_start = request.start_at.is_some() && task.attempts.is_empty();
    if by.restrained && waits_for_its_start && !request.by.is_same_as(by) {
        return Err(forbidden_to(format!(
            "the start time of {id:#} was set by somebody else, and may not be changed {}",
            way(by)
        )));
    }
    if is_of_others(by, task) {
        return Err(forbidden_to(format!(
            "task {id:#} of {} waits until its time, and may not be started earlier {}",
            request.by,
            way(by)
        )));
    }
    Ok(())
}

/// Refuses a principal that would commit in the worktree of somebody less restrained, or remove it,
/// because somebody may be working there. `task` is `None` if the task is no longer stored, so that
/// nobody knows whose worktree it is. `command` is what a person can run instead.
fn keeps_out(by: &Principal, task: Option<&Task>, command: &str) -> Result<(), AppError> {
    let (whose, hint) = match task {
        Some(task) if !is_of_others(by, task) => return Ok(()),
        Some(task) => {
            let (id, submitter) = (task.id, &task.request.by);
            (
                format!("of task {id:#} belongs to {submitter}, who may be working there"),
                format!("a person can do that with `claudine {command} {id:#}`"),
            )
        }
        None => (
            "belongs to a task that is no longer stored, and perhaps to a person".to_owned(),
            format!("a person can do that with `claudine {command}`"),
        ),
    };
    let message = format!(
        "the worktree {whose}, so a request {} may neither commit in it nor remove it",
        way(by)
    );
    Err(AppError::new(ErrorKind::Forbidden, message).hint(hint))
}

/// Decides whether a restrained principal may request this output limit for a task. `most` is the
/// limit of the host's settings.
pub(super) fn may_keep_output(
    by: &Principal,
    asked: Option<u64>,
    most: u64,
) -> Result<(), AppError> {
    let Some(asked) = asked.filter(|asked| by.restrained && *asked > most) else {
        return Ok(());
    };
    let message = format!(
        "an output limit of {} may not be requested {}; the most is {}",
        size_word(asked),
        way(by),
        size_word(most)
    );
    Err(AppError::new(ErrorKind::Forbidden, message)
        .hint("a person can allow it: max_output in the configuration file"))
}

fn held(by: &Principal, task: &Task) -> AppError {
    let message = format!(
        "task {:#} is held by {}; {by} may not release it",
        task.id,
        super::present::held_by(task)
    );
    AppError::new(ErrorKind::Forbidden, message)
        .hint("a person can release it with `claudine release`, outside of any task")
}

/// The refusal of an action that is reserved for persons.
fn persons(by: &Principal, verb: Verb<'_>) -> AppError {
    let what = match verb {
        Verb::CleanWorktrees => "remove worktrees",
        Verb::SetGroup => "change groups",
        Verb::SetSlots => "set the limit of concurrent tasks",
        Verb::Pause => "pause the queue or lift its pause",
        Verb::ForgetProfiles => "discard measurements",
        Verb::ReadEnvironments => "read the environments of tasks",
        Verb::GoDown => "end the host",
        Verb::LiftDrain => "lift a drain",
        Verb::Submit(_)
        | Verb::Retry(_)
        | Verb::Resume(_)
        | Verb::Cancel
        | Verb::Hold
        | Verb::Release
        | Verb::Merge(_) => "do this",
    };
    forbidden_to(format!("{by} may not {what}"))
}

/// The refusal of an action that is always reserved for persons, regardless of the settings.
pub(super) fn forbidden_to(message: String) -> AppError {
    AppError::new(ErrorKind::Forbidden, message)
        .hint("a person can do that at a terminal, outside of any task")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::{collections::BTreeSet, sync::Arc};

    use claudine_domain::{
        attempt::{Attempt, Ended},
        budget::GraphBudget,
        id::TaskId,
        outcome::{Reason, ReasonClass},
        principal::{Authority, Kind, Via},
        revision::{Requested, Revised},
        session::Session,
        task::Class,
        task::State,
    };

    use super::*;
    use crate::{
        ceiling::{
            may_interrupt,
            session::{may_continue, session_continued},
            work::may_ask_for_mode,
        },
        store::sample_task,
    };

    const AGENT: Kind = Kind::Agent { task: None };

    fn by(kind: Kind, via: Via, restrained: bool) -> Principal {
        Principal {
            kind,
            name: None,
            via,
            restrained,
        }
    }

    /// Each kind of principal, with its name in the tables of these tests.
    fn principals() -> Vec<(&'static str, Principal)> {
        let task = Some(TaskId::new(0, 7));
        vec![
            ("owner", Principal::default()),
            ("rest", by(Kind::Owner, Via::Rest, false)),
            ("command", by(Kind::Agent { task }, Via::Cli, false)),
            ("chat", by(Kind::Owner, Via::Mcp, true)),
            ("agent", by(Kind::Agent { task }, Via::Cli, true)),
            ("nested", by(Kind::Agent { task }, Via::Mcp, true)),
            ("stranger", by(AGENT, Via::Rest, true)),
        ]
    }

    fn smallest() -> McpCeiling {
        McpCeiling {
            executors: vec!["claude".to_owned()],
            max_permission_mode: "plan".to_owned(),
            merge_strategies: vec![MergeStrategy::Manual],
            extras: Vec::new(),
            env: Vec::new(),
            directories: vec!["/".to_owned()],
        }
    }

    fn work<'a>(executor: &'a str, authority: &'a Authority) -> Work<'a> {
        let class = match executor {
            "shell" => Class::Command,
            _ => Class::Agent,
        };
        Work {
            executor,
            class,
            authority,
            merge: None,
            spec: "{}",
        }
    }

    const EVERYBODY: &[&str] = &[
        "owner", "rest", "command", "chat", "agent", "nested", "stranger",
    ];
    const UNRESTRAINED: &[&str] = &["owner", "rest", "command"];
    const PERSONS: &[&str] = &["owner", "rest"];

    #[test]
    fn each_principal_may_do_only_the_actions_that_the_table_allows() {
        let read = Authority::of_words("read", []);
        let edit = Authority::of_words("edit", []);
        let network = Authority::of_words("read", ["network"]);
        let full = Authority::default();
        let merging = |merge| Work {
            merge: Some(merge),
            ..work("claude", &read)
        };
        let table: Vec<(&str, Work<'_>, &[&str])> = vec![
            ("within", work("claude", &read), EVERYBODY),
            ("step", work("claude", &edit), UNRESTRAINED),
            ("extra", work("claude", &network), UNRESTRAINED),
            ("full", work("claude", &full), UNRESTRAINED),
            ("executor", work("shell", &full), UNRESTRAINED),
            ("manual", merging(MergeStrategy::Manual), EVERYBODY),
            ("auto", merging(MergeStrategy::Auto), UNRESTRAINED),
            ("pr", merging(MergeStrategy::Pr), UNRESTRAINED),
        ];
        for (name, work, allowed) in table {
            for verb in [Verb::Submit(work), Verb::Retry(work), Verb::Resume(work)] {
                check(name, verb, None, allowed);
            }
        }
        for (name, verb, allowed) in [
            ("cancel", Verb::Cancel, EVERYBODY),
            ("hold", Verb::Hold, EVERYBODY),
            ("manual", Verb::Merge(MergeStrategy::Manual), UNRESTRAINED),
            ("auto", Verb::Merge(MergeStrategy::Auto), UNRESTRAINED),
            ("patch", Verb::Merge(MergeStrategy::Patch), UNRESTRAINED),
            ("clean", Verb::CleanWorktrees, UNRESTRAINED),
            ("group", Verb::SetGroup, UNRESTRAINED),
            ("slots", Verb::SetSlots, UNRESTRAINED),
            ("pause", Verb::Pause, UNRESTRAINED),
            ("forget", Verb::ForgetProfiles, UNRESTRAINED),
            ("environments", Verb::ReadEnvironments, UNRESTRAINED),
            ("down", Verb::GoDown, PERSONS),
            ("up", Verb::LiftDrain, PERSONS),
        ] {
            check(name, verb, None, allowed);
        }
    }

    fn check(name: &str, verb: Verb<'_>, task: Option<&Task>, allowed: &[&str]) {
        for (word, principal) in principals() {
            let decided = may(&principal, verb, task, &smallest());
            assert_eq!(
                decided.is_ok(),
                allowed.contains(&word),
                "{word} {name}: {decided:?}"
            );
            if let Err(error) = decided {
                assert_eq!(error.kind, ErrorKind::Forbidden);
                assert!(error.hint.unwrap().contains("a person"), "{name}");
            }
        }
    }

    fn of(word: &str) -> Principal {
        let mut all = principals().into_iter();
        all.find(|(name, _)| *name == word).unwrap().1
    }

    #[test]
    fn a_restrained_principal_runs_a_task_of_others_again_only_unchanged_after_a_failure() {
        let check = |submitter: &str, outcome: Outcome, is_changed: bool, allowed: &[&str]| {
            let mut task = sample_task(1);
            Arc::make_mut(&mut task.request).by = Arc::new(of(submitter));
            task.state = State::Done {
                at: task.created_at,
                outcome,
                reason: None,
                culprit: None,
            };
            for (word, principal) in principals() {
                let decided = may_end_anew(&principal, &task, is_changed);
                let context = format!("{word} {submitter} {outcome:?} {is_changed}");
                assert_eq!(decided.is_ok(), allowed.contains(&word), "{context}");
                if let Err(error) = decided {
                    assert_eq!(error.kind, ErrorKind::Forbidden, "{context}");
                    let hint = error.hint.unwrap();
                    assert!(hint.contains("submit a new task; a person can"), "{hint}");
                }
            }
        };
        for submitter in ["owner", "rest", "command"] {
            check(submitter, Outcome::Failed, false, EVERYBODY);
            check(submitter, Outcome::Cancelled, false, EVERYBODY);
            check(submitter, Outcome::Failed, true, UNRESTRAINED);
            check(submitter, Outcome::Succeeded, false, UNRESTRAINED);
            check(submitter, Outcome::Succeeded, true, UNRESTRAINED);
        }
        for submitter in ["chat", "agent", "nested", "stranger"] {
            check(submitter, Outcome::Succeeded, true, EVERYBODY);
        }
    }

    #[test]
    fn a_restrained_principal_leaves_the_budget_and_half_of_the_attempts_of_a_task_to_its_submitter()
     {
        let graph_budget = Some(GraphBudget {
            graph: TaskId::new(0, 1),
            micro_usd: 9,
        });
        let check = |submitter: &str,
                     (own, of_graph): (Option<u64>, Option<GraphBudget>),
                     attempts: u32,
                     why: Option<&str>| {
            let mut task = sample_task(1);
            let request = Arc::make_mut(&mut task.request);
            request.by = Arc::new(of(submitter));
            request.budget_micro_usd = own;
            request.graph_budget = of_graph;
            let numbers = 1..=attempts;
            task.attempts = numbers
                .map(|number| Attempt::new(number, task.created_at))
                .collect();
            let task = done(task);
            for (word, principal) in principals() {
                let decided = may_end_anew(&principal, &task, false);
                let context = format!("{word} {submitter} {own:?} {of_graph:?} {attempts}");
                let is_allowed = why.is_none() || UNRESTRAINED.contains(&word);
                assert_eq!(decided.is_ok(), is_allowed, "{context}");
                if let Err(error) = decided {
                    assert_eq!(error.kind, ErrorKind::Forbidden, "{context}");
                    assert!(error.message.contains(why.unwrap()), "{}", error.message);
                    let hint = error.hint.unwrap();
                    assert!(hint.contains("a person can run this one again"), "{hint}");
                }
            }
        };
        let (own, of_graph, none) = ((Some(9), None), (None, graph_budget), (None, None));
        let spends = Some("another attempt would spend the budget of");
        check("owner", own, 1, spends);
        check("owner", of_graph, 1, spends);
        // The submitter has asked for the first attempt.
        check("owner", own, 0, None);
        check("owner", of_graph, 0, None);
        let half = u32::try_from(Bounds::default().attempts / 2).unwrap();
        check("owner", none, half - 1, None);
        let last = format!("it has had {half} of the 2000 attempts that a task may have");
        check("owner", none, half, Some(&last));
        for submitter in ["chat", "agent"] {
            check(submitter, own, 1, None);
            check(submitter, of_graph, 1, None);
            check(submitter, none, half, None);
        }
    }

    #[test]
    fn restrained_principals_cause_only_a_few_attempts_of_a_task_of_others() {
        let check = |submitter: &str, requesters: &[&str], allowed: &[&str]| {
            let mut task = sample_task(1);
            Arc::make_mut(&mut task.request).by = Arc::new(of(submitter));
            for (number, requester) in (1..).zip(requesters) {
                task.attempts.push(Attempt::new(number, task.created_at));
                task.requested.push(Requested {
                    from_attempt: number,
                    by: Arc::new(of(requester)),
                });
            }
            let task = done(task);
            for (word, principal) in principals() {
                let decided = may_end_anew(&principal, &task, false);
                let context = format!("{word} {submitter} {requesters:?}: {decided:?}");
                assert_eq!(decided.is_ok(), allowed.contains(&word), "{context}");
                if let Err(error) = decided {
                    assert_eq!(error.kind, ErrorKind::Forbidden, "{context}");
                    let says = "have already caused 3 of its attempts; 3 is the limit";
                    assert!(error.message.contains(says), "{context}");
                    let hint = error.hint.unwrap();
                    assert!(hint.contains("a person can run this one again"), "{hint}");
                }
            }
        };
        for submitter in UNRESTRAINED {
            check(submitter, &["owner", "chat", "agent"], EVERYBODY);
            // Attempts of other clients count too, and a person's attempts in between do not reset
            // the number.
            let three = ["owner", "chat", "owner", "agent", "nested"];
            check(submitter, &three, UNRESTRAINED);
        }
        check("chat", &["chat", "chat", "agent", "chat"], EVERYBODY);
    }

    #[test]
    fn a_restrained_principal_does_not_change_a_task_that_somebody_unrestrained_has_changed() {
        let check = |revisers: &[&str], allowed: &[&str]| {
            let mut task = sample_task(1);
            Arc::make_mut(&mut task.request).by = Arc::new(of("chat"));
            let revised = (2..).zip(revisers).map(|(from_attempt, reviser)| Revised {
                from_attempt,
                differences: Vec::new(),
                by: Some(Arc::new(of(reviser))),
            });
            task.revised = revised.collect();
            for (word, principal) in principals() {
                let decided = may_change(&principal, &task);
                let context = format!("{word} {revisers:?}: {decided:?}");
                assert_eq!(decided.is_ok(), allowed.contains(&word), "{context}");
                if let Err(error) = decided {
                    assert_eq!(error.kind, ErrorKind::Forbidden, "{context}");
                    let says = "only without further changes";
                    assert!(error.message.contains(says), "{context}");
                    let hint = error.hint.unwrap();
                    assert!(hint.contains("a person can change this one"), "{hint}");
                }
            }
        };
        check(&[], EVERYBODY);
        check(&["chat", "agent"], EVERYBODY);
        for &reviser in UNRESTRAINED {
            check(&[reviser], UNRESTRAINED);
            check(&["chat", reviser, "agent"], UNRESTRAINED);
        }
    }

    #[test]
    fn a_restrained_principal_starts_before_its_time_only_a_task_of_restrained_principals() {
        let check = |submitter: &str, has_start: bool, allowed: &[&str]| {
            let mut task = sample_task(1);
            task.attempts.clear();
            let request = Arc::make_mut(&mut task.request);
            request.by = Arc::new(of(submitter));
            request.start_at = has_start.then_some(task.created_at);
            for (word, principal) in principals() {
                let decided = may_hasten(&principal, &task);
                let context = format!("{word} {submitter} {has_start}");
                assert_eq!(decided.is_ok(), allowed.contains(&word), "{context}");
                if let Err(error) = decided {
                    assert_eq!(error.kind, ErrorKind::Forbidden, "{context}");
                }
            }
        };
        for submitter in UNRESTRAINED {
            check(submitter, false, UNRESTRAINED);
            check(submitter, true, UNRESTRAINED);
        }
        check("chat", false, EVERYBODY);
        check("chat", true, &["owner", "rest", "command", "chat"]);
    }

    #[test]
    fn a_restrained_principal_commits_in_no_worktree_of_somebody_less_restrained() {
        let read = Authority::of_words("read", []);
        let in_worktree = Work {
            merge: Some(MergeStrategy::Manual),
            ..work("claude", &read)
        };
        let check = |verb: Verb<'_>, submitter: &str, begun: bool, allowed: &[&str]| {
            let mut task = sample_task(1);
            Arc::make_mut(&mut task.request).by = Arc::new(of(submitter));
            let attempt = Attempt::new(1, task.created_at);
            task.attempts = if begun { vec![attempt] } else { Vec::new() };
            for (word, principal) in principals() {
                let decided = may(&principal, verb, Some(&task), &McpCeiling::default());
                let context = format!("{word} {submitter} {begun} {verb:?}");
                assert_eq!(decided.is_ok(), allowed.contains(&word), "{context}");
                if let Err(error) = decided {
                    let says = "may neither commit in it nor remove it";
                    assert!(error.message.contains(says), "{}", error.message);
                    let command = match verb {
                        Verb::Merge(_) => "worktree merge",
                        Verb::Resume(_) => "resume",
                        _ => "retry",
                    };
                    let hint = error.hint.unwrap();
                    let says = format!("a person can do that with `claudine {command} ");
                    assert!(hint.contains(&says), "{hint}");
                }
            }
        };
        let merge = Verb::Merge(MergeStrategy::Patch);
        for submitter in ["owner", "rest", "command"] {
            check(merge, submitter, true, UNRESTRAINED);
            for again in [Verb::Retry(in_worktree), Verb::Resume(in_worktree)] {
                check(again, submitter, true, UNRESTRAINED);
                // The worktree of a task that has never begun does not exist.
                check(again, submitter, false, EVERYBODY);
            }
            let outside = Verb::Retry(work("claude", &read));
            check(outside, submitter, true, EVERYBODY);
        }
        for submitter in ["chat", "agent", "nested", "stranger"] {
            check(merge, submitter, true, EVERYBODY);
            check(Verb::Retry(in_worktree), submitter, true, EVERYBODY);
        }
        // Nobody knows whose task it was.
        for (word, principal) in principals() {
            let decided = may(&principal, merge, None, &McpCeiling::default());
            assert_eq!(decided.is_ok(), UNRESTRAINED.contains(&word), "{word}");
        }
    }

    #[test]
    fn a_restrained_principal_waits_until_somebody_less_restrained_has_resolved_a_merge() {
        let check = |resolver: Option<&str>, allowed: &[&str]| {
            let resolver = resolver.map(of);
            for (word, principal) in principals() {
                let decided = may_interrupt(&principal, TaskId::new(0, 1), resolver.as_ref());
                assert_eq!(decided.is_ok(), allowed.contains(&word), "{word}");
                if let Err(refusal) = decided {
                    assert!(refusal.hint.contains("--abort"));
                }
            }
        };
        check(None, EVERYBODY);
        check(Some("owner"), UNRESTRAINED);
        check(Some("command"), UNRESTRAINED);
        check(Some("chat"), EVERYBODY);
    }

    #[test]
    fn a_restrained_principal_continues_only_sessions_of_tasks_that_it_could_have_submitted() {
        let task = |submitter: &str, authority: Option<Authority>| {
            let mut task = done(with_sessions(&[Some("0b6b")], 9));
            let request = Arc::make_mut(&mut task.request);
            request.by = Arc::new(of(submitter));
            request.authority = authority.map(Arc::new);
            task
        };
        let read = || Some(Authority::of_words("read", []));
        let edit = || Some(Authority::of_words("edit", []));
        let check = |tasks: &[Task], allowed: &[&str], why: &str| {
            for (word, principal) in principals() {
                let decided = continued(&principal, tasks);
                assert_eq!(decided.is_ok(), allowed.contains(&word), "{word} {why}");
                if let Err(error) = decided {
                    assert!(error.message.contains(why), "{}", error.message);
                }
            }
        };
        check(&[task("chat", read())], EVERYBODY, "");
        check(&[], UNRESTRAINED, "no stored task of this host");
        let of_owner = task("owner", read());
        let both = [task("chat", read()), of_owner];
        check(&both, UNRESTRAINED, "it belongs to task");
        check(&[task("chat", edit())], UNRESTRAINED, "may do more");
        check(&[task("agent", None)], UNRESTRAINED, "may do more");
    }

    /// Whether a principal may let a task continue the session `0b6b`, which these tasks have
    /// reported or name.
    fn continued(by: &Principal, tasks: &[Task]) -> Result<(), AppError> {
        let tasks = tasks.iter().cloned().map(Ok);
        let decided = may_continue(by, "0b6b", tasks, &smallest());
        decided.map(drop).map_err(AppError::from)
    }

    /// A task of a client whose attempts have reported these sessions. The owner has requested the
    /// attempts from `owners` on.
    fn with_sessions(sessions: &[Option<&str>], owners: u32) -> Task {
        let mut task = sample_task(1);
        let request = Arc::make_mut(&mut task.request);
        request.by = Arc::new(of("chat"));
        request.authority = Some(Arc::new(Authority::of_words("read", [])));
        task.attempts = (1..)
            .zip(sessions)
            .map(|(number, session)| {
                let mut attempt = Attempt::new(number, task.created_at);
                attempt.session = session.map(|id| Session {
                    id: id.to_owned(),
                    model: None,
                });
                attempt
            })
            .collect();
        task.requested = vec![Requested {
            from_attempt: owners,
            by: Arc::new(of("owner")),
        }];
        task
    }

    fn done(mut task: Task) -> Task {
        task.state = State::Done {
            at: task.created_at,
            outcome: Outcome::Failed,
            reason: None,
            culprit: None,
        };
        task
    }

    #[test]
    fn a_restrained_principal_does_not_continue_a_session_that_somebody_less_restrained_has_continued()
     {
        let check = |task: Task, allowed: &[&str]| {
            for (word, principal) in principals() {
                let decided = continued(&principal, std::slice::from_ref(&task));
                assert_eq!(decided.is_ok(), allowed.contains(&word), "{word}: {task:?}");
                if let Err(error) = decided {
                    let says = "owner has continued it in task";
                    assert!(error.message.contains(says), "{}", error.message);
                }
            }
        };
        let own = Some("0b6b");
        check(done(with_sessions(&[own, own], 2)), UNRESTRAINED);
        check(done(with_sessions(&[own, own], 3)), EVERYBODY);
        // The owner's attempt has begun another session.
        check(done(with_sessions(&[own, Some("77aa")], 2)), EVERYBODY);
        // The owner's attempt may still report the session, or has not begun yet.
        check(done(with_sessions(&[own, None], 2)), UNRESTRAINED);
        check(with_sessions(&[own], 2), UNRESTRAINED);
    }

    #[test]
    fn a_restrained_principal_does_not_continue_a_session_that_a_task_of_others_is_to_continue() {
        let reported = || done(with_sessions(&[Some("0b6b")], 9));
        let check = |named: Task, allowed: &[&str], why: &str| {
            let tasks = [named, reported()];
            for (word, principal) in principals() {
                let decided = continued(&principal, &tasks);
                assert_eq!(decided.is_ok(), allowed.contains(&word), "{word} {why}");
                if let Err(error) = decided {
                    assert!(error.message.contains(why), "{}", error.message);
                }
            }
        };
        let naming = |session: &str, submitter: &str, sessions: &[Option<&str>]| {
            let mut task = with_sessions(sessions, 9);
            let request = Arc::make_mut(&mut task.request);
            request.by = Arc::new(of(submitter));
            request.resumes_session = Some(session.into());
            task.requested.clear();
            task
        };
        for submitter in UNRESTRAINED {
            let queued = naming("0b6b", submitter, &[]);
            check(queued.clone(), UNRESTRAINED, "is to continue it");
            let same = naming("0B6B", submitter, &[]);
            check(same, UNRESTRAINED, "is to continue it");
            // A task that was cancelled before its first attempt has not used the session.
            check(done(queued), EVERYBODY, "");
            let ran = done(naming("0b6b", submitter, &[None]));
            check(ran, UNRESTRAINED, "may have continued it");
            let elsewhere = done(naming("0b6b", submitter, &[Some("77aa")]));
            check(elsewhere, EVERYBODY, "");
        }
        check(naming("0b6b", "chat", &[]), EVERYBODY, "");
        // The owner runs a client's task again.
        let mut again = naming("0b6b", "chat", &[]);
        again.requested = vec![Requested {
            from_attempt: 1,
            by: Arc::new(of("owner")),
        }];
        check(again, UNRESTRAINED, "owner has continued it in task");
        // A task that only names the session does not make it known.
        let only = naming("0b6b", "chat", &[]);
        let refused = continued(&of("chat"), &[only]).unwrap_err();
        let says = "no stored task of this host has reported it";
        assert!(refused.message.contains(says), "{}", refused.message);
    }

    #[test]
    fn a_session_is_continued_by_request_or_after_a_failure_that_is_not_the_agents() {
        let check = |class: Option<ReasonClass>, is_resumed: bool, expected: Option<&str>| {
            let mut task = with_sessions(&[Some("0b6b"), Some("77aa"), None], 9);
            let ended = Ended {
                reason: class.map(|class| Reason::new(class, "x")),
                ..Ended::new(task.created_at, Outcome::Failed)
            };
            task.attempts[2].ended = Some(ended);
            let found = session_continued(&task.attempts, is_resumed);
            assert_eq!(found, expected, "{class:?}");
        };
        for class in [None, Some(ReasonClass::Exit), Some(ReasonClass::Network)] {
            check(class, true, Some("77aa"));
        }
        check(None, false, None);
        check(Some(ReasonClass::Exit), false, None);
        check(Some(ReasonClass::Network), false, Some("77aa"));
        check(Some(ReasonClass::Budget), false, Some("77aa"));
        assert_eq!(session_continued(&[], true), None);
        // An attempt that never began, because it was cancelled before, changes nothing.
        let mut task = with_sessions(&[Some("0b6b"), None], 9);
        let classes = [ReasonClass::Network, ReasonClass::Cancelled];
        for (attempt, class) in task.attempts.iter_mut().zip(classes) {
            attempt.ended = Some(Ended {
                reason: Some(Reason::new(class, "x")),
                never_began: class == ReasonClass::Cancelled,
                ..Ended::new(task.created_at, Outcome::Failed)
            });
        }
        assert_eq!(session_continued(&task.attempts, false), Some("0b6b"));
    }

    #[test]
    fn a_principal_that_may_only_read_cannot_merge() {
        let check = |mode: &str, expected: bool| {
            let chat = by(Kind::Owner, Via::Mcp, true);
            let ceiling = McpCeiling {
                max_permission_mode: mode.to_owned(),
                ..McpCeiling::default()
            };
            let read = Authority::of_words("read", []);
            let task = |executor, merge| Work {
                merge: Some(merge),
                ..work(executor, &read)
            };
            let mut own = sample_task(1);
            Arc::make_mut(&mut own.request).by = Arc::new(chat.clone());
            // A merge at the end of a task is refused as a later one is, whatever the executor.
            for verb in [
                Verb::Merge(MergeStrategy::Patch),
                Verb::Submit(task("claude", MergeStrategy::Patch)),
                Verb::Submit(task("shell", MergeStrategy::Patch)),
                Verb::Retry(task("claude", MergeStrategy::Patch)),
            ] {
                let decided = may(&chat, verb, Some(&own), &ceiling);
                assert_eq!(decided.is_ok(), expected, "{mode}: {decided:?}");
                if let Err(error) = decided {
                    let says = format!("may at most read (`{mode}`)");
                    assert!(error.message.contains(&says), "{}", error.message);
                    assert!(error.hint.unwrap().contains("mcp.max_permission_mode"));
                }
            }
            let manual = Verb::Submit(task("claude", MergeStrategy::Manual));
            may(&chat, manual, None, &ceiling).unwrap();
        };
        check("read", false);
        check("plan", false);
        check("acceptEdits", true);
        check("run", true);
        check("bypassPermissions", true);
    }

    #[test]
    fn a_hold_is_released_by_its_holder_and_by_persons() {
        let held_by = |holders: &[Principal]| {
            let mut task = sample_task(1);
            task.holders = holders.iter().cloned().map(Arc::new).collect();
            task
        };
        // Tasks that were held by older versions name no holder. Their holder was always a person.
        check("old", Verb::Release, Some(&held_by(&[])), PERSONS);
        let owners = held_by(&[Principal::default()]);
        check("owner", Verb::Release, Some(&owners), PERSONS);
        let chats = held_by(&[of("chat")]);
        check(
            "chat",
            Verb::Release,
            Some(&chats),
            &["owner", "rest", "chat"],
        );
        // An attempt is the same principal whether its agent runs a command or calls a tool.
        let agents = ["owner", "rest", "agent", "nested"];
        let one = held_by(&[of("agent")]);
        check("agent", Verb::Release, Some(&one), &agents);
        let both = held_by(&[Principal::default(), of("agent")]);
        check("both", Verb::Release, Some(&both), &agents);
    }

    #[test]
    fn a_refusal_names_the_reason_and_the_setting() {
        let check = |work: Work<'_>, ceiling: McpCeiling, message: &str, setting: &str| {
            let chat = by(Kind::Owner, Via::Mcp, true);
            let error = may(&chat, Verb::Submit(work), None, &ceiling).unwrap_err();
            assert!(error.message.contains(message), "{}", error.message);
            assert!(error.hint.unwrap().contains(setting));
        };
        let edit = Authority::of_words("edit", []);
        let full = Authority::default();
        check(
            work("claude", &edit),
            smallest(),
            "this task could change files (it sets no `permission_mode`, so its executor's default \
             applies); tasks submitted over MCP may at most read (`plan`)",
            "mcp.max_permission_mode",
        );
        let asked = r#"{"permission_mode": "plan", "allowed_tools": ["Bash"], "extra_args": ["--settings", "x"]}"#;
        check(
            Work {
                spec: asked,
                ..work("claude", &full)
            },
            McpCeiling::default(),
            "this task could do whatever the user can (permission mode `plan`, allowed_tools `Bash`, \
             extra_args `--settings x`)",
            "mcp.max_permission_mode",
        );
        let reach = Authority {
            extras: BTreeSet::from(["network".to_owned()]),
            ..Authority::of_words("read", [])
        };
        check(
            work("claude", &reach),
            smallest(),
            "this task has `network` in addition to permission to read",
            "mcp.extras",
        );
        check(
            work("docker", &reach),
            smallest(),
            "executor `docker` may not be used over MCP; allowed are: claude",
            "mcp.executors",
        );
        let nothing = McpCeiling {
            executors: Vec::new(),
            ..smallest()
        };
        check(
            work("docker", &reach),
            nothing,
            "executor `docker` may not be used over MCP; none is allowed",
            "mcp.executors",
        );
        let no_merge = McpCeiling {
            merge_strategies: Vec::new(),
            ..McpCeiling::default()
        };
        check(
            Work {
                merge: Some(MergeStrategy::Manual),
                ..work("claude", &edit)
            },
            no_merge,
            "merge strategy `manual` (the default) may not be used over MCP; none is allowed",
            "mcp.merge_strategies",
        );
        let marked =
            "{\"prompt\": \"\u{feff}\u{200b}\u{2060}/mcp\", \"permission_mode\": \"plan\"}";
        check(
            Work {
                spec: marked,
                ..work("claude", &full)
            },
            smallest(),
            "(permission mode `plan`, a prompt that begins with a slash command)",
            "mcp.max_permission_mode",
        );
    }

    #[test]
    fn a_restrained_principal_requests_no_higher_output_limit_than_the_settings_have() {
        let most = 1 << 30;
        let check = |asked: Option<u64>, allowed: &[&str]| {
            for (word, principal) in principals() {
                let decided = may_keep_output(&principal, asked, most);
                let context = format!("{word} {asked:?}: {decided:?}");
                assert_eq!(decided.is_ok(), allowed.contains(&word), "{context}");
                if let Err(error) = decided {
                    assert_eq!(error.kind, ErrorKind::Forbidden, "{context}");
                    let says = "the most is 1G";
                    assert!(error.message.contains(says), "{context}");
                    assert!(error.hint.unwrap().contains("max_output"), "{context}");
                }
            }
        };
        check(None, EVERYBODY);
        check(Some(most), EVERYBODY);
        check(Some(most + 1), UNRESTRAINED);
        check(Some(1 << 40), UNRESTRAINED);
    }

    #[test]
    fn a_mode_above_the_ceiling_is_refused_before_the_executor_is_asked() {
        let check = |by: &Principal, class: Class, spec: &str, expected: bool| {
            let decided = may_ask_for_mode(by, class, spec, &smallest());
            assert_eq!(decided.is_ok(), expected, "{spec}: {decided:?}");
            if let Err(error) = decided {
                assert!(error.hint.contains("mcp.max_permission_mode"));
            }
        };
        let chat = by(Kind::Owner, Via::Mcp, true);
        let full = r#"{"prompt": "x", "permission_mode": "bypassPermissions"}"#;
        let plan = r#"{"prompt": "x", "permission_mode": "plan"}"#;
        check(&chat, Class::Agent, full, false);
        check(&chat, Class::Agent, plan, true);
        check(&chat, Class::Agent, r#"{"permission_mode": "yolo"}"#, true);
        check(&chat, Class::Agent, r#"{"permission_mode": 5}"#, true);
        check(&chat, Class::Command, full, true);
        check(&Principal::default(), Class::Agent, full, true);
    }
}

//! Checks again, at the start of an attempt, what a restrained principal was allowed to request.
//!
//! Each host reads the executors' configuration again when it starts. A default that the user has
//! changed after the submission must not give a task more authority than its ceiling. The user may
//! also have lowered the ceiling. While a task waits, a person may continue a session that the task
//! would have continued or queue a task that is to continue it, or open a merge in its worktree.
//! Links on the way to its directory may change.

use std::{path::Path, sync::Arc};

use claudine_domain::{
    principal::{Authority, Principal},
    task::{Class, Request, Task},
    worktree::MergeStrategy,
};

use super::{
    directory::{ANSWERS_WITHIN, look_at},
    inputs::aside,
};
use crate::{
    ceiling::{
        Refusal, is_of_others, may_interrupt,
        places::Places,
        session::{SessionError, may_enter, may_go_on, session_continued, session_of},
        variables::may_set,
        work::{Told, Work, may_merge, told, within},
    },
    config::McpCeiling,
    engine::Launch,
    plugin::{Draft, Executor, Failure, GuestEnd, GuestTask},
    store::Store,
};

/// Refuses the attempt if a restrained principal submitted its task and the task could now do more
/// than was allowed at the submission. If a restrained principal has requested the attempt, and the
/// attempt starts (`is_limited`), it is also refused if the present settings would refuse the
/// request.
pub(super) async fn still_allowed(
    launch: &Launch,
    executor: &Executor,
    guest: &GuestTask,
    ceiling: &McpCeiling,
    is_limited: bool,
) -> Result<(), GuestEnd> {
    let request = &launch.task.request;
    let by = launch.task.requester_of(launch.attempt.number);
    let allowed = request.authority.as_deref();
    let allowed = allowed.filter(|_| request.by.restrained);
    if allowed.is_none() && !is_limited {
        return Ok(());
    }
    if is_limited {
        let set = request.set_variables.iter();
        may_set(by, ceiling, set.flat_map(|names| names.iter())).map_err(refused)?;
    }
    let now = authority(executor, guest, guest.spec.clone()).await;
    if let Some(allowed) = allowed
        && !allowed.covers(&now)
    {
        let message = format!(
            "the task could do more than when it was submitted ({now} instead of {allowed}), because its \
             executor's configuration has changed; submit the task again"
        );
        return Err(denied(message));
    }
    if !is_limited {
        return Ok(());
    }
    let check = |authority: &Authority, spec: &str| {
        let work = Work {
            executor: &request.executor,
            class: request.class,
            authority,
            merge: request.worktree.as_ref().map(|worktree| worktree.merge),
            spec,
        };
        within(by, ceiling, work).map_err(refused)
    };
    check(&now, &guest.spec)?;
    let previous = guest.previous.as_ref();
    let said = previous.and_then(|previous| previous.resume.as_deref());
    match said.map_or(Told::Nothing, |said| told(&guest.spec, said.as_bytes())) {
        Told::Nothing => Ok(()),
        Told::Document(told) => {
            let now = authority(executor, guest, told.clone()).await;
            check(&now, &told)
        }
        Told::Unknown => check(&Authority::full(), &guest.spec),
    }
}

/// The request of an attempt. If a restrained principal has requested the attempt (`is_limited`) of
/// a task of its own, the limit of the output is at most the limit of the present settings: the
/// attempt is not refused, because the task may have got its limit from the earlier settings.
pub(super) fn request_within(launch: &Launch, is_limited: bool, most_output: u64) -> Arc<Request> {
    let (task, mut request) = (&launch.task, launch.task.request.clone());
    let by = task.requester_of(launch.attempt.number);
    if is_limited && !is_of_others(by, task) && request.max_output_bytes > most_output {
        Arc::make_mut(&mut request).max_output_bytes = most_output;
    }
    request
}

/// Why the work of an attempt that a restrained principal has requested may not be merged, if the
/// settings of this host forbid it. The attempt may have begun under other settings, and under an
/// earlier host. `manual` merges nothing.
pub(super) fn merge_forbidden(task: &Task, number: u32, ceiling: &McpCeiling) -> Option<Refusal> {
    let by = task.requester_of(number);
    let strategy = task.request.worktree.as_ref()?.merge;
    if !by.restrained || strategy == MergeStrategy::Manual {
        return None;
    }
    may_merge(by, ceiling, strategy).err()
}

/// What the attempt could do if this were its document, as its executor states it.
async fn authority(executor: &Executor, guest: &GuestTask, spec: String) -> Authority {
    let draft = Draft {
        spec,
        env: guest.env.clone(),
        workspace: guest.workspace.clone(),
        labels: guest.labels.clone(),
    };
    Box::pin(executor.authority(&draft)).await
}

fn denied(message: String) -> GuestEnd {
    GuestEnd::Failed(Failure::new("permission", message))
}

fn refused(Refusal { message, hint }: Refusal) -> GuestEnd {
    denied(format!("{message}; {hint}"))
}

/// Refuses the start of an attempt that a restrained principal has requested, if somebody less
/// restrained (`resolver`) has opened a merge in the task's worktree to resolve conflicts. A new
/// request is checked in the same way, but the merge may have been opened since the request.
pub(super) fn worktree_still_free(
    launch: &Launch,
    resolver: Option<&Principal>,
) -> Result<(), GuestEnd> {
    let by = launch.task.requester_of(launch.attempt.number);
    may_interrupt(by, launch.task.id, resolver).map_err(refused)
}

/// Refuses the start of an attempt that a restrained principal has requested, if its directory is
/// now in a place of the host. The directory may be one of a branch.
pub(super) async fn place_still_allowed(
    launch: &Launch,
    places: &Arc<Places>,
    directory: &str,
) -> Result<(), GuestEnd> {
    let by = launch.task.requester_of(launch.attempt.number);
    let (by, places) = (by.clone(), places.clone());
    let look = move |directory: &Path| places.may_work_in(&by, directory);
    let looked = look_at(Path::new(directory), ANSWERS_WITHIN, look).await;
    let silent = |message: String| GuestEnd::Failed(Failure::new("spawn", message));
    looked.map_err(silent)?.map_err(refused)
}

/// Refuses the start of an attempt that a restrained principal has requested, if the attempt would
/// continue a session that this principal may not continue, or in which it may not let a task of
/// somebody else go on. New requests are checked in the same way, but others may have continued the
/// session since the request.
pub(super) async fn sessions_still_allowed(
    launch: &Launch,
    guest: &GuestTask,
    store: &Arc<dyn Store>,
    ceiling: &Arc<McpCeiling>,
) -> Result<(), GuestEnd> {
    let (task, number) = (&launch.task, launch.attempt.number);
    let by = task.requester_of(number);
    if !by.restrained || task.request.class == Class::Command {
        return Ok(());
    }
    let earlier = task.attempts.iter().take_while(|one| one.number < number);
    let (earlier, _) = task.attempts.split_at(earlier.count());
    let previous = guest.previous.as_ref();
    let is_resumed = previous.is_some_and(|previous| previous.resume.is_some());
    let continued = session_continued(earlier, is_resumed).map(str::to_owned);
    let named = session_of(task.request.class, &guest.spec).map_err(refused)?;
    let is_of_others = is_of_others(by, task);
    let way_out = if is_of_others {
        format!(
            "a person can run the task again with `claudine retry {:#}`",
            task.id
        )
    } else if named.is_some() {
        "submit the task again without the session".to_owned()
    } else {
        "retry the task, which then begins a session of its own".to_owned()
    };
    let sessions: Vec<String> = continued.into_iter().chain(named).collect();
    if sessions.is_empty() {
        return Ok(());
    }
    let (store, by, ceiling) = (store.clone(), by.clone(), ceiling.clone());
    let task = task.clone();
    let entering = move || {
        let entered = sessions.iter().try_for_each(|session| {
            if is_of_others {
                may_go_on(&*store, &by, &task, session)
            } else {
                may_enter(&*store, &by, session, &ceiling)
            }
        });
        entered.map_err(|error| match error {
            SessionError::Refused(refusal) => {
                Failure::new("permission", format!("{}; {way_out}", refusal.message))
            }
            SessionError::Store(error) => Failure::new(
                "resource",
                format!("the tasks of the session cannot be read: {error}"),
            ),
        })
    };
    aside(entering).await.map_err(GuestEnd::Failed)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use claudine_domain::{
        attempt::{Attempt, Ended},
        batch::Batch,
        id::AttemptId,
        outcome::{Outcome, Reason, ReasonClass},
        principal::Principal,
        revision::Requested,
        session::Session,
        worktree::Worktree,
    };

    use super::*;
    use crate::store::{memory::MemoryStore, sample_task};

    fn client() -> Arc<Principal> {
        Arc::new(Principal {
            restrained: true,
            ..Principal::default()
        })
    }

    fn agent(number: u64, by: Arc<Principal>) -> Task {
        let mut task = sample_task(number);
        let request = Arc::make_mut(&mut task.request);
        (request.class, request.by) = (Class::Agent, by);
        task
    }

    /// The second attempt of a person's task goes on in the session of the first one.
    #[tokio::test]
    async fn a_persons_task_does_not_begin_for_a_client_in_a_session_in_which_another_task_goes_on()
    {
        let mut task = agent(1, Arc::default());
        let mut first = Attempt::new(1, task.created_at);
        first.session = Some(Session {
            id: "0b6b".to_owned(),
            model: None,
        });
        first.ended = Some(Ended {
            reason: Some(Reason::new(ReasonClass::Network, "x")),
            ..Ended::new(task.created_at, Outcome::Failed)
        });
        task.attempts = vec![first, Attempt::new(2, task.created_at)];
        let guest = GuestTask {
            id: task.id.to_string(),
            attempt: 2,
            spec: "{}".to_owned(),
            workspace: "/".to_owned(),
            path: None,
            env: Vec::new(),
            labels: Vec::new(),
            previous: None,
            budget_micro_usd: None,
        };
        let queued = |by: Arc<Principal>| {
            let mut other = agent(2, by);
            Arc::make_mut(&mut other.request).resumes_session = Some("0b6b".into());
            other
        };
        let begun = |by: Arc<Principal>| {
            let mut other = queued(by);
            other.attempts = vec![Attempt::new(1, other.created_at)];
            other
        };
        let decided = async |requester: Arc<Principal>, other: Option<Task>| {
            let mut task = task.clone();
            task.requested = vec![Requested {
                from_attempt: 2,
                by: requester,
            }];
            let task = Arc::new(task);
            let store = MemoryStore::new();
            let batch = Batch {
                number: 1,
                tasks: std::iter::once(task.clone())
                    .chain(other.map(Arc::new))
                    .collect(),
                ..Batch::default()
            };
            store.commit(store.lead().unwrap(), &batch).unwrap();
            let launch = Launch {
                attempt: AttemptId {
                    task: task.id,
                    number: 2,
                },
                task,
                spec: None,
            };
            let store: Arc<dyn Store> = Arc::new(store);
            let ceiling = Arc::default();
            Box::pin(sessions_still_allowed(&launch, &guest, &store, &ceiling)).await
        };
        let owner = Arc::<Principal>::default;
        decided(client(), None).await.unwrap();
        decided(client(), Some(queued(client()))).await.unwrap();
        decided(owner(), Some(queued(owner()))).await.unwrap();
        decided(owner(), Some(begun(client()))).await.unwrap();
        for (other, why) in [
            (queued(owner()), "is to continue it"),
            (begun(client()), "has continued it in task"),
        ] {
            let message = match decided(client(), Some(other)).await {
                Err(GuestEnd::Failed(failure)) => format!("{}: {}", failure.code, failure.message),
                other => format!("{other:?}"),
            };
            for says in [
                "permission: session `0b6b` may not be continued",
                why,
                "a person can run the task again with `claudine retry",
            ] {
                assert!(message.contains(says), "{message}");
            }
        }
    }

    #[test]
    fn the_work_of_a_clients_attempt_is_merged_only_by_strategies_of_the_present_settings() {
        let ceiling = McpCeiling {
            merge_strategies: vec![MergeStrategy::Patch],
            ..McpCeiling::default()
        };
        let reading = McpCeiling {
            max_permission_mode: "plan".to_owned(),
            ..ceiling.clone()
        };
        let check = |merge: MergeStrategy, ceiling: &McpCeiling, expected: Option<&str>| {
            let mut task = agent(1, client());
            Arc::make_mut(&mut task.request).worktree = Some(Box::new(Worktree {
                repository: "/r/.git".to_owned(),
                checkout: None,
                inside: String::new(),
                branch: None,
                base: None,
                base_commit: "d7249d3".to_owned(),
                merge,
                keep: false,
                stem: None,
                message: None,
            }));
            let refusal = merge_forbidden(&task, 1, ceiling);
            let hint = refusal.map(|refusal| refusal.hint);
            let is_expected = match (&hint, expected) {
                (Some(hint), Some(expected)) => hint.contains(expected),
                (hint, expected) => hint.is_none() && expected.is_none(),
            };
            assert!(is_expected, "{merge:?}: {hint:?}");
            // A person has requested the attempt, or the task.
            task.requested = vec![Requested {
                from_attempt: 1,
                by: Arc::default(),
            }];
            assert!(merge_forbidden(&task, 1, ceiling).is_none());
            Arc::make_mut(&mut task.request).by = Arc::default();
            task.requested.clear();
            assert!(merge_forbidden(&task, 1, ceiling).is_none());
        };
        check(MergeStrategy::Auto, &ceiling, Some("mcp.merge_strategies"));
        check(MergeStrategy::Pr, &ceiling, Some("mcp.merge_strategies"));
        check(MergeStrategy::Patch, &ceiling, None);
        check(
            MergeStrategy::Patch,
            &reading,
            Some("mcp.max_permission_mode"),
        );
        // Nothing is merged.
        check(MergeStrategy::Manual, &reading, None);
        assert!(merge_forbidden(&agent(1, client()), 1, &reading).is_none());
    }

    #[test]
    fn the_output_of_a_clients_attempt_is_limited_by_the_present_settings() {
        let check = |is_of_client: bool, is_limited: bool, limit: u64, expected: u64| {
            let mut task = sample_task(1);
            let request = Arc::make_mut(&mut task.request);
            request.max_output_bytes = limit;
            let client = client();
            if is_of_client {
                request.by = client.clone();
            } else if is_limited {
                // The client runs a task of the owner again.
                task.requested = vec![Requested {
                    from_attempt: 1,
                    by: client,
                }];
            }
            let launch = Launch {
                attempt: AttemptId {
                    task: task.id,
                    number: 1,
                },
                task: Arc::new(task),
                spec: None,
            };
            let request = request_within(&launch, is_limited, 1 << 20);
            assert_eq!(request.max_output_bytes, expected);
            assert_eq!(launch.task.request.max_output_bytes, limit);
        };
        check(true, true, 1 << 30, 1 << 20);
        check(true, true, 1 << 10, 1 << 10);
        // An attempt that an earlier host has started keeps its limit.
        check(true, false, 1 << 30, 1 << 30);
        check(false, true, 1 << 30, 1 << 30);
        check(false, false, 1 << 30, 1 << 30);
    }
}

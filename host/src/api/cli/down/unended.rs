//! Waits for the last processes of tasks, and names those that do not end.

use std::{collections::BTreeSet, convert::identity, time::Duration};

use crate::{
    api::{cli::session::Session, client::Client},
    app::{AppError, ErrorKind, TaskRow, Unended, still_running, unended_of},
    aside, clock,
    identity::HostProcess,
    layout::Layout,
};

/// Time limit for the end of processes that were told to end, after the end of the host.
const LAST_ENDS: Duration = Duration::from_secs(15);
/// Time between two looks after the end of the host.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// Time between two looks before the end of the host. Only a process that has waited in the kernel
/// from one look to the next is named, because any process may do so for a moment.
const LOOK_AT_PROCESSES: Duration = Duration::from_secs(4);

/// The tasks' processes that have not ended. Reading `/proc` blocks.
async fn look(ids: &[String]) -> Result<Vec<Unended>, AppError> {
    let ids = ids.to_vec();
    aside::run(move || unended_of(&ids))
        .await
        .map_err(|error| AppError::new(ErrorKind::Internal, error.to_string()))
        .and_then(identity)
}

/// Resolves once processes of running tasks could not be ended for some time. There is no point in
/// waiting then: these tasks do not end until the processes can be ended.
pub(super) async fn unendable(session: &Session) -> Vec<Unended> {
    let mut before = BTreeSet::new();
    loop {
        clock::sleep(LOOK_AT_PROCESSES).await;
        let looked = match super::running(session).await {
            Ok(rows) => look(&ids(&rows)).await,
            // If the host does not answer, it is asked again.
            Err(_) => continue,
        };
        let mut found = match looked {
            Ok(found) => found,
            Err(error) => {
                tracing::debug!(%error, "the processes are looked at again");
                continue;
            }
        };
        found.retain(Unended::cannot_be_ended);
        let now: BTreeSet<_> = found.iter().map(Unended::moment).collect();
        found.retain(|one| before.contains(&one.moment()));
        if !found.is_empty() {
            return found;
        }
        before = now;
    }
}

pub(super) fn ids(rows: &[TaskRow]) -> Vec<String> {
    rows.iter().map(|row| row.id.clone()).collect()
}

/// Waits until no process of these tasks, and none that a supervisor has started, runs any more, or
/// until another host runs. Fails if a process goes on.
pub(super) async fn all_ended(client: &Client, tasks: &[String]) -> Result<(), AppError> {
    let layout: &Layout = &client.start().layout;
    let give_up = clock::monotonic() + LAST_ENDS;
    loop {
        if HostProcess::of(layout).is_some() {
            return Ok(());
        }
        let leaders = still_running(layout)?;
        let processes = look(tasks).await?;
        if leaders.is_empty() && processes.is_empty() {
            return Ok(());
        }
        if clock::monotonic() >= give_up {
            return Err(not_ended(&leaders, &processes));
        }
        clock::sleep(LOOK_AGAIN).await;
    }
}

/// The error if processes go on although everything was told to end.
fn not_ended(leaders: &[u32], processes: &[Unended]) -> AppError {
    let of_tasks = processes.iter().map(|one| one.pid);
    let pids: BTreeSet<u32> = leaders.iter().copied().chain(of_tasks).collect();
    let stuck = |pid: &u32| {
        let mut of_pid = processes.iter().filter(|one| one.pid == *pid);
        of_pid.any(Unended::cannot_be_ended)
    };
    let (stuck, others): (Vec<u32>, Vec<u32>) = pids.iter().partition(|pid| stuck(pid));
    let joined = |pids: &[u32], between: &str| {
        let pids: Vec<String> = pids.iter().map(ToString::to_string).collect();
        pids.join(between)
    };
    let all: Vec<u32> = pids.into_iter().collect();
    let message = format!(
        "the host has ended, but these processes have not: {}",
        joined(&all, ", ")
    );
    let hint = if others.is_empty() {
        let text = processes.first().map_or_else(String::new, Unended::text);
        if stuck.len() > 1 {
            format!("{text}; the others wait likewise")
        } else {
            text
        }
    } else {
        format!("`kill -KILL {}` ends them", joined(&others, " "))
    };
    AppError::new(ErrorKind::Unavailable, message).hint(hint)
}

/// The error if tasks do not end because their processes cannot be ended.
pub(super) fn held_up_by(found: &[Unended], tasks: &[TaskRow]) -> AppError {
    let named: BTreeSet<String> = found
        .iter()
        .map(|one| {
            let row = tasks.iter().find(|row| row.id == one.task);
            row.map_or_else(|| one.task.clone(), crate::api::cli::progress::called)
        })
        .collect();
    let named: Vec<String> = named.into_iter().collect();
    let text: Vec<String> = found.iter().map(Unended::text).collect();
    let message = format!("{} cannot end: {}", named.join(", "), text.join("; "));
    AppError::new(ErrorKind::Unavailable, message)
        .hint("the host ends as it was asked to once they have ended; `claudine up` keeps it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kill_is_advised_only_for_processes_that_it_can_end() {
        let check = |leaders: &[u32], processes: &[Unended], message: &str, hint: &str| {
            let error = not_ended(leaders, processes);
            assert!(error.message.ends_with(message), "{}", error.message);
            let found = error.hint.unwrap_or_default();
            assert!(found.contains(hint), "{found}");
        };
        let stuck = Unended::sample(8, 'D');
        check(&[7, 9], &[], ": 7, 9", "`kill -KILL 7 9` ends them");
        check(
            &[7],
            &[Unended::sample(7, 'S')],
            ": 7",
            "`kill -KILL 7` ends them",
        );
        check(
            &[8],
            std::slice::from_ref(&stuck),
            ": 8",
            "process 8 cannot be ended now",
        );
        check(&[7], &[stuck], ": 7, 8", "`kill -KILL 7` ends them");
        let two = [Unended::sample(8, 'D'), Unended::sample(9, 'D')];
        check(&[], &two, ": 8, 9", "the others wait likewise");
    }

    #[test]
    fn a_task_that_cannot_end_is_named_with_its_process() {
        let error = held_up_by(&[Unended::sample(8, 'D')], &[]);
        let says = "task_1 cannot end: process 8 cannot be ended now";
        assert!(error.message.starts_with(says), "{}", error.message);
    }
}

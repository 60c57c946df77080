//! Names tasks that do not end because their processes cannot be ended or their supervisor does
//! nothing, and tasks whose plugin cannot be used.

use std::{collections::BTreeSet, future::pending, time::Duration};

use super::{progress, session::Session};
use crate::{
    api::client::{Client, ClientError},
    app::{
        ListFilter, TaskRow, Unended, halted_supervisors, stopped_compiler, unendable,
        unendable_text,
    },
    clock,
};

/// Time between the two looks that a process must be found by.
const BETWEEN_LOOKS: Duration = Duration::from_secs(4);
/// Limit of the tasks that a message names.
const NAMED: usize = 5;
/// Limit of the tasks whose supervisors are looked at. All tasks usually have the same one.
const LOOKED_AT: usize = 16;

/// The running tasks. If no host runs, they are those that the database records as running.
pub(super) async fn running(session: &Session) -> Result<Vec<TaskRow>, ClientError> {
    in_states(session, &["running"]).await
}

async fn in_states(session: &Session, states: &[&str]) -> Result<Vec<TaskRow>, ClientError> {
    let filter = ListFilter {
        state: states.iter().map(|state| (*state).to_owned()).collect(),
        ..ListFilter::default()
    };
    session.client().list_all(filter).await
}

/// Resolves once processes of running tasks could not be ended for some time, with a message that
/// names both. Only tasks of which `is_told_to_end` is true count. The looks begin after `first`,
/// and are repeated after `every`.
pub(super) async fn stuck(
    session: &Session,
    (first, every): (Duration, Duration),
    is_told_to_end: impl Fn(&TaskRow) -> bool,
) -> String {
    let mut pause = first;
    loop {
        clock::sleep(pause).await;
        pause = every;
        // If the host does not answer, it is asked again.
        let Ok(mut rows) = running(session).await else {
            continue;
        };
        rows.retain(&is_told_to_end);
        let ids = rows.iter().map(|row| row.id.clone()).collect();
        let layout = &session.client().start().layout;
        match unendable(layout, ids, BETWEEN_LOOKS).await {
            Ok(found) => {
                if let Some(said) = said(&found, &rows) {
                    return said;
                }
            }
            Err(error) => tracing::debug!(%error, "the processes are looked at again"),
        }
    }
}

/// Resolves once the supervisor of a running task does nothing or cannot be reached, or the plugin
/// of a running or queued task cannot be used at the moment, with a message that names both. Only
/// tasks of which `is_meant` is true count. A look follows each pause.
pub(super) async fn halted(
    session: &Session,
    pauses: impl IntoIterator<Item = Duration>,
    is_meant: impl Fn(&TaskRow) -> bool,
) -> String {
    for pause in pauses {
        clock::sleep(pause).await;
        if may_have_halted(session.client()).await
            && let Some(said) = halted_now(session, &is_meant).await
        {
            return said;
        }
    }
    pending().await
}

/// The message of [`halted`] about what is found now. If the host does not answer, nothing is.
pub(super) async fn halted_now(
    session: &Session,
    is_meant: impl Fn(&TaskRow) -> bool,
) -> Option<String> {
    let rows = in_states(session, &["running", "ready"]).await;
    let rows = rows.unwrap_or_default();
    for row in rows.iter().filter(|&row| is_meant(row)).take(LOOKED_AT) {
        let Ok(why) = session.client().why(&row.id).await else {
            continue;
        };
        if let Some(reason) = why.halted {
            let is_running = why.state == "running";
            let what = if is_running { "end" } else { "start" };
            return Some(format!("{} cannot {what}: {reason}", progress::called(row)));
        }
    }
    None
}

/// Whether a supervisor or a compiler is known to do nothing, or a plugin cannot be used at the
/// moment.
async fn may_have_halted(client: &Client) -> bool {
    let layout = &client.start().layout;
    let halted = halted_supervisors(layout).is_ok_and(|halted| !halted.is_empty());
    if halted || stopped_compiler(layout).is_some() {
        return true;
    }
    let host = client.that_starts_none().info().await;
    host.is_ok_and(|host| !host.halted_supervisors.is_empty()) || lacks_plugin(client).await
}

/// Whether a plugin cannot be used at the moment, or the process that compiles one does nothing. If
/// no host answers, nobody knows more.
pub(super) async fn lacks_plugin(client: &Client) -> bool {
    let host = client.that_starts_none().info().await;
    host.is_ok_and(|host| !host.plugins_without_code.is_empty())
        || stopped_compiler(&client.start().layout).is_some()
}

/// `None` if there is no such process.
fn said(found: &[Unended], rows: &[TaskRow]) -> Option<String> {
    let why = unendable_text(found)?;
    let named: BTreeSet<String> = found
        .iter()
        .map(|one| {
            let row = rows.iter().find(|row| row.id == one.task);
            row.map_or_else(|| one.task.clone(), progress::called)
        })
        .collect();
    let more = named.len().saturating_sub(NAMED);
    let more = (more > 0).then(|| format!("{more} more"));
    let named: Vec<String> = named.into_iter().take(NAMED).chain(more).collect();
    Some(format!("{} cannot end: {why}", named.join(", ")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn a_task_that_cannot_end_is_named_with_its_process() {
        assert_eq!(said(&[], &[]), None);
        let of = |task: u32| {
            let mut one = Unended::sample(8, 'D');
            one.task = format!("task_{task}");
            one
        };
        let one = said(&[of(1), of(1)], &[]).unwrap();
        assert!(
            one.starts_with("task_1 cannot end: processes 8, 8 cannot be ended now"),
            "{one}"
        );
        let many: Vec<Unended> = (1..=7).map(of).collect();
        let many = said(&many, &[]).unwrap();
        assert!(
            many.starts_with("task_1, task_2, task_3, task_4, task_5, 2 more cannot end: "),
            "{many}"
        );
    }
}

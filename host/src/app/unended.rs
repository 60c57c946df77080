//! Finds the processes of tasks that do not end.

use std::{io, time::Duration};

use claudine_domain::principal::{Kind, Principal, Via};

use super::error::{AppError, ErrorKind};
pub(crate) use crate::supervise::{Unended, unendable_text};
use crate::{aside, clock, engine::EngineError, layout::Layout, supervise};

/// Time between two looks of a request, whose answer somebody waits for.
const BETWEEN_LOOKS: Duration = Duration::from_millis(200);

/// The living processes of these tasks.
pub(crate) async fn processes_of(
    layout: &Layout,
    tasks: Vec<String>,
) -> Result<Vec<Unended>, AppError> {
    let supervisors = layout.supervisors();
    let found = aside::run(move || supervise::processes_of(&supervisors, &tasks)).await;
    let found = found.unwrap_or_else(|error| Err(io::Error::other(error)));
    found.map_err(|error| {
        let message = format!("the processes of the tasks cannot be examined: {error}");
        AppError::new(ErrorKind::Unavailable, message)
    })
}

/// The error of a cancellation. If nothing can be stored, a person is told how the tasks can be
/// ended nevertheless.
pub(super) fn uncancelled(by: &Principal, error: EngineError) -> AppError {
    let is_unstored = matches!(error, EngineError::Store(_) | EngineError::Reloading(_));
    let app = AppError::from(error);
    if is_unstored && by.kind == Kind::Owner && by.via == Via::Cli {
        return app.hint("`claudine down --kill` ends all tasks although nothing can be stored");
    }
    app
}

/// The processes of these tasks that cannot be ended now. Only a process that has waited in the
/// kernel from one look to the next, after this time, is among them, because any process may do so
/// for a moment.
pub(crate) async fn unendable(
    layout: &Layout,
    tasks: Vec<String>,
    between: Duration,
) -> Result<Vec<Unended>, AppError> {
    // Without tasks, no thread is needed to look at processes.
    if tasks.is_empty() {
        return Ok(Vec::new());
    }
    let before = waiting_in_kernel(layout, tasks.clone()).await?;
    if before.is_empty() {
        return Ok(before);
    }
    clock::sleep(between).await;
    let mut now = waiting_in_kernel(layout, tasks).await?;
    now.retain(|one| before.iter().any(|it| it.moment() == one.moment()));
    Ok(now)
}

async fn waiting_in_kernel(layout: &Layout, tasks: Vec<String>) -> Result<Vec<Unended>, AppError> {
    let mut found = processes_of(layout, tasks).await?;
    found.retain(Unended::cannot_be_ended);
    Ok(found)
}

/// [`unendable`] for an answer that is given even if the processes cannot be examined.
pub(super) async fn known_unendable(layout: &Layout, tasks: Vec<String>) -> Vec<Unended> {
    let found = unendable(layout, tasks, BETWEEN_LOOKS).await;
    found.unwrap_or_else(|error| {
        tracing::warn!(%error, "nobody knows whether tasks can be ended");
        Vec::new()
    })
}

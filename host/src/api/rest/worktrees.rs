//! `/v1/worktrees`: worktrees of tasks.

use axum::extract::State;

use super::{
    Shared,
    answer::{Answered, Asked, ok},
    body::Body,
    caller::{By, Sender},
    meant::NamedTask,
};
use crate::app::{
    CleanWorktrees, DiffQuery, DiffView, FoundWorktree, MergeWorktree, ResolveWorktree,
    WorktreeMerged, WorktreeResolved, WorktreesCleaned, WorktreesQuery,
};

pub(super) async fn list(
    State(shared): State<Shared>,
    sender: Sender,
    Asked(query): Asked<WorktreesQuery>,
) -> Answered<Vec<FoundWorktree>> {
    let by = sender.principal(&shared).await?;
    let query = sender.meant(&shared, query).await?;
    ok(shared.host.list_worktrees(&by, query).await?)
}

pub(super) async fn clean(
    State(shared): State<Shared>,
    sender: Sender,
    Body(asked): Body<CleanWorktrees>,
) -> Answered<WorktreesCleaned> {
    let by = sender.principal(&shared).await?;
    let asked = sender.meant(&shared, asked).await?;
    ok(shared.host.clean_worktrees(&by, asked).await?)
}

pub(super) async fn merge(
    State(shared): State<Shared>,
    By(by): By,
    NamedTask(task): NamedTask,
    Body(asked): Body<MergeWorktree>,
) -> Answered<WorktreeMerged> {
    ok(shared.host.merge_worktree(&by, &task, asked).await?)
}

pub(super) async fn resolve(
    State(shared): State<Shared>,
    By(by): By,
    NamedTask(task): NamedTask,
    Body(asked): Body<ResolveWorktree>,
) -> Answered<WorktreeResolved> {
    ok(shared.host.resolve_worktree(&by, &task, asked).await?)
}

pub(super) async fn diff(
    State(shared): State<Shared>,
    By(by): By,
    NamedTask(task): NamedTask,
    Asked(query): Asked<DiffQuery>,
) -> Answered<DiffView> {
    ok(shared.host.diff(&by, &task, query).await?)
}

//! `/v1/worktrees`: worktrees of tasks.

use axum::extract::State;

use super::{
    Shared,
    answer::{Answered, Asked, Named, ok},
    body::Body,
    caller::By,
};
use crate::app::{
    CleanWorktrees, DiffQuery, DiffView, FoundWorktree, MergeWorktree, ResolveWorktree, TaskRef,
    WorktreeMerged, WorktreeResolved, WorktreesCleaned, WorktreesQuery,
};

pub(super) async fn list(
    State(shared): State<Shared>,
    Asked(query): Asked<WorktreesQuery>,
) -> Answered<Vec<FoundWorktree>> {
    ok(shared.host.list_worktrees(query).await?)
}

pub(super) async fn clean(
    State(shared): State<Shared>,
    By(by): By,
    Body(asked): Body<CleanWorktrees>,
) -> Answered<WorktreesCleaned> {
    ok(shared.host.clean_worktrees(&by, asked).await?)
}

pub(super) async fn merge(
    State(shared): State<Shared>,
    By(by): By,
    Named(task): Named,
    Body(asked): Body<MergeWorktree>,
) -> Answered<WorktreeMerged> {
    ok(shared
        .host
        .merge_worktree(&by, &TaskRef(task), asked)
        .await?)
}

pub(super) async fn resolve(
    State(shared): State<Shared>,
    By(by): By,
    Named(task): Named,
    Body(asked): Body<ResolveWorktree>,
) -> Answered<WorktreeResolved> {
    ok(shared
        .host
        .resolve_worktree(&by, &TaskRef(task), asked)
        .await?)
}

pub(super) async fn diff(
    State(shared): State<Shared>,
    Named(task): Named,
    Asked(query): Asked<DiffQuery>,
) -> Answered<DiffView> {
    ok(shared.host.diff(&TaskRef(task), query).await?)
}

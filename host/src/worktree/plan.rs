//! What a worktree will be like, and what is refused before anything is done.

use claudine_domain::worktree::{MergeStrategy, Worktree};
use serde::{Deserialize, Serialize};

use super::WorktreeError;
use crate::git::{Git, GitError, Place, Resolved};

/// How many changed files an error names.
const NAMED: usize = 5;

/// A worktree as it is asked for. Everything has a default.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wish {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) branch: Option<String>,
    /// What it goes out from: a branch, a tag, a commit. What is checked out, where it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) base: Option<String>,
    #[serde(default)]
    pub(crate) merge: MergeStrategy,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) keep: bool,
}

/// Looks at the repository that git's directory is in, and refuses what could not be done.
pub(crate) async fn plan(git: &Git, wish: &Wish) -> Result<Worktree, WorktreeError> {
    let place = place(git).await?;
    if let Some(branch) = &wish.branch
        && !git.is_branch_name(branch).await?
    {
        return Err(WorktreeError::BadBranch {
            branch: branch.clone(),
        });
    }
    let base = base(git, wish, &place).await?;
    match wish.merge {
        MergeStrategy::Auto => refuse_dirty(git, wish, &base).await?,
        MergeStrategy::Pr if git.remotes().await?.is_empty() => {
            return Err(WorktreeError::NoRemote);
        }
        MergeStrategy::Pr | MergeStrategy::Manual | MergeStrategy::Patch => {}
    }
    Ok(Worktree {
        repository: place.repository.to_string_lossy().into_owned(),
        inside: place.inside,
        branch: wish.branch.clone(),
        base: base.branch,
        base_commit: base.commit,
        merge: wish.merge,
        keep: wish.keep,
    })
}

/// Refuses a branch that is there. Apart from the plan: it may be there because this very request was sent before.
pub(crate) async fn refuse_taken(git: &Git, worktree: &Worktree) -> Result<(), WorktreeError> {
    match &worktree.branch {
        Some(branch) if git.branch_commit(branch).await?.is_some() => {
            Err(WorktreeError::BranchExists {
                branch: branch.clone(),
            })
        }
        _ => Ok(()),
    }
}

async fn place(git: &Git) -> Result<Place, WorktreeError> {
    git.place().await.map_err(|error| match error {
        // Also a bare repository, and the inside of a `.git`, which are no checkout.
        GitError::Failed { said, .. }
            if said.contains("not a git repository") || said.contains("work tree") =>
        {
            WorktreeError::NoRepository {
                dir: git.dir().to_owned(),
            }
        }
        error => error.into(),
    })
}

async fn base(git: &Git, wish: &Wish, place: &Place) -> Result<Resolved, WorktreeError> {
    let name = wish.base.as_deref().unwrap_or("HEAD");
    match (git.resolve(name).await?, &wish.base) {
        (Some(base), _) => Ok(base),
        (None, Some(base)) => Err(WorktreeError::NoBase { base: base.clone() }),
        (None, None) => Err(WorktreeError::NoCommit {
            dir: place.top.clone(),
        }),
    }
}

/// Refuses what could not be merged by itself: without a branch to merge into, or where that is checked out with changes.
async fn refuse_dirty(git: &Git, wish: &Wish, base: &Resolved) -> Result<(), WorktreeError> {
    let Some(branch) = &base.branch else {
        let base = match &wish.base {
            Some(base) => format!("`{base}` is none of this repository's"),
            None => "none is checked out".to_owned(),
        };
        return Err(WorktreeError::NoBranchToMergeInto { base });
    };
    for checkout in git.checkouts_of(branch).await? {
        let state = git.in_dir(&checkout).status().await?;
        if state.dirty_count > 0 {
            let mut files: Vec<&str> = state.dirty.iter().take(NAMED).map(String::as_str).collect();
            if state.dirty_count > files.len() as u64 {
                files.push("…");
            }
            return Err(WorktreeError::Dirty {
                files: files.join(", "),
                checkout,
                branch: branch.clone(),
            });
        }
    }
    Ok(())
}

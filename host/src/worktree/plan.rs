//! What a worktree will be like, and what is refused before anything is done.

use std::path::Path;

use claudine_domain::worktree::{MergeStrategy, OWN_BRANCHES, Worktree};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::WorktreeError;
use crate::git::{
    BranchRef, Checkout, Git, GitError, Place, Resolved, Standing, Unmakable, shortened,
};

/// A worktree as it is asked for. Everything has a default.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wish {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) branch: Option<String>,
    /// What it goes out from: a branch, a tag, a commit. What is checked out, where it is not
    /// given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) base: Option<String>,
    #[serde(default)]
    pub(crate) merge: MergeStrategy,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) keep: bool,
    /// What the commits say that are made for it; the first line of what is asked where it is not
    /// given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) message: Option<String>,
}

/// A worktree that can be made.
pub(crate) struct Planned {
    pub(crate) worktree: Worktree,
    /// What may be in the way of its merge.
    pub(crate) warning: Option<String>,
}

/// Looks at the repository that git's directory is in, and refuses what could not be done.
pub(crate) async fn plan(git: &Git, wish: &Wish) -> Result<Planned, WorktreeError> {
    let place = place(git).await?;
    refuse_unmakable(git, wish).await?;
    let base = base(git, wish, &place).await?;
    let warning = match wish.merge {
        MergeStrategy::Auto => refuse_unmergeable(git, wish, &base, &place).await?,
        MergeStrategy::Pr if git.remotes().await?.is_empty() => {
            return Err(WorktreeError::NoRemote);
        }
        MergeStrategy::Pr | MergeStrategy::Manual | MergeStrategy::Patch => None,
    };
    let worktree = Worktree {
        repository: text(&place.repository)?,
        checkout: place.hidden_main().map(text).transpose()?,
        inside: text(&place.inside)?,
        branch: wish.branch.clone(),
        base: base.branch.map(|branch| branch.name().to_owned()),
        base_commit: base.commit.into(),
        merge: wish.merge,
        keep: wish.keep,
        stem: None,
        message: wish.message.clone(),
    };
    Ok(Planned { worktree, warning })
}

/// Refuses a branch that is there. Apart from the plan: it may be there because this very request
/// was sent before.
pub(crate) async fn refuse_taken(git: &Git, worktree: &Worktree) -> Result<(), WorktreeError> {
    let Some(branch) = &worktree.branch else {
        return Ok(());
    };
    let branch = BranchRef::named(branch);
    match git.branch_commit(&branch).await? {
        Some(_) => Err(WorktreeError::BranchExists { branch }),
        None => Ok(()),
    }
}

/// A path as it is stored. One that is no text is refused: what can be read of it is another path.
fn text(path: &Path) -> Result<String, WorktreeError> {
    let text = path.to_str().map(str::to_owned);
    text.ok_or_else(|| {
        GitError::NotUtf8 {
            path: path.to_owned(),
        }
        .into()
    })
}

/// Refuses a name that no branch can have here. Without a name it is that of the task, below
/// `claudine/`.
async fn refuse_unmakable(git: &Git, wish: &Wish) -> Result<(), WorktreeError> {
    let Some(name) = &wish.branch else {
        let branch = BranchRef::named(format!("{OWN_BRANCHES}/"));
        let there = BranchRef::named(OWN_BRANCHES);
        return match git.branch_commit(&there).await? {
            Some(_) => Err(WorktreeError::BranchInTheWay { branch, there }),
            None => Ok(()),
        };
    };
    let branch = BranchRef::named(name);
    match git.unmakable(&branch).await? {
        None => Ok(()),
        Some(Unmakable::BadName) => Err(WorktreeError::BadBranch {
            branch: name.clone(),
        }),
        Some(Unmakable::InTheWay(there)) => Err(WorktreeError::BranchInTheWay { branch, there }),
    }
}

async fn place(git: &Git) -> Result<Place, WorktreeError> {
    let dir = || git.dir().to_owned();
    git.place().await.map_err(|error| match error {
        GitError::Failed { said, .. } if said.contains("cannot use bare repository") => {
            WorktreeError::Bare { dir: dir() }
        }
        // Also the inside of a `.git`, which is no checkout.
        GitError::Failed { said, .. }
            if said.contains("not a git repository") || said.contains("work tree") =>
        {
            WorktreeError::NoRepository { dir: dir() }
        }
        error => error.into(),
    })
}

async fn base(git: &Git, wish: &Wish, place: &Place) -> Result<Resolved, WorktreeError> {
    // Not by name: a branch may be called `HEAD`.
    let found = match &wish.base {
        Some(base) => git.resolve(base).await?,
        None => git.checked_out().await?,
    };
    match (found, &wish.base) {
        (Some(base), _) => Ok(base),
        (None, Some(base)) => Err(WorktreeError::NoBase { base: base.clone() }),
        (None, None) => Err(WorktreeError::NoCommit {
            dir: place.top.clone(),
        }),
    }
}

/// Refuses what could not be merged by itself: without a branch to merge into, or if that is in use
/// with changes, or in a way that a merge would break. Files that git does not know are in the way
/// of a merge only if that has them too, which nobody can tell yet: that is a warning.
async fn refuse_unmergeable(
    git: &Git,
    wish: &Wish,
    base: &Resolved,
    place: &Place,
) -> Result<Option<String>, WorktreeError> {
    let mut warning = None;
    let Some(branch) = &base.branch else {
        let base = match &wish.base {
            Some(base) => format!("`{base}` is none of this repository's"),
            None => "none is checked out".to_owned(),
        };
        return Err(WorktreeError::NoBranchToMergeInto { base });
    };
    for checkout in git.checkouts_of(branch, place.hidden_main()).await? {
        let Checkout { path, standing, .. } = checkout;
        let branch = branch.clone();
        if checkout.is_hidden {
            return Err(WorktreeError::Hidden {
                repository: path,
                branch,
                standing,
            });
        }
        if standing != Standing::CheckedOut {
            return Err(WorktreeError::InUse {
                checkout: path,
                branch,
                standing,
            });
        }
        let changes = git.in_dir(&path).changes().await?;
        if changes.known > 0 {
            return Err(WorktreeError::Dirty {
                files: shortened(&changes.files),
                checkout: path,
                branch,
            });
        }
        warning = warning.or_else(|| untracked(changes.untracked, &path));
    }
    Ok(warning)
}

fn untracked(count: u64, checkout: &Path) -> Option<String> {
    let files = match count {
        0 => return None,
        1 => "1 untracked file".to_owned(),
        count => format!("{count} untracked files"),
    };
    Some(format!(
        "{files} in {}: the merge is refused if it would write over one of them",
        checkout.display()
    ))
}

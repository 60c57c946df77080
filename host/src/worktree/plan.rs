//! Plans a worktree, and refuses requests that cannot succeed.

use std::{path::Path, time::Duration};

use claudine_domain::worktree::{MergeStrategy, OWN_BRANCHES, Worktree};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{WorktreeError, Worktrees};
use crate::{
    clock,
    git::{BranchRef, Checkout, Git, GitError, Place, Resolved, Standing, Unmakable, shortened},
};

/// A request for a worktree. Each field has a default.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wish {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) branch: Option<String>,
    /// The branch, tag or commit from which the worktree starts. By default, this is the branch or
    /// commit that is checked out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) base: Option<String>,
    #[serde(default)]
    pub(crate) merge: MergeStrategy,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) keep: bool,
    /// The message of the commits that are made for the task. By default, this is the first line of
    /// the prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) message: Option<String>,
}

/// A worktree that can be made.
pub(crate) struct Planned {
    pub(crate) worktree: Worktree,
    /// A possible obstacle to the merge.
    pub(crate) warning: Option<String>,
}

/// Time limit for waiting until a merge has ended. During a merge, the checkout seems to have
/// uncommitted changes.
const MERGE_WAIT: Duration = Duration::from_secs(10);

impl Worktrees {
    /// Checks the repository of the directory in which `git` runs, and refuses a request that could
    /// not be carried out.
    pub(crate) async fn plan(&self, git: &Git, wish: &Wish) -> Result<Planned, WorktreeError> {
        match plan(git, wish).await {
            // The changes may be those of a merge by this host, an earlier host or a person, so the
            // end of the merge is awaited.
            Err(WorktreeError::Dirty { checkout, .. }) => {
                let repository = place(git).await?.repository;
                let _turn = clock::within(MERGE_WAIT, self.turn(&repository)).await;
                let there = git.in_dir(checkout);
                there.wait_while_locked(MERGE_WAIT).await?;
                plan(git, wish).await
            }
            planned => planned,
        }
    }
}

async fn plan(git: &Git, wish: &Wish) -> Result<Planned, WorktreeError> {
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

/// Refuses a branch that exists, or whose name means something else to git. A person who then types
/// this name, as in `git merge origin/main`, would otherwise get the work of the task. This is not
/// a part of the plan, because the same request may have been sent before and may have created the
/// branch.
pub(crate) async fn refuse_taken(git: &Git, worktree: &Worktree) -> Result<(), WorktreeError> {
    let Some(branch) = &worktree.branch else {
        return Ok(());
    };
    let branch = BranchRef::named(branch);
    if git.branch_commit(&branch).await?.is_some() {
        return Err(WorktreeError::BranchExists { branch });
    }
    if git.means_something_else(&branch).await? {
        return Err(WorktreeError::MeansSomethingElse { branch });
    }
    refuse_checked_out(git, &branch, None).await
}

/// Refuses a new branch that is checked out somewhere although it does not exist yet, or beside
/// which such a branch could not be made: a person has begun it, and the task would take it away.
/// The checkout at `own` does not count.
pub(super) async fn refuse_checked_out(
    git: &Git,
    branch: &BranchRef,
    own: Option<&Path>,
) -> Result<(), WorktreeError> {
    let branch = branch.clone();
    match git.checked_out_in_the_way_of(&branch, own).await? {
        None => Ok(()),
        Some((there, checkout)) if there == branch => {
            Err(WorktreeError::BranchCheckedOut { branch, checkout })
        }
        Some((there, _)) => Err(WorktreeError::BranchInTheWay { branch, there }),
    }
}

/// A path as text, to be stored. Refused if it is not UTF-8, since a lossy conversion would name
/// another path.
fn text(path: &Path) -> Result<String, WorktreeError> {
    let text = path.to_str().map(str::to_owned);
    text.ok_or_else(|| {
        GitError::NotUtf8 {
            path: path.to_owned(),
        }
        .into()
    })
}

/// Refuses a branch name that cannot be used here. The default is the task's name below
/// `claudine/`.
async fn refuse_unmakable(git: &Git, wish: &Wish) -> Result<(), WorktreeError> {
    let Some(name) = &wish.branch else {
        // The task has no name yet.
        let branch = BranchRef::named(format!("{OWN_BRANCHES}/…"));
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
        // Git reports the same error inside a `.git`, which is not a checkout.
        GitError::Failed { said, .. }
            if said.contains("not a git repository") || said.contains("work tree") =>
        {
            WorktreeError::NoRepository { dir: dir() }
        }
        error => error.into(),
    })
}

async fn base(git: &Git, wish: &Wish, place: &Place) -> Result<Resolved, WorktreeError> {
    // The checkout itself is read instead of the name `HEAD`, since a branch may have this name.
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

/// Refuses an automatic merge that cannot work: there is no branch to merge into, or the branch's
/// checkout has changes or is in a state that a merge would break. An untracked file is an obstacle
/// only if the merge adds a file of the same name, which is not known yet. So it only causes a
/// warning.
async fn refuse_unmergeable(
    git: &Git,
    wish: &Wish,
    base: &Resolved,
    place: &Place,
) -> Result<Option<String>, WorktreeError> {
    let mut warning = None;
    let Some(branch) = &base.branch else {
        let base = match &wish.base {
            Some(base) => format!("`{base}` is not a branch of this repository"),
            None => "no branch is checked out".to_owned(),
        };
        return Err(WorktreeError::NoBranchToMergeInto { base });
    };
    let repository = git.in_repository(&place.repository);
    for checkout in repository.checkouts_of(branch, place.hidden_main()).await? {
        let Checkout { path, standing, .. } = checkout;
        let branch = branch.clone();
        if let Some(top) = checkout.led_to {
            return Err(WorktreeError::LedElsewhere {
                checkout: path,
                top,
                branch,
                standing,
            });
        }
        if checkout.is_hidden {
            return Err(WorktreeError::Hidden {
                repository: path,
                branch,
                standing,
            });
        }
        if checkout.is_missing {
            return Err(WorktreeError::Missing {
                checkout: path,
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
        let changes = git.in_users_checkout(&path).changes().await?;
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
        "{files} in {}: the merge is refused if it would overwrite one of them",
        checkout.display()
    ))
}

//! Errors of worktrees.

use std::{
    io,
    path::{Path, PathBuf},
};

use claudine_domain::id::TaskId;

use crate::{
    git::{BranchRef, Commit, GitError, Operation, Standing},
    text::{shell_line, shell_word},
};

#[derive(Debug, thiserror::Error)]
pub(crate) enum WorktreeError {
    #[error(transparent)]
    Git(#[from] GitError),
    #[error("a worktree needs a git repository, and {} is in none", dir.display())]
    NoRepository { dir: PathBuf },
    #[error("a worktree needs a checkout, and {} is in a bare repository", dir.display())]
    Bare { dir: PathBuf },
    #[error("the repository of {} has no commit yet, and a worktree needs one", dir.display())]
    NoCommit { dir: PathBuf },
    #[error("`{branch}` cannot be the name of a branch: git or the file system does not accept it")]
    BadBranch { branch: String },
    #[error(
        "`{branch}` cannot be the name of a new branch: for git it means something else, such as a tag, a branch of a remote or a commit"
    )]
    MeansSomethingElse { branch: BranchRef },
    #[error("branch `{branch}` exists already")]
    BranchExists { branch: BranchRef },
    #[error(
        "`{branch}` cannot be the name of a new branch: it is checked out in {}, and the next commit there makes it",
        checkout.display()
    )]
    BranchCheckedOut {
        branch: BranchRef,
        checkout: PathBuf,
    },
    #[error(
        "branch `{branch}` cannot be made beside the branch `{there}`: git keeps a branch as a file, and one of the two would have to be a directory"
    )]
    BranchInTheWay { branch: BranchRef, there: BranchRef },
    #[error("a worktree of this repository would not be used: because of `extensions.worktreeConfig` and `core.worktree` git works in {} instead", top.display())]
    LedAway { top: PathBuf },
    #[error(
        "the directory of the task would not be in its worktree: a symbolic link leads {} to {}; name another directory or base for the task, or remove the link from its branch",
        dir.display(),
        to.display()
    )]
    LedOut { dir: PathBuf, to: PathBuf },
    #[error(
        "the worktree of task {task:#} is not shown to clients: the settings of its repository itself name filters, which may be anybody's programs; `claudine diff {task:#}` shows it to a person"
    )]
    NotShown { task: TaskId },
    #[error("base `{base}` is not a branch, a tag or a commit of the repository")]
    NoBase { base: String },
    #[error("--merge auto needs a branch to merge into, and {base}")]
    NoBranchToMergeInto { base: String },
    #[error("--merge auto would change {}, where `{branch}` is checked out with changes that are not committed: {files}", checkout.display())]
    Dirty {
        checkout: PathBuf,
        branch: BranchRef,
        files: String,
    },
    #[error("--merge auto would move `{branch}`, which is {} in {}", standing.as_str(), checkout.display())]
    InUse {
        checkout: PathBuf,
        branch: BranchRef,
        standing: Standing,
    },
    #[error("--merge auto would change the checkout where `{branch}` is {}, and git cannot find that checkout from the repository {}", standing.as_str(), repository.display())]
    Hidden {
        repository: PathBuf,
        branch: BranchRef,
        standing: Standing,
    },
    #[error("--merge auto would move `{branch}`, which is {} in {}, but `core.worktree` leads git from there to {}, whose files would stay those of the commit before", standing.as_str(), checkout.display(), top.display())]
    LedElsewhere {
        checkout: PathBuf,
        top: PathBuf,
        branch: BranchRef,
        standing: Standing,
    },
    #[error("--merge auto would move `{branch}`, which is {} in {}, and that directory is missing", standing.as_str(), checkout.display())]
    Missing {
        checkout: PathBuf,
        branch: BranchRef,
        standing: Standing,
    },
    #[error("--merge pr needs a remote to push to, and the repository has none")]
    NoRemote,
    #[error(
        "the submodules of the worktree cannot be checked out: {source}; `claudine retry {task:#}` tries again once `git submodule update --init --recursive` works in a new clone without a question, and `git submodule sync` in the repository corrects an outdated URL there; `git config submodule.NAME.update none` in the repository leaves out a submodule that is not needed"
    )]
    Submodules { task: TaskId, source: GitError },
    #[error("task {task:#} has no worktree")]
    NoWorktree { task: TaskId },
    #[error(
        "the directory {} exists, but there is no record of the worktree, so nothing was done with it; once its files and commits are saved elsewhere, `{}` in the repository removes it",
        path.display(),
        shell_line(&["git", "worktree", "remove", "--force", &path.to_string_lossy()])
    )]
    NoRecord { path: PathBuf },
    #[error("the changes of task {task:#} are unknown: its branch is not made yet, or was deleted")]
    NothingMade { task: TaskId },
    #[error("commit {commit} is no longer in the repository")]
    CommitGone { commit: String },
    #[error("branch `{branch}` was moved or deleted while its worktree was made; try again")]
    BranchMoved { branch: BranchRef },
    #[error(
        "branch `{branch}` no longer exists: all of it was merged, or somebody deleted it{}",
        way_to_make_again(*task, branch, last)
    )]
    BranchGone {
        task: TaskId,
        branch: BranchRef,
        last: Last,
    },
    #[error(
        "the worktree was moved to {}, where nothing is done with it; `{}` moves it back, and `claudine worktree merge {task:#}` tries again",
        to.display(),
        shell_line(&[
            "git", "-C", &to.to_string_lossy(), "worktree", "move", ".", &from.to_string_lossy()
        ])
    )]
    Moved {
        task: TaskId,
        from: PathBuf,
        to: PathBuf,
    },
    #[error(
        "the directory of the worktree was moved or removed without git, so nothing was done with the work; if the directory exists elsewhere, move it back to {}; if not, `claudine worktree clean` makes git forget the worktree and keeps its commits; then `claudine worktree merge {task:#}` merges what is on the branch",
        path.display()
    )]
    GoneWithoutGit { task: TaskId, path: PathBuf },
    #[error(
        "the repository {} was moved or removed while a merge updated the files of {}; if it was moved, some files there may be those of the merge, and `.git/index.lock` there, which contains `{lock}`, keeps git from changing the index; move the repository back, and `claudine worktree merge {task:#}` continues; if it has to stay where it is, remove the lock, and put back the files that `git status` shows",
        repository.display(),
        checkout.display()
    )]
    RepositoryMoved {
        task: TaskId,
        repository: PathBuf,
        checkout: PathBuf,
        /// The text of the host's lock of the index.
        lock: String,
    },
    #[error(
        "git has begun to merge the base in the worktree {}, and has failed half-way, so nothing was done with the worktree; `claudine worktree resolve --abort {task:#}` puts its files back, after it has kept all changes there (`git log -p {kept}`); move new files elsewhere first",
        path.display()
    )]
    HalfOpened {
        task: TaskId,
        path: PathBuf,
        /// The ref that gets the changes.
        kept: String,
    },
    #[error(
        "a {} is open in the worktree {}, so nothing was done with it; {}",
        operation.as_str(),
        path.display(),
        way_out_of(*operation, *task)
    )]
    Open {
        task: TaskId,
        path: PathBuf,
        operation: Operation,
    },
    #[error(
        "branch `{branch}` is not the task's: somebody has deleted the task's branch and made another one of the same name; {}",
        way_back(branch, last.as_ref())
    )]
    BranchReplaced {
        branch: BranchRef,
        /// The last commit of the task's branch.
        last: Option<Commit>,
    },
    #[error("{what} {}: {source}", path.display())]
    Io {
        what: &'static str,
        path: PathBuf,
        source: io::Error,
    },
}

impl WorktreeError {
    pub(crate) fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NoRepository { .. } => Some(
                "`git init` makes one; without --worktree the task runs in the directory itself",
            ),
            Self::Bare { .. } => Some(
                "name one of its checkouts; `git worktree add` makes one. Plain files that look like a repository are ignored",
            ),
            Self::BadBranch { .. }
            | Self::BranchInTheWay { .. }
            | Self::MeansSomethingElse { .. } => Some("name another branch with --branch"),
            Self::NoBase { .. } => {
                Some("name one with --base, or leave out --base to start from what is checked out")
            }
            Self::LedAway { .. } => Some(
                "limit the setting to the main checkout: there, run `git config --worktree core.worktree DIR`, then `git config --local --unset core.worktree`",
            ),
            Self::InUse {
                standing: Standing::Patched,
                ..
            } => Some(
                "end it first by `git am` with `--continue`, `--abort` or `--quit`, or choose --merge manual, pr or patch",
            ),
            Self::InUse {
                standing: Standing::Picked,
                ..
            } => Some(
                "end it first by `git cherry-pick` or `git revert` with `--continue`, `--abort` or `--quit`, or choose --merge manual, pr or patch",
            ),
            Self::InUse { .. } => {
                Some("end the rebase or bisect first, or choose --merge manual, pr or patch")
            }
            Self::Hidden { .. } => {
                Some("submit the task in that checkout, or choose --merge manual, pr or patch")
            }
            Self::LedElsewhere { .. } => Some(
                "choose --merge manual, pr or patch, or unset `core.worktree` if it is not needed: `git config --show-origin core.worktree` there shows where it is set",
            ),
            Self::Missing { .. } => Some(
                "bring the directory back, for example by mounting its drive, make git forget it with `git worktree prune` (first `git worktree unlock` if it is locked), or choose --merge manual, pr or patch",
            ),
            Self::BranchExists { .. } | Self::BranchCheckedOut { .. } => {
                Some("choose another name, or leave out --branch to have one named after the task")
            }
            Self::NoBranchToMergeInto { .. } => {
                Some("name a branch with --base, or choose --merge manual, pr or patch")
            }
            Self::Dirty { .. } => {
                Some("commit or stash them, or choose --merge manual, pr or patch")
            }
            Self::NoRemote => {
                Some("`git remote add origin URL` adds one; --merge manual leaves the branch here")
            }
            Self::Git(GitError::NotInstalled { .. }) => {
                Some("install git, or leave out --worktree")
            }
            _ => None,
        }
    }

    /// Whether the request conflicts with the present state.
    pub(crate) fn is_conflict(&self) -> bool {
        matches!(
            self,
            Self::BranchExists { .. }
                | Self::BranchCheckedOut { .. }
                | Self::Dirty { .. }
                | Self::InUse { .. }
                | Self::Hidden { .. }
                | Self::LedElsewhere { .. }
                | Self::Missing { .. }
                | Self::NoWorktree { .. }
                | Self::NoRecord { .. }
                | Self::NothingMade { .. }
                | Self::NotShown { .. }
                | Self::CommitGone { .. }
                | Self::BranchGone { .. }
                | Self::BranchMoved { .. }
                | Self::BranchReplaced { .. }
                | Self::Moved { .. }
                | Self::RepositoryMoved { .. }
                | Self::HalfOpened { .. }
                | Self::Open { .. }
                | Self::GoneWithoutGit { .. }
                // The repository, its settings or its worktree are the reason, not the request.
                | Self::Git(
                    GitError::Failed { .. }
                        | GitError::FilterFailed { .. }
                        | GitError::NotFetched { .. }
                        | GitError::TooManyPrograms { .. }
                        | GitError::NotItsOwn { .. }
                        | GitError::NotASubmodule { .. }
                        | GitError::Meddled(_)
                        | GitError::Unread { .. }
                        | GitError::Trapped(_)
                )
        )
    }

    /// Whether a retry of the same request may succeed.
    pub(crate) fn is_passing(&self) -> bool {
        matches!(
            self,
            Self::Io { .. }
                | Self::BranchMoved { .. }
                // The remotes of submodules may be unreachable at the moment.
                | Self::Submodules { .. }
                | Self::Git(
                    GitError::Timeout { .. }
                        | GitError::Killed { .. }
                        | GitError::Spawn { .. }
                        | GitError::Read { .. }
                        | GitError::Sync { .. }
                        | GitError::Locked { .. }
                )
        )
    }
}

/// The last known commit of a branch that no longer exists.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Last {
    /// It is not known, or its work is in the base.
    NotNeeded,
    /// The commit still exists, but perhaps on no branch.
    Left(Commit),
    /// Git has deleted the commit.
    Deleted(Commit),
}

/// Advice on how a branch that was deleted can be made again.
fn way_to_make_again(task: TaskId, branch: &BranchRef, last: &Last) -> String {
    match last {
        Last::NotNeeded => String::new(),
        Last::Left(commit) => format!(
            "; its last known commit is {hash}: `git branch {} {hash}` makes it again, as long as git has not deleted that commit, and `claudine worktree merge {task:#}` then merges it",
            shell_word(branch.name()),
            hash = commit.hash()
        ),
        Last::Deleted(commit) => {
            format!("; git has deleted its last known commit, {}", commit.hash())
        }
    }
}

/// Advice on how the task's branch can get its name back.
fn way_back(branch: &BranchRef, last: Option<&Commit>) -> String {
    let name = shell_word(branch.name());
    let rename = format!("`git branch -m {name} NEW` frees its name");
    match last {
        Some(last) => format!(
            "{rename}, and `git branch {name} {}` makes the task's branch again",
            last.hash()
        ),
        None => rename,
    }
}

/// Advice on how an operation that is open in a worktree can be ended.
fn way_out_of(operation: Operation, task: TaskId) -> String {
    match operation {
        Operation::Merge => format!(
            "`claudine worktree resolve {task:#}` completes it once its files are resolved, and `claudine worktree resolve --abort {task:#}` aborts it"
        ),
        Operation::Bisect => "`git bisect reset` there ends it".to_owned(),
        Operation::Am => "end it there with `git am --continue` or `git am --abort`".to_owned(),
        Operation::Series => {
            "end it there with `git cherry-pick --continue` or `git revert --continue`".to_owned()
        }
        Operation::Rebase | Operation::CherryPick | Operation::Revert => {
            let name = operation.as_str();
            format!("end it there with `git {name} --continue` or `git {name} --abort`")
        }
    }
}

/// Turns an I/O error into an error that names the action and the path.
pub(super) fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> WorktreeError {
    let path = path.to_owned();
    move |source| WorktreeError::Io { what, path, source }
}

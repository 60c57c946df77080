//! Refuses names of branches that a restrained principal chooses, if a person may mean something
//! else by them.

use claudine_domain::{
    principal::Principal,
    worktree::{OWN_BRANCHES, Worktree},
};

use super::error::{AppError, ErrorKind};
use crate::{
    ceiling::way,
    git::{BranchRef, Commit, Git},
    worktree::WorktreeError,
};

/// Checks the branch of a planned worktree. Each principal gets a branch named after the task if it
/// names none.
pub(super) async fn may_be_named(
    by: &Principal,
    git: &Git,
    worktree: &Worktree,
) -> Result<(), AppError> {
    let Some(name) = worktree.branch.as_deref().filter(|_| by.restrained) else {
        return Ok(());
    };
    if let Some(why) = by_itself(name) {
        return Err(refused(by, name, why));
    }
    let base = Commit::parse(&worktree.base_commit).ok_or_else(|| {
        let message = format!("`{}` is not a commit", worktree.base_commit);
        AppError::new(ErrorKind::Internal, message)
    })?;
    let branch = BranchRef::named(name);
    let meant = git.meant_by(&branch, &base, &worktree.inside).await;
    match meant.map_err(WorktreeError::from)? {
        Some(meant) => {
            let why = format!("a person may mean something else by it: {meant}");
            Err(refused(by, name, &why))
        }
        None => Ok(()),
    }
}

/// The reason for which a name is refused in every repository.
fn by_itself(name: &str) -> Option<&'static str> {
    let top = name.split('/').next().unwrap_or_default();
    if !name.bytes().all(|byte| byte.is_ascii_graphic()) {
        Some("it has other characters than printable ASCII, which may look like another name")
    } else if top.eq_ignore_ascii_case(OWN_BRANCHES) {
        Some("`claudine` and names that begin with `claudine/` are for branches named after tasks")
    } else {
        None
    }
}

fn refused(by: &Principal, name: &str, why: &str) -> AppError {
    let shown: String = name.chars().take(80).collect();
    let message = format!(
        "`{}` may not be the name of a branch requested {}: {why}",
        shown.escape_debug(),
        way(by)
    );
    AppError::new(ErrorKind::Forbidden, message)
        .hint("choose another name, or leave out --branch to have one named after the task")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_for_automatic_branches_and_names_with_unusual_characters_are_refused() {
        for name in [
            "claudine",
            "claudine/fix-tests",
            "Claudine/fix",
            "ma\u{131}n",
            "main\u{2800}",
            "m\u{430}in",
        ] {
            assert!(by_itself(name).is_some(), "{name}");
        }
        for name in ["fix", "claudine-fix", "fix/claudine", "feature/7#2"] {
            assert_eq!(by_itself(name), None, "{name}");
        }
    }
}

//! Whether git can make a branch with a name, and whether something else has the name already.

use super::{BranchRef, Git, GitError, refs::ListedRef, spec::Spec};

/// The reason why a branch cannot be created.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Unmakable {
    /// Git does not accept the name, or no file system can store it.
    BadName,
    /// The name conflicts with this branch: one of the two would have to be a directory and a file
    /// at the same time.
    InTheWay(BranchRef),
}

/// The refs because of which a new branch should not have a name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Others {
    /// Whether a branch, a tag or a branch of a remote has the name.
    pub(crate) have_name: bool,
    /// The reason why no branch can have the name.
    pub(crate) unmakable: Option<Unmakable>,
}

impl Git {
    /// The reason why no branch can have this name; `None` if a branch can have it, or already has
    /// it.
    pub(crate) async fn unmakable(
        &self,
        branch: &BranchRef,
    ) -> Result<Option<Unmakable>, GitError> {
        if !self.is_accepted(branch).await? {
            return Ok(Some(Unmakable::BadName));
        }
        let found = self.in_the_way_of(branch).await?;
        Ok(found.map(Unmakable::InTheWay))
    }

    /// An existing branch because of which this branch cannot exist: `a` and `a/b` cannot both
    /// exist.
    pub(crate) async fn in_the_way_of(
        &self,
        branch: &BranchRef,
    ) -> Result<Option<BranchRef>, GitError> {
        let names: Vec<String> = above_and(branch).collect();
        Ok(in_the_way(&self.refs_at(&names).await?, branch))
    }

    /// Looks for everything because of which a new branch should not have this name.
    pub(crate) async fn others_named(&self, branch: &BranchRef) -> Result<Others, GitError> {
        let places = ["refs/heads", "refs/tags", "refs/remotes"];
        let same = places.map(|place| format!("{place}/{branch}"));
        let above = above_and(branch);
        let names: Vec<String> = same.iter().cloned().chain(above).collect();
        let listed = self.refs_at(&names).await?;
        let have_name = listed.iter().any(|it| same.contains(&it.name));
        let mut unmakable = in_the_way(&listed, branch).map(Unmakable::InTheWay);
        if unmakable.is_none() && !self.is_accepted(branch).await? {
            unmakable = Some(Unmakable::BadName);
        }
        Ok(Others {
            have_name,
            unmakable,
        })
    }

    /// Whether git accepts the name of this branch, and a file system can store it.
    async fn is_accepted(&self, branch: &BranchRef) -> Result<bool, GitError> {
        // The command below would look up the branch that such an expression (`@{-1}`, `x@{u}`)
        // denotes. No name of a branch has this part.
        if branch.name().contains("@{") || !branch.fits() {
            return Ok(false);
        }
        if branch.is_plain() {
            return Ok(true);
        }
        let spec = Spec::reads(["check-ref-format", "--branch", branch.name()]);
        Ok(self.line_if(&spec).await?.as_deref() == Some(branch.name()))
    }
}

/// The full names of the branch and of the branches above it.
fn above_and(branch: &BranchRef) -> impl Iterator<Item = String> {
    let all = branch.above().chain([branch.clone()]);
    all.map(|it| it.full())
}

/// The first of the listed branches because of which this branch cannot exist.
fn in_the_way(listed: &[ListedRef], branch: &BranchRef) -> Option<BranchRef> {
    let above: Vec<String> = branch.above().map(|it| it.full()).collect();
    let below = format!("{}/", branch.full());
    let is_in_the_way = |name: &String| above.contains(name) || name.starts_with(&below);
    let found = listed.iter().find(|it| is_in_the_way(&it.name))?;
    BranchRef::from_full(&found.name)
}

//! Pull requests, opened with `gh`.

use std::time::Duration;

use super::{
    BranchRef, Git, GitError,
    spec::{Purpose, Spec},
};

const LIMIT: Duration = Duration::from_mins(2);

/// A pull request to open.
pub(crate) struct Opening<'a> {
    /// The branch, or `OWNER:BRANCH` if the branch is in another repository than the base.
    pub(crate) head: &'a str,
    pub(crate) base: Option<&'a BranchRef>,
    pub(crate) title: &'a str,
    pub(crate) body: &'a str,
}

/// The maximum number of open pull requests from branches of one name that are looked at.
const REQUESTS_MAX: usize = 100;

/// The owner of the repository to which a branch was pushed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Owner<'a> {
    /// The repository is probably that of the base. If its owner is known, it may also be a fork
    /// that belongs to this owner.
    OfTheBase(Option<&'a str>),
    OfAFork(&'a str),
}

impl Git {
    /// The address of the open pull request of a branch that was pushed to a repository of `owner`.
    /// The branch is passed as `--head`, because `gh` would take a plain argument that is a number
    /// for the number of a pull request. `gh` lists the requests from all repositories, and to all
    /// bases.
    pub(crate) async fn open_request(
        &self,
        branch: &BranchRef,
        owner: Owner<'_>,
        base: Option<&BranchRef>,
    ) -> Result<Option<String>, GitError> {
        let head = format!("--head={branch}");
        let limit = format!("--limit={REQUESTS_MAX}");
        let own = format!("--jq={}", own_request(owner, base));
        let arguments = [
            "pr",
            "list",
            &head,
            "--state=open",
            &limit,
            "--json=url,baseRefName,isCrossRepository,headRepositoryOwner",
            &own,
        ];
        let spec = Spec::gh(Purpose::Reads, arguments).limit(LIMIT);
        let line = self.for_gh().await?.line_if(&spec).await?;
        Ok(line.and_then(|text| last_line(&text)))
    }

    /// Opens a pull request. Returns its address, if `gh` prints the address.
    pub(crate) async fn create_request(
        &self,
        opening: Opening<'_>,
    ) -> Result<Option<String>, GitError> {
        let Opening {
            head,
            base,
            title,
            body,
        } = opening;
        let mut spec = Spec::gh(Purpose::Changes, ["pr", "create"])
            .arg(format!("--head={head}"))
            .arg(format!("--title={title}"))
            .arg(format!("--body={body}"));
        if let Some(base) = base {
            spec = spec.arg(format!("--base={base}"));
        }
        let output = self.for_gh().await?.change(&spec.limit(LIMIT)).await?;
        Ok(last_line(&String::from_utf8_lossy(&output)))
    }

    /// The setup in which `gh` runs git. It counts the changed files of a checkout, and git would
    /// compare those in submodules, too. In a git directory, there are none.
    async fn for_gh(&self) -> Result<Self, GitError> {
        if self.may_look_into_submodules().await? {
            return Ok(self.clone());
        }
        Ok(self.in_repository(self.git_dir().await?))
    }
}

/// The filter that prints the address of the task's own pull request, in the language of `jq`.
fn own_request(owner: Owner<'_>, base: Option<&BranchRef>) -> String {
    // A JSON string is a string of `jq` too, because each backslash is escaped.
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let of_owner = |owner: &str| {
        let owner = quoted(&owner.to_ascii_lowercase());
        format!("(.headRepositoryOwner.login // \"\" | ascii_downcase) == {owner}")
    };
    let head = match owner {
        Owner::OfTheBase(None) => "(.isCrossRepository | not)".to_owned(),
        Owner::OfTheBase(Some(owner)) => {
            format!("((.isCrossRepository | not) or {})", of_owner(owner))
        }
        Owner::OfAFork(owner) => of_owner(owner),
    };
    let base = base.map_or(String::new(), |base| {
        format!(" and .baseRefName == {}", quoted(base.name()))
    });
    format!("[.[] | select({head}{base})][0].url // empty")
}

fn last_line(text: &str) -> Option<String> {
    let line = text.lines().rev().find(|line| !line.trim().is_empty())?;
    Some(line.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_own_pull_request_is_selected() {
        let main = BranchRef::named("ma\"in");
        let check = |owner: Owner<'_>, base: Option<&BranchRef>, expected: &str| {
            assert_eq!(own_request(owner, base), expected);
        };
        check(
            Owner::OfTheBase(None),
            None,
            "[.[] | select((.isCrossRepository | not))][0].url // empty",
        );
        check(
            Owner::OfTheBase(Some("Us")),
            Some(&main),
            "[.[] | select(((.isCrossRepository | not) or (.headRepositoryOwner.login // \"\" | \
             ascii_downcase) == \"us\") and .baseRefName == \"ma\\\"in\")][0].url // empty",
        );
        check(
            Owner::OfAFork("me"),
            None,
            "[.[] | select((.headRepositoryOwner.login // \"\" | ascii_downcase) == \"me\")]\
             [0].url // empty",
        );
    }
}

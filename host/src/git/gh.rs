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

impl Git {
    /// The address of a branch's open pull request. The branch is passed as `--head`, because `gh`
    /// would take a plain argument that is a number for the number of a pull request.
    pub(crate) async fn open_request(
        &self,
        branch: &BranchRef,
    ) -> Result<Option<String>, GitError> {
        let head = format!("--head={branch}");
        let arguments = [
            "pr",
            "list",
            &head,
            "--state=open",
            "--limit=1",
            "--json=url",
            "--jq=.[0].url // empty",
        ];
        let spec = Spec::gh(Purpose::Reads, arguments).limit(LIMIT);
        let line = self.line_if(&spec).await?;
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
        let output = self.change(&spec.limit(LIMIT)).await?;
        Ok(last_line(&String::from_utf8_lossy(&output)))
    }
}

fn last_line(text: &str) -> Option<String> {
    let line = text.lines().rev().find(|line| !line.trim().is_empty())?;
    Some(line.trim().to_owned())
}

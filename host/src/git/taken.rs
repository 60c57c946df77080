//! What a person may mean by a name that a new branch would have. Git then takes the name for the
//! branch: `git switch feature` would no longer make a branch from the remote's `feature`, and
//! `git checkout notes` would no longer restore a file.

use super::{
    BranchRef, Commit, Git, GitError, names,
    spec::{LIST_BYTES, Spec},
};

impl Git {
    /// What the name of this branch, which does not exist, means to a person, in words: a branch of
    /// a remote, a path in the commit `base`, or a branch with settings. Paths are looked up from
    /// the top of the checkout and from the directory `inside` it. `None` if the name means
    /// nothing.
    pub(crate) async fn meant_by(
        &self,
        branch: &BranchRef,
        base: &Commit,
        inside: &str,
    ) -> Result<Option<String>, GitError> {
        let name = branch.name();
        let pattern = format!("refs/remotes/**/{name}");
        let arguments = ["for-each-ref", "--count=1", "--format=%(refname)", &pattern];
        let remote = self.line(&Spec::reads(arguments)).await?;
        if !remote.is_empty() {
            return Ok(Some(format!("the branch of a remote, `{remote}`")));
        }
        let within = format!("{inside}/{name}");
        let places = [name, within.trim_start_matches('/')];
        let arguments = [
            "ls-tree",
            "--full-tree",
            "--name-only",
            "-z",
            base.hash(),
            "--",
        ];
        let spec = Spec::reads(arguments.iter().chain(&places)).kept_bytes(LIST_BYTES);
        let paths = names(&self.output(&spec).await?);
        if let Some(path) = paths.first() {
            return Ok(Some(format!("a path in the base, `{path}`")));
        }
        let spec = Spec::reads(["config", "--list", "--name-only", "-z"]);
        let settings = names(&self.output(&spec.kept_bytes(LIST_BYTES)).await?);
        let prefix = format!("branch.{name}.");
        let setting = settings.iter().find(|setting| setting.starts_with(&prefix));
        Ok(setting.map(|setting| format!("a branch with settings, `{setting}`")))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::git::tests::Person;

    #[tokio::test]
    async fn a_name_that_a_person_uses_for_something_else_is_found() {
        let person = Person::with_repository("");
        person.write("notes", "one\n");
        person.write("docs/deep/page", "one\n");
        person.commit_all("first");
        let base = person.commit("main").await;
        person.git(&["update-ref", "refs/remotes/up/feature", base.hash()]);
        person.git(&["update-ref", "refs/remotes/team/origin/next", base.hash()]);
        person.git(&["config", "branch.release.remote", "up"]);
        let check = async |name: &str, inside: &str, expected: Option<&str>| {
            let branch = BranchRef::named(name);
            let found = person.at(".").meant_by(&branch, &base, inside).await;
            assert_eq!(found.unwrap().as_deref(), expected, "{name}");
        };
        let remote = |name: &str| format!("the branch of a remote, `refs/remotes/{name}`");
        check("feature", "", Some(&remote("up/feature"))).await;
        check("next", "", Some(&remote("team/origin/next"))).await;
        check("notes", "", Some("a path in the base, `notes`")).await;
        check("docs", "", Some("a path in the base, `docs`")).await;
        let page = Some("a path in the base, `docs/deep/page`");
        check("docs/deep/page", "", page).await;
        check("page", "docs/deep", page).await;
        let setting = Some("a branch with settings, `branch.release.remote`");
        check("release", "", setting).await;
        for name in ["feat", "ext", "note", "page", "releas", "fix/7", "x.y"] {
            check(name, "", None).await;
        }
    }
}

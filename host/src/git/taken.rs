//! What a person may mean by a name that a new branch would have. Once the branch exists, git takes
//! the name for the branch: `git switch feature` would no longer make a branch from the remote's
//! `feature`, and `git checkout notes` would no longer restore a file.

use super::{
    BranchRef, Commit, Git, GitError, names,
    spec::{LIST_BYTES, Spec},
};

/// The settings that can give a name a meaning. Others are not read, because they may be secret,
/// and the output of a command is in a file while the command runs.
const SETTINGS: &str = r"^(remote\..*\.fetch|branch\..*)$";

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
        let spec = Spec::reads(["config", "-z", "--get-regexp", SETTINGS]).kept_bytes(LIST_BYTES);
        let settings = names(&self.output_if(&spec).await?.unwrap_or_default());
        let remote = self.of_remote(name, &settings).await?;
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
        let prefix = format!("branch.{name}.");
        let setting = settings.iter().find(|setting| setting.starts_with(&prefix));
        let setting = setting.and_then(|setting| setting.split('\n').next());
        Ok(setting.map(|setting| format!("a branch with settings, `{setting}`")))
    }

    /// The branch of a remote that `name` means: the branch from which `git switch` would make a
    /// branch of this name, or a branch whose name begins with that of its remote. Empty if there
    /// is none.
    async fn of_remote(&self, name: &str, settings: &[String]) -> Result<String, GitError> {
        let mut patterns = vec![
            // Also the branch of a remote that has been removed from the settings.
            format!("refs/remotes/*/{name}"),
            format!("ref[s]/remotes/{name}"),
        ];
        for stored in settings.iter().filter_map(|it| fetched_to(it, name)) {
            let below = stored.strip_prefix("refs/");
            patterns.extend(below.map(|below| format!("ref[s]/{below}")));
        }
        // The brackets match one character. Without a wildcard, a pattern would also match the
        // branches below it.
        let arguments = ["for-each-ref", "--count=1", "--format=%(refname)"];
        let patterns = patterns.iter().map(String::as_str);
        self.line(&Spec::reads(arguments.into_iter().chain(patterns)))
            .await
    }
}

/// The name under which a remote's branch `name` is stored here, if this setting, a key with its
/// value, says so. A remote's name may contain slashes, so the form of a stored name does not show
/// where the remote's name ends.
fn fetched_to(setting: &str, name: &str) -> Option<String> {
    let (key, refspec) = setting.split_once('\n')?;
    key.strip_prefix("remote.")?.strip_suffix(".fetch")?;
    let (from, to) = refspec.trim_start_matches('+').split_once(':')?;
    let branch = format!("refs/heads/{name}");
    match from.split_once('*') {
        Some((before, after)) => {
            let part = branch.strip_prefix(before)?.strip_suffix(after)?;
            Some(to.replacen('*', part, 1))
        }
        None => (from == branch).then(|| to.to_owned()),
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
        for (remote, stored) in [
            ("up", "refs/remotes/up/*"),
            ("team/origin", "refs/remotes/team/origin/*"),
            ("apart", "refs/remotes/apart/heads/*"),
        ] {
            let key = format!("remote.{remote}.fetch");
            let refspec = format!("+refs/heads/*:{stored}");
            person.git(&["config", &key, &refspec]);
        }
        let branches = [
            "up/feature",
            "up/fix/login",
            "team/origin/next",
            "apart/heads/topic",
            "removed/old",
        ];
        for branch in branches {
            let full = format!("refs/remotes/{branch}");
            person.git(&["update-ref", &full, base.hash()]);
        }
        person.git(&["config", "branch.release.remote", "up"]);
        let check = async |name: &str, inside: &str, expected: Option<&str>| {
            let branch = BranchRef::named(name);
            let found = person.at(".").meant_by(&branch, &base, inside).await;
            assert_eq!(found.unwrap().as_deref(), expected, "{name}");
        };
        let remote = |name: &str| format!("the branch of a remote, `refs/remotes/{name}`");
        check("feature", "", Some(&remote("up/feature"))).await;
        check("next", "", Some(&remote("team/origin/next"))).await;
        check("fix/login", "", Some(&remote("up/fix/login"))).await;
        check("topic", "", Some(&remote("apart/heads/topic"))).await;
        check("old", "", Some(&remote("removed/old"))).await;
        for branch in branches {
            check(branch, "", Some(&remote(branch))).await;
        }
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
        // These are only parts of the names of remotes and of their branches.
        for name in ["login", "fix", "origin", "up"] {
            check(name, "", None).await;
        }
    }
}

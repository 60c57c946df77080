//! Checks out the submodules of a new worktree of a restrained principal step by step.
//!
//! While git fetches a submodule, which takes as long as its server likes, another agent may write
//! to the git directory of the worktree if no directory above is called `.git`. Git would take what
//! it finds there for the repository of the next submodule, and would run the programs that its
//! settings, or those of the submodule that it has just fetched, name. So a repository must not
//! exist before git makes it; git fetches it without a checkout; and the files are checked out by
//! git that works in the submodule, under the restraint that holds there.
//!
//! Somebody could still write the settings in the moment between the look at them and the command.

use std::path::{Path, PathBuf};

use super::{
    Git, GitError,
    foreign::settings,
    is_lossy,
    place::{is_same, is_top},
    restraint::{FOR_FILES, OF_USER, TO_CONNECT},
    spec::{LIST_BYTES, LONG, Spec, literal},
};
use crate::{fsx, text::harmless};

/// The file that names the submodules.
const MODULES: &str = ".gitmodules";

/// The directory with the repositories of submodules in the git directory of a checkout.
const REPOSITORIES: &str = "modules";

/// Settings of hooks, which git from 2.54 runs.
const HOOKS: &str = r"hook\..*";

/// The way in which git updates a submodule that it only fetches: by a command that does nothing.
const FETCHED_ONLY: &str = "!true";

/// The way to update a submodule that is left out.
const LEFT_OUT: &str = "none";

/// The beginning of lines about submodules in a list of files.
const LINK: &str = "160000 ";

/// What somebody else has done to the repository of a submodule.
#[derive(PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "submodule `{}` is not checked out: {} {}, although git itself has not done this; another program is at work there, and git could run what it names. Try again once no other agent works there, or let the task work in a clone",
    harmless(path),
    harmless(&git_dir.display().to_string()),
    harmless(what)
)]
pub(crate) struct Meddled {
    path: String,
    git_dir: PathBuf,
    /// The reason why git cannot have left the git directory like this.
    what: String,
}

/// An entry of [`MODULES`].
#[derive(PartialEq, Eq, Debug, Default)]
struct Declared {
    name: String,
    /// Several are a mistake of the author.
    paths: Vec<String>,
    update: Option<String>,
}

/// A submodule at a path of a checkout.
struct Link {
    path: String,
    commit: String,
}

impl Git {
    /// Checks out all submodules of this checkout, recursively. `update` is the command that
    /// updates them, and `nested` the one that updates those in a submodule.
    pub(super) async fn update_step_by_step(
        &self,
        update: &Spec,
        nested: &Spec,
    ) -> Result<(), GitError> {
        let repositories = self.git_dir().await?.join(REPOSITORIES);
        let declared = self.declared().await?;
        for link in self.links().await? {
            let is_meant = |one: &&Declared| one.paths.contains(&link.path);
            let names = declared.iter().filter(is_meant);
            let mut git_dirs = Vec::new();
            let (mut fetch, mut is_left_out) = (update.clone(), false);
            for one in names {
                let setting = format!("submodule.{}.update", one.name);
                let way = self.setting(&setting).await?;
                is_left_out |= way.or(one.update.clone()).as_deref() == Some(LEFT_OUT);
                fetch = fetch.setting(setting, FETCHED_ONLY);
                git_dirs.push(repositories.join(&one.name));
            }
            if !git_dirs.is_empty() && !is_left_out {
                Box::pin(self.update_one(&link, &git_dirs, &fetch, nested)).await?;
            }
        }
        Ok(())
    }

    /// Checks out one submodule and those in it. `git_dirs` are the directories in which git may
    /// make its repository, and `fetch` is a command that fetches submodules.
    async fn update_one(
        &self,
        link: &Link,
        git_dirs: &[PathBuf],
        fetch: &Spec,
        nested: &Spec,
    ) -> Result<(), GitError> {
        if let Some(taken) = git_dirs.iter().find(|it| fsx::is_taken(it)) {
            return Err(meddled(link, taken, "exists already"));
        }
        let only_this = |spec: Spec| spec.arg("--").arg(literal(&link.path));
        // A clone reads no settings of the repository that it makes.
        let make = fetch.clone().arg("--no-fetch");
        self.change(&only_this(make)).await?;
        let inner = self.in_dir(self.dir().join(&link.path));
        if fsx::is_missing(&inner.dir().join(".git")) {
            // The settings leave out the submodule.
            return Ok(());
        }
        inner.refuse_meddled(link, git_dirs, fetch).await?;
        // The commit may be on no branch.
        self.change(&only_this(fetch.clone())).await?;
        inner.refuse_meddled(link, git_dirs, fetch).await?;
        let checkout = ["checkout", "--quiet", "--force", "--detach", &link.commit];
        let checkout = Spec::changes(checkout).work_tree(inner.dir()).limit(LONG);
        inner.change(&checkout).await?;
        if !inner.has_submodules() {
            return Ok(());
        }
        let init = Spec::changes(["submodule", "--quiet", "init"]);
        inner.change(&init).await?;
        Box::pin(inner.update_step_by_step(nested, nested)).await
    }

    /// Fails if the repository of this submodule is not one of these, or if its settings during a
    /// command name a program.
    async fn refuse_meddled(
        &self,
        link: &Link,
        git_dirs: &[PathBuf],
        command: &Spec,
    ) -> Result<(), GitError> {
        let place = self.place().await?;
        let is_one = |git_dir: &PathBuf| is_same(git_dir, &place.git_dir);
        let is_own = git_dirs.iter().any(is_one) && place.git_dir == place.repository;
        if !is_own || !is_top(&place, self.dir()) {
            return Err(meddled(link, &place.git_dir, "belongs to something else"));
        }
        let pattern = format!("^({FOR_FILES}|{TO_CONNECT}|{HOOKS})$");
        let spec = Spec::reads(["config", "--show-scope", "-z", "--get-regexp", &pattern]);
        let spec = spec.with_settings_of(command);
        let folds_case = self.folds_case().await?;
        let named = self.settings_at(&self.at, &spec, folds_case, own_programs);
        match named.await?.first() {
            Some(name) => Err(meddled(link, &place.git_dir, &format!("sets `{name}`"))),
            None => Ok(()),
        }
    }

    /// The submodules that the author of the files has declared.
    async fn declared(&self) -> Result<Vec<Declared>, GitError> {
        let file = self.dir().join(MODULES);
        let spec = Spec::reads(["config", "-z", "--file"]).arg(&file);
        let pattern = r"^submodule\..*\.(path|update)$";
        let spec = spec.arg("--get-regexp").arg(pattern);
        let output = self.output_if(&spec).await?.unwrap_or_default();
        let declared = declared(settings(&output));
        if declared.iter().any(|one| is_lossy(&one.name)) {
            return Err(GitError::NotUtf8 { path: file });
        }
        Ok(declared)
    }

    /// The submodules in the index.
    async fn links(&self) -> Result<Vec<Link>, GitError> {
        let spec = Spec::reads(["ls-files", "--stage", "-z"]);
        let spec = spec.limit(LONG).kept_bytes(LIST_BYTES);
        let output = self.output(&spec).await?;
        let links = links(&String::from_utf8_lossy(&output));
        match links.iter().find(|link| is_lossy(&link.path)) {
            Some(link) => Err(GitError::NotUtf8 {
                path: self.dir().join(&link.path),
            }),
            None => Ok(links),
        }
    }
}

fn meddled(link: &Link, git_dir: &Path, what: &str) -> GitError {
    GitError::from(Meddled {
        path: link.path.clone(),
        git_dir: git_dir.to_owned(),
        what: what.to_owned(),
    })
}

/// The names of settings that name a program and are no user's, among settings that git has printed
/// with their scopes; `None` if they cannot be parsed.
fn own_programs(output: &str) -> Option<Vec<String>> {
    let mut found = Vec::new();
    let mut parts = output.split_terminator('\0');
    while let Some(scope) = parts.next() {
        let entry = parts.next()?;
        let (name, value) = entry.split_once('\n').unwrap_or((entry, "true"));
        // Git notes there in which way it updates a submodule.
        let is_way = name.starts_with("submodule.") && !value.starts_with('!');
        if !OF_USER.contains(&scope) && !is_way {
            found.push(name.to_owned());
        }
    }
    Some(found)
}

fn declared(settings: Vec<(String, String)>) -> Vec<Declared> {
    let mut all: Vec<Declared> = Vec::new();
    for (key, value) in settings {
        let of_one = key.strip_prefix("submodule.");
        let Some((name, what)) = of_one.and_then(|rest| rest.rsplit_once('.')) else {
            continue;
        };
        let at = all.iter().position(|one| one.name == name);
        let at = at.unwrap_or_else(|| {
            all.push(Declared {
                name: name.to_owned(),
                ..Declared::default()
            });
            all.len() - 1
        });
        match (all.get_mut(at), what) {
            (Some(one), "path") => one.paths.push(value),
            (Some(one), _) => one.update = Some(value),
            (None, _) => {}
        }
    }
    all
}

/// Parses a list of files with their kinds and hashes.
fn links(listed: &str) -> Vec<Link> {
    let lines = listed.split_terminator('\0');
    let links = lines.filter_map(|line| {
        let (about, path) = line.strip_prefix(LINK)?.split_once('\t')?;
        let (commit, _stage) = about.split_once(' ')?;
        Some(Link {
            path: path.to_owned(),
            commit: commit.to_owned(),
        })
    });
    links.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_that_a_submodule_names_itself_are_known() {
        let check = |output: &str, expected: &[&str]| {
            let expected: Vec<String> = expected.iter().map(|name| (*name).to_owned()).collect();
            assert_eq!(own_programs(output), Some(expected), "{output:?}");
        };
        check("", &[]);
        check(
            "global\0filter.lfs.clean\nx\0command\0submodule.a.update\n!true\0\
             local\0submodule.b.update\ncheckout\0",
            &[],
        );
        check(
            "local\0filter.a.clean\nx\0worktree\0hook.b.command\ny\0\
             local\0submodule.c.update\n!sh\0",
            &["filter.a.clean", "hook.b.command", "submodule.c.update"],
        );
        assert_eq!(own_programs("local"), None);
    }

    #[test]
    fn submodules_are_declared_by_names_and_paths() {
        let given = |pairs: &[(&str, &str)]| {
            let pairs = pairs.iter();
            let pairs = pairs.map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
            declared(pairs.collect())
        };
        let found = given(&[
            ("submodule.a.b/c.path", "x y"),
            ("submodule.d.update", "none"),
            ("submodule.d.path", "d"),
        ]);
        let one = |name: &str, path: &str, update: Option<&str>| Declared {
            name: name.to_owned(),
            paths: vec![path.to_owned()],
            update: update.map(str::to_owned),
        };
        assert_eq!(
            found,
            [one("a.b/c", "x y", None), one("d", "d", Some("none"))]
        );
    }
}

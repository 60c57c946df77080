//! Looks at repositories that may be anybody's: those of directories that are not worktrees of this
//! host, and of submodules that a task has made. Git must not run a program that such a repository
//! names: a filter, a file system monitor, or a command that fetches a missing object.
//!
//! A filter can be disabled only by its name, and between a look at the names and the command,
//! somebody may add another one. So a directory is compared with a git directory that the host
//! makes for this, with settings of its own. From the repository, git gets the index, the objects,
//! the patterns of ignored files and the attributes there, which are data, and the values of
//! [`KEPT`], which name no program. Filters that the user has configured for all repositories
//! apply, because they are the user's.
//!
//! The commands that do run in the directory only look up its place, its commit and its settings.
//! They read no file of the checkout and no object, and so need no program.

use std::{
    fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    time::Duration,
};

use claudine_domain::attempt::GitState;
use tempfile::TempDir;

use super::{
    Commit, Git, GitError, is_lossy,
    place::{Place, pointed_to},
    refs::read_commit,
    spec::{SHORT, Spec, without},
    status::Submodules,
    unusable,
};
use crate::fsx;

/// Settings of a repository that decide whether a file counts as changed or new. None of them can
/// name a program.
const KEPT: &str =
    "^core\\.(attributesfile|autocrlf|eol|excludesfile|filemode|precomposeunicode|symlinks)$";

/// Files with patterns in the directory that all checkouts of a repository share.
const PATTERNS: [&str; 2] = ["info/attributes", "info/exclude"];

/// Variables for commands in the repository itself: git must not fetch an object that is missing.
/// Versions before 2.39.4, and 2.40 to 2.44 without the fixes of that time, know only the second
/// one, by which every protocol is forbidden.
pub(super) const NO_FETCH: [(&str, &str); 2] = [NO_LAZY_FETCH, NO_PROTOCOL];
pub(super) const NO_LAZY_FETCH: (&str, &str) = ("GIT_NO_LAZY_FETCH", "1");
pub(super) const NO_PROTOCOL: (&str, &str) = ("GIT_ALLOW_PROTOCOL", "none");

/// The variable that names the directory with the objects of a repository.
const OBJECTS: &str = "GIT_OBJECT_DIRECTORY";

/// The beginning of the names of the host's own git directories.
const OWN: &str = "look.";
/// The age at which nobody uses such a git directory any more.
const LEFT_AFTER: Duration = Duration::from_hours(1);

/// The maximum number of parts of indexes that are made known to git, which keeps a few of them.
const SHARED_MAX: usize = 100;

/// The data for a git directory.
struct Source {
    place: Place,
    commit: Option<Commit>,
    /// How objects are named: `sha1` or `sha256`.
    format: String,
}

impl Git {
    /// The state in which a task has left this directory. `None` if the directory is not in the
    /// checkout in which git would work, because a setting leads git elsewhere. The host's own git
    /// directory is made below `data_dir`, where no other program writes.
    pub(crate) async fn foreign_state(
        &self,
        data_dir: &Path,
    ) -> Result<Option<GitState>, GitError> {
        let there = self.without_fetch();
        let place = there.place().await?;
        let top = place.top.clone();
        if !there.look_at_files(move |dir| is_inside(dir, &top)).await? {
            return Ok(None);
        }
        let source = Source {
            commit: there.unread_commit().await?,
            format: there.line(&rev_parse(&["--show-object-format"])).await?,
            place,
        };
        let branch = there.head_branch().await?;
        let settings = there.kept_settings().await?;
        let folds_case = self.folds_case().await?;
        let state = self.compared(source, settings, folds_case, data_dir);
        Ok(Some(GitState {
            branch: branch.map(|branch| branch.name().to_owned()),
            ..state.await?
        }))
    }

    /// The same setup, but git does not fetch an object that is missing.
    pub(crate) fn without_fetch(&self) -> Self {
        Self {
            variables: self.variables.with_missing(&NO_FETCH),
            ..self.clone()
        }
    }

    /// The submodules of this worktree whose repositories are not where git makes them, in the git
    /// directory of the worktree: the task has made these repositories, or has replaced a `.git`.
    /// Git must not compare the files there, because it would run the filters that they configure.
    pub(crate) async fn foreign_links(&self) -> Result<Vec<String>, GitError> {
        if self.linked_to.is_none() {
            return Ok(Vec::new());
        }
        let submodules = self.submodules().await?;
        self.foreign_among(&submodules).await
    }

    /// Does the same as [`Self::foreign_links`], if these are the submodules of this worktree.
    pub(super) async fn foreign_among(
        &self,
        submodules: &[String],
    ) -> Result<Vec<String>, GitError> {
        if self.linked_to.is_none() || submodules.is_empty() {
            return Ok(Vec::new());
        }
        let git_dir = self.git_dir().await?;
        let mut foreign = Vec::new();
        for link in submodules {
            if self.leads_away(link, &git_dir).await? {
                foreign.push(link.clone());
            }
        }
        Ok(foreign)
    }

    /// Lets a command that adds files leave out the submodules of [`Self::foreign_links`]. Fails if
    /// the command could not be told the name of one of them.
    pub(super) async fn without_foreign(&self, add: Spec) -> Result<Spec, GitError> {
        let mut add = add;
        for link in self.foreign_links().await? {
            if is_lossy(&link) {
                let path = self.dir().join(link);
                return Err(GitError::NotUtf8 { path });
            }
            add = add.arg(without(&link));
        }
        Ok(add)
    }

    /// Whether the repository of a submodule, or of a submodule in it, is not in the git directory
    /// of the checkout that has it. A submodule whose name is not UTF-8 cannot be looked at.
    async fn leads_away(&self, link: &str, git_dir: &Path) -> Result<bool, GitError> {
        if is_lossy(link) {
            return Ok(true);
        }
        let inner = self.in_dir(self.dir().join(link)).without_fetch();
        let modules = git_dir.join("modules");
        let module = inner.look_at_files(move |dir| Module::of(dir, &modules));
        let git_dir = match module.await? {
            Module::Missing => return Ok(false),
            Module::Foreign => return Ok(true),
            Module::Own(git_dir) => git_dir,
        };
        // Git would compare the files there with the settings of that repository.
        if inner.has_disabled_filters().await? {
            return Ok(true);
        }
        for link in inner.submodules().await? {
            if Box::pin(inner.leads_away(&link, &git_dir)).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The commit that is checked out here. Does not read the commit.
    async fn unread_commit(&self) -> Result<Option<Commit>, GitError> {
        let spec = rev_parse(&["--verify", "--quiet", "HEAD"]);
        match self.line_if(&spec).await? {
            Some(line) => read_commit(&spec, &line).map(Some),
            None => Ok(None),
        }
    }

    /// The settings here that git would use, among [`KEPT`], with their values.
    async fn kept_settings(&self) -> Result<Vec<(String, String)>, GitError> {
        let spec = Spec::reads(["config", "-z", "--get-regexp", KEPT]);
        let output = self.output_if(&spec).await?.unwrap_or_default();
        Ok(settings(&output))
    }

    /// Compares the files of a checkout with its index and its commit, with a git directory of the
    /// host.
    async fn compared(
        &self,
        source: Source,
        settings: Vec<(String, String)>,
        folds_case: bool,
        data_dir: &Path,
    ) -> Result<GitState, GitError> {
        let (top, index) = (source.place.top.clone(), source.place.git_dir.join("index"));
        let objects = source.place.repository.join("objects");
        let dir = data_dir.to_owned();
        let made = self.look_at_files(move |_| source.git_dir(&dir)).await?;
        let own = made.map_err(unusable(data_dir))?;
        let git = self.in_repository(own.path()).with_index(&index);
        let git = Self {
            variables: git.variables.clone().with(OBJECTS, &objects),
            ..git
        };
        let spec = Self::status_spec(Submodules::Unopened, false);
        let spec = settings
            .into_iter()
            .fold(spec, |spec, (name, value)| spec.setting(name, value))
            // Otherwise this depends on the host's own directory.
            .setting("core.ignoreCase", if folds_case { "true" } else { "false" })
            .work_tree(&top)
            .limit(SHORT);
        Ok(git.read_status(&spec, Submodules::Unopened).await?.state)
    }
}

/// The repository of a submodule.
enum Module {
    /// The submodule is not checked out.
    Missing,
    /// The repository with this git directory, which is where git makes it.
    Own(PathBuf),
    Foreign,
}

impl Module {
    /// The repository of the submodule that is checked out in `dir`. `modules` is where git makes
    /// the repositories of submodules.
    fn of(dir: &Path, modules: &Path) -> Self {
        if fsx::is_missing(&dir.join(".git")) {
            return Self::Missing;
        }
        match (pointed_to(dir), fs::canonicalize(modules)) {
            (Some(git_dir), Ok(modules)) if git_dir.starts_with(&modules) => Self::Own(git_dir),
            _ => Self::Foreign,
        }
    }
}

fn rev_parse(arguments: &[&str]) -> Spec {
    Spec::reads(["rev-parse"].iter().chain(arguments))
}

/// Whether a directory is in the checkout with this top.
fn is_inside(dir: &Path, top: &Path) -> bool {
    let real = fs::canonicalize(dir);
    real.is_ok_and(|real| real.starts_with(top)) && fsx::is_taken(&top.join(".git"))
}

/// Parses names and values of settings. A setting without a value is true.
pub(super) fn settings(output: &[u8]) -> Vec<(String, String)> {
    let entries = output.split(|byte| *byte == 0).map(String::from_utf8_lossy);
    let entries = entries.filter(|entry| !entry.is_empty());
    entries
        .map(|entry| match entry.split_once('\n') {
            Some((name, value)) => (name.to_owned(), value.to_owned()),
            None => (entry.into_owned(), "true".to_owned()),
        })
        .collect()
}

impl Source {
    /// Makes a git directory for a look at the files. It has nothing of the repository's except
    /// links to data.
    fn git_dir(&self, data_dir: &Path) -> io::Result<TempDir> {
        if let Err(error) = fsx::remove_older(data_dir, OWN, LEFT_AFTER) {
            tracing::warn!(
                path = %data_dir.display(), %error,
                "git directories that killed hosts have left cannot be removed"
            );
        }
        let own = tempfile::Builder::new().prefix(OWN).tempdir_in(data_dir)?;
        let path = |name: &str| own.path().join(name);
        let head = match &self.commit {
            Some(commit) => format!("{}\n", commit.hash()),
            None => "ref: refs/heads/unborn\n".to_owned(),
        };
        fs::write(path("HEAD"), head)?;
        let config = format!(
            "[core]\n\trepositoryFormatVersion = 1\n\tbare = false\n\
             [extensions]\n\tobjectFormat = {}\n",
            self.format
        );
        fs::write(path("config"), config)?;
        fs::create_dir(path("refs"))?;
        fs::create_dir(path("info"))?;
        for name in PATTERNS {
            symlink(self.place.repository.join(name), path(name))?;
        }
        // An index may be split into two files. Git looks for the second one in its git directory.
        for shared in shared_indexes(&self.place.git_dir)? {
            let name = shared.file_name().unwrap_or_default();
            symlink(&shared, own.path().join(name))?;
        }
        Ok(own)
    }
}

fn shared_indexes(git_dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut shared = fsx::entries(git_dir)?;
    shared.retain(|path| {
        let name = path.file_name().unwrap_or_default();
        name.to_string_lossy().starts_with("sharedindex.")
    });
    shared.truncate(SHARED_MAX);
    Ok(shared)
}

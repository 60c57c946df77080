//! Lock files that a git has left because it was killed. Git never removes the lock of another git,
//! so each later command that needs the lock would fail.
//!
//! Only locks in places that belong to one task are removed: those of its refs, and those of its
//! worktree. A person's git or another task's git may need any other lock.

use std::{
    ffi::OsStr,
    fs, io,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    Git, GitError,
    aside::may_contain_name,
    index::OTHER,
    place::{common_dir_of, git_dir_of, read_pointer},
};
use crate::{clock, command, fsx, proc_stat::unless_no_room};

/// The time after which a lock file that has not changed counts as left. A git that runs holds the
/// lock of a ref only for a moment.
const LEFT_AFTER: Duration = Duration::from_secs(2);

/// The end of the names of all lock files. No ref has such a name.
const LOCK: &str = ".lock";

/// A lock file, with the data that distinguishes it from a later one of the same name.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Lock {
    path: PathBuf,
    inode: u64,
    changed: (i64, i64),
}

impl Git {
    /// Removes the lock files of these refs, and those of the worktree at this path, if a git that
    /// was killed has left them. Must be called only while neither the task of the worktree nor
    /// this host runs git there. A person may run git at any time, and `git commit` holds a lock as
    /// long as its editor is open. So nothing is removed while a git works in the worktree, and no
    /// lock of a ref while a git works in any checkout of the repository.
    pub(crate) async fn remove_left_locks(
        &self,
        refs: &[String],
        worktree: &Path,
    ) -> Result<(), GitError> {
        let before = self.locks(refs, worktree).await?;
        if before.is_empty() {
            return Ok(());
        }
        // The git of an earlier host may still hold the locks.
        let over = command::earlier_over().await;
        over.map_err(|source| GitError::Spawn {
            program: "git",
            source,
        })?;
        clock::sleep(LEFT_AFTER).await;
        let mut left = self.locks(refs, worktree).await?;
        left.retain(|lock| before.contains(lock));
        let (repository, worktree) = (self.common_dir().await?, worktree.to_owned());
        self.look_at_files(move |_| remove(&left, &repository, &worktree))
            .await
    }

    /// The lock files of these refs, and those of the worktree at this path.
    async fn locks(&self, refs: &[String], worktree: &Path) -> Result<Vec<Lock>, GitError> {
        let repository = self.common_dir().await?;
        let (refs, worktree) = (refs.to_vec(), worktree.to_owned());
        let dir = repository.clone();
        let found = self.look_at_files(move |_| locks(&dir, &refs, &worktree));
        found.await?.map_err(|source| GitError::Read {
            path: repository,
            source,
        })
    }
}

fn locks(repository: &Path, refs: &[String], worktree: &Path) -> io::Result<Vec<Lock>> {
    let refs = refs.iter();
    let mut paths: Vec<PathBuf> = refs
        .map(|name| repository.join(format!("{name}{LOCK}")))
        .collect();
    if let Some(git_dir) = git_dir_named_after(repository, worktree) {
        add_locks(&git_dir, &mut paths)?;
    }
    Ok(paths.into_iter().filter_map(lock_at).collect())
}

/// The git directory of the worktree at this path. It has the name of the worktree, and git has
/// noted the path in it; `None` if another checkout has this name.
fn git_dir_named_after(repository: &Path, worktree: &Path) -> Option<PathBuf> {
    let git_dir = repository.join("worktrees").join(worktree.file_name()?);
    let noted = read_pointer(&git_dir.join("gitdir")).ok()?;
    let noted = git_dir.join(OsStr::from_bytes(noted.trim_ascii_end()));
    (fsx::real(&noted) == fsx::real(&worktree.join(".git"))).then_some(git_dir)
}

/// Adds the lock files in a git directory to `paths`, without those of the repositories of its
/// submodules.
fn add_locks(git_dir: &Path, paths: &mut Vec<PathBuf>) -> io::Result<()> {
    for path in fsx::entries(git_dir)? {
        let name = path.file_name().unwrap_or_default().as_bytes();
        let Ok(found) = fs::symlink_metadata(&path) else {
            continue;
        };
        if found.is_dir() {
            if name != b"modules" {
                add_locks(&path, paths)?;
            }
        } else if name.ends_with(LOCK.as_bytes()) && !name.starts_with(OTHER.as_bytes()) {
            paths.push(path);
        }
    }
    Ok(())
}

/// The lock file at this path; `None` if there is none, or if it cannot be examined. In the latter
/// case it stays, and the next command of git reports it. The lock of a killed host stays too: the
/// worktree may be the checkout of another task's base, and have some files of its merge.
fn lock_at(path: PathBuf) -> Option<Lock> {
    let found = fs::symlink_metadata(&path).ok()?;
    (found.is_file() && !may_contain_name(&path)).then(|| Lock {
        inode: found.ino(),
        changed: (found.ctime(), found.ctime_nsec()),
        path,
    })
}

fn remove(locks: &[Lock], repository: &Path, worktree: &Path) {
    if locks.is_empty() {
        return;
    }
    let dirs = match dirs_with_git() {
        Ok(dirs) => dirs,
        Err(error) => {
            // One of the processes may be a git. The next command of git reports the lock.
            tracing::warn!(%error, "locks of a killed git stay, as the processes cannot be listed");
            return;
        }
    };
    let worktree = fsx::real(worktree);
    if dirs.iter().any(|dir| dir.starts_with(&worktree)) {
        return;
    }
    let is_repository_used = dirs.iter().any(|dir| is_of(repository, dir));
    let refs = repository.join("refs");
    let is_used = |lock: &&Lock| is_repository_used && lock.path.starts_with(&refs);
    for Lock { path, .. } in locks.iter().filter(|lock| !is_used(lock)) {
        let shown = path.display();
        match fsx::remove_file(path) {
            Ok(()) => tracing::info!(path = %shown, "a lock of a killed git was removed"),
            // The next command of git reports the lock.
            Err(error) => {
                tracing::warn!(path = %shown, %error, "a lock of a killed git cannot be removed");
            }
        }
    }
}

/// The directories in which a git works. An error if there is no room to look at a process, which
/// may be a git.
fn dirs_with_git() -> io::Result<Vec<PathBuf>> {
    let mut dirs = Vec::new();
    for process in fsx::entries(Path::new("/proc"))? {
        // A process that has ended meanwhile, and one of another user, has no name or directory.
        let name = unless_no_room(fsx::read_virtual(process.join("comm")).map(Some))?;
        if name.is_some_and(|name| name.starts_with(b"git")) {
            dirs.extend(unless_no_room(
                fs::read_link(process.join("cwd")).map(Some),
            )?);
        }
    }
    Ok(dirs)
}

/// Whether a directory is in a repository itself or in one of its checkouts. It may be, if the
/// system lacks something to look at it.
fn is_of(repository: &Path, dir: &Path) -> bool {
    let repository = fsx::real(repository);
    let is_top = |top: &Path| {
        let git_dir = git_dir_of(top).unwrap_or_else(|| top.join(".git"));
        match common_dir_of(&git_dir) {
            Ok(found) => found == repository,
            Err(error) => fsx::is_of_the_system(&error),
        }
    };
    dir.starts_with(&repository) || dir.ancestors().any(is_top)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::{
        io::{BufRead, BufReader, Write},
        process::{Child, Command, Stdio},
    };

    use super::*;
    use crate::git::{BranchRef, aside, tests::Person};

    /// A repository with lock files of the task and of others. Beside the repository, the task's
    /// worktree is at `tree` and on the branch `task`, and another worktree is at `beside`.
    struct Locked {
        person: Person,
        own: Vec<PathBuf>,
        others: Vec<PathBuf>,
    }

    impl Locked {
        fn new() -> Self {
            let person = Person::with_repository("");
            person.write("file", "one\n");
            person.commit_all("first");
            person.git(&["worktree", "add", "-q", "-b", "task", "../tree"]);
            person.git(&["worktree", "add", "-q", "--detach", "../beside"]);
            let paths = |names: &[&str]| {
                let git_dir = person.work().join(".git");
                let paths = names.iter().map(|name| git_dir.join(name));
                paths.collect::<Vec<PathBuf>>()
            };
            let own = [
                "refs/heads/task.lock",
                "worktrees/tree/index.lock",
                "worktrees/tree/HEAD.lock",
                "worktrees/tree/refs/worktree/own.lock",
            ];
            let others = [
                "index.lock",
                "HEAD.lock",
                "packed-refs.lock",
                "refs/heads/main.lock",
                "worktrees/tree/claudine.index.1.lock",
                "worktrees/other/index.lock",
            ];
            let locked = Self {
                own: paths(&own),
                others: paths(&others),
                person,
            };
            for path in locked.own.iter().chain(&locked.others) {
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, "").unwrap();
            }
            locked
        }

        async fn remove_left(&self, worktree: &str) {
            let git = self.person.at(".");
            let git = git.in_repository(self.person.work().join(".git"));
            let refs = [BranchRef::named("task").full()];
            let worktree = self.person.home().join(worktree);
            git.remove_left_locks(&refs, &worktree).await.unwrap();
        }
    }

    #[tokio::test]
    async fn only_the_locks_of_a_task_are_removed() {
        let locked = Locked::new();
        locked.remove_left("tree").await;
        assert!(locked.own.iter().all(|path| !path.exists()));
        assert!(locked.others.iter().all(|path| path.exists()));
    }

    #[tokio::test]
    async fn the_lock_of_a_host_that_was_updating_the_worktree_is_kept() {
        let locked = Locked::new();
        let (of_index, others) = (&locked.own[1], [&locked.own[0], &locked.own[2]]);
        fs::write(of_index, aside::name()).unwrap();
        locked.remove_left("tree").await;
        assert!(of_index.exists());
        assert!(others.iter().all(|path| !path.exists()));
    }

    /// Git adds a number to the name of a git directory that exists already.
    #[tokio::test]
    async fn locks_of_another_worktree_of_the_same_name_are_kept() {
        let locked = Locked::new();
        locked.remove_left("elsewhere/tree").await;
        let of_worktree = &locked.own[1..];
        assert!(of_worktree.iter().all(|path| path.exists()));
    }

    /// A git that a person has started, which is ended with the test.
    struct Running(Child);

    impl Drop for Running {
        fn drop(&mut self) {
            self.0.kill().unwrap();
            self.0.wait().unwrap();
        }
    }

    impl Running {
        /// Starts a git in this directory. It waits for its input.
        fn in_dir(dir: &Path) -> Self {
            let mut git = Command::new("git");
            git.env_clear()
                .env("PATH", std::env::var_os("PATH").unwrap())
                .args(["cat-file", "--batch"])
                .current_dir(dir)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped());
            let mut running = Self(git.spawn().unwrap());
            answer(&mut running.0);
            running
        }
    }

    #[tokio::test]
    async fn locks_are_kept_while_a_git_works_in_the_worktree() {
        let locked = Locked::new();
        let running = Running::in_dir(&locked.person.home().join("tree"));
        locked.remove_left("tree").await;
        assert!(locked.own.iter().all(|path| path.exists()));
        drop(running);
        locked.remove_left("tree").await;
        assert!(locked.own.iter().all(|path| !path.exists()));
    }

    #[tokio::test]
    async fn locks_of_refs_are_kept_while_a_git_works_in_another_checkout() {
        let locked = Locked::new();
        let (of_ref, of_worktree) = locked.own.split_first().unwrap();
        for dir in ["work", "beside"] {
            let running = Running::in_dir(&locked.person.home().join(dir));
            locked.remove_left("tree").await;
            assert!(of_ref.exists(), "{dir}");
            assert!(of_worktree.iter().all(|path| !path.exists()));
            drop(running);
        }
        locked.remove_left("tree").await;
        assert!(!of_ref.exists());
    }

    /// Waits until the git has answered a question, so that it has begun.
    fn answer(git: &mut Child) {
        git.stdin.as_mut().unwrap().write_all(b"HEAD\n").unwrap();
        let mut line = String::new();
        let mut reader = BufReader::new(git.stdout.as_mut().unwrap());
        reader.read_line(&mut line).unwrap();
        assert!(line.contains("commit"), "{line}");
    }
}

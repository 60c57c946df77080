//! Tasks in worktrees: their files, the results of their work, and checks that nothing of a person
//! is changed or lost. These tests use the real git.

mod again;
mod branches;
mod checkout;
mod clean;
mod diff;
mod drivers;
mod elsewhere;
mod fast_forward;
mod hand_over;
mod hostile;
mod interrupted;
mod leftover;
mod make;
mod mcp;
mod memory;
mod merge;
mod moved;
mod names;
mod nested;
mod phases;
mod resolve;
mod shim;
mod side_by_side;
mod submodules;

use std::{
    env,
    ffi::OsString,
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
};

use claudine_tests::{HostBuilder, TestHost, command::whole_id, git::git_in, wait_for};
use serde_json::Value;

/// Exit code if the host refuses a request because of the present state, such as a conflict.
const REFUSED: i32 = 125;
/// Exit code if the command line or the request is invalid in any state.
const USAGE: i32 = 2;
/// Shell commands, for use in scripts, that commit all changes.
const COMMIT: &str =
    "git add -A && git -c user.name=T -c user.email=t@example.org commit -q -m work";

/// A host whose working directory is a repository: branch `main`, with `file` and `sub/file`.
struct Repository {
    host: TestHost,
}

impl Repository {
    fn new() -> Self {
        Self::with(TestHost::builder())
    }

    fn with(builder: HostBuilder) -> Self {
        Self::of(builder.build())
    }

    fn of(host: TestHost) -> Self {
        let repository = Self { host };
        repository.git(&["init", "-q", "-b", "main"]);
        repository.write("file", "one\n");
        repository.write("sub/file", "one\n");
        repository.commit("first");
        repository
    }

    fn path(&self) -> PathBuf {
        self.host.work()
    }

    #[track_caller]
    fn git(&self, arguments: &[&str]) -> String {
        git_in(&self.host, &self.path(), arguments)
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Commits a file `filtered` with a required filter `broken`, which does not change it yet.
    fn commit_filtered(&self) {
        self.write(".gitattributes", "filtered filter=broken\n");
        self.write("filtered", "one\n");
        self.commit("filtered");
        self.git(&["config", "filter.broken.required", "true"]);
        self.git(&["config", "filter.broken.clean", "cat"]);
    }

    fn commit(&self, message: &str) {
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "-m", message]);
    }

    /// Makes checkouts stop half-way: they create `reached` and wait for `go`, both beside the
    /// repository.
    fn slow_checkout(&self) {
        let root = self.host.root().display();
        self.write(".gitattributes", "slow filter=slow\n");
        self.write("slow", "slow\n");
        self.commit("slow");
        let waits =
            format!("touch {root}/reached; until test -e {root}/go; do sleep 0.05; done; cat");
        self.git(&["config", "filter.slow.smudge", &waits]);
    }

    /// Waits until a checkout is half-way.
    fn reached(&self) {
        let reached = self.host.root().join("reached");
        wait_for("the checkout", || reached.exists().then_some(()));
    }

    /// Lets every checkout continue.
    fn go(&self) {
        fs::write(self.host.root().join("go"), "").unwrap();
    }

    /// Runs a script in a worktree to its end; returns the task.
    #[track_caller]
    fn done(&self, options: &[&str], script: &str) -> Value {
        let id = self.submit(options, script);
        self.host.finished(&id)
    }

    #[track_caller]
    fn submit(&self, options: &[&str], script: &str) -> String {
        let arguments = ["run", "--worktree"].iter().chain(options);
        self.host.text(arguments.chain(&["--script", script]))
    }

    fn worktree(&self, task: &Value) -> PathBuf {
        let id = task["id"].as_str().unwrap();
        self.host.data_dir().join("worktrees").join(id)
    }

    fn branches(&self) -> Vec<String> {
        let branches = self.git(&["branch", "--format=%(refname:short)"]);
        branches.lines().map(str::to_owned).collect()
    }

    /// Checks that the person's checkout is on `main`, without changes that are not committed.
    #[track_caller]
    fn is_untouched(&self) {
        assert_eq!(self.git(&["status", "--porcelain", "--branch"]), "## main");
    }
}

/// A shell command, for use in scripts, that waits until a file exists.
fn until_exists(file: &Path) -> String {
    format!("until test -e {}; do sleep 0.02; done", file.display())
}

/// The script of a task that changes `file` once `go` is in its worktree.
const THEIRS: &str = "until test -e go; do sleep 0.05; done; rm go; echo theirs > file";

/// A task whose merge met a conflict: `theirs` on its branch, `ours` on `main`.
#[track_caller]
fn conflicting(repository: &Repository) -> Value {
    let id = repository.submit(&["--merge", "auto", "--name", "fix"], THEIRS);
    in_conflict(repository, &id)
}

/// Lets the merge of a running task with the script [`THEIRS`] meet a conflict.
#[track_caller]
fn in_conflict(repository: &Repository, id: &str) -> Value {
    repository.host.live(id);
    repository.write("file", "ours\n");
    repository.commit("ours");
    let worktree = repository.host.data_dir().join("worktrees").join(id);
    fs::write(worktree.join("go"), "").unwrap();
    let task = repository.host.finished(id);
    merged(&task, "failed", "conflict");
    task
}

#[track_caller]
fn merged(task: &Value, outcome: &str, state: &str) -> String {
    assert_eq!(task["outcome"], outcome, "{task:#}");
    assert_eq!(task["merge"]["state"], state, "{task:#}");
    let detail = task["merge"]["detail"].as_str().unwrap();
    assert_eq!(whole_id(detail), None, "{detail}");
    detail.to_owned()
}

/// A directory for `PATH` with only these programs, linked to the real ones.
fn programs(names: &[&str]) -> tempfile::TempDir {
    let bin = tempfile::tempdir().unwrap();
    for name in names {
        symlink(program(name), bin.path().join(name)).unwrap();
    }
    bin
}

/// `PATH` with this directory in front.
fn path_with(first: &Path) -> OsString {
    let path = env::var_os("PATH").unwrap();
    let all = std::iter::once(first.to_owned()).chain(env::split_paths(&path));
    env::join_paths(all).unwrap()
}

/// Path of a program.
fn program(name: &str) -> PathBuf {
    let path = env::var_os("PATH").unwrap();
    let mut places = env::split_paths(&path).map(|dir| dir.join(name));
    places.find(|path| path.exists()).unwrap()
}

fn write_script(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

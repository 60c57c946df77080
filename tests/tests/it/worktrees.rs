//! Tasks in worktrees of their own: what they find there, what becomes of their work, and what is never touched. With the real git.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
};

use claudine_tests::{HostBuilder, TestHost, mcp::PythonClient, wait_for};
use serde_json::{Value, json};

/// What is there already is in the way.
const REFUSED: i32 = 125;
/// The command line or the request makes no sense, whatever there is.
const USAGE: i32 = 2;
/// For scripts: commits all that is there.
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
        let repository = Self {
            host: builder.build(),
        };
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

    fn commit(&self, message: &str) {
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "-m", message]);
    }

    /// Runs a script in a worktree to its end; the task.
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

    /// That the person's checkout is as it was: on `main`, with nothing changed.
    #[track_caller]
    fn is_untouched(&self) {
        assert_eq!(self.git(&["status", "--porcelain", "--branch"]), "## main");
    }
}

#[track_caller]
fn git_in(host: &TestHost, dir: &Path, arguments: &[&str]) -> String {
    let output = host
        .other("git")
        .args(["-c", "user.name=P", "-c", "user.email=p@example.org"])
        .args(arguments)
        .current_dir(dir)
        .output()
        .unwrap();
    assert!(output.status.success(), "git {arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[track_caller]
fn merged(task: &Value, outcome: &str, state: &str) -> String {
    assert_eq!(task["outcome"], outcome, "{task:#}");
    assert_eq!(task["merge"]["state"], state, "{task:#}");
    task["merge"]["detail"].as_str().unwrap().to_owned()
}

#[test]
fn a_task_works_in_a_checkout_of_its_own() {
    let repository = Repository::new();
    let sub = repository.path().join("sub");
    let script = format!("pwd; git branch --show-current; echo two > file; {COMMIT}");
    let task = repository.done(&["-w", sub.to_str().unwrap()], &script);
    let branch = task["worktree"]["branch"].as_str().unwrap();
    let id = task["id"].as_str().unwrap().trim_start_matches("task_");
    assert_eq!(branch, format!("claudine/{id}"));
    let worktree = repository.worktree(&task);
    assert_eq!(
        task["output"],
        format!("{}/sub\n{branch}\n", worktree.display())
    );
    let detail = merged(&task, "succeeded", "left");
    assert!(detail.starts_with("1 commit on branch"), "{detail}");
    assert_eq!(
        repository.git(&["show", &format!("{branch}:sub/file")]),
        "two"
    );
    repository.is_untouched();
    assert_eq!(fs::read(sub.join("file")).unwrap(), b"one\n");
    assert!(!worktree.exists(), "all of it is on the branch");
    assert_eq!(task["merge"]["worktree_removed"], true);
    let attempt = &task["attempts"][0]["git"];
    assert_eq!(
        (&attempt["branch"], &attempt["dirty_count"]),
        (&json!(branch), &json!(0))
    );
}

#[test]
fn what_cannot_be_is_refused_and_leaves_nothing() {
    let repository = Repository::new();
    repository.git(&["branch", "taken"]);
    let host = &repository.host;
    let check = |code: i32, options: &[&str], says: &[&str]| {
        let arguments = ["run", "--worktree"].iter().chain(options);
        let ran = host.run(arguments.chain(&["--", "true"])).code(code);
        ran.says(says);
        assert!(ran.stdout.is_empty(), "{ran}");
    };
    let home = host.home();
    check(
        USAGE,
        &["-w", home.to_str().unwrap()],
        &[
            "a worktree is made of a git repository",
            "home is in none",
            "git init",
        ],
    );
    check(
        REFUSED,
        &["--branch", "taken"],
        &["branch `taken` exists already"],
    );
    check(
        USAGE,
        &["--branch", "a..b"],
        &["`a..b` cannot be the name of a branch"],
    );
    check(
        USAGE,
        &["--branch", "@{-1}"],
        &["`@{-1}` cannot be the name of a branch"],
    );
    check(
        USAGE,
        &["--base", "nowhere"],
        &["base `nowhere` does not exist"],
    );
    check(USAGE, &["--base", "--help"], &["base"]);
    check(USAGE, &["--merge", "pr"], &["--merge pr needs a remote"]);
    check(
        USAGE,
        &["--merge", "rebase"],
        &["`rebase` is no way to merge"],
    );
    check(
        USAGE,
        &["--merge", "auto", "--base", "HEAD~0"],
        &["--merge auto needs a branch to merge into", "`HEAD~0`"],
    );
    check(
        USAGE,
        &["--env", "PATH=/nonexistent"],
        &["git is not installed: `git` was not found on the task's PATH"],
    );
    repository.write("file", "mine\n");
    repository.write("new", "mine\n");
    check(
        REFUSED,
        &["--merge", "auto"],
        &[
            "work, where `main` is checked out",
            "not committed: file, new",
            "commit or stash them",
        ],
    );
    host.run(["run", "--merge", "auto", "--", "true"])
        .code(USAGE)
        .says(&["--worktree"]);
    let twice =
        "- {script: 'true', worktree: {branch: x}}\n- {script: 'true', worktree: {branch: x}}\n";
    host.run_with(["submit", "-"], twice.as_bytes())
        .code(USAGE)
        .says(&["two tasks of the request name the branch `x`"]);
    let empty = host.home().join("empty");
    git_in(host, &host.home(), &["init", "-q", "empty"]);
    check(
        USAGE,
        &["-w", empty.to_str().unwrap()],
        &["has no commit yet"],
    );
    assert_eq!(host.json(["list"])["tasks"], json!([]));
    assert!(!host.data_dir().join("worktrees").exists());
    assert_eq!(repository.branches(), ["main", "taken"]);
}

#[test]
fn auto_brings_a_clean_checkout_of_the_base_along() {
    let repository = Repository::new();
    // Not committed by the task: that is done for it, though nobody has said who commits.
    let task = repository.done(&["--merge", "auto"], "echo two > file; echo new > new; pwd");
    merged(&task, "succeeded", "merged");
    let worktree = repository.worktree(&task);
    assert_eq!(task["output"], format!("{}\n", worktree.display()));
    repository.is_untouched();
    assert_eq!(fs::read(repository.path().join("file")).unwrap(), b"two\n");
    assert_eq!(fs::read(repository.path().join("new")).unwrap(), b"new\n");
    let message = repository.git(&["log", "-1", "--format=%s"]);
    assert_eq!(
        message,
        format!("claudine: work of {}", task["id"].as_str().unwrap())
    );
    assert_eq!(
        repository.branches(),
        ["main"],
        "its branch is merged and was named by nobody"
    );
    assert!(!worktree.exists());
}

#[test]
fn auto_merges_what_has_moved_apart_and_leaves_other_checkouts_alone() {
    let repository = Repository::new();
    repository.git(&["switch", "-q", "-c", "mine"]);
    repository.write("scratch", "not committed\n");
    let id = repository.submit(
        &["--merge", "auto", "--base", "main", "--branch", "fix"],
        "until test -e go; do sleep 0.02; done; rm go; echo two > file",
    );
    repository.host.live(&id);
    let worktree = repository.host.data_dir().join("worktrees").join(&id);
    // Meanwhile somebody commits to the base, without having it checked out.
    let tree = repository.git(&["rev-parse", "main^{tree}"]);
    let other = repository.git(&["commit-tree", &tree, "-p", "main", "-m", "other"]);
    repository.git(&["update-ref", "refs/heads/main", &other]);
    fs::write(worktree.join("go"), "").unwrap();
    let task = repository.host.finished(&id);
    merged(&task, "succeeded", "merged");
    assert_eq!(repository.git(&["show", "main:file"]), "two");
    let parents = repository.git(&["log", "-1", "--format=%P", "main"]);
    assert_eq!(
        parents,
        format!("{other} {}", repository.git(&["rev-parse", "fix"]))
    );
    assert_eq!(
        repository.git(&["status", "--porcelain", "--branch"]),
        "## mine\n?? scratch"
    );
    assert_eq!(fs::read(repository.path().join("file")).unwrap(), b"one\n");
    assert_eq!(
        repository.branches(),
        ["fix", "main", "mine"],
        "a branch that was named stays"
    );
}

#[test]
fn a_conflict_changes_nothing_and_stops_what_depends_on_it() {
    let repository = Repository::new();
    let script = "until test -e go; do sleep 0.02; done; rm go; echo theirs > file";
    let id = repository.submit(&["--merge", "auto", "--name", "fix"], script);
    let deploy = repository.host.text([
        "run",
        "--depends-on-success",
        &id,
        "--script",
        "touch deployed",
    ]);
    repository.host.live(&id);
    repository.write("file", "ours\n");
    repository.commit("ours");
    let main = repository.git(&["rev-parse", "main"]);
    let worktree = repository.host.data_dir().join("worktrees").join(&id);
    fs::write(worktree.join("go"), "").unwrap();
    let task = repository.host.finished(&id);
    let detail = merged(&task, "failed", "conflict");
    let branch = task["worktree"]["branch"].as_str().unwrap();
    assert!(
        detail.starts_with(&format!(
            "`{branch}` conflicts with `main` in file; nothing was merged"
        )),
        "{detail}"
    );
    assert!(detail.contains(&format!("git merge {branch}")), "{detail}");
    assert_eq!(task["reason"]["message"], detail.as_str());
    assert_eq!(
        repository.host.finished(&deploy)["outcome"],
        "upstream_failed"
    );
    assert!(!repository.path().join("deployed").exists());
    repository.is_untouched();
    assert_eq!(repository.git(&["rev-parse", "main"]), main);
    assert_eq!(fs::read(worktree.join("file")).unwrap(), b"theirs\n");
    let text = repository.host.text(["status", "fix"]);
    assert!(
        text.contains(&format!("Reason     {detail} (invalid)")),
        "{text}"
    );
    // Merged by hand, it is of no more use.
    repository.git(&["merge", "-q", "-X", "ours", branch]);
    let cleaned = repository.host.json(["worktree", "clean"]);
    assert_eq!(cleaned["removed"][0]["task"], id, "{cleaned:#}");
    assert_eq!(repository.branches(), ["main"]);
}

#[test]
fn a_checkout_that_was_changed_meanwhile_is_left_as_it_is() {
    let repository = Repository::new();
    let script = "until test -e go; do sleep 0.02; done; rm go; echo theirs > file";
    let id = repository.submit(&["--merge", "auto"], script);
    repository.host.live(&id);
    repository.write("sub/file", "mine\n");
    let worktree = repository.host.data_dir().join("worktrees").join(&id);
    fs::write(worktree.join("go"), "").unwrap();
    let task = repository.host.finished(&id);
    let detail = merged(&task, "failed", "refused");
    assert!(
        detail.contains("has changes that are not committed"),
        "{detail}"
    );
    assert_eq!(repository.git(&["status", "--porcelain"]), "M sub/file");
    assert_eq!(fs::read(repository.path().join("file")).unwrap(), b"one\n");
    assert_eq!(repository.git(&["log", "--format=%s", "main"]), "first");
}

#[test]
fn a_patch_has_all_of_it() {
    let repository = Repository::new();
    let script = format!("echo two > file; {COMMIT}; printf '\\0\\1\\2' > binary");
    let task = repository.done(&["--merge", "patch"], &script);
    let detail = merged(&task, "succeeded", "written");
    let id = task["id"].as_str().unwrap();
    let patch = repository
        .host
        .data_dir()
        .join(format!("worktrees/{id}.patch"));
    assert!(detail.starts_with(patch.to_str().unwrap()), "{detail}");
    repository.is_untouched();
    repository.git(&["apply", patch.to_str().unwrap()]);
    assert_eq!(fs::read(repository.path().join("file")).unwrap(), b"two\n");
    assert_eq!(
        fs::read(repository.path().join("binary")).unwrap(),
        b"\0\x01\x02"
    );
    assert!(!repository.worktree(&task).exists());
}

/// A directory for `PATH` with these programs and nothing else.
fn programs(host: &TestHost, names: &[&str]) -> PathBuf {
    let bin = host.root().join("bin");
    fs::create_dir_all(&bin).unwrap();
    for name in names {
        let path = host
            .other("sh")
            .args(["-c", "command -v \"$0\"", name])
            .output()
            .unwrap();
        let path = String::from_utf8(path.stdout).unwrap();
        symlink(path.trim(), bin.join(name)).unwrap();
    }
    bin
}

#[test]
fn a_branch_is_pushed_and_a_request_opened_where_gh_is() {
    let repository = Repository::new();
    let remote = repository.host.root().join("remote.git");
    git_in(
        &repository.host,
        repository.host.root(),
        &["init", "-q", "--bare", "remote.git"],
    );
    repository.git(&["remote", "add", "origin", remote.to_str().unwrap()]);
    let bin = programs(&repository.host, &["git", "sh"]);
    let path = format!("PATH={}", bin.display());
    let options = ["--merge", "pr", "--branch", "fix", "--env", &path];
    let task = repository.done(&options, "echo two > file");
    let detail = merged(&task, "succeeded", "pushed");
    assert_eq!(
        detail,
        "branch `fix` is pushed to `origin`; `gh` is not installed, so the request is yours to open"
    );
    assert_eq!(
        git_in(&repository.host, &remote, &["show", "fix:file"]),
        "two"
    );

    let gh = "#!/bin/sh\necho \"$@\" >> \"$HOME/gh.calls\"\ntest \"$2\" = create && echo https://example.org/pull/1\n";
    fs::write(bin.join("gh"), gh).unwrap();
    fs::set_permissions(bin.join("gh"), fs::Permissions::from_mode(0o755)).unwrap();
    let options = ["--merge", "pr", "--branch", "fix2", "--env", &path];
    let task = repository.done(&options, "echo three > file");
    let detail = merged(&task, "succeeded", "opened");
    assert!(
        detail.ends_with("and https://example.org/pull/1 is open"),
        "{detail}"
    );
    let calls = fs::read_to_string(repository.host.home().join("gh.calls")).unwrap();
    assert!(
        calls.contains("pr create --head fix2 --title echo three > file --body"),
        "{calls}"
    );
    assert!(calls.contains("--base main"), "{calls}");
    repository.is_untouched();

    fs::remove_dir_all(&remote).unwrap();
    let task = repository.done(&["--merge", "pr", "--branch", "fix3"], "echo four > file");
    let detail = merged(&task, "failed", "refused");
    assert!(detail.starts_with("`git push` failed: "), "{detail}");
    assert!(detail.ends_with("the work is on branch `fix3`"), "{detail}");
    assert_eq!(repository.git(&["show", "fix3:file"]), "four");
}

#[test]
fn what_is_not_committed_is_never_removed() {
    let repository = Repository::new();
    let task = repository.done(&[], "echo two > file");
    let worktree = repository.worktree(&task);
    let detail = merged(&task, "succeeded", "left");
    assert!(
        detail.starts_with("1 file is not committed in the worktree"),
        "{detail}"
    );
    let failed = repository.done(&[], "echo two > file; exit 3");
    assert_eq!(failed["outcome"], "failed");
    let committed = repository.done(&["--keep-worktree"], &format!("echo 2 > file; {COMMIT}"));
    let nothing = repository.done(&["--keep-worktree"], "true");
    merged(&nothing, "succeeded", "nothing");
    let list = repository.host.json(["worktree", "list"]);
    let found: Vec<_> = list
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            (
                one["task"].clone(),
                one["dirty"].clone(),
                one["unmerged"].clone(),
            )
        })
        .collect();
    assert_eq!(
        found,
        [
            (task["id"].clone(), json!(1), json!(0)),
            (failed["id"].clone(), json!(1), json!(0)),
            (committed["id"].clone(), json!(0), json!(1)),
            (nothing["id"].clone(), json!(0), json!(0)),
        ]
    );
    let text = repository.host.text(["worktree", "clean"]);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 4, "{text}");
    assert_eq!(
        lines[0],
        format!("removed {}", repository.worktree(&nothing).display())
    );
    assert!(
        lines[1].ends_with("changes that are not committed, in 1 of its files"),
        "{text}"
    );
    assert!(
        lines[3].contains("is not merged (commits: 1); --all removes"),
        "{text}"
    );
    let all = repository.host.json(["worktree", "clean", "--all"]);
    assert_eq!(all["removed"][0]["task"], committed["id"], "{all:#}");
    assert_eq!(all["left"].as_array().unwrap().len(), 2, "{all:#}");
    let branch = committed["worktree"]["branch"].as_str().unwrap();
    assert_eq!(repository.git(&["show", &format!("{branch}:file")]), "2");
    assert_eq!(fs::read(worktree.join("file")).unwrap(), b"two\n");
    assert!(repository.worktree(&failed).exists());
}

#[test]
fn another_attempt_goes_on_in_the_same_worktree() {
    let repository = Repository::new();
    let script = "if test -e half; then echo whole > half; else touch half; exit 1; fi";
    let options = ["--merge", "auto", "--retries", "1", "--backoff", "1ms"];
    let task = repository.done(&options, script);
    merged(&task, "succeeded", "merged");
    assert_eq!(task["attempts"].as_array().unwrap().len(), 2);
    assert_eq!(task["attempts"][0]["git"]["dirty"], json!(["half"]));
    assert_eq!(
        fs::read(repository.path().join("half")).unwrap(),
        b"whole\n"
    );
    // And so does one that somebody asks for once the worktree is gone.
    let id = task["id"].as_str().unwrap();
    repository.host.text(["retry", id]);
    let task = repository.host.finished(id);
    merged(&task, "succeeded", "nothing");
}

#[test]
fn several_at_once_get_all_of_their_work_in() {
    let repository = Repository::with(TestHost::builder().slots(8));
    let ids: Vec<String> = (0..12)
        .map(|n| repository.submit(&["--merge", "auto"], &format!("echo {n} > made.{n}")))
        .collect();
    for id in &ids {
        merged(&repository.host.finished(id), "succeeded", "merged");
    }
    for n in 0..12 {
        let text = fs::read_to_string(repository.path().join(format!("made.{n}"))).unwrap();
        assert_eq!(text, format!("{n}\n"));
    }
    repository.is_untouched();
    assert_eq!(repository.branches(), ["main"]);
}

#[test]
fn a_graph_builds_on_what_it_has_merged() {
    let repository = Repository::new();
    repository.write(
        "graph.yaml",
        "- {name: a, script: 'echo a >> file', worktree: {merge: auto}}\n\
         - {name: b, script: 'echo b >> file', worktree: {merge: auto}, dependencies: [a]}\n\
         - {name: c, script: 'cat file', worktree: true, dependencies: [b]}\n",
    );
    repository.commit("graph");
    let ids = repository.host.text(["submit", "graph.yaml"]);
    let last = repository.host.finished(ids.lines().last().unwrap());
    assert_eq!(last["output"], "one\na\nb\n", "{last:#}");
    repository.is_untouched();
}

#[test]
fn a_merge_survives_the_death_of_the_host_in_the_middle_of_it() {
    let repository = Repository::new();
    // Git calls it once the base has moved: the host dies before it can note that.
    let hook = repository.path().join(".git/hooks/reference-transaction");
    let text = format!(
        "#!/bin/sh\ntest \"$1\" = committed || exit 0\ngrep -q refs/heads/main || exit 0\n\
         test -e '{0}/killed' && exit 0\ntouch '{0}/killed'\nkill -9 $(sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/' '{1}/host.json')\n",
        repository.host.home().display(),
        repository.host.data_dir().display(),
    );
    fs::write(&hook, text).unwrap();
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    let id = repository.submit(&["--merge", "auto"], "echo two > file");
    let killed = repository.host.home().join("killed");
    wait_for("the host to be killed", || {
        (killed.exists() && repository.host.host_pid().is_none()).then_some(())
    });
    let task = repository.host.finished(&id);
    merged(&task, "succeeded", "merged");
    assert_eq!(repository.git(&["rev-list", "--count", "main"]), "2");
    assert_eq!(fs::read(repository.path().join("file")).unwrap(), b"two\n");
    repository.is_untouched();
    assert!(!repository.worktree(&task).exists());
}

#[test]
fn a_task_outlives_its_host_in_its_worktree() {
    let repository = Repository::new();
    let script = "until test -e go; do sleep 0.02; done; rm go; echo two > file";
    let id = repository.submit(&["--merge", "auto"], script);
    repository.host.live(&id);
    repository.host.kill_host();
    let worktree = repository.host.data_dir().join("worktrees").join(&id);
    repository.host.up();
    let left = repository.host.json(["worktree", "clean", "--all"]);
    assert_eq!(left["left"][0]["why"], "its task has not ended", "{left:#}");
    fs::write(worktree.join("go"), "").unwrap();
    merged(&repository.host.finished(&id), "succeeded", "merged");
}

#[test]
fn a_submission_from_a_hook_is_not_led_back() {
    let repository = Repository::new();
    let git_dir = format!("GIT_DIR={}", repository.path().join(".git").display());
    let index = format!(
        "GIT_INDEX_FILE={}",
        repository.path().join(".git/index").display()
    );
    let options = ["--merge", "manual", "--env", &git_dir, "--env", &index];
    let task = repository.done(&options, &format!("echo two > file; {COMMIT}"));
    merged(&task, "succeeded", "left");
    repository.is_untouched();
    assert_eq!(repository.git(&["log", "--format=%s", "main"]), "first");
}

#[test]
fn agents_ask_for_it_over_mcp() {
    let allowed = "[mcp]\nexecutors = [\"shell\"]\nmerge_strategies = [\"auto\"]\n";
    let builder = TestHost::builder().config(allowed);
    let repository = Repository::with(builder);
    let mut client = PythonClient::connect(&repository.host);
    let answer = client.call(
        "DelegateTask",
        json!({
            "prompt": "echo two > file", "executor": "shell", "useWorktree": true, "branchName": "fix", "mergeStrategy": "auto",
            "keepWorktree": true,
        }),
    );
    let id = answer["taskId"].as_str().unwrap();
    let task = repository.host.finished(id);
    let told = client.call("TaskStatus", json!({ "taskId": id }));
    assert_eq!(told["branch"], "fix");
    assert_eq!(told["merge"], "merged: `fix` is merged into `main`");
    merged(&task, "succeeded", "merged");
    assert_eq!(repository.branches(), ["fix", "main"]);
    assert!(repository.worktree(&task).exists());
    let list = repository.host.text(["worktree", "list"]);
    assert!(
        list.contains("branch   fix from main, nothing that is not merged"),
        "{list}"
    );
}

#[test]
fn an_agent_merges_only_where_its_person_allows_it() {
    let repository =
        Repository::with(TestHost::builder().config("[mcp]\nexecutors = [\"shell\"]\n"));
    let mut client = PythonClient::connect(&repository.host);
    let mut refused = |tool: &str, arguments: Value| {
        let complaint = client.fail(tool, arguments);
        assert!(
            complaint.contains("may not be used over MCP; allowed are: manual, patch")
                && complaint.contains("mcp.merge_strategies"),
            "{complaint}"
        );
    };
    for strategy in ["auto", "pr"] {
        refused(
            "DelegateTask",
            json!({ "prompt": "true", "executor": "shell", "useWorktree": true, "mergeStrategy": strategy }),
        );
    }
    refused(
        "SubmitGraph",
        json!({ "tasks": [{ "script": "true" }, { "script": "true", "worktree": { "merge": "auto" } }] }),
    );
    assert_eq!(repository.host.json(["list"])["tasks"], json!([]));
    let answer = client.call(
        "DelegateTask",
        json!({ "prompt": "echo two > file", "executor": "shell", "useWorktree": true, "mergeStrategy": "patch" }),
    );
    let task = repository.host.finished(answer["taskId"].as_str().unwrap());
    merged(&task, "succeeded", "written");
    let shown = repository.host.text(["config", "show"]);
    assert!(
        shown.contains("merge_strategies = [\"manual\", \"patch\"]"),
        "{shown}"
    );
}

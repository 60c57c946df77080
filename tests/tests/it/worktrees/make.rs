//! The directory of a task in a worktree, and requests that are refused before anything is created.

use std::{fs, os::unix::fs::symlink, path::Path};

use claudine_tests::{TestHost, wait_for};
use serde_json::{Value, json};

use super::{COMMIT, REFUSED, Repository, USAGE, git_in, merged};
use crate::{crash::prevent_next_supervisor, mounts::SmallDisk};

#[test]
fn task_works_in_its_own_checkout() {
    let repository = Repository::new();
    let sub = repository.path().join("sub");
    let script = format!("pwd; git branch --show-current; echo two > file; {COMMIT}");
    let task = repository.done(&["-w", sub.to_str().unwrap()], &script);
    let branch = task["worktree"]["branch"].as_str().unwrap();
    assert_eq!(branch, "claudine/pwd-git-branch-show-current-echo");
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
    assert!(!worktree.exists(), "the worktree was not removed");
    assert_eq!(task["merge"]["worktree_removed"], true);
    let attempt = &task["attempts"][0]["git"];
    assert_eq!(
        (&attempt["branch"], &attempt["dirty_count"]),
        (&json!(branch), &json!(0))
    );
}

/// Makes a branch on which `sub` is a link.
fn link_on_branch(repository: &Repository, branch: &str, target: &Path) {
    repository.git(&["checkout", "-q", "-b", branch]);
    repository.git(&["rm", "-rqf", "sub"]);
    symlink(target, repository.path().join("sub")).unwrap();
    repository.commit("link");
    repository.git(&["checkout", "-q", "main"]);
}

/// Otherwise whoever names the base, or has made it, decides which files the task changes.
#[test]
fn task_does_not_run_where_a_link_leads_out_of_its_worktree() {
    let repository = Repository::new();
    let checkout = repository.path();
    let sub = checkout.join("sub");
    link_on_branch(&repository, "out", &checkout);
    link_on_branch(&repository, "within", Path::new("."));
    repository.write("sub/deep/file", "one\n");
    let done = |dir: &Path, base: &str, script: &str| {
        let dir = dir.to_str().unwrap();
        repository.done(&["--name", base, "-w", dir, "--base", base], script)
    };
    let led_out = |task: &Value| {
        assert_eq!(task["outcome"], "failed", "{task:#}");
        let message = task["reason"]["message"].as_str().unwrap();
        let says = format!("to {}", checkout.display());
        assert!(
            message.contains("would not be in its worktree"),
            "{message}"
        );
        assert!(message.contains(&says), "{message}");
    };
    led_out(&done(&sub, "out", "touch ran"));
    led_out(&done(&sub.join("deep"), "out", "touch ran"));
    let script = format!("rm -r ../sub; ln -s {} ../sub; exit 1", checkout.display());
    done(&sub, "main", &script);
    repository.host.run(["retry", "main"]).check();
    led_out(&repository.host.finished("main"));
    for made in ["ran", "deep"] {
        assert!(!checkout.join(made).exists(), "{made} was made");
    }
    let within = done(&sub, "within", "touch ran");
    assert_eq!(within["outcome"], "succeeded", "{within:#}");
}

/// Without the record, the host does not know whether the directory has work.
#[test]
fn directory_of_a_worktree_without_a_record_is_kept() {
    let repository = Repository::new();
    let host = &repository.host;
    let script = "git checkout -q --detach; test -e mine || { echo mine > mine; exit 1; }";
    let task = repository.done(&["--name", "fix"], script);
    let worktree = repository.worktree(&task);
    fs::remove_file(worktree.with_extension("json")).unwrap();
    host.run(["retry", "fix"]).check();
    let task = host.finished("fix");
    assert_eq!(task["outcome"], "failed", "{task:#}");
    let message = task["reason"]["message"].as_str().unwrap();
    let advice = format!("git worktree remove --force {}", worktree.display());
    assert!(message.contains(&format!("`{advice}`")), "{message}");
    assert_eq!(fs::read(worktree.join("mine")).unwrap(), b"mine\n");
    repository.git(&["worktree", "remove", "--force", worktree.to_str().unwrap()]);
    host.run(["retry", "fix"]).check();
    assert_eq!(host.finished("fix")["outcome"], "failed");
    assert!(
        worktree.join("mine").exists(),
        "the worktree was not made again"
    );
}

#[test]
fn invalid_request_for_a_worktree_is_refused_and_creates_nothing() {
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
            "a worktree needs a git repository",
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
        &[
            "base `nowhere` is not a branch, a tag or a commit",
            "name one with --base",
        ],
    );
    for base in ["^main", "main^{tree}", "main:file", "main..main"] {
        let says = format!("base `{base}` is not a branch, a tag or a commit");
        check(USAGE, &["--base", base], &[&says]);
    }
    check(
        USAGE,
        &["--branch", "x@{u}"],
        &[
            "`x@{u}` cannot be the name of a branch",
            "another branch with --branch",
        ],
    );
    check(USAGE, &["--base", "--help"], &["base"]);
    check(USAGE, &["--merge", "pr"], &["--merge pr needs a remote"]);
    check(
        USAGE,
        &["--merge", "rebase"],
        &["invalid merge strategy `rebase`"],
    );
    check(
        USAGE,
        &["--merge", "auto", "--base", "HEAD~0"],
        &["--merge auto needs a branch to merge into", "`HEAD~0`"],
    );
    check(
        USAGE,
        &["--branch", "taken/by"],
        &[
            "branch `taken/by` cannot be made beside the branch `taken`",
            "--branch",
        ],
    );
    repository.write("file", "mine\n");
    repository.write("new", "mine\n");
    check(
        REFUSED,
        &["--merge", "auto"],
        &[
            "work, where `main` is checked out",
            "not committed: file",
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
        .says(&[
            "two tasks of the request name the branch `x`",
            "a branch of its own",
        ]);
    let above =
        "- {script: 'true', worktree: {branch: x/y}}\n- {script: 'true', worktree: {branch: x}}\n";
    host.run_with(["submit", "-"], above.as_bytes())
        .code(USAGE)
        .says(&[
            "the branches `x` and `x/y`, which cannot both exist",
            "not below `x`",
        ]);
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
    repository.git(&["branch", "claudine"]);
    check(
        USAGE,
        &[],
        &[
            "branch `claudine/…` cannot be made beside the branch `claudine`",
            "name another branch with --branch",
        ],
    );
}

#[test]
fn next_attempt_continues_in_the_same_worktree() {
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
    // A later attempt starts from the merged work, although the worktree was removed.
    let id = task["id"].as_str().unwrap();
    repository.host.text(["retry", id]);
    let task = repository.host.finished(id);
    merged(&task, "succeeded", "nothing");
}

#[test]
fn task_in_a_worktree_outlives_its_host() {
    let repository = Repository::new();
    let script = "until test -e go; do sleep 0.1; done; rm go; echo two > file";
    let id = repository.submit(&["--merge", "auto"], script);
    repository.host.live(&id);
    repository.host.kill_host();
    let worktree = repository.host.data_dir().join("worktrees").join(&id);
    repository.host.up();
    let left = repository.host.json(["worktree", "clean", "--all"]);
    assert_eq!(
        left["left"][0]["why"], "the task of the worktree has not ended",
        "{left:#}"
    );
    fs::write(worktree.join("go"), "").unwrap();
    merged(&repository.host.finished(&id), "succeeded", "merged");
}

/// No process is started, and the task's end does not wait for git.
#[test]
fn task_cancelled_while_its_worktree_is_made_starts_no_process() {
    let repository = Repository::new();
    repository.slow_checkout();
    let ran = repository.host.root().join("ran");
    let id = repository.submit(&[], &format!("echo ran >> {}", ran.display()));
    repository.reached();
    repository.host.run(["cancel", &id]).check();
    let task = repository.host.finished(&id);
    assert_eq!(task["outcome"], "cancelled", "{task:#}");
    assert_eq!(task["attempts"][0]["pid"], json!(null), "{task:#}");
    assert!(!ran.exists());
    // A retry makes the worktree and runs the task.
    repository.go();
    repository.host.text(["retry", &id]);
    merged(&repository.host.finished(&id), "succeeded", "nothing");
    assert_eq!(fs::read(ran).unwrap(), b"ran\n");
}

/// The next host undoes what a killed host has begun. Commits that somebody else has made on the
/// branch are kept.
#[test]
fn new_branch_of_a_worktree_that_is_not_completed_because_of_a_cancel_is_removed() {
    for (is_killed, has_commit) in [(false, false), (true, false), (false, true)] {
        let repository = Repository::new();
        let host = &repository.host;
        repository.slow_checkout();
        let id = repository.submit(&["--name", "fix"], "true");
        repository.reached();
        assert_eq!(repository.branches(), ["claudine/fix", "main"]);
        if has_commit {
            let commit = ["commit-tree", "-p", "main", "-m", "mine", "main^{tree}"];
            let commit = repository.git(&commit);
            repository.git(&["update-ref", "refs/heads/claudine/fix", &commit]);
        }
        if is_killed {
            host.kill_host();
        }
        host.run(["cancel", &id]).check();
        let task = host.finished(&id);
        assert_eq!(task["outcome"], "cancelled", "{task:#}");
        let left: &[&str] = if has_commit {
            &["claudine/fix", "main"]
        } else {
            &["main"]
        };
        assert_eq!(repository.branches(), left, "killed: {is_killed}");
        assert!(!repository.worktree(&task).exists());
        let known = repository.git(&["worktree", "list"]);
        assert_eq!(known.lines().count(), 1, "{known}");
        repository.is_untouched();
    }
}

#[test]
fn task_starts_again_if_no_supervisor_could_be_started_to_make_its_worktree() {
    let repository = Repository::new();
    let host = &repository.host;
    let id = repository.submit(&["--hold"], "echo ran");
    prevent_next_supervisor(host);
    host.run(["release", &id]).check();
    let task = host.finished(&id);
    assert_eq!(task["outcome"], "succeeded", "{task:#}");
    assert_eq!(task["attempt"], 2, "{task:#}");
    assert_eq!(task["output"], "ran\n");
    // An attempt that never began is in the events only.
    let events = host.text(["events", &id]);
    let lost = "attempt 1 lost: no supervisor received its start: git cannot be run: ";
    assert!(events.contains(lost), "{events}");
}

#[test]
fn task_with_git_variables_of_the_checkout_still_commits_in_its_worktree() {
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
fn variables_of_a_hook_do_not_reach_the_task() {
    let repository = Repository::new();
    let host = &repository.host;
    let other = host.home().join("other");
    git_in(host, &host.home(), &["init", "-q", "other"]);
    let script = "git rev-parse --show-toplevel; git status --porcelain; echo \"$GIT_DIR$NAMED\"";
    let submit = |more: &[&str]| {
        let mut command = host.command(["run", "--wait", "-w", other.to_str().unwrap()]);
        // Sets the variables that git sets for a hook. The index that they name does not exist.
        command
            .args(more)
            .args(["--script", script])
            .env("GIT_DIR", repository.path().join(".git"))
            .env("GIT_INDEX_FILE", repository.path().join(".git/index.gone"))
            .env("GIT_WORK_TREE", repository.path())
            .env("GIT_PREFIX", "sub/");
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(submit(&[]), format!("{}\n\n", other.display()));
    // Variables that are given by name are passed on.
    let git_dir = other.join(".git").display().to_string();
    let named = format!("GIT_DIR={git_dir}");
    let printed = submit(&["--env", &named]);
    assert_eq!(printed, format!("{}\n{git_dir}\n", other.display()));
}

/// Commits as many copies of a file of this size as asked for. The repository has it only once.
fn commit_copies(repository: &Repository, copies: u32, megabytes: usize) {
    let content = repository.host.root().join("content");
    fs::write(&content, vec![b'x'; megabytes << 20]).unwrap();
    let blob = repository.git(&["hash-object", "-w", content.to_str().unwrap()]);
    let entries: Vec<String> = (0..copies)
        .map(|number| format!("100644,{blob},many/{number}"))
        .collect();
    let mut stage = vec!["update-index", "--add"];
    stage.extend(entries.iter().flat_map(|entry| ["--cacheinfo", entry]));
    repository.git(&stage);
    repository.git(&["commit", "-q", "-m", "many"]);
}

/// A repository of a few kilobytes can describe any amount of files.
#[test]
fn base_that_would_fill_the_disk_is_not_written_to_its_end() {
    const MEGABYTES: u64 = 1 << 20;
    let disk = SmallDisk::mount(600);
    let builder = TestHost::builder()
        .data_dir(disk.dir.join("data"))
        .config("disk_reserve = \"400M\"\n");
    let repository = Repository::with(builder);
    let host = &repository.host;
    commit_copies(&repository, 100, 20);

    let task = repository.done(&["--name", "many"], "true");
    assert_eq!(task["outcome"], "failed", "{task:#}");
    let message = task["reason"]["message"].as_str().unwrap();
    assert!(
        message.contains("less than half of CLAUDINE_DISK_RESERVE"),
        "{task:#}"
    );
    // What was written is removed, and other tasks run.
    let free = || {
        let disk = rustix::fs::statvfs(&disk.dir).unwrap();
        disk.f_bavail * disk.f_frsize
    };
    wait_for("the space", || (free() > 500 * MEGABYTES).then_some(()));
    host.run(["run", "--wait", "--", "true"]).check();
}

/// Without a limit, git would use up all inodes, and the person's programs could make no file.
#[test]
fn base_that_would_use_up_the_inodes_is_not_written_to_its_end() {
    let disk = SmallDisk::mount_with("size=600m,nr_inodes=30000");
    let builder = TestHost::builder()
        .data_dir(disk.dir.join("data"))
        .config("disk_reserve = \"4M\"\n");
    let repository = Repository::with(builder);
    let host = &repository.host;
    // 36,000 names in a few trees.
    let blob = repository.git(&["rev-parse", "HEAD:file"]);
    let names = 0..33;
    let entries: Vec<String> = names
        .clone()
        .map(|number| format!("100644,{blob},{number}"))
        .collect();
    repository.git(&["read-tree", "--empty"]);
    let mut stage = vec!["update-index", "--add"];
    stage.extend(entries.iter().flat_map(|entry| ["--cacheinfo", entry]));
    repository.git(&stage);
    let mut tree = repository.git(&["write-tree"]);
    for _ in 0..2 {
        repository.git(&["read-tree", "--empty"]);
        for number in names.clone() {
            let prefix = format!("--prefix={number}/");
            repository.git(&["read-tree", &prefix, &tree]);
        }
        tree = repository.git(&["write-tree"]);
    }
    let commit = repository.git(&["commit-tree", "-m", "many", &tree]);
    repository.git(&["update-ref", "refs/heads/main", &commit]);

    let task = repository.done(&["--name", "many"], "true");
    assert_eq!(task["outcome"], "failed", "{task:#}");
    let message = task["reason"]["message"].as_str().unwrap();
    assert!(
        message.contains("inodes are free on the disk of"),
        "{task:#}"
    );
    // What was written is removed, and other tasks run.
    let free = || rustix::fs::statvfs(&disk.dir).unwrap().f_favail;
    wait_for("the inodes", || (free() > 25_000).then_some(()));
    host.run(["run", "--wait", "--", "true"]).check();
}

/// Git has no room to say that there is no room. Nobody could end the task if its end waited for
/// that, because its worktree is what fills the disk.
#[test]
fn base_that_has_filled_the_disk_is_removed_again() {
    const MEGABYTES: u64 = 1 << 20;
    let disk = SmallDisk::mount(160);
    // So the disk is full before anything ends the preparation.
    let builder = TestHost::builder()
        .data_dir(disk.dir.join("data"))
        .config("disk_reserve = \"1\"\n");
    let repository = Repository::with(builder);
    let host = &repository.host;
    commit_copies(&repository, 400, 1);
    let free = || {
        let disk = rustix::fs::statvfs(&disk.dir).unwrap();
        disk.f_bavail * disk.f_frsize
    };

    let task = repository.done(&["--name", "many"], "true");
    assert_eq!(task["outcome"], "failed", "{task:#}");
    let message = task["reason"]["message"].as_str().unwrap();
    assert!(message.contains("its output cannot be written"), "{task:#}");
    wait_for("the space", || (free() > 120 * MEGABYTES).then_some(()));
    host.run(["run", "--wait", "--", "true"]).check();
    host.run(["down", "--kill"]).check();
}

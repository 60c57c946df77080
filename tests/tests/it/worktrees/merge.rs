//! Merging work into its base: strategies, conflicts, merges by hand, and deaths of the host.

use std::{fs, path::PathBuf};

use claudine_tests::{TestHost, wait_for};
use serde_json::json;
use tempfile::TempDir;

use super::{REFUSED, Repository, conflicting, merged, path_with, program, programs, write_script};

#[test]
fn strategy_auto_updates_a_clean_checkout_of_the_base() {
    let repository = Repository::new();
    // The host commits the task's changes, even if no author is configured.
    let task = repository.done(&["--merge", "auto"], "echo two > file; echo new > new; pwd");
    merged(&task, "succeeded", "merged");
    let worktree = repository.worktree(&task);
    assert_eq!(task["output"], format!("{}\n", worktree.display()));
    repository.is_untouched();
    assert_eq!(fs::read(repository.path().join("file")).unwrap(), b"two\n");
    assert_eq!(fs::read(repository.path().join("new")).unwrap(), b"new\n");
    let message = repository.git(&["log", "-1", "--format=%s"]);
    assert_eq!(message, "echo two > file; echo new > new; pwd");
    let format = "--format=%(trailers:key=Claudine-Task,valueonly)";
    let trailer = repository.git(&["log", "-1", format]);
    assert_eq!(trailer, task["id"].as_str().unwrap());
    assert_eq!(
        repository.branches(),
        ["main"],
        "the branch that the host had named was not removed"
    );
    assert!(!worktree.exists());
}

#[test]
fn strategy_auto_merges_diverged_branches_and_leaves_other_checkouts_alone() {
    let repository = Repository::new();
    repository.git(&["switch", "-q", "-c", "mine"]);
    repository.write("scratch", "not committed\n");
    let id = repository.submit(
        &["--merge", "auto", "--base", "main", "--branch", "fix"],
        "until test -e go; do sleep 0.1; done; rm go; echo two > file",
    );
    repository.host.live(&id);
    let worktree = repository.host.data_dir().join("worktrees").join(&id);
    // Meanwhile somebody commits to the base, without having checked it out.
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
        "a branch that the request had named was removed"
    );
}

#[test]
fn conflicting_merge_changes_nothing_and_stops_dependants() {
    let repository = Repository::new();
    let script = "until test -e go; do sleep 0.1; done; rm go; echo theirs > file";
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
    assert_eq!(
        task["reason"],
        json!({"class": "conflict", "message": "merge conflict in file"})
    );
    assert_eq!(task["merge"]["conflicts"], json!(["file"]));
    assert_eq!(
        repository.host.finished(&deploy)["outcome"],
        "upstream_failed"
    );
    assert!(!repository.path().join("deployed").exists());
    repository.is_untouched();
    assert_eq!(repository.git(&["rev-parse", "main"]), main);
    assert_eq!(fs::read(worktree.join("file")).unwrap(), b"theirs\n");
    let text = repository.host.text(["status", "fix"]);
    let short = &id[id.len() - 6..];
    let steps = format!(
        "Reason     merge conflict in file\n           \
         1. claudine worktree resolve {short}  # resolve the conflict by hand\n           \
         2. claudine enter {short}  # look around in the worktree\n           \
         3. claudine diff {short}  # see what the task has changed\n"
    );
    assert!(text.contains(&steps), "{text}");
    assert!(text.contains("  failed: merge conflict\n"), "{text}");
    assert!(!text.contains(&detail), "{text}");
    let why = repository.host.text(["why", "fix"]);
    assert_eq!(why.matches(&detail).count(), 1, "{why}");
    let list = repository.host.text(["worktree", "list"]);
    assert!(list.contains("  merge conflict in file  "), "{list}");
    // After a merge by hand, the task's worktree and branch are no longer needed.
    repository.git(&["merge", "-q", "-X", "ours", branch]);
    let cleaned = repository.host.json(["worktree", "clean"]);
    assert_eq!(cleaned["removed"][0]["task"], id, "{cleaned:#}");
    assert_eq!(repository.branches(), ["main"]);
}

#[test]
fn concurrent_merges_lose_no_work() {
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
fn task_of_a_graph_starts_from_the_merged_work_of_its_dependency() {
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

/// A repository whose git kills the host once: after git has moved a base, and before the host can
/// record the move.
struct Deadly {
    repository: Repository,
    killed: PathBuf,
    _bin: TempDir,
}

impl Deadly {
    fn new() -> Self {
        let bin = programs(&[]);
        let repository = Repository::with(TestHost::builder().env("PATH", path_with(bin.path())));
        let killed = repository.host.home().join("killed");
        let text = format!(
            "#!/bin/sh\n'{0}' \"$@\" || exit\ncase \" $* \" in *\" --ff-only \"*) ;; *) exit 0 ;; esac\n\
             test -e '{1}' && exit 0\ntouch '{1}'\nkill -9 $(sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/' '{2}/host.json')\n",
            program("git").display(),
            killed.display(),
            repository.host.data_dir().display(),
        );
        write_script(&bin.path().join("git"), &text);
        Self {
            repository,
            killed,
            _bin: bin,
        }
    }

    fn is_killed(&self) {
        wait_for("the host to be killed", || {
            let is_gone = self.killed.exists() && self.repository.host.host_pid().is_none();
            is_gone.then_some(())
        });
    }
}

#[test]
fn merge_interrupted_by_the_death_of_the_host_is_completed_once() {
    let deadly = Deadly::new();
    let repository = &deadly.repository;
    let id = repository.submit(&["--merge", "auto"], "echo two > file");
    deadly.is_killed();
    let task = repository.host.finished(&id);
    merged(&task, "succeeded", "merged");
    assert_eq!(repository.git(&["rev-list", "--count", "main"]), "2");
    assert_eq!(fs::read(repository.path().join("file")).unwrap(), b"two\n");
    repository.is_untouched();
    assert!(!repository.worktree(&task).exists());
}

/// When the host dies, the merge is done but not recorded for its task. The next request records
/// the merge, and the task succeeds.
#[test]
fn merge_by_hand_is_recorded_for_its_task_after_a_death_of_the_host() {
    let deadly = Deadly::new();
    let repository = &deadly.repository;
    let host = &repository.host;
    let task = conflicting(repository);
    let id = task["id"].as_str().unwrap();
    let worktree = repository.worktree(&task);
    let resolve = ["worktree", "resolve", id];
    host.run(resolve).code(REFUSED).says(&["not resolved"]);
    fs::write(worktree.join("file"), "both\n").unwrap();
    let cut_off = host.run(resolve);
    deadly.is_killed();
    assert_ne!(cut_off.status.code(), Some(0), "{cut_off}");
    assert_eq!(fs::read(repository.path().join("file")).unwrap(), b"both\n");
    assert_eq!(host.status(id)["outcome"], "failed");
    let answer = host.json(resolve);
    assert_eq!(answer["merged"]["attempt"], 2, "{answer:#}");
    merged(&host.status(id), "succeeded", "merged");
}

/// A person merges with git alone, and removes the worktree and the branch. The host recognises the
/// merge, because the base contains the commits that were recorded for the task.
#[test]
fn merge_with_git_alone_lets_the_task_succeed_on_request() {
    let repository = Repository::new();
    let host = &repository.host;
    let task = conflicting(&repository);
    let (id, branch) = (&task["id"], task["worktree"]["branch"].as_str().unwrap());
    let id = id.as_str().unwrap();
    repository.git(&["merge", "-q", "-X", "theirs", branch]);
    host.run(["worktree", "clean"]).check();
    assert_eq!(repository.branches(), ["main"]);
    assert_eq!(host.json(["worktree", "list"]), json!([]));
    let answer = host.json(["worktree", "merge", id]);
    assert_eq!(answer["attempt"], 2, "{answer:#}");
    merged(&host.status(id), "succeeded", "merged");
}

/// With `--autostash`, git stashes the changes, and restores them when the merge is committed.
#[test]
fn changes_that_git_has_stashed_for_an_open_merge_are_committed_too() {
    let repository = Repository::new();
    repository.git(&["switch", "-q", "-c", "other"]);
    repository.write("other", "other\n");
    repository.commit("other");
    repository.git(&["switch", "-q", "main"]);
    let script = "echo mine > file; git -c user.name=T -c user.email=t@example.org \
                  merge -q --autostash --no-commit --no-ff other > /dev/null 2>&1; cat file";
    let task = repository.done(&["--merge", "auto"], script);
    assert_eq!(task["output"], "one\n", "git has not stashed the change");
    merged(&task, "succeeded", "merged");
    repository.is_untouched();
    for (file, text) in [("file", "mine\n"), ("other", "other\n")] {
        let found = fs::read_to_string(repository.path().join(file)).unwrap();
        assert_eq!(found, text);
    }
    // If the stashed changes and the merged branch change the same file, the merge has a conflict.
    repository.git(&["switch", "-q", "other"]);
    repository.write("sub/file", "theirs\n");
    repository.commit("theirs");
    repository.git(&["switch", "-q", "main"]);
    let script = script.replace("mine > file", "again > sub/file");
    let task = repository.done(&["--merge", "auto"], &script);
    let detail = merged(&task, "failed", "conflict");
    assert!(detail.contains("are not resolved: sub/file"), "{detail}");
    repository.is_untouched();
}

//! Work that is merged into its base, and what is refused and then left as it is.

use std::{fs, os::unix::fs::PermissionsExt};

use claudine_tests::{TestHost, wait_for};

use super::{Repository, merged};

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

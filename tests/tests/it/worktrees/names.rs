//! Names that git could mistake for something else.

use std::fs;

use claudine_tests::mcp::Client;
use serde_json::json;

use super::{COMMIT, REFUSED, Repository, USAGE, git_in, merged};

#[test]
fn branch_is_merged_although_a_tag_has_the_same_name() {
    let repository = Repository::new();
    // The task makes a tag with the name of its own branch.
    let script = format!("echo own > own; {COMMIT}; git tag own main");
    let task = repository.done(&["--merge", "auto", "--branch", "own"], &script);
    let detail = merged(&task, "succeeded", "merged");
    assert_eq!(detail, "merged `own` into `main`");
    assert!(!repository.worktree(&task).exists());
    let text = fs::read_to_string(repository.path().join("own")).unwrap();
    assert_eq!(text, "own\n");
    repository.is_untouched();
    // A later worktree of a task is made from its branch, not from the tag of that name.
    let task = repository.done(
        &["--branch", "again"],
        &format!("echo again >> again; {COMMIT}"),
    );
    repository.git(&["tag", "again", "main"]);
    let id = task["id"].as_str().unwrap();
    repository.host.text(["resume", id]);
    merged(&repository.host.finished(id), "succeeded", "left");
    assert_eq!(
        repository.git(&["show", "refs/heads/again:again"]),
        "again\nagain"
    );
}

/// A person who types `git merge origin/main` must not get the work of a task.
#[test]
fn branch_with_a_name_that_git_takes_for_something_else_is_refused() {
    let repository = Repository::new();
    let host = &repository.host;
    git_in(host, host.root(), &["init", "-q", "--bare", "remote.git"]);
    let remote = host.root().join("remote.git");
    repository.git(&["remote", "add", "origin", remote.to_str().unwrap()]);
    repository.git(&["push", "-q", "origin", "main"]);
    repository.git(&["tag", "v1"]);
    let hash = repository.git(&["rev-parse", "main"]);
    let mut client = Client::connect(host);
    for name in [
        "origin/main",
        "origin/later",
        "origin",
        "v1",
        "heads/main",
        "heads/new",
        "tags/v9",
        "remotes/origin/later",
        "refs/claudine/x",
        "stash",
        "FETCH_HEAD",
        &hash[..7],
        &hash,
    ] {
        let says = format!("`{name}` cannot be the name of a new branch");
        let options = ["run", "--worktree", "--branch", name, "--", "true"];
        host.run(options).code(USAGE).says(&[&says]);
        let asked = json!({
            "prompt": "true", "executor": "shell", "useWorktree": true, "branchName": name,
        });
        let complaint = client.fail("DelegateTask", asked);
        assert!(complaint.contains(&says), "{complaint}");
    }
    assert_eq!(host.json(["list"])["tasks"], json!([]));
    assert_eq!(repository.branches(), ["main"]);
    // A repeated request is answered with its first task, although a tag now has the name of the
    // task's branch.
    let options = ["--branch", "own", "--idempotency-key", "once"];
    let task = repository.done(&options, "true");
    repository.git(&["tag", "own"]);
    let again = repository.submit(&options, "true");
    assert_eq!(task["id"], *again);
}

/// Git itself does not protect such a branch: the person's next commit would be on top of the
/// task's work, or would be impossible.
#[test]
fn branch_that_a_person_has_checked_out_is_refused_although_it_has_no_commit_yet() {
    let repository = Repository::new();
    let host = &repository.host;
    let later = ["--branch", "late", "--base", "main", "--hold"];
    let late = repository.submit(&later, "true");
    let linked = host.root().join("linked");
    let path = linked.to_str().unwrap();
    repository.git(&["worktree", "add", "-q", "--detach", path]);
    git_in(host, &linked, &["symbolic-ref", "HEAD", "refs/heads/late"]);
    for branch in ["dev", "claudine/fix"] {
        repository.git(&["symbolic-ref", "HEAD", &format!("refs/heads/{branch}")]);
        let mut client = Client::connect(host);
        let checked_out = "cannot be the name of a new branch: it is checked out in";
        let beside = "cannot be made beside the branch `late`";
        for (name, code, says) in [
            (branch, REFUSED, checked_out),
            ("late", REFUSED, checked_out),
            ("late/x", USAGE, beside),
        ] {
            let says = format!("`{name}` {says}");
            let start = ["run", "--worktree", "--branch", name];
            let options = [&start[..], &["--base", "main", "--", "true"]].concat();
            host.run(options).code(code).says(&[&says]);
            let asked = json!({
                "prompt": "true", "executor": "shell", "useWorktree": true, "branchName": name,
                "baseBranch": "main",
            });
            let complaint = client.fail("DelegateTask", asked);
            assert!(complaint.contains(&says), "{complaint}");
        }
    }
    // A branch that is named after its task gets another name.
    let task = repository.done(&["--name", "fix", "--base", "main"], "echo two > file");
    assert_eq!(task["worktree"]["branch"], "claudine/fix-2", "{task:#}");
    // The person has begun the branch since the task was submitted.
    host.run(["release", &late]).check();
    let task = host.finished(&late);
    assert_eq!(task["outcome"], "failed", "{task:#}");
    let why = task["reason"].to_string();
    assert!(why.contains("it is checked out in"), "{why}");
}

#[test]
fn base_given_by_name_is_the_branch_and_not_the_tag_of_the_same_name() {
    let repository = Repository::new();
    repository.git(&["tag", "v1"]);
    repository.git(&["switch", "-q", "-c", "v1"]);
    repository.write("file", "branch\n");
    repository.commit("branch");
    repository.git(&["switch", "-q", "main"]);
    let task = repository.done(
        &["--base", "v1", "--merge", "auto"],
        "cat file; echo more > more",
    );
    merged(&task, "succeeded", "merged");
    assert_eq!(task["output"], "branch\n");
    assert_eq!(repository.git(&["show", "refs/heads/v1:more"]), "more");
    // As a base, `HEAD` means the branch that is checked out, not a branch named `HEAD`.
    repository.git(&["update-ref", "refs/heads/HEAD", "refs/heads/v1"]);
    let main = repository.git(&["rev-parse", "refs/heads/main"]);
    for base in [&[][..], &["--base", "HEAD"], &["--base", "@"]] {
        let task = repository.done(base, "true");
        let worktree = &task["worktree"];
        let found = (&worktree["base"], &worktree["base_commit"]);
        assert_eq!(found, (&json!("main"), &json!(main)), "{base:?}");
    }
}

#[test]
fn path_of_a_repository_may_contain_a_line_feed() {
    let repository = Repository::new();
    let host = &repository.host;
    let dir = host.home().join("line\nend");
    fs::create_dir(&dir).unwrap();
    git_in(host, &dir, &["init", "-q", "-b", "main"]);
    git_in(
        host,
        &dir,
        &["commit", "-q", "--allow-empty", "-m", "first"],
    );
    let options = ["--merge", "auto", "-w", dir.to_str().unwrap()];
    let task = repository.done(&options, "echo two > file");
    merged(&task, "succeeded", "merged");
    assert_eq!(fs::read(dir.join("file")).unwrap(), b"two\n");
}

#[test]
fn removed_branch_is_not_recreated_without_its_history() {
    let repository = Repository::new();
    let script = format!(
        "echo one > one; {COMMIT}; git rev-parse HEAD; git update-ref -d refs/heads/gone; echo two > two"
    );
    let task = repository.done(&["--merge", "auto", "--branch", "gone"], &script);
    let detail = merged(&task, "failed", "refused");
    let commit = task["output"].as_str().unwrap().trim();
    let way_back = format!("`git update-ref refs/heads/gone {commit}` restores it");
    assert!(detail.contains(&way_back), "{detail}");
    assert_eq!(
        repository.branches(),
        ["main"],
        "a branch without its history was made"
    );
    repository.git(&["update-ref", "refs/heads/gone", commit]);
    let id = task["id"].as_str().unwrap();
    repository.host.text(["worktree", "merge", id]);
    repository.is_untouched();
    for name in ["one", "two"] {
        let text = fs::read_to_string(repository.path().join(name)).unwrap();
        assert_eq!(text, format!("{name}\n"));
    }
}

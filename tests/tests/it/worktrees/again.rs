//! Merges that are requested again after their tasks have ended.

use std::{fs, process::Stdio};

use claudine_tests::short_id;
use serde_json::{Value, json};

use super::{COMMIT, REFUSED, Repository, USAGE, conflicting, git_in, merged};

#[test]
fn conflict_resolved_on_the_branch_is_merged() {
    let repository = Repository::new();
    let task = conflicting(&repository);
    let id = task["id"].as_str().unwrap();
    let worktree = repository.worktree(&task);
    let host = &repository.host;
    let detail = task["merge"]["detail"].as_str().unwrap();
    let short = short_id(id);
    let ways = format!("`claudine worktree resolve {short}` opens the merge in its worktree");
    assert!(detail.contains(&ways), "{detail}");
    // Another request meets the same conflict, because neither branch has changed.
    let branch = task["worktree"]["branch"].as_str().unwrap();
    host.run(["worktree", "merge", "fix"])
        .code(REFUSED)
        .says(&[&format!("`{branch}` conflicts with `main` in file")]);
    repository.is_untouched();

    // While a merge is open in the worktree, the request is refused, resolved or not.
    let merge = host
        .other("git")
        .args(["-c", "user.name=P", "-c", "user.email=p@example.org"])
        .args(["merge", "-q", "main"])
        .current_dir(&worktree)
        .output();
    assert_eq!(merge.unwrap().status.code(), Some(1), "it conflicts");
    let way_out = format!("`claudine worktree resolve {short}` completes it");
    let is_refused = || {
        host.run(["worktree", "merge", "fix"])
            .code(REFUSED)
            .says(&["a merge is open in the worktree", &way_out]);
        repository.is_untouched();
    };
    is_refused();
    fs::write(worktree.join("file"), "both\n").unwrap();
    git_in(host, &worktree, &["add", "file"]);
    is_refused();
    git_in(host, &worktree, &["commit", "-q", "--no-edit"]);
    let ran = host.run(["worktree", "merge", "fix"]).ok();
    assert_eq!(
        ran.text(),
        format!(
            "merged `{branch}` into `main`\n{} has succeeded",
            short_id(id)
        )
    );
    repository.is_untouched();
    assert_eq!(fs::read(repository.path().join("file")).unwrap(), b"both\n");
    assert!(!worktree.exists(), "the worktree of merged work is left");
    assert_eq!(repository.branches(), ["main"]);
    // Earlier attempts are unchanged, and the merge is a separate attempt.
    let task = host.status(id);
    assert_eq!(
        merged(&task, "succeeded", "merged"),
        format!("merged `{branch}` into `main`")
    );
    assert_eq!(task["attempts"][0]["merge"]["state"], "conflict");
    assert_eq!(task["attempts"][0]["outcome"], "failed");
    assert_eq!(task["attempts"][1]["by_hand"], true);
    assert_eq!(task["merged_by_hand"], true);
    assert_eq!(task.get("reason"), None, "{task:#}");
    let text = host.text(["status", id]);
    assert!(text.contains("succeeded (merged by hand)"), "{text}");
    assert!(
        text.contains("Attempt 2  ✓ 0.0s  merged by hand\n"),
        "{text}"
    );
    host.run(["worktree", "merge", id])
        .code(REFUSED)
        .says(&[&format!("branch `{branch}` no longer exists")]);
}

#[test]
fn merge_refused_for_uncommitted_changes_is_done_once_the_checkout_is_clean() {
    let repository = Repository::new();
    let script = "until test -e go; do sleep 0.1; done; rm go; echo theirs > file";
    let id = repository.submit(&["--merge", "auto"], script);
    let host = &repository.host;
    host.live(&id);
    host.run(["worktree", "merge", &id])
        .code(REFUSED)
        .says(&["is running, not done"]);
    repository.write("sub/file", "mine\n");
    let worktree = host.data_dir().join("worktrees").join(&id);
    fs::write(worktree.join("go"), "").unwrap();
    merged(&host.finished(&id), "failed", "refused");
    host.run(["worktree", "merge", &id])
        .code(REFUSED)
        .says(&["`main` is checked out in", "not committed"]);
    assert_eq!(fs::read(repository.path().join("file")).unwrap(), b"one\n");
    assert_eq!(repository.git(&["status", "--porcelain"]), "M sub/file");

    repository.commit("mine");
    let answer = host.json(["worktree", "merge", &id]);
    assert_eq!(answer["task"], id);
    assert_eq!(answer["merge"]["state"], "merged", "{answer:#}");
    assert_eq!(answer["merge"]["worktree_removed"], true, "{answer:#}");
    repository.is_untouched();
    assert_eq!(
        fs::read(repository.path().join("file")).unwrap(),
        b"theirs\n"
    );
    assert_eq!(
        fs::read(repository.path().join("sub/file")).unwrap(),
        b"mine\n"
    );
}

#[test]
fn branch_left_for_later_is_merged_on_request() {
    let repository = Repository::new();
    let host = &repository.host;
    let task = repository.done(&["--branch", "fix"], &format!("echo two > file; {COMMIT}"));
    merged(&task, "succeeded", "left");
    let id = task["id"].as_str().unwrap();
    assert!(!repository.worktree(&task).exists());
    for how in [&[][..], &["--merge", "manual"]] {
        let arguments = ["worktree", "merge", id];
        host.run(arguments.iter().chain(how))
            .code(USAGE)
            .says(&["--merge manual leaves the branch", "--merge auto"]);
    }
    host.run(["worktree", "merge", id, "--merge", "pr"])
        .code(REFUSED)
        .says(&["there is no remote to which `fix` can be pushed"]);
    let answer = host.json(["worktree", "merge", id, "--merge", "patch"]);
    assert_eq!(answer["merge"]["state"], "written", "{answer:#}");
    repository.is_untouched();
    assert_eq!(fs::read(repository.path().join("file")).unwrap(), b"one\n");
    let patch = host.data_dir().join(format!("worktrees/{id}.patch"));
    assert!(fs::read_to_string(patch).unwrap().contains("+two"));
    let answer = host.json(["worktree", "merge", id, "--merge", "auto"]);
    assert_eq!(answer["merge"]["state"], "merged", "{answer:#}");
    repository.is_untouched();
    assert_eq!(fs::read(repository.path().join("file")).unwrap(), b"two\n");
    // A branch that was named by the user is kept, so merging it can be requested again.
    assert_eq!(repository.branches(), ["fix", "main"]);
    let answer = host.json(["worktree", "merge", id, "--merge", "auto"]);
    assert_eq!(answer["merge"]["state"], "merged", "{answer:#}");

    let without = host.script("true");
    host.finished(&without);
    host.run(["worktree", "merge", &without, "--merge", "auto"])
        .code(REFUSED)
        .says(&[&format!("task {} has no worktree", short_id(&without))]);
    host.run(["worktree", "merge", "nobody"])
        .code(125)
        .says(&["no task matches `nobody`"]);
    assert_eq!(host.json(["worktree", "list"]), json!([]));
}

/// Worktrees are lost with the data directory, but their branches remain in the repository.
#[test]
fn restored_task_continues_on_its_branch() {
    let repository = Repository::new();
    let host = &repository.host;
    let script = format!("cat file; echo more >> file; {COMMIT}");
    let tasks = [&["--branch", "own"][..], &[]].map(|options| {
        let task = repository.done(options, &script);
        assert_eq!(task["output"], "one\n");
        task
    });
    let backup = host.root().join("queue.backup");
    let backup = backup.to_str().unwrap();
    host.run(["backup", backup]).check();
    host.run(["down"]).check();
    for entry in fs::read_dir(host.data_dir()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            fs::remove_file(path).unwrap();
        } else if path.is_dir() && !path.ends_with("cache") {
            fs::remove_dir_all(path).unwrap();
        }
    }
    host.run(["restore", backup]).check();
    for task in tasks {
        let id = task["id"].as_str().unwrap();
        host.run(["retry", id]).check();
        let task = host.finished(id);
        let detail = merged(&task, "succeeded", "left");
        assert!(detail.starts_with("2 commits on branch"), "{detail}");
        assert_eq!(task["output"], "one\nmore\n");
    }
    repository.is_untouched();
}

#[test]
fn dependants_run_after_a_merge_by_hand() {
    let repository = Repository::new();
    let host = &repository.host;
    let script = "until test -e go; do sleep 0.1; done; rm go; echo said; echo theirs > file";
    let id = repository.submit(&["--merge", "auto", "--name", "fix"], script);
    let after = |options: &[&str], script: &str| {
        let arguments = ["run"].iter().chain(options);
        host.text(arguments.chain(&["--script", script]))
    };
    let reads = after(
        &["--depends-on-success", &id, "--with-output-of", &id],
        "cat file; cat $CLAUDINE_INPUT_FIX/output",
    );
    let last = after(&["--depends-on-success", &reads], "echo last");
    host.live(&id);
    repository.write("file", "ours\n");
    repository.commit("ours");
    let worktree = host.data_dir().join("worktrees").join(&id);
    fs::write(worktree.join("go"), "").unwrap();
    merged(&host.finished(&id), "failed", "conflict");
    for dependant in [&reads, &last] {
        assert_eq!(host.finished(dependant)["outcome"], "upstream_failed");
    }
    // The branch is merged, and its conflict resolved, with git alone. The request to the host then
    // finds this merge.
    let branch = host.status(&id)["worktree"]["branch"].clone();
    repository.git(&["merge", "-q", "-X", "theirs", branch.as_str().unwrap()]);
    let answer = host.json(["worktree", "merge", "fix"]);
    assert_eq!(
        (&answer["attempt"], &answer["downstream"]),
        (&json!(2), &json!(2))
    );
    assert_eq!(host.finished(&reads)["output"], "theirs\nsaid\n");
    assert_eq!(host.finished(&last)["output"], "last\n");
    let facts = host.text(["events", "--json", &id]);
    let facts = facts
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    let kinds: Vec<Value> = facts.map(|fact: Value| fact["kind"].clone()).collect();
    assert_eq!(
        kinds[kinds.len() - 3..],
        ["merged_by_hand", "attempt_ended", "done"]
    );
    // The task's output is still that of attempt 1, in which the executor ran. A resume would
    // continue attempt 1.
    assert_eq!(host.text(["logs", &id]), "said");
    assert_eq!(host.json(["checkpoint", &id])["attempt"], 1);
    // As the task has succeeded, another request for a merge is refused, and a retry is a third
    // attempt.
    host.run(["worktree", "merge", "fix"])
        .code(REFUSED)
        .says(&["no longer exists"]);
    assert_eq!(host.json(["retry", "fix"])["tasks"][0]["attempt"], 3);
}

/// Otherwise the worktree would have the files from before the move, and the next commit there
/// would revert the commit to which a person has moved the branch.
#[test]
fn removed_worktree_is_not_made_again_if_its_branch_is_moved_meanwhile() {
    let repository = Repository::new();
    let host = &repository.host;
    repository.write(".gitattributes", "slow filter=slow\n");
    repository.write("slow", "slow\n");
    repository.commit("slow");
    let task = conflicting(&repository);
    host.run(["worktree", "clean", "--all"]).check();
    let root = host.root().display();
    let waits = format!("touch {root}/reached; until test -e {root}/go; do sleep 0.1; done; cat");
    repository.git(&["config", "filter.slow.smudge", &waits]);
    let resolve = ["worktree", "resolve", "fix"];
    let mut first = host.command(resolve);
    let first = first.stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    repository.reached();
    let branch = "refs/heads/claudine/fix";
    let tree = repository.git(&["rev-parse", "main^{tree}"]);
    let commit = ["commit-tree", "-p", branch, "-m", "of a person", &tree];
    let moved = repository.git(&commit);
    repository.git(&["update-ref", branch, &moved]);
    repository.go();
    let ended = first.unwrap().wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(REFUSED));
    let said = String::from_utf8(ended.stderr).unwrap();
    assert!(
        said.contains("`claudine/fix` was moved or deleted while its worktree was made"),
        "{said}"
    );
    assert!(!repository.worktree(&task).exists());
    assert_eq!(repository.git(&["rev-parse", branch]), moved);
}

//! Conflicts that a person resolves in the task's worktree, in a shell or an editor.

use std::fs;

use claudine_tests::{TestHost, process, short_id, terminal::Terminal, wait_for};
use serde_json::json;

use super::{COMMIT, REFUSED, Repository, conflicting, git_in, merged, until_exists};

const SIZE: (u16, u16) = (100, 30);
/// Resolves the conflict by writing other text to the file, like a person who edits the file.
const BOTH: &str = "printf 'both\\n' > file";

#[test]
fn conflict_resolved_in_a_shell_lets_dependants_run() {
    let repository = Repository::new();
    let host = &repository.host;
    let task = conflicting(&repository);
    let id = task["id"].as_str().unwrap();
    let next = host.text(["run", "--depends-on-success", id, "--", "cat", "file"]);
    assert_eq!(host.finished(&next)["outcome"], "upstream_failed");
    let arguments = ["worktree", "resolve", "fix"];
    let shell = &[("SHELL", "/bin/sh"), ("PS1", "in the worktree> ")];
    let mut terminal = Terminal::start_with(host, &arguments, SIZE, shell);
    terminal.shows(&["file has conflict markers", "in the worktree> "]);
    // An interrupt does not end `resolve`, because the shell in the worktree handles it.
    terminal.press("\x03");
    wait_for("another prompt", || {
        let prompts = terminal.screen().matches("in the worktree> ").count();
        (prompts > 1).then_some(())
    });
    terminal.press(&format!("{BOTH}; pwd\n"));
    terminal.shows(&["worktrees/task_"]);
    terminal.press("exit\n");
    terminal.shows(&["into `main`", "1 dependant can run again"]);
    assert!(terminal.ended().success());
    let task = host.status(id);
    merged(&task, "succeeded", "merged");
    assert_eq!(task["attempts"].as_array().unwrap().len(), 2);
    assert_eq!(host.finished(&next)["output"], "both\n");
    repository.is_untouched();
    let message = repository.git(&["log", "-1", "--format=%B"]);
    let branch = task["worktree"]["branch"].as_str().unwrap();
    assert_eq!(
        message,
        format!("Merge branch 'main' into {branch}\n\nClaudine-Task: {id}")
    );
    assert_eq!(repository.branches(), ["main"]);
}

#[test]
fn editor_gets_the_conflicting_files() {
    let repository = Repository::new();
    let host = &repository.host;
    let task = conflicting(&repository);
    let id = task["id"].as_str().unwrap();
    let resolve = |editor: &str, code: i32, says: &[&str]| {
        let arguments = ["worktree", "resolve", "fix", "--edit"];
        let mut terminal = Terminal::start_with(host, &arguments, SIZE, &[("EDITOR", editor)]);
        terminal.shows(says);
        assert_eq!(terminal.ended().code(), Some(code), "{}", terminal.screen());
    };
    // If the editor changes nothing, the merge stays open, and the base is not changed.
    let open = ["file has conflict markers", "the merge stays open"];
    resolve("true", REFUSED, &open);
    merged(&host.status(id), "failed", "conflict");
    repository.is_untouched();
    let edit = host.root().join("edit it");
    fs::write(&edit, "printf 'both\\n' > \"$1\"\n").unwrap();
    let editor = format!("sh '{}'", edit.display());
    resolve(&editor, 0, &["into `main`"]);
    merged(&host.status(id), "succeeded", "merged");
    assert_eq!(fs::read(repository.path().join("file")).unwrap(), b"both\n");
}

/// Without a terminal, the command prints the steps; a second call of the same command completes
/// the merge.
#[test]
fn resolution_can_be_continued_or_aborted() {
    let repository = Repository::new();
    let host = &repository.host;
    let task = conflicting(&repository);
    let id = task["id"].as_str().unwrap();
    let worktree = repository.worktree(&task);
    let resolve = ["worktree", "resolve", "fix"];
    host.run([&resolve[..], &["--abort"]].concat())
        .code(REFUSED)
        .says(&["no merge is in progress in the worktree"]);
    let before = git_in(host, &worktree, &["rev-parse", "HEAD"]);
    host.run(resolve).code(REFUSED).says(&[
        "file has conflict markers",
        "1 file is not resolved; the merge stays open",
        "claudine worktree resolve",
    ]);
    let text = fs::read_to_string(worktree.join("file")).unwrap();
    assert!(
        text.contains("<<<<<<< HEAD") && text.contains(">>>>>>> refs/heads/main"),
        "{text}"
    );
    host.run([&resolve[..], &["--edit"]].concat())
        .code(REFUSED)
        .says(&["the editor was not opened", "the merge stays open"]);
    host.run([&resolve[..], &["--abort"]].concat()).check();
    assert_eq!(git_in(host, &worktree, &["status", "--porcelain"]), "");
    assert_eq!(git_in(host, &worktree, &["rev-parse", "HEAD"]), before);
    // After the merge has begun, the host and the shell die: the next `resolve` finds the open
    // merge.
    let shell = &[("SHELL", "/bin/sh"), ("PS1", "in the worktree> ")];
    let terminal = Terminal::start_with(host, &resolve, SIZE, shell);
    terminal.shows(&["in the worktree> "]);
    process::kill_9(host.host_pid().unwrap());
    drop(terminal);
    wait_for("the host to be gone", || {
        host.host_pid().is_none().then_some(())
    });
    fs::write(worktree.join("file"), "both\n").unwrap();
    let answer = host.json(resolve);
    assert_eq!(answer["merged"]["merge"]["state"], "merged", "{answer:#}");
    assert_eq!(answer["merged"]["attempt"], 2);
    merged(&host.status(id), "succeeded", "merged");
    host.run(resolve).code(REFUSED).says(&["no longer exists"]);
}

/// Another attempt may have worked in the open merge. When git aborts the merge, it removes files
/// that were added to the index.
#[test]
fn changes_in_an_open_merge_are_kept_when_the_merge_is_aborted() {
    let repository = Repository::new();
    let host = &repository.host;
    let task = conflicting(&repository);
    let id = task["id"].as_str().unwrap();
    let kept = format!("refs/claudine/{id}");
    let worktree = repository.worktree(&task);
    let own = |arguments: &[&str]| git_in(host, &worktree, arguments);
    repository.write("merged", "ours\n");
    repository.commit("without a conflict");
    let resolve = ["worktree", "resolve", "fix"];
    let abort = ["worktree", "resolve", "fix", "--abort"];
    host.run(resolve).code(REFUSED).says(&["not resolved"]);
    let nothing = json!({"task": id, "aborted": true});
    assert_eq!(host.json(abort), nothing);
    let refs = repository.git(&["for-each-ref", "refs/claudine"]);
    assert_eq!(refs, "", "nothing was changed");

    host.run(resolve).code(REFUSED).says(&["not resolved"]);
    fs::write(repository.path().join(".git/info/exclude"), "ignored\n").unwrap();
    let files = ["new", "ignored", "sub/file"];
    for file in files {
        fs::write(worktree.join(file), "work\n").unwrap();
        own(&["add", "--force", file]);
    }
    // Git itself would not abort the merge then.
    fs::write(worktree.join("merged"), "work\n").unwrap();
    let answer = host.json(abort);
    assert_eq!(answer["kept"], kept, "{answer:#}");
    assert_eq!(own(&["status", "--porcelain"]), "");
    assert!(!worktree.join("new").exists());
    for file in files.into_iter().chain(["merged"]) {
        assert_eq!(repository.git(&["show", &format!("{kept}:{file}")]), "work");
    }

    host.run(resolve).code(REFUSED).says(&["not resolved"]);
    assert_eq!(host.json(abort), nothing, "the earlier abort made the ref");

    host.run(resolve).code(REFUSED).says(&["not resolved"]);
    fs::write(worktree.join("new"), "more\n").unwrap();
    let says = format!(
        "aborted: the branch is unchanged; what was changed in the merge is kept: `git log -p \
         {kept}` shows it"
    );
    assert_eq!(host.text(abort), says);
    let shown = repository.git(&["log", "-p", &kept]);
    assert!(shown.contains("\n+more"), "{shown}");
}

/// If a task runs again while its merge is still open, it fails with the same conflict. `status`
/// then proposes `worktree resolve`, even after the merge was aborted.
#[test]
fn status_of_a_task_that_ran_in_an_open_merge_proposes_to_resolve_the_merge() {
    let repository = Repository::new();
    let host = &repository.host;
    let task = conflicting(&repository);
    let id = task["id"].as_str().unwrap();
    let resolve = ["worktree", "resolve", "fix"];
    host.run(resolve)
        .code(REFUSED)
        .says(&["file has conflict markers"]);
    fs::write(repository.worktree(&task).join("go"), "").unwrap();
    // The task's script overwrites the file; for git, this does not resolve the conflict.
    host.run(["retry", id]).check();
    assert_eq!(host.run(["wait", id]).status.code(), Some(1));
    let is_told = || {
        let task = host.status(id);
        let detail = merged(&task, "failed", "conflict");
        assert!(detail.contains("are not resolved: file"), "{detail}");
        assert_eq!(task["reason"]["message"], "merge conflict in file");
        let first = task["steps"][0]["command"].as_str().unwrap();
        assert_eq!(first, format!("claudine worktree resolve {}", short_id(id)));
        let listed = host.json(["worktree", "list"]).to_string();
        assert!(listed.contains("merge conflict in file"), "{listed}");
        assert!(!listed.contains("in progress"), "{listed}");
    };
    is_told();
    host.run([&resolve[..], &["--abort"]].concat()).check();
    is_told();
}

#[test]
fn conflict_that_another_attempt_has_resolved_without_git_add_is_merged() {
    let repository = Repository::new();
    let host = &repository.host;
    let script = "until test -e go; do sleep 0.02; done; rm go; \
                  if grep -q '<<<' file; then echo both > file; else echo theirs > file; fi";
    let id = repository.submit(&["--merge", "auto", "--name", "fix"], script);
    host.live(&id);
    repository.write("file", "ours\n");
    repository.commit("ours");
    let go = host.data_dir().join("worktrees").join(&id).join("go");
    fs::write(&go, "").unwrap();
    merged(&host.finished(&id), "failed", "conflict");
    let resolve = ["worktree", "resolve", "fix"];
    host.run(resolve).code(REFUSED).says(&["not resolved"]);
    fs::write(&go, "").unwrap();
    host.run(["retry", &id]).check();
    merged(&host.finished(&id), "succeeded", "merged");
    assert_eq!(repository.git(&["show", "main:file"]), "both");
    repository.is_untouched();
}

/// `resolve` has no merge to open or to complete then.
#[test]
fn conflict_without_a_merge_is_reported_with_the_way_to_resolve_it() {
    let repository = Repository::new();
    let host = &repository.host;
    let script = format!(
        "export GIT_AUTHOR_NAME=T GIT_AUTHOR_EMAIL=t@example.org GIT_COMMITTER_NAME=T \
         GIT_COMMITTER_EMAIL=t@example.org; echo one more > file; git stash -q; \
         echo two > file; {COMMIT}; git stash pop -q > /dev/null 2>&1; true"
    );
    let task = repository.done(&["--merge", "auto", "--name", "fix"], &script);
    let detail = merged(&task, "failed", "conflict");
    let says =
        "are not resolved: file; `git add` or `git rm` them there, and `claudine worktree merge";
    assert!(detail.contains(says), "{detail}");
    host.run(["worktree", "resolve", "fix"])
        .code(REFUSED)
        .says(&[says]);
    let worktree = repository.worktree(&task);
    fs::write(worktree.join("file"), "both\n").unwrap();
    git_in(host, &worktree, &["add", "file"]);
    host.run(["worktree", "merge", "fix"]).check();
    assert_eq!(repository.git(&["show", "main:file"]), "both");
}

/// If the conflict no longer exists, the work is merged at once. A removed worktree is made again.
#[test]
fn work_is_merged_at_once_if_its_conflict_no_longer_exists() {
    let repository = Repository::new();
    let host = &repository.host;
    let task = conflicting(&repository);
    let id = task["id"].as_str().unwrap();
    host.run(["worktree", "clean", "--all"]).check();
    assert!(!repository.worktree(&task).exists());
    host.run(["worktree", "resolve", id])
        .code(REFUSED)
        .says(&["file has conflict markers"]);
    assert!(repository.worktree(&task).exists());
    host.run(["worktree", "resolve", id, "--abort"]).check();
    repository.git(&["revert", "--no-edit", "HEAD"]);
    let answer = host.json(["worktree", "resolve", id]);
    assert_eq!(answer["merged"]["merge"]["state"], "merged", "{answer:#}");
    assert_eq!(
        fs::read(repository.path().join("file")).unwrap(),
        b"theirs\n"
    );
    assert_eq!(host.status(id)["outcome"], "succeeded");
}

/// In the worktree, the task's side is the own side, and the task's attributes apply. But the base
/// gets the result.
#[test]
fn merge_drivers_of_the_base_decide_also_if_conflicts_are_resolved_by_hand() {
    let repository = Repository::with(TestHost::builder().slots(2));
    let host = &repository.host;
    repository.git(&["config", "merge.ours.driver", "true"]);
    repository.write(".gitattributes", "lock merge=ours\n");
    repository.write("lock", "one\n");
    repository.write("sub/lock", "one\n");
    repository.commit("attributes");
    let go = host.root().join("go");
    let submit = |name: &str, script: &str| {
        let waits = until_exists(&go);
        let options = ["--merge", "auto", "--name", name];
        let id = repository.submit(&options, &format!("{script}; {waits}"));
        host.live(&id);
        id
    };
    let changes = "echo theirs > file; echo theirs > lock; echo theirs > sub/lock";
    let changes = submit("changes", changes);
    let chooses = "echo 'file merge=union' >> .gitattributes; echo theirs > file";
    let chooses = submit("chooses", chooses);
    for file in ["file", "lock", "sub/lock"] {
        repository.write(file, "ours\n");
    }
    repository.write("sub/.gitattributes", "lock merge=ours\n");
    repository.commit("ours");
    fs::write(&go, "").unwrap();
    for id in [&changes, &chooses] {
        merged(&host.finished(id), "failed", "conflict");
    }

    let resolve = ["worktree", "resolve", "changes"];
    host.run(resolve)
        .code(REFUSED)
        .says(&["1 file is not resolved"]);
    let worktree = repository.worktree(&host.status(&changes));
    fs::write(worktree.join("file"), "both\n").unwrap();
    let answer = host.json(resolve);
    assert_eq!(answer["merged"]["merge"]["state"], "merged", "{answer:#}");
    for (file, text) in [("file", "both"), ("lock", "ours"), ("sub/lock", "ours")] {
        assert_eq!(repository.git(&["show", &format!("main:{file}")]), text);
    }

    let main = repository.git(&["rev-parse", "main"]);
    let says = "merging `claudine/chooses` into `main` gives another result in a checkout of \
                `main` than in the worktree, because of different attributes or a merge driver: \
                file; `git merge claudine/chooses` on `main`";
    host.run(["worktree", "resolve", "chooses"])
        .code(REFUSED)
        .says(&[says]);
    let worktree = repository.worktree(&host.status(&chooses));
    assert_eq!(git_in(host, &worktree, &["status", "--porcelain"]), "");
    assert_eq!(repository.git(&["rev-parse", "main"]), main);
    repository.is_untouched();
}

/// Git overwrites such files without a word, and `--abort` would then remove them.
#[test]
fn conflicting_merge_is_not_begun_over_ignored_files_of_the_task() {
    let repository = Repository::new();
    let host = &repository.host;
    repository.write(".gitignore", "lock\nreports\nlater\n");
    repository.commit("ignored");
    let script = "echo theirs > file; mkdir reports; echo 1 > reports/one; echo 2 > lock; \
                  echo 3 > later; until test -e go; do sleep 0.02; done; rm go";
    let id = repository.submit(&["--merge", "auto", "--name", "fix"], script);
    host.live(&id);
    repository.write(".gitignore", "later\n");
    for file in ["file", "lock", "reports"] {
        repository.write(file, "ours\n");
    }
    repository.git(&["add", "-A"]);
    repository.write("later/deep", "ours\n");
    repository.git(&["add", "-f", "later/deep"]);
    repository.git(&["commit", "-q", "-m", "ours"]);
    let worktree = host.data_dir().join("worktrees").join(&id);
    fs::write(worktree.join("go"), "").unwrap();
    merged(&host.finished(&id), "failed", "conflict");
    let resolve = ["worktree", "resolve", "fix"];
    host.run(resolve)
        .code(REFUSED)
        .says(&["would overwrite files", "later, lock, reports/one;"]);
    for (file, text) in [("reports/one", "1\n"), ("lock", "2\n"), ("later", "3\n")] {
        assert_eq!(fs::read_to_string(worktree.join(file)).unwrap(), text);
    }
    for file in ["reports", "later", "lock"] {
        fs::rename(worktree.join(file), host.root().join(file)).unwrap();
    }
    host.run(resolve).code(REFUSED).says(&["not resolved"]);
}

/// Git changes files of the worktree before it fails, and would show them as the task's changes.
#[test]
fn files_of_a_merge_that_git_could_not_begin_are_never_taken_for_work() {
    let repository = Repository::new();
    let host = &repository.host;
    let smudge = |command: &str| repository.git(&["config", "filter.big.smudge", command]);
    for (name, value) in [("clean", "cat"), ("required", "true")] {
        repository.git(&["config", &format!("filter.big.{name}"), value]);
    }
    smudge("cat");
    repository.write(".gitattributes", "*.bin filter=big\n");
    repository.write("picture.bin", "one\n");
    repository.commit("filtered");
    let script = "until test -e go; do sleep 0.02; done; rm go; echo theirs > file";
    let id = repository.submit(&["--merge", "auto", "--name", "fix"], script);
    host.live(&id);
    for file in ["file", "sub/file", "new/file"] {
        repository.write(file, "ours\n");
    }
    repository.write("picture.bin", "broken\n");
    repository.commit("ours");
    let worktree = host.data_dir().join("worktrees").join(&id);
    fs::write(worktree.join("go"), "").unwrap();
    merged(&host.finished(&id), "failed", "conflict");

    let resolve = ["worktree", "resolve", "fix"];
    let abort = ["worktree", "resolve", "fix", "--abort"];
    let status = || git_in(host, &worktree, &["status", "--porcelain"]);
    // The filter cannot write the file of the base.
    smudge("sed /broken/q1");
    let failed = &["smudge filter big failed"];
    host.run(resolve).code(REFUSED).says(failed);
    assert_eq!(status(), "");
    assert!(!worktree.join("new").exists());
    host.run(abort)
        .code(REFUSED)
        .says(&["no merge is in progress"]);
    // The filter cannot write the file of the task either, so the files cannot be put back yet.
    smudge("false");
    host.run(resolve).code(REFUSED).says(failed);
    assert_ne!(status(), "");
    let says = &["has failed half-way, so nothing was done"];
    for strategy in ["patch", "auto"] {
        let merge = ["worktree", "merge", "fix", "--merge", strategy];
        host.run(merge).code(REFUSED).says(says);
    }
    host.run(resolve).code(REFUSED).says(says);
    host.run(["retry", "fix"]).check();
    assert_eq!(host.finished(&id)["outcome"], "failed");
    smudge("sed /broken/q1");
    // Somebody changes a file meanwhile. Its text is kept.
    fs::write(worktree.join("sub/file"), "mine\n").unwrap();
    host.run(abort).check();
    assert_eq!(status(), "");
    let kept = format!("refs/claudine/{id}:sub/file");
    assert_eq!(repository.git(&["show", &kept]), "mine");
    let branch = "claudine/fix";
    host.run(["worktree", "merge", "fix", "--merge", "patch"])
        .check();
    assert_eq!(
        repository.git(&["show", &format!("{branch}:file")]),
        "theirs"
    );
    repository.is_untouched();
}

/// Such a change is in no commit, and git would discard it when it refuses the merge.
#[test]
fn conflicting_merge_is_not_begun_over_changes_that_git_was_told_not_to_check() {
    let repository = Repository::new();
    let host = &repository.host;
    let task = conflicting(&repository);
    let worktree = repository.worktree(&task);
    repository.write("sub/file", "ours\n");
    repository.commit("more");
    let hide = ["update-index", "--assume-unchanged", "sub/file"];
    git_in(host, &worktree, &hide);
    fs::write(worktree.join("sub/file"), "local\n").unwrap();
    let resolve = ["worktree", "resolve", "fix"];
    let says = "that git was told not to check: sub/file;";
    host.run(resolve).code(REFUSED).says(&[says]);
    let text = fs::read_to_string(worktree.join("sub/file")).unwrap();
    assert_eq!(text, "local\n");
}

/// With `manual`, the base is merged into the branch. The person merges the branch into the base
/// later.
#[test]
fn manual_strategy_resolves_on_the_branch_only() {
    let repository = Repository::new();
    let host = &repository.host;
    let task = conflicting(&repository);
    let id = task["id"].as_str().unwrap();
    let worktree = repository.worktree(&task);
    let resolve = ["worktree", "resolve", id, "--merge", "manual"];
    fs::write(worktree.join("more"), "not committed\n").unwrap();
    host.run(resolve)
        .code(REFUSED)
        .says(&["has changes that are not committed"]);
    fs::remove_file(worktree.join("more")).unwrap();
    host.run(resolve).code(REFUSED).says(&["not resolved"]);
    fs::write(worktree.join("file"), "both\n").unwrap();
    assert_eq!(host.json(resolve), json!({"task": id}));
    assert_eq!(host.status(id)["outcome"], "failed");
    let branch = task["worktree"]["branch"].as_str().unwrap();
    assert_eq!(repository.git(&["show", &format!("{branch}:file")]), "both");
    repository.is_untouched();
    host.run(["worktree", "merge", id]).check();
    assert_eq!(host.status(id)["outcome"], "succeeded");
}

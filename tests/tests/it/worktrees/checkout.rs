//! Merges into a checkout of the base: its files are updated, or nothing in it is changed.

use std::{
    fs,
    path::{Path, PathBuf},
};

use claudine_tests::wait_for;
use serde_json::Value;

use super::{COMMIT, REFUSED, Repository, git_in, merged, until_exists};

#[test]
fn merge_into_a_checkout_with_uncommitted_changes_is_refused() {
    let repository = Repository::new();
    let script = "until test -e go; do sleep 0.1; done; rm go; echo theirs > file";
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

/// The files around the repository look unchanged, and are not those of the checkout.
#[test]
fn checkout_to_which_a_setting_leads_git_is_not_left_behind_by_a_merge() {
    let repository = Repository::new();
    let host = &repository.host;
    let real = host.root().join("real");
    let main = repository.git(&["rev-parse", "main"]);
    let id = repository.submit(
        &["--merge", "auto"],
        "until test -e go; do sleep 0.1; done; rm go; echo two > file; echo new > new",
    );
    host.live(&id);
    let path = real.to_str().unwrap();
    repository.git(&["clone", "-q", ".", path]);
    fs::remove_dir_all(real.join(".git")).unwrap();
    repository.git(&["config", "core.worktree", path]);
    let worktree = host.data_dir().join("worktrees").join(&id);
    fs::write(worktree.join("go"), "").unwrap();
    let task = host.finished(&id);
    let detail = merged(&task, "failed", "refused");
    let says = format!(
        "checked out in {}, but `core.worktree` leads git from there to {path}, whose files would stay",
        repository.path().display()
    );
    assert!(detail.contains(&says), "{detail}");
    assert_eq!(repository.git(&["rev-parse", "main"]), main);
    repository.is_untouched();
    for top in [&real, &repository.path()] {
        assert_eq!(fs::read(top.join("file")).unwrap(), b"one\n");
        assert!(!top.join("new").exists());
    }
    // A later request is refused at once.
    host.run(["run", "--worktree", "--merge", "auto", "--", "true"])
        .code(REFUSED)
        .says(&["`core.worktree` leads git from there to", "--merge manual"]);
    repository.git(&["config", "--unset", "core.worktree"]);
    host.run(["worktree", "merge", &id]).check();
    assert_eq!(fs::read(repository.path().join("file")).unwrap(), b"two\n");
    repository.is_untouched();
}

/// Git may fail after it has written some of the files, or even its index.
#[test]
fn checkout_is_put_back_if_git_fails_half_way() {
    let repository = Repository::new();
    let host = &repository.host;
    let fail = host.root().join("fail");
    repository.write(".gitattributes", "filtered filter=broken\n");
    repository.write("filtered", "one\n");
    repository.commit("filtered");
    let main = repository.git(&["rev-parse", "main"]);
    let script =
        "echo two > file; rm sub/file; echo two > filtered; mkdir made; echo new > made/new";
    // Git itself updates the checkout if attributes change.
    let by_git = &format!("{script}; touch made/.gitattributes");
    let failed = |script: &str, says: &str| {
        let task = repository.done(&["--merge", "auto"], script);
        let detail = merged(&task, "failed", "refused");
        let start = "which cannot be updated: `git merge` failed";
        assert!(detail.contains(start), "{detail}");
        assert!(detail.contains(says), "{detail}");
        assert_eq!(repository.git(&["rev-parse", "main"]), main);
        let file = fs::read_to_string(repository.path().join("file")).unwrap();
        assert_eq!(file, "one\n");
        assert!(repository.path().join("sub/file").exists());
        assert!(!repository.path().join("made").exists());
        task
    };
    repository.write("mine", "mine\n");
    let untouched = || {
        let status = repository.git(&["status", "--porcelain", "--branch"]);
        assert_eq!(status, "## main\n?? mine");
    };

    // Git fails before it writes the index, because it cannot write a file.
    let fails_at_two = "text=$(cat); test \"$text\" != two && echo \"$text\"";
    repository.git(&["config", "filter.broken.required", "true"]);
    repository.git(&["config", "filter.broken.clean", "cat"]);
    repository.git(&["config", "filter.broken.smudge", fails_at_two]);
    let says = "; its files were put back; the work is on branch";
    let task = failed(by_git, says);
    untouched();

    // Git fails after it has written the index, because it cannot move the branch.
    repository.git(&["config", "filter.broken.smudge", "cat"]);
    let notes = repository.path().join(".git/logs/HEAD");
    fs::rename(&notes, host.root().join("notes")).unwrap();
    fs::create_dir(&notes).unwrap();
    fs::write(notes.join("in-the-way"), "").unwrap();
    failed(script, says);
    untouched();
    fs::remove_dir_all(&notes).unwrap();
    fs::rename(host.root().join("notes"), &notes).unwrap();

    // If a file cannot be put back, the message names the file.
    let fails = format!("cat; ! test -e {}", fail.display());
    repository.git(&["config", "filter.broken.smudge", &fails]);
    let until = format!("{by_git}; touch {}", fail.display());
    failed(
        &until,
        "these files there could not be put back: filtered; `git -C ",
    );
    let status = repository.git(&["status", "--porcelain", "--branch"]);
    assert_eq!(status, "## main\n D filtered\n?? mine");
    fs::remove_file(&fail).unwrap();
    repository.git(&["restore", "filtered"]);
    untouched();

    // A later merge succeeds.
    let id = task["id"].as_str().unwrap();
    host.run(["worktree", "merge", id]).check();
    untouched();
    assert_eq!(repository.git(&["show", "main:made/new"]), "new");
}

/// Git itself would remove the person's file, and `git restore` would need the same filter.
#[test]
fn merge_is_refused_before_anything_is_changed_if_a_required_filter_fails() {
    let repository = Repository::new();
    let host = &repository.host;
    repository.commit_filtered();
    let smudge = |command: &str| repository.git(&["config", "filter.broken.smudge", command]);
    smudge("text=$(cat); test \"$text\" != two && echo \"$text\"");
    let task = repository.done(&["--merge", "auto"], "echo two > file; echo two > filtered");
    let detail = merged(&task, "failed", "refused");
    let id = task["id"].as_str().unwrap();
    for says in [
        "so nothing was changed: error: external filter ",
        "fatal: filtered: smudge filter broken failed; make the filter work first",
        "`claudine worktree merge ",
    ] {
        assert!(detail.contains(says), "{detail}");
    }
    let read = |name: &str| fs::read_to_string(repository.path().join(name)).unwrap();
    for name in ["file", "filtered"] {
        assert_eq!(read(name), "one\n");
    }
    repository.is_untouched();
    smudge("cat");
    host.run(["worktree", "merge", id]).check();
    for name in ["file", "filtered"] {
        assert_eq!(read(name), "two\n");
    }
    repository.is_untouched();
}

/// Makes a lock of this name, and returns it with what is said of it. The lock of a person's git,
/// which may have been killed, is never removed.
fn locked(repository: &Repository, name: &str) -> (PathBuf, [String; 2]) {
    let lock = repository.path().join(".git").join(name);
    fs::write(&lock, "").unwrap();
    let path = lock.display();
    let says = [
        format!("failed because of the lock {path}: "),
        format!("`rm {path}` removes the lock"),
    ];
    (lock, says)
}

#[test]
fn merge_that_meets_a_lock_of_the_repository_names_the_lock_and_the_way_to_remove_it() {
    let repository = Repository::new();
    let (lock, says) = locked(&repository, "index.lock");
    let task = repository.done(&["--merge", "auto"], "echo two > file");
    let detail = merged(&task, "failed", "refused");
    assert!(says.iter().all(|it| detail.contains(it)), "{detail}");
    repository.is_untouched();
    fs::remove_file(lock).unwrap();
}

#[test]
fn lock_that_keeps_the_branch_of_merged_work_is_named_with_the_way_to_remove_it() {
    let repository = Repository::new();
    let host = &repository.host;
    let script = "until test -e go; do sleep 0.1; done; rm go; echo two > file";
    let id = repository.submit(&["--merge", "auto"], script);
    host.live(&id);
    // Nothing is merged before the person's changes are committed.
    repository.write("sub/file", "mine\n");
    let worktree = host.data_dir().join("worktrees").join(&id);
    fs::write(worktree.join("go"), "").unwrap();
    merged(&host.finished(&id), "failed", "refused");
    repository.commit("mine");
    let (lock, says) = locked(&repository, "packed-refs.lock");
    host.run(["worktree", "merge", &id]).check();
    let detail = merged(&host.status(&id), "succeeded", "merged");
    assert!(says.iter().all(|it| detail.contains(it)), "{detail}");
    fs::remove_file(lock).unwrap();
    assert_eq!(fs::read(repository.path().join("file")).unwrap(), b"two\n");
    repository.is_untouched();
}

#[test]
fn merge_does_not_overwrite_an_ignored_file() {
    let repository = Repository::new();
    repository.write(".gitignore", ".env\n");
    repository.commit("ignore");
    repository.write(".env", "mine\n");
    let script = format!("echo theirs > .env; git add -f .env; {COMMIT}");
    let task = repository.done(&["--merge", "auto"], &script);
    let detail = merged(&task, "failed", "refused");
    assert!(
        detail.contains("which cannot be updated: `git merge` failed:") && detail.contains(".env"),
        "{detail}"
    );
    assert_eq!(fs::read(repository.path().join(".env")).unwrap(), b"mine\n");
    repository.is_untouched();
    // Once the file is removed, the merge works.
    fs::remove_file(repository.path().join(".env")).unwrap();
    let id = task["id"].as_str().unwrap();
    repository.host.run(["worktree", "merge", id]).check();
    assert_eq!(
        fs::read(repository.path().join(".env")).unwrap(),
        b"theirs\n"
    );
}

#[test]
fn untracked_file_blocks_only_merges_that_would_overwrite_it() {
    let repository = Repository::new();
    let host = &repository.host;
    let says = |count: &str| {
        format!(
            "warning: {count} in {}: the merge",
            repository.path().display()
        )
    };
    repository.write("junk", "mine\n");
    let submit = |script: &str, says: &str| {
        let arguments = ["run", "--worktree", "--merge", "auto", "--script", script];
        let ran = host.run(arguments).ok();
        ran.says(&[says]);
        host.finished(&ran.text())
    };
    let beside = submit("echo two > file", &says("1 untracked file"));
    merged(&beside, "succeeded", "merged");
    assert_eq!(fs::read(repository.path().join("file")).unwrap(), b"two\n");
    repository.write("other/junk", "mine\n");
    let over = submit("echo theirs > junk", &says("2 untracked files"));
    let detail = merged(&over, "failed", "refused");
    assert!(detail.contains("which cannot be updated"), "{detail}");
    assert_eq!(fs::read(repository.path().join("junk")).unwrap(), b"mine\n");
    // If a file of the checkout is changed, the task is refused at once.
    repository.write("file", "mine\n");
    let arguments = ["run", "--worktree", "--merge", "auto", "--", "true"];
    host.run(arguments)
        .code(REFUSED)
        .says(&["not committed: file"]);
}

#[test]
fn branch_being_rebased_or_bisected_is_not_moved() {
    let repository = Repository::new();
    for message in ["second", "third"] {
        repository.git(&["commit", "-q", "--allow-empty", "-m", message]);
    }
    let script = "until test -e go; do sleep 0.1; done; rm go; echo theirs > file";
    let begin = || {
        let id = repository.submit(&["--merge", "auto"], script);
        repository.host.live(&id);
        id
    };
    let end = |id: &str, says: &str| {
        let main = repository.git(&["rev-parse", "main"]);
        let worktree = repository.host.data_dir().join("worktrees").join(id);
        fs::write(worktree.join("go"), "").unwrap();
        let detail = merged(&repository.host.finished(id), "failed", "refused");
        assert!(detail.starts_with(says), "{detail}");
        assert_eq!(repository.git(&["rev-parse", "main"]), main);
    };
    let id = begin();
    let editor = "sequence.editor=echo break >";
    repository.git(&["-c", editor, "rebase", "-q", "-i", "HEAD~1"]);
    end(&id, "`main` is being rebased in ");
    // New tasks to be merged into this branch are refused as well.
    repository
        .host
        .run([
            "run",
            "--worktree",
            "--base",
            "main",
            "--merge",
            "auto",
            "--",
            "true",
        ])
        .code(REFUSED)
        .says(&[
            "`main`, which is being rebased in",
            "end the rebase or bisect first",
        ]);
    repository.git(&["rebase", "--abort"]);
    // While the list of commits is edited, the branch is still checked out. If the rebase were
    // aborted then, git would put the branch back.
    let id = begin();
    let rebase = "git -c sequence.editor='kill -9 $PPID' rebase -i HEAD~1 2> /dev/null";
    repository.git(&["-c", &format!("alias.try=!{rebase} || true"), "try"]);
    assert_eq!(repository.git(&["branch", "--show-current"]), "main");
    end(&id, "`main` is being rebased in ");
    repository.git(&["rebase", "--abort"]);
    let id = begin();
    repository.git(&["bisect", "start", "main", "main~2"]);
    end(&id, "`main` is being bisected in ");
    repository.git(&["bisect", "reset"]);
    // `git am` works on the branch itself, and leaves its checkout clean.
    repository.write("file", "two\n");
    repository.commit("patched");
    let patches = repository.host.root().display().to_string();
    repository.git(&["format-patch", "-q", "-1", "-o", &patches]);
    repository.git(&["reset", "-q", "--hard", "HEAD~1"]);
    repository.write("file", "mine\n");
    repository.commit("mine");
    let id = begin();
    let am = format!("alias.try=!git am '{patches}/0001-patched.patch' > /dev/null 2>&1 || true");
    repository.git(&["-c", &am, "try"]);
    end(&id, "`main` is being changed by `git am` in ");
    repository
        .host
        .run(["run", "--worktree", "--merge", "auto", "--", "true"])
        .code(REFUSED)
        .says(&["`main`, which is being changed by `git am`", "--abort"]);
    repository.git(&["am", "--abort"]);
    repository.is_untouched();
}

/// The beginning of the refusal of a merge that would bring back what was removed from the base.
const REWRITTEN: &str = "`main` was rewritten while the task ran";

/// Checks that the task's merge was refused, because it would bring back the commit `secret`, and
/// that the base is still at `main`. Then merges the work in the way that the message contains.
#[track_caller]
fn refused_until_rebased(repository: &Repository, task: &Value, main: &str, secret: &str) {
    let host = &repository.host;
    let detail = merged(task, "failed", "refused");
    assert!(detail.starts_with(REWRITTEN), "{detail}");
    assert_eq!(repository.git(&["rev-parse", "main"]), main);
    repository.is_untouched();
    let way_out = format!("`git rebase --onto main {secret}`");
    assert!(detail.contains(&way_out), "{detail}");
    let rebase = ["rebase", "-q", "--onto", "main", secret];
    git_in(host, &repository.worktree(task), &rebase);
    host.run(["worktree", "merge", task["id"].as_str().unwrap()])
        .check();
    assert!(!repository.path().join("secret").exists());
}

/// A person may have removed a secret. The branch of the task still has the commit.
#[test]
fn commit_that_was_removed_from_the_base_is_not_brought_back() {
    let repository = Repository::new();
    let host = &repository.host;
    let begin = |file: &str| {
        let script = format!("until test -e go; do sleep 0.02; done; rm go; echo new > {file}");
        let id = repository.submit(&["--merge", "auto", "--name", "fix"], &script);
        host.live(&id);
        let worktree = host.data_dir().join("worktrees").join(&id);
        (id, worktree)
    };
    let end = |id: &str, worktree: &Path| {
        fs::write(worktree.join("go"), "").unwrap();
        host.finished(id)
    };
    repository.write("secret", "secret\n");
    repository.commit("secret");
    let secret = repository.git(&["rev-parse", "main"]);
    let (id, worktree) = begin("new");
    repository.git(&["reset", "-q", "--hard", "HEAD~1"]);
    let main = repository.git(&["rev-parse", "main"]);
    let task = end(&id, &worktree);
    for command in ["merge", "resolve"] {
        host.run(["worktree", command, "fix"])
            .code(REFUSED)
            .says(&[REWRITTEN]);
    }
    refused_until_rebased(&repository, &task, &main, &secret);
    assert_eq!(repository.git(&["show", "main:new"]), "new");

    // A commit that was replaced by one with the same changes does not count as removed.
    let (id, worktree) = begin("more");
    repository.git(&["commit", "-q", "--amend", "-m", "reworded"]);
    merged(&end(&id, &worktree), "succeeded", "merged");
    assert_eq!(repository.git(&["show", "main:more"]), "new");
}

/// The task has merged its base, which had the commit at that time.
#[test]
fn commit_that_a_task_has_merged_and_that_was_removed_from_the_base_is_not_brought_back() {
    let repository = Repository::new();
    let host = &repository.host;
    for (name, own) in [("beside", "echo own > own; "), ("without", ":; ")] {
        let [go, end] = ["go", "end"].map(|step| host.root().join(format!("{name}.{step}")));
        let merge = "git -c user.name=T -c user.email=t@example.org merge -q --no-edit main";
        let script = format!(
            "{own}{COMMIT}; {}; {merge}; {}; echo new > {name}",
            until_exists(&go),
            until_exists(&end)
        );
        let id = repository.submit(&["--merge", "auto", "--name", name], &script);
        host.live(&id);
        let worktree = host.data_dir().join("worktrees").join(&id);
        let main = repository.git(&["rev-parse", "main"]);
        repository.write("secret", "secret\n");
        repository.commit("secret");
        let secret = repository.git(&["rev-parse", "main"]);
        fs::write(&go, "").unwrap();
        wait_for("the merge of the base", || {
            let tip = git_in(host, &worktree, &["rev-parse", "HEAD"]);
            let contains = ["branch", "--contains", &secret, "--format=%(objectname)"];
            git_in(host, &worktree, &contains)
                .contains(&tip)
                .then_some(())
        });
        repository.git(&["reset", "-q", "--hard", "HEAD~1"]);
        fs::write(&end, "").unwrap();
        refused_until_rebased(&repository, &host.finished(&id), &main, &secret);
        assert_eq!(repository.git(&["show", &format!("main:{name}")]), "new");
    }
}

/// A person has merged the work by hand, and has undone that.
#[test]
fn work_that_was_removed_from_the_base_is_merged_when_that_is_requested() {
    let repository = Repository::new();
    let script = format!("echo new > new; {COMMIT}");
    repository.done(&["--name", "fix"], &script);
    repository.git(&["merge", "-q", "claudine/fix"]);
    repository.git(&["reset", "-q", "--hard", "HEAD~1"]);
    let merge = ["worktree", "merge", "fix", "--merge", "auto"];
    repository.host.run(merge).check();
    assert_eq!(repository.git(&["show", "main:new"]), "new");
    repository.is_untouched();
}

/// The directory may be on a removable drive. Once the directory is back, the next commit in it
/// would undo the merge.
#[test]
fn branch_checked_out_in_a_missing_directory_is_not_moved() {
    let repository = Repository::new();
    let host = &repository.host;
    repository.git(&["switch", "-q", "-c", "other"]);
    let [drive, away] = ["drive", "away"].map(|name| host.root().join(name));
    let path = drive.to_str().unwrap();
    repository.git(&["worktree", "add", "-q", path, "main"]);
    let is_clean = || assert_eq!(git_in(host, &drive, &["status", "--porcelain"]), "");
    let options = ["--base", "main", "--merge", "auto"];
    for (name, first) in [("plain", ":"), ("locked", "git worktree lock")] {
        let script = format!(
            "echo {name} > {name}; {first} {path}; mv {path} {}",
            away.display()
        );
        let task = repository.done(&options, &script);
        let detail = merged(&task, "failed", "refused");
        let start = format!("`main` is checked out in {path}, and that directory is missing; ");
        assert!(detail.starts_with(&start), "{detail}");
        assert!(detail.contains("`git worktree prune`"), "{detail}");
        // New tasks to be merged into this branch are refused as well.
        let new = ["run", "--worktree"].iter().chain(&options);
        host.run(new.chain(&["--", "true"]))
            .code(REFUSED)
            .says(&["that directory is missing", "`git worktree prune`"]);
        fs::rename(&away, &drive).unwrap();
        is_clean();
        let id = task["id"].as_str().unwrap();
        host.run(["worktree", "merge", id]).check();
        assert_eq!(repository.git(&["show", &format!("main:{name}")]), name);
        is_clean();
    }
    // If the branch is also checked out elsewhere, the missing directory is still named.
    repository.git(&["switch", "-q", "--ignore-other-worktrees", "main"]);
    let script = format!("echo third > third; mv {path} {}", away.display());
    let detail = merged(&repository.done(&options, &script), "failed", "refused");
    let start = format!(
        "`main` is checked out in several places; one of them is {path}, and that directory is missing; "
    );
    assert!(detail.starts_with(&start), "{detail}");
}

#[test]
fn checkout_with_a_separate_git_directory_is_updated() {
    let repository = Repository::new();
    let elsewhere = repository.host.home().join("elsewhere.git");
    let separate = format!("--separate-git-dir={}", elsewhere.display());
    repository.git(&["init", "-q", &separate]);
    let task = repository.done(&["--merge", "auto"], "echo two > file");
    merged(&task, "succeeded", "merged");
    repository.is_untouched();
    assert_eq!(fs::read(repository.path().join("file")).unwrap(), b"two\n");
    // Git in another checkout cannot find the first checkout.
    let other = repository.host.home().join("other");
    repository.git(&["worktree", "add", "-q", "--detach", other.to_str().unwrap()]);
    let other = other.to_str().unwrap();
    let arguments = [
        "run",
        "--worktree",
        "-w",
        other,
        "--merge",
        "auto",
        "--base",
        "main",
    ];
    repository
        .host
        .run(arguments.iter().chain(&["--", "true"]))
        .code(REFUSED)
        .says(&["git cannot find that", "submit the task in that checkout"]);
}

#[test]
fn work_is_merged_into_a_checkout_beside_a_bare_repository() {
    let repository = Repository::new();
    let host = &repository.host;
    let beside = host.home().join("beside");
    let bare = beside.join(".bare");
    let (from, to) = (repository.path(), bare.to_str().unwrap());
    git_in(
        host,
        &host.home(),
        &["clone", "-q", "--bare", from.to_str().unwrap(), to],
    );
    fs::write(beside.join(".git"), "gitdir: ./.bare\n").unwrap();
    git_in(host, &beside, &["worktree", "add", "-q", "main", "main"]);
    let config = "[safe]\n\tbareRepository = explicit\n";
    fs::write(host.home().join(".gitconfig"), config).unwrap();
    let main = beside.join("main");
    let options = ["--merge", "auto", "-w", main.to_str().unwrap()];
    let task = repository.done(&options, "echo two > file");
    merged(&task, "succeeded", "merged");
    assert_eq!(fs::read(main.join("file")).unwrap(), b"two\n");
    assert_eq!(git_in(host, &main, &["status", "--porcelain"]), "");
    assert!(!repository.worktree(&task).exists());
}

/// Without the record, the merge would only be tried once more. The file of the record is replaced
/// by a directory while git updates the checkout of the base.
#[test]
fn merged_work_has_succeeded_even_if_the_result_cannot_be_recorded() {
    let repository = Repository::new();
    let host = &repository.host;
    repository.write(".gitattributes", "slow filter=slow\n");
    repository.write("slow", "one\n");
    repository.commit("filtered");
    let id = repository.submit(&["--merge", "auto", "--hold"], "echo two > slow");
    let record = host.data_dir().join(format!("worktrees/{id}.json"));
    let (path, saved) = (record.display(), host.root().join("saved"));
    let smudge = format!(
        "text=$(cat); test \"$text\" = one || {{ mv {path} {} && mkdir {path}; }}; echo \"$text\"",
        saved.display()
    );
    repository.git(&["config", "filter.slow.smudge", &smudge]);
    host.run(["release", &id]).check();
    wait_for("the task's end", || {
        let list = host.json(["list"]);
        (list["tasks"][0]["state"] == "done").then_some(())
    });
    fs::remove_dir(&record).unwrap();
    fs::rename(&saved, &record).unwrap();
    let task = host.status(&id);
    let detail = merged(&task, "succeeded", "merged");
    assert!(
        detail.contains("; the worktree stays: cannot write"),
        "{detail}"
    );
    let text = fs::read_to_string(repository.path().join("slow")).unwrap();
    assert_eq!(text, "two\n");
    repository.is_untouched();
    host.run(["worktree", "clean"]).check();
    assert!(!repository.worktree(&task).exists());
}

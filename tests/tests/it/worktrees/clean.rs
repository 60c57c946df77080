//! Worktrees that are listed, removed and kept.

use std::{fs, os::unix::fs::symlink, path::Path};

use serde_json::{Value, json};

use super::{COMMIT, REFUSED, Repository, git_in, merged};

#[test]
fn uncommitted_changes_are_never_removed() {
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
    // This commit is on no branch: only the `HEAD` of the worktree refers to it.
    let adrift = repository.done(
        &[],
        &format!("git checkout -q --detach; echo 3 > file; {COMMIT}"),
    );
    merged(&adrift, "failed", "refused");
    let all = repository.host.json(["worktree", "clean", "--all"]);
    assert_eq!(all["removed"][0]["task"], committed["id"], "{all:#}");
    assert_eq!(all["left"].as_array().unwrap().len(), 3, "{all:#}");
    let why = &all["left"][2]["why"];
    assert_eq!(why, "it has commits that are on no branch");
    let branch = committed["worktree"]["branch"].as_str().unwrap();
    assert_eq!(repository.git(&["show", &format!("{branch}:file")]), "2");
    assert_eq!(fs::read(worktree.join("file")).unwrap(), b"two\n");
    assert!(repository.worktree(&failed).exists());
}

/// When git removes a worktree, it also forgets which commits were checked out in it.
#[test]
fn commits_on_no_branch_are_kept_when_their_worktree_is_removed() {
    let repository = Repository::new();
    let host = &repository.host;
    let kept = || repository.git(&["for-each-ref", "refs/claudine"]);
    let plain = repository.done(&["--merge", "auto"], &format!("echo 1 > plain; {COMMIT}"));
    merged(&plain, "succeeded", "merged");
    assert_eq!(kept(), "", "merged commits were kept by a ref");

    let commit = |file: &str| format!("date +%N > {file}; {COMMIT}; git rev-parse HEAD");
    let amend = COMMIT.replace("-m work", "--amend -m other");
    let script = [
        "git checkout -q --detach".to_owned(),
        commit("adrift"),
        commit("adrift"),
        "git checkout -q -".to_owned(),
        commit("file"),
        amend,
        commit("file"),
        "git reset -q --hard HEAD~1".to_owned(),
    ]
    .join("; ");
    let task = repository.done(&["--merge", "auto"], &script);
    let id = task["id"].as_str().unwrap();
    let name = format!("refs/claudine/{id}");
    let detail = merged(&task, "succeeded", "merged");
    assert!(
        detail.contains(&format!("are kept: `git log {name}`")),
        "{detail}"
    );
    assert!(!repository.worktree(&task).exists());
    let exist = |task: &Value| {
        repository.git(&["gc", "-q", "--prune=now"]);
        let made: Vec<&str> = task["output"].as_str().unwrap().lines().collect();
        assert_eq!(made.len(), 4, "{made:?}");
        for commit in made {
            repository.git(&["cat-file", "-e", commit]);
            repository.git(&["merge-base", "--is-ancestor", commit, &name]);
        }
    };
    exist(&task);
    // The next attempt adds its own commits.
    host.run(["retry", id]).check();
    let next = host.finished(id);
    exist(&task);
    exist(&next);
    assert_eq!(kept().lines().count(), 1);
    host.run(["worktree", "clean", "--all"]).check();
    assert_eq!(kept().lines().count(), 1);
    // Commits that are old enough are no longer kept.
    let tree = format!("{name}^{{tree}}");
    let old = host
        .other("git")
        .args(["-c", "user.name=P", "-c", "user.email=p@example.org"])
        .args(["commit-tree", "-p", &name, "-m", "old", &tree])
        .env("GIT_COMMITTER_DATE", "@1700000000 +0000")
        .current_dir(repository.path())
        .output()
        .unwrap();
    let old = String::from_utf8(old.stdout).unwrap();
    repository.git(&["update-ref", &name, old.trim()]);
    host.run(["worktree", "clean"]).check();
    assert_eq!(kept(), "");
    assert_eq!(host.json(["worktree", "list"]), json!([]));

    // Commits on no branch are also kept if `worktree clean` removes their worktree.
    let task = repository.done(
        &["--keep-worktree"],
        &format!("{script}; git reset -q --hard main"),
    );
    host.run(["worktree", "clean"]).check();
    assert!(!repository.worktree(&task).exists());
    let name = format!("refs/claudine/{}", task["id"].as_str().unwrap());
    repository.git(&["gc", "-q", "--prune=now"]);
    for commit in task["output"].as_str().unwrap().lines() {
        repository.git(&["merge-base", "--is-ancestor", commit, &name]);
    }
}

/// When a person removes the directory, git still knows the worktree and its commits. Git forgets
/// both when the host removes the worktree.
#[test]
fn commits_on_no_branch_are_kept_if_a_person_has_removed_their_directory() {
    let repository = Repository::new();
    let host = &repository.host;
    let go = host.root().join("go");
    // The tasks' commits differ even if they are made in the same second.
    let script = format!(
        "test -e {} && exit; echo 1 $CLAUDINE_TASK_ID > file; {COMMIT}; git rev-parse HEAD; \
         git reset -q --hard HEAD~1; git checkout -q --detach; \
         echo 2 $CLAUDINE_TASK_ID > file; {COMMIT}; git rev-parse HEAD; \
         echo new > added; git add added; exit 1",
        go.display()
    );
    let [cleaned, retried] = ["cleaned", "retried"].map(|name| {
        let task = repository.done(&["--merge", "auto", "--name", name], &script);
        assert_eq!(task["outcome"], "failed", "{task:#}");
        fs::remove_dir_all(repository.worktree(&task)).unwrap();
        task
    });
    fs::write(&go, "").unwrap();
    host.run(["retry", "retried"]).check();
    merged(&host.finished("retried"), "succeeded", "nothing");
    host.run(["worktree", "clean"]).check();
    repository.git(&["gc", "-q", "--prune=now"]);
    for task in [cleaned, retried] {
        let name = format!("refs/claudine/{}", task["id"].as_str().unwrap());
        let made: Vec<&str> = task["output"].as_str().unwrap().lines().collect();
        assert_eq!(made.len(), 2, "{made:?}");
        for commit in made {
            repository.git(&["merge-base", "--is-ancestor", commit, &name]);
        }
        // The file was in the index only.
        let adding = repository.git(&["rev-list", "--full-history", &name, "--", "added"]);
        assert!(!adding.is_empty());
    }
    let known = repository.git(&["worktree", "list"]);
    assert_eq!(known.lines().count(), 1, "{known}");
}

/// Git itself forgets both with the worktree.
#[test]
fn content_that_only_the_index_or_a_ref_of_a_worktree_has_is_kept_when_it_is_removed() {
    let repository = Repository::new();
    let script = "echo staged > staged; git add staged; rm staged; echo new > new; \
         for name in MY_HEAD refs/bisect/bad refs/rewritten/onto; do \
         commit=$(git -c user.name=T -c user.email=t@example.org \
         commit-tree -m $name 'HEAD^{tree}'); git update-ref $name $commit; echo $commit; done";
    let task = repository.done(&["--merge", "auto"], script);
    let name = format!("refs/claudine/{}", task["id"].as_str().unwrap());
    let detail = merged(&task, "succeeded", "merged");
    let says = format!("are kept: `git log {name}`");
    assert!(detail.contains(&says), "{detail}");
    assert!(!repository.worktree(&task).exists());
    assert_eq!(repository.git(&["show", "main:new"]), "new");
    repository.git(&["gc", "-q", "--prune=now"]);
    let made: Vec<&str> = task["output"].as_str().unwrap().lines().collect();
    assert_eq!(made.len(), 3, "{made:?}");
    for commit in made {
        repository.git(&["merge-base", "--is-ancestor", commit, &name]);
    }
    let adding = repository.git(&["rev-list", "--full-history", &name, "--", "staged"]);
    assert!(!adding.is_empty());
}

/// Git prints no notes about a worktree in this state.
#[test]
fn commits_on_no_branch_are_kept_although_nothing_is_checked_out() {
    let repository = Repository::new();
    let host = &repository.host;
    let commit = format!("date +%N > file; {COMMIT}; git rev-parse HEAD");
    let orphaned = format!("git checkout -q --detach; {commit}; git switch -q --orphan pages");
    let deleted = format!(
        "{commit}; git update-ref -d refs/heads/$(git branch --show-current); git rm -rqf ."
    );
    let removed = format!("{orphaned}; rm -rf \"$PWD\"");
    let tasks = [orphaned, deleted, removed].map(|script| {
        let task = repository.done(&[], &script);
        merged(&task, "failed", "refused");
        task
    });
    host.run(["worktree", "clean"]).check();
    repository.git(&["gc", "-q", "--prune=now"]);
    for task in tasks {
        assert!(!repository.worktree(&task).exists(), "{task:#}");
        let name = format!("refs/claudine/{}", task["id"].as_str().unwrap());
        let commit = task["output"].as_str().unwrap().trim();
        repository.git(&["merge-base", "--is-ancestor", commit, &name]);
    }
}

/// If the task's branch remains, the next attempt continues on this branch. If the task's work was
/// merged, the next attempt starts from the base.
#[test]
fn cleaned_up_task_continues_from_its_branch_or_the_base() {
    let repository = Repository::new();
    let again = |task: &Value| {
        let id = task["id"].as_str().unwrap();
        repository.host.text(["retry", id]);
        repository.host.finished(id)
    };
    let left = repository.done(&[], &format!("echo more >> file; cat file; {COMMIT}"));
    merged(&left, "succeeded", "left");
    let auto = repository.done(&["--merge", "auto"], "cat theirs; echo two > new");
    merged(&auto, "succeeded", "merged");
    repository.host.text(["worktree", "clean", "--all"]);
    repository.write("theirs", "theirs\n");
    repository.commit("theirs");
    let left = again(&left);
    merged(&left, "succeeded", "left");
    assert_eq!(left["output"], "one\nmore\nmore\n");
    let auto = again(&auto);
    merged(&auto, "succeeded", "nothing");
    assert_eq!(auto["output"], "theirs\n");
}

/// The task's earlier work is not merged again.
#[test]
fn merged_and_cleaned_up_task_starts_from_the_current_base() {
    let repository = Repository::new();
    let host = &repository.host;
    let script = "date +%N >> g";
    let task = repository.done(&["--merge", "auto"], script);
    let named = repository.done(&["--merge", "auto", "--branch", "own"], script);
    for verb in ["retry", "resume"] {
        for task in [&task, &named] {
            let id = task["id"].as_str().unwrap();
            host.run(["worktree", "clean", "--all"]).check();
            host.run([verb, id]).check();
            merged(&host.finished(id), "succeeded", "merged");
        }
    }
    let lines = fs::read_to_string(repository.path().join("g")).unwrap();
    assert_eq!(lines.lines().count(), 6, "{lines}");
    repository.is_untouched();
}

#[test]
fn ignored_files_keep_their_worktree_until_their_removal_is_requested() {
    let repository = Repository::new();
    repository.write(".gitignore", "out/\n");
    repository.commit("ignore");
    let host = &repository.host;
    let script = "mkdir out; echo 42 > out/report; echo two > file";
    let task = repository.done(&["--merge", "auto"], script);
    let detail = merged(&task, "succeeded", "merged");
    let worktree = repository.worktree(&task);
    let stays = format!(
        "; the worktree {} stays: it has files that git ignores: out/; `claudine worktree clean --ignored` removes it with them",
        worktree.display()
    );
    assert!(detail.ends_with(&stays), "{detail}");
    let id = task["id"].as_str().unwrap();
    let why = host.text(["why", id]);
    assert!(why.contains(&detail), "{why}");
    let nothing = repository.done(&[], "mkdir out; echo 42 > out/report");
    let detail = merged(&nothing, "succeeded", "nothing");
    assert!(detail.starts_with("no changes; the worktree"), "{detail}");
    let hidden = repository.done(
        &[],
        "git update-index --assume-unchanged file; echo 2 > file",
    );
    let detail = merged(&hidden, "succeeded", "nothing");
    assert!(
        detail.contains("git was told not to check: file"),
        "{detail}"
    );
    let list = host.json(["worktree", "list"]);
    assert_eq!(list[0]["ignored"], 1, "{list:#}");
    assert_eq!(list[2]["dirty"], 1, "{list:#}");
    assert!(
        host.text(["worktree", "list"])
            .contains("  main  1 ignored by git")
    );
    for arguments in [&["worktree", "clean"][..], &["worktree", "clean", "--all"]] {
        let cleaned = host.json(arguments);
        assert_eq!(cleaned["removed"], json!([]), "{cleaned:#}");
        let why = cleaned["left"][0]["why"].as_str().unwrap();
        assert_eq!(
            why,
            "it has files that git ignores: out/; --ignored removes it with them"
        );
    }
    assert_eq!(fs::read(worktree.join("out/report")).unwrap(), b"42\n");
    let cleaned = host.json(["worktree", "clean", "--ignored"]);
    assert_eq!(
        cleaned["removed"].as_array().unwrap().len(),
        2,
        "{cleaned:#}"
    );
    assert_eq!(cleaned["left"][0]["task"], hidden["id"], "{cleaned:#}");
    assert!(!worktree.exists());
    assert_eq!(
        fs::read(repository.worktree(&hidden).join("file")).unwrap(),
        b"2\n"
    );
}

/// A `git worktree prune` would also forget worktrees whose directories were moved for a while,
/// together with their commits and staged changes.
#[test]
fn missing_worktrees_of_a_person_stay_known_to_git() {
    let repository = Repository::new();
    let host = &repository.host;
    let beside = |name: &str| host.home().join(name).display().to_string();
    let (before, after) = (beside("own"), beside("moved"));
    repository.git(&["worktree", "add", "-q", "--detach", &before]);
    fs::rename(&before, &after).unwrap();
    fs::write(Path::new(&after).join("file"), "staged\n").unwrap();
    let task = repository.done(&["--keep-worktree"], &format!("echo two >> file; {COMMIT}"));
    let id = task["id"].as_str().unwrap();
    fs::remove_dir_all(repository.worktree(&task)).unwrap();
    host.text(["retry", id]);
    host.finished(id);
    fs::remove_dir_all(repository.worktree(&task)).unwrap();
    host.run(["worktree", "clean", "--all"]).check();
    repository.git(&["worktree", "repair", &after]);
    repository.git(&["-C", &after, "add", "file"]);
    assert_eq!(
        repository.git(&["-C", &after, "status", "--short"]),
        "M  file"
    );
    let known = repository.git(&["worktree", "list"]);
    assert_eq!(known.lines().count(), 2, "{known}");
}

#[test]
fn symbolic_link_in_place_of_a_worktree_is_not_followed() {
    let repository = Repository::new();
    let host = &repository.host;
    let task = repository.done(&["--keep-worktree"], &format!("echo two > file; {COMMIT}"));
    let id = task["id"].as_str().unwrap();
    let worktree = repository.worktree(&task);
    fs::remove_dir_all(&worktree).unwrap();
    let elsewhere = host.home().join("elsewhere");
    symlink(&elsewhere, &worktree).unwrap();
    host.text(["retry", id]);
    assert_eq!(host.finished(id)["outcome"], "failed");
    host.run(["worktree", "clean", "--all"]).check();
    assert!(!elsewhere.exists());
    assert!(fs::symlink_metadata(&worktree).unwrap().is_symlink());
}

#[test]
fn checked_out_branch_is_kept() {
    let repository = Repository::new();
    let task = repository.done(&[], &format!("echo two > file; {COMMIT}"));
    merged(&task, "succeeded", "left");
    let branch = task["worktree"]["branch"].as_str().unwrap();
    repository.git(&["merge", "-q", branch]);
    repository.git(&["switch", "-q", branch]);
    repository.host.run(["worktree", "clean"]).check();
    let status = repository.git(&["status", "--porcelain", "--branch"]);
    assert_eq!(status, format!("## {branch}"));
    // At its end, a task does not remove its own branch if another worktree uses this branch.
    let beside = repository.host.home().join("beside");
    let script = format!(
        "git worktree add -q -f {} HEAD; cd {0}; git symbolic-ref HEAD \"refs/heads/$(git -C \"$OLDPWD\" branch --show-current)\"",
        beside.display()
    );
    let task = repository.done(&[], &script);
    let detail = merged(&task, "succeeded", "nothing");
    assert!(detail.contains("stays: branch `claudine/"), "{detail}");
    let branch = task["worktree"]["branch"].as_str().unwrap();
    assert!(repository.branches().contains(&branch.to_owned()));
}

/// The drive with the repository may not be mounted.
#[test]
fn record_is_kept_if_its_repository_cannot_be_found() {
    let repository = Repository::new();
    let host = &repository.host;
    let [drive, away] = ["drive", "away"].map(|name| host.root().join(name));
    let own = drive.join("own");
    fs::create_dir(&drive).unwrap();
    git_in(
        host,
        &drive,
        &["clone", "-q", repository.path().to_str().unwrap(), "own"],
    );
    let options = ["-w", own.to_str().unwrap(), "--name", "fix"];
    let task = repository.done(&options, &format!("echo two > file; {COMMIT}"));
    merged(&task, "succeeded", "left");
    let record = repository.worktree(&task).with_extension("json");
    fs::rename(&drive, &away).unwrap();
    host.run(["worktree", "clean", "--all"]).check();
    assert!(record.exists());
    fs::rename(&away, &drive).unwrap();
    host.run(["worktree", "merge", "fix", "--merge", "auto"])
        .check();
    assert_eq!(git_in(host, &own, &["show", "main:file"]), "two");
    // The record of a repository that somebody has removed is not needed any more.
    fs::remove_dir_all(own.join(".git")).unwrap();
    host.run(["worktree", "clean"]).check();
    assert!(!record.exists());
}

#[test]
fn unreadable_record_blocks_no_other_task() {
    let repository = Repository::new();
    let host = &repository.host;
    let broken = repository.done(&["--keep-worktree"], "true");
    let other = repository.done(&["--keep-worktree", "--branch", "fix"], "true");
    let record = repository.worktree(&broken).with_extension("json");
    fs::write(&record, "{\"task\": ").unwrap();
    let list = host.json(["worktree", "list"]);
    assert_eq!(list.as_array().unwrap().len(), 2, "{list:#}");
    assert_eq!(list[0]["task"], broken["id"]);
    assert_eq!(list[0]["branch"], json!(null));
    let error = list[0]["error"].as_str().unwrap();
    assert!(
        error.starts_with(&format!("cannot read {}", record.display())),
        "{error}"
    );
    let cleaned = host.json(["worktree", "clean"]);
    assert_eq!(cleaned["removed"][0]["task"], other["id"], "{cleaned:#}");
    assert_eq!(cleaned["left"][0]["why"], list[0]["error"]);
    // To find other tasks that own the branch, all records are read, also the unreadable record.
    let options = ["--branch", "fix2", "--idempotency-key", "once"];
    let first = repository.submit(&options, "true");
    host.finished(&first);
    assert_eq!(repository.submit(&options, "true"), first);
}

#[test]
fn error_of_many_lines_is_one_line_in_the_list_and_whole_in_json() {
    let repository = Repository::new();
    let host = &repository.host;
    repository.commit_filtered();
    repository.git(&["config", "filter.broken.smudge", "cat"]);
    // The file keeps its length, so git compares it, for which it needs the filter.
    repository.done(&["--keep-worktree"], "echo two > filtered");
    repository.git(&["config", "filter.broken.clean", "seq 100 >&2; false"]);
    for (verb, field, lines) in [("list", "error", 2), ("clean", "why", 1)] {
        let shown = host.run(["worktree", verb]).ok();
        let text = shown.text();
        assert_eq!(text.lines().count(), lines, "{text}");
        let last = text.lines().last().unwrap();
        assert!(last.contains("`git status` failed: 1 2 3 "), "{text}");
        assert!(last.contains(" filter 'broken' failed"), "{text}");
        assert!(!last.contains(" 50 "), "{text}");
        shown.says(&[&format!("`claudine worktree {verb} --json`")]);
        let json = host.json(["worktree", verb]);
        let whole = json["left"].as_array().or(json.as_array()).unwrap();
        assert!(whole[0][field].as_str().unwrap().contains("50"), "{json:#}");
    }
}

#[test]
fn fifo_in_place_of_a_record_is_named_and_keeps_no_command_waiting() {
    let repository = Repository::new();
    let host = &repository.host;
    let task = repository.done(&["--keep-worktree"], "true");
    let record = repository.worktree(&task).with_extension("json");
    fs::remove_file(&record).unwrap();
    let made = host.other("mkfifo").arg(&record).status().unwrap();
    assert!(made.success());
    let list = host.text(["worktree", "list", "--json"]);
    let named = record.to_str().unwrap();
    assert!(list.contains(named) && list.contains("a FIFO"), "{list}");
}

#[test]
fn worktrees_of_a_graph_are_listed_and_removed_alone() {
    let repository = Repository::new();
    let host = &repository.host;
    let task =
        |name: &str| format!("- {{name: {name}, script: 'true', worktree: {{keep: true}}}}\n");
    let graph = ["a", "b"].map(task).concat();
    let submit = ["submit", "-", "--name", "release", "--wait"];
    host.run_with(submit, graph.as_bytes()).check();
    let other = repository.done(&["--keep-worktree"], "true");
    let list = host.json(["worktree", "list", "--graph", "release"]);
    let names = list.as_array().unwrap().iter().map(|one| &one["name"]);
    assert_eq!(names.collect::<Vec<_>>(), ["a", "b"]);
    let cleaned = host.json(["worktree", "clean", "--graph", "release"]);
    assert_eq!(cleaned["removed"].as_array().unwrap().len(), 2, "{cleaned}");
    assert_eq!(cleaned["left"], json!([]));
    let list = host.json(["worktree", "list"]);
    assert_eq!(list.as_array().unwrap().len(), 1, "{list}");
    assert_eq!(list[0]["task"], other["id"]);
    for verb in ["list", "clean"] {
        let refused = host.run(["worktree", verb, "--graph", "weekly"]);
        refused
            .code(REFUSED)
            .says(&["no graph or task matches 'weekly'"]);
    }
}

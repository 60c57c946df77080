//! Merging work into its base, and merges that are refused and leave everything unchanged.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use claudine_tests::{TestHost, wait_for};
use serde_json::json;
use tempfile::TempDir;

use super::{
    COMMIT, REFUSED, Repository, conflicting, git_in, merged, program, programs, write_script,
};

/// `PATH` with this directory in front.
fn path_with(first: &Path) -> OsString {
    let path = env::var_os("PATH").unwrap();
    let all = std::iter::once(first.to_owned()).chain(env::split_paths(&path));
    env::join_paths(all).unwrap()
}

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

#[test]
fn merge_drivers_of_the_base_decide_how_files_are_merged() {
    drivers_of_the_base_decide(&Repository::new());
}

/// An old git reads attributes only from the files of a checkout.
#[test]
fn merge_drivers_of_the_base_decide_with_an_old_git_too() {
    let bin = programs(&[]);
    let text = format!(
        "#!/bin/sh\ncase \" $* \" in *\" version \"*) echo git version 2.39.5 ;; \
         *) exec '{}' \"$@\" ;; esac\n",
        program("git").display()
    );
    write_script(&bin.path().join("git"), &text);
    let builder = TestHost::builder().env("PATH", path_with(bin.path()));
    drivers_of_the_base_decide(&Repository::with(builder));
}

/// The drivers decide as in a merge by a person, and run below a supervisor, like every process
/// that git starts.
#[track_caller]
fn drivers_of_the_base_decide(repository: &Repository) {
    let host = &repository.host;
    let (driver, chain) = (host.root().join("driver"), host.root().join("chain"));
    // The driver records the processes above it, and keeps the lines of both sides.
    let text = format!(
        "#!/bin/sh\npid=$$\nwhile test \"$pid\" -gt 1; do echo \"$pid\"; \
         pid=$(sed 's/.*) . \\([0-9]*\\) .*/\\1/' \"/proc/$pid/stat\"); done > {}\n\
         sort -u \"$1\" \"$2\" > \"$1.new\" && mv \"$1.new\" \"$1\"\n",
        chain.display()
    );
    write_script(&driver, &text);
    let command = format!("{} %A %B", driver.display());
    repository.git(&["config", "merge.sorted.driver", &command]);
    let attributes = "lock merge=sorted\nlist merge=union\n";
    repository.write(".gitattributes", attributes);
    for file in ["lock", "list"] {
        repository.write(file, "0\n");
    }
    repository.commit("attributes");

    let go = host.root().join("go");
    let both = |name: &str, script: &str, files: &[&str]| {
        let waits = format!("until test -e {}; do sleep 0.02; done", go.display());
        let options = ["--merge", "auto", "--name", name];
        let id = repository.submit(&options, &format!("{script}; {waits}"));
        host.live(&id);
        for file in files {
            repository.write(file, &format!("0\nmine {name}\n"));
        }
        repository.commit("mine");
        fs::write(&go, "").unwrap();
        let task = host.finished(&id);
        fs::remove_file(&go).unwrap();
        task
    };
    let script = "echo theirs >> lock; echo theirs >> list";
    let task = both("one", script, &["lock", "list"]);
    merged(&task, "succeeded", "merged");
    let read = |file: &str| fs::read_to_string(repository.path().join(file)).unwrap();
    assert_eq!(read("lock"), "0\nmine one\ntheirs\n");
    assert_eq!(read("list"), "0\nmine one\ntheirs\n");
    repository.is_untouched();
    let above = fs::read_to_string(&chain).unwrap();
    let above: Vec<u32> = above.lines().map(|pid| pid.parse().unwrap()).collect();
    let supervisors = host.supervisor_pids();
    assert!(
        above.iter().any(|pid| supervisors.contains(pid)),
        "{above:?} {supervisors:?}"
    );

    // Attributes that the task itself adds do not resolve its conflicts.
    let script = "echo 'file merge=union' >> .gitattributes; echo theirs > file";
    let task = both("two", script, &["file"]);
    let detail = merged(&task, "failed", "conflict");
    assert!(
        detail.contains("conflicts with `main` in file;"),
        "{detail}"
    );
    repository.is_untouched();
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

/// The changes in the moved worktree are neither merged nor lost, and the message tells how to
/// continue.
#[test]
fn moved_worktree_is_not_merged_and_its_changes_are_kept() {
    let repository = Repository::new();
    let host = &repository.host;
    for (name, first) in [
        ("on-its-branch", ":"),
        ("detached", "git checkout -q --detach"),
    ] {
        let moved = host.root().join(name);
        let script = format!(
            "echo {name} > {name}; {first}; git worktree move . {}",
            moved.display()
        );
        let task = repository.done(&["--merge", "auto", "--name", name], &script);
        let detail = merged(&task, "failed", "refused");
        assert_eq!(
            task["reason"]["message"],
            format!(
                "the worktree was moved to {}, where nothing is done with it",
                moved.display()
            )
        );
        assert_ne!(task["merge"]["worktree_removed"], true);
        let cleaned = host.json(["worktree", "clean", "--all"]);
        let why = format!("it was moved to {}", moved.display());
        assert_eq!(cleaned["left"][0]["why"], why, "{cleaned:#}");
        for again in [
            &["worktree", "merge", name][..],
            &["worktree", "resolve", name],
        ] {
            host.run(again).code(REFUSED).says(&["was moved to"]);
        }
        host.run(["retry", name]).check();
        let task = host.finished(name);
        assert_eq!(task["outcome"], "failed", "{task:#}");
        let text = fs::read_to_string(moved.join(name)).unwrap();
        assert_eq!(text, format!("{name}\n"));
        repository.is_untouched();

        let back = detail.split('`').nth(1).unwrap();
        let moves = host.other("sh").args(["-c", back]).output().unwrap();
        assert!(moves.status.success(), "{back}: {moves:?}");
        let worktree = repository.worktree(&task);
        git_in(
            host,
            &worktree,
            &["checkout", "-q", &format!("claudine/{name}")],
        );
        host.run(["worktree", "merge", name]).check();
        let text = fs::read_to_string(repository.path().join(name)).unwrap();
        assert_eq!(text, format!("{name}\n"));
        repository.is_untouched();
    }
}

/// Files that were in no commit may still exist in the moved directory.
#[test]
fn work_is_not_merged_if_its_directory_was_moved_or_removed_without_git() {
    let repository = Repository::new();
    let host = &repository.host;
    let refused = |name: &str, script: &str| {
        let task = repository.done(&["--merge", "auto", "--name", name], script);
        merged(&task, "failed", "refused");
        let why = "the directory of the worktree was moved or removed without git, so nothing was done with the work";
        assert_eq!(task["reason"]["message"], why);
        assert_ne!(task["merge"]["worktree_removed"], true);
        assert!(repository.branches().contains(&format!("claudine/{name}")));
        let again = ["worktree", "merge", name];
        host.run(again)
            .code(REFUSED)
            .says(&["moved or removed without git"]);
        repository.is_untouched();
        task
    };
    for (name, first) in [
        ("on-its-branch", ":"),
        ("detached", "git checkout -q --detach"),
    ] {
        let moved = host.root().join(name);
        let script = format!(
            "echo {name} > {name}; {first}; mv \"$PWD\" {}",
            moved.display()
        );
        let task = refused(name, &script);
        let worktree = repository.worktree(&task);
        fs::rename(&moved, &worktree).unwrap();
        let branch = format!("claudine/{name}");
        git_in(host, &worktree, &["checkout", "-q", &branch]);
        host.run(["worktree", "merge", name]).check();
        assert_eq!(repository.git(&["show", &format!("main:{name}")]), name);
        repository.is_untouched();
    }
    let script = format!("echo work > work; {COMMIT}; rm -rf \"$PWD\"");
    refused("removed", &script);
    host.run(["worktree", "clean"]).check();
    host.run(["worktree", "merge", "removed"]).check();
    assert_eq!(repository.git(&["show", "main:work"]), "work");
    repository.is_untouched();
    let known = repository.git(&["worktree", "list"]);
    assert_eq!(known.lines().count(), 1, "{known}");
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
    let task = failed(script, says);
    untouched();

    // Git fails after it has written the index, because it cannot move the branch.
    repository.git(&["config", "filter.broken.smudge", "cat"]);
    let notes = repository.path().join(".git/logs/refs/heads/main");
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
    let until = format!("{script}; touch {}", fail.display());
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
    let id = begin();
    repository.git(&["bisect", "start", "main", "main~2"]);
    end(&id, "`main` is being bisected in ");
    repository.git(&["bisect", "reset"]);
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

#[test]
fn nested_repository_that_is_no_submodule_is_not_merged() {
    let repository = Repository::new();
    let inner = "git init -q inner; cd inner; echo x > x; git add x; \
                 git -c user.name=T -c user.email=t@example.org commit -q -m x; cd ..";
    let task = repository.done(&["--merge", "auto"], inner);
    let detail = merged(&task, "failed", "refused");
    assert!(
        detail.contains("which cannot be committed: inner; move them elsewhere"),
        "{detail}"
    );
    assert!(repository.worktree(&task).join("inner/x").exists());
    // If the task itself commits the nested repository, the merge is refused too.
    for how in ["auto", "patch"] {
        let task = repository.done(&["--merge", how], &format!("{inner}; {COMMIT}"));
        let detail = merged(&task, "failed", "refused");
        assert!(detail.contains("that are not submodules"), "{detail}");
        assert!(repository.worktree(&task).join("inner/x").exists());
    }
    let task = repository.done(&[], &format!("{inner}; {COMMIT}"));
    let detail = merged(&task, "succeeded", "left");
    assert!(
        detail.contains("`inner` has commits that are on no remote"),
        "{detail}"
    );
    assert!(repository.worktree(&task).join("inner/x").exists());
    repository.is_untouched();
}

/// Agents make worktrees of their own in this place.
#[test]
fn worktree_inside_a_worktree_is_neither_merged_nor_removed() {
    let repository = Repository::new();
    let add = |branch: &str| {
        format!(
            "git worktree add -q -b {branch} .claude/worktrees/sub; \
             echo x > .claude/worktrees/sub/x"
        )
    };
    let added = repository.done(&["--merge", "auto"], &add("one"));
    let detail = merged(&added, "failed", "refused");
    assert!(
        detail.contains("cannot be committed: .claude/worktrees/sub; move them elsewhere"),
        "{detail}"
    );
    let script = format!(
        "{}; (cd .claude/worktrees/sub; {COMMIT}); {COMMIT}",
        add("two")
    );
    let committed = repository.done(&["--merge", "auto"], &script);
    let detail = merged(&committed, "failed", "refused");
    assert!(
        detail.contains("that are not submodules, so nobody else could get their content: .claude"),
        "{detail}"
    );
    repository.write(".gitignore", ".claude/\n");
    repository.commit("ignore");
    let script = format!("{}; echo two > file", add("three"));
    let ignored = repository.done(&["--merge", "auto"], &script);
    let detail = merged(&ignored, "succeeded", "merged");
    assert!(
        detail.contains("stays: it has files that git ignores: .claude/"),
        "{detail}"
    );
    for task in [added, committed, ignored] {
        let file = repository.worktree(&task).join(".claude/worktrees/sub/x");
        assert_eq!(fs::read(file).unwrap(), b"x\n");
    }
    let tree = repository.git(&["ls-tree", "--name-only", "main"]);
    assert_eq!(tree, ".gitignore\nfile\nsub");
    repository.is_untouched();
}

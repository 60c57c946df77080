//! Repositories with submodules.

use std::{fs, path::PathBuf};

use claudine_tests::harness::short_id;

use super::{COMMIT, REFUSED, Repository, git_in, merged};

/// A repository with a submodule `lib`, which has its own submodule `lib/deep`. By default, git
/// refuses submodules from a path. If `allowed` is set, the person's configuration allows them.
fn with_submodules(allowed: bool) -> Repository {
    let repository = Repository::new();
    let host = &repository.host;
    let allow = ["-c", "protocol.file.allow=always"];
    let make = |name: &str| -> PathBuf {
        let path = host.root().join(name);
        git_in(host, host.root(), &["init", "-q", "-b", "main", name]);
        fs::write(path.join("text"), format!("{name}\n")).unwrap();
        git_in(host, &path, &["add", "-A"]);
        git_in(host, &path, &["commit", "-q", "-m", name]);
        path
    };
    let add = |to: &PathBuf, from: &PathBuf, name: &str| {
        let words = ["submodule", "--quiet", "add", from.to_str().unwrap(), name];
        git_in(host, to, &[&allow[..], &words].concat());
        git_in(host, to, &["commit", "-q", "-m", "a submodule"]);
    };
    let (deep, lib) = (make("deep"), make("lib"));
    add(&lib, &deep, "deep");
    add(&repository.path(), &lib, "lib");
    if allowed {
        let file = host.home().join(".gitconfig");
        fs::write(file, "[protocol \"file\"]\n\tallow = always\n").unwrap();
    }
    repository
}

#[test]
fn submodules_are_checked_out_and_removed_with_the_worktree() {
    let repository = with_submodules(true);
    let task = repository.done(
        &["--merge", "auto"],
        "cat lib/text lib/deep/text; echo two > file",
    );
    assert_eq!(task["output"], "lib\ndeep\n", "{task:#}");
    merged(&task, "succeeded", "merged");
    assert!(!repository.worktree(&task).exists());
    repository.is_untouched();
    assert_eq!(repository.branches(), ["main"]);

    let kept = repository.done(&["--keep-worktree"], "true");
    merged(&kept, "succeeded", "nothing");
    let cleaned = repository.host.json(["worktree", "clean"]);
    assert_eq!(cleaned["removed"][0]["task"], kept["id"], "{cleaned:#}");
}

/// The worktree shares the configuration with the person's checkout.
#[test]
fn submodules_are_checked_out_without_a_change_of_the_configuration() {
    let repository = with_submodules(true);
    let config = repository.path().join(".git/config");
    let check = |case: &str, script: &str, expected: &str| {
        let before = fs::read_to_string(&config).unwrap();
        let task = repository.done(&[], script);
        assert_eq!(task["output"], expected, "{case}: {task:#}");
        merged(&task, "succeeded", "nothing");
        assert_eq!(fs::read_to_string(&config).unwrap(), before, "{case}");
    };
    let all = "cat lib/text lib/deep/text";
    check("initialized", all, "lib\ndeep\n");
    repository.git(&["submodule", "--quiet", "deinit", "--force", "lib"]);
    fs::remove_dir_all(repository.path().join(".git/modules/lib")).unwrap();
    check("absolute URL", all, "lib\ndeep\n");
    let relative = ["submodule.lib.url", "../lib"];
    repository.git(&[&["config", "--file", ".gitmodules"][..], &relative].concat());
    repository.commit("relative");
    check("relative URL and no remote", all, "lib\ndeep\n");
    let elsewhere = repository.host.root().join("elsewhere/repository");
    let elsewhere = elsewhere.to_str().unwrap();
    repository.git(&["remote", "add", "origin", elsewhere]);
    let moved = repository.host.root().join("elsewhere/lib");
    fs::create_dir(moved.parent().unwrap()).unwrap();
    fs::rename(repository.host.root().join("lib"), moved).unwrap();
    check("relative URL and a remote", all, "lib\ndeep\n");
    repository.git(&["config", "submodule.lib.active", "false"]);
    check("inactive", "ls -A lib; echo end", "end\n");
    // The person's own git still finds the submodule.
    repository.git(&["submodule", "--quiet", "update", "--init", "lib"]);
    let text = fs::read_to_string(repository.path().join("lib/text"));
    assert_eq!(text.unwrap(), "lib\n");
}

/// Git would remove the directory of the submodule with everything in it, without a check.
#[test]
fn merge_that_would_remove_a_submodule_of_the_persons_checkout_is_refused() {
    for is_inside in [false, true] {
        let repository = with_submodules(true);
        let host = &repository.host;
        let lib = repository.path().join("lib");
        if is_inside {
            // The repository of the submodule is inside its directory, as git made it in the past.
            fs::remove_file(lib.join(".git")).unwrap();
            let modules = repository.path().join(".git/modules/lib");
            fs::rename(modules, lib.join(".git")).unwrap();
            let config = lib.join(".git/config");
            let config = ["config", "--file", config.to_str().unwrap()];
            repository.git(&[&config[..], &["--unset", "core.worktree"]].concat());
        }
        fs::write(lib.join("text"), "mine\n").unwrap();
        fs::write(lib.join("new"), "mine\n").unwrap();
        let own = git_in(host, &lib, &["commit-tree", "-m", "own", "HEAD^{tree}"]);
        git_in(host, &lib, &["update-ref", "refs/heads/own", &own]);
        let script = format!(
            "git rm -q --cached lib .gitmodules; rm -rf lib .gitmodules; ln -s ../shared lib; {COMMIT}"
        );
        let task = repository.done(&["--merge", "auto"], &script);
        let detail = merged(&task, "failed", "refused");
        let says = "where git would remove these repositories with all their files: lib;";
        assert!(detail.contains(says), "{detail}");
        for file in ["text", "new"] {
            assert_eq!(fs::read_to_string(lib.join(file)).unwrap(), "mine\n");
        }
        assert_eq!(git_in(host, &lib, &["rev-parse", "own"]), own);
    }
}

#[test]
fn unavailable_submodules_fail_the_task_and_leave_nothing() {
    let repository = with_submodules(false);
    let task = repository.done(&[], "true");
    assert_eq!(task["outcome"], "failed", "{task:#}");
    let message = task["reason"]["message"].as_str().unwrap();
    assert!(
        message.starts_with(
            "the submodules of the worktree cannot be checked out: `git submodule` failed:"
        ) && message.contains("transport 'file' not allowed"),
        "{message}"
    );
    assert!(!repository.worktree(&task).exists());
    assert_eq!(repository.branches(), ["main"]);
    repository.is_untouched();
    // The way out.
    let id = task["id"].as_str().unwrap();
    let retry = format!("`claudine retry {}`", short_id(id));
    for says in [&*retry, "`git config submodule.NAME.update none`"] {
        assert!(message.contains(says), "{message}");
    }
    repository.git(&["config", "submodule.lib.update", "none"]);
    repository.host.run(["retry", id]).check();
    assert_eq!(repository.host.finished(id)["outcome"], "succeeded");
}

/// The host does not look for changes in a repository that a task has made, and does not commit it.
#[test]
fn submodule_that_the_task_has_cloned_itself_is_not_committed_and_the_way_out_makes_it_again() {
    let repository = with_submodules(true);
    let host = &repository.host;
    let script = format!(
        "rm -rf lib; git clone -q {} lib; cd lib; echo two > text; {COMMIT}",
        host.root().join("lib").display()
    );
    let task = repository.done(&["--merge", "auto"], &script);
    let detail = merged(&task, "failed", "refused");
    let worktree = repository.worktree(&task);
    let says = format!(
        "the repository of the submodule `lib` in the worktree {} is not one that git has made",
        worktree.display()
    );
    let way_out = "-c submodule.active=. submodule update -- lib` makes it again";
    assert!(detail.contains(&says), "{detail}");
    assert!(detail.contains(way_out), "{detail}");
    repository.is_untouched();

    fs::remove_dir_all(worktree.join("lib")).unwrap();
    let update = ["-c", "submodule.active=.", "submodule", "--quiet", "update"];
    git_in(host, &worktree, &[&update[..], &["--", "lib"]].concat());
    let text = fs::read_to_string(worktree.join("lib/text"));
    assert_eq!(text.unwrap(), "lib\n");
    host.run(["worktree", "merge", task["id"].as_str().unwrap()])
        .check();
}

#[test]
fn work_that_is_only_in_a_submodule_is_never_removed() {
    let repository = with_submodules(true);
    // The submodule has an uncommitted change.
    let changed = repository.done(&["--merge", "patch"], "echo changed > lib/deep/text");
    let detail = merged(&changed, "failed", "refused");
    assert!(
        detail.contains("changes inside a submodule must be committed in the submodule: lib"),
        "{detail}"
    );
    // A removed submodule has a commit that is on no remote.
    let own = format!("cd lib; git switch -q -c own; echo own > text; {COMMIT}; cd ..; {COMMIT}");
    let removed = repository.done(&[], &format!("{own}; git rm -qf lib; {COMMIT}"));
    let detail = merged(&removed, "succeeded", "left");
    assert!(
        detail.contains("no longer checked out: modules/lib"),
        "{detail}"
    );
    // An existing submodule has a commit that is on no remote, and the task's commit refers to this
    // commit. After a merge, nobody else could get the submodule's commit.
    let committed = repository.done(&["--merge", "auto"], &own);
    let detail = merged(&committed, "failed", "refused");
    assert!(
        detail.contains("at commits that are on none of their remotes")
            && detail.contains(": lib; push them from the worktree"),
        "{detail}"
    );
    let why = |task: &serde_json::Value| {
        let cleaned = repository.host.json(["worktree", "clean", "--all"]);
        let left = cleaned["left"].as_array().unwrap().iter();
        let mut of_task = left.filter(|left| left["task"] == task["id"]);
        of_task.next().unwrap()["why"].as_str().unwrap().to_owned()
    };
    assert_eq!(
        why(&committed),
        "its submodule `lib` has commits that are on no remote"
    );
    let cleaned = repository.host.json(["worktree", "clean", "--all"]);
    assert_eq!(cleaned["left"].as_array().unwrap().len(), 3, "{cleaned:#}");
    for (task, path, text) in [
        (&committed, "lib/text", "own\n"),
        (&changed, "lib/deep/text", "changed\n"),
    ] {
        let file = repository.worktree(task).join(path);
        assert_eq!(fs::read_to_string(file).unwrap(), text);
    }
    // Once the submodule's commit is pushed, the task's work is merged.
    let lib = repository.worktree(&committed).join("lib");
    git_in(&repository.host, &lib, &["push", "-q", "origin", "own"]);
    let id = committed["id"].as_str().unwrap();
    let answer = repository.host.json(["worktree", "merge", id]);
    assert_eq!(answer["merge"]["state"], "merged", "{answer:#}");
    assert_eq!(answer["merge"]["worktree_removed"], true, "{answer:#}");
}

/// Git shows and commits no file in the directory of such a submodule.
#[test]
fn files_in_a_submodule_that_is_not_checked_out_keep_their_worktree() {
    let repository = Repository::new();
    let link = format!("160000,{},lib", repository.git(&["rev-parse", "HEAD"]));
    repository.git(&["update-index", "--add", "--cacheinfo", &link]);
    repository.git(&["commit", "-q", "-m", "a link"]);
    fs::create_dir(repository.path().join("lib")).unwrap();
    let task = repository.done(&["--merge", "auto"], "echo two > file; echo new > lib/new");
    let detail = merged(&task, "succeeded", "merged");
    assert!(
        detail.contains("its submodule `lib` is not checked out"),
        "{detail}"
    );
    repository
        .host
        .run(["worktree", "clean", "--all", "--ignored"])
        .check();
    let file = repository.worktree(&task).join("lib/new");
    assert_eq!(fs::read_to_string(file).unwrap(), "new\n");
}

/// The repository of a submodule is removed with the worktree, so no ref in it could keep the
/// commit.
#[test]
fn worktree_with_an_abandoned_commit_in_a_submodule_is_kept() {
    let repository = with_submodules(true);
    let amend = COMMIT.replace("-m work", "--amend -m other");
    let script = format!(
        "cd lib; git switch -q -c own; echo one > text; {COMMIT}; echo two > text; {amend}; \
         git push -q origin own; cd ..; {COMMIT}"
    );
    let task = repository.done(&["--merge", "auto"], &script);
    let detail = merged(&task, "succeeded", "merged");
    let says = "its submodule `lib` has commits that are on no branch of a remote; `git log -g` shows them there";
    assert!(detail.ends_with(says), "{detail}");
    let lib = repository.worktree(&task).join("lib");
    assert_eq!(fs::read_to_string(lib.join("text")).unwrap(), "two\n");
    // Once a branch of the remote has the abandoned commit, the worktree can be removed.
    let one = git_in(&repository.host, &lib, &["rev-parse", "HEAD@{1}"]);
    git_in(
        &repository.host,
        &lib,
        &["push", "-q", "origin", &format!("{one}:refs/heads/one")],
    );
    let cleaned = repository.host.json(["worktree", "clean"]);
    assert_eq!(cleaned["removed"][0]["task"], task["id"], "{cleaned:#}");
    // A tag of the submodule would be removed too.
    let script = format!(
        "cd lib; first=$(git rev-parse HEAD); echo three > text; {COMMIT}; git tag three; \
         git checkout -q $first"
    );
    let task = repository.done(&[], &script);
    let detail = merged(&task, "succeeded", "nothing");
    assert!(detail.ends_with(says), "{detail}");
    let lib = repository.worktree(&task).join("lib");
    let tagged = git_in(&repository.host, &lib, &["show", "three:text"]);
    assert_eq!(tagged, "three");
}

#[test]
fn ignored_files_in_a_submodule_are_kept() {
    let repository = with_submodules(true);
    let script =
        "cd lib/deep; echo out > \"$(git rev-parse --git-path info/exclude)\"; echo 42 > out";
    let task = repository.done(&[], script);
    let detail = merged(&task, "succeeded", "nothing");
    assert!(
        detail.contains("it has files that git ignores: lib/deep/out"),
        "{detail}"
    );
    let file = repository.worktree(&task).join("lib/deep/out");
    assert_eq!(fs::read_to_string(file).unwrap(), "42\n");
    let cleaned = repository.host.json(["worktree", "clean", "--ignored"]);
    assert_eq!(cleaned["removed"][0]["task"], task["id"], "{cleaned:#}");
}

#[test]
fn worktree_is_not_made_if_git_would_work_in_another_directory() {
    let repository = with_submodules(true);
    let host = &repository.host;
    let lib = repository.path().join("lib");
    git_in(host, &lib, &["config", "extensions.worktreeConfig", "true"]);
    // If this script ran in the person's checkout, it would destroy files.
    let task = repository.done(
        &["-w", lib.to_str().unwrap()],
        "git clean -fdxq; rm -rf text",
    );
    assert_eq!(task["outcome"], "failed", "{task:#}");
    let message = task["reason"]["message"].as_str().unwrap();
    assert!(
        message.contains("`core.worktree` git works in"),
        "{message}"
    );
    assert!(!repository.worktree(&task).exists());
    assert_eq!(fs::read_to_string(lib.join("text")).unwrap(), "lib\n");
    assert_eq!(git_in(host, &lib, &["status", "--porcelain"]), "");
    let branches = git_in(host, &lib, &["branch", "--list", "claudine/*"]);
    assert_eq!(branches, "");
}

/// Git does not update the submodule in the person's checkout, so the submodule differs there until
/// the person does that.
#[test]
fn merge_of_another_commit_of_a_submodule_blocks_no_later_merge() {
    let repository = with_submodules(true);
    let host = &repository.host;
    let lib = host.root().join("lib");
    fs::write(lib.join("text"), "newer\n").unwrap();
    git_in(host, &lib, &["commit", "-q", "-a", "-m", "newer"]);
    let script = format!("cd lib; git fetch -q; git checkout -q origin/main; cd ..; {COMMIT}");
    let moved = repository.done(&["--merge", "auto"], &script);
    merged(&moved, "succeeded", "merged");
    assert_eq!(repository.git(&["status", "--porcelain"]), "M lib");
    let later = repository.done(&["--merge", "auto"], "cat lib/text; echo two > file");
    merged(&later, "succeeded", "merged");
    assert_eq!(later["output"], "newer\n", "{later:#}");
    assert_eq!(repository.git(&["status", "--porcelain"]), "M lib");
    let text = fs::read_to_string(repository.path().join("file")).unwrap();
    assert_eq!(text, "two\n");
    // A change that is staged, or of a file, still counts.
    repository.git(&["add", "lib"]);
    let options = ["run", "--worktree", "--merge", "auto", "--", "true"];
    host.run(options)
        .code(REFUSED)
        .says(&["not committed: lib"]);
}

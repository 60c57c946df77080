//! Worktrees whose directories were moved or removed before their work could be merged.

use std::fs;

use super::{COMMIT, REFUSED, Repository, git_in, merged};

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

/// The advice must not be a command of git that cannot work.
#[test]
fn files_of_a_worktree_stay_if_its_repository_was_removed_or_made_again() {
    for after in ["true", "git init -q -b main"] {
        let repository = Repository::new();
        let top = repository.path();
        let script = format!(
            "echo two > file; cd {top} && rm -rf .git && {after}",
            top = top.display()
        );
        let task = repository.done(&["--merge", "auto"], &script);
        let detail = merged(&task, "failed", "refused");
        let worktree = repository.worktree(&task);
        let says = format!("`rm -r {}` removes the rest", worktree.display());
        assert!(detail.contains(&says), "{detail}");
        assert!(!detail.contains("worktree repair"), "{detail}");
        assert_eq!(fs::read(worktree.join("file")).unwrap(), b"two\n");
        assert_eq!(fs::read(top.join("file")).unwrap(), b"one\n");
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
        for again in ["merge", "resolve"] {
            host.run(["worktree", again, name])
                .code(REFUSED)
                .says(&["moved or removed without git"]);
        }
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

/// Git removes its notes about a worktree even if it cannot remove all files.
#[test]
fn remains_of_a_worktree_that_git_has_removed_in_part_are_reported_with_the_way_to_remove_them() {
    let repository = Repository::new();
    let host = &repository.host;
    let task = repository.done(&["--keep-worktree"], "true");
    let worktree = repository.worktree(&task);
    let path = worktree.to_str().unwrap();
    repository.git(&["worktree", "remove", "--force", path]);
    fs::create_dir(&worktree).unwrap();
    fs::write(worktree.join("left"), "left\n").unwrap();
    let cleaned = host.json(["worktree", "clean", "--all"]);
    let why = cleaned["left"][0]["why"].as_str().unwrap();
    // Git may also have forgotten the worktree because only its `.git` was removed.
    let says = format!(
        "these files and directories: left; if nothing in it is needed, `rm -r {path}` removes the rest"
    );
    assert!(why.contains(&says), "{why}");
    // If git cannot remove a file, it may also leave the `.git`.
    let gone = repository.path().join(".git/worktrees/gone");
    fs::write(
        worktree.join(".git"),
        format!("gitdir: {}\n", gone.display()),
    )
    .unwrap();
    let cleaned = host.json(["worktree", "clean", "--all"]);
    let why = cleaned["left"][0]["why"].as_str().unwrap();
    assert!(why.contains(&says), "{why}");
    assert!(worktree.join("left").exists());
    fs::remove_dir_all(&worktree).unwrap();
    host.run(["worktree", "clean"]).check();
    assert_eq!(repository.branches(), ["main"]);
}

/// A link to itself cannot be followed, as a directory on a failing disk cannot be read.
#[test]
fn worktree_that_cannot_be_examined_does_not_count_as_removed() {
    let repository = Repository::new();
    let host = &repository.host;
    let script = format!(
        "echo work > work; {COMMIT}; tree=$PWD; cd {}; git worktree remove --force $tree; \
         ln -s $tree $tree",
        repository.path().display()
    );
    let task = repository.done(&["--merge", "auto", "--name", "fix"], &script);
    let detail = merged(&task, "failed", "refused");
    let says = "Too many levels of symbolic links";
    assert!(detail.contains(says), "{detail}");
    repository.is_untouched();
    let list = host.json(["worktree", "list"]);
    let error = list[0]["error"].as_str().unwrap();
    assert!(error.contains(says), "{error}");
    host.run(["diff", "fix"]).code(REFUSED).says(&[says]);
    let worktree = repository.worktree(&task);
    fs::remove_file(&worktree).unwrap();
    host.run(["worktree", "merge", "fix"]).check();
    assert_eq!(repository.git(&["show", "main:work"]), "work");
}

//! Commits: which of them are merged or on a branch, and how they are made.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf, time::Duration};

use super::{Person, somebody, worktree};
use crate::git::{BranchRef, Commit, GitError, Keeping, reflog::KEPT};

/// A person for each format in which this git stores refs.
fn people_by_format() -> impl Iterator<Item = (&'static str, Person)> {
    let formats = ["files", "reftable"].into_iter();
    let people = formats.map(|format| {
        let settings = format!("[init]\n\tdefaultRefFormat = {format}\n");
        (format, somebody(&settings))
    });
    // An old git does not know the other format.
    people.filter(|(format, person)| {
        *format == "files" || person.work().join(".git/reftable").exists()
    })
}

#[tokio::test]
async fn a_replaced_commit_does_not_count_as_merged() {
    let person = somebody("");
    let base = person.commit("main").await;
    person.git(&["commit", "-q", "--allow-empty", "-m", "work"]);
    let tip = person.commit("main").await;
    person.git(&["replace", "--graft", base.hash(), tip.hash()]);
    person.git(&["merge-base", "--is-ancestor", tip.hash(), base.hash()]);
    let git = person.at(".");
    assert!(!git.is_ancestor(&tip, &base).await.unwrap());
    assert_eq!(git.commits_between(&base, &tip).await.unwrap(), 1);
}

#[tokio::test]
async fn a_commit_on_no_branch_is_detected() {
    let person = somebody("");
    let git = worktree(&person, "(detached)").await;
    let branch = git.head_branch().await.unwrap();
    assert_eq!(branch, Some(BranchRef::named("(detached)")));
    let own = |arguments: &[&str]| person.git_in(git.dir(), arguments);
    own(&["checkout", "-q", "--detach"]);
    assert_eq!(git.head_branch().await.unwrap(), None);
    let check = async |expected: bool| {
        let tip = git.commit_of("HEAD").await.unwrap().unwrap();
        assert_eq!(git.is_on_a_branch(&tip).await.unwrap(), expected);
    };
    check(true).await;
    own(&["commit", "-q", "--allow-empty", "-m", "adrift"]);
    check(false).await;
    own(&["tag", "kept"]);
    check(true).await;
}

#[tokio::test]
async fn the_branch_that_is_checked_out_is_told_from_others_and_from_one_that_does_not_exist() {
    let person = somebody("");
    let git = worktree(&person, "work").await;
    let own = |arguments: &[&str]| person.git_in(git.dir(), arguments);
    let check = async |name: &str, head: Option<&str>, exists: bool| {
        let found = git.head_branch_and(&BranchRef::named(name)).await.unwrap();
        assert_eq!(found, (head.map(BranchRef::named), exists), "{name}");
    };
    check("work", Some("work"), true).await;
    check("main", Some("work"), true).await;
    check("gone", Some("work"), false).await;
    // A branch may be a symbolic ref to another branch.
    own(&["symbolic-ref", "refs/heads/also", "refs/heads/work"]);
    own(&["symbolic-ref", "HEAD", "refs/heads/also"]);
    check("work", Some("work"), true).await;
    check("also", Some("work"), true).await;
    own(&["symbolic-ref", "HEAD", "refs/heads/gone"]);
    check("gone", Some("gone"), false).await;
    own(&["symbolic-ref", "HEAD", "refs/heads/work"]);
    own(&["checkout", "-q", "--detach"]);
    check("work", None, true).await;
    fs::write(person.work().join(".git/refs/heads/work"), "damaged\n").unwrap();
    let damaged = git.head_branch_and(&BranchRef::named("work")).await;
    assert!(damaged.is_err(), "{damaged:?}");
}

#[tokio::test]
async fn commits_on_no_branch_are_found_although_head_has_no_commit() {
    for (format, person) in people_by_format() {
        let git = worktree(&person, "beside").await;
        let own = |arguments: &[&str]| person.git_in(git.dir(), arguments);
        own(&["checkout", "-q", "--detach"]);
        own(&["commit", "-q", "--allow-empty", "-m", "adrift"]);
        let adrift = git.commit_of("HEAD").await.unwrap().unwrap();
        own(&["switch", "-q", "--orphan", "pages"]);
        assert_eq!(git.commit_of("HEAD").await.unwrap(), None);
        let abandoned = git.abandoned(&[], KEPT).await.unwrap();
        assert_eq!(abandoned, [adrift], "{format}");
    }
}

/// Git deletes such refs with the checkout.
#[tokio::test]
async fn commits_that_only_refs_of_their_checkout_name_are_found() {
    for (format, person) in people_by_format() {
        let git = worktree(&person, "beside").await;
        let own = |arguments: &[&str]| person.git_in(git.dir(), arguments);
        own(&["update-ref", "OTHER_HEAD", "HEAD"]);
        assert_eq!(git.abandoned(&[], KEPT).await.unwrap(), [], "{format}");
        let tree = own(&["rev-parse", "HEAD^{tree}"]);
        // Neither a missing object nor a text is a commit.
        let git_dir = PathBuf::from(own(&["rev-parse", "--absolute-git-dir"]));
        fs::write(git_dir.join("GONE_HEAD"), "ab".repeat(20)).unwrap();
        fs::write(git_dir.join("COMMIT_EDITMSG"), "ab".repeat(32)).unwrap();
        let names = [
            "MY_HEAD",
            "refs/bisect/bad",
            "refs/rewritten/onto",
            "refs/worktree/mine",
        ];
        let made = names.map(|name| {
            let commit = own(&["commit-tree", "-m", name, &tree]);
            own(&["update-ref", name, &commit]);
            commit
        });
        let mut made = made.to_vec();
        // This one is a file in every format, and git makes it only in a merge.
        let merged = own(&["commit-tree", "-m", "merged", &tree]);
        fs::write(git_dir.join("MERGE_HEAD"), format!("{merged}\n")).unwrap();
        made.push(merged);
        // A ref may also name a commit by a tag.
        own(&["tag", "-a", "-m", "tag", "mine", &made[0]]);
        own(&["update-ref", "MY_HEAD", "refs/tags/mine"]);
        own(&["tag", "-d", "mine"]);
        let found = git.abandoned(&[], KEPT).await.unwrap();
        let mut found: Vec<&str> = found.iter().map(Commit::hash).collect();
        found.sort_unstable();
        made.sort_unstable();
        assert_eq!(found, made, "{format}");
    }
}

/// A commit of the files would not have this content.
#[tokio::test]
async fn content_that_is_only_in_the_index_is_kept() {
    let person = somebody("");
    let git = worktree(&person, "work").await;
    let git = git.with_identity().await.unwrap();
    let own = |arguments: &[&str]| person.git_in(git.dir(), arguments);
    let write = |name: &str, text: &str| fs::write(git.dir().join(name), text).unwrap();
    let keeping = Keeping {
        name: "refs/claudine/kept".to_owned(),
        known: Vec::new(),
        message: "kept".to_owned(),
    };
    let kept = async || {
        git.keep_staged(&keeping).await.unwrap();
        git.commit_of(&keeping.name).await.unwrap()
    };
    write("file", "two\n");
    assert_eq!(kept().await, None, "nothing is in the index");
    own(&["add", "file"]);
    assert_eq!(kept().await, None, "the file has the same content");
    write("file", "three\n");
    kept().await.unwrap();
    assert_eq!(own(&["show", "refs/claudine/kept:file"]), "two");
    own(&["commit", "-q", "-a", "-m", "three"]);
    let before = kept().await;
    write("added", "added\n");
    own(&["add", "added"]);
    fs::remove_file(git.dir().join("added")).unwrap();
    assert_ne!(kept().await, before);
    assert_eq!(own(&["show", "refs/claudine/kept:added"]), "added");
}

/// Only the reflog names the commit.
#[tokio::test]
async fn a_commit_on_no_branch_is_found_although_git_is_configured_to_keep_no_reflogs() {
    let person = somebody("[core]\n\tlogAllRefUpdates = false\n");
    let git = worktree(&person, "beside").await;
    let own = |arguments: &[&str]| person.git_in(git.dir(), arguments);
    own(&["checkout", "-q", "--detach"]);
    own(&["commit", "-q", "--allow-empty", "-m", "adrift"]);
    let adrift = git.commit_of("HEAD").await.unwrap().unwrap();
    own(&["checkout", "-q", "beside"]);
    assert_eq!(git.abandoned(&[], KEPT).await.unwrap(), [adrift]);
}

/// The other checkout's ref is deleted after some time.
#[tokio::test]
async fn a_commit_that_another_checkout_keeps_is_also_kept_by_a_ref() {
    let person = somebody("");
    let git = worktree(&person, "beside").await;
    let git = git.with_identity().await.unwrap();
    let own = |arguments: &[&str]| person.git_in(git.dir(), arguments);
    own(&["checkout", "-q", "--detach"]);
    own(&["commit", "-q", "--allow-empty", "-m", "adrift"]);
    let adrift = git.commit_of("HEAD").await.unwrap().unwrap();
    own(&["checkout", "-q", "beside"]);
    // The second round finds nothing new.
    for name in ["one", "other", "one"] {
        let keeping = Keeping {
            name: format!("refs/claudine/{name}"),
            known: Vec::new(),
            message: "kept".to_owned(),
        };
        let before = git.commit_of(&keeping.name).await.unwrap();
        assert!(git.keep_abandoned(&keeping).await.unwrap());
        let kept = git.commit_of(&keeping.name).await.unwrap().unwrap();
        assert!(git.is_ancestor(&adrift, &kept).await.unwrap(), "{name}");
        assert!(before.is_none_or(|before| before == kept), "{name}");
    }
}

#[tokio::test]
async fn the_target_of_a_symbolic_ref_is_not_deleted_with_it() {
    let person = somebody("");
    person.git(&["branch", "release"]);
    person.git(&["symbolic-ref", "refs/heads/work", "refs/heads/release"]);
    let (git, work) = (person.at("."), BranchRef::named("work"));
    let commit = person.commit("release").await;
    git.delete_branch(&work, &commit).await.unwrap();
    assert_eq!(git.branch_commit(&work).await.unwrap(), None);
    assert_eq!(person.commit("release").await, commit);
}

#[tokio::test]
async fn a_missing_order_file_in_the_users_settings_does_not_prevent_commits() {
    let person = somebody("");
    person.configure("[diff]\n\torderFile = /no/such/file\n");
    person.write("file", "two\n");
    let git = person.at(".").with_identity().await.unwrap();
    git.commit_all("work").await.unwrap();
    assert_eq!(git.status().await.unwrap().dirty_count, 0);
}

#[tokio::test]
async fn only_a_checkout_on_the_intended_branch_is_fast_forwarded() {
    let person = somebody("[branch \"main\"]\n\tmergeOptions = --no-ff --squash\n");
    let main = BranchRef::named("main");
    let first = person.commit("main").await;
    person.git(&["branch", "other"]);
    person.git(&["commit", "-q", "--allow-empty", "-m", "second"]);
    let second = person.commit("main").await;
    person.git(&["reset", "-q", "--hard", first.hash()]);
    let git = person.at(".");
    for elsewhere in ["other", "--detach"] {
        person.git(&["switch", "-q", elsewhere]);
        let error = git.fast_forward(&main, &first, &second).await.unwrap_err();
        assert!(error.to_string().contains("for-another-branch"), "{error}");
        assert_eq!(person.commit("HEAD").await, first, "{elsewhere}");
        person.git(&["switch", "-q", "main"]);
    }
    git.fast_forward(&main, &first, &second).await.unwrap();
    assert_eq!(person.commit("HEAD").await, second);
}

/// Otherwise git pushes all refs, and refuses to push only one.
#[tokio::test]
async fn only_the_branch_is_pushed_to_a_remote_that_mirrors_the_repository() {
    let person = somebody("");
    person.git(&["init", "-q", "--bare", "../remote.git"]);
    person.git(&["remote", "add", "--mirror=push", "origin", "../remote.git"]);
    person.git(&["branch", "other"]);
    let git = person.at(".");
    git.push("origin", &BranchRef::named("main")).await.unwrap();
    let remote = person.home().join("remote.git");
    let remote = format!("--git-dir={}", remote.display());
    let refs = person.git(&[&remote, "for-each-ref", "--format=%(refname)"]);
    assert_eq!(refs, "refs/heads/main");
}

/// To git, the merge would be a fast-forward, and would bring the removed commit back.
#[tokio::test]
async fn a_checkout_whose_branch_has_lost_a_commit_meanwhile_is_not_fast_forwarded() {
    let person = somebody("");
    let main = BranchRef::named("main");
    let first = person.commit("main").await;
    let next = async |message: &str| {
        person.git(&["commit", "-q", "--allow-empty", "-m", message]);
        person.commit("main").await
    };
    let (removed, third) = (next("removed").await, next("third").await);
    person.git(&["reset", "-q", "--hard", first.hash()]);
    let git = person.at(".");
    let moved = git.fast_forward(&main, &removed, &third).await;
    assert!(
        matches!(moved, Err(GitError::BranchMoved { .. })),
        "{moved:?}"
    );
    assert_eq!(person.commit("main").await, first);
}

/// The lock was left by a git that was killed. To wait again until it is released would only take
/// time.
#[tokio::test]
async fn a_lock_that_stays_is_awaited_only_once() {
    let person = somebody("");
    person.write("file", "two\n");
    person.write(".git/index.lock", "");
    let looks = person.home().join("looks");
    let script = format!(
        "#!/bin/sh\nPATH='{}'\ncase \"$*\" in *' status '*) echo look >> {};; esac\n\
         exec git \"$@\"\n",
        std::env::var("PATH").unwrap(),
        looks.display(),
    );
    let programs = person.home().join("programs");
    fs::create_dir(&programs).unwrap();
    fs::write(programs.join("git"), script).unwrap();
    fs::set_permissions(programs.join("git"), fs::Permissions::from_mode(0o755)).unwrap();
    let git = person.with_programs(&programs);
    assert!(git.has_changes_after(Duration::ZERO).await.unwrap());
    assert_eq!(fs::read_to_string(looks).unwrap(), "look\n");
}

/// Git cannot add a repository without a commit.
#[tokio::test]
async fn changes_are_kept_although_there_is_a_nested_repository() {
    let person = somebody("");
    let git = worktree(&person, "work").await;
    let git = git.with_identity().await.unwrap();
    let own = |arguments: &[&str]| person.git_in(git.dir(), arguments);
    own(&["init", "-q", "ne*ted"]);
    let keeping = Keeping {
        name: "refs/claudine/kept".to_owned(),
        known: Vec::new(),
        message: "kept".to_owned(),
    };
    assert!(!git.keep_changes(&keeping).await.unwrap());
    fs::write(git.dir().join("file"), "two\n").unwrap();
    fs::write(git.dir().join("nested"), "two\n").unwrap();
    assert!(git.keep_changes(&keeping).await.unwrap());
    for path in ["file", "nested"] {
        let kept = format!("{}:{path}", keeping.name);
        assert_eq!(person.git(&["show", &kept]), "two");
    }
}

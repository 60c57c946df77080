//! Names of branches and commits, and the questions about them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    os::unix::{fs::PermissionsExt, process::ExitStatusExt},
    process::ExitStatus,
};

use super::{look, repository, somebody, worktree};
use crate::{
    command::Finished,
    git::{BranchRef, Commit, Git, GitError, Unmakable, failed, locked::lock_named_in, spec::Spec},
};

#[tokio::test]
async fn a_tag_is_never_taken_for_a_branch_of_the_same_name() {
    let person = somebody("");
    person.git(&["tag", "v2"]);
    person.git(&["branch", "heads/v3"]);
    for name in ["v2", "heads/v2", "heads/v3/x", "v3"] {
        let branch = BranchRef::named(name);
        if repository(&person)
            .unmakable(&branch)
            .await
            .unwrap()
            .is_some()
        {
            assert_eq!(name, "heads/v3/x");
            continue;
        }
        let git = worktree(&person, name).await;
        fs::write(git.dir().join("work"), name).unwrap();
        // The task itself may create a tag with the name of its branch.
        person.git(&["tag", "-f", name]);
        git.clone()
            .with_identity()
            .await
            .unwrap()
            .commit_all("work")
            .await
            .unwrap();
        let tip = git.branch_commit(&branch).await.unwrap().unwrap();
        let base = person.commit("main").await;
        assert_eq!(git.commits_between(&base, &tip).await.unwrap(), 1, "{name}");
        let found = git.resolve(name).await.unwrap().unwrap();
        assert_eq!((found.commit, found.branch), (tip, Some(branch)));
        let clean = look(&person, &git).await;
        assert_eq!(clean.loss(), None);
        let repository = repository(&person);
        repository.remove_worktree(git.dir(), &clean).await.unwrap();
    }
}

#[tokio::test]
async fn each_form_of_a_name_is_resolved_to_its_commit_and_branch() {
    let person = somebody("");
    let first = person.commit("main").await;
    person.git(&["commit", "-q", "--allow-empty", "-m", "second"]);
    let second = person.commit("main").await;
    // A branch may be named like the hash of another commit.
    person.git(&[
        "update-ref",
        &format!("refs/heads/{}", first.hash()),
        second.hash(),
    ]);
    let check = async |name: &str, expected: Option<(&Commit, Option<&str>)>| {
        let found = person.at(".").resolve(name).await.unwrap();
        let found = found.map(|found| (found.commit, found.branch));
        let expected =
            expected.map(|(commit, branch)| (commit.clone(), branch.map(BranchRef::named)));
        assert_eq!(found, expected, "{name:?}");
    };
    check(first.hash(), Some((&first, None))).await;
    check("main", Some((&second, Some("main")))).await;
    check("refs/heads/main", Some((&second, Some("main")))).await;
    check("main~1", Some((&first, None))).await;
    check("HEAD", Some((&second, Some("main")))).await;
    // A branch may be a symbolic ref to another branch, and its short name may be the full name of
    // another branch.
    person.git(&["symbolic-ref", "refs/heads/also", "refs/heads/main"]);
    person.git(&["symbolic-ref", "refs/heads/too", "refs/heads/also"]);
    check("also", Some((&second, Some("main")))).await;
    check("too", Some((&second, Some("main")))).await;
    person.git(&["update-ref", "refs/heads/refs/heads/main", first.hash()]);
    check("refs/heads/main", Some((&second, Some("main")))).await;
    person.git(&["update-ref", "refs/heads/HEAD", first.hash()]);
    let here = person.at(".").checked_out().await.unwrap().unwrap();
    assert_eq!(here.commit, second);
    assert_eq!(here.branch, Some(BranchRef::named("main")));
    check("HEAD", Some((&second, Some("main")))).await;
    check("HEAD~1", Some((&first, None))).await;
    person.git(&["update-ref", "refs/heads/ORIG_HEAD", first.hash()]);
    check("ORIG_HEAD", Some((&first, Some("ORIG_HEAD")))).await;
    person.git(&["update-ref", "ORIG_HEAD", second.hash()]);
    check("ORIG_HEAD", Some((&second, None))).await;
    for nothing in [
        "",
        "nowhere",
        "--help",
        "-x",
        "a\nb",
        "main..main",
        "HEAD:file",
    ] {
        check(nothing, None).await;
    }
}

#[tokio::test]
async fn a_question_that_git_has_not_answered_is_an_error() {
    let person = somebody("");
    let main = BranchRef::named("main");
    let bin = person.home().join("bin");
    fs::create_dir(&bin).unwrap();
    fs::write(bin.join("git"), "#!/bin/sh\nkill -9 $$\n").unwrap();
    fs::set_permissions(bin.join("git"), fs::Permissions::from_mode(0o755)).unwrap();
    let check = async |git: &Git, says: &str| {
        let errors = [
            git.commit_of("HEAD").await.unwrap_err(),
            git.branch_commit(&main).await.unwrap_err(),
            git.head_branch().await.unwrap_err(),
            git.setting("core.worktree").await.unwrap_err(),
        ];
        for error in errors {
            assert!(error.to_string().contains(says), "{error}");
        }
    };
    check(&person.with_programs(&bin), "signal: 9").await;
    // An object that cannot be read counts as existing, although git ends with the status for a
    // missing one.
    let says = "unable to open loose object";
    let script = format!("#!/bin/sh\necho error: {says} >&2\nexit 1\n");
    fs::write(bin.join("git"), script).unwrap();
    check(&person.with_programs(&bin), says).await;
    person.write(".git/refs/heads/broken", "not a commit\n");
    let (git, broken) = (person.at("."), BranchRef::named("broken"));
    let error = git.branch_commit(&broken).await.unwrap_err().to_string();
    let says = "ignoring broken ref refs/heads/broken";
    assert!(error.contains(says), "{error}");
    for (name, exists) in [("main", true), ("broke", false), ("broken/x", false)] {
        let branch = BranchRef::named(name);
        let commit = git.branch_commit(&branch).await.unwrap();
        assert_eq!(commit.is_some(), exists, "{name}");
    }
    person.write(".git/config", "[");
    check(&person.at("."), "bad config").await;
}

#[tokio::test]
async fn a_branch_is_shown_as_the_user_can_type_it() {
    let person = somebody("");
    let first = person.commit("main").await;
    person.git(&["tag", "v2"]);
    let hash = "0f".repeat(20);
    let names = ["v2", "-x", "@", "HEAD", "a;b", "it's", "a/b", hash.as_str()];
    let check = async |name: &str, expected: &str| {
        let branch = BranchRef::named(name);
        let typed = person.at(".").typed(&branch).await.unwrap();
        assert_eq!(typed, expected);
    };
    for name in names {
        person.git(&["update-ref", &format!("refs/heads/{name}"), first.hash()]);
    }
    check("main", "main").await;
    check("a/b", "a/b").await;
    check("a;b", "'a;b'").await;
    check("it's", "\"it's\"").await;
    for unclear in ["v2", "-x", "@", "HEAD", &hash] {
        check(unclear, &format!("refs/heads/{unclear}")).await;
    }
}

#[tokio::test]
async fn a_name_that_git_takes_for_something_else_is_detected() {
    let person = somebody("");
    let main = person.commit("main").await;
    person.git(&["tag", "v1"]);
    person.git(&["remote", "add", "team/origin", "/nowhere"]);
    person.git(&["update-ref", "refs/remotes/old/main", main.hash()]);
    let check = async |name: &str, expected: bool| {
        let branch = BranchRef::named(name);
        let found = person.at(".").means_something_else(&branch).await.unwrap();
        assert_eq!(found, expected, "{name}");
    };
    for name in [
        "v1",
        "tags/v1",
        "heads/main",
        "old/main",
        "FETCH_HEAD",
        "stash",
    ] {
        check(name, true).await;
    }
    // Nothing was fetched from this remote yet.
    check("team/origin", true).await;
    check("team/origin/main", true).await;
    let hash = main.hash();
    for name in [&hash[..5], &hash[..7], hash, &hash.to_uppercase()] {
        check(name, true).await;
    }
    for name in [
        "fix",
        "v2",
        "team",
        "team/fix",
        "team/origins/main",
        "12",
        "old",
        "x/main",
    ] {
        check(name, false).await;
    }
}

#[tokio::test]
async fn a_branch_that_cannot_be_created_is_detected() {
    let person = somebody("");
    person.git(&["branch", "release/1"]);
    let check = async |name: &str, expected: Option<Unmakable>| {
        let branch = BranchRef::named(name);
        let found = person.at(".").unmakable(&branch).await.unwrap();
        assert_eq!(found, expected, "{name:?}");
    };
    let in_the_way = |name: &str| Some(Unmakable::InTheWay(BranchRef::named(name)));
    check("release", in_the_way("release/1")).await;
    check("release/1/x", in_the_way("release/1")).await;
    check("main/x", in_the_way("main")).await;
    check("release/2", None).await;
    check("main", None).await;
    check("(detached)", None).await;
    let long = "x".repeat(251);
    for bad in [
        "", "-x", "a..b", "@{-1}", "x@{u}", "@{u}", "HEAD", "a b", "a\nb", "x.lock", &long,
    ] {
        check(bad, Some(Unmakable::BadName)).await;
    }
}

#[test]
fn only_a_lock_on_this_machine_is_named() {
    let lock =
        "cannot lock ref 'refs/heads/a': Unable to create '/a/refs/heads/a.lock': File exists.";
    let said = format!("fatal: {lock}\n\nAnother git process seems to be running\n");
    assert_eq!(lock_named_in(&said), Some("/a/refs/heads/a.lock"));
    let said = format!("remote: error: {lock}\nerror: failed to push some refs\n");
    assert_eq!(lock_named_in(&said), None);
    assert_eq!(lock_named_in("fatal: not a git repository\n"), None);
}

/// Git lists files before and after the reason, and programs that it runs say much too.
#[test]
fn the_reason_is_found_anywhere_in_what_git_has_said_and_the_message_is_short() {
    let much = "a word and another one\n".repeat(100);
    let reason = "error: unable to write file";
    let error = failed(
        &Spec::reads(["status"]),
        &Finished {
            status: ExitStatus::from_raw(1 << 8),
            stdout: Vec::new(),
            stderr: format!("first\n{much}{reason} file\n{much}last\n").into_bytes(),
        },
    );
    assert!(error.says(reason) && !error.says("no room"));
    let message = error.to_string();
    assert!(message.contains(" failed: first a word"), "{message}");
    assert!(message.ends_with(" one last"), "{message}");
    assert!(message.chars().count() < 400, "{message}");
}

#[test]
fn what_git_and_filters_have_printed_cannot_control_the_terminal() {
    let printed = || "a\u{1b}[2J\0\nb".to_owned();
    let called = "git config".to_owned();
    let errors = [
        GitError::FilterFailed { said: printed() },
        GitError::Unread {
            checkout: "/work".into(),
            directory: printed(),
        },
        GitError::Unreadable {
            called: called.clone(),
            printed: printed(),
        },
        GitError::NotFetched {
            called: called.clone(),
            said: printed(),
        },
        GitError::Failed {
            called: called.clone(),
            said: printed(),
        },
    ];
    for error in errors {
        let shown = error.to_string();
        assert!(!shown.contains(char::is_control), "{shown:?}");
        assert!(shown.contains("[2J"), "{shown:?}");
    }
    let printed = "filter.a.clean ".repeat(10_000);
    let long = GitError::Unreadable { called, printed }.to_string();
    assert!(long.len() < 1_000, "{}", long.len());
}

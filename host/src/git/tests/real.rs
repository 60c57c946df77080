//! Tests of our queries to the real git, and of how its output is parsed.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    ffi::OsStr,
    fs,
    os::unix::{
        ffi::OsStrExt,
        fs::{PermissionsExt, symlink},
    },
    path::PathBuf,
    time::Duration,
};

use super::Person;
use crate::git::{
    BranchRef, Commit, Git, GitError, Look, Stamps, Standing, Unmakable, reflog::KEPT,
};

/// A user with a repository that has a branch `main` with `file`, and in which `out/` is ignored.
fn somebody(config: &str) -> Person {
    let person = Person::new(config);
    person.git(&["init", "-q", "-b", "main"]);
    person.write("file", "one\n");
    person.write(".gitignore", "out/\n");
    person.git(&["add", "-A"]);
    person.git(&["commit", "-q", "-m", "first"]);
    person
}

fn repository(person: &Person) -> Git {
    person.at(".").in_repository(person.work().join(".git"))
}

/// A worktree beside the repository, on a new branch.
async fn worktree(person: &Person, branch: &str) -> Git {
    let branch = BranchRef::named(branch);
    let commit = person.commit("main").await;
    let repository = repository(person);
    repository
        .make_branch(&branch, &commit, "made")
        .await
        .unwrap();
    let git = repository.in_dir(person.home().join("tree"));
    repository.add_worktree(git.dir(), &commit).await.unwrap();
    git.stand_on(&branch).await.unwrap();
    git
}

async fn look(person: &Person, git: &Git) -> Look {
    let repository = person.work().join(".git");
    git.look(&repository, &Stamps::default()).await.unwrap()
}

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
        "", "-x", "a..b", "@{-1}", "HEAD", "a b", "a\nb", "x.lock", &long,
    ] {
        check(bad, Some(Unmakable::BadName)).await;
    }
}

#[tokio::test]
async fn look_finds_changes_and_ignored_files_and_own_commits_and_a_bisect() {
    let person = somebody("[status]\n\tshowUntrackedFiles = no\n[core]\n\tignoreStat = true\n");
    let git = worktree(&person, "work").await;
    let path = |name: &str| git.dir().join(name);
    let own = |arguments: &[&str]| {
        let dir = git.dir().to_str().unwrap();
        person.git(&[&["-C", dir], arguments].concat())
    };
    assert_eq!(look(&person, &git).await.loss(), None);
    assert_eq!(look(&person, &git).await.ignored(), None);

    fs::write(path("file"), "two\n").unwrap();
    let loss = look(&person, &git).await.loss().unwrap();
    assert_eq!(
        loss,
        "it has changes that are not committed, in 1 of its files"
    );
    for (hide, show) in [
        ("--assume-unchanged", "--no-assume-unchanged"),
        ("--skip-worktree", "--no-skip-worktree"),
    ] {
        own(&["update-index", hide, "file"]);
        let loss = look(&person, &git).await.loss().unwrap();
        let expected = "it has changes in files that git was told not to check: file";
        assert_eq!(loss, expected, "{hide}");
        fs::write(path("file"), "one\n").unwrap();
        assert_eq!(look(&person, &git).await.loss(), None, "{hide}");
        fs::remove_file(path("file")).unwrap();
        assert_eq!(look(&person, &git).await.loss(), None, "{hide}");
        fs::write(path("file"), "two\n").unwrap();
        own(&["update-index", show, "file"]);
    }
    fs::write(path("file"), "one\n").unwrap();
    assert_eq!(look(&person, &git).await.loss(), None);

    fs::create_dir_all(path("out/empty")).unwrap();
    assert_eq!(look(&person, &git).await.ignored(), None);
    fs::write(path("out/report"), "42").unwrap();
    let expected = "it has files that git ignores: out/";
    assert_eq!(look(&person, &git).await.ignored().unwrap(), expected);
    let first = git.ignored_at_first().await.unwrap();
    let repository = person.work().join(".git");
    let since = async || git.look(&repository, &first).await.unwrap().ignored();
    assert_eq!(
        since().await,
        None,
        "an ignored file that was there at first does not count"
    );
    fs::write(path("out/report"), "4242").unwrap();
    let expected = "it has files that git ignores: out/report";
    assert_eq!(since().await.unwrap(), expected);
    fs::remove_file(path("out/report")).unwrap();
    own(&["init", "-q", "out/inner"]);
    let expected = "it has files that git ignores: out/inner/";
    assert_eq!(since().await.unwrap(), expected);
    fs::remove_dir_all(path("out")).unwrap();

    let tree = own(&["rev-parse", "HEAD^{tree}"]);
    let commit = own(&["commit-tree", "-m", "kept", &tree]);
    own(&["update-ref", "refs/worktree/kept", &commit]);
    let loss = look(&person, &git).await.loss().unwrap();
    let expected = "it has commits that are only on its own refs below refs/worktree/";
    assert_eq!(loss, expected);
    own(&["tag", "kept", &commit]);
    assert_eq!(look(&person, &git).await.loss(), None);

    own(&["bisect", "start"]);
    let loss = look(&person, &git).await.loss().unwrap();
    assert_eq!(loss, "a bisect is in progress in it");
}

#[tokio::test]
async fn several_requests_may_look_at_a_checkout_at_the_same_time() {
    let person = somebody("");
    let git = worktree(&person, "work").await;
    let dir = git.dir().to_str().unwrap();
    person.git(&["-C", dir, "update-index", "--assume-unchanged", "file"]);
    fs::write(git.dir().join("file"), "two\n").unwrap();
    let look = || look(&person, &git);
    let (one, two, three) = tokio::join!(look(), look(), look());
    for look in [one, two, three] {
        assert_eq!(look.unwatched, ["file"]);
    }
}

#[tokio::test]
async fn a_directory_that_is_no_longer_a_worktree_of_the_repository_is_refused() {
    let person = somebody("");
    let git = worktree(&person, "work").await;
    let repository = person.work().join(".git");
    fs::remove_file(git.dir().join(".git")).unwrap();
    let error = git.own_place(&repository).await.unwrap_err();
    assert!(matches!(error, GitError::NotItsOwn { .. }), "{error}");
    // If the directory contained the `.git` of another checkout, or were a link to another
    // checkout, git would use the other checkout.
    let theirs = format!("gitdir: {}\n", repository.display());
    fs::write(git.dir().join(".git"), theirs).unwrap();
    let error = git.own_place(&repository).await.unwrap_err();
    assert!(matches!(error, GitError::NotItsOwn { .. }), "{error}");
    fs::remove_dir_all(git.dir()).unwrap();
    symlink(person.work(), git.dir()).unwrap();
    let error = git.own_place(&repository).await.unwrap_err();
    assert!(matches!(error, GitError::NotItsOwn { .. }), "{error}");
    fs::remove_file(git.dir()).unwrap();
    fs::create_dir(git.dir()).unwrap();
    // The directory is now a part of the repository around it.
    person.git(&["init", "-q", ".."]);
    let error = git.own_place(&repository).await.unwrap_err();
    assert!(matches!(error, GitError::NotItsOwn { .. }), "{error}");
    // Another repository was created in place of the worktree.
    person.git(&["init", "-q", git.dir().to_str().unwrap()]);
    let error = git.look(&repository, &Stamps::default()).await.unwrap_err();
    assert!(matches!(error, GitError::NotItsOwn { .. }), "{error}");
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
    let own = |arguments: &[&str]| {
        let dir = git.dir().to_str().unwrap();
        person.git(&[&["-C", dir], arguments].concat())
    };
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
async fn commits_on_no_branch_are_found_although_head_has_no_commit() {
    for format in ["files", "reftable"] {
        let person = somebody(&format!("[init]\n\tdefaultRefFormat = {format}\n"));
        // An old git does not know the other format.
        if format == "reftable" && !person.work().join(".git/reftable").exists() {
            continue;
        }
        let git = worktree(&person, "beside").await;
        let own = |arguments: &[&str]| {
            let dir = git.dir().to_str().unwrap();
            person.git(&[&["-C", dir], arguments].concat())
        };
        own(&["checkout", "-q", "--detach"]);
        own(&["commit", "-q", "--allow-empty", "-m", "adrift"]);
        let adrift = git.commit_of("HEAD").await.unwrap().unwrap();
        own(&["switch", "-q", "--orphan", "pages"]);
        assert_eq!(git.commit_of("HEAD").await.unwrap(), None);
        let abandoned = git.abandoned(&[], KEPT).await.unwrap();
        assert_eq!(abandoned, [adrift], "{format}");
    }
}

#[tokio::test]
async fn checkouts_are_listed_and_made_although_another_one_is_being_made() {
    let person = somebody("");
    let git = repository(&person);
    worktree(&person, "beside").await;
    let common = person.work().join(".git/worktrees/tree/commondir");
    let written = fs::read(&common).unwrap();
    // This is the state after git has created the file and before git writes it.
    fs::write(&common, "").unwrap();
    let branch = BranchRef::named("beside");
    let list = git.checkouts_of(&branch, None);
    let (path, commit) = (person.home().join("other"), person.commit("main").await);
    let add = git.add_worktree(&path, &commit);
    let write = async {
        crate::clock::sleep(Duration::from_millis(50)).await;
        fs::write(&common, written).unwrap();
    };
    let (list, added, ()) = tokio::join!(list, add, write);
    assert_eq!(list.unwrap().len(), 1);
    added.unwrap();
    assert!(path.join("file").exists());
}

#[tokio::test]
async fn a_branch_in_use_is_not_deleted() {
    let person = somebody("");
    let git = repository(&person);
    let delete = async |name: &str| {
        let commit = person.commit(&format!("refs/heads/{name}")).await;
        git.delete_branch(&BranchRef::named(name), &commit).await
    };
    person.git(&["branch", "free"]);
    delete("free").await.unwrap();
    let in_use = async |name: &str| {
        let deleted = delete(name).await;
        assert!(
            matches!(deleted, Err(GitError::InUse { .. })),
            "{name}: {deleted:?}"
        );
    };
    in_use("main").await;
    worktree(&person, "beside").await;
    in_use("beside").await;
    // The directory may be on a drive that is not mounted.
    let tree = person.home().join("tree");
    fs::rename(&tree, person.home().join("away")).unwrap();
    in_use("beside").await;
    let tree = tree.to_str().unwrap();
    person.git(&["worktree", "lock", tree]);
    in_use("beside").await;
    person.git(&["branch", "there"]);
    let notes = ".git/worktrees/tree/rebase-merge/head-name";
    person.write(notes, "refs/heads/there\n");
    in_use("there").await;
    // During a stopped rebase or a bisect, git itself reports that no branch is checked out.
    person.write("file", "two\n");
    person.git(&["commit", "-q", "-a", "-m", "second"]);
    person.git(&["switch", "-q", "-c", "rebased", "HEAD~1"]);
    person.git(&["commit", "-q", "--allow-empty", "-m", "theirs"]);
    person.git(&[
        "-c",
        "sequence.editor=echo break >",
        "rebase",
        "-q",
        "-i",
        "main",
    ]);
    in_use("rebased").await;
    let rebased = BranchRef::named("rebased");
    let found = git.checkouts_of(&rebased, None).await.unwrap();
    assert_eq!(
        (found[0].standing, &found[0].path),
        (Standing::Rebased, &person.work())
    );
    person.git(&["rebase", "--abort"]);
    person.git(&["commit", "-q", "--allow-empty", "-m", "more"]);
    person.git(&["bisect", "start", "rebased", "rebased~2"]);
    in_use("rebased").await;
    let found = git.checkouts_of(&rebased, None).await.unwrap();
    assert_eq!(found[0].standing, Standing::Bisected);
}

#[tokio::test]
async fn a_branch_in_use_is_found_although_the_path_of_the_checkout_is_not_utf_8() {
    let person = somebody("");
    person.git(&["branch", "there"]);
    let name = OsStr::from_bytes(b"caf\xe9");
    let beside = "alias.beside=!git worktree add -q -b beside \"../$(printf 'caf\\351')\"";
    person.git(&["-c", beside, "beside"]);
    let git_dir = person.work().join(".git/worktrees").join(name);
    fs::create_dir(git_dir.join("rebase-merge")).unwrap();
    fs::write(git_dir.join("rebase-merge/head-name"), "refs/heads/there\n").unwrap();
    for (branch, standing) in [
        ("beside", Standing::CheckedOut),
        ("there", Standing::Rebased),
    ] {
        let branch = BranchRef::named(branch);
        let found = repository(&person).checkouts_of(&branch, None).await;
        let found = found.unwrap();
        assert_eq!(found.len(), 1, "{branch}: {found:?}");
        let path = person.home().join(name);
        assert_eq!((found[0].standing, &found[0].path), (standing, &path));
    }
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
        let error = git.fast_forward(&main, &second).await.unwrap_err();
        assert!(error.to_string().contains("for-another-branch"), "{error}");
        assert_eq!(person.commit("HEAD").await, first, "{elsewhere}");
        person.git(&["switch", "-q", "main"]);
    }
    git.fast_forward(&main, &second).await.unwrap();
    assert_eq!(person.commit("HEAD").await, second);
}

#[tokio::test]
async fn the_main_checkout_is_found_wherever_its_git_directory_is() {
    let main = BranchRef::named("main");
    for is_link in [true, false] {
        let person = somebody("");
        let elsewhere = person.home().join("elsewhere.git");
        if is_link {
            fs::rename(person.work().join(".git"), &elsewhere).unwrap();
            symlink(&elsewhere, person.work().join(".git")).unwrap();
        } else {
            let separate = format!("--separate-git-dir={}", elsewhere.display());
            person.git(&["init", "-q", &separate]);
        }
        let place = person.at(".").place().await.unwrap();
        assert_eq!(place.hidden_main(), Some(person.work().as_path()));
        let git = person.at(".").in_repository(&place.repository);
        let found = git.checkouts_of(&main, place.hidden_main()).await.unwrap();
        assert_eq!(found[0].path, person.work());
        assert!(!found[0].is_hidden);
        let unsaid = git.checkouts_of(&main, None).await.unwrap();
        assert!(unsaid[0].is_hidden, "{unsaid:?}");
        // Another path is not taken for the main checkout.
        let wrong = git.checkouts_of(&main, Some(&person.home())).await.unwrap();
        assert!(wrong[0].is_hidden, "{wrong:?}");
    }
    let person = somebody("");
    let place = person.at(".").place().await.unwrap();
    assert_eq!(place.hidden_main(), None);
    let found = repository(&person).checkouts_of(&main, None).await.unwrap();
    assert_eq!(found[0].path, person.work());
}

#[tokio::test]
async fn a_bare_repository_is_used_only_if_it_is_named() {
    let person = Person::new("[safe]\n\tbareRepository = explicit\n");
    let source = somebody("");
    let bare = person.work().join(".bare");
    let (from, to) = (source.work(), bare.to_str().unwrap());
    person.git(&["clone", "-q", "--bare", from.to_str().unwrap(), to]);
    person.write(".git", "gitdir: ./.bare\n");
    person.git(&["worktree", "add", "-q", "main", "main"]);
    let place = person.at("main").place().await.unwrap();
    assert_eq!(place.repository, bare);
    let git = person.at(".").in_repository(&bare);
    let main = BranchRef::named("main");
    let found = git.checkouts_of(&main, None).await.unwrap();
    assert_eq!(
        found.len(),
        1,
        "a bare repository is no checkout: {found:?}"
    );
    assert_eq!(found[0].path, person.work().join("main"));
    let tip = git.branch_commit(&main).await.unwrap().unwrap();
    let tree = person.home().join("tree");
    git.add_worktree(&tree, &tip).await.unwrap();
    assert!(tree.join("file").exists());
    let look = git.in_dir(&tree).look(&bare, &Stamps::default()).await;
    git.remove_worktree(&tree, &look.unwrap()).await.unwrap();
    assert!(!tree.exists());
}

#[tokio::test]
async fn plain_files_that_look_like_a_repository_are_ignored() {
    let person = somebody("");
    // The directory `inner` contains a repository as plain files and has no `.git`, so a clone may
    // contain it.
    person.git(&["init", "-q", "--bare", "inner"]);
    let led = "[core]\n\tbare = false\n\tworktree = ..\n";
    person.write("inner/config", led);
    for found in [
        person.at("inner").place().await.map(drop),
        person.at("inner").status().await.map(drop),
    ] {
        let said = found.unwrap_err().to_string();
        assert!(said.contains("cannot use bare repository"), "{said}");
    }
}

#[tokio::test]
async fn a_path_may_contain_line_ends() {
    let person = Person::new("");
    let dir: PathBuf = person.work().join("line\nend \n");
    fs::create_dir_all(dir.join("in\nside")).unwrap();
    let git = |arguments: &[&str]| {
        let dir = dir.to_str().unwrap();
        person.git(&[&["-C", dir], arguments].concat())
    };
    git(&["init", "-q"]);
    let place = person.at("line\nend \n/in\nside").place().await.unwrap();
    assert_eq!(place.top, dir);
    assert_eq!(place.repository, dir.join(".git"));
    assert_eq!(place.inside, PathBuf::from("in\nside"));
    assert_eq!(place.hidden_main(), None);
}

/// Such a name is not known exactly, so the file cannot be looked at.
#[tokio::test]
async fn look_finds_files_whose_names_are_not_utf_8() {
    let person = somebody("");
    let name = OsStr::from_bytes(b"caf\xe9");
    fs::write(person.work().join(name), "one\n").unwrap();
    person.git(&["add", "-A"]);
    person.git(&["commit", "-q", "-m", "a name"]);
    let link = person.commit("main").await;
    let git = worktree(&person, "work").await;
    let own = |arguments: &[&str]| {
        let dir = git.dir().to_str().unwrap();
        person.git(&[&["-C", dir], arguments].concat())
    };
    assert_eq!(look(&person, &git).await.loss(), None);
    // A shell finds the name.
    own(&[
        "-c",
        "alias.hide=!git update-index --assume-unchanged caf*",
        "hide",
    ]);
    assert_eq!(look(&person, &git).await.loss(), None);
    fs::write(git.dir().join(name), "two\n").unwrap();
    let loss = look(&person, &git).await.loss().unwrap();
    let says = "it has changes in files that git was told not to check: caf";
    assert!(loss.starts_with(says), "{loss}");
    fs::write(git.dir().join(name), "one\n").unwrap();

    let out = git.dir().join("out");
    fs::create_dir(&out).unwrap();
    fs::write(out.join(name), "one").unwrap();
    fs::write(git.dir().join(".gitignore"), "out/*\n").unwrap();
    let first = git.ignored_at_first().await.unwrap();
    for stamps in [&Stamps::default(), &first] {
        let repository = person.work().join(".git");
        let look = git.look(&repository, stamps).await.unwrap();
        let ignored = look.ignored().unwrap();
        let says = "it has files that git ignores: out/caf";
        assert!(ignored.starts_with(says), "{ignored}");
    }
    own(&["checkout", "-q", ".gitignore"]);
    fs::remove_dir_all(&out).unwrap();

    let script = format!(
        "alias.link=!name=lib-$(echo caf*) && mkdir $name && \
         git update-index --add --cacheinfo 160000,{},$name",
        link.hash()
    );
    own(&["-c", &script, "link"]);
    own(&["commit", "-q", "-m", "a link"]);
    let loss = look(&person, &git).await.loss().unwrap();
    assert!(loss.ends_with("because its name is not UTF-8"), "{loss}");
}

#[tokio::test]
async fn files_in_the_directory_of_a_submodule_that_is_not_checked_out_are_found() {
    let person = somebody("");
    let link = format!("160000,{},vendor/lib", person.commit("main").await.hash());
    person.git(&["update-index", "--add", "--cacheinfo", &link]);
    person.git(&["commit", "-q", "-m", "a link"]);
    let git = worktree(&person, "work").await;
    let lib = git.dir().join("vendor/lib");
    fs::create_dir_all(lib.join("empty")).unwrap();
    assert_eq!(look(&person, &git).await.loss(), None);
    fs::write(lib.join("new"), "new\n").unwrap();
    assert_eq!(git.status().await.unwrap().dirty_count, 0);
    let loss = look(&person, &git).await.loss().unwrap();
    let says = "its submodule `vendor/lib` is not checked out, but its directory has files";
    assert!(loss.starts_with(says), "{loss}");
}

#[tokio::test]
async fn nested_repositories_are_found() {
    let person = somebody("");
    let git = worktree(&person, "work")
        .await
        .with_identity()
        .await
        .unwrap();
    let own = |arguments: &[&str]| {
        let dir = git.dir().to_str().unwrap();
        person.git(&[&["-C", dir], arguments].concat())
    };
    assert!(git.foreign_repositories().await.unwrap().is_empty());
    own(&["init", "-q", "deep/in/inner"]);
    own(&[
        "-C",
        "deep/in/inner",
        "commit",
        "-q",
        "--allow-empty",
        "-m",
        "inner",
    ]);
    assert_eq!(git.foreign_repositories().await.unwrap(), ["deep/in/inner"]);
    // If the task itself commits the nested repository, only a hash of it is committed.
    own(&["add", "-A"]);
    own(&["commit", "-q", "-m", "work"]);
    let base = person.commit("main").await;
    let work = BranchRef::named("work");
    let tip = async || git.branch_commit(&work).await.unwrap().unwrap();
    let nowhere = async |tip| {
        let changed = git.changed_links(&base, &tip).await.unwrap();
        git.links_to_nowhere(&changed, &tip).await.unwrap()
    };
    let links = nowhere(tip().await).await;
    assert_eq!(links, ["deep/in/inner"]);
    let loss = look(&person, &git).await.loss().unwrap();
    assert!(
        loss.ends_with("`deep/in/inner` has commits that are on no remote"),
        "{loss}"
    );
    let path = git.dir().join(".gitmodules");
    fs::write(
        path,
        "[submodule \"x\"]\n\tpath = deep/in/inner\n\turl = ../x\n",
    )
    .unwrap();
    git.commit_all("a submodule").await.unwrap();
    let links = nowhere(tip().await).await;
    assert!(links.is_empty(), "{links:?}");
}

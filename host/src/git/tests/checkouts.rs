//! Repositories and their checkouts, and the branches that are in use in these.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    ffi::OsStr,
    fs,
    os::unix::{
        ffi::OsStrExt,
        fs::{PermissionsExt, symlink},
    },
    path::{Path, PathBuf},
};

use super::{Person, look, repository, somebody, worktree};
use crate::{
    fsx,
    git::{BranchRef, Checkout, GitError, Stamps, Standing},
};

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
async fn the_git_directory_of_a_main_checkout_is_known_without_git() {
    let person = somebody("");
    let git_dir = person.work().join(".git");
    assert_eq!(person.at("").git_dir_here().await.unwrap(), git_dir);
    let git = person.with_programs(Path::new("/no/such"));
    assert_eq!(git.git_dir_here().await.unwrap(), git_dir);
    person.git(&["checkout", "-q", "--detach"]);
    assert_eq!(git.git_dir_here().await.unwrap(), git_dir);
    // Git does not take such a directory for a repository.
    let is_asked = async || matches!(git.git_dir_here().await, Err(GitError::NotInstalled { .. }));
    fs::rename(git_dir.join("objects"), git_dir.join("away")).unwrap();
    assert!(is_asked().await, "without objects");
    fs::rename(git_dir.join("away"), git_dir.join("objects")).unwrap();
    assert!(!is_asked().await);
    fs::write(git_dir.join("HEAD"), "damaged\n").unwrap();
    assert!(is_asked().await, "without HEAD");
}

#[tokio::test]
async fn the_advice_on_a_directory_that_is_no_longer_a_worktree_makes_it_one_again() {
    let person = somebody("");
    let git = worktree(&person, "work").await;
    let repository = person.work().join(".git");
    let own = git.dir().join(".git");
    let theirs = format!("gitdir: {}\n", repository.display());
    for text in [
        None,
        Some(theirs.as_str()),
        Some("text\n"),
        Some("gitdir: \n"),
    ] {
        match text {
            None => fs::remove_file(&own).unwrap(),
            Some(text) => fs::write(&own, text).unwrap(),
        }
        let error = git.own_place(&repository).await.unwrap_err();
        assert!(matches!(error, GitError::NotItsOwn { .. }), "{error}");
        let advice = format!("`git -C {} worktree repair`", repository.display());
        assert!(error.to_string().contains(&advice), "{error}");
        person.git(&["-C", repository.to_str().unwrap(), "worktree", "repair"]);
        git.own_place(&repository).await.unwrap();
    }
}

/// Git repairs only what the repository still knows.
#[tokio::test]
async fn a_worktree_that_its_repository_does_not_know_gets_no_advice_to_repair_it() {
    let person = somebody("");
    let git = worktree(&person, "work").await;
    let repository = person.work().join(".git");
    let check = async || {
        let linked = git.clone().linked_to(&repository);
        for error in [
            git.own_place(&repository).await.unwrap_err(),
            linked.status().await.unwrap_err(),
        ] {
            assert!(matches!(error, GitError::NotItsOwn { .. }), "{error}");
            let error = error.to_string();
            assert!(!error.contains("worktree repair"), "{error}");
            let advice = format!("`rm -r {}` removes the rest", git.dir().display());
            assert!(error.contains(&advice), "{error}");
        }
    };
    fs::remove_dir_all(&repository).unwrap();
    check().await;
    person.git(&["init", "-q", "-b", "main"]);
    person.commit_all("made again");
    check().await;
}

#[tokio::test]
async fn checkouts_are_listed_and_made_although_another_one_is_being_made() {
    let person = somebody("");
    worktree(&person, "beside").await;
    let common = person.work().join(".git/worktrees/tree/commondir");
    let commit = person.commit("main").await;
    // At first the file is empty, as while git makes a checkout. Once both commands have met this
    // state, the script writes the file.
    let bin = person.home().join("bin");
    fs::create_dir(&bin).unwrap();
    fs::copy(&common, bin.join("written")).unwrap();
    let script = format!(
        "#!/bin/sh\nexport PATH='{path}'\ngit \"$@\"\nstatus=$?\n\
         case \" $* \" in *' worktree list '*) : > {bin}/listed ;; \
         *' worktree add '*) : > {bin}/added ;; esac\n\
         test -e {bin}/listed && test -e {bin}/added && cp {bin}/written {common}\nexit $status\n",
        path = std::env::var("PATH").unwrap(),
        bin = bin.display(),
        common = common.display(),
    );
    fs::write(bin.join("git"), script).unwrap();
    fs::set_permissions(bin.join("git"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(&common, "").unwrap();
    let git = person.with_programs(&bin);
    let git = git.in_repository(person.work().join(".git"));
    let branch = BranchRef::named("beside");
    let list = git.checkouts_of(&branch, None);
    let path = person.home().join("other");
    let add = git.add_worktree(&path, &commit);
    let (list, added) = tokio::join!(list, add);
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

/// If they are aborted, git moves the branch back, and would drop what was merged meanwhile.
#[tokio::test]
async fn a_branch_to_which_patches_or_several_picks_are_being_applied_is_found() {
    let person = somebody("");
    let commit = |text: &str| {
        person.write("file", text);
        person.git(&["commit", "-q", "-a", "-m", text]);
    };
    person.git(&["switch", "-q", "-c", "other"]);
    commit("two");
    commit("three");
    let home = person.home();
    let patches = home.to_str().unwrap();
    person.git(&["format-patch", "-q", "-2", "-o", patches, "other"]);
    person.git(&["switch", "-q", "main"]);
    commit("mine");
    let beside = worktree(&person, "beside").await;
    for (git, branch) in [(person.at("."), "main"), (beside, "beside")] {
        let check = async |command: &str, expected: Standing| {
            let run = format!("alias.run=!git {command} > /dev/null 2>&1 || true");
            person.git_in(git.dir(), &["-c", &run, "run"]);
            let found = git.checkouts_of(&BranchRef::named(branch), None).await;
            assert_eq!(found.unwrap()[0].standing, expected, "{branch}: {command}");
            assert!(!git.has_changes().await.unwrap(), "{branch}: {command}");
        };
        let am = format!("am '{patches}/0001-two.patch' '{patches}/0002-three.patch'");
        check(&am, Standing::Patched).await;
        check("am --abort", Standing::CheckedOut).await;
        // The first pick has ended, and the second has not begun.
        let picks = "cherry-pick HEAD..other; printf two > file; git commit -q -a -m picked";
        check(picks, Standing::Picked).await;
        check("cherry-pick --continue", Standing::CheckedOut).await;
    }
}

#[tokio::test]
async fn a_checked_out_branch_without_a_commit_is_found() {
    let person = somebody("");
    let git = repository(&person);
    let linked = person.home().join("linked");
    let path = linked.to_str().unwrap();
    person.git(&["worktree", "add", "-q", "--detach", path]);
    let head = ["symbolic-ref", "HEAD", "refs/heads/dev"];
    person.git_in(&linked, &head);
    let check = async |name: &str, own: Option<&Path>, expected: Option<&str>| {
        let branch = BranchRef::named(name);
        let found = git.checked_out_in_the_way_of(&branch, own).await.unwrap();
        let found = found.map(|(other, _)| other);
        assert_eq!(found, expected.map(BranchRef::named), "{name}");
    };
    check("dev", None, Some("dev")).await;
    check("dev/x", None, Some("dev")).await;
    check("dev", Some(linked.as_path()), None).await;
    check("main", None, Some("main")).await;
    check("develop", None, None).await;
    check("x/dev", None, None).await;
    person.git_in(&linked, &["symbolic-ref", "HEAD", "refs/heads/a/b"]);
    check("a", None, Some("a/b")).await;
    check("a/c", None, None).await;
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

/// Git lists the directory around the repository, whose files are not those of the checkout.
#[tokio::test]
async fn a_checkout_from_which_a_setting_leads_git_elsewhere_is_not_taken_for_its_files() {
    let person = somebody("");
    let (repository, main) = (repository(&person), BranchRef::named("main"));
    let linked = worktree(&person, "work").await;
    let elsewhere = person.home().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let path = elsewhere.to_str().unwrap();
    person.git(&["config", "core.worktree", path]);
    let check = async |branch: &BranchRef, at: &Path, led_to: Option<&Path>| {
        for said in [None, Some(elsewhere.as_path())] {
            let found = repository.checkouts_of(branch, said).await.unwrap();
            assert_eq!(found.len(), 1, "{found:?}");
            let Checkout {
                path, led_to: to, ..
            } = &found[0];
            assert_eq!((path.as_path(), to.as_deref()), (at, led_to));
            assert!(!found[0].is_hidden, "{found:?}");
        }
    };
    let (top, away) = (person.work(), Some(elsewhere.as_path()));
    check(&main, top.as_path(), away).await;
    // A linked checkout of the repository does not have the setting.
    let work = BranchRef::named("work");
    check(&work, linked.dir(), None).await;
    // The checkout is found if git also finds the repository from it.
    let pointer = format!("gitdir: {}\n", top.join(".git").display());
    fs::write(elsewhere.join(".git"), pointer).unwrap();
    check(&main, elsewhere.as_path(), None).await;
    fs::remove_file(elsewhere.join(".git")).unwrap();
    // A setting that names the directory itself leads nowhere else.
    person.git(&["config", "core.worktree", ".."]);
    check(&main, top.as_path(), None).await;

    person.git(&["config", "--unset", "core.worktree"]);
    person.git(&["config", "extensions.worktreeConfig", "true"]);
    person.git(&["config", "--worktree", "core.worktree", path]);
    check(&main, top.as_path(), away).await;
    check(&work, linked.dir(), None).await;
    let own = ["config", "--worktree", "core.worktree", path];
    person.git_in(linked.dir(), &own);
    check(&work, linked.dir(), away).await;
}

/// Git lists the path as before. Commands that are run there would change the other repository.
#[tokio::test]
async fn a_clone_at_the_path_of_a_checkout_is_not_taken_for_the_checkout() {
    let person = somebody("");
    let git = worktree(&person, "work").await;
    let repository = repository(&person);
    let found = async || {
        let branch = BranchRef::named("work");
        let checkouts = repository.checkouts_of(&branch, None).await.unwrap();
        let found = checkouts.into_iter().map(|it| (it.path, it.is_hidden));
        found.collect::<Vec<_>>()
    };
    assert_eq!(found().await, [(git.dir().to_owned(), false)]);
    fs::remove_dir_all(git.dir()).unwrap();
    let path = git.dir().to_str().unwrap();
    person.git(&["clone", "-q", "-s", "-b", "work", ".", path]);
    assert_eq!(found().await, [(person.work().join(".git"), true)]);
}

/// A task may make it in its worktree. To open it would keep the host waiting for ever.
#[tokio::test]
async fn a_fifo_in_the_place_of_the_git_of_a_checkout_is_not_waited_for() {
    let person = somebody("");
    let git = worktree(&person, "work").await;
    let repository = repository(&person);
    let fifo = git.dir().join(".git");
    fs::remove_file(&fifo).unwrap();
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, mode).unwrap();
    for (branch, path, is_hidden) in [
        ("work", person.work().join(".git"), true),
        ("main", person.work(), false),
    ] {
        let branch = BranchRef::named(branch);
        let found = repository.checkouts_of(&branch, None).await.unwrap();
        let found: Vec<_> = found
            .into_iter()
            .map(|it| (it.path, it.is_hidden))
            .collect();
        assert_eq!(found, [(path, is_hidden)], "{branch}");
    }
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

/// Git does not sync what it commits.
#[tokio::test]
async fn a_checkout_is_removed_only_after_its_repository_was_synced() {
    let person = somebody("");
    let git = worktree(&person, "work").await;
    let found = look(&person, &git).await;
    let repository = repository(&person);
    let fault = person.work().join(".git").join(fsx::fault::NO_SYNC);
    fs::write(&fault, "").unwrap();
    let removed = repository.remove_worktree(git.dir(), &found).await;
    assert!(matches!(removed, Err(GitError::Sync { .. })), "{removed:?}");
    assert!(git.dir().join("file").exists());
    fs::remove_file(&fault).unwrap();
    repository.remove_worktree(git.dir(), &found).await.unwrap();
    assert!(!git.dir().exists());
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
    person.git_in(&dir, &["init", "-q"]);
    let place = person.at("line\nend \n/in\nside").place().await.unwrap();
    assert_eq!(place.top, dir);
    assert_eq!(place.repository, dir.join(".git"));
    assert_eq!(place.inside, PathBuf::from("in\nside"));
    assert_eq!(place.hidden_main(), None);
}

//! What would be lost if a checkout were removed.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    ffi::OsStr,
    fs::{self, File},
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    time::{Duration, UNIX_EPOCH},
};

use super::{look, somebody, worktree};
use crate::git::{BranchRef, GitError, Stamps};

#[tokio::test]
async fn look_finds_changes_and_ignored_files_and_own_commits_and_a_bisect() {
    let person = somebody("[status]\n\tshowUntrackedFiles = no\n[core]\n\tignoreStat = true\n");
    let git = worktree(&person, "work").await;
    let path = |name: &str| git.dir().join(name);
    let own = |arguments: &[&str]| person.git_in(git.dir(), arguments);
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

/// Git itself would overlook the file, whose name differs from that of a committed file in case.
#[tokio::test]
async fn a_file_is_found_although_settings_say_that_case_does_not_count() {
    let person = somebody("[core]\n\tignoreCase = true\n");
    let git = worktree(&person, "work").await;
    let git = git.with_identity().await.unwrap();
    fs::write(git.dir().join("FILE"), "two\n").unwrap();
    assert_eq!(person.git_in(git.dir(), &["status", "--porcelain"]), "");
    let loss = look(&person, &git).await.loss();
    assert_eq!(
        loss.as_deref(),
        Some("it has changes that are not committed, in 1 of its files")
    );
    git.commit_all("work").await.unwrap();
    assert_eq!(person.git(&["show", "work:FILE"]), "two");
    assert_eq!(person.git(&["show", "work:file"]), "one");
}

/// Git itself would overlook the change, because the file has the size and the time of the old one.
#[tokio::test]
async fn a_change_is_found_although_settings_say_that_few_properties_of_files_count() {
    for setting in ["trustCtime = false", "checkStat = minimal"] {
        let person = somebody(&format!("[core]\n\t{setting}\n"));
        let git = worktree(&person, "work").await;
        let path = git.dir().join("file");
        let time = UNIX_EPOCH + Duration::from_hours(1);
        let set_time = || File::options().append(true).open(&path)?.set_modified(time);
        set_time().unwrap();
        person.git_in(git.dir(), &["status", "--porcelain"]);
        let changed_at = || fs::metadata(&path).unwrap().ctime();
        let before = changed_at();
        // Git compares only the seconds of times.
        while changed_at() == before {
            fs::write(&path, "two\n").unwrap();
            set_time().unwrap();
        }
        let status = person.git_in(git.dir(), &["status", "--porcelain"]);
        assert_eq!(status, "", "{setting}");
        assert_eq!(look(&person, &git).await.dirty_count(), 1, "{setting}");
    }
}

#[tokio::test]
async fn several_requests_may_look_at_a_checkout_at_the_same_time() {
    let person = somebody("");
    let git = worktree(&person, "work").await;
    person.git_in(git.dir(), &["update-index", "--assume-unchanged", "file"]);
    fs::write(git.dir().join("file"), "two\n").unwrap();
    let look = || look(&person, &git);
    let (one, two, three) = tokio::join!(look(), look(), look());
    for look in [one, two, three] {
        assert_eq!(look.unwatched, ["file"]);
    }
}

/// Such a name is not known exactly, so the file cannot be looked at.
#[tokio::test]
async fn look_finds_files_whose_names_are_not_utf_8() {
    let person = somebody("");
    let name = OsStr::from_bytes(b"caf\xe9");
    fs::write(person.work().join(name), "one\n").unwrap();
    person.commit_all("a name");
    let link = person.commit("main").await;
    let git = worktree(&person, "work").await;
    let own = |arguments: &[&str]| person.git_in(git.dir(), arguments);
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

/// Git would look at the files of another directory.
#[tokio::test]
async fn a_submodule_whose_settings_lead_elsewhere_is_refused_and_the_advice_makes_it_again() {
    let person = somebody("");
    let library = person.home().join("lib");
    let at = library.to_str().unwrap();
    person.git(&["init", "-q", "-b", "main", at]);
    fs::write(library.join("text"), "text\n").unwrap();
    person.git_in(&library, &["add", "text"]);
    person.git_in(&library, &["commit", "-q", "-m", "text"]);
    let commit = person.git_in(&library, &["rev-parse", "HEAD"]);
    // Without a remote, git would resolve this URL against the worktree.
    let module = "[submodule \"lib\"]\n\tpath = lib\n\turl = ../lib\n";
    person.write(".gitmodules", module);
    let link = format!("160000,{},lib", commit.trim());
    person.git(&["update-index", "--add", "--cacheinfo", &link]);
    person.git(&["add", ".gitmodules"]);
    person.git(&["commit", "-q", "-m", "a submodule"]);
    let git = worktree(&person, "work").await;
    let url = format!("submodule.lib.url={at}");
    let settings = ["protocol.file.allow=always", "submodule.active=.", &url];
    let settings = settings.iter().flat_map(|setting| ["-c", *setting]);
    let update = ["submodule", "--quiet", "update"];
    person.git_in(git.dir(), &settings.chain(update).collect::<Vec<_>>());
    let lib = git.dir().join("lib");
    assert!(lib.join("text").exists());

    let other = person.home().join("other");
    fs::create_dir(&other).unwrap();
    let other = other.to_str().unwrap();
    person.git_in(&lib, &["config", "core.worktree", other]);
    let repository = person.work().join(".git");
    let refused = git.look(&repository, &Stamps::default()).await;
    let error = refused.unwrap_err();
    assert!(matches!(error, GitError::NotASubmodule { .. }), "{error}");

    let config = repository.join("config");
    let before = fs::read_to_string(&config).unwrap();
    let top = git.dir().to_str().unwrap();
    let advice = [
        "-c",
        "submodule.active=.",
        "submodule",
        "update",
        "--",
        "lib",
    ];
    let advice = [&["-C", top][..], &advice].concat();
    let says = format!("`git {}` makes it again", advice.join(" "));
    assert!(error.to_string().contains(&says), "{error}");
    fs::remove_dir_all(&lib).unwrap();
    person.git(&advice);
    git.look(&repository, &Stamps::default()).await.unwrap();
    assert_eq!(fs::read_to_string(lib.join("text")).unwrap(), "text\n");
    assert_eq!(fs::read_to_string(&config).unwrap(), before);
}

/// In a directory with committed files, git sees only these files.
#[tokio::test]
async fn a_repository_in_a_directory_of_committed_files_is_found() {
    let person = somebody("");
    person.write("deep/in/file", "one\n");
    person.commit_all("a directory");
    let git = worktree(&person, "work").await;
    assert_eq!(look(&person, &git).await.loss(), None);
    let inner = |arguments: &[&str]| person.git_in(&git.dir().join("deep/in"), arguments);
    inner(&["init", "-q"]);
    inner(&["add", "-A"]);
    inner(&["commit", "-q", "-m", "inner"]);
    assert_eq!(git.status().await.unwrap().dirty_count, 0);
    let loss = look(&person, &git).await.loss().unwrap();
    let says = "`deep/in` in it is a repository of its own, whose commits git does not see";
    assert_eq!(loss, says);
}

/// Git takes such a directory for an empty one.
#[tokio::test]
async fn files_in_a_git_directory_that_is_no_repository_are_found() {
    let person = somebody("");
    let git = worktree(&person, "work").await;
    let path = |name: &str| git.dir().join(name);
    fs::create_dir_all(path("deep/in/.git")).unwrap();
    fs::create_dir_all(path("out/.git")).unwrap();
    assert_eq!(look(&person, &git).await.loss(), None);
    let loss = "`deep/in` in it has a `.git` with files that git does not see";
    fs::write(path("deep/in/.git/new"), "new\n").unwrap();
    assert_eq!(git.status().await.unwrap().dirty_count, 0);
    assert_eq!(look(&person, &git).await.loss().as_deref(), Some(loss));
    // A repository is damaged.
    fs::remove_dir_all(path("deep")).unwrap();
    person.git_in(git.dir(), &["init", "-q", "deep/in"]);
    fs::write(path("deep/in/.git/HEAD"), "").unwrap();
    assert_eq!(git.status().await.unwrap().dirty_count, 0);
    assert_eq!(look(&person, &git).await.loss().as_deref(), Some(loss));
    // Ignored files are reported as such.
    fs::remove_dir_all(path("deep")).unwrap();
    fs::write(path("out/.git/new"), "new\n").unwrap();
    assert_eq!(look(&person, &git).await.loss(), None);
    let ignored = look(&person, &git).await.ignored();
    assert_eq!(
        ignored.as_deref(),
        Some("it has files that git ignores: out/")
    );
}

#[tokio::test]
async fn nested_repositories_are_found() {
    let person = somebody("");
    let git = worktree(&person, "work")
        .await
        .with_identity()
        .await
        .unwrap();
    let own = |arguments: &[&str]| person.git_in(git.dir(), arguments);
    let foreign = async || {
        let here = git.uncommitted().await.unwrap();
        git.foreign_repositories(&here).await.unwrap()
    };
    assert_eq!(foreign().await, [""; 0]);
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
    assert_eq!(foreign().await, ["deep/in/inner"]);
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

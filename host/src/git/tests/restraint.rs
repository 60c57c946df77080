//! What git runs in the worktrees of restrained principals.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    pin::Pin,
    sync::{Arc, Mutex},
};

use super::{Person, repository, somebody};
use crate::{
    command::{Elsewhere, Order, Outcome, supervised_by},
    git::{
        At, BranchRef, Git, GitError, Restraint, Shape, Stamps, Wanted, environment::Variables,
        spec::Spec,
    },
};

const OFFLINE: Restraint = Restraint { has_network: false };
const ONLINE: Restraint = Restraint { has_network: true };

/// A command that creates the file `ran` in the user's home directory, and passes its input on.
fn evil(person: &Person) -> String {
    format!("touch {}; cat", ran(person).display())
}

fn ran(person: &Person) -> PathBuf {
    person.home().join("ran")
}

/// A worktree of a restrained principal beside the repository, at the user's commit.
async fn restrained_worktree(person: &Person, restraint: Restraint) -> Git {
    let commit = person.commit("HEAD").await;
    let repository = repository(person).restrained(Some(restraint));
    let tree = person.home().join("tree");
    repository.add_worktree(&tree, &commit).await.unwrap();
    let git = repository
        .in_dir(tree)
        .linked_to(person.work().join(".git"));
    let git = git.restrained(Some(restraint));
    git.with_identity().await.unwrap()
}

#[tokio::test]
async fn no_filter_of_a_repository_runs_in_a_worktree_of_a_restrained_principal() {
    let ways = [
        ("its settings", "evil", "clean"),
        ("its settings", "a=b.größe", "clean"),
        ("its settings", "evil", "process"),
        ("an included file", "evil", "clean"),
        ("a file that is included in worktrees only", "evil", "clean"),
    ];
    for (way, name, part) in ways {
        let person = somebody("");
        let settings = if way == "its settings" {
            person.work().join(".git/config")
        } else {
            person.home().join("included")
        };
        let file = settings.to_str().unwrap();
        let set = |part: &str, value: &str| {
            person.git(&[
                "config",
                "--file",
                file,
                &format!("filter.{name}.{part}"),
                value,
            ]);
        };
        set(part, &evil(&person));
        set("smudge", &evil(&person));
        set("required", "true");
        match way {
            "an included file" => {
                person.git(&["config", "include.path", file]);
            }
            "a file that is included in worktrees only" => {
                person.git(&["config", "includeIf.gitdir:**/worktrees/*.path", file]);
            }
            _ => {}
        }
        let attributes = person.work().join(".git/info/attributes");
        fs::write(attributes, format!("* filter={name}\n")).unwrap();
        let git = restrained_worktree(&person, OFFLINE).await;
        let from = git.commit_of("HEAD").await.unwrap().unwrap();
        let file = git.dir().join("file");
        assert_eq!(fs::read_to_string(&file).unwrap(), "one\n", "{way}");
        fs::write(&file, "two\n").unwrap();
        let repository = person.work().join(".git");
        assert_eq!(git.state_left().await.unwrap().dirty, ["file"], "{way}");
        assert_eq!(git.changed_since(&from).await.unwrap(), 1, "{way}");
        let wanted = Wanted {
            shape: Shape::Patch,
            path: None,
        };
        let diff = git.diff_to_files(&from, &repository, wanted).await.unwrap();
        assert!(diff.text.contains("+two\n"), "{way}: {}", diff.text);
        git.commit_all("work").await.unwrap();
        assert_eq!(person.git_in(git.dir(), &["show", "HEAD:file"]), "two");
        // Git compares the files of the worktree itself before it removes them.
        fs::write(&file, "two\n").unwrap();
        let look = git.look(&repository, &Stamps::default()).await.unwrap();
        assert_eq!(look.loss(), None, "{way}");
        if part == "clean" {
            assert!(!ran(&person).exists(), "{way}");
            let seen = "alias.seen=!git status > /dev/null 2>&1 || true";
            person.git_in(git.dir(), &["-c", seen, "seen"]);
            assert!(
                ran(&person).exists(),
                "a git without a restraint runs it: {way}"
            );
            fs::remove_file(ran(&person)).unwrap();
            fs::write(&file, "two\n").unwrap();
        }
        let there = git.in_repository(&repository);
        there.remove_worktree(git.dir(), &look).await.unwrap();
        assert!(!ran(&person).exists(), "{way} {name} {part}");
    }
}

/// The command that checks out submodules has a remote of its own.
#[tokio::test]
async fn no_filter_runs_that_is_included_only_with_the_settings_of_a_command() {
    let person = somebody("");
    let included = person.home().join("included");
    let file = included.to_str().unwrap();
    let clean = evil(&person);
    person.git(&["config", "--file", file, "filter.evil.clean", &clean]);
    let condition = "includeIf.hasconfig:remote.*.url:/elsewhere.path";
    person.git(&["config", condition, file]);
    let attributes = person.work().join(".git/info/attributes");
    fs::write(attributes, "* filter=evil\n").unwrap();
    person.write("file", "two\n");
    let status = Spec::reads(["status", "--porcelain"]);
    let status = status.setting("remote.other.url", "/elsewhere");
    let git = person.at(".");
    let restrained = git.clone().restrained(Some(OFFLINE));
    restrained.output(&status).await.unwrap();
    assert!(!ran(&person).exists());
    git.output(&status).await.unwrap();
    assert!(ran(&person).exists());
}

#[tokio::test]
async fn a_filter_of_the_user_runs_for_a_restrained_principal_but_not_in_the_checkout() {
    let config = "[filter \"case\"]\n\tclean = \"sh tool.sh; tr a-z A-Z\"\n\
         \tsmudge = \"sh tool.sh; git rev-parse --show-toplevel >> ~/tops; tr A-Z a-z\"\n";
    let person = somebody("");
    person.write("tool.sh", &format!("touch {}\n", ran(&person).display()));
    person.write(".gitattributes", "file filter=case\n");
    person.commit_all("tool");
    person.configure(config);
    let git = restrained_worktree(&person, OFFLINE).await;
    let tops = fs::read_to_string(person.home().join("tops")).unwrap();
    assert_eq!(tops, format!("{}\n", git.dir().display()));
    fs::write(git.dir().join("file"), "two\n").unwrap();
    git.commit_all("work").await.unwrap();
    assert_eq!(person.git_in(git.dir(), &["show", "HEAD:file"]), "TWO");
    assert!(git.status().await.unwrap().dirty.is_empty());
    assert!(!ran(&person).exists());
    // The repository names another program for the filter, and the user's still applies.
    person.git(&["config", "filter.case.clean", &evil(&person)]);
    fs::write(git.dir().join("file"), "three\n").unwrap();
    git.commit_all("more work").await.unwrap();
    assert_eq!(person.git_in(git.dir(), &["show", "HEAD:file"]), "THREE");
    assert!(!ran(&person).exists());
    let unrestrained = git.in_users_checkout(git.dir());
    fs::write(git.dir().join("file"), "seven\n").unwrap();
    unrestrained.status().await.unwrap();
    assert!(ran(&person).exists());
}

#[tokio::test]
async fn no_filter_runs_in_a_submodule_whose_own_repository_names_it() {
    let person = somebody("");
    let git = restrained_worktree(&person, OFFLINE).await;
    let repository = person.work().join(".git");
    let module = repository.join("worktrees/tree/modules/inner");
    fs::create_dir_all(module.parent().unwrap()).unwrap();
    let inner = git.dir().join("inner");
    fs::create_dir(&inner).unwrap();
    fs::write(inner.join("file"), "one\n").unwrap();
    let separate = format!("--separate-git-dir={}", module.display());
    person.git_in(&inner, &["init", "-q", &separate]);
    for dir in [&*inner, git.dir()] {
        person.git_in(dir, &["add", "-A"]);
        person.git_in(dir, &["commit", "-q", "-m", "inner"]);
    }
    person.git_in(&inner, &["config", "filter.evil.clean", &evil(&person)]);
    fs::write(module.join("info/attributes"), "* filter=evil\n").unwrap();
    fs::write(inner.join("file"), "two\n").unwrap();
    git.status().await.unwrap();
    git.commit_all("work").await.unwrap();
    git.look(&repository, &Stamps::default()).await.unwrap();
    assert!(!ran(&person).exists());
    let unrestrained = git.in_users_checkout(git.dir());
    unrestrained.status().await.unwrap();
    assert!(ran(&person).exists());
}

#[tokio::test]
async fn a_look_at_a_directory_of_a_restrained_principal_runs_no_file_in_it() {
    let person = somebody("[filter \"tool\"]\n\tclean = \"sh tool.sh; cat\"\n");
    person.write("tool.sh", &format!("touch {}\n", ran(&person).display()));
    person.write(".gitattributes", "file filter=tool\n");
    person.write("file", "two\n");
    let git = person.at(".").restrained(Some(OFFLINE));
    let state = git.foreign_state(&person.home()).await.unwrap().unwrap();
    assert!(state.dirty.contains(&"file".to_owned()), "{state:?}");
    assert!(!ran(&person).exists());
    person.at(".").foreign_state(&person.home()).await.unwrap();
    assert!(ran(&person).exists());
}

#[tokio::test]
async fn without_a_merge_driver_of_the_repository_files_are_merged_as_text() {
    let person = Person::with_repository("");
    let commit = async |text: &str| {
        person.write("file", text);
        person.commit_all("change");
        person.commit("HEAD").await
    };
    person.write(".gitattributes", "file merge=evil\n");
    commit("1\n2\n3\n4\n5\n").await;
    person.git(&["branch", "other"]);
    let ours = commit("ours\n2\n3\n4\n5\n").await;
    person.git(&["checkout", "-q", "other"]);
    let theirs = commit("1\n2\n3\n4\ntheirs\n").await;
    person.git(&["config", "merge.evil.driver", &evil(&person)]);
    let merge = Spec::changes(["merge-tree", "--write-tree", ours.hash(), theirs.hash()]);
    let git = person.at("").restrained(Some(OFFLINE));
    let merged = git.run_with_attributes_of(&ours, &merge).await.unwrap();
    assert_eq!(merged.status.code(), Some(0), "{merged:?}");
    let tree = String::from_utf8_lossy(&merged.stdout);
    let file = format!("{}:file", tree.trim());
    assert_eq!(person.git(&["show", &file]), "ours\n2\n3\n4\ntheirs");
    assert!(!ran(&person).exists());
    let git = person.at("");
    git.run_with_attributes_of(&ours, &merge).await.unwrap();
    assert!(ran(&person).exists());
}

#[tokio::test]
async fn a_merge_driver_of_the_user_runs_for_a_restrained_principal_but_not_in_the_checkout() {
    let person = somebody("");
    person.write("tool.sh", &format!("touch {}\n", ran(&person).display()));
    person.write(".gitattributes", "file merge=own\n");
    person.commit_all("tool");
    let driver = "sh tool.sh; cat %B >> %A # a comment";
    person.configure(&format!("[merge \"own\"]\n\tdriver = \"{driver}\"\n"));
    let git = restrained_worktree(&person, OFFLINE).await;
    let file = git.dir().join("file");
    fs::write(&file, "task\n").unwrap();
    git.commit_all("work").await.unwrap();
    person.write("file", "main\n");
    person.commit_all("main");
    let (task, main) = (BranchRef::named("task"), BranchRef::named("main"));
    git.begin_merge(&task, &main, "m").await.unwrap();
    assert_eq!(fs::read_to_string(&file).unwrap(), "task\nmain\n");
    assert_eq!(git.status().await.unwrap().dirty, ["file"]);
    assert!(!ran(&person).exists());
    git.abort_merge().await.unwrap();
    let unrestrained = git.in_users_checkout(git.dir());
    unrestrained.begin_merge(&task, &main, "m").await.unwrap();
    assert!(ran(&person).exists());
}

#[tokio::test]
async fn filters_of_a_restrained_principal_are_told_whether_they_may_use_the_network() {
    let config = "[filter \"env\"]\n\tsmudge = \"env > ~/env; cat\"\n";
    let check = async |restraint: Restraint, connects: Option<&str>, expected: [&str; 2]| {
        let person = somebody("");
        person.write(".gitattributes", "file filter=env\n");
        person.commit_all("attributes");
        person.configure(config);
        if let Some(name) = connects {
            person.git(&["config", name, "never"]);
        }
        restrained_worktree(&person, restraint).await;
        let env = fs::read_to_string(person.home().join("env")).unwrap();
        let names = ["GIT_LFS_SKIP_SMUDGE=", "GIT_ALLOW_PROTOCOL="];
        let found = names.map(|name| {
            let mut lines = env.lines();
            lines
                .find_map(|line| line.strip_prefix(name))
                .unwrap_or_default()
        });
        assert_eq!(found, expected, "{restraint:?} {connects:?}");
        // Python finds no module in the checkout.
        assert!(env.lines().any(|line| line == "PYTHONSAFEPATH=1"), "{env}");
    };
    check(OFFLINE, None, ["1", "none"]).await;
    check(ONLINE, None, ["", "none"]).await;
    for name in [
        "core.sshCommand",
        "core.gitProxy",
        "core.alternateRefsCommand",
        "credential.helper",
        "credential.https://host.example.helper",
        "protocol.allow",
        "protocol.ext.allow",
        "remote.a.uploadpack",
        "remote.a.vcs",
        "lfs.customtransfer.a.path",
        "lfs.standalonetransferagent",
        "lfs.https://host.example.standalonetransferagent",
    ] {
        check(ONLINE, Some(name), ["1", "none"]).await;
    }
}

/// A clone without the contents of the branch `old`, which git would fetch with a program that a
/// file names which the repository includes. Returns the path of the clone.
fn partial_clone(person: &Person) -> PathBuf {
    person.git(&["branch", "old"]);
    person.write("file", "two\n");
    person.commit_all("second");
    person.git(&["config", "uploadpack.allowFilter", "true"]);
    person.git(&["config", "uploadpack.allowAnySHA1InWant", "true"]);
    let url = format!("file://{}", person.work().display());
    let clone = person.home().join("clone");
    let path = clone.to_str().unwrap();
    person.git(&["clone", "-q", "--filter=blob:none", &url, path]);
    let included = person.home().join("included");
    let file = included.to_str().unwrap();
    let own = format!("touch {}; git-upload-pack", ran(person).display());
    let set = ["config", "--file", file, "remote.origin.uploadpack", &own];
    person.git(&set);
    person.git_in(&clone, &["config", "include.path", file]);
    clone
}

#[tokio::test]
async fn no_missing_object_is_fetched_for_a_restrained_principal() {
    let person = somebody("");
    let clone = partial_clone(&person);
    let there = person.at(".").in_dir(&clone);
    let old = there.commit_of("origin/old").await.unwrap().unwrap();
    for restraint in [OFFLINE, ONLINE, Restraint::OF_A_REQUEST] {
        let git = there.clone().restrained(Some(restraint));
        let tree = person.home().join("tree");
        let repository = git.in_repository(clone.join(".git"));
        let error = repository.add_worktree(&tree, &old).await.unwrap_err();
        assert!(matches!(error, GitError::NotFetched { .. }), "{error}");
        let missing = "0123456789012345678901234567890123456789";
        assert_eq!(git.commit_of(missing).await.unwrap(), None);
        let diff = Spec::reads(["diff", old.hash(), "HEAD"]);
        for git in [&git, &git.in_users_checkout(&clone)] {
            let shown = git.output(&diff).await.unwrap_err();
            assert!(matches!(shown, GitError::NotFetched { .. }), "{shown}");
        }
        assert!(!ran(&person).exists(), "{restraint:?}");
        let path = tree.to_str().unwrap();
        person.git_in(&clone, &["worktree", "remove", "--force", path]);
    }
    let diff = Spec::reads(["diff", old.hash(), "HEAD"]);
    there.output(&diff).await.unwrap();
    assert!(ran(&person).exists());
}

/// Git would search its environment for each of them, and each command would take seconds.
#[tokio::test]
async fn a_repository_that_names_too_many_filters_is_refused_for_a_restrained_principal() {
    let person = somebody("");
    let with_filters = |count: usize| {
        let filters: Vec<String> = (0..count)
            .map(|number| format!("[filter \"f{number}\"]\n\tclean = cat\n"))
            .collect();
        let included = person.home().join("included");
        fs::write(&included, filters.concat()).unwrap();
        let path = included.to_str().unwrap();
        person.git(&["config", "include.path", path]);
    };
    let git = person.at(".").restrained(Some(Restraint::OF_A_REQUEST));
    with_filters(500);
    git.status().await.unwrap();
    with_filters(501);
    let refused = git.status().await.unwrap_err();
    assert!(
        matches!(refused, GitError::TooManyPrograms { count: 501, .. }),
        "{refused}"
    );
    person.at(".").status().await.unwrap();
}

/// Notes of each command whether it works for a restrained principal, and runs none.
struct Noted(Mutex<Vec<bool>>);

impl Elsewhere for Noted {
    fn run(&self, order: Order) -> Pin<Box<dyn Future<Output = Outcome> + Send>> {
        self.0.lock().unwrap().push(order.is_restrained);
        Box::pin(async { Ok(None) })
    }
}

/// Otherwise git of a person would be limited as that of a client is, or neither of them.
#[tokio::test]
async fn it_is_known_of_each_command_whether_it_works_for_a_restrained_principal() {
    let person = somebody("");
    for restraint in [None, Some(OFFLINE)] {
        let git = person.at(".").restrained(restraint);
        let noted = Arc::new(Noted(Mutex::default()));
        let place = supervised_by(noted.clone(), async { git.place().await.map(drop) });
        place.await.unwrap_err();
        let found = noted.0.lock().unwrap().clone();
        assert!(!found.is_empty());
        let is_right = found.iter().all(|it| *it == restraint.is_some());
        assert!(is_right, "{restraint:?}: {found:?}");
    }
}

#[tokio::test]
async fn git_does_nothing_for_a_restrained_principal_where_it_would_read_without_an_end() {
    let person = somebody("");
    let git = person.at(".").restrained(Some(OFFLINE));
    git.place().await.unwrap();
    let device = person.work().join(".git/commondir");
    std::os::unix::fs::symlink("/dev/zero", device).unwrap();
    let refused = git.place().await.unwrap_err().to_string();
    let says = "commondir is a pipe or a device, and git could read it for ever";
    assert!(refused.contains(says), "{refused}");
}

/// Git copies the patterns of a sparse checkout into the git directory of a new worktree.
#[tokio::test]
async fn git_copies_no_file_to_which_a_link_in_a_repository_leads_for_a_restrained_principal() {
    let person = somebody("");
    let secret = person.home().join("secret");
    fs::write(&secret, "a secret\n").unwrap();
    person.git(&["config", "core.sparseCheckout", "true"]);
    let repository = person.work().join(".git");
    let link = repository.join("info/sparse-checkout");
    std::os::unix::fs::symlink(&secret, &link).unwrap();
    let commit = person.commit("HEAD").await;
    let tree = person.home().join("tree");
    let git = person.at(".").in_repository(&repository);
    let restrained = git.clone().restrained(Some(OFFLINE));
    let refused = restrained.add_worktree(&tree, &commit).await.unwrap_err();
    let says = "info/sparse-checkout is a symbolic link, and git could copy or show";
    assert!(refused.to_string().contains(says), "{refused}");
    let copy = repository.join("worktrees/tree/info/sparse-checkout");
    assert!(!copy.exists());
    git.add_worktree(&tree, &commit).await.unwrap();
    assert_eq!(fs::read_to_string(copy).unwrap(), "a secret\n");
}

/// Such a program starts what a file of the checkout names.
#[tokio::test]
async fn git_finds_no_program_of_a_version_manager_behind_a_link_for_a_restrained_principal() {
    let person = somebody("[filter \"tool\"]\n\tclean = tool\n");
    let shims = person.home().join(".asdf/shims");
    fs::create_dir_all(&shims).unwrap();
    let tool = shims.join("tool");
    fs::write(&tool, format!("#!/bin/sh\n{}\n", evil(&person))).unwrap();
    fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).unwrap();
    let link = person.home().join("link");
    std::os::unix::fs::symlink(&shims, &link).unwrap();
    person.write(".gitattributes", "file filter=tool\n");
    person.write("file", "two\n");
    let mut path = link.into_os_string();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap());
    let host = [
        ("PATH".into(), path),
        ("HOME".into(), person.home().into_os_string()),
    ];
    let variables = Variables::new(host, &BTreeMap::new());
    let git = Git::new(At::Checkout(person.work()), variables);
    git.clone()
        .restrained(Some(OFFLINE))
        .status()
        .await
        .unwrap();
    assert!(!ran(&person).exists());
    git.status().await.unwrap();
    assert!(ran(&person).exists());
}

#[tokio::test]
async fn a_client_uses_no_repository_whose_configuration_leads_elsewhere() {
    let person = somebody("");
    let repository = person.work().join(".git");
    let config = fs::read_to_string(repository.join("config")).unwrap();
    let all = config.replace("repositoryformatversion = 0", "repositoryformatversion = 1");
    let elsewhere = person.home().join("elsewhere");
    let check = async |added: &str, expected: Option<&str>| {
        fs::write(repository.join("config"), format!("{all}{added}")).unwrap();
        for git in [person.at("."), super::repository(&person)] {
            let git = git.restrained(Some(OFFLINE));
            let found = git.commit_of("HEAD").await.map(drop);
            match expected {
                None => found.unwrap(),
                Some(name) => {
                    let message = found.unwrap_err().to_string();
                    let says = format!("the configuration of the repository sets `{name}`");
                    assert!(message.contains(&says), "{added}: {message}");
                }
            }
        }
    };
    check("[extensions]\n\tnoop = true\n\tnoop-v1 = true\n", None).await;
    check(
        "[extensions]\n\tobjectFormat = sha1\n\tworktreeConfig = true\n",
        None,
    )
    .await;
    // Git reads what a file says that it includes, but not its extensions.
    let included = person.home().join("included");
    let inner = "[submodule \"s\"]\n\tgitDir = /r/modules/s\n";
    fs::write(&included, inner).unwrap();
    let include = format!("[include]\n\tpath = {}\n", included.display());
    check(&include, Some("submodule.s.gitdir")).await;
    let of_worktree = repository.join("config.worktree");
    fs::write(&of_worktree, inner).unwrap();
    let reads_it = "[extensions]\n\tworktreeConfig = true\n";
    check(reads_it, Some("submodule.s.gitdir")).await;
    fs::remove_file(&of_worktree).unwrap();
    // With some of these, some versions of git refuse the repository themselves.
    let storage = format!("refStorage = files://{}", elsewhere.display());
    for (extension, name) in [
        (&*storage, "refstorage"),
        ("submodulePathConfig = true", "submodulepathconfig"),
        ("unknown = true", "unknown"),
    ] {
        for config in [&all, &config] {
            let added = format!("{config}[extensions]\n\t{extension}\n");
            fs::write(repository.join("config"), added).unwrap();
            let git = person.at(".").restrained(Some(OFFLINE));
            let message = git.place().await.unwrap_err().to_string();
            assert!(message.contains(name), "{message}");
        }
    }
    person.at(".").place().await.unwrap();
}

/// Git follows a file `commondir` in any git directory, so it would make a branch in another
/// repository than the one in which links were looked for.
#[tokio::test]
async fn git_of_a_client_makes_a_branch_only_in_the_repository_that_was_checked() {
    let person = somebody("");
    let note = person.work().join(".git/commondir");
    let commit = person.commit("HEAD").await;
    let branch = BranchRef::named("b");
    person.git(&["clone", "-q", "--bare", ".", "../elsewhere"]);
    let made = person.home().join("elsewhere/refs/heads/b");
    fs::write(&note, "../../elsewhere\n").unwrap();
    for git in [super::repository(&person), person.at(".")] {
        let restrained = git.clone().restrained(Some(OFFLINE));
        let refused = restrained.make_branch(&branch, &commit, "made").await;
        let refused = refused.unwrap_err().to_string();
        let says = "commondir could lead git to another repository than the one that was checked";
        assert!(refused.contains(says), "{refused}");
        assert!(!made.exists());
    }
    // Git without the check follows the file.
    let git = super::repository(&person);
    git.make_branch(&branch, &commit, "made").await.unwrap();
    assert!(made.exists());
}

#[tokio::test]
async fn git_of_a_client_works_in_all_checkouts_that_git_makes() {
    let person = somebody("");
    let home = person.home();
    person.git(&["worktree", "add", "-q", "--detach", "../linked"]);
    let separate = ["clone", "-q", "--separate-git-dir", "../separate.git", "."];
    person.git(&[&separate[..], &["../separate"]].concat());
    person.git(&["clone", "-q", "--bare", ".", "../project/.bare"]);
    let project = home.join("project");
    fs::write(project.join(".git"), "gitdir: ./.bare\n").unwrap();
    person.git_in(&project, &["worktree", "add", "-q", "main"]);
    let of_separate = home.join("separate");
    person.git_in(
        &of_separate,
        &["worktree", "add", "-q", "--detach", "../other"],
    );
    let protocol = [
        "-c",
        "protocol.file.allow=always",
        "submodule",
        "--quiet",
        "add",
    ];
    let from = person.work().display().to_string();
    let module = [&protocol[..], &[from.as_str(), "inner"]].concat();
    person.git_in(&of_separate, &module);
    let inner = of_separate.join("inner");
    person.git_in(
        &inner,
        &["worktree", "add", "-q", "--detach", "../../of-inner"],
    );
    for dir in [
        "work",
        "linked",
        "separate",
        "project/main",
        "other",
        "separate/inner",
        "of-inner",
    ] {
        let git = person.at(".").in_dir(home.join(dir));
        let git = git.restrained(Some(OFFLINE));
        let place = git.place().await.unwrap();
        let commit = git.commit_of("HEAD").await.unwrap().unwrap();
        for (git, name) in [
            (git.clone(), "a"),
            (git.in_repository(&place.repository), "b"),
        ] {
            let branch = BranchRef::named(format!("{}-{name}", dir.replace('/', "-")));
            git.make_branch(&branch, &commit, "made").await.unwrap();
            let made = git.commit_of(&branch.full()).await.unwrap();
            assert_eq!(made.as_ref(), Some(&commit), "{dir}");
        }
    }
}

#[tokio::test]
async fn git_of_a_client_reads_no_pipe_that_settings_name() {
    let person = somebody("");
    let pipe = person.home().join("pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RWXU).unwrap();
    let git = person.at(".").restrained(Some(OFFLINE));
    for name in ["include.path", "core.attributesFile", "core.excludesFile"] {
        // Git itself would read the pipe.
        let file = person.work().join(".git/config");
        let before = fs::read_to_string(&file).unwrap();
        let (section, key) = name.split_once('.').unwrap();
        let added = format!("{before}[{section}]\n\t{key} = {}\n", pipe.display());
        fs::write(&file, added).unwrap();
        let message = git.place().await.unwrap_err().to_string();
        let says = format!("names {}, which is a pipe or a device", pipe.display());
        assert!(message.contains(&says), "{name}: {message}");
        fs::write(&file, before).unwrap();
        git.place().await.unwrap();
    }
}

//! Directories whose repositories name programs: those of tasks without a worktree, and worktrees
//! whose `.git` a task has replaced.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    ffi::{OsStr, OsString},
    fs,
    os::unix::{
        ffi::OsStrExt,
        fs::{PermissionsExt, symlink},
    },
    path::{Path, PathBuf},
};

use claudine_domain::attempt::GitState;

use super::{Person, somebody, worktree};
use crate::git::{
    BranchRef, Git, GitError, Keeping, Opening, Restraint, Shape, Stamps, Uncommitted, Wanted,
};

/// Attributes with which git runs the filter `evil` for each file.
const ATTRIBUTES: &str = "* filter=evil\n";

/// A program that creates the file `ran` in the user's home directory, and passes its input on.
fn program(person: &Person) -> String {
    let path = person.home().join("program");
    let text = format!("#!/bin/sh\ntouch {}\ncat\n", ran(person).display());
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path.to_str().unwrap().to_owned()
}

fn ran(person: &Person) -> PathBuf {
    person.home().join("ran")
}

async fn state(person: &Person, inside: &str) -> Option<GitState> {
    let state = person.at(inside).foreign_state(&person.home()).await;
    state.unwrap()
}

/// Checks that the user's own git runs the program, so that the checks before this one mean
/// something.
#[track_caller]
fn person_runs_it(person: &Person, case: &str) {
    assert!(!ran(person).exists(), "{case}");
    let look = "alias.look=!git status > /dev/null 2>&1 || true";
    person.git(&["-c", look, "look"]);
    assert!(ran(person).exists(), "{case}");
}

#[tokio::test]
async fn a_filter_of_a_repository_is_not_run_whatever_its_name_is() {
    let names = [
        "evil", "Evil", "a.b", "a=b", "a\"b", "a\\b", "]", "größe", "-c", "clean",
    ];
    for name in names {
        let person = somebody("");
        let program = program(&person);
        for part in ["clean", "smudge"] {
            person.git(&["config", &format!("filter.{name}.{part}"), &program]);
        }
        person.git(&["config", &format!("filter.{name}.required"), "true"]);
        let attributes = person.work().join(".git/info/attributes");
        fs::write(attributes, format!("* filter={name}\n")).unwrap();
        person.write("file", "two\n");
        let found = state(&person, ".").await.unwrap();
        assert_eq!(found.dirty, ["file"], "{name}");
        person_runs_it(&person, name);
    }
}

#[tokio::test]
async fn no_setting_of_a_repository_makes_a_look_at_its_files_run_a_program() {
    type Way = dyn Fn(&Person, &str);
    fn set(person: &Person, name: &str, value: &str) {
        person.git(&["config", name, value]);
    }
    let ways: [(&str, &Way); 5] = [
        ("attributes of the checkout", &|person, program| {
            set(person, "filter.evil.clean", program);
            person.write(".gitattributes", ATTRIBUTES);
        }),
        ("a process", &|person, program| {
            set(person, "filter.evil.process", program);
            person.write(".gitattributes", ATTRIBUTES);
        }),
        ("another file of settings", &|person, program| {
            let text = format!("[filter \"evil\"]\n\tclean = {program}\n");
            fs::write(person.work().join(".git/more"), text).unwrap();
            set(person, "include.path", "more");
            person.write(".gitattributes", ATTRIBUTES);
        }),
        ("another file of attributes", &|person, program| {
            set(person, "filter.evil.clean", program);
            let file = person.work().join(".git/attributes");
            fs::write(&file, ATTRIBUTES).unwrap();
            set(person, "core.attributesFile", file.to_str().unwrap());
        }),
        ("a file system monitor", &|person, program| {
            set(person, "core.fsmonitor", program);
        }),
    ];
    for (way, prepare) in ways {
        let person = somebody("");
        person.write("sub/deep/file", "one\n");
        person.commit_all("second");
        prepare(&person, &program(&person));
        person.write("file", "two\n");
        symlink(person.work().join("sub"), person.home().join("link")).unwrap();
        for inside in [".", "sub/deep", "../link"] {
            let found = state(&person, inside).await.unwrap();
            assert!(found.dirty.contains(&"file".to_owned()), "{way} {found:?}");
            assert!(!ran(&person).exists(), "{way} {inside}");
        }
        person_runs_it(&person, way);
    }
}

#[tokio::test]
async fn no_setting_of_a_submodule_makes_a_look_at_its_files_run_a_program() {
    let person = somebody("");
    let inner = person.work().join("inner");
    person.git(&["init", "-q", "inner"]);
    person.write("inner/file", "one\n");
    person.git_in(&inner, &["add", "-A"]);
    person.git_in(&inner, &["commit", "-q", "-m", "first"]);
    person.commit_all("inner");
    person.git_in(&inner, &["config", "filter.evil.clean", &program(&person)]);
    fs::write(inner.join(".git/info/attributes"), ATTRIBUTES).unwrap();
    person.write("inner/file", "two\n");
    assert_eq!(state(&person, ".").await.unwrap().dirty, [""; 0]);
    person_runs_it(&person, "a change in a submodule");
    person.git_in(&inner, &["commit", "-q", "--allow-empty", "-m", "second"]);
    fs::remove_file(ran(&person)).unwrap();
    assert_eq!(state(&person, ".").await.unwrap().dirty, ["inner"]);
    person_runs_it(&person, "a new commit in a submodule");
}

/// Removes an object of this repository, and lets git run the program if it looks for the object.
fn make_missing(person: &Person, top: &Path, object: &str) {
    let (dir, file) = object.split_at(2);
    fs::remove_file(top.join(".git/objects").join(dir).join(file)).unwrap();
    let url = format!("ext::touch {}", ran(person).display());
    for (name, value) in [
        ("core.repositoryFormatVersion", "1"),
        ("extensions.partialClone", "evil"),
        ("remote.evil.promisor", "true"),
        ("remote.evil.url", url.as_str()),
        ("protocol.ext.allow", "always"),
    ] {
        person.git_in(top, &["config", name, value]);
    }
}

/// A task may have made the repository of the submodule.
#[tokio::test]
async fn no_missing_commit_is_fetched_in_a_submodule_that_work_refers_to() {
    let person = somebody("");
    let from = person.commit("HEAD").await;
    let inner = person.work().join("inner");
    make_repository(&person, &inner);
    person.commit_all("inner");
    let to = person.commit("HEAD").await;
    let commit = person.git_in(&inner, &["rev-parse", "HEAD"]);
    make_missing(&person, &inner, &commit);
    let git = person.at(".");
    let links = git.changed_links(&from, &to).await.unwrap();
    let unpushed = git.unpushed_submodules(&links).await.unwrap();
    assert_eq!(unpushed, [""; 0]);
    assert!(!ran(&person).exists());
    let look = "alias.look=!git cat-file -e HEAD 2> /dev/null || true";
    person.git_in(&inner, &["-c", look, "look"]);
    assert!(ran(&person).exists());
}

#[tokio::test]
async fn no_missing_commit_is_fetched_in_a_submodule_by_a_push() {
    let person = somebody("");
    let repository = person.work().join(".git");
    person.git(&["init", "-q", "--bare", "../remote.git"]);
    person.git(&["remote", "add", "origin", "../remote.git"]);
    let there = worktree(&person, "work").await;
    let inner = there.dir().join("inner");
    make_repository(&person, &inner);
    for arguments in [&["add", "-A"][..], &["commit", "-q", "-m", "inner"]] {
        person.git_in(there.dir(), arguments);
    }
    let commit = person.git_in(&inner, &["rev-parse", "HEAD"]);
    make_missing(&person, &inner, &commit);
    let branch = BranchRef::named("work");
    let push = async |git: Git| git.push("origin", &branch).await;
    push(there.clone().linked_to(&repository)).await.unwrap();
    person.git(&["push", "-q", "origin", ":work"]);
    let restraint = Some(Restraint { has_network: true });
    push(there.clone().restrained(restraint)).await.unwrap();
    assert!(!ran(&person).exists());
    person.git(&["push", "-q", "origin", ":work"]);
    // Git may succeed or fail if it looks there.
    let _result = push(there).await;
    assert!(ran(&person).exists());
}

#[tokio::test]
async fn no_missing_object_is_fetched_by_a_command_of_the_repository() {
    let person = somebody("");
    let tree = person.git(&["rev-parse", "HEAD^{tree}"]);
    make_missing(&person, &person.work(), &tree);
    let found = person.at(".").foreign_state(&person.home()).await;
    assert!(
        matches!(
            found,
            Err(GitError::Failed { .. } | GitError::NotFetched { .. })
        ),
        "{found:?}"
    );
    person_runs_it(&person, "a missing tree");
}

#[tokio::test]
async fn a_look_without_the_repositorys_programs_finds_what_git_finds() {
    type Way = dyn Fn(&Person);
    let ways: [(&str, &Way); 11] = [
        ("nothing", &|_| {}),
        ("changed, staged and new files", &|person| {
            person.write("file", "two\n");
            person.write("staged", "new\n");
            person.git(&["add", "staged"]);
            person.write("new/file", "new\n");
        }),
        ("excluded files", &|person| {
            fs::write(person.work().join(".git/info/exclude"), "excluded\n").unwrap();
            fs::write(person.home().join("excludes"), "also\n").unwrap();
            person.git(&["config", "core.excludesFile", "~/excludes"]);
            for name in ["excluded", "also", "new"] {
                person.write(name, "");
            }
        }),
        ("attributes", &|person| {
            fs::write(person.work().join(".git/info/attributes"), "file text\n").unwrap();
            person.write("file", "one\r\n");
        }),
        ("another file of attributes", &|person| {
            fs::write(person.home().join("attributes"), "file text\n").unwrap();
            person.git(&["config", "core.attributesFile", "~/attributes"]);
            person.write("file", "one\r\n");
        }),
        ("line ends", &|person| {
            person.git(&["config", "core.autocrlf", "true"]);
            fs::remove_file(person.work().join("file")).unwrap();
            person.git(&["checkout", "-q", "--", "file"]);
            person.write("file", "one\r\n");
        }),
        ("modes", &|person| {
            person.git(&["config", "core.fileMode", "false"]);
            let mode = fs::Permissions::from_mode(0o755);
            fs::set_permissions(person.work().join("file"), mode).unwrap();
        }),
        ("no branch", &|person| {
            person.git(&["switch", "-q", "--detach"]);
        }),
        ("no commit", &|person| {
            person.git(&["switch", "-q", "--orphan", "other"]);
            person.write("new", "");
        }),
        ("a split index", &|person| {
            person.git(&["update-index", "--split-index"]);
            person.write("file", "two\n");
        }),
        ("a sparse index", &|person| {
            person.write("in/file", "");
            person.write("out/file", "");
            person.commit_all("second");
            person.git(&["sparse-checkout", "set", "--cone", "--sparse-index", "in"]);
            person.write("in/file", "two\n");
        }),
    ];
    for (way, prepare) in ways {
        let person = somebody("");
        prepare(&person);
        let expected = person.at(".").status().await.unwrap();
        assert_eq!(state(&person, ".").await, Some(expected), "{way}");
        let left = fs::read_dir(person.home()).unwrap();
        let mut names = left.map(|entry| entry.unwrap().file_name());
        let is_left = |name: OsString| name.to_string_lossy().starts_with("look.");
        assert!(!names.any(is_left), "{way}");
    }
}

#[tokio::test]
async fn a_linked_checkout_of_a_repository_with_long_hashes_is_looked_at() {
    let person = Person::new("");
    person.git(&["init", "-q", "-b", "main", "--object-format=sha256"]);
    person.write("file", "one\n");
    person.commit_all("first");
    person.git(&["worktree", "add", "-q", "-b", "other", "../tree"]);
    for inside in [".", "../tree"] {
        person.write(&format!("{inside}/file"), "two\n");
        let expected = person.at(inside).status().await.unwrap();
        assert_eq!(expected.dirty, ["file"], "{inside}");
        assert_eq!(state(&person, inside).await, Some(expected), "{inside}");
    }
}

#[tokio::test]
async fn a_directory_outside_the_checkout_to_which_its_git_leads_is_not_looked_at() {
    let person = somebody("");
    let other = person.home().join("other");
    fs::create_dir(&other).unwrap();
    person.git(&["config", "core.worktree", other.to_str().unwrap()]);
    assert_eq!(state(&person, ".").await, None);
}

/// Makes another repository, with a filter, and lets the worktree `tree` lead to it.
fn lead_away(person: &Person, tree: &Path, way: &str) {
    let other = person.home().join("other");
    person.git(&["clone", "-q", ".", other.to_str().unwrap()]);
    person.git_in(&other, &["config", "filter.evil.clean", &program(person)]);
    let (theirs, own) = (other.join(".git"), tree.join(".git"));
    let named = |dir: &Path, end: &str| format!("gitdir: {}{end}", dir.display());
    let replace = |text: String| fs::write(&own, text).unwrap();
    match way {
        "a file with a path" => replace(named(&theirs, "\n")),
        "a file with a relative path" => {
            fs::rename(&theirs, tree.join("theirs")).unwrap();
            replace("gitdir: theirs\n".to_owned());
        }
        // Git uses `theirs` and not `theirs` with a line end.
        "a file with a path that ends with a line end" => {
            let real = person.work().join(".git/worktrees/tree");
            symlink(real, person.home().join("theirs\n")).unwrap();
            fs::rename(&theirs, person.home().join("theirs")).unwrap();
            replace(named(&person.home().join("theirs"), "\n\n"));
        }
        "a directory" => {
            fs::remove_file(&own).unwrap();
            fs::rename(&theirs, &own).unwrap();
        }
        "a link" => {
            fs::remove_file(&own).unwrap();
            symlink(&theirs, &own).unwrap();
        }
        "the shared directory" => {
            let common = person.work().join(".git/worktrees/tree/commondir");
            fs::write(common, format!("{}\n", theirs.display())).unwrap();
        }
        _ => unreachable!("{way}"),
    }
    fs::write(tree.join(".gitattributes"), ATTRIBUTES).unwrap();
    fs::write(tree.join("file"), "two\n").unwrap();
}

#[tokio::test]
async fn no_command_runs_in_a_worktree_that_leads_to_another_repository() {
    for way in [
        "a file with a path",
        "a file with a relative path",
        "a file with a path that ends with a line end",
        "a directory",
        "a link",
        "the shared directory",
    ] {
        let person = somebody("");
        let there = worktree(&person, "work").await;
        let git = there.clone().linked_to(person.work().join(".git"));
        git.status().await.unwrap();
        lead_away(&person, git.dir(), way);
        let errors = [
            git.status().await.unwrap_err(),
            git.state_left().await.unwrap_err(),
            git.whole_status().await.unwrap_err(),
            git.commit_all("work").await.unwrap_err(),
            git.commit_of("HEAD").await.unwrap_err(),
            git.operation().await.unwrap_err(),
        ];
        for error in errors {
            assert!(
                matches!(error, GitError::NotItsOwn { .. }),
                "{way}: {error}"
            );
        }
        assert!(!ran(&person).exists(), "{way}");
        there.status().await.unwrap();
        assert!(ran(&person).exists(), "{way}");
    }
}

fn keeping() -> Keeping {
    Keeping {
        name: "refs/claudine/kept".to_owned(),
        known: Vec::new(),
        message: "kept".to_owned(),
    }
}

/// To abort a merge there would abort that of the other checkout.
#[tokio::test]
async fn no_command_runs_in_a_worktree_that_leads_to_another_checkout_of_its_repository() {
    let person = somebody("");
    let there = worktree(&person, "work").await;
    let repository = person.work().join(".git");
    let git = there.clone().linked_to(&repository);
    git.status().await.unwrap();
    let other = person.home().join("other");
    let at = other.to_str().unwrap();
    person.git(&["worktree", "add", "-q", "-b", "other", at]);
    let [own, theirs] = [git.dir(), &*other].map(|dir| dir.join(".git"));
    let before = fs::read(&own).unwrap();
    for is_same_file in [true, false] {
        fs::remove_file(&own).unwrap();
        if is_same_file {
            fs::hard_link(&theirs, &own).unwrap();
        } else {
            fs::copy(&theirs, &own).unwrap();
        }
        let errors = [
            git.status().await.unwrap_err(),
            git.operation().await.unwrap_err(),
        ];
        for error in errors {
            assert!(matches!(error, GitError::NotItsOwn { .. }), "{error}");
        }
    }
    fs::write(&own, before).unwrap();
    git.status().await.unwrap();
    // The person has moved the data directory.
    let moved = person.home().join("moved");
    fs::rename(git.dir(), &moved).unwrap();
    let git = there.in_dir(moved).linked_to(&repository);
    git.status().await.unwrap();
}

/// Makes a repository with a commit.
fn make_repository(person: &Person, dir: &Path) {
    fs::create_dir(dir).unwrap();
    person.git_in(dir, &["init", "-q"]);
    fs::write(dir.join("file"), "one\n").unwrap();
    person.git_in(dir, &["add", "-A"]);
    person.git_in(dir, &["commit", "-q", "-m", "first"]);
}

/// Lets git run the filter `evil` if it compares the files of this repository.
fn make_evil(person: &Person, dir: &Path) {
    person.git_in(dir, &["config", "filter.evil.clean", &program(person)]);
    fs::write(dir.join(".git/info/attributes"), ATTRIBUTES).unwrap();
    fs::write(dir.join("file"), "two\n").unwrap();
}

#[tokio::test]
async fn no_filter_runs_in_a_submodule_whose_repository_a_task_has_made() {
    let person = somebody("");
    make_repository(&person, &person.work().join("inner"));
    person.commit_all("inner");
    let there = worktree(&person, "work").await;
    let repository = person.work().join(".git");
    let git = there.clone().linked_to(&repository);
    let git = git.with_identity().await.unwrap();
    let from = git.commit_of("HEAD").await.unwrap().unwrap();
    let inner = git.dir().join("inner");
    person.git(&["clone", "-q", "inner", inner.to_str().unwrap()]);
    make_evil(&person, &inner);
    fs::write(git.dir().join("new"), "new\n").unwrap();
    assert_eq!(git.whole_status().await.unwrap().dirty, ["new"]);
    let wanted = Wanted {
        shape: Shape::Patch,
        path: None,
    };
    let diff = git.diff_to_files(&from, &repository, wanted).await;
    assert!(diff.unwrap().text.contains("+++ b/new\n"));
    let here = Uncommitted {
        may_conflict: true,
        ..git.uncommitted().await.unwrap()
    };
    assert_eq!(git.conflicting_files(&here).await.unwrap(), [""; 0]);
    assert!(git.take_resolved().await.unwrap().is_empty());
    assert!(!ran(&person).exists());
    git.commit_all("work").await.unwrap();
    let look = git.look(&repository, &Stamps::default()).await.unwrap();
    let loss = look.loss().unwrap();
    let says = "its submodule `inner`: its repository is not one that git has made here";
    assert!(loss.starts_with(says), "{loss}");
    // The task has removed the submodule from its index, but not from its commit.
    person.git_in(git.dir(), &["update-index", "--force-remove", "inner"]);
    git.keep_changes(&keeping()).await.unwrap();
    assert!(!ran(&person).exists());
    person.git_in(git.dir(), &["reset", "-q"]);
    there.status().await.unwrap();
    assert!(ran(&person).exists());
}

#[tokio::test]
async fn gh_runs_no_filter_in_a_submodule_whose_repository_a_task_has_made() {
    let person = somebody("");
    let there = worktree(&person, "work").await;
    let inner = there.dir().join("inner");
    make_repository(&person, &inner);
    for arguments in [&["add", "-A"][..], &["commit", "-q", "-m", "inner"]] {
        person.git_in(there.dir(), arguments);
    }
    make_evil(&person, &inner);
    let programs = person.home().join("programs");
    fs::create_dir(&programs).unwrap();
    let gh = programs.join("gh");
    let text = "#!/bin/sh\ngit status --porcelain > /dev/null\ngit symbolic-ref HEAD\n";
    fs::write(&gh, text).unwrap();
    fs::set_permissions(&gh, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let git = person.with_programs(Path::new(&path)).in_dir(there.dir());
    let opened = async |git: &Git| {
        let opening = Opening {
            head: "work",
            base: None,
            title: "work",
            body: "",
        };
        git.create_request(opening).await.unwrap()
    };
    let repository = person.work().join(".git");
    let linked = git.clone().linked_to(&repository);
    let branch = Some("refs/heads/work".to_owned());
    assert_eq!(opened(&linked).await, branch);
    assert!(!ran(&person).exists());
    assert_eq!(opened(&git).await, branch);
    assert!(ran(&person).exists());
}

/// Neither a look at the repository of such a submodule nor a command that leaves it out can name
/// it.
#[tokio::test]
async fn no_filter_runs_in_a_submodule_whose_name_is_not_utf_8() {
    for is_nested in [false, true] {
        let person = somebody("");
        let there = worktree(&person, "work").await;
        let repository = person.work().join(".git");
        let git = there.clone().linked_to(&repository);
        let git = git.with_identity().await.unwrap();
        let outer = git.dir().join("outer");
        let dir = if is_nested { &*outer } else { git.dir() };
        if is_nested {
            make_repository(&person, &outer);
            let module = repository.join("worktrees/tree/modules/outer");
            fs::create_dir_all(module.parent().unwrap()).unwrap();
            let separate = format!("--separate-git-dir={}", module.display());
            person.git_in(&outer, &["init", "-q", &separate]);
        }
        let inner = dir.join(OsStr::from_bytes(b"in\xffner"));
        make_repository(&person, &inner);
        person.git_in(dir, &["add", "-A"]);
        person.git_in(dir, &["commit", "-q", "-m", "inner"]);
        if is_nested {
            person.git_in(git.dir(), &["add", "-A"]);
        }
        make_evil(&person, &inner);
        git.status().await.unwrap();
        let results = [
            git.commit_all("work").await,
            git.keep_changes(&keeping()).await.map(drop),
        ];
        for result in results {
            let is_refused = matches!(result, Err(GitError::NotUtf8 { .. }));
            assert_eq!(is_refused, !is_nested, "{result:?}");
        }
        assert!(!ran(&person).exists(), "{is_nested}");
        there.status().await.unwrap();
        assert!(ran(&person).exists(), "{is_nested}");
    }
}

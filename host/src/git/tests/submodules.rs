//! How submodules of worktrees of restrained principals are checked out.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{fs, path::PathBuf};

use super::{Person, repository, somebody};
use crate::git::{BranchRef, Git, GitError, Restraint};

/// The user's program in place of `ssh`: gives the repositories in the home directory, after it has
/// run the script `meddle` there.
const SSH: &str =
    "[ ! -e ~/meddle ] || . ~/meddle\neval \"set -- $2\"\nexec git upload-pack \"$HOME$2\"\n";

/// A user whose repository has the submodules `one` and `two`, each with a submodule `deep`.
fn with_submodules() -> Person {
    let config = "[core]\n\tsshCommand = sh ~/ssh\n[ssh]\n\tvariant = simple\n";
    let person = somebody(config);
    fs::write(person.home().join("ssh"), SSH).unwrap();
    let commit = |dir: &PathBuf| {
        person.git_in(dir, &["add", "-A"]);
        person.git_in(dir, &["commit", "-q", "-m", "all"]);
        person.git_in(dir, &["rev-parse", "HEAD"])
    };
    let declare = |dir: &PathBuf, name: &str, of: &str, commit: &str| {
        let file = dir.join(".gitmodules");
        let before = fs::read_to_string(&file).unwrap_or_default();
        let own = format!("[submodule \"{name}\"]\n\tpath = {name}\n\turl = ssh://host/{of}\n");
        fs::write(file, before + &own).unwrap();
        let link = format!("160000,{commit},{name}");
        person.git_in(dir, &["update-index", "--add", "--cacheinfo", &link]);
    };
    let make = |name: &str| {
        let dir = person.home().join(name);
        person.git(&["init", "-q", "-b", "main", dir.to_str().unwrap()]);
        fs::write(dir.join("text"), format!("{name}\n")).unwrap();
        dir
    };
    let deep = commit(&make("deep"));
    let lib = make("lib");
    declare(&lib, "deep", "deep", &deep);
    person.git_in(&lib, &["add", "text", ".gitmodules"]);
    person.git_in(&lib, &["commit", "-q", "-m", "all"]);
    let lib = person.git_in(&lib, &["rev-parse", "HEAD"]);
    for name in ["one", "two"] {
        declare(&person.work(), name, "lib", &lib);
    }
    person.git(&["add", ".gitmodules"]);
    person.git(&["commit", "-q", "-m", "submodules"]);
    person
}

/// Makes a worktree `tree` with its submodules.
async fn update(person: &Person, restraint: Option<Restraint>) -> Result<Git, GitError> {
    let commit = person.commit("HEAD").await;
    let repository = repository(person).restrained(restraint);
    let tree = person.home().join("tree");
    repository.add_worktree(&tree, &commit).await.unwrap();
    let git = repository.in_dir(tree);
    let git = git.linked_to(person.work().join(".git"));
    let branch = BranchRef::named("task");
    let updated = git.update_submodules(&branch, None, &person.work()).await;
    updated.map(|()| git)
}

const RESTRAINED: Option<Restraint> = Some(Restraint { has_network: true });

#[tokio::test]
async fn submodules_of_a_restrained_principal_are_checked_out_with_those_in_them() {
    let person = with_submodules();
    let git = update(&person, RESTRAINED).await.unwrap();
    for (path, expected) in [("one/text", "lib\n"), ("two/deep/text", "deep\n")] {
        let found = fs::read_to_string(git.dir().join(path)).unwrap();
        assert_eq!(found, expected, "{path}");
    }
    assert_eq!(person.git_in(git.dir(), &["status", "--short"]), "");
    assert_eq!(git.foreign_links().await.unwrap(), [""; 0]);
}

#[tokio::test]
async fn a_submodule_that_is_left_out_is_not_checked_out_for_a_restrained_principal() {
    let person = with_submodules();
    person.git(&["config", "submodule.one.update", "none"]);
    person.git(&["config", "submodule.two.active", "false"]);
    let git = update(&person, RESTRAINED).await.unwrap();
    for name in ["one", "two"] {
        assert!(!git.dir().join(name).join(".git").exists(), "{name}");
    }
}

/// An agent that may write there would otherwise decide which programs git runs.
#[tokio::test]
async fn no_program_runs_that_somebody_names_while_a_submodule_is_fetched() {
    let filter = |name: &str| {
        format!(
            "mkdir -p $own/{name}/info\n\
             git config --file $own/{name}/config filter.evil.smudge 'touch ~/ran; cat'\n\
             echo '* filter=evil' > $own/{name}/info/attributes\n"
        )
    };
    let next = format!(
        "[ -e $own/two ] || cp -r ~/lib/.git $own/two\n{}",
        filter("two")
    );
    let checks = [
        (next, "modules/two exists already"),
        (filter("one"), "modules/one sets `filter.evil.smudge`"),
    ];
    for (meddle, says) in checks {
        let person = with_submodules();
        let own = person.work().join(".git/worktrees/tree/modules");
        let script = format!("(unset GIT_DIR; own='{}'\n{meddle})\n", own.display());
        fs::write(person.home().join("meddle"), script).unwrap();
        let ran = person.home().join("ran");
        let refused = update(&person, RESTRAINED).await.unwrap_err().to_string();
        assert!(refused.contains(says), "{refused}");
        assert!(!ran.exists());
        let tree = person.home().join("tree");
        repository(&person).forget_worktree(&tree).await.unwrap();
        update(&person, None).await.unwrap();
        assert!(ran.exists(), "a git without a restraint runs it: {says}");
    }
}

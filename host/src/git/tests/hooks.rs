//! Hooks that a configuration names, which git from 2.54 runs.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{fs, os::unix::fs::PermissionsExt, sync::Arc};

use super::{Person, somebody, worktree};
use crate::git::{BranchRef, GitError, spec::Spec};

/// Lets the settings in a file name a hook for all events that these tests cause.
fn name_hook(person: &Person, file: &str, name: &str) {
    let ran = person.home().join("ran");
    let set = |part: &str, value: &str| {
        let name = format!("hook.{name}.{part}");
        person.git(&["config", "--file", file, "--add", &name, value]);
    };
    set("command", &format!("touch {}; false", ran.display()));
    for event in [
        "post-checkout",
        "post-commit",
        "post-index-change",
        "pre-commit",
        "reference-transaction",
    ] {
        set("event", event);
    }
}

#[tokio::test]
async fn the_version_of_git_is_looked_up_once_for_several_commands() {
    let person = somebody("");
    let (programs, asked) = (person.home().join("programs"), person.home().join("asked"));
    let script = format!(
        "#!/bin/sh\nPATH='{}'\ncase \"$*\" in *' version') echo asked >> {};; esac\n\
         exec git \"$@\"\n",
        std::env::var("PATH").unwrap(),
        asked.display(),
    );
    fs::create_dir(&programs).unwrap();
    fs::write(programs.join("git"), script).unwrap();
    fs::set_permissions(programs.join("git"), fs::Permissions::from_mode(0o755)).unwrap();
    let installed = Arc::default();
    for _ in 0..2 {
        let git = person.with_programs(&programs).sharing(&installed);
        let elsewhere = git.in_repository(person.work().join(".git"));
        for git in [git, elsewhere] {
            let main = git.branch_commit(&BranchRef::named("main")).await.unwrap();
            assert!(main.is_some());
        }
    }
    assert_eq!(fs::read_to_string(asked).unwrap(), "asked\n");
}

/// Otherwise a git from 2.54 would run hooks in the first minute after its installation.
#[tokio::test]
async fn the_version_of_a_git_that_was_replaced_is_looked_up_again() {
    let person = somebody("");
    let programs = person.home().join("programs");
    fs::create_dir(&programs).unwrap();
    let install = |version: &str| {
        let (new, program) = (programs.join("new"), programs.join("git"));
        fs::write(&new, format!("#!/bin/sh\necho git version {version}\n")).unwrap();
        fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).unwrap();
        fs::rename(new, program).unwrap();
    };
    let installed = Arc::default();
    for (version, knows) in [("2.47.3", false), ("2.54.0", true), ("2.39.5", false)] {
        install(version);
        let git = person.with_programs(&programs).sharing(&installed);
        let found = git.knows_named_hooks(false).await.unwrap();
        assert_eq!(found, knows, "{version}");
    }
}

/// The settings are given to every git, so that an old one shows them too.
#[tokio::test]
async fn a_command_gets_a_setting_for_each_hook_that_a_configuration_names() {
    let person = somebody("");
    let own = person.work().join(".git/config");
    let included = person.home().join("included");
    name_hook(&person, own.to_str().unwrap(), "a=b. c.größe");
    name_hook(&person, included.to_str().unwrap(), "Included");
    person.git(&["config", "include.path", included.to_str().unwrap()]);
    let during = person.home().join("during");
    name_hook(&person, during.to_str().unwrap(), "during");
    let condition = "includeIf.hasconfig:remote.*.url:/elsewhere.path";
    person.git(&["config", condition, during.to_str().unwrap()]);
    let git = person.at(".");
    git.knows_named_hooks.set(true).unwrap();
    let disabled = async |spec: &Spec| {
        let spec = git.without_named_hooks(spec, false).await.unwrap();
        let settings = spec.settings().iter();
        let disabled = settings.filter(|(_, value)| value == "false");
        let names = disabled.map(|(name, _)| name.clone());
        names.collect::<Vec<String>>()
    };
    for spec in [
        Spec::changes(["commit"]),
        Spec::reads(["status"]),
        Spec::changes(["symbolic-ref", "HEAD", "refs/heads/main"]),
    ] {
        let disabled = disabled(&spec).await;
        for name in ["a=b. c.größe", "Included", "post-index-change"] {
            let name = format!("hook.{name}.enabled");
            assert!(disabled.contains(&name), "{name}: {disabled:?}");
        }
    }
    let with_remote = Spec::changes(["submodule", "update"]);
    let with_remote = with_remote.setting("remote.other.url", "/elsewhere");
    let named = "hook.during.enabled".to_owned();
    assert!(disabled(&with_remote).await.contains(&named));
    assert_eq!(disabled(&Spec::reads(["config", "--list"])).await, [""; 0]);
    let old = person.at(".");
    old.knows_named_hooks.set(false).unwrap();
    let spec = Spec::changes(["commit"]);
    let unchanged = old.without_named_hooks(&spec, false).await.unwrap();
    assert_eq!(*unchanged, spec);
}

#[tokio::test]
async fn a_configuration_that_names_too_many_hooks_is_refused() {
    let person = somebody("");
    let hooks: Vec<String> = (0..501)
        .map(|number| format!("[hook \"h{number}\"]\n\tcommand = true\n"))
        .collect();
    let config = person.work().join(".git/config");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text + &hooks.concat()).unwrap();
    let git = person.at(".");
    git.knows_named_hooks.set(true).unwrap();
    let refused = git.status().await.unwrap_err();
    assert!(
        matches!(refused, GitError::TooManyPrograms { count: 501, .. }),
        "{refused}"
    );
}

#[tokio::test]
async fn no_hook_that_a_configuration_names_runs() {
    let person = somebody("");
    if !person.at(".").knows_named_hooks(false).await.unwrap() {
        eprintln!("SKIPPED: this git runs no hooks that a configuration names (2.54 does)");
        return;
    }
    let own = person.work().join(".git/config");
    // The second name is one of an event, by which the switch of the event has no effect.
    name_hook(&person, own.to_str().unwrap(), "evil");
    person.git(&["config", "hook.post-checkout.command", "true"]);
    let ran = person.home().join("ran");
    let git = worktree(&person, "work").await;
    let git = git.with_identity().await.unwrap();
    fs::write(git.dir().join("file"), "two\n").unwrap();
    git.commit_all("work").await.unwrap();
    assert_eq!(person.git_in(git.dir(), &["show", "HEAD:file"]), "two");
    assert!(git.status().await.unwrap().dirty.is_empty());
    assert!(!ran.exists());
    // The person's own git runs it.
    let commit = "alias.own=!git commit -q --allow-empty -m own || true";
    person.git(&["-c", commit, "own"]);
    assert!(ran.exists());
}

//! Repositories whose files or settings would lead git of the host to another directory than the
//! one that the host has checked for a client.

use std::{fs, os::unix::fs::symlink, path::Path};

use claudine_tests::{TestHost, mcp::Client};
use serde_json::{Value, json};

use super::{Repository, git_in};

fn repository() -> Repository {
    let config = "[mcp]\nexecutors = [\"shell\"]\n";
    Repository::with(TestHost::builder().config(config))
}

fn asked(dir: &Path, branch: &str) -> Value {
    json!({
        "prompt": "true", "executor": "shell", "useWorktree": true, "workingDirectory": dir,
        "branchName": branch,
    })
}

/// An agent that may only edit files can write one into a git directory that is not called `.git`.
#[test]
fn clients_task_changes_no_repository_to_which_a_file_in_the_git_directory_leads() {
    let repository = repository();
    let host = &repository.host;
    let project = host.root().join("project");
    let bare = project.join(".bare");
    let main = project.join("main");
    let path = bare.to_str().unwrap();
    repository.git(&["clone", "-q", "--bare", ".", path]);
    fs::write(project.join(".git"), "gitdir: ./.bare\n").unwrap();
    git_in(host, &project, &["worktree", "add", "-q", "main"]);
    let mut client = Client::connect(host);
    let taken = client.call("DelegateTask", asked(&main, "usual"));
    let task = host.finished(taken["taskId"].as_str().unwrap());
    assert_eq!(task["outcome"], "succeeded", "{task:#}");

    // The other repository is a directory of a branch.
    let other = main.join("other");
    git_in(
        host,
        &project,
        &["clone", "-q", "--bare", path, other.to_str().unwrap()],
    );
    let file = host.root().join("profile");
    fs::write(&file, "mine\n").unwrap();
    let logs = other.join("logs/refs/heads");
    fs::create_dir_all(&logs).unwrap();
    symlink(&file, logs.join("appended")).unwrap();
    let note = bare.join("commondir");
    fs::write(&note, format!("{}\n", other.display())).unwrap();
    let says = ".bare/commondir could lead git to another repository than the one that was checked";
    for dir in [&main, &project] {
        let complaint = client.fail("DelegateTask", asked(dir, "appended"));
        assert!(complaint.contains(says), "{complaint}");
    }
    // So does a second file, after a first one has led git there.
    let chained = repository.path().join(".git/commondir");
    fs::write(&chained, format!("{path}\n")).unwrap();
    let complaint = client.fail("DelegateTask", asked(&repository.path(), "appended"));
    let says = ".git/commondir could lead git to another repository than the one that was checked";
    assert!(complaint.contains(says), "{complaint}");
    assert_eq!(fs::read(&file).unwrap(), b"mine\n");
    // Git of the person, called with the git directory, follows the file and the link.
    git_in(
        host,
        host.root(),
        &["--git-dir", path, "branch", "appended"],
    );
    assert_ne!(fs::read(&file).unwrap(), b"mine\n");
    // Without the file, the client works there again.
    fs::remove_file(&note).unwrap();
    let taken = client.call("DelegateTask", asked(&main, "again"));
    let task = host.finished(taken["taskId"].as_str().unwrap());
    assert_eq!(task["outcome"], "succeeded", "{task:#}");
}

/// Git 2.54 and later know settings by which refs and the repositories of submodules are anywhere.
#[test]
fn clients_task_changes_no_repository_whose_settings_have_its_parts_elsewhere() {
    let repository = repository();
    let host = &repository.host;
    let elsewhere = host.root().join("elsewhere");
    let git_dir = repository.path().join(".git");
    let from = git_dir.to_str().unwrap();
    repository.git(&["clone", "-q", "--bare", from, elsewhere.to_str().unwrap()]);
    let config = git_dir.join("config");
    let before = fs::read_to_string(&config).unwrap();
    let newer = before.replace("repositoryformatversion = 0", "repositoryformatversion = 1");
    let storage = format!(
        "[extensions]\n\trefStorage = files://{}\n",
        elsewhere.display()
    );
    let mut client = Client::connect(host);
    for (config_before, added, says) in [
        // Older versions of git refuse this themselves.
        (&newer, &*storage, "refstorage"),
        (
            &before,
            "[extensions]\n\tunknown = true\n",
            "sets `extensions.unknown`",
        ),
        (
            &before,
            "[submodule \"s\"]\n\tgitdir = /elsewhere/modules/s\n",
            "sets `submodule.s.gitdir`",
        ),
    ] {
        fs::write(&config, format!("{config_before}{added}")).unwrap();
        let complaint = client.fail("DelegateTask", asked(&repository.path(), "made"));
        assert!(complaint.contains(says), "{complaint}");
        assert!(!elsewhere.join("refs/heads/made").exists());
        assert!(!elsewhere.join("logs/refs/heads/made").exists());
    }
    // A person decides for themselves.
    let task = repository.done(&["--branch", "own"], "true");
    assert_eq!(task["outcome"], "succeeded", "{task:#}");
    fs::write(&config, before).unwrap();
    let taken = client.call("DelegateTask", asked(&repository.path(), "made"));
    let task = host.finished(taken["taskId"].as_str().unwrap());
    assert_eq!(task["outcome"], "succeeded", "{task:#}");
}

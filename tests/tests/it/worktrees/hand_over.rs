//! Work that is handed over as a patch or a pull request.

use std::fs;

use claudine_tests::TestHost;

use super::{COMMIT, Repository, git_in, merged, programs, write_script};

#[test]
fn patch_contains_committed_and_uncommitted_changes() {
    let repository = Repository::new();
    let script = format!("echo two > file; {COMMIT}; printf '\\0\\1\\2' > binary");
    let task = repository.done(&["--merge", "patch"], &script);
    let detail = merged(&task, "succeeded", "written");
    let id = task["id"].as_str().unwrap();
    let patch = repository
        .host
        .data_dir()
        .join(format!("worktrees/{id}.patch"));
    assert!(detail.starts_with(patch.to_str().unwrap()), "{detail}");
    repository.is_untouched();
    repository.git(&["apply", patch.to_str().unwrap()]);
    assert_eq!(fs::read(repository.path().join("file")).unwrap(), b"two\n");
    assert_eq!(
        fs::read(repository.path().join("binary")).unwrap(),
        b"\0\x01\x02"
    );
    assert!(!repository.worktree(&task).exists());
}

/// Agents bring their branches up to date by themselves.
#[test]
fn patch_of_a_task_that_has_merged_or_rebased_has_only_the_work_of_the_task() {
    let repository = Repository::new();
    let host = &repository.host;
    let done = |name: &str, script: &str| {
        let waits = "until test -e go; do sleep 0.02; done; rm go";
        let options = ["--merge", "patch", "--name", name];
        let script = format!(
            "export GIT_AUTHOR_NAME=T GIT_AUTHOR_EMAIL=t@example.org GIT_COMMITTER_NAME=T \
             GIT_COMMITTER_EMAIL=t@example.org; {waits}; {script}"
        );
        let id = repository.submit(&options, &script);
        host.live(&id);
        repository.write(&format!("base.{name}"), "base\n");
        repository.commit(name);
        let worktree = host.data_dir().join("worktrees").join(&id);
        fs::write(worktree.join("go"), "").unwrap();
        host.finished(&id)
    };
    for name in ["rebase", "merge"] {
        let script = format!("echo {name} > {name}; {COMMIT}; git {name} -q main");
        let task = done(name, &script);
        merged(&task, "succeeded", "written");
        let id = task["id"].as_str().unwrap();
        let patch = host.data_dir().join(format!("worktrees/{id}.patch"));
        let text = fs::read_to_string(&patch).unwrap();
        assert!(!text.contains("base."), "{text}");
        repository.git(&["apply", "--index", patch.to_str().unwrap()]);
        repository.git(&["commit", "-q", "-m", name]);
    }
    let task = done("nothing", "git rebase -q main");
    merged(&task, "succeeded", "nothing");
}

#[test]
fn branch_is_pushed_and_a_pull_request_opened_if_gh_is_installed() {
    let bin = programs(&["git", "sh"]);
    let repository = Repository::with(TestHost::builder().env("PATH", bin.path()));
    let remote = repository.host.root().join("remote.git");
    git_in(
        &repository.host,
        repository.host.root(),
        &["init", "-q", "--bare", "remote.git"],
    );
    repository.git(&["remote", "add", "origin", remote.to_str().unwrap()]);
    let options = ["--merge", "pr", "--branch", "fix"];
    let task = repository.done(&options, "echo two > file");
    let detail = merged(&task, "succeeded", "pushed");
    assert_eq!(
        detail,
        "branch `fix` is pushed to `origin`; `gh` is not installed, so open the pull request yourself"
    );
    assert_eq!(
        git_in(&repository.host, &remote, &["show", "fix:file"]),
        "two"
    );

    let gh = "#!/bin/sh\necho \"$@\" >> \"$HOME/gh.calls\"\ntest \"$2\" = create && echo https://example.org/pull/1\n";
    write_script(&bin.path().join("gh"), gh);
    // `gh` would take a plain number for the number of a pull request.
    let options = ["--merge", "pr", "--branch", "12"];
    let task = repository.done(&options, "echo three > file");
    let detail = merged(&task, "succeeded", "opened");
    assert!(
        detail.ends_with("and https://example.org/pull/1 is open"),
        "{detail}"
    );
    let calls = fs::read_to_string(repository.host.home().join("gh.calls")).unwrap();
    assert!(
        calls.starts_with("pr list --head=12 --state=open"),
        "{calls}"
    );
    assert!(
        calls.contains("pr create --head=12 --title=echo three > file --body="),
        "{calls}"
    );
    assert!(calls.contains("--base=main"), "{calls}");
    // Somebody else may have opened a request from a branch of this name, or to another base.
    let own = "select(((.isCrossRepository | not) or ";
    assert!(
        calls.contains(own) && calls.contains(" and .baseRefName == \"main\")"),
        "{calls}"
    );
    repository.is_untouched();

    // The person pushes to a fork, and pull requests come from the fork.
    let root = repository.host.root();
    git_in(
        &repository.host,
        root,
        &["init", "-q", "--bare", "me/fork.git"],
    );
    let fork = root.join("me/fork.git");
    repository.git(&["remote", "add", "fork", fork.to_str().unwrap()]);
    repository.git(&["config", "remote.pushDefault", "fork"]);
    let task = repository.done(&["--merge", "pr", "--branch", "fix2"], "echo five > file");
    let detail = merged(&task, "succeeded", "opened");
    assert!(
        detail.starts_with("branch `fix2` is pushed to `fork`"),
        "{detail}"
    );
    let show = ["show", "fix2:file"];
    assert_eq!(git_in(&repository.host, &fork, &show), "five");
    let calls = fs::read_to_string(repository.host.home().join("gh.calls")).unwrap();
    assert!(calls.contains("pr create --head=me:fix2 "), "{calls}");
    assert!(calls.contains("ascii_downcase) == \"me\" and "), "{calls}");
    // If `gh` cannot tell which requests are open, none is opened.
    let failing = "#!/bin/sh\necho HTTP 502 >&2\nexit 1\n";
    write_script(&bin.path().join("gh"), failing);
    let task = repository.done(&["--merge", "pr", "--branch", "fix4"], "echo six > file");
    let detail = merged(&task, "failed", "refused");
    let says = "but the pull request could not be opened: `gh pr` failed: HTTP 502";
    assert!(detail.contains(says), "{detail}");
    write_script(&bin.path().join("gh"), gh);
    repository.git(&["config", "--unset", "remote.pushDefault"]);

    fs::remove_dir_all(&remote).unwrap();
    let task = repository.done(&["--merge", "pr", "--branch", "fix3"], "echo four > file");
    let detail = merged(&task, "failed", "refused");
    assert!(detail.starts_with("`git push` failed: "), "{detail}");
    assert!(detail.ends_with("(branch `fix3`)"), "{detail}");
    assert_eq!(repository.git(&["show", "fix3:file"]), "four");
}

//! Work that leaves as a patch or as a request.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::PathBuf,
};

use claudine_tests::TestHost;

use super::{COMMIT, Repository, git_in, merged};

#[test]
fn a_patch_has_all_of_it() {
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

/// A directory for `PATH` with these programs and nothing else.
fn programs(host: &TestHost, names: &[&str]) -> PathBuf {
    let bin = host.root().join("bin");
    fs::create_dir_all(&bin).unwrap();
    for name in names {
        let path = host
            .other("sh")
            .args(["-c", "command -v \"$0\"", name])
            .output()
            .unwrap();
        let path = String::from_utf8(path.stdout).unwrap();
        symlink(path.trim(), bin.join(name)).unwrap();
    }
    bin
}

#[test]
fn a_branch_is_pushed_and_a_request_opened_where_gh_is() {
    let repository = Repository::new();
    let remote = repository.host.root().join("remote.git");
    git_in(
        &repository.host,
        repository.host.root(),
        &["init", "-q", "--bare", "remote.git"],
    );
    repository.git(&["remote", "add", "origin", remote.to_str().unwrap()]);
    let bin = programs(&repository.host, &["git", "sh"]);
    let path = format!("PATH={}", bin.display());
    let options = ["--merge", "pr", "--branch", "fix", "--env", &path];
    let task = repository.done(&options, "echo two > file");
    let detail = merged(&task, "succeeded", "pushed");
    assert_eq!(
        detail,
        "branch `fix` is pushed to `origin`; `gh` is not installed, so the request is yours to open"
    );
    assert_eq!(
        git_in(&repository.host, &remote, &["show", "fix:file"]),
        "two"
    );

    let gh = "#!/bin/sh\necho \"$@\" >> \"$HOME/gh.calls\"\ntest \"$2\" = create && echo https://example.org/pull/1\n";
    fs::write(bin.join("gh"), gh).unwrap();
    fs::set_permissions(bin.join("gh"), fs::Permissions::from_mode(0o755)).unwrap();
    let options = ["--merge", "pr", "--branch", "fix2", "--env", &path];
    let task = repository.done(&options, "echo three > file");
    let detail = merged(&task, "succeeded", "opened");
    assert!(
        detail.ends_with("and https://example.org/pull/1 is open"),
        "{detail}"
    );
    let calls = fs::read_to_string(repository.host.home().join("gh.calls")).unwrap();
    assert!(
        calls.contains("pr create --head fix2 --title echo three > file --body"),
        "{calls}"
    );
    assert!(calls.contains("--base main"), "{calls}");
    repository.is_untouched();

    fs::remove_dir_all(&remote).unwrap();
    let task = repository.done(&["--merge", "pr", "--branch", "fix3"], "echo four > file");
    let detail = merged(&task, "failed", "refused");
    assert!(detail.starts_with("`git push` failed: "), "{detail}");
    assert!(detail.ends_with("the work is on branch `fix3`"), "{detail}");
    assert_eq!(repository.git(&["show", "fix3:file"]), "four");
}

//! Runs the real git as a person.

use std::path::Path;

use crate::TestHost;

/// Runs git in a directory; returns its output.
#[track_caller]
pub fn git_in(host: &TestHost, dir: &Path, arguments: &[&str]) -> String {
    let output = host
        .other("git")
        .args(["-c", "user.name=P", "-c", "user.email=p@example.org"])
        .args(arguments)
        .current_dir(dir)
        .output()
        .unwrap();
    assert!(output.status.success(), "git {arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Makes a repository with an empty commit in the tasks' directory.
#[track_caller]
pub fn with_repository(host: &TestHost) {
    git_in(host, &host.work(), &["init", "-q", "-b", "main"]);
    let commit = ["commit", "-q", "--allow-empty", "-m", "first"];
    git_in(host, &host.work(), &commit);
}

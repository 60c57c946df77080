//! Showing a task's changes, and entering its worktree.

use std::fs;

use claudine_tests::terminal::Terminal;

use super::{COMMIT, REFUSED, Repository, conflicting, git_in, merged};

#[test]
fn changes_of_a_task_are_shown_before_and_after_its_merge() {
    let repository = Repository::new();
    let host = &repository.host;
    repository.write(".gitignore", "out\n");
    repository.commit("ignore");
    let script = format!("echo two > file; {COMMIT}; echo new > new; echo x > out");
    let left = repository.done(&["--name", "left"], &script);
    merged(&left, "succeeded", "left");
    let text = host.text(["diff", "left"]);
    for piece in ["-one\n+two", "+++ b/new\n", "+new"] {
        assert!(text.contains(piece), "{piece}\n{text}");
    }
    assert!(!text.contains("out") && !text.contains('\x1b'), "{text}");
    let stat = host.text(["diff", "left", "--stat"]);
    assert!(
        stat.ends_with("2 files changed, 2 insertions(+), 1 deletion(-)"),
        "{stat}"
    );
    // Later commits on the base are not changes of the task.
    repository.write("sub/file", "mine\n");
    repository.commit("mine");
    let auto = repository.done(&["--merge", "auto", "--name", "auto"], "echo three > file");
    merged(&auto, "succeeded", "merged");
    repository.write("file", "four\n");
    repository.commit("four");
    let after = host.json(["diff", "auto"]);
    let patch = after["text"].as_str().unwrap();
    assert!(patch.contains("-one\n+three\n"), "{patch}");
    assert!(!patch.contains("sub/file"), "{patch}");
    assert_eq!(after["to"].as_str().unwrap().len(), 40);
    // The diff can still be shown after the worktree, the branch and their record are removed.
    host.run(["worktree", "clean", "--all", "--ignored"])
        .check();
    assert_eq!(host.json(["diff", "auto"])["text"], after["text"]);
    assert!(host.text(["diff", "left"]).contains("+two"));
    let nothing = repository.done(&["--name", "nothing"], "true");
    merged(&nothing, "succeeded", "nothing");
    host.run(["diff", "nothing"]).ok().says(&["no changes"]);
    let without = host.script("true");
    host.finished(&without);
    host.run(["diff", &without])
        .code(REFUSED)
        .says(&["has no worktree", "git diff"]);
}

/// After the base was merged into the branch, the branch is compared with the commit of the base
/// that was merged.
#[test]
fn resolved_branch_is_compared_with_the_merged_base() {
    let repository = Repository::new();
    let host = &repository.host;
    let task = conflicting(&repository);
    repository.write("sub/file", "theirs\n");
    repository.commit("more");
    host.run(["worktree", "resolve", "fix"])
        .code(REFUSED)
        .says(&["file has conflict markers"]);
    fs::write(repository.worktree(&task).join("file"), "both\n").unwrap();
    host.run(["worktree", "resolve", "fix"]).check();
    let patch = host.text(["diff", "fix"]);
    assert!(patch.contains("-ours\n+both"), "{patch}");
    assert!(!patch.contains("sub/file"), "{patch}");
}

#[test]
fn diff_runs_no_commands_of_the_repository() {
    let repository = Repository::new();
    let host = &repository.host;
    let task = repository.done(&["--keep-worktree"], &format!("echo two > file; {COMMIT}"));
    let id = task["id"].as_str().unwrap();
    let ran = host.root().join("ran");
    let run = format!("touch {}; cat", ran.display());
    for name in [
        "diff.external",
        "diff.own.textconv",
        "diff.own.command",
        "core.pager",
    ] {
        repository.git(&["config", name, &run]);
    }
    fs::write(
        repository.path().join(".git/info/attributes"),
        "* diff=own\n",
    )
    .unwrap();
    let text = host.text(["diff", id]);
    assert!(text.contains("-one\n+two"), "{text}");
    // On a terminal, the diff has colours and the person's pager is used.
    let pager = &[("PAGER", "sed s/^/paged:/"), ("GIT_PAGER", "")];
    let mut terminal = Terminal::start_with(host, &["diff", id], (80, 24), pager);
    terminal.shows(&["paged:-one", "paged:+two"]);
    terminal.ended();
    let bytes = terminal.bytes();
    let shown = String::from_utf8_lossy(&bytes);
    assert!(shown.contains("paged:\x1b[31m-one\x1b[0m"), "{shown}");
    let plain = &[("PAGER", "false"), ("NO_COLOR", "1")];
    let arguments = ["diff", id, "--no-pager"];
    let mut terminal = Terminal::start_with(host, &arguments, (80, 24), plain);
    terminal.shows(&["\n-one\n+two"]);
    terminal.ended();
    let gone = &[("GIT_PAGER", "no-such-pager")];
    let mut terminal = Terminal::start_with(host, &["diff", id], (80, 24), gone);
    terminal.shows(&["+two"]);
    terminal.ended();
    assert!(!ran.exists(), "the repository ran a command");
}

#[test]
fn diff_contains_no_terminal_control_characters() {
    let repository = Repository::new();
    let host = &repository.host;
    let script =
        "printf 'a\\033]0;title\\007b\\tc\\n' > file; echo x > \"$(printf 'new\\033[2J')\"";
    let task = repository.done(&[], script);
    let id = task["id"].as_str().unwrap();
    for arguments in [
        &["diff", id][..],
        &["diff", id, "--stat"],
        &["diff", id, "--json"],
    ] {
        let text = host.text(arguments);
        assert!(!text.contains(['\x1b', '\x07']), "{text}");
    }
    assert!(
        host.text(["diff", id])
            .contains("+a\\u{1b}]0;title\\u{7}b\tc")
    );
}

#[test]
fn worktree_can_be_entered_and_left() {
    let repository = Repository::new();
    let host = &repository.host;
    let task = repository.done(&["--name", "fix", "--keep-worktree"], "true");
    let worktree = repository.worktree(&task);
    let path = worktree.display();
    assert_eq!(host.text(["enter", "fix"]), format!("cd {path}"));
    assert_eq!(host.json(["enter", "fix"])["path"], path.to_string());
    let short = &task["id"].as_str().unwrap()[26..];
    let status = host.text(["status", "fix"]);
    assert!(status.contains("Enter      claudine enter "), "{status}");
    assert!(status.contains(short), "{status}");
    let shell = &[("SHELL", "/bin/sh"), ("PS1", "in the worktree> ")];
    let mut terminal = Terminal::start_with(host, &["enter", "fix"], (120, 24), shell);
    terminal.shows(&["in the worktree> "]);
    terminal.press("git branch --show-current; exit 3\n");
    assert!(terminal.ended().success());
    let branch = git_in(host, &worktree, &["branch", "--show-current"]);
    terminal.shows(&[&branch]);
    host.run(["worktree", "clean"]).check();
    host.run(["enter", "fix"])
        .code(REFUSED)
        .says(&["does not exist", "claudine diff"]);
    let without = host.script("true");
    host.finished(&without);
    host.run(["enter", &without])
        .code(REFUSED)
        .says(&["has no worktree"]);
}

//! Worktrees that contain another repository or another worktree.

use std::fs;

use super::{COMMIT, Repository, merged};

#[test]
fn nested_repository_that_is_no_submodule_is_not_merged() {
    let repository = Repository::new();
    let inner = "git init -q inner; cd inner; echo x > x; git add x; \
                 git -c user.name=T -c user.email=t@example.org commit -q -m x; cd ..";
    let task = repository.done(&["--merge", "auto"], inner);
    let detail = merged(&task, "failed", "refused");
    assert!(
        detail.contains("which cannot be committed: inner; move them elsewhere"),
        "{detail}"
    );
    assert!(repository.worktree(&task).join("inner/x").exists());
    // If the task itself commits the nested repository, the merge is refused too.
    for how in ["auto", "patch"] {
        let task = repository.done(&["--merge", how], &format!("{inner}; {COMMIT}"));
        let detail = merged(&task, "failed", "refused");
        assert!(detail.contains("that are not submodules"), "{detail}");
        assert!(repository.worktree(&task).join("inner/x").exists());
    }
    let task = repository.done(&[], &format!("{inner}; {COMMIT}"));
    let detail = merged(&task, "succeeded", "left");
    assert!(
        detail.contains("`inner` has commits that are on no remote"),
        "{detail}"
    );
    assert!(repository.worktree(&task).join("inner/x").exists());
    repository.is_untouched();
}

/// Agents make worktrees of their own in this place.
#[test]
fn worktree_inside_a_worktree_is_neither_merged_nor_removed() {
    let repository = Repository::new();
    let add = |branch: &str| {
        format!(
            "git worktree add -q -b {branch} .claude/worktrees/sub; \
             echo x > .claude/worktrees/sub/x"
        )
    };
    let added = repository.done(&["--merge", "auto"], &add("one"));
    let detail = merged(&added, "failed", "refused");
    assert!(
        detail.contains("cannot be committed: .claude/worktrees/sub; move them elsewhere"),
        "{detail}"
    );
    let script = format!(
        "{}; (cd .claude/worktrees/sub; {COMMIT}); {COMMIT}",
        add("two")
    );
    let committed = repository.done(&["--merge", "auto"], &script);
    let detail = merged(&committed, "failed", "refused");
    assert!(
        detail.contains("that are not submodules, so nobody else could get their content: .claude"),
        "{detail}"
    );
    repository.write(".gitignore", ".claude/\n");
    repository.commit("ignore");
    let script = format!("{}; echo two > file", add("three"));
    let ignored = repository.done(&["--merge", "auto"], &script);
    let detail = merged(&ignored, "succeeded", "merged");
    assert!(
        detail.contains("stays: it has files that git ignores: .claude/"),
        "{detail}"
    );
    for task in [added, committed, ignored] {
        let file = repository.worktree(&task).join(".claude/worktrees/sub/x");
        assert_eq!(fs::read(file).unwrap(), b"x\n");
    }
    let tree = repository.git(&["ls-tree", "--name-only", "main"]);
    assert_eq!(tree, ".gitignore\nfile\nsub");
    repository.is_untouched();
}

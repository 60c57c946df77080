//! What is listed, removed and kept.

use std::fs;

use serde_json::json;

use super::{COMMIT, Repository, merged};

#[test]
fn what_is_not_committed_is_never_removed() {
    let repository = Repository::new();
    let task = repository.done(&[], "echo two > file");
    let worktree = repository.worktree(&task);
    let detail = merged(&task, "succeeded", "left");
    assert!(
        detail.starts_with("1 file is not committed in the worktree"),
        "{detail}"
    );
    let failed = repository.done(&[], "echo two > file; exit 3");
    assert_eq!(failed["outcome"], "failed");
    let committed = repository.done(&["--keep-worktree"], &format!("echo 2 > file; {COMMIT}"));
    let nothing = repository.done(&["--keep-worktree"], "true");
    merged(&nothing, "succeeded", "nothing");
    let list = repository.host.json(["worktree", "list"]);
    let found: Vec<_> = list
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            (
                one["task"].clone(),
                one["dirty"].clone(),
                one["unmerged"].clone(),
            )
        })
        .collect();
    assert_eq!(
        found,
        [
            (task["id"].clone(), json!(1), json!(0)),
            (failed["id"].clone(), json!(1), json!(0)),
            (committed["id"].clone(), json!(0), json!(1)),
            (nothing["id"].clone(), json!(0), json!(0)),
        ]
    );
    let text = repository.host.text(["worktree", "clean"]);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 4, "{text}");
    assert_eq!(
        lines[0],
        format!("removed {}", repository.worktree(&nothing).display())
    );
    assert!(
        lines[1].ends_with("changes that are not committed, in 1 of its files"),
        "{text}"
    );
    assert!(
        lines[3].contains("is not merged (commits: 1); --all removes"),
        "{text}"
    );
    let all = repository.host.json(["worktree", "clean", "--all"]);
    assert_eq!(all["removed"][0]["task"], committed["id"], "{all:#}");
    assert_eq!(all["left"].as_array().unwrap().len(), 2, "{all:#}");
    let branch = committed["worktree"]["branch"].as_str().unwrap();
    assert_eq!(repository.git(&["show", &format!("{branch}:file")]), "2");
    assert_eq!(fs::read(worktree.join("file")).unwrap(), b"two\n");
    assert!(repository.worktree(&failed).exists());
}

//! Branch, commit and uncommitted changes of a directory, by one `git status`.

use claudine_domain::attempt::GitState;

use super::{Git, GitError, SHORT};

/// How many changed paths are named.
const NAMED: usize = 50;
/// How long they may be together: the state is kept in the row of its task.
const NAMED_BYTES: usize = 8 << 10;

impl Git {
    pub(crate) async fn status(&self) -> Result<GitState, GitError> {
        let arguments = [
            "status",
            "--porcelain=v2",
            "--branch",
            "-z",
            "--untracked-files=normal",
        ];
        Ok(parse(&self.output(&arguments, SHORT).await?))
    }
}

/// Lines are ended by NUL; the line of a renamed file is followed by its old path as one more.
fn parse(output: &[u8]) -> GitState {
    let mut state = GitState::default();
    let mut named_bytes = 0;
    let mut lines = output
        .split_inclusive(|byte| *byte == 0)
        // Without its NUL at the end a line was cut off.
        .filter_map(|line| line.strip_suffix(&[0]));
    while let Some(line) = lines.next() {
        let text = String::from_utf8_lossy(line);
        if let Some(head) = text.strip_prefix("# ") {
            heading(head, &mut state);
            continue;
        }
        let path = match text.as_bytes().first() {
            // Before the path: 1 XY sub mH mI mW hH hI.
            Some(b'1') => text.splitn(9, ' ').nth(8),
            // One more: the score of the rename.
            Some(b'2') => {
                lines.next();
                text.splitn(10, ' ').nth(9)
            }
            // u XY sub m1 m2 m3 mW h1 h2 h3
            Some(b'u') => text.splitn(11, ' ').nth(10),
            Some(b'?') => text.get(2..),
            _ => None,
        };
        let Some(path) = path else { continue };
        state.dirty_count += 1;
        named_bytes += path.len();
        if state.dirty.len() < NAMED && named_bytes <= NAMED_BYTES {
            state.dirty.push(path.to_owned());
        }
    }
    state
}

fn heading(head: &str, state: &mut GitState) {
    match head.split_once(' ') {
        Some(("branch.oid", oid)) if oid != "(initial)" => state.commit = Some(oid.to_owned()),
        Some(("branch.head", head)) if head != "(detached)" => state.branch = Some(head.to_owned()),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::{collections::BTreeMap, process::Command, sync::Arc};

    use super::*;

    fn check(lines: &[&str], branch: Option<&str>, commit: Option<&str>, dirty: &[&str]) {
        let output = lines.join("\0") + "\0";
        let state = parse(output.as_bytes());
        assert_eq!(
            (state.branch.as_deref(), state.commit.as_deref()),
            (branch, commit)
        );
        assert_eq!(state.dirty, dirty);
        assert_eq!(state.dirty_count, dirty.len() as u64);
    }

    #[test]
    fn each_kind_of_line_is_read() {
        check(
            &["# branch.oid ab12", "# branch.head main"],
            Some("main"),
            Some("ab12"),
            &[],
        );
        check(
            &["# branch.oid (initial)", "# branch.head (detached)"],
            None,
            None,
            &[],
        );
        check(
            &[
                "# branch.ab +1 -0",
                "1 .M N... 100644 100644 100644 aa bb a file",
                "2 R. N... 100644 100644 100644 aa bb R100 new name",
                "old name",
                "u UU N... 100644 100644 100644 100644 aa bb cc both",
                "? new/",
                "! ignored",
            ],
            None,
            None,
            &["a file", "new name", "both", "new/"],
        );
    }

    #[test]
    fn what_is_named_is_bounded_and_all_are_counted() {
        let many = "? file\0".repeat(60);
        let state = parse(many.as_bytes());
        assert_eq!((state.dirty.len(), state.dirty_count), (NAMED, 60));
        let long = format!("? {}\0? cut off", "d/".repeat(NAMED_BYTES));
        let state = parse(long.as_bytes());
        assert_eq!((state.dirty.len(), state.dirty_count), (0, 1));
    }

    #[tokio::test]
    async fn git_itself_is_asked_and_not_led_astray() {
        let dir = tempfile::tempdir().unwrap();
        let init = Command::new("git")
            .args(["init", "-q", "-b", "trunk"])
            .arg(dir.path())
            .status();
        assert!(init.unwrap().success());
        std::fs::write(dir.path().join("größe\n2"), "").unwrap();
        let path = std::env::var("PATH").unwrap();
        let check = async |variables: &[(&str, &str)]| {
            let variables = variables
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect::<BTreeMap<_, _>>();
            Git::at(dir.path(), Arc::new(variables)).status().await
        };
        let state = check(&[("PATH", &path), ("GIT_DIR", "/no/such")])
            .await
            .unwrap();
        assert_eq!(
            (state.branch.as_deref(), state.commit),
            (Some("trunk"), None)
        );
        assert_eq!(state.dirty, ["größe\n2"]);
        let error = check(&[("PATH", "/no/such")]).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "git is not installed: `git` was not found on the task's PATH"
        );
    }
}

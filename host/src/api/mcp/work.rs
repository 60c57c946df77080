//! Shows and merges the changes of a task in a worktree.

use super::{
    answers::{Diff, Merged},
    fitted::{self, ANSWER_BYTES, Fitted},
    parameters::{MergeTask, TaskDiff},
    server::{Server, no_host},
};
use crate::{
    api::client::ClientError,
    app::{AppError, DiffQuery, DiffView, MergeWorktree, WorktreeMerged},
};

/// Width of the list of files, large enough that no name is cut.
const WIDE_COLUMNS: u16 = 500;

impl Server {
    /// The changes of a task: one line per file, and the part of the patch that fits.
    pub(super) async fn task_diff(&self, asked: TaskDiff) -> Result<Diff, AppError> {
        let query = |stat| DiffQuery {
            stat,
            columns: stat.then_some(WIDE_COLUMNS),
            path: asked.path.clone(),
        };
        let stat = self.client.diff(&asked.task_id, query(true)).await?;
        let patch = match asked.stat_only {
            Some(true) => None,
            _ => Some(self.client.diff(&asked.task_id, query(false)).await?),
        };
        Ok(fitted_diff(stat, patch))
    }

    pub(super) async fn merge_task(&self, asked: MergeTask) -> Result<Merged, AppError> {
        let merge = asked.merge_strategy.map(Into::into);
        let merged = self
            .client
            .merge_worktree(&asked.task_id, MergeWorktree { merge });
        let WorktreeMerged {
            task,
            merge,
            attempt,
            downstream,
        } = match merged.await {
            Err(ClientError::NotRunning { .. }) => {
                return Err(no_host("no host runs, so nothing can be merged now"));
            }
            merged => merged?,
        };
        Ok(Merged {
            success: true,
            message: merge.detail.clone(),
            task_id: task,
            merge,
            attempt_number: attempt,
            revived: downstream,
        })
    }
}

/// The changes, with both texts cut at the end to fit an answer.
fn fitted_diff(stat: DiffView, patch: Option<DiffView>) -> Diff {
    let files = without_bars(&stat.text);
    let changed = patch.as_ref().map_or("", |patch| &patch.text);
    let shares = fitted::shares(&[&files, changed], ANSWER_BYTES);
    let whole = |view: &DiffView| match (view.truncated, &view.to) {
        (false, _) => format!("`claudine diff {}`", view.task),
        (true, None) => format!("`git diff {}` in the worktree of the task", view.from),
        (true, Some(to)) => format!("`git diff {} {to}`", view.from),
    };
    let told = |text: &str, view: &DiffView, share: Option<&usize>| {
        let fitted = Fitted::start_of(text, share.copied().unwrap_or_default());
        fitted.told_of_start(view.truncated, &whole(view))
    };
    Diff {
        success: true,
        stat: told(&files, &stat, shares.first()),
        patch: patch
            .as_ref()
            .map(|patch| told(&patch.text, patch, shares.get(1))),
        task_id: stat.task,
        branch: stat.branch,
        from: stat.from,
        to: stat.to,
    }
}

/// Shortens ` src/a.rs | 12 +++---` to the name and the number, because a model does not need the
/// signs.
fn without_bars(stat: &str) -> String {
    let mut lines = String::with_capacity(stat.len());
    for line in stat.lines() {
        let kept = match line.rfind(" | ") {
            Some(bar) => line[..bar].len() + without_signs(&line[bar..]).len(),
            None => line.len(),
        };
        lines.push_str(line[..kept].trim_end());
        lines.push('\n');
    }
    lines
}

fn without_signs(count: &str) -> &str {
    let kept = count.trim_end_matches(['+', '-']);
    if kept.ends_with(' ') { kept } else { count }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(text: &str, truncated: bool) -> DiffView {
        DiffView {
            task: "t".to_owned(),
            branch: "claudine/fix".to_owned(),
            from: "a".to_owned(),
            to: Some("b".to_owned()),
            text: text.to_owned(),
            truncated,
        }
    }

    #[test]
    fn the_list_of_changed_files_is_shown_without_plus_and_minus_signs() {
        let stat =
            " a - b.rs | 3 ++-\n x | y-   | 1 -\n bin      | Bin 2 -> 3 bytes\n 1 file changed\n";
        let expected =
            " a - b.rs | 3\n x | y-   | 1\n bin      | Bin 2 -> 3 bytes\n 1 file changed\n";
        assert_eq!(without_bars(stat), expected);
        assert_eq!(without_bars(""), "");
    }

    #[test]
    fn a_diff_is_cut_at_its_end_with_the_command_for_the_rest() {
        let check = |patch: Option<DiffView>, expected: Option<&str>| {
            let told = fitted_diff(view(" f | 1 +\n", false), patch);
            assert_eq!(told.stat, " f | 1\n");
            let patch = told.patch.as_deref();
            let end = patch.map(|patch| patch.lines().next_back().unwrap_or_default());
            assert_eq!(end, expected);
            let json = serde_json::json!(told).to_string();
            assert!(json.len() < ANSWER_BYTES + 500, "{}", json.len());
        };
        check(None, None);
        check(Some(view("+one\n", false)), Some("+one"));
        // In JSON the list of files takes 8 bytes and each line of the patch 11 bytes.
        check(
            Some(view(&"+a line\t\n".repeat(10_000), false)),
            Some("[claudine: 57285 more bytes are left out; `claudine diff t` prints them]"),
        );
        check(
            Some(view("+one\n", true)),
            Some("[claudine: at least 0 more bytes are left out; `git diff a b` prints them]"),
        );
    }
}

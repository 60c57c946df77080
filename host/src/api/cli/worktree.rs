//! `claudine worktree`, and the options that give a task a worktree.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use claudine_domain::worktree::MergeStrategy;

use super::{
    failure::Failure,
    merged::merged_text,
    output, parse,
    resolve::Resolve,
    session::Session,
    table::{Cell, Column, Goes, Table},
    terminal::{Look, Painted},
    text,
    watch::with_git_note,
};
use crate::{
    app::{CleanWorktrees, FoundWorktree, MergeWorktree, WorktreeWish, WorktreesQuery},
    text::{ShortIds, ends_on_one_line},
};

/// Columns on a terminal, and so the width of an error there.
const OPEN_COLUMNS: usize = 30;
/// Length limit of an error in the list.
const ERROR_CHARS: usize = 120;
/// Length limit of the reason why a worktree was left.
const WHY_CHARS: usize = 240;

/// Options of a task's own worktree.
#[derive(Debug, Args)]
#[command(next_help_heading = "Worktree")]
pub(super) struct WorktreeOptions {
    /// Run the task in its own git worktree and branch.
    #[arg(long)]
    worktree: bool,
    /// Name of the new branch [default: claudine/NAME].
    ///
    /// If the task has no name, the first words of its request are taken. If the branch exists, a
    /// number is added.
    #[arg(
        long,
        value_name = "NAME",
        hide_short_help = true,
        requires = "worktree"
    )]
    branch: Option<String>,
    /// Start point of the branch, and merge target [default: HEAD].
    #[arg(
        long,
        value_name = "REF",
        hide_short_help = true,
        requires = "worktree"
    )]
    base: Option<String>,
    /// On success: pr, auto, manual or patch [default: manual].
    ///
    /// `pr` pushes the branch and opens a pull request with `gh`, `auto` merges it into its base,
    /// `manual` leaves it, `patch` writes a patch file. All but `manual` commit uncommitted changes
    /// first. On a merge conflict nothing is changed, and the task fails.
    #[arg(long, value_name = "HOW", value_parser = parse::merge_strategy, requires = "worktree")]
    merge: Option<MergeStrategy>,
    /// Commit message [default: the first line of the request].
    ///
    /// The commits that Claudine makes for the task have this message; a trailer names the task.
    #[arg(
        hide_short_help = true,
        long,
        value_name = "TEXT",
        requires = "worktree"
    )]
    message: Option<String>,
    /// Keep the worktree after success.
    ///
    /// Without this option, the worktree is removed if all changes are committed.
    #[arg(hide_short_help = true, long, requires = "worktree")]
    keep_worktree: bool,
}

impl WorktreeOptions {
    pub(super) fn wish(self) -> Option<WorktreeWish> {
        self.worktree.then(|| WorktreeWish {
            branch: self.branch,
            base: self.base,
            merge: self.merge.unwrap_or_default(),
            keep: self.keep_worktree,
            message: self.message,
        })
    }
}

/// List, merge, resolve or remove worktrees of tasks.
///
/// A task submitted with --worktree runs in its own checkout, below the data directory. The
/// checkout is removed if the task succeeds and all changes are committed; otherwise it is kept.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  claudine worktree list
  claudine worktree merge fix-tests
  claudine worktree clean")]
pub(super) struct Worktree {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List worktrees, and the changes that exist only in them.
    List {
        /// Only worktrees of this graph: its name or one of its tasks.
        #[arg(long, value_name = "NAME|ID")]
        graph: Option<String>,
    },
    /// Merge the branch of a finished task.
    ///
    /// Uncommitted changes are committed first. `claudine worktree resolve` resolves a conflict.
    /// Your checkout is changed only if the strategy is `auto` and the base is checked out there. A
    /// task that failed because of its merge then succeeds, and its dependants can run again.
    #[command(after_help = "\
Examples:
  claudine worktree merge fix-tests
  claudine worktree merge x7tqrp --merge patch")]
    Merge {
        /// Id, end of an id, or name.
        #[arg(value_name = "ID")]
        task: String,
        /// Merge strategy: pr, auto or patch [default: that of the task].
        #[arg(long, value_name = "HOW", value_parser = parse::merge_strategy)]
        merge: Option<MergeStrategy>,
    },
    Resolve(Resolve),
    /// Remove worktrees whose changes are merged or pushed.
    ///
    /// Worktrees of running tasks and worktrees with uncommitted changes are kept, and the reason
    /// is printed. Without --ignored, worktrees with new files that git ignores (build output,
    /// reports, `.env`) are kept too. Commits of a removed worktree that are on no branch are kept
    /// below refs/claudine/ for 30 days.
    Clean {
        /// Also remove unmerged worktrees; their branches are kept.
        #[arg(long)]
        all: bool,
        /// Also remove worktrees with ignored files.
        #[arg(long)]
        ignored: bool,
        /// Only worktrees of this graph: its name or one of its tasks.
        #[arg(long, value_name = "NAME|ID")]
        graph: Option<String>,
    },
}

impl Worktree {
    pub(super) async fn run(self, session: &Session) -> Result<ExitCode, Failure> {
        match self.verb {
            Verb::List { graph } => list(session, &WorktreesQuery { graph }).await,
            Verb::Merge { task, merge } => self::merge(session, &task, merge).await,
            Verb::Resolve(verb) => verb.run(session).await,
            Verb::Clean {
                all,
                ignored,
                graph,
            } => {
                let asked = CleanWorktrees {
                    graph,
                    all,
                    ignored,
                };
                clean(session, &asked).await
            }
        }
    }
}

async fn list(session: &Session, query: &WorktreesQuery) -> Result<ExitCode, Failure> {
    let worktrees = session.client().worktrees(query).await?;
    if session.json {
        output::json(&worktrees)?;
        return Ok(ExitCode::SUCCESS);
    }
    if worktrees.is_empty() {
        output::say("no worktrees");
    }
    let shown = table(&worktrees, Look::of_stdout());
    output::painted(&shown)?;
    if cuts_an_error(&shown, &worktrees) {
        output::say("`claudine worktree list --json` shows the errors in full");
    }
    Ok(ExitCode::SUCCESS)
}

async fn merge(
    session: &Session,
    task: &str,
    merge: Option<MergeStrategy>,
) -> Result<ExitCode, Failure> {
    let asked = MergeWorktree { merge };
    let client = session.client();
    let merged = with_git_note(client, client.merge_worktree(task, asked)).await?;
    if session.json {
        output::json(&merged)?;
    } else {
        output::text(&merged_text(&merged))?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn clean(session: &Session, asked: &CleanWorktrees) -> Result<ExitCode, Failure> {
    let client = session.client();
    let cleaned = with_git_note(client, client.clean_worktrees(asked)).await?;
    if session.json {
        output::json(&cleaned)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut is_cut = false;
    for removed in &cleaned.removed {
        output::line(&format!("removed {}", removed.path))?;
    }
    for left in &cleaned.left {
        let why = ends_on_one_line(&left.why, WHY_CHARS);
        is_cut |= why != left.why;
        output::line(&format!("left {}: {why}", left.path))?;
    }
    if is_cut {
        output::say("`claudine worktree clean --json` shows the reasons in full");
    }
    if cleaned.removed.is_empty() && cleaned.left.is_empty() {
        output::say("no worktrees");
    }
    Ok(ExitCode::SUCCESS)
}

const COLUMNS: [Column; 8] = [
    Column::new("TASK"),
    Column::new("NAME").optional().cut(20, 6),
    Column::new("STATE").cut(17, 8),
    Column::new("BRANCH").optional().cut(24, 10),
    Column::new("BASE").optional().goes(Goes::Early(2)),
    Column::new("NOT MERGED").cut(OPEN_COLUMNS, 10),
    Column::new("MERGE").optional().cut(24, 8),
    Column::new("PATH").goes(Goes::Early(1)),
];

fn table(worktrees: &[FoundWorktree], look: Look) -> Painted {
    let short = ShortIds::among(worktrees.iter().map(|found| found.task.as_str()));
    let mut table = Table::new(&COLUMNS);
    for worktree in worktrees {
        table.row(row(worktree, short));
    }
    table.shown(look)
}

fn row(worktree: &FoundWorktree, short: ShortIds) -> [Cell; 8] {
    let (mark, colour) = text::look_of_word(&worktree.state);
    let merge = worktree.merge.as_ref();
    let merge = merge.map(|merge| {
        if merge.state.is_failure() {
            merge.brief()
        } else {
            merge.state.as_str()
        }
    });
    [
        Cell::new(short.of(&worktree.task)),
        Cell::new(worktree.name.as_deref().unwrap_or_default()),
        Cell::painted(colour, &format!("{mark} {}", worktree.state)),
        Cell::new(worktree.branch.as_deref().unwrap_or_default()),
        Cell::new(worktree.base.as_deref().unwrap_or_default()),
        Cell::new(&open_work(worktree)),
        Cell::new(merge.unwrap_or_default()),
        Cell::new(&worktree.path),
    ]
}

/// Whether the list shows an error only in part. This depends on the room that the other columns
/// leave.
fn cuts_an_error(shown: &Painted, worktrees: &[FoundWorktree]) -> bool {
    let mut errors = worktrees.iter().filter_map(|found| found.error.as_ref());
    errors.any(|error| !shown.as_str().contains(error.as_str()))
}

fn open_work(worktree: &FoundWorktree) -> String {
    if let Some(error) = &worktree.error {
        return ends_on_one_line(error, ERROR_CHARS);
    }
    let mut parts = Vec::new();
    match worktree.dirty {
        Some(1) => parts.push("1 file not committed".to_owned()),
        Some(count) if count > 1 => parts.push(format!("{count} files not committed")),
        _ => {}
    }
    match worktree.ignored {
        Some(1) => parts.push("1 ignored by git".to_owned()),
        Some(count) if count > 1 => parts.push(format!("{count} ignored by git")),
        _ => {}
    }
    match worktree.unmerged {
        Some(1) => parts.push("1 commit".to_owned()),
        Some(count) if count > 1 => parts.push(format!("{count} commits")),
        _ => {}
    }
    if parts.is_empty() {
        "nothing".to_owned()
    } else {
        parts.join(", ")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::api::cli::terminal::in_each_look;

    #[test]
    fn a_worktree_is_shown_on_one_line() {
        let mut worktree = FoundWorktree {
            task: "task_01kb".to_owned(),
            name: Some("fix".to_owned()),
            state: "failed".to_owned(),
            branch: Some("claudine/01kb".to_owned()),
            base: Some("main".to_owned()),
            path: "/data/worktrees/task_01kb".to_owned(),
            repository: Some("/src/.git".to_owned()),
            dirty: Some(1),
            ignored: Some(0),
            unmerged: Some(2),
            error: None,
            merge: None,
        };
        let check = |worktree: &FoundWorktree, columns: Option<usize>, expected: &str| {
            let look = Look {
                colours: false,
                columns,
            };
            let shown = table(std::slice::from_ref(worktree), look);
            assert_eq!(shown.as_str().lines().nth(1), Some(expected));
        };
        let whole = "01kb  fix   ✗ failed  claudine/01kb  main  1 file not committed, 2 commits  \
                     /data/worktrees/task_01kb";
        check(&worktree, None, whole);
        check(
            &worktree,
            Some(80),
            "01kb  fix   ✗ failed  claudine/01kb  main  1 file not committed, 2 commits",
        );
        (worktree.dirty, worktree.unmerged, worktree.ignored) = (Some(0), Some(0), Some(3));
        check(
            &worktree,
            Some(80),
            "01kb  fix   ✗ failed  claudine/01kb  main  3 ignored by git",
        );
        (worktree.branch, worktree.base) = (None, None);
        worktree.error = Some("cannot read it".to_owned());
        check(
            &worktree,
            Some(80),
            "01kb  fix   ✗ failed  cannot read it  /data/worktrees/task_01kb",
        );
    }

    #[test]
    fn an_error_of_many_lines_is_one_line_with_its_end() {
        let worktree: FoundWorktree = serde_json::from_value(serde_json::json!({
            "task": "task_01kb", "state": "failed", "path": "/data/worktrees/task_01kb",
            "error": format!("`git status` failed: {}fatal: no", "line\n".repeat(100)),
        }))
        .unwrap();
        let open = open_work(&worktree);
        assert!(open.starts_with("`git status` failed: line line"), "{open}");
        assert!(open.ends_with(" line fatal: no"), "{open}");
        assert!(open.chars().count() <= ERROR_CHARS + 3, "{open}");
    }

    #[test]
    fn an_error_counts_as_cut_only_where_the_list_cuts_it() {
        let check = |columns: Option<usize>, length: usize, expected: bool| {
            let worktrees: Vec<FoundWorktree> = serde_json::from_value(serde_json::json!([{
                "task": "task_01kb", "state": "failed", "path": "/data/worktrees/task_01kb",
                "error": "x".repeat(length),
            }]))
            .unwrap();
            let look = Look {
                colours: false,
                columns,
            };
            let is_cut = cuts_an_error(&table(&worktrees, look), &worktrees);
            assert_eq!(is_cut, expected, "{columns:?} {length}");
        };
        check(None, ERROR_CHARS, false);
        check(None, ERROR_CHARS + 1, true);
        // The terminal has room for more than the usual width, or for less.
        check(Some(200), OPEN_COLUMNS + 1, false);
        check(Some(80), OPEN_COLUMNS, false);
        check(Some(30), OPEN_COLUMNS, true);
    }

    #[test]
    fn worktrees_fit_the_width_of_the_terminal() {
        let worktrees: Vec<FoundWorktree> = serde_json::from_value(serde_json::json!([
            {
                "task": "task_01kb2m8r4zq8w3v5x7y9abcdef", "name": "fix\u{1b}[2J", "state": "failed",
                "branch": "claudine/fix", "base": "main", "path": "/data/worktrees/task_01kb2m8r4zq8w3v5x7y9abcdef",
                "dirty": 1, "ignored": 0, "unmerged": 2,
                "merge": {"strategy": "auto", "state": "conflict", "detail": "it conflicts", "brief": "merge conflict in src/a.rs"},
            },
            {
                "task": "task_01kb2m8r4zq8w3v5x7y9abcdeg", "state": "running", "branch": "claudine/make-all-of-the-tests-pass-again",
                "base": "release-2026", "path": "/data/worktrees/task_01kb2m8r4zq8w3v5x7y9abcdeg", "dirty": 0, "unmerged": 0,
            },
            {
                "task": "task_01kb2m8r4zq8w3v5x7y9abcdeh", "state": "forgotten",
                "path": "/data/worktrees/task_01kb2m8r4zq8w3v5x7y9abcdeh", "error": "its record cannot be read: expected value at line 1",
            },
        ]))
        .unwrap();
        insta::assert_snapshot!("worktrees", in_each_look(|look| table(&worktrees, look)));
    }
}

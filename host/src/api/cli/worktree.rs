//! `claudine worktree`, and the options by which a task gets one.

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
};
use crate::{
    app::{CleanWorktrees, FoundWorktree, MergeWorktree, WorktreeWish},
    text::ShortIds,
};

/// A checkout of the task's own.
#[derive(Debug, Args)]
#[command(next_help_heading = "Worktree")]
pub(super) struct WorktreeOptions {
    /// Let it work in a git worktree of its own, on a branch of its own, and leave this checkout alone.
    #[arg(long)]
    worktree: bool,
    /// The branch, which must not exist yet [default: claudine/ and the task's name or first
    /// words, with a number if that is taken].
    #[arg(long, value_name = "NAME", requires = "worktree")]
    branch: Option<String>,
    /// What the branch goes out from, and is merged into: a branch, else a tag or a commit
    /// [default: what is checked out here].
    #[arg(long, value_name = "REF", requires = "worktree")]
    base: Option<String>,
    /// What becomes of the branch once the task has succeeded: pr (push it and open a request with `gh`), auto (merge it into its base),
    /// manual (leave it) or patch (write a patch file). Except for manual, what the task has not committed is committed first. A merge
    /// that conflicts changes nothing, and the task fails [default: manual].
    #[arg(long, value_name = "HOW", value_parser = parse::merge_strategy, requires = "worktree")]
    merge: Option<MergeStrategy>,
    /// Message of the commits that are made for the task [default: the first line of what it is
    /// asked]; a trailer names the task.
    #[arg(long, value_name = "TEXT", requires = "worktree")]
    message: Option<String>,
    /// Keep the worktree when the task has succeeded and all of its work is committed; otherwise it stays anyway.
    #[arg(long, requires = "worktree")]
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

/// Show, merge, resolve or remove the worktrees of tasks.
///
/// A task that was submitted with --worktree works in a checkout of its own, below the data directory. When it has succeeded and its work is
/// committed, the worktree goes by itself; what failed, conflicts or is not committed stays.
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
    /// Show them, with what is in them that is nowhere else.
    List,
    /// Ask once more for what becomes of a finished task's work: it was refused and nothing is in its way any more, or you want another.
    ///
    /// What is not committed in the worktree is committed first. A conflict is resolved on the task's branch: merge the base in the worktree,
    /// commit, and ask again. Your checkout is only touched as by --merge auto of the task itself. A task that failed by its merge has succeeded
    /// once that is made, and what could not run because of it runs.
    #[command(after_help = "\
Examples:
  claudine worktree merge fix-tests
  claudine worktree merge x7tqrp --merge patch")]
    Merge {
        /// The task: its id, the end of its id, or its name.
        #[arg(value_name = "ID")]
        task: String,
        /// pr, auto or patch [default: what the task was submitted with].
        #[arg(long, value_name = "HOW", value_parser = parse::merge_strategy)]
        merge: Option<MergeStrategy>,
    },
    Resolve(Resolve),
    /// Remove those of finished tasks whose work is all merged or pushed, and say why the others stay. What is not committed is never removed.
    ///
    /// Files that git ignores (build output, reports, `.env`) are in no commit either: a worktree
    /// in which its task has made some stays, unless you say --ignored.
    Clean {
        /// Also those whose work is committed, but only on their branch; the branch stays.
        #[arg(long)]
        all: bool,
        /// Also those with files in them that git ignores; the files go with them.
        #[arg(long)]
        ignored: bool,
    },
}

impl Worktree {
    pub(super) async fn run(self, session: &Session) -> Result<ExitCode, Failure> {
        match self.verb {
            Verb::List => list(session).await,
            Verb::Merge { task, merge } => self::merge(session, &task, merge).await,
            Verb::Resolve(verb) => verb.run(session).await,
            Verb::Clean { all, ignored } => clean(session, CleanWorktrees { all, ignored }).await,
        }
    }
}

async fn list(session: &Session) -> Result<ExitCode, Failure> {
    let worktrees = session.client().worktrees().await?;
    if session.json {
        output::json(&worktrees)?;
        return Ok(ExitCode::SUCCESS);
    }
    if worktrees.is_empty() {
        output::say("no worktrees");
    }
    output::painted(&table(&worktrees, Look::of_stdout()))?;
    Ok(ExitCode::SUCCESS)
}

async fn merge(
    session: &Session,
    task: &str,
    merge: Option<MergeStrategy>,
) -> Result<ExitCode, Failure> {
    let asked = MergeWorktree { merge };
    let merged = session.client().merge_worktree(task, asked).await?;
    if session.json {
        output::json(&merged)?;
    } else {
        output::text(&merged_text(&merged))?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn clean(session: &Session, asked: CleanWorktrees) -> Result<ExitCode, Failure> {
    let cleaned = session.client().clean_worktrees(asked).await?;
    if session.json {
        output::json(&cleaned)?;
        return Ok(ExitCode::SUCCESS);
    }
    for removed in &cleaned.removed {
        output::line(&format!("removed {}", removed.path))?;
    }
    for left in &cleaned.left {
        output::line(&format!("left {}: {}", left.path, left.why))?;
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
    Column::new("NOT MERGED").cut(30, 10),
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

fn open_work(worktree: &FoundWorktree) -> String {
    if let Some(error) = &worktree.error {
        return error.clone();
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
    use super::*;

    #[test]
    fn a_worktree_is_a_line() {
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
}

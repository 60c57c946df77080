//! `claudine worktree`, and the options by which a task gets one.

use std::{fmt::Write, process::ExitCode};

use clap::{Args, Subcommand};
use claudine_domain::worktree::{Merge, MergeStrategy};

use super::{failure::Failure, output, parse, session::Session, terminal::harmless};
use crate::{
    app::{CleanWorktrees, FoundWorktree, MergeWorktree, WorktreeMerged, WorktreeWish},
    text::short_id,
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

/// Show, merge or remove the worktrees of tasks.
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
    for worktree in &worktrees {
        output::text(&describe(worktree))?;
    }
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
        output::line(&merged_text(&merged))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn merged_text(merged: &WorktreeMerged) -> String {
    let Merge { state, detail, .. } = &merged.merge;
    let line = format!("{}: {detail}", state.as_str());
    let revived = match merged.downstream {
        0 => String::new(),
        1 => "; 1 task that waited for it runs now".to_owned(),
        count => format!("; {count} tasks that waited for it run now"),
    };
    match merged.attempt {
        Some(_) => format!("{line}\n{} has succeeded{revived}", short_id(&merged.task)),
        None => line,
    }
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

/// The task, then its branch and what is open on it, then where it is.
fn describe(worktree: &FoundWorktree) -> String {
    let name = match &worktree.name {
        Some(name) => format!(" ({})", harmless(name)),
        None => String::new(),
    };
    let base = match &worktree.base {
        Some(base) => format!(" from {}", harmless(base)),
        None => String::new(),
    };
    let mut text = format!("{}{name}: {}\n", short_id(&worktree.task), worktree.state);
    let mut line = |name: &str, value: &str| {
        // Writing into a text does not fail.
        writeln!(text, "  {name:<9}{value}").unwrap_or_default();
    };
    match &worktree.branch {
        Some(branch) => line(
            "branch",
            &format!("{}{base}, {}", harmless(branch), open_work(worktree)),
        ),
        None => line("error", &open_work(worktree)),
    }
    line("path", &harmless(&worktree.path));
    if let Some(merge) = &worktree.merge {
        line(
            "merge",
            &format!("{}: {}", merge.state.as_str(), harmless(merge.brief())),
        );
    }
    text
}

fn open_work(worktree: &FoundWorktree) -> String {
    if let Some(error) = &worktree.error {
        return harmless(error);
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
        Some(1) => parts.push("1 commit not merged".to_owned()),
        Some(count) if count > 1 => parts.push(format!("{count} commits not merged")),
        _ => {}
    }
    if parts.is_empty() {
        "nothing that is not merged".to_owned()
    } else {
        parts.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worktree_is_described() {
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
        let path = "  path     /data/worktrees/task_01kb\n";
        assert_eq!(
            describe(&worktree),
            format!(
                "01kb (fix): failed\n  branch   claudine/01kb from main, 1 file not committed, 2 commits not merged\n{path}"
            )
        );
        (worktree.dirty, worktree.unmerged, worktree.ignored) = (Some(0), Some(0), Some(3));
        assert!(describe(&worktree).contains("from main, 3 ignored by git\n"));
        (worktree.branch, worktree.base) = (None, None);
        worktree.error = Some("cannot read it".to_owned());
        assert_eq!(
            describe(&worktree),
            format!("01kb (fix): failed\n  error    cannot read it\n{path}")
        );
    }
}

//! `claudine worktree resolve`

use std::{path::Path, process::ExitCode};

use clap::Args;
use claudine_domain::worktree::MergeStrategy;

use super::{
    failure::Failure, inside, merged::merged_text, output, parse, session::Session,
    terminal::harmless, watch::with_git_note,
};
use crate::{
    app::{AppError, ErrorKind, ResolveStep, ResolveWorktree, UnresolvedFile, WorktreeResolved},
    text::{shell_word, short_id},
};

/// Limit of the unresolved files that are named.
const NAMED: usize = 20;

/// Resolve a merge conflict in the worktree of a finished task.
///
/// Merges the base into the branch of the task and opens your shell with the merge in progress:
/// edit the files and exit. A file is resolved once you have removed its conflict markers; for a
/// file that had none, such as a binary or removed file, use `git add` or `git rm`. If all files
/// are resolved, the merge is committed, the branch is merged, and the task succeeds. Otherwise the
/// merge stays open: repeat the command to continue, or use --abort.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  claudine worktree resolve fix-tests
  claudine worktree resolve fix-tests --edit
  claudine worktree resolve x7tqrp --abort")]
pub(super) struct Resolve {
    /// Id, end of an id, or name.
    #[arg(value_name = "ID")]
    task: String,
    /// Open the conflicting files in $VISUAL or $EDITOR instead.
    #[arg(long)]
    edit: bool,
    /// Abort a merge in progress.
    #[arg(long, conflicts_with = "edit")]
    abort: bool,
    /// Merge strategy: pr, auto, patch or manual [default: that of the task].
    #[arg(long, value_name = "HOW", value_parser = parse::merge_strategy)]
    merge: Option<MergeStrategy>,
}

impl Resolve {
    pub(super) async fn run(self, session: &Session) -> Result<ExitCode, Failure> {
        if self.abort {
            let aborted = self.ask(session, ResolveStep::Abort).await?;
            return tell(session, &aborted);
        }
        let begun = self.ask(session, ResolveStep::Begin).await?;
        let has_person = inside::has_person();
        let Some(path) = begun.path.as_deref().filter(|_| has_person) else {
            if self.edit && begun.path.is_some() && !session.json {
                output::say("the editor was not opened, because it needs a terminal");
            }
            return tell(session, &begun);
        };
        let dir = Path::new(path);
        if self.edit {
            let files = begun.unresolved.iter().map(|it| it.file.clone());
            let files: Vec<String> = files.collect();
            inside::editor(dir, &files).await?;
        } else {
            output::say(&format!("unresolved files in {path}:"));
            say_files(&begun.unresolved);
            output::say("edit them, then leave the shell with `exit`");
            inside::shell(dir).await?;
        }
        let ended = self.ask(session, ResolveStep::End).await?;
        tell(session, &ended)
    }

    async fn ask(&self, session: &Session, step: ResolveStep) -> Result<WorktreeResolved, Failure> {
        let asked = ResolveWorktree {
            step,
            merge: self.merge,
        };
        let client = session.client();
        Ok(with_git_note(client, client.resolve_worktree(&self.task, asked)).await?)
    }
}

/// Reports the result; unresolved files are an error.
fn tell(session: &Session, resolved: &WorktreeResolved) -> Result<ExitCode, Failure> {
    if session.json {
        output::json(resolved)?;
    } else if let Some(merged) = &resolved.merged {
        output::text(&merged_text(merged))?;
    } else if resolved.aborted {
        let kept = resolved.kept.as_ref().map_or(String::new(), |kept| {
            format!("; what was changed in the merge is kept: `git log -p {kept}` shows it")
        });
        output::line(&format!("aborted: the branch is unchanged{kept}"))?;
    } else if resolved.path.is_none() {
        output::line("resolved on the branch")?;
    }
    let Some(path) = &resolved.path else {
        return Ok(ExitCode::SUCCESS);
    };
    if !session.json {
        say_files(&resolved.unresolved);
    }
    let id = short_id(&resolved.task);
    let left = resolved.unresolved.len();
    let files = if left == 1 { "1 file is" } else { "files are" };
    let count = if left == 1 {
        String::new()
    } else {
        format!("{left} ")
    };
    let message = format!("{count}{files} not resolved; the merge stays open");
    let hint = format!(
        "`cd {}` and resolve them, then `claudine worktree resolve {id}` again; --abort aborts the merge",
        shell_word(path)
    );
    Err(AppError::new(ErrorKind::Conflict, message)
        .hint(hint)
        .into())
}

fn say_files(files: &[UnresolvedFile]) {
    for UnresolvedFile { file, why } in files.iter().take(NAMED) {
        output::say(&format!("  {} {why}", harmless(file)));
    }
    if files.len() > NAMED {
        output::say(&format!("  and {} more", files.len() - NAMED));
    }
}

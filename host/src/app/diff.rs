//! What a task in a worktree has changed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    error::{AppError, ErrorKind},
    host::Host,
    request::TaskRef,
};
use crate::{
    git::{Shape, Wanted},
    text::harmless_lines,
    worktree::Changed,
};

/// How wide a list of files is at least, and at most.
const COLUMNS: std::ops::RangeInclusive<u16> = 40..=500;
const COLUMNS_DEFAULT: u16 = 80;

/// In which shape.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DiffQuery {
    /// Only the files, each with how much of it is changed.
    #[serde(default)]
    pub(crate) stat: bool,
    /// How wide the list of files is; 80 where it is not given.
    #[serde(default)]
    pub(crate) columns: Option<u16>,
    /// Only this file or directory, from the top of the checkout.
    #[serde(default)]
    pub(crate) path: Option<String>,
}

/// What a task has changed, as git shows it. No hook, external program or converter of the
/// repository is run for it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct DiffView {
    pub(crate) task: String,
    pub(crate) branch: String,
    /// The commit at which its work begins.
    pub(crate) from: String,
    /// The commit at which it ends; absent if it goes to the files in the worktree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) to: Option<String>,
    /// Lines without control characters.
    pub(crate) text: String,
    /// The end is missing: a diff has at most 4 MiB.
    pub(crate) truncated: bool,
}

impl Host {
    pub(crate) async fn diff(
        &self,
        reference: &TaskRef,
        query: DiffQuery,
    ) -> Result<DiffView, AppError> {
        let id = self.resolve(reference).await?;
        let task = self.read(move |reader| Ok(reader.store.task(id)?)).await?;
        if let Some(task) = task.as_ref().filter(|it| it.request.worktree.is_none()) {
            let message = format!("task {id} has no worktree of its own");
            return Err(AppError::new(ErrorKind::Conflict, message).hint(format!(
                "`git diff` in {} shows what is changed there, by whomever",
                task.request.cwd
            )));
        }
        let columns = query.columns.unwrap_or(COLUMNS_DEFAULT);
        let shape = if query.stat {
            Shape::Stat(columns.clamp(*COLUMNS.start(), *COLUMNS.end()))
        } else {
            Shape::Patch
        };
        let wanted = Wanted {
            shape,
            path: query.path.as_deref(),
        };
        let variables = self.variables_of(task.as_ref()).await?;
        let looking = self.worktrees.diff(id, task.as_ref(), wanted, variables);
        let Changed {
            branch,
            from,
            to,
            diff,
        } = self.supervised(looking).await?;
        Ok(DiffView {
            task: id.to_string(),
            branch,
            from,
            to,
            text: harmless_lines(&diff.text),
            truncated: diff.is_cut,
        })
    }
}

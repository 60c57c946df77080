//! The changes of a task in a worktree.

use std::path::{Component, Path};

use claudine_domain::principal::Principal;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    check::PATH_SHOWN_CHARS,
    error::{AppError, ErrorKind},
    host::Host,
    request::TaskRef,
};
use crate::{
    git::{Restraint, Shape, Wanted},
    text::{harmless_lines, shortened},
    worktree::Changed,
};

/// Width limits of the list of files.
const COLUMNS: std::ops::RangeInclusive<u16> = 40..=500;
const COLUMNS_DEFAULT: u16 = 80;

/// Form of a diff.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DiffQuery {
    /// Whether to show only a summary of each file.
    #[serde(default)]
    pub(crate) stat: bool,
    /// Width of the list of files; 80 by default.
    #[serde(default)]
    pub(crate) columns: Option<u16>,
    /// Shows only this file or directory, relative to the top of the worktree.
    #[serde(default)]
    pub(crate) path: Option<String>,
}

/// The changes of a task, as shown by git. No hooks, external programs or filters of the repository
/// are run.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct DiffView {
    pub(crate) task: String,
    pub(crate) branch: String,
    /// Commit at which the changes start.
    pub(crate) from: String,
    /// Commit at which the changes end; absent if uncommitted changes are included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) to: Option<String>,
    /// Lines without control characters.
    pub(crate) text: String,
    /// Whether the end was cut off at 4 MiB.
    pub(crate) truncated: bool,
}

impl Host {
    pub(crate) async fn diff(
        &self,
        by: &Principal,
        reference: &TaskRef,
        query: DiffQuery,
    ) -> Result<DiffView, AppError> {
        if let Some(path) = &query.path {
            is_inside(path)?;
        }
        let id = self.resolve(reference).await?;
        let task = self.read(move |reader| Ok(reader.store.task(id)?)).await?;
        if let Some(task) = task.as_ref().filter(|it| it.request.worktree.is_none()) {
            let message = format!("task {id:#} has no worktree");
            return Err(AppError::new(ErrorKind::Conflict, message).hint(format!(
                "`git diff` in {} shows all changes there, whoever made them",
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
        let shown_to = Restraint::of_request_by(by);
        let looking = self
            .worktrees
            .diff(id, task.as_ref(), wanted, shown_to, variables);
        let Changed {
            branch,
            from,
            to,
            diff,
        } = self.supervised_for(by, looking).await?;
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

/// Refuses a path that names nothing in a worktree. For git, such a path merely has no changes.
fn is_inside(path: &str) -> Result<(), AppError> {
    let invalid = |message: String| Err(AppError::new(ErrorKind::Invalid, message));
    if path.contains('\0') {
        return invalid("the path has a NUL byte".to_owned());
    }
    let mut depth = 0_i64;
    for component in Path::new(path).components() {
        depth += match component {
            Component::Normal(_) => 1,
            Component::CurDir => 0,
            Component::ParentDir => -1,
            Component::Prefix(_) | Component::RootDir => i64::MIN / 2,
        };
        if depth < 0 {
            let shown = shortened(path, PATH_SHOWN_CHARS);
            return invalid(format!(
                "the path {} is outside of the worktree; name it from the top of the worktree",
                shown.escape_debug()
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_outside_of_the_worktree_is_refused() {
        for path in [
            "file",
            "sub/file",
            "./sub",
            "sub/../file",
            "",
            "größe",
            "..file",
        ] {
            assert_eq!(is_inside(path), Ok(()), "{path}");
        }
        for path in ["/etc/passwd", "..", "../file", "sub/../../file", "a\0b"] {
            assert!(is_inside(path).is_err(), "{path:?}");
        }
    }
}

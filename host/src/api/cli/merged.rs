//! What came of a merge that somebody asked for.

use claudine_domain::worktree::Merge;

use crate::{app::WorktreeMerged, text::short_id};

/// Lines, each with its end.
pub(super) fn merged_text(merged: &WorktreeMerged) -> String {
    let Merge { state, detail, .. } = &merged.merge;
    let line = format!("{}: {detail}", state.as_str());
    let revived = match merged.downstream {
        0 => String::new(),
        1 => "; 1 task that waited for it runs now".to_owned(),
        count => format!("; {count} tasks that waited for it run now"),
    };
    match merged.attempt {
        Some(_) => {
            let id = short_id(&merged.task);
            format!("{line}\n{id} has succeeded{revived}\n")
        }
        None => line + "\n",
    }
}

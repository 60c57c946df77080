//! Shows the result of a merge made by request.

use super::status::merge_line;
use crate::{app::WorktreeMerged, text::short_id};

/// Lines of text, each ending in a newline.
pub(super) fn merged_text(merged: &WorktreeMerged) -> String {
    let line = merge_line(&merged.merge);
    let revived = match merged.downstream {
        0 => String::new(),
        1 => "; revived 1 dependant".to_owned(),
        count => format!("; revived {count} dependants"),
    };
    match merged.attempt {
        Some(_) => {
            let id = short_id(&merged.task);
            format!("{line}\n{id} has succeeded{revived}\n")
        }
        None => line + "\n",
    }
}

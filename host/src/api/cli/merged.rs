//! Shows the result of a merge that a command asked for.

use super::status::merge_line;
use crate::{app::WorktreeMerged, text::short_id};

/// The result as lines of text, each ending in a newline.
pub(super) fn merged_text(merged: &WorktreeMerged) -> String {
    let line = merge_line(&merged.merge);
    let revived = match merged.downstream {
        0 => String::new(),
        1 => "; 1 dependant can run again".to_owned(),
        count => format!("; {count} dependants can run again"),
    };
    match merged.attempt {
        Some(_) => {
            let id = short_id(&merged.task);
            format!("{line}\n{id} has succeeded{revived}\n")
        }
        None => line + "\n",
    }
}

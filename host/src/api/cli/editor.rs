//! The editor of whoever types.

use std::{path::Path, process::Command};

use super::failure::Failure;
use crate::config::process_environment;

/// Has a file edited, and returns once the editor has ended well.
pub(super) fn edit(path: &Path) -> Result<(), Failure> {
    let editor = ["VISUAL", "EDITOR"]
        .into_iter()
        .find_map(process_environment);
    let editor = editor.unwrap_or_else(|| "vi".to_owned());
    // As git and others do: it may have options.
    let words = shlex::split(&editor).unwrap_or_default();
    let Some((program, options)) = words.split_first() else {
        return Err(Failure::Usage(format!("invalid editor `{editor}`")));
    };
    let edited = Command::new(program).args(options).arg(path).status();
    let edited = edited
        .map_err(|error| Failure::Usage(format!("cannot run the editor `{editor}`: {error}")))?;
    if !edited.success() {
        return Err(Failure::Usage(format!("the editor ended with {edited}")));
    }
    Ok(())
}

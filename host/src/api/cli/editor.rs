//! Opens the user's editor.

use std::{path::Path, process::Command};

use super::{failure::Failure, session::unfit};
use crate::config::{process_environment, text_of};

/// Opens a file in the editor and waits until the editor has exited successfully.
pub(super) fn edit(path: &Path) -> Result<(), Failure> {
    let of = |name| text_of(&process_environment, name).map_err(unfit);
    let editor = of("VISUAL")?.map_or_else(|| of("EDITOR"), |editor| Ok(Some(editor)))?;
    let editor = editor.unwrap_or_else(|| "vi".to_owned());
    // The variable may contain options after the program, as git allows too.
    let words = shlex::split(&editor).unwrap_or_default();
    let Some((program, options)) = words.split_first() else {
        return Err(Failure::Usage(format!(
            "the editor `{editor}` is not a valid command line; correct VISUAL or EDITOR"
        )));
    };
    let edited = Command::new(program).args(options).arg(path).status();
    let edited = edited.map_err(|error| {
        Failure::Usage(format!(
            "cannot run the editor `{editor}`: {error}; \
             set VISUAL or EDITOR to an editor that is installed"
        ))
    })?;
    if !edited.success() {
        return Err(Failure::Usage(format!(
            "the editor ended with {edited}, so nothing was changed"
        )));
    }
    Ok(())
}

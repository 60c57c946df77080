//! Shows long text in the user's pager, as git does.

use std::{
    ffi::OsString,
    io::{self, IsTerminal, Write},
    process::{Command, Stdio},
};

use super::{failure::Failure, inside, output, terminal::Painted};

/// Exit code of a shell that cannot find the program.
const NOT_FOUND: i32 = 127;

/// Shows text in a pager on a terminal. Without a terminal, or if the pager is `cat` or is not
/// found, writes the text directly. The pager is never taken from the configuration of a
/// repository.
pub(super) async fn show(text: &Painted) -> Result<(), Failure> {
    let pager = inside::variable(&["GIT_PAGER", "PAGER"]).unwrap_or_else(|| "less".into());
    if !io::stdout().is_terminal() || pager == "cat" || text.as_str().is_empty() {
        return output::painted(text);
    }
    let shown = output::as_shown(text.as_str()).into_owned();
    let ended = inside::wait_for(&pager, {
        let pager = pager.clone();
        move || start(pager, &shown)
    });
    if ended.await?.code() == Some(NOT_FOUND) {
        output::painted(text)?;
    }
    Ok(())
}

/// Starts the pager with the variables that git sets, so that short text stays on the screen and
/// colours are shown.
fn start(pager: OsString, text: &str) -> io::Result<std::process::Child> {
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(pager).stdin(Stdio::piped());
    for (name, value) in [("LESS", "FRX"), ("LV", "-c")] {
        if inside::variable(&[name]).is_none() {
            command.env(name, value);
        }
    }
    let mut child = command.spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        match stdin.write_all(text.as_bytes()) {
            // The user quit the pager before the end of the text.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            written => written?,
        }
    }
    Ok(child)
}

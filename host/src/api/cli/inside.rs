//! A program that a person works in for a while, on this terminal: a shell, an editor, a pager.

use std::{
    env,
    ffi::OsString,
    io::{self, IsTerminal},
    path::Path,
    process::{Child, Command, ExitStatus},
};

use tokio::signal::unix::{SignalKind, signal};

use super::failure::Failure;
use crate::app::{AppError, ErrorKind};

/// Whether somebody is there to work in anything.
pub(super) fn has_person() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}

/// The person's shell, in a directory.
pub(super) async fn shell(dir: &Path) -> Result<ExitStatus, Failure> {
    let shell = variable(&["SHELL"]).unwrap_or_else(|| "/bin/sh".into());
    let mut command = Command::new(&shell);
    command.current_dir(dir).env("PWD", dir);
    wait_for(&shell, move || command.spawn()).await
}

/// The person's editor, in a directory, with these files.
pub(super) async fn editor(dir: &Path, files: &[String]) -> Result<ExitStatus, Failure> {
    let editor = variable(&["VISUAL", "EDITOR"]).unwrap_or_else(|| "vi".into());
    // It may have arguments of its own. A file whose name begins with a dash is none of them.
    let mut script = editor.clone();
    script.push(" \"$@\"");
    let files = files.iter().map(|file| format!("./{file}"));
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(script).arg(&editor).args(files);
    command.current_dir(dir).env("PWD", dir);
    wait_for(&editor, move || command.spawn()).await
}

/// The first of these variables that is set.
pub(super) fn variable(names: &[&str]) -> Option<OsString> {
    let mut values = names.iter().filter_map(env::var_os);
    values.find(|value| !value.is_empty())
}

/// Waits until a program has ended. What is typed to interrupt it is meant for it alone.
pub(super) async fn wait_for(
    program: &OsString,
    start: impl FnOnce() -> io::Result<Child> + Send + 'static,
) -> Result<ExitStatus, Failure> {
    let cannot = |error: io::Error| {
        let message = format!("cannot run `{}`: {error}", program.display());
        Failure::from(AppError::new(ErrorKind::Unavailable, message))
    };
    // As long as they are listened to they do not end this process.
    let kept = [SignalKind::interrupt(), SignalKind::quit()].map(signal);
    let waited = tokio::task::spawn_blocking(move || start()?.wait()).await;
    drop(kept);
    waited
        .unwrap_or_else(|panic| Err(io::Error::other(panic)))
        .map_err(cannot)
}

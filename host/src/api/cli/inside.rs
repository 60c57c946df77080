//! Runs an interactive program on this terminal: a shell, an editor or a pager.

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

/// Whether a person can use an interactive program here.
pub(super) fn has_person() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}

/// Runs the user's shell in a directory.
pub(super) async fn shell(dir: &Path) -> Result<ExitStatus, Failure> {
    let shell = variable(&["SHELL"]).unwrap_or_else(|| "/bin/sh".into());
    let mut command = Command::new(&shell);
    command.current_dir(dir).env("PWD", dir);
    wait_for(&shell, move || command.spawn()).await
}

/// Opens files in the user's editor, with this working directory.
pub(super) async fn editor(dir: &Path, files: &[String]) -> Result<ExitStatus, Failure> {
    let editor = variable(&["VISUAL", "EDITOR"]).unwrap_or_else(|| "vi".into());
    // The variable may contain options. Each file begins with `./`, so that none is mistaken for an
    // option.
    let mut script = editor.clone();
    script.push(" \"$@\"");
    let files = files.iter().map(|file| format!("./{file}"));
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(script).arg(&editor).args(files);
    command.current_dir(dir).env("PWD", dir);
    wait_for(&editor, move || command.spawn()).await
}

/// The value of the first of these variables that is set and not empty.
pub(super) fn variable(names: &[&str]) -> Option<OsString> {
    let mut values = names.iter().filter_map(env::var_os);
    values.find(|value| !value.is_empty())
}

/// Starts a program and waits until it has exited. Meanwhile Ctrl-C does not end this process,
/// because the program handles it.
pub(super) async fn wait_for(
    program: &OsString,
    start: impl FnOnce() -> io::Result<Child> + Send + 'static,
) -> Result<ExitStatus, Failure> {
    let cannot = |error: io::Error| {
        let message = format!("cannot run `{}`: {error}", program.display());
        Failure::from(AppError::new(ErrorKind::Unavailable, message))
    };
    // While this process has handlers for these signals, the signals do not end it.
    let kept = [SignalKind::interrupt(), SignalKind::quit()].map(signal);
    let waited = crate::aside::run(move || start()?.wait()).await;
    drop(kept);
    waited
        .unwrap_or_else(|panic| Err(io::Error::other(panic)))
        .map_err(cannot)
}

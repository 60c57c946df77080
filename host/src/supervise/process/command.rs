//! Finds the command on the task's own `PATH`, and explains failed starts.
//!
//! `posix_spawn` returns only the error number of the step that failed in the child, not the step.
//! So the reason is looked up afterwards, and only if a start has failed.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{Access, AtFlags, CWD};

use crate::fsx;
use crate::proc_stat::is_out_of_room;
use crate::supervise::words::NotStartedClass;

/// The `PATH` to use if the environment has none.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// The most bytes of a reason. The reasons of all children of an attempt, which are 1,000 at most,
/// fit into one message of the protocol, even if they consist of characters that JSON writes with
/// six bytes.
const REASON_BYTES: usize = 2 << 10;

/// Why a child was not started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) class: NotStartedClass,
    pub(super) message: String,
}

impl Refusal {
    /// A refusal with this reason, which is cut at its end if it is too long.
    pub(super) fn new(class: NotStartedClass, message: impl Into<String>) -> Self {
        let mut message = message.into();
        message.truncate(message.floor_char_boundary(REASON_BYTES));
        Self { class, message }
    }
}

/// The path to execute: the command itself if it has a slash, else the first executable file of
/// that name on `PATH`.
pub(super) fn find(command: &str, path: Option<&[u8]>, cwd: &Path) -> Result<CString, Refusal> {
    let c_string = |bytes: &[u8]| {
        CString::new(bytes)
            .map_err(|_| Refusal::new(NotStartedClass::Invalid, "the command holds a NUL byte"))
    };
    if command.is_empty() {
        return Err(Refusal::new(
            NotStartedClass::Invalid,
            "the command is empty",
        ));
    }
    if command.contains('/') {
        return c_string(command.as_bytes());
    }
    let path = path.unwrap_or(DEFAULT_PATH.as_bytes());
    let mut not_executable = None;
    for folder in path.split(|byte| *byte == b':') {
        // An empty entry means the working directory, as in a shell.
        let candidate = cwd.join(std::ffi::OsStr::from_bytes(folder)).join(command);
        let access = rustix::fs::accessat(CWD, &candidate, Access::EXEC_OK, AtFlags::EACCESS);
        if matches!(access, Ok(()) | Err(rustix::io::Errno::ACCESS)) && candidate.is_file() {
            if access.is_ok() {
                return c_string(candidate.as_os_str().as_bytes());
            }
            not_executable = Some(candidate);
        }
    }
    check_cwd(cwd)?;
    Err(if let Some(file) = not_executable {
        not_executable_refusal(&file, "no permission to execute it")
    } else {
        let path = String::from_utf8_lossy(path);
        let message = format!("command not found: `{command}` (PATH is {path})");
        Refusal::new(NotStartedClass::CommandNotFound, message)
    })
}

/// Explains why `posix_spawn` returned `error`. `command` is relative to `cwd` or absolute.
pub(super) fn explain(
    error: &io::Error,
    command: &CString,
    cwd: &Path,
    argument_bytes: usize,
) -> Refusal {
    match error.raw_os_error() {
        Some(libc::E2BIG) => {
            let message = format!(
                "arguments and environment are too long ({argument_bytes} bytes; the limit of a single argument is 128 KiB)"
            );
            return Refusal::new(NotStartedClass::Invalid, message);
        }
        _ if is_out_of_room(error) => {
            return Refusal::new(
                NotStartedClass::Resource,
                format!("the machine has no room for a process: {error}"),
            );
        }
        _ => {}
    }
    if let Err(refusal) = check_cwd(cwd) {
        return refusal;
    }
    let file = cwd.join(std::ffi::OsStr::from_bytes(command.as_bytes()));
    explain_file(error, &file)
}

fn explain_file(error: &io::Error, file: &Path) -> Refusal {
    let not_found = |message: String| Refusal::new(NotStartedClass::CommandNotFound, message);
    let about = match fs::metadata(file) {
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => {
            return not_found(format!(
                "command not found: {} does not exist",
                file.display()
            ));
        }
        Err(missing) if missing.raw_os_error() == Some(libc::ENOTDIR) => {
            return not_found(format!(
                "command not found: a part of {} is not a directory",
                file.display()
            ));
        }
        Err(other) => return not_executable_refusal(file, &other.to_string()),
        Ok(about) => about,
    };
    match error.raw_os_error() {
        _ if about.is_dir() => not_executable_refusal(file, "it is a directory"),
        Some(libc::ENOEXEC) => {
            not_executable_refusal(file, "it is not a program and does not begin with `#!`")
        }
        Some(libc::EACCES) => not_executable_refusal(file, "no permission to execute it"),
        Some(libc::ENOENT) => match interpreter(file) {
            Some(interpreter) if interpreter.ends_with('\r') => not_executable_refusal(
                file,
                &format!(
                    "its interpreter `{}` does not exist: its lines end in \\r\\n, as on Windows; `sed -i 's/\\r$//'` fixes that",
                    interpreter.escape_debug()
                ),
            ),
            Some(interpreter) => not_executable_refusal(
                file,
                &format!("its interpreter {interpreter} does not exist"),
            ),
            None => not_executable_refusal(file, "the loader it needs does not exist"),
        },
        _ => not_executable_refusal(file, &error.to_string()),
    }
}

fn not_executable_refusal(file: &Path, why: &str) -> Refusal {
    Refusal::new(
        NotStartedClass::NotExecutable,
        format!("cannot execute {}: {why}", file.display()),
    )
}

/// The interpreter in a script's first line, as the kernel reads it: up to a space, a tab or the
/// line's end.
fn interpreter(script: &Path) -> Option<String> {
    use std::io::Read;
    let mut start = [0; 256];
    let length = fsx::open(script).ok()?.read(&mut start).ok()?;
    let line = start[..length]
        .strip_prefix(b"#!")?
        .split(|byte| *byte == b'\n')
        .next()?;
    let text = String::from_utf8_lossy(line);
    let mut words = text.split([' ', '\t']).filter(|word| !word.is_empty());
    words.next().map(str::to_owned)
}

fn check_cwd(cwd: &Path) -> Result<(), Refusal> {
    let refuse = |message: String| Err(Refusal::new(NotStartedClass::Cwd, message));
    match fs::metadata(cwd) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => refuse(format!(
            "the working directory {} does not exist",
            cwd.display()
        )),
        Err(error) => refuse(format!(
            "the working directory {} cannot be used: {error}",
            cwd.display()
        )),
        Ok(about) if !about.is_dir() => refuse(format!(
            "the working directory {} is not a directory",
            cwd.display()
        )),
        Ok(_) => match rustix::fs::accessat(CWD, cwd, Access::EXEC_OK, AtFlags::EACCESS) {
            Ok(()) => Ok(()),
            Err(error) => refuse(format!(
                "the working directory {} cannot be entered: {error}",
                cwd.display()
            )),
        },
    }
}

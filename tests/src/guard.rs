//! Kills the processes that a killed test leaves behind. If a test is killed at its time limit or
//! for lack of memory, its destructors do not run, and its hosts and their tasks would live on.

use std::{
    ffi::OsStr,
    fs,
    io::{self, Read, Write},
    os::unix::{ffi::OsStrExt, process::CommandExt},
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
};

use crate::{
    process,
    wait::{PATIENCE, wait_at_most},
};

/// The byte that a test sends after the directory's path when it ends without being killed.
const ENDED: u8 = b'\n';

/// A process that outlives the test. It notices that the test has ended when its input ends.
pub(crate) struct Guard {
    process: Child,
    input: Option<ChildStdin>,
}

impl Guard {
    /// Starts the guard. The guard reads the directory from its input, because a process with the
    /// directory among its arguments counts as a process of the host.
    pub(crate) fn start(program: &Path, data_dir: &Path) -> io::Result<Self> {
        let mut process = Command::new(program)
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // The guard has its own process group, because a test is killed with its whole group.
            .process_group(0)
            .current_dir("/")
            .spawn()?;
        let mut input = process.stdin.take();
        if let Some(input) = &mut input {
            input.write_all(data_dir.as_os_str().as_bytes())?;
        }
        Ok(Self { process, input })
    }

    /// Reports the test's end to the guard, which then exits without killing anything.
    pub(crate) fn end(&mut self) -> io::Result<()> {
        if let Some(mut input) = self.input.take() {
            input.write_all(&[ENDED])?;
        }
        self.process.wait().map(|_| ())
    }
}

/// Main function of the guard's process.
pub fn main() -> io::Result<()> {
    let mut told = Vec::new();
    io::stdin().read_to_end(&mut told)?;
    if told.is_empty() || told.ends_with(&[ENDED]) {
        return Ok(());
    }
    let data_dir = Path::new(OsStr::from_bytes(&told));
    let gone = wait_at_most(PATIENCE, || {
        let left = process::of_data_dir(data_dir);
        for found in &left {
            process::kill_9(found.pid);
        }
        left.is_empty().then_some(())
    });
    gone.ok_or_else(|| io::Error::other("not all processes of the test could be ended"))?;
    match fs::remove_dir_all(data_dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

//! Processes as `/proc` shows them: which are alive, and which refer to a host's data directory in
//! their environment or arguments.

use std::{fs, path::Path};

use rustix::process::{Pid, Signal, kill_process};

use crate::wait::wait_for;

/// A process that refers to the data directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    pub pid: u32,
    pub command: String,
}

/// Whether the process exists and is not just a zombie. A process whose main thread has ended
/// counts as alive if it has other threads, which may hold its files open.
pub fn alive(pid: u32) -> bool {
    let threads = || fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
    state(pid).is_some_and(|state| state != 'X' && (state != 'Z' || threads() > 1))
}

/// The letter of the process's state in `/proc/PID/stat`. It follows the command's name, which may
/// contain parentheses and blanks, so the search begins after the last closing parenthesis.
pub fn state(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

/// Start of the process in ticks since boot. Together with the pid, it identifies the process.
pub fn started(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?
        .1
        .split_whitespace()
        .nth(19)?
        .parse()
        .ok()
}

/// Sends `SIGKILL` to one process. Does nothing if the process is already gone.
pub fn kill_9(pid: u32) {
    signal(pid, Signal::KILL);
}

/// Suspends a process, and returns once it has stopped: on a busy machine, it stops some time after
/// the signal.
pub fn suspend(pid: u32) {
    signal(pid, Signal::STOP);
    wait_for("the process to stop", || {
        (state(pid) == Some('T')).then_some(())
    });
}

/// Sends a signal to one process. Does nothing if the process is already gone.
pub fn signal(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .expect("a process id");
    match kill_process(pid, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => {}
        Err(error) => panic!("cannot signal process {pid:?}: {error}"),
    }
}

/// Every living process except this one that has `CLAUDINE_DATA_DIR=<dir>` in its environment or
/// the directory in its arguments.
pub fn of_data_dir(dir: &Path) -> Vec<Found> {
    let dir = dir.to_str().expect("test directories are UTF-8");
    let variable = format!("CLAUDINE_DATA_DIR={dir}");
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").expect("/proc is there").flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<u32>().ok())
        else {
            continue;
        };
        if pid == std::process::id() {
            continue;
        }
        // These files cannot be read if the process has ended or belongs to another user. In both
        // cases the process does not belong to the test.
        let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
        let arguments = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let environment = String::from_utf8_lossy(&environment);
        let arguments = String::from_utf8_lossy(&arguments);
        // Most processes are excluded by a search for the directory, which is fast.
        let carries =
            environment.contains(dir) && environment.split('\0').any(|piece| piece == variable);
        if (carries || arguments.contains(dir)) && alive(pid) {
            let command = arguments.replace('\0', " ").trim_end().to_owned();
            found.push(Found { pid, command });
        }
    }
    found
}

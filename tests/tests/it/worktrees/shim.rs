//! A git that waits at a given command, so that a test can do something at that moment.

use std::{
    fs,
    path::PathBuf,
    process::{Child, Stdio},
};

use claudine_tests::{HostBuilder, TestHost, wait_for};
use tempfile::TempDir;

use super::{Repository, path_with, program, programs, write_script};

/// A script that runs in place of the host's git, and calls git. While a file `hold` with a number
/// exists beside the script, commands are counted. The command with that number is written to
/// `reached` and waits for `go`. If `fail` exists then, the command fails. If a file `only` exists,
/// only commands that match its pattern count.
pub(super) const SHIM: &str = r#"#!/bin/sh
here=${0%/*}
if test -e "$here/hold" && { ! test -e "$here/only" || echo "$*" | grep -qE -f "$here/only"; }; then
    echo x >> "$here/count"
    count=0; while read -r _; do count=$((count + 1)); done < "$here/count"
    read -r hold < "$here/hold"
    if test "$count" -eq "$hold"; then
        echo "$*" > "$here/reached.new" && mv "$here/reached.new" "$here/reached"
        until test -e "$here/go"; do sleep 0.05; done
        if test -e "$here/fail"; then exit 1; fi
    fi
fi
exec REAL_GIT "$@"
"#;

/// A repository whose host uses the shim as its git.
pub(super) struct Shimmed {
    pub(super) repository: Repository,
    dir: TempDir,
}

impl Shimmed {
    pub(super) fn new() -> Self {
        Self::with(TestHost::builder())
    }

    pub(super) fn with(builder: HostBuilder) -> Self {
        let dir = programs(&[]);
        let shim = SHIM.replace("REAL_GIT", program("git").to_str().unwrap());
        write_script(&dir.path().join("git"), &shim);
        let builder = builder.env("PATH", path_with(dir.path()));
        Self {
            repository: Repository::with(builder),
            dir,
        }
    }

    /// Path of a file beside the shim.
    pub(super) fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Counts only the commands that match this pattern.
    pub(super) fn count_only(&self, pattern: &str) {
        fs::write(self.at("only"), pattern).unwrap();
    }

    pub(super) fn hold_at(&self, number: usize) {
        fs::write(self.at("hold"), format!("{number}\n")).unwrap();
    }

    pub(super) fn reached(&self) -> Option<String> {
        fs::read_to_string(self.at("reached")).ok()
    }

    /// The command that is held; `None` if the task has ended before that command.
    pub(super) fn reached_or_done(&self, id: &str) -> Option<String> {
        wait_for("the held command, or the task's end", || {
            let reached = self.reached();
            let is_done = self.repository.host.status(id)["state"] == "done";
            (reached.is_some() || is_done).then_some(reached)
        })
    }

    pub(super) fn go(&self) {
        fs::write(self.at("go"), "").unwrap();
    }

    /// Starts a `claudine` command, and makes the first git that the host runs for this command
    /// wait. Returns the command and the pid of that git.
    pub(super) fn stopped_at_git(&self, arguments: &[&str]) -> (Child, u32) {
        self.hold_at(1);
        let mut client = self.repository.host.command(arguments);
        let client = client.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        wait_for("git", || self.reached());
        let shim = self.at("git");
        let alive = self.repository.host.processes();
        let git = alive
            .iter()
            .find(|found| found.command.contains(shim.to_str().unwrap()));
        (client.unwrap(), git.unwrap().pid)
    }

    pub(super) fn reset(&self) {
        for name in ["hold", "count", "reached", "go"] {
            // An error is ignored, because not every file exists in each round.
            fs::remove_file(self.at(name)).ok();
        }
    }
}

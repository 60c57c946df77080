//! A host in a temporary directory, for demonstrations and measurements. Dropping it stops the host
//! and all its tasks.

use std::{
    ffi::{OsStr, OsString},
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::{http::Connection, program};

pub(crate) struct Trial {
    root: TempDir,
    binary: PathBuf,
    variables: Vec<(OsString, OsString)>,
}

impl Trial {
    /// Makes a trial with the caller's environment, its own data directory, and these additional
    /// variables.
    pub(crate) fn new(binary: &Path, variables: &[(&str, &str)]) -> Result<Self> {
        let root = tempfile::Builder::new()
            .prefix("claudine-")
            .tempdir()
            .context("cannot make a temporary directory")?;
        fs::create_dir(root.path().join("work"))?;
        let variables = variables
            .iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect();
        Ok(Self {
            root,
            binary: binary.to_owned(),
            variables,
        })
    }

    pub(crate) fn root(&self) -> &Path {
        self.root.path()
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.root().join("data")
    }

    /// Working directory of the trial's tasks.
    pub(crate) fn work(&self) -> PathBuf {
        self.root().join("work")
    }

    /// A `claudine` command for this host.
    pub(crate) fn command<A: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = A>,
    ) -> Command {
        let mut command = program::command(&self.binary, arguments);
        command
            .env("CLAUDINE_DATA_DIR", self.data_dir())
            .envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.current_dir(self.work());
        command
    }

    /// Runs a command that must succeed; returns its standard output.
    pub(crate) fn output<A: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<String> {
        Ok(program::output(&mut self.command(arguments))?
            .trim_end()
            .to_owned())
    }

    /// Runs a command that answers in JSON; returns the answer.
    pub(crate) fn json<A: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<Value> {
        let text = self.output(arguments)?;
        serde_json::from_str(&text).with_context(|| format!("the answer is not JSON: {text}"))
    }

    /// Starts the host if it does not run yet, and connects to it.
    pub(crate) fn connect(&self) -> Result<Connection> {
        let up = self.json(["up", "--json"])?;
        let url = up["url"].as_str().context("`up --json` names no url")?;
        Connection::open(Path::new(
            url.strip_prefix("unix:")
                .context("the url is no Unix socket")?,
        ))
    }

    /// Pid of the host.
    pub(crate) fn host_pid(&self) -> Result<u32> {
        let file = self.data_dir().join("host.json");
        let text = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let host: Value = serde_json::from_slice(&text)?;
        host["pid"]
            .as_u64()
            .and_then(|pid| u32::try_from(pid).ok())
            .context("host.json names no pid")
    }

    /// Pids of the host's supervisors.
    pub(crate) fn supervisor_pids(&self) -> Result<Vec<u32>> {
        let (status, info) = self.connect()?.ask("GET", "/v1/host", None)?;
        ensure!(status == 200, "the host answers {status}: {info}");
        let pids = info["supervisors"]
            .as_array()
            .context("the host names no supervisors")?;
        Ok(pids
            .iter()
            .filter_map(|pid| u32::try_from(pid.as_u64()?).ok())
            .collect())
    }

    /// Kills the host with `kill -9`.
    pub(crate) fn kill_host(&self) -> Result<u32> {
        let pid = self.host_pid()?;
        kill(pid)?;
        until("the end of the killed host", || (!alive(pid)).then_some(()))?;
        Ok(pid)
    }

    /// All living processes with the data directory in their environment or arguments.
    pub(crate) fn processes(&self) -> Vec<u32> {
        let dir = self.data_dir();
        let dir = dir.as_os_str().as_encoded_bytes();
        let carries = |pid: u32| {
            let has = |file: &str| {
                let bytes = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
                bytes.windows(dir.len()).any(|window| window == dir)
            };
            has("environ") || has("cmdline")
        };
        let Ok(entries) = fs::read_dir("/proc") else {
            return Vec::new();
        };
        let pids = entries
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        pids.filter(|pid| *pid != std::process::id() && alive(*pid) && carries(*pid))
            .collect()
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        let mut down = self.command(["down", "--kill"]);
        down.stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if let Err(error) = down.status() {
            eprintln!("cannot stop the host: {error}");
        }
        if until("the end of all processes", || {
            self.processes().is_empty().then_some(())
        })
        .is_err()
        {
            for pid in self.processes() {
                eprintln!("killing process {pid}, which was left behind");
                if let Err(error) = kill(pid) {
                    eprintln!("{error:#}");
                }
            }
        }
    }
}

/// Calls `look` until it returns something, for at most a minute.
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> Result<T> {
    let deadline = Instant::now() + Duration::from_mins(1);
    loop {
        if let Some(seen) = look() {
            return Ok(seen);
        }
        if Instant::now() > deadline {
            bail!("waited a minute for {what}");
        }
        thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) fn alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')')
        .is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}

pub(crate) fn kill(pid: u32) -> Result<()> {
    use rustix::process::{Pid, Signal, kill_process};
    let pid = i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .context("no process id")?;
    match kill_process(pid, Signal::KILL) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(error).context("cannot kill a process"),
    }
}

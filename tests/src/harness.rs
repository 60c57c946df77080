//! A separate host for each test. The host's data directory, home and configuration are in a
//! temporary directory, the host gets only `PATH` of the developer's environment, and when the test
//! ends, none of the host's processes may be left alive.
//!
//! The harness drives the binary as a user does; only states are asked for at the host's socket. Of
//! the host's files it reads only those that name pids and, if a test fails, the log.

use std::{
    collections::BTreeMap,
    env,
    ffi::{OsStr, OsString},
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    command::{self, Ran},
    compiled,
    guard::Guard,
    process, socket,
    wait::{PATIENCE, wait_at_most, wait_for},
};

/// The binary under test: `CLAUDINE_BIN`, which `cargo xtask test` sets, else the debug build of
/// this workspace.
pub fn binary() -> PathBuf {
    let path = env::var_os("CLAUDINE_BIN")
        .map_or_else(|| target_dir().join("debug/claudine"), PathBuf::from);
    assert!(
        path.is_file(),
        "there is no {}: build it with `cargo xtask build --debug`, or name a binary in CLAUDINE_BIN",
        path.display()
    );
    path
}

/// Build directory of this workspace: the test binary itself is in `<target>/<profile>/deps`.
fn target_dir() -> PathBuf {
    let this = env::current_exe().expect("a test knows its own path");
    this.ancestors()
        .nth(3)
        .expect("test binaries are in <target>/<profile>/deps")
        .to_owned()
}

/// Path of the program that kills the processes that a killed test leaves behind.
pub fn guard() -> PathBuf {
    target_dir().join("debug/test-guard")
}

/// Path of a program that `cargo xtask test` installs, from the variable that it sets.
#[track_caller]
pub fn tool(variable: &str) -> PathBuf {
    let path = env::var_os(variable).map(PathBuf::from);
    let path = path.unwrap_or_else(|| {
        panic!(
            "{variable} is not set: `cargo xtask test` sets it, or `eval \"$(cargo xtask setup)\"`"
        )
    });
    assert!(path.is_file(), "{variable}: there is no {}", path.display());
    path
}

/// Directory in which tests share compiled plugins.
fn compiled_plugins() -> PathBuf {
    target_dir().join("compiled-plugins")
}

/// Settings of a host to start.
pub struct HostBuilder {
    variables: BTreeMap<OsString, OsString>,
    config: Option<String>,
    data_dir: Option<PathBuf>,
    from_nothing: bool,
}

impl HostBuilder {
    /// Sets a variable for every command of this host, and so for the host that the first of these
    /// commands starts.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.variables
            .insert(name.as_ref().to_owned(), value.as_ref().to_owned());
        self
    }

    /// Sets the number of slots, which is four by default.
    #[must_use]
    pub fn slots(self, slots: usize) -> Self {
        self.env("CLAUDINE_SLOTS", slots.to_string())
    }

    /// Sets the text of `config.toml`.
    #[must_use]
    pub fn config(mut self, toml: impl Into<String>) -> Self {
        self.config = Some(toml.into());
        self
    }

    /// Sets a data directory outside the test's temporary directory.
    #[must_use]
    pub fn data_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.data_dir = Some(dir.into());
        self
    }

    /// Starts without a data directory. By default, the host gets a data directory that contains
    /// the compiled built-in plugins.
    #[must_use]
    pub fn from_nothing(mut self) -> Self {
        self.from_nothing = true;
        self
    }

    /// Creates the directories. The first command that needs a host starts it.
    #[must_use]
    pub fn build(self) -> TestHost {
        // The path is short, because the path of a Unix socket is limited to 108 bytes.
        let root = tempfile::Builder::new()
            .prefix("cdn-")
            .tempdir()
            .expect("a temporary directory");
        let data_dir = self.data_dir.unwrap_or_else(|| root.path().join("data"));
        let guard = Guard::start(&guard(), &data_dir).expect("the guard of a test");
        let host = TestHost {
            guard,
            data_dir,
            binary: binary(),
            variables: self.variables,
            root,
        };
        for dir in [
            host.home(),
            host.work(),
            host.config_dir().join("claudine"),
            host.root().join("run"),
        ] {
            fs::create_dir_all(dir).expect("a directory of the test's own");
        }
        fs::set_permissions(host.root().join("run"), fs::Permissions::from_mode(0o700))
            .expect("a directory of the test's own");
        if !self.from_nothing {
            let shared = compiled_plugins();
            // The first host that lists its plugins compiles them, which may take minutes.
            compiled::once(&shared, &host.binary, || {
                let host = TestHost::builder().from_nothing().build();
                command::run(host.command(["plugin", "list"]), b"", 4 * PATIENCE).check();
            })
            .and_then(|()| compiled::take_over(&shared, &host.data_dir))
            .expect("compiled code of the built-in plugins");
        }
        if let Some(config) = self.config {
            fs::write(host.config_dir().join("claudine/config.toml"), config)
                .expect("a file of the test's own");
        }
        host
    }
}

/// Short form of a task's id, as shown to people.
pub fn short_id(id: &str) -> &str {
    &id[id.len() - 6..]
}

/// The directories of a host, and functions that run commands of that host.
pub struct TestHost {
    guard: Guard,
    root: TempDir,
    data_dir: PathBuf,
    binary: PathBuf,
    variables: BTreeMap<OsString, OsString>,
}

impl Default for TestHost {
    fn default() -> Self {
        Self::new()
    }
}

impl TestHost {
    /// Makes a host with four slots.
    pub fn new() -> Self {
        Self::builder().build()
    }

    pub fn builder() -> HostBuilder {
        HostBuilder {
            variables: BTreeMap::new(),
            config: None,
            data_dir: None,
            from_nothing: false,
        }
        .slots(4)
    }

    pub fn root(&self) -> &Path {
        self.root.path()
    }

    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    pub fn home(&self) -> PathBuf {
        self.root().join("home")
    }

    /// Working directory of every command, and so of every task.
    pub fn work(&self) -> PathBuf {
        self.root().join("work")
    }

    pub fn config_dir(&self) -> PathBuf {
        self.root().join("config")
    }

    /// Sets a variable for later commands.
    pub fn set_env(&mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) {
        self.variables
            .insert(name.as_ref().to_owned(), value.as_ref().to_owned());
    }

    /// Makes later commands use another binary, as an upgrade does.
    pub fn use_binary(&mut self, path: PathBuf) {
        self.binary = path;
    }

    /// A `claudine` command with this host's environment and, besides that, only `PATH`.
    pub fn command<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Command {
        let mut command = self.other(&self.binary);
        command.args(arguments);
        command
    }

    /// A `claudine` command on a terminal of 80 columns, which `script` of util-linux provides.
    pub fn on_terminal(&self, arguments: &[&str]) -> Command {
        let program = self.binary.display().to_string();
        let words = [&*program].into_iter().chain(arguments.iter().copied());
        let words: Vec<String> = words.map(|word| format!("'{word}'")).collect();
        let mut terminal = self.other("script");
        terminal.args(["--quiet", "--return", "--command", &words.join(" ")]);
        terminal.arg("/dev/null").env("TERM", "xterm");
        terminal
    }

    /// A command for another program, with the environment of this host's `claudine` commands.
    pub fn other(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env_clear();
        command.env(
            "PATH",
            env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into()),
        );
        command
            .env("HOME", self.home())
            .env("USER", "tester")
            .env("LANG", "C.UTF-8")
            .env("TERM", "dumb");
        command
            .env("XDG_CONFIG_HOME", self.config_dir())
            .env("XDG_STATE_HOME", self.root().join("state"));
        command
            .env("XDG_CACHE_HOME", self.root().join("cache"))
            .env("XDG_RUNTIME_DIR", self.root().join("run"));
        command
            .env("CLAUDINE_DATA_DIR", &self.data_dir)
            .env("RUST_BACKTRACE", "1");
        command.envs(&self.variables).current_dir(self.work());
        command
    }

    /// Runs a `claudine` command to its end.
    #[track_caller]
    pub fn run<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Ran {
        self.run_with(arguments, b"")
    }

    /// Runs a `claudine` command with this standard input.
    #[track_caller]
    pub fn run_with<A: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = A>,
        input: &[u8],
    ) -> Ran {
        command::run(self.command(arguments), input, 2 * PATIENCE)
    }

    /// Runs a command that must succeed; returns its standard output.
    #[track_caller]
    pub fn text<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> String {
        self.run(arguments).ok().text()
    }

    /// Runs a command that must succeed; returns its answer as JSON. Adds `--json` before any `--`
    /// in the arguments.
    #[track_caller]
    pub fn json<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Value {
        let mut arguments: Vec<OsString> = arguments
            .into_iter()
            .map(|argument| argument.as_ref().to_owned())
            .collect();
        let end = arguments
            .iter()
            .position(|argument| argument == "--")
            .unwrap_or(arguments.len());
        arguments.insert(end, "--json".into());
        self.run(arguments).ok().json()
    }

    /// Submits a script for `sh` and returns the task's id.
    #[track_caller]
    pub fn script(&self, script: &str) -> String {
        self.text(["run", "--script", script])
    }

    /// Waits for the task's end, whatever its outcome; returns the task.
    #[track_caller]
    pub fn finished(&self, id: &str) -> Value {
        // `wait` ends with the exit code of the task, which may have failed.
        let waited = self.run(["wait", id, "--json"]);
        let task = waited.json()[0].clone();
        assert!(
            task["state"] == "done",
            "`wait` returned before the task ended: {task:#}\n{waited}"
        );
        task
    }

    /// The task as `claudine status` shows it.
    #[track_caller]
    pub fn status(&self, id: &str) -> Value {
        self.ask(&format!("/v1/tasks/{id}"), ["status", id])
    }

    /// The answer of a command that only reads. If a host runs, asks at its socket: tests ask for
    /// states again and again, and a process for the command would cost five times as much.
    #[track_caller]
    pub fn ask<A: AsRef<OsStr>>(&self, path: &str, command: impl IntoIterator<Item = A>) -> Value {
        match socket::get(&self.data_dir.join("host.sock"), path) {
            Ok(answer) => answer,
            // The command starts a host or does without one, or it reports what is wrong.
            Err(_) => self.json(command),
        }
    }

    /// Sends a body to the host that runs, as a client of MCP does, and returns the whole answer.
    #[track_caller]
    pub fn post_as_client(&self, path: &str, body: &str) -> String {
        socket::post_as_client(&self.data_dir.join("host.sock"), path, body).unwrap()
    }

    /// The whole answer of the host that runs to a request with this head, of which the last
    /// headers are added.
    #[track_caller]
    pub fn said(&self, head: &str, body: &str) -> String {
        socket::said(&self.data_dir.join("host.sock"), head, body).unwrap()
    }

    /// Waits until the task is live; returns the pid of its process.
    #[track_caller]
    pub fn live(&self, id: &str) -> u32 {
        wait_for(&format!("{id} to be live"), || {
            let task = self.status(id);
            assert!(task["state"] != "done", "the task has ended: {task:#}");
            let attempt = task["attempts"].as_array()?.last()?.clone();
            (task["phase"] == "live")
                .then(|| attempt["pid"].as_u64())?
                .and_then(|pid| u32::try_from(pid).ok())
        })
    }

    /// Starts the host, if none runs; returns the answer of `up --json`.
    #[track_caller]
    pub fn up(&self) -> Value {
        self.json(["up"])
    }

    /// The pid in `host.json`, if that process is alive.
    pub fn host_pid(&self) -> Option<u32> {
        let text = fs::read(self.data_dir.join("host.json")).ok()?;
        let host: Value = serde_json::from_slice(&text).ok()?;
        let pid = u32::try_from(host["pid"].as_u64()?).ok()?;
        process::alive(pid).then_some(pid)
    }

    /// The pids of the living supervisors, from their identity files.
    pub fn supervisor_pids(&self) -> Vec<u32> {
        let Ok(entries) = fs::read_dir(self.data_dir.join("supervisors")) else {
            return Vec::new();
        };
        let identities = entries
            .flatten()
            .filter_map(|entry| fs::read(entry.path().join("identity.json")).ok());
        let pids = identities
            .filter_map(|text| serde_json::from_slice::<Value>(&text).ok()?["pid"].as_u64());
        pids.filter_map(|pid| u32::try_from(pid).ok())
            .filter(|pid| process::alive(*pid))
            .collect()
    }

    /// Kills the host with `kill -9`; returns its pid once it is gone. Panics if no host runs.
    #[track_caller]
    pub fn kill_host(&self) -> u32 {
        let pid = self.host_pid().expect("a host is running");
        process::kill_9(pid);
        wait_for("the killed host to be gone", || {
            (!process::alive(pid)).then_some(())
        });
        pid
    }

    /// Kills every supervisor with `kill -9`; returns once they are gone.
    #[track_caller]
    pub fn kill_supervisors(&self) {
        for pid in self.supervisor_pids() {
            process::kill_9(pid);
            wait_for("the killed supervisor to be gone", || {
                (!process::alive(pid)).then_some(())
            });
        }
    }

    /// Living processes of this host: the host itself, supervisors, tasks and their leftovers.
    pub fn processes(&self) -> Vec<process::Found> {
        process::of_data_dir(&self.data_dir)
    }

    /// Stops the host and its tasks. Returns the processes that are left nevertheless.
    fn end(&self) -> Vec<process::Found> {
        // If the host has died, its tasks may still run below a supervisor.
        let pids: Vec<u32> = self
            .host_pid()
            .into_iter()
            .chain(self.supervisor_pids())
            .collect();
        if !pids.is_empty() {
            let mut down = self.command(["down", "--kill"]);
            down.stdin(std::process::Stdio::null())
                .stdout(std::process::Stdio::null())
                .stderr(std::process::Stdio::null());
            // An error of the command is ignored, because the processes that are left show it.
            if let Ok(mut down) = down.spawn()
                && command::ends_within(&mut down, Duration::from_secs(30)).is_none()
            {
                process::kill_9(down.id());
                down.wait().expect("our own child");
            }
        }
        let patience = Duration::from_secs(if thread::panicking() { 2 } else { 20 });
        // The host and its supervisors usually end last, and looking for all processes costs much
        // more than looking at these few.
        wait_at_most(patience, || {
            let are_gone = !pids.iter().any(|pid| process::alive(*pid));
            are_gone.then_some(())
        });
        if wait_at_most(patience, || self.processes().is_empty().then_some(())).is_some() {
            return Vec::new();
        }
        let left = self.processes();
        for found in &left {
            process::kill_9(found.pid);
        }
        left
    }

    fn print_host_log(&self) {
        let Ok(log) = fs::read(self.data_dir.join("host.log")) else {
            return;
        };
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        eprintln!("--- the end of host.log ---");
        for line in &lines[lines.len().saturating_sub(60)..] {
            eprintln!("{line}");
        }
    }
}

impl Drop for TestHost {
    fn drop(&mut self) {
        let left = self.end();
        if let Err(error) = self.guard.end() {
            eprintln!("the guard of this test cannot be ended: {error}");
        }
        if thread::panicking() {
            self.print_host_log();
        } else if let Err(error) = compiled::hand_on(&self.data_dir, &compiled_plugins()) {
            eprintln!("compiled plugins are not kept for other tests: {error}");
        }
        if !left.is_empty() {
            let left: Vec<String> = left
                .iter()
                .map(|found| format!("  {} {}", found.pid, found.command))
                .collect();
            let message = format!("left alive after the test:\n{}", left.join("\n"));
            // A panic during a panic would abort the test process and hide the first message.
            if thread::panicking() {
                eprintln!("{message}");
            } else {
                self.print_host_log();
                panic!("{message}");
            }
        }
    }
}

//! Runs commands that the host itself needs: git, probes of executors, the compiler of components.
//!
//! Each command has a time limit. A command for an attempt or a request is a child of a supervisor:
//! see [`supervised_by`]. Other commands, such as probes, are children of this process. Commands
//! that only read are killed at their time limit, or as soon as nobody waits for them any more.
//! Such commands leave no process behind, except a process that a hostile command has detached from
//! its process group. Commands that change something are awaited to their end, so that their result
//! is known. Processes that remain after a command are found by their tag and ended: see
//! `supervise::Own`.

use std::{
    ffi::OsStr,
    io,
    os::{fd::OwnedFd, unix::process::CommandExt},
    path::PathBuf,
    pin::Pin,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, LazyLock},
    time::Duration,
};

use rustix::{
    io::retry_on_intr,
    process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid},
};
use tokio::{io::AsyncReadExt, net::unix::pipe, runtime::Handle};
use tokio_util::task::TaskTracker;

use crate::{aside, clock};

/// The variables with the paths of the repository, index and files that git uses. If one of them
/// were left out, git would use another repository or index.
const PLACES: [&str; 3] = ["GIT_DIR", "GIT_INDEX_FILE", "GIT_WORK_TREE"];

/// Time between TERM and KILL at the time limit of a command.
pub(crate) const GRACE: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
}

/// Treatment of a command for whose result nobody waits any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Abandoned {
    /// The process group is killed, and the command is reaped.
    Killed,
    /// The command continues until it ends or reaches its time limit, because its changes must not
    /// be left half done.
    LeftAlone,
}

/// A command to be run by an [`Elsewhere`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Order {
    /// The program and its arguments. The program is searched for in the `PATH` of `env`.
    pub(crate) argv: Vec<String>,
    pub(crate) cwd: PathBuf,
    /// The whole environment.
    pub(crate) env: Vec<(String, String)>,
    pub(crate) kept_bytes: usize,
    pub(crate) limit: Duration,
    pub(crate) abandoned: Abandoned,
    /// Whether the command restores what another command has left half done: see [`restoring`].
    pub(crate) restores: bool,
    /// Whether the command works for a restrained principal: see [`restrained_if`].
    pub(crate) is_restrained: bool,
    /// Whether the command works for a request of a restrained principal, whoever else has to do
    /// with the repository: see [`taking_turns_if`].
    pub(crate) takes_turn: bool,
}

/// Result of a command; `None` if the command was ended at its time limit.
pub(crate) type Outcome = io::Result<Option<Finished>>;

/// Runs commands in another way than this module does by default, usually as children of a
/// supervisor.
pub(crate) trait Elsewhere: Send + Sync + 'static {
    fn run(&self, order: Order) -> Pin<Box<dyn Future<Output = Outcome> + Send>>;

    /// Waits until no command of an earlier host can change anything any more. Fails if that takes
    /// too long.
    fn earlier_over(&self) -> Pin<Box<dyn Future<Output = io::Result<()>> + Send>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Ends the commands of earlier hosts. Waits until they are over, but not for ever.
    fn end_earlier(&self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(std::future::ready(()))
    }

    /// Says which commands of earlier hosts are not over, one sentence for each of them.
    fn earlier_in_words(&self) -> Vec<String> {
        Vec::new()
    }
}

/// Runs commands as children of this process, because without a host there is no supervisor.
pub(crate) struct Here;

impl Elsewhere for Here {
    fn run(&self, order: Order) -> Pin<Box<dyn Future<Output = Outcome> + Send>> {
        let Order {
            argv,
            cwd,
            env,
            kept_bytes,
            limit,
            abandoned,
            restores: _,
            is_restrained: _,
            takes_turn: _,
        } = order;
        let mut words = argv.into_iter();
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words).current_dir(cwd).env_clear().envs(env);
        command.stdin(Stdio::null());
        Box::pin(here(command, kept_bytes, limit, abandoned))
    }
}

tokio::task_local! {
    /// Runs the commands of the current Tokio task. If this variable is not set, the commands run
    /// as children of this process.
    static ELSEWHERE: Arc<dyn Elsewhere>;

    /// Set while the current Tokio task restores what a command has left half done.
    static RESTORING: ();

    /// Whether the current Tokio task works for a restrained principal.
    static RESTRAINED: bool;

    /// Whether the current Tokio task works for a request of a restrained principal.
    static TAKES_TURNS: bool;
}

/// Does the work and runs all of its commands with `elsewhere`, however deeply nested the calls
/// are. The code that runs a command therefore need not know whether the command is for an attempt.
pub(crate) fn supervised_by<F: Future>(
    elsewhere: Arc<dyn Elsewhere>,
    work: F,
) -> impl Future<Output = F::Output> {
    // Not an async function, which would have room for the work twice.
    ELSEWHERE.scope(elsewhere, work)
}

/// Does the work, which restores what a command has left half done. If all commands are being
/// ended, those of this work still run for a short time, since nobody else would restore it.
pub(crate) fn restoring<F: Future>(work: F) -> impl Future<Output = F::Output> {
    RESTORING.scope((), work)
}

/// Does the work, which is for a restrained principal or for somebody else.
pub(crate) fn restrained_if<F: Future>(
    is_restrained: bool,
    work: F,
) -> impl Future<Output = F::Output> {
    RESTRAINED.scope(is_restrained, work)
}

/// Does the work, which is for a request of a restrained principal or of somebody else. Only a few
/// commands that read for such requests run at once.
pub(crate) fn taking_turns_if<F: Future>(
    is_restrained: bool,
    work: F,
) -> impl Future<Output = F::Output> {
    TAKES_TURNS.scope(is_restrained, work)
}

/// Waits until no command of an earlier host can change anything any more. Code that changes files
/// itself, without a command, calls this function first.
pub(crate) async fn earlier_over() -> io::Result<()> {
    match ELSEWHERE.try_with(Arc::clone) {
        Ok(elsewhere) => elsewhere.earlier_over().await,
        Err(_) => Ok(()),
    }
}

/// Commands that continue even if nobody waits for them any more.
static SEEN_TO: LazyLock<TaskTracker> = LazyLock::new(TaskTracker::new);

/// Waits until all commands that change something have ended. Called at the end of the host.
pub(crate) async fn all_seen_to() {
    SEEN_TO.close();
    SEEN_TO.wait().await;
    SEEN_TO.reopen();
}

/// Runs a command until it ends or reaches its time limit. Keeps the first `kept_bytes` bytes of
/// each output. Reads and discards the rest, so that the command never blocks on a full pipe.
pub(crate) async fn finish_within(
    command: Command,
    kept_bytes: usize,
    limit: Duration,
    abandoned: Abandoned,
) -> Outcome {
    if let Ok(elsewhere) = ELSEWHERE.try_with(Arc::clone) {
        let order = Order::of(&command, kept_bytes, limit, abandoned)?;
        return elsewhere.run(order).await;
    }
    here(command, kept_bytes, limit, abandoned).await
}

async fn here(
    command: Command,
    kept_bytes: usize,
    limit: Duration,
    abandoned: Abandoned,
) -> Outcome {
    match abandoned {
        Abandoned::Killed => clock::within(limit, finish(command, kept_bytes, abandoned))
            .await
            .transpose(),
        Abandoned::LeftAlone => SEEN_TO
            .spawn(see_to(command, kept_bytes, limit))
            .await
            .unwrap_or_else(|panic| Err(io::Error::other(panic))),
    }
}

/// Sends TERM at the time limit, and returns once the command has ended.
async fn see_to(command: Command, kept_bytes: usize, limit: Duration) -> Outcome {
    let mut running = Running::start(command, Abandoned::LeftAlone)?;
    let group = Pid::from_child(&running.child);
    let mut ending = std::pin::pin!(running.run_out(kept_bytes));
    if let Some(finished) = clock::within(limit, &mut ending).await {
        return finished.map(Some);
    }
    // Both calls can fail only because the command has just ended.
    kill_process_group(group, Signal::TERM).unwrap_or_default();
    if clock::within(GRACE, &mut ending).await.is_none() {
        kill_process_group(group, Signal::KILL).unwrap_or_default();
        ending.await?;
    }
    Ok(None)
}

/// Runs a command as a child of this process until it ends, without a time limit.
pub(crate) async fn finish(
    command: Command,
    kept_bytes: usize,
    abandoned: Abandoned,
) -> io::Result<Finished> {
    let mut running = Running::start(command, abandoned)?;
    running.run_out(kept_bytes).await
}

impl Order {
    fn of(
        command: &Command,
        kept_bytes: usize,
        limit: Duration,
        abandoned: Abandoned,
    ) -> io::Result<Self> {
        let text = |text: &OsStr| {
            let invalid = || {
                let what = format!("{} is not valid UTF-8", text.display());
                io::Error::new(io::ErrorKind::InvalidInput, what)
            };
            text.to_str().map(str::to_owned).ok_or_else(invalid)
        };
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        // Any other variable that is not valid UTF-8 is left out, because none of these commands
        // depends on one.
        let is_passed = |name: &OsStr, value: &OsStr| {
            PLACES.iter().any(|place| name == *place)
                || name.to_str().is_some() && value.to_str().is_some()
        };
        let env = command
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?)))
            .filter(|(name, value)| is_passed(name, value))
            .map(|(name, value)| Ok::<_, io::Error>((text(name)?, text(value)?)));
        Ok(Self {
            argv: words.map(text).collect::<io::Result<_>>()?,
            cwd: command.get_current_dir().unwrap_or("/".as_ref()).to_owned(),
            env: env.collect::<io::Result<_>>()?,
            kept_bytes,
            limit,
            abandoned,
            restores: RESTORING.try_with(|()| ()).is_ok(),
            is_restrained: RESTRAINED.try_with(|is_so| *is_so).unwrap_or_default(),
            takes_turn: TAKES_TURNS.try_with(|is_so| *is_so).unwrap_or_default(),
        })
    }
}

/// A child process. Until it is reaped, neither its pid nor the number of its process group can be
/// reused.
struct Running {
    child: Child,
    abandoned: Abandoned,
    is_reaped: bool,
}

impl Running {
    fn start(mut command: Command, abandoned: Abandoned) -> io::Result<Self> {
        command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        Ok(Self {
            child: command.spawn()?,
            abandoned,
            is_reaped: false,
        })
    }

    async fn run_out(&mut self, kept_bytes: usize) -> io::Result<Finished> {
        let stdout = self.child.stdout.take().map(OwnedFd::from);
        let stderr = self.child.stderr.take().map(OwnedFd::from);
        let (stdout, stderr, exited) = tokio::join!(
            read(stdout, kept_bytes),
            read(stderr, kept_bytes),
            self.exited()
        );
        exited?;
        self.kill_group();
        let status = self.child.wait()?;
        self.is_reaped = true;
        Ok(Finished {
            status,
            stdout: stdout?,
            stderr: stderr?,
        })
    }

    /// Kills everything that is left of a command that only reads. The child must not be reaped
    /// yet.
    fn kill_group(&self) {
        if self.abandoned == Abandoned::Killed {
            // Fails only if nothing is left.
            kill_process_group(Pid::from_child(&self.child), Signal::KILL).unwrap_or_default();
        }
    }

    /// Waits for the end of the child without reaping it. This needs a separate thread, because the
    /// runtime can wait for a child only by reaping it.
    async fn exited(&self) -> io::Result<()> {
        let pid = Pid::from_child(&self.child);
        let exited = aside::run(move || {
            retry_on_intr(|| {
                waitid(
                    WaitId::Pid(pid),
                    WaitIdOptions::EXITED | WaitIdOptions::NOWAIT,
                )
            })
        });
        let exited = exited.await.map_err(io::Error::other)?;
        exited.map(drop).map_err(io::Error::from)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.abandoned != Abandoned::Killed || self.is_reaped {
            return;
        }
        // The child may have ended, and have left processes in its group.
        self.kill_group();
        let pid = Pid::from_child(&self.child);
        let reap = move || {
            // Fails only if the child was reaped already.
            let _ended = retry_on_intr(|| waitid(WaitId::Pid(pid), WaitIdOptions::EXITED));
        };
        // A killed process that waits for a file system may not end for a long time. If no thread
        // can be started to wait for it, it stays a zombie as long as the host lives.
        match Handle::try_current() {
            Ok(_) => drop(aside::run(reap)),
            Err(_) => reap(),
        }
    }
}

/// Reads a pipe to its end and keeps the beginning.
async fn read(pipe: Option<OwnedFd>, kept_bytes: usize) -> io::Result<Vec<u8>> {
    let Some(pipe) = pipe else {
        return Ok(Vec::new());
    };
    let mut pipe = pipe::Receiver::from_owned_fd(pipe)?;
    let mut kept = Vec::new();
    let mut piece = vec![0; 8 << 10];
    loop {
        let read = pipe.read(&mut piece).await?;
        if read == 0 {
            return Ok(kept);
        }
        let room = kept_bytes.saturating_sub(kept.len()).min(read);
        kept.extend_from_slice(&piece[..room]);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::os::unix::ffi::OsStrExt;

    use super::*;
    use crate::proc_stat::try_stat;

    #[tokio::test]
    async fn dropping_the_future_kills_the_process_group() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        let mut command = Command::new("sh");
        // The second shell holds the write end open until it is killed. Only after that does a
        // reader see the end of the file.
        command
            .arg("-c")
            .arg("mkfifo \"$0\"; (exec 3>\"$0\"; sleep 1000) & wait")
            .arg(&fifo)
            .stdin(Stdio::null());
        let running = tokio::spawn(finish(command, 1, Abandoned::Killed));
        while !fifo.exists() {
            tokio::task::yield_now().await;
        }
        let reader = tokio::task::spawn_blocking({
            let fifo = fifo.clone();
            move || std::fs::File::open(fifo)
        });
        let mut reader = reader.await.unwrap().unwrap();
        running.abort();
        let read = tokio::task::spawn_blocking(move || io::Read::read(&mut reader, &mut [0; 1]));
        assert_eq!(read.await.unwrap().unwrap(), 0);
    }

    /// Another process of the group opens a fifo, and holds it open until it is killed. Only after
    /// that does a reader of the fifo see the end of the file.
    #[tokio::test]
    async fn a_command_that_only_reads_leaves_no_process_of_its_group_behind() {
        let script = |output: &str| {
            format!(
                "(exec 3>fifo; echo > up; exec sleep 1000) {output} & until test -e up; do sleep \
                 0.02; done; echo $$ > pid"
            )
        };
        let begin = |dir: &std::path::Path, output: &str| {
            let fifo = dir.join("fifo");
            let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
            rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, mode).unwrap();
            let mut command = Command::new("sh");
            command.arg("-c").arg(script(output)).current_dir(dir);
            command.stdin(Stdio::null());
            let running = tokio::spawn(finish(command, 1, Abandoned::Killed));
            let read = tokio::task::spawn_blocking(move || std::fs::read(fifo));
            (running, read)
        };
        let dir = tempfile::tempdir().unwrap();
        let (running, read) = begin(dir.path(), "> /dev/null 2>&1");
        assert!(running.await.unwrap().unwrap().status.success());
        assert!(read.await.unwrap().unwrap().is_empty());

        // This process holds the output open too, so the command is not finished although its first
        // process has ended.
        let dir = tempfile::tempdir().unwrap();
        let (running, read) = begin(dir.path(), "");
        let first = loop {
            let pid = std::fs::read_to_string(dir.path().join("pid")).unwrap_or_default();
            if let Ok(pid) = pid.trim().parse() {
                break pid;
            }
            tokio::task::yield_now().await;
        };
        while try_stat(first)
            .unwrap()
            .is_some_and(|stat| !stat.is_zombie())
        {
            tokio::task::yield_now().await;
        }
        running.abort();
        assert!(read.await.unwrap().unwrap().is_empty());
    }

    /// The result of each command is known, and no process remains.
    #[tokio::test]
    async fn commands_that_change_something_run_to_their_end() {
        let dir = tempfile::tempdir().unwrap();
        let run = |script: &str, limit: Duration| {
            let mut command = Command::new("sh");
            let command_line = command.arg("-c").arg(script).current_dir(dir.path());
            command_line.stdin(Stdio::null());
            finish_within(command, 100, limit, Abandoned::LeftAlone)
        };
        let long = Duration::from_mins(1);
        let finished = run("echo out; echo err >&2; exit 3", long).await;
        let finished = finished.unwrap().unwrap();
        assert_eq!(finished.status.code(), Some(3));
        assert_eq!(
            (&*finished.stdout, &*finished.stderr),
            (&b"out\n"[..], &b"err\n"[..])
        );
        // The command receives TERM, and counts as timed out once it has ended.
        let polite =
            "trap 'echo ended > polite; exit 0' TERM; echo > up; while :; do sleep 0.02; done";
        let late = run(polite, Duration::from_millis(300)).await.unwrap();
        assert!(late.is_none());
        assert!(dir.path().join("polite").exists());
        // Nobody waits for the command any more, but it still writes its file.
        let slow = tokio::spawn(run(
            "echo > begun; until test -e go; do sleep 0.02; done; echo > written",
            long,
        ));
        while !dir.path().join("begun").exists() {
            tokio::task::yield_now().await;
        }
        slow.abort();
        std::fs::write(dir.path().join("go"), "").unwrap();
        all_seen_to().await;
        assert!(dir.path().join("written").exists());
    }

    #[test]
    fn a_path_for_git_must_be_utf_8_and_other_variables_that_are_not_utf_8_are_left_out() {
        let value = OsStr::from_bytes(b"caf\xe9");
        let order = |name: &str| {
            let mut command = Command::new("git");
            command.env_clear().env(name, value);
            Order::of(&command, 1, GRACE, Abandoned::Killed)
        };
        assert!(order("GIT_INDEX_FILE").is_err());
        assert!(order("OTHER").unwrap().env.is_empty());
    }

    struct Listener(std::sync::Mutex<Vec<Order>>);

    impl Elsewhere for Listener {
        fn run(&self, order: Order) -> Pin<Box<dyn Future<Output = Outcome> + Send>> {
            self.0.lock().unwrap().push(order);
            Box::pin(async { Ok(None) })
        }
    }

    #[tokio::test]
    async fn commands_of_supervised_work_are_not_run_as_children_of_this_process() {
        let listener = Arc::new(Listener(std::sync::Mutex::default()));
        let command = || {
            let mut command = Command::new("git");
            command
                .env_clear()
                .env("A", "b")
                .args(["-C", "/x", "status"]);
            command
        };
        let run = || finish_within(command(), 7, GRACE, Abandoned::Killed);
        let outcome = supervised_by(listener.clone(), async { run().await }).await;
        assert!(outcome.unwrap().is_none());
        let restored = supervised_by(listener.clone(), restoring(async { run().await }));
        assert!(restored.await.unwrap().is_none());
        let restrained =
            supervised_by(listener.clone(), restrained_if(true, async { run().await }));
        assert!(restrained.await.unwrap().is_none());
        let requested = supervised_by(
            listener.clone(),
            taking_turns_if(true, async { run().await }),
        );
        assert!(requested.await.unwrap().is_none());
        let orders = listener.0.lock().unwrap().clone();
        let expected = Order {
            argv: ["git", "-C", "/x", "status"].map(str::to_owned).to_vec(),
            cwd: "/".into(),
            env: vec![("A".to_owned(), "b".to_owned())],
            kept_bytes: 7,
            limit: GRACE,
            abandoned: Abandoned::Killed,
            restores: false,
            is_restrained: false,
            takes_turn: false,
        };
        let restoring = Order {
            restores: true,
            ..expected.clone()
        };
        let restrained = Order {
            is_restrained: true,
            ..expected.clone()
        };
        let requested = Order {
            takes_turn: true,
            ..expected.clone()
        };
        assert_eq!(orders, [expected, restoring, restrained, requested]);
    }
}

//! Carries out the requests of a running executor: starts children, returns their output, and
//! passes on reports of progress and checkpoints.

use std::{convert::Infallible, io, path::PathBuf, sync::Arc, time::Duration};

use claudine_domain::{
    session::Session,
    step::Report,
    task::{Class, Request},
    time::MonotonicMs,
};
use serde::Deserialize;
use tokio_util::task::TaskTracker;

use super::{
    directory,
    ending::{cost_micro_usd, status},
    input,
    live::{ChildState, Live, State},
    output::{channel, follow},
    reporter::Reporter,
};
use crate::{
    bounds::Bounds,
    clock,
    config::{DATA_DIR, PATH, TASK_ID},
    fsx, git,
    layout::Layout,
    plugin::{
        AttemptHost, BoxFuture, Channel, ChildExit, ChildRef, EnvRemove, Failure, InputStream,
        LogLevel, Output, Signal, SpawnSpec, Stdin, Usage,
    },
    supervise::{
        self, NotStartedClass, StartChild, Supervisors,
        log::{AsideReader, LogReader},
    },
    text::one_line,
};

/// Number of bytes that are kept of the output of an agent, even if its task has a lower limit.
/// Half of them are the end of the output, because an agent's last line has its result and its
/// cost, and is as long as the last answer of the model.
const LEAST_OF_AGENT_BYTES: u64 = 4 << 20;

/// Length limit of the text in which an attempt says what it is doing.
const DOING_CHARS: usize = 200;

pub(super) struct GuestHost {
    pub(super) request: Arc<Request>,
    /// The directory in which the attempt works.
    pub(super) workspace: String,
    pub(super) live: Arc<Live>,
    pub(super) supervisors: Supervisors,
    pub(super) layout: Layout,
    /// The file with the environment from which the attempt's children start.
    pub(super) env_file: PathBuf,
    pub(super) reporter: Reporter,
    pub(super) tasks: TaskTracker,
    /// Variables of the attempt's children, in addition to the variables of the task. `None` stands
    /// for a variable that they do not get.
    pub(super) variables: Vec<(String, Option<String>)>,
    /// Whether the executor itself reports its first sign of life, which it does if its manifest
    /// has a start timeout. For other executors, the first output is the sign of life if the task
    /// has a start timeout, and otherwise a running child.
    pub(super) tells_alive: bool,
}

impl GuestHost {
    fn tell(&self, report: Report) {
        if self.reporter.tell(&self.live, report) {
            let (reporter, live) = (self.reporter.clone(), self.live.clone());
            self.tasks
                .spawn(async move { reporter.send_late(&live).await });
        }
    }

    fn mark_alive(&self) {
        if self
            .live
            .change(|state| !std::mem::replace(&mut state.alive, true))
        {
            self.tell(Report::Alive);
        }
    }

    async fn start(&self, spec: SpawnSpec) -> Result<ChildRef, Failure> {
        let (start, stdin) = self.start_child(spec);
        let task = self.live.begun().await;
        self.reporter.ask_for_turn(&self.live).await;
        let silent = |message: String| Failure::new("spawn", message);
        directory::answers(&start.cwd).await.map_err(silent)?;
        let (index, goes_on) = self.live.change(|state| {
            let goes_on = state.is_between_children();
            state.add_child().map(|index| (index, goes_on))
        })?;
        let unsent = Unsent::new(&self.live, index);
        if goes_on {
            // Before the start, so that the engine's time limits count again.
            self.reporter.send(&self.live, Report::GoesOn).await;
        }
        let child = self.live.child(index);
        let (stdin, stream) = match self.input(index, stdin).await {
            Ok(input) => input,
            Err(failure) => return Err(unsent.failed(failure)),
        };
        let start = StartChild {
            child: child.clone(),
            stdin,
            timeout: task.request.timeout.map(|timeout| {
                let started = self.live.started(task, &clock::boot_id());
                left_of(timeout, started)
            }),
            ..start
        };
        self.live.sends(index);
        match self.supervisors.start(start).done().await {
            Ok(()) => unsent.sent(),
            Err(error) => {
                return Err(unsent.failed(Failure::new("resource", error.to_string())));
            }
        }
        self.heard_of_start(index).await?;
        if let Some(stream) = stream {
            self.live.change(|state| state.is_fed = true);
            let (live, supervisors) = (self.live.clone(), self.supervisors.clone());
            self.tasks
                .spawn(input::feed(live, supervisors, child.clone(), stream));
        }
        self.tell_start().await;
        Ok(ChildRef::new(child.to_string()))
    }

    /// The failure of a child that was not started.
    fn not_started(&self, class: NotStartedClass, mut message: String) -> Failure {
        let is_other_path = self.variables.iter().any(|(name, _)| name == PATH);
        if class == NotStartedClass::CommandNotFound && is_other_path {
            message += "; a task of an MCP client has a PATH without relative directories and \
                        without those of version managers (shims), because files of its directory \
                        decide which program these start: begin the PATH of the client with the \
                        directory of the program itself";
        }
        Failure::new(class_word(class), message)
    }

    /// Waits for the supervisor's report about the start of a child.
    async fn heard_of_start(&self, index: u16) -> Result<(), Failure> {
        let heard = self
            .live
            .until(|state| match state.children.get(usize::from(index)) {
                None | Some(ChildState::Sent) => None,
                Some(other) => Some(other.clone()),
            });
        match heard.await {
            ChildState::NotStarted { class, message } => Err(self.not_started(class, message)),
            ChildState::Lost => Err(Failure::new(
                "lost",
                "the supervisor died while the child was started",
            )),
            ChildState::Sent | ChildState::Running(_) | ChildState::Exited(_) => Ok(()),
        }
    }

    /// Reports children that were found running, because the host that started them may have died
    /// before their start was stored.
    pub(super) async fn tell_found(&self) {
        if self.live.look(State::leader).is_some() {
            self.tell_start().await;
        }
    }

    async fn tell_start(&self) {
        let leader = self.live.look(State::leader);
        self.reporter
            .send(&self.live, Report::Started { leader })
            .await;
        // If the start of another agent depends on the first sign of life, and nothing reports this
        // sign, the running child is the sign. If nothing depends on it, the report above is enough
        // for the engine.
        let request = &self.request;
        let is_awaited = request.serial_start.is_some() && request.start_timeout.is_none();
        if is_awaited && !self.tells_alive {
            self.mark_alive();
        }
    }

    /// Reports the first output as the sign of life, if the start timeout waits for it and the
    /// executor does not report the sign itself. Output that a full disk holds back counts as the
    /// sign for every executor, because no executor can read it. Never returns.
    pub(super) async fn tell_output(&self) -> Infallible {
        if self.request.start_timeout.is_some() {
            let is_without_room = |state: &State| state.without_room().is_some().then_some(());
            tokio::select! {
                () = self.live.until(is_without_room) => {}
                () = self.first_output(), if !self.tells_alive => {}
            }
            self.mark_alive();
        }
        std::future::pending().await
    }

    /// Waits until the attempt has a process and its log has output.
    async fn first_output(&self) {
        self.live.until(State::leader).await;
        if let Err(error) = self.first_bytes().await {
            // A log that cannot be read shows that there was output.
            tracing::warn!(attempt = %self.live.id, %error, "the output cannot be read");
        }
    }

    /// Waits until the log of the attempt has output.
    async fn first_bytes(&self) -> io::Result<()> {
        let log = self.layout.log(self.live.id);
        let grown = self.supervisors.log_watch().subscribe(&log);
        let mut log = AsideReader::from(LogReader::new(&log));
        while log.read(LogReader::next_piece).await?.is_none() {
            grown.grown().await;
        }
        Ok(())
    }

    /// Writes input that is given as bytes to a file before the child starts, so that the child
    /// never reads only a part of it. Returns input that is given as a stream, because the stream
    /// is fed to the child while the child runs.
    async fn input(
        &self,
        index: u16,
        stdin: Stdin,
    ) -> Result<(supervise::Stdin, Option<InputStream>), Failure> {
        let bytes = match stdin {
            Stdin::Empty => return Ok((supervise::Stdin::Empty, None)),
            Stdin::Stream(stream) => return Ok((supervise::Stdin::Stream, Some(stream))),
            Stdin::Bytes(bytes) => bytes,
        };
        // Counts the file before it exists, so that it is removed even if the start is interrupted.
        self.live
            .change(|state| state.input_files = state.input_files.max(index + 1));
        let path = self.layout.stdin_file(self.live.id, index);
        let target = path.clone();
        let written = crate::aside::run(move || fsx::write_private(&target, &bytes)).await;
        match written.map_err(io::Error::other).flatten() {
            Ok(()) => Ok((supervise::Stdin::File(path), None)),
            Err(error) => Err(Failure::new(
                "resource",
                format!("the child's input cannot be written: {error}"),
            )),
        }
    }

    /// The parts of a child's start that are known in advance, and its input.
    fn start_child(&self, spec: SpawnSpec) -> (StartChild, Stdin) {
        let SpawnSpec {
            command,
            args,
            cwd,
            env,
            env_remove,
            stdin,
        } = spec;
        let request = &self.request;
        let (env_file, mut env_remove) = match env_remove {
            EnvRemove::Everything => (None, Vec::new()),
            EnvRemove::Names(names) => (Some(self.env_file.clone()), names),
        };
        let mut env_set = env;
        for (name, value) in &self.variables {
            if let Some(value) = value {
                env_set.push((name.clone(), value.clone()));
            } else {
                env_set.retain(|(set, _)| set != name);
                env_remove.push(name.clone());
            }
        }
        if request.worktree.is_some() {
            // If the task was submitted from a git hook, these variables would make the child's git
            // use the user's checkout.
            env_remove.extend(git::ELSEWHERE.iter().map(|name| (*name).to_owned()));
            env_set.push(("PWD".to_owned(), self.workspace.clone()));
        }
        env_set.push((TASK_ID.to_owned(), self.live.id.task.to_string()));
        env_set.push((
            DATA_DIR.to_owned(),
            self.layout.root().display().to_string(),
        ));
        let mut argv = vec![command];
        argv.extend(args);
        let start = StartChild {
            child: self.live.child(0),
            argv,
            cwd: cwd.unwrap_or_else(|| self.workspace.clone()).into(),
            env_file,
            env_remove,
            env_set,
            umask: request.umask,
            bounds: self.bounds(),
            stdin: supervise::Stdin::Empty,
            log: self.layout.log(self.live.id),
            cap_bytes: kept_bytes(request),
            timeout: None,
            idle_timeout: request.idle_timeout,
            ladder: self.live.ladder.clone(),
        };
        (start, stdin)
    }

    /// The limits that the task was given. Without them, a child has those of its supervisor.
    fn bounds(&self) -> Option<Bounds> {
        let text = self.request.bounds.as_ref()?;
        let read = text.parse::<Bounds>().inspect_err(|error| {
            tracing::warn!(
                attempt = %self.live.id, %error,
                "the limits that the task was given cannot be read, and do not apply"
            );
        });
        read.ok()
    }

    fn index(child: &ChildRef) -> Option<(supervise::ChildId, usize)> {
        let id: supervise::ChildId = child.to_string().parse().ok()?;
        let index = usize::from(id.index());
        Some((id, index))
    }

    async fn exit_of(&self, child: &ChildRef) -> Result<ChildExit, Failure> {
        let Some((_, index)) = Self::index(child) else {
            return Err(unknown(child));
        };
        let end = self.live.until(|state| match state.children.get(index) {
            Some(child) if child.is_open() => None,
            other => Some(other.cloned()),
        });
        match end.await {
            Some(ChildState::Exited(exit)) => {
                let (code, signal) = status(exit.status);
                let usage = Usage {
                    wall: Duration::from_millis(exit.usage.wall_ms),
                    cpu: Some(Duration::from_millis(exit.usage.cpu_ms)),
                    peak_rss_bytes: exit.usage.peak_rss_bytes,
                };
                Ok(ChildExit {
                    code,
                    signal,
                    usage,
                })
            }
            Some(ChildState::NotStarted { class, message }) => {
                Err(self.not_started(class, message))
            }
            Some(ChildState::Lost) => Err(Failure::new(
                "lost",
                "the child's supervisor died: the child's exit status is lost, and perhaps the end of its output",
            )),
            _ => Err(unknown(child)),
        }
    }
}

/// A child that was added to its attempt and whose start was not sent yet. If this value is dropped
/// before the start is sent, for example because the guest crashes, the child counts as not
/// started, because no supervisor will report on the child.
struct Unsent<'a> {
    /// `None` once the start was sent.
    live: Option<&'a Live>,
    index: u16,
    why: String,
}

impl<'a> Unsent<'a> {
    fn new(live: &'a Live, index: u16) -> Self {
        Self {
            live: Some(live),
            index,
            why: "the start of the child was interrupted".to_owned(),
        }
    }

    fn sent(mut self) {
        self.live = None;
    }

    /// Records the failure's message as the reason why the child was not started.
    fn failed(mut self, failure: Failure) -> Failure {
        self.why.clone_from(&failure.message);
        failure
    }
}

impl Drop for Unsent<'_> {
    fn drop(&mut self) {
        let Some(live) = self.live else { return };
        let new = ChildState::NotStarted {
            class: NotStartedClass::Input,
            message: std::mem::take(&mut self.why),
        };
        live.change(|state| {
            if let Some(child) = state.children.get_mut(usize::from(self.index)) {
                *child = new;
            }
            state.end_if_nothing_began();
        });
    }
}

fn unknown(child: &ChildRef) -> Failure {
    Failure::new("invalid", format!("there is no child {child}"))
}

fn class_word(class: NotStartedClass) -> &'static str {
    match class {
        NotStartedClass::CommandNotFound
        | NotStartedClass::NotExecutable
        | NotStartedClass::Cwd => "spawn",
        NotStartedClass::Invalid | NotStartedClass::Input => "invalid",
        NotStartedClass::Resource => "resource",
        NotStartedClass::Stopped => "cancelled",
        NotStartedClass::Supervisor | NotStartedClass::StartedBefore => "lost",
    }
}

/// A `phase` report, as the contract defines it.
#[derive(Deserialize)]
struct Phase {
    text: String,
}

/// The remaining time of the attempt's timeout. A child that is started late gets only this time
/// instead of the whole timeout.
fn left_of(timeout: Duration, started: Option<MonotonicMs>) -> Duration {
    let Some(start) = started else {
        return timeout;
    };
    let passed = Duration::from_millis(clock::monotonic_ms().0.saturating_sub(start.0));
    timeout.saturating_sub(passed).max(Duration::from_millis(1))
}

impl AttemptHost for GuestHost {
    fn spawn(&self, spec: SpawnSpec) -> BoxFuture<'_, Result<ChildRef, Failure>> {
        Box::pin(self.start(spec))
    }

    fn children(&self) -> Vec<ChildRef> {
        let count = self.live.look(|state| state.children.len());
        (0..u16::try_from(count).unwrap_or(u16::MAX))
            .map(|index| ChildRef::new(self.live.child(index).to_string()))
            .collect()
    }

    fn output(&self, child: &ChildRef, wanted: Channel, from_offset: u64) -> Output {
        let index = Self::index(child).map_or(u16::MAX, |(id, _)| id.index());
        let reader = LogReader::new(&self.layout.log(self.live.id))
            .child(index)
            .channel(channel(wanted));
        follow(
            reader,
            self.supervisors.log_watch(),
            self.live.clone(),
            index,
            from_offset,
        )
    }

    fn signal(&self, child: &ChildRef, signal: Signal) -> Result<(), Failure> {
        let Some((id, _)) = Self::index(child) else {
            return Err(unknown(child));
        };
        let signal = match signal {
            Signal::Hup => supervise::Signal::Hup,
            Signal::Int => supervise::Signal::Int,
            Signal::Kill => supervise::Signal::Kill,
            Signal::Term => supervise::Signal::Term,
            Signal::Usr1 => supervise::Signal::Usr1,
            Signal::Usr2 => supervise::Signal::Usr2,
        };
        let sending = self.supervisors.signal(id, signal);
        if sending.waits() {
            let attempt = self.live.id;
            self.tasks.spawn(async move {
                if let Err(error) = sending.done().await {
                    tracing::debug!(%attempt, %error, "a signal was not sent");
                }
            });
        }
        Ok(())
    }

    fn wait(&self, child: &ChildRef) -> BoxFuture<'_, Result<ChildExit, Failure>> {
        let child = child.clone();
        Box::pin(async move { self.exit_of(&child).await })
    }

    fn all_ended(&self) -> BoxFuture<'_, ()> {
        let ended = |state: &State| (!state.may_be_alive()).then_some(());
        Box::pin(self.live.until(ended))
    }

    fn progress(&self, kind: &str, data: &str) {
        match kind {
            "alive" => self.mark_alive(),
            "session" => {
                #[derive(Deserialize)]
                struct Told {
                    session_id: String,
                    model: Option<String>,
                }
                match serde_json::from_str::<Told>(data) {
                    Ok(Told { session_id, model }) => {
                        let session = Session {
                            id: session_id,
                            model,
                        };
                        if session.has_id() {
                            self.tell(Report::Session(session));
                        } else {
                            tracing::warn!(
                                attempt = %self.live.id, id = session.id,
                                "the reported session counts as none: its id is not one"
                            );
                        }
                    }
                    Err(error) => {
                        tracing::warn!(
                            attempt = %self.live.id, %error,
                            "the report of a session is invalid"
                        );
                    }
                }
            }
            "phase" => {
                self.tell(Report::Progress {
                    kind: kind.to_owned(),
                    data: data.to_owned(),
                });
                match serde_json::from_str::<Phase>(data) {
                    Ok(Phase { text }) => self.tell(Report::Doing(one_line(&text, DOING_CHARS))),
                    Err(error) => {
                        tracing::warn!(
                            attempt = %self.live.id, %error,
                            "the report of a phase is invalid"
                        );
                    }
                }
            }
            "account_works" => self.tell(Report::AccountWorks),
            "cost" => match cost_micro_usd(data) {
                Some(micro_usd) => self.tell(Report::Cost(micro_usd)),
                None => {
                    tracing::warn!(attempt = %self.live.id, "the report of a cost is invalid");
                }
            },
            _ => self.tell(Report::Progress {
                kind: kind.to_owned(),
                data: data.to_owned(),
            }),
        }
    }

    fn checkpoint(&self, state: Vec<u8>) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async move {
            self.live.begun().await;
            self.reporter.store_checkpoint(&self.live, state).await;
            Ok(())
        })
    }

    fn log(&self, level: LogLevel, message: &str) {
        let (attempt, executor) = (self.live.id, &*self.request.executor);
        match level {
            LogLevel::Trace => tracing::trace!(%attempt, executor, "{message}"),
            LogLevel::Debug => tracing::debug!(%attempt, executor, "{message}"),
            LogLevel::Info => tracing::info!(%attempt, executor, "{message}"),
            LogLevel::Warn => tracing::warn!(%attempt, executor, "{message}"),
            LogLevel::Error => tracing::error!(%attempt, executor, "{message}"),
        }
    }
}

/// Number of bytes that are kept of the output of an attempt.
fn kept_bytes(request: &Request) -> u64 {
    match request.class {
        Class::Agent => request.max_output_bytes.max(LEAST_OF_AGENT_BYTES),
        Class::Command => request.max_output_bytes,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::{io::Read, path::Path};

    use claudine_domain::{id::AttemptId, outbox::Numbered, task::Task};

    use super::*;
    use crate::{
        engine::Inbox,
        store::sample_task,
        supervise::{Exit, Status},
    };

    /// The host of the task's first attempt, for which no supervisor can be started.
    async fn without_supervisors(dir: &Path, task: Task) -> GuestHost {
        let layout = Layout::new(dir);
        layout.create().unwrap();
        let settings = supervise::Settings {
            dir: layout.supervisors(),
            program: supervise::Program {
                path: dir.join("none"),
                args: Vec::new(),
            },
            environment: Vec::new(),
            descriptors: None,
            epoch: 1,
        };
        let orphans = supervise::Orphans::look_for(&settings.dir);
        let opened = supervise::open(settings, orphans);
        let id = AttemptId {
            task: task.id,
            number: 1,
        };
        let (live, _stopped) = Live::new(id, Vec::new(), State::default());
        let request = task.request.clone();
        live.begin(Arc::new(task));
        GuestHost {
            request,
            workspace: "/".to_owned(),
            live: Arc::new(live),
            supervisors: opened.await.unwrap().supervisors,
            layout,
            env_file: dir.join("env"),
            reporter: Reporter::new(Inbox::new().reports()),
            tasks: TaskTracker::new(),
            variables: Vec::new(),
            tells_alive: false,
        }
    }

    /// Otherwise the cost of an agent could be lost, if a client sets a low limit.
    #[test]
    fn the_end_of_an_agents_output_is_kept_whatever_its_limit() {
        let check = |class: Class, max_output_bytes: u64, expected: u64| {
            let request = Request {
                max_output_bytes,
                ..Request::new("any", class)
            };
            assert_eq!(kept_bytes(&request), expected, "{class:?}");
        };
        check(Class::Agent, 4 << 10, 4 << 20);
        check(Class::Agent, 5 << 20, 5 << 20);
        check(Class::Command, 4 << 10, 4 << 10);
    }

    /// Whether the attempt is alive within this time.
    async fn comes_alive(host: &GuestHost, within: Duration) -> bool {
        let alive = async {
            tokio::select! {
                never = host.tell_output() => match never {},
                () = host.live.until(|state| state.alive.then_some(())) => {}
            }
        };
        clock::within(within, alive).await.is_some()
    }

    #[tokio::test]
    async fn output_that_a_full_disk_holds_back_counts_as_the_sign_of_life() {
        for tells_alive in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let mut task = sample_task(1);
            Arc::make_mut(&mut task.request).start_timeout = Some(Duration::from_secs(1));
            let host = GuestHost {
                tells_alive,
                ..without_supervisors(dir.path(), task).await
            };
            let hold = |why: &str| host.live.change(|state| state.held = Some(why.to_owned()));
            hold("its supervisor does not answer");
            assert!(!comes_alive(&host, Duration::from_millis(1)).await);
            hold(&supervise::log::no_room());
            assert!(comes_alive(&host, Duration::from_mins(1)).await);
        }
    }

    fn spec(command: &str, stdin: Stdin) -> SpawnSpec {
        SpawnSpec {
            command: command.to_owned(),
            args: Vec::new(),
            cwd: None,
            env: Vec::new(),
            env_remove: EnvRemove::Names(Vec::new()),
            stdin,
        }
    }

    /// Begins to start a child whose input nobody reads yet, so that the start waits while the
    /// input is written, and drops the start after `until`. Returns the result of `until`, and the
    /// state of the attempt after the drop.
    async fn begin_start<T>(host: &GuestHost, until: impl Future<Output = T>) -> (T, State) {
        let pipe = host.layout.stdin_file(host.live.id, 0);
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RWXU).unwrap();
        let start = host.spawn(spec("cat", Stdin::Bytes(b"input".to_vec())));
        let result = tokio::select! {
            started = start => unreachable!("{started:?}"),
            result = until => result,
        };
        let state = host.live.state();
        // Lets the thread that writes the input end.
        let mut written = String::new();
        let mut pipe = std::fs::File::open(pipe).unwrap();
        pipe.read_to_string(&mut written).unwrap();
        assert_eq!(written, "input");
        (result, state)
    }

    #[tokio::test]
    async fn an_attempt_does_not_wait_for_a_child_whose_start_was_interrupted_before_it_was_sent() {
        let dir = tempfile::tempdir().unwrap();
        let host = without_supervisors(dir.path(), sample_task(1)).await;
        let is_added = |state: &State| (!state.children.is_empty()).then_some(());
        let ((), state) = begin_start(&host, host.live.until(is_added)).await;
        assert!(state.is_over(), "{state:?}");
        // The file with the input is removed with the attempt.
        assert_eq!(state.input_files, 1);
    }

    /// Otherwise no limit and no cancellation would end the attempt, because its executor is not
    /// given up as long as a child may be alive, and no child is started before its input is there.
    #[tokio::test]
    async fn a_child_whose_input_cannot_be_written_is_not_alive_before_its_start_is_sent() {
        let dir = tempfile::tempdir().unwrap();
        let host = without_supervisors(dir.path(), sample_task(1)).await;
        let is_added = |state: &State| (!state.children.is_empty()).then_some(());
        let given_up = async {
            host.live.until(is_added).await;
            clock::within(Duration::from_mins(1), host.all_ended()).await
        };
        let (given_up, _) = begin_start(&host, given_up).await;
        assert_eq!(given_up, Some(()), "its executor is not given up");
    }

    /// An instance may crash while the engine's inbox has no room.
    #[tokio::test]
    async fn an_attempt_does_not_wait_for_a_child_of_which_the_engine_was_not_told() {
        let dir = tempfile::tempdir().unwrap();
        let inbox = Inbox::new();
        let host = GuestHost {
            reporter: Reporter::new(inbox.reports()),
            ..without_supervisors(dir.path(), sample_task(1)).await
        };
        let other = || Numbered {
            number: 1,
            from: 1,
            report: Report::Alive,
        };
        while inbox.reports().try_send(host.live.id, other()) {}
        host.live.change(|state| {
            let exit = Exit::sample(Status::Code(0));
            state.hear(0, ChildState::Exited(exit), true);
        });
        let start = host.spawn(spec("true", Stdin::Empty));
        let is_added = |state: &State| (state.children.len() == 2).then_some(());
        tokio::select! {
            started = start => unreachable!("{started:?}"),
            () = host.live.until(is_added) => {}
        }
        // The start was dropped.
        let state = host.live.state();
        assert!(state.is_over(), "{state:?}");
    }
}

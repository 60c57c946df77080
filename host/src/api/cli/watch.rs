//! Watches a task: prints its output as it arrives, or shows its state, and handles Ctrl-C.
//!
//! The output of an agent's program is parsed by the executor. For an agent, the executor's
//! description of the current action and the final result are shown, so nothing here depends on the
//! format of an agent's output. `logs --raw` prints all bytes of that output.

use std::{
    cell::RefCell,
    convert::Infallible,
    future::pending,
    io::{self, IsTerminal, Write},
    iter::repeat,
    time::Duration,
};

use claudine_domain::task::Class;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{
    failure::Failure,
    output,
    progress::OfTask,
    session::{self, Session},
    spinner::Spinner,
    status,
    stuck::{halted, stuck},
    text,
};
use crate::{
    api::{
        client::{Client, ClientError, Followed, Seen},
        rest::LONGEST_WAIT,
    },
    app::{AppError, Delegated, ErrorKind, LogChannel, LogQuery, TaskRow, TaskView, gap_text},
    clock, stdout,
};

/// Time between two requests for the state of the task, which the spinner shows. Without a spinner,
/// only the end of the task matters.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
pub(super) const TICK: Duration = Duration::from_millis(100);
/// Time between two questions why a task waits.
pub(super) const EXPLAIN_EVERY: Duration = Duration::from_secs(1);
/// A message about the host is shown once for all waits of a command within this time, which is
/// longer than waits take to notice that the host is stopped.
pub(super) const SAID_ONCE: Duration = Duration::from_secs(5);
/// The message while no host is running.
pub(super) const HOST_LEFT: &str = "no host is running; waiting for the next one";
/// Time between two looks for a host while output is read.
const HOST_LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Time after which output that still cannot be written is reported. It is not reported at once,
/// because a disk may be full only for a moment.
pub(super) const HELD_BACK_FOR: Duration = Duration::from_secs(5);
/// Time between the first two looks for supervisors that do nothing. A host needs less time to
/// notice that a supervisor does not answer.
const SILENCE_NOTICED_WITHIN: Duration = Duration::from_secs(10);
/// Time between two looks for git commands of an earlier host, while a request about worktrees goes
/// on.
const EARLIER_LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// Time within which a second Ctrl-C cancels the task.
const SECOND_THOUGHT: Duration = Duration::from_secs(2);

/// How watching a task ended.
pub(super) enum Watched {
    Done(Box<TaskView>),
    /// The user detached; the task continues.
    Detached,
}

/// Reports, each once, what keeps these tasks from ending. The user has to know, because nobody
/// else can see to it. Asks the host rarely, because many commands may wait at the same time.
pub(super) async fn tell_obstacles(
    session: &Session,
    tasks: &[String],
    say: impl Fn(&str),
) -> Infallible {
    tell_obstacles_of(session, |id| tasks.iter().any(|task| task == id), say).await
}

/// [`tell_obstacles`] for the tasks of whose ids `is_meant` is true.
pub(super) async fn tell_obstacles_of(
    session: &Session,
    is_meant: impl Fn(&str) -> bool,
    say: impl Fn(&str),
) -> Infallible {
    tokio::select! {
        never = Box::pin(tell_held_back(session.client(), &say)) => never,
        never = Box::pin(tell_stuck(session, &is_meant, &say)) => never,
        never = Box::pin(tell_halted(session, &is_meant, &say)) => never,
    }
}

/// Reports once that the supervisor of one of these tasks does nothing, or that the plugin of one
/// cannot be used.
async fn tell_halted(
    session: &Session,
    is_meant: impl Fn(&str) -> bool,
    say: impl Fn(&str),
) -> Infallible {
    let first = [HELD_BACK_FOR, SILENCE_NOTICED_WITHIN];
    let pauses = first.into_iter().chain(repeat(LONGEST_WAIT));
    let said = halted(session, pauses, |row| is_meant(&row.id)).await;
    say(&format!("note: {said}"));
    pending().await
}

/// Reports once that processes of these tasks cannot be ended, although they are to end.
async fn tell_stuck(
    session: &Session,
    is_meant: impl Fn(&str) -> bool,
    say: impl Fn(&str),
) -> Infallible {
    let is_told_to_end = |row: &TaskRow| row.is_being_ended() && is_meant(&row.id);
    let said = stuck(session, (HELD_BACK_FOR, LONGEST_WAIT), is_told_to_end).await;
    say(&format!("note: {said}"));
    pending().await
}

/// Reports once that output of running tasks cannot be written, as on a full disk.
async fn tell_held_back(client: &Client, say: impl Fn(&str)) -> Infallible {
    let client = client.that_starts_none();
    clock::sleep(HELD_BACK_FOR).await;
    loop {
        // If the host does not answer, it is asked again later.
        if let Ok(host) = client.info().await
            && let Some(held) = &host.held_back
        {
            let way_out = text::let_it_be_written(&host.data_dir);
            say(&format!("note: {}; {way_out}", text::held_back(held)));
            return pending().await;
        }
        clock::sleep(LONGEST_WAIT).await;
    }
}

/// Carries out a request that changes worktrees. Reports once if it may have to wait for a git
/// command of an earlier host.
pub(super) async fn with_git_note<T>(client: &Client, request: impl Future<Output = T>) -> T {
    tokio::select! {
        biased;
        done = request => done,
        never = tell_earlier_commands(client, output::say) => match never {},
    }
}

async fn tell_earlier_commands(client: &Client, say: impl Fn(&str)) -> Infallible {
    let client = client.that_starts_none();
    loop {
        clock::sleep(EARLIER_LOOK_INTERVAL).await;
        // If the host does not answer, it is asked again later.
        if let Ok(host) = client.info().await
            && let Some(earlier) = host.earlier_commands.first()
        {
            say(&format!("note: {earlier}"));
            return pending().await;
        }
    }
}

/// Reports that no host runs, once for each time. Looks rarely, because many commands may wait at
/// the same time, and reports only what two looks find, because a host that crashed is started
/// again soon.
async fn tell_host_left(client: &Client, say: impl Fn(&str)) -> Infallible {
    let mut missed = 0_u32;
    loop {
        clock::sleep(HOST_LOOK_INTERVAL).await;
        missed = if client.has_host() {
            0
        } else {
            missed.saturating_add(1)
        };
        if missed == 2 {
            say(HOST_LEFT);
        }
    }
}

/// Watches a task until it ends. With `--json`, the output of the task is not shown, because
/// standard output is for the task as JSON.
pub(super) async fn watch(session: &Session, task: &Delegated) -> Result<Watched, Failure> {
    let mut interrupts = interrupts()?;
    let screen = RefCell::new(Screen::new());
    let shows_output = !session.json && task.class == Class::Command;
    let task = task.id.as_str();
    let mut staying = Box::pin(stay(session, task, shows_output, &screen));
    tokio::select! {
        done = &mut staying => return done,
        _ = interrupts.recv() => screen.borrow_mut().spinner.clear(),
    }
    output::say("detached; the task continues. Ctrl-C again to cancel it");
    tokio::select! {
        _ = interrupts.recv() => {}
        () = clock::sleep(SECOND_THOUGHT) => return Ok(Watched::Detached),
    }
    session
        .client()
        .cancel(task, Some("interrupted".to_owned()))
        .await?;
    output::say("cancelling; Ctrl-C again to stop waiting");
    tokio::select! {
        done = &mut staying => done,
        _ = interrupts.recv() => {
            screen.borrow_mut().spinner.clear();
            Ok(Watched::Detached)
        }
    }
}

pub(super) fn interrupts() -> Result<Signal, Failure> {
    let cannot = |error| {
        AppError::new(
            ErrorKind::Internal,
            format!("cannot listen for Ctrl-C: {error}"),
        )
    };
    Ok(signal(SignalKind::interrupt()).map_err(cannot)?)
}

/// Shows the output, and waits until both the output and the task have ended.
async fn stay(
    session: &Session,
    task: &str,
    shows_output: bool,
    screen: &RefCell<Screen>,
) -> Result<Watched, Failure> {
    let client = session.client();
    let waiter = session::enclosing_attempt();
    let moving = screen.borrow().spinner.is_shown();
    let interval = if moving { LOOK_INTERVAL } else { LONGEST_WAIT };
    let end = async {
        let each = |seen: Seen<'_>| match seen {
            Seen::Task(task) => screen.borrow_mut().progress.note(task),
            Seen::HostLeft => screen.borrow_mut().say(HOST_LEFT),
            Seen::HostStopped(pid) => screen.borrow_mut().say_stopped(pid),
        };
        Ok::<_, Failure>(
            client
                .wait_done(task, waiter.as_deref(), interval, each)
                .await?,
        )
    };
    let output = async {
        if shows_output {
            show(client, task, screen).await
        } else {
            Ok(())
        }
    };
    // The output ends when the task ends. If there is no spinner to update and no slot to free, the
    // wait for the end of the task begins only after the output. This saves a connection for each
    // of the many commands that may wait at the same time.
    let in_turn = shows_output && !moving && waiter.is_none();
    // An error while writing the output ends the wait too.
    let both = async {
        if in_turn {
            // Reading the output says nothing about a host that has left.
            let say = |text: &str| screen.borrow_mut().say(text);
            tokio::select! {
                shown = output => shown?,
                never = tell_host_left(client, say) => match never {},
            }
            return Ok((end.await?, ()));
        }
        tokio::try_join!(end, output)
    };
    let tasks = [task.to_owned()];
    let both = Box::pin(async {
        tokio::select! {
            ended = both => ended,
            never = tell_obstacles(session, &tasks, |text| screen.borrow_mut().say(text)) => {
                match never {}
            }
        }
    });
    let explaining = async {
        loop {
            clock::sleep(EXPLAIN_EVERY).await;
            // If the host cannot explain the wait now, it is asked again later.
            if let Ok(why) = client.why(task).await {
                screen.borrow_mut().progress.note_brief(why.brief);
            }
        }
    };
    let ticking = async {
        loop {
            clock::sleep(TICK).await;
            screen.borrow_mut().tick();
        }
    };
    let ended = if moving {
        tokio::select! {
            ended = both => ended,
            () = ticking => return Ok(Watched::Detached),
            () = explaining => return Ok(Watched::Detached),
        }
    } else {
        both.await
    };
    screen.borrow_mut().spinner.clear();
    let (task, ()) = ended?;
    Ok(Watched::Done(Box::new(task)))
}

async fn show(client: &Client, task: &str, screen: &RefCell<Screen>) -> Result<(), Failure> {
    let query = LogQuery {
        attempt: Some(1),
        follow: true,
        ..LogQuery::default()
    };
    let mut follower = client.follow(task, query);
    loop {
        match follower.next().await {
            Ok(Some(piece)) => screen.borrow_mut().show(&piece)?,
            Ok(None) => return Ok(()),
            // The wait for the end reports the same error with more detail.
            Err(ClientError::Refused(error)) if error.kind == ErrorKind::Unavailable => {
                return Ok(());
            }
            Err(ClientError::Stopped(pid)) => {
                screen.borrow_mut().say_stopped(pid);
                client.continued().await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Writes a piece of output to its stream, byte for byte.
pub(super) fn write(piece: &Followed) -> io::Result<()> {
    match piece {
        Followed::Bytes(LogChannel::Stdout, bytes) => stdout::write(bytes),
        Followed::Bytes(LogChannel::Stderr, bytes) => io::stderr().lock().write_all(bytes),
        // The caller draws items.
        Followed::Items(_) => Ok(()),
        Followed::Gap(bytes) => {
            output::say(&gap_text(*bytes));
            Ok(())
        }
    }
}

/// The terminal, shared by the output and the spinner.
struct Screen {
    spinner: Spinner,
    progress: OfTask,
    /// Whether the last line of output has no newline yet, so that a spinner would overwrite it.
    in_line: bool,
    stopped: StoppedHost,
}

impl Screen {
    fn new() -> Self {
        Self {
            spinner: Spinner::on_terminal(),
            progress: OfTask::new(),
            in_line: false,
            stopped: StoppedHost::default(),
        }
    }

    fn show(&mut self, piece: &Followed) -> io::Result<()> {
        self.spinner.clear();
        if let Followed::Bytes(_, bytes) = piece
            && let Some(last) = bytes.last()
        {
            self.in_line = *last != b'\n';
        }
        write(piece)
    }

    fn tick(&mut self) {
        if !self.in_line {
            self.spinner.draw(&self.progress.text());
        }
    }

    fn say(&mut self, text: &str) {
        self.spinner.clear();
        output::say(text);
    }

    fn say_stopped(&mut self, pid: u32) {
        if let Some(text) = self.stopped.text(pid) {
            self.say(&text);
        }
    }
}

/// The message while the host is stopped by a signal.
pub(super) fn host_stopped(pid: u32) -> String {
    format!(
        "the host (pid {pid}) is stopped by a signal; `kill -CONT {pid}` continues it, and this wait"
    )
}

/// Whether several waits of one command have reported that their host is stopped by a signal.
#[derive(Default)]
pub(super) struct StoppedHost {
    /// The time of the last report.
    reported: Option<Duration>,
}

impl StoppedHost {
    /// The message; `None` if it was just shown for another wait.
    pub(super) fn text(&mut self, pid: u32) -> Option<String> {
        let now = clock::monotonic();
        let reported = self.reported.replace(now);
        reported
            .is_none_or(|reported| now > reported + SAID_ONCE)
            .then(|| host_stopped(pid))
    }
}

/// Prints the result of an agent to standard output.
pub(super) fn show_result(task: &TaskView) -> Result<(), Failure> {
    let Some(result) = result(task) else {
        return Ok(());
    };
    if io::stdout().is_terminal() {
        return output::text(&format!("{}\n", result.trim_end_matches('\n')));
    }
    let end = if result.ends_with('\n') { "" } else { "\n" };
    output::bytes(format!("{result}{end}").as_bytes())
}

/// The result that the executor gave. If there is none, the output of a task that succeeded. The
/// output of a failed agent is shown by `logs`.
fn result(task: &TaskView) -> Option<&str> {
    let outputs = task.outputs.as_ref();
    let given = outputs.and_then(|outputs| outputs.get("result")?.as_str());
    let succeeded = task.outcome.as_deref() == Some("succeeded");
    given
        .or_else(|| task.output.as_deref().filter(|_| succeeded))
        .filter(|text| !text.is_empty())
}

/// The detail of a merge that succeeded, if there is something to say besides its success.
fn remark(task: &TaskView) -> Option<&str> {
    let merge = task.merge.as_ref().filter(|merge| merge.has_remark());
    merge.map(|merge| merge.detail.as_str())
}

/// Reports on standard error how a task ended, what there is to say about its merge, which tools it
/// was denied, and what to do next. The success of a command is not reported, because its output
/// shows the success. The cost and the changes of an agent are reported if standard error is a
/// terminal, or if there are doubts about the success.
pub(super) fn say_how_it_ended(task: &TaskView, class: Class) {
    let is_agent = class == Class::Agent;
    if task.outcome.as_deref() != Some("succeeded") {
        output::say(&text::ended(task));
    }
    let is_told = io::stderr().is_terminal() || !text::doubts(task).is_empty();
    if is_agent && is_told {
        output::say(&text::glance(task, text::now()));
    }
    if let Some(detail) = remark(task) {
        output::say(detail);
    }
    if let Some(denied) = status::denied(task) {
        output::say(&format!("denied: {denied}"));
    }
    if let Some(hint) = &task.hint {
        output::say(&format!("hint: {hint}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::cli::exit::tests::task;

    #[test]
    fn a_merge_is_mentioned_if_there_is_more_to_say_than_its_success() {
        let check = |detail: &str, expected: Option<&str>| {
            let merge =
                serde_json::json!({"strategy": "auto", "state": "merged", "detail": detail});
            let json = serde_json::json!({"merge": merge});
            assert_eq!(remark(&task(json)), expected);
        };
        check("merged `a` into `b`", None);
        let more = "merged `a` into `b`; these files were changed: file";
        check(more, Some(more));
    }

    #[test]
    fn the_result_is_that_of_the_executor_or_else_the_output_of_a_success() {
        let check = |json: serde_json::Value, expected: Option<&str>| {
            assert_eq!(result(&task(json)), expected);
        };
        let json = |outcome: &str, outputs: serde_json::Value| serde_json::json!({"outcome": outcome, "output": "bytes", "outputs": outputs});
        let given = serde_json::json!({"result": "done", "num_turns": 3});
        check(json("succeeded", given.clone()), Some("done"));
        check(json("failed", given), Some("done"));
        let other = serde_json::json!({"result": {"no": "text"}});
        check(json("succeeded", other.clone()), Some("bytes"));
        check(json("cancelled", other), None);
        check(json("failed", serde_json::Value::Null), None);
        check(json("succeeded", serde_json::json!({"result": ""})), None);
    }
}

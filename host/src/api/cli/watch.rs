//! Staying with a task: its output as it comes, its state while it says nothing, and what Ctrl-C
//! means.
//!
//! What an agent's program writes is for its executor to read. Of such a task the executor's own
//! word on what it is doing is shown, and its result at the end; nothing here knows what any agent
//! prints, and `logs` has every byte of it.

use std::{
    cell::RefCell,
    io::{self, IsTerminal, Write},
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
    status, text,
};
use crate::{
    api::{
        client::{Client, ClientError, Followed, Seen},
        rest::LONGEST_WAIT,
    },
    app::{AppError, Delegated, ErrorKind, LogChannel, LogQuery, TaskView},
    clock,
};

/// How often the state is looked at for the spinner. A pipe has none, and waits for the end alone.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
pub(super) const TICK: Duration = Duration::from_millis(100);
/// How often it is asked what a task waits for.
pub(super) const EXPLAIN_EVERY: Duration = Duration::from_secs(1);
/// What is said while nobody can tell more of a task.
pub(super) const HOST_LEFT: &str = "no host is running; waiting for the next one";
/// How long a second Ctrl-C still means the task and not the shell.
const SECOND_THOUGHT: Duration = Duration::from_secs(2);

/// How staying with a task ended.
pub(super) enum Watched {
    Done(Box<TaskView>),
    /// The person left; the task goes on.
    Detached,
}

/// Stays with a task to its end. With `--json` its output is not shown: the answer is the task.
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
        _ = interrupts.recv() => Ok(Watched::Detached),
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

/// The task's output and its end, whichever way they come; the end is the last.
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
    // Output comes to its end with the task. Without a spinner to be fed, and a slot to be given
    // free, one connection is enough, and a fan-out has many commands that wait.
    let in_turn = shows_output && !moving && waiter.is_none();
    // Output that nobody reads any more ends the waiting as well.
    let both = async {
        if in_turn {
            output.await?;
            return Ok((end.await?, ()));
        }
        tokio::try_join!(end, output)
    };
    let explaining = async {
        loop {
            clock::sleep(EXPLAIN_EVERY).await;
            // What cannot be explained now is later.
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
            // The wait for the task's end says the same, better.
            Err(ClientError::Refused(error)) if error.kind == ErrorKind::Unavailable => {
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Writes a piece of output where it belongs, byte for byte.
pub(super) fn write(piece: &Followed) -> io::Result<()> {
    match piece {
        Followed::Bytes(LogChannel::Stdout, bytes) => {
            let mut stdout = io::stdout().lock();
            stdout.write_all(bytes)?;
            stdout.flush()
        }
        Followed::Bytes(LogChannel::Stderr, bytes) => io::stderr().lock().write_all(bytes),
        // They are drawn by who asks for them.
        Followed::Items(_) => Ok(()),
        Followed::Gap(bytes) => {
            output::say(&format!(
                "[claudine: {bytes} bytes left out here: over --max-output]"
            ));
            Ok(())
        }
    }
}

/// The terminal, shared by output and spinner.
struct Screen {
    spinner: Spinner,
    progress: OfTask,
    /// The output's last line has not ended: a spinner would write over it.
    in_line: bool,
}

impl Screen {
    fn new() -> Self {
        Self {
            spinner: Spinner::on_terminal(),
            progress: OfTask::new(),
            in_line: false,
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
}

/// What an agent answered: its result, to standard output.
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

/// The text that an executor gives as its result. Without one, the output of what succeeded; what a
/// failed agent has written is for `logs`.
fn result(task: &TaskView) -> Option<&str> {
    let outputs = task.outputs.as_ref();
    let given = outputs.and_then(|outputs| outputs.get("result")?.as_str());
    let succeeded = task.outcome.as_deref() == Some("succeeded");
    given
        .or_else(|| task.output.as_deref().filter(|_| succeeded))
        .filter(|text| !text.is_empty())
}

/// On standard error: how a task ended, what it was denied, and what can be done about it. Of what
/// went well only a person at a terminal is told, and only of agents: a command has said all
/// itself.
pub(super) fn say_how_it_ended(task: &TaskView, class: Class) {
    let is_agent = class == Class::Agent;
    if task.outcome.as_deref() != Some("succeeded") {
        output::say(&text::ended(task));
    }
    let is_told = io::stderr().is_terminal() || !text::doubts(task).is_empty();
    if is_agent && is_told {
        output::say(&text::glance(task, text::now()));
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
    fn the_result_of_an_agent_is_what_its_executor_says() {
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

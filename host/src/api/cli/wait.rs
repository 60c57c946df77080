//! `claudine wait`

use std::{
    cell::RefCell,
    io::{self, IsTerminal},
    process::ExitCode,
    time::Duration,
};

use clap::Args;
use futures_util::StreamExt;

use super::{
    exit,
    failure::{Failure, unless_closed},
    named, output, parse,
    progress::OfMany,
    select::Selectors,
    session::{self, Session},
    spinner::Spinner,
    terminal::Look,
    text,
    watch::{EXPLAIN_EVERY, HOST_LEFT, SAID_ONCE, StoppedHost, TICK, interrupts, tell_obstacles},
};
use crate::{
    api::{client::Seen, rest::LONGEST_WAIT, status},
    app::{ChangesQuery, TaskRow, TaskView},
    clock,
};

/// Wait for tasks and exit with their exit code.
///
/// Prints a line for each task that ends. The exit code is that of the first task that did not
/// succeed. --graph, --state and --failed include finished tasks, other selections do not. If this
/// command runs within a task, the slot of that task is free meanwhile.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  claudine wait build test && claudine run -- ./deploy
  claudine wait --graph release
  claudine wait --timeout 10m \"$id\" || claudine logs --tail 20 \"$id\"")]
pub(super) struct Wait {
    /// Ids, ends of ids or names; `-` for standard input.
    #[arg(value_name = "ID")]
    tasks: Vec<String>,
    /// Give up after this time with exit code 124; tasks continue.
    #[arg(short, long, value_name = "DURATION", value_parser = parse::duration)]
    timeout: Option<Duration>,
    /// All unfinished tasks.
    #[arg(long, help_heading = "Selection")]
    all: bool,
    #[command(flatten)]
    which: Selectors,
}

impl Wait {
    pub(super) async fn run(self, session: &Session) -> Result<ExitCode, Failure> {
        // Looks up each task once before the timeout applies, so that a task that has ended before
        // this command counts as ended, however short the timeout is.
        let mut tasks = Vec::new();
        for task in &self.meant(session).await? {
            tasks.push(session.client().status(task).await?);
        }
        let screen = RefCell::new(Screen {
            spinner: Spinner::on_terminal(),
            progress: OfMany::new(tasks.iter().map(|task| task.row.clone())),
            host_left: None,
            stopped: StoppedHost::default(),
        });
        let is_shown = screen.borrow().spinner.is_shown() && tasks.iter().any(is_open);
        let ids: Vec<String> = tasks.iter().map(|task| task.id.clone()).collect();
        let waiting = async {
            let say = |text: &str| screen.borrow_mut().say(text);
            let waiting = async {
                tokio::select! {
                    ended = all(session, tasks, &screen) => ended,
                    never = tell_obstacles(session, &ids, say) => match never {},
                }
            };
            match self.timeout {
                None => Some(waiting.await),
                Some(limit) => clock::within(limit, waiting).await,
            }
        };
        let ended = if is_shown {
            let mut interrupts = interrupts()?;
            tokio::select! {
                ended = waiting => ended,
                () = show(session, &screen) => None,
                _ = interrupts.recv() => {
                    screen.borrow_mut().spinner.clear();
                    return Ok(status::INTERRUPTED.into());
                }
            }
        } else {
            waiting.await
        };
        screen.borrow_mut().spinner.clear();
        let Some(ended) = ended else {
            output::say("not all tasks have ended within this time; they continue");
            return Ok(status::TIMED_OUT.into());
        };
        let ended = ended?;
        if session.json {
            unless_closed(output::json(&ended))?;
        }
        Ok(ended
            .iter()
            .map(|task| exit::of_task(task))
            .find(|code| *code != 0)
            .unwrap_or(0)
            .into())
    }
}

fn is_open(task: &TaskView) -> bool {
    task.outcome.is_none()
}

impl Wait {
    /// The named tasks, or the selected ones. A selection without a graph and without a state means
    /// unfinished tasks only.
    async fn meant(&self, session: &Session) -> Result<Vec<String>, Failure> {
        match (self.tasks.is_empty(), self.which.are_none() && !self.all) {
            (false, true) => return named::several(self.tasks.clone()),
            (true, false) => {}
            (is_empty, _) => {
                let message = if is_empty {
                    "nothing to wait for: name tasks, select some (--label, --graph, …), or \
                     give --all"
                } else {
                    "tasks to wait for are either named or selected, not both"
                };
                return Err(Failure::Usage(message.to_owned()));
            }
        }
        let mut filter = self.which.clone().filter();
        if filter.graph.is_none() && filter.state.is_empty() {
            filter.state.push("active".to_owned());
        }
        let tasks = session.client().list_all(filter).await?;
        let mut ids: Vec<String> = tasks.into_iter().map(|task| task.id).collect();
        if ids.is_empty() {
            output::say("no task matches");
        }
        ids.reverse();
        Ok(ids)
    }
}

/// Limit of concurrent waits, because each takes a connection to the host. The tasks named first
/// are waited for first.
const SIDE_BY_SIDE: usize = 16;
/// Pause between two requests for changes.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Waits for all tasks, and prints a line for each as it ends. Tasks are addressed by id, because a
/// name may mean another task later. The result is in the order in which the tasks were named.
async fn all(
    session: &Session,
    tasks: Vec<TaskView>,
    screen: &RefCell<Screen>,
) -> Result<Vec<TaskView>, Failure> {
    let count = tasks.len();
    let waits = tasks
        .into_iter()
        .enumerate()
        .map(|(place, seen)| async move {
            let ended = one(session, seen, screen).await?;
            Ok::<_, Failure>((place, ended))
        });
    let mut waits = futures_util::stream::iter(waits).buffer_unordered(SIDE_BY_SIDE);
    let mut ended: Vec<Option<TaskView>> = std::iter::repeat_with(|| None).take(count).collect();
    while let Some(one) = waits.next().await {
        let (place, task) = one?;
        screen.borrow_mut().note_end(&task.id);
        if !session.json {
            unless_closed(tell_end(&task))?;
        }
        ended[place] = Some(task);
    }
    Ok(ended.into_iter().flatten().collect())
}

/// Prints a line for a finished task; on a terminal, with a symbol.
pub(super) fn tell_end(task: &TaskRow) -> Result<(), Failure> {
    if io::stdout().is_terminal() {
        output::painted(&text::ended_painted(task, Look::of_stdout()))
    } else {
        output::line(&text::ended(task))
    }
}

async fn one(
    session: &Session,
    seen: TaskView,
    screen: &RefCell<Screen>,
) -> Result<TaskView, Failure> {
    if seen.outcome.is_some() {
        return Ok(seen);
    }
    let waiter = session::enclosing_attempt();
    let each = |seen: Seen<'_>| match seen {
        Seen::Task(_) => {}
        Seen::HostLeft => screen.borrow_mut().say_host_left(),
        Seen::HostStopped(pid) => screen.borrow_mut().say_stopped(pid),
    };
    let client = session.client();
    Ok(client
        .wait_done(&seen.id, waiter.as_deref(), LONGEST_WAIT, each)
        .await?)
}

/// Updates the progress line for as long as the future is polled.
async fn show(session: &Session, screen: &RefCell<Screen>) {
    let client = session.client();
    let looking = async {
        let mut after = None;
        loop {
            let query = ChangesQuery {
                after,
                timeout_ms: Some(1_000),
            };
            match client.changes(query).await {
                Ok(overview) => {
                    after = Some(overview.sequence);
                    screen.borrow_mut().progress.note(overview.tasks);
                }
                // Nothing is reported here if no host answers, because the waits report it.
                Err(_) => after = None,
            }
            clock::sleep(LOOK_EVERY).await;
        }
    };
    let explaining = async {
        loop {
            let waiting = screen.borrow().progress.waiting();
            for id in waiting {
                // If the host cannot explain the wait now, it is asked again later.
                if let Ok(why) = client.why(&id).await {
                    screen.borrow_mut().progress.note_brief(&id, why.brief);
                }
            }
            clock::sleep(EXPLAIN_EVERY).await;
        }
    };
    let ticking = async {
        loop {
            clock::sleep(TICK).await;
            screen.borrow_mut().draw();
        }
    };
    let ((), (), ()) = tokio::join!(looking, explaining, ticking);
}

/// The terminal during a wait.
struct Screen {
    spinner: Spinner,
    progress: OfMany,
    /// The last time at which the missing host was reported.
    host_left: Option<Duration>,
    stopped: StoppedHost,
}

impl Screen {
    fn draw(&mut self) {
        self.spinner.draw(&self.progress.text(text::now()));
    }

    fn note_end(&mut self, id: &str) {
        self.spinner.clear();
        self.progress.note_end(id);
    }

    /// Reports once for all waits that no host is running.
    fn say_host_left(&mut self) {
        let now = clock::monotonic();
        let said = self.host_left.replace(now);
        if said.is_none_or(|said| now > said + SAID_ONCE) {
            self.say(HOST_LEFT);
        }
    }

    fn say_stopped(&mut self, pid: u32) {
        if let Some(text) = self.stopped.text(pid) {
            self.say(&text);
        }
    }

    fn say(&mut self, text: &str) {
        self.spinner.clear();
        output::say(text);
    }
}

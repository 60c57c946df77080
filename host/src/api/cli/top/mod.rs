//! `claudine top`. On a terminal, plain `claudine` runs `top --once`.
//!
//! [`model`] holds the state, [`draw`] turns the state into lines, and [`screen`] writes the
//! changed cells to the terminal. This module asks the host for changes since the last event, and
//! for the last output lines of one task. While nothing changes and no task runs, nothing is
//! written, and only the request for changes is repeated.

mod draw;
mod model;
mod screen;

use std::{
    io::{self, IsTerminal},
    pin::Pin,
    process::ExitCode,
    time::Duration,
};

use clap::Args;
use crossterm::event::{Event, EventStream, KeyEventKind};
use futures_util::{StreamExt, stream::FuturesUnordered};
use rustix::process::{Signal, getpid, kill_process};
use tokio::signal::unix::{self, SignalKind, signal};

use self::{
    model::{Mode, Model, Text, Wish},
    screen::Screen,
};
use super::{
    failure::Failure,
    output,
    session::Session,
    terminal::{self, Look},
    text, times,
};
use crate::{
    api::client::{Client, ClientError, Policy},
    app::{
        Action, AppError, ChangesQuery, EndQuery, ErrorKind, ListFilter, LogEnd, Overview,
        TaskActions, TaskRef,
    },
    clock,
    text::{Painted, short_id},
};

/// Pause after an answer, so that frequent changes are shown together.
const PAUSE: Duration = Duration::from_millis(250);
/// Pause before the next request if a request for changes has failed.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Time limit of a request for changes. A change that is not an event, such as a pause of the
/// queue, is shown within this time.
const LONGEST_SILENCE: Duration = Duration::from_secs(10);
const TICK: Duration = Duration::from_secs(1);
/// Number of output lines that are read to be shown below the tasks.
const TAIL_LINES: u64 = 40;
/// Number of output lines that are read to be shown on the whole screen.
const LOG_LINES: u64 = 2_000;

/// Show running, waiting and recent tasks live.
#[derive(Debug, Args)]
#[command(after_help = "\
Keys: ↑ ↓ select, enter output, c cancel, r retry, h hold, w why, / filter,
? help, q quit

Examples:
  claudine top
  claudine top --once")]
pub(super) struct Top {
    /// Print once and exit (default without a terminal).
    #[arg(long)]
    once: bool,
    /// Whether `top` runs because `claudine` was called without a command. If so, a hint to the
    /// help is shown.
    #[arg(skip)]
    pub(super) points_to_help: bool,
}

impl Top {
    /// The live view of `claudine list --watch`.
    pub(super) fn live() -> Self {
        Self {
            once: false,
            points_to_help: false,
        }
    }

    pub(super) async fn run(self, session: &Session) -> Result<ExitCode, Failure> {
        let stays = io::stdout().is_terminal() && io::stdin().is_terminal();
        if session.json {
            let all = ListFilter::default();
            output::json(&session.client().overview(&all).await?)?;
        } else if self.once || !stays || terminal::is_dumb_terminal() {
            print_once(session).await?;
        } else {
            stay(session).await?;
        }
        if self.points_to_help {
            output::say("claudine top shows this live; claudine --help lists the commands");
        }
        Ok(ExitCode::SUCCESS)
    }
}

async fn print_once(session: &Session) -> Result<(), Failure> {
    let mut model = Model::new();
    model.apply(session.client().overview(&ListFilter::default()).await?);
    model.select_none();
    let look = Look::of_stdout();
    let mut text = Painted::default();
    for row in draw::once(&mut model, look, times::now()) {
        for piece in row.pieces {
            match piece.colour {
                Some(colour) => look.paint(&mut text, colour, &piece.text),
                None => text.push(&piece.text),
            }
        }
        text.push("\n");
    }
    output::painted(&text)
}

async fn stay(session: &Session) -> Result<(), Failure> {
    // Asks before switching the screen, so that an error is shown on the normal screen.
    let first = session.client().changes(changes_after(None)).await?;
    let signals = Signals::listen()?;
    let patient = session.client_with(|start| start.policy = Policy::Never);
    let mut view = View {
        client: session.client(),
        patient: &patient,
        had_database: patient.start().removed().is_none(),
        model: Model::new(),
        screen: Screen::enter()?,
        work: FuturesUnordered::new(),
        reading: None,
    };
    view.model.apply(first);
    view.ask_for_changes(PAUSE);
    view.read_tail();
    view.tick();
    view.stay(signals).await
}

/// Asks for changes since an event, or for everything.
fn changes_after(after: Option<u64>) -> ChangesQuery {
    ChangesQuery {
        after,
        timeout_ms: u64::try_from(LONGEST_SILENCE.as_millis()).ok(),
    }
}

/// Results of background work.
enum News {
    Changes(Box<Overview>),
    /// No changes arrive, for this reason. If no host runs, the tasks were read from the database.
    Away(ClientError, Option<Result<Box<Overview>, ClientError>>),
    /// The last lines of a task's output.
    Tail(String, Result<LogEnd, ClientError>),
    Text(Text),
    Said(String),
    Tick,
}

type Work<'a> = FuturesUnordered<Pin<Box<dyn Future<Output = News> + 'a>>>;

struct View<'a> {
    /// For actions. Starts a host if none runs.
    client: &'a Client,
    /// For watching. Starts no host, so that a host that was stopped stays stopped.
    patient: &'a Client,
    /// Whether there was a database at the beginning.
    had_database: bool,
    model: Model,
    screen: Screen,
    work: Work<'a>,
    /// The task whose output is being read.
    reading: Option<String>,
}

/// Signals handled while the terminal is in raw mode.
struct Signals {
    ends: Vec<unix::Signal>,
    suspend: unix::Signal,
    resume: unix::Signal,
}

enum Signalled {
    End,
    Suspend,
    Resume,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        let ends = [
            SignalKind::terminate(),
            SignalKind::hangup(),
            SignalKind::interrupt(),
        ];
        Ok(Self {
            ends: ends.into_iter().map(signal).collect::<Result<_, _>>()?,
            suspend: signal(SignalKind::from_raw(libc::SIGTSTP))?,
            resume: signal(SignalKind::from_raw(libc::SIGCONT))?,
        })
    }

    async fn next(&mut self) -> Signalled {
        let ends = self.ends.iter_mut().map(|signal| Box::pin(signal.recv()));
        tokio::select! {
            _ = futures_util::future::select_all(ends) => Signalled::End,
            _ = self.suspend.recv() => Signalled::Suspend,
            _ = self.resume.recv() => Signalled::Resume,
        }
    }
}

impl<'a> View<'a> {
    async fn stay(mut self, mut signals: Signals) -> Result<(), Failure> {
        let mut events = EventStream::new();
        loop {
            self.draw()?;
            let goes_on = tokio::select! {
                event = events.next() => match event {
                    Some(event) => self.event(&event?)?,
                    // The terminal was closed.
                    None => false,
                },
                Some(news) = self.work.next() => {
                    self.take(news)?;
                    true
                }
                signalled = signals.next() => match signalled {
                    Signalled::End => false,
                    Signalled::Suspend => self.suspend()?,
                    Signalled::Resume => {
                        self.screen.resume()?;
                        true
                    }
                },
            };
            if !goes_on {
                Screen::leave();
                return Ok(());
            }
        }
    }

    fn draw(&mut self) -> io::Result<()> {
        let (width, height) = Screen::size();
        let rows = draw::screen(&mut self.model, width, height, times::now());
        self.screen.draw(&rows, (width, height))
    }

    /// Handles an event of the terminal; returns whether the view continues.
    fn event(&mut self, event: &Event) -> io::Result<bool> {
        let Event::Key(key) = event else {
            return Ok(true);
        };
        if key.kind == KeyEventKind::Release {
            return Ok(true);
        }
        let wish = self.model.key(*key);
        self.read_tail();
        match wish {
            Some(Wish::Quit) => return Ok(false),
            Some(Wish::Suspend) => return self.suspend(),
            Some(Wish::Redraw) => self.screen.forget(),
            Some(wish) => self.begin(wish),
            None => {}
        }
        Ok(true)
    }

    /// Restores the terminal and suspends this process until it is continued.
    fn suspend(&mut self) -> io::Result<bool> {
        Screen::leave();
        kill_process(getpid(), Signal::STOP)?;
        self.screen.resume()?;
        Ok(true)
    }

    fn begin(&mut self, wish: Wish) {
        let client = self.client;
        let work: Pin<Box<dyn Future<Output = News> + 'a>> = match wish {
            Wish::Quit | Wish::Suspend | Wish::Redraw => return,
            Wish::Act(action, task) => Box::pin(act(client, action, task)),
            Wish::Why(task) => Box::pin(why(client, task)),
            Wish::Logs(task) => Box::pin(logs(self.patient, task)),
        };
        self.work.push(work);
    }

    /// Shows what the background work has found. An error if nothing more can come.
    fn take(&mut self, news: News) -> Result<(), ClientError> {
        match news {
            News::Changes(told) => {
                self.model.apply(*told);
                self.ask_for_changes(PAUSE);
                self.read_tail();
            }
            News::Away(error, stored) => {
                let removed = self.patient.start().removed_since(self.had_database);
                if let Some(removed) = removed {
                    return Err(removed);
                }
                // If the read failed, the tasks that were read before stay on the screen.
                if let Some(Ok(stored)) = stored {
                    self.model.apply(*stored);
                }
                self.model.away = Some(away(&error));
                self.model.sequence = None;
                self.ask_for_changes(LOOK_AGAIN);
            }
            News::Tail(task, read) => {
                self.reading = None;
                // If the read failed, the lines that were read before stay on the screen. The
                // output is read again with the next change, because retrying at once would be a
                // busy loop.
                if let Ok(end) = read {
                    self.model.set_tail(task, draw::lines_of_end(&end));
                    self.read_tail_if_other();
                }
            }
            News::Text(text) => self.model.set_text(text),
            News::Said(said) => self.model.notice = Some(said),
            News::Tick => {
                self.tick();
                if self.model.is_running() {
                    self.read_tail();
                    self.read_on();
                }
            }
        }
        Ok(())
    }

    fn ask_for_changes(&self, pause: Duration) {
        let (client, reader) = (self.patient, self.client);
        let after = self.model.sequence.filter(|_| !self.model.wants_all());
        self.work.push(Box::pin(async move {
            clock::sleep(pause).await;
            match client.changes(changes_after(after)).await {
                Ok(changes) => News::Changes(Box::new(changes)),
                // The last host may have recorded changes without sending them. No host is started
                // for a request that only reads.
                Err(error @ ClientError::NotRunning { .. }) => {
                    let stored = reader.changes(changes_after(None)).await;
                    News::Away(error, Some(stored.map(Box::new)))
                }
                Err(error) => News::Away(error, None),
            }
        }));
    }

    fn tick(&self) {
        self.work.push(Box::pin(async {
            clock::sleep(TICK).await;
            News::Tick
        }));
    }

    /// Reads the last output lines of the selected task. Does nothing if a read is in progress or
    /// if the host does not answer.
    fn read_tail(&mut self) {
        let Some(task) = self.model.selected().map(|task| task.id.clone()) else {
            return;
        };
        if self.reading.is_some() || self.model.away.is_some() {
            return;
        }
        self.reading = Some(task.clone());
        let client = self.patient;
        self.work.push(Box::pin(async move {
            let end = end_of(client, &task, TAIL_LINES).await;
            News::Tail(task, end)
        }));
    }

    /// Reads the output again if another task was selected meanwhile.
    fn read_tail_if_other(&mut self) {
        if self.model.tail().is_none() {
            self.read_tail();
        }
    }

    /// Reads the output shown on the whole screen again.
    fn read_on(&self) {
        if let Mode::Text(text) = &self.model.mode
            && text.grows
        {
            self.work
                .push(Box::pin(logs(self.patient, text.task.clone())));
        }
    }
}

async fn act(client: &Client, action: Action, task: String) -> News {
    let asked = TaskActions {
        ids: vec![TaskRef(task.clone())],
        ..TaskActions::of(action)
    };
    let acted = client.act(&asked).await.map_err(AppError::from);
    let error = match acted {
        Ok(acted) => acted.tasks.into_iter().find_map(|task| task.error),
        Err(error) => Some(error),
    };
    News::Said(match error {
        None => format!("{} {}", action.past(), short_id(&task)),
        Some(error) => error.message,
    })
}

async fn why(client: &Client, task: String) -> News {
    match client.why(&task).await {
        Ok(why) => {
            let since = text::ago(&why.since, text::now());
            News::Text(Text {
                title: format!("{} is {}, for {since}", short_id(&task), why.state),
                lines: why.reasons,
                rows: 0,
                below: 0,
                grows: false,
                task,
            })
        }
        Err(error) => News::Said(AppError::from(error).message),
    }
}

async fn logs(client: &Client, task: String) -> News {
    match end_of(client, &task, LOG_LINES).await {
        Ok(end) => News::Text(Text {
            title: format!("Output of {}", short_id(&task)),
            lines: draw::lines_of_end(&end),
            rows: 0,
            below: 0,
            grows: true,
            task,
        }),
        Err(error) => News::Said(AppError::from(error).message),
    }
}

/// The last lines of a task's output, both streams in the order in which they were read.
async fn end_of(client: &Client, task: &str, lines: u64) -> Result<LogEnd, ClientError> {
    let query = EndQuery { lines: Some(lines) };
    client.log_end(task, query).await
}

/// The reason why no changes arrive.
fn away(error: &ClientError) -> String {
    match error {
        ClientError::NotRunning { .. } | ClientError::Cut { .. } => {
            "no host is running; waiting for one".to_owned()
        }
        ClientError::Refused(error) if error.kind == ErrorKind::Unavailable => {
            "the host went down; waiting for the next one".to_owned()
        }
        error => format!("the host does not answer: {error}"),
    }
}

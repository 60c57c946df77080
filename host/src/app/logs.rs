//! Reads the output of attempts from its files.

use std::sync::Arc;

use claudine_domain::{
    attempt::Attempt,
    id::AttemptId,
    task::{Class, Task},
};
use tokio::sync::mpsc;

use super::{
    error::{AppError, ErrorKind},
    host::Host,
    reader::unreadable,
    reading::{LogStream, Reading, Stop},
    request::{LogQuery, TaskRef},
    transcript::Items,
    view::{LogLines, LogPiece},
    written::{had_output, written_of},
};
use crate::{
    checkpoint::no_such_attempt,
    clock,
    command::supervised_by,
    fsx,
    supervise::log::{AsideReader, Begin, Channel, Piece},
    transcript::{Output, Reach, Wanted},
};

/// Maximum number of pieces read ahead of a slow client.
const AHEAD: usize = 2;
/// Time between two checks for the end of an attempt. The checks are needed because an attempt can
/// end without an event, for example if its account is at a usage limit.
const LOOK_AGAIN: std::time::Duration = std::time::Duration::from_secs(2);
/// Size limit of the last lines, because they are sent in one piece.
const LINES_MAX_BYTES: usize = 1 << 20;

/// The source of an attempt's output.
enum Source {
    Bytes(AsideReader),
    Items(Box<Items>),
}

impl Source {
    /// Sends everything up to the current end of the log.
    async fn send_all(&mut self, reading: &Reading) -> Result<(), Stop> {
        let log = match self {
            Self::Bytes(log) => log,
            Self::Items(items) => return items.send_all(reading).await,
        };
        loop {
            let read = log.next_pieces().await;
            let (pieces, more) = read.map_err(|error| unreadable(&error))?;
            for piece in pieces {
                reading.send(shown(piece)).await?;
            }
            if !more.map_err(|error| unreadable(&error))? {
                return Ok(());
            }
        }
    }
}

impl Host {
    /// Streams the output of a task from the given position, and with `follow` until the task is
    /// done. Reading stops when the receiver is dropped.
    pub(crate) async fn logs(
        self: Arc<Self>,
        reference: &TaskRef,
        query: LogQuery,
    ) -> Result<LogStream, AppError> {
        let channel = channel_of(query.stream.as_deref())?;
        let found = self.task_to_show(reference).await?;
        let is_agents = found.request.class == Class::Agent;
        let transcript = (query.transcript && is_agents).then(|| found.request.executor.clone());
        let begin = match (query.tail, query.offset, query.since_ms) {
            (None, None, None) => None,
            (Some(lines), None, None) => Some(Begin::LastLines(lines)),
            (None, Some(offset), None) => Some(Begin::Offset(offset)),
            (None, None, Some(ms)) => Some(Begin::Time(ms.saturating_mul(1000))),
            _ => {
                return Err(AppError::new(
                    ErrorKind::Invalid,
                    "a tail, an offset and a time exclude each other",
                ));
            }
        };
        let (task, number) = (found.id, attempt_of(&found, &query)?);
        // A reader that names the attempt to begin with, and follows, wants later output too.
        if !query.follow || query.attempt.is_none() {
            self.refuse_missing(&found, number).await?;
        }
        let (sender, receiver) = mpsc::channel(AHEAD);
        let reading = Reading {
            task,
            channel,
            follow: query.follow,
            transcript,
            sender,
        };
        let stderr_from = query.stderr_offset;
        let host = self.clone();
        self.reading.spawn(async move {
            let read = host.read_attempts(&reading, number, begin, stderr_from);
            let read = supervised_by(host.commands.clone(), read);
            if let Err(Stop::Error(error)) = read.await
                && reading.sender.send(Err(error)).await.is_err()
            {
                tracing::debug!("a reader of logs disconnected before it received an error");
            }
        });
        Ok(receiver)
    }

    /// Refuses to read the log of an attempt that has had output if somebody has removed the log.
    /// Otherwise the attempt would seem to have had no output, since such attempts have no log.
    async fn refuse_missing(&self, task: &Task, number: u32) -> Result<(), AppError> {
        let id = AttemptId {
            task: task.id,
            number,
        };
        let found = task.attempts.iter().find(|one| one.number == number);
        let begun = found.filter(|one| one.started_at.is_some() && !one.by_hand);
        let Some(begun) = begun.filter(|_| (self.held_back)(id).is_none()) else {
            return Ok(());
        };
        let had_output = had_output(task, begun);
        let missing = self.read(move |reader| {
            let logs = reader.layout.logs();
            let log = reader.log(id);
            // The host has made this directory at its start.
            let is_missing = had_output || fsx::is_missing(&logs);
            let is_missing = is_missing && !log.exists().map_err(|error| unreadable(&error))?;
            Ok(is_missing.then(|| (log.path().to_owned(), logs)))
        });
        let Some((log, logs)) = missing.await? else {
            return Ok(());
        };
        Err(AppError::new(
            ErrorKind::NotFound,
            format!(
                "the log of attempt {number} of task {:#} is missing: it was expected at {}; somebody may have removed it from {}, or the disk was too full for it",
                task.id,
                log.display(),
                logs.display()
            ),
        ))
    }

    /// Reads the output of one attempt. If the reader follows, continues with the later attempts
    /// until the task is done.
    async fn read_attempts(
        &self,
        reading: &Reading,
        first: u32,
        mut begin: Option<Begin>,
        mut stderr_from: Option<u64>,
    ) -> Result<(), Stop> {
        for number in first.. {
            let attempt = AttemptId {
                task: reading.task,
                number,
            };
            let begin = begin.take();
            self.read_attempt(reading, attempt, begin, stderr_from.take())
                .await?;
            if !reading.follow || self.is_last(attempt).await? {
                break;
            }
        }
        Ok(())
    }

    async fn read_attempt(
        &self,
        reading: &Reading,
        attempt: AttemptId,
        begin: Option<Begin>,
        stderr_from: Option<u64>,
    ) -> Result<(), Stop> {
        let mut reader = self.reader.log(attempt);
        if let Some(channel) = reading.channel {
            reader = reader.channel(channel);
        }
        let mut log = AsideReader::from(reader.sparing());
        let watch = reading.follow.then(|| self.watch.clone());
        let opened = log.read(move |reader| {
            let grown = watch.map(|watch| watch.subscribe(reader.path()));
            Ok(grown)
        });
        let grown = opened.await.map_err(|error| unreadable(&error))?;
        let mut source = if let Some(executor) = &reading.transcript {
            let output = Output {
                attempt,
                executor: executor.clone(),
                is_agents: true,
                is_whole: false,
                written: None,
            };
            let items = Items::begin(self, reading, log, output, begin, stderr_from);
            // Clients that disconnect at once must not begin any number of reads.
            let items = tokio::select! {
                items = items => items?,
                () = reading.sender.closed() => return Err(Stop::Unwanted),
            };
            Source::Items(Box::new(items))
        } else {
            if let Some(begin) = begin {
                let sender = reading.sender.clone();
                let begun =
                    log.read(move |reader| reader.begin_while(begin, || !sender.is_closed()));
                begun.await.map_err(|error| unreadable(&error))?;
            }
            Source::Bytes(log)
        };
        reading.send(LogPiece::Attempt(attempt.number)).await?;
        loop {
            // The end is checked before reading, so that all output before the end is read.
            let finished = self.engine.finish_of(attempt.task);
            let asks = reading.follow || matches!(source, Source::Items(_));
            let ended = asks && self.has_ended(attempt).await?;
            source.send_all(reading).await?;
            if let (true, Source::Items(items)) = (ended, &mut source) {
                items.send_held_back(reading).await?;
            }
            if ended || !reading.follow {
                return Ok(self.refuse_faulty(attempt).await?);
            }
            tokio::select! {
                () = async { match &grown { Some(grown) => grown.grown().await, None => std::future::pending().await } } => {}
                // If the engine has ended, `finished` fails and is ignored here, because the
                // connection ends together with the host.
                Ok(()) = finished => {}
                () = reading.sender.closed() => return Err(Stop::Unwanted),
                () = clock::sleep(LOOK_AGAIN) => {}
            }
        }
    }

    /// Refuses to show the log of an attempt as complete if something is wrong with it.
    async fn refuse_faulty(&self, id: AttemptId) -> Result<(), AppError> {
        let fault = self.read(move |reader| {
            let Some(task) = reader.store.task(id.task)? else {
                return Ok(None);
            };
            let fault = reader.fault(&task, id.number);
            fault.map_err(|error| unreadable(&error))
        });
        let Some(fault) = fault.await?.filter(|_| (self.held_back)(id).is_none()) else {
            return Ok(());
        };
        Err(AppError::new(
            ErrorKind::NotFound,
            format!(
                "the log of attempt {} of task {:#} is not what was written: {fault}; \
                 somebody may have changed it, or the machine lost its power",
                id.number, id.task
            ),
        ))
    }

    /// The output of an attempt, with how much there must be of it.
    pub(super) fn output_of(&self, task: &Task, number: u32) -> Output {
        let mut output = Output::of(task, number);
        let is_held_back = (self.held_back)(output.attempt).is_some();
        output.written = (!is_held_back).then(|| written_of(task, number));
        output
    }

    async fn has_ended(&self, attempt: AttemptId) -> Result<bool, AppError> {
        let Some(task) = self
            .read(move |reader| Ok(reader.store.task(attempt.task)?))
            .await?
        else {
            return Ok(true);
        };
        let this = task
            .attempts
            .iter()
            .find(|one| one.number == attempt.number);
        Ok(task.is_done() || this.is_some_and(|attempt| attempt.ended.is_some()))
    }

    /// Whether the task is done and has no later attempt. Also true if the task is no longer
    /// stored.
    async fn is_last(&self, attempt: AttemptId) -> Result<bool, AppError> {
        let Some(task) = self
            .read(move |reader| Ok(reader.store.task(attempt.task)?))
            .await?
        else {
            return Ok(true);
        };
        Ok(task.is_done()
            && task
                .last_run()
                .is_none_or(|last| last.number <= attempt.number))
    }

    /// The last lines of each stream of the last attempt that began, as text without colours.
    /// `None` if more must be read than the reach allows.
    pub(crate) async fn log_lines(
        &self,
        reference: &TaskRef,
        tail: u64,
        reach: Reach,
    ) -> Result<Option<LogLines>, AppError> {
        if reach.is_exceeded_by(tail) {
            return Ok(None);
        }
        let task = self.task_to_show(reference).await?;
        let number = attempt_of(&task, &LogQuery::default())?;
        self.refuse_missing(&task, number).await?;
        let output = self.output_of(&task, number);
        let wanted = Wanted {
            lines: tail,
            bytes: LINES_MAX_BYTES,
            reach,
        };
        let stdout = self.last_text(&output, Some(Channel::Stdout), wanted);
        let stdout = stdout.await?;
        let stderr = self.last_text(&output, Some(Channel::Stderr), wanted);
        let stderr = stderr.await?;
        let is_enough = stdout.is_enough && stderr.is_enough;
        Ok(is_enough.then(|| LogLines {
            id: task.id.to_string(),
            stdout: stdout.text,
            stderr: stderr.text,
            stdout_lines: stdout.lines,
            stderr_lines: stderr.lines,
            stdout_cut_bytes: stdout.cut_bytes,
            stderr_cut_bytes: stderr.cut_bytes,
        }))
    }
}

/// The number of the attempt: the requested one, or the last attempt that began. A reader that
/// follows may also request the attempt after the last one, and then waits until that attempt
/// begins.
fn attempt_of(task: &Task, query: &LogQuery) -> Result<u32, AppError> {
    let number = |attempt: &Attempt| attempt.number;
    let (last, last_run) = (
        task.last_attempt().map_or(0, number),
        task.last_run().map_or(0, number),
    );
    let furthest = if query.follow { last + 1 } else { last.max(1) };
    match query.attempt {
        None => Ok(last_run.max(1)),
        Some(number) if (1..=furthest).contains(&number) => Ok(number),
        Some(number) => {
            let task = task.id;
            let message = no_such_attempt(AttemptId { task, number }, last);
            Err(AppError::new(ErrorKind::NotFound, message))
        }
    }
}

fn channel_of(stream: Option<&str>) -> Result<Option<Channel>, AppError> {
    match stream {
        None => Ok(None),
        Some("stdout") => Ok(Some(Channel::Stdout)),
        Some("stderr") => Ok(Some(Channel::Stderr)),
        Some(other) => {
            let shown: String = other.chars().take(40).collect();
            Err(AppError::new(
                ErrorKind::Invalid,
                format!("stream `{shown}` is neither stdout nor stderr"),
            ))
        }
    }
}

fn shown(piece: Piece) -> LogPiece {
    match piece {
        Piece::Bytes {
            offset,
            channel,
            bytes,
            ..
        } => LogPiece::Bytes {
            channel: channel.into(),
            offset,
            bytes,
        },
        Piece::Gap { offset, bytes } => LogPiece::Gap { offset, bytes },
    }
}

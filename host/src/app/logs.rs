//! The output of attempts, read from its files.

use std::{io, sync::Arc};

use claudine_domain::{
    attempt::Attempt,
    id::{AttemptId, TaskId},
    task::Task,
};
use tokio::sync::mpsc;

use super::{
    error::{AppError, ErrorKind},
    host::Host,
    reader::unreadable,
    request::{LogQuery, TaskRef},
    view::{LogChannel, LogLines, LogPiece},
};
use crate::{
    clock,
    supervise::log::{AsideReader, Begin, Channel, LogReader, Piece},
};

/// Pieces that are read ahead of a slow client.
const AHEAD: usize = 16;
/// Read in one go: each change of thread costs more than a short piece.
const AT_ONCE_BYTES: usize = 256 << 10;
/// The end of an attempt that no event tells (it was parked) is noticed after so long.
const LOOK_AGAIN: std::time::Duration = std::time::Duration::from_secs(2);
/// The last lines are an answer in one piece, for whoever reads text.
const LINES_MAX_BYTES: usize = 1 << 20;

/// Output as it is read; an error ends it.
pub(crate) type LogStream = mpsc::Receiver<Result<LogPiece, AppError>>;

type Sender = mpsc::Sender<Result<LogPiece, AppError>>;

/// What is read, and for whom.
struct Reading {
    task: TaskId,
    channel: Option<Channel>,
    follow: bool,
    sender: Sender,
}

/// Why a reading stops.
enum Stop {
    Error(AppError),
    /// Whoever asked for it has gone.
    Unwanted,
}

impl From<AppError> for Stop {
    fn from(error: AppError) -> Self {
        Self::Error(error)
    }
}

impl Reading {
    async fn send(&self, piece: LogPiece) -> Result<(), Stop> {
        self.sender
            .send(Ok(piece))
            .await
            .map_err(|_| Stop::Unwanted)
    }

    /// Sends what there is, to where the log ends for now.
    async fn send_all(&self, log: &mut AsideReader) -> Result<(), Stop> {
        loop {
            let read = log.read(|reader| Ok(next_pieces(reader))).await;
            let (pieces, more) = read.map_err(|error| unreadable(&error))?;
            for piece in pieces {
                self.send(shown(piece)).await?;
            }
            // Of a damaged log all is shown that is before the damage.
            if !more.map_err(|error| unreadable(&error))? {
                return Ok(());
            }
        }
    }
}

/// The next pieces, and whether there may be more.
fn next_pieces(reader: &mut LogReader) -> (Vec<Piece>, io::Result<bool>) {
    let (mut pieces, mut bytes) = (Vec::new(), 0);
    while bytes < AT_ONCE_BYTES {
        match reader.next_piece() {
            Ok(Some(piece)) => {
                if let Piece::Bytes { bytes: piece, .. } = &piece {
                    bytes += piece.len();
                }
                pieces.push(piece);
            }
            Ok(None) => return (pieces, Ok(false)),
            Err(error) => return (pieces, Err(error)),
        }
    }
    (pieces, Ok(true))
}

impl Host {
    /// A task's output, from where it was asked, to its end if it is followed. The reading ends when the receiver is dropped.
    pub(crate) async fn logs(
        self: Arc<Self>,
        reference: &TaskRef,
        query: LogQuery,
    ) -> Result<LogStream, AppError> {
        let channel = channel_of(query.stream.as_deref())?;
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
        let found = self.task_to_show(reference).await?;
        let (task, number) = (found.id, attempt_of(&found, &query)?);
        let (sender, receiver) = mpsc::channel(AHEAD);
        let reading = Reading {
            task,
            channel,
            follow: query.follow,
            sender,
        };
        let host = self.clone();
        self.reading.spawn(async move {
            if let Err(Stop::Error(error)) = host.read_attempts(&reading, number, begin).await
                && reading.sender.send(Err(error)).await.is_err()
            {
                tracing::debug!("a reader of logs went away before its error");
            }
        });
        Ok(receiver)
    }

    /// One attempt, or, where the task is followed, one after the other until it is done.
    async fn read_attempts(
        &self,
        reading: &Reading,
        first: u32,
        mut begin: Option<Begin>,
    ) -> Result<(), Stop> {
        for number in first.. {
            let attempt = AttemptId {
                task: reading.task,
                number,
            };
            self.read_attempt(reading, attempt, begin.take()).await?;
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
    ) -> Result<(), Stop> {
        let mut reader = self.reader.log(attempt);
        if let Some(channel) = reading.channel {
            reader = reader.channel(channel);
        }
        let mut log = AsideReader::from(reader);
        let watch = reading.follow.then(|| self.watch.clone());
        let opened = log.read(move |reader| {
            let grown = watch.map(|watch| watch.subscribe(reader.path()));
            if let Some(begin) = begin {
                reader.begin(begin)?;
            }
            Ok(grown)
        });
        let grown = opened.await.map_err(|error| unreadable(&error))?;
        reading.send(LogPiece::Attempt(attempt.number)).await?;
        loop {
            // Asked before the reading: what an attempt wrote before it ended is read after.
            let finished = self.engine.finish_of(attempt.task);
            let over = !reading.follow || self.has_ended(attempt).await?;
            reading.send_all(&mut log).await?;
            if over {
                return Ok(());
            }
            tokio::select! {
                () = async { match &grown { Some(grown) => grown.grown().await, None => std::future::pending().await } } => {}
                // Where the engine has ended nobody is told any more; the reader's connection ends with the host.
                Ok(()) = finished => {}
                () = reading.sender.closed() => return Err(Stop::Unwanted),
                () = clock::sleep(LOOK_AGAIN) => {}
            }
        }
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

    /// Whether the task is done and has no later attempt.
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

    /// The last lines of each stream of the last attempt.
    pub(crate) async fn log_lines(
        &self,
        reference: &TaskRef,
        tail: u64,
    ) -> Result<LogLines, AppError> {
        let reference = reference.clone();
        self.read(move |reader| {
            let task = reader.task_to_show(&reference)?;
            let id = task.id;
            let number = attempt_of(&task, &LogQuery::default())?;
            let lines = |channel| {
                let log = reader.log(AttemptId { task: id, number });
                let log = log.channel(channel);
                log.last_lines(tail, LINES_MAX_BYTES)
                    .map_err(|error| unreadable(&error))
            };
            let (stdout, stderr) = (lines(Channel::Stdout)?, lines(Channel::Stderr)?);
            Ok(LogLines {
                id: id.to_string(),
                stdout: stdout.text,
                stderr: stderr.text,
                stdout_lines: stdout.lines,
                stderr_lines: stderr.lines,
                stdout_cut_bytes: stdout.cut_bytes,
                stderr_cut_bytes: stderr.cut_bytes,
            })
        })
        .await
    }
}

/// Which attempt is meant: the given one, else the last that began. One more than there are can be followed: it is waited for.
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
        Some(number) => Err(AppError::new(
            ErrorKind::NotFound,
            format!(
                "task {} has no attempt {number}; its last is {last}",
                task.id
            ),
        )),
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
        } => {
            let channel = match channel {
                Channel::Stdout => LogChannel::Stdout,
                Channel::Stderr => LogChannel::Stderr,
            };
            LogPiece::Bytes {
                channel,
                offset,
                bytes,
            }
        }
        Piece::Gap { offset, bytes } => LogPiece::Gap { offset, bytes },
    }
}

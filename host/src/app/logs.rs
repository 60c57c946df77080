//! The output of attempts, read from its files.

use std::collections::VecDeque;

use claudine_domain::id::{AttemptId, TaskId};
use tokio::sync::mpsc;

use super::{
    error::{AppError, ErrorKind},
    host::Host,
    request::{LogQuery, TaskRef},
};
use crate::{
    clock,
    supervise::log::{Begin, Channel, LogReader, Piece, gap_text},
};

/// Pieces that are read ahead of a slow client.
const AHEAD: usize = 16;
/// The end of an attempt that no event tells (it was parked) is noticed after so long.
const LOOK_AGAIN: std::time::Duration = std::time::Duration::from_secs(2);

/// A piece of output with its stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct LogChunk {
    pub(crate) channel: Channel,
    /// Of its first byte, among the bytes that were asked for.
    pub(crate) offset: u64,
    pub(crate) bytes: Vec<u8>,
}

/// Output as it is read; an error ends it.
pub(crate) type LogStream = mpsc::Receiver<Result<LogChunk, AppError>>;

/// The last lines of both streams.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct LogLines {
    pub(crate) stdout: Vec<String>,
    pub(crate) stderr: Vec<String>,
    /// How many lines there are in all.
    pub(crate) stdout_count: u64,
    pub(crate) stderr_count: u64,
}

impl Host {
    /// The output of one attempt, from where it was asked, to its end if it is followed. The reading ends when the receiver is dropped.
    pub(crate) async fn logs(
        self: std::sync::Arc<Self>,
        reference: &TaskRef,
        query: LogQuery,
    ) -> Result<LogStream, AppError> {
        let channel = channel_of(query.stream.as_deref())?;
        if query.tail.is_some() && query.offset.is_some() {
            return Err(AppError::new(
                ErrorKind::Invalid,
                "a tail and an offset exclude each other",
            ));
        }
        let id = self.resolve(reference).await?;
        let attempt = self.attempt_of(id, reference, query.attempt).await?;
        let (sender, receiver) = mpsc::channel(AHEAD);
        let host = self.clone();
        self.reading.spawn(async move {
            if let Err(error) = host.read_log(id, attempt, channel, &query, &sender).await
                && sender.send(Err(error)).await.is_err()
            {
                tracing::debug!("a reader of logs went away before its error");
            }
        });
        Ok(receiver)
    }

    /// Which attempt is meant: the given one, else the last that began; before the first there is nothing to read yet.
    async fn attempt_of(
        &self,
        id: TaskId,
        reference: &TaskRef,
        number: Option<u32>,
    ) -> Result<u32, AppError> {
        let task = self.task(id, reference).await?;
        let last = task.attempts.last().map_or(1, |attempt| attempt.number);
        match number {
            None => Ok(last),
            Some(number) if (1..=last).contains(&number) => Ok(number),
            Some(number) => Err(AppError::new(
                ErrorKind::NotFound,
                format!("task {id} has no attempt {number}; its last is {last}"),
            )),
        }
    }

    async fn read_log(
        &self,
        id: TaskId,
        number: u32,
        channel: Option<Channel>,
        query: &LogQuery,
        sender: &mpsc::Sender<Result<LogChunk, AppError>>,
    ) -> Result<(), AppError> {
        let attempt = AttemptId { task: id, number };
        let path = self.layout.log(attempt);
        let mut finished = self.engine.finished();
        let grown = if query.follow {
            Some(self.watch.subscribe(&path))
        } else {
            None
        };
        let mut reader = LogReader::new(&path);
        if let Some(channel) = channel {
            reader = reader.channel(channel);
        }
        let begin = match (query.tail, query.offset) {
            (Some(lines), _) => Some(Begin::LastLines(lines)),
            (None, Some(offset)) => Some(Begin::Offset(offset)),
            (None, None) => None,
        };
        if let Some(begin) = begin {
            reader.begin(begin).map_err(|error| unreadable(&error))?;
        }
        loop {
            // Asked before the reading: what an attempt wrote before it ended is read after.
            let over = !query.follow || self.has_ended(attempt).await?;
            while let Some(piece) = reader.next_piece().map_err(|error| unreadable(&error))? {
                if sender.send(Ok(chunk(piece))).await.is_err() {
                    return Ok(());
                }
            }
            if over {
                return Ok(());
            }
            tokio::select! {
                () = async { match &grown { Some(grown) => grown.grown().await, None => std::future::pending().await } } => {}
                _ = finished.recv() => {}
                () = sender.closed() => return Ok(()),
                () = clock::sleep(LOOK_AGAIN) => {}
            }
        }
    }

    async fn has_ended(&self, attempt: AttemptId) -> Result<bool, AppError> {
        let Some(task) = self.read(move |store| store.task(attempt.task)).await? else {
            return Ok(true);
        };
        let this = task
            .attempts
            .iter()
            .find(|one| one.number == attempt.number);
        Ok(task.is_done() || this.is_some_and(|attempt| attempt.ended.is_some()))
    }

    /// The last lines of each stream, and how many there are.
    pub(crate) async fn log_lines(
        &self,
        reference: &TaskRef,
        tail: u64,
    ) -> Result<LogLines, AppError> {
        let id = self.resolve(reference).await?;
        let number = self.attempt_of(id, reference, None).await?;
        let path = self.layout.log(AttemptId { task: id, number });
        blocking(move || {
            let counts = LogReader::new(&path).line_counts()?;
            let lines = |channel| -> std::io::Result<Vec<String>> {
                let mut reader = LogReader::new(&path).channel(channel);
                reader.begin(Begin::LastLines(tail))?;
                let mut text = Vec::new();
                while let Some(piece) = reader.next_piece()? {
                    text.extend(chunk(piece).bytes);
                }
                let text = String::from_utf8_lossy(&text);
                let mut lines: VecDeque<String> = text.lines().map(str::to_owned).collect();
                while lines.len() as u64 > tail {
                    lines.pop_front();
                }
                Ok(lines.into())
            };
            Ok(LogLines {
                stdout: lines(Channel::Stdout)?,
                stderr: lines(Channel::Stderr)?,
                stdout_count: counts.stdout,
                stderr_count: counts.stderr,
            })
        })
        .await
    }

    /// The end of what an attempt wrote to stdout, as text; and whether there is more before it.
    pub(super) async fn last_stdout(
        &self,
        attempt: AttemptId,
        most: u64,
    ) -> Result<(String, bool), AppError> {
        let path = self.layout.log(attempt);
        blocking(move || {
            let tail = LogReader::new(&path)
                .channel(Channel::Stdout)
                .tail(usize::try_from(most).unwrap_or(usize::MAX))?;
            Ok((
                String::from_utf8_lossy(&tail.bytes).into_owned(),
                tail.truncated,
            ))
        })
        .await
    }
}

async fn blocking<T: Send + 'static>(
    read: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, AppError> {
    match tokio::task::spawn_blocking(read).await {
        Ok(result) => result.map_err(|error| unreadable(&error)),
        Err(panic) => Err(AppError::new(
            ErrorKind::Internal,
            format!("reading a log failed: {panic}"),
        )),
    }
}

fn unreadable(error: &std::io::Error) -> AppError {
    AppError::new(
        ErrorKind::Internal,
        format!("the output cannot be read: {error}"),
    )
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

/// A gap is shown as a line of its own.
fn chunk(piece: Piece) -> LogChunk {
    match piece {
        Piece::Bytes {
            offset,
            channel,
            bytes,
            ..
        } => LogChunk {
            channel,
            offset,
            bytes,
        },
        Piece::Gap { offset, bytes } => LogChunk {
            channel: Channel::Stdout,
            offset,
            bytes: format!("\n{}\n", gap_text(bytes)).into_bytes(),
        },
    }
}

//! Reads the output of attempts in the readable form into which their executors convert it.

use std::io;

use claudine_domain::task::Class;

use super::{
    error::AppError,
    host::Host,
    reader::unreadable,
    reading::{Reading, Stop},
    request::{EndQuery, TaskRef},
    view::{Item, LogEnd, LogPiece, Place},
    written::begun,
};
pub(crate) use crate::transcript::{Reach, Style, lines_of};
use crate::{
    command::supervised_by,
    supervise::log::{AsideReader, Begin, Channel},
    transcript::{LastText, Output, Step, Transcriber, Wanted, line_at},
};

/// Default number of last lines.
const DEFAULT_LINES: u64 = 20;
/// Limit of the bytes of the last lines, to which the first of them adds a piece.
const END_BYTES: usize = 1 << 20;

/// The output of an agent's attempt as items.
pub(super) struct Items {
    log: AsideReader,
    transcriber: Transcriber,
    /// The items of a tail, which have been read already.
    read: Vec<Item>,
    /// The damage of the log that was found when they were read.
    damage: Option<io::Error>,
}

impl Items {
    /// Begins at the given position. A client may have read further in standard error than in
    /// standard output.
    pub(super) async fn begin(
        host: &Host,
        reading: &Reading,
        mut log: AsideReader,
        output: Output,
        begin: Option<Begin>,
        stderr_from: Option<u64>,
    ) -> Result<Self, AppError> {
        let mut transcriber = host.transcripts.transcriber(&output);
        let (mut read, mut damage) = (Vec::new(), None);
        match begin {
            None => {}
            Some(Begin::LastLines(lines)) => {
                let channel = reading.channel;
                let wanted = Wanted::lines(lines);
                let opening = host.transcripts.end(&output, channel, wanted, true);
                let opened = opening.await.map_err(|error| unreadable(&error))?;
                log = opened.log.sparing();
                (transcriber, read) = (opened.transcriber, opened.end.items);
                damage = opened.damage;
            }
            Some(Begin::Offset(stdout)) => {
                let stderr = stderr_from.unwrap_or(stdout);
                let from = Begin::Offset(stdout.min(stderr));
                let begun = log.read(move |reader| reader.begin(from)).await;
                begun.map_err(|error| unreadable(&error))?;
                transcriber = transcriber.from(Place { stdout, stderr });
            }
            Some(begin) => {
                let begun = log.read(move |reader| {
                    reader.begin(begin)?;
                    let at = reader.offset();
                    // An item that ends after this position may have begun before it, so reading
                    // begins at the start of the line.
                    let line = line_at(reader, at)?;
                    reader.begin(Begin::Offset(line.unwrap_or(at)))?;
                    Ok((at, line))
                });
                let (at, line) = begun.await.map_err(|error| unreadable(&error))?;
                transcriber = transcriber.from(Place {
                    stdout: line.unwrap_or(at),
                    stderr: at,
                });
                if line.is_none() {
                    transcriber = transcriber.in_line();
                }
            }
        }
        Ok(Self {
            log,
            transcriber,
            read,
            damage,
        })
    }

    /// Sends everything up to the current end of the log.
    pub(super) async fn send_all(&mut self, reading: &Reading) -> Result<(), Stop> {
        let items = std::mem::take(&mut self.read);
        if !items.is_empty() {
            let place = self.transcriber.place();
            reading.send(LogPiece::Items { items, place }).await?;
        }
        if let Some(error) = self.damage.take() {
            return Err(unreadable(&error).into());
        }
        // While a long line is read, nothing is sent, so only this check notices that the client
        // has left.
        while !reading.sender.is_closed() {
            let read = self.log.next_pieces().await;
            let (pieces, more) = read.map_err(|error| unreadable(&error))?;
            send(reading, self.transcriber.take(pieces).await).await?;
            if !more.map_err(|error| unreadable(&error))? {
                return Ok(());
            }
        }
        Err(Stop::Unwanted)
    }

    /// Sends the items that were held back until the end of the output.
    pub(super) async fn send_held_back(&mut self, reading: &Reading) -> Result<(), Stop> {
        send(reading, self.transcriber.end().await).await
    }
}

async fn send(reading: &Reading, steps: Vec<Step>) -> Result<(), Stop> {
    for step in steps {
        let piece = match step {
            Step::Items { items, place } => LogPiece::Items { items, place },
            Step::Gap { offset, bytes } => LogPiece::Gap { offset, bytes },
        };
        reading.send(piece).await?;
    }
    Ok(())
}

impl Host {
    /// The answer for a task of which no attempt has begun, so that there is nothing to read.
    pub(crate) async fn no_log_end(&self, reference: &TaskRef) -> Result<Option<LogEnd>, AppError> {
        let task = self.task_to_show(reference).await?;
        if begun(&task).is_some() {
            return Ok(None);
        }
        Ok(Some(LogEnd {
            id: task.id.to_string(),
            is_transcript: task.request.class == Class::Agent,
            items: Vec::new(),
            earlier_lines: Some(0),
            unread_bytes: 0,
        }))
    }

    /// The last lines of the last attempt that has begun. `None` if more must be read than the
    /// reach allows.
    pub(crate) async fn log_end(
        &self,
        reference: &TaskRef,
        query: EndQuery,
        reach: Reach,
    ) -> Result<Option<LogEnd>, AppError> {
        let lines = query.lines.unwrap_or(DEFAULT_LINES);
        if reach.is_exceeded_by(lines) {
            return Ok(None);
        }
        let task = self.task_to_show(reference).await?;
        let output = self.output_of(&task, begun(&task).unwrap_or(1));
        let wanted = Wanted {
            lines,
            bytes: END_BYTES,
            reach,
        };
        let ending = self.transcripts.end(&output, None, wanted, false);
        let ending = supervised_by(self.commands.clone(), Box::pin(ending));
        let opened = ending.await.map_err(|error| unreadable(&error))?;
        let end = opened.end;
        Ok(opened.is_enough.then(|| LogEnd {
            id: task.id.to_string(),
            is_transcript: output.is_agents,
            items: end.items,
            earlier_lines: end.earlier_lines,
            unread_bytes: end.unread_bytes,
        }))
    }

    /// The last lines as text without colours.
    pub(super) async fn last_text(
        &self,
        output: &Output,
        channel: Option<Channel>,
        wanted: Wanted,
    ) -> Result<LastText, AppError> {
        let ending = self.transcripts.last_text(output, channel, wanted);
        let ending = supervised_by(self.commands.clone(), Box::pin(ending));
        ending.await.map_err(|error| unreadable(&error))
    }
}

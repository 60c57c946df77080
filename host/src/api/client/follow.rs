//! Reads the output of a task as it is written, across restarts of the host.

use std::time::Duration;

use super::{
    Ask, Client, ClientError, address,
    frames::{ASK_AGAIN, Frames, TRIES},
    waiting::LOOK_AGAIN,
};
use crate::{
    api::rest::frame::Frame,
    app::{ErrorKind, Item, LogChannel, LogPiece, LogQuery},
    clock,
};

/// A piece of output to show.
#[derive(Clone, PartialEq, Debug)]
pub(in crate::api) enum Followed {
    Bytes(LogChannel, Vec<u8>),
    /// Items of an agent's transcript, if one was requested.
    Items(Vec<Item>),
    /// This many bytes are missing here.
    Gap(u64),
}

/// Reads the output of a task. If the connection breaks, the reader asks the next host for the
/// missing output, by attempt and offset.
pub(in crate::api) struct Follower<'a> {
    client: &'a Client,
    task: String,
    query: LogQuery,
    place: Place,
    open: Option<Frames>,
    /// Whether there was a database at the beginning.
    had_database: bool,
}

/// Position in the output, so that nothing is repeated or skipped.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Place {
    attempt: Option<u32>,
    /// Offset of the next byte, once a byte was read; in a transcript, the offset in standard
    /// output.
    offset: Option<u64>,
    /// In a transcript, the offset in standard error.
    stderr_offset: Option<u64>,
}

impl Place {
    fn pass(&mut self, piece: &LogPiece) {
        match piece {
            LogPiece::Attempt(number) => {
                // A later attempt is shown from its beginning, even if the first attempt was not.
                let later = self.attempt.is_some_and(|before| before != *number);
                *self = Self {
                    attempt: Some(*number),
                    offset: if later { Some(0) } else { self.offset },
                    stderr_offset: self.stderr_offset.filter(|_| !later),
                };
            }
            LogPiece::Items { place, .. } => {
                self.offset = Some(place.stdout);
                self.stderr_offset = Some(place.stderr);
            }
            LogPiece::Bytes { offset, bytes, .. } => {
                self.offset = Some(offset + bytes.len() as u64);
            }
            LogPiece::Gap { offset, bytes } => {
                self.offset = Some(offset + bytes);
                self.stderr_offset = None;
            }
        }
    }

    /// The request for the output that is still missing.
    fn rest(self, asked: &LogQuery) -> LogQuery {
        let attempt = self.attempt.or(asked.attempt);
        match self.offset {
            None => LogQuery {
                attempt,
                ..asked.clone()
            },
            Some(offset) => LogQuery {
                attempt,
                offset: Some(offset),
                stderr_offset: self.stderr_offset,
                tail: None,
                since_ms: None,
                ..asked.clone()
            },
        }
    }
}

/// Time between two checks whether the last host has crashed, while stored output is read without a
/// host.
const LOOK_FOR_LOST: Duration = Duration::from_secs(1);

impl Client {
    pub(in crate::api) fn follow(&self, task: &str, query: LogQuery) -> Follower<'_> {
        Follower {
            client: self,
            task: task.to_owned(),
            query,
            place: Place::default(),
            open: None,
            had_database: self.start.removed().is_none(),
        }
    }
}

impl Follower<'_> {
    /// The next piece, or `None` at the end.
    pub(in crate::api) async fn next(&mut self) -> Result<Option<Followed>, ClientError> {
        let mut fruitless = 0;
        loop {
            let frame = self.frame().await;
            // Without its database, a task is not found or seems to have ended.
            if !matches!(frame, Ok(Frame::Piece(_)))
                && let Some(removed) = self.client.start.removed_since(self.had_database)
            {
                return Err(removed);
            }
            let frame = match frame {
                // The host is shutting down. Until the next one runs, stored output is read without
                // a host.
                Ok(Frame::Error(error)) | Err(ClientError::Refused(error))
                    if error.kind == ErrorKind::Unavailable
                        && (self.query.follow || fruitless < TRIES) =>
                {
                    fruitless += 1;
                    self.open = None;
                    clock::sleep(LOOK_AGAIN).await;
                    continue;
                }
                // All places for followers are taken. Such a host sends the output so far, if it
                // can, and is asked again for later output.
                Ok(Frame::Error(error)) | Err(ClientError::Refused(error))
                    if error.kind == ErrorKind::Limit && self.query.follow =>
                {
                    self.open = None;
                    clock::sleep(ASK_AGAIN).await;
                    continue;
                }
                Ok(frame) => frame,
                Err(ClientError::Cut { .. }) if fruitless < TRIES => {
                    fruitless += 1;
                    self.open = None;
                    if self.query.follow {
                        // A killed host may still seem to run for a moment.
                        clock::sleep(LOOK_AGAIN).await;
                        self.client.revive().await;
                    }
                    continue;
                }
                Err(error) => return Err(error),
            };
            match frame {
                // This is the end frame, because hosts send no events on this connection.
                Frame::End | Frame::Event(_) => return Ok(None),
                Frame::Error(error) => return Err(ClientError::Refused(error)),
                Frame::Piece(piece) => {
                    self.place.pass(&piece);
                    match piece {
                        LogPiece::Attempt(_) => {}
                        LogPiece::Bytes { channel, bytes, .. } => {
                            return Ok(Some(Followed::Bytes(channel, bytes)));
                        }
                        LogPiece::Items { items, .. } => return Ok(Some(Followed::Items(items))),
                        LogPiece::Gap { bytes, .. } => return Ok(Some(Followed::Gap(bytes))),
                    }
                }
            }
        }
    }

    async fn frame(&mut self) -> Result<Frame, ClientError> {
        let open = match self.open.take() {
            Some(open) => open,
            None => self.open().await?,
        };
        let open = self.open.insert(open);
        loop {
            if let Some(frame) = clock::within(LOOK_FOR_LOST, open.next()).await {
                return frame;
            }
            // Without a host the task is never concluded, so the end of the output would never
            // come.
            if open.is_here() && self.client.has_lost_its_host() {
                return Err(ClientError::cut(None));
            }
            if let Some(removed) = self.client.start.removed_since(self.had_database) {
                return Err(removed);
            }
        }
    }

    async fn open(&self) -> Result<Frames, ClientError> {
        let query = self.place.rest(&self.query);
        let path = address::with_query(address::task(&self.task, "/logs")?, &query)?;
        Frames::ask(self.client, &Ask::get(path)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_was_cut_off_requests_the_missing_output() {
        let bytes = |offset, length| LogPiece::Bytes {
            channel: LogChannel::Stdout,
            offset,
            bytes: vec![b'x'; length],
        };
        let asked = LogQuery {
            tail: Some(5),
            follow: true,
            ..LogQuery::default()
        };
        let check = |seen: &[LogPiece], expected: (Option<u32>, Option<u64>, Option<u64>)| {
            let mut place = Place::default();
            for piece in seen {
                place.pass(piece);
            }
            let rest = place.rest(&asked);
            assert!(rest.follow);
            assert_eq!((rest.attempt, rest.offset, rest.tail), expected, "{seen:?}");
            let of_items = matches!(seen.last(), Some(LogPiece::Items { .. }));
            assert_eq!(rest.stderr_offset, of_items.then_some(90), "{seen:?}");
        };
        let items = |stdout| LogPiece::Items {
            items: Vec::new(),
            place: crate::app::Place { stdout, stderr: 90 },
        };
        check(&[], (None, None, Some(5)));
        check(&[LogPiece::Attempt(2)], (Some(2), None, Some(5)));
        check(
            &[LogPiece::Attempt(2), bytes(100, 7)],
            (Some(2), Some(107), None),
        );
        check(
            &[
                LogPiece::Attempt(2),
                LogPiece::Gap {
                    offset: 3,
                    bytes: 10,
                },
            ],
            (Some(2), Some(13), None),
        );
        check(
            &[LogPiece::Attempt(2), bytes(100, 7), LogPiece::Attempt(3)],
            (Some(3), Some(0), None),
        );
        check(
            &[LogPiece::Attempt(2), items(50)],
            (Some(2), Some(50), None),
        );
        check(
            &[LogPiece::Attempt(2), items(50), LogPiece::Attempt(3)],
            (Some(3), Some(0), None),
        );
        // The next host repeats the number of the attempt.
        check(
            &[LogPiece::Attempt(2), bytes(100, 7), LogPiece::Attempt(2)],
            (Some(2), Some(107), None),
        );
    }
}

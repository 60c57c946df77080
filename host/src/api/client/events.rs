//! Reads events as they occur, across restarts of the host.

use super::{
    Ask, Client, ClientError, address,
    frames::{ASK_AGAIN, Frames, TRIES},
    waiting::LOOK_AGAIN,
};
use crate::{
    api::rest::frame::Frame,
    app::{ErrorKind, EventPiece, EventQuery, EventView},
    clock,
};

/// An item for a reader of events.
#[derive(Debug)]
pub(in crate::api) enum Heard {
    Event(Box<EventView>),
    /// Why wanted events may be missing.
    Note(String),
    /// The host shut down. The next call waits for another host and continues there.
    HostLeft,
}

/// Reads events. The position is kept in the query, so that a new host continues after that
/// position.
///
/// A host that crashed is started again, as by any command. A host that was shut down is not
/// started again, because a reader must not undo a user's decision. The reader then waits until a
/// host runs, and meanwhile reads the database, because the last host may have recorded events
/// without sending them, such as the end of the task that is followed.
pub(in crate::api) struct EventReader<'a> {
    client: &'a Client,
    query: EventQuery,
    open: Option<Frames>,
    host_left: bool,
    /// Whether a note was passed on. The next host would give it again.
    is_noted: bool,
    /// Whether there was a database at the beginning.
    had_database: bool,
}

impl Client {
    pub(in crate::api) fn events(&self, query: EventQuery) -> EventReader<'_> {
        EventReader {
            client: self,
            query,
            open: None,
            host_left: false,
            is_noted: false,
            had_database: self.start.removed().is_none(),
        }
    }
}

impl EventReader<'_> {
    /// The next item, or `None` at the end.
    pub(in crate::api) async fn next(&mut self) -> Result<Option<Heard>, ClientError> {
        let mut fruitless = 0;
        loop {
            let frame = match self.frame().await {
                // All places for followers are taken. Such a host sends the events so far, if it
                // can, and is asked again for later events.
                Ok(Frame::Error(error)) if error.kind == ErrorKind::Limit && self.query.follow => {
                    self.ask_again().await;
                    continue;
                }
                // A graph with too many tasks is refused by the same kind, but for ever.
                Err(ClientError::Refused(error)) if error.is_passing && self.query.follow => {
                    self.ask_again().await;
                    continue;
                }
                Ok(Frame::Error(error)) | Err(ClientError::Refused(error)) => Err(error),
                Ok(frame) => Ok(frame),
                Err(ClientError::Cut { .. } | ClientError::NotRunning { .. }) if self.host_left => {
                    self.look_again().await?;
                    continue;
                }
                Err(ClientError::Cut { .. }) if fruitless < TRIES => {
                    fruitless += 1;
                    self.open = None;
                    if self.query.follow {
                        self.client.revive().await;
                    }
                    continue;
                }
                Err(error) => return Err(error),
            };
            match frame {
                // This is the first frame.
                Ok(Frame::Event(EventPiece::Place(place))) => {
                    self.pass(place);
                    let note = self.open.as_mut().and_then(|open| open.note.take());
                    if let Some(note) = note.filter(|_| !self.is_noted) {
                        self.is_noted = true;
                        return Ok(Some(Heard::Note(note)));
                    }
                }
                Ok(Frame::Event(EventPiece::Event(event))) => {
                    self.pass(event.sequence);
                    return Ok(Some(Heard::Event(Box::new(event))));
                }
                // This is the end frame, because hosts send no output on this connection.
                Ok(_) => return Ok(None),
                Err(error) if !self.outlives(error.kind) => {
                    let removed = self.client.start.removed_since(self.had_database);
                    return Err(removed.unwrap_or(ClientError::Refused(error)));
                }
                // A host that is shutting down may give this error again until it has ended. If no
                // host runs, this process gives it again once everything was read.
                Err(_) if self.host_left => self.look_again().await?,
                Err(_) => {
                    self.open = None;
                    self.host_left = true;
                    return Ok(Some(Heard::HostLeft));
                }
            }
        }
    }

    /// Whether the next host may give another answer. If the program was replaced meanwhile, the
    /// database may have the schema of another version until a host has started.
    fn outlives(&self, kind: ErrorKind) -> bool {
        let passes =
            kind == ErrorKind::Unavailable || (kind == ErrorKind::Internal && self.host_left);
        self.query.follow && passes
    }

    /// Waits a moment before the request is repeated.
    async fn look_again(&mut self) -> Result<(), ClientError> {
        self.open = None;
        if let Some(removed) = self.client.start.removed_since(self.had_database) {
            return Err(removed);
        }
        self.client.revive().await;
        clock::sleep(LOOK_AGAIN).await;
        Ok(())
    }

    /// Waits until the host may have a place.
    async fn ask_again(&mut self) {
        self.open = None;
        clock::sleep(ASK_AGAIN).await;
    }

    /// Records the position after an event, so that no event is repeated or skipped.
    fn pass(&mut self, sequence: u64) {
        self.host_left &= self.open.as_ref().is_some_and(Frames::is_here);
        self.query.after = Some(sequence);
        self.query.since_ms = None;
    }

    /// The next frame. No host is started for a request that only reads.
    async fn frame(&mut self) -> Result<Frame, ClientError> {
        if let Some(open) = &mut self.open {
            return open.next().await;
        }
        let ask = Ask::get(address::with_query("/v1/events".to_owned(), &self.query)?);
        let open = Frames::ask(self.client, &ask).await?;
        self.open.insert(open).next().await
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use tokio::{io::AsyncWriteExt, net::UnixListener};

    use super::*;
    use crate::{
        api::client::{host_start, tests::asked},
        layout::Layout,
    };

    #[tokio::test]
    async fn a_follower_asks_again_only_after_a_refusal_that_passes() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let listener = UnixListener::bind(layout.socket()).unwrap();
        let refused = |header: &str| {
            let body = r#"{"kind":"limit","message":"too many"}"#;
            let length = body.len();
            format!(
                "HTTP/1.1 429 Too Many Requests\r\n{header}content-length: {length}\r\n\r\n{body}"
            )
        };
        let answers = [refused("retry-after: 1\r\n"), refused("")];
        let requests = Arc::new(AtomicUsize::new(0));
        let counted = requests.clone();
        tokio::spawn(async move {
            for answer in answers {
                let mut stream = asked(&listener).await;
                counted.fetch_add(1, Ordering::Relaxed);
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        let client = Client::new(host_start(layout));
        let mut events = client.events(EventQuery {
            follow: true,
            ..EventQuery::default()
        });
        let refused = events.next().await.unwrap_err();
        assert!(matches!(refused, ClientError::Refused(_)), "{refused}");
        assert_eq!(requests.load(Ordering::Relaxed), 2);
    }
}

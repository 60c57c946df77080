//! Reads events as they occur, across restarts of the host.

use super::{
    Ask, Client, ClientError, address,
    frames::{Frames, TRIES},
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
    /// The host shut down. The next call waits for another host and continues there.
    HostLeft,
}

/// Reads events. The position is kept in the query, so that a new host continues after that
/// position.
///
/// A host that crashed is started again, as by any command. A host that was shut down is not
/// started again, because a reader must not undo a user's decision. The reader then waits until a
/// host runs.
pub(in crate::api) struct EventReader<'a> {
    client: &'a Client,
    query: EventQuery,
    open: Option<Frames>,
    host_left: bool,
}

impl Client {
    pub(in crate::api) fn events(&self, query: EventQuery) -> EventReader<'_> {
        EventReader {
            client: self,
            query,
            open: None,
            host_left: false,
        }
    }
}

impl EventReader<'_> {
    /// The next item, or `None` at the end.
    pub(in crate::api) async fn next(&mut self) -> Result<Option<Heard>, ClientError> {
        let mut fruitless = 0;
        loop {
            let frame = match self.frame().await {
                Ok(Frame::Error(error)) | Err(ClientError::Refused(error)) => Err(error),
                Ok(frame) => Ok(frame),
                Err(ClientError::Cut(_)) if self.host_left => {
                    self.look_again().await;
                    continue;
                }
                Err(ClientError::Cut(_)) if fruitless < TRIES => {
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
                Ok(Frame::Event(EventPiece::Place(place))) => self.pass(place),
                Ok(Frame::Event(EventPiece::Event(event))) => {
                    self.pass(event.sequence);
                    return Ok(Some(Heard::Event(Box::new(event))));
                }
                // This is the end frame, because hosts send no output on this connection.
                Ok(_) => return Ok(None),
                Err(error) if !self.outlives(error.kind) => {
                    return Err(ClientError::Refused(error));
                }
                // A host that is shutting down may repeat this error until it has ended.
                Err(_) if self.host_left => self.look_again().await,
                Err(_) => {
                    self.open = None;
                    self.host_left = true;
                    return Ok(Some(Heard::HostLeft));
                }
            }
        }
    }

    fn outlives(&self, kind: ErrorKind) -> bool {
        self.query.follow && kind == ErrorKind::Unavailable
    }

    async fn look_again(&mut self) {
        self.open = None;
        clock::sleep(LOOK_AGAIN).await;
    }

    /// Records the position after an event, so that no event is repeated or skipped.
    fn pass(&mut self, sequence: u64) {
        self.host_left = false;
        self.query.after = Some(sequence);
        self.query.since_ms = None;
    }

    async fn frame(&mut self) -> Result<Frame, ClientError> {
        if let Some(open) = &mut self.open {
            return open.next().await;
        }
        let ask = Ask::get(address::with_query("/v1/events".to_owned(), &self.query)?);
        let open = if self.host_left {
            self.wait_for_host(&ask).await?
        } else {
            Frames::ask(self.client, &ask).await?
        };
        self.open.insert(open).next().await
    }

    /// Repeats the request until a host answers, and starts no host. A host that is shutting down
    /// may still receive the request.
    async fn wait_for_host(&self, ask: &Ask) -> Result<Frames, ClientError> {
        let patient = self.client.that_starts_none();
        loop {
            match Frames::ask(&patient, ask).await {
                Err(ClientError::NotRunning { .. } | ClientError::Cut(_)) => {}
                Err(ClientError::Refused(error)) if error.kind == ErrorKind::Unavailable => {}
                answer => return answer,
            }
            clock::sleep(LOOK_AGAIN).await;
        }
    }
}

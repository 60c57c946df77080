//! Reads an answer that consists of frames.

use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::{Ask, Client, ClientError, connection::Connection, refusal};
use crate::api::rest::{
    NOTE_HEADER,
    frame::{Decoder, Frame},
};

/// Limit of how often in a row a reader repeats its request without receiving anything.
pub(super) const TRIES: u32 = 3;

/// Pause before the next request if the host has no place in which a reader may stay.
pub(super) const ASK_AGAIN: Duration = Duration::from_millis(if cfg!(test) { 10 } else { 1_000 });

/// A connection on which an answer arrives.
pub(super) struct Frames {
    connection: Connection,
    body: Incoming,
    decoder: Decoder,
    /// What the host says about the answer.
    pub(super) note: Option<String>,
}

impl Frames {
    pub(super) async fn ask(client: &Client, ask: &Ask) -> Result<Self, ClientError> {
        let mut connection = client.connection(ask).await?;
        let (head, body) = client
            .answered(ask.limit, connection.send(ask))
            .await?
            .map_err(|broken| ClientError::cut(Some(broken.source)))?
            .into_parts();
        if !head.status.is_success() {
            let body = connection
                .drive(body.collect())
                .await
                .map_err(|error| ClientError::cut(Some(error)))?;
            return Err(refusal(&head, &body.to_bytes()));
        }
        let note = head.headers.get(NOTE_HEADER);
        let note = note.and_then(|note| note.to_str().ok());
        Ok(Self {
            connection,
            body,
            decoder: Decoder::default(),
            note: note.map(str::to_owned),
        })
    }

    /// Whether the answer comes from this process, because no host runs.
    pub(super) fn is_here(&self) -> bool {
        self.connection.is_here
    }

    /// The next frame. Cancelling this call loses nothing.
    pub(super) async fn next(&mut self) -> Result<Frame, ClientError> {
        loop {
            if let Some(frame) = self.decoder.next()? {
                return Ok(frame);
            }
            match self.connection.drive(self.body.frame()).await {
                Some(Ok(part)) => {
                    // Trailers, the only other part, say nothing.
                    if let Ok(bytes) = part.into_data() {
                        self.decoder.feed(&bytes);
                    }
                }
                Some(Err(error)) => return Err(ClientError::cut(Some(error))),
                None => return Err(ClientError::cut(None)),
            }
        }
    }
}

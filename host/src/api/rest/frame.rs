//! Frames that carry output and events: a head of 13 bytes (kind, length and offset, big-endian)
//! and a payload.
//!
//! The format is binary, because output is bytes, and JSON would double its size and require UTF-8.
//! Each frame of output has its offset, and a complete answer ends with [`Frame::End`]. So a reader
//! that was cut off notices this, and can continue at the next offset.

use serde::Deserialize;

use crate::app::{AppError, EventPiece, Item, LogChannel, LogPiece, Place};

pub(crate) const CONTENT_TYPE: &str = "application/vnd.claudine.frames";
const HEAD_BYTES: usize = 13;
/// Length limit of a payload; no host sends a longer one.
const PAYLOAD_LIMIT_BYTES: usize = 16 << 20;

#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Frame {
    Piece(LogPiece),
    Event(EventPiece),
    /// The answer is complete.
    End,
    /// The answer ends with an error.
    Error(AppError),
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("a frame of kind {0} is not known")]
    Kind(u8),
    #[error("a frame of {0} bytes is too long")]
    Length(usize),
    #[error("the content of a frame is invalid")]
    Content,
}

const END: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const GAP: u8 = 3;
const ATTEMPT: u8 = 4;
const ERROR: u8 = 5;
const EVENT: u8 = 6;
const PLACE: u8 = 7;
const ITEMS: u8 = 8;

/// Items with the offset in standard error; the head of the frame has the offset in standard
/// output.
#[derive(Deserialize)]
struct Items {
    stderr: u64,
    items: Vec<Item>,
}

impl Frame {
    pub(crate) fn encode(&self) -> Vec<u8> {
        match self {
            Self::Piece(LogPiece::Bytes {
                channel,
                offset,
                bytes,
            }) => {
                let kind = match channel {
                    LogChannel::Stdout => STDOUT,
                    LogChannel::Stderr => STDERR,
                };
                frame(kind, *offset, bytes)
            }
            Self::Piece(LogPiece::Gap { offset, bytes }) => {
                frame(GAP, *offset, &bytes.to_be_bytes())
            }
            Self::Piece(LogPiece::Attempt(number)) => frame(ATTEMPT, 0, &number.to_be_bytes()),
            // Encoding cannot fail, because items are plain data and short (see `transcript`).
            Self::Piece(LogPiece::Items { items, place }) => {
                let sent = serde_json::json!({ "stderr": place.stderr, "items": items });
                frame(ITEMS, place.stdout, sent.to_string().as_bytes())
            }
            // Encoding cannot fail, because an event is plain data.
            Self::Event(EventPiece::Event(event)) => frame(
                EVENT,
                event.sequence,
                &serde_json::to_vec(event).unwrap_or_default(),
            ),
            Self::Event(EventPiece::Place(sequence)) => frame(PLACE, *sequence, &[]),
            Self::End => frame(END, 0, &[]),
            // Encoding cannot fail, because an error is plain data.
            Self::Error(error) => frame(ERROR, 0, &serde_json::to_vec(error).unwrap_or_default()),
        }
    }
}

fn frame(kind: u8, offset: u64, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEAD_BYTES + payload.len());
    bytes.push(kind);
    // A payload is one read of a pipe, some items, an event or an error, so it is far below 4 GiB.
    bytes.extend_from_slice(
        &u32::try_from(payload.len())
            .unwrap_or(u32::MAX)
            .to_be_bytes(),
    );
    bytes.extend_from_slice(&offset.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// Assembles frames from pieces of any size.
#[derive(Default, Debug)]
pub(crate) struct Decoder {
    pending: Vec<u8>,
}

impl Decoder {
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
    }

    /// The next complete frame, or `None` if more bytes are needed.
    pub(crate) fn next(&mut self) -> Result<Option<Frame>, FrameError> {
        let Some((head, rest)) = self.pending.split_first_chunk::<HEAD_BYTES>() else {
            return Ok(None);
        };
        let [kind, l0, l1, l2, l3, offset @ ..] = *head;
        let length = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
        if length > PAYLOAD_LIMIT_BYTES {
            return Err(FrameError::Length(length));
        }
        let Some(payload) = rest.get(..length) else {
            return Ok(None);
        };
        let frame = decode(kind, u64::from_be_bytes(offset), payload)?;
        self.pending.drain(..HEAD_BYTES + length);
        Ok(Some(frame))
    }
}

fn decode(kind: u8, offset: u64, payload: &[u8]) -> Result<Frame, FrameError> {
    let bytes = |channel| {
        Frame::Piece(LogPiece::Bytes {
            channel,
            offset,
            bytes: payload.to_vec(),
        })
    };
    match kind {
        END => Ok(Frame::End),
        STDOUT => Ok(bytes(LogChannel::Stdout)),
        STDERR => Ok(bytes(LogChannel::Stderr)),
        GAP => {
            let bytes = payload
                .try_into()
                .map(u64::from_be_bytes)
                .map_err(|_| FrameError::Content)?;
            Ok(Frame::Piece(LogPiece::Gap { offset, bytes }))
        }
        ATTEMPT => {
            let number = payload
                .try_into()
                .map(u32::from_be_bytes)
                .map_err(|_| FrameError::Content)?;
            Ok(Frame::Piece(LogPiece::Attempt(number)))
        }
        EVENT => serde_json::from_slice(payload)
            .map(|event| Frame::Event(EventPiece::Event(event)))
            .map_err(|_| FrameError::Content),
        PLACE => Ok(Frame::Event(EventPiece::Place(offset))),
        ITEMS => {
            let sent: Items = serde_json::from_slice(payload).map_err(|_| FrameError::Content)?;
            let place = Place {
                stdout: offset,
                stderr: sent.stderr,
            };
            let items = sent.items;
            Ok(Frame::Piece(LogPiece::Items { items, place }))
        }
        ERROR => serde_json::from_slice(payload)
            .map(Frame::Error)
            .map_err(|_| FrameError::Content),
        other => Err(FrameError::Kind(other)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use claudine_domain::principal::Principal;

    use super::*;
    use crate::app::{ErrorKind, EventView};

    fn all() -> Vec<Frame> {
        let item = r#"{"at": "2026-11-22T14:51:33.042Z", "stream": "stdout", "kind": "tool", "tool": "Bash", "text": "ls"}"#;
        vec![
            Frame::Piece(LogPiece::Items {
                items: vec![serde_json::from_str(item).unwrap()],
                place: Place {
                    stdout: 1 << 40,
                    stderr: 7,
                },
            }),
            Frame::Piece(LogPiece::Attempt(7)),
            Frame::Piece(LogPiece::Bytes {
                channel: LogChannel::Stdout,
                offset: 1 << 40,
                bytes: b"a\0\xFF".to_vec(),
            }),
            Frame::Piece(LogPiece::Bytes {
                channel: LogChannel::Stderr,
                offset: 3,
                bytes: Vec::new(),
            }),
            Frame::Piece(LogPiece::Gap {
                offset: 9,
                bytes: u64::MAX,
            }),
            Frame::Event(EventPiece::Place(4711)),
            Frame::Event(EventPiece::Event(EventView {
                sequence: 4712,
                at: "2026-11-22T14:51:33.042Z".to_owned(),
                task: "task_1".to_owned(),
                name: None,
                by: Some(Principal::default()),
                words: "submitted".to_owned(),
                fact: serde_json::Map::from_iter([("kind".to_owned(), "submitted".into())]),
            })),
            Frame::Error(AppError::new(ErrorKind::Unavailable, "down").hint("again")),
            Frame::End,
        ]
    }

    #[test]
    fn frames_are_decoded_from_pieces_of_any_size() {
        let sent: Vec<u8> = all().iter().flat_map(Frame::encode).collect();
        for size in 1..=sent.len() {
            let mut decoder = Decoder::default();
            let mut got = Vec::new();
            for piece in sent.chunks(size) {
                decoder.feed(piece);
                while let Some(frame) = decoder.next().unwrap() {
                    got.push(frame);
                }
            }
            assert_eq!(got, all(), "in pieces of {size}");
        }
    }

    #[test]
    fn invalid_frames_are_refused() {
        let check = |bytes: &[u8], expected| {
            let mut decoder = Decoder::default();
            decoder.feed(bytes);
            assert_eq!(decoder.next(), Err(expected), "{bytes:?}");
        };
        check(&frame(9, 0, &[]), FrameError::Kind(9));
        check(&frame(GAP, 0, &[1]), FrameError::Content);
        check(&frame(ERROR, 0, b"?"), FrameError::Content);
        check(&frame(ITEMS, 0, b"[]"), FrameError::Content);
        check(
            &[1, 255, 255, 255, 255, 0, 0, 0, 0, 0, 0, 0, 0],
            FrameError::Length(u32::MAX as usize),
        );
    }
}

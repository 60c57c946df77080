//! Length-prefixed JSON frames: a little-endian `u32`, then that many bytes.
//!
//! This module does no I/O: the supervisor (non-blocking sockets under epoll) and the host (tokio)
//! hand it the bytes that they have read.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The largest frame that either side accepts. A `start` command with the most arguments that a
/// system allows has 2 MiB, so this is several times as large as the largest command.
pub(super) const MAX_FRAME_BYTES: usize = 16 << 20;

#[derive(Debug, thiserror::Error)]
pub(super) enum FrameError {
    #[error("a frame of {0} bytes is over the limit of {MAX_FRAME_BYTES}")]
    TooLong(usize),
    #[error("a frame does not follow the protocol")]
    Json(#[from] serde_json::Error),
}

/// Appends one frame to `out`; leaves `out` unchanged on an error.
pub(super) fn encode(value: &impl Serialize, out: &mut Vec<u8>) -> Result<(), FrameError> {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    if let Err(error) = serde_json::to_writer(&mut *out, value) {
        out.truncate(start);
        return Err(error.into());
    }
    let length = out.len() - start - 4;
    match u32::try_from(length) {
        Ok(prefix) if length <= MAX_FRAME_BYTES => {
            out[start..start + 4].copy_from_slice(&prefix.to_le_bytes());
        }
        _ => {
            out.truncate(start);
            return Err(FrameError::TooLong(length));
        }
    }
    Ok(())
}

/// A buffer of the bytes that have arrived, from which complete frames are taken.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    bytes: Vec<u8>,
    taken: usize,
}

impl Incoming {
    pub(super) fn extend(&mut self, bytes: &[u8]) {
        if self.taken == self.bytes.len() {
            self.bytes.clear();
            self.taken = 0;
        } else if self.taken > 1 << 16 {
            self.bytes.drain(..self.taken);
            self.taken = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// The JSON of the next frame, if it has arrived completely.
    pub(super) fn next_frame(&mut self) -> Result<Option<&[u8]>, FrameError> {
        let rest = &self.bytes[self.taken..];
        let Some((prefix, body)) = rest.split_first_chunk::<4>() else {
            return Ok(None);
        };
        let length = u32::from_le_bytes(*prefix) as usize;
        if length > MAX_FRAME_BYTES {
            return Err(FrameError::TooLong(length));
        }
        let Some(frame) = body.get(..length) else {
            return Ok(None);
        };
        self.taken += 4 + length;
        Ok(Some(frame))
    }
}

pub(super) fn decode<T: DeserializeOwned>(frame: &[u8]) -> Result<T, FrameError> {
    Ok(serde_json::from_slice(frame)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn frames_are_read_whole_wherever_the_stream_is_cut() {
        let mut wire = Vec::new();
        for text in ["a", "", "two words", "\u{1F980}"] {
            encode(&text, &mut wire).unwrap();
        }
        for step in 1..wire.len() {
            let mut incoming = Incoming::default();
            let mut seen = Vec::new();
            for piece in wire.chunks(step) {
                incoming.extend(piece);
                while let Some(frame) = incoming.next_frame().unwrap() {
                    seen.push(decode::<String>(frame).unwrap());
                }
            }
            assert_eq!(
                seen,
                ["a", "", "two words", "\u{1F980}"],
                "in pieces of {step}"
            );
        }
    }

    #[test]
    fn a_frame_over_the_limit_is_refused_by_its_length_alone() {
        let mut incoming = Incoming::default();
        incoming.extend(&u32::MAX.to_le_bytes());
        assert!(matches!(incoming.next_frame(), Err(FrameError::TooLong(_))));
    }
}

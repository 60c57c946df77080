//! Input that a child reads while it runs.

use std::error::Error;
use std::fmt;
use std::mem;

use wit_bindgen::StreamWriter;

use super::{Child, Signal};
use crate::stop;

/// The standard input of a child that was started with
/// [`Command::spawn_with_input`](super::Command::spawn_with_input).
///
/// Only [`finish`](Input::finish) ends the input. If the input is dropped before, or the instance
/// is lost by a trap or a restart of the host, the child is killed, so that the child cannot take a
/// part of the input for the whole. `resume` then finds a killed child, and can start another.
///
/// While an attempt is being stopped, the loss of the input does not kill the child, because the
/// signals of the stop end it.
#[derive(Debug)]
pub struct Input {
    child: Child,
    /// `None` once nothing can be written any more.
    writer: Option<StreamWriter<u8>>,
    /// Set if a write was dropped half-way, so the amount written is unknown.
    torn: bool,
}

impl Input {
    pub(super) fn new(child: Child, writer: StreamWriter<u8>) -> Self {
        Self {
            child,
            writer: Some(writer),
            torn: false,
        }
    }

    /// Writes all bytes. Returns when the host has taken them, so a child that reads slowly delays
    /// the caller.
    ///
    /// Use pieces of about 10 KiB or more. If the future is dropped before it is ready, the amount
    /// written is unknown, and the input can no longer be finished.
    pub async fn write_all(&mut self, bytes: impl Into<Vec<u8>>) -> Result<(), InputClosed> {
        let bytes = bytes.into();
        if bytes.is_empty() && self.writer.is_some() {
            return Ok(());
        }
        let writer = self.writer.as_mut().ok_or(InputClosed)?;
        self.torn = true;
        let left = writer.write_all(bytes).await;
        self.torn = false;
        if left.is_empty() {
            return Ok(());
        }
        self.writer = None;
        Err(InputClosed)
    }

    /// Ends the input: the child reads the rest, and then the end.
    ///
    /// If a write was dropped half-way, the child is killed instead.
    pub fn finish(mut self) {
        if !self.torn {
            self.writer = None;
        }
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        let Some(writer) = self.writer.take() else {
            return;
        };
        // Dropping the writer would end the input, so the writer is kept until the instance is
        // dropped.
        mem::forget(writer);
        if stop::requested().is_none()
            && let Err(failure) = self.child.signal(Signal::Kill)
        {
            crate::warn!("a child with an unfinished input was not killed: {failure}");
        }
    }
}

/// The child has closed its standard input, or has ended. This alone is not an error:
/// [`Child::wait`] tells how the child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InputClosed;

impl fmt::Display for InputClosed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the child no longer reads")
    }
}

impl Error for InputClosed {}

//! What a child is fed while it runs.

use std::error::Error;
use std::fmt;
use std::mem;

use wit_bindgen::StreamWriter;

use super::{Child, Signal};
use crate::stop;

/// The standard input of a child that was started with
/// [`Command::spawn_with_input`](super::Command::spawn_with_input).
///
/// It ends when [`finish`](Input::finish) is called, and only then. One that is dropped before has
/// broken off: the child is killed, so that it cannot take half of an input for the whole. The same
/// becomes of it when the instance is lost, by a trap or a restart of the host; `resume` finds a
/// child that was killed, and can start another.
///
/// While an attempt is being stopped the child is left to the signals of the stop, whatever becomes
/// of its input.
#[derive(Debug)]
pub struct Input {
    child: Child,
    /// Absent once nothing can be written any more.
    writer: Option<StreamWriter<u8>>,
    /// A write was dropped half-way: how much of it was taken is not known.
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

    /// Writes all of it. It returns when the host has taken it, so a child that reads slowly holds
    /// the caller back.
    ///
    /// Pieces of some ten KiB or more are what it is made for. Where the future is dropped before
    /// it is ready, nobody knows how much was taken, and the input can no longer be finished.
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

    /// The end of the input: the child reads what it has not read yet, and then finds the end.
    ///
    /// Where a write was dropped half-way the input is broken off instead.
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
        // To drop it would be the end of the input. So it is kept until the instance goes.
        mem::forget(writer);
        if stop::requested().is_none()
            && let Err(failure) = self.child.signal(Signal::Kill)
        {
            crate::warn!("a child whose input broke off was not killed: {failure}");
        }
    }
}

/// The child reads no more: it has closed its standard input, or has ended. That is not a fault by
/// itself; what became of it is what [`Child::wait`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InputClosed;

impl fmt::Display for InputClosed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the child reads no more")
    }
}

impl Error for InputClosed {}

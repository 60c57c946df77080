//! Readable output of attempts. The output of an agent is turned into items by the agent's
//! executor. The output of a command is shown as lines.
//!
//! Transcripts are not stored. They are made from the log whenever somebody asks for them, in
//! pieces, so that memory use does not depend on the size of the log. If only the end is wanted,
//! reading begins in the middle: after a newline, with an empty state of the plugin. This works
//! because agents print lines that can be read independently of each other, so that at most one
//! item is lost with an incomplete line. To store the states of the plugin at intervals would be
//! correct for every plugin. But these states would have to be written while the attempt runs,
//! would be valid only for one version of the plugin, and would have to be made again for every log
//! after an update.
//!
//! A line that is longer than a plugin may be given is not passed to it: a note with the line's
//! length is shown instead. Otherwise the plugin would hold the line in its state, which is copied
//! with every piece of the line.
//!
//! If a plugin traps, is slow or returns too much, the transcript ends with a message, and all
//! later output is shown unchanged. This module does not depend on the terminal: items are drawn as
//! lines of words, each with a [`Style`], and the code that shows the lines decides on the
//! appearance of each style.

mod draw;
mod end;
mod item;
mod transcriber;

#[cfg(test)]
mod tests;

pub(crate) use self::{
    draw::{Style, lines_of, text_of},
    end::{LastText, Output, Reach, Transcripts, Wanted, line_at, written_by},
    item::{Item, Kind, LogChannel, Place},
    transcriber::{Step, Transcriber},
};

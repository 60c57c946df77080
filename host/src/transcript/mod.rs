//! Readable output of attempts: an agent's as items made by its executor, and a command's as lines.
//!
//! Transcripts are not stored. They are made from the log whenever somebody asks for them, in
//! pieces, so that memory use does not depend on the size of the log. If only the end is wanted,
//! reading begins in the middle: after a newline, with an empty state. To store the plugin's states
//! at intervals would be correct for every plugin. But the states would have to be written while
//! the attempt runs, would belong to one version of the plugin, and would have to be made again for
//! every log after an update. Agents print lines that can be read independently, and an incomplete
//! line costs a plugin only one item.
//!
//! If a plugin traps, is slow or answers too much, the transcript ends with a message, and all
//! later output is shown unchanged. Nothing here depends on the terminal: items are drawn as lines
//! of words with a meaning, whose appearance is decided where they are shown.

mod draw;
mod end;
mod item;
mod transcriber;

#[cfg(test)]
mod tests;

pub(crate) use self::{
    draw::{Style, lines_of, text_of},
    end::{LastText, Opened, Output, Transcripts, line_at},
    item::{Item, Kind, LogChannel, Place},
    transcriber::{Step, Transcriber},
};

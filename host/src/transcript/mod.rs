//! What attempts have written, for people: an agent's output as the items that its executor makes
//! of it, and a command's as its lines.
//!
//! Nothing of it is kept. It is made of the log each time that somebody looks, in pieces, so that
//! the memory it takes does not grow with the log. Where somebody looks at the end alone it begins
//! in the middle: behind a line feed, with an empty state. States that were kept at intervals would
//! be right for any plugin, but they would have to be written while the attempt runs, belong to one
//! version of the plugin, and be made again for every log after an update. What agents print are
//! lines, of which each can be read by itself, and one that is no line costs a plugin an item.
//!
//! A plugin that traps, is slow or answers too much ends the transcript of this reading, which is
//! said; from there on the output is given as it is. Nothing here knows of the terminal: items are
//! drawn as lines of words with a meaning, and how that looks is decided where they are shown.

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

//! Text that people read: foreign text made harmless, cut to fit, coloured, and spans of time in
//! words.
//!
//! Names, prompts, messages and file names come from anybody. `harmless` has the one definition of
//! what a terminal or a reader could be misled by; whatever writes text for people uses it last.

mod ascii;
mod chain;
mod fit;
mod harmless;
mod painted;
mod screen;
mod shell;
mod short_ids;
mod similar;
mod span;

pub(crate) use self::{
    ascii::ascii,
    chain::chain,
    fit::{bytes_within, columns, fit, wrapped},
    harmless::{
        harmless, harmless_json, harmless_lines, is_harmful, line_of_log, one_line, shortened,
    },
    painted::Painted,
    screen::plain,
    shell::{shell_line, shell_word},
    short_ids::{ShortIds, short_id},
    similar::similar,
    span::span,
};

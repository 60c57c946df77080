//! Text for people: escaped, cut to fit, coloured, and durations in words.
//!
//! Names, prompts, messages and file names come from anybody. `harmless` defines what could mislead
//! a terminal or a reader; all code that writes text for people applies it last.

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

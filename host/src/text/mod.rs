//! Text for people: escaped, cut to fit, coloured, and durations in words.
//!
//! Names, prompts, messages and file names may come from anybody. `harmless` defines which
//! characters could mislead a terminal or a reader. All code that writes text for people escapes
//! these characters as the last step.

mod ascii;
mod chain;
mod fit;
mod harmless;
mod look_alike;
mod painted;
mod screen;
mod shell;
mod short_ids;
mod similar;
mod span;

pub(crate) use self::{
    ascii::ascii,
    chain::chain,
    fit::{bytes_within, columns, fit, wrapped, wrapped_whole},
    harmless::{
        ends_on_one_line, harmless, harmless_json, harmless_lines, is_harmful, line_of_log,
        one_line, shortened,
    },
    look_alike::{is_blank, look_alike},
    painted::Painted,
    screen::plain,
    shell::{shell_line, shell_word},
    short_ids::{ShortIds, short_id},
    similar::similar,
    span::span,
};

//! What is known of the terminal. Text goes to it only as [`super::output`] makes it harmless; raw
//! output (`logs`, `--wait`) is not touched: a task's colours are its own.

use std::{
    env,
    io::{self, IsTerminal},
};

pub(super) use crate::text::{Painted, fit, harmless};

/// A table is made to fit this where the terminal does not say how wide it is.
const DEFAULT_COLUMNS: usize = 100;

/// How to write to standard output, a terminal or not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Look {
    pub(super) colours: bool,
    /// The width to fit into; none in a pipe, where nothing is cut.
    pub(super) columns: Option<usize>,
}

impl Look {
    /// For standard output, as it is.
    pub(super) fn of_stdout() -> Self {
        if !io::stdout().is_terminal() {
            return Self {
                colours: false,
                columns: None,
            };
        }
        let columns =
            rustix::termios::tcgetwinsize(io::stdout()).map_or(0, |size| usize::from(size.ws_col));
        Self {
            colours: may_colour(),
            columns: Some(if columns == 0 {
                DEFAULT_COLUMNS
            } else {
                columns
            }),
        }
    }

    /// Adds a word in a colour, if there are colours.
    pub(super) fn paint(self, into: &mut Painted, colour: Colour, word: &str) {
        into.push_in(self.colours.then_some(colour as u8), word);
    }
}

/// How wide the terminal on standard error is.
pub(super) fn stderr_columns() -> usize {
    match rustix::termios::tcgetwinsize(io::stderr()) {
        Ok(size) if size.ws_col > 0 => usize::from(size.ws_col),
        _ => DEFAULT_COLUMNS,
    }
}

/// Standard error is a terminal that can move its cursor.
pub(super) fn stderr_can_move() -> bool {
    io::stderr().is_terminal() && env::var_os("TERM").is_none_or(|term| term != "dumb")
}

fn may_colour() -> bool {
    env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && env::var_os("TERM").is_none_or(|term| term != "dumb")
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Colour {
    Red = 31,
    Green = 32,
    Yellow = 33,
    Cyan = 36,
    Grey = 90,
}

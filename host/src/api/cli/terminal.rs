//! Properties of the terminal. All text written to the terminal is escaped, except the raw output
//! of tasks (`logs`, `--wait`), which keeps the colours that the task wrote.

use std::{
    env,
    ffi::OsString,
    io::{self, IsTerminal},
    sync::OnceLock,
};

use clap::ValueEnum;

use crate::text::wrapped_whole;
pub(super) use crate::text::{Painted, fit, harmless};

/// Width of a terminal that does not report its width.
const DEFAULT_COLUMNS: usize = 80;
const DEFAULT_ROWS: usize = 24;
/// Smallest number of columns for words. If there are fewer, the terminal wraps the text.
const LEAST_COLUMNS: usize = 20;

/// When to use colours.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, ValueEnum)]
pub(super) enum ColourWhen {
    /// On a terminal, unless NO_COLOR is set
    #[default]
    Auto,
    Always,
    Never,
}

/// Value of `--color`. It is global, because the process has only one standard output.
static COLOUR_WHEN: OnceLock<ColourWhen> = OnceLock::new();

/// Sets when to use colours. Called once, before anything is written.
pub(super) fn set_colours(when: ColourWhen) {
    COLOUR_WHEN.get_or_init(|| when);
}

/// Colours and width of an output.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Look {
    pub(super) colours: bool,
    /// Width limit. In a pipe there is no limit if COLUMNS is not set, so nothing is cut.
    pub(super) columns: Option<usize>,
}

impl Look {
    /// The look of standard output.
    pub(super) fn of_stdout() -> Self {
        let is_terminal = io::stdout().is_terminal();
        let when = COLOUR_WHEN.get().copied().unwrap_or_default();
        Self {
            colours: has_colours(when, is_terminal, &|name| env::var_os(name)),
            columns: if is_terminal {
                Some(columns_of(io::stdout()).unwrap_or(DEFAULT_COLUMNS))
            } else {
                said_columns()
            },
        }
    }

    /// The look of standard error, always without colours.
    pub(super) fn of_stderr() -> Self {
        Self {
            colours: false,
            columns: columns_of(io::stderr()).or_else(said_columns),
        }
    }

    /// Adds a word in a colour, or without one if colours are off.
    pub(super) fn paint(self, into: &mut Painted, colour: Colour, word: &str) {
        into.push_in(self.colours.then_some(colour as u8), word);
    }

    /// Adds a line of text. On a terminal it is wrapped, and further lines are indented.
    pub(super) fn prose(self, into: &mut Painted, text: &str, indent: usize) {
        self.prose_after(0, into, text, indent);
    }

    /// Adds text to a line of which `begun` columns are in use, and ends the line.
    pub(super) fn prose_after(self, begun: usize, into: &mut Painted, text: &str, indent: usize) {
        let text = harmless(text);
        match self
            .columns
            .filter(|columns| *columns >= indent + LEAST_COLUMNS)
        {
            Some(columns) => into.push(&wrapped_whole(&text, begun, columns, indent)),
            None => into.push(text.trim_end()),
        }
        into.push("\n");
    }
}

/// Width of the terminal on standard error.
pub(super) fn stderr_columns() -> usize {
    columns_of(io::stderr()).unwrap_or(DEFAULT_COLUMNS)
}

/// Number of lines of the terminal on standard output.
pub(super) fn stdout_rows() -> usize {
    let size = rustix::termios::tcgetwinsize(io::stdout());
    let rows = size.map_or(0, |size| usize::from(size.ws_row));
    if rows == 0 { DEFAULT_ROWS } else { rows }
}

/// Whether standard error is a terminal that can move its cursor.
pub(super) fn stderr_can_move() -> bool {
    io::stderr().is_terminal() && !is_dumb_terminal()
}

/// Whether the terminal cannot move its cursor.
pub(super) fn is_dumb_terminal() -> bool {
    is_dumb(&|name| env::var_os(name))
}

/// Whether the terminal shows Unicode, according to the first locale variable that is set.
pub(super) fn shows_unicode() -> bool {
    static SHOWS: OnceLock<bool> = OnceLock::new();
    *SHOWS.get_or_init(|| is_utf8(&|name| env::var_os(name)))
}

fn columns_of(terminal: impl std::os::fd::AsFd) -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(terminal).ok()?;
    match usize::from(size.ws_col) {
        0 => said_columns(),
        columns => Some(columns),
    }
}

/// Width set by a program such as `watch`, which shows the output later.
fn said_columns() -> Option<usize> {
    let said = env::var("COLUMNS").ok()?;
    said.trim().parse().ok().filter(|columns| *columns > 0)
}

type Variables<'a> = &'a dyn Fn(&str) -> Option<OsString>;

fn has_colours(when: ColourWhen, is_terminal: bool, variables: Variables<'_>) -> bool {
    let is_set = |name| variables(name).is_some_and(|value| !value.is_empty());
    match when {
        ColourWhen::Always => true,
        ColourWhen::Never => false,
        ColourWhen::Auto if is_set("NO_COLOR") => false,
        ColourWhen::Auto => {
            let forced = is_set("CLICOLOR_FORCE")
                && variables("CLICOLOR_FORCE").is_some_and(|value| value != "0");
            forced || (is_terminal && !is_dumb(variables))
        }
    }
}

fn is_dumb(variables: Variables<'_>) -> bool {
    variables("TERM").is_some_and(|term| term == "dumb")
}

fn is_utf8(variables: Variables<'_>) -> bool {
    let first = ["LC_ALL", "LC_CTYPE", "LANG"]
        .into_iter()
        .filter_map(variables)
        .find(|value| !value.is_empty());
    first.is_some_and(|locale| {
        let locale = locale.to_string_lossy().to_ascii_lowercase();
        locale.contains("utf-8") || locale.contains("utf8")
    })
}

/// Draws a text for terminals of two widths, for one of them in colour too, and for a pipe. Checks
/// that no line is wider than its terminal.
#[cfg(test)]
pub(super) fn in_each_look(draw: impl Fn(Look) -> Painted) -> String {
    let looks = [
        ("80 columns", Some(80), false),
        ("120 columns", Some(120), false),
        ("80 columns, in colour", Some(80), true),
        ("in a pipe", None, false),
    ];
    let mut all = String::new();
    for (name, columns, colours) in looks {
        let drawn = draw(Look { colours, columns });
        let drawn = drawn.as_str();
        let plain = crate::text::plain(drawn);
        let widest = plain.lines().map(crate::text::columns).max();
        assert!(
            columns.is_none_or(|most| widest <= Some(most)),
            "{name}\n{drawn}"
        );
        all.extend(["==== ", name, "\n", &drawn.replace('\u{1b}', "␛")]);
    }
    all
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Colour {
    Bold = 1,
    Red = 31,
    Green = 32,
    Yellow = 33,
    Magenta = 35,
    Cyan = 36,
    Grey = 90,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables<'a>(set: &'a [(&str, &str)]) -> impl Fn(&str) -> Option<OsString> + 'a {
        |name| {
            let found = set.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| OsString::from(value))
        }
    }

    #[test]
    fn colours_are_used_on_terminals_unless_set_otherwise() {
        let check = |when: ColourWhen, is_terminal: bool, set: &[(&str, &str)], expected: bool| {
            let found = has_colours(when, is_terminal, &variables(set));
            assert_eq!(found, expected, "{when:?} {is_terminal} {set:?}");
        };
        let auto = ColourWhen::Auto;
        check(auto, true, &[], true);
        check(auto, false, &[], false);
        check(auto, true, &[("NO_COLOR", "1")], false);
        check(auto, true, &[("NO_COLOR", "")], true);
        check(auto, true, &[("TERM", "dumb")], false);
        check(auto, false, &[("CLICOLOR_FORCE", "1")], true);
        check(auto, false, &[("CLICOLOR_FORCE", "0")], false);
        check(auto, false, &[("CLICOLOR_FORCE", "")], false);
        let both = [("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")];
        check(auto, true, &both, false);
        check(ColourWhen::Always, false, &both, true);
        check(ColourWhen::Never, true, &[("CLICOLOR_FORCE", "1")], false);
    }

    #[test]
    fn unicode_is_used_if_the_locale_is_utf8() {
        let check = |set: &[(&str, &str)], expected: bool| {
            assert_eq!(is_utf8(&variables(set)), expected, "{set:?}");
        };
        check(&[], false);
        check(&[("LANG", "C.UTF-8")], true);
        check(&[("LANG", "de_DE.utf8")], true);
        check(&[("LANG", "de_DE.UTF-8"), ("LC_ALL", "C")], false);
        check(&[("LANG", "C"), ("LC_CTYPE", "en_US.UTF-8")], true);
        check(&[("LC_ALL", ""), ("LANG", "en_US.UTF-8")], true);
        check(&[("LANG", "en_US.ISO-8859-1")], false);
    }
}

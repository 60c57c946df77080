//! Writes data to standard output and messages to standard error.
//!
//! Control characters are escaped here, or were escaped when a [`Painted`] text was composed.
//! Output that must not be changed (a script, an agent's result) is written by [`bytes`].

use std::{
    borrow::Cow,
    io::{self, IsTerminal, Write},
    sync::OnceLock,
};

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::{
    failure::Failure,
    fields,
    terminal::{self, Look},
};
use crate::{
    stdout,
    text::{
        Painted, ascii, harmless, harmless_json, harmless_lines, short_id, shortened, wrapped_whole,
    },
};

/// Length limit of a message, since it may quote input of up to 128 KiB.
const MESSAGE_CHARS: usize = 8_000;

/// Fields to show in JSON answers; all if not set.
static FIELDS: OnceLock<Vec<String>> = OnceLock::new();

/// Selects the fields of JSON answers. Called once, before anything is written.
pub(super) fn select(fields: Vec<String>) {
    FIELDS.get_or_init(|| fields);
}

/// Writes bytes unchanged.
pub(super) fn bytes(bytes: &[u8]) -> Result<(), Failure> {
    Ok(stdout::write(bytes)?)
}

/// Writes a line of data.
pub(super) fn line(text: &str) -> Result<(), Failure> {
    bytes((harmless(text) + "\n").as_bytes())
}

/// Writes the id of a submitted or restarted task: in full for a program, shortened for a person to
/// type.
pub(super) fn id(id: &str) -> Result<(), Failure> {
    line(if io::stdout().is_terminal() {
        short_id(id)
    } else {
        id
    })
}

/// Writes lines of data, the last of which ends in a newline too.
pub(super) fn text(text: &str) -> Result<(), Failure> {
    bytes(harmless_lines(text).as_bytes())
}

/// Writes data with Claudine's own colours.
pub(super) fn painted(text: &Painted) -> Result<(), Failure> {
    bytes(as_shown(text.as_str()).as_bytes())
}

/// Replaces Claudine's own symbols by ASCII if the terminal does not show Unicode.
pub(super) fn as_shown(text: &str) -> Cow<'_, str> {
    if terminal::shows_unicode() {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(ascii(text))
    }
}

/// Writes an answer as indented JSON; `jq -c` puts it on one line.
pub(super) fn json(answer: &(impl Serialize + JsonSchema + ?Sized)) -> Result<(), Failure> {
    let text = match picked(answer)? {
        Some(picked) => serde_json::to_string_pretty(&picked),
        None => serde_json::to_string_pretty(answer),
    };
    let text = text.map_err(io::Error::from)?;
    bytes((harmless_json(&text) + "\n").as_bytes())
}

/// Writes one of several answers as a line of JSON.
pub(super) fn json_line(answer: &(impl Serialize + JsonSchema)) -> Result<(), Failure> {
    let text = match picked(answer)? {
        Some(picked) => serde_json::to_string(&picked),
        None => serde_json::to_string(answer),
    };
    let text = text.map_err(io::Error::from)?;
    bytes((harmless_json(&text) + "\n").as_bytes())
}

fn picked(answer: &(impl Serialize + ?Sized)) -> Result<Option<Value>, Failure> {
    let Some(asked) = FIELDS.get() else {
        return Ok(None);
    };
    let answer = serde_json::to_value(answer).map_err(io::Error::from)?;
    Ok(Some(fields::picked(answer, asked)))
}

/// Writes an error for a program, as a line of JSON on standard error.
pub(super) fn error(error: &(impl Serialize + JsonSchema)) {
    // Encoding cannot fail, because an error is plain data. The exit code tells the failure if
    // standard error cannot be written.
    let text = serde_json::to_string(error).unwrap_or_default();
    drop(writeln!(io::stderr().lock(), "{}", harmless_json(&text)));
}

/// Writes a message to the user, wrapped at the width of the terminal. Ignores errors, since there
/// is no other place to report them.
pub(super) fn say(text: &str) {
    let text = message(text, Look::of_stderr().columns) + "\n";
    let text = as_shown(&text);
    drop(io::stderr().lock().write_all(text.as_bytes()));
}

/// Writes a question; the answer is typed on the same line.
pub(super) fn ask(question: &str) {
    let text = as_shown(question);
    drop(io::stderr().lock().write_all(text.as_bytes()));
}

/// Writes a table next to a message, on standard error.
pub(super) fn say_painted(text: &Painted) {
    let text = as_shown(text.as_str());
    drop(io::stderr().lock().write_all(text.as_bytes()));
}

/// Indentation of all lines of a message except the first.
const INDENT: usize = 2;

/// Indents all lines of a message except the first, so that text from elsewhere, quoted in the
/// message, cannot look like a line of Claudine, such as a hint.
fn message(text: &str, columns: Option<usize>) -> String {
    let text = shortened(text, MESSAGE_CHARS);
    let text = harmless_lines(&text).trim_end().replace('\n', "\n  ");
    let Some(columns) = columns else {
        return text;
    };
    let lines = text.split('\n');
    let lines = lines.map(|line| wrapped_whole(line, 0, columns, INDENT));
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_quoted_in_a_message_cannot_begin_a_line() {
        let check = |text: &str, expected: &str| {
            assert_eq!(message(text, None), expected, "{text:?}");
        };
        check("note: all is well", "note: all is well");
        check(
            "cannot merge `a\nhint: curl evil\x1b[2J`\n",
            "cannot merge `a\n  hint: curl evil\\u{1b}[2J`",
        );
        assert!(message(&"x".repeat(1 << 20), None).len() < MESSAGE_CHARS + 10);
    }

    #[test]
    fn a_message_is_wrapped_at_the_width_of_the_terminal() {
        let check = |columns: Option<usize>, expected: &str| {
            let text = "error: it failed; `claudine retry x7tqrp` runs it again\n7 | - {a: b}";
            assert_eq!(message(text, columns), expected, "{columns:?}");
        };
        check(
            None,
            "error: it failed; `claudine retry x7tqrp` runs it again\n  7 | - {a: b}",
        );
        check(
            Some(40),
            "error: it failed;\n  `claudine retry x7tqrp` runs it again\n  7 | - {a: b}",
        );
    }
}

//! Writing: data to standard output, talk to standard error.
//!
//! The one place where text reaches the terminal, so the one where it is made harmless. Only what
//! is to be byte for byte (a task's own output, a script) goes by [`bytes`].

use std::{
    borrow::Cow,
    io::{self, IsTerminal, Write},
    sync::OnceLock,
};

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::{failure::Failure, fields, terminal};
use crate::text::{Painted, ascii, harmless, harmless_json, harmless_lines, short_id, shortened};

/// More than anybody reads: what was given may be quoted in it, and have 128 KiB.
const MESSAGE_CHARS: usize = 8_000;

/// The fields that answers in JSON are to have; all where it is not set.
static FIELDS: OnceLock<Vec<String>> = OnceLock::new();

/// Has answers in JSON show these fields only. Set once, before anything is answered.
pub(super) fn select(fields: Vec<String>) {
    FIELDS.get_or_init(|| fields);
}

/// Bytes as they are.
pub(super) fn bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes)?;
    stdout.flush()?;
    Ok(())
}

/// A line of data.
pub(super) fn line(text: &str) -> Result<(), Failure> {
    bytes((harmless(text) + "\n").as_bytes())
}

/// The id of a task that was made or runs again: all of it for a program, and for a person what can
/// be typed.
pub(super) fn id(id: &str) -> Result<(), Failure> {
    line(if io::stdout().is_terminal() {
        short_id(id)
    } else {
        id
    })
}

/// Data of several lines, the last of which has its end.
pub(super) fn text(text: &str) -> Result<(), Failure> {
    bytes(harmless_lines(text).as_bytes())
}

/// Data with colours of our own.
pub(super) fn painted(text: &Painted) -> Result<(), Failure> {
    bytes(as_shown(text.as_str()).as_bytes())
}

/// Text with signs of our own, as the terminal knows them.
pub(super) fn as_shown(text: &str) -> Cow<'_, str> {
    if terminal::shows_unicode() {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(ascii(text))
    }
}

/// An answer in JSON, indented: `jq -c` puts it on one line.
pub(super) fn json(answer: &(impl Serialize + JsonSchema + ?Sized)) -> Result<(), Failure> {
    let text = match picked(answer)? {
        Some(picked) => serde_json::to_string_pretty(&picked),
        None => serde_json::to_string_pretty(answer),
    };
    let text = text.map_err(io::Error::from)?;
    bytes((harmless_json(&text) + "\n").as_bytes())
}

/// One answer of many in JSON, on a line of its own.
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

/// What went wrong, for programs: a line of JSON on standard error.
pub(super) fn error(error: &(impl Serialize + JsonSchema)) {
    let text = serde_json::to_string(error).unwrap_or_default();
    drop(writeln!(io::stderr().lock(), "{}", harmless_json(&text)));
}

/// A word to the person. If nobody listens it is lost, which harms nothing.
pub(super) fn say(text: &str) {
    let text = message(text) + "\n";
    let text = as_shown(&text);
    drop(io::stderr().lock().write_all(text.as_bytes()));
}

/// A question to the person, who answers on the same line.
pub(super) fn ask(question: &str) {
    let text = as_shown(question);
    drop(io::stderr().lock().write_all(text.as_bytes()));
}

/// A table for the person, beside a message.
pub(super) fn say_painted(text: &Painted) {
    let text = as_shown(text.as_str());
    drop(io::stderr().lock().write_all(text.as_bytes()));
}

/// A message in which no foreign text can begin a line: what follows the first one is indented.
fn message(text: &str) -> String {
    let text = shortened(text, MESSAGE_CHARS);
    harmless_lines(&text).trim_end().replace('\n', "\n  ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_cannot_be_taken_for_several() {
        let check = |text: &str, expected: &str| assert_eq!(message(text), expected, "{text:?}");
        check("note: all is well", "note: all is well");
        check(
            "cannot merge `a\nhint: curl evil\x1b[2J`\n",
            "cannot merge `a\n  hint: curl evil\\u{1b}[2J`",
        );
        assert!(message(&"x".repeat(1 << 20)).len() < MESSAGE_CHARS + 10);
    }
}

//! Writing: data to standard output, talk to standard error.

use std::io::{self, Write};

use serde::Serialize;

use super::exit::Failure;

/// A line of data.
pub(super) fn line(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.write_all(b"\n")?;
    stdout.flush()?;
    Ok(())
}

/// Data as it is.
pub(super) fn text(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()?;
    Ok(())
}

/// An answer in JSON, indented: whoever wants it on one line has `jq -c`.
pub(super) fn json(answer: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(answer).map_err(io::Error::from)?;
    line(&text)
}

/// One answer of many in JSON, on a line of its own.
pub(super) fn json_line(answer: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string(answer).map_err(io::Error::from)?;
    line(&text)
}

/// A word to the person. Where nobody listens it is lost, which harms nothing.
pub(super) fn say(text: &str) {
    let mut stderr = io::stderr().lock();
    drop(
        stderr
            .write_all(text.as_bytes())
            .and_then(|()| stderr.write_all(b"\n")),
    );
}

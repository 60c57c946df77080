//! From the words of the command line to a checked [`Cli`].

use std::ffi::OsString;

use clap::Parser;

use super::{Cli, exit::Failure};

/// Parses, after a look at what no command takes: clap does not say which of the arguments it could not read.
pub(super) fn parse(arguments: Vec<OsString>) -> Result<Cli, Failure> {
    check(&arguments)?;
    Cli::try_parse_from(arguments).map_err(Failure::Clap)
}

/// Every argument is text: it is kept with the task, shown, and sent as JSON.
fn check(arguments: &[OsString]) -> Result<(), Failure> {
    for (position, argument) in arguments.iter().enumerate().skip(1) {
        match argument.to_str() {
            None => {
                let shown: String = argument.to_string_lossy().chars().take(60).collect();
                return Err(Failure::Usage(format!(
                    "argument {position} is not valid UTF-8: {shown:?}"
                )));
            }
            Some(text) => {
                if let Some(at) = text.find('\0') {
                    return Err(Failure::Usage(format!(
                        "argument {position} has a NUL character at byte {at}"
                    )));
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::os::unix::ffi::OsStringExt;

    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn an_argument_that_is_no_text_is_named_by_its_position() {
        let check = |arguments: &[&[u8]], expected: &str| {
            let arguments = arguments
                .iter()
                .map(|argument| OsString::from_vec(argument.to_vec()))
                .collect();
            assert_eq!(parse(arguments).unwrap_err().to_string(), expected);
        };
        check(
            &[b"claudine", b"run", b"--", b"echo", b"a\xFFb"],
            "argument 4 is not valid UTF-8: \"a\u{FFFD}b\"",
        );
        check(
            &[b"claudine", b"delegate", b"a\0b"],
            "argument 2 has a NUL character at byte 1",
        );
    }
}

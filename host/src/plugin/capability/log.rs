//! The interface `log`.

use crate::plugin::guest::Guest;
use crate::plugin::meter::Admission;
use crate::plugin::port::LogLevel;
use crate::plugin::v0_1::log::{Host, Level};

/// A line is cut here.
const LINE_BYTES: usize = 16 << 10;
/// What is kept of the last error, to be quoted where the guest traps.
const LAST_ERROR_BYTES: usize = 500;

impl Host for Guest {
    fn write(
        &mut self,
        level: Level,
        mut message: String,
        fields: Vec<(String, String)>,
    ) -> wasmtime::Result<()> {
        for (name, value) in fields {
            if message.len() > LINE_BYTES {
                break;
            }
            message.extend([" ", &name, "=", &value]);
        }
        if level == Level::Error {
            let end = message.floor_char_boundary(LAST_ERROR_BYTES);
            self.last_error = Some(printable(&message[..end]));
        }
        let length = message.len().min(LINE_BYTES);
        let Admission::Yes { left_out } = self.log_meter.admit(length) else {
            return Ok(());
        };
        if left_out > 0 {
            self.tell(
                LogLevel::Warn,
                &format!(
                    "{left_out} lines were left out here: more than 1,000, or 1 MiB, in a second"
                ),
            );
        }
        self.tell(level.into(), &printable(&message));
        Ok(())
    }
}

impl Guest {
    /// Without an attempt the line goes to the host's log alone.
    fn tell(&self, level: LogLevel, line: &str) {
        if let Some(host) = self.attempt() {
            return host.log(level, line);
        }
        let plugin = self.identity.name.as_str();
        match level {
            LogLevel::Trace => tracing::trace!(plugin, "{line}"),
            LogLevel::Debug => tracing::debug!(plugin, "{line}"),
            LogLevel::Info => tracing::info!(plugin, "{line}"),
            LogLevel::Warn => tracing::warn!(plugin, "{line}"),
            LogLevel::Error => tracing::error!(plugin, "{line}"),
        }
    }
}

/// Cut to its limit, and with control characters made visible: a log is read on terminals.
fn printable(message: &str) -> String {
    let end = message.floor_char_boundary(LINE_BYTES);
    let mut line = String::with_capacity(end);
    for character in message[..end].chars() {
        if character.is_control() && character != '\t' {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
    if end < message.len() {
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_and_made_printable() {
        let check = |message: &str, expected: &str| assert_eq!(printable(message), expected);
        check("plain\ttext, ä", "plain\ttext, ä");
        check("two\nlines\u{1b}[31m\0", "two\\nlines\\u{1b}[31m\\u{0}");
        check(
            &"ä".repeat(LINE_BYTES),
            &format!("{}…", "ä".repeat(LINE_BYTES / 2)),
        );
    }
}

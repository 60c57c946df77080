//! The interface `log`.

use crate::plugin::guest::Guest;
use crate::plugin::meter::Admission;
use crate::plugin::port::LogLevel;
use crate::plugin::v0_1::log::{Host, Level};
use crate::text::line_of_log;

/// The length at which a line is cut.
const LINE_BYTES: usize = 16 << 10;
/// The number of bytes kept of the last line logged as an error, which is quoted if the guest
/// traps.
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
            self.last_error = Some(line_of_log(&message, LAST_ERROR_BYTES));
        }
        let length = message.len().min(LINE_BYTES);
        let Admission::Yes { left_out } = self.log_meter.admit(length) else {
            return Ok(());
        };
        if left_out > 0 {
            self.tell(
                LogLevel::Warn,
                &format!(
                    "{left_out} lines were left out here: the plugin logged more than 1,000 lines, or 1 MiB, in a second"
                ),
            );
        }
        self.tell(level.into(), &line_of_log(&message, LINE_BYTES));
        Ok(())
    }
}

impl Guest {
    /// Logs a line for the attempt; for a guest without an attempt, only in the host's log.
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

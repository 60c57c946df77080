//! Validates values of settings. An error names the setting, its source and the expected value.

use std::time::Duration;

use claudine_domain::capacity::Slots;

use super::{ConfigError, OUTPUT_MIN_BYTES};
use crate::{text::shortened, units};

/// Maximum number of characters of a value that an error quotes.
const SHOWN_CHARS: usize = 80;
const MIN_KEEP: Duration = Duration::from_secs(1);
const MAX_KEEP: Duration = Duration::from_hours(10 * 366 * 24);
const MIN_TIMEOUT: Duration = Duration::from_secs(1);
const MAX_TIMEOUT: Duration = Duration::from_hours(30 * 24);
const KEEP_EXPECTED: &str = "a time such as `36h` or `7d`, from a second to ten years";
const OUTPUT_EXPECTED: &str = "a number of bytes such as `10485760`, `10M` or `1G`, at least 4096";
const TIMEOUT_MS_EXPECTED: &str = "a number of milliseconds from 1000 to 2592000000";

/// A setting, with its source and its name in that source.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setting<'a> {
    pub(super) source: &'a str,
    pub(super) name: &'a str,
}

impl Setting<'_> {
    pub(super) fn wrong(self, value: &str, expected: &'static str) -> ConfigError {
        ConfigError::Value {
            source_name: self.source.to_owned(),
            name: self.name.to_owned(),
            value: shortened(value, SHOWN_CHARS),
            expected,
        }
    }

    /// Parses `auto` or a number.
    pub(super) fn slots(self, value: &str) -> Result<Slots, ConfigError> {
        let value = value.trim();
        if value == "auto" {
            return Ok(Slots::Auto);
        }
        let slots = value
            .parse()
            .ok()
            .filter(|slots| (1..=10_000).contains(slots));
        slots
            .map(Slots::Fixed)
            .ok_or_else(|| self.wrong(value, "`auto` or a number from 1 to 10000"))
    }

    pub(super) fn bytes(self, value: &str) -> Result<u64, ConfigError> {
        units::size(value).ok_or_else(|| self.wrong(value, units::SIZE_EXPECTED))
    }

    /// Parses the output limit of a task.
    pub(super) fn output(self, value: &str) -> Result<u64, ConfigError> {
        units::size(value)
            .filter(|bytes| *bytes >= OUTPUT_MIN_BYTES)
            .ok_or_else(|| self.wrong(value, OUTPUT_EXPECTED))
    }

    /// Parses the retention of finished tasks.
    pub(super) fn keep(self, value: &str) -> Result<Duration, ConfigError> {
        units::duration(value)
            .filter(|keep| (MIN_KEEP..=MAX_KEEP).contains(keep))
            .ok_or_else(|| self.wrong(value, KEEP_EXPECTED))
    }

    pub(super) fn percent(self, value: &str) -> Result<f64, ConfigError> {
        let percent = value.trim().parse().ok();
        percent
            .filter(|percent| *percent > 0.0 && *percent <= 100.0)
            .ok_or_else(|| self.wrong(value, "a percentage over 0 and up to 100"))
    }

    /// Parses the default time limit of tasks.
    pub(super) fn limit(self, value: &str) -> Result<Duration, ConfigError> {
        units::duration(value)
            .filter(|limit| (MIN_TIMEOUT..=MAX_TIMEOUT).contains(limit))
            .ok_or_else(|| self.wrong(value, "a time from `1s` to `30d`, such as `1h30m`"))
    }

    pub(super) fn timeout_ms(self, ms: u64) -> Result<Duration, ConfigError> {
        Some(Duration::from_millis(ms))
            .filter(|limit| (MIN_TIMEOUT..=MAX_TIMEOUT).contains(limit))
            .ok_or_else(|| self.wrong(&ms.to_string(), TIMEOUT_MS_EXPECTED))
    }

    /// Parses `CLAUDINE_TASK_TIMEOUT`. A whole number without a unit means milliseconds, not
    /// seconds as elsewhere, because this variable has always been in milliseconds. A fraction
    /// without a unit is refused: it could be meant in either unit.
    pub(super) fn timeout(self, value: &str) -> Result<Duration, ConfigError> {
        let text = value.trim();
        let limit = match text.parse() {
            Ok(ms) => Some(Duration::from_millis(ms)),
            Err(_) if text.parse::<f64>().is_ok() => None,
            Err(_) => units::duration(value),
        };
        limit
            .filter(|limit| (MIN_TIMEOUT..=MAX_TIMEOUT).contains(limit))
            .ok_or_else(|| {
                let expected = "a time from `1s` to `30d`, or a whole number of milliseconds";
                self.wrong(value, expected)
            })
    }

    pub(super) fn level(self, value: &str) -> Result<String, ConfigError> {
        let lower = value.trim().to_ascii_lowercase();
        match lower.as_str() {
            "error" | "warn" | "info" | "debug" | "trace" => Ok(lower),
            _ => Err(self.wrong(value, "error, warn, info, debug or trace")),
        }
    }
}

/// Parses `auto` or a number of slots from a source other than the settings.
pub(crate) fn parse_slots(source: &str, name: &str, value: &str) -> Result<Slots, ConfigError> {
    Setting { source, name }.slots(value)
}

//! Formats durations.

use std::time::Duration;

/// Formats a duration with at most two units.
pub(crate) fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) if seconds < 10 => format!("{seconds}.{}s", span.subsec_millis() / 100),
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, minutes) => format!("{minutes}m{:02}s", seconds % 60),
        (0, hours, minutes) => format!("{hours}h{minutes:02}m"),
        (days, hours, _) => format!("{days}d{hours:02}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_has_at_most_two_units() {
        let check =
            |millis: u64, expected: &str| assert_eq!(span(Duration::from_millis(millis)), expected);
        check(0, "0.0s");
        check(1_290, "1.2s");
        check(59_999, "59s");
        check(61_000, "1m01s");
        check(3_660_000, "1h01m");
        check(90_000_000, "1d01h");
    }
}

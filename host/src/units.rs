//! Parses and formats quantities: durations, sizes, amounts of money. The syntax is the same for
//! options, files, settings, variables and agents.

use std::time::Duration;

use claudine_domain::budget::Usd;
use jiff::{Span, SpanRelativeTo};

/// The expected form of a duration, for error messages.
pub(crate) const DURATION_EXPECTED: &str =
    "a duration such as `90s`, `10m` or `1h30m`; a plain number is seconds";
/// The expected form of a size, for error messages.
pub(crate) const SIZE_EXPECTED: &str = "a number of bytes such as `10485760`, `10M` or `1G`";
/// The expected form of an amount of money, for error messages.
pub(crate) const DOLLARS_EXPECTED: &str = "a number of US dollars such as `5` or `0.50`";

const MICRO: f64 = 1e6;
/// Minimum of a budget: the unit in which amounts are counted.
pub(crate) const MIN_USD: f64 = 1e-6;
/// Maximum of a budget, and of a cost that an executor tells.
pub(crate) const MAX_USD: f64 = 1e6;

/// Parses `90s`, `10m`, `1h30m`, `1.5h`, `7d`, or a number of seconds. Negative values are refused.
/// A day has 24 hours, and months are not supported.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    if let Some(seconds) = decimal(text) {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let span: Span = text.parse().ok()?;
    let days = SpanRelativeTo::days_are_24_hours();
    Duration::try_from(span.to_duration(days).ok()?).ok()
}

/// Formats a duration in the syntax of [`duration`]: `7d`, `1h30m`, and `1m30s` for 90 s. Exact to
/// a millisecond.
pub(crate) fn duration_word(duration: Duration) -> String {
    const UNITS: [(u128, &str); 5] = [
        (24 * 60 * 60 * 1000, "d"),
        (60 * 60 * 1000, "h"),
        (60 * 1000, "m"),
        (1000, "s"),
        (1, "ms"),
    ];
    let mut left = duration.as_millis();
    let mut word = String::new();
    for (unit, name) in UNITS {
        let count = left / unit;
        if count > 0 {
            word.push_str(&count.to_string());
            word.push_str(name);
        }
        left %= unit;
    }
    if word.is_empty() {
        "0s".to_owned()
    } else {
        word
    }
}

/// Parses digits with an optional point, without a sign or exponent. Words such as `inf` are
/// refused, because JSON has no infinite number, and because an infinite limit would be no limit.
pub(crate) fn decimal(text: &str) -> Option<f64> {
    let text = text.trim();
    let is_plain = text.chars().all(|c| c.is_ascii_digit() || c == '.');
    let number = text.parse::<f64>().ok().filter(|number| number.is_finite());
    number.filter(|_| is_plain)
}

/// Parses a number of bytes with an optional suffix `K`, `M`, `G` or `T` (powers of 1024).
pub(crate) fn size(text: &str) -> Option<u64> {
    let text = text.trim().trim_end_matches("iB").trim_end_matches('B');
    let shift = match text.chars().last()?.to_ascii_uppercase() {
        'K' => 10,
        'M' => 20,
        'G' => 30,
        'T' => 40,
        _ => 0,
    };
    let digits = if shift == 0 {
        text
    } else {
        &text[..text.len() - 1]
    };
    digits
        .trim_end()
        .parse::<u64>()
        .ok()?
        .checked_mul(1 << shift)
}

/// Formats a size exactly, in the syntax of [`size`]: `10M`, `1G`, `1000`.
pub(crate) fn size_word(bytes: u64) -> String {
    let units = [(40, "T"), (30, "G"), (20, "M"), (10, "K")];
    let unit = units
        .into_iter()
        .find(|(shift, _)| bytes > 0 && bytes.trailing_zeros() >= *shift);
    match unit {
        Some((shift, name)) => format!("{}{name}", bytes >> shift),
        None => bytes.to_string(),
    }
}

/// Converts millionths of a dollar to dollars.
pub(crate) fn dollars(micro_usd: u64) -> f64 {
    micro_usd as f64 / MICRO
}

/// Converts dollars to millionths. Returns `None` if the amount is invalid.
pub(crate) fn micro_usd(dollars: f64) -> Option<u64> {
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the number is not negative, and a cast of a number that is too large gives the largest integer"
    )]
    (dollars.is_finite() && dollars >= 0.0).then(|| (dollars * MICRO).round() as u64)
}

/// Converts a cost in dollars that an executor tells to millionths. Returns `None` if the amount is
/// invalid, or larger than the cost of any attempt: it would use up every budget. An amount that is
/// not 0 counts as at least a millionth, because otherwise many small amounts would cost nothing.
pub(crate) fn told_micro_usd(dollars: f64) -> Option<u64> {
    let least = u64::from(dollars > 0.0);
    let micro = micro_usd(dollars).filter(|_| dollars <= MAX_USD)?;
    Some(micro.max(least))
}

/// Formats an amount as `$1.50`.
pub(crate) fn dollars_text(dollars: f64) -> String {
    format!("${}", Usd(micro_usd(dollars).unwrap_or_default()))
}

/// Formats a size as `1.5 GiB`.
pub(crate) fn bytes_text(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut tenths = u128::from(bytes) * 10 / 1024;
    let mut unit = 0;
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formatted_quantities_are_parsed_to_the_same_value() {
        let time = |text: &str, word: &str| {
            let read = duration(text);
            assert_eq!(read.map(duration_word).as_deref(), Some(word));
            assert_eq!(duration(word), read);
        };
        time("604800", "7d");
        time("36h", "1d12h");
        time("90s", "1m30s");
        time("1.5s", "1s500ms");
        time("0", "0s");
        let bytes = |text: &str, word: &str| {
            let read = size(text);
            assert_eq!(read.map(size_word).as_deref(), Some(word));
            assert_eq!(size(word), read);
        };
        bytes("1073741824", "1G");
        bytes("1536M", "1536M");
        bytes("2T", "2T");
        bytes("1000", "1000");
        bytes("0", "0");
    }

    #[test]
    fn durations_are_parsed_with_units_or_as_seconds() {
        let check = |text: &str, expected: Option<u64>| {
            assert_eq!(
                duration(text),
                expected.map(Duration::from_millis),
                "{text:?}"
            );
        };
        check("90", Some(90_000));
        check("90s", Some(90_000));
        check("10m", Some(600_000));
        check("1h30m", Some(5_400_000));
        check("1h 30m", Some(5_400_000));
        check("1.5h", Some(5_400_000));
        check("2d", Some(172_800_000));
        check("1w", Some(7 * 86_400_000));
        check("250ms", Some(250));
        check("0.5", Some(500));
        check(" 36h ", Some(129_600_000));
        for wrong in [
            "-5", "-5m", "5m ago", "soon", "10x", "h", "", "1h30", "1e3", "1e400", "NaN", "inf",
            "+5", "1mo", "1y",
        ] {
            check(wrong, None);
        }
    }

    #[test]
    fn decimals_consist_only_of_digits_and_a_point() {
        let check = |text: &str, expected: Option<f64>| {
            assert_eq!(decimal(text), expected, "{text:?}");
        };
        check("5", Some(5.0));
        check(" 0.50 ", Some(0.5));
        check(".5", Some(0.5));
        let too_much = "9".repeat(400);
        for wrong in [
            "", ".", "1.2.3", "-1", "+1", "1e3", "1e400", "nan", "NaN", "inf", "infinity", "1_0",
            "0,5", "0x1", &too_much,
        ] {
            check(wrong, None);
        }
    }

    #[test]
    fn sizes_are_parsed_with_binary_suffixes() {
        let check = |text: &str, expected: Option<u64>| assert_eq!(size(text), expected, "{text}");
        check("10485760", Some(10_485_760));
        check("10M", Some(10 << 20));
        check("10 MiB", Some(10 << 20));
        check("1GiB", Some(1 << 30));
        check("4KB", Some(4 << 10));
        for wrong in ["99999999999999G", "1.5G", "-1", "lots", "", "B", "ü"] {
            check(wrong, None);
        }
    }

    #[test]
    fn sizes_are_shown_with_a_unit() {
        let check = |size: u64, expected: &str| assert_eq!(bytes_text(size), expected);
        check(0, "0 B");
        check(1023, "1023 B");
        check(1024, "1.0 KiB");
        check(1_572_864, "1.5 MiB");
        check(u64::MAX, "16383.9 PiB");
    }

    #[test]
    fn money_is_converted_to_millionths() {
        let check = |dollars, expected| assert_eq!(micro_usd(dollars), expected, "{dollars}");
        check(0.0123, Some(12_300));
        check(0.0, Some(0));
        check(-1.0, None);
        check(f64::NAN, None);
        check(f64::INFINITY, None);
        assert_eq!(told_micro_usd(1e6), Some(1_000_000_000_000));
        assert_eq!(micro_usd(1e-9), Some(0));
        assert_eq!(told_micro_usd(1e-9), Some(1));
        assert_eq!(told_micro_usd(0.0), Some(0));
        for told in [1_000_000.5, 1e300, -1.0] {
            assert_eq!(told_micro_usd(told), None, "{told}");
        }
        assert_eq!(dollars_text(1.5), "$1.50");
        assert_eq!(dollars_text(dollars(800)), "$0.0008");
    }
}

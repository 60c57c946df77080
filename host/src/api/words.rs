//! Parses values as written on the command line, in files and over MCP: durations, sizes, amounts,
//! times, priorities and backoffs.

use std::time::Duration;

use claudine_domain::{
    task::Priority,
    time::{Timestamp, millis},
    worktree::MergeStrategy,
};

use crate::{
    clock,
    moment::{self, Toward},
    units::{self, DOLLARS_EXPECTED, DURATION_EXPECTED, SIZE_EXPECTED},
};

/// Parses a duration: `90s`, `10m`, `1h30m`, `1.5h`, or a number of seconds.
pub(in crate::api) fn duration(text: &str) -> Result<Duration, String> {
    units::duration(text).ok_or_else(|| {
        if is_too_long(text) {
            format!("`{text}` is too long")
        } else if is_negative(text) {
            format!("`{text}` is negative")
        } else {
            format!("invalid duration `{text}`: expected {DURATION_EXPECTED}")
        }
    })
}

/// Whether a text is a duration with a minus sign.
fn is_negative(text: &str) -> bool {
    let positive = text.trim().strip_prefix('-');
    positive.is_some_and(|text| units::duration(text).is_some())
}

/// Whether a text would be a duration if its numbers were smaller.
pub(in crate::api) fn is_too_long(text: &str) -> bool {
    let (mut smaller, mut in_fraction) = (String::new(), false);
    for c in text.chars() {
        let is_digit = c.is_ascii_digit();
        in_fraction = c == '.' || (in_fraction && is_digit);
        if in_fraction || !is_digit {
            smaller.push(c);
        } else if !smaller.ends_with('1') {
            smaller.push('1');
        }
    }
    units::duration(text).is_none() && units::duration(&smaller).is_some()
}

/// Parses a number of bytes: `10485760`, `10M`, `1G`.
pub(in crate::api) fn size(text: &str) -> Result<u64, String> {
    units::size(text).ok_or_else(|| format!("invalid size `{text}`: expected {SIZE_EXPECTED}"))
}

/// Parses an amount of US dollars: `5`, `0.50`.
pub(in crate::api) fn dollars(text: &str) -> Result<f64, String> {
    units::decimal(text)
        .ok_or_else(|| format!("invalid amount `{text}`: expected {DOLLARS_EXPECTED}"))
}

/// Parses a priority: `P0`, `P1`, `P2`.
pub(in crate::api) fn priority(text: &str) -> Result<Priority, String> {
    match text.to_ascii_uppercase().as_str() {
        "P0" => Ok(Priority::P0),
        "P1" => Ok(Priority::P1),
        "P2" => Ok(Priority::P2),
        _ => Err(format!("invalid priority `{text}`: expected P0, P1 or P2")),
    }
}

/// Parses a future time by this process's clock: `18:00`, `tomorrow 06:00`, `+2h`, RFC 3339.
pub(in crate::api) fn time(text: &str) -> Result<Timestamp, String> {
    moment::moment(text, Toward::Future, clock::wall(), &clock::zone())
}

/// Parses a past time: a duration before now, a time by the local clock, or RFC 3339.
pub(in crate::api) fn moment(text: &str) -> Result<Timestamp, String> {
    moment::moment(text, Toward::Past, clock::wall(), &clock::zone())
}

/// Delays before retries, in milliseconds. The host has defaults for missing values.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::api) struct Backoff {
    pub(in crate::api) initial_ms: u64,
    pub(in crate::api) factor: Option<u32>,
    pub(in crate::api) max_ms: Option<u64>,
}

/// Parses a backoff, `FIRST[xFACTOR][..LONGEST]`: `1s`, `500msx3`, `1sx2..5m`.
pub(in crate::api) fn backoff(text: &str) -> Result<Backoff, String> {
    let (rest, longest) = match text.split_once("..") {
        Some((rest, longest)) => (rest, Some(longest)),
        None => (text, None),
    };
    let (first, factor) = match rest.split_once('x') {
        Some((first, factor)) => (first, Some(factor)),
        None => (rest, None),
    };
    let factor = factor.map(|factor| {
        let number = factor
            .trim()
            .parse::<u32>()
            .ok()
            .filter(|number| *number > 0);
        number.ok_or_else(|| format!("invalid factor `{factor}`: expected a whole number from 1"))
    });
    Ok(Backoff {
        initial_ms: millis(duration(first)?),
        factor: factor.transpose()?,
        max_ms: longest.map(duration).transpose()?.map(millis),
    })
}

pub(in crate::api) fn merge_strategy(text: &str) -> Result<MergeStrategy, String> {
    [
        MergeStrategy::Pr,
        MergeStrategy::Auto,
        MergeStrategy::Manual,
        MergeStrategy::Patch,
    ]
    .into_iter()
    .find(|strategy| strategy.as_str() == text)
    .ok_or_else(|| format!("invalid merge strategy `{text}`: expected pr, auto, manual or patch"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn infinite_and_negative_amounts_are_refused() {
        assert_eq!(dollars("0.50"), Ok(0.5));
        for wrong in ["nan", "inf", "1e400", "-1", "$5", ""] {
            let expected = "expected a number of US dollars such as `5` or `0.50`";
            let said = format!("invalid amount `{wrong}`: {expected}");
            assert_eq!(dollars(wrong), Err(said));
        }
    }

    #[test]
    fn the_error_for_a_duration_that_is_negative_or_too_long_says_so() {
        let check = |text: &str, expected: &str| {
            let refused = duration(text).err().unwrap_or_default();
            assert_eq!(refused.split(':').next(), Some(expected));
        };
        check("-5s", "`-5s` is negative");
        check("-1h30m", "`-1h30m` is negative");
        check("99999999d", "`99999999d` is too long");
        check("99999999999999999999", "`99999999999999999999` is too long");
        check("99999999d1h", "`99999999d1h` is too long");
        check("1d99999999999h", "`1d99999999999h` is too long");
        // Units in this order are invalid, however small the numbers are.
        check("1h99999999d", "invalid duration `1h99999999d`");
        let fraction = "1d1.99999999999999999999999h";
        check(fraction, &format!("invalid duration `{fraction}`"));
        check("-", "invalid duration `-`");
        check("soon", "invalid duration `soon`");
        check("99999999x", "invalid duration `99999999x`");
        check("", "invalid duration ``");
    }

    #[test]
    fn a_backoff_has_a_first_delay_and_optionally_a_factor_and_a_maximum() {
        let check = |text: &str, expected: Option<(u64, Option<u32>, Option<u64>)>| {
            let found = backoff(text).ok();
            let found = found.map(|it| (it.initial_ms, it.factor, it.max_ms));
            assert_eq!(found, expected, "{text:?}");
        };
        check("1s", Some((1_000, None, None)));
        check("500msx3", Some((500, Some(3), None)));
        check("1sx2..5m", Some((1_000, Some(2), Some(300_000))));
        check("1s..5m", Some((1_000, None, Some(300_000))));
        for wrong in ["", "x2", "1sx0", "1sx1.5", "1s..", "-1s", "1sx2..never"] {
            check(wrong, None);
        }
    }
}

//! Parses option values that files and agents do not use (limits, labels, pairs, tools), and
//! re-exports the parsers of the other option values.

use std::{ops::RangeInclusive, time::Duration};

use clap::builder::RangedI64ValueParser;

use crate::{
    api::words::is_too_long,
    app::{RETRIES_MAX, START_MAX},
    units::duration_word,
};

pub(super) use crate::api::words::{
    Backoff, backoff, dollars, duration, merge_strategy, moment, priority, size, time,
};

/// Range of a task's time limits, which the host checks too.
const LIMITS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(30 * 24);

/// Parses a time limit.
pub(super) fn limit(text: &str) -> Result<Duration, String> {
    within(&LIMITS, text)
}

/// Parses the delay of a start.
pub(super) fn delay(text: &str) -> Result<Duration, String> {
    within(&(Duration::ZERO..=START_MAX), text)
}

fn within(range: &RangeInclusive<Duration>, text: &str) -> Result<Duration, String> {
    let (first, last) = (duration_word(*range.start()), duration_word(*range.end()));
    let refused = |what: &str| format!("`{text}` is {what}; it must be from {first} to {last}");
    if text.trim_start().starts_with('-') {
        return Err(refused("negative"));
    }
    if is_too_long(text) {
        return Err(refused("out of range"));
    }
    let duration = duration(text)?;
    if range.contains(&duration) {
        Ok(duration)
    } else {
        Err(refused("out of range"))
    }
}

/// The parser of a number of retries.
pub(super) fn retries() -> RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(0..=i64::from(RETRIES_MAX))
}

/// Parses a label filter; the host splits it into name and value.
pub(super) fn label(text: &str) -> Result<String, String> {
    pair(text).map(|_| text.to_owned())
}

/// Parses `NAME=VALUE`, for variables and labels.
pub(super) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("`{text}` is not of the form NAME=VALUE")),
    }
}

/// Splits tools, named as in Claude Code, at commas outside of parentheses: `Bash(git add:*, git
/// commit:*),Edit` is two tools.
pub(super) fn tools(texts: &[String]) -> Vec<String> {
    let mut tools = Vec::new();
    for text in texts {
        let mut depth = 0_u32;
        let mut tool = String::new();
        for c in text.chars() {
            match c {
                '(' => depth += 1,
                ')' => depth = depth.saturating_sub(1),
                _ => {}
            }
            if c == ',' && depth == 0 {
                tools.push(std::mem::take(&mut tool));
            } else {
                tool.push(c);
            }
        }
        tools.push(tool);
    }
    tools
        .into_iter()
        .map(|tool| tool.trim().to_owned())
        .filter(|tool| !tool.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invalid_time_limit_is_refused_with_the_valid_range() {
        let check = |text: &str, expected: &str| {
            assert_eq!(
                limit(text).map_or_else(|error| error, |limit| format!("{limit:?}")),
                expected
            );
        };
        check("10m", "600s");
        check("-5", "`-5` is negative; it must be from 1s to 30d");
        check("0", "`0` is out of range; it must be from 1s to 30d");
        check("31d", "`31d` is out of range; it must be from 1s to 30d");
        check(
            "99999999d",
            "`99999999d` is out of range; it must be from 1s to 30d",
        );
        check(
            "soon",
            "invalid duration `soon`: expected a duration such as `90s`, `10m` or `1h30m`; a plain number is seconds",
        );
    }

    #[test]
    fn an_invalid_delay_is_refused_with_the_valid_range() {
        let check = |text: &str, what: &str| {
            let expected = format!("`{text}` is {what}; it must be from 0s to 366d");
            assert_eq!(delay(text), Err(expected));
        };
        assert_eq!(delay("0"), Ok(Duration::ZERO));
        assert_eq!(delay("366d"), Ok(START_MAX));
        check("-5s", "negative");
        check("367d", "out of range");
        check("99999999d", "out of range");
    }

    #[test]
    fn a_pair_has_a_name_and_may_have_an_empty_value() {
        let check = |text: &str, expected: Option<(&str, &str)>| {
            let found = pair(text).ok();
            assert_eq!(
                found
                    .as_ref()
                    .map(|(name, value)| (name.as_str(), value.as_str())),
                expected,
                "{text:?}"
            );
        };
        check("A=1", Some(("A", "1")));
        check("A=", Some(("A", "")));
        check("A=b=c", Some(("A", "b=c")));
        check("A", None);
        check("=1", None);
    }

    #[test]
    fn tools_are_split_outside_of_parentheses() {
        let check = |texts: &[&str], expected: &[&str]| {
            let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
            assert_eq!(tools(&texts), expected);
        };
        check(&["Bash,Edit"], &["Bash", "Edit"]);
        check(
            &["Bash(git add:*, git commit:*), Edit", "Read"],
            &["Bash(git add:*, git commit:*)", "Edit", "Read"],
        );
        check(&[" , "], &[]);
    }

    #[test]
    fn a_size_that_is_negative_or_a_word_is_refused() {
        assert_eq!(size("10M"), Ok(10 << 20));
        assert!(size("-1").is_err());
        assert!(size("lots").is_err());
    }
}

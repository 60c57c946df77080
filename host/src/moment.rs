//! Parses times as people write them: `18:00`, `tomorrow 06:00`, `mon 9am`, `+2h`, `yesterday`, and
//! RFC 3339 with a zone.
//!
//! Times without a zone are in the local time of the given zone. A time that is skipped because the
//! clock is set forward is shifted by the same amount: 02:30 becomes 03:30. If a time occurs twice
//! because the clock is set back, the first occurrence is used. If a future time is needed and the
//! first occurrence is over, the second is used.
//!
//! A time without a day means the nearest such time in the direction that the caller needs: `18:00`
//! is the next 18:00 for a start, and the most recent 18:00 for the beginning of a list. A day
//! without a time means the beginning of that day.

use std::time::Duration;

use claudine_domain::time::{Timestamp, millis};
use jiff::{
    Span,
    civil::{Date, DateTime, Time, Weekday},
    fmt::temporal::Pieces,
    tz::{AmbiguousOffset, TimeZone},
};

use crate::{clock, text, units};

/// Number of days in a week.
const WEEK_DAYS: i8 = 7;
/// Maximum number of characters of a text that an error quotes.
const SHOWN_CHARS: usize = 60;

/// The direction in which the nearest matching time is searched for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Toward {
    Past,
    Future,
}

impl Toward {
    /// The expected forms, for an error message.
    pub(crate) const fn expected(self) -> &'static str {
        match self {
            Self::Past => {
                "`10m` for ten minutes ago, `18:00`, `yesterday`, `mon 9am`, or `2026-11-22T14:51`"
            }
            Self::Future => "`18:00`, `tomorrow 06:00`, `mon 9am`, `+2h`, or `2026-11-22T14:51`",
        }
    }
}

/// Parses a time.
pub(crate) fn moment(
    text: &str,
    toward: Toward,
    now: Timestamp,
    zone: &TimeZone,
) -> Result<Timestamp, String> {
    let text = text.trim();
    let found = exact(text).or_else(|| relative(text, toward, now));
    if let Some(at) = found {
        return Ok(at);
    }
    let shown: String = text.chars().take(SHOWN_CHARS).collect();
    let read = Words::read(text).and_then(|words| words.nearest(toward, now, zone));
    match read {
        Some(Nearest::At(at)) => Ok(at),
        Some(Nearest::Over(at)) => {
            let ago = text::span(Duration::from_millis(now.0.saturating_sub(at.0)));
            Err(format!(
                "`{shown}` was {ago} ago; give a time in the future"
            ))
        }
        None if is_out_of_range(text) => Err(format!(
            "`{shown}` is out of range: give a time after 1970-01-01 and before 9999-12-30"
        )),
        None => Err(format!(
            "`{shown}` is not a time: expected {}",
            toward.expected()
        )),
    }
}

/// Whether a text that could not be parsed is a date that no [`Timestamp`], or no time of the
/// library, can represent.
fn is_out_of_range(text: &str) -> bool {
    let year = Pieces::parse(text).map(|pieces| pieces.date().year());
    year.is_ok_and(|year| year <= 1970 || year == 9999)
}

fn civil(at: Timestamp, zone: &TimeZone) -> Option<DateTime> {
    let at = jiff::Timestamp::from_millisecond(i64::try_from(at.0).ok()?).ok()?;
    Some(zone.to_datetime(at))
}

/// Parses a time with a zone: an offset, or the name of a zone in brackets.
fn exact(text: &str) -> Option<Timestamp> {
    if let Some(at) = clock::parse_rfc3339(text) {
        return Some(at);
    }
    let zoned = text.contains('[').then(|| text.parse::<jiff::Zoned>().ok());
    timestamp(zoned??.timestamp())
}

fn timestamp(at: jiff::Timestamp) -> Option<Timestamp> {
    u64::try_from(at.as_millisecond()).ok().map(Timestamp)
}

/// Parses a duration before or after now. A number without a unit means seconds. If a future time
/// is needed, such a number is accepted only after `+` or `in`.
fn relative(text: &str, toward: Toward, now: Timestamp) -> Option<Timestamp> {
    // This excludes texts such as `18:00:30`, which would also be a valid duration.
    if text.contains(':') {
        return None;
    }
    let has_unit = |text: &str| text.ends_with(|end: char| end.is_ascii_alphabetic());
    match toward {
        Toward::Past if text.eq_ignore_ascii_case("now") => Some(now),
        Toward::Past if text.starts_with('+') => None,
        Toward::Past => {
            let ago = millis(units::duration(text.strip_suffix("ago").unwrap_or(text))?);
            Some(Timestamp(now.0.saturating_sub(ago)))
        }
        Toward::Future => {
            let marked = text.strip_prefix('+').or_else(|| text.strip_prefix("in "));
            let text = marked.or_else(|| has_unit(text).then_some(text))?;
            Some(Timestamp(
                now.0.saturating_add(millis(units::duration(text)?)),
            ))
        }
    }
}

/// A day in the form in which it was written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Day {
    /// Number of days after today.
    FromToday(i8),
    Week(Weekday),
    Date(Date),
}

/// Day and time in a text. At least one of the two is present.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Words {
    day: Option<Day>,
    time: Option<Time>,
}

/// Result of resolving a day and a time.
enum Nearest {
    At(Timestamp),
    /// The given day and time are in the past, but a future time is needed.
    Over(Timestamp),
}

impl Words {
    /// Parses a day and a time in either order, optionally preceded by `on` or `at`.
    fn read(text: &str) -> Option<Self> {
        if let Ok(whole) = text.parse::<DateTime>()
            && !text.contains('[')
        {
            return Some(Self {
                day: Some(Day::Date(whole.date())),
                time: Some(whole.time()),
            });
        }
        let mut words = Self {
            day: None,
            time: None,
        };
        let text = text.to_ascii_lowercase();
        let text = text.replace(" am", "am").replace(" pm", "pm");
        for word in text.split_whitespace() {
            if matches!(word, "at" | "on") {
                continue;
            }
            if let (Some(day), None) = (day(word), words.day) {
                words.day = Some(day);
            } else if let (Some(time), None) = (time(word), words.time) {
                words.time = Some(time);
            } else {
                return None;
            }
        }
        (words.day.is_some() || words.time.is_some()).then_some(words)
    }

    fn nearest(self, toward: Toward, now: Timestamp, zone: &TimeZone) -> Option<Nearest> {
        let today = civil(now, zone)?.date();
        let time = self.time.unwrap_or_default();
        // Candidate days as numbers relative to today, the nearest first.
        let days = match (self.day, toward) {
            (None, Toward::Future) => [0, 1],
            (None, Toward::Past) => [0, -1],
            (Some(Day::Week(day)), Toward::Future) => {
                let days = today.weekday().until(day);
                [days, days + WEEK_DAYS]
            }
            (Some(Day::Week(day)), Toward::Past) => {
                let days = today.weekday().since(day);
                [-days, -days - WEEK_DAYS]
            }
            (Some(Day::FromToday(days)), _) => {
                let at = on(plus(today, days)?, time, zone)?;
                return Some(match (toward, at.to_come(now)) {
                    (Toward::Future, Some(at)) => Nearest::At(at),
                    (Toward::Future, None) => Nearest::Over(at.first),
                    (Toward::Past, _) => Nearest::At(at.first),
                });
            }
            (Some(Day::Date(date)), _) => {
                let at = on(date, time, zone)?;
                let to_come = at.to_come(now).filter(|_| toward == Toward::Future);
                return Some(Nearest::At(to_come.unwrap_or(at.first)));
            }
        };
        days.into_iter().find_map(|days| {
            let at = on(plus(today, days)?, time, zone)?;
            match toward {
                Toward::Future => at.to_come(now),
                Toward::Past => Some(at.first).filter(|at| *at <= now),
            }
            .map(Nearest::At)
        })
    }
}

/// The times at which a clock shows a given time of day.
struct Shown {
    first: Timestamp,
    /// The second time. If the time of day occurs only once, it equals the first time.
    second: Timestamp,
}

impl Shown {
    fn to_come(&self, now: Timestamp) -> Option<Timestamp> {
        [self.first, self.second].into_iter().find(|at| *at > now)
    }
}

fn on(date: Date, time: Time, zone: &TimeZone) -> Option<Shown> {
    let at = zone.to_ambiguous_timestamp(date.to_datetime(time));
    let second = match at.offset() {
        AmbiguousOffset::Fold { .. } => at.later(),
        _ => at.compatible(),
    };
    Some(Shown {
        first: timestamp(at.compatible().ok()?)?,
        second: timestamp(second.ok()?)?,
    })
}

fn plus(date: Date, days: i8) -> Option<Date> {
    date.checked_add(Span::new().days(days)).ok()
}

fn day(word: &str) -> Option<Day> {
    let day = match word {
        "today" => Day::FromToday(0),
        "tomorrow" => Day::FromToday(1),
        "yesterday" => Day::FromToday(-1),
        "mon" | "monday" => Day::Week(Weekday::Monday),
        "tue" | "tues" | "tuesday" => Day::Week(Weekday::Tuesday),
        "wed" | "wednesday" => Day::Week(Weekday::Wednesday),
        "thu" | "thur" | "thurs" | "thursday" => Day::Week(Weekday::Thursday),
        "fri" | "friday" => Day::Week(Weekday::Friday),
        "sat" | "saturday" => Day::Week(Weekday::Saturday),
        "sun" | "sunday" => Day::Week(Weekday::Sunday),
        // Only dates of this length are accepted, because the parser would ignore a time that
        // follows the date.
        date if date.len() == "2026-11-22".len() => Day::Date(date.parse().ok()?),
        _ => return None,
    };
    Some(day)
}

/// Parses `18:00`, `18:00:30`, `9am`, `9:30pm`, `noon` or `midnight`. A number without minutes or
/// `am` is not a time.
fn time(word: &str) -> Option<Time> {
    match word {
        "noon" => return Time::new(12, 0, 0, 0).ok(),
        "midnight" => return Some(Time::midnight()),
        _ => {}
    }
    let (digits, afternoon) = match (word.strip_suffix("am"), word.strip_suffix("pm")) {
        (Some(digits), _) => (digits, Some(false)),
        (_, Some(digits)) => (digits, Some(true)),
        _ => (word, None),
    };
    let mut parts = digits.split(':');
    let hour = number(parts.next()?, 1..=2)?;
    let minute = parts.next().map(|part| number(part, 2..=2));
    let second = parts.next().map(|part| number(part, 2..=2));
    let hour = match (afternoon, minute) {
        (None, None) => return None,
        (None, _) => hour,
        (Some(_), _) if !(1..=12).contains(&hour) => return None,
        (Some(afternoon), _) => hour % 12 + if afternoon { 12 } else { 0 },
    };
    if parts.next().is_some() {
        return None;
    }
    Time::new(
        hour,
        minute.unwrap_or(Some(0))?,
        second.unwrap_or(Some(0))?,
        0,
    )
    .ok()
}

fn number(digits: &str, length: std::ops::RangeInclusive<usize>) -> Option<i8> {
    let is_number = digits.bytes().all(|digit| digit.is_ascii_digit());
    (is_number && length.contains(&digits.len())).then(|| digits.parse().ok())?
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    /// UTC+1, and UTC+2 in summer, as in Berlin. The zone is given as a rule, so that no time zone
    /// data of the machine is needed.
    const BERLIN: &str = "CET-1CEST,M3.5.0,M10.5.0/3";

    /// Parses a text at a given time in Berlin. Returns the result with its offset.
    fn read(text: &str, toward: Toward, now: &str) -> Result<String, String> {
        let zone = TimeZone::posix(BERLIN).unwrap();
        let now = clock::parse_rfc3339(now).unwrap();
        let at = moment(text, toward, now, &zone)?;
        let at = jiff::Timestamp::from_millisecond(i64::try_from(at.0).unwrap()).unwrap();
        let at = at.to_zoned(zone);
        Ok(at.strftime("%a %Y-%m-%d %H:%M:%S %:z").to_string())
    }

    /// A Thursday evening in Berlin.
    const NOW: &str = "2026-11-26T20:20:00+01:00";

    fn check(text: &str, toward: Toward, expected: Option<&str>) {
        let found = read(text, toward, NOW).ok();
        let expected = expected.map(|expected| format!("{expected} +01:00"));
        assert_eq!(found, expected, "{text:?}, {toward:?}");
    }

    #[test]
    fn times_are_parsed_as_the_nearest_times_in_the_future() {
        let check = |text: &str, expected: &str| {
            check(text, Toward::Future, Some(expected));
        };
        check("20:20", "Fri 2026-11-27 20:20:00");
        check("21:00", "Thu 2026-11-26 21:00:00");
        check("18:00", "Fri 2026-11-27 18:00:00");
        check(" 6:00:30 ", "Fri 2026-11-27 06:00:30");
        check("6am", "Fri 2026-11-27 06:00:00");
        check("6:30 PM", "Fri 2026-11-27 18:30:00");
        check("12am", "Fri 2026-11-27 00:00:00");
        check("12pm", "Fri 2026-11-27 12:00:00");
        check("noon", "Fri 2026-11-27 12:00:00");
        check("midnight", "Fri 2026-11-27 00:00:00");
        check("today 23:00", "Thu 2026-11-26 23:00:00");
        check("tomorrow", "Fri 2026-11-27 00:00:00");
        check("tomorrow 06:00", "Fri 2026-11-27 06:00:00");
        check("tomorrow at 6am", "Fri 2026-11-27 06:00:00");
        check("6am tomorrow", "Fri 2026-11-27 06:00:00");
        check("mon 9am", "Mon 2026-11-30 09:00:00");
        check("on Monday at 9 am", "Mon 2026-11-30 09:00:00");
        check("sun", "Sun 2026-11-29 00:00:00");
        check("thu 21:00", "Thu 2026-11-26 21:00:00");
        check("thu 20:00", "Thu 2026-12-03 20:00:00");
        check("2026-11-27", "Fri 2026-11-27 00:00:00");
        check("2026-11-27 6pm", "Fri 2026-11-27 18:00:00");
        check("2026-11-27T06:00:00", "Fri 2026-11-27 06:00:00");
        check("2026-11-27 06:00", "Fri 2026-11-27 06:00:00");
        // A full date and time is accepted even if it is in the past, because programs write such
        // times.
        check("2026-11-25T06:00", "Wed 2026-11-25 06:00:00");
        check("2026-11-27T06:00:00Z", "Fri 2026-11-27 07:00:00");
        check("2026-11-27T06:00-05:00", "Fri 2026-11-27 12:00:00");
        check("+2h", "Thu 2026-11-26 22:20:00");
        check("+ 1h30m", "Thu 2026-11-26 21:50:00");
        check("in 90s", "Thu 2026-11-26 20:21:30");
        check("2h", "Thu 2026-11-26 22:20:00");
        check("+90", "Thu 2026-11-26 20:21:30");
    }

    #[test]
    fn times_are_parsed_as_the_nearest_times_in_the_past() {
        let check = |text: &str, expected: &str| {
            check(text, Toward::Past, Some(expected));
        };
        check("now", "Thu 2026-11-26 20:20:00");
        check("20:20", "Thu 2026-11-26 20:20:00");
        check("18:00", "Thu 2026-11-26 18:00:00");
        check("21:00", "Wed 2026-11-25 21:00:00");
        check("18:00:30", "Thu 2026-11-26 18:00:30");
        check("today", "Thu 2026-11-26 00:00:00");
        check("yesterday", "Wed 2026-11-25 00:00:00");
        check("yesterday 9pm", "Wed 2026-11-25 21:00:00");
        check("mon", "Mon 2026-11-23 00:00:00");
        check("thu", "Thu 2026-11-26 00:00:00");
        check("thu 21:00", "Thu 2026-11-19 21:00:00");
        check("2026-11-20", "Fri 2026-11-20 00:00:00");
        check("10m", "Thu 2026-11-26 20:10:00");
        check("10m ago", "Thu 2026-11-26 20:10:00");
        check("1.5", "Thu 2026-11-26 20:19:58");
        check("7d", "Thu 2026-11-19 20:20:00");
    }

    #[test]
    fn texts_that_are_not_times_are_refused() {
        for text in [
            "",
            "now",
            "soon",
            "18",
            "8",
            "25:00",
            "24:00",
            "18:60",
            "18:0",
            "18:00:00:00",
            "13pm",
            "0am",
            "6:00 7:00",
            "mon tue",
            "tomorrow tomorrow",
            "next mon",
            "2026-13-01",
            "2026-11-31",
            "-10m",
            "+",
            "+-2h",
            "in",
            "2026-11-27T06:00[Nowhere/At_All]",
            "at",
            "18.00",
            "١٨:٠٠",
        ] {
            check(text, Toward::Future, None);
        }
        for text in [
            "",
            "soon",
            "-10m",
            "25:00",
            "+2h",
            "in 2h",
            "ago",
            "1969-12-31",
        ] {
            check(text, Toward::Past, None);
        }
    }

    #[test]
    fn an_error_names_the_expected_forms() {
        let check = |text: &str, expected: &str| {
            assert_eq!(read(text, Toward::Future, NOW).unwrap_err(), expected);
        };
        check(
            "soon",
            "`soon` is not a time: expected `18:00`, `tomorrow 06:00`, `mon 9am`, `+2h`, or `2026-11-22T14:51`",
        );
        check(
            "today 06:00",
            "`today 06:00` was 14h20m ago; give a time in the future",
        );
        check(
            "yesterday",
            "`yesterday` was 1d20h ago; give a time in the future",
        );
        for far in ["9999-12-31T23:59:59Z", "9999-12-31", "1969-12-31T23:00Z"] {
            for toward in [Toward::Past, Toward::Future] {
                let said = read(far, toward, NOW).unwrap_err();
                let says = format!("`{far}` is out of range: give a time after 1970-01-01");
                assert!(said.starts_with(&says), "{said}");
            }
        }
        let long = read(&"x".repeat(10_000), Toward::Past, NOW).unwrap_err();
        assert!(long.len() < 200, "{long}");
    }

    /// On 29 March 2026 clocks go from 02:00 to 03:00.
    #[test]
    fn a_time_skipped_by_the_clock_is_shifted() {
        let before = "2026-03-28T20:00:00+01:00";
        let check = |text: &str, toward: Toward, now: &str, expected: &str| {
            assert_eq!(read(text, toward, now).as_deref(), Ok(expected), "{text:?}");
        };
        let skipped = "Sun 2026-03-29 03:30:00 +02:00";
        check("02:30", Toward::Future, before, skipped);
        check("tomorrow 02:30", Toward::Future, before, skipped);
        check("2026-03-29T02:30", Toward::Future, before, skipped);
        let noon = "2026-03-29T12:00:00+02:00";
        check("02:30", Toward::Past, noon, skipped);
        // The next day has the skipped time of day again, and a day of 23 hours counts as a whole
        // day.
        let next = "Mon 2026-03-30 02:30:00 +02:00";
        check("02:30", Toward::Future, noon, next);
        let start = "Sun 2026-03-29 00:00:00 +01:00";
        check("today", Toward::Past, noon, start);
    }

    /// On 25 October 2026 clocks go from 03:00 back to 02:00.
    #[test]
    fn the_second_of_two_equal_times_is_used_only_if_the_first_is_over() {
        let check = |text: &str, toward: Toward, now: &str, expected: &str| {
            assert_eq!(read(text, toward, now).as_deref(), Ok(expected), "{text:?}");
        };
        let (first, second) = (
            "Sun 2026-10-25 02:30:00 +02:00",
            "Sun 2026-10-25 02:30:00 +01:00",
        );
        let (before, after) = ("2026-10-24T20:00:00+02:00", "2026-10-25T12:00:00+01:00");
        // At this time the first 02:30 is over, and the second is in the future.
        let between = "2026-10-25T02:10:00+01:00";
        check("02:30", Toward::Future, before, first);
        check("2026-10-25 02:30", Toward::Future, before, first);
        check("02:30", Toward::Future, between, second);
        check("today 02:30", Toward::Future, between, second);
        check("2026-10-25 02:30", Toward::Future, between, second);
        check("02:30", Toward::Past, between, first);
        check("02:30", Toward::Past, after, first);
        check("2026-10-25T02:30+01:00", Toward::Past, after, second);
    }
}

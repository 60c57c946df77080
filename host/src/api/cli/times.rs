//! Times for people: in the local time zone, as short as possible, and with the distance from now.
//! Programs get RFC 3339 in UTC.

use std::time::Duration;

use claudine_domain::time::Timestamp;
use jiff::{Zoned, civil::Date, tz::TimeZone};

pub(super) use crate::text::span;
use crate::{
    app::TaskRow,
    clock::{self, parse_rfc3339},
    text::shortened,
    zone,
};

/// Number of days before and after today that are shown by name.
const NAMED_DAYS: i32 = 6;

/// Length limit of the name of a zone in a message.
const ZONE_CHARS: usize = 60;

/// A message if `TZ` names no zone.
pub(super) fn unknown_zone() -> Option<String> {
    let name = shortened(&zone::unknown()?, ZONE_CHARS);
    Some(format!(
        "`TZ` is `{name}`, which names no time zone of this machine, so times are in UTC"
    ))
}

pub(super) fn now() -> Timestamp {
    clock::wall()
}

/// The time since an RFC 3339 time; a time that is invalid or in the future is returned unchanged.
pub(super) fn ago(time: &str, now: Timestamp) -> String {
    between(Some(time), now).map_or_else(|| time.to_owned(), span)
}

/// Run time of the last attempt, without the wait for the next attempt.
pub(super) fn ran(task: &TaskRow, now: Timestamp) -> Option<String> {
    if let Some(millis) = task.ran_ms {
        return Some(span(Duration::from_millis(millis)));
    }
    // The end of the process is not recorded yet, so its time is not known.
    if task.has_ended() {
        return None;
    }
    took(task.started_at.as_deref(), task.finished_at.as_deref(), now)
}

/// The time between two RFC 3339 times, or from the first time until now.
pub(super) fn took(start: Option<&str>, end: Option<&str>, now: Timestamp) -> Option<String> {
    let end = match end {
        Some(end) => parse_rfc3339(end)?,
        None => now,
    };
    between(start, end).map(span)
}

/// A time: `20:15`, `yesterday 17:02`, `Mon 09:00`, `Nov 3 17:02`, `2025-11-03 17:02`. An invalid
/// time is returned unchanged.
pub(super) fn at(time: &str, now: Timestamp) -> String {
    at_in(time, now, &clock::zone())
}

/// A time with its distance from now: `20:15 (in 1m53s)`, `17:02 (4m10s ago)`.
pub(super) fn at_and_distance(time: &str, now: Timestamp) -> String {
    let at = at(time, now);
    match parse_rfc3339(time) {
        Some(time) => format!("{at} ({})", distance(time, now)),
        None => at,
    }
}

/// A time with seconds, for the lines of a log: `20:15:56`, with the date if it is not today.
pub(super) fn to_the_second(time: &str, now: Timestamp) -> String {
    let zone = clock::zone();
    let (Some(at), Some(now)) = (zoned(parse_rfc3339(time), &zone), zoned(Some(now), &zone)) else {
        return time.to_owned();
    };
    let form = if at.date() == now.date() {
        "%H:%M:%S"
    } else if at.year() == now.year() {
        "%b %d %H:%M:%S"
    } else {
        "%Y-%m-%d %H:%M"
    };
    at.strftime(form).to_string()
}

/// Replaces the RFC 3339 times in a text by readable ones: `until 20:15 (in 1m53s)`.
pub(super) fn in_text(text: &str, now: Timestamp) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, time)) = next_time(rest) {
        shown.push_str(before);
        shown.push_str(&at_and_distance(time, now));
        rest = &rest[before.len() + time.len()..];
    }
    shown.push_str(rest);
    shown
}

/// The first time in a text, and the text before it.
fn next_time(text: &str) -> Option<(&str, &str)> {
    text.match_indices('T').find_map(|(at, _)| {
        // A date such as `2026-11-22` has 10 characters.
        let start = at.checked_sub(10)?;
        let is_alone = text.get(..start)?.chars().next_back();
        let is_alone = is_alone.is_none_or(|before| !before.is_alphanumeric());
        let length = text[start..].find('Z')? + 1;
        let time = text.get(start..start + length)?;
        let is_time = is_alone && length <= 30 && parse_rfc3339(time).is_some();
        is_time.then_some((&text[..start], time))
    })
}

fn distance(time: Timestamp, now: Timestamp) -> String {
    let mut apart = Duration::from_millis(time.0.abs_diff(now.0));
    if apart >= Duration::from_secs(10) {
        // Rounds to the nearest second, so that two hours minus a moment are shown as 2h.
        apart += Duration::from_millis(500);
    }
    if apart < Duration::from_secs(1) {
        "now".to_owned()
    } else if time > now {
        format!("in {}", span(apart))
    } else {
        format!("{} ago", span(apart))
    }
}

fn at_in(time: &str, now: Timestamp, zone: &TimeZone) -> String {
    match (zoned(parse_rfc3339(time), zone), zoned(Some(now), zone)) {
        (Some(at), Some(now)) => short(&at, now.date()),
        _ => time.to_owned(),
    }
}

fn short(at: &Zoned, today: Date) -> String {
    let days = at
        .date()
        .since(today)
        .map_or(i32::MAX, |span| span.get_days());
    let day = match days {
        0 => return at.strftime("%H:%M").to_string(),
        -1 => "yesterday".to_owned(),
        1 => "tomorrow".to_owned(),
        days if days.abs() <= NAMED_DAYS => at.strftime("%a").to_string(),
        _ if at.year() == today.year() => at.strftime("%b %-d").to_string(),
        _ => at.strftime("%Y-%m-%d").to_string(),
    };
    format!("{day} {}", at.strftime("%H:%M"))
}

fn zoned(time: Option<Timestamp>, zone: &TimeZone) -> Option<Zoned> {
    let millis = i64::try_from(time?.0).ok()?;
    let time = jiff::Timestamp::from_millisecond(millis).ok()?;
    Some(time.to_zoned(zone.clone()))
}

fn between(start: Option<&str>, end: Timestamp) -> Option<Duration> {
    let start = parse_rfc3339(start?)?;
    end.0.checked_sub(start.0).map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::api::cli::exit::tests::task;

    /// 2026-11-22T14:52:33.042Z, a Sunday.
    const NOW: Timestamp = Timestamp(1_795_359_153_042);

    #[test]
    fn times_near_today_are_shown_without_a_date() {
        let berlin = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        let check = |time: &str, expected: &str| assert_eq!(at_in(time, NOW, &berlin), expected);
        check("2026-11-22T19:15:56.063Z", "20:15");
        check("2026-11-21T23:30:00Z", "00:30");
        check("2026-11-21T16:02:00Z", "yesterday 17:02");
        check("2026-11-22T23:02:00Z", "tomorrow 00:02");
        check("2026-11-27T05:00:00Z", "Fri 06:00");
        check("2026-11-16T05:00:00Z", "Mon 06:00");
        check("2026-11-15T05:00:00Z", "Nov 15 06:00");
        check("2026-07-03T16:02:00Z", "Jul 3 18:02");
        check("2025-11-22T16:02:00Z", "2025-11-22 17:02");
        check("soon", "soon");
    }

    #[test]
    fn times_in_a_text_are_made_readable() {
        let check = |text: &str, expected: &str| assert_eq!(in_text(text, NOW), expected);
        check("", "");
        check(
            "The T is no Time, and neither is 2026T or 2026-11-22T99Z",
            "The T is no Time, and neither is 2026T or 2026-11-22T99Z",
        );
        check(
            "limit until 2026-11-22T14:54:26.042Z · 2 tasks wait",
            "limit until 14:54 (in 1m53s) · 2 tasks wait",
        );
        check(
            "2026-11-22T14:54:26Z and ü2026-11-22T14:54:26Z, 2026-11-22T14:50:33.042Z",
            "14:54 (in 1m53s) and ü2026-11-22T14:54:26Z, 14:50 (2m00s ago)",
        );
    }

    #[test]
    fn a_time_is_shown_with_its_distance_from_now() {
        let check = |time: &str, expected: &str| assert_eq!(at_and_distance(time, NOW), expected);
        check("2026-11-22T14:54:26.042Z", "14:54 (in 1m53s)");
        check("2026-11-22T14:51:33.042Z", "14:51 (1m00s ago)");
        check("2026-11-22T14:52:33.042Z", "14:52 (now)");
        check("2026-11-23T00:32:33.042Z", "tomorrow 00:32 (in 9h40m)");
        check("2026-11-22T16:52:33.000Z", "16:52 (in 2h00m)");
        check("soon", "soon");
    }

    #[test]
    fn times_in_a_log_have_seconds() {
        let check = |time: &str, expected: &str| assert_eq!(to_the_second(time, NOW), expected);
        check("2026-11-22T14:51:33.042Z", "14:51:33");
        check("2026-11-02T14:51:33.042Z", "Nov 02 14:51:33");
        check("2025-11-02T14:51:33.042Z", "2025-11-02 14:51");
        check("soon", "soon");
    }

    #[test]
    fn the_time_between_two_times_is_shown() {
        assert_eq!(ago("2026-11-22T14:51:33.042Z", NOW), "1m00s");
        assert_eq!(ago("soon", NOW), "soon");
        let mut task = task(serde_json::json!({"started_at": "2026-11-22T14:51:33.042Z"}));
        assert_eq!(ran(&task, NOW).as_deref(), Some("1m00s"));
        task.finished_at = Some("2026-11-22T14:51:34.542Z".to_owned());
        assert_eq!(ran(&task, NOW).as_deref(), Some("1.5s"));
    }

    #[test]
    fn the_wait_for_the_next_attempt_is_not_run_time() {
        let task = task(serde_json::json!({
            "state": "waiting", "outcome": null, "started_at": "2026-11-22T14:50:33.042Z", "ran_ms": 2_000,
        }));
        assert_eq!(ran(&task, NOW).as_deref(), Some("2.0s"));
    }
}

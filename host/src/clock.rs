//! Reads the time and sleeps, for all other modules.

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use claudine_domain::time::{MonotonicMs, Now, Timestamp, millis};
use futures_util::FutureExt;

/// The time of the wall clock and of the monotonic clock.
pub(crate) fn now() -> Now {
    Now {
        wall: wall(),
        monotonic: monotonic_ms(),
    }
}

/// Wall time. A clock set before 1970 reads as 1970.
pub(crate) fn wall() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let wall = since.map_or(0, millis);
    #[cfg(test)]
    let wall = wall.saturating_add_signed(JUMPED_MS.get());
    Timestamp(wall)
}

#[cfg(test)]
std::thread_local! {
    /// Offset that a test adds to wall time, in milliseconds. Other tests may run on other threads
    /// of the same process, and their time must not jump.
    static JUMPED_MS: std::cell::Cell<i64> = const { std::cell::Cell::new(0) };
}

/// Makes wall time jump on this thread, as if somebody had set the clock. No code is notified
/// of the jump.
#[cfg(test)]
pub(crate) fn jump_wall(by_ms: i64) {
    JUMPED_MS.set(JUMPED_MS.get() + by_ms);
}

/// Wall time in microseconds since 1970, to order events that are close together.
pub(crate) fn wall_us() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// The value of [`monotonic`] in the type of the domain.
pub(crate) fn monotonic_ms() -> MonotonicMs {
    MonotonicMs(millis(monotonic()))
}

/// Time since the machine started, without the time for which it was suspended.
pub(crate) fn monotonic() -> Duration {
    read(rustix::time::ClockId::Monotonic)
}

/// Processor time of the calling thread.
pub(crate) fn thread_cpu() -> Duration {
    read(rustix::time::ClockId::ThreadCPUTime)
}

fn read(clock: rustix::time::ClockId) -> Duration {
    let time = rustix::time::clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Identifies a boot of the machine, because monotonic times are not comparable across boots. Empty
/// if `/proc` does not show it; then no host can claim a data directory (see `identity`).
pub(crate) fn boot_id() -> Arc<str> {
    static BOOT_ID: OnceLock<Arc<str>> = OnceLock::new();
    BOOT_ID
        .get_or_init(|| {
            let text =
                std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
            Arc::from(text.trim())
        })
        .clone()
}

/// The time zone in which users read and write times: the zone in `TZ`, or else the zone of the
/// machine, or else UTC.
pub(crate) fn zone() -> jiff::tz::TimeZone {
    crate::zone::local()
}

pub(crate) async fn sleep(duration: Duration) {
    tokio::time::sleep(duration).await;
}

/// Piece of a [`sleep_awake`].
const PIECE: Duration = Duration::from_millis(500);
/// The delay from which a piece of a [`sleep_awake`] does not count.
const FROZEN_FROM: Duration = Duration::from_secs(1);

/// Sleeps for this time, without the time for which this process was suspended or frozen. After
/// that, everything that has arrived meanwhile can be looked at before the sleep is over.
pub(crate) async fn sleep_awake(duration: Duration) {
    let mut sleep_left = AwakeSleep::of(duration);
    while let Some(piece) = sleep_left.piece() {
        let begun = monotonic();
        sleep(piece).await;
        sleep_left.slept(piece, monotonic().saturating_sub(begun));
    }
}

/// The rest of a [`sleep_awake`].
struct AwakeSleep {
    left: Duration,
    /// Whether the last piece did not count.
    was_frozen: bool,
}

impl AwakeSleep {
    fn of(duration: Duration) -> Self {
        Self {
            left: duration,
            was_frozen: false,
        }
    }

    /// How long to sleep next; `None` if the sleep is over.
    fn piece(&self) -> Option<Duration> {
        (!self.left.is_zero()).then(|| self.left.min(PIECE))
    }

    /// Notes that a piece took this time. After a piece that did not count, the next one counts in
    /// any case: on a machine on which this process always wakes late, the sleep must end too.
    fn slept(&mut self, piece: Duration, took: Duration) {
        self.was_frozen = !self.was_frozen && took >= piece + FROZEN_FROM;
        if !self.was_frozen {
            self.left = self.left.saturating_sub(piece);
        }
    }
}

/// Waits for a future, but at most for this time.
pub(crate) fn within<F: Future>(
    limit: Duration,
    future: F,
) -> impl Future<Output = Option<F::Output>> {
    // Not an async function, which would have room for the future twice.
    tokio::time::timeout(limit, future).map(Result::ok)
}

/// Formats a time as RFC 3339 in UTC, with milliseconds.
pub(crate) fn rfc3339(at: Timestamp) -> String {
    let millis = i64::try_from(at.0).unwrap_or(i64::MAX);
    match jiff::Timestamp::from_millisecond(millis) {
        Ok(time) => format!("{time:.3}"),
        // This happens only for years after 9999, which do not occur here.
        Err(_) => jiff::Timestamp::MAX.to_string(),
    }
}

/// Parses an RFC 3339 time with any offset. Returns `None` for a time before 1970 and for text in
/// any other form.
pub(crate) fn parse_rfc3339(text: &str) -> Option<Timestamp> {
    let time: jiff::Timestamp = text.parse().ok()?;
    u64::try_from(time.as_millisecond()).ok().map(Timestamp)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc3339_in_utc_with_milliseconds() {
        assert_eq!(rfc3339(Timestamp(0)), "1970-01-01T00:00:00.000Z");
        assert_eq!(
            rfc3339(Timestamp(1_795_359_093_042)),
            "2026-11-22T14:51:33.042Z"
        );
    }

    #[test]
    fn a_piece_of_a_sleep_counts_unless_the_process_was_frozen_meanwhile() {
        let check = |left: u64, took: u64, expected: u64| {
            let [left, took, expected] = [left, took, expected].map(Duration::from_millis);
            let mut sleep = AwakeSleep::of(left);
            sleep.slept(sleep.piece().unwrap_or_default(), took);
            assert_eq!(sleep.left, expected, "{left:?} {took:?}");
        };
        check(5_000, 500, 4_500);
        check(5_000, 1_499, 4_500);
        check(5_000, 1_500, 5_000);
        // Even the last piece: it is the time in which what has arrived is looked at.
        check(50, 60_000, 50);
        check(50, 51, 0);
    }

    #[test]
    fn a_sleep_ends_although_this_process_always_wakes_late() {
        let mut sleep = AwakeSleep::of(PIECE * 3);
        let mut pieces = 0;
        while let Some(piece) = sleep.piece() {
            sleep.slept(piece, Duration::from_secs(10));
            pieces += 1;
            assert!(pieces <= 6, "{:?} are left", sleep.left);
        }
        assert_eq!(pieces, 6);
    }

    #[test]
    fn times_are_parsed_only_with_an_offset() {
        let check = |text: &str, expected: Option<u64>| {
            assert_eq!(parse_rfc3339(text), expected.map(Timestamp), "{text}");
        };
        check("2026-11-22T14:51:33.042Z", Some(1_795_359_093_042));
        check("2026-11-22T15:51:33.042+01:00", Some(1_795_359_093_042));
        check("2026-11-22T14:51:33", None);
        check("1969-12-31T23:59:59Z", None);
        check("yesterday", None);
    }
}

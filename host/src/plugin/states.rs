//! Progress reports that are states: if several come within a short time, only the last one counts.
//!
//! The first report of a kind is passed on at once. Reports that follow too soon replace each
//! other, and the last of them is passed on when its time has come or when the instance ends.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Notify;

use super::port::AttemptHost;
use crate::{clock, lock::lock};

/// The shortest time between two reports of one kind.
const BETWEEN: Duration = Duration::from_millis(50);

/// The kinds of progress reports that the contract defines as states.
const KINDS: [&str; 5] = ["account_works", "alive", "cost", "phase", "session"];

/// The reports that were passed on, and those that wait.
#[derive(Debug, Default)]
pub(crate) struct States {
    held: Mutex<Held>,
    grown: Notify,
}

#[derive(Debug, Default)]
struct Held {
    told_at: BTreeMap<&'static str, Duration>,
    waiting: BTreeMap<&'static str, String>,
}

/// Returns the kind if its reports are states; `None` if they are events.
pub(crate) fn kind_of(word: &str) -> Option<&'static str> {
    KINDS.into_iter().find(|kind| *kind == word)
}

impl States {
    fn held(&self) -> MutexGuard<'_, Held> {
        lock(&self.held)
    }

    pub(crate) fn tell(&self, kind: &'static str, data: String, host: &dyn AttemptHost) {
        let told = self.held().take(kind, data, clock::monotonic());
        match told {
            Some(data) => host.progress(kind, &data),
            None => self.grown.notify_one(),
        }
    }

    /// Passes on the waiting reports when their time has come. Never returns.
    pub(crate) async fn pump(&self, host: &dyn AttemptHost) -> Infallible {
        loop {
            let due = self.held().due(clock::monotonic());
            match due {
                Due::Now(kind, data) => host.progress(kind, &data),
                Due::In(wait) => clock::sleep(wait).await,
                Due::Never => self.grown.notified().await,
            }
        }
    }

    /// Passes on everything that waits, because the instance has ended.
    pub(crate) fn flush(&self, host: &dyn AttemptHost) {
        let waiting = std::mem::take(&mut self.held().waiting);
        for (kind, data) in waiting {
            host.progress(kind, &data);
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Due {
    Now(&'static str, String),
    In(Duration),
    Never,
}

impl Held {
    /// Returns the data if it may be passed on now; if not, keeps the data until it may be passed
    /// on.
    fn take(&mut self, kind: &'static str, data: String, now: Duration) -> Option<String> {
        let told_at = self.told_at.get(kind);
        if told_at.is_some_and(|told_at| now < *told_at + BETWEEN) {
            self.waiting.insert(kind, data);
            return None;
        }
        // A report that still waits is outdated by the new one.
        self.waiting.remove(kind);
        self.told_at.insert(kind, now);
        Some(data)
    }

    fn due(&mut self, now: Duration) -> Due {
        let time_of = |told_at: &BTreeMap<_, Duration>, kind| {
            told_at.get(kind).map_or(now, |told_at| *told_at + BETWEEN)
        };
        let times = self.waiting.keys();
        let next = times
            .map(|kind| (time_of(&self.told_at, *kind), *kind))
            .min();
        let Some((time, kind)) = next else {
            return Due::Never;
        };
        match self.waiting.remove(kind) {
            Some(data) if time <= now => {
                self.told_at.insert(kind, now);
                Due::Now(kind, data)
            }
            Some(data) => {
                self.waiting.insert(kind, data);
                Due::In(time.saturating_sub(now))
            }
            None => Due::Never,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn the_first_report_of_a_state_is_sent_at_once_and_the_last_one_after_a_pause() {
        let mut held = Held::default();
        let mut take = |kind, data: &str, now| held.take(kind, data.to_owned(), at(now));
        assert_eq!(take("phase", "a", 1_000).as_deref(), Some("a"));
        assert_eq!(take("phase", "b", 1_001), None);
        assert_eq!(take("cost", "1", 1_001).as_deref(), Some("1"));
        assert_eq!(take("phase", "c", 1_049), None);
        assert_eq!(take("cost", "2", 1_049), None);
        assert_eq!(held.due(at(1_049)), Due::In(at(1)));
        assert_eq!(held.due(at(1_050)), Due::Now("phase", "c".to_owned()));
        assert_eq!(held.due(at(1_050)), Due::In(at(1)));
        assert_eq!(held.due(at(1_060)), Due::Now("cost", "2".to_owned()));
        assert_eq!(held.due(at(1_060)), Due::Never);
        assert_eq!(held.take("phase", "d".to_owned(), at(1_060)), None);
        // The pump was late: a newer report came before the waiting one was sent.
        assert_eq!(
            held.take("phase", "e".to_owned(), at(1_200)).as_deref(),
            Some("e")
        );
        assert_eq!(held.due(at(1_300)), Due::Never);
    }

    #[test]
    fn only_the_kinds_that_the_contract_defines_as_states_are_states() {
        assert_eq!(kind_of("phase"), Some("phase"));
        assert_eq!(kind_of("note"), None);
    }
}

//! How long finished tasks are kept, across hosts: a small file in the data directory.
//!
//! A command that needs a host starts one with the command's own settings. So that no history is
//! lost because some command has a shorter retention in its environment, such a host keeps finished
//! tasks as long as the last host did, for a day. A host that a person starts with `claudine up` or
//! `claudine serve` has the retention of its settings at once.

use std::{
    io::{self, ErrorKind},
    time::Duration,
};

use claudine_domain::time::{Timestamp, millis};
use serde::{Deserialize, Serialize};

use crate::{
    clock,
    config::Settings,
    fsx::{self, Lasting},
    layout::Layout,
    units::duration_word,
};

/// Time for which the retention of the last host still applies.
const GRACE: Duration = Duration::from_hours(24);
/// Retention of the last host if its version kept no record: the default.
const UNRECORDED: Duration = Duration::from_hours(7 * 24);

/// The retention that applies, and a shorter one that will apply later.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Kept {
    keep_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    next: Option<Shorter>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Shorter {
    keep_ms: u64,
    from: Timestamp,
}

/// The retention of a new host with these settings. If a shorter one does not apply yet, the
/// settings get a warning. Must be called before the database is created.
pub(crate) fn begin(layout: &Layout, settings: &mut Settings) -> Kept {
    let now = clock::wall();
    let kept = Kept::begin(layout, settings.keep, settings.on_demand, now);
    if let Some(text) = kept.text(now) {
        tracing::warn!("{text}");
        settings.warnings.push(text);
    }
    kept
}

impl Kept {
    /// The retention of a new host whose settings say `keep`. Must be called before the database is
    /// created. An error of the record is logged, and nothing is removed for a day then.
    pub(crate) fn begin(layout: &Layout, keep: Duration, on_demand: bool, now: Timestamp) -> Self {
        let read = Self::read(layout);
        let last = match &read {
            Ok(None) if fsx::is_missing(&layout.database()) => None,
            Ok(None) => Some(Self::of(UNRECORDED)),
            Ok(last) => *last,
            Err(error) => {
                tracing::warn!(%error, "the retention of the last host cannot be read");
                Some(Self::of(Duration::MAX))
            }
        };
        let kept = last.map_or_else(
            || Self::of(keep),
            |last| last.followed_by(keep, on_demand, now),
        );
        let is_recorded = read.is_ok_and(|recorded| recorded == Some(kept));
        if !is_recorded && let Err(error) = kept.write(layout) {
            tracing::warn!(%error, "the retention of this host cannot be recorded");
        }
        kept
    }

    /// How long finished tasks are kept at this time.
    pub(crate) fn keep(self, now: Timestamp) -> Duration {
        Duration::from_millis(self.keep_ms(now))
    }

    /// Describes a shorter retention that does not apply yet.
    pub(crate) fn text(self, now: Timestamp) -> Option<String> {
        let next = self.next.filter(|next| next.from > now)?;
        let keep = duration_word(Duration::from_millis(next.keep_ms));
        let before = match self.keep_ms {
            u64::MAX => "cannot be read".to_owned(),
            before => format!("was {}", duration_word(Duration::from_millis(before))),
        };
        Some(format!(
            "keep is {keep}, but that of the last host {before}: tasks that are older than {keep} \
             are removed only from {} on; `claudine down && claudine up` removes them now",
            clock::rfc3339(next.from)
        ))
    }

    /// The record of the last host that started in this data directory.
    pub(crate) fn read(layout: &Layout) -> io::Result<Option<Self>> {
        match fsx::read(&layout.kept_file()) {
            Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn write(self, layout: &Layout) -> io::Result<()> {
        let text = serde_json::to_string(&self)? + "\n";
        fsx::replace(&layout.kept_file(), Lasting::PowerCut, text.as_bytes()).map(drop)
    }

    fn of(keep: Duration) -> Self {
        Self {
            keep_ms: millis(keep),
            next: None,
        }
    }

    fn keep_ms(self, now: Timestamp) -> u64 {
        match self.next {
            Some(next) if next.from <= now => next.keep_ms,
            _ => self.keep_ms,
        }
    }

    /// The retention of a host after a host with this one.
    fn followed_by(self, keep: Duration, on_demand: bool, now: Timestamp) -> Self {
        let (asked, before) = (millis(keep), self.keep_ms(now));
        if !on_demand || asked >= before {
            return Self::of(keep);
        }
        let latest = Timestamp(now.0.saturating_add(millis(GRACE)));
        let announced = self.next.filter(|next| next.keep_ms == asked);
        Self {
            keep_ms: before,
            next: Some(Shorter {
                keep_ms: asked,
                // The clock may have been set back since the announcement.
                from: announced.map_or(latest, |next| next.from.min(latest)),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::fs;

    use super::*;

    const DAY: Duration = Duration::from_hours(24);
    const WEEK: Duration = Duration::from_hours(7 * 24);
    const SECOND: Duration = Duration::from_secs(1);

    fn after(time: Duration) -> Timestamp {
        Timestamp(1_000_000 + millis(time))
    }

    fn data_dir() -> (tempfile::TempDir, Layout) {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        (dir, layout)
    }

    #[test]
    fn a_shorter_retention_of_a_host_on_demand_applies_after_a_day() {
        let (_dir, layout) = data_dir();
        let begin = |keep, time| Kept::begin(&layout, keep, true, after(time));
        let first = begin(WEEK, Duration::ZERO);
        assert_eq!(first.keep(after(DAY)), WEEK);
        assert_eq!(first.text(after(DAY)), None);

        let short = begin(SECOND, DAY);
        assert_eq!(short.keep(after((2 * DAY).saturating_sub(SECOND))), WEEK);
        assert_eq!(short.keep(after(2 * DAY)), SECOND);
        let text = short.text(after(DAY)).unwrap();
        assert!(
            text.contains("keep is 1s, but that of the last host was 7d"),
            "{text}"
        );
        assert_eq!(short.text(after(2 * DAY)), None);
        // Another start does not begin another day.
        assert_eq!(begin(SECOND, DAY + DAY / 2), short);
        assert_eq!(begin(SECOND, 2 * DAY).keep(after(2 * DAY)), SECOND);
        // A longer retention applies at once, and the next shorter one after a day again.
        assert_eq!(begin(WEEK, 3 * DAY).keep(after(3 * DAY)), WEEK);
        let short = begin(SECOND, 3 * DAY);
        assert_eq!(short.keep(after((4 * DAY).saturating_sub(SECOND))), WEEK);
        let text = serde_json::to_string(&short).unwrap();
        assert_eq!(serde_json::from_str::<Kept>(&text).unwrap(), short);
    }

    #[test]
    fn a_host_that_a_person_starts_has_the_retention_of_its_settings_at_once() {
        let (_dir, layout) = data_dir();
        let now = after(Duration::ZERO);
        Kept::begin(&layout, WEEK, false, now);
        let short = Kept::begin(&layout, SECOND, false, now);
        assert_eq!((short.keep(now), short.text(now)), (SECOND, None));
        assert_eq!(Kept::begin(&layout, SECOND, true, now), short);
    }

    #[test]
    fn nothing_is_removed_early_if_the_last_retention_is_unknown() {
        let (_dir, layout) = data_dir();
        let now = after(Duration::ZERO);
        // An earlier version has made the database.
        fs::write(layout.database(), "").unwrap();
        let begin = || Kept::begin(&layout, SECOND, true, now);
        assert_eq!(begin().keep(now), WEEK);
        fs::write(layout.kept_file(), "{").unwrap();
        let kept = begin();
        assert!(kept.keep(now) > WEEK);
        let text = kept.text(now).unwrap();
        assert!(text.contains("cannot be read"), "{text}");
        // The clock was set back.
        let earlier = Timestamp(1_000);
        let kept = Kept::begin(&layout, SECOND, true, earlier);
        assert_eq!(kept.keep(Timestamp(1_000 + millis(DAY))), SECOND);
        // A new data directory has no history.
        fs::remove_file(layout.kept_file()).unwrap();
        fs::remove_file(layout.database()).unwrap();
        assert_eq!(begin().keep(now), SECOND);
    }
}

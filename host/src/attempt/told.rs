//! The reports of an attempt to the engine, kept until they are durable.

use std::{
    mem::discriminant,
    sync::{Mutex, MutexGuard},
};

use claudine_domain::{
    outbox::{Numbered, Outbox},
    step::Report,
};

use crate::lock::lock;

/// Maximum number of unacknowledged reports that are kept for an attempt. Further reports of
/// progress are dropped; of each other kind of report, the last one is kept.
const MOST: usize = 1_024;

/// The reports of one attempt.
#[derive(Default)]
pub(super) struct Told(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    outbox: Outbox<Report>,
    /// Whether the inbox was full for a report. If so, the next report is sent together with all
    /// kept reports, in their order.
    is_late: bool,
}

impl Told {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        lock(&self.0)
    }

    /// Keeps a report, and returns the reports that should be sent now.
    pub(super) fn add(&self, report: Report) -> Vec<Numbered<Report>> {
        let mut kept = self.kept();
        let is_progress = matches!(report, Report::Progress { .. });
        if is_progress && kept.outbox.kept().count() >= MOST {
            return Vec::new();
        }
        let kind = discriminant(&report);
        let replaces = |earlier: &Report| !is_progress && discriminant(earlier) == kind;
        let numbered = kept.outbox.put(report, replaces);
        if std::mem::take(&mut kept.is_late) {
            return kept.outbox.all();
        }
        vec![numbered]
    }

    /// All kept reports, for repetition after the engine's board was loaded again.
    pub(super) fn all(&self) -> Vec<Numbered<Report>> {
        self.kept().outbox.all()
    }

    /// Whether a report of this kind is kept.
    pub(super) fn has_kind_of(&self, report: &Report) -> bool {
        let kept = self.kept();
        let mut kinds = kept.outbox.kept().map(discriminant);
        kinds.any(|kind| kind == discriminant(report))
    }

    pub(super) fn found_no_room(&self) {
        self.kept().is_late = true;
    }

    pub(super) fn acknowledge(&self, number: u64) {
        self.kept().outbox.acknowledge(number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(number: usize) -> Report {
        Report::Progress {
            kind: "k".to_owned(),
            data: number.to_string(),
        }
    }

    #[test]
    fn progress_is_kept_up_to_a_limit_and_other_reports_once_per_kind() {
        let told = Told::default();
        told.add(Report::Cost(1));
        for number in 0..2 * MOST {
            told.add(progress(number));
        }
        told.add(Report::Cost(2));
        told.add(Report::Alive);
        let reports: Vec<Report> = told.all().into_iter().map(|one| one.report).collect();
        // The first cost report counted towards the limit until the second one replaced it.
        let mut expected: Vec<Report> = (0..MOST - 1).map(progress).collect();
        expected.extend([Report::Cost(2), Report::Alive]);
        assert_eq!(reports, expected);
    }

    #[test]
    fn after_a_full_inbox_all_kept_reports_are_sent_with_the_next_report() {
        let told = Told::default();
        let numbers = |reports: Vec<Numbered<Report>>| -> Vec<u64> {
            reports.iter().map(|report| report.number).collect()
        };
        assert_eq!(numbers(told.add(progress(1))), [1]);
        told.acknowledge(1);
        assert_eq!(numbers(told.add(progress(2))), [2]);
        told.found_no_room();
        assert_eq!(numbers(told.add(progress(3))), [2, 3]);
        assert_eq!(numbers(told.add(progress(4))), [4]);
        assert!(told.has_kind_of(&progress(9)) && !told.has_kind_of(&Report::Alive));
    }
}

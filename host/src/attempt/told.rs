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
    late: Late,
}

/// Whether the inbox was full for a report. If so, each report is sent together with all kept
/// reports, in their order, until all of them are in the inbox.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Late {
    #[default]
    No,
    /// A caller waits for room, and will then send the kept reports.
    Yes,
    /// The kept reports are being sent.
    Sending,
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
        let (kind, is_of_rest) = (discriminant(&report), is_about_rest(&report));
        let is_same = |earlier: &Report| {
            discriminant(earlier) == kind || (is_of_rest && is_about_rest(earlier))
        };
        let replaces = |earlier: &Report| !is_progress && is_same(earlier);
        let numbered = kept.outbox.put(report, replaces);
        if kept.late != Late::No {
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

    /// Records that the inbox was full for a report. Returns `true` if nobody waits for room yet.
    /// In this case the caller must wait for room, and then send the reports of [`Self::late`]
    /// until it returns `None`.
    pub(super) fn found_no_room(&self) -> bool {
        std::mem::replace(&mut self.kept().late, Late::Yes) == Late::No
    }

    /// All kept reports, if the inbox was full again since the last call.
    pub(super) fn late(&self) -> Option<Vec<Numbered<Report>>> {
        let mut kept = self.kept();
        let is_late = kept.late == Late::Yes;
        kept.late = if is_late { Late::Sending } else { Late::No };
        is_late.then(|| kept.outbox.all())
    }

    pub(super) fn acknowledge(&self, number: u64) {
        self.kept().outbox.acknowledge(number);
    }
}

/// Whether this report says that nothing of the attempt is alive, or the opposite. If such a report
/// could not be sent yet, it would otherwise come after its opposite.
fn is_about_rest(report: &Report) -> bool {
    matches!(report, Report::Over | Report::GoesOn)
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

    fn numbers(reports: Vec<Numbered<Report>>) -> Vec<u64> {
        reports.iter().map(|report| report.number).collect()
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

    /// A wait for room may be given up, so that a report is only kept.
    #[test]
    fn an_end_that_was_not_sent_does_not_come_after_the_news_that_the_attempt_goes_on() {
        let told = Told::default();
        let kept = || {
            let all = told.all().into_iter();
            all.map(|one| one.report).collect::<Vec<_>>()
        };
        told.add(Report::Alive);
        told.add(Report::Over);
        assert_eq!(numbers(told.add(Report::GoesOn)), [3]);
        told.acknowledge(3);
        assert_eq!(kept(), [Report::Alive]);
        told.add(Report::GoesOn);
        told.add(Report::Over);
        assert_eq!(kept(), [Report::Alive, Report::Over]);
    }

    #[test]
    fn after_a_full_inbox_all_kept_reports_are_sent_with_the_next_report() {
        let told = Told::default();
        assert_eq!(numbers(told.add(progress(1))), [1]);
        told.acknowledge(1);
        assert_eq!(numbers(told.add(progress(2))), [2]);
        assert!(told.found_no_room());
        assert_eq!(numbers(told.add(progress(3))), [2, 3]);
        assert!(told.has_kind_of(&progress(9)) && !told.has_kind_of(&Report::Alive));
    }

    /// An agent that thinks may have nothing to report for a long time.
    #[test]
    fn late_reports_are_sent_without_a_next_report_and_are_not_overtaken() {
        let told = Told::default();
        let late = || told.late().map(numbers);
        assert_eq!(numbers(told.add(Report::Alive)), [1]);
        assert!(told.found_no_room());
        assert!(!told.found_no_room(), "one wait is enough");
        assert_eq!(late(), Some(vec![1]));
        // While the first report is being sent, there is still no room for the second.
        assert_eq!(numbers(told.add(Report::Cost(1))), [1, 2]);
        assert!(!told.found_no_room());
        assert_eq!(late(), Some(vec![1, 2]));
        assert_eq!(late(), None);
        assert_eq!(numbers(told.add(Report::Cost(2))), [3]);
    }
}

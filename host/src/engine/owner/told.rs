//! Reports of attempts, and news of executors.

use std::sync::Arc;

use claudine_domain::{
    id::AttemptId,
    outbox::Numbered,
    step::{Answer, Input, Report},
    time::Now,
};

use super::Owner;

impl Owner {
    pub(super) fn take_report(&mut self, now: Now, attempt: AttemptId, numbered: Numbered<Report>) {
        let Numbered {
            number,
            from,
            report,
        } = numbered;
        if !self.reports.hear(attempt, number, from) {
            tracing::debug!(%attempt, number, "a report was repeated");
            return;
        }
        match self.board.step(now, Input::Report { attempt, report }) {
            Ok(Answer::Stale) => {
                self.reports.released(attempt);
                self.dropped_reports += 1;
                tracing::debug!(%attempt, "a report of an attempt that is over was dropped");
            }
            Ok(_) => {
                let after = self.last_decided();
                self.reports.take(after, attempt, number);
            }
            Err(refused) => tracing::warn!(%refused, %attempt, "a report was refused"),
        }
    }

    /// Tells the board whether the code of an executor can be had.
    pub(super) fn take_code(&mut self, now: Now, executor: Arc<str>, lacks: Option<Arc<str>>) {
        if let Err(refused) = self.board.step(now, Input::Code { executor, lacks }) {
            tracing::error!(%refused, "news of an executor's code were refused");
        }
    }

    /// Acknowledges reports that are durable.
    pub(super) fn acknowledge(&mut self) {
        while let Some((attempt, number)) = self.reports.next_durable(self.durable) {
            self.attempts.acknowledge(attempt, number);
        }
    }
}

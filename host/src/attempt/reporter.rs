//! The reporter: what attempts tell the engine, and tell again after its board was loaded anew.
//!
//! Each report is numbered and kept until the engine acknowledges it ([`Told`](super::told::Told)),
//! so that it can be told once more and counts once all the same. What an attempt waits to be
//! answered is asked again, too, as long as there is no answer.

use claudine_domain::{
    outbox::Numbered,
    step::{Ending, Report},
};

use super::live::{Live, State};
use crate::engine::ReportSender;

#[derive(Clone)]
pub(super) struct Reporter(ReportSender);

impl Reporter {
    pub(super) fn new(reports: ReportSender) -> Self {
        Self(reports)
    }

    /// A supervisor that had been silent has answered, or is dead.
    pub(super) async fn reached(&self) {
        self.0.reached().await;
    }

    /// Waits for room in the engine's inbox.
    pub(super) async fn send(&self, live: &Live, report: Report) {
        self.send_all(live, live.told.add(report)).await;
    }

    async fn send_all(&self, live: &Live, reports: Vec<Numbered<Report>>) {
        for report in reports {
            self.0.send(live.id, report).await;
        }
    }

    /// Sends without waiting. What finds the engine's inbox full is told before the next report, at
    /// the latest before the end.
    pub(super) fn tell(&self, live: &Live, report: Report) {
        if !live.has_begun() {
            tracing::warn!(attempt = %live.id, "its executor stands by, and may not tell anything before its start");
            return;
        }
        let mut reports = live.told.add(report).into_iter();
        if !reports.all(|report| self.0.try_send(live.id, report)) {
            live.told.found_no_room();
        }
    }

    /// Returns when the attempt may start its first process, or is stopped.
    pub(super) async fn ask_for_turn(&self, live: &Live) {
        if live.look(|state| state.may_spawn) {
            return;
        }
        let asks = live
            .change(|state| !state.may_spawn && !std::mem::replace(&mut state.is_prepared, true));
        if asks {
            self.send(live, Report::Prepared).await;
        }
        let has_turn = |state: &State| state.may_spawn || state.stop.is_some();
        live.until(|state| has_turn(state).then_some(())).await;
    }

    /// Returns whether the work of an attempt that ends like this may be settled: once that is
    /// durable, unless the attempt is stopped.
    pub(super) async fn ask_to_settle(&self, live: &Live, ending: &Ending) -> bool {
        let asks = live.change(|state| {
            state.answered = Some(Box::new(ending.clone()));
            !state.may_settle && state.stop.is_none()
        });
        if asks {
            let report = Report::Settling(Box::new(ending.clone()));
            self.send(live, report).await;
        }
        live.until(|state| match &state.stop {
            Some(_) => Some(false),
            None => state.may_settle.then_some(true),
        })
        .await
    }

    pub(super) async fn tell_end(&self, live: &Live, ending: Box<Ending>) {
        live.change(|state| state.ending = Some(ending.clone()));
        self.send(live, Report::Ended(ending)).await;
    }

    /// Tells the engine again what was not durable when its board was loaded anew, and asks again
    /// what it has not answered.
    pub(super) async fn tell_again(&self, live: &Live) {
        self.send_all(live, live.told.all()).await;
        for question in open_questions(live.state()) {
            if !live.told.has_kind_of(&question) {
                self.send(live, question).await;
            }
        }
    }
}

/// What the attempt waits for: its answer may be one that only the board before the load knew of.
fn open_questions(state: State) -> impl Iterator<Item = Report> {
    let checkpoint = state.checkpoint.map(|bytes| Report::Checkpoint {
        number: state.checkpoints_sent,
        state: bytes,
    });
    let is_stored = state.checkpoints_stored >= state.checkpoints_sent;
    let turn = (state.is_prepared && !state.may_spawn).then_some(Report::Prepared);
    let end = match (state.ending, state.answered) {
        (Some(ending), _) => Some(Report::Ended(ending)),
        (None, Some(ending)) => Some(Report::Settling(ending)),
        (None, None) => None,
    };
    let checkpoint = checkpoint.filter(|_| !is_stored);
    [checkpoint, turn, end].into_iter().flatten()
}

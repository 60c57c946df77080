//! The reporter: what attempts tell the engine, and tell again after its board was loaded anew.
//!
//! What matters of it is kept in the attempt's [`State`] until the engine releases the attempt, so
//! that it can be told once more. To be told something twice changes nothing there.

use claudine_domain::{
    id::AttemptId,
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
    pub(super) async fn send(&self, attempt: AttemptId, report: Report) {
        self.0.send(attempt, report).await;
    }

    /// Sends without waiting. What finds the engine's inbox full is dropped; what matters of it is
    /// told again before the end.
    pub(super) fn tell(&self, live: &Live, report: Report) {
        if !live.has_begun() {
            tracing::warn!(attempt = %live.id, "its executor stands by, and may not tell anything before its start");
        } else if !self.0.try_send(live.id, report) {
            live.change(|state| state.untold = true);
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
            self.send(live.id, Report::Prepared).await;
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
            self.send(live.id, report).await;
        }
        live.until(|state| match &state.stop {
            Some(_) => Some(false),
            None => state.may_settle.then_some(true),
        })
        .await
    }

    pub(super) async fn tell_end(&self, live: &Live, ending: Box<Ending>) {
        live.change(|state| state.ending = Some(ending.clone()));
        self.send(live.id, Report::Ended(ending)).await;
    }

    /// Tells the engine again what it was told of an attempt before its board was loaded anew.
    pub(super) async fn tell_again(&self, live: &Live) {
        let state = live.state();
        self.tell_facts(live.id, &state).await;
        if let Some(checkpoint) = state.checkpoint {
            let number = state.checkpoints_sent;
            let report = Report::Checkpoint {
                number,
                state: checkpoint,
            };
            self.send(live.id, report).await;
        }
        if state.is_prepared && !state.may_spawn {
            self.send(live.id, Report::Prepared).await;
        }
        match (state.ending, state.answered) {
            (Some(ending), _) => self.send(live.id, Report::Ended(ending)).await,
            (None, Some(ending)) => self.send(live.id, Report::Settling(ending)).await,
            (None, None) => {}
        }
    }

    pub(super) async fn tell_facts(&self, attempt: AttemptId, state: &State) {
        let leader = state.leader();
        if leader.is_some() {
            self.send(attempt, Report::Started { leader }).await;
        }
        if state.alive {
            self.send(attempt, Report::Alive).await;
        }
        if let Some(micro_usd) = state.cost_micro_usd {
            self.send(attempt, Report::Cost(micro_usd)).await;
        }
        if let Some(session) = &state.session {
            self.send(attempt, Report::Session(session.clone())).await;
        }
    }
}

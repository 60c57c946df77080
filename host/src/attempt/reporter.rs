//! The reporter: sends the reports of attempts to the engine, and repeats them after the board was
//! loaded again.
//!
//! Each report is numbered and kept until the engine acknowledges it ([`Told`](super::told::Told)),
//! so a report can be repeated and is still applied only once. Questions of an attempt to the
//! engine are repeated too, until they are answered.

use std::{convert::Infallible, future::pending, sync::Arc};

use claudine_domain::{
    outbox::Numbered,
    step::{Ending, Report},
    task::Task,
};

use super::live::{Live, State};
use crate::engine::ReportSender;

#[derive(Clone)]
pub(super) struct Reporter(ReportSender);

impl Reporter {
    pub(super) fn new(reports: ReportSender) -> Self {
        Self(reports)
    }

    /// Tells the engine that a silent supervisor has answered, or is dead.
    pub(super) async fn reached(&self) {
        self.0.reached().await;
    }

    /// Tells the engine that the code of an executor cannot be had at the moment, for this reason,
    /// or that it can be had again.
    pub(super) async fn code(&self, executor: &str, lacks: Option<&str>) {
        self.0.code(executor, lacks).await;
    }

    /// Sends a report, and waits for room in the engine's inbox.
    pub(super) async fn send(&self, live: &Live, report: Report) {
        self.send_all(live, live.told.add(report)).await;
    }

    async fn send_all(&self, live: &Live, reports: Vec<Numbered<Report>>) {
        for report in reports {
            self.0.send(live.id, report).await;
        }
    }

    /// Sends a report without waiting. If the engine's inbox is full, the report is sent together
    /// with the attempt's next report. Returns `true` if the caller must call [`Self::send_late`],
    /// because there may be no next report for a long time.
    #[must_use]
    pub(super) fn tell(&self, live: &Live, report: Report) -> bool {
        if !live.has_begun() {
            tracing::warn!(
                attempt = %live.id,
                "the attempt stands by, and its executor must not report anything before the start"
            );
            return false;
        }
        let mut reports = live.told.add(report).into_iter();
        let is_sent = reports.all(|report| self.0.try_send(live.id, report));
        !is_sent && live.told.found_no_room()
    }

    /// Waits until the engine's inbox has room, and then sends the reports for which there was no
    /// room.
    pub(super) async fn send_late(&self, live: &Live) {
        self.0.room().await;
        while let Some(late) = live.told.late() {
            self.send_all(live, late).await;
        }
    }

    /// Waits until the attempt may start its first process, or is stopped.
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

    /// Tells the engine that an attempt goes on which had ended, according to its row: the earlier
    /// host that has started another process of the attempt has died before this was durable. If
    /// the supervisor does not answer, its notes may not tell whether that process was started, but
    /// the attempt has not ended according to them.
    pub(super) async fn tell_if_it_goes_on(&self, live: &Live, row: &Task) {
        let was_over = row.last_attempt().is_some_and(|last| last.is_over);
        if was_over && !live.look(State::is_over) {
            self.send(live, Report::GoesOn).await;
        }
    }

    /// Tells the engine as soon as the attempt has a process and as soon as it has ended, since its
    /// executor cannot: the earlier host may have died before it had stored the start. Never
    /// returns.
    pub(super) async fn tell_of_processes(&self, live: &Live) -> Infallible {
        let has_ended = |state: &State| state.has_ended_unnoticed().then_some(());
        let leader = live.until(|state| {
            let leader = state.leader().map(Some);
            leader.or_else(|| has_ended(state).map(|()| None))
        });
        if let leader @ Some(_) = leader.await {
            self.send(live, Report::Started { leader }).await;
        }
        live.until(has_ended).await;
        self.send(live, Report::Over).await;
        pending().await
    }

    /// Sends a checkpoint, and waits until this checkpoint is durable.
    pub(super) async fn store_checkpoint(&self, live: &Live, checkpoint: Vec<u8>) {
        let bytes: Arc<[u8]> = checkpoint.into();
        let number = live.change(|state| {
            state.checkpoint = Some(bytes.clone());
            state.checkpoints_sent += 1;
            state.checkpoints_sent
        });
        let report = Report::Checkpoint {
            number,
            state: bytes,
        };
        self.send(live, report).await;
        live.until(|state| state.has_stored(number).then_some(()))
            .await;
    }

    /// Waits until this end is durable or the attempt is stopped. Returns whether the work may be
    /// settled; if the attempt was stopped, it may not.
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

    /// Repeats the reports that were not durable when the board was loaded again, and the questions
    /// that are unanswered.
    pub(super) async fn tell_again(&self, live: &Live) {
        self.send_all(live, live.told.all()).await;
        for question in open_questions(live.state()) {
            if !live.told.has_kind_of(&question) {
                self.send(live, question).await;
            }
        }
    }
}

/// The questions of an attempt that may have lost their answers when the board was loaded again.
fn open_questions(state: State) -> impl Iterator<Item = Report> {
    let number = state.checkpoints_sent;
    let is_stored = state.has_stored(number);
    let checkpoint = state.checkpoint.map(|bytes| Report::Checkpoint {
        number,
        state: bytes,
    });
    let turn = (state.is_prepared && !state.may_spawn).then_some(Report::Prepared);
    let end = match (state.ending, state.answered) {
        (Some(ending), _) => Some(Report::Ended(ending)),
        (None, Some(ending)) => Some(Report::Settling(ending)),
        (None, None) => None,
    };
    let checkpoint = checkpoint.filter(|_| !is_stored);
    [checkpoint, turn, end].into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use claudine_domain::{
        attempt::{Attempt, Leader},
        id::{AttemptId, TaskId},
        time::Timestamp,
    };
    use futures_util::FutureExt;

    use super::*;
    use crate::{
        attempt::live::ChildState,
        engine::Inbox,
        store::sample_task,
        supervise::{Exit, Status},
    };

    /// Otherwise it would be shown as ended, and no time limit of the engine would count.
    #[tokio::test]
    async fn an_attempt_of_an_earlier_host_that_goes_on_is_not_over_any_more() {
        let running = || {
            ChildState::Running(Leader {
                pid: 7,
                start_time: 1,
            })
        };
        let exited = || ChildState::Exited(Exit::sample(Status::Code(0)));
        let check = async |is_over: bool, last: ChildState, ended: bool, expected: bool| {
            let row = Task {
                attempts: vec![Attempt {
                    is_over,
                    ..Attempt::new(1, Timestamp(0))
                }],
                ..sample_task(1)
            };
            let state = State {
                children: vec![exited(), last],
                ended,
                ..State::default()
            };
            let attempt = AttemptId {
                task: row.id,
                number: 1,
            };
            let (live, _stopped) = Live::new(attempt, Vec::new(), state);
            let inbox = Inbox::new();
            let reporter = Reporter::new(inbox.reports());
            reporter.tell_if_it_goes_on(&live, &row).await;
            assert_eq!(live.told.has_kind_of(&Report::GoesOn), expected);
        };
        check(true, running(), false, true).await;
        check(true, exited(), true, false).await;
        check(false, running(), false, false).await;
        // A third process may run that the supervisor was about to start.
        check(true, exited(), false, true).await;
    }

    /// Otherwise a task that runs would be shown as starting.
    #[tokio::test]
    async fn the_start_and_the_end_of_an_attempt_are_told_although_its_executor_cannot() {
        let child = |state: ChildState| State {
            children: vec![state],
            ..State::default()
        };
        let running = || {
            ChildState::Running(Leader {
                pid: 7,
                start_time: 1,
            })
        };
        let exited = || ChildState::Exited(Exit::sample(Status::Code(0)));
        let start = Report::Started { leader: None };
        let told = |live: &Live| {
            let told = &live.told;
            (told.has_kind_of(&start), told.has_kind_of(&Report::Over))
        };
        let inbox = Inbox::new();
        let reporter = Reporter::new(inbox.reports());
        let attempt = AttemptId {
            task: TaskId::new(1, 1),
            number: 1,
        };
        let (live, _stopped) = Live::new(attempt, Vec::new(), child(ChildState::Sent));
        let mut telling = pin!(reporter.tell_of_processes(&live));
        assert!(telling.as_mut().now_or_never().is_none());
        assert_eq!(told(&live), (false, false));
        live.change(|state| state.hear(0, running(), false));
        assert!(telling.as_mut().now_or_never().is_none());
        assert_eq!(told(&live), (true, false));
        live.change(|state| state.hear(0, exited(), true));
        assert!(telling.as_mut().now_or_never().is_none());
        assert_eq!(told(&live), (true, true));
        // Its process is lost, and nobody knows its identity.
        let state = State {
            ended: true,
            ..child(ChildState::Lost)
        };
        let (live, _stopped) = Live::new(attempt, Vec::new(), state);
        assert!(reporter.tell_of_processes(&live).now_or_never().is_none());
        assert_eq!(told(&live), (false, true));
    }

    #[tokio::test]
    async fn a_call_that_stores_a_checkpoint_waits_for_its_own_checkpoint() {
        let inbox = Inbox::new();
        let reporter = Reporter::new(inbox.reports());
        let attempt = AttemptId {
            task: TaskId::new(1, 1),
            number: 1,
        };
        let (live, _stopped) = Live::new(attempt, Vec::new(), State::default());
        let mut first = pin!(reporter.store_checkpoint(&live, b"one".to_vec()));
        assert_eq!(first.as_mut().now_or_never(), None);
        let mut second = pin!(reporter.store_checkpoint(&live, b"two".to_vec()));
        assert_eq!(second.as_mut().now_or_never(), None);
        // The engine reports the first checkpoint as durable twice, as after its board was loaded
        // again.
        for _ in 0..2 {
            live.change(|state| state.checkpoint_stored(1));
        }
        assert_eq!(first.now_or_never(), Some(()));
        assert_eq!(second.as_mut().now_or_never(), None);
        live.change(|state| state.checkpoint_stored(2));
        assert_eq!(second.now_or_never(), Some(()));
    }

    #[test]
    fn a_checkpoint_is_reported_again_until_it_is_durable() {
        let check = |stored: &[u64], is_reported: bool| {
            let mut state = State {
                checkpoint: Some(Arc::from(*b"two")),
                checkpoints_sent: 2,
                ..State::default()
            };
            for number in stored {
                state.checkpoint_stored(*number);
            }
            let reported = open_questions(state).next();
            let checkpoint = Report::Checkpoint {
                number: 2,
                state: Arc::from(*b"two"),
            };
            assert_eq!(reported, is_reported.then_some(checkpoint), "{stored:?}");
        };
        check(&[], true);
        check(&[1, 1], true);
        check(&[2], false);
        check(&[2, 1], false);
    }
}

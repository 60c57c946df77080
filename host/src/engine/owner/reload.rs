//! Another board of what the store has: of an earlier host, or after a commit that failed.

use std::{collections::BTreeSet, sync::atomic::Ordering};

use claudine_domain::{
    board::{Board, Stored},
    id::{AttemptId, TaskId},
    step::{Found, Input},
};

use super::{Owner, RETRY_AFTER, told_aside};
use crate::{
    clock,
    engine::{EngineError, commit::Done},
    store::StoreError,
};

impl Owner {
    /// That batch and every later one are dropped with their effects, their callers get the error, and the board is loaded again.
    pub(super) async fn reload(&mut self, error: StoreError) -> Result<(), ()> {
        (self.in_flight, self.due) = (None, None);
        let answer = match &error {
            StoreError::Full { .. } => EngineError::StoreFull(error.to_string()),
            error => EngineError::Store(error.to_string()),
        };
        for awaiting in self.awaiting.drain(..) {
            let answer = if awaiting.after <= self.durable {
                awaiting.answer
            } else {
                Err(answer.clone())
            };
            // Whoever asked may have gone away meanwhile.
            drop(awaiting.reply.send(answer));
        }
        if matches!(error, StoreError::Fenced { .. }) {
            tracing::error!("another host has taken over this store; this one ends");
            return Err(());
        }
        let stored = loop {
            if self.committer.load().is_err() {
                return Err(());
            }
            match self.committer.done.recv().await {
                Some(Done::Loaded(Ok(stored))) => break stored,
                Some(Done::Loaded(Err(error))) => {
                    tracing::error!(%error, "the board cannot be loaded; trying again");
                    clock::sleep(RETRY_AFTER).await;
                }
                Some(_) => {}
                None => return Err(()),
            }
        };
        self.replace_board(stored);
        // What failed once fails again at once: the disk is given a moment.
        clock::sleep(RETRY_AFTER).await;
        Ok(())
    }

    fn replace_board(&mut self, stored: Stored) {
        self.durable = stored.last_batch;
        self.unreadable = told_aside(&stored);
        // What was acted on will be told again, and written with that.
        self.acted_on.store(0, Ordering::Release);
        // Wakes who waits for a batch that did not become durable.
        self.told.send_replace(self.durable);
        let draining = self.board.is_draining();
        self.board = Board::new(stored, self.limits, self.bounds, clock::boot_id());
        let now = clock::now();
        if draining && let Err(refused) = self.board.step(now, Input::Drain) {
            tracing::error!(%refused, "a drain was refused");
        }
        self.read_machine(now);
        self.recover();
    }

    /// Every attempt that the store has as begun is matched with what became of it.
    pub(super) fn recover(&mut self) {
        let now = clock::now();
        let running = self
            .board
            .unfinished()
            .filter(|task| task.has_open_attempt());
        let begun: BTreeSet<AttemptId> =
            running.filter_map(|task| task.last_attempt_id()).collect();
        self.board.restart_queue_clocks(now);
        self.attempts.begun(&begun);
        for attempt in begun {
            let found = if self.attempts.knows(attempt) {
                Found::Known
            } else if self.began_on_another_boot(attempt.task) {
                Found::Orphaned
            } else {
                Found::NeverReceived
            };
            let task = attempt.task;
            if let Err(refused) = self.board.step(now, Input::Recovered { task, found }) {
                tracing::error!(%refused, %attempt, "a recovery was refused");
            }
        }
    }

    /// What began before the machine was started anew is gone, whether its supervisor's notes are there or not.
    fn began_on_another_boot(&self, task: TaskId) -> bool {
        let attempt = self.board.task(task).and_then(|task| task.last_attempt());
        let boot = attempt
            .and_then(|attempt| attempt.started_monotonic.as_ref())
            .map(|(_, boot)| boot);
        boot.is_some_and(|boot| *boot != clock::boot_id())
    }
}

//! Loading another board from the store: the board of an earlier host, or the last durable board
//! after a failed commit.

use std::{collections::BTreeSet, ops::ControlFlow, sync::atomic::Ordering, time::Duration};

use claudine_domain::{
    board::{Board, Stored},
    id::{AttemptId, TaskId},
    step::Input,
};
use tokio::sync::mpsc;

use super::{Owner, RETRY_AFTER, told_aside};
use crate::{
    clock,
    engine::{EngineEnd, EngineError, Message, aside::aside, commit::Done},
    store::StoreError,
};

/// The maximum number of times that the store is read before the engine gives up. With the pauses,
/// this takes half a minute.
const TRIES: u32 = 30;

/// The time for which messages wait during a load before they are refused. A load that succeeds
/// usually takes less time.
const LOADED_WITHIN: Duration = Duration::from_secs(5);

impl Owner {
    /// Drops the failed batch and all later ones with their effects, answers the callers of these
    /// batches with the error, and loads the board again. Breaks if the engine is told to stop
    /// before the load succeeds. The store is left unchanged.
    pub(super) async fn reload(
        &mut self,
        error: StoreError,
        inbox: &mut mpsc::Receiver<Message>,
    ) -> Result<ControlFlow<()>, EngineEnd> {
        (self.in_flight, self.due) = (None, None);
        self.trouble.note(&error);
        self.answer_dropped(&error);
        match error {
            StoreError::Fenced { .. } => return Err(EngineEnd::Fenced),
            StoreError::Gone { .. } | StoreError::Overwritten { .. } => {
                return Err(EngineEnd::Gone(error));
            }
            // Nobody was told of the decisions that were dropped, and the supervisors send their
            // reports to the next host again.
            _ if self.stopping => return Ok(ControlFlow::Break(())),
            _ => {}
        }
        let Some(stored) = self.load_again(inbox).await? else {
            return Ok(ControlFlow::Break(()));
        };
        self.replace_board(stored);
        // Waits a moment, because a commit at once after a failed commit would probably fail too.
        clock::sleep(RETRY_AFTER).await;
        Ok(ControlFlow::Continue(()))
    }

    fn answer_dropped(&mut self, error: &StoreError) {
        let answer = match error {
            StoreError::Full { .. } => EngineError::StoreFull(format!("the disk is full: {error}")),
            error => EngineError::Store(error.to_string()),
        };
        for awaiting in self.awaiting.drain(..) {
            let answer = if awaiting.after <= self.durable {
                awaiting.answer
            } else {
                Err(answer.clone())
            };
            // The caller may no longer wait for the answer.
            drop(awaiting.reply.send(answer));
        }
    }

    /// Reads the store until a read succeeds; `None` if the engine is stopped first.
    async fn load_again(
        &mut self,
        inbox: &mut mpsc::Receiver<Message>,
    ) -> Result<Option<Stored>, EngineEnd> {
        for tries in 1.. {
            let error = match self.load_once(inbox).await? {
                Some(Ok(stored)) => {
                    self.trouble.unreadable = None;
                    return Ok(Some(stored));
                }
                Some(Err(error)) => error,
                None => return Ok(None),
            };
            tracing::error!(%error, tries, "the store cannot be read");
            if tries >= TRIES {
                return Err(EngineEnd::Reload { tries, error });
            }
            self.trouble.note(&error);
            self.trouble.unreadable = Some(error.to_string());
            self.publish();
            if self.pause(inbox).await.is_break() {
                return Ok(None);
            }
        }
        Ok(None)
    }

    async fn load_once(
        &mut self,
        inbox: &mut mpsc::Receiver<Message>,
    ) -> Result<Option<Result<Stored, StoreError>>, EngineEnd> {
        self.committer.load().map_err(|_| EngineEnd::CommitThread)?;
        let late = clock::sleep(LOADED_WITHIN);
        tokio::pin!(late);
        let mut is_late = false;
        loop {
            tokio::select! {
                biased;
                done = self.committer.done.recv() => match done {
                    Some(Done::Loaded(loaded)) => return Ok(Some(loaded)),
                    Some(_) => {}
                    None => return Err(EngineEnd::CommitThread),
                },
                () = &mut late, if !is_late => is_late = true,
                message = inbox.recv(), if is_late => if self.put_off(message).is_break() {
                    return Ok(None);
                },
            }
        }
    }

    /// Waits a moment before the next try, and answers messages during this time.
    async fn pause(&mut self, inbox: &mut mpsc::Receiver<Message>) -> ControlFlow<()> {
        let over = clock::sleep(RETRY_AFTER);
        tokio::pin!(over);
        loop {
            tokio::select! {
                () = &mut over => return ControlFlow::Continue(()),
                message = inbox.recv() => self.put_off(message)?,
            }
        }
    }

    /// Answers a message that arrives while there is no board. Breaks if the message asks to stop.
    fn put_off(&mut self, message: Option<Message>) -> ControlFlow<()> {
        let why = || {
            let trouble = self.trouble.unreadable.clone();
            EngineError::Reloading(trouble.unwrap_or_else(|| "reading takes long".to_owned()))
        };
        // The caller may no longer wait for the answer.
        match message {
            Some(Message::Command { reply, .. }) => drop(reply.send(Err(why()))),
            Some(Message::Capacity(reply)) => drop(reply.send(Err(why()))),
            Some(Message::Refusal { reply, .. }) => drop(reply.send(Err(why()))),
            Some(Message::Groups(reply)) => drop(reply.send(Err(why()))),
            Some(Message::Ping(reply)) => drop(reply.send(())),
            Some(Message::Idle(reply)) => self.idle.push(reply),
            Some(Message::Code { executor, lacks }) => {
                self.take_code(clock::now(), executor, lacks);
            }
            // These messages may be dropped: once the board is loaded, attempts repeat their
            // reports, and all attempts that have not ended are looked up.
            Some(Message::Report { .. } | Message::Reached | Message::Hurry) => {}
            Some(Message::Stop) | None => {
                tracing::warn!("the engine was told to stop before the store was read again");
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    }

    fn replace_board(&mut self, stored: Stored) {
        self.durable = stored.last_batch;
        self.reports.drop_after(self.durable);
        self.unreadable = told_aside(&stored);
        // Readers no longer wait for decisions of dropped batches. If such a decision was acted on,
        // an attempt repeats the report that led to the decision, and both are written together.
        self.acted_on.store(0, Ordering::Release);
        // Wakes the readers that wait for a dropped batch.
        self.told.send_replace(self.durable);
        let draining = self.board.is_draining();
        let without_code = self.board.without_code().clone();
        let (limits, bounds) = (self.limits, self.bounds);
        self.board = aside(|| Board::new(stored, limits, bounds, clock::boot_id()));
        self.last_wall = None;
        let now = clock::now();
        if draining && let Err(refused) = self.board.step(now, Input::Drain) {
            tracing::error!(%refused, "a drain was refused");
        }
        for (executor, why) in without_code {
            self.take_code(now, executor, Some(why));
        }
        for attempt in self.waits.all() {
            self.take_wait(now, attempt, true);
        }
        self.read_machine(now);
        self.recover();
    }

    /// [`Self::recover`] at the start of the host. The code that an earlier host could not load is
    /// looked for at once, and counts as lacking until it is found. Otherwise each host would begin
    /// an attempt of a waiting task, only to find out that it cannot.
    pub(super) fn recover_first(&mut self) {
        let now = clock::now();
        for (executor, why) in self.board.lacked_code() {
            self.attempts.load(&executor);
            self.take_code(now, executor, Some(why));
        }
        self.recover();
    }

    /// Finds out what became of every attempt that, according to the store, is reserved or has
    /// begun, and has not ended.
    pub(super) fn recover(&mut self) {
        self.board.restart_queue_clocks(clock::now());
        let begun = self.begun();
        self.attempts.begun(&begun, &self.unreadable_tasks());
        self.unsure.clear();
        for attempt in begun {
            self.recover_one(attempt);
        }
    }

    /// Looks up the attempts that a silent supervisor might have had, after this supervisor has
    /// answered. An attempt that is still unknown was never started.
    pub(super) fn look_for_unsure(&mut self) {
        let begun = self.begun();
        self.attempts.begun(&begun, &self.unreadable_tasks());
        for attempt in std::mem::take(&mut self.unsure) {
            if begun.contains(&attempt) {
                self.recover_one(attempt);
            }
        }
    }

    /// The tasks whose rows cannot be read, and which may have begun.
    fn unreadable_tasks(&self) -> BTreeSet<TaskId> {
        self.unreadable.iter().filter_map(|row| row.task).collect()
    }

    fn begun(&self) -> BTreeSet<AttemptId> {
        let running = self
            .board
            .unfinished()
            .filter(|task| task.has_open_attempt());
        running.filter_map(|task| task.last_attempt_id()).collect()
    }

    fn recover_one(&mut self, attempt: AttemptId) {
        let task = self.board.task(attempt.task);
        let Some(found) = task.and_then(|task| self.attempts.found(attempt, task)) else {
            // The attempt is not started again, because it could then run twice.
            tracing::warn!(%attempt, "the attempt waits for a supervisor that does not answer");
            self.unsure.insert(attempt);
            return;
        };
        let (now, task) = (clock::now(), attempt.task);
        if let Err(refused) = self.board.step(now, Input::Recovered { task, found }) {
            tracing::error!(%refused, %attempt, "a recovery was refused");
        }
    }
}

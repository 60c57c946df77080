//! The durable state: commits that succeed, fail or are torn, and boards loaded from the disk.

use std::{collections::BTreeSet, sync::Arc};

use super::{super::never_received, Dies, World, boot_id, bounds};
use crate::{
    attempt::Phase,
    batch::Batch,
    board::{Board, Remembered, Stored},
    capacity::Limits,
    event::{Event, Fact},
    id::AttemptId,
    outcome::ReasonClass,
    step::{Cause, Found, Input, Report},
    task::Task,
    time::MonotonicMs,
};

impl World {
    pub(super) fn commit(&mut self) {
        let Some((batch, effects)) = self.in_flight.take() else {
            return;
        };
        self.write(&batch);
        self.durable = batch.number;
        self.perform(effects);
        let durable = self.durable;
        for (_, task) in self.awaiting.extract_if(.., |(after, _)| *after <= durable) {
            assert!(
                self.disk.tasks.contains_key(&task),
                "a submission was answered before it was on disk"
            );
            self.promised.insert(task);
        }
    }

    fn write(&mut self, batch: &Batch) {
        assert_eq!(batch.number, self.disk.last_batch + 1);
        self.disk.last_batch = batch.number;
        for task in &batch.tasks {
            let goes_on = |event: &Event| {
                let again = matches!(
                    event.fact,
                    Fact::Retried | Fact::Resumed { .. } | Fact::MergedByHand { .. }
                );
                again && event.task == task.id
            };
            let before = self.disk.tasks.insert(task.id, Task::clone(task));
            let known = before.as_ref().map(ended_attempts).unwrap_or_default();
            let all = ended_attempts(task);
            let ended: BTreeSet<u32> = all.difference(&known).copied().collect();
            assert_eq!(
                told_ends(batch, task),
                ended,
                "events and rows disagree: {task:?}"
            );
            if let Some(before) = before.filter(Task::is_done) {
                assert!(
                    batch.events.iter().any(goes_on),
                    "a task ran again without a retry: {before:?} {task:?}"
                );
                assert!(task.attempts.starts_with(&before.attempts));
            }
            if task.is_done() {
                self.copies.push((batch.number, Task::clone(task)));
            }
        }
        self.disk.edges.extend(batch.dependencies.iter().cloned());
        for task in &batch.tasks {
            let edges = self.disk.edges.get(&task.id);
            let edges = edges.map_or(&[][..], |edges| edges);
            assert_eq!(edges, &*task.dependencies, "the edges on disk are wrong");
        }
        if let Some(queue) = &batch.queue {
            self.disk.queue = queue.clone();
        }
        for (name, group) in &batch.groups {
            match group {
                Some(group) => self.disk.groups.insert(name.clone(), *group),
                None => self.disk.groups.remove(name),
            };
        }
        for (account, parked) in &batch.accounts {
            match parked {
                Some(parked) => self.disk.accounts.insert(account.clone(), parked.clone()),
                None => self.disk.accounts.remove(account),
            };
        }
        for (key, profile) in &batch.profiles {
            match profile {
                Some(profile) => self.disk.profiles.insert(key.clone(), profile.clone()),
                None => self.disk.profiles.remove(key),
            };
        }
        self.disk.spent.extend(batch.spent.iter().copied());
    }

    pub(super) fn crash(&mut self, committed: bool, dies: Dies) {
        if let Some((batch, _)) = self.in_flight.take().filter(|_| committed) {
            self.write(&batch);
        }
        if dies != Dies::Alone {
            self.kill_processes();
            self.orphans = self.begun_on_disk();
        }
        if dies == Dies::WithMachine {
            self.boot += 1;
            self.now.monotonic = MonotonicMs(1_000);
        }
        self.mail.clear();
        self.lost.clear();
        // Preparations do not outlive the host.
        self.preparing.clear();
        self.cut_short.clear();
        // Only the dead host knew that a start had not arrived, or that an attempt had no process
        // yet. The supervisor cannot repeat such a report.
        let received = &self.received;
        self.told
            .retain(|(attempt, report)| received.contains(attempt) && *report != never_received());
        self.load();
    }

    fn begun_on_disk(&self) -> BTreeSet<AttemptId> {
        let running = self
            .disk
            .tasks
            .values()
            .filter(|task| task.has_open_attempt());
        running.filter_map(Task::last_attempt_id).collect()
    }

    /// Loads a new board from the disk, as is done after a crash or a failed commit.
    pub(super) fn load(&mut self) {
        self.durable = self.disk.last_batch;
        self.awaiting.clear();
        let rows = self.disk.tasks.iter();
        self.history = rows.map(|(id, row)| (*id, Arc::new(row.clone()))).collect();
        let remembered = |task: &Task| {
            let idempotency = task.request.idempotency.clone()?;
            let remembered = Remembered {
                task: task.id,
                payload_digest: idempotency.payload_digest,
                at: task.created_at,
            };
            Some((idempotency.key, remembered))
        };
        let tasks = self.disk.tasks.values();
        let stored = Stored {
            unfinished: tasks
                .clone()
                .filter(|task| !task.is_done())
                .cloned()
                .collect(),
            accounts: self.disk.accounts.clone().into_iter().collect(),
            groups: self.disk.groups.clone().into_iter().collect(),
            queue: self.disk.queue.clone(),
            remembered: tasks.filter_map(remembered).collect(),
            profiles: self.disk.profiles.clone().into_iter().collect(),
            spent: self.disk.spent.clone().into_iter().collect(),
            unreadable: Vec::new(),
            last_batch: self.disk.last_batch,
        };
        let limits = Limits {
            slots: self.board.configured_slots(),
            ..self.board.capacity.limits
        };
        self.board = Board::new(stored, limits, bounds(), boot_id(self.boot));
        for executor in self.without_code.clone() {
            self.tell_code(executor);
        }
        let begun: Vec<AttemptId> = self
            .board
            .unfinished()
            .filter(|task| task.has_open_attempt())
            .filter_map(|task| task.last_attempt_id())
            .collect();
        for attempt in begun {
            let task = attempt.task;
            let found = self.found(attempt);
            self.step(Input::Recovered { task, found }).unwrap();
        }
        // Each end that was not released is reported again, even the end of a finished task.
        let over = self
            .processes
            .iter()
            .filter(|(_, process)| !process.settles);
        let over = over.filter_map(|(attempt, process)| Some((attempt, process.ended.as_ref()?)));
        for (attempt, ending) in over.chain(&self.cut_short) {
            let report = Report::Ended(Box::new(ending.clone()));
            self.mail.push((*attempt, report));
        }
    }

    fn has_ended_by_itself(&self, attempt: AttemptId) -> bool {
        let process = self.processes.get(&attempt);
        let ended = process.and_then(|process| process.ended.as_ref());
        let lost = Cause::Class(ReasonClass::Lost);
        ended.is_some_and(|ended| ended.stopped.is_none() && ended.cause != lost)
    }

    /// State of an attempt, as the next host finds it. An assigned attempt with a trace of its
    /// start is known, even if its supervisor has died in the meantime.
    fn found(&self, attempt: AttemptId) -> Found {
        let traced = self.processes.contains_key(&attempt)
            || self.lost.contains(&attempt)
            || self.preparing.contains(&attempt)
            || self.cut_short.contains_key(&attempt);
        let task = self.board.tasks.get(&attempt.task);
        let is_assigned = |task: &Arc<Task>| task.phase() == Some(&Phase::Assigned);
        // A task that had a reserved attempt may have left the board during this recovery, because
        // the task on which it depends was stopped before that task had begun.
        let assigned = task.is_none_or(|task| task.is_chosen() || is_assigned(task));
        if self.orphans.contains(&attempt) && !(assigned && traced) {
            Found::Orphaned
        } else if self.has_ended_by_itself(attempt) {
            Found::Over
        } else if traced {
            Found::Known
        } else {
            Found::NeverReceived
        }
    }
}

fn ended_attempts(task: &Task) -> BTreeSet<u32> {
    let ended = task.attempts.iter().filter(|one| one.ended.is_some());
    ended.map(|one| one.number).collect()
}

/// Numbers of the task's attempts whose ends have an event in the batch.
fn told_ends(batch: &Batch, task: &Task) -> BTreeSet<u32> {
    let facts = batch.events.iter().filter(|event| event.task == task.id);
    let ends = facts.filter_map(|event| match &event.fact {
        Fact::AttemptEnded { attempt, .. } => Some(*attempt),
        _ => None,
    });
    ends.collect()
}

//! The batch that is being filled with changes of the board: what waits for it, and its end.

use super::{Board, Pending};
use crate::{
    batch::{Action, Batch, BatchNumber, Effect},
    id::TaskId,
};

impl Board {
    /// Number of the batch being filled.
    pub fn pending_batch(&self) -> BatchNumber {
        self.pending.number
    }

    /// Whether the batch being filled would write anything. If not, its effects wait only for
    /// earlier batches, and [`Board::take_released`] returns these effects.
    pub fn has_pending(&self) -> bool {
        let pending = &self.pending;
        !(pending.changed.is_empty()
            && pending.finished.is_empty()
            && pending.groups.is_empty()
            && !pending.queue
            && pending.documents.is_empty()
            && pending.accounts.is_empty()
            && pending.profiles.is_empty()
            && pending.spent.is_empty()
            && pending.events.is_empty()
            && pending.pruned.is_empty())
    }

    /// Whether something waits for the batch being filled: an effect other than a release, or slots
    /// that will soon run out of reserved attempts. `durable` is the last batch on disk.
    pub fn is_commit_urgent(&self, durable: BatchNumber) -> bool {
        let waits = |effect: &Effect| {
            effect.after == self.pending.number && !matches!(effect.action, Action::Release(_))
        };
        self.pending.effects.iter().any(waits) || self.runs_out_of_chosen(durable)
    }

    /// Tasks whose end is in the batch being filled.
    pub fn finished_in_pending(&self) -> impl Iterator<Item = TaskId> {
        self.pending.finished.keys().copied()
    }

    /// Closes the batch. Returns it with the effects that follow once this batch and all earlier
    /// ones are durable.
    pub fn seal(&mut self) -> (Batch, Vec<Effect>) {
        let next = Pending {
            number: self.pending.number + 1,
            ..Pending::default()
        };
        let pending = std::mem::replace(&mut self.pending, next);
        let unfinished = pending
            .changed
            .iter()
            .filter_map(|id| self.tasks.get(id).cloned());
        let batch = Batch {
            number: pending.number,
            tasks: unfinished.chain(pending.finished.into_values()).collect(),
            dependencies: pending.dependencies,
            groups: pending
                .groups
                .into_iter()
                .map(|name| {
                    let group = self.groups.get(&name).copied();
                    (name, group)
                })
                .collect(),
            queue: pending.queue.then(|| self.queue.clone()),
            documents: pending.documents,
            accounts: pending
                .accounts
                .into_iter()
                .map(|key| (key.clone(), self.accounts.get(&key).cloned()))
                .collect(),
            profiles: pending
                .profiles
                .into_iter()
                .map(|key| (key.clone(), self.capacity.profiles.get(&key).cloned()))
                .collect(),
            spent: pending
                .spent
                .into_iter()
                .map(|scope| (scope, self.spent.get(&scope).copied().unwrap_or(0)))
                .collect(),
            events: pending.events,
            pruned: pending.pruned,
        };
        (batch, pending.effects)
    }

    /// Takes from the batch being filled the effects that wait only for batches up to `durable`.
    pub fn take_released(&mut self, durable: BatchNumber) -> Vec<Effect> {
        let effects = &mut self.pending.effects;
        let released = effects.extract_if(.., |effect| effect.after <= durable);
        released.collect()
    }
}

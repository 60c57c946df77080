//! Compares the board with the disk, and checks that every difference will be written by a batch
//! that is under way.
//!
//! The check runs after every step, whatever is being committed. So a change that a step forgets to
//! write shows at once, not at a later load.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
};

use super::World;
use crate::{batch::Batch, id::TaskId, task::Task};

impl World {
    /// Checks that board and disk agree, except for the rows that the batch being filled will
    /// write. A batch that is being committed counts as written.
    pub(super) fn check_written(&self) {
        let nothing = Batch::default();
        let flying = self.in_flight.as_ref().map_or(&nothing, |(batch, _)| batch);
        self.check_rows(flying);
        let (board, disk, pending) = (&self.board, &self.disk, &self.board.pending);
        let accounts = flying
            .accounts
            .iter()
            .map(|(key, value)| (key, value.as_ref()));
        check(&board.accounts, &disk.accounts, accounts, &pending.accounts);
        let groups = flying
            .groups
            .iter()
            .map(|(key, value)| (key, value.as_ref()));
        check(&board.groups, &disk.groups, groups, &pending.groups);
        if !pending.queue {
            let queue = flying.queue.as_ref().unwrap_or(&disk.queue);
            assert_eq!(&board.queue, queue);
        }
        let spent = flying.spent.iter().map(|(key, value)| (key, Some(value)));
        check(&board.spent, &disk.spent, spent, &pending.spent);
        let profiles = flying
            .profiles
            .iter()
            .map(|(key, value)| (key, value.as_ref()));
        let learned = board.capacity.profiles.all();
        check(learned, &disk.profiles, profiles, &pending.profiles);
    }

    fn check_rows(&self, flying: &Batch) {
        let (board, pending) = (&self.board, &self.board.pending);
        for task in board.tasks.values() {
            let written = self.written(flying, task.id);
            assert!(
                pending.changed.contains(&task.id) || written == Some(task),
                "a changed task is not marked to be written: {task:?}, on disk: {written:?}"
            );
        }
        let on_disk = self.disk.tasks.values();
        let on_disk = on_disk.chain(flying.tasks.iter().map(|task| &**task));
        for task in on_disk.filter(|task| !task.is_done()) {
            let known = board.tasks.contains_key(&task.id)
                || pending.finished.contains_key(&task.id)
                || self.written(flying, task.id).is_some_and(Task::is_done);
            assert!(known, "a task is on disk but not on the board: {task:?}");
        }
    }

    fn written<'a>(&'a self, flying: &'a Batch, id: TaskId) -> Option<&'a Task> {
        let newer = flying.tasks.iter().find(|task| task.id == id);
        newer.map_or_else(|| self.disk.tasks.get(&id), |task| Some(task))
    }
}

fn check<'a, K: Ord + Debug + 'a, V: PartialEq + Debug + 'a>(
    board: &BTreeMap<K, V>,
    disk: &BTreeMap<K, V>,
    flying: impl Iterator<Item = (&'a K, Option<&'a V>)> + Clone,
    pending: &BTreeSet<K>,
) {
    let keys = board.keys().chain(disk.keys());
    let keys = keys.chain(flying.clone().map(|(key, _)| key));
    for key in keys.filter(|key| !pending.contains(key)) {
        let newer = flying.clone().find(|(flies, _)| *flies == key);
        let written = newer.map_or_else(|| disk.get(key), |(_, value)| value);
        assert_eq!(board.get(key), written, "{key:?} will not be written");
    }
}

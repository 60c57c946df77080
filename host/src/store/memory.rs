//! A store in memory, for the engine's tests. It is also the simplest implementation of the rules
//! of a store.
//!
//! It searches all rows where `sqlite` uses an index, so a comparison of the results of both stores
//! also checks the indexes.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard},
};

use claudine_domain::{
    account::Parked,
    batch::{Batch, BatchNumber, DocumentKey, Pruned},
    board::{Remembered, Stored},
    budget::Scope,
    dependency::{Dependency, End},
    event::Event,
    group::Group,
    id::{AccountKey, IdEnd, TaskId},
    idempotency::in_present_form,
    profile::{Profile, ProfileKey},
    queue::Queue,
    task::{State, Task},
    time::Timestamp,
};

use super::{
    Bytes, Counters, Epoch, Filter, InGroup, Intent, Old, Page, Prunable, Record, Resolved,
    Sequence, Status, Store, StoreError, reference::Reference,
};
use crate::lock::lock;

#[derive(Debug, Default)]
pub(crate) struct MemoryStore(Mutex<Content>);

#[derive(Clone, Debug, Default)]
struct Content {
    epoch: u64,
    last_batch: BatchNumber,
    last_event: Sequence,
    tasks: BTreeMap<TaskId, Task>,
    documents: BTreeMap<DocumentKey, Vec<u8>>,
    accounts: BTreeMap<AccountKey, Parked>,
    groups: BTreeMap<String, Group>,
    queue: Option<Queue>,
    dependencies: BTreeMap<TaskId, Arc<[Dependency]>>,
    profiles: BTreeMap<ProfileKey, Profile>,
    spent: BTreeMap<Scope, u64>,
    events: BTreeMap<Sequence, Event>,
    failures_to_come: u32,
    load_failures_to_come: u32,
    panics_at_commit: bool,
    files_are_lost: bool,
    /// How often the store was asked or changed.
    calls: u64,
}

impl MemoryStore {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Blocks all reads and writes until the result is dropped.
    pub(crate) fn stall(&self) -> impl Drop + '_ {
        self.content()
    }

    /// Makes the next `count` commits fail as on a full disk.
    pub(crate) fn fail_commits(&self, count: u32) {
        self.content().failures_to_come = count;
    }

    /// Makes the next `count` loads fail.
    pub(crate) fn fail_loads(&self, count: u32) {
        self.content().load_failures_to_come = count;
    }

    /// Makes the next commit panic, which ends its thread.
    pub(crate) fn panic_at_commit(&self) {
        self.content().panics_at_commit = true;
    }

    /// Makes all commits fail as if the files of the store had been removed.
    pub(crate) fn lose_files(&self) {
        self.content().files_are_lost = true;
    }

    /// Locks the content. Poisoning can be ignored, because the panic that tests cause at a commit
    /// comes before the batch is applied.
    fn content(&self) -> MutexGuard<'_, Content> {
        let mut content = lock(&self.0);
        content.calls += 1;
        content
    }

    /// How often the store was asked or changed until now.
    pub(crate) fn calls(&self) -> u64 {
        lock(&self.0).calls
    }
}

impl Content {
    fn check_epoch(&self, epoch: Epoch) -> Result<(), StoreError> {
        let current = Epoch(self.epoch);
        if epoch == current {
            Ok(())
        } else {
            Err(StoreError::Fenced {
                held: epoch,
                current,
            })
        }
    }

    fn apply(&mut self, batch: &Batch) {
        self.last_batch = batch.number;
        self.dependencies.extend(batch.dependencies.iter().cloned());
        for task in &batch.tasks {
            let dependencies = self.dependencies.get(&task.id).cloned();
            let task = Task {
                dependencies: dependencies.unwrap_or_default(),
                ..Task::clone(task)
            };
            self.tasks.insert(task.id, task);
        }
        for (name, group) in &batch.groups {
            match group {
                Some(group) => self.groups.insert(name.clone(), *group),
                None => self.groups.remove(name),
            };
        }
        if let Some(queue) = &batch.queue {
            self.queue = Some(queue.clone());
        }
        for (key, bytes) in &batch.documents {
            self.documents.insert(*key, bytes.to_vec());
        }
        for (key, parked) in &batch.accounts {
            match parked {
                Some(parked) => self.accounts.insert(key.clone(), parked.clone()),
                None => self.accounts.remove(key),
            };
        }
        for (key, profile) in &batch.profiles {
            match profile {
                Some(profile) => self.profiles.insert(key.clone(), profile.clone()),
                None => self.profiles.remove(key),
            };
        }
        self.spent.extend(batch.spent.iter().copied());
        for event in &batch.events {
            self.last_event += 1;
            self.events.insert(self.last_event, event.clone());
        }
        self.prune(&batch.pruned);
    }

    /// All records, in the order of an export.
    fn records(&self) -> Vec<Record> {
        let counters = Record::Counters(Counters {
            epoch: self.epoch,
            last_batch: self.last_batch,
            last_event: self.last_event,
        });
        let tasks = self.tasks.values().map(|task| Record::Task {
            depends_on: task.dependencies.to_vec(),
            task: Box::new(Task {
                dependencies: Arc::default(),
                ..task.clone()
            }),
        });
        let mut documents: Vec<_> = self.documents.iter().collect();
        documents.sort_by_key(|(key, _)| (task_of(**key), **key));
        let documents = documents.into_iter().map(|(key, bytes)| Record::Document {
            key: *key,
            bytes: Bytes::of(bytes.clone()),
        });
        let groups = self.groups.iter().map(|(name, group)| Record::Group {
            name: name.clone(),
            group: *group,
        });
        let queue = self.queue.clone().map(Record::Queue);
        let accounts = self.accounts.iter().map(|(key, parked)| Record::Account {
            key: key.clone(),
            parked: parked.clone(),
        });
        let profiles = self.profiles.iter().map(|(key, profile)| Record::Profile {
            key: key.clone(),
            profile: Box::new(profile.clone()),
        });
        let spent = self.spent.iter().map(|(scope, micro_usd)| Record::Spent {
            scope: *scope,
            micro_usd: *micro_usd,
        });
        let events = self.events.iter().map(|(sequence, event)| Record::Event {
            sequence: *sequence,
            event: Box::new(event.clone()),
        });
        std::iter::once(counters)
            .chain(tasks)
            .chain(documents)
            .chain(groups)
            .chain(queue)
            .chain(accounts)
            .chain(profiles)
            .chain(spent)
            .chain(events)
            .collect()
    }

    fn take_in(&mut self, record: Record) {
        match record {
            Record::Counters(counters) => {
                self.epoch = counters.epoch;
                self.last_batch = counters.last_batch;
                self.last_event = counters.last_event;
            }
            Record::Task { task, depends_on } => {
                let dependencies: Arc<[Dependency]> = depends_on.into();
                self.dependencies.insert(task.id, dependencies.clone());
                let task = Task {
                    dependencies,
                    ..*task
                };
                self.tasks.insert(task.id, task);
            }
            Record::Document { key, bytes } => {
                self.documents
                    .insert(key, bytes.into_vec().unwrap_or_default());
            }
            Record::Group { name, group } => _ = self.groups.insert(name, group),
            Record::Queue(queue) => self.queue = Some(queue),
            Record::Account { key, parked } => _ = self.accounts.insert(key, parked),
            Record::Profile { key, profile } => _ = self.profiles.insert(key, *profile),
            Record::Spent { scope, micro_usd } => _ = self.spent.insert(scope, micro_usd),
            Record::Event { sequence, event } => _ = self.events.insert(sequence, *event),
        }
    }

    fn remembered(&self, since: Timestamp) -> Vec<(String, Remembered)> {
        let keyed = self.tasks.values().filter_map(|task| {
            let idempotency = task.request.idempotency.as_ref()?;
            let remembered = Remembered {
                task: task.id,
                payload_digest: idempotency.payload_digest.clone(),
                at: task.created_at,
            };
            let key = || in_present_form(idempotency.key.clone(), &task.request.by);
            (task.created_at >= since).then(|| (key(), remembered))
        });
        let mut keyed: Vec<_> = keyed.collect();
        keyed.sort_by_key(|(_, remembered)| (remembered.at, remembered.task));
        // If a key was used again after it was forgotten, it belongs to the latest task.
        let newest: BTreeMap<_, _> = keyed.into_iter().collect();
        newest.into_iter().collect()
    }

    fn newest_of_name(&self, name: &str) -> Option<TaskId> {
        let named = || {
            let newest_first = self.tasks.values().rev();
            newest_first.filter(|task| task.request.name.as_deref() == Some(name))
        };
        let is_restrained = |task: &&Task| task.request.by.restrained;
        let newest = |tasks: &dyn Fn(&&Task) -> bool| {
            let unfinished = named().filter(tasks).find(|task| !task.is_done());
            unfinished.or_else(|| named().find(tasks))
        };
        let found = newest(&|task| !is_restrained(task)).or_else(|| newest(&|_| true));
        found.map(|task| task.id)
    }

    /// The tasks whose ids have this beginning or this end.
    fn with_parts(&self, begin: Option<(TaskId, TaskId)>, end: Option<IdEnd>) -> Resolved {
        let fits = |id: &TaskId| {
            begin.is_some_and(|(low, high)| (low..=high).contains(id))
                || end.is_some_and(|end| end.fits(*id))
        };
        let ids = self.tasks.keys().copied();
        Resolved::of_matches(ids.filter(fits).collect())
    }

    fn may_go(&self, task: &Task, old: Old) -> bool {
        let State::Done { at, .. } = task.state else {
            return false;
        };
        let is_needed = || {
            let mut unfinished = self.tasks.values().filter(|other| !other.is_done());
            unfinished.any(|other| {
                other.request.parent == Some(task.id)
                    || other.dependencies.iter().any(|it| it.task == task.id)
            })
        };
        let is_remembered =
            task.request.idempotency.is_some() && task.created_at >= old.keyed_before;
        let names_others = || {
            let mut others = self.tasks.values().filter(|other| other.id != task.id);
            others.any(|other| {
                let graph = other.request.graph.as_ref();
                graph.is_some_and(|graph| graph.first == task.id)
            })
        };
        let older_than = old.finished_before;
        task.id < TaskId::new(older_than.0, 0)
            && at < older_than
            && !is_remembered
            && !is_needed()
            && !names_others()
    }

    fn remove(&mut self, id: TaskId) {
        self.tasks.remove(&id);
        self.dependencies.remove(&id);
        self.documents.retain(|key, _| task_of(*key) != id);
    }

    fn prune(&mut self, pruned: &Pruned) {
        for task in &pruned.tasks {
            self.remove(*task);
        }
        self.events.retain(|at, _| *at > pruned.events_to);
        if let Some(before) = pruned.spent_before {
            self.spent.retain(|scope, _| !scope.began_before(before));
        }
    }
}

fn task_of(key: DocumentKey) -> TaskId {
    match key {
        DocumentKey::Spec(task) | DocumentKey::Context(task) => task,
        DocumentKey::Outputs(attempt) | DocumentKey::Checkpoint(attempt) => attempt.task,
    }
}

impl Store for MemoryStore {
    fn lead_after(&self, led: u64) -> Result<Epoch, StoreError> {
        let mut content = self.content();
        content.epoch = content.epoch.max(led) + 1;
        Ok(Epoch(content.epoch))
    }

    fn load(&self, remember_since: Timestamp) -> Result<Stored, StoreError> {
        let mut content = self.content();
        if content.load_failures_to_come > 0 {
            content.load_failures_to_come -= 1;
            return Err(StoreError::Corrupt {
                path: PathBuf::from("memory"),
                detail: "a row cannot be read".to_owned(),
            });
        }
        let unfinished = content.tasks.values().filter(|task| !task.is_done());
        Ok(Stored {
            unfinished: unfinished.cloned().collect(),
            accounts: content.accounts.clone().into_iter().collect(),
            groups: content.groups.clone().into_iter().collect(),
            queue: content.queue.clone().unwrap_or_default(),
            remembered: content.remembered(remember_since),
            profiles: content.profiles.clone().into_iter().collect(),
            spent: content.spent.clone().into_iter().collect(),
            unreadable: Vec::new(),
            last_batch: content.last_batch,
        })
    }

    fn commit(&self, epoch: Epoch, batch: &Batch) -> Result<(), StoreError> {
        let mut content = self.content();
        content.check_epoch(epoch)?;
        assert!(!content.panics_at_commit, "the commit thread panics");
        let path = PathBuf::from("memory");
        if content.files_are_lost {
            return Err(StoreError::Gone { path });
        }
        if content.failures_to_come > 0 {
            content.failures_to_come -= 1;
            return Err(StoreError::Full { path });
        }
        if batch.number <= content.last_batch {
            return Err(StoreError::OutOfOrder {
                number: batch.number,
                last: content.last_batch,
            });
        }
        content.apply(batch);
        Ok(())
    }

    fn last_batch(&self) -> Result<BatchNumber, StoreError> {
        Ok(self.content().last_batch)
    }

    fn task(&self, id: TaskId) -> Result<Option<Task>, StoreError> {
        Ok(self.content().tasks.get(&id).cloned())
    }

    fn resolve(&self, reference: &str, intent: Intent) -> Result<Resolved, StoreError> {
        let content = self.content();
        let newest_first = || content.tasks.iter().rev();
        let (name, begin, end) = match Reference::parse(reference, intent) {
            Reference::Last => {
                return Ok(Resolved::of_one(newest_first().next().map(|(id, _)| *id)));
            }
            Reference::LastRunning => {
                let mut running =
                    newest_first().filter(|(_, task)| Status::of(task) == Status::Running);
                return Ok(Resolved::of_one(running.next().map(|(id, _)| *id)));
            }
            Reference::Named { name, begin, end } => (name, begin, end),
        };
        if let Some(id) = name.and_then(|name| content.newest_of_name(name)) {
            return Ok(Resolved::Found(id));
        }
        Ok(content.with_parts(begin, end))
    }

    fn task_of_key(&self, key: &str, since: Timestamp) -> Result<Option<Task>, StoreError> {
        let content = self.content();
        let keyed = content.tasks.values().filter(|task| {
            let idempotency = task.request.idempotency.as_ref();
            task.created_at >= since && idempotency.is_some_and(|it| it.key == key)
        });
        Ok(keyed.max_by_key(|task| (task.created_at, task.id)).cloned())
    }

    fn resolve_part(&self, part: &str, intent: Intent) -> Result<Resolved, StoreError> {
        Ok(match Reference::parse(part, intent) {
            Reference::Last | Reference::LastRunning => Resolved::NotFound,
            Reference::Named { begin, end, .. } => self.content().with_parts(begin, end),
        })
    }

    fn are_parts(&self, texts: &[&str], intent: Intent) -> Result<Vec<bool>, StoreError> {
        let is_part = |text: &&str| Ok(self.resolve_part(text, intent)? != Resolved::NotFound);
        texts.iter().map(is_part).collect()
    }

    fn list(&self, filter: &Filter, limit: usize) -> Result<Page, StoreError> {
        let content = self.content();
        let newest_first = content.tasks.values().rev();
        let passing = newest_first.filter(|task| filter.allows(task));
        Ok(Page::cut(
            passing.take(limit.saturating_add(1)).cloned().collect(),
            limit,
        ))
    }

    fn last_ended(&self, filter: &Filter, limit: usize) -> Result<Vec<Task>, StoreError> {
        let content = self.content();
        let mut ended: Vec<_> = content
            .tasks
            .values()
            .filter(|task| filter.allows(task))
            .filter_map(|task| match task.state {
                State::Done { at, .. } => Some((at, task.id, task)),
                _ => None,
            })
            .collect();
        ended.sort_by_key(|(at, id, _)| std::cmp::Reverse((*at, *id)));
        Ok(ended
            .into_iter()
            .take(limit)
            .map(|(_, _, task)| task.clone())
            .collect())
    }

    fn graphs_named(&self, name: &str, limit: usize) -> Result<Vec<TaskId>, StoreError> {
        let content = self.content();
        let is_first = |task: &&Task| {
            let graph = task.request.graph.as_ref();
            graph.is_some_and(|graph| graph.name.as_deref() == Some(name))
        };
        let newest_first = || content.tasks.values().rev().filter(is_first);
        let unrestrained = newest_first().filter(|task| !task.request.by.restrained);
        let unrestrained: Vec<TaskId> = unrestrained.map(|task| task.id).take(limit).collect();
        if !unrestrained.is_empty() {
            return Ok(unrestrained);
        }
        Ok(newest_first().map(|task| task.id).take(limit).collect())
    }

    fn counts(&self) -> Result<Vec<(Status, u64)>, StoreError> {
        let content = self.content();
        let count = |status| {
            let of_it = content
                .tasks
                .values()
                .filter(|task| Status::of(task) == status);
            (status, of_it.count() as u64)
        };
        let all = Status::all().map(count);
        Ok(all.filter(|(_, count)| *count > 0).collect())
    }

    fn ends(&self, ids: &BTreeSet<TaskId>) -> Result<BTreeMap<TaskId, Option<End>>, StoreError> {
        let content = self.content();
        let found = ids.iter().filter_map(|id| content.tasks.get(id));
        Ok(found.map(|task| (task.id, task.end())).collect())
    }

    fn group_counts(&self) -> Result<Vec<(String, Status, u64)>, StoreError> {
        let content = self.content();
        let mut counts = BTreeMap::new();
        for task in content.tasks.values().filter(|task| !task.is_done()) {
            if let Some(group) = &task.request.group {
                let status = Status::of(task);
                let order = status.place();
                let entry = counts.entry((group.clone(), order)).or_insert((status, 0));
                entry.1 += 1;
            }
        }
        let counts = counts.into_iter();
        Ok(counts
            .map(|((group, _), (status, count))| (group, status, count))
            .collect())
    }

    fn group_tasks(&self, most: usize) -> Result<Vec<InGroup>, StoreError> {
        let content = self.content();
        let mut groups: BTreeMap<&str, Vec<&Task>> = BTreeMap::new();
        for task in content.tasks.values().rev().filter(|task| !task.is_done()) {
            if let Some(group) = &task.request.group {
                groups.entry(group).or_default().push(task);
            }
        }
        let mut tasks = Vec::new();
        for (group, mut all) in groups {
            all.sort_by_key(|task| Status::of(task) != Status::Running);
            tasks.extend(all.into_iter().take(most).map(|task| InGroup {
                group: group.to_owned(),
                id: task.id,
                name: task.request.name.clone(),
            }));
        }
        Ok(tasks)
    }

    fn queue(&self) -> Result<Queue, StoreError> {
        Ok(self.content().queue.clone().unwrap_or_default())
    }

    fn dependants(&self, id: TaskId) -> Result<Vec<TaskId>, StoreError> {
        let content = self.content();
        let depends = |task: &&Task| task.dependencies.iter().any(|it| it.task == id);
        let found = content.tasks.values().filter(depends);
        Ok(found.map(|task| task.id).collect())
    }

    fn spoilt_by(&self, culprit: TaskId) -> Result<Vec<Task>, StoreError> {
        let content = self.content();
        let spoilt = |task: &&Task| task.end().is_some_and(|end| end.culprit == Some(culprit));
        Ok(content.tasks.values().filter(spoilt).cloned().collect())
    }

    fn spent_on(&self, scope: Scope) -> Result<u64, StoreError> {
        Ok(self.content().spent.get(&scope).copied().unwrap_or(0))
    }

    fn document(&self, key: DocumentKey) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.content().documents.get(&key).cloned())
    }

    fn events_after(
        &self,
        sequence: Sequence,
        limit: usize,
    ) -> Result<Vec<(Sequence, Event)>, StoreError> {
        let content = self.content();
        let after = content
            .events
            .range((Bound::Excluded(sequence), Bound::Unbounded))
            .take(limit);
        Ok(after.map(|(at, event)| (*at, event.clone())).collect())
    }

    fn last_event(&self) -> Result<Sequence, StoreError> {
        Ok(self.content().last_event)
    }

    fn first_event_since(&self, at: Timestamp) -> Result<Option<Sequence>, StoreError> {
        let content = self.content();
        let mut events = content.events.iter();
        let first = events.find(|(_, event)| event.at >= at);
        Ok(first.map(|(sequence, _)| *sequence))
    }

    fn env_digests_in_use(&self) -> Result<Vec<String>, StoreError> {
        let content = self.content();
        let digests = content.tasks.values().map(|task| &task.request.env_digest);
        let sorted: BTreeSet<_> = digests.collect();
        Ok(sorted.into_iter().map(ToString::to_string).collect())
    }

    fn export(&self, each: &mut dyn FnMut(Record) -> bool) -> Result<(), StoreError> {
        let content = self.content().clone();
        let _all_shown = content.records().into_iter().all(each);
        Ok(())
    }

    fn import(&self, _part: u32, records: Vec<Record>) -> Result<(), StoreError> {
        let mut content = self.content();
        for record in records {
            content.take_in(record);
        }
        Ok(())
    }

    fn prunable(
        &self,
        old: Old,
        after: Option<TaskId>,
        limit: usize,
    ) -> Result<Vec<Prunable>, StoreError> {
        let content = self.content();
        let after = after.map_or(Bound::Unbounded, Bound::Excluded);
        let oldest_first = content.tasks.range((after, Bound::Unbounded));
        let found = oldest_first
            .map(|(_, task)| task)
            .filter(|task| content.may_go(task, old))
            .take(limit)
            .map(Prunable::of);
        Ok(found.collect())
    }

    fn last_old_event(
        &self,
        older_than: Timestamp,
        limit: usize,
    ) -> Result<Option<Sequence>, StoreError> {
        let content = self.content();
        let front = content.events.iter().take(limit);
        let old = front.take_while(|(_, event)| event.at < older_than);
        Ok(old.last().map(|(sequence, _)| *sequence))
    }

    fn known(&self, ids: &BTreeSet<TaskId>) -> Result<BTreeSet<TaskId>, StoreError> {
        let content = self.content();
        let known = ids.iter().filter(|id| content.tasks.contains_key(id));
        Ok(known.copied().collect())
    }
}

//! Removes old data: tasks that finished long ago, with their documents, events and logs, and
//! environments that no task names any more.
//!
//! Candidates are read from the store. They are removed in a batch of the engine, which knows
//! whether they have changed since. Unfinished tasks and everything they need are kept.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{self, Write},
    path::Path,
    sync::Arc,
    time::Duration,
};

use claudine_domain::{
    board::IDEMPOTENCY_WINDOW,
    id::{AttemptId, TaskId},
    step::{Answer, Input, Prune},
    time::{Timestamp, millis},
};

use crate::{
    clock,
    engine::{Engine, EngineError},
    environment::Environments,
    fsx,
    kept::Kept,
    layout::Layout,
    restored::Restored,
    store::{Old, Prunable, Store, StoreError},
};

/// Number of times that old data is looked for in the time for which it is kept.
const ROUNDS: u32 = 10;
/// Limits of the time between two rounds.
const SHORTEST_PAUSE: Duration = Duration::from_mins(1);
const LONGEST_PAUSE: Duration = Duration::from_hours(1);
/// Maximum number of tasks that are removed in one transaction. Other commits wait for this
/// transaction.
const TASKS_AT_ONCE: usize = 500;
/// Maximum number of events that are removed in one transaction.
const EVENTS_AT_ONCE: usize = 8_000;

/// Everything that is needed to remove old data.
pub(crate) struct Retention {
    pub(crate) engine: Engine,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) layout: Layout,
    pub(crate) environments: Arc<Environments>,
    /// How long finished tasks are kept.
    pub(crate) kept: Kept,
}

#[derive(Debug, thiserror::Error)]
enum ForgetError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("the logs to remove cannot be noted: {0}")]
    Note(#[from] io::Error),
    #[error("the environments of tasks cannot be listed: {0}")]
    Environments(io::Error),
    #[error("the record of the restore cannot be read: {0}")]
    Restored(io::Error),
    #[error("the data to remove cannot be looked up: {0}")]
    Thread(#[from] crate::aside::AsideError),
    #[error("the engine answered a prune with {0:?}")]
    Answer(Answer),
}

impl Retention {
    /// Removes old data again and again, as long as this future is polled.
    pub(crate) async fn run(self) {
        let this = Arc::new(self);
        while let Some(pause) = this.round().await {
            clock::sleep(pause).await;
        }
    }

    /// Removes old data. Returns the time until the next round; `None` if the engine has ended.
    async fn round(self: &Arc<Self>) -> Option<Duration> {
        let now = clock::wall();
        match self.forget(now).await {
            Ok(0) => {}
            Ok(count) => {
                tracing::info!(count, "old tasks were removed");
            }
            Err(ForgetError::Engine(EngineError::Down | EngineError::Leaving)) => return None,
            Err(error) => {
                tracing::warn!(%error, "old tasks cannot be removed");
            }
        }
        Some(pause(self.kept.keep(now)))
    }

    /// Removes everything that may be removed now. Returns the number of removed tasks.
    async fn forget(self: &Arc<Self>, now: Timestamp) -> Result<usize, ForgetError> {
        self.blocking(Self::finish_earlier).await?;
        let before = |age| Timestamp(now.0.saturating_sub(millis(age)));
        let old = Old {
            finished_before: before(self.kept.keep(now)),
            keyed_before: before(IDEMPOTENCY_WINDOW),
        };
        // Nothing is removed until the retention time has passed since a restore, or if it is
        // unknown whether there was a restore.
        let read = |this: &Self| Restored::read(&this.layout).map_err(ForgetError::Restored);
        let restored = self.blocking(read).await?;
        if restored.is_some_and(|restored| restored.at >= old.finished_before) {
            return Ok(0);
        }
        let let_go = self.environments.let_go();
        // The engine answers only after everything in progress is stored, so the list of
        // environments in use, which is read below, is complete.
        let count = self.forget_tasks(old).await?;
        self.forget_events(old.finished_before).await?;
        if count > 0 || !let_go.is_nothing() {
            self.blocking(|this| {
                let in_use = this.store.env_digests_in_use()?;
                let pruned = this.environments.prune(let_go, &in_use);
                pruned.map_err(ForgetError::Environments)
            })
            .await?;
        }
        Ok(count)
    }

    async fn forget_tasks(self: &Arc<Self>, old: Old) -> Result<usize, ForgetError> {
        let mut count = 0;
        let mut after = None;
        loop {
            let (as_of, found) = self.blocking(move |this| this.note_old(old, after)).await?;
            after = found.last().map(|last| last.task);
            let unrestrained = found.iter().filter(|found| found.is_unrestrained);
            let prune = Prune {
                tasks: found.iter().map(|found| found.task).collect(),
                events_to: 0,
                older_than: old.finished_before,
                as_of,
                sessions_to: unrestrained.filter_map(|found| found.session_to).max(),
                all_sessions_to: found.iter().filter_map(|found| found.session_to).max(),
            };
            let is_last = found.len() < TASKS_AT_ONCE;
            count += self.prune(prune).await?.len();
            self.blocking(Self::finish_earlier).await?;
            if is_last {
                return Ok(count);
            }
        }
    }

    /// Removes old events, even events of unfinished tasks. They are removed separately, because a
    /// task may have more events than fit in the transaction that removes the task.
    async fn forget_events(self: &Arc<Self>, older_than: Timestamp) -> Result<(), ForgetError> {
        loop {
            let last = self
                .blocking(move |this| Ok(this.store.last_old_event(older_than, EVENTS_AT_ONCE)?))
                .await?;
            let Some(events_to) = last else {
                return Ok(());
            };
            let prune = Prune {
                events_to,
                older_than,
                ..Prune::default()
            };
            self.prune(prune).await?;
        }
    }

    async fn prune(&self, prune: Prune) -> Result<Vec<TaskId>, ForgetError> {
        match self.engine.command(Input::Prune(prune)).await? {
            Answer::Pruned(gone) => Ok(gone),
            other => Err(ForgetError::Answer(other)),
        }
    }

    async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T, ForgetError> + Send + 'static,
    ) -> Result<T, ForgetError> {
        let this = self.clone();
        crate::aside::run(move || work(&this)).await?
    }

    /// Finds the next tasks to remove, and notes their logs. If this host crashes before it has
    /// removed the logs, the next host removes them.
    fn note_old(
        &self,
        old: Old,
        after: Option<TaskId>,
    ) -> Result<(u64, Vec<Prunable>), ForgetError> {
        let as_of = self.store.last_batch()?;
        let found = self.store.prunable(old, after, TASKS_AT_ONCE)?;
        let attempts = found.iter().flat_map(|found| {
            let numbers = found.attempts.iter();
            numbers.map(|number| AttemptId {
                task: found.task,
                number: *number,
            })
        });
        let attempts: Vec<String> = attempts.map(|attempt| attempt.to_string()).collect();
        if !attempts.is_empty() {
            let mut options = fsx::private();
            let options = options.create(true).truncate(true).write(true);
            let mut note = fsx::open_own(&self.layout.forgetting(), options)?;
            note.write_all(attempts.join("\n").as_bytes())?;
            note.sync_data()?;
        }
        Ok((as_of, found))
    }

    /// Removes the logs of noted tasks that are no longer stored.
    fn finish_earlier(&self) -> Result<(), ForgetError> {
        let note = self.layout.forgetting();
        let lines = match fsx::read_text(&note) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            lines => lines?,
        };
        let mut noted: BTreeMap<TaskId, Vec<AttemptId>> = BTreeMap::new();
        // The last line may be incomplete. If so, its task is still stored and the log is kept.
        for attempt in lines.lines().filter_map(|line| line.parse().ok()) {
            let AttemptId { task, .. } = attempt;
            noted.entry(task).or_default().push(attempt);
        }
        let known = self.store.known(&noted.keys().copied().collect())?;
        noted.retain(|task, _| !known.contains(task));
        let attempts: BTreeSet<AttemptId> = noted.into_values().flatten().collect();
        for attempt in attempts {
            self.remove_log(attempt);
        }
        fs::remove_file(note)?;
        Ok(())
    }

    /// Removes the log of an attempt, with all segments of the log.
    fn remove_log(&self, attempt: AttemptId) {
        let path = self.layout.log(attempt);
        if let (Some(dir), Some(name)) = (path.parent(), path.file_name())
            && let Err(error) = remove_beginning_with(dir, &name.to_string_lossy())
        {
            tracing::warn!(path = %path.display(), %error, "an old log cannot be removed");
        }
    }
}

/// The time between two rounds, for data that is kept for this time.
fn pause(keep: Duration) -> Duration {
    (keep / ROUNDS).clamp(SHORTEST_PAUSE, LONGEST_PAUSE)
}

/// Removes all matching files. Returns the first error.
fn remove_beginning_with(dir: &Path, name: &str) -> io::Result<()> {
    let begins = |path: &Path| {
        let found = path.file_name().unwrap_or_default();
        found.to_string_lossy().starts_with(name)
    };
    let mut removed = Ok(());
    for log in fsx::entries(dir)?.iter().filter(|path| begins(path)) {
        removed = removed.and(fsx::remove_file(log));
    }
    removed
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use claudine_domain::{
        attempt::Attempt,
        batch::Batch,
        event::{Event, Fact},
        outcome::Outcome,
        principal::Principal,
        task::{Class, Idempotency, State, Task},
    };

    use super::*;
    use crate::{
        config::EnvRules,
        engine::tests::{Fixture, begin},
        environment::Environment,
        store::memory::MemoryStore,
    };

    const KEEP: Duration = Duration::from_hours(1);
    const OLD: Timestamp = Timestamp(1_000);

    /// A data directory, and a store with tasks that finished long ago.
    struct World {
        dir: tempfile::TempDir,
        store: Arc<MemoryStore>,
        batch: u64,
    }

    impl World {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            Layout::new(dir.path()).create().unwrap();
            Self {
                dir,
                store: Arc::new(MemoryStore::new()),
                batch: 0,
            }
        }

        fn layout(&self) -> Layout {
            Layout::new(self.dir.path())
        }

        fn environments(&self) -> Arc<Environments> {
            Arc::new(Environments::new(self.layout(), EnvRules::default()))
        }

        /// The retention of a new host, which has not stored an environment for any request.
        fn retention(&self) -> (Arc<Retention>, Fixture) {
            self.retention_with(self.environments())
        }

        fn retention_with(&self, environments: Arc<Environments>) -> (Arc<Retention>, Fixture) {
            let fixture = begin(self.store.clone(), 0);
            let retention = Retention {
                engine: fixture.engine.clone(),
                store: self.store.clone(),
                layout: self.layout(),
                environments,
                kept: Kept::begin(&self.layout(), KEEP, false, OLD),
            };
            (Arc::new(retention), fixture)
        }

        fn commit(&mut self, batch: Batch) {
            self.batch += 1;
            let epoch = self.store.lead().unwrap();
            let batch = Batch {
                number: self.batch,
                ..batch
            };
            self.store.commit(epoch, &batch).unwrap();
        }

        async fn environment(&self, value: &str) -> String {
            let base = BTreeMap::from([("A".to_owned(), value.to_owned())]);
            let set = BTreeMap::new();
            let kept = self.environments().keep(Environment { base, set }).await;
            kept.unwrap().digest.to_string()
        }

        /// Stores a task with a log. Returns the path of the log.
        fn put(&mut self, id: TaskId, edit: impl FnOnce(&mut Task)) -> std::path::PathBuf {
            let mut task = crate::store::sample_task(1);
            task.id = id;
            task.created_at = OLD;
            task.attempts = vec![Attempt::new(1, OLD)];
            task.state = State::Done {
                at: OLD,
                outcome: Outcome::Succeeded,
                reason: None,
                culprit: None,
            };
            edit(&mut task);
            self.commit(Batch {
                tasks: vec![Arc::new(task)],
                ..Batch::default()
            });
            let path = self.layout().log(AttemptId {
                task: id,
                number: 1,
            });
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, "output").unwrap();
            path
        }
    }

    fn ready(task: &mut Task) {
        task.attempts.clear();
        task.state = State::Ready {
            since: OLD,
            clock: None,
        };
    }

    #[tokio::test]
    async fn old_tasks_are_removed_with_their_logs_and_environments() {
        let mut world = World::new();
        let (old, new) = (TaskId::new(1, 1), TaskId::new(2, 2));
        let [old_env, new_env] = [
            world.environment("old").await,
            world.environment("new").await,
        ];
        let named = |env: &str| -> Arc<str> { env.into() };
        let old_log = world.put(old, |task| {
            Arc::make_mut(&mut task.request).env_digest = named(&old_env);
        });
        let new_log = world.put(new, |task| {
            Arc::make_mut(&mut task.request).env_digest = named(&new_env);
            ready(task);
        });
        let (retention, _fixture) = world.retention();
        let due = Timestamp(OLD.0 + millis(KEEP));
        assert_eq!(
            retention.forget(due).await.unwrap(),
            0,
            "nothing is removed before its time"
        );
        let after = Timestamp(due.0 + 1);
        assert_eq!(retention.forget(after).await.unwrap(), 1);
        let store = &world.store;
        assert!(store.task(old).unwrap().is_none() && store.task(new).unwrap().is_some());
        assert!(!old_log.exists() && new_log.exists());
        let layout = world.layout();
        assert!(!layout.environment(&old_env).exists() && layout.environment(&new_env).exists());
        assert!(!layout.forgetting().exists());
    }

    #[tokio::test]
    async fn a_running_host_removes_a_finished_task_soon_after_its_retention_time() {
        let mut world = World::new();
        let id = TaskId::new(1, 1);
        let finished = clock::wall();
        world.put(id, |task| {
            task.state = State::Done {
                at: finished,
                outcome: Outcome::Succeeded,
                reason: None,
                culprit: None,
            };
        });
        let (retention, _fixture) = world.retention();
        while world.store.task(id).unwrap().is_some() {
            let pause = retention.round().await.unwrap();
            clock::jump_wall(i64::try_from(millis(pause)).unwrap());
            let kept = clock::wall().0 - finished.0;
            assert!(kept < millis(KEEP + KEEP / 2), "kept for {kept} ms");
        }
        assert!(clock::wall().0 - finished.0 > millis(KEEP));
    }

    #[test]
    fn the_time_between_two_rounds_follows_the_retention_time() {
        let minutes = Duration::from_mins;
        assert_eq!(pause(Duration::from_secs(1)), minutes(1));
        assert_eq!(pause(minutes(30)), minutes(3));
        assert_eq!(pause(minutes(7 * 24 * 60)), minutes(60));
        assert_eq!(pause(Duration::MAX), minutes(60));
    }

    /// Otherwise a client could continue a session that a person has used in a removed task, or run
    /// a person's task again in a session that it has used itself in a removed task.
    #[tokio::test]
    async fn the_end_of_a_removed_task_of_an_agent_is_kept() {
        let mut world = World::new();
        let forgotten = |world: &World| {
            let queue = world.store.queue().unwrap();
            [queue.sessions_forgotten_to, queue.all_sessions_forgotten_to]
        };
        let after = Timestamp(OLD.0 + millis(KEEP) + 1);
        let old = Some(OLD);
        for (class, restrained, expected) in [
            (Class::Command, false, [None, None]),
            (Class::Agent, true, [None, old]),
            (Class::Agent, false, [old, old]),
        ] {
            world.put(TaskId::new(1, 1), |task| {
                let request = Arc::make_mut(&mut task.request);
                request.class = class;
                request.by = Arc::new(Principal {
                    restrained,
                    ..Principal::default()
                });
            });
            let (retention, _fixture) = world.retention();
            assert_eq!(retention.forget(after).await.unwrap(), 1);
            assert_eq!(forgotten(&world), expected, "{class:?} {restrained}");
            world.batch = world.store.last_batch().unwrap();
        }
    }

    #[tokio::test]
    async fn an_environment_that_no_task_names_is_removed_once_its_request_has_ended() {
        let mut world = World::new();
        let environments = world.environments();
        let keep = |value: &str| {
            environments.keep(Environment {
                base: BTreeMap::from([("A".to_owned(), value.to_owned())]),
                set: BTreeMap::new(),
            })
        };
        let [stored, refused] = [
            keep("stored").await.unwrap(),
            keep("refused").await.unwrap(),
        ];
        world.put(TaskId::new(1, 1), |task| {
            Arc::make_mut(&mut task.request).env_digest = stored.digest.clone();
            ready(task);
        });
        let (retention, _fixture) = world.retention_with(environments.clone());
        let paths = [&stored, &refused].map(|kept| world.layout().environment(&kept.digest));
        let are_there = || paths.clone().map(|path| path.exists());
        retention.forget(OLD).await.unwrap();
        assert_eq!(
            are_there(),
            [true, true],
            "tasks with these environments may still be submitted"
        );
        drop((stored, refused));
        retention.forget(OLD).await.unwrap();
        assert_eq!(are_there(), [true, false]);
    }

    /// The retention time counts from the restore, however old the task is.
    #[tokio::test]
    async fn restored_tasks_are_kept_for_the_retention_time_after_the_restore() {
        let mut world = World::new();
        world.put(TaskId::new(1, 1), |_| {});
        let after = Timestamp(OLD.0 + millis(KEEP) + 1);
        for (restored_at, gone) in [(OLD.0 + 1, 0), (OLD.0, 1)] {
            let restored = Restored {
                taken_at: OLD,
                at: Timestamp(restored_at),
                environment: None,
            };
            restored.write(&world.layout()).unwrap();
            let (retention, _fixture) = world.retention();
            assert_eq!(retention.forget(after).await.unwrap(), gone);
            fs::remove_file(world.layout().restored_file()).unwrap();
        }
    }

    #[tokio::test]
    async fn nothing_is_removed_while_the_record_of_a_restore_cannot_be_read() {
        let mut world = World::new();
        world.put(TaskId::new(1, 1), |_| {});
        let record = world.layout().restored_file();
        fs::write(&record, "{").unwrap();
        let (retention, _fixture) = world.retention();
        let after = Timestamp(OLD.0 + millis(KEEP) + 1);
        let error = retention.forget(after).await.unwrap_err();
        assert!(matches!(error, ForgetError::Restored(_)), "{error}");
        let environments = world.environments();
        assert!(environments.prune(environments.let_go(), &[]).is_err());
        fs::remove_file(&record).unwrap();
        assert_eq!(retention.forget(after).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn a_task_is_kept_for_as_long_as_its_idempotency_key() {
        let mut world = World::new();
        let id = TaskId::new(1, 1);
        world.put(id, |task| {
            Arc::make_mut(&mut task.request).idempotency = Some(Box::new(Idempotency {
                key: "k".to_owned(),
                payload_digest: String::new(),
            }));
        });
        let (retention, _fixture) = world.retention();
        let day = Timestamp(OLD.0 + millis(IDEMPOTENCY_WINDOW));
        assert_eq!(retention.forget(day).await.unwrap(), 0);
        let after = Timestamp(day.0 + 1);
        assert_eq!(retention.forget(after).await.unwrap(), 1);
    }

    /// There are more events than one transaction removes, and no tasks.
    #[tokio::test]
    async fn all_old_events_are_removed() {
        let mut world = World::new();
        let event = |at| Event {
            task: TaskId::new(1, 1),
            at,
            by: None,
            fact: Fact::Held,
        };
        let mut events = vec![event(OLD); 2 * EVENTS_AT_ONCE + 5];
        let later = Timestamp(OLD.0 + millis(KEEP));
        events.push(event(later));
        world.commit(Batch {
            events,
            ..Batch::default()
        });
        let (retention, _fixture) = world.retention();
        retention.forget(Timestamp(later.0 + 1)).await.unwrap();
        let left = world.store.events_after(0, usize::MAX).unwrap();
        let last = 2 * EVENTS_AT_ONCE as u64 + 6;
        assert_eq!(left, [(last, event(later))]);
    }

    /// The earlier host crashed between the batch and the removal of the logs.
    #[tokio::test]
    async fn logs_of_tasks_removed_by_an_earlier_host_are_removed() {
        let mut world = World::new();
        let (gone, stays) = (TaskId::new(1, 1), TaskId::new(2, 2));
        let gone_log = world.put(gone, |_| {});
        let stays_log = world.put(stays, ready);
        let (retention, fixture) = world.retention();
        let old = Old {
            finished_before: Timestamp(u64::MAX),
            keyed_before: Timestamp(u64::MAX),
        };
        retention.note_old(old, None).unwrap();
        let layout = world.layout();
        let mut lines = fs::read_to_string(layout.forgetting()).unwrap();
        lines = format!("{lines}\n{stays}.1\n{}", &stays.to_string()[..20]);
        fs::write(layout.forgetting(), lines).unwrap();
        let prune = Prune {
            tasks: vec![gone],
            ..Prune::default()
        };
        retention
            .prune(Prune {
                as_of: u64::MAX,
                ..prune
            })
            .await
            .unwrap();
        drop((retention, fixture));
        let (retention, _fixture) = world.retention();
        retention.forget(OLD).await.unwrap();
        assert!(!gone_log.exists() && stays_log.exists());
        assert!(!layout.forgetting().exists());
    }
}

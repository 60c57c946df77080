//! What finished long ago is forgotten: tasks, their documents and events, their logs, and environments that no task names any more.
//!
//! An unfinished task stays, and so does whoever is the parent of one: the store sees to that.

use std::{path::Path, sync::Arc, time::Duration};

use claudine_domain::{
    id::AttemptId,
    time::{Timestamp, millis},
};

use crate::{
    clock,
    environment::Environments,
    layout::Layout,
    store::{Epoch, Pruned, Store, StoreError},
};

const EVERY: Duration = Duration::from_hours(1);
/// Tasks that go in one transaction: commits wait for it.
const AT_ONCE: usize = 500;

/// What is needed to forget.
pub(crate) struct Retention {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) epoch: Epoch,
    pub(crate) layout: Layout,
    pub(crate) environments: Arc<Environments>,
    /// How long a finished task is kept.
    pub(crate) keep: Duration,
    /// When the queue was restored from a backup: from then on it is all kept for so long, however old it is.
    pub(crate) restored_at: Option<Timestamp>,
}

impl Retention {
    /// Forgets once an hour, for as long as it is polled.
    pub(crate) async fn run(self) {
        let this = Arc::new(self);
        loop {
            let pruning = this.clone();
            match tokio::task::spawn_blocking(move || pruning.prune(clock::wall())).await {
                Ok(Ok(0)) => {}
                Ok(Ok(count)) => {
                    tracing::info!(count, "tasks that finished long ago were forgotten");
                }
                Ok(Err(error)) => {
                    tracing::warn!(%error, "what finished long ago cannot be forgotten");
                }
                Err(error) => tracing::error!(%error, "forgetting failed"),
            }
            clock::sleep(EVERY).await;
        }
    }

    /// Forgets everything that may be forgotten now; how many tasks that were.
    fn prune(&self, now: Timestamp) -> Result<usize, StoreError> {
        let older_than = Timestamp(now.0.saturating_sub(millis(self.keep)));
        if self.restored_at.is_some_and(|at| at >= older_than) {
            return Ok(0);
        }
        let mut count = 0;
        loop {
            let pruned = self.store.prune(self.epoch, older_than, AT_ONCE)?;
            count += pruned.len();
            for gone in &pruned {
                self.remove_logs(gone);
            }
            if pruned.len() < AT_ONCE {
                break;
            }
        }
        if count > 0 {
            self.environments.prune(&self.store.env_digests_in_use()?);
        }
        Ok(count)
    }

    /// A log has the attempt's path and, where it was long, further segments beside it.
    fn remove_logs(&self, pruned: &Pruned) {
        for number in &pruned.attempts {
            let path = self.layout.log(AttemptId {
                task: pruned.task,
                number: *number,
            });
            let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
                continue;
            };
            remove_beginning_with(dir, &name.to_string_lossy());
        }
    }
}

fn remove_beginning_with(dir: &Path, name: &str) {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return;
    };
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().starts_with(name)
            && let Err(error) = std::fs::remove_file(entry.path())
        {
            tracing::warn!(path = %entry.path().display(), %error, "an old log stays behind");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::{collections::BTreeMap, fs};

    use claudine_domain::{
        attempt::Attempt, batch::Batch, id::TaskId, outcome::Outcome, task::State,
    };

    use super::*;
    use crate::{config::EnvRules, environment::Environment, store::memory::MemoryStore};

    const KEEP: Duration = Duration::from_hours(24);
    const OLD: Timestamp = Timestamp(1_000);

    async fn keep(retention: &Retention, value: &str) -> String {
        let base = BTreeMap::from([("A".to_owned(), value.to_owned())]);
        retention
            .environments
            .keep(Environment {
                base,
                set: BTreeMap::new(),
            })
            .await
            .unwrap()
            .digest
    }

    fn log(retention: &Retention, id: TaskId) -> std::path::PathBuf {
        let path = retention.layout.log(AttemptId {
            task: id,
            number: 1,
        });
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "output").unwrap();
        path
    }

    #[tokio::test]
    async fn what_finished_long_ago_goes_with_its_log_and_its_environment() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        layout.create().unwrap();
        let store = Arc::new(MemoryStore::new());
        let epoch = store.lead().unwrap();
        let environments = || Arc::new(Environments::new(layout.clone(), EnvRules::default()));
        let mut retention = Retention {
            store: store.clone(),
            epoch,
            layout: layout.clone(),
            environments: environments(),
            keep: KEEP,
            restored_at: None,
        };
        let (old, new) = (TaskId::new(1, 1), TaskId::new(2, 2));
        let (old_env, new_env) = (keep(&retention, "old").await, keep(&retention, "new").await);
        let task = |id: TaskId, env: &str, state: State| {
            let mut task = crate::store::sample_task(1);
            task.id = id;
            Arc::make_mut(&mut task.request).env_digest = env.into();
            task.created_at = OLD;
            task.attempts = vec![Attempt::new(1, OLD)];
            task.state = state;
            Arc::new(task)
        };
        let done = State::Done {
            at: OLD,
            outcome: Outcome::Succeeded,
            reason: None,
            culprit: None,
        };
        let tasks = vec![
            task(old, &old_env, done),
            task(
                new,
                &new_env,
                State::Ready {
                    since: OLD,
                    clock: None,
                },
            ),
        ];
        store
            .commit(
                epoch,
                &Batch {
                    number: 1,
                    tasks,
                    ..Batch::default()
                },
            )
            .unwrap();
        let (old_log, new_log) = (log(&retention, old), log(&retention, new));
        // A host that was started since has not handed the old environment out.
        retention.environments = environments();
        assert_eq!(
            retention.prune(Timestamp(OLD.0 + millis(KEEP))).unwrap(),
            0,
            "not a moment before its time"
        );
        retention.restored_at = Some(Timestamp(OLD.0 + 1));
        assert_eq!(
            retention
                .prune(Timestamp(OLD.0 + millis(KEEP) + 1))
                .unwrap(),
            0,
            "what was restored is kept for as long as if it had ended then"
        );
        retention.restored_at = Some(OLD);
        assert_eq!(
            retention
                .prune(Timestamp(OLD.0 + millis(KEEP) + 1))
                .unwrap(),
            1
        );
        assert!(store.task(old).unwrap().is_none() && store.task(new).unwrap().is_some());
        assert!(!old_log.exists() && new_log.exists());
        assert!(!layout.environment(&old_env).exists() && layout.environment(&new_env).exists());
    }
}

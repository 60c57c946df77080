//! Executors whose code cannot be had at the moment: the disk is full, a file of the cache cannot
//! be read, or the compiler was killed. Nothing is wrong with their tasks, so no task ends.
//!
//! An attempt whose processes run is left alone: its supervisor keeps its output and its end, and
//! the executor takes over once its code can be had. Once they have ended, no limit changes the
//! outcome, and a stop makes only a failure a cancellation. An attempt that has started nothing
//! ends as one that never began. The engine starts no task of the executor, and the host tries
//! again, after longer pauses each time. A request that needs the executor tries at once.
//!
//! Manifests, grants and digests are read only when a host starts. If one of them could not be read
//! then, only the next host can use the executor, and everything else is the same.

use std::{future::pending, sync::Arc, time::Duration};

use futures_util::future::{join_all, select_all};
use tokio_util::task::TaskTracker;

use super::{live::Live, reporter::Reporter, requests::Requests};
use crate::{
    clock,
    command::supervised_by,
    plugin::{Catalog, Executor, Failure, GuestEnd, Lack, PluginError},
};

/// The pause before the first further try to load code that cannot be had.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// How long an attempt that was stopped, and has ended, waits for its executor's code if nobody
/// knows whether the code can be had: the compiler may be stopped by a signal.
const LOADED_WITHIN: Duration = Duration::from_secs(5);

/// Loads the code of executors for attempts.
pub(super) struct Loader {
    pub(super) requests: Arc<Requests>,
    pub(super) reporter: Reporter,
    pub(super) tasks: TaskTracker,
}

impl Loader {
    /// The executor of an attempt, with its code loaded. `is_new` says that the attempt can have
    /// done nothing yet, if it has no children. An attempt that has ended because it was stopped
    /// does not wait long for the code.
    pub(super) async fn executor(
        &self,
        plugins: &Catalog,
        name: &str,
        live: &Live,
        is_new: bool,
    ) -> Result<Arc<Executor>, GuestEnd> {
        match plugins.executor(name) {
            Ok(executor) => {
                self.load(executor, live, is_new).await?;
                Ok(executor.clone())
            }
            Err(error) => {
                if error.lets_tasks_wait() {
                    self.wait_without(name, &error, live, is_new).await;
                }
                Err(GuestEnd::Unavailable(error))
            }
        }
    }

    /// Leaves the attempt alone, if it may have done something, until it was stopped and has ended:
    /// this host can never use its executor, but the next one may.
    async fn wait_without(&self, name: &str, error: &PluginError, live: &Live, is_new: bool) {
        if is_new && live.look(|state| state.children.is_empty()) {
            live.begun().await;
            // Before the engine learns of the end: see `tell`.
            return self.reporter.code(name, Some(&error.to_string())).await;
        }
        tokio::select! {
            biased;
            () = live.until(|state| state.has_ended_by_stop().then_some(())) => {}
            never = self.reporter.tell_of_processes(live) => match never {},
        }
    }

    async fn load(
        &self,
        executor: &Arc<Executor>,
        live: &Live,
        is_new: bool,
    ) -> Result<(), GuestEnd> {
        if executor.has_code() {
            return executor
                .loaded()
                .await
                .map(drop)
                .map_err(GuestEnd::Unavailable);
        }
        tokio::select! {
            biased;
            loaded = self.load_in_the_end(executor, live, is_new) => loaded,
            () = long_since_stopped(live) => {
                let message = "the attempt was stopped, and its executor has no code that could \
                    tell how it ended";
                Err(GuestEnd::Failed(Failure::new("cancelled", message)))
            }
            never = self.reporter.tell_of_processes(live) => match never {},
        }
    }

    async fn load_in_the_end(
        &self,
        executor: &Arc<Executor>,
        live: &Live,
        is_new: bool,
    ) -> Result<(), GuestEnd> {
        loop {
            let Err(error) = self.loaded(executor).await else {
                return Ok(());
            };
            if !error.is_lack_of_code() {
                return Err(GuestEnd::Unavailable(error));
            }
            if !is_new || live.look(|state| !state.children.is_empty()) {
                tokio::select! {
                    biased;
                    () = live.until(|state| state.has_ended_by_stop().then_some(())) => {
                        return Err(GuestEnd::Unavailable(error));
                    }
                    () = executor.until_it_has_code() => {}
                }
            } else if live.has_begun() {
                tell(executor, &self.reporter).await;
                return Err(GuestEnd::Unavailable(error));
            } else {
                tokio::select! {
                    biased;
                    _ = live.begun() => {}
                    () = executor.until_it_has_code() => {}
                }
            }
        }
    }

    /// Loads the code of the executor with this name, if it can be used at all, and tells the
    /// engine whether there is code.
    pub(super) async fn look_for_code(&self, plugins: &Catalog, name: &str) {
        let executor = match plugins.executor(name) {
            Ok(executor) => executor,
            Err(error) => {
                // If no task waits for it, the attempts of its tasks tell why it cannot be used.
                let lacks = error.lets_tasks_wait().then(|| error.to_string());
                return self.reporter.code(name, lacks.as_deref()).await;
            }
        };
        if let Err(error) = self.loaded(executor).await {
            tracing::warn!("the plugin {name} cannot be used: {error}");
        }
        tell(executor, &self.reporter).await;
    }

    /// Loads the executor's code for everybody who needs it, whatever happens to the attempt that
    /// asks first: if the compiler belonged to this attempt, a stop of the attempt would end it.
    async fn loaded(&self, executor: &Arc<Executor>) -> Result<(), PluginError> {
        let (of, requests) = (executor.clone(), self.requests.clone());
        let loading = async move { of.loaded().await.map(drop) };
        let loading = self.tasks.spawn(supervised_by(requests, loading));
        loading.await.unwrap_or_else(|error| {
            let message = format!("the host failed while it loaded the plugin: {error}");
            Err(PluginError::Load { message })
        })
    }
}

/// Waits until the attempt has ended because it was stopped, and then for as long as the code of an
/// executor usually needs to be loaded.
async fn long_since_stopped(live: &Live) {
    live.until(|state| state.has_ended_by_stop().then_some(()))
        .await;
    clock::sleep_awake(LOADED_WITHIN).await;
}

/// Tells the engine whether the executor's code can be had, before it learns of an attempt that
/// lacked it: otherwise it would start the attempt's task again at once.
async fn tell(executor: &Executor, reporter: &Reporter) {
    let name = &executor.manifest().name;
    if let Some(error) = executor.lacks_code() {
        reporter.code(name, Some(&error.to_string())).await;
    }
    // The code may have been had meanwhile, and this may have been told already.
    if executor.lacks_code().is_none() {
        reporter.code(name, None).await;
    }
}

/// Tells the engine of each change, and loads the executor's code again as long as it cannot be
/// had.
async fn keep_loading(executor: &Executor, reporter: &Reporter) {
    let name = &executor.manifest().name;
    // The same receiver throughout, so that no change is missed, however short it is.
    let mut lacks = executor.lack();
    let (mut pause, mut warned_of) = (FIRST_PAUSE, None);
    // Before it is tried, nobody knows whether the code can be had.
    let mut was_tried = executor.has_code();
    loop {
        let lack = lacks.borrow_and_update().clone();
        let error = lack.as_ref().map(Lack::text);
        if was_tried || error.is_some() {
            reporter.code(name, error.as_deref()).await;
        }
        if let Some(lack) = &lack {
            executor.note_told(lack);
        }
        was_tried = true;
        let changed = if let Some(error) = &error {
            if warned_of.as_ref() != Some(error) {
                tracing::warn!("the plugin {name} cannot be used, and is loaded again: {error}");
            }
            clock::within(pause, lacks.changed()).await
        } else {
            pause = FIRST_PAUSE;
            Some(lacks.changed().await)
        };
        warned_of = error;
        match changed {
            Some(Ok(())) => {}
            Some(Err(_)) => unreachable!("the sender is a field of the executor"),
            None => {
                if let Err(error) = executor.loaded().await {
                    tracing::debug!("the plugin {name} cannot be used: {error}");
                }
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

/// Tells the engine which plugins this host can never use, while their tasks wait for the next one.
pub(super) async fn tell_of_unread(plugins: &Catalog, reporter: &Reporter) {
    for (name, error) in plugins.unread() {
        tracing::warn!("the plugin {name} cannot be used, and its tasks wait: {error}");
        reporter.code(name, Some(&error.to_string())).await;
    }
}

/// Waits until the engine knows of an executor that its code cannot be had.
pub(super) async fn until_any_lacks(plugins: &Catalog) {
    if plugins.unread().next().is_some() {
        return;
    }
    let each = plugins.executors();
    let each: Vec<_> = each
        .map(|executor| Box::pin(executor.until_lack_is_told()))
        .collect();
    if each.is_empty() {
        return pending().await;
    }
    select_all(each).await;
}

/// Loads the code of each executor again whenever it could not be had. Does not end.
pub(super) async fn keep_all_loaded(plugins: &Catalog, reporter: &Reporter) {
    let each = plugins.executors();
    join_all(each.map(|executor| keep_loading(executor, reporter))).await;
}

//! Executors whose code cannot be had at the moment: the disk is full, a file of the cache cannot
//! be read, or the compiler was killed. Nothing is wrong with their tasks, so no task ends.
//!
//! An attempt whose processes run is left alone: its supervisor keeps its output and its end, and
//! the executor takes over once its code can be had. An attempt that has started nothing ends as
//! one that never began. The engine starts no task of the executor, and the host tries again, after
//! longer pauses each time. A request that needs the executor tries at once.

use std::{future::pending, sync::Arc, time::Duration};

use futures_util::future::{join_all, select_all};

use super::{commands::OfAttempt, live::Live, reporter::Reporter};
use crate::{
    clock,
    command::supervised_by,
    plugin::{Catalog, Executor, GuestEnd, Lack},
};

/// The pause before the first further try to load code that cannot be had.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// Loads the executor's code for an attempt, with commands run by `elsewhere`. `is_new` says that
/// the attempt can have done nothing yet, if it has no children.
pub(super) async fn load(
    executor: &Executor,
    live: &Live,
    is_new: bool,
    elsewhere: &Arc<OfAttempt>,
    reporter: &Reporter,
) -> Result<(), GuestEnd> {
    loop {
        let loading = supervised_by(elsewhere.clone(), executor.loaded());
        let Err(error) = loading.await else {
            return Ok(());
        };
        if !error.is_lack_of_code() {
            return Err(GuestEnd::Unavailable(error));
        }
        if !is_new || live.look(|state| !state.children.is_empty()) {
            tokio::select! {
                biased;
                () = live.until(|state| state.is_stopped_and_over().then_some(())) => {
                    return Err(GuestEnd::Unavailable(error));
                }
                () = executor.until_it_has_code() => {}
            }
        } else if live.has_begun() {
            tell(executor, reporter).await;
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
    loop {
        let error = lacks.borrow_and_update().as_ref().map(Lack::text);
        reporter.code(name, error.as_deref()).await;
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

/// Waits until it is known of an executor that its code cannot be had.
pub(super) async fn until_any_lacks(plugins: &Catalog) {
    let each = plugins.executors();
    let each: Vec<_> = each
        .map(|executor| Box::pin(executor.until_it_lacks_code()))
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

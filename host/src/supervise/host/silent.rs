//! The supervisors that do not answer, and the dead ones whose processes could not be ended yet.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex, MutexGuard},
};

use super::join;
use crate::{lock::lock, supervise::SuperviseError, text::chain};

/// The words in the reason for a supervisor to which there is no connection.
pub(crate) const NOT_REACHED: &str = "cannot be reached";

/// The words in the reason for a supervisor that is connected and sends nothing.
pub(crate) const NOT_ANSWERING: &str = "does not answer: it is suspended or its control group is \
                                        frozen, or it waits for a file system";

/// The words in the reason for a dead supervisor whose processes could not be ended.
pub(crate) const NOT_ENDED: &str = "the processes that a dead supervisor left cannot be ended yet";

/// The name of a supervisor for people, with its pid if it is known to be alive.
fn name(dir: &Path) -> String {
    let identity = join::identity(dir).ok().flatten();
    let pid = identity.map_or_else(String::new, |it| format!(" (pid {})", it.pid));
    format!("the supervisor in {}{pid}", dir.display())
}

/// The reason for a supervisor to which there is no connection.
pub(super) fn not_reached(dir: &Path, why: &str) -> String {
    format!("{} {NOT_REACHED}: {why}", name(dir))
}

/// The reason for a supervisor that is connected and sends nothing.
pub(super) fn not_answering(dir: &Path) -> String {
    format!("{} {NOT_ANSWERING}", name(dir))
}

/// The reason for a dead supervisor whose processes could not be ended because of this error.
pub(super) fn not_ended(error: &SuperviseError) -> String {
    let error = chain(error);
    format!("{NOT_ENDED}: {error}")
}

/// The silent supervisors by number, each with the reason that is shown to people. Only the router
/// adds to this map.
#[derive(Debug, Clone, Default)]
pub(super) struct Silent(Arc<Mutex<BTreeMap<u32, String>>>);

impl Silent {
    /// Returns the reason that was noted before.
    pub(super) fn note(&self, number: u32, said: String) -> Option<String> {
        self.lock().insert(number, said)
    }

    pub(super) fn why(&self, number: u32) -> Option<String> {
        self.lock().get(&number).cloned()
    }

    pub(super) fn forget(&self, number: u32) {
        self.lock().remove(&number);
    }

    pub(super) fn all(&self) -> Vec<String> {
        self.lock().values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u32, String>> {
        lock(&self.0)
    }
}

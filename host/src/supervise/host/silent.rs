//! The supervisors that do not answer, and the dead ones whose processes could not be ended yet.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex, MutexGuard},
};

use super::join;
use crate::{lock::lock, supervise::SuperviseError, text::chain};

const NOT_REACHED: &str = "cannot be reached";
const NOT_ANSWERING: &str = "does not answer: it is suspended or its control group is frozen, or \
                             it waits for a file system";
const NOT_ENDED: &str = "the processes that a dead supervisor left cannot be ended yet";

/// The ways in which a supervisor is silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SilenceKind {
    /// There is no connection to it.
    Unreached,
    /// It is connected and sends nothing.
    Unanswered,
    /// It is dead, and its processes could not be ended.
    Unended,
}

/// Why a supervisor is silent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Silence {
    pub(crate) kind: SilenceKind,
    /// The pid of the supervisor, if the supervisor is known to be alive.
    pub(crate) pid: Option<u32>,
    /// The reason that is shown to people.
    pub(crate) said: String,
}

impl Silence {
    /// There is no connection to the supervisor, for this reason.
    pub(super) fn not_reached(dir: &Path, why: &str) -> Self {
        Self::of_living(
            SilenceKind::Unreached,
            dir,
            &format!("{NOT_REACHED}: {why}"),
        )
    }

    /// The supervisor is connected and sends nothing.
    pub(super) fn not_answering(dir: &Path) -> Self {
        Self::of_living(SilenceKind::Unanswered, dir, NOT_ANSWERING)
    }

    /// The processes of a dead supervisor could not be ended because of this error.
    pub(super) fn not_ended(error: &SuperviseError) -> Self {
        let error = chain(error);
        Self {
            kind: SilenceKind::Unended,
            pid: None,
            said: format!("{NOT_ENDED}: {error}"),
        }
    }

    fn of_living(kind: SilenceKind, dir: &Path, does: &str) -> Self {
        let identity = join::identity(dir).ok().flatten();
        let pid = identity.map(|it| it.pid);
        let shown = pid.map_or_else(String::new, |pid| format!(" (pid {pid})"));
        Self {
            kind,
            pid,
            said: format!("the supervisor in {}{shown} {does}", dir.display()),
        }
    }
}

/// The silent supervisors by number, each with the reason. Only the router adds to this map.
#[derive(Debug, Clone, Default)]
pub(super) struct Silent(Arc<Mutex<BTreeMap<u32, Silence>>>);

impl Silent {
    /// Returns the text of the reason that was noted before.
    pub(super) fn note(&self, number: u32, silence: Silence) -> Option<String> {
        let before = self.lock().insert(number, silence);
        before.map(|before| before.said)
    }

    /// The text of the reason.
    pub(super) fn why(&self, number: u32) -> Option<String> {
        self.lock().get(&number).map(|silence| silence.said.clone())
    }

    pub(super) fn forget(&self, number: u32) {
        self.lock().remove(&number);
    }

    pub(super) fn all(&self) -> Vec<Silence> {
        self.lock().values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u32, Silence>> {
        lock(&self.0)
    }
}

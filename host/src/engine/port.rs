//! The interfaces that the engine uses: the runner of attempts, which gets orders and sends its
//! answers only as reports to the inbox, and the reader of the machine.

use std::{collections::BTreeSet, sync::Arc};

use claudine_domain::{
    attempt::StopWhy,
    capacity::Reading,
    id::{AttemptId, TaskId},
    step::Found,
    task::Task,
};

/// An attempt to start or resume, in its state on the board.
#[derive(Clone, Debug)]
pub(crate) struct Launch {
    pub(crate) attempt: AttemptId,
    pub(crate) task: Arc<Task>,
    /// The request to the executor, if it is in memory; if not, it must be read from the store.
    pub(crate) spec: Option<Arc<[u8]>>,
}

/// The runner of attempts. No method blocks or fails: errors are reported as the attempt's end.
pub(crate) trait Attempts: Send + Sync + 'static {
    /// The attempt is among the next to start, and may be prepared. This is a hint, and may be
    /// repeated.
    fn prepare(&self, launch: Launch);
    /// The attempt is no longer among the next to start.
    fn dismiss(&self, attempt: AttemptId);
    fn start(&self, launch: Launch);
    /// Takes over an attempt of an earlier host. An attempt of this host repeats its reports that
    /// are not acknowledged, and its questions that are not answered.
    fn resume(&self, launch: Launch);
    /// A prepared attempt may start its first process. May be repeated.
    fn spawn(&self, attempt: AttemptId);
    /// The reported end of the attempt is durable, so its work may be settled. May be repeated.
    fn settle(&self, attempt: AttemptId);
    fn stop(&self, attempt: AttemptId, why: StopWhy);
    /// The report of this number is durable, with everything that follows from it. The report need
    /// not be repeated.
    fn acknowledge(&self, attempt: AttemptId, number: u64);
    /// The attempt's end is durable, so the attempt may be forgotten.
    fn release(&self, attempt: AttemptId);
    /// The checkpoint of this number is durable, and earlier ones are no longer needed.
    fn checkpoint_stored(&self, attempt: AttemptId, number: u64);
    /// Tells the engine whether the code of this executor can be had, by loading it.
    fn load(&self, executor: &str);
    /// `attempts` are all attempts that are reserved or have begun, and have not ended. Attempts of
    /// the tasks `unreadable`, whose rows cannot be read, are missing from `attempts`. Any other
    /// attempt that a supervisor keeps is ended, if it still runs, and may be forgotten.
    fn begun(&self, attempts: &BTreeSet<AttemptId>, unreadable: &BTreeSet<TaskId>);
    /// What happened to a task's last attempt, which is reserved or has begun, and has not ended.
    /// `None` as long as this is unknown because a supervisor of an earlier host has not answered;
    /// [`super::ReportSender::reached`] reports its answer.
    fn found(&self, attempt: AttemptId, task: &Task) -> Option<Found>;
}

/// Reads the state of the machine and the limits of this process. A reading must be short, because
/// it happens between two inputs.
pub(crate) trait Machine: Send + 'static {
    fn read(&mut self) -> Reading;
}

//! What the engine needs of others: of whoever runs attempts, whom it only ever tells (answers come
//! back as reports in its inbox), and of whoever reads the machine.

use std::{collections::BTreeSet, sync::Arc};

use claudine_domain::{
    attempt::StopWhy,
    capacity::Reading,
    id::{AttemptId, TaskId},
    step::Found,
    task::Task,
};

/// An attempt to be started or taken up again, as the board has it.
#[derive(Clone, Debug)]
pub(crate) struct Launch {
    pub(crate) attempt: AttemptId,
    pub(crate) task: Arc<Task>,
    /// What is asked of the executor, where it is at hand; else it is in the store.
    pub(crate) spec: Option<Arc<[u8]>>,
}

/// None of these blocks, and none fails: what goes wrong is reported as the attempt's end.
pub(crate) trait Attempts: Send + Sync + 'static {
    /// The attempt is among the next to start: what can be done for it before that may be done. A
    /// hint, which may be repeated.
    fn prepare(&self, launch: Launch);
    /// It is not among them any more.
    fn dismiss(&self, attempt: AttemptId);
    fn start(&self, launch: Launch);
    /// Takes up an attempt of an earlier host, or tells again what is known of one of this host.
    fn resume(&self, launch: Launch);
    /// An attempt that told that it is prepared may start its first process. It may be told twice.
    fn spawn(&self, attempt: AttemptId);
    /// How the attempt has ended is durable, as it told: its work may be settled. It may be told
    /// twice.
    fn settle(&self, attempt: AttemptId);
    fn stop(&self, attempt: AttemptId, why: StopWhy);
    /// The attempt's report of this number is durable, with what follows from it: it need not be
    /// told again.
    fn acknowledge(&self, attempt: AttemptId, number: u64);
    /// The attempt's end is durable: nothing of it need be known any more.
    fn release(&self, attempt: AttemptId);
    /// The checkpoint of this number is durable, and every earlier one need not be.
    fn checkpoint_stored(&self, attempt: AttemptId, number: u64);
    /// These are all attempts that have begun and not ended, but for those of tasks whose rows
    /// cannot be read. What else a supervisor keeps is over, and may be forgotten.
    fn begun(&self, attempts: &BTreeSet<AttemptId>, unreadable: &BTreeSet<TaskId>);
    /// What became of the last attempt of a task, which has begun and not ended. Each is asked
    /// for by itself: there is no list of all. `None` while that may still turn out, since a
    /// supervisor of an earlier host has not answered: [`super::ReportSender::reached`] tells that
    /// it has.
    fn found(&self, attempt: AttemptId, task: &Task) -> Option<Found>;
}

/// Looks at the machine, or at what bounds this process on it. A look is short: it is taken between
/// two inputs.
pub(crate) trait Machine: Send + 'static {
    fn read(&mut self) -> Reading;
}

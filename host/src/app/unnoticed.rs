//! Finds tasks whose processes have ended while their supervisors do nothing, so that nobody has
//! noticed the ends.

use claudine_domain::{attempt::Phase, task::Task};

use crate::{
    layout::Layout,
    proc_stat::{self, Stat},
    store::unrecorded,
    supervise::{self, SuperviseError},
    text::chain,
};

/// Marks a running task whose process has ended if its supervisor does nothing, and so cannot
/// notice this. Costs one look at the process as long as the process is alive.
pub(crate) fn mark_unnoticed_end(task: &mut Task, layout: &Layout) {
    if !matches!(task.phase(), Some(Phase::Live | Phase::Stopping(_))) {
        return;
    }
    let Some(leader) = task.last_attempt().and_then(|attempt| attempt.leader) else {
        return;
    };
    // A task whose process cannot be looked at stays as it was recorded.
    let Ok(stat) = proc_stat::try_stat(leader.pid) else {
        return;
    };
    let stat = stat.filter(|stat| stat.start_time == leader.start_time);
    if stat.as_ref().is_some_and(|stat| !stat.is_zombie()) {
        return;
    }
    match is_left_to_an_idle_one(stat, layout) {
        Ok(true) => unrecorded::mark(task),
        Ok(false) => {}
        Err(error) => {
            let error = chain(&error);
            tracing::warn!(%error, task = %task.id, "nobody knows whether the task has ended");
        }
    }
}

/// Whether only a suspended or frozen supervisor could notice the end of a process. If nothing is
/// left of the process, any supervisor could.
fn is_left_to_an_idle_one(ended: Option<Stat>, layout: &Layout) -> Result<bool, SuperviseError> {
    let supervisors = layout.supervisors();
    let suspended = supervise::suspended(&supervisors)?;
    let frozen = supervise::frozen(&supervisors)?;
    let is_idle = |pid: u32| suspended.contains(&pid) || frozen.contains(&pid);
    if let Some(stat) = ended {
        return Ok(is_idle(stat.parent));
    }
    let all_work = suspended.is_empty() && frozen.is_empty();
    if all_work || supervise::is_out_of_sight(&supervisors)? {
        return Ok(false);
    }
    Ok(supervise::pids(&supervisors)?.into_iter().all(is_idle))
}

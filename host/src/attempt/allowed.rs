//! Checks that a task cannot do more than it was allowed to do when it was submitted.
//!
//! Each host reads the executors' configuration again when it starts. A default that the user has
//! changed after the submission must not give a task more authority than its ceiling.

use claudine_domain::task::Request;

use crate::plugin::{Draft, Executor, Failure, GuestEnd, GuestTask};

/// Refuses the attempt if a restrained principal submitted its task and the task could now do more
/// than was allowed at the submission.
pub(super) async fn still_allowed(
    request: &Request,
    executor: &Executor,
    guest: &GuestTask,
) -> Result<(), GuestEnd> {
    let allowed = request.authority.as_deref();
    let Some(allowed) = allowed.filter(|_| request.by.restrained) else {
        return Ok(());
    };
    let draft = Draft {
        spec: guest.spec.clone(),
        env: guest.env.clone(),
        workspace: guest.workspace.clone(),
        labels: guest.labels.clone(),
    };
    let now = Box::pin(executor.authority(&draft)).await;
    if allowed.covers(&now) {
        return Ok(());
    }
    let message = format!(
        "the task could do more than when it was submitted ({now} instead of {allowed}), because its \
         executor's configuration has changed; submit the task again"
    );
    Err(GuestEnd::Failed(Failure::new("permission", message)))
}

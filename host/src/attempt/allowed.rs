//! Whether a task may still do what it was allowed to do when it was submitted.
//!
//! What an executor's configuration decides is read anew by each host. A default that a person has
//! changed since does not lift a task over the ceiling that it was held to.

use claudine_domain::task::Request;

use crate::plugin::{Draft, Executor, Failure, GuestEnd, GuestTask};

/// Refuses an attempt of a restrained principal's task that could do more than was allowed.
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
    let now = executor.authority(&draft).await;
    if allowed.covers(&now) {
        return Ok(());
    }
    let message = format!(
        "it could do more than when it was submitted ({now}, and not {allowed}): what it leaves to \
         its executor has changed; submit it again"
    );
    Err(GuestEnd::Failed(Failure::new("permission", message)))
}

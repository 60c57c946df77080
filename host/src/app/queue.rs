//! Pauses the queue.

use std::sync::Arc;

use claudine_domain::{
    principal::Principal,
    step::{Answer, Input},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    error::AppError,
    host::Host,
    may::{Verb, may},
    queue_view::QueueView,
};
/// Request to pause the queue or lift the pause.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PauseQueue {
    pub(crate) paused: bool,
}

/// State of the queue after the request.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct QueuePaused {
    /// Whether the request changed anything.
    pub(crate) changed: bool,
    pub(crate) running: usize,
    pub(crate) queued: usize,
    #[serde(default, skip_serializing_if = "QueueView::is_open")]
    pub(crate) queue: QueueView,
}

impl Host {
    /// The current reasons why nothing in the queue starts.
    pub(super) async fn queue(&self) -> Result<QueueView, AppError> {
        let snapshot = self.engine.snapshot();
        if snapshot.no_host {
            let queue = self.read(|reader| Ok(reader.store.queue()?)).await?;
            return Ok(QueueView {
                no_host: true,
                ..QueueView::of(queue.paused.as_ref())
            });
        }
        Ok(QueueView {
            limits: self.limits().await?,
            plugins_without_code: self.names_without_code().collect(),
            draining: snapshot.draining,
            ..QueueView::of(snapshot.queue.paused.as_ref())
        })
    }

    /// Pauses the queue or lifts the pause. A pause survives restarts of the host.
    pub(crate) async fn pause_queue(
        &self,
        by: &Arc<Principal>,
        asked: PauseQueue,
    ) -> Result<QueuePaused, AppError> {
        may(by, Verb::Pause, None, &self.settings.mcp)?;
        let answer = self.engine.asked(by, Input::Pause(asked.paused)).await?;
        let snapshot = self.engine.snapshot();
        Ok(QueuePaused {
            changed: answer != Answer::Changed(0),
            running: snapshot.running,
            queued: snapshot.queued,
            queue: self.queue().await?,
        })
    }
}

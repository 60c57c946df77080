//! What an attempt can say to the host, and ask of it, while it runs.

use crate::bindings::claudine::plugin::{children, progress};
use crate::{Child, Failure, StopRequest, stop};
use serde::Serialize;

/// The attempt's side of the host. There is one in each instance; copies are the same.
#[derive(Clone, Copy, Debug)]
pub struct Ctx {
    /// Only the export macro makes one: outside an attempt these calls mean nothing.
    _private: (),
}

impl Ctx {
    pub(crate) fn new() -> Self {
        Self { _private: () }
    }

    /// The children of this attempt so far, in the order of their start, those that ended included.
    /// What `resume` begins with.
    pub fn children(self) -> Vec<Child> {
        children::list().into_iter().map(Child::new).collect()
    }

    /// The first sign of life: ends the start timeout, and lets the next task of the same account
    /// start where the manifest says `serial-start`.
    pub fn alive(self) {
        progress::emit("alive", "{}");
    }

    /// Tells that the service behind the task's account answered, so that no usage limit is in
    /// force: other tasks of the account, which wait for what this one finds, may go.
    pub fn account_works(self) {
        progress::emit("account_works", "{}");
    }

    /// Tells what the attempt has cost up to now. Where that passes a budget, the attempt is
    /// stopped.
    pub fn cost(self, usd: f64) {
        self.emit("cost", &serde_json::json!({ "cost_usd": usd }));
    }

    /// Names the session by which the work can be taken up later.
    pub fn session(self, session_id: &str, model: Option<&str>) {
        self.emit(
            "session",
            &serde_json::json!({ "session_id": session_id, "model": model }),
        );
    }

    /// What is being done at the moment, for whoever watches.
    pub fn phase(self, text: &str) {
        self.emit("phase", &serde_json::json!({ "text": text }));
    }

    /// Tells the host something of a kind of the executor's own; it is kept as an event. At most
    /// 64 KiB, and 100 and 256 KiB a second; the surplus is dropped and counted.
    pub fn emit(self, kind: &str, data: &impl Serialize) {
        match serde_json::to_string(data) {
            Ok(data) => progress::emit(kind, &data),
            Err(error) => crate::warn!("progress of kind {kind} was left out: {error}"),
        }
    }

    /// Stores what `resume` will be given if this instance is lost; at most 64 KiB. It returns when
    /// the state is on disk.
    pub async fn checkpoint(self, state: &[u8]) -> Result<(), Failure> {
        progress::checkpoint(state.to_vec())
            .await
            .map_err(Failure::from)
    }

    /// Whether [`Executor::stop`](crate::Executor::stop) was called.
    pub fn stop_requested(self) -> Option<StopRequest> {
        stop::requested()
    }

    /// Waits until [`Executor::stop`](crate::Executor::stop) is called. An executor that waits for
    /// something other than a child (the host signals children by itself) puts it in a
    /// [`race`](crate::clock::race) with what it does.
    pub async fn stopped(self) -> StopRequest {
        stop::wait().await
    }
}

//! Calls from an attempt to the host while it runs.

use crate::bindings::claudine::plugin::{children, progress};
use crate::{Child, Failure, StopRequest, stop};
use serde::Serialize;

/// An attempt's handle to the host. There is one in each instance; copies are equivalent.
#[derive(Clone, Copy, Debug)]
pub struct Ctx {
    /// Only the export macro makes a `Ctx`, because these calls have no meaning outside an attempt.
    _private: (),
}

impl Ctx {
    pub(crate) fn new() -> Self {
        Self { _private: () }
    }

    /// The children of this attempt so far, in the order of their start, including children that
    /// have ended. An implementation of `resume` begins with this list.
    pub fn children(self) -> Vec<Child> {
        children::list().into_iter().map(Child::new).collect()
    }

    /// Reports the first sign of life. This ends the start timeout and, if the manifest says
    /// `serial-start`, lets the next task of the same account start.
    pub fn alive(self) {
        progress::emit("alive", "{}");
    }

    /// Reports that the service behind the task's account answered, so no usage limit applies.
    /// Other tasks of the account that wait for this result may start.
    pub fn account_works(self) {
        progress::emit("account_works", "{}");
    }

    /// Reports the cost of the attempt so far. If it exceeds a budget, the attempt is stopped.
    pub fn cost(self, usd: f64) {
        self.emit("cost", &serde_json::json!({ "cost_usd": usd }));
    }

    /// Names the session through which the work can be continued later. The id must begin with a
    /// letter or a digit, and have at most 128 ASCII letters, digits, `-` and `_`; the host ignores
    /// another text. An id from the output of an agent may still be any text of this form, so check
    /// it before it becomes an argument or a path. The next attempt finds the reported id as
    /// `session_id` in the outputs of this one, whatever the outcome says.
    pub fn session(self, session_id: &str, model: Option<&str>) {
        self.emit(
            "session",
            &serde_json::json!({ "session_id": session_id, "model": model }),
        );
    }

    /// Reports the current activity, for display.
    pub fn phase(self, text: &str) {
        self.emit("phase", &serde_json::json!({ "text": text }));
    }

    /// Reports data of a kind that the executor defines; the host stores it as an event. At most 64
    /// KiB per call, and 100 calls and 256 KiB per second; the surplus is dropped and counted.
    pub fn emit(self, kind: &str, data: &impl Serialize) {
        match serde_json::to_string(data) {
            Ok(data) => progress::emit(kind, &data),
            Err(error) => crate::warn!("progress of kind {kind} was dropped: {error}"),
        }
    }

    /// Stores the state that `resume` is given if this instance is lost; at most 64 KiB. Returns
    /// when the state is on disk.
    pub async fn checkpoint(self, state: &[u8]) -> Result<(), Failure> {
        progress::checkpoint(state.to_vec())
            .await
            .map_err(Failure::from)
    }

    /// The request to stop, if [`Executor::stop`](crate::Executor::stop) was called.
    pub fn stop_requested(self) -> Option<StopRequest> {
        stop::requested()
    }

    /// Waits until [`Executor::stop`](crate::Executor::stop) is called. An executor that waits for
    /// something other than a child should combine that wait and this one in a
    /// [`race`](crate::clock::race). A wait for a child needs no race, because the host signals
    /// children itself.
    pub async fn stopped(self) -> StopRequest {
        stop::wait().await
    }
}

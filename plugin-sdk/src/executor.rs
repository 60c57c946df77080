//! The trait that a plugin implements.

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::bindings::exports::claudine::plugin::lifecycle as wit;
use crate::transcript::{self, Reading};
use crate::{Authority, Ctx, Draft, Failure, Issue, Outcome, StopRequest, Task};

/// Runs one kind of task.
///
/// `Default` makes the value once in each instance, and an instance runs only one attempt. So the
/// fields (in a `RefCell`) can hold the attempt's state, which `run` and `stop` share. Functions
/// without `self` are called in throw-away instances.
#[allow(
    async_fn_in_trait,
    reason = "a component has one thread, so the futures need not be Send"
)]
pub trait Executor: Default + 'static {
    /// The document of a task of this kind, as a type. Put `#[serde(deny_unknown_fields)]` on it: a
    /// misspelt field is then refused with its place instead of being ignored.
    type Spec: DeserializeOwned;

    /// A JSON Schema (2020-12) of [`Spec`](Executor::Spec). It is shown to people and agents; tasks
    /// are not checked against it.
    fn task_schema() -> &'static str;

    /// Checks everything that the type cannot express. This function is called for each submission,
    /// so it must be quick.
    fn validate(_draft: &Draft<Self::Spec>) -> Vec<Issue> {
        Vec::new()
    }

    /// Authority of a task that [`validate`](Executor::validate) accepts, including the plugin's
    /// configuration and defaults. The host compares the authority with the limits of the
    /// submitter, so an unknown option must count as [`Authority::full`], which is the default.
    fn authority(_draft: &Draft<Self::Spec>) -> Authority {
        Authority::full()
    }

    /// Turns a child's standard output into items. `bytes` are the next bytes, and empty at the
    /// end; `state` is what the previous call returned. The answer must depend on `bytes` and
    /// `state` alone. The first bytes may start after any line feed, with no state. Lines of more
    /// than 1 MiB are left out by the host. This function is called for agents only; the default
    /// shows the output unchanged.
    fn transcript(bytes: &[u8], state: &[u8]) -> Reading {
        transcript::plain(bytes, state)
    }

    /// A JSON Schema (2020-12) of the plugin's own configuration. The default allows any table.
    fn config_schema() -> &'static str {
        r#"{"type": "object"}"#
    }

    /// Checks the plugin's own configuration, a JSON object.
    fn validate_config(_config: &Value) -> Vec<Issue> {
        Vec::new()
    }

    /// Checks the machine: is the driven program installed, and does it work? Use
    /// [`Command::capture`](crate::Command::capture) for this. The default reports that nothing is
    /// needed.
    async fn fingerprint() -> Health {
        Health::healthy("ready")
    }

    /// Runs an attempt. An [`Outcome`] tells how the work ended, even if it failed; a [`Failure`]
    /// means that the work could not be done.
    async fn run(&self, task: Task<Self::Spec>, ctx: Ctx) -> Result<Outcome, Failure>;

    /// Continues an attempt in a new instance, after a restart of the host or a trap. `state` is
    /// the last checkpoint, empty if there was none.
    ///
    /// The default suits an executor that starts one child per attempt. It waits for the last child
    /// and turns the child's exit status into the outcome. If no child was started yet, it runs the
    /// attempt. An executor that starts several children, or reads their output, must implement its
    /// own way to continue.
    async fn resume(
        &self,
        task: Task<Self::Spec>,
        _state: Vec<u8>,
        ctx: Ctx,
    ) -> Result<Outcome, Failure> {
        match ctx.children().pop() {
            Some(child) => Ok(child.wait().await?.into()),
            None => self.run(task, ctx).await,
        }
    }

    /// Called at most once, on the running instance, before the host sends the children the signals
    /// that the manifest lists. `stop` does not interrupt `run`. The default leaves everything to
    /// the host.
    async fn stop(&self, _request: StopRequest, _ctx: Ctx) {}
}

/// State of the machine, independent of any task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    status: &'static str,
    message: String,
    attributes: Vec<(String, String)>,
}

impl Health {
    /// The driven program is installed and works. `message` tells in one sentence what was found.
    pub fn healthy(message: impl Into<String>) -> Self {
        Self::new("healthy", message.into())
    }

    /// The program is installed but cannot work. `message` says what is wrong, and how to fix it.
    pub fn unhealthy(message: impl Into<String>) -> Self {
        Self::new("unhealthy", message.into())
    }

    /// The program is not installed. `message` says what is missing, and how to get it.
    pub fn undetected(message: impl Into<String>) -> Self {
        Self::new("undetected", message.into())
    }

    /// Adds a fact such as `version` or `path`.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.attributes.push((name.into(), value.into()));
        self
    }

    fn new(status: &'static str, message: String) -> Self {
        Self {
            status,
            message,
            attributes: Vec::new(),
        }
    }
}

impl From<Health> for wit::Health {
    fn from(health: Health) -> Self {
        Self {
            status: health.status.to_owned(),
            message: health.message,
            attributes: health.attributes,
        }
    }
}

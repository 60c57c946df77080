//! The trait that a plugin implements.

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::bindings::exports::claudine::plugin::lifecycle as wit;
use crate::transcript::{self, Reading};
use crate::{Authority, Ctx, Draft, Failure, Issue, Outcome, StopRequest, Task};

/// Knows how to run one kind of task.
///
/// The value is made by `Default` once in each instance, and an instance serves one attempt: fields
/// (in a `RefCell`) are state of the attempt that `run` and `stop` share. Functions without `self`
/// are called in throw-away instances.
#[allow(
    async_fn_in_trait,
    reason = "a component has one thread: nobody asks whether the futures are Send"
)]
pub trait Executor: Default + 'static {
    /// What a task of this kind says, as a type. Put `#[serde(deny_unknown_fields)]` on it: a
    /// misspelt field is then refused with its place instead of being ignored.
    type Spec: DeserializeOwned;

    /// A JSON Schema (2020-12) of [`Spec`](Executor::Spec). It is shown to people and to agents; it
    /// is not what refuses a task.
    fn task_schema() -> &'static str;

    /// Checks what the type alone cannot. Called for each submission, so it must be quick.
    fn validate(_draft: &Draft<Self::Spec>) -> Vec<Issue> {
        Vec::new()
    }

    /// What a task that [`validate`](Executor::validate) accepts is able to do, with all that is
    /// decided by the plugin's configuration and defaults. It is what ceilings are compared with,
    /// so an option that is not known here has to count as [`Authority::full`], which is the
    /// default.
    fn authority(_draft: &Draft<Self::Spec>) -> Authority {
        Authority::full()
    }

    /// Makes items of what a child has printed to standard output: `bytes` are the next ones, and
    /// none are the end; `state` is what the call before gave back. The answer has to follow from
    /// the two alone. The first bytes may be those behind any line feed, with no state. It is asked
    /// of agents; the default shows the output as it is.
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

    /// Looks at the machine: is what this plugin drives there, and does it work?
    /// [`Command::capture`](crate::Command::capture) is there for it. The default says that nothing
    /// is needed.
    async fn fingerprint() -> Health {
        Health::healthy("ready")
    }

    /// Runs an attempt. An [`Outcome`] says how the work ended, also where it failed; a [`Failure`]
    /// says that it could not be done.
    async fn run(&self, task: Task<Self::Spec>, ctx: Ctx) -> Result<Outcome, Failure>;

    /// Takes an attempt up again in a new instance, after a restart of the host or a trap. `state`
    /// is the last checkpoint, empty where there was none.
    ///
    /// The default fits an executor whose attempt is one child: it waits for the last child and
    /// makes its exit status the outcome; where no child was started yet it runs the attempt. An
    /// executor that starts several children, or reads what they print, has to say here how to go
    /// on.
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

    /// Called at most once, on the running instance, before the host signals the children by the
    /// ladder of the manifest; `run` is not interrupted by it. The default leaves everything to the
    /// host.
    async fn stop(&self, _request: StopRequest, _ctx: Ctx) {}
}

/// A fact about the machine, not about a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    status: &'static str,
    message: String,
    attributes: Vec<(String, String)>,
}

impl Health {
    /// What the plugin drives is there and works. The message is one sentence: what was found.
    pub fn healthy(message: impl Into<String>) -> Self {
        Self::new("healthy", message.into())
    }

    /// It is there but cannot work: what is wrong, and what would help.
    pub fn unhealthy(message: impl Into<String>) -> Self {
        Self::new("unhealthy", message.into())
    }

    /// It is not on this machine: what is missing, and how to get it.
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

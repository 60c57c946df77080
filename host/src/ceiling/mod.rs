//! The settings for MCP clients (`[mcp]`), which limit restrained principals. A request is checked
//! when it is made, and again at each start of one of its attempts, because the settings may have
//! changed meanwhile, or a person may have done something.

pub(crate) mod homes;
mod mounts;
mod patterns;
pub(crate) mod places;
pub(crate) mod repositories;
pub(crate) mod session;
pub(crate) mod variables;
pub(crate) mod work;

use claudine_domain::{
    id::TaskId,
    principal::{Principal, Via},
    task::Task,
};
use serde::{Deserialize, de::Error};

use crate::text::shortened;

/// Length limit of quoted request text in a refusal.
const SHOWN: usize = 80;

/// Why a restrained principal may not do something.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Refusal {
    pub(crate) message: String,
    /// Advice for the author of a request.
    pub(crate) hint: String,
}

impl Refusal {
    /// The refusal of a request beyond a setting.
    pub(crate) fn of_setting(message: String, setting: &str) -> Self {
        Self {
            message,
            hint: format!("a person can allow it: mcp.{setting} in the configuration file"),
        }
    }
}

/// Reads fields of an agent's document. It is an error if one of them is given twice or has another
/// type, and if the document is no object: its executor may read it in another way.
fn fields<'a, T: Deserialize<'a>>(spec: &'a str) -> Result<T, serde_json::Error> {
    // A structure could also be read from a list, by the order of its fields.
    if spec.trim_start().starts_with('{') {
        serde_json::from_str(spec)
    } else {
        Err(serde_json::Error::custom("it is no JSON object"))
    }
}

/// The allowed values of a setting that is a list, for a refusal.
fn values(allowed: impl Iterator<Item = impl AsRef<str>>) -> String {
    let values: Vec<String> = allowed.map(|it| shortened(it.as_ref(), SHOWN)).collect();
    if values.is_empty() {
        "none is allowed".to_owned()
    } else {
        format!("allowed are: {}", values.join(", "))
    }
}

/// Whether the principal is restrained, and somebody less restrained submitted the task.
pub(crate) fn is_of_others(by: &Principal, task: &Task) -> bool {
    by.restrained && !task.request.by.restrained
}

/// The way in which a request arrived, for messages. It is the reason why the settings for MCP
/// clients apply.
pub(crate) fn way(by: &Principal) -> &'static str {
    match by.via {
        Via::Mcp => "over MCP",
        Via::Cli | Via::Rest | Via::Workflow | Via::Schedule => "by an agent",
    }
}

/// Decides whether a restrained principal may commit in the worktree of a task, or begin another
/// attempt there, although `resolver` has opened a merge in it to resolve conflicts.
pub(crate) fn may_interrupt(
    by: &Principal,
    task: TaskId,
    resolver: Option<&Principal>,
) -> Result<(), Refusal> {
    let Some(resolver) = resolver.filter(|resolver| by.restrained && !resolver.restrained) else {
        return Ok(());
    };
    Err(Refusal {
        message: format!(
            "{resolver} resolves a merge in the worktree of task {task:#}, and nothing there may be changed {} until that merge has ended",
            way(by)
        ),
        hint: format!(
            "a person can complete the merge with `claudine worktree resolve {task:#}`, or abort it with `claudine worktree resolve --abort {task:#}`"
        ),
    })
}

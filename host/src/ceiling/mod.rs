//! The settings for MCP clients (`[mcp]`), which limit restrained principals. A request is checked
//! when it is made, and again at each start of one of its attempts, because the settings may have
//! changed meanwhile, or a person may have done something.

pub(crate) mod session;
pub(crate) mod variables;
pub(crate) mod work;

use claudine_domain::{
    principal::{Principal, Via},
    task::Task,
};

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

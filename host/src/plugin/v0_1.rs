//! Version 0.1 of the contract: its bindings, and conversions to and from the host's own types.
//!
//! A published version of the contract is never edited. Another version gets another module beside
//! this one, and the rest of the host does not change.

use std::time::Duration;

use claudine_domain::budget::Usd;
use wasmtime::component::{HasSelf, Linker};

use super::guest::Guest;
use super::port;

/// A guest's handle of a child. If the guest drops the handle, the child continues to run.
///
/// Public only because the generated code exports every type that it is given.
#[derive(Debug)]
#[allow(
    unreachable_pub,
    reason = "the generated code exports it from a module that nobody else sees"
)]
pub struct ChildHandle(pub(crate) port::ChildRef);

#[allow(
    unsafe_code,
    unreachable_pub,
    unused_variables,
    clippy::pedantic,
    reason = "generated code; it is unsafe where it takes a function whose type it has checked before"
)]
mod bindings {
    wasmtime::component::bindgen!({
        world: "executor-plugin",
        path: "../wit",
        imports: {
            "claudine:plugin/children.[method]child.output": store | trappable,
            default: trappable,
        },
        exports: { default: async },
        with: { "claudine:plugin/children.child": super::ChildHandle },
    });
}

pub(crate) use bindings::claudine::plugin::{
    children, clock, config, host, log, process, progress, types,
};
pub(crate) use bindings::exports::claudine::plugin::{executor, lifecycle};
pub(crate) use bindings::{ExecutorPlugin, ExecutorPluginPre};

/// The versions that this module supports: `0.1.x`.
pub(crate) const VERSION_PREFIX: &str = "0.1.";
/// The interfaces that an executor must export.
pub(crate) const EXPORTS: [&str; 2] = [
    "claudine:plugin/lifecycle@0.1.0",
    "claudine:plugin/executor@0.1.0",
];

/// Links all interfaces of the contract that an executor may import.
pub(crate) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    ExecutorPlugin::add_to_linker::<Guest, HasSelf<Guest>>(linker, |guest| guest)
}

impl types::Host for Guest {}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl From<port::Failure> for types::Failure {
    fn from(failure: port::Failure) -> types::Failure {
        types::Failure {
            code: failure.code,
            message: failure.message,
            retryable: failure.retryable,
            retry_after_ms: failure.retry_after.map(millis),
            extra: failure.extra,
        }
    }
}

impl From<types::Failure> for port::Failure {
    fn from(failure: types::Failure) -> port::Failure {
        port::Failure {
            code: failure.code,
            message: failure.message,
            retryable: failure.retryable,
            retry_after: failure.retry_after_ms.map(Duration::from_millis),
            extra: failure.extra,
        }
    }
}

impl From<types::Issue> for port::Issue {
    fn from(issue: types::Issue) -> port::Issue {
        port::Issue {
            path: issue.path,
            message: issue.message,
        }
    }
}

impl From<types::Outcome> for port::GuestOutcome {
    fn from(outcome: types::Outcome) -> port::GuestOutcome {
        port::GuestOutcome {
            cause: outcome.cause,
            code: outcome.code,
            signal: outcome.signal,
            summary: outcome.summary,
            outputs: outcome.outputs,
            retry_after: outcome.retry_after_ms.map(Duration::from_millis),
            metrics: outcome.metrics,
        }
    }
}

impl From<port::ChildExit> for children::ExitStatus {
    fn from(exit: port::ChildExit) -> children::ExitStatus {
        children::ExitStatus {
            code: exit.code,
            signal: exit.signal,
            usage: types::Usage {
                wall_ms: millis(exit.usage.wall),
                cpu_ms: exit.usage.cpu.map(millis),
                peak_rss_bytes: exit.usage.peak_rss_bytes,
                more: Vec::new(),
            },
            more: Vec::new(),
        }
    }
}

impl From<children::Channel> for port::Channel {
    fn from(channel: children::Channel) -> port::Channel {
        match channel {
            children::Channel::Stdout => port::Channel::Stdout,
            children::Channel::Stderr => port::Channel::Stderr,
        }
    }
}

impl From<log::Level> for port::LogLevel {
    fn from(level: log::Level) -> port::LogLevel {
        match level {
            log::Level::Trace => port::LogLevel::Trace,
            log::Level::Debug => port::LogLevel::Debug,
            log::Level::Info => port::LogLevel::Info,
            log::Level::Warn => port::LogLevel::Warn,
            log::Level::Error => port::LogLevel::Error,
        }
    }
}

impl From<&port::GuestTask> for executor::Task {
    fn from(task: &port::GuestTask) -> executor::Task {
        let budget = task.budget_micro_usd.map(|left| Usd(left).to_string());
        let budget = budget.map(|usd| ("budget-usd".to_owned(), usd));
        executor::Task {
            id: task.id.clone(),
            attempt: task.attempt,
            spec: task.spec.clone(),
            workspace: task.workspace.clone(),
            env: task.env.clone(),
            labels: task.labels.clone(),
            previous: task
                .previous
                .clone()
                .map(|previous| executor::PreviousAttempt {
                    number: previous.number,
                    outcome: previous.outcome,
                    class: previous.class,
                    outputs: previous.outputs,
                    resume: previous.resume,
                    more: Vec::new(),
                }),
            more: budget.into_iter().collect(),
        }
    }
}

impl From<port::Draft> for executor::Draft {
    fn from(draft: port::Draft) -> executor::Draft {
        executor::Draft {
            spec: draft.spec,
            env: draft.env,
            workspace: draft.workspace,
            labels: draft.labels,
            more: Vec::new(),
        }
    }
}

/// A step of authority that the contract does not know counts as the highest step.
impl From<executor::Reach> for port::Authority {
    fn from(authority: executor::Reach) -> port::Authority {
        let extras = authority.extras.iter().map(String::as_str);
        port::Authority::of_words(&authority.step, extras)
    }
}

impl From<port::StopRequest> for executor::StopRequest {
    fn from(request: port::StopRequest) -> executor::StopRequest {
        executor::StopRequest {
            reason: request.reason,
            grace_ms: millis(request.grace),
            more: Vec::new(),
        }
    }
}

/// A health status that the contract does not know is an error of the plugin.
impl TryFrom<lifecycle::Health> for port::Health {
    type Error = String;

    fn try_from(health: lifecycle::Health) -> Result<port::Health, String> {
        let state = match health.status.as_str() {
            "healthy" => port::HealthState::Healthy,
            "unhealthy" => port::HealthState::Unhealthy,
            "undetected" => port::HealthState::Undetected,
            other => {
                return Err(format!(
                    "its health is `{other}`, not healthy, unhealthy or undetected"
                ));
            }
        };
        Ok(port::Health {
            state,
            message: health.message,
            attributes: health.attributes,
        })
    }
}

//! Parses lines of `--output-format stream-json` into events.
//!
//! Lines are parsed, never matched as text: the order of keys is not fixed. Each line is read
//! twice, first for its type alone, so that the large lines that this plugin ignores (tool results)
//! cost no memory. Unknown types and fields are skipped. A known type in an unexpected format is a
//! [`Fault`], so that a version of Claude Code that behaves differently is noticed.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde_json::Value;

use crate::session;

/// Events that this plugin acts on.
#[derive(Debug)]
pub(crate) enum Event {
    Init(Init),
    Assistant(Assistant),
    Retry(Retry),
    RateLimit(RateLimitInfo),
    Result(Box<Verdict>),
    /// An event that this plugin ignores.
    Other,
}

/// `system`/`init`: the session begins. This event is repeated if a background command wakes the
/// agent.
#[derive(Debug, Deserialize)]
pub(crate) struct Init {
    /// None if what Claude Code calls the session is not an id.
    #[serde(default, deserialize_with = "session::reported")]
    pub(crate) session_id: Option<String>,
    pub(crate) model: Option<String>,
    pub(crate) claude_code_version: Option<String>,
    #[serde(default)]
    pub(crate) tools: Vec<String>,
    #[serde(default)]
    pub(crate) mcp_servers: Vec<McpServer>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct McpServer {
    pub(crate) name: String,
    pub(crate) status: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Assistant {
    pub(crate) message: Message,
    /// Set if the message is from a subagent.
    pub(crate) parent_tool_use_id: Option<String>,
    /// Kind of API failure, if this message reports one.
    pub(crate) error: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Message {
    #[serde(default)]
    pub(crate) content: Vec<Block>,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Block {
    Text {
        text: String,
    },
    ToolUse {
        name: String,
        #[serde(default)]
        input: Value,
    },
    #[serde(other)]
    Other,
}

/// An event for transcripts, which show more kinds than the executor acts on.
#[derive(Debug)]
pub(crate) enum Detail {
    Results(Vec<ToolResult>),
    Denied(ToolDenied),
    Event(Event),
}

/// Result of a tool.
#[derive(Debug)]
pub(crate) struct ToolResult {
    pub(crate) content: Value,
    pub(crate) is_error: bool,
    /// The tool was not run, because it was denied.
    pub(crate) is_refused: bool,
}

/// `system`/`permission_denied`.
#[derive(Debug, Deserialize)]
pub(crate) struct ToolDenied {
    pub(crate) tool_name: String,
    pub(crate) message: Option<String>,
}

#[derive(Deserialize)]
struct User {
    message: UserMessage,
    parent_tool_use_id: Option<String>,
    #[serde(default)]
    tool_result_meta: Value,
}

#[derive(Deserialize)]
struct UserMessage {
    /// A string, or a list of blocks.
    #[serde(default)]
    content: Value,
}

/// `system`/`api_retry`: a request failed and is tried again.
#[derive(Debug, Deserialize)]
pub(crate) struct Retry {
    pub(crate) attempt: u32,
    pub(crate) max_retries: Option<u32>,
    #[serde(rename = "retry_delay_ms")]
    pub(crate) delay_ms: Option<f64>,
    pub(crate) error_status: Option<u16>,
    pub(crate) error: Option<String>,
}

#[derive(Debug, Deserialize)]
struct RateLimitEvent {
    rate_limit_info: RateLimitInfo,
}

/// State of the account. The event alone does not mean that a limit is reached, because it also
/// comes with `status` `allowed`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RateLimitInfo {
    pub(crate) status: String,
    /// Seconds since 1970.
    pub(crate) resets_at: Option<f64>,
    /// Name of the limit, such as `five_hour`.
    pub(crate) rate_limit_type: Option<String>,
}

/// `result`: how a run of the agent ended, according to Claude Code.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Verdict {
    pub(crate) subtype: Option<String>,
    pub(crate) is_error: Option<bool>,
    pub(crate) result: Option<String>,
    pub(crate) errors: Option<Vec<String>>,
    pub(crate) api_error_status: Option<u16>,
    pub(crate) api_error: Option<String>,
    pub(crate) terminal_reason: Option<String>,
    #[serde(default, deserialize_with = "session::reported")]
    pub(crate) session_id: Option<String>,
    pub(crate) num_turns: Option<u64>,
    /// Cost of the whole session, earlier processes included. In versions of Claude Code that lack
    /// `model_usage_since_last_result`, it may instead be the cost of this process alone.
    pub(crate) total_cost_usd: Option<f64>,
    /// Tokens and costs by model, of the same scope as the total.
    #[serde(rename = "modelUsage")]
    pub(crate) model_usage: Option<Value>,
    /// Use by this process since the previous result.
    pub(crate) model_usage_since_last_result: Option<BTreeMap<String, ModelUsage>>,
    /// Use by this process since the previous result, without its subagents.
    pub(crate) usage: Option<Value>,
    pub(crate) permission_denials: Option<Vec<Denial>>,
}

impl Verdict {
    /// Cost of this process since its previous result. Older versions do not report it.
    pub(crate) fn since_last_usd(&self) -> Option<f64> {
        let usage = self.model_usage_since_last_result.as_ref()?;
        Some(usage.values().map(|model| model.cost_usd).sum())
    }

    /// Whether the run was stopped from outside, so that perhaps the service still worked on a
    /// request. Older versions give no `terminal_reason` then.
    pub(crate) fn is_cut_off(&self) -> bool {
        match (self.terminal_reason.as_deref(), self.subtype.as_deref()) {
            (Some(reason), _) => reason.starts_with("aborted"),
            (None, subtype) => subtype == Some("error_during_execution"),
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct ModelUsage {
    #[serde(rename = "costUSD")]
    pub(crate) cost_usd: f64,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Denial {
    pub(crate) tool_name: String,
    #[serde(default)]
    pub(crate) tool_input: Value,
}

/// Reason why a line could not be read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The line is not a JSON object with a `type`: something else wrote to standard output.
    NotAnEvent,
    /// An event of a known type in another format than the known versions use.
    Shape { event: &'static str, error: String },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAnEvent => f.write_str("a line is not an event"),
            Self::Shape { event, error } => {
                write!(f, "an event `{event}` has an unknown format: {error}")
            }
        }
    }
}

#[derive(Deserialize)]
struct Head<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(default, borrow)]
    subtype: Option<Cow<'a, str>>,
}

pub(crate) fn parse(line: &[u8]) -> Result<Event, Fault> {
    let head: Head<'_> = serde_json::from_slice(line).map_err(|_| Fault::NotAnEvent)?;
    match (head.kind.as_ref(), head.subtype.as_deref()) {
        ("system", Some("init")) => body("init", line).map(Event::Init),
        ("system", Some("api_retry")) => body("api_retry", line).map(Event::Retry),
        ("assistant", _) => body("assistant", line).map(Event::Assistant),
        ("rate_limit_event", _) => body("rate_limit_event", line)
            .map(|event: RateLimitEvent| Event::RateLimit(event.rate_limit_info)),
        ("result", _) => body("result", line).map(|verdict| Event::Result(Box::new(verdict))),
        _ => Ok(Event::Other),
    }
}

/// Parses a line for transcripts, tool results included.
pub(crate) fn parse_detail(line: &[u8]) -> Result<Detail, Fault> {
    let head: Head<'_> = serde_json::from_slice(line).map_err(|_| Fault::NotAnEvent)?;
    match (head.kind.as_ref(), head.subtype.as_deref()) {
        ("user", _) => body("user", line).map(|user| Detail::Results(results(user))),
        ("system", Some("permission_denied")) => {
            body("permission_denied", line).map(Detail::Denied)
        }
        _ => parse(line).map(Detail::Event),
    }
}

/// Results of the agent's own tools.
fn results(user: User) -> Vec<ToolResult> {
    let (Value::Array(blocks), None) = (user.message.content, user.parent_tool_use_id) else {
        return Vec::new();
    };
    let meta = user.tool_result_meta;
    let is_refused = |id: Option<&Value>| {
        let found = meta.as_array().into_iter().flatten();
        let mut found = found.filter(|one| one.get("id") == id);
        found.any(|one| one["non_execution_kind"].is_string())
    };
    blocks
        .into_iter()
        .filter(|block| block["type"] == "tool_result")
        .map(|mut block| ToolResult {
            is_refused: is_refused(block.get("tool_use_id")),
            is_error: block["is_error"] == true,
            content: block["content"].take(),
        })
        .collect()
}

fn body<'a, T: Deserialize<'a>>(event: &'static str, line: &'a [u8]) -> Result<T, Fault> {
    serde_json::from_slice(line).map_err(|error| Fault::Shape {
        event,
        error: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::tests::{SESSION, others};

    fn kind(line: &str) -> String {
        match parse(line.as_bytes()) {
            Ok(Event::Init(init)) => format!("init {:?}", init.session_id),
            Ok(Event::Assistant(message)) => format!("assistant {}", message.message.content.len()),
            Ok(Event::Retry(retry)) => format!("retry {}", retry.attempt),
            Ok(Event::RateLimit(info)) => format!("rate limit {}", info.status),
            Ok(Event::Result(verdict)) => format!("result {:?}", verdict.is_error),
            Ok(Event::Other) => "other".to_owned(),
            Err(fault) => fault.to_string(),
        }
    }

    #[test]
    fn order_of_keys_does_not_matter() {
        assert_eq!(
            kind(r#"{"num_turns":1,"is_error":false,"type":"result"}"#),
            "result Some(false)"
        );
        assert_eq!(
            kind(&format!(
                r#"{{"session_id":"{SESSION}","subtype":"init","type":"system"}}"#
            )),
            format!("init Some({SESSION:?})")
        );
    }

    /// Otherwise an agent could report an option, and it would later be an argument of `claude`.
    #[test]
    fn reported_text_that_is_no_session_id_counts_as_none() {
        let check = |id: &str, is_kept: bool| {
            let id = Value::from(id);
            let init = format!(r#"{{"type":"system","subtype":"init","session_id":{id}}}"#);
            let result = format!(r#"{{"type":"result","session_id":{id}}}"#);
            let of_line = |line: &str| match parse(line.as_bytes()) {
                Ok(Event::Init(init)) => init.session_id,
                Ok(Event::Result(verdict)) => verdict.session_id,
                other => Some(format!("{other:?}")),
            };
            let expected = id.as_str().filter(|_| is_kept);
            assert_eq!(of_line(&init).as_deref(), expected);
            assert_eq!(of_line(&result).as_deref(), expected);
        };
        check(SESSION, true);
        for other in others() {
            check(&other, false);
        }
    }

    #[test]
    fn unknown_events_and_fields_are_skipped() {
        assert_eq!(kind(r#"{"type":"hologram","is_error":"maybe"}"#), "other");
        assert_eq!(
            kind(r#"{"type":"system","subtype":"task_started"}"#),
            "other"
        );
        assert_eq!(
            kind(r#"{"type":"assistant","message":{"content":[{"type":"hologram","x":1}]}}"#),
            "assistant 1"
        );
        assert_eq!(
            kind(r#"{"type":"rate_limit_event","rate_limit_info":{"status":"allowed","new":{}}}"#),
            "rate limit allowed"
        );
    }

    #[test]
    fn line_that_is_not_an_event_is_a_fault() {
        for line in [
            "",
            "npm warn something",
            "{\"type\":",
            "[1]",
            "{\"a\":1}",
            "\"result\"",
            "null",
            "{\"type\":1}",
        ] {
            assert_eq!(kind(line), "a line is not an event", "{line}");
        }
    }

    #[test]
    fn known_event_in_another_format_is_a_fault() {
        let said = kind(r#"{"type":"result","is_error":"no"}"#);
        assert!(
            said.starts_with("an event `result` has an unknown format"),
            "{said}"
        );
    }
}

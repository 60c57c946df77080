//! The answers of the scripted Messages API: an ordered list of rules, tried from the top for each
//! request.
//!
//! A rule can require that the conversation contains a text and has reached a certain turn. So
//! several tasks can share one server, whatever the order of their requests.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The rules in the order in which they are tried.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    pub rules: Vec<Rule>,
}

impl Script {
    /// A script that gives the same answer to every request.
    pub fn always(answer: Answer) -> Self {
        Self::default().then(Rule::new(answer))
    }

    /// A script in which the agent first runs a command, and then answers with a text.
    pub fn command_then(command: &str, text: &str) -> Self {
        Self::default()
            .then(Rule::new(Answer::bash(command)).at_turn(0))
            .then(Rule::new(Answer::text(text)))
    }

    #[must_use]
    pub fn then(mut self, rule: Rule) -> Self {
        self.rules.push(rule);
        self
    }

    /// Returns the answer of the first rule that matches and is not used up, and counts this use.
    pub(crate) fn take(&mut self, asked: &Asked) -> Option<Answer> {
        let rule = self.rules.iter_mut().find(|rule| rule.fits(asked))?;
        if let Some(left) = &mut rule.times {
            *left -= 1;
        }
        Some(rule.answer.clone())
    }
}

/// An answer with its conditions.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Text that the request's messages must contain.
    #[serde(default)]
    pub contains: Option<String>,
    /// Number of assistant messages that the conversation must contain.
    #[serde(default)]
    pub turn: Option<usize>,
    /// Whether the request must be a streaming one; if missing, both kinds match.
    #[serde(default)]
    pub streaming: Option<bool>,
    /// Number of uses left; unlimited if missing.
    #[serde(default)]
    pub times: Option<u32>,
    pub answer: Answer,
}

impl Rule {
    pub fn new(answer: Answer) -> Self {
        Self {
            contains: None,
            turn: None,
            streaming: None,
            times: None,
            answer,
        }
    }

    #[must_use]
    pub fn containing(mut self, text: &str) -> Self {
        self.contains = Some(text.to_owned());
        self
    }

    #[must_use]
    pub fn at_turn(mut self, turn: usize) -> Self {
        self.turn = Some(turn);
        self
    }

    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.times = Some(times);
        self
    }

    fn fits(&self, asked: &Asked) -> bool {
        self.times != Some(0)
            && self.turn.is_none_or(|turn| turn == asked.turn)
            && self
                .streaming
                .is_none_or(|streaming| streaming == asked.streaming)
            && self
                .contains
                .as_ref()
                .is_none_or(|text| asked.messages.contains(text.as_str()))
    }
}

/// The parts of a request that rules look at.
pub(crate) struct Asked {
    messages: String,
    turn: usize,
    pub(crate) streaming: bool,
    pub(crate) model: String,
}

impl Asked {
    pub(crate) fn read(body: &Value) -> Self {
        let mut messages = String::new();
        collect_text(&body["messages"], &mut messages);
        let turn = body["messages"].as_array().map_or(0, |all| {
            all.iter()
                .filter(|message| message["role"] == "assistant")
                .count()
        });
        Self {
            messages,
            turn,
            streaming: body["stream"].as_bool().unwrap_or(false),
            model: body["model"].as_str().unwrap_or("unknown").to_owned(),
        }
    }
}

fn collect_text(value: &Value, into: &mut String) {
    match value {
        Value::String(text) => {
            into.push_str(text);
            into.push('\n');
        }
        Value::Array(items) => items.iter().for_each(|item| collect_text(item, into)),
        Value::Object(fields) => fields.values().for_each(|field| collect_text(field, into)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// One answer: a status line with headers, then either an error or the steps of a message.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    #[serde(default = "ok_status")]
    pub status: u16,
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Body of an error answer.
    #[serde(default)]
    pub error: Option<ApiError>,
    /// Point at which the whole answer waits, including its headers.
    #[serde(default)]
    pub hold: Option<String>,
    #[serde(default)]
    pub steps: Vec<Step>,
}

fn ok_status() -> u16 {
    200
}

/// The inner object of the body `{"type": "error", "error": {…}}`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiError {
    #[serde(rename = "type")]
    pub kind: String,
    pub message: String,
}

/// One step of an answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Step {
    Text(String),
    Tool {
        name: String,
        input: Value,
    },
    /// Waits until the named point is released.
    Pause(String),
    /// Closes the connection before the end of the message.
    Cut,
}

impl Answer {
    pub fn steps(steps: impl IntoIterator<Item = Step>) -> Self {
        Self {
            status: 200,
            headers: BTreeMap::new(),
            error: None,
            hold: None,
            steps: steps.into_iter().collect(),
        }
    }

    pub fn text(text: &str) -> Self {
        Self::steps([Step::Text(text.to_owned())])
    }

    /// A call of the agent's Bash tool.
    pub fn bash(command: &str) -> Self {
        Self::steps([Step::bash(command, false)])
    }

    pub fn error(status: u16, kind: &str, message: &str) -> Self {
        Self {
            status,
            error: Some(ApiError {
                kind: kind.to_owned(),
                message: message.to_owned(),
            }),
            ..Self::steps([])
        }
    }

    /// Status 429 as sent by the service when a subscription's five-hour limit is reached;
    /// `reset_epoch_s` is the time at which the limit ends.
    pub fn usage_limit(reset_epoch_s: u64) -> Self {
        Self::error(
            429,
            "rate_limit_error",
            "This request would exceed your account's rate limit. Please try again later.",
        )
        .header("anthropic-ratelimit-unified-status", "rejected")
        .header(
            "anthropic-ratelimit-unified-reset",
            &reset_epoch_s.to_string(),
        )
        .header(
            "anthropic-ratelimit-unified-representative-claim",
            "five_hour",
        )
    }

    /// An answer of which nothing is sent until `point` is released.
    pub fn silent(point: &str) -> Self {
        Self {
            hold: Some(point.to_owned()),
            ..Self::text("late")
        }
    }

    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.insert(name.to_owned(), value.to_owned());
        self
    }
}

impl Step {
    pub fn bash(command: &str, in_background: bool) -> Self {
        let mut input =
            serde_json::json!({ "command": command, "description": "a scripted command" });
        if in_background {
            input["run_in_background"] = Value::Bool(true);
        }
        Self::Tool {
            name: "Bash".to_owned(),
            input,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn asked(prompt: &str, turns: usize) -> Asked {
        let mut messages =
            vec![json!({"role": "user", "content": [{"type": "text", "text": prompt}]})];
        messages.extend((0..turns).map(|_| json!({"role": "assistant", "content": []})));
        Asked::read(&json!({"model": "m", "stream": true, "messages": messages}))
    }

    #[test]
    fn first_matching_rule_with_uses_left_gives_the_answer() {
        let mut script = Script::default()
            .then(Rule::new(Answer::text("once")).containing("apple").times(1))
            .then(Rule::new(Answer::text("turn one")).at_turn(1))
            .then(Rule::new(Answer::text("else")));
        let mut said = |prompt: &str, turn| match script
            .take(&asked(prompt, turn))
            .map(|answer| answer.steps)
            .as_deref()
        {
            Some([Step::Text(text)]) => text.clone(),
            other => format!("{other:?}"),
        };
        assert_eq!(said("an apple", 0), "once");
        assert_eq!(said("an apple", 0), "else");
        assert_eq!(said("a pear", 1), "turn one");
    }

    #[test]
    fn script_is_parsed_from_json() -> anyhow::Result<()> {
        let script: Script = serde_json::from_value(json!({"rules": [
            {"contains": "x", "answer": {"steps": [{"text": "a"}, {"pause": "p"}, "cut"]}},
            {"times": 2, "answer": {"status": 529, "error": {"type": "overloaded_error", "message": "Overloaded"}}},
        ]}))?;
        assert_eq!(script.rules.len(), 2);
        assert_eq!(script.rules[1].answer.status, 529);
        Ok(())
    }
}

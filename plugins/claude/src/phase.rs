//! One line on the agent's current activity, for people. Control characters are removed, because
//! the line is printed unchanged.

use serde_json::Value;

use crate::stream::{Block, Retry};

/// Length limit: one line of a terminal, with room for a task's name.
const LONGEST_CHARS: usize = 100;

/// Fields of a tool's input that best describe the call; the first match counts.
const TELLING_FIELDS: &[&str] = &[
    "command",
    "file_path",
    "notebook_path",
    "pattern",
    "url",
    "query",
    "skill",
    "description",
];

/// Describes the last tool call of a message.
pub(crate) fn of_message(content: &[Block]) -> Option<String> {
    content.iter().rev().find_map(|block| match block {
        Block::ToolUse { name, input } => Some(of_tool(name, input)),
        Block::Text { .. } | Block::Other => None,
    })
}

fn of_tool(name: &str, input: &Value) -> String {
    match detail(input) {
        Some(detail) => one_line(&format!("{name}: {detail}")),
        None => one_line(name),
    }
}

/// The field that best describes a call.
pub(crate) fn detail(input: &Value) -> Option<&str> {
    TELLING_FIELDS
        .iter()
        .find_map(|field| input.get(field)?.as_str())
}

/// Describes why a request is retried.
pub(crate) fn of_retry(retry: &Retry) -> String {
    let why = match (retry.error_status, retry.error.as_deref()) {
        (Some(status), _) => format!("status {status}"),
        (None, Some(error)) if error != "unknown" => error.to_owned(),
        (None, _) => "no connection".to_owned(),
    };
    let of = retry
        .max_retries
        .map(|most| format!(" of {most}"))
        .unwrap_or_default();
    let delay = retry
        .delay_ms
        .map(|delay| format!(" in {:.1} s", delay / 1000.0))
        .unwrap_or_default();
    one_line(&format!(
        "the API failed ({why}): retry {}{of}{delay}",
        retry.attempt
    ))
}

/// First line with text, cut to [`LONGEST_CHARS`] and without control characters.
pub(crate) fn one_line(text: &str) -> String {
    let line = text
        .lines()
        .map(str::trim)
        .find(|line| !line.is_empty())
        .unwrap_or_default();
    let mut short: String = line
        .chars()
        .filter(|character| !character.is_control())
        .take(LONGEST_CHARS)
        .collect();
    if line.chars().nth(LONGEST_CHARS).is_some() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(name: &str, input: Value, expected: &str) {
        assert_eq!(of_tool(name, &input), expected);
    }

    #[test]
    fn tool_call_becomes_one_line() {
        check(
            "Bash",
            json!({"command": "npm test\nnpm run lint", "description": "Runs tests"}),
            "Bash: npm test",
        );
        check(
            "Edit",
            json!({"file_path": "/src/a.rs", "old_string": "x"}),
            "Edit: /src/a.rs",
        );
        check(
            "Agent",
            json!({"description": "Look around", "prompt": "…"}),
            "Agent: Look around",
        );
        check(
            "mcp__db__query",
            json!({"sql": "select 1"}),
            "mcp__db__query",
        );
        check(
            "Bash",
            json!({"command": "printf '\u{1b}[31mred'"}),
            "Bash: printf '[31mred'",
        );
        check(
            "Bash",
            json!({"command": "x".repeat(200)}),
            &format!("Bash: {}…", "x".repeat(94)),
        );
    }

    #[test]
    fn retry_names_its_reason_and_delay() {
        let retry = |status, error: Option<&str>| Retry {
            attempt: 2,
            max_retries: Some(10),
            delay_ms: Some(1092.4),
            error_status: status,
            error: error.map(str::to_owned),
        };
        assert_eq!(
            of_retry(&retry(Some(529), Some("overloaded"))),
            "the API failed (status 529): retry 2 of 10 in 1.1 s"
        );
        assert_eq!(
            of_retry(&retry(None, Some("unknown"))),
            "the API failed (no connection): retry 2 of 10 in 1.1 s"
        );
    }
}

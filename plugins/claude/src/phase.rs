//! One line on what the agent is doing, for people. It is shown as it is, so control characters are
//! taken out.

use serde_json::Value;

use crate::stream::{Block, Retry};

/// A line of a terminal with room for a task's name beside it.
const LONGEST_CHARS: usize = 100;

/// The field of a tool's input that says most about the call, first match first.
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

/// What the last tool call of a message does.
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

/// What says most about a call.
pub(crate) fn detail(input: &Value) -> Option<&str> {
    TELLING_FIELDS
        .iter()
        .find_map(|field| input.get(field)?.as_str())
}

/// What a retried request waits for.
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

/// The first line with text in it, cut to what a terminal shows.
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
    fn a_tool_call_is_one_line() {
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
    fn a_retry_says_what_it_waits_for() {
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

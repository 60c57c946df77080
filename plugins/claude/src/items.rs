//! Turns Claude Code's output into items for people.
//!
//! The outcome is derived from the same lines, but items also use the agent's text and the results
//! of its tools. Lines that are not events, and events in an unknown format, are shown unchanged
//! rather than dropped. Events of types that are unknown or tell people nothing are skipped.

use claudine_plugin_sdk::process::Line;
use claudine_plugin_sdk::{Item, ItemKind};
use serde_json::Value;

use crate::phase;
use crate::stream::{self, Assistant, Block, Detail, Event, Init, ToolResult, Verdict};

pub(crate) fn of_line(line: &Line) -> Vec<Item> {
    if line.is_cut() {
        let text = format!("({} bytes are not shown)", line.length_bytes);
        return vec![Item::new(ItemKind::Text, text)];
    }
    if line.bytes.iter().all(u8::is_ascii_whitespace) {
        return Vec::new();
    }
    match stream::parse_detail(&line.bytes) {
        Ok(Detail::Results(results)) => results.into_iter().filter_map(of_result).collect(),
        Ok(Detail::Denied(denied)) => {
            let text = denied.message.unwrap_or_else(|| "refused".to_owned());
            vec![Item::new(ItemKind::Denied, text).with("tool", denied.tool_name)]
        }
        Ok(Detail::Event(event)) => of_event(event),
        Err(_) => vec![Item::new(ItemKind::Text, line.text())],
    }
}

fn of_event(event: Event) -> Vec<Item> {
    match event {
        // Messages of a subagent are left out, because they would hide the agent's own steps.
        Event::Assistant(message) if message.parent_tool_use_id.is_some() => Vec::new(),
        Event::Assistant(message) => of_message(message),
        Event::Retry(retry) => vec![Item::new(ItemKind::Error, phase::of_retry(&retry))],
        Event::RateLimit(info) if info.status == "rejected" => {
            vec![Item::new(
                ItemKind::Error,
                "the account's usage limit is reached",
            )]
        }
        Event::Result(verdict) => of_verdict(&verdict),
        Event::Init(init) => failed_servers(&init),
        Event::RateLimit(_) | Event::Other => Vec::new(),
    }
}

/// MCP servers that the agent lacks because they failed.
fn failed_servers(init: &Init) -> Vec<Item> {
    let failed = init.mcp_servers.iter().filter(|server| {
        let status = server.status.as_deref();
        status == Some("failed")
    });
    let told = failed.map(|server| {
        let text = format!("the MCP server {} did not start", server.name);
        Item::new(ItemKind::Error, text)
    });
    told.collect()
}

fn of_message(message: Assistant) -> Vec<Item> {
    let kind = match message.error {
        Some(_) => ItemKind::Error,
        None => ItemKind::Text,
    };
    let blocks = message.message.content.into_iter();
    blocks
        .filter_map(|block| match block {
            Block::Text { text } if !text.trim().is_empty() => Some(Item::new(kind, text)),
            Block::ToolUse { name, input } => {
                let text = phase::detail(&input).unwrap_or_default();
                Some(Item::new(ItemKind::Tool, text).with("tool", name))
            }
            Block::Text { .. } | Block::Other => None,
        })
        .collect()
}

/// The item for the result of a tool; none for a denial, because denials have their own event.
fn of_result(result: ToolResult) -> Option<Item> {
    let text = flat(result.content);
    if result.is_refused || text.trim().is_empty() {
        return None;
    }
    let item = Item::new(ItemKind::Result, text);
    Some(if result.is_error {
        item.with("failed", "true")
    } else {
        item
    })
}

/// Text of a content block, or of its parts.
fn flat(content: Value) -> String {
    match content {
        Value::String(text) => text,
        Value::Array(parts) => parts
            .into_iter()
            .filter_map(|mut part| match part.get_mut("text").map(Value::take) {
                Some(Value::String(text)) => Some(text),
                _ => None,
            })
            .collect::<Vec<_>>()
            .join("\n"),
        _ => String::new(),
    }
}

/// Items for the end of a run, without the result's text, because the agent has printed this text
/// already.
fn of_verdict(verdict: &Verdict) -> Vec<Item> {
    let errors = verdict.errors.iter().flatten();
    let mut items: Vec<Item> = errors
        .map(|error| Item::new(ItemKind::Error, error))
        .collect();
    // Versions of Claude Code without this field report the cost of the run, and print one result
    // per run.
    let spent = verdict.since_last_usd().or(verdict.total_cost_usd);
    if let Some(usd) = spent.filter(|usd| *usd > 0.0) {
        let item = Item::new(ItemKind::Cost, format!("{usd:.4} USD"));
        items.push(item.with("cost-usd", usd.to_string()));
    }
    items
}

#[cfg(test)]
mod tests {
    use claudine_plugin_sdk::transcript::by_line;

    use super::*;
    use crate::transcript::LONGEST_LINE_BYTES;
    use crate::transcript::tests::fixture;

    /// Reads a recorded run in pieces of this length. Returns a line with kind, tool and text for
    /// each item.
    fn read(recorded: &str, piece_bytes: usize) -> Vec<String> {
        let (mut state, mut lines) = (Vec::new(), Vec::new());
        let pieces = recorded.as_bytes().chunks(piece_bytes);
        for piece in pieces.chain([&[][..]]) {
            let reading = by_line(piece, &state, LONGEST_LINE_BYTES, of_line);
            state = reading.state;
            lines.extend(reading.items.iter().map(shown));
        }
        lines
    }

    fn shown(item: &Item) -> String {
        let mut line = item.kind.as_str().to_owned();
        for (name, value) in &item.more {
            line.extend([" ", name, "=", value]);
        }
        format!("{line}: {}", item.text)
    }

    #[test]
    fn run_is_shown_with_texts_tool_calls_and_costs() {
        let expected = [
            "tool tool=Bash: echo hi; echo err >&2",
            "result: hi\nerr",
            "text: done",
            "cost cost-usd=0.0016: 0.0016 USD",
        ];
        for piece_bytes in [1, 7, 1000, usize::MAX] {
            assert_eq!(read(fixture!("bash"), piece_bytes), expected);
        }
    }

    #[test]
    fn denial_is_shown_once() {
        let lines = read(fixture!("denied"), 1000);
        assert_eq!(
            lines[..3],
            [
                "tool tool=Bash: git init x",
                "denied tool=Bash: This command requires approval",
                "text: I could not"
            ]
        );
    }

    #[test]
    fn failures_are_shown_as_errors() {
        let lines = read(fixture!("overloaded"), 1000);
        assert_eq!(
            lines[0],
            "error: the API failed (status 529): retry 1 of 10 in 0.6 s"
        );
        let lines = read(fixture!("usage_limit"), 1000);
        assert_eq!(lines[0], "error: the account's usage limit is reached");
        let lines = read(fixture!("mcp_failed"), 1000);
        assert_eq!(lines[0], "error: the MCP server dead did not start");
    }

    #[test]
    fn line_that_is_not_an_event_is_shown_unchanged_and_an_unknown_event_is_skipped() {
        assert_eq!(read("npm notice\n\n", 1000), ["text: npm notice"]);
        assert_eq!(
            read("{\"type\": \"user\"", 3),
            ["text: {\"type\": \"user\""]
        );
        let hologram = r#"{"type":"hologram"}"#;
        assert_eq!(read(hologram, 1000), [""; 0]);
    }
}

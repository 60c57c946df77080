//! The bytes of an answer: server-sent events for a streaming request, one JSON document for any
//! other request.
//!
//! The figures of `usage` are fixed, so that costs are the same in every run.

use serde_json::{Value, json};

use super::script::Step;

const INPUT_TOKENS: u32 = 100;
const OUTPUT_TOKENS: u32 = 20;

/// Writes one message as events, piece by piece.
pub(crate) struct Events {
    message_id: String,
    next_block: usize,
    text_open: bool,
    used_tool: bool,
}

impl Events {
    pub(crate) fn new(number: usize) -> Self {
        Self {
            message_id: format!("msg_{number:08}"),
            next_block: 0,
            text_open: false,
            used_tool: false,
        }
    }

    pub(crate) fn start(&self, model: &str) -> String {
        let message = json!({
            "id": self.message_id, "type": "message", "role": "assistant", "model": model, "content": [],
            "stop_reason": null, "stop_sequence": null,
            "usage": { "input_tokens": INPUT_TOKENS, "output_tokens": 1 },
        });
        event("message_start", json!({ "message": message }))
    }

    pub(crate) fn text(&mut self, text: &str) -> String {
        let mut out = String::new();
        if !self.text_open {
            out += &event(
                "content_block_start",
                json!({ "index": self.next_block, "content_block": { "type": "text", "text": "" } }),
            );
            self.text_open = true;
        }
        out + &event(
            "content_block_delta",
            json!({ "index": self.next_block, "delta": { "type": "text_delta", "text": text } }),
        )
    }

    pub(crate) fn tool(&mut self, name: &str, input: &Value) -> String {
        let mut out = self.close_text();
        let index = self.next_block;
        let block = json!({ "type": "tool_use", "id": tool_id(&self.message_id, index), "name": name, "input": {} });
        out += &event(
            "content_block_start",
            json!({ "index": index, "content_block": block }),
        );
        let delta = json!({ "type": "input_json_delta", "partial_json": input.to_string() });
        out += &event(
            "content_block_delta",
            json!({ "index": index, "delta": delta }),
        );
        out += &event("content_block_stop", json!({ "index": index }));
        self.next_block += 1;
        self.used_tool = true;
        out
    }

    pub(crate) fn end(&mut self) -> String {
        let mut out = self.close_text();
        let delta = json!({ "stop_reason": stop_reason(self.used_tool), "stop_sequence": null });
        out += &event(
            "message_delta",
            json!({ "delta": delta, "usage": { "output_tokens": OUTPUT_TOKENS } }),
        );
        out + &event("message_stop", json!({}))
    }

    fn close_text(&mut self) -> String {
        if !self.text_open {
            return String::new();
        }
        self.text_open = false;
        self.next_block += 1;
        event(
            "content_block_stop",
            json!({ "index": self.next_block - 1 }),
        )
    }
}

/// The whole message as one document.
pub(crate) fn document(number: usize, model: &str, steps: &[Step]) -> Value {
    let id = format!("msg_{number:08}");
    let content: Vec<Value> = steps
        .iter()
        .enumerate()
        .filter_map(|(index, step)| match step {
            Step::Text(text) => Some(json!({ "type": "text", "text": text })),
            Step::Tool { name, input } => {
                Some(json!({ "type": "tool_use", "id": tool_id(&id, index), "name": name, "input": input }))
            }
            Step::Pause(_) | Step::Cut => None,
        })
        .collect();
    let used_tool = steps.iter().any(|step| matches!(step, Step::Tool { .. }));
    json!({
        "id": id, "type": "message", "role": "assistant", "model": model, "content": content,
        "stop_reason": stop_reason(used_tool), "stop_sequence": null,
        "usage": { "input_tokens": INPUT_TOKENS, "output_tokens": OUTPUT_TOKENS },
    })
}

fn tool_id(message_id: &str, index: usize) -> String {
    format!("toolu_{message_id}_{index}")
}

fn stop_reason(used_tool: bool) -> &'static str {
    if used_tool { "tool_use" } else { "end_turn" }
}

fn event(name: &str, mut data: Value) -> String {
    data["type"] = Value::from(name);
    format!("event: {name}\ndata: {data}\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_text_share_a_block_until_a_tool_call() {
        let mut events = Events::new(1);
        let all = [
            events.start("m"),
            events.text("a"),
            events.text("b"),
            events.tool("Bash", &json!({})),
            events.end(),
        ]
        .concat();
        let names: Vec<&str> = all
            .lines()
            .filter_map(|line| line.strip_prefix("event: "))
            .collect();
        assert_eq!(
            names,
            [
                "message_start",
                "content_block_start",
                "content_block_delta",
                "content_block_delta",
                "content_block_stop",
                "content_block_start",
                "content_block_delta",
                "content_block_stop",
                "message_delta",
                "message_stop",
            ]
        );
        assert!(all.contains(r#""stop_reason":"tool_use""#));
    }
}

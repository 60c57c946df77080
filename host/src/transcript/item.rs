//! An item of a transcript, as plain data.

use claudine_domain::time::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{clock::rfc3339, plugin, supervise::log::Channel, units};

/// Size limit of an item's text. The raw output has the whole text.
const LONGEST_TEXT_BYTES: usize = 64 << 10;

/// One of the two output streams of a task.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LogChannel {
    Stdout,
    Stderr,
}

impl From<Channel> for LogChannel {
    fn from(channel: Channel) -> Self {
        match channel {
            Channel::Stdout => Self::Stdout,
            Channel::Stderr => Self::Stderr,
        }
    }
}

/// Kinds of items.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// Text written by an agent.
    Text,
    /// A tool call.
    Tool,
    /// Result of a tool call.
    Result,
    /// A denied tool call.
    Denied,
    /// Cost since the last item that gave the cost.
    Cost,
    /// A failure.
    Error,
    /// Lines as they were written, with their colours: lines of a command, of standard error, or of
    /// output that is not part of another item.
    Output,
}

impl From<plugin::ItemKind> for Kind {
    fn from(kind: plugin::ItemKind) -> Self {
        match kind {
            plugin::ItemKind::Text => Self::Text,
            plugin::ItemKind::Tool => Self::Tool,
            plugin::ItemKind::Result => Self::Result,
            plugin::ItemKind::Denied => Self::Denied,
            plugin::ItemKind::Cost => Self::Cost,
            plugin::ItemKind::Error => Self::Error,
        }
    }
}

/// A part of an attempt's output, for people.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Item {
    /// Time at which the last part of the item was written, in RFC 3339. Absent if unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) at: Option<String>,
    pub(crate) stream: LogChannel,
    pub(crate) kind: Kind,
    /// Text. It may have several lines and is not escaped.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) text: String,
    /// Name of the called or denied tool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tool: Option<String>,
    /// Whether the tool failed, if the item is a result.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) failed: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cost_usd: Option<f64>,
    /// Number of drawn lines to skip at the beginning, because they exceed the requested number.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) skip_lines: u64,
}

#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_false(value: &bool) -> bool {
    !value
}

#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_zero(value: &u64) -> bool {
    *value == 0
}

impl Item {
    pub(crate) fn new(
        at: Option<Timestamp>,
        stream: LogChannel,
        kind: Kind,
        text: impl Into<String>,
    ) -> Self {
        Self {
            at: at.map(rfc3339),
            stream,
            kind,
            text: text.into(),
            tool: None,
            failed: false,
            cost_usd: None,
            skip_lines: 0,
        }
    }

    /// Whether the next item begins in the middle of this item's last line.
    pub(super) fn is_continued_by(&self, next: &Self) -> bool {
        let are_output = self.kind == Kind::Output && next.kind == Kind::Output;
        are_output && self.stream == next.stream && !self.text.ends_with('\n')
    }

    /// An item made by an executor.
    pub(super) fn of(made: plugin::TranscriptItem, at: Timestamp) -> Self {
        let text = shortened(made.text);
        let mut item = Self::new(Some(at), LogChannel::Stdout, made.kind.into(), text);
        for (name, value) in made.more {
            match name.as_str() {
                "tool" => item.tool = Some(shortened(value)),
                "failed" => item.failed = value == "true",
                "cost-usd" => {
                    let told: Option<f64> = value.parse().ok();
                    item.cost_usd = told.filter(|usd| units::told_micro_usd(*usd).is_some());
                }
                _ => {}
            }
        }
        item
    }
}

fn shortened(text: String) -> String {
    let (shown, more) = text.split_at(text.floor_char_boundary(LONGEST_TEXT_BYTES));
    if more.is_empty() {
        return text;
    }
    let more = more.len();
    format!("{shown}\n[claudine: {more} bytes more of this: `claudine logs --raw`]")
}

/// Position of a reader. The reader has already received everything before these offsets in the
/// selected output.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Place {
    pub(crate) stdout: u64,
    pub(crate) stderr: u64,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn made(more: &[(&str, &str)]) -> Item {
        let more = more.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned()));
        let made = plugin::TranscriptItem {
            kind: plugin::ItemKind::Tool,
            text: "ls".to_owned(),
            more: more.collect(),
        };
        Item::of(made, Timestamp(7))
    }

    #[test]
    fn invalid_details_of_an_item_are_ignored() {
        let item = made(&[("tool", "Bash"), ("failed", "true"), ("cost-usd", "0.5")]);
        assert_eq!(item.tool.as_deref(), Some("Bash"));
        assert_eq!((item.failed, item.cost_usd), (true, Some(0.5)));
        for cost in ["NaN", "-1", "1e300"] {
            let item = made(&[("failed", "yes"), ("cost-usd", cost), ("colour", "red")]);
            assert_eq!((item.failed, item.cost_usd, item.tool), (false, None, None));
        }
    }

    #[test]
    fn a_long_text_is_cut() {
        let text = shortened("ä".repeat(1 << 20));
        assert!(text.len() < LONGEST_TEXT_BYTES + 100);
        assert!(text.ends_with("bytes more of this: `claudine logs --raw`]"));
        assert_eq!(shortened("short".to_owned()), "short");
    }

    #[test]
    fn unset_fields_are_not_sent() {
        let item = Item::new(None, LogChannel::Stderr, Kind::Output, "x");
        let json = serde_json::to_string(&item).unwrap();
        let expected = r#"{"stream":"stderr","kind":"output","text":"x"}"#;
        assert_eq!(json, expected);
        assert_eq!(serde_json::from_str::<Item>(&json).unwrap(), item);
    }
}

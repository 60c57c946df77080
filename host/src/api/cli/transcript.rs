//! Shows the output of tasks on the terminal: an agent's items with their times, and a command's
//! lines.

use claudine_domain::time::Timestamp;

use super::{
    terminal::{Colour, Look, Painted, fit, harmless},
    times,
};
use crate::{
    app::{Item, LogEnd, Style, lines_of},
    text::{columns, short_id, shortened},
    units::bytes_text,
};

/// Limit of the characters shown of one line.
const WRITTEN_CHARS: usize = 2_000;
/// Style of standard error: faint and red.
const STDERR_STYLE: &str = "2;31";

/// Draws items, each after its time.
#[derive(Clone, Copy)]
pub(super) struct Drawing {
    pub(super) look: Look,
    pub(super) now: Timestamp,
    /// Whether times are shown, as for agents.
    pub(super) has_times: bool,
}

impl Drawing {
    pub(super) fn draw(self, items: &[Item]) -> Painted {
        let mut drawn = Painted::default();
        for item in items {
            self.draw_one(item, &mut drawn);
        }
        drawn
    }

    fn draw_one(self, item: &Item, drawn: &mut Painted) {
        let time = item.at.as_deref().filter(|_| self.has_times);
        let time = time.map(|at| times::to_the_second(at, self.now) + " ");
        let time = time.unwrap_or_default();
        let indent = " ".repeat(columns(&time));
        for (index, line) in lines_of(item).into_iter().enumerate() {
            match index {
                0 => self.look.paint(drawn, Colour::Grey, &time),
                _ => drawn.push(&indent),
            }
            let mut room = self.look.columns.filter(|_| line.is_cut);
            room = room.map(|columns| columns.saturating_sub(indent.len()));
            for (style, word) in line.words {
                let word = match room {
                    Some(most) => fit(&harmless(&word), most),
                    None => word,
                };
                room = room.map(|most| most.saturating_sub(columns(&word)));
                self.word(style, &word, drawn);
            }
            drawn.push("\n");
        }
    }

    fn word(self, style: Style, word: &str, drawn: &mut Painted) {
        let colours = self.look.colours;
        match style {
            Style::Text => drawn.push(word),
            Style::Mark => self.look.paint(drawn, Colour::Cyan, word),
            Style::Name => self.look.paint(drawn, Colour::Bold, word),
            Style::Faint => self.look.paint(drawn, Colour::Grey, word),
            Style::Failed => self.look.paint(drawn, Colour::Red, word),
            Style::Written => drawn.push_written(colours, None, &short(word)),
            Style::WrittenToStderr => {
                drawn.push_written(colours, Some(STDERR_STYLE), &short(word));
            }
        }
    }
}

fn short(line: &str) -> String {
    shortened(line, WRITTEN_CHARS)
}

/// The last lines of the output below a heading; empty if there is no output. The `result` is left
/// out, because it is shown elsewhere.
pub(super) fn end_of(end: &LogEnd, result: Option<&str>, look: Look, now: Timestamp) -> Painted {
    let drawing = Drawing {
        look,
        now,
        has_times: end.is_transcript,
    };
    let said = |item: &Item| Some(item.text.trim()) == result.map(str::trim);
    let items = end.items.iter().filter(|item| !said(item));
    let items: Vec<Item> = items.cloned().collect();
    let drawn = drawing.draw(&items);
    let mut text = Painted::default();
    if drawn.as_str().trim().is_empty() {
        return text;
    }
    let heading = if end.is_transcript {
        "Transcript"
    } else {
        "Output"
    };
    text.push(&format!("\n{heading}:\n"));
    if let Some(earlier) = earlier(end) {
        look.paint(&mut text, Colour::Grey, &earlier);
        text.push("\n");
    }
    text.append(&drawn);
    text
}

/// The line about output that is not shown: `… 21 earlier lines: claudine logs ID`.
fn earlier(end: &LogEnd) -> Option<String> {
    let before = match (end.earlier_lines, end.unread_bytes) {
        (Some(0), _) => return None,
        (Some(1), _) => "1 earlier line".to_owned(),
        (Some(lines), _) => format!("{lines} earlier lines"),
        (None, bytes) => format!("more than {} before", bytes_text(bytes)),
    };
    Some(format!("… {before}: claudine logs {}", short_id(&end.id)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::app::LogChannel;

    fn end(json: serde_json::Value) -> LogEnd {
        let mut whole = serde_json::json!({
            "id": "task_1", "is_transcript": false, "items": [], "earlier_lines": 0,
            "unread_bytes": 0,
        });
        if let (Some(whole), serde_json::Value::Object(json)) = (whole.as_object_mut(), json) {
            whole.extend(json);
        }
        serde_json::from_value(whole).unwrap()
    }

    fn shown(end: &LogEnd, result: Option<&str>, look: Look) -> String {
        let now = Timestamp(1_795_359_153_042);
        end_of(end, result, look, now).as_str().to_owned()
    }

    const PLAIN: Look = Look {
        colours: false,
        columns: None,
    };
    const NARROW: Look = Look {
        colours: true,
        columns: Some(30),
    };

    #[test]
    fn both_streams_of_a_command_are_shown_in_order() {
        let end = end(serde_json::json!({"earlier_lines": 21, "items": [
            {"stream": "stdout", "kind": "output", "text": "\u{1b}[32mPASS\u{1b}[0m a\n"},
            {"stream": "stderr", "kind": "output", "text": "FAIL\u{1b}[2J\n\nb"},
        ]}));
        let expected =
            "\nOutput:\n… 21 earlier lines: claudine logs 1\nPASS a\nFAIL\\u{1b}[2J\n\nb\n";
        assert_eq!(shown(&end, None, PLAIN), expected);
        let coloured = shown(&end, None, NARROW);
        assert!(
            coloured.contains("\u{1b}[32mPASS\u{1b}[0m a"),
            "{coloured:?}"
        );
        assert!(coloured.contains("\u{1b}[2;31mb\u{1b}[0m"), "{coloured:?}");
    }

    #[test]
    fn a_transcript_has_times_and_fits_the_terminal() {
        let item = |kind: &str, text: &str| serde_json::json!({"at": "soon", "stream": "stdout", "kind": kind, "text": text, "tool": "Bash"});
        let end = end(
            serde_json::json!({"is_transcript": true, "earlier_lines": null, "unread_bytes": 300_000, "items": [
                item("tool", "sed -i s/apples/pears/ cart.py"),
                item("denied", "needs approval"),
                item("text", "I could not do it, and say so at length.\nEnd."),
                item("text", "the result\n"),
            ]}),
        );
        let look = Look {
            colours: false,
            ..NARROW
        };
        let shown = shown(&end, Some("the result"), look);
        insta::assert_snapshot!(shown.trim_start(), @"
        Transcript:
        … more than 292.9 KiB before: claudine logs 1
        soon ● Bash  sed -i s/apples/…
        soon   ✗ denied: needs approval
        soon I could not do it, and say so at length.
             End.
        ");
    }

    #[test]
    fn an_empty_output_has_no_heading() {
        assert_eq!(shown(&end(serde_json::json!({})), None, PLAIN), "");
        let item =
            serde_json::json!({"stream": LogChannel::Stdout, "kind": "output", "text": "\n"});
        let blank = end(serde_json::json!({ "items": [item] }));
        assert_eq!(shown(&blank, None, PLAIN), "");
    }
}

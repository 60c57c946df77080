//! Turns items into lines. The number of lines depends only on the item, so that counting the lines
//! gives the same number as drawing them.

use super::{Item, Kind, LogChannel};
use crate::{text::plain, units::dollars_text};

/// Maximum number of lines that are shown of a tool's result.
const RESULT_LINES: usize = 6;
/// Number of lines that are shown of the beginning and of the end of a longer result.
const RESULT_HEAD: usize = 3;
const RESULT_TAIL: usize = 2;
/// Length limit of a call, or of a line of a result, if there is no terminal. For a terminal, lines
/// are cut to its width.
const SHORT_CHARS: usize = 200;

/// Meaning of a word in a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Style {
    Text,
    /// The symbol of a tool call.
    Mark,
    /// The name of a tool.
    Name,
    /// Less important text.
    Faint,
    Failed,
    /// Text with the colours that a program gave it.
    Written,
    /// Text that a program wrote to standard error, with its colours.
    WrittenToStderr,
}

/// A line without its newline.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Line {
    pub(crate) words: Vec<(Style, String)>,
    /// Whether the line is cut to the available width. Lines whose ends are less important are cut.
    pub(crate) is_cut: bool,
}

impl Line {
    fn of(words: impl IntoIterator<Item = (Style, String)>) -> Self {
        Self {
            words: words.into_iter().collect(),
            is_cut: false,
        }
    }

    fn cut(words: impl IntoIterator<Item = (Style, String)>) -> Self {
        let mut line = Self::of(words);
        line.is_cut = true;
        line
    }

    /// The text without styles, cut to the length limit that applies without a terminal.
    fn text(&self) -> String {
        let words = self.words.iter();
        let text: String = words.map(|(_, word)| plain(word)).collect();
        match text.char_indices().nth(SHORT_CHARS) {
            Some((end, _)) if self.is_cut => format!("{}…", &text[..end]),
            _ => text,
        }
    }
}

/// The lines of an item, without the lines to skip.
pub(crate) fn lines_of(item: &Item) -> Vec<Line> {
    let mut lines = all_lines_of(item);
    let more = usize::try_from(item.skip_lines).unwrap_or(usize::MAX);
    lines.drain(..more.min(lines.len()));
    lines
}

/// The items as text without colours. The text is not escaped. A long line that was split over
/// several items becomes one line again.
pub(crate) fn text_of<'a>(items: impl IntoIterator<Item = &'a Item>) -> String {
    let mut text = String::new();
    let mut before = None;
    for item in items {
        if before.is_some_and(|before: &Item| before.is_continued_by(item)) {
            text.pop();
        }
        for line in lines_of(item) {
            text.push_str(&line.text());
            text.push('\n');
        }
        before = Some(item);
    }
    text
}

fn all_lines_of(item: &Item) -> Vec<Line> {
    let text = item.text.trim_end();
    match item.kind {
        Kind::Text => plain_lines(text)
            .map(|line| Line::of([(Style::Text, line)]))
            .collect(),
        Kind::Tool => vec![call(item.tool.as_deref(), text)],
        Kind::Result => result(text, item.failed),
        Kind::Denied => {
            let why = match (text.is_empty(), &item.tool) {
                (true, Some(tool)) => tool,
                _ => text,
            };
            marked("  ✗ denied: ", "    ", why)
        }
        Kind::Cost => {
            let cost = item.cost_usd.map_or_else(
                || text.to_owned(),
                |usd| format!("cost {}", dollars_text(usd)),
            );
            let cost = plain(&cost).replace('\n', " ");
            let line = (!cost.is_empty()).then(|| Line::of([(Style::Faint, cost)]));
            line.into_iter().collect()
        }
        Kind::Error => marked("✗ ", "  ", text),
        Kind::Output => {
            let style = match item.stream {
                LogChannel::Stdout => Style::Written,
                LogChannel::Stderr => Style::WrittenToStderr,
            };
            // Empty lines of output are kept, even at the end.
            item.text
                .lines()
                .map(|line| Line::of([(style, line.to_owned())]))
                .collect()
        }
    }
}

fn plain_lines(text: &str) -> impl Iterator<Item = String> {
    let text = plain(text);
    let lines: Vec<String> = text
        .trim_start_matches('\n')
        .lines()
        .map(str::to_owned)
        .collect();
    lines.into_iter()
}

/// Makes the line `● Bash  npm test`: the tool, and the first line of its argument.
fn call(tool: Option<&str>, argument: &str) -> Line {
    let argument = plain(argument);
    let mut lines = argument.lines().filter(|line| !line.trim().is_empty());
    let first = lines.next().unwrap_or_default().trim();
    let more = if lines.next().is_some() { " …" } else { "" };
    let mut words = vec![
        (Style::Mark, "● ".to_owned()),
        (
            Style::Name,
            plain(tool.unwrap_or("tool")).replace('\n', " "),
        ),
    ];
    if !first.is_empty() {
        words.push((Style::Text, format!("  {first}{more}")));
    }
    Line::cut(words)
}

fn result(text: &str, failed: bool) -> Vec<Line> {
    let lines: Vec<String> = plain_lines(text).collect();
    let style = if failed { Style::Failed } else { Style::Faint };
    let shown = |line: &String| Line::cut([(style, format!("  {line}"))]);
    let mut drawn: Vec<Line> = if lines.len() <= RESULT_LINES {
        lines.iter().map(shown).collect()
    } else {
        let (head, rest) = lines.split_at(RESULT_HEAD);
        let (between, tail) = rest.split_at(rest.len() - RESULT_TAIL);
        let left_out = format!("  … {} more lines", between.len());
        let left_out = Line::of([(Style::Faint, left_out)]);
        let ends = [head.iter(), tail.iter()].map(|lines| lines.map(shown).collect::<Vec<_>>());
        ends.join(&left_out)
    };
    if failed && let Some((_, word)) = drawn.first_mut().and_then(|line| line.words.first_mut()) {
        word.insert_str(2, "✗ ");
    }
    drawn
}

/// Makes lines. The first line is preceded by `first`, and each other line by `others`.
fn marked(first: &str, others: &str, text: &str) -> Vec<Line> {
    let lines = plain_lines(text).enumerate();
    let mut lines: Vec<Line> = lines
        .map(|(index, line)| {
            let before = if index == 0 { first } else { others };
            Line::of([(Style::Failed, before.to_owned()), (Style::Text, line)])
        })
        .collect();
    if lines.is_empty() {
        lines.push(Line::of([(Style::Failed, first.trim_end().to_owned())]));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(kind: Kind, text: &str) -> Item {
        Item::new(None, LogChannel::Stdout, kind, text)
    }

    fn tool(name: &str, argument: &str) -> Item {
        Item {
            tool: Some(name.to_owned()),
            ..item(Kind::Tool, argument)
        }
    }

    #[test]
    fn each_kind_of_item_is_drawn() {
        let denied = Item {
            tool: Some("Bash".to_owned()),
            ..item(Kind::Denied, "This command requires approval")
        };
        let cost = Item {
            cost_usd: Some(0.0016),
            ..item(Kind::Cost, "0.0016 USD")
        };
        let failed = Item {
            failed: true,
            ..item(Kind::Result, "Exit code 1\nno such file")
        };
        let seq = "1\n2\n3\n4\n5\n6\n7\n8\n9\n";
        let items = [
            item(Kind::Text, "\nI look at it.\n\nThen:\n"),
            tool("Bash", "\x1b[1msed\x1b[0m -i s/a/b/ cart.py"),
            item(Kind::Result, "1\n2\n3\n4\n5\n6\n"),
            tool("Bash", "cat <<EOF\nx\nEOF"),
            item(Kind::Result, seq),
            failed,
            tool("TodoWrite", ""),
            denied,
            item(Kind::Error, "the API failed\ntwice"),
            Item::new(
                None,
                LogChannel::Stderr,
                Kind::Output,
                "warning\n\n\x1b[31mred",
            ),
            cost,
        ];
        insta::assert_snapshot!(text_of(&items), @"
        I look at it.

        Then:
        ● Bash  sed -i s/a/b/ cart.py
          1
          2
          3
          4
          5
          6
        ● Bash  cat <<EOF …
          1
          2
          3
          … 4 more lines
          8
          9
          ✗ Exit code 1
          no such file
        ● TodoWrite
          ✗ denied: This command requires approval
        ✗ the API failed
          twice
        warning

        red
        cost $0.0016
        ");
    }

    #[test]
    fn an_empty_item_has_no_lines() {
        let check = |item: Item, expected: &str| assert_eq!(text_of([&item]), expected);
        check(item(Kind::Text, " \n"), "");
        check(item(Kind::Result, ""), "");
        check(item(Kind::Output, ""), "");
        check(item(Kind::Output, "\n"), "\n");
        check(item(Kind::Denied, ""), "  ✗ denied:\n");
        check(item(Kind::Tool, " "), "● tool\n");
    }

    #[test]
    fn long_calls_are_cut_and_texts_are_not() {
        let long = "x".repeat(10_000);
        assert_eq!(text_of([&item(Kind::Text, &long)]).len(), 10_001);
        let call = text_of([&tool("Bash", &long)]);
        assert_eq!(call.chars().count(), SHORT_CHARS + 2);
    }

    #[test]
    fn lines_beyond_the_requested_number_are_skipped() {
        let item = Item {
            skip_lines: 2,
            ..item(Kind::Text, "1\n2\n3")
        };
        assert_eq!(text_of([&item]), "3\n");
    }
}

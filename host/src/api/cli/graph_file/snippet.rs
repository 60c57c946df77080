//! Shows a line of the file with a mark below it.

use crate::text::{columns, harmless};

/// Length limit of the shown part of a line.
const SHOWN_CHARS: usize = 68;
/// Length limit of the part before the mark, if a line is too long to be shown whole.
const BEFORE_CHARS: usize = 44;

/// The line, cut to the surroundings of the column, with a mark below it.
pub(super) fn snippet(text: &str, line: u64, column: u64) -> String {
    let at = usize::try_from(column.saturating_sub(1)).unwrap_or(usize::MAX);
    let from = if text.chars().count() > SHOWN_CHARS {
        at.saturating_sub(BEFORE_CHARS)
    } else {
        0
    };
    let part = |from: usize, count: usize| -> String {
        let part: String = text.chars().skip(from).take(count).collect();
        harmless(&part.replace('\t', " "))
    };
    let before = part(from, at - from.min(at));
    let number = line.to_string();
    let mark = " ".repeat(columns(&before));
    let shown = part(from, SHOWN_CHARS);
    format!("{number} | {shown}\n{} | {mark}^", " ".repeat(number.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_is_below_the_mistake() {
        let check = |text: &str, column: u64, expected: &str| {
            assert_eq!(snippet(text, 7, column), expected);
        };
        check("- {nmae: b}", 4, "7 | - {nmae: b}\n  |    ^");
        check("\t漢x: 1", 3, "7 |  漢x: 1\n  |    ^");
        check("", 1, "7 | \n  | ^");
        let long = format!("{}x{}", "a".repeat(100), "b".repeat(100));
        let cut = snippet(&long, 7, 101);
        let lines: Vec<&str> = cut.lines().collect();
        assert_eq!(lines[0].chars().count(), 4 + SHOWN_CHARS);
        assert_eq!(lines[0].find('x'), lines[1].find('^'), "{cut}");
        assert!(!snippet("a\u{1b}[2Jb", 1, 5).contains('\u{1b}'));
    }
}

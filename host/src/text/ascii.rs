//! Text for a terminal that knows no Unicode.

/// The same with the signs that Claudine draws with replaced, each by one of the same width. What
/// others have written stays as it is.
pub(crate) fn ascii(text: &str) -> String {
    text.chars().map(replaced).collect()
}

fn replaced(c: char) -> char {
    match c {
        '✓' => '+',
        '✗' => 'x',
        '●' | '⋯' => '*',
        '◆' => '#',
        '○' => 'o',
        '⏸' => '=',
        '⊘' | '·' | '─' | '⠹' | '⠦' => '-',
        '…' => '~',
        '│' | '├' | '⠋' | '⠼' | '⠇' => '|',
        '╰' => '`',
        '↓' => 'v',
        '↑' => '^',
        '→' | '▸' => '>',
        // With some of the others, the frames of a spinner.
        '⠙' | '⠴' | '⠏' => '/',
        '⠸' | '⠧' => '\\',
        c => c,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::columns;

    #[test]
    fn only_our_own_signs_are_replaced() {
        let check = |text: &str, expected: &str| {
            assert_eq!(ascii(text), expected);
            assert_eq!(columns(text), columns(expected), "{text}");
        };
        check("✓ succeeded · ✗ failed", "+ succeeded - x failed");
        check("● running ○ ready ⏸ held ⊘", "* running o ready = held -");
        check("├─ a\n╰─ ↑ b…", "|- a\n`- ^ b~");
        check("漢字 naïve", "漢字 naïve");
    }
}

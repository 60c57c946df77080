//! Replaces Unicode symbols for terminals that show only ASCII.

/// Replaces each symbol that Claudine draws by an ASCII character of the same width. All other text
/// is unchanged.
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
        // These symbols and some of the others are the frames of the spinner.
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
    fn only_our_own_symbols_are_replaced() {
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

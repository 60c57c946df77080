//! The animated line at the foot of the terminal while a command waits.

use std::io::{self, Write};

use super::{output, terminal};

const FRAMES: [&str; 10] = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];

pub(super) struct Spinner {
    /// Whether the line is shown, which needs a terminal that can move its cursor.
    shown: bool,
    drawn: bool,
    frame: usize,
}

impl Spinner {
    pub(super) fn new(shown: bool) -> Self {
        Self {
            shown,
            drawn: false,
            frame: 0,
        }
    }

    /// A spinner on standard error, shown only on a terminal that can move its cursor.
    pub(super) fn on_terminal() -> Self {
        Self::new(terminal::stderr_can_move())
    }

    pub(super) fn is_shown(&self) -> bool {
        self.shown
    }

    pub(super) fn draw(&mut self, text: &str) {
        if !self.shown {
            return;
        }
        self.frame = (self.frame + 1) % FRAMES.len();
        let line = line(FRAMES[self.frame], text, terminal::stderr_columns());
        put(&format!("\r\x1b[K{line}"));
        self.drawn = true;
    }

    pub(super) fn clear(&mut self) {
        if self.drawn {
            put("\r\x1b[K");
            self.drawn = false;
        }
    }
}

/// Erases the line at the end of the wait, also if the wait ends with an error, so that later
/// output begins at the start of a line.
impl Drop for Spinner {
    fn drop(&mut self) {
        self.clear();
    }
}

/// The line, cut to less than the width of the terminal, because a wrapped line could not be
/// erased.
fn line(frame: &str, text: &str, columns: usize) -> String {
    terminal::fit(&format!("{frame} {text}"), columns.saturating_sub(1))
}

/// Writes the line; errors are ignored, because the line is only decoration.
fn put(text: &str) {
    let mut stderr = io::stderr().lock();
    drop(
        stderr
            .write_all(output::as_shown(text).as_bytes())
            .and_then(|()| stderr.flush()),
    );
}

#[cfg(test)]
mod tests {
    use super::line;

    #[test]
    fn the_line_is_cut_to_the_width_of_the_terminal() {
        let check = |columns: usize, expected: &str| {
            assert_eq!(line("⠋", "running 12s  Bash: npm test", columns), expected);
        };
        check(80, "⠋ running 12s  Bash: npm test");
        check(24, "⠋ running 12s  Bash: n…");
        check(0, "…");
    }
}

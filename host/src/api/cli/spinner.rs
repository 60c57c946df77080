//! The line at the foot of the terminal while a task runs: its state, how long it has been at it, and what it says it is doing.

use std::{
    io::{self, Write},
    time::Duration,
};

use super::{output, terminal, text};
use crate::{app::TaskView, clock};

const FRAMES: [&str; 10] = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];

pub(super) struct Spinner {
    /// Not on a terminal: nothing is drawn.
    shown: bool,
    drawn: bool,
    frame: usize,
    state: String,
    doing: Option<String>,
    since: Duration,
}

impl Spinner {
    pub(super) fn new(shown: bool) -> Self {
        Self {
            shown,
            drawn: false,
            frame: 0,
            state: "submitted".to_owned(),
            doing: None,
            since: clock::monotonic(),
        }
    }

    pub(super) fn is_shown(&self) -> bool {
        self.shown
    }

    pub(super) fn state(&mut self, task: &TaskView) {
        self.state = terminal::harmless(&text::state(task));
        self.doing = task.doing.as_deref().map(terminal::harmless);
    }

    pub(super) fn draw(&mut self) {
        if !self.shown {
            return;
        }
        self.frame = (self.frame + 1) % FRAMES.len();
        let elapsed = text::span(clock::monotonic().saturating_sub(self.since));
        let line = line(
            FRAMES[self.frame],
            &self.state,
            &elapsed,
            self.doing.as_deref(),
            terminal::stderr_columns(),
        );
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

/// It never fills the last column: what wraps cannot be wiped away again.
fn line(frame: &str, state: &str, elapsed: &str, doing: Option<&str>, columns: usize) -> String {
    let doing = doing.map_or_else(String::new, |doing| format!("  {doing}"));
    terminal::fit(
        &format!("{frame} {state} {elapsed}{doing}"),
        columns.saturating_sub(1),
    )
}

/// A decoration that cannot be drawn is not worth an error.
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
    fn the_line_fits_the_terminal() {
        let check = |doing: Option<&str>, columns: usize, expected: &str| {
            assert_eq!(line("⠋", "running", "12s", doing, columns), expected);
        };
        check(None, 80, "⠋ running 12s");
        check(Some("Bash: npm test"), 80, "⠋ running 12s  Bash: npm test");
        check(Some("Bash: npm test"), 24, "⠋ running 12s  Bash: n…");
        check(Some("Bash: npm test"), 0, "…");
    }
}

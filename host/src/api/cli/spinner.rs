//! The line at the foot of the terminal while a task runs: its state and how long it has been at it.

use std::{
    io::{self, Write},
    time::Duration,
};

use super::{terminal, text};
use crate::{app::TaskView, clock};

const FRAMES: [&str; 10] = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];

pub(super) struct Spinner {
    /// Not on a terminal: nothing is drawn.
    shown: bool,
    drawn: bool,
    frame: usize,
    state: String,
    since: Duration,
}

impl Spinner {
    pub(super) fn new(shown: bool) -> Self {
        Self {
            shown,
            drawn: false,
            frame: 0,
            state: "submitted".to_owned(),
            since: clock::monotonic(),
        }
    }

    pub(super) fn is_shown(&self) -> bool {
        self.shown
    }

    pub(super) fn state(&mut self, task: &TaskView) {
        self.state = terminal::harmless(&text::state(task));
    }

    pub(super) fn draw(&mut self) {
        if !self.shown {
            return;
        }
        self.frame = (self.frame + 1) % FRAMES.len();
        let elapsed = text::span(clock::monotonic().saturating_sub(self.since));
        put(&format!(
            "\r\x1b[K{} {} {elapsed}",
            FRAMES[self.frame], self.state
        ));
        self.drawn = true;
    }

    pub(super) fn clear(&mut self) {
        if self.drawn {
            put("\r\x1b[K");
            self.drawn = false;
        }
    }
}

/// A decoration that cannot be drawn is not worth an error.
fn put(text: &str) {
    let mut stderr = io::stderr().lock();
    drop(
        stderr
            .write_all(text.as_bytes())
            .and_then(|()| stderr.flush()),
    );
}

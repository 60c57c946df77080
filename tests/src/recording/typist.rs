//! Somebody who types into a shell and looks at its output.

use std::time::{Duration, Instant};

use super::{
    Size,
    film::{self, Event, Film},
};
use crate::{TestHost, terminal::Terminal, wait_for};

/// The shell's prompts: for a command, and for each further line of a command.
const PROMPT: &str = "$ ";
const MORE: &str = "> ";

/// A shell on a terminal, with the person who types into it.
pub struct Typist {
    terminal: Terminal,
    size: Size,
    /// Key presses and pauses to look. The terminal records the output.
    done: Vec<(Instant, Event)>,
}

impl Typist {
    /// Starts `sh` in the directory of the host's tasks.
    #[track_caller]
    pub fn start(host: &TestHost, size: Size) -> Self {
        let variables = [("PS1", PROMPT), ("PS2", MORE)];
        let terminal = Terminal::start_program(host, "sh", &["-i"], size, &variables);
        let typist = Self {
            terminal,
            size,
            done: Vec::new(),
        };
        typist.waits_for(PROMPT, 0);
        typist
    }

    /// Types a command and waits for its end. All lines except the last end with a backslash.
    #[track_caller]
    pub fn runs(&mut self, lines: &[&str]) {
        let [begin @ .., last] = lines else {
            panic!("no command")
        };
        for line in begin {
            let written = self.enters(line);
            self.waits_for(MORE, written);
        }
        let written = self.enters(last);
        self.waits_for(PROMPT, written);
    }

    /// Types a line and sends it; returns the number of bytes of output before the line was sent.
    #[track_caller]
    pub fn enters(&mut self, line: &str) -> usize {
        for key in line.chars() {
            let cursor = || self.terminal.look(vt100::Screen::cursor_position);
            let before = cursor();
            self.done.push((Instant::now(), Event::Key(key)));
            self.terminal.press(&key.to_string());
            wait_for("the key to be echoed", || {
                (cursor() != before).then_some(())
            });
        }
        let written = self.terminal.bytes().len();
        self.presses('\r');
        written
    }

    /// Presses a key that a program reads.
    #[track_caller]
    pub fn presses(&mut self, key: char) {
        self.done.push((Instant::now(), Event::Key(key)));
        self.terminal.press(&key.to_string());
    }

    /// Waits until the screen shows all of these texts.
    #[track_caller]
    pub fn sees(&self, pieces: &[&str]) -> String {
        self.terminal.shows(pieces)
    }

    /// Waits for the end of a command that was entered after this number of bytes of output.
    #[track_caller]
    pub fn is_back(&self, written: usize) {
        self.waits_for(PROMPT, written);
    }

    /// Looks at the screen for a while.
    pub fn looks(&mut self, time: Duration) {
        self.done.push((Instant::now(), Event::Look(time)));
    }

    /// The recording.
    pub fn film(self) -> Film {
        let written = self.terminal.pieces().into_iter();
        let written = written.map(|(time, bytes)| (time, Event::Output(bytes)));
        let mut events = self.done;
        events.extend(written);
        events.sort_by_key(|(time, _)| *time);
        film::cut(&events, self.size)
    }

    #[track_caller]
    fn waits_for(&self, prompt: &str, written: usize) {
        wait_for(
            &format!("`{prompt}` after\n{}", self.terminal.screen()),
            || {
                let bytes = self.terminal.bytes();
                (bytes.len() > written && bytes.ends_with(prompt.as_bytes())).then_some(())
            },
        );
    }
}

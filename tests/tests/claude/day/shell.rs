//! A person's shell in a terminal of 80 columns: a test types lines into it, and reads the screen
//! at the next prompt.

use std::{cell::Cell, fmt, fs, os::unix::fs::symlink};

use claudine_tests::{
    TestHost,
    harness::binary,
    terminal::Terminal,
    wait::{PATIENCE, wait_at_most},
};

/// High enough for a whole answer.
const SIZE: (u16, u16) = (80, 60);

/// Invisible mark that shells write before a prompt, followed by the last command's exit code.
const MARK: &[u8] = b"\x1b]133;D;";

/// Each typed line begins on an empty screen. Line editing is off, so that the terminal alone
/// echoes input.
const RC: &str = r"
PS1='\[\e]133;D;$?\a\]$ '
PS0='\e[H\e[2J'
set +o emacs +o vi
";

pub(super) struct Shell {
    terminal: Terminal,
    /// Number of prompts read.
    prompts: Cell<usize>,
}

impl Shell {
    /// Starts a shell on a new terminal, in the project's directory.
    #[track_caller]
    pub(super) fn open(host: &TestHost) -> Self {
        let bin = host.root().join("bin");
        if !bin.exists() {
            fs::create_dir(&bin).unwrap();
            symlink(binary(), bin.join("claudine")).unwrap();
        }
        let path = format!("PATH='{}':$PATH\n", bin.display());
        fs::write(host.home().join(".bashrc"), path + RC).unwrap();
        let variables = [("SHELL", "bash"), ("PAGER", "cat")];
        let shell = Self {
            terminal: Terminal::start_program(host, "bash", &[], SIZE, &variables),
            prompts: Cell::new(0),
        };
        shell.prompt("bash");
        shell
    }

    /// Types a line that succeeds; returns the screen at the next prompt.
    #[track_caller]
    pub(super) fn types(&self, line: &str) -> Shown {
        self.fails(line, 0)
    }

    /// Types a line that ends with this exit code.
    #[track_caller]
    pub(super) fn fails(&self, line: &str, code: i32) -> Shown {
        self.terminal.press(&format!("{line}\n"));
        let shown = self.prompt(line);
        assert_eq!(shown.code, code, "exit code of\n{shown}");
        shown
    }

    /// Ends the shell, and waits until no process uses its terminal.
    #[track_caller]
    pub(super) fn leaves(mut self) {
        self.terminal.press("exit\n");
        self.terminal.ended();
    }

    #[track_caller]
    fn prompt(&self, line: &str) -> Shown {
        let seen = self.prompts.get();
        let code = wait_at_most(2 * PATIENCE, || {
            let bytes = self.terminal.bytes();
            let last = bytes.windows(MARK.len()).enumerate();
            let mut marks = last.filter(|(_, window)| *window == MARK);
            let (at, _) = marks.nth(seen)?;
            let rest = &bytes[at + MARK.len()..];
            let end = rest.iter().position(|byte| *byte == b'\x07')?;
            // The answer is complete only once the prompt after the mark has arrived too.
            (rest.len() > end + PROMPT.len()).then(|| rest[..end].to_vec())
        });
        let Some(code) = code else {
            let screen = self.terminal.screen();
            panic!("no prompt after `{line}`\n{screen}");
        };
        self.prompts.set(seen + 1);
        let code = String::from_utf8(code).unwrap().parse().unwrap();
        self.terminal.look(|screen| Shown {
            line: line.to_owned(),
            code,
            text: screen.contents(),
            is_wrapped: (0..SIZE.1).any(|row| screen.row_wrapped(row)),
        })
    }
}

const PROMPT: &str = "$ ";

/// The screen after a typed line, up to the next prompt. Wrapped lines are joined, as when they are
/// copied from a terminal.
pub(super) struct Shown {
    line: String,
    code: i32,
    text: String,
    is_wrapped: bool,
}

impl Shown {
    /// Panics unless all of these texts are on the screen.
    #[track_caller]
    pub(super) fn has(&self, pieces: &[&str]) -> &Self {
        for piece in pieces {
            assert!(self.text.contains(piece), "{piece:?} is not on\n{self}");
        }
        self
    }

    /// Panics unless all of these texts are on the screen, where lines may end between their words.
    #[track_caller]
    pub(super) fn says(&self, pieces: &[&str]) -> &Self {
        let words: Vec<&str> = self.text.split_whitespace().collect();
        let text = words.join(" ");
        for piece in pieces {
            assert!(text.contains(piece), "{piece:?} is not on\n{self}");
        }
        self
    }

    #[track_caller]
    pub(super) fn has_not(&self, pieces: &[&str]) -> &Self {
        for piece in pieces {
            assert!(!self.text.contains(piece), "{piece:?} is on\n{self}");
        }
        self
    }

    /// Panics if a task is shown with its full id. Paths of worktrees contain full ids, and the
    /// first line of `status` exists to show one.
    #[track_caller]
    pub(super) fn has_no_full_id(&self) -> &Self {
        let lines = self.text.lines();
        for line in lines.filter(|line| !line.starts_with("Task  ")) {
            let mut ids = line.match_indices("task_");
            let is_short = ids.all(|(at, _)| line[..at].ends_with("worktrees/"));
            assert!(is_short, "a full id is in `{line}` on\n{self}");
        }
        self
    }

    /// Panics if a line did not fit the terminal.
    #[track_caller]
    pub(super) fn fits(&self) -> &Self {
        assert!(!self.is_wrapped, "a line is wrapped on\n{self}");
        self
    }

    /// The line that contains this word.
    #[track_caller]
    pub(super) fn row(&self, word: &str) -> &str {
        let mut lines = self.text.lines();
        let row = lines.find(|line| line.split_whitespace().any(|it| it == word));
        row.unwrap_or_else(|| panic!("no line has the word `{word}` on\n{self}"))
    }

    /// Panics unless the line with this word contains all of these texts.
    #[track_caller]
    pub(super) fn row_has(&self, word: &str, pieces: &[&str]) -> &Self {
        let row = self.row(word);
        for piece in pieces {
            assert!(
                row.contains(piece),
                "{piece:?} is not in `{row}` on\n{self}"
            );
        }
        self
    }

    /// The only line of the output, for example an id.
    #[track_caller]
    pub(super) fn only(&self) -> &str {
        match *self.text.lines().collect::<Vec<_>>() {
            [line, prompt] if prompt.trim() == PROMPT.trim() => line,
            _ => panic!("the output is not one line\n{self}"),
        }
    }

    /// Copies from the screen: returns this text and the rest of its line.
    #[track_caller]
    pub(super) fn copied(&self, beginning: &str) -> String {
        let mut lines = self.text.lines();
        let found = lines.find_map(|line| Some(&line[line.find(beginning)?..]));
        let found = found.unwrap_or_else(|| panic!("no `{beginning}` on\n{self}"));
        found.trim_end().to_owned()
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "$ {}", self.line)?;
        for line in self.text.lines() {
            writeln!(f, "│{line}")?;
        }
        write!(f, "exit code {}", self.code)
    }
}

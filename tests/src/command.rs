//! Runs a command to its end, keeps its output, and enforces a deadline, so that a hanging command
//! fails its test instead of blocking it.

use std::{
    fmt, io,
    io::{BufRead, BufReader, Read, Write},
    os::unix::process::ExitStatusExt,
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, pidfd_open},
};
use serde_json::Value;

use crate::wait::PATIENCE;

/// Result of a command.
#[derive(Clone, Debug)]
pub struct Ran {
    pub line: String,
    pub status: ExitStatus,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

impl Ran {
    /// Panics unless the command ended with this exit code; the message shows both output streams.
    #[track_caller]
    #[must_use = "or call `check`"]
    pub fn code(self, expected: i32) -> Self {
        assert!(
            self.status.code() == Some(expected),
            "expected exit code {expected}\n{self}"
        );
        self
    }

    /// Panics unless the command succeeded; the message shows both output streams.
    #[track_caller]
    #[must_use = "or call `check`"]
    pub fn ok(self) -> Self {
        self.code(0)
    }

    /// Like `ok`, for callers that need no result.
    #[track_caller]
    pub fn check(self) {
        assert!(self.status.success(), "{self}");
    }

    /// Standard output without its final line end.
    #[track_caller]
    pub fn text(&self) -> String {
        std::str::from_utf8(&self.stdout)
            .expect("stdout is UTF-8")
            .trim_end_matches('\n')
            .to_owned()
    }

    /// Standard error as text.
    pub fn complaint(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// Standard output as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        match serde_json::from_slice(&self.stdout) {
            Ok(value) => value,
            Err(error) => panic!("stdout is not JSON: {error}\n{self}"),
        }
    }

    /// Panics unless standard error contains all of these pieces. Also panics if a message contains
    /// the whole id of a task that is in none of the pieces.
    #[track_caller]
    pub fn says(&self, pieces: &[&str]) {
        let complaint = self.complaint();
        for piece in pieces {
            assert!(
                complaint.contains(piece),
                "stderr does not contain {piece:?}\n{self}"
            );
        }
        let is_json = |line: &str| line.starts_with('{');
        let messages = complaint.lines().filter(|line| !is_json(line));
        for id in messages.filter_map(whole_id) {
            assert!(
                pieces.iter().any(|piece| piece.contains(id)),
                "stderr contains a whole id\n{self}"
            );
        }
    }
}

/// The first whole id of a task in a message, except in a path. Messages name tasks by the ends of
/// their ids.
pub fn whole_id(message: &str) -> Option<&str> {
    const PREFIX: &str = "task_";
    message.match_indices(PREFIX).find_map(|(at, _)| {
        let id = message.get(at..at + PREFIX.len() + 26)?;
        let is_whole = id[PREFIX.len()..]
            .bytes()
            .all(|it| it.is_ascii_alphanumeric());
        (is_whole && !message[..at].ends_with('/')).then_some(id)
    })
}

impl fmt::Display for Ran {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "$ {}", self.line)?;
        match (self.status.code(), self.status.signal()) {
            (Some(code), _) => writeln!(f, "exit code {code}")?,
            (None, signal) => writeln!(f, "killed by signal {signal:?}")?,
        }
        writeln!(f, "stdout: {}", String::from_utf8_lossy(&self.stdout))?;
        write!(f, "stderr: {}", String::from_utf8_lossy(&self.stderr))
    }
}

/// Runs `command` with `input` on its standard input, and kills it if it has not ended within
/// `patience`.
#[track_caller]
pub fn run(mut command: Command, input: &[u8], patience: Duration) -> Ran {
    let line = line_of(&command);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .unwrap_or_else(|error| panic!("cannot run `{line}`: {error}"));
    let mut stdin = child.stdin.take().expect("piped");
    let mut stdout = child.stdout.take().expect("piped");
    let mut stderr = child.stderr.take().expect("piped");
    let (status, stdout, stderr) = thread::scope(|scope| {
        scope.spawn(move || match stdin.write_all(input) {
            // A command that refuses its input may end before it has read all of it.
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            Err(error) => panic!("cannot write to the command: {error}"),
        });
        let stdout = scope.spawn(move || drain(&mut stdout));
        let stderr = scope.spawn(move || drain(&mut stderr));
        let status = ends_within(&mut child, patience);
        if status.is_none() {
            child.kill().expect("our own child");
            child.wait().expect("our own child");
        }
        (
            status,
            stdout.join().expect("reads"),
            stderr.join().expect("reads"),
        )
    });
    match status {
        Some(status) => Ran {
            line: shorten(line),
            status,
            stdout,
            stderr,
        },
        None => panic!(
            "`{}` has not ended within {} s\nstdout: {}\nstderr: {}",
            shorten(line),
            patience.as_secs(),
            String::from_utf8_lossy(&stdout),
            String::from_utf8_lossy(&stderr)
        ),
    }
}

fn drain(from: &mut impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    from.read_to_end(&mut bytes).expect("a pipe can be read");
    bytes
}

/// A command whose standard output is read while it runs.
pub struct Reading {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Reading {
    #[track_caller]
    pub fn start(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run `{}`: {error}", line_of(&command)));
        let output = BufReader::new(child.stdout.take().expect("piped"));
        Self { child, output }
    }

    /// The next line of the output, with its line end.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("it prints text");
        line
    }

    /// The rest of the output, and how the command has ended.
    pub fn rest(mut self) -> (String, ExitStatus) {
        let mut rest = String::new();
        self.output
            .read_to_string(&mut rest)
            .expect("it prints text");
        (rest, self.child.wait().expect("our own child"))
    }
}

/// Waits for the child's end without a polling loop, because the child's pidfd becomes readable.
pub fn ends_within(child: &mut Child, patience: Duration) -> Option<ExitStatus> {
    let pid = Pid::from_child(child);
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).expect("our own child");
    let timeout = Timespec {
        tv_sec: i64::try_from(patience.as_secs()).expect("short"),
        tv_nsec: i64::from(patience.subsec_nanos()),
    };
    loop {
        match poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&timeout)) {
            Ok(0) => return None,
            Ok(_) => return Some(child.wait().expect("our own child")),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => panic!("cannot poll: {error}"),
        }
    }
}

/// The lines that a running command writes. They are read until the stream ends or this is dropped,
/// so the command never waits for its reader.
pub struct Lines(mpsc::Receiver<io::Result<String>>);

impl Lines {
    pub fn of(stream: impl Read + Send + 'static) -> Self {
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            let mut read = BufReader::new(stream).lines();
            // Nobody waits for a line any more once it cannot be sent.
            while read.next().is_some_and(|line| sender.send(line).is_ok()) {}
        });
        Self(lines)
    }

    /// Waits for a line that contains `piece`. Panics with all that was said instead if the stream
    /// ends first, or after [`PATIENCE`].
    #[track_caller]
    pub fn say(&self, piece: &str) {
        self.say_within(PATIENCE, piece);
    }

    #[track_caller]
    fn say_within(&self, patience: Duration, piece: &str) {
        let deadline = Instant::now() + patience;
        let mut said = String::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.0.recv_timeout(left) {
                Ok(line) => {
                    let line = line.expect("a pipe can be read");
                    if line.contains(piece) {
                        return;
                    }
                    said.push_str(&line);
                    said.push('\n');
                }
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("the command has ended without {piece:?}\n{said}")
                }
                Err(RecvTimeoutError::Timeout) => {
                    panic!("waited {} s for {piece:?}\n{said}", patience.as_secs())
                }
            }
        }
    }
}

fn line_of(command: &Command) -> String {
    let mut line = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    line
}

fn shorten(mut line: String) -> String {
    if line.len() > 400 {
        let end = (0..=400)
            .rev()
            .find(|end| line.is_char_boundary(*end))
            .unwrap_or(0);
        line.truncate(end);
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "for \"the end\"\nthe beginning")]
    fn a_line_that_never_comes_is_not_waited_for_for_ever() {
        let (stream, mut command) = io::pipe().unwrap();
        command.write_all(b"the beginning\nthe").unwrap();
        let lines = Lines::of(stream);
        lines.say("the beginning");
        command.write_all(b" middle\nthe beginning\n").unwrap();
        lines.say("middle");
        // The stream stays open.
        lines.say_within(Duration::from_secs(1), "the end");
        drop(command);
    }
}

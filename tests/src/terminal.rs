//! A terminal for a command: a pseudo-terminal, and a screen that shows its output as a person
//! would see it.

use std::{
    ffi::OsStr,
    fs::{File, OpenOptions},
    io::{Read, Write},
    num::NonZeroU16,
    os::{fd::OwnedFd, unix::fs::OpenOptionsExt},
    process::{Child, ExitStatus},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    fs::OFlags,
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcsetwinsize},
};
use vt100::Parser;

use crate::{
    TestHost, command,
    harness::binary,
    process,
    wait::{PATIENCE, wait_at_most, wait_for},
};

/// Output so far.
struct Written {
    parser: Parser,
    pieces: Vec<(Instant, Vec<u8>)>,
}

/// A command on its own terminal.
pub struct Terminal {
    master: OwnedFd,
    written: Arc<Mutex<Written>>,
    /// The thread that reads the output. It ends once no process has the terminal open any more.
    reader: thread::JoinHandle<()>,
    child: Child,
}

impl Terminal {
    /// Starts a `claudine` command on a terminal of this size, columns first.
    #[track_caller]
    pub fn start(host: &TestHost, arguments: &[&str], size: (u16, u16)) -> Self {
        Self::start_with(host, arguments, size, &[])
    }

    /// Starts a `claudine` command with additional variables on a terminal of this size.
    #[track_caller]
    pub fn start_with(
        host: &TestHost,
        arguments: &[&str],
        size: (u16, u16),
        variables: &[(&str, &str)],
    ) -> Self {
        Self::start_program(host, binary(), arguments, size, variables)
    }

    /// Starts another program on a terminal.
    #[track_caller]
    pub fn start_program(
        host: &TestHost,
        program: impl AsRef<OsStr>,
        arguments: &[&str],
        size: (u16, u16),
        variables: &[(&str, &str)],
    ) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
            .expect("a pseudo-terminal");
        grantpt(&master).expect("our own terminal");
        unlockpt(&master).expect("our own terminal");
        tcsetwinsize(&master, winsize(size)).expect("a size");
        let name = ptsname(&master, Vec::new()).expect("a name");
        let name = name.to_str().expect("a path of the kernel's");
        let slave = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(i32::try_from(OFlags::NOCTTY.bits()).expect("a flag"))
            .open(name)
            .expect("the other end");
        let same = || slave.try_clone().expect("a descriptor");
        // `setsid` makes this terminal the controlling terminal of the command, so that keys such
        // as Ctrl-Z send signals to the command.
        let mut command = host.other("setsid");
        command.arg("--ctty").arg(program).args(arguments);
        command.env("TERM", "xterm-256color");
        command.envs(variables.iter().copied());
        command.stdin(same()).stdout(same()).stderr(same());
        let child = command.spawn().expect("setsid of util-linux");
        let (columns, rows) = size;
        let written = Arc::new(Mutex::new(Written {
            parser: Parser::new(nonzero(rows), nonzero(columns), 0),
            pieces: Vec::new(),
        }));
        let reader = File::from(master.try_clone().expect("a descriptor"));
        let into = Arc::clone(&written);
        let reader = thread::spawn(move || read(reader, &into));
        Self {
            master,
            written,
            reader,
            child,
        }
    }

    /// The lines of the screen, without trailing spaces.
    pub fn screen(&self) -> String {
        let written = self.written.lock().expect("no reader panics");
        written.parser.screen().contents()
    }

    /// Calls `at` with the screen, and returns its result.
    pub fn look<T>(&self, at: impl FnOnce(&vt100::Screen) -> T) -> T {
        at(self
            .written
            .lock()
            .expect("no reader panics")
            .parser
            .screen())
    }

    /// The raw output.
    pub fn bytes(&self) -> Vec<u8> {
        let written = self.written.lock().expect("no reader panics");
        let pieces = written.pieces.iter();
        pieces.flat_map(|(_, bytes)| bytes).copied().collect()
    }

    /// The raw output in the pieces that were read, with the time of each.
    pub fn pieces(&self) -> Vec<(Instant, Vec<u8>)> {
        let written = self.written.lock().expect("no reader panics");
        written.pieces.clone()
    }

    /// Waits until the screen shows all of these texts.
    #[track_caller]
    pub fn shows(&self, pieces: &[&str]) -> String {
        let shown = wait_at_most(PATIENCE, || {
            let screen = self.screen();
            pieces
                .iter()
                .all(|piece| screen.contains(piece))
                .then_some(screen)
        });
        shown.unwrap_or_else(|| panic!("{pieces:?} are not all on\n{}", self.screen()))
    }

    /// Whether the command writes nothing during this time.
    pub fn is_calm_for(&self, time: Duration) -> bool {
        let before = self.bytes().len();
        wait_at_most(time, || (self.bytes().len() != before).then_some(())).is_none()
    }

    #[track_caller]
    pub fn press(&self, keys: &str) {
        let mut terminal = File::from(self.master.try_clone().expect("a descriptor"));
        terminal.write_all(keys.as_bytes()).expect("a terminal");
    }

    #[track_caller]
    pub fn resize(&self, size: (u16, u16)) {
        let (columns, rows) = size;
        {
            let mut written = self.written.lock().expect("no reader panics");
            written.parser.set_size(nonzero(rows), nonzero(columns));
        }
        tcsetwinsize(&self.master, winsize(size)).expect("a size");
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until the command is stopped, for example by Ctrl-Z.
    #[track_caller]
    pub fn is_stopped(&self) {
        wait_for("the command to be stopped", || {
            (process::state(self.pid()) == Some('T')).then_some(())
        });
    }

    /// Waits until the command has ended and the screen shows all of its output.
    #[track_caller]
    pub fn ended(&mut self) -> ExitStatus {
        let ended = command::ends_within(&mut self.child, PATIENCE);
        let ended = ended.unwrap_or_else(|| panic!("the command has not ended\n{}", self.screen()));
        let read = wait_at_most(PATIENCE, || self.reader.is_finished().then_some(()));
        assert!(
            read.is_some(),
            "a process keeps the terminal open\n{}",
            self.screen()
        );
        ended
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        process::kill_9(self.child.id());
        self.child.wait().expect("our own child");
    }
}

fn read(mut from: File, into: &Mutex<Written>) {
    let mut bytes = [0; 4096];
    // Once the other end is closed, reading fails, and the thread ends.
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        let Ok(mut into) = into.lock() else { return };
        into.pieces.push((Instant::now(), bytes[..count].to_vec()));
        into.parser.process(&bytes[..count]);
    }
}

fn winsize((columns, rows): (u16, u16)) -> Winsize {
    Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}

fn nonzero(size: u16) -> NonZeroU16 {
    NonZeroU16::new(size).expect("a screen with room")
}

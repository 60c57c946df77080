//! A wall clock for all programs that are started with its variables. A test sets the clock
//! forward, so that a night passes between two commands.

use std::{
    ffi::OsString,
    fs::OpenOptions,
    io::Write,
    os::unix::fs::FileExt,
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, UNIX_EPOCH},
};

use tempfile::TempDir;

const SOURCE: &str = include_str!("../../../fixtures/clock.c");

const DAY: Duration = Duration::from_hours(24);

pub(super) struct Clock {
    directory: TempDir,
    ahead: Duration,
    /// The time to which the clock is set at first, as the time since 1970.
    start: Duration,
}

impl Clock {
    /// A clock that is set to this time after midnight UTC.
    pub(super) fn at(after_midnight: Duration) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut compiler = Command::new("cc")
            .args(["-shared", "-fPIC", "-D_GNU_SOURCE", "-x", "c", "-", "-o"])
            .arg(library(&directory))
            .stdin(Stdio::piped())
            .spawn()
            .expect("a C compiler, as for the host itself");
        let mut input = compiler.stdin.take().unwrap();
        input.write_all(SOURCE.as_bytes()).unwrap();
        drop(input);
        assert!(compiler.wait().unwrap().success());
        let now = UNIX_EPOCH.elapsed().unwrap();
        let midnight = Duration::from_secs(now.as_secs() / DAY.as_secs() * DAY.as_secs());
        let mut start = midnight + after_midnight;
        if start < now {
            start += DAY;
        }
        let clock = Self {
            directory,
            ahead: start.abs_diff(now),
            start,
        };
        clock.set();
        clock
    }

    /// Environment of a program that uses this clock.
    pub(super) fn variables(&self) -> [(&'static str, OsString); 3] {
        [
            ("LD_PRELOAD", library(&self.directory).into()),
            ("CLOCK_AHEAD", self.file().into()),
            ("TZ", "UTC0".into()),
        ]
    }

    /// Lets this time pass.
    pub(super) fn pass(&mut self, time: Duration) {
        self.ahead += time;
        self.set();
    }

    /// The time this long after the clock's first time, in seconds since 1970.
    pub(super) fn after(&self, time: Duration) -> u64 {
        (self.start + time).as_secs()
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("ahead")
    }

    /// Writes how far the clock is ahead. The file is never empty, because a program that has an
    /// empty file mapped would die.
    fn set(&self) {
        // Rounds up to a whole second, so that the clock never shows less than requested.
        let seconds = self.ahead.as_secs() + 1;
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false);
        let file = options.open(self.file()).unwrap();
        file.write_all_at(&seconds.to_ne_bytes(), 0).unwrap();
    }
}

fn library(directory: &TempDir) -> PathBuf {
    directory.path().join("clock.so")
}

//! A process as `/proc/PID/stat` has it.
//!
//! A pid alone says too little, since pids return: a caller that keeps one across a wait keeps the
//! start time with it.

use std::fs::File;
use std::io::Read;

/// The part of the line that is used here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) pid: u32,
    /// `R`, `S`, `Z`, …
    state: char,
    pub(crate) parent: u32,
    pub(crate) group: u32,
    pub(crate) session: u32,
    /// In clock ticks since boot.
    pub(crate) start_time: u64,
    pub(crate) rss_pages: u64,
}

impl Stat {
    /// Whether it has ended, and is there only because it was not reaped.
    pub(crate) fn is_zombie(&self) -> bool {
        matches!(self.state, 'Z' | 'X' | 'x')
    }

    /// Whether somebody has stopped it (`kill -STOP`, a debugger).
    pub(crate) fn is_stopped(&self) -> bool {
        matches!(self.state, 'T' | 't')
    }
}

/// `None` where there is no such process (any more).
pub(crate) fn stat(pid: u32) -> Option<Stat> {
    let mut file = File::open(format!("/proc/{pid}/stat")).ok()?;
    let mut buffer = [0; 1024];
    let length = file.read(&mut buffer).ok()?;
    parse(pid, &buffer[..length])
}

/// The command's name is in parentheses and may itself hold any byte, parentheses and line ends
/// included; so the fields are counted from the last closing one.
fn parse(pid: u32, text: &[u8]) -> Option<Stat> {
    let after = text.iter().rposition(|byte| *byte == b')')? + 1;
    let rest = std::str::from_utf8(&text[after..]).ok()?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().take(22).collect();
    let number = |index: usize| {
        fields
            .get(index)
            .and_then(|field| field.parse::<u64>().ok())
    };
    let id = |index: usize| number(index).and_then(|value| u32::try_from(value).ok());
    Some(Stat {
        pid,
        state: fields.first()?.chars().next()?,
        parent: id(1)?,
        group: id(2)?,
        session: id(3)?,
        start_time: number(19)?,
        rss_pages: number(21).unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn a_command_name_cannot_shift_the_fields() {
        let text = b"7 (a) R 1 (b\n) S 3 4 5 0 -1 4194304 0 0 0 0 1 2 3 4 20 0 1 0 987 1000 55 18446744073709551615";
        let stat = parse(7, text).unwrap();
        assert_eq!((stat.parent, stat.group, stat.session), (3, 4, 5));
        assert_eq!((stat.start_time, stat.rss_pages), (987, 55));
        assert!(!stat.is_zombie() && !stat.is_stopped());
    }

    #[test]
    fn a_cut_line_is_no_process() {
        assert_eq!(parse(7, b"7 (a) S 3 4"), None);
        assert_eq!(parse(7, b""), None);
    }
}

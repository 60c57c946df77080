//! Reads `/proc/PID/stat`.
//!
//! Pids are reused, so a caller that keeps a pid while it waits must keep the start time with it.

use std::fs::File;
use std::io::{self, Read};

use rustix::io::Errno;

/// The fields that are needed here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) pid: u32,
    /// State of the main thread: `R`, `S`, `Z`, …
    state: char,
    /// Number of threads. A process that has ended, but has not been reaped, has one.
    threads: u64,
    pub(crate) parent: u32,
    pub(crate) group: u32,
    pub(crate) session: u32,
    /// Start time in clock ticks since the boot.
    pub(crate) start_time: u64,
    pub(crate) rss_pages: u64,
}

impl Stat {
    /// Whether the process has ended but has not been reaped. A process of which only the main
    /// thread has ended is alive.
    pub(crate) fn is_zombie(&self) -> bool {
        match self.state {
            'Z' => self.threads <= 1,
            state => matches!(state, 'X' | 'x'),
        }
    }

    /// The letter of the state, as in `/proc/PID/stat`.
    pub(crate) fn state(&self) -> char {
        self.state
    }

    /// Whether the process is stopped by a signal (`kill -STOP`, a debugger).
    pub(crate) fn is_stopped(&self) -> bool {
        matches!(self.state, 'T' | 't')
    }
}

/// Says why a process does nothing now, if that is certain, and what makes it go on. A process that
/// cannot be looked at is not known to do nothing.
pub(crate) fn halt_text(pid: u32) -> Option<String> {
    let found = try_stat(pid).ok().flatten()?;
    if found.is_stopped() {
        return Some(format!(
            "it is stopped by a signal, and `kill -CONT {pid}` continues it"
        ));
    }
    (found.state == 'D').then(|| {
        "it waits in the kernel (state D), and goes on once the disk or the network drive answers"
            .to_owned()
    })
}

/// Reads the state of a process; `None` if the process does not exist or its state cannot be read.
#[cfg(test)]
pub(crate) fn stat(pid: u32) -> Option<Stat> {
    try_stat(pid).ok().flatten()
}

/// Reads the state of a process; `None` if the process does not exist.
pub(crate) fn try_stat(pid: u32) -> io::Result<Option<Stat>> {
    let read = || {
        let mut file = File::open(format!("/proc/{pid}/stat"))?;
        let mut buffer = [0; 1024];
        let length = file.read(&mut buffer)?;
        Ok(parse(pid, &buffer[..length]))
    };
    Ok(unless_gone(read())?.flatten())
}

/// Converts the result of a read from `/proc`: the errors of a process that has ended become
/// `None`. Other errors, such as a lack of descriptors or memory, do not show whether the process
/// has ended, and are returned.
pub(crate) fn unless_gone<T>(read: io::Result<T>) -> io::Result<Option<T>> {
    match read {
        Ok(found) => Ok(Some(found)),
        Err(error)
            if error.kind() == io::ErrorKind::NotFound
                || error.raw_os_error() == Some(Errno::SRCH.raw_os_error()) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Whether the system had no room for something: the same call may succeed later, once other
/// processes have ended.
pub(crate) fn is_out_of_room(error: &io::Error) -> bool {
    let room = [libc::EAGAIN, libc::ENOMEM, libc::EMFILE, libc::ENFILE];
    error
        .raw_os_error()
        .is_some_and(|code| room.contains(&code))
}

/// Turns any error of a look at a process into `None`, except a lack of room. With a lack of room,
/// the look shows nothing about the process, and can be repeated. Any other error means that this
/// process cannot be looked at, for example because it belongs to another user.
pub(crate) fn unless_no_room<T>(look: io::Result<Option<T>>) -> io::Result<Option<T>> {
    match look {
        Err(error) if !is_out_of_room(&error) => Ok(None),
        look => look,
    }
}

/// Whether the process with this pid and start time is alive. Another process that got the same pid
/// later does not count.
pub(crate) fn is_alive(pid: u32, start_time: u64) -> io::Result<bool> {
    let stat = try_stat(pid)?;
    Ok(stat.is_some_and(|stat| stat.start_time == start_time && !stat.is_zombie()))
}

/// Parses the fields. The name of the command is in parentheses and may contain any byte, even
/// parentheses and newlines, so the fields are counted from the last closing parenthesis.
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
        threads: number(17)?,
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
    fn a_process_whose_main_thread_has_ended_is_alive_as_long_as_another_thread_runs() {
        let is_zombie = |threads: u32| {
            let text =
                format!("7 (a) Z 1 3 4 0 -1 4194304 0 0 0 0 1 2 3 4 20 0 {threads} 0 987 1000 55");
            parse(7, text.as_bytes()).unwrap().is_zombie()
        };
        assert!(!is_zombie(2));
        assert!(is_zombie(1) && is_zombie(0));
    }

    #[test]
    fn only_errors_that_show_the_end_of_a_process_become_none() {
        let read = |error: Errno| unless_gone::<()>(Err(error.into())).map_err(|it| it.kind());
        assert_eq!(read(Errno::NOENT), Ok(None));
        assert_eq!(read(Errno::SRCH), Ok(None));
        for error in [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::ACCESS] {
            assert_eq!(read(error), Err(io::Error::from(error).kind()));
        }
        assert!(try_stat(std::process::id()).is_ok_and(|stat| stat.is_some()));
        assert!(try_stat(0).is_ok_and(|stat| stat.is_none()));
    }

    #[test]
    fn only_a_lack_of_room_makes_a_look_at_a_process_an_error() {
        let look = |error: Errno| unless_no_room::<()>(Err(error.into())).is_err();
        for error in [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::AGAIN] {
            assert!(look(error), "{error}");
        }
        for error in [Errno::ACCESS, Errno::PERM, Errno::NOENT, Errno::SRCH] {
            assert!(!look(error), "{error}");
        }
        assert!(unless_no_room(Ok(Some(7))).is_ok_and(|found| found == Some(7)));
    }

    #[test]
    fn an_incomplete_line_is_not_parsed() {
        assert_eq!(parse(7, b"7 (a) S 3 4"), None);
        assert_eq!(parse(7, b""), None);
    }
}

//! Sends signals to exactly the intended process, and receives the signals of this process through
//! a descriptor.

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{FromRawFd, OwnedFd};

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags};

use crate::proc_stat::{Stat, try_stat, unless_no_room};
use crate::supervise::words::Signal;

/// Resumes a suspended process.
const WAKE: rustix::process::Signal = rustix::process::Signal::CONT;

fn number(signal: Signal) -> rustix::process::Signal {
    use rustix::process::Signal as System;
    match signal {
        Signal::Hup => System::HUP,
        Signal::Int => System::INT,
        Signal::Quit => System::QUIT,
        Signal::Term => System::TERM,
        Signal::Kill => System::KILL,
        Signal::Usr1 => System::USR1,
        Signal::Usr2 => System::USR2,
    }
}

/// Signals a process group; a group without members is no error. The caller must not have reaped
/// the group's leader yet, because afterwards the number could belong to another group.
pub(in crate::supervise) fn signal_group(leader: u32, signal: Signal) -> io::Result<()> {
    let Some(group) = Pid::from_raw(leader.cast_signed()) else {
        return Ok(());
    };
    match rustix::process::kill_process_group(group, number(signal)) {
        Err(Errno::SRCH) | Ok(()) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Asks a process group to end. Suspended processes are resumed, because a suspended process
/// handles no signal except KILL.
pub(in crate::supervise) fn ask_group(leader: u32, signal: Signal) -> io::Result<()> {
    signal_group(leader, signal)?;
    let group = Pid::from_raw(leader.cast_signed()).filter(|_| signal != Signal::Kill);
    match group.map(|group| rustix::process::kill_process_group(group, WAKE)) {
        None | Some(Err(Errno::SRCH) | Ok(())) => Ok(()),
        Some(Err(error)) => Err(error.into()),
    }
}

/// Signals the process with this pid and start time; returns `false` if that process has ended,
/// even if another process has the pid now.
pub(in crate::supervise) fn signal_process(
    raw: u32,
    start_time: u64,
    signal: Signal,
) -> io::Result<bool> {
    Ok(signal_pinned(raw, start_time, signal)?.is_some())
}

/// Kills the process; the returned pidfd becomes readable when it has ended.
pub(in crate::supervise) fn kill_pinned(raw: u32, start_time: u64) -> io::Result<Option<OwnedFd>> {
    signal_pinned(raw, start_time, Signal::Kill)
}

/// Asks the process to end, even if it is suspended; the returned pidfd becomes readable when it
/// has ended.
pub(in crate::supervise) fn ask_pinned(raw: u32, start_time: u64) -> io::Result<Option<OwnedFd>> {
    signal_pinned(raw, start_time, Signal::Term)
}

/// Opens a process; none if it has ended. The pidfd pins the process first and the start time is
/// compared afterwards, so the pid cannot be reused in between. An error if it is unknown whether
/// the process has ended.
pub(in crate::supervise) fn pin(raw: u32, start_time: u64) -> io::Result<Option<OwnedFd>> {
    let Some(pinned) = pin_any(raw)? else {
        return Ok(None);
    };
    let is_it = |found: Stat| found.start_time == start_time && !found.is_zombie();
    let found = unless_no_room(try_stat(raw))?;
    Ok(found.is_some_and(is_it).then_some(pinned))
}

/// Opens the process that has this pid now; none if there is no such process.
pub(in crate::supervise) fn pin_any(raw: u32) -> io::Result<Option<OwnedFd>> {
    let target = i32::try_from(raw).ok().and_then(Pid::from_raw);
    let Some(target) = target else {
        return Ok(None);
    };
    match rustix::process::pidfd_open(target, PidfdFlags::empty()) {
        Ok(pinned) => Ok(Some(pinned)),
        // If the number is that of a thread by now, the error depends on the kernel's version.
        Err(Errno::SRCH | Errno::INVAL | Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn signal_pinned(raw: u32, start_time: u64, signal: Signal) -> io::Result<Option<OwnedFd>> {
    let Some(pinned) = pin(raw, start_time)? else {
        return Ok(None);
    };
    let sent = rustix::process::pidfd_send_signal(&pinned, number(signal)).and_then(|()| {
        if signal == Signal::Kill {
            return Ok(());
        }
        rustix::process::pidfd_send_signal(&pinned, WAKE)
    });
    match sent {
        Ok(()) => Ok(Some(pinned)),
        Err(Errno::SRCH) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The signals that are read from a descriptor and do not interrupt: CHLD and TERM. INT and HUP are
/// blocked too, because nobody sends them to a background process on purpose.
#[derive(Debug)]
pub(in crate::supervise) struct Arrivals(OwnedFd);

/// The signals that one read of [`Arrivals`] returned.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::supervise) struct Arrived {
    pub(in crate::supervise) child: bool,
    pub(in crate::supervise) terminate: bool,
}

impl Arrivals {
    /// Blocks the signals in the calling thread, which is the only one, and opens the descriptor.
    #[allow(
        unsafe_code,
        reason = "signalfd and the signal mask have no safe wrapper; the sets are initialised by sigemptyset"
    )]
    pub(in crate::supervise) fn open() -> io::Result<Self> {
        // SAFETY: `set` is initialised before it is read, and the descriptor is fresh and has no
        // other owner.
        unsafe {
            let mut set = MaybeUninit::<libc::sigset_t>::uninit();
            libc::sigemptyset(set.as_mut_ptr());
            let mut set = set.assume_init();
            for signal in [libc::SIGCHLD, libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
                libc::sigaddset(&raw mut set, signal);
            }
            if libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) != 0 {
                return Err(io::Error::last_os_error());
            }
            let descriptor =
                libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
            if descriptor < 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(Self(OwnedFd::from_raw_fd(descriptor)))
        }
    }

    pub(in crate::supervise) fn take(&self) -> io::Result<Arrived> {
        const RECORD: usize = size_of::<libc::signalfd_siginfo>();
        let mut arrived = Arrived::default();
        let mut buffer = [0u8; RECORD * 4];
        let length = match rustix::io::read(&self.0, &mut buffer) {
            Ok(length) => length,
            Err(Errno::AGAIN) => 0,
            Err(error) => return Err(error.into()),
        };
        for record in buffer[..length].chunks_exact(RECORD) {
            // The signal's number is the record's first field.
            let Some(signal) = record
                .first_chunk::<4>()
                .map(|bytes| u32::from_ne_bytes(*bytes))
            else {
                continue;
            };
            match signal.cast_signed() {
                libc::SIGCHLD => arrived.child = true,
                libc::SIGTERM => arrived.terminate = true,
                _ => {}
            }
        }
        Ok(arrived)
    }
}

impl std::os::fd::AsFd for Arrivals {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Unblocks all signals and restores the default handling of CHLD, which the starter may have
/// changed, and of XFSZ, which [`survive_file_limit`] has changed in a supervisor. If TERM were
/// blocked, this process could not be told to end. If CHLD were ignored, this process could not
/// wait for its children, and every command that it runs would fail.
#[allow(
    unsafe_code,
    reason = "the signal mask and dispositions have no safe wrapper"
)]
pub(in crate::supervise) fn reset_inherited() -> io::Result<()> {
    let mut none = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: the set is initialised by the call that empties it, and no handler is installed.
    unsafe {
        libc::sigemptyset(none.as_mut_ptr());
        let old = std::ptr::null_mut();
        let error = libc::pthread_sigmask(libc::SIG_SETMASK, none.as_ptr(), old);
        if error != 0 {
            return Err(io::Error::from_raw_os_error(error));
        }
        for signal in [libc::SIGCHLD, libc::SIGXFSZ] {
            if libc::signal(signal, libc::SIG_DFL) == libc::SIG_ERR {
                return Err(io::Error::last_os_error());
            }
        }
    }
    Ok(())
}

/// Lets a write beyond the limit on the size of files (`ulimit -f`) fail with an error. By default,
/// such a write ends the process by XFSZ: a supervisor would die, with all its tasks, because of
/// the output of one of them.
#[allow(unsafe_code, reason = "dispositions have no safe wrapper")]
pub(in crate::supervise) fn survive_file_limit() -> io::Result<()> {
    // SAFETY: no handler is installed.
    if unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) } == libc::SIG_ERR {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Calls `look` with the id of a thread of this process that is not its main thread.
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
pub(in crate::supervise) fn with_thread(look: impl FnOnce(u32)) {
    let (tell, told) = std::sync::mpsc::channel();
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        let own = rustix::thread::gettid().as_raw_nonzero().get();
        tell.send(own.cast_unsigned()).unwrap();
        // Waits until the other end is dropped.
        ended.recv().unwrap_err();
    });
    look(told.recv().unwrap());
    drop(end);
    thread.join().unwrap();
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn the_id_of_a_thread_is_not_taken_for_a_pid() {
        with_thread(|number| {
            assert!(pin(number, 0).unwrap().is_none());
            assert!(pin_any(number).unwrap().is_none());
        });
    }
}

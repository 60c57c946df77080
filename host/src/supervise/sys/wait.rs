//! Looks at ended children without reaping them, and reaps them in a separate step.

use std::io;
use std::mem::MaybeUninit;

use crate::supervise::words::Status;

/// The kernel's counts for a child that ended, including its descendants that were waited for.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::supervise) struct Counted {
    pub(in crate::supervise) cpu_us: u64,
    pub(in crate::supervise) peak_rss_bytes: u64,
}

/// The children to look at.
#[derive(Debug, Clone, Copy)]
pub(in crate::supervise) enum Of {
    Any,
    Pid(u32),
}

/// A child that ended and is not reaped yet: it keeps its pid, and so the number of its group.
#[derive(Debug, Clone, Copy)]
pub(in crate::supervise) struct Ended {
    pub(in crate::supervise) pid: u32,
    pub(in crate::supervise) status: Status,
    pub(in crate::supervise) counted: Counted,
}

#[allow(
    unsafe_code,
    reason = "waitid of rustix returns neither pid nor usage, and waitid of glibc returns no usage"
)]
pub(in crate::supervise) fn peek(of: Of) -> Option<Ended> {
    let (kind, id) = match of {
        Of::Any => (libc::P_ALL, 0),
        Of::Pid(pid) => (libc::P_PID, pid),
    };
    let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the kernel fills both structures, or leaves them zeroed if no child ended; all their
    // fields may be zero.
    let (result, info, usage) = unsafe {
        let result = libc::syscall(
            libc::SYS_waitid,
            kind,
            id,
            info.as_mut_ptr(),
            flags,
            usage.as_mut_ptr(),
        );
        (result, info.assume_init(), usage.assume_init())
    };
    if result != 0 {
        let error = io::Error::last_os_error();
        // ECHILD is not an error here: this process has no children, or the pid is not one of them.
        if error.raw_os_error() != Some(libc::ECHILD) {
            say!("cannot wait for children: {error}");
        }
        return None;
    }
    // SAFETY: waitid fills the fields of the SIGCHLD variant.
    let (pid, value) = unsafe { (info.si_pid(), info.si_status()) };
    if pid == 0 {
        return None;
    }
    let status = if info.si_code == libc::CLD_EXITED {
        Status::Code(value)
    } else {
        Status::Signal(value)
    };
    let counted = Counted {
        cpu_us: micros(usage.ru_utime) + micros(usage.ru_stime),
        peak_rss_bytes: u64::try_from(usage.ru_maxrss).unwrap_or(0) * 1024,
    };
    Some(Ended {
        pid: pid.cast_unsigned(),
        status,
        counted,
    })
}

/// Reaps a child that ended; does nothing if the child has not ended or is not a child of this
/// process.
#[allow(unsafe_code, reason = "waitpid, with no pointer handed over")]
pub(in crate::supervise) fn reap(pid: u32) {
    // SAFETY: a null pointer for the status is allowed. The result is ignored: ECHILD and "not yet"
    // leave nothing to do.
    unsafe { libc::waitpid(pid.cast_signed(), std::ptr::null_mut(), libc::WNOHANG) };
}

fn micros(time: libc::timeval) -> u64 {
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000 + u64::try_from(time.tv_usec).unwrap_or(0)
}

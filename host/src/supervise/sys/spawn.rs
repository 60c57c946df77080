//! Starts a process with `posix_spawn`, whose cost does not depend on the caller's memory (a fork
//! would copy the page tables). A fork is used only for steps in the child that `posix_spawn` does
//! not offer.

use std::ffi::{CStr, OsStr, c_char, c_short};
use std::io;
use std::mem::MaybeUninit;
use std::num::NonZeroU64;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::ptr;

use super::signals;

/// C strings in one allocation, and the pointers that `exec` takes.
#[derive(Debug, Clone, Default)]
pub(in crate::supervise) struct CStrings {
    bytes: Vec<u8>,
    starts: Vec<usize>,
}

impl CStrings {
    /// Adds a string; returns `false`, and adds nothing, if it contains a NUL byte.
    #[must_use]
    pub(in crate::supervise) fn push(&mut self, text: &[u8]) -> bool {
        if text.contains(&0) {
            return false;
        }
        self.starts.push(self.bytes.len());
        self.bytes.extend_from_slice(text);
        self.bytes.push(0);
        true
    }

    /// The size of all strings, with their NUL bytes.
    pub(in crate::supervise) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    pub(in crate::supervise) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.starts.iter().map(|start| {
            let rest = &self.bytes[*start..];
            &rest[..rest
                .iter()
                .position(|byte| *byte == 0)
                .unwrap_or(rest.len())]
        })
    }

    fn pointers(&self) -> Vec<*mut c_char> {
        let base = self.bytes.as_ptr();
        let strings = self
            .starts
            .iter()
            .map(|start| base.wrapping_add(*start).cast::<c_char>().cast_mut());
        strings.chain([ptr::null_mut()]).collect()
    }
}

/// Signals that the C library uses itself. `sigaddset` refuses them. If they are ignored and not in
/// the set of defaults, `posix_spawn` leaves them ignored in the child.
const OF_THE_C_LIBRARY: [usize; 2] = [32, 33];
/// The timer slack of a process whose starter has not changed it.
const TIMER_SLACK_NS: Option<NonZeroU64> = NonZeroU64::new(50_000);

/// Gives this process, and so its children, the usual personality and timer slack. This process has
/// inherited them from the program that started the host, which may have nothing to do with the
/// submitter of a task.
#[allow(unsafe_code, reason = "personality has no safe wrapper")]
pub(in crate::supervise) fn reset_execution() -> io::Result<()> {
    // SAFETY: the call takes a number and changes no memory.
    if unsafe { libc::personality(0) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(rustix::thread::set_current_timer_slack(TIMER_SLACK_NS)?)
}

/// Adds any signal to a set, even a signal that `sigaddset` refuses.
#[allow(unsafe_code, reason = "`sigaddset` refuses some signals")]
unsafe fn add(set: *mut libc::sigset_t, signal: usize) {
    const BITS: usize = libc::c_ulong::BITS as usize;
    let index = signal - 1;
    // SAFETY: the caller passes an initialised set. With every C library, a set is an array of
    // these words with one bit for each signal, in the order of the signals' numbers.
    unsafe { *set.cast::<libc::c_ulong>().add(index / BITS) |= 1 << (index % BITS) };
}

/// The signals that are set to their defaults in the child. (Handlers are always reset by `exec`;
/// ignored signals would stay ignored.)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::supervise) enum Defaults {
    /// The signals that a supervisor ignores: PIPE (because of Rust's runtime), XFSZ, and perhaps
    /// the signals of the C library.
    Ignored,
    /// All signals. For a start by a process that may itself have been started with ignored signals
    /// (for example by `nohup`).
    All,
}

/// A program to start, in the form that the system takes.
#[derive(Debug)]
pub(in crate::supervise) struct Spawn<'a> {
    pub(in crate::supervise) path: &'a CStr,
    pub(in crate::supervise) argv: &'a CStrings,
    pub(in crate::supervise) env: &'a CStrings,
    pub(in crate::supervise) cwd: &'a CStr,
    /// The child's stdio. None of these descriptors may be 0, 1 or 2.
    pub(in crate::supervise) stdio: [BorrowedFd<'a>; 3],
    pub(in crate::supervise) defaults: Defaults,
}

impl Spawn<'_> {
    /// Starts the program as the leader of a new session and group, with an empty signal mask.
    /// Descriptors other than stdio must be close-on-exec. If a step fails in the child, returns
    /// the error of this step, but not which step it was.
    #[allow(
        unsafe_code,
        reason = "posix_spawn has no safe wrapper; attributes live until they are destroyed below"
    )]
    pub(in crate::supervise) fn run(&self) -> io::Result<u32> {
        let argv = self.argv.pointers();
        let env = self.env.pointers();
        let mut pid = 0;
        // SAFETY: every pointer is to a NUL-terminated string or a NULL-terminated array that lives
        // to the end of this function; the attribute objects are initialised before use, not moved,
        // and destroyed once.
        unsafe {
            let mut actions = MaybeUninit::<libc::posix_spawn_file_actions_t>::uninit();
            check(libc::posix_spawn_file_actions_init(actions.as_mut_ptr()))?;
            let mut attributes = MaybeUninit::<libc::posix_spawnattr_t>::uninit();
            if let Err(error) = check(libc::posix_spawnattr_init(attributes.as_mut_ptr())) {
                libc::posix_spawn_file_actions_destroy(actions.as_mut_ptr());
                return Err(error);
            }
            let result = self
                .prepare(actions.as_mut_ptr(), attributes.as_mut_ptr())
                .and_then(|()| {
                    check(libc::posix_spawn(
                        &raw mut pid,
                        self.path.as_ptr(),
                        actions.as_ptr(),
                        attributes.as_ptr(),
                        argv.as_ptr(),
                        env.as_ptr(),
                    ))
                });
            libc::posix_spawnattr_destroy(attributes.as_mut_ptr());
            libc::posix_spawn_file_actions_destroy(actions.as_mut_ptr());
            result.map(|()| pid.cast_unsigned())
        }
    }

    /// Like [`Self::run`], but runs `before` in the child before its program begins. Needed for
    /// steps that the caller could not undo if it took them itself. Only for a process with one
    /// thread.
    #[allow(
        unsafe_code,
        reason = "running code in the child and then exec have no safe wrapper"
    )]
    #[allow(clippy::zombie_processes, reason = "the caller waits for its pid")]
    pub(in crate::supervise) fn run_after(
        &self,
        before: impl Fn() -> io::Result<()> + Send + Sync + 'static,
    ) -> io::Result<u32> {
        let mut command = Command::new(OsStr::from_bytes(self.path.to_bytes()));
        let [stdin, stdout, stderr] = self.stdio;
        let own = |descriptor: BorrowedFd<'_>| descriptor.try_clone_to_owned().map(Stdio::from);
        command
            .current_dir(OsStr::from_bytes(self.cwd.to_bytes()))
            .stdin(own(stdin)?)
            .stdout(own(stdout)?)
            .stderr(own(stderr)?);
        let (path, argv, env) = (self.path.to_owned(), self.argv.clone(), self.env.clone());
        let begin = move || -> io::Result<()> {
            rustix::process::setsid()?;
            signals::reset_inherited()?;
            let (argv, env) = (argv.pointers(), env.pointers());
            before()?;
            // SAFETY: every pointer is to a NUL-terminated string or a NULL-terminated array that
            // lives until the program has begun.
            unsafe { libc::execve(path.as_ptr(), argv.as_ptr().cast(), env.as_ptr().cast()) };
            Err(io::Error::last_os_error())
        };
        // SAFETY: the caller has one thread, so its child may do anything that the caller may. When
        // `begin` runs, the signal mask is empty and PIPE has its default disposition.
        unsafe { command.pre_exec(begin) };
        Ok(command.spawn()?.id())
    }

    #[allow(unsafe_code, reason = "part of `run`")]
    unsafe fn prepare(
        &self,
        actions: *mut libc::posix_spawn_file_actions_t,
        attributes: *mut libc::posix_spawnattr_t,
    ) -> io::Result<()> {
        // SAFETY: `run` passes initialised objects; the sets are initialised by the calls that fill
        // them.
        unsafe {
            for (target, descriptor) in (0..).zip(&self.stdio) {
                check(libc::posix_spawn_file_actions_adddup2(
                    actions,
                    descriptor.as_raw_fd(),
                    target,
                ))?;
            }
            check(libc::posix_spawn_file_actions_addchdir_np(
                actions,
                self.cwd.as_ptr(),
            ))?;
            let mut set = MaybeUninit::<libc::sigset_t>::uninit();
            libc::sigemptyset(set.as_mut_ptr());
            check(libc::posix_spawnattr_setsigmask(attributes, set.as_ptr()))?;
            match self.defaults {
                Defaults::Ignored => {
                    libc::sigaddset(set.as_mut_ptr(), libc::SIGPIPE);
                    libc::sigaddset(set.as_mut_ptr(), libc::SIGXFSZ)
                }
                Defaults::All => libc::sigfillset(set.as_mut_ptr()),
            };
            for signal in OF_THE_C_LIBRARY {
                add(set.as_mut_ptr(), signal);
            }
            check(libc::posix_spawnattr_setsigdefault(
                attributes,
                set.as_ptr(),
            ))?;
            let flags = libc::POSIX_SPAWN_SETSIGMASK | libc::POSIX_SPAWN_SETSIGDEF;
            // Both flags fit: they are 8 and 4.
            let flags = c_short::try_from(flags).unwrap_or(0) | libc::POSIX_SPAWN_SETSID;
            check(libc::posix_spawnattr_setflags(attributes, flags))
        }
    }
}

/// Turns a result into an error: the `posix_spawn` functions return the error number instead of
/// setting `errno`.
fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(result))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pushed_strings_are_returned_in_order_and_a_nul_byte_is_refused() {
        let mut strings = CStrings::default();
        assert!(strings.push(b"a=1") && strings.push(b"") && !strings.push(b"nul\0here"));
        assert_eq!(strings.iter().collect::<Vec<_>>(), [&b"a=1"[..], b""]);
        assert_eq!(strings.pointers().len(), 3);
    }
}

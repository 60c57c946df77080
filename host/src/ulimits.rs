//! Limits (`ulimit`) under which Claudine cannot work. A limit that is too low is refused at the
//! start, with its name, because a program that exceeds it ends without saying why.

use std::{fs, path::Path, sync::Mutex, thread, time::Duration};

use rustix::process::{Resource, getrlimit};

use crate::{lock::lock, units};

/// A limit, and the least value with which Claudine works.
struct Need {
    resource: Resource,
    what: &'static str,
    command: &'static str,
    least: u64,
    shown: fn(u64) -> String,
}

/// A host starts all of its threads with 400 MiB of address space; with 20 MiB of memory it could
/// load no plugin. Less than a minute of processor time is soon used up, and with 16 open files the
/// database could not be opened.
const HOST: [Need; 4] = [
    Need {
        resource: Resource::As,
        what: "the address space",
        command: "ulimit -v",
        least: 400 << 20,
        shown: units::bytes_text,
    },
    Need {
        resource: Resource::Data,
        what: "the memory",
        command: "ulimit -d",
        least: 256 << 20,
        shown: units::bytes_text,
    },
    Need {
        resource: Resource::Cpu,
        what: "the processor time",
        command: "ulimit -t",
        least: 60,
        shown: seconds,
    },
    Need {
        resource: Resource::Nofile,
        what: "the number of open files",
        command: "ulimit -n",
        least: 64,
        shown: count,
    },
];

/// The stack of the first thread. The other threads have their own.
const STACK: Need = Need {
    resource: Resource::Stack,
    what: "the stack",
    command: "ulimit -s",
    least: 1 << 20,
    shown: units::bytes_text,
};

/// Error: a limit is too low.
#[derive(PartialEq, Eq, Debug, thiserror::Error)]
#[error("{what} is limited to {limit} (`{command}`), but {who} needs {least}")]
pub(crate) struct TooLow {
    who: &'static str,
    what: &'static str,
    command: &'static str,
    limit: String,
    least: String,
}

/// The way out of [`TooLow`].
pub(crate) const HINT: &str = "start it from a shell without this limit";

impl Need {
    fn met_by(&self, limit: Option<u64>, who: &'static str) -> Result<(), TooLow> {
        match limit {
            Some(limit) if limit < self.least => Err(TooLow {
                who,
                what: self.what,
                command: self.command,
                limit: (self.shown)(limit),
                least: (self.shown)(self.least),
            }),
            _ => Ok(()),
        }
    }
}

/// Checks the limits of a host, after their soft values were raised as far as possible.
pub(crate) fn of_a_host() -> Result<(), TooLow> {
    HOST.iter()
        .try_for_each(|need| need.met_by(getrlimit(need.resource).current, "a host"))
}

/// Checks the limits that every command needs.
pub(crate) fn of_a_command() -> Result<(), TooLow> {
    STACK.met_by(getrlimit(STACK.resource).current, "Claudine")
}

/// The threads and processes that a host needs beside those that compile plugins: its workers, the
/// threads for commits, for guests and for reads, a supervisor and a git command.
const THREADS: usize = 16;
/// The most threads of the compiler of plugins. Each thread reserves address space, which is
/// limited.
pub(crate) const COMPILER_THREADS: usize = 8;
/// The stack of a thread that only waits.
const TRIED_STACK: usize = 64 << 10;
const PROC: &str = "/proc";
const CGROUPS: &str = "/sys/fs/cgroup";

/// Error: too few threads can be started.
#[derive(Debug, thiserror::Error)]
#[error("a host needs {needed} threads, but only {started} can be started{}", limited_to(*limit))]
pub(crate) struct TooFewThreads {
    started: usize,
    needed: usize,
    /// The limit on the processes and threads of this user, if it may be the reason.
    limit: Option<u64>,
}

fn limited_to(limit: Option<u64>) -> String {
    limit.map_or_else(String::new, |limit| {
        format!(", and the processes and threads of this user are limited to {limit} (`ulimit -u`)")
    })
}

impl TooFewThreads {
    /// The way out. Other limits than `ulimit -u` give the same error.
    pub(crate) fn hint(&self) -> String {
        let cgroup = "raise the limit of its cgroup (`pids.max`) or free memory";
        match self.limit {
            Some(_) => format!("{HINT}, end other processes of this user, or {cgroup}"),
            None => cgroup.to_owned(),
        }
    }
}

/// Checks whether a host can start its threads. If a limit is so near that it may prevent this, as
/// many threads are started at once and ended, because only this tells: `ulimit -u` counts all
/// threads of the user and does not apply to root. A runtime that gets no thread panics.
pub(crate) fn enough_threads() -> Result<(), TooFewThreads> {
    // The compiler of plugins starts a thread for each processor, up to a limit.
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let needed = THREADS + processors.min(COMPILER_THREADS);
    let limit = near(getrlimit(Resource::Nproc).current, threads(), needed);
    if limit.is_none() && !is_near_in_cgroup(Path::new(PROC), Path::new(CGROUPS), needed) {
        return Ok(());
    }
    let started = startable(needed, TRIED_STACK);
    if started == needed {
        return Ok(());
    }
    Err(TooFewThreads {
        started,
        needed,
        limit,
    })
}

/// The limit, if it may leave room for fewer further threads than needed. `present` is the number
/// of threads, or more; `None` if it is unknown.
fn near(limit: Option<u64>, present: Option<u64>, needed: usize) -> Option<u64> {
    let is_far = |limit: u64| {
        let room = present.and_then(|present| limit.checked_sub(present));
        room.is_some_and(|room| room >= needed as u64)
    };
    limit.filter(|limit| !is_far(*limit))
}

/// The number of threads of all users. Some sandboxes say 0.
fn threads() -> Option<u64> {
    let load = fs::read_to_string(Path::new(PROC).join("loadavg")).ok()?;
    let (_, threads) = load.split(' ').nth(3)?.split_once('/')?;
    threads.parse().ok().filter(|threads| *threads > 0)
}

/// Whether a limit of the cgroup of this process, or of one above it, may leave room for fewer
/// further threads than needed. Also if the cgroups cannot be seen.
fn is_near_in_cgroup(proc: &Path, cgroups: &Path, needed: usize) -> bool {
    let Ok(own) = fs::read_to_string(proc.join("self/cgroup")) else {
        return true;
    };
    // Such as `0::/user.slice` or, in version 1, `8:pids:/user.slice`.
    let places = own.lines().filter_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        let mount = match controllers {
            "" => cgroups.to_owned(),
            _ if controllers.split(',').any(|it| it == "pids") => cgroups.join("pids"),
            _ => return None,
        };
        Some((path.trim_start_matches('/').to_owned(), mount))
    });
    for (path, mount) in places {
        if !mount.is_dir() {
            return true;
        }
        let own = mount.join(path);
        let mut all = own.ancestors().take_while(|dir| dir.starts_with(&mount));
        // The highest cgroup has no such file, and a cgroup without a limit says `max`.
        let is_near = |dir: &Path| {
            number_in(&dir.join("pids.max")).is_some_and(|limit| {
                near(Some(limit), number_in(&dir.join("pids.current")), needed).is_some()
            })
        };
        if all.any(is_near) {
            return true;
        }
    }
    false
}

fn number_in(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// How many threads can be started at once, up to a number.
fn startable(most: usize, stack_bytes: usize) -> usize {
    let gate = &Mutex::new(());
    thread::scope(|scope| {
        let closed = lock(gate);
        let start = |_| {
            let builder = thread::Builder::new().stack_size(stack_bytes);
            builder.spawn_scoped(scope, move || drop(lock(gate))).ok()
        };
        let started: Vec<_> = (0..most).map_while(start).collect();
        let number = started.len();
        drop(closed);
        for thread in started {
            // Such a thread cannot panic.
            thread.join().unwrap_or_default();
        }
        number
    })
}

/// A warning if the processor time of this process is limited. Such a limit applies to each process
/// by itself.
pub(crate) fn limited_time() -> Option<String> {
    let limit = getrlimit(Resource::Cpu).current?;
    Some(format!(
        "the host ends once it has used {} of processor time (`ulimit -Ht`), and so does its supervisor, with all running tasks; {HINT}",
        seconds(limit)
    ))
}

fn seconds(seconds: u64) -> String {
    units::duration_word(Duration::from_secs(seconds))
}

fn count(number: u64) -> String {
    number.to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn a_limit_that_is_too_low_is_named_with_the_least_value() {
        let told = |need: &Need, limit| need.met_by(limit, "a host").map_err(|it| it.to_string());
        for need in HOST.iter().chain([&STACK]) {
            assert_eq!(told(need, None), Ok(()));
            assert_eq!(told(need, Some(need.least)), Ok(()));
            let refused = told(need, Some(need.least - 1)).err().unwrap_or_default();
            assert!(refused.contains(need.command), "{refused}");
        }
        assert_eq!(
            told(&HOST[2], Some(1)),
            Err(
                "the processor time is limited to 1s (`ulimit -t`), but a host needs 1m".to_owned()
            )
        );
    }

    #[test]
    fn threads_are_started_until_one_is_refused() {
        assert_eq!(startable(3, TRIED_STACK), 3);
        // No machine has room for such a stack.
        assert_eq!(startable(3, 1 << 60), 0);
    }

    #[test]
    fn threads_are_tried_only_if_a_limit_is_near_or_the_threads_are_not_known() {
        let check = |limit: Option<u64>, present: Option<u64>, expected: bool| {
            let found = near(limit, present, 18);
            assert_eq!(found, limit.filter(|_| expected), "{limit:?} {present:?}");
        };
        check(None, None, false);
        check(Some(1_000), None, true);
        check(Some(1_000), Some(982), false);
        check(Some(1_000), Some(983), true);
        check(Some(1_000), Some(2_000), true);
        let own = fs::read_dir("/proc/self/task").unwrap().count();
        assert!(threads().unwrap() >= own as u64);
    }

    #[test]
    fn a_limit_of_any_cgroup_above_the_process_counts() {
        let dir = tempfile::tempdir().unwrap();
        let (proc, cgroups) = (dir.path().join("proc"), dir.path().join("cgroup"));
        let set = |path: &Path, text: &str| {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let is_near = || is_near_in_cgroup(&proc, &cgroups, 18);
        assert!(is_near(), "the cgroup is not known");
        let own = proc.join("self/cgroup");
        set(&own, "9:name=systemd:/\n0::/above/own\n");
        assert!(is_near(), "no cgroup can be seen");
        for (version, mount) in [("0:", ""), ("8:cpu,pids", "pids")] {
            set(&own, &format!("9:name=systemd:/\n{version}:/above/own\n"));
            let above = cgroups.join(mount).join("above");
            set(&above.join("own/pids.max"), "max\n");
            set(&above.join("pids.max"), "100\n");
            set(&above.join("pids.current"), "82\n");
            assert!(!is_near(), "{version}");
            set(&above.join("pids.current"), "83\n");
            // In the next round this limit stays, but is not one of the process's cgroups.
            assert!(is_near(), "{version}");
        }
    }

    #[test]
    fn too_few_threads_are_explained_by_the_limit_of_the_user_only_if_there_is_one() {
        let refused = |limit| TooFewThreads {
            started: 3,
            needed: 18,
            limit,
        };
        let limited = refused(Some(7)).to_string();
        assert!(limited.contains("limited to 7 (`ulimit -u`)"), "{limited}");
        assert!(refused(Some(7)).hint().contains(HINT));
        let other = refused(None);
        assert_eq!(
            other.to_string(),
            "a host needs 18 threads, but only 3 can be started"
        );
        assert!(
            other.hint().starts_with("raise the limit"),
            "{}",
            other.hint()
        );
    }
}

//! Scheduling of a process besides its niceness: the properties that `taskset`, `chrt` and `ionice`
//! set.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

const BITS: usize = u64::BITS as usize;

/// Scheduling of a process. Missing values are left unchanged.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Scheduling {
    policy: Option<Policy>,
    io: Option<u16>,
    processors: Option<Processors>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Policy {
    number: i32,
    priority: i32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Processors {
    /// All processors of the machine, including processors that are added later.
    All,
    Some(CpuSet),
}

impl Processors {
    fn of_this_process() -> Option<Self> {
        let set = sched_getaffinity(None).ok()?;
        let is_all = online().is_some_and(|online| set.count() >= online);
        Some(if is_all { Self::All } else { Self::Some(set) })
    }

    fn take_on(self) {
        let set = match self {
            Self::Some(set) => set,
            Self::All => {
                let mut all = CpuSet::new();
                (0..CpuSet::MAX_CPU).for_each(|at| all.set(at));
                all
            }
        };
        // An error is ignored, because it is better to run a task on other processors than not to
        // run it at all.
        sched_setaffinity(None, &set).unwrap_or_default();
    }
}

impl Scheduling {
    pub(super) fn of_this_process() -> Self {
        Self {
            policy: policy(),
            io: io_priority(),
            processors: Processors::of_this_process(),
        }
    }

    /// The scheduling of a process of which nothing was changed.
    pub(super) fn usual() -> Self {
        Self {
            policy: Some(Policy {
                number: 0,
                priority: 0,
            }),
            io: Some(0),
            processors: Some(Processors::All),
        }
    }

    /// The same scheduling without the usual values, or `None` if a value is missing.
    pub(super) fn without_usual(&self) -> Option<Self> {
        let usual = Self::usual();
        let (policy, io, processors) = (self.policy?, self.io?, self.processors?);
        Some(Self {
            policy: Some(policy).filter(|_| self.policy != usual.policy),
            io: Some(io).filter(|_| self.io != usual.io),
            processors: Some(processors).filter(|_| self.processors != usual.processors),
        })
    }

    /// Applies the scheduling to this process. A property that this process may not change is
    /// skipped.
    pub(super) fn take_on(&self) {
        let own = Self::of_this_process();
        if let Some(processors) = self
            .processors
            .filter(|_| self.processors != own.processors)
        {
            processors.take_on();
        }
        if let Some(policy) = self.policy.filter(|_| self.policy != own.policy) {
            set_policy(policy);
        }
        if let Some(io) = self.io.filter(|_| self.io != own.io) {
            set_io_priority(io);
        }
    }

    /// Parses one word of the encoding. Skips an unknown name or an invalid value.
    pub(super) fn read(&mut self, name: &str, pair: (Option<u64>, Option<u64>)) {
        match (name, pair) {
            ("policy", (Some(number), Some(priority))) => {
                let read = |number: u64| i32::try_from(number).ok();
                self.policy = read(number)
                    .zip(read(priority))
                    .map(|(number, priority)| Policy { number, priority });
            }
            ("io", (Some(io), _)) => self.io = u16::try_from(io).ok(),
            ("cpus", (None, None)) => self.processors = Some(Processors::All),
            (_, (Some(low), Some(high))) => {
                let at = name.strip_prefix("cpus").and_then(|at| at.parse().ok());
                let Some(at) = at.filter(|at: &usize| *at < CpuSet::MAX_CPU / (2 * BITS)) else {
                    return;
                };
                let mut set = match self.processors {
                    Some(Processors::Some(set)) => set,
                    _ => CpuSet::new(),
                };
                for (half, mask) in [low, high].into_iter().enumerate() {
                    let first = (2 * at + half) * BITS;
                    let is_set = |bit: &usize| (mask >> bit) & 1 == 1;
                    (0..BITS)
                        .filter(is_set)
                        .for_each(|bit| set.set(first + bit));
                }
                self.processors = Some(Processors::Some(set));
            }
            _ => {}
        }
    }

    /// Words of the encoding: `policy=POLICY:PRIORITY`, `io=PRIORITY:0` and the processors.
    /// `cpusN=LOW:HIGH` is the mask of 128 processors, of which the first has the number N × 128.
    /// `cpus=-:-` means all processors. The value of each word is a pair of numbers, like the value
    /// of a limit, because older versions skip an unknown name only if its value has this form.
    pub(super) fn words(&self) -> Vec<String> {
        let policy = self
            .policy
            .map(|it| format!("policy={}:{}", it.number, it.priority));
        let io = self.io.map(|io| format!("io={io}:0"));
        let mut words: Vec<String> = policy.into_iter().chain(io).collect();
        match self.processors {
            None => {}
            Some(Processors::All) => words.push("cpus=-:-".to_owned()),
            Some(Processors::Some(set)) => {
                let mask = |word: usize| {
                    let bits = (0..BITS).filter(|bit| set.is_set(word * BITS + bit));
                    bits.fold(0_u64, |mask, bit| mask | (1 << bit))
                };
                let pairs = (0..CpuSet::MAX_CPU / (2 * BITS))
                    .map(|at| (at, mask(2 * at), mask(2 * at + 1)))
                    .filter(|(_, low, high)| (*low, *high) != (0, 0));
                words.extend(pairs.map(|(at, low, high)| format!("cpus{at}={low}:{high}")));
            }
        }
        words
    }
}

#[allow(unsafe_code, reason = "this call has no safe wrapper")]
fn online() -> Option<u32> {
    // SAFETY: the call takes only a number.
    let count = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) };
    u32::try_from(count).ok().filter(|count| *count > 0)
}

#[allow(unsafe_code, reason = "these calls have no safe wrapper")]
fn policy() -> Option<Policy> {
    let mut param = libc::sched_param { sched_priority: 0 };
    // SAFETY: the structure is initialised, and lives until the call returns.
    let (number, done) = unsafe {
        (
            libc::sched_getscheduler(0),
            libc::sched_getparam(0, &raw mut param),
        )
    };
    (number >= 0 && done == 0).then_some(Policy {
        number,
        priority: param.sched_priority,
    })
}

#[allow(unsafe_code, reason = "this call has no safe wrapper")]
fn set_policy(policy: Policy) {
    let param = libc::sched_param {
        sched_priority: policy.priority,
    };
    // SAFETY: the structure is initialised, and lives until the call returns. An error is ignored.
    unsafe { libc::sched_setscheduler(0, policy.number, &raw const param) };
}

/// Value from `linux/ioprio.h`.
const IOPRIO_WHO_PROCESS: libc::c_int = 1;

#[allow(unsafe_code, reason = "this call has no wrapper")]
fn io_priority() -> Option<u16> {
    // SAFETY: the call takes only numbers.
    let found = unsafe { libc::syscall(libc::SYS_ioprio_get, IOPRIO_WHO_PROCESS, 0) };
    u16::try_from(found).ok()
}

#[allow(unsafe_code, reason = "this call has no wrapper")]
fn set_io_priority(priority: u16) {
    let priority = libc::c_int::from(priority);
    // SAFETY: the call takes only numbers. An error is ignored.
    unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, priority) };
}

//! Properties of a process besides its environment and umask: limits (`ulimit`), niceness and other
//! scheduling, and the adjustment of the OOM killer.
//!
//! A task inherits these properties from its submitter, not from the host. The properties are
//! encoded as words such as `nice=0 oom=0 nofile=1024:4096 cpu=-:-`; `-` means unlimited. In the
//! short encoding, which begins with the word `usual=0:0`, each missing value is the usual one.

mod scheduling;

use std::{fmt, str::FromStr};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};

use self::scheduling::Scheduling;

const OOM_SCORE_ADJ: &str = "/proc/self/oom_score_adj";

/// All limits except the limit on file locks. Linux does not enforce that limit, and its value is
/// the tag by which the descendants of supervisors and hosts are recognised
/// (`supervise::sys::tag`).
const LIMITS: [(&str, Resource); 15] = [
    ("as", Resource::As),
    ("core", Resource::Core),
    ("cpu", Resource::Cpu),
    ("data", Resource::Data),
    ("fsize", Resource::Fsize),
    ("memlock", Resource::Memlock),
    ("msgqueue", Resource::Msgqueue),
    ("nice_max", Resource::Nice),
    ("nofile", Resource::Nofile),
    ("nproc", Resource::Nproc),
    ("rss", Resource::Rss),
    ("rtprio", Resource::Rtprio),
    ("rttime", Resource::Rttime),
    ("sigpending", Resource::Sigpending),
    ("stack", Resource::Stack),
];

/// The first name of the short encoding. It has a pair of numbers as its value, like a limit,
/// because older versions skip an unknown name only if its value has this form. It stands for the
/// values of [`Bounds::usual`] in stored rows, so these must never change: other usual values need
/// another first name.
const USUAL: &str = "usual";

/// The limits of a login session by default: those of the kernel, and of systemd where they differ.
/// The limits on processes and on pending signals depend on the machine's memory.
fn usual_limit(resource: Resource) -> Option<Rlimit> {
    let of = |current, maximum| Some(Rlimit { current, maximum });
    match resource {
        Resource::As
        | Resource::Cpu
        | Resource::Data
        | Resource::Fsize
        | Resource::Rss
        | Resource::Rttime => of(None, None),
        Resource::Core => of(Some(0), None),
        Resource::Memlock => of(Some(8 << 20), Some(8 << 20)),
        Resource::Msgqueue => of(Some(800 << 10), Some(800 << 10)),
        Resource::Nice | Resource::Rtprio => of(Some(0), Some(0)),
        Resource::Nofile => of(Some(1 << 10), Some(512 << 10)),
        Resource::Stack => of(Some(8 << 20), None),
        _ => None,
    }
}

/// Properties of a process. Missing values are left unchanged.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Bounds {
    nice: Option<i32>,
    oom_score_adj: Option<i32>,
    /// Limits in the order of [`LIMITS`].
    limits: [Option<Rlimit>; LIMITS.len()],
    scheduling: Scheduling,
}

impl Bounds {
    pub(crate) fn of_this_process() -> Self {
        let oom = std::fs::read_to_string(OOM_SCORE_ADJ).ok();
        Self {
            nice: rustix::process::getpriority_process(None).ok(),
            oom_score_adj: oom.and_then(|text| text.trim().parse().ok()),
            limits: LIMITS.map(|(_, resource)| Some(getrlimit(resource))),
            scheduling: Scheduling::of_this_process(),
        }
    }

    /// The bounds of a process of which nothing was changed. They are a part of the encoding.
    fn usual() -> Self {
        Self {
            nice: Some(0),
            oom_score_adj: Some(0),
            limits: LIMITS.map(|(_, resource)| usual_limit(resource)),
            scheduling: Scheduling::usual(),
        }
    }

    /// Encodes the bounds in the short encoding, because each task's row contains them. Bounds
    /// without one of the usual values cannot be encoded in this way.
    pub(crate) fn short(&self) -> String {
        let usual = Self::usual();
        let limits = || self.limits.iter().zip(usual.limits);
        let has_all = self.nice.is_some()
            && self.oom_score_adj.is_some()
            && limits().all(|(own, usual)| own.is_some() || usual.is_none());
        let Some(scheduling) = self.scheduling.without_usual().filter(|_| has_all) else {
            return self.to_string();
        };
        let mut unusual = Self {
            nice: self.nice.filter(|_| self.nice != usual.nice),
            oom_score_adj: self
                .oom_score_adj
                .filter(|_| self.oom_score_adj != usual.oom_score_adj),
            limits: self.limits,
            scheduling,
        };
        for (limit, usual) in unusual.limits.iter_mut().zip(usual.limits) {
            if *limit == usual {
                *limit = None;
            }
        }
        format!("{USUAL}=0:0 {unusual}").trim_end().to_owned()
    }

    /// Returns the same bounds with another soft limit on open files.
    pub(crate) fn with_descriptors(mut self, soft: Option<u64>) -> Self {
        for ((_, resource), limit) in LIMITS.iter().zip(&mut self.limits) {
            if let (Resource::Nofile, Some(limit)) = (resource, limit) {
                limit.current = soft;
            }
        }
        self
    }

    /// Only a limit on the memory that a process does not share with others (`ulimit -d`).
    pub(crate) fn with_memory(bytes: u64) -> Self {
        let limit = Rlimit {
            current: Some(bytes),
            maximum: Some(bytes),
        };
        Self {
            limits: LIMITS.map(|(_, resource)| (resource == Resource::Data).then_some(limit)),
            ..Self::default()
        }
    }

    /// Applies the bounds to this process. Only root can loosen an inherited limit. For other
    /// users, such a limit is set to the highest permitted value.
    pub(crate) fn take_on(&self) {
        if let Some(adjustment) = self.oom_score_adj {
            // Errors are ignored here and below, because it is better to run a task with other
            // limits than not to run it at all.
            std::fs::write(OOM_SCORE_ADJ, adjustment.to_string()).unwrap_or_default();
        }
        // The niceness is set before the limits, because the limit on niceness may forbid it.
        if let Some(nice) = self.nice {
            rustix::process::setpriority_process(None, nice).unwrap_or_default();
        }
        self.scheduling.take_on();
        for ((_, resource), limit) in LIMITS.iter().zip(self.limits) {
            let Some(wanted) = limit else { continue };
            let own = getrlimit(*resource);
            if wanted != own && setrlimit(*resource, wanted).is_err() {
                setrlimit(*resource, within(wanted, own)).unwrap_or_default();
            }
        }
    }
}

/// Reduces a limit to at most this process's hard limit.
fn within(wanted: Rlimit, own: Rlimit) -> Rlimit {
    let least = |one: Option<u64>, other: Option<u64>| match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    };
    let maximum = least(wanted.maximum, own.maximum);
    Rlimit {
        current: least(wanted.current, maximum),
        maximum,
    }
}

impl fmt::Display for Bounds {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut space = "";
        for (name, value) in [("nice", self.nice), ("oom", self.oom_score_adj)] {
            if let Some(value) = value {
                write!(out, "{space}{name}={value}")?;
                space = " ";
            }
        }
        for ((name, _), limit) in LIMITS.iter().zip(self.limits) {
            if let Some(Rlimit { current, maximum }) = limit {
                let text =
                    |value: Option<u64>| value.map_or_else(|| "-".to_owned(), |it| it.to_string());
                write!(out, "{space}{name}={}:{}", text(current), text(maximum))?;
                space = " ";
            }
        }
        for word in self.scheduling.words() {
            write!(out, "{space}{word}")?;
            space = " ";
        }
        Ok(())
    }
}

/// Error: the text does not encode bounds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not the bounds of a process")]
pub(crate) struct NoBounds;

impl FromStr for Bounds {
    type Err = NoBounds;

    /// Parses both encodings. Skips unknown names, because newer versions may add names.
    fn from_str(text: &str) -> Result<Self, NoBounds> {
        let number = |text: &str| match text {
            "-" => Ok(None),
            number => number.parse::<u64>().map(Some).map_err(|_| NoBounds),
        };
        let mut bounds = Self::default();
        for word in text.split_ascii_whitespace() {
            let (name, value) = word.split_once('=').ok_or(NoBounds)?;
            match name {
                "nice" => bounds.nice = Some(value.parse().map_err(|_| NoBounds)?),
                "oom" => bounds.oom_score_adj = Some(value.parse().map_err(|_| NoBounds)?),
                USUAL => bounds = Self::usual(),
                _ => {
                    let (current, maximum) = value.split_once(':').ok_or(NoBounds)?;
                    let (current, maximum) = (number(current)?, number(maximum)?);
                    match LIMITS.iter().position(|(known, _)| *known == name) {
                        Some(at) => bounds.limits[at] = Some(Rlimit { current, maximum }),
                        None => bounds.scheduling.read(name, (current, maximum)),
                    }
                }
            }
        }
        Ok(bounds)
    }
}

impl TryFrom<String> for Bounds {
    type Error = NoBounds;

    fn try_from(text: String) -> Result<Self, NoBounds> {
        text.parse()
    }
}

impl From<Bounds> for String {
    fn from(bounds: Bounds) -> Self {
        bounds.to_string()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn only_memory_is_limited() {
        let limited = Bounds::with_memory(2 << 20);
        assert_eq!(limited.to_string(), "data=2097152:2097152");
        assert_eq!("data=2097152:2097152".parse(), Ok(limited));
    }

    #[test]
    fn bounds_are_parsed_from_their_encoding() {
        let own = Bounds::of_this_process();
        assert_eq!(own.to_string().parse::<Bounds>(), Ok(own));
        let text = "nice=-5 oom=300 cpu=10:- nofile=64:4096";
        let read: Bounds = text.parse().unwrap();
        assert_eq!(read.to_string(), text);
        let other = read.with_descriptors(Some(100)).to_string();
        assert_eq!(other, "nice=-5 oom=300 cpu=10:- nofile=100:4096");
        let text = "nice=0 policy=3:0 io=24576:0 cpus0=5:1 cpus7=0:9223372036854775808";
        assert_eq!(text.parse::<Bounds>().unwrap().to_string(), text);
        let text = "cpus=-:-";
        assert_eq!(text.parse::<Bounds>().unwrap().to_string(), text);
        for newer in [
            "newer=1:2",
            "cpus8=1:0",
            "cpusx=1:0",
            "io=65536:0",
            "policy=-:0",
        ] {
            assert_eq!(newer.parse::<Bounds>(), Ok(Bounds::default()), "{newer}");
        }
        for none in ["nice", "nice=x", "cpu=1", "cpu=1:", "cpu=a:-", "oom=1:2"] {
            assert_eq!(none.parse::<Bounds>(), Err(NoBounds), "{none}");
        }
    }

    /// Otherwise tasks that are stored in the short encoding would run with other bounds.
    #[test]
    fn the_short_encoding_of_a_stored_row_keeps_its_meaning() {
        let read: Bounds = "usual=0:0 nice=5 nproc=9:10".parse().unwrap();
        assert_eq!(
            read.to_string(),
            "nice=5 oom=0 as=-:- core=0:- cpu=-:- data=-:- fsize=-:- memlock=8388608:8388608 \
             msgqueue=819200:819200 nice_max=0:0 nofile=1024:524288 nproc=9:10 rss=-:- \
             rtprio=0:0 rttime=-:- stack=8388608:- policy=0:0 io=0:0 cpus=-:-"
        );
    }

    #[test]
    fn the_short_encoding_leaves_out_the_usual_values_only() {
        let check = |bounds: &Bounds, expected: &str| {
            assert_eq!(bounds.short(), expected);
            assert_eq!(expected.parse().as_ref(), Ok(bounds));
        };
        let usual = Bounds::usual();
        check(&usual, "usual=0:0");
        let changes = [
            "nice=5",
            "oom=-300",
            "as=1:2",
            "core=0:0",
            "cpu=10:-",
            "nofile=1024:4096",
            "nproc=9:10",
            "sigpending=-:-",
            "stack=-:-",
            "policy=3:0",
            "io=24576:0",
            "cpus0=1:0",
        ];
        for change in changes {
            let text = format!("usual=0:0 {change}");
            let bounds: Bounds = text.parse().unwrap();
            assert_ne!(bounds, usual, "{change}");
            check(&bounds, &text);
        }
        // A value that is left unchanged is not the usual value.
        for name in ["nice", "oom", "as", "stack", "policy", "io", "cpus"] {
            let words = usual.to_string();
            let others = words.split(' ').filter(|word| {
                let of = word.split_once('=').unwrap().0;
                of != name
            });
            let text = others.collect::<Vec<_>>().join(" ");
            assert_ne!(text, words, "{name}");
            check(&text.parse().unwrap(), &text);
        }
        let own = Bounds::of_this_process();
        assert_eq!(own.short().parse(), Ok(own));
    }

    #[test]
    fn limits_are_reduced_to_the_hard_limit() {
        let limit = |current, maximum| Rlimit { current, maximum };
        let check = |wanted, own, expected| assert_eq!(within(wanted, own), expected);
        let own = limit(Some(10), Some(100));
        check(limit(Some(50), Some(60)), own, limit(Some(50), Some(60)));
        check(limit(Some(50), None), own, limit(Some(50), Some(100)));
        check(limit(None, None), own, limit(Some(100), Some(100)));
        check(
            limit(Some(200), Some(300)),
            own,
            limit(Some(100), Some(100)),
        );
        check(limit(None, None), limit(None, None), limit(None, None));
    }
}

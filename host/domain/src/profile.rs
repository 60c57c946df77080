//! Measured needs of attempts by class, from which the needs of the next attempt are predicted.
//!
//! A class is an executor with a set of labels: tasks with the same labels are assumed to have the
//! same needs. Each end of a measured attempt updates two profiles: the profile of its class, and
//! the profile of its executor as a whole.
//!
//! **The prediction** is the 95th percentile of the last [`WINDOW`] attempts by nearest rank (the
//! value at rank ⌈0.95 n⌉). For memory, the percentile is taken of the peaks; for the processor, of
//! the average number of cores in use. This is the moving window of Autopilot (Rzadca et al.,
//! *Autopilot: workload autoscaling at Google*, EuroSys 2020, 3.2.1), which also uses averages for
//! batch work, since too little processor time makes such work slow, while too little memory kills
//! it. No margin is added, since the memory reserve already is a margin.
//!
//! **Trust**: a class with labels is trusted from [`ENOUGH_OF_A_CLASS`] attempts on. The profile of
//! an executor mixes the attempts of all its classes, so a single outlier must not decide. With
//! fewer than twenty samples, the 95th percentile is the maximum. Therefore an executor's profile
//! is trusted only from [`ENOUGH_OF_AN_EXECUTOR`] attempts on. If a class is not trusted, the
//! profile of its executor is used. If that profile is not trusted either, fixed needs for each
//! kind of executor are used.
//!
//! **Blind spot**: a class may reach its memory peak late, and nothing is known of this peak until
//! its first attempts have ended. The readings, the memory reserve and the stop at memory pressure
//! protect against such a peak.
//!
//! **Forgetting**: attempts older than the window do not count. With a full window, four larger
//! attempts in a row raise the prediction, but it takes sixty-one smaller ones to lower it, which
//! is cautious. At most [`PROFILES`] profiles are kept. A new profile replaces the profile of the
//! untrusted class that was updated the longest ago, so the profiles of labels that are never used
//! again only replace one another.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{
    attempt::Usage,
    task::{Class, Request},
    time::{Timestamp, millis},
};

/// Number of attempts that a profile remembers.
pub const WINDOW: usize = 64;
/// Maximum number of profiles.
pub const PROFILES: usize = 256;
pub const ENOUGH_OF_A_CLASS: usize = 5;
pub const ENOUGH_OF_AN_EXECUTOR: usize = 20;

const PERCENTILE: usize = 95;
const MIB: u64 = 1 << 20;
/// Assumed peak of an attempt whose memory was too small to be distinguished from the supervisor's
/// own memory.
const SMALL_BYTES: u64 = 4 * MIB;
/// Shortest time over which processor use is averaged: the time between two readings of the
/// machine. Without this minimum, an attempt that used a full core for two milliseconds would count
/// as one core, although no reading can show such a short use.
const SHORTEST: Duration = Duration::from_secs(1);

/// A class of attempts that are assumed to have the same needs. A class without labels contains all
/// attempts of its executor.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct ProfileKey {
    pub executor: Arc<str>,
    pub class: Class,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

impl ProfileKey {
    pub fn of(request: &Request) -> Self {
        Self {
            executor: request.executor.clone(),
            class: request.class,
            labels: request.labels.clone(),
        }
    }

    #[must_use]
    pub fn of_executor(&self) -> Self {
        Self {
            executor: self.executor.clone(),
            class: self.class,
            labels: BTreeMap::new(),
        }
    }

    /// Number of attempts from which the profile of this class is trusted.
    pub fn enough(&self) -> usize {
        if self.labels.is_empty() {
            ENOUGH_OF_AN_EXECUTOR
        } else {
            ENOUGH_OF_A_CLASS
        }
    }
}

/// Predicted needs of an attempt.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Need {
    pub cores: f64,
    pub memory_bytes: u64,
}

impl Class {
    /// Expected needs of an executor of this kind while nothing is known about the executor.
    pub fn need(self) -> Need {
        match self {
            Self::Agent => Need {
                cores: 0.15,
                memory_bytes: 450 * MIB,
            },
            Self::Command => Need {
                cores: 0.05,
                memory_bytes: 8 * MIB,
            },
        }
    }
}

/// Use of one attempt: thousandths of a core on average, and its memory peak.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(from = "(u32, u64)", into = "(u32, u64)")]
pub struct Sample {
    pub millicores: u32,
    pub memory_bytes: u64,
}

impl From<(u32, u64)> for Sample {
    fn from((millicores, memory_bytes): (u32, u64)) -> Self {
        Self {
            millicores,
            memory_bytes,
        }
    }
}

impl From<Sample> for (u32, u64) {
    fn from(sample: Sample) -> Self {
        (sample.millicores, sample.memory_bytes)
    }
}

impl Sample {
    /// Makes the sample of an attempt; `None` if no processor time was measured, as for an attempt
    /// without a process. A peak above the machine's memory contains shared pages several times,
    /// once for each process. Such a peak is reduced to the machine's memory, since the attempt did
    /// fit into it.
    pub(crate) fn of(usage: &Usage, memory_total_bytes: Option<u64>) -> Option<Self> {
        let cpu_ms = usage.cpu_ms?;
        let wall_ms = usage.wall_ms.max(millis(SHORTEST));
        let peak = usage.peak_rss_bytes.unwrap_or(0).max(SMALL_BYTES);
        Some(Self {
            millicores: u32::try_from(cpu_ms.saturating_mul(1000) / wall_ms).unwrap_or(u32::MAX),
            memory_bytes: peak.min(memory_total_bytes.unwrap_or(u64::MAX)),
        })
    }
}

/// Profile of one class.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Profile {
    /// Number of attempts that updated the profile, including attempts outside the window.
    pub attempts: u64,
    pub taught_at: Timestamp,
    /// Samples in the window, the newest last.
    samples: VecDeque<Sample>,
}

impl Profile {
    fn teach(&mut self, sample: Sample, now: Timestamp) {
        while self.samples.len() >= WINDOW {
            self.samples.pop_front();
        }
        self.samples.push_back(sample);
        self.attempts = self.attempts.saturating_add(1);
        self.taught_at = now;
    }

    /// Number of attempts in the window.
    pub fn samples(&self) -> usize {
        self.samples.len()
    }

    /// Memory peak that this percentage of the attempts did not exceed.
    pub fn memory_bytes(&self, percent: usize) -> u64 {
        nearest_rank(
            self.samples.iter().map(|sample| sample.memory_bytes),
            percent,
        )
    }

    /// Number of cores that this percentage of the attempts did not exceed.
    pub fn cores(&self, percent: usize) -> f64 {
        let millicores = self.samples.iter().map(|sample| sample.millicores);
        f64::from(nearest_rank(millicores, percent)) / 1000.0
    }

    pub fn need(&self) -> Need {
        Need {
            cores: self.cores(PERCENTILE),
            memory_bytes: self.memory_bytes(PERCENTILE),
        }
    }
}

/// Value at the nearest rank; 0 if there are no values.
fn nearest_rank<T: Ord + Copy + Default>(values: impl Iterator<Item = T>, percent: usize) -> T {
    let mut values: Vec<T> = values.collect();
    values.sort_unstable();
    let rank = (values.len() * percent).div_ceil(100);
    values
        .get(rank.saturating_sub(1))
        .copied()
        .unwrap_or_default()
}

/// Trusted classes with labels. These are admitted by their own profiles, all others by the profile
/// of their executor.
pub type Trusted = Arc<BTreeSet<ProfileKey>>;

/// Class by which an attempt is admitted: its own class if this class is trusted, else the class of
/// all attempts of its executor.
pub fn deciding(trusted: &BTreeSet<ProfileKey>, key: ProfileKey) -> ProfileKey {
    if key.labels.is_empty() || trusted.contains(&key) {
        key
    } else {
        key.of_executor()
    }
}

/// Changes to the profiles, made by the end of an attempt or because an executor was forgotten.
#[derive(PartialEq, Debug, Default)]
pub(crate) struct Taught {
    /// Profiles to write, or to remove from the store if they no longer exist.
    pub(crate) changed: Vec<ProfileKey>,
    /// Classes that have become trusted or are no longer trusted.
    pub(crate) trust_of: Vec<ProfileKey>,
}

/// All profiles.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Profiles {
    of: BTreeMap<ProfileKey, Profile>,
    trusted: Trusted,
}

impl Profiles {
    #[cfg(test)]
    pub(crate) fn all(&self) -> &BTreeMap<ProfileKey, Profile> {
        &self.of
    }

    pub fn new(stored: impl IntoIterator<Item = (ProfileKey, Profile)>) -> Self {
        let of: BTreeMap<_, _> = stored.into_iter().collect();
        let trusted = of
            .iter()
            .filter(|(key, profile)| {
                !key.labels.is_empty() && profile.samples.len() >= key.enough()
            })
            .map(|(key, _)| key.clone());
        Self {
            trusted: Arc::new(trusted.collect()),
            of,
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = (&ProfileKey, &Profile)> {
        self.of.iter()
    }

    pub fn get(&self, key: &ProfileKey) -> Option<&Profile> {
        self.of.get(key)
    }

    pub fn trusted(&self) -> &Trusted {
        &self.trusted
    }

    /// Whether the class has enough samples to be trusted.
    pub fn is_trusted(&self, key: &ProfileKey) -> bool {
        self.of
            .get(key)
            .is_some_and(|profile| profile.samples.len() >= key.enough())
    }

    /// Needs learned for the class or, if there are none, for its executor; `None` if neither
    /// profile is trusted.
    pub fn learned(&self, key: &ProfileKey) -> Option<Need> {
        let key = deciding(&self.trusted, key.clone());
        self.of
            .get(&key)
            .filter(|profile| profile.samples.len() >= key.enough())
            .map(Profile::need)
    }

    pub fn need(&self, key: &ProfileKey) -> Need {
        self.learned(key).unwrap_or_else(|| key.class.need())
    }

    /// Learns from an attempt that has ended. An attempt that was cut short perhaps ended before
    /// its peak. So it shows only a lower bound, and counts only if this bound is higher than the
    /// prediction.
    pub(crate) fn learn(
        &mut self,
        class: &ProfileKey,
        sample: Sample,
        is_whole: bool,
        now: Timestamp,
    ) -> Taught {
        let mut taught = Taught::default();
        let executor = (!class.labels.is_empty()).then(|| class.of_executor());
        for key in executor.into_iter().chain([class.clone()]) {
            if is_whole || self.is_news(&key, sample) {
                self.teach(key, sample, now, &mut taught);
            }
        }
        taught
    }

    fn is_news(&self, key: &ProfileKey, sample: Sample) -> bool {
        let known = self.of.get(key).map_or(key.class.need(), Profile::need);
        sample.memory_bytes > known.memory_bytes
            || f64::from(sample.millicores) / 1000.0 > known.cores
    }

    fn teach(&mut self, key: ProfileKey, sample: Sample, now: Timestamp, taught: &mut Taught) {
        if !self.of.contains_key(&key)
            && self.of.len() >= PROFILES
            && let Some(gone) = self.least_wanted()
        {
            self.of.remove(&gone);
            if Arc::make_mut(&mut self.trusted).remove(&gone) {
                taught.trust_of.push(gone.clone());
            }
            taught.changed.push(gone);
        }
        let profile = self.of.entry(key.clone()).or_default();
        profile.teach(sample, now);
        if !key.labels.is_empty()
            && profile.samples.len() >= key.enough()
            && !self.trusted.contains(&key)
        {
            Arc::make_mut(&mut self.trusted).insert(key.clone());
            taught.trust_of.push(key.clone());
        }
        taught.changed.push(key);
    }

    pub(crate) fn forget(&mut self, executor: &str) -> Taught {
        let of_it = |key: &ProfileKey| *key.executor == *executor;
        let trusted = Arc::make_mut(&mut self.trusted);
        let forgotten = self.of.extract_if(.., |key, _| of_it(key));
        Taught {
            changed: forgotten.map(|(key, _)| key).collect(),
            trust_of: trusted.extract_if(.., of_it).collect(),
        }
    }

    /// The profile to replace. Profiles of executors, which are few, and of trusted classes, which
    /// take long to learn, are replaced last.
    fn least_wanted(&self) -> Option<ProfileKey> {
        let wanted = |(key, profile): &(&ProfileKey, &Profile)| {
            let is_kept = key.labels.is_empty() || self.trusted.contains(*key);
            (is_kept, profile.taught_at)
        };
        let least = self.of.iter().min_by_key(wanted);
        least.map(|(key, _)| key.clone())
    }
}

//! What attempts of a class have needed, and so what the next one is expected to need.
//!
//! A class is an executor with a set of labels: what somebody labelled alike is taken to be alike.
//! Each end of an attempt whose processes were measured teaches two profiles, that of its class and
//! that of its executor as a whole.
//!
//! **The prediction** is the 95th percentile of the last [`WINDOW`] attempts by nearest rank (the
//! value at rank ⌈0.95 n⌉), for memory of their peaks, for the processor of the cores they had in
//! use on average. This is the moving window of Autopilot (Rzadca et al., *Autopilot: workload
//! autoscaling at Google*, EuroSys 2020, 3.2.1), which also takes the mean for batch work: too
//! little of a processor makes it slow, too little memory kills it. There is no margin on top; the
//! memory reserve is one.
//!
//! **When it is trusted**: a class with labels from [`ENOUGH_OF_A_CLASS`] attempts on. All attempts
//! of an executor are a mixture, in which one that is unlike the others must not decide, and below
//! twenty the 95th percentile is the largest: so an executor's own profile is trusted from
//! [`ENOUGH_OF_AN_EXECUTOR`] on. Before that the executor's profile stands for the class, and
//! before that a figure that is fixed for each kind of executor.
//!
//! What no prediction can know is that a class of which no attempt has ended yet comes to its peak
//! late; against that stand the readings, the memory reserve and the stop at memory pressure.
//!
//! **How it forgets**: what is older than the window has no say. With a full window four attempts
//! in a row that need more are enough to raise the prediction, and sixty-one that need less to
//! lower it: the cautious way round. Of at most [`PROFILES`] profiles, a new one takes the place of
//! a class that is not trusted and was taught the longest time ago, so that labels that never come
//! again push out one another.

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

/// How many attempts a profile remembers.
pub const WINDOW: usize = 64;
/// How many profiles there are at most.
pub const PROFILES: usize = 256;
pub const ENOUGH_OF_A_CLASS: usize = 5;
pub const ENOUGH_OF_AN_EXECUTOR: usize = 20;

const PERCENTILE: usize = 95;
const MIB: u64 = 1 << 20;
/// What stands for a peak that was too small to be told from the supervisor's own memory.
const SMALL_BYTES: u64 = 4 * MIB;
/// Use of the processor is averaged over no less than the time between two readings of the machine:
/// what is shorter is seen by those only together with what else ran then, and two milliseconds of
/// a whole core are not one core.
const SHORTEST: Duration = Duration::from_secs(1);

/// What is taken to need the same. Without labels it stands for all attempts of the executor.
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

    /// From how many attempts on what is known of it is enough to go by.
    pub fn enough(&self) -> usize {
        if self.labels.is_empty() {
            ENOUGH_OF_AN_EXECUTOR
        } else {
            ENOUGH_OF_A_CLASS
        }
    }
}

/// What an attempt is predicted to need.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Need {
    pub cores: f64,
    pub memory_bytes: u64,
}

impl Class {
    /// What is expected of an executor of this kind that nothing is known of.
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

/// What one attempt had in use: thousandths of a core on average, and the peak of its memory.
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
    /// Of an attempt that had a process; of none there is nothing to learn. A peak above what the
    /// machine has is one of pages that were counted for each process that shares them: it did run
    /// here.
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

/// What is known of one class.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Profile {
    /// How many attempts have taught it, those that the window has forgotten too.
    pub attempts: u64,
    pub taught_at: Timestamp,
    /// The newest at the back.
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

    /// How many attempts it stands on.
    pub fn samples(&self) -> usize {
        self.samples.len()
    }

    /// The peak of memory that so many of a hundred attempts do not exceed.
    pub fn memory_bytes(&self, percent: usize) -> u64 {
        nearest_rank(
            self.samples.iter().map(|sample| sample.memory_bytes),
            percent,
        )
    }

    /// The cores that so many of a hundred attempts do not exceed.
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

/// 0 of nothing.
fn nearest_rank<T: Ord + Copy + Default>(values: impl Iterator<Item = T>, percent: usize) -> T {
    let mut values: Vec<T> = values.collect();
    values.sort_unstable();
    let rank = (values.len() * percent).div_ceil(100);
    values
        .get(rank.saturating_sub(1))
        .copied()
        .unwrap_or_default()
}

/// Those classes with labels that are trusted: they are admitted by themselves, all others with
/// their executor.
pub type Trusted = Arc<BTreeSet<ProfileKey>>;

/// The class by which an attempt of that class is admitted: its own where that is trusted, else its
/// executor's.
pub fn deciding(trusted: &BTreeSet<ProfileKey>, key: ProfileKey) -> ProfileKey {
    if key.labels.is_empty() || trusted.contains(&key) {
        key
    } else {
        key.of_executor()
    }
}

/// What a lesson has changed.
#[derive(PartialEq, Debug, Default)]
pub(crate) struct Taught {
    /// Profiles that are to be written, or removed where there is none any more.
    pub(crate) changed: Vec<ProfileKey>,
    /// Classes that are trusted from here on, or are not any more.
    pub(crate) trust_of: Vec<ProfileKey>,
}

/// All that was learned.
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

    /// Whether what is known of the class is enough to go by.
    pub fn is_trusted(&self, key: &ProfileKey) -> bool {
        self.of
            .get(key)
            .is_some_and(|profile| profile.samples.len() >= key.enough())
    }

    /// What was learned of the class, of its executor where that is too little, or nothing.
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

    /// An attempt of this class has ended. One that was cut short may have had its peak still
    /// before it: it only shows that the class needs at least as much, and teaches where that is
    /// news.
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

    /// Executors are few, and what is trusted was hard to learn.
    fn least_wanted(&self) -> Option<ProfileKey> {
        let wanted = |(key, profile): &(&ProfileKey, &Profile)| {
            let is_kept = key.labels.is_empty() || self.trusted.contains(*key);
            (is_kept, profile.taught_at)
        };
        let least = self.of.iter().min_by_key(wanted);
        least.map(|(key, _)| key.clone())
    }
}

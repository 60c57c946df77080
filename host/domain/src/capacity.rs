//! How much may run at once: slots, and what the machine bears.
//!
//! Nothing is measured here; readings come in, and what has just been started counts by its
//! predicted need until readings can show it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    budget::Level,
    id::TaskId,
    profile::{Need, ProfileKey, Profiles},
    started::Started,
    time::{MonotonicMs, Now, Timestamp},
};

/// Memory stalls of this many per cent over ten seconds stop admission before the kernel kills.
pub const MEMORY_PRESSURE_PERCENT: f64 = 10.0;

/// How many attempts of whose class nothing is known may settle at once while little runs; on a
/// larger machine one for each core.
pub const RAMP: usize = 8;

/// A class that is expected to need less than this many cores is not held back by what others use.
pub const SMALL_CORES: f64 = 0.2;

/// How long the first in line waits for the CPU before it starts in spite of the load.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Nobody wants to know of how much more there is room for.
const ROOM_MOST: usize = 1_000;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Slots {
    /// As many as the machine bears.
    #[default]
    Auto,
    /// So many, whatever the CPU says.
    Fixed(u32),
}

/// Limits that the person sets.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Limits {
    pub slots: Slots,
    /// CPU in use, over all cores, above which nothing is started.
    pub cpu_percent: f64,
    pub memory_reserve_bytes: u64,
    pub disk_reserve_bytes: u64,
    /// What all agents together may cost in a day (UTC), in millionths of a US dollar.
    pub daily_micro_usd: Option<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            slots: Slots::Auto,
            cpu_percent: 80.0,
            memory_reserve_bytes: 1 << 30,
            disk_reserve_bytes: 1 << 30,
            daily_micro_usd: None,
        }
    }
}

/// How long nothing is started after the machine had no room for a process.
pub const ROOM_PAUSE: Duration = Duration::from_secs(1);
/// The longest wait of a task that met a machine without room until it is tried again.
pub(crate) const LONGEST_ROOM_PAUSE: Duration = Duration::from_mins(1);

/// One look at the machine, or at the cgroup that bounds this process.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Reading {
    pub at: MonotonicMs,
    pub cores: f64,
    pub cores_in_use: f64,
    pub memory_total_bytes: u64,
    pub memory_free_bytes: u64,
    pub disk_free_bytes: u64,
    /// Share of the last ten seconds in which something stalled on memory, where the kernel tells.
    pub memory_stall_percent: Option<f64>,
}

/// Why nothing more is started for now.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "limit")]
pub enum Refusal {
    Slots {
        running: usize,
        slots: u32,
    },
    Cpu {
        in_use: f64,
        needed: f64,
        allowed: f64,
        /// How many there are in all.
        cores: f64,
    },
    Memory {
        /// Neither in use nor promised to what runs.
        free_bytes: u64,
        needed_bytes: u64,
        reserve_bytes: u64,
    },
    /// More than the whole machine has.
    NeverFits {
        needed_bytes: u64,
        total_bytes: u64,
    },
    MemoryStall {
        percent: f64,
    },
    /// So many of whose class nothing was learned yet have just started, and may still need more
    /// than they show.
    Ramp {
        settling: usize,
    },
    Disk {
        free_bytes: u64,
        reserve_bytes: u64,
    },
    /// The group has as many running as it may.
    Group {
        group: String,
        running: usize,
        most: u32,
    },
    GroupPaused {
        group: String,
    },
    /// The whole queue is paused.
    Paused {
        since: Timestamp,
    },
    /// What may be spent in a day is spent.
    DailyBudget {
        level: Level,
        until: Timestamp,
    },
    /// Another attempt with the same configuration directory is just starting.
    SerialStart {
        key: String,
    },
    /// One attempt tries whether the account's limit is over.
    Probing {
        account: String,
    },
    NoReading,
    /// A process could not be started a moment ago: descriptors, processes or memory of the machine
    /// had run out.
    NoRoom,
}

impl Refusal {
    /// Whether it is lifted when attempts that run end, so that who is refused gets a turn if
    /// nothing else is started before.
    pub(crate) fn ends_as_others_end(&self) -> bool {
        matches!(self, Self::Cpu { .. } | Self::Memory { .. })
    }
}

/// The machine as last read, what runs on it, and what that is known to need.
#[derive(Clone, Debug, Default)]
pub struct Capacity {
    pub limits: Limits,
    pub(crate) profiles: Profiles,
    pub(crate) started: Started,
    reading: Option<Reading>,
    /// Until then nothing is started, since the last try met a machine without room.
    no_room_until: Option<MonotonicMs>,
    /// The task that was started last in spite of the load.
    let_pass: Option<TaskId>,
}

impl Capacity {
    pub fn new(limits: Limits, profiles: Profiles) -> Self {
        Self {
            limits,
            profiles,
            ..Self::default()
        }
    }

    pub fn reading(&self) -> Option<&Reading> {
        self.reading.as_ref()
    }

    pub fn profiles(&self) -> &Profiles {
        &self.profiles
    }

    pub fn observe(&mut self, reading: Reading) {
        self.reading = Some(reading);
    }

    /// Forgets what has settled by now.
    pub fn settle(&mut self, now: Now) {
        self.started.settle(now);
        self.no_room_until = self.no_room_until.filter(|until| *until > now.monotonic);
    }

    /// Starts nothing for a moment.
    pub(crate) fn note_no_room(&mut self, now: Now) {
        self.no_room_until = Some(now.monotonic.after(ROOM_PAUSE));
    }

    /// When the next attempt has settled, or a pause is over, so that admission is worth another
    /// look.
    pub fn next_settled(&self) -> Option<MonotonicMs> {
        let settled = self.started.next_settled();
        settled.into_iter().chain(self.no_room_until).min()
    }

    /// How many of this class run.
    pub fn running(&self, class: &ProfileKey) -> u32 {
        let mut classes = self.started.running_of();
        classes
            .find(|(of, _)| *of == class)
            .map_or(0, |(_, count)| count)
    }

    /// How many more of this class would start at this moment, one upon the other, and what then
    /// stands against the next.
    pub fn room(&self, class: &ProfileKey, running: usize) -> (usize, Option<Refusal>) {
        let mut imagined = self.clone();
        for more in 0..ROOM_MOST {
            if let Err(refusal) = imagined.admit(class, running + more) {
                return (more, Some(refusal));
            }
            // No task has an id of that time.
            let task = TaskId::new(u64::MAX, more as u128);
            let start = Some(imagined.started.settled_at());
            imagined.started.note_start(task, class.clone(), start);
        }
        (ROOM_MOST, None)
    }

    /// Whether the first in line may start although the CPU is busy, after this wait. One starts at
    /// a time: the next one has to wait until the one before has settled or ended. None starts if
    /// our own tasks fill the allowed CPU: then it does not wait for the load of others.
    pub fn lets_pass(&self, waited: Duration) -> bool {
        let settles = self.let_pass.is_some_and(|task| self.started.settles(task));
        let Some(reading) = &self.reading else {
            return false;
        };
        waited >= PATIENCE && !settles && self.own_cores() < self.allowed_cores(reading)
    }

    /// This task is started in spite of the load.
    pub(crate) fn note_let_pass(&mut self, task: TaskId) {
        self.let_pass = Some(task);
    }

    /// Whether one more attempt of this class may start, `running` being those that hold a slot.
    pub fn admit(&self, class: &ProfileKey, running: usize) -> Result<(), Refusal> {
        if self.no_room_until.is_some() {
            return Err(Refusal::NoRoom);
        }
        if let Slots::Fixed(slots) = self.limits.slots
            && running >= slots as usize
        {
            return Err(Refusal::Slots { running, slots });
        }
        let Some(reading) = &self.reading else {
            return match self.limits.slots {
                Slots::Auto => Err(Refusal::NoReading),
                Slots::Fixed(_) => Ok(()),
            };
        };
        let need = self.profiles.need(class);
        let reserve_bytes = self.limits.disk_reserve_bytes;
        if reading.disk_free_bytes < reserve_bytes {
            return Err(Refusal::Disk {
                free_bytes: reading.disk_free_bytes,
                reserve_bytes,
            });
        }
        if need.memory_bytes > reading.memory_total_bytes {
            return Err(Refusal::NeverFits {
                needed_bytes: need.memory_bytes,
                total_bytes: reading.memory_total_bytes,
            });
        }
        // With nothing of ours running, waiting would not free anything.
        if running == 0 {
            return Ok(());
        }
        self.admit_memory(reading, need)?;
        match self.limits.slots {
            Slots::Auto => {
                self.admit_unknown(reading, class, running)?;
                self.admit_cpu(reading, class, need)
            }
            Slots::Fixed(_) => Ok(()),
        }
    }

    fn admit_memory(&self, reading: &Reading, need: Need) -> Result<(), Refusal> {
        if let Some(percent) = reading.memory_stall_percent
            && percent >= MEMORY_PRESSURE_PERCENT
        {
            return Err(Refusal::MemoryStall { percent });
        }
        let free_bytes = self.unpromised_bytes(reading);
        let reserve_bytes = self.limits.memory_reserve_bytes;
        if free_bytes < reserve_bytes.saturating_add(need.memory_bytes) {
            return Err(Refusal::Memory {
                free_bytes,
                needed_bytes: need.memory_bytes,
                reserve_bytes,
            });
        }
        Ok(())
    }

    /// Memory that is free now and stays free when all that runs has come to its peak. What settles
    /// counts on top of the reading, which cannot show it yet; a peak may come long after that, so
    /// those that were learned are also held against the whole of the memory, as schedulers that go
    /// by requests do. A guess is not: it would keep a machine empty for as long as nothing better
    /// is known.
    fn unpromised_bytes(&self, reading: &Reading) -> u64 {
        let settling: u64 = self
            .settling_needs()
            .map(|(count, need)| u64::from(count) * need.memory_bytes)
            .sum();
        let running = self.started.running_of();
        let promised: u64 = running
            .filter_map(|(class, count)| {
                let need = self.profiles.learned(class)?;
                Some(u64::from(count) * need.memory_bytes)
            })
            .sum();
        let by_reading = reading.memory_free_bytes.saturating_sub(settling);
        by_reading.min(reading.memory_total_bytes.saturating_sub(promised))
    }

    /// What the settling attempts of each class need together.
    fn settling_needs(&self) -> impl Iterator<Item = (u32, Need)> {
        self.started
            .settling_of()
            .map(|(class, count)| (count, self.profiles.need(class)))
    }

    /// Of those that may need anything, no more settle at once than have settled already: a burst
    /// doubles from one window to the next, and each part of it shows what the ones before it took.
    /// What ends in the meantime makes room at once, and teaches.
    fn admit_unknown(
        &self,
        reading: &Reading,
        class: &ProfileKey,
        running: usize,
    ) -> Result<(), Refusal> {
        if self.profiles.learned(class).is_some() {
            return Ok(());
        }
        let unknown = self.started.settling_of();
        let settling: usize = unknown
            .filter(|(class, _)| self.profiles.learned(class).is_none())
            .map(|(_, count)| count as usize)
            .sum();
        let settled = running.saturating_sub(settling);
        if settling >= RAMP.max(whole_cores(reading)).max(settled) {
            return Err(Refusal::Ramp { settling });
        }
        Ok(())
    }

    /// Small tasks start beside the load of other programs, if all small tasks together fit.
    fn admit_cpu(&self, reading: &Reading, class: &ProfileKey, need: Need) -> Result<(), Refusal> {
        let settling: f64 = self
            .settling_needs()
            .map(|(count, need)| f64::from(count) * need.cores)
            .sum();
        let in_use = reading.cores_in_use + settling;
        let allowed = self.allowed_cores(reading);
        // Who would use more than is allowed fits on a machine that does nothing else: there it is
        // only slower.
        let needed = need.cores.min(allowed);
        if in_use + needed <= allowed {
            return Ok(());
        }
        // What is known to be small is no load to speak of beside larger ones of ours either; a
        // guess may be far too low.
        let is_small = need.cores < SMALL_CORES;
        let beside = if self.profiles.learned(class).is_some() {
            self.small_cores()
        } else {
            self.own_cores()
        };
        if !is_small || beside + self.counted_cores(class) > allowed {
            return Err(Refusal::Cpu {
                in_use,
                needed,
                allowed,
                cores: reading.cores,
            });
        }
        Ok(())
    }

    fn allowed_cores(&self, reading: &Reading) -> f64 {
        reading.cores * self.limits.cpu_percent / 100.0
    }

    /// What one of this class counts for beside others. If nothing is known of it that is no less
    /// than what is small: a guess may be far too low.
    fn counted_cores(&self, class: &ProfileKey) -> f64 {
        let learned = self.profiles.learned(class);
        learned.map_or(SMALL_CORES, |need| need.cores)
    }

    /// What all that runs here counts for.
    fn own_cores(&self) -> f64 {
        let running = self.started.running_of();
        let counted = running.map(|(class, count)| f64::from(count) * self.counted_cores(class));
        counted.sum()
    }

    /// What all small ones that run count for.
    fn small_cores(&self) -> f64 {
        let running = self.started.running_of();
        let small = running.filter(|(class, _)| self.profiles.need(class).cores < SMALL_CORES);
        let counted = small.map(|(class, count)| f64::from(count) * self.counted_cores(class));
        counted.sum()
    }
}

fn whole_cores(reading: &Reading) -> usize {
    // What is negative or no number counts as none.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a float to integer cast saturates"
    )]
    let cores = reading.cores as usize;
    cores
}

//! Limits on what runs at once: slots, and the machine's capacity.
//!
//! The caller measures the machine and passes the readings in. A reading does not yet show the
//! needs of an attempt that started recently. Such an attempt is *settling*, and counts by its
//! predicted needs until a reading can show its actual needs. (The phase
//! [`Settling`](crate::attempt::Phase::Settling) is something else.) An attempt whose preparation
//! has begun recently settles too. If its preparation takes longer, the attempt holds its slot and
//! nothing else, until it is prepared and there is room for it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use crate::started::SETTLING;
use crate::{
    budget::Level,
    id::TaskId,
    profile::{Need, ProfileKey, Profiles},
    started::Started,
    time::{MonotonicMs, Now, Timestamp},
};

/// Stall on memory, in per cent of the last ten seconds, at which nothing more is admitted. At this
/// percentage the kernel does not yet kill processes.
pub const MEMORY_PRESSURE_PERCENT: f64 = 10.0;

/// Number of attempts of unknown classes that may settle at the same time while few attempts run,
/// and number of preparations at the same time if some of them take long. On a machine with more
/// cores than this, the number of cores is the limit instead.
pub const RAMP: usize = 8;

/// Classes predicted to need fewer cores than this are not held back by the load of other programs.
pub const SMALL_CORES: f64 = 0.2;

/// Time for which the first task in line waits for the CPU before it starts despite the load.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Largest number of further attempts that [`Capacity::room`] counts.
const ROOM_MOST: usize = 1_000;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Slots {
    /// As many as the machine has capacity for.
    #[default]
    Auto,
    /// A fixed number, whatever the CPU load.
    Fixed(u32),
}

/// Limits that the user sets.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Limits {
    pub slots: Slots,
    /// CPU use over all cores, in per cent. With automatic slots, nothing is started while more is
    /// in use, except small tasks and, after a wait, the first task in line.
    pub cpu_percent: f64,
    pub memory_reserve_bytes: u64,
    pub disk_reserve_bytes: u64,
    /// Budget of all agents together per day (UTC), in millionths of a US dollar.
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

/// Time for which nothing is started after the machine had no room for a process.
pub const ROOM_PAUSE: Duration = Duration::from_secs(1);
/// Longest wait before the next attempt of a task for whose process the machine had no room.
pub(crate) const LONGEST_ROOM_PAUSE: Duration = Duration::from_mins(1);

/// One reading of the machine, or of the cgroup that bounds this process.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Reading {
    pub at: MonotonicMs,
    pub cores: f64,
    pub cores_in_use: f64,
    pub memory_total_bytes: u64,
    pub memory_free_bytes: u64,
    pub disk_free_bytes: u64,
    /// Number of free inodes of the disk, if they are too few for new files.
    #[serde(default)]
    pub too_few_inodes: Option<u64>,
    /// Share of the last ten seconds in which something stalled on memory, if the kernel reports
    /// it.
    pub memory_stall_percent: Option<f64>,
}

/// Reason why nothing more is started for now.
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
        /// Number of cores of the machine.
        cores: f64,
    },
    Memory {
        /// Memory that is neither in use nor promised to running attempts.
        free_bytes: u64,
        needed_bytes: u64,
        reserve_bytes: u64,
    },
    /// The task needs more memory than the whole machine has.
    NeverFits {
        needed_bytes: u64,
        total_bytes: u64,
    },
    MemoryStall {
        percent: f64,
    },
    /// This many attempts of unknown classes have just started, or begun to be prepared, and their
    /// needs may still grow.
    Ramp {
        settling: usize,
    },
    /// This many tasks are being prepared, and the preparations of some of them take long. They are
    /// tasks of restrained principals, or of others, as is the refused task.
    Preparing {
        preparing: usize,
        by_restrained: bool,
    },
    Disk {
        free_bytes: u64,
        reserve_bytes: u64,
    },
    /// The disk has bytes, but hardly any inodes.
    Inodes {
        free: u64,
    },
    /// The group's limit of running tasks is reached.
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
    /// The daily budget is spent.
    DailyBudget {
        level: Level,
        until: Timestamp,
    },
    /// Another attempt with the same `serial_start` key is just starting.
    SerialStart {
        key: String,
    },
    /// One attempt is testing whether the account's limit is over.
    Probing {
        account: String,
    },
    NoReading,
    /// A moment ago a process could not be started: the machine had run out of descriptors,
    /// processes or memory.
    NoRoom,
    /// The code of the executor cannot be had at the moment.
    NoCode {
        executor: String,
        why: String,
    },
    /// Attempts of the executor have ended, and their costs are not recorded yet.
    EndsFirst {
        executor: String,
    },
}

impl Refusal {
    /// Whether the refusal ends when running attempts end, so that the refused task can start if no
    /// other task is started before it.
    pub(crate) fn ends_as_others_end(&self) -> bool {
        matches!(self, Self::Cpu { .. } | Self::Memory { .. })
    }
}

/// The machine as last read, the attempts that run on it, and their predicted needs.
#[derive(Clone, Debug, Default)]
pub struct Capacity {
    pub limits: Limits,
    pub(crate) profiles: Profiles,
    pub(crate) started: Started,
    reading: Option<Reading>,
    /// End of the pause in which nothing is started because the machine had no room for a process.
    no_room_until: Option<MonotonicMs>,
    /// The task that was most recently started despite the load.
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

    /// Forgets the starts that have settled by now, and a pause that is over.
    pub fn settle(&mut self, now: Now) {
        self.started.settle(now);
        self.no_room_until = self.no_room_until.filter(|until| *until > now.monotonic);
    }

    /// Pauses all starts for a moment.
    pub(crate) fn note_no_room(&mut self, now: Now) {
        self.no_room_until = Some(now.monotonic.after(ROOM_PAUSE));
    }

    /// Next time at which admission should be tried again, because an attempt has settled or a
    /// pause is over.
    pub fn next_settled(&self) -> Option<MonotonicMs> {
        let settled = self.started.next_settled();
        settled.into_iter().chain(self.no_room_until).min()
    }

    /// Number of running attempts of this class.
    pub fn running(&self, class: &ProfileKey) -> u32 {
        let mut classes = self.started.running_of();
        classes
            .find(|(of, _)| *of == class)
            .map_or(0, |(_, count)| count)
    }

    /// Number of further attempts of this class that could be started now, and the reason for which
    /// the next one would be refused.
    pub fn room(&self, class: &ProfileKey, running: usize) -> (usize, Option<Refusal>) {
        let mut imagined = self.clone();
        for more in 0..ROOM_MOST {
            if let Err(refusal) = imagined.admit(class, running + more) {
                return (more, Some(refusal));
            }
            // No real task has an id with this time.
            let task = TaskId::new(u64::MAX, more as u128);
            let start = Some(imagined.started.settled_at());
            imagined.started.note_start(task, class.clone(), start);
        }
        (ROOM_MOST, None)
    }

    /// Whether the first task in line may start after this wait although the CPU is busy. Only one
    /// task at a time starts this way: the next waits until the previous one has settled or ended.
    /// If our own tasks fill the allowed CPU, no task starts this way, since the load is not caused
    /// by other programs.
    pub fn lets_pass(&self, waited: Duration) -> bool {
        let settles = self.let_pass.is_some_and(|task| self.started.settles(task));
        let Some(reading) = &self.reading else {
            return false;
        };
        waited >= PATIENCE && !settles && self.own_cores() < self.allowed_cores(reading)
    }

    /// Notes that this task is started despite the load.
    pub(crate) fn note_let_pass(&mut self, task: TaskId) {
        self.let_pass = Some(task);
    }

    /// Whether one more attempt of this class may start while `running` attempts hold a slot.
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
        if let Some(free) = reading.too_few_inodes {
            return Err(Refusal::Inodes { free });
        }
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
        self.admit_beside(reading, class, running)
    }

    /// Whether the machine has room for one more attempt of this class beside those that run.
    fn admit_beside(
        &self,
        reading: &Reading,
        class: &ProfileKey,
        running: usize,
    ) -> Result<(), Refusal> {
        let need = self.profiles.need(class);
        // If no attempt of ours runs, waiting would free nothing.
        let counted = running.saturating_sub(self.started.slow().len());
        if counted == 0 {
            return Ok(());
        }
        self.admit_memory(reading, need)?;
        match self.limits.slots {
            Slots::Auto => {
                self.admit_unknown(reading, class, counted)?;
                self.admit_cpu(reading, class, need)
            }
            Slots::Fixed(_) => Ok(()),
        }
    }

    /// Whether an attempt of this class, which has a slot and is prepared, may start its process
    /// while `running` attempts hold a slot. If its preparation took long, others may have taken
    /// its room.
    pub(crate) fn admit_prepared(&self, class: &ProfileKey, running: usize) -> Result<(), Refusal> {
        match &self.reading {
            Some(reading) => self.admit_beside(reading, class, running),
            None => Ok(()),
        }
    }

    /// Whether one more preparation may begin beside this many, if some of these take long.
    /// Otherwise, more and more would be begun, since nothing is kept free for them. Preparations
    /// of tasks of restrained principals are counted apart from the others, so that neither wait
    /// for the others.
    pub(crate) fn admit_preparation(
        &self,
        preparing: usize,
        by_restrained: bool,
    ) -> Result<(), Refusal> {
        let cores = self.reading.as_ref().map_or(0, whole_cores);
        if self.limits.slots == Slots::Auto && preparing >= RAMP.max(cores) {
            return Err(Refusal::Preparing {
                preparing,
                by_restrained,
            });
        }
        Ok(())
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

    /// Memory that is free now and stays free even if all running attempts reach their peaks. The
    /// needs of settling attempts are subtracted from the reading, which cannot show them yet. An
    /// attempt may reach its peak long after it has settled, so learned peaks are also subtracted
    /// from the total memory, as in schedulers that plan by requests. Guessed peaks are not
    /// subtracted from the total memory, because they would keep the machine empty as long as
    /// nothing better is known.
    fn unpromised_bytes(&self, reading: &Reading) -> u64 {
        let settling: u64 = self
            .settling_needs()
            .map(|(count, need)| u64::from(count) * need.memory_bytes)
            .sum();
        let counted = self.started.counted_of();
        let promised: u64 = counted
            .filter_map(|(class, count)| {
                let need = self.profiles.learned(class)?;
                Some(u64::from(count) * need.memory_bytes)
            })
            .sum();
        let by_reading = reading.memory_free_bytes.saturating_sub(settling);
        by_reading.min(reading.memory_total_bytes.saturating_sub(promised))
    }

    /// Number of settling attempts of each class, with the need of one such attempt.
    fn settling_needs(&self) -> impl Iterator<Item = (u32, Need)> {
        self.started
            .settling_of()
            .map(|(class, count)| (count, self.profiles.need(class)))
    }

    /// Limits the number of attempts of unknown classes that settle at the same time to the largest
    /// of three numbers: [`RAMP`], the number of cores, and the number of attempts that have
    /// settled already. So a large burst at most doubles in the time in which a start settles, and
    /// each part of the burst starts when readings show the needs of the earlier parts. An attempt
    /// that ends in the meantime makes room for another one at once.
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

    /// Admits an attempt if enough cores are free. An attempt with small needs is also admitted
    /// despite the load of other programs, if the allowed cores suffice for it together with all
    /// our small attempts. If its class is unknown, the allowed cores must suffice for all our
    /// attempts, not only for the small ones.
    fn admit_cpu(&self, reading: &Reading, class: &ProfileKey, need: Need) -> Result<(), Refusal> {
        let settling: f64 = self
            .settling_needs()
            .map(|(count, need)| f64::from(count) * need.cores)
            .sum();
        let in_use = reading.cores_in_use + settling;
        let allowed = self.allowed_cores(reading);
        // A task that needs more cores than are allowed may start on an otherwise idle machine,
        // where it only takes longer.
        let needed = need.cores.min(allowed);
        if in_use + needed <= allowed {
            return Ok(());
        }
        // If the class is known to be small, our larger tasks are not counted, since the attempt
        // hardly adds to their load. If the class is unknown, all our tasks are counted, since its
        // need is only a guess, which may be far too low.
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

    /// Number of cores that is counted for one attempt of this class. For an unknown class it is
    /// [`SMALL_CORES`], since a guess may be far too low.
    fn counted_cores(&self, class: &ProfileKey) -> f64 {
        let learned = self.profiles.learned(class);
        learned.map_or(SMALL_CORES, |need| need.cores)
    }

    /// Number of cores that is counted for all our running attempts together.
    fn own_cores(&self) -> f64 {
        let running = self.started.counted_of();
        let counted = running.map(|(class, count)| f64::from(count) * self.counted_cores(class));
        counted.sum()
    }

    /// Number of cores that is counted for all our running small attempts together.
    fn small_cores(&self) -> f64 {
        let running = self.started.counted_of();
        let small = running.filter(|(class, _)| self.profiles.need(class).cores < SMALL_CORES);
        let counted = small.map(|(class, count)| f64::from(count) * self.counted_cores(class));
        counted.sum()
    }
}

fn whole_cores(reading: &Reading) -> usize {
    // A negative number or NaN counts as no core.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a float to integer cast saturates"
    )]
    let cores = reading.cores as usize;
    cores
}

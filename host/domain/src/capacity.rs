//! How much may run at once: slots, and what the machine bears.
//!
//! Nothing is measured here; readings come in, and what has just been started counts by its predicted need until readings can show it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{
    id::TaskId,
    task::Class,
    time::{MonotonicMs, Now},
};

/// How long a start counts by its prediction, on top of the readings.
pub const SETTLING: Duration = Duration::from_secs(10);

/// Memory stalls of this many per cent over ten seconds stop admission before the kernel kills.
pub const MEMORY_PRESSURE_PERCENT: f64 = 10.0;

const MIB: u64 = 1 << 20;

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
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            slots: Slots::Auto,
            cpu_percent: 80.0,
            memory_reserve_bytes: 1 << 30,
            disk_reserve_bytes: 1 << 30,
        }
    }
}

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

/// What an attempt is predicted to need.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Need {
    pub cores: f64,
    pub memory_bytes: u64,
}

impl Class {
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
    },
    Memory {
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
    /// Another attempt with the same configuration directory is just starting.
    SerialStart {
        key: String,
    },
    /// One attempt tries whether the account's limit is over.
    Probing {
        account: String,
    },
    NoReading,
}

impl Refusal {
    /// Whether it is lifted when attempts that run end, so that who is refused gets a turn if nothing else is started before.
    pub(crate) fn ends_as_others_end(&self) -> bool {
        matches!(self, Self::Cpu { .. } | Self::Memory { .. })
    }
}

/// The machine as last read, and what was started since.
#[derive(Clone, Debug, Default)]
pub struct Capacity {
    pub limits: Limits,
    reading: Option<Reading>,
    /// Attempts that started a short while ago and still run: what ended gave back what it had.
    pub(crate) settling: BTreeMap<TaskId, (MonotonicMs, Class)>,
    /// The latest time that was looked at: what had settled by then is not counted again.
    settled_at: MonotonicMs,
    settling_by_age: BTreeMap<Class, BTreeSet<(MonotonicMs, TaskId)>>,
}

impl Capacity {
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            ..Self::default()
        }
    }

    pub fn reading(&self) -> Option<&Reading> {
        self.reading.as_ref()
    }

    pub fn observe(&mut self, reading: Reading) {
        self.reading = Some(reading);
    }

    /// An attempt of this task has started at that time.
    pub fn note_start(&mut self, task: TaskId, class: Class, start: MonotonicMs) {
        self.note_end(task);
        if start.after(SETTLING) <= self.settled_at {
            return;
        }
        self.settling.insert(task, (start, class));
        self.settling_by_age
            .entry(class)
            .or_default()
            .insert((start, task));
    }

    /// It has ended, and needs nothing any more.
    pub fn note_end(&mut self, task: TaskId) {
        if let Some((start, class)) = self.settling.remove(&task)
            && let Some(starts) = self.settling_by_age.get_mut(&class)
        {
            starts.remove(&(start, task));
        }
    }

    /// Forgets what has settled by now.
    pub fn settle(&mut self, now: Now) {
        self.settled_at = self.settled_at.max(now.monotonic);
        while let Some((start, task)) = self.oldest_settling() {
            if start.after(SETTLING) > now.monotonic {
                return;
            }
            self.note_end(task);
        }
    }

    fn oldest_settling(&self) -> Option<(MonotonicMs, TaskId)> {
        let classes = self.settling_by_age.values();
        classes.filter_map(|starts| starts.first()).min().copied()
    }

    /// What the settling attempts of each class need together.
    fn settling_needs(&self) -> impl Iterator<Item = (u32, Need)> {
        self.settling_by_age.iter().map(|(class, starts)| {
            let count = u32::try_from(starts.len()).unwrap_or(u32::MAX);
            (count, class.need())
        })
    }

    /// When the next attempt has settled, so that admission is worth another look.
    pub fn next_settled(&self) -> Option<MonotonicMs> {
        self.oldest_settling()
            .map(|(start, _)| start.after(SETTLING))
    }

    /// Whether one more attempt of this class may start, `running` being those that hold a slot.
    pub fn admit(&self, class: Class, running: usize) -> Result<(), Refusal> {
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
        let need = class.need();
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
            Slots::Auto => self.admit_cpu(reading, need),
            Slots::Fixed(_) => Ok(()),
        }
    }

    fn admit_memory(&self, reading: &Reading, need: Need) -> Result<(), Refusal> {
        if let Some(percent) = reading.memory_stall_percent
            && percent >= MEMORY_PRESSURE_PERCENT
        {
            return Err(Refusal::MemoryStall { percent });
        }
        let settling: u64 = self
            .settling_needs()
            .map(|(count, need)| u64::from(count) * need.memory_bytes)
            .sum();
        let free_bytes = reading.memory_free_bytes.saturating_sub(settling);
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

    fn admit_cpu(&self, reading: &Reading, need: Need) -> Result<(), Refusal> {
        let settling: f64 = self
            .settling_needs()
            .map(|(count, need)| f64::from(count) * need.cores)
            .sum();
        let in_use = reading.cores_in_use + settling;
        let allowed = reading.cores * self.limits.cpu_percent / 100.0;
        if in_use + need.cores > allowed {
            return Err(Refusal::Cpu {
                in_use,
                needed: need.cores,
                allowed,
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn reading() -> Reading {
        Reading {
            at: MonotonicMs(0),
            cores: 2.0,
            cores_in_use: 0.2,
            memory_total_bytes: 8 * GIB,
            memory_free_bytes: 4 * GIB,
            disk_free_bytes: 50 * GIB,
            memory_stall_percent: None,
        }
    }

    fn check(
        slots: Slots,
        reading: Option<Reading>,
        class: Class,
        running: usize,
        expected: Result<(), &str>,
    ) {
        let mut capacity = Capacity::new(Limits {
            slots,
            ..Limits::default()
        });
        if let Some(reading) = reading {
            capacity.observe(reading);
        }
        let found = capacity
            .admit(class, running)
            .map_err(|refusal| format!("{refusal:?}"));
        match (&found, expected) {
            (Ok(()), Ok(())) => {}
            (Err(refusal), Err(word)) if refusal.starts_with(word) => {}
            _ => assert_eq!(format!("{found:?}"), format!("{expected:?}")),
        }
    }

    #[test]
    fn admission_table() {
        let busy = Reading {
            cores_in_use: 1.58,
            ..reading()
        };
        let tight = Reading {
            memory_free_bytes: GIB + 400 * MIB,
            ..reading()
        };
        let stalled = Reading {
            memory_stall_percent: Some(25.0),
            ..reading()
        };
        let full = Reading {
            disk_free_bytes: GIB - 1,
            ..reading()
        };
        let tiny = Reading {
            memory_total_bytes: 256 * MIB,
            memory_free_bytes: 200 * MIB,
            ..reading()
        };
        check(Slots::Auto, None, Class::Command, 0, Err("NoReading"));
        check(Slots::Fixed(2), None, Class::Command, 1, Ok(()));
        check(
            Slots::Fixed(2),
            Some(reading()),
            Class::Command,
            2,
            Err("Slots"),
        );
        check(Slots::Auto, Some(reading()), Class::Agent, 5, Ok(()));
        check(Slots::Auto, Some(busy), Class::Command, 1, Err("Cpu"));
        check(Slots::Fixed(9), Some(busy), Class::Command, 1, Ok(()));
        check(Slots::Auto, Some(busy), Class::Agent, 0, Ok(()));
        check(Slots::Auto, Some(tight), Class::Agent, 1, Err("Memory"));
        check(Slots::Fixed(9), Some(tight), Class::Agent, 1, Err("Memory"));
        check(Slots::Auto, Some(tight), Class::Command, 1, Ok(()));
        check(
            Slots::Auto,
            Some(stalled),
            Class::Command,
            1,
            Err("MemoryStall"),
        );
        check(Slots::Auto, Some(full), Class::Command, 0, Err("Disk"));
        check(Slots::Auto, Some(tiny), Class::Agent, 0, Err("NeverFits"));
    }

    #[test]
    fn a_burst_is_not_admitted_on_one_reading() {
        let mut capacity = Capacity::default();
        capacity.observe(reading());
        let mut started = 0;
        while capacity.admit(Class::Agent, started).is_ok() {
            started += 1;
            let task = TaskId::new(0, started as u128);
            capacity.note_start(task, Class::Agent, MonotonicMs(0));
        }
        // 4 GiB free less 1 GiB kept back is room for six agents of 450 MiB.
        assert_eq!(started, 6);
        // One that ended gives back what it was predicted to need; one that settled is in the readings.
        capacity.note_end(TaskId::new(0, 1));
        assert_eq!(capacity.admit(Class::Agent, started - 1), Ok(()));
        let later = Now {
            monotonic: MonotonicMs(10_000),
            ..Now::default()
        };
        capacity.settle(later);
        assert_eq!(capacity.admit(Class::Agent, started), Ok(()));
    }
}

//! Breakdown of a task's time: processor time of each process involved, from the kernel's
//! accounting.

use std::{fs, thread};

use anyhow::{Context, Result};

use super::table::Table;
use crate::trial::Trial;

/// Seconds of processor time since the start of each process or, after a call of `since`, since an
/// earlier reading.
pub(crate) struct Usage {
    host: f64,
    supervisor: f64,
    /// Processes that the supervisor started and reaped: the tasks themselves.
    tasks: f64,
    /// The program that submits, which is this process.
    submitter: f64,
    wall: f64,
}

impl Usage {
    pub(crate) fn now(trial: &Trial) -> Result<Self> {
        let supervisors = trial.supervisor_pids()?;
        let sum = |of: fn(u32) -> Result<f64>| {
            supervisors.iter().map(|pid| of(*pid)).sum::<Result<f64>>()
        };
        Ok(Self {
            host: own(trial.host_pid()?)?,
            supervisor: sum(own)?,
            tasks: sum(reaped)?,
            submitter: own(std::process::id())?,
            wall: 0.0,
        })
    }

    pub(crate) fn since(&self, before: &Self, wall: f64) -> Self {
        Self {
            host: self.host - before.host,
            supervisor: self.supervisor - before.supervisor,
            tasks: self.tasks - before.tasks,
            submitter: self.submitter - before.submitter,
            wall,
        }
    }

    /// Prints the processor time per task, with the time that all processors had in the same
    /// period.
    pub(crate) fn print(&self, table: &mut Table, tasks: f64) {
        let each = |seconds: f64| seconds * 1e6 / tasks;
        let processors = thread::available_parallelism().map_or(1, usize::from);
        let had = self.wall * f64::from(u32::try_from(processors).unwrap_or(1));
        let busy = self.host + self.supervisor + self.tasks + self.submitter;
        table.note(&format!(
            "breakdown, µs of processor time per task: the tasks' own processes {:.0}, supervisor {:.0}, host {:.0}, submitter {:.0}, \
             idle and other processes {:.0}; together {processors} × {:.0}",
            each(self.tasks),
            each(self.supervisor),
            each(self.host),
            each(self.submitter),
            each((had - busy).max(0.0)),
            each(self.wall),
        ));
    }
}

/// Seconds of processor time of the process's own threads.
pub(crate) fn own(pid: u32) -> Result<f64> {
    times(pid, 11)
}

/// Seconds of processor time of the children that the process has reaped.
fn reaped(pid: u32) -> Result<f64> {
    times(pid, 13)
}

/// Sum, in seconds, of two adjacent fields of `/proc/PID/stat`: user and system time. Field 0 is
/// the first one after the command's name.
fn times(pid: u32, field: usize) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))
        .with_context(|| format!("process {pid} is gone"))?;
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .context("a command's name")?
        .1
        .split_whitespace()
        .collect();
    let ticks = |at: usize| -> Result<f64> { Ok(fields.get(at).context("a field")?.parse()?) };
    let ticks_per_second = f64::from(u32::try_from(rustix::param::clock_ticks_per_second())?);
    Ok((ticks(field)? + ticks(field + 1)?) / ticks_per_second)
}

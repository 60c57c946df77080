//! A simulated machine whose tasks need more or less than predicted. The machine neither runs out
//! of memory nor stays idle.

use std::{collections::BTreeMap, time::Duration};

use proptest::{prelude::*, test_runner::Config};

use super::{Desk, a_worktree, capacity::class, ending, starts};
use crate::{
    attempt::Usage,
    batch::Action,
    board::Bounds,
    capacity::{Limits, Reading},
    id::TaskId,
    profile::ENOUGH_OF_A_CLASS,
    step::{Cause, Ending, Input, Report},
    task::Class,
};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TOTAL: u64 = 16 * GIB;
const CORES: f64 = 4.0;

/// Actual needs of the tasks of one kind.
#[derive(Clone, Copy)]
struct Truth {
    label: &'static str,
    class: Class,
    peak_mib: u64,
    millicores: u32,
    seconds: u64,
    /// Time from the start to the memory peak.
    rise_seconds: u64,
}

/// Tasks that need a hundred times the guess for a command.
const BUILD: Truth = Truth {
    label: "build",
    class: Class::Command,
    peak_mib: 800,
    millicores: 300,
    seconds: 30,
    rise_seconds: 3,
};
/// Tasks that reach their peak long after they have settled.
const LATE: Truth = Truth {
    label: "late",
    peak_mib: 1_500,
    seconds: 90,
    rise_seconds: 80,
    ..BUILD
};
/// Tasks that need less than the guess for an agent.
const LIGHT: Truth = Truth {
    label: "light",
    class: Class::Agent,
    peak_mib: 120,
    millicores: 50,
    seconds: 20,
    rise_seconds: 1,
};
const BUSY: Truth = Truth {
    label: "busy",
    peak_mib: 20,
    millicores: 1_000,
    ..BUILD
};

struct Process {
    truth: Truth,
    /// Memory peak of this process, which differs from the peak of its kind.
    peak_bytes: u64,
    age: u64,
}

impl Process {
    fn memory_bytes(&self) -> u64 {
        let share = self.age.min(self.truth.rise_seconds);
        self.peak_bytes * share / self.truth.rise_seconds
    }
}

struct Machine {
    desk: Desk,
    kinds: BTreeMap<TaskId, Truth>,
    processes: BTreeMap<TaskId, Process>,
    /// How many seconds the preparation of each attempt takes, if attempts are prepared.
    prepared_within: Option<u64>,
    /// The attempts that are being prepared, each with the second at which this ends.
    preparing: BTreeMap<TaskId, u64>,
    noise: u64,
    /// Cores that other programs keep busy.
    foreign: f64,
    most_memory: u64,
    most_running: usize,
    seconds: u64,
}

impl Machine {
    fn new() -> Self {
        Self {
            desk: Desk::with(Limits::default(), Bounds::default()),
            kinds: BTreeMap::new(),
            processes: BTreeMap::new(),
            prepared_within: None,
            preparing: BTreeMap::new(),
            noise: 1,
            foreign: 0.0,
            most_memory: 0,
            most_running: 0,
            seconds: 0,
        }
    }

    fn submit(&mut self, truth: Truth, count: usize) {
        for _ in 0..count {
            let task = self.desk.submit(|request| {
                request.class = truth.class;
                request.labels = class(truth.class, truth.label).labels;
                let is_prepared = self.prepared_within.is_some();
                request.worktree = is_prepared.then(|| Box::new(a_worktree()));
            });
            self.kinds.insert(task, truth);
        }
    }

    /// Picks a peak of 80 to 120 per cent of the kind's peak.
    fn own_peak(&mut self, truth: Truth) -> u64 {
        self.noise = self
            .noise
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        truth.peak_mib * MIB * (80 + (self.noise >> 33) % 41) / 100
    }

    fn memory_in_use(&self) -> u64 {
        let processes = self.processes.values();
        GIB / 2 + processes.map(Process::memory_bytes).sum::<u64>()
    }

    fn reading(&self) -> Reading {
        let processes = self.processes.values();
        let wanted: f64 = processes
            .map(|process| f64::from(process.truth.millicores) / 1_000.0)
            .sum();
        let free = TOTAL.saturating_sub(self.memory_in_use());
        Reading {
            at: self.desk.now.monotonic,
            cores: CORES,
            cores_in_use: (wanted + self.foreign).min(CORES),
            memory_total_bytes: TOTAL,
            memory_free_bytes: free,
            disk_free_bytes: 99 * GIB,
            too_few_inodes: None,
            memory_stall_percent: Some(if free < GIB / 4 { 50.0 } else { 0.0 }),
        }
    }

    fn second(&mut self) {
        self.seconds += 1;
        self.desk.pass(Duration::from_secs(1));
        let mut ended = Vec::new();
        for (task, process) in &mut self.processes {
            process.age += 1;
            if process.age >= process.truth.seconds {
                ended.push(*task);
            }
        }
        self.most_memory = self.most_memory.max(self.memory_in_use());
        for task in ended {
            self.end(task);
        }
        self.end_preparations();
        let reading = self.reading();
        self.desk.step(Input::Reading(reading)).unwrap();
        let actions = self.desk.turn();
        for task in starts(&actions) {
            match self.prepared_within {
                None => self.begin(task),
                Some(within) => _ = self.preparing.insert(task, self.seconds + within),
            }
        }
        for action in actions {
            if let Action::Spawn(attempt) = action {
                self.begin(attempt.task);
            }
        }
        self.most_running = self.most_running.max(self.processes.len());
        let waits = self.desk.board.queued_count() > 0;
        assert!(
            !waits || !self.processes.is_empty() || !self.preparing.is_empty(),
            "tasks wait and nothing runs"
        );
    }

    fn begin(&mut self, task: TaskId) {
        let truth = self.kinds[&task];
        let peak_bytes = self.own_peak(truth);
        let process = Process {
            truth,
            peak_bytes,
            age: 0,
        };
        self.processes.insert(task, process);
    }

    fn end_preparations(&mut self) {
        let seconds = self.seconds;
        let ended = self.preparing.iter().filter(|(_, end)| **end <= seconds);
        let ended: Vec<TaskId> = ended.map(|(task, _)| *task).collect();
        for task in ended {
            self.preparing.remove(&task);
            self.desk.report(task, Report::Prepared);
        }
    }

    fn end(&mut self, task: TaskId) {
        let Some(process) = self.processes.remove(&task) else {
            return;
        };
        let wall_ms = process.truth.seconds * 1_000;
        let ending = Ending {
            usage: Usage {
                wall_ms,
                cpu_ms: Some(wall_ms * u64::from(process.truth.millicores) / 1_000),
                peak_rss_bytes: Some(process.peak_bytes),
            },
            ..ending(Cause::Success)
        };
        self.desk.report(task, Report::Ended(Box::new(ending)));
    }

    fn run_all(&mut self) {
        while self.desk.board.unfinished().next().is_some() {
            self.second();
            assert!(self.seconds < 20_000, "the tasks never end");
        }
    }
}

impl Machine {
    fn check(&self, kinds: &[Truth], most_seconds: u64) {
        let names: Vec<_> = kinds.iter().map(|truth| truth.label).collect();
        let most_mib = self.most_memory / MIB;
        assert!(
            self.most_memory <= TOTAL,
            "{names:?}: {most_mib} MiB were in use"
        );
        assert!(
            self.seconds <= most_seconds,
            "{names:?}: it took {} s",
            self.seconds
        );
    }
}

/// Runs `count` tasks of each kind, mixed. Memory must never run out, and all tasks must end within
/// `most_seconds`.
fn check(kinds: &[Truth], count: usize, most_seconds: u64) -> Machine {
    check_beside(0.0, kinds, count, most_seconds)
}

/// Runs the tasks while other programs keep `foreign` cores busy.
fn check_beside(foreign: f64, kinds: &[Truth], count: usize, most_seconds: u64) -> Machine {
    let mut machine = Machine {
        foreign,
        ..Machine::new()
    };
    for _ in 0..count {
        for truth in kinds {
            machine.submit(*truth, 1);
        }
    }
    machine.run_all();
    machine.check(kinds, most_seconds);
    machine
}

#[test]
fn tasks_larger_than_guessed_do_not_exhaust_memory() {
    // 200 × 0.3 cores × 30 s on 3.2 cores take at least 563 s.
    check(&[BUILD], 200, 650);
}

/// While they are being prepared, others may take the memory that was free before.
#[test]
fn tasks_that_are_prepared_for_long_do_not_exhaust_memory() {
    let mut machine = Machine::new();
    machine.submit(LATE, ENOUGH_OF_A_CLASS);
    machine.run_all();
    machine.desk.prepares = false;
    machine.prepared_within = Some(40);
    machine.submit(LATE, 60);
    machine.run_all();
    machine.check(&[LATE], 3_000);
    assert!(machine.most_running > 4, "{}", machine.most_running);
}

/// A late peak of a class is unknown until the first attempts have ended.
#[test]
fn late_memory_peaks_have_room_once_they_are_known() {
    let mut machine = Machine::new();
    machine.submit(LATE, ENOUGH_OF_A_CLASS);
    machine.run_all();
    for truth in [LATE, BUILD] {
        machine.submit(truth, 100);
    }
    machine.run_all();
    machine.check(&[LATE, BUILD], 2_000);
}

#[test]
fn tasks_smaller_than_guessed_fill_the_machine() {
    // Fewer than 33 agents of the guessed 450 MiB would fit. By their actual needs, 61 agents fit.
    let machine = check(&[LIGHT], 600, 300);
    assert!(machine.most_running > 40, "{}", machine.most_running);
}

#[test]
fn busy_tasks_run_up_to_the_allowed_cores() {
    // On 3.2 of four cores, three tasks run at a time once their needs are known.
    check(&[BUSY], 30, 330);
}

#[test]
fn tasks_of_different_kinds_run_side_by_side() {
    let machine = check(&[LIGHT, BUSY, LATE, BUILD], 60, 2_500);
    assert!(machine.most_running > 5, "{}", machine.most_running);
}

#[test]
fn endless_load_of_other_programs_starves_no_task() {
    for foreign in [3.0, 4.0, 8.0] {
        // If they ran one after another, the tasks would take 900 s.
        let machine = check_beside(foreign, &[BUSY], 30, 500);
        // Until their needs are known, tasks start in bursts.
        assert!(machine.most_running <= 16, "{}", machine.most_running);
        // Small tasks are not even slowed down.
        check_beside(foreign, &[LIGHT], 300, 300);
    }
}

proptest! {
    #![proptest_config(Config::with_cases(24))]

    /// Whatever other programs do, memory does not run out, and all tasks end in a time
    /// proportional to their number.
    #[test]
    fn memory_suffices_and_all_tasks_run_under_any_load(
        foreign in 0.0..8.0,
        counts in prop::array::uniform4(0_usize..6),
    ) {
        let kinds = [BUILD, LATE, LIGHT, BUSY];
        let mut machine = Machine { foreign, ..Machine::new() };
        let mut most_seconds = 60;
        for (kind, count) in kinds.into_iter().zip(counts) {
            machine.submit(kind, count);
            most_seconds += kind.seconds * count as u64;
        }
        machine.run_all();
        machine.check(&kinds, most_seconds);
    }
}

//! Admission of one more attempt: tables over readings, running attempts and learned needs.

use std::{collections::BTreeMap, time::Duration};

use super::fixed;
use crate::{
    capacity::{
        Capacity, Limits, MEMORY_PRESSURE_PERCENT, PATIENCE, RAMP, Reading, Refusal, Slots,
    },
    id::TaskId,
    profile::{ENOUGH_OF_A_CLASS, ProfileKey, Profiles, Sample},
    started::SETTLING,
    task::Class,
    time::{MonotonicMs, Now, Timestamp},
};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

pub(super) fn class(class: Class, label: &str) -> ProfileKey {
    let labels = [("kind".to_owned(), label.to_owned())];
    ProfileKey {
        executor: "shell".into(),
        class,
        labels: BTreeMap::from(labels),
    }
}

fn command() -> ProfileKey {
    class(Class::Command, "c")
}

fn agent() -> ProfileKey {
    class(Class::Agent, "a")
}

fn reading() -> Reading {
    Reading {
        at: MonotonicMs(0),
        cores: 2.0,
        cores_in_use: 0.2,
        memory_total_bytes: 8 * GIB,
        memory_free_bytes: 4 * GIB,
        disk_free_bytes: 50 * GIB,
        too_few_inodes: None,
        memory_stall_percent: None,
    }
}

/// A machine that is larger than any test needs.
pub(super) fn large(cores: f64) -> Reading {
    Reading {
        cores,
        memory_total_bytes: 512 * GIB,
        memory_free_bytes: 500 * GIB,
        ..reading()
    }
}

/// The capacity of a machine on which only this class, or no class, has been learned.
fn capacity(limits: Limits, learned: Option<(&ProfileKey, Sample)>) -> Capacity {
    let mut capacity = Capacity::new(limits, Profiles::default());
    if let Some((class, sample)) = learned {
        for _ in 0..ENOUGH_OF_A_CLASS {
            capacity.profiles.learn(class, sample, true, Timestamp(0));
        }
    }
    capacity
}

fn start(capacity: &mut Capacity, number: usize, class: &ProfileKey, at: Duration) {
    let at = MonotonicMs(0).after(at);
    let task = TaskId::new(0, number as u128);
    capacity.started.note_start(task, class.clone(), Some(at));
}

fn settle(capacity: &mut Capacity, at: Duration) {
    capacity.settle(Now {
        monotonic: MonotonicMs(0).after(at),
        ..Now::default()
    });
}

/// Starts as many attempts as are admitted, all of them within one reading.
fn fill(capacity: &mut Capacity, class: &ProfileKey, mut running: usize, at: Duration) -> usize {
    while capacity.admit(class, running).is_ok() {
        running += 1;
        start(capacity, running, class, at);
    }
    running
}

fn refusal(capacity: &Capacity, class: &ProfileKey, running: usize) -> String {
    let answer = capacity.admit(class, running);
    answer.map_or_else(|refusal| format!("{refusal:?}"), |()| "ok".to_owned())
}

fn check(
    slots: Slots,
    reading: Option<Reading>,
    class: &ProfileKey,
    running: usize,
    expected: &str,
) {
    let limits = Limits {
        slots,
        ..Limits::default()
    };
    let mut capacity = capacity(limits, None);
    if let Some(reading) = reading {
        capacity.observe(reading);
    }
    let found = refusal(&capacity, class, running);
    assert!(found.starts_with(expected), "{found} is not {expected}");
}

#[test]
fn attempt_without_a_slot_memory_or_disk_space_is_refused() {
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
    let crowded = Reading {
        too_few_inodes: Some(31),
        ..reading()
    };
    let tiny = Reading {
        memory_total_bytes: 256 * MIB,
        memory_free_bytes: 200 * MIB,
        ..reading()
    };
    let (two, nine) = (Slots::Fixed(2), Slots::Fixed(9));
    check(Slots::Auto, None, &command(), 0, "NoReading");
    check(two, None, &command(), 1, "ok");
    check(two, Some(reading()), &command(), 2, "Slots");
    check(Slots::Auto, Some(reading()), &agent(), 5, "ok");
    check(nine, Some(busy), &command(), 1, "ok");
    check(Slots::Auto, Some(busy), &agent(), 0, "ok");
    check(Slots::Auto, Some(tight), &agent(), 1, "Memory");
    check(nine, Some(tight), &agent(), 1, "Memory");
    check(Slots::Auto, Some(tight), &command(), 1, "ok");
    check(Slots::Auto, Some(stalled), &command(), 1, "MemoryStall");
    check(nine, Some(stalled), &command(), 1, "MemoryStall");
    check(Slots::Auto, Some(full), &command(), 0, "Disk");
    check(Slots::Auto, Some(crowded), &command(), 0, "Inodes");
    check(nine, Some(crowded), &agent(), 1, "Inodes");
    check(Slots::Auto, Some(tiny), &agent(), 0, "NeverFits");
}

/// A need that equals the free amount is admitted.
#[test]
fn limits_on_memory_and_disk_are_exact_to_the_byte() {
    let free = |memory_free_bytes: u64| Reading {
        memory_free_bytes,
        ..reading()
    };
    let just = GIB + Class::Command.need().memory_bytes;
    check(Slots::Auto, Some(free(just)), &command(), 1, "ok");
    check(Slots::Auto, Some(free(just - 1)), &command(), 1, "Memory");
    let disk = |disk_free_bytes: u64| Reading {
        disk_free_bytes,
        ..reading()
    };
    check(Slots::Auto, Some(disk(GIB)), &command(), 0, "ok");
    check(Slots::Auto, Some(disk(GIB - 1)), &command(), 0, "Disk");
    let total = |memory_total_bytes: u64| Reading {
        memory_total_bytes,
        ..reading()
    };
    let need = Class::Agent.need().memory_bytes;
    check(Slots::Auto, Some(total(need)), &agent(), 0, "ok");
    check(Slots::Auto, Some(total(need - 1)), &agent(), 0, "NeverFits");
    let stalled = |percent: f64| Reading {
        memory_stall_percent: Some(percent),
        ..reading()
    };
    let most = MEMORY_PRESSURE_PERCENT;
    check(
        Slots::Auto,
        Some(stalled(most)),
        &command(),
        1,
        "MemoryStall",
    );
    check(Slots::Auto, Some(stalled(most - 0.1)), &command(), 1, "ok");
    // Quarters are exact in floating point.
    let quarter = Sample {
        millicores: 250,
        memory_bytes: MIB,
    };
    let limits = Limits {
        cpu_percent: 100.0,
        ..Limits::default()
    };
    let mut capacity = capacity(limits, Some((&command(), quarter)));
    let in_use = |cores_in_use: f64| Reading {
        cores_in_use,
        ..reading()
    };
    capacity.observe(in_use(1.75));
    assert_eq!(refusal(&capacity, &command(), 1), "ok");
    capacity.observe(in_use(1.751));
    assert!(refusal(&capacity, &command(), 1).starts_with("Cpu"));
}

/// Checks the figures that are shown to people: the number of running attempts, the number that
/// could start, and the reason why no more could.
#[test]
fn room_is_the_number_of_further_attempts_that_could_start() {
    let known = Sample {
        millicores: 10,
        memory_bytes: 700 * MIB,
    };
    let mut capacity = capacity(Limits::default(), Some((&command(), known)));
    assert_eq!(capacity.reading(), None);
    capacity.observe(reading());
    assert_eq!(capacity.reading(), Some(&reading()));
    let room = |capacity: &Capacity, running: usize| {
        let (more, then) = capacity.room(&command(), running);
        let then = then.map_or_else(String::new, |refusal| format!("{refusal:?}"));
        (more, then.split(' ').next().unwrap_or_default().to_owned())
    };
    // The number shown equals the number of actual starts.
    assert_eq!(room(&capacity, 0), (4, "Memory".to_owned()));
    assert_eq!(
        room(&capacity, 0),
        (4, "Memory".to_owned()),
        "the first call has started nothing"
    );
    // The answer does not depend on the time.
    settle(&mut capacity, SETTLING * 10);
    assert_eq!(room(&capacity, 0), (4, "Memory".to_owned()));
    start(&mut capacity, 1, &command(), SETTLING * 10);
    start(&mut capacity, 2, &command(), SETTLING * 10);
    assert_eq!(room(&capacity, 2), (2, "Memory".to_owned()));
    assert_eq!(
        [command(), agent()].map(|class| capacity.running(&class)),
        [2, 0]
    );
    let check = |slots: u32, running: usize, more: usize, then: &str| {
        let capacity = super::capacity::capacity(fixed(slots), None);
        assert_eq!(room(&capacity, running), (more, then.to_owned()), "{slots}");
    };
    check(5, 2, 3, "Slots");
    check(5, 5, 0, "Slots");
    // The count ends at 1,000.
    check(5_000, 0, 1_000, "");
}

#[test]
fn one_reading_does_not_admit_a_whole_burst() {
    let mut capacity = capacity(Limits::default(), None);
    capacity.observe(reading());
    // 4 GiB free less 1 GiB reserved leaves room for six agents of 450 MiB.
    let started = fill(&mut capacity, &agent(), 0, Duration::ZERO);
    assert_eq!(started, 6);
    // The predicted need of an attempt that has ended is free again. The need of an attempt that
    // has settled is visible in the readings.
    capacity.started.note_end(TaskId::new(0, 1));
    assert_eq!(refusal(&capacity, &agent(), started - 1), "ok");
    settle(&mut capacity, SETTLING);
    assert_eq!(refusal(&capacity, &agent(), started), "ok");
    // The time until an attempt has settled counts from its start, to the millisecond, even if the
    // start is noted late.
    start(&mut capacity, 9, &agent(), Duration::ZERO);
    assert!(capacity.started.settling().is_empty());
    start(&mut capacity, 9, &agent(), Duration::from_millis(1));
    assert_eq!(capacity.started.settling().len(), 1);
}

#[test]
fn burst_of_an_unknown_class_doubles_from_window_to_window() {
    let check = |cores: f64, expected: [usize; 4]| {
        let mut capacity = capacity(Limits::default(), None);
        capacity.observe(large(cores));
        let mut running = 0;
        let windows = [0, 1, 2, 3].map(|window| {
            let at = SETTLING * window;
            settle(&mut capacity, at);
            running = fill(&mut capacity, &command(), running, at);
            running
        });
        assert_eq!(windows, expected, "{cores} cores");
    };
    assert_eq!(RAMP, 8);
    check(8.0, [8, 16, 32, 64]);
    check(20.0, [20, 40, 80, 160]);
    let known = Sample {
        millicores: 125,
        memory_bytes: 8 * MIB,
    };
    let mut capacity = capacity(Limits::default(), Some((&command(), known)));
    capacity.observe(large(64.0));
    // Attempts of a known class start up to the machine's limit, which is 51.2 cores in use.
    assert_eq!(fill(&mut capacity, &command(), 0, Duration::ZERO), 409);
}

#[test]
fn fixed_slots_start_a_burst_of_an_unknown_class_at_once() {
    let mut capacity = capacity(fixed(100), None);
    capacity.observe(reading());
    assert_eq!(fill(&mut capacity, &command(), 0, Duration::ZERO), 100);
}

/// Each case starts attempts of a class with learned needs, until one is refused.
#[test]
fn learned_needs_decide_admission() {
    let check = |millicores: u32, memory_bytes: u64, expected: usize, word: &str| {
        let sample = Sample {
            millicores,
            memory_bytes,
        };
        let mut capacity = capacity(Limits::default(), Some((&command(), sample)));
        capacity.observe(reading());
        let started = fill(&mut capacity, &command(), 0, Duration::ZERO);
        let found = refusal(&capacity, &command(), started);
        assert_eq!(started, expected, "{millicores} {memory_bytes} {found}");
        assert!(found.starts_with(word), "{found} is not {word}");
    };
    check(10, 700 * MIB, 4, "Memory");
    check(400, 8 * MIB, 3, "Cpu");
    // A class that needs more cores than are ever allowed runs one attempt at a time.
    check(5_000, 8 * MIB, 1, "Cpu");
    check(10, 8 * GIB, 1, "Memory");
    check(10, 8 * GIB + 1, 0, "NeverFits");
}

#[test]
fn small_tasks_are_not_held_back_by_the_load_of_other_programs() {
    // Starts as many tasks with a learned need of `millicores` as are admitted on a machine with
    // two cores, of which other programs use `in_use`.
    let check = |in_use: f64, millicores: u32, expected: usize| {
        let sample = Sample {
            millicores,
            memory_bytes: MIB,
        };
        let mut capacity = capacity(Limits::default(), Some((&command(), sample)));
        capacity.observe(Reading {
            cores_in_use: in_use,
            ..reading()
        });
        // An agent runs first, because on an idle board one attempt starts however high the load
        // is.
        start(&mut capacity, 0, &agent(), Duration::ZERO);
        let started = fill(&mut capacity, &command(), 1, Duration::ZERO) - 1;
        let found = refusal(&capacity, &command(), started + 1);
        assert_eq!(started, expected, "{in_use} {millicores} {found}");
    };
    // Tasks that need a fifth of a core or more wait until the load falls.
    check(2.0, 1_000, 0);
    check(2.0, 200, 0);
    // Smaller tasks do not wait. Together with the agent, whose need is also small, they fill the
    // 1.6 cores.
    check(2.0, 199, 7);
    check(2.0, 125, 11);
    // On an idle machine, tasks that need a fifth of a core start too, as many as the free cores
    // allow.
    check(0.0, 200, 7);
}

#[test]
fn tasks_without_cpu_need_are_held_back_by_memory_alone() {
    let sample = Sample {
        millicores: 0,
        memory_bytes: 700 * MIB,
    };
    let mut capacity = capacity(Limits::default(), Some((&command(), sample)));
    capacity.observe(Reading {
        cores_in_use: 2.0,
        ..reading()
    });
    assert_eq!(fill(&mut capacity, &command(), 0, Duration::ZERO), 4);
    assert!(refusal(&capacity, &command(), 4).starts_with("Memory"));
}

/// Each case checks whether the first task in line may start despite the load, after a given wait
/// and beside a number of running tasks.
#[test]
fn first_task_in_line_starts_despite_the_load_if_it_waited_and_own_tasks_leave_room() {
    let heavy = Sample {
        millicores: 1_000,
        memory_bytes: MIB,
    };
    let check = |running: usize, waited: Duration, expected: bool| {
        let mut capacity = capacity(Limits::default(), Some((&command(), heavy)));
        assert!(!capacity.lets_pass(PATIENCE), "there is no reading");
        capacity.observe(Reading {
            cores_in_use: 2.0,
            ..reading()
        });
        for number in 0..running {
            start(&mut capacity, number, &command(), Duration::ZERO);
        }
        assert_eq!(capacity.lets_pass(waited), expected, "{running} {waited:?}");
    };
    check(1, PATIENCE, true);
    check(1, Duration::from_millis(9_999), false);
    check(1, PATIENCE * 100, true);
    // Our own tasks fill the machine.
    check(2, PATIENCE * 100, false);
}

#[test]
fn next_start_despite_the_load_waits_until_the_previous_one_has_settled_or_ended() {
    let mut capacity = capacity(Limits::default(), None);
    capacity.observe(Reading {
        cores_in_use: 2.0,
        ..reading()
    });
    let task = TaskId::new(0, 7);
    capacity.note_let_pass(task);
    let begun = Some(MonotonicMs(0));
    capacity.started.note_preparing(task, command(), begun);
    settle(
        &mut capacity,
        SETTLING.saturating_sub(Duration::from_millis(1)),
    );
    assert!(
        !capacity.lets_pass(PATIENCE),
        "its preparation has just begun"
    );
    settle(&mut capacity, SETTLING);
    assert!(capacity.lets_pass(PATIENCE), "its preparation takes long");
    settle(&mut capacity, SETTLING * 9);
    start(&mut capacity, 7, &command(), SETTLING * 9);
    assert!(!capacity.lets_pass(PATIENCE), "the task has just started");
    settle(&mut capacity, SETTLING * 10);
    assert!(capacity.lets_pass(PATIENCE), "the task has settled");
    start(&mut capacity, 7, &command(), SETTLING * 10);
    capacity.started.note_end(task);
    assert!(capacity.lets_pass(PATIENCE), "the task has ended");
}

#[test]
fn memory_for_a_late_peak_is_kept_free() {
    let sample = Sample {
        millicores: 10,
        memory_bytes: 2 * GIB,
    };
    let mut capacity = capacity(Limits::default(), Some((&command(), sample)));
    for number in 0..3 {
        start(&mut capacity, number, &command(), Duration::ZERO);
    }
    // The readings now count in full, but the attempts do not use their peak of memory yet.
    settle(&mut capacity, SETTLING);
    let idle = Reading {
        memory_free_bytes: 8 * GIB,
        ..reading()
    };
    capacity.observe(idle);
    let found = refusal(&capacity, &command(), 3);
    assert!(
        found.starts_with("Memory { free_bytes: 2147483648"),
        "{found}"
    );
    // Agents have only a guessed need, which counts only until they have settled.
    let mut guessed = super::capacity::capacity(Limits::default(), None);
    for number in 0..40 {
        start(&mut guessed, number, &agent(), Duration::ZERO);
    }
    settle(&mut guessed, SETTLING);
    guessed.observe(idle);
    assert_eq!(refusal(&guessed, &agent(), 40), "ok");
}

/// Whatever the limit of the machine is, an attempt that is being prepared counts only at first.
#[test]
fn preparation_that_takes_long_holds_nothing_but_a_slot() {
    let known = Sample {
        millicores: 400,
        memory_bytes: 700 * MIB,
    };
    let check = |learned: Option<Sample>, limits: Limits, at_first: &str, later: &str| {
        let class = command();
        let mut capacity = capacity(limits, learned.map(|sample| (&class, sample)));
        capacity.observe(reading());
        for number in 0..8 {
            let task = TaskId::new(0, number);
            let begun = Some(MonotonicMs(0));
            capacity.started.note_preparing(task, command(), begun);
        }
        settle(
            &mut capacity,
            SETTLING.saturating_sub(Duration::from_millis(1)),
        );
        let found = refusal(&capacity, &command(), 8);
        assert!(found.starts_with(at_first), "{found} is not {at_first}");
        let next = capacity.next_settled();
        assert_eq!(next, Some(MonotonicMs(0).after(SETTLING)));
        settle(&mut capacity, SETTLING);
        let found = refusal(&capacity, &command(), 8);
        assert!(found.starts_with(later), "{found} is not {later}");
        assert_eq!(capacity.next_settled(), None);
        assert_eq!(capacity.running(&command()), 8, "they are still shown");
        // An attempt that runs counts as ever.
        start(&mut capacity, 0, &command(), SETTLING);
        assert!(capacity.started.settles(TaskId::new(0, 0)));
        assert_eq!(capacity.started.slow().len(), 7);
        let found = refusal(&capacity, &command(), 8);
        assert!(found.starts_with(later), "{found} is not {later}");
        for number in 0..8 {
            capacity.started.note_end(TaskId::new(0, number));
        }
        assert!(capacity.started.slow().is_empty());
        assert_eq!(capacity.started.counted_of().count(), 0);
    };
    check(None, Limits::default(), "Ramp", "ok");
    check(Some(known), Limits::default(), "Memory", "ok");
    check(Some(known), fixed(9), "Memory", "ok");
    check(None, fixed(8), "Slots", "Slots");
}

/// A burst must not grow faster because its preparation takes long: each part of it starts when
/// readings show the needs of the earlier parts.
#[test]
fn attempts_whose_preparation_took_long_do_not_start_all_at_once() {
    let mut capacity = capacity(Limits::default(), None);
    capacity.observe(large(8.0));
    for number in 0..100 {
        let task = TaskId::new(0, number);
        capacity.started.note_preparing(task, command(), None);
    }
    let mut begun = 0;
    let windows = [0, 1, 2, 3].map(|window| {
        let at = SETTLING * window;
        settle(&mut capacity, at);
        while capacity.admit_prepared(&command(), 100).is_ok() {
            start(&mut capacity, begun, &command(), at);
            begun += 1;
        }
        begun
    });
    assert_eq!(windows, [8, 16, 32, 64]);
}

#[test]
fn number_of_long_preparations_is_limited_if_the_slots_are_not_fixed() {
    let check = |limits: Limits, cores: f64, most: usize| {
        let mut capacity = capacity(limits, None);
        capacity.observe(large(cores));
        let admit = |preparing| capacity.admit_preparation(preparing, true);
        assert_eq!(admit(most - 1), Ok(()));
        let refused = Refusal::Preparing {
            preparing: most,
            by_restrained: true,
        };
        let expected = if limits.slots == Slots::Auto {
            Err(refused)
        } else {
            Ok(())
        };
        assert_eq!(admit(most), expected, "{cores} cores");
    };
    check(Limits::default(), 2.0, RAMP);
    check(Limits::default(), 20.0, 20);
    check(fixed(100), 2.0, 100);
}

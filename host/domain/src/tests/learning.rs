//! Profiles: learning from ends of attempts, and forgetting.

use std::time::Duration;

use super::{Desk, capacity::class, ending, fixed, starts, success};
use crate::{
    attempt::Usage,
    board::Bounds,
    capacity::Slots,
    id::TaskId,
    outcome::ReasonClass,
    profile::{
        ENOUGH_OF_A_CLASS, ENOUGH_OF_AN_EXECUTOR, Need, PROFILES, Profile, ProfileKey, Profiles,
        Sample, WINDOW,
    },
    step::{Answer, Cause, Ending, Input, Report},
    task::{Class, Request},
    time::Timestamp,
};

const MIB: u64 = 1 << 20;

fn sample(mib: u64) -> Sample {
    Sample {
        millicores: 250,
        memory_bytes: mib * MIB,
    }
}

fn build() -> ProfileKey {
    class(Class::Command, "build")
}

fn taught(class: &ProfileKey, mib: impl IntoIterator<Item = u64>) -> Profiles {
    let mut profiles = Profiles::default();
    for (at, mib) in (0..).zip(mib) {
        profiles.learn(class, sample(mib), true, Timestamp(at));
    }
    profiles
}

#[test]
fn prediction_is_the_95th_percentile_of_the_window() {
    let check = |peaks: Vec<u64>, expected: u64| {
        let profiles = taught(&build(), peaks.iter().copied());
        let found = profiles.need(&build()).memory_bytes / MIB;
        assert_eq!(found, expected, "{peaks:?}");
    };
    // With too few samples the fixed guess for commands applies.
    check(vec![], 8);
    check(vec![100; ENOUGH_OF_A_CLASS - 1], 8);
    check(vec![100; ENOUGH_OF_A_CLASS], 100);
    let samples = |count| {
        taught(&build(), vec![100; count])
            .get(&build())
            .unwrap()
            .samples()
    };
    assert_eq!([5, WINDOW + 1].map(samples), [5, WINDOW]);
    check(vec![1, 2, 3, 4, 5], 5);
    check((1..=20).collect(), 19);
    check((1..=WINDOW as u64).collect(), 61);
    let raised = |large: usize| [vec![100; WINDOW], vec![900; large]].concat();
    check(raised(3), 100);
    check(raised(4), 900);
    let lowered = |small: usize| [vec![900; WINDOW], vec![100; small]].concat();
    check(lowered(WINDOW - 4), 900);
    check(lowered(WINDOW - 3), 100);
}

#[test]
fn untrusted_class_falls_back_to_its_executor_and_then_to_a_guess() {
    let other = class(Class::Command, "test");
    let guess = Class::Command.need().memory_bytes;
    let check = |attempts: usize, expected: [u64; 2]| {
        let profiles = taught(&build(), vec![300; attempts]);
        let is_trusted = profiles.is_trusted(&build());
        assert_eq!(is_trusted, expected[0] != guess, "{attempts}");
        let found = [build(), other.clone()].map(|class| profiles.need(&class).memory_bytes);
        assert_eq!(found, expected, "{attempts}");
    };
    check(ENOUGH_OF_A_CLASS - 1, [guess, guess]);
    check(ENOUGH_OF_A_CLASS, [300 * MIB, guess]);
    check(ENOUGH_OF_AN_EXECUTOR - 1, [300 * MIB, guess]);
    check(ENOUGH_OF_AN_EXECUTOR, [300 * MIB, 300 * MIB]);
}

#[test]
fn one_outlier_does_not_change_an_executors_prediction() {
    let all = build().of_executor();
    let profiles = taught(&all, [vec![10; 19], vec![3_000]].concat());
    assert_eq!(profiles.need(&all).memory_bytes, 10 * MIB);
    assert_eq!(profiles.need(&build()).memory_bytes, 10 * MIB);
}

#[test]
fn number_of_profiles_is_bounded_and_untrusted_classes_are_removed_first() {
    let mut profiles = taught(&build(), vec![300; ENOUGH_OF_A_CLASS]);
    for number in 0..2 * PROFILES as u64 {
        let once = class(Class::Command, &format!("run {number}"));
        let later = Timestamp(1_000 + number);
        let learned = profiles.learn(&once, sample(1), true, later);
        assert!(learned.trust_of.is_empty());
        let written = learned.changed.len();
        assert!((2..=3).contains(&written), "{learned:?}");
    }
    assert_eq!(profiles.iter().count(), PROFILES);
    assert!(profiles.is_trusted(&build()) && profiles.is_trusted(&build().of_executor()));
    // If all classes are trusted, the class that was updated the longest ago is removed.
    for number in 0..PROFILES as u64 {
        let class = class(Class::Command, &format!("often {number}"));
        for _ in 0..ENOUGH_OF_A_CLASS {
            profiles.learn(&class, sample(1), true, Timestamp(5_000 + number));
        }
    }
    assert!(profiles.get(&build()).is_none() && profiles.is_trusted(&build().of_executor()));
    let kept = profiles
        .iter()
        .map(|(key, profile)| (key.clone(), profile.clone()));
    assert_eq!(Profiles::new(kept.collect::<Vec<_>>()), profiles);
}

#[test]
fn measured_usage_becomes_a_sample() {
    let check =
        |wall_ms: u64, cpu_ms: Option<u64>, peak: Option<u64>, expected: Option<(u32, u64)>| {
            let usage = Usage {
                wall_ms,
                cpu_ms,
                peak_rss_bytes: peak.map(|mib| mib * MIB),
            };
            let found = Sample::of(&usage, Some(1_000 * MIB))
                .map(|sample| (sample.millicores, sample.memory_bytes / MIB));
            assert_eq!(found, expected, "{usage:?}");
        };
    check(4_000, Some(6_000), Some(300), Some((1_500, 300)));
    check(4_000, None, None, None);
    // The attempt is shorter than the time between two readings.
    check(2, Some(2), None, Some((2, 4)));
    check(0, Some(0), None, Some((0, 4)));
    // Shared pages were counted for each process.
    check(4_000, Some(0), Some(9_000), Some((0, 1_000)));
    check(1_000, Some(u64::MAX), None, Some((u32::MAX, 4)));
}

fn labelled(label: &str) -> impl Fn(&mut Request) {
    let labels = class(Class::Command, label).labels;
    move |request| request.labels.clone_from(&labels)
}

fn used(cause: Cause, mib: u64) -> Report {
    Report::Ended(Box::new(Ending {
        usage: Usage {
            wall_ms: 2_000,
            cpu_ms: Some(20),
            peak_rss_bytes: Some(mib * MIB),
        },
        ..ending(cause)
    }))
}

fn run(desk: &mut Desk, label: &str, report: Report) -> TaskId {
    let task = desk.submit(labelled(label));
    desk.turn();
    desk.report(task, report);
    task
}

#[test]
fn profile_is_written_in_the_batch_of_the_end() {
    let mut desk = Desk::new(1);
    run(&mut desk, "build", used(Cause::Success, 100));
    let (batch, _) = desk.board.seal();
    let written: Vec<_> = batch
        .profiles
        .iter()
        .map(|(key, profile)| (key.clone(), profile.as_ref().map(|it| it.attempts)))
        .collect();
    assert_eq!(
        written,
        [(build().of_executor(), Some(1)), (build(), Some(1))]
    );
    assert!(batch.tasks.iter().any(|task| task.is_done()));
    assert!(!desk.board.has_pending(), "the profile is written twice");
}

#[test]
fn attempt_that_was_cut_short_can_only_raise_the_prediction() {
    let check = |cause: Cause, mib: u64, expected: u64| {
        let mut desk = Desk::new(1);
        for _ in 0..ENOUGH_OF_A_CLASS {
            run(&mut desk, "build", used(Cause::Success, 100));
        }
        run(&mut desk, "build", used(cause, mib));
        let profile = desk.board.capacity().profiles().get(&build()).cloned();
        let taught = profile.map(|profile| profile.attempts - ENOUGH_OF_A_CLASS as u64);
        assert_eq!(taught, Some(expected), "{cause:?} {mib}");
    };
    check(Cause::Success, 1, 1);
    check(Cause::Class(ReasonClass::Exit), 1, 1);
    check(Cause::Class(ReasonClass::MaxTurns), 1, 1);
    for class in [ReasonClass::Signal, ReasonClass::Timeout, ReasonClass::Lost] {
        check(Cause::Class(class), 1, 0);
        check(Cause::Class(class), 100, 0);
        check(Cause::Class(class), 101, 1);
    }
}

#[test]
fn attempt_cut_short_counts_if_it_used_more_memory_or_processor_than_predicted() {
    let check = |millicores: u32, mib: u64, expected: bool| {
        let mut profiles = taught(&build(), vec![100; ENOUGH_OF_A_CLASS]);
        let cut_short = Sample {
            millicores,
            memory_bytes: mib * MIB,
        };
        let taught = profiles.learn(&build(), cut_short, false, Timestamp(9));
        assert_eq!(!taught.changed.is_empty(), expected, "{millicores} {mib}");
    };
    check(250, 100, false);
    check(1, 1, false);
    check(251, 1, true);
    check(1, 101, true);
}

#[test]
fn attempt_without_a_process_teaches_nothing() {
    let mut desk = Desk::new(1);
    run(&mut desk, "build", success());
    assert_eq!(desk.board.capacity().profiles().iter().count(), 0);
}

#[test]
fn trusted_class_has_a_lane_of_its_own() {
    let mut desk = Desk::new(1);
    for _ in 1..ENOUGH_OF_A_CLASS {
        run(&mut desk, "build", used(Cause::Success, 100));
    }
    desk.settle();
    let running = desk.submit(labelled("build"));
    desk.turn();
    let queued = ["build", "other", "build"].map(|label| desk.submit(labelled(label)));
    desk.turn();
    let lanes = |desk: &Desk| {
        let lanes = desk.refusals().into_keys();
        lanes.map(|lane| lane.profile).collect::<Vec<_>>()
    };
    assert_eq!(lanes(&desk), [build().of_executor()]);
    desk.report(running, used(Cause::Success, 100));
    let mut order = starts(&desk.turn());
    assert_eq!(lanes(&desk), [build().of_executor(), build()]);
    for _ in 1..queued.len() {
        desk.report(*order.last().unwrap(), used(Cause::Success, 100));
        order.extend(starts(&desk.turn()));
    }
    assert_eq!(order, queued, "tasks changed places");
}

#[test]
fn next_host_predicts_the_same_needs() {
    let mut desk = Desk::with(fixed(1), Bounds::default());
    for mib in [100, 200, 300, 400, 500] {
        desk.pass(Duration::from_secs(1));
        run(&mut desk, "build", used(Cause::Success, mib));
    }
    desk.settle();
    let before = desk.board.capacity().profiles().clone();
    desk.reload();
    assert_eq!(desk.board.capacity().profiles(), &before);
    // The store keeps the profiles as text.
    for (_, profile) in before.iter() {
        let text = serde_json::to_string(profile).unwrap();
        assert!(text.contains(&format!("[10,{}]", 100 * MIB)), "{text}");
        assert_eq!(&serde_json::from_str::<Profile>(&text).unwrap(), profile);
    }
    let need = Need {
        cores: 0.01,
        memory_bytes: 500 * MIB,
    };
    assert_eq!(before.need(&build()), need);
}

#[test]
fn profiles_of_an_executor_can_be_forgotten() {
    let mut desk = Desk::new(0);
    desk.step(Input::SetSlots(Some(Slots::Fixed(1)))).unwrap();
    for _ in 0..ENOUGH_OF_A_CLASS {
        run(&mut desk, "build", used(Cause::Success, 100));
    }
    desk.step(Input::SetSlots(Some(Slots::Fixed(0)))).unwrap();
    desk.submit(labelled("build"));
    desk.turn();
    let lanes = |desk: &Desk| desk.refusals().into_keys().collect::<Vec<_>>();
    assert_eq!(lanes(&desk)[0].profile, build());
    let forget = |desk: &mut Desk, executor: &str| {
        let executor = executor.to_owned();
        desk.step(Input::ForgetProfiles { executor }).unwrap()
    };
    assert_eq!(forget(&mut desk, "claude"), Answer::Forgotten(0));
    assert_eq!(forget(&mut desk, "shell"), Answer::Forgotten(2));
    let (batch, _) = desk.board.seal();
    let written: Vec<_> = batch
        .profiles
        .iter()
        .map(|(key, kept)| (key.clone(), kept.is_some()))
        .collect();
    assert_eq!(written, [(build().of_executor(), false), (build(), false)]);
    desk.turn();
    assert_eq!(lanes(&desk)[0].profile, build().of_executor());
}

#[test]
fn latest_refusals_are_remembered() {
    let mut desk = Desk::new(1);
    let first = desk.submit(|_| {});
    desk.turn();
    let second = desk.submit(|_| {});
    desk.turn();
    desk.pass(Duration::from_secs(5));
    desk.turn();
    desk.report(first, success());
    assert_eq!(starts(&desk.turn()), [second]);
    assert!(desk.refusals().is_empty());
    let past: Vec<_> = desk.board.past_refusals().iter().collect();
    assert_eq!(past.len(), 1);
    assert_eq!(
        (past[0].times, past[0].last.0 - past[0].first.0),
        (2, 5_000)
    );
    // The number of remembered refusals is bounded.
    for number in 0..100 {
        desk.submit(|request| request.executor = number.to_string().into());
    }
    desk.turn();
    assert_eq!(
        desk.board.past_refusals().iter().count(),
        crate::refusals::REMEMBERED
    );
    desk.step(Input::Drain).unwrap();
}

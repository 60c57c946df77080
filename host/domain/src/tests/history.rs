//! Random histories.

use std::time::Duration;

use proptest::prelude::*;

use super::world::{End, Happening, Kind, Sign, Wish, World};
use crate::{dependency::Condition, group::Group, task::Priority};

fn any_wish() -> impl Strategy<Value = Wish> {
    let kind = prop_oneof![
        4 => Just(Kind::Plain),
        1 => Just(Kind::Serial),
        1 => Just(Kind::Agent("a")),
        1 => Just(Kind::Agent("b")),
    ];
    let priority = prop_oneof![Just(Priority::P0), Just(Priority::P1), Just(Priority::P2)];
    (
        priority,
        kind,
        proptest::option::of(0..9usize),
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
        proptest::option::weighted(0.2, 0..3u8),
        any_delay(),
        proptest::option::weighted(0.4, 0..2u8),
    )
        .prop_map(
            |(priority, kind, parent, detached, start_timeout, timeout, key, delay, label)| Wish {
                priority,
                kind,
                parent,
                detached,
                start_timeout,
                timeout,
                key,
                label,
                ..delay
            },
        )
}

/// A wish of which all that matters is what keeps it from running at once.
fn any_delay() -> impl Strategy<Value = Wish> {
    let condition = prop_oneof![
        Just(Condition::Succeeded),
        Just(Condition::Completed),
        Just(Condition::Any)
    ];
    (
        proptest::collection::vec((0..64usize, condition), 0..4),
        proptest::bool::weighted(0.1),
        proptest::option::weighted(0.3, 0..2u8),
        proptest::option::weighted(0.3, 0..3u32),
        proptest::option::weighted(0.1, 0..7200u64),
        proptest::bool::weighted(0.1),
    )
        .prop_map(
            |(dependencies, held, group, retries, start_in, queue_timeout)| Wish {
                priority: Priority::P1,
                kind: Kind::Plain,
                parent: None,
                detached: false,
                start_timeout: false,
                timeout: false,
                key: None,
                label: None,
                dependencies,
                held,
                group,
                retries,
                start_in: start_in.map(Duration::from_secs),
                queue_timeout,
            },
        )
}

fn any_end() -> impl Strategy<Value = End> {
    prop_oneof![
        2 => Just(End::Success),
        1 => Just(End::Exit),
        1 => proptest::option::of(1..90u64)
            .prop_map(|minutes| End::Limit(minutes.map(Duration::from_mins))),
    ]
}

fn any_sign() -> impl Strategy<Value = Sign> {
    prop_oneof![
        3 => Just(Sign::Alive),
        1 => Just(Sign::Finishing),
        1 => Just(Sign::AccountWorks),
        1 => Just(Sign::Doing),
        1 => Just(Sign::Progress),
    ]
}

fn any_happening() -> impl Strategy<Value = Happening> {
    let number = 0..64usize;
    prop_oneof![
        8 => any_wish().prop_map(|wish| Happening::Submit(vec![wish])),
        2 => proptest::collection::vec(any_wish(), 0..6).prop_map(Happening::Submit),
        3 => number.clone().prop_map(Happening::Cancel),
        3 => (number.clone(), any::<bool>()).prop_map(|(number, all)| Happening::Retry(number, all)),
        1 => number.clone().prop_map(Happening::Hold),
        1 => number.clone().prop_map(Happening::Release),
        1 => (0..2u8, proptest::option::of(0..3u32), any::<bool>())
            .prop_map(|(name, limit, paused)| Happening::Group(name, Group { limit, paused })),
        5 => (number.clone(), any_sign()).prop_map(|(number, sign)| Happening::Sign(number, sign)),
        6 => (number.clone(), any_end()).prop_map(|(number, end)| Happening::End(number, end)),
        14 => number.clone().prop_map(Happening::Deliver),
        2 => number.clone().prop_map(Happening::Repeat),
        3 => (1..4000u64).prop_map(|seconds| Happening::Pass(Duration::from_secs(seconds))),
        1 => (900_000_000..1_100_000_000u64).prop_map(Happening::WallJumps),
        1 => number.clone().prop_map(Happening::WaitBegins),
        1 => number.prop_map(Happening::WaitEnds),
        1 => (0..5u32).prop_map(Happening::Slots),
        1 => Just(Happening::LoseNextStart),
        16 => Just(Happening::Turn),
        14 => Just(Happening::Commit),
        2 => Just(Happening::FailCommit),
        2 => any::<bool>().prop_map(|committed| Happening::Crash { committed }),
    ]
}

fn live(slots: u32, history: &[Happening]) -> World {
    let mut world = World::new(slots);
    for happening in history {
        world.happen(happening.clone());
    }
    world.come_to_rest();
    world
}

proptest! {
    /// What is promised is kept, nothing runs twice and nothing waits for ever, whatever fails: see [`World`].
    #[test]
    fn any_history_keeps_its_promises(
        slots in 0..4u32,
        history in proptest::collection::vec(any_happening(), 1..150),
    ) {
        let world = live(slots, &history);
        // The same inputs give the same batches and effects, byte for byte.
        prop_assert_eq!(&world.transcript, &live(slots, &history).transcript);
    }
}

//! Random histories.
//!
//! Each event is derived from one number, so a history is a list of numbers: proptest generates
//! such a list cheaply, and shrinks a failing one well.

use std::{
    cell::{Cell, RefCell},
    time::Duration,
};

use proptest::{
    prelude::*,
    test_runner::{Config, TestError, TestRunner},
};

use super::world::{Dies, End, Happening, Kind, Sign, Wish, World, steps};
use crate::{dependency::Condition, group::Group, task::Priority};

/// Kind of history. Histories of the kind `Everything` rarely repeat the same event. In the other
/// kinds, most events are of a few types.
#[derive(Clone, Copy, Debug)]
enum Profile {
    Everything,
    /// Retries, holds and groups, in a world without failures.
    Again,
    /// Parents that submit children and wait for them.
    Families,
}

/// Random numbers derived from one number: SplitMix64 (Steele, Lea, Flood, "Fast splittable
/// pseudorandom number generators", OOPSLA 2014).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// A number that selects one of the tasks, attempts or reports that exist when the event
    /// happens.
    fn number(&mut self) -> usize {
        self.small(64)
    }

    fn small(&mut self, bound: u8) -> usize {
        self.byte(bound).into()
    }

    fn byte(&mut self, bound: u8) -> u8 {
        self.below(bound.into()).to_le_bytes()[0]
    }

    fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }

    fn maybe<T>(&mut self, chance: u64, some: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.percent(chance).then(|| some(self))
    }

    fn seconds(&mut self, most: u64) -> Duration {
        Duration::from_secs(1 + self.below(most))
    }

    fn of<T: Clone>(&mut self, things: &[T]) -> T {
        let place = self.below(things.len() as u64);
        things[usize::try_from(place).unwrap()].clone()
    }

    fn wish(&mut self) -> Wish {
        use Kind::{Agent, Plain, Serial};
        let plain = [Plain; 4];
        let special = [Serial, Agent("a"), Agent("b")];
        let edges = self.byte(4);
        Wish {
            priority: self.of(&[Priority::P0, Priority::P1, Priority::P2]),
            kind: self.of(&[plain.as_slice(), &special].concat()),
            parent: self.maybe(50, |dice| dice.small(9)),
            detached: self.percent(50),
            start_timeout: self.percent(50),
            timeout: self.percent(50),
            key: self.maybe(20, |dice| dice.byte(3)),
            dependencies: (0..edges)
                .map(|_| (self.number(), self.condition()))
                .collect(),
            held: self.percent(10),
            group: self.maybe(30, |dice| dice.byte(2)),
            retries: self.maybe(30, |dice| dice.byte(3).into()),
            start_in: self.maybe(10, |dice| dice.seconds(7200)),
            queue_timeout: self.percent(10),
            label: self.maybe(40, |dice| dice.byte(2)),
            worktree: self.percent(25),
            budget: self.maybe(20, |dice| 1 + dice.byte(3)),
            graph: self.maybe(30, |dice| dice.byte(2)),
        }
    }

    /// A task that waits only for other tasks, its group and a release.
    fn plain_wish(&mut self) -> Wish {
        let edges = self.byte(3);
        Wish {
            priority: self.of(&[Priority::P0, Priority::P1]),
            kind: Kind::Plain,
            parent: None,
            detached: false,
            start_timeout: false,
            timeout: false,
            key: None,
            dependencies: (0..edges)
                .map(|_| (self.number(), self.condition()))
                .collect(),
            held: self.percent(15),
            group: self.maybe(25, |dice| dice.byte(2)),
            retries: self.maybe(20, |dice| dice.byte(3).into()),
            start_in: None,
            queue_timeout: false,
            label: None,
            budget: None,
            graph: None,
            worktree: self.percent(20),
        }
    }

    /// Several steps that advance a task, so that a short history has many attempts.
    fn stride(&mut self) -> Vec<Happening> {
        let deliver = || Happening::Deliver(0);
        if self.percent(45) {
            return vec![Happening::Turn, Happening::Commit, deliver(), deliver()];
        }
        let success = [End::Success; 3];
        let end = self.of(&[&success[..], &[End::Exit, End::Conflict]].concat());
        vec![
            Happening::End(self.number(), end),
            deliver(),
            deliver(),
            deliver(),
        ]
    }

    /// Uses few tasks, so that the same tasks are retried again and again.
    fn again(&mut self) -> Vec<Happening> {
        let one = match self.byte(100) {
            0..=49 => return self.stride(),
            50..=51 => Happening::Submit(vec![self.plain_wish()]),
            52..=53 => Happening::Cancel(self.number()),
            54..=68 => Happening::Retry(self.number(), self.percent(70)),
            69..=75 => Happening::MergeByHand(self.number()),
            76..=77 => Happening::Hold(self.number()),
            78..=82 => Happening::Release(self.number()),
            83..=84 => self.group(),
            85..=86 => Happening::Slots(self.byte(3).into()),
            87..=88 => Happening::Pass(self.seconds(10)),
            89..=92 => Happening::Turn,
            93..=96 => Happening::Commit,
            _ => Happening::Deliver(self.number()),
        };
        vec![one]
    }

    fn families(&mut self) -> Vec<Happening> {
        let member = |dice: &mut Self| Wish {
            parent: dice.maybe(75, Self::number),
            detached: dice.percent(25),
            held: dice.percent(5),
            ..dice.plain_wish()
        };
        let one = match self.byte(100) {
            0..=39 => return self.stride(),
            40..=51 => Happening::Submit(vec![member(self)]),
            52..=53 => Happening::Submit((0..self.byte(5)).map(|_| member(self)).collect()),
            54..=58 => Happening::Cancel(self.number()),
            59..=61 => Happening::Retry(self.number(), self.percent(50)),
            62..=74 => Happening::WaitBegins(self.number()),
            75..=84 => Happening::WaitEnds(self.number()),
            85..=87 => Happening::Slots(self.byte(3).into()),
            88..=90 => Happening::Turn,
            91..=93 => Happening::Commit,
            94..=96 => Happening::Deliver(self.number()),
            97 => Happening::FailCommit,
            _ => self.crash(),
        };
        vec![one]
    }

    /// The beginning of a history of the kind `Again` or `Families`: a few tasks, each of which may
    /// depend on earlier ones.
    fn beginning(&mut self) -> Vec<Happening> {
        let submit = |dice: &mut Self| {
            let one = Happening::Submit(vec![dice.plain_wish()]);
            [one, Happening::Turn, Happening::Commit]
        };
        (0..5).flat_map(|_| submit(self)).collect()
    }

    fn condition(&mut self) -> Condition {
        self.of(&[Condition::Succeeded, Condition::Completed, Condition::Any])
    }

    fn end(&mut self) -> End {
        match self.byte(11) {
            0..=3 => End::Success,
            4 | 5 => End::Exit,
            6 | 7 => End::Conflict,
            8 => End::Budget,
            _ => End::Limit(self.maybe(50, |dice| dice.seconds(90 * 60))),
        }
    }

    fn sign(&mut self) -> Sign {
        use Sign::{AccountWorks, Alive, Cost, Doing, Finishing, GoesOn, Over, Progress};
        self.of(&[
            Alive,
            Alive,
            Alive,
            Finishing,
            AccountWorks,
            Cost,
            Cost,
            Doing,
            Progress,
            Over,
            GoesOn,
            GoesOn,
        ])
    }

    fn group(&mut self) -> Happening {
        let group = Group {
            limit: self.maybe(50, |dice| dice.byte(3).into()),
            paused: self.percent(50),
        };
        Happening::Group(self.byte(2), group)
    }

    fn crash(&mut self) -> Happening {
        Happening::Crash {
            committed: self.percent(50),
            dies: match self.byte(5) {
                0..=2 => Dies::Alone,
                3 => Dies::WithSupervisor,
                _ => Dies::WithMachine,
            },
        }
    }

    fn happening(&mut self) -> Happening {
        match self.byte(100) {
            0..=7 => Happening::Submit(vec![self.wish()]),
            8..=9 => Happening::Submit((0..self.byte(6)).map(|_| self.wish()).collect()),
            10..=12 => Happening::Cancel(self.number()),
            13..=14 => Happening::Retry(self.number(), self.percent(50)),
            15 => Happening::MergeByHand(self.number()),
            16 => Happening::Hold(self.number()),
            17 => Happening::Release(self.number()),
            18 => self.group(),
            19 => Happening::Pause(self.percent(30)),
            20..=24 => Happening::Sign(self.number(), self.sign()),
            25..=31 => Happening::End(self.number(), self.end()),
            32..=46 => Happening::Deliver(self.number()),
            47..=48 => Happening::Repeat(self.number()),
            49..=51 => Happening::Pass(self.seconds(4000)),
            52 => Happening::Suspend(self.seconds(40_000)),
            53 => Happening::WallJumps(900_000_000 + self.below(200_000_000)),
            54..=55 => Happening::WaitBegins(self.number()),
            56 => Happening::WaitEnds(self.number()),
            57 => Happening::Slots(self.byte(5).into()),
            58 => Happening::LoseNextStart,
            59..=75 => Happening::Turn,
            76 => Happening::TryNow(self.number()),
            77..=92 => Happening::Commit,
            93 => Happening::Code {
                of_agents: self.percent(50),
                lacks: self.percent(60),
            },
            94..=95 => Happening::FailCommit,
            96 => Happening::SupervisorDies,
            _ => self.crash(),
        }
    }
}

fn any_history(profile: Profile) -> BoxedStrategy<(u32, Vec<Happening>)> {
    let part = |part: fn(&mut Dice) -> Vec<Happening>| {
        let beginning = any::<u64>().prop_map(|number| Dice(number).beginning());
        let part = any::<u64>().prop_map(move |number| part(&mut Dice(number)));
        let parts = proptest::collection::vec(part, 1..150);
        let history = (0..4u32, beginning, parts);
        let history = history
            .prop_map(|(slots, beginning, parts)| (slots, [beginning, parts.concat()].concat()));
        history.boxed()
    };
    match profile {
        Profile::Everything => {
            let happening = any::<u64>().prop_map(|number| Dice(number).happening());
            (0..4u32, proptest::collection::vec(happening, 1..150)).boxed()
        }
        Profile::Again => part(Dice::again),
        Profile::Families => part(Dice::families),
    }
}

fn live(slots: u32, history: Vec<Happening>, transcript: Option<String>) -> World {
    let mut world = World::new(slots);
    world.transcript = transcript;
    for happening in history {
        world.happen(happening);
    }
    world.come_to_rest();
    world
}

/// Rules hold, no attempt starts twice and no task waits for ever, whatever fails: see [`World`].
#[test]
fn any_history_keeps_the_rules() {
    keeps_its_promises(Profile::Everything);
}

/// The same dependency is retried several times, before and after its dependants begin.
#[test]
fn history_of_retries_holds_and_groups_keeps_the_rules() {
    keeps_its_promises(Profile::Again);
}

#[test]
fn history_of_parents_and_waits_keeps_the_rules() {
    keeps_its_promises(Profile::Families);
}

/// Number of histories of each kind if the environment names no number. `cargo xtask test` and
/// `sim` name higher numbers.
const HISTORIES: u32 = 32;

fn keeps_its_promises(profile: Profile) {
    let config = Config::default();
    let is_given = std::env::var_os("PROPTEST_CASES").is_some();
    let mut runner = TestRunner::new(Config {
        cases: if is_given { config.cases } else { HISTORIES },
        source_file: Some(file!()),
        test_name: Some("keeps_its_promises"),
        // The environment may lower this limit: a run that only checks whether a rule is broken
        // need not take the time to find a short history.
        max_shrink_iters: config.max_shrink_iters.min(100_000),
        ..config
    });
    silence_panics();
    let result = runner.run(&any_history(profile), |(slots, history)| {
        live(slots, history, None);
        Ok(())
    });
    SEARCHING.with(|searching| searching.set(false));
    // The command that runs thousands of histories reads this line, and computes a rate from it.
    println!("{} steps", steps());
    match result {
        Ok(()) => {}
        Err(TestError::Fail(_, (slots, history))) => {
            let broken = BROKEN.with(RefCell::take);
            let history: Vec<String> = history.iter().map(|it| format!("  {it:?}")).collect();
            panic!(
                "{broken}\n\nthe shortest history found, with {slots} slots:\n{}",
                history.join("\n")
            );
        }
        Err(TestError::Abort(reason)) => panic!("{reason}"),
    }
}

thread_local! {
    static SEARCHING: Cell<bool> = const { Cell::new(false) };
    /// Report of the last history that broke a rule, which is the shortest one found.
    static BROKEN: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Silences panics while a history is shrunk: every shorter history that fails panics, and only the
/// last of these panics matters.
fn silence_panics() {
    SEARCHING.with(|searching| searching.set(true));
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if SEARCHING.with(Cell::get) {
            BROKEN.with(|broken| broken.replace(panic.to_string()));
        } else {
            before(panic);
        }
    }));
}

proptest! {
    #![proptest_config(Config { cases: 64, ..Config::default() })]

    /// The same inputs give the same batches and effects, byte for byte.
    #[test]
    fn same_history_gives_the_same_decisions((slots, history) in any_history(Profile::Everything)) {
        let told = || live(slots, history.clone(), Some(String::new())).transcript;
        prop_assert_eq!(told(), told());
    }
}

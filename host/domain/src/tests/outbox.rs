//! Reports in transit: sent twice, late and out of order, with batches that fail.

use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::outbox::{Heard, Numbered, Outbox};

#[derive(Clone, Debug)]
enum Step {
    /// A new report is sent.
    Tell,
    /// A report is sent that replaces the last report of its kind.
    TellState,
    /// A report in transit arrives; if the flag is set, it also stays in transit.
    Arrive(prop::sample::Index, bool),
    /// A report in transit is lost.
    Lose(prop::sample::Index),
    /// The batch is durable, and its reports are acknowledged.
    Commit,
    /// The batch is dropped, and all kept reports are repeated.
    Fail,
}

fn step() -> impl Strategy<Value = Step> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        4 => Just(Step::Tell),
        1 => Just(Step::TellState),
        6 => (index(), any::<bool>()).prop_map(|(at, again)| Step::Arrive(at, again)),
        1 => index().prop_map(Step::Lose),
        3 => Just(Step::Commit),
        1 => Just(Step::Fail),
    ]
}

/// A report, and whether a later report of its kind replaces it.
type Report = (u32, bool);

#[derive(Default)]
struct World {
    outbox: Outbox<Report>,
    told: u32,
    on_the_way: Vec<Numbered<Report>>,
    heard: Heard,
    batch: Vec<Numbered<Report>>,
    /// Number of times that each report counted.
    durable: BTreeMap<u32, u32>,
}

impl World {
    fn tell(&mut self, is_state: bool) {
        self.told += 1;
        let report = (self.told, is_state);
        let replaces = |earlier: &Report| is_state && earlier.1;
        self.on_the_way.push(self.outbox.put(report, replaces));
    }

    fn arrive(&mut self, at: usize, stays: bool) {
        let report = if stays {
            self.on_the_way[at].clone()
        } else {
            self.on_the_way.remove(at)
        };
        if self.heard.hear(report.number, report.from) {
            self.batch.push(report);
        }
    }

    fn commit(&mut self) {
        for report in std::mem::take(&mut self.batch) {
            *self.durable.entry(report.report.0).or_default() += 1;
            self.outbox.acknowledge(report.number);
        }
    }

    fn fail(&mut self) {
        for report in std::mem::take(&mut self.batch) {
            self.heard.forget(report.number);
        }
        self.on_the_way.extend(self.outbox.all());
    }

    fn take(&mut self, step: &Step) {
        let pick = |at: &prop::sample::Index, on_the_way: &[Numbered<Report>]| {
            (!on_the_way.is_empty()).then(|| at.index(on_the_way.len()))
        };
        match step {
            Step::Tell => self.tell(false),
            Step::TellState => self.tell(true),
            Step::Arrive(at, stays) => {
                if let Some(at) = pick(at, &self.on_the_way) {
                    self.arrive(at, *stays);
                }
            }
            Step::Lose(at) => {
                if let Some(at) = pick(at, &self.on_the_way) {
                    self.on_the_way.remove(at);
                }
            }
            Step::Commit => self.commit(),
            Step::Fail => self.fail(),
        }
    }
}

proptest! {
    #[test]
    fn each_report_counts_once_despite_losses_and_repetitions(
        steps in prop::collection::vec(step(), 0..200)
    ) {
        let mut world = World::default();
        for step in &steps {
            world.take(step);
            prop_assert!(world.durable.values().all(|times| *times == 1), "a report counted twice");
        }
        // From here on nothing is lost.
        world.on_the_way.extend(world.outbox.all());
        while !world.on_the_way.is_empty() {
            world.arrive(0, false);
        }
        world.commit();
        prop_assert!(world.outbox.all().is_empty(), "a report was never acknowledged");
        prop_assert!(world.durable.values().all(|times| *times == 1), "a report counted twice");
        let is_lost = |report: &u32| !world.durable.contains_key(report);
        let lost: Vec<u32> = (1..=world.told).filter(is_lost).collect();
        // Only replaced reports may be missing, and never the last report of its kind.
        let states = steps.iter().filter(|step| matches!(step, Step::TellState)).count();
        prop_assert!(lost.len() < states.max(1), "lost reports: {lost:?}");
    }
}

#[test]
fn replaced_report_is_not_repeated() {
    let mut outbox = Outbox::default();
    let replaces = |earlier: &&str| *earlier == "state";
    outbox.put("fact", |_| false);
    outbox.put("state", replaces);
    let last = outbox.put("state", replaces);
    assert_eq!((last.number, last.from), (3, 1));
    let numbers: Vec<u64> = outbox.all().iter().map(|report| report.number).collect();
    assert_eq!(numbers, [1, 3]);
    outbox.acknowledge(1);
    outbox.acknowledge(2);
    assert_eq!(outbox.all()[0].from, 3);
    outbox.acknowledge(3);
    assert_eq!(outbox.kept().count(), 0);
    assert_eq!(outbox.put("fact", |_| false).from, 4);
}

/// The receiver forgets the numbers of acknowledged reports, and still drops repetitions.
#[test]
fn late_report_is_dropped() {
    let mut heard = Heard::default();
    assert!(heard.hear(1, 1) && heard.hear(3, 1) && !heard.hear(3, 1));
    assert!(heard.hear(5, 4));
    assert!(!heard.hear(1, 1) && !heard.hear(2, 1) && !heard.hear(3, 1));
    heard.forget(5);
    assert!(heard.hear(4, 4) && heard.hear(5, 4) && !heard.hear(5, 4));
}

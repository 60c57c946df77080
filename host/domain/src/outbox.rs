//! Numbered reports: each is repeated until it is durable, and counts once.
//!
//! This module has the code for sender and receiver, but sends nothing itself. The sender keeps
//! unacknowledged reports in an [`Outbox`]. It repeats all of them on request, or after a report
//! could not be delivered. The receiver keeps a [`Heard`], and drops reports that it has received
//! before. It accepts a report again if the batch with the report's effect failed.

use std::collections::{BTreeSet, VecDeque};

/// A report with its number among all reports of its sender.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Numbered<T> {
    /// Number of the report, counted from 1.
    pub number: u64,
    /// Lowest number among the reports that the sender still keeps. Every earlier report was
    /// acknowledged or replaced.
    pub from: u64,
    pub report: T,
}

/// Reports that are not acknowledged yet, in the order in which they were made.
#[derive(Debug)]
pub struct Outbox<T> {
    last: u64,
    kept: VecDeque<(u64, T)>,
}

impl<T> Default for Outbox<T> {
    fn default() -> Self {
        Self {
            last: 0,
            kept: VecDeque::new(),
        }
    }
}

impl<T: Clone> Outbox<T> {
    /// Keeps a report, and drops the reports that it replaces.
    pub fn put(&mut self, report: T, replaces: impl Fn(&T) -> bool) -> Numbered<T> {
        self.kept.retain(|(_, earlier)| !replaces(earlier));
        self.last += 1;
        self.kept.push_back((self.last, report.clone()));
        Numbered {
            number: self.last,
            from: self.from(),
            report,
        }
    }

    /// All reports that must be repeated.
    pub fn all(&self) -> Vec<Numbered<T>> {
        let from = self.from();
        let kept = self.kept.iter().map(|(number, report)| Numbered {
            number: *number,
            from,
            report: report.clone(),
        });
        kept.collect()
    }

    pub fn kept(&self) -> impl Iterator<Item = &T> {
        self.kept.iter().map(|(_, report)| report)
    }

    /// Forgets the report with this number, since it is durable.
    pub fn acknowledge(&mut self, number: u64) {
        if let Ok(at) = self.kept.binary_search_by_key(&number, |(kept, _)| *kept) {
            self.kept.remove(at);
        }
    }

    fn from(&self) -> u64 {
        self.kept
            .front()
            .map_or(self.last + 1, |(number, _)| *number)
    }
}

/// Numbers of the reports that were received from one sender.
#[derive(Debug, Default)]
pub struct Heard {
    from: u64,
    numbers: BTreeSet<u64>,
}

impl Heard {
    /// Notes that a report was received. Returns whether the report is new and therefore counts.
    pub fn hear(&mut self, number: u64, from: u64) -> bool {
        if from > self.from {
            self.from = from;
            self.numbers = self.numbers.split_off(&from);
        }
        number >= self.from && self.numbers.insert(number)
    }

    /// Lets a report count again, because its effect was dropped and the report will be repeated.
    pub fn forget(&mut self, number: u64) {
        self.numbers.remove(&number);
    }
}

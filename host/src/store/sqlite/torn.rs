//! Tests with logs that were torn by a crash of the machine: commits that were acknowledged before
//! the tear are kept, and no batch is kept in part.
//!
//! The files of an open store are copied in the state in which a kill would leave them. The copy of
//! the log is cut or damaged at the ends of batches and at random places.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{fs, path::Path};

use claudine_domain::{
    batch::{Batch, DocumentKey},
    event::Fact,
    outcome::Outcome,
};

use super::{
    super::{
        Store,
        conformance::everything,
        samples::{done, event, id, ready},
    },
    SqliteStore,
    fault::beside,
};

const BATCHES: u64 = 8;
const TASKS_IN_A_BATCH: u64 = 9;
/// The number of random cuts, in addition to the cuts between batches.
const RANDOM_CUTS: usize = 60;

/// The batch with this number. It has new tasks and the ends of the tasks of the previous batch,
/// which is enough to fill several pages.
fn nth(number: u64) -> Batch {
    let of = |batch: u64| (batch * TASKS_IN_A_BATCH..).take(TASKS_IN_A_BATCH.try_into().unwrap());
    let new = of(number).map(ready);
    let ended = of(number - 1).map(|task| done(ready(task), Outcome::Succeeded));
    let ended = ended.filter(|_| number > 1);
    let spec: Vec<u8> = (0..number * 20).map(|at| at.to_le_bytes()[0]).collect();
    Batch {
        number,
        tasks: new.chain(ended).map(Into::into).collect(),
        documents: of(number)
            .map(|task| (DocumentKey::Spec(id(task)), spec.as_slice().into()))
            .collect(),
        events: of(number)
            .map(|task| event(task, Fact::Submitted))
            .collect(),
        ..Batch::default()
    }
}

/// A store in the state in which a kill leaves it. The length of the log and the content of the
/// store were noted after each commit.
struct Killed {
    file: Vec<u8>,
    log: Vec<u8>,
    /// Lengths of the log and contents of the store, in the order of the commits. The first entry
    /// is from before the first commit.
    shown: Vec<(usize, String)>,
}

impl Killed {
    fn new(directory: &Path) -> Self {
        let path = directory.join("claudine.db");
        let store = SqliteStore::open(&path).unwrap();
        let epoch = store.lead().unwrap();
        let log = || fs::read(beside(&path, "-wal")).unwrap();
        let mut shown = vec![(log().len(), everything(&store))];
        for number in 1..=BATCHES {
            store.commit(epoch, &nth(number)).unwrap();
            shown.push((log().len(), everything(&store)));
        }
        assert!(
            shown.is_sorted_by(|(earlier, _), (later, _)| earlier < later),
            "the log was copied into the file meanwhile"
        );
        Self {
            file: fs::read(&path).unwrap(),
            log: log(),
            shown,
        }
    }

    /// Opens the store with this log. Only the first `whole` bytes of the log are undamaged.
    fn check(&self, log: &[u8], whole: usize) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("claudine.db");
        fs::write(&path, &self.file).unwrap();
        fs::write(beside(&path, "-wal"), log).unwrap();
        let shown = everything(&SqliteStore::open(&path).unwrap());
        let acknowledged = self.shown.iter().rposition(|(end, _)| *end <= whole);
        // In this case there is nothing to check, because the tear is before the first commit, in
        // the part of the log that creates the file and its leader.
        let Some(acknowledged) = acknowledged else {
            return;
        };
        let found = self.shown.iter().position(|(_, then)| *then == shown);
        assert_eq!(
            found,
            Some(acknowledged),
            "with {whole} bytes of the log the state is not the one after the last whole batch"
        );
    }
}

/// Xorshift gives the same places every time, so that a failure can be reproduced.
fn below(random: &mut u64, bound: usize) -> usize {
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    usize::try_from(*random % bound as u64).unwrap()
}

#[test]
fn a_log_cut_anywhere_has_all_batches_before_the_cut() {
    let directory = tempfile::tempdir().unwrap();
    let killed = Killed::new(directory.path());
    let mut random = 0x9e37_79b9_7f4a_7c15;
    let ends = killed.shown.iter().map(|(end, _)| *end);
    let mut cuts: Vec<usize> = ends.flat_map(|end| [end - 1, end, end + 1]).collect();
    cuts.extend((0..RANDOM_CUTS).map(|_| below(&mut random, killed.log.len())));
    for cut in cuts.into_iter().map(|cut| cut.min(killed.log.len())) {
        killed.check(&killed.log[..cut], cut);
        // The unwritten part of a file may contain zeroes or other bytes.
        let mut spoilt = killed.log.clone();
        let filler = if cut % 2 == 0 { 0 } else { 0xa5 };
        spoilt[cut..].fill(filler);
        killed.check(&spoilt, cut);
    }
}

/// The hole is a page that did not reach the disk, although later pages did.
#[test]
fn a_hole_in_the_log_loses_its_batch_and_all_later_ones() {
    let directory = tempfile::tempdir().unwrap();
    let killed = Killed::new(directory.path());
    let mut random = 0x2545_f491_4f6c_dd1d;
    let first = killed.shown[0].0;
    for _ in 0..RANDOM_CUTS {
        let hole = first + below(&mut random, killed.log.len() - first);
        let mut spoilt = killed.log.clone();
        for byte in spoilt.iter_mut().skip(hole).take(512) {
            *byte ^= 0x5a;
        }
        killed.check(&spoilt, hole);
    }
}

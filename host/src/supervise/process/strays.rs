//! Strays: processes that became children of the supervisor when their parents died.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io;

use super::Supervisor;
use super::attempt::{Attempt, AttemptNo};
use crate::supervise::protocol::Message;
use crate::supervise::sys::procfs::{self, Marks, OwnChildren, Stat};
use crate::supervise::sys::tag::{Tag, supervisor_number};
use crate::supervise::words::AttemptKey;

/// The most listings of the children in one look. A listing is repeated if a child ended during it.
const LOOKS: usize = 3;

#[derive(Debug)]
pub(super) struct Strays {
    children: OwnChildren,
    known: HashMap<u32, Stray>,
    /// Ended children that were not reaped yet. They keep their pids, so no other process can have
    /// one of these pids.
    zombies: HashSet<u32>,
    /// The processes that were below a leader when all processes were last listed, by pid and start
    /// time, and their attempts.
    descended: HashMap<(u32, u64), AttemptNo>,
}

#[derive(Debug)]
struct Stray {
    stat: Stat,
    owner: Owner,
}

impl Stray {
    /// The stray's line in the journal; `None` if the stray has no owner, and is not to be ended.
    fn line(&self) -> Option<Message> {
        (self.owner != Owner::Nobody).then_some(Message::Stray {
            pid: self.stat.pid,
            start_time: self.stat.start_time,
        })
    }
}

/// The owner of a stray.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Owner {
    Attempt(AttemptNo),
    /// Unknown, because the stray has changed its marker, session, group and tag, and holds no
    /// output of an attempt open. The stray belongs to one of the attempts that had begun before it
    /// and were not over when it was first seen. It is ended once no leader of them runs.
    OneOf(Vec<AttemptNo>),
    /// No attempt: the stray was detached on purpose, belongs to another supervisor, or could not
    /// be ended.
    Nobody,
}

impl Strays {
    pub(super) fn open() -> io::Result<Self> {
        Ok(Self {
            children: OwnChildren::open()?,
            known: HashMap::new(),
            zombies: HashSet::new(),
            descended: HashMap::new(),
        })
    }

    /// Lists the children of this process; `None` if they cannot be listed.
    pub(super) fn list(&mut self) -> Option<Vec<u32>> {
        let list = self.children.read();
        if let Err(error) = &list {
            say!("cannot list the children of this process: {error}");
        }
        list.ok()
    }

    /// Forgets a child that was reaped.
    pub(super) fn forget(&mut self, pid: u32) {
        self.known.remove(&pid);
        self.zombies.remove(&pid);
    }

    /// The lines of the journal about all known strays.
    pub(super) fn lines(&self) -> impl Iterator<Item = Message> {
        self.known.values().filter_map(Stray::line)
    }

    pub(super) fn owner(&self, pid: u32) -> Option<AttemptNo> {
        match self.known.get(&pid)?.owner {
            Owner::Attempt(no) => Some(no),
            _ => None,
        }
    }

    /// Notes these processes as descendants of an attempt's leader.
    pub(super) fn descend(&mut self, no: AttemptNo, processes: &[Stat]) {
        let known = processes.iter().map(|it| ((it.pid, it.start_time), no));
        self.descended.extend(known);
    }

    pub(super) fn forget_descent(&mut self) {
        self.descended.clear();
    }

    /// Forgets the descendants of all attempts but these.
    pub(super) fn keep_descent_of(&mut self, attempts: &BTreeSet<AttemptNo>) {
        self.descended.retain(|_, no| attempts.contains(no));
    }

    pub(super) fn any_in_group_or_session(&self, leader: u32) -> bool {
        self.known
            .values()
            .any(|stray| stray.stat.group == leader || stray.stat.session == leader)
    }

    /// Records that these strays could not be ended; returns their number.
    pub(super) fn abandon(&mut self, strays: &[Stat]) -> u32 {
        for stat in strays {
            if let Some(stray) = self.known.get_mut(&stat.pid) {
                stray.owner = Owner::Nobody;
            }
        }
        u32::try_from(strays.len()).unwrap_or(u32::MAX)
    }
}

impl Supervisor {
    /// Updates the list of strays. Costs one read if there are no strays. Returns `false` if the
    /// list is incomplete: the absence of strays then proves nothing.
    pub(super) fn look(&mut self) -> bool {
        (0..LOOKS).any(|_| self.look_once())
    }

    /// Lists the strays once. Returns `false` if a child of this process could not be looked at, or
    /// ended meanwhile: its orphans, which became children of this process, may be missing from the
    /// list.
    fn look_once(&mut self) -> bool {
        let Some(children) = self.strays.list() else {
            return false;
        };
        let mut is_complete = true;
        for pid in children {
            // Known zombies are skipped: looking up a thousand of them at each look would take too
            // long.
            if self.leaders.contains_key(&pid) || self.strays.zombies.contains(&pid) {
                continue;
            }
            // A stray without a clear owner is looked at again, because it may have been in the
            // middle of an exec at the first look.
            if self
                .strays
                .known
                .get(&pid)
                .is_some_and(|stray| !matches!(stray.owner, Owner::OneOf(_)))
            {
                continue;
            }
            is_complete &= self.look_at(pid).unwrap_or_else(|error| {
                say!("cannot look at process {pid}: {error}");
                false
            });
        }
        is_complete
    }

    /// Looks at a child of this process; returns `false` if it ended after it was listed.
    fn look_at(&mut self, pid: u32) -> io::Result<bool> {
        match self.limits.with_reserve(|| procfs::seen(pid))? {
            Some((stat, Some(marks))) => self.place(stat, marks)?,
            Some((_, None)) => {
                self.strays.forget(pid);
                self.strays.zombies.insert(pid);
                return Ok(false);
            }
            None => self.strays.forget(pid),
        }
        Ok(true)
    }

    /// Finds the owner of a stray. An error if there is no room to look at its tag.
    fn place(&mut self, stat: Stat, marks: Marks) -> io::Result<()> {
        let live = |no: &AttemptNo| {
            self.attempts
                .get(no)
                .is_some_and(|attempt| !attempt.is_quiet())
        };
        let marked = marks
            .attempt
            .map(|key| self.by_key.get(&AttemptKey::new(key)).copied());
        let leader = self
            .leaders
            .get(&stat.session)
            .or_else(|| self.leaders.get(&stat.group));
        let limits = self.limits;
        let own_number = supervisor_number(self.identity.pid, self.identity.start_time);
        let before = self
            .strays
            .known
            .get(&stat.pid)
            .map(|stray| stray.owner.clone());
        let owner = match (marked, leader) {
            _ if marks.detached => Owner::Nobody,
            (Some(Some(no)), _) if live(&no) => Owner::Attempt(no),
            (_, Some((no, _))) => Owner::Attempt(*no),
            // A marker that names no attempt of this supervisor may be forged.
            (marked, None) => match limits.with_reserve(|| Tag::of(stat.pid))? {
                Some(Tag::Attempt { supervisor, .. }) if supervisor != own_number => Owner::Nobody,
                // The host that started the process looks after it.
                Some(Tag::Host { .. }) => Owner::Nobody,
                Some(Tag::Attempt { attempt, .. }) if live(&AttemptNo(attempt)) => {
                    Owner::Attempt(AttemptNo(attempt))
                }
                _ if marked == Some(None) => {
                    let holder = self.owner_of_held_output(stat.pid)?;
                    holder.map_or(Owner::Nobody, Owner::Attempt)
                }
                _ => {
                    let descent = self.strays.descended.get(&(stat.pid, stat.start_time));
                    match (before, descent) {
                        (Some(before), _) => before,
                        (None, Some(no)) if live(no) => Owner::Attempt(*no),
                        (None, _) => self.owner_of_unmarked(&stat)?,
                    }
                }
            },
        };
        let stray = Stray { stat, owner };
        // If this process is killed, a host has to end the stray, and this line may be the only
        // thing by which the host can recognise it.
        let is_new = self
            .strays
            .known
            .get(&stat.pid)
            .is_none_or(|known| known.stat.start_time != stat.start_time);
        if let Some(line) = stray.line().filter(|_| is_new) {
            self.journal.note(&line);
        }
        self.strays.known.insert(stat.pid, stray);
        Ok(())
    }

    /// Finds the owner of a stray that has lost all marks: the attempt whose output it holds open,
    /// or else each attempt from which it can descend. An error if there is no room to look at its
    /// descriptors.
    fn owner_of_unmarked(&self, stat: &Stat) -> io::Result<Owner> {
        if let Some(no) = self.owner_of_held_output(stat.pid)? {
            return Ok(Owner::Attempt(no));
        }
        let is_older = |began: u64| began <= stat.start_time;
        let possible = self
            .attempts
            .iter()
            .filter(|(_, it)| !it.is_quiet() && it.began().is_some_and(is_older));
        Ok(Owner::OneOf(possible.map(|(no, _)| *no).collect()))
    }

    /// The attempt whose output the process with this pid holds open. An error if there is no room
    /// to look at the process.
    fn owner_of_held_output(&self, pid: u32) -> io::Result<Option<AttemptNo>> {
        let held = self.limits.with_reserve(|| procfs::pipes(pid))?;
        if held.is_empty() {
            return Ok(None);
        }
        for (no, attempt) in &self.attempts {
            if attempt.output_pipes()?.iter().any(|it| held.contains(it)) {
                return Ok(Some(*no));
            }
        }
        Ok(None)
    }

    /// The strays that are to be ended with this attempt.
    pub(super) fn strays_of(&self, no: AttemptNo) -> Vec<Stat> {
        // An attempt that drains ends its leftovers, so it need not be waited for.
        let runs = |other: &AttemptNo| self.attempts.get(other).is_some_and(Attempt::runs);
        let belongs = |stray: &&Stray| match &stray.owner {
            Owner::Attempt(owner) => *owner == no,
            Owner::OneOf(candidates) => {
                candidates.contains(&no)
                    && !candidates.iter().any(|other| *other != no && runs(other))
            }
            Owner::Nobody => false,
        };
        self.strays
            .known
            .values()
            .filter(belongs)
            .map(|stray| stray.stat)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn descendants_of_draining_attempts_are_remembered() {
        let mut strays = Strays::open().unwrap();
        let one = procfs::stat(std::process::id()).unwrap();
        let mut other = one;
        other.pid += 1;
        let (over, drains) = (AttemptNo(1), AttemptNo(2));
        strays.descend(over, &[one]);
        strays.descend(drains, &[other]);
        strays.keep_descent_of(&BTreeSet::from([drains]));
        let kept = HashMap::from([((other.pid, other.start_time), drains)]);
        assert_eq!(strays.descended, kept);
        strays.keep_descent_of(&BTreeSet::new());
        assert_eq!(strays.descended, HashMap::new());
    }
}

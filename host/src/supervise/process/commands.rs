//! The commands of a host. Any command may arrive twice, or for an unknown attempt; the answer
//! reports the current state.

use super::Supervisor;
use super::attempt::{AttemptNo, Phase, State};
use super::stop::signal_group;
use crate::supervise::protocol::{Command, Message, Numbered};
use crate::supervise::words::{AttemptKey, ChildId, Rung, Signal, StopWhy};

/// The most stops that are kept for attempts whose start has not arrived. If there are more, the
/// oldest stop is forgotten.
const MOST_STOPPED_AHEAD: usize = 1024;

impl Supervisor {
    pub(super) fn carry_out(&mut self, command: Command) {
        match command {
            Command::Start(start) => self.start(&start),
            Command::Signal { child, signal } => self.signal(&child, signal),
            Command::Stop {
                attempt,
                why,
                ladder,
            } => self.asked_to_stop(&attempt, why, ladder),
            Command::Finish { attempt } => self.finish(&attempt),
            Command::Ack { attempt } => self.acknowledge(&attempt),
            Command::Quit => self.quitting = true,
        }
    }

    /// Refuses the starts of each attempt whose stop has arrived too. Both may have waited while
    /// this process was suspended, so that the attempt was stopped long ago.
    pub(super) fn heed_stops(&mut self, arrived: &[Numbered]) {
        let received = self.received;
        for numbered in arrived.iter().filter(|one| one.seq > received) {
            let Command::Stop { attempt, .. } = &numbered.command else {
                continue;
            };
            let no = self.by_key.get(attempt).copied();
            match no.and_then(|no| self.attempts.get_mut(&no)) {
                Some(known) => known.finished = true,
                None => self.remember_stop(attempt),
            }
        }
    }

    fn signal(&mut self, child: &ChildId, signal: Signal) {
        let no = self.by_key.get(child.attempt());
        let attempt = no.and_then(|no| self.attempts.get(no));
        let child = attempt.and_then(|attempt| attempt.children.get(&child.index()));
        if let Some(State::Running { pid, .. }) = child.map(|child| &child.state) {
            signal_group(*pid, signal);
        }
    }

    fn asked_to_stop(&mut self, attempt: &AttemptKey, why: StopWhy, ladder: Vec<Rung>) {
        self.notice_ends_of(attempt);
        if let Some(no) = self.by_key.get(attempt).copied() {
            self.stop(no, why, ladder);
            // Nobody reads the output of a command that the host has stopped.
            if attempt.command().is_some() {
                self.drop_unwritten(no);
            }
        } else {
            self.remember_stop(attempt);
            self.tell_unknown(attempt);
        }
    }

    /// Remembers a stop that arrived before the start of its attempt (over another connection, or
    /// from another host), so that the start is refused when it arrives.
    fn remember_stop(&mut self, attempt: &AttemptKey) {
        self.forget_stop(attempt);
        if self.stopped_ahead.len() == MOST_STOPPED_AHEAD {
            self.stopped_ahead.pop_front();
        }
        self.stopped_ahead.push_back(attempt.clone());
    }

    fn forget_stop(&mut self, attempt: &AttemptKey) {
        self.stopped_ahead.retain(|stopped| stopped != attempt);
    }

    fn finish(&mut self, attempt: &AttemptKey) {
        self.notice_ends_of(attempt);
        let no = self.by_key.get(attempt).copied();
        let Some((no, state)) = no.and_then(|no| Some((no, self.attempts.get_mut(&no)?))) else {
            self.tell_unknown(attempt);
            return;
        };
        state.finished = true;
        if state.is_quiet() {
            self.tell_ended(no);
        } else if state.phase == Phase::Open {
            let ladder = state.ladder.clone();
            self.stop(no, StopWhy::Finished, ladder);
        }
    }

    /// Reports the end of an attempt whose start never arrived: no process of that attempt can be
    /// alive.
    fn tell_unknown(&mut self, attempt: &AttemptKey) {
        self.tell(&Message::Ended {
            attempt: attempt.clone(),
            swept: 0,
            alive: 0,
        });
    }

    fn acknowledge(&mut self, attempt: &AttemptKey) {
        self.forget_stop(attempt);
        let Some(no) = self.by_key.get(attempt).copied() else {
            return;
        };
        if let Some(attempt) = self.attempts.get_mut(&no) {
            attempt.acknowledged = true;
        }
        self.forget_acknowledged(no);
    }

    /// Forgets the attempt if it is over and acknowledged.
    pub(super) fn forget_acknowledged(&mut self, no: AttemptNo) {
        if !self
            .attempts
            .get(&no)
            .is_some_and(|attempt| attempt.acknowledged && attempt.is_quiet())
        {
            return;
        }
        if let Some(attempt) = self.attempts.remove(&no) {
            if let Some(at) = attempt.wake {
                self.timers.remove(&(at, no));
            }
            self.by_key.remove(&attempt.key);
            self.journal.note(&Message::Forgotten {
                attempt: attempt.key,
            });
        }
    }
}

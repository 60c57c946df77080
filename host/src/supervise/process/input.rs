//! Children that a host feeds while they run.
//!
//! Such a child reads a pipe. The host asks for the writing end over a separate connection for each
//! child, and writes into the pipe itself: the bytes never pass through this process, and a slow
//! child delays its host only while the pipe is full.
//!
//! The supervisor keeps a writing end too, so that the death of the host does not look like the end
//! of the input. The input ends when the host sends `end` on the child's connection. If the
//! connection closes without `end`, the input has broken off and the child is killed. Its pipe
//! stays open until then, so the child cannot take half of an input for the whole. If host and
//! supervisor are killed at the same moment, the child does see an early end; the next host then
//! ends the processes that are left.

use super::Supervisor;
use super::attempt::{AttemptNo, Child, Input, State};
use super::connection::{Connection, ConnectionNo};
use super::stop::signal_group;
use crate::supervise::protocol::{FeedWord, Message};
use crate::supervise::words::{ChildId, Signal};

impl Supervisor {
    /// Handles a host's request to feed this child.
    pub(super) fn claim_input(&mut self, mut connection: Connection, child: &ChildId) {
        let place = self.by_key.get(child.attempt()).copied();
        let place = place.map(|no| (no, child.index()));
        let fed = place.and_then(|(no, index)| self.child_mut(no, index));
        let Some((
            place,
            Child {
                state: State::Running { .. },
                input:
                    Input::Open {
                        pipe,
                        feeder: feeder @ None,
                    },
                ..
            },
        )) = place.zip(fed)
        else {
            // The child has ended meanwhile, or is not fed. If this answer is lost, no harm is
            // done.
            connection.push(&Message::InputClosed);
            connection.send().ok();
            return;
        };
        let no = connection.no;
        let handed_over = connection.hand_over(&Message::InputOpen, pipe);
        *feeder = Some(Box::new(connection));
        self.feeders.insert(no, place);
        match handed_over {
            // The host may have sent more right after its hello.
            Ok(()) => {
                self.hear_feeder(no);
            }
            Err(error) => {
                say!("cannot hand over the input of {child}: {error}");
                self.break_off(place.0, place.1);
            }
        }
    }

    /// Reads from a connection that feeds a child; returns `false` if the connection feeds no
    /// child.
    pub(super) fn hear_feeder(&mut self, connection: ConnectionNo) -> bool {
        let Some((no, index)) = self.feeders.get(&connection).copied() else {
            return false;
        };
        let Some(child) = self.child_mut(no, index) else {
            return true;
        };
        let Input::Open {
            feeder: Some(feeder),
            ..
        } = &mut child.input
        else {
            return true;
        };
        let over = feeder.receive().is_err();
        match feeder.next::<FeedWord>() {
            Ok(Some(FeedWord::End)) => self.settle_input(no, index),
            Ok(None) if !over => {}
            Ok(None) => self.break_off(no, index),
            Err(error) => {
                say!("a message about a child's input was not understood: {error}");
                self.break_off(no, index);
            }
        }
        true
    }

    /// Releases the child's input after the input or the child has ended.
    pub(super) fn settle_input(&mut self, no: AttemptNo, index: u16) {
        let Some(child) = self.child_mut(no, index) else {
            return;
        };
        if let Input::Open {
            feeder: Some(feeder),
            ..
        } = std::mem::take(&mut child.input)
        {
            self.feeders.remove(&feeder.no);
        }
    }

    /// Breaks off a child's input and kills the child. A child that is being stopped is not killed,
    /// because its stop gives it time to end, but its input is broken off all the same.
    fn break_off(&mut self, no: AttemptNo, index: u16) {
        self.notice_ends(no);
        let stopping = self
            .attempts
            .get(&no)
            .is_some_and(|attempt| attempt.stop_reason().is_some());
        let Some(child) = self.child_mut(no, index) else {
            return;
        };
        let Input::Open { pipe, feeder } = std::mem::take(&mut child.input) else {
            return;
        };
        child.input = Input::BrokenOff { _pipe: pipe };
        if let State::Running { pid, .. } = child.state
            && !stopping
        {
            child.input_broke_off = true;
            signal_group(pid, Signal::Kill);
        }
        if let Some(feeder) = feeder {
            self.feeders.remove(&feeder.no);
        }
    }

    /// Breaks off the inputs that the host had not asked for yet when it disconnected.
    pub(super) fn break_off_unclaimed(&mut self) {
        self.break_off_where(Option::is_none);
    }

    /// Breaks off all inputs, because another host has taken over.
    pub(super) fn break_off_all(&mut self) {
        self.break_off_where(|_| true);
    }

    fn break_off_where(&mut self, which: impl Fn(&Option<Box<Connection>>) -> bool) {
        let is_one =
            |child: &Child| matches!(&child.input, Input::Open { feeder, .. } if which(feeder));
        let places: Vec<(AttemptNo, u16)> = self
            .attempts
            .iter()
            .flat_map(|(no, attempt)| {
                attempt
                    .children
                    .iter()
                    .map(|(index, child)| (*no, *index, child))
            })
            .filter(|(_, _, child)| is_one(child))
            .map(|(no, index, _)| (no, index))
            .collect();
        for (no, index) in places {
            self.break_off(no, index);
        }
    }

    fn child_mut(&mut self, no: AttemptNo, index: u16) -> Option<&mut Child> {
        self.attempts.get_mut(&no)?.children.get_mut(&index)
    }
}

//! Draining: between the end of the last leader and the end of the attempt, leftovers are ended and
//! the output is read to its end.

use std::time::Duration;

use super::Supervisor;
use super::attempt::{At, AttemptNo, Drain, Phase};
use crate::supervise::words::Signal;

/// How long leftovers are left alone, because many end by themselves. For example, `tee` ends
/// shortly after the shell that started it.
const MOMENT: Duration = Duration::from_millis(200);
/// The time for leftovers between TERM and KILL, after a normal end and after a stop.
const GRACE: Duration = Duration::from_secs(5);
const GRACE_AFTER_STOP: Duration = Duration::from_secs(1);
/// How long a pipe is read after every known process has ended, not counting the time during which
/// the log could not be written. Only a process outside the supervisor's tree can still hold the
/// pipe open.
const PIPE_GRACE: Duration = Duration::from_secs(1);
/// How often to look at the leftovers. Events report exits and ends of output; any other change is
/// found only by a look.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How long after the first KILL to wait for leftovers. Leftovers that are alive after this time
/// are reported: they hang in the kernel, or belong to another user.
const GIVE_UP_AFTER: Duration = Duration::from_secs(30);

impl Supervisor {
    /// Begins or continues to end the leftovers.
    pub(super) fn drain(&mut self, no: AttemptNo, now: At, something_left: bool) {
        let Some(attempt) = self.attempts.get_mut(&no) else {
            return;
        };
        if !matches!(attempt.phase, Phase::Draining(_)) {
            let (after_stop, killing_since) = match &attempt.phase {
                // If the stop has passed the end of its ladder, it has sent KILL already, so
                // leftovers get KILL at once.
                Phase::Stopping { ladder, rung, .. } => {
                    (true, (*rung > ladder.len()).then_some(now))
                }
                _ => (false, None),
            };
            let look_at = now + LOOK_EVERY;
            let since = now;
            attempt.phase = Phase::Draining(Drain {
                since,
                look_at,
                next: None,
                after_stop,
                killing_since,
            });
            self.draining.insert(no);
        }
        let Phase::Draining(drain) = &mut attempt.phase else {
            return;
        };
        if something_left && drain.next.is_none() {
            drain.next = Some(match (drain.killing_since, drain.after_stop) {
                (Some(_), _) => (now, Signal::Kill),
                (None, true) => (now, Signal::Term),
                (None, false) => (now + MOMENT, Signal::Term),
            });
            self.sweep(no, now);
        }
    }

    /// Gives leftovers less time, because a stop has arrived.
    pub(super) fn hurry(&mut self, no: AttemptNo, now: At) {
        if let Some(Phase::Draining(drain)) =
            self.attempts.get_mut(&no).map(|attempt| &mut attempt.phase)
        {
            drain.after_stop = true;
            drain.next = drain.next.map(|(at, signal)| match signal {
                Signal::Kill => (at.min(now + GRACE_AFTER_STOP), signal),
                polite => (now, polite),
            });
        }
        self.sweep(no, now);
    }

    pub(super) fn go_on_draining(&mut self, no: AttemptNo, now: At) {
        let Some(Phase::Draining(drain)) =
            self.attempts.get_mut(&no).map(|attempt| &mut attempt.phase)
        else {
            return;
        };
        if drain.look_at <= now {
            drain.look_at = now + LOOK_EVERY;
        }
        if drain
            .killing_since
            .is_some_and(|since| since + GIVE_UP_AFTER <= now)
        {
            self.give_up(no);
        }
        self.sweep(no, now);
        self.settle_and_tell(no);
    }

    /// Sends the next signal if its time has come.
    fn sweep(&mut self, no: AttemptNo, now: At) {
        let Some(Phase::Draining(drain)) =
            self.attempts.get_mut(&no).map(|attempt| &mut attempt.phase)
        else {
            return;
        };
        let Some((_, signal)) = drain.next.filter(|(at, _)| *at <= now) else {
            return;
        };
        let wait = match signal {
            Signal::Kill => {
                drain.killing_since.get_or_insert(now);
                LOOK_EVERY
            }
            _ if drain.after_stop => GRACE_AFTER_STOP,
            _ => GRACE,
        };
        drain.next = Some((now + wait, Signal::Kill));
        self.signal_everything(no, signal);
    }

    fn give_up(&mut self, no: AttemptNo) {
        let abandoned = self.strays.abandon(&self.strays_of(no));
        if let Some(attempt) = self.attempts.get_mut(&no) {
            attempt.note_abandoned(abandoned);
        }
    }

    /// Closes pipes that only a process outside the supervisor's tree can still hold open. Reads
    /// what is in them first: while the log could not be written, nobody has read them.
    pub(super) fn close_forsaken_pipes(&mut self, no: AttemptNo, now: At) {
        let Some(attempt) = self.attempts.get(&no) else {
            return;
        };
        let Phase::Draining(drain) = &attempt.phase else {
            return;
        };
        if attempt.held.is_some() || now < drain.since + PIPE_GRACE {
            return;
        }
        self.drain_children(no);
        let Some(attempt) = self.attempts.get_mut(&no) else {
            return;
        };
        // If the log cannot be written any more, the rest stays in the pipes until it can.
        if attempt.held.is_none() {
            for child in attempt.children.values_mut() {
                child.pipes = [None, None];
            }
        }
    }
}

//! Children that ended: telling it, and finding out whether anything of their attempt is left.
//!
//! A leader keeps its pid (it is not reaped) for as long as anything of its attempt may have to be signalled by its group. For a
//! child that leaves nothing behind that is no time at all, and one message says everything.

use std::io;
use std::time::Duration;

use super::Supervisor;
use super::attempt::{At, Attempt, AttemptNo, Phase, State};
use crate::clock;
use crate::supervise::log::Channel;
use crate::supervise::protocol::Message;
use crate::supervise::sys::procfs;
use crate::supervise::sys::wait::{self, Ended, Of};
use crate::supervise::words::{Exit, Signal, Usage};

/// How long what was left behind has between TERM and KILL, after a normal end and after a stop.
const GRACE: Duration = Duration::from_secs(5);
const GRACE_AFTER_STOP: Duration = Duration::from_secs(1);
/// How long a pipe is read after everything that we know of has ended. Only a process outside our tree can still hold it.
const PIPE_GRACE: Duration = Duration::from_secs(1);
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// What has not ended so long after the first KILL is reported alive: it waits in the kernel, or is not ours to signal.
const GIVE_UP_AFTER: Duration = Duration::from_secs(30);

impl Supervisor {
    pub(super) fn children_ended(&mut self) -> io::Result<()> {
        while let Some(ended) = wait::peek(Of::Any)? {
            if !self.child_ended(ended)? {
                // A leader that is kept comes up first every time, so everybody is asked by name.
                for pid in self.strays.own_children()? {
                    if let Some(ended) = wait::peek(Of::Pid(pid))? {
                        self.child_ended(ended)?;
                    }
                }
                break;
            }
        }
        for no in self.draining.clone() {
            self.settle_and_tell(no)?;
        }
        Ok(())
    }

    /// `false` where this was known, and the child stays as it is.
    fn child_ended(&mut self, ended: Ended) -> io::Result<bool> {
        let Some((no, index)) = self.leaders.get(&ended.pid).copied() else {
            self.orphan_ended(ended);
            return Ok(true);
        };
        let child = self
            .attempts
            .get(&no)
            .and_then(|attempt| attempt.children.get(&index));
        if child.is_none_or(|child| !matches!(child.state, State::Running { .. })) {
            return Ok(false);
        }
        self.leader_ended(no, index, ended)?;
        Ok(!self.leaders.contains_key(&ended.pid))
    }

    fn orphan_ended(&mut self, ended: Ended) {
        let owner = self.strays.owner(ended.pid).or_else(|| {
            let stat = procfs::stat(ended.pid)?;
            self.leaders
                .get(&stat.session)
                .or_else(|| self.leaders.get(&stat.group))
                .map(|(no, _)| *no)
        });
        if let Some(attempt) = owner.and_then(|no| self.attempts.get_mut(&no)) {
            attempt.orphan_cpu_us += ended.counted.cpu_us;
        }
        wait::reap(ended.pid);
        self.strays.forget(ended.pid);
    }

    fn leader_ended(&mut self, no: AttemptNo, index: u16, ended: Ended) -> io::Result<()> {
        self.drain_child(no, index);
        let Some(attempt) = self.attempts.get_mut(&no) else {
            return Ok(());
        };
        let Some((child, exit)) = attempt.note_exit(index, ended, clock::monotonic()) else {
            return Ok(());
        };
        let quiet = self.settle(no)?;
        if !quiet {
            self.reap_early(no, ended.pid)?;
        }
        self.report(&Message::Exited {
            child,
            exit,
            ended: quiet,
        });
        self.forget_acknowledged(no);
        self.rearm(no);
        Ok(())
    }

    /// Where other children of the attempt still run, a leader whose group is empty need not be kept.
    fn reap_early(&mut self, no: AttemptNo, pid: u32) -> io::Result<()> {
        if !self.attempts.get(&no).is_some_and(Attempt::runs) {
            return Ok(());
        }
        self.look()?;
        if !self.strays.any_in_group_or_session(pid) {
            self.reap_leader(pid);
        }
        Ok(())
    }

    fn reap_leader(&mut self, pid: u32) {
        wait::reap(pid);
        let Some((no, index)) = self.leaders.remove(&pid) else {
            return;
        };
        let child = self
            .attempts
            .get_mut(&no)
            .and_then(|attempt| attempt.children.get_mut(&index));
        if let Some(State::Exited { reaped, .. }) = child.map(|child| &mut child.state) {
            *reaped = true;
        }
    }

    pub(super) fn settle_and_tell(&mut self, no: AttemptNo) -> io::Result<()> {
        if self.settle(no)? {
            self.tell_ended(no);
            self.forget_acknowledged(no);
        }
        self.rearm(no);
        Ok(())
    }

    pub(super) fn tell_ended(&mut self, no: AttemptNo) {
        let Some(attempt) = self.attempts.get(&no) else {
            return;
        };
        let ended = attempt.ended();
        let message = Message::Ended {
            attempt: attempt.key.clone(),
            swept: ended.swept,
            alive: ended.alive,
        };
        self.report(&message);
    }

    /// Whether the attempt has just become quiet: no leader runs, nothing is left, and the output is in the log. If it has not,
    /// whatever is in the way is being dealt with afterwards.
    pub(super) fn settle(&mut self, no: AttemptNo) -> io::Result<bool> {
        if self
            .attempts
            .get(&no)
            .is_none_or(|attempt| attempt.runs() || attempt.is_quiet())
        {
            return Ok(false);
        }
        let now = clock::monotonic();
        self.look()?;
        let left = self.strays_of(no);
        if left.is_empty() {
            self.close_forsaken_pipes(no, now);
        }
        let Some(attempt) = self.attempts.get_mut(&no) else {
            return Ok(false);
        };
        if left.is_empty() && attempt.held.is_none() && !attempt.has_open_pipe() {
            self.become_quiet(no);
            return Ok(true);
        }
        self.drain(no, now, !left.is_empty())?;
        Ok(false)
    }

    fn become_quiet(&mut self, no: AttemptNo) {
        let Some(attempt) = self.attempts.get_mut(&no) else {
            return;
        };
        attempt.phase = Phase::Quiet;
        attempt.log.close();
        let groups = attempt.groups();
        self.draining.remove(&no);
        for pid in groups {
            self.reap_leader(pid);
        }
    }

    /// Begins, or goes on, to end what was left behind.
    fn drain(&mut self, no: AttemptNo, now: At, something_left: bool) -> io::Result<()> {
        let Some(attempt) = self.attempts.get_mut(&no) else {
            return Ok(());
        };
        if let Phase::Draining {
            kill_at: Some(_), ..
        } = attempt.phase
        {
            return Ok(());
        }
        let stop = match &attempt.phase {
            // The ladder was climbed to its end, so politeness is over.
            Phase::Stopping { ladder, rung, .. } => {
                Some((*rung > ladder.len()).then_some(Signal::Kill))
            }
            _ => None,
        };
        let (signal, grace) = match stop {
            Some(Some(signal)) => (signal, LOOK_EVERY),
            Some(None) => (Signal::Term, GRACE_AFTER_STOP),
            None => (Signal::Term, GRACE),
        };
        let since = match attempt.phase {
            Phase::Draining { since, .. } => since,
            _ => now,
        };
        let kill_at = something_left.then_some(now + grace);
        attempt.phase = Phase::Draining {
            since,
            kill_at,
            look_at: now + LOOK_EVERY,
        };
        self.draining.insert(no);
        if something_left {
            self.signal_everything(no, signal)
        } else {
            Ok(())
        }
    }

    pub(super) fn go_on_draining(&mut self, no: AttemptNo, now: At) -> io::Result<()> {
        let Some(Attempt {
            phase:
                Phase::Draining {
                    since,
                    kill_at,
                    look_at,
                },
            ..
        }) = self.attempts.get_mut(&no)
        else {
            return Ok(());
        };
        let since = *since;
        let kill = kill_at.is_some_and(|at| at <= now);
        if kill {
            *kill_at = Some(now + LOOK_EVERY);
        }
        if *look_at <= now {
            *look_at = now + LOOK_EVERY;
        }
        if kill {
            self.signal_everything(no, Signal::Kill)?;
        }
        if now >= since + GRACE + GIVE_UP_AFTER {
            let abandoned = self.strays.abandon(&self.strays_of(no));
            if let Some(attempt) = self.attempts.get_mut(&no) {
                attempt.alive = abandoned;
            }
        }
        self.settle_and_tell(no)
    }

    fn close_forsaken_pipes(&mut self, no: AttemptNo, now: At) {
        let Some(attempt) = self.attempts.get_mut(&no) else {
            return;
        };
        let Phase::Draining { since, .. } = attempt.phase else {
            return;
        };
        if now < since + PIPE_GRACE || attempt.held.is_some() {
            return;
        }
        for child in attempt.children.values_mut() {
            child.pipes = [None, None];
        }
    }
}

impl Attempt {
    fn note_exit(
        &mut self,
        index: u16,
        ended: Ended,
        now: At,
    ) -> Option<(crate::supervise::words::ChildId, Exit)> {
        let stopped = self.stop_reason();
        let (stdout_bytes, stderr_bytes) = (
            self.log.bytes(index, Channel::Stdout),
            self.log.bytes(index, Channel::Stderr),
        );
        let child = self.children.get_mut(&index)?;
        let State::Running { pid, start_time } = child.state else {
            return None;
        };
        let usage = Usage {
            wall_ms: u64::try_from(now.saturating_sub(child.started_at).as_millis())
                .unwrap_or(u64::MAX),
            cpu_ms: (ended.counted.cpu_us + self.orphan_cpu_us) / 1000,
            peak_rss_bytes: ended.counted.peak_rss_bytes.max(self.peak_rss_bytes),
        };
        let exit = Exit {
            pid,
            start_time,
            status: ended.status,
            usage,
            stopped,
            stdout_bytes,
            stderr_bytes,
        };
        child.state = State::Exited {
            exit: exit.clone(),
            reaped: false,
        };
        child.tell_start_at = None;
        Some((child.id.clone(), exit))
    }
}

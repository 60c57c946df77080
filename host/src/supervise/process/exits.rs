//! Handles the end of children: reports it, and finds out whether anything of their attempt is
//! left.
//!
//! A leader keeps its pid (it is not reaped) as long as a process of its attempt may have to be
//! signalled through the leader's group. If a child leaves no processes, it is reaped at once, and
//! a single message reports its exit and the end of the attempt.

use std::time::Duration;

use super::Supervisor;
use super::attempt::{At, Attempt, AttemptNo, Phase, State};
use crate::clock;
use crate::supervise::log::Channel;
use crate::supervise::protocol::Message;
use crate::supervise::sys::procfs;
use crate::supervise::sys::wait::{self, Ended, Of};
use crate::supervise::words::{AttemptKey, ChildId, Exit, Status, Usage};

/// The pause before the children are listed again after an error.
const LIST_AGAIN: Duration = Duration::from_millis(250);

impl Supervisor {
    pub(super) fn children_ended(&mut self) {
        self.list_again = None;
        while let Some(ended) = wait::peek(Of::Any) {
            if !self.child_ended(ended) {
                // A wait for any child would return the same unreaped leader every time, so each
                // child is looked at by its pid.
                let Some(children) = self.strays.list() else {
                    // No signal reports the ends that are missed now.
                    self.list_again = Some(clock::monotonic() + LIST_AGAIN);
                    break;
                };
                for pid in children {
                    if let Some(ended) = wait::peek(Of::Pid(pid)) {
                        self.child_ended(ended);
                    }
                }
                break;
            }
        }
        for no in self.draining.clone() {
            self.settle_and_tell(no);
        }
    }

    /// Handles the ends of the attempt's processes that were not noticed yet. To be called before
    /// the attempt is stopped or compared with its deadlines: this process may have been suspended
    /// since it last looked, and a process that has ended is not stopped by anything that happens
    /// or is read afterwards.
    pub(super) fn notice_ends(&mut self, no: AttemptNo) {
        let Some(attempt) = self.attempts.get(&no) else {
            return;
        };
        let mut pids = attempt.running_leaders();
        pids.extend(self.strays_of(no).iter().map(|stray| stray.pid));
        for pid in pids {
            if let Some(ended) = wait::peek(Of::Pid(pid)) {
                self.child_ended(ended);
            }
        }
    }

    pub(super) fn notice_ends_of(&mut self, attempt: &AttemptKey) {
        if let Some(no) = self.by_key.get(attempt).copied() {
            self.notice_ends(no);
        }
    }

    /// Handles the end of a child; returns `false` if that end was known already.
    fn child_ended(&mut self, ended: Ended) -> bool {
        let Some((no, index)) = self.leaders.get(&ended.pid).copied() else {
            self.orphan_ended(ended);
            return true;
        };
        let child = self
            .attempts
            .get(&no)
            .and_then(|attempt| attempt.children.get(&index));
        if child.is_none_or(|child| !matches!(child.state, State::Running { .. })) {
            return false;
        }
        self.leader_ended(no, index, ended);
        !self.leaders.contains_key(&ended.pid)
    }

    fn orphan_ended(&mut self, ended: Ended) {
        let owner = self.strays.owner(ended.pid).or_else(|| {
            let stat = self.limits.with_reserve(|| procfs::try_stat(ended.pid));
            let stat = stat.unwrap_or_else(|error| {
                say!("the attempt of process {} is unknown: {error}", ended.pid);
                None
            })?;
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

    fn leader_ended(&mut self, no: AttemptNo, index: u16, ended: Ended) {
        self.drain_child(no, index);
        self.settle_input(no, index);
        let Some(attempt) = self.attempts.get_mut(&no) else {
            return;
        };
        let started_at = attempt.children.get(&index).map(|child| child.started_at);
        let counted = ended.counted.peak_rss_bytes;
        let peak_rss_bytes = started_at.and_then(|at| {
            self.own_peak
                .childs_own(counted, at, procfs::own_peak_rss_bytes)
        });
        let Some((child, exit)) =
            attempt.note_exit(index, ended, peak_rss_bytes, clock::monotonic())
        else {
            return;
        };
        let quiet = self.settle(no);
        if !quiet {
            self.reap_early(no, ended.pid);
        }
        self.report(&Message::Exited {
            child,
            exit,
            ended: quiet,
        });
        self.forget_acknowledged(no);
        self.rearm(no);
    }

    /// Reaps a leader whose group is empty while other children of the attempt still run.
    fn reap_early(&mut self, no: AttemptNo, pid: u32) {
        let others_run = self.attempts.get(&no).is_some_and(Attempt::runs);
        if others_run && self.look() && !self.strays.any_in_group_or_session(pid) {
            self.reap_leader(pid);
        }
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

    pub(super) fn settle_and_tell(&mut self, no: AttemptNo) {
        if self.settle(no) {
            self.tell_ended(no);
            self.forget_acknowledged(no);
        }
        self.rearm(no);
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

    /// Whether the attempt has just become quiet: no leader runs, nothing is left, and the output
    /// is in the log. If no leader runs but the rest is not true yet, the attempt is draining after
    /// this call.
    pub(super) fn settle(&mut self, no: AttemptNo) -> bool {
        let attempt = self.attempts.get(&no);
        if attempt.is_none_or(|attempt| attempt.runs() || attempt.is_quiet()) {
            return false;
        }
        let now = clock::monotonic();
        let looked = self.look();
        let something_left = !self.strays_of(no).is_empty();
        if looked && !something_left {
            self.close_forsaken_pipes(no, now);
        }
        let Some(attempt) = self.attempts.get_mut(&no) else {
            return false;
        };
        if looked && !something_left && attempt.held.is_none() && !attempt.has_open_pipe() {
            self.become_quiet(no);
            return true;
        }
        self.drain(no, now, something_left);
        false
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
}

impl Attempt {
    fn note_exit(
        &mut self,
        index: u16,
        ended: Ended,
        peak_rss_bytes: Option<u64>,
        now: At,
    ) -> Option<(ChildId, Exit)> {
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
            peak_rss_bytes: peak_rss_bytes.max(self.peak_rss_bytes),
        };
        let exit = Exit {
            pid,
            start_time,
            status: ended.status,
            usage,
            stopped,
            // A child that ended by itself when its input broke off was not killed.
            input_broke_off: child.input_broke_off && matches!(ended.status, Status::Signal(_)),
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

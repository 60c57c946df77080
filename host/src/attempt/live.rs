//! The state of an attempt that is in progress in this host.

use std::{
    io,
    sync::{Arc, Mutex},
};

use claudine_domain::{
    attempt::{Leader, Phase, StopWhy},
    id::AttemptId,
    step::Ending,
    task::Task,
    time::MonotonicMs,
};
use rustix::io::Errno;
use tokio::sync::{SetOnce, oneshot, watch};

use super::told::Told;
use crate::{
    clock,
    lock::lock,
    plugin::{Failure, StopRequest},
    supervise::{
        AttemptKey, ChildId, Exit, NotStartedClass, Rung, Status, StopWhy as StoppedBy, log,
        peer::HOST,
    },
};

/// The maximum number of children that one attempt may start.
const CHILDREN_MAX: usize = 1000;

/// The failure of a child's start after the attempt was stopped.
pub(super) fn stopped() -> Failure {
    Failure::new(
        "cancelled",
        "the attempt was stopped before the child was started",
    )
}

/// The owner of a command that the host runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Owner {
    Attempt(AttemptId),
    /// A request, such as a submission, or the host itself.
    Host,
}

/// The key of a command that the host runs.
pub(super) fn command_key(owner: Owner, name: &str) -> AttemptKey {
    match owner {
        Owner::Attempt(attempt) => AttemptKey::of_command(attempt, name),
        Owner::Host => AttemptKey::of_command(HOST, name),
    }
}

/// The owner and name of a command, if the key belongs to one.
pub(super) fn command_of(key: &AttemptKey) -> Option<(Owner, &str)> {
    let (owner, name) = key.command()?;
    let owner = match owner {
        HOST => Owner::Host,
        attempt => Owner::Attempt(attempt.parse().ok()?),
    };
    Some((owner, name))
}

/// A child as its supervisor last reported it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum ChildState {
    /// The start was sent, and nothing was reported yet.
    Sent,
    Running(Leader),
    NotStarted {
        class: NotStartedClass,
        message: String,
    },
    Exited(Exit),
    /// The child's supervisor died, and the child's exit status is lost.
    Lost,
}

impl ChildState {
    /// Whether the child may be alive, or may still be started.
    pub(super) fn is_open(&self) -> bool {
        matches!(self, Self::Sent | Self::Running(_))
    }

    /// Whether nobody has stopped the child, and its end is known. A child that had to end because
    /// its executor had answered counts as not stopped.
    fn is_unstopped(&self) -> bool {
        match self {
            Self::Sent | Self::Running(_) | Self::Lost => false,
            Self::NotStarted { class, .. } => *class != NotStartedClass::Stopped,
            Self::Exited(exit) => matches!(exit.stopped, None | Some(StoppedBy::Finished)),
        }
    }
}

/// The part of an attempt's state that changes while it is in progress.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    /// The children, by index.
    pub(super) children: Vec<ChildState>,
    /// The children whose start the executor has asked for, and that no supervisor can have yet.
    pub(super) unsent: Vec<u16>,
    /// Whether the supervisor's last report said that no process of the attempt was alive and the
    /// attempt's output was drained. This is no longer valid if a child is started later: see
    /// [`State::is_over`].
    pub(super) ended: bool,
    /// When no process of the attempt was alive any more, as far as this host knows.
    pub(super) ended_at: Option<MonotonicMs>,
    /// Whether this was already so when this host found the attempt. Then this host does not know
    /// since when.
    pub(super) had_ended: bool,
    /// Whether nothing that could write output was left at the last end of a child.
    pub(super) is_drained_at_exit: bool,
    /// Whether the attempt has given a sign of life.
    pub(super) alive: bool,
    /// The end that was reported to the engine.
    pub(super) ending: Option<Box<Ending>>,
    pub(super) stop: Option<StopWhy>,
    pub(super) checkpoint: Option<Arc<[u8]>>,
    /// The number of the last durable checkpoint.
    pub(super) checkpoints_stored: u64,
    /// The number of the last reported checkpoint.
    pub(super) checkpoints_sent: u64,
    /// Whether the attempt's first process may be started.
    pub(super) may_spawn: bool,
    /// Whether `Prepared` was reported.
    pub(super) is_prepared: bool,
    /// The time at which the attempt was allowed to start its first process, if it was prepared in
    /// this host. The attempt's limits count from this time.
    pub(super) began: Option<MonotonicMs>,
    /// The attempt's end, if the attempt's work must still be settled.
    pub(super) answered: Option<Box<Ending>>,
    /// Whether settling the work may begin.
    pub(super) may_settle: bool,
    /// Why the attempt's output cannot be written, while the output is held back.
    pub(super) held: Option<String>,
    /// Whether output was ever held back. If so, a stop of a command may have dropped it.
    pub(super) was_held: bool,
    /// Whether output may be missing, because a supervisor died before the output was drained.
    pub(super) output_cut: bool,
    /// The number of children that read from a file; the files are removed when the attempt is
    /// released.
    pub(super) input_files: u16,
    /// Whether the executor writes the input of a child while this runs, and so can tell it
    /// something.
    pub(super) is_fed: bool,
    /// Whether the attempt was given files with results of other attempts.
    pub(super) given: bool,
    /// Whether no supervisor received one of the commands that the host runs for the attempt.
    pub(super) command_unreceived: bool,
    /// Whether this host sees to the end of a command that an earlier host had begun.
    pub(super) is_seen_to: bool,
    /// Whether this is a command of an earlier host that compiles a plugin.
    pub(super) compiles: bool,
    /// Whether the attempt has started, according to the store, but no supervisor knows it.
    pub(super) is_untraced: bool,
}

impl State {
    /// Adds a child that is about to be started, and returns its index. A stop changes this state
    /// under the same lock, so no child is added after a stop.
    pub(super) fn add_child(&mut self) -> Result<u16, Failure> {
        if self.stop.is_some() {
            return Err(stopped());
        }
        let index = u16::try_from(self.children.len()).ok();
        let Some(index) = index.filter(|index| usize::from(*index) < CHILDREN_MAX) else {
            let message = format!("an attempt starts at most {CHILDREN_MAX} children");
            return Err(Failure::new("resource", message));
        };
        self.children.push(ChildState::Sent);
        self.unsent.push(index);
        Ok(index)
    }

    /// Whether the attempt was stopped before any child was started, so that there is no child to
    /// wait for.
    pub(super) fn is_cut_short(&self) -> bool {
        self.stop.is_some() && self.children.is_empty()
    }

    /// Whether no child of the attempt is alive, according to the reports so far.
    pub(super) fn has_ended(&self) -> bool {
        !self.children.iter().any(ChildState::is_open)
    }

    /// Whether a child of the attempt may be alive, or may be started without the executor. A start
    /// that is not sent yet may never be, because the input of the child cannot be written.
    pub(super) fn may_be_alive(&self) -> bool {
        let is_unsent = |index: usize| self.unsent.iter().any(|it| usize::from(*it) == index);
        let mut children = self.children.iter().enumerate();
        children.any(|(index, child)| child.is_open() && !is_unsent(index))
    }

    /// Whether the attempt has ended because it was stopped, so that its executor has nothing to
    /// add.
    pub(super) fn has_ended_by_stop(&self) -> bool {
        self.stop.is_some() && self.is_over() && !self.has_ended_by_itself()
    }

    /// Whether the attempt has ended and nobody has stopped it, so that what its processes have
    /// done decides how it ended. Only its executor can tell that.
    pub(super) fn has_ended_by_itself(&self) -> bool {
        let has_exited = |child: &ChildState| matches!(child, ChildState::Exited(_));
        self.is_over()
            && self.children.iter().any(has_exited)
            && self.children.iter().all(ChildState::is_unstopped)
    }

    /// Whether the attempt's last process has failed, and no process was stopped, nor could be
    /// asked to end by the executor.
    pub(super) fn has_failed_by_itself(&self) -> bool {
        let mut exits = self.children.iter().filter_map(|child| match child {
            ChildState::Exited(exit) => Some(exit),
            _ => None,
        });
        let has_failed = |exit: &Exit| exit.status != Status::Code(0);
        self.has_ended_by_itself()
            && !self.is_fed
            && exits.clone().all(|exit| exit.stopped.is_none())
            && exits.next_back().is_some_and(has_failed)
    }

    /// Whether the attempt has ended, and the engine cannot know that before the executor tells it:
    /// nobody has stopped the attempt, or its supervisor did so for a reason of its own.
    pub(super) fn has_ended_unnoticed(&self) -> bool {
        let has_run =
            |child: &ChildState| matches!(child, ChildState::Exited(_) | ChildState::Lost);
        let is_noticed = |child: &ChildState| match child {
            ChildState::Exited(exit) => {
                matches!(
                    exit.stopped,
                    Some(StoppedBy::Cancelled | StoppedBy::TimedOut)
                )
            }
            _ => false,
        };
        let is_of_supervisor = self.stop.is_none()
            && self.is_over()
            && self.children.iter().any(has_run)
            && !self.children.iter().any(is_noticed);
        is_of_supervisor || self.has_ended_by_itself()
    }

    /// Whether a child that is started now is started after all others have ended.
    pub(super) fn is_between_children(&self) -> bool {
        !self.children.is_empty() && self.is_over()
    }

    /// Whether the attempt has ended and only its end must still be reported, because it is not
    /// preparing and not settling.
    pub(super) fn is_to_be_told(&self) -> bool {
        self.is_over() && self.may_spawn && !self.may_settle
    }

    /// Whether no process of the attempt is alive, its output is drained, and no start is pending.
    pub(super) fn is_over(&self) -> bool {
        self.ended && self.has_ended()
    }

    /// Why the output cannot be written, if the reason is a full disk.
    pub(super) fn without_room(&self) -> Option<&str> {
        self.held.as_deref().filter(|why| is_of_full_disk(why))
    }

    /// Notes when the attempt's processes have ended: how they ended may be told much later.
    fn note_end(&mut self, now: impl FnOnce() -> MonotonicMs) {
        if self.children.is_empty() || !self.is_over() {
            (self.ended_at, self.had_ended) = (None, false);
        } else if !self.had_ended {
            self.ended_at.get_or_insert_with(now);
        }
    }

    /// Records the state of a child, and whether no process of the attempt was alive after this
    /// change.
    pub(super) fn hear(&mut self, index: usize, new: ChildState, at_rest: bool) {
        // A child with a lower index that is unknown here was about to be started by an earlier
        // host, which never sent the start: nobody will report anything about this child.
        if self.children.len() < index {
            self.children.resize(index, ChildState::Lost);
        }
        if self.children.len() == index {
            self.children.push(ChildState::Sent);
        }
        // An exit is final, so a start that is reported again after the exit changes nothing.
        let is_known = matches!(self.children[index], ChildState::Exited(_));
        // If a child is started after the attempt was over, the attempt is not over any more.
        let wakes = matches!(new, ChildState::Running(_) | ChildState::Exited(_));
        self.ended = at_rest || (self.ended && (is_known || !wakes));
        if !is_known && matches!(new, ChildState::Exited(_)) {
            self.is_drained_at_exit = at_rest;
        }
        if !is_known || matches!(new, ChildState::Exited(_)) {
            self.children[index] = new;
        }
    }

    /// Whether the child's last output is in the log. This is the case once its exit was reported,
    /// unless the attempt's output is held back.
    pub(super) fn has_all_output(&self, child: u16) -> bool {
        match self.children.get(usize::from(child)) {
            Some(ChildState::Exited(_)) => self.held.is_none(),
            Some(child) => !child.is_open(),
            None => true,
        }
    }

    /// Records that the supervisor died, and that nothing of the attempt is alive.
    pub(super) fn lose(&mut self) {
        let has_exited = |child: &ChildState| matches!(child, ChildState::Exited(_));
        // Between the end of a child and the end of its attempt, the rest of the output is read.
        let was_drained = self.ended || !self.children.iter().any(has_exited);
        // A hold that nobody can end any more would be waited for for ever.
        let was_held = self.held.take().is_some();
        self.output_cut |= was_held || !was_drained;
        for child in &mut self.children {
            if child.is_open() {
                *child = ChildState::Lost;
            }
        }
        self.ended = true;
    }

    /// Records that the checkpoint with this number is durable. After the board was loaded again,
    /// the engine may report an earlier checkpoint again.
    pub(super) fn checkpoint_stored(&mut self, number: u64) {
        self.checkpoints_stored = self.checkpoints_stored.max(number);
    }

    /// Whether the checkpoint with this number, or a later one, is durable.
    pub(super) fn has_stored(&self, number: u64) -> bool {
        self.checkpoints_stored >= number
    }

    /// Marks the attempt as ended if none of its children was started, because in that case no
    /// supervisor reports an end.
    pub(super) fn end_if_nothing_began(&mut self) {
        self.ended |= self
            .children
            .iter()
            .all(|child| matches!(child, ChildState::NotStarted { .. }));
    }

    pub(super) fn leader(&self) -> Option<Leader> {
        self.children.iter().find_map(|child| match child {
            ChildState::Running(leader) => Some(*leader),
            ChildState::Exited(exit) => Some(Leader {
                pid: exit.pid,
                start_time: exit.start_time,
            }),
            ChildState::Sent | ChildState::NotStarted { .. } | ChildState::Lost => None,
        })
    }
}

/// Whether this reason for holding output back is a full disk or a quota that is used up.
fn is_of_full_disk(why: &str) -> bool {
    let full = [Errno::NOSPC, Errno::DQUOT].map(|errno| io::Error::from(errno).to_string());
    full.iter().any(|full| why.contains(full)) || why.contains(&log::no_room())
}

pub(super) struct Live {
    pub(super) id: AttemptId,
    pub(super) key: AttemptKey,
    pub(super) ladder: Vec<Rung>,
    /// Reports that may not be durable yet.
    pub(super) told: Told,
    state: watch::Sender<State>,
    /// Asks the running instance to stop. Used at most once.
    stop: Mutex<Option<oneshot::Sender<StopRequest>>>,
    /// The attempt's task as it was when the attempt was started. Unset while the attempt only
    /// stands by.
    begun: SetOnce<Arc<Task>>,
}

impl Live {
    pub(super) fn new(
        id: AttemptId,
        ladder: Vec<Rung>,
        state: State,
    ) -> (Self, oneshot::Receiver<StopRequest>) {
        let (stop, stopped) = oneshot::channel();
        let live = Self {
            id,
            key: AttemptKey::new(id.to_string()),
            ladder,
            told: Told::default(),
            state: watch::Sender::new(state),
            stop: Mutex::new(Some(stop)),
            begun: SetOnce::new(),
        };
        (live, stopped)
    }

    pub(super) fn begin(&self, task: Arc<Task>) {
        self.change(|state| {
            state.may_spawn = task.phase() != Some(&Phase::Preparing);
            state.may_settle = task.phase() == Some(&Phase::Settling);
        });
        if self.begun.set(task).is_err() {
            tracing::error!(attempt = %self.id, "the attempt was started twice");
        }
    }

    /// The umask for commands that the host runs for the task: that of the task's submitter, if it
    /// is known. These commands need access to what they create.
    pub(super) fn umask(&self) -> Option<u16> {
        let umask = self.begun.get().and_then(|task| task.request.umask);
        umask.map(|umask| umask & 0o077)
    }

    pub(super) fn has_begun(&self) -> bool {
        self.begun.initialized()
    }

    /// Waits until the attempt is started, and returns its task.
    pub(super) async fn begun(&self) -> &Arc<Task> {
        self.begun.wait().await
    }

    /// The time from which the attempt's limits count, by the clock of this boot.
    pub(super) fn started(&self, task: &Task, boot_id: &str) -> Option<MonotonicMs> {
        self.look(|state| state.began).or_else(|| {
            let (start, boot) = task.last_attempt()?.started_monotonic.as_ref()?;
            (**boot == *boot_id).then_some(*start)
        })
    }

    pub(super) fn child(&self, index: u16) -> ChildId {
        ChildId::new(self.key.clone(), index)
    }

    pub(super) fn state(&self) -> State {
        self.state.borrow().clone()
    }

    pub(super) fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.state.borrow())
    }

    pub(super) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut answer = None;
        self.state.send_modify(|state| {
            answer = Some(change(state));
            state.note_end(clock::monotonic_ms);
        });
        match answer {
            Some(answer) => answer,
            None => unreachable!("send_modify always calls its function"),
        }
    }

    /// Notes that the start of a child is sent now. Nobody waits for this, so nobody is woken.
    pub(super) fn sends(&self, child: u16) {
        self.state.send_if_modified(|state| {
            state.unsent.retain(|unsent| *unsent != child);
            false
        });
    }

    /// Waits until `look` returns a value for the state.
    pub(super) async fn until<T>(&self, mut look: impl FnMut(&State) -> Option<T>) -> T {
        let mut changes = self.state.subscribe();
        loop {
            if let Some(answer) = look(&changes.borrow_and_update()) {
                return answer;
            }
            if changes.changed().await.is_err() {
                unreachable!("the sender is a field of self");
            }
        }
    }

    /// Asks the running instance to stop, if it was not asked before.
    pub(super) fn ask_to_stop(&self, request: StopRequest) {
        let sender = lock(&self.stop).take();
        if let Some(sender) = sender
            && sender.send(request).is_err()
        {
            tracing::debug!(attempt = %self.id, "there is no instance to stop any more");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running() -> ChildState {
        ChildState::Running(Leader {
            pid: 7,
            start_time: 1,
        })
    }

    fn exited() -> ChildState {
        ChildState::Exited(Exit::sample(Status::Code(0)))
    }

    #[test]
    fn an_attempt_has_ended_when_its_last_process_has_and_not_when_its_end_is_told() {
        let mut state = State::default();
        let mut note = |now: u64, change: &dyn Fn(&mut State)| {
            change(&mut state);
            state.note_end(|| MonotonicMs(now));
            (state.ended_at, state.had_ended)
        };
        let at = |now: u64| Some(MonotonicMs(now));
        // An attempt without processes has not ended before its executor says so.
        assert_eq!(note(1, &|state| state.ended = true), (None, false));
        let starts = |state: &mut State| state.hear(0, running(), false);
        assert_eq!(note(2, &starts), (None, false));
        let ends = |state: &mut State| state.hear(0, exited(), true);
        assert_eq!(note(3, &ends), (at(3), false));
        assert_eq!(note(4, &|_| {}), (at(3), false));
        let goes_on = |state: &mut State| state.hear(1, running(), false);
        assert_eq!(note(5, &goes_on), (None, false));
        let ends = |state: &mut State| state.hear(1, exited(), true);
        assert_eq!(note(6, &ends), (at(6), false));
        // This host found it so.
        let found = |state: &mut State| (state.ended_at, state.had_ended) = (None, true);
        assert_eq!(note(7, &found), (None, true));
        assert_eq!(note(8, &|_| {}), (None, true));
    }

    /// Applies reports in order, and checks after each whether the attempt is over.
    fn check(reports: Vec<(usize, ChildState, bool, bool)>) {
        let mut state = State::default();
        for (at, (index, new, at_rest, is_over)) in reports.into_iter().enumerate() {
            state.hear(index, new, at_rest);
            assert_eq!(state.is_over(), is_over, "after report {at}: {state:?}");
        }
    }

    #[test]
    fn only_the_executor_can_tell_how_an_attempt_ended_that_nobody_has_stopped() {
        let stopped = |by: StoppedBy| {
            ChildState::Exited(Exit {
                stopped: Some(by),
                ..Exit::sample(Status::Code(0))
            })
        };
        let refused = |class: NotStartedClass| ChildState::NotStarted {
            class,
            message: String::new(),
        };
        let unnoticed = |children: Vec<ChildState>, expected: bool| {
            let state = State {
                ended: true,
                children,
                ..State::default()
            };
            assert_eq!(state.has_ended_unnoticed(), expected, "{state:?}");
        };
        for by in [StoppedBy::Finished, StoppedBy::Idle, StoppedBy::Shutdown] {
            unnoticed(vec![stopped(by)], true);
        }
        unnoticed(vec![exited()], true);
        unnoticed(vec![ChildState::Lost], true);
        // The engine enforces this limit too, and knows of each cancellation.
        for by in [StoppedBy::TimedOut, StoppedBy::Cancelled] {
            unnoticed(vec![stopped(by)], false);
        }
        unnoticed(vec![refused(NotStartedClass::Cwd)], false);
        unnoticed(vec![running()], false);
        let check = |children: Vec<ChildState>, by_itself: bool, by_stop: bool| {
            let state = State {
                ended: true,
                children,
                stop: Some(StopWhy::Timeout),
                ..State::default()
            };
            assert_eq!(state.has_ended_by_itself(), by_itself, "{state:?}");
            assert_eq!(state.has_ended_by_stop(), by_stop, "{state:?}");
            let unstopped = State {
                stop: None,
                ..state
            };
            assert_eq!(unstopped.has_ended_by_itself(), by_itself, "{unstopped:?}");
            assert!(!unstopped.has_ended_by_stop(), "{unstopped:?}");
        };
        check(vec![exited()], true, false);
        check(vec![exited(), exited()], true, false);
        check(vec![stopped(StoppedBy::Finished)], true, false);
        check(vec![exited(), refused(NotStartedClass::Cwd)], true, false);
        for by in [StoppedBy::TimedOut, StoppedBy::Idle, StoppedBy::Cancelled] {
            check(vec![exited(), stopped(by)], false, true);
        }
        let refused = refused(NotStartedClass::Stopped);
        check(vec![exited(), refused], false, true);
        check(vec![stopped(StoppedBy::Shutdown)], false, true);
        check(vec![ChildState::Lost], false, true);
        check(vec![exited(), running()], false, false);
        check(vec![], false, true);
    }

    #[test]
    fn an_attempt_is_over_when_its_last_child_has_ended() {
        check(vec![
            (0, running(), false, false),
            (0, exited(), true, true),
        ]);
        check(vec![
            (0, running(), false, false),
            (0, exited(), false, false),
        ]);
        check(vec![
            (0, exited(), true, true),
            (1, ChildState::Sent, false, false),
            (1, running(), false, false),
            (0, exited(), true, false),
            (1, exited(), true, true),
        ]);
    }

    #[test]
    fn output_of_an_ended_child_is_not_complete_while_it_is_held_back() {
        let mut state = State::default();
        assert!(state.has_all_output(0));
        state.hear(0, running(), false);
        assert!(!state.has_all_output(0));
        state.held = Some("no space".to_owned());
        state.hear(0, exited(), false);
        assert!(!state.has_all_output(0));
        state.held = None;
        assert!(state.has_all_output(0));
        // Nobody would end this hold.
        state.held = Some("no space".to_owned());
        state.lose();
        assert!(state.has_all_output(0));
    }

    #[test]
    fn output_may_be_missing_if_the_supervisor_dies_before_the_output_is_drained() {
        let check = |child: ChildState, ended: bool, held: bool, expected: bool| {
            let mut state = State {
                children: vec![child],
                ended,
                held: held.then(|| "no space".to_owned()),
                ..State::default()
            };
            state.lose();
            assert_eq!(state.output_cut, expected, "{state:?}");
            assert!(state.is_over(), "{state:?}");
        };
        check(running(), false, true, true);
        check(exited(), false, true, true);
        check(exited(), false, false, true);
        check(exited(), true, false, false);
        // The end of such a child says so itself.
        check(running(), false, false, false);
    }

    #[test]
    fn the_owner_of_a_command_can_be_read_from_its_key() {
        let attempt = "task_00000000000000000000000000.1";
        let id: AttemptId = attempt.parse().unwrap_or_else(|_| unreachable!());
        for owner in [Owner::Attempt(id), Owner::Host] {
            let key = command_key(owner, "3.7");
            assert_eq!(command_of(&key), Some((owner, "3.7")));
        }
        for none in [attempt, "task_0+1", "host"] {
            assert_eq!(command_of(&AttemptKey::new(none)), None, "{none}");
        }
    }

    #[test]
    fn a_stopped_attempt_starts_nothing_and_children_are_bounded() {
        let mut state = State::default();
        assert!(!state.is_cut_short());
        for expected in 0..1000 {
            assert_eq!(state.add_child().ok(), Some(expected));
        }
        let refused = state.add_child().err();
        assert_eq!(refused.map(|failure| failure.code), Some("resource".into()));
        assert_eq!(state.children.len(), 1000);
        for why in [
            StopWhy::Cancelled { reason: None },
            StopWhy::StartTimeout,
            StopWhy::Timeout,
            StopWhy::Budget {
                message: String::new(),
            },
        ] {
            let mut state = State {
                stop: Some(why),
                ..State::default()
            };
            let refused = state.add_child().err();
            assert_eq!(
                refused.map(|failure| failure.code),
                Some("cancelled".into())
            );
            assert!(state.is_cut_short() && state.children.is_empty());
        }
    }

    #[test]
    fn a_child_may_be_alive_from_the_sending_of_its_start_to_its_end() {
        let mut state = State::default();
        for child in 0..2 {
            assert_eq!(state.add_child().ok(), Some(child));
        }
        assert!(!state.has_ended() && !state.may_be_alive());
        let attempt = "task_00000000000000000000000000.1";
        let id: AttemptId = attempt.parse().unwrap_or_else(|_| unreachable!());
        let (live, _stopped) = Live::new(id, Vec::new(), state);
        live.sends(1);
        assert!(live.look(State::may_be_alive));
        live.change(|state| state.hear(1, running(), false));
        assert!(live.look(State::may_be_alive));
        live.change(|state| state.hear(1, exited(), true));
        assert!(!live.look(State::may_be_alive));
    }

    #[test]
    fn an_attempt_is_not_over_while_a_later_child_has_leftovers() {
        check(vec![(0, exited(), true, true), (1, exited(), false, false)]);
    }

    /// An earlier host died before it had sent the start of the first child.
    #[test]
    fn an_attempt_does_not_wait_for_a_child_that_nobody_has_started() {
        check(vec![
            (1, running(), false, false),
            (1, exited(), true, true),
        ]);
    }

    #[test]
    fn a_later_child_that_failed_to_start_changes_nothing() {
        let refused = ChildState::NotStarted {
            class: NotStartedClass::CommandNotFound,
            message: "no".to_owned(),
        };
        check(vec![(0, exited(), true, true), (1, refused, false, true)]);
    }

    #[test]
    fn repeated_reports_change_nothing() {
        check(vec![
            (0, exited(), true, true),
            (0, running(), false, true),
            (0, exited(), false, true),
        ]);
    }
}

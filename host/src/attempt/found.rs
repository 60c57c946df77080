//! The attempts and commands that supervisors had when this host connected to them.

use std::collections::BTreeMap;

use claudine_domain::{attempt::Leader, id::AttemptId};

use super::live::{ChildState, State, command_of};
use crate::{
    fsx,
    plugin::is_compiler,
    proc_stat,
    supervise::{self, AttemptKey, FoundState},
};

/// Everything that supervisors had when this host connected to them.
#[derive(Debug, Default)]
pub(crate) struct Known {
    pub(super) attempts: BTreeMap<AttemptId, Found>,
    /// The commands that an earlier host ran for attempts and for requests.
    pub(super) commands: BTreeMap<AttemptKey, Found>,
}

/// A supervisor's state of an attempt or a command.
#[derive(Clone, Debug, Default)]
pub(super) struct Found {
    pub(super) children: Vec<ChildState>,
    pub(super) ended: bool,
    pub(super) held: Option<String>,
    pub(super) output_cut: bool,
    /// Whether this is a command that compiles a plugin.
    pub(super) compiles: bool,
}

impl From<Found> for State {
    fn from(known: Found) -> Self {
        // If no supervisor knows a child of the attempt, no supervisor will report the attempt's
        // end.
        let ended = known.ended || known.children.is_empty();
        let has_exited = |child: &ChildState| matches!(child, ChildState::Exited(_));
        let had_ended = known.is_over() && known.children.iter().any(has_exited);
        Self {
            children: known.children,
            ended,
            had_ended,
            held: known.held,
            output_cut: known.output_cut,
            compiles: known.compiles,
            ..Self::default()
        }
    }
}

impl Known {
    /// Sorts the findings into attempts and commands.
    pub(crate) fn of(found: Vec<supervise::Found>) -> Self {
        let mut known = Self::default();
        for one in found {
            if command_of(&one.attempt).is_some() {
                let key = one.attempt.clone();
                let mut command = Found::from_found(one);
                command.compiles = command.children.iter().any(compiles);
                known.commands.insert(key, command);
            } else if let Ok(attempt) = one.attempt.as_str().parse() {
                known.attempts.insert(attempt, Found::from_found(one));
            } else {
                tracing::warn!(
                    attempt = %one.attempt,
                    "a supervisor has an attempt with an invalid id"
                );
            }
        }
        known
    }
}

impl Found {
    /// Whether no process of the attempt is alive and its output is drained.
    pub(super) fn is_over(&self) -> bool {
        self.ended && !self.children.iter().any(ChildState::is_open)
    }

    /// Whether the attempt has ended and nobody has stopped it.
    pub(super) fn has_ended_by_itself(&self) -> bool {
        State::from(self.clone()).has_ended_by_itself()
    }

    fn from_found(found: supervise::Found) -> Self {
        let mut children = Vec::new();
        for child in found.children {
            let index = usize::from(child.child.index());
            // If the supervisor does not know a child with a lower index, the start of that child
            // never reached the supervisor.
            if children.len() <= index {
                children.resize(index + 1, ChildState::Lost);
            }
            children[index] = match child.state {
                FoundState::Running { pid, start_time } => {
                    ChildState::Running(Leader { pid, start_time })
                }
                FoundState::Exited(exit) => ChildState::Exited(exit),
                FoundState::NotStarted { class, message } => {
                    ChildState::NotStarted { class, message }
                }
                FoundState::Lost => ChildState::Lost,
            };
        }
        Self {
            children,
            ended: found.ended,
            held: found.held,
            output_cut: found.output_cut,
            compiles: false,
        }
    }
}

/// Whether the process of a command compiles a plugin. If it has ended, this does not matter.
fn compiles(child: &ChildState) -> bool {
    let ChildState::Running(Leader { pid, start_time }) = child else {
        return false;
    };
    let line = fsx::read_virtual(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    // Another process may have got the pid.
    is_compiler(&line) && proc_stat::is_alive(*pid, *start_time).unwrap_or(false)
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use claudine_domain::id::TaskId;

    use super::*;
    use crate::supervise::{ChildId, Exit, FoundChild, Status};

    /// An attempt as a supervisor reports it, with the children of these indexes.
    pub(in crate::attempt) fn found(
        id: AttemptId,
        children: &[(u16, FoundState)],
    ) -> supervise::Found {
        let attempt = AttemptKey::new(id.to_string());
        let children = children.iter().map(|(index, state)| FoundChild {
            child: ChildId::new(attempt.clone(), *index),
            state: state.clone(),
        });
        supervise::Found {
            children: children.collect(),
            attempt,
            stopping: None,
            ended: false,
            held: None,
            output_cut: false,
        }
    }

    pub(in crate::attempt) fn running() -> FoundState {
        FoundState::Running {
            pid: 7,
            start_time: 1,
        }
    }

    #[test]
    fn a_host_continues_with_the_attempts_it_found() {
        let id = AttemptId {
            task: TaskId::new(1, 1),
            number: 1,
        };
        let mut known = Known::of(vec![supervise::Found {
            held: Some("No space left on device".to_owned()),
            ..found(id, &[(1, running())])
        }]);
        let state = State::from(known.attempts.remove(&id).unwrap());
        assert_eq!(state.held.as_deref(), Some("No space left on device"));
        let leader = Leader {
            pid: 7,
            start_time: 1,
        };
        assert_eq!(
            state.children,
            [ChildState::Lost, ChildState::Running(leader)]
        );
        assert!(!state.is_over());
    }

    /// An attempt may start two children at once, and the second start may arrive first.
    #[test]
    fn children_that_are_found_in_another_order_keep_their_indexes() {
        let id = AttemptId {
            task: TaskId::new(1, 1),
            number: 1,
        };
        let exit = Exit::sample(Status::Code(0));
        let children = [(1, running()), (0, FoundState::Exited(exit.clone()))];
        let mut known = Known::of(vec![found(id, &children)]);
        let mut state = State::from(known.attempts.remove(&id).unwrap());
        assert_eq!(state.children.len(), 2);
        assert_eq!(state.children[0], ChildState::Exited(exit.clone()));
        state.hear(1, ChildState::Exited(exit), true);
        assert!(state.is_over());
    }
}

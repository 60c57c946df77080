//! Finds the attempt to which a process belongs.

use std::time::Duration;

use claudine_domain::{attempt::Leader, id::AttemptId};

use super::{
    live::{ChildState, Owner, State, command_of},
    registry::Registry,
};
use crate::{
    clock,
    supervise::peer::{Forebear, Side},
};

/// How long to wait for the report that a process was started. The process may run, and connect to
/// this host, before the report arrives.
const REPORT_LIMIT: Duration = Duration::from_secs(2);

impl Registry {
    /// The attempt to which a process belongs, and the side that started the process. `line` is the
    /// process, followed by its ancestors below the supervisor. At least one process of `line` must
    /// be a child of the attempt, be a command that the host runs for the attempt, or belong to the
    /// process session of such a child or command. The environment of the process is no evidence,
    /// because the process may have written it itself.
    pub(super) async fn attempt_of(&self, line: &[Forebear]) -> Option<(AttemptId, Side)> {
        if let Some(found) = self.has_among_children(line) {
            return Some(found);
        }
        let reported = self.starts_reported();
        if clock::within(REPORT_LIMIT, reported).await.is_none() {
            tracing::warn!("a process connected before its start was reported");
        }
        self.has_among_children(line)
    }

    fn has_among_children(&self, line: &[Forebear]) -> Option<(AttemptId, Side)> {
        let live = self.all();
        let commands = self.all_commands();
        let of = |is: fn(&Leader, &Forebear) -> bool| {
            let has = |state: &State| {
                let mut children = state.children.iter().filter_map(leader);
                children.any(|child| line.iter().any(|it| is(&child, it)))
            };
            let attempt = live.iter().find(|live| live.look(has));
            let command = || commands.iter().find(|(_, state)| has(&state.borrow()));
            attempt.map(|live| (live.id, Side::Attempt)).or_else(|| {
                match command_of(&command()?.0)? {
                    (Owner::Attempt(attempt), _) => Some((attempt, Side::Host)),
                    (Owner::Host, _) => None,
                }
            })
        };
        of(|child, it| (child.pid, child.start_time) == (it.pid, it.start_time))
            .or_else(|| of(|child, it| child.pid == it.session))
    }

    /// Waits until every start that was sent to a supervisor is reported as done or failed.
    async fn starts_reported(&self) {
        for live in self.all() {
            live.until(|state| has_no_sent(state).then_some(())).await;
        }
        for (_, state) in self.all_commands() {
            let mut changes = state.subscribe();
            // This cannot fail, because the sender is held here.
            drop(changes.wait_for(has_no_sent).await);
        }
    }
}

fn has_no_sent(state: &State) -> bool {
    let is_sent = |child: &ChildState| matches!(child, ChildState::Sent);
    !state.children.iter().any(is_sent)
}

fn leader(child: &ChildState) -> Option<Leader> {
    match child {
        ChildState::Running(leader) => Some(*leader),
        // After a child's exit, processes that it left behind are still in its process session.
        ChildState::Exited(exit) => Some(Leader {
            pid: exit.pid,
            start_time: exit.start_time,
        }),
        ChildState::Sent | ChildState::NotStarted { .. } | ChildState::Lost => None,
    }
}

//! Which attempt a process belongs to.

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

/// How long the report of a start is waited for: a process may run, and ask, before this host hears
/// that it was started.
const REPORT_LIMIT: Duration = Duration::from_secs(2);

impl Registry {
    /// The attempt of a process, given with its parents up to the supervisor, and who has started
    /// it: one of them is a child of the attempt, or a command that the host runs for it, or is in
    /// the session of such a process. For anything else only its environment says where it belongs,
    /// which it may have written itself.
    pub(super) async fn attempt_of(&self, line: &[Forebear]) -> Option<(AttemptId, Side)> {
        if let Some(found) = self.has_among_children(line) {
            return Some(found);
        }
        let reported = self.starts_reported();
        if clock::within(REPORT_LIMIT, reported).await.is_none() {
            tracing::warn!("a process asks whose start was not reported");
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

    /// Returns once it is known of every start that was sent what came of it.
    async fn starts_reported(&self) {
        for live in self.all() {
            live.until(|state| has_no_sent(state).then_some(())).await;
        }
        for (_, state) in self.all_commands() {
            let mut changes = state.subscribe();
            // It cannot fail: the sender is held here.
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
        // Its session lives on in what it left.
        ChildState::Exited(exit) => Some(Leader {
            pid: exit.pid,
            start_time: exit.start_time,
        }),
        ChildState::Sent | ChildState::NotStarted { .. } | ChildState::Lost => None,
    }
}

//! Who is at the other end of a connection.

use std::sync::Arc;

use claudine_domain::{
    id::AttemptId,
    principal::{Kind, Principal, Via},
    task::{Class, Task},
};

use super::{
    error::{AppError, ErrorKind},
    host::Host,
};
use crate::supervise::peer::{HOST, Handle, Side, Whereabouts};

/// What the kernel says of the process at the other end of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    uid: u32,
    /// `None` if it has ended, or is in a pid namespace that this host cannot see.
    process: Option<Arc<Handle>>,
}

impl Peer {
    /// To be made as soon as the connection is accepted: from then on the pid can be given to no
    /// other process unnoticed.
    pub(crate) fn new(uid: u32, pid: Option<u32>) -> Self {
        Self {
            uid,
            process: pid.and_then(Handle::open).map(Arc::new),
        }
    }
}

/// Who is at the other end of a connection, whatever way its requests come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Caller {
    kind: Kind,
    restrained: bool,
}

impl Caller {
    const OWNER: Self = Self {
        kind: Kind::Owner,
        restrained: false,
    };
    /// It belongs to an attempt of which nothing is known for certain.
    const SOME_AGENT: Self = Self {
        kind: Kind::Agent { task: None },
        restrained: true,
    };

    /// Somebody in an attempt of this task. An agent acts on its own; a command does what its
    /// submitter told it to do. What git starts for the host, a hook above all, was told by nobody.
    fn within(task: &Task, side: Side) -> Self {
        let is_told = task.request.class == Class::Command && side == Side::Attempt;
        Self {
            kind: Kind::Agent {
                task: Some(task.id),
            },
            restrained: !is_told || task.request.by.restrained || task.restrained,
        }
    }

    /// The principal of a request. Over MCP the settings for it hold for everybody: what comes that
    /// way was written by a model.
    pub(crate) fn by(self, via: Via) -> Principal {
        Principal {
            kind: self.kind,
            name: None,
            via,
            restrained: self.restrained || via == Via::Mcp,
        }
    }
}

impl Host {
    /// Looks at who has connected.
    pub(crate) async fn recognise(&self, peer: &Peer) -> Caller {
        let own = rustix::process::geteuid().as_raw();
        let process = peer.process.clone().filter(|_| peer.uid == own);
        let Some(process) = process else {
            return Caller::SOME_AGENT;
        };
        let supervisors = self.reader.layout.supervisors();
        // A look at another process' memory, as its environment is, may wait for a disk.
        let looked = tokio::task::spawn_blocking(move || process.whereabouts(&supervisors)).await;
        let found = match looked {
            Ok(Whereabouts::Outside { marker: None }) => return Caller::OWNER,
            // What git started for a request whose supervisor died.
            Ok(Whereabouts::Outside {
                marker: Some(marker),
            }) if is_of_a_host(&marker) => Ok(None),
            Ok(Whereabouts::Outside {
                marker: Some(marker),
            }) => match self.stored(marked(&marker)).await {
                // The marker of another host, or of nobody.
                Ok(None) => return Caller::OWNER,
                found => found,
            },
            Ok(Whereabouts::Below(line)) => {
                let found = (self.attempt_of)(line).await;
                self.stored(found).await
            }
            Ok(Whereabouts::Unknown) => Ok(None),
            Err(panic) => Err(AppError::new(ErrorKind::Internal, panic.to_string())),
        };
        match found {
            Ok(Some((task, side))) => Caller::within(&task, side),
            Ok(None) => Caller::SOME_AGENT,
            // A caller that cannot be recognised has the least.
            Err(error) => {
                tracing::warn!(%error, "a caller could not be recognised");
                Caller::SOME_AGENT
            }
        }
    }

    async fn stored(
        &self,
        found: Option<(AttemptId, Side)>,
    ) -> Result<Option<(Task, Side)>, AppError> {
        let Some((AttemptId { task, .. }, side)) = found else {
            return Ok(None);
        };
        let task = self
            .read(move |reader| Ok(reader.store.task(task)?))
            .await?;
        Ok(task.map(|task| (task, side)))
    }
}

fn is_of_a_host(marker: &str) -> bool {
    let owner = marker.split_once('+').map(|(owner, _)| owner);
    owner == Some(HOST)
}

/// What a marker names: an attempt, or, with a `+` after it, a command that the host has run for
/// that attempt.
fn marked(marker: &str) -> Option<(AttemptId, Side)> {
    let (attempt, side) = match marker.split_once('+') {
        Some((attempt, _)) => (attempt, Side::Host),
        None => (marker, Side::Attempt),
    };
    Some((attempt.parse().ok()?, side))
}

#[cfg(test)]
mod tests {
    use claudine_domain::task::Request;

    use super::*;
    use crate::store::sample_task;

    fn task(class: Class, by: Principal) -> Task {
        let mut task = sample_task(1);
        task.request = std::sync::Arc::new(Request {
            by: by.into(),
            ..Request::new("any", class)
        });
        task
    }

    #[test]
    fn an_attempt_has_at_most_what_its_submitter_has_and_an_agents_less() {
        let chat = || Caller::OWNER.by(Via::Mcp);
        let check = |class: Class, by: Principal, restrained: bool| {
            let task = task(class, by.clone());
            let within = Caller::within(&task, Side::Attempt);
            // A hook that the host's git runs for it.
            assert!(Caller::within(&task, Side::Host).by(Via::Cli).restrained);
            for via in [Via::Cli, Via::Rest] {
                assert_eq!(within.by(via).restrained, restrained, "{class:?} {by}");
            }
            assert!(within.by(Via::Mcp).restrained);
            assert!(!within.by(Via::Cli).is_person());
        };
        check(Class::Command, Principal::default(), false);
        check(Class::Agent, Principal::default(), true);
        check(Class::Command, chat(), true);
        check(Class::Agent, chat(), true);
        // Down a chain of commands it stays what it was at its beginning.
        let within = |class: Class| {
            let task = task(class, Principal::default());
            Caller::within(&task, Side::Attempt).by(Via::Cli)
        };
        let of_owner = within(Class::Command);
        check(Class::Command, of_owner, false);
        let of_agent = within(Class::Agent);
        check(Class::Command, of_agent, true);
    }

    #[test]
    fn a_marker_names_an_attempt_or_what_the_host_has_run_for_it() {
        let attempt = AttemptId {
            task: sample_task(1).id,
            number: 1,
        };
        let check = |marker: &str, side: Option<Side>| {
            let expected = side.map(|side| (attempt, side));
            assert_eq!(marked(marker), expected, "{marker}");
        };
        check(&attempt.to_string(), Some(Side::Attempt));
        check(&format!("{attempt}+3.7"), Some(Side::Host));
        check("task_x", None);
        check("+3.7", None);
        check("host+3.7", None);
        assert!(is_of_a_host("host+3.7") && !is_of_a_host("host"));
    }

    #[test]
    fn the_owner_is_a_person_everywhere_but_over_mcp() {
        for (via, person) in [(Via::Cli, true), (Via::Rest, true), (Via::Mcp, false)] {
            assert_eq!(Caller::OWNER.by(via).is_person(), person, "{via:?}");
            assert!(!Caller::SOME_AGENT.by(via).is_person());
        }
    }
}

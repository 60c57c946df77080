//! Identifies the process at the other end of a connection.

use std::{io, sync::Arc};

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

/// The process at the other end of a connection, as reported by the kernel.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    uid: u32,
    /// `None` if the process is in a pid namespace that is invisible to this host.
    pub(crate) pid: Option<u32>,
    /// The process; `None` if it has ended, or is in a pid namespace that is invisible to this
    /// host. An error message if this host could not open the process.
    process: Result<Option<Arc<Handle>>, String>,
}

impl Peer {
    /// Opens the process. Must be called as soon as the connection is accepted, so that a reuse of
    /// the pid is noticed.
    pub(crate) fn new(uid: u32, pid: Option<u32>) -> Self {
        Self {
            uid,
            pid,
            process: match pid.map_or(Ok(None), Handle::open) {
                Ok(process) => Ok(process.map(Arc::new)),
                Err(error) => Err(error.to_string()),
            },
        }
    }

    /// This process, which answers its own requests if no host runs.
    pub(crate) fn of_this_process() -> Self {
        let uid = rustix::process::geteuid().as_raw();
        Self::new(uid, Some(std::process::id()))
    }
}

/// The caller behind a connection. Together with the way in which a request arrives (`Via`), it
/// determines the principal of the request.
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
    /// A process that may belong to any attempt.
    const SOME_AGENT: Self = Self {
        kind: Kind::Agent { task: None },
        restrained: true,
    };

    /// A process in an attempt of this task. A command acts for the submitter of its task. An agent
    /// acts on its own. A program that git starts for the host, such as a hook, acts on its own
    /// too.
    fn within(task: &Task, side: Side) -> Self {
        let is_told = task.request.class == Class::Command && side == Side::Attempt;
        Self {
            kind: Kind::Agent {
                task: Some(task.id),
            },
            restrained: !is_told || task.is_restrained(),
        }
    }

    /// The principal of a request. The settings for MCP clients apply to everybody over MCP,
    /// because such requests are written by a model.
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
    /// Whether no host runs, so that this process answers its own requests.
    pub(crate) fn is_absent(&self) -> bool {
        self.reader.no_host
    }

    /// Identifies the caller behind a connection. Returns an error if this is not possible at the
    /// moment.
    pub(crate) async fn recognise(&self, peer: &Peer) -> Result<Caller, AppError> {
        let own = rustix::process::geteuid().as_raw();
        if peer.uid != own {
            return Ok(Caller::SOME_AGENT);
        }
        let process = peer.process.clone().map_err(|error| unseen(&error))?;
        let Some(process) = process else {
            return Ok(Caller::SOME_AGENT);
        };
        let supervisors = self.reader.layout.supervisors();
        // Runs on a thread that may block, because reading another process's environment may wait
        // for a disk.
        let plain = self.plain.clone();
        let looked = crate::aside::run(move || process.whereabouts(&supervisors, &plain)).await;
        let looked = looked.unwrap_or_else(|panic| Err(io::Error::other(panic)));
        let found = match looked.map_err(|error| unseen(&error.to_string()))? {
            Whereabouts::Outside { marker: None } => return Ok(Caller::OWNER),
            // Git started the process for a request, and the supervisor of git has died.
            Whereabouts::Outside {
                marker: Some(marker),
            } if is_of_a_host(&marker) => None,
            Whereabouts::Outside {
                marker: Some(marker),
            } => match self.stored(marked(&marker)).await? {
                // The marker belongs to another host, or to no task.
                None => return Ok(Caller::OWNER),
                found => found,
            },
            Whereabouts::Below(line) => {
                let found = (self.attempt_of)(line).await;
                self.stored(found).await?
            }
            Whereabouts::Unknown => None,
        };
        Ok(found.map_or(Caller::SOME_AGENT, |(task, side)| {
            Caller::within(&task, side)
        }))
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

/// The error for a request whose caller cannot be identified.
fn unseen(error: &str) -> AppError {
    let message = format!("the host cannot identify the caller: {error}");
    AppError::new(ErrorKind::Unavailable, message).hint(
        "try again; with a higher limit of open files (`ulimit -Hn`) a host serves more callers at a time",
    )
}

fn is_of_a_host(marker: &str) -> bool {
    let owner = marker.split_once('+').map(|(owner, _)| owner);
    owner == Some(HOST)
}

/// Parses the marker of an attempt or, if it has a `+`, of a command that the host runs for an
/// attempt.
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
    fn a_command_has_the_rights_of_its_submitter_and_an_agent_is_restrained() {
        let chat = || Caller::OWNER.by(Via::Mcp);
        let check = |class: Class, by: Principal, restrained: bool| {
            let task = task(class, by.clone());
            let within = Caller::within(&task, Side::Attempt);
            // A hook that the host's git runs for the task.
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
        // In a chain in which each command submits the next one, the rights stay those of the first
        // submitter.
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
    fn the_marker_of_an_attempt_or_of_its_host_command_is_parsed() {
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
    fn the_owner_counts_as_a_person_except_over_mcp() {
        for (via, person) in [(Via::Cli, true), (Via::Rest, true), (Via::Mcp, false)] {
            assert_eq!(Caller::OWNER.by(via).is_person(), person, "{via:?}");
            assert!(!Caller::SOME_AGENT.by(via).is_person());
        }
    }
}

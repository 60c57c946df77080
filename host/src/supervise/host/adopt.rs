//! Taking over the supervisors of earlier hosts, all at once.
//!
//! A host starts without waiting for supervisors that do not answer. It reads the attempts of a
//! silent supervisor from that supervisor's notes; these attempts wait until the supervisor
//! answers, and all other work runs. A dead supervisor whose processes cannot be ended yet is
//! treated in the same way.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::join::{self, Joined, NotJoined};
use super::recover::{self, Recovered};
use super::silent::Silence;
use crate::clock;
use crate::supervise::SuperviseError;
use crate::supervise::protocol::AttemptState;
use crate::text::chain;

/// How long a supervisor may take to answer a host that is starting.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);

/// The result of contacting a supervisor of an earlier host.
pub(super) enum Adopted {
    Joined(Joined),
    Dead(Recovered),
    Silent(Notes),
}

/// The state, read from its notes, of a supervisor that does not answer, or of a dead one whose
/// processes cannot be ended yet.
pub(super) struct Notes {
    pub(super) states: Vec<AttemptState>,
    pub(super) why: Silence,
    /// Set if the supervisor will never answer, because it speaks a protocol that this host does
    /// not know.
    pub(super) is_foreign: bool,
}

/// Contacts a supervisor. Returns an error only if this host must not continue.
pub(super) async fn adopt(dir: PathBuf, epoch: u64) -> Result<Adopted, SuperviseError> {
    let (why, is_foreign) = match clock::within(ANSWERS_WITHIN, join::rejoin(dir.clone(), epoch))
        .await
    {
        Some(Ok(joined)) => return Ok(Adopted::Joined(joined)),
        Some(Err(NotJoined::Dead)) => {
            return match blocking(&dir, recover::recover).await {
                Ok(recovered) => Ok(Adopted::Dead(recovered)),
                Err(error @ SuperviseError::Copied { .. }) => Err(error),
                // An error proves nothing about the attempts. They wait until the router, which
                // tries again, has ended the processes.
                Err(error) => Ok(Adopted::Silent(Notes {
                    states: noted(&dir).await,
                    why: Silence::not_ended(&error),
                    is_foreign: false,
                })),
            };
        }
        Some(Err(NotJoined::Fault(error @ SuperviseError::Fenced { .. }))) => return Err(error),
        Some(Err(NotJoined::Fault(error))) => {
            let is_foreign = matches!(error, SuperviseError::Protocol { .. });
            (chain(&error), is_foreign)
        }
        None => {
            let limit = ANSWERS_WITHIN.as_secs();
            (format!("no answer within {limit} s"), false)
        }
    };
    let states = noted(&dir).await;
    Ok(Adopted::Silent(Notes {
        states,
        why: Silence::not_reached(&dir, &why),
        is_foreign,
    }))
}

/// The attempts in the notes of a supervisor. If the notes cannot be read, none: all attempts that
/// no other supervisor has may then belong to this one, and wait for it.
async fn noted(dir: &Path) -> Vec<AttemptState> {
    blocking(dir, recover::noted).await.unwrap_or_else(|error| {
        tracing::error!(error = %chain(&error), "the notes of a supervisor cannot be read");
        Vec::new()
    })
}

async fn blocking<T: Send + 'static>(
    dir: &Path,
    read: fn(&Path) -> Result<T, SuperviseError>,
) -> Result<T, SuperviseError> {
    let of = dir.to_owned();
    crate::aside::run(move || read(&of))
        .await
        .unwrap_or_else(|panic| {
            Err(SuperviseError::Directory {
                path: dir.to_owned(),
                source: std::io::Error::other(panic),
            })
        })
}

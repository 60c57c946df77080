//! How an agent left the repository that it worked in, for the end of its attempt.
//!
//! Commands are not asked: a short one would pay for it more than for itself. What git says never changes how an attempt ended; where it
//! says nothing, the reason is kept in its place.

use std::{collections::BTreeMap, io, sync::Arc};

use claudine_domain::{
    attempt::GitState,
    task::{Class, Request},
};

use super::run::Runner;
use crate::git::{self, Git};

impl Runner {
    /// None for what is no agent, or worked in no repository. To be called once nothing of the attempt is alive.
    pub(super) async fn git_state(&self, request: &Request) -> Option<Box<GitState>> {
        if request.class != Class::Agent || !git::is_within_repository(request.cwd.as_ref()) {
            return None;
        }
        let state = match self.variables(&request.env_digest).await {
            Ok(variables) => Git::at(&request.cwd, variables)
                .status()
                .await
                .map_err(|error| error.to_string()),
            Err(error) => Err(format!("its environment cannot be read: {error}")),
        };
        Some(Box::new(state.unwrap_or_else(|error| GitState {
            error: Some(error),
            ..GitState::default()
        })))
    }

    /// A task's environment, read on a thread that may block where it is not at hand.
    async fn variables(&self, digest: &str) -> io::Result<Arc<BTreeMap<String, String>>> {
        if let Some(variables) = self.environments.recent(digest) {
            return Ok(variables);
        }
        let (environments, digest) = (self.environments.clone(), digest.to_owned());
        let read = tokio::task::spawn_blocking(move || environments.read(&digest)).await;
        read.unwrap_or_else(|panic| Err(io::Error::other(panic)))
    }
}

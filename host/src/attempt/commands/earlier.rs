//! Commands that an earlier host had begun: waits for them, stops them, and forgets them.

use std::{io, path::Path, sync::Arc, time::Duration};

use claudine_domain::id::AttemptId;
use tokio::sync::watch;

use super::{Commands, over, stopped_for};
use crate::{
    attempt::live::{Live, Owner, State, command_of},
    clock, fsx,
    supervise::AttemptKey,
};

/// How long a command that changes something waits for the commands of an earlier host. A
/// supervisor that does not answer enforces no time limits and reports no ends.
const EARLIER_WITHIN: Duration = Duration::from_millis(if cfg!(test) { 50 } else { 30_000 });

impl Commands {
    /// The commands that an earlier host had begun for an owner.
    fn earlier(&self, owner: Owner) -> Vec<(AttemptKey, Arc<watch::Sender<State>>)> {
        let own = self.own_names();
        let is_earlier = |(of, name): (Owner, &str)| of == owner && !name.starts_with(&own);
        let mut all = self.registry.all_commands();
        all.retain(|(key, _)| command_of(key).is_some_and(is_earlier));
        all
    }

    /// Stops the commands with which an earlier host was preparing the attempt, and waits for their
    /// ends.
    pub(in crate::attempt) async fn end_earlier(&self, attempt: AttemptId) {
        for (key, state) in self.earlier(Owner::Attempt(attempt)) {
            self.stop(&key).await;
            over(&state).await;
            self.registry.no_command(&key);
        }
    }

    /// Waits until the commands with which an earlier host was settling the attempt's work are
    /// over.
    pub(in crate::attempt) async fn wait_for_earlier(&self, live: &Live) {
        for (key, state) in self.earlier(Owner::Attempt(live.id)) {
            let stopped = stopped_for(live, self.patience);
            self.see_to_end(&key, &state, stopped).await;
            self.registry.no_command(&key);
        }
    }

    /// Waits until all commands that an earlier host had begun are over, whoever they were for.
    /// Such a command may still change the attempt's worktree, or the checkout into which work is
    /// merged. Does not wait any longer once `patience` has passed since a stop of the attempt.
    pub(in crate::attempt) async fn wait_for_all_earlier(&self, live: &Live, patience: Duration) {
        tokio::select! {
            biased;
            () = self.all_earlier_over() => {}
            () = stopped_for(live, patience) => {}
        }
    }

    /// Waits until all commands that an earlier host had begun are over.
    pub(in crate::attempt) async fn all_earlier_over(&self) {
        let own = self.own_names();
        let is_earlier = |(_, name): (Owner, &str)| !name.starts_with(&own);
        let mut all = self.registry.all_commands();
        all.retain(|(key, _)| command_of(key).is_some_and(is_earlier));
        for (_, state) in all {
            over(&state).await;
        }
    }

    /// Waits until all commands that an earlier host had begun are over, but not for ever.
    pub(in crate::attempt) async fn earlier_over(&self) -> io::Result<()> {
        let over = clock::within(EARLIER_WITHIN, self.all_earlier_over()).await;
        over.ok_or_else(|| {
            io::Error::other(
                "a git command of an earlier host has not ended, and no other git may run beside \
                 it; `claudine doctor` shows whether a supervisor does not answer",
            )
        })
    }

    /// Lets supervisors forget the commands that an earlier host had begun, once they are over.
    pub(in crate::attempt) fn forget_earlier(self: &Arc<Self>) {
        let own = self.own_names();
        for (key, state) in self.registry.all_commands() {
            let Some((owner, name)) = command_of(&key) else {
                continue;
            };
            if name.starts_with(&own) {
                continue;
            }
            let log = self.log(owner, name);
            self.forget_later(key, log, state);
        }
        let dir = self.layout.commands();
        self.tasks.spawn_blocking(move || {
            if let Err(error) = remove_others(&dir, &own) {
                tracing::warn!(
                    %error, dir = %dir.display(),
                    "the output of earlier commands cannot be removed"
                );
            }
        });
    }
}

/// Removes the output of earlier hosts' commands, which nobody reads any more.
fn remove_others(dir: &Path, own: &str) -> io::Result<()> {
    for path in fsx::entries(dir)? {
        let name = path.file_name().map(|name| name.to_string_lossy());
        if !name.is_some_and(|name| name.starts_with(own)) {
            fsx::remove_file(&path)?;
        }
    }
    Ok(())
}

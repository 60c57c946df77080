//! The parts of a host, each of which is an asynchronous task. The host ends as soon as one part
//! has failed or reports a request to end the host.

use std::{collections::HashMap, time::Duration};

use tokio::task::{Id, JoinSet};

use crate::{app::DownMode, clock};

/// What the end of a part means.
#[derive(Debug)]
pub(super) enum Over {
    /// The part's work is done, and the host continues without it.
    Done,
    /// The host has to shut down, as somebody asked.
    Down(DownMode),
    /// The part has failed, for this reason, and the host cannot continue without it.
    Failed(String),
}

/// The part that failed, and the reason.
#[derive(Debug)]
pub(super) struct Broken {
    pub(super) part: &'static str,
    pub(super) why: String,
}

#[derive(Default)]
pub(super) struct Parts {
    tasks: JoinSet<Over>,
    names: HashMap<Id, &'static str>,
}

impl Parts {
    pub(super) fn spawn(
        &mut self,
        name: &'static str,
        part: impl Future<Output = Over> + Send + 'static,
    ) {
        let task = self.tasks.spawn(part);
        self.names.insert(task.id(), name);
    }

    /// Waits for the first part whose end also ends the host.
    pub(super) async fn end(&mut self) -> Result<DownMode, Broken> {
        loop {
            let (part, why) = match self.next().await {
                Some((_, Over::Done)) => continue,
                Some((_, Over::Down(mode))) => return Ok(mode),
                Some((part, Over::Failed(why))) => (part, why),
                None => (
                    "each of its parts",
                    "none has reported a failure".to_owned(),
                ),
            };
            return Err(Broken { part, why });
        }
    }

    /// Waits for the end of a part that was told to end. Returns whether it ended in time. Other
    /// parts that end during the wait are removed from the list too.
    pub(super) async fn await_end(&mut self, name: &'static str, limit: Duration) -> bool {
        let ended = async {
            while self.names.values().any(|part| *part == name) {
                match self.next().await {
                    Some((part, Over::Failed(why))) => {
                        tracing::error!(why, "{part} failed at its end");
                    }
                    Some(_) => {}
                    None => return,
                }
            }
        };
        clock::within(limit, ended).await.is_some()
    }

    async fn next(&mut self) -> Option<(&'static str, Over)> {
        let (id, over) = match self.tasks.join_next_with_id().await? {
            Ok(ended) => ended,
            Err(panic) => (panic.id(), Over::Failed(panic.to_string())),
        };
        Some((self.names.remove(&id).unwrap_or("a part"), over))
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::panic,
        reason = "a test fails by panicking, and so does a part of a host"
    )]
    use std::future::pending;

    use super::*;

    #[tokio::test]
    async fn the_first_part_that_fails_ends_the_host_with_the_reason() {
        let mut parts = Parts::default();
        parts.spawn("one that goes on", pending());
        parts.spawn("one that is done", async { Over::Done });
        parts.spawn("the engine", async { panic!("a rule was broken") });
        let broken = parts.end().await.unwrap_err();
        assert_eq!(broken.part, "the engine");
        assert!(broken.why.contains("a rule was broken"), "{}", broken.why);

        parts.spawn("the routing", async { Over::Failed("closed".to_owned()) });
        let broken = parts.end().await.unwrap_err();
        assert_eq!(
            (broken.part, broken.why.as_str()),
            ("the routing", "closed")
        );

        parts.spawn("the shutdown", async { Over::Down(DownMode::Drain) });
        assert_eq!(parts.end().await.unwrap(), DownMode::Drain);
    }

    #[tokio::test]
    async fn the_wait_for_the_end_of_a_part_has_a_time_limit() {
        let mut parts = Parts::default();
        parts.spawn("quick", async { Over::Done });
        parts.spawn("stuck", pending());
        assert!(parts.await_end("quick", Duration::from_mins(1)).await);
        assert!(parts.await_end("not there", Duration::from_mins(1)).await);
        assert!(!parts.await_end("stuck", Duration::from_millis(1)).await);
        assert_eq!(parts.names.len(), 1);
    }
}

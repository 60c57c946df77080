//! What the host runs for requests: git at a submission, and to list, merge or clean worktrees.
//!
//! They are children of a supervisor too, so that a host that ends, or is killed, leaves none
//! behind that nobody ends in time, and so that a program that git runs is nobody's whom the host
//! would obey. No host goes on with what an earlier one did for a request: who asked asks again,
//! and what changes something waits until what the earlier host had begun has ended.

use std::{io, pin::Pin, sync::Arc, time::Duration};

use tokio::sync::{oneshot, watch};
use tokio_util::task::TaskTracker;

use super::{commands::Commands, live::Owner};
use crate::{
    clock,
    command::{Abandoned, Elsewhere, GRACE, Order, Outcome},
};

/// How long what is told to end may take: until it is killed, and a moment for the report of that.
const ENDING: Duration = GRACE.saturating_add(Duration::from_secs(2));

/// Runs commands for requests.
pub(crate) struct Requests {
    commands: Arc<Commands>,
    running: TaskTracker,
    /// Whether all of them are to end, and no other is to begin.
    ending: watch::Sender<bool>,
}

impl Requests {
    pub(super) fn new(commands: Arc<Commands>) -> Self {
        Self {
            commands,
            running: TaskTracker::new(),
            ending: watch::Sender::new(false),
        }
    }

    /// Ends what runs, and lets nothing begin any more.
    pub(crate) async fn end(&self) {
        self.ending.send_replace(true);
        self.running.close();
        if clock::within(ENDING, self.running.wait()).await.is_none() {
            tracing::warn!("a command that was run for a request has not ended");
        }
    }
}

impl Elsewhere for Requests {
    fn run(&self, order: Order) -> Pin<Box<dyn Future<Output = Outcome> + Send>> {
        let (tell, told) = oneshot::channel();
        let (commands, ending) = (self.commands.clone(), self.ending.subscribe());
        // To its end, even if nobody waits for it: what it changes would be left half changed.
        self.running.spawn(async move {
            let outcome = run_unless_ending(&commands, ending, order).await;
            if tell.send(outcome).is_err() {
                tracing::debug!("nobody waits for a command any more");
            }
        });
        Box::pin(async move { told.await.unwrap_or_else(|_| Err(the_host_ends())) })
    }
}

async fn run_unless_ending(
    commands: &Commands,
    ending: watch::Receiver<bool>,
    order: Order,
) -> Outcome {
    if order.abandoned == Abandoned::LeftAlone {
        tokio::select! {
            biased;
            () = is_ending(ending.clone()) => return Err(the_host_ends()),
            () = commands.wait_for_earlier_requests() => {}
        }
    }
    if *ending.borrow() {
        return Err(the_host_ends());
    }
    commands
        .carry_out(Owner::Host, None, order, is_ending(ending))
        .await
}

/// Returns once everything is to end: never, if the host goes without having said so.
async fn is_ending(mut ending: watch::Receiver<bool>) {
    if ending.wait_for(|ending| *ending).await.is_err() {
        std::future::pending::<()>().await;
    }
}

fn the_host_ends() -> io::Error {
    io::Error::other("the host ends")
}

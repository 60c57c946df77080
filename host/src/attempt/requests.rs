//! Commands that the host runs for requests: git at a submission, and to list, merge or clean
//! worktrees.
//!
//! These commands are children of a supervisor too. Their time limits are therefore enforced even
//! if the host ends or is killed. And if a program that git runs, such as a hook, calls `claudine`,
//! the program is restrained like an agent instead of having the rights of the user. No host
//! continues the commands that an earlier host ran for requests, because the client repeats its
//! request. Commands that change something wait until all commands of the earlier host have ended
//! or were ended, but not for ever.

use std::{io, pin::Pin, sync::Arc, time::Duration};

use tokio::sync::{Semaphore, SemaphorePermit, oneshot, watch};
use tokio_util::task::TaskTracker;

use super::{
    commands::{Circumstances, Commands},
    live::Owner,
};
use crate::{
    clock,
    command::{Abandoned, Elsewhere, GRACE, Order, Outcome},
};

/// How long all commands that restore a checkout may take together although all commands must end.
/// If that is too short, the next host restores the checkout.
const RESTORING: Duration = Duration::from_secs(5);
/// How long ending the commands may take: the time in which they may restore a checkout, the time
/// after which one that goes on is killed, and a moment for the report of its end.
const ENDING: Duration = RESTORING
    .saturating_add(GRACE)
    .saturating_add(Duration::from_secs(2));

/// How many commands that only read run at once for the requests of all restrained principals. A
/// repository that anybody may have made decides how much memory and time each of them takes.
const READING_AT_ONCE: usize = 4;

/// Runs commands for requests.
pub(crate) struct Requests {
    commands: Arc<Commands>,
    /// The turns of commands that only read for restrained principals.
    turns: Arc<Semaphore>,
    running: TaskTracker,
    /// The time since when all commands must end and no other may begin.
    ending: watch::Sender<Option<Duration>>,
}

impl Requests {
    pub(super) fn new(commands: Arc<Commands>) -> Self {
        Self {
            commands,
            turns: Arc::new(Semaphore::new(READING_AT_ONCE)),
            running: TaskTracker::new(),
            ending: watch::Sender::new(None),
        }
    }

    /// Ends the running commands, and prevents further ones, except those that restore what a
    /// command has left half done.
    pub(crate) async fn end(&self) {
        self.ending.send_replace(Some(clock::monotonic()));
        self.running.close();
        if clock::within(ENDING, self.running.wait()).await.is_none() {
            tracing::warn!("a command that was run for a request has not ended");
        }
    }
}

impl Elsewhere for Requests {
    fn run(&self, order: Order) -> Pin<Box<dyn Future<Output = Outcome> + Send>> {
        let (mut tell, told) = oneshot::channel();
        let (commands, ending) = (self.commands.clone(), self.ending.subscribe());
        let turns = self.turns.clone();
        // The command runs to its end even if nobody waits for it, because ending it early could
        // leave its changes half done.
        self.running.spawn(async move {
            let turn = tokio::select! {
                biased;
                turn = turn_of(&order, &turns) => turn,
                () = must_end(ending.clone(), order.restores) => Err(the_host_ends()),
                () = tell.closed() => return,
            };
            let outcome = match turn {
                Ok(_turn) => run_unless_ending(&commands, ending, order).await,
                Err(error) => Err(error),
            };
            if tell.send(outcome).is_err() {
                tracing::debug!("nobody waits for a command any more");
            }
        });
        Box::pin(async move { told.await.unwrap_or_else(|_| Err(the_host_ends())) })
    }

    fn earlier_over(&self) -> Pin<Box<dyn Future<Output = io::Result<()>> + Send>> {
        let commands = self.commands.clone();
        Box::pin(async move { commands.earlier_over().await })
    }

    fn end_earlier(&self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let commands = self.commands.clone();
        Box::pin(async move { commands.end_all_earlier().await })
    }

    fn earlier_in_words(&self) -> Vec<String> {
        self.commands.earlier_in_words()
    }
}

/// Waits for the turn of a command, for no longer than the command itself may take. Only commands
/// that read for requests of restrained principals have turns. Those that change something may run
/// a hook that makes requests of its own, and would wait for it.
async fn turn_of<'a>(
    order: &Order,
    turns: &'a Semaphore,
) -> io::Result<Option<SemaphorePermit<'a>>> {
    if !order.takes_turn || order.restores || order.abandoned != Abandoned::Killed {
        return Ok(None);
    }
    let turn = clock::within(order.limit, turns.acquire()).await;
    let turn = turn.ok_or_else(|| {
        io::Error::other(format!(
            "other requests of MCP clients and agents have kept git busy for {} s; try again later",
            order.limit.as_secs()
        ))
    })?;
    turn.map(Some).map_err(io::Error::other)
}

async fn run_unless_ending(
    commands: &Arc<Commands>,
    ending: watch::Receiver<Option<Duration>>,
    order: Order,
) -> Outcome {
    let restores = order.restores;
    if order.abandoned == Abandoned::LeftAlone {
        tokio::select! {
            biased;
            () = must_end(ending.clone(), restores) => return Err(the_host_ends()),
            over = commands.earlier_over() => over?,
        }
    }
    // A command that hangs would be killed only some time after it was told to end.
    if left_for(*ending.borrow(), restores) == Some(Duration::ZERO) {
        return Err(the_host_ends());
    }
    commands
        .carry_out(
            Owner::Host,
            Circumstances::of_request(&order),
            order,
            must_end(ending, restores),
        )
        .await
}

/// Waits until a command must end. Never returns if the sender is dropped first.
async fn must_end(mut ending: watch::Receiver<Option<Duration>>, restores: bool) {
    let since = ending.wait_for(Option::is_some).await.map(|since| *since);
    let Ok(since) = since else {
        return std::future::pending().await;
    };
    clock::sleep(left_for(since, restores).unwrap_or_default()).await;
}

/// How long a command may still run if all commands must end since this time; `None` if it need not
/// end.
fn left_for(ending: Option<Duration>, restores: bool) -> Option<Duration> {
    let may_take = if restores { RESTORING } else { Duration::ZERO };
    let since = ending?;
    Some((since + may_take).saturating_sub(clock::monotonic()))
}

fn the_host_ends() -> io::Error {
    io::Error::other("the host is ending")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::sync::atomic::Ordering;

    use tokio::sync::mpsc;

    use super::{
        super::{
            commands::tests::{order, route, without_supervisors},
            found::{Known, tests::running},
            live::command_key,
        },
        *,
    };
    use crate::supervise::{self, ChildId, Exit, FoundChild, Report, Status};

    #[tokio::test]
    async fn a_command_does_not_wait_for_ever_for_the_commands_of_an_earlier_host() {
        let dir = tempfile::tempdir().unwrap();
        let earlier = command_key(Owner::Host, "0.1");
        let child = ChildId::new(earlier.clone(), 0);
        let known = Known::of(vec![supervise::Found {
            attempt: earlier,
            children: vec![FoundChild {
                child: child.clone(),
                state: running(),
            }],
            stopping: None,
            ended: false,
            held: None,
            output_cut: false,
        }]);
        let (commands, reports) = without_supervisors(dir.path(), known).await;
        route(&commands, reports);
        let (tell, told) = mpsc::channel(1);
        route(&commands, told);
        let requests = Requests::new(commands.clone());
        let run = async |abandoned: Abandoned| {
            let outcome = requests.run(Order {
                abandoned,
                ..order()
            });
            outcome.await.unwrap_err()
        };
        let refused = run(Abandoned::LeftAlone).await.to_string();
        assert!(refused.contains("claudine doctor"), "{refused}");
        // A command that only reads does not wait. No supervisor can be started for it.
        let unreceived = io::ErrorKind::NotConnected;
        assert_eq!(run(Abandoned::Killed).await.kind(), unreceived);

        let exit = Exit::sample(Status::Code(0));
        let ended = true;
        let report = Report::Exited { child, exit, ended };
        tell.send(report).await.unwrap();
        commands.all_earlier_over().await;
        assert_eq!(run(Abandoned::LeftAlone).await.kind(), unreceived);
    }

    #[tokio::test]
    async fn once_all_commands_must_end_only_those_that_restore_a_checkout_run() {
        let dir = tempfile::tempdir().unwrap();
        let (commands, reports) = without_supervisors(dir.path(), Known::default()).await;
        route(&commands, reports);
        let requests = Requests::new(commands);
        requests.end().await;
        for abandoned in [Abandoned::Killed, Abandoned::LeftAlone] {
            for restores in [false, true] {
                let outcome = requests.run(Order {
                    abandoned,
                    restores,
                    ..order()
                });
                let error = outcome.await.unwrap_err();
                // No supervisor can be started for the command.
                let is_tried = error.kind() == io::ErrorKind::NotConnected;
                assert_eq!(is_tried, restores, "{error}");
            }
        }
    }

    #[tokio::test]
    async fn few_commands_at_once_read_for_restrained_principals_and_no_others_wait_for_them() {
        let turns = Semaphore::new(1);
        let of = |takes_turn: bool, abandoned: Abandoned, restores: bool| Order {
            abandoned,
            restores,
            is_restrained: true,
            takes_turn,
            limit: Duration::ZERO,
            ..order()
        };
        let reads = of(true, Abandoned::Killed, false);
        let first = turn_of(&reads, &turns).await.unwrap();
        assert!(first.is_some());
        let late = turn_of(&reads, &turns).await.unwrap_err().to_string();
        assert!(late.contains("have kept git busy for 0 s"), "{late}");
        for other in [
            of(false, Abandoned::Killed, false),
            of(true, Abandoned::LeftAlone, false),
            of(true, Abandoned::Killed, true),
        ] {
            assert!(
                turn_of(&other, &turns).await.unwrap().is_none(),
                "{other:?}"
            );
        }
        drop(first);
        assert!(turn_of(&reads, &turns).await.unwrap().is_some());
    }

    /// A client that has left must not keep others waiting.
    #[tokio::test]
    async fn a_command_for_whose_turn_nobody_waits_any_more_is_not_run() {
        let dir = tempfile::tempdir().unwrap();
        let (commands, reports) = without_supervisors(dir.path(), Known::default()).await;
        route(&commands, reports);
        let requests = Requests::new(commands.clone());
        let all = requests.turns.clone();
        let all = all.acquire_many(4).await.unwrap();
        let reads = || Order {
            takes_turn: true,
            ..order()
        };
        drop(requests.run(reads()));
        requests.running.close();
        requests.running.wait().await;
        assert_eq!(commands.next.load(Ordering::Relaxed), 0);
        requests.running.reopen();
        // No supervisor can be started for the command.
        let waits = requests.run(reads());
        drop(all);
        let error = waits.await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotConnected, "{error}");
    }

    /// The files of a checkout may be restored one by one, and a filter may hang for each of them.
    #[test]
    fn all_commands_that_restore_a_checkout_have_the_same_time_in_which_they_must_end() {
        assert_eq!(left_for(None, true), None);
        let now = clock::monotonic();
        let just_now = left_for(Some(now), true).unwrap();
        assert!(just_now > Duration::ZERO && just_now <= RESTORING);
        let long_ago = now.saturating_sub(RESTORING);
        for (since, restores) in [(now, false), (long_ago, true)] {
            assert_eq!(left_for(Some(since), restores), Some(Duration::ZERO));
        }
    }
}

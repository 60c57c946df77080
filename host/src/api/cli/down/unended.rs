//! Waits for the last processes of tasks, and names those that do not end.

use std::{collections::BTreeSet, time::Duration};

use crate::{
    api::client::Client,
    app::{AppError, ErrorKind, TaskRow, Unended, processes_of, still_running, unendable_text},
    clock,
    identity::HostProcess,
    layout::Layout,
};

/// Time limit for the end of processes that were told to end, after the end of the host.
const LAST_ENDS: Duration = Duration::from_secs(15);
/// Time to the second look. Each look passes over all processes of the machine, so the pauses
/// become longer, up to [`LONGEST_PAUSE`].
const LOOK_AGAIN: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

pub(super) fn ids(rows: &[TaskRow]) -> Vec<String> {
    rows.iter().map(|row| row.id.clone()).collect()
}

/// Waits until no process of these tasks, and none that a supervisor has started, runs any more, or
/// until another host runs. Fails if a process goes on.
pub(super) async fn all_ended(client: &Client, tasks: &[String]) -> Result<(), AppError> {
    let layout: &Layout = &client.start().layout;
    let give_up = clock::monotonic() + LAST_ENDS;
    let mut pause = LOOK_AGAIN;
    loop {
        if HostProcess::of(layout).is_some() {
            return Ok(());
        }
        let leaders = still_running(layout)?;
        let processes = processes_of(layout, tasks.to_vec()).await?;
        if leaders.is_empty() && processes.is_empty() {
            return Ok(());
        }
        let left = give_up.saturating_sub(clock::monotonic());
        if left.is_zero() {
            return Err(not_ended(&leaders, processes));
        }
        clock::sleep(pause.min(left)).await;
        pause = after(pause);
    }
}

fn after(pause: Duration) -> Duration {
    (2 * pause).min(LONGEST_PAUSE)
}

/// The error if processes go on although everything was told to end.
fn not_ended(leaders: &[u32], mut processes: Vec<Unended>) -> AppError {
    let of_tasks = processes.iter().map(|one| one.pid);
    let mut pids: BTreeSet<u32> = leaders.iter().copied().chain(of_tasks).collect();
    let joined = |pids: &BTreeSet<u32>, between: &str| {
        let pids: Vec<String> = pids.iter().map(ToString::to_string).collect();
        pids.join(between)
    };
    let message = format!(
        "the host has ended, but these processes have not: {}",
        joined(&pids, ", ")
    );
    processes.retain(Unended::cannot_be_ended);
    for stuck in &processes {
        pids.remove(&stuck.pid);
    }
    let them = if processes.is_empty() {
        "them"
    } else {
        "the others"
    };
    let others = joined(&pids, " ");
    let kill = (!pids.is_empty()).then(|| format!("`kill -KILL {others}` ends {them}"));
    let hints: Vec<String> = unendable_text(&processes).into_iter().chain(kill).collect();
    AppError::new(ErrorKind::Unavailable, message).hint(hints.join("; "))
}

/// The error if tasks do not end because their processes cannot be ended. `said` names both.
pub(super) fn held_up_by(said: String) -> AppError {
    AppError::new(ErrorKind::Unavailable, said)
        .hint("the host ends as it was asked to once they have ended; `claudine up` keeps it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_looks_are_taken_at_processes_that_do_not_end() {
        let pauses = std::iter::successors(Some(LOOK_AGAIN), |pause| Some(after(*pause)));
        let waited = pauses.scan(Duration::ZERO, |waited, pause| {
            *waited += pause;
            Some(*waited)
        });
        let looks = waited.take_while(|waited| *waited < LAST_ENDS).count();
        assert!((10..=20).contains(&looks), "{looks}");
    }

    #[test]
    fn a_kill_is_advised_only_for_processes_that_it_can_end() {
        let check = |leaders: &[u32], processes: &[Unended], message: &str, hints: &[&str]| {
            let error = not_ended(leaders, processes.to_vec());
            assert!(error.message.ends_with(message), "{}", error.message);
            let found = error.hint.unwrap_or_default();
            assert!(hints.iter().all(|hint| found.contains(hint)), "{found}");
            let is_stuck = processes.iter().any(Unended::cannot_be_ended);
            assert_eq!(found.contains("cannot be ended"), is_stuck, "{found}");
        };
        let stuck = Unended::sample(8, 'D');
        check(&[7, 9], &[], ": 7, 9", &["`kill -KILL 7 9` ends them"]);
        let living = Unended::sample(7, 'S');
        check(&[7], &[living], ": 7", &["`kill -KILL 7` ends them"]);
        let one = "process 8 cannot be ended now";
        check(&[8], std::slice::from_ref(&stuck), ": 8", &[one]);
        let kill = "`kill -KILL 7` ends the others";
        check(&[7], &[stuck], ": 7, 8", &[one, kill]);
        let two = [Unended::sample(8, 'D'), Unended::sample(9, 'D')];
        check(&[], &two, ": 8, 9", &["processes 8, 9 cannot be ended now"]);
    }
}

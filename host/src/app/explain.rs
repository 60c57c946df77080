//! `why`: what a task waits for, in words. A pure function of the task and of what the engine last knew.

use claudine_domain::{
    attempt::{Phase, StopWhy},
    board::Lane,
    capacity::Refusal,
    task::{State, Task, WaitingFor},
    time::Timestamp,
};

use super::view::Why;
use crate::{clock::rfc3339, engine::Snapshot};

const GIB: f64 = (1u64 << 30) as f64;
const MIB: f64 = (1u64 << 20) as f64;

/// `held_back`: why the output of its attempt cannot be written.
pub(super) fn why(task: &Task, snapshot: &Snapshot, held_back: Option<String>) -> Why {
    let (since, reasons) = match &task.state {
        State::Done {
            at,
            outcome,
            reason,
        } => {
            let detail = reason.as_ref().map_or(String::new(), |reason| {
                format!(": {} ({})", reason.message, reason.class.as_str())
            });
            (
                *at,
                vec![format!("it is done: {}{detail}", outcome.as_str())],
            )
        }
        State::Waiting {
            until,
            why: WaitingFor::Account(_),
        } => (
            task.last_attempt()
                .and_then(|attempt| attempt.ended.as_ref())
                .map_or(task.created_at, |ended| ended.at),
            vec![format!(
                "its account is at a usage limit until {}",
                rfc3339(*until)
            )],
        ),
        State::Ready { since }
        | State::Running {
            phase: Phase::Assigned,
            since,
        } => (*since, queued(task, snapshot)),
        State::Running { phase, since } => {
            let held = held_back
                .map(|why| format!("it is held back until its output can be written: {why}"));
            (
                *since,
                std::iter::once(running(phase)).chain(held).collect(),
            )
        }
    };
    Why {
        id: task.id.to_string(),
        state: task.state.as_str().to_owned(),
        since: since_text(since),
        reasons,
    }
}

fn since_text(since: Timestamp) -> String {
    rfc3339(since)
}

fn running(phase: &Phase) -> String {
    match phase {
        Phase::Assigned | Phase::Starting => "it is starting: no sign of life yet".to_owned(),
        Phase::Live => "it is running".to_owned(),
        Phase::Stopping(why) => format!("it is stopping: {}", stop_word(why)),
        Phase::Finishing => {
            "its executor has answered; the last output is read and what is left of it is ended"
                .to_owned()
        }
    }
}

fn stop_word(why: &StopWhy) -> String {
    match why {
        StopWhy::Cancelled {
            reason: Some(reason),
        } => format!("cancelled ({reason})"),
        StopWhy::Cancelled { reason: None } => "cancelled".to_owned(),
        StopWhy::Timeout => "it ran longer than its timeout".to_owned(),
        StopWhy::StartTimeout => "it gave no sign of life in time".to_owned(),
        StopWhy::IdleTimeout => "it gave no output for too long".to_owned(),
    }
}

fn queued(task: &Task, snapshot: &Snapshot) -> Vec<String> {
    if snapshot.draining {
        return vec!["the host is going down and starts nothing new".to_owned()];
    }
    let lane = Lane::of(task);
    let refusal = snapshot
        .refusals
        .iter()
        .find(|(refused, _)| *refused == lane)
        .map(|(_, refusal)| refusal);
    match refusal {
        Some(refusal) => vec![refusal_text(refusal)],
        None => vec!["it is about to start".to_owned()],
    }
}

pub(super) fn refusal_text(refusal: &Refusal) -> String {
    match refusal {
        Refusal::Slots { running, slots } => format!("all slots are taken: {running} of {slots}"),
        Refusal::Cpu { in_use, needed, allowed } => format!(
            "CPU: {in_use:.2} cores are in use or about to be, {needed:.2} more would pass the {allowed:.2} that are allowed"
        ),
        Refusal::Memory { free_bytes, needed_bytes, reserve_bytes } => format!(
            "memory: {:.2} GiB are free, {:.0} MiB would be needed and {:.2} GiB are kept back",
            *free_bytes as f64 / GIB,
            *needed_bytes as f64 / MIB,
            *reserve_bytes as f64 / GIB
        ),
        Refusal::NeverFits { needed_bytes, total_bytes } => format!(
            "memory: it is expected to need {:.2} GiB and the machine has {:.2} GiB, so it can never start here",
            *needed_bytes as f64 / GIB,
            *total_bytes as f64 / GIB
        ),
        Refusal::MemoryStall { percent } => {
            format!("memory pressure: {percent:.0} % of the last ten seconds were spent waiting for memory")
        }
        Refusal::Disk { free_bytes, reserve_bytes } => format!(
            "disk: {:.2} GiB are free and {:.2} GiB are kept back (DISK_RESERVE)",
            *free_bytes as f64 / GIB,
            *reserve_bytes as f64 / GIB
        ),
        Refusal::SerialStart { .. } => {
            "another attempt with the same configuration directory is just starting; they start one at a time".to_owned()
        }
        Refusal::Probing { .. } => {
            "its account was at a usage limit; one attempt goes first to see whether the limit is over".to_owned()
        }
        Refusal::NoReading => "the machine has not been read yet".to_owned(),
    }
}

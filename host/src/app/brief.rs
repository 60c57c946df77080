//! A short form of `why` for a progress line: what a task waits for.

use claudine_domain::{
    capacity::Refusal,
    task::{State, Task, WaitingFor},
};

use super::{
    explain::{InTheWay, is_queued},
    present::held_by,
};
use crate::text::short_id;

const GIB: f64 = (1u64 << 30) as f64;

/// The reason why the task waits. `None` if it is running, has ended or is about to start.
pub(super) fn brief(task: &Task, in_the_way: &InTheWay) -> Option<String> {
    let queue = &in_the_way.queue;
    if queue.no_host && !task.is_done() {
        return Some("no host is running".to_owned());
    }
    match &task.state {
        State::Blocked { .. } => {
            let (_, first) = in_the_way.upstream.first()?;
            let more = in_the_way.upstream.len() - 1 + in_the_way.more_upstream;
            let more = match more {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            Some(format!("waits for {}{more}", called(first)))
        }
        State::Held { .. } => Some(format!("held by {}", held_by(task))),
        State::Waiting { why, .. } => Some(match why {
            WaitingFor::Account(_) => match &in_the_way.limit {
                Some(limit) => limit.clone(),
                None => "usage limit".to_owned(),
            },
            WaitingFor::StartTime => "waits for its start time".to_owned(),
            WaitingFor::Retry => "waits for its next attempt".to_owned(),
        }),
        _ if !is_queued(task) => None,
        _ if queue.paused_since.is_some() => Some("queue paused".to_owned()),
        _ if queue.draining => Some("host draining".to_owned()),
        _ => in_the_way.refusal.as_ref().map(refused),
    }
}

fn called(task: &Task) -> String {
    let name = task.request.name.clone();
    name.unwrap_or_else(|| short_id(&task.id.to_string()).to_owned())
}

fn refused(refusal: &Refusal) -> String {
    match refusal {
        Refusal::Slots { running, slots } => format!("slots full ({running} of {slots})"),
        Refusal::Cpu {
            in_use, allowed, ..
        } => format!("CPU busy ({in_use:.1} of {allowed:.1} cores)"),
        Refusal::Memory {
            free_bytes,
            needed_bytes,
            reserve_bytes,
        } => format!(
            "memory short ({:.1} GiB free, {:.1} GiB needed)",
            *free_bytes as f64 / GIB,
            needed_bytes.saturating_add(*reserve_bytes) as f64 / GIB
        ),
        Refusal::NeverFits { .. } => "needs more memory than the machine has".to_owned(),
        Refusal::MemoryStall { percent } => format!("memory pressure ({percent:.0} %)"),
        Refusal::Ramp { settling } => format!("{settling} others are just starting"),
        Refusal::Preparing { preparing, .. } => format!("{preparing} others are being prepared"),
        Refusal::Disk { free_bytes, .. } => {
            format!("disk full ({:.1} GiB free)", *free_bytes as f64 / GIB)
        }
        Refusal::Inodes { free } => format!("disk full ({free} inodes free)"),
        Refusal::Group {
            group,
            running,
            most,
        } => format!("group {group} full ({running} of {most})"),
        Refusal::GroupPaused { group } => format!("group {group} paused"),
        Refusal::Paused { .. } => "queue paused".to_owned(),
        Refusal::DailyBudget { level, .. } => format!("budget of the day spent ({level})"),
        Refusal::SerialStart { .. } => "another agent is starting".to_owned(),
        Refusal::Probing { .. } => "usage limit, another task tries first".to_owned(),
        Refusal::NoReading => "machine not read yet".to_owned(),
        Refusal::NoRoom => "no room for another process".to_owned(),
        Refusal::EndsFirst { .. } => "the costs of ended agents are recorded first".to_owned(),
        Refusal::NoCode { executor, .. } => format!("plugin {executor} cannot be used now"),
    }
}

#[cfg(test)]
mod tests {
    use claudine_domain::{dependency::Condition, time::Timestamp};

    use super::{super::queue_view::QueueView, *};
    use crate::store::sample_task;

    fn after(names: &[&str], more: usize) -> InTheWay {
        let upstream = names.iter().map(|name| {
            let mut task = sample_task(2);
            std::sync::Arc::make_mut(&mut task.request).name = Some((*name).to_owned());
            (Condition::Succeeded, task)
        });
        InTheWay {
            upstream: upstream.collect(),
            more_upstream: more,
            ..InTheWay::default()
        }
    }

    fn refused_by(refusal: Refusal) -> InTheWay {
        InTheWay {
            refusal: Some(refusal),
            ..InTheWay::default()
        }
    }

    #[test]
    fn the_short_form_names_the_most_important_reason() {
        let check = |state: State, in_the_way: InTheWay, expected: Option<&str>| {
            let mut task = sample_task(1);
            task.state = state;
            assert_eq!(brief(&task, &in_the_way).as_deref(), expected);
        };
        let since = Timestamp(0);
        let ready = || State::Ready { since, clock: None };
        let busy = Refusal::Cpu {
            in_use: 2.14,
            needed: 0.5,
            allowed: 1.6,
            cores: 2.0,
        };
        check(ready(), InTheWay::default(), None);
        check(
            ready(),
            refused_by(busy.clone()),
            Some("CPU busy (2.1 of 1.6 cores)"),
        );
        let full = Refusal::Group {
            group: "gpu".to_owned(),
            running: 1,
            most: 1,
        };
        check(ready(), refused_by(full), Some("group gpu full (1 of 1)"));
        let paused = InTheWay {
            queue: QueueView {
                paused_since: Some(String::new()),
                ..QueueView::default()
            },
            ..refused_by(busy.clone())
        };
        check(ready(), paused, Some("queue paused"));
        let no_host = InTheWay {
            queue: QueueView {
                no_host: true,
                ..QueueView::default()
            },
            ..refused_by(busy)
        };
        check(ready(), no_host, Some("no host is running"));
        let blocked = || State::Blocked { since };
        check(blocked(), after(&["b"], 0), Some("waits for b"));
        check(
            blocked(),
            after(&["b", "c"], 3),
            Some("waits for b and 4 more"),
        );
        check(blocked(), InTheWay::default(), None);
        check(
            State::Held { since },
            InTheWay::default(),
            Some("held by owner"),
        );
    }
}

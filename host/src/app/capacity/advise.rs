//! Advice on how to run more tasks, in sentences: one for each class, and more if slots or
//! processors are the reason why tasks wait.

use claudine_domain::capacity::{Refusal, Slots};

use super::{ClassView, Room};
use crate::engine::CapacityNow;

const GIB: f64 = (1u64 << 30) as f64;
const MIB: f64 = (1u64 << 20) as f64;
/// Additional memory that the advice assumes.
const MORE_BYTES: u64 = 4 << 30;

/// Maximum number of classes in the advice. Classes with running attempts come first, then the
/// classes measured last.
const CLASSES: usize = 8;

pub(super) fn advice(now: &CapacityNow, rooms: &[Room]) -> Vec<String> {
    let mut newest: Vec<&Room> = rooms.iter().collect();
    newest.sort_by_key(|room| {
        let class = &room.class;
        (
            class.running == 0,
            std::cmp::Reverse(class.taught_at.clone()),
        )
    });
    let mut advice: Vec<String> = newest
        .iter()
        .take(CLASSES)
        .map(|room| of_class(room))
        .collect();
    advice.extend(of_slots(now));
    advice.extend(of_processors(now));
    advice
}

fn of_class(Room { class, then }: &Room) -> String {
    let name = name(class);
    let memory = size(class.expected_memory_bytes);
    let cores = class.expected_cores;
    if !class.is_trusted {
        let (samples, enough) = (class.samples, class.enough);
        return format!(
            "`{name}`: {samples} of {enough} attempts measured; until then each counts for {memory} and {cores:.2} cores"
        );
    }
    let more = class.more;
    let now =
        format!("P95 of `{name}` is {memory} and {cores:.2} cores: {more} more would start now");
    let with_more = MORE_BYTES / class.expected_memory_bytes.max(1);
    match then {
        Some(Refusal::Memory { .. }) if with_more > 0 => {
            let more_memory = size(MORE_BYTES);
            format!("{now}, and {with_more} further tasks would fit with {more_memory} more memory")
        }
        Some(Refusal::NeverFits { .. }) => {
            format!(
                "{now}, because one task needs more memory than the machine has. `claudine capacity --forget {}` discards the measurements",
                class.executor
            )
        }
        _ => now,
    }
}

/// Says how many more tasks the machine could run, if a fixed number of slots keeps tasks waiting.
fn of_slots(now: &CapacityNow) -> Option<String> {
    let Slots::Fixed(slots) = now.capacity.limits.slots else {
        return None;
    };
    let full = |refusal: &Refusal| matches!(refusal, Refusal::Slots { .. });
    let (lane, _) = now.refusals.iter().find(|(_, refusal)| full(refusal))?;
    let mut unlimited = now.capacity.clone();
    unlimited.limits.slots = Slots::Auto;
    let (more, _) = unlimited.room(&lane.profile, now.slots_in_use);
    let (executor, enough) = (&lane.profile.executor, slots as usize + more);
    (more > 0).then(|| {
        format!(
            "all {slots} slots are taken, and the machine has room for {more} more `{executor}`: `claudine slots {enough}`, or `claudine slots auto`"
        )
    })
}

fn of_processors(now: &CapacityNow) -> Option<String> {
    let mut refusals = now.refusals.iter();
    let (_, refusal) = refusals.find(|(_, by)| matches!(by, Refusal::Cpu { .. }))?;
    let Refusal::Cpu { allowed, .. } = refusal else {
        return None;
    };
    let percent = now.capacity.limits.cpu_percent;
    Some(format!(
        "work waits for processors, of which {allowed:.2} cores may be used: `claudine slots N` starts N at once, however busy the processors are, and CLAUDINE_CPU_THRESHOLD above {percent:.0} allows more"
    ))
}

fn name(class: &ClassView) -> String {
    let labels = class.labels.iter();
    let labels = labels.map(|(name, value)| format!(" {name}={value}"));
    std::iter::once(class.executor.clone())
        .chain(labels)
        .collect()
}

fn size(bytes: u64) -> String {
    let bytes = bytes as f64;
    if bytes >= GIB {
        format!("{:.1} GiB", bytes / GIB)
    } else {
        format!("{:.0} MiB", bytes / MIB)
    }
}

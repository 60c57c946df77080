//! `claudine capacity`

use std::{collections::BTreeMap, process::ExitCode};

use clap::Args;
use claudine_domain::{
    capacity::{PATIENCE, SMALL_CORES},
    time::Timestamp,
};

use super::{
    failure::Failure,
    output,
    session::Session,
    table::{Cell, Column, Goes, Table},
    terminal::{Colour, Look, Painted},
    text,
};
use crate::app::{CapacityView, ClassView, RefusalView};

/// Show free capacity, measured usage, and what limits concurrency.
///
/// With `auto` slots a task starts if its expected usage fits: the 95th percentile of earlier
/// attempts of its class. A class is an executor with a set of labels, so give similar tasks the
/// same labels (`--label kind=build`). A labelled class is measured after five attempts, an
/// executor after twenty; until then an estimate is used.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  claudine capacity
  claudine capacity --json | jq '.classes[] | [.executor, .memory_bytes.p95]'
  claudine capacity --forget shell")]
pub(super) struct Capacity {
    /// Discard the measurements of this executor, then show the capacity.
    #[arg(long, value_name = "EXECUTOR")]
    forget: Option<String>,
}

impl Capacity {
    pub(super) async fn run(self, session: &Session) -> Result<ExitCode, Failure> {
        let client = session.client();
        let view = match self.forget {
            Some(executor) => client.forget_profiles(executor).await?,
            None => client.capacity().await?,
        };
        if session.json {
            output::json(&view)?;
        } else {
            super::pause::say_head(&view.queue);
            output::painted(&shown(&view, Look::of_stdout(), text::now()))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn shown(view: &CapacityView, look: Look, now: Timestamp) -> Painted {
    let mut shown = Painted::default();
    add_lines(&mut shown, machine(view), look);
    let classes = classes(view, look);
    if !classes.as_str().is_empty() {
        shown.push("\n");
        shown.append(&classes);
    }
    let mut section = |heading: &str, of_it: Vec<String>| {
        if !of_it.is_empty() {
            shown.push("\n");
            look.paint(&mut shown, Colour::Grey, heading);
            shown.push("\n");
            add_lines(&mut shown, of_it, look);
        }
    };
    let refusals = view.refusals.iter();
    section("HELD BACK", refusals.map(|it| refusal(it, now)).collect());
    let advice = view.advice.iter();
    section("ADVICE", advice.map(|it| format!("  {it}")).collect());
    shown
}

/// Indentation of the continuation lines of a long line.
const INDENT: usize = 8;

fn add_lines(shown: &mut Painted, lines: Vec<String>, look: Look) {
    for line in lines {
        look.prose(shown, &line, INDENT);
    }
}

fn machine(view: &CapacityView) -> Vec<String> {
    let limits = &view.limits;
    let slots = format!(
        "slots   {}: {} running, {} queued",
        view.slots, view.running, view.queued
    );
    let budget = view.budget.as_ref();
    let budget = budget.map(|budget| format!("budget  {}", text::budget(budget)));
    let slots = std::iter::once(slots).chain(budget);
    let Some(reading) = &view.reading else {
        let unread = "        the machine has not been measured yet".to_owned();
        return slots.chain([unread]).collect();
    };
    let cores = if view.slots == "auto" {
        format!(
            "above {:.2}, only tasks below {SMALL_CORES} cores start, and the first in line after {} s",
            reading.cores * limits.cpu_percent / 100.0,
            PATIENCE.as_secs()
        )
    } else {
        "not a limit with a fixed number of slots".to_owned()
    };
    let stall = reading
        .memory_stall_percent
        .map_or(String::new(), |percent| {
            format!("; {percent:.1} % of the last ten seconds spent waiting for memory")
        });
    let inodes = reading.disk_free_inodes;
    let inodes = inodes.map_or(String::new(), |free| format!("; {free} inodes free"));
    let machine = [
        format!(
            "cpu     {:.2} of {:.2} cores in use; {cores}",
            reading.cores_in_use, reading.cores
        ),
        format!(
            "memory  {} of {} free, {} reserved{stall}",
            text::bytes(reading.memory_free_bytes),
            text::bytes(reading.memory_total_bytes),
            text::bytes(limits.memory_reserve_bytes)
        ),
        format!(
            "disk    {} free, {} reserved{inodes}",
            text::bytes(reading.disk_free_bytes),
            text::bytes(limits.disk_reserve_bytes)
        ),
    ];
    slots.chain(machine).collect()
}

const COLUMNS: [Column; 10] = [
    Column::new("CLASS").cut(24, 8),
    Column::new("RUNNING").right(),
    Column::new("ROOM").right(),
    Column::new("EXPECTED").right(),
    Column::new("CORES P50").right().goes(Goes::Early(2)),
    Column::new("CORES P95").right(),
    Column::new("MEMORY P50").right().goes(Goes::Early(3)),
    Column::new("MEMORY P95").right(),
    Column::new("MEMORY MAX").right().goes(Goes::Early(4)),
    Column::new("ATTEMPTS").right().goes(Goes::Early(1)),
];

fn classes(view: &CapacityView, look: Look) -> Painted {
    let mut table = Table::new(&COLUMNS);
    for class in &view.classes {
        table.row(row(class));
    }
    table.shown(look)
}

fn row(class: &ClassView) -> [Cell; 10] {
    let room = match (class.more, &class.then) {
        (more, None) => format!(">={more}"),
        (more, Some(_)) => more.to_string(),
    };
    let guess = if class.is_trusted { "" } else { "(guess) " };
    let memory = class.memory_bytes;
    [
        name(&class.executor, &class.labels).into(),
        class.running.to_string().into(),
        room.into(),
        format!("{guess}{}", text::bytes(class.expected_memory_bytes)).into(),
        format!("{:.2}", class.cores.p50).into(),
        format!("{:.2}", class.cores.p95).into(),
        text::bytes(memory.p50).into(),
        text::bytes(memory.p95).into(),
        text::bytes(memory.max).into(),
        class.attempts.to_string().into(),
    ]
}

/// Name of a class: `claude kind=review`.
fn name(executor: &str, labels: &BTreeMap<String, String>) -> String {
    let labels = labels.iter();
    let labels = labels.map(|(name, value)| format!(" {name}={value}"));
    std::iter::once(executor.to_owned()).chain(labels).collect()
}

fn refusal(refusal: &RefusalView, now: Timestamp) -> String {
    let class = name(&refusal.executor, &refusal.labels);
    let when = if refusal.stands {
        format!("for {}", text::ago(&refusal.first, now))
    } else {
        format!("until {} ago", text::ago(&refusal.last, now))
    };
    format!("  {class}, {when}: {}", refusal.reason)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::text::columns as columns_of;

    fn view() -> CapacityView {
        let class = |labels: serde_json::Value, is_trusted: bool| {
            serde_json::json!({
                "executor": "claude", "labels": labels, "running": 2, "attempts": 42, "samples": 42, "enough": 20,
                "is_trusted": is_trusted, "taught_at": "2026-11-22T14:51:33.042Z",
                "cores": {"p50": 0.12, "p95": 0.2, "max": 1.0},
                "memory_bytes": {"p50": 480 << 20, "p95": 610 << 20, "max": 900 << 20},
                "expected_cores": 0.2, "expected_memory_bytes": 610 << 20,
                "more": 2, "then": "memory: too little",
            })
        };
        let refusal = |stands: bool| {
            serde_json::json!({
                "executor": "claude", "labels": {}, "reason": "memory: too little\u{1b}[2J", "stands": stands,
                "first": "2026-11-22T14:51:33.042Z", "last": "2026-11-22T14:52:03.042Z", "times": 30,
            })
        };
        serde_json::from_value(serde_json::json!({
            "slots": "auto", "running": 3, "queued": 12, "budget": {"spent_usd": 3.5, "daily_usd": 20.0, "left_usd": 16.5},
            "reading": {
                "cores": 2.0, "cores_in_use": 1.2, "memory_total_bytes": 8u64 << 30, "memory_free_bytes": 3u64 << 30,
                "disk_free_bytes": 33u64 << 30, "memory_stall_percent": 0.4,
            },
            "limits": {"cpu_percent": 80.0, "memory_reserve_bytes": 1 << 30, "disk_reserve_bytes": 1 << 30},
            "classes": [class(serde_json::json!({}), true), class(serde_json::json!({"kind": "review"}), false)],
            "refusals": [refusal(true), refusal(false)],
            "advice": ["P95 of `claude` is 610 MiB and 0.20 cores: 2 more would start now"],
        }))
        .unwrap()
    }

    #[test]
    fn the_view_of_the_capacity_fits_the_terminal() {
        let now = Timestamp(1_795_359_153_042);
        let at = |columns| {
            let look = Look {
                colours: false,
                columns,
            };
            let shown = shown(&view(), look, now).as_str().to_owned();
            let widest = shown.lines().map(columns_of).max();
            assert!(columns.is_none_or(|most| widest <= Some(most)), "{shown}");
            shown
        };
        insta::assert_snapshot!("capacity", at(None));
        insta::assert_snapshot!("capacity_at_80", at(Some(80)));
        insta::assert_snapshot!("capacity_at_120", at(Some(120)));
        let nothing = CapacityView {
            reading: None,
            classes: Vec::new(),
            refusals: Vec::new(),
            advice: Vec::new(),
            ..view()
        };
        let look = Look {
            colours: false,
            columns: None,
        };
        let lines = shown(&nothing, look, now).as_str().lines().count();
        assert_eq!(lines, 3);
    }
}

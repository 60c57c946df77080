//! Answers about capacity.

use std::collections::BTreeMap;

use claudine_domain::capacity::Reading;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(crate) use crate::app::view::BudgetView;
use crate::app::{queue_view::QueueView, view::slots_json};

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct CapacityView {
    /// `auto` or a number.
    #[serde(with = "slots_json")]
    #[schemars(with = "slots_json::Slots")]
    pub(crate) slots: String,
    /// The configured value, if another value was set by hand.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "slots_json::optional"
    )]
    #[schemars(with = "Option<slots_json::Slots>")]
    pub(crate) configured_slots: Option<String>,
    pub(crate) running: usize,
    pub(crate) queued: usize,
    /// Reasons why nothing in the queue starts.
    #[serde(default, skip_serializing_if = "QueueView::is_open")]
    pub(crate) queue: QueueView,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reading: Option<ReadingView>,
    /// Budget of agents for today (UTC), if `budget.daily_usd` is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) budget: Option<BudgetView>,
    pub(crate) limits: LimitsView,
    /// Measurements by executor and labels.
    pub(crate) classes: Vec<ClassView>,
    /// The last refusals, newest first.
    pub(crate) refusals: Vec<RefusalView>,
    /// Advice on how to run more tasks.
    pub(crate) advice: Vec<String>,
}

/// Readings of the machine, or of the part of it that control groups allow the host to use.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct ReadingView {
    pub(crate) cores: f64,
    pub(crate) cores_in_use: f64,
    pub(crate) memory_total_bytes: u64,
    pub(crate) memory_free_bytes: u64,
    pub(crate) disk_free_bytes: u64,
    /// Number of free inodes; absent unless they are too few for another task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) disk_free_inodes: Option<u64>,
    /// Percentage of time spent waiting for memory; absent if the kernel does not report it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) memory_stall_percent: Option<f64>,
}

impl ReadingView {
    pub(super) fn of(reading: &Reading) -> Self {
        Self {
            cores: reading.cores,
            cores_in_use: reading.cores_in_use,
            memory_total_bytes: reading.memory_total_bytes,
            memory_free_bytes: reading.memory_free_bytes,
            disk_free_bytes: reading.disk_free_bytes,
            disk_free_inodes: reading.too_few_inodes,
            memory_stall_percent: reading.memory_stall_percent,
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct LimitsView {
    pub(crate) cpu_percent: f64,
    pub(crate) memory_reserve_bytes: u64,
    pub(crate) disk_reserve_bytes: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct ClassView {
    pub(crate) executor: String,
    /// Labels of the attempts; empty for all attempts of the executor.
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) running: u32,
    /// Number of attempts measured so far; `samples` of them are still used.
    pub(crate) attempts: u64,
    pub(crate) samples: usize,
    /// Number of samples that are needed before the measurements are used. `is_trusted` is set once
    /// this number is reached.
    pub(crate) enough: usize,
    pub(crate) is_trusted: bool,
    #[schemars(extend("format" = "date-time"))]
    pub(crate) taught_at: String,
    pub(crate) cores: Spread<f64>,
    pub(crate) memory_bytes: Spread<u64>,
    /// Expected usage of the next attempt.
    pub(crate) expected_cores: f64,
    pub(crate) expected_memory_bytes: u64,
    /// Number of tasks that would start now, and the reason why no more would start.
    pub(crate) more: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) then: Option<String>,
}

/// Median, 95th percentile and maximum.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Spread<T> {
    pub(crate) p50: T,
    pub(crate) p95: T,
    pub(crate) max: T,
}

impl<T> Spread<T> {
    pub(super) fn of(percentile: impl Fn(usize) -> T) -> Self {
        Self {
            p50: percentile(50),
            p95: percentile(95),
            max: percentile(100),
        }
    }
}

/// Tasks held back for one reason.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct RefusalView {
    pub(crate) executor: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) reason: String,
    /// Whether tasks are held back now.
    pub(crate) stands: bool,
    #[schemars(extend("format" = "date-time"))]
    pub(crate) first: String,
    #[schemars(extend("format" = "date-time"))]
    pub(crate) last: String,
    /// Number of admission rounds with this refusal.
    pub(crate) times: u64,
}

/// The limit of concurrent tasks, and the current numbers.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(crate) struct SlotsView {
    /// `auto` or a number.
    #[serde(with = "slots_json")]
    #[schemars(with = "slots_json::Slots")]
    pub(crate) slots: String,
    /// The configured value, if another value was set by hand.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "slots_json::optional"
    )]
    #[schemars(with = "Option<slots_json::Slots>")]
    pub(crate) configured_slots: Option<String>,
    pub(crate) running: usize,
    pub(crate) queued: usize,
}

impl From<CapacityView> for SlotsView {
    fn from(view: CapacityView) -> Self {
        Self {
            slots: view.slots,
            configured_slots: view.configured_slots,
            running: view.running,
            queued: view.queued,
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SetSlots {
    /// `auto`, a number from 1 to 10000, or `default` for the configured value.
    pub(crate) slots: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ForgetProfiles {
    pub(crate) executor: String,
}

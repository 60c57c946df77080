//! Budgets of tasks, and the amounts that were spent.
//!
//! A task's budget is stored in its request, and its spending is stored in its attempts. The
//! spending of a graph or a day is kept in a ledger, since finished tasks are not on the board. A
//! cost is added to the ledger in the transaction that stores the cost. A task's own budget applies
//! to every executor that reports costs; the budgets of graphs and days apply only to agents.
//!
//! At its start, an attempt receives the smallest amount that is left of any of its budgets.
//! Nothing is reserved, so if several agents run at the same time, each may spend the whole amount
//! that was left at its start.
//!
//! If an agent's attempt ends without a reported cost, it is charged the amount that it received.
//! Otherwise an attempt whose last report is lost would be free, and repeating it would exceed
//! every budget. An exception is a person's own task that has only the budget of the day: it is
//! charged what it has reported, and its cost is unknown. Otherwise all agents would have to wait
//! for the next day after a crash. Such a task is retried automatically only the next day, since
//! each retry would receive the rest of the day again.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{id::TaskId, time::Timestamp};

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// Days since 1970 in UTC.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Day(pub u64);

impl Day {
    pub fn of(at: Timestamp) -> Self {
        Self(at.0 / DAY_MS)
    }

    pub fn end(self) -> Timestamp {
        Timestamp(self.0.saturating_add(1).saturating_mul(DAY_MS))
    }
}

/// Day or graph of which the ledger has a sum.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    Day(Day),
    /// The tasks of one submission, and all tasks that these tasks submit. The id is the id of the
    /// first task.
    Graph(TaskId),
}

impl Scope {
    /// Whether the day had ended, or the graph had begun, before the given time.
    pub fn began_before(self, at: Timestamp) -> bool {
        match self {
            Self::Day(day) => day < Day::of(at),
            Self::Graph(task) => task < TaskId::new(at.0, 0),
        }
    }
}

/// Budget that the tasks of a graph share.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct GraphBudget {
    pub graph: TaskId,
    pub micro_usd: u64,
}

/// A budget and the amount spent of it, in millionths of a US dollar.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Level {
    pub spent_micro_usd: u64,
    pub budget_micro_usd: u64,
}

impl Level {
    /// Whether nothing is left of the budget.
    pub fn is_spent(self) -> bool {
        self.left_micro_usd() == 0
    }

    pub fn left_micro_usd(self) -> u64 {
        self.budget_micro_usd.saturating_sub(self.spent_micro_usd)
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "${} of ${}",
            Usd(self.spent_micro_usd),
            Usd(self.budget_micro_usd)
        )
    }
}

/// A budget of which nothing is left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Spent {
    Task(Level),
    Graph(TaskId, Level),
    Day(Level),
}

impl fmt::Display for Spent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Task(level) => write!(f, "the task has spent {level}"),
            Self::Graph(_, level) => write!(f, "the task's graph has spent {level}"),
            Self::Day(level) => write!(f, "the day's tasks have spent {level}"),
        }
    }
}

/// An amount in millionths of a US dollar, shown with at least two decimals and without trailing
/// zeros after the second.
pub struct Usd(pub u64);

impl fmt::Display for Usd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{}.{:06}", self.0 / 1_000_000, self.0 % 1_000_000);
        let cents = text.len() - 4;
        let shown = text.trim_end_matches('0').len().max(cents);
        f.write_str(text.get(..shown).unwrap_or(&text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_always_show_cents_and_show_smaller_digits_only_if_not_zero() {
        let check = |micro, expected: &str| assert_eq!(Usd(micro).to_string(), expected);
        check(0, "0.00");
        check(1_500_000, "1.50");
        check(800, "0.0008");
        check(12_000_000, "12.00");
        check(1, "0.000001");
    }

    #[test]
    fn a_day_ends_when_the_next_begins() {
        let day = Day::of(Timestamp(DAY_MS - 1));
        assert_eq!((day, day.end()), (Day(0), Timestamp(DAY_MS)));
        assert_eq!(Day::of(day.end()), Day(1));
    }
}

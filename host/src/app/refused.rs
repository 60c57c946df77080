//! What helps after a refusal by the engine.

use claudine_domain::{budget::Spent, step::Refused};

/// The way out of a refusal. `None` if the message tells it, or if it depends on the request.
pub(super) fn way_out_of(refused: &Refused) -> Option<String> {
    let text = match refused {
        Refused::AlreadyDone { task, .. } | Refused::NotFailedByMerge { task } => {
            return Some(format!("`claudine status {task:#}` shows how it ended"));
        }
        Refused::Unknown { .. } => "`claudine list` lists the tasks",
        Refused::NotDone { task, state } => {
            return Some(match *state {
                "held" => format!("a person can release it with `claudine release {task:#}`"),
                "running" => format!(
                    "`claudine wait {task:#}` waits for its end, `claudine cancel {task:#}` ends it"
                ),
                _ => format!("it starts by itself: `claudine why {task:#}` says what it waits for"),
            });
        }
        Refused::IdempotencyConflict { .. } => {
            "give this request a key of its own, or repeat the earlier request unchanged"
        }
        Refused::KeyTwice { .. } => "give each task a key of its own",
        Refused::TooDeep { .. } => "let a task that is nested less deeply submit it",
        Refused::TooManyDescendants { .. } => "wait until some of them have ended, or cancel some",
        Refused::QueueFull { .. } => {
            "wait until some of them have ended, or cancel some: `claudine list` lists them"
        }
        Refused::TooManyDependencies { .. } => {
            "let it depend on a further task that depends on some of the others"
        }
        Refused::NoGroup { .. } => {
            "leave the group out, or name another one: `claudine group list` lists the groups"
        }
        Refused::GroupInUse { .. } => "wait until they have ended, or cancel them",
        Refused::TwoConditions { .. } => "name each dependency once",
        Refused::Cycle { .. } => "leave out one of these dependencies",
        Refused::OverBudget {
            spent: Spent::Day(_),
            ..
        } => {
            "the next day (UTC) has a new budget; a person can raise budget.daily_usd in the \
             configuration file"
        }
        Refused::NotQueued { task, .. } => {
            return Some(format!(
                "a task can be held until it starts; `claudine cancel {task:#}` ends it"
            ));
        }
        Refused::NotHeld { task, .. } => {
            return Some(format!("`claudine why {task:#}` says what it waits for"));
        }
        Refused::HeldByOthers { task, .. } => {
            return Some(format!(
                "a person can release it with `claudine release {task:#}`"
            ));
        }
        // The caller knows the command that gives the task more; the other messages say what to do.
        Refused::OverBudget { .. }
        | Refused::TooManyGroups { .. }
        | Refused::TooManyAttempts { .. }
        | Refused::Moved { .. }
        | Refused::UpstreamStands { .. }
        | Refused::NothingToResume { .. } => return None,
    };
    Some(text.to_owned())
}

#[cfg(test)]
mod tests {
    use claudine_domain::{budget::Level, id::TaskId, outcome::Outcome};

    use super::*;

    #[test]
    fn each_refusal_says_what_to_do_in_its_message_or_its_hint() {
        let task = TaskId::new(1, 1);
        let state = "running";
        let level = Level {
            spent_micro_usd: 1,
            budget_micro_usd: 1,
        };
        let limit = 1;
        let text = String::new;
        let with_hint = [
            Refused::AlreadyDone {
                task,
                outcome: Outcome::Succeeded,
            },
            Refused::Unknown { task },
            Refused::IdempotencyConflict { key: text(), task },
            Refused::KeyTwice { key: text() },
            Refused::TooDeep { depth: 2, limit },
            Refused::TooManyDescendants {
                ancestor: task,
                limit,
            },
            Refused::QueueFull { limit },
            Refused::TooManyDependencies {
                task,
                count: 2,
                limit,
            },
            Refused::NoGroup { name: text() },
            Refused::GroupInUse {
                name: text(),
                tasks: 1,
            },
            Refused::TwoConditions {
                task,
                upstream: task,
            },
            Refused::Cycle { path: vec![task] },
            Refused::NotFailedByMerge { task },
            Refused::OverBudget {
                task,
                spent: Spent::Day(level),
            },
            Refused::NotQueued { task, state },
            Refused::NotHeld { task, state },
            Refused::HeldByOthers {
                task,
                holders: Vec::new(),
            },
        ];
        for refused in with_hint {
            assert!(way_out_of(&refused).is_some(), "{refused}");
        }
        for (state, expected) in [
            ("blocked", "claudine why"),
            ("waiting", "claudine why"),
            ("ready", "claudine why"),
            ("running", "claudine cancel"),
            ("held", "claudine release"),
        ] {
            let hint = way_out_of(&Refused::NotDone { task, state }).unwrap_or_default();
            assert!(hint.contains(expected), "{state}: {hint}");
        }
        let told = [
            (Refused::TooManyGroups { limit }, "remove one first"),
            (Refused::TooManyAttempts { task, limit }, "submit the task"),
            (Refused::Moved { task }, "try again"),
            (
                Refused::UpstreamStands {
                    task,
                    culprit: task,
                },
                "retry ",
            ),
            (Refused::NothingToResume { task }, "retry the task"),
        ];
        for (refused, expected) in told {
            assert_eq!(way_out_of(&refused), None, "{refused}");
            assert!(refused.to_string().contains(expected), "{refused}");
        }
    }
}

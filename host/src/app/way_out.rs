//! If a finished task lacked budget, time, turns or allowed tools, suggests a command that
//! continues the task with more of them.

use claudine_domain::{
    budget::{Level, Spent, Usd},
    outcome::{IDLE_TIMEOUT, Outcome, QUEUE_TIMEOUT, ReasonClass, TIMEOUT, TIMEOUT_BEFORE_START},
    step::spent_by,
    task::{Class, Request, State, Task},
};
use serde_json::Value;

use super::check::TIMEOUT_MAX;
use crate::{text::shell_word, units::duration_word};

/// Maximum number of suggested rules. If there are more, the whole tool `Bash` is suggested in
/// place of single commands.
const MOST_COMMANDS: usize = 6;

/// Data of a finished task that determines the suggestion.
pub(super) struct Left<'a> {
    pub(super) task: &'a Task,
    pub(super) spec: Option<&'a Value>,
    pub(super) outputs: Option<&'a Value>,
    /// Budget of the task's graph, and the amount spent.
    pub(super) graph: Option<Level>,
}

/// The suggested command, if a command would help.
pub(super) fn way_out(left: &Left<'_>) -> Option<String> {
    let State::Done {
        outcome, reason, ..
    } = &left.task.state
    else {
        return None;
    };
    let class = reason.as_ref().map(|reason| reason.class);
    let options = match (outcome, class) {
        (_, Some(ReasonClass::Budget)) => of_budget(left)?,
        (_, Some(ReasonClass::MaxTurns)) => {
            let turns = left.spec?.get("max_turns")?.as_u64()?;
            format!("--max-turns {}", turns.saturating_mul(2))
        }
        (Outcome::TimedOut, _) => of_limit(&left.task.request, &reason.as_ref()?.message)?,
        (Outcome::Succeeded | Outcome::Failed, _) => {
            let tools = allowed(left.spec?, denied(left.outputs?))?;
            format!("--allowed-tools {}", shell_word(&tools))
        }
        _ => return None,
    };
    let began = left.task.attempts.iter().any(|it| it.started_at.is_some());
    let is_agent = left.task.request.class == Class::Agent;
    let verb = if began && is_agent { "resume" } else { "retry" };
    Some(format!("claudine {verb} {:#} {options}", left.task.id))
}

/// The option that doubles the time limit that ended the task. `None` if the limit is not the
/// task's own, or cannot be higher.
fn of_limit(request: &Request, message: &str) -> Option<String> {
    let (option, limit) = match message {
        TIMEOUT | TIMEOUT_BEFORE_START => ("--timeout", request.timeout?),
        IDLE_TIMEOUT => ("--idle-timeout", request.idle_timeout?),
        QUEUE_TIMEOUT => ("--queue-timeout", request.queue_timeout?),
        _ => return None,
    };
    let more = limit.saturating_mul(2).min(TIMEOUT_MAX);
    (more > limit).then(|| format!("{option} {}", duration_word(more)))
}

/// The suggested command after a request was refused because a budget is spent.
pub(super) fn more_money(verb: &str, spent: Spent) -> Option<String> {
    let options = of_spent(spent)?;
    Some(format!("`claudine {verb} {options}` gives the task more"))
}

fn of_budget(left: &Left<'_>) -> Option<String> {
    let request = &left.task.request;
    let own = request.budget_micro_usd.map(|budget_micro_usd| Level {
        spent_micro_usd: spent_by(&left.task.attempts),
        budget_micro_usd,
    });
    let graph = request
        .graph_budget
        .map(|budget| budget.graph)
        .zip(left.graph);
    let spent = own.filter(|level| level.is_spent()).map(Spent::Task);
    let spent = spent.or_else(|| {
        let (graph, level) = graph.filter(|(_, level)| level.is_spent())?;
        Some(Spent::Graph(graph, level))
    });
    spent.and_then(of_spent).or_else(|| {
        let most = left.spec?.get("max_budget_usd")?.as_f64()?;
        Some(format!("--max-budget-usd {}", most * 2.0))
    })
}

/// The option that raises a spent budget. `None` for the daily budget, because a new daily budget
/// is available the next day.
fn of_spent(spent: Spent) -> Option<String> {
    let (option, level) = match spent {
        Spent::Task(level) => ("--budget-usd", level),
        Spent::Graph(_, level) => ("--graph-budget-usd", level),
        Spent::Day(_) => return None,
    };
    let enough = round(level.spent_micro_usd.saturating_add(level.budget_micro_usd));
    let text = Usd(enough).to_string();
    Some(format!("{option} {}", text.trim_end_matches(".00")))
}

/// The next round amount: 1, 2 or 5 followed by zeros.
fn round(micro_usd: u64) -> u64 {
    let mut ten = 1u64;
    while ten.saturating_mul(10) <= micro_usd {
        ten = ten.saturating_mul(10);
    }
    let steps = [1, 2, 5, 10].map(|step| ten.saturating_mul(step));
    let found = steps.into_iter().find(|step| *step >= micro_usd);
    found.unwrap_or(micro_usd)
}

/// The rules that would have allowed the denied tool calls.
fn denied(outputs: &Value) -> Vec<String> {
    let mut rules: Vec<String> = Vec::new();
    let mut add = |rule: String| {
        if !rules.contains(&rule) {
            rules.push(rule);
        }
    };
    let denials = outputs.get("denials").and_then(Value::as_array);
    for denial in denials.into_iter().flatten() {
        let Some(tool) = denial.get("tool").and_then(Value::as_str) else {
            continue;
        };
        let command = denial.get("input").and_then(|input| input.get("command"));
        match command.and_then(Value::as_str).map(programs) {
            Some(programs) if tool == "Bash" && !programs.is_empty() => {
                for name in programs {
                    add(format!("Bash({name}:*)"));
                }
            }
            _ => add(tool.to_owned()),
        }
    }
    if rules.len() > MOST_COMMANDS {
        let is_command = |rule: &String| rule.starts_with("Bash(");
        rules.retain(|rule| !is_command(rule));
        rules.push("Bash".to_owned());
    }
    rules
}

/// The programs in a command line. Empty if any part of the line is not plain, because a program
/// that is overlooked would be denied again.
fn programs(line: &str) -> Vec<String> {
    let is_plain = |c: char| !matches!(c, '`' | '$' | '(' | ')' | '{' | '}' | '<' | '\\' | '#');
    if !line.chars().all(is_plain) {
        return Vec::new();
    }
    let mut found = Vec::new();
    for part in line.split(['\n', ';', '|', '&']) {
        if part.trim().is_empty() {
            continue;
        }
        // If the line was split inside quotes, this part has an open quote and cannot be parsed.
        let Some(words) = shlex::split(part) else {
            return Vec::new();
        };
        let Some(program) = words.into_iter().find(|word| !word.contains('=')) else {
            continue;
        };
        let is_name =
            |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/' | '+');
        if !program.chars().all(is_name) {
            return Vec::new();
        }
        if program != "cd" && !found.contains(&program) {
            found.push(program);
        }
    }
    found
}

/// The option for the tools that were allowed before and the tools that were denied.
fn allowed(spec: &Value, denied: Vec<String>) -> Option<String> {
    if denied.is_empty() {
        return None;
    }
    let before = spec.get("allowed_tools").and_then(Value::as_array);
    let mut tools: Vec<String> = before
        .into_iter()
        .flatten()
        .filter_map(|tool| tool.as_str().map(str::to_owned))
        .collect();
    for rule in denied {
        if !tools.contains(&rule) {
            tools.push(rule);
        }
    }
    Some(tools.join(","))
}

#[cfg(test)]
mod tests {
    use claudine_domain::{
        attempt::Attempt, budget::GraphBudget, id::TaskId, outcome::Reason, time::Timestamp,
    };
    use serde_json::json;
    use std::{sync::Arc, time::Duration};

    use super::*;
    use crate::store::sample_task;

    const DOLLAR: u64 = 1_000_000;

    fn ended(outcome: Outcome, class: Option<ReasonClass>, cost: u64) -> Task {
        let mut task = sample_task(1);
        Arc::make_mut(&mut task.request).class = Class::Agent;
        let mut attempt = Attempt::new(1, Timestamp(0));
        attempt.started_at = Some(Timestamp(1));
        attempt.cost_so_far_micro_usd = Some(cost);
        task.attempts = vec![attempt];
        task.state = State::Done {
            at: Timestamp(2),
            outcome,
            reason: class.map(|class| Reason::new(class, "m")),
            culprit: None,
        };
        task
    }

    fn check(task: &Task, spec: &Value, outputs: &Value, graph: Option<Level>, expected: &str) {
        let left = Left {
            task,
            spec: Some(spec),
            outputs: Some(outputs),
            graph,
        };
        let found = way_out(&left).unwrap_or_default();
        assert_eq!(found.replace(&format!("{:#}", task.id), "ID"), expected);
    }

    #[test]
    fn a_suggested_budget_is_a_round_amount() {
        let of = |edit: &dyn Fn(&mut Request)| {
            let mut task = ended(Outcome::Failed, Some(ReasonClass::Budget), 7 * DOLLAR / 2);
            edit(Arc::make_mut(&mut task.request));
            task
        };
        let none = json!({});
        let own = of(&|request| request.budget_micro_usd = Some(DOLLAR));
        check(
            &own,
            &none,
            &none,
            None,
            "claudine resume ID --budget-usd 5",
        );
        let in_graph = of(&|request| {
            request.graph_budget = Some(GraphBudget {
                graph: TaskId::new(1, 1),
                micro_usd: 6 * DOLLAR,
            });
        });
        let graph = Level {
            spent_micro_usd: 7 * DOLLAR,
            budget_micro_usd: 6 * DOLLAR,
        };
        let expected = "claudine resume ID --graph-budget-usd 20";
        check(&in_graph, &none, &none, Some(graph), expected);
        let mut waiting = in_graph;
        waiting.attempts.clear();
        let expected = "claudine retry ID --graph-budget-usd 20";
        check(&waiting, &none, &none, Some(graph), expected);
        let asked = json!({"max_budget_usd": 0.5});
        let expected = "claudine resume ID --max-budget-usd 1";
        check(&of(&|_| {}), &asked, &none, None, expected);
        check(&of(&|_| {}), &none, &none, None, "");
        for (micro_usd, expected) in [(0, 1), (1, 1), (1_300, 2_000), (4_500_000, 5_000_000)] {
            assert_eq!(round(micro_usd), expected, "{micro_usd}");
        }
    }

    #[test]
    fn a_suggested_turn_limit_is_doubled() {
        let task = ended(Outcome::Failed, Some(ReasonClass::MaxTurns), 0);
        let expected = "claudine resume ID --max-turns 6";
        check(&task, &json!({"max_turns": 3}), &json!({}), None, expected);
    }

    #[test]
    fn the_suggested_time_limit_is_twice_the_limit_that_ended_the_task() {
        let check_limit = |class, message: &str, limit: Duration, expected: &str| {
            let mut task = ended(Outcome::TimedOut, Some(ReasonClass::Timeout), 0);
            if let State::Done { reason, .. } = &mut task.state {
                *reason = Some(Reason::new(ReasonClass::Timeout, message));
            }
            let request = Arc::make_mut(&mut task.request);
            request.class = class;
            request.timeout = Some(limit);
            request.idle_timeout = Some(limit * 3);
            request.queue_timeout = Some(limit * 5);
            check(&task, &json!({}), &json!({}), None, expected);
        };
        let minutes = Duration::from_mins;
        for (class, verb) in [(Class::Agent, "resume"), (Class::Command, "retry")] {
            for (message, options) in [
                (TIMEOUT, "--timeout 20m"),
                (TIMEOUT_BEFORE_START, "--timeout 20m"),
                (IDLE_TIMEOUT, "--idle-timeout 1h"),
                (QUEUE_TIMEOUT, "--queue-timeout 1h40m"),
            ] {
                let expected = format!("claudine {verb} ID {options}");
                check_limit(class, message, minutes(10), &expected);
            }
        }
        let by_the_agent = "the API did not answer in time";
        check_limit(Class::Agent, by_the_agent, minutes(10), "");
        let days = |days: u64| Duration::from_hours(24 * days);
        let most = "claudine resume ID --timeout 30d";
        check_limit(Class::Agent, TIMEOUT, days(20), most);
        check_limit(Class::Agent, TIMEOUT, days(30), "");
    }

    #[test]
    fn the_suggested_tools_are_the_allowed_and_the_denied_tools() {
        let denials = |inputs: &[(&str, &str)]| {
            let denials: Vec<Value> = inputs
                .iter()
                .map(|(tool, command)| json!({"tool": tool, "input": {"command": command}}))
                .collect();
            json!({ "denials": denials })
        };
        for (outcome, class) in [
            (Outcome::Succeeded, None),
            (Outcome::Failed, Some(ReasonClass::Permission)),
        ] {
            let task = ended(outcome, class, 0);
            check(
                &task,
                &json!({"allowed_tools": ["Edit"]}),
                &denials(&[
                    ("Bash", "sed -i s/a/b/ x"),
                    ("Bash", "python3 -m x"),
                    ("Bash", "sed y"),
                ]),
                None,
                "claudine resume ID --allowed-tools 'Edit,Bash(sed:*),Bash(python3:*)'",
            );
            check(&task, &json!({}), &json!({"denials": []}), None, "");
        }
        let task = ended(Outcome::Succeeded, None, 0);
        let web = denials(&[("WebFetch", "")]);
        check(
            &task,
            &json!({}),
            &web,
            None,
            "claudine resume ID --allowed-tools WebFetch",
        );
        let cancelled = ended(Outcome::Cancelled, Some(ReasonClass::Cancelled), 0);
        check(&cancelled, &json!({}), &web, None, "");
    }

    #[test]
    fn programs_are_found_in_a_plain_command_line() {
        let check = |line: &str, expected: &[&str]| assert_eq!(programs(line), expected, "{line}");
        check("git init x", &["git"]);
        check(
            "cd a && FOO=1 cargo test | tee log; ls",
            &["cargo", "tee", "ls"],
        );
        check("echo 'a; b'", &[]);
        check("echo $(rm -rf x)", &[]);
        check("'rm -rf' x", &[]);
        check("", &[]);
        let many: Vec<Value> = (0..9)
            .map(|number| json!({"tool": "Bash", "input": {"command": format!("c{number}")}}))
            .collect();
        assert_eq!(denied(&json!({ "denials": many })), ["Bash"]);
    }
}

//! Budgets of a task, its graph and the day.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::{
    attempt::Attempt,
    budget::{Day, GraphBudget, Level, Scope, Spent},
    capacity::Refusal,
    dependency::{Condition, Dependency},
    id::AccountKey,
    principal::Principal,
    retry_policy::{Backoff, RetryPolicy},
    step::spent_by,
};

const DOLLAR: u64 = 1_000_000;
const DAY: Duration = Duration::from_hours(24);

/// The limits of a host with one slot and a budget of the day, if one is given.
fn daily(dollars: Option<u64>) -> Limits {
    Limits {
        daily_micro_usd: dollars.map(|dollars| dollars * DOLLAR),
        ..fixed(1)
    }
}

fn with_daily(dollars: Option<u64>) -> Desk {
    Desk::with(daily(dollars), Bounds::default())
}

/// Turns the request into one for an agent without an account.
fn plain_agent(request: &mut Request) {
    request.class = Class::Agent;
}

/// A policy with this many retries after any failure.
fn policy(limit: u32) -> RetryPolicy {
    RetryPolicy {
        limit,
        backoff: Backoff::default(),
        on: Vec::new(),
    }
}

fn graph_budget(dollars: u64) -> GraphBudget {
    GraphBudget {
        graph: TaskId::new(1, 1),
        micro_usd: dollars * DOLLAR,
    }
}

/// Runs an attempt that starts a process and fails without a reported cost.
fn fails(desk: &mut Desk, task: TaskId, class: ReasonClass) {
    desk.turn();
    desk.report(task, started(7));
    desk.report(task, failure(class));
    desk.settle();
}

fn with_budget(dollars: u64) -> impl FnOnce(&mut Request) {
    move |request| {
        request.class = Class::Agent;
        request.budget_micro_usd = Some(dollars * DOLLAR);
    }
}

fn ended_at(dollars: u64, cause: Cause) -> Report {
    Report::Ended(Box::new(Ending {
        cost_micro_usd: Some(dollars * DOLLAR),
        ..ending(cause)
    }))
}

fn exit() -> Cause {
    Cause::Class(ReasonClass::Exit)
}

fn reason(desk: &Desk, task: TaskId) -> String {
    match &desk.stored[&task].state {
        State::Done {
            reason: Some(reason),
            ..
        } => format!("{}: {}", reason.class.as_str(), reason.message),
        other => panic!("{other:?}"),
    }
}

/// Two agents and a command with a shared budget.
fn graph(desk: &mut Desk, dollars: u64) -> [TaskId; 3] {
    [Class::Agent, Class::Agent, Class::Command].map(|class| {
        desk.submit(|request| {
            request.class = class;
            request.graph_budget = Some(graph_budget(dollars));
        })
    })
}

#[test]
fn attempt_that_exceeds_its_tasks_budget_is_stopped() {
    let mut desk = Desk::new(1);
    let task = desk.submit(with_budget(2));
    desk.turn();
    desk.report(task, Report::Alive);
    desk.report(task, Report::Cost(DOLLAR));
    assert_eq!(kinds(&desk.settle()), Vec::<&str>::new());
    desk.report(task, Report::Cost(2 * DOLLAR));
    assert_eq!(kinds(&desk.settle()), ["stop"]);
    // A report repeated after a restart counts once.
    desk.report(task, Report::Cost(2 * DOLLAR));
    desk.report(task, failure(ReasonClass::Signal));
    desk.settle();
    assert_eq!(desk.word(task), "failed:budget");
    assert_eq!(
        reason(&desk, task),
        "budget: the task has spent $2.00 of $2.00"
    );
    assert_eq!(spent_by(&desk.stored[&task].attempts), 2 * DOLLAR);
    let today = Scope::Day(Day::of(desk.now.wall));
    assert_eq!(desk.board.spent[&today], 2 * DOLLAR);
}

#[test]
fn task_with_a_spent_budget_is_not_retried() {
    let mut desk = Desk::new(1);
    let task = desk.submit(|request| {
        with_budget(3)(request);
        request.retries = Some(Box::new(policy(9)));
    });
    desk.turn();
    desk.report(task, ended_at(1, exit()));
    desk.settle();
    assert_eq!(desk.word(task), "waiting", "two dollars are left");
    desk.pass(DAY);
    desk.turn();
    desk.report(task, ended_at(2, exit()));
    desk.settle();
    assert_eq!(desk.word(task), "failed:exit");
    let copy = desk.stored[&task].clone();
    assert_eq!(
        desk.retry(&copy),
        Err(Refused::OverBudget {
            task,
            spent: Spent::Task(Level {
                spent_micro_usd: 3 * DOLLAR,
                budget_micro_usd: 3 * DOLLAR,
            })
        })
    );
}

/// Third-party plugins may report costs without being agents.
#[test]
fn own_budget_applies_to_every_executor_that_reports_costs() {
    for class in [Class::Agent, Class::Command] {
        let mut desk = Desk::new(1);
        let task = desk.submit(|request| {
            with_budget(3)(request);
            request.class = class;
        });
        desk.turn();
        desk.report(task, ended_at(3, exit()));
        desk.settle();
        let copy = desk.stored[&task].clone();
        let retried = desk.retry(&copy);
        assert!(
            matches!(retried, Err(Refused::OverBudget { .. })),
            "{class:?} {retried:?}"
        );
    }
}

/// The account is parked for the other tasks, whether or not the task that met the limit goes on.
#[test]
fn task_with_a_spent_budget_does_not_wait_for_a_usage_limit() {
    let check = |dollars: u64, expected: &str| {
        let mut desk = Desk::new(1);
        let account = |request: &mut Request| {
            with_budget(2)(request);
            request.account = Some(AccountKey("a".to_owned()));
        };
        let (task, other) = (desk.submit(account), desk.submit(account));
        desk.turn();
        desk.report(
            task,
            ended_at(dollars, Cause::Class(ReasonClass::RateLimit)),
        );
        desk.settle();
        assert_eq!(desk.words(&[task, other]), [expected, "waiting"]);
    };
    check(1, "waiting");
    check(2, "failed:rate_limit");
}

/// A task has spent its budget, and depends on a task that is retried.
#[test]
fn task_that_reruns_after_its_dependency_fails_if_its_budget_is_spent() {
    let check = |dollars: u64, expected: [&str; 2]| {
        let mut desk = Desk::new(1);
        let upstream = desk.submit(|_| {});
        let after = |task| {
            vec![Dependency {
                task,
                condition: Condition::Succeeded,
            }]
        };
        let mut agent = desk.member(after(upstream));
        with_budget(2)(&mut agent.request);
        let agent_id = agent.id;
        desk.submit_all(vec![agent]).unwrap();
        let below = desk.member(after(agent_id));
        let below_id = below.id;
        desk.submit_all(vec![below]).unwrap();
        desk.turn();
        desk.report(upstream, success());
        desk.turn();
        desk.report(agent_id, ended_at(dollars, Cause::Success));
        desk.turn();
        desk.report(below_id, success());
        desk.settle();
        let copies = [agent_id, below_id].map(|id| desk.stored[&id].clone());
        let copy = desk.stored[&upstream].clone();
        desk.retry_with(&copy, copies.to_vec()).unwrap();
        desk.settle();
        assert_eq!(desk.words(&[agent_id, below_id]), expected, "{dollars}");
        assert_eq!(desk.stored[&agent_id].attempts.len(), 1);
    };
    check(1, ["blocked", "blocked"]);
    check(2, ["failed:budget", "upstream_failed"]);
}

#[test]
fn spent_graph_budget_ends_agents_and_not_commands() {
    let mut desk = Desk::new(1);
    let [first, second, command] = graph(&mut desk, 5);
    assert_eq!(starts(&desk.turn()), [first]);
    desk.report(first, ended_at(5, Cause::Success));
    assert_eq!(starts(&desk.turn()), [command]);
    assert_eq!(desk.word(first), "succeeded", "the result is kept");
    assert_eq!(desk.word(second), "failed:budget");
    assert_eq!(
        reason(&desk, second),
        "budget: the task's graph has spent $5.00 of $5.00"
    );
    // A task submitted from within the graph has no budget left.
    let nested = desk.try_submit(|request| {
        request.class = Class::Agent;
        request.parent = Some(command);
    });
    assert!(
        matches!(nested, Err(Refused::OverBudget { .. })),
        "{nested:?}"
    );
}

#[test]
fn spending_the_rest_of_a_graphs_budget_stops_its_running_agents() {
    let mut desk = Desk::new(3);
    let [first, second, command] = graph(&mut desk, 5);
    assert_eq!(desk.turn().len(), 3);
    for task in [first, second, command] {
        desk.report(task, Report::Alive);
    }
    desk.report(second, Report::Cost(DOLLAR));
    desk.report(first, Report::Cost(4 * DOLLAR));
    assert_eq!(kinds(&desk.settle()), ["stop", "stop"]);
    assert_eq!(desk.word(command), "live");
}

/// The executor could not tell the costs of agents that had ended, so the budget seemed unspent.
#[test]
fn agents_wait_for_the_costs_of_agents_that_ended_while_nobody_could_tell_them() {
    let limits = Limits {
        daily_micro_usd: Some(10 * DOLLAR),
        ..fixed(9)
    };
    // How the host learns of the end, and whether the executor lacked its code.
    for (is_recovered, lacked) in [(true, false), (true, true), (false, true)] {
        let mut desk = Desk::with(limits, Bounds::default());
        let [ended, spends_more] = [(); 2].map(|()| desk.submit(plain_agent));
        desk.turn();
        for task in [ended, spends_more] {
            desk.report(task, started(7));
        }
        desk.settle();
        let executor = desk.task(ended).request.executor.clone();
        let code = |lacks: Option<&str>| Input::Code {
            executor: executor.clone(),
            lacks: lacks.map(Arc::from),
        };
        if is_recovered {
            desk.reload();
        }
        if lacked {
            desk.step(code(Some("the disk is full"))).unwrap();
        }
        for task in [ended, spends_more] {
            if is_recovered {
                desk.recovered(task, Found::Over);
            } else {
                desk.report(task, Report::Over);
            }
        }
        let queued = desk.submit(plain_agent);
        let command = desk.submit(|_| {});
        if lacked {
            assert_eq!(starts(&desk.turn()), []);
            desk.pass(99 * Duration::from_secs(1));
            desk.step(code(None)).unwrap();
        }
        assert_eq!(starts(&desk.turn()), [command]);
        desk.report(ended, ended_at(4, Cause::Success));
        assert_eq!(starts(&desk.turn()), []);
        let refusal = Refusal::EndsFirst {
            executor: executor.to_string(),
        };
        assert_eq!(desk.refusals().into_values().collect::<Vec<_>>(), [refusal]);
        desk.report(spends_more, ended_at(6, Cause::Success));
        assert_eq!(starts(&desk.turn()), [], "the budget of the day is spent");
        assert_eq!(desk.word(queued), "ready");
    }
}

/// Otherwise an executor that never answers would hold its agents back for ever.
#[test]
fn agents_wait_only_for_a_while_for_the_costs_of_agents_that_have_ended() {
    let mut desk = Desk::new(9);
    let ended = desk.submit(plain_agent);
    desk.turn();
    desk.report(ended, started(7));
    desk.settle();
    desk.reload();
    desk.recovered(ended, Found::Over);
    let queued = desk.submit(plain_agent);
    assert_eq!(starts(&desk.turn()), []);
    let until = desk.now.monotonic.after(Duration::from_secs(30));
    let next = desk.board.next_tick().0;
    assert!(next.is_some_and(|at| at <= until), "{next:?}");
    desk.pass(Duration::from_secs(29));
    assert_eq!(starts(&desk.turn()), []);
    desk.pass(Duration::from_secs(1));
    assert_eq!(starts(&desk.turn()), [queued]);
}

#[test]
fn spent_daily_budget_holds_agents_back_until_the_next_day() {
    let mut desk = with_daily(Some(10));
    let (first, second) = (desk.submit(plain_agent), desk.submit(plain_agent));
    desk.turn();
    desk.report(first, ended_at(11, Cause::Success));
    assert_eq!(starts(&desk.turn()), []);
    let until = Day::of(desk.now.wall).end();
    let refusal = desk.refusals().into_values().next();
    assert!(
        matches!(&refusal, Some(Refusal::DailyBudget { level, until: at })
            if level.to_string() == "$11.00 of $10.00" && *at == until),
        "{refusal:?}"
    );
    assert_eq!(desk.board.next_tick().1, Some(until));
    let command = desk.submit(|_| {});
    assert_eq!(starts(&desk.turn()), [command], "a command costs nothing");
    desk.report(command, success());
    desk.now.wall = until;
    assert_eq!(starts(&desk.turn()), [second]);
}

fn may_cost(desk: &Desk, task: TaskId) -> Option<u64> {
    let task = desk.task(task);
    let last = task.last_attempt().unwrap();
    last.may_cost_micro_usd.map(|micro_usd| micro_usd / DOLLAR)
}

/// Budgets of the task, the graph and the day are compared. The last two apply only to agents.
#[test]
fn attempt_receives_the_smallest_remaining_budget_at_its_start() {
    let check =
        |task: Option<u64>, graph: Option<u64>, day: Option<u64>, expected: [Option<u64>; 2]| {
            for (class, expected) in [Class::Agent, Class::Command].into_iter().zip(expected) {
                let mut desk = with_daily(day);
                let id = desk.submit(|request| {
                    request.class = class;
                    request.budget_micro_usd = task.map(|dollars| dollars * DOLLAR);
                    request.graph_budget = graph.map(graph_budget);
                });
                desk.turn();
                assert_eq!(
                    may_cost(&desk, id),
                    expected,
                    "{class:?} {task:?} {graph:?} {day:?}"
                );
            }
        };
    check(None, None, None, [None, None]);
    check(Some(3), None, None, [Some(3), Some(3)]);
    check(Some(3), Some(2), None, [Some(2), Some(3)]);
    check(Some(3), Some(2), Some(1), [Some(1), Some(3)]);
    check(None, Some(5), Some(9), [Some(5), None]);
}

#[test]
fn earlier_costs_reduce_the_remaining_budget() {
    let mut desk = Desk::new(3);
    let [first, second, _] = graph(&mut desk, 9);
    desk.turn();
    // Nothing is reserved for other agents that run at the same time.
    assert_eq!([first, second].map(|id| may_cost(&desk, id)), [Some(9); 2]);
    desk.report(first, ended_at(4, exit()));
    desk.settle();
    let copy = desk.stored[&first].clone();
    desk.retry(&copy).unwrap();
    desk.turn();
    assert_eq!(may_cost(&desk, first), Some(5));
    desk.reload();
    assert_eq!(
        may_cost(&desk, first),
        Some(5),
        "the next host passes the same amount to the attempt"
    );
}

/// The executor can name only the amount that the attempt was given.
#[test]
fn reason_of_an_attempt_that_ended_because_of_a_budget_names_this_budget() {
    let over = || ended_at(4, Cause::Class(ReasonClass::Budget));
    let mut desk = Desk::new(1);
    let task = desk.submit(with_budget(2));
    desk.turn();
    desk.report(task, over());
    desk.settle();
    assert_eq!(
        reason(&desk, task),
        "budget: the task has spent $4.00 of $2.00"
    );
    let [first, second, _] = graph(&mut desk, 3);
    desk.turn();
    desk.report(first, over());
    desk.settle();
    for id in [first, second] {
        assert_eq!(
            reason(&desk, id),
            "budget: the task's graph has spent $4.00 of $3.00"
        );
    }
    // The executor's own limit may have been lower.
    let mut desk = Desk::new(1);
    let task = desk.submit(with_budget(9));
    desk.turn();
    desk.report(task, over());
    desk.settle();
    assert_eq!(reason(&desk, task), "budget: m");
}

/// Otherwise an attempt whose last report is lost would cost nothing, and could be repeated without
/// end.
#[test]
fn attempt_without_a_reported_cost_is_charged_the_amount_that_it_was_allowed_to_spend() {
    let check = |class: Class, before: Vec<Report>, end: Ending, cost: Option<u64>, is_assumed| {
        let mut desk = with_daily(Some(9));
        let task = desk.submit(|request| {
            with_budget(5)(request);
            request.class = class;
        });
        desk.turn();
        for report in before {
            desk.report(task, report);
        }
        let context = format!("{class:?} {end:?}");
        desk.report(task, Report::Ended(Box::new(end)));
        desk.settle();
        let attempt = desk.task(task).attempts[0].clone();
        let cost = cost.map(|dollars| dollars * DOLLAR);
        assert_eq!(attempt.cost_micro_usd(), cost, "{context}");
        let assumed = cost.filter(|_| is_assumed);
        assert_eq!(attempt.assumed_micro_usd(), assumed, "{context}");
        let level = desk.board.day_level(desk.now).unwrap();
        assert_eq!(level.spent_micro_usd, cost.unwrap_or(0), "{context}");
    };
    let no_result = || ending(Cause::Class(ReasonClass::NoResult));
    let at_most = |dollars: u64| Ending {
        cost_at_most_micro_usd: Some(dollars * DOLLAR),
        ..no_result()
    };
    let stopped = |why| Ending {
        stopped: Some(why),
        ..ending(Cause::Class(ReasonClass::Signal))
    };
    let told = Ending {
        cost_micro_usd: Some(2 * DOLLAR),
        ..no_result()
    };
    let begun = || vec![started(7)];
    let agent = Class::Agent;
    check(agent, begun(), no_result(), Some(5), true);
    check(agent, vec![Report::Alive], no_result(), Some(5), true);
    let lost = ending(Cause::Class(ReasonClass::Lost));
    check(agent, begun(), lost, Some(5), true);
    check(agent, begun(), ending(Cause::Success), Some(5), true);
    check(agent, begun(), stopped(StopWhy::Timeout), Some(5), true);
    let cancelled = StopWhy::Cancelled { reason: None };
    check(agent, begun(), stopped(cancelled), Some(5), true);
    // The cost so far is not the cost at the end.
    let spending = vec![started(7), Report::Cost(DOLLAR)];
    check(agent, spending, no_result(), Some(5), true);
    // The executor knows more.
    check(agent, begun(), told, Some(2), false);
    check(agent, begun(), at_most(3), Some(3), true);
    check(agent, begun(), at_most(8), Some(5), true);
    check(agent, begun(), at_most(0), None, false);
    let spending = vec![started(7), Report::Cost(4 * DOLLAR)];
    check(agent, spending, at_most(3), Some(4), false);
    // Nothing has run that could cost anything.
    check(agent, vec![], no_result(), None, false);
    check(Class::Command, begun(), no_result(), None, false);
}

/// An attempt with the given budgets that began, reported `so_far` if this is not 0, and ended
/// without a reported cost; and what was spent on its day. All amounts are in dollars, and the day
/// has a budget of 9.
fn unreported(
    by: &Arc<Principal>,
    own: Option<u64>,
    graph: Option<u64>,
    so_far: u64,
    at_most: Option<u64>,
) -> (Attempt, u64) {
    let mut desk = with_daily(Some(9));
    let task = desk.submit(|request| {
        request.class = Class::Agent;
        request.by = Arc::clone(by);
        request.budget_micro_usd = own.map(|dollars| dollars * DOLLAR);
        request.graph_budget = graph.map(graph_budget);
    });
    desk.turn();
    desk.report(task, started(7));
    if so_far > 0 {
        desk.report(task, Report::Cost(so_far * DOLLAR));
    }
    let end = Ending {
        cost_at_most_micro_usd: at_most.map(|dollars| dollars * DOLLAR),
        ..ending(Cause::Class(ReasonClass::Lost))
    };
    desk.report(task, Report::Ended(Box::new(end)));
    desk.settle();
    let day = desk.board.day_level(desk.now).unwrap();
    (
        desk.task(task).attempts[0].clone(),
        day.spent_micro_usd / DOLLAR,
    )
}

proptest! {
    /// Otherwise all agents would wait for the next day after a crash. A client's agent is charged
    /// the rest of the day, because a client could hide costs in this way.
    #[test]
    fn persons_attempt_with_only_the_budget_of_the_day_is_charged_what_it_has_reported(
        by_client: bool,
        own in prop::option::of(3..9_u64),
        graph in prop::option::of(3..9_u64),
        so_far in 0..3_u64,
        at_most in prop::option::of(0..12_u64),
    ) {
        let by = if by_client { asking::chat() } else { Arc::default() };
        let (attempt, day) = unreported(&by, own, graph, so_far, at_most);
        let rest_of_day = by_client.then_some(9);
        // The budget of the day is no bound that anybody chose for this task.
        let told = at_most.filter(|most| *most < 9);
        let bound = [own, graph, rest_of_day, told].into_iter().flatten().min();
        let cost = bound.unwrap_or(0).max(so_far);
        prop_assert_eq!(day, cost);
        prop_assert_eq!(attempt.cost_micro_usd().unwrap_or(0), cost * DOLLAR);
        let assumed = (cost > so_far).then_some(cost * DOLLAR);
        prop_assert_eq!(attempt.assumed_micro_usd(), assumed);
        prop_assert_eq!(attempt.cost_is_unknown(), bound.is_none());
    }
}

/// The attempt is the client's, whoever submitted the task.
#[test]
fn persons_task_that_a_client_runs_again_is_charged_the_rest_of_the_day() {
    let mut desk = with_daily(Some(9));
    let task = desk.submit(plain_agent);
    for (by, cost, is_unknown) in [
        (Arc::default(), None, true),
        (asking::chat(), Some(9 * DOLLAR), false),
    ] {
        if desk.word(task) != "ready" {
            desk.retried_by(&by, task);
        }
        fails(&mut desk, task, ReasonClass::NoResult);
        let last = desk.task(task).attempts.last().unwrap().clone();
        assert_eq!(last.cost_micro_usd(), cost, "{by}");
        assert_eq!(last.cost_is_unknown(), is_unknown, "{by}");
    }
}

#[test]
fn agent_that_has_spent_the_rest_of_the_day_without_reporting_it_goes_on_the_next_day() {
    let mut desk = with_daily(Some(9));
    let task = desk.submit(plain_agent);
    fails(&mut desk, task, ReasonClass::Budget);
    assert_eq!(desk.word(task), "waiting");
    let attempt = desk.task(task).attempts[0].clone();
    assert_eq!(attempt.assumed_micro_usd(), Some(9 * DOLLAR));
}

#[test]
fn unknown_cost_holds_no_agents_back() {
    let mut desk = with_daily(Some(5));
    let (killed, other) = (desk.submit(plain_agent), desk.submit(plain_agent));
    desk.turn();
    desk.report(killed, started(7));
    desk.report(killed, failure(ReasonClass::Lost));
    assert_eq!(starts(&desk.turn()), [other]);
}

fn with_many_retries(request: &mut Request) {
    request.class = Class::Agent;
    request.retries = Some(Box::new(policy(1_000)));
}

proptest! {
    /// Nothing is charged for an unknown cost. So each retry could spend the rest of the day again.
    #[test]
    fn attempts_of_an_agent_may_cost_at_most_the_budget_of_their_day_however_often_it_is_retried(
        costs in prop::collection::vec(prop::option::weighted(0.7, 0..4_u64), 1..30),
        minutes in prop::collection::vec(1..900_u64, 30),
        has_account: bool,
        is_limit: bool,
    ) {
        let mut desk = with_daily(Some(9));
        let task = desk.submit(|request| {
            with_many_retries(request);
            request.account = has_account.then(|| AccountKey("a".to_owned()));
        });
        let class = if is_limit { ReasonClass::RateLimit } else { ReasonClass::NoResult };
        let mut may_have_cost = BTreeMap::new();
        for (cost, minutes) in costs.iter().zip(minutes) {
            let mut began = !starts(&desk.turn()).is_empty();
            for _ in 0..100 {
                if began {
                    break;
                }
                desk.pass(Duration::from_mins(30));
                began = !starts(&desk.turn()).is_empty();
            }
            prop_assert!(began, "two days have passed: {}", desk.word(task));
            let given = may_cost(&desk, task).unwrap();
            let cost = cost.map(|dollars| given.min(dollars));
            let of_day = may_have_cost.entry(Day::of(desk.now.wall)).or_insert(0);
            *of_day += cost.unwrap_or(given);
            prop_assert!(*of_day <= 9, "{of_day} dollars in a day");
            desk.report(task, started(7));
            desk.report(task, Report::Alive);
            desk.pass(Duration::from_mins(minutes));
            let end = Ending {
                cost_micro_usd: cost.map(|dollars| dollars * DOLLAR),
                ..ending(Cause::Class(class))
            };
            desk.report(task, Report::Ended(Box::new(end)));
            desk.settle();
            prop_assert!(!desk.task(task).is_done(), "{}", desk.word(task));
        }
    }
}

#[test]
fn agent_of_unknown_cost_is_retried_on_the_next_day_if_the_day_has_a_budget() {
    let check = |daily: Option<u64>, age: Duration, is_set_back: bool, waits: bool| {
        let mut desk = with_daily(daily);
        let task = desk.submit(with_many_retries);
        desk.turn();
        desk.report(task, started(7));
        desk.report(task, Report::Alive);
        desk.pass(age);
        desk.report(task, failure(ReasonClass::NoResult));
        desk.settle();
        let midnight = Day::of(desk.now.wall).end();
        if is_set_back {
            desk.now.wall = Timestamp(desk.now.wall.0 - 1_000);
            desk.step(Input::ClockSetBack).unwrap();
        }
        let context = format!("{daily:?} {age:?} {is_set_back}");
        assert_eq!(desk.word(task), "waiting", "{context}");
        let until = desk.task(task).retry_at.unwrap();
        assert_eq!(until == midnight, waits, "{context}");
        desk.now.wall = desk.now.wall.after(Duration::from_mins(6));
        desk.step(Input::Tick).unwrap();
        assert_eq!(starts(&desk.turn()).is_empty(), waits, "{context}");
    };
    let minute = Duration::from_mins(1);
    check(Some(9), minute, false, true);
    check(Some(9), minute, true, true);
    check(None, minute, false, false);
    // It has spent the rest of the day before.
    check(Some(9), DAY, false, false);
}

/// The policy may wait longer than for the next day.
#[test]
fn clock_set_back_shortens_no_delay_of_the_policy_after_an_attempt_of_unknown_cost() {
    let mut desk = with_daily(Some(9));
    let task = desk.submit(|request| {
        with_many_retries(request);
        if let Some(policy) = &mut request.retries {
            policy.backoff = Backoff {
                initial: 1_000 * DAY,
                factor: 1,
                max: 1_000 * DAY,
            };
        }
    });
    desk.turn();
    desk.report(task, started(7));
    desk.report(task, Report::Alive);
    desk.report(task, failure(ReasonClass::NoResult));
    desk.settle();
    let ended = desk.task(task).attempts[0].ended.clone().unwrap();
    assert!(ended.cost_is_unknown);
    let until = desk.task(task).retry_at.unwrap();
    assert!(until > desk.now.wall.after(2 * DAY), "{until:?}");
    desk.now.wall = Timestamp(desk.now.wall.0 - 1_000);
    desk.step(Input::ClockSetBack).unwrap();
    assert_eq!(desk.task(task).retry_at, Some(until));
}

#[test]
fn attempt_without_a_budget_and_a_reported_cost_has_an_unknown_cost() {
    let mut desk = Desk::new(1);
    let task = desk.submit(plain_agent);
    fails(&mut desk, task, ReasonClass::NoResult);
    let attempt = desk.task(task).attempts[0].clone();
    assert_eq!(attempt.cost_micro_usd(), None);
    assert_eq!(attempt.assumed_micro_usd(), None);
}

#[test]
fn assumed_cost_ends_the_retries_of_a_task_and_holds_other_agents_back() {
    let mut desk = with_daily(Some(5));
    let task = desk.submit(|request| {
        with_budget(5)(request);
        request.retries = Some(Box::new(policy(3)));
    });
    let other = desk.submit(plain_agent);
    desk.turn();
    desk.report(task, started(7));
    desk.report(task, failure(ReasonClass::NoResult));
    assert_eq!(starts(&desk.turn()), []);
    assert_eq!(desk.words(&[task, other]), ["failed:no_result", "ready"]);
    assert_eq!(desk.task(task).attempts.len(), 1);
}

/// An agent whose own budget is spent does not go on.
#[test]
fn agent_stopped_by_the_daily_budget_goes_on_the_next_day() {
    let check = |reports: Vec<Report>, budget: u64, expected: &str| {
        let mut desk = with_daily(Some(3));
        let task = desk.submit(with_budget(budget));
        desk.turn();
        assert_eq!(may_cost(&desk, task), Some(budget.min(3)));
        for report in reports {
            desk.report(task, report);
        }
        desk.settle();
        assert_eq!(desk.word(task), expected);
        if expected == "waiting" {
            let until = Day::of(desk.now.wall).end();
            assert!(
                matches!(desk.task(task).state, State::Waiting { until: at, .. } if at == until)
            );
            desk.now.wall = until;
            desk.step(Input::Tick).unwrap();
            assert_eq!(starts(&desk.turn()), [task]);
            assert_eq!(may_cost(&desk, task), Some(3));
        }
    };
    let of_executor = || vec![ended_at(3, Cause::Class(ReasonClass::Budget))];
    check(of_executor(), 9, "waiting");
    let stopped = vec![Report::Cost(3 * DOLLAR), failure(ReasonClass::Signal)];
    check(stopped, 9, "waiting");
    check(of_executor(), 3, "failed:budget");
    check(of_executor(), 2, "failed:budget");
}

#[test]
fn spending_survives_a_restart_of_the_host() {
    let mut desk = Desk::new(1);
    let task = desk.submit(with_budget(2));
    desk.turn();
    desk.report(task, Report::Cost(DOLLAR));
    let (batch, _) = desk.board.seal();
    let today = Scope::Day(Day::of(desk.now.wall));
    assert_eq!(batch.spent, [(today, DOLLAR)]);
    let stored = Stored {
        spent: batch.spent,
        unfinished: batch.tasks.iter().map(|task| Task::clone(task)).collect(),
        ..Stored::default()
    };
    let board = Board::new(stored, daily(Some(4)), Bounds::default(), BOOT.into());
    let level = board.day_level(desk.now).unwrap();
    assert_eq!(level.to_string(), "$1.00 of $4.00");
    assert_eq!(spent_by(&board.task(task).unwrap().attempts), DOLLAR);
}

/// A day is a calendar day in UTC.
#[test]
fn day_begins_at_midnight_utc() {
    let check = |at: u64, day: u64| {
        let found = Day::of(Timestamp(at));
        assert_eq!(found, Day(day), "{at}");
        assert!(Timestamp(at) < found.end());
    };
    check(0, 0);
    // 2026-11-23.
    let midnight = 1_795_392_000_000;
    check(midnight - 1, 20_779);
    check(midnight, 20_780);
    assert_eq!(Day(20_779).end(), Timestamp(midnight));
}

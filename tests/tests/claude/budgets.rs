//! Budgets of agents. Each answer of the scripted service costs 0.0008 dollars.

use claudine_tests::{
    messages_api::{Answer, Rule, Script, Step},
    process::kill_9,
    wait_for,
};

use crate::world::{Login, World, attempt, ended, succeeded};

fn answering() -> Script {
    Script::always(Answer::text("done"))
}

/// An agent that calls a tool again and again.
fn busy() -> Script {
    Script::always(Answer::bash("echo once more"))
}

/// The agent also has a limit of its own. It gets the lower of this limit and the remaining budget.
#[test]
fn agent_stopped_over_its_budget_resumes_with_a_higher_budget() {
    let world = World::new(busy());
    let options = ["--allowed-tools", "Bash", "--max-budget-usd", "1"];
    let line = [&["do it", "--budget-usd", "0.001"], &options[..]].concat();
    let task = world.done(&line);
    let message = ended(&task, "failed", "budget");
    assert_eq!(message, "the task has spent $0.0016 of $0.001");
    assert_eq!(world.api.message_requests().len(), 2);
    let id = task["id"].as_str().unwrap();
    let hint = task["hint"].as_str().expect("a hint");
    assert!(hint.ends_with(" --budget-usd 0.005"), "{hint}");
    let shown = world.host.text(["status", id]);
    assert!(
        shown.contains("$0.0016 of $0.001") && shown.contains(hint),
        "{shown}"
    );
    for verb in ["resume", "retry"] {
        world.host.run([verb, id]).code(125).says(&[
            "cannot run: the task has spent $0.0016 of $0.001",
            &format!("`claudine {verb} "),
            "--budget-usd 0.005` gives the task more",
        ]);
    }
    // The second attempt gets the new budget minus the cost of the first attempt.
    let line = ["resume", id, "--budget-usd", "0.004"];
    world.host.run(line).check();
    let task = world.host.finished(id);
    let message = ended(&task, "failed", "budget");
    assert_eq!(message, "the task has spent $0.004 of $0.004");
    assert_eq!(world.api.message_requests().len(), 5);
    assert_eq!(
        attempt(&task, 0, "session_id"),
        attempt(&task, 1, "session_id")
    );
    world
        .api
        .set_script(Script::always(Answer::text("finished")));
    world.host.run(["retry", id, "--budget-usd", "1"]).check();
    let task = world.host.finished(id);
    succeeded(&task, "finished");
    assert_eq!(task["budget_usd"], 1.0);
    assert_eq!(task["cost_usd"], 0.0048);
    assert_eq!(task.get("hint"), None);
}

#[test]
fn an_agents_own_limit_applies_if_it_is_lower_than_the_budget_of_its_task() {
    let world = World::new(busy());
    let limits = ["--max-budget-usd", "0.001", "--budget-usd", "1"];
    let line = [&["do it", "--allowed-tools", "Bash"], &limits[..]].concat();
    let message = ended(&world.done(&line), "failed", "budget");
    for piece in ["maximum budget", "0.001"] {
        assert!(message.contains(piece), "{message}");
    }
}

#[test]
fn resume_of_a_task_with_a_spent_budget_is_refused() {
    let world = World::new(answering());
    // The agent's only answer exceeds the budget.
    let task = world.done(&["do it", "--budget-usd", "0.0005"]);
    ended(&task, "failed", "budget");
    assert_eq!(task["budget_usd"], 0.0005);
    let id = task["id"].as_str().unwrap();
    for verb in ["resume", "retry"] {
        world
            .host
            .run([verb, id])
            .code(125)
            .says(&["cannot run: the task has spent $0.0008 of $0.0005"]);
    }
    world
        .host
        .run(["delegate", "do it", "--budget-usd", "0"])
        .code(2)
        .says(&["the budget is 0, but must be an amount of US dollars over 0"]);
}

#[test]
fn why_shows_the_spent_part_of_a_graphs_budget_and_a_spent_budget_ends_agents_but_not_commands() {
    let world = World::new(answering());
    let graph = "
- {name: plan,   prompt: plan it}
- {name: gate,   argv: [cat, gate], dependencies: [plan]}
- {name: build,  prompt: build it, dependencies: [gate]}
- {name: check,  prompt: check it, dependencies: [{task: build, condition: any}]}
- {name: report, argv: [echo, over], dependencies: [{task: build, condition: any}]}
";
    let made = world.host.other("mkfifo").arg("gate").status();
    assert!(made.is_ok_and(|status| status.success()));
    let ids = world
        .host
        .run_with(["submit", "-", "--budget-usd", "0.001"], graph.as_bytes())
        .ok()
        .text();
    let ids: Vec<&str> = ids.lines().collect();
    succeeded(&world.host.finished(ids[0]), "done");
    let why = |id: &str| world.host.json(["why", id])["reasons"].to_string();
    assert!(
        why(ids[2]).contains("the task's graph has spent $0.0008 of $0.001"),
        "{}",
        why(ids[2])
    );
    // Commands have no budget, and ended tasks wait for nothing.
    for id in &ids[..2] {
        assert!(!why(id).contains("has spent"), "{}", why(id));
    }
    std::fs::write(world.host.work().join("gate"), "through").unwrap();
    let tasks: Vec<_> = ids.iter().map(|id| world.host.finished(id)).collect();
    // The only answer of `build` exceeded the remaining budget, and nothing was left for `check`.
    for task in &tasks[2..4] {
        let message = ended(task, "failed", "budget");
        assert_eq!(message, "the task's graph has spent $0.0016 of $0.001");
    }
    assert_eq!(world.api.message_requests().len(), 2);
    succeeded(&tasks[4], "over\n");
    // The new budget applies to all unfinished tasks of the graph.
    let check = ids[3];
    let hint = tasks[3]["hint"].as_str().expect("a hint");
    assert!(hint.starts_with("claudine retry "), "{hint}");
    assert!(hint.ends_with(" --graph-budget-usd 0.005"), "{hint}");
    let line = ["retry", check, "--graph-budget-usd", "0.005"];
    world.host.run(line).check();
    succeeded(&world.host.finished(check), "done");
}

/// An agent that starts a background command and answers. When something is written to `gate`, the
/// command ends and wakes the agent, whose third answer comes when `woken` is released. While the
/// agent runs, only the cost that it reports with its first result is known.
fn woken_agent() -> Script {
    Script::default()
        .then(Rule::new(Answer::steps([Step::bash("mkfifo gate; cat gate", true)])).at_turn(0))
        .then(Rule::new(Answer::text("it runs")).times(1))
        .then(Rule::new(Answer::silent("woken")))
}

/// Wakes the agent after its first result.
fn wake(world: &World, id: &str) {
    wait_for("the first result", || {
        let log = world.host.text(["logs", id, "--stream", "stdout"]);
        log.lines()
            .any(|line| line.contains("\"result_index\":0"))
            .then_some(())
    });
    let gate = world.host.work().join("gate");
    wait_for("the gate", || gate.exists().then_some(()));
    std::fs::write(gate, "through").unwrap();
}

#[test]
fn cost_of_an_agent_is_shown_while_it_runs_and_its_last_result_counts_if_it_was_woken() {
    let world = World::new(woken_agent());
    let id = world.delegate(&["go", "--allowed-tools", "Bash", "--budget-usd", "0.01"]);
    wake(&world, &id);
    world.reach("woken");
    wait_for("the cost of the first result", || {
        (world.host.status(&id)["cost_usd"] == 0.0016).then_some(())
    });
    assert_eq!(world.host.status(&id)["state"], "running");
    let why = world.host.json(["why", &id])["reasons"].to_string();
    assert!(why.contains("the task has spent $0.0016 of $0.01"), "{why}");
    world.api.release("woken");
    let task = world.host.finished(&id);
    succeeded(&task, "late");
    assert_eq!(task["cost_usd"], 0.0024, "each answer is counted once");
    assert_eq!(task["outputs"]["num_turns"], 3, "{task:#}");
}

#[test]
fn agent_is_stopped_if_another_agent_spends_the_rest_of_the_graphs_budget() {
    let mut script = woken_agent();
    let short = Rule::new(Answer::text("short")).containing("the short one");
    script.rules.insert(0, short);
    let world = World::new(script);
    let graph = "
- {name: long,  prompt: go, allowed_tools: [Bash]}
- {name: short, prompt: the short one, hold: true}
";
    let ids = world
        .host
        .run_with(["submit", "-", "--budget-usd", "0.002"], graph.as_bytes())
        .ok()
        .text();
    let ids: Vec<&str> = ids.lines().collect();
    wake(&world, ids[0]);
    // The agent of `long` gets no further answer, because `woken` is not released.
    world.reach("woken");
    wait_for("the cost of the first result", || {
        (world.host.status(ids[0])["cost_usd"] == 0.0016).then_some(())
    });
    world.host.run(["release", ids[1]]).check();
    for id in ids {
        let message = ended(&world.host.finished(id), "failed", "budget");
        assert_eq!(message, "the task's graph has spent $0.0024 of $0.002");
    }
}

#[test]
fn daily_budget_holds_agents_back_across_a_restart_of_the_host() {
    let world = World::with(answering(), Login::ApiKey, |host| {
        host.config("[budget]\ndaily_usd = 0.001\n")
    });
    let first = world.done(&["do it"]);
    succeeded(&first, "done");
    // The second agent gets the rest of the day's budget, and continues on the next day.
    let second = world.delegate(&["do more"]);
    let waiting = wait_for("the second task to wait for the next day", || {
        let task = world.host.status(&second);
        (task["state"] == "waiting").then_some(task)
    });
    let reason = &waiting["reason"];
    assert_eq!(reason["class"], "budget", "{waiting:#}");
    assert_eq!(
        reason["message"],
        "the day's tasks have spent $0.0016 of $0.001"
    );
    let third = world.delegate(&["do even more"]);
    let held_back = || {
        let reasons = world.host.json(["why", &third])["reasons"].to_string();
        reasons
            .contains("budget: agents have spent $0.0016 of $0.001 today")
            .then_some(())
    };
    wait_for("the third task to be held back", held_back);
    for command in [
        ["delegate", "do nothing"],
        ["retry", first["id"].as_str().unwrap()],
    ] {
        let told = world.host.run(command).complaint();
        // The time is readable.
        let is_told = told.contains("agents have spent the budget of the day, so it starts after");
        assert!(is_told && !told.contains("T00:00:00"), "{told}");
    }
    kill_9(world.host.host_pid().unwrap());
    world.host.up();
    wait_for("the third task to be held back again", held_back);
    assert_eq!(world.host.status(&third)["state"], "ready");
    assert_eq!(world.host.status(&second)["state"], "waiting");
    for command in [["capacity"], ["doctor"]] {
        let told = world.host.text(command);
        let budget = "$0.0016 of $0.001 spent today, $0.00 left";
        assert!(told.contains(budget), "{told}");
    }
    let cost = world
        .host
        .run(["cost", "--since", "1d", "--by", "executor"])
        .ok();
    let lines = cost.text();
    let last: Vec<&str> = lines.lines().last().unwrap().split_whitespace().collect();
    assert_eq!(last, ["claude", "2", "2", "$0.0016"]);
    cost.says(&["$0.0016 of $0.001 spent today, $0.00 left"]);
    // The second task is connected to no other task.
    let of_graph = world.host.json(["cost", "--graph", &second]);
    let counts = (&of_graph["tasks"], &of_graph["attempts"]);
    assert_eq!(counts, (&1.into(), &1.into()), "{of_graph}");
    // A command costs nothing and runs.
    let command = world.host.text(["run", "--", "true"]);
    assert_eq!(world.host.finished(command.trim())["outcome"], "succeeded");
}

/// A `claude` that begins a session and then does `rest`.
fn begins_and(rest: &str) -> (World, tempfile::TempDir) {
    let wrapper = format!(
        r#"case "$*" in *--version*) exec "$CLAUDE" "$@" ;; esac
        cat > /dev/null
        session=6f2a0d8e-3f57-4f1e-9d5b-1c1f5f7c0aff
        printf '{{"type":"system","subtype":"init","session_id":"%s","model":"m"}}\n' $session
        {rest}"#
    );
    World::wrapped(Script::default(), &wrapper)
}

/// Otherwise its attempts would count as free, and a client could repeat them without end.
#[test]
fn agent_that_reports_no_cost_is_charged_its_budget_and_not_tried_again() {
    let (world, _wrapper) = begins_and("exit 0");
    let task = world.done(&["hi", "--budget-usd", "4.9", "--retries", "3"]);
    ended(&task, "failed", "no_result");
    assert_eq!(task["attempts"].as_array().map(Vec::len), Some(1));
    assert_eq!(task["cost_usd"], 4.9);
    assert_eq!(task["assumed_usd"], 4.9);
    assert_eq!(attempt(&task, 0, "cost_is_assumed"), true);
    let says = "$4.90 is assumed: no cost was reported";
    let status = world.host.text(["status", task["id"].as_str().unwrap()]);
    assert!(
        status.contains(&format!("$4.90 of $4.90 ({says})")),
        "{status}"
    );
    world.host.run(["cost"]).ok().says(&[says]);
    assert_eq!(world.host.json(["cost"])["assumed_usd"], 4.9);
    // The agent's own limit is a lower bound.
    let line = ["hi", "--budget-usd", "4.9", "--max-budget-usd", "0.5"];
    assert_eq!(world.done(&line)["assumed_usd"], 0.5);
    let unlimited = world.done(&["hi"]);
    assert_eq!(unlimited.get("cost_usd"), None, "its cost is unknown");
}

/// Otherwise all agents would wait for the next day after a crash.
#[test]
fn killed_agent_with_only_the_budget_of_the_day_has_an_unknown_cost_and_others_start() {
    let (world, _wrapper) = begins_and("kill -9 $$");
    let daily = ["config", "set", "budget.daily_usd", "9"];
    world.host.run(daily).check();
    // The second agent ends as the first one. If the first one had cost the rest of the day, it
    // would not start.
    for killed in 1..=2 {
        let task = world.done(&["hi"]);
        assert_eq!(task["outcome"], "failed", "{task:#}");
        assert_eq!(task.get("cost_usd"), None);
        assert_eq!(task["cost_is_unknown"], true);
        assert_eq!(attempt(&task, 0, "cost_is_unknown"), true);
        let status = world.host.text(["status", task["id"].as_str().unwrap()]);
        let says = "cost unknown of 1 attempt: no cost was reported";
        assert!(status.contains(says), "{status}");
        assert_eq!(world.host.json(["cost"])["unknown"], killed);
    }
    // The agent's own limit is an upper bound of its cost.
    let bounded = world.done(&["hi", "--max-budget-usd", "0.5"]);
    assert_eq!(bounded["assumed_usd"], 0.5);
    assert_eq!(bounded.get("cost_is_unknown"), None);
}

#[test]
fn agent_whose_cost_is_in_the_cut_part_of_its_last_line_is_charged_its_budget() {
    let result = r#"printf '{"type":"result","subtype":"success","is_error":false,"result":"'
        head -c 8388608 /dev/zero | tr '\0' x
        printf '","total_cost_usd":4.8}\n'"#;
    let (world, _wrapper) = begins_and(result);
    let task = world.done(&["hi", "--budget-usd", "4.9", "--max-output", "1M"]);
    assert_eq!(task["outcome"], "succeeded", "{}", task["reason"]);
    assert_eq!(task["assumed_usd"], 4.9);
}

/// Otherwise a client could hide the cost of its agents by a low limit.
#[test]
fn cost_of_an_agent_is_known_although_its_output_is_over_a_low_limit() {
    let result = r#"filler=$(head -c 100000 /dev/zero | tr '\0' x)
        printf '{"type":"unknown","text":"%s"}\n' "$filler" "$filler"
        printf '{"type":"result","subtype":"success","is_error":false,"result":"%s",' "$filler"
        printf '"total_cost_usd":0.3}\n'"#;
    let (world, _wrapper) = begins_and(result);
    let task = world.done(&["hi", "--budget-usd", "4.9", "--max-output", "4K"]);
    assert_eq!(task["outcome"], "succeeded", "{}", task["reason"]);
    assert_eq!(task["cost_usd"], 0.3);
    assert_eq!(task.get("assumed_usd"), None);
}

#[test]
fn agent_that_is_cancelled_before_it_reports_a_cost_is_charged_its_budget() {
    let (world, _wrapper) = begins_and("touch begun\nexec tail -f /dev/null");
    let id = world.delegate(&["hi", "--budget-usd", "4.9"]);
    let begun = world.host.work().join("begun");
    wait_for("the session", || begun.exists().then_some(()));
    world.host.run(["cancel", &id]).check();
    let task = world.host.finished(&id);
    assert_eq!(task["outcome"], "cancelled", "{task:#}");
    assert_eq!(task["assumed_usd"], 4.9);
}

/// Claude Code then often tells a cost of 0, but the service charges the prompt.
#[test]
fn agent_that_is_cancelled_before_its_first_answer_is_charged_its_budget() {
    let world = World::new(Script::always(Answer::silent("for ever")));
    let id = world.delegate(&["hi", "--budget-usd", "4.9"]);
    wait_for("a request", || {
        (!world.api.message_requests().is_empty()).then_some(())
    });
    world.host.run(["cancel", &id]).check();
    let task = world.host.finished(&id);
    assert_eq!(task["outcome"], "cancelled", "{task:#}");
    assert_eq!(task["assumed_usd"], 4.9);
}

#[test]
fn agent_that_ends_before_its_session_begins_costs_nothing() {
    let (world, _wrapper) = World::wrapped(Script::default(), "exit 7");
    let task = world.done(&["hi", "--budget-usd", "4.9"]);
    ended(&task, "failed", "no_result");
    assert_eq!(task["cost_usd"], 0.0);
    assert_eq!(task.get("assumed_usd"), None);
}

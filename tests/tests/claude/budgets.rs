//! What agents may cost. Each answer of the scripted service costs 0.0008 dollars.

use claudine_tests::{
    messages_api::{Answer, Script},
    process::kill_9,
    wait_for,
};

use crate::world::{Login, World, ended, succeeded};

fn answering() -> Script {
    Script::always(Answer::text("done"))
}

#[test]
fn a_task_that_has_spent_its_budget_does_not_go_on() {
    let world = World::new(answering());
    let task = world.done(&["do it", "--budget-usd", "0.0005"]);
    succeeded(&task, "done");
    assert_eq!(task["budget_usd"], 0.0005);
    let id = task["id"].as_str().unwrap();
    for verb in ["resume", "retry"] {
        world
            .host
            .run([verb, id])
            .code(125)
            .says(&["cannot run: it has spent $0.0008 of $0.0005"]);
    }
    world
        .host
        .run(["delegate", "do it", "--budget-usd", "0"])
        .code(2)
        .says(&["the budget is 0, but must be an amount of US dollars over 0"]);
}

#[test]
fn where_a_graph_has_spent_its_budget_its_agents_end_and_its_commands_run() {
    let world = World::new(answering());
    let graph = "
- {name: plan,   prompt: plan it}
- {name: build,  prompt: build it, dependencies: [plan]}
- {name: report, argv: [echo, over], dependencies: [{task: build, condition: any}]}
";
    let ids = world
        .host
        .run_with(["submit", "-", "--budget-usd", "0.0005"], graph.as_bytes())
        .ok()
        .text();
    let tasks: Vec<_> = ids.lines().map(|id| world.host.finished(id)).collect();
    succeeded(&tasks[0], "done");
    ended(&tasks[1], "failed", "budget");
    assert_eq!(
        tasks[1]["reason"]["message"],
        "its graph has spent $0.0008 of $0.0005"
    );
    succeeded(&tasks[2], "over\n");
}

#[test]
fn the_days_budget_holds_agents_back_over_a_restart_of_the_host() {
    let world = World::with(answering(), Login::ApiKey, |host| {
        host.config("[budget]\ndaily_usd = 0.0005\n")
    });
    succeeded(&world.done(&["do it"]), "done");
    let second = world.delegate(&["do more"]);
    let held_back = || {
        let reasons = world.host.json(["why", &second])["reasons"].to_string();
        reasons
            .contains("budget: agents have spent $0.0008 of $0.0005 today")
            .then_some(())
    };
    wait_for("the second to be held back", held_back);
    kill_9(world.host.host_pid().unwrap());
    world.host.up();
    wait_for("the second to be held back again", held_back);
    assert_eq!(world.host.status(&second)["state"], "ready");
    let capacity = world.host.text(["capacity"]);
    assert!(
        capacity.contains("budget  $0.0008 of $0.0005 spent today"),
        "{capacity}"
    );
    // What costs nothing runs.
    let command = world.host.text(["run", "--", "true"]);
    assert_eq!(world.host.finished(command.trim())["outcome"], "succeeded");
}

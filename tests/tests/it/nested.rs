//! Tasks that submit tasks.

use std::{fs, time::Duration};

use claudine_tests::{TestHost, harness::binary, process::alive, short_id, wait_for};
use serde_json::{Value, json};

fn claudine() -> String {
    format!("'{}'", binary().display())
}

#[test]
fn task_that_waits_for_its_child_frees_its_slot() {
    let host = TestHost::builder().slots(1).build();
    let id = host.script(&format!(
        "{} run --wait --script 'echo from below'",
        claudine()
    ));
    let task = host.finished(&id);
    assert_eq!(task["outcome"], "succeeded", "{task:#}");
    assert_eq!(task["output"], "from below\n");
    let list = host.json(["list"]);
    let child = list["tasks"]
        .as_array()
        .unwrap()
        .iter()
        .find(|task| task["id"] != id.as_str())
        .unwrap();
    assert_eq!(child["parent"], id.as_str());
}

/// Anybody can name any attempt in a wait. A wait of the attempt itself, for another child, is
/// measured first, and the wait of somebody else lasts many times as long: a child whose slot were
/// free would have ended by then, however slow the machine is.
#[test]
fn wait_of_somebody_else_does_not_free_the_slot_of_an_attempt() {
    let host = TestHost::builder().slots(1).build();
    let claudine = claudine();
    let parent = host.script(&format!(
        "touch begun; {claudine} run --wait -- true && touch ended && \
         {claudine} run --name child -- true && touch queued; \
         until test -e over; do sleep 0.1; done"
    ));
    wait_for("the child to be queued", || {
        host.work().join("queued").exists().then_some(())
    });
    let changed = |name: &str| {
        let about = fs::metadata(host.work().join(name)).unwrap();
        about.modified().unwrap()
    };
    let own_wait = changed("ended").duration_since(changed("begun")).unwrap();
    let lasts = (10 * own_wait).clamp(Duration::from_secs(1), Duration::from_secs(30));
    let lasts = lasts.as_millis();
    let path = format!("/v1/tasks/child/wait?timeout_ms={lasts}&waiter={parent}.1");
    // No command takes the place of the request, so a refusal fails the test.
    let child = host.ask(&path, ["no-such-command"]);
    assert_ne!(child["state"], "done", "{child:#}");
    let attempts = child["attempts"].as_array().map_or(0, Vec::len);
    assert_eq!(attempts, 0, "the child was started: {child:#}");
    fs::write(host.work().join("over"), "").unwrap();
    assert_eq!(host.finished("child")["outcome"], "succeeded");
}

/// Otherwise a process in another pid namespace could spend the budget of any stored graph.
#[test]
fn request_is_inside_the_attempt_that_it_names_only_while_this_attempt_runs() {
    let host = TestHost::new();
    let parent = host.script("until test -e over; do sleep 0.1; done");
    host.live(&parent);
    let parent_of = |name: &str, attempt: u32| {
        let base = json!({
            "HOME": host.home(), "PATH": std::env::var("PATH").unwrap(),
            "CLAUDINE_ATTEMPT": format!("{parent}.{attempt}"),
        });
        let task = json!({
            "executor": "shell", "name": name, "working_directory": host.work(),
            "spec": {"script": "true"},
        });
        let request = json!({"environment": {"base": base}, "tasks": [task]});
        let answer = host.post_as_client("/v1/tasks", &request.to_string());
        assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
        host.status(name)["parent"].clone()
    };
    assert_eq!(parent_of("during", 1), json!(parent));
    assert_eq!(parent_of("other", 2), Value::Null);
    fs::write(host.work().join("over"), "").unwrap();
    assert_eq!(host.finished(&parent)["outcome"], "succeeded");
    assert_eq!(parent_of("after", 1), Value::Null);
}

#[test]
fn cancel_of_a_parent_reaches_its_attached_children() {
    let host = TestHost::new();
    let claudine = claudine();
    let id = host.script(&format!(
        "{claudine} run --name kept --detach -- sleep 600; {claudine} run --name taken -- sleep 600; touch both; exec sleep 600"
    ));
    wait_for("both children", || {
        host.work().join("both").exists().then_some(())
    });
    let kept = host.live("kept");
    let taken = host.live("taken");
    host.run(["cancel", &id]).check();
    assert_eq!(host.finished(&id)["outcome"], "cancelled");
    assert_eq!(host.finished("taken")["outcome"], "cancelled");
    assert!(!alive(taken) && alive(kept));
    host.run(["cancel", "kept"]).check();
    host.finished("kept");
}

#[test]
fn cancel_after_a_restart_reaches_children_of_a_child_that_has_ended() {
    let host = TestHost::new();
    let claudine = claudine();
    let id = host.script(&format!(
        "{claudine} run --wait --script \"{claudine} run --name below -- sleep 600\"; touch ended; exec sleep 600"
    ));
    wait_for("the middle task to end", || {
        host.work().join("ended").exists().then_some(())
    });
    let below = host.live("below");
    host.run(["down"]).check();
    host.run(["cancel", &id]).check();
    assert_eq!(host.finished(&id)["outcome"], "cancelled");
    assert_eq!(host.finished("below")["outcome"], "cancelled");
    assert!(!alive(below));
}

#[test]
fn cancel_of_a_finished_task_reaches_its_running_children() {
    let host = TestHost::new();
    let claudine = claudine();
    let id = host.script(&format!(
        "{claudine} run --name kept --detach -- sleep 600; {claudine} run --name left -- sleep 600"
    ));
    assert_eq!(host.finished(&id)["outcome"], "succeeded");
    let (kept, left) = (host.live("kept"), host.live("left"));
    let said = host.run(["cancel", &id, "-m", "enough"]).ok();
    said.says(&[&format!(
        "{} has already ended; cancelled the tasks it submitted (1)",
        short_id(&id)
    )]);
    let task = host.finished("left");
    assert_eq!(task["outcome"], "cancelled");
    assert_eq!(
        task["reason"]["message"],
        format!("with its parent {}: enough", short_id(&id))
    );
    assert!(!alive(left) && alive(kept));
    assert_eq!(host.status(&id)["outcome"], "succeeded");
    // Only the detached task is left, which a cancel of its parent does not reach.
    host.run(["cancel", &id]).code(125).says(&[&format!(
        "task {} has already ended: succeeded",
        short_id(&id)
    )]);
    host.run(["cancel", "kept"]).check();
    host.finished("kept");
}

#[test]
fn task_that_is_nested_deeper_than_five_levels_is_refused() {
    let host = TestHost::new();
    // Each task submits the same script again, until the host refuses a task.
    let script = host.work().join("deeper.sh");
    let text = format!(
        "echo level >> levels\n{} run --wait -- sh '{}' 2>> refusals\n",
        claudine(),
        script.display()
    );
    fs::write(&script, text).unwrap();
    let id = host.text(["run", "--", "sh", script.to_str().unwrap()]);
    host.finished(&id);
    let levels = fs::read_to_string(host.work().join("levels")).unwrap();
    assert_eq!(
        levels.lines().count(),
        6,
        "one task and five levels of tasks below it should have run"
    );
    let refusals = fs::read_to_string(host.work().join("refusals")).unwrap();
    let refused = "error: a task at depth 6 would be nested deeper than 5";
    let lines: Vec<&str> = refusals.lines().collect();
    assert_eq!(
        lines
            .iter()
            .filter(|line| line.starts_with(refused))
            .count(),
        1,
        "{refusals}"
    );
}

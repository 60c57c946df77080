//! Capacity: the free resources of the machine, learned needs, and the number of slots.

use claudine_tests::{TestHost, wait_for};
use serde_json::Value;

/// Runs a task that holds this much memory at its peak.
fn hungry(host: &TestHost, mib: u64, label: &str) -> String {
    let script = format!("head -c {mib}M /dev/zero | tail -c {mib}M > /dev/null");
    host.text(["run", "--label", label, "--script", &script])
}

fn class<'a>(capacity: &'a Value, label: Option<&str>) -> Option<&'a Value> {
    let mut classes = capacity["classes"].as_array()?.iter();
    classes.find(|class| class["executor"] == "shell" && class["labels"]["kind"].as_str() == label)
}

#[test]
fn measured_needs_of_attempts_are_learned_and_survive_a_restart() {
    let host = TestHost::builder().env("CLAUDINE_SLOTS", "auto").build();
    for _ in 0..5 {
        let id = hungry(&host, 64, "kind=build");
        let task = host.finished(&id);
        assert_eq!(task["outcome"], "succeeded", "{task:#}");
    }
    let before = host.json(["capacity"]);
    let build = class(&before, Some("build")).unwrap();
    assert_eq!(
        (build["attempts"].as_u64(), build["is_trusted"].as_bool()),
        (Some(5), Some(true))
    );
    let peak = build["memory_bytes"]["p95"].as_u64().unwrap();
    assert!((60 << 20..120 << 20).contains(&peak), "{before:#}");
    assert_eq!(build["expected_memory_bytes"].as_u64(), Some(peak));
    assert!(build["more"].as_u64().unwrap() > 0, "{before:#}");
    let all = class(&before, None).unwrap();
    assert_eq!(
        (all["samples"].as_u64(), all["is_trusted"].as_bool()),
        (Some(5), Some(false))
    );
    let advice = before["advice"].to_string();
    assert!(advice.contains("P95 of `shell kind=build` is"), "{advice}");
    assert!(
        advice.contains("`shell`: 5 of 20 attempts measured"),
        "{advice}"
    );

    // The next host has the same learned needs.
    host.kill_host();
    let after = host.json(["capacity"]);
    assert_eq!(
        before["classes"][1]["memory_bytes"],
        after["classes"][1]["memory_bytes"]
    );
    let shown = host.text(["capacity"]);
    for word in ["slots   auto", "cores in use", "shell kind=build", "ADVICE"] {
        assert!(shown.contains(word), "{word} is not in\n{shown}");
    }

    host.json(["capacity", "--forget", "shell"]);
    assert_eq!(class(&host.json(["capacity"]), Some("build")), None);
    host.run(["capacity", "--forget", "shell"])
        .code(125)
        .says(&["there are no measurements of executor", "shell"]);
}

#[test]
fn number_of_slots_can_be_changed_while_tasks_run() {
    let host = TestHost::builder().slots(1).build();
    let [first, second, third] = [(); 3].map(|()| host.script("sleep 600"));
    host.live(&first);
    assert_eq!(host.text(["slots"]), "1");
    wait_for("the second task to be refused a slot", || {
        let capacity = host.json(["capacity"]);
        let refusal = capacity["refusals"][0].clone();
        (refusal["stands"] == true).then(|| {
            assert_eq!(refusal["reason"], "all slots are taken: 1 of 1");
        })
    });
    assert_eq!(host.text(["slots", "2"]), "2");
    host.live(&second);
    assert_eq!(host.status(&third)["state"], "ready");
    // Running tasks continue even if they exceed the new number.
    assert_eq!(host.text(["slots", "1"]), "1");
    host.run(["cancel", &first]).check();
    host.finished(&first);
    assert_eq!(host.status(&third)["state"], "ready");
    assert_eq!(host.status(&second)["state"], "running");
    assert_eq!(host.json(["slots", "2"])["slots"], 2);
    host.live(&third);
    assert_eq!(host.text(["slots", "auto"]), "auto");
    for bad in ["0", "many", "10001", "-1"] {
        host.run(["slots", "--", bad]).code(2).says(&["auto", bad]);
    }
    assert_eq!(host.text(["slots"]), "auto");
}

//! Times as a person types them: in the time zone of the command.

use claudine_tests::{TestHost, command, wait::PATIENCE};

/// The time zone of Tokyo, which has no summer time. In this form it needs no time zone database.
const TOKYO: &str = "JST-9";

#[test]
fn start_times_are_in_the_time_zone_of_the_command() {
    let host = TestHost::builder().env("TZ", TOKYO).build();
    let start = |at: &str| {
        let ran = host.run(["run", "--at", at, "--", "true"]).ok();
        let until = host.status(&ran.text())["until"]
            .as_str()
            .unwrap()
            .to_owned();
        (until, ran)
    };
    let (until, ran) = start("tomorrow 06:00");
    assert!(until.ends_with("T21:00:00.000Z"), "{until}");
    ran.says(&["starts ", " 06:00 (in "]);
    let (until, _) = start("18:30");
    assert!(until.ends_with("T09:30:00.000Z"), "{until}");
    let (_, ran) = start("+2h");
    ran.says(&["(in 2h00m)"]);

    // If the host and a command have different time zones, the command's time zone counts.
    let mut elsewhere = host.command(["run", "--at", "18:30", "--", "true"]);
    elsewhere.env("TZ", "UTC0");
    let id = command::run(elsewhere, b"", PATIENCE).ok().text();
    let until = host.status(&id)["until"].as_str().unwrap().to_owned();
    assert!(until.ends_with("T18:30:00.000Z"), "{until}");

    let refused = host.run(["run", "--at", "yesterday", "--", "true"]).code(2);
    refused.says(&["`yesterday` was ", " ago; give a time in the future"]);
}

#[test]
fn zone_that_does_not_exist_is_reported() {
    let host = TestHost::builder().env("TZ", "Mars/Olympus").build();
    let told =
        "`TZ` is `Mars/Olympus`, which names no time zone of this machine, so times are in UTC";
    let ran = host
        .run(["run", "--at", "tomorrow 06:00", "--", "true"])
        .ok();
    let until = host.status(&ran.text())["until"].clone();
    assert!(
        until.as_str().unwrap().ends_with("T06:00:00.000Z"),
        "{until}"
    );
    ran.says(&["starts ", &format!("warning: {told}")]);
    // The exit code is not checked, because `doctor` may find other faults of the machine.
    let found = host.run(["--json", "doctor"]).json();
    let zone = found.as_array().unwrap().iter();
    let mut zone = zone.filter(|finding| finding["what"] == "time zone");
    assert_eq!(zone.next().unwrap()["found"], told, "{found:#}");
}

#[test]
fn times_in_a_file_have_the_same_forms_as_in_options() {
    let host = TestHost::builder().env("TZ", TOKYO).build();
    let file = "- {name: late, argv: ['true'], at: tomorrow 06:00}";
    host.run_with(["submit", "-"], file.as_bytes()).check();
    let until = host.status("late")["until"].as_str().unwrap().to_owned();
    assert!(until.ends_with("T21:00:00.000Z"), "{until}");
}

#[test]
fn logs_and_events_can_start_at_a_time() {
    let host = TestHost::new();
    let id = host.script("echo one");
    host.finished(&id);
    assert_eq!(
        host.text(["logs", "--since", "yesterday 06:00", &id]),
        "one"
    );
    assert_eq!(host.text(["logs", "--since", "tomorrow", &id]), "");
    let events = host.text(["events", "--since", "yesterday"]);
    assert!(events.contains("succeeded"), "{events}");
}

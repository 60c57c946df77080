//! `events`: each event once and in order, for every reader, even across restarts of the host.

use std::{
    fs,
    io::{BufRead, BufReader, Lines},
    process::{Child, ChildStdout, Stdio},
};

use claudine_tests::{TestHost, command, short_id, wait::PATIENCE, wait_for};
use serde_json::Value;

/// Output of `events` with these arguments, as JSON.
fn events(host: &TestHost, arguments: &[&str]) -> Vec<Value> {
    let words = ["events", "--json"].iter().chain(arguments);
    let text = host.text(words);
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn kinds(events: &[Value]) -> Vec<&str> {
    events
        .iter()
        .map(|event| event["kind"].as_str().unwrap())
        .collect()
}

/// A follower in a separate process.
struct Following {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Following {
    fn start(host: &TestHost, arguments: &[&str]) -> Self {
        let words = ["events", "--json", "-f"].iter().chain(arguments);
        let mut child = host
            .command(words)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    fn next(&mut self) -> Value {
        serde_json::from_str(&self.lines.next().unwrap().unwrap()).unwrap()
    }

    /// Reads up to the first event of this kind; returns all events read.
    fn until(&mut self, kind: &str) -> Vec<Value> {
        let mut seen = Vec::new();
        loop {
            seen.push(self.next());
            if seen.last().unwrap()["kind"] == kind {
                return seen;
            }
        }
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        // The follower may have ended already.
        drop(self.child.kill());
        self.child.wait().unwrap();
    }
}

#[test]
fn events_are_listed_once_and_in_order() {
    let host = TestHost::new();
    let id = host.text(["run", "--name", "greet", "--script", "echo hi; exit 3"]);
    host.finished(&id);
    let other = host.script("true");
    host.finished(&other);
    let all = events(&host, &[]);
    let sequences: Vec<u64> = all
        .iter()
        .map(|event| event["sequence"].as_u64().unwrap())
        .collect();
    assert!(sequences.is_sorted_by(|a, b| a < b), "{sequences:?}");
    let of_task = events(&host, &["greet"]);
    assert_eq!(
        kinds(&of_task),
        ["submitted", "attempt_started", "attempt_ended", "done"]
    );
    assert!(of_task.iter().all(|event| event["task"] == id.as_str()));
    assert!(of_task.iter().all(|event| event["name"] == "greet"));
    assert_eq!(of_task[3]["outcome"], "failed");
    // Events can be read from a number or a time on.
    let after = of_task[1]["sequence"].to_string();
    assert_eq!(events(&host, &["greet", "--since", &after]), of_task[2..]);
    assert_eq!(events(&host, &["--since", "1h"]), all);
    assert_eq!(
        events(&host, &["--since", "2999-01-01T00:00:00Z"]),
        [] as [Value; 0]
    );
    // Checks the output for people.
    let lines = host.text(["events", "greet"]);
    assert!(
        lines.contains(&format!("  {}  greet  submitted", short_id(&id))),
        "{lines}"
    );
    assert!(lines.contains("done: failed: "), "{lines}");
    // The output is the same after a crash.
    host.kill_host();
    assert_eq!(events(&host, &[]), all);
}

#[test]
fn follower_of_a_task_ends_with_the_task() {
    let host = TestHost::new();
    let id = host.script("until test -e go; do sleep 0.1; done");
    host.live(&id);
    let mut following = Following::start(&host, &[&id]);
    assert_eq!(
        kinds(&following.until("attempt_started")),
        ["submitted", "attempt_started"]
    );
    fs::write(host.work().join("go"), "").unwrap();
    assert_eq!(kinds(&following.until("done")), ["attempt_ended", "done"]);
    assert!(
        following.lines.next().is_none(),
        "the follower goes on after the task's end"
    );
    assert!(following.child.wait().unwrap().success());
}

#[test]
fn follower_misses_no_event_across_restarts_of_the_host() {
    let host = TestHost::new();
    let first = host.script("true");
    host.finished(&first);
    let mut following = Following::start(&host, &["--since", "0"]);
    following.until("done");
    let check = |following: &mut Following, leave: &dyn Fn()| {
        leave();
        // The killed host's socket may still accept a request, which is lost. `up` is then sent
        // again, because repeating it does no harm.
        host.up();
        let id = host.script("true");
        let seen = following.until("done");
        assert_eq!(
            kinds(&seen),
            ["submitted", "attempt_started", "attempt_ended", "done"]
        );
        assert!(seen.iter().all(|event| event["task"] == id.as_str()));
    };
    check(&mut following, &|| {
        host.kill_host();
    });
    check(&mut following, &|| {
        host.run(["down"]).check();
        wait_for("the host to be gone", || {
            host.host_pid().is_none().then_some(())
        });
    });
    assert!(following.child.try_wait().unwrap().is_none());
}

#[test]
fn follower_does_not_restart_a_host_that_was_stopped() {
    let host = TestHost::new();
    host.up();
    let mut follow = host.command(["events", "-f"]);
    let mut follow = follow
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut talk = BufReader::new(follow.stderr.take().unwrap()).lines();
    // Once a second follower, started later, has received an event, the first follower is connected
    // too.
    let mut other = Following::start(&host, &["--since", "0"]);
    host.script("true");
    other.until("done");
    drop(other);
    host.run(["down"]).check();
    let said = talk.next().unwrap().unwrap();
    assert!(said.contains("waiting for the next one"), "{said}");
    assert!(host.host_pid().is_none());
    follow.kill().unwrap();
    assert!(command::ends_within(&mut follow, PATIENCE).is_some());
}

#[test]
fn reader_of_a_waiting_task_learns_that_its_events_were_removed() {
    let host = TestHost::new();
    let id = host.text(["run", "--hold", "--", "true"]);
    let seen = host.run(["events", &id]).ok();
    assert_eq!(seen.complaint(), "");
    // Old events are removed when a host starts.
    let seen = wait_for("the events to be removed", || {
        host.run(["down"]).check();
        host.run(["up", "--keep", "1s"]).check();
        let seen = host.run(["events", &id]).ok();
        seen.text().is_empty().then_some(seen)
    });
    let note = "note: all events so far were removed (they are kept as long as finished tasks";
    assert!(seen.complaint().starts_with(note), "{}", seen.complaint());
    assert_eq!(host.json(["status", &id])["state"], "held");
}

#[test]
fn number_of_an_event_to_come_is_reported() {
    let host = TestHost::new();
    let id = host.script("true");
    host.finished(&id);
    let seen = host.run(["events", "--since", "4711"]).ok();
    assert_eq!(seen.text(), "");
    let note = "note: no event after 4711 exists yet: the last one so far is ";
    assert!(seen.complaint().starts_with(note), "{}", seen.complaint());
}

#[test]
fn invalid_arguments_are_refused() {
    let host = TestHost::new();
    let check = |arguments: &[&str], code: i32, why: &str| {
        let ran = host.run(["events"].iter().chain(arguments)).code(code);
        assert!(ran.complaint().contains(why), "{}", ran.complaint());
    };
    check(
        &["--since", "soon"],
        2,
        "`soon` is neither the number of an event nor a time",
    );
    check(&["nobody"], 125, "no task matches `nobody`");
}

//! Children that are fed while they run: no input is lost, and no child takes half of an input for
//! the whole.

use std::io::ErrorKind;

use serde_json::json;

use super::*;

impl Lab {
    fn fed(&self, attempt: &str, script: &str) -> StartChild {
        StartChild {
            stdin: Stdin::Stream,
            ..self.script(attempt, script)
        }
    }

    /// Starts the child and opens its input.
    async fn feed(&mut self, start: StartChild) -> (ChildId, host::Feed) {
        let child = start.child.clone();
        self.host.supervisors.start(start).done().await.unwrap();
        self.host.started(&child).await;
        let feed = self.host.supervisors.feed(child.clone()).await.unwrap();
        (child, feed.expect("the child reads"))
    }
}

/// Reads five bytes, then the rest. At the end of the input, creates the file `end-seen`.
const READER: &str = "head -c 5; echo; cat > rest; echo end > end-seen";

fn was_killed_for_it(exit: &Exit) -> bool {
    exit.status == Status::Signal(9) && exit.input_broke_off
}

#[tokio::test]
async fn input_arrives_complete_and_then_ends() {
    let mut lab = Lab::new().await;
    let (child, mut feed) = lab.feed(lab.fed("t.1", "cat; echo end")).await;
    let piece: Vec<u8> = (0..=255).cycle().take(300_000).collect();
    for _ in 0..10 {
        feed.write_all(&piece).await.unwrap();
    }
    feed.end().await.unwrap();
    let (exit, ended) = lab.host.exit(&child).await;
    assert_eq!(
        (exit.status, exit.input_broke_off, ended),
        (Status::Code(0), false, true)
    );
    let mut expected = piece.repeat(10);
    expected.extend(b"end\n");
    assert!(lab.output("t.1", Channel::Stdout) == expected);
    assert!(lab.host.supervisors.feed(child).await.unwrap().is_none());
}

#[tokio::test]
async fn a_child_whose_input_breaks_off_is_killed_before_it_sees_an_end() {
    let mut lab = Lab::new().await;
    let (child, mut feed) = lab.feed(lab.fed("t.1", READER)).await;
    feed.write_all(b"12345678").await.unwrap();
    assert_eq!(lab.lines("t.1", 1).await, ["12345"]);
    drop(feed);
    let (exit, _) = lab.host.exit(&child).await;
    assert!(was_killed_for_it(&exit), "{exit:?}");
    assert!(!lab.dir.path().join("end-seen").exists());
}

#[tokio::test]
async fn a_child_that_ends_or_stops_reading_is_reported_to_its_feeder() {
    let mut lab = Lab::new().await;
    let (child, mut feed) = lab.feed(lab.fed("t.1", "head -c 5; exit 3")).await;
    let piece = vec![0; 1 << 20];
    let error = feed.write_all(&piece).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    drop(feed);
    let (exit, _) = lab.host.exit(&child).await;
    assert_eq!(
        (exit.status, exit.input_broke_off),
        (Status::Code(3), false)
    );

    let script = "exec < /dev/null; echo closed; until test -e go; do sleep 0.02; done; exit 4";
    let (child, mut feed) = lab.feed(lab.fed("t.2", script)).await;
    lab.lines("t.2", 1).await;
    let error = feed.write_all(&piece).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    feed.end().await.unwrap();
    std::fs::write(lab.dir.path().join("go"), "").unwrap();
    assert_eq!(lab.host.exit(&child).await.0.status, Status::Code(4));
}

#[tokio::test]
async fn a_host_that_dies_breaks_off_the_inputs_of_its_children() {
    let mut lab = Lab::new().await;
    let (_, mut feed) = lab.feed(lab.fed("fed.1", READER)).await;
    feed.write_all(b"12345678").await.unwrap();
    lab.lines("fed.1", 1).await;
    let start = lab.fed("unclaimed.1", "echo up; cat; touch end-seen");
    let child = start.child.clone();
    lab.start(start).await;
    let pids = [marked("fed.1"), vec![lab.host.started(&child).await.0]].concat();

    // The feed is dropped without an `end`, as if the host were killed.
    drop(feed);
    let dir = lab.leave().await;
    for pid in pids {
        tokio::task::spawn_blocking(move || wait_gone(pid))
            .await
            .unwrap();
    }
    let host = Host::open(dir.path(), 2).await;
    assert_eq!(host.found.len(), 2);
    for found in &host.found {
        assert!(
            matches!(&found.children[0].state, FoundState::Exited(exit) if was_killed_for_it(exit)),
            "{found:?}"
        );
    }
    assert!(!dir.path().join("end-seen").exists());
    host.close().await;
}

#[tokio::test]
async fn a_new_host_breaks_off_the_inputs_that_the_previous_host_feeds() {
    let mut lab = Lab::new().await;
    let (child, feed) = lab.feed(lab.fed("t.1", READER)).await;
    // The old host still feeds the child when the new one arrives.
    let mut lab = lab.restart_host(2).await;
    let exit = match &lab.host.found[0].children[0].state {
        FoundState::Exited(exit) => exit.clone(),
        _ => lab.host.exit(&child).await.0,
    };
    assert!(was_killed_for_it(&exit), "{exit:?}");
    drop(feed);
}

#[tokio::test]
async fn a_child_that_is_being_stopped_is_not_killed_if_its_input_breaks_off() {
    let mut lab = Lab::new().await;
    let script = "trap 'echo stopping; until test -e go; do sleep 0.02; done; exit 7' TERM; echo up; sleep 1000 & wait";
    let mut start = lab.fed("t.1", script);
    start.ladder[0].wait = PATIENCE;
    let ladder = start.ladder.clone();
    let (child, feed) = lab.feed(start).await;
    lab.lines("t.1", 1).await;
    lab.stop(key("t.1"), StopWhy::Cancelled, ladder).await;
    lab.lines("t.1", 2).await;
    drop(feed);
    std::fs::write(lab.dir.path().join("go"), "").unwrap();
    let (exit, _) = lab.host.exit(&child).await;
    assert_eq!(
        (exit.status, exit.stopped, exit.input_broke_off),
        (Status::Code(7), Some(StopWhy::Cancelled), false)
    );
}

#[tokio::test]
async fn many_children_are_fed_at_once() {
    const CHILDREN: usize = 40;
    let mut lab = Lab::new().await;
    for number in 0..CHILDREN {
        let start = lab.fed(&format!("t.{number}"), "cat; exit 5");
        lab.start(start).await;
    }
    let mut feeding = tokio::task::JoinSet::new();
    let mut over = 0;
    while over < CHILDREN {
        match lab.host.next().await {
            Report::Started { child, .. } => {
                let supervisors = lab.host.supervisors.clone();
                feeding.spawn(async move {
                    let text = format!("for {}\n", name_of(child.attempt()));
                    let mut feed = supervisors.feed(child).await.unwrap().unwrap();
                    feed.write_all(text.as_bytes()).await.unwrap();
                    feed.end().await.unwrap();
                });
            }
            Report::Exited { exit, .. } => {
                assert_eq!(exit.status, Status::Code(5));
                over += 1;
            }
            // The end of an attempt is a separate report if the supervisor could not tell, when the
            // shell ended, that nothing else of the attempt was alive.
            Report::Ended { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    feeding.join_all().await;
    for number in 0..CHILDREN {
        let name = format!("t.{number}");
        assert_eq!(lab.text(&name), format!("for {name}\n"));
    }
}

#[tokio::test]
async fn a_start_with_a_stream_is_refused_if_the_supervisor_cannot_feed_children() {
    let lab = Lab::new().await;
    let start = lab.fed("old.1", "cat");
    let dir = lab.leave().await;
    let attempt = json!({"attempt": start.child.attempt(), "children": [], "stopping": null, "finished": false, "ended": null,
        "held": null});
    let old = Impostor::begin(
        dir.path(),
        vec![json!({"attempt": attempt}), json!("ready")],
    );
    let mut host = Host::open(dir.path(), 2).await;
    host.supervisors.start(start).done().await.unwrap();
    let report = host.next().await;
    assert!(
        matches!(&report, Report::NotStarted { class: NotStartedClass::Invalid, message, .. } if message.contains("too old")),
        "{report:?}"
    );
    host.close().await;
    assert_eq!(old.heard(), 1, "only the hello was sent");
}

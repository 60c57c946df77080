//! Many clients at once: those who wait are all served, and keep nobody from asking.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

use claudine_tests::{TestHost, wait_for};

/// What a command may take beside a crowd. It is a process of its own, on a machine that does other
/// things as well.
const AT_ONCE: Duration = Duration::from_secs(5);

fn connect(host: &TestHost) -> UnixStream {
    let path = host.data_dir().join("host.sock");
    // The queue of the listener may be full for a moment.
    wait_for("a connection", || UnixStream::connect(&path).ok())
}

fn ask(mut stream: &UnixStream, path: &str) {
    let request = format!("GET {path} HTTP/1.1\r\nhost: claudine\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
}

#[test]
fn two_thousand_clients_that_wait_are_all_served() {
    let host = TestHost::new();
    let id = host.script("until test -e go; do sleep 0.02; done");
    host.live(&id);
    let waiting: Vec<UnixStream> = (0..2_000)
        .map(|_| {
            let stream = connect(&host);
            ask(&stream, &format!("/v1/tasks/{id}/wait?timeout_ms=50000"));
            stream
        })
        .collect();
    let begun = Instant::now();
    assert_eq!(host.status(&id)["state"], "running");
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
    host.run(["cancel", &id]).check();
    for mut stream in waiting {
        stream
            .set_read_timeout(Some(Duration::from_mins(1)))
            .unwrap();
        let mut answer = [0; 4096];
        let mut text = Vec::new();
        // One that found no room to stay was answered before the end, and would ask again.
        while !text.windows(7).any(|part| part == b"\"state\"") {
            let length = stream.read(&mut answer).unwrap();
            assert!(length > 0, "cut off: {:?}", String::from_utf8_lossy(&text));
            text.extend_from_slice(&answer[..length]);
        }
        assert!(text.starts_with(b"HTTP/1.1 200"), "{text:?}");
    }
}

#[test]
fn idle_connections_and_slow_heads_keep_nobody_out() {
    let host = TestHost::new();
    let id = host.script("exec sleep 600");
    host.live(&id);
    let mut crowd = Vec::new();
    for number in 0..1_100 {
        let mut stream = connect(&host);
        if number % 2 == 0 {
            stream
                .write_all(b"GET /v1/host HTTP/1.1\r\nhost: ")
                .unwrap();
        }
        crowd.push(stream);
    }
    let quick = |arguments: &[&str]| {
        let begun = Instant::now();
        host.run(arguments).check();
        assert!(
            begun.elapsed() < AT_ONCE,
            "{arguments:?}: {:?}",
            begun.elapsed()
        );
    };
    quick(&["status", &id]);
    quick(&["cancel", &id]);
    assert_eq!(host.finished(&id)["outcome"], "cancelled");
    quick(&["down"]);
    assert!(host.host_pid().is_none());
}

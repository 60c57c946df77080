//! Many clients at once: all waiting clients are served, and others still get answers.

use std::{
    collections::BTreeMap,
    fs,
    io::{ErrorKind, Read, Write},
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

use claudine_tests::{TestHost, command, harness::binary, wait_for};
use serde_json::json;

/// Time limit for a command while a crowd of clients is connected. The limit of a build without
/// optimisation is higher, because such a build takes several times as long to read the crowd's
/// requests, and other tests run at the same time.
const AT_ONCE: Duration = Duration::from_secs(if cfg!(debug_assertions) { 4 } else { 1 });
/// If the machine is busy, the limit is this multiple of the time that a command takes without a
/// crowd. On an idle machine, a command takes about 15 ms.
const TIMES: u32 = 60;

/// Runs commands, and fails if a command takes too long.
struct Quick<'a> {
    host: &'a TestHost,
    limit: Duration,
}

impl<'a> Quick<'a> {
    /// Measures the time of a command without a crowd, and derives the limit from it.
    fn beside(host: &'a TestHost) -> Self {
        let begun = Instant::now();
        host.run(["capacity"]).check();
        let limit = AT_ONCE.max(TIMES * begun.elapsed());
        Self { host, limit }
    }

    fn run(&self, arguments: &[&str]) {
        let begun = Instant::now();
        self.host.run(arguments).check();
        let took = begun.elapsed();
        assert!(took < self.limit, "{arguments:?}: {took:?}");
    }
}

fn connect(host: &TestHost) -> UnixStream {
    let path = host.data_dir().join("host.sock");
    // The listener's queue may be full for a moment.
    wait_for("a connection", || UnixStream::connect(&path).ok())
}

fn ask(mut stream: &UnixStream, path: &str) {
    let request = format!("GET {path} HTTP/1.1\r\nhost: claudine\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
}

/// Clients that ask for this path, and read nothing of the answer.
fn stalled(host: &TestHost, clients: usize, path: &str) -> Vec<UnixStream> {
    (0..clients)
        .map(|_| {
            let stream = connect(host);
            ask(&stream, path);
            stream
        })
        .collect()
}

/// Whether the answer begins, and is no refusal. Fails if the host is silent.
fn is_served(mut stream: &UnixStream) -> bool {
    let limit = Some(Duration::from_mins(1));
    stream.set_read_timeout(limit).unwrap();
    let mut head = [0; 12];
    let read = stream.read_exact(&mut head);
    let error = read.err().map(|error| error.kind());
    assert_ne!(error, Some(ErrorKind::WouldBlock), "no answer");
    head == *b"HTTP/1.1 200"
}

#[test]
fn two_thousand_waiting_clients_are_all_served() {
    let host = TestHost::new();
    let id = host.script("until test -e go; do sleep 0.1; done");
    host.live(&id);
    let quick = Quick::beside(&host);
    let waiting = stalled(
        &host,
        2_000,
        &format!("/v1/tasks/{id}/wait?timeout_ms=50000"),
    );
    quick.run(&["status", &id]);
    quick.run(&["cancel", &id]);
    for mut stream in waiting {
        stream
            .set_read_timeout(Some(Duration::from_mins(1)))
            .unwrap();
        let mut answer = [0; 4096];
        let mut text = Vec::new();
        // If the host has no room for a further waiting client, it answers the client early, with
        // the task's current state.
        while !text.windows(7).any(|part| part == b"\"state\"") {
            let length = stream.read(&mut answer).unwrap();
            assert!(length > 0, "cut off: {:?}", String::from_utf8_lossy(&text));
            text.extend_from_slice(&answer[..length]);
        }
        assert!(text.starts_with(b"HTTP/1.1 200"), "{text:?}");
    }
}

#[test]
fn idle_and_slow_clients_do_not_delay_the_commands_of_others() {
    let host = TestHost::new();
    let ids = [(); 2].map(|()| host.script("exec sleep 600"));
    for id in &ids {
        host.live(id);
    }
    let quick = Quick::beside(&host);
    let half_a_body = b"POST /v1/tasks HTTP/1.1\r\nhost: claudine\r\ncontent-length: 9\r\n\r\n{";
    let mut crowd = Vec::new();
    for number in 0..1_200 {
        let mut stream = connect(&host);
        let written = match number % 4 {
            0 => stream.write_all(b"GET /v1/host HTTP/1.1\r\nhost: "),
            1 => stream.write_all(half_a_body),
            2 => {
                ask(&stream, "/v1/events?after=0&follow=true");
                Ok(())
            }
            _ => Ok(()),
        };
        written.unwrap();
        crowd.push(stream);
    }
    quick.run(&["status", &ids[0]]);
    quick.run(&["cancel", &ids[0]]);
    assert_eq!(host.finished(&ids[0])["outcome"], "cancelled");
    quick.run(&["down"]);
    assert!(host.host_pid().is_none());
    // The second task went on running, and the next host takes it over.
    host.run(["cancel", &ids[1]]).check();
    assert_eq!(host.finished(&ids[1])["outcome"], "cancelled");
}

/// Starts the host with this limit of descriptors.
fn up_with_descriptors(host: &TestHost, limit: u32) {
    let mut up = host.other("sh");
    let script = format!("ulimit -n {limit}; exec \"$0\" up");
    up.args(["-c", &script]).arg(binary());
    command::run(up, b"", Duration::from_mins(1)).check();
}

#[test]
fn clients_that_follow_logs_leave_descriptors_for_the_commands_of_others() {
    let host = TestHost::new();
    up_with_descriptors(&host, 1_024);
    let id = host.script("echo line; exec sleep 600");
    host.live(&id);
    let quick = Quick::beside(&host);
    let crowd = stalled(&host, 400, &format!("/v1/tasks/{id}/logs?follow=true"));
    let following = crowd.iter().filter(|stream| is_served(stream)).count();
    assert!(following > 200, "only {following} clients follow");
    quick.run(&["status", &id]);
    quick.run(&["cancel", &id]);
    assert_eq!(host.finished(&id)["outcome"], "cancelled");
}

/// The crowd waits for 50 s, so a command that waits for a place of the crowd takes longer than the
/// limit.
#[test]
fn commands_that_wait_or_follow_get_along_while_other_clients_take_all_places_for_that() {
    const LIMIT: Duration = Duration::from_secs(30);
    let host = TestHost::new();
    up_with_descriptors(&host, 256);
    let id = host.script("echo line; exec sleep 600");
    host.live(&id);
    let begun = Instant::now();
    let crowd = stalled(&host, 60, &format!("/v1/tasks/{id}/wait?timeout_ms=50000"));
    for stream in &crowd {
        stream.set_nonblocking(true).unwrap();
    }
    // A client that finds no place is answered early.
    let is_answered = |mut stream: &UnixStream| matches!(stream.read(&mut [0]), Ok(1));
    wait_for("all places to be taken", || {
        crowd.iter().any(is_answered).then_some(())
    });
    assert_eq!(host.run(["logs", &id]).ok().stdout, b"line\n");
    host.run(["events", "--since", "0"]).check();
    let two_lines = "echo first; sleep 2; echo last";
    let ran = host.run(["run", "--wait", "--", "sh", "-c", two_lines]);
    assert_eq!(ran.ok().stdout, b"first\nlast\n");
    let took = begun.elapsed();
    assert!(took < LIMIT, "{took:?}");
    drop(crowd);
}

/// Memory of a process in MiB.
fn rss_mib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.unwrap().trim().trim_end_matches(" kB");
    kib.parse::<u64>().unwrap() >> 10
}

/// The memory of a process, once it has not changed for about a second.
fn steady_rss_mib(pid: u32) -> u64 {
    let mut seen = (0, 0);
    wait_for("the host to read no more", || {
        let now = rss_mib(pid);
        seen = if seen.0 == now {
            (now, seen.1 + 1)
        } else {
            (now, 0)
        };
        (seen.1 == 20).then_some(now)
    })
}

#[test]
fn clients_that_do_not_read_a_log_cost_little_memory() {
    const CLIENTS: usize = 40;
    let host = TestHost::new();
    let id = host.script("yes 0123456789 | head -c 30000000");
    host.finished(&id);
    let pid = host.host_pid().unwrap();
    let before = rss_mib(pid);
    let crowd = stalled(&host, CLIENTS, &format!("/v1/tasks/{id}/logs"));
    for mut stream in &crowd {
        stream.read_exact(&mut [0]).unwrap();
    }
    // The host reads the log ahead until it has to wait for its clients.
    let after = steady_rss_mib(pid);
    assert!(
        after < before + CLIENTS as u64,
        "{before} MiB before, {after} MiB after"
    );
    assert_eq!(host.run(["logs", &id]).ok().stdout.len(), 30_000_000);
}

#[test]
fn clients_that_do_not_read_long_lists_cost_little_memory_and_delay_no_commands() {
    // Two thirds of the clients ask for lists, and each list has the labels of all tasks: at least
    // 600 × 8 × 250 bytes. If the host kept all lists until they are read, they would take at least
    // 200 × 1.14 MiB = 228 MiB, whatever the sockets hold, because a list is kept as a whole until
    // its last byte is sent. It keeps 32 MiB of them, and builds four at a time, which take less
    // than 10 MiB each.
    const TASKS: usize = 600;
    const LABELS: usize = 8;
    const LABEL_BYTES: usize = 250;
    const CLIENTS: usize = 300;
    const MOST_MIB: u64 = 128;
    let host = TestHost::new();
    host.up();
    let label = |at: usize| (format!("label-{at}"), "x".repeat(LABEL_BYTES));
    let labels: BTreeMap<String, String> = (0..LABELS).map(label).collect();
    let task = json!({
        "executor": "shell", "working_directory": host.work(), "hold": true,
        "spec": {"script": "true"}, "labels": labels,
    });
    let base = json!({"HOME": host.home(), "PATH": std::env::var("PATH").unwrap()});
    let request = json!({"environment": {"base": base}, "tasks": vec![task; TASKS]});
    let answer = host.post_as_client("/v1/tasks", &request.to_string());
    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    let held = host.text(["run", "--hold", "--", "true"]);
    let pid = host.host_pid().unwrap();
    let before = rss_mib(pid);
    let quick = Quick::beside(&host);
    let lists = ["/v1/tasks?limit=1000", "/v1/overview?limit=1000"];
    let dry_run = json!({"action": "cancel", "filter": {}, "dry_run": true}).to_string();
    let dry_run = format!(
        "POST /v1/tasks/actions HTTP/1.1\r\nhost: claudine\r\ncontent-length: {}\r\n\r\n{dry_run}",
        dry_run.len()
    );
    let crowd: Vec<UnixStream> = (0..CLIENTS)
        .map(|number| {
            let mut stream = connect(&host);
            match lists.get(number % 3) {
                Some(list) => ask(&stream, list),
                None => stream.write_all(dry_run.as_bytes()).unwrap(),
            }
            stream
        })
        .collect();
    quick.run(&["status", held.trim()]);
    quick.run(&["cancel", held.trim()]);
    for first in &crowd[..3] {
        assert!(is_served(first));
    }
    let after = steady_rss_mib(pid);
    assert!(
        after < before + MOST_MIB,
        "{before} MiB before, {after} MiB after"
    );
    drop(crowd);
    quick.run(&["list"]);
}

/// The clients do not read, so without lanes of their own the last lines would wait until the host
/// cuts some of these clients off.
#[test]
fn clients_that_ask_for_much_output_do_not_delay_the_last_lines_that_others_ask_for() {
    const CLIENTS: usize = 10;
    let host = TestHost::new();
    let big = host.script("yes 0123456789abcdefghijklmnopqrstuvwxyz | head -c 40000000");
    let small = host.script("echo line");
    host.finished(&big);
    host.finished(&small);
    let held = host.text(["run", "--hold", "--", "true"]);
    let quick = Quick::beside(&host);
    let most = u64::MAX;
    for path in [format!("end?lines={most}"), format!("lines?tail={most}")] {
        let crowd = stalled(&host, CLIENTS, &format!("/v1/tasks/{big}/{path}"));
        quick.run(&["status", held.trim()]);
        quick.run(&["status", &small]);
        quick.run(&["status", &big]);
        quick.run(&["checkpoint", &small]);
        for stream in &crowd {
            assert!(is_served(stream));
        }
    }
}

/// The crowd's answers are from little output each, but together more than the host keeps unread.
/// Each is larger than the buffer of its socket, because a quotation mark takes two bytes in JSON.
#[test]
fn clients_that_do_not_read_last_lines_do_not_delay_those_that_others_ask_for() {
    const CLIENTS: usize = 80;
    let host = TestHost::new();
    let line = "\"".repeat(99);
    let long = host.script(&format!("yes '{line}' | head -n 1500"));
    let small = host.script("echo line");
    host.finished(&long);
    host.finished(&small);
    let quick = Quick::beside(&host);
    let crowd = stalled(&host, CLIENTS, &format!("/v1/tasks/{long}/end?lines=1500"));
    for first in &crowd[..20] {
        assert!(is_served(first));
    }
    quick.run(&["status", &small]);
    quick.run(&["status", &long]);
    drop(crowd);
}

#[test]
fn half_sent_requests_cost_little_memory_and_do_not_block_the_owner() {
    const HALF_MIB: usize = 150;
    let host = TestHost::new();
    host.up();
    let pid = host.host_pid().unwrap();
    let before = rss_mib(pid);
    let length = (HALF_MIB * 2 - 50) << 20;
    let via = "claudine-via: mcp\r\n";
    let head = format!(
        "POST /v1/tasks HTTP/1.1\r\nhost: claudine\r\n{via}content-length: {length}\r\n\r\n"
    );
    let piece = vec![b' '; 1 << 20];
    let send = |limit: Option<Duration>| {
        let mut stream = connect(&host);
        stream.set_write_timeout(limit).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        let is_sent = (0..HALF_MIB).all(|_| stream.write_all(&piece).is_ok());
        (stream, is_sent)
    };
    let restrained = [None, Some(Duration::from_millis(500))].map(send);
    let sent = [restrained[0].1, restrained[1].1];
    assert_eq!(sent, [true, false], "the second must wait for the first");
    let after = rss_mib(pid);
    let most = before + 250;
    assert!(after < most, "{before} MiB before, {after} MiB after");
    // There is still room for a large request of the owner.
    let long = format!("true {}", "x".repeat(1 << 20));
    let delegate = ["delegate", "--executor", "shell", "-"];
    host.run_with(delegate, long.as_bytes()).check();
}

/// The host closes one idle connection for each new connection. After accepting the new connection,
/// it has no free descriptor with which it could identify the caller's process.
#[test]
fn owner_is_not_taken_for_an_agent_if_the_host_has_no_free_descriptor() {
    let host = TestHost::new();
    up_with_descriptors(&host, 64);
    let mut idle: Vec<UnixStream> = (0..100).map(|_| connect(&host)).collect();
    let unseen = (0..20).filter(|_| {
        // The idle connections take the descriptors that have become free meanwhile.
        idle.extend((0..4).map(|_| connect(&host)));
        let said = host.run(["hold", "nobody"]).complaint();
        assert!(!said.contains("agent"), "{said}");
        said.contains("the host cannot identify the caller")
    });
    let unseen = unseen.count();
    drop(idle);
    assert!(unseen > 0, "the host always had a descriptor left");
    host.run(["hold", "nobody"]).code(125).says(&["no task"]);
    host.run(["down"]).check();
}

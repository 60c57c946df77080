//! Starting: exit statuses, reasons why a start fails, input, environment, at most once.

use std::os::unix::fs::PermissionsExt;

use super::NotStartedClass as Class;
use super::*;

#[tokio::test]
async fn exit_codes_and_signals_are_distinguished() {
    let mut lab = Lab::new().await;
    let mut check = async |name: &str, script: &str, expected: Status| {
        let (exit, ended) = lab.run(lab.script(name, script)).await;
        assert_eq!(
            (exit.status, ended, exit.stopped),
            (expected, true, None),
            "{script}"
        );
        lab.ack(key(name)).await;
    };
    check("t.1", "exit 0", Status::Code(0)).await;
    check("t.2", "exit 7", Status::Code(7)).await;
    check("t.3", "exit 143", Status::Code(143)).await;
    check("t.4", "kill -TERM $$", Status::Signal(15)).await;
    check("t.5", "kill -KILL $$", Status::Signal(9)).await;
}

#[tokio::test]
async fn the_reported_peak_memory_is_that_of_the_child_and_not_of_the_supervisor() {
    let mut lab = Lab::new().await;
    let mut check = async |name: &str, script: &str, expected: Option<u64>| {
        let (exit, _) = lab.run(lab.script(name, script)).await;
        let peak = exit.usage.peak_rss_bytes;
        assert!(
            match expected {
                None => peak.is_none(),
                Some(least) => peak.is_some_and(|peak| peak >= least && peak < least * 2),
            },
            "{script}: {peak:?}"
        );
    };
    // `dd` holds a whole block in memory. A `dd` with a small block is smaller than the supervisor,
    // so the kernel counts the supervisor's size instead.
    let dd = |mib: u32| format!("exec dd if=/dev/zero of=/dev/null bs={mib}M count=1 status=none");
    check("t.1", "exit 0", None).await;
    check("t.2", &dd(128), Some(128 << 20)).await;
    check("t.3", "exit 0", None).await;
    check("t.4", &format!("({}); exit 0", dd(200)), Some(200 << 20)).await;
    // A process that lives long enough to be sampled has the sampled value. On a machine with very
    // many processes, samples are rare, so longer and longer lives are tried.
    for seconds in [1, 2, 4, 8, 16] {
        let script = format!("exec sleep {seconds}");
        let (exit, _) = lab.run(lab.script(&format!("t.{seconds}0"), &script)).await;
        if let Some(peak) = exit.usage.peak_rss_bytes {
            assert!(peak > 100_000 && peak < 20 << 20, "{peak}");
            return;
        }
    }
    panic!("no process was sampled");
}

#[tokio::test]
async fn a_child_without_output_creates_no_log_file() {
    let mut lab = Lab::new().await;
    lab.run(lab.command("t.1", &["true"])).await;
    assert!(!lab.log("t.1").exists() && !lab.dir.path().join("logs").exists());
}

/// The host's database is an earlier copy, and the supervisor has forgotten the attempt.
#[tokio::test]
async fn an_attempt_that_has_a_log_is_not_started_again() {
    let mut lab = Lab::new().await;
    let start = lab.script("t.1", "echo ran >> ran; echo first");
    lab.run(start.clone()).await;
    lab.ack(key("t.1")).await;
    for index in [0, 1] {
        let child = ChildId::new(key("t.1"), index);
        lab.start(StartChild {
            child: child.clone(),
            ..start.clone()
        })
        .await;
        let (class, message) = loop {
            match lab.host.next().await {
                Report::NotStarted {
                    child: of,
                    class,
                    message,
                } if of == child => break (class, message),
                Report::Started { child: of, .. } | Report::Exited { child: of, .. }
                    if of == child =>
                {
                    panic!("child {index} was started again")
                }
                _ => {}
            }
        };
        assert_eq!(class, Class::StartedBefore);
        assert!(
            message.contains(lab.log("t.1").to_str().unwrap()),
            "{message}"
        );
    }
    assert_eq!(lab.text("t.1"), "first\n");
    lab.run(lab.script("t.2", "echo ran >> ran; echo second"))
        .await;
    assert_eq!(lab.text("t.2"), "second\n");
    let ran = std::fs::read_to_string(lab.dir.path().join("ran")).unwrap();
    assert_eq!(ran, "ran\nran\n");
}

#[tokio::test]
async fn a_failed_start_is_reported_with_its_class_and_reason() {
    let mut lab = Lab::new().await;
    let root = lab.dir.path().to_owned();
    let file = |name: &str, content: &str, mode: u32| {
        std::fs::write(root.join(name), content).unwrap();
        std::fs::set_permissions(root.join(name), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    file("plain", "no program", 0o644);
    file("odd", "no program", 0o755);
    file("orphaned", "#!/no/such/interpreter\n", 0o755);
    file("windows", "#!/bin/sh\r\necho hi\r\n", 0o755);
    file("works", "#!/bin/sh\nexit 3\n", 0o755);

    let mut number = 0;
    let mut check = async |change: &dyn Fn(&mut StartChild), class: NotStartedClass, text: &str| {
        number += 1;
        let mut start = lab.command(&format!("t.{number}"), &["true"]);
        change(&mut start);
        lab.start(start).await;
        let Report::NotStarted {
            class: found,
            message,
            ..
        } = lab.host.next().await
        else {
            panic!("{text}: it started")
        };
        assert_eq!(found, class, "{message}");
        assert!(message.contains(text), "`{message}` does not say `{text}`");
    };
    let argv = |text: &str| {
        let text = text.to_owned();
        move |start: &mut StartChild| start.argv = vec![text.clone()]
    };
    check(
        &argv("no-such-command"),
        Class::CommandNotFound,
        "command not found: `no-such-command` (PATH is /",
    )
    .await;
    check(
        &argv("/no/such/command"),
        Class::CommandNotFound,
        "/no/such/command does not exist",
    )
    .await;
    check(
        &argv("./plain/x"),
        Class::CommandNotFound,
        "is not a directory",
    )
    .await;
    check(&argv("./plain"), Class::NotExecutable, "no permission").await;
    check(
        &argv("./odd"),
        Class::NotExecutable,
        "it is not a program and does not begin with `#!`",
    )
    .await;
    // A child with its own bounds is started in another way, and must get the same message.
    check(
        &|start| {
            start.argv = vec!["./odd".to_owned()];
            start.bounds = Some("nice=19".parse().unwrap());
        },
        Class::NotExecutable,
        "it is not a program and does not begin with `#!`",
    )
    .await;
    check(
        &argv("./orphaned"),
        Class::NotExecutable,
        "its interpreter /no/such/interpreter does not exist",
    )
    .await;
    check(
        &argv("./windows"),
        Class::NotExecutable,
        r"its interpreter `/bin/sh\r` does not exist: its lines end in \r\n",
    )
    .await;
    check(&argv("/tmp"), Class::NotExecutable, "it is a directory").await;
    check(&argv(""), Class::Invalid, "the command is empty").await;
    check(
        &|start| start.argv.clear(),
        Class::Invalid,
        "the command is empty",
    )
    .await;
    check(
        &|start| start.argv.push("a\0b".to_owned()),
        Class::Invalid,
        "NUL",
    )
    .await;
    check(
        &|start| start.argv.push("x".repeat(200_000)),
        Class::Invalid,
        "too long",
    )
    .await;
    // This one does not fit into a message to the supervisor.
    check(
        &|start| start.argv.push("x".repeat(17 << 20)),
        Class::Invalid,
        "too long",
    )
    .await;
    check(
        &|start| start.cwd = "/no/such/place".into(),
        Class::Cwd,
        "/no/such/place does not exist",
    )
    .await;
    check(
        &|start| start.cwd = "/etc/passwd".into(),
        Class::Cwd,
        "is not a directory",
    )
    .await;
    check(
        &|start| start.stdin = Stdin::File("/no/input".into()),
        Class::Input,
        "/no/input",
    )
    .await;
    check(
        &|start| start.env_file = Some("/no/env".into()),
        Class::Input,
        "/no/env",
    )
    .await;
    check(
        &|start| start.env_set.push(("A=B".to_owned(), String::new())),
        Class::Invalid,
        "`A=B` cannot be",
    )
    .await;
    let path = |value: &str| {
        let value = value.to_owned();
        move |start: &mut StartChild| {
            start.env_set = vec![("PATH".to_owned(), value.clone())];
            start.argv = vec!["plain".to_owned()];
        }
    };
    check(
        &path("/no/such"),
        Class::CommandNotFound,
        "PATH is /no/such",
    )
    .await;
    check(
        &path("/no/such:."),
        Class::NotExecutable,
        "plain: no permission",
    )
    .await;

    // An empty entry means the working directory, and relative commands are looked for there.
    let mut start = lab.command("found.1", &["works"]);
    start.env_set = vec![("PATH".to_owned(), "/no/such:".to_owned())];
    assert_eq!(lab.run(start).await.0.status, Status::Code(3));
    assert_eq!(
        lab.run(lab.command("found.2", &["./works"])).await.0.status,
        Status::Code(3)
    );
}

#[tokio::test]
async fn a_long_reason_for_which_a_start_failed_is_cut() {
    let mut lab = Lab::new().await;
    lab.start(lab.command("t.1", &["ä".repeat(1 << 20).as_str()]))
        .await;
    let Report::NotStarted { message, .. } = lab.host.next().await else {
        panic!("it started")
    };
    assert!(message.starts_with("command not found: `ää"), "{message}");
    assert!(message.len() <= 2 << 10, "{}", message.len());
}

#[tokio::test]
async fn a_child_gets_the_input_and_environment_of_its_start() {
    let mut lab = Lab::new().await;
    let input = lab.dir.path().join("input");
    std::fs::write(&input, b"half a prompt\nis none").unwrap();
    let environment = lab.dir.path().join("environment");
    std::fs::write(
        &environment,
        b"KEPT=from file\0GONE=x\0CHANGED=old\0CLAUDINE_ATTEMPT=other\0ODD=\xff\0",
    )
    .unwrap();

    let mut start = lab.command("t.1", &["cat"]);
    start.stdin = Stdin::File(input);
    lab.run(start).await;
    assert_eq!(lab.text("t.1"), "half a prompt\nis none");
    lab.run(lab.command("t.2", &["cat"])).await;
    assert_eq!(lab.text("t.2"), "", "without a file the input is empty");

    let mut start = lab.command("t.3", &["env"]);
    start.env_file = Some(environment.clone());
    start.env_remove = vec!["GONE".to_owned()];
    // The last value of a variable that is set more than once counts, and the marker cannot be set.
    for (name, value) in [
        ("CHANGED", "once"),
        ("CLAUDINE_ATTEMPT", "x"),
        ("CHANGED", "new"),
    ] {
        start.env_set.push((name.to_owned(), value.to_owned()));
    }
    lab.run(start.clone()).await;
    let path = format!("PATH={}", std::env::var("PATH").unwrap());
    let marker = format!("CLAUDINE_ATTEMPT={}", key("t.3"));
    let lines = |bytes: Vec<u8>| {
        let mut lines: Vec<Vec<u8>> = bytes
            .split(|byte| *byte == b'\n')
            .map(<[u8]>::to_vec)
            .collect();
        lines.retain(|line| !line.is_empty());
        lines.sort();
        lines
    };
    let mut expected: Vec<Vec<u8>> = [
        &b"KEPT=from file"[..],
        b"CHANGED=new",
        marker.as_bytes(),
        b"ODD=\xff",
        path.as_bytes(),
    ]
    .map(<[u8]>::to_vec)
    .to_vec();
    expected.sort();
    assert_eq!(lines(lab.output("t.3", Channel::Stdout)), expected);

    start.child = ChildId::new(key("t.4"), 0);
    start.log = lab.log("t.4");
    start.env_remove = vec!["*".to_owned()];
    lab.run(start).await;
    assert_eq!(
        lines(lab.output("t.4", Channel::Stdout)).len(),
        3,
        "PATH, CHANGED and the marker"
    );
}

/// The bounds of one child do not affect the next.
#[tokio::test]
async fn a_child_gets_the_bounds_of_its_start() {
    let mut lab = Lab::new().await;
    let script = "ls /proc/self/fd | tr '\\n' ' '; echo; nice; ulimit -n; ulimit -Hn; \
                  test $(awk '{ print $6 }' /proc/$$/stat) = $$ && echo leads";
    let mut bounded = lab.script("t.1", script);
    bounded.bounds = Some("nice=19 oom=0 nofile=100:200 newer=1:2".parse().unwrap());
    let (exit, _) = lab.run(bounded).await;
    assert_eq!(exit.status, Status::Code(0));
    assert_eq!(lab.text("t.1"), "0 1 2 3 \n19\n100\n200\nleads\n");
    lab.run(lab.script("t.2", "ulimit -Hn")).await;
    let own = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    let own = own.map_or("unlimited".to_owned(), |own| own.to_string());
    assert_eq!(lab.text("t.2"), own + "\n");
}

#[tokio::test]
async fn a_child_inherits_no_descriptors_signal_settings_or_limits_of_the_supervisor() {
    set_execution_of_this_thread();
    let mut lab = Lab::new().await;
    let script = "ls /proc/self/fd | tr '\\n' ' '; echo; awk '/^Sig(Ign|Blk)/ { print $2 }' /proc/self/status; ulimit -n; \
                  cat /proc/$$/personality /proc/$$/timerslack_ns";
    // A child with its own bounds is started in another way.
    for (key, bounds) in [("t.1", None), ("t.2", Some("nice=19"))] {
        let mut start = lab.script(key, script);
        start.bounds = bounds.map(|text| text.parse().unwrap());
        lab.run(start).await;
        let text = lab.text(key);
        let lines: Vec<&str> = text.lines().collect();
        let [descriptors, blocked, ignored, limit, execution @ ..] = &lines[..] else {
            panic!("{text}")
        };
        // The fourth descriptor belongs to `ls` itself, for the directory that it lists.
        assert_eq!(
            [*descriptors, *blocked, *ignored],
            ["0 1 2 3 ", "0000000000000000", "0000000000000000"],
            "{text}"
        );
        assert_eq!(execution, ["00000000", "50000"], "{text}");
        let own = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        assert_eq!(
            *limit,
            own.map_or("unlimited".to_owned(), |own| own.to_string())
        );
    }
}

/// Sets an unusual personality and timer slack, which the supervisor inherits.
#[allow(unsafe_code, reason = "personality has no safe wrapper")]
fn set_execution_of_this_thread() {
    const ADDR_NO_RANDOMIZE: libc::c_ulong = 0x0004_0000;
    // SAFETY: the call takes a number and changes no memory.
    assert!(unsafe { libc::personality(ADDR_NO_RANDOMIZE) } >= 0);
    let slack = std::num::NonZeroU64::new(12_345);
    rustix::thread::set_current_timer_slack(slack).unwrap();
}

#[tokio::test]
async fn repeating_a_start_starts_nothing() {
    let mut lab = Lab::new().await;
    let start = lab.script("t.1", "echo once");
    let first = lab.run(start.clone()).await;
    assert_eq!(lab.run(start).await, first);
    lab.finish(key("t.1")).await;
    let report = lab.host.next().await;
    assert_eq!(
        report,
        Report::Ended {
            attempt: key("t.1"),
            swept: 0,
            alive: 0
        }
    );
    assert_eq!(lab.text("t.1"), "once\n");

    // After the end nothing more is started.
    let mut late = lab.script("t.1", "echo twice");
    late.child = ChildId::new(key("t.1"), 1);
    lab.start(late).await;
    let report = lab.host.next().await;
    assert!(
        matches!(
            report,
            Report::NotStarted {
                class: NotStartedClass::Stopped,
                ..
            }
        ),
        "{report:?}"
    );
}

#[tokio::test]
async fn several_children_of_an_attempt_share_a_log() {
    let mut lab = Lab::new().await;
    for (index, text) in [(0, "first"), (1, "second")] {
        let mut start = lab.script("t.1", &format!("echo {text}; echo {text} fault >&2"));
        start.child = ChildId::new(key("t.1"), index);
        let (_, ended) = lab.run(start).await;
        assert!(ended);
    }
    let log = lab.log("t.1");
    assert_eq!(
        read(LogReader::new(&log).child(1)),
        b"second\nsecond fault\n"
    );
    assert_eq!(
        read(LogReader::new(&log).child(0).channel(Channel::Stderr)),
        b"first fault\n"
    );
    assert_eq!(lab.text("t.1"), "first\nsecond\n");
}

#[tokio::test]
async fn a_thousand_children_run_at_once_and_are_stopped() {
    let mut lab = Lab::new().await;
    for number in 0..1000 {
        lab.start(lab.command(&format!("t.{number}"), &["sleep", "1000"]))
            .await;
    }
    let mut started = 0;
    while started < 1000 {
        match lab.host.next().await {
            Report::Started { .. } => started += 1,
            other => panic!("{other:?}"),
        }
    }
    for number in 0..1000 {
        let key = key(&format!("t.{number}"));
        lab.stop(key, StopWhy::Cancelled, lab.command("x", &[]).ladder)
            .await;
    }
    let mut ended = 0;
    while ended < 1000 {
        match lab.host.next().await {
            Report::Exited {
                exit, ended: true, ..
            } => {
                assert_eq!(
                    (exit.status, exit.stopped),
                    (Status::Signal(15), Some(StopWhy::Cancelled))
                );
                ended += 1;
            }
            other => panic!("{other:?}"),
        }
    }
}

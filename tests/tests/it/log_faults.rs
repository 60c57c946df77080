//! Logs that somebody has removed, cut or damaged: each way to read them tells of it.

use std::{
    fs,
    io::{self, BufRead, BufReader, Read},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Stdio,
};

use claudine_tests::{TestHost, mcp::Client, wait_for};
use serde_json::json;

/// Output of 18,893 bytes, in segments of 4 KiB because of the limit. The limit leaves nothing out.
const OUTPUT: [&str; 5] = ["run", "--max-output", "64K", "--script", "seq 1 4000"];

/// A kind of damage to a log, and what each way to read it must say.
struct Damage {
    name: &'static str,
    make: fn(&Path) -> io::Result<()>,
    says: &'static str,
}

static DAMAGES: [Damage; 9] = [
    Damage {
        name: "removed",
        make: |log| (0..5).try_for_each(|number| fs::remove_file(segment(log, number))),
        says: ".1.log is missing",
    },
    Damage {
        name: "emptied",
        make: |log| fs::write(log, ""),
        says: "has 0 of at least 18893 bytes of output",
    },
    Damage {
        name: "halved",
        make: |log| fs::write(log, &fs::read(log)?[..2_000]),
        says: "of at least 18893 bytes of output",
    },
    Damage {
        name: "zeroed",
        make: |log| {
            let mut bytes = fs::read(log)?;
            bytes[..18].fill(0);
            fs::write(log, bytes)
        },
        says: ".1.log is damaged at byte 0",
    },
    Damage {
        name: "directory",
        make: |log| {
            fs::remove_file(log)?;
            fs::create_dir(log)
        },
        says: ".1.log is no regular file; move it away",
    },
    // Not even root can follow a link to itself.
    Damage {
        name: "unreadable",
        make: |log| {
            fs::remove_file(log)?;
            symlink(log, log)
        },
        says: ".1.log cannot be read: ",
    },
    Damage {
        name: "first",
        make: |log| fs::remove_file(log),
        says: ".1.log is missing",
    },
    Damage {
        name: "middle",
        make: |log| fs::remove_file(segment(log, 2)),
        says: ".1.log.2 is missing",
    },
    Damage {
        name: "last",
        make: |log| fs::remove_file(segment(log, 4)),
        says: "of at least 18893 bytes of output",
    },
];

fn segment(log: &Path, number: u32) -> PathBuf {
    match number {
        0 => log.to_owned(),
        number => PathBuf::from(format!("{}.{number}", log.display())),
    }
}

/// The log of the first attempt of a task.
fn log_of(host: &TestHost, id: &str) -> PathBuf {
    let shard = &id[id.len() - 2..];
    host.data_dir().join(format!("logs/{shard}/{id}.1.log"))
}

/// The answer of the host to a request that only reads.
fn answer(host: &TestHost, path: &str) -> String {
    host.said(&format!("GET {path} HTTP/1.1"), "")
}

#[test]
fn each_way_to_read_a_log_tells_what_is_wrong_with_it() {
    let host = TestHost::new();
    let ids: Vec<String> = DAMAGES.iter().map(|_| host.text(OUTPUT)).collect();
    let whole = host.text(OUTPUT);
    for id in ids.iter().chain([&whole]) {
        host.finished(id);
    }
    for (damage, id) in DAMAGES.iter().zip(&ids) {
        let log = log_of(&host, id);
        assert!(segment(&log, 4).exists() && !segment(&log, 5).exists());
        (damage.make)(&log).unwrap();
    }
    let mut client = Client::connect(&host);
    let backup = host.root().join("backup");
    let backup = host.run(["backup", backup.to_str().unwrap()]).ok();
    let warnings = backup.complaint();
    let warnings: Vec<&str> = warnings
        .lines()
        .filter(|it| it.contains("the log"))
        .collect();
    assert_eq!(warnings.len(), DAMAGES.len(), "{backup}");
    for (Damage { name, says, .. }, id) in DAMAGES.iter().zip(&ids) {
        let tells = |way: &str, said: &str| assert!(said.contains(says), "{name}, {way}: {said}");
        let of_log = |line: &&&str| line.contains(id.as_str());
        tells("backup", warnings.iter().find(of_log).unwrap());

        // The last lines do not show that earlier output is damaged.
        let tails: [&[&str]; 2] = [&[], &["--tail", "1"]];
        for tail in tails.iter().take(if *name == "zeroed" { 1 } else { 2 }) {
            let ran = host.run(["logs", id].iter().chain(*tail)).code(125);
            let said = ran.complaint();
            // It is the log of the attempt that is missing.
            let is_missing = *name == "removed" && said.contains("is missing: it was expected at");
            assert!(is_missing || said.contains(says), "{name}: {ran}");
        }
        let lines = answer(&host, &format!("/v1/tasks/{id}/lines"));
        if *name == "removed" {
            assert!(lines.starts_with("HTTP/1.1 404 "), "{lines}");
            assert!(lines.contains("is missing: it was expected at"), "{lines}");
            let said = client.fail("TaskLogs", json!({ "taskId": id }));
            assert!(said.contains("is missing: it was expected at"), "{said}");
        } else {
            tells("lines over HTTP", &lines);
            let logs = client.call("TaskLogs", json!({ "taskId": id }));
            tells("TaskLogs", &logs.to_string());
        }

        // The log says nothing about how the task has ended.
        host.run(["wait", id, &whole]).check();
        let status = host.status(id);
        assert_eq!(status["outcome"], "succeeded", "{name}: {status:#}");
        assert_eq!(status["attempts"].as_array().unwrap().len(), 1, "{name}");
        tells("status", status["log_fault"].as_str().unwrap_or_default());
        let shown = host.text(["status", id]);
        let (_, output) = shown.split_once("\nOutput:\n").unwrap_or_default();
        tells("the output in status", output);
        assert!(output.contains('✗'), "{name}: {output}");
        let status = client.call("TaskStatus", json!({ "taskId": id }));
        tells("TaskStatus", &status.to_string());
        let kept = host.json(["checkpoint", id]);
        tells("checkpoint", kept["last_lines"].as_str().unwrap());
    }
    // Nothing is said about a log that is whole.
    assert_eq!(host.text(["logs", "--tail", "1", &whole]), "4000");
    assert!(host.status(&whole).get("log_fault").is_none());
    assert!(!host.text(["status", &whole]).contains('✗'));
    let status = client.call("TaskStatus", json!({ "taskId": whole }));
    assert!(!status.to_string().contains("may be missing"), "{status:#}");
}

/// A task would take the rest of the output for all of it.
#[test]
fn output_of_a_damaged_log_is_passed_to_no_other_task() {
    let host = TestHost::new();
    let script = "cat \"$CLAUDINE_INPUTS\"/*/output | wc -c";
    let used_by = |id: &str| {
        let user = ["run", "--with-output-of", id, "--script", script];
        host.finished(&host.text(user))
    };
    let whole = host.text(OUTPUT);
    host.finished(&whole);
    assert_eq!(used_by(&whole)["output"], "18893\n");
    for Damage { name, make, says } in &DAMAGES {
        let id = host.text(OUTPUT);
        host.finished(&id);
        make(&log_of(&host, &id)).unwrap();
        let user = used_by(&id);
        assert_eq!(user["outcome"], "failed", "{name}: {user:#}");
        let reason = user["reason"]["message"].as_str().unwrap();
        for said in [
            "the results of other tasks cannot be written for this task: ",
            says,
            "put the log back, or run the task that wrote it again",
        ] {
            assert!(reason.contains(said), "{name}: {reason}");
        }
    }
}

#[test]
fn log_that_is_cut_short_while_its_task_runs_is_followed_to_the_end() {
    let host = TestHost::new();
    let script = "echo one; until test -e go; do sleep 0.02; done; seq 4; echo last";
    let id = host.script(script);
    host.live(&id);
    let mut follow = host.command(["logs", &id, "-f"]);
    let mut follow = follow
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(follow.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    assert_eq!(line, "one\n");
    fs::write(log_of(&host, &id), "").unwrap();
    fs::write(host.work().join("go"), "").unwrap();
    let mut rest = String::new();
    output.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "1\n2\n3\n4\nlast\n");
    let ended = follow.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(125));
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(
        said.contains("has 13 of at least 17 bytes of output"),
        "{said}"
    );
}

/// The output goes on in a new file, or behind what is in the place of the log.
#[test]
fn log_that_is_removed_or_replaced_while_its_task_runs_is_told_and_goes_on() {
    let host = TestHost::new();
    let go = host.work().join("go");
    for replacement in [None, Some("a text that is longer than a header")] {
        let script = "echo one; until test -e go; do echo tick; sleep 0.05; done; echo last";
        let id = host.script(script);
        wait_for("the first line", || {
            host.text(["logs", &id]).starts_with("one").then_some(())
        });
        let log = log_of(&host, &id);
        fs::remove_file(&log).unwrap();
        if let Some(text) = replacement {
            fs::write(&log, text).unwrap();
        }
        let told = wait_for("the fault, and output after it", || {
            let fault = host.status(&id)["log_fault"].as_str()?.to_owned();
            let ran = host.run(["logs", &id]);
            let shown = String::from_utf8_lossy(&ran.stdout).into_owned();
            (ran.status.code() == Some(125) && shown.contains("tick\n")).then_some(fault)
        });
        let says = match replacement {
            None => "bytes of output, but more were written",
            Some(_) => ".1.log is damaged at byte 0",
        };
        assert!(told.contains(says), "{told}");
        fs::write(&go, "").unwrap();
        assert_eq!(host.finished(&id)["outcome"], "succeeded");
        let ran = host.run(["logs", &id]).code(125);
        assert!(ran.stdout.ends_with(b"last\n"), "{ran}");
        fs::remove_file(&go).unwrap();
    }
}

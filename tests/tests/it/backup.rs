//! Backups of a busy queue and their restoration, also if a backup or a restore is killed.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use claudine_tests::{
    TestHost, command,
    harness::binary,
    process::{alive, kill_9},
    short_id,
    wait::{PATIENCE, Random, any_moment_within},
};

fn host(who: &str) -> TestHost {
    TestHost::builder().slots(1).env("WHO", who).build()
}

/// A host where one task has ended, one runs, one waits for its slot, and one waits for another
/// task.
struct AtWork {
    host: TestHost,
    done: String,
    running: String,
    queued: String,
    after: String,
}

fn at_work() -> AtWork {
    let host = host("old");
    let done = host.script("echo output of $WHO");
    host.finished(&done);
    let running = host.script("echo begun; exec sleep 600");
    host.live(&running);
    let queued = host.script("echo ran as $WHO");
    let after = ["run", "--depends-on", &queued, "--script", "echo after"];
    let after = host.text(after);
    AtWork {
        host,
        done,
        running,
        queued,
        after,
    }
}

fn file(host: &TestHost) -> PathBuf {
    host.root().join("queue.backup")
}

fn backup(host: &TestHost) -> PathBuf {
    let file = file(host);
    host.run(["backup", file.to_str().unwrap()]).check();
    file
}

fn restore(host: &TestHost, file: &Path) -> command::Ran {
    host.run(["restore", file.to_str().unwrap()])
}

/// The disk with the directory may not be mounted, so the directory is not made.
#[test]
fn data_directory_that_is_a_link_to_nothing_is_refused_by_name() {
    let old = host("old");
    old.finished(&old.script("true"));
    let file = backup(&old);
    let link = old.root().join("link");
    let target = old.root().join("unmounted/data");
    std::os::unix::fs::symlink(&target, &link).unwrap();
    let new = TestHost::builder()
        .from_nothing()
        .data_dir(link.clone())
        .build();
    let reason = format!("{} is a link to {}", link.display(), target.display());
    for words in [&["restore", file.to_str().unwrap()][..], &["up"]] {
        let refused = new.run(words).code(125);
        refused.says(&[&reason, "which does not exist"]);
    }
    assert!(new.run(["doctor"]).text().contains(&reason));
    assert!(!target.exists());
}

#[test]
fn restored_queue_is_held_and_goes_on_after_its_release() {
    let old = at_work();
    let path = file(&old.host);
    let name = path.to_str().unwrap();
    let taken = old.host.run(["backup", name]).ok();
    taken.says(&[
        "4 tasks (3 unfinished)",
        "the environments of tasks are not included",
    ]);
    let events = old.host.text(["events", "--json"]);
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let again = old.host.run(["backup", name]).code(125);
    again.says(&["already exists", "--force"]);
    old.host.run(["backup", "--force", name]).check();

    let new = host("new");
    restore(&new, &path).ok().says(&[
        "restored 4 tasks",
        "were running at the time of the backup: 1",
        "tasks held: 2",
        "run in the environment of this command",
    ]);
    assert_eq!(new.status(&old.running)["outcome"], "lost");
    assert_eq!(new.status(&old.done)["outcome"], "succeeded");
    let held = new.status(&old.queued);
    assert_eq!(held["state"], "held", "{held:#}");
    let by = held["held_by"].as_str().unwrap();
    assert!(by.starts_with("restored from a backup of 20"), "{by}");
    let why = new.text(["why", &old.queued]);
    for piece in [
        "restored from a backup of ",
        "claudine release --restored",
        "its environment was not in the backup",
    ] {
        assert!(why.contains(piece), "{why}");
    }
    assert_eq!(new.text(["logs", &old.done]), "output of old");
    assert_eq!(new.text(["logs", &old.running]), "begun");
    let brought = new.text(["events", "--json"]);
    assert!(brought.starts_with(&events), "{events}\n{brought}");

    // A task that is also held by a person is not released by `release --restored`.
    new.run(["hold", &old.after]).check();
    let why = new.text(["why", &old.after]);
    let way_out = format!(
        "and held by owner; release it with `claudine release {}`",
        short_id(&old.after)
    );
    for piece in [&*way_out, "its environment was not in the backup"] {
        assert!(why.contains(piece), "{why}");
    }
    let released = new.run(["release", "--restored"]).ok();
    released.says(&["released 1 task"]);
    new.run(["release", &old.after]).check();
    assert_eq!(new.finished(&old.after)["outcome"], "succeeded");
    assert_eq!(new.text(["logs", &old.queued]), "ran as new");
    new.run(["release", "--restored"])
        .ok()
        .says(&["released 0 tasks"]);
    // A task that had ended before the backup can be run again too, in the new environment.
    new.run(["retry", &old.done]).check();
    new.finished(&old.done);
    assert_eq!(new.text(["logs", &old.done]), "output of new");
    assert_eq!(old.host.status(&old.running)["state"], "running");
}

/// Both hosts run the same task, with the same id.
#[test]
fn restored_host_neither_names_nor_ends_the_processes_of_the_host_in_the_backup() {
    let old = host("old");
    let id = old.script("exec sleep 600");
    let first = old.live(&id);
    let path = backup(&old);
    let new = host("new");
    restore(&new, &path).check();
    new.run(["retry", &id]).check();
    let second = new.live(&id);
    new.run(["down", "--kill"]).check();
    assert!(alive(first) && !alive(second));
    assert_eq!(old.status(&id)["phase"], "live");
}

#[test]
fn backup_with_environments_through_a_pipe_can_be_restored() {
    let old = at_work();
    let ran = old.host.run(["backup", "-", "--with-environments"]).ok();
    ran.says(&["environments of tasks are included: protect the backup like the secrets in them"]);
    let path = file(&old.host);
    fs::write(&path, &ran.stdout).unwrap();
    let mut list = Command::new("tar");
    list.arg("tzf").arg(&path);
    let listed = command::run(list, b"", PATIENCE).ok().text();
    assert!(listed.starts_with("manifest.json\nrows/000001.jsonl\nenv/"));
    assert!(listed.ends_with("sums/000001\nend.json"), "{listed}");

    let new = host("new");
    let told = new.json(["restore", path.to_str().unwrap()]);
    assert_eq!((&told["held"], &told["lost"]), (&2.into(), &1.into()));
    assert_eq!(told["stands_in"], false);
    // Tasks can also be released one by one.
    new.run(["release", &old.queued]).check();
    new.finished(&old.queued);
    assert_eq!(new.text(["logs", &old.queued]), "ran as old");
    assert_eq!(new.status(&old.after)["state"], "held");
}

#[test]
fn backup_warns_of_each_log_that_is_missing_or_damaged() {
    let old = host("old");
    let ids: Vec<String> = (0..5).map(|_| old.script("echo output")).collect();
    for id in &ids {
        old.finished(id);
    }
    let log = |id: &str| {
        let dir = old.data_dir().join("logs").join(&id[id.len() - 2..]);
        dir.join(format!("{id}.1.log"))
    };
    fs::remove_file(log(&ids[0])).unwrap();
    let mut bytes = fs::read(log(&ids[1])).unwrap();
    bytes[..18].fill(0);
    fs::write(log(&ids[1]), bytes).unwrap();
    fs::remove_file(log(&ids[2])).unwrap();
    let made = old.other("mkfifo").arg(log(&ids[2])).status().unwrap();
    assert!(made.success());
    let whole = fs::read(log(&ids[3])).unwrap();
    fs::write(log(&ids[3]), whole.repeat(2)).unwrap();
    let path = file(&old);
    let ran = old.run(["backup", path.to_str().unwrap()]).ok();
    let told = String::from_utf8_lossy(&ran.stderr);
    let warnings: BTreeSet<&str> = told
        .lines()
        .filter(|line| line.starts_with("warning"))
        .collect();
    let missing = format!("warning: the log {} is missing", log(&ids[0]).display());
    let damaged = format!(
        "warning: the log {} is damaged at byte 0",
        log(&ids[1]).display()
    );
    let fifo = format!(
        "warning: the log {} is no regular file; move it away",
        log(&ids[2]).display()
    );
    let added = format!(
        "warning: the log {} has 14 bytes of output, but only 7 were written",
        log(&ids[3]).display()
    );
    let expected = BTreeSet::from([&*damaged, &missing, &fifo, &added]);
    assert_eq!(warnings, expected, "{told}");
}

/// By default, the limit on the size of files ends a process by a signal.
#[test]
fn backup_over_the_limit_on_the_size_of_files_fails_and_leaves_no_partial_file() {
    let old = host("old");
    old.finished(&old.script("head -c 1000000 /dev/urandom"));
    let path = backup(&old);
    let before = fs::read(&path).unwrap();
    let mut again = old.other("sh");
    let script = "ulimit -f 1000; exec \"$0\" backup --force \"$1\"";
    again.args(["-c", script]).arg(binary()).arg(&path);
    command::run(again, b"", PATIENCE).code(125).says(&[
        "the backup cannot be written",
        "File too large",
        "(`ulimit -f`)",
    ]);
    assert!(fs::read(&path).unwrap() == before);
    let mut left = fs::read_dir(old.root()).unwrap();
    assert!(!left.any(|file| file.unwrap().path().extension() == Some("partial".as_ref())));
}

#[test]
fn used_directories_and_damaged_backups_are_refused_before_any_write() {
    let old = at_work();
    let path = backup(&old.host);
    let running = restore(&old.host, &path).code(125);
    running.says(&["another host", "claudine down"]);
    let used = host("used");
    used.finished(&used.script("true"));
    used.run(["down"]).check();
    restore(&used, &path)
        .code(125)
        .says(&["already has a queue", "nothing was changed"]);

    // A directory that does not exist is not created.
    let new = host("new");
    let data = new.root().join("not there yet");
    let data = data.to_str().unwrap();
    let name = path.to_str().unwrap();
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 9]).unwrap();
    let damaged = new.run(["restore", name, "--data-dir", data]).code(2);
    damaged.says(&[name, "damaged or cut off"]);
    new.run(["restore", "missing", "--data-dir", data])
        .code(125)
        .says(&["cannot read the backup"]);
    new.run(["backup", name, "--force", "--data-dir", data])
        .code(125)
        .says(&["nothing to back up"]);
    assert!(!Path::new(data).exists());
}

#[test]
fn incomplete_restore_is_reported_until_it_is_repeated_or_removed() {
    let old = host("old");
    old.finished(&old.script("true"));
    let path = backup(&old);
    let new = host("new");
    let rest = new.data_dir().join("restoring");
    let named = rest.to_str().unwrap();
    for way_out in ["repeated", "removed"] {
        fs::create_dir(&rest).unwrap();
        for command in [&["up"][..], &["run", "--", "true"], &["list"]] {
            new.run(command).code(125).says(&[
                "was killed before it was complete",
                "claudine restore FILE",
                named,
            ]);
        }
        if way_out == "removed" {
            fs::remove_dir(&rest).unwrap();
            new.up();
            continue;
        }
        restore(&new, &path).check();
        assert_eq!(new.json(["list"])["tasks"].as_array().unwrap().len(), 1);
    }
}

/// Starts a command, kills it at a random moment, and waits until it is gone.
fn killed(mut command: Command, random: &mut Random) {
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    any_moment_within(Duration::from_millis(1200), random);
    kill_9(child.id());
    child.wait().unwrap();
}

#[test]
fn killed_backup_or_restore_leaves_nothing_or_everything() {
    let old = host("old");
    let large = old.script("head -c 4000000 /dev/urandom | base64");
    old.finished(&large);
    let expected = old.run(["logs", &large]).ok().stdout;
    let path = file(&old);
    let mut random = Random::seeded();
    for _ in 0..4 {
        killed(old.command(["backup", path.to_str().unwrap()]), &mut random);
        if path.exists() {
            break;
        }
    }
    let path = if path.exists() { path } else { backup(&old) };
    for _ in 0..5 {
        let new = host("new");
        killed(
            new.command(["restore", path.to_str().unwrap()]),
            &mut random,
        );
        let up = new.run(["up"]);
        if up.status.success() {
            let there = new.json(["list"])["tasks"].as_array().unwrap().len();
            if there == 0 {
                new.run(["down"]).check();
                restore(&new, &path).check();
            }
        } else {
            up.code(125).says(&["was killed before it was complete"]);
            restore(&new, &path).check();
        }
        let logs = new.run(["logs", &large]).ok().stdout;
        assert!(logs == expected, "the log is not complete");
        let rest = ["restoring", "restored"].map(|name| new.data_dir().join(name));
        assert!(!rest.iter().any(|path| path.exists()));
    }
}

//! A host that cannot have the code of a plugin at the moment: nothing of the plugin's tasks is
//! ended, and everything goes on once the code can be had.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Stdio},
};

use claudine_tests::{
    TestHost,
    command::{self, Lines},
    process::{alive, kill_9, signal, state, suspend},
    short_id,
    wait::PATIENCE,
    wait_for,
};
use rustix::process::Signal;
use serde_json::Value;

use crate::authority::with_agent;

/// The code of a plugin that was made unusable. A directory in the place of each record stands for
/// a disk that is full or cannot be read, since root may read and write whatever has a mode. There
/// may be code of an earlier build beside that of this one.
struct Unusable {
    /// The place of each record, and where the record is kept.
    records: Vec<(PathBuf, PathBuf)>,
}

impl Unusable {
    fn make(host: &TestHost, plugin: &str) -> Self {
        let begin = format!("{plugin}-");
        let mut records = Vec::new();
        for entry in fs::read_dir(host.data_dir().join("cache")).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if !name.starts_with(&begin) || !name.ends_with(".sha256") {
                continue;
            }
            let record = host.data_dir().join("cache").join(&name);
            let kept = host.root().join(&name);
            fs::rename(&record, &kept).unwrap();
            fs::create_dir(&record).unwrap();
            records.push((record, kept));
        }
        assert!(!records.is_empty(), "no code of {plugin} is kept");
        Self { records }
    }

    fn repair(&self) {
        for (record, kept) in &self.records {
            fs::remove_dir(record).unwrap();
            fs::rename(kept, record).unwrap();
        }
    }
}

fn attempts(task: &Value) -> usize {
    task["attempts"].as_array().unwrap().len()
}

/// As after an upgrade on a machine whose disk is full.
#[test]
fn running_task_outlives_a_time_in_which_its_plugin_cannot_be_loaded() {
    let host = TestHost::new();
    let script = "echo run >> runs; until test -e go; do sleep 0.02; done; echo last";
    let running = host.script(script);
    let process = host.live(&running);
    let queued = ["run", "--hold", "--script", "echo run >> queued"];
    let queued = host.text(queued);
    let after = ["run", "--depends-on-success", &running, "--script", "true"];
    let after = host.text(after);
    host.kill_host();
    let code = Unusable::make(&host, "shell");
    host.up();
    let said = "plugin shell cannot be used at the moment";
    wait_for("the reason why the task is not settled", || {
        host.text(["why", &running]).contains(said).then_some(())
    });
    let shown = host.status(&running);
    assert_eq!(shown["state"], "running", "{shown:#}");
    assert!(shown["doing"].as_str().unwrap().contains(said), "{shown:#}");
    host.run(["release", &queued]).check();
    wait_for("the reason why the task is not started", || {
        host.text(["why", &queued]).contains(said).then_some(())
    });
    let shown = host.status(&queued);
    assert_eq!(shown["state"], "ready", "{shown:#}");
    assert!(shown["doing"].as_str().unwrap().contains(said), "{shown:#}");
    let list = host.run(["list"]).ok();
    list.says(&["plugin shell cannot be used now, so its tasks wait"]);
    // A request that needs the plugin says so, and so do `up` and `doctor`.
    let refused = host.run(["run", "--", "true"]);
    refused.says(&["cannot validate", "free space on the disk"]);
    let warnings = host.up()["warnings"].to_string();
    assert!(warnings.contains(said), "{warnings}");
    let doctor = host.run(["doctor"]).code(1).text();
    for piece in ["plugin shell", "free space on the disk", ".sha256"] {
        assert!(doctor.contains(piece), "{piece}\n{doctor}");
    }
    // The supervisor keeps the end of the task.
    assert!(alive(process));
    fs::write(host.work().join("go"), "").unwrap();
    wait_for("the end of the process", || (!alive(process)).then_some(()));
    assert_eq!(host.status(&running)["state"], "running");
    code.repair();
    // Loads the plugin at once, and not only after the host's pause.
    host.run(["plugin", "list"]).check();
    for id in [&running, &queued, &after] {
        let task = host.finished(id);
        assert_eq!(task["outcome"], "succeeded", "{task:#}");
        assert_eq!(attempts(&task), 1, "{task:#}");
    }
    assert!(host.text(["logs", &running]).contains("last"));
    for runs in ["runs", "queued"] {
        let runs = fs::read_to_string(host.work().join(runs)).unwrap();
        assert_eq!(runs, "run\n");
    }
}

#[test]
fn host_does_not_wait_at_its_start_for_an_end_that_needs_a_plugin_that_cannot_be_loaded() {
    let host = TestHost::new();
    let id = host.script("until test -e go; do sleep 0.02; done");
    let process = host.live(&id);
    host.kill_host();
    let code = Unusable::make(&host, "shell");
    fs::write(host.work().join("go"), "").unwrap();
    // Its supervisor has noticed the end.
    wait_for("the end of the process", || {
        state(process).is_none().then_some(())
    });
    let warnings = host.up()["warnings"].to_string();
    assert_eq!(host.status(&id)["state"], "running");
    let log = fs::read_to_string(host.data_dir().join("host.log")).unwrap();
    assert!(!log.contains("are not stored yet"), "{log}");
    // The start has looked for the plugin's code, so its first answer tells of it.
    let said = "plugin shell cannot be used at the moment";
    assert!(warnings.contains(said), "{warnings}");
    code.repair();
    host.run(["plugin", "list"]).check();
    assert_eq!(host.finished(&id)["outcome"], "succeeded");
}

/// Nobody needs the plugin to end a task whose processes have ended.
#[test]
fn running_task_can_be_cancelled_while_its_plugin_cannot_be_loaded() {
    let host = TestHost::new();
    let id = host.script("exec sleep 600");
    let process = host.live(&id);
    host.kill_host();
    let code = Unusable::make(&host, "shell");
    host.up();
    wait_for("the reason why the task is not settled", || {
        let why = host.text(["why", &id]);
        why.contains("plugin shell cannot be used").then_some(())
    });
    // A command that waits for the task says why it does not end.
    let mut wait = host.command(["wait", &id]);
    wait.stdin(Stdio::null()).stdout(Stdio::null());
    let mut wait = wait.stderr(Stdio::piped()).spawn().unwrap();
    let lines = Lines::of(wait.stderr.take().unwrap());
    lines.say("cannot end: plugin shell cannot be used");
    host.run(["cancel", &id]).check();
    assert_eq!(host.finished(&id)["outcome"], "cancelled");
    command::ends_within(&mut wait, PATIENCE).expect("it ends");
    assert!(!alive(process));
    code.repair();
}

/// What a process has done decides, once the plugin can be asked.
#[test]
fn task_that_has_ended_keeps_its_end_while_its_plugin_cannot_be_loaded() {
    let host = TestHost::new();
    let waits = "until test -e go; do sleep 0.02; done";
    let limited = |script: &str| {
        let limits = [
            "run",
            "--timeout",
            "12s",
            "--retries",
            "1",
            "--backoff",
            "1s",
        ];
        host.text([&limits[..], &["--script", script]].concat())
    };
    let succeeds = limited(&format!("echo run >> runs; {waits}"));
    let fails = host.text([
        "run",
        "--timeout",
        "12s",
        "--script",
        &format!("{waits}; exit 3"),
    ]);
    let cancelled = host.script(waits);
    let after = ["run", "--depends-on-success", &succeeds, "--script", "true"];
    let after = host.text(after);
    let ended = [&succeeds, &fails, &cancelled];
    for id in ended {
        host.live(id);
    }
    // Its limit passes after those of the others.
    let endless = limited("exec sleep 600");
    host.live(&endless);
    host.kill_host();
    let code = Unusable::make(&host, "shell");
    host.up();
    fs::write(host.work().join("go"), "").unwrap();
    for id in ended {
        wait_for("the end of the process", || {
            (host.status(id)["phase"] == "ended").then_some(())
        });
    }
    let said = "plugin shell cannot be used at the moment";
    let why = host.text(["why", &succeeds]);
    assert!(why.contains(said) && why.contains("have ended"), "{why}");
    let why = host.text(["why", &after]);
    assert!(why.contains("(now ended, but nobody"), "{why}");
    let listed = host.text(["list", "--state", "ended"]);
    assert!(listed.matches("ended").count() >= ended.len(), "{listed}");
    host.run(["cancel", &cancelled]).check();
    wait_for("the end by the limit", || {
        let endless = host.status(&endless);
        let first = &endless["attempts"][0];
        (first["outcome"] == "timed_out").then_some(())
    });
    for id in [&succeeds, &fails] {
        assert_eq!(host.status(id)["phase"], "ended");
    }
    // It has nothing to end, and does not wait for the plugin.
    host.run(["down", "--kill"]).check();
    assert_eq!(host.status(&succeeds)["phase"], "ended");
    code.repair();
    host.up();
    for (id, outcome) in [
        (&succeeds, "succeeded"),
        (&fails, "failed"),
        (&cancelled, "succeeded"),
        (&after, "succeeded"),
    ] {
        let task = host.finished(id);
        assert_eq!(task["outcome"], outcome, "{task:#}");
        assert_eq!(attempts(&task), 1, "{task:#}");
        // It has ended within its limit, and this was recorded later.
        let ran_ms = task["ran_ms"].as_u64().unwrap();
        assert!(ran_ms < 12_000, "{task:#}");
    }
    assert_eq!(host.finished(&fails)["exit_code"], 3);
    let runs = fs::read_to_string(host.work().join("runs")).unwrap();
    assert_eq!(runs, "run\n");
}

/// Waits until a command says something on standard error, and ends the command.
#[track_caller]
fn is_said_by(host: &TestHost, command: &[&str], said: &str) {
    let mut waiting = host.command(command);
    waiting.stdin(Stdio::null()).stdout(Stdio::null());
    let mut waiting = waiting.stderr(Stdio::piped()).spawn().unwrap();
    Lines::of(waiting.stderr.take().unwrap()).say(said);
    waiting.kill().unwrap();
    waiting.wait().unwrap();
}

#[test]
fn commands_that_wait_name_the_plugin_that_cannot_be_loaded() {
    let host = TestHost::new();
    let running = host.script("exec sleep 600");
    host.live(&running);
    let queued = host.text(["run", "--hold", "--script", "true"]);
    host.kill_host();
    let code = Unusable::make(&host, "shell");
    host.up();
    host.run(["release", &queued]).check();
    let not_ended = "cannot end: plugin shell cannot be used at the moment";
    let not_started = "cannot start: plugin shell cannot be used at the moment";
    is_said_by(&host, &["logs", "-f", &running], not_ended);
    is_said_by(&host, &["wait", &queued], not_started);
    is_said_by(&host, &["logs", "-f", &queued], not_started);
    let drain = host.run(["down", "--drain"]).code(125);
    drain.says(&[
        not_ended,
        "the host drains, and ends once its tasks have ended",
    ]);
    // Lifts the drain.
    host.up();
    code.repair();
    // The look that loads the plugin says nothing of what was before.
    let doctor = wait_for("a look that loads the plugin", || {
        let said = host.run(["doctor"]).text();
        said.contains("ok    plugin shell").then_some(said)
    });
    assert!(!doctor.contains("cannot be used"), "{doctor}");
    assert_eq!(host.finished(&queued)["outcome"], "succeeded");
    host.run(["cancel", &running]).check();
    assert_eq!(host.finished(&running)["outcome"], "cancelled");
}

/// A command that runs `true` and waits for its end.
fn run_true(host: &TestHost) -> Child {
    let mut run = host.command(["run", "--wait", "--", "true"]);
    run.stdin(Stdio::null()).stdout(Stdio::null());
    run.stderr(Stdio::piped()).spawn().unwrap()
}

/// The process that compiles the plugin `shell`.
fn compiler(host: &TestHost) -> u32 {
    wait_for("the compiler", || {
        let found = host.processes().into_iter().find(|found| {
            let pieces = [" __compile ", "/cache/shell-"];
            pieces.iter().all(|piece| found.command.contains(piece))
        });
        found.map(|found| found.pid)
    })
}

/// The kernel kills a compiler if the machine lacks memory.
#[test]
fn plugin_whose_compiler_was_killed_is_compiled_at_the_next_need() {
    let host = TestHost::builder().from_nothing().build();
    let mut run = run_true(&host);
    kill_9(compiler(&host));
    let ended = command::ends_within(&mut run, PATIENCE).expect("it ends");
    assert!(!ended.success(), "{ended}");
    let mut said = String::new();
    for line in BufReader::new(run.stderr.take().unwrap()).lines() {
        said += &line.unwrap();
    }
    let why = "it cannot be compiled at the moment: the compiler ended with";
    assert!(said.contains(why), "{said}");
    wait_for("a command that succeeds", || {
        let ended = command::ends_within(&mut run_true(&host), 4 * PATIENCE);
        ended.expect("it ends").success().then_some(())
    });
}

#[test]
fn compiler_that_is_stopped_by_a_signal_is_named_to_those_who_wait_for_it() {
    let host = TestHost::builder().from_nothing().build();
    let mut run = run_true(&host);
    let compiler = compiler(&host);
    suspend(compiler);
    let way_out = format!("`kill -CONT {compiler}`");
    let lines = Lines::of(run.stderr.take().unwrap());
    lines.say(&way_out);
    // They do not wait for the compiler.
    let doctor = host.run(["doctor"]).code(1).text();
    assert!(doctor.contains(&way_out), "{doctor}");
    let list = host.run(["plugin", "list"]).code(125);
    assert!(list.complaint().contains(&way_out), "{list}");
    signal(compiler, Signal::CONT);
    let ended = command::ends_within(&mut run, 4 * PATIENCE).expect("it ends");
    assert!(ended.success(), "{ended}");
}

/// The next host compiles the plugin for tasks of the earlier one.
#[test]
fn stop_of_a_task_does_not_end_the_compiler_for_which_others_wait() {
    let host = TestHost::new();
    let stopped = [(); 2].map(|()| host.script("exec sleep 600"));
    let ends = host.script("until test -e go; do sleep 0.02; done");
    for id in stopped.iter().chain([&ends]) {
        host.live(id);
    }
    host.kill_host();
    fs::remove_dir_all(host.data_dir().join("cache")).unwrap();
    let mut up = host.command(["up"]);
    up.stdin(Stdio::null()).stdout(Stdio::null());
    let mut up = up.stderr(Stdio::null()).spawn().unwrap();
    let compiler = compiler(&host);
    suspend(compiler);
    let way_out = format!("`kill -CONT {compiler}`");
    fs::write(host.work().join("go"), "").unwrap();
    // `status` does not wait for the compiler.
    wait_for("the reason why the end is not settled", || {
        let shown = host.status(&ends);
        let doing = shown["doing"].as_str().unwrap_or_default();
        (shown["phase"] == "ended" && doing.contains(&way_out)).then_some(())
    });
    let why = host.text(["why", &ends]);
    assert!(why.contains(&way_out), "{why}");
    for id in &stopped {
        host.run(["cancel", id]).check();
    }
    for id in &stopped {
        assert_eq!(host.finished(id)["outcome"], "cancelled");
    }
    assert!(alive(compiler));
    signal(compiler, Signal::CONT);
    let ended = command::ends_within(&mut up, 4 * PATIENCE).expect("it ends");
    assert!(ended.success(), "{ended}");
    let task = host.finished(&ends);
    assert_eq!(task["outcome"], "succeeded", "{task:#}");
    assert_eq!(attempts(&task), 1, "{task:#}");
}

/// Each of them would otherwise begin an attempt, and find out again that it cannot.
#[test]
fn hosts_that_cannot_load_a_plugin_begin_at_most_one_attempt_of_a_waiting_task() {
    let host = TestHost::new();
    host.run(["run", "--wait", "--", "true"]).check();
    let id = host.text(["run", "--hold", "--", "true"]);
    host.kill_host();
    let code = Unusable::make(&host, "shell");
    host.up();
    host.run(["release", &id]).check();
    let said = "plugin shell cannot be used at the moment";
    for _ in 0..3 {
        wait_for("the reason why the task is not started", || {
            host.text(["why", &id]).contains(said).then_some(())
        });
        assert!(attempts(&host.status(&id)) <= 1);
        host.kill_host();
        host.up();
    }
    code.repair();
    host.run(["plugin", "list"]).check();
    let task = host.finished(&id);
    assert_eq!(task["outcome"], "succeeded", "{task:#}");
    assert!(attempts(&task) <= 2, "{task:#}");
}

#[test]
fn stopped_compiler_is_named_to_those_who_wait_for_a_task_that_runs() {
    let host = TestHost::builder().from_nothing().build();
    let first = command::ends_within(&mut run_true(&host), 4 * PATIENCE);
    assert!(first.expect("it ends").success());
    let running = host.script("exec sleep 600");
    host.live(&running);
    host.kill_host();
    wait_for("the end of all compilers", || {
        let mut all = host.processes().into_iter();
        let is_compiler = all.any(|found| found.command.contains(" __compile "));
        (!is_compiler).then_some(())
    });
    fs::remove_dir_all(host.data_dir().join("cache")).unwrap();
    let mut up = host.command(["up"]);
    up.stdin(Stdio::null()).stdout(Stdio::null());
    let mut up = up.stderr(Stdio::null()).spawn().unwrap();
    let compiler = compiler(&host);
    suspend(compiler);
    command::ends_within(&mut up, 4 * PATIENCE).expect("it ends");
    let way_out = format!("`kill -CONT {compiler}`");
    for command in [["wait", &running].as_slice(), &["logs", "-f", &running]] {
        is_said_by(&host, command, &way_out);
    }
    let shown = host.status(&running);
    assert!(
        shown["doing"].as_str().unwrap().contains(&way_out),
        "{shown:#}"
    );
    signal(compiler, Signal::CONT);
    let mut loaded = host.command(["plugin", "list"]);
    loaded.stdin(Stdio::null()).stdout(Stdio::null());
    let mut loaded = loaded.stderr(Stdio::null()).spawn().unwrap();
    command::ends_within(&mut loaded, 4 * PATIENCE).expect("it ends");
    host.run(["cancel", &running]).check();
    assert_eq!(host.finished(&running)["outcome"], "cancelled");
}

/// The component of the plugin `shell`, as a host gives it to its compiler.
fn component_of_shell() -> Vec<u8> {
    let host = TestHost::builder().from_nothing().build();
    let mut run = run_true(&host);
    let compiler = compiler(&host);
    suspend(compiler);
    let line = fs::read_to_string(format!("/proc/{compiler}/cmdline")).unwrap();
    let component = fs::read(line.split('\0').nth(2).unwrap()).unwrap();
    kill_9(compiler);
    command::ends_within(&mut run, PATIENCE).expect("it ends");
    component
}

/// Installs the plugin `shell` once more, under another name, and grants it every command.
fn install_shell_as(name: &str, host: &TestHost) {
    let folder = host.data_dir().join("plugins").join(name);
    fs::create_dir_all(&folder).unwrap();
    let manifest = include_str!("../../../plugins/shell/plugin.toml");
    let named = manifest.replace("name = \"shell\"", &format!("name = \"{name}\""));
    assert_ne!(named, manifest);
    fs::write(folder.join("plugin.toml"), named).unwrap();
    fs::write(folder.join(format!("{name}.wasm")), component_of_shell()).unwrap();
    // The code is the same, and is not compiled again.
    let cache = host.data_dir().join("cache");
    for entry in fs::read_dir(&cache).unwrap() {
        let record = entry.unwrap().path();
        let file = record.file_name().unwrap().to_str().unwrap();
        let Some(rest) = file.strip_prefix("shell-") else {
            continue;
        };
        let Some(stem) = rest.strip_suffix(".sha256") else {
            continue;
        };
        let copy = cache.join(format!("{name}-{stem}.cwasm"));
        fs::copy(record.with_extension("cwasm"), &copy).unwrap();
        let origin = fs::read_to_string(&record).unwrap();
        let origin = origin.replace("\nshell ", &format!("\n{name} "));
        fs::write(copy.with_extension("sha256"), origin).unwrap();
    }
    let shown = host.json(["plugin", "inspect", name]);
    let digest = shown["digest"].as_str().unwrap();
    let grant = format!("digest = \"{digest}\"\nprocess = [\"*\"]\n");
    let grants = host.data_dir().join("grants");
    fs::create_dir_all(&grants).unwrap();
    fs::write(grants.join(format!("{name}.toml")), grant).unwrap();
    // The next host reads the grant.
    host.run(["down"]).check();
}

/// A manifest, unlike code, is read only when a host starts.
#[test]
fn running_task_outlives_a_host_that_cannot_read_the_manifest_of_its_plugin() {
    let host = TestHost::new();
    install_shell_as("other", &host);
    let submit = |options: &[&str], script: &str| {
        let run = ["run", "--executor", "other"];
        host.text([&run[..], options, &["--script", script]].concat())
    };
    let running = submit(&[], "until test -e go; do sleep 0.02; done; exit 3");
    let process = host.live(&running);
    let cancelled = submit(&[], "exec sleep 600");
    host.live(&cancelled);
    let queued = submit(&["--hold"], "true");
    host.kill_host();
    let manifest = host.data_dir().join("plugins/other/plugin.toml");
    let kept = host.root().join("plugin.toml");
    fs::rename(&manifest, &kept).unwrap();
    fs::create_dir(&manifest).unwrap();
    let said = "plugin other cannot be used by this host";
    let warnings = host.up()["warnings"].to_string();
    assert!(warnings.contains(said), "{warnings}");
    host.run(["release", &queued]).check();
    for id in [&running, &queued] {
        let why = host.text(["why", id]);
        assert!(why.contains(said), "{why}");
        assert!(why.contains("restart the host"), "{why}");
        assert!(!why.contains("tries again"), "{why}");
    }
    let refused = host.run(["run", "--executor", "other", "--", "true"]);
    refused.says(&["executor `other` cannot be used", "restart the host"]);
    host.run(["cancel", &cancelled]).check();
    assert_eq!(host.finished(&cancelled)["outcome"], "cancelled");
    assert!(alive(process));
    fs::write(host.work().join("go"), "").unwrap();
    wait_for("the end of the process", || {
        (host.status(&running)["phase"] == "ended").then_some(())
    });
    assert_eq!(host.status(&queued)["state"], "ready");
    host.kill_host();
    fs::remove_dir(&manifest).unwrap();
    fs::rename(&kept, &manifest).unwrap();
    host.up();
    let task = host.finished(&running);
    assert_eq!(task["exit_code"], 3, "{task:#}");
    assert_eq!(attempts(&task), 1, "{task:#}");
    let task = host.finished(&queued);
    assert_eq!(task["outcome"], "succeeded", "{task:#}");
    assert_eq!(attempts(&task), 1, "{task:#}");
}

/// A copy of the data directory would not have the end, which its supervisor keeps.
#[test]
fn drain_names_the_task_whose_end_nobody_could_record() {
    let host = TestHost::new();
    let id = host.script("until test -e go; do sleep 0.02; done");
    host.live(&id);
    host.kill_host();
    let code = Unusable::make(&host, "shell");
    host.up();
    fs::write(host.work().join("go"), "").unwrap();
    wait_for("the end of the process", || {
        (host.status(&id)["phase"] == "ended").then_some(())
    });
    host.run(["down", "--drain"]).code(125).says(&[
        "nobody could record how these tasks ended",
        short_id(&id),
        "their ends are kept",
    ]);
    assert_eq!(host.host_pid(), None);
    code.repair();
    host.up();
    assert_eq!(host.finished(&id)["outcome"], "succeeded");
}

/// An agent whose session cannot be resumed: its second process begins a fresh one.
const FORGETFUL: &str = r#"case "$*" in
*--version*) echo '2.1.0 (Claude Code)'; exit 0;;
esac
cat > /dev/null
echo call >> calls
session=11111111-1111-1111-1111-111111111111
case "$*" in
*--resume*)
    until test -e go; do sleep 0.02; done
    why="No conversation found with session ID: $session"
    echo '{"type":"result","subtype":"error_during_execution","is_error":true,"num_turns":0,'\
'"duration_ms":0,"total_cost_usd":0,"usage":{},"session_id":"'$session'","errors":["'"$why"'"]}'
    exit 1;;
esac
echo '{"type":"system","subtype":"init","tools":[],"model":"m",'\
'"session_id":"'$session'","cwd":"'"$PWD"'"}'
echo '{"type":"result","subtype":"success","is_error":false,"result":"done","num_turns":1,'\
'"duration_ms":1,"total_cost_usd":0.25,"session_id":"'$session'"}'"#;

/// It would start the process, which costs money, after the user has ended everything.
#[test]
fn down_kill_cancels_an_agent_that_has_still_to_start_another_process() {
    let (host, _agent) = with_agent("", FORGETFUL);
    let calls = || {
        let calls = fs::read_to_string(host.work().join("calls")).unwrap_or_default();
        calls.lines().count()
    };
    let id = host.text(["delegate", "p"]);
    assert_eq!(host.finished(&id)["outcome"], "succeeded");
    host.run(["resume", &id, "--context", "go on"]).check();
    wait_for("the process with the session", || {
        (calls() == 2).then_some(())
    });
    host.kill_host();
    let code = Unusable::make(&host, "claude");
    host.up();
    fs::write(host.work().join("go"), "").unwrap();
    wait_for("the end of the process", || {
        (host.status(&id)["phase"] == "ended").then_some(())
    });
    let down = host.run(["down", "--kill"]).ok();
    down.says(&["the next host records how these tasks ended"]);
    code.repair();
    host.up();
    let task = host.finished(&id);
    assert_eq!(task["outcome"], "cancelled", "{task:#}");
    assert_eq!(calls(), 2);
}

//! Git commands that outlive their host because a program below them hangs: a filter, a hook, or
//! `gh`. The next host ends them, and so does `down --kill`.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Stdio},
};

use claudine_tests::{
    TestHost,
    process::{alive, signal, suspend},
    wait_for,
};
use rustix::process::Signal;
use tempfile::TempDir;

use super::{COMMIT, git_in, merged, path_with, programs, write_script};

/// A script that hangs if a file with the pattern of a command exists, and if the git above it has
/// been called with such a command. It then notes its own pid and that of git, and cannot be ended
/// with TERM.
const HANGS: &str = r#"#!/bin/sh
if test -e DIR/NAME.hangs && tr '\0' ' ' < /proc/$PPID/cmdline | grep -qf DIR/NAME.hangs; then
    trap '' TERM
    echo "$$ $PPID" > DIR/pids.new && mv DIR/pids.new DIR/pids
    exec sleep 1000
fi
"#;

/// The same for `gh`, which a supervisor starts and TERM ends.
const GH: &str = r#"#!/bin/sh
if test -e DIR/gh.hangs; then
    echo $$ > DIR/pids.new && mv DIR/pids.new DIR/pids
    exec sleep 1000
fi
if test "$2" = create; then echo https://example.org/pull/1; fi
"#;

/// A host with a `gh` that can hang.
struct World {
    host: TestHost,
    programs: TempDir,
}

impl World {
    fn new() -> Self {
        let programs = programs(&[]);
        let builder = TestHost::builder().slots(20);
        Self {
            host: builder.env("PATH", path_with(programs.path())).build(),
            programs,
        }
    }
}

/// A repository whose programs can hang.
struct Place<'a> {
    host: &'a TestHost,
    name: &'static str,
    /// The directory that has the repository, the programs and their notes.
    dir: PathBuf,
}

impl<'a> Place<'a> {
    fn new(host: &'a TestHost, name: &'static str) -> Self {
        let dir = host.root().join(name);
        let place = Self { host, name, dir };
        fs::create_dir_all(place.work()).unwrap();
        place.git(&["init", "-q", "-b", "main"]);
        for (file, text) in [
            (".gitattributes", "filtered filter=slow\n"),
            ("file", "one\n"),
            ("filtered", "one\n"),
        ] {
            fs::write(place.work().join(file), text).unwrap();
        }
        place.git(&["add", "-A"]);
        place.git(&["commit", "-q", "-m", "first"]);
        let fails = "text=$(cat); test \"$text\" != fails && echo \"$text\"\n";
        for (filter, rest) in [("clean", "exec cat\n"), ("smudge", fails)] {
            let program = place.dir.join(filter);
            place.write_program(&program, filter, rest);
            let setting = format!("filter.slow.{filter}");
            place.git(&["config", &setting, program.to_str().unwrap()]);
        }
        place.git(&["config", "filter.slow.required", "true"]);
        place
    }

    fn write_program(&self, path: &Path, name: &str, rest: &str) {
        let dir = self.dir.to_str().unwrap();
        let hangs = HANGS.replace("DIR", dir).replace("NAME", name);
        write_script(path, &(hangs + rest));
    }

    fn work(&self) -> PathBuf {
        self.dir.join("work")
    }

    #[track_caller]
    fn git(&self, arguments: &[&str]) -> String {
        git_in(self.host, &self.work(), arguments)
    }

    /// A shell command that lets a program hang below a command with this pattern.
    fn hang(&self, program: &str, pattern: &str) -> String {
        format!("echo '{pattern}' > {}/{program}.hangs", self.dir.display())
    }

    fn let_hang(&self, program: &str, pattern: &str) {
        let hangs = self.dir.join(format!("{program}.hangs"));
        fs::write(hangs, format!("{pattern}\n")).unwrap();
    }

    /// Lets no program hang from now on.
    fn let_go_on(&self) {
        for program in ["clean", "smudge", "hook", "gh"] {
            // An error is ignored, because not every program hangs here.
            fs::remove_file(self.dir.join(format!("{program}.hangs"))).ok();
        }
    }

    /// Waits until a program hangs; returns its pid and that of git.
    fn hanging(&self) -> Vec<u32> {
        let pids = wait_for(&format!("a hanging program: {}", self.name), || {
            fs::read_to_string(self.dir.join("pids")).ok()
        });
        let pids = pids.split_whitespace().map(|pid| pid.parse().unwrap());
        pids.collect()
    }

    #[track_caller]
    fn submit(&self, options: &[&str], script: &str) -> String {
        let work = self.work();
        let start = ["run", "--worktree", "-w", work.to_str().unwrap()];
        let arguments = start.iter().chain(options);
        self.host.text(arguments.chain(&["--script", script]))
    }

    fn start(&self, arguments: &[&str]) -> Child {
        let mut command = self.host.command(arguments);
        let command = command.stdin(Stdio::null());
        let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    }

    /// Checks that no git and no host has left a lock in the repository.
    #[track_caller]
    fn is_unlocked(&self) {
        let mut locks = Vec::new();
        let mut dirs = vec![self.work().join(".git")];
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    dirs.push(path);
                } else if path.extension().is_some_and(|it| it == "lock") && !is_of_host(&path) {
                    locks.push(path);
                }
            }
        }
        assert!(locks.is_empty(), "{}: {locks:?}", self.name);
    }
}

/// Whether a lock is that of an index that the host has made for one command. Nobody else uses this
/// index, so its lock delays nobody, and both are removed later.
fn is_of_host(lock: &Path) -> bool {
    let name = lock.file_name().unwrap().to_string_lossy();
    name.starts_with("claudine.index.")
}

/// A git operation in which a program hangs.
struct Hung<'a> {
    place: Place<'a>,
    pids: Vec<u32>,
    /// The task for which git runs, and its outcome and merge if the next host goes on.
    task: Option<(String, &'static str, &'static str)>,
    /// The command that has requested the operation.
    client: Option<Child>,
}

/// Begins each of the git operations in which a program can hang, in a repository of its own, and
/// waits until all of them hang.
fn all_hanging(world: &World) -> Vec<Hung<'_>> {
    let host = &world.host;
    let [auto, push, gh] = [
        &["--merge", "auto"][..],
        &["--merge", "pr", "--branch", "push"][..],
        &["--merge", "pr", "--branch", "gh"][..],
    ];
    let [merged, opened, refused] = [
        ("succeeded", "merged"),
        ("succeeded", "opened"),
        ("failed", "refused"),
    ];
    let (change, filter) = ("echo two > file", "echo two > filtered");
    let fails = "echo fails > filtered; mkdir made; echo '# new' > made/.gitattributes";
    let mut hung = Vec::new();
    for (name, options, script, program, pattern, (outcome, state)) in [
        // Hangs before the script runs.
        ("make", auto, change, "smudge", ".", merged),
        ("commit", auto, filter, "clean", " add ", merged),
        ("write", auto, filter, "smudge", "checkout-index", merged),
        // The files are replaced, and the index is locked.
        ("forward", auto, filter, "clean", "ff-only", merged),
        // Git itself has failed to update the checkout, and the file is missing.
        ("put-back", auto, fails, "smudge", "checkout-index", refused),
        ("push", push, change, "hook", "push", opened),
        ("gh", gh, change, "gh", ".", opened),
    ] {
        let place = Place::new(host, name);
        let remote = place.dir.join("remote.git");
        let remote = remote.to_str().unwrap();
        place.git(&["init", "-q", "--bare", remote]);
        place.git(&["remote", "add", "origin", remote]);
        place.write_program(&place.work().join(".git/hooks/pre-push"), "hook", "");
        if program == "gh" {
            let gh = GH.replace("DIR", place.dir.to_str().unwrap());
            write_script(&world.programs.path().join("gh"), &gh);
        }
        let script = if name == "make" {
            place.let_hang(program, pattern);
            script.to_owned()
        } else {
            format!("{script}; {}", place.hang(program, pattern))
        };
        let task = Some((place.submit(options, &script), outcome, state));
        let pids = place.hanging();
        hung.push(Hung {
            place,
            pids,
            task,
            client: None,
        });
    }
    let place = Place::new(host, "request");
    let script = format!("{filter}; {COMMIT}");
    host.finished(&place.submit(&["--name", "request"], &script));
    place.let_hang("clean", "ff-only");
    let client = Some(place.start(&["worktree", "merge", "request", "--merge", "auto"]));
    let pids = place.hanging();
    hung.push(Hung {
        place,
        pids,
        task: None,
        client,
    });
    for Hung { place, pids, .. } in &hung {
        assert!(pids.iter().all(|pid| alive(*pid)), "{}", place.name);
        place.let_go_on();
    }
    hung
}

/// Waits for the commands whose host was killed.
fn clients_have_ended(hung: &mut [Hung<'_>]) {
    for Hung { place, client, .. } in hung {
        let Some(client) = client.take() else {
            continue;
        };
        let ended = client.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(!ended.status.success(), "{}", place.name);
        assert!(said.contains("`claudine worktree list`"), "{said}");
    }
}

/// Checks that other work in the repositories is merged, and that no locks are left.
#[track_caller]
fn all_can_be_used(hung: &[Hung<'_>]) {
    let submit = |Hung { place, .. }: &Hung<'_>| {
        let id = place.submit(&["--merge", "auto"], "echo again > again");
        (place.name, id)
    };
    let again: Vec<_> = hung.iter().map(submit).collect();
    for ((name, id), Hung { place, .. }) in again.iter().zip(hung) {
        merged(&place.host.finished(id), "succeeded", "merged");
        assert_eq!(place.git(&["show", "main:again"]), "again", "{name}");
        assert_eq!(place.git(&["status", "--porcelain"]), "", "{name}");
        place.is_unlocked();
    }
}

/// Checks that the next host has ended everything that hangs, and goes on with the work.
fn next_host_goes_on(world: &World, end: impl FnOnce(&TestHost)) {
    let host = &world.host;
    let mut hung = all_hanging(world);
    end(host);
    host.up();
    for Hung { place, pids, .. } in &hung {
        wait_for(&format!("the end of git: {}", place.name), || {
            (!pids.iter().any(|pid| alive(*pid))).then_some(())
        });
    }
    for Hung { place, task, .. } in &hung {
        let Some((id, outcome, state)) = task else {
            continue;
        };
        let task = host.finished(id);
        merged(&task, outcome, state);
        let attempts = task["attempts"].as_array().unwrap();
        assert_eq!(attempts.len(), 1, "{}: {task:#}", place.name);
    }
    clients_have_ended(&mut hung);
    all_can_be_used(&hung);
}

#[test]
fn next_host_ends_hanging_git_commands_of_a_killed_one_and_goes_on() {
    next_host_goes_on(&World::new(), |host| {
        host.kill_host();
    });
}

/// A git that is only killed would leave its locks.
#[test]
fn next_host_ends_hanging_git_commands_although_their_supervisor_was_killed_too() {
    next_host_goes_on(&World::new(), |host| {
        host.kill_host();
        host.kill_supervisors();
    });
}

/// Checks that `down --kill` ends everything that hangs, and leaves no lock. It may take long until
/// somebody starts a host.
fn down_kill_leaves_nothing(world: &World, end: impl FnOnce(&TestHost)) {
    let host = &world.host;
    let mut hung = all_hanging(world);
    host.kill_host();
    clients_have_ended(&mut hung);
    end(host);
    host.run(["down", "--kill"]).check();
    for Hung { place, pids, .. } in &hung {
        assert!(!pids.iter().any(|pid| alive(*pid)), "{}", place.name);
        place.is_unlocked();
    }
    assert!(host.host_pid().is_none());
    wait_for("the end of all processes", || {
        host.processes().is_empty().then_some(())
    });
    all_can_be_used(&hung);
}

#[test]
fn down_kill_without_a_host_ends_hanging_git_commands_and_removes_their_locks() {
    down_kill_leaves_nothing(&World::new(), |_| {});
}

#[test]
fn down_kill_ends_hanging_git_commands_although_host_and_supervisor_were_killed() {
    down_kill_leaves_nothing(&World::new(), TestHost::kill_supervisors);
}

/// A supervisor that is suspended ends nothing, so the command stays for as long as the test needs.
#[test]
fn hanging_git_command_of_a_killed_host_is_named_to_those_who_wait_for_it() {
    let world = World::new();
    let host = &world.host;
    let [place, other] = ["place", "other"].map(|name| Place::new(host, name));
    for name in ["first", "second"] {
        let script = format!("echo two > filtered; echo {name} > {name}; {COMMIT}");
        host.finished(&place.submit(&["--name", name], &script));
    }
    place.let_hang("clean", "ff-only");
    let merge = |name: &str| place.start(&["worktree", "merge", name, "--merge", "auto"]);
    let mut client = merge("first");
    let pids = place.hanging();
    place.let_go_on();
    let supervisor = host.supervisor_pids()[0];
    suspend(supervisor);
    host.kill_host();
    assert!(!client.wait().unwrap().success());

    let up = host.run(["up"]).complaint();
    let id = other.submit(&["--merge", "auto"], "echo third > third");
    let named = format!("`git` (pid {}) of an earlier host in ", pids[1]);
    let why = wait_for("a task that waits for git", || {
        let why = host.text(["why", &id]);
        why.contains(&named).then_some(why)
    });
    let status = host.status(&id)["doing"].to_string();
    let doctor = String::from_utf8_lossy(&host.run(["doctor"]).stdout).into_owned();
    let mut client = merge("second");
    let mut said = String::new();
    let mut stderr = BufReader::new(client.stderr.take().unwrap());
    stderr.read_line(&mut said).unwrap();
    let all_waited = pids.iter().all(|pid| alive(*pid));
    signal(supervisor, Signal::CONT);
    assert!(all_waited);
    for told in [up, why, status, doctor, said] {
        assert!(told.contains(&named), "{told}");
    }

    assert!(client.wait().unwrap().success());
    assert!(!pids.iter().any(|pid| alive(*pid)));
    merged(&host.finished(&id), "succeeded", "merged");
    assert_eq!(place.git(&["show", "main:second"]), "second");
    assert_eq!(other.git(&["show", "main:third"]), "third");
    for place in [place, other] {
        place.is_unlocked();
    }
}

//! A full disk: nothing is lost or duplicated, and the child is held back until there is room.

use std::process::Command;

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

use super::*;

/// Few enough lines for one pipe, so that their process can end although nobody reads them.
const LINES: u32 = 10_000;

/// A small filesystem for one test.
struct Small(PathBuf);

impl Small {
    #[expect(clippy::print_stderr, reason = "a failed write ends only a test")]
    fn mount(at: PathBuf) -> Option<Self> {
        std::fs::create_dir_all(&at).unwrap();
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=64m", "tmpfs"])
            .arg(&at)
            .status();
        if status.is_ok_and(|status| status.success()) {
            return Some(Self(at));
        }
        eprintln!("SKIPPED: a full disk needs a small tmpfs, and this user may not mount one");
        None
    }

    fn ballast(&self) -> PathBuf {
        self.0.join("ballast")
    }

    /// Writes this number of mebibytes; less if less is free.
    fn write(&self, mebibytes: usize) -> std::io::Result<()> {
        std::fs::write(self.ballast(), vec![0; mebibytes << 20])
    }

    /// Fills the filesystem to the last block.
    fn fill(&self) {
        self.write(65).unwrap_err();
    }

    /// Removes what `write` or `fill` has written.
    fn empty(&self) {
        std::fs::remove_file(self.ballast()).unwrap();
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // If the mount cannot be removed now, it disappears with the machine. An error here must
        // not hide the message of a failing test.
        Command::new("umount").arg("-l").arg(&self.0).status().ok();
    }
}

#[tokio::test]
async fn a_full_disk_holds_the_child_back_and_loses_nothing() {
    let mut lab = Lab::new().await;
    let Some(small) = Small::mount(lab.dir.path().join("logs")) else {
        return;
    };
    small.write(62).unwrap();
    let mut start = lab.script("t.1", "seq 1 700000; echo fault >&2; exit 6");
    start.idle_timeout = Some(Duration::from_millis(600));
    lab.start(start.clone()).await;
    loop {
        match lab.host.next().await {
            Report::Held {
                message: Some(message),
                ..
            } => {
                assert_eq!(message, log::no_room());
                break;
            }
            Report::Started { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    // The child is held back for longer than its idle limit; meanwhile another child starts and
    // ends.
    let other = lab.command("other.1", &["sleep", "0.8"]);
    lab.start(other.clone()).await;
    let (exit, ended) = lab.host.exit(&other.child).await;
    assert_eq!((exit.status, ended), (Status::Code(0), true));

    small.empty();
    let mut released = false;
    let exit = loop {
        match lab.host.next().await {
            Report::Held { message, .. } => released = message.is_none(),
            Report::Exited { exit, .. } => break exit,
            _ => {}
        }
    };
    assert!(released);
    assert_eq!((exit.status, exit.stopped), (Status::Code(6), None));
    let expected: Vec<u8> = (1..=700_000)
        .flat_map(|number| format!("{number}\n").into_bytes())
        .collect();
    assert!(lab.output("t.1", Channel::Stdout) == expected);
    assert_eq!(lab.output("t.1", Channel::Stderr), b"fault\n");
    drop(lab);
    drop(small);
}

/// The supervisor's log and its notes are on the full disk.
#[tokio::test]
async fn a_supervisor_whose_own_files_cannot_be_written_starts_nothing_and_loses_nothing() {
    let lab = Lab::new().await;
    let Some(small) = Small::mount(lab.dir.path().join("supervisors")) else {
        return;
    };
    // Dropped before the filesystem, because the supervisor is found and ended by its files there.
    let mut lab = lab;
    lab.fifo("go");
    let running = lab.script("running.1", "read line < go; exit 6");
    lab.start(running.clone()).await;
    lab.host.started(&running.child).await;
    small.fill();

    // The last block of the notes has room for some more children.
    let mut number = 0;
    let (class, message) = loop {
        number += 1;
        let name = format!("more.{number}");
        let start = lab.script(&name, &format!("echo > ran-{number}"));
        let child = start.child.clone();
        lab.start(start).await;
        let refused = loop {
            match lab.host.next().await {
                Report::Exited { child: of, .. } if of == child => break None,
                Report::NotStarted {
                    child: of,
                    class,
                    message,
                } if of == child => break Some((class, message)),
                _ => {}
            }
        };
        if let Some(refused) = refused {
            break refused;
        }
        assert!(number < 1_000, "each start was noted");
    };
    assert_eq!(class, NotStartedClass::Resource);
    assert!(message.contains("cannot note"), "{message}");
    assert!(!lab.dir.path().join(format!("ran-{number}")).exists());
    std::fs::write(lab.dir.path().join("go"), "go\n").unwrap();
    let (exit, ended) = lab.host.exit(&running.child).await;
    assert_eq!((exit.status, ended), (Status::Code(6), true));

    small.empty();
    let (exit, _) = lab.run(lab.command("after.1", &["true"])).await;
    assert_eq!(exit.status, Status::Code(0));
}

impl Lab {
    /// Lets a child end while the log takes only a part of its output. `full` is called once the
    /// log has the first line, and `free` makes room again. Checks that no byte is missing, and
    /// returns the reason for which the output was held back.
    async fn end_without_room_for_the_log(
        &mut self,
        full: impl FnOnce(&Self),
        free: impl FnOnce(&Self),
    ) -> String {
        self.fifo("go");
        let script = format!("echo 0; read line < go; seq 1 {LINES}; exit 4");
        self.start(self.script("t.1", &script)).await;
        self.lines("t.1", 1).await;
        full(self);
        std::fs::write(self.dir.path().join("go"), "go\n").unwrap();
        let (mut reason, mut status) = (None, None);
        while reason.is_none() || status.is_none() {
            match self.host.next().await {
                Report::Held { message, .. } => reason = message,
                Report::Exited { exit, ended, .. } => {
                    assert!(!ended);
                    status = Some(exit.status);
                }
                Report::Started { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(status, Some(Status::Code(4)));
        // The log cannot be written for longer than a pipe is read after the last known process.
        let (exit, ended) = self.run(self.command("other.1", &["sleep", "1.5"])).await;
        assert_eq!((exit.status, ended), (Status::Code(0), true));
        free(self);
        loop {
            match self.host.next().await {
                Report::Held { message: None, .. } => break,
                Report::Ended { .. } => panic!("ended while it was held back"),
                _ => {}
            }
        }
        // The log is complete from now on, although the attempt's end is reported later.
        let found = self.output("t.1", Channel::Stdout);
        assert_eq!(self.host.ended(&key("t.1")).await, 0);
        let expected: Vec<u8> = (0..=LINES)
            .flat_map(|number| format!("{number}\n").into_bytes())
            .collect();
        assert!(found == expected, "{} of {}", found.len(), expected.len());
        reason.unwrap()
    }

    /// Sets the largest size of files for the supervisor.
    pub(super) fn limit_files(&self, bytes: Option<u64>) {
        limit_files_of(self.supervisor_pid(), bytes);
    }
}

fn limit_files_of(supervisor: u32, bytes: Option<u64>) {
    let limit = Rlimit {
        current: bytes,
        ..getrlimit(Resource::Fsize)
    };
    let supervisor = Pid::from_raw(supervisor.cast_signed());
    prlimit(supervisor, Resource::Fsize, limit).unwrap();
}

/// The next host reads in the notes how the process ended. The limit stands for a full disk.
#[tokio::test]
async fn a_supervisor_that_is_told_to_end_stays_until_the_ends_are_in_its_notes() {
    let mut lab = Lab::new().await;
    let start = lab.command("t.1", &["sleep", "1000"]);
    let child = start.child.clone();
    lab.start(start).await;
    lab.host.started(&child).await;
    let stat = procfs::stat(lab.supervisor_pid()).unwrap();
    let dir = lab.leave().await;
    let own = dir.path().join("supervisors/1");
    let notes = std::fs::metadata(own.join(process::journal::FILE)).unwrap();
    limit_files_of(stat.pid, Some(notes.len()));
    assert!(sys::signals::signal_process(stat.pid, stat.start_time, Signal::Term).unwrap());
    let log = own.join(process::LOG_FILE);
    let tried = async {
        while !std::fs::read_to_string(&log)
            .unwrap()
            .contains("cannot write")
        {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, tried)
        .await
        .expect("the supervisor did not try to note the end");

    limit_files_of(stat.pid, getrlimit(Resource::Fsize).current);
    tokio::task::spawn_blocking(move || wait_gone(stat.pid))
        .await
        .unwrap();
    let host = Host::open(dir.path(), 2).await;
    let [found] = &host.found[..] else {
        panic!("{:?}", host.found)
    };
    let state = &found.children[0].state;
    let is_stopped =
        |state: &FoundState| matches!(state, FoundState::Exited(exit) if exit.stopped.is_some());
    assert!(found.ended && is_stopped(state), "{found:?}");
    host.close().await;
}

/// Nobody could find the notes.
#[tokio::test]
async fn a_supervisor_does_not_stay_to_write_notes_in_a_directory_that_was_removed() {
    let mut lab = Lab::new().await;
    let start = lab.command("t.1", &["sleep", "1000"]);
    let child = start.child.clone();
    lab.start(start).await;
    let (running, _) = lab.host.started(&child).await;
    let stat = procfs::stat(lab.supervisor_pid()).unwrap();
    let dir = lab.leave().await;
    let own = dir.path().join("supervisors/1");
    let notes = std::fs::metadata(own.join(process::journal::FILE)).unwrap();
    limit_files_of(stat.pid, Some(notes.len()));
    std::fs::remove_dir_all(&own).unwrap();
    assert!(sys::signals::signal_process(stat.pid, stat.start_time, Signal::Term).unwrap());
    tokio::task::spawn_blocking(move || [running, stat.pid].map(wait_gone))
        .await
        .unwrap();
}

/// Nobody knows what runs below a supervisor that cannot be asked to end.
#[tokio::test]
async fn nobody_says_that_everything_has_ended_while_a_supervisor_cannot_be_seen() {
    let lab = Lab::new().await;
    let Some(small) = Small::mount(lab.dir.path().join("supervisors")) else {
        return;
    };
    // Dropped before the filesystem, because the supervisor is found and ended by its files there.
    let mut lab = lab;
    let start = lab.command("t.1", &["sleep", "1000"]);
    let child = start.child.clone();
    lab.start(start).await;
    lab.host.started(&child).await;
    let supervisor = lab.supervisor_pid();
    let _dir = lab.leave().await;
    let all = small.0.clone();
    let notes = std::fs::metadata(all.join("1").join(process::journal::FILE)).unwrap();
    let unseen = all.join("2");
    std::fs::create_dir(&unseen).unwrap();
    let lock = std::fs::File::create(unseen.join(process::LOCK_FILE)).unwrap();
    lock.lock().unwrap();
    // So the supervisor that can be seen has only its notes to write, and cannot.
    limit_files_of(supervisor, Some(notes.len()));
    small.fill();
    let ended = tokio::task::spawn_blocking(move || end_all(&all))
        .await
        .unwrap();
    let Err(SuperviseError::Directory { path, .. }) = ended else {
        panic!("{ended:?}")
    };
    assert_eq!(path, unseen);
    limit_files_of(supervisor, getrlimit(Resource::Fsize).current);
    small.empty();
    tokio::task::spawn_blocking(move || wait_gone(supervisor))
        .await
        .unwrap();
}

/// The end of the output is in the pipe, and a part of what was read is in the log.
#[tokio::test]
async fn output_of_a_process_that_ends_while_the_disk_is_full_is_kept() {
    let mut lab = Lab::new().await;
    let Some(small) = Small::mount(lab.dir.path().join("logs")) else {
        return;
    };
    let reason = lab
        .end_without_room_for_the_log(|_| small.fill(), |_| small.empty())
        .await;
    assert!(reason.contains("No space left"), "{reason}");
    drop(lab);
    drop(small);
}

/// The limit stands for all errors of a write (a quota, for example). It needs no mount.
#[tokio::test]
async fn output_of_a_process_that_ends_while_its_log_may_not_grow_is_kept() {
    const LIMIT: u64 = 16 << 10;
    let mut lab = Lab::new().await;
    let reason = lab
        .end_without_room_for_the_log(
            |lab| lab.limit_files(Some(LIMIT)),
            |lab| {
                let written = std::fs::metadata(lab.log("t.1")).unwrap().len();
                assert_eq!(written, LIMIT);
                lab.limit_files(getrlimit(Resource::Fsize).current);
            },
        )
        .await;
    assert!(reason.contains("File too large"), "{reason}");
}

/// Nobody reads the output of such a command, and what it has written may be what fills the disk.
/// The limit stands for a full disk.
#[tokio::test]
async fn a_stopped_command_of_the_host_ends_although_its_output_cannot_be_written() {
    let mut lab = Lab::new().await;
    for (number, then) in ["exec sleep 1000", "exit 3"].into_iter().enumerate() {
        let name = format!("t.1+1.{number}");
        let go = format!("go.{number}");
        lab.fifo(&go);
        let script = format!("echo 0; read line < {go}; seq 1 {LINES}; {then}");
        let start = lab.script(&name, &script);
        lab.start(start).await;
        lab.lines(&name, 1).await;
        lab.limit_files(Some(16 << 10));
        std::fs::write(lab.dir.path().join(&go), "go\n").unwrap();
        let (mut is_held, mut has_exited) = (false, then != "exit 3");
        while !(is_held && has_exited) {
            match lab.host.next().await {
                Report::Held { message, .. } => is_held = message.is_some(),
                Report::Exited { ended, .. } => {
                    assert!(!ended);
                    has_exited = true;
                }
                Report::Started { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        let term = Rung {
            signal: Signal::Term,
            wait: Duration::from_secs(5),
        };
        lab.stop(key(&name), StopWhy::Cancelled, vec![term]).await;
        assert_eq!(lab.host.ended(&key(&name)).await, 0);
        lab.limit_files(getrlimit(Resource::Fsize).current);
    }
}

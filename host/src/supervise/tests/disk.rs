//! A full disk: nothing is lost or duplicated, and the child is held back until there is room.

use std::process::Command;

use super::*;

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
    let ballast = small.0.join("ballast");
    std::fs::write(&ballast, vec![0; 62 << 20]).unwrap();
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

    std::fs::remove_file(ballast).unwrap();
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
    let ballast = small.0.join("ballast");
    std::fs::write(&ballast, vec![0; 65 << 20]).unwrap_err();

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

    std::fs::remove_file(ballast).unwrap();
    let (exit, _) = lab.run(lab.command("after.1", &["true"])).await;
    assert_eq!(exit.status, Status::Code(0));
}

//! A supervisor whose directory, or a file in it, is moved or removed.

use std::fs;

use super::*;
use crate::supervise::process::{IDENTITY_FILE, SOCKET_FILE};
use crate::supervise::processes_of;

/// A new queue may have begun at the path from which a data directory was moved away.
#[tokio::test]
async fn a_supervisor_leaves_the_files_of_another_one_at_its_old_path_alone() {
    let mut lab = Lab::new().await;
    lab.run(lab.command("t.1", &["true"])).await;
    let pid = lab.supervisor_pid();
    lab.ack(key("t.1")).await;
    lab.host.supervisors.flush().await;
    let dir = lab.leave().await;
    let supervisors = dir.path().join("supervisors");
    let moved = dir.path().join("moved");
    fs::rename(&supervisors, &moved).unwrap();
    let other = supervisors.join("1");
    fs::create_dir_all(&other).unwrap();
    for name in [SOCKET_FILE, IDENTITY_FILE] {
        fs::write(other.join(name), "").unwrap();
    }
    tokio::task::spawn_blocking(move || wait_gone(pid))
        .await
        .unwrap();
    for name in [SOCKET_FILE, IDENTITY_FILE] {
        assert!(other.join(name).exists(), "{name}");
        assert!(!moved.join("1").join(name).exists(), "{name}");
    }
}

#[tokio::test]
async fn a_supervisor_without_a_host_makes_its_socket_and_its_identity_again() {
    let mut lab = Lab::new().await;
    let running = lab.command("t.1", &["sleep", "1000"]);
    let child = running.child.clone();
    lab.start(running).await;
    lab.host.started(&child).await;
    let dir = lab.leave().await;
    let own = dir.path().join("supervisors/1");
    for name in [SOCKET_FILE, IDENTITY_FILE] {
        fs::remove_file(own.join(name)).unwrap();
    }
    let host = Host::open(dir.path(), 2).await;
    let mut lab = Lab { dir, host };
    lab.stop(key("t.1"), StopWhy::Cancelled, Vec::new()).await;
    let (exit, _) = lab.host.exit(&child).await;
    assert_eq!(exit.stopped, Some(StopWhy::Cancelled));
    for name in [SOCKET_FILE, IDENTITY_FILE] {
        assert!(own.join(name).exists(), "{name}");
    }
}

#[tokio::test]
async fn a_supervisor_whose_identity_was_removed_or_damaged_is_named_by_its_notes() {
    let lab = Lab::new().await;
    lab.start(lab.command("t.1", &["sleep", "1000"])).await;
    lab.host.supervisors.flush().await;
    let pid = lab.supervisor_pid();
    let identity = lab.dir.path().join("supervisors/1").join(IDENTITY_FILE);
    let kept = fs::read(&identity).unwrap();
    let named = || crate::supervise::pids(&lab.dir.path().join("supervisors")).unwrap();
    fs::write(&identity, "garbage").unwrap();
    assert_eq!(named(), [pid]);
    fs::remove_file(&identity).unwrap();
    assert_eq!(named(), [pid]);
    // The end of the test ends the supervisor that is named here.
    fs::write(&identity, kept).unwrap();
}

/// Without the directory, the next host cannot know that the attempt's processes run.
#[tokio::test]
async fn a_host_ends_the_supervisors_whose_directory_was_removed_or_moved_out_of_its_place() {
    let remove = |supervisors: &Path| fs::remove_dir_all(supervisors.join("1")).unwrap();
    let remove_all = |supervisors: &Path| fs::remove_dir_all(supervisors).unwrap();
    let rename = |supervisors: &Path| {
        fs::rename(supervisors, supervisors.with_extension("old")).unwrap();
    };
    for take in [&remove as &dyn Fn(&Path), &remove_all, &rename] {
        let lab = Lab::new().await;
        lab.start(lab.script("t.1", "trap '' TERM; echo $$; exec sleep 1000"))
            .await;
        let child: u32 = lab.lines("t.1", 1).await[0].parse().unwrap();
        let supervisor = lab.supervisor_pid();
        // The supervisor does not notice it by itself.
        let _suspended = suspend(supervisor);
        let dir = lab.leave().await;
        take(&dir.path().join("supervisors"));
        let host = Host::open(dir.path(), 2).await;
        assert_eq!(host.found, []);
        assert!(!is_alive(supervisor));
        assert!(!is_alive(child));
        host.close().await;
    }
}

/// A host of the other place may find the supervisor.
#[tokio::test]
async fn a_host_leaves_the_supervisors_of_a_data_directory_that_was_moved_away_alone() {
    let mut lab = Lab::new().await;
    let running = lab.command("t.1", &["sleep", "1000"]);
    let child = running.child.clone();
    lab.start(running).await;
    let (pid, _) = lab.host.started(&child).await;
    let dir = lab.leave().await;
    let (here, there) = (dir.path().join("supervisors"), dir.path().join("moved"));
    fs::create_dir(&there).unwrap();
    fs::rename(&here, there.join("supervisors")).unwrap();
    // The supervisor's command line names the old place, but its files are here.
    let task = key("t.1").as_str().rsplit_once('.').unwrap().0.to_owned();
    let named = processes_of(&there.join("supervisors"), &[task]).unwrap();
    let named: Vec<u32> = named.iter().map(|one| one.pid).collect();
    assert_eq!(named, [pid]);
    let host = Host::open(dir.path(), 2).await;
    assert!(is_alive(pid));
    host.close().await;
    // The end of the test ends the supervisor that is found here.
    fs::remove_dir_all(&here).unwrap();
    fs::rename(there.join("supervisors"), &here).unwrap();
}

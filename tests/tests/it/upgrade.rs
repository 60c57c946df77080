//! The binary is replaced while tasks run.

use std::fs;

use claudine_tests::{TestHost, harness::binary, process::alive};

use crate::down::{WAITING_SCRIPT, ends_after_one_run};

#[test]
fn binary_can_be_replaced_while_tasks_run() {
    let mut host = TestHost::new();
    let installed = host.root().join("claudine");
    fs::copy(binary(), &installed).unwrap();
    host.use_binary(installed.clone());
    let id = host.script(WAITING_SCRIPT);
    let pid = host.live(&id);
    let supervisors = host.supervisor_pids();
    assert_eq!(supervisors.len(), 1);

    // Like a package manager, moves the new file over the old one.
    let new = host.root().join("claudine.new");
    fs::copy(binary(), &new).unwrap();
    fs::rename(&new, &installed).unwrap();
    host.run(["down"]).check();
    host.up();

    assert_eq!(host.live(&id), pid, "the task has another process");
    assert!(
        alive(supervisors[0]),
        "the supervisor that started the task has ended"
    );
    // New tasks run as well, at the same time.
    assert_eq!(host.finished(&host.script("true"))["outcome"], "succeeded");
    ends_after_one_run(&host, &id);
}

#[test]
fn removed_binary_does_not_stop_a_running_host() {
    let mut host = TestHost::new();
    let installed = host.root().join("claudine");
    fs::copy(binary(), &installed).unwrap();
    host.use_binary(installed.clone());
    host.up();
    fs::remove_file(&installed).unwrap();
    host.use_binary(binary());
    assert_eq!(
        host.finished(&host.script("echo still"))["output"],
        "still\n"
    );
}

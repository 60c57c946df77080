//! A killed test leaves no process running.

use std::{
    io::Write,
    os::unix::ffi::OsStrExt,
    process::{Command, Stdio},
};

use claudine_tests::{TestHost, harness, wait_for};

#[test]
fn guard_ends_host_and_tasks_of_a_killed_test() {
    let host = TestHost::new();
    let task = host.script("sleep 500");
    host.live(&task);
    let mut guard = Command::new(harness::guard())
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = guard.stdin.take().unwrap();
    input
        .write_all(host.data_dir().as_os_str().as_bytes())
        .unwrap();
    assert!(host.processes().len() >= 3, "{:?}", host.processes());
    // The guard's input ends without the message that the test has ended.
    drop(input);
    assert!(guard.wait().unwrap().success());
    wait_for("host, supervisor and task to be gone", || {
        host.processes().is_empty().then_some(())
    });
    assert!(!host.data_dir().exists());
}

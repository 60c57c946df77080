//! A supervisor that has no free descriptors or no memory.

use std::{os::unix::net::UnixStream, time::Instant};

use super::*;

/// More children than the descriptors allow.
const CHILDREN: usize = 24;

/// A lab whose supervisor may have 64 descriptors.
async fn cramped() -> Lab {
    let dir = Place(TempDir::new().unwrap());
    let script = "ulimit -n 64; exec \"$0\" __supervise \"$1\"";
    let this = std::env::current_exe().unwrap().into_os_string();
    let program = Program {
        path: "/bin/sh".into(),
        args: vec!["-c".into(), script.into(), this],
    };
    let host = Host::open_by(dir.path(), 1, program).await;
    Lab { dir, host }
}

impl Lab {
    /// Starts more children than the descriptors allow.
    async fn crowd(&mut self) {
        for index in 0..CHILDREN {
            let start = self.command(&format!("crowd.{index}"), &["sleep", "1000"]);
            self.host.supervisors.start(start).done().await.unwrap();
        }
        let is_of_crowd = |child: &ChildId| name_of(child.attempt()).starts_with("crowd");
        let (mut started, mut refused) = (0, 0);
        while started + refused < CHILDREN {
            match self.host.next().await {
                Report::Started { child, .. } if is_of_crowd(&child) => started += 1,
                Report::NotStarted { child, class, .. } if is_of_crowd(&child) => {
                    assert_eq!(class, NotStartedClass::Resource);
                    refused += 1;
                }
                _ => {}
            }
        }
        assert!(started > 0 && refused > 0, "{started} and {refused}");
    }

    /// Uses up the free descriptors, until the result is dropped.
    async fn take_the_rest(&self) -> Vec<UnixStream> {
        let socket = self.supervisor_file(process::SOCKET_FILE);
        let connect = || UnixStream::connect(&socket).unwrap();
        let connections = std::iter::repeat_with(connect).take(8).collect();
        self.connections_refused(1).await;
        connections
    }

    fn supervisor_file(&self, name: &str) -> PathBuf {
        self.dir.path().join("supervisors/1").join(name)
    }

    /// Waits until the supervisor has logged this many connections that it could not accept.
    async fn connections_refused(&self, times: usize) {
        self.logged("cannot accept a connection", times).await;
    }

    /// Waits until the supervisor has logged this text `times` more times.
    async fn logged(&self, text: &str, times: usize) {
        let log = self.supervisor_file(process::LOG_FILE);
        let count = || {
            let log = std::fs::read_to_string(&log).unwrap();
            log.matches(text).count()
        };
        let enough = count() + times;
        let waiting = async {
            while count() < enough {
                tokio::task::yield_now().await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, waiting).await;
        waited.unwrap_or_else(|_| panic!("`{text}` is not logged"));
    }

    /// Makes the supervisor's looks of this kind fail, as if there were no memory, until the
    /// returned file is removed.
    fn without_memory(&self, looks: &str) -> PathBuf {
        let file = self.supervisor_file(&procfs::fault::file(looks));
        std::fs::write(&file, "").unwrap();
        file
    }
}

#[tokio::test]
async fn leftovers_are_ended_without_free_descriptors() {
    let mut lab = cramped().await;
    let script = "echo up; until test -e go; do sleep 0.02; done; setsid sleep 1000 & exit 0";
    let first = lab.script("first.1", script);
    let (child, attempt) = (first.child.clone(), first.child.attempt().clone());
    lab.host.supervisors.start(first).done().await.unwrap();
    lab.lines("first.1", 1).await;
    lab.crowd().await;
    let _connections = lab.take_the_rest().await;
    std::fs::write(lab.dir.path().join("go"), "").unwrap();
    let (_, ended) = lab.host.exit(&child).await;
    if !ended {
        lab.host.ended(&attempt).await;
    }
    assert!(marked("first.1").is_empty());
}

#[tokio::test]
async fn an_attempt_does_not_end_while_its_leftover_cannot_be_looked_at() {
    let mut lab = Lab::new().await;
    lab.fifo("fifo");
    let script = "setsid sleep 1000 > /dev/null 2>&1 & echo up; read line < fifo";
    let start = lab.script("t.1", script);
    let child = start.child.clone();
    lab.start(start).await;
    lab.lines("t.1", 1).await;
    let fault = lab.without_memory("seen");
    std::fs::write(lab.dir.path().join("fifo"), "go\n").unwrap();
    let (_, ended) = lab.host.exit(&child).await;
    assert!(!ended);
    lab.logged("cannot look at process", 10).await;
    let early = lab.host.reports.try_recv();
    assert!(early.is_err(), "{early:?}");
    std::fs::remove_file(fault).unwrap();
    assert_eq!(lab.host.ended(&key("t.1")).await, 1);
}

#[tokio::test]
async fn the_end_of_a_child_is_noticed_even_if_the_children_could_not_be_listed_in_time() {
    let mut lab = Lab::new().await;
    // An ended leader is kept while its group is not empty. Later ends are found only by a list.
    let sleeps = StartChild {
        child: ChildId::new(key("t.1"), 1),
        ..lab.command("t.1", &["sleep", "1000"])
    };
    lab.start(sleeps.clone()).await;
    lab.host.started(&sleeps.child).await;
    lab.run(lab.script("t.1", "sleep 1000 > /dev/null 2>&1 &"))
        .await;
    lab.fifo("fifo");
    let waits = lab.script("waits.1", "read line < fifo");
    lab.start(waits.clone()).await;
    let (pid, _) = lab.host.started(&waits.child).await;
    let fault = lab.without_memory("children");
    std::fs::write(lab.dir.path().join("fifo"), "go\n").unwrap();
    while is_alive(pid) {
        tokio::task::yield_now().await;
    }
    // The supervisor logs fewer messages than these between two looks at its signals, so it has
    // noticed the signal of this end.
    lab.logged("cannot list the children", 10).await;
    let early = lab.host.reports.try_recv();
    assert!(early.is_err(), "{early:?}");
    std::fs::remove_file(fault).unwrap();
    lab.host.exit(&waits.child).await;
}

#[tokio::test]
async fn a_connection_that_cannot_be_accepted_is_retried_after_pauses() {
    let mut lab = cramped().await;
    lab.crowd().await;
    let _connections = lab.take_the_rest().await;
    let begun = Instant::now();
    lab.connections_refused(5).await;
    // Two of the five refusals may have been logged before the clock was read.
    assert!(begun.elapsed() >= Duration::from_millis(200));
}

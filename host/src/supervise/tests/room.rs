//! A supervisor that has no free descriptors.

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
        let log = self.supervisor_file(process::LOG_FILE);
        let count = || {
            let text = std::fs::read_to_string(&log).unwrap();
            text.matches("cannot accept a connection").count()
        };
        let enough = async {
            while count() < times {
                tokio::task::yield_now().await;
            }
        };
        let patient = tokio::time::timeout(PATIENCE, enough).await;
        patient.expect("connections are refused");
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
async fn a_connection_that_cannot_be_accepted_is_retried_after_pauses() {
    let mut lab = cramped().await;
    lab.crowd().await;
    let _connections = lab.take_the_rest().await;
    let begun = Instant::now();
    lab.connections_refused(5).await;
    // Two of the five refusals may have been logged before the clock was read.
    assert!(begun.elapsed() >= Duration::from_millis(200));
}

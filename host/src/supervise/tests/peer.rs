//! A process is found to be below its supervisor, whatever it did to hide that.

use super::*;
use crate::supervise::peer::{Forebear, Plain, Whereabouts, whereabouts};

/// The processes from a process of an attempt up to the attempt's supervisor.
fn below(pid: u32, supervisors: &std::path::Path) -> Vec<Forebear> {
    let host = Some(std::process::id());
    match whereabouts(pid, supervisors, host, &Plain::default()).unwrap() {
        Whereabouts::Below(line) => line,
        other => panic!("{pid}: {other:?}"),
    }
}

#[tokio::test]
async fn a_process_of_an_attempt_is_below_its_supervisor_whatever_it_does() {
    let mut lab = Lab::new().await;
    // Each script prints the pid of the process to find. A process whose starter ends writes its
    // pid to a file; the script removes the file before it prints the pid, since the next script
    // uses the same name.
    let told = "while ! test -s pid; do :; done; read -r it < pid; rm pid; echo $it; \
                exec sleep 1000";
    for (index, (name, script)) in [
        ("leader.1", "echo $$; exec sleep 1000".to_owned()),
        ("child.1", "sleep 1000 & echo $!; wait".to_owned()),
        (
            "orphan.1",
            format!("(sh -c 'echo $$ > pid; exec sleep 1000' &); {told}"),
        ),
        (
            "daemon.1",
            format!(
                "setsid sh -c 'setsid sh -c \"echo \\$\\$ > pid; exec sleep 1000\" & exit' & wait; {told}"
            ),
        ),
        (
            "bare.1",
            format!(
                "(setsid env -i CLAUDINE_DETACHED=1 CLAUDINE_ATTEMPT=other.1 \
                 sh -c 'echo $$ > pid; exec sleep 1000' &); {told}"
            ),
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let start = lab.script(name, &script);
        let child = start.child.clone();
        lab.start(start).await;
        let (leader, start_time) = lab.host.started(&child).await;
        let pid: u32 = lab.lines(name, 1).await[0].parse().unwrap();
        for supervisors in [lab.dir.path(), std::path::Path::new("/another")] {
            let line = below(pid, supervisors);
            assert_eq!(line[0].pid, pid, "{name}");
            let by_parents = line
                .iter()
                .any(|it| (it.pid, it.start_time) == (leader, start_time));
            let by_session = line.iter().any(|it| it.session == leader);
            // Whether the process is traced to this attempt by its parents, and by its session.
            // Processes of the last scripts can only be traced to the supervisor.
            let expected = [(true, true), (true, true), (false, true)];
            let expected = expected.get(index).copied().unwrap_or_default();
            assert_eq!((by_parents, by_session), expected, "{name} {line:?}");
        }
        lab.stop(key(name), StopWhy::Cancelled, Vec::new()).await;
        lab.host.ended(&key(name)).await;
        // A stop leaves detached processes alone.
        if is_alive(pid) {
            kill(pid);
        }
    }
}

//! `claudine down`

mod obstacle;
mod process;
mod said;
mod unended;

use std::{
    collections::{BTreeSet, HashMap},
    process::ExitCode,
    time::Duration,
};

use clap::Args;
use claudine_domain::{id::TaskId, time::Timestamp};
use schemars::JsonSchema;
use serde::Serialize;

use self::{
    obstacle::{
        halt, halted, held_up, hold_up, out_of_reach, unreached, unsettled, without_plugin,
    },
    process::{end, open, wait_for},
    said::{NAMED, ended, ended_text, interrupted, none_runs, unread, unrecorded, unrecorded_text},
    unended::{all_ended, held_up_by, ids},
};
use super::{
    failure::Failure,
    output, progress,
    session::Session,
    spinner::Spinner,
    stuck::{running, stuck},
    text, times,
    watch::{TICK, interrupts},
};
use crate::{
    api::{
        client::{Client, ClientError, Policy, is_of_its_end},
        status,
    },
    app::{
        AppError, DownMode, ErrorKind, HostInfo, ListFilter, TaskRow, end_without_host,
        halted_supervisors, processes_left, supervisors_left, tasks_left,
    },
    aside, clock,
    config::Begin,
    fsx,
    identity::HostProcess,
    layout::Layout,
};

/// Time limit for a host without a socket to create the socket again or to end. A host that is just
/// starting or ending has [`ENDS_WITHIN`].
const OUT_OF_REACH: Duration = Duration::from_secs(2);
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// Time between two looks for processes that cannot be ended.
const LOOK_AT_PROCESSES: Duration = Duration::from_secs(4);
/// Time limit for the end of a host's process, once the host was asked or signalled to end.
const ENDS_WITHIN: Duration = Duration::from_mins(1);
/// Time limit for the host to say that it drains, once it was asked to.
const DRAINS_WITHIN: Duration = Duration::from_secs(5);
/// Tolerated backward step of the clock. If the clock is set back by at most this much while the
/// command runs, the command still finds all tasks that ended meanwhile.
const CLOCK_STEP: Duration = Duration::from_mins(1);
/// Ticks of the spinner between two requests for the running tasks.
const LOOK_TICKS: u64 = 5;

/// Stop the host; running tasks continue and are picked up again.
///
/// Returns when the host is gone. A drain continues if this command is interrupted: `down --drain`
/// waits for it again, and `claudine up` lifts it. If no host is running, `--drain` and `--kill`
/// start one for the tasks that are still running; this host starts no other tasks.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  claudine down && claudine up     # upgrade the host; running tasks continue
  claudine down --drain            # before a shutdown of the machine
  claudine up                      # lift an unfinished drain")]
pub(super) struct Down {
    /// Start no tasks, and wait for running tasks to end.
    #[arg(long, conflicts_with = "kill")]
    drain: bool,
    /// Cancel running tasks, and wait for them to end.
    #[arg(long)]
    kill: bool,
}

/// Result of stopping the host.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub(super) struct Ended {
    was_running: bool,
    /// Process id of the host that was running.
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<u32>,
    /// Tasks that ended while the command waited for them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tasks: Vec<String>,
}

/// How a host has ended that was asked to.
enum Asked {
    /// As it was asked to, with the message for the user.
    Ended(String),
    /// Without its tasks, which it was to end, for this reason.
    Failed(AppError),
    /// The user has interrupted the wait for its end.
    Interrupted,
}

/// The tasks to end without a host, because the host could not end them or none could be started.
struct Left<'a> {
    /// The host that has ended, if one ran.
    host: Option<&'a HostInfo>,
    /// The tasks that ran, according to the notes of the supervisors.
    tasks: BTreeSet<TaskId>,
    /// The reason, such as a database that is missing or cannot be read or written.
    why: AppError,
}

/// Whether a host was found, and whether it answers.
enum Found {
    Reached(Box<HostInfo>),
    /// The process exists, but nobody listens at its socket.
    OutOfReach(HostProcess),
    None,
}

impl Down {
    pub(super) async fn run(self, session: &Session) -> Result<ExitCode, Failure> {
        let client = session.client_with(|start| start.policy = Policy::Never);
        let mode = match (self.drain, self.kill) {
            (true, _) => DownMode::Drain,
            (_, true) => DownMode::Kill,
            _ => DownMode::Leave,
        };
        let begun_at = times::now();
        let layout = &client.start().layout;
        let supervisors = supervisors_left(layout);
        // A host that has crashed may have left commands of its own.
        let is_lost = client.start().is_lost();
        let mut found = find(&client).await?;
        let mut is_told = false;
        // Another command may have just started a host in place of one that had crashed.
        if matches!(found, Found::None) && !is_over(&client, mode, &mut is_told).await? {
            found = find(&client).await?;
        }
        let was_running = !matches!(found, Found::None);
        // If the running tasks or the supervisors cannot be listed, some tasks are assumed to run.
        let running = match mode {
            DownMode::Leave => Ok(Vec::new()),
            _ => running(session).await,
        };
        let runs_on = mode != DownMode::Leave
            && (is_lost
                || !matches!(&supervisors, Ok(pids) if pids.is_empty())
                || !matches!(processes_left(layout), Ok(false))
                || !matches!(&running, Ok(rows) if rows.is_empty()));
        let running = running.unwrap_or_default();
        let found = match found {
            Found::None if runs_on => {
                if let Some(one) = halted_supervisors(layout)?.first() {
                    return Err(halted(*one, "ask again").into());
                }
                match start(session, &client, mode).await {
                    // In a conflict, another process uses the directory.
                    Err(Failure::App(why))
                        if mode == DownMode::Kill && why.kind != ErrorKind::Conflict =>
                    {
                        let (host, tasks) = (None, BTreeSet::new());
                        return kill_without_host(session, Left { host, tasks, why }).await;
                    }
                    started => started?,
                }
            }
            found => found,
        };
        let (pid, said) = match found {
            Found::None => {
                let mut supervisors = supervisors?;
                let mut unread = None;
                // A supervisor stays for a moment after the end of its last task.
                if mode == DownMode::Leave && !supervisors.is_empty() {
                    match self::running(session).await {
                        Ok(rows) if rows.is_empty() => supervisors.clear(),
                        Ok(_) => {}
                        Err(error) => unread = Some(error),
                    }
                }
                let said = none_runs(mode, was_running, &supervisors);
                let said = match unread {
                    Some(error) => format!("{said}; which ones cannot be read: {error}"),
                    None => said,
                };
                (None, said)
            }
            Found::Reached(host) => {
                let pid = Some(host.pid);
                // The notes are read before the tasks in them end.
                let noted = (mode == DownMode::Kill).then(|| tasks_left(layout));
                match Box::pin(ask(session, &client, &host, mode)).await? {
                    Asked::Ended(said) => (pid, said),
                    Asked::Interrupted => return Ok(status::INTERRUPTED.into()),
                    Asked::Failed(why) => {
                        let tasks = noted.transpose().unwrap_or_else(|error| {
                            output::say(&format!(
                                "warning: not all tasks that were ended may be named: {error}"
                            ));
                            None
                        });
                        let left = Left {
                            host: Some(&host),
                            tasks: tasks.unwrap_or_default(),
                            why,
                        };
                        return kill_without_host(session, left).await;
                    }
                }
            }
            Found::OutOfReach(host) => (Some(host.pid), end(&host, mode)?),
        };
        // A host that is killed while it ends counts as crashed, which the next client would undo.
        // If another host has started since, it is left alone.
        is_over(&client, mode, &mut is_told).await?;
        let WhatRan {
            ended,
            unrecorded: left,
            runs_on,
        } = match of_what_ran(session, &running, begun_at).await {
            Ok(ran) => ran,
            Err(error) if mode == DownMode::Drain => return Err(unread(&error).into()),
            // The command does not fail, because the host has ended.
            Err(error) => {
                output::say(&format!(
                    "warning: the tasks that were ended cannot be named: {error}"
                ));
                WhatRan::default()
            }
        };
        if mode != DownMode::Leave && runs_on > 0 {
            return Err(too_early(mode, runs_on).into());
        }
        if mode == DownMode::Drain && !left.is_empty() {
            return Err(unrecorded(&left).into());
        }
        if mode == DownMode::Kill {
            all_ended(&client, &ids(&running)).await?;
        }
        if session.json {
            let tasks = ended.into_iter().map(|task| task.id).collect();
            output::json(&Ended {
                was_running,
                pid: pid.filter(|_| was_running),
                tasks,
            })?;
        } else {
            let said = match ended_text(mode, &ended) {
                Some(told) => format!("{told}; {said}"),
                None => said,
            };
            let said = match unrecorded_text(&left) {
                Some(told) => format!("{said}; {told}"),
                None => said,
            };
            output::say(&said);
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Starts a host for tasks and commands that earlier hosts left running. This host starts no new
/// tasks, and ends by itself once nothing runs, so it may be gone before `find` looks for it.
async fn start(session: &Session, client: &Client, mode: DownMode) -> Result<Found, Failure> {
    let begin = match mode {
        DownMode::Kill => Begin::Killing,
        DownMode::Leave | DownMode::Drain => Begin::Draining,
    };
    let starter = session.client_with(|start| start.overrides.begin = begin);
    starter.start().begin().await?;
    find(client).await
}

/// Ends what the supervisors run, as no host can do it. The reason is returned as the error if the
/// tasks may not be ended without a host either.
async fn kill_without_host(session: &Session, left: Left<'_>) -> Result<ExitCode, Failure> {
    let Left {
        host,
        mut tasks,
        why,
    } = left;
    let cause = match host {
        Some(_) => "the host has ended too",
        None => "no host can be started now",
    };
    let give_up = clock::monotonic() + OUT_OF_REACH;
    let ended = loop {
        let layout = session.client().start().layout.clone();
        match aside::run(move || end_without_host(&layout)).await {
            Ok(Ok(ended)) => break ended,
            // The host that could not start may hold its lock for another moment.
            Ok(Err(error)) if error.kind == ErrorKind::Conflict && clock::monotonic() < give_up => {
                clock::sleep(LOOK_AGAIN).await;
            }
            // Another process uses the directory, this is a copy of the directory of another host,
            // or this process belongs to a task.
            Ok(Err(error)) if matches!(error.kind, ErrorKind::Conflict | ErrorKind::Forbidden) => {
                return Err(why.into());
            }
            Ok(Err(error)) => {
                let way_out = error.hint.as_ref().map(|hint| format!("{hint}; "));
                let hint = format!("{}{cause}: {why}", way_out.unwrap_or_default());
                return Err(error.hint(hint).into());
            }
            Err(error) => {
                let message = format!("the tasks cannot be ended: {error}");
                return Err(AppError::new(ErrorKind::Unavailable, message).into());
            }
        }
    };
    tasks.extend(ended);
    output::say(&ended_without_host(&tasks, cause, &why));
    if session.json {
        output::json(&Ended {
            was_running: host.is_some(),
            pid: host.map(|host| host.pid),
            tasks: tasks.iter().map(ToString::to_string).collect(),
        })?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The message if the tasks were ended without a host. `cause` says what `why` has caused.
fn ended_without_host(tasks: &BTreeSet<TaskId>, cause: &str, why: &AppError) -> String {
    let ended = if tasks.is_empty() {
        "no task runs".to_owned()
    } else {
        let named = tasks.iter().take(NAMED).map(|task| format!("{task:#}"));
        let more = tasks.len().saturating_sub(NAMED);
        let more = (more > 0).then(|| format!("{more} more"));
        let named: Vec<String> = named.chain(more).collect();
        let named = named.join(", ");
        format!("ended {named}, which the next host that starts records")
    };
    let hint = why.hint.as_ref();
    let hint = hint.map_or_else(String::new, |hint| format!("; {hint}"));
    format!("{ended}; {cause}: {}{hint}", why.message)
}

/// The tasks that were running when the command began.
#[derive(Default)]
struct WhatRan {
    /// The tasks that have ended.
    ended: Vec<TaskRow>,
    /// The tasks whose processes have ended, but of which nobody could record how.
    unrecorded: Vec<TaskRow>,
    /// The number of tasks that still run.
    runs_on: usize,
}

/// Looks up the tasks that were running when the command began.
async fn of_what_ran(
    session: &Session,
    running: &[TaskRow],
    begun_at: Timestamp,
) -> Result<WhatRan, ClientError> {
    let mut what = WhatRan::default();
    if running.is_empty() {
        return Ok(what);
    }
    let step_ms = u64::try_from(CLOCK_STEP.as_millis()).unwrap_or(u64::MAX);
    let filter = ListFilter {
        state: vec!["running".to_owned(), "done".to_owned()],
        since_ms: Some(begun_at.0.saturating_sub(step_ms)),
        ..ListFilter::default()
    };
    let now = session.client().list_all(filter).await?;
    let mut now: HashMap<&str, &TaskRow> = now.iter().map(|row| (row.id.as_str(), row)).collect();
    let ran = running.iter().filter_map(|row| {
        let found = now.remove(row.id.as_str())?;
        Some((found, row.has_ended()))
    });
    for (found, had_ended) in ran {
        if found.outcome.is_some() {
            what.ended.push(found.clone());
        } else if had_ended || found.has_ended() {
            what.unrecorded.push(found.clone());
        } else {
            what.runs_on += 1;
        }
    }
    Ok(what)
}

/// The error if the host ended while tasks were running. This happens if another `down` replaces
/// this one, or if a signal ends the host.
fn too_early(mode: DownMode, runs_on: usize) -> AppError {
    let message = format!(
        "the host ended before its running tasks did; {} left running",
        text::tasks(runs_on)
    );
    let hint = match mode {
        DownMode::Kill => "`claudine down --kill` cancels them",
        _ => "`claudine down --drain` waits for them",
    };
    AppError::new(ErrorKind::Unavailable, message).hint(hint)
}

/// Looks for a host. One that is ending counts as ended once its process is gone.
async fn find(client: &Client) -> Result<Found, Failure> {
    let begun = clock::monotonic();
    loop {
        match client.info().await {
            Ok(host) => return Ok(Found::Reached(Box::new(host))),
            // The host may have ended since it was connected to.
            Err(error) if is_of_its_end(&error) => {}
            Err(error) => return Err(error.into()),
        }
        let waited = clock::monotonic().saturating_sub(begun);
        let layout = &client.start().layout;
        match HostProcess::of(layout) {
            None => return Ok(Found::None),
            Some(host) if host.restores() => return Err(restores(host.pid).into()),
            Some(host) if waited >= patience_with(&host, layout) => {
                return Ok(Found::OutOfReach(host));
            }
            Some(_) => clock::sleep(LOOK_AGAIN).await,
        }
    }
}

/// How long to wait for a host that lives and does not answer at its socket. The host's file names
/// the host from the moment at which it is ready until it begins to end.
fn patience_with(host: &HostProcess, layout: &Layout) -> Duration {
    // A file that cannot be read names no host.
    let noted = fsx::read(&layout.host_file()).unwrap_or_default();
    let noted: serde_json::Value = serde_json::from_slice(&noted).unwrap_or_default();
    if noted["pid"] == host.pid {
        OUT_OF_REACH
    } else {
        ENDS_WITHIN
    }
}

/// Records that no host is wanted. Returns false if a host runs.
async fn note_end(client: &Client) -> Result<bool, AppError> {
    client.start().note_end().await.map_err(|error| {
        let message =
            format!("no host runs, but it cannot be recorded that none is wanted: {error}");
        AppError::new(ErrorKind::Unavailable, message)
    })
}

/// [`note_end`], but if the tasks are to be ended too, they are ended although nothing can be
/// recorded. The user is told about this only once.
async fn is_over(client: &Client, mode: DownMode, is_told: &mut bool) -> Result<bool, AppError> {
    match note_end(client).await {
        Err(error) if mode == DownMode::Kill => {
            if !std::mem::replace(is_told, true) {
                (client.start().say)(&format!("warning: {error}"));
            }
            Ok(true)
        }
        is_over => is_over,
    }
}

/// The error if a restore uses the data directory. A restore is not ended like a host.
fn restores(pid: u32) -> AppError {
    let message = format!("no host is running, and a restore (pid {pid}) uses the data directory");
    AppError::new(ErrorKind::Conflict, message).hint(format!(
        "wait until the restore has ended, or end it by `kill {pid}`"
    ))
}

/// Asks a host to shut down and waits for its end, unless the user interrupts the wait.
async fn ask(
    session: &Session,
    client: &Client,
    host: &HostInfo,
    mode: DownMode,
) -> Result<Asked, Failure> {
    // Opens the process before asking the host, so that the wait is for this process even if its
    // pid is reused.
    let process = open(host.pid);
    let ending = async {
        match client.down(mode).await {
            // These errors mean that the host has just ended, because nothing ran any more or
            // because somebody else had asked the host to end.
            Ok(_) | Err(ClientError::NotRunning { .. } | ClientError::Cut { .. }) => Ok(None),
            // The host cannot store that tasks end, and ends.
            Err(ClientError::Refused(why))
                if mode == DownMode::Kill && why.kind == ErrorKind::Unavailable =>
            {
                Ok(Some(why))
            }
            Err(error) => Err(Failure::from(error)),
        }
    };
    let why = if mode == DownMode::Leave {
        ending.await?
    } else {
        let mut spinner = Spinner::on_terminal();
        let mut interrupts = interrupts()?;
        tokio::pin!(ending);
        let ended = tokio::select! {
            ended = &mut ending => Some(ended),
            () = show(session, &mut spinner) => None,
            _ = interrupts.recv() => None,
            one = halt(&client.start().layout) => {
                spinner.clear();
                return Err(halted(one, "the host ends as it was asked to").into());
            }
            held = hold_up(client) => {
                spinner.clear();
                return Err(held_up(&held, &host.data_dir).into());
            }
            said = unreached(client) => {
                spinner.clear();
                return Err(out_of_reach(&said).into());
            }
            said = Box::pin(without_plugin(session)), if mode == DownMode::Drain => {
                spinner.clear();
                return Err(unsettled(said).into());
            }
            said = stuck(session, (LOOK_AT_PROCESSES, LOOK_AT_PROCESSES), |_| true),
                if mode == DownMode::Kill =>
            {
                spinner.clear();
                return Err(held_up_by(said).into());
            }
        };
        spinner.clear();
        if let Some(ended) = ended {
            ended?
        } else {
            // The interrupt may have come before the host has got the request.
            let has_begun = tokio::select! {
                biased;
                ended = &mut ending => Err(ended),
                drains = drains(client) => Ok(drains),
                _ = interrupts.recv() => Ok(false),
            };
            match has_begun {
                Err(ended) => ended?,
                Ok(has_begun) => {
                    output::say(interrupted(mode, has_begun));
                    return Ok(Asked::Interrupted);
                }
            }
        }
    };
    if let Some(process) = process? {
        wait_for(&process, host.pid)?;
    }
    Ok(why.map_or_else(
        || Asked::Ended(ended(mode, host.running, &host.faults)),
        Asked::Failed,
    ))
}

/// Waits until the host says that it drains. Returns false if it does not say so in time.
async fn drains(client: &Client) -> bool {
    let drains = async {
        // A host that does not answer is asked again.
        while !client.info().await.is_ok_and(|host| host.draining) {
            clock::sleep(LOOK_AGAIN).await;
        }
    };
    clock::within(DRAINS_WITHIN, drains).await.is_some()
}

/// Shows on a terminal which tasks are still running.
async fn show(session: &Session, spinner: &mut Spinner) {
    if !spinner.is_shown() {
        return std::future::pending().await;
    }
    let mut rows = Vec::new();
    for tick in 0_u64.. {
        if tick % LOOK_TICKS == 0
            && let Ok(found) = running(session).await
        {
            rows = found;
        }
        spinner.draw(&progress::running(&rows, rows.len(), times::now()));
        clock::sleep(TICK).await;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::{
        fs,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::UnixListener,
    };

    use super::*;
    use crate::{api::client::host_start, identity::Purpose};

    /// Ending takes longer than it takes to make a socket again.
    #[test]
    fn a_host_that_is_starting_or_ending_has_more_time_than_one_that_has_lost_its_socket() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let mut lock = fs::File::create(layout.lock()).unwrap();
        HostProcess::note(&mut lock, Purpose::Host).unwrap();
        let host = HostProcess::of(&layout).unwrap();
        assert_eq!(patience_with(&host, &layout), ENDS_WITHIN);
        // The file of a host that was killed.
        fs::write(layout.host_file(), r#"{"pid":0}"#).unwrap();
        assert_eq!(patience_with(&host, &layout), ENDS_WITHIN);
        let own = format!(r#"{{"pid":{}}}"#, host.pid);
        fs::write(layout.host_file(), own).unwrap();
        assert_eq!(patience_with(&host, &layout), OUT_OF_REACH);
    }

    /// A person may interrupt the command before the host has begun to drain.
    #[tokio::test]
    async fn a_drain_is_reported_once_the_host_says_that_it_drains() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let listener = UnixListener::bind(layout.socket()).unwrap();
        let host = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            for draining in [false, false, true] {
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    assert!(stream.read_buf(&mut request).await.unwrap() > 0);
                }
                let info = serde_json::json!({
                    "version": "", "pid": 1, "url": "", "data_dir": "", "started_at": "",
                    "slots": "auto", "running": 1, "queued": 0, "draining": draining,
                    "supervisors": [], "warnings": [],
                });
                let (info, length) = (info.to_string(), info.to_string().len());
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
                stream.write_all((head + &info).as_bytes()).await.unwrap();
            }
        });
        assert!(drains(&Client::new(host_start(layout))).await);
        host.await.unwrap();
    }

    #[tokio::test]
    async fn the_user_is_told_only_once_that_an_end_cannot_be_recorded() {
        static TOLD: AtomicUsize = AtomicUsize::new(0);
        let dir = tempfile::tempdir().unwrap();
        let mut start = host_start(Layout::new(dir.path()));
        start.say = |_| {
            TOLD.fetch_add(1, Ordering::Relaxed);
        };
        // Not even root can remove a directory like a file.
        fs::create_dir(start.layout.host_file()).unwrap();
        let (client, mut is_told) = (Client::new(start), false);
        for _ in 0..2 {
            let is_over = is_over(&client, DownMode::Kill, &mut is_told).await;
            assert!(is_over.unwrap(), "the tasks are ended nevertheless");
        }
        assert_eq!(TOLD.load(Ordering::Relaxed), 1);
        let refused = is_over(&client, DownMode::Leave, &mut is_told).await;
        assert_eq!(refused.unwrap_err().kind, ErrorKind::Unavailable);
    }

    #[test]
    fn an_interrupt_promises_no_drain_of_which_the_host_has_said_nothing() {
        for mode in [DownMode::Drain, DownMode::Kill] {
            assert!(interrupted(mode, true).starts_with("still "), "{mode:?}");
            let unknown = interrupted(mode, false);
            assert!(unknown.contains("`claudine list` shows"), "{unknown}");
        }
    }

    #[test]
    fn without_a_host_down_says_that_tasks_may_still_run() {
        let check = |mode: DownMode, supervisors: &[u32], expected: &str| {
            assert_eq!(none_runs(mode, false, supervisors), expected);
        };
        check(DownMode::Leave, &[], "no host is running");
        let left = "no host is running, but tasks may still run (supervisor 7): \
                    `claudine down --kill` ends them";
        check(DownMode::Leave, &[7], left);
        check(DownMode::Kill, &[], "nothing is running");
        check(
            DownMode::Drain,
            &[7, 8],
            "nothing is running (supervisor 7 ended)",
        );
    }

    #[test]
    fn the_message_names_the_tasks_that_were_ended_without_a_host_and_why() {
        let why = AppError::new(ErrorKind::Unavailable, "the database is damaged");
        let cause = "no host can be started now";
        let none = ended_without_host(&BTreeSet::new(), cause, &why);
        assert!(none.starts_with("no task runs; "), "{none}");
        assert!(none.ends_with("now: the database is damaged"), "{none}");
        let task: TaskId = "task_01kb2m8r4zq8w3v5x7y9abcdef".parse().unwrap();
        let why = why.hint("restore a backup");
        let one = ended_without_host(&BTreeSet::from([task]), cause, &why);
        assert!(one.starts_with(&format!("ended {task:#}, ")), "{one}");
        assert!(one.ends_with("damaged; restore a backup"), "{one}");
    }

    #[test]
    fn the_message_names_the_cancelled_and_the_other_ended_tasks() {
        let task = |name: &str, outcome: &str| {
            crate::api::cli::exit::tests::task(
                serde_json::json!({"name": name, "outcome": outcome}),
            )
            .row
        };
        let check = |mode: DownMode, ended: &[TaskRow], expected: Option<&str>| {
            assert_eq!(ended_text(mode, ended).as_deref(), expected);
        };
        let cancelled = || vec![task("suite", "cancelled"), task("ren", "cancelled")];
        check(DownMode::Kill, &[], None);
        check(DownMode::Leave, &cancelled(), None);
        check(DownMode::Kill, &cancelled(), Some("cancelled suite, ren"));
        let mut both = cancelled();
        both.push(task("build", "succeeded"));
        let expected = "cancelled suite, ren; build ended";
        check(DownMode::Kill, &both, Some(expected));
        let many: Vec<_> = (0..12)
            .map(|number| task(&format!("t{number}"), "failed"))
            .collect();
        let expected = "t0, t1, t2, t3, t4, t5, t6, t7, t8, t9, 2 more ended";
        check(DownMode::Drain, &many, Some(expected));
    }

    #[test]
    fn the_message_names_the_tasks_whose_ends_are_still_to_be_recorded() {
        let task =
            |name: &str| crate::api::cli::exit::tests::task(serde_json::json!({"name": name})).row;
        assert_eq!(unrecorded_text(&[]), None);
        let two = [task("suite"), task("ren")];
        let expected = "the next host records how these tasks ended: suite, ren";
        assert_eq!(unrecorded_text(&two).as_deref(), Some(expected));
        let error = unrecorded(&two);
        assert!(error.message.ends_with(": suite, ren"), "{}", error.message);
        assert_eq!(error.kind, ErrorKind::Unavailable);
    }

    #[test]
    fn the_message_counts_tasks_left_running_only_if_the_host_has_no_faults() {
        let check = |mode: DownMode, running: usize, is_faulty: bool, expected: &str| {
            let faults = vec!["the engine does not answer".to_owned(); usize::from(is_faulty)];
            assert_eq!(ended(mode, running, &faults), expected);
        };
        check(DownMode::Leave, 0, false, "host ended");
        check(DownMode::Leave, 1, false, "host ended; 1 task left running");
        check(
            DownMode::Leave,
            2,
            false,
            "host ended; 2 tasks left running",
        );
        let not_known = "host ended; running tasks continue, and the next host picks them up \
                         (the engine does not answer)";
        check(DownMode::Leave, 1, true, not_known);
        check(DownMode::Leave, 0, true, not_known);
        check(DownMode::Kill, 1, false, "host ended");
        check(DownMode::Drain, 0, true, "host ended");
    }
}

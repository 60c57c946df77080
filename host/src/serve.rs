//! Runs a host from start to end. This file only connects the parts of the host.

mod claim;
mod error;
mod offline;
mod parts;
mod socket;

use std::{collections::BTreeMap, io, path::Path, sync::Arc, time::Duration};

use claudine_domain::{board::Bounds, queue::Pause};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{Notify, oneshot, watch},
    task::JoinHandle,
};

use self::parts::{Broken, Over, Parts};
pub(crate) use self::{
    claim::{Claimed, claim},
    error::ServeError,
    offline::offline,
};
use crate::{
    api,
    app::{DownMode, Host, HostInfo, HostParts, Unnoticed, backup},
    attempt::{Known, Runner, RunnerParts},
    ballast::Ballast,
    checkpoint, clock, command,
    config::{self, Settings},
    engine::{self, Engine},
    environment::Environments,
    fsx::{self, Lasting},
    kept,
    layout::Layout,
    plugin::{self, Catalog},
    retention::Retention,
    sample::{Sampler, disk_free_bytes},
    store::{
        Epoch, Store,
        sqlite::{InPlace, Noted, Noting, SqliteStore},
    },
    supervise::{self, Own, Supervisors},
    text::chain,
    worktree::Worktrees,
};

/// Time limit for sending the last commands to the supervisors.
const LAST_COMMANDS: Duration = Duration::from_millis(500);
/// Time limit for requests that are changing worktrees or several tasks. If a request has not ended
/// by then, its git command continues below its supervisor.
const LAST_CHANGES: Duration = Duration::from_secs(5);
/// Time limit for storing the last decisions. If a decision is not stored by then, nobody has been
/// told of it, and the supervisors send their reports to the next host again.
const LAST_COMMITS: Duration = Duration::from_secs(30);
/// Time limit for sending the last answers, slightly above the server's own limit.
const LAST_ANSWERS: Duration = Duration::from_secs(5);
/// Time limit for the first request. Usually the command that has started the host sends one.
const FIRST_ANSWER: Duration = Duration::from_millis(500);
/// Time limit for storing the ends of attempts that ended before this host started. One or two
/// commits are enough for this.
const WRITING_OFF: Duration = Duration::from_secs(5);

const ENGINE: &str = "the engine";
const REST: &str = "the REST server";
const ROUTING: &str = "the routing of reports";
const ROUTER: &str = "the supervisors' router";

fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ServeError {
    let path = path.to_owned();
    move |source| ServeError::Io { what, path, source }
}

/// Runs a host until it is asked to shut down, or fails. `descriptors` is the soft limit on open
/// files for child processes. `ready` is called once the host answers.
pub(crate) fn run(
    claimed: &Arc<Claimed>,
    settings: Settings,
    descriptors: Option<u64>,
    ready: impl FnOnce(&HostInfo),
) -> Result<(), ServeError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(
            std::thread::available_parallelism()
                .map_or(2, usize::from)
                .min(4),
        )
        .enable_all()
        .build()
        .map_err(ServeError::Runtime)?;
    let result = runtime.block_on(serve(claimed, settings, descriptors, ready));
    // Clients that still follow a log or wait for a task notice that their connection is closed.
    runtime.shutdown_timeout(Duration::from_secs(1));
    // If another host has the directory by now, the tasks are that host's.
    if let Err(ServeError::Broken { kills: true, .. }) = &result
        && claimed.holds()
    {
        end_tasks(&claimed.layout);
    }
    result.map_err(|error| error.in_dir(claimed.layout.root()))
}

/// Ends the tasks without the host, whose runtime has ended: it was told to end them, and could not
/// store their ends. The supervisors note how they ended, for the next host.
fn end_tasks(layout: &Layout) {
    match supervise::end_all(&layout.supervisors()) {
        Ok(ended) => tracing::info!(count = ended.len(), "the supervisors have ended their work"),
        Err(error) => tracing::error!(error = %chain(&error), "a task may still run"),
    }
}

async fn serve(
    claimed: &Arc<Claimed>,
    settings: Settings,
    descriptors: Option<u64>,
    ready: impl FnOnce(&HostInfo),
) -> Result<(), ServeError> {
    let layout = &claimed.layout;
    let mut parts = Parts::default();
    let (shut, shutdown) = watch::channel(false);
    let own = mark_own(layout);
    forget_other_boots(layout);
    let (mut wired, retention) = wire(layout, settings, descriptors, &mut parts, &shutdown).await?;
    let putting_back = wired.host.put_back_checkouts();
    let putting_back = async move {
        putting_back.await;
        Over::Done
    };
    parts.spawn("the restoring of checkouts", until(&shutdown, putting_back));
    // From the start, since attempts of the last host may need a plugin that cannot be loaded, and
    // the engine must know this before it is asked for anything.
    let runner = wired.runner.clone();
    let keeping = async move {
        runner.keep_executors_loaded().await;
        Over::Done
    };
    parts.spawn("the loading of plugins", until(&shutdown, keeping));
    if clock::within(WRITING_OFF, wired.runner.written_off())
        .await
        .is_none()
    {
        tracing::warn!("some attempts that ended before this host started are not stored yet");
    }
    let answered = open_up(claimed, &wired, &mut parts, &shutdown)?;
    let info = wired.host.info().await;
    write_host_file(layout, &info)?;
    ready(&info);
    // Each of these steps takes long enough to delay the host's first answer, for which the command
    // that has started the host waits.
    let (plugins, earlier) = (wired.to_warm.take(), own.clone());
    let (begin, begun) = oneshot::channel::<()>();
    let following = async move {
        // Without a request, nobody waits for an answer.
        let _: Option<()> = clock::within(FIRST_ANSWER, answered.notified()).await;
        drop(begin);
        if let Some(own) = earlier {
            own.end_earlier().await;
        }
        if let Some(plugins) = plugins {
            plugins.warm().await;
        }
        Over::Done
    };
    parts.spawn("the steps after the start", until(&shutdown, following));
    let retention = async move {
        // The sender is dropped, whether the steps end or not.
        drop(begun.await);
        retention.run().await;
        Over::Done
    };
    parts.spawn("retention", until(&shutdown, retention));
    tracing::info!(data_dir = %layout.root().display(), pid = info.pid, "the host is up");
    let end = parts.end().await;
    let mut kills = false;
    match &end {
        Ok(mode) => tracing::info!(?mode, "the host goes down"),
        Err(Broken { part, why }) => {
            tracing::error!(why, "{part} has ended; the host ends");
            kills = wired.host.breaks(why);
        }
    }
    let mode = end.as_ref().ok().copied();
    let mode = mode.or(kills.then_some(DownMode::Kill));
    wind_down(wired, parts, &shut, mode, claimed).await;
    if let Some(own) = own {
        own.end_all().await;
    }
    claimed.remove(&layout.socket());
    end.map(drop)
        .map_err(|Broken { part, why }| ServeError::Broken { part, why, kills })
}

/// A host whose socket is not open yet.
struct Wired {
    engine: Engine,
    runner: Arc<Runner>,
    host: Arc<Host>,
    supervisors: Supervisors,
    database: Option<InPlace>,
    /// Notes the last batch when the host ends.
    noting: Noting,
    /// The plugins to load once the host answers, if there is room for their compiled code.
    to_warm: Option<Arc<Catalog>>,
}

async fn wire(
    layout: &Layout,
    mut settings: Settings,
    descriptors: Option<u64>,
    parts: &mut Parts,
    shutdown: &watch::Receiver<bool>,
) -> Result<(Wired, Retention), ServeError> {
    let started_at = clock::wall();
    let orphans = supervise::Orphans::look_for(&layout.supervisors());
    // The ballast is opened first, because on a full disk the store cannot be opened without the
    // ballast's space.
    let ballast = Ballast::open(layout.ballast(), disk_free_bytes(layout.root()));
    let has_room = !ballast.is_freed();
    if backup::place(layout).map_err(io_error(
        "cannot move the restored files into place in",
        layout.root(),
    ))? {
        tracing::info!("an interrupted restore was completed");
    }
    SqliteStore::refuse_lost(&layout.database(), &layout.logs(), || layout.has_logs())?;
    let kept = kept::begin(layout, &mut settings);
    let mut store = SqliteStore::open(&layout.database())?;
    // If somebody has moved the store away, the epochs of the new store are lower, but supervisors
    // that are left obey only a higher epoch. The number of the last batch shows a copy from the
    // time of the last host.
    let led = supervise::last_epoch(&layout.supervisors());
    let last_epoch = store.last_epoch()?;
    let last_batch = store.last_batch()?;
    let noted = Noted::last(&layout.last_batch());
    if last_epoch < led || noted.is_some_and(|noted| noted.is_later_than(last_epoch, last_batch)) {
        distrust(layout, &store, &mut settings)?;
    }
    let noting = store.note_in(layout.last_batch());
    let of = layout.clone();
    store.correct_lists(move || {
        let unnoticed = Unnoticed::new(of.clone());
        Box::new(move |task| unnoticed.mark(task))
    });
    let database = store.in_place();
    let store: Arc<dyn Store> = Arc::new(store);
    let epoch = store.lead_after(led)?;
    let opened = open_supervisors(layout, epoch, descriptors, orphans).await?;
    let plugins = Arc::new(open_plugins(layout, &settings, plugin::Compiler::Process)?);
    warn_of_unknown_names(&plugins, &mut settings);
    let environments = Arc::new(Environments::new(layout.clone(), settings.env.clone()));
    let worktrees = Arc::new(Worktrees::new(layout.clone()));
    let inbox = engine::Inbox::new();
    let runner = Runner::new(RunnerParts {
        plugins: plugins.clone(),
        store: store.clone(),
        supervisors: opened.supervisors.clone(),
        environments: environments.clone(),
        worktrees: worktrees.clone(),
        layout: layout.clone(),
        reports: inbox.reports(),
        known: Known::of(opened.found),
        settle_timeout: settings.settle_timeout,
        ceiling: settings.mcp.clone(),
        settings_file: settings.place.clone(),
        most_output: settings.max_output_bytes,
        disk_reserve_bytes: settings.limits.disk_reserve_bytes,
    });
    parts.spawn(ROUTER, router_end(opened.router, shutdown.clone()));
    let (routing, reports) = (runner.clone(), opened.reports);
    parts.spawn(
        ROUTING,
        until(shutdown, async move {
            routing.route(reports).await;
            Over::Failed("there will be no more reports".to_owned())
        }),
    );
    runner.tell_of_unread_plugins().await;
    let (engine, engine_task) = engine::start(
        engine::Parts {
            store: store.clone(),
            epoch,
            limits: settings.limits,
            bounds: Bounds {
                prepare: settings.prepare_timeout,
                settle: settings.settle_timeout,
                ..Bounds::default()
            },
            machine: Box::new(Sampler::new(layout.root()).map_err(ServeError::Machine)?),
            ballast,
            begin: settings.begin,
            slots: settings.given_slots,
        },
        inbox,
        runner.clone(),
    )?;
    parts.spawn(ENGINE, engine_end(engine_task));
    let retention = Retention {
        engine: engine.clone(),
        store: store.clone(),
        layout: layout.clone(),
        environments: environments.clone(),
        kept,
    };
    // Compiled code is stored on disk. If the disk is full, it would use up the space that is
    // reserved for cancellations and ends.
    let to_warm = has_room.then(|| plugins.clone());
    let held_back = runner.clone();
    let (all_held_back, unanswered) = (runner.clone(), opened.supervisors.clone());
    let silent = opened.supervisors.clone();
    let host = Arc::new(Host::new(HostParts {
        engine: engine.clone(),
        store,
        plugins,
        environments,
        worktrees,
        commands: runner.requests(),
        settings,
        layout: layout.clone(),
        started_at,
        held_back: Box::new(move |attempt| held_back.held_back(attempt)),
        all_held_back: Box::new(move || all_held_back.all_held_back(&unanswered.silent())),
        silences: Box::new(move || silent.silences()),
        attempt_of: Box::new({
            let runner = runner.clone();
            move |line| {
                let runner = runner.clone();
                Box::pin(async move { runner.attempt_of(&line).await })
            }
        }),
        watch: opened.supervisors.log_watch().clone(),
    }));
    let wired = Wired {
        engine,
        runner,
        host,
        supervisors: opened.supervisors,
        database,
        noting,
        to_warm,
    };
    Ok((wired, retention))
}

/// Warns of a database that lacks what was stored later, because another host has led since, or
/// because its last host has gone on: it is an earlier copy that was put back, or it was made anew.
/// The queue of an earlier copy is paused, because its tasks may have run since. The pause is
/// stored before this host leads: afterwards, the next host would not notice the copy, although
/// this host may end before it has stored anything, or may start no tasks at all.
fn distrust(
    layout: &Layout,
    store: &SqliteStore,
    settings: &mut Settings,
) -> Result<(), ServeError> {
    let database = layout.database();
    let text = if store.last_batch()? == 0 {
        format!(
            "{} was made anew: earlier hosts used another file in its place, whose tasks are no \
             longer known",
            database.display()
        )
    } else {
        store.pause(Pause {
            since: clock::wall(),
            ..Pause::default()
        })?;
        format!(
            "{} is an earlier copy: it lacks what was stored later, in another file in its place. \
             Tasks that have run since then are shown as they were before, so the queue is paused: \
             cancel those that should not run again, then run `claudine unpause`",
            database.display()
        )
    };
    tracing::warn!("{text}");
    settings.warnings.push(text);
    Ok(())
}

/// Opens the socket, and begins to wait for reasons to end the host. The result is told of each
/// answer to a request.
fn open_up(
    claimed: &Arc<Claimed>,
    wired: &Wired,
    parts: &mut Parts,
    shutdown: &watch::Receiver<bool>,
) -> Result<Arc<Notify>, ServeError> {
    parts.spawn("signals", until(shutdown, signals()?));
    let (socket, listeners) = socket::listen(&claimed.layout)?;
    let (kept, database) = (claimed.clone(), wired.database.clone());
    let keeping = async move { Over::Failed(socket.keep(kept, database).await) };
    parts.spawn("the socket", until(shutdown, keeping));
    let (serving, shut) = (wired.host.clone(), shutdown.clone());
    let answered = Arc::new(Notify::new());
    let telling = answered.clone();
    parts.spawn(REST, async move {
        api::rest::serve(listeners, serving, shut, telling).await;
        Over::Done
    });
    let leading = wired.host.clone();
    parts.spawn(
        "the shutdown",
        until(shutdown, async move {
            match leading.lead_down().await {
                Ok(mode) => Over::Down(mode),
                Err(why) => Over::Failed(why.message),
            }
        }),
    );
    Ok(answered)
}

/// Runs a part until it ends or the host shuts down.
fn until(
    shutdown: &watch::Receiver<bool>,
    part: impl Future<Output = Over> + Send + 'static,
) -> impl Future<Output = Over> + Send + 'static {
    let mut shutdown = shutdown.clone();
    async move {
        tokio::select! {
            over = part => over,
            _ = shutdown.wait_for(|shut| *shut) => Over::Done,
        }
    }
}

/// Waits for the end of the engine. The end is a failure if the engine returned an error or
/// panicked.
async fn engine_end(task: engine::EngineTask) -> Over {
    match task.await {
        Ok(Ok(())) => Over::Done,
        Ok(Err(error)) => Over::Failed(error.to_string()),
        Err(panic) => Over::Failed(panic.to_string()),
    }
}

async fn router_end(task: JoinHandle<()>, shutdown: watch::Receiver<bool>) -> Over {
    match task.await {
        Ok(()) if *shutdown.borrow() => Over::Done,
        Ok(()) => Over::Failed("nothing uses it any more".to_owned()),
        Err(panic) => Over::Failed(panic.to_string()),
    }
}

/// Waits for a signal to end the host. Like `down`, TERM and INT leave attempts running.
fn signals() -> Result<impl Future<Output = Over> + Send, ServeError> {
    let listen = |kind| signal(kind).map_err(ServeError::Signals);
    let mut term = listen(SignalKind::terminate())?;
    let mut int = listen(SignalKind::interrupt())?;
    let mut hangup = listen(SignalKind::hangup())?;
    Ok(async move {
        loop {
            tokio::select! {
                _ = term.recv() => return Over::Down(DownMode::Leave),
                _ = int.recv() => return Over::Down(DownMode::Leave),
                // A closed terminal is no reason to end the host.
                _ = hangup.recv() => {}
            }
        }
    })
}

/// Marks all processes that the host starts from now on for itself or for requests, so that the
/// next host can find them after a crash.
fn mark_own(layout: &Layout) -> Option<Arc<Own>> {
    let own = Own::begin(&layout.lock());
    if let Err(error) = &own {
        tracing::warn!(%error, "the processes of this host cannot be found if it crashes");
    }
    own.ok().map(Arc::new)
}

/// Removes files of an earlier boot. The processes that used them no longer exist, and the files
/// may be incomplete.
fn forget_other_boots(layout: &Layout) {
    if let Err(error) = checkpoint::files::forget_other_boots(layout, &clock::boot_id()) {
        tracing::warn!(%error, "files that were passed to attempts of an earlier boot cannot be removed");
    }
}

/// Shuts the parts down. `mode` is the way in which the host was asked to end, if it was asked.
async fn wind_down(
    wired: Wired,
    mut parts: Parts,
    shut: &watch::Sender<bool>,
    mode: Option<DownMode>,
    claimed: &Claimed,
) {
    let Wired {
        engine,
        runner,
        host,
        supervisors,
        noting,
        ..
    } = wired;
    host.leaves(mode.unwrap_or_default());
    if mode == Some(DownMode::Kill) {
        runner.requests().end().await;
    }
    if clock::within(LAST_CHANGES, host.all_seen_to())
        .await
        .is_none()
    {
        tracing::warn!("a request that changes worktrees or several tasks is cut off");
    }
    if clock::within(LAST_COMMITS, engine.stop()).await.is_none() {
        tracing::error!("the engine has not stopped in time");
    }
    await_end(&mut parts, ENGINE, LAST_COMMITS).await;
    noting.note_last();
    shut.send_replace(true);
    await_end(&mut parts, REST, LAST_ANSWERS).await;
    // From here on, nobody can reach this host. Without its file, it is known to be ending.
    claimed.remove(&claimed.layout.host_file());
    if mode == Some(DownMode::Kill) {
        let told = runner.end_unreadable().await;
        if let Err(error) = told.and(supervisors.quit().done().await) {
            tracing::warn!(%error, "the supervisors cannot be told to end");
        }
    }
    // The Tokio tasks of running attempts keep the router alive. These Tokio tasks and the router
    // end with the runtime, which does not end the processes of the attempts.
    if clock::within(LAST_COMMANDS, supervisors.flush())
        .await
        .is_none()
    {
        tracing::warn!("the last commands may not have reached every supervisor");
    }
    drop((engine, host, runner, supervisors));
    if !parts.await_end(ROUTING, LAST_COMMANDS).await {
        tracing::debug!("{ROUTING} is cut");
    }
    if clock::within(LAST_COMMANDS, command::all_seen_to())
        .await
        .is_none()
    {
        tracing::warn!("a command that changes something has not ended in time");
    }
}

async fn await_end(parts: &mut Parts, part: &'static str, limit: Duration) {
    if !parts.await_end(part, limit).await {
        tracing::error!("{part} has not ended within {} s", limit.as_secs());
    }
}

async fn open_supervisors(
    layout: &Layout,
    epoch: Epoch,
    descriptors: Option<u64>,
    orphans: supervise::Orphans,
) -> Result<supervise::Opened, ServeError> {
    let exe =
        std::env::current_exe().map_err(io_error("cannot find", Path::new("/proc/self/exe")))?;
    let settings = supervise::Settings {
        dir: layout.supervisors(),
        program: supervise::Program {
            path: exe,
            args: vec![supervise::peer::SUPERVISE.into()],
        },
        environment: config::whole_environment(),
        descriptors,
        epoch: epoch.0,
    };
    Ok(supervise::open(settings, orphans).await?)
}

fn open_plugins(
    layout: &Layout,
    settings: &Settings,
    compiler: plugin::Compiler,
) -> Result<Catalog, ServeError> {
    let configs: BTreeMap<String, String> = settings
        .plugins
        .iter()
        .map(|(name, table)| (name.clone(), table.to_string()))
        .collect();
    let places = plugin::Places {
        data_dir: layout.root().to_owned(),
        compiler,
        configs,
    };
    Ok(Catalog::open(places, plugin::BUILTINS)?)
}

fn warn_of_unknown_names(plugins: &Catalog, settings: &mut Settings) {
    let told = settings.unknown_names(&plugins.names(), plugins.has_installed());
    for text in &told {
        tracing::warn!("{text}");
    }
    settings.warnings.extend(told);
}

fn write_host_file(layout: &Layout, info: &HostInfo) -> Result<(), ServeError> {
    let path = layout.host_file();
    let text = serde_json::to_string(info).map_err(io::Error::from);
    // The file need not survive a power cut, since the next host writes it again.
    text.and_then(|text| fsx::replace(&path, Lasting::Process, (text + "\n").as_bytes()))
        .map(drop)
        .map_err(io_error("cannot write", &path))
}

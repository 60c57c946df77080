//! A host from its start to its end: the wiring of everything, and nothing else.

mod error;

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::Path,
    sync::Arc,
};

use claudine_domain::board::Bounds;
use tokio::{net::UnixListener, signal::unix::SignalKind, sync::watch};

pub(crate) use self::error::ServeError;
use crate::{
    allocator, api,
    app::{DownMode, Host, HostInfo, HostParts, backup},
    attempt::{Known, Runner, RunnerParts},
    ballast::Ballast,
    clock, command,
    config::{self, Settings},
    engine,
    environment::Environments,
    fsx::{self, Lasting},
    layout::Layout,
    plugin::{self, Catalog},
    restored::Restored,
    retention::Retention,
    sample::{Sampler, disk_free_bytes},
    store::{
        Store,
        sqlite::{SqliteStore, refuse_network_filesystem},
    },
    supervise,
    worktree::Worktrees,
};

/// How long the last commands may take to reach the supervisors.
const LAST_COMMANDS: std::time::Duration = std::time::Duration::from_millis(500);

/// How long a start waits for the ends that it found: they take a commit or two.
const WRITING_OFF: std::time::Duration = std::time::Duration::from_secs(5);

fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ServeError {
    let path = path.to_owned();
    move |source| ServeError::Io { what, path, source }
}

/// The directory is made and locked before anything in it is opened: a second host stops here.
pub(crate) struct Claimed {
    pub(crate) layout: Layout,
    /// The lock is held as long as this file is open.
    _lock: File,
}

/// Makes the data directory this host's own.
pub(crate) fn claim(data_dir: &Path) -> Result<Claimed, ServeError> {
    try_to_claim(data_dir).map_err(|error| error.in_dir(data_dir))
}

fn try_to_claim(data_dir: &Path) -> Result<Claimed, ServeError> {
    let layout = Layout::new(data_dir);
    layout.create().map_err(io_error("cannot use", data_dir))?;
    refuse_network_filesystem(data_dir)?;
    let path = layout.lock();
    let lock = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path)
        .map_err(io_error("cannot open", &path))?;
    match lock.try_lock() {
        Ok(()) => Ok(Claimed {
            layout,
            _lock: lock,
        }),
        Err(fs::TryLockError::WouldBlock) => Err(ServeError::Taken {
            data_dir: data_dir.to_owned(),
            pid: pid_of(&layout),
        }),
        Err(fs::TryLockError::Error(error)) => Err(io_error("cannot lock", &path)(error)),
    }
}

fn pid_of(layout: &Layout) -> Option<u32> {
    let text = fs::read(layout.host_file()).ok()?;
    serde_json::from_slice::<HostInfo>(&text)
        .ok()
        .map(|info| info.pid)
}

/// Runs a host until it is asked to go down. `ready` is called once it answers.
pub(crate) fn run(
    claimed: &Claimed,
    settings: Settings,
    ready: impl FnOnce(&HostInfo),
) -> Result<(), ServeError> {
    allocator::limit_arenas();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(
            std::thread::available_parallelism()
                .map_or(2, usize::from)
                .min(4),
        )
        .enable_all()
        .build()
        .map_err(ServeError::Runtime)?;
    let result = runtime.block_on(serve(&claimed.layout, settings, ready));
    // Whoever still reads a log or waits for a task learns from the closed connection.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    result.map_err(|error| error.in_dir(claimed.layout.root()))
}

async fn serve(
    layout: &Layout,
    settings: Settings,
    ready: impl FnOnce(&HostInfo),
) -> Result<(), ServeError> {
    let started_at = clock::wall();
    // First: on a full disk there is nothing else to open the store with.
    let ballast = Ballast::open(layout.ballast(), disk_free_bytes(layout.root()));
    let has_room = !ballast.is_freed();
    if backup::place(layout).map_err(io_error(
        "cannot put what was restored in its place in",
        layout.root(),
    ))? {
        tracing::info!("a restore that was cut off after it was whole was put in its place");
    }
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&layout.database())?);
    let epoch = store.lead()?;
    let exe =
        std::env::current_exe().map_err(io_error("cannot find", Path::new("/proc/self/exe")))?;
    let opened = supervise::open(supervise::Settings {
        dir: layout.supervisors(),
        program: supervise::Program {
            path: exe.clone(),
            args: vec![supervise::peer::SUPERVISE.into()],
        },
        environment: config::whole_environment(),
        epoch: epoch.0,
    })
    .await?;
    let plugins = Arc::new(open_plugins(layout, &settings)?);
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
    });
    let (shut, shutdown) = watch::channel(false);
    let routing = tokio::spawn({
        let (runner, mut shutdown) = (runner.clone(), shutdown.clone());
        async move {
            tokio::select! {
                () = runner.route(opened.reports) => {}
                _ = shutdown.wait_for(|shut| *shut) => {}
            }
        }
    });
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
        },
        inbox,
        runner.clone(),
    )?;
    let supervisors = layout.supervisors();
    let retention = Retention {
        engine: engine.clone(),
        store: store.clone(),
        layout: layout.clone(),
        environments: environments.clone(),
        keep: settings.keep,
        restored_at: Restored::known(layout).map(|restored| restored.restored_at),
    };
    let host = Arc::new(Host::new(HostParts {
        engine: engine.clone(),
        store,
        plugins: plugins.clone(),
        environments,
        worktrees,
        settings,
        layout: layout.clone(),
        started_at,
        supervisor_pids: Box::new(move || supervise::pids(&supervisors)),
        held_back: Box::new({
            let runner = runner.clone();
            move |attempt| runner.held_back(attempt)
        }),
        attempt_of: Box::new({
            let runner = runner.clone();
            move |line| {
                let runner = runner.clone();
                Box::pin(async move { runner.attempt_of(&line).await })
            }
        }),
        watch: opened.supervisors.log_watch().clone(),
    }));
    if clock::within(WRITING_OFF, runner.written_off())
        .await
        .is_none()
    {
        tracing::warn!("some attempts that ended before this host began are not written down yet");
    }
    let listener = listen(layout)?;
    let serving = tokio::spawn(api::rest::serve(listener, host.clone(), shutdown));
    let retention = tokio::spawn(retention.run());
    // Compiled code is kept on the disk; where that is full it would take what is left for cancels and ends.
    let warming = tokio::spawn(async move {
        if has_room {
            plugins.warm().await;
        }
    });
    let info = host.info();
    write_host_file(layout, &info)?;
    ready(&info);
    tracing::info!(data_dir = %layout.root().display(), pid = info.pid, "the host is up");
    let mode = until_down(&host).await?;
    tracing::info!(?mode, "the host goes down");
    retention.abort();
    warming.abort();
    engine.stop().await;
    report_end("the engine", engine_task.await);
    shut.send_replace(true);
    report_end("the REST server", serving.await);
    if mode == DownMode::Kill
        && let Err(error) = opened.supervisors.quit().done().await
    {
        tracing::warn!(%error, "the supervisors cannot be told to end");
    }
    drop((host, runner, opened.supervisors));
    report_end("the routing of reports", routing.await);
    // Attempts that run on hold on to it; they end with the runtime.
    if clock::within(LAST_COMMANDS, opened.road).await.is_none() {
        tracing::debug!("the road to the supervisors is cut");
    }
    if clock::within(LAST_COMMANDS, command::all_seen_to())
        .await
        .is_none()
    {
        tracing::warn!("a command that changes something is not waited for any longer");
    }
    remove(&layout.socket());
    remove(&layout.host_file());
    Ok(())
}

fn report_end<T>(what: &str, ended: Result<T, tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "{what} ended badly");
    }
}

fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "cannot be removed");
    }
}

fn open_plugins(layout: &Layout, settings: &Settings) -> Result<Catalog, ServeError> {
    let configs: BTreeMap<String, String> = settings
        .plugins
        .iter()
        .map(|(name, table)| (name.clone(), table.to_string()))
        .collect();
    let places = plugin::Places {
        data_dir: layout.root().to_owned(),
        compiler: plugin::Compiler::Process,
        configs,
    };
    Ok(Catalog::open(places, plugin::BUILTINS)?)
}

/// What an earlier host left of its socket goes: this one holds the lock.
fn listen(layout: &Layout) -> Result<UnixListener, ServeError> {
    let path = layout.socket();
    layout
        .create_socket_dir()
        .map_err(io_error("cannot use the directory of", &path))?;
    remove(&path);
    let listener = UnixListener::bind(&path).map_err(io_error("cannot listen on", &path))?;
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))
        .map_err(io_error("cannot protect", &path))?;
    Ok(listener)
}

fn write_host_file(layout: &Layout, info: &HostInfo) -> Result<(), ServeError> {
    let path = layout.host_file();
    let text = serde_json::to_string(info).map_err(io::Error::from);
    // The next host writes it anew.
    text.and_then(|text| fsx::replace(&path, Lasting::Process, (text + "\n").as_bytes()))
        .map(drop)
        .map_err(io_error("cannot write", &path))
}

/// A request to go down, or a signal: TERM and INT leave attempts running, as `down` does.
async fn until_down(host: &Host) -> Result<DownMode, ServeError> {
    let signal = |kind| tokio::signal::unix::signal(kind).map_err(ServeError::Signals);
    let (mut term, mut int) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    let mut hangup = signal(SignalKind::hangup())?;
    let mut asked = host.going_down();
    loop {
        tokio::select! {
            changed = asked.wait_for(Option::is_some) => {
                return Ok(changed.ok().and_then(|mode| *mode).unwrap_or_default());
            }
            _ = term.recv() => return Ok(DownMode::Leave),
            _ = int.recv() => return Ok(DownMode::Leave),
            // A terminal that closes is no reason to end.
            _ = hangup.recv() => {}
        }
    }
}

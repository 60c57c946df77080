//! State shared by all use cases.

use std::sync::{Arc, Mutex};

use claudine_domain::{
    id::{AttemptId, IdSequence, TaskId},
    principal::Principal,
    task::Task,
    time::Timestamp,
};
use futures_util::future::BoxFuture;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use super::{
    directories::Directories,
    error::{AppError, ErrorKind},
    leaving::{Leaving, Wanted},
    past::KeptPast,
    reader::Reader,
    refused::way_out_of,
    request::{DownMode, TaskRef},
};
use crate::{
    ceiling::{Refusal, places::Places, session::SessionError},
    command::Elsewhere,
    config::{Begin, Settings},
    engine::{Engine, EngineError},
    environment::Environments,
    layout::Layout,
    plugin::Catalog,
    store::{Store, StoreError},
    supervise::{
        Silence,
        log::LogWatch,
        peer::{Forebear, Plain, Side},
    },
    transcript::Transcripts,
    worktree::Worktrees,
};

/// Maximum number of waiting requests that read their task at the same time. Without this limit,
/// other requests would be delayed if many waiting requests arrive or are woken at once.
const LOOKS_AT_ONCE: usize = 4;
/// Maximum number of reads of many rows at the same time. Together with [`LOOKS_AT_ONCE`] it is
/// below the number of connections to the store, so that other requests find one.
const SCANS_AT_ONCE: usize = 3;

/// A host with everything that the use cases need.
pub(crate) struct Host {
    pub(super) engine: Engine,
    /// Generates the ids of new tasks.
    pub(super) ids: Mutex<IdSequence>,
    pub(super) reader: Arc<Reader>,
    pub(super) plugins: Arc<Catalog>,
    pub(super) transcripts: Transcripts,
    pub(super) environments: Arc<Environments>,
    pub(super) directories: Directories,
    pub(super) places: Arc<Places>,
    pub(super) worktrees: Arc<Worktrees>,
    /// Runs commands for requests.
    pub(super) commands: Arc<dyn Elsewhere>,
    pub(super) settings: Settings,
    pub(super) started_at: Timestamp,
    pub(super) held_back: HeldBack,
    pub(super) all_held_back: AllHeldBack,
    pub(super) attempt_of: AttemptOf,
    pub(super) plain: Arc<Plain>,
    pub(super) silences: Silences,
    /// Notifies followers that a log has grown.
    pub(super) watch: LogWatch,
    /// Readers of logs. Each reader ends when its client disconnects.
    pub(super) reading: TaskTracker,
    /// Requests that are carried out to their ends.
    changing: TaskTracker,
    /// The work at the start of the host that puts back what an earlier host has left half done.
    pub(super) restoring: TaskTracker,
    /// Permits that a request needs to read the task for which it waits.
    pub(super) looks: Semaphore,
    /// Permits for reads of many rows.
    scans: Arc<Semaphore>,
    pub(super) leaving: Leaving,
    pub(super) past: KeptPast,
}

/// Finds the attempt to which a process belongs, and the side that started the process. The
/// argument is the process, followed by its ancestors. `None` if the attempt is uncertain.
pub(crate) type AttemptOf =
    Box<dyn Fn(Vec<Forebear>) -> BoxFuture<'static, Option<(AttemptId, Side)>> + Send + Sync>;

/// The reason why an attempt's output cannot be written at the moment, if there is one.
pub(crate) type HeldBack = Box<dyn Fn(AttemptId) -> Option<String> + Send + Sync>;

/// The number of attempts whose output cannot be written at the moment, and one of the reasons.
pub(crate) type AllHeldBack = Box<dyn Fn() -> Option<(usize, String)> + Send + Sync>;

/// The reasons why supervisors are silent.
pub(crate) type Silences = Box<dyn Fn() -> Vec<Silence> + Send + Sync>;

/// Everything needed to create a host.
pub(crate) struct HostParts {
    pub(crate) engine: Engine,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) plugins: Arc<Catalog>,
    pub(crate) environments: Arc<Environments>,
    pub(crate) worktrees: Arc<Worktrees>,
    pub(crate) commands: Arc<dyn Elsewhere>,
    pub(crate) settings: Settings,
    pub(crate) layout: Layout,
    pub(crate) started_at: Timestamp,
    pub(crate) held_back: HeldBack,
    pub(crate) all_held_back: AllHeldBack,
    pub(crate) attempt_of: AttemptOf,
    pub(crate) silences: Silences,
    pub(crate) watch: LogWatch,
}

impl Host {
    pub(crate) fn new(parts: HostParts) -> Self {
        let HostParts {
            engine,
            store,
            plugins,
            environments,
            worktrees,
            commands,
            settings,
            layout,
            started_at,
            held_back,
            all_held_back,
            attempt_of,
            silences,
            watch,
        } = parts;
        let reading = TaskTracker::new();
        let no_host = engine.snapshot().no_host;
        let mode = match settings.begin {
            Begin::Usual | Begin::Paused => None,
            Begin::Draining => Some(DownMode::Drain),
            Begin::Killing => Some(DownMode::Kill),
        };
        let by = Arc::default();
        let wanted = mode.map(|mode| Wanted { mode, by });
        let transcripts = Transcripts::new(plugins.clone(), layout.clone());
        let allowed = &settings.mcp.directories;
        let places = Arc::new(Places::of_host(layout.root(), &settings.place, allowed));
        Self {
            engine,
            ids: Mutex::default(),
            reader: Arc::new(Reader {
                store,
                layout,
                no_host,
            }),
            plugins,
            transcripts,
            environments,
            directories: Directories::default(),
            places,
            worktrees,
            commands,
            settings,
            started_at,
            held_back,
            all_held_back,
            attempt_of,
            plain: Arc::default(),
            silences,
            watch,
            reading,
            changing: TaskTracker::new(),
            restoring: TaskTracker::new(),
            looks: Semaphore::new(LOOKS_AT_ONCE),
            scans: Arc::new(Semaphore::new(SCANS_AT_ONCE)),
            leaving: Leaving::new(wanted),
            past: KeptPast::default(),
        }
    }

    /// Reads on a thread that may block. The read sees at least the changes of all requests that
    /// were answered before.
    pub(super) async fn read<T, F>(&self, read: F) -> Result<T, AppError>
    where
        T: Send + 'static,
        F: FnOnce(&Reader) -> Result<T, AppError> + Send + 'static,
    {
        self.engine.caught_up().await;
        let reader = Arc::clone(&self.reader);
        crate::aside::run(move || read(&reader))
            .await
            .unwrap_or_else(|panic| {
                Err(AppError::new(
                    ErrorKind::Internal,
                    format!("a read failed: {panic}"),
                ))
            })
    }

    /// Reads many rows, in turn with other such reads, so that requests for a single task need not
    /// wait for a connection to the store. A read keeps its turn until it has ended, even if the
    /// client disconnects.
    pub(super) async fn read_many<T, F>(&self, read: F) -> Result<T, AppError>
    where
        T: Send + 'static,
        F: FnOnce(&Reader) -> Result<T, AppError> + Send + 'static,
    {
        let turn = self.scans.clone().acquire_owned().await;
        self.read(move |reader| {
            let _turn = turn;
            read(reader)
        })
        .await
    }

    /// Carries out work that must not be left half done, and completes it even if the client
    /// disconnects. If a change of a worktree or a checkout stopped half-way, nobody would restore
    /// a checkout in which git has failed, and other work would begin while the last git command
    /// still runs.
    pub(super) async fn seen_to<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, AppError>> + Send + 'static,
    ) -> Result<T, AppError> {
        self.changing.spawn(work).await.unwrap_or_else(|panic| {
            Err(AppError::new(
                ErrorKind::Internal,
                format!("the host has failed to carry out the request: {panic}"),
            ))
        })
    }

    /// Waits until all requests that are carried out to their ends have ended.
    pub(crate) async fn all_seen_to(&self) {
        self.changing.close();
        self.changing.wait().await;
    }

    /// The id of the task to change. A full id is returned without checking that the task exists.
    pub(super) async fn resolve(&self, reference: &TaskRef) -> Result<TaskId, AppError> {
        if let Ok(id) = reference.0.parse() {
            return Ok(id);
        }
        let reference = reference.clone();
        self.read(move |reader| reader.resolve(&reference)).await
    }

    /// The task that a keyword means for an unrestrained principal: see [`Reader::meant`].
    pub(crate) async fn meant(
        &self,
        by: &Principal,
        keyword: &str,
    ) -> Result<Option<TaskId>, AppError> {
        let (by, keyword) = (by.clone(), keyword.to_owned());
        self.read(move |reader| reader.meant(&by, &keyword)).await
    }

    pub(super) async fn task(&self, reference: &TaskRef) -> Result<Task, AppError> {
        let reference = reference.clone();
        self.read(move |reader| reader.task(&reference)).await
    }

    pub(super) async fn task_to_show(&self, reference: &TaskRef) -> Result<Task, AppError> {
        let reference = reference.clone();
        self.read(move |reader| reader.task_to_show(&reference))
            .await
    }
}

impl From<StoreError> for AppError {
    fn from(error: StoreError) -> Self {
        let kind = match &error {
            StoreError::Full { .. } => ErrorKind::StoreFull,
            StoreError::Busy { .. }
            | StoreError::ReadOnly { .. }
            | StoreError::Unreadable { .. }
            | StoreError::Overwritten { .. }
            | StoreError::Fenced { .. } => ErrorKind::Unavailable,
            StoreError::Missing { .. } => ErrorKind::Forbidden,
            _ => ErrorKind::Internal,
        };
        let hint = error.hint();
        let app = Self::new(kind, error.to_string());
        match hint {
            Some(hint) => app.hint(hint),
            None => app,
        }
    }
}

impl From<Refusal> for AppError {
    fn from(refusal: Refusal) -> Self {
        Self::new(ErrorKind::Forbidden, refusal.message).hint(refusal.hint)
    }
}

impl From<SessionError> for AppError {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::Refused(refusal) => refusal.into(),
            SessionError::Store(error) => error.into(),
        }
    }
}

impl From<EngineError> for AppError {
    fn from(error: EngineError) -> Self {
        use claudine_domain::step::Refused;
        let kind = match &error {
            EngineError::Refused(refused) => match refused {
                Refused::AlreadyDone { .. }
                | Refused::NotDone { .. }
                | Refused::NotQueued { .. }
                | Refused::NotHeld { .. }
                | Refused::GroupInUse { .. }
                | Refused::UpstreamStands { .. }
                | Refused::NothingToResume { .. }
                | Refused::NotFailedByMerge { .. }
                | Refused::OverBudget { .. }
                | Refused::IdempotencyConflict { .. } => ErrorKind::Conflict,
                Refused::HeldByOthers { .. } => ErrorKind::Forbidden,
                Refused::Unknown { .. } | Refused::NoGroup { .. } => ErrorKind::NotFound,
                Refused::TooDeep { .. }
                | Refused::TooManyDescendants { .. }
                | Refused::QueueFull { .. }
                | Refused::TooManyAttempts { .. }
                | Refused::TooManyGroups { .. }
                | Refused::TooManyDependencies { .. } => ErrorKind::Limit,
                Refused::Cycle { .. }
                | Refused::TwoConditions { .. }
                | Refused::KeyTwice { .. } => ErrorKind::Invalid,
                Refused::Moved { .. } => ErrorKind::Unavailable,
            },
            EngineError::StoreFull(_) => ErrorKind::StoreFull,
            EngineError::Store(_)
            | EngineError::Reloading(_)
            | EngineError::Draining
            | EngineError::Down
            | EngineError::Leaving
            | EngineError::NoHost => ErrorKind::Unavailable,
        };
        let app = Self {
            is_for_next_host: matches!(error, EngineError::Leaving),
            ..Self::new(kind, error.to_string())
        };
        match error {
            EngineError::Draining => app.hint("`claudine up` lifts the drain"),
            EngineError::Down | EngineError::Leaving => app.hint(
                "running tasks continue under their supervisor; try again once the host has ended",
            ),
            EngineError::NoHost => app.hint("`claudine up` starts a host"),
            EngineError::Reloading(_) => app.hint("`claudine doctor` checks the host"),
            EngineError::Refused(refused) => Self {
                hint: way_out_of(&refused),
                ..app
            },
            _ => app,
        }
    }
}

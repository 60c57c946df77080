//! What all use cases share.

use std::sync::{Arc, Mutex};

use claudine_domain::{
    id::{AttemptId, IdSequence, TaskId},
    time::Timestamp,
};
use tokio::sync::watch as watched;
use tokio_util::task::TaskTracker;

use super::{
    error::{AppError, ErrorKind},
    request::{DownMode, TaskRef},
};
use crate::{
    config::Settings,
    engine::{Engine, EngineError},
    environment::Environments,
    layout::Layout,
    plugin::Catalog,
    store::{Resolved, Store, StoreError},
    supervise::log::LogWatch,
};

/// One host: everything a use case may need.
pub(crate) struct Host {
    pub(super) engine: Engine,
    /// Where the ids of new tasks come from.
    pub(super) ids: Mutex<IdSequence>,
    pub(super) store: Arc<dyn Store>,
    pub(super) plugins: Arc<Catalog>,
    pub(super) environments: Arc<Environments>,
    pub(super) settings: Settings,
    pub(super) layout: Layout,
    pub(super) started_at: Timestamp,
    pub(super) supervisor_pids: Box<dyn Fn() -> Vec<u32> + Send + Sync>,
    pub(super) held_back: HeldBack,
    /// Tells followers that a log has grown.
    pub(super) watch: LogWatch,
    /// Readers of logs; they end with their clients.
    pub(super) reading: TaskTracker,
    /// Set once somebody has asked the host to go down; `serve` waits for it.
    pub(super) down: watched::Sender<Option<DownMode>>,
}

/// Why an attempt's output cannot be written at the moment.
pub(crate) type HeldBack = Box<dyn Fn(AttemptId) -> Option<String> + Send + Sync>;

/// What a host is made of.
pub(crate) struct HostParts {
    pub(crate) engine: Engine,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) plugins: Arc<Catalog>,
    pub(crate) environments: Arc<Environments>,
    pub(crate) settings: Settings,
    pub(crate) layout: Layout,
    pub(crate) started_at: Timestamp,
    pub(crate) supervisor_pids: Box<dyn Fn() -> Vec<u32> + Send + Sync>,
    pub(crate) held_back: HeldBack,
    pub(crate) watch: LogWatch,
}

impl Host {
    pub(crate) fn new(parts: HostParts) -> Self {
        let HostParts {
            engine,
            store,
            plugins,
            environments,
            settings,
            layout,
            started_at,
            supervisor_pids,
            held_back,
            watch,
        } = parts;
        let (down, _) = watched::channel(None);
        let reading = TaskTracker::new();
        Self {
            engine,
            ids: Mutex::default(),
            store,
            plugins,
            environments,
            settings,
            layout,
            started_at,
            supervisor_pids,
            held_back,
            watch,
            reading,
            down,
        }
    }

    /// Reads the store on a thread that may block.
    pub(super) async fn read<T, F>(&self, read: F) -> Result<T, AppError>
    where
        T: Send + 'static,
        F: FnOnce(&dyn Store) -> Result<T, StoreError> + Send + 'static,
    {
        let store = Arc::clone(&self.store);
        match tokio::task::spawn_blocking(move || read(&*store)).await {
            Ok(result) => result.map_err(AppError::from),
            Err(panic) => Err(AppError::new(
                ErrorKind::Internal,
                format!("a read of the store failed: {panic}"),
            )),
        }
    }

    /// The task a person means.
    pub(super) async fn resolve(&self, reference: &TaskRef) -> Result<TaskId, AppError> {
        if let Ok(id) = reference.0.parse() {
            return Ok(id);
        }
        let text = reference.0.clone();
        match self.read(move |store| store.resolve(&text)).await? {
            Resolved::Found(id) => Ok(id),
            Resolved::NotFound => Err(unknown(&reference.0)),
            Resolved::Ambiguous(ids) => {
                let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
                let message = format!("`{}` is the beginning of several ids", short(&reference.0));
                Err(AppError::new(ErrorKind::Ambiguous, message)
                    .hint(format!("one of: {}", ids.join(" "))))
            }
        }
    }

    /// When somebody asks the host to go down, and how.
    pub(crate) fn going_down(&self) -> watched::Receiver<Option<DownMode>> {
        self.down.subscribe()
    }
}

pub(super) fn unknown(reference: &str) -> AppError {
    AppError::new(
        ErrorKind::NotFound,
        format!("no task is called `{}` or has such an id", short(reference)),
    )
    .hint("`claudine list` shows the tasks there are")
}

fn short(text: &str) -> String {
    let mut short: String = text.chars().take(80).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

impl From<StoreError> for AppError {
    fn from(error: StoreError) -> Self {
        let kind = match &error {
            StoreError::Full { .. } => ErrorKind::StoreFull,
            StoreError::Busy { .. } | StoreError::ReadOnly { .. } | StoreError::Fenced { .. } => {
                ErrorKind::Unavailable
            }
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

impl From<EngineError> for AppError {
    fn from(error: EngineError) -> Self {
        use claudine_domain::step::Refused;
        let kind = match &error {
            EngineError::Refused(refused) => match refused {
                Refused::AlreadyDone { .. }
                | Refused::NotDone { .. }
                | Refused::IdempotencyConflict { .. } => ErrorKind::Conflict,
                Refused::Unknown { .. } => ErrorKind::NotFound,
                Refused::TooDeep { .. }
                | Refused::TooManyDescendants { .. }
                | Refused::QueueFull { .. } => ErrorKind::Limit,
            },
            EngineError::StoreFull(_) => ErrorKind::StoreFull,
            EngineError::Store(_) | EngineError::Down => ErrorKind::Unavailable,
        };
        Self::new(kind, error.to_string())
    }
}

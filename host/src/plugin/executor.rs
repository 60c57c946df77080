//! An executor: its manifest, its component (loaded when it is first needed), and the calls to it.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use tokio::sync::{OnceCell, OwnedSemaphorePermit, oneshot, watch};
use wasmtime::Store;

use super::builtin::Builtin;
use super::check::{self, Surface};
use super::engine::{Allocation, INSTANCES, Wasm};
use super::error::{Crash, GuestEnd, PluginError};
use super::grant::{Gate, Grant, Lookup};
use super::guest::{Guest, Identity, Place, Purpose};
use super::limits::{FINGERPRINT_WALL, JSON_BYTES, QUICK_CPU, QUICK_WALL, RUN_CPU};
use super::load::{CodeCache, Loaded, Uncompiled};
#[cfg(test)]
use super::port::Attrs;
use super::port::{
    AttemptHost, Authority, Draft, GuestOutcome, GuestTask, Health, Issue, Start, StopRequest,
};
use super::run::{Attempt, crash_or_error};
use super::v0_1::{ExecutorPlugin, ExecutorPluginPre};
use crate::{aside, clock, digest, fsx, lock::lock};
use claudine_plugin_build::manifest::Manifest;

/// The number of consecutive attempts with a crash after which the plugin is disabled.
const CRASHED_ATTEMPTS: u32 = 5;
/// The most issues that are shown for one document.
const ISSUES: usize = 100;
const TEXT_BYTES: usize = 4 << 10;
/// The most facts that are shown for one check of the machine.
const FACTS: usize = 100;

/// The time for which a lack of code is not looked at again, so that many requests at the same time
/// do not each run a compiler that fails.
const JUST_NOW: Duration = Duration::from_millis(200);

/// State that the executors of one host share.
pub(crate) struct Shared {
    pub(crate) cache: CodeCache,
    /// The engine, created for the first executor that is needed. So a host that only answers
    /// queries never creates it.
    wasm: Once,
    start: fn() -> Result<Wasm, PluginError>,
    /// The engine for instances beyond the pool, created when the pool is full for the first time.
    beyond: Once,
}

/// An engine that is created at most once. A passing error is not remembered: otherwise a host that
/// lacked a thread for a moment would run no plugin until it is started again.
#[derive(Default)]
struct Once {
    result: OnceLock<Result<Wasm, PluginError>>,
    /// Locked while the engine is created.
    turn: Mutex<()>,
}

impl Once {
    fn get_or_start(&self, start: fn() -> Result<Wasm, PluginError>) -> Result<&Wasm, PluginError> {
        if self.result.get().is_none() {
            let _turn = lock(&self.turn);
            if self.result.get().is_none() {
                match start() {
                    Err(error) if error.is_passing() => return Err(error),
                    result => drop(self.result.set(result)),
                }
            }
        }
        let result = self.result.get_or_init(start);
        result.as_ref().map_err(Clone::clone)
    }
}

impl Shared {
    pub(crate) fn new(cache: CodeCache, start: fn() -> Result<Wasm, PluginError>) -> Shared {
        Shared {
            cache,
            wasm: Once::default(),
            start,
            beyond: Once::default(),
        }
    }

    pub(crate) fn wasm(&self) -> Result<&Wasm, PluginError> {
        self.wasm.get_or_start(self.start)
    }

    /// The engine for the instances that the pool has no room for.
    fn beyond(&self) -> Result<&Wasm, PluginError> {
        self.beyond.get_or_start(Wasm::beyond_the_pool)
    }
}

/// The engine for one instance, with the component loaded into it.
struct Seat<'a> {
    wasm: &'a Wasm,
    loaded: &'a Loaded,
    permit: Arc<OwnedSemaphorePermit>,
}

/// Where a component is found.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    BuiltIn(&'static Builtin),
    File(std::path::PathBuf),
}

/// The crashes since the last attempt without a crash.
#[derive(Debug, Default)]
struct Crashes {
    attempts: AtomicU32,
    last: Mutex<Option<Crash>>,
}

/// Why the component could not be loaded when this was last tried.
#[derive(Debug, Clone)]
pub(crate) struct Lack {
    error: PluginError,
    /// By the clock that does not jump.
    at: Duration,
    /// Whether the engine was told of it, or of an earlier error since the code could last be had.
    is_told: bool,
}

impl Lack {
    pub(crate) fn text(&self) -> String {
        self.error.to_string()
    }
}

pub(crate) struct Executor {
    manifest: Manifest,
    grant: Grant,
    identity: Arc<Identity>,
    source: Source,
    shared: Arc<Shared>,
    loaded: OnceCell<Result<Loaded, PluginError>>,
    /// The component, loaded into the engine for instances beyond the pool.
    loaded_beyond: OnceCell<Result<Loaded, PluginError>>,
    lack: watch::Sender<Option<Lack>>,
    crashes: Crashes,
    health: Mutex<Option<Health>>,
}

impl Executor {
    pub(crate) fn new(
        manifest: Manifest,
        grant: Grant,
        config: String,
        source: Source,
        shared: Arc<Shared>,
    ) -> Executor {
        let asked = manifest
            .permissions
            .process
            .as_ref()
            .map_or(&[][..], |process| &process.commands);
        let lookup = match source {
            Source::BuiltIn(_) => Lookup::TaskPath,
            Source::File(_) => Lookup::Host,
        };
        let gate = Gate::new(&manifest.name, asked, &grant.process, lookup);
        let identity = Arc::new(Identity {
            name: manifest.name.clone(),
            config,
            gate,
        });
        Executor {
            manifest,
            grant,
            identity,
            source,
            shared,
            loaded: OnceCell::new(),
            loaded_beyond: OnceCell::new(),
            lack: watch::Sender::new(None),
            crashes: Crashes::default(),
            health: Mutex::new(None),
        }
    }

    pub(crate) fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    pub(crate) fn grant(&self) -> &Grant {
        &self.grant
    }

    /// The SHA-256 of the component.
    pub(crate) fn digest(&self) -> &str {
        &self.grant.digest
    }

    /// The result of the last check of the machine, if there was one.
    pub(crate) fn health(&self) -> Option<Health> {
        lock(&self.health).clone()
    }

    /// The reason why the plugin may not be used, if it crashed too often.
    pub(crate) fn disabled(&self) -> Option<PluginError> {
        let attempts = self.crashes.attempts.load(Ordering::Relaxed);
        let last = lock(&self.crashes.last).clone()?;
        (attempts >= CRASHED_ATTEMPTS).then_some(PluginError::Disabled { attempts, last })
    }

    /// The component, which is compiled now if it is not compiled yet. An error of the component is
    /// remembered; a passing error is not.
    pub(crate) async fn loaded(&self) -> Result<&Loaded, PluginError> {
        let wasm = self.shared.wasm().inspect_err(|error| self.note(error))?;
        let loaded = self.loaded_once(wasm, &self.loaded).await;
        // All workers come here for each attempt, and a lack is seldom there to be taken.
        if !loaded.as_ref().is_err_and(PluginError::is_lack_of_code) && self.lack.borrow().is_some()
        {
            self.lack.send_if_modified(|lack| lack.take().is_some());
        }
        loaded
    }

    /// Whether the component has been loaded, or is known to be wrong.
    pub(crate) fn has_code(&self) -> bool {
        self.loaded.initialized()
    }

    /// Notes a lack of code, unless the code was had meanwhile.
    fn note(&self, error: &PluginError) {
        if error.is_lack_of_code() && !self.loaded.initialized() {
            self.lack.send_modify(|lack| {
                let is_told = lack.as_ref().is_some_and(|earlier| earlier.is_told);
                *lack = Some(Lack {
                    error: error.clone(),
                    at: clock::monotonic(),
                    is_told,
                });
            });
        }
    }

    /// Why the code cannot be had, if it could not be had when this was last tried.
    pub(crate) fn lacks_code(&self) -> Option<PluginError> {
        self.lack.borrow().as_ref().map(|lack| lack.error.clone())
    }

    /// Notes that the engine was told of this lack, unless there is another one meanwhile.
    pub(crate) fn note_told(&self, told: &Lack) {
        self.lack.send_if_modified(|lack| {
            let same = lack.as_mut().filter(|lack| lack.at == told.at);
            same.is_some_and(|lack| !std::mem::replace(&mut lack.is_told, true))
        });
    }

    /// Why the code cannot be had, once the engine knows it: whatever a person does who was shown
    /// this reason, the engine learns it later, so it starts no task of the executor.
    pub(crate) fn told_lack(&self) -> Option<PluginError> {
        let lack = self.lack.borrow();
        let told = lack.as_ref().filter(|lack| lack.is_told);
        told.map(|lack| lack.error.clone())
    }

    /// Tells of changes: whether the code cannot be had, and why.
    pub(crate) fn lack(&self) -> watch::Receiver<Option<Lack>> {
        self.lack.subscribe()
    }

    /// Waits until the code can be had, or is known to be wrong. Somebody else must try to load it.
    pub(crate) async fn until_it_has_code(&self) {
        self.until_lack(Option::is_none).await;
    }

    /// Waits until the engine knows that the code cannot be had. Somebody else must try to load it.
    pub(crate) async fn until_lack_is_told(&self) {
        self.until_lack(|lack| lack.as_ref().is_some_and(|lack| lack.is_told))
            .await;
    }

    async fn until_lack(&self, is_so: fn(&Option<Lack>) -> bool) {
        if self.lack.subscribe().wait_for(is_so).await.is_err() {
            unreachable!("the sender is a field of self");
        }
    }

    async fn loaded_once<'a>(
        &self,
        wasm: &Wasm,
        cell: &'a OnceCell<Result<Loaded, PluginError>>,
    ) -> Result<&'a Loaded, PluginError> {
        let loaded = cell.get_or_try_init(async || {
            let lack = self.lack.borrow().clone();
            if let Some(Lack { error, at, .. }) = lack
                && clock::monotonic() < at + JUST_NOW
            {
                return Err(error);
            }
            match Box::pin(self.load(wasm)).await {
                Err(error) if error.is_passing() => {
                    self.note(&error);
                    Err(error)
                }
                result => Ok(result),
            }
        });
        loaded.await?.as_ref().map_err(Clone::clone)
    }

    /// A seat for an instance: in the pool or, if the pool is full, beyond the pool.
    async fn seat(&self) -> Result<Seat<'_>, PluginError> {
        let wasm = self.shared.wasm()?;
        if let Some(permit) = wasm.seat() {
            return Ok(Seat {
                wasm,
                loaded: self.loaded().await?,
                permit: Arc::new(permit),
            });
        }
        let full = PluginError::Full { limit: INSTANCES };
        if wasm.allocation != Allocation::Pooled {
            return Err(full);
        }
        let wasm = self.shared.beyond()?;
        let permit = wasm.seat().ok_or(full)?;
        Ok(Seat {
            wasm,
            loaded: self.loaded_once(wasm, &self.loaded_beyond).await?,
            permit: Arc::new(permit),
        })
    }

    /// Takes all seats of the pool.
    #[cfg(test)]
    pub(crate) fn fill_pool(&self) -> Result<Vec<OwnedSemaphorePermit>, PluginError> {
        let wasm = self.shared.wasm()?;
        assert_eq!(wasm.allocation, Allocation::Pooled);
        Ok(std::iter::from_fn(|| wasm.seat()).collect())
    }

    async fn load(&self, wasm: &Wasm) -> Result<Loaded, PluginError> {
        let component = match &self.source {
            Source::BuiltIn(builtin) => Uncompiled::BuiltIn(builtin),
            Source::File(path) => {
                let read_from = path.clone();
                let bytes = aside::run(move || fsx::read(&read_from))
                    .await
                    .unwrap_or_else(|error| Err(io::Error::other(error)))
                    .map_err(|error| PluginError::io(path, &error))?;
                if digest::hex(&bytes) != self.grant.digest {
                    let message =
                        "it was changed while the host was running; restart the host to use it"
                            .into();
                    return Err(PluginError::Load { message });
                }
                check::header(&bytes)?;
                Uncompiled::Read(bytes)
            }
        };
        let component = self
            .shared
            .cache
            .load(&wasm.engine, &self.manifest.name, component, self.digest())
            .await?;
        let surface = Surface::of(&wasm.engine, &component);
        surface.check()?;
        surface.check_asks(&self.manifest.permissions)?;
        let wrong_types = |error: wasmtime::Error| PluginError::WrongTypes {
            message: format!("{error:#}"),
        };
        let instance_pre = wasm
            .linker(surface.uses_wasi())
            .instantiate_pre(&component)
            .map_err(wrong_types)?;
        let pre = ExecutorPluginPre::new(instance_pre).map_err(wrong_types)?;
        Loaded::new(pre, surface).map_err(wrong_types)
    }

    /// The JSON Schema of a task's spec.
    pub(crate) async fn task_schema(&self) -> Result<String, PluginError> {
        let schema = self
            .ask(async |plugin, store| {
                plugin
                    .claudine_plugin_executor()
                    .call_task_schema(store)
                    .await
            })
            .await?;
        json_of(schema, "its task schema")
    }

    /// The faults of a spec; a task is accepted if there are none.
    #[cfg(test)]
    pub(crate) async fn validate(
        &self,
        spec: &str,
        env: &Attrs,
    ) -> Result<Vec<Issue>, PluginError> {
        let draft = Draft {
            env: env.clone(),
            ..super::fixtures::draft(spec)
        };
        let each = self.validate_each(vec![draft]).await?;
        Ok(each.into_iter().flatten().collect())
    }

    /// The faults of each draft. One instance validates all drafts, within the time limit of a
    /// single question.
    pub(crate) async fn validate_each(
        &self,
        drafts: Vec<Draft>,
    ) -> Result<Vec<Vec<Issue>>, PluginError> {
        self.ask(async |plugin, store| {
            let mut found = Vec::with_capacity(drafts.len());
            for draft in drafts {
                let asked = plugin.claudine_plugin_executor();
                let issues = asked.call_validate(&mut *store, &draft.into()).await?;
                let issues = issues.into_iter().take(ISSUES);
                found.push(issues.map(|issue| cut(issue.into())).collect());
            }
            Ok(found)
        })
        .await
    }

    /// The authority of a task with this effective spec: everything that the task can do once it
    /// runs, including the effects of the plugin's configuration and defaults. The draft must have
    /// been accepted by `validate_each`. The caller compares the authority with a ceiling:
    /// `authority.step` must be at most the ceiling's step, and the ceiling must contain every
    /// extra.
    ///
    /// There is always an answer: if the executor cannot be loaded or asked, traps, takes too long
    /// or answers in unknown words, the answer is [`Authority::full`].
    pub(crate) async fn authority(&self, draft: &Draft) -> Authority {
        let asked = self
            .ask(async |plugin, store| {
                let executor = plugin.claudine_plugin_executor();
                executor.call_authority(store, &draft.clone().into()).await
            })
            .await;
        match asked {
            Ok(authority) => authority.into(),
            Err(error) => {
                let plugin = &self.identity.name;
                tracing::warn!(
                    "the authority of a task of {plugin} is unknown and counts as full: {error}"
                );
                Authority::full()
            }
        }
    }

    /// The JSON Schema of the plugin's own configuration.
    pub(crate) async fn config_schema(&self) -> Result<String, PluginError> {
        let schema = self
            .ask(async |plugin, store| {
                plugin
                    .claudine_plugin_lifecycle()
                    .call_config_schema(store)
                    .await
            })
            .await?;
        json_of(schema, "the schema of its configuration")
    }

    /// The faults of the plugin's own configuration.
    pub(crate) async fn validate_config(&self) -> Result<Vec<Issue>, PluginError> {
        let config = &self.identity.config;
        let issues = self
            .ask(async |plugin, store| {
                plugin
                    .claudine_plugin_lifecycle()
                    .call_validate_config(store, config)
                    .await
            })
            .await?;
        Ok(issues
            .into_iter()
            .take(ISSUES)
            .map(|issue| cut(issue.into()))
            .collect())
    }

    /// Checks the machine again.
    pub(crate) async fn fingerprint(&self) -> Result<Health, PluginError> {
        let seat = self.seat().await?;
        let mut store = seat.wasm.store(Guest::new(
            Arc::clone(&self.identity),
            Purpose::Fingerprint,
            RUN_CPU,
        ));
        let waits = store.data().budget.waits();
        let call = async {
            let plugin = seat.loaded.pre.instantiate_async(&mut store).await?;
            let lifecycle = plugin.claudine_plugin_lifecycle();
            store
                .run_concurrent(async |accessor| lifecycle.call_fingerprint(accessor).await)
                .await?
        };
        let answer =
            clock::within(FINGERPRINT_WALL, seat.wasm.ticker.drive(waits, pin!(call))).await;
        let health = answer_of(&store, answer, FINGERPRINT_WALL)?;
        let health = Health::try_from(health).map_err(|message| PluginError::Answer { message })?;
        let health = cut_health(health);
        *lock(&self.health) = Some(health.clone());
        Ok(health)
    }

    /// Runs an attempt to its end; returns its outcome, or the reason why it has none.
    ///
    /// A request sent to `stop` asks the running instance to end; dropping the sender does not. If
    /// the future is dropped, the instance is dropped, but the children run on, because they belong
    /// to the host.
    pub(crate) async fn run(
        &self,
        mut task: GuestTask,
        start: Start,
        host: Arc<dyn AttemptHost>,
        stop: oneshot::Receiver<StopRequest>,
    ) -> Result<GuestOutcome, GuestEnd> {
        if let Some(disabled) = self.disabled() {
            return Err(GuestEnd::Unavailable(disabled));
        }
        let seat = self.seat().await.map_err(GuestEnd::Unavailable)?;
        let attempt = Attempt {
            wasm: seat.wasm,
            loaded: seat.loaded,
            identity: &self.identity,
            place: Arc::new(Place::of(&mut task)),
            task,
            host,
            permit: seat.permit,
        };
        let result = attempt.run(start, stop).await;
        match &result {
            Err(GuestEnd::Crashed { last, .. }) => {
                self.crashes.attempts.fetch_add(1, Ordering::Relaxed);
                *lock(&self.crashes.last) = Some(last.clone());
            }
            Err(GuestEnd::Dropped | GuestEnd::Unavailable(_)) => {}
            Ok(_) | Err(GuestEnd::Failed(_)) => self.crashes.attempts.store(0, Ordering::Relaxed),
        }
        result
    }

    /// Asks a new instance a question, and drops the instance after its answer.
    pub(super) async fn ask<T>(
        &self,
        question: impl AsyncFnOnce(&ExecutorPlugin, &mut Store<Guest>) -> wasmtime::Result<T>,
    ) -> Result<T, PluginError> {
        let seat = self.seat().await?;
        let mut store = seat.wasm.store(Guest::new(
            Arc::clone(&self.identity),
            Purpose::Question,
            QUICK_CPU,
        ));
        let waits = store.data().budget.waits();
        let call = async {
            let plugin = seat.loaded.pre.instantiate_async(&mut store).await?;
            question(&plugin, &mut store).await
        };
        let answer = clock::within(QUICK_WALL, seat.wasm.ticker.drive(waits, pin!(call))).await;
        answer_of(&store, answer, QUICK_WALL)
    }
}

fn answer_of<T>(
    store: &Store<Guest>,
    answer: Option<wasmtime::Result<T>>,
    limit: Duration,
) -> Result<T, PluginError> {
    match answer {
        Some(Ok(answer)) => Ok(answer),
        Some(Err(error)) => {
            Err(crash_or_error(store.data(), &error)
                .map_or_else(|error| error, PluginError::Crashed))
        }
        None => Err(PluginError::Slow {
            limit_ms: limit.as_millis(),
        }),
    }
}

fn json_of(text: String, what: &str) -> Result<String, PluginError> {
    if text.len() > JSON_BYTES || serde_json::from_str::<serde::de::IgnoredAny>(&text).is_err() {
        return Err(PluginError::Answer {
            message: format!("{what} is not JSON"),
        });
    }
    Ok(text)
}

fn cut(issue: Issue) -> Issue {
    Issue {
        path: cut_text(issue.path),
        message: cut_text(issue.message),
    }
}

fn cut_health(health: Health) -> Health {
    let attributes = health.attributes.into_iter().take(FACTS);
    Health {
        state: health.state,
        message: cut_text(health.message),
        attributes: attributes
            .map(|(name, value)| (cut_text(name), cut_text(value)))
            .collect(),
    }
}

fn cut_text(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(TEXT_BYTES));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    static STARTS: AtomicU32 = AtomicU32::new(0);

    fn start() -> Result<Wasm, PluginError> {
        let message = "it cannot be started".to_owned();
        match STARTS.fetch_add(1, Ordering::Relaxed) {
            0 => Err(PluginError::NoThread { message }),
            _ => Err(PluginError::Engine { message }),
        }
    }

    #[test]
    fn an_engine_that_lacked_a_thread_is_started_again_and_a_broken_one_is_not() {
        let engine = Once::default();
        let refused = || engine.get_or_start(start).err();
        assert!(matches!(refused(), Some(PluginError::NoThread { .. })));
        for _ in 0..2 {
            assert!(matches!(refused(), Some(PluginError::Engine { .. })));
        }
        assert_eq!(STARTS.load(Ordering::Relaxed), 2);
    }
}

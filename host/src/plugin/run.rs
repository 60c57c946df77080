//! Runs an attempt: one instance after another, until the executor has an outcome.
//!
//! Each instance has its own Store. wasmtime cannot cancel one of several calls in a Store, and a
//! timeout inside its event loop may not fire. So `stop` is called while `run` is pending, the
//! grace period is timed outside the Store, and an instance that does not end is ended by dropping
//! its Store, but not as long as a child may be alive: only the instance can tell what its children
//! have done. The children belong to the host and are not affected. After a crash, another instance
//! is asked to `resume` from the last checkpoint.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{OwnedSemaphorePermit, oneshot};
use wasmtime::Store;

use super::engine::Wasm;
use super::error::{Crash, GuestEnd, PluginError};
use super::guest::{Guest, Identity, Place, Purpose};
use super::limits::{JSON_BYTES, RUN_CPU, Spun};
use super::load::Loaded;
use super::port::{AttemptHost, Failure, GuestOutcome, GuestTask, LogLevel, Start, StopRequest};
use super::v0_1::executor;
use crate::clock;

/// The maximum number of times that an attempt is resumed after a crash.
const RESUMES: u32 = 3;

/// The parts needed to run an attempt.
pub(crate) struct Attempt<'a> {
    pub(crate) wasm: &'a Wasm,
    pub(crate) loaded: &'a Loaded,
    pub(crate) identity: &'a Arc<Identity>,
    pub(crate) task: GuestTask,
    pub(crate) host: Arc<dyn AttemptHost>,
    pub(crate) place: Arc<Place>,
    /// The permit for the attempt's instance. Each instance shares this permit until the instance
    /// is freed.
    pub(crate) permit: Arc<OwnedSemaphorePermit>,
}

/// How one instance ended.
enum InstanceEnd {
    Returned(Result<GuestOutcome, Failure>),
    Crashed(Crash),
    Dropped,
    Unavailable(PluginError),
}

/// A request to stop, which outlives the instances. Dropping the sender does not count as a
/// request.
struct Stop {
    request: Option<oneshot::Receiver<StopRequest>>,
    asked: bool,
}

impl Stop {
    async fn asked(&mut self) -> StopRequest {
        if let Some(request) = &mut self.request
            && let Ok(request) = request.await
        {
            self.request = None;
            self.asked = true;
            return request;
        }
        self.request = None;
        std::future::pending().await
    }
}

/// Sets a flag before the Store is dropped, so that a stream that the Store drops is not taken for
/// a stream that the guest ended.
struct SetOnDrop(Arc<AtomicBool>);

impl Drop for SetOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// An instance with its Store. The fields are dropped in this order, even if a future that holds
/// them is dropped.
struct Instance {
    _lost: SetOnDrop,
    store: Store<Guest>,
    _permit: Arc<OwnedSemaphorePermit>,
}

impl Attempt<'_> {
    pub(crate) async fn run(
        &self,
        start: Start,
        stop: oneshot::Receiver<StopRequest>,
    ) -> Result<GuestOutcome, GuestEnd> {
        let mut stop = Stop {
            request: Some(stop),
            asked: false,
        };
        let mut start = start;
        let mut checkpoint = match &start {
            Start::Fresh => Vec::new(),
            Start::Resume(state) => state.clone(),
        };
        let mut crashes = 0;
        loop {
            let (end, stored) = self.instance(start, &mut stop).await;
            if let Some(stored) = stored {
                checkpoint = stored;
            }
            let crash = match end {
                InstanceEnd::Returned(Ok(outcome)) => {
                    return check_outcome(outcome).map_err(GuestEnd::Failed);
                }
                InstanceEnd::Returned(Err(failure)) => {
                    return Err(GuestEnd::Failed(bounded_failure(failure)));
                }
                InstanceEnd::Dropped => return Err(GuestEnd::Dropped),
                InstanceEnd::Unavailable(error) => return Err(GuestEnd::Unavailable(error)),
                InstanceEnd::Crashed(crash) => crash,
            };
            crashes += 1;
            self.host.log(
                LogLevel::Error,
                &format!("plugin {} crashed: {crash}", self.identity.name),
            );
            if stop.asked || crashes > RESUMES {
                return Err(GuestEnd::Crashed {
                    times: crashes,
                    last: crash,
                });
            }
            start = Start::Resume(checkpoint.clone());
        }
    }

    /// Runs one instance; returns how it ended and the state that it stored last.
    async fn instance(&self, start: Start, stop: &mut Stop) -> (InstanceEnd, Option<Vec<u8>>) {
        let purpose = Purpose::Attempt(Arc::clone(&self.host), Arc::clone(&self.place));
        let store = self
            .wasm
            .store(Guest::new(Arc::clone(self.identity), purpose, RUN_CPU));
        let mut instance = Instance {
            _lost: SetOnDrop(Arc::clone(&store.data().lost)),
            store,
            _permit: Arc::clone(&self.permit),
        };
        let states = Arc::clone(&instance.store.data().states);
        let result = {
            let mut call = pin!(self.called(&mut instance.store, start, stop));
            let mut pump = pin!(states.pump(&*self.host));
            std::future::poll_fn(|context| {
                let called = call.as_mut().poll(context);
                // Delayed progress reports are sent while the call runs.
                if called.is_pending() {
                    let pumped = pump.as_mut().poll(context);
                    debug_assert!(pumped.is_pending(), "the pump never ends");
                }
                called
            })
            .await
        };
        states.flush(&*self.host);
        let end = Self::end_of(&mut instance.store, result);
        let checkpoint = instance.store.data_mut().checkpoint.take();
        // Freeing its memory takes as long as a short run of a guest, and no attempt waits for it.
        tokio::spawn(async move { drop(instance) });
        (end, checkpoint)
    }

    /// Runs the call; returns `None` if the guest was asked to stop and did not end in the time
    /// that it had for that.
    async fn called(
        &self,
        store: &mut Store<Guest>,
        start: Start,
        stop: &mut Stop,
    ) -> Option<wasmtime::Result<()>> {
        let waits = store.data().budget.waits();
        let (tell, told) = oneshot::channel();
        let call = pin!(self.call(store, start, told));
        let mut call = pin!(self.wasm.ticker.drive(waits, call));
        tokio::select! {
            biased;
            result = &mut call => Some(result),
            request = stop.asked() => {
                // Boxed, so that it takes memory only while an attempt is stopped.
                let given_up = Box::pin(self.time_to_stop(&request));
                // Fails if the guest has ended meanwhile and needs no request.
                drop(tell.send(request));
                tokio::select! {
                    biased;
                    result = call => Some(result),
                    () = given_up => None,
                }
            }
        }
    }

    /// Waits as long as a guest has to end after a request to stop. Time in which the host is
    /// suspended does not count: the guest must see what has happened meanwhile.
    fn time_to_stop(&self, request: &StopRequest) -> impl Future<Output = ()> + Send + use<> {
        let (grace, last_words) = (request.grace, request.last_words);
        let host = Arc::clone(&self.host);
        async move {
            let ended = async {
                host.all_ended().await;
                clock::sleep_awake(last_words).await;
            };
            tokio::join!(clock::sleep_awake(grace), ended);
        }
    }

    fn end_of(store: &mut Store<Guest>, result: Option<wasmtime::Result<()>>) -> InstanceEnd {
        let guest = store.data_mut();
        match (guest.returned.take(), result) {
            // A returned result counts, even if the guest crashed afterwards.
            (Some(returned), _) => InstanceEnd::Returned(returned),
            (None, None) => InstanceEnd::Dropped,
            (None, Some(Err(error))) => crash_or_error(guest, &error)
                .map_or_else(InstanceEnd::Unavailable, InstanceEnd::Crashed),
            (None, Some(Ok(()))) => {
                InstanceEnd::Crashed(Crash::Trap("it ended without an outcome".into()))
            }
        }
    }

    async fn call(
        &self,
        store: &mut Store<Guest>,
        start: Start,
        told: oneshot::Receiver<StopRequest>,
    ) -> wasmtime::Result<()> {
        let executor = self.loaded.executor(store).await?;
        let task = executor::Task::from(&self.task);
        store
            .run_concurrent(async |accessor| {
                call_and_stop(accessor, &executor, task, start, told).await
            })
            .await?
    }
}

/// Calls `run` or `resume`, and `stop` at the same time if a stop is requested, until no async task
/// of the guest is left.
async fn call_and_stop(
    accessor: &wasmtime::component::Accessor<Guest>,
    executor: &executor::Guest,
    task: executor::Task,
    start: Start,
    told: oneshot::Receiver<StopRequest>,
) -> wasmtime::Result<()> {
    let mut run = pin!(async {
        match start {
            Start::Fresh => executor.call_run(accessor, task).await,
            Start::Resume(state) => executor.call_resume(accessor, task, state).await,
        }
    });
    let mut stop = pin!(async {
        match told.await {
            Ok(request) => executor.call_stop(accessor, request.into()).await,
            Err(_) => std::future::pending().await,
        }
    });
    let mut stopped = false;
    let returned = loop {
        tokio::select! {
            biased;
            returned = &mut run => break returned?,
            done = &mut stop, if !stopped => {
                done?;
                stopped = true;
            }
        }
    };
    let returned = returned.map(GuestOutcome::from).map_err(Failure::from);
    accessor.with(|mut access| access.get().returned = Some(returned));
    let mut ended = pin!(std::future::poll_fn(
        |context| accessor.poll_no_interesting_tasks(context)
    ));
    loop {
        tokio::select! {
            biased;
            () = &mut ended => return Ok(()),
            done = &mut stop, if !stopped => {
                done?;
                stopped = true;
            }
        }
    }
}

/// Turns an outcome that the contract does not allow into a failure of the plugin: the task must
/// not count as a success.
fn check_outcome(mut outcome: GuestOutcome) -> Result<GuestOutcome, Failure> {
    let fault = |message: String| {
        Err(Failure::new(
            "plugin",
            format!("the contract does not allow the outcome: {message}"),
        ))
    };
    if outcome.cause.is_empty() {
        return fault("it has no cause".into());
    }
    if outcome.outputs.is_empty() {
        outcome.outputs = "{}".into();
    }
    if outcome.outputs.len() > JSON_BYTES {
        return fault(format!(
            "its outputs have {} bytes, more than 16 MiB",
            outcome.outputs.len()
        ));
    }
    if let Err(error) =
        serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&outcome.outputs)
    {
        return fault(format!("its outputs are not a JSON object: {error}"));
    }
    Ok(bounded_outcome(outcome))
}

/// The longest reason class, and the longest name of a figure or detail. All of these are stored in
/// the task's record, which is rewritten at each change.
const WORD_BYTES: usize = 64;
const FIGURES: usize = 100;

fn bounded_outcome(mut outcome: GuestOutcome) -> GuestOutcome {
    cut_word(&mut outcome.cause);
    outcome.metrics.truncate(FIGURES);
    for (name, _) in &mut outcome.metrics {
        cut_word(name);
    }
    outcome
}

fn bounded_failure(mut failure: Failure) -> Failure {
    cut_word(&mut failure.code);
    failure.extra.truncate(FIGURES);
    for (name, value) in &mut failure.extra {
        cut_word(name);
        cut_word(value);
    }
    failure
}

fn cut_word(word: &mut String) {
    word.truncate(word.floor_char_boundary(WORD_BYTES));
}

/// Attributes an error of the engine either to the guest or to the lack of a free instance.
pub(crate) fn crash_or_error(guest: &Guest, error: &wasmtime::Error) -> Result<Crash, PluginError> {
    if error.is::<wasmtime::PoolConcurrencyLimitError>() {
        return Err(PluginError::Full {
            limit: super::engine::INSTANCES,
        });
    }
    if let Some(spun) = error.downcast_ref::<Spun>() {
        return Ok(Crash::Spun(spun.to_string()));
    }
    if let Some(refused) = guest.limits.refused() {
        return Ok(Crash::Limit(refused));
    }
    let why = short(&error.root_cause().to_string());
    Ok(Crash::Trap(match &guest.last_error {
        Some(said) => format!("{why}; its last error: {said}"),
        None => why,
    }))
}

/// The first line of a message, shortened.
fn short(message: &str) -> String {
    const LONGEST: usize = 500;
    let line = message.lines().next().unwrap_or_default();
    line[..line.floor_char_boundary(LONGEST)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_figures_of_a_guest_are_bounded() {
        let failure = Failure {
            extra: vec![("x".repeat(1_000), "y".repeat(1_000)); 1_000],
            ..Failure::new(&"ä".repeat(1_000), "why")
        };
        let failure = bounded_failure(failure);
        assert_eq!(
            (failure.code.len(), failure.extra.len()),
            (WORD_BYTES, FIGURES)
        );
        let (name, value) = &failure.extra[0];
        assert_eq!((name.len(), value.len()), (WORD_BYTES, WORD_BYTES));
    }

    #[test]
    fn an_outcome_that_the_contract_does_not_allow_is_a_failure() {
        let check = |cause: &str, outputs: &str, expected: Result<&str, &str>| {
            let outcome = GuestOutcome {
                cause: cause.into(),
                code: None,
                signal: None,
                summary: String::new(),
                outputs: outputs.into(),
                retry_after: None,
                metrics: Vec::new(),
            };
            match (check_outcome(outcome), expected) {
                (Ok(outcome), Ok(outputs)) => assert_eq!(outcome.outputs, outputs),
                (Err(failure), Err(part)) => assert!(failure.message.contains(part), "{failure:?}"),
                (result, _) => assert_eq!(result.is_ok(), expected.is_ok(), "{result:?}"),
            }
        };
        check("success", "", Ok("{}"));
        check("exit", r#"{"result": "x"}"#, Ok(r#"{"result": "x"}"#));
        check("success", "[1]", Err("not a JSON object"));
        check("success", "{", Err("not a JSON object"));
        check("", "{}", Err("no cause"));
    }
}

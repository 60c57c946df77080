//! The layer between the contract's functions and an [`Executor`].
//!
//! If a document does not match its type, a function that returns issues returns an issue, and
//! other functions return a failure of class `invalid`.

use std::any::Any;
use std::cell::OnceCell;
use std::marker::PhantomData;
use std::rc::Rc;

use crate::bindings::claudine::plugin::types::{Failure, Issue, Outcome};
use crate::bindings::exports::claudine::plugin::{executor, lifecycle};
use crate::{Authority, Ctx, Draft, Executor, StopRequest, Task, parse, stop};

/// Makes a plugin of an executor by exporting the contract's functions. Call it once in a crate
/// whose `crate-type` is `cdylib`.
///
/// The macro has an effect only on WebAssembly, so that the crate's unit tests build for the
/// machine they run on.
#[macro_export]
macro_rules! export {
    ($executor:ty) => {
        #[doc(hidden)]
        #[allow(dead_code, reason = "other targets export nothing")]
        type ClaudinePlugin = $crate::Glue<$executor>;

        #[cfg(target_arch = "wasm32")]
        $crate::bindings::export!(ClaudinePlugin with_types_in $crate::bindings);
    };
}

/// Implements the contract's functions for an executor.
pub struct Glue<E>(PhantomData<E>);

thread_local! {
    static INSTANCE: OnceCell<Rc<dyn Any>> = const { OnceCell::new() };
}

/// The executor of this instance, made by the first call.
fn instance<E: Executor>() -> Rc<E> {
    let instance = INSTANCE.with(|cell| {
        let made = cell.get_or_init(|| {
            report_panics();
            Rc::new(E::default())
        });
        Rc::clone(made)
    });
    // A component has one executor, so the type always matches. If it did not, a new executor would
    // also be correct.
    instance
        .downcast()
        .unwrap_or_else(|_| Rc::new(E::default()))
}

/// Writes each panic to the log, because the trap that follows has no text.
fn report_panics() {
    std::panic::set_hook(Box::new(|panic| crate::error!("{panic}")));
}

impl<E: Executor> lifecycle::Guest for Glue<E> {
    fn config_schema() -> String {
        E::config_schema().to_owned()
    }

    fn validate_config(config: String) -> Vec<Issue> {
        match parse(&config) {
            Ok(config) => E::validate_config(&config)
                .into_iter()
                .map(Issue::from)
                .collect(),
            Err(issue) => vec![issue.into()],
        }
    }

    async fn fingerprint() -> lifecycle::Health {
        report_panics();
        E::fingerprint().await.into()
    }
}

impl<E: Executor> executor::Guest for Glue<E> {
    fn task_schema() -> String {
        E::task_schema().to_owned()
    }

    fn validate(draft: executor::Draft) -> Vec<Issue> {
        match parse(&draft.spec) {
            Ok(spec) => E::validate(&Draft::new(draft, spec))
                .into_iter()
                .map(Issue::from)
                .collect(),
            Err(issue) => vec![issue.into()],
        }
    }

    /// An unreadable document counts as full authority, because its limits are unknown.
    fn authority(draft: executor::Draft) -> executor::Reach {
        let authority = match parse(&draft.spec) {
            Ok(spec) => E::authority(&Draft::new(draft, spec)),
            Err(_) => Authority::full(),
        };
        authority.into()
    }

    fn transcript(bytes: Vec<u8>, state: Vec<u8>) -> executor::Reading {
        E::transcript(&bytes, &state).into()
    }

    async fn run(task: executor::Task) -> Result<Outcome, Failure> {
        let task = typed::<E>(task)?;
        let outcome = instance::<E>().run(task, Ctx::new()).await?;
        Ok(outcome.into())
    }

    async fn resume(task: executor::Task, state: Vec<u8>) -> Result<Outcome, Failure> {
        let task = typed::<E>(task)?;
        let outcome = instance::<E>().resume(task, state, Ctx::new()).await?;
        Ok(outcome.into())
    }

    async fn stop(request: executor::StopRequest) {
        let request = StopRequest::from(request);
        stop::announce(request);
        instance::<E>().stop(request, Ctx::new()).await;
    }
}

fn typed<E: Executor>(task: executor::Task) -> Result<Task<E::Spec>, Failure> {
    match parse(&task.spec) {
        Ok(spec) => Ok(Task::new(task, spec)),
        Err(issue) => Err(crate::Failure::from(issue).into()),
    }
}

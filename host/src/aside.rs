//! Work on threads that may block. If no thread can be started, `tokio::task::spawn_blocking` lets
//! the work wait for one of the threads that are busy with other work. If there is none, it panics.
//! Here, this is an error instead, and the work is not done later either.

use std::{
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, ready},
};

use tokio::{
    runtime::Handle,
    task::{JoinError, JoinHandle},
};

use crate::{lock::lock, panics};

/// Work that was begun, or that was refused. It goes on if this is dropped.
#[derive(Debug)]
pub(crate) enum Aside<T> {
    Begun(JoinHandle<Option<T>>),
    Refused,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum AsideError {
    #[error(
        "no further thread can be started: the limit of this user (`ulimit -u`) or of a cgroup (`pids.max`) is reached, or too little memory is free"
    )]
    NoThread,
    /// The work panicked, or the runtime has ended.
    #[error(transparent)]
    Failed(#[from] JoinError),
}

/// Begins work on a thread that may block. To be called within a runtime.
pub(crate) fn run<T, F>(work: F) -> Aside<T>
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    let work = Arc::new(Mutex::new(Some(work)));
    let theirs = Arc::clone(&work);
    // Outside of a runtime, this panics for another reason.
    let runtime = Handle::current();
    // The runtime holds no lock when it panics, and can be used on.
    let begun = panics::caught(|| {
        runtime.spawn_blocking(move || {
            let work = lock(&theirs).take();
            work.map(|work| work())
        })
    });
    begun.map_or_else(
        |_| {
            // The runtime has queued the work before it looked for a thread, and would begin it
            // with the next thread, although the caller has got an error.
            drop(lock(&work).take());
            Aside::Refused
        },
        Aside::Begun,
    )
}

impl<T> Aside<T> {
    pub(crate) fn is_refused(&self) -> bool {
        matches!(self, Self::Refused)
    }
}

impl<T> Future for Aside<T> {
    type Output = Result<T, AsideError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(match self.get_mut() {
            Self::Begun(work) => match ready!(Pin::new(work).poll(context)) {
                Ok(done) => done.ok_or(AsideError::NoThread),
                Err(error) => Err(error.into()),
            },
            Self::Refused => Err(AsideError::NoThread),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn work_for_which_no_thread_can_be_started_is_refused_and_never_done() {
        // No machine has room for such a stack.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .thread_stack_size(1 << 60)
            .build()
            .unwrap();
        let (tell, told) = mpsc::channel();
        let refused = runtime.block_on(async { run(move || tell.send(())).await.map(drop) });
        assert!(matches!(refused, Err(AsideError::NoThread)), "{refused:?}");
        assert!(told.recv().is_err(), "the work was done");
    }

    #[tokio::test]
    async fn a_panic_of_the_work_is_an_error() {
        let done = run(|| 1).await;
        assert!(matches!(done, Ok(1)), "{done:?}");
        let failed = run(|| assert!(std::hint::black_box(false))).await;
        assert!(matches!(failed, Err(AsideError::Failed(_))), "{failed:?}");
    }
}

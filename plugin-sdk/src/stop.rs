//! Requests to stop an attempt, passed from the export `stop` to the code that waits in `run`.

use std::cell::RefCell;
use std::future::Future;
use std::task::{Poll, Waker};
use std::time::Duration;

use crate::bindings::exports::claudine::plugin::executor as wit;

/// Reason for a stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StopReason {
    /// The attempt was cancelled.
    Cancelled,
    /// A time limit of the attempt has passed.
    TimedOut,
    /// A reason that is newer than this crate.
    Other,
}

/// A request to stop the attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StopRequest {
    /// Reason of the stop.
    pub reason: StopReason,
    /// Time until the instance is dropped, at least: it is not dropped as long as a child of it may
    /// be alive, nor shortly after its end.
    pub grace: Duration,
}

impl From<wit::StopRequest> for StopRequest {
    fn from(request: wit::StopRequest) -> Self {
        let reason = match request.reason.as_str() {
            "cancelled" => StopReason::Cancelled,
            "timed_out" => StopReason::TimedOut,
            _ => StopReason::Other,
        };
        Self {
            reason,
            grace: Duration::from_millis(request.grace_ms),
        }
    }
}

/// State of the thread, and so of the attempt, because an instance runs only one attempt.
#[derive(Default)]
struct State {
    request: Option<StopRequest>,
    waiting: Vec<Waker>,
}

thread_local! {
    static STATE: RefCell<State> = RefCell::default();
}

/// Stores the request and wakes everything that waits for a request.
pub(crate) fn announce(request: StopRequest) {
    let waiting = STATE.with_borrow_mut(|state| {
        state.request = Some(request);
        std::mem::take(&mut state.waiting)
    });
    for waker in waiting {
        waker.wake();
    }
}

pub(crate) fn requested() -> Option<StopRequest> {
    STATE.with_borrow(|state| state.request)
}

pub(crate) fn wait() -> impl Future<Output = StopRequest> {
    std::future::poll_fn(|context| {
        STATE.with_borrow_mut(|state| {
            if let Some(request) = state.request {
                return Poll::Ready(request);
            }
            if !state
                .waiting
                .iter()
                .any(|waker| waker.will_wake(context.waker()))
            {
                state.waiting.push(context.waker().clone());
            }
            Poll::Pending
        })
    })
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Wake};

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn stop_request_wakes_a_waiter_once_and_later_waits_return_at_once() {
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        let mut context = Context::from_waker(&waker);
        let mut waiting = pin!(wait());
        assert!(waiting.as_mut().poll(&mut context).is_pending());
        assert!(waiting.as_mut().poll(&mut context).is_pending());
        assert_eq!(requested(), None);

        let request = StopRequest {
            reason: StopReason::Cancelled,
            grace: Duration::from_secs(5),
        };
        announce(request);
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        assert_eq!(waiting.as_mut().poll(&mut context), Poll::Ready(request));
        assert_eq!(pin!(wait()).poll(&mut context), Poll::Ready(request));
        assert_eq!(requested(), Some(request));
    }
}

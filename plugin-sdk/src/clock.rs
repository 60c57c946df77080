//! Time. An instance has no other clock.

use std::future::Future;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use crate::bindings::claudine::plugin::clock as wit;
use crate::failure::milliseconds;

/// Wall time since 1970-01-01T00:00:00Z. It may jump.
pub fn now() -> Duration {
    Duration::from_millis(wit::now())
}

/// Time since an arbitrary start. It never goes back, and stands still while the machine is
/// suspended. A restart of the host changes the start: do not keep it in a checkpoint.
pub fn monotonic() -> Duration {
    Duration::from_millis(wit::monotonic())
}

/// Waits for this time, but at most 24 hours.
pub async fn sleep(duration: Duration) {
    wit::sleep(milliseconds(duration)).await;
}

/// The result of `future`, or `None` if `limit` passes first. In that case the future is dropped.
pub async fn timeout<F: Future>(limit: Duration, future: F) -> Option<F::Output> {
    match race(future, sleep(limit)).await {
        Either::First(output) => Some(output),
        Either::Second(()) => None,
    }
}

/// Result of the future that was ready first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Either<A, B> {
    /// Result of the first future.
    First(A),
    /// Result of the second future.
    Second(B),
}

/// Waits until one of two futures is ready, and drops the other. If both are ready, the first one's
/// result is returned.
pub async fn race<A: Future, B: Future>(first: A, second: B) -> Either<A::Output, B::Output> {
    let (mut first, mut second) = (pin!(first), pin!(second));
    std::future::poll_fn(|context| {
        if let Poll::Ready(output) = first.as_mut().poll(context) {
            return Poll::Ready(Either::First(output));
        }
        second.as_mut().poll(context).map(Either::Second)
    })
    .await
}

//! Limits the large answers: how many are built at the same time, and how many bytes of built
//! answers wait until their clients read them.
//!
//! Without the first limit, the reads for lists would use all connections to the store, and
//! requests for a single task would wait for them. Without the second, clients that do not read
//! would let the host's memory grow.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    extract::FromRequestParts,
    http::{header::CONTENT_TYPE, request::Parts},
    response::{IntoResponse, Response},
};
use hyper::body::Bytes;
use serde::Serialize;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::answer::Refusal;
use crate::{
    app::{AppError, ErrorKind},
    aside, clock,
    lock::lock,
};

/// Number of large answers of each kind that are built at the same time.
const AT_ONCE: usize = 4;
/// Limit of the bytes of answers that are built and not yet sent.
const UNSENT_BYTES: usize = 32 << 20;
/// Time that a client has to read its answer if another answer waits for the room. A client reads
/// the largest page in milliseconds.
const READ_WITHIN: Duration = Duration::from_millis(if cfg!(test) { 100 } else { 5_000 });
/// Time for a connection that was cut off to free its room before the next one is cut off.
const FREED_WITHIN: Duration = Duration::from_millis(20);

#[derive(Clone)]
pub(super) struct Pages {
    /// Permits for answers that are read from many rows of the store.
    rows: Arc<Semaphore>,
    /// Permits for answers that are read from the output of tasks, which may take longer.
    output: Arc<Semaphore>,
    room: Arc<Room>,
}

impl Default for Pages {
    fn default() -> Self {
        Self::new(UNSENT_BYTES)
    }
}

impl Pages {
    fn new(unsent_bytes: usize) -> Self {
        let turns = || Arc::new(Semaphore::new(AT_ONCE));
        Self {
            rows: turns(),
            output: turns(),
            room: Arc::new(Room::new(unsent_bytes)),
        }
    }

    /// Builds an answer from many rows in its turn. An answer that was begun is built to its end
    /// even if the client disconnects, because the reads of the store go on too: clients that
    /// disconnect at once must not begin any number of reads.
    pub(super) async fn rows<T: Serialize + Send + 'static>(
        &self,
        cut: &Cut,
        building: impl Future<Output = Result<T, AppError>> + Send + 'static,
    ) -> Result<Response, Refusal> {
        let turn = self.rows.clone().acquire_owned().await;
        let (room, cut) = (self.room.clone(), cut.clone());
        let built = tokio::spawn(async move {
            let _turn = turn;
            room.built(&cut, building).await
        });
        built.await.unwrap_or_else(|panic| {
            let message = format!("the host has failed to read the answer: {panic}");
            Err(AppError::new(ErrorKind::Internal, message).into())
        })
    }

    /// Builds an answer from the output of a task in its turn.
    pub(super) async fn output<T: Serialize + Send + 'static>(
        &self,
        cut: &Cut,
        building: impl Future<Output = Result<T, AppError>>,
    ) -> Result<Response, Refusal> {
        let _turn = self.output.acquire().await;
        self.room.built(cut, building).await
    }
}

/// The bytes of answers that are built and not yet sent.
struct Room {
    bytes: usize,
    /// A permit for each byte.
    free: Arc<Semaphore>,
    unsent: Mutex<List>,
}

/// The unsent answers by their age, the oldest first, each with the time since which it is unsent.
#[derive(Default)]
struct List {
    last: u64,
    by_age: BTreeMap<u64, (Duration, Cut)>,
}

impl Room {
    fn new(bytes: usize) -> Self {
        Self {
            bytes,
            free: Arc::new(Semaphore::new(bytes)),
            unsent: Mutex::default(),
        }
    }

    /// Builds an answer and waits for room for it.
    async fn built<T: Serialize + Send + 'static>(
        self: &Arc<Self>,
        cut: &Cut,
        building: impl Future<Output = Result<T, AppError>>,
    ) -> Result<Response, Refusal> {
        let answer = building.await?;
        // Writing a large answer takes too long for a thread on which other requests wait.
        let written = aside::run(move || serde_json::to_vec(&answer)).await;
        let failed = |error: &dyn std::error::Error| {
            let message = format!("the answer cannot be written as JSON: {error}");
            Refusal(AppError::new(ErrorKind::Internal, message))
        };
        let bytes = written.map_err(|error| failed(&error))?;
        let bytes = bytes.map_err(|error| failed(&error))?;
        let unsent = Bytes::from_owner(self.enter(bytes, cut).await);
        Ok(([(CONTENT_TYPE, "application/json")], unsent).into_response())
    }

    /// Waits for room for an answer. If there is none, cuts off the clients that have not read
    /// their answers in time, the longest waiting first.
    async fn enter(self: &Arc<Self>, bytes: Vec<u8>, cut: &Cut) -> Unsent {
        // An answer that is larger than the whole room waits until the room is empty.
        let permits = u32::try_from(bytes.len().min(self.bytes)).unwrap_or(u32::MAX);
        let entered = self.free.clone().acquire_many_owned(permits);
        tokio::pin!(entered);
        let permit = loop {
            tokio::select! {
                biased;
                permit = &mut entered => break permit.ok(),
                () = self.cut_one_off() => {}
            }
        };
        let mut unsent = lock(&self.unsent);
        unsent.last += 1;
        let number = unsent.last;
        let since = clock::monotonic();
        unsent.by_age.insert(number, (since, cut.clone()));
        drop(unsent);
        Unsent {
            bytes,
            number,
            room: self.clone(),
            _permit: permit,
        }
    }

    /// Cuts off the client whose answer is the oldest, if its time is over. Otherwise waits until
    /// it may be over.
    async fn cut_one_off(&self) {
        let oldest = lock(&self.unsent)
            .by_age
            .first_key_value()
            .map(|(number, (since, _))| (*number, *since));
        let Some((number, since)) = oldest else {
            return clock::sleep(FREED_WITHIN).await;
        };
        let left = (since + READ_WITHIN).saturating_sub(clock::monotonic());
        if !left.is_zero() {
            return clock::sleep(left).await;
        }
        let late = lock(&self.unsent).by_age.remove(&number);
        if let Some((_, cut)) = late {
            cut.0.notify_one();
        }
        clock::sleep(FREED_WITHIN).await;
    }
}

/// The bytes of an answer. They are dropped once the connection has sent them, or has ended.
struct Unsent {
    bytes: Vec<u8>,
    number: u64,
    room: Arc<Room>,
    /// `None` only if the semaphore is closed, which never happens.
    _permit: Option<OwnedSemaphorePermit>,
}

impl AsRef<[u8]> for Unsent {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Unsent {
    fn drop(&mut self) {
        lock(&self.room.unsent).by_age.remove(&self.number);
    }
}

/// Cuts off the client of a connection. The listener adds it to the requests of each connection; a
/// connection within this process is not cut off.
#[derive(Clone, Default)]
pub(super) struct Cut(Arc<Notify>);

impl Cut {
    /// Resolves when the client is to be cut off.
    pub(super) async fn told(&self) {
        self.0.notified().await;
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Cut {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get::<Self>().cloned().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::{
        future::{Ready, ready},
        sync::atomic::{AtomicUsize, Ordering},
    };

    use futures_util::future::join_all;

    use super::*;

    /// A text whose JSON has this many bytes.
    fn text(json_bytes: usize) -> Ready<Result<String, AppError>> {
        ready(Ok("x".repeat(json_bytes - 2)))
    }

    #[tokio::test]
    async fn only_some_large_answers_are_built_at_the_same_time() {
        let pages = Pages::default();
        let building = Arc::new(AtomicUsize::new(0));
        let answers = (0..AT_ONCE * 3).map(|_| {
            let building = building.clone();
            let cut = Cut::default();
            let pages = &pages;
            async move {
                let build = async move {
                    let now = building.fetch_add(1, Ordering::Relaxed) + 1;
                    for _ in 0..10 {
                        tokio::task::yield_now().await;
                    }
                    building.fetch_sub(1, Ordering::Relaxed);
                    Ok(now)
                };
                pages.rows(&cut, build).await.unwrap().into_body()
            }
        });
        let mut most: usize = 0;
        for body in join_all(answers).await {
            let json = axum::body::to_bytes(body, 100).await.unwrap();
            most = most.max(serde_json::from_slice(&json).unwrap());
        }
        assert_eq!(most, AT_ONCE);
    }

    #[tokio::test]
    async fn a_large_answer_of_a_client_that_left_keeps_its_turn_until_it_is_built() {
        let pages = Pages::default();
        let cut = Cut::default();
        let (tell, told) = tokio::sync::oneshot::channel::<()>();
        let build = async move {
            told.await.ok();
            Ok(())
        };
        let left = clock::within(Duration::from_millis(20), pages.rows(&cut, build)).await;
        assert!(left.is_none());
        assert_eq!(pages.rows.available_permits(), AT_ONCE - 1);
        tell.send(()).unwrap();
        let all = u32::try_from(AT_ONCE).unwrap();
        drop(pages.rows.acquire_many(all).await.unwrap());
    }

    #[tokio::test]
    async fn an_answer_that_is_not_read_is_cut_off_once_another_answer_needs_its_room() {
        let pages = Pages::new(100);
        let [unread, other] = [Cut::default(), Cut::default()];
        let kept = pages.output(&unread, text(80)).await.unwrap();
        // A small answer has room beside it.
        drop(pages.output(&other, text(20)).await.unwrap());
        let mut next = std::pin::pin!(pages.output(&other, text(500)));
        tokio::select! {
            _ = &mut next => panic!("there was no room for this answer"),
            () = unread.told() => {}
        }
        let early = clock::within(FREED_WITHIN, next.as_mut()).await;
        assert!(early.is_none(), "the first answer was still kept");
        drop(kept);
        let answer = next.await.unwrap();
        assert_eq!(pages.room.free.available_permits(), 0);
        // The room is taken as long as the bytes are, not as long as the body.
        let bytes = axum::body::to_bytes(answer.into_body(), 500).await.unwrap();
        assert_eq!((bytes.len(), pages.room.free.available_permits()), (500, 0));
        drop(bytes);
        assert_eq!(pages.room.free.available_permits(), 100);
        assert!(lock(&pages.room.unsent).by_age.is_empty());
        assert!(clock::within(FREED_WITHIN, other.told()).await.is_none());
    }
}

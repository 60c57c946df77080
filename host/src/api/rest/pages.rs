//! Limits the large answers: how many are built at the same time, and how many bytes of built
//! answers wait until their clients read them.
//!
//! Without the first limit, the reads for lists would use all connections to the store, and
//! requests for a single task would wait for them. Without the second, clients that do not read
//! would let the host's memory grow.
//!
//! Each kind of answers has limits of its own. The last lines of a task, which every `status`
//! shows, are another kind than much output, so that a few requests for much output do not delay
//! them.

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
use futures_util::future::BoxFuture;
use hyper::body::Bytes;
use serde::Serialize;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::answer::Refusal;
use crate::{
    app::{AppError, ErrorKind, Reach},
    aside, clock,
    lock::lock,
};

/// Number of large answers of each kind that are built at the same time.
const AT_ONCE: usize = 4;
/// Limit of the bytes of answers of each kind that are built and not yet sent.
const UNSENT_BYTES: usize = 32 << 20;
/// The part of these bytes that answers from little output have.
const NEAR_PART: usize = 4;
/// Time that a client has to read its answer if another answer waits for the room. A client reads
/// the largest page in milliseconds.
const READ_WITHIN: Duration = Duration::from_millis(if cfg!(test) { 100 } else { 5_000 });
/// Time for a connection that was cut off to free its room before the next one is cut off.
const FREED_WITHIN: Duration = Duration::from_millis(20);

#[derive(Clone)]
pub(super) struct Pages {
    /// Answers that are read from many rows of the store.
    rows: Lane,
    /// Answers that are read from little output of a task.
    near: Lane,
    /// Answers that are read from much output of a task, which may take longer.
    far: Lane,
}

impl Default for Pages {
    fn default() -> Self {
        Self::new(UNSENT_BYTES)
    }
}

impl Pages {
    fn new(unsent_bytes: usize) -> Self {
        Self {
            rows: Lane::new(unsent_bytes),
            near: Lane::new(unsent_bytes / NEAR_PART),
            far: Lane::new(unsent_bytes),
        }
    }

    /// Builds an answer from many rows in its turn.
    pub(super) async fn rows<T: Serialize + Send + 'static>(
        &self,
        cut: &Cut,
        building: impl Future<Output = Result<T, AppError>> + Send + 'static,
    ) -> Result<Response, Refusal> {
        let building = Box::pin(async move { building.await.map(Some) });
        let built = self.rows.built(cut, building).await?;
        built.ok_or_else(nothing_built)
    }

    /// Builds an answer from the output of a task. If little has to be read for it, it waits only
    /// for other such answers; otherwise also for those for which much is read. The build returns
    /// `None` if its reach is not enough.
    pub(super) async fn output<T: Serialize + Send + 'static>(
        &self,
        cut: &Cut,
        build: impl Fn(Reach) -> BoxFuture<'static, Result<Option<T>, AppError>> + Send + Sync,
    ) -> Result<Response, Refusal> {
        if let Some(built) = self.near.built(cut, build(Reach::Near)).await? {
            return Ok(built);
        }
        let built = self.far.built(cut, build(Reach::Far)).await?;
        built.ok_or_else(nothing_built)
    }
}

/// Never happens, because rows and a far reach always give an answer.
fn nothing_built() -> Refusal {
    let message = "the host has read nothing for the answer";
    Refusal(AppError::new(ErrorKind::Internal, message))
}

/// Answers of one kind: only some are built at the same time, and only some wait unsent.
#[derive(Clone)]
struct Lane {
    turns: Arc<Semaphore>,
    room: Arc<Room>,
}

impl Lane {
    fn new(unsent_bytes: usize) -> Self {
        Self {
            turns: Arc::new(Semaphore::new(AT_ONCE)),
            room: Arc::new(Room::new(unsent_bytes)),
        }
    }

    /// Builds an answer in its turn. An answer that was begun is built to its end even if the
    /// client disconnects, because the reads of the store and of logs go on too: clients that
    /// disconnect at once must not begin any number of reads. `None` if nothing was built.
    async fn built<T: Serialize + Send + 'static>(
        &self,
        cut: &Cut,
        building: BoxFuture<'static, Result<Option<T>, AppError>>,
    ) -> Result<Option<Response>, Refusal> {
        let turn = self.turns.clone().acquire_owned().await;
        let (room, cut) = (self.room.clone(), cut.clone());
        let built = tokio::spawn(async move {
            let _turn = turn;
            match building.await? {
                Some(answer) => room.built(&cut, answer).await.map(Some),
                None => Ok(None),
            }
        });
        built.await.unwrap_or_else(|panic| {
            let message = format!("the host has failed to read the answer: {panic}");
            Err(AppError::new(ErrorKind::Internal, message).into())
        })
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

    /// Writes an answer and waits for room for it.
    async fn built<T: Serialize + Send + 'static>(
        self: &Arc<Self>,
        cut: &Cut,
        answer: T,
    ) -> Result<Response, Refusal> {
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
        assert_eq!(pages.rows.turns.available_permits(), AT_ONCE - 1);
        tell.send(()).unwrap();
        let all = u32::try_from(AT_ONCE).unwrap();
        drop(pages.rows.turns.acquire_many(all).await.unwrap());
    }

    /// An answer from output, of which this reach is enough.
    fn within(reach: Reach) -> impl Fn(Reach) -> BoxFuture<'static, Result<Option<u32>, AppError>> {
        move |tried| {
            let is_enough = tried == reach || tried == Reach::Far;
            Box::pin(ready(Ok(is_enough.then_some(1))))
        }
    }

    #[tokio::test]
    async fn an_answer_from_little_output_does_not_wait_for_those_from_much_output() {
        let pages = Pages::default();
        let cut = Cut::default();
        let (held, room) = (&pages.far.turns, &pages.far.room.free);
        let all = u32::try_from(AT_ONCE).unwrap();
        let turns = held.acquire_many(all).await.unwrap();
        let all = u32::try_from(UNSENT_BYTES).unwrap();
        let bytes = room.acquire_many(all).await.unwrap();
        pages.output(&cut, within(Reach::Near)).await.unwrap();
        let mut far = std::pin::pin!(pages.output(&cut, within(Reach::Far)));
        let early = clock::within(Duration::from_millis(20), far.as_mut()).await;
        assert!(early.is_none(), "there was no turn for this answer");
        drop((turns, bytes));
        far.await.unwrap();
    }

    #[tokio::test]
    async fn an_answer_from_much_output_keeps_its_turn_although_its_client_left() {
        let pages = Pages::default();
        let cut = Cut::default();
        let held = Arc::new(Notify::new());
        let build = |reach: Reach| -> BoxFuture<'static, Result<Option<u32>, AppError>> {
            let held = held.clone();
            Box::pin(async move {
                if reach == Reach::Near {
                    return Ok(None);
                }
                held.notified().await;
                Ok(Some(1))
            })
        };
        let left = clock::within(Duration::from_millis(20), pages.output(&cut, build)).await;
        assert!(left.is_none());
        assert_eq!(pages.near.turns.available_permits(), AT_ONCE);
        assert_eq!(pages.far.turns.available_permits(), AT_ONCE - 1);
        held.notify_one();
        let all = u32::try_from(AT_ONCE).unwrap();
        drop(pages.far.turns.acquire_many(all).await.unwrap());
    }

    #[tokio::test]
    async fn an_answer_that_is_not_read_is_cut_off_once_another_answer_needs_its_room() {
        let pages = Pages::new(100);
        let [unread, other] = [Cut::default(), Cut::default()];
        let kept = pages.rows(&unread, text(80)).await.unwrap();
        // A small answer has room beside it.
        drop(pages.rows(&other, text(20)).await.unwrap());
        let mut next = std::pin::pin!(pages.rows(&other, text(500)));
        tokio::select! {
            _ = &mut next => panic!("there was no room for this answer"),
            () = unread.told() => {}
        }
        let early = clock::within(FREED_WITHIN, next.as_mut()).await;
        assert!(early.is_none(), "the first answer was still kept");
        drop(kept);
        let answer = next.await.unwrap();
        assert_eq!(pages.rows.room.free.available_permits(), 0);
        // The room is taken as long as the bytes are, not as long as the body.
        let bytes = axum::body::to_bytes(answer.into_body(), 500).await.unwrap();
        assert_eq!(
            (bytes.len(), pages.rows.room.free.available_permits()),
            (500, 0)
        );
        drop(bytes);
        assert_eq!(pages.rows.room.free.available_permits(), 100);
        assert!(lock(&pages.rows.room.unsent).by_age.is_empty());
        assert!(clock::within(FREED_WITHIN, other.told()).await.is_none());
    }
}

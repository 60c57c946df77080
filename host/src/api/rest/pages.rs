//! Limits the large answers: how many are built at the same time, and how many bytes of built
//! answers wait until their clients read them.
//!
//! Without the first limit, the reads for lists would use all connections to the store, and
//! requests for a single task would wait for them. Without the second, clients that do not read
//! would let the host's memory grow.
//!
//! Each kind of answers has limits of its own. The last lines of a task, which every `status`
//! shows, are another kind than much output, so that a few requests for much output do not delay
//! them. Small answers need no room.
//!
//! The results of an action on many tasks wait for room too, but only after the action, and not
//! while the host goes down: an action that was carried out must not look as if it had failed.

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
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    task::JoinError,
};

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
/// The part of these bytes that the results of each kind of actions have.
const ACTED_PART: usize = 2;
/// Size up to which an answer needs no room, because it takes no more memory than the buffer of its
/// connection. Without room for such answers, the last lines of a task would wait until clients
/// that do not read have been cut off.
const SMALL_BYTES: usize = 64 << 10;
/// The greatest part of a room that a small answer may have.
const SMALL_PART: usize = 128;
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
    /// Results of actions of the owner, and of restrained principals.
    acted: [ActedLanes; 2],
}

/// Results of actions on many tasks.
#[derive(Clone)]
struct ActedLanes {
    /// Results of cancels, holds and releases, each of which is one step.
    quick: Lane,
    /// Results of retries and resumptions, which are done one after the other.
    long: Lane,
}

/// An action on many tasks: who asks for it, and whether it takes long.
#[derive(Clone, Copy, Debug)]
pub(super) struct Acting {
    pub(super) is_restrained: bool,
    pub(super) is_long: bool,
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
            acted: [(); 2].map(|()| ActedLanes {
                quick: Lane::new(unsent_bytes / ACTED_PART),
                long: Lane::new(unsent_bytes / ACTED_PART),
            }),
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
        if let Some(built) = self.near.built_again(cut, || build(Reach::Near)).await? {
            return Ok(built);
        }
        let built = self.far.built(cut, build(Reach::Far)).await?;
        built.ok_or_else(nothing_built)
    }

    /// Acts on many tasks in its turn, and answers with the results. A client that does not read
    /// its results delays only others of its kind. An action that was begun is carried out to its
    /// end even if the client disconnects. Once `host_ends` has completed, the results do not wait
    /// for room.
    pub(super) async fn acted<T: Serialize + Send + 'static>(
        &self,
        cut: &Cut,
        who: Acting,
        host_ends: impl Future<Output = ()> + Send + 'static,
        acting: BoxFuture<'static, Result<T, AppError>>,
    ) -> Result<Response, Refusal> {
        let [owner, restrained] = &self.acted;
        let lanes = if who.is_restrained { restrained } else { owner };
        let lane = if who.is_long {
            &lanes.long
        } else {
            &lanes.quick
        };
        let turn = lane.turns.clone().acquire_owned().await;
        let (room, cut) = (lane.room.clone(), cut.clone());
        let acted = tokio::spawn(async move {
            let _turn = turn;
            let results = acting.await?;
            let bytes = json(results).await.map_err(perhaps_carried_out)?;
            let permit = tokio::select! {
                biased;
                permit = room.entered(bytes.len()) => permit,
                () = host_ends => None,
            };
            Ok::<_, Refusal>(room.answer(bytes, permit, &cut))
        });
        acted.await.unwrap_or_else(|panic| {
            let message = format!("the host failed at this request: {panic}");
            let error = AppError::new(ErrorKind::Internal, message);
            Err(perhaps_carried_out(Refusal(error)))
        })
    }
}

/// The error of an action that may have been carried out nevertheless.
fn perhaps_carried_out(Refusal(error): Refusal) -> Refusal {
    let hint = "this is an error in Claudine; the request may have been carried out: look at \
                `claudine list` before repeating it";
    Refusal(error.hint(hint))
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
        built.await.unwrap_or_else(|panic| unread(&panic))
    }

    /// Like [`Self::built`], for answers that can be built again: while there is no room for an
    /// answer, neither the answer nor its turn is kept. So answers that need no room do not wait
    /// for those that do.
    async fn built_again<T: Serialize + Send + 'static>(
        &self,
        cut: &Cut,
        build: impl Fn() -> BoxFuture<'static, Result<Option<T>, AppError>> + Send + Sync,
    ) -> Result<Option<Response>, Refusal> {
        let mut reserved = None;
        loop {
            let turn = self.turns.clone().acquire_owned().await;
            let building = build();
            let built = tokio::spawn(async move {
                let _turn = turn;
                match building.await? {
                    Some(answer) => json(answer).await.map(Some),
                    None => Ok(None),
                }
            });
            let Some(bytes) = built.await.unwrap_or_else(|panic| unread(&panic))? else {
                return Ok(None);
            };
            // The answer may have grown since there was no room for it, but only by the output that
            // was written meanwhile.
            if reserved.is_some() || self.room.is_small(bytes.len()) {
                return Ok(Some(self.room.answer(bytes, reserved, cut)));
            }
            if let Some(permit) = self.room.entered_at_once(bytes.len()) {
                return Ok(Some(self.room.answer(bytes, Some(permit), cut)));
            }
            let length = bytes.len();
            drop(bytes);
            reserved = self.room.entered(length).await;
        }
    }
}

fn unread<T>(panic: &JoinError) -> Result<T, Refusal> {
    let message = format!("the host has failed to read the answer: {panic}");
    Err(AppError::new(ErrorKind::Internal, message).into())
}

/// Writes an answer. Writing a large one takes too long for a thread on which other requests wait.
async fn json<T: Serialize + Send + 'static>(answer: T) -> Result<Vec<u8>, Refusal> {
    let failed = |error: &dyn std::error::Error| {
        let message = format!("the answer cannot be written as JSON: {error}");
        Refusal(AppError::new(ErrorKind::Internal, message))
    };
    let written = aside::run(move || serde_json::to_vec(&answer)).await;
    let bytes = written.map_err(|error| failed(&error))?;
    bytes.map_err(|error| failed(&error))
}

/// The bytes of answers that are built and not yet sent.
struct Room {
    bytes: usize,
    /// A permit for each byte.
    free: Arc<Semaphore>,
    /// A permit for the one answer whose wait cuts clients off, so that no more clients are cut off
    /// than necessary, however many answers wait.
    cutting: Semaphore,
    unsent: Mutex<List>,
}

/// The unsent answers by their age, the oldest first, each with the time since which it is unsent.
/// Small answers are not among them.
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
            cutting: Semaphore::new(1),
            unsent: Mutex::default(),
        }
    }

    /// Writes an answer and waits for room for it.
    async fn built<T: Serialize + Send + 'static>(
        self: &Arc<Self>,
        cut: &Cut,
        answer: T,
    ) -> Result<Response, Refusal> {
        let bytes = json(answer).await?;
        let permit = self.entered(bytes.len()).await;
        Ok(self.answer(bytes, permit, cut))
    }

    fn is_small(&self, bytes: usize) -> bool {
        bytes <= SMALL_BYTES.min(self.bytes / SMALL_PART)
    }

    /// Number of permits for an answer. One that is larger than the whole room waits until the room
    /// is empty.
    fn permits(&self, bytes: usize) -> u32 {
        u32::try_from(bytes.min(self.bytes)).unwrap_or(u32::MAX)
    }

    fn entered_at_once(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let entered = self
            .free
            .clone()
            .try_acquire_many_owned(self.permits(bytes));
        entered.ok()
    }

    /// Waits for room for an answer. If there is none, cuts off the clients that have not read
    /// their answers in time, the longest waiting first. `None` for a small answer.
    async fn entered(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        if self.is_small(bytes) {
            return None;
        }
        let entered = self.free.clone().acquire_many_owned(self.permits(bytes));
        tokio::pin!(entered);
        loop {
            tokio::select! {
                biased;
                permit = &mut entered => break permit.ok(),
                () = self.cut_one_off() => {}
            }
        }
    }

    /// The answer, which takes its room until it is sent. An answer without a permit is small, or
    /// is sent while the host goes down.
    fn answer(
        self: &Arc<Self>,
        bytes: Vec<u8>,
        permit: Option<OwnedSemaphorePermit>,
        cut: &Cut,
    ) -> Response {
        let number = permit.as_ref().map(|_| {
            let mut unsent = lock(&self.unsent);
            unsent.last += 1;
            let number = unsent.last;
            let since = clock::monotonic();
            unsent.by_age.insert(number, (since, cut.clone()));
            number
        });
        let unsent = Bytes::from_owner(Unsent {
            bytes,
            number,
            room: self.clone(),
            _permit: permit,
        });
        ([(CONTENT_TYPE, "application/json")], unsent).into_response()
    }

    /// Cuts off the client whose answer is the oldest, if its time is over. Otherwise waits until
    /// it may be over.
    async fn cut_one_off(&self) {
        let _only_this = self.cutting.acquire().await;
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
    /// Its number in the list of the room, if it takes room.
    number: Option<u64>,
    room: Arc<Room>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl AsRef<[u8]> for Unsent {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Unsent {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            lock(&self.room.unsent).by_age.remove(&number);
        }
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
    #![allow(
        clippy::unwrap_used,
        clippy::panic,
        reason = "a test fails by panicking, and so does an action"
    )]
    use std::{
        future::{Ready, ready},
        sync::atomic::{AtomicUsize, Ordering},
        task::Context,
    };

    use futures_util::{
        FutureExt,
        future::{join_all, lazy},
    };

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

    #[tokio::test]
    async fn a_small_answer_does_not_wait_for_larger_ones_that_nobody_reads() {
        let pages = Pages::new(NEAR_PART * 1_000);
        let [unread, other] = [Cut::default(), Cut::default()];
        let large = |_: Reach| -> BoxFuture<'static, Result<Option<String>, AppError>> {
            Box::pin(text(900).map(|text| text.map(Some)))
        };
        let kept = pages.output(&unread, large).await.unwrap();
        let later = (0..=AT_ONCE).map(|_| {
            let (pages, other) = (&pages, &other);
            async move { drop(pages.output(other, large).await.unwrap()) }
        });
        let mut later = std::pin::pin!(join_all(later));
        let early = clock::within(Duration::from_millis(20), later.as_mut()).await;
        assert!(early.is_none(), "there was no room for these answers");
        let small = pages.output(&other, within(Reach::Near));
        let small = clock::within(Duration::from_secs(10), small).await;
        assert!(small.is_some_and(|answer| answer.is_ok()));
        drop(kept);
        later.await;
        assert_eq!(pages.near.room.free.available_permits(), 1_000);
        assert!(lock(&pages.near.room.unsent).by_age.is_empty());
    }

    /// An action that gives a text of this size, and notes that it was carried out.
    fn action(json_bytes: usize) -> (Arc<Notify>, BoxFuture<'static, Result<String, AppError>>) {
        let done = Arc::new(Notify::new());
        let note = done.clone();
        let acting = async move {
            note.notify_one();
            text(json_bytes).await
        };
        (done, Box::pin(acting))
    }

    const OWNER: Acting = Acting {
        is_restrained: false,
        is_long: false,
    };

    #[tokio::test]
    async fn an_action_is_carried_out_before_there_is_room_for_its_results() {
        let pages = Pages::new(ACTED_PART * 1_000);
        let [unread, other] = [Cut::default(), Cut::default()];
        let act = |cut: &Cut, who: Acting, bytes: usize| {
            let (done, acting) = action(bytes);
            let (pages, cut) = (pages.clone(), cut.clone());
            let never = std::future::pending();
            let answer = async move { pages.acted(&cut, who, never, acting).await };
            (done, Box::pin(answer))
        };
        let kept = act(&unread, OWNER, 900).1.await.unwrap();
        let (done, mut next) = act(&other, OWNER, 500);
        tokio::select! {
            _ = &mut next => panic!("there was no room for these results"),
            () = unread.told() => {}
        }
        done.notified().await;
        // Others have room of their own.
        for (is_restrained, is_long) in [(true, false), (false, true)] {
            let who = Acting {
                is_restrained,
                is_long,
            };
            drop(act(&other, who, 500).1.await.unwrap());
        }
        drop(kept);
        next.await.unwrap();
    }

    #[tokio::test]
    async fn results_of_an_action_are_sent_without_room_while_the_host_goes_down() {
        let pages = Pages::new(ACTED_PART * 1_000);
        let cut = Cut::default();
        let all = pages.acted[0].quick.room.free.acquire_many(1_000);
        let full = all.await.unwrap();
        let host_ends = std::future::ready(());
        let acted = pages.acted(&cut, OWNER, host_ends, action(900).1);
        let answer = clock::within(Duration::from_secs(10), acted).await;
        assert!(answer.is_some_and(|answer| answer.is_ok()));
        drop(full);
    }

    #[tokio::test]
    async fn an_action_that_panics_is_not_said_to_have_done_nothing() {
        let pages = Pages::default();
        let half_way = |_: &mut Context<'_>| -> Result<String, AppError> { panic!("half-way") };
        let acting = Box::pin(lazy(half_way));
        let never = std::future::pending();
        let acted = pages.acted(&Cut::default(), OWNER, never, acting).await;
        let hint = acted.unwrap_err().0.hint.unwrap();
        assert!(hint.contains("may have been carried out"), "{hint}");
    }
}
